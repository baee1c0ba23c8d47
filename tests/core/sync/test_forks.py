"""Forks: their proofs, announced and received; claims without a proof."""

from __future__ import annotations

import msgspec
import pytest
from _pytest.mark import ParameterSet

from p2pchat.core.effects import WarningIssued
from p2pchat.core.inputs import QuotaLifted
from p2pchat.core.log import (
    NO_SUM,
    Ref,
    decode_entry,
)
from p2pchat.core.work_limits import Rate
from p2pchat.protocol import Digest, Entries, Have, Mark, Want
from p2pchat.settings import Settings
from simulation.simulation import Simulation
from tests.core.scripted_nodes import IDS, ROOM, START, Author, Far, Peer, World, alike, have, page, sums


def evidence(one: Entries, other: Entries) -> tuple[Entries, Entries]:
    """Return two batches of one log as evidence of a fork, with the header that one of them has."""
    header = one.h or other.h
    return (
        msgspec.structs.replace(one, h=one.h or header, fork=True),
        msgspec.structs.replace(other, h=other.h or header, fork=True),
    )


def twins() -> tuple[Author, Entries, Entries]:
    """Return bob, who has written "yes", and both versions of that entry."""
    one, other = Author("bob", "b1"), Author("bob", "b1")
    return one, one.say("yes"), other.say("no")


def heard_evidence(far: Far) -> list[Entries]:
    return [frame for frame in far.heard if isinstance(frame, Entries) and frame.fork]


# ---- detection


def test_two_entries_under_one_number_are_a_fork_that_stays_one_over_a_restart(ada: Peer) -> None:
    far = ada.far("eve")
    _, yes, no = twins()
    far.say(yes)
    assert far.say(no) == ["warn fork", "commit fork of b1"]
    ada.start()
    assert ada.far("eve").say(page()) == []
    assert ada.texts() == ["yes"]


def test_later_logs_of_a_forked_writer_are_accepted(ada: Peer) -> None:
    far = ada.far("bob")
    bob, yes, no = twins()
    far.say(yes, no)
    far.say(Author("bob", "b2", before=[bob.mark]).say("again"))
    assert ada.texts() == ["yes", "again"]


def test_a_mark_of_another_chain_leads_to_the_fork(ada: Peer) -> None:
    far = ada.far("eve")
    other = Author("bob", "b1")
    _, yes, no = twins()
    far.say(yes)
    other.write(*no.e)
    assert far.say(page(other)) == ["to eve: want 1 room bob from b1:1"]
    assert far.say(msgspec.structs.replace(no, n=1), have(other, end=1))[0] == "warn fork"


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("alike_bytes", [8, 16, 31])
def test_two_texts_whose_chains_begin_alike_are_a_fork(ada: Peer, alike_bytes: int, restarts: bool) -> None:
    """Before, twenty minutes of one core made two texts with one id, and nobody noticed: eight bytes were compared."""
    far, other = ada.far("eve"), Author("bob", "b1")
    bob, yes, no = twins()
    far.say(yes)
    if restarts:
        ada.start()
        far = ada.far("eve")
    other.write(*no.e)
    other.chain = bob.chain[:alike_bytes] + other.chain[alike_bytes:]
    assert far.say(sums(other)) == ["to eve: have room bob b1:1 all ask"]
    assert far.say(page(other)) == ["to eve: want 1 room bob from b1:1"]
    assert far.say(msgspec.structs.replace(no, n=1), have(other, end=1))[0] == "warn fork"


def test_a_false_mark_forks_nothing(ada: Peer) -> None:
    far = ada.far("eve")
    bob, yes, _ = twins()
    far.say(yes)
    lie = {ROOM: {IDS["bob"]: [alike(bob.mark)]}}
    assert far.say(Have(lie)) == ["to eve: want 1 room bob from b1:1"]
    assert far.say(msgspec.structs.replace(yes, n=1), Have(lie, end=1)) == []
    assert ada.far("bob").say(bob.say("more"))[0] == "commit b1:2..2, show b1:2..2"


