"""Transfers of content: who is asked for which pieces, and who is given any."""

from __future__ import annotations

from collections import deque
from typing import TypeVar

import pytest

from p2pchat.core import effects as out
from p2pchat.core.content import transfers
from p2pchat.core.content.pieces import PIECE_BYTES
from p2pchat.core.durable_changes import DiskLevel
from p2pchat.core.groups.group_fact import REMOVE
from p2pchat.core.inputs import (
    ContentFailed,
    ContentGivenUp,
    ContentOpened,
    ContentWanted,
    DiskLow,
    Got,
    LeavesStored,
    PiecesStored,
    PullAnswered,
    WriteRequest,
)
from p2pchat.core.log import Entry, FileRef, LogId, Marks, Ref, encode_entry, ref_key
from p2pchat.protocol import Lacks, Peers, Piece, Pull
from tests.core.founded_peers import answers_for, guest, of_founder
from tests.core.groups.test_groups_ingest import Away
from tests.core.scripted_nodes import ROOM, START, Author, Far, Peer, World

E = TypeVar("E", bound=out.Effect | out.ContentOrder)
ROOT, SIZE = "ab" * 32, 20 * PIECE_BYTES
FILE = FileRef("a.png", SIZE, "image/png", ROOT)


def holder(to: str = ROOM) -> tuple[Peer, LogId, int]:
    """Return ada, who wrote a message with a file, and its log and number."""
    ada = World().peer("ada")
    if to != ROOM:
        to = ada.open(to)
    ada.put(WriteRequest(1, ada.id, to, "text", [""], marks=Marks((FILE,))))
    ada.take()
    shown = ada.storage.places(0, 10)[-1]
    return ada, shown.log, shown.seq


def asker(ada: Peer | None = None, bob: Author | None = None, size: int = SIZE) -> tuple[Peer, Author]:
    """Return ada, who got a message with a file from bob, and his log."""
    ada, bob = ada or World().peer("ada"), bob or Author("bob", "b1")
    file = FileRef("a.png", size, "", ROOT)
    far = ada.far("bob")
    far.say(bob.write(encode_entry(Entry("text", START, START + 1, b="", files=(file,)))))
    ada.drop(far)
    ada.effects.clear()
    return ada, bob


def linked(ada: Peer, name: str, *authors: Author) -> Far:
    """Link with a far end that takes files."""
    far = ada.far(name, *authors)
    far.say(Peers(can=["later", "files"]))
    ada.effects.clear()
    return far


def done(ada: Peer, kind: type[E]) -> list[E]:
    """Return the effects of a kind since the last call for any."""
    ada.take()
    found: list[E] = [effect for effect in ada.effects if isinstance(effect, kind)]
    ada.effects = [effect for effect in ada.effects if not isinstance(effect, kind)]
    return found


def pulls(far: Far) -> list[tuple[int, int, int]]:
    """Return the pulls that a far end got since the last call: number, first piece, count."""
    got = [frame for frame in far.heard if isinstance(frame, Pull)]
    far.heard.clear()
    return [(frame.n, frame.first, frame.count) for frame in got]


def want(ada: Peer, bob: Author, file: FileRef = FILE) -> None:
    ada.put(ContentWanted(bob.log, 1, file))


def wanting() -> tuple[Peer, Author, Far]:
    """Return ada, who wants a file that bob sent, his log, and a link to his peer."""
    ada, bob_log = asker()
    bob = linked(ada, "bob", bob_log)
    want(ada, bob_log)
    return ada, bob_log, bob


def give(far: Far, n: int, *pieces: tuple[int, bytes]) -> list[str]:
    far.peer.put(Got(far.link, [Piece(n, index, data) for index, data in pieces]))
    return far.peer.take()


# ---- giving


def test_a_member_is_given_what_a_message_names_and_nothing_else() -> None:
    ada, log, seq = holder()
    bob = linked(ada, "bob")
    bob.say(Pull(7, *log, seq, ROOT, 3, 4))
    assert done(ada, out.GivePieces) == [out.GivePieces(bob.link, 7, ROOT, SIZE, 3, 4)]
    bob.say(Pull(8, *log, seq, ROOT, 0, 0))
    assert done(ada, out.GivePieces) == [out.GivePieces(bob.link, 8, ROOT, SIZE, 0, 0)]
    for other in (Pull(9, *log, seq, "cd" * 32, 0, 1), Pull(10, *log, seq + 1, ROOT, 0, 1),
                  Pull(11, log.conversation, log.user, "cc" * 8, seq, ROOT, 0, 1)):  # fmt: skip
        bob.heard.clear()
        bob.say(other)
        assert bob.heard == [Lacks(other.n)]
    assert done(ada, out.GivePieces) == []


