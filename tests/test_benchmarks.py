"""The benchmarks run: every work at a tiny size. No time is ever asserted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import __main__ as bench
from benchmarks import against, disk, stored
from benchmarks.results import TEXT_BYTES, shown, text

TINY = ["--messages=60", "--rounds=1", "--singles=1", "--entries=600", "--peers=3", "--links=2", "--crowd=20"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory on a disk; where pytest's own is memory there is nothing durable to run."""
    if disk.file_system(tmp_path) in disk.IN_MEMORY:
        pytest.skip(f"{tmp_path} is in memory: give --basetemp on a disk")
    return tmp_path


def test_every_work_gives_its_rows_and_the_table_and_the_file_hold_them(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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


def test_p2pchat_stands_beside_what_is_installed_and_the_rest_is_left_out_with_the_reason(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = place / "found.json"
    given = ["latency", "--messages=50", "--rounds=1", "--warm-up=0", f"--dir={place}", f"--json={found}"]
    assert against.main(given) == 0
    said, told = capsys.readouterr().out, json.loads(found.read_text("utf-8"))
    assert told["failed"] == []
    (work,) = told["works"]
    measured = {system["name"] for system in work["systems"]}
    left_out = {reason.partition(":")[0] for reason in work["left_out"]}
    assert measured | left_out == {system.name for system in against.WORKS["latency"].systems}
    assert all(system["median"] > 0 for system in work["systems"])
    assert all(name in said for name in measured | left_out)


def test_durable_work_is_refused_where_nothing_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(disk, "file_system", lambda path: "tmpfs")
    assert bench.main([*TINY, f"--dir={tmp_path}"]) == 1
    assert "is on tmpfs, which is memory" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_gateway_is_measured_beside_plain_servers_where_it_is_named(place: Path) -> None:
    found = place / "found.json"
    assert bench.main(["web", "--users=3", "--rounds=1", f"--dir={place}", f"--json={found}"]) == 0
    works = [row["work"] for row in json.loads(found.read_text("utf-8"))["rows"]]
    for words in (
        "/chat: gateway / plain FastAPI",
        "Socket.IO: gateway / plain python-socketio",
        "memory of a user, idle",
    ):
        assert any(words in work for work in works), words


@pytest.mark.parametrize("given", [["nothing"], ["--entries=0"], ["--peers=1"], ["--rounds=x"]])
def test_what_cannot_be_meant_ends_with_code_2(given: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.arguments(given)
    assert ended.value.code == 2


def test_texts_have_the_size_of_the_goals_and_figures_three_digits() -> None:
    assert len(text(0)) == len(text(99_999_999)) == TEXT_BYTES
    assert [shown(value) for value in (123_456, 1234, 12.345, 0.01234)] == ["123,000", "1,230", "12.3", "0.0123"]


def test_a_history_written_one_by_one_is_what_signing_every_entry_leaves(tmp_path: Path) -> None:
    """Its heads verify, and a fetch gives everything in whole batches."""
    from p2pchat.core.log import LogId, extend_chain, first_chain, head_message, verify
    from p2pchat.core.records import WantStart
    from p2pchat.identity.keys import Identity
    from p2pchat.storage.sql import SqlStorage

    ada = Identity.generate()
    log = LogId("ab" * 32, ada.peer_id, "cd" * 8)
    storage = SqlStorage(f"sqlite:///{tmp_path}/history.db")
    for changes in stored._transactions(log, ada.sign, 600, 1):
        storage.commit(changes)
    stored._sign_what_was_kept(tmp_path / "history.db", log, ada.sign)
    batches, more = storage.fetch(log.conversation, log.user, WantStart(()), batches=8)
    storage.close()
    assert more is None
    assert [batch.first for batch in batches] == [1, 257, 513]
    chain = first_chain(log)
    for batch in batches:
        chain = extend_chain(chain, batch.raws)
        assert verify(log.user, batch.head, head_message(log, batch.last, chain))
