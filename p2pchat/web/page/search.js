/** Message search, in the open conversation or in all of them. Selecting a result shows it in its conversation. */

import { fileNames } from "./attachments.js";
import { fill, h, iconButton } from "./dom.js";
import { unpressed } from "./rows.js";
import { highlight, safeLine } from "./safe_text.js";
import { when } from "./times.js";

const WAIT = 250; // milliseconds after the last key

export class SearchPanel {
  /** @param {import("./chat.js").Chat} chat @param {import("./layout.js").Layout} layout */
  constructor(chat, layout) {
    this._chat = chat;
    this._layout = layout;
    this._searches = 0;
    this._input = h("input", { type: "search", id: "search", autocomplete: "off", autocapitalize: "none", "aria-label": "Search messages", placeholder: "Words, \"an exact phrase\", or from:name", oninput: () => this._searchSoon() });
    this._everywhere = h("input", { type: "checkbox", id: "search-everywhere", onchange: () => this._search() });
    this._found = h("div", { class: "found-list" });
    this._count = h("p", { class: "hint" });
    this.element = h("section", { class: "search", hidden: true, "aria-label": "Search", onkeydown: (/** @type {KeyboardEvent} */ event) => event.key === "Escape" && (event.stopPropagation(), this.close(), layout.compose.focus()) },
      h("form", { class: "row", role: "search", onsubmit: (/** @type {Event} */ event) => (event.preventDefault(), this._search()) }, this._input, iconButton("close", "Close search", () => (this.close(), layout.compose.focus()))),
      h("label", { class: "check" }, this._everywhere, " In all conversations"),
      this._count, this._found,
    );
  }

  /** @param {string} words @param {boolean} everywhere */
  open(words, everywhere) {
    this.element.hidden = false;
    this._everywhere.checked = everywhere;
    if (words) this._input.value = words;
    this._input.focus();
    this._input.select();
    this._search();
  }

  /** Close it; the next search begins empty. */
  close() {
    this.element.hidden = true;
    this._input.value = "";
    clearTimeout(this._timer);
    this._search();
  }

  _searchSoon() {
    clearTimeout(this._timer);
    this._timer = setTimeout(() => this._search(), WAIT);
  }

  async _search() {
    const words = this._input.value.trim();
    const search = (this._searches += 1);
    if (!words) {
      this._count.textContent = "";
      fill(this._found);
      return;
    }
    let rows = [];
    let said = "";
    try {
      rows = await this._chat.search(words, this._everywhere.checked ? "" : this._chat.model.front?.id);
      said = rows.length === 0 ? noMatches(words) : rows.length >= 50 ? "Latest 50 messages" : rows.length === 1 ? "1 message" : `${rows.length} messages`;
    } catch (error) {
      said = /** @type {Error} */ (error).message;
    }
    unpressed(() => {
      if (search !== this._searches) return;
      this._count.textContent = said;
      fill(this._found, h("ul", { class: "plain" }, rows.reverse().filter((row) => !this._chat.model.ignores(row.sender_id)).map((row) => this._row(row))));
    });
  }

  /** @param {any} row */
  _row(row) {
    const where = row.kind === "room" ? "Room" : row.kind === "group" ? `#${safeLine(row.conversation)}` : `with ${safeLine(row.conversation)}`;
    return h("li", {}, h("button", { type: "button", class: "found-row", onclick: () => this._openResult(row) },
      h("span", { class: "found-head" }, h("bdi", {}, safeLine(row.sender)), ` · ${where} · ${when(row.sent_at)}`),
      h("span", { class: "found-text", dir: "auto" }, row.deleted ? "deleted" : [highlight(row.text, row.found ?? []), " ", fileNames({ files: row.files ?? [] })])));
  }

  /** @param {any} row */
  async _openResult(row) {
    const talk = this._chat.events.talkOf(row);
    if (!this._layout.isWide) this.element.hidden = true; // opened again, it offers the other results
    if (talk.id !== this._chat.model.frontId) await this._chat.open(talk);
    this._layout.showTalk();
    await this._layout.timeline.jump(row.id);
  }
}

/** @param {string} words */
function noMatches(words) {
  return Array.from(words).length === 1 ? "No matches: one letter is a whole word, two or more are also found at the beginning of longer words" : "No matches: words are found whole or by their beginning";
}
