"""When an entry is shown: after what it answers and follows, and which place it gets then.

An entry whose `re` or `after` is not here waits, and later entries of its writer behind it, at most 300 s while what
it follows is on its way and 30 s otherwise; then it is released with a gap mark. The first entry of a log waits for
the logs it builds on. In the transaction that releases an entry it gets its place, the next number of this database:
that is what consumers count by. Waiting entries are durable and acknowledged; only showing them waits.

Source: docs/protocol.md, "Order".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from p2pchat.core.effects import Gap
from p2pchat.core.log import Entry, Ref, ref_key
from p2pchat.core.records import LogFacts, LogKey, Stretch
from p2pchat.core.sides import Shelf
from p2pchat.core.tips import Conversation, Log
from p2pchat.protocol import UserId

MAX_SETTLED = 10_000  # answers of storage remembered; a guess: 2 MiB


class Order:
    """Gives places."""

    def __init__(self, shelf: Shelf, next_place: int) -> None:
        self._shelf = shelf
        self._ctx = shelf.ctx
        self.next_place = next_place
        self._settled: dict[tuple[str, str], int] = {}  # (conversation, ref) not in memory -> released up to
        self._absent: set[tuple[str, str]] = set()
        self._asking: set[tuple[str, str]] = set()

    # ---- entries that came

    def arrived(self, conversation: Conversation, log: Log, first: int, entries: Sequence[Entry]) -> None:
        """Release what may be shown of these new entries of a log, and let the rest wait."""
        free = 0 if log.queue else self._count_free(conversation, log, first, entries)
        if free:
            self._release(conversation, log, free)
        if free < len(entries):
            since = self._ctx.now.mono
            waiting = enumerate(entries[free:], first + free)
            log.queue.extend((seq, entry, since) for seq, entry in waiting)
            self._block(conversation, log)
        if free and conversation.blocked:
            self._retry(conversation)

    def own(self, conversation: Conversation, log: Log, count: int) -> int:
        """Release entries of a hosted user at once and return the place of the last: who wrote them has seen them."""
        self._release(conversation, log, count)
        if conversation.blocked:
            self._retry(conversation)
        return self.next_place - 1

    def resume(self, conversation: Conversation, log: Log) -> None:
        """Let the entries of a log wait that were waiting when this node stopped."""
        self._block(conversation, log)

    def _count_free(self, conversation: Conversation, log: Log, first: int, entries: Sequence[Entry]) -> int:
        for index, entry in enumerate(entries):
            if (entry.after or entry.re or first + index == 1) and self._missing(
                conversation, log, first + index, entry
            ):
                return index
        return len(entries)

    def _missing(self, conversation: Conversation, log: Log, seq: int, entry: Entry) -> list[Ref]:
        """Return what this entry follows that has no place yet."""
        refs = list(entry.after)
        if entry.re is not None:
            refs.append(entry.re)
        if seq == 1:
            refs.extend(Ref(ref_key(log.id.user, mark.run), mark.seq) for mark in entry.before)
        return [ref for ref in refs if not self._is_here(conversation, log, seq, ref)]

    def _is_here(self, conversation: Conversation, log: Log, seq: int, ref: Ref) -> bool:
        if ref.log == log.ref:
            return ref.seq < seq  # entries of one log are released in order anyway
        found = conversation.by_ref.get(ref.log)
        if found is not None:
            return found.released >= ref.seq or found.forked
        key = (conversation.id, ref.log)
        if self._settled.get(key, 0) >= ref.seq:
            return True
        if key not in self._absent and key not in self._asking:
            self._asking.add(key)
            self._shelf.lookups.log(LogKey(conversation.id, ref.log), partial(self._looked_up, conversation, ref.log))
        return False

    def _looked_up(self, conversation: Conversation, ref: str, facts: LogFacts | None) -> None:
        key = (conversation.id, ref)
        self._asking.discard(key)
        if facts is None:
            self._absent.add(key)
            return
        if len(self._settled) >= MAX_SETTLED:
            self._settled.clear()
        self._settled[key] = facts.seq if facts.forked else facts.released
        self._retry(conversation)

    # ---- waiting

    def _block(self, conversation: Conversation, log: Log) -> None:
        if log.id not in conversation.blocked:
            conversation.blocked[log.id] = log
            self._watch(conversation, log)

    def _watch(self, conversation: Conversation, log: Log) -> None:
        seq, _, since = log.queue[0]
        wait = max(0.0, since + self._ctx.settings.order_wait - self._ctx.now.mono)
        self._shelf.after(wait, partial(self._overdue, conversation, log, seq))

    def _overdue(self, conversation: Conversation, log: Log, seq: int) -> None:
        if not log.queue or log.queue[0][0] != seq or conversation.blocked.get(log.id) is not log:
            return
        _, entry, since = log.queue[0]
        missing = self._missing(conversation, log, seq, entry)
        left = since + self._ctx.settings.order_wait_most - self._ctx.now.mono
        if missing and left > 0 and any(self._on_its_way(conversation, ref) for ref in missing):
            wait = min(left, self._ctx.settings.order_wait)
            self._shelf.after(wait, partial(self._overdue, conversation, log, seq))
            return
        if missing:
            named = tuple(f"{ref.log}.{ref.seq}" for ref in missing)
            self._ctx.emit(Gap(log.id, seq, named))
            log.queue.popleft()
            self._release(conversation, log, 1, gap=True)
            if log.queue:
                self._watch(conversation, log)
        self._retry(conversation)

    def _on_its_way(self, conversation: Conversation, ref: Ref) -> bool:
        found = conversation.by_ref.get(ref.log)
        if found is not None and found.seq >= ref.seq:
            return True  # it waits itself
        for side in self._shelf.sides.values():
            for (where, user), marks in side.ahead.items():
                mark = marks.get(ref.log[16:]) if where == conversation.id and user[:16] == ref.log[:16] else None
                if mark is not None and mark.seq >= ref.seq:
                    return True
        return False

    def _retry(self, conversation: Conversation) -> None:
        """Release whatever may be released now, until nothing moves."""
        moved = True
        while moved:
            moved = False
            for log in list(conversation.blocked.values()):
                moved = self._drain(conversation, log) or moved

    def _drain(self, conversation: Conversation, log: Log) -> bool:
        entries = [item[1] for item in log.queue]
        free = self._count_free(conversation, log, log.queue[0][0], entries) if entries else 0
        for _ in range(free):
            log.queue.popleft()
        if free:
            self._release(conversation, log, free)
        if not log.queue:
            conversation.blocked.pop(log.id, None)
        elif free:
            self._watch(conversation, log)
        return free > 0

    # ---- places

    def _release(self, conversation: Conversation, log: Log, count: int, *, gap: bool = False) -> None:
        """Give places to the next entries of a log."""
        self._absent.discard((conversation.id, log.ref))
        end = log.released + count
        while log.released < end:
            first = log.released + 1
            last, old = self._same_age(conversation, log, first, end)
            self._place(log, first, last - first + 1, old, gap)
            log.released = last
        conversation.shown(self.next_place - 1, log, end, keep=4)

    def _same_age(self, conversation: Conversation, log: Log, first: int, end: int) -> tuple[int, bool]:
        """Return up to which entry all are old, or all are not: what was here before this peer came."""
        marks = conversation.old_marks.get(log.id.user)
        if not marks:
            return end, False
        limit = marks.get(log.id.run)
        if limit is None:
            return end, True  # a log that those told of build on
        if end >= limit:
            del marks[log.id.run]
        return (min(end, limit), True) if first <= limit else (end, False)

    def _place(self, log: Log, first: int, count: int, old: bool, gap: bool) -> None:
        stretches = self._ctx.change.stretches
        last = stretches[-1] if stretches else None
        if (
            last
            and last.log == log.id
            and last.first + last.count == first
            and last.old == old
            and not (gap or last.gap)
        ):
            stretches[-1] = replace(last, count=last.count + count)
        else:
            stretches.append(Stretch(self.next_place, log.id, first, count, self._ctx.now.utc, old, gap))
        self.next_place += count


def followed(conversation: Conversation, user: UserId, since_place: int, most: int) -> tuple[Ref, ...]:
    """Return the newest entries of others that this user was shown after that place: what `after` names."""
    newer = [Ref(ref, seq) for place, by, ref, seq in conversation.recent if by != user and place > since_place]
    return tuple(newer[-most:])
