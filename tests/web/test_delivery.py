"""Delivered means one thing at every interface of a gateway: a client of the receiver has taken the message."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from p2pchat.web import Pace, WebSettings
from p2pchat.web.socketio import engineio
from tests.amounts import sample
from tests.ports import free_ports
from tests.processes.proxy import Proxy
from tests.processes.settings_override import altered, changes
from tests.web.chat_client import Chatter, chatting, drop, opened
from tests.web.conftest import Served
from tests.web.processes import p2pchat, running
from tests.web.socketio_client import SocketUser, socket
from tests.web.test_event_socket import Lines, calling
from tests.web.websocket_client import connect

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
        """Return the status of a message, the same by REST and /lines, and who lacks it."""
        fate = (await self.http.get(f"/messages/{id}/receipt")).json()
        [row] = await self.lines.ask(do="receipts", id=id)
        assert (row["status"], row["missing"]) == (fate["status"], fate["missing"])
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
        socket(served.url, name, served.tokens[name]) as io,
        served.client(name) as http,
    ):
        yield Writer(chat, lines, io, http)


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
    async with socket(served.url, name, served.tokens[name]) as user:
        await user.hear("newMessage")
        yield user


@pytest.mark.parametrize("come", [by_chat, by_lines, by_socketio])
async def test_a_message_to_someone_away_is_delivered_when_a_client_takes_it(served: Served, come: Coming) -> None:
    """At each interface, and not before; a message to someone who is there, written later, is told first."""
    for name in ("ada", "bob", "cyd"):
        await served.register(name)
    async with listening_everywhere(served, "ada") as ada, chatting(served, "cyd"):
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


async def test_a_client_that_stops_reading_has_not_taken_what_was_written_to_its_socket(served: Served) -> None:
    for name in ("ada", "bob", "cyd"):
        await served.register(name)
    async with listening_everywhere(served, "ada") as ada, chatting(served, "cyd"):
        bob = await opened(served, "bob")
        bob.socket.transport.pause_reading()  # the connection lives, but nothing reaches the program
        id = await ada.write(to="bob", content="asleep?")
        await ada.hears("delivered", await ada.write(to="cyd", content="somebody is awake"))
        assert await ada.status(id) == ("accepted", ["bob"])
        bob.socket.transport.resume_reading()
        await ada.hears("delivered", id)
        await bob.socket.close()


@asynccontextmanager
async def stopped_websocket(served: Served, name: str) -> AsyncIterator[Callable[[], object]]:
    async with socket(served.url, name, served.tokens[name]) as user:
        transport = user.io.eio.ws._response.connection.transport
        transport.pause_reading()
        yield transport.resume_reading


@asynccontextmanager
async def stopped_poller(served: Served, name: str) -> AsyncIterator[Callable[[], object]]:
    """A client that takes no answer to its last poll, and then polls again and answers the ping."""
    url, user = "/socket.io/?EIO=4&transport=polling", {"userId": name, "authToken": served.tokens[name]}
    async with served.client() as http, asyncio.TaskGroup() as group:
        url += f"&sid={json.loads((await http.get(url)).text[1:])['sid']}"
        await http.post(url, content="40")
        await http.post(url, content=f'420["register",{json.dumps(user)}]')
        while "430" not in (await http.get(url)).text:
            pass

        async def poll() -> None:
            while "newMessage" not in (await http.get(url)).text:
                pass
            await http.post(url, content="3")

        yield lambda: group.create_task(poll())


@pytest.mark.parametrize("stopped", [stopped_websocket, stopped_poller])
@pytest.mark.parametrize("to", ["bob", "ops", "room"])
async def test_a_stopped_client_of_an_active_user_has_neither_taken_nor_read_anything(
    served: Served, stopped: Callable[..., AbstractAsyncContextManager[Callable[[], object]]], to: str
) -> None:
    for name in ("ada", "bob", "cyd"):
        await served.register(name)
    ada, bob, cyd = served.peer.hosted
    async with stopped(served, "bob") as go_on, socket(served.url, "cyd", served.tokens["cyd"]):
        talk: Any = {"bob": bob.me, "ops": await ada.create_group("ops", [bob.me, cyd.me]), "room": ada.room}[to]
        receipt = await ada.send(talk, "asleep?")
        sign = await ada.send(cyd.me, "somebody is awake") if to == "bob" else receipt
        await sign.read(by="cyd", timeout=WITHIN)
        assert receipt.by_member[bob.me] == ("delivered" if to == "room" else "accepted")
        go_on()
        await receipt.read(by="bob", timeout=WITHIN)


async def test_a_pong_proves_only_what_was_written_before_its_own_ping(served: Served) -> None:
    for name in ("ada", "bob"):
        await served.register(name)
    ada, bob = served.peer.hosted
    user = {"userId": "bob", "authToken": served.tokens["bob"]}
    async with connect(f"{served.ws_url}/socket.io/?EIO=4&transport=websocket") as line:
        for packet in ("40", f'420["register",{json.dumps(user)}]'):
            await line.send(packet)
        receipts = []
        for number in range(2):
            receipts.append(await ada.send(bob.me, str(number)))
            while await line.recv() != "2":
                pass
        for number, receipt in enumerate(receipts):
            await line.send("3")
            await receipt.read(timeout=WITHIN)
            assert [one.status for one in receipts[number + 1 :]] == ["accepted"] * (1 - number)


Write = Callable[[], Awaitable[object]]


async def leave_socketio(served: Served, goodbye: str, write: Write) -> None:
    """Answer no ping behind what is written, and say goodbye: with a packet, or by closing the WebSocket."""
    user = {"userId": "bob", "authToken": served.tokens["bob"]}
    async with connect(f"{served.ws_url}/socket.io/?EIO=4&transport=websocket") as line:
        for packet in ("40", f'420["register",{json.dumps(user)}]'):
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
    account = served.gateway.accounts.find("bob")
    assert account is not None
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
async def test_a_goodbye_proves_nothing(served: Served, leave: Callable[..., Any], how: str) -> None:
    for name in ("ada", "bob"):
        await served.register(name)
    async with listening_everywhere(served, "ada") as ada:
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
    for name in ("ada", "bob"):
        await served.register(name)
    ada, bob = served.peer.hosted
    receipt = await ada.send(bob.me, "seen, and gone at once")
    await leave_socketio(served, "", lambda: asyncio.sleep(0))
    async with socket(served.url) as back:
        await back.say("register", {"userId": "bob", "authToken": served.tokens["bob"], "since": receipt.id})
        await receipt.read(timeout=WITHIN)
        assert back.said("newMessage") == []


class LosingPolls:
    """A client that polls through a proxy, which may lose a poll or its answer; it answers pings when told to."""

    def __init__(self, http: httpx.AsyncClient, proxy: Proxy, url: str, register: str) -> None:
        self.http, self.proxy, self.register = http, proxy, register
        self.path = url

    async def come(self) -> str:
        """Connect and register; return what the poll with the answer brings."""
        opened = (await self.http.get(self.path)).text
        self.url = f"{self.path}&sid={json.loads(opened[1:])['sid']}"
        await self.http.post(self.url, content="40\x1e" + self.register)
        while "430" not in (said := await self.poll()):
            pass
        return said

    async def poll(self) -> str:
        """Return what a poll brings; "" once the connection is closed."""
        answer = await self.http.get(self.url)
        return answer.text if answer.status_code == 200 else ""


@asynccontextmanager
async def losing_polls(served: Served) -> AsyncIterator[LosingPolls]:
    proxy = Proxy()
    endpoint = await proxy.listen()
    proxy.to("127.0.0.1", served.port)
    user = {"userId": "bob", "authToken": served.tokens["bob"]}
    register = f'420["register",{json.dumps(user)}]'
    base, host = f"http://{endpoint}", {"Host": f"127.0.0.1:{served.port}"}
    async with httpx.AsyncClient(base_url=base, headers=host, timeout=WITHIN, trust_env=False, verify=False) as http:
        client = LosingPolls(http, proxy, "/socket.io/?EIO=4&transport=polling", register)
        await client.come()
        yield client
        await proxy.close()


async def test_a_message_is_not_given_to_a_poll_whose_connection_is_gone(served: Served) -> None:
    """Clients repeat such a poll on a new connection with the same id, and say nothing."""
    for name in ("ada", "bob"):
        await served.register(name)
    ada, other = served.peer.hosted
    async with losing_polls(served) as bob:
        waiting = asyncio.create_task(bob.poll())
        await bob.http.post(bob.url, content='421["activityChange",{"isActive":true}]')
        assert "431" in await waiting
        waiting = asyncio.create_task(bob.poll())
        await asyncio.sleep(0.2)  # time passes: the poll waits at the gateway
        bob.proxy.cut()
        with pytest.raises(httpx.TransportError):
            await waiting
        receipt = await ada.send(other.me, "to the next poll")
        assert "to the next poll" in await bob.poll()
        assert receipt.status == "accepted"
        await bob.http.post(bob.url, content="3")
        await receipt.read(timeout=WITHIN)


async def test_an_answer_to_a_poll_that_is_lost_proves_nothing_and_ends_the_connection(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_time = engineio.PONG_TIMEOUT
    monkeypatch.setattr(engineio, "PONG_TIMEOUT", 0.2)
    for name in ("ada", "bob"):
        await served.register(name)
    ada, other = served.peer.hosted
    async with losing_polls(served) as bob:
        bob.proxy.deaf = True
        waiting = asyncio.create_task(bob.poll())
        receipts = [await ada.send(other.me, "lost on its way")]
        while not bob.proxy.swallowed:
            await asyncio.sleep(0.01)  # poll: the proxy tells nobody
        bob.proxy.cut()
        with pytest.raises(httpx.TransportError):
            await waiting
        receipts.append(await ada.send(other.me, "behind it"))
        while said := await bob.poll():
            assert "newMessage" not in said, "a client that names the second one by `since` would miss the first"
        assert [receipt.status for receipt in receipts] == ["accepted"] * 2
        monkeypatch.setattr(engineio, "PONG_TIMEOUT", max(in_time, WITHIN))  # now it answers, as soon as it can
        said = await bob.come()
        while "behind it" not in said:
            more = await bob.poll()
            assert more, "the connection lives"
            said += more
        assert "lost on its way" in said
        await bob.http.post(bob.url, content="3")
        await receipts[1].read(timeout=WITHIN)


async def test_of_two_polls_at_once_the_later_one_gets_what_comes(served: Served) -> None:
    for name in ("ada", "bob"):
        await served.register(name)
    ada, other = served.peer.hosted
    async with losing_polls(served) as bob:
        first, second = (asyncio.create_task(bob.poll()) for _ in range(2))
        done, _ = await asyncio.wait((first, second), return_when=asyncio.FIRST_COMPLETED)
        assert [poll.result() for poll in done] == ["6"]
        await ada.send(other.me, "to the other one")
        [other_poll] = {first, second} - done
        assert "to the other one" in await other_poll


async def test_a_hidden_page_that_comes_back_by_itself_reads_nothing(served: Served) -> None:
    for name in ("ada", "bob"):
        await served.register(name)
    async with listening_everywhere(served, "ada") as ada, socket(served.url) as bob:
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
    for name in ("ada", "bob"):
        await served.register(name)
    async with socket(served.url, "ada", served.tokens["ada"]) as ada:
        async with socket(served.url, "bob", served.tokens["bob"]) as bob:
            await bob.say("typingStart", {"conversationId": "ada"})
            assert (await ada.hear("typingIndicator"))["isTyping"]
        await ada.hear("presenceUpdate", lambda told: told == {"userId": "bob", "status": "offline"})
        assert [told["isTyping"] for told in ada.said("typingIndicator")] == [False]


async def test_reading_a_message_by_rest_delivers_it(served: Served) -> None:
    for name in ("ada", "bob"):
        await served.register(name)
    async with listening_everywhere(served, "ada") as ada, served.client("bob") as bob:
        id = await ada.write(to="bob", content="read this")
        [shown] = (await bob.get("/messages", params={"conversation": "ada"})).json()
        assert (shown["id"], await ada.status(id)) == (id, ("accepted", ["bob"])), "a list is not a receipt"
        await bob.post(f"/messages/{id}/read")
        assert [(await ada.chat.next(status))["id"] for status in ("delivered", "read")] == [id, id]
        assert (await ada.lines.next("delivered", id=id))["count"] == 1
        assert (await ada.lines.next("read", id=id))["count"] == 1
        assert [(await ada.io.hear("messageStatus"))["status"] for _ in range(2)] == ["delivered", "read"]
        assert await ada.status(id) == ("read", [])


@pytest.mark.parametrize("come", [by_chat, by_lines, by_socketio])
async def test_what_was_read_elsewhere_does_not_wait_any_more(served: Served, come: Coming) -> None:
    for name in ("ada", "bob", "cyd"):
        await served.register(name)
    async with listening_everywhere(served, "ada") as ada, served.client("cyd") as cyd, served.client("bob") as bob:
        await cyd.post("/messages", json={"to": "bob", "content": "from cyd, not read"})
        ids = [await ada.write(to="bob", content=str(number)) for number in range(4)]
        await bob.post(f"/messages/{ids[1]}/read")
        assert [(await ada.chat.next("read"))["id"] for _ in range(2)] == ids[:2]
        async with come(served, "bob") as client:
            if isinstance(client, SocketUser):
                waiting = [(await client.hear("newMessage"))["content"] for _ in range(2)]
            elif isinstance(client, Lines):
                waiting = [(await client.next("message"))["text"] for _ in range(2)]
            else:
                waiting = [(await client.message())["content"] for _ in range(2)]
            assert waiting == ["2", "3"], "the first one, from cyd, has come too"
            while (await ada.http.get(f"/messages/{ids[3]}/receipt")).json()["status"] == "accepted":
                pass
        async with chatting(served, "bob", "?since=") as again:
            assert (await again.next("resumed"))["count"] == 0


async def test_who_was_removed_takes_nothing_of_the_group_any_more(served: Served) -> None:
    """Neither what was written since, nor, with nobody counted, what waited there."""
    for name in ("vic", "vea", "vod"):
        await served.register(name)
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
    for name in ("ada", "bob"):
        await served.register(name)

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
        async with socket(served.url, "ada", served.tokens["ada"]) as ada:
            told = [await ada.hear("messageStatus") for _ in range(2 * len(ids))]
            return [(one["status"], one["messageId"]) for one in told]

    for come, number in ((chat, 5), (lines, 5), (socketio, 230)):
        account = served.gateway.accounts.find("ada")
        assert account is not None
        ids = [(await account.user.send("bob", str(n))).id for n in range(number)]
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


async def test_an_edit_of_a_message_that_waits_delivers_nothing(served: Served) -> None:
    for name in ("ada", "bob"):
        await served.register(name)
    async with listening_everywhere(served, "ada") as ada:
        id = await ada.write(to="bob", content="at nnoo")
        await ada.http.patch(f"/messages/{id}", json={"content": "at noon"})
        assert await ada.status(id) == ("accepted", ["bob"])
        async with by_chat(served, "bob"):
            await ada.hears("delivered", id)
            assert await ada.status(id) == ("delivered", [])
            await ada.http.patch(f"/messages/{id}", json={"content": "at one"})
            assert await ada.status(id) == ("delivered", [])


@asynccontextmanager
async def chatting_with(url: str, user: str, query: str = "") -> AsyncIterator[Chatter]:
    async with connect(f"{url}/chat?user={user}{query}", max_queue=None) as websocket:
        yield Chatter(websocket)


async def test_a_client_of_the_command_line_shows_what_it_took_before_it_ends(serve: Any, tmp_path: Path) -> None:
    """It says that it is connected before it shows what waited; messages come until it ends, and after that too."""
    served = await serve(WebSettings(trust_loopback=True))
    for name in ("ada", "bob"):
        await served.register(name)
    ada, bob = served.peer.hosted
    receipts = [await ada.send(bob.me, "waited")]
    command = p2pchat("client", f"{served.ws_url}/chat", "--user", "bob", "--plain")
    async with running(*command, home=tmp_path) as client:
        await client.until("-- connected as bob")
        await client.until("waited")

        async def write() -> None:
            while True:
                receipts.append(await ada.send(bob.me, f"({len(receipts)})"))

        async with asyncio.TaskGroup() as group:
            writing = group.create_task(write())
            await client.until("(100)")
            assert await client.end() == 0
            writing.cancel()
    shown = "\n".join(client.shown)
    taken = [number for number, receipt in enumerate(receipts) if number and receipt.status != "accepted"]
    assert [number for number in taken if f"({number})" not in shown] == []


def gateway_command(home: Path) -> tuple[str, list[str]]:
    """Return the port of a gateway, and the command that starts it, always on the same data."""
    http, own = free_ports(2)
    return http, p2pchat("web", http, "--port", own, "--trust-loopback", "--data", str(home / "data"))


async def test_what_was_delivered_stays_so_after_a_kill_and_what_waits_is_told_later(tmp_path: Path) -> None:
    """A gateway killed as soon as it has told a writer, twice: it knows the same as the writer afterwards."""
    http, gateway = gateway_command(tmp_path)
    url = f"ws://localhost:{http}"

    async def status(id: str) -> str:
        async with httpx.AsyncClient(
            base_url=f"http://localhost:{http}", timeout=60, trust_env=False, verify=False
        ) as client:
            answer = await client.get(f"/messages/{id}/receipt", params={"user": "ada"})
            word: str = answer.json()["status"]
            return word

    async with running(*gateway, home=tmp_path) as office:
        await office.until("the page")
        async with chatting_with(url, "ada", "&events=receipts") as ada:
            taken = await ada.accepted("/dm bob first")
            async with chatting_with(url, "bob") as bob:
                await bob.message()
                assert (await ada.next("delivered"))["id"] == taken
                office.kill()
                await office.end()
    async with running(*gateway, home=tmp_path) as office:
        await office.until("the page")
        assert await status(taken) == "delivered"
        async with chatting_with(url, "ada", "&events=receipts") as ada:
            waits = await ada.accepted("/dm bob second")
            assert await status(waits) == "accepted"
            office.kill()
            await office.end()
    async with running(*gateway, home=tmp_path) as office:
        await office.until("the page")
        assert (await status(taken), await status(waits)) == ("delivered", "accepted")
        async with chatting_with(url, "ada", "&events=receipts") as ada, chatting_with(url, "bob") as bob:
            assert (await bob.message())["id"] == waits, "and what was delivered before is not sent again"
            assert (await ada.next("delivered"))["id"] == waits
            assert await status(waits) == "delivered"
            await bob.say(json.dumps({"type": "read", "id": waits}))
            await ada.next("read")
            while await status(taken) != "read":  # an earlier message of the same writer is read with it
                await asyncio.sleep(0)  # poll: the event is that of the later message


async def test_who_joined_later_does_not_repeat_that_all_have_read_a_room_message(served: Served) -> None:
    for name in ("ada", "bob", "cyd"):
        await served.register(name)
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


async def test_what_a_writer_missed_is_told_after_a_restart_of_the_gateway_too(tmp_path: Path) -> None:
    """And a client that asks for no receipts leaves them to the next one."""
    http, gateway = gateway_command(tmp_path)
    url = f"ws://localhost:{http}"
    async with running(*gateway, home=tmp_path) as office:
        await office.until("the page")
        async with chatting_with(url, "ada") as ada:
            ids = [await ada.accepted(f"/dm bob {number}") for number in range(3)]
        async with chatting_with(url, "bob") as bob:
            for _ in ids:
                await bob.message()
            await bob.say({"type": "read", "id": ids[-1]})
            await bob.accepted("/dm ada thanks")
        async with httpx.AsyncClient(
            base_url=f"http://localhost:{http}", timeout=60, trust_env=False, verify=False
        ) as client:
            while (await client.get(f"/messages/{ids[-1]}/receipt?as=ada")).json()["status"] != "read":
                await asyncio.sleep(0.01)  # poll: nobody hears the event
        office.terminate()
        await office.end()
    async with running(*gateway, home=tmp_path) as office:
        await office.until("the page")
        async with chatting_with(url, "ada") as ada:
            await ada.message()
        async with chatting_with(url, "ada", "&events=receipts") as ada:
            assert [(await ada.next("delivered"))["id"] for _ in ids] == ids
            assert [(await ada.next("read"))["id"] for _ in ids] == ids


async def test_a_read_after_a_restart_of_the_gateway_does_not_repeat_what_was_delivered_before_it(
    tmp_path: Path,
) -> None:
    http, gateway = gateway_command(tmp_path)
    url = f"ws://localhost:{http}"
    async with running(*gateway, home=tmp_path) as office:
        await office.until("the page")
        async with chatting_with(url, "ada", "&events=receipts") as ada:
            async with chatting_with(url, "bob") as bob:
                taken = [await ada.accepted(f"/dm bob {number}") for number in range(3)]
                assert [(await bob.message())["id"] for _ in taken] == taken
                assert [(await ada.next("delivered"))["id"] for _ in taken] == taken
            missed = await ada.accepted("/dm bob are you gone?")
        office.kill()
        await office.end()
    async with running(*gateway, home=tmp_path) as office:
        await office.until("the page")
        async with chatting_with(url, "ada", "&events=receipts") as ada:
            await read_by_rest(http, "bob", missed)
            assert (await ada.next("delivered"))["id"] == missed, "and of those before it ada knows that"
            assert [(await ada.next("read"))["id"] for _ in range(4)] == [*taken, missed]
            assert not ada.waiting("delivered")


async def test_what_is_delivered_while_a_writer_catches_up_is_told_once(serve: Callable[..., Any]) -> None:
    """The writer's client takes nothing at first, so receipts come live before those that were kept are read."""
    served = await serve(WebSettings(messages=Pace(1e6, 10**6), written=Pace(1e9, 10**9)))
    async with chatting(served, "ada") as ada:
        ids = [await ada.accepted("/dm bob taken while ada is away")]
    async with chatting(served, "bob") as bob, served.client("ada") as http, chatting(served, "cyd") as cyd:
        await bob.message()
        while (await http.get(f"/messages/{ids[0]}/receipt")).json()["status"] != "delivered":
            await asyncio.sleep(0.01)  # poll: nobody hears the event
        for _ in range(300):  # more than fits between the gateway and a client
            await cyd.accepted({"to": "ada", "text": secrets.token_urlsafe(24_000)})
        again = await opened(served, "ada", "?events=receipts")
        again.socket.transport.pause_reading()
        ids.append((await http.post("/messages", json={"to": "bob", "content": "taken meanwhile"})).json()["id"])
        while (await http.get(f"/messages/{ids[1]}/receipt")).json()["status"] != "delivered":
            await asyncio.sleep(0.01)  # poll: the client that hears it does not read
        again.socket.transport.resume_reading()
        assert {(await again.next("delivered"))["id"] for _ in ids} == set(ids)
        last = (await http.post("/messages", json={"to": "bob", "content": "taken after it"})).json()["id"]
        assert (await again.next("delivered"))["id"] == last
        await again.socket.close()


