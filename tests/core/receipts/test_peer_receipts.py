"""Read marks between nodes: their recipients, when they count, and repair of lost ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
from msgspec import structs

from p2pchat.core.effects import Commit, ReadStored, WriteRefused
from p2pchat.core.inputs import (
    CommitFailed,
    GroupCreateRequest,
    Input,
    LinkDrained,
    LinkFilled,
    Loaded,
    MarkedRead,
    Stop,
)
from p2pchat.core.log import LogId, ref_key
from p2pchat.core.node_context import HostedIdentity
from p2pchat.core.receipts.mark_exchange import MAX_EARLY
from p2pchat.protocol import Entries, Mark, ReadFrame, UserId
from p2pchat.storage.temporary_storage import TemporaryStorage
from tests.core.scripted_nodes import IDENTITIES, IDS, ROOM, Author, Peer, World, alike
from tests.core.sync.test_known_conversations import gateway
from tests.core.sync.test_sender import announce, own


def of_reading(lines: list[str]) -> list[str]:
    """Keep only lines about read marks and deliveries."""
    return [line for line in lines if line.startswith(("read", "delivered", "close")) or ": read" in line]


def pair(*names: str) -> list[Peer]:
    """Return peers linked with the first of them, in a world at rest."""
    world = World()
    peers = [world.peer(name) for name in names]
    for other in peers[1:]:
        world.link(peers[0], other)
    world.pass_time(2.0)
    for peer in peers:
        peer.take()
    return peers


def marked(reader: str, mark: Mark, *, writer: str = "ada") -> ReadFrame:
    """Return a read mark in the room, as a far end sends it."""
    marks = {ROOM: {IDS[reader]: [(ref_key(IDS[writer], mark.run), mark.seq, mark.chain)]}}
    return ReadFrame(marks)


def mark_of(peer: Peer, run: str, seq: int) -> Mark:
    """Return the mark of an entry that a peer's own user wrote in the room."""
    chain = peer.storage.chain_at(LogId(ROOM, peer.id, run * 8), seq)
    return Mark(run * 8, seq, chain.hex())


def made_up(numbers: Iterable[int]) -> list[tuple[str, int, str]]:
    """Return marks on logs of ada that nobody wrote."""
    return [(ref_key(IDS["ada"], f"{n:016x}"), 1, "00" * 32) for n in numbers]


def test_a_read_mark_goes_to_the_writer_at_once_and_to_nobody_else() -> None:
    ada, bob, cyd = pair("ada", "bob", "cyd")
    assert of_reading(ada.say("one", "two")) == ["delivered a1:1..3 to bob", "delivered a1:1..3 to cyd"]
    assert of_reading(bob.read()) == ["to ada: read room by bob a1:3"]
    assert of_reading(ada.take()) == ["read a1:1..3 by bob"]
    assert of_reading(cyd.take()) == []


def test_read_marks_are_sent_once_and_only_advance() -> None:
    ada, bob = pair("ada", "bob")
    ada.say("one", "two")
    ada.world.pass_time(1.0)
    ada.take()
    assert [of_reading(bob.read(place)) for place in (2, 1, 2, 3)] == [
        ["to ada: read room by bob a1:2"], [], [], []]  # fmt: skip
    bob.world.pass_time(0.2)
    assert of_reading(bob.take()) == ["to ada: read room by bob a1:3"]
    assert of_reading(ada.take()) == ["read a1:1..2 by bob", "read a1:3..3 by bob"]


def test_many_marks_in_a_moment_are_few_frames() -> None:
    ada, bob = pair("ada", "bob")
    for n in range(50):
        ada.say(f"word {n}")
    bob.take()
    told_by_bob: list[str] = []
    for place in range(1, 51):
        told_by_bob += of_reading(bob.read(place))
        bob.world.pass_time(0.01)
    bob.world.pass_time(0.2)
    told_by_bob += of_reading(bob.take())
    assert len(told_by_bob) <= 7
    assert told_by_bob[-1] == "to ada: read room by bob a1:50"


