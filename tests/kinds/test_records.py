"""Rules about all kinds that are about a message, from the attributes of their records, with samples of each."""

from __future__ import annotations

from typing import Any

import pytest

from p2pchat.core.inputs import WriteRequest
from p2pchat.core.log import Entry, Ref, encode_entry
from p2pchat.kinds import CHANGE_EVENTS, KINDS, RELATION_KINDS
from p2pchat.kinds.kind import POINTS, Kind
from p2pchat.testing import Mesh
from tests.core.scripted_nodes import IDS, NAMES, ROOM, START, Author, Peer, World
from tests.docs.valid_entries import BODIES
from tests.kinds.samples import given, subject


def samples(kind: Kind) -> tuple[Any, Any, Any]:
    """Return two bodies of a kind that have an effect, and one that has none."""
    if kind.body == "number":
        return 1, 0, kind.longest + 1
    if kind.body == "text":
        return "one", "two", "x" * (POINTS * kind.longest + 1) if kind.longest else 7
    return None, None, "with words"


EACH = pytest.mark.parametrize("kind", [KINDS[name] for name in sorted(RELATION_KINDS)], ids=lambda kind: kind.name)


def asked(ada: Peer, bob: Author, kind: Kind) -> None:
    """Have bob write a message that entries of this kind may be about."""
    choices = ("yes", "no") if kind.on else ()
    ada.far("bob").say(bob.write(encode_entry(Entry(kind.on or "text", START + 1, START + 1, b="?", choices=choices))))


def say(ada: Peer, by: Author, kind: Kind, re: Ref | None, at: int, body: Any) -> None:
    ada.far("bob").say(by.write(encode_entry(Entry(kind.name, START + at, START + at, re, b=body))))


def counting(ada: Peer, kind: Kind) -> list[tuple[str, int]]:
    """Return whose entries of this kind count of the one message, and when they were written."""
    [message] = [one for one in ada.storage.history(ROOM, limit=0) if '"b":"?"' in str(one.raw[1])]
    counts = [] if message.edits is None else message.edits.of(kind)
    return [(NAMES[one.log.user], one.entry.c - START) for one in counts]


@EACH
def test_the_newest_of_each_person_counts_or_of_all_or_of_the_writer_alone_or_the_oldest(kind: Kind) -> None:
    ada, bob, cyd = World().peer("ada"), Author("bob", "b1"), Author("cyd", "c1")
    asked(ada, bob, kind)
    first, second, _ = samples(kind)
    say(ada, bob, kind, bob.ref(1), 20, second)
    say(ada, cyd, kind, bob.ref(1), 30, first)
    others = [] if kind.about == "own" else [("cyd", 30)]
    last = -1 if kind.shared else 0
    assert counting(ada, kind) == [("bob", 20), *others][last:]
    device = Author("bob", "b2")
    say(ada, device, kind, bob.ref(1), 10, first)  # it comes later, and is older
    assert counting(ada, kind) == [("bob", 10 if kind.oldest else 20), *others][last:]
    say(ada, device, kind, bob.ref(1), 40, first)
    assert counting(ada, kind) == ([("bob", 10)] if kind.oldest else [*others, ("bob", 40)][last:])


@EACH
def test_what_has_another_form_or_is_about_nothing_or_another_kind_has_no_effect(kind: Kind) -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    asked(ada, bob, kind)
    first, _, wrong = samples(kind)
    say(ada, bob, kind, bob.ref(1), 10, wrong)
    say(ada, bob, kind, None, 20, first)
    assert counting(ada, kind) == []
    if kind.on:
        ada, bob = World().peer("ada"), Author("bob", "b1")
        ada.far("bob").say(bob.say("?"))
        say(ada, bob, kind, bob.ref(1), 10, first)
        assert counting(ada, kind) == []


@EACH
def test_what_ends_a_kind_ends_it_at_its_clock(kind: Kind) -> None:
    ends = next((one for one in KINDS.values() if kind.until and one.aspect == kind.until), None)
    if ends is None:
        return
    ada, bob, cyd = World().peer("ada"), Author("bob", "b1"), Author("cyd", "c1")
    asked(ada, bob, kind)
    first, second, _ = samples(kind)
    say(ada, cyd, kind, bob.ref(1), 10, first)
    say(ada, cyd, kind, bob.ref(1), 20, second)
    say(ada, cyd, ends, bob.ref(1), 15, samples(ends)[0])  # another's end is none
    assert counting(ada, kind) == [("cyd", 20)]
    say(ada, bob, ends, bob.ref(1), 20, samples(ends)[0])
    assert counting(ada, kind) == [("cyd", 10)]


