// What peer.mjs builds on, of docs/protocol.md: hashes, keys, invites, frames, connections, entries and logs. Binary
// values are strings of hex, as on the wire.

import { createHmac, createPrivateKey, createPublicKey, sign as signWith, verify as verifyWith } from "node:crypto";
import * as tls from "node:tls";

const bytes = (hex) => Buffer.from(hex, "hex");
const u64 = (number) => number.toString(16).padStart(16, "0");
export const tag = (name) => Buffer.from(`p2pchat/${name}\0`).toString("hex");

// BLAKE2b (RFC 7693) with digests of 16 and 32 bytes, which Node does not have. Typed arrays cut each sum to 64 bits.
const START = BigUint64Array.from(
  ("6a09e667f3bcc908 bb67ae8584caa73b 3c6ef372fe94f82b a54ff53a5f1d36f1 " +
    "510e527fade682d1 9b05688c2b3e6c1f 1f83d9abfb41bd6b 5be0cd19137e2179").split(" "),
  (word) => BigInt(`0x${word}`),
);
const rows = (text) => text.split(" ").map((row) => [...row].map((digit) => parseInt(digit, 16)));
const ORDER = rows(
  "0123456789abcdef ea489fd61c02b753 b8c052fdae367194 7931dcbe265a40f8 905724afe1bc683d " +
    "2c6a0b834d75fe19 c51fed4a0763928b db7ec13950f4862a 6fe9b308c2d714a5 a2847615fb9e3cd0",
);
const QUARTERS = rows("048c 159d 26ae 37bf 05af 16bc 278d 349e");

export function blake2b(hex, size = 32) {
  const message = bytes(hex);
  const padded = Buffer.alloc(Math.max(128, Math.ceil(message.length / 128) * 128));
  message.copy(padded);
  const state = START.slice();
  state[0] ^= 0x01010000n ^ BigInt(size); // no key, so many bytes of digest
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
    for (let round = 0; round < 12; round++)
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
    for (let word = 0; word < 8; word++) state[word] ^= v[word] ^ v[word + 8];
  }
  return Buffer.from(state.buffer).toString("hex", 0, size); // of a little-endian machine
}

/** What a set of hashes is compared by: tips, statements, or the sums of the conversations that are shared. */
export const sum = (what, hashes) => (hashes.length ? blake2b(tag(`${what}/1`) + hashes.join("")) : LOWEST);

// Ids of conversations, and what is hashed and signed of a log: its header, an entry (a clock and a text), and its
// conversation, user and run, one behind the other.
export const roomId = (network) => blake2b(tag("room/1") + network);
export const dmId = (room, ...users) => blake2b(tag("dm/2") + room + users.sort().join(""));
export const chainStart = (header) => blake2b(tag("log/2") + Buffer.from(header).toString("hex"));
const utf8 = (text) => Buffer.from(text).toString("hex");
export const textProof = (text) => (typeof text === "object" ? text.hash : blake2b(tag("text/1") + utf8(text)));
export const chainNext = (chain, [c, text]) => blake2b(chain + u64(c) + textProof(text));
export const headMessage = (log, number, chain) => tag("head/1") + log + u64(number) + chain;
export const markHash = (log, number, chain) => blake2b(tag("mark/1") + log + u64(number) + chain);

/** The clock of a new entry, from the local time, the clock before it in its log and those of its conversation. */
export const clock = (now, previous, others) =>
  others.reduce((latest, c) => (c > now + 300e6 ? latest : Math.max(latest, c + 1)), Math.max(now, previous + 1));

// What both ends sign and prove in a handshake.
export const transcript = (server, client, ...nonces) => tag("link/1") + "0004" + server + client + nonces.join("");
const hmac = (key, hex) => createHmac("sha256", bytes(key)).update(bytes(hex)).digest("hex");
export const proof = (key, side, transcript) => hmac(key, tag(`invite/1 ${side}`) + transcript);

/** What a newcomer shows of its invite on one connection. */
export const proveInvite = ({ maker, id, uses, until, secret }, member, transcript) => ({
  maker, id, uses, until, proof: hmac(secret, tag("invite/3 proof") + member + transcript),
});

