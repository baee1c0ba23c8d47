"""The store of content, on a disk and in memory: what is judged, noted, believed and whole, also after kills."""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from p2pchat.core.content.pieces import PIECE_BYTES, leaf_of, root_of
from p2pchat.errors import StorageError
from p2pchat.storage import content_store
from p2pchat.storage.content_store import ContentStore, DiskFiles, MemoryFiles

ROOM = 64 * 1024 * 1024
SIZES = [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES - 7]


class Content:
    """Some bytes, and everything that is computed from them."""

    def __init__(self, size: int, seed: int = 1) -> None:
        self.data = random.Random(seed).randbytes(size)
        self.size = size
        self.pieces = [self.data[at : at + PIECE_BYTES] for at in range(0, size, PIECE_BYTES)]
        self.leaves = b"".join(map(leaf_of, self.pieces))
        self.root = root_of(size, self.leaves)


OPENED: list[ContentStore] = []


def opened(files: DiskFiles | MemoryFiles) -> ContentStore:
    OPENED.append(ContentStore(files))
    return OPENED[-1]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Close the stores of a test after it: in a test of a kill the files of the killed one stay open meanwhile."""
    yield
    while OPENED:
        OPENED.pop().close()


@pytest.fixture(params=["disk", "memory"])
def again(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], ContentStore]:
    """Return a function that opens the same store, as after a kill: nothing is closed before."""
    memory = MemoryFiles(ROOM)
    return lambda: opened(DiskFiles(tmp_path / "content", 0) if request.param == "disk" else memory)


def kept(store: ContentStore, data: bytes) -> tuple[str, int]:
    local = store.local()
    try:
        for at in range(0, len(data), 100_000):
            local.add(data[at : at + 100_000])
        found = local.finish()
        store.commit()
        return found
    except BaseException:
        local.discard()
        raise


def read_all(store: ContentStore, root: str, count: int) -> bytes:
    return b"".join(store.read(root, index) or b"" for index in range(count))


@pytest.mark.parametrize("size", SIZES)
def test_what_this_machine_writes_is_whole_and_can_be_given(again: Callable[[], ContentStore], size: int) -> None:
    made = Content(size)
    assert kept(again(), made.data) == (made.root, size)
    store = again()
    assert store.is_whole(made.root, size) and store.missing(made.root, size) == []
    assert not store.is_whole(made.root, size + 1)
    assert read_all(store, made.root, len(made.pieces)) == made.data
    assert store.leaves(made.root) == made.leaves
    assert store.read(made.root, len(made.pieces)) is None and store.read(made.root, -1) is None


@pytest.mark.parametrize("sizes", [[1 << 20], [5, PIECE_BYTES], [PIECE_BYTES - 1, 3 * PIECE_BYTES, 2, PIECE_BYTES]])
def test_what_this_machine_writes_may_come_in_parts_of_any_size(
    again: Callable[[], ContentStore], sizes: list[int]
) -> None:
    made, store = Content(9 * PIECE_BYTES + 5), again()
    local, at = store.local(), 0
    while at < made.size:
        for size in sizes:
            local.add(made.data[at : at + size])
            at += size
    assert local.finish() == (made.root, made.size)
    assert read_all(store, made.root, len(made.pieces)) == made.data


@pytest.mark.parametrize("size", SIZES)
def test_content_that_comes_in_any_order_becomes_whole(again: Callable[[], ContentStore], size: int) -> None:
    made, store = Content(size), again()
    if len(made.pieces) > 1:
        assert store.missing(made.root, size) is None
        assert store.begin(made.root, size, made.leaves)
    order = list(enumerate(made.pieces))
    random.Random(2).shuffle(order)
    for index, piece in order:
        assert not store.is_whole(made.root, size)
        assert index in (store.missing(made.root, size) or ())
        assert store.add(made.root, size, [(index, piece)]) == [index]
    assert store.missing(made.root, size) == []
    store.commit()
    assert store.is_whole(made.root, size)
    assert read_all(again(), made.root, len(made.pieces)) == made.data


def test_content_of_one_piece_is_whole_after_the_next_commit(again: Callable[[], ContentStore]) -> None:
    made, store = Content(1000), again()
    local = store.local()
    local.add(made.data)
    for job, result in (
        (local.finish, (made.root, 1000)),
        (lambda: store.add(made.root, 1000, [(0, made.data)]), [0]),
        (lambda: store.missing(made.root, 1000), []),
    ):
        store.awaits_commit = False
        assert job() == result and store.awaits_commit  # nobody may be told before
        assert not store.is_whole(made.root, 1000) and not again().is_whole(made.root, 1000)
    store = again()  # killed meanwhile
    assert store.missing(made.root, 1000) == [0] and not store.awaits_commit
    store.add(made.root, 1000, [(0, made.data)])
    store.commit()
    assert again().read(made.root, 0) == made.data


def test_a_sweep_sees_what_was_written_and_not_committed(again: Callable[[], ContentStore]) -> None:
    made, store = Content(1000), again()
    store.add(made.root, made.size, [(0, made.data)])
    store.awaits_commit = False
    assert store.begin_sweep() == store.roots() == [made.root]
    assert store.awaits_commit  # so that whoever kept it hears of it first, and can hold it
    assert store.sweep([made.root]) == [made.root] and store.written == 0


def test_local_content_that_cannot_be_kept_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise OSError(errno.ENOSPC, "the disk is full")

    made, store = Content(3 * PIECE_BYTES), opened(DiskFiles(tmp_path / "content", 0))
    for target, name in ((os, "fsync"), (os, "replace"), (content_store, "sync_directory")):
        local = store.local()
        local.add(made.data)
        with monkeypatch.context() as broken:
            broken.setattr(target, name, fail)
            with pytest.raises(StorageError, match="the disk is full"):
                local.finish()
        local.discard()
        assert os.listdir(tmp_path / "content") == [], name
    assert kept(store, made.data) == (made.root, made.size)


def _fail_second_rename(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    real, renamed = os.replace, list[str]()

    def replace(name: str, to: str) -> None:
        if renamed:
            raise error
        renamed.append(to)
        real(name, to)

    monkeypatch.setattr(os, "replace", replace)


def _fail_directory(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def sync_directory(path: Path) -> None:
        raise error

    monkeypatch.setattr(content_store, "sync_directory", sync_directory)


def _fail_first_sync(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Fail in the thread that syncs first; the others wait for that."""
    real, calls, failed = os.fsync, count(), threading.Event()

    def fsync(descriptor: int) -> None:
        if next(calls) == 0:
            failed.set()
            raise error
        assert failed.wait(60)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "the disk is broken"), MemoryError()], ids=["disk", "memory"])
