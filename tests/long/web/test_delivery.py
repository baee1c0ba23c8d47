"""Delivered means the same before and after a gateway was killed, and for clients that stop reading or are programs."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from p2pchat import TCPPeer
from p2pchat.web import Pace, WebSettings
from tests.deadlines import until
from tests.ports import free_ports
from tests.processes.settings_override import altered, changes
from tests.web.chat_client import Chatter, chatting, connect, drop, opened
from tests.web.conftest import Served
from tests.web.processes import p2pchat, running
from tests.web.socketio_client import polling, socket, talking
from tests.web.test_delivery import WITHIN


@asynccontextmanager
async def stopped_websocket(served: Served, name: str) -> AsyncIterator[Callable[[], object]]:
    async with talking(served, name) as user:
        transport = user.io.eio.ws._response.connection.transport
        transport.pause_reading()
        yield transport.resume_reading


@asynccontextmanager
async def stopped_poller(served: Served, name: str) -> AsyncIterator[Callable[[], object]]:
    """A client that takes no answer to its last poll, and then polls again and answers the ping."""
    async with polling(served, name) as poller, asyncio.TaskGroup() as group:

        async def poll() -> None:
            await poller.until('42["newMessage"')
            await poller.post("3")

        yield lambda: group.create_task(poll())


@pytest.mark.parametrize("stopped", [stopped_websocket, stopped_poller])
@pytest.mark.parametrize("to", ["bob", "ops", "room"])
async def test_a_stopped_client_of_an_active_user_has_neither_taken_nor_read_anything(
    served: Served, stopped: Callable[..., AbstractAsyncContextManager[Callable[[], object]]], to: str
) -> None:
    await served.register("ada", "bob", "cyd")
    ada, bob, cyd = served.peer.hosted
    async with stopped(served, "bob") as go_on, talking(served, "cyd"):
        talk: Any = {"bob": bob.me, "ops": await ada.create_group("ops", [bob.me, cyd.me]), "room": ada.room}[to]
        receipt = await ada.send(talk, "asleep?")
        sign = await ada.send(cyd.me, "somebody is awake") if to == "bob" else receipt
        await sign.read(by="cyd", timeout=WITHIN)
        assert (bob.me in receipt.delivered_to) == (to == "room")
        go_on()
        await receipt.read(by="bob", timeout=WITHIN)


@asynccontextmanager
async def chatting_with(url: str, user: str, query: str = "") -> AsyncIterator[Chatter]:
    async with connect(f"{url}/chat?user={user}{query}", max_queue=None) as websocket:
        yield Chatter(websocket)


AHEAD = 50  # messages on their way to a client


async def test_a_client_of_the_command_line_shows_what_it_took_before_it_ends(serve: Any, tmp_path: Path) -> None:
    """It says that it is connected before it shows what waited; messages come until it ends, and after that too."""
    served = await serve(WebSettings(trust_loopback=True))
    await served.register("ada", "bob")
    ada, bob = served.peer.hosted
    receipts = [await ada.send(bob.me, "waited")]
    command = p2pchat("client", f"{served.ws_url}/chat", "--user", "bob", "--plain")
    async with running(*command, home=tmp_path) as client:
        await client.until("-- connected as bob")
        await client.until("waited")

        async def write() -> None:
            """Write in the client's pace: a client reads its input once it has everything that waits for it."""
            while True:
                receipts.append(await ada.send(bob.me, f"({len(receipts)})"))
                await until(lambda: len(receipts) - len(client.shown) < AHEAD, "the client to show what was written")

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


def asking(http: str) -> httpx.AsyncClient:
    """Return a client of ada."""
    base = f"http://localhost:{http}"
    return httpx.AsyncClient(base_url=base, params={"user": "ada"}, timeout=60, trust_env=False, verify=False)


async def status(http: httpx.AsyncClient, id: str) -> str:
    word: str = (await http.get(f"/messages/{id}/receipt")).json()["status"]
    return word


