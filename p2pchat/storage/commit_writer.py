"""Commits: changes become rows, in one transaction.

Between commits, of each log written lately its number, its last two heads and how far it was released are kept in
memory, to save queries. After a failure all of that is dropped and read again.

A message written alone costs one row in entries, one in places and one replaced in heads: four pages, with the index of
clocks.

Other programs can reach a database on a server too. The lock of the one writer ends with its connection, and
may end unnoticed anywhere between here and the server. So each commit also advances a row of `meta` (WriterFence),
from what this process wrote there last to the next number. If another peer has committed in between, ours fails. After
a lost connection, the same row says whether the commit that was under way is stored.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

from p2pchat.core.durable_changes import (
    EVERYTHING,
    Change,
    Collected,
    DeliveredMark,
    Fork,
    LateTexts,
    NewLog,
    Prune,
    ReadMark,
    Stretch,
)
from p2pchat.core.log import (
    UNREADABLE,
    Batch,
    LogId,
    decode_entries,
    files_of,
    first_chain,
    has_stubs,
    is_one_batch,
    kind_of,
    marks_of_bytes,
    marks_to_bytes,
    parted,
    size_bytes,
    text_proof,
)
from p2pchat.core.sync.pruner import left_behind
from p2pchat.errors import StorageError
from p2pchat.protocol import split_ref
from p2pchat.settings import Settings
from p2pchat.storage.database import Database, flat
from p2pchat.storage.dialects.dialect import InsertConflict
from p2pchat.storage.log_queries import HEADER, LEFT, NUMBER, STORED, Head, left_of, stored_raws
from p2pchat.storage.schema import (
    COVERED,
    FORKED,
    GAP,
    MAX_LOG,
    OLD,
    OWN_KEYS,
    SEQS,
    WRITER_KEY,
    Table,
    addresses,
    attachment_rows,
    attachments,
    batch_to_text,
    changes,
    consumers,
    conversations,
    entries,
    forks,
    former_names,
    gone,
    guests,
    header_of,
    heads,
    heard,
    hosted,
    logs,
    meta,
    naming_to_text,
    peer_records,
    places,
    pruned,
    read_marks,
    record_to_text,
    seen,
    statements,
    taken_marks,
    tokens,
    unreadable,
    users,
    waiting,
)

AGAIN_AFTER = 0.1  # seconds between attempts to reach a server that may have kept a commit
MOST_LOGS = 4_000  # kept in memory; about 2 MiB
NOTHING = Head(0, 0, 0, b"", b"")
NO_FLAGS: tuple[int | None, int | None] = None, None  # of an entry without a place
WIDTH = len(entries.columns)
COMMON = {"batches", "logs", "stretches", "consumers", "is_awaited"}  # in Change: what has a way of its own here
rest_of: attrgetter[tuple[Any, ...]] = attrgetter(*(name for name in Change.__struct_fields__ if name not in COMMON))
LAST_HEADS = "select id, size, c, chain, sig from heads where id > ? and id < ? order by id desc limit 2"
COVER = f"update logs set state = state | {COVERED} where number = ?"
UNCOVER = f"update logs set state = state & {FORKED} where number = ?"
FORK = f"update logs set state = state | {FORKED} where number = ?"
LOGS_OF = "select number, run, state, builds_on from logs where writer = ? and conversation = ?"
NAME_USER = "update users set name = ?, named_c = ?, about = ? where number = ?"
MOVE_HEAD = "update heads set id = ?, size = ?, c = ?, chain = ?, sig = ? where id = ?"
PLACE = "update entries set place = id + ?, received_at = ?, flags = ? where id >= ? and id < ?"
PLACES = "select place from entries where id > ? and id <= ? and place is not null order by place"
LAST_STRETCH = """
select first_place, start, entries from places where first_place <= ? order by first_place desc limit 1
"""
GROW = "update heads set size = size + ? where id = ?"
HEAD_FROM = "select min(id) from heads where id >= ? and id < ?"
NOT_WHOLE = "update logs set whole = 0 where writer = ? and conversation = ? and number > ? and whole = 1"


class OpenLog(Collected):
    """State of a log that its next batch needs."""

    number: int
    conversation: int
    writer: int
    anchor: Head = NOTHING  # the newest head but one
    newest: Head = NOTHING
    released: int = 0
    waiting: int | None = None  # the row in `waiting`; None if there is none
    # Those of the transaction under way: first id, stretch, entries without a place
    stretches: list[list[Any]] = []


class CommitWriter:
    """Commits on one connection."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._db = database
        self._settings = settings
        self.fence: WriterFence | None = WriterFence(database) if database.dialect.is_shared else None
        self._forget()

    def commit(self, changes: Sequence[Change]) -> None:
        """Make all of it durable or nothing. The next commit begins from the stored state in either case."""
        try:
            self._db.begin()
            if self.fence is not None:
                self.fence.advance()
            rows = RowBuffer(self, self._db, self._settings)
            for change in changes:
                rows.add(change)
            rows.write()
            if self.fence is not None:
                self.fence.is_under_way = True
            self._db.dialect.check_in_place()
            self._db.commit()
        except BaseException:  # also when interrupted: undo it all
            self._forget()
            self._db.rollback()  # also after a commit that failed, as on a full disk
            raise
        if self.fence is not None:
            self.fence.on_committed()
        if len(self.logs) > MOST_LOGS:
            self.logs.clear()

    def commit_on_server(self, changes: Sequence[Change], patience: float) -> None:
        """Commit; if only the connection was lost, commit once more unless the server has kept it.

        Args:
            patience: Seconds for which a new connection is tried if the commit may have been kept.
        """
        assert self.fence is not None
        self.reconnect()
        try:
            self.commit(changes)
        except self._db.dialect.errors:
            self._db.mark_suspect()
            if not self._has_reconnected(patience if self.fence.is_under_way else 0.0):
                raise
            if not self.fence.was_kept():
                self.commit(changes)

    def reconnect(self) -> None:
        """Connect to a server again if needed; StorageError if another peer has written meanwhile."""
        if self._db.reconnect() and self.fence is not None:
            self.fence.was_kept()

    def _has_reconnected(self, patience: float) -> bool:
        """Return whether there is a new connection, for which it is waited a moment."""
        give_up = time.monotonic() + patience
        while True:
            try:
                return self._db.reconnect()
            except self._db.dialect.errors:
                if time.monotonic() >= give_up:
                    return False
            time.sleep(AGAIN_AFTER)

    def release_memory(self) -> None:
        """Forget what is read again when it is needed."""
        self.logs.clear()
        self._db.forget_numbers()

    def _forget(self) -> None:
        self.logs: dict[LogId, OpenLog] = {}
        self._next: dict[str, int] = {}

    # ---- numbers

    def next_number(self, table: Table) -> int:
        """Return the next free number of conversations, users or logs."""
        if table.name not in self._next:
            self._next[table.name] = 1 + (self._db.value(f"select max(number) from {table.name}") or 0)
        number = self._next[table.name]
        self._next[table.name] += 1
        return number

    def number_of(self, table: Table, name: str) -> int:
        """Return the number of a conversation or user; a new one if it has none yet."""
        found = self._db.number(table.name, name)
        if not found:
            found = self._db.numbers[table.name][name] = self.next_number(table)
            self._db.run(f"insert into {table.name} (number, id) values (?, ?)", found, bytes.fromhex(name))
        return found

    # ---- logs

    def log(self, log: LogId) -> OpenLog:
        """Return a stored log; ValueError if there is none."""
        found = self.find(log)
        if found is None:
            raise ValueError(f"no such log: {log.run}")
        return found

    def find(self, log: LogId) -> OpenLog | None:
        return self.logs.get(log) or self._read(log)

    def _read(self, log: LogId) -> OpenLog | None:
        writer = self._db.number("users", log.user)
        conversation = self._db.number("conversations", log.conversation)
        number = self._db.value(NUMBER, conversation, bytes.fromhex(log.run), writer)
        if number is None:
            return None
        found = OpenLog(number, conversation, writer)
        found.newest, found.anchor = self.last_heads(number)
        last_stub = self._db.value("select max(id) from gone where id < ?", (number + 1) * SEQS) or 0
        if found.anchor.seq + number * SEQS < last_stub:
            found.anchor = found.newest
        found.waiting = self._db.value("select released from waiting where log = ?", number)
        found.released = found.newest.seq if found.waiting is None else found.waiting
        self.logs[log] = found
        return found

    def last_heads(self, number: int, seq: int = SEQS - 1) -> tuple[Head, Head]:
        """Return the last two heads of a log up to an entry, the newest first."""
        newest_first = self._db.all(LAST_HEADS, number * SEQS, number * SEQS + seq + 1)
        last = [Head(id % SEQS, *columns) for id, *columns in newest_first]
        return (*last, NOTHING, NOTHING)[0], (*last, NOTHING, NOTHING)[1]

    def begin(self, new: NewLog) -> OpenLog:
        if self.find(new.log) is not None:
            raise ValueError(f"this log was begun before: {new.log.run}")
        number = self.next_number(logs)
        if number > MAX_LOG:
            raise StorageError("this database holds as many logs as it can: begin a new one")
        writer, conversation = self.number_of(users, new.log.user), self.number_of(conversations, new.log.conversation)
        certificate = b"" if new.by is None else bytes.fromhex(new.by.member + new.by.sig)
        row = (number, conversation, writer, bytes.fromhex(new.log.run), 0, int(new.whole))
        self._db.insert(logs, (*row, marks_to_bytes(new.before), certificate))
        for member in new.named:
            self._db.insert(guests, (writer, bytes.fromhex(member), number), InsertConflict.REPLACE)
        self.logs[new.log] = OpenLog(number, conversation, writer)
        return self.logs[new.log]


