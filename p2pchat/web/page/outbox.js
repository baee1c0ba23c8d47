/**
 * Messages that the gateway has not accepted yet. They are shown as waiting and sent in order once there is a connection.
 * None is written twice: each carries a unique time to the microsecond, by which the gateway recognizes a message whose
 * answer was lost.
 */

import { messageOf } from "./model.js";
import { deleteOutbox, loadOutbox, saveOutbox } from "./storage.js";
import { gatewayNow } from "./times.js";

const AGAIN_AFTER = 1500; // milliseconds after which a message is sent again when the gateway was busy

/** @typedef {{ref: string, talkId: string, to: string, text: string, action: boolean, replyTo: string|null, claimedAt: string, tried: boolean, files?: any[]}} Item */

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
    this._restored = false;
  }

  /** Restore what this tab had not sent before it was reloaded. Needs the user's id. */
  restore() {
    if (this._restored) return;
    this._restored = true;
    for (const item of loadOutbox(this._model.me.id)) this._queue({ ...item, tried: true });
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
    this._queue({ ref: refOf(claimedAt), talkId: talk.id, to: talk.address, text, action, replyTo, claimedAt, tried: false, files });
    this._save();
    this._send(this._items[this._items.length - 1]);
  }

  /** Send everything not accepted yet, on a new connection. */
  flush() {
    for (const item of this._items) if (!this._messageOf(item)?.trouble) this._send(item);
  }

  /** Remove an item that was accepted; other messages are ignored. @param {any} line */
  accepted(line) {
    const index = this._items.findIndex((item) => item.ref === line.ref || (line.claimed_at && item.claimedAt === line.claimed_at));
    if (index < 0) return;
    const [item] = this._items.splice(index, 1);
    this._removeWaiting(item);
    this._save();
  }

  /** Handle a failed command. @param {string} ref @param {string} code @param {string} text @returns {boolean} whether it was one of ours */
  failed(ref, code, text) {
    const item = this._items.find((one) => one.ref === ref);
    if (!item) return false;
    if (code === "too_many" || code === "storage" || code === "stopping") {
      setTimeout(() => this._send(item), AGAIN_AFTER);
      return true;
    }
    const message = this._messageOf(item);
    const talk = this._model.talks.get(item.talkId);
    if (message && talk) {
      message.trouble = code === "unknown_upload" ? "the gateway keeps its files no longer. Discard it, and attach them again" : text;
      this._model.messageChanged(talk, message);
    }
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
    this._send(item);
  }

  /** Drop a message that was not sent. @param {string} ref */
  discard(ref) {
    const item = this._items.find((one) => one.ref === ref);
    this._items = this._items.filter((one) => one.ref !== ref);
    if (item) this._removeWaiting(item);
    this._save();
  }

  forget() {
    deleteOutbox(this._model.me.id);
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

  /** @param {Item} item */
  _send(item) {
    if (!this._items.includes(item)) return;
    const command = { do: "send", to: item.to, text: item.text, ref: item.ref, claimed_at: item.claimedAt };
    const more = { ...(item.action && { action: true }), ...(item.replyTo && { reply_to: item.replyTo }), ...(item.tried && { again: true }), ...(item.files?.length && { files: item.files.map(({ id }) => id) }) };
    if (this._connection.send({ ...command, ...more })) item.tried = true;
    this._save();
  }

  _save() {
    saveOutbox(this._model.me.id, this._items);
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
