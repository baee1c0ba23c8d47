"""Files of simulated peers: the store of each, and what people and disks do with them.

A peer has the real store of content on simulated files, and the orders of the core about it are carried out by the code
of the runtime, in virtual time. Files outlive a killed process. When a machine loses its power, what was written and
not synced may be gone.

In a history with files members attach new and known ones to messages, ask for those that are large, give up, delete
content, and are killed in the midst of a transfer. A byzantine peer gives wrong pieces, and asks for files of
conversations that it is not in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from p2pchat.core.content.pieces import PIECE_BYTES, count_pieces
from p2pchat.core.effects import ContentArrived, ContentStopped, GivePieces
from p2pchat.core.inputs import ContentAnswered, ContentGivenUp, ContentKept, ContentRemoved, ContentWanted, Input
from p2pchat.core.log import FileRef, LogId, attachments_of, decode_entry
from p2pchat.errors import StorageError
from p2pchat.protocol import ConversationId, Lacks, Piece, Pull, encode, encode_piece
from p2pchat.runtime.content_worker import Answer, ContentOrders, Done, Job
from p2pchat.storage.content_store import ContentStore, MemoryFile, MemoryFiles
from p2pchat.storage.contract import files_of

if TYPE_CHECKING:
    from simulation.simulated_peer import SimPeer
    from simulation.simulation import Simulation

T = TypeVar("T")
MEMORY_BYTES = 1 << 30  # more than a history writes
MAX_UNSENT_BYTES = 256 * 1024  # of a link, above which it takes no further piece
QUICK, SLOW = 0.0002, 0.02  # seconds of a job of the store
ANSWERED_WITHIN = 0.01  # seconds until the core hears of it
BLOCK_BYTES = 128 * 1024  # of a file, written whole or not at all

ACTS_AT = 0.7  # the part of steps
ACTIONS = {"attach": 12, "ask": 6, "give_up": 2, "delete": 2, "kill_in_transfer": 6, "cut_in_transfer": 5}
SIZES = (
    0, 1, 30_000, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 5, 7 * PIECE_BYTES, 20 * PIECE_BYTES,
)  # fmt: skip
SIZE_WEIGHTS = (1, 1, 4, 1, 2, 3, 6, 3, 1)
KNOWN = 0.3  # the part of attachments that were sent before
LIES = 0.2  # the part of pieces of a byzantine peer
PATIENCE = 3.0  # seconds until a transfer to disturb
CHECK_EVERY = 0.01  # seconds between two looks for one


# ---- files


class SimFile(MemoryFile):
    """An open file. What is written since it was synced may be lost with the power of the machine."""

    def __init__(self, files: SimFiles) -> None:
        super().__init__()
        self.unsynced: dict[int, bytes] = {}  # what was there before, by block
        self._files = files

    def write(self, data: Any, /) -> int:
        if self._files.is_full():
            return 0
        at = self.tell()
        for block in range(at // BLOCK_BYTES, -(-(at + len(data)) // BLOCK_BYTES)):
            if block not in self.unsynced:
                start = block * BLOCK_BYTES
                self.unsynced[block] = bytes(self.getbuffer()[start : start + BLOCK_BYTES])
        return super().write(data)

    def lose_power(self, chance: Random) -> None:
        """Lose some of what was not synced. The size stays."""
        with self.getbuffer() as data:
            for block, before in self.unsynced.items():
                start = block * BLOCK_BYTES
                if chance.random() < 0.5:
                    end = min(start + BLOCK_BYTES, len(data))
                    data[start:end] = before.ljust(end - start, b"\0")[: end - start]
        self.unsynced.clear()


class SimFiles(MemoryFiles):
    """The files of one machine. They outlive its processes. Nothing can be written while `is_full`."""

    reserves = False

    def __init__(self, is_full: Callable[[], bool]) -> None:
        super().__init__(MEMORY_BYTES)
        self._sim_files: dict[str, Any] = self._files
        self.is_full: Callable[[], bool] = is_full

    def open(self, name: str, *, new: bool = False) -> Any:
        if new:
            self._sim_files[name] = SimFile(self)
        if name not in self._sim_files:
            raise FileNotFoundError(name)
        self._sim_files[name].seek(0)
        return self._sim_files[name]

    def sync(self, file: Any) -> None:
        file.unsynced.clear()

    def check_room(self, more: int) -> None:
        if self.is_full():
            raise StorageError("the simulated disk is full")

    def lose_power(self, chance: Random) -> None:
        for file in self._sim_files.values():
            file.lose_power(chance)


# ---- the store of a running peer


class SimContent(ContentOrders):
    """The store of content of one process, and what its program waits for.

    Attributes:
        store: The store itself.
        asked: What its program waits for, by root.
    """

    def __init__(self, peer: SimPeer) -> None:
        super().__init__(self._put_checked, self._has_link_room, self._write)
        self._max_ranges = peer.settings.page_items  # what the others take in one frame
        self._peer = peer
        self._sim = peer.sim
        self.store: ContentStore = ContentStore(peer.files)
        self.asked: dict[str, FileRef] = {}
        self._jobs: deque[tuple[Job[Any], Done[Any]]] = deque()
        self._runs = False
        self._chance_of_jobs = Random(f"{peer.sim.seed} jobs of {peer.name} {peer.lives}")
        self._chance = Random(f"{peer.sim.seed} pieces of {peer.name} {peer.lives}")

    # ---- the thread

    def _run_then(self, job: Job[T], done: Done[T]) -> None:
        def checked(result: T | None, error: BaseException | None) -> None:
            if error is not None and not isinstance(error, StorageError):
                raise error
            done(result, error)

        self._jobs.append((job, checked))
        self._run_soon()

    def _run_soon(self) -> None:
        if self._jobs and not self._runs:
            self._runs = True
            self._peer.soon(QUICK, SLOW, self._run_next)

    def _run_next(self) -> None:
        """Run some of the jobs that wait. A kill may come before what they wrote is committed."""
        jobs = [self._jobs.popleft() for _ in range(self._chance_of_jobs.randint(1, len(self._jobs)))]
        waiting = self._run_jobs(self.store, jobs, self._answer_soon)
        if waiting or self.store.written:
            self._peer.soon(QUICK, SLOW, partial(self._commit, waiting))
        else:
            self._go_on()

    def _commit(self, waiting: list[tuple[Done[Any], Any]]) -> None:
        self._commit_jobs(self.store, waiting, self._answer_soon)
        self._go_on()

    def _go_on(self) -> None:
        self._runs = False
        self._run_soon()

    def _answer_soon(self, answer: Answer) -> None:
        self._answers.append(answer)
        self._peer.soon(0.0, ANSWERED_WITHIN, self._run_answers)

    def _put_checked(self, input: Input) -> None:
        for answer in input.answers if isinstance(input, ContentAnswered) else (input,):
            self._sim.invariants.content.told(self._peer, answer)
        self._peer.put(input)

    def _on_defect(self, error: BaseException | None) -> None:
        assert error is None, "the store raises only what is a StorageError"

    # ---- links

    def give(self, effect: GivePieces) -> None:
        self._sim.invariants.content.given(self._peer, effect)
        super().give(effect)

    def _has_link_room(self, link: int) -> bool:
        return self._peer.unsent(link) <= MAX_UNSENT_BYTES

    def _write(self, link: int, data: bytes) -> None:
        is_piece = data[0] >= 0x80
        self._sim.frames["Piece" if is_piece else "Lacks"] += 1
        tampering = self._peer.tampering
        if tampering is not None and not tampering.is_lenient and is_piece and self._chance.random() < LIES:
            self._sim.counts["wrong_piece"] += 1
            data = self._chance.choice((_flipped, _doubled, _shortened))(data)
        self._peer.write(link, data)

    # ---- the program

    def attach(self, data: list[tuple[str, bytes]], then: Callable[[tuple[FileRef, ...]], None]) -> None:
        """Keep files of this machine, by name; then call `then`, if it could keep them."""

        def keep(store: ContentStore) -> tuple[FileRef, ...]:
            found = []
            for name, content in data:
                local = store.local()
                local.add(content)
                root, size = local.finish()
                found.append(FileRef(name, size, "", root))
                self._sim.invariants.content.kept(root, content)
            return tuple(found)

        def done(files: tuple[FileRef, ...] | None, error: BaseException | None) -> None:
            if files is not None:
                for file in files:
                    self._peer.put(ContentKept(file.root))
                then(files)

        self._run_then(keep, done)

    def ask(self, log: LogId, seq: int, file: FileRef) -> None:
        self._sim.counts["file_asked"] += 1
        self.asked[file.root] = file
        self._peer.put(ContentWanted(log, seq, file))

    def give_up(self, root: str) -> None:
        if self.asked.pop(root, None) is not None:
            self._sim.counts["file_given_up"] += 1
            self._peer.put(ContentGivenUp(root))

    def on_arrived(self, news: ContentArrived) -> None:
        self.asked.pop(news.file.root, None)
        self._sim.invariants.content.arrived(self._peer, news)

    def on_stopped(self, news: ContentStopped) -> None:
        self.asked.pop(news.root, None)
        self._sim.invariants.content.stopped(self._peer, news)

    def delete(self, root: str) -> None:
        """Remove some content from this machine, as its user may. The core hears of it before."""

        def delete(store: ContentStore) -> None:
            self._sim.invariants.content.deleted(self._peer, root)
            store.delete(root)

        self._sim.invariants.content.let_go(self._peer, root)
        self._peer.put(ContentRemoved(root, forgotten=True))
        self._run_then(delete, lambda result, error: self._tell(ContentKept(root)))


def _flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def _doubled(data: bytes) -> bytes:
    return data + data


def _shortened(data: bytes) -> bytes:
    return encode_piece(Piece(int.from_bytes(data[4:8], "big"), int.from_bytes(data[8:12], "big"), data[12:-1]))


# ---- actions


class FileActions:
    """The actions of people with files in the history of one simulation, step by step.

    Args:
        on: There are files.
        start: Starts a peer that was killed.
    """

    def __init__(self, sim: Simulation, *, on: bool, start: Callable[[SimPeer], None]) -> None:
        self._sim = sim
        self.on = on
        self._start = start
        self._chance = Random()
        self._made = 0

    def step(self, number: int) -> None:
        """Perhaps act, drawn from a chance of its own."""
        self._chance = Random(f"{self._sim.seed} files {number}")
        if self.on and self._chance.random() < ACTS_AT:
            for _ in range(self._chance.choice((1, 1, 2, 4))):
                getattr(self, "_" + self._chance.choices([*ACTIONS], [*ACTIONS.values()])[0])()

    def attach_last(self, peers: list[SimPeer]) -> None:
        """Have each of these peers send one more file to the room."""
        self._chance = Random(f"{self._sim.seed} last files")
        for peer in peers if self.on else ():
            if peer.up:
                self._send(peer, self._sim.invariants.room, None, [self._new()])

    def ask_last(self, peers: list[SimPeer]) -> None:
        """Have each of these peers ask once more for what it was told cannot be kept, and for some else."""
        self._chance = Random(f"{self._sim.seed} last asked")
        for peer in peers if self.on else ():
            for log, seq, file in self._shown(peer):
                is_large = file.size > self._sim.settings.auto_fetch_bytes
                if peer.up and (self._sim.invariants.content.was_stopped(peer, file.root) or
                                (is_large and self._chance.random() < 0.5)):  # fmt: skip
                    self._ask_for(peer, log, seq, file)

    # ---- single actions

    def _attach(self) -> None:
        writers = self._sim.up
        if not writers:
            return
        writer = self._chance.choice(writers)
        conversation, to = self._somewhere(writer)
        count = self._chance.choice((1, 1, 1, 2, 3))
        files = [self._known() if self._chance.random() < KNOWN else self._new() for _ in range(count)]
        self._sim.note(f"{writer.name} sends {len(files)} files")
        self._send(writer, conversation, to, files)

    def _somewhere(self, writer: SimPeer) -> tuple[ConversationId, SimPeer | None]:
        others = [
            peer for peer in self._sim.all_peers
            if peer is not writer and not peer.byzantine and self._sim.can_link(writer, peer)
        ]  # fmt: skip
        groups = [view.talk for _, view in sorted(writer.node.groups.items())] if writer.node is not None else []
        drawn = self._chance.random()
        if drawn < 0.3 and others:
            to = self._chance.choice(others)
            return writer.opened(to), to
        if drawn < 0.5 and groups:
            return self._chance.choice(groups), None
        return self._sim.invariants.room, None

    def _new(self) -> tuple[str, bytes]:
        self._made += 1
        size = self._chance.choices(SIZES, SIZE_WEIGHTS)[0]
        seed = f"{self._sim.seed} content {self._made}".encode()
        return f"file {self._made}", (seed + bytes([self._made % 256]) * size)[-size:] if size else b""

    def _known(self) -> tuple[str, bytes]:
        known = self._sim.invariants.content.all_content
        return ("again", self._chance.choice(known)) if known else self._new()

    def _send(
        self, writer: SimPeer, conversation: ConversationId, to: SimPeer | None, files: list[tuple[str, bytes]]
    ) -> None:  # fmt: skip
        assert writer.content is not None
        self._sim.counts["file_sent"] += len(files)
        text = self._chance.choice(("", "look"))
        writer.content.attach(files, lambda refs: writer.program.send_files(text, conversation, to, refs))

    def _shown(self, peer: SimPeer) -> list[tuple[LogId, int, FileRef]]:
        """Return the attachments of what a peer shows that are not whole there."""
        assert peer.content is not None
        return [
            (one.log, one.seq, file) for one in peer.disk.storage.places(0, 1 << 30)
            if attachments_of(decode_entry(one.raw))
            for file in files_of(peer.disk.storage.entry(one.log, one.seq))
            if not peer.content.store.is_whole(file.root, file.size)
        ]  # fmt: skip

    def _ask(self) -> None:
        if self._sim.up:
            peer = self._chance.choice(self._sim.up)
            shown = self._shown(peer)
            if shown:
                self._ask_for(peer, *self._chance.choice(shown))

    def _ask_for(self, peer: SimPeer, log: LogId, seq: int, file: FileRef) -> None:
        assert peer.content is not None
        self._sim.note(f"{peer.name} asks for {file}")
        self._sim.invariants.content.asked(peer, log, seq, file)
        peer.content.ask(log, seq, file)

    def _give_up(self) -> None:
        asking = [peer for peer in self._sim.up if peer.content is not None and peer.content.asked]
        if asking:
            peer = self._chance.choice(asking)
            assert peer.content is not None
            root = self._chance.choice(sorted(peer.content.asked))
            self._sim.note(f"{peer.name} gives up {root[:8]}")
            self._sim.invariants.content.given_up(peer, root)
            peer.content.give_up(root)

    def _delete(self) -> None:
        """Delete whole content of a peer, as its user may."""
        peer = self._chance.choice(self._sim.all_peers)
        whole = [root for root in peer.files.names() if "." not in root]
        if whole and peer.content is not None:
            root = self._chance.choice(whole)
            self._sim.note(f"{peer.name} deletes {root[:8]}")
            self._sim.counts["file_deleted"] += 1
            peer.content.delete(root)

    def _kill_in_transfer(self) -> None:
        """Kill one of two peers between which content moves, and perhaps start it at once."""
        pair = self._await_transfer()
        if pair is not None:
            peer = self._chance.choice(pair)
            self._sim.note(f"{peer.name} is killed in a transfer")
            self._sim.counts["killed_in_transfer"] += 1
            peer.crash(silent=self._chance.random() < 0.4)
            if self._chance.random() < 0.7:
                self._start(peer)

    def _cut_in_transfer(self) -> None:
        pair = self._await_transfer()
        if pair is not None:
            self._sim.note(f"the link of {pair[0].name} and {pair[1].name} breaks in a transfer")
            self._sim.counts["cut_in_transfer"] += 1
            self._sim.cut(*pair)

    def _await_transfer(self) -> tuple[SimPeer, SimPeer] | None:
        """Let time pass until a peer has taken a few pieces of several. Return it, and one that gives it some."""
        until, few = self._sim.now + PATIENCE, self._chance.choice((1, 2, 5))
        while self._sim.now < until:
            for taker in self._sim.up:
                root, giver = self._sim.invariants.content.taking(taker)
                if giver is not None and giver.up and self._pieces(taker, root) >= few:
                    return taker, giver
            self._sim.run(CHECK_EVERY)
        return None

    def _pieces(self, peer: SimPeer, root: str) -> int:
        """Return how many pieces of partial content are here; 0 for whole content."""
        is_partial = peer.content is not None and f"{root}.part" in peer.files.names()
        return sum(count for _, count in peer.content.store.held(root, 1000)) if peer.content and is_partial else 0


def curious(peer: SimPeer, chance: Random) -> bytes:
    """Return a pull of a byzantine peer: of some content that somebody sent anywhere."""
    named = peer.sim.invariants.content.all_named
    if not named:
        return encode(Lacks(7))
    log, seq, file = chance.choice(named)
    count = min(count_pieces(file.size), chance.choice((0, 1, 3)))
    return encode(Pull(chance.randrange(1 << 20, 1 << 30), *log, seq, file.root, 0, count))