def test_marking_a_message_marks_everything_shown_before_it() -> None:
    ada, bob, cyd = pair("ada", "bob", "cyd")
    ada.say("one")
    cyd.say("two")
    ada.say("three")
    cyd.say("four")
    ada.world.pass_time(1.0)
    places = {str(one.raw[1]).split('"b":"')[-1][:-2]: one.place for one in ada.storage.places(0, 99)}
    assert of_reading(ada.read(places["two"])) == ["to cyd: read room by ada c1:2"]
    assert of_reading(cyd.take())[-1:] == ["read c1:1..2 by ada"]
    bob.take()


def test_marking_everything_does_not_go_through_the_former_marks(ada: Peer) -> None:
    """Made-up users may be thousands of writers in the room, and it is marked as read ten times a second."""

    class Counted(dict[UserId, bytes]):
        passes = 0

        def __iter__(self) -> Iterator[UserId]:
            self.passes += 1
            return super().__iter__()

    far = ada.far("eve")
    for name in ("bob", "cyd", "dan", "eve"):
        far.say(Author(name, name[0] + "1").say("one"))
    ada.read()
    positions = ada.node.replicator.receipts.marks._positions
    marks = positions._marks[ROOM, ada.id, False] = Counted(positions._marks[ROOM, ada.id, False])
    assert len(marks) == 4
    far.say(Author("bob", "b2").say("two"))
    ada.world.pass_time(1.0)
    ada.read()
    assert [len(marks), marks.passes] == [4, 0]
    assert [*positions.on_logs_of((ROOM, ada.id, False), IDS["bob"])] == ["b1" * 8, "b2" * 8]


def test_a_read_receipt_survives_a_restart_and_is_not_repeated() -> None:
    ada, bob = pair("ada", "bob")
    ada.say("one")
    ada.world.pass_time(1.0)
    bob.read()
    ada.say("two")  # the next commit saves the mark
    ada.restart()
    ada.take()
    ada.world.link(bob, ada)
    ada.world.pass_time(12.0)
    assert of_reading(ada.take()) == ["to bob: read ask", "delivered a1:3..3 to bob"]
    bob.read()
    assert of_reading(ada.take()) == ["read a1:3..3 by bob"]


def test_reads_while_the_writer_was_away_are_sent_when_they_meet() -> None:
    ada, bob = pair("ada", "bob")
    ada.say("one", "two")
    ada.world.pass_time(1.0)
    ada.crash()
    bob.read()
    bob.world.pass_time(2.0)
    bob.crash()
    ada.start()
    bob.start()
    ada.world.link(ada, bob)
    ada.world.pass_time(12.0)
    assert of_reading(ada.take())[-1:] == ["read a1:1..3 by bob"]


def test_a_mark_on_the_newest_log_covers_all_earlier_ones(ada: Peer) -> None:
    for text in ("one", "two"):
        ada.say(text)
        ada.restart()
    ada.say("three")
    far = ada.far("bob")
    last = ada.author("a3")
    last.write(*(one.raw for one in ada.storage.places(4, 9)))
    announce(far, last.mark)
    assert of_reading(far.say(marked("bob", mark_of(ada, "a3", 1)))) == [
        "read a1:1..2 by bob", "read a2:1..2 by bob", "read a3:1..1 by bob"]  # fmt: skip


def test_a_mark_of_an_earlier_log_counts_too(ada: Peer) -> None:
    ada.say("one")
    ada.restart()
    ada.say("two")
    ada.restart()  # the first log is covered, and storage alone knows the chain at its first entry
    far = ada.far("bob")
    assert of_reading(far.say(marked("bob", mark_of(ada, "a1", 1)))) == [
        "delivered a1:1..1 to bob", "read a1:1..1 by bob"]  # fmt: skip


