"""The node: every input has a handler, storage may fail, and two nodes back to back keep each promise."""

from __future__ import annotations

import pytest

from p2pchat.core import inputs
from p2pchat.core.contacts import CONTACT
from p2pchat.core.durable_changes import Address, Change, DiskLevel
from p2pchat.core.inputs import (
    CommitFailed,
    Committed,
    ContentAnswer,
    DiskLow,
    Forget,
    Input,
    Leave,
    Loaded,
    Stop,
    Woke,
    WriteRequest,
)
from p2pchat.core.node import LazyCommit
from p2pchat.core.node_context import LAZY_COMMIT_EVERY, NodeContext, Now
from p2pchat.protocol import Bye, Entries, Have, Hosted, Ping
from p2pchat.protocol import Here as HereFrame
from p2pchat.settings import Settings
from p2pchat.storage.temporary_storage import TemporaryStorage
from simulation.simulated_peer import SimPeer
from simulation.simulation import Simulation
from tests.core.mesh.linked_peers import Key, record_of, told
from tests.core.scripted_nodes import IDS, ROOM, Author, Far, Peer, World, dm, have, page


def test_every_input_has_a_handler(ada: Peer) -> None:
    kinds = {kind for kind in vars(inputs).values() if isinstance(kind, type) and kind.__module__ == inputs.__name__}
    assert set(ada.node._handlers) == kinds - {Input, ContentAnswer} and all(issubclass(kind, Input) for kind in kinds)


def test_a_node_alone_stores_a_message(ada: Peer) -> None:
    assert ada.say("hello") == ["commit a1:1..2, show a1:1..2", "kept a1:2..2 of"]
    assert ada.texts() == ["hello"]


# ---- two nodes


def two() -> tuple[World, Peer, Peer]:
    world = World()
    ada, bob = world.peer("ada"), world.peer("bob")
    world.link(ada, bob)
    ada.take()
    bob.take()
    return world, ada, bob


def test_a_message_is_delivered_and_its_receipt_returns() -> None:
    _, ada, bob = two()
    ada.say("warm up")
    bob.take()
    assert ada.say("hello") == [
        "commit a1:3..3, show a1:3..3",
        "kept a1:3..3 of bob",
        "to bob: entries room a1:3..3",
        "delivered a1:3..3 to bob",
    ]
    assert bob.take() == ["commit a1:3..3, show a1:3..3", "to ada: have room ada a1:3"]
    assert bob.texts() == ["warm up", "hello"]


def test_a_note_to_oneself_is_delivered_when_stored(ada: Peer) -> None:
    notes = ada.open("ada")
    ada.take()
    assert ada.say("milk", to=notes) == [
        "commit a1:1..1, show a1:1..1",
        "kept a1:1..1 of ada",
        "delivered a1:1..1 to ada",
    ]


def test_an_absent_peer_gets_everything_in_order_with_original_times() -> None:
    world, ada, bob = two()
    bob.crash()
    for text in ("one", "two", "three"):
        ada.say(text)
        world.pass_time(60.0)
    bob.start()
    world.link(bob, ada)
    assert bob.texts() == ["one", "two", "three"]
    stamps = [str(shown.raw[1]).split('"at":')[1][:16] for shown in bob.storage.places(0, 9)]
    assert stamps == [str(shown.raw[1]).split('"at":')[1][:16] for shown in ada.storage.places(0, 9)]
    assert [line for line in ada.take() if line.startswith("delivered")] == ["delivered a1:1..4 to bob"]


def test_a_crash_before_the_commit_loses_nothing_and_doubles_nothing() -> None:
    world, ada, bob = two()
    ada.say("one")
    bob.holding = True
    ada.say("two")
    bob.crash()
    bob.holding = False
    bob.start()
    world.link(bob, ada)
    assert bob.texts() == ["one", "two"]
    assert [line for line in ada.take() if line.startswith("delivered")] == ["delivered a1:3..3 to bob"]


def test_a_crash_between_commit_and_acknowledgement_does_no_harm() -> None:
    world, ada, bob = two()
    ada.say("one")
    bob.holding = True
    ada.say("two")
    bob.storage.commit([each.change for each in bob.held])
    bob.crash()
    bob.holding = False
    bob.start()
    ada.take()
    world.link(bob, ada)
    assert [line for line in ada.take() if line.startswith("delivered")] == ["delivered a1:3..3 to bob"]
    assert bob.texts() == ["one", "two"]


