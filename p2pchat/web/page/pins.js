/** What is pinned in the open conversation, below its header: a press goes to that message, and shows the next one. */

import { fill, h, icon, iconButton } from "./dom.js";
import { gist } from "./message.js";
import { safeLine } from "./safe_text.js";

const MAX_PINNED = 100; // characters of a message that are shown

export class Pins {
  /** @param {import("./chat.js").Chat} chat @param {import("./layout.js").Layout} layout */
  constructor(chat, layout) {
    this._chat = chat;
    this._layout = layout;
    this._at = 0;
    this.element = h("section", { class: "pins", "aria-label": "Pinned messages", hidden: true });
    chat.model.bus.on("front", () => ((this._at = 0), this._draw()));
    chat.model.bus.on("pins", () => this._draw());
  }

  _draw() {
    const { model } = this._chat;
    const pins = (model.front?.pins ?? []).filter((one) => !model.ignores(one.senderId));
    this._at = pins.length ? this._at % pins.length : 0;
    const pin = pins[this._at];
    this.element.hidden = !pin;
    if (!pin) return fill(this.element);
    const had = document.activeElement?.closest(".pins") === this.element;
    const who = pin.mine ? "You" : safeLine(model.labelOf(pin.senderId, pin.sender));
    const number = pins.length > 1 ? ` ${this._at + 1}/${pins.length}` : "";
    const go = h("button", { type: "button", class: "pin", onclick: () => this._jump(pin.id) },
      icon("pin"), h("span", { class: "unseen" }, "Go to the pinned message"), h("b", {}, h("bdi", {}, who)), h("span", { class: "pin-text", dir: "auto" }, gist(pin, MAX_PINNED)), number && h("small", {}, number));
    fill(this.element, go, model.front?.member && iconButton("close", "Unpin", () => this._layout.notifyFailure(this._chat.pin(pin))));
    if (had) go.focus();
  }

  /** @param {string} id */
  _jump(id) {
    this._at += 1;
    this._draw();
    this._layout.notifyFailure(this._layout.timeline.jump(id));
  }
}
