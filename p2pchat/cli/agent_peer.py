"""The peer of an agent: the one of its profile that runs already, or else one that runs in this process.

Either way the agent talks to it as a command does, through control_client.py. When a peer beside it ends, the next one
is found or run here at once, so the agent stays a member and its tools go on. Of several processes of one profile one
runs the peer, and the others use it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from p2pchat import DataLocked
from p2pchat.cli.control_client import (
    HELD_RETRY_AFTER,
    START_TIMEOUT,
    ControlClient,
    connect,
    connect_within,
    profile_in_use,
)
from p2pchat.cli.endpoint_status import running_peer
from p2pchat.cli.process import Shutdown
from p2pchat.cli.profiles import PeerOptions
from p2pchat.commands.event_text import EventLine
from p2pchat.commands.exit_codes import CommandError, print_notice
from p2pchat.safe_text import quote_name

GONE: EventLine = {"event": "stopped", "ref": None}  # what those who listen get when the connection ends

ENDED = "the agent has ended"


class AgentPeer:
    """The connection of an agent to its peer.

    Args:
        options: The peer to run when none runs.
        directory: Its profile; None for a temporary one.
        invite: The text of an invite; None for none.
        shutdown: Requested when every endpoint refuses the peer that runs here.
    """

    def __init__(self, options: PeerOptions, directory: Path | None, invite: str | None, shutdown: Shutdown) -> None:
        self._options = options
        self._directory = directory
        self._invite = invite
        self._shutdown = shutdown
        self._control: asyncio.Future[ControlClient] = asyncio.get_running_loop().create_future()
        self._listeners: list[Callable[[EventLine], None]] = []

    async def run(self) -> None:
        """Be connected until this is cancelled.

        Raises:
            CommandError: The peer can neither be used nor run. P2PChatError: It cannot start.
        """
        while True:
            async with self._open() as control:
                await control.ask("tail", last=0, ignored=False)
                self._control.set_result(control)
                while (line := await control.next_line()) is not None:
                    self._tell(line)
                self._control = asyncio.get_running_loop().create_future()
                self._tell(GONE)
            await asyncio.sleep(HELD_RETRY_AFTER)

    def _tell(self, line: EventLine) -> None:
        for listener in list(self._listeners):
            listener(line)

    @contextmanager
    def listening(self, listener: Callable[[EventLine], None]) -> Iterator[None]:
        """Have a function called with each event line inside `with`; GONE among them when some may be missing."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    async def connected(self) -> ControlClient:
        """Return the connection; wait for it while the peer is looked for."""
        return await asyncio.shield(self._control)

    async def ask(self, do: str, **fields: Any) -> list[EventLine]:
        """Send a command object to the peer; return the rows of its answer. Fields that are None are left out.

        Raises:
            RequestRefused: The answer is an error. PeerGone: The peer ended before it answered.
        """
        return await (await self.connected()).ask(do, **_given(fields))

    async def send(self, **fields: Any) -> EventLine:
        """Send a message; return its event line once it is accepted. Raises as ask."""
        return await (await self.connected()).accept(**_given(fields))

    # ---- the peer beside this process, or in it

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[ControlClient]:
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT
        while (control := await self._beside()) is None:
            try:
                async with (
                    running_peer(self._options, self._invite, self._shutdown, lambda: ENDED) as (_, server, endpoints),
                    aclosing(await connect_within(server)) as control,
                ):
                    yield control
                if endpoints.not_admitted is not None:
                    raise CommandError(endpoints.not_admitted.text)
                return
            except DataLocked as locked:  # of another process that starts or ends just now
                if self._directory is None or asyncio.get_running_loop().time() > deadline:
                    raise profile_in_use(self._directory or Path(), locked) from None
            await asyncio.sleep(HELD_RETRY_AFTER)
        async with aclosing(control):
            print_notice(f"-- as {quote_name(str(control.listening['user']))}, through the peer that runs already")
            yield control

    async def _beside(self) -> ControlClient | None:
        return None if self._directory is None else await connect(self._directory)


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
