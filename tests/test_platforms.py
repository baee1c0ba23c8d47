"""Windows and macOS on Linux: each branch for another system is forced, in real processes or alone.

What a system does itself (its sockets, consoles, file locks) cannot be forced. The workflow runs all tests there.
"""

from __future__ import annotations

import ast
import asyncio
import getpass
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from prompt_toolkit.output import DummyOutput

from p2pchat.cli import (
    control_client_or_own_peer,
    control_protocol,
    control_server,
    http_server,
    profiles,
    standard_input,
)
from p2pchat.cli.chat import wants_terminal
from p2pchat.cli.chat_startup import ChatOptions
from p2pchat.cli.process_and_signals import Shutdown
from p2pchat.cli.standard_input import InputKind
from p2pchat.cli.subcommands import doctor_checks, doctor_network, history_tail_and_delete, send
from p2pchat.cli.terminal import device
from p2pchat.cli.terminal.front_end import TerminalFrontEnd
from p2pchat.identity import own_addresses
from p2pchat.runtime.storage_worker import LoopWaker
from p2pchat.storage.dialects import server_databases
from p2pchat.storage.dialects.dialect import DatabaseURL
from p2pchat.storage.dialects.mysql import MySQLDialect
from tests.processes.commands import environment

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "p2pchat"
linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems take their own branches")

HERE = "tests/test_platforms.py::"
PROCESS = "tests/cli/test_process_and_signals.py::"
DEMO = HERE + "test_the_demo_passes_as_on_another_system"
MODES = "tests/identity/test_keys.py::test_without_file_modes_the_key_file_is_read_unchecked"
DOCTOR = HERE + "test_what_doctor_says_on_each_system"
# Every function that asks which system this is, and the test that forces its other branches; "" is a module's own code.
FORCED = {
    "cli/chat.py:wants_terminal": HERE + "test_a_console_of_windows_needs_no_term",
    "cli/control_client_or_own_peer.py:_open": HERE + "test_windows_has_no_control_socket",
    "cli/control_server.py:_is_same_login": HERE + "test_only_linux_says_who_is_at_the_other_end_of_a_socket",
    "cli/control_server.py:_listen": DEMO,
    "cli/control_server.py:": DEMO,
    "cli/control_server.py:bind_socket": HERE + "test_windows_has_no_control_socket",
    "cli/profiles.py:listen_error": HERE + "test_a_taken_port_is_found_without_posix",
    "cli/http_server.py:listen": HERE + "test_a_gateway_on_windows_takes_no_port_of_another",
    "cli/process_and_signals.py:": DEMO,
    "cli/process_and_signals.py:allow_descriptors": PROCESS + "test_windows_has_no_limit_of_files",
    "cli/standard_input.py:_in_background": "tests/cli/test_standard_input.py::test_on_windows_nul_is_not_a_console",
    "cli/standard_input.py:_is_null": "tests/cli/test_standard_input.py::test_on_windows_nul_is_not_a_console",
    "cli/standard_input.py:ask_hidden": HERE + "test_windows_asks_without_echo_by_getpass",
    "cli/standard_input.py:echo_off": HERE + "test_windows_asks_without_echo_by_getpass",
    "cli/subcommands/doctor_checks.py:check_machine": DOCTOR,
    "cli/subcommands/doctor_checks.py:check_clock": DOCTOR,
    "cli/subcommands/doctor_checks.py:check_terminal": DOCTOR,
    "cli/subcommands/doctor_checks.py:utf8_mend": DOCTOR,
    "cli/subcommands/doctor_network.py:_active": HERE + "test_the_firewall_of_each_system",
    "cli/subcommands/doctor_network.py:_windows_is_on": HERE + "test_the_firewall_of_each_system",
    "cli/subcommands/doctor_network.py:find_command": DOCTOR,
    "cli/subcommands/doctor_network.py:kill_command": DOCTOR,
    "cli/subcommands/history_tail_and_delete.py:_pipe": HERE + "test_windows_does_not_watch_a_pipe",
    "cli/subcommands/send.py:_from_shell": HERE + "test_windows_gives_arguments_as_text",
    "cli/terminal/front_end.py:__init__": HERE + "test_the_terminal_of_windows_has_no_stream_and_does_not_stop",
    "cli/terminal/front_end.py:_suspend": HERE + "test_the_terminal_of_windows_has_no_stream_and_does_not_stop",
    "cli/terminal/device.py:on_continued": HERE + "test_a_process_on_windows_is_never_stopped_nor_continued",
    "cli/terminal/device.py:stop_process": HERE + "test_a_process_on_windows_is_never_stopped_nor_continued",
    "client.py:": DEMO,
    "commands/endpoints_and_qr_codes.py:quoted":
        "tests/cli/test_profiles.py::test_on_windows_it_is_quoted_for_its_shell",
    "commands/standard_output.py:_ready": "tests/commands/test_standard_output.py::test_a_thread_writes_on_windows",
    "commands/standard_output.py:is_full": "tests/commands/test_standard_output.py::test_a_thread_writes_on_windows",
    "commands/typed_paths.py:": "tests/commands/test_typed_paths.py::test_on_windows_a_backslash_belongs_to_a_path",
    "identity/own_addresses.py:_on_interfaces": HERE + "test_other_systems_find_addresses_by_their_own_name",
    "identity/own_addresses.py:own_addresses": HERE + "test_other_systems_find_addresses_by_their_own_name",
    "identity/private_files.py:": MODES,
    "identity/private_files.py:_refuse_shared": MODES,
    "identity/private_files.py:sync_file": "tests/identity/test_private_files.py::"
    "test_the_disk_itself_writes_a_file_where_the_system_can_ask_for_that",
    "runtime/garbage_collection.py:_return_memory": "tests/runtime/test_garbage_collection.py::"
    "test_on_another_system_memory_stays_with_the_c_library",
    "runtime/storage_worker.py:__init__": HERE + "test_a_loop_is_woken_without_a_counter",
    "runtime/storage_worker.py:_on_wake": HERE + "test_a_loop_is_woken_without_a_counter",
    "runtime/storage_worker.py:wake": HERE + "test_a_loop_is_woken_without_a_counter",
    "storage/content_store.py:_sync_file_range": "tests/storage/test_content_store.py::"
    "test_elsewhere_than_on_linux_no_sync_is_begun_early",
    "storage/content_store.py:_syncfs_of": "tests/storage/test_content_store.py::"
    "test_elsewhere_than_on_linux_much_content_is_synced_file_by_file",
    "storage/dialects/mysql.py:_connect": HERE + "test_on_windows_pymysql_opens_the_socket_itself",
    "storage/dialects/server_databases.py:_is_readable": HERE + "test_a_server_that_closed_is_noticed_without_poll",
    "sync/background.py:": "tests/sync/test_sync.py::test_on_windows_a_wait_looks_up_for_signals",
    "web/cluster/cluster_key.py:read_key_file": "tests/web/cluster/test_cluster_key.py::"
    "test_without_file_modes_the_key_of_a_cluster_is_read_unchecked",
}  # fmt: skip


