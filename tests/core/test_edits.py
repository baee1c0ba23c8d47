"""Edits, deletions and reactions: the newest counts, and only the writer's own, in whatever order they arrive."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pchat.core.inputs import WriteRequest
from p2pchat.core.log import Entry, Ref, decode_entry, encode_entry
from p2pchat.kinds import KINDS
from p2pchat.protocol import Entries
from tests.core.scripted_nodes import IDS, NAMES, ROOM, START, Author, Peer, World

View = list[tuple[str, Any, list[tuple[str, str]]]]


def view(peer: Peer) -> View:
    """Return the first text, the current text and the reactions of each message that a peer shows."""
    found: View = []
    for one in peer.storage.history(ROOM, limit=0):
        entry = decode_entry(one.raw)
        if entry.k != "text":
            continue
        edits = one.edits
        now = entry.b if edits is None or edits.newest is None else edits.newest.entry.b
        reactions = [] if edits is None else edits.said(KINDS["reaction"])
        found.append((entry.b, now, [(NAMES[each.log.user], each.entry.b) for each in reactions]))
    return found


def delete(author: Author, ref: Ref, at: int = START) -> Entries:
    seq = author.seq + 1
    return author.write(encode_entry(Entry("delete", at + seq, at + seq, ref)))


def test_the_newest_edit_of_the_writer_is_shown_and_the_first_text_stays() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    ada.far("bob").say(bob.say("helo"), bob.say("hello", re=bob.ref(1), kind="edit"))
    assert view(ada) == [("helo", "hello", [])]
    ada.far("bob").say(bob.say("hello!", re=bob.ref(1), kind="edit"))
    assert view(ada) == [("helo", "hello!", [])]


def test_a_deleted_message_is_empty_until_edited_again() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    far = ada.far("bob")
    far.say(bob.say("secret"), delete(bob, bob.ref(1)))
    assert view(ada) == [("secret", None, [])]
    far.say(bob.say("no secret", re=bob.ref(1), kind="edit"))
    assert view(ada) == [("secret", "no secret", [])]


def test_a_message_with_choices_stays_as_first_written_until_it_is_deleted() -> None:
    """Others pressed an answer to that text: a program that edits it all the same changes nothing."""
    ada, bob = World().peer("ada"), Author("bob", "b1")
    far = ada.far("bob")
    at = START + 1
    far.say(bob.write(encode_entry(Entry("text", at, at, b="deploy?", choices=("yes", "no")))))
    far.say(bob.say("delete all?", re=bob.ref(1), kind="edit"))
    assert view(ada) == [("deploy?", "deploy?", [])]
    cyd = Author("cyd", "c1")
    far.say(cyd.say("yes", re=bob.ref(1), kind="reaction"))
    assert view(ada) == [("deploy?", "deploy?", [("cyd", "yes")])]
    far.say(delete(bob, bob.ref(1)))
    assert view(ada) == [("deploy?", None, [("cyd", "yes")])]
    far.say(bob.say("delete all?", re=bob.ref(1), kind="edit"))  # it comes back, as it was
    assert view(ada) == [("deploy?", "deploy?", [("cyd", "yes")])]


def test_edits_and_deletions_by_others_are_stored_without_effect() -> None:
    ada, bob, cyd = World().peer("ada"), Author("bob", "b1"), Author("cyd", "c1")
    ada.far("bob").say(bob.say("mine"), cyd.say("yours", re=bob.ref(1), kind="edit"), delete(cyd, bob.ref(1)))
    assert view(ada) == [("mine", "mine", [])]
    assert ada.storage.entry(cyd.log, 2) is not None


def test_each_user_has_one_reaction_and_an_empty_one_removes_it() -> None:
    ada, bob, cyd = World().peer("ada"), Author("bob", "b1"), Author("cyd", "c1")
    far = ada.far("bob")
    far.say(bob.say("lunch?"), cyd.say("👍", re=bob.ref(1), kind="reaction"))
    far.say(bob.say("🎉", re=bob.ref(1), kind="reaction", at=START + 50))
    assert view(ada) == [("lunch?", "lunch?", [("cyd", "👍"), ("bob", "🎉")])]
    far.say(cyd.say("👎", re=bob.ref(1), kind="reaction", at=START + 60))
    assert view(ada) == [("lunch?", "lunch?", [("bob", "🎉"), ("cyd", "👎")])]
    far.say(cyd.say("", re=bob.ref(1), kind="reaction", at=START + 70))
    assert view(ada) == [("lunch?", "lunch?", [("bob", "🎉")])]


@pytest.mark.parametrize(
    "entry",
    [
        Entry("edit", START + 9, START + 9, b="of nothing"),
        Entry("delete", START + 9, START + 9),
        Entry("delete", START + 9, START + 9, Ref(Author("bob", "b1").ref(1).log, 1), b="with words"),
        Entry("reaction", START + 9, START + 9, Ref(Author("bob", "b1").ref(1).log, 1), b="81 code points" + "x" * 67),
    ],
    ids=["edit of nothing", "delete of nothing", "delete that says something", "reaction of 81 code points"],
)
def test_a_malformed_edit_is_stored_without_effect(entry: Entry) -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    ada.far("bob").say(bob.say("hello"), bob.write(encode_entry(entry)))
    assert view(ada) == [("hello", "hello", [])]
    assert ada.storage.entry(bob.log, 2) is not None


def test_eight_characters_are_no_reaction_too_long() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    ada.far("bob").say(bob.say("hello"), bob.say("8 chars!", re=bob.ref(1), kind="reaction"))
    assert view(ada) == [("hello", "hello", [("bob", "8 chars!")])]


def test_a_waiting_edit_changes_nothing_until_it_is_shown(ada: Peer) -> None:
    bob, cyd = Author("bob", "b1"), Author("cyd", "c1")
    far = ada.far("bob")
    question = cyd.say("why?")
    far.say(bob.say("first"), bob.say("second", re=bob.ref(1), kind="edit", at=START + 9))
    far.say(bob.say("third", re=bob.ref(1), after=[cyd.ref(1)], kind="edit", at=START + 20))
    assert view(ada) == [("first", "second", [])]
    ada.start()
    assert view(ada) == [("first", "second", [])]
    ada.far("bob").say(question)
    assert view(ada) == [("why?", "why?", []), ("first", "third", [])]


def test_an_edit_shown_with_a_gap_counts_for_later_messages(ada: Peer) -> None:
    bob, cyd = Author("bob", "b1"), Author("cyd", "c1")
    late = bob.say("late")
    ada.far("cyd").say(cyd.say("👍", re=bob.ref(1), kind="reaction"))
    ada.world.pass_time(31)
    ada.far("bob").say(late)
    assert view(ada) == [("late", "late", [("cyd", "👍")])]


# ---- writing


def refused(ada: Peer, kind: str, body: str, re: Ref | None) -> str:
    ada.put(WriteRequest(9, IDS["ada"], ROOM, kind, [body], re))
    return "; ".join(line for line in ada.take() if "refused" in line)


def test_a_user_edits_deletes_and_reacts() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    ada.far("bob").say(bob.say("lunch?"))
    ada.say("yes, at noon")  # after ada's profile
    mine = Author("ada", "a1").ref(2)
    for kind, body, re in (("edit", "yes, at one", mine), ("reaction", "👍", bob.ref(1))):
        ada.put(WriteRequest(9, IDS["ada"], ROOM, kind, [body], re))
    assert view(ada) == [("lunch?", "lunch?", [("ada", "👍")]), ("yes, at noon", "yes, at one", [])]
    ada.put(WriteRequest(9, IDS["ada"], ROOM, "delete", [""], mine))
    assert view(ada)[1] == ("yes, at noon", None, [])
    newest = ada.storage.entry(Author("ada", "a1").log, 5)
    assert newest is not None and '"b"' not in newest.raw  # a deletion has no body


def test_an_impossible_edit_is_refused_with_a_reason() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    ada.far("bob").say(bob.say("lunch?"))
    assert refused(ada, "edit", "no lunch", bob.ref(1)) == "refused foreign"
    assert refused(ada, "delete", "", bob.ref(1)) == "refused foreign"
    assert refused(ada, "edit", "what", None) == "refused shape"
    assert refused(ada, "reaction", "x" * 81, bob.ref(1)) == "refused shape"
    assert refused(ada, "reaction", "\0", bob.ref(1)) == "refused text"


# ---- any order of arrival

whats = st.sampled_from(["edit", "edit", "delete", "reaction", "reaction", "take back"])
scripts = st.lists(st.tuples(st.sampled_from(["bob", "cyd"]), whats, st.integers(0, 3)), min_size=1, max_size=4)


def frames_of(script: list[tuple[str, str, int]]) -> list[Entries]:
    """Return a message of bob, with edits by him on two devices and by cyd, each in its own log."""
    first = Author("bob", "b0")
    frames = [first.say("first")]
    for number, (name, what, late) in enumerate(script, 1):
        author = Author(name, f"{name[0]}{number}")
        at = START + 10 * late  # including equal clocks
        if what == "delete":
            frames.append(delete(author, first.ref(1), at))
        elif what == "take back":
            frames.append(author.say("", re=first.ref(1), at=at, kind="reaction"))
        else:
            frames.append(author.say(f"{what[0]}{number}", re=first.ref(1), at=at, kind=what))
    return frames


@settings(max_examples=25, deadline=None)
@given(scripts, st.randoms(use_true_random=False))
def test_every_order_of_arrival_ends_in_one_view(script: list[tuple[str, str, int]], chance: Any) -> None:
    orders = [*permutations(range(len(script) + 1))]
    views: list[View] = []
    for order in (orders[0], *chance.sample(orders, min(len(orders), 5))):
        world, frames = World(), frames_of(script)
        ada = world.peer("ada")
        far = ada.far("bob")
        for at in order:
            far.say(frames[at])
        world.pass_time(31)
        views.append(view(ada))
    assert all(each == views[0] for each in views)
