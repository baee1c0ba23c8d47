"""Taken marks: what programs of a user took at one of its hosts counts at the others, and nobody else hears of it."""

from __future__ import annotations

import random

import pytest
from msgspec import structs

from p2pchat.core.durable_changes import ReadMark
from p2pchat.core.effects import Send
from p2pchat.core.inputs import CommitFailed, Loaded, MarkedTaken, UserHosted, UserUnhosted
from p2pchat.core.log import LogId, ref_key
from p2pchat.core.mesh.handshake import make_cert
from p2pchat.core.node_context import HostedIdentity
from p2pchat.core.own_state import OwnState
from p2pchat.core.receipts.mark_exchange import NOWHERE, MarkPositions, ReadPosition, mark_number, sum_text
from p2pchat.core.sync.known_conversations import dm_naming
from p2pchat.protocol import Frame, Here, Hosted, ReadFrame
from tests.core.scripted_nodes import IDENTITIES, IDS, ROOM, START, Author, Far, N, Peer, World, dm

CYD = IDS["cyd"]
THERE = dm("bob", "cyd")
NAMING = dm_naming(IDS["bob"], CYD)
CHAIN = "ab" * 32


def host(peer: Peer, name: str = "cyd") -> None:
    """Let a peer host cyd, or another user."""
    known = peer.storage.load_users([IDS[name]])
    user = HostedIdentity(IDS[name], name, IDENTITIES[name].sign, status="offline")
    peer.put(UserHosted(user, tuple(known.delivered), tuple(known.reads)))
    peer.take()


def take(peer: Peer) -> list[str]:
    """Have a program of cyd take everything shown."""
    peer.put(MarkedTaken(CYD, THERE, peer.storage.places(0, 99)[-1].place))
    return peer.take()


def taken(peer: Peer) -> dict[str, int]:
    """Return the marks of cyd, by run of bob's log."""
    marks, _ = peer.node.replicator.receipts.marks.marked_to(THERE, CYD, taken=True)
    return {log.run[:2]: seq for log, seq in marks.items()}


def is_about_taken(frame: Frame) -> bool:
    return isinstance(frame, ReadFrame) and (bool(frame.taken) or frame.sum is not None)


def told(peer: Peer) -> list[str]:
    """Return to whom this node sent taken marks, sums of them included."""
    names = {link: (far[0] if isinstance(far, tuple) else far).name for link, far in peer.links.items()}
    sent = [effect for effect in peer.effects if isinstance(effect, Send) and is_about_taken(effect.frame)]
    return sorted({names[link] for effect in sent for link in effect.links})


def two_hosts() -> tuple[World, Peer, Peer, Peer]:
    """Return ada and dan, who both host cyd, and bob, who wrote two messages to cyd."""
    world = World()
    ada, dan, bob = (world.peer(name) for name in ("ada", "dan", "bob"))
    for one, other in ((ada, dan), (ada, bob), (dan, bob)):
        world.link(one, other)
    for gate in (ada, dan):
        host(gate)
    world.pass_time(1.0)
    bob.say("one", "two", to=bob.open("cyd"))
    world.pass_time(1.0)
    return world, ada, dan, bob


