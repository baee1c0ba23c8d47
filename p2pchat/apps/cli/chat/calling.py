"""What became of the endpoints on the command line: who answered, who refused, who is still called."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from p2pchat.apps.cli.exits import tell
from p2pchat.apps.safetext import safe_line

_SAID = {"up": "reached", "refused": "refused", "trying": "does not answer"}


class Endpoints:
    """What became of the endpoints on the command line: one line each when it is known, another when it changes.

    Attributes:
        refused: Set when every one of them has refused us.
    """

    def __init__(self, endpoints: Sequence[str]) -> None:
        self._states: dict[str, str] = dict.fromkeys(endpoints, "")
        self._known = asyncio.Event()
        self._linked = asyncio.Event()
        self.refused = asyncio.Event()
        if not endpoints:
            self._known.set()

    def heard(self, endpoint: str, state: str, reason: str) -> None:
        """Take what a link event says."""
        if state == "up":
            self._linked.set()
        former = self._states.get(endpoint)
        if former is None or former == state or state not in _SAID or (former and state == "trying"):
            return
        self._states[endpoint] = state
        why = f": {safe_line(reason)}" if reason and state != "up" else ""
        tell(f"-- {safe_line(endpoint)} {_SAID[state]}{why}" + ("; trying on" if state == "trying" else ""))
        if all(self._states.values()):
            self._known.set()
        if set(self._states.values()) == {"refused"}:
            self.refused.set()

    @property
    def known(self) -> bool:
        """Whether each endpoint has answered or failed once."""
        return self._known.is_set()

    async def answered(self, timeout: float) -> None:
        """Wait until each endpoint has answered or failed once, at most so long."""
        await _within(self._known, timeout)

    async def linked_within(self, timeout: float) -> bool:
        """Whether there was a link to anybody, or is one in time."""
        return await _within(self._linked, timeout)


async def _within(event: asyncio.Event, timeout: float) -> bool:
    if event.is_set():
        return True
    try:
        await asyncio.wait_for(event.wait(), timeout)
    except TimeoutError:
        return False
    return True
