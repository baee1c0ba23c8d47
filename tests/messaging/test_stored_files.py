"""Files that take space on the disk of a peer: the list of them, and their removal by the owner."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from p2pchat import Sent, StoredFile, TCPPeer
from p2pchat.commands.file_commands import _sums
from p2pchat.core.content.pieces import PIECE_BYTES
from p2pchat.messaging.attachments import FILES_AT_ONCE, only_here
from tests.deadlines import within
from tests.messaging.conftest import home as home
from tests.messaging.conftest import net as net
from tests.messaging.test_attachments import BY_HAND, newest

DATA = random.Random(22).randbytes(3 * PIECE_BYTES + 5)


def names(files: list[StoredFile]) -> list[tuple[str, int, bool]]:
    return [(file.name, file.messages, file.is_whole) for file in files]


async def test_files_are_listed_with_what_they_take_and_the_messages_that_name_them(home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        assert await ada.stored_files() == []
        await ada.send(ada.room, "", files=[("large", DATA), ("small", b"12345")])
        await ada.send(ada.room, "", files=[("small again", b"12345")])
        large, small = await ada.stored_files()
        assert names([large, small]) == [("large", 1, True), ("small again", 2, True)]
        assert large.size_bytes > len(DATA) and small.size_bytes == 5
        assert [file.name for file in small.attachments] == ["small", "small again"]
        assert large.came_at == large.attachments[0].message.received_at


async def test_many_files_are_read_in_parts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pchat.messaging.attachments.FILES_AT_ONCE", 2)
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        for index in range(5):
            await ada.send(ada.room, "", files=[(f"{index}", bytes([index]) * (1000 + index))])
        await ada.send(ada.room, "", files=[("0 again", bytes(1000))])
        found = [(file.name, file.size_bytes, file.messages) for file in await ada.stored_files()]
        assert found == [("4", 1004, 1), ("3", 1003, 1), ("2", 1002, 1), ("1", 1001, 1), ("0 again", 1000, 2)]
        assert await ada.forget_file((await ada.stored_files())[0].root) == 1004
        assert await ada.forget_file("../identity.pem") == 0 and (home / "ada" / "identity.pem").is_file()


@pytest.mark.parametrize("count", [only_here, _sums])
async def test_other_work_goes_on_while_many_files_are_looked_at(
    count: Callable[[list[StoredFile]], Awaitable[object]],
) -> None:
    files = [StoredFile(f"{index:064x}", 1, True, (), 0, None) for index in range(20 * FILES_AT_ONCE)]
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    working = asyncio.create_task(others())
    found = await count(files)
    working.cancel()
    assert turns >= 20
    assert found in ({file.root for file in files}, {"files": 5000, "size_bytes": 5000, "only_here": 5000})


async def test_the_oldest_go_until_the_rest_fits(home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        for index in range(4):
            await ada.send(ada.room, "", files=[(f"{index}", bytes([index]) * 1000)])
        middle = datetime.now(UTC)
        await ada.send(ada.room, "", files=[("1 again", bytes([1]) * 1000)])
        gone = await ada.forget_files(before=middle, keep_bytes=2500)
        assert sorted(file.name for file in gone) == ["0", "2"]
        assert sorted(file.name for file in await ada.stored_files()) == ["1 again", "3"]
        assert [file.name for file in await ada.stored_files(before=middle)] == ["3"]
        assert await ada.forget_files(keep_bytes=2000) == []
        assert len(await ada.forget_files(keep_bytes=0)) == 2
        assert await ada.stored_files() == [] == list((home / "ada" / "content").iterdir())
        with pytest.raises(ValueError, match="say what is to go"):
            await ada.forget_files()
        with pytest.raises(ValueError, match="time zone"):
            await ada.forget_files(before=datetime(2026, 1, 1))


async def test_no_older_file_goes_for_one_that_does_not_fit_by_itself(home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        for name, size in (("old", 1000), ("middle", 1500), ("large", 9000), ("new", 2000)):
            await ada.send(ada.room, "", files=[(name, name.encode() * (size // len(name)))])
        assert [file.name for file in await ada.forget_files(keep_bytes=5000)] == ["large"]
        assert [file.name for file in await ada.forget_files(keep_bytes=3999)] == ["old"]


async def test_a_forgotten_file_comes_again_when_it_is_asked_for_and_not_by_itself(home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        async with TCPPeer(data=home / "bob", name="bob") as bob:
            assert await bob.connect(ada.port)
            await ada.send(ada.room, "look", files=[("a", DATA), ("b", b"b")])
            here, other = (await newest(bob)).attachments
            async with within(60, "the files"):
                while not (await here.is_here() and await other.is_here()):
                    await asyncio.sleep(0.01)  # poll: the storage answers, and no event says it
            await here.forget()
            assert await bob.forget_file(other.root) == 1 and await bob.forget_file(other.root) == 0
            assert not await here.is_here() and not here.to_dict()["here"] and here.is_forgotten
        async with TCPPeer(data=home / "bob", name="bob") as bob:
            assert await bob.connect(ada.port)
            assert (await newest(bob)).attachments[0].is_forgotten
            await ada.send(ada.room, "again", files=[("a", DATA), ("c", b"c")])
            async with within(60, "the other file of the second message"):
                while True:
                    second = await newest(bob)
                    if second.text == "again" and await second.attachments[1].is_here():
                        break
                    await asyncio.sleep(0.01)  # poll: the storage answers, and no event says it
            assert not await second.attachments[0].is_here()
            async with within(60, "a file that is asked for"):
                assert await second.attachments[0].read() == DATA
            assert not second.attachments[0].is_forgotten


async def test_a_file_that_is_read_is_forgotten_afterwards(home: Path, tmp_path: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        await ada.send(ada.room, "", files=[("a", DATA)])
        [post] = [post for post in await ada.room.history() if isinstance(post, Sent)]
        [file] = post.attachments
        with file._content.held(file.root):
            await file.forget()
            assert await file.is_here()
        async with within(60, "the file to go"):
            while await file.is_here():
                await asyncio.sleep(0.01)  # poll: the storage answers, and no event says it
        await ada.send(ada.room, "", files=[("a", DATA)])
        assert (await file.save(tmp_path / "copy")).read_bytes() == DATA  # what was sent again is here


async def test_a_part_of_a_file_takes_space_until_it_is_forgotten(home: Path) -> None:
    async with (
        TCPPeer(data=home / "ada", name="ada") as ada,
        TCPPeer(data=home / "bob", name="bob", settings=BY_HAND) as bob,
    ):
        assert await bob.connect(ada.port)
        await ada.send(ada.room, "look", files=[("a", DATA)])
        [file] = (await newest(bob)).attachments
        content = bob._lifecycle.require_running().content
        leaves = await ada._lifecycle.require_running().content.run(lambda store: store.leaves(file.root))
        assert leaves is not None
        await content.run(lambda store: store.begin(file.root, file.size, leaves))
        assert names(await bob.stored_files()) == [("a", 1, False)]
        assert await bob.forget_file(file.root) > len(DATA)
        assert await bob.stored_files() == [] == list((home / "bob" / "content").iterdir())
