"""Exceptions of p2pchat.

    P2PChatError              base class; programs catch this
    ├── UnknownName           no user or conversation has this name       .name
    ├── AmbiguousName         several have it                             .name .candidates
    ├── InviteError           an invite that cannot be read or used
    ├── ImportRefused         a file that is no export, or one of another network
    ├── PortInUse             another program listens there               .port
    ├── DataLocked            another process uses the data directory     .pid
    ├── StorageError          the database or its disk cannot be used
    ├── DeliveryTimeout       not delivered to all in time; also a TimeoutError   .missing
    ├── PeerClosed            the peer is closed
    ├── ConsumerBusy          another reader has this consumer            .consumer
    ├── KeyReused             a request with the key of another one
    ├── TooLong               a text or entry above its limit; also a ValueError .limit_bytes
    └── ProtocolError         the other peer broke the protocol; its link closes with .code (not exported)
        ├── FrameError        length, UTF-8, JSON or field shape          .limit_bytes .announced_bytes
        ├── HandshakeError    version, identity or proof
        └── LogError          a batch that does not extend its log        .expected_seq .got_seq

Facts are attributes, not text. Wrong types and values of arguments raise TypeError and ValueError. All of them can be
copied, and pickled for another process.
"""

from __future__ import annotations

from collections.abc import Sequence
from copyreg import __newobj__ as make_object  # type: ignore[attr-defined]
from typing import Any


class P2PChatError(Exception):
    """Base of all exceptions that p2pchat raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what makes a copy: the text and the facts, since __init__ takes other arguments."""
        return make_object, (type(self),), {**self.__dict__, "args": self.args}


class UnknownName(P2PChatError):
    """No user and no conversation has this name.

    Attributes:
        name: The name that was asked for.
    """

    def __init__(self, name: str, hint: str = "", *, text: str = "") -> None:
        super().__init__(text or f"nobody here is called {name!r}" + (f"; {hint}" if hint else ""))
        self.name = name


class AmbiguousName(P2PChatError):
    """Several users or conversations have this name.

    Attributes:
        name: The name that was asked for.
        candidates: Labels that tell them apart; each names exactly one.
    """

    def __init__(self, name: str, candidates: Sequence[str]) -> None:
        super().__init__(f"{name!r} could be {', '.join(candidates)}: use one of these")
        self.name = name
        self.candidates: list[str] = list(candidates)


class InviteError(P2PChatError):
    """An invite that cannot be read, or that belongs to another network."""


class ImportRefused(P2PChatError):
    """A file that is not an export of p2pchat, or belongs to another network. Nothing of it was imported."""


class PortInUse(P2PChatError):
    """Another program listens on this port.

    Attributes:
        host: The address.
        port: The port.
    """

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"port {port} on {host} is in use: stop the other program or choose another port")
        self.host = host
        self.port = port


class DataLocked(P2PChatError):
    """Another process uses this data directory.

    Attributes:
        path: The directory.
        pid: The process; 0 when it could not be read.
    """

    def __init__(self, path: str, pid: int) -> None:
        who = f"process {pid}" if pid else "another process"
        super().__init__(f"{path} is in use by {who}: stop it, or choose another directory with --data")
        self.path = path
        self.pid = pid


class StorageError(P2PChatError):
    """The database or its disk cannot be used. Nothing was accepted or acknowledged."""


class DeliveryTimeout(P2PChatError, TimeoutError):
    """Not every recipient had the message in time. The message stays stored and will still arrive.

    Attributes:
        message_id: The id of the message.
        missing: The labels of those who lack it.
        confirmed: The number of those who have it.
        count: The number that was asked for; None if none was.
    """

    def __init__(
        self, message_id: str, missing: Sequence[str], confirmed: int = 0, count: int | None = None, more: str = ""
    ) -> None:
        labels = ", ".join(missing)
        if count is None:
            super().__init__(f"not confirmed in time by {labels or 'anyone'}; it is kept and will arrive{more}")
        else:
            by = f"{confirmed} of the {count} asked for" + (f", not by {labels}" if labels else "")
            super().__init__(f"confirmed in time by {by}; it is kept and will arrive{more}")
        self.message_id = message_id
        self.missing: list[str] = list(missing)
        self.confirmed = confirmed
        self.count = count


class PeerClosed(P2PChatError):
    """The peer was closed before or during this call."""


class ConsumerBusy(P2PChatError):
    """Another reader uses this consumer. Give each reader a name of its own.

    Attributes:
        consumer: The name.
    """

    def __init__(self, consumer: str) -> None:
        super().__init__(f"consumer {consumer!r} is being read already: give this reader another name")
        self.consumer = consumer


class KeyReused(P2PChatError):
    """A request asks for something else than an earlier one with the same key."""


class TooLong(P2PChatError, ValueError):
    """A text or entry is above its limit.

    Attributes:
        size_bytes: Its size, in bytes of UTF-8.
        limit_bytes: The limit.
    """

    def __init__(self, what: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"{what} has {size_bytes} bytes of UTF-8, the limit is {limit_bytes}: send it in parts")
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class ProtocolError(P2PChatError):
    """The peer at the other end broke the protocol. `code` goes into the `bye` it gets."""

    code: str = "malformed"

    def __init__(self, text: str, code: str | None = None) -> None:
        super().__init__(text)
        if code is not None:
            self.code = code


class FrameError(ProtocolError):
    """A frame with a wrong length, UTF-8, JSON or field. `announced_bytes` is 0 unless the length is wrong."""

    def __init__(self, text: str, code: str = "malformed", *, limit_bytes: int = 0, announced_bytes: int = 0) -> None:
        super().__init__(text, code)
        self.limit_bytes = limit_bytes
        self.announced_bytes = announced_bytes


class HandshakeError(ProtocolError):
    """A peer that connects has a wrong version, identity or proof."""


class LogError(ProtocolError):
    """A batch that does not extend its log."""

    code: str = "head"

    def __init__(self, text: str, *, expected_seq: int = 0, got_seq: int = 0, code: str | None = None) -> None:
        super().__init__(text, code)
        self.expected_seq = expected_seq
        self.got_seq = got_seq
