"""Failures of a database in a file: version, permissions, locks, damage, full disks, and a killed process."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from p2pchat.core.durable_changes import Change, Start, TailStart, WantStart
from p2pchat.core.log import RawEntry, size_bytes
from p2pchat.errors import StorageError
from p2pchat.settings import Settings
from p2pchat.storage.dialects.sqlite_dialect import sqlite_url
from p2pchat.storage.schema import SCHEMA_VERSION
from p2pchat.storage.sql_storage import SqlStorage, dialect_of
from tests.storage.conftest import SMALL
from tests.storage.writers import MORNING, ROOM, Author, is_sound, many, released, user


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


def opened(path: Path, *, settings: Settings = SMALL, read_only: bool = False) -> SqlStorage:
    return SqlStorage(sqlite_url(path), settings, read_only=read_only, busy_timeout=0.05)


def all_entries(storage: SqlStorage, name: str) -> list[RawEntry]:
    """Return all entries of a user in the room, as a newcomer is served them."""
    batches, more = storage.fetch(ROOM, user(name), WantStart(()), batches=10**6)
    assert more is None and all(map(is_sound, batches))
    return [raw for batch in batches for raw in batch.raws]


# ---- opening


def test_a_database_is_private_and_durable(path: Path) -> None:
    ada = Author("ada", 1)
    with closing(opened(path, settings=Settings())) as storage:
        storage.commit([released(ada.begins("1", "2"), 1)])
        assert [storage._write.value(f"pragma {name}") for name in ("journal_mode", "synchronous")] == ["wal", 2]
        if os.name == "posix":
            modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
            assert modes == {0o600}
    with closing(opened(path)) as storage:
        assert all_entries(storage, "ada") == ada.raws
        assert storage.load([]).next_place == 3


def test_warm_gives_the_write_ahead_log_its_size(path: Path) -> None:
    with closing(opened(path, settings=Settings(wal_warm_bytes=1 << 20))) as storage:
        storage.warm()
        log = path.with_name("chat.db-wal")
        size = log.stat().st_size
        assert size >= 1 << 20
        storage.commit([Author("ada", 1).begins("1")])
        assert log.stat().st_size == size


def test_tidy_keeps_the_write_ahead_log_small(path: Path) -> None:
    with closing(opened(path)) as storage:
        ada = Author("ada", 1)
        storage.commit([released(ada.begins("0"), 1)])
        for place in range(2, 252):
            storage.commit([released(ada.appends(str(place)), place)])
            storage.tidy()
        assert path.with_name("chat.db-wal").stat().st_size < 900 * 4120  # of 1,000 pages
        assert storage.last_place() == 251


def test_memory_is_released_and_everything_goes_on(path: Path) -> None:
    with closing(opened(path)) as storage:
        authors = {f"user {number}": Author(f"user {number}", 1) for number in range(300)}
        for place, author in enumerate(authors.values(), 1):
            storage.commit([released(author.begins("x" * 2000), place)])
        assert [len(all_entries(storage, name)) for name in authors] == [1] * 300
        writer, writes, reads = storage._writer, storage._write, storage._read
        assert writer is not None
        assert len(writer.logs) == len(writes.numbers["users"]) == len(reads.numbers["users"]) == 300
        storage.release_memory()
        assert not (writer.logs or writes.numbers["users"] or reads.numbers["users"])
        storage.commit([released(author.appends("y"), 301 + n) for n, author in enumerate(authors.values())])
        assert {name: all_entries(storage, name) for name in authors} == {
            name: author.raws for name, author in authors.items()
        }
    with pytest.raises(StorageError, match="was closed"):
        storage.release_memory()


def test_close_is_idempotent_and_later_calls_fail(path: Path) -> None:
    storage = opened(path)
    storage.close()
    storage.close()
    for call in (lambda: storage.commit([Change()]), lambda: storage.load([]), lambda: storage.places(0, 1)):
        with pytest.raises(StorageError, match="was closed"):
            call()


@pytest.mark.parametrize(
    "url, says",
    [
        ("nonsense", "no database URL"),
        ("oracle://host/db", "keeps no 'oracle' databases"),
        ("sqlite://", "name a file"),
        ("sqlite:///:memory:", "name a file"),
        ("sqlite:////no/such/directory/chat.db", "cannot be created: No such file"),
    ],
)
def test_a_wrong_url_is_explained_in_one_sentence(url: str, says: str) -> None:
    with pytest.raises(StorageError, match=says):
        SqlStorage(url, SMALL)


def test_no_query_scans_a_growing_table(path: Path) -> None:
    """SQLite explains the plan of each statement of each call; "SCAN" means that it reads row by row."""
    ada, asked = Author("ada", 1), list[str]()
    with closing(opened(path)) as storage:
        storage.commit([released(ada.begins(*many(9)), 1)])
        driver = storage._databases[1].driver
        driver.set_trace_callback(asked.append)
        storage.load([user("ada")])
        storage.lookup([ada.lookup])
        storage.chain_at(ada.log, 3)
        for start in (WantStart((ada.mark._replace(seq=2),)), TailStart(ada.log.run, 5)):
            storage.fetch(ROOM, user("ada"), start, batches=2)
        key = (MORNING + 3, ada.log.user, ada.log.run, 1)
        for talk in (ROOM, None):
            for page in (storage.history(talk), storage.history(talk, before=key), storage.history(talk, after=key)):
                assert page
        assert storage.places(3, 2) and storage.entry(ada.log, 2) and not storage.delivered_to(ada.log, 1)
        assert storage.load([]).sizes.get(user("ada"), 0)
        driver.set_trace_callback(None)
        selects = [statement for statement in asked if statement.lstrip().startswith("select")]
        assert len(selects) > 30
        for statement in selects:
            plan = [row[3] for row in driver.execute(f"explain query plan {statement}")]
            assert not [step for step in plan if step.split()[0] == "SCAN" and step.split()[1] in GROWING], statement


GROWING = {"e", "entries", "h", "heads", "l", "logs"}  # places are scanned only from the newest on, with a limit


# ---- reading only


def test_a_read_only_storage_works_beside_a_writer_and_writes_nothing(path: Path) -> None:
    ada = Author("ada", 1)
    with closing(opened(path)) as storage:
        storage.commit([released(ada.begins("1"), 1)])
        with closing(opened(path, read_only=True)) as reader:
            assert [shown.raw for shown in reader.history(ROOM)] == ada.raws
            storage.commit([released(ada.appends("2"), 2)])
            assert [shown.raw for shown in reader.history(ROOM)] == ada.raws
            with pytest.raises(StorageError, match="for reading only"):
                reader.commit([ada.appends("3")])


def test_a_read_only_storage_makes_no_file(path: Path) -> None:
    with pytest.raises(StorageError, match="nothing is stored at"):
        opened(path, read_only=True)
    assert not path.exists()


# ---- heads


def test_a_log_written_entry_by_entry_keeps_few_heads_across_restarts(path: Path) -> None:
    """40 entries, at most 4 to a batch, keep 10 heads; a restart in the middle of a block makes no difference."""
    ada = Author("ada", 1)
    changes = [ada.begins("1")] + [ada.appends(str(n)) for n in range(2, 41)]
    for part in (changes[:13], changes[13:22], changes[22:]):
        with closing(opened(path)) as storage:
            for change in part:
                storage.commit([change])
    with closing(sqlite3.connect(path)) as database:
        heads = [id % (1 << 40) for (id,) in database.execute("select id from heads order by id")]
    assert heads == list(range(4, 41, 4))


def test_heads_stored_under_smaller_limits_are_all_served(path: Path) -> None:
    ada = Author("ada", 1)
    with closing(opened(path, settings=Settings(max_batch_entries=1, wal_warm_bytes=0))) as storage:
        storage.commit([ada.begins("1")] + [ada.appends(str(n)) for n in range(2, 41)])
    with closing(opened(path)) as storage:
        for batches in (1, 2, 3, 50):
            raws: list[RawEntry] = []
            start: Start | None = WantStart(())
            while start is not None:
                served, start = storage.fetch(ROOM, user("ada"), start, batches=batches)
                assert all(is_sound(batch) and len(batch.raws) <= 4 for batch in served)
                raws += [raw for batch in served for raw in batch.raws]
            assert raws == ada.raws


# ---- versions


def test_tables_are_changed_with_the_version_only(path: Path) -> None:
    opened(path).close()
    with closing(sqlite3.connect(path)) as database:
        made = database.execute("select name, sql from sqlite_master where type <> 'view' order by name").fetchall()
    digest = hashlib.sha256(repr(made).encode()).hexdigest()[:16]
    assert (SCHEMA_VERSION, digest) == (21, "0236ba2d37849f16")


def test_a_database_of_another_program_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("create table cookies (name text)")
    with pytest.raises(StorageError, match="another program"):
        opened(path)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("select name from sqlite_master").fetchall() == [("cookies",)]


def set_version(path: Path, version: int) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("update meta set value = ? where name = 'schema'", [str(version)])
        database.commit()


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    ("step", "said"),
    [
        (-1, r"was made by an earlier version of p2pchat \(0\.\d+\): .* \(`p2pchat export FILE`\), move it away"),
        (1, r"was made by a newer version of p2pchat \(0\.\d+\): update this one"),
    ],
)
def test_a_database_of_another_version_is_refused_and_left_alone(
    path: Path, step: int, said: str, read_only: bool
) -> None:
    ada = Author("ada", 1)
    with closing(opened(path)) as storage:
        storage.commit([ada.begins("1")])
    set_version(path, SCHEMA_VERSION + step)
    with pytest.raises(StorageError, match=said):
        SqlStorage(sqlite_url(path), SMALL, read_only=read_only)
    set_version(path, SCHEMA_VERSION)
    with closing(opened(path)) as storage:
        assert all_entries(storage, "ada") == ada.raws


# ---- files and disks that fail


def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"my holiday photographs, " * 100)
    with pytest.raises(StorageError, match="is not a database: name another file"):
        opened(path)
    assert path.read_bytes() == b"my holiday photographs, " * 100


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="all names are UTF-8 there")
def test_a_path_need_not_be_utf_8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9 1.db")
    opened(path).close()
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no open file")
@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_file_that_is_removed_while_it_is_open_takes_no_commit(path: Path, suffix: str) -> None:
    ada, place = Author("ada", 1), path.with_name(path.name + suffix)
    with closing(opened(path)) as storage:
        storage.commit([ada.begins("1")])
        second = ada.appends("2")
        place.rename(path.with_name("away"))
        for _ in range(2):
            with pytest.raises(StorageError, match="was removed or replaced while it was open"):
                storage.commit([second])
        if not suffix:
            place.touch()
            with pytest.raises(StorageError, match="was removed or replaced while it was open"):
                storage.commit([second])
        path.with_name("away").replace(place)
        storage.commit([second])
        assert all_entries(storage, "ada") == ada.raws


def test_a_damaged_database_is_reported(path: Path) -> None:
    with closing(opened(path)) as storage:
        storage.commit([Author("ada", 1).begins(*many(50, 500))])
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    with pytest.raises(StorageError, match="is damaged: move it away"):
        opened(path).load([])


@pytest.mark.parametrize(
    "damage",
    [
        "insert into addresses values (zeroblob(32), '-1', 0, 0, x'')",
    ],
)
def test_a_node_does_not_start_on_what_it_cannot_use(path: Path, damage: str) -> None:
    """Before: the peer ended with a traceback at each start, or at its first dial, and asked for a report of a bug."""
    with closing(opened(path)) as storage:
        storage.commit([released(Author("ada", 1).begins("one", "two"), 1)])
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(damage)
    with closing(opened(path)) as storage, pytest.raises(StorageError, match="is damaged: move it away"):
        storage.load([user("ada")])


@pytest.mark.parametrize(
    "damage",
    [
        "update entries set flags = x'00ff'",
        "update logs set run = 'text'",
        "update entries set c = 'late'",
        "update entries set body = cast(x'ff' as text)",
        "update entries set body = 'no entry'",
        "update users set id = 7",
    ],
)
def test_rows_of_a_wrong_type_are_reported_as_damage(path: Path, damage: str) -> None:
    with closing(opened(path)) as storage:
        storage.commit([released(Author("ada", 1).begins("one", "two"), 1)])
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(damage)

    def refused(ask: Callable[[], object]) -> bool:
        try:
            ask()
        except StorageError as error:
            return "is damaged: move it away" in str(error)
        return False

    with closing(opened(path)) as storage:
        asked = [
            lambda: storage.history(None, limit=2),
            lambda: storage.places(0, 9),
            lambda: all_entries(storage, "ada"),
            lambda: storage.load([user("ada")]),
        ]
        assert sum(map(refused, asked)) or damage == "update entries set c = 'late'"
        assert refused(lambda: storage.faults(3)) or storage.faults(3)


def test_a_text_with_a_flipped_bit_is_not_served_and_verification_finds_it(path: Path) -> None:
    """A peer that got it would find the head wrong and take this one for a forger."""
    with closing(opened(path)) as storage:
        ada, bob = Author("ada", 1), Author("bob", 2)
        storage.commit([released(ada.begins("one", "two"), 1), released(bob.begins("three"), 3)])
        assert storage.faults(9) == []
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("update entries set body = replace(body, 'two', 'twq')")
    with closing(opened(path)) as storage:
        with pytest.raises(StorageError, match="is damaged"):
            all_entries(storage, "ada")
        assert all_entries(storage, "bob") == bob.raws
        assert storage.faults(9) == ["log 1 is not what its writer signed (entries up to 2)"]


def test_faults_that_verification_finds_in_a_log(path: Path) -> None:
    def after(damage: str) -> list[str]:
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(damage)
        with closing(opened(path)) as storage:
            return storage.faults(9)

    with closing(opened(path)) as storage:
        storage.commit([released(Author("ada", 1).begins("one", "two"), 1), Author("bob", 2).begins("three")])
    assert after("update logs set writer = 3 - writer") == [
        "log 1 is not what its writer signed (entries up to 2)",
        "log 2 is not what its writer signed (entries up to 1)",
    ]
    assert after("update logs set writer = 3 - writer") == []
    assert after("update entries set c = c + 1 where id & 3 = 2") == [
        "log 1 is not what its writer signed (entries up to 2)"
    ]
    assert after("update heads set sig = zeroblob(64) where id > 2199023255552") == [
        "log 1 is not what its writer signed (entries up to 2)",
        "log 2 is not what its writer signed (entries up to 1)",
    ]
    assert after("delete from heads") == ["3 entries belong to no log"]


def test_a_lock_of_another_program_is_reported_and_commits_work_after_it(path: Path) -> None:
    ada = Author("ada", 1)
    begins = ada.begins("1")
    with closing(opened(path)) as storage, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin immediate")
        with pytest.raises(StorageError, match="in use by another program"):
            storage.commit([begins])
        with pytest.raises(StorageError, match="in use by another program"):
            opened(path)
        other.execute("rollback")
        storage.commit([begins])
        assert all_entries(storage, "ada") == ada.raws


def test_a_database_without_write_permission_is_explained(path: Path) -> None:
    opened(path).close()
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        with pytest.raises(sqlite3.OperationalError) as raised:
            database.execute("delete from meta")
    explained = dialect_of("sqlite:///chat.db", 1.0).explain(raised.value)
    assert explained == "chat.db cannot be written: check its owner and its permissions"


def test_a_commit_to_a_full_database_is_undone_and_works_once_there_is_space(path: Path) -> None:
    ada, bob = Author("ada", 1), Author("bob", 1)
    with closing(opened(path)) as storage:
        storage.commit([ada.begins("1")])
        limit_pages(storage, 60)
        large = [ada.appends("2"), bob.begins("1"), *(bob.appends(*many(19, 5000)) for _ in range(5))]
        for _ in range(2):
            with pytest.raises(StorageError, match="is full: free some space") as raised:
                storage.commit(large)
        assert "xxx" not in str(raised.value) and raised.value.__cause__ is None  # no text of a message
        assert all_entries(storage, "ada") == ada.raws[:1] and all_entries(storage, "bob") == []
        limit_pages(storage, 10**6)
        storage.commit(large)
        assert all_entries(storage, "ada") == ada.raws and all_entries(storage, "bob") == bob.raws


def limit_pages(storage: SqlStorage, pages: int) -> None:
    """Let the database grow to so many pages, as a quota or a full disk does."""
    storage._databases[0].driver.execute(f"pragma max_page_count = {pages}")


def test_check_writable_fails_like_a_commit_and_leaves_nothing_behind(path: Path) -> None:
    ada = Author("ada", 1)
    with closing(opened(path)) as storage, closing(sqlite3.connect(path, isolation_level=None)) as other:
        storage.commit([ada.begins("1")])
        limit_pages(storage, 100)
        for _ in range(2):
            with pytest.raises(StorageError, match="is full"):
                storage.check_writable()
        limit_pages(storage, 10**6)
        other.execute("begin immediate")
        with pytest.raises(StorageError, match="in use by another program"):
            storage.check_writable()
        other.execute("rollback")
        storage.check_writable()
        storage.commit([ada.appends("2")])
        assert all_entries(storage, "ada") == ada.raws
        assert "warmth" not in other.execute("select group_concat(name) from sqlite_master").fetchone()[0]
    with closing(opened(path, read_only=True)) as storage, pytest.raises(StorageError, match="for reading only"):
        storage.check_writable()


# ---- two threads, and dying in the middle


def test_one_thread_can_read_while_another_writes(path: Path) -> None:
    ada = Author("ada", 1)
    changes = [released(ada.begins("1"), 1)] + [released(ada.appends(str(n)), n) for n in range(2, 301)]
    with closing(opened(path)) as storage:

        def write() -> None:
            for change in changes:
                storage.commit([change])

        writer = threading.Thread(target=write)
        writer.start()
        seen = [0]
        while writer.is_alive():
            raws = all_entries(storage, "ada")
            assert raws == ada.raws[: len(raws)] and len(raws) >= seen[-1]
            assert len(storage.places(0, 1000)) >= len(raws)
            seen.append(len(raws))
        writer.join()
        assert all_entries(storage, "ada") == ada.raws
        assert storage.load([]).sizes.get(user("ada"), 0) == size_bytes(ada.raws)


def test_a_bug_is_not_reported_as_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same call raises the same error; the state of the database decides whether it is damage."""
    with closing(opened(path)) as storage:
        storage.commit([released(Author("ada", 1).begins("one", "two"), 1)])
        monkeypatch.setattr("p2pchat.storage.message_queries.OLD", "1")  # a constant of a wrong type
        with pytest.raises(TypeError):
            storage.places(0, 9)
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("update users set about = x'07'")
        with pytest.raises(StorageError, match="is damaged"):
            storage.places(0, 9)


def test_a_batch_that_does_not_follow_raises_value_error_even_in_a_damaged_database(path: Path) -> None:
    with closing(opened(path)) as storage:
        ada = Author("ada", 1)
        storage.commit([ada.begins("one", "two")])
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("update users set about = x'07'")
        ada.write("lost")
        with pytest.raises(ValueError, match="does not follow"):
            storage.commit([ada.appends("three")])
