/**
 * The messages of the open conversation. The newest is at the end; scrolling up loads older ones. The scroll position
 * stays where the reader is when messages are added above or below. At the end it follows the newest message, but no
 * further than to the first unread one.
 *
 * Tab reaches one message at a time, followed by its action buttons. Arrow keys move between messages.
 */

import { confirm } from "./dialog.js";
import { fill, h, icon } from "./dom.js";
import { FileViews, fileNames } from "./attachments.js";
import { drawMessage, gist, pickReaction, showReceipts, showSayers } from "./message.js";
import { refOf } from "./outbox.js";
import { showPerson } from "./people.js";
import { Redraw, Rows, unpressed } from "./rows.js";
import { safeLine, safeText } from "./safe_text.js";
import { keyOf } from "./shortcuts.js";
import { clock, day, dayKey } from "./times.js";

const NEAR = 60; // pixels from the end that still count as the end
const HELD_BELOW = 1 / 3; // of the height: where the first unread message stays; a guess
const EARLY = 400; // pixels from the top at which older messages are loaded
const TOGETHER = 5 * 60 * 1000; // milliseconds in which messages of one writer are grouped under one name
const MAX_ABOVE = 400; // messages in the document while the reader is at the end: with 4,000 all is three to five times slower
const MAX_QUOTED = 200; // characters of a message that is to be deleted
const DIRECT_READERS = "Others on the network cannot read it; whoever runs this gateway can.";

/** @typedef {import("./model.js").Message} Message @typedef {import("./model.js").Talk} Talk */

export class Timeline {
  /** @param {import("./chat.js").Chat} chat @param {import("./layout.js").Layout} layout */
  constructor(chat, layout) {
    this._chat = chat;
    this._layout = layout;
    this._list = h("ol", { class: "messages", onmousedown: keepFocus });
    this._list.addEventListener("click", onlyOnce, true);
    this._top = h("div", { class: "timeline-top" });
    this._box = h("div", {
      class: "timeline", role: "log", "aria-live": "off", "aria-label": "Messages", tabindex: 0, onscroll: () => this._scrolled(),
      onkeydown: (/** @type {KeyboardEvent} */ event) => this._key(event), onfocusin: (/** @type {FocusEvent} */ event) => this._focused(event),
      oncopy: (/** @type {ClipboardEvent} */ event) => this._copy(event),
    }, this._top, this._list);
    this._down = h("button", { type: "button", class: "to-end", hidden: true, onclick: () => this.toEnd() }, icon("down"), h("span", {}));
    this._unloaded = h("div", { class: "unloaded", hidden: true }, h("span", { role: "status" }), h("button", { type: "button", onclick: () => chat.markAllRead() }, "Mark as read"));
    this.element = h("div", { class: "timeline-frame" }, this._box, this._unloaded, this._down);
    this._rows = new Rows(this._list);
    this._files = new FileViews(chat, layout);
    this._atEnd = true;
    this._activeId = "";
    this._hidden = ""; // the ids of whom the user does not see
    this._hidings = 0; // how often they changed: quotes and reactions of theirs come and go
    this._actions = this._messageActions();
    const redraw = new Redraw(() => this._draw());
    for (const topic of ["talk", "people", "state"]) chat.model.bus.on(topic, () => redraw.soon());
    chat.model.bus.on("talks", () => this._drawUnread());
    chat.model.isFrontShown = () => this._box.clientHeight > 0 && !document.querySelector("dialog[open]");
    document.addEventListener("close", () => chat.markReadSoon(), true); // of a dialog that covered the messages
    chat.setNewestShown(() => this._newestShown());
    const resized = new ResizeObserver(() => this._atEnd && this._follow()); // also when it comes back on a small screen
    for (const part of [this._box, this._list]) resized.observe(part); // also when the actions of the last message appear
  }

  /** Show another conversation. */
  front() {
    this._rows.clear();
    this._files.clear();
    this._atEnd = true;
    this._activeId = "";
    this._draw();
  }

  toEnd() {
    if (this._chat.model.front) this._chat.model.front.holds = false;
    this._follow();
  }

  /**
   * Show a message and move the focus to it.
   * @param {string} id @param {boolean} [isQuiet] the caller shows one that is too far up
   * @returns {Promise<boolean|undefined>} false if it is
   */
  async jump(id, isQuiet = false) {
    const talk = this._chat.model.front;
    const found = talk && (await this._layout.notifyFailure(this._chat.loadUntil(talk, id)));
    if (found === false && !isQuiet) this._layout.notices.show("Too many messages follow that one to go there at once. Scroll back to it; search shows its text.");
    if (!found) return found;
    this._atEnd = false;
    this._draw();
    const node = this._rows.node(id);
    node?.scrollIntoView({ block: "center" });
    node?.classList.add("found");
    setTimeout(() => node?.classList.remove("found"), 2500);
    if (node) this._activate(node);
    return true;
  }

