"""Two honest peers on real sockets, and malicious members that attack one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from p2pchat import Message, Settings, TCPPeer, Warned
from p2pchat.identity.network import Network, load_network
from tests.deadlines import WAIT
from tests.hostile.attacker import Attacker
from tests.processes.conftest import cluster, cluster_directories

QUICK = Settings(digest_every=1.0, redial_most=0.5, left_grace=0.2)


@dataclass(slots=True)
class Honest:
    """Two honest peers: ada is attacked while bob chats with her. `warned` has the codes of ada's warnings."""

    ada: TCPPeer
    bob: TCPPeer
    network: Network
    warned: list[str] = field(default_factory=list)
    attackers: list[Attacker] = field(default_factory=list)
    said: int = 0

    async def eve(self, name: str = "eve", *, introduce: bool = True) -> Attacker:
        """Return a malicious member that is linked with ada."""
        eve = Attacker(name, self.network)
        self.attackers.append(eve)
        await eve.join(self.ada.port, introduce=introduce)
        return eve

    async def chat(self) -> None:
        """Send a message each way, and wait until both are delivered in time."""
        for one, other in ((self.ada, self.bob), (self.bob, self.ada)):
            self.said += 1
            text = f"line {self.said} of {one.me.name}"
            async with asyncio.timeout(WAIT):
                came = asyncio.create_task(other.wait_for(Message, where=partial(_says, text)))
                await asyncio.sleep(0)  # the task starts
                receipt = await one.send(one.room, text)
                await receipt.delivered(by=other.me)
                await came

    async def while_chatting(self, attack: Awaitable[Any]) -> Any:
        """Run an attack while ada and bob exchange messages; return its result."""
        task = asyncio.ensure_future(attack)
        try:
            while not task.done():
                await self.chat()
            await self.chat()
            return await task
        finally:
            task.cancel()


Meet = Callable[..., Awaitable[Honest]]
Attacked = tuple[Honest, Attacker]


@pytest.fixture
async def meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Meet]:
    """Return a function that starts the two peers; its arguments are settings of ada's."""
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    async with AsyncExitStack() as stack:

        async def make(*, settings: Settings = QUICK) -> Honest:
            ada = await stack.enter_async_context(TCPPeer(0, name="ada", db="memory://", settings=settings))
            # What ada writes waits at bob's no longer than at hers for an attacker's entries that are on their way.
            bobs = replace(QUICK, order_wait=settings.order_wait, order_wait_most=settings.order_wait_most)
            bob = await stack.enter_async_context(TCPPeer(0, ada.endpoint, name="bob", db="memory://", settings=bobs))
            network = load_network(tmp_path / "home" / "network")
            assert network is not None
            honest = Honest(ada, bob, network)

            async def listen() -> None:
                async for warning in ada.events(Warned, consumer=None):
                    honest.warned.append(warning.code)

            listening = asyncio.create_task(listen())
            stack.callback(listening.cancel)
            stack.push_async_callback(_all_gone, honest)
            await ada.wait_user("bob", timeout=60)
            await bob.wait_user("ada", timeout=60)
            await honest.chat()
            return honest

        yield make


@pytest.fixture
async def attacked(meet: Meet) -> Attacked:
    """Return the two peers, and a malicious member that is linked with ada."""
    honest = await meet()
    return honest, await honest.eve()


def _says(text: str, post: Message) -> bool:
    return post.text == text


async def _all_gone(honest: Honest) -> None:
    for eve in honest.attackers:
        await eve.disconnect()


__all__ = ["cluster", "cluster_directories"]
