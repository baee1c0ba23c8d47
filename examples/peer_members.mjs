// Members, of docs/protocol.md: statements of the founder and the admins, what follows from a set of them, and
// certificates by which members answer for users.

import { blake2b, has, hex, isObject, isPlace, key, list, natural } from "./peer_primitives.mjs";
import { sign, sum, tag, text, userId, verify } from "./peer_primitives.mjs";

const ofText = (string) => Buffer.from(string).toString("hex");
const guestMessage = (network, user) => tag("guest/1") + network + user;
export const networkId = (founder) => blake2b(tag("network/2") + founder, 16);
export const guestOf = (network, seed, user) => [userId(seed), sign(seed, guestMessage(network, user))];
export const isGuest = (network, user, [member, signature]) => verify(member, guestMessage(network, user), signature);
export const recordMessage = (network, text) => tag("peer/2") + network + ofText(text);
export const recordOf = (network, seed, member, at, e) => {
  const [id, guest] = [userId(seed), member === seed ? undefined : guestOf(network, member, userId(seed))];
  const text = JSON.stringify({ at, e, guest, id });
  return [text, sign(seed, recordMessage(network, text))];
};

/** What a record says; undefined if it cannot be read, or its peer or the member in it did not sign it. */
export function readRecord(network, [text, sig]) {
  let said;
  try {
    said = JSON.parse(text);
  } catch {}
  if (!isPlace(said) || !verify(said.id, recordMessage(network, text), sig)) return undefined;
  return !said.guest || isGuest(network, said.id, said.guest) ? said : undefined;
}
export const statementMessage = (network, text) => tag("member/1") + network + ofText(text);

/** The form of RFC 8785; of what is not ASCII, has a fraction or a large integer, or is too deep, another text. */
function canonical(value, depth = 0) {
  if (typeof value === "number") return Number.isSafeInteger(value) ? String(value) : undefined;
  if (typeof value === "string") return /^[\0-\x7f]*$/.test(value) ? JSON.stringify(value) : undefined;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  if (depth === 16) return undefined;
  const inner = (one) => canonical(one, depth + 1);
  if (Array.isArray(value)) return `[${value.map(inner)}]`;
  return `{${Object.keys(value).sort().map((name) => `${inner(name)}:${inner(value[name])}`)}}`;
}

const listed = (good, least, most) => (value) => list(good)(value) && value.length >= least && value.length <= most;
const ids = listed(hex(4), 0, 16); // of invites
const isBoolean = (value) => typeof value === "boolean";
const KINDS = {
  add: { who: listed(key, 1, 8), "invite?": hex(4), "of?": key },
  admin: { who: listed(key, 1, 8) },
  remove: { who: listed(key, 1, 16), "keep?": listed(key, 0, 512), "hide?": isBoolean, "invites?": ids },
  pardon: { ids: listed(hex(32), 1, 8) },
  close: { invites: listed(hex(4), 1, 16) },
  revoke: { who: listed(key, 1, 8) },
};

/** What a statement says: `k` is undefined for what has no effect here. Codes of bye are thrown. */
export function readStatement(network, [string, signature]) {
  let said;
  try {
    said = JSON.parse(string);
  } catch {}
  const { by, k, at, ...fields } = isObject(said) ? said : {};
  const inForm = string.length <= 49152 && canonical(said) === string;
  if (!inForm || typeof by !== "string" || !key(by) || !text(k) || !natural(at)) throw "malformed";
  const id = blake2b(tag("statement/2") + network + ofText(string));
  const known = Object.hasOwn(KINDS, k) ? KINDS[k] : {};
  const isKnown = (name) => Object.hasOwn(known, name) || Object.hasOwn(known, `${name}?`);
  const hasEffect = Object.hasOwn(KINDS, k) && Object.keys(fields).every(isKnown) && has(known)(fields);
  return { id, by, pair: [string, signature], size: string.length + 64, ...(hasEffect ? { k, ...fields } : {}) };
}

/** Who belongs to a network: a function of the set of statements that are kept. */
export class Members {
  kept = new Map(); // id -> statement
  made = new Set(); // whoever was ever an admin
  admins = new Set();
  all = new Set(); // members
  removed = new Set();
  ever = new Set(); // whoever a statement that is kept ever named
  removals = []; // in force
  named = new Map(); // user -> the members that it named, in headers and in certificates that it showed
  write = () => {}; // puts on the disk what is new

  /** `own` is the member of this peer. */
  constructor(network, founder, own) {
    Object.assign(this, { network, founder, own });
    if (founder) this.evaluate();
  }

  /** Take the founder's key from whoever knows it: its hash is the id of the network. */
  learn(founder) {
    if (this.founder || !founder || networkId(founder) !== this.network) return;
    this.founder = founder;
    this.write({ founder });
    this.evaluate();
  }

  /** The statement of a text and a signature; undefined if its author did not make it. */
  read(pair) {
    try {
      const said = readStatement(this.network, pair);
      return verify(said.by, statementMessage(this.network, pair[0]), pair[1]) ? said : undefined;
    } catch {}
  }

