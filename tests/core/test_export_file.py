"""Export files: whole, cut off, damaged, and other files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2pchat.core.export_file import ExportReader
from p2pchat.errors import ImportRefused
from p2pchat.protocol import FILE_VERSION, Entries, File, FileEnd, Ping, encode
from tests.core.world import ROOM, Author, dm

BOB, CYD = Author("bob", "b1"), Author("cyd", "c1", dm("ada", "cyd"))
FRAMES = [File(FILE_VERSION, ROOM), BOB.say("one"), BOB.say("two", "three"), CYD.say("psst"), FileEnd(4)]
PARTS = [encode(frame) for frame in FRAMES]
WHOLE = b"".join(PARTS)
GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "wire.json").read_text("utf-8"))["file"]


def read(data: bytes, room: str = ROOM, piece: int = 1 << 20) -> tuple[list[Entries], ExportReader]:
    """Read a file in pieces of this size."""
    unpacking = ExportReader(room)
    for at in range(0, len(data), piece):
        unpacking.feed(data[at : at + piece])
    unpacking.finish()
    return unpacking.take(1 << 20), unpacking


def texts(frames: list[Entries]) -> list[str]:
    return [raw.rpartition('"b":"')[2][:-2] for frame in frames for raw in frame.e]


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_a_whole_file_is_read_in_any_pieces(piece: int) -> None:
    frames, unpacking = read(WHOLE, piece=piece)
    assert texts(frames) == ["one", "two", "three", "psst"]
    assert (unpacking.problem, unpacking.entries, unpacking.unreadable, unpacking.ended) == ("", 4, 0, True)


def test_the_golden_file_is_read() -> None:
    frames, unpacking = read(bytes.fromhex(GOLDEN["bytes"]), GOLDEN["room"])
    assert (unpacking.problem, len(frames)) == ("", 2)


def test_frames_taken_together_name_each_conversation_once() -> None:
    unpacking = ExportReader(ROOM)
    unpacking.feed(WHOLE)
    named = [[len(frame.names) for frame in unpacking.take(most)] for most in (1, 2, 9)]
    assert (named, unpacking.waiting) == ([[1], [1], [1]], 0)
    assert [len(frame.names) for frame in read(WHOLE)[0]] == [1, 0, 1]


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
    assert texts(unpacking.take(9)) == ["one"]
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


def test_a_file_of_a_later_version_is_refused() -> None:
    with pytest.raises(ImportRefused, match="later version"):
        read(encode(File(FILE_VERSION + 1, "00" * 32)))
