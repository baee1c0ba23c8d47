"""The keys of what hosted users wrote: a request that a program repeats with its key is written once.

A program that does not know whether a request was accepted, because its connection broke or it was killed, repeats it
with the same key. Six bytes of the key's hash stand in the entry, and two of what was asked: another request with the
same key is refused. A key is known here from the entry's commit on, by a line in meta, and at each machine that gets
the entry. Two machines that write with one key while they are apart both write; whoever meets the second entry of a
user whom it hosts deletes the later one of the two.

Source: docs/protocol-entries.md, "Keys".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from itertools import islice
from typing import NamedTuple

from p2pchat.core.log import LogId
from p2pchat.protocol import UserId

WRITTEN = "key:"  # in meta, before the user, ":" and the key; then clock, conversation, run, number and what was asked
KEY_BYTES = 6  # of the hash of a key: of 8192 and a new one, two are alike once in 10 ** 10 keys
ASKED_BYTES = 2
MAX_KEYS = 8192  # of all users, some 4 MiB; a guess
MAX_KEYS_OF_USER = 512


class Written(NamedTuple):
    """An entry that was written with a key: its clock, its place, and the hash of what was asked."""

    c: int
    log: LogId
    seq: int
    asked: str


class WrittenKeys:
    """The newest keys of each hosted user, with what was written.

    Args:
        meta: What storage holds.
    """

    def __init__(self, meta: Mapping[str, str]) -> None:
        self._by_user: dict[UserId, dict[str, Written]] = {}  # oldest first; also what is on its way to the disk
        self._count = 0
        found = list[tuple[Written, str]]()
        for name, line in meta.items():
            if name.startswith(WRITTEN):
                user, _, key = name.removeprefix(WRITTEN).partition(":")
                c, conversation, run, seq, asked = line.split(" ")
                found.append((Written(int(c), LogId(conversation, user, run), int(seq), asked), key))
        for written, key in sorted(found):
            self._keep(key, written)

    def find(self, user: UserId, key: str) -> Written | None:
        """Return what a user wrote with a key; None for nothing that is known here."""
        return self._by_user.get(user, {}).get(key[: 2 * KEY_BYTES])

    def note(self, key: str, written: Written, lines: dict[str, str | None]) -> Written | None:
        """Note what is written with a key: add the lines to store. If the same was written with it before, return the
        later of both.
        """
        user = written.log.user
        former = self.find(user, key) or written
        first, later = min(written, former), max(written, former)
        self._keep(key[: 2 * KEY_BYTES], first)
        lines[line_of(user, key)] = f"{first.c} {first.log.conversation} {first.log.run} {first.seq} {first.asked}"
        for name in self._too_many(user):
            lines[name] = None
        if first != later and (first.asked, first.log.conversation) == (later.asked, later.log.conversation):
            return later
        return None

    def lines_of(self, user: UserId) -> list[str]:
        """Return the names of the lines of a user."""
        return [line_of(user, key) for key in self._by_user.get(user, {})]

    def forget(self, user: UserId) -> None:
        """Forget the keys of a user, when it is deleted."""
        self._count -= len(self._by_user.pop(user, {}))

    def _keep(self, key: str, written: Written) -> None:
        keys = self._by_user.setdefault(written.log.user, {})
        self._count += key not in keys
        keys[key] = written

    def _too_many(self, user: UserId) -> Iterable[str]:
        """Forget the oldest keys of a user who has too many; beyond those of all, of who has most. Return the lines."""
        if self._count > MAX_KEYS:
            user = max(self._by_user, key=lambda one: len(self._by_user[one]))
        elif len(self._by_user[user]) <= MAX_KEYS_OF_USER:
            return []
        keys = self._by_user[user]
        oldest = list(islice(keys, 1 + len(keys) // 8))  # several, as all users are looked through
        self._count -= len(oldest)
        for key in oldest:
            del keys[key]
        return [line_of(user, key) for key in oldest]


def asked_in(key: str) -> str:
    """Return the hash of what is asked with a key."""
    return key[2 * KEY_BYTES :]


def line_of(user: UserId, key: str) -> str:
    """Return the name of the line of a key in meta."""
    return f"{WRITTEN}{user}:{key[: 2 * KEY_BYTES]}"


def hash_key(key: str, asked: object = None) -> str:
    """Return what stands in an entry that is written with a key, "" for none: hashes of it and of what is asked."""
    if not key:
        return ""
    first = blake2b(key.encode("utf-8", "backslashreplace"), digest_size=KEY_BYTES)
    return (
        first.hexdigest()
        + blake2b(repr(asked).encode("utf-8", "backslashreplace"), digest_size=ASKED_BYTES).hexdigest()
    )
