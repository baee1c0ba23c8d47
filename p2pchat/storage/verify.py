"""Whether what is stored is what its writers signed: SQLite has no sums over its pages, but every log proves itself.

A disk that turns a bit inside a text leaves the structure of the database as it was. The chain through a log's entries
and the signatures under it notice. This reads everything, so it is done when it is asked for (`p2pchat doctor`) or when
something stumbled that should not, and never by the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from p2pchat.core.log import LogId, decode_entry, extend_chain, first_chain, head_message, verify
from p2pchat.errors import LogError
from p2pchat.storage.database import Database
from p2pchat.storage.schema import BIGINT, BYTES, NEWEST_HEAD, NUMBER, SEQS, SMALLINT, TABLES, Column

LOGS = """
select l.number, c.id, u.id, l.run, l.conversation from logs l
left join conversations c on c.number = l.conversation left join users u on u.number = l.writer order by l.number
"""
HEADS = "select id, chain, sig from heads where id > ? and id < ? order by id"
ENTRIES = "select conversation, c, body from entries where id > ? and id <= ? order by id"
STRAYS = f"""
select (select count(*) from entries) - (select coalesce(sum(h.id - l.number * {SEQS}), 0) from logs l {NEWEST_HEAD})
"""  # where every log has all that its heads say
UNPLACED = """
select count(*) from places p where p.entries < 1 or not exists (select 1 from entries where id = p.start)
or not exists (select 1 from entries where id = p.start + p.entries - 1)
"""
# What a row of the wrong kind raises.
NOT_OURS = (TypeError, ValueError, AttributeError, ArithmeticError, LogError)


def verify_logs(database: Database, most: int) -> list[str]:
    """Return what is stored and not as it was signed, a sentence a log, at most so many; [] when all of it is."""
    found: list[str] = []
    for row in database.all(LOGS):
        if len(found) >= most:
            return found
        try:
            text = _fault(database, row)
        except NOT_OURS:
            text = "has rows that cannot be read"
        if text:
            found.append(f"log {row[0]!a} {text}")
    if not found and (strays := database.value(STRAYS)):
        found.append(f"{strays} entries belong to no log")
    if unplaced := database.value(UNPLACED):
        found.append(f"{unplaced} places are of no entries")
    return found[:most]


def wrong_types(database: Database) -> Iterator[str]:
    """Yield a sentence for each table with values of a kind that nobody writes there: SQLite takes any anywhere."""
    for table in TABLES:
        wrong = " or ".join(f"typeof({column.name}) not in {_kinds(column)}" for column in table.columns)
        if count := database.value(f"select count(*) from {table.name} where {wrong}"):
            yield f"{count} rows of {table.name} hold values of another kind"


def _kinds(column: Column) -> tuple[str, str]:
    kind = "blob" if column.type == BYTES else "integer" if column.type in (NUMBER, BIGINT, SMALLINT) else "text"
    return (kind, "null" if column.nullable else kind)


def _fault(database: Database, row: Any) -> str:
    """Return what is wrong with one log, "" for nothing."""
    number, conversation, user, run, talk = row
    if conversation is None or user is None:
        return "is of nobody, or stands nowhere"
    log = LogId(conversation.hex(), user.hex(), run.hex())
    seq, chain, clock = 0, first_chain(log), -1
    for id, signed, sig in database.all(HEADS, number * SEQS, (number + 1) * SEQS):
        stretch = list(_entries(database, number * SEQS + seq, id, talk))
        clocks = [clock, *(c for c, _ in stretch)]
        if len(stretch) != id % SEQS - seq or any(one >= other for one, other in pairwise(clocks)):
            return f"lacks entries before entry {id % SEQS}, or has them elsewhere"
        clock, seq = clocks[-1], id % SEQS
        chain = extend_chain(chain, (raw for _, raw in stretch))
        if chain != signed or not verify(log.user, sig, head_message(log, seq, chain)):
            return f"holds up to entry {seq} something else than its writer signed"
    return ""


def _entries(database: Database, after: int, last: int, talk: int) -> Iterator[tuple[int, str]]:
    """Yield clock and text of the entries of one stretch that stand where they belong."""
    for conversation, c, raw in database.all(ENTRIES, after, last):
        if conversation == talk and decode_entry(raw).c == c:
            yield c, raw