async def test_a_client_that_breaks_while_it_catches_up_leaves_what_was_kept_to_the_next(
    serve: Callable[..., Any],
) -> None:
    served = await serve(WebSettings(messages=Pace(1e6, 10**6), written=Pace(1e9, 10**9)))
    async with chatting(served, "ada") as ada:
        id = await ada.accepted("/dm bob taken while ada is away")
    async with chatting(served, "bob") as bob, served.client("ada") as http, chatting(served, "cyd") as cyd:
        await bob.message()
        while (await http.get(f"/messages/{id}/receipt")).json()["status"] != "delivered":
            await asyncio.sleep(0.01)  # poll: nobody hears the event
        for _ in range(300):  # more than fits between the gateway and a client
            await cyd.accepted({"to": "ada", "text": secrets.token_urlsafe(24_000)})
    account = served.gateway.accounts.find("ada")
    assert account is not None
    again = await opened(served, "ada", "?events=receipts")
    again.socket.transport.pause_reading()
    async with asyncio.timeout(WITHIN):
        while not account.sessions:
            await asyncio.sleep(0.01)  # poll: nothing reaches the client
        await drop(again)
        while account.sessions:
            await asyncio.sleep(0.01)  # poll
    async with chatting(served, "ada", "?events=receipts") as ada:
        assert (await ada.next("delivered"))["id"] == id


