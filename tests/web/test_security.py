"""Requests that no honest client sends are refused, all with the same form of error."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from fastapi import FastAPI, Request

from p2pchat import TCPPeer
from p2pchat.cli.http_server import make_server, wait_until_started
from p2pchat.web import Pace, WebSettings, create_app
from p2pchat.web.error_responses import Forbidden
from p2pchat.web.security import SECURITY_HEADERS, address_of
from p2pchat.web.sign_in import CurrentAccount
from tests.web.chat_client import connect, opened
from tests.web.conftest import Served, serving
from tests.web.raw_http import UPGRADE, Answer, ask, read_answer, request
from tests.web.socketio_client import talking
from tests.web.test_event_socket import calling

QUICK = WebSettings(
    body_timeout=0.2, max_body_bytes=2000, max_header_bytes=2000, trust_loopback=True, strangers=Pace(0.001, 5)
)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def door() -> AsyncIterator[Served]:
    async with serving(QUICK) as served:
        yield served


def asks_who(app: FastAPI) -> None:
    """Add calls that need an account to an application."""

    async def whoami(account: CurrentAccount) -> str:
        return account.name

    async def address(request: Request) -> str:
        return address_of(request)

    async def broken() -> None:
        raise KeyError("swordfish")

    for call in (whoami, address, broken):
        app.get(f"/{call.__name__}")(call)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def asked() -> AsyncIterator[Served]:
    async with serving(WebSettings(trust_loopback=True), prepare=asks_who) as served:
        yield served


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def sent(served: Served, target: str, *headers: str, **words: Any) -> Answer:
    words.setdefault("host", f"127.0.0.1:{served.port}")
    return await ask(served.port, request(target, *headers, **words))


async def signs_up(served: Served, name: str, *headers: str, **words: Any) -> Answer:
    return await sent(served, "/accounts", *headers, method="POST", body={"name": name}, **words)


# ---- paths


@pytest.mark.parametrize(
    "target",
    [
        "//healthz", "/a//healthz", "/../healthz", "/a/../healthz", "/./healthz", "/a/..", "/%2e%2e/healthz",
        "/a/%2E./healthz", "/a%2fhealthz", "/a%5chealthz", "/a\\healthz", "/healthz%00", "/healthz%0d%0a", "/healthz;x",
        "/%zz", "*", "healthz", "http://evil.example/healthz", "https://127.0.0.1/healthz",
    ],
)  # fmt: skip
async def test_an_ambiguous_path_is_refused(door: Served, target: str) -> None:
    answer = await sent(door, target)
    assert answer.status == 400
    if answer.headers.get("content-type") == "application/json":  # otherwise the server itself refused it
        assert answer.code == "path"


async def test_an_encoded_percent_sign_is_a_valid_path(door: Served) -> None:
    assert (await sent(door, "/nothing/100%25")).status == 404


# ---- hosts


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:PORT", "127.0.0.1", "127.0.0.1:1", "127.0.0.2:PORT", "127.1:PORT",
        "2130706433:PORT", "0x7f.1:PORT", "[::1]:PORT", "localhost.:PORT", "localhost", "localhost.evil.example:PORT",
        "a@127.0.0.1:PORT",
        "127.0.0.1:PORT@evil.example", "127.0.0.1:PORT/", "127.0.0.1:0PORT1", "", "[::ffff:127.0.0.1]:PORT",
        "0.0.0.0:PORT",
    ],
)  # fmt: skip
async def test_a_foreign_host_name_that_resolves_here_is_refused(door: Served, host: str) -> None:
    """DNS rebinding: the browser sends the other site's name, whatever address that resolves to now."""
    answer = await sent(door, "/healthz", host=host.replace("PORT", str(door.port)))
    assert answer.status in (400, 421)
    if answer.headers.get("content-type") == "application/json":
        assert answer.code == "host"


