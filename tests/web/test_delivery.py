"""Delivered means one thing at every interface of a gateway: a client of the receiver has taken the message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from p2pchat.web.accounts import DELIVERY_CONSUMER
from p2pchat.web.socketio import engine_connection
from tests.processes.proxy import Proxy
from tests.web.chat_client import Chatter, chatting, connect, opened
from tests.web.conftest import Served
from tests.web.socketio_client import ENGINE, Poller, SocketUser, polling, registration, socket, talking
from tests.web.test_event_socket import Lines, calling

WITHIN = 60.0  # seconds for any expected event
Coming = Callable[[Served, str], AbstractAsyncContextManager[Any]]


class Writer:
    """A writer who listens at every interface that tells statuses, and asks at those that answer."""

    def __init__(self, chat: Chatter, lines: Lines, io: SocketUser, http: httpx.AsyncClient) -> None:
        self.chat = chat
        self.lines = lines
        self.io = io
        self.http = http

    async def write(self, **message: str) -> str:
        answer = await self.http.post("/messages", json=message)
        assert answer.status_code == 201, answer.text
        id: str = answer.json()["id"]
        return id

    async def status(self, id: str) -> tuple[str, list[str]]:
        """Return the status of a message, the same by REST and /lines, as are the causes; and who lacks it."""
        fate = (await self.http.get(f"/messages/{id}/receipt")).json()
        [row] = await self.lines.ask(do="receipts", id=id)
        assert (row["status"], row["missing"]) == (fate["status"], fate["missing"])
        told = [{name: value for name, value in one.items() if value is not None} for one in row["causes"]]
        assert (told, [one["user"] for one in told]) == (fate["causes"], row["missing"])
        return fate["status"], fate["missing"]

    async def hears(self, status: str, id: str) -> None:
        """Wait until every interface has told this status; the first message told of has to be this one."""
        assert (await self.chat.next(status))["id"] == id
        assert (await self.lines.next(status))["id"] == id
        assert (await self.io.hear("messageStatus"))["messageId"] == id


@asynccontextmanager
async def listening_everywhere(served: Served, name: str) -> AsyncIterator[Writer]:
    async with (
        chatting(served, name, "?events=receipts") as chat,
        calling(served, name) as lines,
        talking(served, name) as io,
        served.client(name) as http,
    ):
        yield Writer(chat, lines, io, http)


@pytest.fixture
async def ada(served: Served) -> AsyncIterator[Writer]:
    """ada listens everywhere at a gateway that knows bob and cyd, too."""
    await served.register("ada", "bob", "cyd")
    async with listening_everywhere(served, "ada") as ada:
        yield ada


@asynccontextmanager
async def by_chat(served: Served, name: str) -> AsyncIterator[Chatter]:
    async with chatting(served, name) as chatter:
        await chatter.message()
        yield chatter


@asynccontextmanager
async def by_lines(served: Served, name: str) -> AsyncIterator[Lines]:
    async with calling(served, name) as lines:
        await lines.next("message")
        yield lines


@asynccontextmanager
async def by_socketio(served: Served, name: str) -> AsyncIterator[SocketUser]:
    async with talking(served, name) as user:
        await user.hear("newMessage")
        yield user


@pytest.mark.parametrize("come", [by_chat, by_lines, by_socketio])
async def test_a_message_to_someone_away_is_delivered_when_a_client_takes_it(
    served: Served, ada: Writer, come: Coming
) -> None:
    """At each interface, and not before; a message to someone who is there, written later, is told first."""
    async with chatting(served, "cyd"):
        id = await ada.write(to="bob", content="are you there?")
        sign = await ada.write(to="cyd", content="tell me when bob is back")
        await ada.hears("delivered", sign)
        assert await ada.status(id) == ("accepted", ["bob"])
        async with come(served, "bob"):
            await ada.hears("delivered", id)
            while (await ada.status(id))[0] == "accepted":
                pass
            assert (await ada.status(id))[1] == []
        async with chatting(served, "bob", "?since=") as again:
            assert (await again.next("resumed"))["count"] == 0, "what was taken does not come again"


async def test_a_session_that_catches_up_gets_what_another_of_its_account_is_sent(served: Served) -> None:
    """Once it was told that it listens; it missed what the other had taken or read, and what the account wrote."""
    await served.register("ada", "bob")
    ada, bob, answers = served.account("ada").user, served.account("bob").user, served.gateway.answers
    async with AsyncExitStack() as stack:
        async with AsyncExitStack() as held:
            for _ in range(served.gateway.settings.max_answers_of_account):  # with one of them the catch-up begins
                await held.enter_async_context(answers.hold(bob.me.key))
            late = await stack.enter_async_context(calling(served, "bob"))
            taken, read = await ada.send("bob", "taken"), await ada.send("bob", "read")
            bob.hand_on(await bob.message(taken.id), DELIVERY_CONSUMER)
            (await bob.message(read.id)).mark_read()
            await read.read(timeout=WITHIN)
            await bob.send("ada", "written")
            await ada.send("bob", "last")
        texts = [(await late.next_of("message", "sent"))["text"] for _ in range(4)]
        await ada.send("bob", "once")
        texts.append((await late.next_of("message", "sent"))["text"])
        assert texts == ["taken", "read", "written", "last", "once"]


async def test_a_client_that_stops_reading_has_not_taken_what_was_written_to_its_socket(
    served: Served, ada: Writer
) -> None:
    async with chatting(served, "cyd"):
        bob = await opened(served, "bob")
        bob.socket.transport.pause_reading()  # the connection lives, but nothing reaches the program
        id = await ada.write(to="bob", content="asleep?")
        await ada.hears("delivered", await ada.write(to="cyd", content="somebody is awake"))
        assert await ada.status(id) == ("accepted", ["bob"])
        bob.socket.transport.resume_reading()
        await ada.hears("delivered", id)
        await bob.socket.close()


async def test_a_pong_proves_only_what_was_written_before_its_own_ping(served: Served) -> None:
    await served.register("ada", "bob")
    ada, bob = served.peer.hosted
    async with connect(served.ws_url + ENGINE + "websocket") as line:
        for packet in ("40", registration(served, "bob")):
            await line.send(packet)
        first = await ada.send(bob.me, "first")
        while await line.recv() != "2":
            pass
        second = await ada.send(bob.me, "second")
        while "second" not in str(await line.recv()):
            pass
        await line.send("3")
        await first.read(timeout=WITHIN)
        assert second.status == "accepted"
        while await line.recv() != "2":
            pass
        await line.send("3")
        await second.read(timeout=WITHIN)


Write = Callable[[], Awaitable[object]]


async def leave_socketio(served: Served, goodbye: str, write: Write) -> None:
    """Answer no ping behind what is written, and say goodbye: with a packet, or by closing the WebSocket."""
    async with connect(served.ws_url + ENGINE + "websocket") as line:
        for packet in ("40", registration(served, "bob")):
            await line.send(packet)
        await write()
        while "newMessage" not in str(await line.recv()):
            pass
        if goodbye:
            await line.send(goodbye)


async def leave_websocket(served: Served, path: str, write: Write) -> None:
    headers = {"Authorization": f"Bearer {served.tokens['bob']}"}
    line = await connect(f"{served.ws_url}{path}", additional_headers=headers)
    line.transport.pause_reading()
    await write()
    account = served.account("bob")
    line.protocol.send_close(1000)
    for data in line.protocol.data_to_send():
        line.transport.write(data)
    async with asyncio.timeout(WITHIN):
        while account.sessions:
            await asyncio.sleep(0.01)  # poll: nothing reaches the client
    line.transport.abort()


@pytest.mark.parametrize(
    ("leave", "how"),
    [
        *((leave_socketio, goodbye) for goodbye in ("41", "1", "")),
        *((leave_websocket, path) for path in ("/chat", "/lines")),
    ],
)
async def test_a_goodbye_proves_nothing(served: Served, ada: Writer, leave: Callable[..., Any], how: str) -> None:
    written: list[str] = []

    async def write() -> None:
        written.append(await ada.write(to="bob", content="under way"))
        await ada.chat.message()  # what she wrote by REST has reached all sockets

    await leave(served, how, write)
    [id] = written
    await ada.io.hear("presenceUpdate", lambda told: told == {"userId": "bob", "status": "offline"})
    assert await ada.status(id) == ("accepted", ["bob"])
    async with chatting(served, "bob") as bob:
        assert (await bob.message())["id"] == id
        await ada.hears("delivered", id)


async def test_a_message_named_by_since_was_taken(served: Served) -> None:
    await served.register("ada", "bob")
    ada, bob = served.peer.hosted
    receipt = await ada.send(bob.me, "seen, and gone at once")
    await leave_socketio(served, "", lambda: asyncio.sleep(0))
    async with socket(served.url) as back:
        await back.say("register", {"userId": "bob", "authToken": served.tokens["bob"], "since": receipt.id})
        await receipt.read(timeout=WITHIN)
        assert back.said("newMessage") == []


@asynccontextmanager
async def losing_polls(served: Served) -> AsyncIterator[tuple[Poller, Proxy]]:
    """bob polls through a proxy, which may lose a poll or its answer."""
    proxy = Proxy()
    endpoint = await proxy.listen()
    proxy.to("127.0.0.1", served.port)
    base, host = f"http://{endpoint}", {"Host": f"127.0.0.1:{served.port}"}
    async with httpx.AsyncClient(base_url=base, headers=host, timeout=WITHIN, trust_env=False, verify=False) as http:
        bob = Poller(http)
        await bob.come(registration(served, "bob"))
        yield bob, proxy
        await proxy.close()


async def test_a_message_is_not_given_to_a_poll_whose_connection_is_gone(served: Served) -> None:
    """Clients repeat such a poll on a new connection with the same id, and say nothing."""
    await served.register("ada", "bob")
    ada, other = served.peer.hosted
    async with losing_polls(served) as (bob, proxy):
        waiting = asyncio.create_task(bob.poll())
        await bob.post('421["activityChange",{"isActive":true}]')
        assert "431" in str(await waiting)
        waiting = asyncio.create_task(bob.poll())
        await asyncio.sleep(0.2)  # time passes: the poll waits at the gateway
        proxy.cut()
        with pytest.raises(httpx.TransportError):
            await waiting
        receipt = await ada.send(other.me, "to the next poll")
        assert "to the next poll" in str(await bob.poll())
        assert receipt.status == "accepted"
        await bob.post("3")
        await receipt.read(timeout=WITHIN)


async def test_an_answer_to_a_poll_that_is_lost_proves_nothing_and_ends_the_connection(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_time = engine_connection.PONG_TIMEOUT
    monkeypatch.setattr(engine_connection, "PONG_TIMEOUT", 0.2)
    await served.register("ada", "bob")
    ada, other = served.peer.hosted
    async with losing_polls(served) as (bob, proxy):
        proxy.deaf = True
        waiting = asyncio.create_task(bob.poll())
        receipts = [await ada.send(other.me, "lost on its way")]
        while not proxy.swallowed:
            await asyncio.sleep(0.01)  # poll: the proxy tells nobody
        proxy.cut()
        with pytest.raises(httpx.TransportError):
            await waiting
        receipts.append(await ada.send(other.me, "behind it"))
        while said := await bob.poll():
            assert "newMessage" not in str(said), "a client that names the second one by `since` would miss the first"
        assert [receipt.status for receipt in receipts] == ["accepted"] * 2
        monkeypatch.setattr(engine_connection, "PONG_TIMEOUT", max(in_time, WITHIN))  # now it answers
        said = await bob.come(registration(served, "bob"))
        while "behind it" not in str(said):
            more = await bob.poll()
            assert more, "the connection lives"
            said += more
        assert "lost on its way" in str(said)
        await bob.post("3")
        await receipts[1].read(timeout=WITHIN)


async def test_of_two_polls_at_once_the_later_one_gets_what_comes(served: Served) -> None:
    await served.register("ada", "bob")
    ada, other = served.peer.hosted
    async with polling(served, "bob") as bob:
        first, second = (asyncio.create_task(bob.poll()) for _ in range(2))
        done, _ = await asyncio.wait((first, second), return_when=asyncio.FIRST_COMPLETED)
        assert [poll.result() for poll in done] == [["6"]]
        await ada.send(other.me, "to the other one")
        [other_poll] = {first, second} - done
        assert "to the other one" in str(await other_poll)


async def test_a_hidden_page_that_comes_back_by_itself_reads_nothing(served: Served, ada: Writer) -> None:
    async with socket(served.url) as bob:
        user = {"userId": "bob", "authToken": served.tokens["bob"], "isActive": False}
        id = await ada.write(to="bob", content="seen by nobody")
        assert (await bob.say("register", user))["status"] == "ok"
        await ada.hears("delivered", id)
        assert await ada.status(id) == ("delivered", [])
        came = await ada.io.hear("presenceUpdate", lambda told: told["userId"] == "bob")
        assert (
            came["status"] == "idle" and [one for one in ada.io.said("presenceUpdate") if one["userId"] == "bob"] == []
        )
        await bob.say("register", {**user, "isActive": True})
        assert (await ada.io.hear("messageStatus"))["status"] == "read"


async def test_someone_who_leaves_while_typing_stops_typing(served: Served) -> None:
    await served.register("ada", "bob")
    async with talking(served, "ada") as ada:
        async with talking(served, "bob") as bob:
            await bob.say("typingStart", {"conversationId": "ada"})
            assert (await ada.hear("typingIndicator"))["isTyping"]
        await ada.hear("presenceUpdate", lambda told: told == {"userId": "bob", "status": "offline"})
        assert [told["isTyping"] for told in ada.said("typingIndicator")] == [False]


async def test_reading_a_message_by_rest_delivers_it(served: Served, ada: Writer) -> None:
    async with served.client("bob") as bob:
        id = await ada.write(to="bob", content="read this")
        [shown] = (await bob.get("/messages", params={"conversation": "ada"})).json()
        assert (shown["id"], await ada.status(id)) == (id, ("accepted", ["bob"])), "a list is not a receipt"
        await bob.post(f"/messages/{id}/read")
        assert [(await ada.chat.next(status))["id"] for status in ("delivered", "read")] == [id, id]
        assert (await ada.lines.next("delivered", id=id))["count"] == 1
        assert (await ada.lines.next("read", id=id))["count"] == 1
        assert [(await ada.io.hear("messageStatus"))["status"] for _ in range(2)] == ["delivered", "read"]
        assert await ada.status(id) == ("read", [])


async def test_what_was_read_elsewhere_does_not_wait_any_more(served: Served, ada: Writer) -> None:
    async with served.client("cyd") as cyd, served.client("bob") as bob:
        await cyd.post("/messages", json={"to": "bob", "content": "from cyd, not read"})
        ids = [await ada.write(to="bob", content=str(number)) for number in range(4)]
        await bob.post(f"/messages/{ids[1]}/read")
        assert [(await ada.chat.next("read"))["id"] for _ in range(2)] == ids[:2]
        async with by_chat(served, "bob") as client:
            waiting = [(await client.message())["content"] for _ in range(2)]
            assert waiting == ["2", "3"], "the first one, from cyd, has come too"
            while (await ada.http.get(f"/messages/{ids[3]}/receipt")).json()["status"] == "accepted":
                pass
        async with chatting(served, "bob", "?since=") as again:
            assert (await again.next("resumed"))["count"] == 0


async def test_who_was_removed_takes_nothing_of_the_group_any_more(served: Served) -> None:
    """Neither what was written since, nor, with nobody counted, what waited there."""
    await served.register("vic", "vea", "vod")
    async with served.client("vic") as vic, chatting(served, "vic", "?events=receipts") as writer:
        await vic.post("/groups", json={"name": "ops", "members": ["vea", "vod"]})
        await writer.accepted({"group": "ops", "content": "with vea"})
        await vic.delete("/groups/ops/members/vea")
        missed = await writer.accepted({"group": "ops", "content": "without vea"})
        direct = await writer.accepted({"to": "vea", "content": "taken"})
        async with chatting(served, "vea") as vea:
            assert [(await vea.message())["content"] for _ in range(2)] == ["with vea", "taken"]
        assert (await writer.next("delivered"))["id"] == direct
        assert (await vic.get(f"/messages/{missed}/receipt")).json()["delivered_to"] == []


async def test_a_writer_who_was_away_is_told_once_what_was_delivered_and_read(served: Served) -> None:
    """At each interface in turn, without a limit: 230 messages, none of which comes again the next time."""
    await served.register("ada", "bob")

    async def chat() -> list[tuple[str, str]]:
        async with chatting(served, "ada", "?events=receipts") as ada:
            await ada.accepted("now")
            frames = [*ada.waiting("delivered"), *ada.waiting("read")]
            while len(frames) < 2 * len(ids):
                frames += [await ada.next("delivered"), await ada.next("read")]
            return [(frame["type"], frame["id"]) for frame in frames]

    async def lines() -> list[tuple[str, str]]:
        async with calling(served, "ada") as ada:
            return [(kind, (await ada.next(kind))["id"]) for kind in ("delivered", "read") for _ in ids]

    async def socketio() -> list[tuple[str, str]]:
        async with talking(served, "ada") as ada:
            told = [await ada.hear("messageStatus") for _ in range(2 * len(ids))]
            return [(one["status"], one["messageId"]) for one in told]

    for come, number in ((chat, 5), (lines, 5), (socketio, 230)):
        ids = [(await served.account("ada").user.send("bob", str(n))).id for n in range(number)]
        async with chatting(served, "bob") as bob:
            for _ in ids:
                last = await bob.message()
            await bob.say({"type": "read", "id": last["id"]})
            async with served.client("ada") as http, asyncio.timeout(WITHIN):
                while (await http.get(f"/messages/{ids[-1]}/receipt")).json()["status"] != "read":
                    await asyncio.sleep(0.01)  # poll: nobody hears the event
        assert sorted(await come()) == sorted((kind, id) for kind in ("delivered", "read") for id in ids)
        async with listening_everywhere(served, "ada") as again, chatting(served, "bob") as bob:
            id = await again.write(to="bob", content="the first to be told now")
            await again.hears("delivered", id)
            await bob.say({"type": "read", "id": id})
            await again.hears("read", id)


async def test_an_edit_of_a_message_that_waits_delivers_nothing(served: Served, ada: Writer) -> None:
    id = await ada.write(to="bob", content="at nnoo")
    await ada.http.patch(f"/messages/{id}", json={"content": "at noon"})
    assert await ada.status(id) == ("accepted", ["bob"])
    async with by_chat(served, "bob"):
        await ada.hears("delivered", id)
        assert await ada.status(id) == ("delivered", [])
        await ada.http.patch(f"/messages/{id}", json={"content": "at one"})
        assert await ada.status(id) == ("delivered", [])


async def test_who_joined_later_does_not_repeat_that_all_have_read_a_room_message(served: Served) -> None:
    await served.register("ada", "bob", "cyd")
    async with chatting(served, "ada", "?events=receipts") as ada, chatting(served, "bob") as bob:
        first = await ada.accepted("hello")
        await bob.say({"type": "read", "id": (await bob.message())["id"]})
        (await served.peer.message(first)).mark_read()
        told = await ada.next("read")
        assert (told["id"], told["count"], told["of"]) == (first, 2, 2)
        async with chatting(served, "cyd") as cyd, served.client("cyd") as http:
            await http.post(f"/messages/{first}/read")
            second = await ada.accepted("hello, cyd")
            for reader in (bob, cyd):
                await reader.say({"type": "read", "id": (await reader.message())["id"]})
            (await served.peer.message(second)).mark_read()
            told = await ada.next("read")
            assert (told["id"], told["count"], told["of"]) == (second, 3, 3)
