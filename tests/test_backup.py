"""Backups of a profile: complete, private, made beside a running peer."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from p2pchat import InviteError, P2PChatError, Sent, StorageError, TCPPeer, backup_profile, copy_database, open_history
from p2pchat.storage.content_store import CONTENT_NAME
from tests.deadlines import WAIT, within
from tests.messaging.conftest import home as home
from tests.messaging.texts import texts


async def test_a_backup_of_a_running_peer_can_replace_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        await ada.broadcast("before")
        done: list[tuple[int, int]] = []
        backup = await backup_profile(home / "ada", home / "copy", progress=lambda *told: done.append(told))
        await ada.broadcast("after")
        me, room = ada.me.id, ada.room.id
    assert done[-1][0] == done[-1][1] > 0
    assert backup.size_bytes > done[-1][1]
    monkeypatch.setenv("P2PCHAT_HOME", str(home / "another machine"))
    async with TCPPeer(data=backup.directory) as copy:
        assert (copy.me.id, copy.me.name) == (me, "ada")
        assert await texts(copy, "room") == ["before"]
        assert copy.room.id == room and copy.people.own_role == "founder"
        with pytest.raises(InviteError, match="the key of this member is elsewhere"):  # it is not in a backup
            await copy.make_invite()
        await copy.broadcast("it goes on")


async def test_a_backup_has_the_files_that_are_here_whole(home: Path) -> None:
    small, large = b"a small file", bytes(range(256)) * 3000
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        await ada.send(ada.room, "look", files=[("small.txt", small), ("large.bin", large), ("none", b"")])
        store = home / "ada" / CONTENT_NAME
        (store / f"{'ab' * 32}.part").write_bytes(bytes(300_000))  # a download under way
        (store / f"{'ab' * 32}.had").write_bytes(b"its record")
        (store / "7.new").write_bytes(b"a file on its way into a message")
        done: list[tuple[int, int]] = []
        backup = await backup_profile(home / "ada", home / "copy", progress=lambda *told: done.append(told))
        without = await backup_profile(home / "ada", home / "texts only", files=False)
    assert done == sorted(done) and done[-1][0] == done[-1][1] > len(small + large)
    assert backup.size_bytes - without.size_bytes >= len(small + large)
    assert not (without.directory / CONTENT_NAME).exists()
    names = {path.name for path in (backup.directory / CONTENT_NAME).iterdir()}
    assert len(names) == 4 and not any("ab" * 32 in name or name.endswith(".new") for name in names)
    async with TCPPeer(data=backup.directory) as copy:
        (message,) = await copy.room.history()
        assert [await file.is_here() for file in message.attachments] == [True] * 3
        assert [await file.read() for file in message.attachments] == [small, large, b""]
    async with TCPPeer(data=without.directory) as copy:
        (message,) = await copy.room.history()
        assert [file.name for file in message.attachments] == ["small.txt", "large.bin", "none"]
        assert not await message.attachments[0].is_here()


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such files")
async def test_a_backup_follows_no_link_and_reads_no_pipe_among_the_content(home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        await ada.send(ada.room, "look", files=[("one", b"1" * 1000)])
    store = home / "ada" / CONTENT_NAME
    (found,) = store.iterdir()
    (home / "private").write_bytes(b"of somebody else")
    (store / ("ab" * 32)).symlink_to(home / "private")
    backup = await backup_profile(home / "ada", home / "copy")
    assert [path.name for path in (backup.directory / CONTENT_NAME).iterdir()] == [found.name]
    if hasattr(os, "mkfifo"):
        os.mkfifo(store / ("cd" * 32))
    again = await backup_profile(home / "ada", home / "again")
    assert [path.name for path in (again.directory / CONTENT_NAME).iterdir()] == [found.name]


async def test_a_file_that_is_deleted_during_a_backup_is_left_out(home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        await ada.send(ada.room, "look", files=[("one", b"1" * 1000), ("other", b"2" * 1000)])
        first, last = sorted((home / "ada" / CONTENT_NAME).iterdir())
        told: list[tuple[int, int]] = []

        def delete(done: int, total: int) -> None:
            told.append((done, total))
            if total - done == 1000:  # one of two is copied
                last.unlink(missing_ok=True)

        await backup_profile(home / "ada", home / "copy", progress=delete)
    assert [path.name for path in (home / "copy" / CONTENT_NAME).iterdir()] == [first.name]
    assert told[-1][0] == told[-1][1]


@pytest.mark.parametrize(("error", "raised"), [(KeyError, KeyError), (StopIteration, RuntimeError)])
async def test_a_progress_function_that_raises_ends_its_copy(
    home: Path, error: type[Exception], raised: type[Exception]
) -> None:
    async with TCPPeer(data=home / "ada", name="ada"):
        pass

    def fail(done: int, total: int) -> None:
        raise error

    async with within(WAIT, "the failure of the copies"):
        with pytest.raises(raised):
            await backup_profile(home / "ada", home / "copy", progress=fail)
        with pytest.raises(raised):
            await copy_database(home / "ada", home / "other", progress=fail)


async def test_a_database_is_not_copied_onto_itself(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with TCPPeer(data=home / "ada", name="ada"):
        pass
    monkeypatch.chdir(home)
    for source in ("ada", home / "ada", f"sqlite:///{home / 'ada' / 'history.db'}"):
        with pytest.raises(P2PChatError, match="same database"):
            await copy_database(source, "ada/")


async def test_a_backup_during_writes_is_of_one_moment(home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        await ada.send_many(ada.room, [f"{number:05} {'x' * 900}" for number in range(3000)])
        writing = asyncio.create_task(_write_on(ada))
        await backup_profile(home / "ada", home / "copy")
        writing.cancel()
    async with open_history(home / "copy") as history:
        said = [post.text[:5] for post in await history.history("room", limit=0)]
        assert not (await history.check()).faults
    assert len(said) >= 3000
    assert said == [f"{number:05}" for number in range(len(said))]


async def _write_on(peer: TCPPeer) -> None:
    number = 3000
    while True:
        await peer.broadcast(f"{number:05}")
        number += 1


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
async def test_a_backup_is_private_and_has_no_files_of_a_process(home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada"):
        (home / "ada" / "input_history").write_text("what was typed")
        (home / "ada" / "settings").symlink_to("/etc/passwd")
        await backup_profile(home / "ada", home / "copy")
    assert (home / "copy").stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in (home / "copy").iterdir()} == dict.fromkeys(
        ("identity.pem", "network", "guest", "history.db", "input_history"), 0o600
    )


async def test_a_restored_old_backup_gets_back_what_it_lacks(home: Path) -> None:
    async with TCPPeer(data=home / "bob", name="bob") as bob:
        async with TCPPeer(0, bob.port, data=home / "ada", name="ada") as ada:
            await (await ada.broadcast("kept")).delivered(timeout=60, count=1)
            await backup_profile(home / "ada", home / "copy")
            await (await ada.broadcast("lost and found")).delivered(timeout=60, count=1)
        ada = TCPPeer(0, bob.port, data=home / "copy")
        back = ada.events(Sent, consumer=None)
        async with ada:
            await (await ada.broadcast("new")).delivered(timeout=60, count=1)
            assert {(await anext(back)).text for _ in range(2)} == {"lost and found", "new"}
        assert await texts(bob, "room") == ["kept", "lost and found", "new"]


async def test_a_backup_overwrites_nothing_and_a_failed_one_leaves_nothing(home: Path) -> None:
    (home / "full").mkdir()
    (home / "full" / "letter").write_text("mine")
    (home / "file").write_text("mine")
    (home / "empty").mkdir()
    with pytest.raises(P2PChatError, match="there is no peer"):
        await backup_profile(home / "ada", home / "copy")
    async with TCPPeer(data=home / "ada"):
        for there in ("full", "file"):
            with pytest.raises(P2PChatError, match="not empty"):
                await backup_profile(home / "ada", home / there)
        await backup_profile(home / "ada", home / "empty")
        with pytest.raises(StorageError):
            await backup_profile(home / "ada", home / "copy", db=f"sqlite:///{home}/nowhere.db")
        with pytest.raises(P2PChatError, match="in memory"):
            await backup_profile(home / "ada", home / "copy", db="memory://")
        with pytest.raises(P2PChatError, match="its own backup tools"):
            await backup_profile(home / "ada", home / "copy", db="mysql://db/chat")
    assert sorted(path.name for path in home.iterdir() if path.name != "home") == ["ada", "empty", "file", "full"]


async def test_an_incomplete_backup_is_removed_by_the_next_one(home: Path) -> None:
    for name, age in (("0123456789ab", 25 * 3600), ("ba9876543210", 0)):
        half = home / f".copy.{name}.new"
        half.mkdir(parents=True)
        (half / "history.db").write_text("half")
        for path in (half / "history.db", half):
            os.utime(path, (time.time() - age,) * 2)
    async with TCPPeer(data=home / "ada", name="ada"):
        await backup_profile(home / "ada", home / "copy")
    assert [path.name for path in home.glob(".copy.*")] == [".copy.ba9876543210.new"]