def test_writing_continues_in_a_new_log_after_a_restart() -> None:
    world, ada, bob = two()
    ada.say("one")
    ada.restart()
    world.link(ada, bob)
    ada.take()
    assert ada.say("two")[2:] == [
        "to bob: entries room a2:1..2",
        "delivered a2:1..2 to bob",
    ]
    assert bob.texts() == ["one", "two"]
    assert len(bob.storage.load([bob.id]).tips) == 1


def test_a_lost_database_is_restored_and_nothing_is_overwritten() -> None:
    world, ada, bob = two()
    ada.say("one", "two")
    bob.say("three")
    ada.crash()
    ada.storage.restore(TemporaryStorage().snapshot())
    world.pass_time(1.0)
    ada.start()
    ada.say("new")
    world.link(ada, bob)
    assert [ada.texts(), bob.texts()] == [["new", "one", "two", "*three"], ["one", "two", "three", "new"]]
    assert ada.storage.load([]).tips[0].log in {facts.log for facts in bob.storage.load([]).tips}


def test_direct_messages_go_only_to_their_recipient() -> None:
    world, ada, bob = two()
    cyd = world.peer("cyd")
    world.link(cyd, ada)
    world.link(cyd, bob)
    ada.say("psst", to=ada.open("bob"))
    assert [bob.texts(), cyd.texts(), dm("ada", "bob") in cyd.node.replicator.conversations] == [["psst"], [], False]


def test_entries_of_a_departed_writer_come_from_another_peer() -> None:
    world, ada, bob = two()
    ada.say("one")
    ada.crash()
    world.pass_time(1.0)
    cyd = world.peer("cyd")
    world.link(cyd, bob)
    assert cyd.texts() == ["*one"]


def test_a_restart_makes_nothing_history_that_others_wrote_since_a_peer_joined() -> None:
    world, ada, bob = two()
    ada.say("one")
    world.pass_time(1.0)
    cyd = world.peer("cyd")
    cyd.say("is anybody there?")
    world.pass_time(1.0)
    ada.say("two")
    cyd.restart()
    world.link(cyd, bob)
    assert cyd.texts() == ["is anybody there?", "*one", "two"]


def test_peers_in_sync_send_nothing() -> None:
    world, ada, bob = two()
    ada.say("one")
    bob.say("two")
    ada.take(), bob.take()
    world.pass_time(25.0)
    assert set(ada.take() + bob.take()) == {"to bob: digest", "to ada: digest"}


# ---- storage


def test_when_storage_fails_everything_is_refused_and_reloaded() -> None:
    world, ada, bob = two()
    bob.say("before")
    ada.holding = True
    ada.say("lost", ticket=5)
    ada.put(CommitFailed(0, "disk full"))
    assert ada.take() == ["refused storage", "warn storage", "reload"]
    assert ada.say("also refused") == ["refused storage"]
    bob.say("while it fails")
    assert ada.take() == []
    ada.holding = False
    ada.held = []
    ada.put(Loaded(ada.storage.load([ada.id])))
    assert "warn storage_works" in ada.take()
    world.link(bob, ada)
    assert ada.texts() == ["before", "while it fails"]
    assert "kept a2:2..2 of bob" in ada.say("again")
    assert bob.texts() == ["before", "while it fails", "again"]


def test_addresses_and_records_of_a_failed_commit_are_stored_when_storage_works_again() -> None:
    world, ada, bob = two()
    book = ada.node.links.book
    cyd, dan = world.peer("cyd"), world.peer("dan")
    stored = ada.storage.load([ada.id])
    assert [one.peer for one in stored.addresses] == [bob.id]
    ada.holding = True
    world.link(ada, cyd)
    ada.put(Forget(bob.id))
    ada.put(CommitFailed(0, "disk full"))
    world.link(ada, dan)  # and what comes while storage fails
    ada.held, ada.holding = [], False
    ada.put(Loaded(ada.storage.load([ada.id])))
    world.pass_time(2.0)
    again = ada.storage.load([ada.id])
    assert {one.peer for one in again.addresses} == {cyd.id, dan.id} == set(book)
    assert {record.id: record for record in again.records} == book.records


