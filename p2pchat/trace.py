"""The trace of a peer: every frame of its links in both directions, one JSON object a line, in a file.

It is for people who write a peer, and for reports. Signatures and proofs of membership are never in it, because a proof
and an open network's id let others find or join the network. Texts of people are in it on request only. Otherwise
strings appear as their size, and hashes of texts as eight digits under a key that is drawn at each start and kept
nowhere: equal ones look equal, and nobody can confirm a guessed text with them. Only fields known to this file are
shown, so one that a later version adds is hidden.

A line is made and written in the event loop, which takes 20 to 60 us a frame (0.7 ms for 256 entries). A disk that
fails ends the trace, and the peer goes on; one that is slow slows the peer down.

Source: docs/troubleshooting.md, "A trace of the links".
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from io import TextIOWrapper
from logging import LogRecord, makeLogRecord
from logging.handlers import RotatingFileHandler
from typing import Any

from p2pchat import __version__
from p2pchat.errors import FrameError
from p2pchat.kinds import KINDS
from p2pchat.protocol import LENGTH, MAX_DEPTH, PIECE_HEAD, RAW_FLAG, PeerId

SCHEMA = 1
MAX_SHOWN = 200  # characters of an endpoint, a word or the text of a bye

LEFT_OUT = "<left out>"
_SECRETS = frozenset(("sig", "proof"))  # never shown, in any frame
_HASHES = frozenset(("sum", "sums", "prev", "head"))
_IDS = frozenset(
    ("id", "nonce", "run", "c", "u", "r", "gone", "linked", "span", "marks", "full", "tips", "older")
    + ("room", "dm", "group", "talk")
)
_WORDS = frozenset(("t", "code", "at", "linked"))  # of a frame itself; `at` and `linked` hold endpoints
_MARKS = frozenset(("marks", "tips", "older"))
_STATUSES = frozenset(("online", "idle", "offline"))
_is_hex = re.compile(r"(?:[0-9a-f]{16}){1,8}").fullmatch
_is_key = re.compile(r"[A-Za-z_]{1,40}").fullmatch
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TraceFile(RotatingFileHandler):
    """A file of lines. Above the limit it is renamed to FILE.1, in place of the one before.

    Args:
        limit_bytes: Size of each of the two files. Devices and pipes have no limit.
        first_line: Its line begins each file, and each run in it.
        on_failed: Called once, with the reason as a sentence. Nothing is written afterwards.

    Raises OSError or ValueError for a path that cannot be opened.
    """

    def __init__(
        self, path: str, limit_bytes: int, first_line: Callable[[], str], on_failed: Callable[[str], None]
    ) -> None:
        self._first_line = first_line
        self._on_failed = on_failed
        self.failed: bool = False
        super().__init__(path, maxBytes=limit_bytes, backupCount=1, encoding="ascii")

    def _open(self) -> TextIOWrapper:
        """Open a file that is readable by its owner only."""
        fd = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(fd, f"{self._first_line()}\n".encode())
        except OSError:
            os.close(fd)
            raise
        return os.fdopen(fd, "a", encoding="ascii")

    def handleError(self, record: LogRecord) -> None:
        self.fail(sys.exc_info()[1])

    def fail(self, error: BaseException | None) -> None:
        if not self.failed:
            self.failed = True
            self._on_failed((isinstance(error, OSError) and error.strerror) or type(error).__name__)


class FrameTrace:
    """The trace of one peer.

    Args:
        path: The file.
        texts: Show what people wrote, and the hashes made of it, as they are.
        limit_bytes: See TraceFile.
        peer: The own id, which begins each file.
        clock: Returns UTC microseconds.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, texts: bool, limit_bytes: int, peer: PeerId, clock: Callable[[], int]
    ) -> None:
        self._texts = texts
        self._clock = clock
        self._peer = peer
        self._hash_key = secrets.token_bytes(16)
        self._failure = ""
        self._warn: Callable[[str], None] | None = None
        self._path = os.fspath(path)
        self._file: TraceFile | None = None
        try:
            self._file = TraceFile(self._path, limit_bytes, self._first_line, self._end_early)
        except (OSError, ValueError) as error:  # a path with a zero byte is a ValueError
            self._end_early(getattr(error, "strerror", None) or str(error))

    def _first_line(self) -> str:
        return self._line(event="start", schema=SCHEMA, version=__version__, peer=self._peer, texts=self._texts)

    def report_to(self, warn: Callable[[str], None]) -> None:
        """Call `warn` with a sentence if the trace ends early, or has ended already."""
        self._warn = warn
        if self._failure:
            warn(self._failure)

    def give_up(self, error: Exception) -> None:
        """Write nothing any more after a defect of this file."""
        if self._file is not None:
            self._file.fail(error)

    def _end_early(self, why: str) -> None:
        self._failure = f"cannot write the trace {self._path}: {why}; the peer goes on without it"
        if self._warn is not None:
            self._warn(self._failure)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with suppress(OSError):  # of lines that the disk did not take
                self._file.close()

    # Lines

    def link(self, link: int, side: str, address: str) -> LinkTrace:
        """Return the trace of a new connection. `side` is "dialled" or "accepted"."""
        self.put(event="begin", link=link, side=side, address=address[:MAX_SHOWN])
        return LinkTrace(self, link)

    @property
    def failed(self) -> bool:
        """True once nothing is written any more."""
        return self._file is None or self._file.failed

    def put(self, **fields: Any) -> None:
        """Write one line."""
        if self._file is not None and not self._file.failed:
            self._file.handle(makeLogRecord({"msg": self._line(**fields)}))

    def _line(self, **fields: Any) -> str:
        at = (_EPOCH + timedelta(microseconds=self._clock())).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return json.dumps({"at": at, **fields}, separators=(",", ":"), allow_nan=False)  # ASCII: safe on a terminal

    # What is shown of a frame

    def shown(self, payload: bytes, *, proving: bool) -> dict[str, Any] | None:
        """Return a frame without secrets, and as the trace shows texts; None if it is no JSON object.

        Args:
            proving: The link has no `go` yet: only known fields are shown, because others may be misspelt proofs.
        """
        try:
            frame = json.loads(str(payload, "utf-8"))
        except (ValueError, RecursionError):
            return None
        if not isinstance(frame, dict):
            return None
        if self._texts and not proving:
            shown: dict[str, Any] = _without_secrets(frame, 1)
            return shown
        may_speak = frame.get("t") == "bye"  # its text is a program's
        return {
            _key(key): value[:MAX_SHOWN]
            if may_speak and key == "text" and isinstance(value, str)
            else self._mask(value, key, 2)
            for key, value in frame.items()
        }

    def _mask(self, value: Any, key: str, depth: int) -> Any:
        """Return a value of a frame as it is shown without texts. `key` is that of the nearest field around it."""
        if key in _SECRETS or depth > MAX_DEPTH:
            return LEFT_OUT
        if isinstance(value, str):
            return self._mask_string(value, key)
        if isinstance(value, list):
            if key == "e":
                return [_entry(raw) for raw in value]
            if key in _MARKS and len(value) == 3 and isinstance(value[1], int):
                return [self._mask(value[0], key, depth), value[1], self._mask(value[2], "sum", depth)]
            return [self._mask(each, key, depth + 1) for each in value]
        if isinstance(value, dict):
            return {_key(k): self._mask(v, _field(k, key), depth + 1) for k, v in value.items()}
        return _number(value)

    def _mask_string(self, value: str, key: str) -> str:
        if key in _HASHES and _is_hex(value):
            return "#" + blake2b(value.encode(), key=self._hash_key, digest_size=4).hexdigest()
        if (key in _IDS and _is_hex(value)) or (key == "status" and value in _STATUSES):
            return value
        return value[:MAX_SHOWN] if key in _WORDS else _size(value)


