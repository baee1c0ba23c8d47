"""`ws /lines`: the event lines and commands of a terminal under --json, over a WebSocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from p2pchat.testing import mesh
from p2pchat.web import WebSettings, create_app
from tests.deadlines import until
from tests.web.chat_client import chatting, connect
from tests.web.conftest import Served, listening


class Lines:
    """One client: sends commands and waits for lines."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._refs = 0

    async def say(self, **order: Any) -> None:
        await self._socket.send(json.dumps(order))

    async def next(self, event: str, **fields: Any) -> dict[str, Any]:
        """Return the next line of this kind with these fields."""
        return await self.next_of(event, **fields)

    async def next_of(self, *events: str, **fields: Any) -> dict[str, Any]:
        """Return the next line of one of these kinds with these fields."""
        async with asyncio.timeout(60):
            while True:
                line: dict[str, Any] = json.loads(await self._socket.recv())
                if line["event"] in events and all(line.get(name) == value for name, value in fields.items()):
                    return line

    async def ask(self, **order: Any) -> list[dict[str, Any]]:
        self._refs += 1
        await self.say(**order, ref=f"q{self._refs}")
        rows: list[dict[str, Any]] = (await self.next("answer", ref=f"q{self._refs}"))["rows"]
        return rows

    async def send(self, text: str, **fields: Any) -> dict[str, Any]:
        await self.say(do="send", text=text, ref=text, **fields)
        return await self.next("sent", ref=text)


@asynccontextmanager
async def calling(served: Served, name: str, since: str = "") -> AsyncIterator[Lines]:
    """Connect as an account, which is registered first if necessary."""
    if name not in served.tokens:
        await served.register(name)
    query = f"?since={since}" if since else ""
    async with connect(f"{served.ws_url}/lines{query}", max_queue=None) as socket:
        await socket.send(json.dumps({"token": served.tokens[name]}))
        lines = Lines(socket)
        first = await lines.next("listening")
        assert (first["schema"], first["user"], first["data"]) == (1, name, "")
        yield lines


REFUSED = ("yan", "YAN", "bob", "Bob", "gate", "room", "admin", "all", "--", "::1", "", "a#b", "x" * 33)


async def test_no_client_names_files_of_the_gateways_machine(tmp_path: Path) -> None:
    """What the operator's terminal may read and write is not for accounts."""
    secret = tmp_path / "secret"
    secret.write_text("of the operator")
    async with mesh("gate") as net, listening(app := create_app(net.peers[0])) as port:
        served = Served(net.peers[0], app, port)
        async with calling(served, "zoe") as zoe:
            id = (await zoe.send("hello"))["id"]
            order: dict[str, Any]
            for order, code in (
                ({"do": "send", "text": "look", "files": [str(secret)]}, "unknown_upload"),
                ({"do": "send", "text": "look", "kept": [str(secret)]}, "usage"),
                ({"do": "get", "id": id, "path": str(tmp_path / "new")}, "usage"),
                ({"do": "get", "id": id}, "usage"),
            ):
                await zoe.say(**order, ref="no")
                assert (await zoe.next("error", ref="no"))["code"] == code
            assert [row["text"] for row in await zoe.ask(do="history")] == ["hello"]
        assert not (tmp_path / "new").exists()


async def test_another_name_is_refused_as_sign_up_refuses_it() -> None:
    """Names of accounts, of somebody elsewhere, the peer's own, and those that nobody may have."""
    async with mesh("gate", "bob") as net, listening(app := create_app(net.peers[0])) as port:
        served = Served(net.peers[0], app, port)
        await served.register("zoe", "yan")
        async with served.client("zoe") as http, calling(served, "zoe") as zoe:
            for name in REFUSED:
                refusal = (await http.post("/accounts", json={"name": name})).json()
                assert refusal["code"] in ("name_taken", "malformed")
                await zoe.say(do="nick", name=name, ref=f"to {name}")
                refused = await zoe.next("error", ref=f"to {name}")
                assert (refused["code"], refused["text"]) == (refusal["code"], refusal["text"])
            assert [row["user"] for row in await zoe.ask(do="who") if row["me"]] == ["zoe"]
            assert (await zoe.ask(do="nick", name="Zoe"))[0]["name"] == "Zoe"  # its own
        await app.state.gateway.aclose()


async def test_receipts_of_more_messages_than_the_send_queue_holds_are_sent(serve: Callable[..., Any]) -> None:
    """One read mark is an event for each message it covers; whoever wrote them is not slow."""
    served = await serve(WebSettings(outbox_frames=40))
    await served.register("ada")
    async with chatting(served, "bob") as bob, chatting(served, "ada", "?events=all") as chat:
        async with calling(served, "ada") as lines:
            ids: list[str] = []
            for number in range(60):
                ids.append(await chat.accepted(f"/dm bob {number}"))
                last = await bob.message()
            await bob.say({"type": "read", "id": last["id"]})
            assert [(await lines.next("read"))["id"] for _ in ids] == ids
            assert [(await chat.next("read"))["id"] for _ in ids] == ids


