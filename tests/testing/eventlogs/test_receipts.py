"""The checker over what is told of receipts: for what, of whom, how many, and that they come."""

from __future__ import annotations

from tests.testing.eventlogs.logs import Writer, ada, bob, iso, rules


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


def test_read_before_delivered_is_a_fault() -> None:
    def one() -> Writer:
        return ada().sent("A.1", sent_at=iso(2))

    assert rules(one().delivered("A.1", "bob").read("A.1", "bob")) == []
    assert rules(one().read("A.1", "bob").delivered("A.1", "bob")) == ["read"]
    assert rules(one().delivered("A.1", "cyd").read("A.1", "bob")) == ["read"]


def test_what_an_earlier_life_sent_may_have_been_delivered_when_nobody_logged() -> None:
    assert rules(ada().sent("A.1").listening().read("A.1", "bob")) == []


def test_what_an_earlier_life_sent_is_its_own_also_where_it_is_shown_again() -> None:
    """The life that sent it was killed before it logged it, or before it was acknowledged; the receipt was saved."""
    again = ada().listening(at=10.0).sent("A.1", sent_at=iso(5)).sent("B.1", sent_at=iso(11))
    assert rules(again.read("A.1", "bob")) == []
    assert rules(again.read("B.1", "bob")) == ["read"]


def test_of_a_log_that_begins_late_nobody_knows_which_life_sent_what() -> None:
    assert rules(Writer("ada").joined("bob").sent("A.1", sent_at=iso(2)).read("A.1", "bob")) == []


def test_what_is_told_of_reading_is_a_receipt_like_others() -> None:
    one = ada().sent("A.1").delivered("A.1", "bob")
    assert rules(one.read("A.1", "bob").read("A.1", "bob")) == ["receipt"]
    assert rules(bob().message("A.1", "ada").read("A.1", "cyd")) == ["receipt"]
    two = ada().sent("A.1").delivered("A.1", "bob", count=1).delivered("A.1", "cyd", count=2)
    assert rules(two.read("A.1", "bob", count=2).read("A.1", "cyd", count=1)) == ["receipt"]
    assert rules(ada().sent("A.1").read("A.2", "bob").stopped()) == ["invented"]


def test_a_receipt_that_never_came_is_a_fault_once_all_has_come_to_rest() -> None:
    pair = ada().sent("A.1"), bob().message("A.1", "ada")
    assert rules(*pair) == []
    assert rules(*pair, complete=True) == ["receipt"]


def test_a_receipt_may_die_with_the_process_that_heard_it() -> None:
    """It was saved with a commit and not shown yet; of what is sent later every receipt has to come."""
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


def test_a_receipt_for_what_was_never_sent_is_a_fault() -> None:
    assert rules(ada().sent("A.1").delivered("A.2", "bob").stopped()) == ["invented"]
    assert rules(ada().sent("A.1").delivered("A.2", "bob")) == []  # killed before it logged that
    assert rules(ada().sent("A.1").delivered("Y.7", "bob").stopped()) == []  # of an earlier life


def test_a_receipt_of_somebody_a_direct_message_was_not_for_is_a_fault() -> None:
    one = ada().sent("D.1", kind="dm", to_id="BOB")
    assert rules(one.delivered("D.1", "cyd")) == ["dm"]


def test_what_was_delivered_before_a_log_begins_may_have_been_shown_before() -> None:
    pair = ada().sent("A.1").delivered("A.1", "bob"), Writer("bob").listening(at=100.0).line("presence", at=500.0)
    assert rules(*pair) == []
