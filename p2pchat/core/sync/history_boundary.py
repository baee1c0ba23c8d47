"""The boundary between history and news in a conversation that is new to this peer.

The first marks that peers announce say what existed before; everything up to them is released as old, so that a bot
can skip it. The marks are kept, over restarts too, until everything they name was shown.

Source: docs/guarantees.md, "Offline members and newcomers".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from p2pchat.core.log import LogId
from p2pchat.core.node_context import KeySet
from p2pchat.protocol import ConversationId, Mark, RunId, UserId

MAX_WRITERS = 10_000  # writers whose first marks are kept; a guess: 2 MiB
MAX_OLD_MARKS = 20_000  # first marks of all writers together; a guess: 4 MiB
MAX_ANNOUNCEMENTS = 4  # announcements of one writer's first marks that may name different logs; a guess
OLD_MARKS = "old_marks"  # in meta: the marks, "" when all they name was shown


class HistoryBoundary:
    """The first marks of the writers of one conversation, until all they name was shown.

    `marks` holds the first marks of each writer; 0 for a log shown up to its mark, and for a new log that builds on
    one.
    """

    __slots__ = ("__weakref__", "_count", "_from_files", "_pushed", "grew", "marks")

    def __init__(self, text: str = "") -> None:
        """Restore a boundary from `str` of another."""
        self.marks: dict[UserId, dict[RunId, int]] = {}
        self.grew: bool = False  # a new log was added to a writer: logs that build on it are news too
        self._from_files: dict[UserId, KeySet[RunId]] = {}  # logs whose marks come from files only
        self._pushed: set[RunId] = set()  # logs whose marks come from pushes only; empty after a restart
        self._count = 0  # marks, or more: not all that are removed are subtracted
        for line in text.split():
            user, *logs = line.split(",")
            self.marks[user] = {log[:16]: int(log[16:]) for log in logs}
            self._count += len(logs)

    def __str__(self) -> str:
        lines = ((user, *(f"{run}{seq}" for run, seq in logs.items())) for user, logs in self.marks.items())
        return " ".join(",".join(line) for line in lines)

    def add_marks(self, user: UserId, marks: Collection[Mark], most: int) -> None:
        """Take first marks of a writer; `most` come at a time.

        Before all marks arrived, the writer may have begun a log that builds on an announced one, and another member
        may be behind. So later announcements add logs, a few times.
        """
        old = self.marks.get(user)
        if old is None and len(self.marks) < MAX_WRITERS:
            old = self.marks[user] = {}
        if old is not None:
            before = len(old)
            has_room = before < MAX_ANNOUNCEMENTS * most and self._count < MAX_OLD_MARKS
            self._pushed.difference_update(mark.run for mark in marks)
            old.update({mark.run: max(mark.seq, old.get(mark.run, 0)) for mark in marks if has_room or mark.run in old})
            self._count += len(old) - before
            if len(old) > before and self._count >= MAX_OLD_MARKS:
                self._count = sum(map(len, self.marks.values()))

    def on_told_by_writer(self, log: LogId, seq: int, shown: int) -> bool:
        """Take from a writer's own peer how far a log goes: nothing beyond is old, whatever others announced. Return
        whether anything changed. `shown` says how far the log was shown.
        """
        logs = self.marks.get(log.user, {})
        if logs.get(log.run, 0) <= seq:
            return False
        logs[log.run] = seq
        self.on_shown(log, shown)
        return True

    def on_listed(self, user: UserId, runs: Collection[RunId]) -> None:
        """Take the complete list of this writer's tips from a member.

        A log known from a file but not listed is covered by a listed one, however much of it the file lacked. All of it
        is old, as of any log that was not announced.
        """
        from_files = self._from_files.get(user, {})
        for run in [run for run in from_files if run not in runs]:
            del from_files[run]
            logs = self.marks.get(user, {})
            logs.pop(run, None)
            if not logs:
                self.marks.pop(user, None)

    def on_imported(self, log: LogId, seq: int, before: Iterable[Mark], most: int) -> None:
        """Take a log that a file brought up to here. Its mark replaces those of the logs it builds on."""
        old = self.marks.get(log.user, {})
        for mark in before:
            if old.get(mark.run) == mark.seq:
                del old[mark.run]
        was_announced = log.run in old and log.run not in self._from_files.get(log.user, {})
        self.add_marks(log.user, [Mark(log.run, seq, "")], most)
        if not was_announced and log.run in self.marks.get(log.user, ()):
            self._from_files.setdefault(log.user, {})[log.run] = None

    def on_pushed(self, log: LogId, before: Iterable[Mark], first: int) -> None:
        """Take a log that its writer sent unasked, so that it is news from entry `first` on, unless it was announced.

        All of it is news if it builds on an announced log, which may be known only when the logs between them have
        come. If not, the writer may have lost its disk, or a member announced a log that never existed.
        """
        logs = self.marks.get(log.user)
        if logs is not None and log.run not in logs:
            logs[log.run] = 0 if any(mark.run in logs for mark in before) else first - 1
            if logs[log.run]:
                self._pushed.add(log.run)
            self.grew = True

    def unshown(self, conversation: ConversationId) -> Iterator[LogId]:
        """Return the logs with old entries that were not shown yet."""
        return (LogId(conversation, user, run) for user, logs in [*self.marks.items()] for run in logs if logs[run])

    def on_shown(self, log: LogId, seq: int) -> None:
        """Note that a log was shown up to here."""
        logs = self.marks.get(log.user, {})
        if seq >= logs.get(log.run, seq + 1):
            logs[log.run] = 0
            if not any(logs.values()):
                del self.marks[log.user]
                self._pushed.difference_update(logs)
                self._count -= len(logs)

    def split_by_age(self, log: LogId, before: Iterable[Mark], first: int, end: int) -> tuple[int, bool]:
        """Return the entry up to which first..end are all old or all news, and whether they are old.

        A log that no peer announced, and that extends none of the announced ones, is treated as their ancestor, so its
        entries are old. The same happens to a writer that lost its disk during our first sync, or that writes on a
        second peer which had received nothing from the first.
        """
        logs = self.marks.get(log.user)
        if not logs:
            return end, False
        if log.run in self._pushed and any(mark.run in logs for mark in before):
            self._pushed.remove(log.run)
            logs[log.run] = 0
        limit = logs.get(log.run)
        if limit is None:  # either announced logs build on it, and it is old; or it builds on them, and it is news
            if not any(mark.run in logs for mark in before):
                return end, True
            limit = logs[log.run] = 0
            self.grew = True
        return (min(end, limit), True) if first <= limit else (end, False)
