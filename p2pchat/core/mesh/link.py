"""One connection, dialled or accepted, and what the machines that know who is there remember of it.

It goes PROVING -> (WAITING at the end that does not decide) -> UP -> GONE, or to GONE from anywhere. links.py alone
moves it; link.py, peer_exchange.py and dialer.py keep their facts of it here, so that all of them die with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple, Protocol

from p2pchat.core.context import Context, KeySet, Timer
from p2pchat.core.effects import Counted, PauseReading, Send
from p2pchat.core.mesh.handshake import ClientSide, ServerSide
from p2pchat.protocol import Bye, Entries, Frame, Have, PeerId, Ping, RunId, Unknown


class Phase(Enum):
    """Where a connection stands."""

    PROVING = auto()  # the handshake's frames are under way
    WAITING = auto()  # both proved; the deciding peer's `go` is to come
    UP = auto()
    GONE = auto()


@dataclass(slots=True, eq=False, repr=False)
class PeerLink:
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
    timer: Timer | None = None  # links.py: the next step must be done by then
    # link.py
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
        return f"PeerLink({self.id} {self.phase.name.lower()} {self.peer[:8] or '?'})"


class LinkListener(Protocol):
    """What links tell their node. Reasons of link_down: left, lost, timeout, replaced (a newer link to that peer is up:
    no departure)."""

    def link_up(self, link: PeerLink) -> None:
        """`go` was sent or taken; frames may be sent. The link is in `by_peer` already."""

    def link_down(self, link: PeerLink, reason: str) -> None:
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


# ---- election
#
# Which of several links between two peers stays: one decider, pure functions, and nothing else.
#
# D is the peer with the smaller id, F the other. At D a link is current from the moment its handshake is done; D
# numbers its links to F and says `go{run, n}` on each. F takes the go with the larger n of one run, and of two runs the
# newer. Both ends close what they replace.
#
# Which run is newer F sees from its own links: D's process made the connection and answered on it, so it was alive when
# the link began here; and a process lives once. A go of another run on a link that began earlier is of an older
# process, however late it comes. (Without that, a go that was long under way makes a fresh F take the dead run for the
# new one, and refuse the living one's redials as superseded until the dead link is noticed: the model found it.)
#
# Rules that need no decider fail: "keep the one the lower id dialled" lets a dead link block every redial after a
# half-open failure, and "newest wins at both ends" can close both, again and again. tests/core/test_go_model.py walks
# every state of two peers with these very functions, and with those two rules to see them fail.


def is_decider(me: PeerId, other: PeerId) -> bool:
    """Whether `me` is D of this pair."""
    return me < other


class DeciderState(NamedTuple):
    """What D knows of its links to one F: how many it numbered in this run, and the current one, None for none."""

    n: int = 0
    link: int | None = None


class FollowerState(NamedTuple):
    """What F knows of its links to one D: the current one, None for none, and the runs it has seen."""

    link: int | None = None
    run: RunId = ""  # of the last go taken, "" before the first
    n: int = 0
    begun: int = 0  # when the newest link of that run began: a number that rises with each link
    superseded: tuple[RunId, ...] = ()  # runs another one took the place of, newest last


class GoVerdict(NamedTuple):
    """F's answer to a go: what it knows now, the link to close (this one, the former, or None), and why."""

    standing: FollowerState
    closes: int | None
    returned: bool = False  # a superseded run is alive: two processes with one key


def decider_link_proved(decided: DeciderState, link: int) -> DeciderState:
    """D: this link's handshake is done. It is current now, with the next number; the former is to be closed."""
    return DeciderState(decided.n + 1, link)


def follower_take_go(
    standing: FollowerState, link: int, begun: int, run: RunId, n: int, remembered: int = 8
) -> GoVerdict:
    """F: a go came on `link`, which was the `begun`-th to begin. `remembered` is how many superseded runs are kept."""
    if standing.run not in ("", run) and begun < standing.begun:
        return GoVerdict(standing, link)
    returned = run in standing.superseded
    if standing.link is not None and (returned or (standing.run == run and standing.n > n)):
        return GoVerdict(standing, link, returned)
    superseded = tuple(former for former in standing.superseded if former != run)
    if standing.run not in ("", run):
        superseded = (*superseded, standing.run)[-remembered:]
    return GoVerdict(FollowerState(link, run, n, max(begun, standing.begun), superseded), standing.link, returned)


