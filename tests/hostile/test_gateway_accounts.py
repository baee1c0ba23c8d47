"""Accounts of a gateway against the others and its operator, with a real server."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from p2pchat import Message, UnknownName
from p2pchat.core.names import base32
from p2pchat.messaging.search_indexer import SearchIndexer
from p2pchat.storage.message_queries import MessageQueries
from p2pchat.web import Pace, WebSettings
from p2pchat.web.account_session import Frame, SendQueue, as_frame
from p2pchat.web.event_socket import EventSocket
from p2pchat.web.rate_limits import ROWS_A_CALL, SITE_PART
from p2pchat.web.session_hub import Envelope
from p2pchat.web.socketio.engine_connection import MAX_POSTED
from tests.deadlines import POLL_EVERY, WAIT, until, within
from tests.web.chat_client import connect
from tests.web.conftest import Served, home, serving
from tests.web.raw_http import ask, request
from tests.web.socketio_client import polling
from tests.web.test_socketio import emits

_ = home  # an autouse fixture


async def test_a_post_beside_one_whose_packets_wait_ends_the_connection() -> None:
    """300 POSTs of 12,500 packets each took 475 MB for hours, also after the client had left."""
    async with serving(WebSettings(token_timeout=60.0, calls=Pace(2.0, 10))) as served:
        await served.register("eve")
        async with polling(served, "eve") as eve:
            first = asyncio.create_task(eve.post(emits(40)))
            async with within(WAIT, "a packet of the first POST"):
                while not await served.peer.history(limit=1):
                    await asyncio.sleep(POLL_EVERY)  # poll: written by another task
            assert await eve.post(emits(1)) == 400
            first.cancel()
            assert await eve.post(emits(1)) == 400


async def test_a_post_has_so_many_packets() -> None:
    async with serving() as served, polling(served) as stranger:
        assert await stranger.post("\x1e".join(["3"] * (MAX_POSTED + 1))) == 400
        assert '"malformed"' in await stranger.until('42["error"')


async def test_a_polling_client_has_one_websocket_which_it_uses_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger with one Engine.IO id opened 270 WebSockets a second, and kept each as long as it answered pings."""
    async with serving() as served, polling(served) as stranger:
        url = served.ws_url + stranger.url.replace("transport=polling", "transport=websocket")
        async with connect(url):
            with pytest.raises(InvalidStatus):
                await connect(url)
        monkeypatch.setattr("p2pchat.web.socketio.socketio_server.UPGRADE_TIMEOUT", 0.2)
        async with within(WAIT, "a place for another, and its end"):
            while True:
                try:
                    async with connect(url) as late:
                        await late.wait_closed()
                    break
                except InvalidStatus:  # the server has not noticed that the first is gone
                    await asyncio.sleep(POLL_EVERY)  # poll
        monkeypatch.setattr("p2pchat.web.socketio.socketio_server.UPGRADE_TIMEOUT", seconds := 2.0)
        over = asyncio.get_running_loop().time() + 1.5 * seconds
        async with connect(url) as second:
            for packet in ("2probe", "5"):
                await second.send(packet)
            while asyncio.get_running_loop().time() < over:  # it is not for those who have changed
                await asyncio.sleep(POLL_EVERY)  # poll: a connection that lives on has no event
                await (await second.ping())


async def test_a_frame_of_marks_stops_nobody() -> None:
    """Their normal form took 12 s of the loop for each frame: as a name, as a search, as a command."""
    marks = "a" + "\u0301\u0316" * 60_000
    async with serving() as served:
        headers = {"Authorization": f"Bearer {await served.register('eve')}"}
        async with (
            connect(f"{served.ws_url}/lines", additional_headers=headers) as lines,
            connect(f"{served.ws_url}/chat", additional_headers=headers) as chat,
        ):
            began = time.thread_time()
            commands = [
                {"do": "search", "words": marks}, {"do": "find", "to": marks}, {"do": "find", "to": "#" + marks},
                {"do": "whois", "user": marks}, {"do": "nick", "name": marks}, {"do": "group", "name": marks},
            ]  # fmt: skip
            for number, command in enumerate(commands):
                await lines.send(json.dumps({**command, "ref": str(number)}, ensure_ascii=False))
            while (line := json.loads(await lines.recv())).get("ref") != str(len(commands) - 1):
                pass
            assert line["event"] == "error"
            for frame in ({"text": "x", "to": marks}, {"text": "x", "group": marks}, {"text": "/" + marks}):
                await chat.send(json.dumps(frame, ensure_ascii=False))
                assert json.loads(await chat.recv())["status"] == "error"
            assert time.thread_time() - began < 2.0


