// A peer in JavaScript, with Node's standard library only: a bot that echoes direct messages, and what begins with
// "echo " in the room. It is a "bot" of docs/protocol.md#a-minimal-peer, written from that page and its test vectors.
//
// node examples/peer.mjs echo.jsonl p2pchat:AGLV2CIX...@192.0.2.7:8080 localhost:8080
//
// "p2pchat invite" prints the invite, behind which may be other endpoints of that peer. Node 20 or later is needed. The
// file keeps the key and all that was sent and received: run one process on it at a time. Left out: groups, forks, pages
// of more than 1,000 marks, and waiting for what an entry answers.

import { randomBytes, timingSafeEqual } from "node:crypto";
import { appendFileSync, closeSync, existsSync, fsyncSync, openSync, readFileSync, truncateSync } from "node:fs";
import { connect } from "node:tls";
import { pathToFileURL } from "node:url";
import * as p2p from "./peer_primitives.mjs";

const [LOWEST, HIGHEST] = ["0".repeat(64), "f".repeat(64)];
const microseconds = () => Date.now() * 1000;

/** One link, from the server's hello to the end. `out` has `send(frame)` and `close()`. */
export class Link {
  stage = "hello";
  users = new Map(); // hosted at the other end: id -> name
  shared = new Map(); // conversations: id -> what the id stands for
  named = new Set(); // those that the other end named
  heard = new Map(); // conversation and user -> the marks that were told last
  stands = new Map(); // log -> how much of it the other end has
  full = new Set(); // conversation and user, of whom the other end takes no more
  differing = new Set(); // conversations that are not compared yet
  wants = new Map(); // number -> conversation and user
  newlyRead = new Set(); // conversations with read marks that were not sent yet
  greeted = false; // its users are known
  news = false; // the announcement that is under way has new ones
  compared = false;

  constructor(peer, server, pin, out, nonce = randomBytes(32).toString("hex")) {
    Object.assign(this, { peer, server, pin, out, nonce });
    if (pin && pin !== server) this.fail("identity", false);
    else if (server === peer.id) this.fail("self", false);
  }

  fail(code, tell = true) {
    if (this.stage === "closed") return;
    if (tell) this.out.send({ t: "bye", code });
    this.stage = "closed";
    this.code = code;
    this.out.close();
  }

  /** Send a frame with the names of its conversations; a name may always be repeated. */
  send(frame) {
    const ids = frame.c ? [frame.c] : Object.keys({ ...frame.marks, ...frame.sums });
    const names = ids.map((c) => this.shared.get(c)).filter(Boolean);
    if (this.stage === "up") this.out.send(names.length ? { ...frame, names } : frame);
  }

  receive(frame) {
    const turns = { hello: ["hello"], welcome: ["welcome"], go: ["go"] }[this.stage];
    if (this.stage === "closed") return;
    if (frame.t === "bye") {
      this.code = frame.code;
      this.stage = "closed";
      return this.out.close();
    }
    if (turns ? !turns.includes(frame.t) : ["hello", "welcome", "go"].includes(frame.t)) return this.fail("order");
    try {
      for (const name of frame.names ?? []) {
        if (name.room) this.named.add(this.peer.room);
        if (name.dm) this.named.add(p2p.dmId(...name.dm));
      }
      if (Object.hasOwn(Link.prototype, `on_${frame.t}`)) this[`on_${frame.t}`](frame);
    } catch (error) {
      if (typeof error !== "string") throw error; // of this peer: a full disk, for example
      this.fail(error);
    }
  }

  on_hello({ v, nonce }) {
    const { id, seed, key } = this.peer;
    if (!Array.isArray(v) || !/^[0-9a-f]{64}$/.test(nonce)) throw "malformed";
    if (!v.includes(1)) throw "version";
    this.transcript = p2p.tag("link/1") + "0001" + this.server + id + nonce + this.nonce;
    const proof = key && { proof: p2p.mac(key, p2p.tag("invite/1 client") + this.transcript) };
    this.stage = "welcome";
    this.out.send({ t: "hello", v: 1, nonce: this.nonce, id, sig: p2p.sign(seed, this.transcript), ...proof });
  }

