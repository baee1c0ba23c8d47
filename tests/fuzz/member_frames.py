"""Frames from members of a mesh, with signed batches: valid, changed or nonsensical.

The bytes of an input choose their values from those that the node knows (ids, runs, chains) and from others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from p2pchat import protocol as wire
from p2pchat.core.groups.group_fact import ADD, ADMIN, CREATE, HEIR, LEAVE, NAME, REMOVE, UNADMIN
from p2pchat.core.log import Entry, RawEntry, Ref, encode_entry, ref_key
from p2pchat.core.members.statement import make_guest
from p2pchat.core.mesh.peer_exchange import make_record
from p2pchat.core.sync.known_conversations import dm_naming
from p2pchat.kinds import KINDS, RELATION_KINDS
from tests.core.scripted_nodes import ALL, IDENTITIES, IDS, ROOM, START, Author, Far, GroupPen, N, Peer, dm
from tests.core.scripted_nodes import NAMINGS as NAMED
from tests.fuzz.choices import Supply

WHO = ("bob", "ada", "cyd", "eve")
USERS = (*(IDS[name] for name in WHO), "00" * 32, "ff" * 32)
DMS = (dm("ada", "bob"), dm("ada", "cyd"), dm("bob", "cyd"))
RUNS = ("b1" * 8, "b2" * 8, "c1" * 8, "a1" * 8, "00" * 8)
PAIRS = (("ada", "bob"), ("ada", "cyd"), ("bob", "cyd"))
# a group of bob with ada, cyd and eve
MADE = GroupPen("bob", *WHO[1:])
GROUP, TALK = MADE.id, MADE.talk
OF_GROUP = (NAMED[GROUP], NAMED[TALK])
TALKS = (ROOM, ROOM, *DMS, GROUP, TALK, TALK, "00" * 32, "ff" * 32)
FACTS = (ADD, ADD, REMOVE, REMOVE, LEAVE, ADMIN, UNADMIN, HEIR, NAME, CREATE)
NAMINGS = (
    wire.Naming(room=True),
    *OF_GROUP,
    *(dm_naming(IDS[one], IDS[other]) for one, other in PAIRS),
    wire.Naming(talk="00" * 32),
    wire.Naming(group=("00" * 32, IDS["bob"], "b1" * 8)),
)
NUMBERS = (0, 1, 2, 3, 64, 2**40 - 1, 2**40, 2**40 + 1, wire.MAX_INT)


class MemberFrames:
    """The frames of the peers linked with a node; `live` records which users they host."""

    def __init__(self, supply: Supply, peer: Peer, live: Callable[[], list[Far]]) -> None:
        self.supply = supply
        self.peer = peer
        self.live = live
        self.authors: dict[tuple[str, str, str], Author] = {}
        self.pen = GroupPen("bob", *WHO[1:])
        self.made: deque[wire.Entries] = deque(maxlen=12)  # signed batches, for repeats

    def frame(self) -> wire.Frame:
        supply = self.supply
        kinds: tuple[Callable[[], wire.Frame], ...] = (
            self.have, self.have, self.want, self.want, self.digest, self.digest, self.here, self.peers, self.other,
            self.have, self.want, self.digest, self.evidence, lambda: self.bent(self.signed()),
        )  # fmt: skip
        return supply.pick(kinds)()

    def have(self) -> wire.Have:
        supply = self.supply
        marks: dict[str, dict[str, list[wire.Mark]]] = {}
        for _ in range(supply.often(5)):
            marks.setdefault(supply.pick(TALKS), {})[supply.pick(USERS)] = self.marks()
        span = self.span() if supply.yes(2) else None
        if span:
            marks = dict(list(marks.items())[:1]) or {ROOM: {}}
        full = {supply.pick(TALKS): [supply.pick(USERS)]} if supply.yes(5) else {}
        end = supply.pick(NUMBERS) if supply.yes(3) else None
        return wire.Have(marks, span, supply.yes(2), end, full, names=self.names())

    def want(self) -> wire.Want:
        supply = self.supply
        return wire.Want(
            supply.pick(NUMBERS),
            supply.pick(TALKS),
            supply.pick(USERS),
            self.marks()[:3],
            self.marks()[:2],
            self.names(),
        )

    def digest(self) -> wire.Digest:
        supply = self.supply
        if supply.yes(2):
            return wire.Digest(sum=self.hex32(), ask=supply.yes(2), names=self.names())
        sums = {supply.pick(TALKS): self.hex32() for _ in range(supply.often(5))}
        return wire.Digest(sums=sums, span=self.span(), names=self.names())

    def here(self) -> wire.Here:
        supply = self.supply
        users = [self.hosted() for _ in range(supply.often(5))]
        return wire.Here(users, [supply.pick(USERS) for _ in range(supply.often(3))], supply.yes(3))

    def hosted(self) -> wire.Hosted:
        supply = self.supply
        true = [IDS[far.name] for far in self.live()] or [IDS["bob"]]
        user = supply.pick(USERS if supply.yes(8) else true)
        cert = wire.Cert(supply.pick(NUMBERS), supply.pick(NUMBERS), "00" * 64) if supply.yes(8) else None
        status = supply.pick(("online", "idle", "offline", "unknown", supply.text(8)))
        return wire.Hosted(user, supply.text(40), status, supply.text(20) or None, supply.pick((None, *NUMBERS)), cert)

    def peers(self) -> wire.Peers:
        supply = self.supply
        at = ["10.0.0.7:1", "10.0.0.2:2", "[::1]:3", "224.0.0.1:1", "host:0", supply.text(20), "127.0.0.1:5"]
        keys = [supply.pick(("bob", "cyd", "dan")) for _ in range(supply.often(4))]
        records = [
            make_record(
                N, IDS[name], IDENTITIES[supply.pick((name, "bob"))].sign, supply.pick(NUMBERS), [supply.pick(at)], None
            )
            for name in keys
        ]
        linked = [record.id for record in records] + [supply.pick(USERS) for _ in range(supply.often(3))]
        gone = [supply.pick(USERS) for _ in range(supply.often(3))]
        return wire.Peers(records, linked, gone)

    def other(self) -> wire.Frame:
        supply = self.supply
        if supply.yes(4):
            return supply.pick(
                (
                    wire.Go("0f" * 8, 1),
                    wire.Welcome(),
                    wire.Hello([wire.PROTOCOL_VERSION], "00" * 32),
                    wire.Bye("left"),
                    wire.Bye("replaced"),
                )
            )
        odd: tuple[wire.Frame, ...] = (
            wire.Ping(), wire.Pong(), *([wire.Bye(supply.text(9), supply.text(9))] if supply.yes(9) else []),
            wire.TypingFrame(supply.pick(TALKS), supply.pick(USERS), True, self.names()),
            self.read(), self.read(), self.read(),
            wire.ReadFrame({}, ask=supply.yes(2), sum=None if supply.yes(2) else "0f" * 32, names=self.names()),
        )  # fmt: skip
        return supply.pick(odd)

    def read(self) -> wire.ReadFrame:
        supply = self.supply
        hosted = [IDS[far.name] for far in self.live()] or [IDS["bob"]]
        marks: dict[str, dict[str, list[tuple[str, int, str]]]] = {}
        for _ in range(1 + supply.often(4)):
            reader = supply.pick(USERS if supply.yes(12) else hosted)
            refs = [(supply.pick(USERS)[:32] + mark.run, *mark[1:]) for mark in self.marks()]
            marks.setdefault(supply.pick(TALKS), {})[reader] = refs
        taken = {talk: marks.pop(talk) for talk in list(marks) if supply.yes(3)}
        add = "0f" * 32 if supply.yes(2) else None
        return wire.ReadFrame(marks, taken, supply.yes(3), add, supply.yes(4), names=self.names())

    def evidence(self) -> wire.Entries:
        frame = self.bent(self.supply.pick(self.made)) if self.made else self.signed()
        return wire.Entries(
            frame.c, frame.u, frame.r, frame.first, frame.prev, frame.e, frame.head, frame.h, frame.n, True, frame.names
        )

    # ---- entries

    def signed(self) -> wire.Entries:
        """Return a batch signed by its author, with any content."""
        supply = self.supply
        name, talk, run = supply.pick(WHO), supply.pick(TALKS[:8]), supply.pick(RUNS)
        if talk == GROUP and not supply.yes(6):
            frame = self.fact(name if supply.yes(3) else "bob")
            self.made.append(frame)
            return frame
        author = self.authors.get((name, talk, run))
        if author is None or supply.yes(12):  # or a fork: the same log from the beginning
            before = self.marks() if supply.yes(3) else []
            by = self.certificate(IDS[name]) if supply.yes(20) else None
            author = self.authors[name, talk, run] = Author(name, run[:2], talk, before, by)
        raws = [self.entry(author, at) for at in range(1 + supply.often(5))]
        frame = author.write(*raws)
        frame.n = supply.pick(NUMBERS[:4]) if supply.yes(3) else None
        frame.names = [wire.Naming(room=True)] if talk == ROOM else self.names() or NAMINGS[1:4]  # type: ignore[assignment]
        if talk in (GROUP, TALK) and not supply.yes(8):
            frame.names = OF_GROUP  # type: ignore[assignment]
        frame.names = list(frame.names)
        self.made.append(frame)
        return frame

    def certificate(self, user: str) -> wire.GuestCertificate:
        """Return a certificate by which somebody answers for a user, mostly a true one."""
        member = self.supply.pick(WHO)
        network = "0a" * 16 if not self.supply.yes(4) else "00" * 16
        return make_guest(network, IDS[member], IDENTITIES[member].sign, user)

    def entry(self, author: Author, at: int) -> RawEntry:
        supply = self.supply
        seq = author.seq + at + 1
        clock = START + seq if not supply.yes(16) else supply.pick((1, wire.MAX_INT, START + 10**12, START))
        if supply.yes(20):
            return clock, supply.text(60)
        after = tuple(self.ref() for _ in range(supply.below(3 + supply.yes(20)) if supply.yes(3) else 0))
        kind = supply.pick(("text", "text", *(kind for kind in KINDS if kind != "group"), "x"))
        body = None if kind == "delete" and not supply.yes(4) else self.body(kind)
        named = self.ref() if supply.yes(6) or (kind in RELATION_KINDS and not supply.yes(4)) else None
        return encode_entry(Entry(kind, clock, clock, named, after, body))

    # ---- groups

    def first_of_group(self) -> wire.Entries:
        return MADE.first

    def fact(self, by: str) -> wire.Entries:
        """Return a fact of the group, mostly a valid one."""
        supply, kind = self.supply, self.supply.pick(FACTS)
        few = {REMOVE: 1, UNADMIN: 1, HEIR: 1, LEAVE: 0, NAME: 0}.get(kind, 1 + supply.often(4))
        who = [supply.pick(USERS) for _ in range(few if not supply.yes(8) else supply.often(3))]
        ends = [supply.pick(self.pen.marks).chain[:32] for _ in range(supply.often(4))] if kind in (ADD, ADMIN) else []
        fields: dict[str, object] = {"cuts": self.marks()} if kind in (REMOVE, LEAVE) else {}
        fields |= {"said": [supply.pick(self.pen.marks)]} if kind in (REMOVE, UNADMIN) and supply.yes(2) else {}
        fields |= {"name": supply.text(12) if supply.yes(3) else "ops"} if kind in (NAME, CREATE) else {}
        fields |= {"n": supply.pick(NUMBERS)} if kind in (NAME, HEIR) or supply.yes(20) else {}
        fields |= {"salt": supply.below(3)} if kind == CREATE else {}
        frame = self.pen.say(by, kind, *who, ends=ends, **fields)
        frame.names = list(OF_GROUP)
        return frame

    # ---- pieces

    def body(self, kind: str) -> object:
        supply = self.supply
        if kind == "profile" or supply.yes(40):
            odd: tuple[object, ...] = (
                {"name": supply.text(40)},
                {"name": 7},
                {"name": "Ada", "about": supply.text(9)},
                [],
                None,
                {},
                1,
                True,
            )
            return supply.pick(odd)
        return supply.text(90).replace("\0", "")

    def ref(self) -> Ref:
        supply = self.supply
        return Ref(ref_key(supply.pick(USERS), supply.pick((*RUNS, self.peer.node.run))), max(1, supply.pick(NUMBERS)))

    def marks(self) -> list[wire.Mark]:
        supply = self.supply
        some = [author.mark for author in self.authors.values() if author.seq]
        odd = [
            wire.Mark(
                supply.pick((*RUNS, self.peer.node.run)),
                max(1, supply.pick(NUMBERS)),
                supply.pick(("00" * 32, "ab" * 32)),
            )
        ]
        return [supply.pick(some if some and not supply.yes(3) else odd) for _ in range(supply.often(4))]

    def names(self) -> list[wire.Naming]:
        return [self.supply.pick(NAMINGS) for _ in range(self.supply.often(4))]

    def span(self) -> tuple[str, str]:
        one, other = sorted((self.supply.pick((*USERS, *ALL)), self.supply.pick((*USERS, *ALL))))
        return self.supply.pick((ALL, (one, other)))

    def hex32(self) -> str:
        return self.supply.pick(("00" * 32, "ff" * 32, self.supply.take(4).hex().rjust(64, "0")))

    # ---- changed after signing

    def bent(self, frame: wire.Entries) -> wire.Entries:
        """Return a batch with a change that its author did not sign."""
        supply = self.supply
        c, u, r, first, prev, e, head = frame.c, frame.u, frame.r, frame.first, frame.prev, list(frame.e), frame.head
        h = frame.h
        match supply.below(11):
            case 0:
                first = max(1, supply.pick(NUMBERS))
            case 1:
                prev = self.hex32()
            case 2:
                head = head[:10] + supply.pick("0123456789abcdef") + head[11:]
            case 3:
                e = e[:-1] or [(1, "{}")]
            case 4:
                e[0] = e[0][0], str(e[0][1]) + " "
            case 8:
                e[0] = e[0][0] + 1, e[0][1]
            case 9:
                h = h and h.replace("[]", "[ ]", 1)
            case 5:
                u = supply.pick(USERS)
            case 6:
                r = supply.pick(RUNS)
            case 7:
                c = supply.pick(TALKS)
        first = min(first, wire.MAX_INT - len(e))
        h = (h or "{}") if first == 1 else ""
        return wire.Entries(c, u, r, first, prev, e, head, h, frame.n, supply.yes(6), frame.names)