def test_a_link_that_was_given_some_gets_nothing_more_of_a_deleted_message() -> None:
    ada, log, seq = holder()
    bob = linked(ada, "bob")
    bob.say(Pull(7, *log, seq, ROOT, 3, 4))
    assert len(done(ada, out.GivePieces)) == 1
    ada.put(WriteRequest(2, ada.id, ROOM, "delete", [""], Ref(ref_key(log.user, log.run), seq)))
    ada.take()
    bob.heard.clear()
    bob.say(Pull(8, *log, seq, ROOT, 7, 4))
    assert done(ada, out.GivePieces) == [] and bob.heard == [Lacks(8)]


def test_a_member_is_given_what_a_message_of_a_forked_log_names_also_after_a_restart() -> None:
    ada, bob = asker()
    bob_again = Author("bob", "b1")
    assert "warn fork" in ada.far("bob").say(bob_again.say("no"))
    ada.start()
    cyd = linked(ada, "cyd")
    cyd.heard.clear()
    cyd.say(Pull(1, *bob.log, 1, ROOT, 0, 1))
    assert done(ada, out.GivePieces) == [out.GivePieces(cyd.link, 1, ROOT, SIZE, 0, 1)]
    cyd.say(Pull(2, *bob.log, 2, ROOT, 0, 1))
    assert cyd.heard == [Lacks(2)]


@pytest.mark.parametrize("removed", [False, True])
def test_of_a_forked_log_in_a_group_is_given_what_nobody_cut_off(removed: bool) -> None:
    away = Away("cyd")
    talk = away.pen.talk
    cyd = Author("cyd", "c1", talk)
    message = cyd.write(encode_entry(Entry("text", 1, 1, b="", files=(FILE,))))
    lie = Author("cyd", "c1", talk).write(encode_entry(Entry("text", 1, 1, b="no")))
    away.bob.say(away.first, message)
    away.bob.say(lie)
    away.ada.start()
    bob = linked(away.ada, "bob")
    if removed:
        bob.say(away.pen.say("bob", REMOVE, "cyd"))
    bob.heard.clear()
    bob.say(Pull(1, *cyd.log, 1, ROOT, 0, 1))
    given = [] if removed else [out.GivePieces(bob.link, 1, ROOT, SIZE, 0, 1)]
    assert done(away.ada, out.GivePieces) == given and (Lacks(1) in bob.heard) == removed


def test_only_members_of_the_conversation_are_given_anything() -> None:
    ada, log, seq = holder("bob")
    bob, cyd = linked(ada, "bob"), linked(ada, "cyd")
    cyd.heard.clear()
    cyd.say(Pull(1, *log, seq, ROOT, 0, 1))
    assert cyd.heard == [Lacks(1)] and done(ada, out.GivePieces) == []
    bob.say(Pull(1, *log, seq, ROOT, 0, 1))
    assert done(ada, out.GivePieces) == [out.GivePieces(bob.link, 1, ROOT, SIZE, 0, 1)]


def test_a_link_has_128_pulls_open_each_of_64_pieces() -> None:
    ada, log, seq = holder()
    bob = linked(ada, "bob")
    for n in range(transfers.MAX_PULLS):
        assert not any("close" in line for line in bob.say(Pull(n, *log, seq, ROOT, 0, transfers.MAX_PULL_PIECES)))
    ada.put(PullAnswered(bob.link, 3))
    assert not any("close" in line for line in bob.say(Pull(128, *log, seq, ROOT, 0, 1)))
    bob.say(Pull(129, *log, seq, ROOT, 0, 1))
    assert closed(ada) == ["limit"]
    bob = linked(ada, "bob")
    bob.say(Pull(1, *log, seq, ROOT, 0, transfers.MAX_PULL_PIECES + 1))
    assert closed(ada) == ["limit"]


def closed(ada: Peer) -> list[str]:
    """Return the codes with which links were closed since the last call."""
    return [effect.bye.code for effect in done(ada, out.Close) if effect.bye]


