"""Commits: changes become rows, in one transaction.

What is remembered between commits is only what saves questions: of each log written lately its number, its last
two heads and how far it was released. After a failure all of it is forgotten and read again.

A message written alone costs one row in entries, one in places and one replaced in heads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from p2pchat.config import Settings
from p2pchat.core.log import Batch, LogId, first_chain
from p2pchat.core.records import (
    EVERYTHING,
    Address,
    Change,
    DeliveredMark,
    Fork,
    KnownConversation,
    KnownUser,
    NewLog,
    ReadMark,
    Relation,
    Stretch,
)
from p2pchat.errors import StorageError
from p2pchat.protocol import UserId
from p2pchat.storage.batches import Head, clocks, entry_bytes, fits
from p2pchat.storage.database import (
    Database,
    batch_to_text,
    marks_of_bytes,
    marks_to_bytes,
    naming_to_text,
    relation_row,
)
from p2pchat.storage.dialects.dialect import Conflict
from p2pchat.storage.read import BODIES
from p2pchat.storage.schema import (
    COVERED,
    FORKED,
    GAP,
    MAX_LOG,
    OLD,
    OWN_KEYS,
    SEQ_BITS,
    SEQS,
    WRITER_KEY,
    Table,
    addresses,
    cites,
    consumers,
    conversations,
    entries,
    forks,
    former_names,
    heads,
    heard,
    hosted,
    logs,
    mendings,
    meta,
    places,
    read_marks,
    seen,
    tokens,
    users,
    waiting,
)

MOST_LOGS = 20_000  # remembered; about 10 MiB
NOTHING = Head(0, 0, 0, b"", b"")
NUMBER = "select number from logs where conversation = ? and run = ? and writer = ?"
LAST_HEADS = "select id, size, c, chain, sig from heads where id > ? and id < ? order by id desc limit 2"
COVER = f"update logs set state = state | {COVERED} where number = ?"
UNCOVER = f"update logs set state = state & {FORKED} where number = ?"
FORK = f"update logs set state = state | {FORKED} where number = ?"
LOGS_OF = "select number, run, state, builds_on from logs where writer = ? and conversation = ?"
NAME_USER = "update users set name = ?, named_c = ?, about = ? where number = ?"
MOVE_HEAD = "update heads set id = ?, size = ?, c = ?, chain = ?, sig = ? where id = ?"
NOT_WHOLE = "update logs set whole = 0 where writer = ? and conversation = ? and number > ? and whole = 1"


@dataclass(slots=True)
class OpenLog:
    """A log as its next batch needs it."""

    number: int
    conversation: int
    writer: int
    user: UserId
    anchor: Head = NOTHING  # the newest head but one
    newest: Head = NOTHING
    released: int = 0
    waiting: int | None = None  # what the row in `waiting` says, None without one


class CommitWriter:
    """Carries out commits on one connection."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._db = database
        self._settings = settings
        self.fence = WriterFence(database) if database.dialect.is_shared else None
        self._forget()

    def commit(self, changes: Sequence[Change]) -> None:
        """Make all of it durable or nothing; whatever happens, the next commit begins from what is stored."""
        try:
            self._db.begin()
            if self.fence is not None:
                self.fence.turn()
            rows = RowBuffer(self, self._db, self._settings)
            for change in changes:
                rows.add(change)
            rows.write()
            if self.fence is not None:
                self.fence.committing()
            self._db.commit()
        except BaseException:
            self._forget()
            self._db.rollback()  # also after a commit that failed, as on a full disk
            raise
        if self.fence is not None:
            self.fence.committed()
        if len(self.logs) > MOST_LOGS:
            self.logs.clear()

    @property
    def is_under_way(self) -> bool:
        """Whether a commit failed that may be kept all the same: the answer to it was lost."""
        return self.fence is not None and self.fence.is_under_way

    def was_kept(self) -> bool:
        """After a lost connection: whether the commit under way was. Raises StorageError when others have written."""
        return self.fence is not None and self.fence.was_kept()

    def _forget(self) -> None:
        self.logs: dict[LogId, OpenLog] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._next: dict[str, int] = {}

    # ---- numbers

    def next_number(self, table: Table) -> int:
        """Return the next free number of conversations, users or logs."""
        if table.name not in self._next:
            self._next[table.name] = 1 + (self._value(f"select max(number) from {table.name}") or 0)
        number = self._next[table.name]
        self._next[table.name] += 1
        return number

    def number_of(self, table: Table, name: str) -> int:
        """Return the number of a conversation or user, a new one when it was never named before."""
        found = self._known_number(table, name)
        if found is None:
            found = self._numbers[table.name, name] = self.next_number(table)
            self._db.run(f"insert into {table.name} (number, id) values (?, ?)", found, bytes.fromhex(name))
        return found

    def _known_number(self, table: Table, name: str) -> int | None:
        found = self._numbers.get((table.name, name))
        if found is None:
            found = self._value(f"select number from {table.name} where id = ?", bytes.fromhex(name))
            if found is not None:
                self._numbers[table.name, name] = found
        return found

    # ---- logs

    def log(self, log: LogId) -> OpenLog:
        """Return a stored log; ValueError when there is none."""
        found = self.find(log)
        if found is None:
            raise ValueError(f"no such log: {log.run}")
        return found

    def find(self, log: LogId) -> OpenLog | None:
        return self.logs.get(log) or self._read(log)

    def _read(self, log: LogId) -> OpenLog | None:
        writer, conversation = self._known_number(users, log.user), self._known_number(conversations, log.conversation)
        if writer is None or conversation is None:
            return None
        number = self._value(NUMBER, conversation, bytes.fromhex(log.run), writer)
        if number is None:
            return None
        found = OpenLog(number, conversation, writer, log.user)
        newest_first = self._db.all(LAST_HEADS, number * SEQS, (number + 1) * SEQS)
        last = [Head(id % SEQS, *columns) for id, *columns in newest_first]
        found.newest, found.anchor = (*last, NOTHING, NOTHING)[:2]
        found.waiting = self._value("select released from waiting where log = ?", number)
        found.released = found.newest.seq if found.waiting is None else found.waiting
        self.logs[log] = found
        return found

    def _value(self, statement: str, *parameters: object) -> int | None:
        value: int | None = self._db.value(statement, *parameters)
        return value

    def begin(self, new: NewLog) -> OpenLog:
        if self.find(new.log) is not None:
            raise ValueError(f"this log was begun before: {new.log.run}")
        number = self.next_number(logs)
        if number > MAX_LOG:
            raise StorageError("this database holds as many logs as it can: begin a new one")
        writer, conversation = self.number_of(users, new.log.user), self.number_of(conversations, new.log.conversation)
        run, builds_on = bytes.fromhex(new.log.run), marks_to_bytes(new.before)
        self._db.insert(logs, (number, conversation, writer, run, 0, int(new.whole), builds_on))
        self.logs[new.log] = OpenLog(number, conversation, writer, new.log.user)
        return self.logs[new.log]


