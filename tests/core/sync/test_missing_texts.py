"""Stubs: a log is whole for newcomers after a deletion, and a text that somebody still has comes."""

from __future__ import annotations

import pytest
from msgspec import structs

from p2pchat.core.durable_changes import DiskLevel
from p2pchat.core.inputs import DiskLow, QuotaLifted
from p2pchat.core.log import MAX_ENTRY_BYTES, RawEntry, bits_between, bits_of, stub_of
from p2pchat.core.mesh.handshake import make_cert
from p2pchat.core.sync.known_conversations import dm_id
from p2pchat.core.sync.missing_texts import texts_within
from p2pchat.export_file import file_pages
from p2pchat.protocol import Entries, Frame, Have, Here, Hosted, MissingParts
from simulation.simulated_peer import SimPeer
from simulation.simulation import Simulation
from tests.core.groups.test_groups_ingest import Away
from tests.core.scripted_nodes import IDENTITIES, IDS, ROOM, START, Author, Far, N, Peer, World, describe, dm
from tests.core.steps import count_at, count_steps
from tests.core.sync.test_pruner import delete, linked, say, sums, texts


def room(sim: Simulation) -> str:
    return sim.invariants.room


def lies(peer: SimPeer) -> None:
    """Have a peer send stubs for all texts."""
    assert peer.node is not None
    ctx = peer.node.replicator.context.ctx
    send = ctx.send

    def send_stubs(frame: Frame, links: list[int]) -> None:
        if isinstance(frame, Entries):
            raws = [(c, stub_of(text) if isinstance(text, str) else text) for c, text in frame.e]
            frame = structs.replace(frame, e=raws)
        send(frame, links)

    ctx.send = send_stubs  # type: ignore[method-assign]


def test_a_newcomer_gets_logs_whole_after_everybody_deleted_them() -> None:
    sim, (ada, bob) = linked("ada", "bob")
    say(sim, ada, "one")
    say(sim, bob, "two")
    for peer in (ada, bob):
        delete(sim, peer, room(sim))
    [cyd] = sim.peers(1)
    sim.calm()
    say(sim, ada, "three")
    say(sim, cyd, "four")
    assert texts(cyd, room(sim)) == texts(ada, room(sim)) == texts(bob, room(sim)) == ["three", "four"]
    assert sums(cyd, ada) == sums(ada, cyd) == sums(bob, cyd)
    assert sim.settle() and sim.check() == []


def test_who_was_away_keeps_what_two_others_deleted_and_a_newcomer_gets_it_from_there() -> None:
    sim, (ada, bob, cyd) = linked("ada", "bob", "cyd")
    say(sim, ada, "one")
    cyd.crash()
    for peer in (ada, bob):
        delete(sim, peer, room(sim))
    [dan] = sim.peers(1)
    sim.calm()
    assert texts(dan, room(sim)) == [] and sums(dan, ada) == sums(ada, dan)
    cyd.start(ada.endpoint)
    sim.calm()
    assert texts(dan, room(sim)) == texts(cyd, room(sim)) == ["one"] and texts(ada, room(sim)) == []
    assert sim.settle() and sim.check() == []


def test_a_text_that_a_liar_withholds_comes_from_others() -> None:
    sim, (ada, bob) = linked("ada", "bob")
    say(sim, ada, "one")
    ada.crash()
    lies(bob)
    [cyd] = sim.peers(1)
    sim.calm()
    assert texts(cyd, room(sim)) == [] and cyd.disk.stubs
    ada.start(cyd.endpoint)
    sim.calm()
    assert texts(cyd, room(sim)) == ["one"] and not any(cyd.disk.stubs.values())


def test_a_stub_is_not_delivered_and_the_text_comes() -> None:
    sim, (ada, bob) = linked("ada", "bob")
    say(sim, ada, "one")
    ada.crash()
    lies(bob)
    [cyd] = sim.peers(1)
    sim.calm()
    bob.crash()
    assert ada.end_to(cyd) is None
    heard = len(sim.invariants.faults())
    ada.start(cyd.endpoint)
    sim.calm()
    assert texts(cyd, room(sim)) == ["one"]
    assert len(sim.invariants.faults()) == heard == 0  # delivered: only once the text is there


