"""`p2pchat client`: its command line, token and output. Real gateways: tests/web."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from p2pchat.__main__ import main
from p2pchat.cli.subcommands.gateway_client import (
    ClientOptions,
    FramePrinter,
    GatewayAddress,
    GatewayConnection,
    client_options,
    read_token,
)
from p2pchat.commands.exit_codes import DONE, NO_SUCH_NAME, USAGE, UsageError
from p2pchat.commands.standard_output import StdoutWriter
from tests.cli.parsing import parse
from tests.deadlines import WAIT

URL = "ws://localhost:8000/chat"
TOKEN = "t" * 43


def parse_client(words: list[str]) -> ClientOptions:
    return client_options(**parse("client", *words))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([URL, "more", "--user", "A"], "Got unexpected extra argument"),
        ([URL], "who are you?"),
        (["http://localhost:8000/", "--user", "A"], "write ws://localhost:8000/chat"),
        (["https://chat.example.org", "--user", "A"], "write wss://chat.example.org/chat"),
        (["localhost", "--user", "A"], "write ws://HOST:PORT/chat"),
        (["ws://[::1/chat", "--user", "A"], "write ws://HOST:PORT/chat"),
        (["ws://localhost:nine/chat", "--user", "A"], "write ws://HOST:PORT/chat"),
        (["ws://ada:secret@localhost:8000/chat", "--user", "A"], "--token FILE"),
        ([URL, "--user", "A", "--json", "--plain"], "exclude each other"),
        ([URL, "--user", "A", "--drain", "long"], "not a number of seconds"),
        ([URL, "--token", "/nowhere/at/all"], "cannot read the token"),
    ],
)
def test_usage_errors_of_client(words: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says.replace("?", r"\?")):
        parse_client(words)


def test_the_command_line_of_the_origin_means_the_gateway_on_port_8080_here() -> None:
    for words in (["-user=A", "-recipient=B"], ["-user", "A", "--recipient", "B"]):
        options = parse_client(words)
        assert (options.gateway.url, options.gateway.user) == ("ws://localhost:8080/chat", "A")
        assert options.recipient == "B"


def test_a_token_is_read_from_a_file_or_an_answer_of_the_gateway(tmp_path: Path) -> None:
    plain, answered, none = (tmp_path / name for name in ("plain", "answered", "none"))
    plain.write_text(f"{TOKEN}\n")
    answered.write_text(json.dumps({"name": "zoe", "token": TOKEN}))
    none.write_text("no token")
    assert read_token(str(plain)) == read_token(str(answered)) == read_token(TOKEN) == TOKEN
    plain.write_text(f"{TOKEN[:20]}\r\n  {TOKEN[20:]}\n")  # as mail breaks it
    assert read_token(str(plain)) == read_token(f"{TOKEN[:20]}\n{TOKEN[20:]}") == TOKEN
    with pytest.raises(UsageError, match="there is no token in"):
        read_token(str(none))
    assert TOKEN not in repr(parse_client([URL, "--token", str(plain)]))


def test_a_token_on_the_command_line_or_without_tls_gets_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parse_client([URL, "--token", TOKEN])
    assert "others on this machine can see the token" in capsys.readouterr().err
    monkeypatch.setenv("P2PCHAT_TOKEN", TOKEN)
    parse_client([URL])
    parse_client(["wss://chat.example.org/chat"])
    assert capsys.readouterr().err == ""
    parse_client(["ws://chat.example.org/chat"])
    assert "in the clear" in capsys.readouterr().err


def test_an_address_and_a_port_are_a_gateway() -> None:
    assert parse_client(["localhost:8000", "--user", "A"]).gateway.url == "ws://localhost:8000/chat"


def test_the_url_names_the_last_message_and_never_the_user() -> None:
    assert GatewayAddress("ws://localhost:8000", user="A b").address("") == (
        "ws://localhost:8000/chat?events=changes&since="
    )
    more = GatewayAddress(f"{URL}?events=all", "A", TOKEN).address("X.1")
    assert more == f"{URL}?events=changes&events=all&since=X.1"  # the last one counts


def test_an_unreachable_gateway_is_one_error_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["client", "ws://127.0.0.1:1/chat", "--user", "A"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("p2pchat: cannot reach the gateway at ws://127.0.0.1:1/chat") and err.count("\n") == 1
    assert err.endswith("; `p2pchat web PORT --trust-loopback` starts one\n")


MESSAGE = {"type": "message", "id": "X.1", "from": "bob", "content": "hi", "timestamp": "2026-11-20T08:00:00.000000Z"}


@pytest.mark.parametrize(
    ("style", "more", "shown"),
    [
        ("words", {}, "📢 bob: hi"),
        ("words", {"to": "A"}, "💬 bob: hi"),
        ("words", {"group": "ops"}, "📢 [#ops] bob: hi"),
        ("words", {"to": "cyd", "from": "A"}, "💬 A -> cyd: hi"),
        ("words", {"content": "\x1b[2J\nx"}, "📢 bob: \\u{1b}[2J\n    | x"),
        ("words", {"content": "", "deleted": True}, "📢 bob: [deleted]"),
        ("words", {"action": True}, "📢 * bob hi"),
        ("words", {"action": True, "from": "bob hi"}, '📢 * "bob hi" hi'),
        ("plain", {"to": "A"}, "bob -> A: hi"),
        ("plain", {"action": True}, "* bob hi"),
        ("words", {"type": "edited", "entry_id": "X.2", "by": "bob"}, " bob (edited): hi"),
        ("plain", {"type": "deleted", "entry_id": "X.2", "by": "bob"}, " -- bob deleted a message"),
        (
            "words",
            {"type": "reaction", "entry_id": "X.2", "by": "A\n", "reaction": "+1"},
            "A\\u{a} reacted +1 to a message",
        ),
        ("json", {}, json.dumps(MESSAGE, separators=(",", ":"))),
    ],
)
async def test_frames_are_printed_safely_in_each_style(
    style: str, more: dict[str, Any], shown: str, tmp_path: Path
) -> None:
    page = tmp_path / "page"
    with page.open("wb", buffering=0) as raw:
        await FramePrinter(StdoutWriter(raw), style).on_frame({**MESSAGE, **more}, None, "A")
    assert page.read_text("utf-8").rstrip("\n").endswith(shown)


async def test_what_waits_is_shown_before_the_gateway_has_told_the_name(tmp_path: Path) -> None:
    page = tmp_path / "page"
    with page.open("wb", buffering=0) as raw:
        await FramePrinter(StdoutWriter(raw), "plain").on_frame({**MESSAGE, "to": "A"}, None, "")
    assert page.read_text("utf-8").rstrip("\n").endswith("bob -> A: hi")


async def test_the_worst_answer_is_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    showing = FramePrinter(StdoutWriter(None), "words")
    assert showing.code == DONE
    await showing.on_frame({"status": "ok", "id": "X.1"}, {"text": "hi"}, "A")
    await showing.on_frame({"status": "error", "code": "too_long", "text": "too long"}, None, "A")
    assert showing.code == USAGE
    await showing.on_frame({"status": "error", "code": "unknown_name", "text": "nobody"}, None, "A")
    assert showing.code == NO_SUCH_NAME
    assert capsys.readouterr().err == "p2pchat: too long\np2pchat: nobody\n"


async def test_a_message_that_was_written_before_a_break_is_shown_once_and_acknowledged(tmp_path: Path) -> None:
    page, keys = tmp_path / "page", list[str]()

    async def gateway(socket: ServerConnection) -> None:
        """Write the message and break; then send it as one that was missed, and again as an answer."""
        assert json.loads(await socket.recv()) == {"user": "A"}
        if keys:
            await socket.send(json.dumps({**MESSAGE, "from": "A"}))
        await socket.send(json.dumps({"type": "resumed", "user": "A", "count": len(keys)}))
        frame = json.loads(await socket.recv())
        keys.append(frame["key"])
        if len(keys) == 2:
            await socket.send(json.dumps({"status": "ok", "id": "X.1", "ref": frame["ref"]}))
            await socket.wait_closed()

    with page.open("wb", buffering=0) as raw:
        printer = FramePrinter(StdoutWriter(raw), "plain")
        async with serve(gateway, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            connection = GatewayConnection(
                GatewayAddress(f"ws://127.0.0.1:{port}/chat", "A"),
                lambda frame, sent: printer.on_frame(frame, sent, "A"),
                lambda text: None,
            )
            running = asyncio.create_task(connection.run())
            await connection.ready.wait()
            await connection.send({"text": "hi"})
            assert await connection.acknowledged(WAIT) == 0
            await connection.close(running)
            await running
    assert len(keys) == 2 and len(set(keys)) == 1
    [line] = page.read_text("utf-8").splitlines()
    assert line.endswith("A: hi")
