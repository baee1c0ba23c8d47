"""Damaged databases: flipped bits, lost bytes, missing, torn or moved pages, values of another type.

Storage answers every query with valid records, or raises a StorageError with one sentence. A node starts from the
database or gets a reason. Only entries that their writer signed are served to others. If a shown text differs from the
written one, the verification reports the damage.
"""

from __future__ import annotations

import atexit
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from time import thread_time
from typing import Any

from p2pchat.core.durable_changes import (
    Address,
    Change,
    DeliveredMark,
    Fork,
    ForkStart,
    KnownConversation,
    KnownUser,
    LogKey,
    Stored,
    TailStart,
    WantStart,
)
from p2pchat.core.inputs import WriteRequest
from p2pchat.core.log import LogId, RawEntry, decode_entry, extend_chain
from p2pchat.core.node import Node
from p2pchat.core.node_context import HostedIdentity, NetworkCredentials, Now
from p2pchat.errors import StorageError
from p2pchat.protocol import Mark, Naming
from p2pchat.settings import Settings
from p2pchat.storage.contract import ReleasedEntry
from p2pchat.storage.dialects.sqlite_dialect import sqlite_url
from p2pchat.storage.schema import TABLES
from p2pchat.storage.sql_storage import SqlStorage
from tests.fuzz.choices import Supply
from tests.fuzz.target import Target, hold, memory_place
from tests.storage.writers import DM, MORNING, ROOM, Author, is_sound, key, released, user

SETTINGS = Settings(max_batch_entries=4, max_batch_bytes=2000, wal_warm_bytes=0, recent_places=5)
PAGE_BYTES = 4096
SLOW = 5.0  # seconds of CPU for all queries of one database
NAMES = ("ada", "bob", "cyd")
VALUES: tuple[object, ...] = (
    None, 0, 1, -1, 2**40, 2**63 - 1, -(2**63), 1.5, "", "x", "{}", "[]", "[1,2,3,4,5]", '{"dm":1}',
    '{"room":1,"dm":["a"]}',
    b"", b"\0" * 7, b"\xff" * 32, b"\0" * 24, "99999999999999999999", "2", "\ud7ff",
    '{"k":"text","at":1,"c":1,"b":"false"}',
)  # fmt: skip


# ---- one whole database


@cache
def workplace() -> Path:
    """Return a temporary directory of this process, in memory if possible."""
    place = Path(tempfile.mkdtemp(prefix="p2pchat-fuzz-", dir=memory_place()))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


@cache
def whole() -> bytes:
    """Return the bytes of a database with something in every table."""
    path = workplace() / "whole.db"
    storage = SqlStorage(sqlite_url(path), SETTINGS)
    for change in life():
        storage.commit([change])
    storage.close()
    return path.read_bytes()


@cache
def written() -> frozenset[tuple[object, int, RawEntry]]:
    """Return (log, seq, entry) of everything written."""
    batches = [batch for change in life() for batch in change.batches]
    return frozenset((batch.log, batch.first + at, raw) for batch in batches for at, raw in enumerate(batch.raws))


def life() -> Iterator[Change]:
    ada, bob, cyd = (Author(name, number) for number, name in enumerate(NAMES, 1))
    yield Change(
        conversations=[KnownConversation(ROOM, Naming(room=True)), KnownConversation(DM, Naming(dm=(user("ada"),
        user("bob"))))], users=[KnownUser(user(name), name, MORNING, "about") for name in NAMES],
        addresses=[Address(user("bob"), "10.0.0.1:1", MORNING), Address(user("cyd"), "host:2", 0, 5)],
        consumers={"bot": 3}, meta={"name": "ada", "network": "0a" * 16},
    )  # fmt: skip
    place = 1
    for at in range(5):
        for author in (ada, bob, cyd):
            texts = [f"{at} of {author.log.run[-1]} " + "word " * at * 9] * (1 + at % 3)
            change = author.begins(*texts) if not at else author.appends(*texts)
            yield released(change, place, old=at == 0, gap=at == 2)
            place += len(texts)
    later = Author("ada", 4, before=[ada.mark])
    change = released(later.begins("after a restart", "and more"), place)
    change.covered.append(ada.log)
    change.delivered += [
        DeliveredMark(ada.log, user("bob"), 2),
        DeliveredMark(later.log, user("bob"), 1),
        DeliveredMark(bob.log, user("cyd"), 3),
    ]
    yield change
    alone = Author("bob", 5, DM)
    yield released(alone.begins("between us"), place + 2)
    yield alone.appends("this one waits", "and this")
    one, other = Author("cyd", 6), Author("cyd", 6)
    yield released(one.begins("this"), place + 3)
    yield Change(forks=[Fork(one.log, None, other.write("or that"))])


