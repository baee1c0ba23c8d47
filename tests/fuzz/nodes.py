"""A whole node with arbitrary inputs: frames and batches of members, files, failing storage, time.

An input is a list of steps, each made of known values (ids, runs, chains) and unknown ones. The node always returns
effects: it never raises, its frames are valid, everything it shows was signed by its writer, and its state grows no
faster than its input.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from p2pchat.core.durable_changes import DiskLevel
from p2pchat.core.inputs import (
    DiskLow,
    Faulted,
    Forget,
    Got,
    GroupChangeRequest,
    GroupCreateRequest,
    GroupLeaveRequest,
    ImportRequest,
    Input,
    LinkDown,
    LinkDrained,
    LinkFilled,
    ListeningAt,
    LookupResult,
    MarkedRead,
    MarkedTaken,
    OwnStateSet,
    Paused,
    PeerSighted,
    PresenceSet,
    Stop,
    TypingSet,
    UserRenamed,
    WriteRequest,
)
from p2pchat.core.log import LogId
from p2pchat.protocol import LENGTH, MAX_FRAME_BYTES, Decoder, encode
from p2pchat.settings import Settings
from tests.core.scripted_nodes import IDS, ROOM, Far, World
from tests.fuzz.checked_node import CheckedNode
from tests.fuzz.choices import Supply
from tests.fuzz.frames import WORDS, vector_frames
from tests.fuzz.member_frames import GROUP, RUNS, TALK, TALKS, USERS, WHO, MemberFrames
from tests.fuzz.target import Target

STEPS_AT_MOST = 120
SMALL = {
    "max_batch_entries": 4, "max_batch_bytes": 600, "page_items": 3, "page_marks": 3, "max_tips": 3, "max_older": 2,
    "max_wants": 3, "fetch_batches": 2, "max_hosted_users": 4, "flood_burst": 20, "flood_a_second": 5,
    "max_uncommitted_units": 8, "max_links": 2, "max_addresses": 4,
    "max_unanswered": 2,
}  # fmt: skip
CHOICES = ("receipts", "blocked", "ignored", "contact", "")


class NodeSession:
    """One node (ada) with links to bob and, later, to cyd. The input determines the frames of both."""

    def __init__(self, supply: Supply) -> None:
        self.supply = supply
        self.world = World()
        self.peer = CheckedNode(self.world, "ada", settings_of(supply))
        self.fars: list[Far] = []
        self.sayings = MemberFrames(supply, self.peer, self.live)
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

    # ---- frames of others

    def link(self) -> None:
        taken = {far.name for far in self.live()}
        for name in ("bob", "cyd"):
            if name not in taken and self.peer.up and not self.stopped:
                self.fars.append(self.peer.far(name, compared=not self.supply.yes(3)))
                return

    def live(self) -> list[Far]:
        return [far for far in self.fars if self.peer.links.get(far.link) is far]

    def put(self, data: bytes) -> None:
        """Send these bytes on a link that is up."""
        far = self.supply.pick(self.live() or [Far("bob")])
        if far.link:
            self.bytes_in += len(data)
            decoder = Decoder(self.peer.settings, max_frame_bytes=MAX_FRAME_BYTES)
            self.peer.put(Got(far.link, [*decoder.feed(data)]))
            if decoder.fault is not None:
                self.peer.put(Faulted(far.link, decoder.fault.code, str(decoder.fault)))

    def say(self) -> None:
        frames = [self.sayings.frame() for _ in range(1 + self.supply.often(6))]
        self.put(b"".join(map(encode, frames)))

    def raw(self) -> None:
        payload = self.supply.take(self.supply.below(120))
        self.put(LENGTH.pack(len(payload)) + payload)

    def again(self) -> None:
        """Send earlier frames again, changed or in another order."""
        sayings = self.sayings
        frames = [sayings.bent(self.supply.pick(sayings.made)) for _ in range(self.supply.below(4)) if sayings.made]
        if self.supply.yes(4) and frames:
            self.peer.put(ImportRequest(1, frames))
        else:
            self.put(b"".join(map(encode, frames)))

    def batch(self) -> None:
        self.put(b"".join(encode(self.sayings.signed()) for _ in range(1 + self.supply.often(3))))

    def begin_group(self) -> None:
        self.put(encode(self.sayings.first_of_group()))

    # ---- events of this peer

    def command(self) -> None:
        supply, ada = self.supply, IDS["ada"]
        inputs: tuple[Input, ...] = (
            WriteRequest(5, ada, ROOM, "text", [supply.text(20) for _ in range(1 + supply.often(4))]),
            WriteRequest(
                6, ada, supply.pick(TALKS), "text", [supply.text(20)], self.sayings.ref() if supply.yes(3) else None
            ),
            UserRenamed(ada, "Ada"), PresenceSet(ada, "idle", supply.text(9)),
            ListeningAt(supply.pick(((), ("10.0.0.1:8080",)))), Forget("", supply.text(12)), Forget(IDS["bob"]),
            PeerSighted(IDS["bob"], ("10.0.0.3:9",)), PeerSighted(IDS["dan"]),
            TypingSet(ada, supply.pick((ROOM, *TALKS)), supply.yes(2)), self.marked(), self.marked(),
            WriteRequest(7, ada, TALK, "text", [supply.text(20)]), self.of_groups(), self.of_groups(),
            WriteRequest(
                8, ada, supply.pick(TALKS), supply.pick(("edit", "reaction")), [supply.text(8)], self.sayings.ref()
            ),
            OwnStateSet(9, ada, {f"{supply.pick(CHOICES)}:{supply.pick(USERS)}": supply.pick(("", "on", "off"))}),
        )  # fmt: skip
        self.peer.put(supply.pick(inputs))
        if supply.yes(9):
            self.peer.open(supply.pick(WHO))

    def marked(self) -> Input:
        log = LogId(self.supply.pick(TALKS), self.supply.pick(USERS), self.supply.pick(RUNS))
        if self.supply.yes(3):
            return MarkedTaken(IDS["ada"], log.conversation, self.supply.below(40))
        return MarkedRead(IDS["ada"], log, self.supply.below(40))

    def of_groups(self) -> Input:
        supply, ada = self.supply, IDS["ada"]
        group = supply.pick((GROUP, *self.peer.node.groups))
        some: tuple[Input, ...] = (
            GroupCreateRequest(9, ada, supply.text(12), (supply.pick(USERS),)), GroupLeaveRequest(10, ada, group),
            GroupChangeRequest(11, ada, group, add=(supply.pick(USERS),)),
            GroupChangeRequest(12, ada, group, remove=(supply.pick(USERS),), name=supply.text(12)),
            GroupChangeRequest(13, ada, group, owner=supply.pick(USERS)),
            GroupChangeRequest(14, ada, group, admin=(supply.pick(USERS),), unadmin=(supply.pick(USERS),)),
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
                first: tuple[Input, ...] = (LinkFilled(far.link), LinkDrained(far.link), Paused(far.link, True))
                then: tuple[Input, ...] = (LinkDrained(far.link), Paused(far.link, False))
                self.peer.put(self.supply.pick(first))
                self.peer.put(self.supply.pick(then))

    def storage(self) -> None:
        """Let storage be slow, fail, be full, or send an outdated answer; or restart the node."""
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
                peer.put(DiskLow(DiskLevel.NOTHING if self.supply.yes(2) else DiskLevel.ENOUGH))
            case 6:
                peer.crash()
                peer.start()
                self.stopped = False
            case 7:
                peer.put(LookupResult(self.supply.below(50)))
                if self.supply.yes(20):
                    self.stopped = True
                    peer.put(Stop())


def settings_of(supply: Supply) -> Settings:
    return Settings(**SMALL) if supply.yes(2) else Settings()


def run(data: bytes) -> None:
    NodeSession(Supply(data)).run()


def seeds() -> list[bytes]:
    made = [bytes((number * 7 + step * step) % 256 for step in range(1500)) for number in range(12)]
    return [
        *made,
        *(b"hello, this is text" * 4 + bytes((n, 3 * n, 7)) * 300 for n in range(12)),
        *(f[4:] for f in vector_frames()[:6]),
    ]


@cache
def targets() -> tuple[Target, ...]:
    return (Target("node", "a whole node and a member who says anything", run, seeds, WORDS, 3000, 60, 4),)
