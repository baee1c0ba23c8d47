"""What one peer has told of its readers: news, pages, and how much of it is remembered."""

from __future__ import annotations

from p2pchat.core.log import LogId
from p2pchat.core.records import ReadMark
from p2pchat.core.sync.read_receipts import MAX_ANNOUNCED, AnnouncedReads, read_sum

ROOM, DM, READER = "c0" * 32, "d1" * 32, "b0" * 32
FIRST, LAST = "0" * 64, "f" * 64


def ref(number: int) -> str:
    return f"{number:032x}"


def test_news_replaces_what_was_told_of_a_log() -> None:
    told = AnnouncedReads([ReadMark(LogId(ROOM, "ab" * 32, "01" * 8), READER, 3)])
    assert told.update((ROOM, READER), [("ab" * 8 + "01" * 8, 5), (ref(1), 1)])
    assert told.sum == read_sum({(ROOM, READER): {"ab" * 8 + "01" * 8: 5, ref(1): 1}})


def test_pages_replace_everything_once_the_last_has_come() -> None:
    told = AnnouncedReads([])
    told.update((ROOM, READER), [(ref(1), 1)])
    before = told.sum
    told.on_page((FIRST, DM), {(DM, READER): [(ref(2), 2)]})
    assert told.sum == before
    told.on_page((DM, LAST), {(DM, READER): [(ref(3), 3)]})  # a conversation may go on with the next page
    assert told.sum == read_sum({(DM, READER): {ref(2): 2, ref(3): 3}})


def test_a_page_that_does_not_follow_is_nothing() -> None:
    told = AnnouncedReads([])
    told.on_page((FIRST, ROOM), {(ROOM, READER): [(ref(1), 1)]})
    told.on_page((LAST, LAST), {})
    told.on_page((ROOM, LAST), {(ROOM, READER): [(ref(2), 1)]})
    assert told.sum == read_sum({})


def test_so_many_marks_of_one_peer_are_remembered_and_no_more() -> None:
    told = AnnouncedReads([])
    most = [(ref(number), 1) for number in range(1, MAX_ANNOUNCED + 1)]
    assert told.update((ROOM, READER), most)
    assert told.update((ROOM, READER), most[:5])  # told again: it counts once
    full = told.sum
    assert not told.update((ROOM, READER), [(ref(0), 1)])
    told.on_page((FIRST, LAST), {(ROOM, READER): [(ref(0), 1), *most]})
    assert told.sum == full
    told.on_page((FIRST, LAST), {(ROOM, READER): most[1:] + [(ref(0), 1)]})
    assert told.sum == read_sum({(ROOM, READER): dict([*most[1:], (ref(0), 1)])})


def test_pages_without_end_and_pairs_without_marks_cost_nothing() -> None:
    told = AnnouncedReads([])
    told.on_page((FIRST, ROOM), {})
    for number in range(50):
        told.on_page((ROOM, ROOM), {(ROOM, READER): [(ref(1000 * number + n), 1) for n in range(256)]})
        told.update((ROOM, f"{number:064x}"), [])
    told.on_page((ROOM, LAST), {})
    assert (told.count, told.sum) == (0, read_sum({}))
