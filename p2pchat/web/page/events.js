/** Event lines, applied to the model, one function per kind of line. Requests to the gateway are made in chat.js. */

import { Talk, mentions, messageOf } from "./model.js";
import { safeLine } from "./safe_text.js";
import { HEADS, SAID, say } from "./said.js";

const TYPING_FOR = 6500; // milliseconds; the gateway ends it after 6 s by itself
const MAX_NOTES = 100; // kept of what happened in the room; a guess
const COUNTED = 100; // messages of a conversation that the gateway counts as unread in its list
const MAX_TAIL = 400; // messages kept of a conversation that is not open
const MAX_HELD = 2000; // of one that is open and not looked at: as many are loaded of what is unread

/** @typedef {import("./model.js").Model} Model */

export class Events {
  /**
   * @param {Model} model
   * @param {object} asks callbacks for what must be requested
   * @param {() => void} asks.list the list of conversations is outdated
   * @param {() => void} asks.counts the unread counts are outdated
   * @param {(userId: string, blocked: boolean) => void} asks.hidden a person was hidden or is shown again, here or elsewhere
   * @param {() => void} asks.who the list of people is outdated
   * @param {(talk: Talk) => void} asks.joined the user joined a group: what was written in it before is not loaded
   * @param {(line: any, talk: Talk) => void} asks.sent an own message was accepted
   * @param {(talk: Talk) => void} asks.head what stands at its head is outdated
   * @param {(ref: string, code: string, text: string) => void} asks.failed a command failed
   */
  constructor(model, asks) {
    this._model = model;
    this._asks = asks;
    /** @type {Record<string, (line: any) => void>} */
    this._handlers = {
      message: (line) => this._post(line),
      sent: (line) => this._post(line),
      edited: (line) => this._edit(line, (message) => Object.assign(message, { text: line.text, edited: true, deleted: false, mendedAt: line.sent_at })),
      deleted: (line) => this._deleted(line),
      ...Object.fromEntries(Object.keys(SAID).map((event) => [event, (line) => this._said(line)])),
      closed: (line) => this._edit(line, (message) => Object.assign(message, { closedAt: line.sent_at, votes: line.votes })),
      delivered: (line) => this._raiseTicks(line, "count"),
      read: (line) => this._raiseTicks(line, "read"),
      presence: (line) => this._presence(line.user_id, line.user, { status: line.status, text: line.text, since: line.since }),
      joined: (line) => this._presence(line.user_id, line.user, { status: "online" }),
      left: (line) => this._presence(line.user_id, line.user, { status: "offline" }),
      member: (line) => this._member(line),
      hidden: (line) => this._asks.hidden(line.user_id, line.blocked),
      renamed: (line) => this._renamed(line),
      typing: (line) => this._typing(line),
      seen: (line) => this._seen(line),
      file_progress: (line) => this._file(line, line.stored, false),
      file_arrived: (line) => this._file(line, line.size, true),
      file_receipt: (line) => this._fileReceipt(line),
      begun: (line) => this._begun(line),
      group: (line) => this._group(line),
      gap: (line) => this._gap(line),
      warning: (line) => this._model.bus.emit("notice", line.text),
      error: (line) => this._asks.failed(line.ref ?? "", line.code, line.text),
    };
  }

  /** @param {any} line */
  handle(line) {
    this._handlers[line.event]?.(line);
    if (line.entry_id && line.id) this._model.continueAfter(line.entry_id);
  }

  // ---- rows of answers

  /**
   * @param {any[]} rows of `list`
   * @param {boolean} counts whether to take the unread counts too; otherwise the page's own counts stay
   */
  setList(rows, counts) {
    const model = this._model;
    model.unplaced = new Set(rows.filter((row) => row.has_place === false).map((row) => row.begun_by_id));
    for (const row of rows.filter((one) => one.has_place !== false)) {
      const isNew = !model.talks.has(row.conversation_id);
      const talk = this._talk(row);
      talk.name = row.conversation;
      talk.muted = row.muted;
      talk.member = row.member ?? true;
      talk.memberCount = row.members ?? 0;
      if (row.user_id) talk.userId = row.user_id;
      talk.begun = row.begun_by_id ? { userId: row.begun_by_id, label: row.begun_by, admittedBy: row.admitted_by ?? "", isNew: row.new && talk.begun?.isNew !== false, told: true } : null;
      const most = row.unread < COUNTED ? row.unread : Math.max(row.unread, talk.unread);
      const counted = talk.loaded && model.shows(talk) ? Math.min(talk.unread, most) : most; // what is shown is read here first
      if (counts || isNew) [talk.unread, talk.mentions] = [counted, Math.min(counted, row.mentions)];
    }
    const ids = new Set(rows.map((row) => row.conversation_id)); // not of what was begun by whom the account blocks
    for (const [id, talk] of model.talks) {
      if (ids.has(id)) continue;
      talk.begun = null;
      if (talk.kind === "group" && id !== model.frontId) model.talks.delete(id);
    }
    model.bus.changed("talks");
    model.bus.changed("talk"); // somebody may have answered the open one elsewhere
  }

