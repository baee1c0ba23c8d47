"""The simulation: exact replays, and its methods as a test author uses them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial

import msgspec
import pytest

from p2pchat import protocol
from p2pchat.core.durable_changes import Change
from p2pchat.core.effects import Commit
from p2pchat.core.groups.group_fact import talk_id
from p2pchat.core.inputs import Got, GroupChangeRequest, GroupCreateRequest, ImportRequest
from p2pchat.core.log import Batch, LogId, Ref, decode_entry, ref_key, size_bytes
from p2pchat.core.sync.forks import AGAIN_AFTER
from p2pchat.protocol import ConversationId, Entries, Have, Want
from p2pchat.settings import Settings
from p2pchat.testing.eventlog_parser import Fault
from simulation.__main__ import main
from simulation.invariants import receipt_invariants
from simulation.network import WireEnd
from simulation.random_histories import check_history, play
from simulation.simulated_peer import SimPeer
from simulation.simulated_program import WrittenMessage
from simulation.simulation import DELAYED_FRAMES, QUIET_FOR, Simulation
from simulation.virtual_time import SMALL, LocalClock, Schedule


def started(seed: int, count: int, settings: Settings = SMALL) -> tuple[Simulation, list[SimPeer]]:
    """Return a mesh of so many peers that have met."""
    sim = Simulation(seed=seed, settings=settings)
    peers = sim.peers(count)
    sim.calm()
    return sim, peers


def comes_to_rest(sim: Simulation) -> None:
    """Check that a mesh settles, and that no rule was broken."""
    assert sim.settle()
    assert sim.check() == []


def texts(peer: SimPeer) -> list[str]:
    """Return the texts that the program of a peer received, in order."""
    return [line["text"] for line in peer.lines if line["event"] == "message"]


def shown_in(peer: SimPeer, conversation: ConversationId) -> list[object]:
    """Return what was shown in a conversation, in order of place."""
    places = peer.disk.storage.places(0, 1 << 30)
    return [decode_entry(one.raw).b for one in places if one.log.conversation == conversation]


def test_a_room_message_reaches_everyone() -> None:
    sim = Simulation(seed=2)
    ada, bob, cyd = sim.peers(3)
    ada.say("hello")
    ada.say("again")
    sim.calm()
    assert [texts(bob), texts(cyd)] == [["hello", "again"]] * 2
    comes_to_rest(sim)


def test_one_endpoint_is_enough_to_join_the_whole_mesh() -> None:
    _, (*_, dan) = started(2, 4)
    assert [peer.name for peer in dan.linked] == ["ada", "bob", "cyd"]


def test_a_direct_message_reaches_its_user_and_nobody_else() -> None:
    sim, (ada, bob, cyd) = started(3, 3)
    ada.say("psst", to=bob)
    assert sim.settle()
    assert [texts(bob), texts(cyd)] == [["psst"], []]
    assert any(line["event"] == "delivered" and line["user"] == "bob" for line in ada.lines)


def test_a_partition_keeps_messages_away_and_healing_brings_them() -> None:
    sim, (ada, bob, cyd) = started(4, 3)
    sim.partition([ada], [bob, cyd])
    ada.say("is anybody there?")
    sim.run(30)
    assert texts(bob) == []
    sim.heal()
    comes_to_rest(sim)
    assert texts(bob) == texts(cyd) == ["is anybody there?"]


def test_a_message_passes_between_two_that_can_never_link() -> None:
    sim, (ada, _, cyd) = started(5, 3)
    sim.never(ada, cyd)
    ada.say("tell cyd")
    comes_to_rest(sim)
    assert texts(cyd) == ["tell cyd"]


def test_a_crash_loses_uncommitted_entries_and_no_accepted_one() -> None:
    sim, (ada, _) = started(6, 2)
    accepted = ada.say("safe")
    sim.run(1)
    ada.disk.quick = ada.disk.slow = 10.0
    lost = ada.say("not safe yet")
    sim.run(1)
    ada.crash(written=False)
    ada.disk.quick, ada.disk.slow = 0.001, 0.01
    ada.start()
    comes_to_rest(sim)
    assert (accepted.log is not None, lost.log) == (True, None)
    assert sim.counts["crash_with_commit_in_flight"] == 1


def test_a_lost_disk_comes_back_from_the_others() -> None:
    sim, (ada, bob) = started(7, 2)
    ada.say("remember this")
    sim.calm()
    ada.crash()
    ada.restore(0)
    ada.start(bob.endpoint)
    comes_to_rest(sim)
    assert [raws for log, raws in ada.disk.logs.items() if log.user == ada.user] != []


def test_a_broken_promise_is_found() -> None:
    sim, (ada, bob) = started(8, 2)
    ada.say("hello")
    sim.calm()
    bob.disk.logs.clear()  # the disk loses its data, unnoticed by the storage above it
    sim.settle(within=5)
    assert "lost" in {fault.rule for fault in sim.check()}


def test_a_seed_replays_exactly() -> None:
    assert play(11)[0].fingerprint() == play(11)[0].fingerprint() != play(12)[0].fingerprint()


def test_a_failing_seed_prints_the_one_command_that_replays_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "1"]) == 0
    assert capsys.readouterr().out.startswith("1 histories in ")


def test_an_error_in_the_core_is_a_fault_of_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimPeer, "say", None)
    (fault,) = check_history(1, Counter())
    assert (fault.rule, fault.where) == ("error", "seed 1")


def test_a_fast_clock_never_wakes_early() -> None:
    clock = LocalClock(Schedule(), rate=1.001)
    assert all(clock.true_time(mono / 7) * clock.rate >= mono / 7 for mono in range(1000))


def test_callbacks_due_at_one_time_run_in_the_order_of_scheduling() -> None:
    schedule, seen = Schedule(), list[str]()
    schedule.after(1.0, lambda: seen.append("first"))

    def second() -> None:
        seen.append("second")
        schedule.after(0.0, lambda: seen.append("third"))

    schedule.after(1.0, second)
    schedule.after(0.5, lambda: seen.append("cancelled")).cancel()
    schedule.run_until(2.0)
    assert (seen, schedule.now) == (["first", "second", "third"], 2.0)


def test_blocked_frames_come_first_when_one_direction_is_free_again() -> None:
    sim, (ada, bob) = started(17, 2)
    (end,) = ada.wires_to(bob)
    end.wire.block()
    ada.say("one")
    sim.run(1)
    end.wire.block(end)  # only bob receives
    ada.say("two")
    sim.run(3)
    assert texts(bob) == ["one", "two"]


@pytest.mark.parametrize("old", [True, False])
def test_the_invariants_find_news_shown_as_old_and_history_shown_as_new(old: bool) -> None:
    sim, (ada, bob) = started(19, 2)
    sim.run(1)
    ada.say("hello")
    sim.calm()
    one = next(one for one in bob.disk.storage.places(0, 99) if one.log.user == ada.user)
    entry = decode_entry(one.raw)
    sim.invariants.display.handed_on(bob, replace(one, old=old), entry if old else msgspec.structs.replace(entry, c=1))
    assert [fault.rule for fault in sim.check()] == ["old"]


def just_linked() -> tuple[Simulation, SimPeer, SimPeer]:
    """Return a simulation in which bob's link to ada is up, and no marks are sent yet."""
    sim = Simulation(seed=13)
    ada, bob = sim.peers(2)
    while ada not in bob.linked:
        sim.run(0.001)
    return sim, ada, bob


