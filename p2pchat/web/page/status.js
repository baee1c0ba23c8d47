/**
 * Small status views: the title of the window, announcements for screen readers, notices, the typing line and the
 * connection bar.
 */

import { fill, h, iconButton } from "./dom.js";
import { urlOf } from "./http.js";
import { gist } from "./message.js";
import { unpressed } from "./rows.js";
import { safeLine } from "./safe_text.js";

const MAX_ANNOUNCED = 5; // sentences kept in the region
const ANNOUNCED_FOR = 10000; // milliseconds a sentence is kept, for a screen reader that is still speaking; a guess
const NOTICE_FOR = 8000; // milliseconds
const MAX_NAMED = 3;
const BAR_AFTER = 700; // milliseconds; shorter interruptions are not shown

const DOT = '<circle cx="24.5" cy="7.5" r="6.5" fill="#e11d48" stroke="#fff" stroke-width="2"/>';
let iconSource = ""; // SVG; loaded once, so that the badge changes while the gateway is away

/** @param {number} unread @returns {string} it in two digits; the gateway counts no more than 100 of a conversation */
export function countText(unread) {
  return unread > 99 ? "99+" : String(unread);
}

/** Show the number of unread messages in the title of the window, and a badge on its icon. @param {import("./model.js").Model} model */
export function showTitle(model) {
  const draw = () => {
    const unread = model.unread;
    showBadge(unread);
    const front = model.isFrontShown() ? model.front : undefined;
    const where = front ? (front.kind === "room" ? "Room" : front.kind === "group" ? `#${front.name}` : front.name) : "";
    document.title = `${unread ? `(${countText(unread)}) ` : ""}${where ? `${where} – ` : ""}p2pchat`;
  };
  for (const topic of ["talks", "front", "state"]) model.bus.on(topic, draw);
  fetch(urlOf("icon.svg")).then((answer) => answer.text()).then((svg) => ((iconSource = svg), draw())).catch(() => {});
}

/** @param {number} unread */
export function showBadge(unread) {
  const drawn = unread ? iconSource.replace("</svg>", `${DOT}</svg>`) : iconSource;
  if (drawn) document.querySelector("link[rel=icon]")?.setAttribute("href", `data:image/svg+xml,${encodeURIComponent(drawn)}`);
  navigator.setAppBadge?.(unread).catch(() => {}); // of an installed page
}

export class Announcer {
  /** @param {HTMLElement} region the only live region of the page @param {import("./model.js").Model} model */
  constructor(region, model) {
    this._region = region;
    this._model = model;
    /** @type {Map<HTMLElement, () => boolean>} sentences in the region, and whether their message was deleted, edited or hidden */
    this._shown = new Map();
    model.bus.on("new", (detail) => this._announce(detail));
    for (const topic of ["talks", "people"]) model.bus.on(topic, () => this._shown.forEach((isOutdated, sentence) => isOutdated() && this._remove(sentence)));
  }

  /** @param {{talk: import("./model.js").Talk, message: import("./model.js").Message}} detail */
  _announce({ talk, message }) {
    const who = safeLine(message.sender);
    const where = this._model.shows(talk) ? "" : talk.kind === "dm" ? " to you" : ` in ${safeLine(talk.name)}`;
    const sentence = document.createElement("p");
    sentence.textContent = message.action ? `${who} ${gist(message, 300)}` : `${who}${where}: ${gist(message, 300)}`;
    const { text } = message;
    this._shown.set(sentence, () => message.deleted || message.text !== text || this._model.ignores(message.senderId));
    this._region.append(sentence);
    for (const oldest of [...this._shown.keys()].slice(0, -MAX_ANNOUNCED)) this._remove(oldest);
    setTimeout(() => this._remove(sentence), ANNOUNCED_FOR);
  }

  /** @param {HTMLElement} sentence */
  _remove(sentence) {
    this._shown.delete(sentence);
    sentence.remove();
  }
}

export class Notices {
  /** @param {import("./model.js").Model} model */
  constructor(model) {
    this.element = h("div", { class: "notices", role: "alert" });
    this._timer = 0;
    this._saysAway = false;
    model.bus.on("notice", (text) => this.show(text));
    model.bus.on("state", () => this._saysAway && model.state === "open" && this.clear());
  }

  /** @param {string} text @param {boolean} [away] it says that the gateway is away: shown until it is back, at most */
  show(text, away = false) {
    clearTimeout(this._timer);
    this._saysAway = away;
    fill(this.element, h("div", { class: "notice" }, h("span", {}, safeLine(text)), iconButton("close", "Close this notice", () => this.clear())));
    this._timer = setTimeout(() => this.clear(), NOTICE_FOR);
  }

  clear() {
    fill(this.element);
  }
}

export class TypingLine {
  /** @param {import("./model.js").Model} model */
  constructor(model) {
    this._model = model;
    this.element = h("p", { class: "typing" });
    for (const topic of ["typing", "front", "talk", "people"]) model.bus.on(topic, () => this._draw());
    setInterval(() => this._draw(), 1000);
  }

  _draw() {
    const typing = this._model.front?.typing ?? new Map();
    for (const [id, { until }] of typing) if (until < Date.now()) typing.delete(id);
    const names = [...typing].filter(([id]) => !this._model.ignores(id)).map(([, { label }]) => safeLine(label));
    const said = names.length > MAX_NAMED ? "Several people are typing…" : names.length ? `${names.join(", ")} ${names.length > 1 ? "are" : "is"} typing…` : "";
    if (this.element.textContent !== said) this.element.textContent = said;
  }
}

export class ConnectionBar {
  /** @param {import("./chat.js").Chat} chat */
  constructor(chat) {
    this._chat = chat;
    this._timer = 0;
    this._said = h("span");
    this._again = h("button", { type: "button", onclick: () => chat.connection.retry() }, "Try now"); // stays while it is pressed
    this.element = h("div", { class: "connection", hidden: true }, this._said, this._again);
    chat.model.bus.on("state", () => unpressed(() => this._draw()));
    setInterval(() => this._isShown() && this._draw(), 1000);
  }

  _isShown() {
    return !this.element.hidden;
  }

  _draw() {
    const state = this._chat.model.state;
    clearTimeout(this._timer);
    if (state === "open" || state === "closed") {
      this.element.hidden = true;
      return;
    }
    if (!this._isShown() && !this._chat.connection.silent) {
      this._timer = setTimeout(() => unpressed(() => this._show()), BAR_AFTER);
      return;
    }
    this._show();
  }

  _show() {
    const { connection } = this._chat;
    if (connection.state === "open" || connection.state === "closed") return;
    const seconds = Math.max(0, Math.ceil((connection.retryAt - Date.now()) / 1000));
    const why = navigator.onLine ? "The gateway does not answer." : "Offline.";
    const said = connection.state === "connecting" && !connection.silent ? "Connecting… Messages you write are sent then." : `${why} Reconnecting ${seconds > 1 ? `in ${seconds} s` : "now"}; messages you write are sent then.`;
    this.element.hidden = false;
    this._again.hidden = connection.state !== "waiting";
    this._said.textContent = said;
  }
}