  /** @param {any} line */
  _begun(line) {
    const talk = this._talk(line);
    if (line.kind === "dm") talk.userId = line.user_id;
    talk.begun = { userId: line.user_id, label: line.user, admittedBy: line.admitted_by ?? "", isNew: talk.id !== this._model.frontId, told: false };
    this._model.bus.changed("talks");
    this._model.changed(talk);
  }

  /** @param {any[]} rows of `latest`: the newest message of each conversation */
  setLatest(rows) {
    for (const row of rows) {
      const talk = this._talk(row);
      if (!talk.messages.length || talk.byId.has(row.id)) this.addHistory(talk, [row], "newest");
    }
  }

  /** Nobody's presence is known while the connection is lost; `who` tells it again. */
  forgetPresence() {
    for (const person of this._model.people.values()) Object.assign(person, { status: "", text: "" });
    this._model.bus.changed("people");
  }

  /** @param {any[]} rows of `who` */
  setPeople(rows) {
    const known = new Set(rows.map((row) => row.user_id));
    for (const [id, person] of this._model.people) if (!known.has(id)) Object.assign(person, { status: "", text: "" });
    for (const row of rows) this._person(row);
    this._model.bus.changed("people");
  }

  /**
   * Add a page of history.
   * @param {Talk} talk @param {any[]} rows oldest first
   * @param {"newest"|"older"} where they go: at the end, or before all others
   */
  addHistory(talk, rows, where) {
    const known = talk.byId;
    const page = rows.map((line) => this._merge(known.get(line.id), line));
    const ids = new Set(page.map((message) => message.id));
    const others = talk.messages.filter((message) => !ids.has(message.id));
    if (where === "older") talk.messages = [...page, ...others];
    else talk.messages = joinPages(talk, page, ids);
    talk.byId = new Map(talk.messages.map((message) => [message.id, message]));
    this._model.changed(talk);
    this._model.bus.changed("talks");
  }