async def test_a_search_takes_no_time_for_what_others_wrote_to_each_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With 30,000 messages of others that had its words a search took 1.8 s, and 0.01 s without: so who asked knew."""
    hits: list[int] = []
    find = SearchIndexer.find

    async def counted(self: SearchIndexer, *asked: Any) -> Any:
        hits.append(len(found := await find(self, *asked) or []))
        return found

    monkeypatch.setattr(SearchIndexer, "find", counted)
    async with serving(data=tmp_path) as served:
        for name in ("ada", "bob", "eve"):
            await served.register(name)
        ada, bob = (served.gateway.accounts.find(name) for name in ("ada", "bob"))
        assert ada is not None and bob is not None
        await ada.user.send_many(ada.user.find(bob.user.me), [f"a secret {number}" for number in range(50)])
        found = []
        for name in ("eve", "bob"):
            async with served.client(name) as http:
                found.append(len((await http.get("/search?q=secret")).json()))
    assert (found, hits[0], sum(hits[1:]) > 0) == ([0, 50], 0, True)


async def test_a_page_of_many_conversations_costs_as_much_as_one_of_few(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who had written 50 messages each to 200 users kept the one reader of all busy for 2 s with each request."""
    rows = 0
    read = MessageQueries._sorted

    def counted(self: MessageQueries, *asked: Any) -> Any:
        nonlocal rows
        rows += len(found := read(self, *asked))
        return found

    monkeypatch.setattr(MessageQueries, "_sorted", counted)
    async with serving(data=tmp_path) as served:
        await served.register("eve")
        eve = served.gateway.accounts.find("eve")
        assert eve is not None
        talks = [eve.user.find((await served.peer.host(f"user of {number}")).me) for number in range(20)]
        for number in range(30):
            await asyncio.gather(*(eve.user.send(talk, str(number)) for talk in talks))
        async with served.client("eve") as http:
            assert len((await http.get("/messages?limit=40")).json()) == 40
        assert rows < 200  # of 600


EVE, ANN = "203.0.113.9", "198.51.100.7"  # the addresses of callers
PROXIED = WebSettings(sign_up="open", trusted_proxies=("127.0.0.1",), token_timeout=60.0)


def from_address(served: Served, name: str, address: str) -> httpx.AsyncClient:
    """Return a client of an account that calls from an address."""
    http = served.client(name)
    http.headers["X-Forwarded-For"] = address
    return http


async def chat_from(served: Served, stack: AsyncExitStack, name: str, address: str) -> ClientConnection:
    """Return a chat of an account that connects from an address."""
    headers = {"Authorization": f"Bearer {served.tokens[name]}", "X-Forwarded-For": address}
    return await stack.enter_async_context(connect(f"{served.ws_url}/chat", additional_headers=headers))


async def test_long_answers_count_where_their_callers_are() -> None:
    """20 accounts of one address read 50,000 rows a second: each had a limit, and all of them none."""
    async with serving(replace(PROXIED, addresses=Pace(0.001, 4))) as served:
        for name in ("eve", "eva", "ann"):
            await served.register(name)
        for number in range(100):
            await served.peer.send(served.peer.room, str(number))
        async with from_address(served, "eve", EVE) as eve, from_address(served, "eva", EVE) as eva:
            statuses = [(await http.get("/messages?limit=100")).status_code for http in (eve, eva, eve, eva)]
        assert statuses == [200, 200, 429, 429]
        async with from_address(served, "ann", ANN) as ann:
            assert (await ann.get("/messages?limit=100")).status_code == 200


async def test_missed_messages_count_where_their_reader_is() -> None:
    """A socket that was opened again and again with `since` had the whole room read without a limit."""
    async with serving(replace(PROXIED, addresses=Pace(0.001, 100))) as served:
        headers = {"Authorization": f"Bearer {await served.register('eve')}", "X-Forwarded-For": EVE}
        posts = [await served.peer.send(served.peer.room, str(number)) for number in range(200)]

        async def replay(since: str) -> None:
            async with connect(f"{served.ws_url}/chat?since={since}", additional_headers=headers) as socket:
                while json.loads(await socket.recv())["type"] != "resumed":
                    pass

        for _ in range(10):
            await replay(posts[-1].id)  # of nothing
        addresses, calls = served.gateway.limits.addresses, 200 / ROWS_A_CALL
        assert addresses.wait(EVE, 50) == 0
        await replay(posts[0].id)
        assert (addresses.wait(EVE, int(40 - calls * SITE_PART)) > 0, addresses.wait(EVE, 36)) == (True, 0)


