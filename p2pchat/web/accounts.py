"""Accounts of a gateway, and the addresses they write to. Each is a hosted user of the peer, proved by a token.

A name that got messages before it was registered is *reserved*: a hosted user without a token, whose messages wait
until the name is registered. Only free and reserved names can be registered; the names of the peer's own user, of
users that a program hosts, and of others in the mesh are taken.

An account is stored as one row, committed with its user's key: the hash of its token and a word for its state.
Without a token the hash is of random bytes. A hosted user without such a row belongs to a program.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from p2pchat import (
    Conversation,
    Group,
    HostedUser,
    NameTaken,
    P2PChatError,
    PeerClosed,
    StorageError,
    TCPPeer,
    UnknownName,
    User,
    validate_name,
)
from p2pchat.web import WebSettings
from p2pchat.web.errors import Forbidden, WebError

DELIVERY_CONSUMER = "web"  # the consumer whose place says what an account has taken, by any interface

# The word stored with the hash of an account.
REGISTERED = ""  # has a token
NAMED = "named"  # registered by a trusted caller on this machine, without a token
REVOKED = "revoked"  # its token was revoked
RESERVED = "reserved:"  # followed by the key (hex) of the account that wrote to it first, or ""
# Names that people, paths, command lines or programs would take for something else, as `room`.
REFUSED_NAMES = ("everybody", "me", "you", "system", "admin", "p2pchat", ".", "..", "--", "null")
MAX_SUGGESTED = 3  # names in a "did you mean"


@dataclass(eq=False, slots=True)
class Account:
    """One user of this gateway.

    Attributes:
        sessions: Open sessions, counted by the hub.
        listed: The case-folded name it is indexed by; find() checks that the name is still current.
        unheard: Steps of its messages, with their conversations, of which no session hears: see Gateway.
        near: Of a reserved name: how many users were known and how many reserved, and those one letter away.
    """

    user: HostedUser = field(repr=False)
    hash: bytes = field(repr=False)
    word: str = REGISTERED
    sessions: int = 0
    listed: str = ""
    unheard: set[tuple[str, str]] = field(default_factory=set, repr=False)
    near: tuple[tuple[int, int], list[User]] = ((0, 0), [])

    @property
    def name(self) -> str:
        return self.user.name

    @property
    def key(self) -> str:
        """The user's id in hex, as used inside."""
        return self.user.key

    @property
    def id(self) -> str:
        """The user's id in base32, as shown to people."""
        return self.user.me.id

    @property
    def reserved(self) -> bool:
        """True until it is registered."""
        return self.word.startswith(RESERVED)

    def is_me(self, name: str) -> bool:
        """Return whether a name, a label or an id means this account."""
        me = self.user.me
        return name.casefold() == self.name.casefold() or name in (me.label, me.id)

    def group(self, name: str) -> Group:
        """Return a group of which this account is a member. Raises UnknownName, AmbiguousName, Forbidden."""
        group = self.user.group(name)
        if not group.is_member:
            raise Forbidden("you are not a member of this group")
        return group

    @property
    def state(self) -> str:
        """registered, reserved or revoked (registered, but its token was revoked)."""
        return "reserved" if self.reserved else "revoked" if self.word == REVOKED else "registered"


def valid(name: str) -> str:
    """Return a name that an account may have, in normal form. Raises ValueError."""
    return validate_name(name, REFUSED_NAMES)


class AccountNameTaken(WebError):
    """The name belongs to another user."""

    def __init__(self, name: str) -> None:
        super().__init__(409, "name_taken", f"the name {name!r} is taken: choose another")