@pytest.mark.parametrize("fail", [_fail_first_sync, _fail_second_rename, _fail_directory])
def test_a_commit_that_failed_halfway_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fail: Callable[[pytest.MonkeyPatch, BaseException], None],
    error: BaseException,
) -> None:
    made, store = [Content(1000, seed) for seed in range(3)], opened(DiskFiles(tmp_path / "content", 0))
    for one in made:
        store.add(one.root, one.size, [(0, one.data)])
    with monkeypatch.context() as broken:
        fail(broken, error)
        with pytest.raises((StorageError, MemoryError)):
            store.commit()
    assert os.listdir(tmp_path / "content") == []
    for one in made:
        assert store.add(one.root, one.size, [(0, one.data)]) == [0]
    store.commit()
    assert all(store.is_whole(one.root, one.size) for one in made)


def test_a_system_without_more_threads_syncs_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, store = [Content(1000, seed) for seed in range(5)], opened(DiskFiles(tmp_path / "content", 0))
    start, sync = threading.Thread.start, os.fsync
    started, synced = list[threading.Thread](), list[int]()

    def start_one(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    def noted(number: int) -> None:
        synced.append(number)
        sync(number)

    for one in made:
        store.add(one.root, one.size, [(0, one.data)])
    monkeypatch.setattr(threading.Thread, "start", start_one)
    monkeypatch.setattr(os, "fsync", noted)
    store.commit()
    assert len(synced) == len(made) + (os.name == "posix")  # the directory too
    assert all(store.is_whole(one.root, one.size) for one in made)


def test_much_content_becomes_whole_together_and_what_is_deleted_before_does_not(
    again: Callable[[], ContentStore],
) -> None:
    store, made = again(), [Content(1000, seed) for seed in range(20)]
    for one in made:
        store.add(one.root, one.size, [(0, one.data)])
    store.delete(made[0].root)
    store.commit()
    assert [one for one in made if store.is_whole(one.root, one.size)] == made[1:]
    assert {*again().roots()} == {one.root for one in made[1:]}


def test_a_wrong_piece_is_not_written(again: Callable[[], ContentStore]) -> None:
    made, store = Content(3 * PIECE_BYTES), again()
    store.begin(made.root, made.size, made.leaves)
    wrong = [(0, made.pieces[1]), (1, made.pieces[1][:-1]), (3, made.pieces[0]), (-1, made.pieces[2]), (2, b"")]
    assert store.add(made.root, made.size, wrong) == []
    assert store.missing(made.root, made.size) == [0, 1, 2]
    assert all(store.read(made.root, index) is None for index in range(3))
    small = Content(100)
    assert store.add(small.root, 100, [(0, b"x" * 100), (1, small.data), (0, small.data + b"x")]) == []
    assert store.missing(small.root, 100) == [0]


def test_a_wrong_piece_changes_nothing_that_is_here(again: Callable[[], ContentStore]) -> None:
    made, store = Content(3 * PIECE_BYTES), again()
    store.begin(made.root, made.size, made.leaves)
    assert store.add(made.root, made.size, [(0, made.pieces[0])]) == [0]
    assert store.add(made.root, made.size, [(0, made.pieces[1]), (0, b""), (3, made.pieces[0])]) == []
    assert store.add(made.root, made.size, [(1, made.pieces[1]), (2, made.pieces[2])]) == [1, 2]
    assert read_all(store, made.root, 3) == made.data


def test_wrong_leaves_are_not_taken(again: Callable[[], ContentStore]) -> None:
    made, store = Content(2 * PIECE_BYTES), again()
    for size, leaves in [
        (made.size, made.leaves[:-1]), (made.size, made.leaves[::-1]), (made.size + 1, made.leaves),
        (made.size, made.leaves + b"x" * 32), (made.size - 1, made.leaves),
    ]:  # fmt: skip
        assert not store.begin(made.root, size, leaves)
    assert store.missing(made.root, made.size) is None
    assert store.roots() == []


def test_what_was_noted_is_believed_after_a_kill(again: Callable[[], ContentStore]) -> None:
    made, store = Content(6 * PIECE_BYTES), again()
    store.begin(made.root, made.size, made.leaves)
    assert store.add(made.root, made.size, [(4, made.pieces[4]), (1, made.pieces[1])]) == [4, 1]
    store = again()
    assert store.missing(made.root, made.size) == [0, 2, 3, 5]
    assert store.read(made.root, 4) == made.pieces[4] and store.read(made.root, 0) is None
    assert not store.is_whole(made.root, made.size) and store.leaves(made.root) == made.leaves
    assert store.add(made.root, made.size, [(index, made.pieces[index]) for index in (0, 2, 3)]) == [0, 2, 3]
    assert again().missing(made.root, made.size) == [5]


def test_a_piece_that_a_power_loss_took_is_missing_again(tmp_path: Path) -> None:
    made = Content(4 * PIECE_BYTES)
    store = opened(DiskFiles(tmp_path / "content", 0))
    store.begin(made.root, made.size, made.leaves)
    store.add(made.root, made.size, [(0, made.pieces[0]), (2, made.pieces[2])])
    with (tmp_path / "content" / f"{made.root}.part").open("r+b") as part:
        part.seek(2 * PIECE_BYTES + 5)
        part.write(b"\0\0")
    assert opened(DiskFiles(tmp_path / "content", 0)).missing(made.root, made.size) == [1, 2, 3]


def test_what_was_synced_is_not_judged_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_store, "SYNC_EVERY_BYTES", 2 * PIECE_BYTES)
    made, judged = Content(5 * PIECE_BYTES), list[int]()

    def judge(piece: bytes) -> bytes:
        judged.append(len(piece))
        return leaf_of(piece)

    store = opened(DiskFiles(tmp_path / "content", 0))
    store.begin(made.root, made.size, made.leaves)
    store.add(made.root, made.size, [(index, made.pieces[index]) for index in range(3)])
    monkeypatch.setattr(content_store, "leaf_of", judge)
    assert opened(DiskFiles(tmp_path / "content", 0)).missing(made.root, made.size) == [3, 4]
    assert judged == [PIECE_BYTES]