def test_two_versions_of_a_covered_log_are_found_by_a_log_on_the_other() -> None:
    world = World()
    ada, cyd = world.peer("ada"), world.peer("cyd")
    for peer, text in ((ada, "yes"), (cyd, "no")):
        first = Author("bob", "b1")
        second = Author("bob", f"{peer.name[0]}b", before=[])
        far = peer.far("bob")
        far.say(first.say(text))
        second.before = (first.mark,)
        far.say(second.say(f"after {text}"))
        peer.drop(far)
    world.link(ada, cyd)
    world.pass_time(60.0)
    assert [sorted(peer.texts()) for peer in (ada, cyd)] == [
        ["after no", "after yes", "yes"], ["after no", "after yes", "no"]]  # fmt: skip


def test_another_version_of_a_stored_log_that_builds_on_a_tip_is_a_fork(ada: Peer) -> None:
    """It is not taken for a new log: storage would refuse it, and stop (seed 1938032 with files)."""
    far = ada.far("bob")
    one, tip = Author("bob", "b1"), Author("bob", "b3")
    far.say(one.say("yes"))
    far.say(Author("bob", "b2", before=[one.mark]).say("after yes"), tip.say("apart"))
    far.say(Author("bob", "b1", before=[tip.mark]).say("no"))
    assert [log.run for log in ada.storage.load([ada.id]).forked] == ["b1" * 8]
    assert ada.texts() == ["yes", "after yes", "apart"]


@pytest.mark.parametrize(("above", "restarts"), [(1, False), (3, False), (3, True)])
def test_another_version_of_a_stored_log_at_the_end_of_a_chain_is_a_fork(ada: Peer, above: int, restarts: bool) -> None:
    """The logs between them left memory. Before, storage refused what any member could sign so, and stopped."""
    far = ada.far("bob")
    before: list[Mark] = []
    for run in ("b1", "b2", "b3", "b4")[: above + 1]:
        author = Author("bob", run, before=before)
        far.say(author.say(run))
        before = [author.mark]
    if restarts:
        ada.start()
        far = ada.far("bob")
    far.say(Author("bob", "b1", before=before).say("no"))
    assert [log.run for log in ada.storage.load([ada.id]).forked] == ["b1" * 8]


def longer_twin(ada: Peer) -> Author:
    """Let ada hold three entries of bob; return the author of another version of the first."""
    bob = Author("bob", "b1")
    far = ada.far("dan")
    far.say(bob.say("yes"), bob.say(*["x" * 200] * 250))
    far.say(bob.say(*["y" * 200] * 250))  # a batch of its own on disk
    return Author("bob", "b1")


def test_a_batch_that_contradicts_the_middle_of_a_held_log_is_a_fork(ada: Peer) -> None:
    other = longer_twin(ada)
    far, no = ada.far("eve"), other.say("no")
    assert far.say(no) == ["look up b1:1"]  # it is dropped, and storage asked
    assert "warn fork" in far.say(no)
    far.say(no)
    one, two = heard_evidence(far)
    assert "warn fork" in ada.world.peer("cyd").far("ada").say(one, two)  # it proves it to others


def test_a_file_that_contradicts_the_middle_of_a_held_log_is_a_fork(ada: Peer) -> None:
    other = longer_twin(ada)
    assert {"warn fork", "imported 1 fork"} <= {*ada.carry(other.say("no"))}
    [warning] = [effect for effect in ada.effects if isinstance(effect, WarningIssued)]
    assert warning.text.startswith("a user without a name signed two different entries")


def test_a_false_batch_in_the_middle_of_a_held_log_is_refused(ada: Peer) -> None:
    other = longer_twin(ada)
    far = ada.far("eve")
    false = msgspec.structs.replace(other.say("no"), head="0" * 128)
    assert [far.say(false), far.say(false)] == [["look up b1:1"], ["to eve: have nothing full"]]
    assert ada.storage.load([]).forked == []


