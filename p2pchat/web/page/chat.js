/**
 * One signed-in user: the model, the connection that keeps it true, and everything that can be done. Views call this and
 * draw the model; nothing here touches the page.
 */

import { Attention } from "./attention.js";
import { choices } from "./keep.js";
import { Lines } from "./lines.js";
import { Model } from "./model.js";
import { Outbox } from "./outbox.js";
import { Wire, WireError } from "./wire.js";

export const PAGE = 50; // messages of one page of history
const MOST_BEHIND = 2000; // messages between one that was searched for and the newest
const SOON = 80; // milliseconds in which several reasons to ask make one question
const ASK_AGAIN = [700, 2000, 6000, 20000, 60000]; // milliseconds after writing to several: who has it, who has read it
const COUNTED_FOR = 15000; // milliseconds in which what is unread is not asked for again, though it may be read elsewhere
const TYPING_EVERY = 3000; // milliseconds between two words to others that one types

export class Chat {
  /** @param {string} token @param {(why: string) => void} refused the token is nobody's any more */
  constructor(token, refused) {
    this.token = token;
    this.model = new Model();
    this._refused = refused;
    this._soon = new Map();
    this._typingAt = 0;
    this._countedAt = 0;
    this._atEnd = () => true;
    this.wire = new Wire({
      token,
      since: () => this.model.since,
      hear: (line) => this.lines.take(line),
      change: (state, line) => this._connection(state, line),
      beat: () => ({ do: "active", on: this.attention.looks }),
    });
    this.outbox = new Outbox(this.model, this.wire);
    this.lines = new Lines(this.model, {
      list: () => this._later("list", () => this._list(false)),
      who: () => this._later("who", () => this._who()),
      sent: (line, talk) => this._kept(line, talk),
      failed: (ref, code, text) => this._failed(ref, code, text),
    });
    this.attention = new Attention((looks) => {
      this.wire.say({ do: "active", on: looks });
      if (!looks) return;
      this.look();
      if (Date.now() - this._countedAt > COUNTED_FOR) {
        this._later("counts", () => this._list(true));
        this._later("who", () => this._who()); // of many a crowded gateway tells nothing meanwhile
      }
      if (this.model.front) this._askReceipts(this.model.front);
    });
    this.model.bus.on("new", ({ talk, message }) => talk.id === this.model.frontId && this._came(talk, message));
  }

  start() {
    this.wire.start();
  }

  stop() {
    this.wire.close();
  }

  // ---- the connection

  /** @param {string} state @param {any} line */
  _connection(state, line) {
    this.model.state = state;
    if (state === "open") this._begin(line);
    if (state === "refused") this._refused(this.wire.why);
    this.model.bus.tell("state");
  }

  /** @param {any} line the first one */
  async _begin(line) {
    const { me } = this.model;
    Object.assign(me, { id: line.user_id, label: line.user, name: me.name || line.user });
    for (const talk of this.model.talks.values()) talk.loaded = false;
    this.wire.say({ do: "active", on: this.attention.looks });
    if (choices().typing === "off") this.wire.say({ do: "set", name: "typing", value: "off" });
    await Promise.all([this._list(true), this._who()]).catch(() => {});
    this.outbox.restore();
    this.outbox.flush();
    const front = this.model.front ?? this.model.room;
    if (front) await this.go(front);
  }

  /** @param {boolean} counts */
  async _list(counts) {
    if (counts) this._countedAt = Date.now();
    this.lines.takeList(await this.wire.ask({ do: "list" }), counts);
  }

  async _who() {
    this.lines.takeWho(await this.wire.ask({ do: "who" }));
  }

  /** @param {string} what @param {() => Promise<void>} ask */
  _later(what, ask) {
    if (this._soon.has(what)) return;
    this._soon.set(what, setTimeout(() => {
      this._soon.delete(what);
      ask().catch(() => {});
    }, SOON));
  }

  /**
   * An own message is kept. Of what is for many the gateway tells once when all have it, and when all have read it; how
   * many have by now is asked for.
   * @param {any} line @param {import("./model.js").Talk} talk
   */
  _kept(line, talk) {
    this.outbox.kept(line);
    if (talk.kind !== "dm" && talk.loaded) for (const wait of ASK_AGAIN) setTimeout(() => this._askReceipts(talk), wait);
  }

  /** @param {import("./model.js").Talk} talk */
  _askReceipts(talk) {
    const newest = talk.messages.findLast((message) => message.mine);
    const settled = !newest || (newest.ticks.of > 0 && newest.ticks.read >= newest.ticks.of);
    if (talk.id !== this.model.frontId || settled || document.hidden) return;
    this._later("receipts", () => this._receipts(talk));
  }

  /** @param {string} ref @param {string} code @param {string} text */
  _failed(ref, code, text) {
    if (code === "since") {
      this.model.since = ""; // this gateway does not know where we were: everything is read anew
      return;
    }
    if (!this.outbox.failed(ref, code, text) && code !== "too_many") this.model.bus.tell("notice", text);
  }

  // ---- where one is

  /** Go to a conversation. @param {import("./model.js").Talk} talk */
  async go(talk) {
    const model = this.model;
    const another = model.frontId !== talk.id;
    if (another) {
      this.typing(false);
      if (model.front) model.front.firstUnread = "";
      model.frontId = talk.id;
    }
    const unread = talk.unread;
    if (another) model.bus.tell("front");
    model.bus.changed("talk");
    if (!talk.loaded) await this.load(talk);
    if (another && unread && !talk.firstUnread) talk.firstUnread = firstOf(talk, unread);
    model.bus.changed("talk");
    this.lookSoon();
  }