  /** Move the focus to the newest message. */
  focusNewest() {
    const newest = this._messages().at(-1);
    if (newest) this._activate(newest);
  }

  // ---- drawing

  _draw() {
    const talk = this._chat.model.front;
    if (!talk) return;
    if (this._atEnd && !talk.holds && talk.messages.length > 2 * MAX_ABOVE) talk.keep(MAX_ABOVE);
    const anchor = this._atEnd ? null : this._anchor();
    this._rows.draw(talk.opening ? [] : this._items(talk));
    this._drawTop(talk);
    if (this._atEnd) this._follow();
    else if (anchor) this._box.scrollTop += (this._rows.node(anchor.id)?.offsetTop ?? anchor.top) - anchor.top;
    this._drawUnread();
    this._updateTabOrder();
    this._loadEarly(talk);
    this._chat.markReadSoon();
  }

  /** @param {Talk} talk @returns {import("./rows.js").Item[]} */
  _items(talk) {
    const { model } = this._chat;
    const hidden = [...model.people.values()].filter(({ ignored }) => ignored).map(({ id }) => id).join();
    if (hidden !== this._hidden) [this._hidden, this._hidings] = [hidden, this._hidings + 1];
    const items = [];
    let before = null;
    const notes = [...talk.notes];
    for (const message of [...talk.messages, ...talk.waiting]) {
      if (model.ignores(message.senderId)) continue;
      const isNoted = Boolean(message.sentAt) && notes.length > 0 && notes[0].at < message.sentAt;
      while (message.sentAt && notes.length && notes[0].at < message.sentAt) items.push(noteItem(notes.shift()));
      const sameDay = before !== null && dayKey(before.sentAt) === dayKey(message.sentAt);
      const unread = message.id !== "" && message.id === talk.firstUnread;
      if (!sameDay) items.push({ key: `day ${dayKey(message.sentAt)}`, drawn: day(message.sentAt), draw: () => h("li", { class: "day" }, h("span", {}, day(message.sentAt))) });
      if (unread) items.push({ key: "unread", drawn: "", draw: () => h("li", { class: "unread-line" }, h("span", {}, "New")) });
      const head = !sameDay || unread || isNoted || !before || before.senderId !== message.senderId || message.action || before.action || Date.parse(message.sentAt) - Date.parse(before.sentAt) > TOGETHER;
      const drawn = [this._hidings, message.id, message.version, head, talk.member, model.labelOf(message.senderId), message.replyTo ? (talk.byId.get(message.replyTo)?.version ?? "") : ""].join(" ");
      items.push({ key: message.id || message.ref, former: message.mine ? refOf(message.claimedAt) : "", drawn, draw: () => drawMessage(message, { model, talk, head }, this._actions) });
      before = message;
    }
    return [...items, ...notes.map(noteItem)];
  }

  /** @param {Talk} talk */
  _drawTop(talk) {
    const { model } = this._chat;
    const lacks = talk.opening || talk.loading || !talk.loaded;
    const state = talk.complete && !talk.opening ? "complete" : model.state !== "open" ? "offline" : lacks ? "loading" : "more";
    const empty = talk.loaded && !talk.opening && !talk.messages.length && !talk.waiting.length;
    const writers = talk.opening ? [] : talk.messages.map((message) => message.senderId).filter((id) => model.ignores(id));
    const hidden = writers.length;
    const blocked = writers.filter((id) => model.people.get(id)?.blocked).length;
    const how = blocked === 0 ? "ignore" : blocked === hidden ? "block" : "ignore or block";
    const drawn = JSON.stringify([talk.id, state, empty, hidden, how]);
    if (this._topDrawn === drawn) return;
    this._topDrawn = drawn;
    const said = {
      complete: () => `This is the start of the conversation${talk.kind === "dm" ? `. ${DIRECT_READERS}` : ""}`,
      offline: () => "Earlier messages are shown when the gateway is back",
      loading: () => "Loading…",
      more: () => h("button", { type: "button", onclick: () => this._chat.older(talk) }, "Show earlier messages"),
    }[state]();
    const without = hidden === 1 ? `1 message of someone you ${how} is not shown` : `${hidden} messages of people you ${how} are not shown`;
    fill(this._top, empty ? this._welcome(talk) : h("div", { class: "hint" }, said), hidden > 0 && h("p", { class: "hint" }, without));
  }

  /** @param {Talk} talk */
  _welcome(talk) {
    const name = safeLine(talk.name);
    const said = {
      room: ["No messages yet", "Everyone on this network can read the room. Say hello, or choose someone in the list to write privately."],
      dm: [`This is the start of your conversation with ${name}`, `${DIRECT_READERS} Messages are delivered later if one of you is away.`],
      group: [`No messages in #${name} yet`, "Members can read everything here, including messages from before they joined. So can whoever runs this gateway."],
    }[talk.kind] ?? ["", ""];
    return h("div", { class: "welcome" }, h("p", { class: "welcome-title" }, said[0]), h("p", {}, said[1]));
  }

