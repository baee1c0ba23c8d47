"""Virtual time: what happens next, and when. Plain calls; nothing here waits or reads a clock.

A Schedule is a heap of callbacks. Equal times run in the order they were put in, so a simulation that draws all
its chance from one seeded Random replays exactly. A LocalClock is what one machine believes the time to be: it
may run a little fast or slow, and its UTC may jump.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from random import Random

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from p2pchat.config import KIB, Settings
from p2pchat.core import log
from p2pchat.core.context import Now, Timer
from p2pchat.identity.keys import Identity

EPOCH_UTC = 1_750_000_000_000_000  # UTC microseconds when a simulation begins: some day in June 2025


class Schedule:
    """What is to come, by virtual time in seconds from 0. `steps` counts what has happened."""

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0

    def at(self, when: float, call: Callable[[], None]) -> Timer:
        """Call at this time, or now when it has passed."""
        timer = Timer(max(when, self.now), call)
        self._count += 1
        heapq.heappush(self._heap, (timer.at, self._count, timer))
        return timer

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        return self.at(self.now + seconds, call)

    def run_until(self, when: float) -> None:
        """Let everything happen that is due up to this time; what that leads to as well."""
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
        rate: Local seconds in a true second: 1.001 gains 86 seconds a day.
        ahead: How far UTC is ahead of the truth, in seconds; set it to make the clock jump.
    """

    def __init__(self, schedule: Schedule, rate: float = 1.0, ahead: float = 0.0) -> None:
        self._schedule = schedule
        self.rate = rate
        self.ahead = ahead

    def now(self) -> Now:
        """Return what this machine reads off its clocks."""
        local = self._schedule.now * self.rate
        return Now(local, EPOCH_UTC + round((local + self.ahead) * 1_000_000))

    def true_time(self, mono: float) -> float:
        """Return when the monotonic clock of this machine will show `mono`; never a hair early."""
        when = mono / self.rate
        while when * self.rate < mono:
            when += 1e-9
        return when


# ---- signatures
#
# Each signature of a history is made and checked once: what the cryptography takes would be a tenth of the whole run.
#
# Whether a signature is a key's over some bytes never changes, so what was answered once may be remembered, and what
# this process signed itself need not be checked. Everything else goes to the real library: what a liar forged, too.


_known: dict[tuple[bytes, bytes, bytes], bool] | None = None  # (key, message, signature) -> whether it is one


class _RememberingKey:
    """A public key as the core uses it."""

    def __init__(self, public: bytes) -> None:
        self._public = public

    @classmethod
    def from_public_bytes(cls, public: bytes) -> _RememberingKey:
        return cls(public)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return when it is this key's; raise InvalidSignature or ValueError when it is not."""
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
def remembered() -> Iterator[None]:
    """Remember signatures, in this process, for so long."""
    global _known
    _known = {}
    vars(log)["Ed25519PublicKey"] = _RememberingKey
    try:
        yield
    finally:
        _known = None
        vars(log)["Ed25519PublicKey"] = Ed25519PublicKey


def signer(identity: Identity) -> Callable[[bytes], bytes]:
    """Return what signs for an identity; what it signs is known to be its own."""
    public = bytes.fromhex(identity.peer_id)

    def sign(message: bytes) -> bytes:
        signature = identity.sign(message)
        if _known is not None:
            _known[public, message, signature] = True
        return signature

    return sign


# ---- small
#
# Settings for simulations: small, so that a few messages cross every boundary and a history is short.
#
# Each history draws its own, so that no rule holds only because two numbers fit each other. Harsh ones let limits bite:
# who is refused something for good cannot end with all others alike, so only what must never happen is judged then.


SMALL = Settings(
    max_batch_entries=4, page_items=3, page_marks=3, fetch_batches=2, max_endpoints_a_peer=3, buffer_limit_bytes=KIB,
    redial_most=5.0, redial_never_reached_most=10.0, want_progress_timeout=3.0, order_wait=8.0, order_wait_most=40.0,
    recent_places=8,
)  # fmt: skip


QUOTA_BATCH = 2 * KIB  # bytes of a batch where quotas are small: a long text of a history fits


def draw_settings(chance: Random, *, harsh: bool) -> Settings:
    """Return settings of one history."""
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
        told_failures_before_slow=pick((1, 16)),
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
        wrong_head_ban=pick((20.0, 3600.0)),
    )
    return _harsh(drawn, chance) if harsh else drawn


def with_quota(drawn: Settings, chance: Random) -> Settings:
    """Return the same settings with little room for what each user writes: two batches or a few more."""
    quota = chance.choice((2, 2, 3, 4)) * QUOTA_BATCH
    return replace(drawn, max_batch_bytes=QUOTA_BATCH, user_quota_bytes=quota)


def _harsh(drawn: Settings, chance: Random) -> Settings:
    pick = chance.choice
    return replace(
        drawn,
        max_tips=pick((1, 1, 1, 2)),
        max_links=pick((1, 2, 3, 256)),
        max_conversations_a_user=pick((1, 1, 2, 10_000)),
        handshake_timeout=pick((0.5, 10.0)),
        go_timeout=pick((0.5, 10.0)),
    )
