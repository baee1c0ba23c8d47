"""The last start of a profile: how others reached its peer, and what ran on it.

    <profile>/start.json     {"host": "0.0.0.0", "advertise": "", "discover": false, "terminal": true, ...}

A file that is missing counts as no start. One that cannot be read counts as that of a person whom nobody reached, so
that a start offers it; it is kept aside, with a word.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from p2pchat.addresses import is_loopback
from p2pchat.commands.exit_codes import print_error
from p2pchat.private_files import write_private

FILE_NAME = "start.json"
KEPT_SUFFIX = ".unreadable"
ADVICE = "if other machines connected to this peer, start it with --host 0.0.0.0, or as it was started at first"
MAX_FILE_BYTES = 1 << 20  # a larger file is something else


@dataclass(frozen=True)
class LastStart:
    """The options by which others reached the peer of a profile at its last start, for a start without --host.

    Attributes:
        host: The address that somebody chose for it to listen on; "": nobody did.
        advertise: The address it announces to others; "": its own addresses.
        discover: Whether LAN discovery was on.
        listen: Whether it listened on a socket.
        invite: The id of the invite that it showed; "": none.
        joined: It joined with an invite of another machine, or its person has several, so a terminal listens.
        port: Where it listened; 0: nowhere.
        terminal: A terminal was opened on the profile, so it is a person's. Programs have all others.
        gateway: A gateway ran on the profile.
    """

    host: str = ""
    advertise: str = ""
    discover: bool = False
    listen: bool = True
    invite: str = ""
    joined: bool = False
    port: int = 0
    terminal: bool = False
    gateway: bool = False

    @classmethod
    def load(cls, directory: Path | None) -> LastStart:
        """Return that of the profile in a directory; the defaults for None, and where there is none."""
        if directory is None:
            return cls()
        try:
            return cls._read(directory / FILE_NAME)
        except (OSError, ValueError, RecursionError):
            return cls(terminal=os.path.exists(directory / FILE_NAME))

    @classmethod
    def _read(cls, path: Path) -> LastStart:
        with open(path, "rb") as file:
            found = json.loads(file.read(MAX_FILE_BYTES))
        defaults = asdict(cls())
        if not isinstance(found, dict):
            raise ValueError("it is not a JSON object")
        known = {name: value for name, value in found.items() if name in defaults}
        if any(type(value) is not type(defaults[name]) for name, value in known.items()):
            raise ValueError("it has a value of the wrong type")
        return cls(**known)

    def save(self, directory: Path | None) -> None:
        """Write it, if it is not there yet; a failure to write is ignored. One that cannot be read is kept aside."""
        if directory is None or self == LastStart.load(directory):
            return
        path = directory / FILE_NAME
        with suppress(OSError):
            try:
                LastStart._read(path)
            except FileNotFoundError:
                pass
            except (OSError, ValueError, RecursionError):
                os.replace(path, f"{path}{KEPT_SUFFIX}")
                print_error(f"{path} cannot be read, and is kept as {path.name}{KEPT_SUFFIX}: {ADVICE}")
            write_private(path, f"{json.dumps(asdict(self))}\n".encode())

    @property
    def is_open(self) -> bool:
        """Return whether peers of other machines could connect."""
        is_open = not is_loopback(self.host) if self.host else self.joined
        return bool(self.advertise) or (self.listen and is_open)