async def test_two_hosts_or_none_are_refused(door: Served) -> None:
    mine = f"127.0.0.1:{door.port}"
    assert (await sent(door, "/healthz", f"Host: {mine}")).status == 400
    assert (await sent(door, "/healthz", host=None)).status == 400
    old = await ask(door.port, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert (old.status, old.code) == (400, "host")


async def test_the_address_itself_and_localhost_are_allowed(door: Served) -> None:
    for host in (f"127.0.0.1:{door.port}", f"localhost:{door.port}", f"LocalHost:{door.port}"):
        assert (await sent(door, "/healthz", host=host)).status == 200


# ---- origins


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example", "null", "http://localhost:PORT", "https://127.0.0.1:PORT", "http://127.0.0.1",
        "http://127.0.0.1:PORT.evil.example", "http://127.0.0.1:PORT/", "http://a@127.0.0.1:PORT", "file://", "",
        "http://127.0.0.1:PORT http://evil.example",
    ],
)  # fmt: skip
async def test_a_page_of_another_site_can_change_nothing_and_open_no_socket(door: Served, origin: str) -> None:
    header = f"Origin: {origin}".replace("PORT", str(door.port))
    assert (await signs_up(door, "eve", header)).code == "origin"
    assert (await sent(door, "/messages", header)).code == "origin"
    refused = await sent(door, "/chat", header, *UPGRADE)
    assert (refused.status, refused.code) == (403, "origin")
    assert door.gateway.accounts.find("eve") is None


async def test_two_origins_are_refused(door: Served) -> None:
    mine = f"Origin: http://127.0.0.1:{door.port}"
    assert (await signs_up(door, "eve", mine, "Origin: http://evil.example")).code == "headers"


async def test_a_cross_site_request_without_an_origin_is_refused(door: Served) -> None:
    for site in ("cross-site", "same-site", "anything"):
        for mode in ("Sec-Fetch-Mode: no-cors", "Sec-Fetch-Mode: navigate"):
            image = await sent(door, "/readyz?as=eve", f"Sec-Fetch-Site: {site}", mode, "Sec-Fetch-Dest: image")
            assert image.code == "origin"
        assert (await signs_up(door, "eve", f"Sec-Fetch-Site: {site}", "Sec-Fetch-Mode: navigate")).code == "origin"
    link = await sent(
        door, "/readyz", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"
    )
    assert link.status == 200  # the user followed a link


async def test_the_gateways_own_page_may_sign_up(door: Served) -> None:
    answer = await signs_up(door, "page", f"Origin: http://127.0.0.1:{door.port}", "Sec-Fetch-Site: same-origin")
    assert answer.status == 201


# ---- headers and bodies


async def test_repeated_headers_are_refused(door: Served) -> None:
    for header in ("Authorization: Bearer a", "Content-Type: text/plain"):
        assert (await sent(door, "/healthz", header, header)).code == "headers"
    smuggled = await sent(door, "/accounts", "Content-Length: 3", "Content-Length: 30", method="POST")
    assert smuggled.status == 400


async def test_headers_and_bodies_above_the_limit_are_refused_before_they_are_read(door: Served) -> None:
    assert (await sent(door, "/healthz", "X-Long: " + "a" * 2000)).status == 431
    announced = await sent(door, "/accounts", "Content-Length: 2001", method="POST")
    assert (announced.status, announced.code) == (413, "too_large")
    chunk = b"7d0\r\n" + b"a" * 2000 + b"\r\n"
    head = request("/accounts", "Transfer-Encoding: chunked", method="POST", host=f"127.0.0.1:{door.port}")
    assert (await ask(door.port, head + chunk * 2)).status == 413
    fits = await ask(door.port, head + chunk + b"0\r\n\r\n")
    assert fits.status == 422