@EACH
def test_a_person_may_write_what_its_record_says_and_nothing_else(kind: Kind) -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    asked(ada, bob, kind)
    first, _, wrong = samples(kind)
    text = "" if first is None else str(first)
    ada.put(WriteRequest(9, IDS["ada"], ROOM, kind.name, [text], bob.ref(1)))
    refused = [line for line in ada.take() if "refused" in line]
    assert refused == (["refused foreign"] if kind.about == "own" else [])
    ada.put(WriteRequest(9, IDS["ada"], ROOM, kind.name, [text], None))
    assert [line for line in ada.take() if "refused" in line] == ["refused shape"]
    if kind.body in ("text", "number") and kind.longest:
        ada.put(WriteRequest(9, IDS["ada"], ROOM, kind.name, [str(wrong)], bob.ref(1)))
        assert [line for line in ada.take() if "refused" in line] == ["refused shape"]


@EACH
async def test_a_new_act_on_a_deleted_message_is_refused_and_one_from_elsewhere_is_taken(net: Mesh, kind: Kind) -> None:
    """Also for who holds the message as it was. An edit brings it back."""
    ada, bob, cyd = net.peers
    await ada.broadcast("hi")
    id = await subject(kind, ada, bob)
    await net.settle()
    held = await ada.message(id)
    net.partition([ada, bob], [cyd])
    await (ada if held.by.is_me else bob).delete(id)
    await net.settle()
    first = await ada.broadcast("one")
    for call in () if kind.is_edit or kind.is_deletion else kind.calls:
        with pytest.raises(ValueError, match="the message was deleted"):
            await getattr(ada, call.method or call.name)(held, **given(call, "one"))
    second = await ada.broadcast("two")
    assert int(second.id.partition(".")[2]) == int(first.id.partition(".")[2]) + 1, "nothing was written"
    if kind.about == "any":
        late = await getattr(cyd, kind.calls[0].name)(id, **given(kind.calls[0], "one"))
        net.heal()
        await net.settle()
        assert {one.name for one in late.delivered_to} == {"ada", "bob"}
    elif kind.is_edit:
        await getattr(ada, kind.calls[0].name)(held, **given(kind.calls[0], "one"))
    assert (await ada.message(id)).deleted is not kind.is_edit


@pytest.mark.parametrize("call, said, other", [("pin", (), ""), ("react", ("+1",), "-1"), ("vote", (2,), 1)])
async def test_an_act_that_changes_nothing_writes_nothing(
    net: Mesh, call: str, said: tuple[Any, ...], other: Any
) -> None:
    ada, bob, _ = net.peers
    asked = await bob.poll("room", "lunch?", ["pizza", "soup"])
    await net.settle()
    await getattr(ada, call)(asked.id, *said)
    first = await ada.broadcast("one")
    assert (await getattr(ada, call)(asked.id, *said)).id == asked.id
    second = await ada.broadcast("two")
    assert int(second.id.partition(".")[2]) == int(first.id.partition(".")[2]) + 1, "nothing was written"
    if other:
        await getattr(ada, call)(asked.id, other)
        await getattr(ada, call)(asked.id, *said)
    await net.settle()
    if call == "pin":  # whoever pinned it
        assert (await bob.pin(asked.id)).id == asked.id
    else:  # another's is not one's own
        await getattr(bob, call)(asked.id, *said)


async def test_a_poll_is_closed_once(net: Mesh) -> None:
    ada, _, _ = net.peers
    asked = await ada.poll("room", "lunch?", ["pizza", "soup"])
    await ada.close_poll(asked.id)
    assert (await ada.close_poll(asked.id)).id == asked.id
    with pytest.raises(ValueError, match="no open poll"):
        await ada.vote(asked.id, 1)


def test_each_record_that_is_about_a_message_has_an_event_of_its_own() -> None:
    assert len(CHANGE_EVENTS) == len(RELATION_KINDS)


def test_the_examples_of_entries_are_of_all_kinds() -> None:
    """They are made without the package, so they have a row of their own for each kind."""
    made = {}
    for kind in KINDS.values():
        if kind.body != "object":
            most = str(kind.longest) if kind.body == "number" else ""
            made[kind.name] = " ".join(filter(None, [kind.body, kind.about, most]))
    assert made == BODIES, "BODIES of tests/docs/valid_entries.py; then python -m tests.vectors.make and docs.tables"
