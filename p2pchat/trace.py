"""The trace of a peer: every frame of its links in both directions, one JSON object a line, in a file.

It is for people who write a peer, and for reports. Signatures and proofs of membership are never in it, because a proof
and an open network's id let others find or join the network. Texts of people, and hashes that would confirm a guessed
one, are in it on request only; otherwise they appear as their size. Only fields known to this file are shown, so one
that a later version adds is hidden.

A line is made and written in the event loop, which takes 20 to 60 us a frame (0.7 ms for 256 entries). A disk that
fails ends the trace, and the peer goes on; one that is slow slows the peer down.

Source: docs/troubleshooting.md, "A trace of the links".
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from io import FileIO
from typing import Any

from p2pchat import __version__
from p2pchat.errors import FrameError
from p2pchat.kinds import KINDS
from p2pchat.protocol import LENGTH, PIECE_HEAD, RAW_FLAG, PeerId

SCHEMA = 1
MAX_SHOWN = 200  # characters of an endpoint, a word or a reason

LEFT_OUT = "<left out>"
_SECRETS = frozenset(("sig", "proof"))  # never shown, in any frame
_HEX = re.compile(r"(?:[0-9a-f]{16}){1,8}")
_KEY = re.compile(rf"[A-Za-z_]{{1,40}}|{_HEX.pattern}")
_KIND = re.compile(rf'"k":\s*"({"|".join(KINDS)})"')
# The fields whose strings are shown without texts, and the form that they must have. Others may be what people wrote.
_FORMS = {
    **dict.fromkeys(("id", "nonce", "run", "c", "u", "r", "gone", "linked", "span", "full"), _HEX),
    **dict.fromkeys(("room", "dm", "group", "talk"), _HEX),
    **dict.fromkeys(("marks", "tips", "older"), re.compile("[0-9a-f]{16}")),  # runs, no hashes
    "status": re.compile("online|idle|offline"),
}
Data = bytes | memoryview
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Trace:
    """The trace of one peer.

    Args:
        path: The file. Above the limit it is renamed to FILE.1, in place of the one before.
        texts: Show what people wrote, and the hashes made of it, as they are.
        limit_bytes: Size of each of the two files. Devices and pipes have no limit.
        peer: The own id, which begins each file.
        clock: Returns UTC microseconds.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, texts: bool, limit_bytes: int, peer: PeerId, clock: Callable[[], int]
    ) -> None:
        self._texts = texts
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._peer = peer
        self._failure = ""
        self._warn: Callable[[str], object] = len  # nobody is told before report_to()
        self._path = os.fspath(path)
        self._file: FileIO | None = None
        try:
            self._open()
        except (OSError, ValueError) as error:  # a path with a zero byte is a ValueError
            self.fail(error)

    def _open(self) -> FileIO:
        """Open a file that is readable by its owner only, and begin it."""
        opener = partial(os.open, mode=0o600)
        self._file = file = open(self._path, "ab", buffering=0, opener=opener)  # noqa: SIM115 -- close() closes it
        file.write(self._line(event="start", schema=SCHEMA, version=__version__, peer=self._peer, texts=self._texts))
        return file

    def report_to(self, warn: Callable[[str], object]) -> None:
        """Call `warn` with a sentence if the trace ends early, or has ended already."""
        self._warn = warn
        if self._failure:
            warn(self._failure)

    def fail(self, error: Exception) -> None:
        """Write nothing any more, after an error of the disk or a defect of this file."""
        if not self._failure:
            why = getattr(error, "strerror", None) or type(error).__name__
            self._failure = f"cannot write the trace {self._path}: {why}; the peer goes on without it"
            self._warn(self._failure)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    # Lines

    def link(self, link: int, side: str, address: str) -> LinkTrace:
        """Return the trace of a new connection. `side` is "dialled" or "accepted"."""
        self.put(event="begin", link=link, side=side, address=address[:MAX_SHOWN])
        return LinkTrace(self, link)

    def put(self, **fields: Any) -> None:
        """Write one line, unless the trace has ended."""
        if self._failure or self._file is None:
            return
        try:
            line, file = self._line(**fields), self._file
            if os.fstat(file.fileno()).st_size + len(line) > self._limit_bytes:
                file.close()
                os.replace(self._path, f"{self._path}.1")
                file = self._open()
            file.write(line)
        except Exception as error:
            self.fail(error)

    def _line(self, **fields: Any) -> bytes:
        at = (_EPOCH + timedelta(microseconds=self._clock())).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        line = json.dumps({"at": at, **fields}, separators=(",", ":"))  # ASCII: safe on a terminal
        return f"{line}\n".encode()

    # What is shown of a frame

    def shown(self, payload: Data, *, proving: bool) -> dict[str, Any] | None:
        """Return a frame without secrets, and as the trace shows texts; None if it cannot be shown.

        Args:
            proving: The link has no `go` yet: only known fields are shown, because others may be misspelt proofs.
        """
        try:
            frame = json.loads(str(payload, "utf-8"), parse_float=str, parse_constant=str)
            if isinstance(frame, dict):
                shown: dict[str, Any] = _shown(frame, "", self._texts and not proving)
                words = ["t", "code", "at"]  # of the protocol, and an endpoint
                if frame.get("t") == "bye":
                    words.append("text")  # a program's
                for name in words:
                    if isinstance(frame.get(name), str):
                        shown[name] = frame[name][:MAX_SHOWN]
                return shown
        except (ValueError, RecursionError):
            pass
        return None


