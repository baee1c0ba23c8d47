"""What a starting node needs, in milliseconds however much is stored: no statement here passes over entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, LargeBinary, bindparam, select, text

from p2pchat.config import Settings
from p2pchat.core.log import LogId, decode_entry
from p2pchat.core.records import (
    EVERYTHING,
    Address,
    FormerName,
    Heard,
    KeptUser,
    KnownUser,
    ReadMark,
    Spoken,
    Stored,
    Talk,
    Token,
    Waiting,
)
from p2pchat.core.sync.conversations import dm_id
from p2pchat.protocol import ConversationId, UserId
from p2pchat.storage.base import Holding
from p2pchat.storage.database import Database
from p2pchat.storage.faults import Misfit, fitting
from p2pchat.storage.fragments import THEN_ENTRIES
from p2pchat.storage.reading import CITES, FACTS, cites_of, log_facts
from p2pchat.storage.rows import naming_of_text
from p2pchat.storage.tables import (
    COVERED,
    FORKED,
    OWN_KEYS,
    SEQ_BITS,
    SEQS,
    addresses,
    consumers,
    conversations,
    former_names,
    hosted,
    meta,
    tokens,
    users,
)

NEWEST_C = """
select c.id, (select e.c from entries e where e.conversation = c.number order by e.c desc limit 1) from conversations c
"""
RECENT = f"""
select c.id, u.id, l.run, p.start, p.entries from places p
join logs l on l.number = p.start >> {SEQ_BITS}
join conversations c on c.number = l.conversation
join users u on u.number = l.writer
order by p.first_place desc limit ?
"""
HEARD = """
select c.id, u.id, l.run, m.id, h.seq from logs l
join heard h on h.log = l.number
join conversations c on c.number = l.conversation
join users u on u.number = l.writer
join users m on m.number = h.member
where l.state = 0 and u.id in :hosted
"""
READS = """
select c.id, u.id, l.run, r.id, m.seq from read_marks m
join logs l on l.number = m.log
join conversations c on c.number = l.conversation
join users u on u.number = l.writer
join users r on r.number = m.reader
where r.id in :hosted or (l.state = 0 and u.id in :hosted)
"""
FORKED_STATES = (FORKED, FORKED | COVERED)  # each named: for a comparison SQLite would pass over all logs
WRITERS = f"""
select c.id, u.id from (
    select conversation, writer, min(number) as came from logs where state < {FORKED} group by conversation, writer
) l
join conversations c on c.number = l.conversation join users u on u.number = l.writer order by l.came
"""
FORKED_LOGS = f"""
select c.id, u.id, l.run from logs l
join conversations c on c.number = l.conversation join users u on u.number = l.writer
where l.state in {FORKED_STATES} order by l.number
"""
CITES_OF_TIPS = f"""
{CITES} where log in (select number from logs where state = 0 union select log from waiting) order by log, first
"""
# What was written to groups, operations and leaves, never what anybody said; what is here of forked logs stays.
SPOKEN = f"""
select c.id, u.id, l.run, e.id, e.body
from (select number, id from conversations where naming like '%"group"%') c
{THEN_ENTRIES}
join logs l on l.number = e.id >> {SEQ_BITS}
join users u on u.number = l.writer
where e.conversation = c.number
order by c.number, e.id
"""
USERS_AT_ONCE = 500
WAITING = "select id, body from entries where id > ? and id < ? order by id"


def load(database: Database, whose: Sequence[UserId], settings: Settings) -> Stored:
    """Return what a node starts from; call it inside a transaction."""
    rows, connection = database.all, database.connection
    unreleased = rows(f"{FACTS} where l.number in (select log from waiting) order by l.number")
    cited = cites_of(rows(CITES_OF_TIPS))
    seen: dict[int, int] = dict(tuple(row) for row in rows("select log, upto from seen"))
    newest = rows("select first_place + entries from places order by first_place desc limit 1")
    stored = Stored(
        tips=[
            log_facts(row, cites=cited.get(row[0], ()), seen=seen.get(row[0], EVERYTHING))
            for row in rows(f"{FACTS} where l.state = 0 and h.id is not null order by l.number")
        ],
        forked=[log_facts(row).log for row in rows(f"{FACTS} where l.state in {FORKED_STATES} order by l.number")],
        unreleased=[
            log_facts(row, cites=cited.get(row[0], ()), seen=seen.get(row[0], EVERYTHING)) for row in unreleased
        ],
        waiting=[
            Waiting(facts.log, id % SEQS, decode_entry(body))
            for number, facts in ((row[0], log_facts(row)) for row in unreleased)
            for id, body in rows(WAITING, number * SEQS + facts.released, (number + 1) * SEQS)
        ],
        next_place=newest[0][0] if newest else 1,
        talks=_talks(connection),
        users=_users(connection),
        former=_former(connection),
        heard=_heard(connection, whose),
        reads=_reads(connection, whose),
        addresses=_addresses(connection),
        consumers={row.name: row.place for row in connection.execute(select(consumers))},
        newest_c=_newest_clocks(rows(NEWEST_C)),
        recent=_recent(rows(RECENT, settings.recent_places), settings),
        groups=[Spoken(_log(row), row[3] % SEQS, row[4]) for row in rows(SPOKEN)],
        most_bytes=database.dialect.most_stored(database),
        meta=load_meta(database),
    )
    _check(stored)
    return stored


def load_hosted(database: Database) -> list[KeptUser]:
    """Return the users hosted here, in the order they came."""
    rows = database.connection.execute(select(hosted).order_by(hosted.c.created_at, hosted.c.id)).all()
    if not all(len(row.id) == len(row.secret) == 32 and type(row.created_at) is int for row in rows):
        raise Misfit("keys of another kind")
    with fitting():
        return [KeptUser(row.id.hex(), row.secret, row.name.decode(), row.created_at) for row in rows]


def load_of_users(database: Database, users: Sequence[UserId]) -> Stored:
    """Return what is known of who has what these users wrote, and of what is read: theirs, and by them."""
    return Stored(heard=_heard(database.connection, users), reads=_reads(database.connection, users))


def load_token(database: Database, hash: bytes) -> Token | None:
    """Return a token by its hash; None when there is none, or its user is hosted no more."""
    found = select(tokens).join(hosted, hosted.c.id == tokens.c.owner).where(tokens.c.hash == hash)
    row = database.connection.execute(found).first()
    return None if row is None else Token(row.hash, row.owner.hex(), row.created_at, row.label)


def load_tokens(database: Database, user: UserId | None) -> list[Token]:
    """Return the tokens of a user, or (None) all, in the order they were made."""
    found = select(tokens).order_by(tokens.c.created_at, tokens.c.hash)
    rows = database.connection.execute(found if user is None else found.where(tokens.c.owner == bytes.fromhex(user)))
    return [Token(row.hash, row.owner.hex(), row.created_at, row.label) for row in rows]


def load_meta(database: Database) -> dict[str, str]:
    """Return what the core, and what it is part of, remember by name."""
    rows = database.connection.execute(select(meta))
    found: dict[str, str] = {name: value for name, value in rows if name not in OWN_KEYS}
    if not all(type(text) is str for item in found.items() for text in item):
        raise Misfit("values of another kind")
    return found


def _check(stored: Stored) -> None:
    """Raise Misfit for values that nobody stored: a disk that turns bits must not start a node on them."""
    numbers = [stored.next_place, *stored.consumers.values(), *stored.newest_c.values()]
    numbers += [seq for _, seq in stored.recent]
    numbers += [told.seq for told in stored.heard] + [mark.seq for mark in stored.reads]
    numbers += [user.named_c for user in stored.users] + [one.c for one in stored.former]
    numbers += [time for one in stored.addresses for time in (one.verified_at, one.failing_since)]
    texts = [*stored.consumers, *(one.endpoint for one in stored.addresses)]
    texts += [text for user in stored.users for text in (user.name, user.about)]
    if not all(type(number) is int and number >= 0 for number in numbers) or not all(
        type(text) is str for text in texts
    ):
        raise Misfit("values of another kind")
    for talk in stored.talks:
        if talk.naming.dm:
            with fitting():
                dm_id(*talk.naming.dm)


def holdings(database: Database) -> list[Holding]:
    """Return every conversation of which something is stored, and by whom; it passes over all logs, no entries."""
    rows = database.all
    writers: dict[str, list[UserId]] = {}
    for conversation, user in rows(WRITERS):
        writers.setdefault(conversation.hex(), []).append(user.hex())
    forked: dict[str, list[LogId]] = {}
    for row in rows(FORKED_LOGS):
        forked.setdefault(row[0].hex(), []).append(_log(row))
    return [
        Holding(talk, tuple(writers.get(talk.id, ())), tuple(forked.get(talk.id, ())))
        for talk in _talks(database.connection)
        if talk.id in writers or talk.id in forked
    ]


def _talks(connection: Connection) -> list[Talk]:
    named = select(conversations).where(conversations.c.naming.is_not(None)).order_by(conversations.c.number)
    return [Talk(row.id.hex(), naming_of_text(row.naming)) for row in connection.execute(named)]


def _users(connection: Connection) -> list[KnownUser]:
    named = select(users).where(users.c.name.is_not(None)).order_by(users.c.number)
    return [KnownUser(row.id.hex(), row.name, row.named_c, row.about) for row in connection.execute(named)]


def _former(connection: Connection) -> list[FormerName]:
    rows = connection.execute(
        select(users.c.id, former_names.c.name, former_names.c.c)
        .join(users, users.c.number == former_names.c.owner)
        .order_by(former_names.c.owner, former_names.c.c)
    )
    return [FormerName(id.hex(), name.decode(), c) for id, name, c in rows]


def _heard(connection: Connection, whose: Sequence[UserId]) -> list[Heard]:
    return [Heard(_log(row), row[3].hex(), row[4]) for row in _of_hosted(connection, HEARD, whose)]


def _reads(connection: Connection, whose: Sequence[UserId]) -> list[ReadMark]:
    rows = _of_hosted(connection, READS, whose)
    return list(dict.fromkeys(ReadMark(_log(row), row[3].hex(), row[4]) for row in rows))


def _of_hosted(connection: Connection, statement: str, whose: Sequence[UserId]) -> list[Any]:
    """Return the rows of all these, some at a time: a statement takes only so many values."""
    bound = text(statement).bindparams(bindparam("hosted", expanding=True, type_=LargeBinary))
    users = [bytes.fromhex(user) for user in whose]
    pages = [users[start : start + USERS_AT_ONCE] for start in range(0, len(users), USERS_AT_ONCE)]
    return [row for page in pages for row in connection.execute(bound, {"hosted": page}).all()]


def _addresses(connection: Connection) -> list[Address]:
    return [
        Address(row.peer.hex(), row.endpoint, row.verified_at, row.failing_since, row.teller.hex())
        for row in connection.execute(select(addresses))
    ]


def _newest_clocks(rows: Sequence[Any]) -> dict[ConversationId, int]:
    return {conversation.hex(): c for conversation, c in rows if c is not None}


def _recent(rows: Sequence[Any], settings: Settings) -> list[tuple[LogId, int]]:
    recent: list[tuple[LogId, int]] = []
    places = 0
    for row in rows:
        if places >= settings.recent_places:
            break
        places += row[4]
        recent.append((_log(row), row[3] % SEQS + row[4] - 1))
    return recent[::-1]


def _log(row: Any) -> LogId:
    return LogId(row[0].hex(), row[1].hex(), row[2].hex())
