// Experiments: which arms answer which users, and what starts and ends them.

import { count, moment, percent, significant, words } from "../format.js";
import { Component, Failure, Guarded, html, Panel, Table } from "../parts.js";
import { Report } from "./experiment_report.js";

/** All experiments, running ones first. `ask` confirms and sends a request. */
export const Experiments = ({ experiments, reports, samples, versions, rights, ask }) => {
  const ordered = experiments.toReversed().sort((a, b) => (a.stopped_ms ? 1 : 0) - (b.stopped_ms ? 1 : 0));
  return html`
    ${ordered.map((e) => html`<${ExperimentPanel} key=${`${e.name} ${e.started_ms}`} experiment=${e} samples=${samples}
      report=${reports.find((r) => r.name === e.name)} rights=${rights} ask=${ask} />`)}
    <${Start} versions=${versions} rights=${rights} ask=${ask} />`;
};

const ExperimentPanel = ({ experiment, report, samples, rights, ask }) => {
  const { name, arms, share, started_ms, stopped_ms } = experiment;
  const slates = new Map(
    (samples.get("reelrank_experiment_slates_total") ?? [])
      .filter((s) => s.labels.experiment === name)
      .map((s) => [s.labels.arm, s.value]),
  );
  const total = [...slates.values()].reduce((sum, n) => sum + n, 0);
  const tools = html`<span class=${`badge ${stopped_ms ? "" : "good"}`}>${stopped_ms ? "ended" : "runs"}</span>`;
  const weights = (arm) =>
    arm.weights ? Object.entries(arm.weights).map(([o, w]) => `${words(o)} ${significant(w, 2)}`).join(", ") : "the version's";
  return html`<${Panel} title=${`Experiment ${name}`} tools=${tools}
    note=${`${percent(share)} of the users, in equal parts, since ${moment(started_ms)}${stopped_ms ? ` until ${moment(stopped_ms)}` : ""}. The first arm is the control.`}>
    <${Table} label=${`Arms of ${name}`} head=${["Arm", "Version", "Weights", " Slates", " Share"]}>
      ${arms.map(
        (arm) => html`<tr><th scope="row">${arm.name}</th><td><code>${arm.version ?? "current"}</code></td><td class="wraps">${weights(arm)}</td>
          <td class="number">${count(slates.get(arm.name) ?? 0)}</td>
          <td class="number">${total ? percent((slates.get(arm.name) ?? 0) / total) : "–"}</td></tr>`,
      )}
    <//>
    ${
      report
        ? html`<${Report} report=${report} />`
        : html`<p class="note">No report of it yet. With LOG for the service's REELRANK_LOG_DIR:
          <code>python -m training experiment ${name} --log LOG --out LOG/experiments/${name}/DATE</code></p>`
    }
    ${
      !stopped_ms &&
      html`<p class="buttons"><${Guarded} rights=${rights} right="admin" onClick=${() =>
        ask({
          path: `v1/experiments/${encodeURIComponent(name)}:stop`,
          title: "Stop",
          done: `${name} has ended.`,
          text: `${name} ends: its users are answered as all others, in every worker within a second. It cannot go on under the same users later.`,
        })}>Stop<//></p>`
    }
  <//>`;
};

class Start extends Component {
  constructor(props) {
    super(props);
    this.state = { error: null };
    this.start = this.start.bind(this);
  }

  start(submit) {
    submit.preventDefault();
    const form = new FormData(submit.currentTarget);
    const arm = { name: "B", version: form.get("version") };
    try {
      if (form.get("weights").trim()) arm.weights = JSON.parse(form.get("weights"));
    } catch (error) {
      this.props.ask(null); // what was refused before is not the matter any more
      this.setState({ error: new Error(`The weights are not JSON: ${error.message}.`) });
      return;
    }
    const body = { name: form.get("name").trim(), share: Number(form.get("share")), arms: [{ name: "A" }, arm] };
    this.setState({ error: null });
    this.props.ask({
      path: "v1/experiments",
      body,
      title: "Start",
      done: `${body.name} runs.`,
      text: `Half of ${percent(body.share)} of the users stay with the current version (arm A, the control), the other half is answered by arm B, from now on and after a restart. Its version is tested first; if that fails nothing changes.`,
    });
  }

  render({ versions, rights }, { error }) {
    const allowed = rights.includes("admin");
    return html`<form class="panel" onSubmit=${this.start}>
      <header><h2>Start an experiment</h2></header>
      <p class="note">Arm A is the current version with its own weights, arm B what is chosen here.</p>
      <div class="pair">
        <label class="field"><span>Name</span><input name="name" required maxlength="64" autocomplete="off" /></label>
        <label class="field"><span>Share of the users, 0 to 1</span><input name="share" type="number" min="0.0001" max="1" step="any" value="0.2" required /></label>
      </div>
      <label class="field"><span>Version of arm B</span><select name="version">${["current", ...versions].map((v) => html`<option>${v}</option>`)}</select></label>
      <label class="field"><span>Weights of arm B, JSON; empty: the version's</span>
        <input name="weights" placeholder='{"watch_time": 1, "like": 0.3}' autocomplete="off" spellcheck="false" /></label>
      ${error && html`<${Failure} error=${error} />`}
      <p class="buttons"><button type="submit" disabled=${!allowed} title=${allowed ? undefined : "Needs a key with the right “admin”."}>Start …</button></p>
    </form>`;
  }
}
