// View 5: the versions of the bundle, how good they are, which of them answers whom, and experiments.

import { call, text } from "../api.js";
import { count, moment, percent, signed, significant, words } from "../format.js";
import { parse, Window } from "../metrics.js";
import { Component, Facts, Failure, Guarded, html, Loader, Panel, ReadOnly, Table } from "../parts.js";
import { Experiments } from "./experiments.js";

const SHOWN = 12;
const SHARES = { split: 0.1, shadow: 0.05 };

export class Versions extends Component {
  render({ rights }) {
    return html`<h1>Versions and experiments</h1>
      <${Loader} what="the versions" from=${load}>${(value, reload) => html`<${Overview} ...${value} rights=${rights}
        reload=${reload} />`}<//>`;
  }
}

async function load() {
  const models = await call("GET", "v1/models");
  const newest = models.models.toSorted((a, b) => b.active - a.active || b.version.localeCompare(a.version)).slice(0, SHOWN);
  const details = await Promise.all(newest.map((m) => (m.error ? m : call("GET", `v1/models/${m.version}`))));
  const [experiments, reports] = await Promise.all(["v1/experiments", "v1/reports"].map((path) => call("GET", path)));
  return { models, details, experiments, reports, samples: parse(await text("metrics")) };
}

class Overview extends Component {
  constructor(props) {
    super(props);
    this.state = { asked: null, error: null, done: null };
    this.confirm = this.confirm.bind(this);
  }

  async confirm(share) {
    const { path, body, done } = this.state.asked;
    try {
      await call("POST", path, share === undefined ? body : { share });
      this.setState({ asked: null, error: null, done });
      this.props.reload();
    } catch (error) {
      this.setState({ error, asked: null });
    }
  }

  render({ models, details, experiments, reports, samples, rights, reload }, { asked, error, done }) {
    const ask = (request) => this.setState({ asked: request, error: null, done: null });
    return html`
      <p class="buttons"><${Guarded} rights=${rights} right="admin" onClick=${() =>
        ask({
          path: "v1/models:rollback",
          title: "Roll back",
          done: "Rolled back.",
          text: `The version that was current before ${models.active} is tested and answers all users from then on, in every worker within a second, also after a restart.`,
        })}>Roll back</>
        <button type="button" onClick=${reload}>Read again</button></p>
      <${ReadOnly} rights=${rights} right="admin" to="change which version answers, or start or end an experiment," />
      ${error && html`<${Failure} error=${error} />`}
      ${done && html`<p class="notice" role="status">${done}</p>`}
      ${asked && html`<${Confirm} ...${asked} key=${asked.path} onYes=${this.confirm} onNo=${() => this.setState({ asked: null })} />`}
      ${models.refused.map((r) => html`<p class="notice bad" role="alert">${r.version} cannot be ${r.role}: ${r.detail}</p>`)}
      <div class="flow">
        ${details.map((m) => html`<${Card} key=${m.version} model=${m} models=${models} rights=${rights} ask=${ask} />`)}
        ${models.shadow && html`<${ShadowPanel} shadow=${models.shadow} samples=${samples} />`}
        ${models.split && html`<${SplitPanel} split=${models.split} samples=${samples} />`}
        <${Experiments} experiments=${experiments} reports=${reports} samples=${samples} rights=${rights} ask=${ask}
          versions=${models.models.filter((m) => !m.error).map((m) => m.version)} />
      </div>`;
  }
}

/** Says what will happen, and asks. */
class Confirm extends Component {
  constructor(props) {
    super(props);
    this.state = { share: props.share };
    this.focus = (node) => node?.focus();
    this.opener = document.activeElement;
  }

  componentWillUnmount() {
    this.opener?.focus();
  }

  render({ title, text: what, share: asksShare, onYes, onNo }, { share }) {
    return html`<section class="panel" role="alertdialog" aria-label=${title}
      onKeyDown=${(e) => e.key === "Escape" && onNo()}><header><h2>${title}</h2></header><p>${what}</p>
      ${asksShare !== undefined && html`<label class="field"><span>Share, 0 to 1 (0 ends it)</span><input type="number"
        min="0" max="1" step="0.01" value=${share}
        onInput=${(e) => this.setState({ share: Number(e.currentTarget.value) })} /></label>`}
      <p class="buttons"><button type="button" class="primary" ref=${this.focus}
        onClick=${() => onYes(share)}>${title}</button><button type="button" onClick=${onNo}>Cancel</button></p></section>`;
  }
}

