// Charts as SVG. Each has axes with units and a sentence for those who do not see it.

import { Component, html } from "./parts.js";
import { change, percent, seconds, short, significant } from "./format.js";

/** Gives its child the width there is, in pixels, so that text in a chart keeps its size. */
export class Sized extends Component {
  constructor(props) {
    super(props);
    this.state = { width: 0 };
    this.box = (node) => {
      this.observer?.disconnect();
      if (!node) return;
      this.observer = new ResizeObserver(([entry]) => {
        const width = Math.floor(entry.contentRect.width);
        if (width !== this.state.width) this.setState({ width });
      });
      this.observer.observe(node);
    };
  }

  render({ draw }, { width }) {
    return html`<div class="chart" ref=${this.box}>${width > 0 && draw(width)}</div>`;
  }
}

/** About `count` round values from `low` to `high`. */
export function ticks(low, high, count = 5) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((m) => m * power >= raw) * power;
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step / 1e6; value += step) found.push(value);
  return found;
}

const linear = (low, high, from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);

/** How long a candidate may be watched: the weights of the anchors, the quantiles, median and mean. */
export const Distribution = ({ anchors, p10, p50, p90, predicted, mean, duration }) => {
  const likely = anchors.filter((a) => a.weight > 0.004);
  const high = Math.max(p90, mean || 0, duration || 0, ...likely.map((a) => a.seconds)) * 1.06;
  const top = Math.max(...anchors.map((a) => a.weight)) * 1.1;
  const text =
    `Predicted watch time: 80 % between ${seconds(p10)} and ${seconds(p90)}, median ${seconds(p50)}` +
    (mean == null ? "" : `, mean ${seconds(mean)}`) +
    (duration == null ? "." : `; the video lasts ${seconds(duration)}.`);
  return html`<${Sized} draw=${(width) => {
    const height = 228,
      left = 44,
      x = linear(0, high, left, width - 10);
    // The names stand in rows above the bars, that of the leftmost mark on top, so that no line crosses a name.
    const marks = [
      [Math.abs(predicted - p50) > 0.05 ? predicted : null, "predicted", "of-predicted"],
      [p50, "median", "of-median"],
      [mean, "mean", "of-mean"],
      [duration, "video", "of-video"],
    ]
      .filter(([value]) => value != null && value <= high)
      .sort((a, b) => a[0] - b[0]);
    const over = 3 + 15 * marks.length,
      bottom = height - 34,
      y = linear(0, top, bottom, over);
    const mark = ([value, name, kind], row) => html`
      <line class=${`mark ${kind}`} x1=${x(value)} x2=${x(value)} y1=${6 + 15 * row} y2=${bottom} />
      <text class=${`mark-name ${kind}`} y=${15 + 15 * row} x=${x(value) + (x(value) > width - 120 ? -5 : 5)}
        text-anchor=${x(value) > width - 120 ? "end" : "start"}>${name} ${seconds(value)}</text>`;
    return html`<svg width=${width} height=${height} role="img" aria-label=${text}>
      <rect class="band" x=${x(p10)} width=${Math.max(1, x(Math.min(p90, high)) - x(p10))} y=${over} height=${bottom - over} />
      ${ticks(0, top, 3).map(
        (t) => html`<line class="grid" x1=${left} x2=${width - 10} y1=${y(t)} y2=${y(t)} />
        <text class="tick" x=${left - 6} y=${y(t) + 4} text-anchor="end">${percent(t)}</text>`,
      )}
      ${ticks(0, high, Math.max(3, width / 90)).map((t) => html`<text class="tick" x=${x(t)} y=${bottom + 14}
        text-anchor="middle">${significant(t, 2)}</text>`)}
      ${likely.map((a) => html`<rect class="stem" x=${x(a.seconds) - 3} width="6" y=${y(a.weight)}
        height=${bottom - y(a.weight)}><title>${seconds(a.seconds)}: ${percent(a.weight)}</title></rect>`)}
      <line class="axis" x1=${left} x2=${width - 10} y1=${bottom} y2=${bottom} />
      ${marks.map(mark)}
      <text class="tick" x=${(left + width) / 2} y=${height - 4}
        text-anchor="middle">watch time, s${width < 340 ? "" : " · bars: probability · shaded: p10 to p90"}</text>
    </svg>`;
  }} />`;
};

