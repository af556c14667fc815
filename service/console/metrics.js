// Prometheus text as samples, and figures over the time between two readings of it.

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** Samples by name: `[{labels, value}, …]`. */
export function parse(text) {
  const samples = new Map();
  for (const line of text.split("\n")) {
    const match = line.startsWith("#") ? null : LINE.exec(line);
    if (!match) continue;
    const [, name, inner = "", value] = match;
    const labels = Object.fromEntries(
      [...inner.matchAll(LABEL)].map(([, k, v]) => [k, v.replace(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c))]),
    );
    if (!samples.has(name)) samples.set(name, []);
    samples.get(name).push({ labels, value: Number(value) });
  }
  return samples;
}

/** Two readings and what happened between them. */
export class Window {
  constructor(first, last, seconds) {
    this.first = first;
    this.last = last;
    this.seconds = seconds;
  }

  /** Sums of a counter's increase by the values of a label. */
  by(name, label, where = {}) {
    const sums = new Map();
    const before = new Map((this.first?.get(name) ?? []).map((s) => [JSON.stringify(s.labels), s.value]));
    for (const { labels, value } of this.last.get(name) ?? []) {
      if (Object.entries(where).some(([k, v]) => labels[k] !== v)) continue;
      const added = value - (before.get(JSON.stringify(labels)) ?? 0);
      sums.set(labels[label], (sums.get(labels[label]) ?? 0) + Math.max(0, added));
    }
    return sums;
  }

  /** Quantile of a histogram between the readings, interpolated within its bucket; NaN without values. */
  quantile(name, where, q) {
    const buckets = [...this.by(`${name}_bucket`, "le", where)]
      .map(([le, n]) => [le === "+Inf" ? Infinity : Number(le), n])
      .sort((a, b) => a[0] - b[0]);
    const total = buckets.at(-1)?.[1] ?? 0;
    if (!total) return NaN;
    let low = 0,
      below = 0;
    for (const [high, upTo] of buckets) {
      if (upTo >= q * total)
        return high === Infinity ? low : low + ((high - low) * (q * total - below)) / (upTo - below || 1);
      [low, below] = [high, upTo];
    }
    return NaN;
  }
}

/** Values of a gauge by a label. */
export const gauge = (samples, name, label) =>
  new Map((samples.get(name) ?? []).map((s) => [s.labels[label], s.value]));

/** The one value of a metric without labels. */
export const single = (samples, name) => samples.get(name)?.[0].value ?? NaN;
