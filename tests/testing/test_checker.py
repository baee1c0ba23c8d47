"""The checker over logs that keep every promise, and over logs that each break one."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from p2pchat.testing.checker import Line, Log, check

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Writer:
    """Makes the log of one peer, line by line; each line is a second after the one before unless `at` is said."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: list[Line] = []
        self._at = 0.0

    def line(self, event: str, *, at: float | None = None, **fields: Any) -> Writer:
        self._at = self._at + 1.0 if at is None else at
        self.lines.append({"event": event, "at": _iso(self._at), **fields})
        return self

    def listening(self, **more: Any) -> Writer:
        return self.line("listening", user=self.name, user_id=_id(self.name), **more)

    def sent(self, id: str, *, kind: str = "room", **more: Any) -> Writer:
        return self._message("sent", id, self.name, kind, more)

    def message(self, id: str, sender: str, *, kind: str = "room", **more: Any) -> Writer:
        return self._message("message", id, sender, kind, more)

    def delivered(self, id: str, user: str, **more: Any) -> Writer:
        return self.line("delivered", id=id, user=user, user_id=_id(user), **more)

    def joined(self, user: str, **more: Any) -> Writer:
        return self.line("joined", user=user, user_id=_id(user), **more)

    def left(self, user: str, reason: str, **more: Any) -> Writer:
        return self.line("left", user=user, user_id=_id(user), reason=reason, **more)

    def stopped(self, **more: Any) -> Writer:
        return self.line("stopped", reason="left", **more)

    def log(self) -> Log:
        return Log(self.name, self.lines)

    def _message(self, event: str, id: str, sender: str, kind: str, more: dict[str, Any]) -> Writer:
        said = {
            "id": id, "conversation_id": kind.upper(), "kind": kind, "sender": sender, "sender_id": _id(sender),
            "text": f"text of {id}", "sent_at": _iso(0),
        }  # fmt: skip
        return self.line(event, **(said | more))


def _id(name: str) -> str:
    return name.upper()


