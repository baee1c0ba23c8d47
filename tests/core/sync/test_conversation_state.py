"""Tips, marks and sums of logs: durable logs are announced, covered ones become rows, forked ones do not count."""

from __future__ import annotations

import tracemalloc
from itertools import combinations
from random import Random
from secrets import token_bytes

from p2pchat.core.durable_changes import LogFacts
from p2pchat.core.log import NO_SUM, LogId, marks_to_bytes, ref_key
from p2pchat.core.sync.conversation_state import (
    MOST_OLDER,
    ConversationState,
    Heads,
    LogState,
    facts_in,
    pack_row,
    sum_of,
)
from p2pchat.protocol import Mark, Naming
from tests.core.scripted_nodes import ALL, IDS, ROOM, Author, sum_of_tips
from tests.core.steps import count_steps


def room() -> ConversationState:
    return ConversationState(ROOM, Naming(room=True), None)


def durable(conversation: ConversationState, author: Author) -> LogState:
    """Make everything of an author durable and shown."""
    log = conversation.log(author.log.user, author.log.run) or conversation.add(LogState(conversation, author.log))
    log.before = author.before
    log.seq, log.chain, log.last_c = author.seq, author.chain, author.seq
    log.durable_seq, log.durable_chain, log.released = log.seq, log.chain, log.seq
    conversation.refresh_sum(log)
    return log


def test_only_durable_entries_are_announced() -> None:
    here, bob = room(), Author("bob", "b1")
    log = here.add(LogState(here, bob.log))
    bob.say("one", "two")
    log.seq, log.chain, log.last_c = 2, bob.chain, 2
    here.refresh_sum(log)
    assert [here.marks(ALL), here.sum] == [{}, NO_SUM]
    log.durable_seq, log.durable_chain = 2, bob.chain
    here.refresh_sum(log)
    assert [here.marks(ALL), here.sum] == [{IDS["bob"]: [bob.mark]}, sum_of_tips(bob)]


def test_the_sum_follows_every_change() -> None:
    here, bob, ada = room(), Author("bob", "b1"), Author("ada", "a1")
    for author in (bob, ada, bob, ada, bob):
        author.say("word")
        durable(here, author)
    assert here.sum == sum_of_tips(bob, ada)


def test_the_sum_does_not_depend_on_the_order_in_which_tips_came() -> None:
    authors = [Author(name, name[0] + "1") for name in ("ada", "bob", "cyd", "dan", "eve")]
    for author in authors:
        author.say("word")
    here, there = room(), room()
    for one, other in zip(authors, reversed(authors), strict=True):
        durable(here, one), durable(there, other)
        assert here.sum != NO_SUM != there.sum  # computed now, and changed by each further tip
    assert here.sum == there.sum == sum_of_tips(*authors)


def test_each_conversation_with_tips_counts_in_the_sum_of_everything() -> None:
    every = [ConversationState(f"{number}" * 64, Naming(room=True), None) for number in range(4)]
    for number, conversation in enumerate(every[1:], 1):
        author = Author("bob", f"b{number}", conversation.id)
        author.say("word")
        durable(conversation, author)
    sums = {sum_of(part) for size in range(4) for part in combinations(every[1:], size)}
    assert len(sums) == 8 and NO_SUM in sums
    assert sum_of(every) == sum_of(every[1:])


def test_a_covered_log_is_no_tip_and_becomes_a_row_when_shown() -> None:
    here, first = room(), Author("bob", "b1")
    first.say("one")
    log = durable(here, first)
    second = Author("bob", "b2", before=[first.mark])
    second.say("two")
    durable(here, second)
    log.covered = log.durable_covered = True
    here.refresh_sum(log)
    log.released = 0
    assert [here.marks(ALL)[IDS["bob"]], here.pack_if_settled(log)] == [[second.mark], False]
    log.released = 1
    assert [here.pack_if_settled(log), here.pack_if_settled(log), here.by_ref.get(log.ref)] == [
        True,
        False,
        None,
    ]
    found = here.log(*first.log[1:])
    assert found is not None and [found.row, found.covered, found.is_tip] == [log.row, True, False]
    assert here.sum == sum_of_tips(second)