def test_a_log_on_another_version_of_a_longer_log_is_taken_once_the_fork_is_known(ada: Peer) -> None:
    """Before, its mark would count at the writer as a receipt for entries that are not here."""
    other = longer_twin(ada)
    first = other.say("no")
    later = Author("bob", "b2", before=[other.mark])
    second = later.say("behind it")
    far = ada.far("bob")
    assert not any(line.startswith("commit b2") for line in far.say(second))
    ada.world.pass_time(2.0)
    [want] = [frame for frame in far.heard if isinstance(frame, Want)]
    said = far.say(*(msgspec.structs.replace(each, n=want.n) for each in (first, second)), have(later, end=want.n))
    assert "warn fork" in said and "behind it" in ada.texts()
    sent = [frame for frame in far.heard if isinstance(frame, Have) and any(later.mark in marks for users in
            frame.marks.values() for marks in users.values())]  # fmt: skip
    assert far.heard.index(heard_evidence(far)[0]) < far.heard.index(sent[0])


def test_an_entry_that_waits_for_a_forked_log_is_shown() -> None:
    ada, cyd = World().peer("ada"), Author("cyd", "c1")
    far = ada.far("eve")
    bob, yes, no = twins()
    bob.say("more")
    far.say(yes, cyd.say("about more", re=Ref(IDS["bob"][:32] + bob.log.run, 2)))
    assert ada.texts() == ["yes"]
    far.say(no)
    assert ada.texts() == ["yes", "about more"]


# ---- sending


def test_a_batch_of_a_forked_log_is_answered_with_the_evidence_once_an_hour(ada: Peer) -> None:
    """Its receiver may have had no room for it, and cannot ask."""
    far = ada.far("eve")
    bob, yes, no = twins()
    far.say(yes)
    far.say(no)
    assert far.say(bob.say("more")) == ["fetch bob for eve", *["to eve: entries room b1:1..1, as evidence"] * 2]
    assert [frame.e for frame in heard_evidence(far)] == [yes.e, no.e]
    assert far.say(bob.say("and more"), page(bob)) == []
    ada.world.seconds += 3600
    far.heard.clear()
    far.say(page(bob))
    assert [frame.e for frame in heard_evidence(far)] == [yes.e, no.e]


def test_a_mark_of_a_forked_log_is_answered_with_the_evidence_also_after_a_restart(ada: Peer) -> None:
    bob, yes, no = twins()
    ada.far("eve").say(yes, no)
    ada.start()
    far = ada.far("cyd")
    far.say(page(bob))
    assert [frame.e for frame in heard_evidence(far)] == [yes.e, no.e]


def test_a_want_for_logs_on_a_forked_one_gets_the_evidence_first(ada: Peer) -> None:
    """A forked log is not served, and without the evidence no peer accepts logs that build on it."""
    far = ada.far("eve")
    bob, yes, no = twins()
    far.say(yes, no, Author("bob", "b2", before=[bob.mark]).say("again"))
    cyd = ada.world.peer("cyd")
    ada.world.link(ada, cyd)
    assert cyd.texts() == ["again"]
    assert ada.node.replicator.conversations[ROOM].sum == cyd.node.replicator.conversations[ROOM].sum != NO_SUM


@pytest.mark.parametrize("linked", [False, True])
def test_the_writer_s_peer_gets_the_evidence_before_any_mark_or_sum(ada: Peer, linked: bool) -> None:
    """A mark of a log on a forked one would be a receipt for the version that is not here."""
    bob, yes, no = twins()
    far = ada.far("bob") if linked else None
    ada.hold_lookups = True
    if far is not None:
        far.heard.clear()
    ada.far("eve").say(yes, no, Author("bob", "b2", before=[bob.mark]).say("again"))
    far = far or ada.far("bob", bob)
    ada.world.pass_time(20.0)
    assert [frame for frame in far.heard if isinstance(frame, (Have, Digest))] == []
    ada.answer_lookups()
    ada.world.pass_time(20.0)
    said = [frame for frame in far.heard if isinstance(frame, (Entries, Have, Digest))]
    assert heard_evidence(far) == said[:2] != said