@pytest.mark.parametrize("target", ["/accounts", "/v1/messages", "/files?filename=a", "/v1/files?filename=a"])
async def test_an_encoded_body_is_refused_and_not_stored_as_it_is(door: Served, target: str) -> None:
    """A file that was sent with gzip was stored as gzip, under the name and the type of what was in it."""
    head = ("Content-Length: 3", "Content-Encoding: gzip")
    answer = await sent(door, target, *head, method="POST")
    assert (answer.status, json.loads(answer.body)["text"]) == (
        415, "bodies are stored and read as they come: send it without Content-Encoding",
    )  # fmt: skip
    assert (await sent(door, target, "Content-Length: 0", "Content-Encoding: Identity", method="POST")).status != 415


async def test_a_slow_body_is_refused(door: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.write(request("/accounts", "Content-Length: 100", method="POST", host=f"127.0.0.1:{door.port}") + b"{")
    answer = await read_answer(reader)
    assert (answer.status, answer.code) == (408, "slow")
    assert await reader.read() == b""  # the connection was closed
    writer.close()


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"name": 1}', b'{"name": "a", "token": "b"}', b"\xff", b"[" * 1500]
)
async def test_malformed_sign_up_bodies_get_the_same_error_form(door: Served, body: bytes) -> None:
    head = request(
        "/accounts", "Content-Type: application/json", f"Content-Length: {len(body)}",
        method="POST", host=f"127.0.0.1:{door.port}",
    )  # fmt: skip
    answer = await ask(door.port, head + body)
    assert answer.status in (400, 422) and answer.code == "malformed"


@asynccontextmanager
async def commanded(
    app: FastAPI, settings: WebSettings, at: tuple[str, int] = ("127.0.0.1", 0), **words: Any
) -> AsyncIterator[tuple[uvicorn.Server, int]]:
    """Serve an application as the command does; yield the server and its port."""
    with socket.create_server(at, **words) as listener:
        server = make_server(app, settings)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        await wait_until_started(server, task)
        try:
            yield server, listener.getsockname()[1]
        finally:
            server.should_exit = server.force_exit = True
            await task


@asynccontextmanager
async def by_the_command() -> AsyncIterator[int]:
    """Serve a gateway as the command does; yield the port."""
    async with TCPPeer(0, name="gate", db="memory://") as peer:
        settings = WebSettings(trust_loopback=True)
        app = create_app(peer, settings)
        async with commanded(app, settings) as (_, port):
            try:
                yield port
            finally:
                await app.state.gateway.aclose()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="IPv6 sockets take no IPv4 here")
@pytest.mark.parametrize("proxy", ["127.0.0.1", "127.0.0.0/8", "::ffff:127.0.0.1", "::ffff:127.0.0.0/104"])
async def test_a_proxy_is_trusted_however_its_address_is_written(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """On a socket for both kinds of addresses it comes from ::ffff:127.0.0.1."""
    monkeypatch.setattr("p2pchat.web.socketio.socketio_server.MAX_UNREGISTERED_OF_ADDRESS", 1)
    async with TCPPeer(0, name="gate", db="memory://") as peer:
        settings = WebSettings(trusted_proxies=(proxy,))
        app = create_app(peer, settings)
        dual = {"family": socket.AF_INET6, "dualstack_ipv6": True}
        async with commanded(app, settings, ("::", 0), **dual) as (_, port):
            found = list[int]()
            for address in ("203.0.113.9", "203.0.113.9", "203.0.113.8"):
                call = request(
                    "/socket.io/?EIO=4&transport=polling", f"X-Forwarded-For: {address}", host=f"127.0.0.1:{port}"
                )
                found.append((await ask(port, call)).status)
        await app.state.gateway.aclose()
    assert found == [200, 401, 200]


@pytest.mark.parametrize(("proxies", "found"), [(("10.0.0.1",), [200, 401, 200]), (("*",), [200, 401, 200]), ((), [])])
async def test_callers_behind_a_unix_socket_are_told_apart_by_the_proxys_header(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, proxies: tuple[str, ...], found: list[int]
) -> None:
    """All of them had no address, so one took the places of all others. Without a trusted proxy it is still so."""
    if sys.platform == "win32":
        pytest.skip("no Unix sockets here")
    monkeypatch.setattr("p2pchat.web.socketio.socketio_server.MAX_UNREGISTERED_OF_ADDRESS", 1)
    async with TCPPeer(0, name="gate", db="memory://") as peer:
        settings = WebSettings(trusted_proxies=proxies, origins=("http://chat.example.org",))
        app = create_app(peer, settings)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path := str(tmp_path / "gate.sock"))
            server = make_server(app, settings)
            task = asyncio.create_task(server.serve(sockets=[listener]))
            await wait_until_started(server, task)
            statuses = []
            for address in ("203.0.113.9", "203.0.113.9", "203.0.113.8"):
                reader, writer = await asyncio.open_unix_connection(path)
                call = request(
                    "/socket.io/?EIO=4&transport=polling", f"X-Forwarded-For: {address}", host="chat.example.org"
                )
                writer.write(call)
                statuses.append((await read_answer(reader)).status)
                writer.close()
            server.should_exit = server.force_exit = True
            await task
        await app.state.gateway.aclose()
    assert statuses == (found or [200, 401, 401])