  // ---- scroll position

  /** Go to the end, or as far as the first unread message allows. */
  _follow() {
    const box = this._box;
    if (!box.clientHeight) return; // a small screen shows the list instead
    const line = this._chat.model.front?.holds ? this._rows.node("unread") : undefined;
    box.scrollTop = box.scrollHeight;
    if (line) box.scrollTop = Math.min(box.scrollTop, line.offsetTop - box.clientHeight * HELD_BELOW);
    this._atEnd = this._isNearEnd;
    if (this._atEnd) box.scrollTop = box.scrollHeight;
    this._chat.markReadSoon();
  }

  get _isNearEnd() {
    return this._box.scrollHeight - this._box.scrollTop - this._box.clientHeight < NEAR;
  }

  /** Return the id of the newest message that is wholly on the screen, or was passed; "" for none. */
  _newestShown() {
    const bottom = this._box.scrollTop + this._box.clientHeight + (this._atEnd ? NEAR : 0);
    const byId = this._chat.model.front?.byId;
    return this._messages().findLast((one) => byId?.has(one.dataset.id ?? "") && one.offsetTop + one.offsetHeight <= bottom)?.dataset.id ?? "";
  }

  /** @param {Talk} talk */
  _loadEarly(talk) {
    if (this._box.clientHeight && this._box.scrollTop < EARLY && !talk.opening) this._chat.older(talk);
  }

  /** Return the first visible message and its position; it may be redrawn meanwhile. */
  _anchor() {
    const top = this._box.scrollTop;
    const node = this._messages().find((one) => one.offsetTop + one.offsetHeight > top);
    return node ? { id: node.dataset.id ?? "", top: node.offsetTop } : null;
  }

  _scrolled() {
    const talk = this._chat.model.front;
    if (!talk || !this._box.clientHeight) return;
    const was = this._atEnd;
    this._atEnd = this._isNearEnd;
    if (this._atEnd && !was) talk.holds = false;
    this._chat.markReadSoon();
    this._drawUnread();
    this._loadEarly(talk);
  }

  /** Show how many messages follow what is on the screen, and how many unread ones are before all that is loaded. */
  _drawUnread() {
    const { model } = this._chat;
    const talk = model.front;
    const unread = talk?.unread ?? 0;
    const unloaded = talk && talk.loaded && !talk.opening ? model.unloaded(talk) : 0;
    this._unloaded.hidden = !unloaded;
    const said = `${unloaded.toLocaleString("en")} older ${unloaded > 1 ? "messages are" : "message is"} unread`;
    if (unloaded && this._unloaded.firstElementChild.textContent !== said) this._unloaded.firstElementChild.textContent = said;
    this._down.hidden = this._atEnd;
    const label = unread ? `${unread} new` : "Jump to latest";
    if (this._down.lastElementChild.textContent !== label) this._down.lastElementChild.textContent = label;
  }

  /** Copy several messages as lines with their writers, each text as it was written. @param {ClipboardEvent} event */
  _copy(event) {
    const { model } = this._chat;
    const copied = this._messages().filter((node) => getSelection()?.containsNode(/** @type {Node} */ (node.querySelector(".bubble")), true));
    const lines = copied.map((node) => this._messageOf(node)).filter((message) => message && !message.deleted).map((/** @type {any} */ message) => {
      const [name, files] = [safeLine(model.labelOf(message.senderId, message.sender)), fileNames(message)];
      const said = [safeText(message.text), files].filter(Boolean).join(" ");
      return message.action ? `* ${name} ${said}` : `${name}: ${said}`;
    });
    if (lines.length < 2) return;
    event.preventDefault();
    event.clipboardData?.setData("text/plain", lines.join("\n"));
  }

  // ---- keys

  /** @returns {HTMLElement[]} */
  _messages() {
    return /** @type {HTMLElement[]} */ ([...this._list.querySelectorAll(".message")]);
  }

  /** @param {KeyboardEvent} event */
  _key(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    const message = target.closest(".message");
    if (event.ctrlKey || event.altKey || event.metaKey || target instanceof HTMLMediaElement) return;
    const steps = { ArrowUp: -1, ArrowDown: 1 };
    if (event.key in steps) {
      const all = this._messages();
      const at = message ? all.indexOf(/** @type {HTMLElement} */ (message)) + steps[/** @type {"ArrowUp"} */ (event.key)] : all.length - 1;
      if (all[at]) this._activate(all[at]);
      event.preventDefault();
    } else if (event.key === "Escape") {
      this._layout.compose.focus();
      event.stopPropagation();
    } else if (message && target === message) {
      const found = this._messageOf(message);
      const key = keyOf(event);
      const action = { r: this._actions.reply, "+": this._actions.react, e: this._actions.edit, delete: this._actions.remove, i: this._actions.info }[key];
      if (found?.id && !found.deleted && action && (this._chat.model.front?.member || key === "i") && (found.mine || key === "r" || key === "+") && !(key === "e" && found.choices.length)) {
        event.preventDefault();
        action(found);
      }
    }
  }