def test_who_lost_its_disk_gets_what_is_written_after_the_deletion() -> None:
    sim, (ada, bob) = linked("ada", "bob")
    say(sim, ada, "old", bob)
    there = dm_id(ada.sim.invariants.room, ada.user, bob.user)
    delete(sim, ada, there)
    bob.crash()
    bob.restore(0)
    bob.start(ada.endpoint)
    sim.calm()
    say(sim, ada, "new", bob)
    assert texts(bob, there) == ["new"] and sums(ada, bob) == sums(bob, ada)
    assert sim.settle() and sim.check() == []


def test_a_text_takes_the_place_of_a_stub() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    frame = bob.say("one", "two")
    far = ada.far("bob")
    far.say(stubs(frame))
    assert ada.storage.history(ROOM) == []
    assert ada.storage.load([]).missing == {bob.log: bits_of([1, 2])}
    far.say(structs.replace(frame, names=[]))
    assert [one.seq for one in ada.storage.history(ROOM)] == [1, 2]


def test_parts_of_a_log() -> None:
    assert bits_of([2, 3, 7]) == 0b10001100 and bits_of(range(5, 900)) == bits_between(5, 899) and bits_of([]) == 0
    assert bits_between(4, 4) == 0b10000 and bits_between(4, 3) == 0
    stub = stub_of("x")
    raws: list[RawEntry] = [(1, "a"), (2, "b"), (3, stub), (4, "d")]
    assert texts_within(bits_of([2, 3, 5, 6, 7, 8, 9]), 2, raws) == [(2, [(1, "a"), (2, "b")]), (5, [(4, "d")])]


def given(far: Far) -> list[str]:
    """Return which entries a far end was sent, batch by batch, and forget them."""
    sent = [describe(frame) for frame in far.heard if isinstance(frame, Entries)]
    far.heard.clear()
    return sent


def lacking(*parts: tuple[Author, int, int]) -> Have:
    """Return a frame that says that these parts of logs in the room are missing."""
    told: MissingParts = {ROOM: {}}
    for author, first, last in parts:
        told[ROOM].setdefault(author.log.user, []).append((author.log.run, first, last))
    return Have({}, lacks=told)


def test_a_link_is_given_each_text_once_however_often_it_says_that_it_is_missing() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    far = ada.far("bob")
    for text in ("one", "two", "three"):
        far.say(bob.say(text))
    cyd = ada.far("cyd", bob)
    given(cyd)
    cyd.say(lacking(*[(bob, 1, 1000)] * 50), lacking((bob, 1, 1000)))
    assert given(cyd) == ["entries room b1:1..3"]
    cyd.say(lacking((bob, 1, 0)), lacking((bob, 1, 1000)))
    assert given(cyd) == []
    far.say(bob.say("four"))
    far.say(bob.say("five"))
    assert given(cyd) == ["entries room b1:4..4", "entries room b1:5..5"]
    ada.drop(cyd)
    cyd = ada.far("cyd", bob)
    given(cyd)
    cyd.say(lacking((bob, 2, 3)))
    assert given(cyd) == ["entries room b1:2..5"]


def test_of_texts_that_come_late_a_link_is_given_what_came() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    frames = [bob.say(text) for text in ("one", "two", "three")]
    far = ada.far("bob")
    far.say(*map(stubs, frames))
    cyd = ada.far("cyd", bob)
    given(cyd)
    cyd.say(lacking((bob, 1, 3)))
    assert given(cyd) == []
    for frame, batch in ((frames[1], "2..2"), (frames[0], "1..1")):
        far.say(structs.replace(frame, names=[]))
        assert given(cyd) == [f"entries room b1:{batch}"]
    cyd.say(lacking((bob, 3, 3)))
    far.say(structs.replace(frames[2], names=[]))
    assert given(cyd) == ["entries room b1:3..3"]


def test_a_host_that_has_not_listed_all_its_users_hears_of_a_stub_before_a_mark_on_it() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    far = ada.far("bob", listed=False, compared=False)
    far.say(Here([Hosted(IDS["bob"], "bob", "online")], more=True))
    far.heard.clear()
    far.say(stubs(bob.say("one")))
    told = [frame for frame in far.heard if isinstance(frame, Have)]
    assert [bool(frame.lacks) for frame in told] == [True, False]
    assert describe(told[1]) == "have room bob b1:1"


