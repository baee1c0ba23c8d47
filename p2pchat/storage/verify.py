"""Verification of everything stored: chains and signatures, and how many faults are told.

A disk that flips a bit inside a text leaves the structure of the database intact, and SQLite has no checksums over its
pages. The chain through the entries of a log, and the signatures of its heads, detect it. This reads everything, so it
runs only on demand (`p2pchat doctor`), or after an error that a damaged row may have caused.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from p2pchat.core.log import extend_chain, first_chain, head_message, verify
from p2pchat.errors import LogError
from p2pchat.storage.database import Database
from p2pchat.storage.log_queries import stored_raws
from p2pchat.storage.schema import NEWEST_HEAD, SEQS, UNDECODABLE, header_of, log_of

LOGS = """
select l.number, c.id, u.id, l.run, l.conversation, l.builds_on, l.certificate from logs l
left join conversations c on c.number = l.conversation left join users u on u.number = l.writer order by l.number
"""
HEADS = "select id, chain, sig from heads where id > ? and id < ? order by id"
ELSEWHERE = "select 1 from entries where id > ? and id <= ? and conversation <> ? limit 1"
STRAYS = f"""
select (select count(*) from entries) + (select count(*) from gone)
- (select coalesce(sum(h.id - l.number * {SEQS}), 0) from logs l {NEWEST_HEAD})
"""  # 0 if every log has all entries its heads cover
UNPLACED = """
select count(*) from entries e where e.place is not null and not exists (
    select 1 from places p where p.first_place = (select max(first_place) from places where first_place <= e.place)
    and p.start + e.place - p.first_place = e.id and e.id < p.start + p.entries
)
"""
MAX_FAULTS = 10  # told of a damaged database: one bad page causes thousands


def verify_logs(database: Database, most: int = MAX_FAULTS) -> list[str]:
    """Return what is not stored as it was signed: a sentence for each log, at most `most`; [] if everything is."""
    found: list[str] = []
    for row in database.all(LOGS):
        if len(found) >= most:
            return found
        try:
            text = _fault(database, row)
        except (LogError, *UNDECODABLE):
            text = "has rows that cannot be read"
        if text:
            found.append(f"log {row[0]!r} {text}")
    if not found and (strays := database.value(STRAYS)):
        found.append(f"{strays} entries belong to no log")
    if unplaced := database.value(UNPLACED):
        found.append(f"{unplaced} entries are not where their places say")
    return found[:most]


def _fault(database: Database, row: Any) -> str:
    """Return what is wrong with one log; "" for nothing."""
    number, conversation, user, run, conversation_number, *header = row
    if conversation is None or user is None:
        return "has no writer or no conversation"
    log = log_of(conversation, user, run)
    clock, chain, seq = -1, first_chain(header_of(log, *header)), 0
    for id, signed, sig in database.all(HEADS, number * SEQS, (number + 1) * SEQS):
        stretch = stored_raws(database, [(number * SEQS + seq, id)])
        clocks = [clock, *(c for c, _ in stretch)]
        is_whole = len(stretch) == id % SEQS - seq and not any(one >= other for one, other in pairwise(clocks))
        if not is_whole or database.first(ELSEWHERE, number * SEQS + seq, id, conversation_number):
            return f"lacks entries before entry {id % SEQS}, or has them elsewhere"
        clock, seq = clocks[-1], id % SEQS
        chain = extend_chain(chain, stretch)
        if chain != signed or not verify(log.user, sig, head_message(log, seq, chain)):
            return f"is not what its writer signed (entries up to {seq})"
    return ""
