"""Views for people who query the database with SQL: messages, people, chats, receipts, and what is said of messages.

They store nothing, and p2pchat never reads them. They are made when a peer opens the database for writing, and anew
when a version of p2pchat defines them differently: `meta` says which definition is there. A
user without the right to make views has none, and misses nothing else.

A text stands in the JSON of its entry, which the functions of the database decode; what cannot be read is listed in a
table of its own (`unreadable`). In an entry that writes a key twice
or with escapes the last one counts (docs/protocol-entries.md, "The text"). MariaDB takes the first one, so there such
an entry is left out. No program of ours writes any, but a member can.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import astuple
from hashlib import blake2b

from p2pchat.core.log import UNREADABLE
from p2pchat.core.receipts.delivery_receipts import LEFT_OUT
from p2pchat.kinds import HIDDEN_KINDS, LISTS, MESSAGE_KINDS
from p2pchat.kinds.deletion import DELETION
from p2pchat.kinds.edit import EDIT
from p2pchat.kinds.kind import Kind
from p2pchat.protocol import MAX_INT, REF_USER_BYTES
from p2pchat.storage.database import Database
from p2pchat.storage.dialects.dialect import ViewFunctions
from p2pchat.storage.schema import FORKED, SEQ_BITS, SEQS, VIEWS_KEY, meta

USERS_AT = (10, 78)  # where the ids of two users begin in the text of a direct conversation (naming_to_text)
RUN_AT = len(LEFT_OUT) + 64 + 1 + 64 + 1 + 1  # where the run begins in a name in meta: conversation, user, run


def definitions(functions: ViewFunctions) -> dict[str, str]:
    """Return the query of each view, by its name."""
    hex, time, member, is_text, joined = (text.format for text in astuple(functions))
    hidden, known = (", ".join(f"'{kind}'" for kind in sorted(those)) for those in (HIDDEN_KINDS, MESSAGE_KINDS))
    said = f"""case when exists (select 1 from unreadable y where y.id = e.id) then '{{"k":"{UNREADABLE}","b":""}}'
        else e.body end"""
    kind, newest = member(said, "k"), member("r.body", "k")
    text = f"""case when {newest} = '{DELETION.name}' then null
        when r.id is null then {member(said, "b")} else {member("r.body", "b")} end"""
    is_message = f"({kind} in ({known}) or ({kind} not in ({hidden}) and {is_text(said, 'b')}))"
    released = "e.place is not null"
    visible = f"(s.log is null or e.id & {SEQS - 1} <= s.upto)"
    shown = f"""entries e
        join logs l on l.number = e.id >> {SEQ_BITS}
        left join seen s on s.log = l.number"""
    # A mark on a log covers those it builds on: a log that builds on everything before it, which is the rule, covers
    # all earlier ones. Where somebody is left out of a log, only marks on that log itself count.
    marks = """select l.number as log, m.{who} as person, {seq} as seq
        from logs l
        join logs n on n.conversation = l.conversation and n.writer = l.writer
        join {table} m on m.log = n.number and m.seq > 0
        where n.number = l.number or (n.number > l.number and n.whole = 1 and l.state < {forked}
        and not exists (select 1 from meta x where x.name like '{left_out}%' and substr(x.name, {at}, 16) = {run}))"""
    seq = f"case when n.number = l.number then m.seq else {SEQS} end"
    every = {"seq": seq, "forked": FORKED, "left_out": LEFT_OUT, "at": RUN_AT, "run": hex("l.run")}
    delivered = marks.format(who="member", table="heard", **every)
    read = marks.format(who="reader", table="read_marks", **every)

    def receipts(status: str, of: str) -> str:
        return f"""select distinct e.id as message, m.person as person, u.name as name, '{status}' as status
        from {shown}
        join ({of}) m on m.log = l.number and e.id & {SEQS - 1} <= m.seq
        left join users u on u.number = m.person
        where {is_message} and {released} and {visible}"""

    def about(name: str, aspect: str) -> str:
        return f"""{name}.conversation = p.chat and {name}.run = l.run and {name}.seq = p.message & {SEQS - 1}
        and {name}.writer = substr(u.id, 1, {REF_USER_BYTES}) and {name}.aspect = '{aspect}'"""

    def said_of(kind: Kind) -> str:
        value, counts = member("e.body", "b"), f"(t.log is null or {{0}}.id & {SEQS - 1} <= t.upto)".format
        whose = "" if kind.shared else "and n.author = m.author"
        on = f"and p.kind = '{kind.on}'" if kind.on else ""
        end = f"""and n.c < coalesce((select min(c.c) from changes c left join seen t on t.log = c.id >> {SEQ_BITS}
        where {about("c", kind.until)} and c.author = p.person and {counts("c")}), {MAX_INT + 1})"""
        return f"""select p.message as message, m.author as person, w.name as name, {value} as said,
        e.place as arrival from messages p
        join logs l on l.number = p.message >> {SEQ_BITS}
        join users u on u.number = p.person
        join changes m on {about("m", kind.aspect)}
        join users w on w.number = m.author
        join entries e on e.id = m.id
        where p.deleted = 0 {on} and {value} not like '{0 if kind.body == "number" else ""}'
        and m.id = (select n.id from changes n
        join logs v on v.number = n.id >> {SEQ_BITS}
        join users x on x.number = n.author
        left join seen t on t.log = v.number
        where {about("n", kind.aspect)} and {counts("n")} {whose} {end if kind.until else ""}
        order by n.c desc, x.id desc, v.run desc, n.id desc limit 1)"""

    one, other = (f"substr(c.naming, {at}, 64)" for at in USERS_AT)
    return {
        "people": f"select number as person, {hex('id')} as id, name, about from users",
        "chats": f"""select c.number as chat, {hex("c.id")} as id,
        case when c.naming like '{{"room"%' then 'room' when c.naming like '{{"dm"%' then 'direct'
        else 'group' end as kind,
        case when c.naming like '{{"room"%' then 'room' when c.naming like '{{"dm"%' then
        {joined(f"coalesce(a.name, {one})", f"coalesce(b.name, {other})")} end as name
        from conversations c
        left join users a on c.naming like '{{"dm"%' and {hex("a.id")} = {one}
        left join users b on c.naming like '{{"dm"%' and {hex("b.id")} = {other}
        where c.naming is not null and c.naming not like '{{"group"%'""",
        "messages": f"""select e.id as message, l.conversation as chat, l.writer as person, u.name as name,
        {time(member(said, "at"))} as sent_at, {kind} as kind, {text} as text,
        case when {newest} = '{EDIT.name}' then 1 else 0 end as edited,
        case when {newest} = '{DELETION.name}' then 1 else 0 end as deleted, e.c as clock,
        e.place as arrival, r.place as changed
        from {shown}
        join users u on u.number = l.writer
        left join entries r on r.id = (select m.id from changes m join logs v on v.number = m.id >> {SEQ_BITS}
        left join seen t on t.log = v.number
        where m.conversation = l.conversation and m.run = l.run and m.seq = e.id & {SEQS - 1}
        and m.writer = substr(u.id, 1, {REF_USER_BYTES}) and m.author = l.writer and m.aspect = '{EDIT.aspect}'
        and (t.log is null or m.id & {SEQS - 1} <= t.upto)
        order by m.c desc, v.run desc, m.id desc limit 1)
        where {is_message} and {released} and {visible}""",
        "receipts": f"{receipts('delivered', delivered)} union all {receipts('read', read)}",
        **{name: said_of(kind) for name, kind in LISTS.items()},
    }


def make_views(database: Database) -> None:
    """Make the views of this version, unless they are there. A database that refuses them stays as it was."""
    queries = definitions(database.dialect.functions)
    wanted = blake2b(repr(queries).encode(), digest_size=8).hexdigest()
    if database.value("select value from meta where name = ?", VIEWS_KEY) == wanted:
        return
    with suppress(*database.dialect.errors), database.transaction():
        for name in reversed(queries):  # what is said is of messages
            database.run(f"drop view if exists {name}")
        for name, query in queries.items():
            database.run(f"create view {name} as {query}")
        database.run("delete from meta where name = ?", VIEWS_KEY)
        database.insert(meta, (VIEWS_KEY, wanted))
