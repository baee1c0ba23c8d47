"""Migration of a database that schema version 1 made.

version1.sql is the dump of such a file. In it ada writes three messages and restarts. Bob replies, reacts with a thumb,
tries to edit a message of ada's, and reacts again in an entry that still waits. After her restart ada edits her second
message and deletes her third, naming it with an escape in the key.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from p2pchat.core.durable_changes import Change, Relation, Stretch
from p2pchat.core.log import LogId, Ref, decode_entry, ref_key
from p2pchat.errors import StorageError
from p2pchat.storage.contract import ReleasedEntry
from p2pchat.storage.dialects.sqlite import sqlite_url
from p2pchat.storage.schema import SCHEMA_VERSION
from p2pchat.storage.sql import SqlStorage
from tests.storage.conftest import SMALL
from tests.storage.writers import MORNING, ROOM, user

FIRST_VERSION = Path(__file__).with_name("version1.sql")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "chat.db"
    with closing(sqlite3.connect(made)) as database:
        database.executescript(FIRST_VERSION.read_text("utf-8"))
    return made


def shown(history: Sequence[ReleasedEntry]) -> list[tuple[str, str, list[str]]]:
    """Return of each message its text, its current text ("" if that is the same), and the reactions."""
    found = []
    for one in history:
        entry = decode_entry(one.raw)
        if entry.k == "text":
            newest = one.edits.newest if one.edits else None
            now = "" if newest is None else str(decode_entry(newest.raw).b)
            found.append(
                (str(entry.b), now, [decode_entry(each.raw).b for each in one.edits.reactions] if one.edits else [])
            )
    return found


def test_edits_deletions_and_reactions_of_version_1_count_after_the_migration(path: Path) -> None:
    with closing(SqlStorage(sqlite_url(path), SMALL)) as storage:
        assert shown(storage.history(ROOM, limit=0)) == [
            ("hello", "", ["👍"]),  # and not what bob would have it say
            ("helo again", "hello again", []),
            ("hi ada", "", []),
            ("never mind", "None", []),
            ("still here", "", []),
        ]
        assert storage.load([user("ada")]).consumers == {"main": 8}


def test_a_waiting_reaction_counts_once_it_is_released(path: Path) -> None:
    bob, ada = LogId(ROOM, user("bob"), f"{2:016x}"), LogId(ROOM, user("ada"), f"{1:016x}")
    with closing(SqlStorage(sqlite_url(path), SMALL)) as storage:
        named = Ref(ref_key(ada.user, ada.run), 1)
        release = Change(stretches=[Stretch(10, bob, 5, 1, MORNING)])
        release.relations.append(Relation(bob, 5, MORNING + 9101, named, True))
        storage.commit([release])
        assert shown(storage.history(ROOM, limit=0))[0] == ("hello", "", ["❤"])


def test_the_old_file_is_kept_unchanged_beside_the_new_one(path: Path) -> None:
    SqlStorage(sqlite_url(path), SMALL).close()
    SqlStorage(sqlite_url(path), SMALL).close()  # the second time there is nothing to do
    with closing(sqlite3.connect(path)) as now, closing(sqlite3.connect(f"{path}.version-1")) as former:
        version = "select value from meta where name = 'schema'"
        assert (now.execute(version).fetchone(), former.execute(version).fetchone()) == ((str(SCHEMA_VERSION),), ("1",))
        assert "mendings" not in "".join(former.iterdump())
        assert "\n".join(former.iterdump()) == FIRST_VERSION.read_text("utf-8").rstrip("\n")


def test_a_read_only_storage_shows_the_migrated_state_and_changes_nothing(path: Path) -> None:
    """Commands find an old profile by its name, and read its history, before its peer starts."""
    before = path.read_bytes()
    with closing(SqlStorage(sqlite_url(path), SMALL, read_only=True)) as storage:
        assert [user.name for user in storage.load([]).users] == ["ada", "bob"]
        assert shown(storage.history(ROOM, limit=0))[2] == ("hi ada", "", [])
        assert shown(storage.history(ROOM, limit=0))[1] == ("helo again", "hello again", [])
        assert storage.faults(9) == []
        with pytest.raises(StorageError, match="reading only"):
            storage.commit([])
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("select value from meta where name = 'schema'").fetchone() == ("1",)
    assert path.read_bytes()[100:] == before[100:]  # the head counts what opened it
