/**
 * The chat of one signed-in user: the model, the connection that keeps it up to date, and every action. Views call this
 * class and draw the model; nothing here touches the DOM.
 */

import { Attention } from "./attention.js";
import { Connection, CommandError } from "./connection.js";
import { Events } from "./events.js";
import { askPoll, deleteAccount } from "./http.js";
import { Model, messageOf } from "./model.js";
import { Outbox } from "./outbox.js";
import { HEADS } from "./said.js";
import { CHANNEL, keepFor, preferences } from "./storage.js";

export const PAGE = 50; // messages in one page of history
const MAX_BEHIND = 2000; // messages loaded behind a search result, or from the first unread message
const MAX_TEXTS = 300_000; // characters of all texts in an answer that may have ended early: a gateway ends it at 1 MiB
const MAX_SKIPPED = 10; // pages loaded to find a message of somebody who is not ignored; a guess
const SOON = 80; // milliseconds in which several requests of one kind are joined
const ASK_AGAIN = [700, 2000, 6000, 20000, 60000]; // milliseconds after writing to several people at which receipts are requested
const COUNTED_FOR = 15000; // milliseconds before unread counts are requested again, as another client may have read messages
const TYPING_EVERY = 3000; // milliseconds between two typing notifications

export class Chat {
  /** @param {string} token @param {(why: string) => void} left called when the gateway refuses the token, and with "" when the user has signed out */
  constructor(token, left) {
    this.token = token;
    this.model = new Model();
    this._left = left;
    this._hasLeft = false;
    this._tabs = new BroadcastChannel(CHANNEL); // to the other tabs of this gateway, which may be of other users
    this._tabs.onmessage = ({ data }) => data.user && data.user === this.model.me.id && this._onTab(data);
    this._tabId = Math.random();
    /** @type {Map<number, number>} messages not sent yet, by tab */
    this._waiting = new Map();
    this._soon = new Map();
    /** @type {Set<string>} acts on messages that are not answered yet */
    this._underWay = new Set();
    this._typingAt = 0;
    this._countedAt = 0;
    this._newestShown = () => "";
    this.connection = new Connection({
      token,
      since: () => this.model.since,
      onLine: (line) => this.events.handle(line),
      onState: (state, line) => this._onState(state, line),
      heartbeat: () => ({ do: "active", on: this.attention.active }),
    });
    this.outbox = new Outbox(this.model, this.connection, (count) => this._tellWaiting(count));
    this._closed = () => this._tellWaiting(0);
    this.events = new Events(this.model, {
      list: () => this._soonOnce("list", () => this._list(false)),
      counts: () => this._soonOnce("counts", () => this._list(true)),
      who: () => this._soonOnce("who", () => this._who()),
      hidden: (id, blocked) => this._onHidden(id, blocked).catch(() => {}),
      joined: (talk) => this._soonOnce(`joined ${talk.id}`, () => this._joined(talk)),
      sent: (line, talk) => this._onAccepted(line, talk),
      head: (talk) => this._soonOnce(`head ${talk.id}`, () => this._head(talk)),
      failed: (ref, code, text) => this._onFailed(ref, code, text),
    });
    this.attention = new Attention((active) => {
      this.connection.send({ do: "active", on: active });
      this.model.bus.emit("attention");
      if (!active) return;
      this.markRead();
      if (Date.now() - this._countedAt > COUNTED_FOR) {
        this._soonOnce("counts", () => this._list(true));
        this._soonOnce("who", () => this._who()); // a crowded gateway does not report everyone's presence
      }
      if (this.model.front) this._requestReceipts(this.model.front);
    });
    this.model.bus.on("new", ({ talk, message }) => talk.id === this.model.frontId && this._onNew(talk, message));
  }

  start() {
    this.connection.start();
    addEventListener("pagehide", this._closed); // a reload restores what waits, and tells it
  }

  stop() {
    removeEventListener("pagehide", this._closed);
    this._tabs.close();
    this.connection.close();
  }

  /** Sign out here and in the user's other tabs. Messages that were not sent are lost. */
  signOut() {
    this._tabs.postMessage({ user: this.model.me.id, signedOut: true });
    this._onTab({ signedOut: true });
  }

  /** Delete the account of this user, and leave. Raises what the gateway answers. */
  async deleteAccount() {
    await deleteAccount(this.token);
    this._leave("deleted"); // the gateway has closed the connection, or will not open it again
  }

