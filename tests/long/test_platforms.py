"""Windows and macOS on Linux, in real processes and at real ports: the demo, taken ports, firewalls."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from p2pchat.cli import profiles
from p2pchat.cli.subcommands import doctor_network
from p2pchat.testing.process_mesh import unused_port
from tests.processes.commands import environment

ROOT = Path(__file__).resolve().parents[2]

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
FACTS = "import sys; from p2pchat import client; from p2pchat.cli import process, control_server; "
FACTS += "print(sys.platform, client._BaseProtocol.__name__, process.FASTER, control_server.HAS_SOCKETS)"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take their own branches")
@pytest.mark.parametrize(
    ("system", "facts"),
    [("win32", "win32 Protocol winloop False"), ("darwin", "darwin BufferedProtocol uvloop True")],
)
def test_the_demo_passes_as_on_another_system(system: str, facts: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(PRETENCE, "utf-8")
    pretended = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "PRETENDED_PLATFORM": system}
    told, shown = (
        subprocess.run(
            [sys.executable, *words], env=environment(tmp_path) | pretended, cwd=tmp_path, input="", check=False,
            capture_output=True, encoding="utf-8", timeout=200,
        )
        for words in (("-c", FACTS), ("-m", "p2pchat", "demo"))
    )  # fmt: skip
    assert told.stdout.strip() == facts, told.stderr
    assert shown.returncode == 0 and "All of it was checked, and held" in shown.stdout, shown.stdout + shown.stderr


def test_a_taken_port_is_found_without_posix(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = taken.getsockname()[1], unused_port()  # not held, as free_ports() would
        with monkeypatch.context() as forced:
            forced.setattr(os, "name", "nt")
            assert [profiles.is_free("127.0.0.1", port) for port in ports] == [False, True]
            assert [bool(doctor_network.bind_error(port)) for port in ports] == [True, False]


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