class Accounts:
    """All accounts of one gateway, read from storage by load() or when the first is needed.

    Attributes:
        on_change: Called with an account and its change: registered, reserved, token, revoked.
        hears: Return whether a session of an account wants events of this class.
    """

    def __init__(self, peer: TCPPeer, settings: WebSettings) -> None:
        self._peer = peer
        self._settings = settings
        self._by_name: dict[str, Account] = {}
        self._by_hash: dict[bytes, Account] = {}
        self._by_key: dict[str, Account] = {}
        self._reserved_by: Counter[str] = Counter()
        self._lock = asyncio.Lock()  # one change at a time, so that no name is given twice
        self._loaded = False
        self.on_change: Callable[[Account, str], None] = lambda account, change: None
        self.hears: Callable[[Account, type], bool] = lambda account, kind: True

    async def load(self) -> None:
        """Read the accounts from storage, once. Raises StorageError, PeerClosed."""
        if not self._loaded:
            async with self._lock:
                if not self._loaded:
                    rows = await self._peer.tokens()
                    for user in self._peer.hosted:
                        for hash, word in rows.get(user.key, {}).items():
                            self._add(account := Account(user, hash, word))
                            if account.reserved:  # a status is not stored
                                user.set_presence("offline", User.NOBODY_YET)
                    self._loaded = True

    # ---- queries

    async def by_token(self, token: str) -> Account | None:
        """Return the account of a token, or None."""
        await self.load()
        account = self._by_hash.get(hash_of(token))
        return account if account is not None and account.word == REGISTERED else None

    def find(self, name: str) -> Account | None:
        """Return the account of a name, registered or reserved, or None."""
        account = self._by_name.get(name.casefold())
        return account if account is not None and account.name.casefold() == name.casefold() else None

    def of(self, key: str) -> Account | None:
        """Return the account of the user with this key (hex), or None."""
        return self._by_key.get(key)

    def list(self) -> list[Account]:
        """Return all accounts, by name."""
        return sorted(self._by_key.values(), key=lambda account: account.name.casefold())

    # ---- conversations

    def find_conversation(self, account: Account, to: str) -> Conversation:
        """Return the conversation of an address: `room`, `bob`, `bob#K7QF2M3P`, `#ops`, an id.

        Raises UnknownName, AmbiguousName.
        """
        try:
            return account.user.find(to)
        except UnknownName:
            other = self.find(to.strip().removeprefix("@"))
            if other is None:
                raise UnknownName(to) from None
            return account.user.find(other.user.me)

    async def resolve_conversation(self, account: Account, to: str) -> Conversation:
        """As find_conversation, but a free name is reserved: messages to it wait until it is registered here.

        Raises UnknownName, AmbiguousName, and what reserve raises.
        """
        try:
            return self.find_conversation(account, to)
        except UnknownName:
            try:
                name = valid(to.strip().removeprefix("@"))
            except ValueError:
                raise UnknownName(to) from None
        return account.user.find((await self.reserve(name, account)).user.me)

    def reservation(self, by: Account, to: Conversation) -> dict[str, Any]:
        """Return what the answer to a direct message says of a reserved name: `reserved` and `text`; {} for others."""
        text = to.user and self._reserved_text(by, to.user, "the message waits until someone registers this name")
        return {"reserved": True, "text": text} if text else {}

    def reserved_members(self, by: Account, users: Iterable[User]) -> dict[str, Any]:
        """Return what the answer says of reserved names among new members of a group: as reservation()."""
        texts = [self._reserved_text(by, user, "a member as soon as someone registers this name") for user in users]
        return {"reserved": True, "text": "\n".join(filter(None, texts))} if any(texts) else {}

    def _reserved_text(self, by: Account, user: User, outcome: str) -> str:
        """Return a sentence about a reserved name, "" for others."""
        other = self.of(user.key)
        if other is None or not other.reserved:
            return ""
        people = self._peer.people
        state = len(people.known), self._reserved_by.total()
        if other.near[0] != state:  # all names are looked through, so not for each message
            other.near = state, people.near(other.name)
        near = [user.label for user in other.near[1] if user.key != by.key]
        hint = f"; did you mean {' or '.join(near[:MAX_SUGGESTED])}?" if near else ""
        return f"nobody is called {other.name} yet: {outcome}{hint}"

    # ---- changes

    async def register(self, name: str) -> tuple[Account, str]:
        """Register a new or reserved name; return the account and its token, which is not stored.

        Raises:
            AccountNameTaken: The name is taken. ValueError: It is no valid name. WebError: There are too many accounts.
            StorageError: It could not be stored.
        """
        name, token = valid(name), new_token()
        async with self._changing(name) as account:
            if account is not None and not account.reserved:
                raise AccountNameTaken(name)
            return await self._store(account, name, hash_of(token), REGISTERED, "registered"), token

    async def trusted(self, name: str) -> Account:
        """Return the account of a caller on this machine that has no token and calls itself `name`.

        A free name is registered. To be called only if `trust_loopback` applies to the caller.
        Raises as register, and Forbidden if the token of the account was revoked.
        """
        await self.load()
        account = self.find(name)
        if account is None or account.reserved:
            name = valid(name)
            async with self._changing(name) as account:
                if account is None or account.reserved:  # not so for the second of two concurrent calls
                    account = await self._store(account, name, random_hash(), NAMED, "registered")
        if account.word == REVOKED:
            raise Forbidden("this account was revoked", "revoked")
        return account

    async def reserve(self, name: str, by: Account | None = None) -> Account:
        """Return the account of a name; a free name is reserved, and messages to it wait there.

        Args:
            by: The account that writes to it; each may reserve max_reserved_by_account names.
        Raises:
            AccountNameTaken: A user elsewhere in the mesh has it. ValueError: It is no valid name.
            Forbidden: This account has reserved too many. WebError: There are too many accounts. StorageError.
        """
        await self.load()
        account = self.find(name)
        if account is not None:
            return account
        name, key = valid(name), "" if by is None else by.key
        async with self._changing(name) as account:
            if account is not None:
                return account
            if by is not None and self._reserved_by[key] >= self._settings.max_reserved_by_account:
                raise Forbidden("you have written to too many unknown names", "reserved")
            return await self._store(None, name, random_hash(), RESERVED + key, "reserved")

    async def new_token(self, name: str) -> tuple[Account, str]:
        """Give an account a new token, which replaces the old one; a free name is registered.

        A user that a program hosts can get one too, since the caller has access to this peer's directory.
        Raises as register.
        """
        token = new_token()
        async with self._changing(name) as account:
            return await self._store(
                account, valid(name), hash_of(token), REGISTERED, "token", allow_hosted=True
            ), token

    async def revoke(self, name: str) -> Account | None:
        """Revoke the token of an account; its messages stay and wait for `p2pchat web token NAME`.

        Returns None if there is no such account. Raises StorageError.
        """
        async with self._changing(name) as account:
            if account is None:
                return None
            return await self._store(account, account.name, random_hash(), REVOKED, "revoked")

    @asynccontextmanager
    async def renaming(self, account: Account, name: str) -> AsyncIterator[None]:
        """Check as register that an account may take a name, and keep it free for the block. Raises as register."""
        async with self._changing(name := valid(name)) as other:
            if other not in (None, account):
                raise AccountNameTaken(name)
            self._check_free(name, {account.key})
            yield

    def on_rename(self, key: str) -> None:
        """Index a renamed user by its new name, if it has an account."""
        account = self._by_key.get(key)
        if account is not None:
            self._index(account)

    # ---- internals

    @asynccontextmanager
    async def _changing(self, name: str) -> AsyncIterator[Account | None]:
        """Hold the lock while an account changes; gives the account that has the name now."""
        await self.load()
        async with self._lock:
            yield self.find(name)

    async def _store(
        self, account: Account | None, name: str, hash: bytes, word: str, change: str, *, allow_hosted: bool = False
    ) -> Account:
        """Store a change of an account, which is made if it is None, and report it; on disk when this returns."""
        was_reserved = False
        if account is not None:
            was_reserved = account.reserved
            await self._peer.set_tokens(account.user, {hash: word})
            self._unindex(account)
            account.hash, account.word = hash, word
        else:
            account = Account(await self._host(name, {hash: word}, allow_hosted=allow_hosted), hash, word)
        self._add(account)
        if account.reserved != was_reserved:
            account.user.set_presence("offline", User.NOBODY_YET if account.reserved else "")
        self.on_change(account, change)
        return account

    async def _host(self, name: str, tokens: dict[bytes, str], *, allow_hosted: bool) -> HostedUser:
        if len(self._by_key) >= self._settings.max_accounts:
            raise WebError(503, "full", "this gateway has no room for more accounts")
        self._check_free(name, {user.key for user in self._peer.hosted} if allow_hosted else set())
        try:
            return await self._peer.host(name, tokens=tokens)
        except NameTaken:  # a similar name is hosted here
            raise AccountNameTaken(name) from None
        except (StorageError, PeerClosed):
            raise
        except P2PChatError as error:  # the peer hosts no more users
            raise WebError(503, "full", str(error)) from None

    def _check_free(self, name: str, but: AbstractSet[str]) -> None:
        """Raise AccountNameTaken if a known user has this name, other than those with the keys in `but`."""
        people = self._peer.people
        alike = people.alike(name) - but
        if len(alike) > 1 or any(people.name(key).casefold() == name.casefold() for key in alike):
            raise AccountNameTaken(name)

    def _add(self, account: Account) -> None:
        account.user.deliver_when_taken(DELIVERY_CONSUMER, lambda kind: self.hears(account, kind))
        self._index(account)
        self._by_hash[account.hash] = self._by_key[account.key] = account
        if account.reserved:
            self._reserved_by[account.word.removeprefix(RESERVED)] += 1

    def _index(self, account: Account) -> None:
        """Index an account by its current name only."""
        if self._by_name.get(account.listed) is account:
            del self._by_name[account.listed]
        account.listed = account.name.casefold()
        self._by_name[account.listed] = account

    def _unindex(self, account: Account) -> None:
        del self._by_hash[account.hash]
        if account.reserved:
            self._reserved_by[account.word.removeprefix(RESERVED)] -= 1


def random_hash() -> bytes:
    """Return the hash of an account without a token."""
    return secrets.token_bytes(32)


async def open_accounts(peer: TCPPeer) -> Accounts:
    """Return the accounts of a peer on which no gateway runs. Raises StorageError."""
    accounts = Accounts(peer, WebSettings())
    await accounts.load()
    return accounts


# ---- tokens
#
# A token is 256 random bits; anyone who has it has the account. Only its hash is stored. No salt or stretching is
# needed, since nobody can guess a token, and the time a look-up of its hash takes reveals nothing about it.

_BYTES = 32
_MAX_CHARACTERS = 128  # a longer token is not ours and is not hashed


def new_token() -> str:
    """Return a new token of 43 characters that are valid in URLs and headers."""
    return secrets.token_urlsafe(_BYTES)


def hash_of(token: str) -> bytes:
    """Return the hash of a token, 32 bytes; b"" for a text that cannot be a token."""
    if not token or len(token) > _MAX_CHARACTERS or not token.isascii():
        return b""
    return hashlib.blake2b(token.encode("ascii"), digest_size=32, person=b"p2pchat/web").digest()
