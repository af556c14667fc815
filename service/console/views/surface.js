// View 3: what a label maker makes of watch time, duration and feedback.

import { call, preview } from "../api.js";
import { percent, seconds, signed, words } from "../format.js";
import { Choice, Component, Failure, html, Loader, Loading, Panel, Table } from "../parts.js";
import { COLUMNS, durationOf, ROWS, Scale, Surface as Map, trainingDensity, watchOf } from "../surface_chart.js";

export const FLAGS = ["like", "follow", "comment", "forward", "profile_enter", "hate"];
const LEVELS = [0.1, 0.25, 0.5, 0.75, 0.9];

const exposure = (event_id, watch, duration, flags) => ({
  event_id,
  user_id: "console",
  video_id: "console",
  timestamp_ms: Date.now(),
  watch_time_s: watch,
  duration_s: duration,
  ...flags,
});

const CELLS = Array.from({ length: ROWS * COLUMNS }, (_, i) => [Math.floor(i / COLUMNS), i % COLUMNS]);

/** Labels of every cell of the map, by maker: raw values and percentiles, as grids. */
async function labelsOfMap(makers, flags, version) {
  const events = CELLS.map(([r, c]) => exposure(`${r}-${c}`, watchOf(r), durationOf(c), flags));
  const reply = await preview(`label?labels=${[...new Set(makers)].join(",")}`, { events }, version);
  return (maker, scale) => {
    const member = scale === "percentile" ? "percentiles" : "labels";
    return Array.from({ length: ROWS }, (_, r) =>
      reply.labels.slice(r * COLUMNS, (r + 1) * COLUMNS).map((l) => l[member]?.[maker] ?? NaN),
    );
  };
}

export class SurfaceView extends Component {
  render() {
    return html`<h1>Label surface</h1>
      <${Loader} what="the versions" from=${async () => {
        const models = await call("GET", "v1/models");
        return { models, active: await call("GET", `v1/models/${models.active}`) };
      }}>${({ models, active }) => html`<${Explorer} models=${models} active=${active} />`}<//>`;
  }
}

class Explorer extends Component {
  constructor(props) {
    super(props);
    const { active } = props;
    this.versions = [
      ...new Set([active.version, props.models.split?.version, props.models.shadow?.version].filter(Boolean)),
    ];
    this.density = trainingDensity(active.reference);
    this.state = {
      maker: active.labels[0],
      version: active.version,
      against: "nothing",
      other: active.labels[1] ?? active.labels[0],
      scale: "label",
      flags: {},
      showLog: true,
      grid: null,
      error: null,
      watch: 12,
      duration: 24,
      point: null,
    };
    this.draw = this.draw.bind(this);
    this.labelPoint = this.labelPoint.bind(this);
  }

  componentDidMount() {
    this.draw();
    this.labelPoint();
  }

  change(change) {
    this.setState(change, () => {
      this.draw();
      this.labelPoint();
    });
  }

  async draw() {
    const turn = (this.turn = (this.turn ?? 0) + 1);
    const { maker, version, against, other, scale, flags } = this.state;
    try {
      const map = await labelsOfMap(against === "maker" ? [maker, other] : [maker], flags, version);
      let grid = map(maker, scale);
      if (against !== "nothing") {
        const base =
          against === "maker"
            ? map(other, scale)
            : (
                await labelsOfMap(
                  [maker],
                  against === "flags" ? {} : flags,
                  against === "version" ? this.versions[0] : version,
                )
              )(maker, scale);
        grid = grid.map((row, r) => row.map((value, c) => value - base[r][c]));
      }
      if (turn === this.turn) this.setState({ grid, gridAgainst: against, error: null });
    } catch (error) {
      if (turn === this.turn) this.setState({ error });
    }
  }

  async labelPoint() {
    const turn = (this.pointTurn = (this.pointTurn ?? 0) + 1);
    const { watch, duration, flags, version } = this.state;
    if (!(duration > 0) || !(watch >= 0)) {
      this.setState({ point: null });
      return;
    }
    try {
      const reply = await preview(
        `label?labels=${this.props.active.labels.join(",")}`,
        { events: [exposure("e", watch, duration, flags)] },
        version,
      );
      if (turn === this.pointTurn) this.setState({ point: reply.labels[0] });
    } catch (error) {
      if (turn === this.pointTurn) this.setState({ error });
    }
  }

