"""Delivery receipts: derived from marks, emitted once, kept over restarts."""

from __future__ import annotations

import msgspec
import pytest

from p2pchat.core.inputs import CommitFailed, Committed, Loaded
from p2pchat.core.log import LogId
from p2pchat.core.mesh.handshake import make_cert
from p2pchat.core.sync.known_conversations import dm_naming
from p2pchat.protocol import Entries, Have, Here, Hosted, Mark, Naming, Peers
from p2pchat.storage.temporary_storage import TemporaryStorage
from tests.core.groups.test_groups_ingest import Away
from tests.core.scripted_nodes import IDENTITIES, IDS, ROOM, START, Author, N, Peer, World, alike, sums
from tests.core.steps import count_steps
from tests.core.sync.test_known_conversations import gateway
from tests.core.sync.test_sender import announce, own


def own_log(ada: Peer, run: str = "a1") -> LogId:
    return LogId(ROOM, ada.id, run * 8)


def delivered(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("delivered")]


def test_a_mark_is_the_acknowledgement_of_everything_up_to_it_and_counts_once(ada: Peer) -> None:
    far = ada.far("bob")
    ada.say("one", "two")
    assert [delivered(announce(far, own(ada, seq))) for seq in (2, 3, 3, 1)] == [
        ["delivered a1:1..2 to bob"], ["delivered a1:3..3 to bob"], [], []]  # fmt: skip


def test_a_linked_peer_stores_what_its_marks_cover_and_nothing_else(ada: Peer) -> None:
    ada.say("before")
    former = own_log(ada)
    ada.start()
    far, log = ada.far("bob"), own_log(ada, "a2")
    ada.say("one", "two")
    last = ada.author("a2")
    last.write(*(shown.raw for shown in ada.storage.places(2, 9)))

    def stored(log: LogId, seq: int, name: str = "bob") -> bool:
        return ada.node.replicator.receipts.delivered.is_stored_by({IDS[name]}, log, seq)

    announce(far, alike(last.mark))
    assert not stored(log, 1) and not stored(former, 2)
    announce(far, last.mark)
    assert stored(former, 2)  # it is not named, but covered
    assert [stored(log, seq) for seq in (1, last.mark.seq, last.mark.seq + 1)] == [True, True, False]
    assert not stored(log, 1, "cyd")
    ada.drop(far)
    assert not stored(log, 1)


def test_receipts_are_saved_with_the_next_commit_and_not_repeated(ada: Peer) -> None:
    far = ada.far("bob")
    ada.say("one")
    announce(far, own(ada, 2))
    ada.say("two")
    ada.start()
    far = ada.far("bob")
    assert [announce(far, own(ada, 2)), announce(far, own(ada, 3))] == [[], ["delivered a1:3..3 to bob"]]


def test_a_receipt_of_a_log_covers_all_it_builds_on(ada: Peer) -> None:
    for text in ("one", "two", "three"):
        ada.say(text)
        ada.start()
    ada.say("four")
    far = ada.far("bob")
    last = ada.author("a4")
    last.write(*(shown.raw for shown in ada.storage.places(6, 9)))
    assert delivered(announce(far, last.mark)) == [f"delivered a{run}:1..2 to bob" for run in (1, 2, 3, 4)]


def test_a_thousand_logs_below_are_followed_to_the_end(ada: Peer) -> None:
    first = Author("ada", "a0")
    far = ada.far("bob")
    before: list[Mark] = []
    for n in range(400):
        log = Author("ada", "a0", before=before)
        log.log = first.log._replace(run=f"{n:016x}")
        ada.put_frames(far, log.say("word"))
        ada.world.settle()
        before = [log.mark]
    ada.start()
    far = ada.far("bob")
    assert len(delivered(announce(far, log.mark))) == 400


def test_a_mark_with_another_chain_is_no_receipt(ada: Peer) -> None:
    far = ada.far("bob")
    ada.say("one")
    assert announce(far, alike(own(ada, 2))) == []