async def test_two_clients_talk_and_get_receipts(served: Served) -> None:
    async with calling(served, "zoe") as zoe, calling(served, "yan") as yan:
        sent = await zoe.send("hello room")
        heard = await yan.next("message", text="hello room")
        assert (heard["id"], heard["sender"], heard["kind"]) == (sent["id"], "zoe", "room")
        direct = await zoe.send("psst", to="yan")
        assert (await yan.next("message", id=direct["id"]))["conversation"] == "zoe"
        await zoe.next("delivered", id=direct["id"], user="yan")
        await yan.ask(do="read", id=direct["id"])
        await zoe.next("read", id=direct["id"], user="yan")
        await yan.say(do="typing", to="zoe")
        assert (await zoe.next("typing", user="yan"))["typing"]
        await zoe.ask(do="edit", id=direct["id"], text="psst!")
        assert (await yan.next("edited", id=direct["id"]))["text"] == "psst!"
        await yan.ask(do="react", id=direct["id"], reaction="+1")
        await zoe.next("reaction", id=direct["id"], by="yan", reaction="+1")
        [group] = await zoe.ask(do="group", name="ops", members=["yan"])
        await yan.next("group", change="created", conversation_id=group["conversation_id"])
        places = {row["conversation"]: row for row in await yan.ask(do="list")}
        assert {*places} == {"room", "ops", "zoe"} and places["zoe"]["user_id"] == sent["sender_id"]
        [place] = await yan.ask(do="find", to="zoe")
        assert place["conversation_id"] == places["zoe"]["conversation_id"]


async def test_a_repeated_message_is_written_once(served: Served) -> None:
    await served.register("zoe")
    async with calling(served, "zoe") as zoe:
        first = await zoe.send("once", key="k")
    async with calling(served, "zoe") as zoe:
        again = await zoe.send("once", key="k")
        other = await zoe.send("another", key="l")
        assert again["id"] == first["id"] != other["id"]
        [row] = await zoe.ask(do="history", to="room", before=other["id"])
        assert row["id"] == first["id"]
        await zoe.say(do="send", to="room", text="something else", key="k", ref="r")
        assert (await zoe.next("error", ref="r"))["code"] == "key_reused"
        assert [row["text"] for row in await zoe.ask(do="history", to="room")] == ["once", "another"]


async def test_refs_of_one_connection_are_not_shown_to_another(served: Served) -> None:
    async with calling(served, "zoe") as here, calling(served, "zoe") as there:
        await here.send("7")
        assert (await there.next("sent", text="7"))["ref"] is None
        rows = [await one.ask(do="history") for one in (here, there)]
        assert [row["ref"] for [row] in rows] == ["7", None]
        async with served.client("zoe") as http:
            [row] = (await http.post("/v1/do", json={"do": "history"})).json()["rows"]
        assert row["ref"] is None


@pytest.mark.parametrize(
    ("order", "code"),
    [
        ('{"do":"quit","ref":"q"}', "usage"),
        ('{"do":"connect","endpoint":"localhost:1","ref":"q"}', "usage"),
        ('{"do":"send","text":"hi","to":"nobody","ref":"q"}', "unknown_name"),
        ('{"do":"send","text":"hi","claimed_at":"now","ref":"q"}', "usage"),
        ('{"do":"find","to":"nobody","ref":"q"}', "unknown_name"),
    ],
)
async def test_an_error_is_reported_and_the_session_goes_on(served: Served, order: str, code: str) -> None:
    async with calling(served, "zoe") as zoe:
        await zoe._socket.send(order)
        assert (await zoe.next("error", ref="q"))["code"] == code
        await zoe.send("still here")


async def test_unread_counts_include_reads_on_other_connections(served: Served) -> None:
    await served.register("zoe", "yan")
    async with calling(served, "zoe") as zoe:
        for text in ("one", "two", "yan, three"):
            last = await zoe.send(text, to="yan")
        async with calling(served, "yan") as yan:
            [row] = [row for row in await yan.ask(do="list") if row["conversation"] == "zoe"]
            assert (row["unread"], row["mentions"]) == (3, 1)
            await yan.ask(do="read", id=last["id"])
            await zoe.next("read", id=last["id"])
        async with calling(served, "yan") as yan:
            assert {row["unread"] for row in await yan.ask(do="list")} == {0}


