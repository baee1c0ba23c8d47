/** What stands at the head of the open conversation, below its header: a press goes to that message, the next one to the next. */

import { confirm } from "./dialog.js";
import { fill, h, icon, iconButton } from "./dom.js";
import { gist, sayers, showMessage } from "./message.js";
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
    this._goneTo = ""; // the id of the message that the last press went to
    this.element = h("section", { class: "head-bar", "aria-label": `${onButton(event)} messages`, hidden: true });
    chat.model.bus.on("front", () => ((this._at = 0), (this._goneTo = ""), this._draw()));
    for (const topic of ["head", "people"]) chat.model.bus.on(topic, () => this._draw());
  }

  /** @returns {import("./model.js").Message[]} */
  get _all() {
    const { model } = this._chat;
    return (model.front?.heads[this._row.list] ?? []).filter((one) => !model.ignores(one.senderId) && sayers(one, this._row, model).length);
  }

  _draw() {
    const { model } = this._chat;
    const { toggle, icon: name = "info" } = this._row;
    const all = this._all;
    this._at = all.length ? this._at % all.length : 0;
    const shown = all[this._at];
    this.element.hidden = !shown;
    if (!shown) return fill(this.element);
    const had = document.activeElement?.closest(".head-bar") === this.element;
    const who = shown.mine ? "You" : safeLine(model.labelOf(shown.senderId, shown.sender));
    const number = all.length > 1 ? ` ${this._at + 1}/${all.length}` : "";
    const go = h("button", { type: "button", class: "head-go", onclick: () => this._go() },
      icon(name), h("span", { class: "unseen" }, `Go to the ${this._event} message`), h("b", {}, h("bdi", {}, who)), h("span", { class: "head-text", dir: "auto" }, gist(shown, MAX_SHOWN)), number && h("small", {}, number));
    fill(this.element, go, model.front?.member && toggle && iconButton("close", onButton(toggle[1]), () => this._ask(shown, toggle[1])));
    if (had) go.focus();
  }

  /** Go to the message that is shown, or from there to the next one. What is too far up is shown by itself. */
  async _go() {
    if (this._all[this._at]?.id === this._goneTo) this._at += 1;
    this._draw();
    const shown = this._all[this._at];
    if (!shown) return;
    this._goneTo = shown.id;
    if ((await this._layout.timeline.jump(shown.id, true)) === false) showMessage(this._chat.model, shown);
  }

  /** @param {import("./model.js").Message} message @param {string} word */
  async _ask(message, word) {
    const said = [h("blockquote", { dir: "auto" }, gist(message, MAX_SHOWN)), h("p", {}, "It is so for everyone here.")];
    if (await confirm(`${onButton(word)} this message?`, said, onButton(word))) this._layout.notifyFailure(this._chat.toggle(message, this._row));
  }
}
