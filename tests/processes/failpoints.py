"""Command `python -m tests.processes.failpoints POINT:K[:FILE],... WORDS...`: `p2pchat WORDS` that kills itself.

The program and its files are real. This module wraps one function of the package and counts its calls; at the K-th
call it sends SIGKILL to its own process: no `finally`, no goodbye, no flush. With FILE it counts the calls that are
made while there is such a file. The package has no code for this.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn


def die() -> NoReturn:
    if sys.platform == "win32":
        raise NotImplementedError  # this system has no SIGKILL
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL came late")


class Count:
    """A counter of how often a point was reached, or reached while there is a file."""

    def __init__(self, k: int, file: str = "") -> None:
        self._left = k
        self._file = file

    def due(self) -> bool:
        """Count once; return whether this is the K-th time."""
        if self._file and not os.path.exists(self._file):
            return False
        self._left -= 1
        return self._left == 0

    def hit(self) -> None:
        if self.due():
            die()


def arm(points: Sequence[str]) -> None:
    """Install these points. Raises ValueError for an unknown one."""
    for point in points:
        name, _, when = point.partition(":")
        if name not in POINTS:
            raise ValueError(f"there is no failpoint {name!a}; there are {', '.join(POINTS)}")
        k, _, file = when.partition(":")
        POINTS[name](Count(int(k or 0), file))


def _put(where: Any, name: str, what: Any) -> None:
    """Replace a function of the package. A direct assignment would be rejected by type checkers."""
    setattr(where, name, what)


# ---- the database


def _at_commits(what: str, *, before: bool) -> Callable[[Count], None]:
    """Return the point before or after the commit of a transaction that has this of `Changes`."""

    def install(count: Count) -> None:
        from p2pchat.storage.database import Database
        from p2pchat.storage.sql_storage import SqlStorage

        commit, make_durable = SqlStorage.commit, Database.commit
        meant = False  # used by the writer thread only

        def watched(storage: SqlStorage, changes: Sequence[Any]) -> None:
            nonlocal meant
            meant = any(getattr(change, what) for change in changes)
            commit(storage, changes)
            if meant and not before:
                count.hit()
            meant = False

        def about_to(database: Database) -> None:
            if meant:
                count.hit()
            make_durable(database)

        _put(SqlStorage, "commit", watched)
        if before:
            _put(Database, "commit", about_to)

    return install


def _statement(count: Count) -> None:
    """Between two statements of a transaction: while creating tables, between rows."""
    from p2pchat.storage.database import Database

    for name in ("all", "run", "insert"):
        _put(Database, name, _between(getattr(Database, name), count, after=False))


def _at_pages(count: Count) -> None:
    """During a copy of the database, after K of its pages."""
    from p2pchat.storage.dialects import sqlite_dialect

    copy_database = sqlite_dialect.copy_database
    _put(sqlite_dialect, "PAGES_COPIED", 1)
    _put(sqlite_dialect, "copy_database", lambda driver, path, *_: copy_database(driver, path, lambda *_: count.hit()))


# ---- links


def _mid_record(count: Count) -> None:
    """Half of the bytes written in one turn are sent: a TLS record is cut."""
    from p2pchat.client import Client

    write = Client._write

    def halved(client: Client, ciphertext: bytes) -> None:
        due = bool(ciphertext) and count.due()
        write(client, ciphertext[: len(ciphertext) // 2] if due else ciphertext)
        if due:
            die()

    _put(Client, "_write", halved)


def _mid_frame(count: Count) -> None:
    """Half of the frames sent in one turn are sent, in whole TLS records: a frame is cut."""
    from p2pchat.client import Client
    from p2pchat.identity.tls_pipe import TlsPipe

    send, write = TlsPipe.send, Client._write
    halved = False

    def send_half(pipe: TlsPipe, plaintext: bytes) -> None:
        nonlocal halved
        halved = count.due()
        send(pipe, plaintext[: len(plaintext) // 2] if halved else plaintext)

    def write_and_die(client: Client, ciphertext: bytes) -> None:
        write(client, ciphertext)
        if halved:
            die()

    _put(TlsPipe, "send", send_half)
    _put(Client, "_write", write_and_die)


def _at_frames(kind: str) -> Callable[[Count], None]:
    """Return the point where a frame of this class of the protocol is made but not sent."""

    def install(count: Count) -> None:
        from p2pchat.core.effects import Send
        from p2pchat.runtime.driver import OutgoingFrames

        send = OutgoingFrames.send

        def watched(outgoing: OutgoingFrames, effect: Send) -> None:
            if type(effect.frame).__name__ == kind:
                count.hit()
            send(outgoing, effect)

        _put(OutgoingFrames, "send", watched)

    return install


# ---- the program


def _before_hand_over(count: Count) -> None:
    """A message is released and read from storage, but not yet returned to the program."""
    from p2pchat.messaging.messages import Message
    from p2pchat.messaging.subscription import Subscription

    following = Subscription.next

    async def watched(reader: Subscription) -> Any:
        event = await following(reader)
        if isinstance(event, Message):
            count.hit()
        return event

    _put(Subscription, "next", watched)


def _after_hand_over(count: Count) -> None:
    """The program has handled a message, but not acknowledged it."""
    from p2pchat.messaging.subscription import Subscription

    acknowledge = Subscription._acknowledge

    def watched(reader: Subscription) -> None:
        if reader._out > reader.place:
            count.hit()
        acknowledge(reader)

    _put(Subscription, "_acknowledge", watched)


def _mid_line(count: Count) -> None:
    """Half a line is written, to the --log file or to standard output."""
    from p2pchat.commands import standard_output

    write_all = standard_output._write_all

    def halved(raw: standard_output.RawStream, data: bytes) -> None:
        due = count.due()
        write_all(raw, data[: len(data) // 2] if due else data)
        if due:
            die()

    _put(standard_output, "_write_all", halved)


# ---- files, and the end


def _file(count: Count) -> None:
    """While a private file is written: created, written, synced, renamed, directory synced."""
    from p2pchat.private_files import AtomicFile

    begin = AtomicFile.__init__

    def begun(aside: AtomicFile, path: Any) -> None:
        begin(aside, path)
        count.hit()

    _put(AtomicFile, "__init__", begun)
    for name in ("fsync", "replace"):
        _put(os, name, _between(getattr(os, name), count))


def _between(call: Callable[..., Any], count: Count, *, after: bool = True) -> Callable[..., Any]:
    def watched(*given: Any) -> Any:
        count.hit()
        result = call(*given)
        if after:
            count.hit()
        return result

    return watched


def _closing(count: Count) -> None:
    """Before and after each step of an orderly stop: goodbyes, the last commit, the database, the lock."""
    from p2pchat.identity.profile import Profile
    from p2pchat.runtime.connection_manager import ConnectionManager
    from p2pchat.runtime.driver import Driver
    from p2pchat.storage.sql_storage import SqlStorage

    _put(Driver, "stop", _around(Driver.stop, count))
    _put(ConnectionManager, "close_all", _around(ConnectionManager.close_all, count))
    _put(Driver, "close", _around(Driver.close, count))
    _put(SqlStorage, "close", _between(SqlStorage.close, count))
    _put(Profile, "close", _between(Profile.close, count))


def _around(call: Callable[..., Awaitable[Any]], count: Count) -> Callable[..., Awaitable[Any]]:
    async def watched(*given: Any) -> Any:
        count.hit()
        result = await call(*given)
        count.hit()
        return result

    return watched


def _before_rename(count: Count) -> None:
    replace = os.replace

    def about_to(*paths: Any) -> None:
        count.hit()
        replace(*paths)

    _put(os, "replace", about_to)


POINTS: dict[str, Callable[[Count], None]] = {
    "before-commit": _at_commits("batches", before=True),  # all rows of entries are written, but not committed
    "after-commit": _at_commits("batches", before=False),  # entries are on disk, and the core does not know it yet
    "before-address-book": _at_commits("addresses", before=True),
    "after-address-book": _at_commits("addresses", before=False),
    "before-cursor": _at_commits("consumers", before=True),  # the program has read events, and its place is not saved
    "before-admission": _at_commits("statements", before=True),  # a newcomer is not added yet
    "after-admission": _at_commits("statements", before=False),  # it is, on disk, and the core does not know it yet
    "before-show": _at_frames("Show"),  # a newcomer has not shown its invite yet
    "before-admit": _at_frames("Admit"),  # it is admitted, and not told so
    "statement": _statement,
    "copying": _at_pages,  # by `p2pchat backup`
    "mid-record": _mid_record,
    "mid-frame": _mid_frame,
    "before-have": _at_frames("Have"),  # received entries are on disk and not acknowledged
    "before-go": _at_frames("Go"),  # a link is up on this side only
    "before-hand-over": _before_hand_over,
    "after-hand-over": _after_hand_over,
    "mid-line": _mid_line,
    "file": _file,
    "closing": _closing,
    "before-rename": _before_rename,  # a file or directory is written whole, under another name
}


def main(argv: Sequence[str]) -> int:
    """Run `p2pchat` with failpoints; return its exit code, unless it kills itself.

    The words may begin with `python -m p2pchat`, as when this command is a prefix of another.
    """
    from p2pchat.__main__ import main as p2pchat

    arm(argv[0].split(","))
    words = argv[4:] if argv[2:4] == ["-m", "p2pchat"] else argv[1:]
    return p2pchat(words[1:] if words[:1] == ["--"] else words)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
