// A peer in JavaScript, with Node's standard library only: a bot that echoes direct messages, and what begins with
// "echo " in the room. It is a "bot" of docs/protocol.md#a-minimal-peer, written from that page and its test vectors.
//
// node examples/peer.mjs echo.jsonl p2pchat:AOFV2CIX...@192.0.2.7:8080 127.0.0.1:8085
//
// "p2pchat invite" prints the invite; the last argument is where to listen. Node 20 or later is needed. The file keeps
// the keys and all that was sent and received: run one process on it at a time. The peer has a member of its own, which
// the maker of the invite adds. It is no admin, so it makes no invites: whoever is to reach it needs its address alone.
//
// It leaves out, as that page allows:
// - `linked` and the records of others in `peers`: nobody meets through this peer
// - forks, and the older runs of a peer
// - pages, and limits of what others send: it works below 1,000 users, and trusts the members of the network
// - digests but the first, and where the other end stands: who lacks the batch before a new one fetches both
// - `after`, read marks, `typing`, the names of others, groups, named networks, making invites

import { randomBytes, timingSafeEqual } from "node:crypto";
import { appendFileSync, existsSync, fsyncSync, openSync, readFileSync, truncateSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { Members, guestOf, isGuest, readRecord, recordOf } from "./peer_members.mjs";
import * as p2p from "./peer_primitives.mjs";

const HANDSHAKE = ["hello", "welcome", "show", "admit", "go"];

/** One link. `far` is the id of the other end: a client knows it from the certificate, a server from the `hello`. */
export class Link {
  expected = "hello"; // the frame that must come next; undefined when the link is up
  users = new Set(); // hosted at the other end
  shared = new Map(); // conversations: id -> what the id stands for
  theirs = new Map(); // conversation and user -> the tips that the other end told last
  wants = new Map(); // number -> conversation and user
  full = new Set(); // conversations in which the other end takes no more of this peer's user
  news = true; // users were announced since the last comparison
  records = []; // what those of peers say

  constructor(peer, out, far, pin = far, nonce = randomBytes(32).toString("hex")) {
    Object.assign(this, { peer, out, far, nonce, isClient: far !== undefined });
    if (!far) out.send({ t: "hello", v: [4], nonce });
    else if (far === peer.id || far !== pin) this.close(far === peer.id ? "self" : "identity");
  }

  close(code) {
    this.code ??= code || "error";
    this.out.close();
  }

  fail(code) {
    if (!this.code) this.out.send({ t: "bye", code });
    this.close(code);
  }

  /** Send a frame with the names of its conversations: they may always be repeated. */
  send(frame) {
    const ids = frame.c ? [frame.c] : Object.keys({ ...frame.marks, ...frame.sums });
    const names = ids.map((c) => this.shared.get(c)).filter(Boolean);
    if (!this.code && !this.expected) this.out.send(names.length ? { ...frame, names } : frame);
  }

  /** The connection is gone. */
  lost() {
    const { links } = this.peer;
    if (links.get(this.far) !== this) return;
    links.delete(this.far);
    for (const link of links.values()) link.want(); // what this one was to bring
  }

  /** Handle a frame. Codes of bye are thrown. */
  receive(frame) {
    if (this.code) return;
    if (frame.t === "bye") {
      this.peer.refused?.(frame.code);
      return this.close(frame.code);
    }
    const isFarewell = frame.t === "statements" && ["show", "admit"].includes(this.expected);
    if (isFarewell) return this.peer.hear(frame.s);
    if (this.expected ? frame.t !== this.expected : HANDSHAKE.includes(frame.t)) throw "order";
    this[`on_${frame.t}`]?.(frame);
  }

  on_hello(frame) {
    if (this.isClient) this.answer(frame);
    else this.welcome(frame);
  }

  /** The client's turn, after the server's hello. */
  answer({ v, nonce }) {
    const { id, seed, key } = this.peer;
    if (!Array.isArray(v)) throw "malformed";
    if (!v.includes(4)) throw "version";
    this.transcript = p2p.transcript(this.far, id, nonce, this.nonce);
    const [sig, proof] = [p2p.sign(seed, this.transcript), p2p.proof(key, "client", this.transcript)];
    this.out.send({ t: "hello", v: 4, nonce: this.nonce, id, sig, proof });
    this.expected = "welcome";
  }

  on_welcome({ proof, show }) {
    this.check(proof, "server");
    this.admit(show);
    this.out.send({ t: "show", show: this.peer.show(this.transcript) });
    this.expected = "admit";
  }

  on_admit() {
    this.elect();
  }

  on_show({ show }) {
    this.admit(show);
    this.out.send({ t: "admit" });
    this.elect();
  }

  /** Admit the other end by what it shows. */
  admit({ founder, guest, s = [], invite } = {}) {
    const { members, network, id } = this.peer;
    members.learn(founder);
    if (!s.every((pair) => members.read(pair))) throw "member";
    this.peer.hear(s);
    if (guest && !isGuest(network, this.far, guest)) throw "member";
    this.member = guest ? guest[0] : this.far;
    if (members.all.has(this.member)) members.note(this.far, this.member);
    if (members.admits(this.far, this.member)) return;
    if (!members.founder || !invite || members.against(this.far, this.member).length) throw "member";
    throw invite.maker === id ? "invite" : "maker";
  }

  /** The server's turn, after the client's hello. */
  welcome({ v, nonce, id, sig, proof }) {
    if (Array.isArray(v) || !id || !sig) throw "malformed";
    if (v !== 4) throw "version";
    if (id === this.peer.id) throw "self";
    this.transcript = p2p.transcript(this.peer.id, id, this.nonce, nonce);
    if (!p2p.verify(id, this.transcript, sig)) throw "identity";
    this.check(proof, "client");
    this.far = id;
    const own = p2p.proof(this.peer.key, "server", this.transcript);
    this.out.send({ t: "welcome", proof: own, show: this.peer.show(this.transcript) });
    this.expected = "show";
  }

  check(proof = p2p.LOWEST, side) {
    const good = p2p.proof(this.peer.key, side, this.transcript);
    if (!timingSafeEqual(Buffer.from(proof), Buffer.from(good))) throw "network";
  }

  /** Of two peers, that with the smaller id says with `go` which link counts. */
  elect() {
    const { id, run, counts } = this.peer;
    this.expected = "go";
    if (id > this.far) return;
    const n = (counts.get(this.far) ?? 0) + 1;
    counts.set(this.far, n);
    this.begin({ t: "go", run, n });
  }

  on_go({ run, n }) {
    const current = this.peer.links.get(this.far);
    if (this.peer.id < this.far) throw "order";
    if (current?.run === run && current.n > n) throw "replaced";
    this.begin(undefined, Object.assign(this, { run, n }));
  }

  begin(go) {
    const { id, name, network, seed, member, now, endpoints, links } = this.peer;
    this.expected = undefined;
    links.get(this.far)?.fail("replaced");
    links.set(this.far, this);
    if (go) this.send(go);
    this.send({ t: "peers", records: [recordOf(network, seed, member, now(), endpoints)] });
    this.tellSum();
    this.send({ t: "here", users: [{ id, name, status: "online" }] });
  }

  on_ping() {
    this.send({ t: "pong" });
  }

  on_peers({ records = [] }) {
    this.records.push(...records.map((record) => readRecord(this.peer.network, record)).filter(Boolean));
    this.meet();
  }

  /** Dial the peers of records whose members are admitted. */
  meet() {
    const { members } = this.peer;
    for (const { id, e, guest } of this.records)
      for (const endpoint of members.admits(id, guest ? guest[0] : id) ? e : [])
        this.peer.learn(endpoint, id, this.out.isLocal);
  }

  on_here({ users, gone = [], more }) {
    for (const id of gone) this.users.delete(id);
    const { network, now } = this.peer;
    for (const { id, cert } of users) {
      if (id !== this.far && !p2p.isCertified(network, id, this.far, cert, now() / 1000)) throw "host";
      this.news ||= !this.users.has(id);
      this.users.add(id);
    }
    const me = this.peer.id;
    const dms = [...this.users].map((id) => [p2p.dmId(this.peer.room, id, me), { dm: [id, me].sort() }]);
    this.shared = new Map([[this.peer.room], ...dms]);
    if (more || !this.news) return;
    this.news = false;
    this.tellDigest();
  }

  tellDigest() {
    this.send({ t: "digest", sum: p2p.sum("shared", Object.values(this.sums())) });
  }

  tellSum(ask) {
    const { founder, sum } = this.peer.members;
    this.send({ t: "statements", founder, sum, ask });
  }

  /** Compare statements about members: where the sums differ, each end sends all of its own. */
  on_statements({ sum, ask, s = [] }) {
    const { members } = this.peer;
    this.peer.hear(s);
    if (sum && sum !== members.sum) {
      for (const s of members.pages()) this.send({ t: "statements", s });
      if (ask) this.tellSum();
    }
  }

  on_typing({ u }) {
    if (!this.users.has(u)) throw "host";
  }

  on_read({ marks, taken = {}, ask }) {
    if (![marks, taken].flatMap(Object.values).flatMap(Object.keys).every((u) => this.users.has(u))) throw "host";
    if (ask) this.send({ t: "read", marks: {}, all: true });
  }

  sums() {
    const held = [...this.shared.keys()].sort().filter((c) => this.peer.logs.of(c).length);
    return Object.fromEntries(held.map((c) => [c, this.peer.logs.sum(c)]));
  }

  on_digest({ sum, sums, span, ask }) {
    if (!sum === !sums || !sums !== !span) throw "malformed";
    const ours = this.sums();
    if (sums) this.compare(ours, sums, span);
    else if (sum !== p2p.sum("shared", Object.values(ours))) this.send({ t: "digest", sums: ours, span: p2p.ALL });
    else if (ask) this.send({ t: "digest", sum });
  }

  compare(ours, sums, span) {
    const both = Object.keys({ ...ours, ...sums }).filter(p2p.within(span));
    for (const c of both.filter((c) => this.shared.has(c) && (sums[c] ?? p2p.LOWEST) !== (ours[c] ?? p2p.LOWEST)))
      this.send({ t: "have", marks: { [c]: this.peer.logs.marks(c) }, span: p2p.ALL, ask: true });
  }

  on_have({ marks, span, ask, end, full = {} }) {
    const shared = Object.keys(marks).filter((c) => this.shared.has(c));
    for (const c of shared) for (const [u, tips] of Object.entries(marks[c])) this.theirs.set(c + u, tips);
    for (const [c, users] of Object.entries(full)) if (users.includes(this.peer.id)) this.full.add(c);
    this.theirs.delete(this.wants.get(end)); // what did not come now will not come
    this.wants.delete(end);
    this.want();
    for (const c of span && ask ? shared : [])
      this.send({ t: "have", marks: { [c]: this.peer.logs.marks(c, span) }, span });
  }

  /** Want what the other end has more of: one user and conversation at a time from one link. */
  want() {
    const { logs, links } = this.peer;
    const wanted = [...links.values()].flatMap((link) => [...link.wants.values()]);
    for (const [key, tips] of this.theirs) {
      const [c, u] = [key.slice(0, 64), key.slice(64)];
      if (wanted.includes(key) || this.wants.size === 64 || tips.every((tip) => logs.holds(c, u, tip))) continue;
      const n = ++this.peer.wanted;
      this.wants.set(n, key);
      this.send({ t: "want", n, c, u, tips: logs.tips(c, u) });
    }
  }

  on_want({ n, c, u, tips, older = [] }) {
    const { id, logs } = this.peer;
    const shared = this.shared.has(c);
    if (u === id) this.full.delete(c);
    for (const batch of shared ? logs.after(c, u, [...tips, ...older]) : []) this.send({ ...batch, n });
    this.send({ t: "have", marks: shared ? { [c]: { [u]: logs.tips(c, u) } } : {}, end: n });
  }

  on_entries(frame) {
    const { c, u, fork } = frame;
    const { dm } = this.shared.get(c) ?? {};
    if (fork || !this.shared.has(c) || (dm && !dm.includes(u))) return;
    let fresh = [];
    try {
      fresh = this.peer.logs.take(frame);
    } catch (fault) {
      if (this.users.has(u) || typeof fault !== "string") throw fault; // of others it may only lack a check
    }
    if (fresh?.length) return this.peer.stored(fresh, this);
    if (fresh) return;
    this.theirs.set(c + u, [[frame.r, frame.first, ""]]); // the gap is fetched
    this.want();
  }
}

/** A peer that hosts its own user, listens, and dials every peer it hears of. */
export class Peer {
  links = new Map(); // peer id -> its current link
  counts = new Map(); // peer id -> n of the last `go`
  addresses = new Set(); // peer id and endpoint, one behind the other
  dialled = new Set(); // peer ids, while a dial is under way
  endpoints = []; // where it listens
  wanted = 0;

  /** `member` is the seed of the key that answers for this peer; `invite` is what it joins with. */
  constructor({ seed, network, key, member, founder, invite, name, run = randomBytes(8).toString("hex"), now }) {
    now ??= () => Date.now() * 1000;
    Object.assign(this, { seed, network, key, member, invite, name, run, now });
    Object.assign(this, { id: p2p.userId(seed), room: p2p.roomId(network) });
    this.members = new Members(network, founder, p2p.userId(member));
    this.logs = new p2p.Logs(network, this.members);
  }

  /** What shows that this peer belongs to the network, on the connection with this transcript. */
  show(transcript) {
    const { members, network, id } = this;
    const member = p2p.userId(this.member);
    const said = members.vouching(member).map(({ pair }) => pair);
    const joins = this.invite && !members.admits(id, member);
    const invite = joins ? p2p.proveInvite(this.invite, member, transcript) : undefined;
    const s = said.length ? said : undefined;
    return { founder: members.founder, guest: guestOf(network, this.member, id), s, invite };
  }

  /** Take statements about members, and tell all links what is new. */
  hear(s = []) {
    const before = this.members.made.size;
    const news = this.members.take(s);
    const isOther = this.members.made.size !== before;
    for (const link of news.length ? [...this.links.values()] : []) {
      link.send({ t: "statements", s: news });
      if (isOther) link.tellSum(true);
      link.tellDigest(); // for logs that were not taken while nobody had named their members
      link.meet();
      if (!this.members.admits(link.far, link.member)) link.fail("member");
    }
  }

  /** Acknowledge entries that are on the disk now. */
  stored(fresh, from) {
    const [{ c, u }] = fresh;
    const mark = { t: "have", marks: { [c]: { [u]: this.logs.tips(c, u) } } };
    for (const link of this.links.values()) if (link === from || link.users.has(u)) link.send(mark);
    for (const entry of fresh) this.heard?.(entry);
  }

  /** Write a text: it is on the disk when this returns. A log in the room begins with the user's name. */
  write(c, text, re, hops) {
    if (c === this.room && !this.logs.all.has(c + this.id + this.run))
      this.append(c, { k: "profile", b: { name: this.name } });
    this.append(c, { k: "text", re, b: text, hops });
  }

  append(c, { k, re, b, hops }) {
    const { logs, id: u, run: r } = this;
    const id = c + u + r;
    const log = logs.all.get(id);
    const by = this.member === this.seed ? undefined : guestOf(this.network, this.member, u);
    const h = log ? undefined : p2p.writeHeader({ u, c, r, before: logs.tips(c, u).slice(-8), by });
    const { chains, clocks } = log ?? { chains: [p2p.chainStart(h)], clocks: [0] };
    const [first, prev] = [chains.length, chains.at(-1)];
    const at = this.now();
    const others = logs.of(c).flatMap((log) => (log.u === u && log.r === r ? [] : log.clocks));
    const entry = [p2p.clock(at, clocks.at(-1), others), JSON.stringify({ k, at, re, b, hops })];
    const head = p2p.sign(this.seed, p2p.headMessage(id, first, p2p.chainNext(prev, entry)));
    logs.take({ c, u, r, first, prev, e: [entry], head, h });
    for (const link of this.links.values())
      if (link.shared.has(c) && !link.full.has(c)) link.send(logs.batches.at(-1));
  }

  /** Take note of an address of a peer. Those of this machine count only from a peer on it. */
  learn(endpoint, id, isLocal) {
    const place = p2p.splitEndpoint(endpoint);
    if (!place || (place.isLocal && !isLocal) || id === this.id || this.addresses.has(id + endpoint)) return;
    this.addresses.add(id + endpoint);
    this.redial(place, id);
  }

  /** Dial a peer whenever it is not linked. When two learn of each other, the one with the smaller id dials first. */
  async redial({ host, port }, id) {
    if (id < this.id) await sleep(1000);
    for (let pause = 100; ; await sleep(Math.random() * pause)) {
      if (this.links.has(id) || this.dialled.has(id)) continue;
      this.dialled.add(id);
      const began = Date.now();
      const socket = p2p.connect(host, port, (out, key) => new Link(this, out, key, id));
      await new Promise((done) => socket.on("close", done));
      this.dialled.delete(id);
      pause = Date.now() - began > 5000 ? 100 : Math.min(30_000, 2 * pause);
    }
  }

  listen(host, port, done) {
    const server = p2p.listen(host, port, this.seed, (out) => new Link(this, out));
    server.on("listening", () => {
      this.endpoints = [`${host}:${server.address().port}`];
      done();
    });
  }
}

/** Answer a text, unless it has its answer: `answered` are the references of those that do. */
function echo(peer, answered, { c, u, r, n, k, b, auto, hops }) {
  const re = [u.slice(0, 32) + r, n];
  const said = c === peer.room ? /^echo (.+)/s.exec(b)?.[1] : b;
  if (k !== "text" || auto === true || hops >= 8 || u === peer.id) return;
  if (!p2p.isText(said) || answered.has(String([c, re]))) return;
  console.log(`${u.slice(0, 8)}: ${JSON.stringify(said)}`);
  answered.add(String([c, re]));
  peer.write(c, said, re, hops ? hops + 1 : undefined);
}

/** Read the lines of the file, or begin it with new keys. A line that was cut off was acknowledged to nobody. */
function readFile(file) {
  const [seed, member] = [randomBytes(32).toString("hex"), randomBytes(32).toString("hex")];
  if (!existsSync(file)) appendFileSync(file, JSON.stringify({ seed, member }) + "\n", { mode: 0o600 });
  const stored = readFileSync(file, "utf8");
  const lines = stored.slice(0, stored.lastIndexOf("\n") + 1);
  truncateSync(file, Buffer.byteLength(lines));
  return lines.trimEnd().split("\n").map((line) => JSON.parse(line));
}

const REFUSED = ["member", "invite", "used", "late", "revoked"]; // codes after which only a new invite helps

function main([file, text = "", at = "127.0.0.1:0"]) {
  const invite = p2p.readInvite(text);
  const [, host, port] = /^(.+):(\d+)$/.exec(at) ?? [];
  if (!invite || !host) {
    console.error("usage: node examples/peer.mjs FILE INVITE [HOST:PORT]");
    process.exit(1);
  }
  const { network, key } = invite;
  const [{ seed, member }, ...lines] = readFile(file);
  const disk = openSync(file, "a");
  const founder = lines.find((line) => line.founder)?.founder;
  const peer = new Peer({ network, key, seed, member, founder, invite, name: "echo" });
  peer.members.take(lines.flatMap(({ s = [] }) => s));
  const held = lines.filter(({ e }) => e).flatMap((batch) => peer.logs.take(batch));
  const write = (line) => {
    appendFileSync(disk, JSON.stringify(line) + "\n");
    fsyncSync(disk);
  };
  peer.logs.write = peer.members.write = write;
  peer.refused = (code) => REFUSED.includes(code) && console.error(`not admitted: ${code}`);
  const answered = new Set(held.filter(({ u }) => u === peer.id).map(({ c, re }) => String([c, re])));
  peer.heard = (entry) => echo(peer, answered, entry);
  held.forEach(peer.heard); // those that a crash left unanswered
  peer.listen(host, port, () => {
    console.log(`echo is ${peer.id} at ${peer.endpoints}`);
    for (const endpoint of invite.endpoints) peer.learn(endpoint, invite.maker, true);
  });
  const stop = () => {
    for (const link of peer.links.values()) link.fail("left");
    setTimeout(() => process.exit(0), 200);
  };
  process.on("SIGINT", stop).on("SIGTERM", stop);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) main(process.argv.slice(2));
