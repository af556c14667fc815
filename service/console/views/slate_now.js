// The slate of the candidates that were looked at last, now and before the last event.

import { preview } from "../api.js";
import { seconds, signed, significant } from "../format.js";
import { Component, Empty, Failure, html, Id, Panel, Table } from "../parts.js";
import { requestBody, session } from "../session.js";

export class SlateNow extends Component {
  constructor(props) {
    super(props);
    this.state = { now: null, before: null, error: null };
  }

  componentDidMount() {
    this.rank();
  }

  componentDidUpdate(last) {
    if (last.events !== this.props.events) this.rank();
  }

  async rank() {
    if (!session.candidates) return;
    try {
      const now = await preview("rerank", requestBody());
      this.setState({ before: this.state.now, now, error: null });
    } catch (error) {
      this.setState({ error });
    }
  }

  render(_, { now, before, error }) {
    if (error) return html`<${Failure} error=${error} />`;
    if (!now)
      return html`<${Empty}>The slate of the candidates that you rank under “Why this score” is shown here, before and after an event.<//>`;
    const old = new Map(before?.items.map((i) => [i.video_id, i]));
    return html`<${Panel} title="Slate"
      note=${before ? "Now, and how it was before the last event." : "Now. After an event it is compared with this one."}>
      <${Table} label="Slate" head=${[" #", "Video", " Score", " Change", " Watch time"]}>
        ${now.items.map((item) => {
          const was = old.get(item.video_id),
            move = was ? was.rank - item.rank : 0;
          return html`<tr key=${item.video_id}><td class="number">${item.rank}${move ? html` <span
            class=${move > 0 ? "key-rises" : "key-falls"}>${move > 0 ? "▲" : "▼"}${Math.abs(move)}</span>` : ""}</td>
            <th scope="row"><${Id} of=${item.video_id} length=${16} /></th>
            <td class="number">${significant(item.score)}</td>
            <td class="number">${was ? `${signed(100 * (item.score / was.score - 1), 1)} %` : "–"}</td>
            <td class="number">${seconds(item.watch_time_s)}</td></tr>`;
        })}
      <//><//>`;
  }
}
