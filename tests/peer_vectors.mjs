// The test vectors of the protocol against examples/peer.mjs: prints what differs, one line a vector, and the count.

import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { Link, Peer } from "../examples/peer.mjs";
import * as p2p from "../examples/peer_primitives.mjs";

const folder = new URL("../p2pchat/testing/vectors/", import.meta.url);
const whole = ({ text, repeat }) => (repeat ? text.replaceAll("~", () => repeat[0].repeat(repeat[1])) : text);
const attempt = (action) => {
  try {
    return action();
  } catch (code) {
    if (typeof code !== "string") throw code;
    return { refused: code };
  }
};

const hashes = {
  blake2b: ({ message }) => ({ hash: p2p.blake2b(message) }),
  room: ({ network }) => ({ hash: p2p.roomId(network) }),
  dm: ({ users }) => ({ hash: p2p.dmId(...users) }),
  chain_0: ({ conversation, user, run }) => ({ hash: p2p.chainStart(conversation + user + run) }),
  chain: ({ previous, entry }) => ({ hash: p2p.chainNext(previous, entry) }),
  mark: ({ conversation, user, run, seq, chain }) => ({ hash: p2p.markHash(conversation + user + run, seq, chain) }),
  read: ({ conversation, reader, ref, seq }) => ({ hash: p2p.readHash(conversation, reader, [ref, seq]) }),
  sum: ({ hashes }) => ({ sum: p2p.sum(hashes) }),
  user: ({ seed }) => ({ id: p2p.userId(seed) }),
};

/** A link of bob's peer that collects what it sends. */
function linked(setting, given, stage) {
  const sent = [];
  const peer = new Peer({ seed: "02".repeat(32), name: "bob", run: setting.run, now: () => setting.now_us, ...given });
  const link = new Link(
    peer,
    given.server,
    given.pin,
    { send: (frame) => sent.push(frame), close: () => {} },
    given.nonce,
  );
  link.stage = stage ?? link.stage;
  return { peer, link, sent };
}

function entriesOf(setting, { held, frame }) {
  const { peer, link } = linked(setting, { network: setting.network, server: setting.ada.id }, "up");
  link.on_here({ users: [{ id: setting.ada.id, name: "ada", status: "online" }] });
  for (const earlier of held) link.receive(earlier);
  const take = peer.logs.take.bind(peer.logs);
  let fresh = null;
  peer.logs.take = (batch) => (fresh = take(batch));
  link.receive(frame);
  const entries = frame.e.length;
  if (link.code) return { refused: link.code, entries };
  if (fresh === null) return { ignored: true, entries };
  if (fresh === undefined) return { dropped: "gap", entries };
  const counts = { known: entries - fresh.length, new: fresh.length };
  return Object.fromEntries(Object.entries(counts).filter(([, count]) => count));
}

/** What of synchronisation is compared: names may be repeated, numbers of wants are free, and a bot reads all it holds. */
const comparable = (frames) =>
  frames
    .filter(({ t }) => t !== "bye" && t !== "read")
    .map(({ names, older, ...frame }) => (frame.t === "want" ? { ...frame, n: 0 } : frame));

function synchronise(setting, { held, heard, in: frames, write = [] }) {
  const { peer, link, sent } = linked(setting, { network: setting.network, server: setting.ada.id }, "up");
  for (const frame of held) peer.note(peer.logs.take(frame));
  peer.links.set(setting.ada.id, link);
  link.on_here({ users: [{ id: setting.ada.id, name: "ada", status: "online" }] });
  for (const frame of heard) link.receive(frame);
  sent.length = 0;
  for (const frame of frames) link.receive(frame);
  for (const text of write) peer.write(peer.room, text);
  const out = comparable(sent);
  return link.code ? { out, closed: link.code } : { out };
}

const KNOWN = [
  "hello",
  "welcome",
  "go",
  "ping",
  "pong",
  "bye",
  "peers",
  "here",
  "digest",
  "have",
  "want",
  "entries",
  "read",
  "typing",
];

