// View 4: what the service holds on a user; an event sent from here, and what it changes.

import { call, preview, userPath } from "../api.js";
import { age, count, moment, percent, seconds, signed, significant, words } from "../format.js";
import { Choice, Component, Empty, Facts, Failure, html, Id, Loading, Panel, Table } from "../parts.js";
import { look, requestBody, session } from "../session.js";
import { Forget } from "./forget.js";
import { FLAGS } from "./surface.js";

const SHOWN = 100;

export class User extends Component {
  constructor(props) {
    super(props);
    this.state = { user: session.user, held: null, error: null, labels: {}, maker: "", makers: [], busy: false, sent: null, marks: {} };
    this.read = this.read.bind(this);
  }

  componentDidMount() {
    this.start();
  }

  async start() {
    try {
      const { models } = await call("GET", "v1/models");
      const makers = models.find((m) => m.active).labels;
      this.setState({ makers, maker: makers[0] });
    } catch (error) {
      this.setState({ error });
      return;
    }
    if (session.user) this.read();
  }

  async read() {
    const user = this.state.user;
    look({ user });
    this.setState({ busy: true, error: null });
    try {
      const held = await call("GET", `${userPath(user)}/sequence`);
      this.setState({ held, busy: false });
      this.label(held.events, this.state.maker);
    } catch (error) {
      this.setState({ error: error.status === 404 ? null : error, held: error.status === 404 ? { user_id: user, events: [], profile: {}, unknown: true } : null, busy: false });
    }
  }

  async label(events, maker) {
    this.setState({ maker });
    if (!events.length) return;
    try {
      const newest = events.slice(-SHOWN);
      const reply = await preview(`label?labels=${encodeURIComponent(maker)}`, { events: newest });
      this.setState({ labels: Object.fromEntries(reply.labels.map((l) => [l.event_id, l])) });
    } catch (error) {
      this.setState({ error });
    }
  }

  render({ rights }, { user, held, error, labels, maker, makers, busy, marks }) {
    const marked = (id, mark) => this.setState({ marks: { ...this.state.marks, [id]: mark } });
    return html`<h1>User</h1>
      <div class="columns three user-view">
        <div class="stack">
          <form class="panel" onSubmit=${(e) => { e.preventDefault(); this.read(); }}>
            <header><h2>User</h2></header>
            <label class="field"><span>User id</span><input name="user" value=${user} dir="auto" autocomplete="off" spellcheck="false" onInput=${(e) => this.setState({ user: e.currentTarget.value.trim() })} /></label>
            <p class="buttons"><button class="primary" type="submit" disabled=${!user || busy}>Show</button></p>
          </form>
          ${held && html`<${SendEvent} rights=${rights} user=${held.user_id} onSent=${(id, mark) => { marked(id, mark); this.read(); }} />`}
        </div>
        <div class="stack">
          ${error && html`<${Failure} error=${error} retry=${held ? undefined : this.read} />`}
          ${!held && !error && (busy ? html`<${Loading} what="the sequence" />` : html`<${Empty}>Enter a user id to see what the service holds.<//>`)}
          ${held && html`<${SequencePanel} held=${held} labels=${labels} marks=${marks} maker=${maker} makers=${makers} onMaker=${(m) => this.label(held.events, m)} />`}
        </div>
        <div class="stack">
          ${held && html`<${SlateNow} key=${held.user_id} events=${held.events} />
            <${Profile} held=${held} />
            <${Forget} rights=${rights} user=${held.user_id} onForgotten=${this.read} />`}
        </div>
      </div>`;
  }
}

const SequencePanel = ({ held, labels, marks, maker, makers, onMaker }) => {
  const newest = held.events.slice(-SHOWN).toReversed();
  return html`<${Panel} title=${html`Sequence of <${Id} of=${held.user_id} />`} note="Newest first. An event sent again is a duplicate; one with more feedback merges into its exposure. Marks are of this page's events."
    tools=${html`<${Choice} label="Label of" value=${maker} options=${makers} onChange=${onMaker} />`}>
    <${Facts} of=${[["Exposures", count(held.events.length)], ["Older, without events", held.history ? count(held.history.length) : null]]} />
    ${held.unknown && html`<${Empty}>The service holds nothing on this user. Send an event to begin.<//>`}
    ${newest.length > 0 && html`<${Table} label="Sequence" head=${["When", "Video", "Author, tag", " Watched", "Feedback", ` ${maker}`, " Percentile"]}>
      ${newest.map((e) => html`<tr key=${e.event_id}>
        <td title=${moment(e.timestamp_ms)}>${age(e.timestamp_ms)} ago</td>
        <th scope="row"><${Id} of=${e.video_id} length=${16} /></th>
        <td>${e.author_id ? html`<${Id} of=${e.author_id} length=${12} />` : "–"}${e.tag ? html`, <${Id} of=${e.tag} length=${12} />` : ""}</td>
        <td class="number">${seconds(e.watch_time_s)} of ${seconds(e.duration_s)}</td>
        <td>${FLAGS.filter((f) => e[f]).map((f) => html`<span class=${`flag ${f}`}>${words(f)}</span> `)}${marks[e.event_id] && html`<span class="flag late">${marks[e.event_id]}</span>`}</td>
        <td class="number">${labels[e.event_id]?.label.toFixed(3) ?? "–"}</td>
        <td class="number">${percent(labels[e.event_id]?.percentile)}</td>
      </tr>`)}
    <//>`}
  <//>`;
};

const Profile = ({ held }) => {
  const features = Object.entries(held.profile);
  return html`<${Panel} title="Profile">${features.length
    ? html`<${Facts} of=${features.map(([name, value]) => [words(name), typeof value === "number" ? significant(value, 6) : html`<${Id} of=${value} />`])} />`
    : html`<p class="note">No profile features. PUT /users gives them.</p>`}<//>`;
};

class SendEvent extends Component {
  constructor(props) {
    super(props);
    this.state = { error: null, reply: null };
    this.send = this.send.bind(this);
  }