def test_a_host_hears_which_texts_are_missing_of_its_users_as_soon_as_it_says_that_it_has_them() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1", dm("ada", "bob"))
    ada.far("bob").say(stubs(bob.say("one")))
    far = ada.far("cyd", listed=False, compared=False)
    far.say(Here([Hosted(IDS["cyd"], "cyd", "online")], more=True))
    assert not any(frame.lacks for frame in far.heard if isinstance(frame, Have))
    cert = make_cert(N, IDS["bob"], IDENTITIES["bob"].sign, IDS["cyd"], START // 1000)
    far.say(Here([Hosted(IDS["bob"], "bob", "online", cert=cert)], more=True))
    assert [bool(frame.lacks) for frame in far.heard if isinstance(frame, Have)] == [True]


def test_each_second_text_costs_the_same_however_many_are_missing_and_is_taken_once() -> None:
    """Each cost more the more parts the log had; with their parts joined texts counted twice, and storage broke."""
    steps = []
    for many in (20, 600):
        ada, bob = World().peer("ada"), Author("bob", "b1")
        far = ada.far("cyd")
        frames = [bob.say("text"), *(bob.say("!", kind="reaction", re=bob.ref(1)) for _ in range(many))]
        far.say(*(stubs(frame) if number % 2 else frame for number, frame in enumerate(frames)))
        far.say(*frames[: many - 10])
        far.say(*frames[: many - 10])
        assert ada.node.replicator.context.missing[bob.log] == bits_of(range(many - 8, many + 1, 2))
        steps.append(count_steps(lambda: far.say(*frames)))  # noqa: B023
        assert ada.node.replicator.context.missing[bob.log] == 0 and ada.texts()[:1] == ["text"]
        ada.restart()
        assert ada.storage.load([]).missing == {}
    assert steps[1] < 40 * steps[0]


def test_what_is_missing_of_one_member_takes_no_places_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a text counts as delivered to who has only its hash, and is never given."""
    monkeypatch.setattr("p2pchat.core.sync.remote_state.MAX_REMEMBERED", 8)
    ada = World().peer("ada")
    ada.say("one", "two")
    [log] = ada.node.replicator.conversations[ROOM].all_logs(ada.id)
    own = Author("ada", log.id.run[:2])
    far = ada.far("bob")
    far.say(lacking(*((Author("eve", f"{number:02x}"), 1, 1) for number in range(20)), (own, 1, 3)))
    remote = next(iter(ada.node.replicator.context.remotes.values()))
    assert len(remote.lacks) == 8 and remote.first_lacking(log.id, 0) == 1
    assert given(far)[-1] == "entries room a1:1..3"
    far.say(lacking((own, 1, 0)))
    assert len(remote.lacks) == 7 and remote.first_lacking(log.id, 0) == 0


def test_what_a_commit_costs_does_not_grow_with_what_is_missing() -> None:
    """Neither on a link whose comparison has not begun, nor with an operation of a group."""

    def steps(missing: int) -> int:
        away = Away()
        away.ada.far("cyd", listed=False, compared=False)
        for number in range(missing):
            away.bob.say(stubs(Author("bob", f"{number:02x}").say("one")))
        return count_steps(lambda: away.bob.say(away.first))

    few, many = count_at(steps, 2, 60)
    assert few == many


def test_texts_that_had_no_room_come_when_there_is_some() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    far = ada.far("bob")
    far.say(bob.say("one"))
    cyd = ada.far("cyd", bob)
    given(cyd)
    cyd.say(lacking((bob, 1, 1)), lacking((bob, 1, 1)))
    assert given(cyd) == ["entries room b1:1..1"]
    cyd.say(Have({}, full={ROOM: [bob.log.user]}))
    cyd.say(lacking((bob, 1, 1)))
    assert given(cyd) == ["entries room b1:1..1"]


def test_what_is_missing_of_a_conversation_that_is_not_known_yet_comes_when_it_is() -> None:
    ada, bob, cyd = World().peer("ada"), Author("bob", "b1"), Author("bob", "b2")
    far, other = ada.far("bob"), ada.far("cyd")
    other.say(lacking((bob, 1, 2), (cyd, 1, 1)))
    far.say(bob.say("one"))
    far.say(bob.say("two"))
    assert given(other) == ["entries room b1:1..1", "entries room b1:2..2"]


def stubs(frame: Entries) -> Entries:
    """Return a frame with stubs for its texts."""
    return structs.replace(frame, e=[(c, stub_of(str(text))) for c, text in frame.e])


def used_by(peer: Peer, author: Author) -> int:
    return peer.node.replicator.quota.bytes.of_user[author.log.user]


def test_a_text_that_does_not_fit_its_stub_costs_nothing() -> None:
    """Its author signed two logs under one number."""
    ada, bob, other = World().peer("ada"), Author("bob", "b1"), Author("bob", "b1")
    frame, false = bob.say("one", "two"), other.say("x" * 1000)
    far = ada.far("bob")
    far.say(stubs(frame))
    far.say(structs.replace(false, names=[]))
    used = used_by(ada, bob)
    assert ada.storage.load([]).forked == [bob.log]
    ada.restart()
    assert used_by(ada, bob) == used


@pytest.mark.parametrize(("text", "code"), [("a\1b", "malformed"), ("x" * (MAX_ENTRY_BYTES + 1), "limit")])
def test_a_late_text_that_is_none_stays_a_stub_and_refutes_who_brings_it(text: str, code: str) -> None:
    """Who had taken it passed on what all others refuse as a new entry, and lost its links."""
    ada, bob = World().peer("ada"), Author("bob", "b1")
    frame = bob.write((START + 1, text))
    far = ada.far("eve")
    far.say(stubs(frame))
    far.say(structs.replace(frame, names=[]))
    assert ada.storage.load([]).missing == {bob.log: bits_of([1])}
    assert ada.counted[f"refuted_{code}"] == 1 and ada.links.get(far.link) is far


def test_what_comes_late_is_counted_like_after_a_restart() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    first, second = bob.say("x" * 1000), bob.say("y" * 2000)
    far = ada.far("bob")
    far.say(stubs(first), stubs(second))
    ada.hold_lookups = True
    far.say(structs.replace(first, names=[]))
    assert ada.texts() == []  # the chain in the middle of a log is asked for
    ada.answer_lookups()
    assert ada.texts() == ["?" + "x" * 1000]
    far.say(structs.replace(second, names=[]), structs.replace(second, names=[]))
    used = used_by(ada, bob)
    ada.restart()
    assert used_by(ada, bob) == used > 3000


def test_texts_of_one_member_that_wait_for_storage_push_out_none_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pchat.core.sync.ingest.MAX_UNSURE", 8)
    ada, bob, eve = World().peer("ada"), Author("bob", "b1"), Author("eve", "e1")
    far, other = ada.far("bob"), ada.far("eve")
    said = {author: [author.say(f"{author.name} {number}") for number in range(20)] for author in (bob, eve)}
    far.say(*map(stubs, said[bob]))
    other.say(*map(stubs, said[eve]))
    ada.hold_lookups = True
    other.say(*(structs.replace(frame, names=[]) for frame in said[eve][:-1]))
    far.say(*(structs.replace(frame, names=[]) for frame in said[bob][:3]))
    ada.answer_lookups()
    assert {"?bob 0", "?bob 1", "?bob 2", "?eve 0"} <= {*ada.texts()}


def test_a_text_that_comes_for_what_is_not_on_the_disk_yet_is_taken_when_it_is() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    first, second = bob.say("one"), bob.say("two")
    far = ada.far("bob")
    ada.holding = True
    far.say(stubs(first))
    far.say(stubs(second))
    far.say(structs.replace(first, names=[]))
    ada.holding = False
    ada.commit()
    assert ada.texts() == ["?one"]


def test_a_text_for_an_entry_that_waits_is_shown_after_what_it_follows() -> None:
    ada, bob, cyd, dan = World().peer("ada"), Author("bob", "b1"), Author("cyd", "c1"), Author("dan", "d1")
    lost, late = cyd.say("lost"), dan.say("late")
    first, second = bob.say("first", after=[cyd.ref(1)]), bob.say("second", after=[dan.ref(1)])
    far = ada.far("bob")
    far.say(first, stubs(second))
    far.say(structs.replace(second, names=[]))
    assert ada.texts() == []
    ada.far("cyd").say(lost)
    assert ada.texts() == ["lost", "first"]
    ada.far("dan").say(late)
    assert ada.texts() == ["lost", "first", "late", "second"]


def test_texts_that_come_for_entries_that_wait_take_places_among_those_that_wait() -> None:
    """Each cost more the more of them waited, and nothing counted them."""
    ada, bob = World().peer("ada", waiting_entries_a_member=8), Author("bob", "b1")
    far = ada.far("cyd")
    far.say(bob.say("first", after=[Author("dan", "d1").ref(1)]))
    answers = [bob.say(f"answer {number}", re=bob.ref(1)) for number in range(9)]
    far.say(*map(stubs, answers))
    far.say(*answers[:7])
    assert ada.texts() == []
    far.say(*answers[7:])
    assert ada.counted["waiting_full"] == 1 and len(ada.texts()) == 10


# ---- late texts between two heads that fit in no batch


LONG = [f"{at}{'x' * 60_000}" for at in range(4)]


def known(peer: Peer) -> list[str]:
    return sorted(text.strip("?") for text in peer.texts())


def with_text(frame: Entries, seq: int) -> Entries:
    """Return a frame with stubs for all its texts but one."""
    kept = [raw if at == seq else (raw[0], stub_of(str(raw[1]))) for at, raw in enumerate(frame.e, frame.first)]
    return structs.replace(frame, e=kept, names=[])


@pytest.mark.parametrize("together", [True, False])
def test_of_texts_that_fit_in_no_batch_newcomers_get_each(together: bool) -> None:
    world, bob = World(), Author("bob", "b1")
    ada, cyd = world.peer("ada"), world.peer("cyd")
    frame = bob.say(*LONG)
    frames = [stubs(frame), *(with_text(frame, seq) for seq in (1, 2, 3, 4))]
    for said in [frames] if together else [[one] for one in frames]:
        ada.far("bob").say(*said)
    assert known(ada) == LONG
    for _ in range(2):  # and after a restart
        world.link(cyd, ada)
        assert known(cyd) == LONG and cyd.storage.load([]).missing == {}
        ada.restart()


def test_texts_in_one_read_with_their_stubs_are_taken() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    frame = bob.say("one", "two")
    ada.far("bob").say(with_text(frame, 1), with_text(frame, 2), structs.replace(bob.say("three"), names=[]))
    assert ada.texts() == ["one", "three", "?two"]
    assert ada.storage.load([]).missing == {}


def test_texts_in_one_read_with_stubs_for_which_there_is_no_room_are_dropped() -> None:
    ada, bob = World().peer("ada", member_bytes=100, contact_bytes=100), Author("bob", "b1")
    frame = bob.say("one" * 100, "two" * 100)
    assert ada.far("bob").say(with_text(frame, 1), with_text(frame, 2)) == ["warn full", "to bob: have nothing full"]
    assert ada.texts() == []


def test_texts_that_fit_in_no_batch_are_exported_and_imported() -> None:
    world, bob = World(), Author("bob", "b1")
    ada, cyd = world.peer("ada"), world.peer("cyd")
    frame = bob.say(*LONG)
    ada.far("bob").say(stubs(frame), *(with_text(frame, seq) for seq in (1, 2, 3, 4)))
    pages = file_pages(ada.storage, ROOM, None)
    said = cyd.carry(*(one for page in pages for one in page if isinstance(one, Entries)))
    assert known(cyd) == LONG and said[-1] == "imported 7 new 3 known"


def told(far: Far) -> list[MissingParts]:
    return [one.lacks for one in far.heard if isinstance(one, Have) and one.lacks]


def test_a_text_that_comes_while_what_was_told_is_forgotten_is_missing_no_more() -> None:
    """Else its writer counts it as undelivered for as long as the link lasts."""
    ada, bob = World().peer("ada"), Author("bob", "b1")
    frame, far = bob.say("one"), ada.far("bob")
    far.say(stubs(frame))
    assert told(far)[-1] == lacking((bob, 1, 1)).lacks
    ada.holding = True
    far.say(structs.replace(frame, names=[]))
    next(iter(ada.node.replicator.context.remotes.values())).forget_told()
    ada.holding = False
    ada.commit()
    assert told(far)[-1] == lacking((bob, 1, 0)).lacks


@pytest.mark.parametrize("is_low", [True, False])
def test_late_texts_that_were_refused_come_on_the_same_link_when_there_is_room(is_low: bool) -> None:
    ada, bob = World().peer("ada", contact_bytes=1000, member_bytes=1000), Author("bob", "b1")
    frame = bob.say("x" * (100 if is_low else 2000))
    far = ada.far("bob")
    far.say(stubs(frame))
    if is_low:
        ada.put(DiskLow(DiskLevel.OWN_ONLY))
    far.say(structs.replace(frame, names=[]))
    assert ada.texts() == []
    far.heard.clear()
    ada.put(DiskLow(DiskLevel.ENOUGH) if is_low else QuotaLifted(bob.log.user))
    ada.take()
    ada.world.pass_time(1.0)
    assert told(far)[-1] == lacking((bob, 1, 1)).lacks
    far.say(structs.replace(frame, names=[]))
    assert len(ada.texts()) == 1
    assert told(far)[-1] == lacking((bob, 1, 0)).lacks
