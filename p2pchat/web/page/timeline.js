/**
 * The messages of the conversation in front: newest at the end, older ones when one scrolls up, and the place where one
 * looks stays where it is, whatever comes before or behind it.
 *
 * One message at a time is in the order of the Tab key; arrow keys go from one to the next, and what can be done with it
 * follows it.
 */

import { fill, h, icon } from "./dom.js";
import { Keyed } from "./keyed.js";
import { drawMessage } from "./message.js";
import { showPerson } from "./person.js";
import { pickReaction } from "./reactions.js";
import { safeLine } from "./safe.js";
import { sure } from "./dialog.js";
import { showReceipts } from "./ticks.js";
import { day, dayKey } from "./times.js";

const NEAR = 60; // pixels from the end that still count as being there
const EARLY = 400; // pixels from the beginning at which older ones are asked for
const TOGETHER = 5 * 60 * 1000; // milliseconds between messages of one writer that stand under one name

/** @typedef {import("./model.js").Message} Message @typedef {import("./model.js").Talk} Talk */

export class Timeline {
  /** @param {import("./chat.js").Chat} chat @param {import("./shell.js").Shell} shell */
  constructor(chat, shell) {
    this._chat = chat;
    this._shell = shell;
    this._list = h("ol", { class: "messages" });
    this._top = h("div", { class: "timeline-top" });
    this._box = h("div", {
      class: "timeline", role: "log", "aria-live": "off", "aria-label": "Messages", tabindex: 0, onscroll: () => this._scrolled(),
      onkeydown: (/** @type {KeyboardEvent} */ event) => this._key(event), onfocusin: (/** @type {FocusEvent} */ event) => this._focused(event),
    }, this._top, this._list);
    this._down = h("button", { type: "button", class: "to-end", hidden: true, onclick: () => this.toEnd() }, icon("down"), h("span", {}));
    this.element = h("div", { class: "timeline-frame" }, this._box, this._down);
    this._keyed = new Keyed(this._list);
    this._sticks = true;
    this._activeId = "";
    this._does = this._doings();
    for (const topic of ["talk", "people"]) chat.model.bus.on(topic, () => this._drawSoon());
    chat.seesWhen(() => this._sticks);
    new ResizeObserver(() => this._sticks && this._jumpToEnd()).observe(this._box);
  }

  /** Another conversation is in front. */
  front() {
    this._keyed.clear();
    this._sticks = true;
    this._activeId = "";
    this._draw();
  }

  toEnd() {
    this._sticks = true;
    this._jumpToEnd();
    this._chat.lookSoon();
  }

  /** Show a message and move the focus to it. @param {string} id */
  async jump(id) {
    const talk = this._chat.model.front;
    if (!talk || !(await this._shell.tried(this._chat.reach(talk, id)))) {
      this._shell.notices.say("That message is too far back to be shown here.");
      return;
    }
    this._sticks = false;
    this._draw();
    const node = this._keyed.node(id);
    node?.scrollIntoView({ block: "center" });
    node?.classList.add("found");
    setTimeout(() => node?.classList.remove("found"), 2500);
    if (node) this._activate(node);
  }

  /** Move the focus to the newest message. */
  focusNewest() {
    const newest = this._messages().at(-1);
    if (newest) this._activate(newest);
  }

  // ---- drawing

  _drawSoon() {
    cancelAnimationFrame(this._frame ?? 0);
    this._frame = requestAnimationFrame(() => this._draw());
  }

  _draw() {
    const talk = this._chat.model.front;
    if (!talk) return;
    const anchor = this._sticks ? null : this._anchor();
    this._keyed.draw(this._wanted(talk));
    this._drawTop(talk);
    if (this._sticks) this._jumpToEnd();
    else if (anchor) this._box.scrollTop += anchor.node.offsetTop - anchor.top;
    this._drawDown();
    this._keepActive();
    if (this._box.scrollTop < EARLY) this._chat.older(talk);
  }

  /** @param {Talk} talk @returns {import("./keyed.js").Item[]} */
  _wanted(talk) {
    const { model } = this._chat;
    const items = [];
    let before = null;
    for (const message of [...talk.messages, ...talk.waiting]) {
      if (model.ignores(message.senderId)) continue;
      const sameDay = before !== null && dayKey(before.sentAt) === dayKey(message.sentAt);
      const unread = message.id !== "" && message.id === talk.firstUnread;
      if (!sameDay) items.push({ key: `day ${dayKey(message.sentAt)}`, drawn: day(message.sentAt), draw: () => h("li", { class: "day" }, h("span", {}, day(message.sentAt))) });
      if (unread) items.push({ key: "unread", drawn: "", draw: () => h("li", { class: "unread-line" }, h("span", {}, "New")) });
      const head = !sameDay || unread || !before || before.senderId !== message.senderId || message.action || before.action || Date.parse(message.sentAt) - Date.parse(before.sentAt) > TOGETHER;
      const drawn = [message.version, head, model.labelOf(message.senderId), message.replyTo ? (talk.byId.get(message.replyTo)?.version ?? "") : ""].join(" ");
      items.push({ key: message.id || message.ref, drawn, draw: () => drawMessage(message, { model, talk, head }, this._does) });
      before = message;
    }
    return items;
  }