class LinkTrace:
    """The trace of one connection: the methods that a Client calls.

    Attributes:
        peer: The id of the far end: the key from TLS, or what its hello says, proved or not; "" before that.
        error: Why the TLS handshake failed; "" if it did not.
    """

    def __init__(self, trace: Trace, link: int) -> None:
        self._trace = trace
        self._link = link
        self._proving = True
        self.peer: PeerId = ""
        self.error: str = ""

    def on_frames(self, direction: str, data: Data, frames: int = -1, fault: FrameError | None = None) -> None:
        """Trace frames that came in or were given to the connection: so many, or all for -1; then one with a fault."""
        start = 0
        try:
            while frames and start < len(data):
                start = self._on_frame(direction, data, start)
                frames -= 1
            if fault is not None:
                self._on_frame(direction, data, start, code=fault.code, reason=str(fault)[:MAX_SHOWN])
        except Exception as error:  # the driver calls this: a defect of the trace costs no link and no peer
            self._trace.fail(error)

    def on_end(self, reason: str) -> None:
        """Trace the end."""
        error = {"error": self.error[:MAX_SHOWN]} if self.error else {}
        self._trace.put(event="end", link=self._link, peer=self.peer, reason=reason, **error)

    def _on_frame(self, direction: str, data: Data, start: int, **fault: str) -> int:
        """Trace the frame that begins there; return where it ends."""
        size: int = LENGTH.unpack_from(data, start)[0]
        if size & RAW_FLAG and not fault:
            size -= RAW_FLAG
            n, index = PIECE_HEAD.unpack_from(data, start + 4)
            frame: dict[str, Any] | None = {"t": "piece", "n": n, "index": index}
        else:
            frame = self._trace.shown(data[start + 4 : start + 4 + size], proving=self._proving)
        if self._proving and frame is not None:
            if direction == "in" and not self.peer:
                self.peer = str(frame.get("id", ""))
            self._proving = frame.get("t") != "go"
        self._trace.put(
            event="frame", link=self._link, direction=direction, peer=self.peer, bytes=size, **fault, frame=frame
        )
        return start + 4 + size


def _shown(value: Any, field: str, texts: bool) -> Any:
    """Return a value of a frame as it is shown. `field` is that of the nearest field around it."""
    if field in _SECRETS:
        return LEFT_OUT
    if isinstance(value, dict):
        return dict(_field(key, each, field, texts) for key, each in value.items())
    if isinstance(value, list):
        return [_shown(each, field, texts) for each in value]
    if texts or not isinstance(value, str):
        return value
    kind = _KIND.search(value)
    if field != "e" or kind is None:
        return _text(value, _FORMS.get(field))
    return {"k": kind[1], "bytes": len(value.encode("utf-8", "surrogatepass"))}


def _field(key: str, value: Any, around: str, texts: bool) -> tuple[str, Any]:
    """Return a field as it is shown. Ids that are keys belong to the field around them."""
    if _HEX.fullmatch(key):
        return key, _shown(value, around, texts)
    if texts:
        return key, _shown(value, key, texts)
    return _text(key, _KEY), _shown(value, key, texts)


def _text(text: str, form: re.Pattern[str] | None) -> str:
    """Return a text that has a form that may be shown, otherwise its size."""
    if form is not None and form.fullmatch(text):
        return text
    return f"<{len(text.encode('utf-8', 'surrogatepass'))} bytes>"
