"""Rows keep covered logs, and quiet writers of the room, and nobody sees a difference."""

from __future__ import annotations

import tracemalloc
from secrets import token_bytes, token_hex

import pytest

from p2pchat.core.durable_changes import Cite
from p2pchat.core.log import LogId, ref_key
from p2pchat.core.sync.anti_entropy import next_id
from p2pchat.core.sync.conversation_state import ConversationState, Heads, LogHead, LogState
from p2pchat.protocol import Mark, Naming
from tests.core.scripted_nodes import ALL, IDS, ROOM, Author, Far, Peer, World, have, page, sums

BOB = IDS["bob"]
LOG = LogHead(
    BOB, "b1" * 8, 7, bytes(range(32)), 2**53 - 1, 3, (Mark("b0" * 8, 4, "ab" * 8),), (1, 5), (Cite(1, 3, "cd" * 8),)
)
MOST = 280  # bytes of memory for a row, with its place in the list and in emptied tables; measured: 150 and 100


def room(peer: Peer) -> ConversationState:
    return peer.node.sync.conversations[ROOM]


def is_quiet(peer: Peer, user: str) -> bool:
    return user in room(peer).writers.quiet


def quiet_log() -> tuple[Peer, Far, Author]:
    """Return ada, linked with bob's peer, and a log of bob of which she has a row."""
    ada, pen = World().peer("ada", max_open_writers=0), Author("bob", "b1")
    far = ada.far("bob")
    far.say(pen.say("one"))
    assert is_quiet(ada, BOB)
    return ada, far, pen


# ---- rows


def test_a_row_keeps_all_of_a_log() -> None:
    heads = Heads()
    assert heads.put(LOG)
    mark = Mark(LOG.run, LOG.seq, LOG.chain[:8].hex())
    assert [BOB in heads, len(heads), heads.marks(BOB), heads.of(BOB)] == [True, 1, [mark], [LOG]]
    spans = [("00" * 32, "ff" * 32), (BOB, BOB), (next_id(BOB), "ff" * 32), ("00" * 32, BOB[:63] + "0")]
    found = [(BOB, mark)]
    assert [[*heads.ends(span)] for span in spans] == [found, found, [], [] if BOB[63] != "0" else found]
    assert [heads.take(BOB), heads.take(BOB), len(heads)] == [[LOG], [], 0]


def test_a_row_is_replaced_and_removed() -> None:
    heads, longer, other = Heads(), LOG._replace(seq=9), LOG._replace(run="b2" * 8)
    for head in (other, LOG, longer):
        heads.put(head)
    assert [heads.of(BOB), heads.get(BOB, LOG.run), heads.get(BOB, "b3" * 8)] == [[longer, other], longer, None]
    heads.remove(BOB, LOG.run)
    heads.remove(BOB, "b3" * 8)
    assert heads.of(BOB) == [other]


def test_a_log_that_builds_on_too_many_has_no_row() -> None:
    heads = Heads()
    assert [heads.put(LOG._replace(before=LOG.before * 65_536)), len(heads)] == [False, 0]


def test_a_log_is_found_by_its_reference() -> None:
    heads = Heads()
    heads.put(LOG)
    assert heads.user_of(ref_key(BOB, LOG.run)) == BOB
    assert [heads.user_of(ref_key(BOB, "b2" * 8)), heads.user_of(ref_key(IDS["cyd"], LOG.run))] == [None, None]


def test_users_whose_ids_begin_alike_are_not_confused() -> None:
    heads, other = Heads(), LOG._replace(user=BOB[:16] + "0" * 48, run="b2" * 8)
    heads.put(LOG)
    assert [other.user in heads, heads.marks(other.user), heads.take(other.user)] == [False, [], []]
    heads.put(other)
    assert [heads.of(BOB), heads.of(other.user)] == [[LOG], [other]]
    assert [heads.user_of(ref_key(one.user, one.run)) for one in (LOG, other)] == [BOB, other.user]


# ---- in a peer


def test_quiet_writers_become_rows_when_there_are_too_many() -> None:
    ada = World().peer("ada", max_open_writers=2)
    far = ada.far("eve")
    for name in ("bob", "cyd"):
        far.say(Author(name, "f1").say("x"))
    assert not len(room(ada).writers.quiet)
    far.say(Author("dan", "f1").say("x"))
    assert [user for user, _ in room(ada).writers.quiet.ends()] == sorted([IDS["bob"], IDS["cyd"]])
    assert room(ada).writers.open.keys() == {IDS["dan"]}


