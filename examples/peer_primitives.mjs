// Hashes, keys, invites and the JSON of docs/protocol.md, for peer.mjs. Binary values are strings of hex, as on the wire.

import { createHmac, createPrivateKey, createPublicKey, sign as signWith, verify as verifyWith } from "node:crypto";

const bytes = (hex) => Buffer.from(hex, "hex");
export const u64 = (number) => number.toString(16).padStart(16, "0");
export const tag = (name) => Buffer.from(`p2pchat/${name}\0`).toString("hex");

// BLAKE2b (RFC 7693) with a digest of 32 bytes, which Node does not have. Typed arrays cut each sum to 64 bits.
const START = BigUint64Array.of(
  0x6a09e667f3bcc908n,
  0xbb67ae8584caa73bn,
  0x3c6ef372fe94f82bn,
  0xa54ff53a5f1d36f1n,
  0x510e527fade682d1n,
  0x9b05688c2b3e6c1fn,
  0x1f83d9abfb41bd6bn,
  0x5be0cd19137e2179n,
);
const ORDER = [
  "0123456789abcdef",
  "ea489fd61c02b753",
  "b8c052fdae367194",
  "7931dcbe265a40f8",
  "905724afe1bc683d",
  "2c6a0b834d75fe19",
  "c51fed4a0763928b",
  "db7ec13950f4862a",
  "6fe9b308c2d714a5",
  "a2847615fb9e3cd0",
].map((row) => [...row].map((digit) => parseInt(digit, 16)));
const COLUMNS = [
  [0, 4, 8, 12],
  [1, 5, 9, 13],
  [2, 6, 10, 14],
  [3, 7, 11, 15],
];
const DIAGONALS = [
  [0, 5, 10, 15],
  [1, 6, 11, 12],
  [2, 7, 8, 13],
  [3, 4, 9, 14],
];
const QUARTERS = [...COLUMNS, ...DIAGONALS];

export function blake2b(hex) {
  const message = bytes(hex);
  const padded = Buffer.alloc(Math.max(128, Math.ceil(message.length / 128) * 128));
  message.copy(padded);
  const state = START.slice();
  state[0] ^= 0x01010020n; // no key, 32 bytes of digest
  const v = new BigUint64Array(16);
  const turn = (at, by, bits) => {
    const mixed = v[at] ^ v[by];
    v[at] = (mixed >> bits) | (mixed << (64n - bits));
  };
  for (let start = 0; start < padded.length; start += 128) {
    const words = Array.from({ length: 16 }, (_, word) => padded.readBigUInt64LE(start + 8 * word));
    v.set(state);
    v.set(START, 8);
    v[12] ^= BigInt(Math.min(start + 128, message.length));
    if (start + 128 === padded.length) v[14] = ~v[14];
    for (let round = 0; round < 12; round++) {
      QUARTERS.forEach(([a, b, c, d], step) => {
        const order = ORDER[round % 10];
        v[a] += v[b] + words[order[2 * step]];
        turn(d, a, 32n);
        v[c] += v[d];
        turn(b, c, 24n);
        v[a] += v[b] + words[order[2 * step + 1]];
        turn(d, a, 16n);
        v[c] += v[d];
        turn(b, c, 63n);
      });
    }
    for (let word = 0; word < 8; word++) state[word] ^= v[word] ^ v[word + 8];
  }
  const digest = Buffer.alloc(64);
  state.forEach((word, place) => digest.writeBigUInt64LE(word, 8 * place));
  return digest.toString("hex", 0, 32);
}

export const sum = (hashes) =>
  (hashes.reduce((total, hash) => total + BigInt(`0x${hash}`), 0n) % 2n ** 256n).toString(16).padStart(64, "0");
export const mac = (key, hex) => createHmac("sha256", bytes(key)).update(bytes(hex)).digest("hex");

// Ed25519 keys with the few bytes of ASN.1 that Node wants before them. A user's id is the public key.
const publicKey = (id) => createPublicKey({ key: bytes(`302a300506032b6570032100${id}`), format: "der", type: "spki" });
const secretKey = (seed) =>
  createPrivateKey({ key: bytes(`302e020100300506032b657004220420${seed}`), format: "der", type: "pkcs8" });
