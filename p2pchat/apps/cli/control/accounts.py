"""Orders about the accounts of a gateway, carried out beside it or without it: the same words, the same answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from p2pchat.commands.output import Line

if TYPE_CHECKING:
    from p2pchat.web.accounts import Account, Accounts


async def _token(accounts: Accounts, name: str) -> list[Line]:
    account, token = await accounts.new_token(name)
    return [{**_row(account), "token": token}]


async def _users(accounts: Accounts, name: str) -> list[Line]:
    return [_row(account) for account in accounts.list()]


async def _revoke(accounts: Accounts, name: str) -> list[Line]:
    account = await accounts.revoke(name)
    return [] if account is None else [_row(account)]


def _row(account: Account) -> Line:
    return {"user": account.name, "user_id": account.id, "state": account.state, "sessions": account.sessions}


ACCOUNT_ORDERS: dict[str, Callable[[Accounts, str], Awaitable[list[Line]]]] = {
    "web_token": _token,
    "web_users": _users,
    "web_revoke": _revoke,
}
