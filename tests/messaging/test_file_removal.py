"""Content that no message names goes, with real peers and disks: after deletions, at a start, and what is forgotten."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

from p2pchat import Message, Sent, Settings, StorageError, TCPPeer
from p2pchat.core.content.pieces import PIECE_BYTES
from p2pchat.runtime.content_remover import KEPT_FOR
from p2pchat.storage.content_store import SWEEP_NAME
from tests.deadlines import until, within
from tests.messaging.conftest import home as home
from tests.messaging.conftest import net as net
from tests.messaging.test_attachments import newest

BY_HAND = Settings(auto_fetch_bytes=0)
DATA = random.Random(21).randbytes(3 * PIECE_BYTES + 5)


def roots_in(data: Path) -> set[str]:
    """Return the names of all files of content."""
    return {each.name for each in (data / "content").iterdir() if each.name != SWEEP_NAME}


async def until_gone(data: Path, *roots: str) -> None:
    await until(lambda: not {name.partition(".")[0] for name in roots_in(data)} & {*roots}, "content to be removed")


async def swept(peer: TCPPeer) -> None:
    """Return after a whole sweep of everything."""
    driver = peer._lifecycle.require_running()
    await driver.removal.sweep()


async def own(peer: TCPPeer) -> Sent:
    """Return the newest message of the peer's user."""
    return [post for post in await peer.room.history() if isinstance(post, Sent)][-1]


