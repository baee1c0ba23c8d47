"""One connection, dialled or accepted, and what the machines that know who is there remember of it.

It goes PROVING -> (WAITING at the end that does not decide) -> UP -> GONE, or to GONE from anywhere. links.py alone
moves it; liveness.py, peer_exchange.py and dialer.py keep their facts of it here, so that all of them die with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

from p2pchat.core.context import Timer
from p2pchat.core.keyset import KeySet
from p2pchat.core.mesh.handshake import ClientSide, ServerSide
from p2pchat.protocol import Bye, PeerId, RunId


class Phase(Enum):
    """Where a connection stands."""

    PROVING = auto()  # the handshake's frames are under way
    WAITING = auto()  # both proved; the deciding peer's `go` is to come
    UP = auto()
    GONE = auto()


@dataclass(slots=True, eq=False, repr=False)
class Link:
    """One connection.

    Attributes:
        id: The owner's number for it.
        host: The address of the other end as the owner sees it.
        endpoint: What was dialled, "" when accepted.
        dial: The number of our dial, 0 when accepted.
        peer: Who is there; "" until proved.
        full: Its unsent bytes passed the buffer limit (Filled, not yet Drained).
        linked: The peers that the other end told it is linked with.
        begun: The how-manieth connection of this process it is.
        run, n: Of the `go` that brought it up.
        up_at: When it came up, monotonic seconds.
    """

    id: int
    host: str
    handshake: ServerSide | ClientSide
    endpoint: str = ""
    dial: int = 0
    begun: int = 0
    phase: Phase = Phase.PROVING
    peer: PeerId = ""
    full: bool = False
    linked: KeySet[PeerId] = field(default_factory=dict)
    run: RunId = ""
    n: int = 0
    up_at: float = 0.0
    timer: Timer | None = None  # proving.py: the next step must be done by then
    # liveness.py
    reads: bool = True  # False while Paused
    heard_at: float = 0.0
    tokens: float = 0.0
    filled_at: float = 0.0  # when `tokens` was last brought up to date
    look_at: float = 0.0  # when its silence is to be measured next
    # peer_exchange.py
    told: int = 0  # the last change of the roster that this link was told of
    told_self: tuple[int, tuple[str, ...]] | None = None  # (port, at) as told on this link

    @property
    def dialled(self) -> bool:
        return self.dial != 0

    @property
    def up(self) -> bool:
        return self.phase is Phase.UP

    @property
    def gone(self) -> bool:
        return self.phase is Phase.GONE

    def __repr__(self) -> str:
        return f"Link({self.id} {self.phase.name.lower()} {self.peer[:8] or '?'})"


class LinkListener(Protocol):
    """What links tell their node. Reasons of link_down: left, lost, timeout, replaced (a newer link to that peer is up:
    no departure)."""

    def link_up(self, link: Link) -> None:
        """`go` was sent or taken; frames may be sent. The link is in `by_peer` already."""

    def link_down(self, link: Link, reason: str) -> None:
        """An up link is gone; it is in neither `up` nor `by_peer` any more."""

    def name_of(self, peer: PeerId) -> str:
        """Return what people call a peer's own user; "" when nobody named it."""

    def network_found(self, n: str) -> None:
        """An open network's id was learned; the Network object has it. Comes before the link_up it came with."""


REFUSALS = {
    "version": "it speaks another version of p2pchat: update the older of the two",
    "network": "it belongs to another network: join that with its invite, or check yours",
    "identity": "it does not take this peer's identity, or is not who it should be",
    "self": "that is this peer itself",
    "busy": "it has as many links as it takes; trying on",
}

NOT_THE_ONE_KNOWN = "another peer answers there than the one known at this address: nothing was sent to it"


def farewell(bye: Bye) -> str:
    """Return for people why a peer said goodbye; what it wrote itself is quoted as ASCII."""
    if bye.code in REFUSALS:
        return REFUSALS[bye.code]
    if bye.code == "left":
        return "it is leaving"
    text = f": {quoted(bye.text)}" if bye.text else ""
    return f"it ended the connection ({quoted(bye.code)}{text})"


def quoted(remote: str) -> str:
    """Return what another peer wrote, safe to show in a diagnostic."""
    return ascii(remote)[1:-1][:200]