def test_after_the_evidence_the_sum_is_sent_even_if_equal(ada: Peer) -> None:
    """The sum acknowledges its entries."""
    _, yes, no = twins()
    ada.far("eve").say(yes, no)
    ada.hold_lookups = True
    far = ada.far("bob")
    far.say(Digest(sum="0" * 64))
    ada.answer_lookups()
    far.say(Digest(sum="0" * 64))
    ada.world.pass_time(5.0)
    assert [frame.sum for frame in far.heard if isinstance(frame, Digest)] == ["0" * 64]


def test_a_peer_that_covered_a_forked_log_gets_the_evidence_when_tips_differ() -> None:
    world = World()
    ada, cyd = world.peer("ada"), world.peer("cyd")
    first = Author("bob", "b0")
    zero = first.say("zero")
    bob, twin = (Author("bob", "b1", before=[first.mark]) for _ in range(2))
    yes, no = bob.say("yes"), twin.say("no")
    after = Author("bob", "b2", before=[bob.mark]).say("after")
    for peer in (ada, cyd):
        far = peer.far("bob")
        far.say(zero, yes, after)
        peer.drop(far)
    far = ada.far("eve")
    far.say(no)
    ada.drop(far)
    world.link(ada, cyd)
    world.pass_time(60.0)
    sums = {peer.node.replicator.conversations[ROOM].sum for peer in (ada, cyd)}
    assert len(sums) == 1
    assert cyd.texts() == ["zero", "yes", "after"]


def test_a_log_covered_only_by_a_forked_one_is_announced_again(ada: Peer) -> None:
    """A peer with only the evidence cannot know what the log covers, and all sums must be equal."""
    far = ada.far("bob")
    first = Author("bob", "b1")
    far.say(first.say("one"))
    second, twin = Author("bob", "b2", before=[first.mark]), Author("bob", "b2", before=[first.mark])
    assert far.say(second.say("two"))[-1] == "to bob: have room bob b2:1"
    sent = ["fetch bob for bob", *["to bob: entries room b2:1..1, as evidence"] * 2]
    assert far.say(twin.say("lie")) == ["warn fork", "commit fork of b2", *sent]
    assert far.say(Author("bob", "b3", before=[second.mark]).say("three"))[-1] == "to bob: have room bob b1:1 b3:1"
    ada.start()
    assert ada.far("bob").say(page(ask=True))[0] == "to bob: have room bob b1:1 b3:1 all"


def test_a_log_that_begins_before_a_fork_is_durable_counts_as_building_on_not_all(ada: Peer) -> None:
    """Else a mark of it would count as one of everything before (seed 1350084 with --deletions)."""
    far = ada.far("bob")
    first = Author("bob", "b1")
    far.say(first.say("one"))
    second, twin = Author("bob", "b2", before=[first.mark]), Author("bob", "b2", before=[first.mark])
    far.say(second.say("two"))
    ada.holding = True
    far.say(twin.say("lie"))
    far.say(Author("bob", "b3", before=[second.mark]).say("three"))
    begun = [new for each in ada.held for new in each.change.logs]
    assert [(new.log.run, new.whole) for new in begun] == [("b3" * 8, False)]


def test_what_a_forked_log_builds_on_comes_to_who_only_holds_what_was_written_on_it() -> None:
    """It may have dropped those below, for want of room, and the later log is taken without them."""
    world = World()
    ada, cyd = world.peer("ada"), world.peer("cyd")
    first = Author("bob", "b1")
    one = first.say("one")
    second = Author("bob", "b2", before=[first.mark])
    two = second.say("two")
    third, twin = Author("bob", "b3", before=[second.mark]), Author("bob", "b3", before=[second.mark])
    three, lie = third.say("three"), twin.say("lie")
    later = Author("bob", "b4", before=[third.mark]).say("four")
    for peer, frames in ((ada, [one, two, three, lie, later]), (cyd, [*evidence(three, lie), later])):
        far = peer.far("bob")
        far.say(*frames)
        peer.drop(far)
    world.link(ada, cyd)
    world.pass_time(60.0)
    assert (ada.texts(), cyd.texts()) == (["one", "two", "three", "four"], ["four", "one", "two"])


