// View 4: what the service holds on a user; an event sent from here, and what it changes.

import { call, preview, userPath } from "../api.js";
import { age, count, moment, percent, seconds, significant, words } from "../format.js";
import { marksOf } from "../marks.js";
import { Component, Empty, Facts, Failure, html, Id, Loading, Panel, Table } from "../parts.js";
import { look, session } from "../session.js";
import { Forget } from "./forget.js";
import { SendEvent } from "./send_event.js";
import { SlateNow } from "./slate_now.js";
import { FLAGS } from "./surface.js";

const SHOWN = 100;
const LOGGED = 1000;

export class User extends Component {
  constructor(props) {
    super(props);
    this.state = {
      user: session.user,
      held: null,
      error: null,
      labels: {},
      chosen: [],
      makers: [],
      busy: false,
      marks: new Map(),
    };
    this.read = this.read.bind(this);
  }

  componentDidMount() {
    this.start();
  }

  async start() {
    const known = session.user; // now: another view may be looking at a user once the models are there
    try {
      const { models } = await call("GET", "v1/models");
      const makers = models.find((m) => m.active).labels;
      this.setState({ makers, chosen: makers.slice(0, 1) });
    } catch (error) {
      this.setState({ error });
      return;
    }
    if (known) this.read();
  }

  async read() {
    const user = this.state.user;
    look({ user });
    this.setState({ busy: true, error: null });
    try {
      const held = await call("GET", `${userPath(user)}/sequence`);
      this.setState({ held, busy: false });
      this.label(held.events, this.state.chosen);
      this.mark(user);
    } catch (error) {
      this.setState({
        error: error.status === 404 ? null : error,
        held: error.status === 404 ? { user_id: user, events: [], profile: {}, unknown: true } : null,
        busy: false,
      });
    }
  }

  async mark(user) {
    try {
      const lines = await call("GET", `v1/events?user_id=${encodeURIComponent(user)}&limit=${LOGGED}`);
      this.setState({ marks: marksOf(lines) });
    } catch (error) {
      this.setState({ error });
    }
  }

  async label(events, chosen) {
    this.setState({ chosen });
    if (!events.length || !chosen.length) return;
    try {
      const newest = events.slice(-SHOWN);
      const reply = await preview(`label?labels=${encodeURIComponent(chosen.join(","))}`, { events: newest });
      this.setState({ labels: Object.fromEntries(reply.labels.map((l) => [l.event_id, l])) });
    } catch (error) {
      this.setState({ error });
    }
  }

  render({ rights }, { user, held, error, labels, chosen, makers, busy, marks }) {
    return html`<h1>User</h1>
      <div class="columns three user-view">
        <div class="stack">
          <form class="panel" onSubmit=${(e) => {
            e.preventDefault();
            this.read();
          }}>
            <header><h2>User</h2></header>
            <label class="field"><span>User id</span><input name="user" value=${user} dir="auto" autocomplete="off"
              spellcheck="false" onInput=${(e) => this.setState({ user: e.currentTarget.value.trim() })} /></label>
            <p class="buttons"><button class="primary" type="submit" disabled=${!user || busy}>Show</button></p>
          </form>
          ${
            held &&
            html`<${SendEvent} rights=${rights} user=${held.user_id} onSent=${this.read} />`
          }
        </div>
        <div class="stack">
          ${error && html`<${Failure} error=${error} retry=${held ? undefined : this.read} />`}
          ${!held && !error && (busy ? html`<${Loading}
            what="the sequence" />` : html`<${Empty}>Enter a user id to see what the service holds.<//>`)}
          ${held && html`<${SequencePanel} held=${held} labels=${labels} marks=${marks} chosen=${chosen} makers=${makers}
            onChosen=${(names) => this.label(held.events, names)} />`}
        </div>
        <div class="stack">
          ${
            held &&
            html`<${SlateNow} key=${held.user_id} events=${held.events} />
            <${Profile} held=${held} />
            <${Forget} rights=${rights} user=${held.user_id} onForgotten=${this.read} />`
          }
        </div>
      </div>`;
  }
}

const SequencePanel = ({ held, labels, marks, chosen, makers, onChosen }) => {
  const newest = held.events.slice(-SHOWN).toReversed();
  const toggle = (name) => makers.filter((m) => (m === name) !== chosen.includes(m));
  return html`<${Panel} title=${html`Sequence of <${Id} of=${held.user_id} />`}
    note="Newest first. Marks are of the served log (REELRANK_LOG_DIR): an event that was sent again is a duplicate, one with more feedback was merged into its exposure, a late one came after a newer one.">
    <${Facts} of=${[
      ["Exposures", count(held.events.length)],
      ["Older, without events", held.history ? count(held.history.length) : null],
    ]} />
    <details><summary>Labels of: ${chosen.join(", ") || "none"}</summary><fieldset><legend>Label makers</legend>${makers.map(
      (m) => html`<label class="check"><input type="checkbox" name=${`maker-${m}`} checked=${chosen.includes(m)}
        onChange=${() => onChosen(toggle(m))} />${m}</label>`,
    )}</fieldset></details>
    ${held.unknown && html`<${Empty}>The service holds nothing on this user. Send an event to begin.<//>`}
    ${
      newest.length > 0 &&
      html`<${Table} label="Sequence" head=${["When", "Video", "Author, tag", " Watched", "Feedback, marks", ...chosen.flatMap((m) => [` ${m}`, " Percentile"])]}>
      ${newest.map(
        (e) => html`<tr key=${e.event_id}>
        <td title=${moment(e.timestamp_ms)}>${age(e.timestamp_ms)} ago</td>
        <th scope="row"><${Id} of=${e.video_id} length=${16} /></th>
        <td>${e.author_id ? html`<${Id} of=${e.author_id} length=${12} />` : "–"}${e.tag ? html`, <${Id} of=${e.tag}
          length=${12} />` : ""}</td>
        <td class="number">${seconds(e.watch_time_s)} of ${seconds(e.duration_s)}</td>
        <td>${FLAGS.filter((f) => e[f]).map((f) => html`<span class=${`flag ${f}`}>${words(f)}</span> `)}${marksIn(marks.get(e.event_id)).map((mark) => html`<span class="flag late">${mark}</span> `)}</td>
        ${chosen.map(
          (m) => html`<td class="number">${labels[e.event_id]?.labels[m]?.toFixed(3) ?? "–"}</td>
        <td class="number">${percent(labels[e.event_id]?.percentiles?.[m])}</td>`,
        )}
      </tr>`,
      )}
    <//>`
    }
  <//>`;
};

/** Marks of one event, in words. */
const marksIn = ({ merged, duplicate, late_ms } = {}) => {
  const times = (word, n) => (n > 1 ? `${word} × ${n}` : word);
  return [
    merged && times("merged", merged),
    duplicate && times("duplicate", duplicate),
    late_ms && `${age(0, late_ms)} late`,
  ].filter(Boolean);
};

const Profile = ({ held }) => {
  const features = Object.entries(held.profile);
  return html`<${Panel} title="Profile">${
    features.length
      ? html`<${Facts} of=${features.map(([name, value]) => [words(name), typeof value === "number" ? significant(value, 6) : html`<${Id} of=${value} />`])} />`
      : html`<p class="note">No profile features. PUT /users gives them.</p>`
  }<//>`;
};
