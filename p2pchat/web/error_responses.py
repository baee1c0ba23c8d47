"""Errors as callers of every interface get them: `{"status":"error","code","text"}`.

`code` is a stable word, `text` is for people. Errors of the library, of HTTP and of requests that have another form
are worded here, once. Nothing here imports FastAPI: the control server, which also runs without a gateway, catches
these errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from p2pchat import AmbiguousName, InviteError, KeyReused, P2PChatError, PeerClosed, StorageError, TooLong, UnknownName

EXAMPLE_ID = "BVMRTKYYVIBVXDV5L7KR6J7XCHUILOF7XZ4FYNYZJYSOV3UUSNUGY2XM344OGAB6.2"  # of a message


class WebError(Exception):
    """A refused request: an HTTP status, a stable word and a sentence for people."""

    def __reduce__(self) -> tuple[Any, ...]:
        return P2PChatError.__reduce__(self)  # type: ignore[arg-type]  # it needs nothing but an exception

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
        case InviteError():  # this gateway is neither the network's founder nor an admin, or nobody can dial it
            return WebError(403, "invite_error", text)
        case KeyReused():
            return WebError(422, "key_reused", text)
        case TooLong():
            return WebError(413, "too_long", text)
        case PeerClosed():
            return WebError(503, "stopping", "this gateway is stopping: try again", {"Retry-After": "2"})
        case StorageError():
            return WebError(503, "storage", text, {"Retry-After": "5"})
        case P2PChatError() | ValueError() | TypeError():
            return WebError(400, "malformed", text)
    raise error


# ---- requests refused before they are handled

_WORDS = {404: "not_found", 405: "method", 400: "malformed", 403: "forbidden", 413: "too_large", 401: "unauthorized"}


def http_error(status: int, text: str, headers: Mapping[str, str] | None = None) -> WebError:
    """Return an error of HTTP, such as an unknown path, as the caller gets it."""
    return WebError(status, _WORDS.get(status, "failed"), text, headers)


def malformed_request(errors: Iterable[Mapping[str, Any]], body: Any) -> WebError:
    """Return the answer to a request that has another form than its schema.

    Args:
        errors: What is wrong, as pydantic says it.
        body: The body of the request.
    """
    sentences = dict.fromkeys(_sentence(each, body) for each in errors)
    return WebError(422, "malformed", "; ".join([*sentences][:5]))


def _sentence(error: Mapping[str, Any], body: Any) -> str:
    """Return which field of the caller is wrong and why, never its value, which may be a text or a token."""
    source, *path = error["loc"]
    fields: list[str] = []
    at = body if source == "body" else dict.fromkeys(path)
    for part in path:  # pydantic's path goes on into the types of the value
        if isinstance(at, list) and isinstance(part, int):
            at = at[part]
        elif isinstance(at, dict) and (part in at or error["type"] == "missing"):
            at = at.get(part)
        else:
            break
        fields.append(str(part))
    if fields:
        return f"{'.'.join(fields)}: {_reason(error)}"
    if error["type"] == "value_error":  # of a model, about several fields
        return str(error["ctx"]["error"])
    return "send a JSON object, with the header Content-Type: application/json"


_REASONS = {"extra_forbidden": "unknown field", "missing": "it is missing"}


def _reason(error: Mapping[str, Any]) -> str:
    """Return why a field is wrong, in words that do not need pydantic's."""
    if error["type"] == "string_pattern_mismatch":  # only ids have a pattern
        return f"not the id of a message, which looks like {EXAMPLE_ID}"
    reason = _REASONS.get(error["type"]) or str(error["msg"])
    return re.sub(r"^(?:Input|String|List|Value) should ", "it should ", reason)