export const keyOf = (key) => Buffer.from(key.export({ format: "jwk" }).x, "base64url").toString("hex");
export const userId = (seed) => keyOf(createPublicKey(secretKey(seed)));
export const sign = (seed, hex) => signWith(null, bytes(hex), secretKey(seed)).toString("hex");
export function verify(id, hex, signature) {
  try {
    return verifyWith(null, bytes(hex), publicKey(id), bytes(signature));
  } catch {
    return false; // no point of the curve
  }
}

// Ids of conversations, and what is hashed and signed of a log.
export const roomId = (network) => blake2b(tag("room/1") + network);
export const dmId = (...users) => blake2b(tag("dm/1") + users.sort().join(""));
export const chainStart = (log) => blake2b(tag("log/1") + log);
export const chainNext = (chain, text) => blake2b(chain + Buffer.from(text).toString("hex"));
export const headMessage = (log, number, chain) => tag("head/1") + log + u64(number) + chain;
export const markHash = (log, number, chain) => blake2b(tag("mark/1") + log + u64(number) + chain.slice(0, 16));
export const readHash = (conversation, reader, [reference, number]) =>
  blake2b(tag("read/1") + conversation + reader + reference + u64(number));

/** The certificate of a user that another peer hosts: valid for at most 7 days, give or take an hour. */
export function certified(user, peer, { from, until, sig }, now) {
  const days = until - from;
  const timely = from < until && days <= 7 * 86_400_000 && from - 3_600_000 <= now && now <= until + 3_600_000;
  return timely && from >= 0 && verify(user, tag("host/1") + user + peer + u64(from) + u64(until), sig);
}

/** JSON as the protocol has it. Codes of bye are thrown; a number that is no integer comes as a `Number` object. */
export function readJSON(text) {
  // Each string gets an s before it and each number becomes a string with an n, so that the token can be judged.
  const token = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|[[\]{}]/gs;
  let depth = 0;
  const marked = (found) => {
    if ("[{".includes(found) && ++depth > 16) throw "malformed";
    if ("]}".includes(found)) depth -= 1;
    if ("[]{}".includes(found)) return found;
    const value = JSON.parse(found); // throws if it is no number, or the string has a wrong escape
    if (typeof value === "string" ? !value.isWellFormed() : /^-?\d+$/.test(found) && found.length > 4300)
      throw "malformed";
    return found[0] === '"' ? `"s${found.slice(1)}` : `"n${found}"`;
  };
  const plain = (value) => {
    if (typeof value === "string" && value[0] === "s") return value.slice(1);
    if (typeof value === "string") {
      const number = Number(value.slice(1));
      const whole = /^-?\d+$/.test(value.slice(1));
      if (whole ? !Number.isSafeInteger(number) : !Number.isFinite(number)) throw "malformed";
      return whole ? number + 0 : Object(number);
    }
    if (value === null || typeof value !== "object") return value;
    if (Array.isArray(value)) return value.map(plain);
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key.slice(1), plain(item)]));
  };
  try {
    const value = plain(JSON.parse(text.replace(token, marked)));
    if (value === null || typeof value !== "object" || Array.isArray(value)) throw "malformed";
    return value;
  } catch {
    throw "malformed";
  }
}

const natural = (value, least = 0) => Number.isInteger(value) && value >= least;
const hex = (value, digits) => typeof value === "string" && value.length === digits && /^[0-9a-f]*$/.test(value);
const reference = (value) => Array.isArray(value) && value.length === 2 && hex(value[0], 32) && natural(value[1], 1);
const list = (value, most, good) => Array.isArray(value) && value.length <= most && value.every(good);
export const isMark = (value) =>
  Array.isArray(value) && value.length === 3 && hex(value[0], 16) && natural(value[1], 1) && hex(value[2], 16);

// The table of frames: each function judges one field. Those behind `maybe` may be absent.
const id = (value) => hex(value, 64);
const hexOf = (length) => (value) => hex(value, 2 * length);
const maybe = (good) => Object.assign((value) => value === undefined || good(value), { optional: true });
const flag = (value) => typeof value === "boolean";
const words = (most) => (value) => typeof value === "string" && [...value].length <= most;
const tuple =
  (...goods) =>
  (value) =>
    Array.isArray(value) && value.length === goods.length && goods.every((good, at) => good(value[at]));
const map = (key, good) => (value) =>
  value !== null &&
  typeof value === "object" &&
  !Array.isArray(value) &&
  Object.entries(value).every(([k, v]) => key(k) && good(v));