async def test_who_writes_to_many_sessions_pays_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """20 accounts with 32 sessions each had the gateway write 60,000 frames a second, by 95 messages."""
    monkeypatch.setattr("p2pchat.web.rate_limits.DELIVERIES_A_CALL", 1)
    async with serving(replace(PROXIED, addresses=Pace(0.001, 100))) as served, AsyncExitStack() as stack:
        headers = {"Authorization": f"Bearer {await served.register('eve')}", "X-Forwarded-For": EVE}
        for _ in range(10):
            await stack.enter_async_context(connect(f"{served.ws_url}/chat", additional_headers=headers))
        await until(lambda: served.gateway.hub.count == 10, "all sessions")
        async with from_address(served, "eve", EVE) as eve:
            statuses = [
                (await eve.post("/messages", json={"to": "room", "content": "x"})).status_code for _ in range(25)
            ]
        assert statuses[0] == 201 and statuses[-1] == 429


async def test_an_account_creates_so_many_groups() -> None:
    """12 a second for ever, each kept in memory for ever: 500 MB an hour."""
    async with serving(replace(PROXIED, groups=Pace(0.001, 3))) as served:
        await served.register("eve")
        async with from_address(served, "eve", EVE) as eve:
            statuses = [(await eve.post("/groups", json={"name": f"g{number}"})).status_code for number in range(5)]
        assert statuses == [201, 201, 201, 429, 429]
        headers = {"Authorization": f"Bearer {served.tokens['eve']}", "X-Forwarded-For": EVE}
        async with connect(f"{served.ws_url}/lines", additional_headers=headers) as socket:
            await socket.send(json.dumps({"do": "group", "name": "g9", "ref": "1"}))
            while (line := json.loads(await socket.recv())).get("ref") != "1":
                pass
        assert line["code"] == "too_many"


async def test_a_group_that_is_not_created_takes_none() -> None:
    """A mistyped member, or another limit, took one of the six groups of an hour."""
    settings = replace(PROXIED, groups=Pace(0.001, 1), messages=Pace(0.001, 4))
    async with serving(settings) as served:
        await served.register("eve")
        headers = {"Authorization": f"Bearer {served.tokens['eve']}", "X-Forwarded-For": EVE}
        async with from_address(served, "eve", EVE) as eve:
            wanted = {"name": "g", "members": ["no such#AAAAAAAA"]}
            assert (await eve.post("/groups", json=wanted)).status_code == 404
            async with connect(f"{served.ws_url}/lines", additional_headers=headers) as socket:

                async def group(**fields: object) -> str:
                    await socket.send(json.dumps({"do": "group", "name": "g", "ref": "1", **fields}))
                    while (line := json.loads(await socket.recv())).get("ref") != "1":
                        pass
                    return str(line.get("code", line["event"]))

                assert await group(members=["nobody"]) == "unknown_name"
                assert [await group(), await group()] == ["answer", "too_many"]


async def test_few_requests_of_an_account_wait_for_its_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """50 a second waited behind eight uploads that never end, 14 KiB each, and stayed when their clients had left."""
    monkeypatch.setattr("p2pchat.web.rate_limits.MAX_WAITING", 2)
    async with serving(replace(PROXIED, max_files_of_account=1)) as served:
        token = await served.register("eve")
        headers = (f"Authorization: Bearer {token}", f"X-Forwarded-For: {EVE}", "Content-Length: 1000")
        upload = request("/files?filename=a", *headers, method="POST", host=f"127.0.0.1:{served.port}")
        writers = []
        for _ in range(3):  # one that never ends, and two that wait
            _, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(upload)
            writers.append(writer)
        held = served.gateway.transfers._held
        await until(lambda: [slots.waiting for slots in held.values()] == [2], "two waiting uploads")
        assert (await ask(served.port, upload + bytes(1000))).status == 429
        for writer in writers:
            writer.close()


