"""Copies from each kind of database into each other: complete and equal, or nothing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import count, pairwise
from pathlib import Path
from random import Random

import pytest

from p2pchat.backup import copy_rows
from p2pchat.core.durable_changes import Address, Change, FormerName, KnownConversation, KnownUser, PruneKey, Stored
from p2pchat.errors import StorageError
from p2pchat.protocol import Naming, PeerRecord
from p2pchat.storage.dialects.sqlite_dialect import sqlite_url
from p2pchat.storage.sql_storage import SqlStorage
from p2pchat.storage.temporary_storage import TemporaryStorage
from tests.long.storage.test_agreement import GROUP, KINDS, Story, everything_read, resolved
from tests.storage.conftest import SMALL
from tests.storage.writers import MORNING, ROOM, Author, many, released, user

NewDatabase = Callable[[str], str]


@pytest.fixture
def made(tmp_path: Path, new_database: NewDatabase) -> NewDatabase:
    """Return a function that makes an empty database of a kind."""

    numbers = count()

    def make(kind: str) -> str:
        return sqlite_url(tmp_path / f"{next(numbers)}.db") if kind == "sqlite" else new_database(kind)

    return make


def of_everything(story: Story) -> list[Change | PruneKey]:
    """Return changes that fill every table."""
    random, kinds = Random(8), KINDS.split()
    changes = [story.change(random.choice(kinds), random.randrange(10), random.randint(1, 9)) for _ in range(60)]
    more = Change(
        conversations=[KnownConversation(ROOM, Naming(room=True)), GROUP], users=[KnownUser(user("ada"), "Ada", 5, "")]
    )
    more.former_names = [FormerName(user("ada"), "Äda ", 3)]
    more.addresses = [Address("ab" * 32, "[::1]:8080", 1, 0)]
    more.records = {"ab" * 32: PeerRecord(json.dumps({"id": "ab" * 32, "at": 1, "e": ["[::1]:8080"]}), "0f" * 64)}
    more.consumers, more.meta = {"bot": 3}, {"network": "k"}
    return [*changes, more, PruneKey(ROOM, before=MORNING + 2)]


def read(url: str, story: Story) -> list[object]:
    with closing(SqlStorage(url, SMALL)) as storage:  # as a peer opens it
        return everything_read(storage, story, [1, 2, 3])


def test_a_copy_from_any_kind_to_any_other_is_complete_and_equal(made: NewDatabase) -> None:
    story, memory = Story(), TemporaryStorage(SMALL)
    way = ["sqlite", "mariadb", "postgresql", "sqlite", "postgresql", "mariadb", "sqlite"]
    urls = [made(way[0])]
    with closing(SqlStorage(urls[0], SMALL)) as storage:
        for step in of_everything(story):
            change = resolved(step, memory, storage)
            storage.commit([change])
            memory.commit([change])
    wanted = everything_read(memory, story, [1, 2, 3])
    assert read(urls[0], story) == wanted
    deleted = sum(facts.pruned for facts in memory.logs_of(ROOM, user("ada")) + memory.logs_of(ROOM, user("bob")))
    assert deleted
    for kind in way[1:]:
        urls.append(made(kind))
    for source, target in pairwise(urls):
        progress: list[tuple[int, int]] = []
        copied = copy_rows(source, target, lambda *step, progress=progress: progress.append(step))
        held = sum(one.seq for one in story.authors) - deleted
        assert progress[-1] == (copied.rows, copied.rows) and copied.entries == held
        assert read(target, story) == wanted


def test_a_target_that_is_not_empty_is_left_unchanged(made: NewDatabase) -> None:
    source, target = made("sqlite"), made("sqlite")
    bob = Author("bob", 1)
    with closing(SqlStorage(source, SMALL)) as storage:
        storage.commit([Author("ada", 1).begins("1")])
    with closing(SqlStorage(target, SMALL)) as storage:
        storage.commit([released(bob.begins("mine"), 1)])
    with pytest.raises(StorageError, match="holds something already: copy into an empty database"):
        copy_rows(source, target)
    with closing(SqlStorage(target, SMALL)) as storage:
        assert [shown.raw for shown in storage.history(None)] == bob.raws


@pytest.mark.parametrize("kind", ["mariadb", "postgresql"])
def test_a_database_in_use_by_a_peer_is_not_copied(made: NewDatabase, kind: str) -> None:
    there, here = made(kind), made("sqlite")
    with closing(SqlStorage(there, SMALL)):
        with pytest.raises(StorageError, match="in use by another peer"):
            copy_rows(there, here)
        with closing(SqlStorage(made("sqlite"), SMALL)) as storage:
            source = storage._url
        with pytest.raises(StorageError, match="in use by another peer"):
            copy_rows(source, there)
    assert copy_rows(there, made("sqlite")).rows == 0


def test_a_value_the_target_cannot_take_leaves_it_empty(made: NewDatabase, tmp_path: Path) -> None:
    """PostgreSQL does not take this value, which no peer writes."""
    source, target = sqlite_url(tmp_path / "ada.db"), made("postgresql")
    with closing(SqlStorage(source, SMALL)) as storage:
        storage.commit([Author("ada", 1).begins(*many(2000)), Change(meta={"note": "x"})])
    with closing(sqlite3.connect(tmp_path / "ada.db")) as database, database:
        database.execute("update meta set value = 'a' || char(0) where name = 'note'")
    with pytest.raises(StorageError, match="cannot be used"):
        copy_rows(source, target)
    with closing(SqlStorage(target, SMALL)) as storage:
        assert storage.load([]) == Stored()
    with closing(sqlite3.connect(tmp_path / "ada.db")) as database, database:
        database.execute("update meta set value = 'b' where name = 'note'")
    assert copy_rows(source, target).entries == 2000


def test_an_incomplete_copy_is_undone(made: NewDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = made("sqlite"), made("sqlite")
    with closing(SqlStorage(source, SMALL)) as storage:
        storage.commit([Author("ada", 1).begins("1")])
    monkeypatch.setattr("p2pchat.backup._pages", lambda database, table: iter(()))
    with pytest.raises(StorageError, match=r"the copy has 0 rows of .* and not 1: nothing of it was kept"):
        copy_rows(source, target)
    monkeypatch.undo()
    assert copy_rows(source, target).entries == 1
