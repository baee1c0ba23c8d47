"""The context of one node, which all its machines share: the present moment, effects, timers, hosted identities.

The node sets `now` and begins `out` anew, which `emit` adds to, at the start of every input; a machine keeps none.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from p2pchat.core.durable_changes import Change, Record
from p2pchat.core.effects import ContentOrder, Counted, Effect, Send, WarningIssued
from p2pchat.core.own_state import OwnState
from p2pchat.core.work_limits import WorkLimits, rates_of
from p2pchat.protocol import Cert, ConversationId, Frame, GuestCertificate, PeerId, UserId, user_start
from p2pchat.settings import Settings

LAZY_COMMIT_EVERY = 5.0  # seconds between commits of what is heard again; a guess


class Now(Record):
    """The present moment: monotonic seconds for waiting, UTC microseconds for stamps."""

    mono: float
    utc: int


class NodeContext:
    """The state that all machines of one node share.

    Attributes:
        me: The peer.
        user: Its own user.
        work: What each party was charged for lately.
        own: What hosted users chose.
    """

    def __init__(
        self, settings: Settings, me: PeerId, draw: Callable[[int], bytes], user: UserId | None = None
    ) -> None:
        self.settings = settings
        self.me = me
        self.user: UserId = user or me
        self.draw = draw
        self.now: Now = Now(0.0, 0)
        self.out: list[Effect] = []
        self.emit: Callable[[Effect], None] = self.out.append
        self.change: Change = Change()  # what this step makes durable; the node commits it when it is not empty
        self.orders: list[ContentOrder] = []  # of this step, for the store of content
        self.owes: bool = False  # something is sent, asked or ended at the end of this step
        self.timers: Timers = Timers()
        self.work: WorkLimits = WorkLimits(rates_of(settings), lambda: self.now.mono)
        self._ticket = 0
        self.own: OwnState = OwnState({})
        self.choices: dict[str, str] = {}  # lines of meta about what people chose in this run

    def choose(self, name: str, line: str) -> None:
        """Store in meta what a person chose. It outlives a commit that fails: nobody would choose it again."""
        self.change.meta[name] = self.choices[name] = line

    def order(self, order: ContentOrder) -> None:
        """Have the store of content do something after this step."""
        self.orders.append(order)
        self.owes = True

    def send(self, frame: Frame, links: list[int]) -> None:
        """Send a frame on links."""
        self.emit(Send(frame, links))

    def count(self, what: str) -> None:
        """Count that something happened."""
        self.emit(Counted(what))

    def warn_at_times(self, warning: WarningIssued, kind: str = "") -> bool:
        """Give a warning that others may cause at will, unless many of its kind were given. Return whether it was.

        Args:
            kind: Kinds of one code have numbers of their own.
        """
        is_given = self.work.take("warnings", warning.code + kind)
        if is_given:
            self.emit(warning)
        return is_given

    def next_ticket(self) -> int:
        """Return a number that no earlier effect of this node had."""
        self._ticket += 1
        return self._ticket

    def random(self) -> float:
        """Return a number drawn evenly from [0, 1)."""
        return int.from_bytes(self.draw(6), "big") / 2**48

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call `call` once, so many seconds from now."""
        return self.timers.at(self.now.mono + seconds, call)

    def run_due(self) -> None:
        """Call every timer that is due, in order of time."""
        self.timers.run_due(self.now.mono)


# ---- hosted users and network


@dataclass(slots=True)
class HostedIdentity:
    """A user hosted by this peer. `cert` is None when the user's key is the peer's own.

    `guest` is the certificate of the member that answers for the user; None when the user is a member itself.
    `is_kept`: its key outlives this run, so that others can write to it later and are to know its name.
    """

    id: UserId
    name: str
    sign: Callable[[bytes], bytes] = field(repr=False)
    cert: Cert | None = None
    guest: GuestCertificate | None = None
    about: str = field(default="", repr=False)  # what the user says about itself, "" for nothing
    status: str = "online"  # initial status
    is_kept: bool = False


