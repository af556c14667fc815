// View 1: why this score. A slate, and for one candidate what its score is made of.

import { call, preview, userPath } from "../api.js";
import { Bar, Distribution, Diverging, Shares } from "../charts.js";
import { age, change, moment, percent, seconds, significant, words } from "../format.js";
import { Applied, BARS, Component, Empty, Facts, Failure, html, Id, Loading, Panel, Table } from "../parts.js";
import { requestBody } from "../session.js";
import { SlateForm } from "../slate_form.js";

export class Why extends Component {
  constructor(props) {
    super(props);
    this.state = {
      slate: null,
      error: null,
      busy: false,
      chosen: null,
      influence: null,
      influenceError: null,
      events: [],
    };
    this.rank = this.rank.bind(this);
    this.choose = this.choose.bind(this);
  }

  async rank() {
    this.setState({ busy: true, error: null });
    try {
      const body = requestBody();
      body.timestamp_ms ??= Date.now();
      const slate = await preview("rerank?explain=true", body);
      const events = slate.history_length
        ? await call("GET", `${userPath(body.user_id)}/sequence`).then(
            (s) => s.events,
            () => [],
          )
        : [];
      this.body = body;
      this.setState({ slate, events, busy: false });
      const kept = slate.items.some((item) => item.video_id === this.state.chosen);
      this.choose(kept ? this.state.chosen : slate.items[0].video_id);
    } catch (error) {
      this.setState({ error, busy: false, slate: null });
    }
  }

  async choose(chosen) {
    this.setState({ chosen, influence: null, influenceError: null });
    const candidate = this.body.candidates.find((c) => String(c.video_id) === chosen);
    try {
      const reply = await preview("influence", { ...this.body, candidates: [candidate] });
      if (this.state.chosen === chosen) this.setState({ influence: reply.items[0] });
    } catch (influenceError) {
      if (this.state.chosen === chosen) this.setState({ influenceError });
    }
  }

  render(_, { slate, error, busy, chosen, influence, influenceError, events }) {
    const item = slate?.items.find((i) => i.video_id === chosen);
    return html`
      <h1>Why this score</h1>
      <div class="columns three">
        <${SlateForm} onSubmit=${this.rank} busy=${busy} />
        <div class="stack">
          ${error && html`<${Failure} error=${error} retry=${this.rank} />`}
          ${
            !slate &&
            !error &&
            (busy
              ? html`<${Loading} what="the slate" />`
              : html`<${Empty}>Enter a user and candidates, or take the example. Nothing here is counted, sampled or stored.<//>`)
          }
          ${slate && html`<${SlatePanel} slate=${slate} chosen=${chosen} onChoose=${this.choose} />`}
        </div>
        <div class="stack">
          ${
            item &&
            html`<${WatchTime} item=${item} />
            <${Objectives} item=${item} items=${slate.items} />
            <${InfluencePanel} item=${item} influence=${influence} error=${influenceError} events=${events} now=${this.body.timestamp_ms} />`
          }
        </div>
      </div>`;
  }
}

const SlatePanel = ({ slate, chosen, onChoose }) => {
  const most = Math.max(...slate.items.map((i) => i.score));
  return html`<${Panel} title="Slate" note="Best first. Choose a video to see what its score is made of. Watch time: the point prediction. Expected watch time: the mean.">
    <${Facts} of=${[
      ["Version", html`<code>${slate.model_version}</code>`],
      ["Sequence", `${slate.history_length} exposures`],
      ["Computed in", `${significant(slate.took_ms, 2)} ms`],
    ]} />
    <${Applied} of=${slate.applied} />
    ${slate.degraded.length > 0 && html`<p class="notice bad"
      role="alert">Degraded: the slate was ranked without ${slate.degraded.join(", ")}. See Health.</p>`}
    ${slate.warnings.map((w) => html`<p class="notice">${w}</p>`)}
    <${Table} label="Slate" head=${[" #", "Video", " Score", BARS, " Watch time", " Expected watch time"]}>
      ${slate.items.map(
        (item) => html`<tr class=${item.video_id === chosen ? "chosen" : ""} key=${item.video_id}>
        <td class="number">${item.rank}</td>
        <th scope="row"><button type="button" class="link" aria-pressed=${item.video_id === chosen}
          onClick=${() => onChoose(item.video_id)}><${Id} of=${item.video_id} /></button></th>
        <td class="number">${significant(item.score)}</td>
        <td class="wide-bar"><${Bar} value=${item.score} most=${most} /></td>
        <td class="number">${seconds(item.watch_time_s)}</td>
        <td class="number">${seconds(item.expected_watch_time_s)}</td>
      </tr>`,
      )}
    <//>
  <//>`;
};