async def test_sessions_of_a_crowded_network_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 128 accounts, which one address makes in a week, all 4,096 sessions were taken for ever."""
    async with serving(replace(PROXIED, max_sessions=4)) as served, AsyncExitStack() as stack:
        connects = partial(chat_from, served, stack)
        for name in ("eve", "eva", "ann"):
            await served.register(name)
        held = [await connects(name, EVE) for name in ("eve", "eva", "eve", "eve")]
        await until(lambda: served.gateway.hub.count == 4, "all sessions")
        ann = await connects("ann", ANN)
        await held[3].wait_closed()
        assert (held[3].close_code, held[3].close_reason) == (1013, "full")
        await ann.send("hello")
        assert json.loads(await ann.recv())["status"] == "ok"
        again = await connects("eva", EVE)  # its network has most
        await again.wait_closed()
        assert again.close_code == 1013 and served.gateway.hub.count == 4


async def test_a_session_counts_in_the_network_from_which_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks of all sessions were found for each one refused: 50 ms with 4,096 of them."""
    asked = Counter[str]()

    def counted(address: str) -> str:
        asked[address] += 1
        return address.rpartition(".")[0]

    monkeypatch.setattr("p2pchat.web.gateway_state.network_of", counted)
    async with serving(replace(PROXIED, max_sessions=3)) as served, AsyncExitStack() as stack:
        connects = partial(chat_from, served, stack)
        for name in ("eve", "ann"):
            await served.register(name)
        held = [await connects("eve", EVE) for _ in range(3)]
        await until(lambda: served.gateway.hub.count == 3, "all sessions")
        async with from_address(served, "eve", ANN) as eve:
            await eve.get("/users")  # called from elsewhere: her sessions are still where they were
        ann = await connects("ann", ANN)
        await held[2].wait_closed()
        assert held[2].close_reason == "full"
        refused = await connects("eve", EVE)
        await refused.wait_closed()
        assert asked == {EVE: 4, ANN: 1} and ann.close_code is None


async def test_the_description_of_the_api_counts_as_what_it_costs() -> None:
    """95 calls a second by a stranger took 30 to 50% of a core: nothing but calls was counted."""
    async with serving(replace(PROXIED, addresses=Pace(0.001, 6))) as served, served.client() as http:
        http.headers["X-Forwarded-For"] = EVE
        paths = ("/openapi.json", "/openapi.json", "/")
        assert [(await http.get(path)).status_code for path in paths] == [200, 429, 200]


async def test_files_of_all_accounts_of_an_address_are_bounded() -> None:
    """Each of 20 accounts a day had a GiB: the disk was filled up to where files of others are refused, too."""
    async with serving(replace(PROXIED, stored_of_address=Pace(0.001, 1000))) as served:
        statuses = []
        for name, address in (("eve", EVE), ("eva", EVE), ("ann", ANN)):
            await served.register(name)
            async with from_address(served, name, address) as http:
                statuses.append((await http.post("/files?filename=a", content=bytes(600))).status_code)
        assert statuses == [201, 429, 201]