const upTo = (most, good) => (value) => {
  if (Array.isArray(value) && value.length > most) throw "limit";
  return Array.isArray(value) && value.every(good);
};
const span = (value) => tuple(id, id)(value) && value[0] <= value[1];
const endpoint = (value) => {
  if (typeof value === "string" && Buffer.byteLength(value) > 100) throw "limit";
  return typeof value === "string";
};
const certificate = (value) =>
  map(
    () => true,
    () => true,
  )(value) &&
  natural(value.from) &&
  natural(value.until) &&
  hex(value.sig, 128);
const hosted = (user) =>
  map(
    () => true,
    () => true,
  )(user) &&
  id(user.id) &&
  words(128)(user.name) &&
  words(32)(user.status) &&
  [
    [user.text, words(512)],
    [user.since, natural],
    [user.cert, certificate],
  ].every(([value, good]) => value === undefined || value === null || good(value));
const conversationName = (name) => {
  const kinds =
    map(
      () => true,
      () => true,
    )(name) && ["room", "dm", "group", "talk"].filter((kind) => kind in name);
  const sorted = !name?.dm || (tuple(id, id)(name.dm) && name.dm[0] <= name.dm[1]);
  return kinds && kinds.length <= 1 && sorted && (!("room" in name) || name.room === true);
};
const batch = (texts) => {
  if (!upTo(256, (text) => typeof text === "string")(texts) || !texts.length) return false;
  if (texts.reduce((size, text) => size + Buffer.byteLength(text), 0) > 98304) throw "limit";
  return true;
};
const pairs = (most, items) => (value) => {
  if (!map(id, map(id, items))(value)) return false;
  if (Object.values(value).reduce((count, users) => count + Object.keys(users).length, 0) > most) throw "limit";
  return true;
};
const sums = (value) => {
  if (map(id, id)(value) && Object.keys(value).length > 1000) throw "limit";
  return map(id, id)(value);
};
const names = maybe(upTo(2000, conversationName));
const marks = upTo(64, isMark);
const endpoints = upTo(256, endpoint);
const peerIds = maybe(upTo(256, id));
const SHAPES = {
  hello: {
    v: (v) => natural(v, 1) || (Array.isArray(v) && v.length > 0 && v.every((n) => natural(n))),
    nonce: hexOf(32),
    id: maybe(id),
    sig: maybe(hexOf(64)),
    proof: maybe(hexOf(32)),
  },
  welcome: { proof: maybe(hexOf(32)), net: maybe(hexOf(16)) },
  go: { run: hexOf(8), n: (n) => natural(n, 1) },
  ping: {},
  pong: {},
  bye: { code: words(Infinity), text: maybe(words(Infinity)) },
  peers: {
    port: (port) => natural(port) && port < 65536,
    at: endpoints,
    linked: maybe(upTo(256, tuple(id, endpoints))),
    gone: peerIds,
  },
  here: { users: upTo(256, hosted), gone: peerIds, more: maybe(flag) },
  digest: { sum: maybe(id), sums: maybe(sums), span: maybe(span), ask: maybe(flag), names },
  have: {
    marks: pairs(1000, marks),
    span: maybe(span),
    ask: maybe(flag),
    end: maybe((end) => natural(end)),
    full: maybe(map(id, upTo(1000, id))),
    names,
  },
  want: { n: (n) => natural(n), c: id, u: id, tips: marks, older: maybe(upTo(24, isMark)), names },
  entries: {
    c: id,
    u: id,
    r: hexOf(8),
    first: (n) => natural(n, 1),
    prev: id,
    e: batch,
    head: hexOf(64),
    n: maybe((n) => natural(n)),
    fork: maybe(flag),
    names,
  },
  read: { marks: pairs(256, upTo(256, reference)), span: maybe(span), ask: maybe(flag), sum: maybe(id), names },
  typing: { c: id, u: id, on: flag, names },
};