async def test_what_was_delivered_stays_so_after_a_kill_and_what_waits_is_told_later(tmp_path: Path) -> None:
    """A gateway killed as soon as it has told a writer, twice: it knows the same as the writer afterwards."""
    http, gateway = gateway_command(tmp_path)
    url = f"ws://localhost:{http}"
    async with running(*gateway, home=tmp_path) as office:
        await office.until("the page")
        async with chatting_with(url, "ada", "&events=receipts") as ada:
            taken = await ada.accepted("/dm bob first")
            async with chatting_with(url, "bob") as bob:
                await bob.message()
                assert (await ada.next("delivered"))["id"] == taken
                office.kill()
                await office.end()
    async with running(*gateway, home=tmp_path) as office, asking(http) as asked:
        await office.until("the page")
        assert await status(asked, taken) == "delivered"
        async with chatting_with(url, "ada", "&events=receipts") as ada:
            waits = await ada.accepted("/dm bob second")
            assert await status(asked, waits) == "accepted"
            office.kill()
            await office.end()
    async with running(*gateway, home=tmp_path) as office, asking(http) as asked:
        await office.until("the page")
        assert (await status(asked, taken), await status(asked, waits)) == ("delivered", "accepted")
        async with chatting_with(url, "ada", "&events=receipts") as ada, chatting_with(url, "bob") as bob:
            assert (await bob.message())["id"] == waits, "and what was delivered before is not sent again"
            assert (await ada.next("delivered"))["id"] == waits
            assert await status(asked, waits) == "delivered"
            await bob.say({"type": "read", "id": waits})
            assert [(await ada.next("read"))["id"] for _ in range(2)] == [taken, waits]
            assert not ada.waiting("delivered"), "ada knows that of the first one"


async def read_by_rest(port: str, user: str, id: str) -> None:
    async with asking(port) as http:
        assert (await http.post(f"/messages/{id}/read", params={"user": user})).status_code == 200


async def read_by_lines(port: str, user: str, id: str) -> None:
    async with connect(f"ws://localhost:{port}/lines?user={user}", max_queue=None) as websocket:
        await websocket.send(json.dumps({"do": "read", "id": id, "ref": "done"}))
        while json.loads(await websocket.recv()).get("ref") != "done":
            pass


async def read_by_socketio(port: str, user: str, id: str) -> None:
    async with socket(f"http://localhost:{port}", user, "") as io:
        assert (await io.say("messageAck", {"messageId": id}))["status"] == "ok"


async def test_a_writer_who_was_away_is_told_of_what_was_taken_and_read_just_before_a_kill(tmp_path: Path) -> None:
    """What the writer is owed is stored with the delivery or read itself, and a read that was answered stays so.

    Of each reader the first message is marked, which storage looks up, and of some the newest right after it.
    """
    http, gateway = gateway_command(tmp_path)
    url, readers = f"ws://localhost:{http}", {}
    for number in (0, 2):
        for read in (read_by_rest, read_by_lines, read_by_socketio):
            readers[f"{read.__name__}-{number}"] = (read, number)
    async with running(*gateway, home=tmp_path) as office:
        await office.until("the page")
        async with chatting_with(url, "ada") as ada:
            sent = {name: [await ada.accepted(f"/dm {name} {n}") for n in range(3)] for name in (*readers, "bob")}
        delivered, are_read = list[str](), list[str]()
        async with chatting_with(url, "bob") as bob:
            assert [(await bob.message())["id"] for _ in range(3)] == sent["bob"]
            await (await bob.socket.ping())  # what came before it has been answered
        for name, (read, number) in readers.items():
            await read(http, name, sent[name][0])
            await read(http, name, sent[name][number])
            are_read += sent[name][: number + 1]
        delivered = [*are_read, *sent["bob"]]
        async with asking(http) as asked:
            for id in delivered:
                while await status(asked, id) == "accepted":
                    pass
        office.kill()
        await office.end()
    async with running(*gateway, home=tmp_path) as office:
        await office.until("the page")
        async with asking(http) as asked:
            assert [await status(asked, id) for id in are_read] == ["read"] * len(are_read)
        async with chatting_with(url, "ada") as ada:  # asks for no receipts, and leaves them to the next client
            await ada.accepted("/dm bob something else")
        async with chatting_with(url, "ada", "&events=receipts") as ada:
            for kind, missing in (("delivered", {*delivered}), ("read", {*are_read})):
                while missing:  # an active Socket.IO client may take and read more than it marks
                    missing.discard((await ada.next(kind))["id"])
        async with chatting_with(url, "ada", "&events=receipts") as ada, chatting_with(url, "bob", "&since=") as bob:
            last = await ada.accepted("/dm bob last")
            while (await bob.message())["id"] != last:
                pass
            while (told := await ada.next("delivered"))["id"] != last:
                assert told["id"] not in delivered, "and that it is told once"
            assert not {told["id"] for told in ada.waiting("read")} & {*are_read}


