"""The search index."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from p2pchat.core.durable_changes import EVERYTHING, Change
from p2pchat.core.log import Entry, Ref, encode_entry, ref_key
from p2pchat.storage import search_index
from p2pchat.storage.dialects.sqlite_dialect import sqlite_url
from p2pchat.storage.search_index import NOWHERE, IndexHit, SearchIndex, clock_of, documents_of
from p2pchat.storage.search_words import parse_query
from p2pchat.storage.sql_storage import SqlStorage
from tests.storage.writers import DM, MORNING, ROOM, Author, released, user

LAST = 1 << 62


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[SqlStorage]:
    storage = SqlStorage(sqlite_url(tmp_path / "history.db"))
    yield storage
    storage.close()


@pytest.fixture
def index(tmp_path: Path) -> Iterator[SearchIndex]:
    index = SearchIndex(tmp_path / "search.db")
    yield index
    index.close()


def found(index: SearchIndex, asked: str, conversation: str | None = None, writer: str | None = None) -> list[str]:
    """Return the hits, newest first, as writer, log and seq."""
    conversations = None if conversation is None else (conversation,)
    hits = index.find(parse_query(asked), conversations, writer and user(writer), LAST, 0, 100)
    return [_name(hit) for hit in hits]


def _name(hit: IndexHit) -> str:
    name = next(name for name in ("ada", "bob") if user(name) == hit.log.user)
    return f"{name}{int(hit.log.run, 16)}.{hit.seq}"


def test_feeding_continues_where_it_ended_and_hits_come_newest_first(storage: SqlStorage, index: SearchIndex) -> None:
    ada, bob, dm = Author("ada", 1), Author("bob", 1), Author("ada", 2, DM)
    storage.commit([released(ada.begins("tea", "more tea", c=MORNING + 10), 1)])
    assert index.position() == NOWHERE and index.belongs_to(storage)
    assert [index.feed(storage, most=1) for _ in range(3)] == [1, 1, 0]
    storage.commit([released(bob.begins("old tea", c=MORNING), 3), released(dm.begins("tea?", c=MORNING + 11), 4)])
    assert index.feed(storage) == 2 and index.position().place == 4
    assert found(index, "tea") == ["ada2.1", "ada1.2", "ada1.1", "bob1.1"]  # two of one clock: the later place first
    assert found(index, "tea", conversation=ROOM) == ["ada1.2", "ada1.1", "bob1.1"]
    assert found(index, "tea", writer="bob") == ["bob1.1"] and found(index, "tea", DM, "bob") == []
    assert [clock_of(hit.id) - MORNING for hit in index.find(parse_query("tea"), None, None, LAST, 0, 2)] == [11, 11]
    several = index.find(parse_query("tea"), (*map("{:064x}".format, range(1200)), DM, ROOM), None, LAST, 0, 3)
    assert [_name(hit) for hit in several] == ["ada2.1", "ada1.2", "ada1.1"]
    assert index.find(parse_query("tea"), ("00" * 32,), None, LAST, 0, 3) == []
    assert index.find(parse_query("tea"), (), None, LAST, 0, 3) == []
    index.forget(storage)
    assert index.position() == NOWHERE and found(index, "tea") == []


def test_the_names_of_many_logs_are_not_kept_in_memory(
    storage: SqlStorage, index: SearchIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: all of them, 250 bytes each, and anybody can begin any number of logs."""
    monkeypatch.setattr(search_index, "MOST_NAMES", 10)
    for number in range(1, 41):
        storage.commit([released(Author("ada", number).begins("tea", c=MORNING + number), number)])
        assert index.feed(storage) == 1
        assert len(index._names) <= 10 + 3
    assert found(index, "tea") == [f"ada{number}.1" for number in range(40, 0, -1)]
    assert len(index._logs) <= 10


def test_hidden_entries_are_indexed_since_they_may_become_visible(storage: SqlStorage, index: SearchIndex) -> None:
    ada = Author("ada", 1)
    storage.commit([released(ada.begins("one", "two"), 1), Change(visible={ada.log: 1})])
    index.feed(storage)
    assert index.position().place == 2 and index.belongs_to(storage)
    storage.commit([Change(visible={ada.log: EVERYTHING})])
    assert found(index, "two") == ["ada1.2"]


def test_an_edit_is_found_at_its_message_if_both_have_the_same_writer(storage: SqlStorage, index: SearchIndex) -> None:
    ada, bob = Author("ada", 1), Author("bob", 1)
    storage.commit([released(ada.begins("tea", c=MORNING), 1), released(bob.begins("milk", c=MORNING + 5), 2)])
    index.feed(storage)
    (tea,) = storage.places(0, 1)
    for editor, expected in ((ada, ["ada1.1"]), (bob, [])):
        edit = Entry("edit", 9, 9, re=Ref(ref_key(ada.log.user, ada.log.run), 1), b="coffee")
        shown = storage.places(0, 2)[editor is bob]
        docs = documents_of(storage, type(shown)(shown.log, 7, encode_entry(edit), 7, 0, False, False), edit)
        assert [f"ada1.{doc.seq}" for doc in docs if doc.log == tea.log and doc.c == MORNING] == expected


@pytest.mark.parametrize("version", [0, 1, 7])
def test_another_file_in_its_place_is_replaced_and_the_target_of_a_link_is_not(tmp_path: Path, version: int) -> None:
    path, other = tmp_path / "search.db", tmp_path / "diary.db"
    for place in (path, other):
        with closing(sqlite3.connect(place)) as db:
            db.executescript(
                f"create table state (day); insert into state values ('monday'); pragma user_version={version}"
            )
    index = SearchIndex(path)
    assert index.position() == NOWHERE
    index.close()
    path.unlink()
    try:
        path.symlink_to(other)
    except OSError:
        pytest.skip("links need rights here")
    index = SearchIndex(path)
    assert index.position() == NOWHERE
    index.close()
    with closing(sqlite3.connect(other)) as db:
        assert db.execute("select day from state").fetchall() == [("monday",)]


@pytest.mark.parametrize("value", ["", "7", "[1]", '["x", ["", "", ""], 0, 0]', '[1, "x", 2, 3]', "{}"])
def test_an_index_with_unreadable_values_raises_an_error(tmp_path: Path, index: SearchIndex, value: str) -> None:
    with closing(sqlite3.connect(tmp_path / "search.db")) as db, db:
        db.execute("insert into state values ('taken', ?)", (value,))
        db.execute("insert into docs values (7, 1)")
        db.execute("insert into numbers values (0, ?)", (value,))
        db.execute("insert into text (rowid, said, whose) values (7, 'tea', '')")
    for look in (index.position, lambda: found(index, "tea")):
        with pytest.raises(sqlite3.DatabaseError):  # the caller then deletes the index, and it is made again
            look()
