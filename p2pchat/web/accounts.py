"""Accounts: which name of this gateway is whose. Each is a hosted user of the peer; a token is what proves it.

A name somebody wrote to before anybody registered it is *reserved*: a hosted user without a token, whose messages
wait until it is registered. Nothing else may be claimed: the peer's own user, users a program hosts, and names that
others of the mesh have are taken.

What is kept of an account is one row, committed with its user's key: the hash of its token, and a word for its state.
Where there is no token the hash is of bytes nobody has. A hosted user without such a row is a program's own.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from p2pchat import AmbiguousName, HostedUser, NameTaken, P2PChatError, PeerClosed, StorageError, TCPPeer, UnknownName
from p2pchat import validate_name as valid
from p2pchat.web.errors import Forbidden, WebError
from p2pchat.web.settings import WebSettings

# The word kept with an account's hash.
REGISTERED = ""  # the hash is of its token
NAMED = "named"  # registered by a trusted caller on this machine, who needs no token
REVOKED = "revoked"  # it had a token
RESERVED = "reserved:"  # and then the key (hex) of the account that wrote to it first; "" where that is not known


@dataclass(eq=False, slots=True)
class Account:
    """One user of this gateway.

    Attributes:
        sessions: How many are open now; the hub counts.
        listed: The name it is found by, case folded; find() looks whether it is still called so.
    """

    user: HostedUser = field(repr=False)
    hash: bytes = field(repr=False)
    word: str = REGISTERED
    sessions: int = 0
    listed: str = ""

    @property
    def name(self) -> str:
        return self.user.name

    @property
    def key(self) -> str:
        """The user's id in hex, as inside."""
        return self.user.key

    @property
    def id(self) -> str:
        """The user's id as people see it (base32)."""
        return self.user.me.id

    @property
    def reserved(self) -> bool:
        """Whether nobody has registered it yet."""
        return self.word.startswith(RESERVED)

    @property
    def state(self) -> str:
        """registered, reserved, or revoked: registered, and without a token now."""
        return "reserved" if self.reserved else "revoked" if self.word == REVOKED else "registered"