def far_host(gate: Peer, name: str = "dan") -> Far:
    """Link a peer that hosts cyd, too."""
    far = gate.far(name)
    cert = make_cert(N, CYD, IDENTITIES["cyd"].sign, IDS[name], START // 1000)
    far.say(Here([Hosted(CYD, "cyd", "online", cert=cert)]))
    gate.take()
    return far


def marked(run: str, seq: int) -> ReadFrame:
    return ReadFrame({}, {THERE: {CYD: [(ref_key(IDS["bob"], run * 8), seq, CHAIN)]}}, names=[NAMING])


def test_what_was_taken_at_one_host_counts_at_the_other_and_only_there() -> None:
    world, ada, dan, bob = two_hosts()
    ada.effects.clear()
    take(ada)
    assert taken(ada) == taken(dan) == {"b1": 2}
    world.pass_time(60.0)
    assert (told(ada), told(bob)) == (["dan"], [])
    assert "bob" not in told(dan)
    marks = dan.storage.load_users([CYD]).reads
    assert all(mark.taken for mark in marks)
    assert [(mark.log.run[:2], mark.seq) for mark in marks] == [("b1", 2)]


def test_a_mark_is_told_once_it_is_on_disk() -> None:
    _, ada, dan, _ = two_hosts()
    ada.holding = True
    take(ada)
    assert taken(dan) == {}
    ada.commit()
    ada.take()
    assert taken(dan) == {"b1": 2}


def test_marks_made_while_the_hosts_were_apart_are_told_when_they_meet() -> None:
    world, ada, dan, _ = two_hosts()
    dan.crash()
    take(ada)
    world.pass_time(1.0)
    dan.start()
    host(dan)
    world.link(dan, ada)
    world.pass_time(12.0)
    assert taken(dan) == {"b1": 2}


def test_marks_survive_a_restart() -> None:
    _, ada, _, _ = two_hosts()
    take(ada)
    ada.restart()
    host(ada)
    assert taken(ada) == {"b1": 2}


def test_a_user_hosted_anew_gets_the_marks_before_its_comparison_ends() -> None:
    world, ada, dan, _ = two_hosts()
    dan.put(UserUnhosted(CYD))
    world.pass_time(1.0)
    take(ada)
    host(dan)
    world.settle()
    assert taken(dan) == {"b1": 2}


def test_of_a_user_hosted_anew_its_marks_alone_are_sent() -> None:
    """All marks of a thousand users who come one after the other would be a thousand times as many."""
    world, ada, dan, _ = two_hosts()
    dan.put(UserUnhosted(CYD))
    world.pass_time(1.0)
    take(ada)
    world.pass_time(60.0)
    for gate in (ada, dan):
        gate.effects.clear()
    host(dan)
    world.settle()
    assert taken(dan) == {"b1": 2}
    sent = [effect.frame for gate in (ada, dan) for effect in gate.effects if isinstance(effect, Send)]
    assert not [frame for frame in sent if isinstance(frame, ReadFrame) and (frame.ask or frame.all)]


def test_a_mark_that_comes_before_its_log_counts_once_the_log_comes() -> None:
    gate = World().peer("ada")
    host(gate)
    far = far_host(gate)
    log = Author("bob", "b1", THERE)
    one, two = log.say("one"), log.say("two")
    far.say(marked("b1", 1))
    assert taken(gate) == {}
    far.say(one)
    assert taken(gate) == {"b1": 1}
    far.say(two)
    assert taken(gate) == {"b1": 1}


@pytest.mark.parametrize("during_lookup", [False, True])
def test_a_mark_that_came_before_its_log_is_asked_for_when_its_user_comes_back(during_lookup: bool) -> None:
    """It was known to be announced, so the sums were equal, and nobody sent it again."""
    gate = World().peer("ada")
    host(gate)
    far = far_host(gate)
    gate.hold_lookups = during_lookup
    far.say(marked("b1", 1), ReadFrame({}, add="ab" * 32))
    total = gate.node.replicator.receipts.marks.announced_sum(IDS["dan"])
    gate.put(UserUnhosted(CYD))
    gate.hold_lookups = False
    gate.answer_lookups()
    host(gate)
    far.say(Author("bob", "b1", THERE).say("one"))
    gate.effects.clear()
    far.say(ReadFrame({}, sum=total))
    sent = [effect.frame for effect in gate.effects if isinstance(effect, Send)]
    assert [frame.ask for frame in sent if isinstance(frame, ReadFrame)] == [True]
    far.say(structs.replace(marked("b1", 1), all=True, add="ab" * 32))
    assert (taken(gate), gate.node.replicator.receipts.marks.announced_sum(IDS["dan"])) == ({"b1": 1}, total)


def test_a_mark_never_goes_back() -> None:
    gate = World().peer("ada")
    host(gate)
    far = far_host(gate)
    log = Author("bob", "b1", THERE)
    far.say(log.say("one"), log.say("two"))
    far.say(marked("b1", 2))
    far.say(marked("b1", 1))
    assert taken(gate) == {"b1": 2}
    assert [mark.seq for mark in gate.storage.load_users([CYD]).reads] == [2]


def test_who_does_not_host_a_user_says_nothing_about_it() -> None:
    gate = World().peer("ada")
    host(gate)
    bob = gate.far("bob")
    log = Author("bob", "b1", THERE)
    bob.say(log.say("one"))
    assert "close bob: host" in bob.say(marked("b1", 1))
    assert taken(gate) == {}


def test_a_mark_of_a_user_who_is_not_hosted_here_is_ignored() -> None:
    gate = World().peer("ada")
    far = far_host(gate)
    talk = gate.open("cyd")
    log = Author("cyd", "c1", talk)
    far.say(log.say("one"))
    far.say(ReadFrame({}, {talk: {CYD: [(ref_key(gate.id, "a1" * 8), 1, CHAIN)]}}))
    assert gate.node.replicator.receipts.marks.marked_to(talk, CYD, taken=True)[0] == {}
    assert gate.storage.load_users([CYD]).reads == []


def test_a_mark_that_storage_looks_up_is_void_once_its_user_is_let_go() -> None:
    world, ada, dan, _ = two_hosts()
    ada.hold_lookups = True
    ada.put(MarkedTaken(CYD, THERE, ada.storage.places(0, 99)[0].place, ticket=77))
    ada.put(UserUnhosted(CYD))
    assert "refused gone" in ada.answer_lookups()
    world.pass_time(5.0)
    assert taken(ada) == taken(dan) == {}
    host(ada)
    take(ada)
    world.pass_time(5.0)
    assert taken(ada) == taken(dan) == {"b1": 2}


def test_a_user_who_is_let_go_and_comes_back_at_once_has_the_marks_on_their_way_to_the_disk() -> None:
    """Seed 1293994 with --deletions: the former marks counted until the next start."""
    world, ada, dan, _ = two_hosts()
    ada.holding = True
    take(ada)
    ada.put(UserUnhosted(CYD))
    host(ada)
    assert taken(ada) == {"b1": 2} and taken(dan) == {}
    ada.holding = False
    ada.commit()
    ada.take()
    world.pass_time(5.0)
    assert taken(ada) == taken(dan) == {"b1": 2}


def test_letting_a_user_go_keeps_the_early_marks_of_others() -> None:
    gate = World().peer("ada")
    host(gate)
    host(gate, "eve")
    far = far_host(gate)
    cert = make_cert(N, IDS["eve"], IDENTITIES["eve"].sign, IDS["dan"], START // 1000)
    far.say(Here([Hosted(IDS["eve"], "eve", "online", cert=cert)]))
    log = Author("bob", "b1")
    far.say(ReadFrame({}, {ROOM: {user: [(ref_key(IDS["bob"], "b1" * 8), 1, CHAIN)] for user in (CYD, IDS["eve"])}}))
    gate.put(UserUnhosted(IDS["eve"]))
    far.say(log.say("one"))
    marks, _ = gate.node.replicator.receipts.marks.marked_to(ROOM, CYD, taken=True)
    assert marks == {LogId(ROOM, IDS["bob"], "b1" * 8): 1}


def test_one_who_was_read_before_is_told_as_read_and_not_as_taken() -> None:
    _, ada, _, bob = two_hosts()
    ada.effects.clear()
    take(ada)
    frames = [effect.frame for effect in ada.effects if isinstance(effect, Send)]
    assert not [frame for frame in frames if isinstance(frame, ReadFrame) and frame.marks]
    assert bob.node.replicator.receipts.marks.tracker.position(LogId(THERE, IDS["bob"], "b1" * 8), CYD) == 0


def test_a_failure_of_storage_loses_no_mark() -> None:
    world, ada, dan, _ = two_hosts()
    ada.put(CommitFailed(0, "the disk is full"))
    take(ada)
    ada.put(Loaded(ada.storage.load([ada.id, CYD])))
    world.pass_time(12.0)
    assert taken(ada) == taken(dan) == {"b1": 2}


@pytest.mark.parametrize("is_first", [False, True])
def test_a_mark_on_a_log_that_failed_to_be_stored_counts_once_that_comes_again(is_first: bool) -> None:
    """Storage keeps no mark on a log that it does not hold (seeds 1310038, --deletions, and 610259, --members)."""
    gate = World().peer("ada")
    host(gate)
    far, log = far_host(gate), Author("bob", "b1", THERE)
    if not is_first:  # else the conversation failed with it
        far.say(Author("bob", "b0", THERE).say("zero"))
    one = log.say("one")
    gate.holding = True
    far.say(one, marked("b1", 1))
    assert taken(gate) == {"b1": 1}
    gate.held.clear()
    gate.holding = False
    gate.put(CommitFailed(0, "the disk is full"))
    gate.put(Loaded(gate.storage.load([gate.id, CYD])))
    gate.world.pass_time(1.0)
    assert taken(gate) == {}
    far_host(gate).say(marked("b1", 1), one)  # the sums differ, so all marks come again
    gate.world.pass_time(1.0)
    assert taken(gate) == {"b1": 1}
    assert [mark.seq for mark in gate.storage.load_users([CYD]).reads] == [1]


def test_a_mark_whose_conversation_gave_way_during_its_lookup_counts_once_that_is_back() -> None:
    """Its peer takes it for announced, and does not send it again (seed 1312097, --blocks)."""
    gate = World().peer("ada")
    host(gate)
    far, log = far_host(gate), Author("bob", "b1", THERE)
    gate.hold_lookups = True
    far.say(marked("b1", 1))
    del gate.node.replicator.conversations[THERE]
    gate.answer_lookups()
    far.say(log.say("one"))
    gate.world.pass_time(1.0)
    assert taken(gate) == {"b1": 1}


# ---- the sum of all marks


@pytest.mark.parametrize("seed", range(30))
def test_the_sum_is_that_of_the_marks_whatever_changed(seed: int) -> None:
    """Sums of readers are kept until a mark of theirs changes or goes."""
    chance, positions = random.Random(seed), MarkPositions(OwnState({}))
    users, conversations = [f"{number:064x}" for number in range(4)], [f"{number:064x}" for number in range(10, 13)]
    for _ in range(200):
        log = LogId(chance.choice(conversations), chance.choice(users), f"{chance.randrange(2):016x}")
        reader, position = chance.choice(users), (chance.randrange(1, 50), chance.choice(("ab" * 32, "cd" * 32)))
        taken = chance.random() < 0.3
        match chance.randrange(6):
            case 0:
                positions.put(ReadMark(log, reader, *NOWHERE, taken))
            case 1:
                positions.forget(reader)
            case _:
                positions.put(ReadMark(log, reader, *position, taken))
        for those in (set(users[:2]), set(users[2:]), set[str]()):
            told = positions.marks_for(those, lambda id: id != conversations[2])
            assert all(reader in those for _, reader, is_taken in told if is_taken)
            numbers = [mark_number(pair, ref, at) for pair, refs in told.items() for ref, at in refs.items()]
            assert positions.sum_for(those, lambda id: id != conversations[2]) == (
                sum_text(sum(numbers)) if told else ""
            )


@pytest.mark.parametrize("seed", range(30))
def test_the_sum_changes_by_what_peers_are_told(seed: int) -> None:
    """They add up what each frame changes, and ask for all marks if their sum is another."""
    chance, positions = random.Random(seed), MarkPositions(OwnState({}))
    users, conversations = [f"{number:x}" * 64 for number in range(3)], [f"{number:x}" * 64 for number in (10, 11)]
    heard = 0
    due: dict[tuple[LogId, str, bool], ReadPosition] = {}
    for _ in range(300):
        log = LogId(chance.choice(conversations), chance.choice(users), f"{chance.randrange(2):016x}")
        reader = chance.choice(users)
        position = (chance.randrange(1, 50), "ab" * 32) if chance.random() < 0.7 else NOWHERE
        mark = ReadMark(log, reader, *position, chance.random() < 0.3)
        due.setdefault(mark.key, positions.put(mark))
        if chance.random() < 0.5:
            for key, former in due.items():
                pair, ref = (key[0].conversation, *key[1:]), ref_key(key[0].user, key[0].run)
                heard += mark_number(pair, ref, positions.position(key)) - mark_number(pair, ref, former)
            due.clear()
            assert sum_text(heard) == (positions.sum_for(set(users), lambda _: True) or sum_text(0))
