"""Search with an index: in a file, and in memory where there can be none."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path

import pytest

from p2pchat import History, Settings, StorageError, TCPPeer, UnknownName, open_history
from p2pchat.core.durable_changes import Change, KnownConversation, KnownUser
from p2pchat.identity.profile import Profile
from p2pchat.protocol import Naming
from p2pchat.storage import search_index
from p2pchat.storage.dialects.sqlite_dialect import sqlite_url
from p2pchat.storage.sql_storage import SqlStorage
from p2pchat.testing import Mesh
from tests.deadlines import within
from tests.storage.writers import DM, MORNING, ROOM, Author, released, user

RECORDED = Path(__file__).resolve().parents[3] / "shared/data/irc/ubuntu-2004-11-15.jsonl"
WRITERS = ("ada", "bob", "cyd", "dan")
TEXTS = (
    "the backup failed again", "Backup FAILED, at the café", "did it fail? no: failing", "东京 is 東京",
    "東京タワーへ行く",
    "สวัสดีครับ everybody", "foo_bar-baz https://example.com/x?y=1", "naïve 👍🏽", "don't panic", "straße und strasse",
    "a", "हिन्दी में backup", "the the the", "zq" * 50, "12:04 bob: not by him", "failed backup",
)  # fmt: skip


def texts() -> Iterator[str]:
    """Yield texts, recorded ones if there are any, and made ones between them, from fixed seeds."""
    chance = random.Random(7)
    real = recorded()
    while True:
        yield " ".join(chance.sample(TEXTS, chance.randrange(1, 4)))
        if real:
            yield chance.choice(real)


@cache
def recorded() -> list[str]:
    """Return recorded texts from P2PCHAT_TEST_IRC, or from ../shared/data beside the repository; [] without."""
    path = Path(os.environ.get("P2PCHAT_TEST_IRC", RECORDED))
    if not path.exists():
        return []
    said = map(json.loads, path.read_text("utf-8").splitlines())
    return [line["text"] for line in said if line["kind"] in ("message", "action")]


def write(data: Path, count: int) -> None:
    """Make a profile with messages of several writers, in two conversations, with clocks that cross."""
    with Profile.open(data=data) as profile:
        me = profile.identity.peer_id
        storage = SqlStorage(sqlite_url(profile.database))
        storage.commit(
            [
                Change(
                    conversations=[
                        KnownConversation(ROOM, Naming(room=True)),
                        KnownConversation(DM, Naming(dm=(me, user("bob")))),
                    ],
                    users=[KnownUser(user(name), name, 1) for name in WRITERS],
                )
            ]
        )
        add(storage, count, run=1, place=1)
        storage.close()


def add(storage: SqlStorage, count: int, *, run: int, place: int) -> None:
    chance, said = random.Random(run), texts()
    authors = [Author(name, run, where) for name in WRITERS for where in (ROOM, DM)]
    changes: list[Change] = []
    clock = [MORNING + 100 * n for n in range(len(authors))]
    for _ in range(count // 10):
        n = chance.randrange(len(authors))
        batch = [next(said) for _ in range(10)]
        author = authors[n]
        clock[n] += chance.choice((100, 100, 1_000_000))
        change = author.appends(*batch, c=clock[n]) if author.seq else author.begins(*batch, c=clock[n])
        clock[n] += 10
        changes.append(released(change, place))
        place += 10
    storage.commit(changes)


async def found(history: History, asked: str, **narrowed: object) -> list[str]:
    return [post.id for post in await history.search(asked, limit=40, **narrowed)]  # type: ignore[arg-type]


async def test_an_index_follows_its_database_and_no_other(tmp_path: Path) -> None:
    data = tmp_path / "ada"
    write(data, 100)
    old = (data / "history.db").read_bytes()
    async with open_history(data) as history:
        assert len(await found(history, "the")) > 10
    storage = SqlStorage(sqlite_url(data / "history.db"))
    add(storage, 50, run=2, place=101)
    storage.commit([released(Author("bob", 9).begins("marzipan"), 151)])
    storage.close()
    async with open_history(data) as history:
        assert len(await found(history, "marzipan")) == 1
        assert await found(history, "marzipan", since=(await history.history(limit=1))[0].sent_at) == []
    (data / "history.db").write_bytes(old)  # a backup is restored, and other messages are written
    storage = SqlStorage(sqlite_url(data / "history.db"))
    add(storage, 60, run=3, place=101)
    storage.commit([released(Author("cyd", 9).begins("nougat"), 161)])
    storage.close()
    async with open_history(data) as history:
        assert await found(history, "marzipan") == []
        assert len(await found(history, "nougat")) == 1


@pytest.mark.parametrize("spoiled", [b"", b"this is no database, but long enough to be one" * 100])
async def test_a_damaged_index_is_rebuilt_and_an_impossible_one_made_in_memory(tmp_path: Path, spoiled: bytes) -> None:
    data, index = tmp_path / "ada", tmp_path / "ada" / "search.db"
    write(data, 100)
    index.write_bytes(spoiled)
    async with open_history(data) as history:
        wanted = await found(history, "fail")
        assert len(wanted) > 10
    with closing(sqlite3.connect(index)) as db:
        assert db.execute("select count(*) from docs").fetchone() == (100,)
    index.unlink()
    index.mkdir()
    async with open_history(data) as history:
        assert await found(history, "fail") == wanted


async def test_an_index_that_is_damaged_while_it_is_used_is_made_again(tmp_path: Path) -> None:
    write(tmp_path / "ada", 100)
    async with open_history(tmp_path / "ada") as history:
        wanted = await found(history, "fail")
        with closing(sqlite3.connect(tmp_path / "ada" / "search.db")) as db, db:
            db.execute("update numbers set name = number")
        history._indexer._index._logs.clear()  # type: ignore[union-attr]
        assert await found(history, "fail") == wanted and len(wanted) > 10


async def test_without_room_for_new_words_a_search_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "ada", 100)
    full = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    async with open_history(tmp_path / "ada") as history:
        with pytest.raises(StorageError, match="free some space"):
            await history.search("fail")
    monkeypatch.undo()
    async with open_history(tmp_path / "ada") as history:
        wanted = await found(history, "fail")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
        assert await found(history, "fail") == wanted


async def test_a_python_without_a_full_text_index_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "ada", 10)
    monkeypatch.setattr(search_index, "SCHEMA", "create virtual table text using fts9(said);")
    async with open_history(tmp_path / "ada") as history:
        with pytest.raises(StorageError, match="FTS5"):
            await history.search("fail")


async def test_progress_of_the_index_is_reported(tmp_path: Path) -> None:
    write(tmp_path / "ada", 3000)
    reports: list[tuple[int, int]] = []
    async with open_history(tmp_path / "ada") as history:
        await history.search("nothing of the kind", progress=lambda *done: reports.append(done))
        assert reports == [(1000, 3000), (2000, 3000), (3000, 3000)]
        await history.search("nothing of the kind", progress=lambda *done: reports.append(done))
    assert len(reports) == 3


async def test_a_running_peer_updates_an_index_in_use(tmp_path: Path) -> None:
    async with TCPPeer(0, data=tmp_path / "ada", name="ada", settings=Settings(start_timeout=0.0)) as ada:
        for number in range(10):
            await ada.broadcast(f"tea number {number}")
        assert [post.text for post in await ada.search("tea 2")] == ["tea number 2"]
        await ada.broadcast("and two more teas")
        assert [post.text for post in await ada.search("tea", limit=2)] == ["tea number 9", "and two more teas"]
    assert (tmp_path / "ada" / "search.db").stat().st_mode & 0o77 == 0


@pytest.mark.parametrize("db", [None, "memory://"])
async def test_a_search_finds_the_text_that_is_shown(tmp_path: Path, db: str | None) -> None:
    async with TCPPeer(0, data=tmp_path / "ada", db=db, name="ada", settings=Settings(start_timeout=0.0)) as ada:
        tea, milk = await ada.broadcast("tea at four"), await ada.broadcast("milk")
        for number in range(5):
            await ada.broadcast(f"number {number}")
        assert [post.id for post in await ada.search("tea four")] == [tea.id]
        await ada.edit(tea.id, "coffee at five")
        await ada.delete(milk.id)
        assert [post.id for post in await ada.search("coffee")] == [tea.id]
        assert await ada.search("tea") == await ada.search("milk") == []
        assert [post.text for post in await ada.search("number", limit=1)] == ["number 4"]
        assert (tmp_path / "ada" / "search.db").exists() is (db is None)  # what is in memory only is on no disk


async def test_a_search_needs_a_known_sender(net: Mesh) -> None:
    ada, bob, _ = net.peers
    await ada.broadcast("tea?")
    await bob.broadcast("tea!")
    await net.settle()
    assert [post.text for post in await ada.search("from:bob tea")] == ["tea!"]
    assert [post.text for post in await ada.search("tea from:ada")] == ["tea?"]
    with pytest.raises(UnknownName):
        await ada.search("from:nobody tea")


async def test_deleted_words_leave_the_index_once_nobody_else_reads_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_index, "BUSY_TIMEOUT", 0.05)
    path = home / "ada" / "search.db"
    async with TCPPeer(data=home / "ada") as ada, TCPPeer(0, ada.endpoint, data=home / "bob") as bob:
        await (await bob.broadcast("marzipan")).delivered(timeout=60)
        assert len(await ada.search("marzipan")) == 1
        with closing(sqlite3.connect(path)) as reader:
            reader.execute("begin")
            reader.execute("select count(*) from state").fetchall()
            assert not (await ada.delete_history("room")).is_gone
        assert (await ada.delete_history("room")).is_gone
        assert b"marzipan" not in b"".join(file.read_bytes() for file in path.parent.glob("search.db*"))
        assert await ada.search("marzipan") == []


async def test_words_that_a_killed_process_deleted_leave_the_index_at_the_next_start(home: Path) -> None:
    settings, path = Settings(start_timeout=0.0), home / "ada" / "search.db"
    async with TCPPeer(0, data=home / "bob", name="bob", settings=settings) as bob:
        async with TCPPeer(0, data=home / "ada", name="ada", settings=settings) as ada, within(60, "the search"):
            assert await bob.connect(ada.port, timeout=30)
            await ada.wait_user("bob")
            await (await bob.broadcast("marzipan")).delivered()
            assert len(await ada.search("marzipan")) == 1
    left = path.read_bytes()
    async with TCPPeer(0, data=home / "ada", name="ada", settings=settings) as ada:
        assert (await ada.delete_history("room", sender="bob")).messages == 1
    path.write_bytes(left)  # as if it was killed before the index was cleared
    async with TCPPeer(0, data=home / "ada", name="ada", settings=settings):
        pass
    assert b"marzipan" in left and b"marzipan" not in path.read_bytes()
