"""Which peer does what a command asks for: the one that runs, or one that the command runs itself meanwhile.

The command talks to both in the same way. Of several commands at once without a running peer, one runs it, and the
others find it there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from p2pchat.apps.cli.chat.last import LastStart
from p2pchat.cli.control_client import Control, connect
from p2pchat.commands.errors import Failure, Usage

if TYPE_CHECKING:
    from p2pchat import DataLocked

HELD_PATIENCE = 5.0  # seconds for a peer that starts to answer, and for one that stops to let go
HELD_AGAIN = 0.1  # seconds between two looks at a profile that is held
MEET_WITHIN = 2.0  # seconds for the first of those known here to be met, before something is said to the room


@asynccontextmanager
async def reach(directory: Path, *, port: int = -1, db: str = "") -> AsyncIterator[Control]:
    """Connect to the peer of a profile, running it here when it does not run.

    Args:
        directory: The profile's.
        port: Where a peer run here listens; below 0: on the port its directory is named after, else on any.
        db: Its database, when that is elsewhere; for a peer run here.
    Raises:
        Usage: There is no profile.
        Failure: Another process holds it and does not answer, or the peer cannot run.
    """
    directory = directory.expanduser().absolute()
    deadline = asyncio.get_running_loop().time() + HELD_PATIENCE
    while True:
        control = await connect(directory)
        if control is not None:
            try:
                yield control
            finally:
                await control.aclose()
            return
        runs = _Run(directory, port, db)
        if await runs.start():
            break
        if asyncio.get_running_loop().time() > deadline:
            raise runs.held
        await asyncio.sleep(HELD_AGAIN)
    try:
        yield await runs.control()
    except BaseException:  # whatever ends the command ends the peer it runs
        await runs.leave()
        raise
    await runs.rest()
    await runs.leave()


def answers_nobody(directory: Path, locked: DataLocked) -> Failure:
    """Return the error of a profile in the hands of a process that no command can ask: an old one, or a program."""
    who = f"process {locked.pid}" if locked.pid else "another process"
    return Failure(f"{directory} is in use by {who}, which answers no commands: stop it, or use it itself")


class _Run:
    """A peer that lives as long as a command."""

    def __init__(self, directory: Path, port: int, db: str) -> None:
        self._directory = directory
        named = int(directory.name) if directory.name.isascii() and directory.name.isdecimal() else 0
        self._port = port if port >= 0 else named if named <= 65535 else 0
        self._db = db
        self._control: Control | None = None
        self.held = Failure("")

    async def start(self) -> bool:
        """Start it; False when another process holds the profile, which `held` says then."""
        from p2pchat import DataLocked, inspect_profile
        from p2pchat.commands.settings import ChatSettings

        found = inspect_profile(self._directory)
        if not found.peer_id and not found.key_trouble:
            raise Usage(f"there is no profile in {self._directory}: start a peer first, for example p2pchat 8080")
        last = ChatSettings.load(self._directory).last_start
        try:
            await self._begin_where_it_can(last)
        except DataLocked as locked:
            self.held = answers_nobody(self._directory, locked)
            return False
        return True

    async def _begin_where_it_can(self, last: LastStart) -> None:
        """Listen where others look for it; where that cannot be, anywhere: those it knows, it can still call."""
        from p2pchat import DataLocked, P2PChatError, PortInUse

        try:
            await self._begin(self._port, last)
        except PortInUse:
            await self._begin(0, last)
        except DataLocked:
            raise
        except P2PChatError:  # an address this machine has no more, most likely
            if last == LastStart():
                raise
            await self._begin_where_it_can(LastStart())

    async def _begin(self, port: int, how: LastStart) -> None:
        from p2pchat import Settings, TCPPeer
        from p2pchat.cli.control_server import ControlServer

        self._peer = TCPPeer(
            port,
            host=how.host,
            data=self._directory,
            db=self._db or None,
            advertise=how.advertise or None,
            discover=how.discover,
            settings=Settings(start_timeout=0.0),
        )
        await self._peer.start()
        self._server = await ControlServer(self._peer).start()

    async def control(self) -> Control:
        """Return a connection to it, when somebody is met or nobody seems to be there."""
        await self._meet()
        self._control = await self._server.connect()
        self._control.is_own = True
        return self._control

    async def _meet(self) -> None:
        """Wait for somebody to be here, when anybody is known: the room is for those who are."""
        from p2pchat import Joined

        if all(user.is_me for user in self._peer.users()):
            return
        async with self._peer.events(Joined, consumer=None) as joined:
            if any(user.status in ("online", "idle") for user in self._peer.users() if not user.is_me):
                return
            try:
                await asyncio.wait_for(anext(joined), MEET_WITHIN)
            except (TimeoutError, StopAsyncIteration):
                pass

    async def rest(self) -> None:
        """Wait a while for other commands that found it here."""
        if self._control is not None:
            await self._control.aclose()
        await self._server.rest()

    async def leave(self) -> None:
        """Stop it in good order."""
        if self._control is not None:
            await self._control.aclose()
        await self._server.leave("the command that ran it has ended")
