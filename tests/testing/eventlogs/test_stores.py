"""The checker over histories: what several stores hold, in which order, and what is missing there."""

from __future__ import annotations

from tests.testing.eventlogs.logs import Writer, ada, bob, rules


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


def test_once_all_has_come_to_rest_histories_hold_the_same() -> None:
    one = Writer("ada").sent("A.1").message("B.1", "bob")
    other = Writer("bob").message("A.1", "ada")
    assert rules(one, other) == []  # a part of it, or earlier
    assert rules(one, other, complete=True) == ["lost"]
    assert rules(one, Writer("bob").message("A.1", "ada").sent("B.1"), complete=True) == []


def test_a_history_of_one_conversation_lacks_nothing_of_another() -> None:
    one = Writer("ada").sent("A.1").sent("D.1", kind="dm", to_id="BOB")
    assert rules(one, Writer("bob").message("A.1", "ada"), complete=True) == []


def test_what_was_accepted_and_is_in_the_store_no_more_is_lost() -> None:
    one, store = ada().sent("A.1").sent("A.2"), Writer("ada").sent("A.2")
    assert rules(one, store) == []
    assert rules(one, store, complete=True) == ["lost"]
    assert rules(one, Writer("ada").sent("A.1").sent("A.2"), complete=True) == []


def test_what_is_said_to_be_delivered_stands_in_that_store() -> None:
    one = ada().sent("A.1").sent("A.2").delivered("A.1", "bob").delivered("A.2", "bob")
    two = bob().message("A.1", "ada").message("A.2", "ada").sent("B.1").delivered("B.1", "ada")
    one.message("B.1", "bob")
    store = Writer("bob").message("A.1", "ada").sent("B.1")
    assert rules(one, two, store, complete=True) == ["lost", "delivered", "lost"]  # to ada's log, and to bob's own
    whole = Writer("bob").message("A.1", "ada").message("A.2", "ada").sent("B.1")
    assert rules(one, two, whole, complete=True) == []
