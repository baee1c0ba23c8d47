"""Receivers of messages of accounts: the conversation that an address means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from p2pchat import AmbiguousName, Conversation, TCPPeer, UnknownName
from p2pchat.web.account_record import AccountNameTaken
from p2pchat.web.error_responses import WebError

if TYPE_CHECKING:
    from p2pchat.web.accounts import Account, Accounts

MAX_SUGGESTED = 3  # names in a "did you mean"


class Receivers:
    """The receivers that the accounts of one gateway name."""

    def __init__(self, peer: TCPPeer, accounts: Accounts) -> None:
        self._peer = peer
        self._people = peer.directory
        self._accounts = accounts

    def find(self, account: Account, to: str) -> Conversation:
        """Return the conversation of an address: `room`, `bob`, `bob#K7QF2M3P`, `#ops`, an id.

        Of several users with one name, an account that has it now outweighs former ones. Raises UnknownName,
        AmbiguousName.
        """
        try:
            return account.user.find(to)
        except AmbiguousName:
            other = self._accounts.find(to.strip().removeprefix("@"))
            if other is None or not all(map(self._accounts.former, self._people.alike(other.name) - {other.key})):
                raise
            return account.user.find(other.user.me)

    async def resolve(self, account: Account, to: str) -> Conversation:
        """As find, for writing: where messages to names that nobody has are kept, the name is reserved.

        Raises UnknownName, also for an account that was deleted, AmbiguousName, StorageError.
        """
        try:
            found = self.find(account, to)
        except UnknownName:
            found = await self._find_later(account, to)
        self.check(found)
        return found

    async def _find_later(self, account: Account, to: str) -> Conversation:
        """As resolve, for a name unknown here: another gateway gave it, it is still coming, or it is reserved."""
        name = to.strip().removeprefix("@")
        await self._accounts.meet(name)
        try:
            return await account.user.when_known(lambda: self.find(account, to))
        except UnknownName:
            if not self._accounts.reserves:
                raise
            try:
                user = await self._accounts.reserve(name)
            except (AccountNameTaken, ValueError):
                user = None
            if user is None:
                raise
        return account.user.find(user)

    def check(self, to: Conversation) -> None:
        """Raise WebError if a message there would reach nobody, since the account was deleted."""
        if to.user is not None and self._accounts.former(to.user.key):
            raise WebError(404, "unknown_name", f"{to.user.label} is gone: this account was deleted")

    def check_gateway(self) -> None:
        """Raise WebError while this gateway is expelled from its network."""
        if self._peer.people.is_expelled(self._peer.me):
            raise WebError(503, "expelled", "this gateway was expelled from its network: nobody out there hears it")

    def reservation(self, by: Account, to: Conversation) -> dict[str, Any]:
        """Return what the answer to a direct message says of a reserved name: `reserved` and `text`; {} for others."""
        if to.user is None or not self._accounts.is_reserved(to.user):
            return {}
        others = (user for user in self._people.near(to.user.name) if user.key != by.key)
        near = [user.label for user in others if not self._accounts.is_reserved(user)][:MAX_SUGGESTED]
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        text = f"nobody is called {to.user.name} yet: the message waits until someone signs in under this name{hint}"
        return {"reserved": True, "text": text}