/** A frame with its known fields, if they have their types and keep their limits. Of an unknown type only that is left. */
function checkedFrame(frame) {
  if (typeof frame.t !== "string") throw "malformed";
  const known = { t: frame.t };
  for (const [field, good] of Object.entries(Object.hasOwn(SHAPES, frame.t) ? SHAPES[frame.t] : {})) {
    const value = good.optional && (frame[field] === null || frame[field] === false) ? undefined : frame[field];
    if (!good(value)) throw "malformed";
    if (value !== undefined) known[field] = value;
  }
  const { t, v, id: client, sig, sum, sums: page, span: within, marks: told, first, e } = known;
  const whole = {
    hello: () => Array.isArray(v) || (client && sig),
    digest: () => (sum === undefined) === (page !== undefined) && (page === undefined) === (within === undefined),
    have: () => within === undefined || Object.keys(told).length === 1,
    entries: () => first + (e.length - 1) <= Number.MAX_SAFE_INTEGER,
  }[t];
  if (whole && !whole()) throw "malformed";
  return known;
}

/** The first frame of a buffer and what follows it; undefined if the frame is not complete. */
export function readFrame(buffer, limit) {
  if (buffer.length < 4) return undefined;
  const length = buffer.readUInt32BE();
  if (length === 0 || length > limit) throw length ? "limit" : "malformed";
  if (buffer.length < 4 + length) return undefined;
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(buffer.subarray(4, 4 + length));
  } catch {
    throw "malformed";
  }
  return [checkedFrame(readJSON(text)), buffer.subarray(4 + length)];
}

export function writeFrame(frame) {
  const payload = Buffer.from(JSON.stringify(frame));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(payload.length);
  return Buffer.concat([length, payload]);
}

/** An entry, if docs/protocol-entries.md takes it; the code of the refusal is thrown. */
export function readEntry(text, number) {
  if (Buffer.byteLength(text) > 65536) throw "limit";
  const entry = readJSON(text);
  const optional = (value, good) => value === undefined || value === null || good(value);
  const { k, at, c, re, after = [], before = [], g, b, t } = entry;
  const good =
    typeof k === "string" &&
    natural(at) &&
    natural(c) &&
    optional(re, reference) &&
    optional(t, natural) &&
    list(after, 2, reference) &&
    list(before, number === 1 ? 8 : 0, isMark) &&
    optional(g, (cited) => list(cited, 2, () => true) && natural(cited[0]) && hex(cited[1], 16));
  if (!good) throw "malformed";
  if (["text", "action", "edit", "reaction"].includes(k)) {
    if (typeof b !== "string" || b.includes("\0")) throw "malformed";
    if (Buffer.byteLength(b) > 32768) throw "limit";
  }
  return { ...entry, after, before };
}

/** The clock of a new entry, from the local time, the clock before it in its log and those of its conversation. */
export const clock = (now, previous, others) =>
  others.reduce((latest, c) => (c > now + 300e6 ? latest : Math.max(latest, c + 1)), Math.max(now, previous + 1));

/** The peer, network, key (undefined in an open network) and endpoints of an invite; undefined if it is none. */
export function readInvite(text) {
  const [, code, places] = /^p2pchat:([a-z2-7]+)@(.+)$/i.exec(text.replace(/\s/g, "")) ?? [];
  const endpoints = [...new Set(places?.toLowerCase().split(","))];
  if (!endpoints.length || endpoints.length > 8 || !endpoints.every(splitEndpoint)) return undefined;
  const bits = [...code.toUpperCase()].map((sign) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(sign));
  const binary = bits.map((value) => value.toString(2).padStart(5, "0")).join("");
  const packed = Buffer.from(binary.match(/.{8}/g)?.map((octet) => parseInt(octet, 2)) ?? []).toString("hex");
  const [body, check] = [packed.slice(0, -8), packed.slice(-8)];
  const length = { "01": [136, 162], "02": [85, 98] }[packed.slice(0, 2)];
  if (code.length !== length?.[0] || body.length !== length[1]) return undefined;
  if (/1/.test(binary.slice(4 * packed.length)) || blake2b(tag("invite/1 sum") + body).slice(0, 8) !== check)
    return undefined;
  return { peer: body.slice(2, 66), network: body.slice(66, 98), key: body.slice(98) || undefined, endpoints };
}

/** The host and port of an endpoint; undefined for what must not be dialled from anywhere. */
export function splitEndpoint(endpoint) {
  const [, bracketed, plain, port] = /^(?:\[([0-9a-fA-F:.%]+)\]|([^\s:[\]/@]+)):(\d{1,5})$/.exec(endpoint) ?? [];
  const host = bracketed ?? plain;
  if (!host || endpoint.length > 100 || !(port >= 1 && port <= 65535)) return undefined;
  if (/^(169\.254\.|22[4-9]\.|23\d\.|fe[89ab]|ff)/i.test(host) && (bracketed || /^[\d.]+$/.test(host)))
    return undefined;
  return { host, port: Number(port) };
}

