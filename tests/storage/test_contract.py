"""The contract of every storage: logs, waiting entries, places, history, receipts, names and hosted users."""

from __future__ import annotations

import msgspec
import pytest

from p2pchat.core.durable_changes import (
    Address,
    Change,
    DeliveredMark,
    Fork,
    ForkStart,
    FormerName,
    KnownConversation,
    KnownUser,
    LogFacts,
    LogKey,
    NamedContent,
    NewLog,
    ReadMark,
    ShownKey,
    Stored,
    StoredUser,
    Stretch,
    Token,
    UnreleasedEntry,
)
from p2pchat.core.log import Batch, FileRef, LogId, contradict, decode_entry, extend_chain, first_chain, size_bytes
from p2pchat.core.members.statement import make_statement, network_id
from p2pchat.core.sync.conversation_state import Heads, facts_in
from p2pchat.identity.identity import Identity
from p2pchat.protocol import Naming
from p2pchat.storage.sql_storage import SqlStorage
from tests.storage.writers import DM, MORNING, ROOM, Author, many, released, user

AT = "ab" * 32  # a chain


def test_a_new_storage_is_empty(storage: SqlStorage) -> None:
    assert storage.load([user("ada")]) == Stored()
    assert storage.places(0, 10) == [] and storage.history(None) == []
    assert storage.entry(Author("ada", 1).log, 1) is None
    assert storage.delivered_to(Author("ada", 1).log, 1) == []
    assert storage.fetch(ROOM, user("ada"), ForkStart("01" * 8), batches=8) == ([], None)


# ---- logs


def test_load_returns_tips_and_rows_of_covered_logs(storage: SqlStorage) -> None:
    first = Author("ada", 1)
    storage.commit([released(first.begins("1", "2"), 1)])
    second = Author("ada", 2, before=[first.mark])
    begins = second.begins("3")
    begins.covered = [first.log]
    storage.commit([released(begins, 3)])
    (tip,) = storage.load([]).tips
    assert (tip.log, tip.seq, tip.chain, tip.before) == (second.log, 1, second.chain, (first.mark,))
    heads = Heads()
    heads.load(storage.load([]).covered[ROOM])
    covered = LogFacts(first.log, 2, first.chain, MORNING + 1, 2, covered=True)
    assert [facts_in(ROOM, row) for row in heads.of(user("ada"))] == [covered]
    assert (tip.last_c, tip.released, tip.covered, tip.forked) == (MORNING, 1, False, False)
    assert storage.load([]).next_place == 4


def test_lookup_finds_logs_by_reference(storage: SqlStorage) -> None:
    ada = Author("ada", 1)
    storage.commit([Author("bob", 1).begins("the same run")])
    storage.commit([ada.begins("1")] + [ada.appends(str(number)) for number in range(2, 8)])
    found = storage.lookup([ada.lookup, LogKey(DM, ada.lookup.ref), LogKey(ROOM, "ab" * 24)])
    assert {key: (facts.log, facts.seq, facts.chain) for key, facts in found.items()} == {
        ada.lookup: (ada.log, 7, ada.chain)
    }


def test_the_chain_at_any_entry_is_found(storage: SqlStorage) -> None:
    ada = Author("ada", 1)
    storage.commit([ada.begins("1")] + [ada.appends(str(number)) for number in range(2, 8)])
    chains = [extend_chain(first_chain(ada.header), ada.raws[:seq]) for seq in range(8)]
    assert [storage.chain_at(ada.log, seq) for seq in range(9)] == [b"", *chains[1:], b""]
    assert storage.chain_at(Author("bob", 1).log, 1) == b""


def test_lookup_finds_a_covered_log_marked_as_covered(storage: SqlStorage) -> None:
    ada = Author("ada", 1)
    storage.commit([ada.begins("1"), Change(covered=[ada.log])])
    found = storage.lookup([ada.lookup])
    assert found[ada.lookup].covered
    storage.commit([Change(uncovered=[ada.log])])
    found = storage.lookup([ada.lookup])
    assert not found[ada.lookup].covered


def test_a_batch_that_does_not_follow_fails_the_whole_commit(storage: SqlStorage) -> None:
    ada, bob = Author("ada", 1), Author("bob", 1)
    storage.commit([ada.begins("1")])
    ada.write("never given")
    for wrong in (ada.appends("3"), Author("ada", 1).appends("1 again"), bob.appends("no such log"), ada.begins("x")):
        with pytest.raises(ValueError):
            storage.commit([Author("eve", 1).begins("kept?"), wrong])
    assert [(tip.log, tip.seq) for tip in storage.load([]).tips] == [(ada.log, 1)]
    storage.commit([Author("eve", 1).begins("kept")])
    assert len(storage.load([]).tips) == 2