class RowBuffer:
    """The rows of one transaction, collected so that each table is written once."""

    def __init__(self, writer: CommitWriter, database: Database, settings: Settings) -> None:
        self._writer = writer
        self._db = database
        self._settings = settings
        self._rows: dict[Table, list[object]] = {}
        self._entries: list[Any] = []  # the values of their rows, and of those of places
        self._places: list[int] = []
        self._heads: dict[int, tuple[Head, int]] = {}  # by id, with that of a stored one that it replaces, or 0
        self._touched: dict[int, OpenLog] = {}  # logs that are added to, by number
        self._forks: list[Fork] = []
        self._pruned: list[Prune] = []
        self._late: list[LateTexts] = []

    def add(self, change: Change) -> None:
        """Collect the rows of one change; rare rows are written at once."""
        for new in change.logs:
            self._writer.begin(new)
        for stretch in change.stretches:
            log = self._writer.log(stretch.log)
            start, count = log.number * SEQS + stretch.first, stretch.count
            self._places += (stretch.first_place, start, count)
            self._touched[log.number] = log
            log.stretches.append([start, stretch, count])
            log.released = max(log.released, stretch.first + count - 1)
        for batch in change.batches:
            self._add_batch(batch)
        if change.consumers:
            self._db.insert(consumers, flat(change.consumers.items()), InsertConflict.REPLACE)
        if any(rest_of(change)):
            self._add_rest(change)

    def write(self) -> None:
        """Write the collected rows."""
        self._db.insert(entries, self._entries)
        self._db.insert(places, self._places)
        for table, rows in self._rows.items():
            self._db.insert(table, rows)
        added: list[object] = []
        for id, (head, replaced) in self._heads.items():
            if replaced:
                self._db.run(MOVE_HEAD, id, *head[1:], replaced)
            else:
                added += (id, *head[1:])
        self._db.insert(heads, added)
        for late in self._late:  # what waits gets its place below
            if not late.places.first_place:
                self._add_late(late)
        for log in self._touched.values():
            for start, stretch, left in log.stretches:
                if left:  # of entries that were stored before
                    self._db.run(PLACE, stretch.first_place - start, *_flags(stretch), start, start + stretch.count)
            log.stretches = []
            wanted = log.released if log.released < log.newest.seq else None
            if wanted is None and log.waiting is not None:
                self._db.run("delete from waiting where log = ?", log.number)
            elif wanted != log.waiting:
                self._db.insert(waiting, (log.number, wanted), InsertConflict.REPLACE)
            log.waiting = wanted
        for late in self._late:
            if late.places.first_place:
                self._add_late(late)
        for fork in self._forks:
            self._add_fork(fork)
        for prune in self._pruned:
            self._prune(prune)

    def _add_rest(self, change: Change) -> None:
        """Collect what few changes have."""
        for uncovered in change.uncovered:
            self._uncover(self._writer.log(uncovered))
        for covered in change.covered:
            self._db.run(COVER, self._writer.log(covered).number)
        for fork in change.forks:
            if self._writer.find(fork.log) is None:  # only the evidence is here, and marks may be on that log
                self._writer.begin(NewLog(fork.log, (), False))
        self._forks += change.forks
        self._pruned += change.pruned
        self._late += change.late
        for id, upto in change.visible.items():
            log = self._writer.log(id)
            if upto == EVERYTHING:
                self._db.run("delete from seen where log = ?", log.number)
            else:
                self._db.insert(seen, (log.number, upto), InsertConflict.REPLACE)
        for relation in change.relations:
            log, re = self._writer.log(relation.log), relation.re
            writer, run = map(bytes.fromhex, split_ref(re.log))
            changed = (log.conversation, run, re.seq, writer, log.writer)
            self._add_rows(changes, (log.number * SEQS + relation.seq, *changed, relation.aspect, relation.c))
        for mark in change.delivered:
            self._add_delivered(mark)
        for read in change.reads:
            self._add_mark(taken_marks if read.taken else read_marks, read)
        self._add_records(change)

    def _add_rows(self, table: Table, values: Iterable[object]) -> None:
        self._rows.setdefault(table, []).extend(values)

    # ---- entries and heads

    def _add_batch(self, batch: Batch) -> None:
        log, raws = self._writer.log(batch.log), batch.raws
        newest, count = log.newest, len(raws)
        if batch.first != newest.seq + 1 or not raws:
            raise ValueError(f"{batch} does not follow entry {newest.seq}")
        if batch.last >= SEQS:
            raise StorageError("this log is as long as a log can be")
        decoded = decode_entries(raws) if batch.entries is None else batch.entries
        id = log.number * SEQS + batch.first
        if any(map(files_of, decoded)) or UNREADABLE in map(kind_of, decoded):
            for at, entry in enumerate(decoded):
                self._add_rows(attachments, attachment_rows(id + at, entry))
                if entry.k == UNREADABLE:
                    self._add_rows(unreadable, (id + at,))
        place, placed = 0, NO_FLAGS
        self._touched[log.number] = log
        for released in reversed(log.stretches):  # with their places if released together
            start, stretch, left = released
            if start <= id and id + count <= start + stretch.count:
                place, placed, released[2] = stretch.first_place + id - start, _flags(stretch), left - count
                break
        stubs = has_stubs(raws)
        if stubs:
            for at, (c, text) in enumerate(raws):
                if isinstance(text, str):
                    self._entries += (id + at, log.conversation, c, place + at if place else None, *placed, text)
                else:
                    self._add_rows(gone, (id + at, c, bytes.fromhex(text.hash), ""))
        else:
            rows = [id, log.conversation, 0, place or None, *placed, ""] * count
            rows[2::WIDTH], rows[6::WIDTH] = zip(*raws, strict=True)
            if count > 1:
                rows[0::WIDTH] = range(id, id + count)
                if place:
                    rows[3::WIDTH] = range(place, place + count)
            self._entries += rows
        # Its head replaces the newest one if one batch can hold everything since the head before that. A batch
        # with stubs keeps its head: nobody knows how long the texts were.
        since, size, replaced = log.anchor, newest.size + batch.size, 0
        if newest.seq > since.seq and not stubs and is_one_batch(batch.last - since.seq, size, self._settings):
            _, replaced = self._heads.pop(id - 1, (newest, id - 1))
        else:
            size, log.anchor = batch.size, newest
        log.newest = Head(batch.last, size, raws[-1][0], batch.chain, batch.head)
        if stubs:
            log.anchor = log.newest
        self._heads[id + count - 1] = log.newest, replaced

    # ---- deletion

    def _prune(self, prune: Prune) -> None:
        """Delete the beginning of a log: stubs stand for its texts."""
        log = self._writer.log(prune.log)
        start = log.number * SEQS
        last = start + prune.upto
        if prune.upto <= (self._db.value("select upto from pruned where log = ?", log.number) or 0):
            return
        row = (log.number, prune.size, prune.messages, prune.place, prune.received_at, prune.upto)
        self._db.insert(pruned, row, InsertConflict.REPLACE)
        left: list[object] = []
        for id, c, text in self._db.all(STORED, start, last):
            stub = left_behind((c, text))[1]
            left += (id, c, None, text) if isinstance(stub, str) else (id, c, bytes.fromhex(stub.hash), "")
        self._db.insert(gone, left)
        self._forget_places(start, last)
        for table in (entries, attachments, unreadable, changes):
            self._db.run(f"delete from {table.name} where id > ? and id <= ?", start, last)

    def _forget_places(self, start: int, last: int) -> None:
        """Forget the places of the first entries of a log. What is left of their last stretch goes on behind them."""
        end = 0
        for (place,) in self._db.all(PLACES, start, last):
            if place < end:
                continue
            first_place, first, count = self._db.first(LAST_STRETCH, place)
            end = first_place + count
            self._db.run("delete from places where first_place = ?", first_place)
            if (left := first + count - 1 - last) > 0:
                self._db.insert(places, (end - left, last + 1, left))

    # ---- texts that come later

    def _add_late(self, late: LateTexts) -> None:
        """Put texts in the place of stubs that they fit, and of which no deletion here made them."""
        stretch = late.places
        log = self._writer.log(stretch.log)
        start = log.number * SEQS
        first, deleted = start + stretch.first, self._db.value("select upto from pruned where log = ?", log.number) or 0
        stubs = {id: left_of(*stub) for id, *stub in self._db.all(LEFT, first - 1, first + stretch.count - 1)}
        found = [
            (id, raw, stubs[id])
            for id, raw in enumerate(late.raws, first)
            if id > start + deleted and id in stubs and text_proof(raw[1]) == text_proof(stubs[id][1])
        ]
        if stretch.first_place:
            self._db.insert(places, (stretch.first_place, first, stretch.count))
        for id, raw, stub in found:
            place: tuple[int | None, ...] = None, *NO_FLAGS
            if stretch.first_place:
                place = stretch.first_place + id - first, *_flags(stretch)
            self._db.run("delete from gone where id = ?", id)
            self._db.insert(entries, (id, log.conversation, raw[0], *place, raw[1]))
            [entry] = decode_entries([raw])
            self._db.insert(attachments, attachment_rows(id, entry))
            self._db.insert(unreadable, [id] if entry.k == UNREADABLE else [])
            head = self._db.value(HEAD_FROM, id, start + SEQS)
            self._db.run(GROW, size_bytes([raw]) - size_bytes([stub]), head)
        self._writer.logs.pop(stretch.log, None)

    # ---- states

    def _uncover(self, log: OpenLog) -> None:
        """Make a log a tip again: no later log of its user builds on everything before it any more."""
        self._db.run(UNCOVER, log.number)
        self._db.run(NOT_WHOLE, log.writer, log.conversation, log.number)

    def _add_fork(self, fork: Fork) -> None:
        log = self._writer.log(fork.log)
        one = fork.one or self._batch_with(fork.other.last, fork.log, log)
        self._db.run(FORK, log.number)
        texts = batch_to_text(one, one.header), batch_to_text(fork.other, fork.other.header or one.header)
        self._db.insert(forks, (log.number, *texts), InsertConflict.REPLACE)
        self._uncover_below(fork.log, log)

    def _batch_with(self, seq: int, id: LogId, log: OpenLog) -> Batch:
        """Return the part between two heads of a log with this entry, or the newest; with the texts that fit."""
        at, end = log.anchor, log.newest
        seq = min(seq, end.seq)
        if seq <= at.seq:  # or both are the same: behind a batch with stubs
            start = log.number * SEQS
            there = self._db.value(HEAD_FROM, start + seq, start + SEQS)
            end, at = self._writer.last_heads(log.number, there % SEQS)
        raws = stored_raws(self._db, [(log.number * SEQS + at.seq, log.number * SEQS + end.seq)])
        header = header_of(id, *self._db.first(HEADER, log.number))
        prev = at.chain or first_chain(header)
        batch = Batch(id, at.seq + 1, raws, None, prev, end.chain, end.sig, end.size, header)
        return next(parted(batch))

    def _uncover_below(self, id: LogId, forked: OpenLog) -> None:
        """Make the logs that only a forked log covered tips again. Those on it are taken without what it builds on.

        A peer that only has the evidence of the fork then has the same tips.
        """
        self._db.run(NOT_WHOLE, forked.writer, forked.conversation, forked.number)
        rows = self._db.all(LOGS_OF, forked.writer, forked.conversation)
        kept = {mark for *_, state, before in rows if not state & FORKED for mark in marks_of_bytes(before)}
        lost = {mark for number, *_, before in rows if number == forked.number for mark in marks_of_bytes(before)}
        covered = {run.hex() for _, run, state, _ in rows if state == COVERED}
        for mark in lost - kept:
            log = self._writer.log(id._replace(run=mark.run)) if mark.run in covered else None
            if log is not None and (log.newest.seq, log.newest.chain.hex()) == mark[1:]:
                self._uncover(log)

    # ---- the rest

    def _add_delivered(self, mark: DeliveredMark) -> None:
        log = self._writer.find(mark.log)
        if log is None:
            return
        row = (log.number, self._writer.number_of(users, mark.member), mark.seq)
        self._db.insert(heard, row, InsertConflict.HIGHER)

    def _add_mark(self, table: Table, mark: ReadMark) -> None:
        """Write the mark of a reader, or delete one that another replaces; they are few: each is written at once."""
        log = self._writer.find(mark.log)
        if log is None:
            return
        reader = self._writer.number_of(users, mark.reader)
        if mark.seq:
            self._db.insert(table, (log.number, reader, bytes.fromhex(mark.chain), mark.seq), InsertConflict.HIGHER)
        else:
            self._db.run(f"delete from {table.name} where log = ? and reader = ?", log.number, reader)

    def _add_records(self, change: Change) -> None:
        insert, run, number_of = self._db.insert, self._db.run, self._writer.number_of
        for known in change.conversations:
            number = number_of(conversations, known.id)
            run("update conversations set naming = ? where number = ?", naming_to_text(known.naming), number)
        for known_user in change.users:
            run(NAME_USER, known_user.name, known_user.named_c, known_user.about, number_of(users, known_user.id))
        for one in change.former_names:
            insert(former_names, (number_of(users, one.user), one.name.encode(), one.c), InsertConflict.HIGHER)
        for id, endpoint in change.forgotten:
            run("delete from addresses where peer = ? and endpoint = ?", bytes.fromhex(id), endpoint)
        for address in change.addresses:
            peer, told = bytes.fromhex(address.peer), int(address.told)
            row = (peer, address.endpoint, address.verified_at, address.failed, told)
            insert(addresses, row, InsertConflict.REPLACE)
        for id, record in change.records.items():
            if record is None:
                run("delete from peer_records where peer = ?", bytes.fromhex(id))
            else:
                insert(peer_records, (bytes.fromhex(id), record_to_text(record)), InsertConflict.REPLACE)
        if change.meta:
            for own in OWN_KEYS:
                if own in change.meta:
                    raise ValueError(f"{own!r} is the storage's own")
            kept = [item for item in change.meta.items() if item[1] is not None]
            if kept:
                insert(meta, flat(kept), InsertConflict.REPLACE)
            for name in change.meta.keys() - dict(kept).keys():
                run("delete from meta where name = ?", name)
        for user in change.hosted:
            hosted_row = (
                bytes.fromhex(user.id),
                user.secret,
                user.name.encode(),
                user.created_at,
                user.hosted_as.encode(),
            )
            insert(hosted, hosted_row, InsertConflict.REPLACE)
        for id in change.unhosted:
            run("delete from tokens where owner = ?", bytes.fromhex(id))
            run("delete from hosted where id = ?", bytes.fromhex(id))
        for token in change.tokens:
            made = (token.hash, bytes.fromhex(token.user), token.created_at, token.label)
            insert(tokens, made, InsertConflict.REPLACE)
        for hash in change.revoked:
            run("delete from tokens where hash = ?", hash)
        for statement in change.statements:
            insert(
                statements,
                (bytes.fromhex(statement.id), statement.text, statement.signature),
                InsertConflict.REPLACE,
            )
        for id in change.unstated:
            run("delete from statements where id = ?", bytes.fromhex(id))