// Ed25519 keys, with the few bytes of ASN.1 that Node wants before them. The id of a user or peer is the public key.
const spki = (id) => `302a300506032b6570032100${id}`; // SubjectPublicKeyInfo
/** Whether 32 bytes may be a key: y is below p, and none of the five of the points of small order. */
export function isKey(id) {
  const y = BigInt(`0x${bytes(id).reverse().toString("hex")}`) & ((1n << 255n) - 1n);
  return y < P && !SMALL.has(y);
}
const P = (1n << 255n) - 19n;
const EIGHTH = 0x7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7n; // of a point of order 8
const SMALL = new Set([0n, 1n, P - 1n, EIGHTH, P - EIGHTH]); // anyone can sign for these points

const publicKey = (id) => createPublicKey({ key: bytes(spki(id)), format: "der", type: "spki" });
const secretKey = (seed) =>
  createPrivateKey({ key: bytes(`302e020100300506032b657004220420${seed}`), format: "der", type: "pkcs8" });
export const keyOf = (key) => key.export({ format: "der", type: "spki" }).toString("hex").slice(24);
export const userId = (seed) => keyOf(createPublicKey(secretKey(seed)));
export const sign = (seed, hex) => signWith(null, bytes(hex), secretKey(seed)).toString("hex");
export function verify(id, hex, signature) {
  try {
    if (!isKey(id) || !isKey(signature.slice(0, 64))) return false;
    return verifyWith(null, bytes(hex), publicKey(id), bytes(signature));
  } catch {
    return false; // no point of the curve
  }
}

/** What a server of TLS shows: a certificate in which nothing but the key means anything. */
export function identity(seed) {
  const name = "300e310c300a06035504030c03703270"; // "p2p", of the issuer and the owner
  const dates = "3022180f32303230303130313030303030305a180f39393939313233313233353935395a"; // 2020 to 9999
  const signed = `307a020101300506032b6570${name}${dates}${name}${spki(userId(seed))}`;
  const packed = bytes(`3081c6${signed}300506032b6570034100${sign(seed, signed)}`).toString("base64");
  const cert = `-----BEGIN CERTIFICATE-----\n${packed.replace(/.{64}/g, "$&\n")}\n-----END CERTIFICATE-----\n`;
  return { cert, key: secretKey(seed).export({ format: "pem", type: "pkcs8" }) };
}

/** Whether a peer may host a user: the certificate is valid for at most 7 days, give or take an hour, counted in ms. */
export function isCertified(network, user, peer, { from, until, sig } = {}, now) {
  const timely = from < until && until - from <= 604_800_000 && from - 86_400_000 <= now && now <= until + 86_400_000;
  return timely && verify(user, tag("host/2") + network + user + peer + u64(from) + u64(until), sig);
}

/** The header with which a log begins. Of each header there is one form. */
export const writeHeader = ({ u, c, r, before, by }) => JSON.stringify({ u, c, r, before, by });

/** What a log builds on, and its member, by its header. Codes of bye are thrown. */
export function readHeader({ u, c, r, h }, network) {
  let [said, before, by] = [{}];
  try {
    ({ before, by } = said = JSON.parse(h));
  } catch {
    throw "malformed";
  }
  const isForm = marks(before) && before.length <= 8 && (by === undefined || guest(by));
  if (!isForm || writeHeader({ u, c, r, before, by }) !== h) throw "malformed";
  if (by && !verify(by[0], tag("guest/1") + network + u, by[1])) throw "head";
  return { before, member: by?.[0] };
}

// Invites.
const BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const checksum = (body) => blake2b(tag("invite/3 sum") + body).slice(0, 8);
const split = (text, size) => text.match(new RegExp(`.{${size}}`, "g")) ?? [];
const binary = (values, size) => [...values].map((value) => value.toString(2).padStart(size, "0")).join("");

/** The maker, network, key, terms, secret and endpoints of an invite; undefined if it is none. */
export function readInvite(text) {
  const [, code, places] = /^p2pchat:([a-z2-7]{178})@(.+)$/i.exec(text.replace(/\s/g, "")) ?? [];
  const endpoints = [...new Set(places?.toLowerCase().split(","))];
  if (!endpoints.length || endpoints.length > 8 || !endpoints.every(splitEndpoint)) return undefined;
  const bits = binary([...code.toUpperCase()].map((sign) => BASE32.indexOf(sign)), 5); // the last 2 of 890 are 0
  const packed = Buffer.from(split(bits, 8).map((octet) => parseInt(octet, 2))).toString("hex");
  const parts = /^03(.{64})(.{32})(.{64})(.{8})(.{2})(.{10})(.{32})(.{8})$/.exec(packed) ?? [];
  const [, maker, network, key, id, count, end, secret, check] = parts;
  const [uses, until] = [parseInt(count, 16), parseInt(end, 16)];
  const good = maker && bits.endsWith("00") && checksum(packed.slice(0, -8)) === check && uses >= 1 && uses <= 64;
  return good ? { maker, network, key, id, uses, until, secret, endpoints } : undefined;
}