  /** @param {Element} node @returns {Message|undefined} */
  _messageOf(node) {
    return this._chat.model.front?.byId.get(/** @type {HTMLElement} */ (node).dataset.id ?? "");
  }

  /** @param {FocusEvent} event */
  _focused(event) {
    const message = /** @type {HTMLElement} */ (event.target).closest(".message");
    if (!(message instanceof HTMLElement)) return;
    unpressed(() => {
      this._activeId = message.dataset.id ?? "";
      this._updateTabOrder();
      if (!this._layout.isWide) requestAnimationFrame(() => message.scrollIntoView({ block: "nearest" })); // its actions are below it
    });
  }

  /** @param {HTMLElement} message */
  _activate(message) {
    this._activeId = message.dataset.id ?? "";
    this._updateTabOrder();
    message.focus();
    message.scrollIntoView({ block: "nearest" });
  }

  /** Keep exactly one message, with its buttons, in the Tab order. */
  _updateTabOrder() {
    for (const message of this._list.querySelectorAll(".message.active")) {
      if (message.dataset.id !== this._activeId) setTabStop(message, false);
    }
    const active = this._rows.node(this._activeId);
    if (active) setTabStop(active, true);
  }

  // ---- actions on a message

  /** @returns {import("./message.js").Actions} */
  _messageActions() {
    const { _chat: chat, _layout: layout } = this;
    return {
      reply: (message) => layout.compose.reply(message),
      edit: (message) => layout.compose.edit(message),
      react: (message) => pickReaction((reaction) => layout.notifyFailure(chat.react(message, reaction))),
      press: (message, choice) => layout.notifyFailure(chat.press(message, choice)),
      say: (message, row) => layout.notifyFailure(chat.toggle(message, row)),
      vote: (message, option) => layout.notifyFailure(chat.vote(message, option)),
      close: async (message) => {
        if (await confirm("Close this poll?", [h("p", {}, "Later votes do not count.")], "Close poll")) await layout.notifyFailure(chat.closePoll(message.id));
      },
      toggle: (message, reaction) => layout.notifyFailure(chat.react(message, reaction)),
      remove: async (message) => {
        const said = [h("blockquote", { dir: "auto" }, gist(message, MAX_QUOTED)), h("p", {}, "It disappears for everyone. Log files of others may still contain it.")];
        if (await confirm("Delete this message?", said, "Delete")) await layout.notifyFailure(chat.remove(message.id));
      },
      info: (message) => layout.notifyFailure(showReceipts(chat, message)),
      sayers: (message) => showSayers(chat.model, message),
      person: (message) => layout.notifyFailure(showPerson(chat, layout, message.senderId)),
      jump: (id) => this.jump(id),
      files: (message) => this._files.draw(message),
      again: (message) => chat.outbox.retry(message.ref),
      discard: (message) => chat.outbox.discard(message.ref),
    };
  }
}

/** @param {any} event @returns {boolean} whether it is of a button in what somebody wrote */
function isInside({ target }) {
  return target.closest(".bubble button") !== null;
}

/** Keep the focus where it is: a message with the focus has its actions below it, and others move. @param {Event} event */
function keepFocus(event) {
  if (isInside(event)) event.preventDefault();
}

let clicked = ""; // the message of the button clicked last, and its place there: it is drawn anew

/** Take a double click on a button for one: the second would take back what the first said. @param {any} event */
function onlyOnce(event) {
  const message = isInside(event) && event.target.closest(".message");
  const before = clicked;
  clicked = message ? `${message.dataset.id} ${[...message.querySelectorAll("button")].indexOf(event.target.closest("button"))}` : "";
  if (event.detail > 1 && message && clicked === before) event.stopPropagation();
}

/** @param {any} message @param {boolean} on */
function setTabStop(message, on) {
  message.classList.toggle("active", on);
  message.tabIndex = on ? 0 : -1;
  for (const button of message.querySelectorAll("button, audio, video")) button.tabIndex = on ? 0 : -1;
}

/** Return the row of what happened among the messages. @param {{at: string, text: string}|undefined} note @returns {import("./rows.js").Item} */
function noteItem(note) {
  const { at, text } = note ?? { at: "", text: "" };
  return { key: `note ${at} ${text}`, drawn: "", draw: () => h("li", { class: "day note" }, h("span", {}, `${clock(at)} ${text}`)) };
}