/** For each file: what its `given` comes to, and which of its vectors a bot has (the others it leaves out). */
const files = {
  "hashes.json": [({ what, ...given }) => hashes[what](given), ({ given }) => given.what in hashes],
  "signatures.json": [
    ({ seed, user, message, signature }) =>
      seed
        ? { user: p2p.userId(seed), signature: p2p.sign(seed, message) }
        : { valid: p2p.verify(user, message, signature) },
  ],
  "clocks.json": [({ now, previous, others }) => ({ c: p2p.clock(now, previous, others) })],
  "invites.json": [
    ({ text }) => {
      const { key, ...invite } = p2p.readInvite(text) ?? { refused: true };
      return key ? { ...invite, key } : invite;
    },
  ],
  "logs.json": [
    ({ conversation, user, run, seed, texts }) => {
      let chain = p2p.chainStart(conversation + user + run);
      const entries = texts.map((text, place) => {
        const message = p2p.headMessage(conversation + user + run, place + 1, (chain = p2p.chainNext(chain, text)));
        return { chain, head_message: message, head: p2p.sign(seed, message) };
      });
      return { entries };
    },
  ],
  "entries.json": [
    (given) =>
      attempt(() => {
        const number = given.clock_before === undefined ? 1 : 2;
        if (p2p.readEntry(whole(given), number).c <= (given.clock_before ?? 0)) throw "head";
        return { taken: true };
      }),
  ],
  "frames.json": [
    (given) =>
      attempt(() => {
        const text = given.bytes ? Buffer.from(given.bytes, "hex") : Buffer.from(whole(given));
        const length = Buffer.alloc(4);
        length.writeUInt32BE(text.length);
        const [frame] = p2p.readFrame(given.bytes ? text : Buffer.concat([length, text]), given.limit);
        return KNOWN.includes(frame.t) ? { frame } : { ignored: frame.t };
      }),
  ],
  "handshakes.json": [
    (given, setting) => {
      const { link, sent } = linked({}, given);
      for (const frame of given.in) link.receive(frame);
      const out = sent.filter(({ t }) => t === "hello");
      return link.code ? { out, refused: link.code } : { out, transcript: link.transcript, peer: link.server };
    },
    ({ given }) => given.side === "dialler" && given.network,
  ],
  "certificates.json": [
    ({ now_ms, user, peer, cert }) => ({
      valid: user === peer || Boolean(cert && p2p.certified(user, peer, cert, now_ms)),
    }),
    ({ given }) => "now_ms" in given,
  ],
  "batches.json": [({ held, frame }, setting) => entriesOf(setting, { held, frame })],
  "sync.json": [(given, setting) => synchronise(setting, given)],
};

const VERDICTS = ["refused", "closed", "valid", "new", "known", "dropped", "ignored", "forked", "taken"];

/** The parts of a result that the vector has too: what differs there is a fault. */
const alike = (wanted, got) =>
  Array.isArray(wanted)
    ? Array.isArray(got) && wanted.length === got.length && wanted.every((item, place) => alike(item, got[place]))
    : wanted && typeof wanted === "object"
      ? got &&
        typeof got === "object" &&
        Object.keys(got).every((key) => alike(wanted[key], got[key])) &&
        VERDICTS.every((key) => key in wanted === key in got)
      : isDeepStrictEqual(wanted, got);

const LEFT_OUT = {
  files: ["file", "file_end"],
  "unknown fields inside of others stay, and mean nothing": ["unknown field inside", "naming of an unknown kind"],
  forks: [
    "another entry 3, signed",
    "another entry 2, signed",
    "a mark of a forked log",
    "a forked log in a sum",
    "a want of a writer with a forked log",
    "evidence that proves nothing",
  ],
  groups: [
    "a group unknown here",
    "marks of a group unknown here",
    "the create entry",
    "a removal",
    "a message in the talk",
    "want in a talk",
    "different sums with a group",
  ],
  "frames of one read are answered one by one": ["two wants of one writer", "a name again"],
};

let faults = 0;
for (const [name, [result, has = () => true]] of Object.entries(files)) {
  const { setting = {}, vectors } = JSON.parse(readFileSync(new URL(name, folder), "utf8"));
  const mine = vectors.filter((vector) => has(vector) && !Object.values(LEFT_OUT).flat().includes(vector.name));
  for (const vector of mine) {
    const { out, ...others } = vector.result;
    const wanted = out ? { ...others, out: comparable(out) } : others;
    const got = result(vector.given, setting);
    if (alike(wanted, got)) continue;
    faults += 1;
    console.log(`${name}: ${vector.name}: ${JSON.stringify(got)} and not ${JSON.stringify(wanted)}`);
  }
  console.log(`${name}: ${mine.length} of ${vectors.length}`);
}
process.exit(faults ? 1 : 0);