  /** Leave the chat, once. @param {string} why as in the constructor */
  _leave(why) {
    if (this._hasLeft) return;
    this._hasLeft = true;
    if (!why || why === "deleted") this.outbox.forget();
    this._left(why);
  }

  /** Ask all tabs of this user to count their messages that were not sent yet. "waiting" is emitted now, and with every change. */
  countWaiting() {
    this._waiting.clear();
    this._onWaiting(this._tabId, this.outbox.count);
    this._tabs.postMessage({ user: this.model.me.id, asksWaiting: true });
  }

  /** @param {number} count of messages of this tab that were not sent yet */
  _tellWaiting(count) {
    this._onWaiting(this._tabId, count);
    this._tabs.postMessage({ user: this.model.me.id, tabId: this._tabId, waiting: count });
  }

  /** @param {number} tabId @param {number} count */
  _onWaiting(tabId, count) {
    this._waiting.set(tabId, count);
    this.model.bus.emit("waiting", [...this._waiting.values()].reduce((one, other) => one + other));
  }

  /** Handle what another tab of this user tells. @param {any} told */
  _onTab({ signedOut, asksWaiting, tabId, waiting, read, unread, mentions }) {
    if (signedOut) this._leave("");
    else if (asksWaiting) this._tabs.postMessage({ user: this.model.me.id, tabId: this._tabId, waiting: this.outbox.count });
    else if (tabId) this._onWaiting(tabId, waiting);
    else this._onRead(read, unread, mentions);
  }

  /** Handle that another tab has marked something as read. @param {any} read @param {number} unread @param {number} mentions */
  _onRead(read, unread, mentions) {
    const talk = this.model.talks.get(read.conversation);
    if (!talk) return;
    talk.readTo = read.id;
    Object.assign(talk, { unread, mentions, holds: talk.holds && unread > 0 });
    this.model.bus.changed("talks");
  }

  // ---- the connection

  /** @param {string} state @param {any} line */
  _onState(state, line) {
    this.model.state = state;
    if (state === "open") this._onOpen(line);
    if (state === "waiting") this.events.forgetPresence();
    if (state === "refused") this._leave(this.connection.why);
    this.model.bus.emit("state");
  }

  /** @param {any} line the first line */
  async _onOpen(line) {
    const { me } = this.model;
    this.model.gatewayId = line.peer_id;
    this.model.gateway = line.gateway ?? "";
    this.model.last = line.last;
    if (!this.model.since) this.model.continueAfter(line.last);
    this.model.mayInvite = line.invites;
    this.model.maxFileBytes = line.max_file_bytes ?? 0;
    Object.assign(me, { id: line.user_id, label: line.user, name: me.name || line.user });
    keepFor(me.id);
    for (const talk of this.model.talks.values()) talk.loaded = false;
    this.connection.send({ do: "active", on: this.attention.active });
    if (preferences().typing === "off") this.connection.send({ do: "set", name: "typing", value: "off" });
    const latest = async () => this.events.setLatest(await this.connection.request({ do: "latest" }));
    await Promise.all([this._list(true), this._who(), latest()]).catch(() => {});
    this._findLast();
    this.outbox.restore();
    this.outbox.flush();
    if (this.model.front) await this.open(this.model.front);
    else this.model.bus.emit("ready");
  }

  /** @param {boolean} counts whether to take the unread counts too */
  async _list(counts) {
    if (counts) this._countedAt = Date.now();
    this.events.setList(await this.connection.request({ do: "list" }), counts);
  }

  async _who() {
    this.events.setPeople(await this.connection.request({ do: "who" }));
  }

  /** Hide a person, or show them again: all tabs hear of it. @param {"ignore"|"unignore"|"block"|"unblock"} how @param {string} id */
  hide(how, id) {
    return this.connection.request({ do: how, user: id });
  }

  /** Have a conversation ring for nothing, on all of the user's machines, or as usual. @param {import("./model.js").Talk} talk */
  async mute(talk) {
    await this.connection.request({ do: talk.muted ? "unmute" : "mute", to: talk.id });
    await this._list(false);
  }

  /** @param {string} id of a person who was hidden or is shown again @param {boolean} blocked */
  async _onHidden(id, blocked) {
    const wasBlocked = this.model.people.get(id)?.blocked;
    await Promise.all([this._list(true), this._who()]);
    // What they wrote meanwhile stands between the rest.
    if (wasBlocked && !blocked) for (const talk of this.model.talks.values()) await this._joined(talk);
    await this._findLast();
  }