def test_pages_of_marks_on_a_slow_link_end_before_a_quiet_minute() -> None:
    """All was there when the comparison had begun (seed 1916131 with an engine)."""
    sim, ada, bob = just_linked()
    sim.run(20)
    end = bob.end_to(ada)
    assert end is not None
    page = Have({sim.invariants.room: {}}, span=("0" * 64, "f" * 64), ask=True)
    for when in (4.0, 8.0):
        sim.schedule.after(when, partial(bob.put, Got(end.link, [page])))
    sent = sim.frames["Have"]
    comes_to_rest(sim)
    assert sim.frames["Have"] == sent + 2


def answered_with_known_entries() -> tuple[Simulation, SimPeer, WireEnd, Batch]:
    """Bob wants ada's log from ada and gets only entries that he has, 1 s before the want times out."""
    sim, (ada, bob) = started(14, 2)
    ada.say("hello")
    sim.calm()
    (log,) = [log for log in bob.disk.logs if log.user == ada.user]
    end, raws = bob.end_to(ada), bob.disk.logs[log]
    assert end is not None
    sim.invariants.protocol.frame_sent(bob, Want(1, log.conversation, log.user, [], []), [end])
    sim.run(sim.settings.want_progress_timeout - 1.0)
    answer = Entries(c=log.conversation, u=log.user, r=log.run, first=1, prev="", e=raws, head="", n=1)
    sim.invariants.protocol.frames_got(bob, end, [answer])
    return sim, bob, end, Batch(log, 1, raws, None, b"", b"", b"", size_bytes(raws))


