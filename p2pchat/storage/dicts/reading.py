"""What is asked of the tables while a node runs: facts of logs, who holds and has read an entry, how much is stored."""

from __future__ import annotations

from collections.abc import Mapping

from p2pchat.config import Settings
from p2pchat.core.log import LogId
from p2pchat.core.records import LogFacts, LogKey, ShownKey
from p2pchat.protocol import ConversationId, Mark, UserId
from p2pchat.storage.batches import implied_seqs
from p2pchat.storage.dicts.tables import Tables

Levels = Mapping[LogId, Mapping[UserId, int]]  # how high members stand in each log


class Reader:
    """Answers questions on these tables."""

    def __init__(self, tables: Tables, settings: Settings) -> None:
        self._tables = tables
        self._settings = settings

    def facts(self, key: LogKey) -> LogFacts | None:
        log = self._tables.by_ref.get((key.conversation, key.ref))
        return None if log is None else log.facts(key.seq)

    def logs_of(self, conversation: ConversationId, user: UserId) -> list[LogFacts]:
        return [log.facts() for log in self._tables.of_user.get((conversation, user), ()) if log.raws]

    def older(self, conversation: ConversationId, user: UserId) -> list[Mark]:
        """Return the marks of the 1st, 2nd, 4th ... newest log."""
        logs = [log for log in self._tables.of_user.get((conversation, user), ()) if log.raws and not log.forked]
        steps = [1 << power for power in range(self._settings.max_older)]
        heads = [(logs[-step], logs[-step].heads[-1]) for step in steps if step <= len(logs)]
        return [Mark(log.id.run, head.seq, head.chain[:8].hex()) for log, head in heads]

    # ---- receipts, quota

    def heard(self, log: LogId, seq: int) -> list[tuple[UserId, int]]:
        """Return who holds this entry."""
        return self._levels(self._tables.heard, log, seq)

    def readers(self, log: LogId, seq: int) -> list[tuple[UserId, int]]:
        """Return who has read this entry."""
        return self._levels(self._tables.reads, log, seq)

    def _levels(self, told: Levels, log: LogId, seq: int) -> list[tuple[UserId, int]]:
        """Return who stands at this entry or above, by what was told of this log and of later ones."""
        found = self._tables.logs.get(log)
        if found is None:
            return []
        siblings = self._tables.of_user[log.conversation, log.user]
        later = [other.numbered for other in siblings if other.number > found.number]
        implied = {} if found.forked else implied_seqs(log.run, len(found.raws), later)
        highest = dict(told.get(log, {}))
        for run, implied_seq in implied.items():
            for member in told.get(log._replace(run=run), ()):
                highest[member] = max(highest.get(member, 0), implied_seq)
        return sorted((member, known) for member, known in highest.items() if known >= seq)

    def shown_by(self, key: ShownKey) -> list[tuple[LogId, int]]:
        """Return how far logs had been shown at a place; for one that had not at all, those that it builds on."""
        found: list[tuple[LogId, int]] = []
        asked, seen = list(key.logs), set(key.logs)
        while asked:
            log = self._tables.logs.get(asked.pop())
            seq = log.shown_by(key.place) if log else 0
            if log and seq:
                found.append((log.id, seq))
            elif log:
                below = {log.id._replace(run=mark.run) for mark in log.before} - seen
                seen |= below
                asked += below
        return found

    def size_bytes(self, user: UserId, conversation: ConversationId) -> int:
        """Return the entry bytes of all logs of a user, in one conversation or ("") all."""
        logs = (log for log in self._tables.logs.values() if log.id.user == user)
        return sum(log.size for log in logs if conversation in ("", log.id.conversation))
