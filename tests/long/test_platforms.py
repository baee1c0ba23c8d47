"""Windows and macOS on Linux, in real processes and at real ports: the demo, taken ports."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

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
