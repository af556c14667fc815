// What the views share: the user and the candidates looked at, as typed. Kept for the browser's session.

const NAME = "reelrank.console";

const EMPTY = { user: "", candidates: "", tab: "", at: "" };

export const session = { ...EMPTY, ...JSON.parse(sessionStorage.getItem(NAME) ?? "{}") };

/** Change what is looked at. */
export function look(change) {
  Object.assign(session, change);
  sessionStorage.setItem(NAME, JSON.stringify(session));
}

/** What was typed or pasted as candidates: JSON (a body of /rerank, or an array), or lines of
 * `video duration author tag`, separated by commas, tabs or spaces. Raises Error with what to correct. */
export function candidatesIn(text) {
  const trimmed = text.trim();
  if (!trimmed) return [];
  if (/^[[{]/.test(trimmed)) {
    let value;
    try {
      value = JSON.parse(trimmed);
    } catch (error) {
      throw new Error(`The candidates are not JSON: ${error.message}.`);
    }
    const list = Array.isArray(value) ? value : value.candidates;
    if (!Array.isArray(list)) throw new Error("The JSON must be an array of candidates, or a body of POST /rerank.");
    return list.map((c) => (typeof c === "object" && c !== null ? c : { video_id: String(c) }));
  }
  return trimmed
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean)
    .map((line, index) => {
      const [video_id, duration, author_id, tag] = line.split(/[,\t]\s*|\s+/);
      const candidate = { video_id };
      if (duration) {
        candidate.duration_s = Number(duration);
        if (!(candidate.duration_s > 0))
          throw new Error(`Line ${index + 1}: the duration must be seconds above 0, found “${duration.slice(0, 20)}”.`);
      }
      if (author_id) candidate.author_id = author_id;
      if (tag) candidate.tag = tag;
      return candidate;
    });
}

/** Refuse what is no moment in Unix milliseconds, which would be taken for none. */
export function checkTime(text) {
  if (!/^\d+$/.test(text)) throw new Error(`The time must be whole Unix milliseconds, found “${text.slice(0, 20)}”.`);
}

/** Candidates as lines. */
export const linesOf = (candidates) =>
  candidates
    .map((c) =>
      [c.video_id, c.duration_s, c.author_id, c.tag]
        .map((x) => x ?? "")
        .join(" ")
        .trimEnd(),
    )
    .join("\n");

/** What else a body of /rerank in place of candidates says: its rules, weights and so on. */
export function otherMembers(text) {
  try {
    const { candidates, request_id, ...others } = JSON.parse(text);
    return candidates ? others : {};
  } catch {
    return {};
  }
}

/** The body of a request for the slate that is looked at. */
export function requestBody(weights) {
  const { timestamp_ms, tab, ...others } = otherMembers(session.candidates); // they are in the form
  const body = {
    ...others,
    user_id: session.user,
    candidates: candidatesIn(session.candidates),
  };
  if (session.at) body.timestamp_ms = Number(session.at);
  if (session.tab) body.tab = session.tab;
  if (weights) body.weights = weights;
  return body;
}
