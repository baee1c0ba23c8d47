"""The environment of a simulation: virtual time, local clocks, cached signatures and drawn settings.

Nothing here waits or reads a clock. A Schedule is a heap of callbacks. Equal times run in the order they were added, so
a simulation that draws from one seeded Random replays exactly. A LocalClock is the clock of one machine: it may run a
little fast or slow, and its UTC may jump.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from random import Random

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from p2pchat.core import log
from p2pchat.core.node_context import Now, Timer
from p2pchat.identity.identity import Identity
from p2pchat.settings import KIB, Settings

EPOCH_UTC = 1_750_000_000_000_000  # UTC microseconds at the start of a simulation: a day in June 2025


class Schedule:
    """Future callbacks by virtual time in seconds from 0. `steps` counts those that ran."""

    def __init__(self) -> None:
        self.now: float = 0.0
        self.steps: int = 0
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0

    def at(self, when: float, call: Callable[[], None]) -> Timer:
        """Call at this time, or now if it has passed."""
        timer = Timer(max(when, self.now), call)
        self._count += 1
        heapq.heappush(self._heap, (timer.at, self._count, timer))
        return timer

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        return self.at(self.now + seconds, call)

    def run_until(self, when: float) -> None:
        """Run every callback due up to this time, including those that they add."""
        while self._heap and self._heap[0][0] <= when:
            at, _, timer = heapq.heappop(self._heap)
            call, timer.call = timer.call, None
            if call is not None:
                self.now = at
                self.steps += 1
                call()
        self.now = max(self.now, when)


class LocalClock:
    """The clocks of one machine.

    Attributes:
        rate: Local seconds per true second. 1.001 gains 86 seconds a day.
        ahead: Seconds by which UTC is ahead of the true time. Setting it makes the clock jump.
    """

    def __init__(self, schedule: Schedule, rate: float = 1.0, ahead: float = 0.0) -> None:
        self._schedule = schedule
        self.rate = rate
        self.ahead = ahead

    def now(self) -> Now:
        """Return the present moment by this machine's clocks."""
        local = self._schedule.now * self.rate
        return Now(local, EPOCH_UTC + round((local + self.ahead) * 1_000_000))

    def true_time(self, mono: float) -> float:
        """Return the true time at which this machine's monotonic clock shows `mono`, never earlier."""
        when = mono / self.rate
        while when * self.rate < mono:
            when += 1e-9
        return when


# ---- signatures
#
# Each signature of a history is made and checked once. Checking it at every peer would take a tenth of the run. The
# validity of a signature never changes, so results are cached, and signatures made by this process are valid. The
# library checks all others, forged ones included.

_known: dict[tuple[bytes, bytes, bytes], bool] | None = None  # (key, message, signature) -> True if valid


