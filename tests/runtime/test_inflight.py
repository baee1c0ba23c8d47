"""The book of commits in flight: when reading stops and goes on, and what a failure takes away."""

from __future__ import annotations

from p2pchat.core.effects import Commit
from p2pchat.core.log import Batch, LogId
from p2pchat.core.records import Change
from p2pchat.runtime.driver import CommitsInFlight

LOG = LogId("c0" * 32, "a1" * 32, "0123456789abcdef")


def commit(ticket: int, entries: int, *, own: bool = False, epoch: int = 0) -> Commit:
    batch = Batch(LOG, 1, ["{}"] * entries, None, b"", b"", b"")
    return Commit(ticket, epoch, own, Change(batches=[batch]))


def test_reading_stops_above_the_limit_and_goes_on_when_half_of_it_is_durable() -> None:
    said: list[bool] = []
    book = CommitsInFlight(100, said.append)
    for ticket, entries in enumerate((60, 40, 1, 30)):
        book.add(commit(ticket, entries))
        assert (book.paused, said) == ((False, []) if ticket < 2 else (True, [True]))
    for ticket, (still, told) in enumerate([(True, [True]), (False, [True, False]), (False, [True, False])]):
        assert len(book.remove(ticket).batches[0].raws) == (60, 40, 1)[ticket]
        assert (book.paused, said) == (still, told)


def test_what_is_said_here_never_stops_reading_and_is_own_until_it_is_durable() -> None:
    said: list[bool] = []
    book = CommitsInFlight(100, said.append)
    book.add(commit(1, 1000, own=True))
    book.add(commit(2, 1, own=True))
    assert (book.own, book.paused) == (2, False)
    book.remove(1)
    assert (book.own, bool(book)) == (1, True)
    book.remove(2)
    assert (book.own, bool(book), said) == (0, False, [])


def test_a_failure_takes_away_what_is_of_its_epoch_or_older_and_reading_goes_on() -> None:
    said: list[bool] = []
    book = CommitsInFlight(100, said.append)
    for ticket, epoch in ((1, 0), (2, 1), (3, 2)):
        book.add(commit(ticket, 50, epoch=epoch))
    book.add(commit(4, 1, own=True, epoch=1))
    book.fail(1)
    assert (book.own, said, bool(book)) == (0, [True, False], True)
    book.remove(3)
    assert not book
