"""Import of export files: their bytes decoded into frames, and what those frames have.

A file is a sequence of frames as on a link: `file`, then `members`, then `entries`, then `file_end`. A file that is no
export of this network is refused as a whole. Of a damaged or cut-off file, every whole frame is read.

Statements about members are taken as from a link (statement_exchange.py). They come first, so that a removal is known
before what the removed one wrote is shown.

Entries get the same checks as on a link (ingest.py), and are counted instead of answered. There is no peer to ask for
missing entries, to blame or to inform. So each frame is taken by itself, and a bad one affects no other. A batch whose
predecessor is missing is not kept. The frames of one ImportRequest are answered together when everything they brought
is durable, which limits how fast a file is read.

Source: docs/protocol-files.md. export_file.py makes such files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from p2pchat.core.effects import ImportResult
from p2pchat.core.groups.group_fact import talk_id
from p2pchat.core.inputs import ImportRequest
from p2pchat.core.log import LogId, WriterKey
from p2pchat.core.members.statement_exchange import StatementExchange
from p2pchat.core.sync.conversation_state import ConversationState
from p2pchat.core.sync.ingest import Ingest
from p2pchat.core.sync.known_conversations import dm_id
from p2pchat.core.sync.log_validation import EntrySource, Why
from p2pchat.core.sync.remote_state import ForkEvidence
from p2pchat.core.sync.step import PendingImport
from p2pchat.core.sync.sync_context import SyncContext
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
    Statements,
)
from p2pchat.settings import Settings

FRAME_UNITS = 32  # of a frame, besides one of each entry: 0.2 ms for a signature and a new log, measured
MAX_NAMINGS = 10_000  # conversation names remembered; a file covers one conversation after the other
NOT_AN_EXPORT = "this is no file that `p2pchat export` made"


class ExportReader:
    """Decodes the bytes of one file, in pieces of any size, into frames of statements and of entries.

    Args:
        room: The room of the reading peer's network; a file of another network is refused.

    Attributes:
        entries: Number of entries read so far.
        unreadable: Number of frames that could not be read.
        ended: Nothing after this is read: the last frame came, or an impossible length.
        is_complete: Its last frame came.
        problem: What is wrong with the file, as a sentence; "" for nothing. Final once `finish` was called.
    """

    def __init__(self, room: ConversationId, settings: Settings | None = None) -> None:
        self.entries: int = 0
        self.unreadable: int = 0
        self.ended: bool = False
        self.problem: str = ""
        self._room = room
        self._settings = settings or Settings()
        self._begun = False
        self.is_complete: bool = False
        self._rest = bytearray()
        self._ready: deque[Entries | Statements] = deque()
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
        elif isinstance(frames[0], Statements):
            self._ready.append(frames[0])
        elif isinstance(frames[0], FileEnd):
            self.ended = self.is_complete = True
            if frames[0].entries != self.entries:
                self.problem = f"{self.entries} of its {frames[0].entries} entries could be read: it was damaged"

    def _begin(self, frames: list[AnyFrame]) -> None:
        if not frames or not isinstance(frames[0], File):
            raise ImportRefused(NOT_AN_EXPORT)
        if frames[0].v > FILE_VERSION:
            raise ImportRefused("this file was made by a later version of p2pchat: use that one here too")
        if frames[0].v < FILE_VERSION:
            raise ImportRefused("this file was made by an older version of p2pchat: read it with that version")
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
                self._namings[dm_id(self._room, *naming.dm)] = naming
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
    def rest(self) -> bytes:
        """The bytes behind the last frame, as far as they were given; b"" if that frame did not come."""
        return bytes(self._rest) if self.is_complete else b""

    @property
    def waiting(self) -> int:
        """The number of frames decoded and not taken yet."""
        return len(self._ready)

    def take(self, most: int) -> list[Entries | Statements]:
        """Return the next frames, of about `most` units and at least one. The first of each conversation names it."""
        frames: list[Entries | Statements] = []
        named: set[ConversationId] = set()
        count = 0
        while self._ready and count < most:
            frame = self._ready.popleft()
            frames.append(frame)
            if isinstance(frame, Statements):
                count += FRAME_UNITS * len(frame.s)
                continue
            naming = None if frame.c in named else self._namings.get(frame.c)
            named.add(frame.c)
            frame.names = [] if naming is None else [naming]
            count += FRAME_UNITS + len(frame.e)
        return frames


# ---- import


class FileImport:
    """Takes in the statements and the entries of export files.

    Args:
        statements: Takes those of a frame.
    """

    def __init__(self, sync: SyncContext, ingest: Ingest, statements: StatementExchange) -> None:
        self._sync = sync
        self._ctx = sync.ctx
        self._ingest = ingest
        self._statements = statements
        self._evidence = ForkEvidence()
        self._imports: dict[int, PendingImport] = {}  # not answered yet

    def import_frames(self, input: ImportRequest) -> None:
        """Take frames of a file. Answered by ImportResult."""
        pending = self._imports[input.ticket] = PendingImport(input.ticket)
        for frame in input.frames:
            if isinstance(frame, Entries):
                self._import_frame(pending, frame)
            else:
                pending.unreadable += not self._statements.take_shown(frame)
                self.on_known(pending)
        self.finish_if_done(pending)

    def _import_frame(self, pending: PendingImport, frame: Entries) -> None:
        source = FileSource(self._evidence, self, self._sync, pending, frame)
        fault = self._ingest.take_from(source, [frame])
        if fault is not None:
            source.reason = fault.code
        if source.is_unsure:
            self._ingest.unsure[partial(self._retry, pending, frame)] = None
            pending.undecided += 1
        else:
            source.count()

    def _retry(self, pending: PendingImport, frame: Entries) -> None:
        pending.undecided -= 1
        self._import_frame(pending, frame)
        self.finish_if_done(pending)

    def on_durable(self, imports: Iterable[PendingImport]) -> None:
        """Note that a commit with entries of these is durable."""
        for pending in imports:
            pending.commits -= 1
            self.finish_if_done(pending)

    def finish_if_done(self, pending: PendingImport) -> None:
        """Answer once all frames are finished and durable."""
        waits = pending.undecided or pending.commits or pending.ticket in self._sync.step.imports
        if not waits and self._imports.pop(pending.ticket, None) is not None:
            self._sync.sweep_conversations()  # conversations that it named may have no entries
            self._ctx.emit(
                ImportResult(
                    pending.ticket, pending.new, pending.known, pending.foreign, dict(pending.refused),
                    unreadable=pending.unreadable,
                )
            )  # fmt: skip

    def on_known(self, pending: PendingImport) -> None:
        """Wait for the last commit too: what is here already may be on its way to disk."""
        change = self._ctx.change
        if change.batches or change.statements or change.unstated:  # that of this step is the last
            self._sync.step.imports[pending.ticket] = pending
            return
        newest = next(reversed(self._sync.pending.values()), None)
        if newest is not None and pending.ticket not in newest.imports:
            newest.imports[pending.ticket] = pending
            pending.commits += 1

    def fail_all(self, reason: str) -> None:
        """Answer all imports as failed, since storage failed."""
        imports, self._imports = self._imports, {}
        for pending in imports.values():
            self._ctx.emit(ImportResult(pending.ticket, failed=reason))


@dataclass(slots=True, eq=False)
class FileSource(EntrySource):
    """One frame of a file, with counts of its entries by result."""

    evidence: ForkEvidence
    file_import: FileImport
    sync: SyncContext
    pending: PendingImport
    frame: Entries
    kept_count: int = 0
    known_count: int = 0
    reason: str = "member"  # why the rest is not kept; by default the writer does not belong there
    is_unsure: bool = False

    def learn_namings(self, namings: Iterable[Naming]) -> None:
        """Know the direct conversations and groups named that concern hosted users."""
        conversations, hosted = self.sync.conversations, self.sync.hosted
        for naming in namings:
            if naming.group:
                conversations.open_group(naming, hosted, "", "")
            if naming.dm and set(naming.dm) & hosted.keys():
                self.sync.inbox.open(naming, is_file=True)

    def find_conversation(self, conversation: ConversationId) -> ConversationState | None:
        found = self.sync.conversations.get(conversation)
        if found is not None and (found.has_facts or found.shared_with(self.sync.hosted)):
            if found.group is not None and found.group.state is None:
                self.reason = "foreign"  # of a group that does not begin here, the rest is of others
            return found
        self.reason = "foreign"
        return None

    def on_dropped(self, why: Why, log: LogId, frame: Entries) -> None:
        if why == "unsure":
            self.is_unsure = True
        elif why in ("early", "full"):
            self.reason = why
        elif why in ("fork", "forked"):
            self.reason = "fork"

    def on_repeated(self, count: int) -> None:
        self.known_count += count
        self.file_import.on_known(self.pending)

    def on_kept(self, key: WriterKey, count: int, size: int) -> None:
        self.kept_count += count
        self.sync.step.imports[self.pending.ticket] = self.pending
        self.sync.step.sources.setdefault(key, set())

    def count(self) -> None:
        """Add the counts of this frame to its import."""
        pending = self.pending
        known = min(self.known_count, len(self.frame.e) - self.kept_count)  # a text for a stub is new
        rest = 0 if self.frame.fork else len(self.frame.e) - self.kept_count - known
        pending.new += self.kept_count
        pending.known += known
        if self.reason == "foreign":
            pending.foreign += rest
        elif rest:
            pending.refused[self.reason] += rest
