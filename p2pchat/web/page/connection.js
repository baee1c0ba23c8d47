/** The bar shown while there is no connection to the gateway. */

import { fill, h } from "./dom.js";

const GRACE = 700; // milliseconds; shorter interruptions are not shown

export class ConnectionBar {
  /** @param {import("./chat.js").Chat} chat */
  constructor(chat) {
    this._chat = chat;
    this._timer = 0;
    this.element = h("div", { class: "connection", hidden: true });
    chat.model.bus.on("state", () => this._draw());
    setInterval(() => this._shown() && this._draw(), 1000);
  }

  _shown() {
    return !this.element.hidden;
  }

  _draw() {
    const state = this._chat.model.state;
    clearTimeout(this._timer);
    if (state === "open" || state === "closed") {
      this.element.hidden = true;
      return;
    }
    if (!this._shown()) {
      this._timer = setTimeout(() => this._show(), GRACE);
      return;
    }
    this._show();
  }

  _show() {
    const { wire } = this._chat;
    if (wire.state === "open" || wire.state === "closed") return;
    const seconds = Math.max(0, Math.ceil((wire.retryAt - Date.now()) / 1000));
    const said = wire.state === "connecting" ? "Connecting… Messages you write are sent then." : `Offline. Reconnecting ${seconds > 1 ? `in ${seconds} s` : "now"}; messages you write are sent then.`;
    this.element.hidden = false;
    fill(this.element,
      h("span", {}, said),
      wire.state === "waiting" && h("button", { type: "button", onclick: () => wire.retry() }, "Try now"),
    );
  }
}
