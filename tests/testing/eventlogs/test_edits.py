"""The checker over edits, deletions and reactions: by whom, and the same everywhere."""

from __future__ import annotations

import json
from typing import Any

from p2pchat.testing.checker import Line, Log
from tests.testing.eventlogs.logs import Writer, ada, bob, id_of, iso, rules


def mending(writer: Writer, event: str, id: str, by: str, entry: str, **more: Any) -> Writer:
    return writer.line(event, id=id, by=by, by_id=id_of(by), entry_id=entry, sent_at=iso(9), **more)


def test_a_message_may_say_what_its_writer_made_of_it() -> None:
    one = mending(ada().sent("A.1"), "edited", "A.1", "ada", "A.2", text="new").stopped()
    two = mending(bob().message("A.1", "ada"), "edited", "A.1", "ada", "A.2", text="new").stopped()
    late = Writer("cyd").listening().joined("ada").message("A.1", "ada", text="new", mended_id="A.2", edited=True)
    assert rules(one, two, late.stopped()) == []
    assert rules(one, mending(two, "reaction", "A.1", "bob", "B.1", reaction="+1")) == ["form"]  # behind `stopped`


def test_an_edit_says_the_same_everywhere() -> None:
    one = mending(ada().sent("A.1"), "edited", "A.1", "ada", "A.2", text="new").stopped()
    assert rules(one, mending(bob().message("A.1", "ada"), "edited", "A.1", "ada", "A.2", text="old").stopped()) == [
        "text", "text"]  # fmt: skip
    told = bob().message("A.1", "ada", text="old", mended_id="A.2", edited=True).stopped()
    assert rules(one, told) == ["text"]
    assert rules(one, bob().message("A.1", "ada", text="other").stopped()) == ["text"]


def test_nobody_else_edits_or_deletes_a_message() -> None:
    for event, more in (("edited", {"text": "mine"}), ("deleted", {})):
        assert rules(mending(ada().sent("A.1"), event, "A.1", "bob", "B.1", **more)) == ["edit"]


def test_histories_at_rest_show_a_message_alike() -> None:
    def history(name: str, **more: Any) -> Writer:
        return Writer(name).message("A.1", "cyd", text="new", mended_id="A.2", edited=True, **more)

    reaction = [{"reaction": "+1", "by_id": "BOB"}]
    assert rules(history("ada", reactions=reaction), history("bob", reactions=reaction), complete=True) == []
    assert rules(history("ada", reactions=reaction), history("bob"), complete=True) == ["edit"]
    assert rules(history("ada", reactions=reaction), history("bob")) == []  # one may be older


def test_what_cannot_be_meant_of_an_edit_is_no_line() -> None:
    for line in (
        {"event": "edited", "id": "A.1", "by_id": "ADA", "entry_id": "A.2", "sent_at": iso(1)},
        {"event": "message", **_post("A.1"), "reactions": ["+1"]},
        {"event": "message", **_post("A.1"), "mended_id": 7},
    ):
        log = Log.parse("x", json.dumps({"at": iso(1), **line}).encode() + b"\n")
        assert len(log.bad) == 1


def _post(id: str) -> Line:
    return {"id": id, "conversation_id": "ROOM", "sender_id": "ADA", "text": "hi", "sent_at": iso(0)}
