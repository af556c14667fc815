// The page: navigation, the key, the state of the service, and the view that is chosen.

import { call, key, Poll } from "./api.js";
import { Component, Failure, html, render } from "./parts.js";
import { Compare } from "./views/compare.js";
import { Health } from "./views/health.js";
import { SurfaceView } from "./views/surface.js";
import { User } from "./views/user.js";
import { Versions } from "./views/versions.js";
import { Why } from "./views/why.js";

const VIEWS = {
  why: ["Why this score", Why],
  compare: ["Before and after", Compare],
  label: ["Label surface", SurfaceView],
  user: ["User", User],
  versions: ["Versions", Versions],
  health: ["Health", Health],
};

const HEALTH_MS = 1000;
const TIMEOUT_MS = 2000;
const THEME = "reelrank.theme";

class Console extends Component {
  constructor(props) {
    super(props);
    this.state = { view: viewInAddress(), rights: [], health: null, healthError: null, keyOpen: false, turn: 0 };
    this.onAddress = () => this.setState({ view: viewInAddress() });
    this.askRights = this.askRights.bind(this);
    this.askHealth = this.askHealth.bind(this);
  }

  componentDidMount() {
    addEventListener("hashchange", this.onAddress);
    this.askRights();
    new Poll(this.askHealth, HEALTH_MS);
  }

  async askRights() {
    try {
      const { rights } = await call("GET", "v1/key");
      this.setState({ rights, keyOpen: false, turn: this.state.turn + 1 });
    } catch (error) {
      this.setState({ rights: [], keyOpen: error.status === 401 });
    }
  }

  /** Once a second, so that a store that dies is seen within two. */
  async askHealth() {
    try {
      const health = await call("GET", "health/ready", undefined, AbortSignal.timeout(TIMEOUT_MS));
      if (this.state.health && health.model_version !== this.state.health.model_version)
        this.setState({ turn: this.state.turn + 1 });
      this.setState({ health, healthError: null });
    } catch (healthError) {
      this.setState({ healthError });
    }
  }

  render(_, { view, rights, health, healthError, keyOpen, turn }) {
    const [title, View] = VIEWS[view];
    document.title = `${title} · reelrank`;
    return html`
      <a class="skip" href="#main" onClick=${(e) => {
        e.preventDefault();
        document.getElementById("main").focus();
      }}>To the content</a>
      <header class="top">
        <p class="brand">reelrank</p>
        <nav aria-label="Views">${Object.entries(VIEWS).map(
          ([name, [text]]) => html`
          <a href=${`#${name}`} aria-current=${name === view ? "page" : undefined}>${text}</a>`,
        )}</nav>
        <div class="status">
          <${Status} health=${health} error=${healthError} />
          <button type="button" onClick=${() => this.setState({ keyOpen: !keyOpen })} aria-expanded=${keyOpen}>Key</button>
          <button type="button" onClick=${switchTheme} title="Switch between light and dark">Theme</button>
        </div>
      </header>
      ${keyOpen && html`<${KeyForm} rights=${rights} onSet=${this.askRights} />`}
      ${health?.degraded.length > 0 && !healthError && html`<p class="notice bad bar" role="alert">
        <strong>Degraded: ${health.degraded.map((d) => MEANING[d] ?? d).join(" ")}</strong></p>`}
      ${healthError && html`<div class="bar"><${Failure} error=${healthError} /></div>`}
      <main id="main" tabindex="-1"><${View} key=${`${view} ${turn}`} rights=${rights} health=${health} /></main>`;
  }
}

const MEANING = {
  store:
    "the store does not answer. Slates are ranked without sequences, and events are refused (503) until it is back.",
  store_writes: "the last write to the store failed. Events are refused (503) until writes work again.",
  store_policy: "the store's configuration may lose events; see Store failures in the service's README.",
};

const Status = ({ health, error }) => {
  const [kind, text] = error
    ? ["bad", error.status ? "not ready" : "away"]
    : !health
      ? ["", "…"]
      : health.degraded.length
        ? ["warn", "degraded"]
        : ["good", "ready"];
  return html`<p class=${`state ${kind}`} role="status"><span class="dot" aria-hidden="true"></span>${text}
    ${health?.model_version && html` · <code>${health.model_version}</code>`}</p>`;
};

const KeyForm = ({ rights, onSet }) => html`
  <form class="bar key" onSubmit=${(e) => {
    e.preventDefault();
    key.set(new FormData(e.currentTarget).get("key").trim());
    onSet();
  }}>
    <label class="field"><span>API key</span><input type="password" name="key" autocomplete="off" value=${key.get()} /></label>
    <button type="submit" class="primary">Use</button>
    <p class="note">Kept until this tab closes. Rights: ${rights.length ? rights.join(", ") : "none yet; the service asks for a key"}.</p>
  </form>`;

function viewInAddress() {
  const name = location.hash.slice(1);
  return Object.hasOwn(VIEWS, name) ? name : Object.keys(VIEWS)[0];
}

function switchTheme() {
  const dark =
    getComputedStyle(document.documentElement).colorScheme === "dark" ||
    (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  setTheme(dark ? "light" : "dark");
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  if (theme) localStorage.setItem(THEME, theme);
}

setTheme(localStorage.getItem(THEME));
render(html`<${Console} />`, document.getElementById("console"));
