"""What goes out at the end of a turn: each frame is encoded once for all its links, and a link gets one write."""

from __future__ import annotations

from collections.abc import Callable

from p2pchat.core.effects import Send
from p2pchat.protocol import encode


class Outgoing:
    """What this turn has for links.

    Attributes:
        size_bytes: Of all frames, each counted once.
    """

    def __init__(self) -> None:
        self.size_bytes = 0
        self._parts: dict[int, list[bytes]] = {}

    def send(self, effect: Send) -> None:
        """Write this frame to its links when the turn ends."""
        data = encode(effect.frame)
        self.size_bytes += len(data)
        out = self._parts
        for link in effect.links:
            parts = out.get(link)
            if parts is None:
                out[link] = [data]
            else:
                parts.append(data)

    def waiting_bytes(self, link: int) -> int:
        """Return how much waits here for a link."""
        return sum(map(len, self._parts.get(link, ())))

    def take(self, link: int) -> bytes:
        """Return what waits here for a link; the end of the turn has it no more."""
        return b"".join(self._parts.pop(link, ()))

    def flush(self, write: Callable[[int, bytes], None]) -> None:
        """Write everything."""
        out, self._parts = self._parts, {}
        self.size_bytes = 0
        for link, parts in out.items():
            write(link, parts[0] if len(parts) == 1 else b"".join(parts))