  /** Go to the direct conversation with somebody. @param {string} userId */
  async goTo(userId) {
    const known = this.model.talkWith(userId);
    if (known) return this.go(known);
    const [row] = await this.wire.ask({ do: "find", to: `@${userId}` });
    await this.go(this.lines.found({ ...row, user_id: userId }));
  }

  /** Read the newest page of a conversation. @param {import("./model.js").Talk} talk */
  async load(talk) {
    if (talk.loading) return;
    talk.loading = true;
    try {
      const rows = await this.wire.ask({ do: "history", to: talk.id, limit: PAGE });
      talk.loaded = true;
      if (rows.length < PAGE) talk.complete = true;
      this.lines.takeHistory(talk, rows, "newest");
      await this._receipts(talk);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
    } finally {
      talk.loading = false;
      this.model.changed(talk);
    }
  }

  /** Read the page before the oldest message here. @param {import("./model.js").Talk} talk */
  async older(talk) {
    const oldest = talk.messages[0];
    if (talk.loading || talk.complete || !talk.loaded || !oldest) return;
    talk.loading = true;
    this.model.changed(talk);
    try {
      const rows = await this.wire.ask({ do: "history", to: talk.id, limit: PAGE, before: oldest.id });
      if (rows.length < PAGE) talk.complete = true;
      this.lines.takeHistory(talk, rows, "older");
      if (rows.some((row) => row.event === "sent")) await this._receipts(talk, oldest.id);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
    } finally {
      talk.loading = false;
      this.model.changed(talk);
    }
  }

  /** @param {import("./model.js").Talk} talk @param {string} [before] */
  async _receipts(talk, before) {
    if (!talk.messages.some((message) => message.mine)) return;
    this.lines.takeReceipts(talk, await this.wire.ask({ do: "receipts", to: talk.id, limit: PAGE, ...(before && { before }) }));
  }

  /**
   * Have a message and everything behind it here.
   * @param {import("./model.js").Talk} talk @param {string} id
   * @returns {Promise<boolean>} false: it is too far back
   */
  async reach(talk, id) {
    if (talk.byId.has(id)) return true;
    const [before, behind] = await Promise.all([
      this.wire.ask({ do: "history", to: talk.id, before: id, limit: 10 }),
      this.wire.ask({ do: "history", to: talk.id, after: id, limit: MOST_BEHIND }),
    ]);
    if (behind.length >= MOST_BEHIND) return false;
    const [first] = behind.length ? await this.wire.ask({ do: "history", to: talk.id, before: behind[0].id, limit: 1 }) : [];
    const rows = [...before, ...(first ? [first] : []), ...behind];
    if (!rows.some((row) => row.id === id)) return false;
    talk.complete = before.length < 10;
    talk.loaded = true;
    this.lines.takeHistory(talk, rows, "whole");
    await this._receipts(talk);
    return true;
  }

  // ---- what counts as read

  /** @param {() => boolean} atEnd whether the newest message is in sight */
  seesWhen(atEnd) {
    this._atEnd = atEnd;
  }

  /** Something came in the conversation in front. @param {import("./model.js").Talk} talk @param {import("./model.js").Message} message */
  _came(talk, message) {
    if (!this.attention.looks && !talk.firstUnread) talk.firstUnread = message.id;
    this.lookSoon();
  }

  lookSoon() {
    this._later("look", async () => this.look());
  }

  /** Somebody may look at the conversation in front: what stands there is read. */
  look() {
    const talk = this.model.front;
    if (!talk || !talk.loaded || !this.attention.looks || !this._atEnd()) return;
    const newest = talk.newestOfAnother;
    if (newest && newest.id !== talk.readTo && this.wire.say({ do: "read", id: newest.id })) talk.readTo = newest.id;
    if (talk.unread || talk.mentions) {
      talk.unread = talk.mentions = 0;
      this.model.bus.changed("talks");
    }
  }

  // ---- what one does

  /** @param {string} text @param {{action?: boolean, replyTo?: string|null}} [how] */
  write(text, { action = false, replyTo = null } = {}) {
    const talk = this.model.front;
    if (!talk) return;
    this._typingAt = 0;
    this.outbox.write(talk, text, action, replyTo);
    talk.firstUnread = "";
  }

  /** Tell others that one types, or not any more; not with every key. @param {boolean} on */
  typing(on) {
    const talk = this.model.front;
    const now = Date.now();
    if (!talk || (on ? now - this._typingAt < TYPING_EVERY : !this._typingAt)) return;
    this._typingAt = on ? now : 0;
    this.wire.say({ do: "typing", to: talk.id, on });
  }

  /** @param {string} id @param {string} text */
  edit(id, text) {
    return this.wire.ask({ do: "edit", id, text });
  }

  /** @param {string} id */
  remove(id) {
    return this.wire.ask({ do: "delete", id });
  }

  /** React, or take it back when one reacts so already. @param {import("./model.js").Message} message @param {string} reaction */
  react(message, reaction) {
    const mine = message.reactions.find((one) => one.by_id === this.model.me.id)?.reaction;
    return this.wire.ask({ do: "react", id: message.id, reaction: mine === reaction ? "" : reaction });
  }

  /** @param {string} words @param {string} [to] */
  search(words, to) {
    return this.wire.ask({ do: "search", words, ...(to && { to }) });
  }

  /** @param {any} order */
  ask(order) {
    return this.wire.ask(order);
  }
}

/** @param {import("./model.js").Talk} talk @param {number} unread @returns {string} the id of the first of so many of others */
function firstOf(talk, unread) {
  let left = unread;
  for (const message of [...talk.messages].reverse()) {
    if (!message.mine && --left === 0) return message.id;
  }
  return talk.messages.find((message) => !message.mine)?.id ?? "";
}
