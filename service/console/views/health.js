// View 6: how the service does. Rates and times of the last minute, or since its start.

import { call, Poll, text } from "../api.js";
import { Course } from "../charts.js";
import { count, latency, percent, significant, words } from "../format.js";
import { gauge, parse, single, Window } from "../metrics.js";
import { Component, Empty, Failure, html, Loading, Panel, Table } from "../parts.js";
import { Calibration } from "./calibration.js";

const POLL_MS = 5000; // a scrape of the metrics takes milliseconds of the event loop
const KEPT = 13;
const BREAKERS = ["closed", "half open", "open"];
const STAGES = ["wait", "parse", "state", "inference", "encode", "rest", "total"];
const OWN = /^(\/(console|v1\/|metrics|health)|unmatched$)/;
const DRIFTS = 0.1;
const DRIFTED = 0.25;

export class Health extends Component {
  constructor(props) {
    super(props);
    this.state = { readings: [], error: null, minute: true, model: null };
    this.read = this.read.bind(this);
  }

  componentDidMount() {
    this.poll = new Poll(this.read, POLL_MS);
    call("GET", "v1/models")
      .then(({ active }) => call("GET", `v1/models/${active}`))
      .then(
        (model) => this.setState({ model }),
        () => {},
      );
  }

  componentWillUnmount() {
    this.poll.end();
    this.gone = true;
  }

  async read() {
    try {
      const samples = parse(await text("metrics"));
      if (!this.gone)
        this.setState({ readings: [...this.state.readings, { at: Date.now(), samples }].slice(-KEPT), error: null });
    } catch (error) {
      if (!this.gone) this.setState({ error });
    }
  }

  render({ health }, { readings, error, minute, model }) {
    const newest = readings.at(-1),
      oldest = readings[0];
    if (!newest)
      return html`<h1>Health</h1>${error ? html`<${Failure} error=${error} retry=${this.read} />` : html`<${Loading}
        what="the metrics" />`}`;
    const recent = minute && readings.length > 1;
    const window = new Window(
      recent ? oldest.samples : null,
      newest.samples,
      recent ? (newest.at - oldest.at) / 1000 : NaN,
    );
    const sinceStart = new Window(null, newest.samples);
    const rates = readings.slice(1).map((reading, i) => {
      const step = new Window(readings[i].samples, reading.samples, (reading.at - readings[i].at) / 1000);
      return (
        [...step.by("reelrank_requests_total", "route")].reduce(
          (sum, [route, n]) => sum + (OWN.test(route) ? 0 : n),
          0,
        ) / step.seconds
      );
    });
    return html`<h1>Health</h1>
      ${error && html`<${Failure} error=${error} />`}
      <p class="buttons" role="group" aria-label="Period">${[
        [true, "Last minute"],
        [false, "Since the start"],
      ].map(
        ([value, name]) => html`
        <button type="button" aria-pressed=${minute === value} class=${minute === value ? "primary" : ""}
          onClick=${() => this.setState({ minute: value })}>${name}</button>`,
      )}</p>
      <${Figures} samples=${newest.samples} window=${window} rates=${rates} health=${health} />
      <div class="flow">
        <${Routes} window=${window} />
        <${Stages} window=${window} />
        <${Refusals} window=${window} />
        <${StorePanel} samples=${newest.samples} window=${window} health=${health} />
        <${Calibration} window=${sinceStart} model=${model} />
        <${Drift} samples=${newest.samples} window=${sinceStart} model=${model} />
      </div>`;
  }
}