  on_welcome({ proof = "", net }) {
    const { id, key, network } = this.peer;
    const wanted = key && p2p.mac(key, p2p.tag("invite/1 server") + this.transcript);
    if (!key && net !== network) throw "network";
    if (key && (proof.length !== 64 || !timingSafeEqual(Buffer.from(proof), Buffer.from(wanted)))) throw "network";
    this.stage = "go";
    if (id > this.server) return; // the smaller id decides which link counts
    this.out.send({ t: "go", ...this.peer.next(this.server) });
    this.begin();
  }

  on_go({ run, n }) {
    if (this.server > this.peer.id) throw "order";
    const current = this.peer.links.get(this.server);
    if (current?.go?.run === run && current.go.n > n) throw "replaced";
    this.go = { run, n };
    this.begin();
  }

  begin() {
    this.stage = "up";
    this.peer.joined(this);
    this.send({ t: "here", users: [{ id: this.peer.id, name: this.peer.name, status: "online" }] });
  }

  on_ping() {
    this.send({ t: "pong" });
  }

  on_peers({ linked = [] }) {
    for (const [id, endpoints] of linked)
      for (const endpoint of endpoints) this.peer.learn(endpoint, id, this.out.local);
  }

  on_here({ users, gone = [], more }) {
    for (const user of gone) this.users.delete(user);
    this.news ||= !this.greeted || users.some(({ id }) => !this.users.has(id));
    for (const { id, name, cert } of users) {
      if (id !== this.server && !(cert && p2p.certified(id, this.server, cert, this.peer.now() / 1000))) throw "host";
      this.users.set(id, name);
    }
    this.shared = new Map([[this.peer.room, { room: true }]]);
    for (const user of this.users.keys())
      this.shared.set(p2p.dmId(user, this.peer.id), { dm: [user, this.peer.id].sort() });
    if (more || !this.news) return;
    this.greeted = true;
    this.news = false;
    this.compare();
  }

  compare(ask) {
    const read = Object.entries(this.readMarks()).flatMap(([c, { [this.peer.id]: marks }]) =>
      marks.map((mark) => p2p.readHash(c, this.peer.id, mark)),
    );
    if (read.length) this.send({ t: "read", marks: {}, sum: p2p.sum(read) });
    this.send({ t: "digest", sum: this.sum(), ...(ask && { ask }) });
  }

  sums() {
    const held = [...this.shared.keys()].sort().filter((c) => this.peer.logs.in(c).length);
    return Object.fromEntries(held.map((c) => [c, this.peer.logs.sum(c)]));
  }

  sum() {
    return p2p.sum(Object.values(this.sums()));
  }

  /** All that a bot holds is read. Of each user hosted there: the tips. */
  readMarks() {
    const marks = [...this.shared.keys()].map((c) => {
      const tips = [...this.users.keys()].flatMap((u) =>
        this.peer.logs.tips(c, u).map(([run, n]) => [u.slice(0, 16) + run, n]),
      );
      return [c, { [this.peer.id]: tips }];
    });
    return Object.fromEntries(marks.filter(([, { [this.peer.id]: tips }]) => tips.length));
  }

  on_typing({ u }) {
    if (!this.users.has(u)) throw "host";
  }

  on_read({ marks, ask }) {
    if (Object.values(marks).some((readers) => Object.keys(readers).some((u) => !this.users.has(u)))) throw "host";
    if (ask) this.send({ t: "read", marks: this.readMarks(), span: [LOWEST, HIGHEST] });
  }

  on_digest({ sum, sums, span, ask }) {
    if (!this.greeted) return;
    if (sums) {
      const ours = this.sums();
      const within = Object.keys(ours).filter((c) => c >= span[0] && c <= span[1]);
      const both = new Set([...within, ...Object.keys(sums).filter((c) => this.shared.has(c) && this.named.has(c))]);
      for (const c of [...both].sort()) {
        if ((sums[c] ?? LOWEST) === (ours[c] ?? LOWEST)) continue;
        this.differing.add(c);
        this.send({ t: "have", marks: { [c]: this.peer.logs.marks(c) }, span: [LOWEST, HIGHEST], ask: true });
      }
      return;
    }
    if (sum !== this.sum()) return this.send({ t: "digest", sums: this.sums(), span: [LOWEST, HIGHEST] });
    this.compared = true; // and all of it is there
    for (const c of this.shared.keys())
      for (const log of this.peer.logs.in(c)) this.stands.set(log.c + log.u + log.r, log.texts.length);
    if (ask) this.send({ t: "digest", sum });
  }

