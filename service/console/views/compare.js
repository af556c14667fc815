// View 2: the slate before and after. Weights, rules and the version change on one side; every order shown is
// the service's answer.

import { address, call, key, preview } from "../api.js";
import { Slopes } from "../charts.js";
import { count, seconds, signed, significant, words } from "../format.js";
import { kendallTau, mixOf } from "../mix.js";
import { Applied, Choice, Component, Empty, Facts, Failure, html, Loader, Panel, Table } from "../parts.js";
import { requestBody, session } from "../session.js";
import { SlateForm } from "../slate_form.js";

const SETTLE_MS = 150;
const K = 10;
const SHARE = 1 / 3;

/** Rules of a request that are on or off here, each with the value it gets when it is switched on. */
const RULES = {
  max_per_author: [2, "At most 2 of one author"],
  max_per_tag: [3, "At most 3 of one tag"],
  author_decay: [0.5, "Each further video of an author counts half"],
  diversity: [0.2, "Diversity 0.2"],
  exclude_seen: [true, "Leave out what the user has seen"],
  exclude_hated: ["author", "Leave out authors the user hates"],
};

export class Compare extends Component {
  render() {
    return html`<h1>Slate before and after</h1>
      <${Loader} what="the versions" from=${() => call("GET", "v1/models")}>${(models) => html`<${Comparison} models=${models} />`}<//>`;
  }
}

class Comparison extends Component {
  constructor(props) {
    super(props);
    const { active } = props.models;
    this.state = {
      weights: this.weightsOf(active),
      rules: {},
      version: active,
      before: null,
      after: null,
      error: null,
      chosen: null,
      copied: "",
    };
    this.rank = this.rank.bind(this);
    this.copy = this.copy.bind(this);
  }

  /** Weights of all objectives: those given, by default a version's own. */
  weightsOf(version, given) {
    const model = this.props.models.models.find((m) => m.version === version);
    return { ...Object.fromEntries(model.objectives.map((o) => [o, 0])), ...(given ?? model.weights) };
  }

  componentWillUnmount() {
    clearTimeout(this.timer);
  }

  change(change) {
    this.setState({ ...change, copied: "" });
    clearTimeout(this.timer);
    if (this.state.before) this.timer = setTimeout(this.rank, SETTLE_MS);
  }

  request() {
    const body = requestBody(this.state.weights);
    const rules = Object.fromEntries(
      Object.keys(this.state.rules)
        .filter((r) => this.state.rules[r])
        .map((r) => [r, RULES[r][0]]),
    );
    return Object.keys(rules).length ? { ...body, rules: { ...body.rules, ...rules } } : body;
  }

  async rank() {
    const turn = (this.turn = (this.turn ?? 0) + 1);
    try {
      const at = session.at ? {} : { timestamp_ms: (this.at ??= Date.now()) };
      const plain = { ...requestBody(), ...at };
      const before = await preview("rerank", plain, this.props.models.active);
      if (turn !== this.turn) return;
      const after = await preview("rerank", { ...this.request(), ...at }, this.state.version);
      if (turn === this.turn) this.setState({ before, after, candidates: plain.candidates, error: null });
    } catch (error) {
      if (turn === this.turn) this.setState({ error });
    }
  }

  async copy() {
    const text = JSON.stringify(this.request(), null, 1);
    const authorized = key.get() ? " -H \"authorization: Bearer $KEY\"" : "";
    const command = `curl -s ${address("rerank")}${authorized} -H 'content-type: application/json' -d '${text.replaceAll("'", "'\\''")}'`;
    try {
      await navigator.clipboard.writeText(command);
      this.setState({ copied: `Copied: a curl command for POST /rerank${authorized && ", with your API key as $KEY"}.` });
    } catch {
      this.setState({ copied: command });
    }
  }