  /** Load what the list shows of shared conversations, where ignored people wrote all that is known. */
  async _findLast() {
    const { model } = this;
    for (const talk of model.talks.values()) {
      const lacks = () => talk.kind !== "dm" && talk.messages.length > 0 && !talk.complete && !model.lastOf(talk);
      for (let page = 0; page < MAX_SKIPPED && lacks(); page += 1) await (talk.loaded ? this.older(talk) : this.load(talk));
    }
    model.bus.changed("talks");
  }

  /**
   * Load the newest message of a group that the user joined, for the list. Opening it loads the others: the gateway may
   * still be fetching them.
   * @param {import("./model.js").Talk} talk
   */
  async _joined(talk) {
    talk.loaded = false;
    if (talk.id === this.model.frontId) await this.load(talk);
    else this.events.addHistory(talk, await this.connection.request({ do: "history", to: talk.id, limit: 1 }), "newest");
  }

  /** @param {string} what @param {() => Promise<void>} ask */
  _soonOnce(what, ask) {
    if (this._soon.has(what)) return;
    this._soon.set(what, setTimeout(() => {
      this._soon.delete(what);
      ask().catch(() => {});
    }, SOON));
  }

  /**
   * Handle the acceptance of an own message. The gateway reports group and room messages once all have received or read
   * them; intermediate counts must be requested.
   * @param {any} line @param {import("./model.js").Talk} talk
   */
  _onAccepted(line, talk) {
    this.outbox.accepted(line);
    if ((talk.kind !== "dm" || line.files) && talk.loaded) for (const wait of ASK_AGAIN) setTimeout(() => this._requestReceipts(talk), wait);
  }

  /** @param {import("./model.js").Talk} talk */
  _requestReceipts(talk) {
    const newest = talk.messages.findLast((message) => message.mine);
    const had = newest?.files.length ? newest.ticks.files : Infinity;
    const settled = !newest || (newest.ticks.of > 0 && Math.min(newest.ticks.read, had) >= newest.ticks.of);
    if (talk.id !== this.model.frontId || settled || document.hidden) return;
    this._soonOnce("receipts", () => this._receipts(talk));
  }

  /** @param {string} ref @param {string} code @param {string} text */
  _onFailed(ref, code, text) {
    if (code === "since") {
      this.model.continueAfter(this.model.last); // the gateway does not know our last message; everything is loaded again
      return;
    }
    if (!this.outbox.failed(ref, code, text) && code !== "too_many") this.model.bus.emit("notice", text);
  }

  // ---- opening conversations

  /** Open a conversation, at its first unread message. @param {import("./model.js").Talk} talk */
  async open(talk) {
    const { model } = this;
    const isUnderWay = talk.opening;
    if (model.frontId !== talk.id) {
      this.typing(false);
      model.front?.holdAt("");
      model.frontId = talk.id;
      talk.opening = talk.unread > 0;
      if (talk.begun) talk.begun.isNew = false;
      model.bus.emit("front");
    }
    model.bus.changed("talk");
    if (!isUnderWay && (talk.opening || !talk.loaded)) await this._load(talk);
    model.bus.changed("talk");
  }

  /** Load a conversation, as far back as to its first unread message if that is possible. @param {import("./model.js").Talk} talk */
  async _load(talk) {
    let first = "";
    try {
      if (talk.unread) {
        const [row] = await this.connection.request({ do: "unread", to: talk.id }); // before anything is loaded, and so may be read
        talk.unread = row?.unread ?? 0;
        first = row?.id ?? "";
      }
      if (!talk.loaded) await this.load(talk);
      if (first && !(await this.loadUntil(talk, first))) {
        await this.load(talk, MAX_BEHIND);
        first = talk.messages.find((message) => this.model.isNews(message))?.id ?? "";
      } else if (first) this.model.readTo(talk, talk.messages[indexOf(talk, first) - 1]?.id ?? ""); // more may have come meanwhile
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
    } finally {
      if (talk.opening || first) talk.holdAt(talk.unread ? first : "");
      talk.opening = false;
    }
  }

  /** Return the direct conversation with a user. @param {string} userId or a name @returns {Promise<import("./model.js").Talk>} */
  async talkWith(userId) {
    const known = this.model.talkWith(userId);
    if (known) return known;
    const [row] = await this.connection.request({ do: "find", to: `@${userId}` });
    return this.events.talkOf({ user_id: userId, ...row });
  }

