"""Parts of statements that one kind of database must be told in other words: it knows them by their text."""

from __future__ import annotations

from p2pchat.storage.schema import SEQ_BITS, SEQS

# All that follows is looked up for what stands before: SQLite keeps this order, MySQL has a word for it.
THEN_ENTRIES = "cross join entries e"
THEN_ENTRIES_STRAIGHT = "straight_join entries e"

# The newest head of log `l` is row `h`, or nothing is.
NEWEST_HEAD = f"""
left join heads h on h.id = (select max(id) from heads where id > l.number * {SEQS} and id < (l.number + 1) * {SEQS})
"""
NEWEST_HEAD_GROUPED = f"""
left join (select id >> {SEQ_BITS} as log, max(id) as id from heads group by id >> {SEQ_BITS}) n on n.log = l.number
left join heads h on h.id = n.id
"""  # for MySQL, which would look through all heads for each log
