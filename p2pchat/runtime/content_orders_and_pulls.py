"""Orders of the core about content: jobs for the store, and pieces on their way to links.

Pieces for a link are read one at a time, small files up to as many bytes, and only while few bytes wait to be written
to it. So a link has at most a piece or two of unsent bytes before a text that is written next, and memory is bounded
however slowly it reads.

Jobs that wait together are run together, and what they keep becomes durable at once (ContentStore.commit). Nobody hears
of it before.

Nothing here has a thread, a clock or a loop. Jobs are run by a thread in content_worker.py, and in virtual time in
p2pchat.testing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from p2pchat.core.content.pieces_and_file_names import PIECE_BYTES, piece_size
from p2pchat.core.effects import ContentOrder, FindHeld, GivePieces, OpenContent, OrderContent, StorePieces
from p2pchat.core.inputs import (
    ContentAnswer,
    ContentAnswered,
    ContentFailed,
    ContentOpened,
    HeldFound,
    Input,
    LeavesStored,
    PiecesStored,
    PullAnswered,
)
from p2pchat.errors import P2PChatError
from p2pchat.protocol import Lacks, Piece, encode, encode_piece
from p2pchat.storage.content_store import ContentStore

T = TypeVar("T")
Job = Callable[[ContentStore], T]
Answer = Callable[[], None]  # runs in the loop
_Read = tuple[bytes | None, bool, list[tuple[int, int]]]  # a piece, whether it is the last one; without it what is here
_UNREAD: _Read = (None, False, [])  # what cannot be read is not here
Done = Callable[[T | None, BaseException | None], None]  # called with the result or the error
MAX_RANGES = 64  # of the pieces that are here, in one `lacks`; a guess


class ContentOrders:
    """Carries out the core's orders about content.

    Args:
        put: Called with inputs for the core.
        has_room: Return whether a link takes another piece; on_drained() tells when one does again.
        send: Write bytes to a link.
    """

    def __init__(
        self, put: Callable[[Input], None], has_room: Callable[[int], bool], send: Callable[[int, bytes], None]
    ) -> None:  # fmt: skip
        self._put = put
        self._max_ranges = MAX_RANGES
        self._has_room = has_room
        self._send = send
        self._given: dict[int, deque[GivePieces]] = {}  # by link; never empty
        self._reading: set[int] = set()  # links for which a piece is being read
        self._full: set[int] = set()  # links that have too many unsent bytes for another one
        self._answers: deque[Answer] = deque()  # to run in the loop
        self._told: list[ContentAnswer] = []  # by the answers that run now

    def _run_then(self, job: Job[T], done: Done[T]) -> None:
        """Run a job with the store, after the jobs before it; then call `done`."""
        raise NotImplementedError

    def _on_defect(self, error: BaseException | None) -> None:
        """Take an error of the store that is a defect of p2pchat."""
        raise NotImplementedError

    def _run_jobs(
        self, store: ContentStore, jobs: Iterable[tuple[Job[Any], Done[Any]]], answer: Callable[[Answer], None]
    ) -> list[tuple[Done[Any], Any]]:
        """Run jobs with the store. Answer those that wait for no commit, and return the others with their results."""
        waiting: list[tuple[Done[Any], Any]] = []
        for job, done in jobs:
            store.awaits_commit = False
            try:
                result = job(store)
            except BaseException as error:  # the caller gets it
                answer(partial(done, None, error))
                continue
            if store.awaits_commit:
                waiting.append((done, result))
            else:
                answer(partial(done, result, None))
        return waiting

    def _commit_jobs(
        self, store: ContentStore, waiting: Iterable[tuple[Done[Any], Any]], answer: Callable[[Answer], None]
    ) -> None:
        """Make durable what jobs wrote, and answer them."""
        try:
            store.commit()
        except BaseException as error:  # the callers get it
            for done, _ in waiting:
                answer(partial(done, None, error))
        else:
            for done, result in waiting:
                answer(partial(done, result, None))

    def _run_answers(self) -> None:
        """In the loop: run all answers, and tell the core what it hears by them with one input."""
        try:
            while self._answers:
                self._answers.popleft()()
        finally:
            told, self._told = self._told, []
            if told:
                self._put(told[0] if len(told) == 1 else ContentAnswered(told))

    def _tell(self, answer: ContentAnswer) -> None:
        """In an answer: tell the core this, behind what answers before told it."""
        self._told.append(answer)

    # ---- the store

    def order(self, effect: OrderContent) -> None:
        """Carry out orders, one after the other, and answer them together."""
        orders = effect.orders

        def done(answers: Sequence[ContentAnswer | BaseException | None] | None, error: BaseException | None) -> None:
            for order, answer in zip(orders, answers or [error] * len(orders), strict=True):
                if isinstance(answer, P2PChatError):  # the disk is full, or cannot be used
                    self._tell(ContentFailed(order.root, str(answer)))
                elif answer is None or isinstance(answer, BaseException):
                    self._on_defect(answer)
                    self._tell(ContentFailed(order.root, "p2pchat has failed inside: restart it, and report it"))
                else:
                    self._tell(answer)

        self._run_then(lambda store: [_carry_out(order, store) for order in orders], done)

    def find(self, effect: FindHeld) -> None:
        """Find out which contents are whole."""

        def done(held: frozenset[str] | None, error: BaseException | None) -> None:
            if error is not None and not isinstance(error, P2PChatError):
                self._on_defect(error)
            self._tell(HeldFound(effect.ticket, held or frozenset()))  # what cannot be read is not here

        self._run_then(lambda store: frozenset(filter(store.has_whole, effect.roots)), done)

    # ---- giving

    def give(self, effect: GivePieces) -> None:
        """Answer a pull in its turn. The pulls of one link are answered one after the other."""
        self._given.setdefault(effect.link, deque()).append(effect)
        self._give_next(effect.link)

    def on_link_down(self, link: int) -> None:
        """Forget the pulls of a link that ended."""
        self._given.pop(link, None)
        self._full.discard(link)

    def on_drained(self, link: int) -> None:
        """Go on with a link that has room again."""
        if link in self._full:
            self._full.remove(link)
            self._give_next(link)

    def _give_next(self, link: int) -> None:
        waiting = self._given.get(link)
        if waiting is None or link in self._reading or link in self._full:
            return
        if not self._has_room(link):
            self._full.add(link)
            return
        self._reading.add(link)
        pulls = _first_of(waiting)

        def read(store: ContentStore) -> list[_Read]:
            return [self._read(store, pull) for pull in pulls]

        self._run_then(read, partial(self._on_read, link, pulls))

    def _read(self, store: ContentStore, pull: GivePieces) -> _Read:
        """In the thread: read the next piece of a pull."""
        if not store.has_size(pull.root, pull.size):
            return None, False, []
        if pull.count:
            found, is_last = store.read(pull.root, pull.first), pull.count == 1
        else:
            leaves, start = store.leaves(pull.root), pull.first * PIECE_BYTES
            found = None if leaves is None or start >= len(leaves) else leaves[start : start + PIECE_BYTES]
            is_last = leaves is not None and start + PIECE_BYTES >= len(leaves)
        return found, is_last, [] if found is not None else store.held(pull.root, self._max_ranges)

    def _on_read(
        self, link: int, pulls: list[GivePieces], reads: list[_Read] | None, error: BaseException | None
    ) -> None:  # fmt: skip
        self._reading.discard(link)
        waiting = self._given.get(link)
        if waiting is None or waiting[0] is not pulls[0]:  # the link ended
            self._give_next(link)
            return
        frames: list[bytes] = []
        for pull, (found, is_last, held) in zip(pulls, reads or [_UNREAD] * len(pulls), strict=True):
            waiting.popleft()
            frames.append(
                encode(Lacks(pull.n, held)) if found is None else encode_piece(Piece(pull.n, pull.first, found))
            )
            if found is None or is_last:
                self._tell(PullAnswered(link, pull.n))
            else:
                rest = GivePieces(link, pull.n, pull.root, pull.size, pull.first + 1, max(0, pull.count - 1))
                waiting.appendleft(rest)
        self._send(link, frames[0] if len(frames) == 1 else b"".join(frames))
        if not waiting:
            del self._given[link]
        self._give_next(link)


def _carry_out(order: ContentOrder, store: ContentStore) -> ContentAnswer | BaseException:
    """In the thread: carry out an order. Return the answer, or the error."""
    root, size = order.root, order.size
    try:
        if isinstance(order, OpenContent):
            return ContentOpened(root, store.missing(root, size))
        if isinstance(order, StorePieces):
            right = store.add(root, size, order.pieces)
            return PiecesStored(order.link, root, right, [index for index, _ in order.pieces if index not in right])
        is_right = store.begin(root, size, order.leaves)
        return LeavesStored(order.link, root, is_right, (store.missing(root, size) or ()) if is_right else ())
    except BaseException as error:  # the orders behind it are carried out
        return error


def _first_of(waiting: Iterable[GivePieces]) -> list[GivePieces]:
    """Return the pulls of which the next pieces are read together: the first, or several with the bytes of a piece."""
    found: list[GivePieces] = []
    left = PIECE_BYTES
    for pull in waiting:
        left -= max(0, piece_size(pull.size, pull.first)) if pull.count == 1 else PIECE_BYTES
        if found and left < 0:
            break
        found.append(pull)
        if left <= 0:
            break
    return found
