/** What stands at the head of the open conversation, below its header: a press goes to that message, and shows the next one. */

import { fill, h, icon, iconButton } from "./dom.js";
import { gist } from "./message.js";
import { safeLine } from "./safe_text.js";
import { onButton } from "./said.js";

const MAX_SHOWN = 100; // characters of a message that are shown

export class Head {
  /** @param {import("./chat.js").Chat} chat @param {import("./layout.js").Layout} layout @param {string} event @param {import("./said.js").Row} row */
  constructor(chat, layout, event, row) {
    this._chat = chat;
    this._layout = layout;
    this._event = event;
    this._row = row;
    this._at = 0;
    this.element = h("section", { class: "head-bar", "aria-label": `${onButton(event)} messages`, hidden: true });
    chat.model.bus.on("front", () => ((this._at = 0), this._draw()));
    chat.model.bus.on("head", () => this._draw());
  }

  _draw() {
    const { model } = this._chat;
    const { list, toggle, icon: name = "info" } = this._row;
    const all = (model.front?.heads[list] ?? []).filter((one) => !model.ignores(one.senderId));
    this._at = all.length ? this._at % all.length : 0;
    const shown = all[this._at];
    this.element.hidden = !shown;
    if (!shown) return fill(this.element);
    const had = document.activeElement?.closest(".head-bar") === this.element;
    const who = shown.mine ? "You" : safeLine(model.labelOf(shown.senderId, shown.sender));
    const number = all.length > 1 ? ` ${this._at + 1}/${all.length}` : "";
    const go = h("button", { type: "button", class: "head-go", onclick: () => this._jump(shown.id) },
      icon(name), h("span", { class: "unseen" }, `Go to the ${this._event} message`), h("b", {}, h("bdi", {}, who)), h("span", { class: "head-text", dir: "auto" }, gist(shown, MAX_SHOWN)), number && h("small", {}, number));
    fill(this.element, go, model.front?.member && toggle && iconButton("close", onButton(toggle[1]), () => this._layout.notifyFailure(this._chat.toggle(shown, this._row))));
    if (had) go.focus();
  }

  /** @param {string} id */
  _jump(id) {
    this._at += 1;
    this._draw();
    this._layout.notifyFailure(this._layout.timeline.jump(id));
  }
}