def faults_when_wanting_the_rest(sim: Simulation, bob: SimPeer, end: WireEnd, log: LogId) -> list[Fault]:
    """Return the faults when bob wants the rest of that log as soon as the first want has timed out."""
    sim.run(1.0)
    sim.invariants.protocol.frame_sent(bob, Want(2, log.conversation, log.user, [], []), [end])
    return sim.check()


def test_an_answer_of_known_entries_does_not_extend_a_want() -> None:
    """The wanted entries arrived from another peer before the answer did: bob may want the rest."""
    sim, bob, end, brought = answered_with_known_entries()
    assert faults_when_wanting_the_rest(sim, bob, end, brought.log) == []


def test_a_dropped_answer_does_not_extend_a_want_though_a_file_has_its_entries() -> None:
    """Bob's storage was full when the answer came. Importing the same entries from a file is no answer to his want."""
    sim, bob, end, brought = answered_with_known_entries()
    bob.handling = ImportRequest
    sim.invariants.protocol.ordered(bob, Commit(1, 0, own=False, change=Change(batches=[brought])))
    assert faults_when_wanting_the_rest(sim, bob, end, brought.log) == []


def test_a_peer_that_reloaded_may_send_typing_again() -> None:
    sim, (ada, bob) = started(15, 2)
    bob.types()
    bob.disk.broken = True
    bob.say("lost")
    while not bob.fails:
        sim.run(0.01)
    bob.disk.broken = False
    while bob.fails or ada not in bob.linked:
        sim.run(0.01)
    sim.run(0.1)
    bob.types()
    comes_to_rest(sim)


def test_paused_readers_read_when_a_mesh_settles() -> None:
    sim, (ada, bob) = started(18, 2)
    bob.pause_reading(1000.0)
    ada.say("hello")
    assert sim.settle(within=5)
    assert texts(bob) == ["hello"]


def test_a_mesh_with_a_delayed_read_mark_is_not_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second read mark in a moment is sent with a delay: its effects must not fall into the quiet minute."""
    monkeypatch.setattr(receipt_invariants, "WANT_NONE", 0.0)
    sim = Simulation(seed=22)
    reading = sim.invariants.receipts
    reading._reads = False
    ada, bob = sim.peers(2)
    sim.calm()
    ada.say("one")
    ada.say("two")
    sim.calm()
    (end,) = bob.wires_to(ada)
    end.wire.quick = end.wire.slow = 0.001  # otherwise both marks may arrive at one moment
    reading._reads = True  # from here on, only the two marks below
    one, two = [one for one in bob.disk.storage.places(0, 99) if one.log.user == ada.user][-2:]
    reading._read(bob, one)
    reading._read(bob, two)
    assert ada.node is not None
    readers = ada.node.replicator.receipts.marks.tracker
    while not readers.position(one.log, bob.user):
        sim.run(0.005)
    assert readers.position(one.log, bob.user) == one.seq
    assert sim.invariants.unsettled()
    comes_to_rest(sim)


def test_programs_mark_no_name_as_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are given none, and after a restart a core does not know where the newest one stands (seed 40067)."""
    monkeypatch.setattr(receipt_invariants, "WANT_NONE", 0.0)
    sim = Simulation(seed=1)
    sim.invariants.receipts._reads = True
    ada, bob = sim.peers(2)
    sim.run(40)
    assert {one.log.user for one in bob.disk.storage.places(0, 9)} == {ada.user, bob.user} and not sim.counts["read"]
    for word in ("one", "two", "three", "four"):
        ada.say(word)
    sim.run(40)
    assert sim.counts["read"]
    comes_to_rest(sim)


