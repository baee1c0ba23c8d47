/**
 * Messages that the gateway has not accepted yet. They are shown as waiting and sent once there is a connection, those of
 * a conversation one after the other, so that none overtakes one that was refused for now. None is written twice: each
 * carries a unique time to the microsecond, by which the gateway recognizes a message whose answer was lost, or that a
 * copy of this tab has sent.
 */

import { messageOf } from "./model.js";
import { deleteOutbox, loadOutbox, saveOutbox } from "./storage.js";
import { gatewayNow } from "./times.js";

const AGAIN_AFTER = 1500; // milliseconds after which a message is sent again that was refused for now
const FOR_NOW = new Set(["too_many", "storage", "stopping", "cluster"]);

/** @typedef {{ref: string, talkId: string, to: string, text: string, action: boolean, replyTo: string|null, claimedAt: string, files?: any[]}} Item */

export class Outbox {
  /**
   * @param {import("./model.js").Model} model
   * @param {import("./connection.js").Connection} connection
   * @param {(count: number) => void} counted called with the number of messages that wait whenever it changes
   */
  constructor(model, connection, counted) {
    this._model = model;
    this._connection = connection;
    this._counted = counted;
    this._countTold = 0;
    /** @type {Item[]} */
    this._items = [];
    /** @type {Map<string, Item>} those whose answer is due, by conversation id */
    this._sent = new Map();
    this._restored = false;
  }

  /** Restore what this tab had not sent before it was reloaded. Needs the user's id. */
  restore() {
    if (this._restored) return;
    this._restored = true;
    for (const item of loadOutbox()) this._queue(item);
    this._save();
  }

  get count() {
    return this._items.length;
  }

  /**
   * Add a message and send it.
   * @param {import("./model.js").Talk} talk
   * @param {string} text @param {boolean} action @param {string|null} replyTo @param {any[]} files as the gateway keeps them
   */
  write(talk, text, action, replyTo, files = []) {
    const claimedAt = uniqueNow();
    this._queue({ ref: refOf(claimedAt), talkId: talk.id, to: talk.address, text, action, replyTo, claimedAt, files });
    this._save();
    this._sendNext(talk.id);
  }

  /** Send everything not accepted yet, on a new connection. */
  flush() {
    this._sent.clear();
    for (const { talkId } of this._items) this._sendNext(talkId);
  }

  /** Remove an item that was accepted; other messages are ignored. @param {any} line */
  accepted(line) {
    const index = this._items.findIndex((item) => item.ref === line.ref || (line.claimed_at && item.claimedAt === line.claimed_at));
    if (index < 0) return;
    const [item] = this._items.splice(index, 1);
    this._removeWaiting(item);
    this._save();
    this._settled(item);
  }

  /** Handle a failed command. @param {string} ref @param {string} code @param {string} text @returns {boolean} whether it was one of ours */
  failed(ref, code, text) {
    const item = this._items.find((one) => one.ref === ref);
    if (!item) return false;
    if (FOR_NOW.has(code)) {
      setTimeout(() => this._settled(item), AGAIN_AFTER);
      return true;
    }
    const message = this._messageOf(item);
    const talk = this._model.talks.get(item.talkId);
    if (message && talk) {
      message.trouble = code === "unknown_upload" ? "the gateway keeps its files no longer. Discard it, and attach them again" : text;
      this._model.messageChanged(talk, message);
    }
    this._settled(item);
    return true;
  }

  /** @param {string} ref */
  retry(ref) {
    const item = this._items.find((one) => one.ref === ref);
    const message = item && this._messageOf(item);
    const talk = item && this._model.talks.get(item.talkId);
    if (!item || !message || !talk) return;
    message.trouble = "";
    this._model.messageChanged(talk, message);
    this._sendNext(item.talkId);
  }

  /** Drop a message that was not sent. @param {string} ref */
  discard(ref) {
    const item = this._items.find((one) => one.ref === ref);
    if (!item) return;
    this._items = this._items.filter((one) => one !== item);
    this._removeWaiting(item);
    this._save();
    this._settled(item);
  }

  forget() {
    deleteOutbox();
  }

  // ---- inside

  /** @param {Item} item */
  _queue(item) {
    this._items.push(item);
    const talk = this._model.talks.get(item.talkId);
    if (!talk) return;
    const { label: sender, id: sender_id } = this._model.me;
    const line = { event: "sent", id: "", sender, sender_id, text: item.text, sent_at: item.claimedAt, action: item.action, reply_to: item.replyTo, files: item.files };
    talk.waiting.push({ ...messageOf(line), ref: item.ref });
    this._model.changed(talk);
    this._model.bus.changed("talks");
  }

  /** @param {Item} item */
  _messageOf(item) {
    return this._model.talks.get(item.talkId)?.waiting.find((message) => message.ref === item.ref);
  }

  /** @param {Item} item */
  _removeWaiting(item) {
    const talk = this._model.talks.get(item.talkId);
    if (!talk) return;
    talk.waiting = talk.waiting.filter((message) => message.ref !== item.ref);
    this._model.changed(talk);
    this._model.bus.changed("talks");
  }

  /** Go on behind an item that needs no answer any more. @param {Item} item */
  _settled({ ref, talkId }) {
    if (this._sent.get(talkId)?.ref === ref) this._sent.delete(talkId);
    this._sendNext(talkId);
  }

  /** Send the first message of a conversation that was not refused, unless one is on its way. @param {string} talkId */
  _sendNext(talkId) {
    const item = this._items.find((one) => one.talkId === talkId && !this._messageOf(one)?.trouble);
    if (!item || this._sent.has(talkId)) return;
    const command = { do: "send", to: item.to, text: item.text, ref: item.ref, claimed_at: item.claimedAt, key: item.ref };
    const more = { ...(item.action && { action: true }), ...(item.replyTo && { reply_to: item.replyTo }), ...(item.files?.length && { files: item.files.map(({ id }) => id) }) };
    if (this._connection.send({ ...command, ...more })) this._sent.set(talkId, item);
  }

  _save() {
    saveOutbox(this._items);
    if (this.count !== this._countTold) this._counted((this._countTold = this.count));
  }
}

/** Return the ref of a message while it waits. @param {string} claimedAt */
export function refOf(claimedAt) {
  return `p${claimedAt}`;
}

let last = 0;

/** Return the current time to the microsecond, never the same twice: the last three digits are random or counted up. */
function uniqueNow() {
  last = Math.max(last + 1, Math.floor(gatewayNow()) * 1000 + Math.floor(Math.random() * 1000));
  const micros = String(last % 1000).padStart(3, "0");
  return new Date(Math.floor(last / 1000)).toISOString().replace("Z", `${micros}Z`);
}