def test_a_mark_of_a_covered_log_with_another_chain_is_no_receipt(ada: Peer) -> None:
    ada.say("one")
    mark = own(ada, 2)
    ada.restart()
    ada.say("two")
    ada.restart()  # the first log is covered, and found in storage only
    far = ada.far("bob")
    said = [delivered(announce(far, each)) for each in (alike(mark), mark)]
    assert said == [[], ["delivered a1:1..2 to bob"]]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_shorter_mark_with_another_chain_is_no_receipt(ada: Peer, restarted: bool) -> None:
    ada.say("one", "two")
    inside, end = own(ada, 2), own(ada, 3)
    ada.say("three")
    if restarted:
        ada.start()
    far = ada.far("bob")
    for mark, counts in ((inside, ["delivered a1:1..2 to bob"]), (end, ["delivered a1:3..3 to bob"])):
        assert delivered(announce(far, alike(mark))) == []
        assert delivered(announce(far, mark)) == counts


def covered_and_copied(ada: Peer) -> tuple[Author, Entries, Entries]:
    """Return ada's second log, which covers her first, and evidence that a copy of her machine forked the first."""
    ada.say("one")
    ada.restart()
    ada.say("two")
    ada.restart()  # so the first is found in storage only
    mine, copy, second = Author("ada", "a1"), Author("ada", "a1"), Author("ada", "a2")
    raws = [shown.raw for shown in ada.storage.places(0, 4)]
    c, text = raws[1]
    one, other = mine.write(*raws[:2]), copy.write(raws[0], (c, str(text).replace("one", "the copy's")))
    second.before = (mine.mark,)
    second.write(*raws[2:])
    return second, msgspec.structs.replace(one, fork=True), msgspec.structs.replace(other, fork=True)


def test_a_mark_of_a_copy_s_entries_is_no_receipt() -> None:
    """Bob accepted ada's second log over the copy's version of the first one."""
    world = World()
    ada, bob = world.peer("ada"), world.peer("bob")
    _, _, others = covered_and_copied(ada)
    far = bob.far("eve")
    far.say(msgspec.structs.replace(others, fork=False))
    bob.drop(far)
    world.link(ada, bob)
    world.pass_time(60.0)
    assert bob.texts() == ["the copy's", "two"]
    assert delivered(ada.take()) == ["delivered a2:1..2 to bob"]


def test_a_log_of_which_more_is_announced_counts_by_that_mark_and_not_by_what_builds_on_it(ada: Peer) -> None:
    """Bob deleted another version of ada's first log, longer than hers. It hid that her second builds on hers."""
    second, *_ = covered_and_copied(ada)
    far, other = ada.far("bob"), Mark("a1" * 8, 9, "00" * 32)
    assert delivered(announce(far, other, second.mark)) == ["delivered a2:1..2 to bob"]
    assert delivered(announce(ada.far("cyd"), second.mark)) == ["delivered a1:1..2 to cyd", "delivered a2:1..2 to cyd"]


