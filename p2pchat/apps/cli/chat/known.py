"""The peers that were started before on this machine, for whoever has to choose one of them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from p2pchat import P2PChatError, inspect_profile, known_profiles, open_history
from p2pchat.commands.format import shown_name


@dataclass(frozen=True, slots=True)
class Known:
    """A profile that was started before.

    Attributes:
        name: "" when none was ever chosen.
        used_at: Seconds since 1970 of the last time something was stored.
        holder: The pid that runs it, 0 when unknown; None: it does not run.
        is_settled: It belongs to its network for good: it has joined it, or messages of it.
        is_open: That network has no key.
    """

    directory: Path
    port: int
    name: str
    used_at: float
    holder: int | None
    is_settled: bool
    is_open: bool

    @property
    def label(self) -> str:
        return shown_name(self.name) if self.name else "(no name yet)"


def started_before() -> list[Known]:
    """Return the profiles of this login that are somebody, lowest port first.

    One without a name, a network of its own and a message, as a start that found its port taken leaves behind, is
    nobody yet: whoever starts there next may be.
    """
    found = [look(directory, int(directory.name)) for directory in known_profiles()]
    return [one for one in found if one.name or one.is_settled or one.holder is not None]


def look(directory: Path, port: int) -> Known:
    """Return what can be seen of a profile; nothing but its place where it cannot be read: starting it says why."""
    name, has_messages = "", False
    with suppress(P2PChatError):
        name, has_messages = asyncio.run(_read(directory))
    state = inspect_profile(directory)
    is_settled = has_messages or state.network_path.parent == directory
    return Known(directory, port, name, _used_at(directory), state.holder, is_settled, state.network == "open")


async def _read(directory: Path) -> tuple[str, bool]:
    async with open_history(directory) as history:
        return history.me.name, bool(await history.history(limit=1))


def _used_at(directory: Path) -> float:
    times = [0.0]
    for name in ("identity.pem", "history.db", "history.db-wal"):
        with suppress(OSError):
            times.append((directory / name).stat().st_mtime)
    return max(times)
