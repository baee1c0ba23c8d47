"""Long tests of `tests/identity/test_profile.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from p2pchat.errors import DataLocked
from p2pchat.identity.network import login_network
from p2pchat.identity.profile import Profile, inspect_profile
from tests.identity.test_profile import home as home  # fixture


def test_a_process_that_was_killed_holds_nothing(home: Path) -> None:
    program = (
        "import sys; from p2pchat.identity.profile import Profile\n"
        "p = Profile.open(port=8080); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(DataLocked) as locked:
            Profile.open(port=8080)
        if sys.platform != "win32":  # where the python.exe of a venv is not the process that runs, but starts it
            assert locked.value.pid == process.pid
        process.kill()
        assert process.stdout.read() == ""  # its end: the holder is gone
    Profile.open(port=8080).close()


def test_processes_that_start_together_agree_on_the_network(home: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from p2pchat.identity.network import login_network\n"
        "print('ready', flush=True); sys.stdin.readline(); print(login_network(Path(sys.argv[1])).key)"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
        )
        for _ in range(4)
    ]
    for process in started:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    keys = {process.communicate()[0].strip() for process in started}
    assert keys == {login_network(home).key}


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import os, sys; from p2pchat.identity.profile import Profile\n"
        "profile = Profile.open(data=sys.argv[1]); os._exit(9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "ada")], check=False)
    assert killed.returncode == 9 and (tmp_path / "ada" / "lock.pid").exists()
    assert inspect_profile(tmp_path / "ada").holder is None
    Profile.open(data=tmp_path / "ada").close()  # looking has left nothing locked
