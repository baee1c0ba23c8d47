"""What programs read: released entries by place, by clock, or one by its name; with what became of them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from heapq import merge
from itertools import islice
from operator import itemgetter

from p2pchat.core.log import LogId, ref_key
from p2pchat.core.mending import newness
from p2pchat.core.records import EVERYTHING, Ref, Stretch
from p2pchat.protocol import ConversationId, UserId
from p2pchat.storage.base import Mended, Shown, SortKey
from p2pchat.storage.dicts.log import MemoryLog
from p2pchat.storage.dicts.tables import Tables
from p2pchat.storage.mended import mended_of


class Showing:
    """Reads released entries; those that wait have no place and are nowhere here."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def places(self, after: int, limit: int, conversations: Sequence[ConversationId] | None) -> list[Shown]:
        """Return released entries with place > after."""
        stretches = self._tables.stretches
        begin = bisect_right(stretches, after, key=lambda each: each.first_place + each.count - 1)
        later = stretches[begin:]
        if conversations is not None:
            these = frozenset(conversations)
            later = [each for each in later if each.log.conversation in these]
        return self._with_mended(islice(self._shown_from(later, after), limit))

    def _shown_from(self, stretches: list[Stretch], after: int) -> Iterator[Shown]:
        for stretch in stretches:
            log = self._tables.logs[stretch.log]
            skipped = max(0, after + 1 - stretch.first_place)
            seqs = range(stretch.first + skipped, stretch.first + stretch.count)
            yield from (log.shown(seq) for seq in seqs if log.may_be_read(seq))

    def history(
        self,
        conversation: ConversationId | None,
        before: SortKey | None,
        after: SortKey | None,
        since: int | None,
        limit: int,
    ) -> list[Shown]:
        newest_first = after is None
        logs = [log for log in self._tables.logs.values() if conversation in (None, log.id.conversation)]
        between = [_keys(log, before, after, since, newest_first) for log in logs]
        ordered = merge(*between, key=itemgetter(0), reverse=newest_first)
        keys = list(islice(ordered, limit or None))
        chosen = keys[::-1] if newest_first else keys
        return self._with_mended(log.shown(key[3]) for key, log in chosen)

    def entry(self, log: LogId, seq: int) -> Shown | None:
        found = self._tables.logs.get(log)
        if found is None or not 0 < seq <= found.released or not found.may_be_read(seq):
            return None
        return self._with_mended([found.shown(seq)])[0]

    def first_heard(self, user: UserId) -> int:
        """Return when something of a user came first, UTC microseconds; 0 when nothing ever did."""
        first = next((log for log in self._tables.logs.values() if log.id.user == user), None)
        return first.shown(1).received_at if first is not None and first.released else 0

    def _with_mended(self, page: Iterable[Shown]) -> list[Shown]:
        """Return these with what became of them."""
        if not self._tables.mendings:
            return list(page)
        return [one if (mended := self._mended(one)) is None else replace(one, mended=mended) for one in page]

    def _mended(self, one: Shown) -> Mended | None:
        named = Ref(ref_key(one.log.user, one.log.run), one.seq)
        some = self._tables.mendings.get((one.log.conversation, named))
        if some is None:
            return None
        logs = self._tables.logs
        seen = [each for each in some if logs[each.log].may_be_read(each.seq)]
        newest = {(each.log.user, each.reaction): each for each in sorted(seen, key=newness)}
        return mended_of(one.log.user, [(each, logs[each.log].raws[each.seq - 1]) for each in newest.values()])


def _keys(
    log: MemoryLog, before: SortKey | None, after: SortKey | None, since: int | None, newest_first: bool
) -> Iterator[tuple[SortKey, MemoryLog]]:
    """Yield the sort keys of the released entries between these bounds, in the order asked for."""
    readable = log.released if log.seen == EVERYTHING else min(log.released, log.seen)
    end = readable if before is None else min(readable, log.first_not_below(before))
    begin = 0 if after is None else log.first_not_below((*after[:3], after[3] + 1))
    if since is not None:
        begin = max(begin, bisect_left(log.clocks, since))
    order = range(end - 1, begin - 1, -1) if newest_first else range(begin, end)
    return (((log.clocks[at], log.id.user, log.id.run, at + 1), log) for at in order)
