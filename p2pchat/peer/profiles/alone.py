"""A peer that neither listens nor dials: to work on a profile while nobody else does."""

from __future__ import annotations

from pathlib import Path

from p2pchat.errors import P2PChatError
from p2pchat.identity.profile import KEY_NAME, profile_directory
from p2pchat.peer.peer import TCPPeer
from p2pchat.resources import PathLike


def open_alone(data: PathLike | int, *, db: str | None = None) -> TCPPeer:
    """Return a peer of a profile that is there, not started: alone it can be read and changed, and meets nobody.

    Starting it raises DataLocked when the profile is in use.

    Args:
        data: The peer's data directory, or its port.
        db: Its database, when that is elsewhere.
    Raises:
        P2PChatError: There is no peer.
    """
    directory = profile_directory(data) if isinstance(data, int) else Path(data).expanduser()
    if not (directory / KEY_NAME).exists():
        raise P2PChatError(f"there is no peer in {directory}: name the data directory of one")
    peer = TCPPeer(data=directory, db=db)
    peer._stay_alone()
    return peer
