"""Heads: packed rows of the logs of one conversation with nothing under way.

Every stored log is in memory, as an object (log_index.py) or as a row here: storage is never asked which there are. A
row takes about 150 bytes, an object 1 KiB. Rows are kept in the order of users and runs, and found by bisection.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from struct import Struct
from typing import NamedTuple

from p2pchat.core.durable_changes import Cite
from p2pchat.protocol import Mark, RunId, UserId

MOST = 65_535  # marks, profiles and cites of one row: their numbers are two bytes each
_HEAD = Struct(">32s8sQ32sQQHHH")  # user, run, seq, chain, last_c, pruned, and how many of the following there are
_MARK = Struct(">8sQ8s")
_PROFILE = Struct(">Q")
_CITE = Struct(">QQ8s")
_USER, _RUN = slice(0, 32), slice(32, 40)
_LAST, _CHAIN8 = slice(40, 48), slice(48, 56)
_AFTER_USER = b"\xff" * 9  # behind all rows of a user


def user_of(row: bytes) -> UserId:
    """Return who wrote the log of a row."""
    return row[_USER].hex()


class LogHead(NamedTuple):
    """A log, all of it durable, released and visible. The fields are those of `LogState`."""

    user: UserId
    run: RunId
    seq: int
    chain: bytes
    last_c: int
    pruned: int
    before: tuple[Mark, ...] = ()
    profiles: tuple[int, ...] = ()
    cites: Sequence[Cite] = ()


class Heads:
    """The rows of one conversation."""

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: list[bytes] = []

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, user: object) -> bool:
        return isinstance(user, str) and bool(self._of(user))

    def load(self, rows: Iterable[bytes]) -> None:
        """Add rows that `pack_stored` made."""
        self._rows += rows
        self._rows.sort()

    def put(self, head: LogHead) -> bool:
        """Add a log, or replace it. Return False if it is too large for a row."""
        if max(len(head.before), len(head.profiles), len(head.cites)) > MOST:
            return False
        row = _pack(head)
        at = bisect_left(self._rows, row[: _RUN.stop])
        is_here = at < len(self._rows) and self._rows[at].startswith(row[: _RUN.stop])
        self._rows[at : at + is_here] = [row]
        return True

    def get(self, user: UserId, run: RunId) -> LogHead | None:
        """Return a log, None if it is not here."""
        at = self._find(bytes.fromhex(user + run))
        return None if at is None else _unpack(self._rows[at])

    def remove(self, user: UserId, run: RunId) -> None:
        """Remove a log if it is here."""
        at = self._find(bytes.fromhex(user + run))
        if at is not None:
            del self._rows[at]

    def of(self, user: UserId) -> list[LogHead]:
        """Return the logs of a user."""
        return [*map(_unpack, self._of(user))]

    def take(self, user: UserId) -> list[LogHead]:
        """Remove and return the logs of a user."""
        found = self.of(user)
        at = bisect_left(self._rows, bytes.fromhex(user)) if found else 0
        del self._rows[at : at + len(found)]
        return found

    def user_of(self, ref: str) -> UserId | None:
        """Return the user of the log that references name so, None if it is not here."""
        start, run = bytes.fromhex(ref[:16]), bytes.fromhex(ref[16:])
        at = bisect_left(self._rows, start)
        while at < len(self._rows) and self._rows[at].startswith(start):
            user = self._rows[at][_USER]
            if self._find(user + run) is not None:
                return user.hex()
            at = bisect_left(self._rows, user + _AFTER_USER, at)
        return None

    def marks(self, user: UserId) -> list[Mark]:
        """Return the marks of the ends of a user's logs."""
        return [*map(_mark_of, self._of(user))]

    def ends(self, span: tuple[UserId, UserId] = ("00" * 32, "ff" * 32)) -> Iterator[tuple[UserId, Mark]]:
        """Yield the user and the mark of the end of each log within a span of users, in order."""
        rows = self._rows
        first, last = bytes.fromhex(span[0]), bytes.fromhex(span[1]) + _AFTER_USER
        for row in rows[bisect_left(rows, first) : bisect_left(rows, last)]:
            yield row[_USER].hex(), _mark_of(row)

    def _of(self, user: UserId) -> list[bytes]:
        id, rows = bytes.fromhex(user), self._rows
        at = bisect_left(rows, id)
        if at == len(rows) or not rows[at].startswith(id):
            return []
        return rows[at : bisect_left(rows, id + _AFTER_USER, at)]

    def _find(self, key: bytes) -> int | None:
        at = bisect_left(self._rows, key)
        return at if at < len(self._rows) and self._rows[at].startswith(key) else None


def _mark_of(row: bytes) -> Mark:
    return Mark(row[_RUN].hex(), int.from_bytes(row[_LAST], "big"), row[_CHAIN8].hex())


def pack_stored(
    user: bytes, run: bytes, seq: int, chain: bytes, last_c: int, pruned: int, before: bytes, cites: Sequence[Cite]
) -> bytes:  # fmt: skip
    """Return the row of a log without profiles, from what storage has of it; `before` as it stands there.

    Raises ValueError or struct.error for values that cannot be of a log.
    """
    if [len(user), len(run), len(chain), len(before) % _MARK.size] != [32, 8, 32, 0]:
        raise ValueError("a log of a wrong size")
    head = _HEAD.pack(user, run, seq, chain, last_c, pruned, len(before) // _MARK.size, 0, len(cites))
    return b"".join([head, before, *(_CITE.pack(cite.first, cite.gen, bytes.fromhex(cite.chain8)) for cite in cites)])


def _pack(head: LogHead) -> bytes:
    user, run, seq, chain, last_c, pruned, before, profiles, cites = head
    ids, counts = (bytes.fromhex(user), bytes.fromhex(run)), (len(before), len(profiles), len(cites))
    parts = [_HEAD.pack(*ids, seq, chain, last_c, pruned, *counts)]
    parts += [_MARK.pack(bytes.fromhex(mark.run), mark.seq, bytes.fromhex(mark.chain8)) for mark in before]
    parts += map(_PROFILE.pack, profiles)
    parts += [_CITE.pack(cite.first, cite.gen, bytes.fromhex(cite.chain8)) for cite in cites]
    return b"".join(parts)


def _unpack(row: bytes) -> LogHead:
    user, run, seq, chain, last_c, pruned, marks, profiles, _ = _HEAD.unpack_from(row)
    behind_marks = _HEAD.size + marks * _MARK.size
    behind_profiles = behind_marks + profiles * _PROFILE.size
    before = _MARK.iter_unpack(row[_HEAD.size : behind_marks])
    cites = _CITE.iter_unpack(row[behind_profiles:])
    return LogHead(
        user.hex(), run.hex(), seq, chain, last_c, pruned,
        tuple(Mark(run.hex(), seq, chain8.hex()) for run, seq, chain8 in before),
        tuple(seq for (seq,) in _PROFILE.iter_unpack(row[behind_marks:behind_profiles])),
        tuple(Cite(first, gen, chain8.hex()) for first, gen, chain8 in cites),
    )  # fmt: skip