  on_have({ marks, span, ask, end, full = {} }) {
    for (const [c, users] of Object.entries(full)) for (const u of users) this.full.add(c + u);
    const told = Object.entries(marks).filter(([c]) => this.shared.has(c) && this.named.has(c));
    for (const [c, users] of told) {
      for (const [u, tips] of Object.entries(users)) {
        if (!tips.every(p2p.isMark)) throw "malformed";
        this.heard.set(c + u, { c, u, tips });
        for (const [run, n] of this.peer.logs.below(c, u, tips)) this.stands.set(c + u + run, n);
      }
      if (span?.[1] === HIGHEST && this.differing.delete(c) && !this.differing.size) this.compared = true;
    }
    this.heard.delete(this.wants.get(end)); // what did not come now will not come
    this.wants.delete(end);
    this.want();
    for (const [c] of span && ask ? told : []) {
      const ours = Object.entries(this.peer.logs.marks(c)).filter(([u]) => u >= span[0] && u <= span[1]);
      this.send({ t: "have", marks: { [c]: Object.fromEntries(ours) }, span });
    }
  }

  /** Want what the other end has more of: one user and conversation at a time from one link. */
  want() {
    for (const [cu, { c, u, tips }] of this.heard) {
      const open = [...this.peer.links.values()].some((link) => [...link.wants.values()].includes(cu));
      if (open || this.wants.size === 64 || tips.every((tip) => this.peer.logs.holds(c, u, tip))) continue;
      const number = ++this.peer.wanted;
      this.wants.set(number, cu);
      this.send({ t: "want", n: number, c, u, tips: this.peer.logs.tips(c, u) });
    }
  }

  on_want({ n, c, u, tips, older = [] }) {
    const { logs } = this.peer;
    this.full.delete(c + u);
    const served = this.shared.has(c) && this.named.has(c);
    const held = served ? logs.below(c, u, [...tips, ...older]) : undefined;
    for (const log of served ? logs.of(c, u) : []) {
      for (const batch of logs.batches(log, held.get(log.r) ?? 0)) this.send({ ...batch, n });
      this.stands.set(c + u + log.r, log.texts.length);
    }
    this.send({ t: "have", marks: served ? { [c]: { [u]: logs.tips(c, u) } } : {}, end: n });
  }

  on_entries(frame) {
    const { c, u, r, first, prev, e, fork } = frame;
    const dm = this.shared.get(c)?.dm;
    if (fork || !this.shared.has(c) || !this.named.has(c) || (dm && !dm.includes(u))) return;
    const fresh = this.peer.logs.take(frame);
    if (fresh?.length) return this.peer.stored(frame, fresh, this);
    if (fresh) return;
    const chain = e.reduce(p2p.chainNext, prev); // the gap is fetched
    this.heard.set(c + u, { c, u, tips: [[r, first + e.length - 1, chain.slice(0, 16)]] });
    this.want();
  }

  /** Tell a mark of what was stored, and soon, to the peer of its writer, that it was read. */
  acknowledge(c, u) {
    if (this.full.has(c + u)) return;
    this.send({ t: "have", marks: { [c]: { [u]: this.peer.logs.tips(c, u) } } });
    if (this.users.has(u)) this.newlyRead.add(c);
  }

  /** Send the read marks that have changed. To be called ten times a second, and not more often. */
  tellRead() {
    const marks = Object.entries(this.readMarks()).filter(([c]) => this.newlyRead.has(c));
    if (marks.length) this.send({ t: "read", marks: Object.fromEntries(marks) });
    this.newlyRead.clear();
  }

  /** Send a batch of this peer's own user, if the other end stands right before it, and otherwise its mark. */
  push({ c, u, r, first, ...batch }, before) {
    if (!this.shared.has(c) || this.full.has(c + u)) return;
    const there =
      first > 1
        ? this.stands.get(c + u + r) === first - 1
        : before.every(([run, n]) => this.stands.get(c + u + run) >= n);
    if (!this.compared || !there) return this.acknowledge(c, u);
    this.send({ t: "entries", c, u, r, first, ...batch });
    this.stands.set(c + u + r, first + batch.e.length - 1);
  }
}

/** A peer that hosts its own user, dials every peer it hears of, and does not listen. */
export class Peer {
  links = new Map(); // peer id -> link
  targets = new Map(); // peer id and endpoint -> when to dial
  counts = new Map(); // peer id -> n of its last go
  shown = new Map(); // conversation -> the newest entries of others since the own one
  wanted = 0;