class RowBuffer:
    """The rows of one transaction, gathered so that each table is written once."""

    def __init__(self, writer: CommitWriter, database: Database, settings: Settings) -> None:
        self._writer = writer
        self._db = database
        self._settings = settings
        self._entries: list[object] = []
        self._places: list[object] = []
        self._heads: dict[int, Head] = {}
        self._superseded: dict[int, int] = {}  # by log, the id of a stored head that a new one takes the place of
        self._touched: dict[int, OpenLog] = {}
        self._mendings: list[object] = []
        self._heard: dict[tuple[int, int], int] = {}
        self._forks: list[Fork] = []

    def add(self, change: Change) -> None:
        """Take one change; what is rare is written at once."""
        for new in change.logs:
            self._writer.begin(new)
        for batch in change.batches:
            self._add_batch(batch)
        for uncovered in change.uncovered:
            self._uncover(self._writer.log(uncovered))
        for covered in change.covered:
            self._run(COVER, self._writer.log(covered).number)
        self._forks += change.forks
        for id, cite in change.cites:
            row = (self._writer.log(id).number, cite.first, cite.gen, bytes.fromhex(cite.chain8))
            self._db.insert(cites, row)
        for id, upto in change.visible.items():
            self._see(self._writer.log(id).number, upto)
        for stretch in change.stretches:
            self._add_stretch(stretch)
        for mending in change.relations:
            self._add_mending(mending)
        for told in change.delivered:
            self._add_heard(told)
        for mark in change.reads:
            self._add_read(mark)
        self._add_rest(change)

    def write(self) -> None:
        """Write what was gathered."""
        self._db.insert(entries, self._entries)
        self._write_heads()
        self._db.insert(places, self._places)
        self._db.insert(mendings, self._mendings)
        for log in self._touched.values():
            self._write_waiting(log)
        told = [value for key, seq in self._heard.items() for value in (*key, seq)]
        self._db.insert(heard, told, Conflict.HIGHER)
        for fork in self._forks:
            self._add_fork(fork)

    def _run(self, statement: str, *parameters: object) -> None:
        self._db.run(statement, *parameters)

    # ---- entries and heads

    def _add_batch(self, batch: Batch) -> None:
        log = self._writer.log(batch.log)
        if batch.first != log.newest.seq + 1 or not batch.raws:
            raise ValueError(f"{batch} does not follow entry {log.newest.seq}")
        if batch.last >= SEQS:
            raise StorageError("this log is as long as a log can be")
        cs = clocks(batch)
        id, count = log.number * SEQS + batch.first, len(cs)
        rows: list[object] = [log.conversation] * (4 * count)
        rows[0::4], rows[2::4], rows[3::4] = range(id, id + count), cs, batch.raws
        self._entries += rows
        added = entry_bytes("".join(batch.raws))
        self._touched[log.number] = log
        self._add_head(log, Head(batch.last, log.newest.size + added, cs[-1], batch.chain, batch.head))

    def _add_head(self, log: OpenLog, head: Head) -> None:
        """Keep this head, in place of the newest one where the one before that is near enough."""
        if log.newest.seq and fits(log.anchor.seq, log.anchor.size, head, self._settings):
            superseded = log.number * SEQS + log.newest.seq
            if self._heads.pop(superseded, None) is None:
                self._superseded[log.number] = superseded
        else:
            log.anchor = log.newest
        log.newest = head
        self._heads[log.number * SEQS + head.seq] = head

    def _write_heads(self) -> None:
        """Of a log that had a head superseded there is at least one new one, the first of which takes its place."""
        added: list[object] = []
        for id, head in self._heads.items():
            stored = self._superseded.pop(id >> SEQ_BITS, None)
            if stored is None:
                added += (id, *head[1:])
            else:
                self._run(MOVE_HEAD, id, *head[1:], stored)
        self._db.insert(heads, added)

    def _see(self, log: int, upto: int) -> None:
        if upto == EVERYTHING:
            self._run("delete from seen where log = ?", log)
        else:
            self._db.insert(seen, (log, upto), Conflict.REPLACE)

    # ---- places

    def _add_stretch(self, stretch: Stretch) -> None:
        log = self._writer.log(stretch.log)
        flags = OLD * stretch.old | GAP * stretch.gap
        start = log.number * SEQS + stretch.first
        self._places += (stretch.first_place, start, stretch.count, stretch.received_at, flags)
        log.released = max(log.released, stretch.first + stretch.count - 1)
        self._touched[log.number] = log

    def _add_mending(self, mending: Relation) -> None:
        log = self._writer.log(mending.log)
        self._mendings += relation_row(mending, log.number * SEQS + mending.seq, log.conversation, log.writer)

    def _write_waiting(self, log: OpenLog) -> None:
        """Say in `waiting` how far a log is released, when that is not to its end."""
        wanted = log.released if log.released < log.newest.seq else None
        if wanted == log.waiting:
            return
        if wanted is None:
            self._run("delete from waiting where log = ?", log.number)
        else:
            self._db.insert(waiting, (log.number, wanted), Conflict.REPLACE)
        log.waiting = wanted

    # ---- states

    def _uncover(self, log: OpenLog) -> None:
        """Make a tip of it again: no later log of its user builds on everything below itself any more."""
        self._run(UNCOVER, log.number)
        self._run(NOT_WHOLE, log.writer, log.conversation, log.number)

    def _add_fork(self, fork: Fork) -> None:
        log = self._writer.find(fork.log) or self._writer.begin(NewLog(fork.log, (), False))
        self._run(FORK, log.number)
        one = fork.one or self._newest_batch(fork.log, log)
        self._db.insert(forks, (log.number, batch_to_text(one), batch_to_text(fork.other)), Conflict.REPLACE)
        self._uncover_below(fork.log, log)

    def _newest_batch(self, id: LogId, log: OpenLog) -> Batch:
        """Return what lies between the last two heads of a log."""
        at, end = log.anchor, log.newest
        rows = self._db.all(BODIES, log.number * SEQS + at.seq, log.number * SEQS + end.seq)
        raws = [row[0] for row in rows]
        return Batch(id, at.seq + 1, raws, None, at.chain or first_chain(id), end.chain, end.sig)

    def _uncover_below(self, id: LogId, forked: OpenLog) -> None:
        """Make tips again of what a forked log covered and no other log does: who has only heard of it agrees."""
        rows = self._db.all(LOGS_OF, forked.writer, forked.conversation)
        kept = {mark for *_, state, before in rows if not state & FORKED for mark in marks_of_bytes(before)}
        lost = {mark for number, *_, before in rows if number == forked.number for mark in marks_of_bytes(before)}
        covered = {run.hex() for _, run, state, _ in rows if state == COVERED}
        for mark in lost - kept:
            log = self._writer.log(id._replace(run=mark.run)) if mark.run in covered else None
            if log is not None and (log.newest.seq, log.newest.chain[:8].hex()) == mark[1:]:
                self._uncover(log)

    # ---- the rest

    def _add_heard(self, told: DeliveredMark) -> None:
        log = self._writer.find(told.log)
        if log is not None:
            key = (log.number, self._writer.number_of(users, told.member))
            self._heard[key] = max(self._heard.get(key, 0), told.seq)

    def _add_read(self, mark: ReadMark) -> None:
        """Set a read mark, or take one away for which another stands; there are few: each is written at once."""
        log = self._writer.find(mark.log)
        if log is None:
            return
        reader = self._writer.number_of(users, mark.reader)
        if mark.seq:
            self._db.insert(read_marks, (log.number, reader, mark.seq), Conflict.HIGHER)
        else:
            self._run("delete from read_marks where log = ? and reader = ?", log.number, reader)

    def _add_rest(self, change: Change) -> None:
        for talk in change.conversations:
            self._name_talk(talk)
        for user in change.users:
            self._name_user(user)
        for one in change.former_names:
            owner = self._writer.number_of(users, one.user)
            self._db.insert(former_names, (owner, one.name.encode(), one.c), Conflict.HIGHER)
        for address in change.addresses:
            self._db.insert(addresses, _address_row(address), Conflict.REPLACE)
        for peer, endpoint in change.forgotten:
            self._run("delete from addresses where peer = ? and endpoint = ?", bytes.fromhex(peer), endpoint)
        if change.consumers:
            self._db.insert(consumers, _flat(change.consumers), Conflict.REPLACE)
        if change.meta:
            self._add_meta(change.meta)
        self._add_hosted(change)

    def _add_meta(self, values: dict[str, str]) -> None:
        for own in OWN_KEYS:
            if own in values:
                raise ValueError(f"{own!r} is the storage's own")
        self._db.insert(meta, _flat(values), Conflict.REPLACE)

    def _add_hosted(self, change: Change) -> None:
        for user in change.hosted:
            row = (bytes.fromhex(user.id), user.secret, user.name.encode(), user.created_at)
            self._db.insert(hosted, row, Conflict.REPLACE)
        for id in change.unhosted:
            self._run("delete from tokens where owner = ?", bytes.fromhex(id))
            self._run("delete from hosted where id = ?", bytes.fromhex(id))
        for token in change.tokens:
            made = (token.hash, bytes.fromhex(token.user), token.created_at, token.label)
            self._db.insert(tokens, made, Conflict.REPLACE)
        for hash in change.revoked:
            self._run("delete from tokens where hash = ?", hash)

    def _name_talk(self, talk: KnownConversation) -> None:
        number = self._writer.number_of(conversations, talk.id)
        self._run("update conversations set naming = ? where number = ?", naming_to_text(talk.naming), number)

    def _name_user(self, user: KnownUser) -> None:
        number = self._writer.number_of(users, user.id)
        self._run(NAME_USER, user.name, user.named_c, user.about, number)