const WatchTime = ({ item }) => {
  const { anchors, watch_time_s: quantiles, states } = item.explanation;
  const duration = item.watch_ratio > 0 ? item.watch_time_s / item.watch_ratio : null;
  const partial = states && Math.max(0, 1 - states.skip - states.complete - states.replay);
  return html`<${Panel} title=${html`Watch time of <${Id} of=${item.video_id} />`}
      note=${html`Rank ${item.rank}, score ${significant(item.score)}. Predicted watch time <b>${seconds(item.watch_time_s)}</b>, median ${seconds(quantiles.p50)}, mean (expected) <b>${seconds(item.expected_watch_time_s)}</b>, of a video of ${seconds(duration)}.`}>
    ${
      duration &&
      html`<${Distribution} anchors=${anchors.map((a) => ({ seconds: a.watch_ratio * duration, weight: a.weight }))}
      p10=${quantiles.p10} p50=${quantiles.p50} p90=${quantiles.p90} predicted=${item.watch_time_s} mean=${item.expected_watch_time_s} duration=${duration} />`
    }
    ${
      states &&
      html`<${Shares} label="How it may end" of=${[
        ["skip (under 3 s)", states.skip],
        ["partial", partial],
        ["complete", states.complete],
        ["replay", states.replay],
      ]} />`
    }
  <//>`;
};

/** Objectives that are no probability: what is shown of an item instead, and how. */
const UNITS = {
  watch_time: [(i) => i.watch_time_s, seconds],
  expected_watch_time: [(i) => i.expected_watch_time_s, seconds],
  interest: [(i) => i.objectives.interest, significant],
};

/** Each objective's value beside the slate's mean, and by what factor it moves the score against a candidate
 * of the slate's (geometric) mean. */
const Objectives = ({ item, items }) => {
  const mean = (of) => items.reduce((sum, i) => sum + of(i), 0) / items.length;
  const rows = Object.keys(item.objectives).map((name) => {
    const part = item.explanation.parts[name] ?? 0;
    const [of, format] = UNITS[name] ?? [(i) => i.objectives[name], percent];
    const effect = Math.exp(part - mean((i) => i.explanation.parts[name] ?? 0)) - 1;
    return { name, value: format(of(item)), average: format(mean(of)), effect, weighted: items.some((i) => i.explanation.parts[name]) };
  });
  const most = Math.max(0.01, ...rows.map((r) => Math.abs(Math.log1p(r.effect))));
  return html`<${Panel} title="Objectives against the slate's mean"
      note="Effect: what the objective does to the score, against a candidate with the slate's typical value. Objectives of weight 0 have none. Interest is a label from 0 to 1.">
    <${Table} label="Objectives" head=${["Objective", " Value", " Slate's mean", " Effect on the score", BARS]}>
      ${rows.map(
        (r) => html`<tr class=${r.weighted ? "" : "faint"} key=${r.name}>
        <th scope="row">${words(r.name)}</th>
        <td class="number">${r.value}</td>
        <td class="number">${r.average}</td>
        <td class="number">${r.weighted ? change(r.effect) : "weight 0"}</td>
        <td class="wide-bar">${r.weighted && html`<${Diverging} value=${Math.log1p(r.effect)} most=${most} />`}</td>
      </tr>`,
      )}
    <//>
  <//>`;
};

const FLAGS = ["like", "follow", "comment", "forward", "profile_enter", "hate"];

/** What each exposure of the sequence adds to the score, by leaving it out. */
const InfluencePanel = ({ item, influence, error, events, now }) => {
  let content;
  if (error) content = html`<${Failure} error=${error} />`;
  else if (!influence) content = html`<${Loading} what="what the score rests on" />`;
  else if (!influence.exposures.length)
    content = html`<${Empty}>The user has no sequence: the score rests on the video and the profile alone.<//>`;
  else {
    const known = new Map(events.map((e) => [`${e.video_id} ${e.timestamp_ms}`, e]));
    const rows = influence.exposures.toReversed().map((e) => ({
      ...e,
      share: e.score / (influence.score - e.score || 1),
      event: known.get(`${e.video_id} ${e.timestamp_ms}`),
    }));
    const most = Math.max(0.001, ...rows.map((r) => Math.abs(r.share)));
    content = html`<${Table} label="Influence" head=${["Exposure", "What happened", " Effect on the score", BARS, " Effect on watch time"]}>
      ${rows.map(
        (r) => html`<tr>
        <th scope="row"><${Id} of=${r.video_id} length=${14} /> <small
          title=${moment(r.timestamp_ms)}>${age(r.timestamp_ms, now)} ago</small></th>
        <td class="wraps">${r.event ? `${seconds(r.event.watch_time_s)} of ${seconds(r.event.duration_s)}` : ""}
          ${FLAGS.filter((f) => r.event?.[f]).map((f) => html` <span class=${`flag ${f}`}>${words(f)}</span>`)}</td>
        <td class="number">${change(r.share)}</td>
        <td class="wide-bar"><${Diverging} value=${r.share} most=${most} /></td>
        <td class="number">${r.watch_time_s > 0 ? "+" : ""}${seconds(r.watch_time_s)}</td>
      </tr>`,
      )}
    <//>`;
  }
  return html`<${Panel} title=${html`What the score of <${Id} of=${item.video_id} /> rests on`}
    note="Newest first. Each exposure of the sequence is left out once and the video ranked again; the effect is what changes.">${content}<//>`;
};