  constructor({
    seed,
    network,
    key,
    name,
    write = () => {},
    run = randomBytes(8).toString("hex"),
    now = microseconds,
  }) {
    Object.assign(this, { seed, network, key, name, run, now, id: p2p.userId(seed), room: p2p.roomId(network) });
    this.logs = new p2p.Logs(write);
  }

  next(id) {
    this.counts.set(id, (this.counts.get(id) ?? 0) + 1);
    return { run: this.run, n: this.counts.get(id) };
  }

  /** Take note of entries that were stored, also of those read from the file. */
  note(entries) {
    for (const { c_: c, u, r, k, number } of entries) {
      if (u === this.id) this.shown.delete(c);
      else if (k !== "profile") this.shown.set(c, new Map(this.shown.get(c)).set(u.slice(0, 16) + r, number));
    }
  }

  stored(frame, fresh, from) {
    this.note(fresh);
    for (const link of this.links.values())
      if (link === from || link.users.has(frame.u)) link.acknowledge(frame.c, frame.u);
    for (const entry of fresh) if (entry.u !== this.id) this.heard?.(entry);
  }

  /** Write a text: it is on the disk when this returns. */
  write(c, text, re) {
    const log = this.logs.all.get(c + this.id + this.run);
    const before = log ? [] : this.logs.tips(c, this.id).slice(0, 8);
    const others = this.logs
      .in(c)
      .filter((other) => other !== log)
      .flatMap((other) => other.clocks);
    const after = [...(this.shown.get(c) ?? [])].slice(-2);
    const bodies = [{ ...(re && { re }), ...(after.length && { after }), b: text }];
    if (!log && c === this.room) bodies.unshift({ b: { name: this.name } });
    let previous = log?.clocks.at(-1) ?? 0;
    const e = bodies.map((body, place) => {
      previous = p2p.clock(this.now(), previous, others);
      const k = typeof body.b === "string" ? "text" : "profile";
      const { b, ...references } = body;
      return JSON.stringify({
        k,
        at: this.now(),
        c: previous,
        ...references,
        ...(!place && before.length && { before }),
        b,
      });
    });
    const id = c + this.id + this.run;
    const first = (log?.texts.length ?? 0) + 1;
    const prev = log?.chains.at(-1) ?? p2p.chainStart(id);
    const head = p2p.sign(this.seed, p2p.headMessage(id, first + e.length - 1, e.reduce(p2p.chainNext, prev)));
    const batch = { c, u: this.id, r: this.run, first, prev, e, head };
    this.note(this.logs.take(batch));
    for (const link of this.links.values()) link.push(batch, before);
  }

  joined(link) {
    this.links.get(link.server)?.fail("replaced");
    this.links.set(link.server, link);
    const others = [...this.links.values()]
      .filter((other) => other !== link)
      .map((other) => [other.server, [other.out.endpoint]]);
    link.send({ t: "peers", port: 0, at: [], linked: others });
    for (const other of this.links.values())
      if (other !== link) other.send({ t: "peers", port: 0, at: [], linked: [[link.server, [link.out.endpoint]]] });
  }

  ended(link) {
    if (this.links.get(link.server) !== link) return;
    this.links.delete(link.server);
    for (const other of this.links.values()) {
      other.send({ t: "peers", port: 0, at: [], gone: [link.server] });
      other.want(); // what this link was to bring
    }
  }

  learn(endpoint, pin, local) {
    const place = p2p.splitEndpoint(endpoint);
    const loopback = /^(127\.|::1$|localhost$)/.test(place?.host);
    if (!place || (loopback && !local) || pin === this.id || this.targets.size > 1000) return;
    const key = pin + endpoint;
    if (!this.targets.has(key)) this.targets.set(key, { ...place, endpoint, pin, pause: 100, next: 0 });
  }

  /** Dial whoever is not linked, and keep links alive. To be called ten times a second. */
  tick() {
    const now = Date.now();
    for (const target of this.targets.values()) {
      const busy = [...this.targets.values()].some((other) => other.socket && other.pin === target.pin);
      if (!busy && now >= target.next && !this.links.has(target.pin)) this.dial(target);
    }
    for (const { out } of this.links.values()) out.tick(now);
  }

