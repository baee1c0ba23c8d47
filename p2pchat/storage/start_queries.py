"""Loading of what a starting node needs: the tips of logs and small records, never all entries.

It takes milliseconds however much is stored: no statement here reads all entries.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from itertools import groupby
from typing import Any

from p2pchat.addresses import split_endpoint
from p2pchat.core.content.file_receipts import MAX_CONTENTS
from p2pchat.core.durable_changes import (
    EVERYTHING,
    Address,
    DeliveredMark,
    FormerName,
    GroupEntry,
    KnownConversation,
    KnownUser,
    LogFacts,
    NamedContent,
    ReadMark,
    Stored,
    StoredUser,
    Token,
    UnreleasedEntry,
)
from p2pchat.core.log import LogId, bits_of, decode_entry, marks_of_bytes
from p2pchat.core.sync.conversation_state import pack_row
from p2pchat.protocol import ConversationId, UserId
from p2pchat.settings import Settings
from p2pchat.storage.contract import PROFILE_BEGINS, StoredConversation
from p2pchat.storage.database import Database, placeholders
from p2pchat.storage.log_queries import FACTS, LogQueries, log_facts
from p2pchat.storage.schema import (
    COVERED,
    FORKED,
    LOG_SIZE,
    NEWEST_HEAD,
    OWN_KEYS,
    SEQ_BITS,
    SEQS,
    THEN_ENTRIES,
    CorruptRow,
    decoding,
    log_of,
    naming_of_text,
    record_of_text,
)

RECENT = f"""
select c.id, u.id, l.run, p.start, p.entries, coalesce(substr(e.body, 1, 14), '') from places p
left join entries e on e.id = p.start + p.entries - 1
join logs l on l.number = p.start >> {SEQ_BITS}
join conversations c on c.number = l.conversation
join users u on u.number = l.writer
order by p.first_place desc limit ?
"""


def _of_tips_and_newest(table: str, reader: str) -> str:
    """Return the condition for marks `m` on logs of these users that tell what was reported of all their logs.

    They are those on tips, and of whoever has none there the one on the newest log: it implies what that builds on.
    """
    return f"""
