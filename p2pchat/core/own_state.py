"""Own state: what a user chose, the same on all of its machines.

An entry of kind `own` in the conversation of a user with itself holds keys with a text each, "" for none. Of each key
the newest counts, by the clocks of the entries, of equal ones the greater log; nothing is merged. So what a person
chose goes where its conversations go, and each machine works alone until it meets another one.

Storage keeps the newest of each key as a line of meta, in the commit of its entry. Only then does it count. A key that
has no text keeps its line, since another machine may still come with an older one.

A stolen machine can choose as well. So keys and texts are short, and of each kind the newest are kept, as many on all
machines: what is made up costs no memory without end, and never keeps a person from choosing.

Source: docs/protocol-entries.md, "Own state".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from p2pchat.core.log import Entry
from p2pchat.protocol import UserId

OWN_STATE = "own:"  # in meta, before the user, ":" and the key; then clock, log and text
BLOCKED = "blocked"
IGNORED = "ignored"
CHOSEN = "contact"
RECEIPTS = "receipts"
CHOICE = "choice"  # of a program: its name, ":" and what it is about
DEVICE = "device"  # of the peer of a machine: since when, in UTC microseconds, and its name
ON, OFF = "on", "off"  # texts of RECEIPTS
ENTRIES = ""  # the key of how many entries came
KINDS = (BLOCKED, IGNORED, CHOSEN, RECEIPTS, CHOICE, DEVICE)  # all others count as one
MAX_KEYS = 4096  # of one user and kind; a guess
MAX_AHEAD = 24 * 3600 * 1_000_000  # microseconds; a guess at how wrong the clock of an honest machine is
MAX_KEY_BYTES = 120  # in UTF-8: with the user before it a name in the meta of each database, which has 190 characters
MAX_TEXT_BYTES = 256
_ID = re.compile("[0-9a-f]{64}")

Chosen = tuple[UserId, str, str]  # who chose, key, text
_Newest = tuple[int, str, str]  # clock, log, text
_NOTHING: _Newest = (0, "", "")


class OwnState:
    """The choices of hosted users.

    Args:
        meta: What storage holds.
        on_changed: Called with each key that has another text now, with "" for one that has none any more.
    """

    def __init__(
        self, meta: Mapping[str, str], on_changed: Callable[[UserId, str, str], None] = lambda user, key, text: None
    ) -> None:
        self._on_changed = on_changed
        self._newest = _read(meta)  # also what is on its way to the disk
        self._texts = {
            user: {key: text for key, (_, _, text) in chosen.items() if text} for user, chosen in self._newest.items()
        }

    def get(self, user: UserId, key: str) -> str:
        """Return the text of a key; "" if it has none."""
        return self._texts.get(user, {}).get(key, "")

    def of(self, user: UserId, what: str) -> dict[str, str]:
        """Return what a user chose of each key that begins with a word and a colon, without these."""
        start = f"{what}:"
        texts = self._texts.get(user, {})
        return {key.removeprefix(start): text for key, text in texts.items() if key.startswith(start)}

    def ids(self, user: UserId, what: str) -> list[str]:
        """Return the ids about which a user ever chose something of a kind, also those without a text now."""
        keys = (key for key in self._newest.get(user, {}) if key.startswith(f"{what}:"))
        return [id for id in map(id_in, keys) if id]

    def all(self, what: str) -> Iterator[tuple[UserId, str]]:
        """Yield the same of all users, without the texts."""
        for user in self._texts:
            for key in self.of(user, what):
                yield user, key

    def wants_receipts(self, user: UserId, other: UserId = "") -> bool:
        """Return whether a user exchanges read receipts with another, in both directions; without one: with all others.

        Everyone does unless a choice for the other, or for all, says "off".
        """
        return (self.get(user, f"{RECEIPTS}:{other}") or self.get(user, RECEIPTS)) != OFF

    def exchange_receipts(self, one: UserId, other: UserId) -> bool:
        """Return whether two users exchange read receipts, as far as those who are hosted here chose."""
        return self.wants_receipts(one, other) and self.wants_receipts(other, one)

    def entries(self, user: UserId) -> int:
        """Return how many entries of own state came of a user."""
        return int(self._newest.get(user, {}).get(ENTRIES, _NOTHING)[2] or 0)

    def clock(self, user: UserId) -> int:
        """Return the newest clock of what a user chose and what counts; 0 for nothing."""
        return max((c for key, (c, _, _) in self._newest.get(user, {}).items() if key != ENTRIES), default=0)

    def fault(self, texts: Mapping[str, str]) -> str:
        """Return why these texts cannot be chosen, as a sentence; "" if they can."""
        if all(is_sound(key, text) for key, text in texts.items()):
            return ""
        return f"a key has 1 to {MAX_KEY_BYTES} bytes, its text at most {MAX_TEXT_BYTES}, and none of them is 0"

    def take(self, user: UserId, log: str, entry: Entry, lines: dict[str, str | None], now: int) -> list[Chosen]:
        """Take an entry: add the lines to store, and return what counts when they are durable.

        Of one with a clock far ahead of this time (UTC microseconds) nothing counts: it would outweigh all later ones.
        """
        newest = self._newest.setdefault(user, {})
        found = {ENTRIES: str(self.entries(user) + 1)}
        counts = isinstance(entry.b, dict) and entry.c <= now + MAX_AHEAD
        of_itself = (f"{BLOCKED}:{user}", f"{IGNORED}:{user}")  # no person means that
        for key, text in entry.b.items() if counts else ():
            if is_sound(key, text) and key not in of_itself and (entry.c, log) >= newest.get(key, _NOTHING)[:2]:
                found[key] = text
        for key, text in found.items():
            newest[key] = entry.c, log, text
            lines[f"{OWN_STATE}{user}:{key}"] = f"{entry.c} {log} {text}"
        for key in self._too_many(newest):
            del newest[key]
            lines[f"{OWN_STATE}{user}:{key}"] = None
            found[key] = ""
        return [(user, key, text) for key, text in found.items()]

    def _too_many(self, newest: Mapping[str, _Newest]) -> Iterator[str]:
        """Yield the keys that give way: the oldest of each kind beyond what all machines keep. As that sorts all keys,
        it begins only once there are as many more than if all kinds were full.
        """
        counts = Counter[str]()
        if len(newest) > (len(KINDS) + 2) * MAX_KEYS:
            for key in sorted(newest.keys() - {ENTRIES}, key=lambda key: (newest[key][:2], key), reverse=True):
                counts[_kind_of(key)] += 1
                if counts[_kind_of(key)] > MAX_KEYS:
                    yield key

    def on_durable(self, user: UserId, key: str, text: str) -> None:
        """Let a choice count that is stored."""
        texts = self._texts.setdefault(user, {})
        if texts.get(key, "") != text:
            texts[key] = text
            if not text:
                del texts[key]
            if key != ENTRIES:
                self._on_changed(user, key, text)

    def reload(self, meta: Mapping[str, str]) -> None:
        """Begin anew from what storage holds."""
        self._newest = _read(meta)
        for user in [*self._texts, *self._newest]:
            newest = self._newest.get(user, {})
            for key in [*self._texts.get(user, {}), *newest]:
                self.on_durable(user, key, newest.get(key, _NOTHING)[2])

    def lines_of(self, user: UserId) -> list[str]:
        """Return the keys in meta of all that a user chose."""
        return [f"{OWN_STATE}{user}:{key}" for key in self._newest.get(user, {})]

    def forget(self, user: UserId) -> None:
        """Forget what a user chose, when it is deleted."""
        self._newest.pop(user, None)
        for key in [*self._texts.get(user, {})]:
            self.on_durable(user, key, "")


def is_sound(key: str, text: object) -> bool:
    """Return whether a key and its text can be chosen, and each database keeps them."""
    if not isinstance(text, str) or "\0" in key + text:
        return False
    return 0 < len(key.encode()) <= MAX_KEY_BYTES and len(text.encode()) <= MAX_TEXT_BYTES


def _kind_of(key: str) -> str:
    return next((kind for kind in KINDS if key.partition(":")[0] == kind), "")


def id_in(key: str) -> str:
    """Return the id at the end of a key, "" if there is none."""
    id = key.partition(":")[2]
    return id if _ID.fullmatch(id) else ""


def _read(meta: Mapping[str, str]) -> dict[UserId, dict[str, _Newest]]:
    found = dict[UserId, dict[str, _Newest]]()
    for name, line in meta.items():
        if name.startswith(OWN_STATE):
            user, _, key = name.removeprefix(OWN_STATE).partition(":")
            c, log, text = line.split(" ", 2)
            found.setdefault(user, {})[key] = int(c), log, text
    return found