async def test_what_clients_send_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """A stranger wrote 470 bytes to the log with each WebSocket, as often as it liked."""
    frame = b"\x81\x81\0\0\0\0\xff"  # a text that is no UTF-8
    async with by_the_command() as port:
        chat, other = (request(path, *UPGRADE, host=f"127.0.0.1:{port}") for path in ("/chat?user=eve", "/other"))
        statuses = [(await ask(port, data)).status for data in (b"nonsense\r\n\r\n", other)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(chat)
        assert (await reader.readline()).startswith(b"HTTP/1.1 101")
        writer.write(frame)
        while await reader.read(1024):
            pass
        writer.close()
    assert (statuses, [record.getMessage() for record in caplog.records]) == ([400, 403], [])


async def test_endless_fragments_close_the_socket() -> None:
    async with by_the_command() as port:
        async with connect(f"ws://127.0.0.1:{port}/chat?user=eve") as socket:
            socket.transport.write(b"\x01\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 3000)  # a text without an end
            async with asyncio.timeout(60):
                await socket.wait_closed()
            assert socket.close_code == 1009


async def test_error_answers_do_not_repeat_what_was_sent(door: Served) -> None:
    answer = await sent(door, "/accounts", method="POST", body={"name": {"secret": "swordfish"}})
    assert answer.status == 422 and b"swordfish" not in answer.body


# ---- identification


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Basic YTpi", "bearer\tx", "Token x", "Bearer " + "x" * 500])
async def test_a_wrong_token_is_refused_even_where_names_are_trusted(asked: Served, header: str) -> None:
    answer = await sent(asked, "/whoami?as=zoe", f"Authorization: {header}")
    assert (answer.status, answer.code) == (401, "unauthorized")
    assert asked.gateway.accounts.find("zoe") is None


async def test_a_name_is_trusted_only_locally_and_not_from_other_sites(asked: Served) -> None:
    assert (await sent(asked, "/whoami?as=cyd")).body == b'"cyd"'
    for header in (
        "X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1", "X-Real-IP: ::1", "Sec-Fetch-Site: bad",
        "Via: 1.1 proxy", "X-Forwarded-Proto: https", "CF-Connecting-IP: 203.0.113.9",
    ):  # fmt: skip
        assert (await sent(asked, "/whoami?as=dan", header)).status in (401, 403)
    assert asked.gateway.accounts.find("dan") is None


async def test_an_unknown_proxy_is_not_trusted() -> None:
    for settings, believed in (
        (WebSettings(trust_loopback=True), False),
        (WebSettings(trust_loopback=True, trusted_proxies=("10.0.0.1",)), False),
        (WebSettings(trust_loopback=True, trusted_proxies=("127.0.0.1",)), True),
    ):
        async with serving(settings, prepare=asks_who) as served:
            answer = await sent(served, "/address", "X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: http")
            assert answer.body == (b'"203.0.113.9"' if believed else b'"127.0.0.1"')
            assert (await sent(served, "/whoami?as=zoe", "X-Forwarded-For: 203.0.113.9")).status == 401


async def test_docs_operations_shows_how_to_detect_a_proxy_without_headers(door: Served) -> None:
    def probe(*headers: str) -> bytes:
        return request("/accounts", *headers, method="POST", body={"name": ""}, host=f"127.0.0.1:{door.port}")

    assert (await ask(door.port, probe())).code == "malformed"  # it could have signed up
    assert (await ask(door.port, probe("X-Forwarded-For: 203.0.113.9"))).code == "sign_up_closed"


async def test_guessing_tokens_is_rate_limited() -> None:
    async with serving(QUICK, prepare=asks_who) as served:
        answers = [await sent(served, "/whoami", f"Authorization: Bearer {n}") for n in range(7)]
        assert [answer.status for answer in answers] == [401] * 5 + [429] * 2
        assert int(answers[-1].headers["retry-after"]) > 100
        token = await served.register("ada")  # a valid token works all the same
        assert (await sent(served, "/whoami", f"Authorization: Bearer {token}")).status == 200


async def test_a_flood_by_one_account_is_refused_and_others_are_served() -> None:
    async with serving(WebSettings(calls=Pace(0.001, 10)), prepare=asks_who) as served:
        loud, quiet = await served.register("loud"), await served.register("quiet")
        statuses = [(await sent(served, "/whoami", f"Authorization: Bearer {loud}")).status for _ in range(15)]
        assert statuses == [200] * 10 + [429] * 5
        assert (await sent(served, "/whoami", f"Authorization: Bearer {quiet}")).status == 200


async def test_a_flood_on_a_socket_is_read_slowly_and_others_are_served() -> None:
    async with serving(WebSettings(messages=Pace(0.001, 10), outbox_frames=1000)) as served:
        loud, quiet = await served.register("loud"), await served.register("quiet")
        url = f"{served.ws_url}/chat"
        headers = {"Authorization": f"Bearer {loud}"}
        async with connect(url, additional_headers=headers, close_timeout=0.1) as flood:
            for number in range(500):
                await flood.send(f"buy {number}")
            async with connect(url, additional_headers={"Authorization": f"Bearer {quiet}"}) as calm:
                for number in range(5):
                    await calm.send(json.dumps({"text": f"hello {number}", "ref": number}))
                    answer: dict[str, Any] = {}
                    while answer.get("ref") != number:
                        answer = json.loads(await calm.recv())
                    assert answer["status"] == "ok"
        texts = [post.text for post in await served.account("quiet").user.history("room")]
        assert sum(text.startswith("buy") for text in texts) <= 10
        assert sum(text.startswith("hello") for text in texts) == 5


async def test_bytes_of_an_account_are_limited_wherever_it_writes() -> None:
    async with serving(WebSettings(written=Pace(0.001, 4000))) as served:
        await served.register("rest", "lines", "socketio", "chat")
        text = {"to": "room", "content": "x" * 3000}
        async with served.client("rest") as http:
            answers = [await http.post("/messages", json=text) for _ in range(2)]
            assert [answer.status_code for answer in answers] == [201, 429]
            assert answers[1].json()["code"] == "too_many" and int(answers[1].headers["Retry-After"]) > 60
        async with calling(served, "lines") as lines:
            for ref in ("a", "b"):
                await lines.say(do="send", text=text["content"], ref=ref)
            refused = await lines.next("error", ref="b")
            assert refused["text"].startswith("you have written too many bytes: try again in")
        async with talking(served, "socketio") as client:
            said = [await client.say("groupMessage", text) for _ in range(2)]
            assert [answer["status"] for answer in said] == ["ok", "error"] and said[1]["code"] == "too_many"
        chat = await opened(served, "chat", close_timeout=0.1)
        async with chat.socket:
            await chat.accepted(text["content"])
            await chat.say(text["content"])
        account = served.account("chat")
        assert len([post for post in await account.user.history("room") if post.text == text["content"]]) == 4
        assert b'p2pchat_web_refused_total{code="too_many"} 3.0' in served.gateway.metrics.text()[0]


async def test_many_rows_count_as_many_calls() -> None:
    """A request for all users or a long history occupies the loop as long as many calls do."""
    async with serving(WebSettings(calls=Pace(0.001, 8))) as served:
        for number in range(100):
            await served.peer.host(f"user{number}")
        loud, quiet = await served.register("loud"), await served.register("quiet")
        statuses = [(await sent(served, "/users", f"Authorization: Bearer {loud}")).status for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        assert (await sent(served, "/users", f"Authorization: Bearer {quiet}")).status == 200


async def test_an_account_revoked_during_sign_in_gets_no_session() -> None:
    async with serving() as served:
        await served.register("eve")
        account = await served.gateway.accounts.revoke("eve")
        assert account is not None
        with pytest.raises(Forbidden):
            served.gateway.hub.open(account, lambda told: None, "chat")


@pytest.mark.parametrize("path", ["/chat", "/lines"])
async def test_a_lone_surrogate_as_ref_is_refused_and_the_socket_lives_on(path: str) -> None:
    """JSON can contain it, but no frame can carry it back."""
    async with serving() as served:
        headers = {"Authorization": f"Bearer {await served.register('ada')}"}
        async with connect(f"{served.ws_url}{path}", additional_headers=headers) as socket, asyncio.timeout(60):
            await socket.send('{"do":"send","text":"a","ref":"\\ud800"}')
            while "`ref` must be a " not in await socket.recv():
                pass
            await socket.send('{"do":"who","text":"a","ref":"9"}')
            while json.loads(await socket.recv()).get("ref") != "9":
                pass


async def test_a_flood_of_commands_is_read_at_the_allowed_rate() -> None:
    async with serving(WebSettings(calls=Pace(0.001, 10))) as served:
        headers = {"Authorization": f"Bearer {await served.register('loud')}"}
        async with connect(f"{served.ws_url}/lines", additional_headers=headers, close_timeout=0.1) as flood:
            for _ in range(500):
                await flood.send("x")
            quiet = await served.register("quiet")
            for _ in range(3):
                assert (await sent(served, "/users", f"Authorization: Bearer {quiet}")).status == 200
            lines = []
            with suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    while True:
                        lines.append(json.loads(await flood.recv()))
        assert sum(line["event"] == "error" for line in lines) <= 10


# ---- what goes out


async def test_every_answer_has_the_security_headers(asked: Served) -> None:
    for target, status in (("/healthz", 200), ("/nothing", 404), ("//", 400), ("/whoami", 401), ("/broken", 500)):
        answer = await sent(asked, target)
        assert answer.status == status
        for name, value in SECURITY_HEADERS.items():
            assert answer.headers[name.lower()] == value
        assert answer.headers["cache-control"] == "no-store" and "server" not in answer.headers


@pytest.mark.parametrize(
    ("target", "header", "status"),
    [
        ("/chat", "Origin: http://evil.example", 403), ("/chat", "Authorization: Bearer wrong", 401),
        ("/lines", "Authorization: Basic eA==", 401), ("/nothing", "A: b", 403),
        ("/socket.io/?transport=websocket&EIO=3", "A: b", 403),
    ],
)  # fmt: skip
async def test_every_refused_upgrade_has_the_security_headers(
    asked: Served, target: str, header: str, status: int
) -> None:
    answer = await sent(asked, target, header, *UPGRADE)
    assert answer.status == status and answer.code
    assert {name: answer.headers.get(name.lower()) for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert answer.headers["cache-control"] == "no-store"


async def test_an_internal_error_is_answered_without_its_text(asked: Served) -> None:
    answer = await sent(asked, "/broken")
    assert answer.code == "failed" and b"swordfish" not in answer.body