const Card = ({ model, models, rights, ask }) => {
  const { version } = model;
  const roles = [
    [model.active, "answers", "good"],
    [models.split?.version === version, `split ${percent(models.split?.share)} of the users`, "warn"],
    [models.shadow?.version === version, `shadow ${percent(models.shadow?.share)} of the requests`, "warn"],
  ].filter(([has]) => has);
  const tools = html`<span>${roles.map(([, text, kind]) => html`<span class=${`badge ${kind}`}>${text}</span> `)}</span>`;
  if (model.error)
    return html`<${Panel} title=${html`<code>${version}</code>`} tools=${tools}><p
      class="notice bad">Cannot be used: ${model.error}</p><//>`;
  const evidence = model.learned_labels?.evidence;
  const baseline = model.evaluation?.baselines ?? {};
  return html`<${Panel} title=${html`<code>${version}</code>`} tools=${tools}>
    <${Facts} of=${[
      ["Created", moment(Date.parse(model.created_at))],
      ["Recipe", model.training.recipe],
      ["Log", model.training.dataset],
      ["Exposures", count(model.training.rows)],
      ["Users", count(model.training.users)],
      ["Log until", moment(model.watermark_ms)],
      ["Sequence", `${model.sequence_length} exposures`],
    ]} />
    <${Figures} metrics=${model.metrics} baselines=${baseline} />
    <${Comparisons} of=${model.evaluation?.comparisons ?? []} />
    ${
      evidence &&
      html`<h3>Labels learned</h3><p
        class="note">Composite of ${evidence.objectives.map(words).join(", ")} on ${evidence.windows} later windows (${count(evidence.users)} users).</p>
      <${Table} label="Learned labels" head=${["Against labels", " Difference", " 95 % interval", "Gate"]}>
        ${[
          ["at their start", evidence.over_frozen],
          ["learned from shuffled gradients", evidence.over_shuffled],
        ].map(
          ([name, m]) => html`<tr><th scope="row">${name}</th>
          <td class="number">${signed(m.difference, 3)}</td><td class="number">${signed(m.low, 3)} to ${signed(m.high, 3)}</td>
          <td><span class=${`badge ${m.low > 0 ? "good" : "bad"}`}>${m.low > 0 ? "passed" : "not passed"}</span></td></tr>`,
        )}
      <//>`
    }
    ${model.learned_labels?.allowed_unlearned && html`<p
      class="notice">Exported with unlearned labels: ${model.learned_labels.allowed_unlearned}</p>`}
    ${!model.active && html`<${Actions} version=${version} active=${models.active} rights=${rights} ask=${ask} />`}
  <//>`;
};

/** What can be done with a version that is not active. */
const Actions = ({ version, active, rights, ask }) => html`
  <p class="buttons">
      <${Guarded} rights=${rights} right="admin" onClick=${() =>
        ask({
          path: `v1/models/${version}:activate`,
          title: "Promote",
          done: `${version} answers.`,
          text: `${version} is loaded, self-tested and warmed up; then it answers all users instead of ${active}, in every worker within a second, also after a restart. If any test fails, ${active} goes on.`,
        })}>Promote</>
      ${["split", "shadow"].map(
        (role) =>
          html`<${Guarded} rights=${rights} right="admin" onClick=${() =>
            ask({
              path: `v1/models/${version}:${role}`,
              title: role === "split" ? "Split" : "Shadow",
              share: SHARES[role],
              done: `The ${role} is set.`,
              text:
                role === "split"
                  ? `${version} answers this share of the users, chosen by a hash, instead of ${active}.`
                  : `${version} scores this share of the requests after they were answered. No answer changes or waits.`,
            })}>${role === "split" ? "Split …" : "Shadow …"}</>`,
      )}
  </p>`;

const ROWS = [
  ["mae_s", "MAE", "s", "median"],
  ["rmse_mean_s", "RMSE of the mean", "s", "mean:rmse_s"],
  ["crps_s", "CRPS", "s"],
  ["xauc", "XAUC", ""],
  ["gauc_long_view", "GAUC of long view", ""],
  ["nwtg@10", "NWTG@10", ""],
  ["neg@10", "NEG@10", ""],
  ["coverage_p10_p90", "Between p10 and p90", "share"],
  ["ece_skip", "Calibration error of P(skip)", "share"],
];

