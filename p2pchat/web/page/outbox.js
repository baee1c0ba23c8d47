/**
 * What was written here and is not kept by the gateway yet. It waits visibly, goes out in order as soon as there is a
 * connection, and is never written twice: each text carries a time of its own to the microsecond, by which the gateway
 * knows it again when the answer to it was lost.
 */

import { forgetOutbox, keepOutbox, keptOutbox } from "./keep.js";

const AGAIN_AFTER = 1500; // milliseconds, when the gateway says that this is too much at once

/** @typedef {{ref: string, talkId: string, to: string, text: string, action: boolean, replyTo: string|null, claimedAt: string, tried: boolean}} Item */

export class Outbox {
  /**
   * @param {import("./model.js").Model} model
   * @param {import("./wire.js").Wire} wire
   */
  constructor(model, wire) {
    this._model = model;
    this._wire = wire;
    /** @type {Item[]} */
    this._items = [];
    this._restored = false;
  }

  /** Take what an earlier life of this tab left; once one knows who one is. */
  restore() {
    if (this._restored) return;
    this._restored = true;
    for (const item of keptOutbox(this._model.me.id)) this._queue({ ...item, tried: true });
  }

  get count() {
    return this._items.length;
  }

  /**
   * Write something.
   * @param {import("./model.js").Talk} talk
   * @param {string} text @param {boolean} action @param {string|null} replyTo
   */
  write(talk, text, action, replyTo) {
    const claimedAt = now();
    const ref = `p${claimedAt}`;
    this._queue({ ref, talkId: talk.id, to: talk.address, text, action, replyTo, claimedAt, tried: false });
    this._keep();
    this._send(this._items[this._items.length - 1]);
  }

  /** There is a connection again: what is not known to be kept goes out. */
  flush() {
    for (const item of this._items) if (!this._messageOf(item)?.trouble) this._send(item);
  }

  /** An own message is kept: one of these, perhaps. @param {any} line */
  kept(line) {
    const index = this._items.findIndex((item) => item.ref === line.ref || (line.claimed_at && item.claimedAt === line.claimed_at));
    if (index < 0) return;
    const [item] = this._items.splice(index, 1);
    this._unwait(item);
    this._keep();
  }

  /** Something was not done. @param {string} ref @param {string} code @param {string} text @returns {boolean} whether it was one of these */
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
      message.trouble = text;
      this._model.touched(talk, message);
    }
    return true;
  }

  /** @param {string} ref */
  again(ref) {
    const item = this._items.find((one) => one.ref === ref);
    const message = item && this._messageOf(item);
    const talk = item && this._model.talks.get(item.talkId);
    if (!item || !message || !talk) return;
    message.trouble = "";
    this._model.touched(talk, message);
    this._send(item);
  }

  /** Never mind. @param {string} ref */
  discard(ref) {
    const item = this._items.find((one) => one.ref === ref);
    this._items = this._items.filter((one) => one.ref !== ref);
    if (item) this._unwait(item);
    this._keep();
  }

  forget() {
    forgetOutbox(this._model.me.id);
  }

  // ---- inside

  /** @param {Item} item */
  _queue(item) {
    this._items.push(item);
    const talk = this._model.talks.get(item.talkId);
    if (!talk) return;
    const me = this._model.me;
    talk.waiting.push({
      id: "", mine: true, sender: me.label, senderId: me.id, text: item.text, sentAt: item.claimedAt, claimedAt: "",
      action: item.action, replyTo: item.replyTo, edited: false, deleted: false, unsupported: "", reactions: [], missing: [],
      lastSeenWith: [], ticks: { count: 0, read: 0, of: 0 }, ref: item.ref, trouble: "", version: 0,
    });
    this._model.changed(talk);
    this._model.bus.changed("talks");
  }

  /** @param {Item} item */
  _messageOf(item) {
    return this._model.talks.get(item.talkId)?.waiting.find((message) => message.ref === item.ref);
  }

  /** @param {Item} item */
  _unwait(item) {
    const talk = this._model.talks.get(item.talkId);
    if (!talk) return;
    talk.waiting = talk.waiting.filter((message) => message.ref !== item.ref);
    this._model.changed(talk);
    this._model.bus.changed("talks");
  }

  /** @param {Item} item */
  _send(item) {
    if (!this._items.includes(item)) return;
    const order = { do: "send", to: item.to, text: item.text, ref: item.ref, claimed_at: item.claimedAt };
    const more = { ...(item.action && { action: true }), ...(item.replyTo && { reply_to: item.replyTo }), ...(item.tried && { again: true }) };
    if (this._wire.say({ ...order, ...more })) item.tried = true;
    this._keep();
  }

  _keep() {
    keepOutbox(this._model.me.id, this._items);
  }
}

let last = 0;

/** Now, to the microsecond, and never twice: the last three digits are drawn, or counted on. */
function now() {
  last = Math.max(last + 1, Date.now() * 1000 + Math.floor(Math.random() * 1000));
  const micros = String(last % 1000).padStart(3, "0");
  return new Date(Math.floor(last / 1000)).toISOString().replace("Z", `${micros}Z`);
}