async def read_by_rest(port: str, user: str, id: str) -> None:
    async with httpx.AsyncClient(
        base_url=f"http://localhost:{port}", timeout=60, trust_env=False, verify=False
    ) as http:
        assert (await http.post(f"/messages/{id}/read", params={"user": user})).status_code == 200


async def read_by_lines(port: str, user: str, id: str) -> None:
    async with connect(f"ws://localhost:{port}/lines?user={user}", max_queue=None) as websocket:
        await websocket.send(json.dumps({"do": "read", "id": id, "ref": "done"}))
        while json.loads(await websocket.recv()).get("ref") != "done":
            pass


async def read_by_socketio(port: str, user: str, id: str) -> None:
    async with socket(f"http://localhost:{port}", user, "") as io:
        assert (await io.say("messageAck", {"messageId": id}))["status"] == "ok"


@pytest.mark.sampled
@pytest.mark.parametrize("read", sample([read_by_rest, read_by_lines, read_by_socketio], every=2))
@pytest.mark.parametrize("number", [0, -1])
async def test_a_read_that_was_answered_stays_so_after_a_kill(
    tmp_path: Path, read: Callable[[str, str, str], Any], number: int
) -> None:
    """The first message, which storage looks up, and the newest, marked right after the others."""
    http, gateway = gateway_command(tmp_path)
    async with running(*gateway, home=tmp_path) as office:
        await office.until("the page")
        async with chatting_with(f"ws://localhost:{http}", "ada") as ada:
            ids = [await ada.accepted(f"/dm bob {n}") for n in range(3)]
        await read(http, "bob", ids[0])
        await read(http, "bob", ids[number])
        office.kill()
        await office.end()
    async with running(*gateway, home=tmp_path) as office:
        await office.until("the page")
        async with httpx.AsyncClient(
            base_url=f"http://localhost:{http}", timeout=60, trust_env=False, verify=False
        ) as client:
            answer = await client.get(f"/messages/{ids[number]}/receipt", params={"user": "ada"})
        assert answer.json()["status"] == "read"