  dial(target) {
    const { host, port } = target;
    const started = Date.now();
    let link,
      rest = Buffer.alloc(0),
      last = started,
      compared = started;
    const socket = connect({ host, port, minVersion: "TLSv1.3", maxVersion: "TLSv1.3", rejectUnauthorized: false });
    const out = {
      endpoint: target.endpoint,
      send: (frame) => socket.write(p2p.writeFrame(frame)),
      close: () => {
        socket.end();
        setTimeout(() => socket.destroy(), 1000).unref();
      },
      tick: (time) => {
        if (link.newlyRead.size) link.tellRead();
        if (time - last > 30_000) socket.destroy();
        else if (time - last > 10_000 && time % 1000 < 100) link.send({ t: "ping" });
        if (time - compared < 10_000 || !link.greeted) return;
        compared = time;
        link.compare(!link.compared);
      },
    };
    const deadline = setTimeout(() => link?.stage === "up" || socket.destroy(), 10_000);
    target.socket = socket;
    socket.setNoDelay(true);
    socket.on("secureConnect", () => {
      out.local = /^(::ffff:)?127\.|^::1$/.test(socket.remoteAddress);
      link = new Link(this, p2p.keyOf(socket.getPeerX509Certificate().publicKey), target.pin, out);
    });
    socket.on("data", (data) => {
      last = Date.now();
      try {
        rest = Buffer.concat([rest, data]);
        for (let read; (read = p2p.readFrame(rest, link.stage === "up" ? 262144 : 4096)); link.receive(read[0]))
          rest = read[1];
      } catch (code) {
        if (typeof code !== "string") throw code;
        link.fail(code);
      }
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      clearTimeout(deadline);
      target.socket = undefined;
      if (link) this.ended(link);
      target.pause = link && Date.now() - started > 5000 ? 100 : Math.min(30_000, 2 * target.pause);
      target.next = Date.now() + Math.random() * target.pause;
    });
  }
}

function main([file, text, ...more]) {
  const invite = p2p.readInvite(text ?? "");
  if (!invite) {
    console.error("usage: node examples/peer.mjs FILE INVITE [HOST:PORT ...]");
    process.exit(1);
  }
  if (!existsSync(file))
    appendFileSync(file, JSON.stringify({ seed: randomBytes(32).toString("hex") }) + "\n", { mode: 0o600 });
  const stored = readFileSync(file, "utf8");
  const lines = stored.slice(0, stored.lastIndexOf("\n") + 1);
  truncateSync(file, Buffer.byteLength(lines)); // a line that was cut off was acknowledged to nobody
  const [{ seed }, ...batches] = lines
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  const disk = openSync(file, "a");
  let write = () => {};
  const peer = new Peer({ ...invite, seed, name: "echo", write: (batch) => write(batch) });
  const held = batches.map((batch) => peer.logs.take(batch));
  held.forEach((entries) => peer.note(entries));
  write = (batch) => {
    appendFileSync(disk, JSON.stringify(batch) + "\n");
    fsyncSync(disk);
  };

  const answered = new Set(
    held
      .flat()
      .filter(({ u }) => u === peer.id)
      .map(({ c_, re }) => String([c_, re])),
  );
  peer.heard = ({ c_: c, u, r, number, k, b }) => {
    const re = [u.slice(0, 16) + r, number];
    const said = c === peer.room ? /^echo (.+)/s.exec(b)?.[1] : b;
    if (k !== "text" || !said || u === peer.id || answered.has(String([c, re]))) return;
    if (Buffer.byteLength(JSON.stringify(said)) > 64_000) return; // with the rest, an entry may have 65,536
    console.log(`${u.slice(0, 8)}: ${JSON.stringify(said)}`);
    answered.add(String([c, re]));
    peer.write(c, said, re);
  };
  for (const endpoint of [...more, ...invite.endpoints]) peer.learn(endpoint, invite.peer, true);
  held.flat().forEach(peer.heard); // those that a crash left unanswered
  const timer = setInterval(() => peer.tick(), 100);
  const stop = () => {
    clearInterval(timer);
    for (const link of peer.links.values()) link.fail("left");
    for (const { socket } of peer.targets.values()) socket?.unref();
    setTimeout(() => (closeSync(disk), process.exit(0)), 1000).unref();
  };
  process.on("SIGINT", stop).on("SIGTERM", stop);
  console.log(`echo is ${peer.id}`);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) main(process.argv.slice(2));
