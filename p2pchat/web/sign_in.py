"""Authentication: by token, or by name for trusted callers on this machine; who may sign up, who gets the invite.

HTTP requests carry the token as `Authorization: Bearer`. A browser cannot set headers on a WebSocket, so its first
frame is `{"token": TOKEN}`. Where callers on this machine are trusted, one without a token gives a name: in the URL
(`?user=ada`) or as the first frame of a WebSocket, `{"user": "ada"}` or just the name. A caller with a token is
always that account.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, Query, Security, WebSocket
from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocketDisconnect, WebSocketState

from p2pchat.commands.json_commands import read_object
from p2pchat.web.account_session import as_frame
from p2pchat.web.accounts import Account
from p2pchat.web.error_responses import Forbidden, Unauthorized, WebError
from p2pchat.web.gateway_state import OPERATOR, Gateway, gateway_of
from p2pchat.web.rate_limits import site_of
from p2pchat.web.security import CALLER, address_of, answer, is_on_loopback

NAME_PARAMETERS = ("as", "user", "username", "name")  # where a trusted caller gives its name; clients differ


def may_name_itself(connection: HTTPConnection) -> bool:
    """Return whether a caller may give a name instead of a token: trusted, local, and no page of another site."""
    if connection.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return False
    return gateway_of(connection).settings.trust_loopback and is_on_loopback(connection)


def may_sign_up(connection: HTTPConnection) -> bool:
    """Return whether a caller may register a name of its own."""
    way = gateway_of(connection).settings.sign_up
    return way == "open" or (way == "auto" and is_on_loopback(connection))


def check_sign_up(connection: HTTPConnection) -> None:
    """Raise Forbidden if a caller may not register a name."""
    if not may_sign_up(connection):
        raise Forbidden("sign-up is closed here: ask the operator of this gateway for a token", "sign_up_closed")


def may_invite(connection: HTTPConnection) -> bool:
    """Return whether an account that calls on this connection is given the invite to the network."""
    settings = gateway_of(connection).settings
    return settings.gives_invites and (settings.invites == "all" or is_operator(connection))


def is_operator(connection: HTTPConnection) -> bool:
    """Return whether a caller counts as the operator: it is on this machine, or the program says so."""
    if gateway_of(connection).authenticate is None:
        return is_on_loopback(connection)
    return connection.scope.get(OPERATOR) is True


def claimed_name(connection: HTTPConnection) -> str | None:
    """Return the name a caller gives in its query, or None. Valid only if may_name_itself()."""
    query = connection.query_params
    return next((query[name] for name in NAME_PARAMETERS if query.get(name)), None)


def token_of(connection: HTTPConnection) -> str | None:
    """Return the token in the header, None without one or where none counts. Raises Unauthorized for another scheme."""
    header = connection.headers.get("authorization")
    if header is None or gateway_of(connection).authenticate is not None:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized()
    return token.strip()


def missing_token(connection: HTTPConnection, how: str = "send Authorization: Bearer TOKEN") -> Unauthorized:
    """Return the refusal of a caller without a token, which says what to do.

    Args:
        how: How callers of this kind send a token.
    """
    settings, is_here = gateway_of(connection).settings, is_on_loopback(connection)
    if gateway_of(connection).authenticate is not None:
        return Unauthorized("nobody is signed in: sign in where this chat belongs to, then try again")
    if may_sign_up(connection):
        source = 'POST /accounts {"name": NAME} returns one'
    else:
        source = "the operator makes one with `p2pchat web token NAME`"
    if is_here and settings.trust_loopback:
        word = "user" if connection.scope["type"] == "websocket" else "as"
        name = f"; or give a name: ?{word}=NAME in the address"
    elif is_here:
        name = "; or start the gateway with --trust-loopback, and programs on this machine only give a name"
    else:
        name = ""
    return Unauthorized(f"missing token: {how}; {source}{name}")


async def account_of_token(gateway: Gateway, token: str, address: str) -> Account:
    """Return the account of a token. Raises Unauthorized, and TooMany if the address guesses too often."""
    account = await gateway.accounts.by_token(token)
    if account is None:
        gateway.limits.strangers.take(site_of(address))
        raise Unauthorized("unknown token: mistyped, revoked or replaced; `p2pchat web token NAME` makes another")
    return account


def caller_site(connection: HTTPConnection) -> str:
    """Return the site whose limits hold for a caller; "" on this machine."""
    return "" if is_on_loopback(connection) else site_of(address_of(connection))


async def identify(
    connection: HTTPConnection,
    token: object,
    names: Sequence[object] = (),
    *,
    how: str = "send Authorization: Bearer TOKEN",
    calls: int = 1,
) -> Account:
    """Return the account of a caller: every door asks here, and counts the call.

    Args:
        token: What it sent as its token; anything but a text: it sent none.
        names: What it gives as its name, in this place and that. Where it may name itself, the last one counts.
        how: How callers of this kind send a token.
        calls: What this counts as; 0: it is no call of its own.
    Raises Unauthorized, Forbidden if the token is not that of a name, and TooMany if the account or address exceeds a
    rate limit.
    """
    gateway, given = gateway_of(connection), [name.strip() for name in names if isinstance(name, str) and name]
    account = None
    if gateway.authenticate is not None:
        account = await gateway.ask(connection)
    elif isinstance(token, str):
        account = await account_of_token(gateway, token, address_of(connection))
    elif given and may_name_itself(connection):
        account = await gateway.accounts.trusted(given.pop())
    if account is None:
        gateway.limits.strangers.take(site_of(address_of(connection)))
        raise missing_token(connection, how)
    if not all(map(account.is_me, given)):  # it would write as somebody it did not mean
        raise Forbidden("this token belongs to another name: leave the name out, or send its own token")
    connection.scope[CALLER] = account  # for the audit log
    if calls:
        gateway.limits.call(account.key, caller_site(connection), calls)
    return account


async def current_account(connection: HTTPConnection) -> Account:
    """Dependency of every call made by an account; a trusted caller sends `?as=NAME`. Raises as identify."""
    return await identify(connection, token_of(connection), [claimed_name(connection)])


CurrentAccount = Annotated[Account, Depends(current_account)]
CurrentGateway = Annotated[Gateway, Depends(gateway_of)]


async def describe_authentication(
    token: Annotated[object, Security(HTTPBearer(auto_error=False, description="The token of an account."))],
    caller: Annotated[
        str | None,
        Query(
            alias="as",
            max_length=64,
            description="The name of a caller without a token, where callers on this machine are trusted.",
        ),
    ] = None,
) -> None:
    """Describe the authentication of a call, for OpenAPI only; sign_in.py checks it."""


AUTHENTICATED = [Depends(describe_authentication)]


# ---- WebSockets

NOT_SIGNED_IN = 1008  # RFC 6455: policy violation
_HOW = 'send {"token": TOKEN}'


async def sign_in(websocket: WebSocket) -> tuple[Account, dict[str, Any]] | None:
    """Accept a WebSocket; return its account, and the other fields of its first frame, {} if it needed none.

    None: it was refused and closed.
    """
    first: dict[str, Any] = {}
    try:
        token: object = token_of(websocket)
        names: list[object] = [claimed_name(websocket)]
        if gateway_of(websocket).authenticate is not None:
            await websocket.accept()  # a page hears only from then on why it is refused
        elif token is None and not (names[0] and may_name_itself(websocket)):
            await websocket.accept()
            first = await _first_frame(websocket)
            token = first.pop("token", None)
            names += [first[word] for word in NAME_PARAMETERS if word in first][:1]
        account = await identify(websocket, token, names, how=f"{_HOW} first")
        if websocket.application_state is WebSocketState.CONNECTING:
            await websocket.accept()
        return account, first
    except WebSocketDisconnect:
        return None
    except Exception as error:  # refuse() raises unexpected errors again
        await refuse(websocket, error)
        return None


async def _first_frame(websocket: WebSocket) -> dict[str, Any]:
    """Return the first frame, in which a text that is no object is a name."""
    try:
        async with asyncio.timeout(gateway_of(websocket).settings.token_timeout):
            text = await _first_text(websocket)
    except TimeoutError:
        raise missing_token(websocket, f"{_HOW} first, in time") from None
    said = read_object(text)
    return {NAME_PARAMETERS[0]: text} if said is None else said


async def _first_text(websocket: WebSocket) -> str:
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    text: str | None = message.get("text")
    if text is None:
        raise WebError(400, "malformed", "frames must be text, not bytes")
    return text


async def refuse(websocket: WebSocket, error: Exception) -> None:
    """Send the error: as an HTTP answer before the upgrade, otherwise as a frame and a close."""
    problem = gateway_of(websocket).metrics.problem(error)
    try:
        if websocket.application_state is WebSocketState.CONNECTING:
            await websocket.send_denial_response(answer(problem))
        else:
            await websocket.send(as_frame(problem.to_json()))
            await websocket.close(NOT_SIGNED_IN, problem.code)
    except (RuntimeError, WebSocketDisconnect):  # the client is gone, or the server does not support such answers
        pass
