"""Keys: what is asked twice is written once, by one machine of a person or by several."""

from __future__ import annotations

import pytest

from p2pchat.core.inputs import CommitFailed, GroupCreateRequest, Loaded, UserUnhosted, WriteRequest
from p2pchat.core.log import Entry, LogId, Marks, Ref, decode_entry, encode_entry, ref_key
from p2pchat.core.sync import written_keys
from p2pchat.core.sync.written_keys import WRITTEN, Written, WrittenKeys, hash_key
from tests.core.scripted_nodes import IDS, ROOM, Author, Peer, World
from tests.core.test_own_state import host

EVE = IDS["eve"]


def write(peer: Peer, text: str = "hi", key: str = "k") -> list[str]:
    """Have eve write in the room; return what the program is told of the request."""
    peer.take()
    peer.put(WriteRequest(1, EVE, ROOM, "text", [text], marks=Marks(key=hash_key(key, text))))
    return [line for line in peer.take() if line.startswith(("kept", "refused"))]


def shown(peer: Peer) -> list[str]:
    """Return what a peer stores of eve's texts that nobody deleted."""
    of_eve = [(row, decode_entry(row.raw)) for row in peer.storage.places(0, 1000) if row.log.user == EVE]
    deleted = {entry.re for _, entry in of_eve if entry.k == "delete"}
    return [
        entry.b for row, entry in of_eve if entry.k == "text" and Ref(ref_key(EVE, row.log.run), row.seq) not in deleted
    ]


def test_what_is_asked_twice_is_written_once_also_after_a_kill() -> None:
    ada = World().peer("ada")
    host(ada)
    [first] = write(ada)
    [again] = write(ada)
    assert first != again and first.split("..")[0] == again.split("..")[0]  # the same, and no entry of its own
    assert write(ada, "ho") == ["refused key"]
    ada.crash()
    ada.restart()
    host(ada)
    assert write(ada) == [again] and write(ada, "ho") == ["refused key"] and len(write(ada, "ho", key="l")) == 1
    assert shown(ada) == ["hi", "ho"]


def test_what_is_asked_again_is_answered_when_the_first_is_durable() -> None:
    ada = World().peer("ada")
    host(ada)
    ada.holding = True
    assert write(ada) == write(ada) == []
    assert len([line for line in ada.commit() if line.startswith("kept")]) == 2
    assert shown(ada) == ["hi"]


def test_a_key_whose_commit_failed_is_not_known() -> None:
    ada = World().peer("ada")
    host(ada)
    ada.holding = True
    write(ada)
    epoch = ada.held[-1].epoch
    ada.holding, ada.held = False, []
    ada.put(CommitFailed(epoch, "the disk failed"))
    ada.put(Loaded(ada.storage.load([ada.id, EVE])))
    assert shown(ada) == []
    write(ada)
    assert shown(ada) == ["hi"]


def test_a_key_goes_where_the_user_goes_and_with_the_user() -> None:
    world = World()
    ada, cyd = world.peer("ada"), world.peer("cyd")
    host(ada)
    host(cyd)
    [first] = write(ada)
    world.link(ada, cyd)
    world.pass_time(60)
    [again] = write(cyd)
    assert first.split("..")[0] == again.split("..")[0] and shown(ada) == shown(cyd) == ["hi"]
    gone = cyd.node.choices_of(EVE)
    assert {name for name in cyd.storage.meta() if name.startswith(WRITTEN)} <= gone.keys()
    cyd.put(UserUnhosted(EVE, is_deleted=True))
    assert cyd.node.replicator.context.keys.find(EVE, hash_key("k")) is None


def test_of_two_machines_that_write_apart_the_later_one_is_taken_back() -> None:
    """By whoever meets the second, and for all: a third peer, which hosts nobody of theirs, shows one."""
    world = World()
    ada, bob, cyd = world.peer("ada"), world.peer("bob"), world.peer("cyd")
    host(ada)
    host(cyd)
    write(cyd)
    write(cyd, "another", key="m")
    world.pass_time(1)
    write(ada)
    write(ada, "one", key="m")  # the same key for something else: both stay
    world.link(ada, bob)
    world.pass_time(60)
    assert sorted(shown(bob)) == ["hi", "one"]
    world.link(bob, cyd)
    world.pass_time(60)
    for peer in (ada, bob, cyd):
        assert sorted(shown(peer)) == ["another", "hi", "one"]
    [at_ada], [at_cyd] = write(ada), write(cyd)
    assert at_ada.split("..")[0] == at_cyd.split("..")[0]  # both name what stayed


def test_a_group_is_created_once() -> None:
    ada = World().peer("ada")
    groups = []
    for name in ("ops", "ops", "dev"):
        ada.put(GroupCreateRequest(1, ada.id, name, (), hash_key("g", name)))
        groups.append(len(ada.node.groups))
    assert groups == [1, 1, 1] and "refused key" in ada.take()
    ada.restart()
    ada.put(GroupCreateRequest(1, ada.id, "ops", (), hash_key("g", "ops")))
    assert len(ada.node.groups) == 1


def test_keys_are_bounded_and_few_busy_users_evict_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written_keys, "MAX_KEYS", 24)
    monkeypatch.setattr(written_keys, "MAX_KEYS_OF_USER", 16)
    lines = dict[str, str | None]()
    keys = WrittenKeys({})

    def note(user: str, number: int) -> None:
        key = hash_key(f"{number}")
        keys.note(key, Written(number, LogId(ROOM, IDS[user], "00" * 8), number, key[12:]), lines)

    note("ada", 1)
    for number in range(100):
        note("bob", number)
        note("cyd", number)
    stored = {name: line for name, line in lines.items() if line}
    again = WrittenKeys(stored)
    for one in (keys, again):
        assert len(one.lines_of(IDS["bob"]) + one.lines_of(IDS["cyd"])) < 24
        assert one.find(IDS["ada"], hash_key("1")) and one.find(IDS["bob"], hash_key("99"))
        assert one.find(IDS["bob"], hash_key("1")) is None
    assert {*stored} == {line for user in ("ada", "bob", "cyd") for line in keys.lines_of(IDS[user])}


def test_what_was_written_twice_is_taken_back_once_it_is_shown() -> None:
    ada = World().peer("ada")
    host(ada)
    write(ada)
    bob, eve = Author("bob", "b1"), Author("eve", "e1")
    asked, c = hash_key("k", "hi"), ada.world.now.utc + 60
    first = bob.say("one")
    again = eve.write(encode_entry(Entry("text", c, c, after=(bob.ref(1),), b="hi", key=asked)))
    far = ada.far("bob", bob, eve)
    far.say(again)
    assert not [row for row in ada.storage.places(0, 1000) if decode_entry(row.raw).k == "delete"]
    far.say(first)
    assert shown(ada) == ["hi"]
    assert [row for row in ada.storage.places(0, 1000) if decode_entry(row.raw).k == "delete"]