const Figures = ({ metrics, baselines }) => {
  const rows = ROWS.filter(([name]) => metrics[name] != null);
  if (!rows.length) return html`<p class="note">Exported without an evaluation.</p>`;
  const show = (value, unit) => (unit === "share" ? percent(value) : `${significant(value)}${unit && ` ${unit}`}`);
  return html`<${Table} label="Evaluation" head=${["On later days", " This version", " Baseline"]}>
    ${rows.map(([name, title, unit, base]) => {
      const [kind, member = name] = base?.split(":") ?? [];
      return html`<tr><th scope="row">${title}</th><td class="number">${show(metrics[name], unit)}</td><td
        class="number">${baselines[kind]?.[member] != null ? `${show(baselines[kind][member], unit)} (${kind})` : "–"}</td></tr>`;
    })}<//>`;
};

/** What the verdict of a fit rests on: figures beside those of simple predictors, by 95 % intervals over users. */
const Comparisons = ({ of }) =>
  of.length > 0 &&
  html`<h3>Against simple predictors</h3><${Table} label="Against simple predictors" head=${["", " This version", " Simple", "Outcome"]}>
    ${of.map(
      (c) => html`<tr><th scope="row">${words(c.figure)}, ${c.baseline}</th><td class="number">${significant(c.ranker)}</td>
      <td class="number">${significant(c.simple)}</td><td><span class=${`badge ${OUTCOMES[c.outcome]}`}>${c.outcome}</span></td></tr>`,
    )}<//>`;

const OUTCOMES = { better: "good", worse: "bad", undecided: "warn" };

const SplitPanel = ({ split, samples }) => {
  const slates = new Map(
    (samples.get("reelrank_answers_total") ?? [])
      .filter((s) => s.labels.endpoint === "rerank")
      .map((s) => [s.labels.version, s.value]),
  );
  const total = [...slates.values()].reduce((sum, n) => sum + n, 0);
  return html`<${Panel} title=${html`Split of <code>${split.version}</code>`}
    note=${`Planned: ${percent(split.share)} of the users. Slates since the service started, those from before the split too.`}>
    <${Table} label="Split" head=${["Version", " Slates", " Share"]}>${[...slates].map(
      ([version, n]) => html`<tr class=${version === split.version ? "chosen" : ""}><th scope="row"><code>${version}</code></th>
        <td class="number">${count(n)}</td><td class="number">${percent(n / total)}</td></tr>`,
    )}<//><//>`;
};

const COMPARED = { kendall_tau: "Kendall's τ", overlap_at_10: "overlap of the best 10" };

const ShadowPanel = ({ shadow, samples }) => {
  const means = (name) => {
    const its = (member) => (samples.get(`${name}_${member}`) ?? []).filter((s) => s.labels.version === shadow.version);
    const counts = new Map(its("count").map((s) => [s.labels.what, s.value]));
    return its("sum").map(({ labels: { what }, value }) => [what, value / counts.get(what), counts.get(what)]);
  };
  const rows = [...means("reelrank_shadow_order"), ...means("reelrank_shadow_difference")];
  const outcomes = new Window(null, samples).by("reelrank_shadow_total", "outcome", { version: shadow.version });
  return html`<${Panel} title=${html`Shadow of <code>${shadow.version}</code>`}
    note="How its answers would differ from those that were given, since the service started. Kendall's τ and the overlap of the best 10 are 1 where the order is the same.">
    <${Facts} of=${["compared", "dropped", "failed"].map((o) => [`Requests ${o}`, count(outcomes.get(o) ?? 0)])} />
    ${
      rows.length
        ? html`<${Table} label="Shadow" head=${["Mean of", " Value", " Requests"]}>${rows.map(([what, value, n]) => html`<tr><th
          scope="row">${COMPARED[what] ?? `difference in ${words(what.replace(".", " "))}`}</th><td class="number">${significant(value)}</td><td class="number">${count(n)}</td></tr>`)}<//>`
        : html`<p class="note">Nothing compared yet.</p>`
    }<//>`;
};
