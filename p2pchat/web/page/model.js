/**
 * The data of the page: people, conversations and their messages. Only events.js and outbox.js change it. It announces
 * changes on its bus and draws nothing.
 *
 * Topics of the bus: "people", "talks" (the list and unread counts), "talk" (the open conversation), "front" (another
 * conversation was opened), "ready" (the lists are loaded, and nothing is open yet), "new" (a message of another arrived),
 * "group" (name or members of a group changed), "head" (what stands at the head of a conversation), "waiting" (messages that no tab of this user has sent yet: how many), "file" (more of a file came to the gateway), "state" (of the connection), "attention" (the user looks at the page now, or no longer), "notice" (a sentence to show).
 */

import { saidOf } from "./said.js";

/**
 * @typedef {object} Person
 * @property {string} id @property {string} label @property {string} name
 * @property {string} status online, idle, unreachable, offline, unknown; "" while the connection is lost, and of who is blocked
 * @property {string} text with the status
 * @property {string|null} since @property {string} about @property {boolean} me
 * @property {boolean} ignored also true for who is blocked, or expelled and hidden @property {boolean} blocked @property {boolean} [expelled]
 *
 * @typedef {object} Begun who began a conversation that the user has not answered
 * @property {string} userId @property {string} label @property {string} admittedBy "" if that is not known
 * @property {boolean} isNew the user has not opened it either @property {boolean} told a notification was shown
 *
 * @typedef {object} Reaction
 * @property {string} reaction @property {string} by @property {string} by_id
 *
 * @typedef {object} Voted
 * @property {number} option @property {string} by @property {string} by_id
 *
 * @typedef {object} FileInfo
 * @property {string} name @property {number} size @property {string} type @property {string} root @property {boolean} here at the gateway
 * @property {number} [held_by] other members who are known to have it @property {boolean} [forgotten] it was removed at the gateway
 * @property {number} [having] of an own message: receivers that have it, as a receipt said
 *
 * @typedef {object} Message
 * @property {string} id "" while it waits to be sent
 * @property {boolean} mine @property {string} sender @property {string} senderId
 * @property {string} text @property {string} sentAt @property {string} claimedAt "" for none
 * @property {string} came when it came here, if much later than it was sent; else ""
 * @property {boolean} action @property {string|null} replyTo
 * @property {boolean} edited @property {boolean} deleted @property {string} unsupported
 * @property {boolean} expelled it came when its writer was no member any more
 * @property {string} mendedAt when it was edited, "" for never
 * @property {Reaction[]} reactions what people say of it, as all fields that said.js lists
 * @property {string[]} choices answers to press: a press is a reaction with that text
 * @property {boolean} poll its choices are voted for, by their numbers from 1
 * @property {Voted[]} votes @property {string} closedAt when it was closed, "" while it is open
 * @property {FileInfo[]} files
 * @property {string[]} missing ids of missing messages that come before it
 * @property {string[]} lastSeenWith
 * @property {Ticks} ticks
 * @property {string} ref while it waits to be sent, else ""
 * @property {string} trouble why it was not sent; "" for none
 * @property {number} version incremented when the message must be redrawn
 *
 * @typedef {object} Ticks delivery of an own message
 * @property {boolean} known
 * @property {number} count receivers that have it @property {number} read receivers that have read it @property {number} of all receivers
 * @property {number} atGateway those among them that another gateway has it for, seen or not
 * @property {number} files receivers that have all of its files
 */

/** One conversation. */
export class Talk {
  /** @param {{id: string, kind: string, name: string, userId?: string, member?: boolean, members?: number}} what */
  constructor({ id, kind, name, userId = "", member = true, members = 0 }) {
    this.id = id;
    this.kind = kind;
    this.name = name;
    this.userId = userId;
    this.member = member;
    this.memberCount = members;
    this.unread = 0;
    this.mentions = 0;
    this.muted = false; // nothing rings for it, and it counts quietly
    /** @type {Message[]} oldest first, without gaps from the first one loaded to the newest */
    this.messages = [];
    /** @type {Map<string, Message>} */
    this.byId = new Map();
    /** @type {{at: string, text: string}[]} what happened among the messages while the page was open */
    this.notes = [];
    /** @type {Record<string, Message[]>} what stands at its head, by the list of said.js, the last one first */
    this.heads = {};
    /** @type {Message[]} waiting to be sent */
    this.waiting = [];
    this.loaded = false; // the newest page was loaded on this connection
    this.loading = false;
    this.complete = false; // the first message of the conversation is loaded
    this.firstUnread = ""; // the id of the first message that was unread when it was opened, below the line "New"
    this.holds = false; // the view stays at that line until the user goes on, rather than follow the newest message
    this.opening = false; // its first unread message is being looked up
    this.readTo = ""; // the newest message reported as read
    /** @type {Begun|null} while the user has not answered somebody it never wrote to */
    this.begun = null;
    /** @type {Map<string, {label: string, until: number}>} people typing, by user id */
    this.typing = new Map();
  }

