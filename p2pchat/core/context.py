"""What the machines of one node share: settings, the present moment, timers, and the list effects go to.

The node sets `now` and empties `out` at the start of every input; a machine never keeps either. Timers are a heap
of callbacks; the one deadline the outside knows of is the earliest (effect WakeAt).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias, TypeVar

from p2pchat.config import Settings
from p2pchat.core.effects import Effect, WakeAt
from p2pchat.core.records import Change
from p2pchat.protocol import Cert, PeerId, UserId

MIN_SWEEP = 64  # deadlines; fewer are not worth a look


class Now(NamedTuple):
    """The present moment: monotonic seconds for waiting, UTC microseconds for stamps."""

    mono: float
    utc: int


class Timer:
    """One deadline; `cancel` makes it never fire."""

    __slots__ = ("at", "call")

    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at = at
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Context:
    """Shared by the machines of one node."""

    def __init__(self, settings: Settings, me: PeerId, draw: Callable[[int], bytes]) -> None:
        self.settings = settings
        self.me = me
        self.draw = draw
        self.now = Now(0.0, 0)
        self.out: list[Effect] = []
        self.change = Change()  # what this step wants durable; the node commits it when it is not empty
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0
        self._sweep_at = MIN_SWEEP
        self._wake_at: float | None = None
        self._ticket = 0

    def emit(self, effect: Effect) -> None:
        self.out.append(effect)

    def next_ticket(self) -> int:
        """Return a number no effect of this node had before."""
        self._ticket += 1
        return self._ticket

    def random(self) -> float:
        """Return a number drawn evenly from [0, 1)."""
        return int.from_bytes(self.draw(6), "big") / 2**48

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call back once, this long from now."""
        if len(self._heap) >= self._sweep_at:
            self._sweep()
        timer = Timer(self.now.mono + seconds, call)
        self._count += 1
        heapq.heappush(self._heap, (timer.at, self._count, timer))
        return timer

    def _sweep(self) -> None:
        """Forget what was cancelled; most deadlines are, long before their time."""
        self._heap = [due for due in self._heap if due[2].call is not None]
        heapq.heapify(self._heap)
        self._sweep_at = max(MIN_SWEEP, 2 * len(self._heap))

    def run_due(self) -> None:
        """Call everything whose time has come, in order of time."""
        self._wake_at = None
        while self._heap and self._heap[0][0] <= self.now.mono:
            timer = heapq.heappop(self._heap)[2]
            call, timer.call = timer.call, None
            if call is not None:
                call()

    def emit_wake(self) -> None:
        """Emit WakeAt when the earliest deadline is another than the one last told."""
        while self._heap and self._heap[0][2].call is None:
            heapq.heappop(self._heap)
        if self._heap and (self._wake_at is None or self._heap[0][0] < self._wake_at):
            self._wake_at = self._heap[0][0]
            self.out.append(WakeAt(self._wake_at))


# ---- hosted
#
# Who lives on this node and which network it belongs to: the two things a node is born with.


@dataclass(slots=True)
class HostedIdentity:
    """A user this peer speaks for. `cert` is None when the user's key is the peer's own."""

    id: UserId
    name: str
    sign: Callable[[bytes], bytes] = field(repr=False)
    cert: Cert | None = None
    about: str = field(default="", repr=False)  # what the user tells of itself, "" for nothing
    status: str = "online"  # as it begins


class HostedIdentities(dict[UserId, HostedIdentity]):
    """The users this peer speaks for, by id; read by everybody in the core, changed by the node alone."""

    def __init__(self, users: Iterable[HostedIdentity]) -> None:
        super().__init__((user.id, user) for user in users)
        self._by_prefix: dict[str, list[UserId]] = {}
        for id in self:
            self._by_prefix.setdefault(id[:16], []).append(id)

    def add(self, user: HostedIdentity) -> None:
        """Speak for one more."""
        if user.id not in self:
            self._by_prefix.setdefault(user.id[:16], []).append(user.id)
        self[user.id] = user

    def remove(self, user: UserId) -> None:
        """Speak for one less."""
        if self.pop(user, None) is not None:
            self._by_prefix[user[:16]].remove(user)
            if not self._by_prefix[user[:16]]:
                del self._by_prefix[user[:16]]

    def with_prefix(self, start: str) -> Sequence[UserId]:
        """Return those whose id begins with these 16 digits: nobody, or one."""
        return self._by_prefix.get(start, ())


@dataclass(slots=True)
class NetworkCredentials:
    """The network of a peer.

    Attributes:
        id: N, hex16; "" in an open network whose id is not known yet: the first peer met tells it.
        key: K, hex32; None in an open network, which whoever can connect is a member of.
    """

    id: str
    key: str | None = field(default=None, repr=False)


# ---- keyset
#
# Sets of which a node has thousands, nearly all of them empty or small.
#
# As a dictionary without values such a set is nothing that Python's search for garbage looks at: an empty one never,
# and one of strings neither. Every `set` is, and for the far end of a link a node keeps a dozen. It is smaller, too.


K = TypeVar("K")

KeySet: TypeAlias = dict[K, None]
