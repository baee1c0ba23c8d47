"""A file taken in by a profile that nobody runs: a peer that neither listens nor dials, for as long as that takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from p2pchat.errors import P2PChatError
from p2pchat.identity.profile import KEY_NAME, profile_directory
from p2pchat.peer.assembly import PathLike
from p2pchat.peer.carrying import Imported, Place
from p2pchat.peer.peer import TCPPeer


async def import_into(
    data: PathLike | int, source: Place, *, db: str | None = None, progress: Callable[[int], None] | None = None
) -> Imported:
    """Take a file into a peer that does not run; as TCPPeer.import_from. Others get what is new when it runs again.

    Args:
        data: The peer's data directory, or its port.
        db: Its database, when that is elsewhere.
    Raises:
        DataLocked: The peer runs; `.pid` says where. P2PChatError: There is no peer.
        ImportRefused, StorageError: As TCPPeer.import_from.
    """
    directory = profile_directory(data) if isinstance(data, int) else Path(data).expanduser()
    if not (directory / KEY_NAME).exists():
        raise P2PChatError(f"there is no peer in {directory}: name the data directory of one")
    peer = TCPPeer(data=directory, db=db)
    peer._stay_alone()
    async with peer:
        return await peer.import_from(source, progress=progress)
