"""Import of files: their decoding; entries are checked as on a link, counted instead of answered, and announced."""

from __future__ import annotations

import msgspec
import pytest

from p2pchat.core.durable_changes import DiskLevel
from p2pchat.core.inputs import CommitFailed, DiskLow, Loaded
from p2pchat.core.sync.import_file import FRAME_UNITS, ExportReader
from p2pchat.errors import ImportRefused
from p2pchat.protocol import FILE_VERSION, Entries, File, FileEnd, Ping, Statements, encode
from tests.core.scripted_nodes import ROOM, START, Author, Peer, World, dm


def test_imported_entries_are_stored_then_counted_and_shown() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    ada.holding = True
    assert ada.carry(bob.say("one"), bob.say("two", "three")) == ["commit b1:1..1, b1:2..3, show b1:1..3"]
    assert ada.commit() == ["imported 3 new"]
    assert ada.texts() == ["one", "two", "three"]


def test_known_entries_are_not_stored_again() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    one, two = bob.say("one"), bob.say("two")
    ada.far("bob").say(one)
    assert ada.carry(one, two) == [
        "commit b1:2..2, show b1:2..2", "imported 1 new 1 known", "to bob: have room bob b1:2"]  # fmt: skip
    assert ada.carry(one, two) == ["look up b1:1", "imported 2 known"]
    assert ada.texts() == ["one", "two"]


def test_entries_not_on_disk_yet_are_not_reported_as_known() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    said = bob.say("one")
    ada.holding = True
    ada.far("bob").say(said)
    assert ada.carry(said) == []
    assert ada.commit() == ["imported 1 known", "to bob: have room bob b1:1"]


@pytest.mark.parametrize("field", ["head", "e", "prev"])
def test_a_bad_frame_affects_only_entries_that_build_on_it(field: str) -> None:
    ada, bob, cyd = World().peer("ada"), Author("bob", "b1"), Author("cyd", "c1")
    good, bad, later = bob.say("one"), bob.say("two"), bob.say("three")
    wrong = {"head": good.head, "e": good.e, "prev": "00" * 32}[field]
    said = ada.carry(good, msgspec.structs.replace(bad, **{field: wrong}), later, cyd.say("mine"))
    assert said == ["commit b1:1..1, c1:1..1, show b1:1..1, show c1:1..1", "imported 2 new 1 head 1 early"]
    assert ada.texts() == ["one", "mine"]


def test_an_imported_batch_that_is_early_is_not_kept_or_fetched(ada: Peer) -> None:
    bob = Author("bob", "b1")
    ada.far("cyd")
    bob.say("lost")
    assert ada.carry(bob.say("two")) == ["imported 1 early"]
    ada.world.pass_time(5.0)
    assert [line for line in ada.take() if "want" in line] == []


def test_any_text_in_a_file_is_kept() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    assert "imported 2 new" in ada.carry(bob.write((1, "no entry")), bob.say("more"))
    assert len(ada.storage.places(0, 9)) == 2


def test_direct_conversations_of_others_are_foreign() -> None:
    ada, bob, cyd = World().peer("ada"), Author("bob", "b1", dm("ada", "bob")), Author("cyd", "c1", dm("cyd", "bob"))
    assert ada.carry(bob.say("psst"), cyd.say("not for ada")) == [
        "commit b1:1..1, show b1:1..1", "imported 1 new 1 foreign"]  # fmt: skip
    assert set(ada.node.replicator.conversations) == {ada.node.room, dm("ada", "bob")}


def test_entries_of_a_nonmember_are_refused() -> None:
    ada, eve = World().peer("ada"), Author("eve", "e1", dm("ada", "bob"))
    assert ada.carry(eve.say("let me in")) == ["imported 1 member"]
    assert dm("ada", "bob") not in ada.node.replicator.conversations  # nothing of its names is stored


def test_logs_of_earlier_runs_are_found_in_storage() -> None:
    ada, first = World().peer("ada"), Author("bob", "b1")
    one = first.say("one")
    second = Author("bob", "b2", before=[first.mark])
    ada.carry(one, second.say("two"))
    third = Author("bob", "b3", before=[second.mark])
    said = ada.carry(one, third.say("three"))  # b1 is covered and left memory
    assert said[-2:] == ["commit b3:1..1, show b3:1..1", "imported 1 new 1 known"]
    assert ada.texts() == ["one", "two", "three"]


