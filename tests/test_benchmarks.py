"""Every benchmark runs at a tiny size. No time is ever asserted."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as bench
from benchmarks import cluster, disk, report, stored
from benchmarks.against import __main__ as against
from benchmarks.against import works
from benchmarks.against.work_result import SystemResult, WorkResult
from benchmarks.growth import __main__ as growth
from benchmarks.growth import document
from benchmarks.growth.curves import Curve
from benchmarks.results import TEXT_BYTES, shown, text
from benchmarks.workers import ROOT
from tests.nats import missing

TINY = ["--messages=60", "--rounds=1", "--singles=1", "--entries=600", "--peers=3", "--links=2", "--crowd=20"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a directory on a disk. Skip if pytest's own is in memory: nothing durable can run there."""
    if disk.file_system(tmp_path) in disk.IN_MEMORY:
        pytest.skip(f"{tmp_path} is in memory: give --basetemp on a disk")
    return tmp_path


@pytest.mark.timeout(300)  # it starts some sixty processes
def test_every_work_adds_rows_to_the_table_and_the_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = place / "found.json"
    assert bench.main([*TINY, f"--dir={place}", f"--json={found}"]) == 0
    said, told = capsys.readouterr().out, json.loads(found.read_text("utf-8"))
    assert told["failed"] == []
    assert told["machine"]["journal_mode"] == "wal"
    assert told["machine"]["synchronous"] == "full (2)"
    works = [row["work"] for row in told["rows"]]
    some = ["send_many", "gather", "delivered", "newcomer", "mesh", "--version", "frames only", "idle link", "/who"]
    some.append("a search")
    for words in some:
        assert any(words in work for work in works), words
    assert all(work in said for work in works)
    assert list(place.iterdir()) == [found], "the works clean up behind themselves"


BESIDE = ["--messages=40", "--rounds=1", "--seconds=0.01", "--warm-up=0", "--backlog=30", "--peers=3"]
BESIDE += ["--links=1", "--stored=300", "--idle=0.01", "--takers=2"]


