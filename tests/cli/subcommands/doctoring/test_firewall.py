"""Firewalls: the files and commands by which they are seen, put where the check looks."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from p2pchat.cli.subcommands.doctor_network import firewalls

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="files and commands of Linux")


def systemctl(directory: Path, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a systemctl onto the PATH, and nothing else."""
    directory.mkdir()
    command = directory / "systemctl"
    command.write_text(f"#!/bin/sh\nprintf '{says}'\nexit 3\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}/usr/bin{os.pathsep}/bin")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc/ufw").mkdir(parents=True)
    return tmp_path


def test_none_is_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "etc/ufw/ufw.conf").write_text("# ENABLED=yes\nENABLED=no\n")
    systemctl(root / "bin", "inactive\\ninactive\\nunknown\\n", monkeypatch)
    [found] = firewalls(8080, root)
    assert found.verdict == "ok"


def test_nothing_can_be_asked(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(root))
    [found] = firewalls(8080, root)
    assert found.verdict == "ok"


def test_ufw(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(root))
    (root / "etc/ufw/ufw.conf").write_text("# comment\nENABLED=yes\nLOGLEVEL=low\n")
    [found] = firewalls(8080, root)
    assert (found.verdict, found.mend) == ("warning", "sudo ufw allow 8080/tcp")


def test_services(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemctl(root / "bin", "active\\nactive\\ninactive\\n", monkeypatch)
    found = list(firewalls(8080, root))
    assert [one.seen.partition(" is on")[0] for one in found] == ["firewalld", "nftables"]
    assert "--add-port=8080/tcp" in found[0].mend and all(one.verdict == "warning" for one in found)
