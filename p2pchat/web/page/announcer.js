/** What a screen reader says by itself: new lines of others, and nothing else of the page. */

import { beginning, safeLine } from "./safe.js";

const MOST = 5; // sentences kept; older ones were said long ago

export class Announcer {
  /** @param {HTMLElement} region the page's one live region @param {import("./model.js").Model} model */
  constructor(region, model) {
    this._region = region;
    this._model = model;
    model.bus.on("new", (detail) => this._say(detail));
  }

  /** @param {{talk: import("./model.js").Talk, message: import("./model.js").Message}} detail */
  _say({ talk, message }) {
    const who = safeLine(message.sender);
    const where = talk.id === this._model.frontId ? "" : talk.kind === "dm" ? " to you" : ` in ${safeLine(talk.name)}`;
    const sentence = document.createElement("p");
    sentence.textContent = message.action ? `${who} ${beginning(message.text, 300)}` : `${who}${where}: ${beginning(message.text, 300)}`;
    this._region.append(sentence);
    while (this._region.childElementCount > MOST) this._region.firstElementChild?.remove();
  }
}