async def take(port: str, ids: list[str]) -> None:
    async with chatting_with(f"ws://localhost:{port}", "bob") as bob:
        assert [(await bob.message())["id"] for _ in ids] == ids
        await (await bob.socket.ping())  # what came before it has been answered


async def take_and_read(port: str, ids: list[str]) -> None:
    await read_by_rest(port, "bob", ids[-1])


@pytest.mark.parametrize(("act", "steps"), [(take, ["delivered"]), (take_and_read, ["delivered", "read"])])
async def test_a_writer_who_was_away_is_told_of_what_happened_just_before_a_kill(
    tmp_path: Path, act: Callable[[str, list[str]], Any], steps: list[str]
) -> None:
    """What the writer is owed is stored with the delivery or read itself; and it is told once."""
    http, gateway = gateway_command(tmp_path)
    url = f"ws://localhost:{http}"
    async with running(*gateway, home=tmp_path) as office:
        await office.until("the page")
        async with chatting_with(url, "ada") as ada:
            ids = [await ada.accepted(f"/dm bob {n}") for n in range(3)]
        await act(http, ids)
        about = f"/messages/{ids[-1]}/receipt?user=ada"
        async with httpx.AsyncClient(
            base_url=f"http://localhost:{http}", timeout=60, trust_env=False, verify=False
        ) as client:
            while (await client.get(about)).json()["status"] == "accepted":
                pass
        office.kill()
        await office.end()
    async with running(*gateway, home=tmp_path) as office:
        await office.until("the page")
        async with chatting_with(url, "ada", "&events=receipts") as ada:
            for step in steps:
                assert [(await ada.next(step))["id"] for _ in ids] == ids
        async with chatting_with(url, "ada", "&events=receipts") as ada, chatting_with(url, "bob", "&since=") as bob:
            last = await ada.accepted("/dm bob last")
            while (await bob.message())["id"] != last:
                pass
            assert (await ada.next("delivered"))["id"] == last