ASKED = ("sys.platform", "os.name")


class Branches(ast.NodeVisitor):
    """The functions of a file that ask for sys.platform or os.name."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self._function = ""

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        outer, self._function = self._function, self._function or node.name
        self.generic_visit(node)
        self._function = outer

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if ast.unparse(node) in ASKED:
            self.found.add(self._function)
        self.generic_visit(node)


def branches() -> Iterator[str]:
    for path in sorted(PACKAGE.rglob("*.py")):
        code = path.read_text("utf-8")
        if not any(asked in code for asked in ASKED):  # to parse all files takes seconds
            continue
        visitor = Branches()
        visitor.visit(ast.parse(code))
        yield from (f"{path.relative_to(PACKAGE).as_posix()}:{name}" for name in visitor.found)


def test_every_branch_for_a_system_is_forced_by_a_test() -> None:
    assert sorted(branches()) == sorted(FORCED)
    for test in FORCED.values():
        path, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text("utf-8"), test


# ---- whole processes


PRETENCE = """
import asyncio, ctypes, os, shutil, sqlite3, ssl, subprocess, sys
from types import SimpleNamespace
import click, filelock, platformdirs, prompt_toolkit  # these and asyncio stay those of this system

sys.platform = os.environ["PRETENDED_PLATFORM"]
if sys.platform == "win32":
    sys.modules["msvcrt"] = SimpleNamespace(get_osfhandle=lambda descriptor: descriptor)
    sys.modules["resource"] = None
    shutil.which = lambda *_, **__: None  # since Python 3.12 it asks Windows, which is not here