/** Parts of a whole as one bar with its legend. */
export const Shares = ({ of, label }) => {
  const text = of.map(([name, share]) => `${name} ${percent(share)}`).join(", ");
  return html`<div class="shares" role="img" aria-label=${`${label}: ${text}`}>
    <svg width="100%" height="16" preserveAspectRatio="none" viewBox="0 0 100 16">
      ${of.map(([, share], i) => html`<rect class=${`part-${i}`} x=${100 * of.slice(0, i).reduce((sum, [, s]) => sum + s, 0)}
        width=${100 * share} height="16" />`)}
    </svg>
    <ul class="legend" aria-hidden="true">${of.map(([name, share], i) => html`<li
      class=${`part-${i}`}>${name} <b>${percent(share)}</b></li>`)}</ul>
  </div>`;
};

/** A bar to the left or right of the middle: `value` of at most `most` in size. */
export const Diverging = ({ value, most }) => {
  const width = Math.min(50, (50 * Math.abs(value)) / (most || 1));
  return html`<svg class="diverging" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
    <rect class=${value < 0 ? "down" : "up"} x=${value < 0 ? 50 - width : 50} width=${width} y="1" height="8" />
    <line class="axis" x1="50" x2="50" y1="0" y2="10" /></svg>`;
};

/** A bar from the left: `value` of `most`. */
export const Bar = ({ value, most }) => html`
  <svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
    <rect class="up" width=${Math.max(0, (100 * value) / (most || 1))} y="1" height="8" /></svg>`;

/** The course of a figure, newest right. */
export const Course = ({ of, label, format, height = 56 }) =>
  html`<${Sized} draw=${(width) => {
    const high = Math.max(...of),
      points = of.map(
        (v, i) =>
          `${(width - 60) * (of.length < 2 ? 1 : i / (of.length - 1))},${height - 4 - (height - 12) * (v / (high || 1))}`,
      );
    return html`<svg width=${width} height=${height} role="img"
      aria-label=${`${label}, now ${format(of.at(-1))}, at most ${format(high)}`}>
    <line class="axis" x1="0" x2=${width - 60} y1=${height - 4} y2=${height - 4} />
    <polyline class="course" points=${points.join(" ")} />
    <text class="tick" x=${width - 54} y="12">${format(high)}</text><text class="tick" x=${width - 54} y=${height - 2}>0</text>
  </svg>`;
  }} />`;

/** Differences with their intervals over time, newest right: `[{at, value, interval}, …]`, shares. */
export const Intervals = ({ of, label }) => {
  if (!of.length) return html`<p class="note">There is no day yet on which both arms had users.</p>`;
  const last = of.at(-1);
  const text = `${label}: ${change(last.value)}, ${change(last.interval[0])} to ${change(last.interval[1])}, after ${of.length} looks`;
  return html`<${Sized} draw=${(width) => {
    const height = 150,
      left = 52,
      top = 8,
      bottom = height - 22;
    // Wide intervals of the first days are cut, so that the last ones can be read.
    const most = 1.6 * Math.max(0.005, ...last.interval.map(Math.abs));
    const x = linear(-0.5, of.length - 0.5, left, width - 8),
      y = linear(-most, most, bottom, top),
      cut = (value) => y(Math.max(-most, Math.min(most, value)));
    const names = Math.max(1, Math.ceil((of.length * 84) / (width - left)));
    return html`<svg width=${width} height=${height} role="img" aria-label=${text}>
      ${ticks(-most, most, 6).map(
        (t) => html`<line class=${Math.abs(t) < 1e-9 ? "axis" : "grid"} x1=${left} x2=${width - 8} y1=${y(t)} y2=${y(t)} />
        <text class="tick" x=${left - 6} y=${y(t) + 4} text-anchor="end">${change(t)}</text>`,
      )}
      ${of.map(
        ({ at, value, interval }, i) => html`<g><title>${new Date(at).toISOString().slice(0, 10)}: ${change(value)}, ${change(interval[0])} to ${change(interval[1])}</title>
        <rect class="interval" x=${x(i) - 5} width="10" y=${cut(interval[1])} height=${Math.max(1, cut(interval[0]) - cut(interval[1]))} />
        <circle class="stem" cx=${x(i)} cy=${cut(value)} r="3.5" /></g>
        ${(of.length - 1 - i) % names === 0 && html`<text class="tick" x=${x(i)} y=${height - 6} text-anchor="middle">${new Date(at).toISOString().slice(5, 10)}</text>`}`,
      )}
    </svg>`;
  }} />`;
};