  /** The address of this conversation in commands. */
  get address() {
    return this.kind === "dm" && this.userId ? `@${this.userId}` : this.id;
  }

  /** Keep the newest messages only: older ones are loaded again when they are wanted. @param {number} most */
  keep(most) {
    const gone = this.messages.splice(0, Math.max(0, this.messages.length - most));
    for (const { id } of gone) this.byId.delete(id);
    if (gone.length) this.complete = false;
    if (gone.some(({ id }) => id === this.firstUnread)) this.firstUnread = this.messages[0].id;
  }

  /** Draw the line "New" above this message, and stay there. @param {string} id */
  holdAt(id) {
    this.firstUnread = id;
    this.holds = id !== "";
  }
}

export class Model {
  constructor() {
    this.bus = new Bus();
    this.me = { id: "", label: "", name: "" };
    this.state = "connecting";
    this.since = ""; // the last message or change received; a new connection continues after it
    this.last = ""; // what was shown last when the connection was opened
    this.gateway = ""; // the gateway it came from, where an account has several
    /** @type {Map<string, Person>} */
    this.people = new Map();
    /** @type {Map<string, Talk>} */
    this.talks = new Map();
    /** @type {Set<string>} ids of those whose conversations have no place here until the user writes to them */
    this.unplaced = new Set();
    this.frontId = "";
    this.mayInvite = false; // the gateway gives this account the invite to the network
    this.maxFileBytes = 0; // 0 for unknown
    this.gatewayId = ""; // the user of the gateway's own peer
    this.isFrontShown = () => true; // replaced by the view: a small screen may show the list instead
  }

  /** Continue after a message or change when the connection is opened again. @param {string} id "" for none */
  continueAfter(id) {
    this.since = id && id + (this.gateway && `@${this.gateway}`);
  }

  /**
   * Count as unread what follows a message that was read, and nothing before it.
   * @param {Talk} talk @param {string} id "" for none: everything loaded follows
   */
  readTo(talk, id) {
    const unread = talk.messages.slice(talk.messages.findLastIndex((message) => message.id === id) + 1).filter((message) => this.isNews(message));
    const mentioned = unread.filter((message) => mentions(message.text, this.me.name)).length;
    if (talk.unread === unread.length && talk.mentions === mentioned) return;
    [talk.unread, talk.mentions] = [unread.length, mentioned];
    this.bus.changed("talks");
  }

  /** @param {Talk} talk @returns {number} unread messages before all that are loaded: while there are any, nothing may count as read */
  unloaded(talk) {
    return talk.complete ? 0 : Math.max(0, talk.unread - talk.messages.filter((message) => this.isNews(message)).length);
  }

  /** @param {Message} message @returns {boolean} whether it counts while it is unread */
  isNews(message) {
    return !message.mine && !message.deleted && !message.expelled && !this.ignores(message.senderId);
  }

  /** @param {Talk} talk @returns {boolean} whether it is open and on the screen */
  shows(talk) {
    return talk.id === this.frontId && this.isFrontShown();
  }

  /** @returns {Person[]} others to write to; the gateway's own peer only once there are messages with it */
  get others() {
    return [...this.people.values()].filter((person) => !person.me && person.name && (person.id !== this.gatewayId || this.lastOf(this.talkWith(person.id))));
  }

  /** @returns {number} people who are here now; 0 while the connection is lost */
  get hereCount() {
    return [...this.people.values()].filter(({ id, status }) => (status === "online" || status === "idle") && id !== this.gatewayId).length;
  }

  /** @returns {Talk|undefined} the open conversation */
  get front() {
    return this.talks.get(this.frontId);
  }

