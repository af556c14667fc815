// A function of duration and watch time as a heat map: log axes, iso-lines, and where the training log lies.

import { Sized } from "./charts.js";
import { html } from "./parts.js";
import { seconds } from "./format.js";

export const COLUMNS = 30;
export const ROWS = 28;
const DURATION_S = [4, 500];
const WATCH_S = [0.5, 1000];
const TICKS = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];

const at = ([low, high], share) => low * (high / low) ** share;
const shareOf = ([low, high], value) => Math.log(value / low) / Math.log(high / low);

/** Middle of a column, seconds. */
export const durationOf = (column) => at(DURATION_S, (column + 0.5) / COLUMNS);
/** Middle of a row, seconds; row 0 is the lowest. */
export const watchOf = (row) => at(WATCH_S, (row + 0.5) / ROWS);

// Cividis: even steps of lightness for people with and without colour blindness.
const SEQUENTIAL = [
  [0, 32, 76],
  [42, 63, 108],
  [87, 92, 109],
  [124, 123, 120],
  [165, 155, 115],
  [211, 191, 94],
  [255, 234, 70],
];
const DIVERGING = [
  [0, 84, 147],
  [76, 147, 196],
  [166, 204, 228],
  [240, 240, 238],
  [246, 190, 146],
  [219, 124, 58],
  [158, 60, 0],
];

/** Colour of a share of a scale, 0 to 1. */
export function colour(share, diverging) {
  const stops = diverging ? DIVERGING : SEQUENTIAL;
  const place = Math.min(1, Math.max(0, share)) * (stops.length - 1),
    low = Math.min(Math.floor(place), stops.length - 2);
  const mix = stops[low].map((x, i) => Math.round(x + (place - low) * (stops[low + 1][i] - x)));
  return `rgb(${mix.join(",")})`;
}

/** Segments of the iso-line of a level over a grid of rows, in units of cells (marching squares). */
export function isoLine(grid, level) {
  const segments = [];
  for (let r = 0; r + 1 < grid.length; r++) {
    for (let c = 0; c + 1 < grid[r].length; c++) {
      const corners = [
        [r, c],
        [r, c + 1],
        [r + 1, c + 1],
        [r + 1, c],
      ];
      const crossings = corners.flatMap(([r1, c1], i) => {
        const [r2, c2] = corners[(i + 1) % 4],
          a = grid[r1][c1] - level,
          b = grid[r2][c2] - level;
        if (a >= 0 === b >= 0) return [];
        const t = a / (a - b);
        return [[c1 + t * (c2 - c1) + 0.5, r1 + t * (r2 - r1) + 0.5]];
      });
      for (let i = 0; i + 1 < crossings.length; i += 2) segments.push([crossings[i], crossings[i + 1]]);
    }
  }
  return segments;
}

/** Share of a histogram per unit of the logarithm at a value; 0 beyond its outer edges. */
function logDensity({ edges, shares }, value) {
  const bin = edges.findLastIndex((edge) => value >= edge);
  if (bin < 0 || bin + 1 >= edges.length) return 0;
  const low = Math.max(edges[bin], edges[bin + 1] / 20);
  return shares[bin + 1] / Math.log(edges[bin + 1] / low);
}

/** Where the training log lies, 0 to 1, as if watch ratio and duration were independent; null without histograms. */
export function trainingDensity(reference) {
  const duration = reference["event.duration_s"],
    ratio = reference["event.watch_ratio"];
  if (!duration || !ratio) return null;
  const grid = Array.from({ length: ROWS }, (_, r) =>
    Array.from(
      { length: COLUMNS },
      (_, c) => logDensity(duration, durationOf(c)) * logDensity(ratio, watchOf(r) / durationOf(c)),
    ),
  );
  const most = Math.max(...grid.flat()) || 1;
  return grid.map((row) => row.map((x) => x / most));
}

/** The heat map.
 *
 * grid: value of each cell, row 0 the shortest watch; limits: of the scale; density: see trainingDensity.
 */
