"""Checks of the machine and the profile. The clock is checked with real messages and a given `now`."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from p2pchat import Message, Sent, Settings, TCPPeer, backup_key, inspect_profile, open_history
from p2pchat.cli.subcommands.doctor_checks import (
    Finding,
    check_clock,
    check_disk,
    check_extras,
    check_profile,
    size,
    span,
)

MINUTE = timedelta(minutes=1)


async def talked(home: Path, *writers: str, count: int = 3) -> None:
    """Let these users write to ada, and store their messages as live ones."""
    async with TCPPeer(0, name="ada", data=home / "ada") as ada:
        for name in writers:
            async with TCPPeer(0, ada.endpoint, name=name, data=home / name) as writer:
                await writer.wait_user("ada", timeout=60)
                for number in range(count):
                    await (await writer.broadcast(f"{number}")).delivered(timeout=60)


async def stored(home: Path) -> list[Message | Sent]:
    async with open_history(home / "ada") as history:
        return await history.history()


def move(home: Path, by: timedelta, every: timedelta = timedelta(0)) -> None:
    """As if ada's clock had been off by that when those messages came, and they had been written so far apart."""
    with closing(sqlite3.connect(home / "ada" / "history.db")) as database, database:
        database.execute(
            "update entries set body = json_set(body, '$.at', json_extract(body, '$.at') - (id & 255) * ?)",
            (round(every.total_seconds() * 1e6),),
        )
        database.execute(
            "update entries set received_at = received_at + ? - (id & 255) * ?",
            (round(by.total_seconds() * 1e6), round(every.total_seconds() * 1e6)),
        )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))
    return tmp_path


def verdict(posts: Sequence[Message | Sent], now: datetime | None = None) -> tuple[str, str]:
    found = check_clock(now or datetime.now(UTC), posts)
    assert bool(found.mend) == (found.verdict != "ok")
    return found.verdict, found.seen


async def test_clocks_that_agree_and_one_that_went_back(home: Path) -> None:
    await talked(home, "bob", "cyd")
    posts = await stored(home)
    assert verdict(posts)[0] == "ok" and verdict(posts)[1].endswith(", as others have it")
    assert verdict(posts, datetime.now(UTC) - timedelta(hours=5)) == (
        "wrong",
        "messages were received here 5 hours from now: the clock went back, or was ahead before",
    )


async def test_a_clock_that_is_behind_of_which_old_messages_say_nothing(home: Path) -> None:
    await talked(home, "bob", "cyd")
    move(home, -10 * MINUTE)
    posts = await stored(home)
    assert verdict(posts) == ("wrong", "it is 10 minutes or more behind those of 2 others")
    assert verdict(posts, datetime.now(UTC) + timedelta(days=3))[0] == "ok"


async def test_a_clock_that_is_ahead(home: Path) -> None:
    await talked(home, "bob", "cyd")
    move(home, 10 * MINUTE, every=2 * MINUTE)
    later = datetime.now(UTC) + 10 * MINUTE  # it has not been set since
    assert verdict(await stored(home), later) == ("wrong", "it is 10 minutes or more ahead of those of 2 others")


async def test_a_machine_that_slept_is_not_ahead(home: Path) -> None:
    """All that was written meanwhile comes at once, late."""
    await talked(home, "bob", "cyd")
    move(home, 10 * MINUTE)
    assert verdict(await stored(home), datetime.now(UTC) + 10 * MINUTE)[0] == "ok"


async def test_with_one_other_writer_it_is_not_known_whose_clock_is_off(home: Path) -> None:
    await talked(home, "bob")
    move(home, -10 * MINUTE)
    told, seen = verdict(await stored(home))
    assert told == "warning" and "bob" in seen and "one of the two is wrong" in seen


def test_a_clock_that_was_never_set() -> None:
    assert verdict([], datetime(1970, 1, 1, 0, 5, tzinfo=UTC)) == ("wrong", "it says 1970-01-01, which is in the past")
    assert verdict([])[0] == "ok"


def test_lengths_of_time() -> None:
    lengths = [timedelta(seconds=61), timedelta(minutes=3), timedelta(hours=30), timedelta(days=400)]
    assert [span(length) for length in lengths] == ["61 seconds", "3 minutes", "30 hours", "400 days"]


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
    return {finding.what: finding for finding in check_profile(inspect_profile(data))}


def test_all_is_well(data: Path, tmp_path: Path) -> None:
    founder = look(data)["founder"]
    assert founder.verdict == "warning" and founder.mend == "make one: p2pchat network backup FILE"
    backup_key(tmp_path / "copy")
    found = look(data)
    assert [(one.what, one.verdict, one.mend) for one in found.values()] == [
        (what, "ok", "") for what in ("profile", "key", "network", "lock")
    ]
    assert str(data) in found["profile"].seen and "no peer is using" in found["lock"].seen


async def test_a_running_peer_holds_the_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))
    async with TCPPeer(0, name="ada", data=tmp_path / "ada", network="lab"):
        found = look(tmp_path / "ada")
    assert found["lock"].seen == f"in use by process {os.getpid()}"
    assert found["network"].seen.startswith("its own, lab: whoever knows")


def test_a_directory_without_a_profile(tmp_path: Path) -> None:
    [only] = check_profile(inspect_profile(tmp_path / "8081"))
    assert (only.what, only.verdict) == ("profile", "warning") and only.mend.endswith("p2pchat 8081")
    found = look(tmp_path)  # some directory
    assert found["key"].verdict == "warning" and "no peer has used" in found["key"].seen


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


def test_a_history_without_its_key_and_an_invalid_key(data: Path) -> None:
    (data / "identity.pem").write_text("-----BEGIN NONSENSE-----")
    found = look(data)["key"]
    assert found.verdict == "wrong" and found.mend.startswith("restore it from a backup")
    (data / "identity.pem").unlink()
    found = look(data)["key"]
    assert found.verdict == "warning" and "not the key of its user" in found.seen and "backup" in found.mend


def test_a_network_file_that_is_damaged_or_missing(data: Path) -> None:
    network = data.parent / "network"
    network.write_text("p2pchat-network 2 00")
    found = look(data)["network"]
    assert (found.verdict, found.seen) == ("wrong", f"{network} is damaged")
    assert found.mend == "restore it, or move it away and join again with an invite"
    network.unlink()
    found = look(data)["network"]
    assert (found.verdict, found.seen) == ("wrong", f"{network} is missing, the network of {data.name}")
    assert "p2pchat network restore FILE" in found.mend


LIMIT = Settings().min_free_disk_bytes


def test_missing_extras_are_listed_and_never_wrong() -> None:
    assert check_extras().verdict == "ok" and all(name in check_extras().seen for name in ("zeroconf", "mcp"))


def test_a_disk_that_is_full_nearly_full_and_not(tmp_path: Path) -> None:
    found = [check_disk(tmp_path, free) for free in (LIMIT - 1, LIMIT, 2 * LIMIT)]
    assert [one.verdict for one in found] == ["wrong", "warning", "ok"]
    assert "below 256 MiB nothing is accepted" in found[0].seen and found[0].mend


def test_sizes() -> None:
    assert [size(count) for count in (7, 2048, 300 << 20, 3 << 29)] == ["7 bytes", "2.0 KiB", "300 MiB", "1.5 GiB"]