  async send(submit) {
    submit.preventDefault();
    const form = new FormData(submit.currentTarget);
    const event = { event_id: form.get("event_id") || `console-${crypto.randomUUID()}`, user_id: this.props.user, video_id: form.get("video_id"),
      timestamp_ms: Number(form.get("timestamp_ms")) || Date.now(), watch_time_s: Number(form.get("watch_time_s")) };
    for (const name of ["author_id", "tag"]) if (form.get(name)) event[name] = form.get(name);
    if (form.get("duration_s")) event.duration_s = Number(form.get("duration_s"));
    for (const flag of FLAGS) if (form.get(flag)) event[flag] = true;
    try {
      const reply = await call("POST", "label", { events: [event] });
      this.setState({ reply, error: null });
      const late = reply.rejected.some((r) => r.code === "late");
      this.props.onSent(event.event_id, late ? "late" : reply.duplicates ? "duplicate" : reply.merged ? "merged" : "new");
    } catch (error) {
      const rejected = error.rejected?.[0];
      this.setState({ error: rejected ? Object.assign(error, { message: rejected.detail }) : error, reply: null });
    }
  }

  render({ rights }, { error, reply }) {
    const input = (name, label, more = {}) => html`<label class="field"><span>${label}</span><input name=${name} autocomplete="off" dir="auto" ...${more} /></label>`;
    const label = reply?.labels[0];
    return html`<form class="panel" onSubmit=${this.send}>
      <header><h2>Send an event</h2></header>
      <p class="note">A real event: it is stored and changes the user's next slate.</p>
      ${input("video_id", "Video id", { required: true })}
      <div class="pair">${input("watch_time_s", "Watch time, s", { type: "number", step: "any", min: 0, required: true, value: "1.0" })}
        ${input("duration_s", "Duration, s", { type: "number", step: "any", min: 0, value: "24" })}</div>
      <div class="pair">${input("author_id", "Author id")}${input("tag", "Tag")}</div>
      <fieldset><legend>Feedback</legend>${FLAGS.map((f) => html`<label class="check"><input type="checkbox" name=${f} />${words(f)}</label>`)}</fieldset>
      <details><summary>Id and moment</summary>${input("event_id", "Event id", { placeholder: "a new one" })}${input("timestamp_ms", "Time, Unix ms", { placeholder: "now", inputmode: "numeric" })}</details>
      <p class="buttons"><${GuardedSubmit} rights=${rights} /></p>
      ${error && html`<${Failure} error=${error} />`}
      ${label && html`<p class="notice" role="status">${reply.duplicates ? "A duplicate: nothing changed." : reply.merged ? "Merged into its exposure." : "Stored."}${" "}
        Label <b>${label.label.toFixed(3)}</b>, above ${percent(label.percentile)} of the training log.</p>`}
    </form>`;
  }
}

const GuardedSubmit = ({ rights }) => html`<button class="primary" type="submit" disabled=${!rights.includes("label")}
  title=${rights.includes("label") ? undefined : "Needs a key with the right “label”."}>Send</button>`;

/** The slate of the candidates that were looked at last, now and before the last event. */
class SlateNow extends Component {
  constructor(props) {
    super(props);
    this.state = { now: null, before: null, error: null };
  }

  componentDidMount() {
    this.rank();
  }

  componentDidUpdate(last) {
    if (last.events !== this.props.events) this.rank();
  }

  async rank() {
    if (!session.candidates) return;
    try {
      const now = await preview("rerank", requestBody());
      this.setState({ before: this.state.now, now, error: null });
    } catch (error) {
      this.setState({ error });
    }
  }

  render(_, { now, before, error }) {
    if (error) return html`<${Failure} error=${error} />`;
    if (!now) return html`<${Empty}>The slate of the candidates that you rank under “Why this score” is shown here, before and after an event.<//>`;
    const old = new Map(before?.items.map((i) => [i.video_id, i]));
    return html`<${Panel} title="Slate" note=${before ? "Now, and how it was before the last event." : "Now. After an event it is compared with this one."}>
      <${Table} label="Slate" head=${[" #", "Video", " Score", " Change", " Predicted"]}>
        ${now.items.map((item) => {
          const was = old.get(item.video_id), move = was ? was.rank - item.rank : 0;
          return html`<tr key=${item.video_id}><td class="number">${item.rank}${move ? html` <span class=${move > 0 ? "key-rises" : "key-falls"}>${move > 0 ? "▲" : "▼"}${Math.abs(move)}</span>` : ""}</td>
            <th scope="row"><${Id} of=${item.video_id} length=${16} /></th>
            <td class="number">${significant(item.score)}</td>
            <td class="number">${was ? `${signed(100 * (item.score / was.score - 1), 1)} %` : "–"}</td>
            <td class="number">${seconds(item.watch_time_s)}</td></tr>`;
        })}
      <//><//>`;
  }
}