@pytest.mark.parametrize("at", range(1, 14))
def test_a_kill_at_any_moment_loses_no_noted_piece_and_makes_nothing_whole_too_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """The at-th write, sync or rename is the last thing that the process began, and did not do."""
    made, store = Content(3 * PIECE_BYTES), opened(DiskFiles(tmp_path / "content", 0))
    steps = 0

    class Killed(BaseException):
        pass

    def counted(done: Callable[..., object]) -> Callable[..., object]:
        def step(*args: object) -> object:
            nonlocal steps
            steps += 1
            if steps >= at:
                raise Killed
            return done(*args)

        return step

    monkeypatch.setattr(content_store, "_write_all", counted(content_store._write_all))
    monkeypatch.setattr(os, "fsync", counted(os.fsync))
    monkeypatch.setattr(os, "replace", counted(os.replace))
    noted: list[int] = []
    try:
        store.begin(made.root, made.size, made.leaves)
        for index, piece in enumerate(made.pieces):
            noted += store.add(made.root, made.size, [(index, piece)])
    except Killed:
        pass
    monkeypatch.undo()
    store = opened(DiskFiles(tmp_path / "content", 0))
    missing = store.missing(made.root, made.size)
    assert not {*noted} & {*(missing if missing is not None else range(3))}
    if store.is_whole(made.root, made.size):
        assert read_all(store, made.root, 3) == made.data
    elif missing is None:
        assert store.begin(made.root, made.size, made.leaves)
    for index in store.missing(made.root, made.size) or ():
        assert store.add(made.root, made.size, [(index, made.pieces[index])]) == [index]
    assert store.is_whole(made.root, made.size) and read_all(store, made.root, 3) == made.data


