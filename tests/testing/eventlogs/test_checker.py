"""The checker over logs that keep every promise, and over logs that each break one about messages and their order."""

from __future__ import annotations

from p2pchat.core.sync.conversations import dm_id
from p2pchat.identity.names import base32
from p2pchat.testing.checker import Log, check
from tests.testing.eventlogs.logs import Writer, ada, bob, iso, rules


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
    assert rules(ada().sent("A.1"), bob().message("A.1", "ada", sent_at=iso(7))) == ["text"]


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


def test_a_gap_excuses_no_disorder_among_what_one_writer_sent() -> None:
    two = bob().line("gap", code="gap", about="A.2").message("A.2", "ada").message("A.1", "ada")
    assert rules(ada().sent("A.1").sent("A.2"), two) == ["order"]


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


# ---- nothing before what it answers


def test_an_answer_before_what_it_answers_is_a_fault_unless_a_gap_was_told() -> None:
    def two() -> Writer:
        return Writer("bob").listening().message("C.1", "cyd", reply_to="A.1")

    assert rules(two().message("A.1", "ada")) == ["answer"]
    assert rules(two().line("gap", code="gap", about="C.1", missing=["A.1"]).message("A.1", "ada")) == []
    marked = Writer("bob").listening().message("C.1", "cyd", reply_to="A.1", gap=True).message("A.1", "ada")
    assert rules(marked) == []  # shown in another life than the one that was told


def test_a_message_before_one_its_writer_had_been_shown_is_a_fault() -> None:
    two = Writer("bob").listening().message("C.1", "cyd", after=["D.1", "A.1"]).message("A.1", "ada")
    assert rules(two) == ["answer"]


def test_an_answer_behind_what_it_answers_or_to_what_never_stood_here_is_none() -> None:
    assert rules(bob().message("A.1", "ada").message("C.1", "cyd", reply_to="A.1", after=["A.1"])) == []
    assert rules(bob().message("C.1", "cyd", reply_to="A.1")) == []  # shown before this log began, perhaps
    assert (
        rules(bob().message("A.1", "ada").listening().message("C.1", "cyd", reply_to="A.1").message("A.1", "ada")) == []
    )


# ---- order, whatever is missing


def test_numbers_tell_the_order_without_the_writers_log() -> None:
    assert rules(bob().message("A.2", "ada").message("A.1", "ada")) == ["order"]
    assert rules(Writer("bob").message("A.2", "ada").message("A.1", "ada")) == ["order"]  # in a history too
    assert rules(bob().message("A.9", "ada").message("A.10", "ada")) == []
    assert (
        rules(bob().message("A.1", "ada").message("A.2", "ada").listening().message("A.1", "ada")) == []
    )  # handed again


def test_what_was_sent_before_a_log_begins_may_have_been_shown_before() -> None:
    pair = ada().sent("A.1", at=3.0).sent("A.2", at=200.0), Writer("bob").listening(at=100.0).message("A.2", "ada")
    assert rules(*pair) == []
    assert rules(*pair, complete=True) == ["order", "lost", "receipt"]


def test_what_a_forked_log_held_may_be_missing() -> None:
    two = bob().line("warning", code="fork", text="two entries under one number", about="ADA").message("Z.1", "ada")
    assert rules(ada().sent("A.1").sent("Z.1"), two) == []


# ---- nothing nobody sent


def test_a_message_between_two_that_were_logged_was_never_sent() -> None:
    """A process logs what it sends in order, so a kill takes the last lines only."""
    pair = ada().sent("A.1").sent("A.3"), bob().message("A.1", "ada").message("A.2", "ada").message("A.3", "ada")
    assert rules(*pair) == ["invented"]


def test_what_a_life_that_was_not_logged_sent_is_not_invented() -> None:
    one = ada().sent("A.1", at=10.0).stopped(at=20.0)
    early = iso(0.5)
    assert rules(one, bob().message("Z.1", "ada", sent_at=early).message("A.1", "ada")) == []
    assert rules(one, bob().message("A.1", "ada").message("Z.1", "ada", sent_at=iso(15.0))) == ["invented"]