def test_batches_of_one_commit_may_follow_each_other(storage: SqlStorage) -> None:
    ada = Author("ada", 1)
    begins = ada.begins("1")
    begins.batches += [ada.write("2", "3"), ada.write("4")]
    storage.commit([begins, ada.appends("5")])
    (tip,) = storage.load([]).tips
    assert (tip.seq, tip.chain) == (5, ada.chain)


def evidence(storage: SqlStorage, log: LogId) -> list[Batch]:
    batches, more = storage.fetch(log.conversation, log.user, ForkStart(log.run), batches=1)
    assert more is None
    return [msgspec.structs.replace(batch, entries=None) for batch in batches]


def without_entries(*batches: Batch) -> list[Batch]:
    return [msgspec.structs.replace(batch, entries=None) for batch in batches]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(("other", "side"), [(1, 0), (256, 0), (257, 1), (512, 1), (513, 2), (600, 2)])
def test_a_forked_log_keeps_both_sides_as_evidence_and_is_no_tip(
    storage: SqlStorage, other: int, side: int, together: bool
) -> None:
    """Our side of the fork is the stored batch with the last entry of the other, even if the same commit stores it."""
    ada, twin = Author("ada", 1), Author("ada", 1)
    said = [released(ada.begins(*many(256)), 1), released(ada.appends(*many(256)), 257)]
    said.append(released(ada.appends("two"), 513))
    fork = Change(forks=[Fork(ada.log, None, twin.write(*("another" for _ in range(other))))])
    for changes in [[*said, fork]] if together else [[each] for each in (*said, fork)]:
        storage.commit(changes)
    stored = storage.load([])
    assert (stored.tips, stored.forked) == ([], [ada.log])
    here, there = evidence(storage, ada.log)
    header = said[0].batches[0].header  # goes with both, so that who holds nothing of the log knows its member
    both = [msgspec.structs.replace(one, header=header) for one in (said[side].batches[0], fork.forks[0].other)]
    assert [here, there] == without_entries(*both)
    assert contradict(here, there)
    assert storage.lookup([ada.lookup])[ada.lookup].forked


def test_a_fork_of_an_unknown_log_is_stored(storage: SqlStorage) -> None:
    one, other = Author("ada", 1), Author("ada", 1)
    batches = one.write("one"), other.write("other")
    storage.commit([Change(forks=[Fork(one.log, *batches)])])
    assert evidence(storage, one.log) == without_entries(*batches)
    facts = storage.lookup([one.lookup])[one.lookup]
    assert (facts.forked, facts.seq, facts.released, facts.chain) == (True, 0, 0, first_chain(one.header))
    assert storage.load([]).forked == [one.log] and storage.load([]).tips == []


def test_marks_on_a_log_that_only_its_fork_makes_known_are_kept(storage: SqlStorage) -> None:
    """Also in the commit that brings the evidence: peers are told the marks once it is durable."""
    one, other, bob = Author("ada", 1), Author("ada", 1), user("bob")
    mark = ReadMark(one.log, bob, 1, AT)
    storage.commit(
        [Change(forks=[Fork(one.log, one.write("one"), other.write("other"))], reads=[mark, mark.replace(taken=True)])]
    )
    stored = storage.load([bob])
    assert stored.reads == [mark, mark.replace(taken=True)]


def test_a_log_covered_only_by_a_forked_log_is_a_tip_again(storage: SqlStorage) -> None:
    """A peer that has the evidence and never held the log does not know what it covers."""
    first, second = Author("ada", 1), Author("ada", 2)
    storage.commit([first.begins("one"), second.begins("two", whole=False)])
    forks = Author("ada", 3, before=[first.mark, second.mark])
    other = Author("ada", 4, before=[second.mark])
    storage.commit([forks.begins("three"), Change(covered=[first.log, second.log]), other.begins("four", whole=False)])
    assert {tip.log for tip in storage.load([]).tips} == {forks.log, other.log}
    storage.commit([Change(forks=[Fork(forks.log, None, Author("ada", 3).write("lie"))])])
    assert {tip.log for tip in storage.load([]).tips} == {first.log, other.log}


# ---- what waits


def test_entries_without_a_stretch_wait_and_cannot_be_read(storage: SqlStorage) -> None:
    ada = Author("ada", 1)
    batch = released(ada.begins("1"), 1)
    waits = ada.appends("2", "3")
    storage.commit([batch, waits])
    stored = storage.load([])
    assert [(facts.log, facts.released, facts.seq) for facts in stored.unreleased] == [(ada.log, 1, 3)]
    assert waits.batches[0].entries is not None
    assert stored.waiting == [UnreleasedEntry(ada.log, seq, waits.batches[0].entries[seq - 2]) for seq in (2, 3)]
    assert [shown.seq for shown in storage.history(ROOM)] == [1]
    assert storage.entry(ada.log, 2) is None and len(storage.places(0, 9)) == 1