def _iso(at: float) -> str:
    return (BEGIN + timedelta(seconds=at)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def rules(*writers: Writer, complete: bool = False) -> list[str]:
    return [fault.rule for fault in check([writer.log() for writer in writers], complete=complete)]


def ada() -> Writer:
    return Writer("ada").listening().joined("bob")


def bob() -> Writer:
    return Writer("bob").listening().joined("ada")


def test_logs_that_keep_every_promise_have_no_fault() -> None:
    one = ada().sent("A.1").sent("A.2").message("B.1", "bob")
    one.delivered("A.1", "bob", count=1, of=1).delivered("A.2", "bob", count=1, of=1)
    two = bob().message("A.1", "ada").message("A.2", "ada").sent("B.1").delivered("B.1", "ada")
    assert check([one.log(), two.log()], complete=True) == []


def test_a_fault_says_whose_log_which_line_and_never_the_text() -> None:
    two = bob().message("A.1", "ada").message("A.1", "ada")
    (fault,) = check([two.log()])
    assert (fault.rule, fault.where) == ("twice", "bob:4")
    assert "text of" not in str(fault)


def test_one_message_twice_in_one_life_is_a_fault_and_after_a_restart_is_none() -> None:
    assert rules(bob().message("A.1", "ada").message("A.1", "ada")) == ["twice"]
    assert rules(bob().message("A.1", "ada").listening().message("A.1", "ada")) == []


def test_two_equal_texts_are_two_messages() -> None:
    assert rules(bob().message("A.1", "ada", text="ok").message("A.2", "ada", text="ok")) == []


def test_another_text_than_was_written_is_a_fault() -> None:
    assert rules(ada().sent("A.1"), bob().message("A.1", "ada", text="something else")) == ["text"]


def test_another_time_than_the_writers_is_a_fault() -> None:
    assert rules(ada().sent("A.1"), bob().message("A.1", "ada", sent_at=_iso(7))) == ["text"]


def test_a_message_its_writer_never_sent_is_a_fault() -> None:
    assert rules(ada().sent("A.1").stopped(), bob().message("A.1", "ada").message("A.2", "ada")) == ["invented"]


def test_a_writer_that_was_killed_may_have_sent_what_it_did_not_log() -> None:
    assert rules(ada().sent("A.1"), bob().message("A.1", "ada").message("A.2", "ada")) == []


def test_a_message_before_its_predecessor_is_a_fault() -> None:
    assert rules(ada().sent("A.1").sent("A.2"), bob().message("A.2", "ada").message("A.1", "ada")) == ["order"]


def test_order_counts_across_the_restarts_of_a_writer() -> None:
    one = ada().sent("A.1").stopped().listening().sent("Z.1")
    assert rules(one, bob().message("Z.1", "ada").message("A.1", "ada")) == ["order"]


def test_a_message_left_out_before_one_that_came_is_a_fault() -> None:
    assert rules(ada().sent("A.1").sent("A.2"), bob().message("A.2", "ada")) == ["order"]


def test_a_gap_that_was_told_is_no_fault() -> None:
    two = bob().line("gap", code="gap", about="A.2").message("A.2", "ada", gap=True)
    assert rules(ada().sent("A.1").sent("A.2"), two) == []


def test_a_message_that_never_came_in_a_minute_of_seeing_each_other_is_lost() -> None:
    assert rules(ada().sent("A.1"), bob().line("presence", at=63.5)) == ["lost"]
    assert rules(ada().sent("A.1"), bob().line("presence", at=62.5)) == []


def test_where_things_were_held_back_on_purpose_late_is_not_lost() -> None:
    logs = [ada().sent("A.1").log(), bob().line("presence", at=600.0).log()]
    assert check(logs, timely=False) == []


def test_a_message_to_somebody_who_was_away_is_not_lost_yet() -> None:
    two = bob().left("ada", "lost").line("presence", at=600.0)
    assert rules(ada().sent("A.1", at=10.0), two) == []


def test_once_all_has_come_to_rest_whatever_is_missing_is_lost() -> None:
    assert rules(ada().sent("A.1"), bob(), complete=True) == ["lost"]


def test_a_direct_message_is_not_expected_of_a_third_peer() -> None:
    one = ada().sent("D.1", kind="dm", to_id="BOB").delivered("D.1", "bob")
    two = bob().message("D.1", "ada", kind="dm")
    assert rules(one, two, Writer("cyd").listening(), complete=True) == []


def test_a_direct_message_on_a_third_peer_is_a_fault() -> None:
    one = ada().sent("D.1", kind="dm", to_id="BOB")
    third = Writer("cyd").listening().message("D.1", "ada", kind="dm")
    assert rules(one, bob().message("D.1", "ada", kind="dm"), third) == ["dm"]


def test_delivered_to_one_who_does_not_have_it_is_a_fault() -> None:
    one = ada().sent("A.1", at=2.0).delivered("A.1", "bob")
    assert rules(one, bob().left("ada", "lost").line("presence", at=63.0)) == ["delivered"]


def test_one_who_was_killed_right_after_may_have_it_unseen() -> None:
    assert rules(ada().sent("A.1").delivered("A.1", "bob"), bob()) == []


def test_a_receipt_for_somebody_elses_message_is_a_fault() -> None:
    assert rules(bob().message("A.1", "ada").delivered("A.1", "cyd")) == ["receipt"]


def test_a_receipt_count_that_falls_is_a_fault() -> None:
    one = ada().sent("A.1").delivered("A.1", "bob", count=2).delivered("A.1", "cyd", count=1)
    assert rules(one) == ["receipt"]


def test_a_receipt_count_may_begin_anew_in_a_new_life() -> None:
    """Marks heard at the very end of a life need not have been saved: they are told again."""
    one = ada().sent("A.1").delivered("A.1", "bob", count=2).listening().delivered("A.1", "cyd", count=1)
    assert rules(one) == []


def test_one_member_told_of_twice_is_a_fault() -> None:
    assert rules(ada().sent("A.1").delivered("A.1", "bob").delivered("A.1", "bob")) == ["receipt"]


def test_a_receipt_that_never_came_is_a_fault_once_all_has_come_to_rest() -> None:
    pair = ada().sent("A.1"), bob().message("A.1", "ada")
    assert rules(*pair) == []
    assert rules(*pair, complete=True) == ["receipt"]


def test_a_receipt_may_die_with_the_process_that_heard_it() -> None:
    """It was saved with a commit and not shown yet; of what is sent later every receipt has to come."""
    again = ada().sent("A.1").listening(at=10.0).sent("B.1", sent_at=_iso(11.0))
    other = bob().message("A.1", "ada").message("B.1", "ada", sent_at=_iso(11.0))
    assert rules(again, other, complete=True) == ["receipt"]
    assert rules(again.delivered("B.1", "bob"), other, complete=True) == []


def test_a_receipt_may_be_lost_while_its_writer_leaves_and_not_afterwards() -> None:
    """Of an earlier run it is looked up before it is told, and a closed database does not answer."""
    in_order = ada().sent("A.1").stopped().listening(at=10.0)
    assert rules(in_order, bob().message("A.1", "ada"), complete=True) == []
    assert rules(in_order, bob().message("A.1", "ada", at=13.0), complete=True) == ["receipt"]
    assert rules(in_order.delivered("A.1", "bob"), bob().message("A.1", "ada", at=13.0), complete=True) == []


def test_nobody_told_of_a_departure_is_a_fault() -> None:
    gone = ada().stopped(at=10.0)
    assert rules(gone, bob().line("presence", at=48.0)) == ["departure"]
    assert rules(gone, bob().line("presence", at=46.0)) == []  # silence may be noticed as late as that


def test_a_goodbye_told_too_late_is_a_fault() -> None:
    gone = ada().stopped(at=10.0)
    assert rules(gone, bob().left("ada", "left", at=10.9)) == []
    assert rules(gone, bob().left("ada", "left", at=13.5)) == ["departure"]
    assert rules(gone, bob().left("ada", "timeout", at=44.0)) == []


def test_lines_after_stopped_are_a_fault_and_after_a_new_start_are_none() -> None:
    assert rules(ada().stopped().sent("A.1")) == ["form"]
    assert rules(ada().stopped().listening().sent("Z.1")) == []


def test_two_histories_in_different_orders_are_a_fault() -> None:
    one = Writer("ada").sent("A.1").message("B.1", "bob").message("C.1", "cyd")
    two = Writer("bob").message("C.1", "cyd").message("A.1", "ada")
    assert rules(one, two) == ["history"]
    assert rules(one, Writer("bob").message("A.1", "ada").message("C.1", "cyd")) == []


def test_a_message_twice_in_a_history_is_a_fault() -> None:
    assert rules(Writer("bob").message("A.1", "ada").message("A.1", "ada")) == ["twice"]


def test_a_log_is_read_from_a_file_and_a_torn_last_line_is_a_kill(tmp_path: Path) -> None:
    whole = "".join(json.dumps(line) + "\n" for line in bob().message("A.1", "ada").lines)
    path = tmp_path / "bob.jsonl"
    path.write_bytes((whole + '{"event": "mess').encode())
    log = Log.read(path)
    assert (len(log.lines), log.bad, log.user_id, log.killed) == (3, [], "BOB", True)


def test_lines_that_are_no_events_are_faults_with_their_number() -> None:
    data = b'nonsense\n{"event": "joined", "at": "2026-01-01T00:00:00Z"}\n[]\n{"event": "x", "at": "noon"}\n\xff\n'
    faults = check([Log.parse("log", data)])
    assert [(fault.rule, fault.where) for fault in faults] == [("form", f"log:{n}") for n in (1, 2, 3, 4, 5)]


def test_unknown_events_and_fields_are_passed_over() -> None:
    assert Log.parse("log", b'{"event": "later", "at": "2026-01-01T00:00:00Z", "more": [1]}\n').bad == []


def test_half_a_line_before_another_life_is_a_kill_and_elsewhere_a_fault() -> None:
    lines = [json.dumps(line).encode() for line in ada().sent("A.1").listening().lines]
    killed = Log.parse("ada", b"\n".join([*lines[:-1], b'{"event":"se', lines[-1], b""]))
    assert [line["event"] for line in killed.lines] == ["listening", "joined", "sent", "listening"]
    assert check([killed]) == []
    spoiled = Log.parse("ada", b"\n".join([*lines[:-2], b'{"event":"se', *lines[-2:], b""]))
    assert [fault.rule for fault in check([spoiled])] == ["form"]
