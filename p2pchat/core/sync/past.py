"""What was in a room before this peer came: it is handed on as old, so that a bot can pass over it.

The first marks heard say what there is; all up to them is old. They are kept until everything they name was shown,
over restarts too: who was killed in the middle of its first fetch is no less new to the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from p2pchat.core.log import LogId
from p2pchat.protocol import ConversationId, Mark, RunId, UserId

MAX_WRITERS = 10_000  # whose first marks are remembered; a guess: 2 MiB
TELLINGS = 4  # as often as first marks of one writer may all be of other logs, before no more are remembered; a guess
OLD_MARKS = "old_marks"  # in meta: the marks, until all they name was shown; then ""


class Past:
    """Of each writer the marks first heard; 0 for a log shown up to its mark, and for news that builds on one."""

    def __init__(self, text: str = "") -> None:
        """Begin with what `str` of another said."""
        self.marks: dict[UserId, dict[RunId, int]] = {}
        self.grew = False  # news of such a writer began: what builds on that is news as well
        self._brought: set[tuple[UserId, RunId]] = set()  # whose marks files made, and no member yet
        for line in text.split():
            user, *logs = line.split(",")
            self.marks[user] = {log[:16]: int(log[16:]) for log in logs}

    def __str__(self) -> str:
        lines = ((user, *(f"{run}{seq}" for run, seq in logs.items())) for user, logs in self.marks.items())
        return " ".join(",".join(line) for line in lines)

    def told(self, user: UserId, marks: Iterable[Mark], most: int) -> None:
        """Take first marks of a writer; `most` are told at a time.

        Before all of them were told the writer may have begun a log that builds on one that was told of, and another
        member may be behind: what is told then is added, a few times.
        """
        old = self.marks.get(user)
        if old is None and len(self.marks) < MAX_WRITERS:
            old = self.marks[user] = {}
        if old is not None:
            has_room = len(old) < TELLINGS * most
            old.update({mark.run: max(mark.seq, old.get(mark.run, 0)) for mark in marks if has_room or mark.run in old})

    def listed(self, user: UserId, runs: Collection[RunId]) -> None:
        """A member listed all of this writer's logs that nothing builds on.

        What a file made a mark of and is not among them is built on, however much of it the file lacked: all of it is
        old, as it is of any log that was not told of.
        """
        for log in [log for log in self._brought if log[0] == user and log[1] not in runs]:
            self._brought.discard(log)
            logs = self.marks.get(user, {})
            logs.pop(log[1], None)
            if not logs:
                self.marks.pop(user, None)

    def brought(self, log: LogId, seq: int, before: Iterable[Mark], most: int) -> None:
        """A file brought a log up to here: a mark that takes the place of those of the logs it builds on."""
        old = self.marks.get(log.user, {})
        for mark in before:
            if old.get(mark.run) == mark.seq:
                del old[mark.run]
        heard = log.run in old and (log.user, log.run) not in self._brought
        self.told(log.user, [Mark(log.run, seq, "")], most)
        if not heard and log.run in self.marks.get(log.user, ()):
            self._brought.add((log.user, log.run))

    def pushed(self, log: LogId, before: Iterable[Mark], first: int) -> None:
        """A writer sent this unasked, so it wrote it just now: news from there on, of a log that was not told of.

        All of it is, when it builds on one that was. If not: the writer's disk may be lost; or a member told of a log
        that never was.
        """
        logs = self.marks.get(log.user)
        if logs is not None and log.run not in logs:
            logs[log.run] = 0 if any(mark.run in logs for mark in before) else first - 1
            self.grew = True

    def unshown(self, conversation: ConversationId) -> Iterator[LogId]:
        """Return the logs of which something old is to be shown yet."""
        return (LogId(conversation, user, run) for user, logs in [*self.marks.items()] for run in logs if logs[run])

    def shown(self, log: LogId, seq: int) -> None:
        """A log was shown up to here."""
        logs = self.marks.get(log.user, {})
        if seq >= logs.get(log.run, seq + 1):
            logs[log.run] = 0
            if not any(logs.values()):
                del self.marks[log.user]

    def same_age(self, log: LogId, before: Iterable[Mark], first: int, end: int) -> tuple[int, bool]:
        """Return up to which entry of first..end all are old, or none is; and whether they are.

        A log that was not told of, and builds on none that was, is taken for one that those build on. Who lost its disk
        in the seconds of this peer's first fetch begins such a one too, or who writes on a second peer to which the
        first had given nothing: what others tell of it is then old here.
        """
        logs = self.marks.get(log.user)
        if not logs:
            return end, False
        limit = logs.get(log.run)
        if limit is None:  # those told of build on it, and it is old; or it builds on them, and it is news
            if not any(mark.run in logs for mark in before):
                return end, True
            limit = logs[log.run] = 0
            self.grew = True
        return (min(end, limit), True) if first <= limit else (end, False)
