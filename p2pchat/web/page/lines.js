/**
 * Event lines, taken into the model: each kind of line has one function here. What is asked of the gateway, and when,
 * is chat.js.
 */

import { Talk, mentions, messageOf } from "./model.js";

const TYPING_FOR = 6500; // milliseconds; the gateway ends it after 6 s by itself
const MOST_TAIL = 400; // messages kept of a conversation nobody has opened

/** @typedef {import("./model.js").Model} Model */

export class Lines {
  /**
   * @param {Model} model
   * @param {object} asks what has to be asked for
   * @param {() => void} asks.list the conversations are others than known here
   * @param {() => void} asks.who so are the people
   * @param {(line: any, talk: Talk) => void} asks.sent an own message is kept
   * @param {(ref: string, code: string, text: string) => void} asks.failed something was not done
   */
  constructor(model, asks) {
    this._model = model;
    this._asks = asks;
    /** @type {Record<string, (line: any) => void>} */
    this._takes = {
      message: (line) => this._post(line),
      sent: (line) => this._post(line),
      edited: (line) => this._mended(line, (message) => Object.assign(message, { text: line.text, edited: true, deleted: false })),
      deleted: (line) => this._mended(line, (message) => Object.assign(message, { text: "", deleted: true, reactions: [] })),
      reaction: (line) => this._mended(line, (message) => react(message, line)),
      delivered: (line) => this._risen(line, "count"),
      read: (line) => this._risen(line, "read"),
      presence: (line) => this._presence(line.user_id, line.user, { status: line.status, text: line.text, since: line.since }),
      joined: (line) => this._presence(line.user_id, line.user, { status: "online" }),
      left: (line) => this._presence(line.user_id, line.user, { status: "offline" }),
      renamed: (line) => this._renamed(line),
      typing: (line) => this._typing(line),
      group: (line) => this._group(line),
      gap: (line) => this._gap(line),
      warning: (line) => this._model.bus.tell("notice", line.text),
      error: (line) => this._asks.failed(line.ref ?? "", line.code, line.text),
    };
  }

  /** @param {any} line */
  take(line) {
    this._takes[line.event]?.(line);
  }

  // ---- rows of answers

  /**
   * @param {any[]} rows of `list`
   * @param {boolean} counts whether what they say of unread messages holds: lines that came meanwhile are counted here
   */
  takeList(rows, counts) {
    const model = this._model;
    for (const row of rows) {
      const isNew = !model.talks.has(row.conversation_id);
      const talk = this._talk(row);
      talk.name = row.conversation;
      talk.member = row.member ?? true;
      talk.memberCount = row.members ?? 0;
      if (row.user_id) talk.userId = row.user_id;
      if ((counts || isNew) && talk.id !== model.frontId) [talk.unread, talk.mentions] = [row.unread, row.mentions];
    }
    model.bus.changed("talks");
  }

  /** @param {any[]} rows of `who` */
  takeWho(rows) {
    for (const row of rows) this._person(row);
    this._model.bus.changed("people");
  }

  /**
   * Take a page of a history.
   * @param {Talk} talk @param {any[]} rows oldest first
   * @param {"newest"|"older"|"whole"} where they belong: at the end, before all others, or in place of all
   */
  takeHistory(talk, rows, where) {
    const known = talk.byId;
    const page = rows.map((line) => this._fresh(known.get(line.id), line));
    const ids = new Set(page.map((message) => message.id));
    const others = talk.messages.filter((message) => !ids.has(message.id));
    if (where === "older") talk.messages = [...page, ...others];
    else if (where === "whole") talk.messages = page;
    else talk.messages = joined(talk, page, ids);
    talk.byId = new Map(talk.messages.map((message) => [message.id, message]));
    this._remember(talk);
    this._model.changed(talk);
  }

  /** @param {Talk} talk @param {any[]} rows of `receipts` */
  takeReceipts(talk, rows) {
    for (const row of rows) {
      const message = talk.byId.get(row.id);
      if (!message) continue;
      const having = new Set([...row.delivered_to_ids, ...row.read_by_ids]).size;
      const of = row.of || having;
      message.ticks = { count: Math.max(message.ticks.count, having), read: Math.max(message.ticks.read, row.read_by_ids.length), of };
      this._model.touched(talk, message);
    }
  }

  // ---- inside

  /** @param {any} line of a message, or a row of `list` or `find` @returns {Talk} */
  _talk(line) {
    const model = this._model;
    let talk = model.talks.get(line.conversation_id);
    if (!talk) {
      const userId = line.user_id ?? (line.event === "message" && line.kind === "dm" ? line.sender_id : "");
      talk = new Talk({ id: line.conversation_id, kind: line.kind, name: line.conversation, userId });
      model.talks.set(talk.id, talk);
      if (line.event && line.kind === "dm" && !userId) this._asks.list();
      model.bus.changed("talks");
    }
    return talk;
  }

  /** Open the conversation a row of `find` names. @param {any} row @returns {Talk} */
  found(row) {
    const talk = this._talk(row);
    if (row.user_id) talk.userId = row.user_id;
    return talk;
  }

  /** @param {any} line */
  _post(line) {
    const model = this._model;
    const talk = this._talk(line);
    const message = this._fresh(talk.byId.get(line.id), line);
    model.since = line.id;
    if (message.mine) this._asks.sent(line, talk);
    talk.typing.delete(line.sender_id);
    if (!talk.byId.has(line.id)) this._append(talk, message, line.old);
    this._model.touched(talk, message);
  }