"""


@linux
@pytest.mark.long
@pytest.mark.parametrize("system", ["win32", "darwin"])
def test_the_demo_passes_as_on_another_system(system: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(PRETENCE, "utf-8")
    pretended = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "PRETENDED_PLATFORM": system}
    facts = "import sys; from p2pchat import client; from p2pchat.cli import process_and_signals, control_server; "
    facts += (
        "print(sys.platform, client._BaseProtocol.__name__, process_and_signals.FASTER, control_server.HAS_SOCKETS)"
    )
    told, shown = (
        subprocess.run(
            [sys.executable, *words], env=environment(tmp_path) | pretended, cwd=tmp_path, input="", check=False,
            capture_output=True, encoding="utf-8", timeout=110,
        )
        for words in (("-c", facts), ("-m", "p2pchat", "demo"))
    )  # fmt: skip
    expected = {"win32": "win32 Protocol winloop False", "darwin": "darwin BufferedProtocol uvloop True"}
    assert told.stdout.strip() == expected[system], told.stderr
    assert shown.returncode == 0 and "All of it was checked, and held" in shown.stdout, shown.stdout + shown.stderr


# ---- one branch at a time


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


@pytest.mark.usefixtures("windows")
def test_windows_has_no_control_socket(tmp_path: Path) -> None:
    (tmp_path / control_protocol.SOCKET_NAME).touch()
    assert asyncio.run(control_client_or_own_peer.connect(tmp_path)) is None
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


def test_a_taken_port_is_found_without_posix(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        ports = taken.getsockname()[1], free.getsockname()[1]
        free.close()
        with monkeypatch.context() as forced:
            forced.setattr(os, "name", "nt")
            assert [profiles.is_free("127.0.0.1", port) for port in ports] == [False, True]
            assert [bool(doctor_network.bind_error(port)) for port in ports] == [True, False]


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
        assert history_tail_and_delete._pipe() is None


@pytest.mark.parametrize(("system", "wanted"), [("win32", True), ("linux", False)])
def test_a_console_of_windows_needs_no_term(monkeypatch: pytest.MonkeyPatch, system: str, wanted: bool) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda: True))
    monkeypatch.delenv("TERM", raising=False)
    assert wants_terminal(ChatOptions(), InputKind.TERMINAL) is wanted


@pytest.mark.usefixtures("windows")
async def test_the_terminal_of_windows_has_no_stream_and_does_not_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "create_output", lambda stdout: DummyOutput())
    monkeypatch.delattr(os, "kill")
    front = TerminalFrontEnd(ChatOptions(), None, Shutdown())
    assert front._stream is None
    front._suspend()


@pytest.mark.usefixtures("windows")
def test_a_process_on_windows_is_never_stopped_nor_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGCONT")
    with device.on_continued(pytest.fail):
        device.stop_process()


# ---- doctor


@pytest.mark.parametrize(
    ("system", "utf8", "clock", "kill", "find"),
    [
        ("linux", "export LC_ALL=C.UTF-8", "sudo timedatectl set-ntp true", "kill -9 7", "ss -ltnp 'sport = :8080'"),
        ("darwin", "export LC_ALL=C.UTF-8", "sudo sntp -sS time.apple.com", "kill -9 7",
         "lsof -nP -iTCP:8080 -sTCP:LISTEN"),
        ("win32", "chcp 65001", "w32tm /resync", "taskkill /F /PID 7", "netstat -ano | findstr :8080"),
    ],
)  # fmt: skip
def test_what_doctor_says_on_each_system(
    monkeypatch: pytest.MonkeyPatch, system: str, utf8: str, clock: str, kill: str, find: str
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    if system == "win32":
        monkeypatch.setitem(sys.modules, "resource", None)
    assert doctor_checks.check_terminal("xterm", "latin-1").mend == utf8
    assert doctor_checks.check_terminal("", "utf-8").verdict == ("ok" if system == "win32" else "warning")
    assert clock in doctor_checks.check_clock(datetime(2020, 1, 1, tzinfo=UTC), []).mend
    assert (doctor_network.kill_command(7), doctor_network.find_command(8080)) == (kill, find)
    checked = [finding.what for finding in doctor_checks.check_machine()]
    assert ("files" in checked) is (system != "win32" and os.name == "posix")


def test_the_firewall_of_each_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not doctor_network._windows_is_on() or sys.platform == "win32"
    profiles_on = {"StandardProfile": 0, "PublicProfile": 1}

    class Key:
        def __init__(self, root: object, path: str) -> None:
            self.name = path.rpartition("\\")[2]
            if self.name not in profiles_on:
                raise FileNotFoundError(path)

        def __enter__(self) -> str:
            return self.name

        def __exit__(self, *_: object) -> None: ...

    registry = SimpleNamespace(
        HKEY_LOCAL_MACHINE=None, OpenKey=Key, QueryValueEx=lambda name, value: (profiles_on[name], 4)
    )
    monkeypatch.setitem(sys.modules, "winreg", registry)
    monkeypatch.setattr(sys, "platform", "win32")
    assert [found.seen.partition(" is on")[0] for found in doctor_network.check_firewalls(8080)] == [
        "the Windows firewall"
    ]
    profiles_on["PublicProfile"] = 0
    assert [found.verdict for found in doctor_network.check_firewalls(8080)] == ["ok"]
    if os.name != "posix":
        return
    tool = tmp_path / "socketfilterfw"
    tool.write_text("#!/bin/sh\necho 'Firewall is enabled. (State = 1)'\n", "utf-8")
    tool.chmod(0o755)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(doctor_network, "MAC_TOOL", str(tool))
    assert next(found.mend for found in doctor_network.check_firewalls(8080)).startswith("sudo /usr/libexec/")
    tool.write_text("#!/bin/sh\necho 'Firewall is disabled. (State = 0)'\n", "utf-8")
    assert [found.verdict for found in doctor_network.check_firewalls(8080)] == ["ok"]


# ---- databases


@pytest.mark.usefixtures("windows")
def test_a_server_that_closed_is_noticed_without_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "poll", raising=False)  # Windows has none
    near, far = socket.socketpair()
    with near:
        assert not server_databases._is_readable(near.fileno())
        far.close()
        assert server_databases._is_readable(near.fileno())


@pytest.mark.usefixtures("windows")
def test_on_windows_pymysql_opens_the_socket_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    pymysql = pytest.importorskip("pymysql")
    monkeypatch.setattr(pymysql, "connect", lambda **arguments: arguments)
    dialect = MySQLDialect(DatabaseURL("mysql", database="p2pchat"), 1.0)
    assert dialect._connect({"unix_socket": "/nowhere"}) == {"unix_socket": "/nowhere"}
