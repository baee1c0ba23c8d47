"""What is unread in the conversations one is not in: how much, how often one is meant, and what came first.

It counts lines, and knows nothing of who sees them. What was written before one came (`old`) is nobody's news.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


def mentions(text: str, name: str) -> bool:
    """Whether `name` stands in `text` as a word of its own, whatever the case."""
    if not name:
        return False
    return re.search(rf"(?<!\w){re.escape(name.casefold())}(?!\w)", text.casefold()) is not None


@dataclass(slots=True)
class _Waiting:
    """One conversation's unread lines. `rank`: 0 where one is meant, 1 what goes to oneself alone, 2 the rest."""

    lines: int = 0
    mentions: int = 0
    rank: int = 2


class Unread:
    """What is unread, by conversation id.

    Attributes:
        name: The own name, to know who is meant; "" knows nobody.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._waiting: dict[str, _Waiting] = {}  # in the order they became unread

    def noticed(self, line: Mapping[str, Any], here: str | None) -> bool:
        """Count an event line, if it is a message that belongs elsewhere than `here`; return whether it was counted.

        Args:
            here: The id of the conversation of the moment; None: the room, which may not be known yet.
        """
        if line["event"] != "message" or line["old"] or is_here(line, here):
            return False
        waiting = self._waiting.setdefault(line["conversation_id"], _Waiting())
        waiting.lines += 1
        if mentions(line["text"], self.name):
            waiting.mentions += 1
        waiting.rank = min(waiting.rank, 0 if waiting.mentions else 1 if line["kind"] == "dm" else 2)
        return True

    def count(self, id: str) -> int:
        """Return how many lines are unread there."""
        return self._waiting[id].lines if id in self._waiting else 0

    def mentions(self, id: str) -> int:
        """Return in how many of them one is meant."""
        return self._waiting[id].mentions if id in self._waiting else 0

    @property
    def ids(self) -> list[str]:
        """Every conversation with something unread, in the order they became so."""
        return list(self._waiting)

    @property
    def total(self) -> int:
        return sum(waiting.lines for waiting in self._waiting.values())

    def next(self) -> str | None:
        """Return the conversation to look at next: one where one is meant, then a direct one, then any; the longest
        waiting of them. None: nothing is unread."""
        return min(self._waiting, key=lambda id: self._waiting[id].rank, default=None)

    def first(self) -> str | None:
        """Return the conversation of the first unread line; None: nothing is unread."""
        return next(iter(self._waiting), None)

    def seen(self, id: str) -> None:
        """Somebody is there now: nothing of it is unread."""
        self._waiting.pop(id, None)


def is_here(line: Mapping[str, Any], here: str | None) -> bool:
    """Whether a message belongs to the conversation `here` (None: the room)."""
    return bool(line["conversation_id"] == here or (here is None and line["kind"] == "room"))
