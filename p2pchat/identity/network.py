"""Which network a peer belongs to: its id N and, unless it is open, the key K its members share.

One login's peers share one network without being told: a private file in the login's data directory, made once by
whichever peer starts first, read by all. A profile directory with a network file of its own has joined another
network and stays there. The file is one line, `p2pchat-network 1 <N> <K or ->`, in hex.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from p2pchat.errors import P2PChatError
from p2pchat.identity.private_files import make_private_directory, read_private, remove_left, write_private

FILE_NAME = "network"
_LINE = re.compile(rb"p2pchat-network 1 ([0-9a-f]{32}) ([0-9a-f]{64}|-)\s*")
_LOCK_TIMEOUT = 10.0  # seconds; another process holds it for one small write


@dataclass(frozen=True, slots=True)
class Network:
    """`id` is N (hex16), for ever; `key` is K (hex32), or None in an open network."""

    id: str
    key: str | None = field(default=None, repr=False)

    @classmethod
    def fresh(cls, *, open: bool = False) -> Network:
        """Return a new network; an open one has no key, so whoever can connect is a member."""
        return cls(secrets.token_bytes(16).hex(), None if open else secrets.token_bytes(32).hex())

    @property
    def is_open(self) -> bool:
        return self.key is None


def load_network(path: Path) -> Network | None:
    """Read a network file; None when there is none.

    Raises:
        P2PChatError: Others can read it, or it is damaged.
    """
    try:
        data = read_private(path)
    except FileNotFoundError:
        return None
    match = _LINE.fullmatch(data)
    if match is None:
        raise P2PChatError(f"{path} is damaged: restore it, or move it away and join again with an invite")
    id, key = (group.decode() for group in match.groups())
    return Network(id, None if key == "-" else key)


def save_network(path: Path, network: Network) -> None:
    """Write a network file, replacing a former one.

    Raises:
        P2PChatError: It cannot be written.
    """
    try:
        write_private(path, f"p2pchat-network 1 {network.id} {network.key or '-'}\n".encode())
    except OSError as error:
        raise P2PChatError(f"cannot write {path}: {error.strerror or error}") from error


def login_network(home: Path) -> Network:
    """Return the network of this login, made now if this is its first peer.

    Two processes that start at the same moment get the same one: the file is made under a lock.
    Raises:
        P2PChatError: The directory or file cannot be used.
    """
    path = home / FILE_NAME
    network = load_network(path)
    if network is not None:
        return network
    from filelock import FileLock, Timeout

    make_private_directory(home)
    try:
        with FileLock(home / "network.lock", timeout=_LOCK_TIMEOUT, mode=0o600):
            network = load_network(path)
            if network is None:
                remove_left(path, untouched=0)
                network = Network.fresh()
                save_network(path, network)
            return network
    except Timeout:
        raise P2PChatError(f"another process holds {home / 'network.lock'}: stop it and try again") from None
    except OSError as error:
        raise P2PChatError(f"cannot use {home}: {error.strerror or error}") from error
