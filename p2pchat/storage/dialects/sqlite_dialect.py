"""SQLite: one file, or memory, without a server; and the damage that a disk did to its write-ahead log, found at the
start.

One connection writes, one reads; in memory one does both, since another would see another database. Transactions are
begun here and not by the driver: the writer's with `begin immediate`, so that it never has to turn from a reader into a
writer; the reader's plainly, so that everything read in one call is of one moment.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from struct import pack, unpack
from urllib.parse import quote

from p2pchat.errors import StorageError
from p2pchat.private_files import give_to_owner
from p2pchat.settings import MIB
from p2pchat.storage.dialects.dialect import BUSY, COMMON_TYPES, FULL, DatabaseURL, Dialect, OpenDatabase, ViewFunctions
from p2pchat.storage.schema import BIGINT, BYTES, NUMBER, SMALLINT, TABLES, Column

PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": "full",  # a commit that has returned is on the disk
    "fullfsync": "on",  # macOS: only this makes the disk itself write; nothing elsewhere
    "checkpoint_fullfsync": "on",
    "secure_delete": "on",  # a deleted key or text leaves the file; so is Debian's SQLite built, others are not
    "foreign_keys": "off",  # rows are never deleted while others name them
}
# On a full disk there is no room for the index of the write-ahead log, 32 KiB. This file system of SQLite keeps it in
# memory; then no other process can read the database.
EXCLUSIVE = "unix-excl"
CANNOT_WRITE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
COMPACTED_AT_ONCE = 64 * MIB  # written in less than a second
READ_MS = 100  # milliseconds that commits wait for readers when the log is emptied; a guess
PAGES_COPIED = 2000  # at once: 8 MiB, some 20 ms
TABLE_NAMES = "select name from sqlite_master where type = 'table' and name not like 'sqlite!_%' escape '!'"
FUNCTIONS = ViewFunctions(
    hex="lower(hex({0}))",
    time="strftime('%Y-%m-%d %H:%M:%f', ({0}) / 1000000.0, 'unixepoch')",
    member="(select value from json_each({0}) where key = '{1}' order by id desc limit 1)",  # the last one
    is_text="(select type from json_each({0}) where key = '{1}' order by id desc limit 1) = 'text'",
    joined="{0} || ', ' || {1}",
)
DAMAGED = (
    "{where} is damaged: move it away and start again, what others hold comes back by itself;"
    " or put a backup in its place"
)
NOT_TEXT = "Could not decode to UTF-8"  # this error of the driver has a text and no code
SENTENCES = {
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_IOERR_SHMSIZE: FULL,
    sqlite3.SQLITE_BUSY: BUSY,
    sqlite3.SQLITE_LOCKED: BUSY,
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_NOTADB: "{where} is not a database: name another file, or move this one away",
    sqlite3.SQLITE_READONLY: "{where} cannot be written: check its owner and its permissions",
    sqlite3.SQLITE_PERM: "{where} cannot be written: check its owner and its permissions",
    sqlite3.SQLITE_CANTOPEN: "{where} cannot be opened: check that its directory exists and may be written",
    sqlite3.SQLITE_IOERR: "the disk that holds {where} cannot be read or written: check the disk",
}


class SQLite(Dialect):
    """The part that databases in files and in memory share."""

    errors: tuple[type[Exception], ...] = (sqlite3.Error,)
    types: dict[str, str] = COMMON_TYPES | {NUMBER: "INTEGER", BYTES: "BLOB"}  # INTEGER PRIMARY KEY is the row id
    table_names_query = TABLE_NAMES
    begins_write = "begin immediate"
    begins_read = "begin"
    functions = FUNCTIONS

    def explain(self, error: BaseException | None) -> str:
        code = getattr(error, "sqlite_errorcode", 0)
        if code != sqlite3.SQLITE_IOERR_SHMSIZE:
            code &= 0xFF  # the higher bits say more, which is not needed
        known = DAMAGED if str(error).startswith(NOT_TEXT) else SENTENCES.get(code)
        if known is not None:
            return known.format(where=self.where)
        return f"{self.where} cannot be used ({getattr(error, 'sqlite_errorname', type(error).__name__)})"

    def release_memory(self, database: OpenDatabase) -> None:
        database.driver.execute("pragma shrink_memory")

    def faults(self, database: OpenDatabase, most: int) -> list[str]:
        """Read the whole database; return what is wrong with its structure, in SQLite's words."""
        rows = database.all(f"pragma integrity_check({most})")
        return [] if rows == [("ok",)] else [str(row[0]) for row in rows]

    def wrong_types(self, database: OpenDatabase) -> Iterator[str]:
        for table in TABLES:
            wrong = " or ".join(f"typeof({column.name}) not in {_kinds(column)}" for column in table.columns)
            if count := database.value(f"select count(*) from {table.name} where {wrong}"):
                yield f"{count} rows of {table.name} hold values of a wrong type"

    def copy_to(self, database: OpenDatabase, path: Path, progress: Callable[[int, int], None]) -> None:
        """Copy the whole database; inside a transaction, so that later commits of others are not in the copy."""
        database.value("select count(*) from meta")  # the moment that is copied begins here
        copy_database(database.driver, path, progress)

    def interrupt(self, database: OpenDatabase) -> None:
        database.driver.interrupt()


