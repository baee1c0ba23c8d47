"""The checker over logs that keep every promise, and over logs that break one."""

from __future__ import annotations

import json
from typing import Any

from p2pchat.core.names import base32
from p2pchat.core.sync.known_conversations import dm_id
from p2pchat.testing.eventlog_checker import causes, check
from p2pchat.testing.eventlog_parser import Line, Log
from tests.testing.event_logs import Writer, ada, bob, id_of, iso, rules

# ---- messages


def test_logs_that_keep_every_promise_have_no_fault() -> None:
    one = ada().sent("A.1").sent("A.2").message("B.1", "bob")
    one.delivered("A.1", "bob", count=1, of=1).delivered("A.2", "bob", count=1, of=1)
    two = bob().message("A.1", "ada").message("A.2", "ada").sent("B.1").delivered("B.1", "ada")
    assert check([one.log(), two.log()], complete=True) == []


def test_a_fault_names_the_log_and_the_line_but_never_the_text() -> None:
    two = bob().message("A.1", "ada").message("A.1", "ada")
    (fault,) = check([two.log()])
    assert (fault.rule, fault.where) == ("twice", "bob:4")
    assert "text of" not in str(fault)


def test_a_message_twice_in_one_session_is_a_fault() -> None:
    assert rules(bob().message("A.1", "ada").message("A.1", "ada")) == ["twice"]
    assert rules(bob().message("A.1", "ada").listening().message("A.1", "ada")) == []


def test_two_equal_texts_are_two_messages() -> None:
    assert rules(bob().message("A.1", "ada", text="ok").message("A.2", "ada", text="ok")) == []


def test_a_changed_text_is_a_fault() -> None:
    assert rules(ada().sent("A.1"), bob().message("A.1", "ada", text="something else")) == ["text"]


def test_a_changed_time_is_a_fault() -> None:
    assert rules(ada().sent("A.1"), bob().message("A.1", "ada", sent_at=iso(7))) == ["text"]


def test_a_message_its_writer_never_sent_is_a_fault() -> None:
    assert rules(ada().sent("A.1").stopped(), bob().message("A.1", "ada").message("A.2", "ada")) == ["invented"]


def test_a_killed_writer_may_have_sent_unlogged_messages() -> None:
    assert rules(ada().sent("A.1"), bob().message("A.1", "ada").message("A.2", "ada")) == []


def test_a_message_before_its_predecessor_is_a_fault() -> None:
    assert rules(ada().sent("A.1").sent("A.2"), bob().message("A.2", "ada").message("A.1", "ada")) == ["order"]


def test_order_counts_across_the_restarts_of_a_writer() -> None:
    one = ada().sent("A.1").stopped().listening().sent("Z.1")
    assert rules(one, bob().message("Z.1", "ada").message("A.1", "ada")) == ["order"]


def test_a_skipped_message_is_a_fault() -> None:
    assert rules(ada().sent("A.1").sent("A.2"), bob().message("A.2", "ada")) == ["order"]


def test_what_was_deleted_everywhere_is_no_skipped_message() -> None:
    logs = [ada().sent("A.1").listening().sent("B.1").log(), bob().message("B.1", "ada").log()]
    assert [fault.rule for fault in check(logs)] == ["order"] and check(logs, deletions=True) == []


def test_a_text_that_comes_late_has_a_gap_mark() -> None:
    late = bob().message("A.2", "ada").message("A.1", "ada", gap=True)
    assert rules(ada().sent("A.1").sent("A.2"), late) == []


def test_a_gap_does_not_excuse_disorder_of_one_writer() -> None:
    two = bob().line("gap", code="gap", about="A.2").message("A.2", "ada").message("A.1", "ada")
    assert rules(ada().sent("A.1").sent("A.2"), two) == ["order"]


def test_a_message_missing_after_a_minute_online_together_is_lost() -> None:
    assert rules(ada().sent("A.1"), bob().line("presence", at=63.5)) == ["lost"]
    assert rules(ada().sent("A.1"), bob().line("presence", at=62.5)) == []


def test_a_late_message_is_not_lost_when_delays_were_intended() -> None:
    logs = [ada().sent("A.1").log(), bob().line("presence", at=600.0).log()]
    assert check(logs, timely=False) == []