def test_a_mesh_in_which_a_host_does_not_know_the_marks_of_another_is_not_at_rest() -> None:
    """It asks for all of them with the next digest, which must not fall into the quiet minute (seed 1330119)."""
    sim = Simulation(seed=23)
    ada, bob, cyd = sim.peers(3)
    zoe = sim.guest("zoe")
    ada.host_guest(zoe)
    bob.host_guest(zoe)
    sim.calm()
    sim.invariants.taken._takes = True
    while not sim.counts["taken"]:  # they do not take each
        cyd.program.write(cyd.opened(zoe), "text", ["hello"])
        sim.run(40)
    assert not sim.invariants.unsettled()
    assert bob.node is not None
    bob.node.replicator.receipts.marks._heard.clear()
    assert sim.invariants.unsettled()
    comes_to_rest(sim)


def _say(peer: SimPeer, text: str) -> None:
    peer.say(text)


def test_a_late_message_from_a_byzantine_peer_is_awaited() -> None:
    """At rest nobody else has the message; at the end of the quiet minute one peer has it and others do not."""
    sim, (_, bob, cyd) = started(18, 3)
    bob.say("hello")
    cyd.byzantine = True
    while sim.invariants.unsettled():
        sim.run(1)
    sim.schedule.after(DELAYED_FRAMES + QUIET_FOR - 0.02, partial(_say, bob, "withheld"))
    comes_to_rest(sim)


def test_a_crowd_may_lack_a_place_for_what_it_writes_itself() -> None:
    """A file may be ready to be sent when the honest have begun to write to each other (seed 1312032 --files)."""
    sim, (ada, bob) = started(1, 2)
    written = [WrittenMessage(bob, bob.user, ada, "look", LogId(bob.opened(ada), bob.user, "ab" * 8), 1)]
    assert [fault.rule for fault in sim.invariants.crowd.late(written)] == ["harmed"]
    bob.byzantine = True
    assert sim.invariants.crowd.late(written) == []


def test_who_blocks_a_user_with_a_copied_log_may_keep_what_that_log_covers() -> None:
    """It takes no proof of a fork from others, and before the fork is known nobody hears of that (seed 1312261)."""
    sim, (ada, bob, cyd) = started(1, 3)
    sim.partition([ada], [bob, cyd])
    cyd.say("hello", None)
    sim.calm()
    cyd.stop()
    bob.blocks[bob.user] = {cyd.user}
    sim.heal()
    missing = sim.invariants.blocks.missing
    assert any("of cyd that bob holds" in fault.text for fault in missing([ada, bob]))
    sim.invariants.copied.add((cyd.user, "ab" * 8))
    assert not any("of cyd that bob holds" in fault.text for fault in missing([ada, bob]))


def test_a_frame_that_meets_a_defect_of_the_decoder_costs_its_link_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(protocol._CHECKS, protocol.Unknown, lambda *_: {"": 0}["a defect"])
    sim, (ada, bob, cyd) = started(24, 3)
    bob.byzantine = True
    frame = b'{"t":"of a later version"}'
    for number in range(3):
        end = bob.end_to(ada)
        assert end is not None
        ada.say(f"ada {number}")
        bob.say(f"bob {number}")
        end.write(protocol.LENGTH.pack(len(frame)) + frame)
        sim.calm()
        assert not end.open and ada.end_to(cyd) is not None and bob in ada.linked  # which dialled again
    comes_to_rest(sim)
    assert [sorted(texts(peer)) for peer in (ada, bob, cyd)] == [
        [f"{name} {number}" for name in heard for number in range(3)] for heard in (["bob"], ["ada"], ["ada", "bob"])
    ]
    assert sim.counts["bye_malformed"] == 3


def test_an_unfinished_connection_of_a_byzantine_peer_delays_no_rest() -> None:
    """A peer that is refused and redials at once is never linked with all others at one moment (seed 877539)."""
    sim = Simulation(seed=19)
    ada, bob, cyd = sim.peers(3)
    while sim.invariants.unsettled():
        sim.run(1)
    for end in ada.wires_to(cyd):
        end.wire.block()
    assert sim.invariants.unsettled()
    cyd.byzantine = True
    assert not sim.invariants.unsettled()
    for end in ada.wires_to(bob):
        end.wire.block()
    assert sim.invariants.unsettled()


