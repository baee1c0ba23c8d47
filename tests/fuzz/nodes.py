"""A whole node and a member that may say anything: frames, batches it signed itself, files, failing storage, time.

An input is a list of steps, each made of what the node knows (ids, runs, chains) and of what it does not. Whatever
comes, the node answers with effects: it never raises, what it sends is fit to be sent, what it shows was signed by
whom it is shown as, and what it holds grows no faster than what came.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import cache
from time import perf_counter

from p2pchat.config import Settings
from p2pchat.core import effects as out
from p2pchat.core.groups.operations import group_body, leave_body, operation_hash, talk_id
from p2pchat.core.inputs import (
    Carried,
    CommitFailed,
    DiskLow,
    Drained,
    Faulted,
    Filled,
    Forget,
    Found,
    Got,
    GroupChanging,
    GroupLeaving,
    GroupMade,
    HandedOn,
    Input,
    LinkDown,
    Listening,
    Loaded,
    MarkedRead,
    Paused,
    PresenceSet,
    ReceiptsChosen,
    Renamed,
    Said,
    Sighted,
    Stop,
    TypingSet,
)
from p2pchat.core.log import Entry, LogId, Ref, encode_entry, extend_chain, first_chain, head_message, ref_key, verify
from p2pchat.core.records import WantStart
from p2pchat.core.sync.conversations import dm_naming
from p2pchat.protocol import (
    LENGTH,
    MAX_FRAME_BYTES,
    MAX_INT,
    Bye,
    Cert,
    Decoder,
    Digest,
    Entries,
    Frame,
    Go,
    Have,
    Hello,
    Here,
    Hosted,
    Mark,
    Naming,
    Peers,
    Ping,
    Pong,
    Read,
    Typing,
    Want,
    Welcome,
    encode,
)
from p2pchat.storage.memory import MemoryStorage
from tests.core.world import ALL, IDS, ROOM, START, Author, Far, Peer, World, dm
from tests.core.world import NAMINGS as NAMED
from tests.fuzz.frames import WORDS, golden_frames
from tests.fuzz.supply import Supply
from tests.fuzz.target import Target, hold

WHO = ("bob", "ada", "cyd", "eve")
USERS = (*(IDS[name] for name in WHO), "00" * 32, "ff" * 32)
DMS = (dm("ada", "bob"), dm("ada", "cyd"), dm("bob", "cyd"))
RUNS = ("b1" * 8, "b2" * 8, "c1" * 8, "a1" * 8, "00" * 8)
PAIRS = (("ada", "bob"), ("ada", "cyd"), ("bob", "cyd"))
# a group that bob made, with ada, cyd and eve in it
MADE = group_body(1, "ops", IDS["bob"], {IDS[name]: 1 for name in WHO}, {}, salt="00" * 16)
FIRST = encode_entry(Entry("group", START, START, b=MADE))
GROUP = operation_hash(FIRST)
TALK = talk_id(GROUP)
OF_GROUP = (Naming(group=(GROUP, IDS["bob"], "b1" * 8)), Naming(talk=GROUP))
NAMED[GROUP], NAMED[TALK] = OF_GROUP
TALKS = (ROOM, ROOM, *DMS, GROUP, TALK, TALK, "00" * 32, "ff" * 32)
GENS = (1, 2, 2, 2, 3, 3, 4, 5, 64, MAX_INT)
NAMINGS = (
    Naming(room=True),
    *OF_GROUP,
    *(dm_naming(IDS[one], IDS[other]) for one, other in PAIRS),
    Naming(talk="00" * 32),
    Naming(group=("00" * 32, IDS["bob"], "b1" * 8)),
)
NUMBERS = (0, 1, 2, 3, 64, 2**40 - 1, 2**40, 2**40 + 1, MAX_INT)
STEPS_AT_MOST = 120
SLOW = 2.0  # seconds one input may take here: a hundred times what the slowest takes
SMALL = {
    "max_batch_entries": 4, "max_batch_bytes": 600, "page_items": 3, "page_marks": 3, "max_tips": 3, "max_older": 2,
    "max_wants": 3, "fetch_batches": 2, "max_hosted_users": 4, "flood_burst": 20, "flood_a_second": 5,
    "max_uncommitted_entries": 8, "max_links": 2, "max_addresses": 4, "max_told_unverified": 2,
    "max_conversations_a_user": 3,
}  # fmt: skip


class Play:
    """One node (ada's) with links to bob and, later, to cyd, both of whom say what the input says."""

    def __init__(self, supply: Supply) -> None:
        self.supply = supply
        self.world = World()
        self.peer = Watched(self.world, "ada", supply)
        self.fars: list[Far] = []
        self.authors: dict[tuple[str, str, str], Author] = {}
        self.operations = [(1, GROUP)]  # gen and hash
        self.made: deque[Entries] = deque(maxlen=12)  # batches that were signed, for saying them again
        self.bytes_in = 0
        self.stopped = False
        self.steps: tuple[Callable[[], None], ...] = (
            *[self.say] * 6, *[self.batch] * 6, *[self.command] * 2, *[self.again] * 2, self.time, self.time, self.link,
            self.storage, self.drop, self.raw,
        )  # fmt: skip

    def run(self) -> None:
        self.link()
        if self.supply.yes(2):
            self.begin_group()
        for _ in range(STEPS_AT_MOST):
            if not self.supply.left or not self.peer.up:
                break
            if not self.live():
                self.link()
            self.supply.pick(self.steps)()
            if not self.supply.yes(4):
                self.world.settle()
        self.world.settle()
        self.world.pass_time(400.0)
        self.peer.judge(self.bytes_in)

    # ---- what others say

    def link(self) -> None:
        taken = {far.name for far in self.live()}
        for name in ("bob", "cyd"):
            if name not in taken and self.peer.up and not self.stopped:
                self.fars.append(self.peer.far(name, compared=not self.supply.yes(3)))
                return

    def live(self) -> list[Far]:
        return [far for far in self.fars if self.peer.links.get(far.link) is far]

    def put(self, data: bytes) -> None:
        """Say these bytes on a link that is up."""
        far = self.supply.pick(self.live() or [Far("bob")])
        if far.link:
            self.bytes_in += len(data)
            decoder = Decoder(self.peer.settings, max_frame_bytes=MAX_FRAME_BYTES)
            self.peer.put(Got(far.link, [*decoder.feed(data)]))
            if decoder.fault is not None:
                self.peer.put(Faulted(far.link, decoder.fault.code, str(decoder.fault)))

    def say(self) -> None:
        frames = [self.frame() for _ in range(1 + self.supply.often(6))]
        self.put(b"".join(map(encode, frames)))

    def raw(self) -> None:
        payload = self.supply.take(self.supply.below(120))
        self.put(LENGTH.pack(len(payload)) + payload)

    def again(self) -> None:
        """Say what was said before, bent or in another order."""
        frames = [self.bent(self.supply.pick(self.made)) for _ in range(self.supply.below(4)) if self.made]
        if self.supply.yes(4) and frames:
            self.peer.put(Carried(1, frames))
        else:
            self.put(b"".join(map(encode, frames)))

    def frame(self) -> Frame:
        supply = self.supply
        kinds: tuple[Callable[[], Frame], ...] = (
            self.have, self.have, self.want, self.want, self.digest, self.digest, self.here, self.peers, self.other,
            self.have, self.want, self.digest, self.evidence, lambda: self.bent(self.signed()),
        )  # fmt: skip
        return supply.pick(kinds)()

    def have(self) -> Have:
        supply = self.supply
        marks: dict[str, dict[str, list[Mark]]] = {}
        for _ in range(supply.often(5)):
            marks.setdefault(supply.pick(TALKS), {})[supply.pick(USERS)] = self.marks()
        span = self.span() if supply.yes(2) else None
        if span:
            marks = dict(list(marks.items())[:1]) or {ROOM: {}}
        full = {supply.pick(TALKS): [supply.pick(USERS)]} if supply.yes(5) else {}
        end = supply.pick(NUMBERS) if supply.yes(3) else None
        return Have(marks, span, supply.yes(2), end, full, self.names())

    def want(self) -> Want:
        supply = self.supply
        return Want(
            supply.pick(NUMBERS),
            supply.pick(TALKS),
            supply.pick(USERS),
            self.marks()[:3],
            self.marks()[:2],
            self.names(),
        )

    def digest(self) -> Digest:
        supply = self.supply
        if supply.yes(2):
            return Digest(sum=self.hex32(), ask=supply.yes(2), names=self.names())
        sums = {supply.pick(TALKS): self.hex32() for _ in range(supply.often(5))}
        return Digest(sums=sums, span=self.span(), names=self.names())

    def here(self) -> Here:
        supply = self.supply
        users = [self.hosted() for _ in range(supply.often(5))]
        return Here(users, [supply.pick(USERS) for _ in range(supply.often(3))], supply.yes(3))

    def hosted(self) -> Hosted:
        supply = self.supply
        true = [IDS[far.name] for far in self.live()] or [IDS["bob"]]
        user = supply.pick(USERS if supply.yes(8) else true)
        cert = Cert(supply.pick(NUMBERS), supply.pick(NUMBERS), "00" * 64) if supply.yes(8) else None
        status = supply.pick(("online", "idle", "offline", "unknown", supply.text(8)))
        return Hosted(user, supply.text(40), status, supply.text(20) or None, supply.pick((None, *NUMBERS)), cert)

    def peers(self) -> Peers:
        supply = self.supply
        at = ["10.0.0.7:1", "10.0.0.2:2", "[::1]:3", "224.0.0.1:1", "host:0", supply.text(20), "127.0.0.1:5"]
        some = [supply.pick(at) for _ in range(supply.often(6))]
        linked = [(supply.pick(USERS), [supply.pick(at)]) for _ in range(supply.often(4))]
        return Peers(supply.pick((0, 1, 65535)), some, linked, [supply.pick(USERS) for _ in range(supply.often(3))])

    def other(self) -> Frame:
        supply = self.supply
        if supply.yes(4):
            return supply.pick((Go("0f" * 8, 1), Welcome(), Hello([1], "00" * 32), Bye("left"), Bye("replaced")))
        odd: tuple[Frame, ...] = (
            Ping(), Pong(), *([Bye(supply.text(9), supply.text(9))] if supply.yes(9) else []),
            Typing(supply.pick(TALKS), supply.pick(USERS), True, self.names()),
            self.read(), self.read(), self.read(),
            Read({}, ask=supply.yes(2), sum=None if supply.yes(2) else "0f" * 32, names=self.names()),
        )  # fmt: skip
        return supply.pick(odd)

    def read(self) -> Read:
        supply = self.supply
        hosted = [IDS[far.name] for far in self.live()] or [IDS["bob"]]
        marks: dict[str, dict[str, list[tuple[str, int]]]] = {}
        for _ in range(1 + supply.often(4)):
            reader = supply.pick(USERS if supply.yes(12) else hosted)
            refs = [(supply.pick(USERS)[:16] + mark.run, mark.seq) for mark in self.marks()]
            marks.setdefault(supply.pick(TALKS), {})[reader] = refs
        return Read(marks, self.span() if supply.yes(3) else None, supply.yes(4), names=self.names())

    def evidence(self) -> Entries:
        frame = self.bent(self.supply.pick(self.made)) if self.made else self.signed()
        return Entries(
            frame.c, frame.u, frame.r, frame.first, frame.prev, frame.e, frame.head, frame.n, True, frame.names
        )

    # ---- what is written

    def batch(self) -> None:
        self.put(b"".join(encode(self.signed()) for _ in range(1 + self.supply.often(3))))

    def signed(self) -> Entries:
        """Return a batch whose author signed it, whatever it says."""
        supply = self.supply
        name, talk, run = supply.pick(WHO), supply.pick(TALKS[:8]), supply.pick(RUNS)
        if talk == GROUP and not supply.yes(3):
            name = next((name for name in WHO if IDS[name] == self.now()[1]), name)
        author = self.authors.get((name, talk, run))
        if author is None or supply.yes(12):  # or a fork: the same log from the beginning
            before = self.marks() if supply.yes(3) else []
            author = self.authors[name, talk, run] = Author(name, run[:2], talk, before)
        raws = [self.entry(author, at) for at in range(1 + supply.often(5))]
        if (name, talk, run) == ("bob", GROUP, RUNS[0]) and not author.seq and not supply.yes(8):
            raws[0] = FIRST
        frame = author.write(*raws)
        frame.n = supply.pick(NUMBERS[:4]) if supply.yes(3) else None
        frame.names = [Naming(room=True)] if talk == ROOM else self.names() or NAMINGS[1:4]  # type: ignore[assignment]
        if talk in (GROUP, TALK) and not supply.yes(8):
            frame.names = OF_GROUP  # type: ignore[assignment]
        frame.names = list(frame.names)
        self.made.append(frame)
        return frame

    def entry(self, author: Author, at: int) -> str:
        supply = self.supply
        if supply.yes(60):
            return supply.text(60)
        seq = author.seq + at + 1
        clock = START + seq if not supply.yes(16) else supply.pick((0, MAX_INT, START + 10**12, START))
        before = author.before if seq == 1 or supply.yes(60) else ()
        after = tuple(self.ref() for _ in range(supply.below(3 + supply.yes(20)) if supply.yes(3) else 0))
        in_group, in_talk = author.log.conversation == GROUP, author.log.conversation == TALK
        if in_group and not supply.yes(6):
            return self.of_group(clock, before)
        kind = supply.pick(("text", "text", "text", "profile", "action", "delete", "edit", "leave", "reaction", "x"))
        body = None if kind == "delete" and not supply.yes(4) else self.body(kind)
        named = self.ref() if supply.yes(6) or (kind in ("edit", "delete", "reaction") and not supply.yes(4)) else None
        cite = self.cite() if in_talk != supply.yes(20) else None
        return encode_entry(Entry(kind, clock, clock, named, after, before, cite, body))

    # ---- groups

    def begin_group(self) -> None:
        author = self.authors["bob", GROUP, RUNS[0]] = Author("bob", "b1", GROUP)
        frame = author.write(FIRST)
        frame.names = list(OF_GROUP)
        self.put(encode(frame))

    def now(self) -> tuple[int, str]:
        """Return the gen and the owner of the group, as ada sees it."""
        view = self.peer.node.groups.get(GROUP)
        return (view.gen, view.owner) if view is not None else (1, IDS["bob"])

    def of_group(self, clock: int, before: tuple[Mark, ...]) -> str:
        """Return an operation or a leave, mostly one that may count."""
        supply = self.supply
        if supply.yes(3):
            return encode_entry(Entry("leave", clock, clock, None, (), before, self.cite(), leave_body(self.marks())))
        gen = supply.pick(GENS) if supply.yes(4) else self.now()[0] + supply.below(2)
        members = {supply.pick(USERS): min(gen, supply.pick(GENS)) for _ in range(1 + supply.often(5))}
        owner = supply.pick((*members, IDS["ada"]) if not supply.yes(6) else USERS)
        if not supply.yes(6):
            members[owner] = min(gen, supply.pick(GENS))
        cuts = {supply.pick(USERS): tuple(self.marks()) for _ in range(supply.often(3))}
        name = supply.text(40) if supply.yes(4) else "ops"
        redo = supply.pick(self.operations)[1] if supply.yes(4) else ""
        raw = encode_entry(
            Entry("group", clock, clock, b=group_body(gen, name, owner, members, cuts, redo=redo), before=before)
        )
        self.operations = [*self.operations[-8:], (gen, operation_hash(raw))]
        return raw

    def cite(self) -> tuple[int, str]:
        gen, hash = self.supply.pick(self.operations)
        return (self.supply.pick(GENS) if self.supply.yes(6) else gen), hash[:16]

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

    def bent(self, frame: Entries) -> Entries:
        """Return a batch with something changed that its author did not sign."""
        supply = self.supply
        c, u, r, first, prev, e, head = frame.c, frame.u, frame.r, frame.first, frame.prev, list(frame.e), frame.head
        match supply.below(9):
            case 0:
                first = max(1, supply.pick(NUMBERS))
            case 1:
                prev = self.hex32()
            case 2:
                head = head[:10] + supply.pick("0123456789abcdef") + head[11:]
            case 3:
                e = e[:-1] or ["{}"]
            case 4:
                e[0] = e[0] + " "
            case 5:
                u = supply.pick(USERS)
            case 6:
                r = supply.pick(RUNS)
            case 7:
                c = supply.pick(TALKS)
        first = min(first, MAX_INT - len(e))
        return Entries(c, u, r, first, prev, e, head, frame.n, supply.yes(6), frame.names)

    def marks(self) -> list[Mark]:
        supply = self.supply
        some = [author.mark for author in self.authors.values() if author.seq]
        odd = [
            Mark(
                supply.pick((*RUNS, self.peer.node.run)),
                max(1, supply.pick(NUMBERS)),
                supply.pick(("00" * 8, "ab" * 8)),
            )
        ]
        return [supply.pick(some if some and not supply.yes(3) else odd) for _ in range(supply.often(4))]

    def names(self) -> list[Naming]:
        return [self.supply.pick(NAMINGS) for _ in range(self.supply.often(4))]

    def span(self) -> tuple[str, str]:
        one, other = sorted((self.supply.pick((*USERS, *ALL)), self.supply.pick((*USERS, *ALL))))
        return self.supply.pick((ALL, (one, other)))

    def hex32(self) -> str:
        return self.supply.pick(("00" * 32, "ff" * 32, self.supply.take(4).hex().rjust(64, "0")))

    # ---- what happens here

    def command(self) -> None:
        supply, ada = self.supply, IDS["ada"]
        inputs: tuple[Input, ...] = (
            Said(5, ada, ROOM, "text", [supply.text(20) for _ in range(1 + supply.often(4))]),
            Said(6, ada, supply.pick(TALKS), "text", [supply.text(20)], self.ref() if supply.yes(3) else None),
            Renamed(ada, "Ada"), PresenceSet(ada, "idle", supply.text(9)), HandedOn("bot", supply.below(9)),
            Listening(supply.pick((0, 8080)), ("10.0.0.1:8080",)), Forget("", supply.text(12)), Forget(IDS["bob"]),
            Sighted(IDS["bob"], ("10.0.0.3:9",)), Sighted(IDS["dan"]),
            TypingSet(ada, supply.pick((ROOM, *TALKS)), supply.yes(2)), self.marked(), self.marked(),
            Said(7, ada, TALK, "text", [supply.text(20)]), self.of_groups(), self.of_groups(),
            Said(8, ada, supply.pick(TALKS), supply.pick(("edit", "reaction")), [supply.text(8)], self.ref()),
            ReceiptsChosen(ada, supply.pick((None, True, False)), supply.pick(("", *USERS))),
        )  # fmt: skip
        self.peer.put(supply.pick(inputs))
        if supply.yes(9):
            self.peer.open(supply.pick(WHO))

    def marked(self) -> Input:
        log = LogId(self.supply.pick(TALKS), self.supply.pick(USERS), self.supply.pick(RUNS))
        return MarkedRead(IDS["ada"], log, max(1, self.supply.pick(NUMBERS)), self.supply.below(40))

    def of_groups(self) -> Input:
        supply, ada = self.supply, IDS["ada"]
        group = supply.pick((GROUP, *self.peer.node.groups))
        some: tuple[Input, ...] = (
            GroupMade(9, ada, supply.text(12), (supply.pick(USERS),)), GroupLeaving(10, ada, group),
            GroupChanging(11, ada, group, add=(supply.pick(USERS),)),
            GroupChanging(12, ada, group, remove=(supply.pick(USERS),), name=supply.text(12)),
            GroupChanging(13, ada, group, owner=supply.pick(USERS)),
        )  # fmt: skip
        return supply.pick(some)

    def time(self) -> None:
        self.world.pass_time(self.supply.pick((0.01, 0.2, 1.5, 12.0, 40.0, 320.0)))

    def drop(self) -> None:
        for far in self.live()[:1]:
            if self.supply.yes(2):
                del self.peer.links[far.link]
                self.peer.put(LinkDown(far.link, self.supply.pick(("lost", "closed", "slow", "timeout"))))
            else:
                first: tuple[Input, ...] = (Filled(far.link), Drained(far.link), Paused(far.link, True))
                then: tuple[Input, ...] = (Drained(far.link), Paused(far.link, False))
                self.peer.put(self.supply.pick(first))
                self.peer.put(self.supply.pick(then))

    def storage(self) -> None:
        """Storage is slow, fails, is full, answers what nobody asked any more; or it all ends and begins again."""
        peer = self.peer
        match self.supply.below(8):
            case 0:
                peer.holding = True
            case 1:
                peer.holding = False
                peer.commit()
            case 2:
                peer.hold_lookups = True
            case 3:
                peer.answer_lookups()
            case 4:
                peer.fail()
            case 5:
                peer.put(DiskLow(self.supply.yes(2)))
            case 6:
                peer.crash()
                peer.start()
                self.stopped = False
            case 7:
                peer.put(Found(self.supply.below(50)))
                if self.supply.yes(20):
                    self.stopped = True
                    peer.put(Stop())


class Watched(Peer):
    """A node of which everything that comes out is looked at."""

    def __init__(self, world: World, name: str, supply: Supply) -> None:
        self.sent = 0
        super().__init__(world, name, MemoryStorage(), settings_of(supply))
        world.peers.append(self)

    def put(self, input: Input) -> None:
        begun = perf_counter()
        super().put(input)
        hold(perf_counter() - begun < SLOW, f"one {type(input).__name__} took {perf_counter() - begun:.1f} s")

    def fail(self) -> None:
        """Storage kept nothing of what is on its way, and works again."""
        self.held.clear()
        self.put(CommitFailed(self.node._epoch, "it broke"))
        self.put(Loaded(self.storage.load([self.id])))

    def _dial(self, order: out.Dial) -> None:
        hold(order.endpoint.isprintable(), "a dial to what is no endpoint")

    def _one(self, effect: out.Effect) -> None:
        if isinstance(effect, out.Send):
            self.sent += 1
            fit(effect.frame)
        elif isinstance(effect, out.Close) and effect.bye is not None:
            fit(effect.bye)
        super()._one(effect)

    def _line(self, effect: out.Effect) -> str:
        return ""

    def judge(self, bytes_in: int) -> None:
        """What is kept and shown was signed by its writer; what waits is bounded."""
        shown = self.storage.places(0, 100_000)
        for one in shown:
            log = one.log
            hold(log.user in (IDS[name] for name in ("ada", *WHO)), "a writer whom nobody knows")
        for holding in self.storage.holdings():
            for user in holding.writers:
                self._judge_log(holding.talk.id, user)
        timers = len(self.node._ctx._heap)
        hold(timers < 200 + bytes_in // 10, f"{timers} timers after {bytes_in} bytes")

    def _judge_log(self, talk: str, user: str) -> None:
        batches, more = self.storage.fetch(talk, user, WantStart(()), batches=1000)
        hold(more is None, "more than a thousand batches")
        chains: dict[str, bytes] = {}
        for batch in batches:
            prev = chains.get(batch.log.run, first_chain(batch.log))
            chain = chains[batch.log.run] = extend_chain(prev, batch.raws)
            message = head_message(batch.log, batch.last, chain)
            hold(prev == batch.prev and verify(user, batch.head, message), "kept, and its writer never signed it")


def settings_of(supply: Supply) -> Settings:
    return Settings(**SMALL) if supply.yes(2) else Settings()


def fit(frame: Frame) -> None:
    """What is sent can be encoded, and whoever gets it finds no fault in it."""
    decoder = Decoder(max_frame_bytes=MAX_FRAME_BYTES)
    decoder.feed(encode(frame))
    hold(decoder.fault is None, f"a frame was sent that no one may send: {decoder.fault}")


def run(data: bytes) -> None:
    Play(Supply(data)).run()


def seeds() -> list[bytes]:
    made = [bytes((number * 7 + step * step) % 256 for step in range(1500)) for number in range(12)]
    return [
        *made,
        *(b"hello, this is text" * 4 + bytes((n, 3 * n, 7)) * 300 for n in range(12)),
        *(f[4:] for f in golden_frames()[:6]),
    ]


@cache
def targets() -> tuple[Target, ...]:
    return (Target("node", "a whole node and a member who says anything", run, seeds, WORDS, 3000, 60, 4),)