def test_an_imported_log_beyond_the_tips_limit_is_refused() -> None:
    ada = World().peer("ada", max_tips=2)
    logs = [Author("bob", f"b{n}") for n in range(3)]
    assert ada.carry(*(log.say("word") for log in logs))[-1] == "imported 2 new 1 full"


def test_a_fork_in_a_file_is_found_and_later_logs_are_accepted() -> None:
    ada, bob, twin = World().peer("ada"), Author("bob", "b1"), Author("bob", "b1")
    assert "warn fork" in ada.carry(bob.say("one"), twin.say("another"))
    cyd = World().peer("cyd")
    evidence = [msgspec.structs.replace(log.say("more"), h=log.header, fork=True) for log in (bob, twin)]
    later = Author("bob", "b2", before=[bob.mark])
    assert cyd.carry(later.say("new"))[-1] == "imported 1 early"
    assert cyd.carry(*evidence, Author("bob", "b2", before=[bob.mark]).say("new"))[-1] == "imported 1 new"


def test_marks_go_to_links_as_after_any_commit(ada: Peer) -> None:
    bob = Author("bob", "b1")
    ada.far("cyd")
    ada.carry(bob.say("from afar"))
    ada.world.pass_time(1.0)
    assert "to cyd: have room bob b1:1" in ada.take()


def test_own_entries_of_a_lost_disk_come_back_from_a_file() -> None:
    ada, before = World().peer("ada"), Author("ada", "0f")
    ada.carry(before.say("remember"))
    assert ada.texts() == ["remember"]
    ada.say("I do")
    assert ada.texts() == ["remember", "I do"]


def test_imported_entries_that_wait_are_stored_and_shown_later(ada: Peer) -> None:
    bob, cyd = Author("bob", "b1"), Author("cyd", "c1")
    question = cyd.say("why?")
    assert ada.carry(bob.say("because", re=cyd.ref(1)))[-1] == "imported 1 new"
    assert ada.texts() == []
    ada.carry(question)
    assert ada.texts() == ["why?", "because"]


def test_nothing_is_imported_while_nothing_can_be_stored() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    ada.put(DiskLow(DiskLevel.NOTHING))
    ada.take()
    assert ada.carry(bob.say("one")) == ["imported the disk is nearly full: make room, then import again"]
    ada.put(DiskLow(DiskLevel.ENOUGH))
    ada.take()
    ada.holding = True
    ada.carry(bob.say("two"))
    bob = Author("bob", "b1")
    ada.carry(bob.say("one"))
    ada.put(CommitFailed(0, "no disk"))
    assert "imported no disk" in ada.take()
    assert ada.carry(bob.say("two")) == ["imported storage does not work: nothing is accepted"]
    ada.held.clear()
    ada.holding = False
    ada.put(Loaded(ada.storage.load([ada.id])))
    ada.take()
    assert ada.carry(Author("bob", "b1").say("one", at=START))[-1] == "imported 1 new"


def test_entries_that_a_link_brought_count_as_known_when_durable(ada: Peer) -> None:
    first = Author("bob", "b1")
    far = ada.far("bob")
    far.say(first.say("one"))
    far.say(Author("bob", "b2", before=[first.mark]).say("two"))
    ada.start()  # b1 is covered, and in storage only
    second = Author("bob", "b3", before=[first.mark])
    said = second.say("three")
    ada.hold_lookups = ada.holding = True
    ada.far("bob").say(said)
    ada.carry(said)
    assert not any("imported" in line for line in ada.answer_lookups())
    assert "imported 1 known" in ada.commit()


# ---- decoding

BOB, CYD = Author("bob", "b1"), Author("cyd", "c1", dm("ada", "cyd"))
FRAMES = [File(FILE_VERSION, ROOM), BOB.say("one"), BOB.say("two", "three"), CYD.say("psst"), FileEnd(4)]
PARTS = [encode(frame) for frame in FRAMES]
WHOLE = b"".join(PARTS)


def read(data: bytes, room: str = ROOM, piece: int = 1 << 20) -> tuple[list[Entries], ExportReader]:
    """Read a file in pieces of this size."""
    unpacking = ExportReader(room)
    for at in range(0, len(data), piece):
        unpacking.feed(data[at : at + piece])
    unpacking.finish()
    return entries(unpacking.take(1 << 20)), unpacking


def entries(frames: list[Entries | Statements]) -> list[Entries]:
    return [frame for frame in frames if isinstance(frame, Entries)]