/** All logs that are held, in the order in which they came. `write` gets each batch, to put it on the disk. */
export class Logs {
  all = new Map(); // conversation, user and run, one behind the other -> log

  constructor(write) {
    this.write = write;
  }

  of(c, u) {
    return [...this.all.values()].filter((log) => log.c === c && log.u === u);
  }

  in(c) {
    return [...this.all.values()].filter((log) => log.c === c);
  }

  holds(c, u, [run, number, chain]) {
    return this.all.get(c + u + run)?.chains[number]?.startsWith(chain) ?? false;
  }

  /** The marks of a user's tips: logs that no later log names at their last entry. */
  tips(c, u) {
    const logs = this.of(c, u);
    const marks = logs.map((log) => [log.r, log.texts.length, log.chains.at(-1).slice(0, 16)]);
    const covered = new Set(logs.flatMap((log) => log.before).map(String));
    return marks.filter((mark) => !covered.has(String(mark)));
  }

  /** The marks of all users of a conversation. */
  marks(c) {
    return Object.fromEntries(this.in(c).map(({ u }) => [u, this.tips(c, u)]));
  }

  sum(c) {
    const hashes = Object.entries(this.marks(c)).flatMap(([u, tips]) =>
      tips.map(([run, n, chain]) => markHash(c + u + run, n, chain)),
    );
    return sum(hashes);
  }

  /** The runs that these marks stand for, with all that they build on, and how far each is held there. */
  below(c, u, marks) {
    const far = new Map();
    for (const known = marks.filter((mark) => this.holds(c, u, mark)); known.length;) {
      const [run, number] = known.pop();
      far.set(run, Math.max(number, far.get(run) ?? 0));
      known.push(...this.all.get(c + u + run).before);
    }
    return far;
  }

  /** The batches of one log after an entry, one for each head. */
  batches(log, after) {
    return [...log.heads.keys()]
      .filter((end) => end > after)
      .map((end, place, ends) => {
        const start = place ? ends[place - 1] : after;
        const { c, u, r } = log;
        return {
          t: "entries",
          c,
          u,
          r,
          first: start + 1,
          prev: log.chains[start],
          e: log.texts.slice(start, end),
          head: log.heads.get(end),
        };
      });
  }

  /** Take a batch: the new entries; none of a log that forked; undefined if what is before it is missing. Codes of bye are thrown. */
  take({ c, u, r, first, prev, e, head }) {
    const entries = e.map((text, place) => ({ ...readEntry(text, first + place), c_: c, u, r, number: first + place }));
    const id = c + u + r;
    const log = this.all.get(id) ?? {
      c,
      u,
      r,
      before: entries[0].before,
      chains: [chainStart(id)],
      clocks: [0],
      texts: [],
      heads: new Map(),
    };
    const chains = e.reduce((done, text) => [...done, chainNext(done.at(-1), text)], [prev]);
    const clocks = entries.map((entry) => entry.c);
    if (first > log.chains.length || (first === 1 && !log.before.every((mark) => this.holds(c, u, mark))))
      return undefined;
    const rising = clocks.every(
      (clock, place) =>
        clock > (place ? clocks[place - 1] : prev === log.chains[first - 1] ? log.clocks[first - 1] : 0),
    );
    if (!rising || (first === 1 && prev !== log.chains[0])) throw "head";
    if (!verify(u, headMessage(id, first + e.length - 1, chains.at(-1)), head)) throw "head";
    if (chains.some((chain, place) => chain !== (log.chains[first - 1 + place] ?? chain))) return []; // forked
    const fresh = entries.slice(log.chains.length - first);
    if (!fresh.length) return fresh;
    this.write({ c, u, r, first, prev, e, head });
    this.all.set(id, log);
    log.texts.push(...e.slice(-fresh.length));
    log.chains.push(...chains.slice(-fresh.length));
    log.clocks.push(...clocks.slice(-fresh.length));
    log.heads.set(log.texts.length, head);
    return fresh;
  }
}