def test_a_message_to_an_offline_user_is_not_lost_yet() -> None:
    two = bob().left("ada", "lost").line("presence", at=600.0)
    assert rules(ada().sent("A.1", at=10.0), two) == []


def test_a_missing_message_is_lost_at_rest() -> None:
    assert rules(ada().sent("A.1"), bob(), complete=True) == ["lost"]


def test_a_third_peer_need_not_have_a_direct_message() -> None:
    one = ada().sent("D.1", kind="dm", to_id="BOB").delivered("D.1", "bob")
    two = bob().message("D.1", "ada", kind="dm")
    assert rules(one, two, Writer("cyd").listening(), complete=True) == []


def test_a_direct_message_on_a_third_peer_is_a_fault() -> None:
    one = ada().sent("D.1", kind="dm", to_id="BOB")
    third = Writer("cyd").listening().message("D.1", "ada", kind="dm")
    assert rules(one, bob().message("D.1", "ada", kind="dm"), third) == ["dm"]


# ---- replies after their messages


def test_a_reply_before_its_message_is_a_fault_without_a_gap() -> None:
    def two() -> Writer:
        return Writer("bob").listening().message("C.1", "cyd", reply_to="A.1")

    assert rules(two().message("A.1", "ada")) == ["answer"]
    assert rules(two().line("gap", code="gap", about="C.1", missing=["A.1"]).message("A.1", "ada")) == []
    marked = Writer("bob").listening().message("C.1", "cyd", reply_to="A.1", gap=True).message("A.1", "ada")
    assert rules(marked) == []  # shown in another session than the reported one


def test_a_message_before_one_it_follows_is_a_fault() -> None:
    two = Writer("bob").listening().message("C.1", "cyd", after=["D.1", "A.1"]).message("A.1", "ada")
    assert rules(two) == ["answer"]


def test_a_reply_after_its_message_or_to_a_missing_one_is_no_fault() -> None:
    assert rules(bob().message("A.1", "ada").message("C.1", "cyd", reply_to="A.1", after=["A.1"])) == []
    assert rules(bob().message("C.1", "cyd", reply_to="A.1")) == []  # may have been shown before this log began
    assert (
        rules(bob().message("A.1", "ada").listening().message("C.1", "cyd", reply_to="A.1").message("A.1", "ada")) == []
    )


# ---- order with missing messages


def test_a_restored_disk_is_named_and_not_blamed_for_what_it_lost() -> None:
    peer = {"peer_id": "ADA"}
    one = Writer("ada").listening(**peer, newest_own="").sent("A.2").sent("A.3")
    one.listening(**peer, newest_own="A.2").sent("B.2")
    two = bob().message("A.2", "ada").message("B.2", "ada")
    assert check([one.log(), two.log()]) == []
    (cause,) = causes([one.log(), two.log()])
    assert (cause.rule, cause.where) == ("restored", "ada:4") and "A.3 (ada:3)" in cause.text
    for newest, rule in (("A.3", ["order"]), (None, ["order"]), ("A.9", ["order"]), ("A.1", []), ("", [])):
        one.lines[3]["newest_own"] = newest
        assert rules(one, two) == rule
        assert [fault.rule for fault in causes([one.log()])] == ([] if rule else ["restored"])


def test_a_copied_directory_is_named_and_not_blamed_for_what_the_other_wrote() -> None:
    one = Writer("ada").listening(peer_id="ADA", newest_own="").sent("A.2")
    two = bob().message("A.2", "ada")
    again = (
        Writer("copy").line("listening", at=5.0, user="ada", user_id="ADA", peer_id="ADA").read("A.2", "bob", at=9.0)
    )
    assert check([one.log(), again.log(), two.log()]) == []
    assert causes([one.log(), again.log(), two.log()]) == []  # it was moved
    one.read("A.2", "bob", at=20.0)
    assert [str(each).split(":")[:3] for each in causes([one.log(), again.log(), two.log()])] == [
        ["copy", "1", " copied"]
    ]
    two.line("warning", code="two_processes", about="ADA").message("C.2", "ada", sent_at=iso(3))
    assert check([one.log(), two.log()]) == []
    assert [(each.rule, each.where) for each in causes([one.log(), two.log()])] == [("copied", "bob:4")]