def texts(frames: list[Entries]) -> list[str]:
    return [str(text).rpartition('"b":"')[2][:-2] for frame in frames for _, text in frame.e]


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_a_whole_file_is_read_in_any_pieces(piece: int) -> None:
    frames, unpacking = read(WHOLE, piece=piece)
    assert texts(frames) == ["one", "two", "three", "psst"]
    assert (unpacking.problem, unpacking.entries, unpacking.unreadable, unpacking.ended) == ("", 4, 0, True)


def test_frames_taken_together_name_each_conversation_once() -> None:
    unpacking = ExportReader(ROOM)
    unpacking.feed(WHOLE)
    named = [[len(frame.names) for frame in entries(unpacking.take(most))] for most in (1, 2, 99)]
    assert (named, unpacking.waiting) == ([[1], [1], [1]], 0)
    assert [len(frame.names) for frame in read(WHOLE)[0]] == [1, 0, 1]


def test_few_small_frames_are_taken_together() -> None:
    """8,000 logs of one entry blocked the loop for 0.2 s each time."""
    unpacking, pen = ExportReader(ROOM), Author("bob", "b1")
    unpacking.feed(PARTS[0] + b"".join(encode(pen.say("x")) for _ in range(200)))
    taken = []
    while unpacking.waiting:
        taken.append(len(unpacking.take(10 * FRAME_UNITS)))
    assert taken == [10] * 20


def test_many_statements_are_taken_alone_and_count_as_no_entries() -> None:
    """Each costs a signature."""
    many = Statements(s=[("{}", "00" * 64)] * 64)
    unpacking = ExportReader(ROOM)
    unpacking.feed(b"".join([PARTS[0], encode(many), encode(many), *PARTS[1:]]))
    unpacking.finish()
    assert [unpacking.take(2048) for _ in range(2)] == [[many], [many]]
    assert (texts(entries(unpacking.take(2048))), unpacking.problem) == (["one", "two", "three", "psst"], "")


@pytest.mark.parametrize("at", range(len(PARTS[0]), len(WHOLE), 37))
def test_all_whole_frames_of_a_cut_off_file_are_read(at: int) -> None:
    frames, unpacking = read(WHOLE[:at])
    whole = sum(len(b"".join(PARTS[: n + 1])) <= at for n in range(1, 4))
    assert len(frames) == whole
    assert unpacking.problem == "it is cut off: the end is missing"


def test_an_unreadable_frame_affects_no_other() -> None:
    bad = bytearray(PARTS[2])
    bad[10] ^= 0x80
    frames, unpacking = read(b"".join([*PARTS[:2], bytes(bad), *PARTS[3:]]))
    assert texts(frames) == ["one", "psst"]
    assert unpacking.unreadable == 1
    assert unpacking.problem == "2 of its 4 entries could be read: it was damaged"


@pytest.mark.parametrize("length", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\4\0\1"])
def test_nothing_is_read_after_an_impossible_length(length: bytes) -> None:
    unpacking = ExportReader(ROOM)
    unpacking.feed(b"".join([*PARTS[:2], length, *PARTS[2:]]))
    unpacking.finish()
    assert texts(entries(unpacking.take(9))) == ["one"]
    assert "damaged" in unpacking.problem
    assert unpacking.ended


def test_frames_of_other_and_later_kinds_are_skipped() -> None:
    later = b'{"t":"later"}'
    frames, unpacking = read(b"".join([PARTS[0], encode(Ping()), len(later).to_bytes(4, "big") + later, *PARTS[1:]]))
    assert (len(frames), unpacking.problem) == (3, "")


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"hello, this is a letter", b"\0\0\0\2{}", WHOLE[:20], PARTS[1], encode(Ping()), b"\x1f\x8b" * 99],
)
def test_a_file_that_is_no_export_is_refused(data: bytes) -> None:
    with pytest.raises(ImportRefused, match="no file that"):
        read(data)


def test_a_file_of_another_network_is_refused_before_anything_of_it_is_taken() -> None:
    unpacking = ExportReader("00" * 32)
    with pytest.raises(ImportRefused, match="another network"):
        unpacking.feed(WHOLE)
    assert unpacking.waiting == 0


@pytest.mark.parametrize("version", ["later", "older"])
def test_a_file_of_another_version_is_refused(version: str) -> None:
    v = FILE_VERSION + (1 if version == "later" else -1)
    with pytest.raises(ImportRefused, match=f"{version} version"):
        read(b"".join([encode(File(v, ROOM)), *PARTS[1:]]))
