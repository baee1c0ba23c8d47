"""What one peer has told of how far its users have read: kept as it was told, whatever counts of it here.

So two peers can compare by a sum: each knows what *that* peer said, though another of the same reader says more. Pages
that tell all come in order, and replace what was known when the last of them has come.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from p2pchat.core.log import ref_key
from p2pchat.core.records import ReadMark
from p2pchat.core.sync.anti_entropy import FIRST_ID, LAST_ID, following
from p2pchat.core.sync.bookmarks import Pair, read_sum
from p2pchat.protocol import ConversationId

MOST_TOLD = 10_000  # marks of one peer: as many as users it may host; a few MiB


class Told:
    """One peer's word."""

    def __init__(self, known: Iterable[ReadMark]) -> None:
        """Begin with what is known of this peer's users: told in an earlier run, and nothing else, most likely."""
        self._marks: dict[Pair, dict[str, int]] = {}
        self._count = 0
        self._pages: dict[Pair, dict[str, int]] | None = None  # told so far of all
        self._pages_count = 0
        self._pages_to: ConversationId = ""
        for item in known:
            self.news((item.log.conversation, item.reader), [(ref_key(item.log.user, item.log.run), item.seq)])

    @property
    def count(self) -> int:
        """How many marks."""
        return self._count

    @property
    def sum(self) -> str:
        return read_sum(self._marks)

    def news(self, pair: Pair, refs: Sequence[tuple[str, int]]) -> bool:
        """Take what is told of a reader in a conversation; False when that would be too much."""
        known = self._marks.get(pair, {})
        more = len({ref for ref, _ in refs} - known.keys())
        if self._count + more > MOST_TOLD:
            return False
        if not refs:
            return True
        self._marks.setdefault(pair, known).update(refs)
        self._count += more
        return True

    def page(self, span: tuple[ConversationId, ConversationId], told: dict[Pair, list[tuple[str, int]]]) -> None:
        """Take a page of all it has to tell; one that does not follow the page before is nothing."""
        if span[0] == FIRST_ID:
            self._pages, self._pages_count = {}, 0
        elif self._pages is None or not self._pages_to <= span[0] <= following(self._pages_to):
            self._pages = None
            return
        self._pages_to = span[1]
        for pair, refs in told.items():
            if refs:
                page = self._pages.setdefault(pair, {})
                self._pages_count += len({ref for ref, _ in refs} - page.keys())
                page.update(refs)
        if self._pages_count > MOST_TOLD:
            self._pages = None
        elif span[1] == LAST_ID:
            self._marks, self._count, self._pages = self._pages, self._pages_count, None
