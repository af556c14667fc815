// What every view is made of.

import { Component, h, render } from "./vendor/preact.mjs";
import htm from "./vendor/htm.mjs";
import { short } from "./format.js";

export const html = htm.bind(h);
export { Component, render };

/** An id of a caller: of any length and direction, never markup. */
export const Id = ({ of, length = 24 }) => html`<bdi class="id" title=${of}>${short(of, length)}</bdi>`;

/** A failed call: what is wrong and what to do. */
export const Failure = ({ error, retry }) => html`
  <div class="notice bad" role="alert">
    <p><strong>${error.status ? `Refused (${error.status}). ` : ""}</strong>${short(error.message, 600)}</p>
    ${(error.errors ?? []).filter((e) => e.loc).map((e) => html`<p><code>${short(e.loc, 60)}</code></p>`)}
    ${retry && html`<button type="button" onClick=${retry}>Try again</button>`}
  </div>`;

export const Empty = ({ children }) => html`<div class="notice"><p>${children}</p></div>`;

export const Loading = ({ what }) => html`<div class="notice" role="status"><p>Loading ${what} …</p></div>`;

/** A part of a view with a heading. */
export const Panel = ({ title, note, tools, children, wide }) => html`
  <section class=${wide ? "panel wide" : "panel"}>
    <header><h2>${title}</h2>${tools}</header>
    ${note && html`<p class="note">${note}</p>`}
    ${children}
  </section>`;

/** Name and value, side by side. */
export const Facts = ({ of }) => html`
  <dl class="facts">${of.filter(([, value]) => value != null).map(([name, value]) => html`<div><dt>${name}</dt>
    <dd>${value}</dd></div>`)}</dl>`;

/** What each rule of a request did to its slate. */
export const Applied = ({ of }) =>
  of?.length > 0 &&
  html`
  <ul class="applied" aria-label="Rules">${of.map(({ rule, effect }) => html`<li>
    <b>${rule.replaceAll("_", " ")}</b>: ${short(effect, 200)}</li>`)}</ul>`;

/** A button that acts only with a right; without it it says which one is missing. */
export const Guarded = ({ rights, right, onClick, children, kind }) => {
  const allowed = rights.includes(right);
  return html`<button type="button" class=${kind} disabled=${!allowed} onClick=${onClick}
    title=${allowed ? undefined : `Needs a key with the right “${right}”.`}>${children}</button>`;
};

/** Says what cannot be done here, and why: a button that is off cannot be asked. */
export const ReadOnly = ({ rights, right, to }) =>
  !rights.includes(right) && html`<p class="note">To ${to} needs a key with the right “${right}” (top right).</p>`;

/** A select of names. */
export const Choice = ({ label, value, options, onChange }) => html`
  <label class="field"><span>${label}</span>
    <select value=${value} onChange=${(e) => onChange(e.currentTarget.value)}>
      ${options.map((o) => {
        const [name, text] = Array.isArray(o) ? o : [o, o];
        return html`<option value=${name} selected=${name === value}>${text}</option>`;
      })}
    </select></label>`;

/** Heads a column of bars, which repeat the number beside them and are left out on a narrow screen. */
export const BARS = "bars";

/** A table that scrolls within itself on a narrow screen. */
export const Table = ({ label, head, children }) => html`
  <div class="scroll" tabindex="0" role="region" aria-label=${label}>
    <table><thead><tr>${head.map((c) =>
      c === BARS
        ? html`<td class="wide-bar"></td>`
        : html`<th scope="col" class=${c.startsWith(" ") ? "number" : ""}>${c.trim()}</th>`,
    )}</tr></thead>
    <tbody>${children}</tbody></table>
  </div>`;

/** A component that loads something once it is shown: `state` is what came, `error` why it did not. */
export class Loader extends Component {
  constructor(props) {
    super(props);
    this.state = { value: null, error: null };
    this.load = this.load.bind(this);
  }

  componentDidMount() {
    this.load();
  }

  componentWillUnmount() {
    this.gone = true;
  }

  async load() {
    try {
      const value = await this.props.from();
      if (!this.gone) this.setState({ value, error: null });
    } catch (error) {
      if (!this.gone) this.setState({ error });
    }
  }

  render({ what, children }, { value, error }) {
    if (error) return html`<${Failure} error=${error} retry=${this.load} />`;
    if (value === null) return html`<${Loading} what=${what} />`;
    return children[0] ? children[0](value, this.load) : children(value, this.load);
  }
}
