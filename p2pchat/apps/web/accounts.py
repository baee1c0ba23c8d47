"""Accounts: which name of this gateway is whose. Each is a hosted user of the peer; a token is what proves it.

A name somebody wrote to before anybody registered it is *reserved*: a hosted user without a token, whose messages
wait until it is registered. Nothing else may be claimed: the peer's own user, users a program hosts, and names that
others of the mesh have are taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from p2pchat import TCPPeer, validate_name
from p2pchat.apps.web.errors import Forbidden, WebError
from p2pchat.apps.web.hosting import HostedUser, Hosting, key_of
from p2pchat.apps.web.settings import WebSettings
from p2pchat.apps.web.tokens import hash_of, new_token


@dataclass(eq=False, slots=True)
class Account:
    """One user of this gateway. `reserved`: nobody has registered it yet. `key` is the user's, in hex."""

    name: str
    user: HostedUser = field(repr=False)
    reserved: bool = False
    hash: str = field(default="", repr=False)
    reserved_by: str = ""
    sessions: int = 0  # open now; kept by the hub

    @property
    def key(self) -> str:
        return key_of(self.user)

    @property
    def state(self) -> str:
        """registered, reserved, or revoked: registered, and without a token now."""
        return "reserved" if self.reserved else "registered" if self.hash else "revoked"

    @property
    def id(self) -> str:
        """The user's id as people see it (base32)."""
        return self.user.me.id


class NameTaken(WebError):
    """Somebody has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(409, "name_taken", f"the name {name!a} is taken: choose another")


class Accounts:
    """All accounts of one gateway."""

    def __init__(self, peer: TCPPeer, settings: WebSettings, hosting: Hosting) -> None:
        self._peer = peer
        self._settings = settings
        self._hosting = hosting
        self._by_name: dict[str, Account] = {}
        self._by_hash: dict[str, Account] = {}
        self._by_key: dict[str, Account] = {}
        self.changed: Callable[[Account, str], None] = lambda account, change: None

    async def register(self, name: str) -> tuple[Account, str]:
        """Make an account, or claim a reserved name; returns it with its token, which is nowhere else.

        Raises:
            NameTaken: Somebody has this name. ValueError: It is no name. WebError: There is no room for more.
        """
        account = await self._claim(validate_name(name))
        return account, await self._give_token(account)

    async def by_token(self, token: str) -> Account | None:
        """Return whose token this is; None: nobody's."""
        return self._by_hash.get(hash_of(token))

    async def trusted(self, name: str) -> Account:
        """Return the account of a caller on this machine who carries no token and says to be `name`.

        It is made when nobody has it. Only to be called where `trust_loopback` holds for the caller.
        Raises as register.
        """
        account = self.find(name)
        if account is None:
            account = await self._claim(validate_name(name))
        account.reserved = False
        return account

    async def reserve(self, name: str, by: Account | None = None) -> Account:
        """Return the account of a name, reserved when nobody has it: what is written to it waits there.

        Args:
            by: Who writes: one account may reserve max_reserved_by_account names.
        Raises:
            NameTaken: Somebody beyond this gateway has it. ValueError: It is no name.
            Forbidden: This account has reserved enough.
        """
        account = self.find(name)
        if account is not None:
            return account
        key = "" if by is None else by.key
        if by is not None and self._reserved_by(key) >= self._settings.max_reserved_by_account:
            raise Forbidden("you have written to as many unknown names as one account may", "reserved")
        return await self._add(validate_name(name), reserved=True, by=key)

    def _reserved_by(self, key: str) -> int:
        return sum(account.reserved and account.reserved_by == key for account in self._by_name.values())

    def find(self, name: str) -> Account | None:
        """Return the account of this name, registered or reserved; None when there is none."""
        return self._by_name.get(name.casefold())

    def of(self, key: str) -> Account | None:
        """Return the account of the user with this key (hex); None when that is nobody of this gateway."""
        return self._by_key.get(key)

    async def new_token(self, name: str) -> tuple[Account, str]:
        """Give an account another token, and make it when there is none; the former token ends. Raises as register."""
        account = self.find(name)
        if account is None:
            return await self.register(name)
        return account, await self._give_token(account)

    def list(self) -> list[Account]:
        """Return all accounts, by name."""
        return sorted(self._by_name.values(), key=lambda account: account.name.casefold())

    async def revoke(self, name: str) -> Account | None:
        """End the token of an account; what was written to it stays and waits for `p2pchat web token NAME`.

        Returns None when there is no such account.
        """
        account = self.find(name)
        if account is not None:
            self._by_hash.pop(account.hash, None)
            account.hash = ""
        return account

    async def _claim(self, name: str) -> Account:
        account = self.find(name)
        if account is not None and not account.reserved:
            raise NameTaken(name)
        if account is None:
            account = await self._add(name, reserved=False)
        account.reserved = False
        return account

    async def _add(self, name: str, *, reserved: bool, by: str = "") -> Account:
        account = Account(name, await self._hosting.host(name), reserved, reserved_by=by)
        self._by_name[name.casefold()] = account
        self._by_key[account.key] = account
        return account

    async def _give_token(self, account: Account) -> str:
        token = new_token()
        self._by_hash.pop(account.hash, None)
        account.hash, account.reserved = hash_of(token), False
        self._by_hash[account.hash] = account
        return token


async def open_accounts(peer: TCPPeer) -> Accounts:
    """Return the accounts kept on a peer, where no gateway runs."""
    return Accounts(peer, WebSettings(), Hosting(peer))