  /** @param {Talk} talk @param {any} message @param {boolean} old */
  _append(talk, message, old) {
    const model = this._model;
    talk.messages.push(message);
    talk.byId.set(message.id, message);
    if (!talk.loaded && talk.messages.length > MOST_TAIL) talk.byId.delete(talk.messages.shift()?.id ?? "");
    this._remember(talk);
    if (message.mine || old || model.ignores(message.senderId)) return;
    talk.unread += 1;
    if (mentions(message.text, model.me.name)) talk.mentions += 1;
    model.bus.changed("talks");
    model.bus.tell("new", { talk, message });
  }

  /** @param {Talk} talk */
  _remember(talk) {
    talk.lastAt = talk.messages.at(-1)?.sentAt ?? talk.lastAt;
  }

  /** A message as a line tells it; what is known of it besides stays. @param {any} known @param {any} line */
  _fresh(known, line) {
    const message = messageOf(line);
    if (!known) return message;
    return Object.assign(known, { ...message, ticks: known.ticks, version: known.version + 1 });
  }

  /** @param {any} line @param {(message: any) => void} change */
  _mended(line, change) {
    const talk = this._model.talks.get(line.conversation_id);
    const message = talk?.byId.get(line.id);
    if (!talk || !message) return;
    change(message);
    this._model.touched(talk, message);
  }

  /** @param {any} line @param {"count"|"read"} which */
  _risen(line, which) {
    const talk = this._model.talks.get(line.conversation_id);
    const message = talk?.byId.get(line.id);
    if (!talk || !message) return;
    message.ticks = { ...message.ticks, [which]: Math.max(message.ticks[which], line.count), of: Math.max(message.ticks.of, line.of) };
    this._model.touched(talk, message);
  }

  /** @param {any} row of `who` */
  _person(row) {
    const { user_id: id, user: label, name, status, text, since, about, me, ignored } = row;
    this._model.people.set(id, { id, label, name, status, text, since, about, me, ignored });
    if (me) this._model.me = { id, label, name };
  }

  /** @param {string} id @param {string} label @param {object} what */
  _presence(id, label, what) {
    const known = this._model.people.get(id);
    if (known) Object.assign(known, what, { label });
    else this._asks.who();
    this._model.bus.changed("people");
  }

  /** @param {any} line */
  _renamed(line) {
    const model = this._model;
    const known = model.people.get(line.user_id);
    // A label longer than the name is so because of others, whose labels change with it; to ask for everybody at each
    // other change would be every page asking for every row.
    if (known && (known.label !== known.name || line.user !== line.name)) this._asks.who();
    this._presence(line.user_id, line.user, { name: line.name });
    if (line.user_id === model.me.id) Object.assign(model.me, { label: line.user, name: line.name });
    const talk = model.talkWith(line.user_id);
    if (talk) talk.name = line.user;
    for (const one of model.talks.values()) for (const message of one.messages) if (message.senderId === line.user_id) message.version += 1;
    model.bus.changed("talk");
    model.bus.changed("talks");
  }

  /** @param {any} line */
  _typing(line) {
    const talk = this._model.talks.get(line.conversation_id);
    if (!talk || line.user_id === this._model.me.id) return;
    if (line.typing) talk.typing.set(line.user_id, { label: line.user, until: Date.now() + TYPING_FOR });
    else talk.typing.delete(line.user_id);
    this._model.bus.changed("typing");
  }

  /** @param {any} line */
  _group(line) {
    const talk = this._talk({ conversation_id: line.conversation_id, conversation: line.group, kind: "group" });
    talk.name = line.group;
    talk.memberCount = line.members.length;
    talk.member = line.member_ids.includes(this._model.me.id);
    this._model.bus.changed("talks");
    this._asks.list(); // two groups of one name are told apart by then
  }

  /** @param {any} line */
  _gap(line) {
    for (const talk of this._model.talks.values()) {
      const message = talk.byId.get(line.about);
      if (!message) continue;
      Object.assign(message, { missing: line.missing, lastSeenWith: line.last_seen_with });
      this._model.touched(talk, message);
    }
  }
}

/** @param {import("./model.js").Message} message @param {any} line */
function react(message, line) {
  message.reactions = message.reactions.filter((one) => one.by_id !== line.by_id);
  if (line.reaction) message.reactions.push({ reaction: line.reaction, by: line.by, by_id: line.by_id });
}

/**
 * The newest page, with what is known before it, where they join, and what came behind it meanwhile.
 * @param {Talk} talk @param {import("./model.js").Message[]} page @param {Set<string>} ids of the page
 */
function joined(talk, page, ids) {
  const known = talk.messages;
  const first = known.findIndex((message) => ids.has(message.id));
  const last = known.findLastIndex((message) => ids.has(message.id));
  const newest = page.at(-1)?.sentAt ?? "";
  const behind = first < 0 ? known.filter((message) => message.sentAt > newest) : known.slice(last + 1);
  if (first < 0) talk.complete = false; // what lies between is not known: it is read when somebody scrolls back
  return [...known.slice(0, Math.max(first, 0)), ...page, ...behind];
}