const Figures = ({ samples, window, rates, health }) => {
  const breakers = gauge(samples, "reelrank_store_breaker_state", "calls");
  const open = Math.max(0, ...breakers.values());
  const store =
    health?.degraded.includes("store") || open === 2
      ? "away"
      : health?.degraded.includes("store_writes")
        ? "no writes"
        : "answers";
  const figure = (title, value, bad, more) =>
    html`<section class=${bad ? "figure bad" : "figure"}><h2>${title}</h2><p>${value}</p>${more}</section>`;
  const lag = single(samples, "reelrank_loop_lag_seconds");
  return html`<div class="figures">
    ${figure("Requests besides this page's", rates.length ? `${significant(rates.at(-1), 2)} /s` : "counting …", false, rates.length > 1 && html`<${Course} of=${rates} label="Requests per second" format=${(v) => `${significant(v, 2)} /s`} height=${36} />`)}
    ${figure("Slate, p99", latency(window.quantile("reelrank_request_seconds", { route: "/rerank", stage: "total" }, 0.99)))}
    ${figure("Labels, p99", latency(window.quantile("reelrank_request_seconds", { route: "/label", stage: "total" }, 0.99)))}
    ${figure("Store", store, store !== "answers", html`<small>circuit: reads ${BREAKERS[breakers.get("reads")] ?? "–"}, writes ${BREAKERS[breakers.get("writes")] ?? "–"}</small>`)}
    ${figure("Event-loop lag, worst of 10\u00a0s", latency(lag), lag > 0.1)}
    ${figure("Memory", `${count(single(samples, "reelrank_process_resident_bytes") / 2 ** 20)} MiB`, false, html`<small>${count(single(samples, "reelrank_workers") || 1)} worker${single(samples, "reelrank_workers") > 1 ? "s" : ""}</small>`)}
  </div>`;
};

const Routes = ({ window }) => {
  const routes = [...window.by("reelrank_requests_total", "route")]
    .filter(([, n]) => n > 0)
    .sort((a, b) => b[1] - a[1]);
  const rated = window.seconds > 0;
  return html`<${Panel} title="Requests by route" note="Times are from the first byte of a request to the first of its reply. Grey: this page's own.">
    ${
      routes.length
        ? html`<${Table} label="Requests by route" head=${["Route", " Requests", ...(rated ? [" Per s"] : []), " p50", " p99", " Refused"]}>
      ${routes.map(([route, n]) => {
        const refused = [...window.by("reelrank_requests_total", "status", { route })].reduce(
          (sum, [status, m]) => sum + (status >= "400" ? m : 0),
          0,
        );
        const q = (level) => latency(window.quantile("reelrank_request_seconds", { route, stage: "total" }, level));
        return html`<tr class=${OWN.test(route) ? "faint" : ""}><th scope="row"><code>${route}</code></th><td
          class="number">${count(n)}</td>
          ${rated && html`<td class="number">${significant(n / window.seconds, 2)}</td>`}<td class="number">${q(0.5)}</td><td
            class="number">${q(0.99)}</td><td class="number">${refused ? percent(refused / n) : "0"}</td></tr>`;
      })}
    <//>`
        : html`<${Empty}>No request in this period.<//>`
    }<//>`;
};

const Stages = ({
  window,
}) => html`<${Panel} title="Time by stage" note="p50 and p99 of each stage of a request; rest is what no stage covers.">
  <${Table} label="Time by stage" head=${["Stage", " Slate p50", " Slate p99", " Labels p50", " Labels p99"]}>
    ${STAGES.map(
      (stage) =>
        html`<tr><th scope="row">${stage}</th>${["/rerank", "/label"].flatMap((route) =>
          [0.5, 0.99].map(
            (q) => html`
      <td class="number">${latency(window.quantile("reelrank_request_seconds", { route, stage }, q))}</td>`,
          ),
        )}</tr>`,
    )}
  <//><//>`;

const Refusals = ({ window }) => {
  const refused = [...window.by("reelrank_refusals_total", "reason")]
    .filter(([, n]) => n > 0)
    .sort((a, b) => b[1] - a[1]);
  const events = [...window.by("reelrank_events_total", "outcome")].filter(([, n]) => n > 0);
  const degraded = [...window.by("reelrank_degraded_total", "what")].filter(([, n]) => n > 0);
  const list = (title, rows) =>
    html`<h3>${title}</h3>${
      rows.length
        ? html`<${Table} label=${title} head=${["", " Count"]}>
    ${rows.map(([name, n]) => html`<tr><th scope="row">${words(name)}</th><td class="number">${count(n)}</td></tr>`)}<//>`
        : html`<p class="note">None in this period.</p>`
    }`;
  return html`<${Panel} title="Refusals and outcomes">${list("Refusals by reason", refused)}${list("Events by outcome", events)}${list("Slates without", degraded)}<//>`;
};

