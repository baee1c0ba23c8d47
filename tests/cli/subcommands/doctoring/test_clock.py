"""The clock against what is stored: real messages with real times, and a `now` that is handed in."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from p2pchat import Message, Sent, TCPPeer, open_history
from p2pchat.cli.subcommands.doctor_checks import clock, span

MINUTE = timedelta(minutes=1)


async def talked(home: Path, *writers: str, count: int = 3) -> None:
    """Have these write to ada, who keeps it, live."""
    async with TCPPeer(0, name="ada", data=home / "ada") as ada:
        for name in writers:
            async with TCPPeer(0, ada.endpoint, name=name, data=home / name) as writer:
                await writer.wait_user("ada", timeout=20)
                for number in range(count):
                    await (await writer.broadcast(f"{number}")).delivered(timeout=20)


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
            "update places set received_at = received_at + ? - (start & 255) * ?",
            (round(by.total_seconds() * 1e6), round(every.total_seconds() * 1e6)),
        )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))
    return tmp_path


def verdict(posts: Sequence[Message | Sent], now: datetime | None = None) -> tuple[str, str]:
    found = clock(now or datetime.now(UTC), posts)
    assert bool(found.mend) == (found.verdict != "ok")
    return found.verdict, found.seen


async def test_clocks_that_agree_and_one_that_went_back(home: Path) -> None:
    await talked(home, "bob", "cyd")
    posts = await stored(home)
    assert verdict(posts)[0] == "ok" and verdict(posts)[1].endswith(", as others have it")
    assert verdict(posts, datetime.now(UTC) - timedelta(hours=5)) == (
        "wrong",
        "messages were received here 5 hours from now: the clock went back, or was ahead then",
    )


async def test_a_clock_that_is_behind(home: Path) -> None:
    await talked(home, "bob", "cyd")
    move(home, -10 * MINUTE)
    assert verdict(await stored(home)) == ("wrong", "it is 10 minutes or more behind those of 2 others")


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


async def test_one_against_one(home: Path) -> None:
    await talked(home, "bob")
    move(home, -10 * MINUTE)
    told, seen = verdict(await stored(home))
    assert told == "warning" and "bob" in seen and "one of the two is off" in seen


async def test_what_came_long_ago_says_nothing(home: Path) -> None:
    await talked(home, "bob", "cyd")
    move(home, -10 * MINUTE)
    assert verdict(await stored(home), datetime.now(UTC) + timedelta(days=3))[0] == "ok"


def test_a_clock_that_was_never_set() -> None:
    assert verdict([], datetime(1970, 1, 1, 0, 5, tzinfo=UTC)) == ("wrong", "it says 1970-01-01, which is long ago")
    assert verdict([])[0] == "ok"


def test_lengths_of_time() -> None:
    lengths = [timedelta(seconds=61), timedelta(minutes=3), timedelta(hours=30), timedelta(days=400)]
    assert [span(length) for length in lengths] == ["61 seconds", "3 minutes", "30 hours", "400 days"]
