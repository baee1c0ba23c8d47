"""A file taken in by a profile that nobody runs."""

from __future__ import annotations

from collections.abc import Callable

from p2pchat.peer.profiles.alone import open_alone
from p2pchat.resources import PathLike
from p2pchat.transfer import Imported, Place


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
    async with open_alone(data, db=db) as peer:
        return await peer.import_from(source, progress=progress)