def test_who_blocks_a_user_that_it_then_hosts_keeps_its_messages_from_another_host() -> None:
    """That one said that it hosts the user while it was blocked, and this was not noted (seed 1310337)."""
    sim, (ada, bob, cyd) = started(20, 3)
    zoe = sim.guest("zoe")
    bob.block(bob.user, zoe.user, on=True)
    for peer in (cyd, bob):
        peer.host_guest(zoe)
        sim.calm()
    sim.partition([ada], [bob, cyd])
    bob.say_as(zoe, "to ada", ada)
    sim.run(30)
    assert sim.check() == []
    bob.block(bob.user, zoe.user, on=False)
    comes_to_rest(sim)


def forked_without_room(*, byzantine: bool = False) -> tuple[Simulation, SimPeer, SimPeer]:
    """Bob knows that cyd's log is forked, and ada, parted from both, has no room for the proof."""
    room = 2 * 2_000 + 1_500  # a proof counts as two batches
    settings = replace(SMALL, max_batch_bytes=2_000, contact_bytes=room, member_bytes=room, max_circuits=0)
    sim, (ada, bob, cyd) = started(22, 3, settings=settings)
    cyd.byzantine = byzantine
    for _ in range(3):
        cyd.say("x" * 500, ada)
    cyd.say("one")
    sim.calm()
    sim.partition([ada], [bob, cyd])
    cyd.resume(bob.endpoint)
    cyd.say("another one")
    sim.calm()
    return sim, ada, bob


def test_who_had_no_room_for_the_proof_of_a_fork_holds_another_log_at_rest() -> None:
    """Nobody lifts limits of a byzantine user, so the sums of the two stay different (seed 1310160)."""
    sim, ada, bob = forked_without_room(byzantine=True)
    comes_to_rest(sim)
    assert sim.counts["forks_ignored"] and ada.digest_for(bob) != bob.digest_for(ada)


def test_two_of_whom_one_had_no_room_for_the_proof_of_a_fork_compare_marks_in_a_quiet_minute() -> None:
    """The proof comes again an hour later, though the quota is lifted before (seed 1901379 with an engine)."""
    sim, ada, bob = forked_without_room()
    sim.heal()
    sim.run(60)
    ada.allow_all()
    comes_to_rest(sim)
    assert sim.counts["forks_ignored"] and ada.digest_for(bob) != bob.digest_for(ada)


def test_the_proof_of_a_fork_may_come_again_in_a_quiet_minute() -> None:
    """There is room for it by then (seed 1910120)."""
    sim, ada, bob = forked_without_room()
    sim.heal()
    sim.run(60)
    ada.allow_all()
    sim.run(AGAIN_AFTER - 90)
    assert ada.digest_for(bob) != bob.digest_for(ada)
    comes_to_rest(sim)
    assert ada.digest_for(bob) == bob.digest_for(ada)


def test_a_conversation_without_a_place_comes_once_its_user_is_a_contact() -> None:
    sim, (ada, bob, cyd) = started(22, 3, settings=replace(SMALL, max_unanswered=0))
    bob.say("one", ada)
    cyd.say("two", ada)
    sim.calm()
    assert texts(ada) == [] and {log.conversation for log in ada.disk.logs} <= {sim.invariants.room}  # names
    ada.choose(ada.user, f"contact:{bob.user}", "1")
    sim.calm()
    direct = {log.user for log in ada.disk.logs if log.conversation != sim.invariants.room}
    assert texts(ada) == ["one"] and direct == {bob.user, ada.user}  # hers says what she chose
    ada.allow_all()
    comes_to_rest(sim)
    assert sorted(texts(ada)) == ["one", "two"]


