/** Typing indicators of the open conversation. */

import { h } from "./dom.js";
import { safeLine } from "./safe.js";

const MOST_NAMED = 3;

export class TypingLine {
  /** @param {import("./model.js").Model} model */
  constructor(model) {
    this._model = model;
    this.element = h("p", { class: "typing" });
    for (const topic of ["typing", "front", "talk"]) model.bus.on(topic, () => this._draw());
    setInterval(() => this._draw(), 1000);
  }

  _draw() {
    const typing = this._model.front?.typing ?? new Map();
    for (const [id, { until }] of typing) if (until < Date.now()) typing.delete(id);
    const names = [...typing].filter(([id]) => !this._model.ignores(id)).map(([, { label }]) => safeLine(label));
    const said = names.length > MOST_NAMED ? "Several people are typing…" : names.length ? `${names.join(", ")} ${names.length > 1 ? "are" : "is"} typing…` : "";
    if (this.element.textContent !== said) this.element.textContent = said;
  }
}