def test_sums_and_marks_are_the_same_with_rows() -> None:
    ada, far, pen = quiet_log()
    assert room(ada).marks(ALL) == {BOB: [pen.mark]}
    assert is_quiet(ada, BOB)
    ada.take()
    assert far.say(sums(pen)) == []  # equal: no marks are sent


def test_a_quiet_log_goes_on() -> None:
    ada, far, pen = quiet_log()
    assert "commit b1:2..2, show b1:2..2" in far.say(pen.say("two"))
    assert [is_quiet(ada, BOB), room(ada).marks(ALL), ada.texts()] == [True, {BOB: [pen.mark]}, ["one", "two"]]


def test_a_log_with_entries_on_their_way_to_the_disk_is_not_quiet() -> None:
    ada, far, pen = quiet_log()
    ada.holding = True
    far.say(pen.say("two"))
    assert not is_quiet(ada, BOB)
    assert "to bob: have room bob b1:2" in ada.commit()
    assert is_quiet(ada, BOB)


def test_a_log_with_a_waiting_entry_is_not_quiet() -> None:
    ada, far, pen = quiet_log()
    missing = Author("cyd", "c1")
    missing.say("before")
    far.say(pen.say("after", after=[missing.ref(1)]))
    assert not is_quiet(ada, BOB)


def test_a_later_log_covers_a_quiet_one() -> None:
    ada, far, first = quiet_log()
    second = Author("bob", "b2", before=[first.mark])
    far.say(second.say("two"))
    assert [is_quiet(ada, BOB), room(ada).marks(ALL)] == [True, {BOB: [second.mark]}]
    logs = room(ada).all_logs(BOB)
    assert [(log.id, log.before, log.covered) for log in logs] == [
        (second.log, (first.mark,), False), (first.log, (), True)]  # fmt: skip


def test_an_entry_follows_one_of_a_quiet_log() -> None:
    _, far, pen = quiet_log()
    assert "commit f1:1..1, show f1:1..1" in far.say(Author("cyd", "f1").say("reply", re=pen.ref(1)))


def test_a_fork_of_a_quiet_log_is_found() -> None:
    ada, far, _ = quiet_log()
    other = Author("bob", "b1")
    assert any("fork of b1" in line for line in far.say(other.say("another")))
    assert [is_quiet(ada, BOB), room(ada).marks(ALL)] == [False, {}]


def test_marks_ahead_of_a_quiet_log_are_wanted() -> None:
    _, far, pen = quiet_log()
    pen.say("two")
    assert "to bob: want 1 room bob from b1:1" in far.say(page(pen))
    assert far.say(have(pen)) == []


@pytest.mark.parametrize("most", [0, 512])
def test_a_restart_leaves_the_same_logs(most: int) -> None:
    ada, _, pen = quiet_log()
    again = World().peer("ada", ada.storage, max_open_writers=most)
    assert [is_quiet(again, BOB), room(again).marks(ALL)] == [most == 0, {BOB: [pen.mark]}]
    assert room(again).sum == room(ada).sum


def test_what_was_read_of_quiet_logs_is_told() -> None:
    ada, _, _ = quiet_log()
    assert any("read room by ada b1:1" in line for line in [*ada.read(), *_passed(ada)])


def _passed(peer: Peer) -> list[str]:
    peer.world.pass_time(2.0)
    return peer.take()


# ---- memory


def test_a_quiet_log_takes_less_than_half_the_memory_of_an_open_one() -> None:
    conversation = ConversationState(ROOM, Naming(room=True), None)
    tracemalloc.start()
    try:
        for user in (token_hex(32) for _ in range(1_000)):
            log = LogState(conversation, LogId(ROOM, user, token_hex(8)), chain=token_bytes(32))
            log.seq = log.durable_seq = log.released = 1
            conversation.refresh_sum(conversation.add(log))
        del log
        opened, _ = tracemalloc.get_traced_memory()
        conversation.writers.pack(0)
        quiet, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [len(conversation.writers.open), len(conversation.writers.quiet)] == [0, 1_000]
    assert quiet < opened / 2
    assert quiet < MOST * 1_000