def test_numbers_show_the_order_without_the_writers_log() -> None:
    assert rules(bob().message("A.2", "ada").message("A.1", "ada")) == ["order"]
    assert rules(Writer("bob").message("A.2", "ada").message("A.1", "ada")) == ["order"]  # also in a history
    assert rules(bob().message("A.9", "ada").message("A.10", "ada")) == []
    assert (
        rules(bob().message("A.1", "ada").message("A.2", "ada").listening().message("A.1", "ada")) == []
    )  # returned again


def test_a_message_sent_before_a_log_begins_may_have_been_shown_before() -> None:
    pair = ada().sent("A.1", at=3.0).sent("A.2", at=200.0), Writer("bob").listening(at=100.0).message("A.2", "ada")
    assert rules(*pair) == []
    assert rules(*pair, complete=True) == ["order", "lost", "receipt"]


def test_entries_of_a_forked_log_may_be_missing() -> None:
    two = bob().line("warning", code="fork", text="two entries under one number", about="ADA").message("Z.1", "ada")
    assert rules(ada().sent("A.1").sent("Z.1"), two) == []


# ---- invented messages


def test_an_unlogged_message_between_two_logged_ones_is_invented() -> None:
    """A process logs its messages in the order of sending, so a kill loses only the last lines."""
    pair = ada().sent("A.1").sent("A.3"), bob().message("A.1", "ada").message("A.2", "ada").message("A.3", "ada")
    assert rules(*pair) == ["invented"]


def test_a_message_of_an_unlogged_session_is_not_invented() -> None:
    one = ada().sent("A.1", at=10.0).stopped(at=20.0)
    early = iso(0.5)
    assert rules(one, bob().message("Z.1", "ada", sent_at=early).message("A.1", "ada")) == []
    assert rules(one, bob().message("A.1", "ada").message("Z.1", "ada", sent_at=iso(15.0))) == ["invented"]


def test_a_message_of_a_running_peer_is_invented_only_at_rest() -> None:
    pair = ada().sent("A.1").delivered("A.1", "bob"), bob().message("A.1", "ada").message("A.2", "ada")
    assert rules(*pair) == []
    assert rules(*pair, complete=True) == ["invented"]


def test_two_logs_of_one_user_complete_each_other() -> None:
    here = ada().sent("A.1").stopped()
    there = Writer("ada").listening().sent("Z.1").stopped()
    assert rules(here, there, bob().message("Z.1", "ada").message("A.1", "ada")) == []


# ---- texts


def test_one_id_with_two_texts_is_a_fault_in_any_log() -> None:
    assert rules(bob().message("A.1", "ada").listening().message("A.1", "ada", text="edited")) == ["text"]
    assert rules(bob().message("A.1", "ada"), Writer("cyd").listening().message("A.1", "ada", text="other")) == ["text"]


def test_a_message_with_another_sender_is_a_fault() -> None:
    assert rules(ada().sent("A.1"), bob().message("A.1", "cyd")) == ["text"]


def test_a_changed_reply_or_predecessor_is_a_fault() -> None:
    assert rules(ada().sent("A.1", after=["B.1"]), bob().message("A.1", "ada", after=[])) == ["text"]
    assert rules(ada().sent("A.1", reply_to=None), bob().message("A.1", "ada", reply_to="B.1")) == ["text"]


def test_a_renamed_sender_is_no_fault() -> None:
    two = bob().message("A.1", "ada").message("A.2", "ada")
    two.lines[-1]["sender"] = "Ada the Second"
    assert rules(ada().sent("A.1").sent("A.2"), two) == []


# ---- direct messages: the id of a conversation determines its members


ROOM = "0c" * 32


def real(name: str) -> str:
    """Return an id as users have them."""
    return base32(name.encode().hex().ljust(64, "0"))


def one_of(two: tuple[str, str], name: str, id: str, event: str, sender: str) -> Log:
    """Return the log of a peer with one direct message between these two."""
    log = Writer(name).line("listening", user_id=real(name))
    log.line("typing", kind="room", conversation_id=base32(ROOM))
    return log.line(
        event, id=id, kind="dm", sender_id=real(sender), text="", sent_at=iso(0),
        conversation_id=base32(dm_id(ROOM, *(user.encode().hex().ljust(64, "0") for user in two))),
    ).log()  # fmt: skip


