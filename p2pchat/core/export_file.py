"""Export files: decoding of files that carry entries from one peer to another.

A file is a sequence of frames as on a link: `file`, then `entries`, then `file_end`. A file that is no export of this
network is refused as a whole. Of a damaged or cut-off file, every whole frame is read. This file knows bytes and
frames, and does no input or output; sync/ingest.py validates the entries.

Source: docs/protocol.md, "Files".
"""

from __future__ import annotations

from collections import deque

from p2pchat.config import Settings
from p2pchat.core.groups.state import talk_id
from p2pchat.core.sync.conversations import dm_id
from p2pchat.errors import ImportRefused
from p2pchat.protocol import (
    FILE_VERSION,
    LENGTH,
    MAX_FRAME_BYTES,
    AnyFrame,
    ConversationId,
    Decoder,
    Entries,
    File,
    FileEnd,
    Naming,
)

MAX_NAMINGS = 10_000  # conversation names remembered; a file covers one conversation after the other
NOT_AN_EXPORT = "this is no file that `p2pchat export` made"


class ExportReader:
    """Decodes the bytes of one file, in pieces of any size, into frames of entries.

    Args:
        room: The room of the reading peer's network; a file of another network is refused.

    Attributes:
        entries: Number of entries read so far.
        unreadable: Number of frames that could not be read.
        ended: Nothing after this is read: the last frame came, or an impossible length.
        problem: What is wrong with the file, as a sentence; "" for nothing. Final once `finish` was called.
    """

    def __init__(self, room: ConversationId, settings: Settings | None = None) -> None:
        self.entries = 0
        self.unreadable = 0
        self.ended = False
        self.problem = ""
        self._room = room
        self._settings = settings or Settings()
        self._begun = False
        self._rest = bytearray()
        self._ready: deque[Entries] = deque()
        self._namings: dict[ConversationId, Naming] = {room: Naming(room=True)}

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            ImportRefused: It is no export file, one of a later version, or one of another network.
        """
        self._rest += data
        view, at = memoryview(self._rest), 0
        try:
            while not self.ended and len(view) - at >= LENGTH.size:
                size = LENGTH.unpack_from(view, at)[0]
                if not 0 < size <= MAX_FRAME_BYTES:
                    self._lose_track()
                    break
                end = at + LENGTH.size + size
                if end > len(view):
                    break
                self._read(view[at:end])
                at = end
        finally:
            view.release()
        del self._rest[:at]

    def _read(self, data: memoryview) -> None:
        """Decode one frame. Each gets its own decoder, so that a bad frame affects no other."""
        decoder = Decoder(self._settings, max_frame_bytes=MAX_FRAME_BYTES)
        frames = decoder.feed(data)
        if not self._begun:
            self._begin(frames)
        elif not frames:
            self.unreadable += 1
        elif isinstance(frames[0], Entries):
            self._take(frames[0])
        elif isinstance(frames[0], FileEnd):
            self.ended = True
            if frames[0].entries != self.entries:
                self.problem = f"{self.entries} of its {frames[0].entries} entries could be read: it was damaged"

    def _begin(self, frames: list[AnyFrame]) -> None:
        if not frames or not isinstance(frames[0], File):
            raise ImportRefused(NOT_AN_EXPORT)
        if frames[0].v > FILE_VERSION:
            raise ImportRefused("this file was made by a later version of p2pchat: use that one here too")
        if frames[0].room != self._room:
            raise ImportRefused("this file is of another network: nothing of it belongs here")
        self._begun = True

    def _lose_track(self) -> None:
        if not self._begun:
            raise ImportRefused(NOT_AN_EXPORT)
        self.ended = True
        self.problem = "it is damaged: what stands behind the damage cannot be found"

    def _take(self, frame: Entries) -> None:
        for naming in frame.names:
            if naming.dm:
                self._namings[dm_id(*naming.dm)] = naming
            if naming.group:
                self._namings[naming.group[0]] = naming
            if naming.talk:
                self._namings[talk_id(naming.talk)] = naming
        while len(self._namings) > MAX_NAMINGS:
            del self._namings[next(iter(self._namings))]
        if not frame.fork:
            self.entries += len(frame.e)
        self._ready.append(frame)

    def finish(self) -> None:
        """End the file. Raises ImportRefused when it never began."""
        if not self._begun:
            raise ImportRefused(NOT_AN_EXPORT)
        if not self.ended:
            self.problem = "it is cut off: the end is missing"

    @property
    def waiting(self) -> int:
        """The number of frames decoded and not taken yet."""
        return len(self._ready)

    def take(self, most: int) -> list[Entries]:
        """Return the next frames with about `most` entries. The first frame of each conversation names it."""
        frames: list[Entries] = []
        named: set[ConversationId] = set()
        count = 0
        while self._ready and count < most:
            frame = self._ready.popleft()
            naming = None if frame.c in named else self._namings.get(frame.c)
            named.add(frame.c)
            frame.names = [] if naming is None else [naming]
            frames.append(frame)
            count += len(frame.e)
        return frames