async def test_sessions_of_an_account_share_what_they_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two accounts with 32 sessions each that read slowly took 930 MB, with 230 messages to each other."""
    made: list[str] = []

    def frame(content: Mapping[str, Any]) -> Frame:
        made.append(content["text"])
        return as_frame(content)

    async with serving() as served, AsyncExitStack() as stack:
        for name in ("eve", "eva"):
            await served.register(name)
        headers = {"Authorization": f"Bearer {served.tokens['eva']}"}
        lines = [
            await stack.enter_async_context(connect(f"{served.ws_url}/lines", additional_headers=headers))
            for _ in range(4)
        ]
        for line in lines:
            assert json.loads(await line.recv())["event"] == "listening"
        await live(served, "eva")
        monkeypatch.setattr("p2pchat.web.event_socket.as_frame", frame)
        async with served.client("eve") as eve:
            await eve.post("/messages", json={"to": "eva", "content": "hello"})
        for line in lines:
            while json.loads(await line.recv())["event"] != "message":
                pass
    assert made.count("hello") == 1


@asynccontextmanager
async def reading_nothing(served: Served, name: str) -> AsyncIterator[tuple[socket.socket, SendQueue]]:
    """A client of `/lines` that reads nothing: its socket, and the queue of its session."""
    token = await served.register(name)
    account = served.gateway.accounts.find(name)
    assert account is not None
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", served.port))
        upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
        key = f"Sec-WebSocket-Key: {b64encode(bytes(16)).decode()}"
        headers = (*upgrade, key, f"Authorization: Bearer {token}")
        raw.send(request("/lines", *headers, host=f"127.0.0.1:{served.port}"))
        await until(lambda: account.sessions, "the session")
        [client] = await live(served, name)
        yield raw, client.queue


async def live(served: Served, name: str) -> list[EventSocket]:
    """Return the sessions of an account once they are sent what comes: what came before is sent to each by itself."""
    sessions = served.gateway.hub.sessions_of(served.account(name))
    clients: list[EventSocket] = [session.deliver.__self__ for session in sessions]  # type: ignore[attr-defined]
    await until(lambda: all(client.catch_up.is_live for client in clients), "sessions that have caught up")
    return clients


async def test_little_waits_in_the_system_for_a_client_that_reads_slowly() -> None:
    """Each socket took 4 MiB of the kernel, which no limit counted: 64 of them 245 MB."""
    async with serving(WebSettings(token_timeout=60.0)) as served, reading_nothing(served, "eva") as (_, queue):
        for number in range(40):
            await served.peer.send("eva", f"{number}" + "x" * 32_000)
        await until(lambda: len(queue._frames) > 20, "frames that wait for the client")


async def test_nobody_waits_for_a_client_that_does_not_take_the_answer_to_a_change_of_its_name() -> None:
    """Until it took it nobody could sign up, rename or delete an account, or write to a new name."""
    settings = WebSettings(token_timeout=60.0, outbox_bytes=100_000)
    async with serving(settings) as served, reading_nothing(served, "eve") as (raw, queue):
        eve, hub = served.gateway.accounts.find("eve"), served.gateway.hub
        assert eve is not None
        came: list[Envelope] = []
        hub.observers[Message] = came.append
        sent = 0
        while queue._has_room():
            await served.peer.send("eve", "x" * 32_000)
            sent += 1
            await until(lambda sent=sent: len(came) == sent, "the message")  # type: ignore[misc]
        nick = json.dumps({"do": "nick", "name": "eve"}).encode()
        raw.send(bytes([0x81, 0x80 + len(nick)]) + bytes(4) + nick)
        await until(served.gateway.write_locks[eve.key].locked, "the change of the name")
        async with within(10.0, "another account"):
            await served.register("ann")
        assert served.gateway.write_locks[eve.key].locked()


async def test_a_label_is_looked_up_among_the_names_like_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ids of all users were spelled for each call with a label: 45 ms with 9,000 of them, 100 calls a second."""
    async with serving(PROXIED) as served:
        for number in range(20):
            await served.register(f"user{number}")
        ann, spelled = served.gateway.accounts.find("user7"), list[str]()
        assert ann is not None
        label = f"user7#{ann.id[:8]}"

        def spell(id: str) -> str:
            spelled.append(id)
            return base32(id)

        monkeypatch.setattr("p2pchat.messaging.users.base32", spell)
        assert served.peer.directory.find(label).key == ann.key
        with pytest.raises(UnknownName):
            served.peer.directory.find("user8#AAAAAAAA")
        assert len(spelled) < 10


async def test_metrics_count_as_the_users_they_look_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take 28 ms with 9,000 users: two cores for what one address may call."""
    monkeypatch.setattr("p2pchat.web.rest.USERS_A_CALL", 1)
    async with serving(replace(PROXIED, calls=Pace(0.001, 8))) as served:
        for name in ("eve", "eva", "ann"):
            await served.register(name)
        async with from_address(served, "eve", EVE) as eve:
            assert [(await eve.get("/metrics")).status_code for _ in range(3)] == [200, 200, 429]


async def test_who_has_a_link_of_an_account_takes_none_of_its_calls() -> None:
    """Calls with a link counted as calls of the account, from where the link was used."""
    async with serving(replace(PROXIED, calls=Pace(0.001, 10), max_files_of_account=1)) as served:
        await served.register("ann")
        async with from_address(served, "ann", ANN) as ann, served.client() as eve:
            eve.headers["X-Forwarded-For"] = EVE
            file = (await ann.post("/files?filename=a", content=b"a")).json()["id"]
            id = (await ann.post("/messages", json={"to": "room", "files": [file]})).json()["id"]
            path = (await ann.post(f"/files/{id}/0/link")).json()["path"]
            statuses = [(await eve.get(f"/{path}")).status_code for _ in range(11)]
            assert statuses == [200] * 10 + [429]
            assert (await ann.get(f"/files/{id}/0")).status_code == 200
        account = served.gateway.accounts.find("ann")
        assert account is not None and served.gateway.limits.sites[account.key] == ANN


async def test_an_error_about_half_a_character_can_be_sent() -> None:
    """The session ended with it, and the operator's log got twenty lines each time."""
    async with serving() as served:
        headers = {"Authorization": f"Bearer {await served.register('eve')}"}
        async with connect(f"{served.ws_url}/chat", additional_headers=headers) as line:
            await line.send('{"text": "/\\ud800"}')
            assert json.loads(await line.recv())["text"].startswith("there is no command /?: ")