  /** Load the newest page of a conversation. @param {import("./model.js").Talk} talk @param {number} [limit] */
  async load(talk, limit = PAGE) {
    if (talk.loading) return;
    talk.loading = true;
    try {
      const rows = await this.connection.request({ do: "history", to: talk.id, limit });
      talk.loaded = true;
      if (isWhole(rows, limit)) talk.complete = true;
      this.events.addHistory(talk, rows, "newest");
      await this._receipts(talk);
      await this._head(talk);
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
    } finally {
      talk.loading = false;
      this.model.changed(talk);
    }
  }

  /** Ask for what stands at the head of a conversation. @param {import("./model.js").Talk} talk */
  async _head(talk) {
    for (const [, { list }] of HEADS) talk.heads[list] = (await this.connection.request({ do: list, to: talk.id })).map(messageOf);
    this.model.bus.changed("head");
  }

  /** Load the page before the oldest loaded message. @param {import("./model.js").Talk} talk */
  async older(talk) {
    const oldest = talk.messages[0];
    if (talk.loading || talk.complete || !talk.loaded || !oldest) return;
    talk.loading = true;
    this.model.changed(talk);
    try {
      const rows = await this.connection.request({ do: "history", to: talk.id, limit: PAGE, before: oldest.id });
      if (isWhole(rows, PAGE)) talk.complete = true;
      this.events.addHistory(talk, rows, "older");
      if (rows.some((row) => row.event === "sent")) await this._receipts(talk, oldest.id);
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
    } finally {
      talk.loading = false;
      this.model.changed(talk);
    }
  }

  /** @param {import("./model.js").Talk} talk @param {string} [before] */
  async _receipts(talk, before) {
    if (!talk.messages.some((message) => message.mine)) return;
    this.events.setReceipts(talk, await this.connection.request({ do: "receipts", to: talk.id, limit: PAGE, ...(before && { before }) }));
  }

  /**
   * Load a message and everything between it and what is loaded.
   * @param {import("./model.js").Talk} talk @param {string} id
   * @returns {Promise<boolean>} false when it is too old
   */
  async loadUntil(talk, id) {
    if (!talk.loaded) await this.load(talk);
    const [oldest] = talk.messages;
    if (talk.byId.has(id) || !oldest) return talk.byId.has(id);
    const [before, behind] = await Promise.all([
      this.connection.request({ do: "history", to: talk.id, before: id, limit: 10 }),
      this.connection.request({ do: "history", to: talk.id, after: id, before: oldest.id, limit: MAX_BEHIND }),
    ]);
    if (!isWhole(behind, MAX_BEHIND)) return false;
    const [first] = await this.connection.request({ do: "history", to: talk.id, before: (behind[0] ?? oldest).id, limit: 1 });
    const rows = [...before, ...(first ? [first] : []), ...behind];
    if (!rows.some((row) => row.id === id)) return false;
    this.events.addHistory(talk, rows, "older");
    talk.complete = before.length < 10;
    await this._receipts(talk);
    return true;
  }

  // ---- marking as read

  /** @param {() => string} newestShown returns the id of the newest message of the open conversation on the screen, "" for none */
  setNewestShown(newestShown) {
    this._newestShown = newestShown;
  }

  /** Handle a new message in the open conversation. @param {import("./model.js").Talk} talk @param {import("./model.js").Message} message */
  _onNew(talk, message) {
    const isSeen = this.attention.active && this.model.shows(talk);
    if (!isSeen && (talk.unread === 1 || !talk.firstUnread)) talk.holdAt(message.id);
  }

  markReadSoon() {
    this._soonOnce("read", async () => this.markRead());
  }

  /** Mark what is on the screen as read, if the user is looking. A mark covers all before it, so all of that must be loaded. */
  markRead() {
    const talk = this.model.front;
    if (!talk || !talk.loaded || talk.opening || !this.attention.active || !this.model.shows(talk) || this.model.unloaded(talk)) return;
    this._markTo(talk, this._newestShown());
  }

  /** Mark the open conversation as read, also what is not loaded. */
  markAllRead() {
    const talk = this.model.front;
    if (talk) this._markTo(talk, talk.messages.at(-1)?.id ?? "");
  }