async def test_a_user_who_is_away_stays_away_with_other_windows_open(served: Served) -> None:
    async with calling(served, "yan") as yan, calling(served, "zoe") as zoe, calling(served, "zoe"):
        await yan.next("presence", user="zoe", status="online")
        await zoe.ask(do="away", text="lunch")
        await yan.next("presence", user="zoe", status="idle", text="lunch")
        await zoe.ask(do="active", on=True)
        await zoe.ask(do="back")
        await yan.next("presence", user="zoe", status="online", text="")
    async with calling(served, "yan") as yan, calling(served, "zoe") as zoe:
        await yan.next("presence", user="zoe", status="online")
        await zoe.ask(do="active", on=False)
        await yan.next("presence", user="zoe", status="idle")


async def test_latest_is_the_newest_message_of_each_conversation(served: Served) -> None:
    async with calling(served, "zoe") as zoe, calling(served, "yan") as yan:
        for text, to in (("one", "room"), ("two", "yan"), ("three", "room"), ("four", "yan")):
            sent = await zoe.send(text, to=to)
        await yan.next("message", id=sent["id"])
        rows = await yan.ask(do="latest")
        assert [(row["event"], row["kind"], row["text"]) for row in rows] == [
            ("message", "dm", "four"), ("message", "room", "three"),
        ]  # fmt: skip
        assert [row["event"] for row in await zoe.ask(do="latest")] == ["sent", "sent"]


async def test_unread_is_the_first_unread_message_of_a_conversation(served: Served) -> None:
    async with calling(served, "zoe") as zoe, calling(served, "yan") as yan:
        account = served.account("zoe")
        sent = [(await account.user.send("yan", str(number))).id for number in range(103)]  # `list` counts 100
        await yan.next("message", id=sent[-1])
        [first] = await yan.ask(do="unread", to="zoe")
        assert (first["event"], first["id"], first["unread"]) == ("message", sent[0], 103)
        await yan.ask(do="read", id=sent[100])
        [first] = await yan.ask(do="unread", to="zoe")
        assert (first["text"], first["unread"]) == ("101", 2)
        await zoe.ask(do="delete", id=first["id"])
        await yan.next("deleted", id=first["id"])
        [first] = await yan.ask(do="unread", to="zoe")
        assert (first["text"], first["unread"]) == ("102", 1)
        await yan.ask(do="read", id=sent[-1])
        assert await yan.ask(do="unread", to="zoe") == [] == await zoe.ask(do="unread", to="yan")


async def test_an_answer_ends_where_its_texts_are_too_long(serve: Callable[..., Any]) -> None:
    """One account with 16 connections took 1.3 GiB of the gateway, and kept its loop busy for 25 s."""
    served = await serve(WebSettings(max_answer_bytes=100))
    async with calling(served, "zoe") as zoe:
        ids = [(await zoe.send(f"line {n} " + "x" * 33))["id"] for n in range(5)]
        for asked in ({"do": "history"}, {"do": "search", "words": "line"}):
            assert [row["id"] for row in await zoe.ask(**asked, limit=10_000)] == ids[-2:]
        assert [row["id"] for row in await zoe.ask(do="history", after=ids[0], limit=3)] == ids[1:3]
        long = await zoe.send("y" * 200)
        assert [row["id"] for row in await zoe.ask(do="history")] == [long["id"]]


async def test_a_session_that_catches_up_takes_one_of_the_answers_of_its_account(serve: Callable[..., Any]) -> None:
    """Before: 32 sessions at once read pages of long texts, some 13 MiB each."""
    served = await serve(WebSettings(max_answers_of_account=1))
    await served.register("zoe")
    async with chatting(served, "bob") as bob:
        first = await bob.accepted("before")
        await bob.accepted("meanwhile")
    key = served.gateway.accounts.find("zoe").key
    async with served.gateway.answers.hold(key):
        connecting = asyncio.create_task(_hear_first(served, first))
        await until(lambda: served.gateway.answers._held[key].waiting, "the second caller to wait")
        assert served.gateway.hub.count == 1 and not connecting.done()
    assert await connecting == "meanwhile"


async def _hear_first(served: Served, since: str) -> str:
    async with calling(served, "zoe", since) as zoe:
        text: str = (await zoe.next("message"))["text"]
        return text


async def test_the_newest_and_the_unread_of_conversations_end_where_their_texts_are_long(
    serve: Callable[..., Any],
) -> None:
    served = await serve(WebSettings(max_answer_bytes=1000))
    await served.register("zoe")
    for name in ("ada", "bob", "cyd"):
        async with chatting(served, name) as writer:
            for _ in range(4):
                await writer.accepted({"to": "zoe", "text": "x" * 600})
    async with calling(served, "zoe") as zoe:
        assert len(await zoe.ask(do="latest")) == 2
        [row] = await zoe.ask(do="unread", to="ada")
        assert row["unread"] == 4  # it counts what it does not send
        assert [row["unread"] for row in await zoe.ask(do="list") if row["kind"] == "dm"] == [2, 2, 2]