def test_a_missing_first_direct_message_is_lost() -> None:
    one = one_of(("ada", "bob"), "ada", "D.1", "sent", "ada")
    others = [Writer(name).line("listening", user_id=real(name)).log() for name in ("bob", "cyd")]
    assert [(fault.rule, fault.where) for fault in check([one, *others], complete=True)] == [("lost", "bob")]


def test_a_direct_message_of_two_others_is_a_fault_in_any_log() -> None:
    assert [fault.rule for fault in check([one_of(("ada", "bob"), "cyd", "D.1", "message", "ada")])] == ["dm"]
    assert check([one_of(("ada", "bob"), "bob", "D.1", "message", "ada")]) == []


# ---- several logs


def test_a_fault_names_the_line_in_the_other_log() -> None:
    one, two = ada().sent("A.1").sent("Z.1"), bob().message("Z.1", "ada").message("A.1", "ada")
    (fault,) = check([one.log(), two.log()])
    assert str(fault) == "bob:3: order: Z.1 came before A.1, which was sent before it (ada:3)"


# ---- receipts


def test_a_receipt_for_a_missing_message_is_a_fault() -> None:
    one = ada().sent("A.1", at=2.0).delivered("A.1", "bob")
    assert rules(one, bob().left("ada", "lost").line("presence", at=63.0)) == ["delivered"]


def test_a_reader_killed_right_after_may_have_logged_nothing() -> None:
    assert rules(ada().sent("A.1").delivered("A.1", "bob"), bob()) == []


def test_a_receipt_for_another_users_message_is_a_fault() -> None:
    assert rules(bob().message("A.1", "ada").delivered("A.1", "cyd")) == ["receipt"]


def test_a_receipt_count_that_falls_is_a_fault() -> None:
    one = ada().sent("A.1").delivered("A.1", "bob", count=2).delivered("A.1", "cyd", count=1)
    assert rules(one) == ["receipt"]


def test_a_receipt_count_may_restart_in_a_new_session() -> None:
    """Marks received at the very end of a session may not have been saved: they are sent and counted again."""
    one = ada().sent("A.1").delivered("A.1", "bob", count=2).listening().delivered("A.1", "cyd", count=1)
    assert rules(one) == []


def test_a_repeated_receipt_is_a_fault() -> None:
    assert rules(ada().sent("A.1").delivered("A.1", "bob").delivered("A.1", "bob")) == ["receipt"]


def test_read_before_delivered_is_a_fault() -> None:
    def one() -> Writer:
        return ada().sent("A.1", sent_at=iso(2))

    assert rules(one().delivered("A.1", "bob").read("A.1", "bob")) == []
    assert rules(one().read("A.1", "bob").delivered("A.1", "bob")) == ["read"]
    assert rules(one().delivered("A.1", "cyd").read("A.1", "bob")) == ["read"]


def test_one_line_may_report_the_delivery_to_several_users_of_a_gateway() -> None:
    def one() -> Writer:
        return ada().sent("A.1", sent_at=iso(2)).delivered("A.1", "cyd", count=2)

    assert rules(one().read("A.1", "bob")) == []
    assert rules(one().delivered("A.1", "dan", count=2).read("A.1", "bob")) == ["read"]


def test_a_message_of_an_earlier_session_may_be_delivered_unlogged() -> None:
    assert rules(ada().sent("A.1").listening().read("A.1", "bob")) == []


def test_a_message_shown_again_belongs_to_its_earlier_session() -> None:
    """The sending session was killed before it logged the message or got its receipt, and the receipt was saved."""
    again = ada().listening(at=10.0).sent("A.1", sent_at=iso(5)).sent("B.1", sent_at=iso(11))
    assert rules(again.read("A.1", "bob")) == []
    assert rules(again.read("B.1", "bob")) == ["read"]


def test_a_log_that_begins_late_does_not_show_which_session_sent_what() -> None:
    assert rules(Writer("ada").joined("bob").sent("A.1", sent_at=iso(2)).read("A.1", "bob")) == []