const NAMED = 18; // characters of an id in a chart
const SPOKEN = 20; // videos of an order that is read out

/** How the order changes from one slate to another: a line for each video, ranks as on the page. */
export const Slopes = ({ before, after, chosen, onChoose }) =>
  html`<${Sized} draw=${(width) => {
    const rows = Math.max(before.length, after.length),
      row = 22,
      height = rows * row + 26;
    // As wide as the longest name, so that the lines have the rest.
    const longest = Math.max(...[...before, ...after].map((id) => short(id, NAMED).length)),
      side = Math.min(width * 0.36, 7 * longest + 36),
      x1 = side + 8,
      x2 = width - side - 36; // with room for how far each has moved
    const y = (rank) => 26 + rank * row + row / 2;
    const where = new Map(after.map((id, rank) => [id, rank]));
    const kind = (move) => (move === 0 ? "same" : move > 0 ? "rises" : "falls");
    const line = (id, rank) => {
      const to = where.get(id),
        move = to === undefined ? -1 : rank - to;
      return html`<path class=${`slope ${kind(move)} ${id === chosen ? "chosen" : ""}`}
      d=${`M${x1},${y(rank)} C${x1 + (x2 - x1) / 3},${y(rank)} ${x2 - (x2 - x1) / 3},${y(to ?? rows)} ${x2},${y(to ?? rows)}`} />`;
    };
    const entry = (id, rank, x, towards, anchor, move, moved) => html`<g><title>${id}</title>
    <text class="tick" x=${x} y=${y(rank) + 4} text-anchor=${anchor}>${rank + 1}</text>
    <text class=${`entry ${kind(move)} ${id === chosen ? "chosen" : ""}`} x=${x + 26 * towards} y=${y(rank) + 4}
      text-anchor=${anchor} onClick=${() => onChoose(id)}>${short(id, NAMED)}${moved}</text></g>`;
    const moveOf = (id, rank) => (before.includes(id) ? before.indexOf(id) - rank : 1);
    const moved = before.filter((id, rank) => where.get(id) !== rank).length;
    const order = after.slice(0, SPOKEN).map((id, rank) => {
      const move = moveOf(id, rank);
      return `${rank + 1}. ${id}${move ? (move > 0 ? ` up ${move}` : ` down ${-move}`) : ""}`;
    });
    return html`<svg width=${width} height=${height} role="img"
      aria-label=${`${moved} of ${before.length} videos change their rank. After: ${order.join(", ")}${after.length > SPOKEN ? " …" : "."}`}>
    <text class="tick" x=${x1 - 6} y="14" text-anchor="end">before</text><text class="tick" x=${x2 + 6} y="14">after</text>
    ${before.map(line)}
    ${before.map((id, rank) => entry(id, rank, x1 - 6, -1, "end", where.has(id) ? rank - where.get(id) : -1, ""))}
    ${after.map((id, rank) => {
      const move = moveOf(id, rank);
      return entry(id, rank, x2 + 6, 1, "start", move, move ? ` ${move > 0 ? "▲" : "▼"}${Math.abs(move)}` : "");
    })}
  </svg>`;
  }} />`;
