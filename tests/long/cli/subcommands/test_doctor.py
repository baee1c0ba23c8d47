"""doctor and other programs: an engine and systemctl."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from p2pchat.cli.subcommands.doctor_network import check_firewalls
from tests.cli.conftest import home as home
from tests.cli.subcommands.test_doctor import Doctor
from tests.cli.subcommands.test_doctor import ada as ada
from tests.cli.subcommands.test_doctor import doctor as doctor
from tests.cli.subcommands.test_doctor_network import linux
from tests.cli.subcommands.test_doctor_network import root as root
from tests.nats import NatsServer


def test_doctor_says_whether_the_engine_is_there(doctor: Doctor, home: Path, ada: Path, engine: NatsServer) -> None:
    before = sorted(home.rglob("*"))
    code, found = doctor("--data", str(ada), "--engine", engine.url)
    assert (found["engine"]["verdict"], found["engine"]["seen"]) == ("ok", f"{engine.url}: connected")
    engine.kill()
    code, found = doctor("--data", str(ada), "--engine", engine.url)
    assert (code, found["engine"]["verdict"]) == (1, "wrong")
    assert found["engine"]["seen"] == f"{engine.url}: nobody listens there"
    code, found = doctor("--data", str(ada), "--engine", "http://x")
    assert (code, found["engine"]["verdict"]) == (1, "wrong")
    assert sorted(home.rglob("*")) == before  # the check leaves nothing


def systemctl(directory: Path, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a systemctl onto the PATH, and nothing else."""
    directory.mkdir()
    command = directory / "systemctl"
    command.write_text(f"#!/bin/sh\nprintf '{says}'\nexit 3\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}/usr/bin{os.pathsep}/bin")


@linux
def test_no_firewall_is_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "etc/ufw/ufw.conf").write_text("# ENABLED=yes\nENABLED=no\n")
    systemctl(root / "bin", "inactive\\ninactive\\nunknown\\n", monkeypatch)
    [found] = check_firewalls(8080, root)
    assert found.verdict == "ok"


@linux
def test_services(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemctl(root / "bin", "active\\nactive\\ninactive\\n", monkeypatch)
    found = list(check_firewalls(8080, root))
    assert [one.seen.partition(" is on")[0] for one in found] == ["firewalld", "nftables"]
    assert "--add-port=8080/tcp" in found[0].mend and all(one.verdict == "warning" for one in found)