  render(
    { active },
    { maker, version, against, other, scale, flags, showLog, grid, gridAgainst, error, watch, duration, point },
  ) {
    const difference = gridAgainst !== "nothing";
    const most = grid && Math.max(0.05, ...grid.flat().map(Math.abs).filter(Number.isFinite));
    const limits = difference ? [-most, most] : [0, Math.min(1, Math.ceil(most * 10) / 10)];
    const missing = grid && grid.flat().every(Number.isNaN);
    const format = (v) =>
      scale === "percentile"
        ? difference
          ? `${signed(v * 100, 0)} %`
          : percent(v)
        : difference
          ? signed(v)
          : String(Number(v.toFixed(2)));
    const sign = {
      nothing: "",
      maker: ` minus ${other}`,
      version: ` minus that of ${this.versions[0]}`,
      flags: " minus the same without feedback",
    }[against];
    const title = `${scale === "percentile" ? "Percentile of " : ""}${maker}${sign}`;
    return html`<div class="columns three surface-view">
      <${Panel} title="Label">
        <${Choice} label="Label maker" value=${maker} options=${active.labels} onChange=${(v) => this.change({ maker: v })} />
        <${Choice} label="Version (in memory)" value=${version} options=${this.versions}
          onChange=${(v) => this.change({ version: v })} />
        ${this.versions.length < 2 && html`<p class="note">To see another version, start a shadow of it under Versions.</p>`}
        <fieldset><legend>Feedback beside the watch time</legend>${FLAGS.map(
          (f) => html`<label class="check">
          <input type="checkbox" name=${f} checked=${flags[f]}
            onChange=${(e) => this.change({ flags: { ...flags, [f]: e.currentTarget.checked } })} />${words(f)}</label>`,
        )}</fieldset>
        <fieldset><legend>Scale</legend>${["label", "percentile"].map(
          (s) => html`<label class="check">
          <input type="radio" name="scale" checked=${scale === s} onChange=${() => this.change({ scale: s })} />${s}</label>`,
        )}</fieldset>
        <${Choice} label="Difference from" value=${against} onChange=${(v) => this.change({ against: v })}
          options=${[["nothing", "nothing: the label itself"], ["flags", "the same without feedback"], ["maker", "another label maker"], ...(this.versions.length > 1 ? [["version", "the active version"]] : [])]} />
        ${against === "maker" && html`<${Choice} label="Other label maker" value=${other} options=${active.labels}
          onChange=${(v) => this.change({ other: v })} />`}
        <label class="check"><input type="checkbox" checked=${showLog} disabled=${!this.density}
          onChange=${(e) => this.setState({ showLog: e.currentTarget.checked })} />Show the training log</label>
      <//>
      <${Panel} title=${title}
        note="Lines: equal values. Dots: where the training log lies, as if watch ratio and duration were independent. Choose a place to see its event's labels.">
        ${error && html`<${Failure} error=${error} retry=${this.draw} />`}
        ${!grid && !error && html`<${Loading} what="the map" />`}
        ${missing && html`<p class="notice">This version has no percentiles. Choose “label” as the scale.</p>`}
        ${
          grid &&
          !missing &&
          html`<${Scale} limits=${limits} diverging=${difference} format=${format} />
          <${Map} grid=${grid} limits=${limits} diverging=${difference} density=${showLog && this.density}
            label=${`${title}, over duration and watch time`}
            format=${format} levels=${difference ? [-most / 2, 0, most / 2] : LEVELS} chosen=${{ watch, duration }}
            onChoose=${(d, w) => this.change({ duration: Number(d.toPrecision(3)), watch: Number(w.toPrecision(3)) })} />`
        }
      <//>
      <${Panel} title="Labels of one event">
        <div class="pair">
          ${[
            ["watch", "Watch time, s", watch],
            ["duration", "Duration, s", duration],
          ].map(
            ([name, text, value]) => html`<label class="field"><span>${text}</span>
            <input type="number" name=${name} min="0" step="any" value=${value}
              onChange=${(e) => this.change({ [name]: Number(e.currentTarget.value) })} /></label>`,
          )}
        </div>
        <p class="note">${seconds(watch)} of ${seconds(duration)}, ${percent(watch / duration)} watched${FLAGS.filter((f) => flags[f]).map((f) => `, ${words(f)}`)}.</p>
        ${!(duration > 0 && watch >= 0) && html`<p class="notice bad" role="alert">Enter a duration above 0 s and a watch time of 0 s or more.</p>`}
        ${
          point &&
          html`<${Table} label="Labels of the event" head=${["Label maker", " Label", " Percentile"]}>
          ${Object.entries(point.labels).map(
            ([name, value]) => html`<tr class=${name === maker ? "chosen" : ""}><th scope="row">
            <button type="button" class="link" onClick=${() => this.change({ maker: name })}>${name}</button></th>
            <td class="number">${value.toFixed(3)}</td><td class="number">${percent(point.percentiles?.[name])}</td></tr>`,
          )}
        <//>`
        }
      <//>
    </div>`;
  }
}
