"""A program that has users of its own: it says at every door who a caller is, and nothing else does."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import HTTPConnection
from websockets.exceptions import ConnectionClosed

from p2pchat import TCPPeer
from p2pchat.web import Caller, Pace, WebSettings, create_app
from p2pchat.web.cluster.cluster import Cluster
from tests.web.chat_client import connect
from tests.web.conftest import Served, serving
from tests.web.raw_http import Answer, ask, request
from tests.web.socketio_client import ENGINE, Poller

Headers = dict[str, str]
PATIENCE = 60.0  # seconds


class Program:
    """The sessions of a program, by cookie; `ask` is its function.

    Attributes:
        calls: How often it was asked.
        fault: What it does instead of an answer.
    """

    def __init__(self) -> None:
        self.sessions = {name: Caller(name) for name in ("ada", "bob")}
        self.calls = 0
        self.fault: Callable[[], Any] | None = None

    def ask(self, connection: HTTPConnection) -> Caller | None:
        self.calls += 1
        if self.fault is not None:
            found: Caller | None = self.fault()
            return found
        return self.sessions.get(connection.cookies.get("session", ""))

    async def ask_async(self, connection: HTTPConnection) -> Caller | None:
        await asyncio.sleep(0)
        return self.ask(connection)


def of(name: str) -> Headers:
    return {"Cookie": f"session={name}"}


@asynccontextmanager
async def owned(program: Program, settings: WebSettings | None = None) -> AsyncIterator[Served]:
    async with serving(settings, authenticate=program.ask_async) as served:
        yield served


# ---- doors: each returns whom it took a caller for, or the code of its refusal


async def called(served: Served, method: str, path: str, headers: Headers, **words: Any) -> httpx.Response:
    async with served.client() as http:
        return await http.request(method, path, headers=headers, **words)


def code_of(answer: httpx.Response) -> str:
    return str(answer.json()["code"])


async def by_rest(served: Served, headers: Headers) -> str:
    answer = await called(served, "GET", "/v1/conversations", headers)
    return who(served) if answer.status_code == 200 else code_of(answer)


async def by_command(served: Served, headers: Headers) -> str:
    answer = await called(served, "POST", "/v1/do", headers, json={"do": "list"})
    return who(served) if answer.status_code == 200 else code_of(answer)


async def by_upload(served: Served, headers: Headers) -> str:
    answer = await called(served, "POST", "/v1/files?filename=a", headers, content=b"x")
    return who(served) if answer.status_code == 201 else code_of(answer)


async def by_page(served: Served, headers: Headers) -> str:
    answer = await called(served, "GET", "/", headers)
    if answer.status_code != 200:
        return code_of(answer)
    assert 'data-sign-up="own"' in answer.text
    return who(served)


async def by_events(served: Served, headers: Headers) -> str:
    async with served.client() as http, http.stream("GET", "/v1/events", headers=headers) as answer:
        if answer.status_code == 200:
            return who(served)
        await answer.aread()
        return code_of(answer)


async def by_socket(served: Served, path: str, headers: Headers) -> str:
    async with connect(f"{served.ws_url}{path}", additional_headers=headers) as socket:
        async with asyncio.timeout(PATIENCE):
            first = json.loads(await socket.recv())
            if first.get("event", first.get("type")) in ("listening", "resumed"):
                return who(served)
            await socket.wait_closed()
        assert (socket.close_code, socket.close_reason) == (1008, first["code"])
        return str(first["code"])


async def by_chat(served: Served, headers: Headers) -> str:
    return await by_socket(served, "/chat?since=", headers)


async def by_lines(served: Served, headers: Headers) -> str:
    return await by_socket(served, "/lines", headers)


async def by_socketio(served: Served, headers: Headers) -> str:
    async with served.client() as http:
        http.headers.update(headers)
        opened = await http.get(f"{ENGINE}polling")
        if opened.status_code != 200:
            return code_of(opened)
        poller = Poller(http)
        packets = await poller.come('420["register",{}]')
        return str(next(json.loads(one[3:])[0]["userId"] for one in packets if one.startswith("430")))


def who(served: Served) -> str:
    """Return the only account that a gateway knows."""
    [account] = served.gateway.accounts.list()
    return account.name


DOORS = {
    "REST": by_rest, "a command": by_command, "an upload": by_upload, "the page": by_page,
    "/v1/events": by_events, "/chat": by_chat, "/lines": by_lines, "Socket.IO": by_socketio,
}  # fmt: skip
at_every_door = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
Door = Callable[[Served, Headers], Awaitable[str]]


@at_every_door
async def test_the_program_says_who_a_caller_is_and_its_account_is_made_at_first_sight(door: Door) -> None:
    program = Program()
    async with owned(program) as served:
        assert await door(served, of("ada")) == "ada"
        assert program.calls == 1 or (door is by_socketio and program.calls > 2)
        assert await door(served, of("ada")) == "ada"


@at_every_door
async def test_nobody_is_refused(door: Door) -> None:
    program = Program()
    async with owned(program) as served:
        for headers in ({}, of("eve"), of("")):
            assert await door(served, headers) == "unauthorized"
        assert served.gateway.accounts.list() == []


def fails() -> Any:
    raise KeyError("no database")


@at_every_door
@pytest.mark.parametrize("fault", [fails, lambda: True, lambda: "ada"], ids=["raises", "True", "a text"])
async def test_a_function_that_fails_makes_nobody_signed_in(door: Door, fault: Callable[[], Any]) -> None:
    program = Program()
    async with owned(program) as served:
        assert await door(served, of("ada")) == "ada"
        program.fault = fault
        assert await door(served, of("ada")) == "authentication"
        program.fault = None
        assert await door(served, of("ada")) == "ada"


@at_every_door
@pytest.mark.parametrize("is_async", [True, False])
async def test_a_function_that_does_not_return_is_given_up(door: Door, is_async: bool) -> None:
    end = asyncio.Event()

    async def hang(connection: HTTPConnection) -> Caller | None:
        await end.wait()
        return None

    def block(connection: HTTPConnection) -> Caller | None:
        time.sleep(0.1)
        return Caller("ada")

    settings = WebSettings(token_timeout=0.01)
    async with serving(settings, authenticate=hang if is_async else block) as served:
        assert await door(served, of("ada")) == "authentication"


async def test_a_function_may_be_no_coroutine() -> None:
    async with serving(authenticate=Program().ask) as served:
        assert await by_rest(served, of("ada")) == "ada"


# ---- open connections


@asynccontextmanager
async def staying(served: Served, name: str) -> AsyncIterator[list[asyncio.Task[str]]]:
    """Open a connection of each kind; yield what ends with them and says how."""

    async def socket_ends(socket: Any) -> str:
        async with asyncio.timeout(PATIENCE):
            await socket.wait_closed()
        return f"{socket.close_code} {socket.close_reason}"

    async def polling_ends(poller: Poller) -> str:
        while await poller.poll():
            await poller.post("3")
        return "closed"

    async def stream_ends(stream: httpx.Response) -> str:
        async for _ in stream.aiter_raw():
            pass
        return "closed"

    async with (
        connect(f"{served.ws_url}/chat", additional_headers=of(name)) as chat,
        connect(f"{served.ws_url}/lines", additional_headers=of(name)) as lines,
        served.client() as http,
        http.stream("GET", "/v1/events", headers=of(name)) as stream,
    ):
        http.headers.update(of(name))
        poller = Poller(http)
        await poller.come('420["register",{}]')
        hub = served.gateway.hub
        async with asyncio.timeout(PATIENCE):
            while len(hub.sessions_of(served.account(name))) < 4:
                await asyncio.sleep(0.01)  # poll: a session opens behind its answer
        works = (socket_ends(chat), socket_ends(lines), stream_ends(stream), polling_ends(poller))
        yield [asyncio.create_task(work) for work in works]


async def test_ending_a_session_ends_its_connections_at_once() -> None:
    program = Program()
    async with owned(program) as served, staying(served, "ada") as ends, staying(served, "bob") as others:
        del program.sessions["ada"]
        served.gateway.sign_out("ada")
        assert served.gateway.hub.sessions_of(served.account("ada")) == []
        assert await asyncio.gather(*ends) == ["1008 signed_out", "1008 signed_out", "closed", "closed"]
        assert [await door(served, of("ada")) for door in DOORS.values()] == ["unauthorized"] * len(DOORS)
        assert not any(other.done() for other in others)
        served.gateway.sign_out("nobody")
        served.gateway.sign_out("bob")
        await asyncio.gather(*others)
        assert (await called(served, "GET", "/v1/users/bob", of("bob"))).status_code == 200  # signed in elsewhere


async def test_who_signs_out_while_the_program_is_asked_does_not_come_in() -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def authenticate(connection: HTTPConnection) -> Caller | None:
        if connection.url.path == "/chat":
            asked.set()
            await answer.wait()
        return Caller("ada")

    async with serving(authenticate=authenticate) as served:
        assert await by_rest(served, {}) == "ada"
        coming = asyncio.create_task(by_chat(served, {}))
        await asked.wait()
        served.gateway.sign_out("ada")
        answer.set()
        assert await coming == "unauthorized"


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (lambda program: program.sessions.pop("ada"), "1008 signed_out"),
        (lambda program: program.sessions.update(ada=Caller("bob")), "1008 signed_out"),
        (lambda program: setattr(program, "fault", fails), "1011 failed"),
        (lambda program: program.sessions.update(ada=Caller(42)), "1011 failed"),  # type: ignore[arg-type]
    ],
)
async def test_open_connections_are_asked_again(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Program], Any], how: str
) -> None:
    monkeypatch.setattr("p2pchat.web.account_session.ASKED_EVERY", 0.02)
    program = Program()
    async with owned(program) as served, staying(served, "ada") as ends:
        before = program.calls
        async with asyncio.timeout(PATIENCE):
            while program.calls < before + 12:
                await asyncio.sleep(0.01)  # poll: they stay open while they are asked
        assert not any(end.done() for end in ends)
        change(program)
        assert await asyncio.gather(*ends) == [how, how, "closed", "closed"]


# ---- ways to be somebody else


async def test_no_token_and_no_name_counts() -> None:
    """Eve has an old token of ada, who registered before the program was asked, and calls from this machine."""
    program = Program()
    settings = WebSettings(token_timeout=60, sign_up="open", trust_loopback=True, strangers=Pace(1000, 1000))
    async with owned(program, settings) as served:
        assert await by_rest(served, of("ada")) == "ada"
        _, token = await served.gateway.accounts.new_token("ada")
        bearer = {"Authorization": f"Bearer {token}"}
        tries: list[Headers] = [
            bearer, {"Authorization": "Basic YWRhOmFkYQ=="}, {"X-Forwarded-User": "ada"}, {"Remote-User": "ada"},
            {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-User": "ada"}, {"Cookie": "p2pchat=ada"},
        ]  # fmt: skip
        for headers in tries:
            found = {name: await door(served, headers) for name, door in DOORS.items()}
            assert found == dict.fromkeys(DOORS, "unauthorized"), headers
        for word in ("as", "user", "username", "name"):
            assert (await called(served, "GET", f"/v1/users?{word}=ada", {})).status_code == 401
            assert await by_socket(served, f"/chat?{word}=ada", {}) == "unauthorized"
            assert await by_socket(served, f"/lines?{word}=ada", of("bob")) == "forbidden"
        assert (await called(served, "POST", "/v1/accounts", {}, json={"name": "eve"})).status_code == 403
        assert (await called(served, "GET", "/v1/messages?user1=ada&user2=bob", {})).status_code == 401


async def test_the_first_frame_of_a_socket_makes_nobody_somebody() -> None:
    program = Program()
    async with owned(program) as served:
        await by_rest(served, of("ada"))
        _, token = await served.gateway.accounts.new_token("ada")
        for frame in ({"token": token}, {"user": "ada"}):
            async with connect(f"{served.ws_url}/chat") as socket:
                with suppress(ConnectionClosed):  # it may be refused already
                    await socket.send(json.dumps(frame))
                assert json.loads(await socket.recv())["code"] == "unauthorized"


async def test_a_link_to_a_file_is_for_those_who_may_see_it() -> None:
    program = Program()
    async with owned(program) as served:
        await by_rest(served, of("bob"))
        kept = await called(served, "POST", "/v1/files?filename=a", of("ada"), content=b"x")
        said = {"to": "bob", "files": [kept.json()["id"]]}
        id = (await called(served, "POST", "/v1/messages", of("ada"), json=said)).json()["id"]
        path = (await called(served, "POST", f"/v1/files/{id}/0/link", of("ada"))).json()["path"]
        program.sessions["eve"] = Caller("eve")
        found = [(await called(served, "GET", f"/{path}", of(name))).status_code for name in ("ada", "bob", "eve", "")]
        assert found == [200, 200, 404, 401]


async def test_nobody_speaks_on_the_connection_of_another() -> None:
    program = Program()
    async with owned(program) as served, served.client() as http:
        http.headers.update(of("ada"))
        poller = Poller(http)
        await poller.come('420["register",{}]')
        packet = '42["groupMessage",{"to":"room","content":"I am ada"}]'
        for headers, code in ((of("bob"), 401), ({}, 401)):
            assert (await called(served, "GET", poller.url, headers)).status_code == code
            assert (await called(served, "POST", poller.url, headers, content=packet)).status_code == code
        assert await served.account("ada").user.history(served.account("ada").user.room) == []
        assert await poller.post(packet) == 200


async def test_register_takes_no_other_name_or_token() -> None:
    program = Program()
    async with owned(program) as served:
        await by_rest(served, of("ada"))
        _, token = await served.gateway.accounts.new_token("ada")
        for given in ({"userId": "ada"}, {"userId": "ada", "authToken": token}):
            async with served.client() as http:
                http.headers.update(of("bob"))
                poller = Poller(http)
                packets = await poller.come(f'420["register",{json.dumps(given)}]')
                assert '"status":"error"' in "".join(packets)


@pytest.mark.parametrize("path", ["/v1/conversations", "/chat", "/lines", "/v1/events", f"{ENGINE}polling", "/"])
async def test_a_page_of_another_site_gets_nothing_with_the_cookie(path: str) -> None:
    program = Program()
    async with owned(program) as served:
        upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        more = (*upgrade, key) if path in ("/chat", "/lines") else ()
        answer = await sent(served, path, "Cookie: session=ada", "Origin: http://evil.example", *more)
        assert (answer.status, answer.code, program.calls) == (403, "origin", 0)


async def sent(served: Served, path: str, *headers: str) -> Answer:
    return await ask(served.port, request(path, *headers, host=f"127.0.0.1:{served.port}"))


async def test_accounts_are_named_and_deleted_by_the_program() -> None:
    program = Program()
    async with owned(program) as served:
        assert await by_rest(served, of("ada")) == "ada"
        assert (await called(served, "DELETE", "/v1/accounts/me", of("ada"))).status_code == 403
        renamed = await called(served, "POST", "/v1/do", of("ada"), json={"do": "nick", "name": "eve"})
        assert (renamed.status_code, served.account("ada").name) == (403, "ada")


async def test_two_keys_are_never_one_account() -> None:
    program = Program()
    keys = ("ADA", "42", "a@example.org", "43", "a@example.com", "x" * 128)
    program.sessions |= {
        str(at): Caller(key, name="Max Miller" if key[0] == "4" else "") for at, key in enumerate(keys)
    }
    async with owned(program) as served:
        for session in ("ada", *map(str, range(len(keys)))):
            answer = await called(served, "GET", "/v1/conversations", of(session))
            assert answer.status_code == 200, answer.text
        names = [account.name for account in served.gateway.accounts.list()]
        assert names == ["a", "a", "ada", "ADA", "Max Miller", "Max Miller", "x" * 32]
        said = {"to": "ada", "content": "I am the second Max"}
        assert (await called(served, "POST", "/v1/messages", of("3"), json=said)).status_code == 409  # ada and ADA
        said["to"] = served.peer.hosted_user("ada").me.label  # type: ignore[union-attr]
        assert (await called(served, "POST", "/v1/messages", of("3"), json=said)).status_code == 201
        for session, found in (("ada", 1), ("0", 0), ("1", 0), ("3", 1)):
            answer = await called(served, "GET", "/v1/messages", of(session))
            assert len(answer.json()) == found


@pytest.mark.parametrize(
    ("name", "shown"),
    [("Miller, Max", "Miller Max"), ("a/b#c", "a b c"), ("x" * 40, "x" * 32), ("room", "user"), ("@", "user")],
)
async def test_a_name_is_made_to_fit_and_follows_the_program(name: str, shown: str) -> None:
    program = Program()
    program.sessions["ada"] = Caller("1", name="Ada")
    async with owned(program) as served:
        assert await by_rest(served, of("ada")) == "Ada"
        program.sessions["ada"] = Caller("1", name=name)
        assert await by_rest(served, of("ada")) == shown
        program.sessions["ada"] = Caller("1")
        assert await by_rest(served, of("ada")) == shown


@pytest.mark.parametrize("key", ["", "x" * 129, "\ud800", 42, None])
async def test_a_key_that_is_none_is_the_fault_of_the_program_and_lets_nobody_in(
    key: Any, caplog: pytest.LogCaptureFixture
) -> None:
    program = Program()
    program.sessions["ada"] = Caller(key)
    async with owned(program) as served:
        answer = await called(served, "GET", "/v1/conversations", of("ada"))
        assert (answer.status_code, code_of(answer)) == (503, "authentication")
        assert served.gateway.accounts.list() == []
    [record] = caplog.records
    assert record.getMessage() == "the program could not say who a caller is" and record.exc_info is not None


async def test_accounts_are_the_same_after_a_restart_and_other_ones_after_a_deletion(tmp_path: Path) -> None:
    program = Program()
    async with serving(authenticate=program.ask, data=tmp_path) as served:
        assert await by_rest(served, of("ada")) == "ada"
        before = served.account("ada").key
    async with serving(authenticate=program.ask, data=tmp_path) as served:
        assert await by_rest(served, of("ada")) == "ada"
        assert served.account("ada").key == before
        await served.gateway.accounts.delete(served.account("ada"))
        assert await by_rest(served, of("ada")) == "ada"
        [account] = served.gateway.accounts.list()
        assert account.key != before


async def test_who_was_revoked_by_the_operator_is_refused() -> None:
    program = Program()
    async with owned(program) as served:
        assert await by_rest(served, of("ada")) == "ada"
        await served.gateway.accounts.revoke("ada")
        assert await by_rest(served, of("ada")) == "revoked"


async def test_only_operators_make_invites_if_the_program_says_so() -> None:
    program = Program()
    program.sessions["ada"] = Caller("ada", operator=True)
    async with owned(program) as served:
        for name, invites in (("ada", True), ("bob", False)):
            async with connect(f"{served.ws_url}/lines", additional_headers=of(name)) as socket:
                assert json.loads(await socket.recv())["invites"] is invites


# ---- the header of a proxy

PROXIED = WebSettings(token_timeout=60, auth_header="X-Forwarded-User", trusted_proxies=("127.0.0.1",))
FOREIGN = WebSettings(token_timeout=60, auth_header="X-Forwarded-User", trusted_proxies=("192.0.2.1",))


@at_every_door
async def test_a_trusted_proxy_says_who_a_caller_is(door: Door) -> None:
    async with serving(PROXIED) as served:
        assert await door(served, {}) == "unauthorized"
        assert await door(served, {"X-Forwarded-User": "ada", "X-Forwarded-For": "203.0.113.9"}) == "ada"


@at_every_door
async def test_the_header_is_dropped_if_it_comes_from_outside(door: Door) -> None:
    async with serving(FOREIGN) as served:
        for name in ("X-Forwarded-User", "x-forwarded-user", "X-FORWARDED-USER"):
            assert await door(served, {name: "ada"}) == "unauthorized"


@pytest.mark.parametrize("headers", [("X-Forwarded-User: eve", "X-Forwarded-User: ada"), ("X-Forwarded-User: ",)])
async def test_a_header_that_comes_twice_or_empty_names_nobody(headers: tuple[str, ...]) -> None:
    async with serving(PROXIED) as served:
        answer = await sent(served, "/v1/conversations", *headers)
        assert (answer.status, answer.code) == (401, "unauthorized")


async def test_a_header_that_is_no_text_is_the_fault_of_the_proxy() -> None:
    async with serving(PROXIED) as served:
        assert (await sent(served, "/v1/conversations", "X-Forwarded-User: \xff")).status == 503
        assert (await sent(served, "/v1/conversations", "X-Forwarded-User: zo\xc3\xab")).status == 200
        assert who(served) == "zoë"


# ---- settings


@pytest.mark.parametrize("proxies", [(), ("*",), ("127.0.0.1", "*")])
def test_a_header_is_refused_without_a_trusted_proxy(proxies: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="X-Forwarded-User would be believed from anyone"):
        WebSettings(auth_header="X-Forwarded-User", trusted_proxies=proxies)


async def test_what_excludes_each_other_is_refused() -> None:
    program = Program()
    async with TCPPeer(0, name="gate", db="memory://") as peer:
        cluster = object.__new__(Cluster)
        for settings, authenticate in ((None, program.ask), (PROXIED, None)):
            with pytest.raises(ValueError, match="know users by their tokens only"):
                create_app(peer, settings, cluster, authenticate=authenticate)
