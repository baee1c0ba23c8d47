"""What a caller is told when something cannot be done: one shape, `{"status":"error","code","text"}`, one place.

`code` is a stable word, `text` for people. What the library raises is translated here, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from p2pchat import AmbiguousName, NameTaken, P2PChatError, PeerClosed, StorageError, TooLong, UnknownName


class WebError(Exception):
    """Something asked for is not done: an HTTP status, a stable word, a sentence for people."""

    def __init__(self, status: int, code: str, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})


class Unauthorized(WebError):
    """Nobody here has this token, or there is none."""

    def __init__(self, text: str = "who is it? Send a token: Authorization: Bearer TOKEN") -> None:
        super().__init__(401, "unauthorized", text, {"WWW-Authenticate": "Bearer"})


class Forbidden(WebError):
    """It is known who asks, and that one may not."""

    def __init__(self, text: str, code: str = "forbidden") -> None:
        super().__init__(403, code, text)


class TooMany(WebError):
    """More often than allowed; `wait` are the seconds after which it works again."""

    def __init__(self, wait: float) -> None:
        seconds = max(1, round(wait + 0.5))
        super().__init__(429, "too_many", f"too many at once: try again in {seconds} s", {"Retry-After": str(seconds)})
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Problem:
    """What a caller is told, whatever the transport."""

    status: int
    code: str
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def to_json(self, ref: object = None) -> dict[str, Any]:
        """Return the object to send; `ref` is the caller's own word, given back when there was one."""
        told = {"status": "error", "code": self.code, "text": self.text}
        return told if ref is None else {**told, "ref": ref}


def problem_of(error: Exception) -> Problem:
    """Return what a caller is told of an error; raises it again when it is none of ours, which is a bug to be seen."""
    text = str(error)
    match error:
        case WebError():
            return Problem(error.status, error.code, text, error.headers)
        case UnknownName():
            return Problem(404, "unknown_name", text)
        case AmbiguousName():
            return Problem(409, "ambiguous_name", text)
        case NameTaken():
            return Problem(409, "name_taken", text)
        case TooLong():
            return Problem(413, "too_long", text)
        case PeerClosed():
            return Problem(503, "stopping", "this gateway is stopping: try again", {"Retry-After": "2"})
        case StorageError():
            return Problem(503, "storage", text, {"Retry-After": "5"})
        case P2PChatError() | ValueError() | TypeError():
            return Problem(400, "malformed", text)
    raise error