class _CachingKey:
    """A public key with the interface that the core uses, and a cache of answers."""

    def __init__(self, public: bytes) -> None:
        self._public = public

    @classmethod
    def from_public_bytes(cls, public: bytes) -> _CachingKey:
        return cls(public)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Check a signature. Raises InvalidSignature if it is not valid."""
        asked = (self._public, message, signature)
        if _known is None or (answer := _known.get(asked)) is None:
            answer = _is_signed(*asked)
            if _known is not None:
                _known[asked] = answer
        if not answer:
            raise InvalidSignature


def _is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@contextmanager
def cached_signatures() -> Iterator[None]:
    """Cache the results of signature checks in this process while the block runs."""
    global _known
    _known = {}
    vars(log)["Ed25519PublicKey"] = _CachingKey
    try:
        yield
    finally:
        _known = None
        vars(log)["Ed25519PublicKey"] = Ed25519PublicKey


def signer(identity: Identity) -> Callable[[bytes], bytes]:
    """Return a function that signs for an identity and caches that its signatures are valid."""
    public = bytes.fromhex(identity.peer_id)

    def sign(message: bytes) -> bytes:
        signature = identity.sign(message)
        if _known is not None:
            _known[public, message, signature] = True
        return signature

    return sign


# ---- settings
#
# Small limits, so that a few messages reach every limit and a history is short. Each history draws its own settings, so
# that no rule holds only by a coincidence of two numbers. Harsh settings make limits take effect. A peer that is
# permanently refused something cannot reach the state of the others, so then only safety is checked.

SMALL = Settings(
    max_batch_entries=4, page_items=3, page_marks=3, fetch_batches=2, max_endpoints_a_peer=3, buffer_limit_bytes=KIB,
    redial_most=5.0, redial_never_reached_most=10.0, want_progress_timeout=3.0, order_wait=8.0, order_wait_most=40.0,
    recent_places=8, busy_pause=1.0,
    told_host_pause=2.0, told_rest=20.0, log_bytes=100, entry_bytes=5,
)  # fmt: skip


QUOTA_BATCH = 2 * KIB  # bytes of a batch with small quotas: a long text of a history fits


def draw_settings(chance: Random, *, harsh: bool) -> Settings:
    """Return the settings of one history."""
    pick = chance.choice
    drawn = replace(
        SMALL,
        max_batch_entries=pick((2, 3, 4, 4, 9)),
        max_batch_bytes=pick((2 * KIB, SMALL.max_batch_bytes)),
        page_items=pick((1, 3, 3, 50)),
        page_marks=pick((1, 2, 3, 3, 50)),
        fetch_batches=pick((1, 2, 2, 5)),
        max_wants=pick((1, 2, 64)),
        max_before=pick((2, 8, 8)),
        max_older=pick((2, 24)),
        max_endpoints_a_peer=pick((2, 3, 8)),
        buffer_limit_bytes=pick((256, KIB, KIB, 16 * KIB)),
        recent_places=pick((3, 8, 1000)),
        redial_most=pick((2.0, 5.0)),
        redial_never_reached_most=pick((5.0, 10.0)),
        told_dial_after=pick((0.2, 1.0)),
        want_progress_timeout=pick((2.0, 3.0, 5.0)),
        want_after=pick((0.3, 1.0)),
        gossip_within=pick((0.3, 1.0)),
        order_wait=pick((2.0, 4.0, 8.0)),
        consumer_saved_after=pick((0.1, 1.0, 5.0)),
        left_grace=pick((1.0, 2.0)),
        dead_after=pick((20.0, 30.0)),
        stuck_after=pick((10.0, 30.0)),
        clone_patience=pick((10.0, 30.0)),
        superseded_runs=pick((1, 8)),
        flood_a_second=pick((20, 100)),
        flood_burst=pick((30, 500)),
        typing_expires=pick((4.0, 6.0)),
    )
    # A page of read marks names up to page_items conversations, and a frame at most two for each of page_marks.
    drawn = replace(drawn, page_items=min(drawn.page_items, 2 * drawn.page_marks))
    return _harsh(drawn, chance) if harsh else drawn


def with_quota(drawn: Settings, chance: Random) -> Settings:
    """Return the settings with a quota of a few batches for each member."""
    quota = chance.choice((2, 2, 3, 4)) * QUOTA_BATCH
    return replace(drawn, max_batch_bytes=QUOTA_BATCH, contact_bytes=quota, member_bytes=quota)


def with_few_places(drawn: Settings, chance: Random) -> Settings:
    """Return the settings with a few places for conversations of unknown users, and little room for their entries."""
    return replace(
        drawn,
        max_unanswered=chance.choice((0, 1, 1, 2)),
        max_unanswered_groups=chance.choice((0, 1, 3)),
        member_bytes=min(drawn.member_bytes, chance.choice((2_000, 10_000, drawn.member_bytes))),
        others_bytes=chance.choice((5_000, 20_000, drawn.others_bytes)),
        user_least_bytes=chance.choice((500, 2_000, drawn.user_least_bytes)),
    )


def with_few_links(drawn: Settings, peers: int, chance: Random) -> Settings:
    """Return the settings with places for so many honest peers and three others, and one more for a contact.

    There are few places for what the others make up, too.
    """
    pause = chance.choice((0.5, 3.0))
    return replace(
        drawn, max_links=peers + 4, known_links=1, busy_pause=pause,
        max_unanswered=2, max_unanswered_groups=2, max_addresses=64,
    )  # fmt: skip


def with_short_turns(drawn: Settings, chance: Random) -> Settings:
    """Return the settings with turns of a few frames."""
    return replace(
        drawn,
        turn_units=chance.choice((8, 16, 512)),
        max_uncommitted_units=chance.choice((8, 32, 2048)),
        events_a_second=chance.choice((1, 20)),
    )


def with_files(drawn: Settings, chance: Random) -> Settings:
    """Return the settings with which some of the files come by themselves."""
    return replace(drawn, auto_fetch_bytes=chance.choice((0, 300_000, 1 << 20, drawn.auto_fetch_bytes)))


def _harsh(drawn: Settings, chance: Random) -> Settings:
    pick = chance.choice
    return replace(
        drawn,
        max_tips=pick((1, 1, 1, 2)),
        max_links=pick((1, 2, 3, 256)),
        want_after=pick((0.1, 0.3, 0.3, 1.0)),
        handshake_timeout=pick((0.5, 10.0)),
        go_timeout=pick((0.5, 10.0)),
    )