class MemoryDialect(SQLite):
    """A database in the memory of this process, which leaves nothing behind, however the process ends."""

    where = "memory://"
    damaged = DAMAGED.format(where=where)
    in_memory = True

    def __init__(self) -> None:
        self._driver: sqlite3.Connection | None = None

    def require(self) -> None:
        if self._driver is None:
            raise StorageError("nothing is stored in memory once its peer has ended: name a file")

    def connect(self, *, writes: bool) -> sqlite3.Connection:
        """Return the one connection; any thread may use it, one at a time."""
        if self._driver is None:
            self._driver = _open(":memory:", 0.0)
        return self._driver

    def compact(self, database: OpenDatabase, *, all: bool) -> None:
        database.driver.execute("vacuum")

    def check_writable(self, database: OpenDatabase, size_bytes: int) -> None:
        """Do nothing: memory can always be written."""

    def size_on_disk(self, database: OpenDatabase) -> int:
        return int(database.value("pragma page_count") * database.value("pragma page_size"))


class SQLiteDialect(SQLite):
    """A database in a file."""

    path: Path

    def __init__(self, url: DatabaseURL, busy_timeout: float) -> None:
        if url.database in ("", ":memory:"):
            raise StorageError("a database without a file keeps nothing: name a file, sqlite:////absolute/path")
        self.path = Path(url.database)
        self.where: str = str(self.path)
        self.damaged: str = DAMAGED.format(where=self.where)
        self._busy_timeout = busy_timeout
        self._connected = False  # once, by this or an earlier connection
        self._inodes: dict[str, int] = {}  # of what the writer has open; 0 before the first commit

    def require(self) -> None:
        if not self.path.exists():
            raise StorageError(f"nothing is stored at {self.path}: name another file, or start a peer there first")

    def connect(self, *, writes: bool) -> sqlite3.Connection:
        """Return a connection; any thread may use it, one at a time."""
        if writes:
            make_private(self.path)
            self._inodes = {self.where: 0, str(self._log): 0}
        if not self._connected:
            self._keep_damaged_log()
            self._connected = True
        try:
            return _open(str(self.path), self._busy_timeout)
        except sqlite3.OperationalError as error:
            if not writes and error.sqlite_errorcode & 0xFF in CANNOT_WRITE and self.path.exists():
                return self._open_unwritable()
            if error.sqlite_errorcode != sqlite3.SQLITE_IOERR_SHMSIZE:
                raise
            try:
                return _open(f"{self.path.absolute().as_uri()}?vfs={EXCLUSIVE}", self._busy_timeout)
            except sqlite3.Error:
                raise error from None  # Windows has no such file system

    def _open_unwritable(self) -> sqlite3.Connection:
        """Return a connection for reading where SQLite may write nothing, as on a read-only medium.

        There it takes no write-ahead log into account. If there is one, the connection is to a copy of both.
        """
        log = self._log
        if not log.exists() or not log.stat().st_size:
            return _open(f"{self.path.absolute().as_uri()}?mode=ro&immutable=1", self._busy_timeout)
        with tempfile.TemporaryDirectory(prefix="p2pchat-") as directory:  # 0700
            for path in (self.path, log):
                shutil.copyfile(path, Path(directory) / path.name)
            source = _open(str(Path(directory) / self.path.name), self._busy_timeout)
            copy = _connect("", self._busy_timeout)  # a temporary file, which ends with the connection
            try:
                source.backup(copy)
            finally:
                source.close()
        return copy

    def _keep_damaged_log(self) -> None:
        """Copy a write-ahead log that lost commits, before SQLite takes it for a short one and deletes it.

        The index of the log must not be opened here: closing it would drop the locks that SQLite has there.
        """
        log = self._log
        try:
            content = log.read_bytes()
            found = damage_of(content)
            if found is None or damage_of(again := log.read_bytes()) != found or again[:32] != content[:32]:
                return  # or another process was writing meanwhile
            make_private(self._damaged_log)
            self._damaged_log.write_bytes(content)
        except (OSError, StorageError):
            pass  # there is no log, or no room for a copy

    @property
    def _log(self) -> Path:
        """The write-ahead log, whether it is there or not."""
        return self.path.with_name(f"{self.path.name}-wal")

    @property
    def _damaged_log(self) -> Path:
        return self.path.with_name(f"{self.path.name}-wal.damaged")

    def lost(self) -> str:
        copy = self._damaged_log
        try:
            found, at = damage_of(copy.read_bytes()), datetime.fromtimestamp(copy.stat().st_mtime).astimezone()
        except OSError:
            return ""
        if found is None:
            return ""
        return (
            f"the disk changed the write-ahead log of {self.where}, so the last {found[1]} commits before"
            f" {at:%Y-%m-%d %H:%M} are lost here, with what you had written (the log is kept as {copy.name}):"
            " what other peers have comes back by itself"
        )

    # ---- care

    def check_in_place(self) -> None:
        """Raise StorageError if a file that is open was removed, moved or replaced: commits there are lost."""
        for path, known in self._inodes.items():
            try:
                found = os.stat(path).st_ino
            except OSError:
                found = 0
            if found == known:
                continue
            if known:
                raise StorageError(
                    f"{path} was removed or replaced while it was open: put it back, or start p2pchat again"
                )
            self._inodes[path] = found

    def warm(self, database: OpenDatabase, size_bytes: int) -> None:
        """Write and delete so many bytes, so that the write-ahead log has its size before the first commit.

        While that file still grows each fsync writes its size as well: 160 to 220 us a commit for the first thousands,
        105 to 115 afterwards. SQLite deletes the file at every clean close. A disk too full for it is no fault here.
        """
        try:
            _write_and_delete(database.driver, size_bytes)
            database.driver.execute("pragma wal_checkpoint(restart)").fetchall()
            database.driver.execute("pragma shrink_memory")  # 2 MiB of pages that are of no use now
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL:
                raise

    def tidy(self, database: OpenDatabase) -> None:
        """Move the write-ahead log into the database: otherwise one commit in 200 does it, which takes 0.4 ms.

        Only the connection that writes may do this: a checkpoint and a commit of two connections at one moment can
        damage the database (SQLite before 3.51.3, https://sqlite.org/wal.html, "WAL-reset bug").
        """
        database.driver.execute("pragma wal_checkpoint(passive)").fetchall()

    def compact(self, database: OpenDatabase, *, all: bool) -> None:
        """Write the database anew without its free pages.

        A small one takes less than a second, also beside readers: they read what they began with.
        """
        driver = database.driver
        if database.value("pragma freelist_count") and (all or self.size_on_disk(database) <= COMPACTED_AT_ONCE):
            driver.execute("vacuum")

    def empty_log(self, database: OpenDatabase) -> bool:
        """Empty the write-ahead log, which holds old pages too; return False while another program reads them."""
        driver = database.driver
        driver.execute(f"pragma busy_timeout = {READ_MS}")
        try:
            return not driver.execute("pragma wal_checkpoint(truncate)").fetchone()[0]
        finally:
            driver.execute(f"pragma busy_timeout = {round(1000 * self._busy_timeout)}")

    def check_writable(self, database: OpenDatabase, size_bytes: int) -> None:
        """Write and delete so many bytes. The log is emptied first, as far as it can be."""
        self.check_in_place()
        database.driver.execute("pragma wal_checkpoint(truncate)").fetchall()
        _write_and_delete(database.driver, size_bytes)

    def size_on_disk(self, database: OpenDatabase) -> int:
        """Return the bytes of the database file and of its write-ahead log."""
        files = (self.path, self._log)
        return sum(path.stat().st_size for path in files if path.exists())