  /** @param {Talk} talk */
  _drawTop(talk) {
    const state = talk.complete ? "complete" : talk.loading || !talk.loaded ? "loading" : "more";
    const empty = talk.loaded && !talk.messages.length && !talk.waiting.length;
    const drawn = `${talk.id} ${state} ${empty}`;
    if (this._topDrawn === drawn) return;
    this._topDrawn = drawn;
    if (empty) fill(this._top, this._welcome(talk));
    else if (state === "complete") fill(this._top, h("p", { class: "hint" }, "This is the beginning of the conversation"));
    else if (state === "loading") fill(this._top, h("p", { class: "hint" }, "Loading…"));
    else fill(this._top, h("button", { type: "button", onclick: () => this._chat.older(talk) }, "Show earlier messages"));
  }

  /** @param {Talk} talk */
  _welcome(talk) {
    const name = safeLine(talk.name);
    const said = {
      room: ["Nothing was said in the room yet", "Everybody in this network reads what is written here. Say hello, or choose somebody in the list to write privately."],
      dm: [`This is the beginning of what you and ${name} write`, "Only you two read this. When they are away it is delivered when they come back."],
      group: [`Nothing was said in #${name} yet`, "Its members read what is written here, also what was written before they came."],
    }[talk.kind] ?? ["", ""];
    return h("div", { class: "welcome" }, h("p", { class: "welcome-title" }, said[0]), h("p", {}, said[1]));
  }

  // ---- where one looks

  _jumpToEnd() {
    this._box.scrollTop = this._box.scrollHeight;
  }

  /** The first message in sight, and where it is. */
  _anchor() {
    const top = this._box.scrollTop;
    const node = this._messages().find((one) => one.offsetTop + one.offsetHeight > top);
    return node ? { node, top: node.offsetTop } : null;
  }

  _scrolled() {
    const box = this._box;
    const was = this._sticks;
    this._sticks = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR;
    if (this._sticks && !was) this._chat.lookSoon();
    this._drawDown();
    const talk = this._chat.model.front;
    if (talk && box.scrollTop < EARLY) this._chat.older(talk);
  }

  _drawDown() {
    const unread = this._chat.model.front?.unread ?? 0;
    this._down.hidden = this._sticks;
    const label = unread ? `${unread} new` : "To the newest";
    if (this._down.lastElementChild.textContent !== label) this._down.lastElementChild.textContent = label;
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
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const steps = { ArrowUp: -1, ArrowDown: 1 };
    if (event.key in steps) {
      const all = this._messages();
      const at = message ? all.indexOf(/** @type {HTMLElement} */ (message)) + steps[/** @type {"ArrowUp"} */ (event.key)] : all.length - 1;
      if (all[at]) this._activate(all[at]);
      event.preventDefault();
    } else if (event.key === "Escape") {
      this._shell.compose.focus();
      event.stopPropagation();
    } else if (message && target === message) {
      const found = this._messageOf(message);
      const does = { r: this._does.reply, "+": this._does.react, e: this._does.edit, Delete: this._does.remove, i: this._does.info }[event.key];
      if (found?.id && !found.deleted && does && (found.mine || event.key === "r" || event.key === "+")) {
        event.preventDefault();
        does(found);
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
    this._activeId = message.dataset.id ?? "";
    this._keepActive();
  }

  /** @param {HTMLElement} message */
  _activate(message) {
    this._activeId = message.dataset.id ?? "";
    this._keepActive();
    message.focus();
    message.scrollIntoView({ block: "nearest" });
  }

  /** One message, and what can be done with it, is in the order of the Tab key. */
  _keepActive() {
    for (const message of this._list.querySelectorAll(".message.active")) {
      if (message.dataset.id !== this._activeId) setTab(message, false);
    }
    const active = this._keyed.node(this._activeId);
    if (active) setTab(active, true);
  }

  // ---- what can be done with a message

  /** @returns {import("./message.js").Does} */
  _doings() {
    const { _chat: chat, _shell: shell } = this;
    return {
      reply: (message) => shell.compose.reply(message),
      edit: (message) => shell.compose.edit(message),
      react: (message) => pickReaction((reaction) => shell.tried(chat.react(message, reaction))),
      toggle: (message, reaction) => shell.tried(chat.react(message, reaction)),
      remove: async (message) => {
        const said = "Nobody is shown this message any more. Whoever has it already may still have it in a log.";
        if (await sure("Take this message back?", said, "Take it back")) await shell.tried(chat.remove(message.id));
      },
      info: (message) => shell.tried(showReceipts(chat, message)),
      person: (message) => shell.tried(showPerson(chat, shell, message.senderId)),
      jump: (id) => this.jump(id),
      again: (message) => chat.outbox.again(message.ref),
      discard: (message) => chat.outbox.discard(message.ref),
    };
  }
}

/** @param {any} message @param {boolean} on */
function setTab(message, on) {
  message.classList.toggle("active", on);
  message.tabIndex = on ? 0 : -1;
  for (const button of message.querySelectorAll("button")) button.tabIndex = on ? 0 : -1;
}
