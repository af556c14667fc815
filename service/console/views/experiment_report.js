// The newest report of an experiment: its arms by user, now and on each day.

import { Intervals } from "../charts.js";
import { change, count, moment, percent, significant, words } from "../format.js";
import { html, Table } from "../parts.js";

const METRIC = "watch_time_s";
const KINDS = { holds: "good", violated: "bad", undecided: "warn" };

export const Report = ({ report }) => {
  const treatments = report.arms.map((a) => a.arm).filter((arm) => arm !== report.control);
  const users = report.arms.map((a) => `${a.arm} ${count(a.users)}`).join(", ");
  return html`
    <h3>Watch time per user, against ${report.control}</h3>
    <p class="note">Report as of ${moment(report.end_ms)}; users: ${users}. Bars: always-valid intervals (95 %), which hold at all looks together. Badges: guardrails.</p>
    ${
      report.sample_ratio_flagged &&
      html`<p class="notice bad">The arms are not as large as planned (p = ${significant(report.sample_ratio_p, 2)}). Find out why before anything below is believed.</p>`
    }
    ${treatments.map((arm) => html`<${Intervals} label=${`Watch time per user of ${arm} against ${report.control}`} of=${looksOf(report, arm)} />`)}
    ${treatments.map((arm) => html`<${Figures} report=${report} arm=${arm} />`)}`;
};

/** Differences in watch time by day, those that are known. */
const looksOf = ({ looks }, arm) =>
  looks
    .map(({ end_ms, arms }) => ({ at: end_ms, value: arms[arm]?.relative, interval: arms[arm]?.always_valid_relative_interval }))
    .filter((look) => look.value != null && look.interval != null);

const Figures = ({ report, arm }) => {
  const guardrails = new Map(report.guardrails.filter((g) => g.arm === arm).map((g) => [g.metric, g]));
  const range = (interval) => (interval ? `${change(interval[0])} to ${change(interval[1])}` : "–");
  return html`<${Table} label=${`Metrics of ${arm}`} head=${[`${arm}, per user`, " Mean", " Difference", " Fixed-horizon interval", " Always-valid interval"]}>
    ${Object.entries(report.metrics).map(([metric, arms]) => {
      const found = arms[arm],
        guardrail = guardrails.get(metric);
      return (
        found &&
        html`<tr class=${metric === METRIC ? "chosen" : ""}><th scope="row" class="wraps">${words(metric)}${guardrail && html` <span class=${`badge ${KINDS[guardrail.verdict] ?? ""}`}
          title=${`A guardrail: harm of at most ${percent(guardrail.tolerance)} is tolerated.`}>${guardrail.verdict}</span>`}</th>
        <td class="number">${significant(found.mean)}</td>
        <td class="number">${found.relative == null ? "–" : change(found.relative)}</td>
        <td class="number">${range(found.relative_interval)}</td>
        <td class="number">${range(found.always_valid_relative_interval)}</td></tr>`
      );
    })}<//>`;
};