# ---- asking


def test_leaves_come_first_and_then_few_pieces_at_a_time() -> None:
    ada, bob_log, bob = wanting()
    assert done(ada, out.OpenContent) == [out.OpenContent(ROOT, SIZE)]
    ada.put(ContentOpened(ROOT, None))
    assert pulls(bob) == [(1, 0, 0)]
    ada.world.pass_time(0.1)
    give(bob, 1, (0, b"leaves"))
    assert done(ada, out.StoreLeaves) == [out.StoreLeaves(bob.link, ROOT, SIZE, b"leaves")]
    ada.put(LeavesStored(bob.link, ROOT, True, range(20)))
    assert done(ada, out.ContentProgress) == [out.ContentProgress(bob_log.log, 1, FILE, 0)]
    assert pulls(bob) == [(2, 0, 4), (3, 4, 4), (4, 8, 4), (5, 12, 4)]
    ada.world.pass_time(0.1)
    give(bob, 2, *((index, b"x") for index in range(4)))
    assert [effect.pieces for effect in done(ada, out.StorePieces)] == [[(index, b"x")] for index in range(4)]
    for index in range(4):
        ada.put(PiecesStored(bob.link, ROOT, [index], []))
    assert pulls(bob) == [(6, 16, 4)]
    for n in range(3, 7):
        first = 4 * (n - 2)
        give(bob, n, *((index, b"x") for index in range(first, first + 4)))
        assert done(ada, out.ContentArrived) == []
        ada.put(PiecesStored(bob.link, ROOT, list(range(first, first + 4)), []))
    assert done(ada, out.ContentArrived) == [out.ContentArrived(bob_log.log, 1, FILE)]
    assert done(ada, out.ContentProgress)[-1] == out.ContentProgress(bob_log.log, 1, FILE, 16 * PIECE_BYTES)
    assert pulls(bob) == []


def test_a_near_link_is_asked_for_little_at_a_time_since_texts_wait_behind_it() -> None:
    ada, _, bob = wanting()
    ada.put(ContentOpened(ROOT, None))
    ada.world.pass_time(0.001)
    give(bob, 1, (0, b"leaves"))
    ada.put(LeavesStored(bob.link, ROOT, True, range(20)))
    assert [count for n, _, count in pulls(bob) if n > 1] == [1] * transfers.NEAR_PIECES
    give(bob, 2, (0, b"x"))
    ada.put(PiecesStored(bob.link, ROOT, [0], []))
    assert pulls(bob) == [(6, 4, 1)]


def test_many_small_files_are_asked_for_at_once() -> None:
    ada, bob_log = asker()
    most, bob = transfers.MAX_PULLS, ada.far("bob", bob_log)
    bob.say(Peers(can=["files"]))
    bob.heard.clear()
    files = [FileRef("a", 1024, "", f"{number:064x}") for number in range(200)]
    for file in files:
        want(ada, bob_log, file)
        ada.put(ContentOpened(file.root, [0]))
    assert [n for n, _, _ in pulls(bob)] == list(range(1, most + 1))
    give(bob, 1, (0, b"x"))
    bob.say(Lacks(2))
    assert [n for n, _, _ in pulls(bob)] == [most + 1, most + 2]


def test_what_is_here_already_is_not_asked_for() -> None:
    ada, bob_log, bob = wanting()
    ada.put(ContentOpened(ROOT, [3, 4, 19]))
    assert done(ada, out.ContentProgress) == [out.ContentProgress(bob_log.log, 1, FILE, 17 * PIECE_BYTES)]
    assert pulls(bob) == [(1, 3, 2), (2, 19, 1)]
    ada.put(ContentGivenUp(ROOT))
    give(bob, 1, (3, b"x"), (4, b"x"))
    assert done(ada, out.StorePieces) == []
    want(ada, bob_log)
    ada.put(ContentOpened(ROOT, []))
    assert done(ada, out.ContentArrived) == [out.ContentArrived(bob_log.log, 1, FILE)] and pulls(bob) == []


