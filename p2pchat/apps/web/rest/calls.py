"""What all calls of REST have in common: how they say who calls, and which problems OpenAPI says they may answer."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Security
from fastapi.security import HTTPBearer

from p2pchat.web.schemas import Problem

_WHY = {
    400: "It cannot be meant.",
    401: "Nobody here has this token, or there is none.",
    403: "It is known who asks, and that one may not.",
    404: "There is no such thing, or it is not for whoever asks.",
    409: "Several are called so, or it cannot be done as things are.",
    413: "It is too long; the text says what fits.",
    422: "The request has another shape than described here.",
    429: "More often than allowed; `Retry-After` says when it works again.",
    503: "The gateway stops, is full, or cannot keep anything now; `Retry-After` says when to try again.",
}
_ALWAYS = (400, 401, 403, 422, 429, 503)


def problems(*more: int) -> dict[int | str, dict[str, Any]]:
    """Return what a call may answer when it is not done, as FastAPI takes it; `more` than all calls have."""
    return {status: {"model": Problem, "description": _WHY[status]} for status in sorted({*_ALWAYS, *more})}


async def says_who(
    token: Annotated[object, Security(HTTPBearer(auto_error=False, description="The token of an account."))],
    caller: Annotated[
        str | None,
        Query(
            alias="as",
            max_length=64,
            description="Who a caller without a token is, where callers on this machine are trusted.",
        ),
    ] = None,
) -> None:
    """How a call says who makes it, for OpenAPI; whether it is so finds auth.py."""
