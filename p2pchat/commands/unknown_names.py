"""Users, conversations and messages that commands name: looked up, and waited for while they are not known yet.

A person sees the error and can try again, so that only piped input waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import closing
from typing import Any, TypeVar

from p2pchat import Conversation, GroupChanged, HostedUser, Message, TCPPeer, UnknownName, User

NAME_GRACE = 3.0  # seconds piped input waits for a name or a message: both become known a moment after the link
T = TypeVar("T")


class NamedAddresses:
    """The addresses that one session names, as its user knows them.

    Attributes:
        peer: The user of the session: a peer's own user, or a user it hosts.
        interactive: A person types and sees errors.
    """

    def __init__(self, peer: TCPPeer | HostedUser, *, interactive: bool) -> None:
        self.peer = peer
        self.interactive = interactive
        self._names_deadline = asyncio.get_running_loop().time() + NAME_GRACE
        self._names_stopped = asyncio.Event()

    async def flush(self) -> None:
        """Send the messages of earlier lines, which do not wait for the name in a later one."""

    def stop_waiting_for_names(self) -> None:
        """Fail at once on what is not known from now on, also on what is waited for."""
        self._names_deadline = 0.0
        self._names_stopped.set()

    async def resolve(self, address: str) -> Conversation:
        """Return the conversation of an address; piped input waits a moment for an unknown name."""
        return await self.wait_for_name(address, lambda: self.peer.find(address))

    async def resolve_user(self, address: str) -> User:
        """Return the user of an address; waits like resolve."""
        return await self.wait_for_name(address, lambda: self.peer.user(address))

    async def wait_for_name(self, address: str, find: Callable[[], T]) -> T:
        """Return what `find` returns for this address; raises what it raises, waits like resolve."""
        while True:
            try:
                return find()
            except UnknownName:
                await self.flush()
                if not self._grace:
                    raise
                await self._wait_for_any(
                    self.peer.wait_for(GroupChanged), self.peer.wait_user(address.removeprefix("@"))
                )

    async def wait_for_message(self, find: Callable[[], Awaitable[str]]) -> str:
        """Return the message id that `find` returns; while that is "", piped input waits a moment for messages."""
        with closing(self.peer.events(Message, consumer=None)) as arriving:  # also between a search and a wait
            while not (found := await find()):
                await self.flush()
                if not self._grace:
                    break
                await self._wait_for_any(anext(arriving))
            return found

    @property
    def _grace(self) -> float:
        """Seconds that are left to wait for what is not known yet; 0 if a person types, who can try again."""
        return 0.0 if self.interactive else max(0.0, self._names_deadline - asyncio.get_running_loop().time())

    async def _wait_for_any(self, *arrivals: Coroutine[Any, Any, object]) -> None:
        """Wait until one of these is done, the grace has passed, or nothing is waited for any longer."""
        tasks = [asyncio.create_task(one) for one in (*arrivals, self._names_stopped.wait())]
        try:
            done, _ = await asyncio.wait(tasks, timeout=self._grace, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        if all(one.cancelled() or one.exception() is not None for one in done):
            self.stop_waiting_for_names()