async def test_a_deleted_message_takes_its_content_away_with_the_last_reference(home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        first = await ada.send(ada.room, "", files=[("a", DATA), ("b", b"bb")])
        message = await own(ada)
        large, small = message.attachments
        second = await ada.send(ada.room, "again", files=[("other name", DATA)])
        await ada.delete(first.id)
        await until_gone(home / "ada", small.root)
        assert await large.read() == DATA  # the second message names it
        await ada.edit(second.id, "only other words")
        await swept(ada)
        assert await large.is_here()
        await ada.delete(second.id)
        await until_gone(home / "ada", large.root)
        assert not await large.is_here() and roots_in(home / "ada") == set()


async def test_deletion_here_takes_content_away_and_others_keep_theirs(home: Path) -> None:
    async with (
        TCPPeer(data=home / "ada", name="ada") as ada,
        TCPPeer(data=home / "bob", name="bob") as bob,
    ):
        assert await bob.connect(ada.port)
        receipt = await ada.send(ada.room, "look", files=[("a", DATA)])
        theirs = (await newest(bob)).attachments[0]
        async with within(60, "content and delivery"):
            assert await theirs.read() == DATA
            await receipt.delivered()
        await ada.delete_history("room")
        assert roots_in(home / "ada") == set()  # at once
        await swept(bob)
        assert await theirs.is_here()


async def test_content_of_a_message_that_is_not_stored_yet_stays(home: Path) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"second"
        begun.set()
        await go_on.wait()

    async with TCPPeer(data=home / "ada", name="ada") as ada:
        gone = await ada.send(ada.room, "", files=[("a", DATA)])
        sending = asyncio.create_task(ada.send(ada.room, "", files=[("first", DATA), ("second", slowly())]))
        await begun.wait()
        await ada.delete(gone.id)  # its content is that of a message on its way
        await swept(ada)
        go_on.set()
        await sending
        await swept(ada)
        message = await own(ada)
        assert [await each.read() for each in message.attachments] == [DATA, b"second"]
        cancelled = asyncio.create_task(ada.send(ada.room, "", files=[("third", b"third"), ("x", slowly())]))
        begun.clear()
        go_on.clear()
        await begun.wait()
        assert len([name for name in roots_in(home / "ada") if len(name) == 64]) == 3
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        kept = "what was kept for nothing to go"
        await until(lambda: len([name for name in roots_in(home / "ada") if len(name) == 64]) <= 2, kept)


async def test_a_start_removes_what_nobody_names_and_keeps_the_rest(home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        await ada.send(ada.room, "", files=[("a", DATA)])
        [kept] = (await own(ada)).attachments
    left = home / "ada" / "content" / ("0d" * 32)
    left.write_bytes(b"of a killed process")
    left.with_suffix(".part").write_bytes(b"partial")
    old = time.time() - KEPT_FOR - 60
    for each in left.parent.iterdir():
        os.utime(each, (old, old))
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        await until_gone(home / "ada", left.name)
        [kept] = (await own(ada)).attachments
        assert await kept.read() == DATA


async def test_content_stays_whose_messages_a_restored_database_lacks(home: Path) -> None:
    async with TCPPeer(data=home / "bob", name="bob") as bob:
        async with TCPPeer(0, bob.endpoint, data=home / "ada", name="ada") as ada:
            await bob.wait_user("ada")
        backup = (home / "ada" / "history.db").read_bytes()
        async with TCPPeer(0, bob.endpoint, data=home / "ada", name="ada") as ada:
            await bob.send(bob.room, "look", files=[("a", DATA)])
            async with within(60, "the file"):
                while not await (await newest(ada)).attachments[0].is_here():
                    await asyncio.sleep(0.01)
        (home / "ada" / "history.db").write_bytes(backup)
        for file in await bob.stored_files():
            await bob.forget_file(file.root)
        async with TCPPeer(data=home / "ada", name="ada") as ada:
            await swept(ada)
            gone = await ada.send(ada.room, "", files=[("b", b"another")])
            await ada.delete(gone.id)
            await swept(ada)
            assert await ada.connect(bob.port)
            message = await newest(ada)
            async with within(60, "what is stored to be found"):
                while not await message.attachments[0].is_here():
                    await asyncio.sleep(0.01)
            await ada.delete_history("room")  # now its message is known, and goes
            assert roots_in(home / "ada") == set()


async def test_a_sweep_that_a_killed_process_had_to_do_is_done_at_the_next_start(home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        await ada.send(ada.room, "", files=[("a", b"kept")])
    (home / "ada" / "content" / ("0d" * 32)).write_bytes(b"of a message that was deleted just before")
    (home / "ada" / "content" / SWEEP_NAME).touch()
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        await until_gone(home / "ada", "0d" * 32)
        await swept(ada)
        assert [*(home / "ada" / "content").glob(SWEEP_NAME)] == [] and len(roots_in(home / "ada")) == 1


async def test_content_that_is_read_goes_afterwards(home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        receipt = await ada.send(ada.room, "", files=[("a", DATA)])
        [file] = (await own(ada)).attachments
        content = file._content
        with content.held(file.root):
            await ada.delete(receipt.id)
            await swept(ada)
            assert await file.is_here()
        await until_gone(home / "ada", file.root)


async def test_a_download_of_a_deleted_message_ends_and_what_came_goes(home: Path) -> None:
    async with (
        TCPPeer(data=home / "ada", name="ada") as ada,
        TCPPeer(data=home / "bob", name="bob", settings=BY_HAND) as bob,
    ):
        assert await bob.connect(ada.port)
        receipt = await ada.send(ada.room, "look", files=[("a", DATA)])
        [theirs] = (await newest(bob)).attachments
        await ada._lifecycle.require_running().content.run(lambda store: store.delete(theirs.root))
        fetching = asyncio.create_task(theirs.fetch())
        await ada.delete(receipt.id)
        async with within(60, "the end of the download"):
            [error] = await asyncio.gather(fetching, return_exceptions=True)
        assert isinstance(error, StorageError) and "its message was deleted" in str(error)


async def test_the_writer_gets_room_back_for_what_goes(home: Path) -> None:
    one = Settings(contact_bytes=len(DATA) + 1000, log_bytes=0)
    async with (
        TCPPeer(data=home / "ada", name="ada") as ada,
        TCPPeer(data=home / "bob", name="bob", settings=one) as bob,
    ):
        assert await bob.connect(ada.port)
        await bob.send(await bob.wait_user("ada"), "so we know each other")
        receipt = await ada.send(ada.room, "one", files=[("a", DATA)])
        [theirs] = (await newest(bob)).attachments
        async with within(60, "the first file"):
            while not await theirs.is_here():
                await asyncio.sleep(0.01)  # poll: the storage answers, and no event says it
        await ada.send(ada.room, "two", files=[("b", DATA[::-1])])
        async with within(60, "the second message, whose file has no room"):
            while bob.counted.get("content_quota", 0) < 1:
                await asyncio.sleep(0.01)  # poll: the storage answers, and no event says it
        await ada.delete(receipt.id)
        await until_gone(home / "bob", theirs.root)
        await ada.send(ada.room, "three", files=[("c", DATA[1:])])
        async with within(60, "the third file, for which there is room again"):
            while True:
                found = [post for post in await bob.room.history() if isinstance(post, Message)]
                if found[-1].text == "three" and await found[-1].attachments[0].is_here():
                    break
                await asyncio.sleep(0.01)  # poll: the storage answers, and no event says it