def test_waiting_entries_can_be_released_in_parts(storage: SqlStorage) -> None:
    ada = Author("ada", 1)
    storage.commit([ada.begins("1", "2", "3")])
    storage.commit([Change(stretches=[Stretch(1, ada.log, 1, 1, MORNING)])])
    assert [waiting.seq for waiting in storage.load([]).waiting] == [2, 3]
    storage.commit([Change(stretches=[Stretch(2, ada.log, 2, 2, MORNING, gap=True)])])
    stored = storage.load([])
    assert (stored.unreleased, stored.waiting, stored.tips[0].released) == ([], [], 3)
    assert [(shown.seq, shown.place, shown.gap) for shown in storage.places(0, 9)] == [
        (1, 1, False),
        (2, 2, True),
        (3, 3, True),
    ]


def test_a_covered_log_may_have_waiting_entries(storage: SqlStorage) -> None:
    first = Author("ada", 1)
    storage.commit([first.begins("1")])
    begins = Author("ada", 2, before=[first.mark]).begins("2")
    begins.covered = [first.log]
    storage.commit([begins])
    assert [facts.covered for facts in storage.load([]).unreleased] == [True, False]


# ---- places


def test_places_are_read_in_order_from_any_place(storage: SqlStorage) -> None:
    ada, bob = Author("ada", 1), Author("bob", 1)
    storage.commit([released(ada.begins("1", "2", "3"), 1), released(bob.begins("4", "5"), 4, old=True)])
    storage.commit([released(ada.appends("6"), 6)])
    shown = storage.places(0, 100)
    assert [(each.place, each.log, each.seq, each.old) for each in shown] == [
        (1, ada.log, 1, False),
        (2, ada.log, 2, False),
        (3, ada.log, 3, False),
        (4, bob.log, 1, True),
        (5, bob.log, 2, True),
        (6, ada.log, 4, False),
    ]
    assert [each.raw for each in shown if each.log == ada.log] == ada.raws
    for after in range(8):
        assert storage.places(after, 2) == shown[after : after + 2]


def test_places_of_some_conversations_skip_the_others(storage: SqlStorage) -> None:
    ada, bob, cyd = Author("ada", 1), Author("bob", 1, DM), Author("cyd", 1)
    storage.commit([released(ada.begins("1", "2"), 1), released(bob.begins("3", "4"), 3), released(cyd.begins("5"), 5)])
    storage.commit([released(bob.appends("6"), 6)])
    assert [each.place for each in storage.places(0, 100, [DM])] == [3, 4, 6]
    assert [each.place for each in storage.places(3, 1, [DM])] == [4]
    assert [each.place for each in storage.places(2, 100, [DM, ROOM])] == [3, 4, 5, 6]
    assert storage.places(0, 100, []) == [] and storage.places(0, 100, ["ee" * 32]) == []


def test_load_returns_the_newest_stretches_oldest_first(storage: SqlStorage) -> None:
    ada, bob = Author("ada", 1), Author("bob", 1)
    storage.commit([released(ada.begins("1"), 1), released(bob.begins("2", "3", "4"), 2)])
    storage.commit([released(ada.appends("5"), 5), released(bob.appends("6"), 6)])
    assert storage.load([]).recent == [(bob.log, 3), (ada.log, 2), (bob.log, 4)]  # five places are enough here


def test_a_profile_at_the_end_of_a_stretch_is_none_of_the_newest_entries(storage: SqlStorage) -> None:
    ada, bob = Author("ada", 1), Author("bob", 1)
    storage.commit([released(ada.begins("1", "2"), 1)])
    storage.commit([released(bob.begins("3"), 3)])
    storage.commit([released(ada.renames("countess"), 4)])
    assert storage.load([]).recent == [(ada.log, 2), (bob.log, 1)]


# ---- history


def test_history_is_sorted_by_clock_then_user_then_run(storage: SqlStorage) -> None:
    bob, ada, again, dm = Author("bob", 1), Author("ada", 2), Author("ada", 1), Author("ada", 1, DM)
    for place, (author, c) in enumerate([(bob, 50), (ada, 50), (again, 50), (dm, 20), (ada, 70), (bob, 60)]):
        change = author.begins("x", c=c) if author.seq == 0 else author.appends("x", c=c)
        storage.commit([released(change, place + 1)])
    same = sorted([bob.log, ada.log, again.log], key=lambda log: (log.user, log.run))
    in_room = [(log, 1) for log in same] + [(bob.log, 2), (ada.log, 2)]
    assert [(shown.log, shown.seq) for shown in storage.history(ROOM)] == in_room
    assert [(shown.log, shown.seq) for shown in storage.history(None)] == [(dm.log, 1), *in_room]
    assert [(shown.log, shown.seq) for shown in storage.history(None, limit=4)] == in_room[1:]
    assert storage.history("ab" * 32) == []


