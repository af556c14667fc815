// Predicted seconds beside those that came back, by what was predicted.

import { Diverging } from "../charts.js";
import { change, count, percent, seconds, signed } from "../format.js";
import { BARS, Empty, html, Panel, Table } from "../parts.js";

const ENOUGH = 30; // exposures, below which a mean says little

export const Calibration = ({ window, model }) => {
  const read = (name) =>
    window.by(`reelrank_calibration_${name}_total`, "from_s", { version: model?.version ?? "" });
  const [exposures, predicted, watched, longer] = ["exposures", "predicted_seconds", "watched_seconds", "longer"].map(read);
  const starts = [...exposures.keys()].map(Number).sort((a, b) => a - b);
  const sum = (of) => [...of.values()].reduce((a, b) => a + b, 0);
  const row = (name, n, p, w, l) => ({ name, n, predicted: p / n, watched: w / n, off: p / w - 1, longer: l / n });
  const rows = starts.map((start) => {
    const key = String(start);
    return row(BINS.get(start) ?? seconds(start), ...[exposures, predicted, watched, longer].map((of) => of.get(key) ?? 0));
  });
  const all = row("all", sum(exposures), sum(predicted), sum(watched), sum(longer));
  const most = Math.max(0.1, ...rows.filter((r) => r.n >= ENOUGH).map((r) => Math.min(1, Math.abs(r.off))));
  const evaluated = model?.metrics?.bias_mean_s;
  return html`<${Panel} title="Calibration: predicted and watched seconds"
    note="Means of exposures whose events name their slate (request_id), of a sample of the slates, since the service started. Bias: by how much the expected watch time exceeds what was watched. Watched longer: than the predicted watch time; about half should be.">
    ${
      all.n
        ? html`<${Table} label="Calibration" head=${["Predicted mean", " Exposures", " Predicted", " Watched", " Bias", BARS, " Watched longer"]}>
      ${[...rows, all].map(
        (r) => html`<tr class=${r.n < ENOUGH ? "faint" : ""}><th scope="row">${r.name}</th>
        <td class="number">${count(r.n)}</td><td class="number">${seconds(r.predicted)}</td>
        <td class="number">${seconds(r.watched)}</td><td class="number">${r.n < ENOUGH ? "–" : change(r.off)}</td>
        <td class="wide-bar">${r.n >= ENOUGH && html`<${Diverging} value=${r.off} most=${most} />`}</td>
        <td class="number">${percent(r.longer)}</td></tr>`,
      )}<//>
    <p class="note">Overall ${signed(all.predicted - all.watched, 1)} s${evaluated != null ? `; in the evaluation ${signed(evaluated, 1)} s` : ""}. Rows of fewer than ${ENOUGH} exposures are grey.</p>`
        : html`<${Empty}>No event has named its slate yet. Send the slate's request_id with its events (POST /label).<//>`
    }<//>`;
};

const BINS = new Map([
  [0, "under 5 s"],
  [5, "5 to 10 s"],
  [10, "10 to 20 s"],
  [20, "20 to 40 s"],
  [40, "40 to 80 s"],
  [80, "80 s and more"],
]);