def _address_row(address: Address) -> tuple[object, ...]:
    peer, teller = bytes.fromhex(address.peer), bytes.fromhex(address.teller)
    return (peer, address.endpoint, address.verified_at, address.failing_since, teller)


def _flat(pairs: dict[str, int] | dict[str, str]) -> list[object]:
    return [value for pair in pairs.items() for value in pair]


# ---- fence
#
# Who wrote last, where a database lies on a server that others can reach too.
#
# The lock that the one writer holds there ends with its connection, and somewhere between here and the server it may
# end unnoticed. So each commit turns on a row of `meta`: from what this process wrote there last to the next number. A
# commit of somebody else in between makes ours fail, and after a lost connection that row says whether the commit that
# was under way is kept.


TURN = f"update meta set value = ? where name = '{WRITER_KEY}' and value = ?"
LAST = f"select value from meta where name = '{WRITER_KEY}'"


class WriterFence:
    """The one who writes; made once the lock is held."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._name = os.urandom(8).hex()
        self._count = 0
        self.is_under_way = False
        with database.transaction():
            database.insert(meta, (WRITER_KEY, self._stamp(0)), Conflict.REPLACE)

    def _stamp(self, count: int) -> str:
        return f"{self._name} {count}"

    def turn(self) -> None:
        """The first statement of a commit. Raises StorageError when somebody else has written."""
        if self._db.run(TURN, self._stamp(self._count + 1), self._stamp(self._count)) != 1:
            raise self._broken()

    def committing(self) -> None:
        """From here on it may be kept."""
        self.is_under_way = True

    def committed(self) -> None:
        self._count += 1
        self.is_under_way = False

    def was_kept(self) -> bool:
        """On a new connection: whether the commit under way was. Raises StorageError when somebody else has written."""
        with self._db.transaction():
            last = self._db.value(LAST)
        if last == self._stamp(self._count):
            self.is_under_way = False
            return False
        if self.is_under_way and last == self._stamp(self._count + 1):
            self.committed()
            return True
        raise self._broken()

    def _broken(self) -> StorageError:
        where = self._db.dialect.where
        return StorageError(f"another peer has written into {where}: stop one of the two, then start this one again")