def test_a_read_receipt_is_checked_like_others() -> None:
    one = ada().sent("A.1").delivered("A.1", "bob")
    assert rules(one.read("A.1", "bob").read("A.1", "bob")) == ["receipt"]
    assert rules(bob().message("A.1", "ada").read("A.1", "cyd")) == ["receipt"]
    two = ada().sent("A.1").delivered("A.1", "bob", count=1).delivered("A.1", "cyd", count=2)
    assert rules(two.read("A.1", "bob", count=2).read("A.1", "cyd", count=1)) == ["receipt"]
    assert rules(ada().sent("A.1").read("A.2", "bob").stopped()) == ["invented"]


def test_a_missing_receipt_is_a_fault_at_rest() -> None:
    pair = ada().sent("A.1"), bob().message("A.1", "ada")
    assert rules(*pair) == []
    assert rules(*pair, complete=True) == ["receipt"]


def test_a_receipt_may_be_lost_with_a_killed_process() -> None:
    """A receipt was saved with a commit and not shown before a kill; receipts of later messages must all come."""
    again = ada().sent("A.1").listening(at=10.0).sent("B.1", sent_at=iso(11.0))
    other = bob().message("A.1", "ada").message("B.1", "ada", sent_at=iso(11.0))
    assert rules(again, other, complete=True) == ["receipt"]
    assert rules(again.delivered("B.1", "bob"), other, complete=True) == []


def test_a_receipt_is_not_lost_while_its_writer_leaves_in_order() -> None:
    def lives(*ends: str) -> Writer:
        one = ada().sent("A.1")
        for number, end in enumerate(ends, 1):
            one = (one.stopped() if end == "stopped" else one).listening(at=number * 10.0)
        return one

    there = bob().message("A.1", "ada")
    assert rules(lives("stopped"), there, complete=True) == ["receipt"]
    assert rules(lives("stopped").delivered("A.1", "bob"), there, complete=True) == []
    assert rules(lives("stopped", "killed"), there, complete=True) == []
    late = bob().message("A.1", "ada", at=13.0)
    assert rules(lives("killed", "stopped"), late, complete=True) == ["receipt"]


def test_a_receipt_for_an_unsent_message_is_a_fault() -> None:
    assert rules(ada().sent("A.1").delivered("A.2", "bob").stopped()) == ["invented"]
    assert rules(ada().sent("A.1").delivered("A.2", "bob")) == []  # killed before it logged A.2
    assert rules(ada().sent("A.1").delivered("Y.7", "bob").stopped()) == []  # sent by an earlier session


def test_a_receipt_of_a_third_user_for_a_direct_message_is_a_fault() -> None:
    one = ada().sent("D.1", kind="dm", to_id="BOB")
    assert rules(one.delivered("D.1", "cyd")) == ["dm"]


def test_a_message_delivered_before_a_log_begins_may_have_been_shown_before() -> None:
    pair = ada().sent("A.1").delivered("A.1", "bob"), Writer("bob").listening(at=100.0).line("presence", at=500.0)
    assert rules(*pair) == []


# ---- departures


def test_an_unreported_departure_is_a_fault() -> None:
    gone = ada().stopped(at=10.0)
    assert rules(gone, bob().line("presence", at=48.0)) == ["departure"]
    assert rules(gone, bob().line("presence", at=46.0)) == []  # the latest time to notice silence


def test_a_late_report_of_a_goodbye_is_a_fault() -> None:
    gone = ada().stopped(at=10.0)
    assert rules(gone, bob().left("ada", "left", at=10.9)) == []
    assert rules(gone, bob().left("ada", "left", at=13.5)) == ["departure"]
    assert rules(gone, bob().left("ada", "timeout", at=44.0)) == []


def test_who_is_expelled_is_reported_as_gone_within_a_second() -> None:
    def expelled(at: float) -> Writer:
        return bob().line("member", user_id=id_of("ada"), by_id=id_of("cyd"), change="expelled", at=at)

    assert rules(expelled(10.0).left("ada", "expelled", at=10.2)) == []
    assert rules(expelled(10.0).left("ada", "expelled", at=14.0)) == ["departure"]
    assert rules(expelled(10.0).line("presence", at=14.0)) == ["departure"]
    assert rules(expelled(10.0).line("presence", at=11.0)) == []
    assert rules(bob().left("ada", "lost", at=9.0).line("presence", at=9.5)) == []


def test_a_departure_twice_or_without_a_join_is_a_fault() -> None:
    assert rules(bob().left("ada", "lost").left("ada", "lost")) == ["departure"]
    assert rules(bob().left("cyd", "lost")) == ["departure"]
    assert rules(bob().joined("ada")) == ["departure"]
    assert rules(bob().left("ada", "lost").joined("ada").listening().joined("ada")) == []