# ---- the write-ahead log
#
# SQLite reads the log up to the first frame that does not fit the checksum of those before it. After a crash this is
# the end of a commit that nobody was told of. But each commit is synced before the next one is written: if a frame
# that fits follows a later end of a commit, then what lies between was on the disk, and the disk changed it.
#
# Source: https://sqlite.org/fileformat2.html#the_write_ahead_log, https://sqlite.org/walformat.html

LOG_HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
USUAL_PAGE_BYTES = 4096
LOG_MAGICS = (0x377F0682, 0x377F0683)  # the second has checksums of big-endian words


def damage_of(log: bytes) -> tuple[int, int] | None:
    """Return the first frame that the disk changed, from 0, and how many commits went with it; None for no damage."""
    frames, whole = _Frames(log), 0
    while frames.follows(whole):
        whole += 1
    later = [number for number in range(whole, frames.count) if frames.is_of_this_log(number)]
    if not any(frames.is_end(number) and frames.follows(number + 1) for number in later):
        return None
    return whole, sum(map(frames.is_end, later))


class _Frames:
    """The frames of a write-ahead log, numbered from 0."""

    def __init__(self, log: bytes) -> None:
        self._log = log
        if len(log) < LOG_HEADER_BYTES + FRAME_HEADER_BYTES:
            self.count = 0
            return
        magic, _, page_bytes = unpack(">3I", log[:12])
        self._order = ">" if magic == LOG_MAGICS[1] else "<"
        self._sum, self._salts = log[24:32], log[16:24]
        if magic not in LOG_MAGICS or self._checksum((0, 0), log[:24]) != self._sum:  # then SQLite reads nothing of it
            page_bytes, self._salts, self._sum = USUAL_PAGE_BYTES, log[40:48], b""
            self._order = "="  # SQLite writes in the order of the machine
        self._bytes = FRAME_HEADER_BYTES + page_bytes
        self.count = (len(log) - LOG_HEADER_BYTES) // self._bytes

    def _frame(self, number: int) -> bytes:
        start = LOG_HEADER_BYTES + number * self._bytes
        return self._log[start : start + self._bytes]

    def is_of_this_log(self, number: int) -> bool:
        """Return whether a frame was written since the log began anew, and is none left over from before."""
        return number < self.count and self._frame(number)[8:16] == self._salts

    def is_end(self, number: int) -> bool:
        """Return whether a frame is the last one of a commit."""
        return self._frame(number)[4:8] != bytes(4)

    def follows(self, number: int) -> bool:
        """Return whether a frame fits the checksum that the one before it, whole or not, carries."""
        if not self.is_of_this_log(number):
            return False
        former, frame = self._frame(number - 1)[16:24] if number else self._sum, self._frame(number)
        if len(former) < 8:
            return False
        return self._checksum(unpack(">2I", former), frame[:8] + frame[FRAME_HEADER_BYTES:]) == frame[16:24]

    def _checksum(self, former: tuple[int, ...], content: bytes) -> bytes:
        one, two = former
        words = iter(unpack(f"{self._order}{len(content) // 4}I", content))
        for word in words:
            one = (one + word + two) & 0xFFFFFFFF
            two = (two + next(words) + one) & 0xFFFFFFFF
        return pack(">2I", one, two)


