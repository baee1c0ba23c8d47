"""Errors as callers of every interface get them: `{"status":"error","code","text"}`.

`code` is a stable word, `text` is for people. An HTTP caller that accepts PROBLEM_TYPE gets the form of RFC 9457
instead. Errors of the library are translated here, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from p2pchat import AmbiguousName, NameTaken, P2PChatError, PeerClosed, StorageError, TooLong, UnknownName

PROBLEM_TYPE = "application/problem+json"


class WebError(Exception):
    """A refused request: an HTTP status, a stable word and a sentence for people."""

    def __init__(self, status: int, code: str, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.text = text
        self.headers: dict[str, str] = dict(headers or {})

    def to_json(self, ref: object = None) -> dict[str, Any]:
        """Return the object to send; `ref` is returned to the caller if it gave one."""
        found = {"status": "error", "code": self.code, "text": self.text}
        return found if ref is None else {**found, "ref": ref}

    def to_problem(self) -> dict[str, Any]:
        """Return the problem details of RFC 9457; without a `type`, `title` is that of the HTTP status."""
        title = HTTPStatus(self.status).phrase
        return {"title": title, "status": self.status, "detail": self.text, "code": self.code}


class Unauthorized(WebError):
    """The token is unknown or missing."""

    def __init__(self, text: str = "missing token: send Authorization: Bearer TOKEN") -> None:
        super().__init__(401, "unauthorized", text, {"WWW-Authenticate": "Bearer"})


class Forbidden(WebError):
    """The caller is known and not allowed to do this."""

    def __init__(self, text: str, code: str = "forbidden") -> None:
        super().__init__(403, code, text)


def problem_of(error: Exception) -> WebError:
    """Return an error as the caller gets it. Raises an unexpected error again, since that is a defect."""
    text = str(error)
    match error:
        case WebError():
            return error
        case UnknownName():
            return WebError(404, "unknown_name", text)
        case AmbiguousName():
            return WebError(409, "ambiguous_name", text)
        case NameTaken():
            return WebError(409, "name_taken", text)
        case TooLong():
            return WebError(413, "too_long", text)
        case PeerClosed():
            return WebError(503, "stopping", "this gateway is stopping: try again", {"Retry-After": "2"})
        case StorageError():
            return WebError(503, "storage", text, {"Retry-After": "5"})
        case P2PChatError() | ValueError() | TypeError():
            return WebError(400, "malformed", text)
    raise error