def test_a_false_goodbye_is_a_fault() -> None:
    still = ada().sent("A.1", at=10.0).sent("A.2", at=60.0)
    assert rules(still, bob().message("A.1", "ada").left("ada", "left", at=20.0)) == ["departure"]
    assert rules(still, bob().message("A.1", "ada").left("ada", "lost", at=20.0)) == []
    assert rules(ada().stopped(at=20.0), bob().left("ada", "left", at=20.0)) == []
    leaves = ada().sent("A.1", at=10.0).delivered("A.1", "bob", at=24.0).stopped(at=24.5)  # a receipt during the stop
    assert rules(leaves, bob().message("A.1", "ada", at=11.0).left("ada", "left", at=20.0)) == []


def test_a_goodbye_that_was_delayed_is_a_fault_only_if_there_was_none() -> None:
    def checked(gone: Writer) -> list[str]:
        logs = [gone.log(), bob().left("ada", "left", at=50.0).log()]
        return [fault.rule for fault in check(logs, timely=False)]

    assert checked(ada().line("presence", at=100.0)) == ["departure"]
    assert checked(ada().stopped(at=10.0).listening(at=20.0).line("presence", at=100.0)) == []


def test_a_peer_reports_its_own_user_to_those_it_hosts() -> None:
    assert rules(Writer("ada").listening().left("ada", "left")) == []


def test_a_late_return_needs_a_departure() -> None:
    back = ada().stopped(at=10.0).listening(at=100.0)
    assert rules(back, bob().line("presence", at=120.0)) == ["departure"]
    assert rules(back, bob().left("ada", "left", at=10.5).line("presence", at=120.0)) == []
    soon = ada().stopped(at=10.0).listening(at=15.0)
    assert rules(soon, bob().line("presence", at=120.0)) == []  # the goodbye was lost, and a new link replaced the old


def test_peers_that_never_met_owe_each_other_nothing() -> None:
    one = Writer("ada").listening().sent("A.1").line("presence", at=600.0)
    assert rules(one.stopped(), Writer("bob").listening().line("presence", at=900.0)) == []


# ---- edits


def edit_line(writer: Writer, event: str, id: str, by: str, entry: str, **more: Any) -> Writer:
    return writer.line(event, id=id, by=by, by_id=id_of(by), entry_id=entry, sent_at=iso(9), **more)


def test_an_edited_message_may_have_the_edited_text() -> None:
    one = edit_line(ada().sent("A.1"), "edited", "A.1", "ada", "A.2", text="new").stopped()
    two = edit_line(bob().message("A.1", "ada"), "edited", "A.1", "ada", "A.2", text="new").stopped()
    late = Writer("cyd").listening().joined("ada").message("A.1", "ada", text="new", mended_id="A.2", edited=True)
    assert rules(one, two, late.stopped()) == []
    assert rules(one, edit_line(two, "reaction", "A.1", "bob", "B.1", reaction="+1")) == ["form"]  # after `stopped`


def test_an_edit_is_the_same_in_every_log() -> None:
    one = edit_line(ada().sent("A.1"), "edited", "A.1", "ada", "A.2", text="new").stopped()
    assert rules(one, edit_line(bob().message("A.1", "ada"), "edited", "A.1", "ada", "A.2", text="old").stopped()) == [
        "text", "text"]  # fmt: skip
    told = bob().message("A.1", "ada", text="old", mended_id="A.2", edited=True).stopped()
    assert rules(one, told) == ["text"]
    assert rules(one, bob().message("A.1", "ada", text="other").stopped()) == ["text"]


def test_only_its_writer_edits_or_deletes_a_message() -> None:
    for event, more in (("edited", {"text": "mine"}), ("deleted", {})):
        assert rules(edit_line(ada().sent("A.1"), event, "A.1", "bob", "B.1", **more)) == ["edit"]


