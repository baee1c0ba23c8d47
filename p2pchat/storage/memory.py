"""Storage in memory: for tests, simulations, and bots that keep nothing.

It fulfils the contract of contract.py without a disk: nothing survives the process. One lock keeps a read from seeing
half a commit. `snapshot` and `restore` are for simulations of disks that come back from an older copy.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import merge
from itertools import islice
from operator import itemgetter

from p2pchat.config import Settings
from p2pchat.core.durable_changes import (
    EVERYTHING,
    FORGOTTEN,
    Address,
    Change,
    Cite,
    DeliveredMark,
    Fork,
    FormerName,
    GuestStay,
    Holder,
    KnownConversation,
    KnownUser,
    NamedContent,
    NewLog,
    Prune,
    ReadMark,
    Relation,
    StoredUser,
    Stretch,
    Token,
)
from p2pchat.core.edits import EntryEdits, edits_of, newness
from p2pchat.core.log import (
    Batch,
    LogId,
    Ref,
    attachments_of,
    decode_entries,
    decode_entry,
    extend_chain,
    first_chain,
    is_one_batch,
    ref_key,
    size_bytes,
)
from p2pchat.core.receipts.file_receipts import MAX_CONTENTS
from p2pchat.core.receipts.rosters import guests_having
from p2pchat.core.storage_answers import (
    ForkStart,
    GroupEntry,
    LogFacts,
    LogKey,
    Position,
    PruneKey,
    PrunePlan,
    ShownKey,
    Start,
    Stored,
    UnreleasedEntry,
)
from p2pchat.core.sync.prune import entries_of_one_step
from p2pchat.core.sync.refusals import REFUSERS, parse_refusers
from p2pchat.protocol import ConversationId, Mark, Naming, PeerId, RunId, UserId
from p2pchat.storage.contract import (
    ALL_MESSAGES,
    DeletedPart,
    Head,
    NumberedLog,
    ReleasedEntry,
    SortKey,
    StoredConversation,
    batch_ends,
    count_messages,
    is_deleted,
    logs_shown,
    members_at,
    position_of,
    recent_logs,
    unservable,
)

Marks = dict[LogId, dict[UserId, int]]  # how high the mark of each member is in each log


class MemoryStorage:
    """See storage/contract.py for what each call promises."""

    durable = False

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings or Settings()
        self._lock = threading.Lock()
        self._tables = MemoryTables()

    # ---- copies

    def snapshot(self) -> MemoryTables:
        """Return a copy of everything, to be given to `restore` of any storage, any number of times."""
        with self._lock:
            return self._tables.copy()

    def restore(self, snapshot: MemoryTables) -> None:
        """Hold what the snapshot holds, and nothing else."""
        with self._lock:
            self._tables = snapshot.copy()

    # ---- starting

    def lost(self) -> str:
        return ""

    def load(self, hosted: Sequence[UserId]) -> Stored:
        with self._lock:
            tables, logs = self._tables, self._tables.logs.values()
            unreleased = [log for log in logs if log.released < len(log.raws)]
            newest_c: dict[ConversationId, int] = {}
            for log in logs:
                if len(log.clocks) > log.pruned_to:
                    newest_c[log.id.conversation] = max(newest_c.get(log.id.conversation, 0), log.clocks[-1])
            return Stored(
                tips=[log.facts() for log in logs if log.is_tip],
                forked=[log.id for log in logs if log.forked],
                unreleased=[log.facts() for log in unreleased],
                waiting=[
                    UnreleasedEntry(log.id, seq, decode_entry(log.raws[seq - 1]))
                    for log in unreleased
                    for seq in range(log.released + 1, len(log.raws) + 1)
                ],
                next_place=tables.last_place() + 1,
                conversations=[KnownConversation(id, naming) for id, naming in tables.conversations.items()],
                users=list(tables.users.values()),
                former_names=list(tables.former_names.values()),
                delivered=self._delivered_of(hosted),
                stays=[tables.stays[key] for key in sorted(tables.stays, key=itemgetter(2, 1, 0))],
                reads=self._reads_of(hosted),
                taken=self._taken_of(hosted),
                holders=[tables.holders[key] for key in sorted(tables.holders)],
                named=self._newest_named(),
                addresses=list(tables.addresses.values()),
                consumers=dict(tables.consumers),
                newest_c=newest_c,
                recent=recent_logs(
                    (
                        (each.log, last, each.count, tables.logs[each.log].raws[last - 1])
                        for each in reversed(tables.stretches)
                        for last in [each.first + each.count - 1]
                    ),
                    self._settings,
                ),
                meta=dict(tables.meta),
                group_entries=[
                    GroupEntry(log.id, seq, raw)
                    for log in logs
                    if (naming := tables.conversations.get(log.id.conversation)) is not None and naming.group
                    for seq, raw in enumerate(log.raws, 1)
                ],
                most_bytes=sum(log.size for log in logs),
            )

    def load_users(self, users: Sequence[UserId]) -> Stored:
        with self._lock:
            return Stored(delivered=self._delivered_of(users), reads=self._reads_of(users), taken=self._taken_of(users))

    def _newest_named(self) -> list[NamedContent]:
        logs = self._tables.logs
        found = [NamedContent(root, *each) for root, some in self._tables.naming.items() for each in some]
        found.sort(key=lambda one: (logs[one.log].clocks[one.seq - 1], logs[one.log].number, one.seq))
        return found[-MAX_CONTENTS:]

    def _delivered_of(self, users: Sequence[UserId]) -> list[DeliveredMark]:
        """Return the marks on tips of these users."""
        wanted = set(users)
        return [
            DeliveredMark(id, member, seq)
            for id, seqs in self._tables.delivered.items()
            if id.user in wanted and self._tables.logs[id].is_tip
            for member, seq in seqs.items()
        ] + [
            mark
            for id, marks in self._tables.host_marks.items()
            if id.user in wanted and self._tables.logs[id].is_tip
            for mark in marks.values()
        ]

    def _reads_of(self, users: Sequence[UserId]) -> list[ReadMark]:
        """Return the read marks on tips of these users, and their own."""
        wanted = set(users)
        return [
            ReadMark(id, reader, seq)
            for id, seqs in self._tables.reads.items()
            for reader, seq in seqs.items()
            if reader in wanted or (id.user in wanted and self._tables.logs[id].is_tip)
        ]

    def _taken_of(self, users: Sequence[UserId]) -> list[ReadMark]:
        """Return the taken marks of these users."""
        wanted = set(users)
        return [
            ReadMark(id, reader, seq)
            for id, seqs in self._tables.taken.items()
            for reader, seq in seqs.items()
            if reader in wanted
        ]

    def meta(self) -> dict[str, str]:
        with self._lock:
            return dict(self._tables.meta)

    def meta_values(self, names: Sequence[str]) -> dict[str, str]:
        with self._lock:
            return {name: self._tables.meta[name] for name in names if name in self._tables.meta}

    def hosted(self) -> list[StoredUser]:
        with self._lock:
            return sorted(self._tables.hosted.values(), key=lambda user: user.created_at)

    def token(self, hash: bytes) -> Token | None:
        with self._lock:
            found = self._tables.tokens.get(hash)
            return found if found is not None and found.user in self._tables.hosted else None

    def tokens(self, user: UserId | None = None) -> list[Token]:
        with self._lock:
            found = [token for token in self._tables.tokens.values() if user in (None, token.user)]
            return sorted(found, key=lambda token: (token.created_at, token.hash))

    # ---- commits

    def commit(self, changes: Sequence[Change]) -> None:
        """Apply these in order; ValueError, and nothing is applied, if they do not follow from what is stored."""
        with self._lock:
            self._check(changes)
            for change in changes:
                self._apply_to_logs(change)
                self._apply_rest(change)

    def _check(self, changes: Sequence[Change]) -> None:
        """Raise ValueError for a change that does not follow from what is stored: a fault of the caller."""
        last: dict[LogId, int] = {}
        deleted: set[ConversationId] = set()
        for change in changes:
            deleted.update(change.deleted)
            if change.deleted:
                last = {log: seq for log, seq in last.items() if log.conversation not in change.deleted}
            for new in change.logs:
                is_here = new.log in self._tables.logs and new.log.conversation not in deleted
                if is_here or new.log in last:
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

    def _apply_to_logs(self, change: Change) -> None:
        tables = self._tables
        for conversation in change.deleted:
            tables.delete(conversation)
        for new in change.logs:
            tables.begin(new)
        for batch in change.batches:
            tables.logs[batch.log].extend(batch, self._settings)
            tables.add_attachments(batch)
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
        for log_id, seq in change.visible.items():
            tables.logs[log_id].visible = seq
        for relation in change.relations:
            tables.relations.setdefault((relation.log.conversation, relation.re), []).append(relation)
        for prune in change.pruned:
            if prune.upto > tables.logs[prune.log].pruned_to:
                tables.forget_attachments(prune.log, prune.upto)
                tables.logs[prune.log].prune(prune)
                tables.stretches = [kept for each in tables.stretches if (kept := _behind(each, prune)) is not None]

    def _add_fork(self, fork: Fork) -> None:
        """Mark a log as forked. Logs that only this one covered are tips again."""
        tables = self._tables
        log = tables.logs.get(fork.log) or tables.begin(NewLog(fork.log, (), False))
        one = fork.one or log.batch_with(fork.other.last)
        if not one.raws:  # all of it was deleted: an empty batch proves nothing, and no peer takes one
            return
        log.forked = True
        tables.forks[fork.log] = (one, fork.other)
        logs = tables.of_user[log.id.conversation, log.id.user]
        kept = {mark for each in logs if not each.forked for mark in each.before}
        for other in logs:
            if other.number > log.number:
                other.whole = False  # logs that build on it are taken without what it builds on
            if other.covered and other.raws and other.mark in log.before and other.mark not in kept:
                self._uncover(other)

    def _uncover(self, log: MemoryLog) -> None:
        """Make a log a tip again: no later log of its user builds on everything before it any more."""
        log.covered = False
        for other in self._tables.of_user[log.id.conversation, log.id.user]:
            if other.number > log.number:
                other.whole = False

    def _apply_rest(self, change: Change) -> None:
        tables = self._tables
        for mark in change.delivered:
            if mark.log in tables.logs and mark.is_of_host:
                marks = tables.host_marks.setdefault(mark.log, {})
                marks[mark.member, mark.version] = mark
                if not mark.seq:
                    del marks[mark.member, mark.version]
            elif mark.log in tables.logs:
                seqs = tables.delivered.setdefault(mark.log, {})
                seqs[mark.member] = max(seqs.get(mark.member, 0), mark.seq)
        for stay in change.stays:
            tables.stays[stay.peer, stay.user, stay.since] = stay
            if stay.ended == FORGOTTEN:
                del tables.stays[stay.peer, stay.user, stay.since]
        for read_or_taken, table in ((change.reads, tables.reads), (change.taken, tables.taken)):
            for item in read_or_taken:
                if item.log in tables.logs:
                    seqs = table.setdefault(item.log, {})
                    if item.seq:
                        seqs[item.reader] = max(seqs.get(item.reader, 0), item.seq)
                    else:
                        seqs.pop(item.reader, None)
        for holder in change.holders:
            if holder.told_at:
                tables.holders[holder.root, holder.peer] = holder
            else:
                tables.holders.pop((holder.root, holder.peer), None)
        tables.conversations.update((known.id, known.naming) for known in change.conversations)
        tables.users.update((user.id, user) for user in change.users)
        for former in change.former_names:
            stored = tables.former_names.get((former.user, former.name))
            if stored is None or stored.c < former.c:
                tables.former_names[former.user, former.name] = former
        tables.addresses.update(((address.peer, address.endpoint), address) for address in change.addresses)
        for forgotten in change.forgotten:
            tables.addresses.pop(forgotten, None)
        tables.consumers.update(change.consumers)
        for name, value in change.meta.items():
            if value is None:
                tables.meta.pop(name, None)
            else:
                tables.meta[name] = value
        tables.hosted.update((user.id, user) for user in change.hosted)
        for id in change.unhosted:
            tables.hosted.pop(id, None)
            tables.tokens = {hash: token for hash, token in tables.tokens.items() if token.user != id}
        tables.tokens.update((token.hash, token) for token in change.tokens)
        for hash in change.revoked:
            tables.tokens.pop(hash, None)

    def warm(self) -> None:
        """Do nothing: memory is always warm."""

    def tidy(self) -> None:
        """Do nothing: nothing is left for later."""

    def release_memory(self) -> None:
        """Do nothing: all of it is needed."""

    def compact(self, *, all: bool) -> None:
        """Do nothing: Python has the memory again."""

    def check_writable(self) -> None:
        """Do nothing: memory has no separate limit."""

    def close(self) -> None:
        """Do nothing: the data stays until the object is deleted."""

    # ---- questions of the core

    def lookup(
        self, logs: Sequence[LogKey], older: Sequence[tuple[ConversationId, UserId]]
    ) -> tuple[dict[LogKey, LogFacts], dict[tuple[ConversationId, UserId], list[Mark]]]:
        with self._lock:
            by_ref = self._tables.by_ref
            found = {key: log.facts(key.seq) for key in logs if (log := by_ref.get((key.conversation, key.ref)))}
            return found, {whose: self._older(whose) for whose in older}

    def _older(self, whose: tuple[ConversationId, UserId]) -> list[Mark]:
        """Return the marks of the 1st, 2nd, 4th ... newest log."""
        logs = [log for log in self._tables.of_user.get(whose, ()) if log.raws and not log.forked]
        steps = [1 << power for power in range(self._settings.max_older)]
        return [logs[-step].mark for step in steps if step <= len(logs)]

    def logs_of(self, conversation: ConversationId, user: UserId) -> list[LogFacts]:
        with self._lock:
            return [log.facts() for log in self._tables.of_user.get((conversation, user), ()) if log.raws]

    def shown_by(self, key: ShownKey) -> list[tuple[LogId, int]]:
        with self._lock:
            logs = self._tables.logs
            return logs_shown(
                key,
                lambda log: logs[log].shown_by(key.place) if log in logs else None,
                lambda log: logs[log].before,
            )

    def size_bytes(self, user: UserId, conversation: ConversationId = "") -> int:
        with self._lock:
            logs = (log for log in self._tables.logs.values() if log.id.user == user)
            return sum(log.size - log.pruned_size for log in logs if conversation in ("", log.id.conversation))

    # ---- serving: batches of what a user wrote, in the order the logs were begun here

    def fetch(
        self, conversation: ConversationId, user: UserId, start: Start, *, batches: int
    ) -> tuple[list[Batch], Position | None]:
        with self._lock:
            if isinstance(start, ForkStart):
                return list(self._tables.forks.get(LogId(conversation, user, start.run), ())), None
            tables, logs = self._tables, self._tables.of_user.get((conversation, user), [])

            def find(run: RunId) -> NumberedLog | None:
                log = tables.logs.get(LogId(conversation, user, run))
                return log.numbered if log else None

            def chain(numbered: NumberedLog, seq: int) -> bytes | None:
                log = tables.logs[LogId(conversation, user, numbered.run)]
                return log.at(seq).chain if log.pruned_to <= seq <= len(log.raws) else None

            pruned = {log.number: log.pruned_to for log in logs if log.pruned_to}
            position = position_of(start, find, chain, pruned)
            if position is None:
                return [], None
            left_out = unservable((log.numbered for log in logs), pruned, position) if pruned else frozenset[int]()
            return self._serve([log for log in logs if log.number not in left_out], position, batches)

    def _serve(self, logs: list[MemoryLog], position: Position, most: int) -> tuple[list[Batch], Position | None]:
        held = dict(position.held)
        served: list[Batch] = []
        for log in logs[bisect_left(logs, position.next_number, key=lambda log: log.number) :]:
            if position.floor < 0 and log.number != -position.floor:
                break
            seq = position.next_seq - 1 if log.number == position.next_number else held.get(log.number, 0)
            if log.forked or seq >= len(log.raws):
                continue
            if len(served) == most:
                return served, position.replace(next_number=log.number, next_seq=seq + 1)
            served += log.batches(seq, most - len(served), self._settings)
            if served[-1].last < len(log.raws):
                return served, position.replace(next_number=log.number, next_seq=served[-1].last + 1)
        return served, None

    def stored_conversations(self) -> list[StoredConversation]:
        with self._lock:
            found = []
            for id, naming in self._tables.conversations.items():
                logs = [log for log in self._tables.logs.values() if log.id.conversation == id]
                writers = dict.fromkeys(log.id.user for log in logs if log.raws and not log.forked)
                forked = tuple(log.id for log in logs if log.forked)
                if writers or forked:
                    found.append(StoredConversation(KnownConversation(id, naming), tuple(writers), forked))
            return found

    # ---- messages: released entries, with what became of them

    def places(
        self, after: int, limit: int, conversations: Sequence[ConversationId] | None = None
    ) -> list[ReleasedEntry]:
        with self._lock:
            stretches = self._tables.stretches
            begin = bisect_right(stretches, after, key=lambda each: each.first_place + each.count - 1)
            later = stretches[begin:]
            if conversations is not None:
                these = frozenset(conversations)
                later = [each for each in later if each.log.conversation in these]
            return self._with_edits(islice(self._released(later, after), limit))

    def _released(self, stretches: list[Stretch], after: int) -> Iterator[ReleasedEntry]:
        """Yield the entries of these stretches with place > after that may be read."""
        for stretch in stretches:
            log = self._tables.logs[stretch.log]
            skipped = max(0, after + 1 - stretch.first_place)
            seqs = range(stretch.first + skipped, stretch.first + stretch.count)
            yield from (log.entry(seq) for seq in seqs if log.may_be_read(seq))

    def history(
        self,
        conversation: ConversationId | None,
        *,
        before: SortKey | None = None,
        after: SortKey | None = None,
        since: int | None = None,
        limit: int = 100,
        within: Collection[ConversationId] | None = None,
    ) -> list[ReleasedEntry]:
        with self._lock:
            newest_first = after is None
            these = within if conversation is None else (conversation,)
            wanted = None if these is None else set(these)
            logs = [log for log in self._tables.logs.values() if wanted is None or log.id.conversation in wanted]
            between = [log.keys_between(before, after, since, newest_first) for log in logs]
            keys = list(islice(merge(*between, key=itemgetter(0), reverse=newest_first), limit or None))
            chosen = keys[::-1] if newest_first else keys
            return self._with_edits(log.entry(key[3]) for key, log in chosen)

    def entry(self, log: LogId, seq: int) -> ReleasedEntry | None:
        with self._lock:
            found = self._tables.logs.get(log)
            if found is None or not 0 < seq <= found.released or not found.may_be_read(seq):
                return None
            return self._with_edits([found.entry(seq)])[0]

    def first_received_at(self, user: UserId) -> int:
        with self._lock:
            first = next((log for log in self._tables.logs.values() if log.id.user == user), None)
            if first is None or not first.released:
                return 0
            return first.pruned.received_at if first.pruned is not None else first.entry(1).received_at

    # ---- deletion

    def prunable(self, key: PruneKey) -> PrunePlan:
        with self._lock:
            found: list[Prune] = []
            freed: dict[UserId, int] = {}
            entries = size = messages = kept = 0
            for log in self._tables.logs.values():
                if log.id.conversation != key.conversation or key.user not in ("", log.id.user):
                    continue
                last = log.released if not key.before else min(log.released, bisect_left(log.clocks, key.before))
                if log.id.user in key.own and last > log.pruned_to:
                    held = max((seq for _, seq in self._delivered_to(log.id, 1)), default=0)
                    kept += count_messages(log.raws[max(held, log.pruned_to) : last])
                    last = min(last, held)
                raws = entries_of_one_step(log.raws[log.pruned_to : last], entries, size)
                if raws:
                    found.append(log.pruned_by(raws))
                    messages += log.visible_messages(raws)
                    entries, size = entries + len(raws), size + (given := size_bytes(raws))
                    freed[log.id.user] = freed.get(log.id.user, 0) + given
                if log.pruned_to + len(raws) < last:
                    return PrunePlan(found, messages, freed, 0, more=True)
            return PrunePlan(found, messages, freed, kept)

    def deleted(self, conversation: ConversationId) -> list[DeletedPart]:
        with self._lock:
            pruned = [log.pruned for log in self._tables.logs.values() if log.id.conversation == conversation]
            parts = [
                DeletedPart(each.log.user, each.messages, (each.c, each.log.user, each.log.run, each.upto))
                for each in pruned
                if each is not None and each.messages
            ]
            return sorted(parts, key=lambda part: part.key)

    def _with_edits(self, page: Iterable[ReleasedEntry]) -> list[ReleasedEntry]:
        """Return these entries with what became of them."""
        if not self._tables.relations:
            return list(page)
        return [one if (edits := self._edits(one.log, one.seq)) is None else replace(one, edits=edits) for one in page]

    def _edits(self, log: LogId, seq: int) -> EntryEdits | None:
        some = self._tables.relations.get((log.conversation, Ref(ref_key(log.user, log.run), seq)))
        if some is None:
            return None
        logs = self._tables.logs
        seen = [each for each in some if logs[each.log].may_be_read(each.seq)]
        newest = {(each.log.user, each.reaction): each for each in sorted(seen, key=newness)}
        return edits_of(log.user, [(each, logs[each.log].raws[each.seq - 1]) for each in newest.values()])

    def referring(self, roots: Sequence[str], most: int = ALL_MESSAGES) -> dict[str, list[tuple[LogId, int]]]:
        with self._lock:
            found: dict[str, list[tuple[LogId, int]]] = {}
            for root in roots:
                first = islice(self._tables.naming.get(root, ()), most)
                naming = [each for each in first if not is_deleted(self._edits(*each))]
                if naming:
                    found[root] = naming
            return found

    # ---- receipts

    def delivered_to(self, log: LogId, seq: int) -> list[tuple[UserId, int]]:
        with self._lock:
            return self._delivered_to(log, seq)

    def _delivered_to(self, log: LogId, seq: int) -> list[tuple[UserId, int]]:
        siblings = self._tables.of_user.get((log.conversation, log.user), ())
        marks = [mark for each in siblings for mark in self._tables.host_marks.get(each.id, {}).values()]
        of_guests = guests_having(marks, self._tables.stays.values())
        return self._at_or_above(self._tables.delivered, log, seq, of_guests)

    def readers(self, log: LogId, seq: int) -> list[tuple[UserId, int]]:
        with self._lock:
            return self._at_or_above(self._tables.reads, log, seq)

    def _at_or_above(
        self, marks: Marks, log: LogId, seq: int, more: Iterable[tuple[LogId, UserId, int]] = ()
    ) -> list[tuple[UserId, int]]:
        """Return the members whose mark is at this entry or above, by their marks on this log and on later ones."""
        found = self._tables.logs.get(log)
        if found is None:
            return []
        siblings = self._tables.of_user[log.conversation, log.user]
        later = [] if found.forked else [other for other in siblings if other.number > found.number]
        stored = [
            (member, each.id.run, marked)
            for each in (found, *later)
            for member, marked in marks.get(each.id, {}).items()
        ]
        counted = {each.id for each in (found, *later)}
        stored += [(member, marked.run, upto) for marked, member, upto in more if marked in counted]
        refused = parse_refusers(self._tables.meta.get(REFUSERS + ",".join(log), ""))
        return members_at(log.run, seq, len(found.raws), [other.numbered for other in later], stored, refused)


@dataclass(slots=True)
class MemoryTables:
    """Everything stored. Records are immutable, so a copy of the containers is a copy of everything."""

    logs: dict[LogId, MemoryLog] = field(default_factory=dict)
    of_user: dict[tuple[ConversationId, UserId], list[MemoryLog]] = field(default_factory=dict)
    by_ref: dict[tuple[ConversationId, str], MemoryLog] = field(default_factory=dict)
    stretches: list[Stretch] = field(default_factory=list)
    relations: dict[tuple[ConversationId, Ref], list[Relation]] = field(default_factory=dict)  # by the entry they name
    naming: dict[str, list[tuple[LogId, int]]] = field(default_factory=dict)  # messages with attachments, by root
    delivered: Marks = field(default_factory=dict)
    host_marks: dict[LogId, dict[tuple[PeerId, int], DeliveredMark]] = field(default_factory=dict)  # by version
    stays: dict[tuple[PeerId, UserId, int], GuestStay] = field(default_factory=dict)
    reads: Marks = field(default_factory=dict)
    taken: Marks = field(default_factory=dict)
    holders: dict[tuple[str, PeerId], Holder] = field(default_factory=dict)
    conversations: dict[ConversationId, Naming] = field(default_factory=dict)
    users: dict[UserId, KnownUser] = field(default_factory=dict)
    former_names: dict[tuple[UserId, str], FormerName] = field(default_factory=dict)
    addresses: dict[tuple[PeerId, str], Address] = field(default_factory=dict)
    consumers: dict[str, int] = field(default_factory=dict)
    forks: dict[LogId, tuple[Batch, Batch]] = field(default_factory=dict)
    meta: dict[str, str] = field(default_factory=dict)
    hosted: dict[UserId, StoredUser] = field(default_factory=dict)
    tokens: dict[bytes, Token] = field(default_factory=dict)
    newest: int = 0  # number of the newest log

    def last_place(self) -> int:
        newest = self.stretches[-1] if self.stretches else None
        deleted = max((log.pruned.place for log in self.logs.values() if log.pruned is not None), default=0)
        return max(deleted, newest.first_place + newest.count - 1 if newest else 0)

    def begin(self, new: NewLog) -> MemoryLog:
        self.newest += 1
        return self._add(MemoryLog(self.newest, new.log, new.whole, new.before))

    def delete(self, conversation: ConversationId) -> None:
        """Delete all of a conversation, of which nothing has a place."""
        for log in [log for log in self.logs if log.conversation == conversation]:
            self.forget_attachments(log, len(self.logs[log].raws))
            del self.logs[log], self.by_ref[conversation, ref_key(log.user, log.run)]
            for table in (self.delivered, self.host_marks, self.reads, self.taken, self.forks):
                table.pop(log, None)
            self.of_user.pop((conversation, log.user), None)
        self.conversations.pop(conversation, None)

    def add_attachments(self, batch: Batch) -> None:
        """Note the files that messages of a new batch name."""
        decoded = decode_entries(batch.raws) if batch.entries is None else batch.entries
        for seq, entry in enumerate(decoded, batch.first):
            for root in dict.fromkeys(file.root for file in attachments_of(entry)):
                self.naming.setdefault(root, []).append((batch.log, seq))

    def forget_attachments(self, log: LogId, upto: int) -> None:
        """Forget the files that these entries of a log name."""
        if self.naming:
            left = {
                root: [each for each in some if each[0] != log or each[1] > upto] for root, some in self.naming.items()
            }
            self.naming = {root: some for root, some in left.items() if some}

    def _add(self, log: MemoryLog) -> MemoryLog:
        conversation, user, run = log.id
        self.logs[log.id] = log
        self.of_user.setdefault((conversation, user), []).append(log)
        self.by_ref[conversation, ref_key(user, run)] = log
        return log

    def copy(self) -> MemoryTables:
        other = MemoryTables(newest=self.newest)
        for log in self.logs.values():
            other._add(log.copy())
        other.stretches = list(self.stretches)
        other.relations = {named: list(some) for named, some in self.relations.items()}
        other.naming = {root: list(some) for root, some in self.naming.items()}
        other.delivered = {log: dict(seqs) for log, seqs in self.delivered.items()}
        other.host_marks = {log: dict(marks) for log, marks in self.host_marks.items()}
        other.reads = {log: dict(seqs) for log, seqs in self.reads.items()}
        other.taken = {log: dict(seqs) for log, seqs in self.taken.items()}
        for name in (
            *(
                "conversations",
                "users",
                "former_names",
                "addresses",
                "consumers",
                "forks",
                "meta",
                "hosted",
                "tokens",
                "stays",
                "holders",
            ),
        ):
            setattr(other, name, dict(getattr(self, name)))
        return other


@dataclass(slots=True)
class MemoryLog:
    """One log: entry seq is raws[seq - 1], its clock is clocks[seq - 1]; stretches are in order of seq."""

    number: int
    id: LogId
    whole: bool
    before: tuple[Mark, ...]
    covered: bool = False
    forked: bool = False
    released: int = 0
    visible: int = EVERYTHING  # or only entries 1..visible may be read
    raws: list[str] = field(default_factory=list)
    clocks: list[int] = field(default_factory=list)
    heads: list[Head] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)
    cites: list[Cite] = field(default_factory=list)
    pruned: Prune | None = None  # those entries are "" in `raws`

    @property
    def pruned_to(self) -> int:
        return self.pruned.upto if self.pruned is not None else 0

    @property
    def pruned_size(self) -> int:
        return self.pruned.size if self.pruned is not None else 0

    def visible_messages(self, raws: list[str]) -> int:
        """Return how many of the next entries to be deleted are messages that programs may read."""
        return count_messages(raws if self.visible == EVERYTHING else raws[: max(0, self.visible - self.pruned_to)])

    def pruned_by(self, raws: list[str]) -> Prune:
        """Return the deletion of these next entries."""
        old, seq = self.pruned, self.pruned_to + len(raws)
        chain = extend_chain(old.chain if old is not None else first_chain(self.id), raws)
        messages = self.visible_messages(raws) + (old.messages if old is not None else 0)
        received_at = old.received_at if old is not None else self.entry(1).received_at
        size, place = self.pruned_size + size_bytes(raws), self.entry(seq).place
        return Prune(self.id, seq, size, self.clocks[seq - 1], chain, messages, place, received_at)

    def prune(self, prune: Prune) -> None:
        self.raws[: prune.upto] = [""] * prune.upto
        self.heads = [head for head in self.heads if head.seq > prune.upto or head is self.heads[-1]]
        self.stretches = [kept for each in self.stretches if (kept := _behind(each, prune)) is not None]
        self.pruned = prune

    @property
    def numbered(self) -> NumberedLog:
        return NumberedLog(self.number, self.id.run, self.whole, self.before, self.forked)

    @property
    def size(self) -> int:
        return self.heads[-1].size if self.heads else 0

    @property
    def mark(self) -> Mark:
        return Mark(self.id.run, len(self.raws), self.heads[-1].chain[:8].hex())

    @property
    def is_tip(self) -> bool:
        """Return whether no later log of its user builds on it and it did not fork."""
        return bool(self.raws) and not (self.covered or self.forked)

    def copy(self) -> MemoryLog:
        return replace(
            self,
            raws=list(self.raws),
            clocks=list(self.clocks),
            heads=list(self.heads),
            stretches=list(self.stretches),
            cites=list(self.cites),
        )

    def extend(self, batch: Batch, settings: Settings) -> None:
        self.raws += batch.raws
        self.clocks += batch.clocks
        size = self.size + size_bytes(batch.raws)
        head = Head(batch.last, size, self.clocks[-1], batch.chain, batch.head)
        anchor = self.heads[-2] if len(self.heads) > 1 else Head(self.pruned_to, self.pruned_size, 0, b"", b"")
        if self.heads and is_one_batch(head.seq - anchor.seq, head.size - anchor.size, settings):
            self.heads[-1] = head
        else:
            self.heads.append(head)

    def facts(self, seq: int = 0) -> LogFacts:
        """Return what is known of this log, with the chain at seq if that is held; seq 0 asks for none."""
        last = self._head_below(len(self.raws))
        return LogFacts(
            self.id,
            last.seq,
            last.chain,
            last.c,
            self.released,
            self.covered,
            self.forked,
            self.before,
            tuple(self.cites),
            self.visible,
            self.at(seq).chain if 0 < seq <= last.seq and seq >= self.pruned_to else None,
            self.pruned_to,
        )

    # ---- batches

    def _head_below(self, seq: int) -> Head:
        """Return the newest stored head at or below seq, one of where the entries begin if there is none."""
        at = bisect_right(self.heads, seq, key=lambda head: head.seq)
        if at:
            return self.heads[at - 1]
        deleted = self.pruned
        if deleted is not None:
            return Head(deleted.upto, deleted.size, deleted.c, deleted.chain, b"")
        return Head(0, 0, 0, first_chain(self.id), b"")

    def at(self, seq: int) -> Head:
        """Return size and chain at seq, recomputed from the head below; its signature is empty."""
        below = self._head_below(seq)
        raws = self.raws[below.seq : seq]
        size = below.size + size_bytes(raws)
        return Head(seq, size, 0, extend_chain(below.chain, raws), b"")

    def batches(self, seq: int, most: int, settings: Settings) -> list[Batch]:
        """Return at most so many batches of the entries after seq."""
        at = self.at(seq)
        above = self.heads[bisect_right(self.heads, seq, key=lambda head: head.seq) :]
        batches: list[Batch] = []
        for end in islice(batch_ends(seq, at.size, above, settings), most):
            batches.append(self._batch(at, end))
            at = end
        return batches

    def batch_with(self, seq: int) -> Batch:
        """Return the part between two heads with this entry, or the newest."""
        end = min(bisect_left(self.heads, seq, key=lambda head: head.seq), len(self.heads) - 1)
        return self._batch(self.at(self.heads[end - 1].seq if end else self.pruned_to), self.heads[end])

    def _batch(self, at: Head, end: Head) -> Batch:
        return Batch(self.id, at.seq + 1, self.raws[at.seq : end.seq], None, at.chain, end.chain, end.sig)

    # ---- released entries

    def may_be_read(self, seq: int) -> bool:
        return seq > self.pruned_to and (self.visible == EVERYTHING or seq <= self.visible)

    def entry(self, seq: int) -> ReleasedEntry:
        """Return a released entry, without what became of it."""
        stretch = self.stretches[bisect_right(self.stretches, seq, key=lambda each: each.first) - 1]
        place = stretch.first_place + seq - stretch.first
        return ReleasedEntry(self.id, seq, self.raws[seq - 1], place, stretch.received_at, stretch.old, stretch.gap)

    def shown_by(self, place: int) -> int:
        """Return the last entry that was released when this place was given, 0 for none."""
        at = bisect_right(self.stretches, place, key=lambda each: each.first_place)
        if not at:
            return self.pruned_to if self.pruned is not None and self.pruned.place <= place else 0
        last = self.stretches[at - 1]
        return last.first + min(last.count, place - last.first_place + 1) - 1

    def keys_between(
        self, before: SortKey | None, after: SortKey | None, since: int | None, newest_first: bool
    ) -> Iterator[tuple[SortKey, MemoryLog]]:
        """Yield the sort keys of the released entries between these bounds, in the order asked for."""
        readable = self.released if self.visible == EVERYTHING else min(self.released, self.visible)
        end = readable if before is None else min(readable, self._first_not_below(before))
        begin = self.pruned_to
        if after is not None:
            begin = max(begin, self._first_not_below((*after[:3], after[3] + 1)))
        if since is not None:
            begin = max(begin, bisect_left(self.clocks, since))
        order = range(end - 1, begin - 1, -1) if newest_first else range(begin, end)
        return (((self.clocks[at], self.id.user, self.id.run, at + 1), self) for at in order)

    def _first_not_below(self, key: SortKey) -> int:
        """Return the index of the first entry whose sort key is not below `key`."""
        at = bisect_left(self.clocks, key[0])
        same_clock = at < len(self.clocks) and self.clocks[at] == key[0]
        return at + (same_clock and (self.id.user, self.id.run, at + 1) < key[1:])


def _behind(stretch: Stretch, prune: Prune) -> Stretch | None:
    """Return what a deletion leaves of a stretch; None for nothing."""
    gone = min(stretch.count, prune.upto + 1 - stretch.first) if stretch.log == prune.log else 0
    if gone <= 0:
        return stretch
    first_place, first, left = stretch.first_place + gone, stretch.first + gone, stretch.count - gone
    return stretch.replace(first_place=first_place, first=first, count=left) if left else None
