"""What one read brought of one log: decoded, hashed through, and to be proven by as few heads as do.

A head proves everything before it, so of contiguous frames only heads at most a batch apart are verified. What is
asked of a single entry is asked here too: its size, its shape, that its clock rises.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pchat.config import Settings
from p2pchat.core.log import Entry, decode_entries, head_message, verify
from p2pchat.core.sync.log_index import Conversation, Log
from p2pchat.core.sync.sources import Source
from p2pchat.errors import LogError
from p2pchat.protocol import Entries

TEXTS = frozenset({"text", "action", "edit", "reaction"})  # kinds whose body is what somebody typed


@dataclass(slots=True)
class Piece:
    """One frame's entries, hashed and decoded, not proven yet."""

    frame: Entries
    entries: list[Entry]
    size: int  # bytes of the entries
    prev: bytes
    chain: bytes  # after the last entry
    names: bool  # whether an entry names others


@dataclass(slots=True)
class Span:
    """Contiguous pieces of one log from one read, or from one frame of a file."""

    conversation: Conversation
    log: Log
    source: Source
    pieces: list[Piece] = field(default_factory=list)

    @property
    def next_seq(self) -> int:
        return self.pieces[-1].frame.first + len(self.pieces[-1].entries) if self.pieces else self.log.seq + 1

    @property
    def chain(self) -> bytes:
        return self.pieces[-1].chain if self.pieces else self.log.chain

    @property
    def last_c(self) -> int:
        return self.pieces[-1].entries[-1].c if self.pieces else self.log.last_c

    def is_signed(self, piece: Piece) -> bool:
        """Say whether its author signed the log up to the end of this piece."""
        last = piece.frame.first + len(piece.entries) - 1
        message = head_message(self.log.id, last, piece.chain)
        return verify(self.log.id.user, bytes.fromhex(piece.frame.head), message)


def fitting(pieces: list[Piece], settings: Settings) -> int:
    """Return how many pieces fit into one batch."""
    entries = size = count = 0
    for piece in pieces:
        entries += len(piece.entries)
        size += piece.size
        if count and (entries > settings.max_batch_entries or size > settings.max_batch_bytes):
            break
        count += 1
    return count


def decode(raws: list[str], first: int, last_c: int, settings: Settings) -> tuple[list[Entry], bool]:
    """Return entries first, first+1, ... of a log, and whether any of them names others.

    LogError for one that may not stand behind the clock last_c.
    """
    entries = decode_entries(raws)
    within = min(settings.max_entry_bytes, settings.max_text_bytes) // 4  # so many characters pass no limit
    are_plain = len(max(raws, key=len, default="")) <= within and "\\" not in "".join(raws)  # a NUL is written with one
    names = False
    for seq, entry in enumerate(entries, first):
        c = entry.c
        if c <= last_c:
            raise LogError("an entry whose clock does not rise", expected_seq=seq, got_seq=seq)
        last_c = c
        named = entry.after or entry.before
        if named or entry.re is not None:
            names = True
        if named or not are_plain or entry.k != "text" or type(entry.b) is not str:
            _check(entry, raws[seq - first], seq, settings)
    return entries, names


def _check(entry: Entry, raw: str, seq: int, settings: Settings) -> None:
    body = entry.b
    if len(raw) > settings.max_entry_bytes // 4 and len(raw.encode()) > settings.max_entry_bytes:
        raise LogError(f"an entry above {settings.max_entry_bytes} bytes", code="limit")
    if entry.before and (seq > 1 or len(entry.before) > settings.max_before):
        raise LogError("`before` where it may not be, or too long", code="malformed")
    if len(entry.after) > settings.max_after:
        raise LogError("`after` names too many entries", code="malformed")
    if entry.k in TEXTS:
        if type(body) is not str or "\0" in body:
            raise LogError("a text that is not a string, or holds NUL", code="malformed")
        if len(body) > settings.max_text_bytes // 4 and len(body.encode()) > settings.max_text_bytes:
            raise LogError(f"a text above {settings.max_text_bytes} bytes", code="limit")
