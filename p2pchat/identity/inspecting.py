"""What a profile directory has in it, without changing, making or locking anything that stays.

For those who look for what is wrong (`p2pchat doctor`): each part is looked at by itself, and its trouble is kept as
the sentence that a start would have ended with.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from p2pchat.errors import P2PChatError
from p2pchat.identity.keys import load_identity
from p2pchat.identity.names import base32
from p2pchat.identity.network import FILE_NAME, load_network
from p2pchat.identity.private_files import OTHERS, POSIX
from p2pchat.identity.profile import DATABASE_NAME, KEY_NAME, PID_NAME, home_directory, lock_holder, profile_directory


@dataclass(frozen=True, slots=True)
class ProfileState:
    """What a profile directory looks like from outside.

    Attributes:
        directory: Where it is, or would be.
        exists: Whether there is such a directory.
        others_mode: What others than its owner may do there, as mode bits (0o055 ...); 0: nothing, or no modes.
        peer_id: Base32; "" when there is no usable key.
        key_trouble: Why the key cannot be used; "" when it can, or when there is none.
        network: keyed or open; "" when none is known yet.
        network_path: The file that says so: the profile's own, or the login's.
        network_trouble: Why that file cannot be used.
        holder: The pid of the process that holds the profile, 0 when that cannot be read; None: nobody does.
    """

    directory: Path
    exists: bool
    others_mode: int
    key_path: Path
    peer_id: str
    key_trouble: str
    network: Literal["keyed", "open", ""]
    network_path: Path
    network_trouble: str
    database_path: Path
    holder: int | None


def inspect_profile(data: str | os.PathLike[str] | int) -> ProfileState:
    """Look at the profile in a data directory, or at that of a port; what is wrong with it is in the result."""
    directory = profile_directory(data) if isinstance(data, int) else Path(data).expanduser().absolute()
    peer_id, key_trouble = _key(directory / KEY_NAME)
    own = directory / FILE_NAME
    network_path = own if _is_there(own) else home_directory() / FILE_NAME
    network, network_trouble = _network(network_path)
    return ProfileState(
        directory=directory,
        exists=os.path.isdir(directory),  # False too where one may not look
        others_mode=_others_mode(directory),
        key_path=directory / KEY_NAME,
        peer_id=peer_id,
        key_trouble=key_trouble,
        network=network,
        network_path=network_path,
        network_trouble=network_trouble,
        database_path=directory / DATABASE_NAME,
        holder=lock_holder(directory) if _is_there(directory / PID_NAME) else None,
    )


def _key(path: Path) -> tuple[str, str]:
    try:
        return base32(load_identity(path).peer_id), ""
    except FileNotFoundError:
        return "", ""
    except P2PChatError as error:
        return "", str(error)


def _network(path: Path) -> tuple[Literal["keyed", "open", ""], str]:
    try:
        network = load_network(path)
    except P2PChatError as error:
        return "", str(error)
    return ("" if network is None else "open" if network.is_open else "keyed"), ""


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False  # what lies in a directory that may not be entered; the directory's own trouble is told


def _others_mode(directory: Path) -> int:
    try:
        return stat.S_IMODE(directory.stat().st_mode) & OTHERS if POSIX else 0
    except OSError:
        return 0
