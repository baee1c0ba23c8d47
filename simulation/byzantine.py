"""Byzantine peers: members and strangers that break the protocol. Honest peers must store only authentic entries.
Sybils, the members of a crowd, do what the protocol allows, in the names of any number of users that they make up. Odd
writers, which are honest otherwise, sign any text as an entry.

A byzantine peer is a whole node whose frames are changed on their way out. It forges entries of others, sends different
versions of its own to different peers, withholds entries, sends invalid frames, poses as others, or does not know the
network's key. Each of them writes as users of members that nobody added, of whom nobody may store anything. The
invariants check its effect on others, but not its own entries and storage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import TYPE_CHECKING

from msgspec import structs

from p2pchat.core.groups.group_fact import CREATE, fact_body, group_id, run_of
from p2pchat.core.log import (
    Entry,
    LogId,
    RawEntry,
    decode_entry,
    encode_entry,
    encode_header,
    extend_chain,
    first_chain,
    head_message,
    size_bytes,
    stub_of,
)
from p2pchat.core.members.statement import make_guest
from p2pchat.core.mesh.handshake import make_cert
from p2pchat.core.mesh.peer_exchange import make_record
from p2pchat.core.sync.known_conversations import dm_id, dm_naming
from p2pchat.identity.identity import Identity
from p2pchat.protocol import (
    PROTOCOL_VERSION,
    Carried,
    Circuit,
    ConversationId,
    Digest,
    Entries,
    Frame,
    Go,
    GuestCertificate,
    Have,
    Hello,
    Here,
    Hosted,
    Mark,
    Naming,
    PeerId,
    PeerRecord,
    Peers,
    Ping,
    RunId,
    Statements,
    TypingFrame,
    Want,
    Welcome,
    encode,
)
from simulation.attached_files import curious
from simulation.virtual_time import signer

if TYPE_CHECKING:
    from p2pchat.core.node import Node
    from p2pchat.core.sync.appender import Appender
    from p2pchat.core.sync.conversation_state import LogState
    from simulation.network import WireEnd
    from simulation.simulated_peer import SimPeer
    from simulation.simulation import Simulation

LENIENT = 0.15  # the part of byzantine peers that only forgot checks: they pass on what somebody else made up
MOODS = ("forges", "withholds", "babbles", "poses")
# What a hostile carrier makes of a frame, with weights.
CARRIAGE = {"as it is": 60, "nothing": 2, "twice": 2, "changed": 2, "before": 1, "end": 1, "of another": 1}
INVENTION_RATE = 0.02  # how often any of them writes as somebody that nobody added
BABBLE_RATE = 0.1  # how often one that babbles adds invalid bytes to a frame
RARE = 4  # weight of actions that matter only with tiny limits, which few histories have
ODD = "odd"  # begins a message instead of which an odd writer signs something else
# What it may sign besides changed messages: no JSON, no entry, and an entry of a kind that nobody knows.
ODD_TEXTS = (
    "", " \n", "{", "null", "[1]", "\u2028", "x" * 200, "[" * 40, '{"k":5}', '{"k":"text","at":1}',
    '{"k":"text","at":1,"b":"\\u0000"}', '{"k":"text","at":1,"b":"x","k":7}', '{"k":"poll","at":1,"b":{"which":[1,2]}}',
    '{"k":"text","at":1,"b":"x","after":[["00",1]]}', '{"k":"delete","at":1,"b":"x"}',
    '{"k":"text","at":1,"b":"x","choices":["yes","yes"],"hops":-1}',
)  # fmt: skip
MADE_UP_AT_ONCE = 3  # users: more than one peer has places for
THIRD_HOST = "198.51.100.7"  # which has nothing to do with the mesh
FORKS_AT_ONCE = 3  # more evidence than harsh settings accept (max_tips)


class ByzantinePeer:
    """The changes that one peer makes to its own frames.

    Attributes:
        moods: The ways in which it breaks the protocol.
        is_lenient: It only passes on what somebody else made up, so nobody blames it.
    """

    def __init__(self, peer: SimPeer, chance: Random) -> None:
        self._peer = peer
        self._chance = chance
        self.moods: tuple[str, ...] = tuple(chance.sample(MOODS, chance.choice((1, 1, 2, 4))))
        self._lenience = Random(f"{peer.sim.seed} lenience of {peer.name}")
        self.is_lenient: bool = self._lenience.random() < LENIENT
        self._curiosity = Random(f"{peer.sim.seed} curiosity of {peer.name}")
        self._hiding = Random(f"{peer.sim.seed} what {peer.name} hides")
        self._carriage = Random(f"{peer.sim.seed} what {peer.name} carries")
        self._kept: Carried | Circuit | None = None  # the last frame of a circuit
        self._invention = Random(f"{peer.sim.seed} inventions of {peer.name}")
        self._babble: tuple[Callable[[WireEnd], Iterator[bytes]], ...] = (
            self._garbage, self._too_long, self._out_of_order, self._of_others, self._unknown, self._many_wants,
            self._no_evidence, self._empty_promise, self._chatter, self._other_sums,
            *RARE * (self._many_talks, self._many_forks),
        )  # fmt: skip

    def change(self, frame: Frame, end: WireEnd) -> Iterator[bytes]:
        """Yield the bytes to send instead of a frame."""
        if self.is_lenient:
            yield encode(self._passed_on(frame))
            return
        if isinstance(frame, Entries):
            if "withholds" in self.moods and self._chance.random() < 0.3:
                return
            yield encode(self._hidden(self.entries(frame, end.other.owner)))
        elif isinstance(frame, (Carried, Circuit)):
            yield from self._of_circuit(frame)
        elif isinstance(frame, (Hello, Welcome)) and "poses" in self.moods and self._chance.random() < 0.4:
            yield encode(self._posing(frame, end.other.owner))
        else:
            yield encode(frame)
        if self._peer.sim.invariants.content.all_named and self._is_up(end) and self._curiosity.random() < BABBLE_RATE:
            yield curious(self._peer, self._curiosity)
        if self._is_up(end) and self._invention.random() < INVENTION_RATE:
            yield from self._write_as_nobody(end.other.owner)
        if "babbles" in self.moods and self._is_up(end) and self._chance.random() < BABBLE_RATE:
            yield from self._chance.choice(self._babble)(end)

    def _of_circuit(self, frame: Carried | Circuit) -> Iterator[bytes]:
        """Yield what a hostile carrier, or end, makes of a frame of a circuit, mostly the frame itself."""
        what = self._carriage.choices([*CARRIAGE], [*CARRIAGE.values()])[0]
        self._peer.sim.counts["circuit_tampered"] += what != "as it is"
        if what == "changed" and isinstance(frame, Carried) and frame.d:
            frame = structs.replace(frame, d=bytes([frame.d[0] ^ 1]) + frame.d[1:])
        elif what == "changed" and isinstance(frame, Carried):
            frame = structs.replace(frame, room=2 * frame.room)
        elif what == "changed" and isinstance(frame, Circuit) and frame.origin is not None:
            frame = structs.replace(frame, origin=self._peer.user)
        elif what == "of another":
            frame = structs.replace(frame, id=self._carriage.randrange(12))
        if what == "before" and self._kept is not None:
            yield encode(self._kept)
        if what != "nothing":
            yield encode(frame)
        if what == "twice":
            yield encode(frame)
        elif what == "end":
            yield encode(Circuit(frame.id, end="lost"))
        self._kept = frame

    def _passed_on(self, frame: Frame) -> Frame:
        """Return a frame with what somebody else made up among what is true."""
        if isinstance(frame, Entries) and frame.u != self._peer.user and self._lenience.random() < 0.3:
            false = encode_entry(Entry("text", 1, frame.e[-1][0], b="a lie that somebody told"))
            return structs.replace(frame, e=[*frame.e[:-1], false])
        if isinstance(frame, Statements) and frame.s:
            return structs.replace(frame, s=[("{}", "00" * 64), (frame.s[0][0], "00" * 64), *frame.s])
        return frame

    def _write_as_nobody(self, to: SimPeer) -> Iterator[bytes]:
        """Write to the room as a new user of a member that nobody added, and show that its log forked.

        Who was an admin has added it now, which counts for nobody who knows that: an accomplice passes both on.
        """
        membership, user = self._peer.sim.membership, invent(self._peer.sim, self._invention)
        if self._invention.random() < 0.7:
            member = Identity.from_seed(self._invention.randbytes(32))
            if membership is not None and (said := membership.said_by_former(member.peer_id, to)) is not None:
                yield encode(said)
            user.by = make_guest(self._peer.network.id, member.peer_id, signer(member), user.user)
        frames = [user.write(self._room, Naming(room=True), encode_entry(Entry("text", 1, 1, b=b))) for b in "ab"]
        yield encode(frames[0])
        for frame in frames:
            frame.fork = True
            yield encode(frame)

    def _hidden(self, frame: Entries) -> Entries:
        """Return the batch with stubs for texts that it could send."""
        if "withholds" not in self.moods or self._hiding.random() < 0.5:
            return frame
        raws = [
            (c, stub_of(text)) if isinstance(text, str) and self._hiding.random() < 0.7 else (c, text)
            for c, text in frame.e
        ]
        return structs.replace(frame, e=raws)

    def entries(self, frame: Entries, to: SimPeer) -> Entries:
        """Return the batch to send to this peer instead of `frame`."""
        if "forges" not in self.moods or self._chance.random() < 0.5:
            return frame
        *kept, last = frame.e
        true = decode_entry(last)
        if true.k != "text":
            return frame
        false = Entry(true.k, true.at, true.c, true.re, true.after, f"a lie for {to.name}")
        forged = [*kept, encode_entry(false)]
        head = frame.head if frame.u != self._peer.user else self._sign(frame, forged)
        return Entries(
            frame.c, frame.u, frame.r, frame.first, frame.prev, forged, head, frame.h, frame.n, frame.fork,
            names=frame.names,
        )  # fmt: skip

    def _sign(self, frame: Entries, forged: list[RawEntry]) -> str:
        """Return a head over another version of its own log; an author can sign any number of versions."""
        chain = extend_chain(bytes.fromhex(frame.prev), forged)
        last = frame.first + len(forged) - 1
        return self._peer.identity.sign(head_message(LogId(frame.c, frame.u, frame.r), last, chain)).hex()

    def _is_up(self, end: WireEnd) -> bool:
        node = self._peer.node
        return node is not None and end.link in node.links.up

    # ---- false identities

    def _posing(self, frame: Hello | Welcome, to: SimPeer) -> Frame:
        if isinstance(frame, Welcome):
            return self._chance.choice((Welcome(), Welcome(proof=self._hex(32))))
        if frame.id is None:  # a server's
            return self._chance.choice((Hello(v=[9], nonce=frame.nonce), Hello(v=PROTOCOL_VERSION, nonce=frame.nonce)))
        other = self._someone().user
        return self._chance.choice((
            Hello(PROTOCOL_VERSION, frame.nonce, frame.id, frame.sig, frame.proof),
            Hello(PROTOCOL_VERSION, frame.nonce, other, frame.sig, frame.proof),
            Hello(PROTOCOL_VERSION, frame.nonce, to.user, frame.sig, frame.proof),
            Hello(PROTOCOL_VERSION, self._hex(32), frame.id, frame.sig, frame.proof),
            Hello(PROTOCOL_VERSION, frame.nonce, frame.id, frame.sig, None),
            Hello(PROTOCOL_VERSION, frame.nonce, frame.id, frame.sig, self._hex(32)),
            Hello(PROTOCOL_VERSION, frame.nonce),
        ))  # fmt: skip

    # ---- invalid frames

    def _garbage(self, _: WireEnd) -> Iterator[bytes]:
        yield self._chance.choice((b"\0\0\0\5hello", b'\0\0\0\x0c{"t":"ping",', b"\0\0\0\x02[]"))

    def _too_long(self, _: WireEnd) -> Iterator[bytes]:
        yield self._chance.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\0\0\0{"))

    def _out_of_order(self, _: WireEnd) -> Iterator[bytes]:
        yield encode(self._chance.choice((Go(self._hex(8), 9), Welcome(proof=self._hex(32)))))

    def _of_others(self, end: WireEnd) -> Iterator[bytes]:
        other = self._someone(end.other.owner)
        yield encode(Here(users=[Hosted(id=other.user, name=f"not {other.name}", status="online")]))

    def _unknown(self, _: WireEnd) -> Iterator[bytes]:
        yield b'\0\0\0\x0d{"t":"novel"}'
        yield encode(TypingFrame(self._room, self._peer.user, on=True))

    def _many_wants(self, _: WireEnd) -> Iterator[bytes]:
        for n, peer in enumerate(self._peer.sim.all_peers, 1_000_000):
            yield encode(Want(n, self._room, peer.user, []))

    def _no_evidence(self, end: WireEnd) -> Iterator[bytes]:
        """Send two batches of a log as evidence of a fork, of which at least one is forged."""
        logs = sorted((log, raws) for log, raws in self._peer.disk.logs.items() if log.user != self._peer.user)
        if not logs or self._peer.node is None:
            return
        log, raws = self._chance.choice(logs)
        head, header = self._hex(64), encode_header(log, (), None)
        for raw in (raws[0], encode_entry(Entry("text", 1, 1, b=f"a lie for {end.other.owner.name}"))):
            yield encode(Entries(*log, 1, first_chain(header).hex(), [raw], head, header, fork=True))

    def _many_forks(self, _: WireEnd) -> Iterator[bytes]:
        """Send evidence of forks of logs that no peer holds."""
        for run in [self._hex(8) for _ in range(FORKS_AT_ONCE)]:
            log = LogId(self._room, self._peer.user, run)
            for text in ("yes", "no"):
                raws = [encode_entry(Entry("text", 1, 1, b=text))]
                header = encode_header(log, (), self._peer.certificate(log.user))
                start = first_chain(header).hex()
                frame = Entries(*log, 1, start, raws, "", header, fork=True)
                frame.head = self._sign(frame, raws)
                yield encode(frame)

    def _empty_promise(self, _: WireEnd) -> Iterator[bytes]:
        """Send marks of entries that do not exist."""
        run = self._hex(8)
        marks = {self._room: {self._someone().user: [Mark(run, self._chance.choice((1, 1000)), self._hex(8))]}}
        yield encode(Have(marks))

    def _chatter(self, _: WireEnd) -> Iterator[bytes]:
        yield encode(Ping()) * 60

    def _other_sums(self, _: WireEnd) -> Iterator[bytes]:
        span = ("0" * 64, "f" * 64)
        yield encode(Digest(sums={self._room: self._hex(32), self._hex(32): self._hex(32)}, span=span))
        yield encode(Have({self._room: {}}, span=span, ask=True))

    def _many_talks(self, end: WireEnd) -> Iterator[bytes]:
        """Name direct conversations of the remote user with users that do not exist."""
        users = [sorted((end.other.owner.user, self._hex(32))) for _ in range(5)]
        users += [sorted((end.other.owner.user, self._peer.user))]
        yield encode(Digest(sum=self._hex(32), names=[Naming(dm=(one, other)) for one, other in users]))

    # ---- helpers

    @property
    def _room(self) -> str:
        return self._peer.sim.invariants.room

    def _someone(self, *but: SimPeer) -> SimPeer:
        others = [peer for peer in self._peer.sim.all_peers if peer is not self._peer and peer not in but]
        return self._chance.choice(others or self._peer.sim.all_peers)

    def _hex(self, size: int) -> str:
        return self._chance.randbytes(size).hex()


class MadeUpUser:
    """A user that a Sybil made up. What is stored of it may be anything."""

    byzantine = True
    restored = False

    def __init__(self, name: str, seed: bytes) -> None:
        self.name = name
        self.by: GuestCertificate | None = None  # None: nobody answers for it
        self.is_named = False  # the member that answers for it belongs to the network
        self._identity = Identity.from_seed(seed)
        self.user: str = self._identity.peer_id
        self.sign: Callable[[bytes], bytes] = signer(self._identity)

    def had(self, log: LogId) -> int:
        """Return the highest number of a log that it ever held: it holds nothing."""
        return 0

    def write(self, conversation: ConversationId, naming: Naming, raw: RawEntry, run: RunId = "") -> Entries:
        """Return a log of this one entry."""
        log = LogId(conversation, self.user, run or self.user[:16])
        header = encode_header(log, (), self.by)
        start = first_chain(header)
        head = self.sign(head_message(log, 1, extend_chain(start, [raw]))).hex()
        return Entries(*log, 1, start.hex(), [raw], head, header, names=[naming])


def invent(sim: Simulation, chance: Random) -> MadeUpUser:
    """Return a new user for whom nobody answers yet."""
    user = MadeUpUser(f"nobody {len(sim.made_up) + 1}", chance.randbytes(32))
    sim.made_up[user.user] = user
    return user


class Sybil:
    """One of the keys of a crowd, and everything that it can do under made-up names."""

    def __init__(self, peer: SimPeer) -> None:
        self.peer = peer
        self._chance = Random(f"{peer.sim.seed} sybil {peer.name}")
        self._told: list[str] = []

    def attack(self, to: SimPeer) -> Iterator[bytes]:
        """Yield the frames of all attacks on a peer: presence, direct conversations, groups, logs, addresses."""
        users = [invent(self.peer.sim, self._chance) for _ in range(MADE_UP_AT_ONCE)]
        for user in users[:-1]:
            user.by, user.is_named = self.peer.certificate(user.user), True
        now, me, room = self.peer.clock.now().utc, self.peer.user, self.peer.sim.invariants.room
        page = [
            Hosted(
                user.user,
                user.name,
                "online",
                cert=make_cert(self.peer.network.id, user.user, user.sign, me, now // 1000),
            )
            for user in users
        ]
        gone, self._told = self._told, [user.user for user in users]
        yield encode(Here(page, gone))
        for number, user in enumerate(users):
            text = encode_entry(Entry("text", now, now + number, b="buy"))
            yield encode(user.write(dm_id(room, user.user, to.user), dm_naming(user.user, to.user), text))
            if number:  # the first never writes to the room, and nobody answers for the last
                yield encode(user.write(room, Naming(room=True), text))
            body = fact_body(CREATE, [user.user, to.user], name="ops", salt=self._chance.randbytes(16).hex())
            raw = encode_entry(Entry("group", now, now + number, b=body))
            group = group_id(room, user.user, raw)
            run = run_of(group, user.user, (), user.by, raw)
            yield encode(user.write(group, Naming(group=(group, user.user, run)), raw, run))
        honest = self._chance.choice([peer for peer in self.peer.sim.all_peers if not peer.byzantine])
        records = [
            self._record(me, self.peer.identity.sign),
            self._record(honest.user, self.peer.identity.sign),
            *(self._record(user.user, user.sign) for user in users),
        ]
        for record in records:
            yield encode(Peers([record], [record.id]))

    def _record(self, peer: PeerId, sign: Callable[[bytes], bytes]) -> PeerRecord:
        """Return a record with an address of the third host, newer than all others."""
        network, at = self.peer.network, self.peer.clock.now().utc + 10**12
        guest = None if network.sign is None else make_guest(network.id, network.member, network.sign, peer)
        return make_record(network.id, peer, sign, at, [f"{THIRD_HOST}:{1 + self._chance.randrange(60_000)}"], guest)


class OddWriter:
    """A member whose program signs any text as an entry, with any clock above its predecessor's."""

    def __init__(self, peer: SimPeer, chance: Random) -> None:
        self._peer = peer
        self._chance = chance
        self._attached: Appender | None = None

    def attach(self, node: Node) -> None:
        """Change what a node signs. A node has another appender after its storage failed."""
        appender = node.replicator.appender
        if appender is self._attached:
            return
        self._attached, sign = appender, appender._sign

        def sign_oddly(log: LogState, raws: list[RawEntry], entries: list[Entry], size: int) -> None:
            raws = [*self._changed(raws, log.seq, log.last_c)]
            sign(log, raws, list(map(decode_entry, raws)), size_bytes(raws))

        appender.__dict__["_sign"] = sign_oddly

    def _changed(self, raws: list[RawEntry], held: int, last_c: int) -> Iterator[RawEntry]:
        for seq, (c, text) in enumerate(raws, held + 1):
            # Behind a deletion only the references of its first entries say that a log follows the one before.
            if not isinstance(text, str) or f'"b":"{ODD}' not in text or (seq <= 2 and '"after"' in text):
                last_c = max(c, last_c + 1)
                yield last_c, text
                continue
            c = self._chance.choice((last_c + 1, c, c + 1000, c + 7 * 86_400_000_000))
            last_c = max(c, last_c + 1)
            odd = self._chance.choice((*ODD_TEXTS, text[:-1], text[:-1] + ',"c":"x"}', text[:-1] + ',"t":"soon"}'))
            self._peer.sim.invariants.odd.add((last_c, odd))
            self._peer.sim.counts["odd_entry"] += 1
            yield last_c, odd