class LinkTrace:
    """The trace of one connection: the methods that a Client calls.

    Attributes:
        peer: The id of the far end: the key from TLS, or what its hello says, proved or not; "" before that.
        error: Why the TLS handshake failed; "" if it did not.
    """

    def __init__(self, trace: FrameTrace, link: int) -> None:
        self._trace = trace
        self._link = link
        self._proving = True
        self.peer: PeerId = ""
        self.error: str = ""

    def on_read(self, data: memoryview, frames: int, fault: FrameError | None) -> None:
        """Trace so many whole frames at the beginning of `data`, then the one that has a fault."""
        if self._trace.failed:
            return
        try:
            start = self._on_frames("in", data, frames)
            if fault is not None:
                size = LENGTH.unpack_from(data, start)[0]
                shown = self._trace.shown(bytes(data[start + 4 : start + 4 + size]), proving=self._proving)
                self._put("in", size, code=fault.code, reason=str(fault)[:MAX_SHOWN], frame=shown)
        except Exception as error:  # a defect of the trace costs no link
            self._trace.give_up(error)

    def on_sent(self, data: bytes) -> None:
        """Trace encoded frames that were given to the connection."""
        if self._trace.failed:
            return
        try:
            self._on_frames("out", memoryview(data), -1)
        except Exception as error:  # the driver calls this: a defect of the trace would stop the peer
            self._trace.give_up(error)

    def on_end(self, reason: str) -> None:
        """Trace the end."""
        error = {"error": self.error[:MAX_SHOWN]} if self.error else {}
        self._trace.put(event="end", link=self._link, peer=self.peer, reason=reason, **error)

    def _on_frames(self, direction: str, data: memoryview, frames: int) -> int:
        """Trace so many frames, or all for -1; return where they end."""
        start, end = 0, len(data)
        while frames and start < end:
            size = LENGTH.unpack_from(data, start)[0]
            if size & RAW_FLAG:
                size &= ~RAW_FLAG
                self._on_piece(direction, data[start + 4 : start + 4 + size])
            else:
                self._on_frame(direction, bytes(data[start + 4 : start + 4 + size]))
            start += 4 + size
            frames -= 1
        return start

    def _on_frame(self, direction: str, payload: bytes) -> None:
        frame = self._trace.shown(payload, proving=self._proving)
        if self._proving and frame is not None:
            claimed = frame.get("id")
            if not self.peer and direction == "in" and frame.get("t") == "hello" and isinstance(claimed, str):
                self.peer = claimed
            self._proving = frame.get("t") != "go"
        self._put(direction, len(payload), frame=frame)

    def _on_piece(self, direction: str, payload: memoryview) -> None:
        n, index = PIECE_HEAD.unpack_from(payload)
        self._put(direction, len(payload), frame={"t": "piece", "n": n, "index": index})

    def _put(self, direction: str, size: int, **fields: Any) -> None:
        self._trace.put(event="frame", link=self._link, direction=direction, peer=self.peer, bytes=size, **fields)