def test_several_links_are_asked_for_other_pieces() -> None:
    ada, bob_log = asker()
    cyd, bob = linked(ada, "cyd", bob_log), linked(ada, "bob", bob_log)
    old = ada.far("dan", bob_log)
    want(ada, bob_log)
    ada.put(ContentOpened(ROOT, range(20)))
    assert pulls(bob) == [(1, 0, 4), (2, 4, 4), (3, 8, 4), (4, 12, 4)]  # the writer's first
    assert pulls(cyd) == [(1, 16, 4)]
    assert pulls(old) == []  # it did not say that it knows files
    ada.drop(bob)
    assert sorted(first for _, first, _ in pulls(cyd)) == [4, 8, 12]
    ada.world.pass_time(0.1)
    give(cyd, 1, *((index, b"x") for index in range(16, 20)))
    ada.put(PiecesStored(cyd.link, ROOT, [16, 17, 18, 19], []))
    assert len(pulls(cyd)) == 1


def test_many_members_get_different_pieces_first_and_leave_the_writer_time_for_all() -> None:
    ada, bob_log = asker()
    bob, others = linked(ada, "bob", bob_log), [linked(ada, name, bob_log) for name in ("cyd", "dan")]
    want(ada, bob_log)
    ada.put(ContentOpened(ROOT, range(20)))
    first = int(ada.id[:8], 16) % 20
    asked = pulls(bob)
    assert asked == [(1, (20 - first) % 20, 1)]
    cyd, dan = (pulls(far) for far in others)
    assert sum(count for _, _, count in cyd + dan) == 19  # all are under way, most of them with others


def test_the_writer_is_asked_first_for_what_nobody_else_has() -> None:
    _, bob_log = asker()
    download = transfers.ContentDownload(FILE, (bob_log.log, 1), 0.0, asked=True, needed=deque([3, 4, 5, 6]))
    download.held = {1: bytearray([0, 0, 0, 1, 0, 0, 1]), 2: bytearray([0, 0, 0, 0, 1, 0, 1])}
    assert [transfers._take_rare(download) for _ in range(4)] == [5, 3, 4, 6]


def test_the_writer_gives_more_once_members_had_nothing_for_long() -> None:
    ada, bob_log = asker()
    bob, others = linked(ada, "bob", bob_log), [linked(ada, name, bob_log) for name in ("cyd", "dan")]
    want(ada, bob_log)
    ada.put(ContentOpened(ROOT, range(20)))
    assert sum(count for _, _, count in pulls(bob)) == 1
    for _ in range(8):
        for far in others:
            for n, _, _ in pulls(far):
                far.say(Lacks(n))
        ada.world.pass_time(transfers.CHECK_EVERY)
    assert sum(count for _, _, count in pulls(bob)) > transfers.NEAR_PIECES


@pytest.mark.parametrize("piece", [5, None], ids=["a piece", "the list"])
def test_a_peer_that_passes_on_something_wrong_keeps_its_link_and_is_asked_no_more(piece: int | None) -> None:
    """It may lack a check, or its disk errs: before, each link of it ended while anybody wanted the file."""
    ada, bob_log = asker()
    cyd, dan = linked(ada, "cyd", bob_log), linked(ada, "dan", bob_log)
    want(ada, bob_log)
    ada.put(ContentOpened(ROOT, None if piece is None else [piece]))
    [pull] = pulls(cyd)
    give(cyd, 1, (piece or 0, b"wrong"))
    ada.put(LeavesStored(cyd.link, ROOT, False) if piece is None else PiecesStored(cyd.link, ROOT, [], [piece]))
    assert pulls(dan) == [pull] and pulls(cyd) == [] and closed(ada) == []


def test_a_link_that_gives_a_wrong_piece_of_its_own_ends_and_another_is_asked() -> None:
    ada, bob_log = asker()
    bob, cyd = linked(ada, "bob", bob_log), linked(ada, "cyd", bob_log)
    want(ada, bob_log)
    ada.put(ContentOpened(ROOT, [5]))
    assert pulls(bob) == [(1, 5, 1)]
    give(bob, 1, (5, b"wrong"))
    ada.put(PiecesStored(bob.link, ROOT, [], [5]))
    assert pulls(cyd) == [(1, 5, 1)]
    assert closed(ada) == ["content"] and done(ada, out.ContentArrived) == []
    bob = linked(ada, "bob", bob_log)
    ada.drop(cyd)
    assert pulls(bob) == []  # nothing of this content any more


