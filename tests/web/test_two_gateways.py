"""An account with sessions at two gateways: what `since` means at each, and a client that moves between them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from p2pchat import HostedUser, Link, Receipt
from p2pchat.core.names import base32
from p2pchat.web import catch_up
from p2pchat.web.accounts import DELIVERY_CONSUMER, Account
from p2pchat.web.catch_up import CatchUp, PeerSeparations, name_of
from tests.web.chat_client import WITHIN, chatting, connect, opened
from tests.web.conftest import Served, serving
from tests.web.socketio_client import socket
from tests.web.test_event_stream import streaming


class Gateways(NamedTuple):
    """Two linked gateways that both host zoe; bob has an account at the west one."""

    east: Served
    west: Served

    @property
    def zoe(self) -> HostedUser:
        """The user at the east gateway."""
        return self.east.account("zoe").user

    async def write(self, *texts: str) -> list[str]:
        """Write to the room as bob; return the ids once both gateways have them."""
        bob = self.west.account("bob")
        ids = [(await bob.user.broadcast(text)).id for text in texts]
        async with asyncio.timeout(WITHIN):
            while [post.id for post in await self.zoe.history("room", limit=len(texts))] != ids:
                pass  # poll: a receipt may be that of zoe at the gateway where they were written
        return ids

    def mark(self, served: Served, id: str) -> str:
        return f"{id}@{served.gateway.mark}"


@asynccontextmanager
async def two_gateways() -> AsyncIterator[Gateways]:
    async with serving(name="east") as east, serving(None, east.peer.port, name="west") as west:
        await east.register("zoe")
        [hosted] = east.peer.hosted
        tokens = (await east.peer.hosting.tokens())[hosted.key]
        await west.peer.hosting.host("zoe", secret=hosted.secret, tokens=tokens)
        west.tokens["zoe"] = east.tokens["zoe"]
        await west.register("bob")
        both = Gateways(east, west)
        for served in both:
            account = served.account("zoe")
            while not served.gateway.is_shared(account):
                await asyncio.sleep(0)  # poll: no event says that another gateway hosts the user, too
        yield both


@pytest.fixture
async def both() -> AsyncIterator[Gateways]:
    async with two_gateways() as both:
        yield both


async def heard(served: Served, since: str, count: int) -> list[str]:
    """Return what zoe gets with this `since`: so many messages, all before `resumed`."""
    async with chatting(served, "zoe", f"?since={since}") as zoe:
        assert (await zoe.next("resumed"))["count"] == count
        return [frame["content"] for frame in zoe.waiting("message")]


async def test_since_is_exact_where_the_message_came_from_and_repeats_elsewhere(both: Gateways) -> None:
    """The client of the east gateway may lack what the west one showed before the message it names."""
    east, west = both
    _, second, _ = await both.write("one", "two", "three")
    for served in both:
        assert await heard(served, both.mark(served, second), 1) == ["three"]
    assert await heard(west, both.mark(east, second), 3) == ["one", "two", "three"]
    assert await heard(west, second, 3) == ["one", "two", "three"], "it may come from anywhere"


async def test_what_was_shown_long_before_is_not_repeated(both: Gateways, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catch_up, "REPEATED", catch_up.REPEATED * 0)
    _, second, _ = await both.write("one", "two", "three")
    assert await heard(both.west, second, 2) == ["two", "three"]


async def test_sessions_that_move_together_get_the_room_and_their_own_messages_in_one_order(
    both: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is written meanwhile, and a change is not missed."""
    monkeypatch.setattr(catch_up, "PAGE", 2)
    west = both.west
    await west.register("cyd")
    zoe, cyd, bob = (west.account(name) for name in ("zoe", "cyd", "bob"))
    for number in range(24):
        to = {3: zoe, 7: cyd, 8: zoe, 21: zoe}.get(number)
        text = f"{'all' if to is None else to.name} {number}"
        await (bob.user.broadcast(text) if to is None else bob.user.send(to.name, text))
    last = (await zoe.user.broadcast("mine")).id

    async def missed(name: str) -> list[str]:
        async with chatting(west, name, f"?since={last}@elsewhere") as client:
            count = (await client.next("resumed"))["count"]
            return [frame["content"] for frame in client.waiting("message")][:count]

    async def shown(account: Account) -> list[str]:
        long_ago = datetime.fromtimestamp(0, UTC)
        return [post.text for post in await account.user.released(long_ago)]

    assert await asyncio.gather(*map(missed, ("zoe", "cyd", "zoe"))) == [
        await shown(zoe),
        await shown(cyd),
        await shown(zoe),
    ]
    assert (await shown(zoe))[:5] == ["all 0", "all 1", "all 2", "zoe 3", "all 4"] and len(await shown(cyd)) == 22
    await (await bob.user.history("room", limit=4))[0].edit("right one")
    assert "right one" in await shown(zoe) and await missed("zoe") == await shown(zoe)
    going_on = asyncio.create_task(both.write(*(f"all late {number}" for number in range(9))))
    async with chatting(west, "cyd", f"?since={last}@elsewhere") as client:
        await going_on
        assert [(await client.message())["content"] for _ in range(31)] == await shown(cyd)
        assert not client.waiting("message")


