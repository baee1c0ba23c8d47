"""What blocks: it waits in threads that nobody else needs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from p2pchat import Message, TCPPeer, backup_profile, open_history, probe
from p2pchat.bots import Bot
from p2pchat.threads import in_thread
from tests.deadlines import WAIT
from tests.messaging.conftest import home as home

BLOCKED = 64  # calls; the default executor of asyncio has at most 32 threads


@asynccontextmanager
async def full_executor() -> AsyncIterator[None]:
    """Have the program fill its executor with calls that wait for the end of the block."""
    go_on = threading.Event()
    calls = [asyncio.create_task(asyncio.to_thread(go_on.wait)) for _ in range(BLOCKED)]
    try:
        yield
    finally:
        go_on.set()
        await asyncio.gather(*calls)


async def test_nothing_of_a_peer_waits_for_the_executor_of_its_program(home: Path) -> None:
    file = home / "a.txt"
    file.write_bytes(b"a" * 600_000)
    bot = Bot("bob")

    @bot.command
    def hello() -> str:
        return "to you, too"

    async with full_executor(), asyncio.timeout(WAIT):
        async with TCPPeer(data=home / "ada", name="ada", host="localhost") as ada:
            async with TCPPeer(0, f"localhost:{ada.port}", data=home / "bob", name="bob", host="localhost") as bob:
                assert (await probe(f"localhost:{ada.port}")).verdict == "reached"
                serving = asyncio.create_task(bot.serve(bob))
                async with ada.events(Message) as events:
                    await (await ada.send("bob", "hello")).delivered()
                    assert (await anext(events)).text == "to you, too"
                await (await ada.send("bob", "with a file", files=[file])).delivered()
                [attachment] = (await bob.history("ada"))[-1].attachments
                assert (await attachment.save(home / "b.txt")).read_bytes() == file.read_bytes()
                assert [found.text for found in await bob.search("file")] == ["with a file"]
                await bob.export(home / "export.jsonl")
                serving.cancel()
        async with open_history(home / "ada") as history:
            assert (await history.history("bob"))[0].text == "hello"
        await backup_profile(home / "ada", home / "copy")


async def test_a_call_in_a_thread_is_left_alone_when_nobody_waits_for_it_any_more() -> None:
    go_on = threading.Event()
    call = asyncio.create_task(in_thread(go_on.wait))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    go_on.set()


async def test_stop_iteration_of_a_call_that_blocks_is_raised_as_another_error() -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        await in_thread(next, iter(()))