def sqlite_url(path: Path) -> str:
    """Return the URL of a database file."""
    return f"sqlite:///{quote(os.fsencode(path), safe=' +/')}"


def make_private(path: Path) -> None:
    """Create the file for its owner only, unless it exists; SQLite gives its side files the same mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        give_to_owner(path)
    except FileExistsError:
        pass
    except OSError as error:
        raise StorageError(f"{path} cannot be created: {error.strerror}") from None


def copy_database(
    driver: sqlite3.Connection, path: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> None:
    """Copy a database into a new private file; `progress` gets the bytes copied, and of how many."""
    page_bytes = driver.execute("pragma page_size").fetchone()[0]

    def on_pages(_status: int, remaining: int, total: int) -> None:
        progress((total - remaining) * page_bytes, total * page_bytes)

    make_private(path)
    target = sqlite3.connect(path)
    try:
        driver.backup(target, pages=PAGES_COPIED, progress=on_pages, sleep=0)
    finally:
        target.close()


def _connect(name: str, busy_timeout: float) -> sqlite3.Connection:
    """Open a file, a URI, or a temporary file without a name for "". Transactions are begun by us."""
    uri = name.startswith("file:")
    return sqlite3.connect(name, timeout=busy_timeout, isolation_level=None, check_same_thread=False, uri=uri)


def _open(name: str, busy_timeout: float) -> sqlite3.Connection:
    driver = _connect(name, busy_timeout)
    try:
        for pragma, value in PRAGMAS.items():
            driver.execute(f"pragma {pragma} = {value}")
    except BaseException:  # also when interrupted: do not leak the connection
        driver.close()
        raise
    return driver


def _write_and_delete(driver: sqlite3.Connection, size_bytes: int) -> None:
    driver.execute("create table if not exists warmth (x blob)")
    driver.execute("insert into warmth values (zeroblob(?))", (size_bytes,))
    driver.execute("drop table warmth")


def _kinds(column: Column) -> tuple[str, str]:
    kind = "blob" if column.type == BYTES else "integer" if column.type in (NUMBER, BIGINT, SMALLINT) else "text"
    return (kind, "null" if column.nullable else kind)