def test_each_machine_of_a_person_is_left_out_until_its_own_sum_is_equal(ada: Peer) -> None:
    """Dan has two machines in the room, and both announced more of ada's first log than she has."""
    second, *_ = covered_and_copied(ada)
    machines = [ada.far(name, listed=False) for name in ("bob", "eve")]
    for far in machines:
        cert = make_cert(N, IDS["dan"], IDENTITIES["dan"].sign, IDS[far.name], START // 1000)
        far.say(Here([Hosted(IDS["dan"], "dan", "online", cert=cert)]))
        assert delivered(announce(far, Mark("a1" * 8, 9, "00" * 32), second.mark)) == [
            f"delivered a2:1..2 to {far.name}"
        ]
    for far in machines:
        assert delivered(far.say(sums(second))) == [f"delivered a1:1..2 to {far.name}"]


def test_a_log_proven_forked_before_gets_no_receipt(ada: Peer) -> None:
    second, *evidence = covered_and_copied(ada)
    far = ada.far("bob")
    far.say(*evidence)
    assert delivered(announce(far, second.mark)) == ["delivered a2:1..2 to bob"]


def test_a_mark_before_the_own_commit_returns_counts_afterwards(ada: Peer) -> None:
    far = ada.far("bob")
    ada.holding = True
    ada.say("one")
    mine = Author("ada", "a1")
    mine.write(*ada.held[0].change.batches[0].raws)
    assert delivered(announce(far, mine.mark)) == []  # bob was served from storage, which is ahead of ada's memory
    assert delivered(ada.commit()) == ["delivered a1:1..2 to bob"]


def test_a_mark_beyond_the_written_entries_is_no_receipt(ada: Peer) -> None:
    far = ada.far("bob")
    ada.say("one")
    assert delivered(announce(far, Mark("a1" * 8, 99, "00" * 32))) == []


def test_only_members_give_receipts(ada: Peer) -> None:
    talk = ada.open("bob")
    ada.say("psst", to=talk)
    far = ada.far("eve")
    mark = Author("ada", "a1", talk)
    mark.write(*(shown.raw for shown in ada.storage.places(0, 9)))
    frame = Have({talk: {IDS["ada"]: [mark.mark]}}, names=[dm_naming(IDS["ada"], IDS["bob"])])
    assert far.say(frame) == []
    assert ada.far("bob").say(frame) == ["delivered a1:1..1 to bob"]


def test_the_users_own_other_peer_gives_no_receipt(ada: Peer) -> None:
    ada.far("bob")
    ada.say("one")
    assert all(member != ada.id for _, member in ada.node.replicator.receipts.delivered.unsaved)


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_mark_of_missing_own_entries_counts_when_they_arrive(ada: Peer, in_memory: bool) -> None:
    """Ada's database is an old copy. Bob announces more than she holds, then sends it.

    Until then it might be of another version, written by a copy of her machine.
    """
    ada.say("one")
    old = ada.storage.snapshot()
    ada.say("two")
    ada.crash()
    lost = Author("ada", "a1")
    frames = [shown.raw for shown in ada.storage.places(0, 9)]
    lost.write(*frames[:2])
    back = lost.write(frames[2])
    ada.storage.restore(old)
    ada.start()
    if not in_memory:
        ada.say("later")  # in another log, which covers that one
    far = ada.far("bob")
    assert delivered(announce(far, lost.mark)) == []
    assert delivered(far.say(back)) == ["delivered a1:1..3 to bob"]


def test_a_mark_counts_once_storage_has_found_its_log(ada: Peer) -> None:
    """Ada lost her disk. Storage finds the log of bob's mark, which has just arrived."""
    ada.say("one")
    ada.start()
    ada.say("two")
    shown = ada.storage.places(0, 9)
    first, second = ada.author("a1"), ada.author("a2")
    frames = [log.write(*(one.raw for one in shown if one.log == log.log)) for log in (first, second)]
    ada.storage.restore(TemporaryStorage().snapshot())
    ada.start()
    far = ada.far("bob")
    ada.holding = ada.hold_lookups = True
    announce(far, second.mark)
    far.say(*frames)
    ada.storage.commit([each.change for each in ada.held])
    assert delivered(ada.answer_lookups()) == []
    ada.put(Committed([each.ticket for each in ada.held]))
    assert delivered(ada.take()) == ["delivered a1:1..2 to bob", "delivered a2:1..2 to bob"]


def test_receipts_survive_a_failure_of_storage(ada: Peer) -> None:
    far = ada.far("bob")
    ada.say("one")
    assert announce(far, own(ada, 2)) == ["delivered a1:1..2 to bob"]
    ada.put(CommitFailed(0, "disk full"))
    ada.put(Loaded(ada.storage.load([ada.id])))
    ada.take()
    assert announce(ada.far("bob"), own(ada, 2)) == []


def test_in_the_room_a_mark_of_a_peer_counts_for_whom_it_hosts(ada: Peer) -> None:
    bob, eve, log = gateway(ada, "bob", "cyd", "dan"), gateway(ada, "eve", "dan"), own_log(ada)

    def positions() -> list[int]:
        return [
            ada.node.replicator.receipts.delivered.position(log, IDS[name]) for name in ("bob", "cyd", "dan", "eve")
        ]

    ada.say("one")
    assert delivered(announce(bob, own(ada, 2))) == ["delivered a1:1..2 to bob"]
    assert positions() == [2, 2, 2, 0]
    bob.say(Here([], gone=[IDS["dan"]]))
    assert positions() == [2, 2, 0, 0]
    assert delivered(announce(eve, own(ada, 1))) == ["delivered a1:1..1 to eve"]
    assert positions() == [2, 2, 1, 1]
    ada.say("two")  # the marks are saved with this commit
    assert ada.storage.delivered_to(log, 1) == sorted([(IDS["bob"], 2), (IDS["eve"], 1)])


def test_a_list_of_users_comes_before_the_marks_of_their_peer(ada: Peer) -> None:
    bob = ada.far("bob", listed=False)
    ada.say("one")
    assert delivered(announce(bob, own(ada, 2))) == []
    bob.say(Here([Hosted(IDS["bob"], "bob", "online")]))
    assert delivered(announce(bob, own(ada, 2))) == ["delivered a1:1..2 to bob"]


def test_a_mark_for_many_members_is_looked_up_once_and_counts_for_all_of_them() -> None:
    away = Away("cyd", "dan")
    away.bob.say(away.first)
    ada, talk = away.ada, away.pen.talk
    ada.say("one", to=talk)
    ada.say("two", to=talk)
    ada.restart()
    far, log = gateway(ada, "bob", "cyd", "dan"), Author("ada", "a1", talk)
    log.write(*(shown.raw for shown in ada.storage.places(0, 9, [talk])[:1]))
    ada.hold_lookups = True
    for _ in range(2):  # only storage knows the chain in the middle of a log
        far.say(Have({talk: {ada.id: [log.mark]}}, names=[Naming(talk=away.id)]))
    assert ada.node.replicator.context.lookups._asked == {(log.log, 1)}
    ada.answer_lookups()
    receipts = ada.node.replicator.receipts.delivered
    assert [receipts.position(log.log, IDS[name]) for name in ("bob", "cyd", "dan")] == [1, 1, 1]


def test_the_other_peer_of_a_writer_hears_of_many_entries_at_once_within_a_second(ada: Peer) -> None:
    bob, eve, dan, pen = gateway(ada, "bob", "cyd"), gateway(ada, "eve", "cyd"), ada.far("dan"), Author("cyd", "c1")
    for far in (bob, eve, dan):
        far.say(Peers(linked=[IDS[other] for other in ("bob", "dan", "eve")]))
    told = [bob.say(pen.say(text))[1:] for text in ("one", "two")]
    ada.world.pass_time(1.0)
    told += [[line for line in ada.take() if line.startswith("to eve: have")]]
    told += [dan.say(pen.say("three"))[1:]]  # no peer of its writer brought it: each may wait for it
    first, second, third = (f"have room cyd c1:{seq}" for seq in (1, 2, 3))
    all_of_them = [f"to bob eve dan: {third}"]
    assert told == [[f"to bob: {first}"], [f"to bob: {second}"], [f"to eve: {second}"], all_of_them]


def test_peers_that_are_not_linked_with_the_writer_s_hear_what_is_stored_here_all_in_one_frame() -> None:
    ada, pen = World().peer("ada"), Author("bob", "b1")
    bob, *_ = (ada.far(name) for name in ("bob", "cyd", "dan"))
    bob.say(pen.say("one"))
    ada.world.pass_time(1.0)
    assert ada.take() == ["to cyd dan: have room bob b1:1"]


def test_what_many_wrote_is_compared_with_each_link_and_not_each_of_them_with_all() -> None:
    """In a mesh of 80 peers in one process marks to gossip took a third of what was done once it had formed."""
    steps = list[int]()
    for writers in (1, 4):
        ada = World().peer("ada")
        fars = {name: ada.far(name) for name in ("bob", "cyd", "dan", "eve")}
        for far in fars.values():
            far.say(Peers(linked=[IDS[name] for name in fars if fars[name] is not far]))
        for name, far in [*fars.items()][:writers]:
            far.say(Author(name, f"{name[0]}1").say("hi"))
        ada.take()
        steps.append(count_steps(ada.node.replicator.receipts.acknowledgements._send_gossip))
        assert ada.take() == []
    assert steps[1] - steps[0] <= 3 * (2 + 4)  # for each writer: its peers, and a look at each link


def test_who_is_not_linked_with_a_writer_hears_of_its_entry_from_others() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    ada.far("cyd")
    ada.far("bob").say(bob.say("hi"))
    ada.take()
    ada.world.pass_time(ada.node.settings.gossip_within)
    assert ada.take() == ["to cyd: have room bob b1:1"]
