// The test vectors of the protocol against examples/peer.mjs: prints what differs, one line a vector, and the count.

import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { Link, Peer } from "../examples/peer.mjs";
import { Members, guestOf, isGuest, readRecord, readStatement, recordOf } from "../examples/peer_members.mjs";
import { statementMessage } from "../examples/peer_members.mjs";
import * as p2p from "../examples/peer_primitives.mjs";

const folder = new URL("../conformance/p2pchat_conformance/vectors/", import.meta.url);
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
  dm: ({ room, users }) => ({ hash: p2p.dmId(room, ...users) }),
  chain_0: ({ header }) => ({ hash: p2p.chainStart(header) }),
  chain: ({ previous, entry }) => ({ hash: p2p.chainNext(previous, entry) }),
  mark: ({ conversation, user, run, seq, chain }) => ({ hash: p2p.markHash(conversation + user + run, seq, chain) }),
  sum: ({ of, hashes }) => ({ sum: p2p.sum(of, hashes) }),
  user: ({ seed }) => ({ id: p2p.userId(seed) }),
};

/** A link of bob's peer that collects what it sends. */
function linked(setting, given, isUp) {
  const sent = [];
  const keys = { seed: "02".repeat(32), member: "02".repeat(32) };
  const peer = new Peer({ ...keys, name: "bob", run: setting.run, now: () => setting.now_us, ...given });
  peer.members.take(given.statements ?? []);
  const out = { send: (frame) => sent.push(frame), close: () => {} };
  const link = new Link(peer, out, given.server, given.pin, given.nonce);
  if (isUp) link.expected = undefined;
  return { peer, link, sent };
}

/** Handle frames as a connection does. */
function receive(link, frames) {
  for (const frame of frames)
    try {
      link.receive(frame);
    } catch (code) {
      if (typeof code !== "string") throw code;
      link.fail(code);
    }
}

function entriesOf(setting, { held, frame }) {
  const { peer, link } = linked(setting, { network: setting.network, server: setting.ada.id }, true);
  const users = [{ id: setting.ada.id, name: "ada", status: "online" }];
  receive(link, [{ t: "here", users }, ...held]);
  const take = peer.logs.take.bind(peer.logs);
  let fresh = null;
  let refused;
  peer.logs.take = (batch) => {
    try {
      return (fresh = take(batch));
    } catch (fault) {
      refused = fault;
      throw fault;
    }
  };
  receive(link, [frame]);
  const entries = frame.e.length;
  if (refused) return { refused, entries };
  if (fresh === null) return { ignored: true, entries };
  if (fresh === undefined) return { dropped: "early", entries };
  const counts = { known: entries - fresh.length, new: fresh.length };
  return Object.fromEntries(Object.entries(counts).filter(([, count]) => count));
}

/** What of synchronisation is compared: names may be repeated, numbers of wants are free, and batches are cut freely. */
const comparable = (frames) => {
  const joined = [];
  for (const { names, older, ...frame } of frames.filter(({ t }) => t !== "bye")) {
    const last = joined.at(-1);
    const follows = frame.t === "entries" && last?.t === "entries" && last.r === frame.r && last.c === frame.c;
    if (follows) Object.assign(last, { e: [...last.e, ...frame.e], head: frame.head });
    else joined.push(frame.t === "want" ? { ...frame, n: 0 } : frame);
  }
  return joined;
};

function synchronise(setting, { held, heard, in: frames, write = [] }) {
  const { peer, link, sent } = linked(setting, { network: setting.network, server: setting.ada.id }, true);
  for (const frame of held) peer.logs.take(frame);
  peer.links.set(setting.ada.id, link);
  receive(link, [{ t: "here", users: [{ id: setting.ada.id, name: "ada", status: "online" }] }, ...heard]);
  sent.length = 0;
  receive(link, frames);
  for (const text of write) peer.write(peer.room, text);
  const out = comparable(sent);
  return link.code ? { out, closed: link.code } : { out };
}

