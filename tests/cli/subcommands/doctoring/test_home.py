"""What `doctor` says of a profile: made by a real peer, then spoilt."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from p2pchat import TCPPeer, inspect_profile
from p2pchat.cli.subcommands.doctor_checks import Finding, profile

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))

    async def live() -> None:
        async with TCPPeer(0, name="ada", data=tmp_path / "ada"):
            pass

    asyncio.run(live())
    return tmp_path / "ada"


def look(data: Path) -> dict[str, Finding]:
    return {finding.what: finding for finding in profile(inspect_profile(data))}


def test_all_is_well(data: Path) -> None:
    found = look(data)
    assert [(one.what, one.verdict, one.mend) for one in found.values()] == [
        (what, "ok", "") for what in ("profile", "key", "network", "lock")
    ]
    assert str(data) in found["profile"].seen and "no peer runs" in found["lock"].seen


async def test_somebody_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))
    async with TCPPeer(0, name="ada", data=tmp_path / "ada", open=True):
        found = look(tmp_path / "ada")
    assert found["lock"].seen == f"in use by process {os.getpid()}"
    assert found["network"].seen.startswith("its own, an open network")


def test_nothing_is_there(tmp_path: Path) -> None:
    [only] = profile(inspect_profile(tmp_path / "8081"))
    assert (only.what, only.verdict) == ("profile", "warning") and only.mend.endswith("p2pchat 8081")
    found = look(tmp_path)  # some directory
    assert found["key"].verdict == "warning" and "no peer has been in" in found["key"].seen


@posix
def test_a_key_others_can_read(data: Path) -> None:
    (data / "identity.pem").chmod(0o644)
    key = look(data)["key"]
    assert (key.verdict, key.seen) == ("wrong", f"{data / 'identity.pem'} can be read by others (mode 0644)")
    assert key.mend == f"run `chmod 600 {data / 'identity.pem'}`"


@posix
@pytest.mark.parametrize(("mode", "verdict"), [(0o750, "warning"), (0o770, "wrong"), (0o700, "ok")])
def test_a_directory_others_can_enter(data: Path, mode: int, verdict: str) -> None:
    data.chmod(mode)
    found = look(data)["profile"]
    assert (found.verdict, found.mend) == (verdict, "" if verdict == "ok" else f"chmod 700 {data}")


@posix
@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="nothing is closed to root")
def test_a_directory_that_cannot_be_written(data: Path) -> None:
    data.chmod(0o500)
    assert look(data)["profile"].verdict == "wrong"
    data.chmod(0o700)


def test_a_history_whose_key_is_gone_and_a_key_that_is_none(data: Path) -> None:
    (data / "identity.pem").write_text("-----BEGIN NONSENSE-----")
    found = look(data)["key"]
    assert found.verdict == "wrong" and found.mend.startswith("restore it from a backup")
    (data / "identity.pem").unlink()
    found = look(data)["key"]
    assert found.verdict == "warning" and "no key of who wrote it" in found.seen and "backup" in found.mend


def test_a_network_file_that_is_damaged_or_missing(data: Path) -> None:
    network = data.parent / "network"
    network.write_text("p2pchat-network 1 00")
    found = look(data)["network"]
    assert (found.verdict, found.seen) == ("wrong", f"{network} is damaged")
    assert found.mend == "restore it, or move it away and join again with an invite"
    network.unlink()
    assert look(data)["network"].verdict == "ok"