const StorePanel = ({ samples, window, health }) => {
  const operations = [...window.by("reelrank_store_seconds_count", "operation")].filter(([, n]) => n > 0);
  const failures = [...window.by("reelrank_store_failures_total", "reason")].filter(([, n]) => n > 0);
  const risks = [...gauge(samples, "reelrank_store_policy_risk", "risk")].filter(([, v]) => v > 0);
  return html`<${Panel} title="Store" tools=${html`<span
    class=${`badge ${health?.degraded.length ? "bad" : "good"}`}>${health?.degraded.length ? health.degraded.map(words).join(", ") : "answers"}</span>`}>
    ${risks.length > 0 && html`<p class="notice">Its configuration may lose events: ${risks.map(([r]) => r).join(", ")}.</p>`}
    ${
      operations.length
        ? html`<${Table} label="Store operations" head=${["Operation", " Calls", " p50", " p99"]}>
      ${operations.map(
        ([operation, n]) => html`<tr><th scope="row">${words(operation)}</th><td class="number">${count(n)}</td>
        <td class="number">${latency(window.quantile("reelrank_store_seconds", { operation }, 0.5))}</td><td
          class="number">${latency(window.quantile("reelrank_store_seconds", { operation }, 0.99))}</td></tr>`,
      )}
    <//>`
        : html`<p class="note">No call in this period.</p>`
    }
    <p class="note">Failed calls: ${failures.length ? failures.map(([reason, n]) => `${words(reason)} ${count(n)}`).join(", ") : "none"}. Restarts of the embedded store: ${count(single(samples, "reelrank_store_restarts_total") || 0)}.</p>
  <//>`;
};

const Drift = ({ samples, window, model }) => {
  const reference = model?.reference ?? {};
  const index = gauge(samples, "reelrank_drift_psi", "what");
  const rows = Object.keys(reference)
    .map((what) => ({
      what,
      psi: index.get(what),
      bins: window.by("reelrank_values_total", "bin", { what, version: model.version }),
    }))
    .filter((r) => r.bins.size)
    .sort((a, b) => (b.psi ?? -1) - (a.psi ?? -1));
  return html`<${Panel} title="Drift"
    note="Values of requests since the service started (bars) in the bins of the training rows (line). Population stability index (PSI) of the newest: stable up to 0.1, shifted above 0.25, none below 1,000 values.">
    ${
      rows.length
        ? html`<${Table} label="Drift" head=${["Distribution of", " Values", " PSI", "", "Now and in training"]}>
      ${rows.map(
        ({ what, psi, bins }) => html`<tr><th scope="row">${words(what)}</th>
        <td class="number">${count([...bins.values()].reduce((a, b) => a + b, 0))}</td>
        <td class="number">${psi === undefined ? "–" : psi.toFixed(2)}</td>
        <td>${psi !== undefined && html`<span
          class=${`badge ${psi > DRIFTED ? "bad" : psi > DRIFTS ? "warn" : "good"}`}>${psi > DRIFTED ? "shifted" : psi > DRIFTS ? "shifting" : "stable"}</span>`}</td>
        <td><${Bins} now=${bins} then=${reference[what].shares} /></td></tr>`,
      )}
    <//>`
        : html`<${Empty}>${model && !Object.keys(reference).length ? "This bundle was exported without its training rows (--data), so there is nothing to compare with." : "No value was sampled yet."}<//>`
    }<//>`;
};

/** Shares of the newest values by bin as bars, those of the training rows as a line. */
const Bins = ({ now, then }) => {
  const total = [...now.values()].reduce((a, b) => a + b, 0),
    n = then.length;
  const shares = then.map((_, i) => (now.get(String(i)) ?? 0) / total);
  const top = Math.max(...shares, ...then),
    y = (share) => 26 - 24 * (share / top);
  return html`<svg class="histogram" viewBox=${`0 0 ${n * 10} 26`} preserveAspectRatio="none" role="img"
    aria-label=${`Largest difference of a bin: ${percent(Math.max(...shares.map((s, i) => Math.abs(s - then[i]))))}`}>
    ${shares.map((s, i) => html`<rect class="now" x=${i * 10 + 1} width="8" y=${y(s)} height=${26 - y(s)} />`)}
    <path class="then" d=${then.map((s, i) => `${i ? "L" : "M"}${i * 10},${y(s)}L${i * 10 + 10},${y(s)}`).join("")} /></svg>`;
};