async def test_what_was_deleted_while_a_session_catches_up_is_not_sent(
    both: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "PAGE", 2)
    gateway, zoe, bob = both.west.gateway, *(both.west.account(name) for name in ("zoe", "bob"))
    for number in range(6):
        await bob.user.broadcast(str(number))
    (last,), sent, deletions = await bob.user.history("room", limit=1), list[str](), list[Receipt]()

    async def drained() -> None:
        if not deletions:
            deletions.append(await last.delete())
            while (await zoe.user.message(last.id)).text:
                await asyncio.sleep(0)  # poll: it is durable, and shown in a moment

    missed = CatchUp(
        zoe.user, lambda post: sent.append(post.message.text), drained, gateway.mark, True, gateway.separations
    )
    await missed.after(datetime.now(UTC) - catch_up.REPEATED)
    assert sent == ["0", "1", "2", "3", "4", ""] and missed.is_live


async def test_a_client_that_moves_to_another_gateway_gets_what_became_of_messages(both: Gateways) -> None:
    """By a position that the other gateway gave it, of a message or of a change."""
    secret, typo, last = await both.write("a secret", "a typo", "the last")
    async with chatting(both.west, "zoe", f"?since={last}&events=changes") as zoe:
        await zoe.next("resumed")
        await both.west.account("bob").user.edit(typo, "a text")
        edited = await zoe.next("edited")
        mark = f"@{both.west.gateway.mark}"
    await both.west.account("bob").user.delete(secret)
    for since in (last, edited["entry_id"]):
        async with chatting(both.east, "zoe", f"?since={since}{mark}&events=changes") as zoe:
            assert (await zoe.next("deleted"))["id"] == secret
        async with chatting(both.west, "zoe", f"?since={since}{mark}&events=changes") as zoe:
            assert (await zoe.next("resumed"))["count"] == (2 if since == last else 1)


async def test_a_message_that_waited_is_not_sent_again_with_what_came_meanwhile(both: Gateways) -> None:
    gateway, zoe, bob = both.west.gateway, *(both.west.account(name) for name in ("zoe", "bob"))
    sent = list[str]()

    async def drained() -> None:
        pass

    missed = CatchUp(
        zoe.user, lambda post: sent.append(post.message.text), drained, gateway.mark, True, gateway.separations
    )
    await bob.user.broadcast("first live")
    (first,) = await zoe.user.history("room", limit=1)
    assert not missed.accepts(first)
    await bob.user.send("zoe", "waits")
    await bob.user.broadcast("last")
    await zoe.user.message((await bob.user.history("room", limit=1))[0].id)
    await missed.waiting(first.place - 1)
    assert sent == ["first live", "waits", "last"]


async def test_a_user_of_one_gateway_is_told_nothing_of_others(served: Served) -> None:
    async with chatting(served, "ada", "?since=") as ada:
        assert (await ada.next("resumed")).keys() == {"type", "user", "count"}
        id = await ada.accepted("hello")
    async with chatting(served, "ada", f"?since={id}") as ada:
        assert (await ada.next("resumed"))["count"] == 0


async def test_every_interface_says_which_gateway_it_is(both: Gateways) -> None:
    [last] = await both.write("one")
    mark = both.west.gateway.mark
    async with chatting(both.west, "zoe", f"?since={last}") as zoe:
        resumed = await zoe.next("resumed")
        assert resumed["gateway"] == mark and resumed["from"] < (await zoe.message())["timestamp"]
    async with connect(f"{both.west.ws_url}/lines?since={last}") as lines:
        await lines.send(json.dumps({"token": both.west.tokens["zoe"]}))
        assert json.loads(await lines.recv())["gateway"] == mark
    async with streaming(both.west, "zoe", Last_Event_ID=last) as events:
        await events.next("message")
        assert events.last_id == f"{last}@{mark}"
    async with socket(both.west.url) as client:
        user = {"userId": "zoe", "authToken": both.west.tokens["zoe"], "since": last}
        assert (await client.say("register", user))["gateway"] == mark
        assert (await client.hear("newMessage"))["content"] == "one"


def next_moment() -> datetime:
    """Return the time, another one than before."""
    began = datetime.now(UTC)
    while (now := datetime.now(UTC)) == began:
        pass
    return now


def link(peer: str, state: str, at: datetime) -> Link:
    return Link(peer=peer, endpoint="", state=state, reason="", at=at)


async def test_of_the_time_in_which_two_gateways_were_parted_a_client_gets_everything(served: Served) -> None:
    """A moment shortly after is no better: the comparison may take a while."""
    other, minute = "5e" * 32, timedelta(minutes=1)
    name = name_of(base32(other))
    apart = PeerSeparations(served.peer, 5 * minute)
    apart.start()
    began = apart.together_at(name, datetime.now(UTC) + minute)
    assert began <= datetime.now(UTC), "it was never linked"

    def at(minutes: int) -> datetime:
        return began + minutes * minute

    apart.on_link(link(other, "up", at(1)))
    assert [apart.together_at(name, at(n)) for n in (-9, 0, 3, 6, 30)] == [at(-9), at(0), at(0), at(6), at(30)]
    for state, when in (("down", 20), ("down", 21), ("trying", 22), ("up", 40), ("down", 43), ("up", 44), ("down", 99)):
        apart.on_link(link(other, state, at(when)))
    together = [19, 20, 20, 20, 20, 49, 98]
    assert [apart.together_at(name, at(n)) for n in (19, 20, 30, 44, 48, 49, 98)] == [at(n) for n in together]
    assert apart.together_at(name, at(1000)) == at(99)