def test_a_mark_on_an_earlier_log_counts_with_its_delivery(ada: Peer) -> None:
    for text in ("one", "two", "three"):
        ada.say(text)
        ada.restart()
    far = ada.far("bob")
    second = ada.author("a2")
    second.write(*(one.raw for one in ada.storage.places(2, 2)))
    assert of_reading([*announce(far, second.mark), *far.say(marked("bob", mark_of(ada, "a2", 2)))]) == [
        "delivered a1:1..2 to bob", "delivered a2:1..2 to bob",
        "read a1:1..2 by bob", "read a2:1..2 by bob"]  # fmt: skip


def log_of(peer: Peer, run: str) -> tuple[Entries, Mark]:
    """Return the entries that a peer's own user wrote in the room in one run, as a frame, and their mark."""
    log = peer.author(run)
    return log.write(*(one.raw for one in peer.storage.places(0, 99) if one.log == log.log)), log.mark


def lost_and_found() -> Peer:
    """Return ada, who lost her disk with two logs, wrote two others, and got back the first: two tips."""
    ada = World().peer("ada")
    for text in ("one", "two"):
        ada.say(text)
        ada.restart()
    (one, _), (two, _) = log_of(ada, "a1"), log_of(ada, "a2")
    ada.storage.restore(TemporaryStorage().snapshot())
    ada.start()
    ada.say("three")
    ada.restart()
    ada.say("four")
    ada.carry(one, two)
    return ada


def test_one_of_several_tips_does_not_deliver_the_log_below_another() -> None:
    ada = lost_and_found()
    (_, second), (_, last) = log_of(ada, "a2"), log_of(ada, "a5")
    far = ada.far("bob")
    assert of_reading(announce(far, last)) == ["delivered a4:1..2 to bob", "delivered a5:1..2 to bob"]
    assert of_reading(announce(far, second, last)) == ["delivered a1:1..2 to bob", "delivered a2:1..2 to bob"]


def test_who_has_read_a_message_has_it(ada: Peer) -> None:
    """A read mark proves it by its chain, whether or not the mark of the reader's peer has come."""
    far = ada.far("bob")
    ada.say("one", "two")
    for seq in (2, 3):
        first = 1 if seq == 2 else 3
        assert of_reading(far.say(marked("bob", own(ada, seq)))) == [
            f"delivered a1:{first}..{seq} to bob", f"read a1:{first}..{seq} by bob"]  # fmt: skip


def test_group_operations_have_no_receipts(ada: Peer) -> None:
    far = ada.far("bob")
    ada.put(GroupCreateRequest(1, ada.id, "ops", (IDS["bob"],)))
    ada.take()
    [group] = [each for each in ada.node.replicator.conversations.values() if each.has_facts]
    [mark] = group.writers[ada.id].marks()
    frame = ReadFrame({group.id: {IDS["bob"]: [(ref_key(ada.id, mark.run), *mark[1:])]}}, names=[group.naming])
    assert of_reading(far.say(frame)) == []


def test_in_the_room_a_read_mark_of_a_guest_says_nothing_about_the_gateway(ada: Peer) -> None:
    """It may have read elsewhere, and the other users of the gateway need not have it."""
    far = gateway(ada, "dan", "cyd")
    ada.say("one", "two")
    assert of_reading(far.say(marked("cyd", own(ada, 3)))) == ["read a1:1..3 by cyd"]
    assert of_reading(far.say(marked("dan", own(ada, 2)))) == ["delivered a1:1..2 to dan", "read a1:1..2 by dan"]


def restored(ada: Peer) -> tuple[Entries, Mark, Mark]:
    """Restore an older disk of ada. Return her first log, whose end it lacks, and the marks of it and of one on it."""
    ada.say("one")
    older = ada.storage.snapshot()
    ada.say("two")
    first, mark = log_of(ada, "a1")
    ada.crash()
    ada.storage.restore(older)
    ada.start()
    ada.say("three")
    return first, mark, log_of(ada, "a2")[1]