def test_a_damaged_record_costs_the_pieces_and_nothing_else(tmp_path: Path) -> None:
    made, store = Content(2 * PIECE_BYTES), opened(DiskFiles(tmp_path / "content", 0))
    store.begin(made.root, made.size, made.leaves)
    store.add(made.root, made.size, [(0, made.pieces[0])])
    record = tmp_path / "content" / f"{made.root}.had"
    record.write_bytes(record.read_bytes()[:50])
    store = opened(DiskFiles(tmp_path / "content", 0))
    assert store.missing(made.root, made.size) is None and store.roots() == []
    kept(store, made.data)
    record.write_bytes(b"nonsense")
    assert store.leaves(made.root) == made.leaves


def test_content_is_kept_once_and_takes_the_place_of_its_parts(again: Callable[[], ContentStore]) -> None:
    made, store = Content(3 * PIECE_BYTES), again()
    store.begin(made.root, made.size, made.leaves)
    store.add(made.root, made.size, [(1, made.pieces[1])])
    for _ in range(3):
        assert kept(store, made.data) == (made.root, made.size)
    taken = store.sizes(store.roots())
    assert list(taken) == [made.root] and made.size < taken[made.root] < made.size + 200
    assert read_all(again(), made.root, 3) == made.data


def test_what_is_deleted_is_gone(again: Callable[[], ContentStore]) -> None:
    made, store = Content(3 * PIECE_BYTES), again()
    kept(store, made.data)
    other = Content(3 * PIECE_BYTES, seed=2)
    store.begin(other.root, other.size, other.leaves)
    store.add(other.root, other.size, [(0, other.pieces[0])])
    for root in (made.root, other.root, "00" * 32):
        store.delete(root)
    assert store.roots() == [] and store.read(other.root, 0) is None
    assert store.missing(other.root, other.size) is None


def test_a_text_that_is_no_root_names_no_file(tmp_path: Path) -> None:
    (tmp_path / "identity.pem").write_text("a key")
    store = opened(DiskFiles(tmp_path / "content", 0))
    (tmp_path / "content" / content_store.SWEEP_NAME).touch()
    texts = ["../identity.pem", str(tmp_path / "identity.pem"), content_store.SWEEP_NAME, ""]
    assert store.sizes(texts) == {}
    for text in texts:
        store.delete(text)
    assert (tmp_path / "identity.pem").read_text() == "a key" and store.is_sweep_due()


def test_the_rest_of_a_killed_local_file_goes(tmp_path: Path) -> None:
    store = opened(DiskFiles(tmp_path / "content", 0))
    local = store.local()
    local.add(b"x" * 300_000)
    assert os.listdir(tmp_path / "content")
    opened(DiskFiles(tmp_path / "content", 0))
    local.discard()
    assert not os.listdir(tmp_path / "content")


