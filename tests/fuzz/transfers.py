"""A download from a member who answers pulls with any frames of bytes, beside one who answers them rightly.

An input chooses which pulls are answered, with which pieces, of which pull, changed in which way, and cut where. A
piece that was not asked for ends the link that gave it, and no other. Who gave a wrong one is asked for nothing more.
Nothing wrong is kept. The content is whole in the end.
"""

from __future__ import annotations

from functools import cache
from random import Random

from p2pchat.core import effects as out
from p2pchat.core.content.pieces import PIECE_BYTES, leaf_of, root_of
from p2pchat.core.inputs import ContentWanted, Faulted, Got, LeavesStored
from p2pchat.core.log import Entry, FileRef, encode_entry
from p2pchat.protocol import (
    LENGTH,
    MAX_FRAME_BYTES,
    PIECE_HEAD,
    RAW_FLAG,
    Decoder,
    Frame,
    Lacks,
    Peers,
    Piece,
    Ping,
    Pong,
    Pull,
    Unknown,
    encode,
)
from p2pchat.runtime.content_worker import _carry_out
from p2pchat.settings import Settings
from p2pchat.storage.content_store import ContentStore, MemoryFiles
from tests.core.scripted_nodes import START, Author, World
from tests.fuzz.checked_node import CheckedNode
from tests.fuzz.choices import Supply
from tests.fuzz.target import Target, hold

DATA = Random(21).randbytes(2 * PIECE_BYTES + 1000)
PIECES = tuple(DATA[at : at + PIECE_BYTES] for at in range(0, len(DATA), PIECE_BYTES))
LEAVES = b"".join(map(leaf_of, PIECES))
ROOT = root_of(len(DATA), LEAVES)
FILE = FileRef("gift", len(DATA), "", ROOT)
ODD = (0, 1, 2, 3, 64, 2**31, 2**32 - 1)
FAULTS = {"order", "content", "malformed", "limit"}
STEPS_AT_MOST = 30
ROUNDS = 60  # of a second, until a pull that nobody answers is taken from its link