async def kept_receipt_behind_much(serve: Callable[..., Any]) -> tuple[Served, str]:
    """Have bob take a message of ada, who is away, and much be written to her; return the gateway and the message."""
    served: Served = await serve(WebSettings(messages=Pace(1e6, 10**6), written=Pace(1e9, 10**9)))
    await served.register("ada", "bob")
    async with chatting(served, "ada") as ada:
        id = await ada.accepted("/dm bob taken while ada is away")
    async with chatting(served, "bob") as bob, served.client("ada") as http, chatting(served, "cyd") as cyd:
        await bob.message()
        while await status(http, id) != "delivered":
            await asyncio.sleep(0.01)  # poll: nobody hears the event
        for _ in range(300):  # more than fits between the gateway and a client
            await cyd.accepted({"to": "ada", "text": secrets.token_urlsafe(24_000)})
    return served, id


async def test_what_is_delivered_while_a_writer_catches_up_is_told_once(serve: Callable[..., Any]) -> None:
    """The writer's client takes nothing at first, so receipts come live before those that were kept are read."""
    served, kept = await kept_receipt_behind_much(serve)
    async with chatting(served, "bob"), served.client("ada") as http:
        again = await opened(served, "ada", "?events=receipts")
        again.socket.transport.pause_reading()
        live = (await http.post("/messages", json={"to": "bob", "content": "taken meanwhile"})).json()["id"]
        while await status(http, live) != "delivered":
            await asyncio.sleep(0.01)  # poll: the client that hears it does not read
        again.socket.transport.resume_reading()
        assert {(await again.next("delivered"))["id"] for _ in range(2)} == {kept, live}
        last = (await http.post("/messages", json={"to": "bob", "content": "taken after it"})).json()["id"]
        assert (await again.next("delivered"))["id"] == last
        await again.socket.close()


async def test_a_client_that_breaks_while_it_catches_up_leaves_what_was_kept_to_the_next(
    serve: Callable[..., Any],
) -> None:
    served, kept = await kept_receipt_behind_much(serve)
    account = served.account("ada")
    again = await opened(served, "ada", "?events=receipts")
    again.socket.transport.pause_reading()
    async with asyncio.timeout(WITHIN):
        while not account.sessions:
            await asyncio.sleep(0.01)  # poll: nothing reaches the client
        await drop(again)
        while account.sessions:
            await asyncio.sleep(0.01)  # poll
    async with chatting(served, "ada", "?events=receipts") as ada:
        assert (await ada.next("delivered"))["id"] == kept


async def test_a_message_that_came_long_after_it_claims_says_so_at_every_interface(
    serve: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, now = tmp_path / "gate", time.time_ns
    with monkeypatch.context() as patch:  # it founded its network two hours ago: what was written before would be old
        patch.setattr(time, "time_ns", lambda: now() - 7200 * 10**9)
        async with TCPPeer(0, name="gate", data=data):
            pass
    served: Served = await serve(data=data)
    (clock := tmp_path / "clock").write_text("-1500", "ascii")  # below the hour that certificates allow
    invite = await served.peer.make_invite()
    words = p2pchat("0", "--invite", invite, "--name", "slow", "--data", str(tmp_path / "slow"))
    async with (
        chatting(served, "zoe") as chat,
        talking(served, "zoe") as io,
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