async def test_a_message_that_came_long_after_it_claims_says_so_at_every_interface(
    served: Served, tmp_path: Path
) -> None:
    (clock := tmp_path / "clock").write_text("-1500", "ascii")  # below the hour that certificates allow
    words = p2pchat("0", "--invite", served.peer.invite, "--name", "slow", "--data", str(tmp_path / "slow"))
    async with (
        chatting(served, "zoe") as chat,
        socket(served.url, "zoe", served.tokens["zoe"]) as io,
        running(*altered(changes({}, clock=clock)), *words, home=tmp_path) as slow,
        served.client("zoe") as http,
    ):
        await slow.until("zoe is here")
        await slow.say("half an hour on the way")
        said = await chat.next("message")
        assert said["content"] == "half an hour on the way" and said["came"] > said["timestamp"]
        assert (await io.hear("newMessage"))["came"] == said["came"]
        [row] = [
            row for row in (await http.get("/messages", params={"with": "room"})).json() if row["id"] == said["id"]
        ]
        assert (row["came"], row["timestamp"]) == (said["came"], said["timestamp"])
        answer = await http.post("/messages", json={"to": "room", "content": "at once"})
        [row] = [row for row in (await http.get("/messages")).json() if row["id"] == answer.json()["id"]]
        assert "came" not in row
