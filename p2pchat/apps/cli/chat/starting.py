"""What keeps a peer from starting, as one line that says what to do about it: mostly a command to copy."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from p2pchat import (
    DataLocked,
    InviteError,
    P2PChatError,
    PortInUse,
    known_profiles,
    probe,
    profile_directory,
)
from p2pchat.apps.cli.chat.options import ChatOptions
from p2pchat.apps.cli.ports import free_port, next_port
from p2pchat.apps.cli.program import command
from p2pchat.apps.cli.words import split_first_word
from p2pchat.commands.errors import Failure, Usage
from p2pchat.commands.invites import looks_like_invite

MOST_PICKED = 8  # ports picked and lost to others who start in the same moment
_LOOK_WITHIN = 1.0  # seconds, for who it is that listens there
_OTHERS = frozenset(("refused", "no_answer", "unreachable", "no_such_host", "cut", "silent", "other_program"))


class Starting:
    """One start: what was asked for, and whether the profile was there before.

    Args:
        argv: The words of the command line.
    """

    def __init__(self, options: ChatOptions, argv: Sequence[str]) -> None:
        self._options = options
        self._argv = list(argv)
        self._tried: set[int] = set()
        self._was_there = options.port > 0 and profile_directory(options.port) in known_profiles()

    def goes_elsewhere(self, error: P2PChatError) -> bool:
        """Pick the next port, when the one that was picked was taken in the same moment; False: that is not it."""
        is_picked = self._options.bare and not self._was_there and not self._options.data
        if not is_picked or not isinstance(error, (PortInUse, DataLocked)) or len(self._tried) >= MOST_PICKED:
            return False
        self._tried.add(self._options.port)
        self._options.port = free_port(self._options.host, self._tried)
        return True

    def mended(self, error: P2PChatError) -> Exception:
        """Return the error to show instead of the library's, which knows no commands."""
        if isinstance(error, PortInUse):
            return self._port_taken(error)
        if isinstance(error, DataLocked):
            return self._in_use(error)
        if isinstance(error, InviteError) and self._options.invite:
            port = next_port(self._options.port, self._options.host)
            return Usage(f"{error}, as in: {command(port, '--invite', '-')}")
        return error

    def _port_taken(self, error: PortInUse) -> Failure:
        who = _who_listens(error.port)
        instead = self._with_port(next_port(error.port, self._options.host))
        return Failure(f"port {error.port} on {error.host} is in use by {who}: try {instead}")

    def _with_port(self, port: int) -> str:
        """Return the command line with another port, and still the same identity."""
        _, rest = split_first_word(self._argv)
        if self._options.bare:
            rest = self._argv
        if any(looks_like_invite(word) for word in rest):
            rest = ["--invite", "-"]
        if self._was_there and not (self._options.data or self._options.temp):
            rest = [*rest, "--data", str(profile_directory(self._options.port))]
        return command(port, *rest)

    def _in_use(self, error: DataLocked) -> Failure:
        who = f"process {error.pid}" if error.pid else "another process"
        which = ["--data", error.path] if self._options.data else ["--port", str(self._options.port)]
        send, tail = command("send", "room", "TEXT", *which), command("tail", *which)
        other = "one more peer needs another port and directory"
        if not self._options.data:
            other = f"for one more peer: {command(next_port(self._options.port), self._options.port)}"
        return Failure(f"{error.path} is in use by {who}; beside it work `{send}` and `{tail}`; {other}")


def _who_listens(port: int) -> str:
    """Ask who has taken a port of this machine."""
    try:
        verdict = asyncio.run(probe(port, timeout=_LOOK_WITHIN)).verdict
    except (P2PChatError, ValueError, OSError):
        return "another program"
    return "another program" if verdict in _OTHERS else "another p2pchat peer"