def key_of(log: LogId, c: int, seq: int) -> tuple[int, str, str, int]:
    return (c, log.user, log.run, seq)


def test_a_history_of_several_conversations_is_that_of_each_in_one_order(storage: SqlStorage) -> None:
    conversations = [ROOM, *(f"{number:064x}" for number in range(1, 6))]
    clocks = [5, 3, 3, 9, 1, 7, 7, 2, 8, 4, 6, 5, 3, 1, 9]
    place = 1
    for number, conversation in enumerate(conversations):
        for run in (1, 2):
            author = Author("ada", 2 * number + run, conversation)
            storage.commit([released(author.begins(*many(14), c=100 + 10 * clocks[2 * number + run]), place)])
            place += 15
    within = [*conversations[:2], *conversations[3:5], "ab" * 32]
    wanted = [one for key in within for one in storage.history(key, limit=0)]
    clock = {(one.log, one.seq): decode_entry(one.raw).c for one in wanted}
    wanted.sort(key=lambda one: key_of(one.log, clock[one.log, one.seq], one.seq))
    keys = [key_of(one.log, clock[one.log, one.seq], one.seq) for one in wanted]
    assert storage.history(None, limit=0, within=within) == wanted and storage.history(None, within=()) == []
    for at in range(0, len(keys), 7):
        assert storage.history(None, before=keys[at], limit=9, within=within) == wanted[max(0, at - 9) : at]
        assert storage.history(None, after=keys[at], limit=9, within=within) == wanted[at + 1 : at + 10]


def test_history_can_be_paged_in_both_directions(storage: SqlStorage) -> None:
    ada, bob = Author("ada", 1), Author("bob", 1)
    storage.commit([released(ada.begins(*many(9), c=100), 1), released(bob.begins(*many(9), c=100), 10)])
    all_entries = storage.history(ROOM, limit=0)
    assert len(all_entries) == 18
    keys = [key_of(shown.log, 99 + shown.seq, shown.seq) for shown in all_entries]
    assert keys == sorted(keys)
    for at, key in enumerate(keys):
        for conversation in (ROOM, None):
            assert storage.history(conversation, before=key, limit=5) == all_entries[max(0, at - 5) : at]
            assert storage.history(conversation, after=key, limit=5) == all_entries[at + 1 : at + 6]
    assert storage.history(ROOM, since=105, limit=0) == all_entries[10:]
    assert storage.history(ROOM, since=105, before=keys[12], limit=0) == all_entries[10:12]
    assert storage.history(ROOM, before=(10**16, "", "", 0), limit=1) == all_entries[-1:]


def test_history_of_all_conversations_is_sorted_as_one(storage: SqlStorage) -> None:
    room, dm, quiet = Author("ada", 1), Author("ada", 2, DM), Author("ada", 3, "ab" * 32)
    storage.commit([released(quiet.begins("x", c=11), 1)])
    for turn in range(6):
        for author, c in ((room, 10 + 4 * turn), (dm, 12 + 4 * turn)):
            change = author.appends("x", c=c) if turn else author.begins("x", c=c)
            storage.commit([released(change, 2 + 2 * turn + (author is dm))])
    order = [(room.log, 1), (quiet.log, 1), (dm.log, 1)]
    order += [(log, seq) for seq in range(2, 7) for log in (room.log, dm.log)]
    assert [(shown.log, shown.seq) for shown in storage.history(None)] == order
    assert [(shown.log, shown.seq) for shown in storage.history(None, limit=5)] == order[-5:]
    after = storage.history(None, after=key_of(room.log, 10, 1), limit=5)
    assert [(shown.log, shown.seq) for shown in after] == order[1:6]
    before = storage.history(None, before=key_of(dm.log, 16, 2), limit=3)
    assert [(shown.log, shown.seq) for shown in before] == order[1:4]


def test_one_entry_is_read_by_log_and_seq(storage: SqlStorage) -> None:
    ada = Author("ada", 1)
    storage.commit([released(ada.begins("1", "2"), 7, gap=True)])
    shown = storage.entry(ada.log, 2)
    assert shown is not None
    assert (shown.raw, shown.place, shown.received_at, shown.old, shown.gap) == (ada.raws[1], 8, MORNING, False, True)
    assert storage.entry(ada.log, 3) is None and storage.entry(ada.log, 0) is None


# ---- receipts


