"""Two honest peers on real sockets, and members who lie to one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from p2pchat import Message, Settings, TCPPeer, Warned
from p2pchat.identity.network import Network, load_network
from tests.hostile.liar import Liar
from tests.processes.conftest import stage, stage_directories

CHAT_WITHIN = 5.0  # seconds for a line each way, on a busy machine too
QUICK = Settings(digest_every=1.0, redial_most=0.5, left_grace=0.2)


@dataclass(slots=True)
class Honest:
    """Ada, to whom is lied, and bob, who talks with her meanwhile. `warned` are the codes ada's people were told."""

    ada: TCPPeer
    bob: TCPPeer
    network: Network
    warned: list[str] = field(default_factory=list)
    liars: list[Liar] = field(default_factory=list)
    said: int = 0

    async def liar(self, name: str = "eve", *, introduce: bool = True) -> Liar:
        """Return a member who is linked with ada."""
        liar = Liar(name, self.network)
        self.liars.append(liar)
        await liar.join(self.ada.port, introduce=introduce)
        return liar

    async def chat(self) -> None:
        """A line each way, and both delivered, in no time to speak of."""
        for one, other in ((self.ada, self.bob), (self.bob, self.ada)):
            self.said += 1
            text = f"line {self.said} of {one.me.name}"
            async with asyncio.timeout(CHAT_WITHIN):
                came = asyncio.create_task(other.wait_for(Message, where=partial(_says, text)))
                await asyncio.sleep(0)
                receipt = await one.send(one.room, text)
                await receipt.delivered(by=other.me)
                await came

    async def while_chatting(self, lying: Awaitable[Any]) -> Any:
        """Let somebody lie, with line after line between ada and bob meanwhile; return what came of the lie."""
        task = asyncio.ensure_future(lying)
        try:
            while not task.done():
                await self.chat()
            await self.chat()
            return await task
        finally:
            task.cancel()


Meet = Callable[..., Awaitable[Honest]]


@pytest.fixture
async def meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Meet]:
    """Return a function that makes the two; its arguments are settings of ada's."""
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    async with AsyncExitStack() as stack:

        async def make(*, open: bool = False, settings: Settings = QUICK) -> Honest:
            ada = await stack.enter_async_context(TCPPeer(0, name="ada", db="memory://", open=open, settings=settings))
            bob = await stack.enter_async_context(
                TCPPeer(0, ada.endpoint, name="bob", db="memory://", open=open, settings=QUICK)
            )
            network = (
                ada._lifecycle.resources.network
                if open and ada._lifecycle.resources
                else load_network(tmp_path / "home" / "network")
            )
            assert network is not None
            honest = Honest(ada, bob, network)

            async def listen() -> None:
                async for warning in ada.events(Warned, consumer=None):
                    honest.warned.append(warning.code)

            listening = asyncio.create_task(listen())
            stack.callback(listening.cancel)
            stack.push_async_callback(_all_gone, honest)
            await ada.wait_user("bob", timeout=10)
            await bob.wait_user("ada", timeout=10)
            await honest.chat()
            return honest

        yield make


def _says(text: str, post: Message) -> bool:
    return post.text == text


async def _all_gone(honest: Honest) -> None:
    for liar in honest.liars:
        await liar.gone()


__all__ = ["stage", "stage_directories"]
