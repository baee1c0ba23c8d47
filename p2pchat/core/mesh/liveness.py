"""Whether the other end is still there, and whether it says too much.

Any byte is a sign of life. After ten seconds of silence a ping asks for one, after thirty the link is dead. While this
side does not read, silence means nothing: then it pings every ten seconds, so that the other end does not give up.
Links are looked at on whole seconds of the clock, by the smaller id of two on the one before the time and by the other
on the one after: so one of them pings, and a peer with many idle links wakes once a second and not for each of them,
together with the others on its machine.

Frames other than entries and have (which storage paces) are counted in a token bucket; above it reading pauses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from p2pchat.core.context import Context, Timer
from p2pchat.core.effects import Counted, PauseReading, Send
from p2pchat.core.mesh.election import decides
from p2pchat.core.mesh.link import Link
from p2pchat.protocol import Entries, Frame, Have, Ping, Unknown

EARLY = 0.1  # of the time to a ping: so much sooner it may come
_SLACK = 0.001  # seconds: deadlines are sums of floats


class Liveness:
    """Watches the links that are up; `dead` is called for one that has been silent for too long."""

    def __init__(self, ctx: Context, up: Mapping[int, Link], dead: Callable[[Link], None]) -> None:
        self._ctx = ctx
        self._up = up
        self._dead = dead
        self._timer: Timer | None = None  # for the link that is to be looked at first

    def watch(self, link: Link) -> None:
        """Begin; the link has just come up."""
        now, settings = self._ctx.now.mono, self._ctx.settings
        link.heard_at = link.filled_at = now
        link.tokens = float(settings.flood_burst)
        self._look_by(link, now + settings.ping_after)
        self._wake()

    def paused(self, link: Link, on: bool) -> None:
        """Reading stopped or goes on; the clock of silence begins anew then."""
        link.reads = not on
        link.heard_at = self._ctx.now.mono

    def charge(self, link: Link, frames: Sequence[Frame | Unknown]) -> None:
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

    def _look_by(self, link: Link, due: float) -> None:
        step = EARLY * self._ctx.settings.ping_after
        before = due - due % step
        if not decides(self._ctx.me, link.peer):
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

    def _look(self, link: Link) -> bool:
        """End a link that is dead, and say whether one that is not shall be pinged."""
        settings, now = self._ctx.settings, self._ctx.now.mono
        silence = now - link.heard_at if link.reads else 0.0
        if silence >= settings.dead_after - _SLACK:
            self._dead(link)
            return False
        early = EARLY * settings.ping_after if decides(self._ctx.me, link.peer) else 0.0
        if link.reads and silence < settings.ping_after - early - _SLACK:
            self._look_by(link, link.heard_at + settings.ping_after)
            return False
        left = settings.dead_after - silence if link.reads else settings.ping_after
        self._look_by(link, now + min(settings.ping_after, left))
        return True