def test_of_a_peer_that_still_runs_nothing_is_invented_until_all_has_come_to_rest() -> None:
    pair = ada().sent("A.1").delivered("A.1", "bob"), bob().message("A.1", "ada").message("A.2", "ada")
    assert rules(*pair) == []
    assert rules(*pair, complete=True) == ["invented"]


def test_two_logs_of_one_user_make_up_for_each_other() -> None:
    here = ada().sent("A.1").stopped()
    there = Writer("ada").listening().sent("Z.1").stopped()
    assert rules(here, there, bob().message("Z.1", "ada").message("A.1", "ada")) == []


# ---- texts


def test_one_id_with_two_texts_is_a_fault_whoever_has_them() -> None:
    assert rules(bob().message("A.1", "ada").listening().message("A.1", "ada", text="edited")) == ["text"]
    assert rules(bob().message("A.1", "ada"), Writer("cyd").listening().message("A.1", "ada", text="other")) == ["text"]


def test_a_writer_who_puts_its_message_under_another_name_is_found() -> None:
    assert rules(ada().sent("A.1"), bob().message("A.1", "cyd")) == ["text"]


def test_another_answer_or_order_of_what_was_shown_is_another_message() -> None:
    assert rules(ada().sent("A.1", after=["B.1"]), bob().message("A.1", "ada", after=[])) == ["text"]
    assert rules(ada().sent("A.1", reply_to=None), bob().message("A.1", "ada", reply_to="B.1")) == ["text"]


def test_a_new_name_is_another_label_and_no_other_message() -> None:
    two = bob().message("A.1", "ada").message("A.2", "ada")
    two.lines[-1]["sender"] = "Ada the Second"
    assert rules(ada().sent("A.1").sent("A.2"), two) == []


# ---- direct messages: a conversation's id says whose it is


def real(name: str) -> str:
    """Return an id as users have them."""
    return base32(name.encode().hex().ljust(64, "0"))


def one_of(two: tuple[str, str], name: str, id: str, event: str, sender: str) -> Log:
    """The log of a peer with one direct message of these two."""
    log = Writer(name).line("listening", user_id=real(name))
    return log.line(
        event, id=id, kind="dm", sender_id=real(sender), text="", sent_at=iso(0),
        conversation_id=base32(dm_id(*(user.encode().hex().ljust(64, "0") for user in two))),
    ).log()  # fmt: skip


def test_a_direct_message_that_never_came_is_lost_though_it_was_the_first() -> None:
    one = one_of(("ada", "bob"), "ada", "D.1", "sent", "ada")
    others = [Writer(name).line("listening", user_id=real(name)).log() for name in ("bob", "cyd")]
    assert [(fault.rule, fault.where) for fault in check([one, *others], complete=True)] == [("lost", "bob")]


def test_a_direct_message_of_two_others_is_a_fault_whoever_else_is_looked_at() -> None:
    assert [fault.rule for fault in check([one_of(("ada", "bob"), "cyd", "D.1", "message", "ada")])] == ["dm"]
    assert check([one_of(("ada", "bob"), "bob", "D.1", "message", "ada")]) == []


# ---- all of it


def test_a_fault_says_where_the_other_side_of_it_stands() -> None:
    one, two = ada().sent("A.1").sent("Z.1"), bob().message("Z.1", "ada").message("A.1", "ada")
    (fault,) = check([one.log(), two.log()])
    assert str(fault) == "bob:3: order: Z.1 came before A.1, which was sent before it (ada:3)"


def test_long_logs_are_judged_in_one_go() -> None:
    """100,000 lines: whatever looks through them once for each of them runs into the time limit of a test."""
    one, two, three = ada(), bob(), Writer("cyd").listening()
    for n in range(1, 25_001):
        one.sent(f"A.{n}", at=2 + n / 1000).delivered(f"A.{n}", "bob", at=2 + n / 1000, count=1)
        two.message(f"A.{n}", "ada", at=2 + n / 1000)
        three.message(f"A.{n}", "ada", at=2 + n / 1000).message(f"X.{n}", "ada", at=2 + n / 1000)
    assert rules(one, two, three) == []