def test_delivered_marks_only_rise_and_are_loaded(storage: SqlStorage) -> None:
    ada, bob = Author("ada", 1), Author("bob", 1)
    storage.commit([ada.begins("1", "2", "3"), bob.begins("1")])
    storage.commit([Change(delivered=[DeliveredMark(ada.log, user("eve"), 2), DeliveredMark(ada.log, user("bob"), 3)])])
    storage.commit([Change(delivered=[DeliveredMark(ada.log, user("eve"), 1), DeliveredMark(bob.log, user("ada"), 1)])])
    storage.commit([Change(delivered=[DeliveredMark(Author("ada", 9).log, user("eve"), 1)])])  # not held here: nothing
    marks = [DeliveredMark(ada.log, user("bob"), 3), DeliveredMark(ada.log, user("eve"), 2)]
    assert sorted(storage.load([user("ada")]).delivered, key=lambda mark: -mark.seq) == marks
    assert storage.load([]).delivered == []
    assert storage.delivered_to(ada.log, 2) == sorted([(user("bob"), 3), (user("eve"), 2)])
    assert storage.delivered_to(ada.log, 3) == [(user("bob"), 3)]
    later = Author("ada", 2, before=[ada.mark])
    begins = later.begins("4")
    begins.covered = [ada.log]
    storage.commit([begins, Change(delivered=[DeliveredMark(later.log, user("bob"), 1)])])
    # Of a covered log only the marks of those who have nothing later; the rest is looked up on request.
    marks = [DeliveredMark(ada.log, user("eve"), 2), DeliveredMark(later.log, user("bob"), 1)]
    assert storage.load([user("ada")]).delivered == marks
    assert storage.delivered_to(ada.log, 3) == [(user("bob"), 3)]


def test_a_mark_on_a_later_log_counts_for_the_logs_it_builds_on(storage: SqlStorage) -> None:
    first = Author("ada", 1)
    storage.commit([first.begins("1", "2", "3")])
    part = Author("ada", 2, before=[first.mark._replace(seq=2)])
    after_part = Author("ada", 3, before=[part.mark])
    storage.commit([part.begins("4", whole=False), after_part.begins("5", whole=False)])
    storage.commit([Change(delivered=[DeliveredMark(after_part.log, user("bob"), 1)])])
    assert storage.delivered_to(first.log, 2) == [(user("bob"), 2)]
    assert storage.delivered_to(first.log, 3) == []
    storage.commit([Author("ada", 4, before=[first.mark, after_part.mark]).begins("6")])
    storage.commit([Change(delivered=[DeliveredMark(Author("ada", 4).log, user("eve"), 1)])])
    assert storage.delivered_to(first.log, 3) == [(user("eve"), 3)]


def test_a_mark_on_a_log_on_a_forked_one_does_not_count_for_what_that_builds_on(storage: SqlStorage) -> None:
    """Whoever gave it may have the other version of the forked log, which builds on less."""
    first = Author("ada", 1)
    storage.commit([first.begins("1", "2")])
    second = Author("ada", 2, before=[first.mark])
    third = Author("ada", 3, before=[second.mark])
    storage.commit([second.begins("3"), Author("ada", 3, before=[second.mark]).begins("4")])
    marks = [DeliveredMark(second.log, user("bob"), 1), DeliveredMark(third.log, user("eve"), 1)]
    storage.commit([Change(delivered=marks)])
    assert storage.delivered_to(first.log, 2) == sorted([(user("bob"), 2), (user("eve"), 2)])
    storage.commit([Change(forks=[Fork(second.log, None, Author("ada", 2).write("lie"))])])
    assert storage.delivered_to(first.log, 2) == [(user("bob"), 2)]


# ---- small things


def test_names_addresses_consumers_and_meta_keep_the_newest_value(storage: SqlStorage) -> None:
    group = Naming(group=(ROOM, user("ada"), "01" * 8))
    talks = [
        KnownConversation(ROOM, Naming(room=True)),
        KnownConversation(DM, Naming(dm=(user("ada"), user("bob")))),
        KnownConversation("aa" * 32, group),
    ]
    talks.append(KnownConversation("bb" * 32, Naming(talk="aa" * 32)))
    here = Address(user("bob"), "127.0.0.1:8080", verified_at=5)
    storage.commit([
        Change(
            conversations=talks,
            users=[KnownUser(user("ada"), "ada", 1), KnownUser(user("bob"), "bob", 2, "hello")],
            addresses=[here, Address("", "example.org:80"), Address(user("bob"), "[::1]:9")],
            consumers={"bot": 1, "web": 2},
            meta={"network": "ab", "start": "x"},
        )
    ])  # fmt: skip
    storage.commit([
        Change(
            users=[KnownUser(user("ada"), "Ada", 9)],
            addresses=[Address(user("bob"), "127.0.0.1:8080", 5, 6)],
            forgotten=[(user("bob"), "[::1]:9"), (user("bob"), "never known")],
            consumers={"bot": 7},
            meta={"start": "beginning"},
        )
    ])  # fmt: skip
    stored = storage.load([])
    assert stored.conversations == talks
    assert stored.users == [KnownUser(user("ada"), "Ada", 9), KnownUser(user("bob"), "bob", 2, "hello")]
    assert sorted(stored.addresses, key=lambda address: address.endpoint) == [
        Address(user("bob"), "127.0.0.1:8080", 5, 6),
        Address("", "example.org:80"),
    ]
    assert (stored.consumers, stored.meta) == ({"bot": 7, "web": 2}, {"network": "ab", "start": "beginning"})
    assert storage.meta() == stored.meta
    storage.commit([Change(meta={"start": None, "never": None})])
    assert storage.meta() == {"network": "ab"}


