"""The checker over groups: who belongs to one, and what was written behind a removal."""

from __future__ import annotations

from p2pchat.testing.checker import check
from tests.testing.eventlogs.logs import Writer, ada, bob, rules


def removed(writer: Writer) -> Writer:
    """Who was told of all that became of a group from which bob was removed."""
    return writer.group("created", "ada", "bob", "cyd").group("removed", "ada", "cyd", target="bob")


def test_who_belongs_to_a_group_is_the_same_for_everybody_at_rest() -> None:
    one, two = removed(ada()), bob().group("created", "ada", "bob", "cyd")
    assert rules(one, two) == []
    assert rules(one, two, complete=True) == ["group"]
    assert rules(one, removed(bob()), complete=True) == []
    assert rules(removed(ada()).group("renamed", "ada", "cyd", name="night"), removed(bob()), complete=True) == [
        "group"
    ]


def test_who_was_killed_may_have_been_told_more_than_is_logged() -> None:
    two = bob().group("created", "ada", "bob", "cyd").listening()
    assert rules(removed(ada()), two, complete=True) == []


def test_who_never_belonged_to_a_group_writes_nothing_there() -> None:
    assert rules(removed(ada()).message("B.1", "bob", kind="group")) == []  # before the cut, and late
    assert rules(removed(ada()).message("D.1", "dan", kind="group")) == ["group"]
    assert rules(ada().message("D.1", "dan", kind="group")) == []  # its log begins later than the group


def cut_off() -> Writer:
    """bob, who wrote behind the cut and was told."""
    there = bob().sent("B.1", kind="group").sent("B.2", kind="group")
    return there.line("warning", code="undelivered", text="...", about="B.2", undelivered=["B.2"])


def test_what_was_written_behind_a_cut_is_shown_by_nobody_who_knows_of_it() -> None:
    early = Writer("cyd").listening().message("B.1", "bob", kind="group").message("B.2", "bob", kind="group")
    assert rules(cut_off(), early.group("removed", "ada", "cyd", target="bob")) == []
    late = removed(Writer("cyd").listening()).message("B.1", "bob", kind="group").message("B.2", "bob", kind="group")
    assert rules(cut_off(), late) == ["group"]


def test_what_was_written_behind_a_cut_is_in_no_history_at_rest() -> None:
    good = Writer("ada").message("B.1", "bob", kind="group")
    assert rules(removed(ada()).message("B.1", "bob", kind="group"), cut_off(), good) == []
    bad = Writer("ada").message("B.1", "bob", kind="group").message("B.2", "bob", kind="group")
    logs = [removed(cut_off()), removed(ada()).message("B.1", "bob", kind="group").message("B.2", "bob", kind="group")]
    assert [fault.rule for fault in check([one.log() for one in (*logs, bad)], complete=True)].count("group") == 2


def test_who_was_removed_need_not_hold_what_the_others_have() -> None:
    theirs = Writer("ada").sent("A.1", kind="group").sent("A.2", kind="group").message("C.1", "cyd", kind="room")
    bobs = Writer("bob").message("A.1", "ada", kind="group").message("C.1", "cyd", kind="room").sent("B.9")
    at_rest = removed(ada()).sent("A.1", kind="group").sent("A.2", kind="group").message("C.1", "cyd")
    told = removed(bob()).message("A.1", "ada", kind="group").message("C.1", "cyd").sent("B.9")
    lost = check([one.log() for one in (theirs, bobs, at_rest, told)], complete=True)
    assert [fault.rule for fault in lost if "A.2" in fault.text] == []
    assert any("B.9" in fault.text for fault in lost)  # of the room all have to have all