  /** @param {import("./model.js").Talk} talk @param {string} id of a message */
  _markTo(talk, id) {
    const shown = indexOf(talk, id);
    const newest = talk.messages.findLast((message, index) => index <= shown && !message.mine);
    if (!newest || indexOf(talk, newest.id) < indexOf(talk, talk.readTo)) return;
    const isNews = newest.id !== talk.readTo && this.connection.send({ do: "read", id: newest.id });
    this.model.readTo(talk, newest.id);
    if (!talk.unread) talk.holds = false;
    if (!isNews) return;
    const { unread, mentions } = talk;
    talk.readTo = newest.id;
    this._tabs.postMessage({ user: this.model.me.id, read: { conversation: talk.id, id: newest.id }, unread, mentions });
  }

  // ---- actions

  /** @param {string} text @param {{action?: boolean, replyTo?: string|null, files?: any[]}} [how] `files`: as the gateway keeps them */
  write(text, { action = false, replyTo = null, files = [] } = {}) {
    const talk = this.model.front;
    if (!talk) return;
    this._typingAt = 0;
    this.outbox.write(talk, text, action, replyTo, files);
    talk.holdAt("");
  }

  /** Send a typing notification, rate-limited. @param {boolean} on */
  typing(on) {
    const talk = this.model.front;
    const now = Date.now();
    if (!talk || (on ? now - this._typingAt < TYPING_EVERY : !this._typingAt)) return;
    this._typingAt = on ? now : 0;
    this.connection.send({ do: "typing", to: talk.id, on });
  }

  /** @param {string} id @param {string} text */
  edit(id, text) {
    return this.connection.request({ do: "edit", id, text });
  }

  /** @param {string} id */
  remove(id) {
    return this._act({ do: "delete", id });
  }

  /** Answer a message with one of its choices. @param {import("./model.js").Message} message @param {string} choice */
  press(message, choice) {
    return this._act({ do: "react", id: message.id, reaction: choice });
  }

  /** Ask a poll in the conversation in front. @param {string} question @param {string[]} options @param {string} key */
  poll(question, options, key) {
    return askPoll(this.token, { to: this.model.front?.id ?? "", question, options }, key);
  }

  /** Close an own poll. @param {string} id */
  closePoll(id) {
    return this._act({ do: "close", id });
  }

  /** Vote in a poll; 0 takes the vote back. @param {import("./model.js").Message} message @param {number} option */
  vote(message, option) {
    return this._act({ do: "vote", id: message.id, option }, !option);
  }

  /** Say of a message what its button says, or take it back. @param {any} message @param {import("./said.js").Row} row */
  toggle(message, { list, toggle: [on, off] = ["", ""] }) {
    const isBack = message[list].length > 0;
    return this._act({ do: isBack ? off : on, id: message.id }, isBack);
  }

  /** Toggle a reaction. @param {import("./model.js").Message} message @param {string} reaction */
  react(message, reaction) {
    const mine = message.reactions.find((one) => one.by_id === this.model.me.id)?.reaction;
    const isBack = mine === reaction;
    return this._act({ do: "react", id: message.id, reaction: isBack ? "" : reaction }, isBack);
  }

  /**
   * Do something to a message, unless the same is under way.
   * @param {any} command @param {boolean} [isBack] it takes something back, which may be gone already: no error
   */
  async _act(command, isBack = false) {
    const key = JSON.stringify(command);
    if (this._underWay.has(key)) return;
    this._underWay.add(key);
    try {
      await this.connection.request(command);
    } catch (error) {
      if (!isBack || /** @type {CommandError} */ (error).code !== "usage") throw error;
    } finally {
      this._underWay.delete(key);
    }
  }

  /** @param {string} words @param {string} [to] */
  search(words, to) {
    return this.connection.request({ do: "search", words, ...(to && { to }) });
  }

  /** @param {any} command */
  ask(command) {
    return this.connection.request(command);
  }
}

/** @param {{ text?: string }[]} rows @param {number} limit @returns {boolean} whether there is nothing beyond these rows */
function isWhole(rows, limit) {
  return rows.length < limit && rows.reduce((size, { text }) => size + (text?.length ?? 0), 0) < MAX_TEXTS;
}

/** @param {import("./model.js").Talk} talk @param {string} id @returns {number} the place of a message; -1 when it is not loaded */
function indexOf(talk, id) {
  return talk.messages.findLastIndex((message) => message.id === id);
}
