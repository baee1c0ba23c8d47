"""Deliberate faults of the peer in JavaScript, each with the rule of the conformance kit that finds it.

`python -m tests.conformance.faults` puts each into a copy of the files of examples/peer.mjs, runs the peer
and its rule, and prints a table; NAME...: only these. A fault is found when the rule fails and says what the
peer did, or did not do.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from p2pchat_conformance.runner import Unreachable
from tests.conformance.candidates import EXAMPLES, free_port, listened, node_candidate

FILES = ("peer.mjs", "peer_members.mjs", "peer_primitives.mjs")
AT_ONCE = 10  # peers that run at the same time; most of the time each waits
TIMEOUT = 1.5  # seconds in which a rule expects an answer
VAGUE = ("it took too long", "the connection failed", "something came")  # what says nothing of the peer


class FaultError(ValueError):
    """A fault that does not fit the files."""


@dataclass(frozen=True, slots=True)
class PeerFault:
    """One deliberate fault: `old`, which is in one of the files exactly once, becomes `new`."""

    name: str
    why: str
    rule: str
    old: str
    new: str = ""

    def infect(self, directory: Path) -> None:
        """Put the fault into the files in a directory. Raises FaultError if it does not fit."""
        places = [(directory / file, (directory / file).read_text("utf-8")) for file in FILES]
        if sum(text.count(self.old) for _, text in places) != 1:
            raise FaultError(f"{self.name}: its text is there {sum(text.count(self.old) for _, text in places)} times")
        for path, text in places:
            path.write_text(text.replace(self.old, self.new), "utf-8")


FAULTS = (
    # ---- TLS and the handshake
    PeerFault("old-tls-offered", "a link could be read that was recorded", "only-tls-1-3-is-offered",
              'servername: "", minVersion: "TLSv1.3"', 'servername: "", minVersion: "TLSv1.2"'),
    PeerFault("old-tls-accepted", "the same, of those that dial", "only-tls-1-3-is-accepted",
              '...identity(seed), minVersion: "TLSv1.3"', '...identity(seed), minVersion: "TLSv1.2"'),
    PeerFault("version-unchecked", "it goes on in a version that it does not speak",
              "the-server-refuses-other-versions",
              'if (v !== 4) throw "version";'),
    PeerFault("offer-unchecked", "it chooses a version that was not offered", "the-client-refuses-other-versions",
              'if (!v.includes(4)) throw "version";'),
    PeerFault("signature-unchecked", "anybody can be anybody", "the-server-checks-the-signature",
              'if (!p2p.verify(id, this.transcript, sig)) throw "identity";'),
    PeerFault("small-order-taken", "anybody can sign for such a key", "keys-of-small-order-are-no-ids",
              "return y < P && !SMALL.has(y);", "return true;"),
    PeerFault("transcript-unbound", "a hello of another connection counts", "the-signature-covers-both-nonces-and-ids",
              'if (!p2p.verify(id, this.transcript, sig)) throw "identity";',
              'if (!p2p.verify(id, this.transcript, sig) && !p2p.verify(id, p2p.transcript(this.peer.id, id, '
              '"0".repeat(64), nonce), sig)) throw "identity";'),
    PeerFault("client-unproven", "whoever connects is a member", "the-server-requires-a-proof",
              'this.check(proof, "client");'),
    PeerFault("server-unproven", "it writes to whoever answers", "the-client-checks-the-proof",
              'this.check(proof, "server");'),
    PeerFault("pin-ignored", "the first contact may be anybody", "the-client-compares-the-key-with-its-pin",
              "else if (far === peer.id || far !== pin)", "else if (far === peer.id)"),
    PeerFault("nonce-fixed", "a hello can be sent again", "nonces-are-fresh",
              'nonce = randomBytes(32).toString("hex")', 'nonce = "ab".repeat(32)'),
    PeerFault("order-ignored", "frames before the handshake are passed over", "frames-before-go-are-in-turn",
              'HANDSHAKE.includes(frame.t)) throw "order";', "HANDSHAKE.includes(frame.t)) return;"),
    PeerFault("early-frames-large", "a stranger fills its memory", "frames-before-go-are-small",
              "link.expected ? 4096 : 262144", "262144"),
    PeerFault("welcome-unsigned", "a client cannot tell that it is in the network", "the-welcome-proves-the-network",
              'const own = p2p.proof(this.peer.key, "server", this.transcript);', "const own = p2p.LOWEST;"),
    # ---- who is admitted
    PeerFault("anybody-admitted", "whoever was removed comes back",
              "only-members-and-their-guests-are-admitted",
              "if (members.admits(this.far, this.member)) return;", "return;"),
    PeerFault("server-not-judged", "it writes to whoever was removed",
              "the-client-admits-members-and-their-guests-only",
              """    this.check(proof, "server");
    this.admit(show);""", """    this.check(proof, "server");
    this.member = this.far;"""),
    PeerFault("certificates-of-guests-unsigned", "anybody is the guest of anybody",
              "only-members-and-their-guests-are-admitted",
              'if (guest && !isGuest(network, this.far, guest)) throw "member";'),
    PeerFault("statements-unsigned", "anybody adds anybody", "forged-statements-admit-nobody",
              'verify(said.by, statementMessage(this.network, pair[0]), pair[1]) ? said : undefined', "said"),
    PeerFault("nothing-shown", "nobody admits it", "the-server-shows-its-member",
              "proof: own, show: this.peer.show(this.transcript)", "proof: own"),
    PeerFault("certificate-of-another-user", "nobody admits it", "the-client-shows-its-member",
              'this.out.send({ t: "show", show: this.peer.show(this.transcript) });',
              'this.out.send({ t: "show", show: { ...this.peer.show(this.transcript), '
              "guest: guestOf(this.peer.network, this.peer.member, this.far) } });"),
    PeerFault("speaks-without-admit", "it speaks where it is not admitted", "go-waits-for-admit",
              'this.expected = "admit";', 'this.expected = "admit";\n    if (this.peer.links.size) this.elect();'),
    PeerFault("farewell-refused", "a removed one does not learn who did it", "statements-may-come-before-admit",
              "if (isFarewell) return this.peer.hear(frame.s);"),
    PeerFault("one-code-for-invites", "a newcomer gives up", "only-the-maker-admits-with-an-invite",
              '? "invite" : "maker"', '? "invite" : "invite"'),
    PeerFault("statements-kept-to-itself", "others never hear of it", "statements-are-told-on",
              'link.send({ t: "statements", s: news });'),
    PeerFault("sums-uncompared", "what was missed is never told", "who-lacks-statements-gets-them",
              'for (const s of members.pages()) this.send({ t: "statements", s });'),
    PeerFault("removed-stays-linked", "who was removed reads on", "who-is-removed-is-sent-away",
              'if (!this.members.admits(link.far, link.member)) link.fail("member");'),
    PeerFault("named-members-forgotten", "who was removed comes back under another member",
              "who-named-a-removed-member-is-refused",
              "if (members.all.has(this.member)) members.note(this.far, this.member);"),
    PeerFault("one-false-statement-drops-its-frame", "who forgot one check withholds what others said",
              "a-forged-statement-is-not-taken-and-those-beside-it-are",
              "const said = pairs.map(", "const said = (pairs.every((pair) => this.read(pair)) ? pairs : []).map("),
    PeerFault("every-member-is-an-admin", "whoever was admitted admits others", "a-plain-member-admits-nobody",
              'this.made = new Set(of(this.founder, "admin")',
              'this.made = new Set([...of(this.founder, "admin"), ...of(this.founder, "add")]'),
    PeerFault("admins-without-a-say", "whom an admin admitted is refused here alone", "an-admin-admits",
              'of(this.founder, "admin").flatMap(({ who }) => who)', "[]"),
    PeerFault("pardons-count-nothing", "whom everybody lets in again is refused", "a-pardon-lets-in-again",
              'of(by, "pardon").flatMap(({ ids }) => ids)', "[]"),
    PeerFault("any-admin-pardons", "an admin brings back whom the founder expelled",
              "an-admin-pardons-whom-it-removed-alone",
              "[...pardons(this.founder), ...pardons(by)]", "signers.flatMap(pardons)"),
    PeerFault("guests-are-not-removed", "an expelled account is served by its gateway's certificate",
              "a-removed-guest-is-refused",
              "(who.includes(user) && !heads.includes(user) && may(by))", "false"),
    PeerFault("nobody-is-kept", "with an admin go all whom it had admitted",
              "who-is-kept-stays-when-an-admin-is-removed",
              'const stay = of(this.founder, "remove").flatMap(({ keep = [] }) => keep);', "const stay = [];"),
    PeerFault("admins-remove-admins", "one bad admin removes all others", "an-admin-removes-no-admin",
              "user === this.founder || (by !== this.founder && this.admins.has(user))", "user === this.founder"),
    PeerFault("removals-are-not-loaded", "a restart lets in whoever was expelled",
              "who-was-removed-stays-out-after-a-restart",
              "peer.members.take(lines.flatMap(({ s = [] }) => s));",
              "peer.members.take(lines.flatMap(({ s = [] }) => s.filter(([text]) => !text.includes('\"remove\"'))));"),
    PeerFault("direct-logs-for-all", "a third member reads what two people write to each other",
              "a-direct-log-is-served-to-its-two-users-alone",
              "for (const batch of shared ? logs.after(", "for (const batch of true ? logs.after("),
    PeerFault("removals-of-admins-read-strictly", "who is removed stays, where others refuse it",
              "an-admins-removal-counts-with-what-has-no-effect",
              '"hide?": isBoolean', '"hide?": (is) => is === true'),
    PeerFault("canonical-without-u-007f", "peers end each other's links again and again",
              "canonical-statements-are-kept", r"/^[\0-\x7f]*$/.test(value)", r"/^[\0-\x7e]*$/.test(value)"),
    PeerFault("halves-of-pairs-are-canonical", "peers end each other's links again and again",
              "statements-of-another-form-are-not-taken",
              r"/^[\0-\x7f]*$/.test(value) ? JSON.stringify(value) : undefined", "JSON.stringify(value)"),
    # ---- one link for each pair
    PeerFault("speaks-before-go", "it speaks on a link that may not count", "nothing-is-sent-before-go",
              "if (id > this.far) return;", "if (id > this.far) return this.begin();"),
    PeerFault("go-taken-twice", "a far end that decides nothing moves the link", "go-comes-once-and-from-the-decider",
              'frame.t !== this.expected : HANDSHAKE.includes(frame.t)) throw "order";',
              'frame.t !== this.expected : HANDSHAKE.slice(0, 2).includes(frame.t)) throw "order";'),
    PeerFault("n-does-not-rise", "nobody can tell its newer link", "the-decider-numbers-its-links",
              "(counts.get(this.far) ?? 0) + 1", "1"),
    PeerFault("n-unchecked", "an older link replaces a newer one", "the-larger-n-stays",
              'if (current?.run === run && current.n > n) throw "replaced";'),
    PeerFault("former-link-kept", "two links with one peer", "the-newer-link-replaces",
              'links.get(this.far)?.fail("replaced");'),
    PeerFault("never-redials", "one lost connection parts it from a peer", "a-lost-peer-is-dialled-again",
              "this.dialled.delete(id);", "return;"),
    PeerFault("dials-nobody", "it meets only those whom it was given", "peers-that-are-named-are-dialled",
              "this.peer.learn(endpoint, id, this.out.isLocal);", ";"),
    PeerFault("no-goodbye", "others take its stop for a lost connection", "an-orderly-stop-says-goodbye",
              'link.fail("left")', 'link.close("left")'),
    PeerFault("bye-answered", "two peers say goodbye to each other", "a-bye-is-not-answered",
              "return this.close(frame.code);", 'return this.fail("left");'),
    # ---- frames
    PeerFault("one-code-for-lengths", "the sender looks for another fault", "lengths-are-limited",
              'throw length ? "limit" : "malformed";', 'throw "malformed";'),
    PeerFault("link-stays-after-a-fault", "what follows a fault is taken", "lengths-are-limited",
              "const close = () => (socket.end(), setTimeout(() => socket.destroy(), 1000));",
              "const close = () => {};"),
    PeerFault("utf-8-repaired", "two peers read different texts", "utf-8-is-strict", "fatal: true", "fatal: false"),
    PeerFault("byte-order-mark-skipped", "it takes what others refuse", "utf-8-is-strict", "ignoreBOM: true",
              "ignoreBOM: false"),
    PeerFault("types-unchecked", "a frame of another shape ends the process", "fields-have-their-types",
              'if (Object.hasOwn(FRAMES, frame.t) && !FRAMES[frame.t](frame)) throw "malformed";'),
    PeerFault("upper-case-taken", "one id has two spellings", "hex-is-lower-case",
              "/^[0-9a-f]*$/.test(value)", "/^[0-9a-f]*$/i.test(value)"),
    PeerFault("mark-of-entry-0", "a mark of nothing is taken", "no-mark-of-entry-0",
              "tuple(hex(8), positive, hex(32))", "tuple(hex(8), natural, hex(32))"),
    PeerFault("span-backwards", "a page that covers nothing is taken", "spans-go-upwards", " && value[0] <= value[1]"),
    PeerFault("unknown-frames-end-it", "a later version ends the process", "unknown-frames-are-ignored",
              "this[`on_${frame.t}`]?.(frame);", "this[`on_${frame.t}`](frame);"),
    PeerFault("pings-unanswered", "it is taken for dead", "pings-are-answered", 'this.send({ t: "pong" });'),
    PeerFault("never-pings", "it is taken for dead wherever nobody writes", "a-silent-link-is-pinged",
              'link.send({ t: "ping" })', "undefined"),
    PeerFault("dead-links-stay", "who lost its network is here for ever", "a-dead-link-is-ended",
              "++silent < 3 ?", "++silent < Infinity ?"),
    PeerFault("entries-in-milliseconds", "people see a message of 1970", "times-are-microseconds",
              "JSON.stringify({ k, at, re, b, hops })", "JSON.stringify({ k, at: Date.now(), re, b, hops })"),
    PeerFault("records-in-milliseconds", "its new address never counts", "times-are-microseconds",
              "recordOf(network, seed, member, now(), endpoints)",
              "recordOf(network, seed, member, Date.now(), endpoints)"),
    PeerFault("users-in-milliseconds", "people see that it came in 1970", "times-are-microseconds",
              'users: [{ id, name, status: "online" }]', 'users: [{ id, name, status: "online", since: Date.now() }]'),
    PeerFault("uncompared-after-statements", "the first words of a newcomer come ten seconds late",
              "statements-begin-a-comparison",
              "link.tellDigest(); // for logs that were not taken while nobody had named their members"),
    PeerFault("null-sent", "a strict reader refuses its frames", "no-null", '{ t: "pong" }', '{ t: "pong", at: null }'),
    PeerFault("names-left-out", "nobody knows what an id stands for", "conversations-are-named",
              "names.length ? { ...frame, names } : frame", "frame"),
    # ---- users
    PeerFault("uncertified-users", "anybody speaks for anybody", "nobody-speaks-for-others-users",
              'cert, now() / 1000)) throw "host";', "cert, now() / 1000)) continue;"),
    PeerFault("typing-of-others", "anybody types for anybody", "nobody-speaks-for-others-users",
              'if (!this.users.has(u)) throw "host";'),
    PeerFault("read-of-others", "anybody reads for anybody", "nobody-speaks-for-others-users",
              '.every((u) => this.users.has(u))) throw "host";',
              ".every((u) => this.users.has(u))) return;"),
    PeerFault("certificates-for-ever", "who hosted a user once does so for ever", "wrong-certificates-are-refused",
              "return timely && verify(user", "return verify(user"),
    PeerFault("certificates-unsigned", "a peer hosts whom it wants", "wrong-certificates-are-refused",
              'return timely && verify(user, tag("host/2") + network + user + peer + u64(from) + u64(until), sig);',
              "return timely;"),
    # ---- entries
    PeerFault("heads-unchecked", "anybody writes in the name of anybody", "a-wrong-head-ends-the-link",
              'if (!verify(u, headMessage(id, first + e.length - 1, chains.at(-1)), head)) throw "head";'),
    PeerFault("other-writers", "a third one writes in a direct conversation", "a-direct-conversation-has-two-writers",
              "(dm && !dm.includes(u))", "false"),
    PeerFault("foreign-conversations", "it stores what is not for it", "foreign-conversations-are-ignored",
              "if (fork || !this.shared.has(c) || (dm", "if (fork || (dm"),
    PeerFault("attachments-end-links", "who sends it a file is parted from it", "attachments-leave-an-entry-valid",
              "const { k, re, b, auto, hops } = entry ?? {};",
              'const { k, re, b, auto, hops, files } = entry ?? {};\n  if (files) throw "malformed";'),
    PeerFault("odd-entries-end-links", "one odd entry parts it from all", "an-odd-entry-is-taken-like-others",
              "    entry = JSON.parse(string);\n  } catch {}",
              '    entry = JSON.parse(string);\n  } catch {\n    throw "malformed";\n  }'),
    PeerFault("unknown-kinds-answered", "each poll is answered like a text", "unknown-kinds-are-taken",
              'k !== "text" || ', ""),
    PeerFault("unacknowledged", "nothing is ever delivered to it", "entries-are-acknowledged",
              "if (link === from || link.users.has(u)) link.send(mark);", ";"),
    PeerFault("marks-too-high", "it acknowledges what was never written", "marks-are-of-what-was-sent",
              "[r, chains.length - 1, chains.at(-1)]", "[r, chains.length, chains.at(-1)]"),
    PeerFault("told-to-everyone", "others learn who writes to whom", "direct-messages-are-answered",
              "if (link === from || link.users.has(u)) link.send(mark);", "link.send(mark);"),
    PeerFault("sent-to-everyone", "others read what was for one", "direct-messages-are-answered",
              "if (link.shared.has(c) && !link.full.has(c)) link.send", "if (!link.full.has(c)) link.send"),
    PeerFault("answers-nothing", "an answer that names no question", "the-room-is-answered",
              "peer.write(c, said, re,", "peer.write(c, said, undefined,"),
    PeerFault("no-profile", "its user has no name", "profile-begins-a-room-log",
              "if (c === this.room && !this.logs.all.has(c + this.id + this.run))", "if (false)"),
    PeerFault("clock-alone", "its answers are sorted before the questions", "the-clock-follows-others",
              "(c > now + 300e6 ? latest : Math.max(latest, c + 1))", "latest"),
    PeerFault("clock-led-astray", "one wrong clock moves all", "the-clock-follows-others",
              "(c > now + 300e6 ? latest : Math.max(latest, c + 1))", "Math.max(latest, c + 1)"),
    PeerFault("clock-may-stand", "entries of one log have no order", "clocks-rise",
              "p2p.clock(at, clocks.at(-1), others)", "p2p.clock(at, 0, others)"),
    PeerFault("headers-in-any-form", "of one header there are many", "a-header-has-one-form",
              '  if (!isForm || writeHeader({ u, c, r, before, by }) !== h) throw "malformed";\n'),
    PeerFault("certificates-of-logs-unchecked", "anybody names a member that answers for it",
              "a-member-answers-for-a-user-with-its-signature",
              'if (by && !verify(by[0], tag("guest/1") + network + u, by[1])) throw "head";'),
    PeerFault("logs-of-nobody-taken", "one member writes as any number of made-up users",
              "a-log-of-a-member-that-nobody-named-is-not-taken",
              "    if (first === 1 && !this.all.has(id) && !this.members.isNamed(member ?? u)) return [];\n"),
    PeerFault("standing-clocks-taken", "entries of one log have no order", "a-clock-that-stands-ends-the-link",
              'if (clocks.some((clock, at) => at && clock <= clocks[at - 1])) throw "head";'),
    PeerFault("entries-encoded-anew", "nobody can verify what it serves", "others-entries-are-served-verbatim",
              'this.batches.push({ t: "entries", c, u, r, first, prev, e, head, h });',
              'e = e.map(([clock, text]) => [clock, JSON.stringify(JSON.parse(text))]);\n'
              '    this.batches.push({ t: "entries", c, u, r, first, prev, e, head, h });'),
    PeerFault("not-on-disk", "what it acknowledged is gone after a kill", "what-was-acknowledged-survives-a-kill",
              'appendFileSync(disk, JSON.stringify(line) + "\\n");', ";"),
    PeerFault("run-kept", "two entries with one number after a restart", "a-new-process-begins-new-logs",
              'run = randomBytes(8).toString("hex")', 'run = "ab".repeat(8)'),
    PeerFault("before-left-out", "each start makes one more tip", "a-new-process-begins-new-logs",
              "before: logs.tips(c, u).slice(-8)", "before: []"),
    # ---- comparing
    PeerFault("sums-unanswered", "a difference is not found", "a-different-sum-is-answered-with-sums",
              'this.send({ t: "digest", sums: ours, span: p2p.ALL });', ";"),
    PeerFault("equal-sums-unanswered", "the other end asks for ever", "an-equal-sum-is-answered-when-asked",
              'else if (ask) this.send({ t: "digest", sum });'),
    PeerFault("sum-of-other-bytes", "sums never become equal", "an-equal-sum-is-answered-when-asked",
              "u64(number) + chain)", "u64(number) + chain.slice(0, 16))"),
    PeerFault("unlisted-conversations", "what only it has is not offered", "a-page-of-sums-is-answered-with-marks",
              "Object.keys({ ...ours, ...sums })", "Object.keys(sums)"),
    PeerFault("marks-unanswered", "the other end never knows what it has", "marks-that-are-asked-for-are-sent",
              "span && ask ? shared : []", "[]"),
    PeerFault("span-ignored", "a page covers more than it says", "marks-that-are-asked-for-are-sent",
              "users.filter(within(span)).map", "users.map"),
    PeerFault("wants-unanswered", "the other end waits for ever", "each-want-gets-an-end", "end: n });",
              "end: n + 1 });"),
    PeerFault("wants-nothing", "it misses what was written before", "what-was-written-before-is-fetched",
              "this.wants.delete(end);\n    this.want();", "this.wants.delete(end);"),
    PeerFault("gaps-stay", "what was lost on the way stays lost", "a-gap-is-fetched",
              "this.theirs.set(c + u, [[frame.r, frame.first, \"\"]]); // the gap is fetched\n    this.want();"),
    PeerFault("covered-tips", "its sums differ from those of others", "covered-logs-are-no-tips",
              "return marks.filter((mark) => !covered.has(String(mark)));", "return marks;"),
    PeerFault("read-unanswered", "the other end asks for ever", "a-read-that-asks-is-answered",
              'if (ask) this.send({ t: "read", marks: {}, all: true });'),
    # ---- and further ones that are easily made: in the handshake
    PeerFault("proof-of-the-other-side", "whoever connects hands its proof back", "the-client-checks-the-proof",
              "const good = p2p.proof(this.peer.key, side, this.transcript);",
              'const proofs = ["client", "server"].map((one) => p2p.proof(this.peer.key, one, this.transcript)), '
              "good = proofs.find((one) => one === proof) ?? p2p.LOWEST;"),
    PeerFault("certificate-is-enough", "anybody that certifies itself is a member",
              "only-members-and-their-guests-are-admitted",
              "if (members.admits(this.far, this.member)) return;",
              "if (guest || members.admits(this.far, this.member)) return;"),
    PeerFault("shown-statements-ignored", "a newcomer is refused by all that were away",
              "statements-that-are-shown-count",
              '"member";\n    this.peer.hear(s);', '"member";'),
    # ---- members
    PeerFault("additions-win", "nobody is ever removed", "a-pardon-lets-in-again",
              "this.removed = new Set(barred);",
              "this.removed = new Set(barred.filter((user) => !added.includes(user)));"),
    PeerFault("removals-of-members-alone", "an expelled account is served by its gateway's certificate",
              "a-removed-guest-is-refused",
              "out.some((one) => who.includes(one)) || (who.includes(user) && !heads.includes(user) && may(by))",
              "out.some((one) => who.includes(one))"),
    PeerFault("former-admins-have-a-say", "who was removed goes on adding",
              "a-log-of-whom-a-former-admin-named-is-not-taken",
              "const signers = [this.founder, ...this.admins];", "const signers = [...this.made];"),
    PeerFault("admins-come-back", "who is forgiven is an admin again", "a-pardon-takes-back-the-removal-alone",
              'const out = new Set(of(this.founder, "remove").flatMap(({ who }) => who)).add(this.founder);',
              'const out = new Set(of(this.founder, "remove").filter(({ id }) => !of(this.founder, "pardon").some('
              "({ ids }) => ids.includes(id))).flatMap(({ who }) => who)).add(this.founder);"),
    PeerFault("kept-by-what-is-in-force", "a pardon expels whom the removal kept",
              "a-pardon-takes-back-the-removal-alone",
              'const stay = of(this.founder, "remove").flatMap(({ keep = [] }) => keep);',
              "const stay = this.removals.filter(({ by }) => by === this.founder).flatMap(({ keep = [] }) => keep);"),
    PeerFault("any-admin-removes-guests", "one admin expels the accounts of another",
              "an-admin-removes-no-guest-of-another",
              "!heads.includes(user) && may(by))", "!heads.includes(user))"),
    PeerFault("admins-keep-members", "an admin admits whom nobody can remove",
              "an-admins-removal-counts-with-what-has-no-effect",
              'const stay = of(this.founder, "remove").flatMap(({ keep = [] }) => keep);',
              "const stay = this.removals.flatMap(({ keep = [] }) => keep);"),
    PeerFault("new-admins-unasked", "what an admin had said before is not known here",
              "statements-of-a-new-admin-are-asked-for",
              "if (isOther) link.tellSum(true);"),
    PeerFault("statements-with-any-fields", "it admits whom all others refuse",
              "statements-with-other-fields-have-no-effect",
              "Object.keys(fields).every(isKnown) && "),
    PeerFault("lists-of-any-length", "it admits whom all others refuse", "statements-with-other-fields-have-no-effect",
              "list(good)(value) && value.length >= least && value.length <= most", "list(good)(value)"),
    PeerFault("statements-of-any-length", "a member fills the disk of all", "statements-of-another-form-are-not-taken",
              "string.length <= 49152 && "),
    PeerFault("all-of-an-admin-is-kept", "an admin fills the disk of all", "of-an-admin-the-smallest-ids-are-kept",
              "by === this.founder ? own : own.filter(", "true ? own : own.filter("),
    PeerFault("the-largest-ids-are-kept", "peers keep different statements, and compare for ever",
              "of-an-admin-the-smallest-ids-are-kept", "a.id < b.id ? -1 : 1", "a.id < b.id ? 1 : -1"),
    PeerFault("the-one-beyond-is-dropped", "peers keep different statements, and compare for ever",
              "of-an-admin-the-smallest-ids-are-kept",
              "+ one.size) - one.size < limit", "+ one.size) < limit"),
    PeerFault("sums-of-statements-wrong", "two peers that know the same compare for ever",
              "who-lacks-statements-gets-them",
              "[...this.kept.keys()].sort()", "[...this.kept.keys()].slice(1).sort()"),
    # ---- addresses and links
    PeerFault("records-unsigned", "anybody leads it to any address",
              "a-record-that-its-peer-did-not-sign-is-not-dialled",
              ".map((record) => readRecord(this.peer.network, record))", ".map(([text]) => JSON.parse(text))"),
    PeerFault("records-of-any-key", "anybody leads it to any address",
              "a-record-that-its-peer-did-not-sign-is-not-dialled",
              "!verify(said.id, recordMessage(network, text), sig)", "false"),
    PeerFault("records-of-strangers", "anybody leads it to any address", "who-is-not-admitted-is-not-dialled",
              "members.admits(id, guest ? guest[0] : id) ? e : []", "e"),
    PeerFault("records-without-a-time", "who moves is not found", "its-record-is-newer-after-a-restart",
              "recordOf(network, seed, member, now(),", "recordOf(network, seed, member, 2 ** 52 - now(),"),
    PeerFault("runs-not-compared", "a peer that started anew is refused until its n is high enough",
              "the-newer-link-replaces", "current?.run === run && current.n > n", "current?.n > n"),
    PeerFault("former-link-forgets-the-new", "nothing is sent on the link that counts", "the-newer-link-replaces",
              "if (links.get(this.far) !== this) return;"),
    PeerFault("what-a-lost-link-owed", "what one link did not bring never comes",
              "what-a-lost-link-was-to-bring-is-wanted-again",
              "for (const link of links.values()) link.want(); // what this one was to bring"),
    PeerFault("wanted-from-all", "everything comes once from each link", "the-same-is-wanted-from-one-link-only",
              "wanted.includes(key) || "),
    PeerFault("full-ignored", "it floods whoever has no room", "nothing-is-pushed-to-who-is-full",
              " && !link.full.has(c)"),
    # ---- frames
    PeerFault("frames-of-any-size", "one frame fills its memory", "lengths-are-limited",
              "link.expected ? 4096 : 262144", "link.expected ? 4096 : 2 ** 32"),
    PeerFault("reads-are-frames", "a frame that comes in two pieces is lost", "frames-arrive-in-any-pieces",
              "[rest, silent] = [Buffer.concat([rest, data]), 0];", "[rest, silent] = [data, 0];"),
    PeerFault("false-is-not-absent", "it refuses what others send", "false-and-empty-are-read-as-absent",
              "if (value === null || value === false) delete frame[field];",
              "if (value === null) delete frame[field];"),
    PeerFault("unknown-fields-refused", "a later version is parted from it", "unknown-fields-are-ignored",
              'if (!isObject(frame) || !text(frame.t)) throw "malformed";',
              'if (!isObject(frame) || !text(frame.t) || "later" in frame) throw "malformed";'),
    PeerFault("odd-status-refused", "a later version is parted from it", "unknown-status-is-taken",
              'has({ id: key, name: text, "cert?": cert })',
              'has({ id: key, name: text, status: (is) => ["online", "idle"].includes(is) })'),
    PeerFault("first-page-forgotten", "users of a large peer are not known", "the-list-of-users-may-have-pages",
              "for (const id of gone) this.users.delete(id);", "this.users.clear();"),
    PeerFault("gone-users-stay", "who was hosted once is spoken for for ever", "nobody-speaks-for-a-user-that-is-gone",
              "for (const id of gone) this.users.delete(id);"),
    PeerFault("certificates-of-any-length", "a stolen one counts for years", "wrong-certificates-are-refused",
              "until - from <= 604_800_000 && "),
    PeerFault("certificates-on-the-dot", "two clocks that differ part users from their peers",
              "users-with-certificates-are-met",
              "from - 86_400_000 <= now && now <= until + 86_400_000", "from <= now && now <= until"),
    # ---- entries
    PeerFault("chain-0-unchecked", "one log has two beginnings", "a-chain-begins-with-its-header",
              'if (first === 1 && prev !== chainStart(h)) throw "head";'),
    PeerFault("chain-not-continued", "entries of another version stand in a log", "a-batch-continues-what-is-held",
              "if (place >= e.length || chains[place] !== log.chains.at(-1)) return [];",
              "if (place >= e.length) return [];"),
    PeerFault("gaps-taken", "what is missing is never fetched", "a-log-without-its-predecessor-is-dropped",
              " || !log.before?.every((mark) => this.holds(c, u, mark))"),
    PeerFault("overlaps-refused", "what comes twice in part is never taken", "batches-may-overlap",
              "if (place < 0 ||", "if (place !== 0 ||"),
    PeerFault("acknowledged-too-soon", "what it acknowledged is gone after a kill",
              "what-was-acknowledged-survives-a-kill",
              'appendFileSync(disk, JSON.stringify(line) + "\\n");',
              'setTimeout(() => appendFileSync(disk, JSON.stringify(line) + "\\n"), 300);'),
    PeerFault("control-characters-taken", "what it serves ends the links of others",
              "a-control-character-ends-the-link",
              'if (e.some(([, text]) => CONTROL.test(text))) throw "malformed";'),
    PeerFault("entries-of-any-size", "what it serves ends the links of others", "an-entry-has-at-most-64-kib",
              "Buffer.byteLength(said) > 65536", "Buffer.byteLength(said) > 2 ** 20"),
    PeerFault("answers-to-automatic-texts", "two programs answer one another for ever",
              "what-a-program-says-by-itself-is-not-answered", "auto === true || "),
    PeerFault("hops-uncounted", "two programs answer one another for ever", "an-answer-says-one-hop-more",
              "hops ? hops + 1 : undefined", "undefined"),
    PeerFault("hops-unlimited", "two programs answer one another for ever", "an-answer-says-one-hop-more",
              "|| hops >= 8 ||", "||"),
    PeerFault("answers-forgotten", "after a start everything is answered again", "a-new-process-begins-new-logs",
              "new Set(held.filter(({ u }) => u === peer.id).map(({ c, re }) => String([c, re])))", "new Set()"),
    PeerFault("keys-not-kept", "it is another user after each start", "a-new-process-begins-new-logs",
              "const peer = new Peer({ network, key, seed,",
              'const peer = new Peer({ network, key, seed: randomBytes(32).toString("hex"),'),
    PeerFault("users-of-a-dm-unsorted", "both ends speak of different conversations", "direct-messages-are-answered",
              'tag("dm/2") + room + users.sort().join("")', 'tag("dm/2") + room + users.join("")'),
    PeerFault("references-without-a-run", "its answers name no message", "the-room-is-answered",
              "const re = [u.slice(0, 32) + r, n];", "const re = [u.slice(0, 32), n];"),
    PeerFault("named-like-nobody", "nobody can type its name", "names-of-users-are-names",
              'invite, name: "echo" });', 'invite, name: "echo@home" });'),
    PeerFault("name-of-its-own-in-here", "it has two names", "the-candidate-has-a-name",
              "users: [{ id, name, status", 'users: [{ id, name: "bot", status'),
    # ---- serving
    PeerFault("served-anew", "each want brings everything", "what-is-held-already-is-not-served",
              "logs.after(c, u, [...tips, ...older])", "logs.after(c, u, [])"),
    PeerFault("older-ignored", "who has other logs gets everything again", "older-marks-are-common-ground",
              "logs.after(c, u, [...tips, ...older])", "logs.after(c, u, tips)"),
    PeerFault("unknown-tips-trusted", "a mark of another chain hides what is missing", "unknown-tips-are-ignored",
              "marks.filter((mark) => this.holds(c, u, mark))",
              "marks.filter(([run]) => this.all.has(c + u + run))"),
    PeerFault("batches-without-a-number", "nobody knows to which want they belong",
              "a-want-is-answered-with-its-number",
              "this.send({ ...batch, n });", "this.send(batch);"),
    PeerFault("served-backwards", "what builds on another log comes first", "logs-are-served-after-those-they-build-on",
              "return this.batches.filter((batch) => batch.c === c",
              "return this.batches.toReversed().filter((batch) => batch.c === c"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FaultHunt:
    """The result of one fault: whether its rule failed, why, and in how many seconds."""

    fault: PeerFault
    found: bool
    why: str
    seconds: float


async def hunt(fault: PeerFault, timeout: float = TIMEOUT) -> FaultHunt:
    """Run the peer with a fault against the rule that is to find it. Raises FaultError if the fault does not fit."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        for file in FILES:
            shutil.copy(EXAMPLES / file, home / file)
        fault.infect(home)
        port = free_port()
        candidate = partial(node_candidate, home, port=port, examples=home)
        try:
            (result,) = await listened(candidate, home, "full", [fault.rule], timeout)
        except Unreachable as unreachable:
            return FaultHunt(fault, False, str(unreachable), time.monotonic() - began)
    found = result.outcome == "failed" and not result.why.startswith(VAGUE)
    return FaultHunt(fault, found, f"{result.outcome} {result.why}", time.monotonic() - began)


async def hunt_all(faults: Sequence[PeerFault], timeout: float = TIMEOUT) -> list[FaultHunt]:
    """Hunt these, AT_ONCE at a time."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(fault: PeerFault) -> FaultHunt:
        async with limit:
            return await hunt(fault, timeout)

    return await asyncio.gather(*map(one, faults))


def main(names: Sequence[str]) -> int:
    """Hunt the named faults, or all; print a table. Return 1 if one was not found."""
    faults = [fault for fault in FAULTS if not names or fault.name in names]
    hunts = asyncio.run(hunt_all(faults))
    for one in hunts:
        by = one.fault.rule if one.found else f"NOTHING ({one.fault.rule}: {one.why})"
        print(f"{one.fault.name:26} {one.seconds:4.1f} s  {by}")
        if names:
            print(f"  {one.why}")
    found = sum(one.found for one in hunts)
    print(f"{found} of {len(hunts)} faults found")
    return 0 if found == len(hunts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