/** The host and port of an endpoint; undefined for what must not be dialled from anywhere. */
export function splitEndpoint(endpoint) {
  const [, bracketed, plain, port] = /^(?:\[([0-9a-fA-F:.%]+)\]|([^\s:[\]/@]+)):(\d{1,5})$/.exec(endpoint) ?? [];
  const host = bracketed ?? plain;
  if (!host || endpoint.length > 100 || !(port >= 1 && port <= 65535)) return undefined;
  if (/^(169\.254\.|22[4-9]\.|23\d\.|fe[89ab]|ff)/i.test(host) && (bracketed || /^[\d.]+$/.test(host)))
    return undefined;
  return { host, port: Number(port), isLocal: isLocal(host) };
}

/** Whether an address is of this machine. */
export const isLocal = (host) => /^(::ffff:)?127\.|^::1$|^localhost$/.test(host);

// The types of fields. Each function judges one value.
export const natural = (value) => Number.isSafeInteger(value) && value >= 0;
const positive = (value) => natural(value) && value > 0;
export const hex = (size) => (value) =>
  typeof value === "string" && value.length === 2 * size && /^[0-9a-f]*$/.test(value);
export const key = (value) => hex(32)(value) && isKey(value);
export const text = (value) => typeof value === "string";
const flag = (value) => value === true;
export const list = (good) => (value) => Array.isArray(value) && value.every(good);
const tuple = (...goods) => (value) =>
  Array.isArray(value) && value.length === goods.length && goods.every((good, at) => good(value[at]));
export const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const map = (good) => (value) =>
  isObject(value) && Object.entries(value).every(([key, item]) => hex(32)(key) && good(item));

/** Whether an object has these fields; those with a "?" behind their names may be absent. */
export const has = (fields) => (value) => {
  const fits = ([field, good]) => {
    const found = value[field.replace("?", "")] ?? undefined;
    return found === undefined ? field.endsWith("?") : good(found);
  };
  return isObject(value) && Object.entries(fields).every(fits);
};

const version = (value) => positive(value) || (list(natural)(value) && value.length > 0);
const marks = list(tuple(hex(8), positive, hex(32)));
const guest = tuple(key, hex(64));
const cert = has({ from: natural, until: natural, sig: hex(64) });
const hosted = has({ id: key, name: text, "cert?": cert });
const span = (value) => tuple(hex(32), hex(32))(value) && value[0] <= value[1];
const record = tuple(text, hex(64));
const endpoints = (value) => list(text)(value) && value.length <= 8 && value.every((one) => [...one].length <= 100);
export const isPlace = has({ id: key, at: natural, e: endpoints, "guest?": guest }); // the text of a record
const statements = list(tuple(text, hex(64)));
const few = (value) => statements(value) && value.length <= 4;
const uses = (value) => positive(value) && value <= 64;
const invite = has({ maker: key, id: hex(4), uses, until: natural, proof: hex(32) });
const shown = has({ "founder?": key, "guest?": guest, "s?": few, "invite?": invite });
const stub = has({ hash: hex(32) }); // of a text that is gone
const entries = (value) => list(tuple(positive, (said) => text(said) || stub(said)))(value) && value.length > 0;
const batch = { c: hex(32), u: hex(32), r: hex(8), first: positive, prev: hex(32), e: entries, head: hex(64) };

// The frames that a bot looks into.
const FRAMES = {
  hello: has({ v: version, nonce: hex(32), "id?": key, "sig?": hex(64), "proof?": hex(32) }),
  welcome: has({ "proof?": hex(32), "show?": shown }),
  show: has({ show: shown }),
  go: has({ run: hex(8), n: positive }),
  peers: has({ "records?": list(record) }),
  statements: has({ "founder?": key, "sum?": hex(32), "ask?": flag, "s?": statements }),
  here: has({ users: list(hosted), "gone?": list(hex(32)), "more?": flag }),
  digest: has({ "sum?": hex(32), "sums?": map(hex(32)), "span?": span, "ask?": flag }),
  have: has({ marks: map(map(marks)), "span?": span, "ask?": flag, "end?": natural, "full?": map(list(hex(32))) }),
  want: has({ n: natural, c: hex(32), u: hex(32), tips: marks, "older?": marks }),
  read: has({ marks: map(map(Array.isArray)), "taken?": map(map(Array.isArray)), "ask?": flag }),
  typing: has({ c: hex(32), u: hex(32) }),
  entries: has({ ...batch, "h?": text, "fork?": flag }),
};

