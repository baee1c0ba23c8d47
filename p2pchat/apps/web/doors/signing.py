"""Who is behind a WebSocket: found out before anything else is said there.

A program sends its token as `Authorization: Bearer`; a browser cannot, and sends `{"token"}` as its first frame. Where
callers on this machine are trusted, one without a token says a name: in the address (`?user=ada`), or as its first
frame, `{"user": "ada"}` or nothing but the name.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from p2pchat.apps.web.doors.answers import answer
from p2pchat.apps.web.sessions.frames import as_frame, read_object
from p2pchat.web.accounts import Account
from p2pchat.web.auth import (
    NAME_PARAMETERS,
    account_of_token,
    address_of,
    claimed_name,
    may_name_itself,
    named_account,
    token_of,
)
from p2pchat.web.errors import Unauthorized, WebError
from p2pchat.web.gateway import gateway_of
from p2pchat.web.rate_limit import site_of

NOT_SIGNED_IN = 1008  # RFC 6455: policy violation


@dataclass(frozen=True, slots=True)
class SignedIn:
    """An accepted WebSocket's account, and what else stood in its first frame; {} when it needed none."""

    account: Account
    first: dict[str, Any] = field(default_factory=dict, repr=False)


async def sign_in(websocket: WebSocket) -> SignedIn | None:
    """Accept a WebSocket and return whose it is; None: it was told why not, and is closed."""
    try:
        name = claimed_name(websocket)
        if token_of(websocket) is not None or (name and may_name_itself(websocket)):
            account = await named_account(websocket, name)
            await websocket.accept()
            return SignedIn(account)
        await websocket.accept()
        return await _by_first_frame(websocket)
    except WebSocketDisconnect:
        return None
    except Exception as error:  # what is none of ours is raised again by _refuse()
        await _refuse(websocket, error)
        return None


async def _by_first_frame(websocket: WebSocket) -> SignedIn:
    gateway = gateway_of(websocket)
    try:
        async with asyncio.timeout(gateway.settings.token_timeout):
            text = await _first_text(websocket)
    except TimeoutError:
        raise Unauthorized('who is it? Send {"token": TOKEN} first, in time') from None
    said = read_object(text)
    first = {} if said is None else said
    if isinstance(token := first.pop("token", None), str):
        account = await account_of_token(gateway, token, address_of(websocket))
        gateway.rates.calls.take(account.key)
        return SignedIn(account, first)
    name = text if said is None else next((first[word] for word in NAME_PARAMETERS if word in first), None)
    if not (isinstance(name, str) and may_name_itself(websocket)):
        gateway.rates.strangers.take(site_of(address_of(websocket)))
        raise Unauthorized('who is it? Send {"token": TOKEN} first')
    return SignedIn(await named_account(websocket, name.strip()), first)


async def _first_text(websocket: WebSocket) -> str:
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    text: str | None = message.get("text")
    if text is None:
        raise WebError(400, "malformed", "frames are text, not bytes")
    return text


async def _refuse(websocket: WebSocket, error: Exception) -> None:
    """Say why not: as an HTTP answer while it is one, otherwise as a frame and a close."""
    problem = gateway_of(websocket).metrics.problem(error)
    try:
        if websocket.application_state is WebSocketState.CONNECTING:
            await websocket.send_denial_response(answer(problem))
        else:
            await websocket.send(as_frame(problem.to_json()))
            await websocket.close(NOT_SIGNED_IN, problem.code)
    except (RuntimeError, WebSocketDisconnect):  # it has gone already, or this server knows no such answer
        pass
