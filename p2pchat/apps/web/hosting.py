"""Hosted users until the library has them: every name is a peer of its own on this machine, linked with the gateway's.

To be replaced by `peer.host` and `peer.everybody`; same names, same answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from p2pchat import TCPPeer

HostedUser = TCPPeer


class Hosting:
    """The users hosted on one peer."""

    def __init__(self, peer: TCPPeer) -> None:
        self._peer = peer
        self._hosted: dict[str, TCPPeer] = {}
        self._told: asyncio.Queue[tuple[Any, tuple[str, ...] | None]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._lock = asyncio.Lock()

    async def host(self, name: str) -> HostedUser:
        async with self._lock:
            if name not in self._hosted:
                user = TCPPeer(0, self._peer.port, name=name, invite=self._peer.invite, db="memory://")
                await user.start()
                user.set_presence("offline")
                self._hosted[name] = user
                self._tasks.append(asyncio.create_task(self._pump(user, user.events(consumer=None))))
        return self._hosted[name]

    async def _pump(self, user: TCPPeer, events: Any) -> None:
        key = user.me.key
        async for event in events:
            self._told.put_nowait((event, (key,)))

    async def everybody(self) -> AsyncIterator[tuple[Any, tuple[str, ...] | None]]:
        while True:
            yield await self._told.get()

    async def aclose(self) -> None:
        for user in self._hosted.values():
            await user.aclose()
        await asyncio.gather(*self._tasks)


def key_of(user: HostedUser) -> str:
    """Return the key (hex) of a hosted user."""
    return user.me.key


def post_of(user: HostedUser, event: Any) -> Any:
    """Return an event as this user sees it."""
    return event