/** The first frame of a buffer and what follows it; undefined if the frame is not complete. Codes of bye are thrown. */
export function readFrame(buffer, limit) {
  if (buffer.length < 4) return undefined;
  const length = buffer.readUInt32BE();
  if (length === 0 || length > limit) throw length ? "limit" : "malformed";
  if (buffer.length < 4 + length) return undefined;
  let frame;
  try {
    const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    frame = JSON.parse(utf8.decode(buffer.subarray(4, 4 + length)));
  } catch {
    throw "malformed";
  }
  if (!isObject(frame) || !text(frame.t)) throw "malformed";
  for (const [field, value] of Object.entries(frame)) if (value === null || value === false) delete frame[field];
  if (Object.hasOwn(FRAMES, frame.t) && !FRAMES[frame.t](frame)) throw "malformed";
  if (frame.t === "entries" && (frame.first === 1 || Boolean(frame.fork)) !== Boolean(frame.h)) throw "malformed";
  if (frame.t === "entries" && frame.e.some(([, said]) => text(said) && Buffer.byteLength(said) > 65536)) throw "limit";
  return [frame, buffer.subarray(4 + length)];
}

export function writeFrame(frame) {
  const payload = Buffer.from(JSON.stringify(frame));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(payload.length);
  return Buffer.concat([length, payload]);
}

// Connections. `begin` gets what a link sends with, and at the client the server's key, and returns the link.
export function connect(host, port, begin) {
  const socket = tls.connect({ host, port, servername: "", minVersion: "TLSv1.3", rejectUnauthorized: false });
  const deadline = setTimeout(() => socket.destroy(), 10_000);
  socket.on("error", () => {}).on("close", () => clearTimeout(deadline));
  return socket.on("secureConnect", () => {
    clearTimeout(deadline);
    const far = keyOf(socket.getPeerX509Certificate().publicKey);
    if (isKey(far)) carry(socket, (out) => begin(out, far));
    else socket.destroy();
  });
}

export function listen(host, port, seed, begin) {
  const server = tls.createServer({ ...identity(seed), minVersion: "TLSv1.3", handshakeTimeout: 10_000 });
  return server.on("secureConnection", (socket) => carry(socket, begin)).listen(port, host);
}

function carry(socket, begin) {
  let [rest, silent] = [Buffer.alloc(0), 0];
  const send = (frame) => socket.write(writeFrame(frame));
  const close = () => (socket.end(), setTimeout(() => socket.destroy(), 1000));
  const link = begin({ send, close, isLocal: isLocal(socket.remoteAddress) });
  const deadline = setTimeout(() => link.expected && socket.destroy(), 10_000);
  socket.setNoDelay(true);
  socket.setTimeout(10_000); // neither end has sent anything for so long
  socket.on("timeout", () => (++silent < 3 ? link.send({ t: "ping" }) : socket.destroy()));
  socket.on("data", (data) => {
    [rest, silent] = [Buffer.concat([rest, data]), 0];
    try {
      for (let read; (read = readFrame(rest, link.expected ? 4096 : 262144)); link.receive(read[0])) rest = read[1];
    } catch (code) {
      if (typeof code !== "string") throw code; // of this peer: a full disk, for example
      link.fail(code);
    }
  });
  socket.on("error", () => {});
  socket.on("close", () => {
    clearTimeout(deadline);
    link.lost();
  });
}

/** What a bot needs of an entry. A text that cannot be read has no meaning, and is kept like all others. */
export function readEntry(string) {
  let entry;
  try {
    entry = JSON.parse(string);
  } catch {}
  const { k, re, b, auto, hops } = entry ?? {};
  return { k, b, re, auto, hops: Number.isInteger(hops) && hops > 0 && hops < 256 ? hops : 0 };
}

/** Whether a text may be written: an entry has at most 65,536 bytes. */
export const isText = (value) =>
  text(value) &&
  !value.includes("\0") &&
  value.isWellFormed() &&
  Buffer.byteLength(JSON.stringify(value)) <= 64000;