def test_wrong_leaves_are_the_fault_of_the_link() -> None:
    ada, bob_log = asker()
    bob, cyd = linked(ada, "bob", bob_log), linked(ada, "cyd", bob_log)
    want(ada, bob_log)
    ada.put(ContentOpened(ROOT, None))
    assert pulls(bob) == [(1, 0, 0)]
    give(bob, 1, (0, b"wrong"))
    ada.put(LeavesStored(bob.link, ROOT, False))
    assert closed(ada) == ["content"] and pulls(cyd) == [(1, 0, 0)]


@pytest.mark.parametrize("pieces", [[(9, 0, b"x")], [(1, 6, b"x")], [(1, 5, b"x"), (1, 5, b"x")]])
def test_a_piece_that_was_not_asked_for_ends_the_link(pieces: list[tuple[int, int, bytes]]) -> None:
    ada, _, bob = wanting()
    ada.put(ContentOpened(ROOT, [5]))
    ada.put(Got(bob.link, [Piece(*piece) for piece in pieces]))
    assert closed(ada) == ["order"]


def test_what_a_link_does_not_give_in_time_is_asked_of_others() -> None:
    ada, bob_log, bob = wanting()
    ada.put(ContentOpened(ROOT, [5, 6]))
    assert pulls(bob) == [(1, 5, 2)]
    cyd = linked(ada, "cyd", bob_log)
    ada.world.pass_time(transfers.STALLED_AFTER - 2)
    assert pulls(cyd) == []
    give(bob, 1, (5, b"x"))
    ada.put(PiecesStored(bob.link, ROOT, [5], []))
    ada.world.pass_time(transfers.STALLED_AFTER - 2)
    assert pulls(cyd) == []
    ada.world.pass_time(4)
    assert pulls(cyd) == [(1, 6, 1)]
    give(bob, 1, (6, b"late"))
    assert closed(ada) == [] and len(done(ada, out.StorePieces)) == 1


def slow_line(ada: Peer, far: Far, *, turns: int) -> list[int]:
    """Have a far end give a piece in 4 seconds of what it was asked for first. Return all pieces it was asked for."""
    asked: list[int] = []
    given: deque[tuple[int, int]] = deque()
    for _ in range(turns):
        for n, first, count in pulls(far):
            given.extend((n, index) for index in range(first, first + count))
            asked.extend(range(first, first + count))
        ada.world.pass_time(4)
        if given:
            n, index = given.popleft()
            give(far, n, (index, b"x"))
            for order in done(ada, out.StorePieces):
                ada.put(PiecesStored(far.link, order.root, [index for index, _ in order.pieces], []))
    return asked


def test_a_link_that_gives_slowly_gives_everything_and_is_asked_for_nothing_twice() -> None:
    ada, bob_log, bob = wanting()
    ada.put(ContentOpened(ROOT, list(range(20))))
    assert sorted(slow_line(ada, bob, turns=30)) == list(range(20))
    assert done(ada, out.ContentArrived) == [out.ContentArrived(bob_log.log, 1, FILE)]


def test_small_files_come_over_a_link_that_gives_slowly() -> None:
    ada, bob_log = asker()
    files = [FileRef("a", PIECE_BYTES, "", f"{number:064x}") for number in range(20)]
    bob = linked(ada, "bob", bob_log)
    for file in files:
        want(ada, bob_log, file)
        ada.put(ContentOpened(file.root, [0]))
    assert slow_line(ada, bob, turns=30) == [0] * 20
    assert [news.file for news in done(ada, out.ContentArrived)] == files


def test_a_list_that_comes_late_is_taken_whole() -> None:
    size = 10_000 * PIECE_BYTES
    ada, bob_log = asker(size=size)
    bob = linked(ada, "bob", bob_log)
    want(ada, bob_log, FileRef("a.png", size, "", ROOT))
    ada.put(ContentOpened(ROOT, None))
    assert pulls(bob) == [(1, 0, 0)]
    ada.world.pass_time(2 * transfers.STALLED_AFTER)
    give(bob, 1, (0, b"l" * PIECE_BYTES))
    ada.world.pass_time(2 * transfers.STALLED_AFTER)
    assert pulls(bob) == []
    give(bob, 1, (1, b"rest"))
    leaves = b"l" * PIECE_BYTES + b"rest"
    assert done(ada, out.StoreLeaves) == [out.StoreLeaves(bob.link, ROOT, size, leaves)]