  /** @param {Talk} talk @param {any[]} rows of `receipts` */
  setReceipts(talk, rows) {
    for (const row of rows) {
      const message = talk.byId.get(row.id);
      if (!message) continue;
      const count = Math.max(message.ticks.count, row.count, row.read_count);
      // `of` is 0 once the gateway has restarted: it no longer knows who was in the room.
      const of = row.of || message.ticks.of;
      message.ticks = { known: true, count, atGateway: row.at_gateway_count, read: Math.max(message.ticks.read, row.read_count), of: Math.max(of, count), files: row.files_count ?? 0 };
      this._model.messageChanged(talk, message);
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

  /** Return the conversation of a row of `find`, created if needed. @param {any} row @returns {Talk} */
  talkOf(row) {
    const talk = this._talk(row);
    if (row.user_id) talk.userId = row.user_id;
    return talk;
  }

  /** @param {any} line */
  _post(line) {
    const model = this._model;
    const talk = this._talk(line);
    const message = this._merge(talk.byId.get(line.id), line);
    model.continueAfter(line.id);
    if (!model.people.has(line.sender_id)) this._asks.who(); // registered meanwhile, and nowhere online
    if (message.mine) {
      message.ticks.known = true; // saved, if nothing else
      this._asks.sent(line, talk);
    }
    talk.typing.delete(line.sender_id);
    if (message.mine) this._answered(talk.begun?.userId ?? talk.userId);
    if (!talk.byId.has(line.id)) this._append(talk, message, line.old);
    this._model.messageChanged(talk, message);
  }

  /** Take that the user wrote to somebody, who is no stranger in other conversations either. @param {string} userId */
  _answered(userId) {
    this._model.unplaced.delete(userId);
    for (const talk of this._model.talks.values()) if (talk.begun?.userId === userId) talk.begun = null;
  }

  /** @param {Talk} talk @param {any} message @param {boolean} old */
  _append(talk, message, old) {
    const model = this._model;
    talk.messages.push(message);
    talk.byId.set(message.id, message);
    if (talk.id !== model.frontId) talk.keep(MAX_TAIL);
    else if (talk.holds) talk.keep(MAX_HELD);
    model.bus.changed("talks");
    if (old || !model.isNews(message)) return;
    if (message.id === talk.readTo) return model.readTo(talk, message.id); // another tab was faster
    talk.unread += 1;
    if (mentions(message.text, model.me.name)) talk.mentions += 1;
    model.bus.emit("new", { talk, message });
  }

  /** Return a message updated from a line; its receipts stay. @param {any} known @param {any} line */
  _merge(known, line) {
    const message = messageOf(line);
    if (!known) return message;
    return Object.assign(known, { ...message, ticks: known.ticks, version: known.version + 1 });
  }

  /** @param {any} line @param {(message: any) => void} change */
  _edit(line, change) {
    const talk = this._model.talks.get(line.conversation_id);
    const message = talk?.byId.get(line.id);
    if (!talk || !message) return;
    change(message);
    this._model.messageChanged(talk, message);
    this._model.bus.changed("talks"); // its list may show this message
    if (HEADS.some(([, { list }]) => talk.heads[list]?.some(({ id }) => id === line.id))) this._asks.head(talk);
  }

  /** @param {any} line of what somebody says of a message */
  _said(line) {
    this._edit(line, (message) => say(message, line));
    const talk = this._model.talks.get(line.conversation_id);
    if (talk?.loaded && SAID[line.event].head) this._asks.head(talk);
  }

  /** @param {any} line */
  _deleted(line) {
    this._edit(line, (message) => Object.assign(message, { text: "", deleted: true })); // what belongs to it is there if an edit brings it back
    if (line.by_id !== this._model.me.id && this._model.talks.get(line.conversation_id)?.unread) this._asks.counts(); // it no longer counts
  }

  /** @param {any} line @param {"count"|"read"} which */
  _raiseTicks(line, which) {
    const talk = this._model.talks.get(line.conversation_id);
    const message = talk?.byId.get(line.id);
    if (!talk || !message) return;
    const isApart = which === "count" && line.at_gateway && talk.kind !== "room"; // in the room all were here
    message.ticks = { ...message.ticks, known: true, [which]: Math.max(message.ticks[which], line.count), of: Math.max(message.ticks.of, line.of) };
    if (isApart) message.ticks.atGateway = Math.min(message.ticks.atGateway + 1, message.ticks.count);
    this._model.messageChanged(talk, message);
  }

  /** @param {any} row of `who` */
  _person(row) {
    const { user_id: id, user: label, name, status, text, since, about, me, ignored, blocked, expelled } = row;
    this._model.people.set(id, { id, label, name, status, text, since, about, me, ignored, blocked, expelled });
    this._hidePresence(id);
    if (me) this._model.me = { id, label, name };
  }

  /** Leave out the presence of blocked people, and of the gateway's own peer: it runs, whether or not its user is there. @param {string} id */
  _hidePresence(id) {
    const person = this._model.people.get(id);
    if (person && (person.blocked || id === this._model.gatewayId)) Object.assign(person, { status: "", text: "" });
  }

  /** @param {string} id @param {string} label @param {object} what */
  _presence(id, label, what) {
    const known = this._model.people.get(id);
    if (known) Object.assign(known, what, { label });
    else this._asks.who();
    this._hidePresence(id);
    this._model.bus.changed("people");
  }

  /** Show in the room what was decided about a member of the network. @param {any} line */
  _member(line) {
    const { room, me } = this._model;
    this._asks.who();
    if (!room) return;
    room.notes = [...room.notes, { at: line.at, text: changeOfMember(line, me.id) }].slice(-MAX_NOTES);
    this._model.changed(room);
  }

  /** @param {any} line */
  _renamed(line) {
    const model = this._model;
    const known = model.people.get(line.user_id);
    // A label longer than the name distinguishes users with the same name, whose labels change too. Requesting the whole
    // list on every other rename would make every page load every row.
    if (known && (known.label !== known.name || line.user !== line.name)) this._asks.who();
    this._presence(line.user_id, line.user, { name: line.name });
    if (line.user_id === model.me.id) Object.assign(model.me, { label: line.user, name: line.name });
    const talk = model.talkWith(line.user_id);
    if (talk) talk.name = line.user;
    for (const one of model.talks.values()) for (const message of one.messages) if (message.senderId === line.user_id) message.version += 1;
    model.bus.changed("talk");
    model.bus.changed("talks");
  }

  /** @param {any} line @param {number} stored @param {boolean} here */
  _file({ root }, stored, here) {
    if (here) for (const talk of this._model.talks.values()) for (const { files } of talk.messages) for (const file of files) file.here ||= file.root === root;
    this._model.bus.emit("file", { root, stored, here });
  }

  /** Note how many have a file of an own message. @param {any} line */
  _fileReceipt(line) {
    this._edit(line, (message) => {
      const files = message.files.map((/** @type {any} */ file) => (file.root === line.root ? { ...file, having: line.count } : file));
      const having = files.map((/** @type {any} */ file) => file.having ?? message.ticks.files);
      const { ticks } = message;
      Object.assign(message, { files, ticks: { ...ticks, of: Math.max(ticks.of, line.of), files: Math.min(...having) } });
    });
  }

  /** Take that this account read in a conversation, perhaps in another tab or at another gateway. @param {any} line */
  _seen(line) {
    if (this._model.talks.get(line.conversation_id)?.unread) this._asks.counts();
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
    // Whether the user was a member before is no sign: the list may have told of the group, or of the return, already.
    if (talk.member && (line.change === "created" || line.target_id === this._model.me.id)) this._asks.joined(talk);
    this._model.changed(talk);
    this._model.bus.changed("talks");
    this._model.bus.emit("group", talk);
    this._asks.list(); // two groups of one name get distinct labels
  }

  /** @param {any} line */
  _gap(line) {
    for (const talk of this._model.talks.values()) {
      const message = talk.byId.get(line.about);
      if (!message) continue;
      Object.assign(message, { missing: line.missing, lastSeenWith: line.last_seen_with });
      this._model.messageChanged(talk, message);
    }
  }
}

/**
 * Join the newest page with the messages known before it and those received after it.
 * @param {Talk} talk @param {import("./model.js").Message[]} page @param {Set<string>} ids of the page
 */
function joinPages(talk, page, ids) {
  const known = talk.messages;
  const first = known.findIndex((message) => ids.has(message.id));
  const last = known.findLastIndex((message) => ids.has(message.id));
  const newest = page.at(-1)?.sentAt ?? "";
  const behind = first < 0 ? known.filter((message) => message.sentAt > newest) : known.slice(last + 1);
  if (first < 0) talk.complete = false; // messages in between are unknown; scrolling back loads them
  return [...known.slice(0, Math.max(first, 0)), ...page, ...behind];
}

/** Return a line `member` as a sentence. @param {any} line @param {string} myId @returns {string} */
function changeOfMember(line, myId) {
  const name = (/** @type {string} */ label, /** @type {string} */ id) => (id === myId ? "you" : safeLine(label));
  const user = name(line.user, line.user_id);
  const by = line.by_id === line.user_id ? "their login" : name(line.by, line.by_id);
  const isMine = line.user_id === myId;
  const named = line.users.length ? line.users : [line.user];
  const others = line.count > named.length ? ` and ${line.count - named.length} more` : "";
  const who = isMine ? "you" : named.map(safeLine).join(", ") + others;
  const are = isMine || line.count > 1 ? "are" : "is";
  const them = isMine ? "you" : "them";
  const said = {
    admitted: `${by} admitted ${user} to this network`,
    expelled: `${by} expelled ${user} from this network`,
    pardoned: `${by} let ${user} back into this network`,
    admin: `${by} made ${user} an admin of this network`,
    revoked: `${by} shut out a lost machine`,
    shared: `${by} answers for your key, too: if a machine of yours was stolen, an admin can expel ${by}`,
    unadmin: `${by} made ${user} a plain member again`,
    restored: `${who} ${are} in: ${by}, who expelled ${them}, is no admin any more`,
    dropped: `${who} ${are} out: ${by}, who admitted ${them}, is no admin any more`,
    late: `${by} admitted ${who} by an invite that was closed already`,
  };
  return said[/** @type {"admitted"} */ (line.change)] ?? "";
}
