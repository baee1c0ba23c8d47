/** Short notices that disappear by themselves: failed actions and warnings. */

import { fill, h, iconButton } from "./dom.js";
import { safeLine } from "./safe.js";

const SHOWN_FOR = 8000; // milliseconds

export class Notices {
  /** @param {import("./model.js").Model} model */
  constructor(model) {
    this.element = h("div", { class: "notices", role: "alert" });
    this._timer = 0;
    model.bus.on("notice", (text) => this.show(text));
  }

  /** @param {string} text */
  show(text) {
    clearTimeout(this._timer);
    fill(this.element, h("div", { class: "notice" }, h("span", {}, safeLine(text)), iconButton("close", "Close this notice", () => this.clear())));
    this._timer = setTimeout(() => this.clear(), SHOWN_FOR);
  }

  clear() {
    fill(this.element);
  }
}
