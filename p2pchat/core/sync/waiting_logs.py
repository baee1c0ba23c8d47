"""The waiting logs of one conversation: the next entry of each follows entries which are not here yet.

A waiting log is found by the entries that it waits for. So an entry that is released costs as much as what waits for
it, and not as much as all that waits.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from p2pchat.core.log import LogId, Ref
from p2pchat.core.node_context import KeySet

if TYPE_CHECKING:
    from p2pchat.core.sync.log_index import LogState


class WaitingLogs:
    """The waiting logs, and what each of them waits for.

    Attributes:
        shown_early: Logs (as references name them) that were shown without what they follow, since there was no room.
    """

    __slots__ = ("_awaited", "_logs", "shown_early")

    def __init__(self) -> None:
        self.shown_early: KeySet[str] = {}
        self._logs: dict[LogId, tuple[LogState, tuple[Ref, ...]]] = {}
        self._awaited: dict[str, dict[int, dict[LogId, LogState]]] = {}  # by log and number of the awaited entry

    def __bool__(self) -> bool:
        return bool(self._logs)

    def __contains__(self, log: object) -> bool:
        return log in self._logs

    def logs(self) -> list[LogState]:
        """Return all of them, in the order in which they began to wait."""
        return [log for log, _ in self._logs.values()]

    def get(self, id: LogId) -> LogState | None:
        """Return a log if it waits."""
        found = self._logs.get(id)
        return found[0] if found is not None else None

    def put(self, log: LogState, refs: Iterable[Ref]) -> None:
        """Note that a log waits for these entries, instead of those it waited for before."""
        refs = tuple(dict.fromkeys(refs))
        _, former = self._logs.get(log.id, (log, ()))
        self._logs[log.id] = log, refs
        if refs != former:
            self._unlist(log.id, former)
            for ref in refs:
                self._awaited.setdefault(ref.log, {}).setdefault(ref.seq, {})[log.id] = log

    def remove(self, id: LogId) -> None:
        """Forget a log, which waits no more."""
        if id in self._logs:
            self._unlist(id, self._logs.pop(id)[1])

    def _unlist(self, id: LogId, refs: Iterable[Ref]) -> None:
        for ref in refs:
            seqs = self._awaited[ref.log]
            del seqs[ref.seq][id]
            if not seqs[ref.seq]:
                del seqs[ref.seq]
            if not seqs:
                del self._awaited[ref.log]

    # By what they wait for

    def awaited(self, log: str, upto: int) -> list[Ref]:
        """Return the awaited entries of a log (as references name it) up to this one."""
        return [Ref(log, seq) for seq in self._awaited.get(log, ()) if seq <= upto]

    def waiting_for(self, log: str, first: int, last: int) -> list[LogState]:
        """Return the logs that wait for entries first..last of a log (as references name it)."""
        seqs = self._awaited.get(log)
        if not seqs:
            return []
        fewer = seqs if len(seqs) <= last - first else range(first, last + 1)
        found = {id: each for seq in fewer if first <= seq <= last for id, each in seqs.get(seq, {}).items()}
        return [*found.values()]

    def waiting_for_user(self, start: str) -> list[LogState]:
        """Return the logs that wait for any entry of the user whose id begins so, as references do."""
        logs = [log for log in self._awaited if log.startswith(start)]
        found = {id: each for log in logs for waiting in self._awaited[log].values() for id, each in waiting.items()}
        return [*found.values()]
