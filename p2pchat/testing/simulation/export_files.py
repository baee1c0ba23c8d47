"""Export files carried from one simulated peer to another: whole, old, cut or damaged.

They are written as `p2pchat export` does and read as `p2pchat import` does: a few frames at a time, the next ones when
those are durable. A process that ends in between forgets the import.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pchat.core import effects as out
from p2pchat.core import inputs
from p2pchat.core.export_file import ExportReader
from p2pchat.errors import ImportRefused
from p2pchat.protocol import ConversationId, Entries, encode
from p2pchat.storage.export import file_pages

if TYPE_CHECKING:
    from p2pchat.testing.simulation.peer import SimPeer

AT_ONCE = 6  # frames handed in together; few, so that a file takes several steps


@dataclass(slots=True)
class ExportFile:
    """The entries that one peer held at some time, as a file."""

    maker: SimPeer
    made_at: float  # true seconds
    data: bytes
    uses: int = 0


def make_export(maker: SimPeer, to: SimPeer, only: ConversationId | None = None) -> ExportFile:
    """Export a peer's disk, whether the peer runs or not. A byzantine peer writes what it wants for `to`."""
    sim = maker.sim
    data = b""
    for page in file_pages(maker.disk.storage, sim.invariants.room, only):
        for frame in page:
            if maker.lie is not None and isinstance(frame, Entries):
                frame = maker.lie.entries(frame, to)
            data += encode(frame)
    sim.counts["export_made"] += 1
    return ExportFile(maker, sim.now, data)


class OpenedExport:
    """One import by one process of a peer."""

    def __init__(self, peer: SimPeer, data: bytes) -> None:
        self._peer = peer
        self._reader = ExportReader(peer.sim.invariants.room, peer.sim.settings)
        self._data = data
        self._asked: dict[int, list[Entries]] = {}

    def begin(self) -> None:
        """Read the file and hand in its first frames."""
        counts = self._peer.sim.counts
        counts["export_carried"] += 1
        try:
            self._reader.feed(self._data)
            self._reader.finish()
        except ImportRefused:
            counts["export_no_file"] += 1
            return
        if self._reader.problem:
            counts["export_damaged"] += 1
        self._hand_in()

    def _hand_in(self) -> None:
        frames = self._reader.take(AT_ONCE)
        if frames:
            ticket = self._peer.program.next_import(self)
            self._asked[ticket] = frames
            self._peer.put(inputs.ImportRequest(ticket, frames))

    def imported(self, news: out.ImportResult) -> None:
        """Handle the result of the frames handed in, and go on with the next."""
        frames = self._asked.pop(news.ticket)
        sim = self._peer.sim
        sim.invariants.imported(self._peer, frames, news)
        sim.counts["export_brought"] += news.new
        sim.counts["export_known"] += news.known
        sim.counts["export_foreign"] += news.foreign
        for code, entries in news.refused.items():
            sim.counts[f"export_refused_{code}"] += entries
        if news.failed:
            sim.counts["export_failed"] += 1
        else:
            self._peer.soon(0.0, 0.1, self._hand_in)