def test_earlier_commits_survive_a_failure_and_late_answers_are_ignored() -> None:
    _, ada, _ = two()
    ada.say("kept")
    ada.put(CommitFailed(0, "disk full"))
    ada.put(Loaded(ada.storage.load([ada.id])))
    ada.put(CommitFailed(0, "reported twice"))
    ada.put(Committed([1, 2, 3]))
    ada.take()
    ada.say("again")
    assert ada.texts() == ["kept", "again"]


def test_open_conversations_survive_a_failure_of_storage(ada: Peer) -> None:
    talk = ada.open("bob")
    ada.put(CommitFailed(0, "disk full"))
    ada.put(Loaded(ada.storage.load([ada.id])))
    ada.take()
    assert ada.say("psst", to=talk)[-1] == "kept a2:1..1 of bob"


def test_a_disk_nearly_full_takes_nothing_until_there_is_room() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    far = ada.far("bob")
    ada.put(DiskLow(DiskLevel.NOTHING))
    ada.put(DiskLow(DiskLevel.NOTHING))
    assert ada.take() == ["warn disk_low"]
    one = bob.say("one")
    assert [ada.say("no room"), far.say(one)] == [["refused disk_low"], []]
    ada.put(DiskLow(DiskLevel.ENOUGH))
    assert ada.take() == ["warn disk_enough", "to bob: digest"]
    assert far.say(page(bob)) == ["to bob: want 1 room bob from nothing"]


def test_with_a_disk_nearly_full_records_wait_for_room_and_are_forgotten() -> None:
    """A known one does not come again, and a forgotten one would be dialled after a restart."""
    ada, cyd = World().peer("ada"), record_of(Key("cyd"), "10.0.1.3:8080")
    far = ada.far("bob")
    ada.put(DiskLow(DiskLevel.NOTHING))
    ada.world.pass_time(LAZY_COMMIT_EVERY)  # else what is told next waits for a commit so long
    far.say(told(cyd))
    assert cyd not in ada.load().records  # a commit that fails would end what still works
    ada.put(DiskLow(DiskLevel.ENOUGH))
    assert cyd in ada.load().records
    ada.put(DiskLow(DiskLevel.NOTHING))
    ada.put(Forget(peer=cyd.id))
    assert cyd.id not in [record.id for record in ada.load().records]


def test_with_a_disk_nearly_full_nothing_is_fetched_and_wants_end() -> None:
    world, bob, cyd = World(), Author("bob", "b1"), Author("cyd", "c1")
    bob.say("one"), cyd.say("two")
    ada = world.peer("ada", max_wants=1)
    far = ada.far("bob")
    assert far.say(page(bob)) == ["to bob: want 1 room bob from nothing"]
    ada.put(DiskLow(DiskLevel.NOTHING))
    far.say(Have({}, end=1))
    world.pass_time(20.0)
    assert [line for line in ada.take() if "want" in line] == []
    ada.put(DiskLow(DiskLevel.ENOUGH))
    ada.take()
    assert far.say(page(cyd)) == ["to bob: want 2 room cyd from nothing"]


# ---- gossip


def knowing_a_few() -> TemporaryStorage:
    """Return a storage with contacts and addresses."""
    storage = TemporaryStorage()
    kept = ("bob", "cyd", "dan")  # the names of others are not stored
    contacts: dict[str, str | None] = {CONTACT + IDS[name]: "1" for name in kept}
    addresses = [Address(f"{peer:064x}", f"10.0.1.{peer}:1") for peer in range(1, 9)]
    storage.commit([Change(addresses=addresses, meta=contacts)])
    return storage


def names_kept(ada: Peer) -> set[str]:
    return {user.name for user in ada.storage.load([]).users}


def test_names_and_addresses_are_stored_at_once_then_every_five_seconds() -> None:
    ada = World().peer("ada", knowing_a_few())
    ada.restart()
    ada.far("bob")
    assert names_kept(ada) == {"bob"}
    ada.world.pass_time(0.1)
    ada.far("cyd")
    ada.world.pass_time(0.1)
    ada.far("dan")
    assert names_kept(ada) == {"bob"}
    ada.world.pass_time(4.7)
    assert names_kept(ada) == {"bob"}
    ada.world.pass_time(0.2)
    assert names_kept(ada) == {"bob", "cyd", "dan"}


def test_names_and_addresses_are_stored_with_entries_and_at_stop() -> None:
    ada = World().peer("ada", knowing_a_few())
    ada.far("bob")
    ada.far("cyd")
    ada.say("hello")
    assert names_kept(ada) == {"ada", "bob", "cyd"}
    ada.far("dan")
    assert names_kept(ada) == {"ada", "bob", "cyd"}
    ada.put(Stop())
    assert names_kept(ada) == {"ada", "bob", "cyd", "dan"}