def test_histories_at_rest_show_a_message_alike() -> None:
    def history(name: str, **more: Any) -> Writer:
        return Writer(name).message("A.1", "cyd", text="new", mended_id="A.2", edited=True, **more)

    reaction = [{"reaction": "+1", "by_id": "BOB"}]
    assert rules(history("ada", reactions=reaction), history("bob", reactions=reaction), complete=True) == []
    assert rules(history("ada", reactions=reaction), history("bob"), complete=True) == ["edit"]
    assert rules(history("ada", reactions=reaction), history("bob")) == []  # one may be older


def test_a_malformed_edit_is_a_fault_of_form() -> None:
    for line in (
        {"event": "edited", "id": "A.1", "by_id": "ADA", "entry_id": "A.2", "sent_at": iso(1)},
        {"event": "message", **_post("A.1"), "reactions": ["+1"]},
        {"event": "message", **_post("A.1"), "mended_id": 7},
    ):
        log = Log.parse("x", json.dumps({"at": iso(1), **line}).encode() + b"\n")
        assert len(log.bad) == 1


def _post(id: str) -> Line:
    return {"id": id, "conversation_id": "ROOM", "sender_id": "ADA", "text": "hi", "sent_at": iso(0)}


# ---- groups


def removed(writer: Writer) -> Writer:
    """Add the creation of a group and the removal of bob to a log."""
    return writer.group("created", "ada", "bob", "cyd").group("removed", "ada", "cyd", target="bob")


def test_all_peers_agree_on_members_at_rest() -> None:
    one, two = removed(ada()), bob().group("created", "ada", "bob", "cyd")
    assert rules(one, two) == []
    assert rules(one, two, complete=True) == ["group"]
    assert rules(one, removed(bob()), complete=True) == []
    assert rules(removed(ada()).group("renamed", "ada", "cyd", name="night"), removed(bob()), complete=True) == [
        "group"
    ]


def test_a_killed_peer_may_know_more_than_it_logged() -> None:
    two = bob().group("created", "ada", "bob", "cyd").listening()
    assert rules(removed(ada()), two, complete=True) == []


def test_a_message_of_a_non_member_is_a_fault() -> None:
    assert rules(removed(ada()).message("B.1", "bob", kind="group")) == []  # written before the cut, shown late
    assert rules(removed(ada()).message("D.1", "dan", kind="group")) == ["group"]
    assert rules(ada().message("D.1", "dan", kind="group")) == []  # the log begins after the group's creation


def cut_off() -> Writer:
    """Return bob's log: he wrote after the cut, and got the warning `undelivered`."""
    there = bob().sent("B.1", kind="group").sent("B.2", kind="group")
    return there.line("warning", code="undelivered", text="...", about="B.2", undelivered=["B.2"])


def test_a_message_after_a_known_removal_is_a_fault() -> None:
    early = Writer("cyd").listening().message("B.1", "bob", kind="group").message("B.2", "bob", kind="group")
    assert rules(cut_off(), early.group("removed", "ada", "cyd", target="bob")) == []
    late = removed(Writer("cyd").listening()).message("B.1", "bob", kind="group").message("B.2", "bob", kind="group")
    assert rules(cut_off(), late) == ["group"]


def test_a_message_after_a_removal_is_in_no_history_at_rest() -> None:
    good = Writer("ada").message("B.1", "bob", kind="group")
    assert rules(removed(ada()).message("B.1", "bob", kind="group"), cut_off(), good) == []
    bad = Writer("ada").message("B.1", "bob", kind="group").message("B.2", "bob", kind="group")
    logs = [removed(cut_off()), removed(ada()).message("B.1", "bob", kind="group").message("B.2", "bob", kind="group")]
    assert [fault.rule for fault in check([one.log() for one in (*logs, bad)], complete=True)].count("group") == 2


def test_a_removed_user_need_not_have_later_messages() -> None:
    theirs = Writer("ada").sent("A.1", kind="group").sent("A.2", kind="group").message("C.1", "cyd", kind="room")
    bobs = Writer("bob").message("A.1", "ada", kind="group").message("C.1", "cyd", kind="room").sent("B.9")
    at_rest = removed(ada()).sent("A.1", kind="group").sent("A.2", kind="group").message("C.1", "cyd")
    bobs_log = removed(bob()).message("A.1", "ada", kind="group").message("C.1", "cyd").sent("B.9")
    lost = check([one.log() for one in (theirs, bobs, at_rest, bobs_log)], complete=True)
    assert [fault.rule for fault in lost if "A.2" in fault.text] == []
    assert any("B.9" in fault.text for fault in lost)  # everyone must have all messages of the room