async def test_a_client_gets_what_came_while_its_gateways_were_parted(
    both: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "REPEATED", catch_up.REPEATED * 0)
    west, east = both.west.gateway, both.east.peer.me
    await both.write("zero")
    west.separations.on_link(link(east.key, "down", next_moment()))
    next_moment()
    _, _, last = await both.write("one", "two", "three")
    for since in (last, both.mark(both.east, last)):
        assert await heard(both.west, since, 3) == ["one", "two", "three"]


async def test_a_client_gets_what_a_gateway_showed_last_before_it_stopped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It stopped before any other had that. The client was elsewhere meanwhile, and comes once it runs again."""
    monkeypatch.setattr(catch_up, "REPEATED", catch_up.REPEATED * 0)  # as if it had been away for longer
    async with serving(name="west", data=tmp_path) as west:
        bob = await west.peer.host("bob")
        await west.register("zoe")
        account = west.account("zoe")
        secret, tokens = account.user.secret, (await west.peer.hosting.tokens())[account.key]
        await bob.broadcast("the last that it showed")
    async with serving(name="east") as east:
        zoe = await east.peer.hosting.host("zoe", secret=secret, tokens=tokens)
        last = (await zoe.broadcast("the last that she has")).id
        async with serving(None, east.peer.port, name="west", data=tmp_path) as again:
            again.tokens["zoe"] = west.tokens["zoe"]
            since = f"{last}@{east.gateway.mark}"
            assert await heard(again, since, 2) == ["the last that it showed", "the last that she has"]


async def test_a_message_on_its_way_from_the_other_gateway_is_waited_for(both: Gateways) -> None:
    """The client has an own message that the other gateway accepted, and comes here before it does."""
    await both.write("one", "two")
    log, number = (await both.zoe.broadcast("mine")).id.split(".")
    coming = f"{log}.{int(number) + 1}"
    zoe = await opened(both.west, "zoe", f"?since={coming}@{both.east.gateway.mark}")
    async with zoe.socket:
        while not both.west.gateway.hub.count:
            await asyncio.sleep(0)  # poll: the session has begun
        assert (await both.zoe.broadcast("the last one I had")).id == coming
        resumed = await zoe.next("resumed")
        said = [frame["content"] for frame in zoe.waiting("message")]
        assert said == ["one", "two", "mine", "the last one I had"] and resumed["count"] == 4
        assert not zoe.waiting("error")


@pytest.mark.parametrize("log_is_here", [True, False])
async def test_a_message_that_does_not_come_is_told_with_the_moment_to_begin_with(
    both: Gateways, monkeypatch: pytest.MonkeyPatch, log_is_here: bool
) -> None:
    monkeypatch.setattr(catch_up, "ON_ITS_WAY", 0.01)
    [id] = await both.write("one")
    log = id.split(".")[0] if log_is_here else "BVMRTKYYVIBVXDV5L7KR6J7XCHUILOF7XZ4FYNYZJYSOV3UUSNUGY2XM344OGAB6"
    async with chatting(both.east, "zoe", f"?since={log}.99@{both.west.gateway.mark}") as zoe:
        error, resumed = await zoe.next("error"), await zoe.next("resumed")
        assert error["code"] == "since" and error["text"].endswith(f"shown here from {resumed['from']} on")
        assert [frame["content"] for frame in zoe.waiting("message")] == ["one"]


async def test_what_waits_for_an_account_waits_at_a_gateway_that_it_comes_to_later() -> None:
    """Also what was there before the account, written by somebody of that gateway; once taken, it comes no more."""
    async with serving(name="east") as east, serving(None, east.peer.port, name="west") as west:
        await east.register("zoe")
        async with chatting(east, "zoe"):
            zoe = await west.peer.wait_user("zoe", timeout=WITHIN)
        bob = await west.peer.host("bob")
        await bob.send(zoe, "waits")
        [hosted] = east.peer.hosted
        tokens = (await east.peer.hosting.tokens())[hosted.key]
        there = await west.peer.hosting.host("zoe", secret=hosted.secret, tokens=tokens)
        west.tokens["zoe"] = east.tokens["zoe"]
        assert there.other_hosts and await there.compared(WITHIN)
        async with chatting(west, "zoe", "?since=") as client:
            assert (await client.next("resumed"))["count"] == 1
            assert (await client.message())["content"] == "waits"
            async with asyncio.timeout(WITHIN):
                while await there.released(consumer=DELIVERY_CONSUMER):
                    pass  # poll: until the client's pong has proved it
        async with chatting(west, "zoe", "?since=") as client:
            assert (await client.next("resumed"))["count"] == 0