def test_a_log_on_the_rest_of_a_restored_one_lowers_no_mark_on_that(ada: Peer) -> None:
    """Bob has read more of the first log than ada's older disk has, and then a log that builds on what it has."""
    first, mark, last = restored(ada)
    far = ada.far("bob")
    announce(far, mark)  # more than is here
    assert of_reading(far.say(marked("bob", mark))) == []
    announce(far, mark, last)
    far.say(marked("bob", mark_of(ada, "a2", 2)))
    assert of_reading(ada.carry(first)) == ["delivered a1:1..3 to bob", "read a1:1..3 by bob"]


def test_who_has_read_what_builds_on_a_restored_log_has_read_that_once_it_is_delivered(ada: Peer) -> None:
    """Until then bob may have another version of it: he announces more than ada's older disk has."""
    first, mark, last = restored(ada)
    far = ada.far("bob")
    announce(far, mark, last)
    assert of_reading(far.say(marked("bob", mark_of(ada, "a2", 2)))) == ["read a2:1..2 by bob"]
    assert of_reading(ada.carry(first)) == ["delivered a1:1..3 to bob"]
    ada.restart()
    ada.say("four")
    lines = of_reading(ada.far("bob").say(marked("bob", mark_of(ada, "a3", 2))))
    assert [line for line in lines if "read" in line] == ["read a1:1..3 by bob", "read a3:1..2 by bob"]