export const Surface = ({ grid, limits, diverging, levels, density, chosen, onChoose, label, format }) =>
  html`<${Sized} draw=${(width) => {
    const left = 46,
      top = 8,
      right = width - 18,
      bottom = top + Math.min(520, (right - left) * 0.82),
      height = bottom + 38;
    const w = (right - left) / COLUMNS,
      h = (bottom - top) / ROWS;
    const x = (duration) => left + (right - left) * shareOf(DURATION_S, duration);
    const y = (watch) => bottom - (bottom - top) * shareOf(WATCH_S, watch);
    const share = (value) => (value - limits[0]) / (limits[1] - limits[0] || 1);
    const choose = (event) => {
      const box = event.currentTarget.getBoundingClientRect();
      const cx = (event.clientX - box.left - left) / (right - left),
        cy = (bottom - (event.clientY - box.top)) / (bottom - top);
      if (cx >= 0 && cx <= 1 && cy >= 0 && cy <= 1) onChoose(at(DURATION_S, cx), at(WATCH_S, cy));
    };
    return html`<svg class=${diverging ? "surface diverging-map" : "surface"} width=${width} height=${height} role="img"
      aria-label=${label} onClick=${choose}>
    ${grid.map((row, r) => row.map((value, c) => html`<rect x=${left + c * w} y=${bottom - (r + 1) * h} width=${w + 0.6}
      height=${h + 0.6} fill=${colour(share(value), diverging)} />`))}
    ${density && density.map((row, r) => row.map((d, c) => d > 0.02 && html`<circle class="density"
      cx=${left + (c + 0.5) * w} cy=${bottom - (r + 0.5) * h} r=${Math.sqrt(d) * Math.min(w, h) * 0.42} />`))}
    ${levels.map((level) => {
      const line = isoLine(grid, level).map((ends) => ends.map(([c, r]) => [left + c * w, bottom - r * h]));
      const [[tx, ty]] = line[Math.floor(line.length / 3)] ?? [[0, 0]];
      return (
        line.length > 0 &&
        html`<path class="iso" d=${line.map(([a, b]) => `M${a}L${b}`).join("")} />
        <text class="on-map" x=${Math.min(tx + 3, right - 26)} y=${ty - 4}>${format(level)}</text>`
      );
    })}
    <line class="diagonal" x1=${x(DURATION_S[0])} y1=${y(DURATION_S[0])} x2=${x(DURATION_S[1])} y2=${y(DURATION_S[1])} />
    <text class="on-map" x=${x(130) - 6} y=${y(150) - 6} text-anchor="end">watched to the end</text>
    ${TICKS.filter((t) => t >= DURATION_S[0] && t <= DURATION_S[1]).map((t) => html`<text class="tick" x=${x(t)}
      y=${bottom + 15} text-anchor="middle">${t}</text>`)}
    ${TICKS.filter((t) => t >= WATCH_S[0] && t <= WATCH_S[1]).map((t) => html`<text class="tick" x=${left - 5} y=${y(t) + 4}
      text-anchor="end">${t}</text>`)}
    <text class="tick" x=${(left + right) / 2} y=${height - 6} text-anchor="middle">duration of the video, s (log)</text>
    <text class="tick" transform=${`translate(11,${(top + bottom) / 2}) rotate(-90)`} text-anchor="middle">watch time, s (log)</text>
    ${chosen && html`<circle class="chosen-event" cx=${x(chosen.duration)} cy=${y(Math.max(chosen.watch, WATCH_S[0]))} r="6">
      <title>${seconds(chosen.watch)} of ${seconds(chosen.duration)}</title></circle>`}
  </svg>`;
  }} />`;

/** The colours of a scale with its ends. */
export const Scale = ({ limits, diverging, format }) => html`<div class="scale" aria-hidden="true">
  <span>${format(limits[0])}</span>
  <svg viewBox="0 0 60 10" preserveAspectRatio="none">${Array.from({ length: 60 }, (_, i) => html`<rect x=${i} width="1.2"
    height="10" fill=${colour((i + 0.5) / 60, diverging)} />`)}</svg>
  <span>${format(limits[1])}</span></div>`;