  render({ models }, { weights, version, before, after, error, chosen, candidates, copied }) {
    const loaded = [...new Set([models.active, models.split?.version, models.shadow?.version].filter(Boolean))];
    return html`<div class="columns three compare-view">
      <${SlateForm} onSubmit=${() => {
        this.at = undefined;
        const { weights: given } = requestBody();
        this.setState(given ? { weights: this.weightsOf(version, given) } : {}, this.rank);
      }} />
      <div class="stack">
        ${error && html`<${Failure} error=${error} retry=${this.rank} />`}
        ${!before && !error && html`<${Empty}>Enter a user and candidates, or take the example; then move a slider.<//>`}
        ${after && html`<${Result} before=${before} after=${after} candidates=${candidates} chosen=${chosen}
          onChoose=${(c) => this.setState({ chosen: c })} />`}
      </div>
      <div class="stack">
        <${Panel} title="Changes" note="Before: the request as it stands, by the active version. After: with what is chosen here.">
          <${Choice} label="Version (in memory)" value=${version} options=${loaded}
            onChange=${(v) => this.change({ version: v, weights: this.weightsOf(v) })} />
          ${loaded.length < 2 && html`<p class="note">To compare a second version, start a shadow of it under Versions.</p>`}
          <fieldset><legend>Weights</legend>
            ${Object.entries(weights).map(
              ([name, weight]) => html`<label class="slider"><span>${words(name)}</span>
              <input type="range" min="-1" max="2" step="0.05" value=${weight} name=${`weight-${name}`}
                onInput=${(e) => this.change({ weights: { ...this.state.weights, [name]: Number(e.currentTarget.value) } })} />
              <output>${signed(weight)}</output></label>`,
            )}</fieldset>
          <fieldset><legend>Rules</legend>${Object.entries(RULES).map(
            ([name, [, text]]) => html`<label class="check row">
            <input type="checkbox" name=${name} checked=${this.state.rules[name]}
              onChange=${(e) => this.change({ rules: { ...this.state.rules, [name]: e.currentTarget.checked } })} />${text}</label>`,
          )}</fieldset>
          <p class="buttons"><button type="button"
            onClick=${() => this.change({ weights: this.weightsOf(version), rules: {} })}>Reset</button>
            <button type="button" onClick=${this.copy}>Copy as request</button></p>
          ${copied && html`<p class="notice" role="status">${copied}</p>`}
        <//>
      </div>
    </div>`;
  }
}

const Result = ({ before, after, candidates, chosen, onChoose }) => {
  const a = before.items.map((i) => i.video_id),
    b = after.items.map((i) => i.video_id);
  const tau = kendallTau(a, b),
    moved = a.filter((id, rank) => b[rank] !== id).length;
  const k = Math.min(K, Math.ceil(before.items.length * SHARE));
  const left = mixOf(before.items, k, candidates),
    right = mixOf(after.items, k, candidates);
  const row = (
    text,
    key,
    format,
  ) => html`<tr><th scope="row">${text}</th><td class="number">${format(left[key])}</td><td class="number">${format(right[key])}</td>
    <td class="number">${right[key] > left[key] ? "+" : ""}${format(right[key] - left[key])}</td></tr>`;
  return html`
    <${Panel} title="Order" note=${html`<span class="key-rises">Solid blue rises</span>, <span
      class="key-falls">dashed orange falls</span>, grey stays.`}
      tools=${html`<${Choice} label="Follow" value=${chosen ?? ""} onChange=${onChoose}
        options=${[["", "no video"], ...a.map((id) => [id, id.slice(0, 40)])]} />`}>
      <${Facts} of=${[
        ["Moved", `${moved} of ${a.length}`],
        ["Kendall's τ", significant(tau)],
        ["Before", html`<code>${before.model_version}</code>`],
        ["After", html`<code>${after.model_version}</code>`],
      ]} />
      <${Applied} of=${after.applied} />
      <${Slopes} before=${a} after=${b} chosen=${chosen} onChoose=${onChoose} />
    <//>
    <${Panel} title=${`The best ${k}`}
      note="Means over the best videos, and their authors. Label: the predicted label (interest), 0 to 1. Effective authors: so many with equal shares would be as diverse.">
      <${Table} label="Figures of both slates" head=${["", " Before", " After", " Change"]}>
        ${row("predicted watch time", "predicted", seconds)}
        ${row("expected watch time", "expected", seconds)}
        ${row("label", "label", (v) => v.toFixed(3).replace("-", "−"))}
        ${row("duration", "duration", seconds)}
        ${row("authors", "authors", count)}
        ${row("effective authors", "effective", (v) => significant(v, 2))}
      <//>
    <//>`;
};
