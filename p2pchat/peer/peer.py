"""TCPPeer: what a program holds in its hand.

    async with TCPPeer(8081, "localhost:8080", name="alice") as peer:
        await peer.broadcast("hello, mesh")
        receipt = await peer.send("bob", "psst")
        await receipt.delivered(timeout=5)
        async for event in peer.events():
            ...

It is two things in one. As a peer it begins and ends (lifecycle.py), stands among others (standing.py) and hosts users
(hosting.py); as the peer's own user it is somebody (being.py), has conversations (places.py) and writes and reads there
(local_user.py). It takes no signals, sets up no logging and keeps no global state: many live in one process and one
loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from p2pchat.config import Settings
from p2pchat.core.records import META_ABOUT, META_IGNORED, META_NAME, Change
from p2pchat.messaging.local_user import Messaging
from p2pchat.peer.calls.places import To
from p2pchat.peer.endpoints import LOOPBACK, normal
from p2pchat.peer.hosted.hosting import Hosting
from p2pchat.peer.messages.conversation import Desk
from p2pchat.resources import Options, PathLike
from p2pchat.transfer import Exported, Imported, Place, read_file, write_file


class TCPPeer(Hosting, Messaging):
    """A running peer, with one user of its own, and as many others as it hosts.

    Args:
        port: Where to listen; 0 takes any free port, and a temporary profile unless `data` names one.
        endpoints: "host:port" of peers to link with; one is enough to join a whole mesh. A bare port is this machine.
        name: What the user is called; without it the name it had before, or the login's with the port.
        host: The address to listen on; beyond loopback others can reach it.
        data: The directory of identity and history; without it one for each port.
        temporary: Identity and history go when the peer closes.
        key: An identity kept elsewhere.
        db: Another database, as URL; "memory://" keeps nothing.
        invite: Join the network of this invite.
        open: A network without a key: whoever can connect is a member.
        advertise: The endpoint to tell others, when it is not the one listened on.
        discover: Find members on the local network, and be found by them when listening beyond loopback (extra
            `discovery`). An invite is still needed to join.
        settings: Limits and times.
    Raises:
        TypeError, ValueError: An argument that cannot be meant.
    """

    def __init__(
        self,
        port: int = 0,
        *endpoints: str | int,
        name: str | None = None,
        host: str = LOOPBACK,
        data: PathLike | None = None,
        temporary: bool = False,
        key: PathLike | None = None,
        db: str | None = None,
        invite: str | None = None,
        open: bool = False,
        advertise: str | None = None,
        discover: bool = False,
        settings: Settings | None = None,
    ) -> None:
        limits = settings or Settings()
        options = Options(port, name, host, data, temporary, key, db, invite, open, advertise, discover, limits)
        super().__init__(options, [normal(endpoint) for endpoint in endpoints])
        self._conversations = {}

    # ------------------------------------------------------------------ carrying

    async def export(
        self, to: Place, conversation: To | None = None, *, progress: Callable[[int], None] | None = None
    ) -> Exported:
        """Write what is stored here into a file that another peer of this network can import.

        It is readable text: whoever has the file can read it. Written aside and put there when whole, for its owner
        only; it holds what is accepted when it is read, also of others and of direct conversations.

        Args:
            to: A path, or a binary file to write to.
            conversation: A conversation, user or address; None for all.
            progress: Told now and then how many entries are written.
        Raises:
            UnknownName, AmbiguousName: `conversation` is nobody, or several; or this open network is not known yet.
            P2PChatError: It cannot be written. StorageError, PeerClosed.
        """
        owner, only = self._running, None if conversation is None else self.find(conversation).key
        disk = owner.disk
        return await write_file(disk.storage, disk.read, to, room=self.room.key, only=only, progress=progress)

    async def import_from(self, source: Place, *, progress: Callable[[int], None] | None = None) -> Imported:
        """Take in a file that `export` made, here or elsewhere: every entry is checked as if it came over a link.

        What is new is on disk when this returns, is told by events like every message, and is passed on to others.
        What a damaged file holds besides is counted; it costs nothing else.

        Args:
            source: A path, or a binary file to read from.
            progress: Told now and then how many entries are dealt with.
        Raises:
            ImportRefused: It is no such file, or one of another network; nothing of it was taken.
            UnknownName: This open network is not known yet.
            P2PChatError: It cannot be read. StorageError, PeerClosed: What was imported before that stays.
        """
        owner, settings = self._running, self._options.settings
        return await read_file(owner, source, room=self.room.key, settings=settings, progress=progress)

    # ---- as the part of the user asks

    @property
    def _desk(self) -> Desk:
        return self

    @property
    def _names_lock(self) -> asyncio.Lock:
        return self._hosting_lock

    def _check_name(self, name: str) -> None:
        self._check_free(name, self.people.me)

    def _called(self, name: str, about: str | None) -> Change:
        self._name = name
        return Change(meta={META_NAME: name, **({} if about is None else {META_ABOUT: about})})

    @property
    def _ignored_in(self) -> str:
        return META_IGNORED

    def _consumer(self, name: str) -> str:
        return name

    @property
    def _first_place(self) -> int:
        return self._feed.start

    @property
    def _came_at(self) -> int:
        return 0

    def __repr__(self) -> str:
        state = "closed" if self._closed else "new" if self._owner is None else self.endpoint
        return f"<TCPPeer {self._name!a} {state}>"