def test_who_has_a_part_is_asked_for_that_and_for_the_rest_later() -> None:
    ada, _, bob = wanting()
    ada.put(ContentOpened(ROOT, [2, 3, 8, 9]))
    assert pulls(bob) == [(1, 2, 2), (2, 8, 2)]
    bob.say(Lacks(1, [(3, 1), (9, 5)]))
    assert pulls(bob) == [(3, 3, 1)]
    bob.say(Lacks(2))
    assert pulls(bob) == []
    ada.world.pass_time(transfers.LACK_PAUSE + 2 * transfers.CHECK_EVERY)
    assert {first for _, first, _ in pulls(bob)} <= {2, 8, 9}


def test_whoever_comes_later_is_asked() -> None:
    ada, bob_log = asker()
    want(ada, bob_log)
    ada.put(ContentOpened(ROOT, [0]))
    cyd = linked(ada, "cyd", bob_log)
    ada.world.pass_time(2 * transfers.CHECK_EVERY)
    assert pulls(cyd) == [(1, 0, 1)]


def test_a_download_that_the_store_cannot_keep_ends() -> None:
    ada, _, bob = wanting()
    ada.put(ContentOpened(ROOT, [0, 1]))
    give(bob, 1, (0, b"x"))
    ada.put(ContentFailed(ROOT, "no room"))
    assert done(ada, out.ContentStopped) == [out.ContentStopped(ROOT, "no room")]
    assert give(bob, 1, (1, b"x")) == []
    ada.put(PiecesStored(bob.link, ROOT, [0], []))
    assert done(ada, out.ContentArrived) == []


def test_little_is_under_way_however_slow_the_disk() -> None:
    ada, bob_log = asker(size=4000 * PIECE_BYTES)
    file = FileRef("a", 4000 * PIECE_BYTES, "", ROOT)
    fars = [linked(ada, name, bob_log) for name in ("bob", "cyd", "dan", "eve")]
    want(ada, bob_log, file)
    ada.put(ContentOpened(ROOT, range(4000)))
    asked = 0
    for _ in range(20):
        for far in fars:
            for n, first, count in pulls(far):
                asked += count
                give(far, n, *((index, b"x") for index in range(first, first + count)))
    assert asked <= transfers.MAX_UNDER_WAY + transfers.NEAR_PIECES


def test_a_list_of_several_parts_is_judged_whole() -> None:
    size = 20_000 * PIECE_BYTES
    ada, bob_log = asker(size=size)
    bob = linked(ada, "bob", bob_log)
    want(ada, bob_log, FileRef("a", size, "", ROOT))
    ada.put(ContentOpened(ROOT, None))
    parts = [b"a" * PIECE_BYTES, b"b" * PIECE_BYTES, b"c" * (32 * 20_000 - 2 * PIECE_BYTES)]
    give(bob, 1, (0, parts[0]), (1, parts[1]))
    assert done(ada, out.StoreLeaves) == []
    give(bob, 1, (2, parts[2]))
    assert [effect.leaves for effect in done(ada, out.StoreLeaves)] == [b"".join(parts)]


def test_a_nearly_full_disk_gives_on_and_blames_nobody_for_pieces_under_way() -> None:
    ada, _, bob = wanting()
    ada.put(ContentOpened(ROOT, [0, 1, 2]))
    ada.put(DiskLow(DiskLevel.NOTHING))
    give(bob, 1, (0, b"x"), (1, b"x"))
    ada.put(DiskLow(DiskLevel.ENOUGH))
    give(bob, 1, (2, b"x"))
    assert len(done(ada, out.StorePieces)) == 3 and closed(ada) == []
    ada, log, seq = holder()
    bob = linked(ada, "bob")
    ada.put(DiskLow(DiskLevel.NOTHING))
    bob.say(Pull(7, *log, seq, ROOT, 0, 1))
    assert len(done(ada, out.GivePieces)) == 1


# ---- members who lie


def test_a_list_that_one_member_promises_comes_from_elsewhere() -> None:
    ada, bob_log = asker(of_founder(), guest("bob"))
    silent = [ada.far(name, bob_log, by=answers_for(name)) for name in ("bob", "dan")]
    honest = ada.far("eve", bob_log)
    for far in (*silent, honest):
        far.say(Peers(can=["files"]))
    ada.effects.clear()
    honest.heard.clear()
    want(ada, bob_log)
    ada.put(ContentOpened(ROOT, None))
    assert [far.name for far in silent if pulls(far)] == ["bob"] and not pulls(honest)
    ada.world.pass_time(transfers.STALLED_AFTER + 2 * transfers.CHECK_EVERY)
    assert pulls(honest) == [(1, 0, 0)]