def test_a_former_name_is_stored_once_with_the_newest_clock(storage: SqlStorage) -> None:
    ada = user("ada")
    storage.commit(
        [Change(former_names=[FormerName(ada, "Ada", 5), FormerName(ada, "ada", 7), FormerName(ada, "Ada", 3)])]
    )
    storage.commit([Change(former_names=[FormerName(ada, "Ada", 9)])])
    kept = sorted(storage.load([]).former_names, key=lambda one: one.c)
    assert kept == [FormerName(ada, "ada", 7), FormerName(ada, "Ada", 9)]


def test_first_received_at_is_the_time_of_the_first_released_entry(storage: SqlStorage) -> None:
    ada, later = Author("ada", 1, DM), Author("ada", 2)
    storage.commit([ada.begins("1")])
    assert [storage.first_received_at(user(name)) for name in ("ada", "bob")] == [0, 0]  # it waits
    storage.commit([Change(stretches=[Stretch(1, ada.log, 1, 1, MORNING, False, False)])])
    change = later.begins("1")
    change.stretches.append(Stretch(2, later.log, 1, 1, MORNING + 5, False, False))
    storage.commit([change])
    assert [storage.first_received_at(user(name)) for name in ("ada", "bob")] == [MORNING, 0]


def test_the_bytes_of_all_entries_of_a_user_are_counted(storage: SqlStorage) -> None:
    ada, dm = Author("ada", 1), Author("ada", 1, DM)
    storage.commit([ada.begins("é" * 10), dm.begins("2"), Author("bob", 1).begins(*many(20, 50))])
    assert storage.load([]).sizes.get(user("ada"), 0) == size_bytes(ada.raws + dm.raws)
    storage.commit([ada.appends("3"), ada.appends("4")])
    assert storage.load([]).sizes.get(user("ada"), 0) == size_bytes(ada.raws + dm.raws)


def test_a_change_may_consist_of_a_new_log(storage: SqlStorage) -> None:
    storage.commit([])
    storage.commit([Change(), Change(logs=[NewLog(Author("ada", 1).log, (), True)])])
    assert storage.load([]).tips == []
    storage.commit([Author("ada", 1).appends("1")])
    assert len(storage.load([]).tips) == 1


def test_texts_are_compared_by_every_bit(storage: SqlStorage) -> None:
    """By default servers take these for equal: upper and lower case, accents, blanks at the end."""
    names = ["main", "Main", "main ", "máin", "ma\u0301in", "😀", "ß", "ss"]
    for number, name in enumerate(names):
        storage.commit([Change(consumers={name: number}, former_names=[FormerName(user("ada"), name, number)])])
    texts = "quotes ' \" \\ and %s, {}, ?, \t, \N{ROCKET}, \\u0000"
    storage.commit([Change(meta={"any text": texts})])
    stored = storage.load([])
    assert stored.consumers == {name: number for number, name in enumerate(names)}
    assert [one.name for one in stored.former_names] == names and stored.meta == {"any text": texts}


def test_large_entries_are_stored_unchanged(storage: SqlStorage) -> None:
    """More text than a server takes in one statement, and characters that it has to escape."""
    ada = Author("ada", 1)
    texts = ['\\"' * 15_000] * 200
    storage.commit([released(ada.begins(*texts), 1)])
    assert [shown.raw for shown in storage.history(ROOM, limit=0)] == ada.raws
    assert storage.load([]).sizes.get(user("ada"), 0) == size_bytes(ada.raws)


# ---- read marks in every kind of storage, and how far logs had been shown when a place was given


