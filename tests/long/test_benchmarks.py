"""Every benchmark still runs, at a tiny size. No figure is asserted."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as bench
from benchmarks import cluster, compare, disk, report, stored
from benchmarks.against import __main__ as against
from benchmarks.growth import __main__ as growth
from benchmarks.workers import ROOT
from p2pchat import TCPPeer
from p2pchat.core.durable_changes import WantStart
from p2pchat.core.log import extend_chain, first_chain, head_message, verify
from p2pchat.identity.identity import Identity
from p2pchat.storage.sql_storage import SqlStorage
from tests.nats import missing

pytestmark = [pytest.mark.weekly, pytest.mark.timeout(600)]  # one starts up to sixty processes

TINY = ["--messages=60", "--rounds=1", "--singles=1", "--entries=600", "--peers=3", "--links=2", "--crowd=20"]
TINY += ["--users=6", "--size=1", "--files=20"]
BESIDE = ["--messages=40", "--rounds=1", "--seconds=0.01", "--warm-up=0", "--backlog=30", "--peers=3"]
BESIDE += ["--links=1", "--stored=300", "--idle=0.01", "--takers=2", "--beside", "streams_json"]
GROWTH = ["--quick", "--peers=2", "--history=8", "--runs=2", "--sizes=16,64", "--readers=0,1"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a directory on a disk. Skip if pytest's own is in memory: nothing durable can run there."""
    if disk.file_system(tmp_path) in disk.IN_MEMORY:
        pytest.skip(f"{tmp_path} is in memory: give --basetemp on a disk")
    return tmp_path


def found(main: Callable[[list[str]], int], words: Sequence[str], place: Path) -> dict[str, Any]:
    """Run a benchmark; return what it wrote, the only file that it leaves."""
    file = place / "found.json"
    assert main([*words, f"--dir={place}", f"--json={file}"]) == 0
    told: dict[str, Any] = json.loads(file.read_text("utf-8"))
    assert not told["failed"]
    assert list(place.iterdir()) == [file]
    return told


@pytest.mark.parametrize(
    "words", [[], ["web"], ["files"], ["carried"], ["cluster"]], ids=lambda words: words[0] if words else "all"
)
def test_the_works_are_measured(words: list[str], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if words == ["cluster"] and (missing() or sys.platform != "linux"):
        pytest.skip(missing() or "there is no /proc")
    monkeypatch.setattr(cluster, "SECONDS", 1.0)
    assert found(bench.main, [*words, *TINY], place)["rows"]


def test_installed_systems_are_compared_and_the_report_is_written(place: Path) -> None:
    works = found(against.main, BESIDE, place)["works"]
    assert len(works) == len(against.WORKS)
    shutil.copy(ROOT / "docs" / "measured.md", place)
    assert report.main([str(place / "found.json"), f"--docs={place}"]) == 0
    page = (place / "measured.md").read_text("utf-8")
    assert [work["work"] for work in works if work["words"][1:] not in page] == []


def test_growth_is_measured_and_the_report_is_written(place: Path) -> None:
    drivers = [driver for driver in growth.DRIVERS if driver != "conversations"]  # its works are those of `crowded`
    curves = [curve for each in found(growth.main, [*drivers, *GROWTH], place)["growth"].values() for curve in each]
    shutil.copy(ROOT / "docs" / "measured.md", place)
    assert report.main([str(place / "found.json"), f"--docs={place}"]) == 0
    page = (place / "measured.md").read_text("utf-8")
    assert [curve["cost"] for curve in curves if curve["cost"] not in page] == []


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="there is no git here")
def test_a_commit_is_compared_with_the_working_tree(place: Path) -> None:
    assert found(compare.main, ["HEAD", "startup", "--rounds=1"], place)["figures"]


def test_a_history_written_one_by_one_has_valid_heads(tmp_path: Path) -> None:
    """The heads of each of its writers verify, and a fetch returns everything in whole batches."""
    writers = [stored.LogWriter("ab" * 32, Identity.generate(), number) for number in (1, 2)]
    storage = SqlStorage(f"sqlite:///{tmp_path}/history.db")
    for changes in stored.transactions(writers, 1200, 1):
        storage.commit(changes)
    stored.sign_what_was_kept(tmp_path / "history.db", writers)
    given = [storage.fetch("ab" * 32, writing.log.user, WantStart(()), batches=8) for writing in writers]
    shown = storage.places(0, 1200)
    storage.close()
    assert [place.place for place in shown] == list(range(1, 1201))
    for writing, (batches, more) in zip(writers, given, strict=True):
        assert more is None
        assert [batch.first for batch in batches] == [1, 257, 513]
        chain = first_chain(writing.header)
        for batch in batches:
            chain = extend_chain(chain, batch.raws)
            assert verify(batch.log.user, batch.head, head_message(batch.log, batch.last, chain))


async def test_the_connection_to_a_peer_is_measured_and_nothing_else_is_left_there(tmp_path: Path) -> None:
    async with TCPPeer(0, data=tmp_path / "ada", name="ada") as ada:
        async with TCPPeer(0, data=tmp_path / "bob", name="bob", invite=await ada.make_invite()):
            pass
        words = ("--data", str(tmp_path / "bob"), "--seconds", "0.1", "--write", "12", "--json")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.connection",
            ada.endpoint,
            *words,
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        found = {line["what"]: line for line in map(json.loads, out.splitlines())}
        assert list(found)[:4] == ["peer", "round_trip", "proof", "link"] and "delivered_many" in found
        assert all(line["value"] > 0 and line["count"] > 0 for what, line in found.items() if what != "peer")
        said = await ada.history("bench")
        assert len(said) == 12