# ---- receiving


def test_evidence_makes_a_log_forked_that_was_not_held(ada: Peer) -> None:
    far = ada.far("eve")
    bob, yes, no = twins()
    assert far.say(*evidence(yes, no)) == ["warn fork", "commit fork of b1"]
    assert far.say(yes)[0] == "fetch bob for eve"
    assert far.say(Author("bob", "b2", before=[bob.mark]).say("again"))[0] == "commit b2:1..1, show b2:1..1"


def test_evidence_that_comes_in_two_reads_counts_and_half_of_it_does_not(ada: Peer) -> None:
    far = ada.far("eve")
    _, yes, no = twins()
    one, other = evidence(yes, no)
    assert far.say(one) == []
    assert far.say(other)[-1] == "commit fork of b1"


def test_an_own_log_proven_forked_ends_and_another_begins(ada: Peer) -> None:
    far = ada.far("eve")
    ada.say("mine")
    mine = next(frame for frame in far.heard if isinstance(frame, Entries))
    copy = Author("ada", "a1")
    assert "commit fork of a1" in far.say(*evidence(mine, copy.say("the copy's")))
    assert ada.say("mine again")[0] == "commit a3:1..2, show a3:1..2"


def false_evidence() -> list[ParameterSet]:
    bob, yes, no = twins()
    more = bob.say("more")
    odd = Author("bob", "b1")
    odd.chain = bytes(32)
    return [
        pytest.param(yes, yes, id="the same twice"),
        pytest.param(yes, more, id="one goes on with the other"),
        pytest.param(yes, msgspec.structs.replace(no, head=yes.head), id="a head that is not the author's"),
        pytest.param(yes, odd.say("odd"), id="a log that does not begin as logs do"),
    ]


@pytest.mark.parametrize(("one", "other"), false_evidence())
def test_evidence_that_proves_nothing_is_refused(ada: Peer, one: Entries, other: Entries) -> None:
    assert ada.far("eve").say(*evidence(one, other)) == ["to eve: have nothing full"]
    assert ada.far("bob").say(Author("bob", "b1").say("yes"))[0] == "commit b1:1..1, show b1:1..1"


def test_forks_of_one_writer_are_limited_like_tips() -> None:
    ada = World().peer("ada", max_tips=2)
    far = ada.far("eve")
    for run in ("b1", "b2", "b3"):
        far.say(*evidence(Author("bob", run).say("yes"), Author("bob", run).say("no")))
    assert ada.counted["forks_ignored"] == 1


def test_a_fork_may_make_more_tips_than_a_list_may_hold() -> None:
    """A forked log covers nothing. No list grows too long for its receiver, and the newest tips are in it."""
    world, most = World(), Settings().max_tips
    ada, cyd = world.peer("ada"), world.peer("cyd")
    far = ada.far("eve")
    below = [Author("bob", f"{n:02x}") for n in range(8)]
    far.say(*(author.say("below", at=START + n) for n, author in enumerate(below)))
    marks = [author.mark for author in below]
    far.say(Author("bob", "b1", before=marks).say("yes"))
    far.say(*(Author("bob", f"{n:02x}").say("beside", at=START + n) for n in range(8, most + 7)))
    assert "warn fork" in far.say(Author("bob", "b1", before=marks).say("no"))
    [newest] = [frame.marks[ROOM][IDS["bob"]] for frame in [*_asked_for_all(ada)] if frame.marks]
    assert [mark.run[:2] for mark in newest] == [f"{n:02x}" for n in range(7, most + 7)]
    world.link(ada, cyd)
    world.pass_time(60.0)
    assert len(ada.texts()) == most + 8 and len(cyd.texts()) == most


