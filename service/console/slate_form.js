// The form that says whose slate is looked at, and of which candidates.

import { call, userPath } from "./api.js";
import { age, short } from "./format.js";
import { Component, Failure, html } from "./parts.js";
import { candidatesIn, checkTime, linesOf, look, otherMembers, session } from "./session.js";

// Videos, authors and tags that the released bundle knows; of other bundles they may be new ones.
const VIDEOS = [
  "2303",
  "2630",
  "2962",
  "1868",
  "6921",
  "3018",
  "5239",
  "4113",
  "1725",
  "3654",
  "2383",
  "453",
  "4644",
  "6975",
  "2399",
  "4640",
];
const DURATIONS_S = [8, 14, 21, 35, 12, 62, 18, 95, 27, 44, 10, 150, 31, 23, 75, 16];
const AUTHORS = ["5345439", "2420749", "1306", "7941871", "7515823", "6598904"];
const TAGS = ["39", "12", "9", "3", "6"];
const EXAMPLE = VIDEOS.map((video_id, i) => ({
  video_id,
  duration_s: DURATIONS_S[i],
  author_id: AUTHORS[i % AUTHORS.length],
  tag: TAGS[i % TAGS.length],
}));

export class SlateForm extends Component {
  constructor(props) {
    super(props);
    this.state = { error: null, count: countOf(session.candidates), logged: null };
    this.submit = (event) => {
      event?.preventDefault();
      try {
        if (!session.user) throw new Error("Enter a user id. It may be a new one.");
        if (!candidatesIn(session.candidates).length)
          throw new Error("Enter at least one candidate, or take the example.");
        if (session.at) checkTime(session.at);
      } catch (error) {
        this.setState({ error });
        return;
      }
      this.setState({ error: null });
      this.props.onSubmit();
    };
    this.fromLog = async () => {
      try {
        this.setState({ logged: await call("GET", "v1/slates"), error: null });
      } catch (error) {
        this.setState({ error });
      }
    };
    this.fromSequence = async () => {
      try {
        if (!session.user) throw new Error("Enter a user id first.");
        const { events } = await call("GET", `${userPath(session.user)}/sequence`);
        const seen = new Map(events.toReversed().map((e) => [e.video_id, e]));
        this.fill(linesOf([...seen.values()].slice(0, 40)));
      } catch (error) {
        this.setState({ error });
      }
    };
  }

  componentDidMount() {
    if (session.user && session.candidates) this.submit();
  }

  /** Take a logged slate: its moment, weights and rules, too. */
  take({ user_id: user, timestamp_ms: at, tab, weights, rules, video_id: candidates }) {
    const body = rules ? { weights, rules, candidates } : { weights, candidates };
    this.fill(JSON.stringify(body, null, 1), { user, at: String(at), tab: tab ?? "" });
  }

  /** Take what was typed or pasted; a whole body of a request says for whom and when, too. */
  type(text) {
    const { user_id: user, timestamp_ms: at, tab } = otherMembers(text);
    const given = Object.entries({ user, at, tab }).filter(([, value]) => value != null);
    this.fill(text, Object.fromEntries(given.map(([name, value]) => [name, String(value)])));
  }

  fill(candidates, more = {}) {
    look({ candidates, ...more });
    this.setState({ error: null, count: countOf(candidates) });
  }

  render({ busy }, { error, count, logged }) {
    const input = (name, label, hint, type = "text") => html`<label class="field"><span>${label}</span>
      <input type=${type} name=${name} value=${session[name]} placeholder=${hint} autocomplete="off" spellcheck="false" dir="auto"
        onInput=${(e) => look({ [name]: e.currentTarget.value.trim() })} /></label>`;
    return html`<form class="panel form" onSubmit=${this.submit}>
      <header><h2>Request</h2></header>
      ${input("user", "User id", "e.g. ann")}
      <label class="field"><span>Candidates${count ? ` (${count})` : ""}</span>
        <textarea name="candidates" rows="9" spellcheck="false" dir="auto" value=${session.candidates}
          placeholder=${"one a line: video duration author tag\nor JSON: a body of POST /rerank"}
          onInput=${(e) => this.type(e.currentTarget.value)} /></label>
      <details><summary>Time and tab</summary>
        ${input("at", "Time, Unix ms", "now")}${input("tab", "Tab", "the bundle's")}</details>
      <p class="buttons"><button type="submit" class="primary" disabled=${busy}>Rank</button>
        <button type="button" onClick=${() => this.fill(linesOf(EXAMPLE), { user: session.user || "ann" })}>Example</button>
        <button type="button" onClick=${this.fromSequence}>From the sequence</button>
        <button type="button" onClick=${this.fromLog}>From the log</button></p>
      ${logged && html`<${Logged} slates=${logged} onTake=${(slate) => this.take(slate)} />`}
      ${error && html`<${Failure} error=${error} />`}
    </form>`;
  }
}

/** Slates of the served log to choose from. */
const Logged = ({ slates, onTake }) =>
  slates.length
    ? html`<label class="field"><span>Logged slate</span><select name="logged" onChange=${(e) => onTake(slates[e.currentTarget.value])}>
        <option disabled selected>choose one of ${slates.length}</option>
        ${slates.map((s, i) => html`<option value=${i}>${short(s.user_id, 20)}, ${s.video_id.length} videos, ${age(s.timestamp_ms)} ago</option>`)}
      </select></label>
      <p class="note">The log has ids. Durations, authors and tags come from the catalogue; those that a request gave are not logged.</p>`
    : html`<p class="note" role="status">No slate is logged. Set REELRANK_LOG_DIR to log what is ranked.</p>`;

function countOf(text) {
  try {
    return candidatesIn(text).length;
  } catch {
    return 0;
  }
}
