"""Windows and macOS on Linux: branches for another system that no other file forces.

What a system does itself (its sockets, consoles, file locks) cannot be forced. The workflow runs the tests there.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import select
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from prompt_toolkit.output import DummyOutput

from p2pchat.cli import (
    control_client,
    control_protocol,
    control_server,
    http_server,
    standard_input,
)
from p2pchat.cli.chat import wants_terminal
from p2pchat.cli.chat_startup import ChatOptions
from p2pchat.cli.process import Shutdown
from p2pchat.cli.standard_input import InputKind
from p2pchat.cli.subcommands import doctor_checks, doctor_network, send, stored_messages
from p2pchat.cli.terminal import device
from p2pchat.cli.terminal.terminal_front_end import TerminalFrontEnd
from p2pchat.identity import own_addresses
from p2pchat.runtime.storage_worker import LoopWaker
from p2pchat.storage.dialects import server_dialect
from p2pchat.storage.dialects.dialect import DatabaseURL
from p2pchat.storage.dialects.mysql_dialect import MySQLDialect


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")


async def test_a_loop_is_woken_without_a_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(os, "eventfd", raising=False)
    woken = asyncio.Event()
    waker = LoopWaker(asyncio.get_running_loop(), woken.set)
    await asyncio.to_thread(waker.wake)
    await asyncio.wait_for(woken.wait(), 10)
    waker.close()
    woken.clear()
    waker._on_wake()
    assert woken.is_set()


@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_other_systems_find_addresses_by_their_own_name(monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    monkeypatch.setattr(sys, "platform", system)
    named = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (one, 0)) for one in ("127.0.0.1", "192.168.7.9")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: named)
    assert own_addresses.own_addresses()[-1] == "192.168.7.9" and "127.0.0.1" not in own_addresses.own_addresses()
    assert list(own_addresses._on_interfaces()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="/sys")
def test_interfaces_without_a_card_come_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """However many there are, and whatever they are called; a bridge with a card in it is one of the local network."""
    virtual = [f"vmnet{n}" for n in range(9)]
    monkeypatch.setattr(own_addresses, "_INTERFACES", tmp_path)
    for part in ("wired/device", "br-lan/lower_wired", "docker0/lower_veth1", *virtual):
        (tmp_path / part).mkdir(parents=True)
    (tmp_path / "br-lan/lower_wired/device").mkdir()
    here = [*virtual, "docker0", "br-lan", "wired"]
    monkeypatch.setattr(own_addresses, "routed_addresses", list)
    monkeypatch.setattr(own_addresses, "_on_interfaces", lambda: [(one, f"10.0.0.{n}") for n, one in enumerate(here)])
    assert own_addresses.own_addresses()[:2] == ["10.0.0.11", "10.0.0.10"]


@pytest.mark.usefixtures("windows")
def test_windows_has_no_control_socket(tmp_path: Path) -> None:
    (tmp_path / control_protocol.SOCKET_NAME).touch()
    assert asyncio.run(control_client.connect(tmp_path)) is None
    with pytest.raises(OSError, match="no Unix sockets"):
        control_server.bind_socket(tmp_path)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="Unix sockets")
def test_only_linux_says_who_is_at_the_other_end_of_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    ends = socket.socketpair()
    monkeypatch.delattr(socket, "SO_PEERCRED", raising=False)
    writer = SimpleNamespace(get_extra_info=lambda name: ends[0])
    assert control_server._is_same_login(writer)  # type: ignore[arg-type]
    for end in ends:
        end.close()


def test_a_gateway_on_windows_takes_no_port_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    for system, shares in ((os.name, os.name == "posix"), ("nt", False)):
        with monkeypatch.context() as forced:
            forced.setattr(os, "name", system)
            with http_server.listen("127.0.0.1", 0) as made:
                assert bool(made.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)) is shares


@pytest.mark.usefixtures("windows")
def test_windows_asks_without_echo_by_getpass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getpass", lambda prompt, stream: f"{prompt}secret")
    monkeypatch.setitem(sys.modules, "termios", None)
    with standard_input.echo_off():
        assert standard_input.ask_hidden("token: ") == "token: secret"


@pytest.mark.usefixtures("windows")
def test_windows_gives_arguments_as_text() -> None:
    assert send._from_shell("zoë \udcff") == "zoë \udcff"


@pytest.mark.usefixtures("windows")
def test_windows_does_not_watch_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb"), open(writing, "w", encoding="utf-8") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert stored_messages._pipe() is None


@pytest.mark.parametrize(("system", "wanted"), [("win32", True), ("linux", False)])
def test_a_console_of_windows_needs_no_term(monkeypatch: pytest.MonkeyPatch, system: str, wanted: bool) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda: True))
    monkeypatch.delenv("TERM", raising=False)
    assert wants_terminal(ChatOptions(), InputKind.TERMINAL) is wanted


@pytest.mark.usefixtures("windows")
async def test_the_terminal_of_windows_has_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "create_output", lambda stdout: DummyOutput())
    front = TerminalFrontEnd(ChatOptions(), None, Shutdown())
    assert front._stream is None


# ---- doctor


@pytest.mark.parametrize(
    ("system", "clock", "kill", "find"),
    [
        ("linux", "sudo timedatectl set-ntp true", "kill -9 7", "ss -ltnp 'sport = :8080'"),
        ("darwin", "sudo sntp -sS time.apple.com", "kill -9 7", "lsof -nP -iTCP:8080 -sTCP:LISTEN"),
        ("win32", "w32tm /resync", "taskkill /F /PID 7", "netstat -ano | findstr :8080"),
    ],
)
def test_what_doctor_says_on_each_system(
    monkeypatch: pytest.MonkeyPatch, system: str, clock: str, kill: str, find: str
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    assert clock in doctor_checks.check_clock(datetime(2020, 1, 1, tzinfo=UTC), []).mend
    assert (doctor_network.kill_command(7), doctor_network.find_command(8080)) == (kill, find)


# ---- databases


@pytest.mark.usefixtures("windows")
def test_a_server_that_closed_is_noticed_without_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "poll", raising=False)  # Windows has none
    near, far = socket.socketpair()
    with near:
        assert not server_dialect._is_readable(near.fileno())
        far.close()
        assert server_dialect._is_readable(near.fileno())


@pytest.mark.usefixtures("windows")
def test_on_windows_pymysql_opens_the_socket_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    pymysql = pytest.importorskip("pymysql")
    monkeypatch.setattr(pymysql, "connect", lambda **arguments: arguments)
    dialect = MySQLDialect(DatabaseURL("mysql", database="p2pchat"), 1.0)
    assert dialect._connect({"unix_socket": "/nowhere"}) == {"unix_socket": "/nowhere"}
