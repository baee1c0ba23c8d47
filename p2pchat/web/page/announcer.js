/** Announcements for screen readers: new messages of others, and nothing else. */

import { beginning, safeLine } from "./safe.js";

const MOST = 5; // sentences kept in the region

export class Announcer {
  /** @param {HTMLElement} region the only live region of the page @param {import("./model.js").Model} model */
  constructor(region, model) {
    this._region = region;
    this._model = model;
    model.bus.on("new", (detail) => this._announce(detail));
  }

  /** @param {{talk: import("./model.js").Talk, message: import("./model.js").Message}} detail */
  _announce({ talk, message }) {
    const who = safeLine(message.sender);
    const where = talk.id === this._model.frontId ? "" : talk.kind === "dm" ? " to you" : ` in ${safeLine(talk.name)}`;
    const sentence = document.createElement("p");
    sentence.textContent = message.action ? `${who} ${beginning(message.text, 300)}` : `${who}${where}: ${beginning(message.text, 300)}`;
    this._region.append(sentence);
    while (this._region.childElementCount > MOST) this._region.firstElementChild?.remove();
  }
}