class HostedIdentities(dict[UserId, HostedIdentity]):
    """The users hosted by this peer, by id. Every machine reads it; only the node changes it."""

    def __init__(self, users: Iterable[HostedIdentity]) -> None:
        super().__init__()
        self.by_prefix: dict[str, UserId] = {}  # as references name them
        for user in users:
            self.add(user)

    def add(self, user: HostedIdentity) -> None:
        self[user.id], self.by_prefix[user_start(user.id)] = user, user.id

    def remove(self, user: UserId) -> None:
        del self[user], self.by_prefix[user_start(user)]


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invite that this peer joins with.

    Attributes:
        maker: The peer that made it.
        id, uses, until: Its terms; `until` in UTC seconds.
        secret: What its holder and its maker know, 16 bytes.
    """

    maker: PeerId
    id: str
    uses: int
    until: int
    secret: bytes = field(repr=False)


@dataclass(slots=True)
class NetworkCredentials:
    """The id and key of a peer's network, and who answers for the users here.

    Attributes:
        id: N, hex16.
        key: K, hex32.
        founder: F, hex32; "" where it is not known yet.
        is_named: It is made from a word, so whoever knows that is a member, and statements count nothing.
        member: The member that answers for the users here; "" where nobody does.
        sign: Signs with the key of that member; None where it is elsewhere.
        invites_key: The secret from which this peer makes those of its invites; b"" for none.
        invitation: The invite that this peer joins with, until it is a member.
        room: The id of the room, where N is not known; "" for that of N.
    """

    id: str
    key: str = field(repr=False)
    founder: UserId = ""
    is_named: bool = False
    member: UserId = ""
    sign: Callable[[bytes], bytes] | None = field(default=None, repr=False)
    invites_key: bytes = field(default=b"", repr=False)
    invitation: Invitation | None = None
    room: ConversationId = ""


# ---- small sets
#
# A node has thousands of sets, nearly all of them empty or small. A dictionary without values is smaller than a `set`,
# and Python's garbage collector tracks neither an empty one nor one of strings; it tracks every `set`. A node keeps
# about a dozen such sets for each link.


K = TypeVar("K")

KeySet: TypeAlias = dict[K, None]


# ---- timers
#
# Callbacks by deadline. Cancelled ones are thrown away before they are due. Nothing here reads a clock: the moment is
# an argument. The outside knows only the earliest deadline (effect WakeAt).

SLACK = 0.001  # seconds: deadlines are sums of floats
MIN_SWEEP = 64  # deadlines; sweeping fewer is not worth it
DUE_AT_ONCE = 128  # in one step, so that none is long: some 4 ms of entries that waited; a guess


class Timer:
    """One deadline; `cancel` makes it never fire."""

    __slots__ = ("at", "call")

    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at: float = at
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Timers:
    """The timers of one node, by monotonic time.

    Attributes:
        has_new: The earliest deadline may be another one than wake_at() returned last.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0
        self._sweep_at = MIN_SWEEP
        self._wake_at: float | None = None
        self.has_new: bool = False

    def at(self, deadline: float, call: Callable[[], None]) -> Timer:
        """Call `call` once, when this moment has come."""
        if len(self._heap) >= self._sweep_at:
            self._sweep()
        timer = Timer(deadline, call)
        self.has_new = True
        self._count += 1
        heapq.heappush(self._heap, (deadline, self._count, timer))
        return timer

    def _sweep(self) -> None:
        """Drop cancelled timers. Most timers are cancelled long before their deadline."""
        self._heap = [due for due in self._heap if due[2].call is not None]
        heapq.heapify(self._heap)
        self._sweep_at = max(MIN_SWEEP, 2 * len(self._heap))

    def run_due(self, now: float) -> None:
        """Call timers that are due, in order of time: a part of them if they are many, and then wake_at() is past."""
        self._wake_at, self.has_new = None, True
        for _ in range(DUE_AT_ONCE):
            if not self._heap or self._heap[0][0] > now:
                break
            timer = heapq.heappop(self._heap)[2]
            call, timer.call = timer.call, None
            if call is not None:
                call()

    def wake_at(self) -> float | None:
        """Return the earliest deadline if it is earlier than the last one returned, else None."""
        self.has_new = False
        while self._heap and self._heap[0][2].call is None:
            heapq.heappop(self._heap)
        if self._heap and (self._wake_at is None or self._heap[0][0] < self._wake_at):
            self._wake_at = self._heap[0][0]
            return self._wake_at
        return None