  /** Keep what counts of these, those of the founder first: they say whose others do. Return what is new. */
  take(pairs) {
    if (!this.founder) return [];
    const said = pairs.map((pair) => this.read(pair)).filter((one) => one && !this.kept.has(one.id));
    const ofMember = ({ by, k }) => k === "revoke" && this.ever.has(by);
    for (const counts of [({ by }) => by === this.founder, ({ by }) => this.admins.has(by), ofMember]) {
      for (const one of said.filter(counts)) this.kept.set(one.id, one);
      this.evaluate();
    }
    const news = said.filter(({ id }) => this.kept.has(id)).map(({ pair }) => pair);
    if (news.length) this.write({ s: news });
    return news;
  }

  evaluate() {
    const of = (by, k) => [...this.kept.values()].filter((one) => one.by === by && one.k === k);
    const out = new Set(of(this.founder, "remove").flatMap(({ who }) => who)).add(this.founder);
    this.made = new Set(of(this.founder, "admin").flatMap(({ who }) => who)).add(this.founder);
    this.admins = new Set([...this.made].filter((user) => !out.has(user)));
    const former = this.kept;
    const signers = [this.founder, ...this.admins];
    this.kept = new Map(signers.flatMap((by) => this.keptOf(by)).map((one) => [one.id, one]));
    const pardons = (by) => of(by, "pardon").flatMap(({ ids }) => ids);
    const removalsOf = (by) => {
      const pardoned = [...pardons(this.founder), ...pardons(by)];
      return of(by, "remove").filter(({ id }) => !pardoned.includes(id));
    };
    this.removals = signers.flatMap(removalsOf);
    const isSafe = (user, by) => user === this.founder || (by !== this.founder && this.admins.has(user));
    const barred = this.removals.flatMap(({ by, who }) => who.filter((user) => !isSafe(user, by)));
    const added = signers.flatMap((by) => of(by, "add")).flatMap(({ who }) => who);
    const stay = of(this.founder, "remove").flatMap(({ keep = [] }) => keep);
    const names = ({ by, k }) => k !== "revoke" && (k !== "admin" || by === this.founder);
    const naming = [...this.kept.values()].filter(names);
    this.ever = new Set([this.founder, ...stay, ...naming.flatMap(({ who = [] }) => who)]);
    const isMember = (by) => !signers.includes(by) && this.ever.has(by);
    const members = new Set([...former.values()].map(({ by }) => by).filter(isMember));
    const revoked = [...members].flatMap((by) => this.keptOf(by, former)).filter(({ k }) => k === "revoke");
    for (const one of revoked) this.kept.set(one.id, one);
    this.removed = new Set(barred);
    this.all = new Set([...signers, ...added, ...stay].filter((user) => !this.removed.has(user)));
  }

  /**
   * What is kept of one author: of an admin those with the smallest ids, up to the one that passes a limit. What expels
   * has a quarter of 1 MiB, all else the rest, and what revokes peers 4 KiB, also of a plain member.
   */
  keptOf(by, among = this.kept) {
    const own = [...among.values()].filter((one) => one.by === by).sort((a, b) => (a.id < b.id ? -1 : 1));
    const most = { remove: 262_144, pardon: 262_144, close: 262_144, revoke: 4096 };
    const size = {};
    const fits = (one, limit) => (size[limit] = (size[limit] ?? 0) + one.size) - one.size < limit;
    return by === this.founder ? own : own.filter((one) => fits(one, most[one.k] ?? 786_432));
  }

  /** Take a member that a user named, in a header or a certificate of its own. */
  note(user, member) {
    this.named.set(user, (this.named.get(user) ?? new Set()).add(member));
  }

  isNamed(member) {
    return !this.founder || member === this.own || this.ever.has(member);
  }

  admits(user, member) {
    return this.all.has(member) && !this.against(user, member).length;
  }

  /**
   * The removals by which a peer is out, for which this member answers now: of it, and of all that it named; and what
   * these revoked.
   */
  against(user, member) {
    const members = [member, ...(this.named.get(user) ?? [])];
    const heads = [this.founder, ...this.admins];
    const isOther = (one) => this.ever.has(one) && !heads.includes(one);
    const may = (by) => by === this.founder || (!isFounders && members.some((one) => one === by || isOther(one)));
    const isFounders = members.includes(this.founder); // such a guest is out by its founder's word about itself
    const out = isFounders ? [] : members.filter((one) => this.removed.has(one));
    const counts = ({ by, who }) =>
      out.some((one) => who.includes(one)) || (who.includes(user) && !heads.includes(user) && may(by));
    const revokes = ({ by, k, who }) => k === "revoke" && members.includes(by) && who.includes(user);
    return [...this.removals.filter(counts), ...[...this.kept.values()].filter(revokes)];
  }

  /** What is shown for a member: the statement that added it, after that by which its author is an admin. */
  vouching(member) {
    const find = (fits) => [...this.kept.values()].find((one) => one.size <= 1280 && fits(one)); // two fit a frame
    const made = (user) => find((one) => one.by === this.founder && one.k === "admin" && one.who.includes(user));
    const isAdded = ({ by, k, who, keep = [] }) =>
      (k === "add" && (by === this.founder || this.admins.has(by)) && who.includes(member)) ||
      (k === "remove" && by === this.founder && keep.includes(member));
    const one = find(isAdded);
    return [made(one?.by ?? member), one].filter(Boolean);
  }

  get sum() {
    return sum("statements", [...this.kept.keys()].sort());
  }

  pages() {
    const pages = [];
    let room = 0;
    for (const { pair, size } of this.kept.values()) {
      if (size > room) pages.push([]);
      room = (size > room ? 65_536 : room) - size;
      pages.at(-1).push(pair);
    }
    return pages;
  }
}
