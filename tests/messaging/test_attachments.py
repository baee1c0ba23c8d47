"""Attachments: sent by a program, fetched by others, with real peers, disks and links."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from p2pchat import (
    FileArrived,
    FileProgress,
    Message,
    P2PChatError,
    PeerClosed,
    Settings,
    StorageError,
    TCPPeer,
    open_history,
)
from p2pchat.core.content.pieces import PIECE_BYTES
from p2pchat.messaging.attachments import FileToSend
from p2pchat.runtime.content_worker import MEMORY_BYTES
from p2pchat.testing import Mesh
from p2pchat.web.message_form import chat_json
from tests.deadlines import WAIT, until, within
from tests.messaging.conftest import home as home
from tests.messaging.conftest import net as net

BY_HAND = Settings(auto_fetch_bytes=0)
DATA = random.Random(1).randbytes(5 * PIECE_BYTES + 77)


async def newest(peer: TCPPeer) -> Message:
    """Return the newest message of others in the room."""
    async with within(60, "a message with a file"):
        while True:
            found = [post for post in await peer.room.history() if isinstance(post, Message)]
            if found:
                return found[-1]
            await asyncio.sleep(0.01)  # poll: the storage answers, and no event says it


def without_holders(message: Message) -> dict[str, object]:
    """Return what a message says of its first file, but for who is known to have it by now."""
    return {name: value for name, value in message.to_dict()["files"][0].items() if name != "held_by"}


async def two_parts() -> AsyncIterator[bytes]:
    yield DATA[:300_000]
    yield DATA[300_000:]


async def test_a_file_is_sent_fetched_and_saved(home: Path, tmp_path: Path) -> None:
    source = tmp_path / "a picture.png"
    source.write_bytes(DATA)
    async with (
        TCPPeer(data=home / "ada", name="ada") as ada,
        TCPPeer(data=home / "bob", name="bob", settings=BY_HAND) as bob,
    ):
        assert await bob.connect(ada.port)
        files: list[FileToSend] = [source, ("../x.txt", b"small"), ("parts", two_parts()), ("empty", b"")]
        await ada.send(ada.room, "look", files=files)
        message = await newest(bob)
        assert message.text == "look"
        picture, small, parts, empty = message.attachments
        assert [(one.name, one.size, one.type) for one in message.attachments] == [
            ("a picture.png", len(DATA), "image/png"), ("../x.txt", 5, "text/plain"), ("parts", len(DATA), ""),
            ("empty", 0, ""),
        ]  # fmt: skip
        assert parts.root == picture.root and not await picture.is_here()
        said = {"name": "a picture.png", "size": len(DATA), "type": "image/png", "root": picture.root}
        assert without_holders(message) == {**said, "here": False}
        seen: list[tuple[int, int]] = []
        async with within(60, "the content"):
            saved = await picture.save(tmp_path, progress=lambda here, size: seen.append((here, size)))
            assert await small.read() == b"small" and await empty.read() == b""
            assert await parts.is_here() and await parts.read() == DATA
            again = await parts.save(tmp_path / "copy")
        assert saved == tmp_path / "a picture (2).png" and saved.read_bytes() == DATA
        assert again.read_bytes() == DATA
        assert without_holders(message) == {**said, "here": True}
        assert chat_json(message)["files"] == message.to_dict()["files"]
        assert seen == sorted(seen) and seen[0] == (0, len(DATA))
        assert (await small.save(tmp_path)).name == "x.txt"
        assert "picture" not in repr(picture)
    history = open_history(home / "bob")
    async with history:
        (stored,) = [post for post in await history.room.history() if isinstance(post, Message)]
        assert [one.name for one in stored.attachments][:2] == ["a picture.png", "../x.txt"]
        assert not stored.to_dict()["files"][0]["here"]
        with pytest.raises(P2PChatError):
            await stored.attachments[0].read()


@pytest.mark.parametrize(
    ("error", "raised"), [(KeyError, KeyError), (SystemExit, SystemExit), (StopIteration, RuntimeError)]
)
async def test_a_progress_function_that_raises_ends_its_own_fetch_alone(
    net: Mesh, error: type[BaseException], raised: type[BaseException]
) -> None:
    ada, bob, _ = net.peers
    await ada.send(ada.room, "look", files=[("data", DATA)])
    (file,) = (await newest(bob)).attachments

    def fail(here: int, size: int) -> None:
        raise error

    seen: list[int] = []
    async with within(60, "the content"):
        failing = asyncio.create_task(_outcome(file.fetch(fail)))
        await file.fetch(lambda here, size: seen.append(here))
        assert type(await failing) is raised
    assert seen == sorted(seen) and len(seen) > 1 and await file.read() == DATA
    await (await bob.send("ada", "it is here")).delivered(timeout=60)


async def _outcome(call: Awaitable[None]) -> BaseException | None:
    try:
        await call
    except BaseException as error:
        return error
    return None


async def test_others_give_what_its_writer_gave_them(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    await ada.send(ada.room, "", files=[("a", DATA)])
    (attachment,) = (await newest(bob)).attachments
    async with within(60, "the content at bob"):
        await attachment.fetch()
    (theirs,) = (await newest(cyd)).attachments
    await net.crash(ada)
    async with within(60, "the content from bob"):
        assert await theirs.read() == DATA


async def test_who_waits_gets_it_from_whoever_comes(net: Mesh) -> None:
    ada, bob, _ = net.peers
    await ada.send(ada.room, "", files=[("a", DATA)])
    (attachment,) = (await newest(bob)).attachments
    await net.crash(ada)
    fetching = [asyncio.create_task(attachment.fetch()) for _ in range(2)]
    await asyncio.sleep(0)
    fetching.pop().cancel()
    ada = await net.restart(ada)
    sent = [post for post in await ada.room.history() if post.text == ""]
    assert not sent or sent[-1].attachments
    await ada.send(ada.room, "again", files=[("a", DATA)])
    async with within(60, "the content"):
        await fetching[0]
        assert await attachment.read() == DATA


async def test_a_direct_conversation_gives_its_files_to_nobody_else(net: Mesh) -> None:
    ada, bob, cyd = net.peers
    await ada.send("bob", "", files=[("secret", DATA)])
    async with within(60, "the message"):
        while not (posts := [post for post in await bob.find("ada").history() if isinstance(post, Message)]):
            await asyncio.sleep(0.01)  # poll: the storage answers, and no event says it
    (attachment,) = posts[-1].attachments
    async with within(60, "the content"):
        assert await attachment.read() == DATA
    assert not [post for post in await cyd.room.history() if post.attachments]


@pytest.mark.parametrize("count", [11])
async def test_what_cannot_be_sent_is_refused(ada: TCPPeer, tmp_path: Path, count: int) -> None:
    with pytest.raises(ValueError, match="at most 10 files"):
        await ada.send(ada.room, "x", files=[("a", b"")] * count)
    with pytest.raises(FileNotFoundError):
        await ada.send(ada.room, "x", files=[tmp_path / "nothing"])
    with pytest.raises(IsADirectoryError if os.name == "posix" else PermissionError):
        await ada.send(ada.room, "x", files=[str(tmp_path)])
    with pytest.raises(P2PChatError, match="too long together"):
        await ada.send(ada.room, "x" * 30_000, files=[("😀" * 4000, b"")] * 10)
    with pytest.raises(ValueError, match="the text is empty"):
        await ada.send(ada.room, "")
    assert not await ada.room.history()


def _shrink(path: Path) -> None:
    os.truncate(path, len(DATA))


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def _overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")


@pytest.mark.parametrize("change", [_shrink, _grow, _overwrite])
async def test_a_file_that_changes_while_it_is_read_is_not_sent(
    home: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """A file has many pieces, and each takes a turn of the loop: it is changed in one that finds the first."""
    source, copy = tmp_path / "report", home / "ada" / "content" / "1.new"
    source.write_bytes(b"")
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        for works in (lambda: ada.send(ada.room, "the report", files=[source]), lambda: ada.keep_file(source)):
            os.truncate(source, 64 * 1024 * 1024)
            os.utime(source, (1, 1))
            reading = asyncio.ensure_future(works())
            while not (copy.exists() and copy.stat().st_size):
                await asyncio.sleep(0)
            assert not reading.done()
            change(source)
            with pytest.raises(OSError, match="written while it was read: send it when nothing writes it"):
                await reading
            copy = copy.with_name("2.new")
        assert await ada.room.history() == []
        await until(lambda: not any((home / "ada" / "content").iterdir()), "the removal of what was copied")


async def test_a_peer_in_memory_keeps_little(ada: TCPPeer) -> None:
    with pytest.raises(StorageError, match="in memory"):
        await ada.send(ada.room, "x", files=[("a", bytes(MEMORY_BYTES + 1))])


async def test_texts_and_files_keep_their_order(ada: TCPPeer) -> None:
    first = asyncio.create_task(ada.send(ada.room, "1", files=[("a", DATA)]))
    await first
    await asyncio.gather(ada.send(ada.room, "2"), ada.send(ada.room, "3", files=[("b", b"b")]))
    posts = await ada.room.history()
    assert {post.text for post in posts} == {"1", "2", "3"} and posts[0].text == "1"
    assert {post.text: len(post.attachments) for post in posts} == {"1": 1, "2": 0, "3": 1}


async def test_files_of_any_kind_and_size_keep_their_places(home: Path, tmp_path: Path) -> None:
    small, large, empty = (tmp_path / name for name in ("small", "large", "empty"))
    for path, data in ((small, b"small"), (large, DATA), (empty, b"")):
        path.write_bytes(data)
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        kept = await ada.keep_file(("kept", b"kept"))
        files: list[FileToSend] = [
            large, ("parts", two_parts()), small, kept, ("bytes", b"bytes"), empty, ("many", DATA[::-1]), str(small),
        ]  # fmt: skip
        await ada.send(ada.room, "", files=files)
        (post,) = await ada.room.history()
        assert [(file.name, await file.read()) for file in post.attachments] == [
            ("large", DATA), ("parts", DATA), ("small", b"small"), ("kept", b"kept"), ("bytes", b"bytes"),
            ("empty", b""), ("many", DATA[::-1]), ("small", b"small"),
        ]  # fmt: skip


async def test_a_deleted_message_shows_and_gives_no_files(net: Mesh) -> None:
    ada, bob, _ = net.peers
    receipt = await ada.send(ada.room, "x", files=[("a", DATA)])
    message = await newest(bob)
    await (await ada.delete(receipt.id)).delivered(timeout=60)
    assert not (await newest(bob)).attachments
    fetching = asyncio.create_task(message.attachments[0].fetch())
    await until(lambda: ada.counted.get("pull_refused"), "a refusal")
    fetching.cancel()


async def test_a_closed_peer_fetches_nothing(home: Path) -> None:
    async with (
        TCPPeer(data=home / "ada", name="ada") as ada,
        TCPPeer(data=home / "bob", name="bob", settings=BY_HAND) as bob,
    ):
        assert await bob.connect(ada.port)
        await ada.send(ada.room, "x", files=[("a", DATA)])
        (attachment,) = (await newest(bob)).attachments
        await ada.aclose()
        fetching = asyncio.create_task(attachment.fetch())
        await asyncio.sleep(0)
        await bob.aclose()
        with pytest.raises(PeerClosed):
            await fetching
        with pytest.raises(PeerClosed):
            await attachment.read()


async def test_a_small_file_comes_by_itself_and_a_large_one_when_it_is_asked_for(home: Path) -> None:
    few = Settings(auto_fetch_bytes=len(DATA))
    async with (
        TCPPeer(data=home / "ada", name="ada") as ada,
        TCPPeer(data=home / "bob", name="bob", settings=few) as bob,
    ):
        assert await bob.connect(ada.port)
        heard = bob.events(FileArrived, FileProgress, consumer=None)
        await ada.send(ada.room, "look", files=[("large", DATA + b"x"), ("small", DATA), ("empty", b"")])
        large, small, empty = (await newest(bob)).attachments
        async with within(60, "the small files"):
            while not (await small.is_here() and await empty.is_here()):
                await asyncio.sleep(0.01)  # poll: the storage answers, and no event says it
        assert not await large.is_here()
        told: list[FileArrived | FileProgress] = []
        async with within(60, "the events of their arrival"):
            while {one.name for one in told if isinstance(one, FileArrived)} != {"small", "empty"}:
                told.append(await anext(heard))
        assert {(one.id, one.root, one.size) for one in told if one.name == "small"} == {
            (small.message.id, small.root, small.size)
        }
        assert all(0 < one.stored < one.size for one in told if isinstance(one, FileProgress))


async def test_what_was_under_way_at_the_end_comes_after_the_next_start(home: Path) -> None:
    async with (
        TCPPeer(data=home / "ada", name="ada") as ada,
        TCPPeer(data=home / "bob", name="bob", settings=BY_HAND) as bob,
    ):
        assert await bob.connect(ada.port)
        await ada.send(ada.room, "look", files=[("a", DATA)])
        (attachment,) = (await newest(bob)).attachments
        await ada.aclose()
        fetching = asyncio.create_task(attachment.fetch())
        await asyncio.sleep(0)
        await bob.broadcast("kept")  # its commit comes after that of the request
        await bob.aclose()
        with pytest.raises(PeerClosed):
            await fetching
    async with (
        TCPPeer(data=home / "ada", name="ada") as ada,
        TCPPeer(data=home / "bob", name="bob", settings=BY_HAND) as bob,
    ):
        assert await bob.connect(ada.port)
        (attachment,) = (await newest(bob)).attachments
        async with within(60, "the file that was asked for before"):
            while not await attachment.is_here():
                await asyncio.sleep(0.01)  # poll: the storage answers, and no event says it


async def test_what_was_kept_is_sent_with_any_number_of_messages_and_read_in_parts(home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        kept = await ada.keep_file(("a.bin", two_parts()), type="image/png", size=len(DATA))
        assert (kept.name, kept.size, kept.type) == ("a.bin", len(DATA), "image/png") and "a.bin" not in repr(kept)
        for text in ("one", ""):
            await ada.send(ada.room, text, files=[kept, ("b.txt", b"x")])
        for post in await ada.room.history():
            first = post.attachments[0]
            assert (first.root, first.type) == (kept.root, "image/png")
            for start, stop in ((0, 1), (PIECE_BYTES - 1, PIECE_BYTES + 1), (PIECE_BYTES, None), (7, 7), (7, 900_000)):
                assert await first.read(start, stop) == DATA[start:stop]
            for start, stop in ((-1, 5), (5, 4), (0, len(DATA) + 1)):
                with pytest.raises(ValueError, match="has no bytes from"):
                    await first.read(start, stop)
        (home / "ada" / "content" / kept.root).unlink()
        with pytest.raises(ValueError, match="not here any more: send the file anew"):
            await ada.send(ada.room, "gone", files=[kept])
        assert len(await ada.room.history()) == 2
        with pytest.raises(StorageError, match="no room for"):
            await ada.keep_file(("huge", two_parts()), size=1 << 60)


async def test_what_was_kept_stays_until_it_is_discarded(home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        kept = await ada.keep_file(("a.bin", b"a"))
        also = await ada.keep_file(("b.bin", b"b"))
        remover = ada._lifecycle.started_driver.removal
        assert await remover.sweep() == 0
        await ada.send(ada.room, "", files=[kept])
        kept.discard()
        also.discard()
        also.discard()
        content = home / "ada" / "content"
        await until(lambda: not (content / also.root).exists(), "the removal")
        assert (content / kept.root).read_bytes() == b"a"
        with pytest.raises(ValueError, match="not here any more"):
            await ada.send(ada.room, "", files=[also])


async def test_what_is_discarded_while_it_is_sent_stays(home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        kept = await ada.keep_file(("a.bin", b"a"))
        content = ada._lifecycle.started_driver.content
        gate = threading.Event()
        content.run_soon(lambda store: gate.wait(WAIT))
        sent = asyncio.create_task(ada.send(ada.room, "", files=[kept]))
        kept.discard()
        for _ in range(2):  # the store is asked whether it is here, behind the gate, and it is let go
            await asyncio.sleep(0)
        left = content.without_held([kept.root])
        swept = asyncio.create_task(content.run(lambda store: store.sweep(left)))  # what a sweep does last
        await asyncio.sleep(0)
        gate.set()
        await swept
        await sent
        assert (home / "ada" / "content" / kept.root).read_bytes() == b"a"