# ---- histories


def test_two_histories_in_different_orders_are_a_fault() -> None:
    one = Writer("ada").sent("A.1").message("B.1", "bob").message("C.1", "cyd")
    two = Writer("bob").message("C.1", "cyd").message("A.1", "ada")
    assert rules(one, two) == ["history"]
    assert rules(one, Writer("bob").message("A.1", "ada").message("C.1", "cyd")) == []


def test_a_message_twice_in_a_history_is_a_fault() -> None:
    assert rules(Writer("bob").message("A.1", "ada").message("A.1", "ada")) == ["twice"]


def test_any_two_of_many_histories_are_compared() -> None:
    one = Writer("ada").sent("A.1").message("B.1", "bob")
    other = Writer("cyd").message("B.1", "bob").message("A.1", "ada")
    assert rules(one, Writer("dan").message("E.1", "eva"), other) == ["history"]


def test_histories_hold_the_same_at_rest() -> None:
    one = Writer("ada").sent("A.1").message("B.1", "bob")
    other = Writer("bob").message("A.1", "ada")
    assert rules(one, other) == []  # an excerpt, or an earlier one
    assert rules(one, other, complete=True) == ["lost"]
    assert rules(one, Writer("bob").message("A.1", "ada").sent("B.1"), complete=True) == []


def test_a_history_of_one_conversation_lacks_nothing_of_another() -> None:
    one = Writer("ada").sent("A.1").sent("D.1", kind="dm", to_id="BOB")
    assert rules(one, Writer("bob").message("A.1", "ada"), complete=True) == []


def test_an_accepted_message_missing_in_the_store_is_lost() -> None:
    one, store = ada().sent("A.1").sent("A.2"), Writer("ada").sent("A.2")
    assert rules(one, store) == []
    assert rules(one, store, complete=True) == ["lost"]
    assert rules(one, Writer("ada").sent("A.1").sent("A.2"), complete=True) == []


def test_a_delivered_message_is_in_that_store() -> None:
    one = ada().sent("A.1").sent("A.2").delivered("A.1", "bob").delivered("A.2", "bob")
    two = bob().message("A.1", "ada").message("A.2", "ada").sent("B.1").delivered("B.1", "ada")
    one.message("B.1", "bob")
    store = Writer("bob").message("A.1", "ada").sent("B.1")
    assert rules(one, two, store, complete=True) == ["lost", "delivered", "lost"]  # for ada's log and for bob's
    whole = Writer("bob").message("A.1", "ada").message("A.2", "ada").sent("B.1")
    assert rules(one, two, whole, complete=True) == []


# ---- one person on several machines


def machine(name: str) -> Writer:
    return Writer("ada").listening(peer_id=name).joined("bob")


def test_a_message_of_a_machine_without_a_log_is_not_invented() -> None:
    desk, two = machine("DESK").stopped(at=200.0), bob().message("M.1", "ada", sent_at=iso(100))
    assert rules(desk, two) == []


def test_who_is_seen_on_one_machine_may_lack_what_another_one_has() -> None:
    """Others see the person through the laptop, and the desk is out of reach for long."""
    desk, lap = machine("DESK").sent("M.1"), machine("LAP").message("B.1", "bob")
    two = bob().sent("B.1", at=5.0).delivered("B.1", "ada").line("warning", code="busy", at=200.0)
    assert rules(desk.line("warning", code="busy", at=200.0), lap, two) == []


def test_who_is_offline_on_one_machine_goes_on() -> None:
    """A person with several machines who is offline on all of them has left, as others see it."""
    desk = machine("DESK").sent("M.1", at=50.0)
    assert rules(desk, bob().left("ada", "left", at=10.0)) == []


def test_two_machines_that_start_at_one_moment_have_two_logs() -> None:
    lap = machine("LAP").message("B.1", "bob").message("B.1", "bob")
    assert rules(machine("DESK").message("B.1", "bob").line("warning", code="busy").stopped(), lap) == ["twice"]


def test_what_a_peer_prints_and_what_it_logs_is_one_log() -> None:
    one, two = ada().sent("A.1").sent("A.2"), bob().message("A.2", "ada")
    assert rules(one, one, two) == rules(one, two) == ["order"]
