"""Who calls: the account of a token, or on this machine, where that is trusted, whoever the caller says.

HTTP carries the token as `Authorization: Bearer`; a browser's WebSocket cannot, and sends `{"token"}` as its first
frame. Who carries a token is that account and no other, trusted or not.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from p2pchat.web.accounts import Account
from p2pchat.web.errors import Unauthorized
from p2pchat.web.gateway import Gateway, gateway_of
from p2pchat.web.origins import parse_host
from p2pchat.web.rate_limit import site_of

NAME_PARAMETERS = ("as", "user", "username", "name")  # where a trusted caller may say who it is; clients differ
CALLER = "p2pchat.account"  # in the scope of a request: whose it is, once that is known
_FORWARDED = ("forwarded", "via", "x-real-ip", "cf-connecting-ip", "true-client-ip")


def address_of(connection: HTTPConnection) -> str:
    """Return the address of a caller; "" when it is not known."""
    return connection.client.host if connection.client else ""


def is_on_loopback(connection: HTTPConnection) -> bool:
    """Whether a caller is a program on this machine that asked for this machine: nothing that came through a proxy."""
    if _is_forwarded(connection) or not _asks_for_loopback(connection):
        return False
    try:
        return ip_address(address_of(connection)).is_loopback
    except ValueError:
        return False


def _is_forwarded(connection: HTTPConnection) -> bool:
    return any(name in _FORWARDED or name.startswith("x-forwarded-") for name in connection.headers)


def _asks_for_loopback(connection: HTTPConnection) -> bool:
    asked = parse_host(connection.headers.get("host", ""), "http")
    if asked is None:
        return False
    try:
        return asked.host == "localhost" or ip_address(asked.host).is_loopback
    except ValueError:
        return False


def may_name_itself(connection: HTTPConnection) -> bool:
    """Whether a caller without a token may say who it is: `trust_loopback`, on this machine, no other site's page."""
    if connection.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return False
    return gateway_of(connection).settings.trust_loopback and is_on_loopback(connection)


def claimed_name(connection: HTTPConnection) -> str | None:
    """Return who a caller says in its query to be, None when it does not. To be believed only if may_name_itself."""
    query = connection.query_params
    return next((query[name] for name in NAME_PARAMETERS if query.get(name)), None)


def token_of(connection: HTTPConnection) -> str | None:
    """Return the token in the header, None when there is no such header. Raises Unauthorized for another scheme."""
    header = connection.headers.get("authorization")
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized()
    return token.strip()


async def account_of_token(gateway: Gateway, token: str, address: str) -> Account:
    """Return whose token this is. Raises Unauthorized, and TooMany when that address guesses too often."""
    account = await gateway.accounts.by_token(token)
    if account is None:
        gateway.rates.strangers.take(site_of(address))
        raise Unauthorized("nobody here has this token")
    return account


async def named_account(connection: HTTPConnection, name: str | None) -> Account:
    """Return the account of a caller who may carry a token or, where that is trusted, a name of its own choice.

    Args:
        name: Who a caller without a token says to be; None: it does not say.
    Raises:
        Unauthorized: Neither. TooMany: More often than that account or address may.
    """
    gateway, token = gateway_of(connection), token_of(connection)
    if token is not None:
        account = await account_of_token(gateway, token, address_of(connection))
    elif name and may_name_itself(connection):
        account = await gateway.accounts.trusted(name)
    else:
        gateway.rates.strangers.take(site_of(address_of(connection)))
        raise Unauthorized()
    connection.scope[CALLER] = account  # for the journal
    gateway.rates.calls.take(account.key)
    return account


async def current_account(connection: HTTPConnection) -> Account:
    """The dependency of every call that is somebody's; a trusted caller says `?as=NAME`. Raises as named_account."""
    return await named_account(connection, claimed_name(connection))


CurrentAccount = Annotated[Account, Depends(current_account)]
CurrentGateway = Annotated[Gateway, Depends(gateway_of)]
