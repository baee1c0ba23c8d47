"""The thread of the store of content: orders of the core, and pieces on their way to links."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from p2pchat.core.content.pieces import LEAF_BYTES, PIECE_BYTES, leaf_of, root_of
from p2pchat.core.effects import GivePieces, OpenContent, OrderContent, StoreLeaves, StorePieces
from p2pchat.core.inputs import (
    ContentAnswered,
    ContentFailed,
    ContentKept,
    ContentOpened,
    Input,
    LeavesStored,
    PiecesStored,
    PullAnswered,
)
from p2pchat.core.log import MAX_FILES
from p2pchat.errors import PeerClosed
from p2pchat.protocol import Decoder, Lacks, Piece
from p2pchat.runtime import content_worker
from p2pchat.runtime.content_worker import ContentWorker
from p2pchat.runtime.storage_worker import LoopWaker
from p2pchat.settings import Settings
from p2pchat.storage.content_store import ContentStore
from tests.deadlines import until

PIECES = [bytes([number]) * PIECE_BYTES for number in range(3)]
LEAVES = b"".join(map(leaf_of, PIECES))
SIZE = 3 * PIECE_BYTES
ROOT = root_of(SIZE, LEAVES)


class Owner:
    """The part of a driver that a worker needs: it takes inputs, and bytes for links."""

    def __init__(self, directory: Path) -> None:
        self.inputs: list[Input] = []
        self.full: set[int] = set()
        self.sent: dict[int, list[object]] = {}
        self._decoders: dict[int, Decoder] = {}
        self.worker = ContentWorker(
            directory,
            Settings(min_free_disk_bytes=0),
            self.put,
            lambda link: link not in self.full,
            self.send,
        )  # fmt: skip

    def put(self, input: Input) -> None:
        self.inputs += input.answers if isinstance(input, ContentAnswered) else [input]

    def send(self, link: int, data: bytes) -> None:
        decoder = self._decoders.setdefault(link, Decoder(max_frame_bytes=2**18))
        decoder.takes_pieces = True
        self.sent.setdefault(link, []).extend(decoder.feed(data))
        assert decoder.fault is None

    async def answer(self) -> Input:
        await until(lambda: self.inputs, "an answer")
        return self.inputs.pop(0)


@pytest.fixture
async def owner(tmp_path: Path) -> AsyncIterator[Owner]:
    made = Owner(tmp_path / "content")
    yield made
    await made.worker.close()


async def keep(owner: Owner) -> None:
    def write(store: ContentStore) -> None:
        local = store.local()
        for piece in PIECES:
            local.add(piece)
        assert local.finish() == (ROOT, SIZE)

    await owner.worker.run(write)


async def test_content_is_opened_judged_and_stored(owner: Owner) -> None:
    owner.worker.order(OrderContent([OpenContent(ROOT, SIZE)]))
    assert await owner.answer() == ContentOpened(ROOT, None)
    owner.worker.order(OrderContent([StoreLeaves(1, ROOT, SIZE, LEAVES[::-1])]))
    assert await owner.answer() == LeavesStored(1, ROOT, False)
    owner.worker.order(OrderContent([StoreLeaves(1, ROOT, SIZE, LEAVES)]))
    assert await owner.answer() == LeavesStored(1, ROOT, True, [0, 1, 2])
    owner.worker.order(OrderContent([StorePieces(2, ROOT, SIZE, [(1, PIECES[1]), (0, PIECES[1])])]))
    assert await owner.answer() == PiecesStored(2, ROOT, [1], [0])
    owner.worker.order(OrderContent([OpenContent(ROOT, SIZE)]))
    assert await owner.answer() == ContentOpened(ROOT, [0, 2])


async def test_small_files_that_wait_together_are_synced_before_anybody_hears_of_them(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    loop = asyncio.get_running_loop()

    def noted(word: str, run: Callable[..., None]) -> Callable[..., None]:
        def step(*args: object) -> None:
            if word == "sync" and word not in steps:  # first, the loop tells everything that it may tell already
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(60)
            steps.append(word)
            run(*args)

        return step

    monkeypatch.setattr(os, "fsync", noted("sync", os.fsync))
    monkeypatch.setattr(os, "replace", noted("rename", os.replace))
    owner.worker._put = noted("told", owner.put)
    free = threading.Event()
    owner.worker.run_soon(lambda store: free.wait(60))
    small = [bytes([number]) * 1000 for number in range(MAX_FILES)]
    for data in small:
        owner.worker.order(OrderContent([StorePieces(1, root_of(1000, leaf_of(data)), 1000, [(0, data)])]))
    free.set()
    await until(lambda: len(owner.inputs) == MAX_FILES, "all answers")
    synced = ["sync"] * MAX_FILES + ["rename"] * MAX_FILES + ["sync"]  # the last one of the directory
    assert steps[: len(synced)] == synced and set(steps[len(synced) :]) == {"told"}
    assert all(owner.worker.holds(root_of(1000, leaf_of(data)), 1000) for data in small)


async def test_what_is_deleted_before_it_is_synced_is_told_as_kept_before_what_was_asked_later(
    owner: Owner,
) -> None:
    """A download that began again after the deletion would count the piece as its own."""
    root, free = root_of(4, leaf_of(b"here")), threading.Event()
    owner.worker.run_soon(lambda store: free.wait(60))
    owner.worker.order(OrderContent([StorePieces(1, root, 4, [(0, b"here")])]))
    deletion = asyncio.create_task(owner.worker.delete([root]))
    await asyncio.sleep(0)  # its job waits
    owner.worker.order(OrderContent([OpenContent(root, 4)]))
    free.set()
    await deletion
    await until(lambda: len(owner.inputs) == 3, "all answers")
    answers = [answer for answer in owner.inputs if not isinstance(answer, ContentKept)]
    assert answers == [PiecesStored(1, root, [0], []), ContentOpened(root, [0])]


async def test_a_piece_of_what_was_removed_is_nobodys_fault(owner: Owner) -> None:
    owner.worker.order(OrderContent([StoreLeaves(1, ROOT, SIZE, LEAVES)]))
    assert await owner.answer() == LeavesStored(1, ROOT, True, [0, 1, 2])
    owner.worker.run_soon(lambda store: store.delete(ROOT))
    owner.worker.order(OrderContent([StorePieces(2, ROOT, SIZE, [(1, PIECES[1])])]))
    assert await owner.answer() == ContentFailed(ROOT, "the file does not come any more: it was removed here")


async def test_answers_of_small_jobs_that_wait_together_wake_the_loop_once(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(content_worker, "GATHER_SECONDS", 60.0)  # however slow the machine is
    wake, woken = LoopWaker.wake, list[str]()

    def noted(waker: LoopWaker) -> None:
        woken.append("once")
        wake(waker)

    monkeypatch.setattr(LoopWaker, "wake", noted)
    free = threading.Event()
    owner.worker.run_soon(lambda store: free.wait(60))
    for number in range(100):
        owner.worker.order(OrderContent([OpenContent(f"{number:064x}", 1000)]))
    free.set()
    await until(lambda: len(owner.inputs) == 100, "all answers")
    assert woken == ["once", "once"]  # for the job that had them wait, and for all of them


async def test_jobs_that_wait_leave_few_files_open(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_worker, "MAX_WRITTEN", 20)
    commit, written = ContentStore.commit, list[int]()

    def noted(store: ContentStore) -> None:
        written.append(store.written)
        commit(store)

    monkeypatch.setattr(ContentStore, "commit", noted)
    free = threading.Event()
    owner.worker.run_soon(lambda store: free.wait(60))

    def keep_eight(job: int, store: ContentStore) -> list[str]:
        return [store.keep_piece(bytes([job, number])) for number in range(8)]

    together = asyncio.gather(*(owner.worker.run(partial(keep_eight, job)) for job in range(12)))
    await asyncio.sleep(0)  # they all wait
    free.set()
    roots = [root for kept in await together for root in kept]
    assert written == [24] * 4
    assert len(roots) == 96 and all(owner.worker.holds(root, 2) for root in roots)


async def test_who_waits_for_a_sync_that_fails_is_told(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(number: int) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    await owner.worker.run(lambda store: None)
    monkeypatch.setattr(os, "fsync", fail)
    owner.worker.order(OrderContent([StorePieces(1, root_of(4, leaf_of(b"here")), 4, [(0, b"here")])]))
    assert await owner.answer() == ContentFailed(
        root_of(4, leaf_of(b"here")), "files cannot be kept: the disk is broken"
    )
    assert await owner.worker.run(lambda store: store.roots()) == []


async def test_what_a_job_wrote_before_it_failed_is_committed_and_can_be_swept(owner: Owner) -> None:
    def keep_and_fail(store: ContentStore) -> None:
        store.keep_piece(b"here")
        raise ValueError

    root = root_of(4, leaf_of(b"here"))
    with pytest.raises(ValueError):
        await owner.worker.run(keep_and_fail)
    assert await owner.worker.run(lambda store: store.begin_sweep()) == [root]
    assert owner.worker.holds(root, 4)
    assert await owner.worker.run(lambda store: (store.written, store.sweep([root]))) == (0, [root])


async def test_a_disk_that_fails_ends_the_download(tmp_path: Path) -> None:
    (tmp_path / "content").write_text("no directory")
    owner = Owner(tmp_path / "content" / "below")
    owner.worker.order(OrderContent([OpenContent(ROOT, SIZE)]))
    failed = await owner.answer()
    assert isinstance(failed, ContentFailed) and "cannot use the directory" in failed.text
    await owner.worker.close()


async def test_a_pull_is_answered_piece_by_piece(owner: Owner) -> None:
    await keep(owner)
    owner.worker.give(GivePieces(5, 9, ROOT, SIZE, 1, 2))
    owner.worker.give(GivePieces(5, 10, ROOT, SIZE, 0, 0))
    owner.worker.give(GivePieces(5, 11, ROOT, SIZE, 2, 4))
    owner.worker.give(GivePieces(5, 12, "00" * 32, SIZE, 0, 0))
    assert [await owner.answer() for _ in range(4)] == [PullAnswered(5, n) for n in (9, 10, 11, 12)]
    assert owner.sent[5] == [
        Piece(9, 1, PIECES[1]), Piece(9, 2, PIECES[2]), Piece(10, 0, LEAVES), Piece(11, 2, PIECES[2]),
        Lacks(11, [(0, 3)]), Lacks(12),
    ]  # fmt: skip


async def test_content_of_another_size_is_not_here(owner: Owner) -> None:
    """A message names it in that size, and what is given for it would be wrong there."""
    await keep(owner)
    for n, (first, count) in enumerate([(0, 0), (0, 1), (2, 4)]):
        owner.worker.give(GivePieces(5, n, ROOT, SIZE - 1, first, count))
    assert [await owner.answer() for _ in range(3)] == [PullAnswered(5, n) for n in range(3)]
    assert owner.sent[5] == [Lacks(n) for n in range(3)]


@pytest.mark.parametrize("parts", [1, 2])
async def test_a_long_list_of_leaves_goes_in_parts(owner: Owner, parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    leaves = bytes(range(256)) * (parts * PIECE_BYTES // 256) + b"x" * LEAF_BYTES * (parts - 1)
    monkeypatch.setattr(ContentStore, "has_size", lambda self, root, size: True)
    monkeypatch.setattr(ContentStore, "leaves", lambda self, root: leaves)
    owner.worker.give(GivePieces(1, 3, ROOT, SIZE, 0, 0))
    assert await owner.answer() == PullAnswered(1, 3)
    given = [piece for piece in owner.sent[1] if isinstance(piece, Piece)]
    assert [piece.index for piece in given] == list(range(2 * parts - 1))
    assert b"".join(piece.data for piece in given) == leaves


async def test_a_link_with_unsent_bytes_gets_no_piece_and_others_do(owner: Owner) -> None:
    await keep(owner)
    owner.full.add(1)
    owner.worker.give(GivePieces(1, 1, ROOT, SIZE, 0, 1))
    owner.worker.give(GivePieces(2, 1, ROOT, SIZE, 0, 3))
    assert await owner.answer() == PullAnswered(2, 1)
    assert 1 not in owner.sent
    owner.full.clear()
    owner.worker.on_drained(1)
    assert await owner.answer() == PullAnswered(1, 1)
    assert owner.sent[1] == [Piece(1, 0, PIECES[0])]


async def test_a_link_that_ended_gets_nothing(owner: Owner) -> None:
    await keep(owner)
    owner.worker.give(GivePieces(1, 1, ROOT, SIZE, 0, 3))
    owner.worker.on_link_down(1)
    owner.worker.give(GivePieces(2, 1, ROOT, SIZE, 0, 3))
    assert await owner.answer() == PullAnswered(2, 1)
    assert 1 not in owner.sent


async def test_a_closed_worker_takes_nothing_more(owner: Owner) -> None:
    await keep(owner)
    await owner.worker.close()
    with pytest.raises(PeerClosed):
        await owner.worker.read(ROOT, 0)
    owner.worker.order(OrderContent([OpenContent(ROOT, SIZE)]))
    owner.worker.give(GivePieces(2, 1, ROOT, SIZE, 0, 3))
    assert owner.inputs == []