def test_installed_systems_are_compared_and_others_left_out_with_the_reason(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = place / "found.json"
    assert against.main(["latency", *BESIDE, f"--dir={place}", f"--json={found}"]) == 0
    said, told = capsys.readouterr().out, json.loads(found.read_text("utf-8"))
    assert told["failed"] == []
    (work,) = told["works"]
    measured = {system["name"] for system in work["systems"]}
    left_out = {reason.partition(":")[0] for reason in work["left_out"]}
    assert measured | left_out == {system.name for system in works.SINGLE}
    assert all(system["median"] > 0 for system in work["systems"])
    assert all(name in said for name in measured | left_out)


@pytest.mark.timeout(300)  # it starts some thirty processes
def test_every_comparison_runs_and_the_report_writes_document_and_plot(place: Path) -> None:
    found = place / "found.json"
    assert against.main([*BESIDE, "--beside", "streams_json", f"--dir={place}", f"--json={found}"]) == 0
    told = json.loads(found.read_text("utf-8"))
    assert told["failed"] == []
    assert [work["work"].partition(" ")[0] for work in told["works"]] == list(against.WORKS)
    shutil.copy(ROOT / "docs" / "compared.md", place)
    assert report.main([str(found), f"--docs={place}"]) == 0
    written = (place / "compared.md").read_text("utf-8")
    for work in told["works"]:
        assert work["words"][1:] in written
    if find_spec("matplotlib"):
        assert (place / "compared.svg").read_text("utf-8").rstrip().endswith("</svg>")


def test_systems_without_storage_are_compared_with_p2pchat_in_memory() -> None:
    stored, plain = SystemResult("stored", [20.0], ours=True), SystemResult("in memory", [60.0, 90.0, 120.0], ours=True)
    server, socket = SystemResult("server", [10.0]), SystemResult("socket", [30.0], alike=("frames", "in memory"))
    found = WorkResult("seven", "one to seven", "/s", [stored, plain, server, socket])
    assert [found.beside(each).name for each in (server, socket)] == ["stored", "in memory"]
    assert [found.ratio(each) for each in (server, socket)] == [2.0, 3.0]
    bars = list(report._bars({"works": [found.to_json()]}))
    assert [(bar.words, bar.better, bar.least, bar.most) for bar in bars] == [
        ("seven: server", 2.0, 2.0, 2.0),
        ("seven: socket", 3.0, 2.0, 4.0),
    ]


def test_a_shorter_time_is_drawn_as_better() -> None:
    found = WorkResult(
        "backlog", "a backlog", "ms", [SystemResult("ours", [2.0, 4.0], ours=True), SystemResult("theirs", [6.0])]
    )
    (bar,) = report._bars({"works": [found.to_json()]})
    assert (bar.better, bar.least, bar.most) == (2.0, 1.5, 3.0)


@pytest.mark.timeout(300)  # it starts eighteen processes
def test_each_driver_of_growth_writes_curves_to_the_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = place / "found.json"
    drivers = [driver for driver in growth.DRIVERS if driver != "conversations"]  # its works are those of `crowded`
    sizes = ["--peers=2", "--history=8", "--runs=2", "--sizes=16,64", "--readers=0,1"]
    assert growth.main([*drivers, "--quick", *sizes, f"--dir={place}", f"--json={found}"]) == 0
    said, told = capsys.readouterr().out, json.loads(found.read_text("utf-8"))
    assert told["failed"] == []
    assert list(told["growth"]) == drivers
    for driver, curves in told["growth"].items():
        for curve in curves:
            assert curve["cost"] in said
            assert curve["points"], f"{driver}: {curve['cost']}"
    assert list(place.iterdir()) == [found]
    shutil.copy(ROOT / "docs" / "growth.md", place)
    assert report.main([str(found), f"--docs={place}"]) == 0
    written = (place / "growth.md").read_text("utf-8")
    assert all(
        f"| {curve['cost']}, {curve['unit']} |" in written for curves in told["growth"].values() for curve in curves
    )


def test_later_figures_of_growth_replace_those_of_the_same_size() -> None:
    def cost(name: str, *points: tuple[float, float]) -> dict[str, Any]:
        return Curve(name, "ms", list(points)).to_json()

    first = {"history": [cost("start", (1_000, 1.0), (10_000, 2.0)), cost("page", (1_000, 5.0))]}
    later = {"history": [cost("start", (10_000, 3.0), (100_000, 4.0)), cost("page")]}
    page = "# Growth\n<!-- growth: history -->\nold\n<!-- end of history -->\nwords\n"
    assert document.put_into(page, document.merged(first, later)).splitlines() == [
        "# Growth",
        "<!-- growth: history -->",
        "| | 10^3 | 10^4 | 10^5 | exponent |",
        "|---|---|---|---|---|",
        "| start, ms | 1 | 3 | 4 | 0.3 |",
        "| page, ms | 5 |  |  |  |",
        "<!-- end of history -->",
        "words",
    ]
    with pytest.raises(ValueError, match="no place for figures"):
        document.put_into("# Growth", first)


@pytest.mark.parametrize(
    "points, growth",
    [
        ([(1, 3.0), (10, 3.1), (100, 2.9)], "constant"),
        ([(1, 9.0), (10, 12.0), (100, 90.0), (1000, 900.0)], "linear"),
        ([(2, 1.0), (4, 4.0), (8, 16.0)], "quadratic"),
        ([(10, 5.0)], ""),
        ([(0, 5.0), (1, 0.0)], ""),
    ],
)
def test_a_curve_names_its_growth(points: list[tuple[float, float]], growth: str) -> None:
    assert Curve("a cost", "s", points).growth == growth


def test_durable_work_is_refused_on_a_file_system_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(disk, "file_system", lambda path: "tmpfs")
    assert bench.main([*TINY, f"--dir={tmp_path}"]) == 1
    assert "is on tmpfs, which is memory" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_gateway_is_compared_with_plain_servers_if_named(place: Path) -> None:
    found = place / "found.json"
    assert bench.main(["web", "--users=3", "--rounds=1", f"--dir={place}", f"--json={found}"]) == 0
    works = [row["work"] for row in json.loads(found.read_text("utf-8"))["rows"]]
    for words in (
        "/chat: gateway / plain FastAPI",
        "Socket.IO: gateway / plain python-socketio",
        "memory of a user, idle",
    ):
        assert any(words in work for work in works), words


@pytest.mark.timeout(300)  # it starts fifteen processes
def test_files_are_compared_with_one_connection_if_named(place: Path) -> None:
    found = place / "found.json"
    assert bench.main(["files", "--size=1", "--files=20", f"--dir={place}", f"--json={found}"]) == 0
    rows = {row["work"]: row for row in json.loads(found.read_text("utf-8"))["rows"]}
    assert "a TLS connection" in rows["a file of 1 MiB"]["floor"]
    assert next(row["value"] for work, row in rows.items() if "readers" in work) > 0.9
    assert list(place.iterdir()) == [found]


@pytest.mark.skipif(bool(missing()) or sys.platform != "linux", reason=missing() or "there is no /proc")
def test_a_cluster_is_compared_with_one_gateway_if_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "SECONDS", 1.0)
    found = place / "found.json"
    assert bench.main(["cluster", "--users=6", "--rounds=1", f"--dir={place}", f"--json={found}"]) == 0
    rows = json.loads(found.read_text("utf-8"))["rows"]
    assert [row["work"].partition(":")[0] for row in rows] == [work.words for work in cluster.WORKS]


@pytest.mark.parametrize("given", [["nothing"], ["--entries=0"], ["--peers=1"], ["--rounds=x"]])
def test_invalid_arguments_exit_with_code_2(given: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.arguments(given)
    assert ended.value.code == 2


def test_texts_have_the_goal_size_and_figures_three_digits() -> None:
    assert len(text(0)) == len(text(99_999_999)) == TEXT_BYTES
    assert [shown(value) for value in (123_456, 1234, 12.345, 0.01234)] == ["123,000", "1,230", "12.3", "0.0123"]


def test_a_history_written_one_by_one_has_valid_heads(tmp_path: Path) -> None:
    """The heads of each of its writers verify, and a fetch returns everything in whole batches."""
    from p2pchat.core.log import extend_chain, first_chain, head_message, verify
    from p2pchat.core.storage_answers import WantStart
    from p2pchat.identity.keys import Identity
    from p2pchat.storage.sql import SqlStorage

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
        chain = first_chain(writing.log)
        for batch in batches:
            chain = extend_chain(chain, batch.raws)
            assert verify(batch.log.user, batch.head, head_message(batch.log, batch.last, chain))