def follower_link_down(known: FollowerState, link: int) -> FollowerState:
    """F: this link is gone. What was current stays so unless it was this one."""
    return known._replace(link=None) if known.link == link else known


def decider_link_down(known: DeciderState, link: int) -> DeciderState:
    """D: this link is gone."""
    return known._replace(link=None) if known.link == link else known


# ---- liveness
#
# Whether the other end is still there, and whether it says too much.
#
# Any byte is a sign of life. After ten seconds of silence a ping asks for one, after thirty the link is dead. While
# this side does not read, silence means nothing: then it pings every ten seconds, so that the other end does not give
# up. Links are looked at on whole seconds of the clock, by the smaller id of two on the one before the time and by the
# other on the one after: so one of them pings, and a peer with many idle links wakes once a second and not for each of
# them, together with the others on its machine.
#
# Frames other than entries and have (which storage paces) are counted in a token bucket; above it reading pauses.


EARLY = 0.1  # of the time to a ping: so much sooner it may come
_SLACK = 0.001  # seconds: deadlines are sums of floats


class Keepalive:
    """Watches the links that are up; `dead` is called for one that has been silent for too long."""

    def __init__(self, ctx: Context, up: Mapping[int, PeerLink], dead: Callable[[PeerLink], None]) -> None:
        self._ctx = ctx
        self._up = up
        self._dead = dead
        self._timer: Timer | None = None  # for the link that is to be looked at first

    def watch(self, link: PeerLink) -> None:
        """Begin; the link has just come up."""
        now, settings = self._ctx.now.mono, self._ctx.settings
        link.heard_at = link.filled_at = now
        link.tokens = float(settings.flood_burst)
        self._look_by(link, now + settings.ping_after)
        self._wake()

    def paused(self, link: PeerLink, on: bool) -> None:
        """Reading stopped or goes on; the clock of silence begins anew then."""
        link.reads = not on
        link.heard_at = self._ctx.now.mono

    def charge(self, link: PeerLink, frames: Sequence[Frame | Unknown]) -> None:
        """Count what came; when it is too much, order a pause after which the average is within the limit again."""
        charged = sum(not isinstance(frame, (Entries, Have)) for frame in frames)
        if not charged:
            return
        settings, now = self._ctx.settings, self._ctx.now.mono
        earned = (now - link.filled_at) * settings.flood_a_second
        link.tokens = min(link.tokens + earned, float(settings.flood_burst)) - charged
        link.filled_at = now
        if link.tokens < 0:
            self._ctx.emit(Counted("flood"))
            self._ctx.emit(PauseReading(link.id, -link.tokens / settings.flood_a_second))

    def _look_by(self, link: PeerLink, due: float) -> None:
        step = EARLY * self._ctx.settings.ping_after
        before = due - due % step
        if not is_decider(self._ctx.me, link.peer):
            link.look_at = before + step if before < due else due
        else:
            link.look_at = before if before > self._ctx.now.mono else due

    def _wake(self) -> None:
        """Wake for the link that is to be looked at first."""
        at = min((link.look_at for link in self._up.values()), default=None)
        if at is not None and (self._timer is None or self._timer.at > at):
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._ctx.after(at - self._ctx.now.mono, self._look_round)

    def _look_round(self) -> None:
        """Look at every link whose time has come."""
        self._timer = None
        now = self._ctx.now.mono + _SLACK
        pinged = [link.id for link in list(self._up.values()) if link.look_at <= now and self._look(link)]
        if pinged:
            self._ctx.emit(Send(Ping(), pinged))
        self._wake()

    def _look(self, link: PeerLink) -> bool:
        """End a link that is dead, and say whether one that is not shall be pinged."""
        settings, now = self._ctx.settings, self._ctx.now.mono
        silence = now - link.heard_at if link.reads else 0.0
        if silence >= settings.dead_after - _SLACK:
            self._dead(link)
            return False
        early = EARLY * settings.ping_after if is_decider(self._ctx.me, link.peer) else 0.0
        if link.reads and silence < settings.ping_after - early - _SLACK:
            self._look_by(link, link.heard_at + settings.ping_after)
            return False
        left = settings.dead_after - silence if link.reads else settings.ping_after
        self._look_by(link, now + min(settings.ping_after, left))
        return True
