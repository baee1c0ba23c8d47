"""The checker over who left: everybody who was there is told, once, why and in time."""

from __future__ import annotations

from tests.testing.eventlogs.logs import Writer, ada, bob, rules


def test_nobody_told_of_a_departure_is_a_fault() -> None:
    gone = ada().stopped(at=10.0)
    assert rules(gone, bob().line("presence", at=48.0)) == ["departure"]
    assert rules(gone, bob().line("presence", at=46.0)) == []  # silence may be noticed as late as that


def test_a_goodbye_told_too_late_is_a_fault() -> None:
    gone = ada().stopped(at=10.0)
    assert rules(gone, bob().left("ada", "left", at=10.9)) == []
    assert rules(gone, bob().left("ada", "left", at=13.5)) == ["departure"]
    assert rules(gone, bob().left("ada", "timeout", at=44.0)) == []


def test_a_departure_told_twice_or_of_somebody_who_never_came_is_a_fault() -> None:
    assert rules(bob().left("ada", "lost").left("ada", "lost")) == ["departure"]
    assert rules(bob().left("cyd", "lost")) == ["departure"]
    assert rules(bob().joined("ada")) == ["departure"]
    assert rules(bob().left("ada", "lost").joined("ada").listening().joined("ada")) == []


def test_a_goodbye_that_nobody_said_is_a_fault() -> None:
    still = ada().sent("A.1", at=10.0).sent("A.2", at=60.0)
    assert rules(still, bob().message("A.1", "ada").left("ada", "left", at=20.0)) == ["departure"]
    assert rules(still, bob().message("A.1", "ada").left("ada", "lost", at=20.0)) == []
    assert rules(ada().stopped(at=20.0), bob().left("ada", "left", at=20.0)) == []
    leaves = ada().sent("A.1", at=10.0).delivered("A.1", "bob", at=24.0).stopped(at=24.5)  # looked up while it left
    assert rules(leaves, bob().message("A.1", "ada", at=11.0).left("ada", "left", at=20.0)) == []


def test_who_came_back_much_later_has_been_away() -> None:
    back = ada().stopped(at=10.0).listening(at=100.0)
    assert rules(back, bob().line("presence", at=120.0)) == ["departure"]
    assert rules(back, bob().left("ada", "left", at=10.5).line("presence", at=120.0)) == []
    soon = ada().stopped(at=10.0).listening(at=15.0)
    assert rules(soon, bob().line("presence", at=120.0)) == []  # the goodbye was lost, and a new link took its place


def test_peers_that_never_met_owe_each_other_nothing() -> None:
    one = Writer("ada").listening().sent("A.1").line("presence", at=600.0)
    assert rules(one.stopped(), Writer("bob").listening().line("presence", at=900.0)) == []
