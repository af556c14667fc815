// Calls of this service. The key is kept in session storage only.

const BASE = new URL("../", import.meta.url);
const KEY = "reelrank.key";

/** A call that was not answered with 2xx, or not at all: what is wrong and what to do. */
export class CallFailed extends Error {
  constructor(status, detail, errors = [], rejected = []) {
    super(detail);
    this.status = status;
    this.errors = errors;
    this.rejected = rejected;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** Absolute address of a path of this service, whatever prefix it lies behind. */
export const address = (path) => new URL(path, BASE).href;

async function send(method, path, body, signal) {
  const headers = {};
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  try {
    return await fetch(address(path), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
    });
  } catch (error) {
    const what =
      error.name === "TimeoutError" ? "The service takes too long to answer." : "The service does not answer.";
    throw new CallFailed(0, `${what} Check that it is running; this page tries again by itself.`);
  }
}

async function refuse(response) {
  const problem = await response.json().catch(() => ({}));
  let detail = problem.detail ?? `${response.status} ${response.statusText}`;
  if (response.status === 401) detail += " Enter an API key (top right).";
  if (response.status === 403) detail += " Enter a key that has it (top right).";
  throw new CallFailed(response.status, detail, problem.errors, problem.rejected);
}

/** The reply of a call, decoded; raises CallFailed. */
export async function call(method, path, body, signal) {
  const response = await send(method, path, body, signal);
  if (!response.ok) await refuse(response);
  return response.json();
}

/** The reply of GET, as text. */
export async function text(path) {
  const response = await send("GET", path);
  if (!response.ok) await refuse(response);
  return response.text();
}

/** Calls again and again, each time so long after the answer. A page in the background asks for nothing. */
export class Poll {
  constructor(ask, every_ms) {
    this.ask = ask;
    this.every_ms = every_ms;
    this.next = this.next.bind(this);
    document.addEventListener("visibilitychange", this.next);
    this.next();
  }

  async next() {
    clearTimeout(this.timer);
    if (document.hidden || this.asking) return;
    this.asking = true;
    try {
      await this.ask();
    } finally {
      this.asking = false;
      if (!this.ended) this.timer = setTimeout(this.next, this.every_ms);
    }
  }

  end() {
    this.ended = true;
    clearTimeout(this.timer);
    document.removeEventListener("visibilitychange", this.next);
  }
}

// Previews are limited to a few at a time: one after the other never meets that limit.
let last = Promise.resolve();

/** The reply of a preview, in turn with the others of this page. Tries again once after a refusal. */
export function preview(path, body, version) {
  const query = version ? `${path.includes("?") ? "&" : "?"}version=${encodeURIComponent(version)}` : "";
  const ask = () => call("POST", `v1/preview/${path}${query}`, body);
  const answer = last.then(async () => {
    try {
      return await ask();
    } catch (error) {
      if (error.status !== 429) throw error;
      await new Promise((resume) => setTimeout(resume, 1000));
      return ask();
    }
  });
  last = answer.catch(() => {});
  return answer;
}

/** Path of a user, whose id may hold any character. */
export const userPath = (id) => `users/${encodeURIComponent(id)}`;