# ---- damage


def break_it(supply: Supply, data: bytearray, path: Path) -> None:
    """Damage a database file with one of several methods, chosen by the input."""
    if supply.yes(2):
        path.write_bytes(data)
        for _ in range(1 + supply.often(4)):
            another_value(supply, path)
        return
    for _ in range(1 + supply.often(8)):
        kinds: tuple[Callable[[Supply, bytearray], None], ...] = (
            flip,
            flip,
            flip,
            overwrite,
            no_page,
            torn,
            swapped,
            shorter,
        )
        if len(data) > PAGE_BYTES:
            supply.pick(kinds)(supply, data)
    path.write_bytes(data)


def somewhere(supply: Supply, data: bytearray) -> int:
    """Return an offset, mostly one with data: bytes next to zeros are mostly free space."""
    at = supply.below(len(data))
    while not data[at] and at + 1 < len(data) and not supply.yes(8):
        at += 1
    return at


def flip(supply: Supply, data: bytearray) -> None:
    data[somewhere(supply, data)] ^= 1 << supply.below(8)


def overwrite(supply: Supply, data: bytearray) -> None:
    at, piece = somewhere(supply, data), supply.take(1 + supply.often(40))
    data[at : at + len(piece)] = piece[: len(data) - at]


def no_page(supply: Supply, data: bytearray) -> None:
    at = supply.below(len(data) // PAGE_BYTES) * PAGE_BYTES
    data[at : at + PAGE_BYTES] = bytes(PAGE_BYTES)


def torn(supply: Supply, data: bytearray) -> None:
    """Replace the second half of a page by that of another page."""
    one, other = (supply.below(len(data) // PAGE_BYTES) * PAGE_BYTES + PAGE_BYTES // 2 for _ in range(2))
    data[one : one + PAGE_BYTES // 2] = data[other : other + PAGE_BYTES // 2]


def swapped(supply: Supply, data: bytearray) -> None:
    one, other = (supply.below(len(data) // PAGE_BYTES) * PAGE_BYTES for _ in range(2))
    first = data[one : one + PAGE_BYTES]
    data[one : one + PAGE_BYTES] = data[other : other + PAGE_BYTES]
    data[other : other + PAGE_BYTES] = first


def shorter(supply: Supply, data: bytearray) -> None:
    del data[supply.below(len(data)) :]


def another_value(supply: Supply, path: Path) -> None:
    """Replace a value by one of another type, as a flipped bit in the header of a row would."""
    tables = [table for table in TABLES if supply.left or table.name == "entries"]
    table = supply.pick(tables)
    column = supply.pick([column.name for column in table.columns])
    value = supply.pick(VALUES)
    database = sqlite3.connect(path, isolation_level=None)
    try:
        database.execute("pragma ignore_check_constraints = on")
        nth = supply.below(8)
        where = f"rowid = (select rowid from {table.name} limit 1 offset {nth})"
        if supply.yes(8):
            database.execute(f"delete from {table.name} where {where}")
        elif supply.yes(3):
            old = database.execute(f"select {column} from {table.name} where {where}").fetchone()
            database.execute(f"update {table.name} set {column} = ? where {where}", (bent(supply, old and old[0]),))
        else:
            database.execute(f"update {table.name} set {column} = ? where {where}", (value,))
    except (sqlite3.Error, OverflowError):
        pass  # SQLite refuses it
    finally:
        database.close()


def bent(supply: Supply, value: Any) -> Any:
    """Return a value with one bit flipped."""
    if isinstance(value, int):
        return value ^ 1 << supply.below(63)
    if isinstance(value, str) and value:
        at = supply.below(len(value))
        return value[:at] + chr(ord(value[at]) ^ 1 << supply.below(7)) + value[at + 1 :]
    if isinstance(value, bytes) and value:
        at = supply.below(len(value))
        return value[:at] + bytes((value[at] ^ 1 << supply.below(8),)) + value[at + 1 :]
    return value


# ---- queries


class DamagedDatabase:
    """One damaged database, and all queries that p2pchat makes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shown: list[ReleasedEntry] = []
        self.checked: list[str] | None = None  # None: the verification could not read all of it
        self.refused = 0

    def all(self, *, read_only: bool) -> None:
        begun = thread_time()
        self.reads(read_only=read_only)
        hold(thread_time() - begun < SLOW, f"a broken database took {thread_time() - begun:.1f} s")
        for one in self.shown:
            decode_entry(one.raw)
        false = [one for one in self.shown if (one.log, one.seq, one.raw) not in written()]
        if false:
            hold(self.checked is None or self.checked, f"a text nobody wrote, and the check finds nothing: {false[0]}")

    def reads(self, *, read_only: bool) -> None:
        opening = partial(SqlStorage, sqlite_url(self.path), SETTINGS, read_only=read_only, busy_timeout=0.1)
        storage = self.answer(opening)
        if storage is None:
            return
        try:
            self.questions(storage)
            if not read_only:
                self.commits(storage)
        finally:
            storage.close()

    def answer(self, ask: Callable[[], Any]) -> Any:
        """Return the answer of a query, None for a StorageError."""
        try:
            return ask()
        except StorageError as error:
            hold(str(error).isprintable() and len(str(error)) < 500, "an error that is no sentence")
            self.refused += 1
            return None

    def questions(self, storage: SqlStorage) -> None:
        answer = self.answer
        stored = answer(lambda: storage.load([user("ada")]))
        if stored is not None:
            self.starts(stored)
        for talk in (None, ROOM, DM):
            self.shown += answer(partial(storage.history, talk, limit=0)) or []
            self.shown += answer(partial(storage.history, talk, limit=3)) or []
        self.shown += answer(lambda: storage.places(0, 1000)) or []
        for author in (Author("ada", 1), Author("ada", 4), Author("bob", 2), Author("cyd", 6)):
            self.of_one(storage, author.log, author.mark)
        answer(storage.stored_conversations)
        self.checked = answer(lambda: storage.faults(20))

    def of_one(self, storage: SqlStorage, log: LogId, mark: Mark) -> None:
        one = self.answer(lambda: storage.entry(log, 1))
        self.shown += [one] if one else []
        self.answer(lambda: storage.delivered_to(log, 1))
        self.answer(lambda: storage.lookup([LogKey(ROOM, log.user[:32] + log.run)]))
        self.answer(lambda: storage.chain_at(log, 2))
        for start in (WantStart(()), TailStart(log.run, 2), WantStart((mark,)), ForkStart(log.run)):
            self.serves(storage, log.user, start)

    def serves(self, storage: SqlStorage, whose: str, start: Any) -> None:
        for _ in range(40):
            answer = self.answer(partial(storage.fetch, ROOM, whose, start, batches=3))
            if answer is None:
                return
            batches, start = answer
            for batch in batches:
                hold(extend_chain(batch.prev, batch.raws) == batch.chain, "served to others, and not what was written")
                hold(is_sound(batch) or batch is not batches[-1], "served to others, and not what was signed")
                hold(batch.raws and len(batch.prev) == len(batch.chain) == 32 and len(batch.head) == 64, "no batch")
                if not isinstance(start, ForkStart):
                    hold(batch.first >= 1, "a batch of before the beginning")
            if start is None:
                return
        hold(False, "serving that never ends")

    def starts(self, stored: Stored) -> None:
        """Start a node with the loaded data, and let its user write."""
        ada = key("ada")
        node = Node(
            settings=SETTINGS, peer=user("ada"), users=[HostedIdentity(user("ada"), "ada", ada.sign)],
            network=NetworkCredentials("0a" * 16, "0b" * 32), draw=lambda n: b"\x77" * n, stored=stored,
        )  # fmt: skip
        now = Now(1000.0, MORNING + 10**9)
        node.start(now)
        node.handle(WriteRequest(1, user("ada"), node.room, "text", ["hi"]), now)

    def commits(self, storage: SqlStorage) -> None:
        new, old = Author("ada", 9), Author("bob", 2)
        for at in range(5):
            old.write(*[f"{at} of 2 " + "word " * at * 9] * (1 + at % 3))
        more = Change(consumers={"bot": 9}, covered=[old.log], delivered=[DeliveredMark(new.log, user("bob"), 1)])
        for change in (released(new.begins("new"), 10_000), old.appends("more"), more):
            try:
                self.answer(partial(storage.commit, [change]))
            except ValueError as error:  # normally an error of the caller; here the last entry is damaged
                hold(str(error).startswith("no such log") or "does not follow" in str(error), f"unasked: {error}")


def run(data: bytes) -> None:
    supply, path = Supply(data), workplace() / "broken.db"
    for each in workplace().glob("broken.db*"):
        each.unlink()
    break_it(supply, bytearray(whole()), path)
    DamagedDatabase(path).all(read_only=supply.yes(3))


def seeds() -> list[bytes]:
    return [bytes((number * 37 + at * at) % 256 for at in range(60)) for number in range(60)]


@cache
def targets() -> tuple[Target, ...]:
    return (Target("databases", "a database whose disk broke", run, seeds, [], 200, 25, 4),)