class Download:
    """A node (ada) that fetches the content of bob's message, with a store in memory."""

    def __init__(self, supply: Supply) -> None:
        self.supply = supply
        self.world = World()
        self.ada = CheckedNode(self.world, "ada", Settings(log_bytes=0, auto_fetch_bytes=0))
        self.store = ContentStore(MemoryFiles(4 * len(DATA)))
        self.arrived = self.was_wrong = False
        bob = Author("bob", "b1")
        self.bob = self.ada.far("bob", host="10.0.0.1")
        self.bob.say(bob.write(encode_entry(Entry("text", START, START + 1, b="", files=(FILE,)))))
        self.eve = self.ada.far("eve")
        self.eve.say(Peers(can=["files"]))
        self.pulls: list[Pull] = []  # that the false member got, and may answer again and again
        self.ada.put(ContentWanted(bob.log, 1, FILE))
        self.carry_out()

    @property
    def is_linked(self) -> bool:
        """True while the false member's link is up."""
        return self.ada.links.get(self.eve.link) is self.eve

    def carry_out(self) -> None:
        """Carry out the orders for the store, whose answers may lead to more, and look at everything that is kept."""
        self.world.settle()
        while self.ada.effects:
            effects, self.ada.effects = self.ada.effects, []
            for effect in effects:
                if isinstance(effect, out.OpenContent | out.StoreLeaves | out.StorePieces):
                    answer = _carry_out(effect, self.store)
                    if isinstance(answer, BaseException):
                        raise answer
                    self.store.commit()
                    self.ada.put(answer)
                    right = answer.right if isinstance(answer, LeavesStored) else not getattr(answer, "wrong", ())
                    self.was_wrong |= not right
                elif isinstance(effect, out.ContentArrived):
                    self.arrived = True
            self.world.settle()
        for index, piece in enumerate(PIECES):
            hold(self.store.read(ROOT, index) in (None, piece), "a wrong piece is kept")
        asked = [frame for frame in self.eve.heard if isinstance(frame, Pull)]
        hold(not (asked and self.was_wrong), "who gave something wrong is asked for more")
        self.pulls += asked
        self.eve.heard.clear()
        hold(self.ada.links.get(self.bob.link) is self.bob, "another link ended")

    # ---- the false member

    def answer(self) -> None:
        """Send a frame of bytes: mostly what a pull asks for, sometimes with a change."""
        n, index, data = self.asked()
        match self.supply.below(16):
            case 0:
                n = self.supply.pick(ODD)
            case 1:
                index = self.supply.pick(ODD)
            case 2:
                data = data[: self.supply.below(len(data) + 1)]
            case 3:
                at = self.supply.below(len(data))
                data = data[:at] + bytes([data[at] ^ 1 << self.supply.below(8)]) + data[at + 1 :]
            case 4:
                data = self.supply.pick((*PIECES, LEAVES, LEAVES[::-1], b"", PIECES[0] + PIECES[1][:8]))
            case 5:
                data = self.supply.take(200)
        self.put(LENGTH.pack(RAW_FLAG | PIECE_HEAD.size + len(data)) + PIECE_HEAD.pack(n, index) + data)

    def asked(self) -> tuple[int, int, bytes]:
        """Return the number, index and bytes that an open pull waits for."""
        if not self.pulls:
            return self.supply.pick(ODD), 0, LEAVES
        pull = self.pulls.pop(self.supply.below(len(self.pulls)))
        if not pull.count:
            return pull.n, 0, LEAVES
        if pull.count > 1:
            self.pulls.append(Pull(pull.n, pull.c, pull.u, pull.r, pull.seq, pull.root, pull.first + 1, pull.count - 1))
        return pull.n, pull.first, PIECES[pull.first]

    def lack(self) -> None:
        supply = self.supply
        n = self.pulls.pop(0).n if self.pulls and supply.yes() else supply.pick(ODD)
        self.put(encode(Lacks(n, [(supply.pick(ODD), 1 + supply.pick(ODD)) for _ in range(supply.below(4))])))

    def raw(self) -> None:
        """Send bytes as a frame of bytes, with a length that may be that of no frame."""
        data = self.supply.take(self.supply.below(60))
        self.put(LENGTH.pack(RAW_FLAG | self.supply.pick((len(data), *ODD)) & RAW_FLAG - 1) + data)

    def put(self, data: bytes) -> None:
        """Send bytes in two parts; the second is empty if the cut is behind the end."""
        decoder = Decoder(self.ada.settings, max_frame_bytes=MAX_FRAME_BYTES)
        decoder.takes_pieces = True
        cut = self.supply.below(20)
        self.ada.put(Got(self.eve.link, [*decoder.feed(data[:cut]), *decoder.feed(data[cut:])]))
        if decoder.fault is not None and self.is_linked:
            hold(decoder.fault.code in FAULTS, f"a fault with the code {decoder.fault.code}")
            self.ada.put(Faulted(self.eve.link, decoder.fault.code, str(decoder.fault)))
        self.carry_out()

    def wait(self) -> None:
        self.world.pass_time(self.supply.pick((0.1, 1.0, 4.0)))
        self.carry_out()

    # ---- the honest member

    def give(self) -> None:
        """Let the honest member answer all pulls that it got."""
        while frames := list(self.bob.heard):
            self.bob.heard.clear()
            for frame in frames:
                if isinstance(frame, Ping):
                    self.bob.say(Pong())
                elif isinstance(frame, Pull):
                    asked = range(frame.first, frame.first + frame.count)
                    given = [(index, PIECES[index]) for index in asked] or [(0, LEAVES)]
                    pieces: list[Frame | Unknown] = [Piece(frame.n, index, data) for index, data in given]
                    self.ada.put(Got(self.bob.link, pieces))
            self.carry_out()

    def run(self) -> None:
        steps = (*[self.answer] * 8, self.lack, self.raw, self.wait)
        for _ in range(STEPS_AT_MOST):
            if not self.supply.left or not self.is_linked:
                break
            self.supply.pick(steps)()
        self.bob.say(Peers(can=["files"]))
        for _ in range(ROUNDS):
            self.give()
            if self.arrived:
                break
            self.world.pass_time(1.0)
            self.carry_out()
        hold(self.arrived and self.store.is_whole(ROOT, len(DATA)), "the content did not come from the honest member")


def run(data: bytes) -> None:
    Download(Supply(data)).run()


def seeds() -> list[bytes]:
    steady = [bytes([number] * 40) for number in (6, 7, 15)]
    return [*steady, *(bytes((number * 31 + step * step) % 256 for step in range(150)) for number in range(12))]


@cache
def targets() -> tuple[Target, ...]:
    return (Target("transfers", "frames of bytes that answer the pulls of a download", run, seeds, (), 400, 60, 2),)
