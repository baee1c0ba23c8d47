"""`p2pchat web` as a process: start, account commands, clean stop and restart."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from pathlib import Path
from time import monotonic

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from p2pchat import TCPPeer
from p2pchat.cli.gateway_run import CONSOLE_PATIENCE
from p2pchat.cli.http_server import listen
from p2pchat.commands.exit_codes import CommandError
from tests.deadlines import WAIT
from tests.ports import free_ports
from tests.web.chat_client import connect
from tests.web.processes import WITHIN, Program, p2pchat, running
from tests.web.raw_http import UPGRADE, request

SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ of Linux
posix = pytest.mark.skipif(sys.platform == "win32", reason="stops with SIGTERM")


async def run(home: Path, *words: str) -> tuple[int, str, str]:
    """Run a command to its end; return exit code, stdout and stderr."""
    pipe, environment = asyncio.subprocess.PIPE, {**os.environ, "P2PCHAT_HOME": str(home)}
    process = await asyncio.create_subprocess_exec(*p2pchat(*words), stdout=pipe, stderr=pipe, env=environment)
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


@asynccontextmanager
async def gateway(home: Path, *words: str) -> AsyncIterator[tuple[Program, str]]:
    """Run a gateway on free ports; yield it and its address."""
    async with running(*p2pchat("web", "0", "--data", str(home / "gate"), "--json", *words), home=home) as gate:
        yield gate, json.loads(await gate.until('"event":"serving"'))["url"].rstrip("/")


async def test_a_log_on_a_disk_that_hangs_stops_neither_the_gateway_nor_its_end(tmp_path: Path) -> None:
    """A full pipe is such a disk: whoever writes there waits."""
    if sys.platform == "win32":
        pytest.skip("Windows has no such pipes")
    os.mkfifo(tmp_path / "log")
    pipe = os.open(tmp_path / "log", os.O_RDWR | os.O_NONBLOCK)
    try:
        async with gateway(tmp_path, "--log", str(tmp_path / "log")) as (gate, url):
            with suppress(BlockingIOError):
                while True:
                    os.write(pipe, bytes(1))
            async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http:
                for name in ("zoe", "yan"):  # each is a line of the log
                    assert (await http.post("/accounts", json={"name": name})).status_code == 201
            gate.terminate()
            assert await gate.end() in (0, 1)  # 1: the log was given up meanwhile
    finally:
        os.close(pipe)


@posix
async def test_it_is_managed_while_running_stops_cleanly_and_restores_everything(tmp_path: Path) -> None:
    which = ("--data", str(tmp_path / "gate"))
    async with gateway(tmp_path, "--name", "house", "--log", str(tmp_path / "log")) as (gate, url):
        async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False, verify=False) as http:
            assert (await http.get("/healthz")).status_code == (await http.get("/readyz")).status_code == 200
            code, token, shown = await run(tmp_path, "web", "token", "zoe", *which)
            token = token.strip()
            assert code == 0 and "zoe" in shown and token not in shown
            zoe = {"Authorization": f"Bearer {token}"}
            taken = (1, "", "p2pchat: the name 'house' is taken: choose another\n")
            assert await run(tmp_path, "web", "token", "house", *which) == taken
            new = await http.post("/accounts", json={"name": "yan"})
            yan = {"Authorization": f"Bearer {new.json()['token']}"}
            sent = await http.post("/messages", json={"to": "yan", "content": "until you come"}, headers=zoe)
            assert sent.status_code == 201, sent.text
        async with connect(url.replace("http", "ws") + "/lines", additional_headers=zoe) as socket:
            await socket.recv()
            code, users, _ = await run(tmp_path, "web", "users", "--json", *which)
            rows = [json.loads(line) for line in users.splitlines()]
            assert [(row["user"], row["state"], row["sessions"]) for row in rows] == [
                ("yan", "registered", 0), ("zoe", "registered", 1),
            ]  # fmt: skip
            gate.terminate()
            with suppress(ConnectionClosed):
                while True:
                    await socket.recv()
            assert socket.close_code == 1012
        assert json.loads(await gate.until('"event":"stopped"'))["reason"] == "terminated"
        assert await gate.end() == 0
        log = (tmp_path / "log").read_text()
        assert [json.loads(line)["event"] for line in log.splitlines()][-1] == "stopped"
        assert token not in log and "until you come" not in log
    assert await run(tmp_path, "web", "token", "house", *which) == taken
    blank = (2, "", "p2pchat: a name does not begin or end with a space\n")
    assert await run(tmp_path, "web", "token", " zoe", *which) == blank
    code, users, _ = await run(tmp_path, "web", "users", *which)
    assert (code, re.findall(r"(\w+)  registered, used", users)) == (0, ["yan", "zoe"])
    async with (
        gateway(tmp_path) as (gate, url),
        httpx.AsyncClient(base_url=url, timeout=60, trust_env=False, verify=False) as http,
    ):
        waited = await http.get("/messages", params={"user1": "zoe", "user2": "yan"}, headers=yan)
        assert [row["content"] for row in waited.json()] == ["until you come"]
        assert (await http.get("/conversations", headers=zoe)).status_code == 200
        _, phone, _ = await run(tmp_path, "web", "token", "zoe", "--label", "phone", *which)
        by_phone = {"Authorization": f"Bearer {phone.strip()}"}
        assert (await http.get("/conversations", headers=by_phone)).status_code == 200
        assert "; phone, used " in (await run(tmp_path, "web", "users", *which))[1]
        renamed = await run(tmp_path, "web", "accounts", "rename", "zoe", "zora", *which)
        assert renamed == (0, "", "-- zora is the new name\n")
        assert (await run(tmp_path, "web", "revoke", "zora", "--label", "phone", *which))[0] == 0
        assert (await run(tmp_path, "web", "revoke", "zora", "--label", "phone", *which))[0] == 4
        assert (await http.get("/conversations", headers=by_phone)).status_code == 401
        assert (await http.get("/conversations", headers=zoe)).status_code == 200
        assert (await run(tmp_path, "web", "revoke", "zora", *which))[0] == 0
        assert (await http.get("/conversations", headers=zoe)).status_code == 401
        assert json.loads(await gate.until('"change":"revoked"'))["user"] == "zora"
        gate.interrupt()
        assert await gate.end() == 130


async def test_a_restarted_gateway_tries_others_and_not_its_accounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))
    [port] = free_ports(1)
    async with (
        gateway(tmp_path, "--port", port, "--name", "house") as (_, url),
        httpx.AsyncClient(base_url=url, timeout=60, trust_env=False, verify=False) as http,
        TCPPeer(0, port, name="bob", data=tmp_path / "bob") as bob,
    ):
        for name in ("yan", "zoe"):
            assert (await http.post("/accounts", json={"name": name})).status_code == 201
        await (await bob.send("house", "hello")).delivered(timeout=WAIT)
    async with gateway(tmp_path, "--port", port) as (gate, _):
        assert (await gate.until("-- no known peer answers")).endswith("; still trying bob")


BEYOND = ("--http-host", "0.0.0.0")
ELSEWHERE = {"X-Forwarded-For": "203.0.113.9"}  # such a caller never counts as local


@pytest.mark.parametrize(
    ("options", "here", "elsewhere"),
    [
        ((), True, False), (("--sign-up", "open"), False, False), (("--trusted-proxy", "127.0.0.1"), False, False),
        (BEYOND, False, False), (("--invites", "off"), False, False),
        ((*BEYOND, "--invites", "operator"), True, False), ((*BEYOND, "--invites", "all"), True, True),
    ],
)  # fmt: skip
async def test_accounts_get_an_invite_only_where_nobody_else_can_sign_in(
    tmp_path: Path, options: tuple[str, ...], here: bool, elsewhere: bool
) -> None:
    async with gateway(tmp_path, *options) as (_, url):
        url = f"http://127.0.0.1:{url.rpartition(':')[2]}"
        async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False, verify=False) as http:
            token = (await http.post("/accounts", json={"name": "zoe"})).json()["token"]
        for allowed, more in ((here, {}), (elsewhere, ELSEWHERE)):
            headers = {"Authorization": f"Bearer {token}", **more}
            async with connect(f"{url.replace('http', 'ws')}/lines", additional_headers=headers) as lines:
                first = json.loads(await lines.recv())
                assert (first["event"], first["invites"]) == ("listening", allowed)
                await lines.send('{"do":"invite","ref":"1"}')
                while (line := json.loads(await lines.recv())).get("ref") != "1":
                    pass
            assert ("p2pchat:" in json.dumps(line)) == allowed
            if not allowed:
                assert (line["event"], line["code"]) == ("error", "forbidden") and "p2pchat invite" in line["text"]
            async with connect(f"{url.replace('http', 'ws')}/chat", additional_headers=headers) as chat:
                await chat.send("/invite")
                assert json.loads(await chat.recv())["code"] == "unknown_command"


@pytest.mark.skipif(sys.platform != "linux", reason="a pipe has its least size only there")
async def test_a_console_that_nobody_reads_delays_neither_the_gateway_nor_its_end(tmp_path: Path) -> None:
    port, own = free_ports(2)
    read, write = os.pipe()
    import_module("fcntl").fcntl(write, SET_PIPE_SIZE, 4096)
    words = ("web", port, "--port", own, "--trust-loopback", "--data", str(tmp_path / "gate"))
    gate = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "p2pchat", *words, stdin=asyncio.subprocess.DEVNULL, stderr=write,
        env={**os.environ, "P2PCHAT_HOME": str(tmp_path)},
    )  # fmt: skip
    os.close(write)

    numbers = itertools.count()

    async def visit() -> None:
        name = f"user{next(numbers) % 20}"  # several, for each account has a limit
        async with connect(f"ws://localhost:{port}/chat?user={name}&since=") as socket:
            await socket.recv()

    async def shows(text: bytes) -> None:
        seen = b""
        while text not in seen:
            seen += (chunk := await asyncio.to_thread(os.read, read, 4096))
            assert chunk, seen

    try:
        async with asyncio.timeout(2 * WAIT):
            await shows(b"Chat service started")
            until, visits = monotonic() + 4 * CONSOLE_PATIENCE, 0
            while monotonic() < until or visits < 100:  # with two lines each: more than the pipe holds
                await visit()
                visits += 1
            reading = asyncio.create_task(shows(b" lines about this gateway were left out"))
            while not reading.done():
                await visit()
            await reading
            for _ in range(80):
                await visit()
            gate.terminate()
            assert await gate.wait() == 0
    finally:
        if gate.returncode is None:
            gate.kill()
            await gate.wait()
        os.close(read)


@pytest.mark.parametrize("is_closed", [False, True])
async def test_frames_that_came_at_once_are_answered_before_a_close(tmp_path: Path, is_closed: bool) -> None:
    """The client writes all of them behind its handshake, and waits for no answer before its Close."""
    port, own = free_ports(2)
    async with running(*p2pchat("web", port, "--port", own, "--trust-loopback"), home=tmp_path) as gate:
        await gate.until("the page")
        for target, first in (("/chat?user=ada", []), ("/chat", [b"bob"])):
            texts = [*first, *(json.dumps({"text": "early", "ref": ref}).encode() for ref in "12")]
            frames = [Frame(Opcode.TEXT, text) for text in texts]
            if is_closed:
                frames.append(Frame(Opcode.CLOSE, b"\x03\xe8"))
            head = request(target, *UPGRADE, host=f"127.0.0.1:{port}")
            reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
            writer.write(head)
            async with asyncio.timeout(WITHIN):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
                writer.write(b"".join(frame.serialize(mask=True) for frame in frames))
                for ref in "12":
                    assert b'"status":"ok"' in await reader.readuntil(f'"ref":"{ref}"}}'.encode())
                if is_closed:
                    assert await reader.read() == b"\x88\x02\x03\xe8"
            writer.transport.abort()


@posix
async def test_accounts_are_made_at_the_only_gateway_of_the_login(tmp_path: Path) -> None:
    page, own, other = free_ports(3)
    async with running(*p2pchat("web", page, "--port", own, "--name", "gate"), home=tmp_path) as gate:
        await gate.until("the page")
        async with TCPPeer(data=tmp_path / other, name="ada"):  # started last
            code, _, said = await run(tmp_path, "web", "token", "zoe")
        assert code == 0 and said.startswith(f"-- as gate, port {own} (--port PORT: another)\n")
        assert (await run(tmp_path, "web", "users", "--port", own))[1].startswith("zoe  registered, used ")


async def test_a_refused_client_is_told_where_its_token_goes(tmp_path: Path) -> None:
    http, own = free_ports(2)
    gateway = p2pchat("web", http, "--port", own, "--data", str(tmp_path / "data"))
    async with running(*gateway, home=tmp_path) as server:
        await server.until("the page")
        url = f"ws://localhost:{http}/chat"
        async with running(*p2pchat("client", url, "-user=A", "-recipient=B"), home=tmp_path) as client:
            assert await client.end() == 1
        [told] = client.shown
        assert f"the gateway at {url} refuses this client: missing token: give it with --token FILE; " in told


def test_a_taken_port_is_reported_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(CommandError) as error:
            listen("127.0.0.1", taken.getsockname()[1])
    assert "choose another HTTP_PORT" in str(error.value)
