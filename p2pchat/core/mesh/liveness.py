"""Whether the other end is still there, and whether it says too much.

Any byte is a sign of life. After ten seconds of silence a ping asks for one, after thirty the link is dead. While this
side does not read, silence means nothing: then it pings every ten seconds, so that the other end does not give up.
Frames other than entries and have (which storage paces) are counted in a token bucket; above it reading pauses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from p2pchat.core.context import Context
from p2pchat.core.effects import Counted, PauseReading, Send
from p2pchat.core.mesh.link import Link
from p2pchat.protocol import Entries, Frame, Have, Ping, Unknown

_SLACK = 0.001  # seconds: deadlines are sums of floats


class Liveness:
    """Watches the links that are up; `dead` is called for one that has been silent for too long."""

    def __init__(self, ctx: Context, dead: Callable[[Link], None]) -> None:
        self._ctx = ctx
        self._dead = dead

    def watch(self, link: Link) -> None:
        """Begin; the link has just come up."""
        link.heard_at = link.filled_at = self._ctx.now.mono
        link.tokens = float(self._ctx.settings.flood_burst)
        self._look_after(link, self._ctx.settings.ping_after)

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

    def _look_after(self, link: Link, seconds: float) -> None:
        if link.timer is not None:
            link.timer.cancel()
        link.timer = self._ctx.after(seconds, lambda: self._look(link))

    def _look(self, link: Link) -> None:
        if not link.up:
            return
        settings, now = self._ctx.settings, self._ctx.now.mono
        silence = now - link.heard_at if link.reads else 0.0
        if silence >= settings.dead_after - _SLACK:
            self._dead(link)
        elif link.reads and silence < settings.ping_after - _SLACK:
            self._look_after(link, settings.ping_after - silence)
        else:
            self._ctx.emit(Send(Ping(), [link.id]))
            left = settings.dead_after - silence if link.reads else settings.ping_after
            self._look_after(link, min(settings.ping_after, left))
