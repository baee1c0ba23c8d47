/** Completion of @names in the writing field: the people of the open conversation whose names begin with what follows the @. */

import { fill, h, typeInto } from "./dom.js";
import { fold } from "./names.js";
import { byPresence, firstOf, statusText } from "./people.js";
import { disc, safeLine } from "./safe_text.js";

const MAX_OFFERED = 6; // names at once: what is seen at a glance, a guess
const TYPED = /(?<![\p{L}\p{N}_])@([^\n@]{0,64})$/u; // before the caret; a name may have blanks

/** @typedef {import("./model.js").Person} Person */

export class NameCompletion {
  /** @param {import("./chat.js").Chat} chat @param {HTMLTextAreaElement} input @param {() => void} completed called after a name was put in */
  constructor(chat, input, completed) {
    this._chat = chat;
    this._input = input;
    this._completed = completed;
    /** @type {Person[]} */
    this._people = [];
    this._at = 0;
    this._typed = "";
    this._groupPeople = { key: "", people: /** @type {Person[]} */ ([]) };
    this.element = h("ul", { class: "names", id: "names", role: "listbox", "aria-label": "Names", hidden: true });
    input.setAttribute("aria-autocomplete", "list");
    input.setAttribute("aria-controls", "names");
    input.addEventListener("blur", () => this.close());
  }

  /** Offer names for what was typed before the caret, or close the list. */
  async update() {
    const typed = TYPED.exec(this._input.value.slice(0, this._input.selectionStart))?.[1] ?? null;
    if (typed === null) return this.close();
    const people = await this._present();
    const fitting = firstOf(people.filter(({ label }) => fold(label).startsWith(fold(typed))), MAX_OFFERED, byPresence);
    const isComplete = fitting.length === 1 && fitting[0].label === typed;
    const isLate = TYPED.exec(this._input.value.slice(0, this._input.selectionStart))?.[1] !== typed;
    if (!fitting.length || isComplete || isLate || document.activeElement !== this._input) return this.close();
    this._people = fitting;
    this._typed = typed;
    this._select(0);
  }

  close() {
    this._people = [];
    this.element.hidden = true;
    this._input.removeAttribute("aria-activedescendant");
  }

  /** @param {KeyboardEvent} event @returns {boolean} whether the key was for the list */
  key(event) {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const count = this._people.length;
    if (!count || event.shiftKey || event.ctrlKey || event.altKey) return false;
    if (step) this._select((this._at + step + count) % count);
    else if (event.key === "Enter" || event.key === "Tab") this._complete(this._people[this._at]);
    else if (event.key === "Escape") this.close();
    else return false;
    event.preventDefault();
    event.stopPropagation();
    return true;
  }

  // ---- inside

  /** @returns {Promise<Person[]>} the others who read the open conversation */
  async _present() {
    const { model } = this._chat;
    const talk = model.front;
    if (talk?.kind !== "group") return model.others.filter((person) => talk?.kind === "room" || person.id === talk?.userId);
    const key = `${talk.id} ${talk.memberCount}`;
    if (this._groupPeople.key !== key) {
      const rows = await this._chat.ask({ do: "members", to: talk.id }).catch(() => []); // offline: none are offered
      const people = rows.map((/** @type {any} */ row) => model.people.get(row.user_id)).filter((/** @type {any} */ person) => person && !person.me);
      this._groupPeople = { key: rows.length ? key : "", people };
    }
    return this._groupPeople.people;
  }

  /** @param {number} at */
  _select(at) {
    this._at = at;
    this.element.hidden = false;
    fill(this.element, this._people.map((person, index) => h("li", {
      class: "person-row", id: `name-${index}`, role: "option", "aria-selected": String(index === at),
      onpointerdown: (/** @type {Event} */ event) => event.preventDefault(), // the field keeps the focus
      onclick: () => this._complete(person),
    }, disc(person.id, person.label, person.status), h("bdi", {}, safeLine(person.label)), h("span", { class: "side-sub" }, statusText(person)))));
    this._input.setAttribute("aria-activedescendant", `name-${at}`);
  }

  /** @param {Person} person */
  _complete(person) {
    const caret = this._input.selectionStart;
    typeInto(this._input, `@${person.label} `, caret - this._typed.length - 1, caret);
    this.close();
    this._completed();
  }
}