def _flags(stretch: Stretch) -> tuple[int, int]:
    """Return received_at and flags of its entries."""
    return stretch.received_at, OLD * stretch.old | GAP * stretch.gap


# ---- the fence

ADVANCE = f"update meta set value = ? where name = '{WRITER_KEY}' and value = ?"
LAST = f"select value from meta where name = '{WRITER_KEY}'"


class WriterFence:
    """Proof that this process wrote last; made once it holds the lock of the server."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._name = os.urandom(8).hex()
        self._count = 0
        self.is_under_way: bool = False  # True if a commit may be stored: its answer is awaited, or was lost
        with database.transaction():
            database.insert(meta, (WRITER_KEY, self._stamp(0)), InsertConflict.REPLACE)

    def _stamp(self, count: int) -> str:
        return f"{self._name} {count}"

    def advance(self) -> None:
        """Run the first statement of a commit. Raises StorageError if another peer has written."""
        if self._db.run(ADVANCE, self._stamp(self._count + 1), self._stamp(self._count)) != 1:
            raise self._broken()

    def on_committed(self) -> None:
        self._count += 1
        self.is_under_way = False

    def was_kept(self) -> bool:
        """Return on a new connection whether the commit under way is stored.

        Raises:
            StorageError: Another peer has written.
        """
        with self._db.transaction():
            last = self._db.value(LAST)
        if last == self._stamp(self._count):
            self.is_under_way = False
            return False
        if self.is_under_way and last == self._stamp(self._count + 1):
            self.on_committed()
            return True
        raise self._broken()

    def _broken(self) -> StorageError:
        where = self._db.dialect.where
        return StorageError(f"another peer has written into {where}: stop one of the two, then start this one again")
