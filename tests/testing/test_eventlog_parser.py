"""Event logs in files: cut off at either end, torn by a kill, written by another shell, with invalid lines."""

from __future__ import annotations

import json
from pathlib import Path

from p2pchat.testing.eventlog_checker import check
from p2pchat.testing.eventlog_parser import Log
from tests.testing.event_logs import Writer, ada, bob, iso, rules


def test_lines_after_stopped_are_a_fault_and_after_a_new_start_are_none() -> None:
    assert rules(ada().stopped().sent("A.1")) == ["form"]
    assert rules(ada().stopped().listening().sent("Z.1")) == []


def test_a_log_is_read_from_a_file_and_a_torn_last_line_is_a_kill(tmp_path: Path) -> None:
    whole = "".join(json.dumps(line) + "\n" for line in bob().message("A.1", "ada").lines)
    path = tmp_path / "bob.jsonl"
    path.write_bytes((whole + '{"event": "mess').encode())
    log = Log.read(path)
    assert (len(log.lines), log.bad, log.user_id, log.killed) == (3, [], "BOB", True)


def test_a_line_that_is_not_an_event_is_a_fault_with_its_number() -> None:
    data = b'nonsense\n{"event": "joined", "at": "2026-01-01T00:00:00Z"}\n[]\n{"event": "x", "at": "noon"}\n\xff\n'
    faults = check([Log.parse("log", data)])
    assert [(fault.rule, fault.where) for fault in faults] == [("form", f"log:{n}") for n in (1, 2, 3, 4, 5)]


def test_unknown_events_and_fields_are_ignored() -> None:
    assert Log.parse("log", b'{"event": "later", "at": "2026-01-01T00:00:00Z", "more": [1]}\n').bad == []


def test_half_a_line_is_a_kill_before_a_new_session_and_a_fault_elsewhere() -> None:
    lines = [json.dumps(line).encode() for line in ada().sent("A.1").listening().lines]
    killed = Log.parse("ada", b"\n".join([*lines[:-1], b'{"event":"se', lines[-1], b""]))
    assert [line["event"] for line in killed.lines] == ["listening", "joined", "sent", "listening"]
    assert check([killed]) == []
    spoiled = Log.parse("ada", b"\n".join([*lines[:-2], b'{"event":"se', *lines[-2:], b""]))
    assert [fault.rule for fault in check([spoiled])] == ["form"]


def test_a_log_without_its_beginning_is_checked_from_its_first_line() -> None:
    rest = Writer("bob").message("A.1", "ada").stopped().listening().message("A.1", "ada")
    assert rules(rest) == []


def test_lines_before_listening_belong_to_the_session_that_begins() -> None:
    log = Writer("bob").line("warning", code="old", text="…").listening().message("A.1", "ada").log()
    assert len(log.sessions) == 1


def test_malformed_lines_are_faults_and_stop_nothing() -> None:
    said = ada().sent("A.1").lines[-1]
    wrong = [
        {**said, "sent_at": "noon"}, {**said, "after": "B.1"}, {**said, "reply_to": {}}, {**said, "to_id": ["BOB"]},
        {"event": "delivered", "at": iso(1), "id": "A.1", "user_id": "BOB", "count": "2"},
        {"event": "gap", "at": iso(1), "about": []},
        {"event": "joined", "at": "0001-01-01T00:00:00", "user_id": "BOB"},
    ]  # fmt: skip
    data = b"".join(json.dumps(line).encode() + b"\n" for line in wrong) + b"[" * 100_000 + b"\n"
    assert [fault.rule for fault in check([Log.parse("log", data)], complete=True)] == ["form"] * 8


def test_a_file_written_by_a_windows_shell_is_read() -> None:
    lines = "\r\n".join(json.dumps(line) for line in bob().message("A.1", "ada", text="grüße").lines) + "\r\n"
    for data in (lines.encode("utf-16"), lines.encode("utf-8-sig")):
        log = Log.parse("bob", data)
        assert (len(log.lines), log.bad, log.received["A.1"]["text"]) == (3, [], "grüße")
