// An event sent from the page: a real one, which is stored.

import { call } from "../api.js";
import { percent, words } from "../format.js";
import { Component, Failure, html, ReadOnly } from "../parts.js";
import { checkTime } from "../session.js";
import { FLAGS } from "./surface.js";

export class SendEvent extends Component {
  constructor(props) {
    super(props);
    this.state = { error: null, reply: null };
    this.send = this.send.bind(this);
  }

  async send(submit) {
    submit.preventDefault();
    const form = new FormData(submit.currentTarget);
    const event = {
      event_id: form.get("event_id") || `console-${crypto.randomUUID()}`,
      user_id: this.props.user,
      video_id: form.get("video_id"),
      timestamp_ms: Number(form.get("timestamp_ms")) || Date.now(),
      watch_time_s: Number(form.get("watch_time_s")),
    };
    for (const name of ["author_id", "tag"]) if (form.get(name)) event[name] = form.get(name);
    if (form.get("duration_s")) event.duration_s = Number(form.get("duration_s"));
    for (const flag of FLAGS) if (form.get(flag)) event[flag] = true;
    try {
      if (form.get("timestamp_ms")) checkTime(form.get("timestamp_ms"));
      const reply = await call("POST", "label", { events: [event] });
      this.setState({ reply, error: null });
      this.props.onSent();
    } catch (error) {
      const rejected = error.rejected?.[0];
      this.setState({ error: rejected ? Object.assign(error, { message: rejected.detail }) : error, reply: null });
    }
  }

  render({ rights }, { error, reply }) {
    const input = (name, label, more = {}) =>
      html`<label class="field"><span>${label}</span><input name=${name} autocomplete="off" dir="auto" ...${more} /></label>`;
    const label = reply?.labels[0];
    return html`<form class="panel" onSubmit=${this.send}>
      <header><h2>Send an event</h2></header>
      <p class="note">A real event: it is stored and changes the user's next slate.</p>
      ${input("video_id", "Video id", { required: true })}
      <div class="pair">${input("watch_time_s", "Watch time, s", { type: "number", step: "any", min: 0, required: true, value: "1.0" })}
        ${input("duration_s", "Duration, s", { type: "number", step: "any", min: 0, value: "24" })}</div>
      <div class="pair">${input("author_id", "Author id")}${input("tag", "Tag")}</div>
      <fieldset><legend>Feedback</legend>${FLAGS.map((f) => html`<label class="check"><input type="checkbox"
        name=${f} />${words(f)}</label>`)}</fieldset>
      <details><summary>Event id and time</summary>${input("event_id", "Event id", { placeholder: "a new one" })}${input("timestamp_ms", "Time, Unix ms", { placeholder: "now", inputmode: "numeric" })}</details>
      <p class="buttons"><button class="primary" type="submit" disabled=${!rights.includes("label")}>Send</button></p>
      <${ReadOnly} rights=${rights} right="label" to="send events" />
      ${error && html`<${Failure} error=${error} />`}
      ${
        label &&
        html`<p class="notice" role="status">${reply.duplicates ? "A duplicate: nothing changed." : reply.merged ? "Merged into its exposure." : "Stored."}${" "}
        Label <b>${label.label.toFixed(3)}</b>, above ${percent(label.percentile)} of the training log.</p>`
      }
    </form>`;
  }
}