/** The elections of two peers: bob decides over a larger id, and follows a smaller one. */
function elect({ side, steps }) {
  const far = (side === "D" ? "f" : "0").repeat(64);
  const { peer } = linked({}, { network: "00".repeat(16) });
  const links = new Map();
  const numberOf = (link) => [...links].find(([, other]) => other === link)?.[0] ?? null;
  const done = steps.map(({ go, proved, link = proved, down }) => {
    const before = peer.links.get(far);
    if (down) links.get(down)?.lost();
    else {
      links.set(link, new Link(peer, { send: () => {}, close: () => {} }, far));
      if (proved) links.get(link).elect();
      else receive(Object.assign(links.get(link), { expected: "go" }), [{ t: "go", ...go }]);
    }
    const closed = [before, links.get(link)].find((one) => one?.code);
    const n = side === "D" ? { n: peer.counts.get(far) } : {};
    return { current: numberOf(peer.links.get(far)), closes: numberOf(closed), ...n };
  });
  return { steps: done };
}

/** Whether a listener is the maker of the invite that is shown: a peer that makes invites decides more. */
const isMaker = ({ side, in: frames }, { refused }) =>
  side === "listener" && frames.some(({ show }) => show?.invite) && refused !== "maker" && refused !== "member";

const KNOWN = [
  "hello",
  "welcome",
  "show",
  "admit",
  "go",
  "ping",
  "pong",
  "bye",
  "peers",
  "here",
  "statements",
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
      return p2p.readInvite(text) ?? { refused: true };
    },
  ],
  "logs.json": [
    ({ conversation, user, run, seed, before, by, entries }) => {
      const header = p2p.writeHeader({ u: user, c: conversation, r: run, before, by });
      let chain = p2p.chainStart(header);
      const signed = entries.map((entry, place) => {
        const message = p2p.headMessage(conversation + user + run, place + 1, (chain = p2p.chainNext(chain, entry)));
        return { chain, head_message: message, head: p2p.sign(seed, message) };
      });
      return { header, chain_0: p2p.chainStart(header), entries: signed };
    },
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
    (given) => {
      const { link, sent } = linked({}, given);
      receive(link, given.in);
      const end = sent.findIndex(({ t }) => t === "go" || t === "bye");
      const out = JSON.parse(JSON.stringify(end < 0 ? sent : sent.slice(0, end)));
      if (given.in.at(-1)?.t === "bye") return { out, said: link.code };
      return link.code ? { out, refused: link.code } : { out, transcript: link.transcript, peer: link.far };
    },
    ({ given, result }) => !given.named && !isMaker(given, result),
  ],
  "statements.json": [
    ({ network, seed, k, at, fields, text, signature }) =>
      attempt(() => {
        if (seed) {
          const said = { at, by: p2p.userId(seed), k, ...fields };
          const made = JSON.stringify(said, Object.keys(said).sort());
          const message = statementMessage(network, made);
          const { id } = readStatement(network, [made, p2p.sign(seed, message)]);
          return { text: made, id, message, signature: p2p.sign(seed, message) };
        }
        const { id, by, k: kind } = readStatement(network, [text, signature]);
        const signed = p2p.verify(by, statementMessage(network, text), signature);
        return { id, signed, ...(kind ? {} : { effect: false }) };
      }),
  ],
  "members.json": [
    ({ statements, repeat, guest, by, named }, { network, founder }) => {
      const found = new Members(network, founder);
      found.take(statements.map(([text, signature]) => [whole({ text, repeat }), signature]));
      for (const member of named) found.note(guest, member);
      return {
        members: [...found.all].sort(),
        admins: [...found.admins].sort(),
        removed: [...found.removed].sort(),
        kept: [...found.kept.keys()].sort(),
        sum: found.sum,
        admitted: Object.fromEntries(by.map((member) => [member, found.admits(guest, member)])),
        named: by.filter((member) => found.isNamed(member)),
      };
    },
  ],
  "guests.json": [
    ({ network, seed, user, guest }) =>
      seed ? { guest: guestOf(network, seed, user) } : { valid: isGuest(network, user, guest) },
  ],
  "records.json": [
    ({ network, seed, member, at, e, record }) =>
      seed ? { record: recordOf(network, seed, member, at, e) } : { valid: readRecord(network, record) !== undefined },
  ],
  "joins.json": [
    ({ transcript, member, ...invite }) => ({ invite: p2p.proveInvite(invite, member, transcript) }),
    ({ given }) => "transcript" in given,
  ],
  "certificates.json": [
    ({ network, now_ms, user, peer, cert }) => ({ valid: user === peer || p2p.isCertified(network, user, peer, cert, now_ms) }),
    ({ given }) => "now_ms" in given,
  ],
  "elections.json": [(given) => elect(given)],
  "batches.json": [(given, setting) => entriesOf(setting, given)],
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
  members: ["statements_sum", "statements_said"],
  attachments: ["pull", "pull_leaves", "lacks", "lacks_all", "holds_ask", "holds", "257 contents asked about"],
  circuits: [
    "circuit_to",
    "circuit_from",
    "circuit_end",
    "carried",
    "punch",
    "punch_now",
    "a circuit of nothing",
    "a circuit to and from",
    "bytes that are no base64",
    "16,385 bytes on a circuit",
  ],
  "unknown fields stay, and mean nothing": [
    "unknown field",
    "unknown field inside",
    "unknown field in what is shown",
    "sixteen deep",
    "naming of an unknown kind",
  ],
  "what JSON.parse takes": [
    "a clock that is no integer",
    "a lone surrogate",
    "surrogates in the wrong order",
    "a number that overflows",
    "2^53 in an unknown field",
    "2^53 inside a user",
    "2^53 inside a naming",
    "2^53 inside a certificate",
    "seventeen deep",
    "a very deep one",
    "1.0 for an integer",
  ],
  "frames and fields that a bot does not look into": [
    "1 for true",
    "a name of 129 characters",
    "a naming of two kinds",
    "a dm with its users not sorted",
  ],
  limits: [
    "an entry number that overflows",
    "a record of 1,537 bytes",
    "65 records",
    "257 peers gone",
    "65 tips",
    "25 older marks",
    "257 entries",
    "a batch of 96 KiB and 1",
  ],
  "rules across fields, which the link checks": [
    "neither sum nor sums",
    "sum and sums",
    "sums without span",
    "a sum with a span",
    "a span over two conversations",
    "a client's hello without sig",
  ],
  "the older processes of a peer": [
    "a late go of an older process",
    "a late go of an older process, no link is up",
    "a superseded run again, a newer one is up",
    "nine superseded runs",
  ],
  forks: [
    "another header, signed",
    "another entry 3, signed",
    "another entry 2, signed",
    "a mark of a forked log",
    "a forked log in a sum",
    "a want of a writer with a forked log",
    "evidence that proves nothing",
  ],
  "telling a removed one who removed it": [
    "listener, a removed member",
    "listener, a removed guest",
    "listener, an invite of a removed member",
    "listener, members and a goodbye",
    "dialler, a removed server",
  ],
  "reading names": ["entries of a direct conversation that was not named"],
  groups: [
    "a group unknown here",
    "marks of a group unknown here",
    "the create entry",
    "a removal",
    "a fact in another log",
    "a message in the talk",
    "want in a talk",
    "different sums with a group",
  ],
  "references of what was shown": [
    "a first message after another's",
    "two messages, one after the other",
    "a message to a link that lacks another's log",
  ],
  "where the other end stands": ["a message before the comparison"],
  "users of several peers": ["read_taken"],
  "frames of one read are answered one by one": ["two wants of one writer", "a name again"],
};

let faults = 0;
for (const [name, [result, has = () => true]] of Object.entries(files)) {
  const { setting = {}, vectors } = JSON.parse(readFileSync(new URL(name, folder), "utf8"));
  const mine = vectors.filter((vector) => has(vector) && !Object.values(LEFT_OUT).flat().includes(vector.name));
  for (const vector of mine) {
    const { out, ...others } = vector.result;
    if (name === "members.json") delete others.closed; // an invite: a bot makes none
    const wanted = out ? { ...others, out: comparable(out) } : others;
    const got = result(vector.given, setting);
    if (alike(wanted, got)) continue;
    faults += 1;
    console.log(`${name}: ${vector.name}: ${JSON.stringify(got)} and not ${JSON.stringify(wanted)}`);
  }
  console.log(`${name}: ${mine.length} of ${vectors.length}`);
}
process.exit(faults ? 1 : 0);