def test_the_marks_of_older_logs_are_those_of_the_1st_2nd_and_4th_newest() -> None:
    here, before = room(), list[Mark]()
    for run in range(1, 7):
        author = Author("bob", f"{run:02x}", before=before)
        author.say("word")
        log = durable(here, author)
        log.last_c, log.covered, log.durable_covered = run, run < 6, run < 6
        here.pack_if_settled(log)
        before = [author.mark]
    assert [mark.run[:2] for mark in here.older_marks(IDS["bob"], 8)] == ["06", "05", "03"]
    assert [len(here.older_marks(IDS["bob"], 2)), here.older_marks(IDS["cyd"], 8)] == [2, []]


def test_the_marks_of_older_logs_cost_no_more_after_very_many() -> None:
    def steps(logs: int) -> int:
        here, user = room(), bytes.fromhex(IDS["bob"])
        rows = [pack_row(user, c.to_bytes(8, "big"), 1, b"c" * 32, c, 0, b"") for c in range(1, logs + 1)]
        here.covered.load(rows)
        found = [int(mark.run, 16) for mark in here.older_marks(IDS["bob"], 24)]
        assert found == sorted(found, reverse=True) and found[0] > logs - logs // 100 and found[-1] < logs * 0.6
        return count_steps(lambda: here.older_marks(IDS["bob"], 24))

    assert steps(20 * MOST_OLDER) <= steps(MOST_OLDER - 1)


def test_the_running_log_is_no_row() -> None:
    here, ada = room(), Author("ada", "a1")
    ada.say("one")
    log = durable(here, ada)
    log.own = log.covered = log.durable_covered = True
    assert not here.pack_if_settled(log)


def test_a_log_with_entries_on_their_way_to_the_disk_is_no_row() -> None:
    here, bob = room(), Author("bob", "b1")
    bob.say("one")
    log = durable(here, bob)
    log.covered = log.durable_covered = True
    log.seq = log.released = 2
    assert not here.pack_if_settled(log)


def test_a_forked_log_is_not_counted() -> None:
    here, bob = room(), Author("bob", "b1")
    bob.say("one")
    log = durable(here, bob)
    log.forked = True
    here.refresh_sum(log)
    assert [here.marks(ALL), here.sum, here.writer(IDS["bob"]).tail_tips()] == [{}, NO_SUM, []]


def test_marks_come_in_order_and_within_a_span() -> None:
    here = room()
    for name in ("ada", "bob", "cyd", "dan"):
        author = Author(name, name[0] + "1")
        author.say("word")
        durable(here, author)
    users = sorted(IDS[name] for name in ("ada", "bob", "cyd", "dan"))
    assert list(here.marks(ALL)) == users
    assert list(here.marks((users[1], users[2]))) == users[1:3]


def test_a_mark_is_run_number_and_the_beginning_of_the_chain() -> None:
    here, bob = room(), Author("bob", "b1")
    bob.say("one")
    assert durable(here, bob).mark == Mark("b1" * 8, 1, bob.chain.hex())


def test_a_log_of_which_nothing_waits_is_small() -> None:
    conversation = room()
    ids = [LogId(conversation.id, f"{number:064x}", f"{number:016x}") for number in range(1000)]
    tracemalloc.start()
    try:
        for id in ids:
            conversation.add(LogState(conversation, id))
        size = tracemalloc.get_traced_memory()[0] / len(ids)
    finally:
        tracemalloc.stop()
    assert size < 1000  # bytes, its writer included: 640; an empty queue for each would add 750


