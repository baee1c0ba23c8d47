"""What is unread in the conversations one is not in: how much, how often one is meant, and what came first.

It counts lines, and knows nothing of who sees them. What was written before one came (`old`) is nobody's news.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_SUFFIX = r"(?:#([a-z2-7]{8,52})(?!\w))?"  # of a label: the beginning of an id, in small letters as all is compared


def mentions(text: str, name: str, id: str = "") -> bool:
    """Whether `name` stands in `text` as a word of its own, whatever the case: alone, or as a label of this id
    (`ada#K7QF2M3P`) and not of another one of that name."""
    if not name:
        return False
    found = re.finditer(rf"(?<!\w){re.escape(name.casefold())}(?!\w){_SUFFIX}", text.casefold())
    return any(match[1] is None or id.casefold().startswith(match[1]) for match in found)


def is_meant(line: Mapping[str, Any], name: str, id: str) -> bool:
    """Whether a message is for this user in particular: it goes to nobody else, or says the name."""
    return line["kind"] == "dm" or mentions(line["text"], name, id)


@dataclass(slots=True)
class _Waiting:
    """One conversation's unread lines, by who wrote them, and those of them in which one is meant."""

    direct: bool
    by: Counter[str] = field(default_factory=Counter)
    meant_by: Counter[str] = field(default_factory=Counter)

    @property
    def rank(self) -> int:
        """0 where one is meant, 1 what goes to oneself alone, 2 the rest."""
        return 0 if self.meant_by.total() else 1 if self.direct else 2


class Unread:
    """What is unread, by conversation id.

    Attributes:
        name, id: The own name and id, to know who is meant; "" knows nobody.
    """

    def __init__(self, name: str = "", id: str = "") -> None:
        self.name = name
        self.id = id
        self._waiting: dict[str, _Waiting] = {}  # in the order they became unread

    def noticed(self, line: Mapping[str, Any], here: str | None) -> bool:
        """Count an event line, if it is a message that belongs elsewhere than `here`; return whether it was counted.

        Args:
            here: The id of the conversation of the moment; None: the room, which may not be known yet.
        """
        if line["event"] != "message" or line["old"] or is_here(line, here):
            return False
        waiting = self._waiting.setdefault(line["conversation_id"], _Waiting(line["kind"] == "dm"))
        waiting.by[line["sender_id"]] += 1
        if mentions(line["text"], self.name, self.id):
            waiting.meant_by[line["sender_id"]] += 1
        return True

    def count(self, id: str) -> int:
        """Return how many lines are unread there."""
        return self._waiting[id].by.total() if id in self._waiting else 0

    def mentions(self, id: str) -> int:
        """Return in how many of them one is meant."""
        return self._waiting[id].meant_by.total() if id in self._waiting else 0

    @property
    def ids(self) -> list[str]:
        """Every conversation with something unread, in the order they became so."""
        return list(self._waiting)

    @property
    def total(self) -> int:
        return sum(waiting.by.total() for waiting in self._waiting.values())

    def next(self) -> str | None:
        """Return the conversation to look at next: one where one is meant, then a direct one, then any; the longest
        waiting of them. None: nothing is unread."""
        return min(self._waiting, key=lambda id: self._waiting[id].rank, default=None)

    def first(self) -> str | None:
        """Return the conversation of the first unread line; None: nothing is unread."""
        return next(iter(self._waiting), None)

    def forget(self, sender_id: str) -> None:
        """Nothing of this user is to be read any more."""
        for id, waiting in list(self._waiting.items()):
            del waiting.by[sender_id], waiting.meant_by[sender_id]
            if not waiting.by:
                del self._waiting[id]

    def recount(self, id: str, lines: Iterable[Mapping[str, Any]]) -> None:
        """These lines are what is unread there, and nothing else."""
        self.seen(id)
        for line in lines:
            self.noticed(line, "")

    def seen(self, id: str) -> None:
        """Somebody is there now: nothing of it is unread."""
        self._waiting.pop(id, None)


def is_here(line: Mapping[str, Any], here: str | None) -> bool:
    """Whether a message belongs to the conversation `here` (None: the room)."""
    return bool(line["conversation_id"] == here or (here is None and line["kind"] == "room"))