  /** @returns {Talk|undefined} */
  get room() {
    return [...this.talks.values()].find((talk) => talk.kind === "room");
  }

  /** @param {string} userId @returns {Talk|undefined} the direct conversation with a user */
  talkWith(userId) {
    return [...this.talks.values()].find((talk) => talk.kind === "dm" && talk.userId === userId);
  }

  get unread() {
    let sum = 0;
    for (const talk of this.talks.values()) if (!talk.muted) sum += talk.unread;
    return sum;
  }

  /** @param {Talk|undefined} talk @returns {Message|undefined} its newest message of those that are known and not ignored; one that waits to be sent is the newest */
  lastOf(talk) {
    return talk?.waiting.at(-1) ?? talk?.messages.findLast((message) => !this.ignores(message.senderId));
  }

  /** @param {string} id @returns {string} the current label of a user */
  labelOf(id, before = "") {
    return this.people.get(id)?.label ?? before;
  }

  /** @param {string} id */
  ignores(id) {
    return this.people.get(id)?.ignored ?? false;
  }

  /** @param {Talk} talk */
  changed(talk) {
    if (talk.id === this.frontId) this.bus.changed("talk");
  }

  /** Announce that a message must be redrawn. @param {Talk} talk @param {Message} message */
  messageChanged(talk, message) {
    message.version += 1;
    this.changed(talk);
  }
}

/** @param {any} line a `message` or `sent` line @returns {Message} */
export function messageOf(line) {
  return {
    id: line.id,
    mine: line.event === "sent",
    sender: line.sender,
    senderId: line.sender_id,
    text: line.text,
    sentAt: line.sent_at,
    claimedAt: line.claimed_at ?? "",
    came: line.came ?? "",
    action: line.action,
    replyTo: line.reply_to,
    edited: line.edited ?? false,
    deleted: line.deleted ?? false,
    expelled: line.expelled ?? false,
    mendedAt: line.mended_at ?? "",
    unsupported: line.unsupported ?? "",
    ...saidOf(line),
    choices: line.choices ?? [],
    poll: line.poll ?? false,
    closedAt: line.closed_at ?? "",
    files: line.files ?? [],
    missing: line.missing ?? [],
    lastSeenWith: line.last_seen_with ?? [],
    ticks: { known: false, count: 0, atGateway: 0, read: 0, of: 0, files: 0 },
    ref: "",
    trouble: "",
    version: 0,
  };
}

/**
 * Return when a message was written: the time its writer's program gave, if it is not after the one at which it was sent.
 * @param {Message} message @returns {string}
 */
export function writtenAt({ claimedAt, sentAt }) {
  return claimedAt && Date.parse(claimedAt) <= Date.parse(sentAt) ? claimedAt : sentAt;
}

/** @param {string} text @param {string} name @returns {boolean} whether a text contains a name as a whole word */
export function mentions(text, name) {
  if (!name) return false;
  const escaped = name.toLowerCase().replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`(?<![\\p{L}\\p{N}_])${escaped}(?![\\p{L}\\p{N}_])`, "u").test(text.toLowerCase());
}

export class Bus {
  constructor() {
    /** @type {Map<string, Set<(detail: any) => void>>} */
    this._listeners = new Map();
    /** @type {Set<string>} */
    this._changed = new Set();
    this.when = (/** @type {() => void} */ act) => act(); // replaced by the view: nothing changes under what is pressed
  }

  /** @param {string} topic @param {(detail: any) => void} listener @returns {() => void} ends it */
  on(topic, listener) {
    const listeners = this._listeners.get(topic) ?? new Set();
    listeners.add(listener);
    this._listeners.set(topic, listeners);
    return () => listeners.delete(listener);
  }

  /** Call the listeners of a topic now. @param {string} topic @param {any} [detail] */
  emit(topic, detail) {
    for (const listener of this._listeners.get(topic) ?? []) listener(detail);
  }

  /** Call the listeners of a topic once, before the next frame is drawn. @param {string} topic */
  changed(topic) {
    if (!this._changed.size) queueMicrotask(() => this.when(() => this._emitChanged()));
    this._changed.add(topic);
  }

  _emitChanged() {
    const topics = [...this._changed];
    this._changed.clear();
    for (const topic of topics) this.emit(topic);
  }
}