class AccountNameTaken(WebError):
    """Somebody has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(409, "name_taken", f"the name {name!a} is taken: choose another")


class Accounts:
    """All accounts of one gateway. They are read when the first is asked for, or by load().

    Attributes:
        changed: Called with an account and what became of it: registered, reserved, token, revoked.
    """

    def __init__(self, peer: TCPPeer, settings: WebSettings) -> None:
        self._peer = peer
        self._settings = settings
        self._by_name: dict[str, Account] = {}
        self._by_hash: dict[bytes, Account] = {}
        self._by_key: dict[str, Account] = {}
        self._reserved_by: Counter[str] = Counter()
        self._turn = asyncio.Lock()  # one account is changed at a time: a name is never given twice
        self._loaded = False
        self.changed: Callable[[Account, str], None] = lambda account, change: None

    async def load(self) -> None:
        """Read what is kept; nothing happens when that was done. Raises StorageError, PeerClosed."""
        if not self._loaded:
            async with self._turn:
                await self._load()

    async def _load(self) -> None:
        if self._loaded:
            return
        rows = await self._peer.tokens()
        for user in self._peer.hosted:
            for hash, word in rows.get(user.key, {}).items():
                self._add(Account(user, hash, word))
        self._loaded = True

    # ------------------------------------------------------------------ looking

    async def by_token(self, token: str) -> Account | None:
        """Return whose token this is; None: nobody's."""
        await self.load()
        account = self._by_hash.get(hash_of(token))
        return account if account is not None and account.word == REGISTERED else None

    def find(self, name: str) -> Account | None:
        """Return the account of this name, registered or reserved; None when there is none."""
        account = self._by_name.get(name.casefold())
        return account if account is not None and account.name.casefold() == name.casefold() else None

    def of(self, key: str) -> Account | None:
        """Return the account of the user with this key (hex); None when that is nobody of this gateway."""
        return self._by_key.get(key)

    def list(self) -> list[Account]:
        """Return all accounts, by name."""
        return sorted(self._by_key.values(), key=lambda account: account.name.casefold())

    # ------------------------------------------------------------------ changing

    async def register(self, name: str) -> tuple[Account, str]:
        """Make an account, or claim a reserved name; returns it with its token, which is nowhere else.

        Raises:
            NameTaken: Somebody has this name. ValueError: It is no name. WebError: There is no room for more.
            StorageError: It could not be kept.
        """
        name, token = valid(name), new_token()
        async with self._turn:
            await self._load()
            account = self.find(name)
            if account is not None and not account.reserved:
                raise AccountNameTaken(name)
            account = await self._keep(account, name, hash_of(token), REGISTERED)
        self.changed(account, "registered")
        return account, token

    async def trusted(self, name: str) -> Account:
        """Return the account of a caller on this machine who carries no token and says to be `name`.

        It is made when nobody has it. Only to be called where `trust_loopback` holds for the caller.
        Raises as register, and Forbidden when its token was revoked.
        """
        await self.load()
        account = self.find(name)
        if account is None or account.reserved:
            account = await self._name(valid(name))
        if account.word == REVOKED:
            raise Forbidden("this account was revoked", "revoked")
        return account

    async def _name(self, name: str) -> Account:
        async with self._turn:
            account = self.find(name)
            if account is not None and not account.reserved:
                return account  # two came at once
            account = await self._keep(account, name, nobodys(), NAMED)
        self.changed(account, "registered")
        return account

    async def reserve(self, name: str, by: Account | None = None) -> Account:
        """Return the account of a name, reserved when nobody has it: what is written to it waits there.

        Args:
            by: Who writes: one account may reserve max_reserved_by_account names.
        Raises:
            NameTaken: Somebody beyond this gateway has it. ValueError: It is no name.
            Forbidden: This account has reserved enough. WebError: There is no room for more. StorageError.
        """
        await self.load()
        account = self.find(name)
        if account is not None:
            return account
        key = "" if by is None else by.key
        async with self._turn:
            name = valid(name)
            account = self.find(name)
            if account is not None:
                return account
            if by is not None and self._reserved_by[key] >= self._settings.max_reserved_by_account:
                raise Forbidden("you have written to as many unknown names as one account may", "reserved")
            account = await self._keep(None, name, nobodys(), RESERVED + key)
        self.changed(account, "reserved")
        return account

    async def new_token(self, name: str) -> tuple[Account, str]:
        """Give an account another token, and make it when there is none; the former token ends.

        Also a user that a program hosts gets one: that is for whoever has this peer's directory to say.
        Raises as register.
        """
        token = new_token()
        async with self._turn:
            await self._load()
            account = self.find(name)
            account = await self._keep(account, valid(name), hash_of(token), REGISTERED, also_a_programs=True)
        self.changed(account, "token")
        return account, token

    async def revoke(self, name: str) -> Account | None:
        """End the token of an account; what was written to it stays and waits for `p2pchat web token NAME`.

        Returns None when there is no such account. Raises StorageError.
        """
        async with self._turn:
            await self._load()
            account = self.find(name)
            if account is None:
                return None
            await self._keep(account, account.name, nobodys(), REVOKED)
        self.changed(account, "revoked")
        return account

    def renamed(self, key: str) -> None:
        """A user has taken another name; nothing happens when that is nobody of this gateway."""
        account = self._by_key.get(key)
        if account is not None:
            self._list(account)

    # ------------------------------------------------------------------ inside

    async def _keep(
        self, account: Account | None, name: str, hash: bytes, word: str, *, also_a_programs: bool = False
    ) -> Account:
        """Have this be what is kept of an account, which is made where there is none; on disk when it returns."""
        if account is not None:
            await self._peer.set_tokens(account.user, {hash: word})
            self._forget(account)
            account.hash, account.word = hash, word
            return self._add(account)
        if len(self._by_key) >= self._settings.max_accounts:
            raise WebError(503, "full", "there are as many accounts here as there may be")
        self._check_free(name, also_a_programs=also_a_programs)
        try:
            user = await self._peer.host(name, tokens={hash: word})
        except NameTaken:  # one that looks like it is hosted here
            raise AccountNameTaken(name) from None
        except (StorageError, PeerClosed):
            raise
        except P2PChatError as error:  # the peer hosts no more
            raise WebError(503, "full", str(error)) from None
        return self._add(Account(user, hash, word))

    def _check_free(self, name: str, *, also_a_programs: bool) -> None:
        """Raise NameTaken when anybody has this name, as far as is known here; a program's user may be meant."""
        try:
            found = self._peer.user(name)
        except UnknownName:
            return
        except AmbiguousName:
            raise AccountNameTaken(name) from None
        if not (also_a_programs and any(user.key == found.key for user in self._peer.hosted)):
            raise AccountNameTaken(name)

    def _add(self, account: Account) -> Account:
        self._list(account)
        self._by_hash[account.hash] = self._by_key[account.key] = account
        if account.reserved:
            self._reserved_by[account.word.removeprefix(RESERVED)] += 1
        return account

    def _list(self, account: Account) -> None:
        """Have an account be found by its name, and no more by the one before."""
        if self._by_name.get(account.listed) is account:
            del self._by_name[account.listed]
        account.listed = account.name.casefold()
        self._by_name[account.listed] = account

    def _forget(self, account: Account) -> None:
        del self._by_hash[account.hash]
        if account.reserved:
            self._reserved_by[account.word.removeprefix(RESERVED)] -= 1


def nobodys() -> bytes:
    """Return a hash of no token."""
    return secrets.token_bytes(32)


async def open_accounts(peer: TCPPeer) -> Accounts:
    """Return the accounts kept on a peer where no gateway runs. Raises StorageError."""
    accounts = Accounts(peer, WebSettings())
    await accounts.load()
    return accounts


# ---- tokens
#
# Tokens: 256 random bits that are an account to whoever has them. Kept is only what tells one when it comes again.
#
# A hash without salt or stretching is enough for what nobody can guess, and it is looked up as it is: how long the
# look-up of a hash takes tells nothing about the token.


_BYTES = 32
_MOST_CHARACTERS = 128  # a longer one is none of ours and is not hashed


def new_token() -> str:
    """Return a fresh token, 43 characters that can stand in an address or a header."""
    return secrets.token_urlsafe(_BYTES)


def hash_of(token: str) -> bytes:
    """Return what is kept of a token, 32 bytes; b"" for what cannot be one."""
    if not token or len(token) > _MOST_CHARACTERS or not token.isascii():
        return b""
    return hashlib.blake2b(token.encode("ascii"), digest_size=32, person=b"p2pchat/web").digest()