def test_read_marks_only_rise_and_are_loaded_for_readers_and_writers(storage: SqlStorage) -> None:
    ada, bob = Author("ada", 1), Author("bob", 1)
    storage.commit([ada.begins("1", "2", "3"), bob.begins("1")])
    storage.commit([Change(reads=[ReadMark(ada.log, user("bob"), 2, AT), ReadMark(bob.log, user("ada"), 1, AT)])])
    storage.commit([Change(reads=[ReadMark(ada.log, user("bob"), 1, AT), ReadMark(ada.log, user("eve"), 3, AT)])])
    storage.commit([Change(reads=[ReadMark(Author("ada", 9).log, user("eve"), 1, AT)])])  # not held here: nothing
    all_entries = [
        ReadMark(bob.log, user("ada"), 1, AT),
        ReadMark(ada.log, user("bob"), 2, AT),
        ReadMark(ada.log, user("eve"), 3, AT),
    ]
    assert sorted(storage.load([user("ada")]).reads, key=lambda mark: mark.seq) == all_entries
    assert storage.load([user("eve")]).reads == all_entries[2:]
    assert storage.load([]).reads == []
    assert storage.readers(ada.log, 2) == sorted([(user("bob"), 2), (user("eve"), 3)])
    assert storage.readers(ada.log, 3) == [(user("eve"), 3)]


def test_of_read_marks_on_logs_of_others_the_reader_gets_all_and_the_writer_the_newest(storage: SqlStorage) -> None:
    first = Author("ada", 1)
    storage.commit([first.begins("1", "2"), Change(reads=[ReadMark(first.log, user("bob"), 2, AT)])])
    second = Author("ada", 2, before=[first.mark])
    begins = second.begins("3")
    begins.covered = [first.log]
    storage.commit([begins])
    assert storage.load([user("ada")]).reads == [ReadMark(first.log, user("bob"), 2, AT)]
    storage.commit([Change(reads=[ReadMark(second.log, user("bob"), 1, AT)])])
    assert storage.load([user("ada")]).reads == [ReadMark(second.log, user("bob"), 1, AT)]
    assert storage.load([user("bob")]).reads == [ReadMark(log, user("bob"), seq, AT) for log, seq in
                                                 ((first.log, 2), (second.log, 1))]  # fmt: skip


def test_a_read_mark_can_be_removed(storage: SqlStorage) -> None:
    ada = Author("ada", 1)
    storage.commit([ada.begins("1"), Change(reads=[ReadMark(ada.log, user("bob"), 1, AT)])])
    storage.commit([Change(reads=[ReadMark(ada.log, user("bob"), 0, AT), ReadMark(ada.log, user("eve"), 0, AT)])])
    assert storage.load([user("bob")]).reads == []


def test_taken_marks_only_rise_and_are_loaded_for_their_reader(storage: SqlStorage) -> None:
    ada, bob, eve = Author("ada", 1), user("bob"), user("eve")
    storage.commit([ada.begins("1", "2", "3"), Change(reads=[ReadMark(ada.log, bob, 1, "cd" * 32, True)])])
    storage.commit([Change(reads=[ReadMark(ada.log, bob, 2, AT, True), ReadMark(ada.log, eve, 1, AT, True)])])
    storage.commit(
        [Change(reads=[ReadMark(ada.log, bob, 1, "", True), ReadMark(Author("ada", 9).log, bob, 1, AT, True)])]
    )
    for stored in (storage.load([bob, user("ada")]), storage.load_users([bob])):
        assert stored.reads == [ReadMark(ada.log, bob, 2, AT, True)]
    storage.commit([Change(reads=[ReadMark(ada.log, bob, 0, "", True)])])
    assert storage.load([bob, eve]).reads == [ReadMark(ada.log, eve, 1, AT, True)]
    assert storage.readers(ada.log, 1) == []


def test_messages_that_name_content_are_loaded_the_oldest_first(storage: SqlStorage) -> None:
    ada, bob = Author("ada", 1), Author("bob", 1)
    one, other = FileRef("a", 3, "", "ab" * 32), FileRef("b", 4, "", "cd" * 32)
    storage.commit([ada.begins("1", "2", files={2: (one,)}, c=MORNING + 900)])
    storage.commit([bob.begins("1", files={1: (other,)}, c=MORNING)])
    named = [NamedContent(other.root, bob.log, 1), NamedContent(one.root, ada.log, 2)]
    assert storage.load([]).named == named


def test_reading_a_later_log_counts_for_the_logs_it_builds_on(storage: SqlStorage) -> None:
    first = Author("ada", 1)
    storage.commit([first.begins("1", "2", "3")])
    later = Author("ada", 2, before=[first.mark_at(2)])
    storage.commit([later.begins("4", whole=False), Change(reads=[ReadMark(later.log, user("bob"), 1, AT)])])
    assert storage.readers(first.log, 2) == [(user("bob"), 2)]
    assert storage.readers(first.log, 3) == []


