"""Authentication: by token, or by name for trusted callers on this machine; who may sign up, who gets the invite.

HTTP requests carry the token as `Authorization: Bearer`. A browser cannot set headers on a WebSocket, so its first
frame is `{"token": TOKEN}`. Where callers on this machine are trusted, one without a token gives a name: in the URL
(`?user=ada`) or as the first frame of a WebSocket, `{"user": "ada"}` or just the name. A caller with a token is
always that account.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Query, Security, WebSocket
from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocketDisconnect, WebSocketState

from p2pchat.commands.json_commands import read_object
from p2pchat.web.account_session import as_frame
from p2pchat.web.accounts import Account
from p2pchat.web.error_responses import Forbidden, Unauthorized, WebError
from p2pchat.web.gateway_state import Gateway, gateway_of
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
    return settings.gives_invites and (settings.invites == "all" or is_on_loopback(connection))


def claimed_name(connection: HTTPConnection) -> str | None:
    """Return the name a caller gives in its query, or None. Valid only if may_name_itself()."""
    query = connection.query_params
    return next((query[name] for name in NAME_PARAMETERS if query.get(name)), None)


def token_of(connection: HTTPConnection) -> str | None:
    """Return the token in the header, None without such a header. Raises Unauthorized for another scheme."""
    header = connection.headers.get("authorization")
    if header is None:
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


async def named_account(connection: HTTPConnection, name: str | None) -> Account:
    """Return the account of a caller, by its token or, where it is trusted, by the name it gives.

    Raises Unauthorized, Forbidden if the token is not that of the name, and TooMany if the account or address exceeds a
    rate limit.
    """
    gateway, token = gateway_of(connection), token_of(connection)
    if token is not None:
        account = await account_of_token(gateway, token, address_of(connection))
        _check_claim(account, name)
    elif name and may_name_itself(connection):
        account = await gateway.accounts.trusted(name)
    else:
        gateway.limits.strangers.take(site_of(address_of(connection)))
        raise missing_token(connection)
    connection.scope[CALLER] = account  # for the audit log
    gateway.limits.call(account.key, caller_site(connection))
    return account


def _check_claim(account: Account, name: object) -> None:
    """Raise Forbidden if a caller gives another name beside its token: it would write as somebody it did not mean."""
    if isinstance(name, str) and name and not account.is_me(name):
        raise Forbidden("this token belongs to another name: leave the name out, or send its own token")


async def current_account(connection: HTTPConnection) -> Account:
    """Dependency of every call made by an account; a trusted caller sends `?as=NAME`. Raises as named_account."""
    return await named_account(connection, claimed_name(connection))


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


@dataclass(frozen=True)
class SignIn:
    """The account of an accepted WebSocket, and the other fields of its first frame, {} if it needed none."""

    account: Account
    first: dict[str, Any] = field(default_factory=dict, repr=False)


async def sign_in(websocket: WebSocket) -> SignIn | None:
    """Accept a WebSocket and return its account; None if it was refused and closed."""
    try:
        name = claimed_name(websocket)
        if token_of(websocket) is not None or (name and may_name_itself(websocket)):
            account = await named_account(websocket, name)
            await websocket.accept()
            return SignIn(account)
        await websocket.accept()
        return await _by_first_frame(websocket)
    except WebSocketDisconnect:
        return None
    except Exception as error:  # refuse() raises unexpected errors again
        await refuse(websocket, error)
        return None


async def _by_first_frame(websocket: WebSocket) -> SignIn:
    gateway = gateway_of(websocket)
    try:
        async with asyncio.timeout(gateway.settings.token_timeout):
            text = await _first_text(websocket)
    except TimeoutError:
        raise missing_token(websocket, 'send {"token": TOKEN} first, in time') from None
    said = read_object(text)
    first = {} if said is None else said
    if isinstance(token := first.pop("token", None), str):
        account = await account_of_token(gateway, token, address_of(websocket))
        _check_claim(account, claimed_name(websocket))
        _check_claim(account, _name_in(first))
        gateway.limits.call(account.key, caller_site(websocket))
        return SignIn(account, first)
    name = text if said is None else _name_in(first)
    if not (isinstance(name, str) and may_name_itself(websocket)):
        gateway.limits.strangers.take(site_of(address_of(websocket)))
        raise missing_token(websocket, 'send {"token": TOKEN} first')
    return SignIn(await named_account(websocket, name.strip()), first)


def _name_in(frame: dict[str, Any]) -> object:
    """Return the name in a first frame, of any type; None without one."""
    return next((frame[word] for word in NAME_PARAMETERS if word in frame), None)


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
            await websocket.send_denial_response(answer(problem, websocket.scope))
        else:
            await websocket.send(as_frame(problem.to_json()))
            await websocket.close(NOT_SIGNED_IN, problem.code)
    except (RuntimeError, WebSocketDisconnect):  # the client is gone, or the server does not support such answers
        pass