u.id in {{whose}} and (l.state = 0 or (m.log, m.{reader}) in (
    select max(n.log), n.{reader} from {table} n join logs w on w.number = n.log
    where w.writer in (select number from users where id in {{whose}}) group by w.conversation, w.writer, n.{reader}
))
order by m.log, m.{reader}"""


DELIVERED = f"""
select c.id, u.id, l.run, r.id, m.seq from logs l
join heard m on m.log = l.number
join conversations c on c.number = l.conversation
join users u on u.number = l.writer
join users r on r.number = m.member
where {_of_tips_and_newest("heard", "member")}
"""
MARKS_ON_LOGS = """
join logs l on l.number = m.log
join conversations c on c.number = l.conversation
join users u on u.number = l.writer
join users r on r.number = m.reader
"""
READS = f"""
select c.id, u.id, l.run, r.id, m.seq, m.chain from read_marks m {MARKS_ON_LOGS}
where (r.id in {{whose}}) or {_of_tips_and_newest("read_marks", "reader")}
"""
TAKEN = f"select c.id, u.id, l.run, r.id, m.seq, m.chain from taken_marks m {MARKS_ON_LOGS} where r.id in {{whose}}"
FORKED_STATES = (FORKED, FORKED | COVERED)  # listed: for a comparison SQLite would read all logs
ALL_STATES = (0, COVERED, *FORKED_STATES)  # so it reads the index of states, and no certificates
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
LOGS = f"""
select c.id, u.id, l.run, h.id, h.chain, h.c, p.upto, l.builds_on, l.number, l.state,
{LOG_SIZE} - coalesce(p.size, 0)
from logs l
join conversations c on c.number = l.conversation
join users u on u.number = l.writer
{NEWEST_HEAD}
left join pruned p on p.log = l.number
where l.state in {ALL_STATES} and h.id is not null
"""
# The facts of groups, no messages; those of logs that forked stay.
GROUP_ENTRIES = f"""
select c.id, u.id, l.run, e.c, e.body, h.chain, l.builds_on
from (select number, id from conversations where naming like '%"group"%') c
{THEN_ENTRIES}
join logs l on l.number = e.id >> {SEQ_BITS}
join heads h on h.id = e.id
join users u on u.number = l.writer
where e.conversation = c.number
order by c.number, e.id
"""
MISSING = f"""
select g.id from gone g left join pruned p on p.log = g.id >> {SEQ_BITS}
where g.hash is not null and g.id > (g.id >> {SEQ_BITS}) * {SEQS} + coalesce(p.upto, 0) order by g.id
"""  # the stubs that no deletion here made
USERS = "select id, name, named_c, about from users where name is not null order by number"
FORMER_NAMES = """
select u.id, f.name, f.c from users u join former_names f on u.number = f.owner order by f.owner, f.c
"""
ADDRESSES = "select peer, endpoint, verified_at, failed, told from addresses"
PEER_RECORDS = "select peer, said from peer_records order by peer"
TOKENS = "select t.hash, t.owner, t.created_at, t.label from tokens t"
MEMBERS = "select u.id, g.member from guests g join users u on u.number = g.guest order by u.number, g.member"
STATEMENTS = "select said, signature from statements order by id"
NAMED = f"""
select a.root, c.id, u.id, l.run, a.id from attachments a
join entries e on e.id = a.id
join logs l on l.number = a.id >> {SEQ_BITS}
join conversations c on c.number = l.conversation
join users u on u.number = l.writer
order by e.c desc, a.id desc limit ?
"""
USERS_AT_ONCE = 500
WAITING = "select id, c, body from entries where id > ? and id < ? order by id"


def load_start(reader: LogQueries, hosted: Sequence[UserId]) -> Stored:
    """Return what a starting node needs; `delivered` only for logs of the hosted users."""
    database, settings, rows = reader.db, reader.settings, reader.db.all
    visible: dict[int, int] = dict(tuple(row) for row in rows("select log, upto from seen"))

    def facts_of(where: str) -> list[tuple[int, LogFacts]]:
        """Return facts of these logs, by their numbers."""
        found = rows(f"{FACTS} where {where} order by l.number")
        return [(row[0], log_facts(row, visible.get(row[0], EVERYTHING))) for row in found]

    unreleased = facts_of("l.number in (select log from waiting union select log from seen)")
    covered, sizes = _covered_and_sizes(rows(LOGS), {number for number, _ in unreleased})
    stored = Stored(
        tips=[facts for _, facts in facts_of("l.state = 0 and h.id is not null")],
        forked=[log_of(*row) for row in rows(FORKED_LOGS)],
        unreleased=[facts for _, facts in unreleased],
        covered=covered,
        waiting=[
            UnreleasedEntry(facts.log, id % SEQS, decode_entry((c, text)))
            for number, facts in unreleased
            for id, c, text in rows(WAITING, number * SEQS + facts.released, (number + 1) * SEQS)
        ],
        next_place=reader.last_place() + 1,
        conversations=_conversations(database),
        users=[KnownUser(id.hex(), name, named_c, about) for id, name, named_c, about in rows(USERS)],
        former_names=[FormerName(id.hex(), name.decode(), c) for id, name, c in rows(FORMER_NAMES)],
        delivered=_delivered(database, hosted),
        reads=_marks(database, hosted),
        named=[
            NamedContent(root.hex(), log_of(*log), log[3] % SEQS) for root, *log in reversed(rows(NAMED, MAX_CONTENTS))
        ],
        addresses=[
            Address(peer.hex(), endpoint, verified_at, failed, told == 1)
            for peer, endpoint, verified_at, failed, told in rows(ADDRESSES)
        ],
        records=[record_of_text(peer.hex(), text) for peer, text in rows(PEER_RECORDS)],
        consumers=dict(tuple(row) for row in rows("select name, place from consumers")),
        recent=recent_logs(
            (
                (log_of(*row), row[3] % SEQS + row[4] - 1, row[4], row[5])
                for row in rows(RECENT, settings.recent_places)
            ),
            settings,
        ),
        members=[(user.hex(), member.hex()) for user, member in rows(MEMBERS)],
        statements=load_statements(reader),
        group_entries=[
            GroupEntry(log_of(*row), (row[3], row[4]), row[5], marks_of_bytes(row[6])) for row in rows(GROUP_ENTRIES)
        ],
        missing=_missing(reader, rows(MISSING)),
        sizes=sizes,
        meta=load_meta(reader),
    )
    _check(stored)
    return stored


def _missing(reader: LogQueries, rows: Sequence[Any]) -> dict[LogId, int]:
    logs = groupby((id for (id,) in rows), key=lambda id: id >> SEQ_BITS)
    return {reader.log_id(log): bits_of(id % SEQS for id in ids) for log, ids in logs}


def _covered_and_sizes(
    logs: Sequence[Any], unreleased: Container[int]
) -> tuple[dict[ConversationId, list[bytes]], dict[UserId, int]]:
    """Return the covered logs of which nothing waits, as rows for memory, and the bytes of each user."""
    covered: dict[ConversationId, list[bytes]] = {}
    sizes: dict[bytes, int] = {}
    with decoding():
        for conversation, user, run, head, chain, c, deleted, builds_on, number, state, size in logs:
            sizes[user] = sizes.get(user, 0) + int(size)
            if state == COVERED and number not in unreleased:
                row = pack_row(user, run, head % SEQS, chain, c, deleted or 0, builds_on)
                covered.setdefault(conversation.hex(), []).append(row)
        return covered, {user.hex(): size for user, size in sizes.items()}


def load_statements(reader: LogQueries) -> list[tuple[str, bytes]]:
    """Return the texts and signatures of statements about members."""
    return [(said, signature) for said, signature in reader.db.all(STATEMENTS)]


def load_hosted(reader: LogQueries) -> list[StoredUser]:
    """Return the users hosted here, in the order they came."""
    rows = reader.db.all("select id, secret, name, created_at, hosted_as from hosted order by created_at, id")
    if not all(len(id) == len(secret) == 32 and type(created_at) is int for id, secret, _, created_at, _ in rows):
        raise CorruptRow("keys of a wrong type")
    with decoding():
        return [StoredUser(id.hex(), secret, name.decode(), at, key.decode()) for id, secret, name, at, key in rows]


def load_users(reader: LogQueries, users: Sequence[UserId]) -> Stored:
    """Return what `load` returns for these users only: `delivered` for their logs, and their `reads`."""
    database = reader.db
    return Stored(
        delivered=_delivered(database, users),
        reads=_marks(database, users),
    )


def load_tokens(reader: LogQueries, user: UserId | None = None) -> list[Token]:
    """Return the tokens of a user, or (None) all, in the order they were made."""
    only, values = ("", ()) if user is None else ("where t.owner = ?", (bytes.fromhex(user),))
    rows = reader.db.all(f"{TOKENS} {only} order by t.created_at, t.hash", *values)
    return [Token(hash, owner.hex(), created_at, label) for hash, owner, created_at, label in rows]


def load_meta(reader: LogQueries) -> dict[str, str]:
    """Return the values that the core and its owner store by name."""
    rows = reader.db.all("select name, value from meta")
    found: dict[str, str] = {name: value for name, value in rows if name not in OWN_KEYS}
    if not all(type(text) is str for item in found.items() for text in item):
        raise CorruptRow("values of a wrong type")
    return found


def _check(stored: Stored) -> None:
    """Raise CorruptRow for values of a wrong type: a node must not start on what a broken disk made of them."""
    numbers = [stored.next_place, *stored.consumers.values()]
    numbers += [seq for _, seq in stored.recent]
    numbers += [mark.seq for mark in stored.delivered] + [mark.seq for mark in stored.reads]
    numbers += [user.named_c for user in stored.users] + [one.c for one in stored.former_names]
    numbers += [time for one in stored.addresses for time in (one.verified_at, one.failed)]
    numbers += [record.at for record in stored.records]
    texts = [*stored.consumers, *(one.endpoint for one in stored.addresses)]
    texts += [text for record in stored.records for text in (*record.e, record.sig)]
    texts += [text for user in stored.users for text in (user.name, user.about)]
    are_numbers = all(type(number) is int and number >= 0 for number in numbers)
    if not are_numbers or not all(type(text) is str for text in texts):
        raise CorruptRow("values of a wrong type")
    with decoding():
        for address in stored.addresses:
            split_endpoint(address.endpoint)
        for known in stored.conversations:
            bytes.fromhex("".join(known.naming.dm or ()))


def load_conversations(reader: LogQueries) -> list[StoredConversation]:
    """Return every conversation with stored entries, and its writers; this reads all logs and no entries."""
    rows = reader.db.all
    writers: dict[str, list[UserId]] = {}
    for conversation, user in rows(WRITERS):
        writers.setdefault(conversation.hex(), []).append(user.hex())
    forked: dict[str, list[LogId]] = {}
    for row in rows(FORKED_LOGS):
        forked.setdefault(row[0].hex(), []).append(log_of(*row))
    return [
        StoredConversation(known, tuple(writers.get(known.id, ())), tuple(forked.get(known.id, ())))
        for known in _conversations(reader.db)
        if known.id in writers or known.id in forked
    ]


def _conversations(database: Database) -> list[KnownConversation]:
    named = "select id, naming from conversations where naming is not null order by number"
    return [KnownConversation(id.hex(), naming_of_text(naming)) for id, naming in database.all(named)]


def _delivered(database: Database, whose: Sequence[UserId]) -> list[DeliveredMark]:
    return [DeliveredMark(log_of(*row), row[3].hex(), row[4]) for row in _of_users(database, DELIVERED, whose)]


def _marks(database: Database, whose: Sequence[UserId]) -> list[ReadMark]:
    rows = [(row, taken) for taken, one in enumerate((READS, TAKEN)) for row in _of_users(database, one, whose)]
    marks = (ReadMark(log_of(*row), row[3].hex(), row[4], row[5].hex(), bool(taken)) for row, taken in rows)
    return list(dict.fromkeys(marks))


def _of_users(database: Database, statement: str, whose: Sequence[UserId]) -> list[Any]:
    """Return the rows for all these users, some users at a time: a statement takes only so many values."""
    users = [bytes.fromhex(user) for user in whose]
    rows: list[Any] = []
    for start in range(0, len(users), USERS_AT_ONCE):
        page = users[start : start + USERS_AT_ONCE]
        text = statement.replace("{whose}", placeholders(len(page), 1))
        rows += database.all(text, *page * statement.count("{whose}"))
    return rows


def recent_logs(newest_first: Iterable[tuple[LogId, int, int, str]], settings: Settings) -> list[tuple[LogId, int]]:
    """Return log and last seq of the newest stretches; the newest is the last.

    Args:
        newest_first: (log, last seq, count, last entry) of each, of that entry at least the first 14 characters. A
            profile at the end does not count: it is the only entry of its stretch, or the one before it counts.
    """
    recent: list[tuple[LogId, int]] = []
    places = 0
    for log, last, count, entry in newest_first:
        if places >= settings.recent_places:
            break
        places += count
        is_profile = entry.startswith(PROFILE_BEGINS)
        if count > is_profile:
            recent.append((log, last - is_profile))
    return recent[::-1]