def test_forgotten_addresses_are_removed_from_disk_at_once() -> None:
    ada = World().peer("ada", knowing_a_few())
    ada.far("bob")
    known = ada.storage.load([]).addresses
    ada.put(Forget(endpoint=known[0].endpoint))
    assert ada.storage.load([]).addresses == known[1:]


# ---- links


def test_the_last_acknowledgement_before_a_goodbye_counts(ada: Peer) -> None:
    far = ada.far("bob")
    ada.say("hello")
    mine = Author("ada", "a1")
    mine.write(*(raw for frame in far.heard if isinstance(frame, Entries) for raw in frame.e))
    assert far.say(have(mine), Bye("left")) == ["delivered a1:1..2 to bob", "close bob: at once"]


def test_a_here_frame_for_a_user_not_hosted_there_ends_the_link(ada: Peer) -> None:
    far = ada.far("eve")
    assert far.say(HereFrame([Hosted(IDS["bob"], "bob", "online")])) == ["close eve: host"]


def test_a_node_that_stops_says_goodbye(ada: Peer) -> None:
    ada.far("bob")
    ada.put(Stop())
    assert ada.take() == ["close bob: left"]


@pytest.mark.parametrize("count", [1, 500])
def test_texts_written_together_are_one_commit_and_one_answer(ada: Peer, count: int) -> None:
    ada.put(WriteRequest(9, ada.id, ROOM, "text", ["word"] * count))
    assert [line.split()[0] for line in ada.take()] == ["commit", "kept"]


# ---- watchdog of commits


SLOW = "warn storage_slow"
WORKS = "warn storage_works"


def warnings(peer: Peer) -> list[str]:
    return [line for line in peer.take() if line.startswith("warn")]


def stalled() -> tuple[World, Peer, Far]:
    world = World()
    ada = world.peer("ada")
    far = ada.far("bob")
    ada.holding = True
    return world, ada, far


def test_a_slow_commit_causes_one_warning_and_its_return_another() -> None:
    world, ada, _ = stalled()
    ada.say("hello")
    world.pass_time(4.9)
    assert warnings(ada) == []
    world.pass_time(0.2)
    assert warnings(ada) == [SLOW]
    ada.say("still there?")
    world.pass_time(60.0)
    assert warnings(ada) == []
    assert [line for line in ada.commit() if line.startswith("warn")] == [WORKS]
    world.pass_time(60.0)
    assert warnings(ada) == []


def test_a_second_stall_is_reported_too() -> None:
    world, ada, _ = stalled()
    for text in ("one", "two"):
        ada.say(text)
        world.pass_time(6.0)
        assert warnings(ada) == [SLOW]
        assert WORKS in ada.commit()


def test_a_busy_disk_that_answers_causes_no_warning() -> None:
    world, ada, _ = stalled()
    for text in ("one", "two", "three"):
        ada.say(text)
        world.pass_time(3.0)
        ada.commit()
        world.pass_time(1.0)
    assert warnings(ada) == []


def test_commits_ordered_during_a_stall_are_watched_too() -> None:
    world, ada, _ = stalled()
    ada.say("one")
    world.pass_time(4.0)
    ada.say("two")
    world.pass_time(4.5)
    later = ada.held.pop()
    assert warnings(ada) == [SLOW] and WORKS in ada.commit()
    ada.held = [later]
    world.pass_time(1.0)
    assert warnings(ada) == [SLOW]


def test_during_a_stall_nothing_is_acknowledged_and_pings_are_answered() -> None:
    world, ada, far = stalled()
    bob = Author("bob", "b1")
    assert far.say(bob.say("one"), have(bob)) == ["commit b1:1..1, show b1:1..1"]
    for _ in range(3):
        world.pass_time(9.0)
        far.heard.clear()
        far.say(Ping())
        assert [type(frame).__name__ for frame in far.heard][-1] == "Pong"
    assert not any("have" in line or "close" in line for line in ada.lines)
    assert "to bob: have room bob b1:1" in ada.commit()


def test_a_suspended_process_does_not_blame_the_disk() -> None:
    world, ada, _ = stalled()
    ada.say("hello")
    world.seconds += 40.0
    ada.put(Woke())
    assert warnings(ada) == []
    world.pass_time(4.9)
    assert warnings(ada) == []
    world.pass_time(0.2)
    assert warnings(ada) == [SLOW]


