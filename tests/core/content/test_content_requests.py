"""Requests of content: what comes by itself, how much of it, and what is left to do after a restart."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest
from msgspec import structs

from p2pchat.core import effects as out
from p2pchat.core.content import content_requests, transfers
from p2pchat.core.durable_changes import DiskLevel
from p2pchat.core.inputs import (
    CommitFailed,
    Committed,
    ContentAnswered,
    ContentFailed,
    ContentGivenUp,
    ContentOpened,
    ContentRemoved,
    ContentWanted,
    DiskLow,
    PiecesStored,
    QuotaLifted,
    StatementsMade,
)
from p2pchat.core.log import Entry, FileRef, Ref, encode_entry, ref_key, stub_of
from p2pchat.protocol import PIECE_BYTES, Lacks, Peers
from tests.core.content.test_transfers import done, give, pulls
from tests.core.founded_peers import guest, of_founder
from tests.core.members.test_statement_exchange import FOUNDER
from tests.core.members.test_statement_exchange import said as statement
from tests.core.scripted_nodes import IDS, NAMES, START, Author, Far, Peer, World

SMALL = 1000
LEAST = content_requests.LEAST_CHARGE
LARGE = PIECE_BYTES  # counts as much as any larger one
LARGE_OF_ONE = content_requests.OF_ONE_BYTES // LARGE


def file(index: int, size: int = SMALL) -> FileRef:
    return FileRef(f"{index}.txt", size, "", f"{index:064x}")


def said(bob: Author, far: Far, *files: FileRef) -> None:
    far.say(bob.write(encode_entry(Entry("text", START + bob.seq, START + bob.seq + 1, b="", files=files))))


def said_many(eve: Author, far: Far, many: int, size: int) -> None:
    """Name so many files, ten in a message."""
    for first in range(0, many, 10):
        said(eve, far, *(file(first + index, size) for index in range(10)))


def linked(ada: Peer, name: str, *authors: Author, host: str = "10.0.0.9") -> Far:
    far = ada.far(name, *authors, host=host)
    far.say(Peers(can=["files"]))
    ada.take()
    return far


def opened(ada: Peer) -> list[str]:
    return [effect.root for effect in done(ada, out.OpenContent)]


def arrive(ada: Peer, far: Far, one: FileRef) -> None:
    """Have content of one piece come whole."""
    ada.put(ContentOpened(one.root, [0]))
    ((n, _, _),) = pulls(far)
    give(far, n, (0, bytes(one.size)))
    ada.put(PiecesStored(far.link, one.root, [0], []))
    ada.take()


def test_small_files_of_shown_messages_come_and_larger_ones_do_not() -> None:
    ada, bob = World().peer("ada", auto_fetch_bytes=SMALL), Author("bob", "b1")
    far = linked(ada, "bob")
    said(bob, far, file(1, SMALL + 1), file(2))
    assert opened(ada) == [file(2).root]
    arrive(ada, far, file(2))
    assert done(ada, out.ContentArrived) and opened(ada) == []
    assert not [name for name in ada.storage.load([ada.id]).meta if name.startswith(content_requests.PREFIX)]


def test_files_of_a_message_come_whose_text_came_late() -> None:
    ada, bob = World().peer("ada", auto_fetch_bytes=SMALL), Author("bob", "b1")
    far = linked(ada, "bob")
    frame = bob.write(encode_entry(Entry("text", START, START + 1, b="", files=(file(1),))))
    far.say(structs.replace(frame, e=[(c, stub_of(str(text))) for c, text in frame.e]))
    assert opened(ada) == []
    far.say(structs.replace(frame, names=[]))
    assert opened(ada) == [file(1).root]


def test_files_of_a_message_come_whose_text_came_before_its_stub_was_stored() -> None:
    """Seed 3300150, --files, with groups: the stub is shown first, and its place in the history names no file yet."""
    ada, bob = World().peer("ada", auto_fetch_bytes=SMALL), Author("bob", "b1")
    far = linked(ada, "bob")
    frame = bob.write(encode_entry(Entry("text", START, START + 1, b="", files=(file(1),))))
    ada.holding = True
    far.say(structs.replace(frame, e=[(c, stub_of(str(text))) for c, text in frame.e]))
    far.say(structs.replace(frame, names=[]))
    assert len(ada.held) > 1
    while ada.held:
        first, *ada.held = ada.held
        ada.storage.commit([first.change])
        ada.put(Committed([first.ticket]))
        ada.take()
    ada.holding = False
    assert opened(ada) == [file(1).root]


def test_files_of_a_message_come_whose_text_came_while_it_waited_for_another() -> None:
    """Seed 2000341, --files, with groups."""
    ada, bob = World().peer("ada", auto_fetch_bytes=SMALL), Author("bob", "b1")
    far = linked(ada, "bob")
    after = (Ref(ref_key(IDS["cyd"], "cc" * 8), 1),)
    far.say(bob.write(encode_entry(Entry("text", START, START + 1, after=after, b="it waits"))))
    frame = bob.write(encode_entry(Entry("text", START, START + 2, b="", files=(file(1),))))
    far.say(structs.replace(frame, e=[(c, stub_of(str(text))) for c, text in frame.e]))
    far.say(structs.replace(frame, names=[]))
    assert opened(ada) == [] and ada.texts() == []
    ada.world.pass_time(2 * ada.node.settings.order_wait_most)
    ada.take()
    assert len(ada.texts()) == 2 and opened(ada) == [file(1).root]


def test_nothing_comes_by_itself_where_that_is_switched_off() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    said(bob, linked(ada, "bob"), file(1))
    assert opened(ada) == []


def test_few_come_at_a_time_and_those_of_which_nothing_comes_let_others_pass() -> None:
    ada, bob = World().peer("ada", auto_fetch_bytes=LARGE), Author("bob", "b1")
    far = ada.far("bob")  # it takes no files
    said(bob, far, *(file(index, LARGE) for index in range(6)))
    first = opened(ada)
    assert first == [file(index).root for index in range(LARGE_OF_ONE)]
    for root in first:
        ada.put(ContentOpened(root, [0]))
    for _ in range(round(transfers.STALLED_AFTER) + 2):
        ada.world.pass_time(transfers.CHECK_EVERY)
    assert {file(index).root for index in (3, 4, 5)} <= {*opened(ada)}


def test_many_small_files_come_at_a_time_and_the_next_ones_with_the_commit_of_those_that_came() -> None:
    ada, bob = World().peer("ada", auto_fetch_bytes=SMALL), Author("bob", "b1")
    far = linked(ada, "bob")
    said_many(bob, far, 400, SMALL)
    many = content_requests.OF_ONE_BYTES // content_requests.LEAST_COST
    begun = opened(ada)
    assert begun == [file(index).root for index in range(many)]
    for root in begun:
        ada.put(ContentOpened(root, [0]))
    asked = pulls(far)
    assert len(asked) == transfers.MAX_PULLS
    give(far, asked[0][0], (0, bytes(SMALL)))
    assert len(pulls(far)) == 1  # the next one at once, before the first is stored
    ada.holding = True
    for root in begun[:5]:
        ada.put(PiecesStored(far.link, root, [0], []))
    assert opened(ada) == []
    ada.commit()
    assert opened(ada) == [file(index).root for index in range(many, many + 5)]


def test_what_came_together_ends_with_one_commit() -> None:
    ada, bob = World().peer("ada", auto_fetch_bytes=SMALL), Author("bob", "b1")
    far = linked(ada, "bob")
    said(bob, far, *(file(index) for index in range(5)))
    ada.put(ContentAnswered([ContentOpened(root, [0]) for root in opened(ada)]))
    for n, _, _ in pulls(far):
        give(far, n, (0, bytes(SMALL)))
    ada.put(ContentAnswered([PiecesStored(far.link, file(index).root, [0], []) for index in range(5)]))
    ended = [
        [name for name, line in commit.change.meta.items() if name.startswith(content_requests.PREFIX) and line is None]
        for commit in done(ada, out.Commit)
    ]
    assert [each for each in ended if each] == [[content_requests.PREFIX + file(index).root for index in range(5)]]


def test_what_is_left_comes_after_a_restart_whoever_wanted_it() -> None:
    ada, bob = World().peer("ada", auto_fetch_bytes=SMALL), Author("bob", "b1")
    far = linked(ada, "bob")
    said(bob, far, file(1), file(2, SMALL + 1), file(3, SMALL + 1))
    for one in (file(2, SMALL + 1), file(3, SMALL + 1)):
        ada.put(ContentWanted(bob.log, 1, one))
    ada.put(ContentGivenUp(file(3).root))
    ada.take()
    assert sorted(opened(ada)) == [file(index).root for index in (1, 2, 3)]
    ada.restart()
    ada.take()
    assert sorted(opened(ada)) == [file(1).root, file(2).root]
    ada.put(ContentFailed(file(1).root, "no room"))
    ada.take()
    ada.restart()
    ada.take()
    assert sorted(opened(ada)) == [file(1).root, file(2).root]


def test_a_kill_behind_the_commit_that_shows_a_message_does_not_lose_its_files() -> None:
    ada, bob = World().peer("ada", auto_fetch_bytes=SMALL), Author("bob", "b1")
    far = linked(ada, "bob")
    ada.holding = True
    said(bob, far, file(1))
    assert opened(ada) == []  # what is not durable cannot be looked up
    ada.storage.commit([each.change for each in ada.held])
    ada.holding = False
    ada.restart()
    ada.take()
    assert opened(ada) == [file(1).root]


def test_files_of_a_message_that_waited_for_another_over_a_restart_come() -> None:
    ada, bob = World().peer("ada", auto_fetch_bytes=SMALL), Author("bob", "b1")
    far = linked(ada, "bob")
    missing = (Ref(ref_key(IDS["cyd"], "cc" * 8), 1),)
    far.say(bob.write(encode_entry(Entry("text", START, START + 1, after=missing, b="", files=(file(1),)))))
    assert ada.texts() == []
    ada.restart()
    far = linked(ada, "bob", bob)
    ada.world.pass_time(2 * ada.node.settings.order_wait_most)
    ada.take()
    assert len(ada.texts()) == 1 and opened(ada) == [file(1).root]


def test_a_file_of_a_shown_message_comes_however_many_that_wait_name_it() -> None:
    ada, bob, dan = World().peer("ada", auto_fetch_bytes=SMALL), Author("bob", "b1"), Author("dan", "d1")
    far, missing = linked(ada, "bob"), (Ref(ref_key(IDS["cyd"], "cc" * 8), 1),)
    for n in range(1, 10):
        far.say(bob.write(encode_entry(Entry("text", START, START + n, after=missing, b="", files=(file(1),)))))
    said(dan, far, file(1))
    assert len(ada.texts()) == 1 and opened(ada) == [file(1).root]


def test_messages_that_wait_and_name_one_file_take_little_memory() -> None:
    ada, bob = World().peer("ada", auto_fetch_bytes=SMALL), Author("bob", "b1")
    far, missing = linked(ada, "bob"), (Ref(ref_key(IDS["cyd"], "cc" * 8), 1),)
    for n in range(1, 100):
        far.say(bob.write(encode_entry(Entry("text", START, START + n, after=missing, b="", files=(file(1),)))))
    requests = ada.node.replicator.transfers.requests
    assert sum(map(len, requests.unshown.values())) <= 1 + content_requests.MAX_MESSAGES
    ada.world.pass_time(2 * ada.node.settings.order_wait_most)
    ada.take()
    assert len(ada.texts()) == 99 and {*opened(ada)} == {file(1).root}


def test_a_kill_behind_the_commit_that_shows_a_message_which_waited_does_not_lose_its_files() -> None:
    """Seed 1361001 of --members --files."""
    ada, bob = World().peer("ada", auto_fetch_bytes=SMALL), Author("bob", "b1")
    far = linked(ada, "bob")
    missing = (Ref(ref_key(IDS["cyd"], "cc" * 8), 1),)
    far.say(bob.write(encode_entry(Entry("text", START, START + 1, after=missing, b="", files=(file(1),)))))
    ada.hold_lookups = True
    ada.world.pass_time(2 * ada.node.settings.order_wait_most)
    ada.take()
    assert len(ada.texts()) == 1 and opened(ada) == []
    ada.hold_lookups = False
    ada.restart()
    ada.take()
    assert opened(ada) == [file(1).root]


@pytest.mark.parametrize("waits", [False, True])
def test_files_of_many_messages_that_come_at_once_all_come(waits: bool) -> None:
    """As for somebody who was away: one commit takes hundreds, and those that wait for another are shown later."""
    ada, bob = World().peer("ada", auto_fetch_bytes=SMALL), Author("bob", "b1")
    far = linked(ada, "bob")
    after = (Ref(ref_key(IDS["cyd"], "cc" * 8), 1),) if waits else ()
    far.say(
        bob.write(
            *(encode_entry(Entry("text", START, START + n, after=after, b="", files=(file(n),))) for n in range(1, 6))
        )
    )
    if waits:
        assert opened(ada) == []
        ada.world.pass_time(2 * ada.node.settings.order_wait_most)
        ada.take()
    assert len(ada.texts()) == 5
    assert sorted(opened(ada)) == [file(n).root for n in range(1, 6)]


def test_who_asks_while_storage_does_not_work_is_told_so() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    said(bob, linked(ada, "bob"), file(1))
    ada.put(CommitFailed(0, "no room"))
    ada.put(ContentWanted(bob.log, 1, file(1)))
    (stopped,) = done(ada, out.ContentStopped)
    assert stopped.root == file(1).root and "storage" in stopped.text and opened(ada) == []


def test_a_writer_who_has_no_room_left_is_shown_and_its_files_come_when_they_are_asked_for() -> None:
    ada, bob = World().peer("ada", contact_bytes=2 * LEAST, auto_fetch_bytes=SMALL), Author("bob", "b1")
    ada.node.contacts.add([IDS["bob"]])
    far = linked(ada, "bob")
    said(bob, far, file(1), file(2), file(3))
    assert opened(ada) == [file(1).root, file(2).root]
    ada.put(ContentWanted(bob.log, 1, file(3)))
    assert opened(ada) == [file(3).root]
    ada.restart()
    ada.node.contacts.add([IDS["bob"]])
    far = linked(ada, "bob")
    ada.take()
    ada.effects.clear()
    said(bob, far, file(4))
    assert file(4).root not in opened(ada)  # what came counts after a restart too


def test_content_that_is_here_already_costs_its_writer_nothing() -> None:
    ada, bob = World().peer("ada", contact_bytes=2 * LEAST, auto_fetch_bytes=SMALL), Author("bob", "b1")
    ada.node.contacts.add([IDS["bob"]])
    far = linked(ada, "bob")
    for index in range(5):
        said(bob, far, file(index))
        assert opened(ada) == [file(index).root]
        ada.put(ContentOpened(file(index).root, []))
        ada.take()


def test_who_is_no_contact_has_the_room_of_its_member() -> None:
    ada, bob = World().peer("ada", member_bytes=2 * LEAST, auto_fetch_bytes=SMALL), Author("bob", "b1")
    said(bob, linked(ada, "bob"), file(1), file(2), file(3))
    assert opened(ada) == [file(1).root, file(2).root]


def test_removal_gives_a_writer_room_back_after_a_restart_too() -> None:
    ada, bob = World().peer("ada", contact_bytes=2 * LEAST, auto_fetch_bytes=SMALL), Author("bob", "b1")
    ada.node.contacts.add([IDS["bob"]])
    far = linked(ada, "bob")
    said(bob, far, file(1), file(2))
    for index in (1, 2):
        arrive(ada, far, file(index))
    ada.restart()
    ada.node.contacts.add([IDS["bob"]])
    far = linked(ada, "bob")
    assert ada.storage.meta()[content_requests.CHARGE + file(1).root] == f"{IDS['bob']} {LEAST}"
    for index in (1, 1, 7):  # twice, before its commit is durable; and one of which nothing was charged
        ada.put(ContentRemoved(file(index).root))
    ada.take()
    ada.effects.clear()
    said(bob, far, file(3), file(4))
    assert opened(ada) == [file(3).root]
    assert content_requests.CHARGE + file(1).root not in ada.storage.meta()


def test_content_that_is_charged_costs_nobody_more() -> None:
    """Before: a second request took the line of the first one, and a restart counted less."""
    ada = World().peer("ada", auto_fetch_bytes=SMALL)
    for name in ("bob", "cyd"):
        far = linked(ada, name)
        said(Author(name, f"{name[0]}1"), far, file(1))
        arrive(ada, far, file(1))  # the second time it had gone from the disk, and nobody had said so
    for _ in range(2):
        assert +ada.node.replicator.quota.files.of_user == {IDS["bob"]: LEAST}
        ada.restart()


def test_the_download_of_what_is_removed_ends_and_costs_nothing() -> None:
    ada, bob = World().peer("ada", contact_bytes=LEAST, auto_fetch_bytes=SMALL), Author("bob", "b1")
    ada.node.contacts.add([IDS["bob"]])
    far = linked(ada, "bob")
    said(bob, far, file(1))
    assert opened(ada) == [file(1).root]
    ada.put(ContentRemoved(file(1).root))
    ada.take()
    assert [effect.root for effect in done(ada, out.ContentStopped)] == [file(1).root]
    ada.effects.clear()
    said(bob, far, file(2))
    assert opened(ada) == [file(2).root]


def test_what_a_program_has_forgotten_comes_when_it_is_asked_for_and_not_by_itself() -> None:
    ada, bob = World().peer("ada", auto_fetch_bytes=SMALL), Author("bob", "b1")
    far = linked(ada, "bob")
    said(bob, far, file(1))
    arrive(ada, far, file(1))
    ada.put(ContentRemoved(file(1).root, forgotten=True))
    ada.take()
    ada.restart()
    far = linked(ada, "bob")
    ada.effects.clear()
    said(bob, far, file(1), file(2))
    assert opened(ada) == [file(2).root]
    ada.effects.clear()
    ada.put(ContentWanted(bob.log, 1, file(1)))
    assert opened(ada) == [file(1).root]
    assert content_requests.FORGOTTEN + file(1).root not in ada.storage.meta()


def test_few_of_those_that_were_forgotten_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_requests, "MAX_FORGOTTEN", 3)
    ada = World().peer("ada", auto_fetch_bytes=SMALL)
    for index in range(5):
        ada.put(ContentRemoved(file(index).root, forgotten=True))
    ada.take()
    names = [content_requests.FORGOTTEN + file(index).root for index in range(5)]
    assert [name for name in names if name in ada.storage.meta()] == names[2:]


# ---- members who name what never comes


def test_nobody_keeps_the_files_of_others_away_by_naming_many() -> None:
    ada = World().peer("ada", auto_fetch_bytes=LARGE)
    eve, bob, cyd = Author("eve", "e1"), Author("bob", "b1"), Author("cyd", "c1")
    ada.node.contacts.add([IDS["cyd"]])
    far = linked(ada, "eve", host="45.66.66.1")
    said_many(eve, far, 60, LARGE)
    assert len(opened(ada)) == LARGE_OF_ONE
    said(bob, linked(ada, "bob", host="45.1.0.1"), file(2000))
    said(cyd, linked(ada, "cyd", host="45.66.66.3"), file(3000))
    assert opened(ada) == [file(2000).root, file(3000).root]


def test_all_content_of_contacts_comes_however_much_waits_also_after_a_restart() -> None:
    ada, bob = World().peer("ada", auto_fetch_bytes=LARGE), Author("bob", "b1")
    ada.put(QuotaLifted(IDS["bob"]))
    said_many(bob, linked(ada, "bob"), 300, LARGE)
    came: set[str] = set()
    while begun := [root for root in opened(ada) if root not in came]:
        if len(came) == 90:
            ada.restart()
            linked(ada, "bob", bob)
            begun = opened(ada)
        for root in begun:
            came.add(root)
            ada.put(ContentOpened(root, []))
        ada.take()
    assert came == {file(index).root for index in range(300)}
    assert requested(ada) == set()


def requested(ada: Peer) -> set[str]:
    """Return the roots of what would be fetched after a kill."""
    prefix = content_requests.PREFIX
    return {name.removeprefix(prefix) for name in ada.storage.load([ada.id]).meta if name.startswith(prefix)}


def test_what_somebody_asked_for_has_its_turn_before_what_comes_by_itself_after_a_restart_too() -> None:
    ada, eve = World().peer("ada", auto_fetch_bytes=SMALL), Author("eve", "e1")
    said_many(eve, linked(ada, "eve", host="45.66.66.1"), 50, SMALL)
    ada.put(ContentWanted(eve.log, 5, file(49)))
    ada.effects.clear()
    ada.restart()
    ada.take()
    first, second, *_ = opened(ada)
    assert file(49).root in (first, second)


def test_what_somebody_asked_for_is_never_forgotten() -> None:
    ada, bob, eve = World().peer("ada", auto_fetch_bytes=SMALL), Author("bob", "b1"), Author("eve", "e1")
    ada.put(QuotaLifted(IDS["bob"]))
    fars = [linked(ada, "bob"), linked(ada, "eve", host="45.66.66.1")]
    said_many(bob, fars[0], 40, SMALL + 1)
    said(eve, fars[1], *(file(200 + index, SMALL) for index in range(10)))
    said(eve, fars[1], *(file(300 + index) for index in range(5)))
    asked = [(bob, 1 + index // 10, file(index, SMALL + 1)) for index in range(40)]
    asked += [(eve, 2, file(300 + index)) for index in range(5)]  # which came by themselves too, behind ten others
    for author, seq, one in asked:
        ada.put(ContentWanted(author.log, seq, one))
    wanted = {one.root for _, _, one in asked}
    for _ in range(2):
        ada.effects.clear()
        ada.restart()
        ada.put(QuotaLifted(IDS["bob"]))
        ada.take()
        assert wanted <= requested(ada)
    came: set[str] = set()
    for _ in range(40):
        for root in {*opened(ada)} - came:
            came.add(root)
            ada.put(ContentOpened(root, []))
        ada.world.pass_time(transfers.CHECK_EVERY)
    assert wanted <= came and not wanted & requested(ada)


def test_what_somebody_asked_for_once_it_had_begun_gives_its_turn_to_others() -> None:
    ada, eve = World().peer("ada", auto_fetch_bytes=LARGE), Author("eve", "e1")
    said_many(eve, linked(ada, "eve", host="45.66.66.1"), 10, LARGE)
    assert opened(ada) == [file(index).root for index in range(LARGE_OF_ONE)]
    for index in range(LARGE_OF_ONE):
        ada.put(ContentWanted(eve.log, 1, file(index, LARGE)))
    ada.put(ContentOpened(file(0).root, []))
    ada.put(ContentFailed(file(1).root, "no room"))
    ada.take()
    assert opened(ada) == [file(index).root for index in (3, 4)]


def test_what_was_asked_for_once_it_had_begun_is_tried_again_after_a_failure() -> None:
    ada, eve = World().peer("ada", auto_fetch_bytes=SMALL), Author("eve", "e1")
    said(eve, linked(ada, "eve", host="45.66.66.1"), file(1))
    ada.put(ContentWanted(eve.log, 1, file(1)))
    assert opened(ada) == [file(1).root]
    ada.put(ContentFailed(file(1).root, "no room"))
    ada.take()
    ada.world.pass_time(content_requests.RETRY_AFTER + 1)
    ada.take()
    assert opened(ada) == [file(1).root]


def test_files_of_all_users_of_a_member_share_its_room_over_a_restart() -> None:
    """Of a gateway each account has a part, so that one never shuts the others out."""
    begin = partial(of_founder, auto_fetch_bytes=100_000, member_bytes=1_000_000, user_least_bytes=50_000, user_part=4)
    ada = begin()
    said(guest("bob"), linked(ada, "eve"), *(file(index, 100_000) for index in range(9)))
    assert charged(ada) == {"bob": 200_000}  # a quarter of the rest is as much
    said(guest("dan"), linked(ada, "eve"), file(100, 100_000))
    assert charged(ada) == {"bob": 200_000, "dan": 100_000}
    again = begin(ada.storage)
    said(guest("bob", run="b2"), linked(again, "eve"), file(200, 100_000))
    said(guest("cyd"), linked(again, "eve"), *(file(300 + index, 100_000) for index in range(9)))
    assert charged(again) == {"bob": 200_000, "dan": 100_000, "cyd": 700_000}


def test_an_expelled_member_leaves_the_room_of_its_files_to_the_others() -> None:
    ada = of_founder(auto_fetch_bytes=100_000, others_bytes=150_000)
    link = linked(ada, "eve")
    said(guest("bob"), link, file(1, 100_000))
    said(guest("dan", "dan"), link, file(2, 100_000))
    assert charged(ada) == {"bob": 100_000}
    ada.put(StatementsMade([statement(FOUNDER, "remove", IDS["cyd"])]))
    ada.take()
    said(guest("dan", "dan", "d2"), link, file(3, 100_000))
    assert charged(ada) == {"bob": 100_000, "dan": 100_000}


def test_files_of_who_is_out_count_together_also_of_a_contact() -> None:
    ada = of_founder(auto_fetch_bytes=100_000, member_bytes=250_000, user_least_bytes=250_000)
    ada.node.contacts.add([IDS["bob"]])
    link = linked(ada, "eve")
    said(guest("cyd"), link, file(1, 100_000))
    ada.put(StatementsMade([statement(FOUNDER, "remove", IDS["cyd"])]))
    ada.take()
    for index, name in enumerate(("bob", "dan", "cyd"), 2):
        said(guest(name, run=f"{name[0]}2"), link, file(index, 100_000))
    assert charged(ada) == {"cyd": 100_000, "bob": 100_000}


def test_files_of_the_hidden_neither_come_nor_count() -> None:
    """Of two that are expelled, one is hidden: nobody sees what it names. What waited for its turn comes no more."""
    ada = of_founder(auto_fetch_bytes=LARGE)
    far = linked(ada, "eve")
    said(bob := guest("bob"), far, *(file(index, LARGE) for index in range(LARGE_OF_ONE + 1)))
    for one in opened(ada):
        ada.put(ContentOpened(one, [0]))
    ada.put(
        StatementsMade([statement(FOUNDER, "remove", IDS["cyd"], hide=True), statement(FOUNDER, "remove", IDS["dan"])])
    )
    said(bob, far, file(7))
    said(guest("dan", "dan"), far, file(8))
    for _ in range(round(transfers.STALLED_AFTER) + 2):
        ada.world.pass_time(transfers.CHECK_EVERY)
    assert {*opened(ada)} == {file(8).root}
    assert "bob" not in charged(ada) and not ada.node.replicator.quota.files.of_user[IDS["bob"]]


def test_who_becomes_a_contact_leaves_the_room_of_its_files_to_the_others() -> None:
    ada = of_founder(auto_fetch_bytes=100_000, others_bytes=150_000)
    link = linked(ada, "eve")
    said(guest("bob"), link, file(1, 100_000))
    ada.node.contacts.add([IDS["bob"]])
    said(guest("dan", "dan"), link, file(2, 100_000))
    assert charged(ada) == {"bob": 100_000, "dan": 100_000}


def charged(ada: Peer) -> Counter[str]:
    """Return what users are charged with for files that come by themselves."""
    lines = [line.split() for name, line in ada.load().meta.items() if name.startswith(content_requests.PREFIX)]
    found = Counter[str]()
    for line in lines:
        found[NAMES[line[1]]] += int(line[5])
    return found


def test_with_little_free_disk_no_file_comes_by_itself() -> None:
    ada, cyd = World().peer("ada", auto_fetch_bytes=LARGE), Author("cyd", "c1")
    ada.node.contacts.add([IDS["cyd"]])
    link = linked(ada, "cyd")
    said(cyd, link, *(file(index, LARGE) for index in range(5)))
    assert len(opened(ada)) == LARGE_OF_ONE
    ada.put(DiskLow(DiskLevel.OWN_ONLY))
    for index in range(LARGE_OF_ONE):
        ada.put(ContentFailed(file(index).root, "no room"))
    assert opened(ada) == []


def test_content_that_cannot_be_kept_is_tried_again_later() -> None:
    ada, bob = World().peer("ada", auto_fetch_bytes=LARGE), Author("bob", "b1")
    far = linked(ada, "bob")
    said(bob, far, *(file(index, LARGE) for index in range(4)))
    assert opened(ada) == [file(index).root for index in range(3)]
    ada.put(ContentFailed(file(0).root, "no room"))
    assert opened(ada) == [file(3).root]  # it has the turn meanwhile
    arrive(ada, far, file(1, LARGE))
    ada.world.pass_time(content_requests.RETRY_AFTER - 1)
    assert opened(ada) == []
    ada.world.pass_time(2)
    assert opened(ada) == [file(0).root]
    ada.put(ContentFailed(file(0).root, "no room"))
    ada.put(ContentRemoved(file(0).root))
    ada.world.pass_time(2 * content_requests.RETRY_AFTER)
    assert opened(ada) == []


def test_content_in_two_sizes_is_no_attachment() -> None:
    """The smaller one would come by itself, as the larger one."""
    ada, bob = World().peer("ada", auto_fetch_bytes=SMALL), Author("bob", "b1")
    said(bob, linked(ada, "bob"), file(1, 2**34), file(1))
    assert opened(ada) == []
    said(bob, linked(ada, "bob"), file(2), file(2))
    assert opened(ada) == [file(2).root]


def test_content_that_another_message_named_first_comes_all_the_same() -> None:
    """Eve's message names in another size what bob's names: nobody has that, and bob's has its turn."""
    ada, eve, bob = World().peer("ada", auto_fetch_bytes=SMALL), Author("eve", "e1"), Author("bob", "b1")
    fars = [linked(ada, "eve", host="45.66.66.1"), linked(ada, "bob", host="45.1.0.1")]
    said(eve, fars[0], file(1, SMALL - 1))
    said(bob, fars[1], file(1))
    sizes = []
    for _ in range(30):
        for effect in done(ada, out.OpenContent):
            sizes.append(effect.size)
            ada.put(ContentOpened(effect.root, [0]))
        ada.world.pass_time(1.0)
        for far in fars:
            for n, *_ in pulls(far):
                far.say(Lacks(n))
    assert sizes[:2] == [SMALL - 1, SMALL]