def test_shown_by_returns_how_far_logs_were_released_at_a_place(storage: SqlStorage) -> None:
    ada, bob, letter = Author("ada", 1), Author("bob", 1), Author("ada", 1, DM)
    storage.commit([released(ada.begins("1", "2", "3"), 1), released(bob.begins("1"), 4)])
    storage.commit([released(ada.appends("4", "5"), 5), released(letter.begins("1"), 7)])
    logs = (ada.log, bob.log)

    def shown_by(place: int) -> list[tuple[str, int]]:
        return sorted((log.user, seq) for log, seq, _ in storage.shown_by(ShownKey(place, logs)))

    def both(by_ada: int, by_bob: int = 0) -> list[tuple[str, int]]:
        return sorted((user(name), seq) for name, seq in (("ada", by_ada), ("bob", by_bob)) if seq)

    assert [shown_by(place) for place in (1, 3, 4, 5, 6, 7, 99)] == [
        both(1), both(3), both(3, 1), both(4, 1), both(5, 1), both(5, 1), both(5, 1)]  # fmt: skip


def test_shown_by_replaces_a_log_not_released_yet_by_those_it_builds_on(storage: SqlStorage) -> None:
    first = Author("ada", 1)
    storage.commit([released(first.begins("1", "2"), 1)])
    second = Author("ada", 2, before=[first.mark])
    storage.commit([released(second.begins("3"), 3)])
    third = Author("ada", 3, before=[second.mark])
    storage.commit([released(third.begins("4"), 4)])
    tips = (third.log,)
    ends = [(first, 1), (first, 2), (second, 1), (third, 1)]
    assert [storage.shown_by(ShownKey(place, tips)) for place in (0, 1, 2, 3, 4)] == [
        [], *([(log.log, seq, log.mark_at(seq).chain)] for log, seq in ends)]  # fmt: skip


def test_statements_about_members_are_stored_until_they_are_not_kept_any_more(storage: SqlStorage) -> None:
    founder = Identity.from_seed(b"f" * 32)
    network = network_id(founder.peer_id)
    first, second, third = (
        make_statement(network, founder.peer_id, founder.sign, "add", at, {"who": [user(name)]})
        for at, name in enumerate(("ada", "bob", "cyd"), 1)
    )
    storage.commit([Change(statements=[first, second])])
    storage.commit([Change(statements=[third], unstated=[first.id, third.id])])  # also one that came in this change
    assert storage.load([]).statements == [(second.text, second.signature)]


# ---- users a gateway hosts, and what lets programs act for them


def test_hosted_users_are_stored_in_order_until_removed(storage: SqlStorage) -> None:
    zoe, yan = (
        StoredUser(user(name), bytes([n]) * 32, name, n, f"{name} \0 42") for n, name in ((2, "zoë"), (1, "yan"))
    )
    storage.commit([Change(hosted=[zoe, yan])])
    assert storage.hosted() == [yan, zoe]
    renamed = zoe.replace(name="zoe")
    storage.commit([Change(hosted=[renamed])])
    assert storage.hosted() == [yan, renamed]
    storage.commit([Change(unhosted=[yan.id])])
    assert storage.hosted() == [renamed]
    assert "02" * 32 not in repr(renamed) and "\\x02" not in repr(renamed)


def test_tokens_are_removed_with_their_user(storage: SqlStorage) -> None:
    zoe, yan = (StoredUser(user(name), bytes([n]) * 32, name, n, name) for n, name in ((1, "zoe"), (2, "yan")))
    tokens = [Token(bytes([9 - n]) * 32, whose.id, n, f"label {n}") for n, whose in enumerate((zoe, yan, zoe))]
    storage.commit([Change(hosted=[zoe, yan], tokens=tokens)])
    assert storage.tokens() == tokens and storage.tokens(zoe.id) == [tokens[0], tokens[2]]
    storage.commit([Change(revoked=[tokens[0].hash], tokens=[tokens[2].replace(label="another")])])
    assert [token.label for token in storage.tokens(zoe.id)] == ["another"]
    storage.commit([Change(unhosted=[zoe.id])])
    assert storage.tokens() == [tokens[1]]


def test_load_users_agrees_with_load(storage: SqlStorage) -> None:
    ada, bob = Author("ada", 1), Author("bob", 2)
    change = Change()
    change.delivered.append(DeliveredMark(ada.log, user("bob"), 2))
    change.reads += [ReadMark(bob.log, user("ada"), 1, AT), ReadMark(ada.log, user("bob"), 1, AT)]
    storage.commit([ada.begins("one", "two"), bob.begins("three"), change])
    known, every = storage.load_users([user("ada")]), storage.load([user("ada")])
    assert known.delivered == every.delivered == [DeliveredMark(ada.log, user("bob"), 2)]
    assert sorted(known.reads, key=str) == sorted(every.reads, key=str) and len(known.reads) == 2
    many = [f"{n:064x}" for n in range(1200)]
    assert storage.load_users([*many, user("bob"), *many]).reads != []