def _entry(raw: Any) -> Any:
    """Return the kind and size of an entry."""
    if not isinstance(raw, list) or len(raw) != 2 or not isinstance(raw[1], str):
        return LEFT_OUT
    size = len(raw[1].encode("utf-8", "surrogatepass"))
    try:
        entry = json.loads(raw[1])
    except (ValueError, RecursionError):
        return {"bytes": size}
    kind = entry.get("k") if isinstance(entry, dict) else None
    return {"k": kind, "bytes": size} if isinstance(kind, str) and kind in KINDS else {"bytes": size}


def _without_secrets(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        return LEFT_OUT
    if isinstance(value, dict):
        return {k: LEFT_OUT if k in _SECRETS else _without_secrets(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_secrets(each, depth + 1) for each in value]
    return _number(value)


def _number(value: Any) -> Any:
    """Return a value unchanged, except a number that JSON does not have."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _field(key: str, around: str) -> str:
    """Return the field that decides how a value inside another one is shown: ids as keys belong to that around."""
    return around if _is_hex(key) else "" if key in _WORDS else key


def _key(key: str) -> str:
    return key if _is_key(key) or _is_hex(key) else _size(key)


def _size(text: str) -> str:
    return f"<{len(text.encode('utf-8', 'surrogatepass'))} bytes>"
