// Forgetting a user: asks for the id again, because it cannot be undone.

import { call, userPath } from "../api.js";
import { Component, Failure, html, Panel, ReadOnly } from "../parts.js";

export class Forget extends Component {
  constructor(props) {
    super(props);
    this.state = { typed: "", error: null, done: null };
    this.forget = this.forget.bind(this);
  }

  async forget(submit) {
    submit.preventDefault();
    try {
      const { known } = await call("DELETE", userPath(this.props.user));
      this.setState({
        done: known ? "Forgotten." : "Nothing was held; the id is in the ledger.",
        typed: "",
        error: null,
      });
      this.props.onForgotten();
    } catch (error) {
      this.setState({ error });
    }
  }

  render({ rights, user }, { typed, error, done }) {
    const allowed = rights.includes("admin");
    return html`<${Panel} title="Forget"
      note="Removes the sequence, profile and history at once, and adds the id to the unlearning ledger, so that training leaves the user out. It cannot be undone.">
      <form class="key" onSubmit=${this.forget}>
        <label class="field"><span>The user id again</span><input value=${typed} dir="auto" name="forget" autocomplete="off"
          disabled=${!allowed} onInput=${(e) => this.setState({ typed: e.currentTarget.value })} /></label>
        <button type="submit" class="danger" disabled=${!allowed || typed !== user}>Forget this user</button>
      </form>
      <${ReadOnly} rights=${rights} right="admin" to="forget a user" />
      ${error && html`<${Failure} error=${error} />`}
      ${done && html`<p class="notice" role="status">${done}</p>`}
    <//>`;
  }
}