def test_a_flood_of_read_marks_displaces_only_its_own(ada: Peer) -> None:
    older = ada.storage.snapshot()
    ada.say("one", "two")
    first, mark = log_of(ada, "a1")
    ada.crash()
    ada.storage.restore(older)
    ada.start()
    far, liar = ada.far("bob"), ada.far("eve")
    for start in range(0, MAX_EARLY + 512, 256):
        liar.say(ReadFrame({ROOM: {IDS["eve"]: made_up(range(start, start + 256))}}))
    far.say(marked("bob", mark))  # before its log is back
    early = ada.node.replicator.receipts.marks.early
    assert [early._counts[one.link] for one in (liar, far)] == [MAX_EARLY // 2, 1]
    ada.drop(liar)
    assert sum(map(len, early.by_log.values())) == 1
    assert of_reading(ada.carry(first)) == ["delivered a1:1..3 to bob", "read a1:1..3 by bob"]


def test_a_mark_set_again_is_answered_after_a_commit_of_its_own() -> None:
    """The first may still be on its way to the disk when the second comes."""
    ada, bob = pair("ada", "bob")
    bob.say("one")
    ada.take()
    shown = ada.storage.places(0, 10_000)[-1]
    ada.holding = True
    for ticket in (1, 2):
        effects = ada.node.handle(MarkedRead(ada.id, shown.log, shown.place, ticket=ticket), ada.world.now)
        assert [type(each) for each in effects if isinstance(each, (Commit, ReadStored))] == [Commit]


def test_a_read_mark_on_a_copy_s_entries_does_not_count(ada: Peer) -> None:
    far = ada.far("bob")
    ada.say("one")
    ada.say("two")
    for seq in (2, 3):  # in the middle of the log, and at its end
        assert of_reading(far.say(marked("bob", alike(own(ada, seq))))) == []
    assert of_reading(far.say(marked("bob", own(ada, 2)))) == ["delivered a1:1..2 to bob", "read a1:1..2 by bob"]


def test_a_read_mark_waits_until_storage_says_the_chain(ada: Peer) -> None:
    far = ada.far("bob")
    ada.say("one", "two")
    ada.hold_lookups = True
    assert of_reading(far.say(marked("bob", mark_of(ada, "a1", 2)))) == []
    assert of_reading(ada.answer_lookups()) == ["delivered a1:1..2 to bob", "read a1:1..2 by bob"]


@pytest.mark.parametrize(("kept", "lost"), [((), "1..2"), (("one",), "1..3")])
def test_a_read_mark_on_lost_entries_counts_when_they_come_back(kept: tuple[str, ...], lost: str) -> None:
    """An older copy of ada's disk lacks her log or a part of it, which bob has read."""
    ada, bob = pair("ada", "bob")
    for text in kept:
        ada.say(text)
    older = ada.storage.snapshot()
    ada.say("two")
    bob.read()
    ada.crash()
    ada.storage.restore(older)
    ada.start()
    ada.take()
    ada.world.link(ada, bob)
    ada.world.pass_time(30.0)
    assert f"read a1:{lost} by bob" in of_reading(ada.take())


def test_a_read_mark_for_a_user_not_hosted_there_ends_the_link(ada: Peer) -> None:
    far = ada.far("bob")
    ada.say("one")
    assert of_reading(far.say(marked("cyd", own(ada, 1)))) == ["close bob: host"]


def test_a_read_mark_in_a_conversation_not_shared_is_ignored(ada: Peer) -> None:
    talk = ada.open("bob")
    ada.say("psst", to=talk)
    far = ada.far("eve")
    secret = ReadFrame({talk: {IDS["eve"]: [(ref_key(IDS["ada"], "a1" * 8), 1, "00" * 32)]}})
    sums = ada.node.replicator.receipts.marks
    assert of_reading(far.say(structs.replace(secret, add="ab" * 32))) == []
    assert (ada.counted["conversation_ignored"], sums.announced_sum(IDS["eve"])) == (1, "00" * 32)  # it comes again
    assert of_reading(far.say(ReadFrame({}, add="ab" * 32, sum="ab" * 32))) == ["to eve: read ask"]
    assert of_reading(far.say(ReadFrame({}, sum="ab" * 32))) == []


def test_a_full_link_is_sent_read_marks_when_it_drains() -> None:
    ada, writer = World().peer("ada"), Author("bob", "b1")
    far = ada.far("bob")
    far.say(writer.say("one"))
    ada.put(LinkFilled(far.link))
    assert of_reading(ada.read()) == []
    ada.put(LinkDrained(far.link))
    assert of_reading(ada.take()) == ["to bob: read room by ada b1:1"]


def test_equal_read_sums_need_no_answer_and_different_ones_request_all_marks() -> None:
    ada, bob = pair("ada", "bob")
    for text in ("one", "two"):
        ada.say(text)
        ada.world.pass_time(1.0)
        bob.read()
    ada.world.pass_time(30.0)
    assert "to bob: read ask" not in ada.take()  # anti-entropy: the sums are equal
    assert "to ada: read sum" in bob.take()
    eve = ada.far("eve")
    assert of_reading(eve.say(ReadFrame({}, sum="00" * 31 + "01"))) == ["to eve: read ask"]


def test_a_peer_asked_for_read_marks_sends_all_in_pages() -> None:
    ada = World().peer("ada", page_items=2)
    far = ada.far("bob")
    writers = [Author("bob", f"b{n}") for n in range(5)]
    for writer in writers:
        far.say(writer.say("word"))
    marks = [writer.mark for writer in writers]
    ada.read()
    far.heard.clear()
    far.say(ReadFrame({}, ask=True))
    pages = [frame for frame in far.heard if isinstance(frame, ReadFrame)]
    assert [frame.all for frame in pages] == [True, False, False]
    told_of = [ref for frame in pages for readers in frame.marks.values() for refs in readers.values() for ref in refs]
    assert sorted(told_of) == [(ref_key(IDS["bob"], mark.run), 1, mark.chain) for mark in marks]


def test_a_restored_reader_announces_less_and_the_writer_keeps_more() -> None:
    ada, bob = pair("ada", "bob")
    ada.say("one")
    ada.world.pass_time(1.0)
    before = bob.storage.snapshot()
    bob.read()
    ada.world.pass_time(1.0)
    assert of_reading(ada.take())[-1] == "read a1:1..2 by bob"
    bob.crash()
    bob.storage.restore(before)
    bob.start()
    ada.world.link(ada, bob)
    ada.world.pass_time(60.0)
    ada.take()
    bob.take()
    ada.world.pass_time(60.0)  # both are at rest: ada has all marks that bob announced
    assert of_reading([*ada.take(), *bob.take()]) == []


def test_a_read_mark_is_sent_when_it_is_on_disk() -> None:
    ada, bob = pair("ada", "bob")
    ada.say("one")
    ada.say("two")
    bob.take()
    bob.holding = True
    assert of_reading(bob.read(1)) == []
    bob.world.pass_time(0.2)
    bob.read()  # while the first is on its way to the disk
    assert bob.held and of_reading(bob.take()) == []
    assert of_reading(bob.commit()) == ["to ada: read room by bob a1:3"]
    assert [mark.seq for mark in bob.storage.load([bob.id]).reads] == [3]


def test_the_last_read_positions_are_saved_and_sent_at_stop() -> None:
    ada, bob = pair("ada", "bob")
    ada.say("one")
    bob.take()
    bob.read()
    ada.say("two")
    bob.read()
    bob.put(Stop())
    assert of_reading(bob.take())[-2:] == ["to ada: read room by bob a1:3", "close ada: left"]
    assert [mark.seq for mark in bob.storage.load([bob.id]).reads] == [3]


def test_a_failure_of_storage_loses_no_read_positions() -> None:
    ada, writer = World().peer("ada"), Author("bob", "b1")
    far = ada.far("bob")
    far.say(writer.say("one"))
    ada.put(CommitFailed(0, "the disk is full"))
    ada.read()
    ada.put(Loaded(ada.storage.load([ada.id])))
    ada.world.pass_time(2.0)
    assert [mark.seq for mark in ada.storage.load([ada.id]).reads] == [1]
    ada.take()


@pytest.mark.parametrize("when", ["before", "after"])
def test_who_waits_for_a_mark_when_storage_fails_is_told_that_it_is_stored_later(when: str) -> None:
    ada, mark = reader()
    inputs: list[Input] = [mark, CommitFailed(0, "the disk is full")]
    ada.holding = True
    for input in inputs if when == "before" else reversed(inputs):
        ada.put(input)
        ada.take()
    text = "not on disk yet: it is kept, and stored when storage works again"
    assert answers(ada) == [WriteRefused(7, "storage", text)]
    recover(ada)
    assert answers(ada) == [] and [mark.seq for mark in ada.storage.load([ada.id]).reads] == [1]


def test_who_waits_for_a_mark_that_is_looked_up_when_storage_fails_is_told_when_it_is_stored() -> None:
    ada, mark = reader()
    ada.hold_lookups = True
    ada.put(mark)
    ada.put(CommitFailed(0, "the disk is full"))
    assert answers(ada) == []
    recover(ada)
    assert answers(ada) == [ReadStored(7)] and [mark.seq for mark in ada.storage.load([ada.id]).reads] == [1]


def reader() -> tuple[Peer, MarkedRead]:
    """Return a peer to which bob wrote two messages, and its mark on the first one, which somebody waits for."""
    ada, writer = World().peer("ada"), Author("bob", "b1")
    ada.far("bob").say(writer.say("one"), writer.say("two"))
    shown = ada.storage.places(0, 1)[0]
    return ada, MarkedRead(ada.id, shown.log, shown.place, ticket=7)


def recover(ada: Peer) -> None:
    ada.held, ada.holding, ada.hold_lookups = [], False, False
    ada.put(Loaded(ada.storage.load([ada.id])))
    ada.world.pass_time(2.0)


def answers(ada: Peer) -> list[WriteRefused | ReadStored]:
    """Return what was answered since the last time."""
    found = [effect for effect in ada.effects if isinstance(effect, WriteRefused | ReadStored)]
    ada.effects.clear()
    return found


def test_marks_on_earlier_logs_are_removed_when_a_later_one_is_read() -> None:
    ada, first = World().peer("ada"), Author("bob", "b1")
    far = ada.far("bob")
    far.say(first.say("one"))
    ada.read()
    far.say(Author("bob", "b2", before=[first.mark]).say("two"))
    ada.world.pass_time(1.0)
    ada.read()
    ada.world.pass_time(1.0)
    assert [mark.log.run[:2] for mark in ada.storage.load([ada.id]).reads] == ["b2"]


def test_a_mark_is_not_told_once_another_one_is_ordered_in_its_place() -> None:
    """The disk may have only the other one by then (seed 6800026)."""
    ada = World().peer("ada")
    far, first = ada.far("bob"), Author("bob", "b1")
    far.say(first.say("one"))
    ada.world.pass_time(1.0)
    ada.read()
    ada.world.pass_time(1.0)
    far.say(Author("bob", "b2", before=[first.mark]).say("two"))
    ada.world.pass_time(1.0)
    ada.holding = True
    ada.read()
    far.heard.clear()
    far.say(ReadFrame({}, ask=True))
    assert [frame.marks for frame in far.heard if isinstance(frame, ReadFrame) and frame.all] == [{}]
    ada.holding = False
    ada.commit()
    ada.take()
    ada.world.pass_time(1.0)
    assert ref_key(IDS["bob"], "b2" * 8) in str(far.heard) and ref_key(IDS["bob"], "b1" * 8) not in str(far.heard)


def test_when_marks_are_only_removed_the_change_of_the_sum_is_sent() -> None:
    ada, first = World().peer("ada"), Author("bob", "b1")
    far = ada.far("bob")
    far.say(first.say("one"))
    ada.read()
    far.say(Author("bob", "b2", before=[first.mark]).say("two"))
    ada.say("mine")
    ada.world.pass_time(1.0)
    assert of_reading(ada.read(2)) == ["to bob: read room by ada b2:1"]  # a later mark: the earlier one stays
    ada.world.pass_time(1.0)
    ada.take()
    assert of_reading(ada.read()) == ["to bob: read"]
    assert ada.node.replicator.receipts.marks.sum_for(ada.node.replicator.context.remotes[far.link])
    assert [frame.add for frame in far.heard if isinstance(frame, ReadFrame)]


def test_a_message_read_on_one_peer_of_a_user_is_read_on_the_other(ada: Peer) -> None:
    ada.node.presence.host(HostedIdentity(IDS["eve"], "eve", IDENTITIES["eve"].sign))
    ada.node.hosted[IDS["eve"]] = HostedIdentity(IDS["eve"], "eve", IDENTITIES["eve"].sign)
    far, writer = ada.far("eve"), ada.far("bob")
    log = Author("bob", "b1")
    writer.say(log.say("one", "two"))
    lines = far.say(marked("eve", log.mark, writer="bob"))
    assert "to bob: read room by eve b1:2" in lines


# ---- receipts switched off


def off(peer: Peer, other: str = "", on: bool = False) -> None:
    peer.choose(f"receipts:{IDS[other]}" if other else "receipts", "on" if on else "off")
    peer.take()


@pytest.mark.parametrize("other", ["", "ada"])
def test_with_receipts_off_no_marks_are_sent(other: str) -> None:
    ada, bob = pair("ada", "bob")
    off(bob, other)
    ada.say("one")
    ada.world.pass_time(1.0)
    bob.read()
    bob.restart()
    ada.world.link(ada, bob)
    bob.read()
    ada.world.pass_time(60.0)
    assert [line for line in of_reading(ada.take()) if "read" in line] == []
    off(bob, other, on=True)
    bob.read()
    ada.world.pass_time(1.0)
    assert "read a1:1..2 by bob" in ada.take()


@pytest.mark.parametrize("other", ["", "bob"])
def test_with_receipts_off_no_marks_are_accepted(other: str) -> None:
    ada, bob = pair("ada", "bob")
    off(ada, other)
    ada.say("one")
    ada.world.pass_time(1.0)
    bob.read()
    ada.world.pass_time(60.0)
    assert [line for line in of_reading(ada.take()) if "read" in line] == []


def test_a_choice_for_one_user_overrides_the_general_one() -> None:
    ada, bob, cyd = pair("ada", "bob", "cyd")
    off(ada)
    off(ada, "cyd", on=True)
    bob.say("from bob")
    cyd.say("from cyd")
    ada.world.pass_time(1.0)
    assert of_reading(ada.read()) == ["to cyd: read room by ada c1:2"]