def test_content_that_was_deleted_and_asked_for_again_is_not_wanted_by_a_disk_from_in_between() -> None:
    """The request went with the disk, the deletion did not (seed 1321013, with files)."""
    sim, (ada, bob) = started(26, 2)
    assert ada.node is not None and ada.content is not None and bob.content is not None
    send = partial(ada.program.send_files, "look", ada.node.room, None)
    ada.content.attach([("a picture", b"as it is")], send)
    sim.calm()
    [(log, seq, file)] = sim.invariants.content.all_named
    assert bob.content.store.is_whole(file.root, file.size)
    bob.content.delete(file.root)
    sim.calm()
    deleted = len(bob.disk)
    sim.partition([ada], [bob])
    sim.invariants.content.asked(bob, log, seq, file)
    bob.content.ask(log, seq, file)
    sim.calm()
    bob.crash()
    bob.restore(deleted)
    bob.start()
    comes_to_rest(sim)
    assert not bob.content.store.is_whole(file.root, file.size)


def test_an_edit_that_restores_a_deleted_message_need_not_bring_its_content() -> None:
    """Who got the edit late looked for the files of a deleted message, and looks no more (seed 1354128, with files)."""
    sim, (ada, bob) = started(28, 2)
    assert ada.node is not None and ada.content is not None
    bob.crash()  # parted, it might still get the message before the deletion
    room = ada.node.room
    ada.content.attach([("a picture", b"as it is")], partial(ada.program.send_files, "look", room, None))
    sim.calm()
    [(log, seq, file)] = sim.invariants.content.all_named
    message = Ref(ref_key(log.user, log.run), seq)
    ada.mend("delete", "", room, message)
    sim.calm()
    bob.start(ada.endpoint)
    while not bob.disk.has(log, seq + 1):
        sim.run(0.1)
    sim.calm()
    ada.mend("edit", "look again", room, message)
    comes_to_rest(sim)
    assert bob.content is not None
    assert ada.content.store.is_whole(file.root, file.size) and not bob.content.store.is_whole(file.root, file.size)


def test_who_has_content_of_a_former_group_is_known_as_it_was() -> None:
    """Its members share no conversation that names it, so nobody may ask or tell (seeds 1352629, 1353609, --files)."""
    sim, (ada, bob) = started(28, 2)
    assert ada.node is not None and ada.content is not None and bob.content is not None
    ada.put(GroupCreateRequest(-1, ada.user, "of us", (bob.user,)))
    sim.calm()
    (group,) = ada.node.groups
    ada.content.attach([("a picture", b"as it is")], partial(ada.program.send_files, "look", talk_id(group), None))
    sim.calm()
    [(_, _, file)] = sim.invariants.content.all_named
    assert bob.content.store.is_whole(file.root, file.size)
    ada.put(GroupChangeRequest(-2, ada.user, group, remove=(bob.user,)))
    sim.calm()
    bob.crash()
    bob.start(ada.endpoint)
    sim.calm()
    assert bob.content is not None
    bob.content.delete(file.root)
    comes_to_rest(sim)
    assert ada.node.replicator.transfers.receipts.holders(file.root) and not bob.content.store.is_whole(
        file.root, file.size
    )


def test_what_was_cut_off_when_an_entry_was_shown_may_come_after_it() -> None:
    """A removal may prove not to count, when what it hid was followed already (seed 910046)."""
    sim, (ada, bob, cyd, dan) = started(29, 4)
    assert ada.node is not None
    ada.put(GroupCreateRequest(-1, ada.user, "of us", (bob.user, cyd.user, dan.user)))
    sim.calm()
    (group,) = ada.node.groups
    ada.put(GroupChangeRequest(-2, ada.user, group, admin=(bob.user,)))
    sim.calm()
    sim.partition([ada], [bob], [cyd, dan])
    sim.run(1)
    bob.put(GroupChangeRequest(-3, bob.user, group, remove=(dan.user,)))
    ada.put(GroupChangeRequest(-4, ada.user, group, admin=(dan.user,)))
    dan.program.write(talk_id(group), "text", ["hidden at first"])
    sim.run(1)
    cyd.program.write(talk_id(group), "text", ["after it"])
    sim.run(1)
    sim.heal()
    sim.partition([ada], [bob, cyd, dan])
    sim.run(60)
    assert shown_in(bob, talk_id(group)) == ["after it"]
    sim.heal()
    sim.run(60)
    assert shown_in(bob, talk_id(group)) == ["after it", "hidden at first"]
    comes_to_rest(sim)
