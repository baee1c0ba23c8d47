"""The views of the database show what the history shows, in each kind of database."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from p2pchat import Message, MessageChange, Pinned, TCPPeer, Vote
from p2pchat.kinds import LISTS
from p2pchat.kinds.kind import Kind
from p2pchat.storage.database import Database
from p2pchat.storage.schema import VIEWS_KEY
from p2pchat.storage.sql_storage import SqlStorage, dialect_of
from tests.databases.servers import ROOT
from tests.deadlines import WAIT, within
from tests.docs.pages import blocks
from tests.kinds.samples import write
from tests.messaging.conftest import home as home
from tests.storage.conftest import SMALL
from tests.storage.writers import Author, released

EXAMPLES = [one.text for one in blocks((ROOT / "docs" / "queries.md").read_text("utf-8")) if one.language == "sql"]


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with closing(Database(dialect_of(url, 1.0))) as database:
        return [tuple(row) for row in database.all(query.rstrip(";"))]


async def test_views_show_people_chats_messages_and_receipts_as_the_history_does(url: str, home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada", db=url) as ada, TCPPeer(data=home / "bob", name="bob") as bob:
        await bob.connect(ada.port)
        await ada.wait_user("bob", WAIT)
        events = bob.events(Message)
        asked = await ada.broadcast("deploy now?")
        await asked.delivered(timeout=WAIT)
        async for event in events:
            event.mark_read()
            break
        await asked.read(timeout=WAIT)
        await (await bob.broadcast('not yet: "\u2603" \\u0000')).delivered(timeout=WAIT)
        first, second = await ada.send("bob", "a typo"), await ada.send("bob", "a secret")
        await ada.edit(first.id, "deploy: a text")
        last = await ada.delete(second.id)
        await last.delivered(timeout=WAIT)
        await ada.react((await ada.history(bob.me))[0].id, "+1")
        await ada.send(await ada.create_group("ops", ["bob"]), "to the group")
        history = [(one.sender.name, one.text if not one.deleted else None) for one in await ada.history()]
    async with TCPPeer(data=home / "ada", name="ada", db=url) as ada:  # receipts of an earlier run
        await ada.send("bob", "later")
        history.append(("ada", "later"))
        day = f"{(await ada.history())[-1].sent_at:%Y-%m-%d}"
    shown = rows(url, "select name, text, edited, deleted, kind from messages order by clock")
    assert [row[:2] for row in shown] == history
    assert [row[2:] for row in shown] == [
        (0, 0, "text"), (0, 0, "text"), (1, 0, "text"), (0, 1, "text"), (0, 0, "text"), (0, 0, "text"),
    ]  # fmt: skip
    assert rows(url, "select name from people order by name") == [("ada",), ("bob",)]
    chats = dict(rows(url, "select kind, name from chats"))
    assert chats.pop("direct") in ("ada, bob", "bob, ada")
    assert chats == {"room": "room", "group": None}
    newest, people, days, waiting, found = (rows(url, example) for example in EXAMPLES)
    assert [row[1:] for row in newest] == [("bob", 'not yet: "\u2603" \\u0000'), ("ada", "deploy now?")]
    assert [(name, *map(int, counts)) for name, *counts in people] == [("ada", 5, 1, 1), ("bob", 1, 0, 0)]
    assert sum(count for _, count in days) == 6 and days[-1][0] == day
    assert [text for _, text in waiting] == ["later"]
    assert found == [("room", "ada", "deploy now?", 1), ("direct", "ada", "deploy: a text", 0)]


async def test_who_polls_with_sql_gets_what_came_late_and_what_was_changed(url: str, home: Path) -> None:
    news = "select text from messages where arrival > {0} or changed > {0} order by arrival"
    newest = "select max(arrival), max(changed) from messages"
    async with TCPPeer(data=home / "ada", name="ada", db=url) as ada, TCPPeer(data=home / "bob", name="bob") as bob:
        early = await bob.broadcast("written early")
        secret = await ada.broadcast("a secret")
        await ada.broadcast("written later")
        [(seen, nothing)] = rows(url, newest)
        assert nothing is None and rows(url, news.format(seen)) == []
        await bob.connect(ada.port)
        await early.delivered(timeout=WAIT)
        assert rows(url, news.format(seen)) == [("written early",)]
        assert rows(url, "select text from messages order by clock")[0] == ("written early",)
        [(seen, _)] = rows(url, newest)
        await ada.delete(secret.id)
        assert rows(url, news.format(seen)) == [(None,)]
        [(_, seen)] = rows(url, newest)
        await ada.react(early.id, "+1")
        assert rows(url, news.format(seen)) == []
        assert [said for (said,) in rows(url, f"select said from reactions where arrival > {seen}")] == ["+1"]


async def test_votes_show_the_choice_that_counts_of_each_person_until_the_close(url: str, home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada", db=url) as ada, TCPPeer(data=home / "bob", name="bob") as bob:
        await bob.connect(ada.port)
        await ada.wait_user("bob", WAIT)
        votes = ada.events(Vote)
        asked, gone = await ada.poll("room", "lunch?", ["pizza", "soup"]), await ada.poll("room", "?", ["a", "b"])
        await gone.delivered(timeout=WAIT)
        for id, option in ((gone.id, 1), (asked.id, 1), (asked.id, 2)):
            await bob.vote(id, option)
            async with within(WAIT, "the vote"):
                while (await anext(votes)).option != option:
                    pass
        await ada.vote(asked.id, 1)
        await ada.vote(asked.id, 0)
        await ada.delete(gone.id)
        assert voted(url) == [("lunch?", "bob", 2)]
        await ada.close_poll(asked.id)
        assert voted(url) == [("lunch?", "bob", 2)]


async def test_pins_show_who_pinned_a_message_last_until_anybody_unpins_it(url: str, home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada", db=url) as ada, TCPPeer(data=home / "bob", name="bob") as bob:
        await bob.connect(ada.port)
        await ada.wait_user("bob", WAIT)
        pins = ada.events(Pinned)
        first, second = await ada.broadcast("rules"), await ada.broadcast("noise")
        await second.delivered(timeout=WAIT)
        one, two = first.id, second.id
        changes = (ada.pin, one), (ada.unpin, one), (bob.pin, one), (ada.pin, two), (bob.unpin, two)
        for change, id in changes:
            await (await change(id)).delivered(timeout=WAIT)
            async with within(WAIT, "the pin"):
                await anext(pins)
        assert pinned(url) == [("rules", "bob")]
        await ada.delete(first.id)
        assert pinned(url) == []


@pytest.mark.parametrize("kind", LISTS.values(), ids=lambda kind: kind.name)
async def test_each_kind_that_people_say_of_messages_has_a_view(kind: Kind, url: str, home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada", db=url) as ada, TCPPeer(data=home / "bob", name="bob") as bob:
        await bob.connect(ada.port)
        await ada.wait_user("bob", WAIT)
        said = ada.events(MessageChange)
        await (await bob.broadcast("before")).delivered(timeout=WAIT)
        await write(kind, bob, ada, "hi!")
        async with within(WAIT, f"the {kind.name}"):
            event = await anext(said)
        query = f"select v.name, v.said from {kind.list} v join messages m on m.message = v.message"
        assert [(name, str(value)) for name, value in rows(url, query)] == [("bob", str(event._entry.b))]


def pinned(url: str) -> list[tuple[str, str]]:
    found = rows(url, "select m.text, p.name from pins p join messages m on m.message = p.message")
    return [(text, name) for text, name in found]


def voted(url: str) -> list[tuple[str, str, int]]:
    return [(text, name, int(choice)) for text, name, choice in rows(
        url, "select m.text, v.name, v.said from votes v join messages m on m.message = v.message"
    )]  # fmt: skip


def test_an_entry_with_odd_json_neither_breaks_a_view_nor_shows_another_text(url: str) -> None:
    ada = Author("ada", 1)
    change = ada.begins("plain", "twice", "zero", "escaped", "no JSON", "NUL", "poll", "vote")
    batch, others = change.batches[0], {
        1: ('"b":"twice"', '"b":"wrong","b":"twice"'), 2: ('"b":"zero"', '"x":"\\u0000\\u0000","b":"zero"'),
        3: ('"b":"escaped"', '"b":"wrong","\\u0062":"escaped"'), 4: ('"b"', "b"), 5: ("NUL", "\\u0000"),
        6: ('"text"', '"poll"'),
    }  # fmt: skip
    for at, (text, other) in others.items():
        batch.raws[at] = batch.raws[at][0], str(batch.raws[at][1]).replace(text, other)
    batch.raws[7] = batch.raws[7][0], '{"k":"vote","at":1,"b":{"option":0}}'
    batch.entries = None
    with closing(SqlStorage(url, SMALL)) as storage:
        storage.commit([released(change, 1)])
    shown = [tuple(row) for row in rows(url, "select kind, text from messages order by clock")]
    odd = [] if url.startswith(("mysql", "mariadb")) else ["twice"]
    texts = ["plain", *odd, "zero", *(["escaped"] if odd else [])]
    assert shown == [*(("text", text) for text in texts), *2 * [("unreadable", "")], ("poll", "poll")]


def test_what_is_not_released_is_not_shown(url: str) -> None:
    ada, bob = Author("ada", 1), Author("bob", 1)
    with closing(SqlStorage(url, SMALL)) as storage:
        storage.commit([released(ada.begins("shown"), 1), bob.begins("waits")])
    assert rows(url, "select text from messages") == [("shown",)]


def test_views_are_made_once_and_anew_when_they_are_defined_differently(url: str) -> None:
    with closing(SqlStorage(url, SMALL)):
        pass
    with closing(Database(dialect_of(url, 1.0), writes=True)) as database, database.transaction():
        database.run("drop view people")
        database.run("create view people as select 1 as former")
        made = database.value("select value from meta where name = ?", VIEWS_KEY)
    with closing(SqlStorage(url, SMALL)):
        assert rows(url, "select * from people") == [(1,)]
    with closing(Database(dialect_of(url, 1.0), writes=True)) as database, database.transaction():
        database.run("update meta set value = 'another' where name = ?", VIEWS_KEY)
    with closing(SqlStorage(url, SMALL)):
        assert rows(url, "select * from people") == []
        assert rows(url, f"select value from meta where name = '{VIEWS_KEY}'") == [(made,)]