def test_a_file_that_is_given_up_leaves_nothing(again: Callable[[], ContentStore]) -> None:
    store = again()
    local = store.local()
    local.add(b"x" * 300_000)
    local.discard()
    assert store.roots() == []


def test_there_must_be_room_before_and_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Content(3 * PIECE_BYTES)
    store = opened(DiskFiles(tmp_path / "content", 2**62))
    with pytest.raises(StorageError, match=f"no room for {made.size} bytes more.*free some space"):
        store.missing(made.root, made.size)  # before the leaves are asked for
    with pytest.raises(StorageError, match="no room"):
        store.begin(made.root, made.size, made.leaves)
    with pytest.raises(StorageError, match="no room"):
        kept(store, made.data)
    monkeypatch.setattr(content_store, "SYNC_EVERY_BYTES", PIECE_BYTES)
    disk = DiskFiles(tmp_path / "other", 0)
    store = opened(disk)
    store.begin(made.root, made.size, made.leaves)
    store.add(made.root, made.size, [(0, made.pieces[0])])
    disk._min_free_bytes = 2**62
    with pytest.raises(StorageError, match="no room"):
        store.add(made.root, made.size, [(1, made.pieces[1])])
    with pytest.raises(StorageError, match=f"no room for {2 * PIECE_BYTES} bytes more"):
        store.missing(made.root, made.size)
    disk._min_free_bytes = 0
    assert store.missing(made.root, made.size) == [1, 2]
    assert store.add(made.root, made.size, [(1, made.pieces[1]), (2, made.pieces[2])]) == [1, 2]


def test_memory_has_a_limit() -> None:
    store = opened(MemoryFiles(2 * PIECE_BYTES))
    with pytest.raises(StorageError, match="in memory"):
        kept(store, Content(3 * PIECE_BYTES).data)
    made = Content(2 * PIECE_BYTES - 1000)
    store = opened(MemoryFiles(2 * PIECE_BYTES))
    store.begin(made.root, made.size, made.leaves)
    assert store.add(made.root, made.size, [(1, made.pieces[1]), (0, made.pieces[0])]) == [1, 0]
    assert store.is_whole(made.root, made.size)


def test_many_partial_contents_share_few_open_files(tmp_path: Path) -> None:
    store = opened(DiskFiles(tmp_path / "content", 0))
    many = [Content(2 * PIECE_BYTES, seed) for seed in range(content_store.MAX_OPEN + 5)]
    for one in many:
        store.begin(one.root, one.size, one.leaves)
        store.add(one.root, one.size, [(0, one.pieces[0])])
    assert len(store._open) <= content_store.MAX_OPEN
    for one in many:
        assert store.missing(one.root, one.size) == [1]
        assert store.add(one.root, one.size, [(1, one.pieces[1])]) == [1]
    store.close()
    assert all(opened(DiskFiles(tmp_path / "content", 0)).is_whole(one.root, one.size) for one in many)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such modes")
def test_only_the_owner_reads_content(tmp_path: Path) -> None:
    store = opened(DiskFiles(tmp_path / "content", 0))
    root, _ = kept(store, b"x" * 600_000)
    for path in (tmp_path / "content", *(tmp_path / "content").iterdir()):
        assert path.stat().st_mode & 0o077 == 0
    assert (tmp_path / "content" / root).is_file()


def test_a_list_of_leaves_is_judged_once_for_all_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when its record is damaged, and all pieces have to be read for it."""
    made, store = Content(3 * PIECE_BYTES), opened(DiskFiles(tmp_path / "content", 0))
    kept(store, made.data)
    (tmp_path / "content" / f"{made.root}.had").write_bytes(b"damaged")
    read: list[int] = []
    real = store.read

    def read_and_count(root: str, index: int) -> bytes | None:
        read.append(index)
        return real(root, index)

    monkeypatch.setattr(store, "read", read_and_count)
    assert [store.leaves(made.root) for _ in range(3)] == 3 * [made.leaves] and read == [0, 1, 2]
    store.leaves(kept(store, Content(2 * PIECE_BYTES).data)[0])
    assert store.leaves(made.root) == made.leaves and read == [0, 1, 2]  # the record is right again
    store.delete(made.root)
    assert store.leaves(made.root) is None