def test_who_has_not_what_it_said_is_left_alone_longer_and_longer() -> None:
    ada, _, bob = wanting()
    ada.put(ContentOpened(ROOT, [2, 3]))
    asked = answered = 0
    for _ in range(60):
        for n, _first, _count in pulls(bob):
            asked += 1
            bob.say(Lacks(n, [(0, SIZE)]))
            for again, *_ in pulls(bob):
                answered += 1
                bob.say(Lacks(again, [(2, 1), (0, 7), (2, 2)]))
        ada.world.pass_time(1.0)
    assert 2 <= asked <= 8 and answered <= asked


def test_what_a_link_says_it_has_costs_little_however_much_it_says() -> None:
    ranges = [(number, 2**31) for number in range(256)]
    flags = transfers._flags_of([*ranges, (70_000, 1)], 65_536)
    assert len(flags) == 65_536 and all(flags)
    assert transfers._flags_of([(1, 2), (0, 9), (4, 0), (5, 1)], 6) == b"\0\1\1\0\0\1"


def test_another_size_beside_a_root_ends_no_honest_link() -> None:
    ada, *_ = holder()
    eve = Author("eve", "e1")
    far = linked(ada, "eve")
    lie = FileRef("a.png", SIZE + 1, "", ROOT)
    far.say(eve.write(encode_entry(Entry("text", START, START + 1, b="", files=(lie,)))))
    bob = linked(ada, "bob")
    bob.say(Pull(7, *eve.log, 1, ROOT, 0, 0))
    assert done(ada, out.GivePieces) == [out.GivePieces(bob.link, 7, ROOT, SIZE + 1, 0, 0)]


def test_who_asks_for_content_gets_it_for_that_message_whoever_named_it_before() -> None:
    """Eve names what bob has sent, in another size: nobody has that."""
    ada, bob_log = asker()
    eve = Author("eve", "e1")
    far = linked(ada, "eve")
    lie = FileRef("a.png", SIZE + 1, "", ROOT)
    far.say(eve.write(encode_entry(Entry("text", START, START + 1, b="", files=(lie,)))))
    bob = linked(ada, "bob", bob_log, eve)
    ada.put(ContentWanted(eve.log, 1, lie))
    ada.put(ContentOpened(ROOT, None))
    for one in (far, bob):
        for n, *_ in pulls(one):
            one.say(Lacks(n))
    done(ada, out.OpenContent)
    want(ada, bob_log)
    assert [effect.size for effect in done(ada, out.OpenContent)] == [SIZE]
    ada.put(ContentOpened(ROOT, None))
    for one in (far, bob):
        for n, *_ in pulls(one):
            one.say(Lacks(n))
    sizes = []
    for _ in range(30):
        ada.world.pass_time(1.0)
        for effect in done(ada, out.OpenContent):
            sizes.append(effect.size)
            ada.put(ContentOpened(ROOT, None))
        for one in (far, bob):
            for n, *_ in pulls(one):
                one.say(Lacks(n))
    assert sizes[:2] == [SIZE + 1, SIZE]  # each has its turn while nothing comes


def test_a_download_goes_on_after_another_message_that_names_the_same_was_deleted() -> None:
    ada, bob_log = asker()
    bob = linked(ada, "bob", bob_log)
    bob.say(bob_log.write(encode_entry(Entry("text", START + 2, START + 2, b="", files=(FILE,)))))
    ada.put(ContentWanted(bob_log.log, 2, FILE))
    want(ada, bob_log)
    bob.say(bob_log.write(encode_entry(Entry("delete", START + 3, START + 3, bob_log.ref(2)))))
    ada.put(ContentOpened(ROOT, [0]))
    asked_at = []
    for second in range(30):  # after 10 s without a piece, it is the turn of the other message
        for n, *_ in pulls(bob):
            asked_at.append(second)
            bob.say(Lacks(n))
        ada.world.pass_time(1.0)
    assert asked_at[0] == 0 and asked_at[-1] > 20
