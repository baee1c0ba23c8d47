/**
 * Notifications of the browser, for messages that come while nobody looks at any tab of this user: one for each
 * conversation, closed once it is read. Of a conversation that somebody new began only the first message is told, until it
 * is opened. Silent unless the user wants a sound; and none before the user asks for them, as browsers require.
 */

import { urlOf } from "./http.js";
import { gist, whoBegan } from "./message.js";
import { mentions } from "./model.js";
import { safeLine } from "./safe_text.js";
import { CHANNEL, preferences, setPreference } from "./storage.js";

const MAX_TEXT = 200; // characters; systems show fewer

/** @typedef {import("./model.js").Talk} Talk @typedef {import("./model.js").Message} Message */

export class Notifications {
  /** @param {import("./chat.js").Chat} chat @param {import("./layout.js").Layout} layout */
  constructor(chat, layout) {
    this._chat = chat;
    this._layout = layout;
    /** @type {Map<string, Notification>} shown, by conversation id */
    this._shown = new Map();
    chat.model.bus.on("new", (detail) => this._onNew(detail));
    for (const topic of ["talks", "state"]) chat.model.bus.on(topic, () => this._closeRead());
    this._turn = 0;
    this._release = () => {}; // gives back the lock of this tab
    for (const topic of ["attention", "state"]) chat.model.bus.on(topic, () => this._hold());
  }

  /** Hold a lock while the user looks at this tab. The browser takes it back with the tab. */
  _hold() {
    const { attention, model } = this._chat;
    const isWatched = attention.active && model.state !== "closed";
    const turn = (this._turn += 1);
    this._release();
    if (isWatched && model.me.id) navigator.locks?.request(this._lock, { mode: "shared" }, () => turn === this._turn && new Promise((done) => (this._release = () => done(true))));
  }

  get _lock() {
    return `${CHANNEL} ${this._chat.model.me.id}`;
  }

  /** @param {{talk: Talk, message: Message}} detail */
  async _onNew({ talk, message }) {
    const { model, attention } = this._chat;
    const locks = await navigator.locks?.query();
    if (locks?.held?.some(({ name }) => name === this._lock)) return;
    // After a minute another browser of the user may have read it: the gateway says so within 2 s.
    if (Date.now() - Date.parse(message.sentAt) > 60_000) await new Promise((done) => setTimeout(done, 2000));
    const wanted = wantedNotifications();
    if (!talk.unread || attention.active || wanted === "none" || (wanted === "mine" && talk.kind !== "dm" && !mentions(message.text, model.me.name))) return;
    const muted = await this._chat.ask({ do: "muted" }).catch(() => []); // perhaps on another machine of the user
    if (muted.some((/** @type {any} */ row) => row.conversation_id === talk.id)) return;
    const begun = talk.begun?.isNew ? talk.begun : null;
    if (begun?.told) return;
    if (begun) begun.told = true;
    const name = safeLine(model.labelOf(message.senderId, message.sender));
    const title = begun ? whoBegan(talk) : talk.kind === "dm" ? name : `${name} in ${talk.kind === "room" ? "the room" : `#${safeLine(talk.name)}`}`;
    const sound = preferences().sound === "on";
    try {
      const shown = new Notification(title, { body: gist(message, MAX_TEXT), tag: `${model.me.id} ${talk.id}`, icon: urlOf("icon.svg").href, silent: !sound, renotify: sound });
      shown.onclick = () => this._open(talk);
      this._shown.set(talk.id, shown);
    } catch {
      // Chrome on Android has the class, and only service workers may use it
    }
  }

  /** @param {Talk} talk */
  _open(talk) {
    window.focus();
    this._layout.notifyFailure(this._layout.open(talk));
  }

  /** Close those of conversations that were read, and all once the user has signed out. */
  _closeRead() {
    const { state, talks } = this._chat.model;
    for (const [id, shown] of this._shown) {
      if (state !== "closed" && talks.get(id)?.unread) continue;
      shown.close();
      this._shown.delete(id);
    }
  }
}

/** @returns {"none"|"mine"|"all"} the messages to notify of: none, direct ones and mentions, or all */
export function wantedNotifications() {
  return canNotify() && Notification.permission === "granted" && preferences().notify || "none";
}

/** @returns {boolean} whether this browser has notifications at this address */
export function canNotify() {
  return "Notification" in window && window.isSecureContext;
}

/**
 * Choose the messages to notify of; asks the user for permission. @param {string} wanted as wantedNotifications
 * @returns {Promise<boolean>} false when the browser does not allow it
 */
export async function wantNotifications(wanted) {
  const allowed = wanted === "none" || (await Notification.requestPermission()) === "granted";
  setPreference("notify", allowed ? wanted : "none");
  return allowed;
}