const CONTROL = /[\0-\x08\x0b\x0c\x0e-\x1f]/; // no text of an entry has such a character

export const LOWEST = "0".repeat(64);
export const ALL = [LOWEST, "f".repeat(64)];
export const within = ([lowest, highest]) => (id) => id >= lowest && id <= highest;

/** The logs that are held. `write` puts a batch on the disk before anyone hears of it. */
export class Logs {
  all = new Map(); // conversation, user and run, one behind the other -> log
  batches = []; // as they were taken
  write = () => {};

  constructor(network, members) {
    Object.assign(this, { network, members });
  }

  of(c) {
    return [...this.all.values()].filter((log) => log.c === c);
  }

  holds(c, u, [run, number, chain]) {
    return this.all.get(c + u + run)?.chains[number] === chain;
  }

  /** The marks of a user's tips: logs that no later log names at their last entry. */
  tips(c, u) {
    const logs = this.of(c).filter((log) => log.u === u);
    const covered = new Set(logs.flatMap((log) => log.before).map(String));
    const marks = logs.map(({ r, chains }) => [r, chains.length - 1, chains.at(-1)]);
    return marks.filter((mark) => !covered.has(String(mark)));
  }

  marks(c, span = ALL) {
    const users = this.of(c).map((log) => log.u);
    return Object.fromEntries(users.filter(within(span)).map((u) => [u, this.tips(c, u)]));
  }

  sum(c) {
    const hashes = ([u, tips]) => tips.map(([run, n, chain]) => markHash(c + u + run, n, chain));
    return sum("tips", Object.entries(this.marks(c)).flatMap(hashes).sort());
  }

  /** How much of each log is held where these marks are: they stand for all that their logs build on. */
  below(c, u, marks) {
    const numbers = new Map(); // by run
    for (const known = marks.filter((mark) => this.holds(c, u, mark)); known.length; ) {
      const [run, number] = known.pop();
      numbers.set(run, Math.max(number, numbers.get(run) ?? 0));
      known.push(...this.all.get(c + u + run).before);
    }
    return numbers;
  }

  /** What a user wrote after these marks, in batches. */
  after(c, u, marks) {
    const numbers = this.below(c, u, marks);
    const cut = ({ first, e, ...batch }) => {
      const held = Math.max(0, (numbers.get(batch.r) ?? 0) + 1 - first);
      const prev = this.all.get(c + u + batch.r).chains[first + held - 1];
      return { ...batch, first: first + held, prev, e: e.slice(held), h: held ? undefined : batch.h };
    };
    return this.batches.filter((batch) => batch.c === c && batch.u === u).map(cut).filter(({ e }) => e.length);
  }

  /** Take a batch: its new entries, if any; undefined if it leaves a gap. Codes of bye are thrown. */
  take({ c, u, r, first, prev, e, head, h }) {
    const id = c + u + r;
    const chains = [prev];
    for (const entry of e) chains.push(chainNext(chains.at(-1), entry));
    const { before, member } = first === 1 ? readHeader({ u, c, r, h }, this.network) : {};
    if (first === 1 && prev !== chainStart(h)) throw "head";
    if (!verify(u, headMessage(id, first + e.length - 1, chains.at(-1)), head)) throw "head";
    if (first === 1 && !this.all.has(id) && !this.members.isNamed(member ?? u)) return [];
    const log = this.all.get(id) ?? { c, u, r, before, chains: [prev], clocks: [0] };
    const place = log.chains.length - first; // of what is new
    if (place < 0 || !log.before?.every((mark) => this.holds(c, u, mark))) return undefined;
    if (place >= e.length || chains[place] !== log.chains.at(-1)) return [];
    const clocks = [log.clocks.at(-1), ...e.slice(place).map(([clock]) => clock)];
    if (clocks.some((clock, at) => at && clock <= clocks[at - 1])) throw "head";
    if (e.some(([, text]) => CONTROL.test(text))) throw "malformed";
    this.write({ c, u, r, first, prev, e, head, h });
    if (member) this.members.note(u, member);
    this.batches.push({ t: "entries", c, u, r, first, prev, e, head, h });
    this.all.set(id, log);
    log.chains.push(...chains.slice(place + 1));
    log.clocks.push(...clocks.slice(1));
    return e.map(([, text], at) => ({ c, u, r, n: first + at, ...readEntry(text) })).slice(place);
  }
}