def _asked_for_all(peer: Peer) -> list[Have]:
    """Return the marks that a new link gets; each list within the limit of the wire."""
    far = peer.far("dan", compared=False)
    far.say(page(ask=True))
    return [frame for frame in far.heard if isinstance(frame, Have)]


# ---- together


@pytest.mark.parametrize("seed", range(8))
def test_a_machine_resumed_from_a_snapshot_leaves_all_peers_alike_and_loses_nothing_else(seed: int) -> None:
    """Bob received the first process's entries, cyd those of the second; then all meet."""
    sim = Simulation(seed)
    ada, bob, cyd = sim.peers(3)
    bob.say("hello from bob")
    ada.say("before")
    sim.calm()
    ada.crash()
    ada.start()
    sim.calm()
    sim.partition([ada, bob], [cyd])
    ada.say("the first")
    sim.calm()
    sim.heal()
    sim.partition([ada, cyd], [bob])
    ada.resume(cyd.endpoint)
    ada.say("the second")
    sim.calm()
    assert sim.settle()
    ada.say("and on")
    sim.calm()
    assert sim.settle()
    assert sim.check() == []
    assert sim.counts["warned_fork"] == 3
    for peer in (ada, bob, cyd):
        texts = [line["text"] for line in peer.lines if line["event"] in ("message", "sent")]
        assert {"hello from bob", "before", "and on"} <= {*texts}


def test_the_next_entry_follows_nothing_of_a_forked_log() -> None:
    """A peer that knows nothing of that log would wait for entries that are not served."""
    ada, cyd, dan = World().peer("ada"), Author("cyd", "c1"), Author("dan", "d1")
    _, yes, no = twins()
    ada.far("cyd").say(cyd.say("before"))
    far = ada.far("bob")
    far.say(yes)
    far.say(no)
    ada.far("dan").say(dan.say("behind"))
    ada.say("and now")
    [said] = [batch for batch in far.heard if isinstance(batch, Entries) and batch.u == IDS["ada"]]
    assert decode_entry(said.e[1]).after == (cyd.ref(1), dan.ref(1))


def test_evidence_against_users_counts_at_their_member() -> None:
    """Otherwise one member fills the disk with forks of users it makes up."""
    ada = World().peer("ada", others_bytes=3 * Settings().max_batch_bytes)
    far = ada.far("eve")
    for name in ("bob", "cyd", "dan"):
        far.say(*evidence(Author(name, name[0] + "1").say("y" * 100), Author(name, name[0] + "1").say("n" * 100)))
    assert (len(ada.storage.load([ada.id]).forked), ada.counted["forks_ignored"]) == (1, 2)


@pytest.mark.parametrize(("size", "forked"), [(100, ["b1" * 8]), (300, [])])
def test_another_version_of_a_held_log_counts_where_the_log_does(size: int, forked: list[str]) -> None:
    ada = World().peer("ada", member_bytes=2 * Settings().max_batch_bytes + 300)
    far = ada.far("eve")
    far.say(Author("bob", "b1").say("y" * size))
    far.say(Author("bob", "b1").say("no"))
    assert [log.run for log in ada.storage.load([ada.id]).forked] == forked
    assert ada.counted["forks_ignored"] == (not forked)


def test_forks_of_unknown_users_cause_few_warnings_and_those_of_contacts_always_one() -> None:
    ada = World().peer("ada")
    ada.node._ctx.work.rates["warnings"] = Rate(1 / 60, 1)
    ada.put(QuotaLifted(IDS["dan"]))
    far = ada.far("eve")
    for name in ("bob", "cyd", "dan"):
        far.say(*evidence(Author(name, name[0] + "1").say("yes"), Author(name, name[0] + "1").say("no")))
    warned = [effect.about for effect in ada.effects if isinstance(effect, WarningIssued)]
    assert warned == [IDS["bob"], IDS["dan"]]
