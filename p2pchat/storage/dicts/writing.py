"""Commits: changes go into the tables. All are checked before any changes anything, so a commit is all or nothing."""

from __future__ import annotations

from collections.abc import Sequence

from p2pchat.config import Settings
from p2pchat.core.log import LogId
from p2pchat.core.records import Change, Fork, NewLog
from p2pchat.storage.dicts.log import MemoryLog
from p2pchat.storage.dicts.tables import Tables


class Writer:
    """Carries out commits on these tables."""

    def __init__(self, tables: Tables, settings: Settings) -> None:
        self._tables = tables
        self._settings = settings

    def commit(self, changes: Sequence[Change]) -> None:
        """Apply these in order; ValueError, and nothing is applied, for what does not follow from what is stored."""
        self._check(changes)
        for change in changes:
            self._apply_logs(change)
            self._apply_rest(change)

    def _check(self, changes: Sequence[Change]) -> None:
        """Raise ValueError for a step that does not follow from what is stored: a fault of the caller."""
        last: dict[LogId, int] = {}
        for change in changes:
            for new in change.logs:
                if new.log in self._tables.logs or new.log in last:
                    raise ValueError(f"this log was begun before: {new.log.run}")
                last[new.log] = 0
            new_forks = {fork.log for fork in change.forks} - self._tables.logs.keys() - last.keys()
            last.update(dict.fromkeys(new_forks, 0))
            for batch in change.batches:
                if batch.log not in last:
                    last[batch.log] = len(self._log(batch.log).raws)
                if batch.first != last[batch.log] + 1 or not batch.raws:
                    raise ValueError(f"{batch} does not follow entry {last[batch.log]}")
                last[batch.log] = batch.last
            for log in (*change.covered, *change.uncovered, *(stretch.log for stretch in change.stretches)):
                if log not in last:
                    self._log(log)

    def _log(self, log: LogId) -> MemoryLog:
        found = self._tables.logs.get(log)
        if found is None:
            raise ValueError(f"no such log: {log.run}")
        return found

    def _apply_logs(self, change: Change) -> None:
        tables = self._tables
        for new in change.logs:
            tables.begin(new)
        for batch in change.batches:
            tables.logs[batch.log].extend(batch, self._settings)
        for uncovered in change.uncovered:
            self._uncover(tables.logs[uncovered])
        for covered in change.covered:
            tables.logs[covered].covered = True
        for fork in change.forks:
            self._add_fork(fork)
        for stretch in change.stretches:
            log = tables.logs[stretch.log]
            log.stretches.append(stretch)
            log.released = max(log.released, stretch.first + stretch.count - 1)
            tables.stretches.append(stretch)
        for log_id, cite in change.cites:
            tables.logs[log_id].cites.append(cite)
        for log_id, seen in change.seen.items():
            tables.logs[log_id].seen = seen
        for mending in change.mendings:
            tables.mendings.setdefault((mending.log.conversation, mending.re), []).append(mending)

    def _add_fork(self, fork: Fork) -> None:
        tables = self._tables
        log = tables.logs.get(fork.log) or tables.begin(NewLog(fork.log, (), False))
        log.forked = True
        tables.forks[fork.log] = (fork.one or log.newest_batch(), fork.other)
        logs = tables.of_user[log.id.conversation, log.id.user]
        kept = {mark for each in logs if not each.forked for mark in each.before}
        for other in logs:
            if other.covered and other.raws and other.mark in log.before and other.mark not in kept:
                self._uncover(other)

    def _uncover(self, log: MemoryLog) -> None:
        """Make a tip of it again: no later log of its user builds on everything below itself any more."""
        log.covered = False
        for other in self._tables.of_user[log.id.conversation, log.id.user]:
            if other.number > log.number:
                other.whole = False

    def _apply_rest(self, change: Change) -> None:
        tables = self._tables
        for heard in change.heard:
            if heard.log in tables.logs:
                seqs = tables.heard.setdefault(heard.log, {})
                seqs[heard.member] = max(seqs.get(heard.member, 0), heard.seq)
        for mark in change.reads:
            if mark.log in tables.logs:
                seqs = tables.reads.setdefault(mark.log, {})
                seqs[mark.reader] = max(seqs.get(mark.reader, 0), mark.seq) if mark.seq else 0
                if not mark.seq:
                    del seqs[mark.reader]
        tables.talks.update((talk.id, talk.naming) for talk in change.talks)
        tables.users.update((user.id, user) for user in change.users)
        for one in change.former:
            known = tables.former.get((one.user, one.name))
            if known is None or known.c < one.c:
                tables.former[one.user, one.name] = one
        tables.addresses.update(((address.peer, address.endpoint), address) for address in change.addresses)
        for forgotten in change.forgotten:
            tables.addresses.pop(forgotten, None)
        tables.consumers.update(change.consumers)
        tables.meta.update(change.meta)
        self._apply_hosted(change)

    def _apply_hosted(self, change: Change) -> None:
        tables = self._tables
        tables.hosted.update((user.id, user) for user in change.hosted)
        for id in change.unhosted:
            tables.hosted.pop(id, None)
            tables.tokens = {hash: token for hash, token in tables.tokens.items() if token.user != id}
        tables.tokens.update((token.hash, token) for token in change.tokens)
        for hash in change.revoked:
            tables.tokens.pop(hash, None)
