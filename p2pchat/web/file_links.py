"""Links to files of messages, for what sends no token: the address of one file with a ticket.

A ticket proves for an hour that an account asked for it, and ends with the token of the account or with the gateway. It
names the account, the file and the end of its time, so nothing is kept of it.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from time import time

from p2pchat.web.accounts import Account
from p2pchat.web.errors import Unauthorized

LINK_SECONDS = 3600


class FileLinks:
    """The tickets of links.

    Args:
        find: Return the account of a user key (hex), or None.
        clock: The time in seconds since 1970.
    """

    def __init__(self, find: Callable[[str], Account | None], clock: Callable[[], float] = time) -> None:
        self._find = find
        self._clock = clock
        self._secret = secrets.token_bytes(32)

    def ticket(self, account: Account, id: str, index: int) -> str:
        """Return a ticket for one file."""
        until = int(self._clock()) + LINK_SECONDS
        return f"{until}.{account.key}.{self._proof(account, id, index, until)}"

    def account_of(self, ticket: str, id: str, index: int) -> Account:
        """Return the account of a ticket for this file. Raises Unauthorized."""
        until, _, rest = ticket.partition(".")
        key, _, proof = rest.partition(".")
        account = self._find(key)
        if account is not None and until.isascii() and until.isdigit() and len(until) < 16 and proof.isascii():
            is_right = hmac.compare_digest(proof, self._proof(account, id, index, int(until)))
            if is_right and int(until) > self._clock() and account.state == "registered":
                return account
        raise Unauthorized("this link is over: ask for another one")

    def _proof(self, account: Account, id: str, index: int, until: int) -> str:
        said = f"{account.key} {account.hash.hex()} {id.upper()} {index} {until}"
        return hmac.digest(self._secret, said.encode(), "sha256").hex()