def test_writers_within_a_span_are_found_in_order_while_they_come() -> None:
    here, random, expected = room(), Random(0), list[str]()
    for _ in range(40):
        for _ in range(random.choice((1, 3, 128))):
            user = f"{random.getrandbits(256):064x}"
            log = LogState(here, LogId(ROOM, user, "a1" * 8))
            log.chain = log.durable_chain = bytes(32)
            log.seq = log.durable_seq = log.released = 1
            here.refresh_sum(here.add(log))
            expected.append(user)
        expected.sort()
        first, last = sorted((random.choice(expected), f"{random.getrandbits(256):064x}"))
        assert here.writers_within((first, last)) == [user for user in expected if first <= user <= last]
    assert list(here.marks(ALL)) == expected


# ---- rows

BOB = IDS["bob"]
MARKS = (Mark("b0" * 8, 4, "ab" * 32),)


def row_of(user: str = BOB, run: str = "b1" * 8, seq: int = 7) -> bytes:
    before = marks_to_bytes(MARKS)
    return pack_row(bytes.fromhex(user), bytes.fromhex(run), seq, bytes(range(32)), 2**53 - 1, 3, before)


LOG = row_of()
MOST = 280  # bytes of memory for a row, with its place in the list and in emptied tables; measured: 150 and 100


def test_a_row_keeps_all_of_a_log() -> None:
    heads, id = Heads(), LogId(ROOM, BOB, "b1" * 8)
    heads.put(LOG)
    kept = LogFacts(id, 7, bytes(range(32)), 2**53 - 1, 7, covered=True, before=MARKS, pruned=3)
    assert facts_in(ROOM, LOG) == kept
    assert LogState.from_facts(room(), kept).row == LOG
    assert [len(heads), heads.of(BOB)] == [1, [LOG]]
    assert [heads.take(BOB), heads.take(BOB), len(heads)] == [[LOG], [], 0]


def test_a_row_is_replaced_and_removed() -> None:
    heads, longer, other = Heads(), row_of(seq=9), row_of(run="b2" * 8)
    for head in (other, LOG, longer):
        heads.put(head)
    assert [heads.of(BOB), heads.get(BOB, "b1" * 8), heads.get(BOB, "b3" * 8)] == [[longer, other], longer, None]
    heads.remove(BOB, "b1" * 8)
    heads.remove(BOB, "b3" * 8)
    assert heads.of(BOB) == [other]


def test_a_log_is_found_by_its_reference() -> None:
    heads = Heads()
    heads.put(LOG)
    assert heads.user_of(ref_key(BOB, "b1" * 8)) == BOB
    assert [heads.user_of(ref_key(BOB, "b2" * 8)), heads.user_of(ref_key(IDS["cyd"], "b1" * 8))] == [None, None]


def test_users_whose_ids_begin_alike_are_not_confused() -> None:
    heads, like_bob = Heads(), BOB[:32] + "0" * 32
    other = row_of(like_bob, "b2" * 8)
    heads.put(LOG)
    assert heads.take(like_bob) == []
    heads.put(other)
    assert [heads.of(BOB), heads.of(like_bob)] == [[LOG], [other]]
    runs = (BOB, "b1" * 8), (like_bob, "b2" * 8)
    assert [heads.user_of(ref_key(*one)) for one in runs] == [BOB, like_bob]


def test_a_covered_log_takes_less_than_half_the_memory_as_a_row() -> None:
    here, logs = room(), list[LogState]()
    tracemalloc.start()
    try:
        for number in range(1_000):
            log = LogState(here, LogId(ROOM, BOB, f"{number:016x}"))
            log.chain = log.durable_chain = token_bytes(32)
            log.seq = log.durable_seq = log.released = 1
            log.covered = log.durable_covered = True
            logs.append(here.add(log))
        as_objects, _ = tracemalloc.get_traced_memory()
        while logs:
            assert here.pack_if_settled(logs.pop())
        del log
        as_rows, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [len(here.covered), here.by_ref] == [1_000, {}]
    assert as_rows < as_objects / 2
    assert as_rows < MOST * 1_000
