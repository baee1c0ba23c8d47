"""Who comes back, or polls: what came late, and what became of earlier messages, at every interface by one cursor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from p2pchat.kinds import CHANGE_EVENTS
from p2pchat.kinds.kind import Kind
from p2pchat.testing import Mesh, mesh
from p2pchat.web import create_app
from tests.kinds.samples import write as say
from tests.web.chat_client import chatting
from tests.web.conftest import Served, listening
from tests.web.socketio_client import talking
from tests.web.test_event_socket import calling
from tests.web.test_event_stream import streaming


class Scene:
    """A gateway with zoe and bob, and a peer of cyd.

    Attributes:
        ids: Messages of bob, by their texts, which zoe has.
        last: The last of them.
    """

    def __init__(self, net: Mesh, served: Served) -> None:
        self.net, self.served = net, served
        self.ids: dict[str, str] = {}

    @property
    def last(self) -> str:
        return [*self.ids.values()][-1]

    async def begin(self) -> None:
        await self.served.register("zoe", "bob")
        bob = self.served.account("bob").user
        self.ids["lunch?"] = (await bob.poll("room", "lunch?", ["pizza", "soup"])).id
        for text in ("a password", "a tpyo", "hello"):
            self.ids[text] = (await bob.broadcast(text)).id
        await self.net.settle()

    async def write_late(self) -> str:
        """Have cyd write, whom nobody hears, then bob, and then cyd be heard; return what bob wrote."""
        gate, cyd = self.net.peers
        self.net.partition([gate], [cyd])
        await cyd.broadcast("written early")
        await self.served.account("bob").user.broadcast("meanwhile")
        await self.net.settle()
        [meanwhile] = await self.served.account("zoe").user.history("room", limit=1)
        self.net.heal()
        await self.net.settle()
        return meanwhile.id

    async def change(self) -> None:
        """Have bob change what zoe has."""
        bob, ids = self.served.account("bob").user, self.ids
        await bob.delete(ids["a password"])
        await bob.edit(ids["a tpyo"], "a typo")
        await bob.react(ids["hello"], "+1")
        await bob.pin(ids["hello"])
        await bob.vote(ids["lunch?"], 2)
        await self.net.settle()

    async def do_more(self) -> None:
        await self.served.account("bob").user.broadcast("and on")


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with mesh("gate", "cyd") as net, listening(app := create_app(net.peers[0])) as port:
        scene = Scene(net, Served(net.peers[0], app, port))
        await scene.begin()
        yield scene
        await app.state.gateway.aclose()


async def test_who_polls_gets_what_came_late_and_each_message_once(scene: Scene) -> None:
    """The position is that of arrival: what was written before it comes after it."""
    meanwhile = await scene.write_late()
    async with scene.served.client("zoe") as http, calling(scene.served, "zoe") as lines:
        for where in ({}, {"conversation": "room"}):
            page = await http.get("/messages", params={"after": meanwhile, **where})
            assert [one["content"] for one in page.json()] == ["written early"]
        assert [row["text"] for row in await lines.ask(do="history", after=meanwhile)] == ["written early"]
        first = await http.get("/messages", params={"after": scene.last, "limit": 1})
        assert [one["content"] for one in first.json()] == ["meanwhile"]
        rest = await http.get("/messages" + first.headers["Link"].partition("<")[2].partition(">")[0])
        assert [one["content"] for one in rest.json()] == ["written early"] and "Link" not in rest.headers
        between = await http.get("/messages", params={"after": scene.last, "before": meanwhile})
        assert [one["content"] for one in between.json()] == ["written early"]  # a part of the history has its order
        gone = await http.get("/messages", params={"after": rest.json()[-1]["id"]})
        assert gone.json() == []


async def test_who_polls_for_changes_gets_each_message_as_it_is_now(scene: Scene) -> None:
    await scene.change()
    texts = {"": {"deleted": True}, "a typo": {"edited": True}, "hello": {}, "lunch?": {}}
    async with scene.served.client("zoe") as http, calling(scene.served, "zoe") as lines:
        assert (await http.get("/messages", params={"after": scene.last})).json() == []
        rows = (await http.get("/messages", params={"after": scene.last, "changes": True})).json()
        assert [row["content"] for row in rows] == [*texts] and {row["id"] for row in rows} == {*scene.ids.values()}
        assert all(row.items() >= texts[row["content"]].items() for row in rows)
        assert len(rows[2]["reactions"]) == len(rows[2]["pins"]) == len(rows[3]["votes"]) == 1
        same = await lines.ask(do="history", after=scene.last, changes=True)
        assert [(row["text"], row["changed_id"]) for row in same] == [(r["content"], r["changed_id"]) for r in rows]
        for position, left in ((rows[0]["changed_id"], 3), (rows[-1]["changed_id"], 0)):
            for page in (
                (await http.get("/messages", params={"after": position, "changes": True})).json(),
                await lines.ask(do="history", after=position, changes=True),
            ):
                assert [row["changed_id"] for row in page] == [row["changed_id"] for row in rows[4 - left :]]


@pytest.mark.parametrize("kind", CHANGE_EVENTS.values(), ids=lambda kind: kind.name)
async def test_each_change_comes_to_whoever_comes_back_as_it_comes_live(scene: Scene, kind: Kind) -> None:
    """At each interface, once, with the position behind which a client continues."""
    served = scene.served
    bob: Any = served.account("bob").user
    async with (
        chatting(served, "zoe", "?events=changes") as chat, calling(served, "zoe") as lines,
        streaming(served, "zoe", "?events=changes") as stream, talking(served, "zoe") as io,
    ):  # fmt: skip
        await say(kind, bob, bob, "+1")
        live = [await chat.next(kind.event), await lines.next(kind.event), await stream.next(kind.event)]
        heard = await io.hear("messageChange")
    after = live[0]["entry_id"]
    assert stream.last_id == after == live[1]["entry_id"] == heard["entryId"]
    await scene.do_more()
    for since, comes in ((scene.last, True), (after, False)):
        query = f"?since={since}"
        async with chatting(served, "zoe", f"{query}&events=changes") as chat:
            assert (await chat.next("resumed"))["count"] == comes + 1
            assert chat.waiting(kind.event) == live[:1] * comes
        async with chatting(served, "zoe", query) as chat:
            assert (await chat.next("resumed"))["count"] == 1
        async with calling(served, "zoe", since) as lines:
            line = await lines.next_of(kind.event, "message")
            assert (line == live[1]) is comes
        async with streaming(served, "zoe", "?events=changes", Last_Event_ID=since) as stream:
            event = await stream.next()
            assert (event == live[2]) is comes
        async with talking(served, "zoe", since=since) as io:
            await io.hear("newMessage", lambda message: message["content"] == "and on")
            assert io.said("messageChange") == [heard] * comes


async def test_a_client_without_a_message_continues_behind_what_was_shown_last(scene: Scene) -> None:
    """Not behind the newest by its clock, which may have come before others."""
    meanwhile = await scene.write_late()
    async with chatting(scene.served, "zoe", "?since=") as chat:
        last = (await chat.next("resumed"))["last"]
    assert last != meanwhile and (await scene.served.account("zoe").user.message(last)).text == "written early"
    await scene.change()
    async with scene.served.client("zoe") as http, chatting(scene.served, "zoe", "?since=") as chat:
        changed = (await http.get("/messages", params={"after": last, "changes": True})).json()
        assert (await chat.next("resumed"))["last"] == changed[-1]["changed_id"]
    await scene.served.register("new")
    assert await scene.served.account("new").user.last_released() is not None