def test_a_stall_that_ends_in_a_failure_is_reported_as_failure() -> None:
    world, ada, _ = stalled()
    ada.say("hello")
    world.pass_time(6.0)
    ada.put(CommitFailed(0, "the disk is gone"))
    ada.held = []
    assert warnings(ada) == [SLOW, "warn storage"]
    world.pass_time(60.0)
    assert warnings(ada) == []
    ada.holding = False
    ada.put(Loaded(ada.storage.load([ada.id])))
    assert warnings(ada) == [WORKS]


# ---- lazy commits


HEARD = Change(addresses=[Address("0a" * 32, "10.0.0.1:1")])


def context() -> NodeContext:
    return NodeContext(Settings(), "0b" * 32, bytes)


def test_gossip_waits_five_seconds_and_wakes_once() -> None:
    ctx = context()
    hearsay = LazyCommit(ctx)
    ctx.now = Now(5.0, 0)
    assert not hearsay.may_defer(HEARD)
    ctx.now = Now(5.4, 0)
    assert hearsay.may_defer(HEARD)
    assert hearsay.may_defer(HEARD)
    assert (ctx.timers.wake_at(), ctx.timers.wake_at()) == (10.0, None)
    ctx.now = Now(10.0, 0)
    ctx.run_due()
    assert not hearsay.may_defer(HEARD)
    assert ctx.timers.wake_at() is None


def test_changes_that_peers_do_not_repeat_never_wait() -> None:
    ctx = context()
    hearsay = LazyCommit(ctx)
    assert not hearsay.may_defer(HEARD)
    assert not hearsay.may_defer(Change(addresses=HEARD.addresses, meta={"network": "x"}))


def test_nothing_waits_that_somebody_waits_for() -> None:
    hearsay = LazyCommit(context())
    assert not hearsay.may_defer(HEARD)
    assert hearsay.may_defer(HEARD)
    assert not hearsay.may_defer(Change(addresses=HEARD.addresses, is_awaited=True))


def just_linked(sim: Simulation) -> list[SimPeer]:
    """Return two peers whose link is up at both ends, and delays nothing."""
    ada, bob = peers = sim.peers(2)
    while not all(peer.node is not None and peer.node.links.up for peer in peers):
        for end in ada.wires_to(bob):
            end.wire.quick = end.wire.slow = 0.001
        sim.run(0.01)
    return peers


def test_names_are_written_when_links_have_settled() -> None:
    """With each name that was written while 64 peers linked, comparisons took longer, until handshakes timed out."""
    sim = Simulation(3)
    peers = just_linked(sim)
    sim.run(0.1)
    assert not any(one.named_c for peer in peers for one in peer.disk.storage.load([]).users)
    sim.calm()
    names = {peer.name for peer in peers}
    stored = [{one.name for one in peer.disk.storage.load([]).users if one.named_c} for peer in peers]
    assert stored == [names, names]


def test_who_leaves_before_links_have_settled_writes_its_name_first() -> None:
    sim = Simulation(3)
    ada, bob = just_linked(sim)

    def stored(peer: SimPeer) -> set[str]:
        return {one.name for one in peer.disk.storage.load([]).users if one.named_c}

    bob.put(Leave())
    sim.run(0.2)
    assert stored(bob) == {"bob"}
    sim.run(0.5)
    bob.stop()
    assert "bob" in stored(ada)


def test_who_writes_before_links_have_settled_writes_its_name_first() -> None:
    """What bob wrote goes from ada to all who share it, and so must his name: they may never meet him."""
    sim = Simulation(3)
    ada, bob = just_linked(sim)
    bob.say("just us", ada)
    sim.run(0.2)
    bob.crash()
    assert "bob" in {one.name for one in ada.disk.storage.load([]).users if one.named_c}


def test_who_wrote_nothing_and_left_is_known_by_name_to_who_comes_later() -> None:
    sim = Simulation(3)
    ada, bob = sim.peers(2)
    sim.calm()
    bob.stop()
    sim.calm()
    [cyd] = sim.peers(1)
    sim.calm()
    names = {one.id: one.name for one in cyd.disk.storage.load([]).users}
    assert (names.get(ada.user), names.get(bob.user)) == (ada.name, bob.name)
