/** Sentences that come up and go: what could not be done, and what a person should know. */

import { fill, h, iconButton } from "./dom.js";
import { safeLine } from "./safe.js";

const SHOWN_FOR = 8000; // milliseconds

export class Notices {
  /** @param {import("./model.js").Model} model */
  constructor(model) {
    this.element = h("div", { class: "notices", role: "alert" });
    this._timer = 0;
    model.bus.on("notice", (text) => this.say(text));
  }

  /** @param {string} text */
  say(text) {
    clearTimeout(this._timer);
    fill(this.element, h("div", { class: "notice" }, h("span", {}, safeLine(text)), iconButton("close", "Close this notice", () => this.clear())));
    this._timer = setTimeout(() => this.clear(), SHOWN_FOR);
  }

  clear() {
    fill(this.element);
  }
}
