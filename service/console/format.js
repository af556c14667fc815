// Numbers, times and names as they are shown. A number has its unit, and no more digits than mean something.

const NONE = "–";

/** Seconds: `0.4 s`, `12.3 s`, `2 min 05 s`. */
export function seconds(value) {
  if (!Number.isFinite(value)) return NONE;
  if (Math.abs(value) < 100) return `${minus(value.toFixed(1))} s`;
  const whole = Math.round(Math.abs(value));
  return `${value < 0 ? "−" : ""}${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
}

/** A duration in the unit that suits it, from microseconds on. */
export function latency(value) {
  if (!Number.isFinite(value)) return NONE;
  if (value < 1) return `${significant(value * 1e3, 2)} ms`;
  return `${significant(value, 2)} s`;
}

/** A share: `12.3 %`, `0.04 %`. */
export function percent(value, digits) {
  if (!Number.isFinite(value)) return NONE;
  const scaled = value * 100;
  const places = digits ?? (Math.abs(scaled) >= 10 || scaled === 0 ? 0 : Math.abs(scaled) >= 1 ? 1 : 2);
  return `${minus(scaled.toFixed(places))} %`;
}

/** A change: `+12 %`. */
export const change = (value) => (value > 0 ? "+" : "") + percent(value);

/** A plain number with so many significant digits. */
export function significant(value, digits = 3) {
  if (!Number.isFinite(value)) return NONE;
  if (value === 0) return "0";
  const places = Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(value))));
  return minus(value.toFixed(Math.min(places, 8)));
}

/** A signed number with so many places. */
export const signed = (value, places = 2) =>
  Number.isFinite(value) ? (value > 0 ? "+" : "") + minus(value.toFixed(places)) : NONE;

/** A count with thin spaces: `177 229`. */
export const count = (value) =>
  Number.isFinite(value) ? String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, "\u202f") : NONE;

/** A moment of the user's clock, to the second. */
export function moment(ms) {
  if (!Number.isFinite(ms)) return NONE;
  const date = new Date(ms);
  return Number.isNaN(date.valueOf()) ? NONE : `${date.toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** How long ago: `3 min`, `2 d`. */
export function age(ms, now = Date.now()) {
  const s = Math.max(0, (now - ms) / 1000);
  for (const [unit, size] of [
    ["d", 86400],
    ["h", 3600],
    ["min", 60],
  ]) {
    if (s >= size) return `${Math.floor(s / size)} ${unit}`;
  }
  return `${Math.floor(s)} s`;
}

/** `watch_time_s` as it is read: `watch time, s`. */
export const words = (name) => name.replace(/_s$/, ", s").replaceAll("_", " ");

/** A text of any length, shortened in the middle. Whoever shows it gives the whole as title. */
export function short(text, length = 32) {
  const characters = [...String(text)];
  if (characters.length <= length) return String(text);
  const half = Math.floor((length - 1) / 2);
  return `${characters.slice(0, half).join("")}…${characters.slice(-half).join("")}`;
}

function minus(text) {
  return text.replace("-", "−");
}
