"""`p2pchat web`: its command line and what its account commands print."""

from __future__ import annotations

import asyncio
import socket

import pytest

from p2pchat.__main__ import main
from p2pchat.cli.gateway_run import GatewayRun, console_line, web_settings
from p2pchat.cli.http_server import listen
from p2pchat.cli.profiles import WebOptions
from p2pchat.cli.subcommands import web as web_command
from p2pchat.cli.subcommands.web import web_options
from p2pchat.commands.exit_codes import CommandError, UsageError
from p2pchat.extras import install_command
from tests.cli.parsing import parse
from tests.deadlines import WAIT, within
from tests.web.processes import WITHIN


def test_connections_are_refused_until_there_is_a_server() -> None:
    """A balancer then gives them to another gateway, and they do not wait until this one has started."""
    with listen("127.0.0.1", 0) as made:
        with pytest.raises(ConnectionRefusedError), socket.create_connection(made.getsockname(), timeout=WITHIN):
            pass
        made.listen()
        with socket.create_connection(made.getsockname(), timeout=WITHIN):
            pass


async def test_answers_are_sent_at_once() -> None:
    """Else the body of each answer waits for a late acknowledgement of its head: 40 ms on Linux."""
    undelayed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own = writer.get_extra_info("socket")
        undelayed.set_result(bool(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
        writer.close()

    with listen("127.0.0.1", 0) as made:
        async with await asyncio.start_server(on_connection, sock=made):
            _, writer = await asyncio.open_connection(*made.getsockname())
            async with within(WAIT, "a connection"):
                assert await undelayed
            writer.close()


def test_account_commands_print_results_and_exit_codes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"user": "zoe", "user_id": "Z", "state": "registered", "sessions": 2, "used": "2026-11-30"}
    row |= {"token": "T0K3N", "tokens": [{"label": "phone", "used": "2026-11-29"}]}
    monkeypatch.setattr(
        web_command, "_request", lambda profile, db, do, name="", **more: [] if name == "eve" else [row]
    )
    assert (main(["web", "token", "zoe"]), main(["web", "users"])) == (0, 0)
    assert capsys.readouterr().out.splitlines() == [
        "T0K3N",
        "zoe  registered, used 2026-11-30, 2 open; phone, used 2026-11-29",
    ]
    assert main(["web", "revoke", "eve"]) == 4


@pytest.mark.parametrize(
    ("change", "text"), [("token", "new token"), ("expelled", "expelled"), ("pardoned", "pardoned")]
)
def test_the_console_says_what_became_of_an_account(change: str, text: str) -> None:
    line = {"event": "account", "at": "2026-11-30T09:00:00+00:00", "user": "zoe", "change": change}
    assert console_line(line).endswith(f" zoe: {text}")


def parsed(line: str) -> WebOptions:
    values = parse("web", *line.split())
    del values["profile"]
    return web_options(values)


def test_the_peers_port_is_the_pages_plus_one_unless_given() -> None:
    options = parsed("8000 127.0.0.1:9000 9001 --origin https://a.example,https://b.example --root-path /chat/")
    assert (options.http_port, options.port, options.endpoints) == (8000, 8001, ("127.0.0.1:9000", "127.0.0.1:9001"))
    assert options.origins == ("https://a.example", "https://b.example") and options.root_path == "/chat"
    assert (parsed("8000 --port 7000").port, parsed("0").port, parsed("0").is_temporary) == (7000, 0, True)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", "missing HTTP_PORT, for example: p2pchat web 8000"),
        ("http", "not a valid port for the page"),
        ("8000 --port 8000", "a port each"),
        ("65535", "--port"),
        ("8000 --sign-up everybody", "is not one of 'open', 'token'"),
        ("8000 --invites everybody", "is not one of 'off', 'operator', 'all'"),
        ("8000 --temp --data x", "exclude"),
        ("8000 --root-path chat", "begins with a slash"),
        ("8000 nonsense", "is not HOST:PORT"),
    ],
)
def test_usage_errors(line: str, expected: str) -> None:
    with pytest.raises(UsageError) as error:
        parsed(line)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "X-Forwarded-User would be believed from anyone: name the reverse proxy that is trusted"),
        ("--trusted-proxy *", "X-Forwarded-User would be believed from anyone: name the reverse proxy that is trusted"),
        (
            "--trusted-proxy 127.0.0.1 --cluster team --cluster-key x --engine nats://x:4222",
            "gateways of a cluster know users by their tokens only: leave --auth-header or --cluster out",
        ),
    ],
)
def test_a_header_that_says_who_a_caller_is_needs_a_trusted_proxy_and_no_cluster(words: str, expected: str) -> None:
    with pytest.raises(UsageError) as error:
        GatewayRun(parsed(f"8000 --auth-header X-Forwarded-User {words}"), None)
    assert str(error.value) == expected
    settings = web_settings(parsed("8000 --auth-header X-Forwarded-User --trusted-proxy 127.0.0.1"))
    assert settings.auth_header == "X-Forwarded-User"


def test_a_page_for_others_without_tls_prints_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    parsed("8000 --http-host 0.0.0.0")
    assert "no TLS" in capsys.readouterr().err
    parsed("8000 --http-host 0.0.0.0 --origin https://chat.example.org")
    parsed("8000")
    assert capsys.readouterr().err == ""


def test_a_database_password_prints_a_warning_and_is_in_no_repr(capsys: pytest.CaptureFixture[str]) -> None:
    for url in ("postgresql://ada:s3cret@db/chat", "mysql://db/chat?user=ada&password=s3cret"):
        options = parsed(f"8000 --db {url}")
        assert "others on this machine can see the password" in capsys.readouterr().err
        assert "s3cret" not in repr(options)


def test_a_missing_library_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from p2pchat.cli.subcommands import web

    def find(name: str) -> object:
        return None if name == "uvicorn" else object()

    monkeypatch.setattr(web, "find_spec", find)  # independent of what is installed here
    with pytest.raises(CommandError) as error:
        web.require_extra()
    assert str(error.value) == f"the web gateway needs uvicorn, which is not installed: {install_command('web')}"
