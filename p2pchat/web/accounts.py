"""Accounts of a gateway, and the addresses they write to. Each is a hosted user of the peer, proved by a token.

A name that got messages before it was registered is *reserved*: a hosted user without a token, whose messages wait
until the name is registered. Only free and reserved names can be registered; the names of the peer's own user, of
users that a program hosts, and of others in the mesh are taken.

An account is stored as one row, committed with its user's key: the hash of its token, a word for its state, and the day
of its last use. Without a token the hash is of random bytes. A hosted user without such a row belongs to a program.

The user of a deleted account, or of a reserved name that gives way, is no longer hosted, and its key is deleted. A row
without a key stays, because the peer still knows the name: so the name can be given to another key later.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from time import monotonic, time
from typing import Any

from p2pchat import (
    AmbiguousName,
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
from p2pchat.web.rate_limit import RateLimiter, TooMany

DELIVERY_CONSUMER = "web"  # the consumer whose place says what an account has taken, by any interface

# The word stored with the hash of an account, followed by "@" and the day (UTC) of its last use, as 2026-11-22.
REGISTERED = ""  # has a token
NAMED = "named"  # registered by a trusted caller on this machine, without a token
REVOKED = "revoked"  # its token was revoked
RESERVED = "reserved:"  # followed by the key (hex) of the account that wrote to it first, or ""
DELETED = "deleted"  # no longer hosted; the day is that of the deletion
RELEASED = "released"  # was reserved, no longer hosted
MAX_FORMER = 10_000  # former accounts that are known as such, as many as a peer hosts; the oldest is forgotten
# Names that people, paths, commands or programs would take for something else, as `room`. Nobody at all may have a name
# like an option or an address (core/names.py).
REFUSED_NAMES = (
    "everybody", "everyone", "all", "here", "channel", "nobody", "none", "me", "you", "system", "admin", "p2pchat",
    "help", "on", "off", "few", "known", ".", "..", "null", "undefined",
)  # fmt: skip
MAX_SUGGESTED = 3  # names in a "did you mean"


@dataclass(eq=False, slots=True)
class Account:
    """One user of this gateway.

    Attributes:
        sessions: Open sessions, counted by the hub.
        listed: The case-folded name it is indexed by; find() checks that the name is still current.
        unheard: Steps of its messages, with their conversations, of which no session hears: see Gateway.
        used: The day (UTC) of its last use; of a reserved name, of the last message to it.
        near: Of a reserved name: how many users were known and how many reserved, and those one letter away.
    """

    user: HostedUser = field(repr=False)
    hash: bytes = field(repr=False)
    word: str = REGISTERED
    used: date = date.min
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
        """registered, reserved, revoked (registered, but its token was revoked) or deleted."""
        if self.word in (REVOKED, DELETED):
            return self.word
        return "reserved" if self.reserved or self.word == RELEASED else "registered"

    @property
    def label(self) -> str:
        """The label stored with the hash: the word and the day."""
        return f"{self.word}@{self.used}"


def valid(name: str) -> str:
    """Return a name that an account may have, in normal form. Raises ValueError."""
    return validate_name(name, REFUSED_NAMES)


class AccountNameTaken(WebError):
    """The name belongs to another user."""

    def __init__(self, name: str) -> None:
        super().__init__(409, "name_taken", f"the name {name!r} is taken: choose another")


class Accounts:
    """All accounts of one gateway, read from storage by load() or when the first is needed.

    Args:
        clock: The time in seconds since 1970, for days.
        steady: A clock that only goes forward, for rates.
    Attributes:
        on_change: Called with an account and its change: registered, reserved, token, revoked, deleted, released.
        hears: Return whether a session of an account wants events of this class.
    """

    def __init__(
        self, peer: TCPPeer, settings: WebSettings, clock: Callable[[], float] = time,
        steady: Callable[[], float] = monotonic,
    ) -> None:  # fmt: skip
        self._peer = peer
        self._settings = settings
        self._clock = clock
        self._reservations = RateLimiter(settings.reservations, steady)
        self._by_name: dict[str, Account] = {}
        self._by_hash: dict[bytes, Account] = {}
        self._by_key: dict[str, Account] = {}
        self._reserved: dict[str, str] = {}  # who wrote to it first, by the key of a reserved name; oldest first
        self._former: dict[str, tuple[str, date]] = {}  # DELETED or RELEASED, and when, by key; oldest first
        self._used: dict[str, Account] = {}  # used today for the first time, by key, until that is stored
        self._storing: asyncio.Task[None] | None = None
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
                        for hash, label in rows.pop(user.key, {}).items():
                            word, used = self._parse(label)
                            self._add(account := Account(user, hash, word, used or self._today()))
                            if used is None:  # stored by a version that kept no day: idle from now on
                                self._use_later(account)
                            if account.reserved:  # a status is not stored
                                user.set_presence("offline", User.NOBODY_YET)
                    for key, labels in rows.items():
                        for word, day in map(self._parse, labels.values()):
                            self._former[key] = word, day or self._today()
                    self._loaded = True

    @staticmethod
    def _parse(label: str) -> tuple[str, date | None]:
        """Return the word and the day of a stored label."""
        word, _, day = label.partition("@")
        return word, date.fromisoformat(day) if day else None

    def _today(self) -> date:
        return datetime.fromtimestamp(self._clock(), UTC).date()

    # ---- queries

    async def by_token(self, token: str) -> Account | None:
        """Return the account of a token, or None."""
        await self.load()
        account = self._by_hash.get(hash_of(token))
        if account is None or account.word != REGISTERED:
            return None
        self.use(account)
        return account

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

        Of several users with one name, an account that has it now outweighs former ones. Raises UnknownName,
        AmbiguousName.
        """
        try:
            return account.user.find(to)
        except (UnknownName, AmbiguousName) as error:
            other = self.find(to.strip().removeprefix("@"))
            if isinstance(error, AmbiguousName):
                if other is None or self._alike(other.name, {other.key}) - self._former.keys():
                    raise
            elif other is None:
                raise UnknownName(to) from None
            return account.user.find(other.user.me)

    async def resolve_conversation(self, account: Account, to: str) -> Conversation:
        """As find_conversation, for writing: a free name is reserved, and messages to it wait until it is registered.

        Raises UnknownName, also for an account that was deleted, AmbiguousName, and what reserve raises.
        """
        try:
            found = self.find_conversation(account, to)
            self.check_receiver(found)
        except (UnknownName, AmbiguousName, WebError) as error:
            problem = error
        else:
            return found
        try:
            name = valid(to.strip().removeprefix("@"))
            return account.user.find((await self.reserve(name, account)).user.me)
        except AccountNameTaken:
            if isinstance(problem, UnknownName):
                raise
        except ValueError:
            if isinstance(problem, UnknownName):
                problem = UnknownName(to)
        raise problem

    def check_receiver(self, to: Conversation) -> None:
        """Raise WebError if a message there would reach nobody: the account was deleted, or the name released."""
        if to.user is None or to.user.key not in self._former:
            return
        label, (word, _) = to.user.label, self._former[to.user.key]
        if word == DELETED:
            raise WebError(404, "unknown_name", f"{label} is gone: this account was deleted")
        raise WebError(404, "unknown_name", f"{label} is gone: nobody has registered this name; write to it anew")

    def reservation(self, by: Account, to: Conversation) -> dict[str, Any]:
        """Return what the answer to a direct message says of a reserved name: `reserved` and `text`; {} for others."""
        other = to.user and self.of(to.user.key)
        if other and other.reserved:
            self.use(other)
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
        state = len(people.known), len(self._reserved)
        if other.near[0] != state:  # all names are looked through, so not for each message
            other.near = state, people.near(other.name)
        near = [user.label for user in other.near[1] if user.key != by.key and user.key not in self._former]
        hint = f"; did you mean {' or '.join(near[:MAX_SUGGESTED])}?" if near else ""
        return f"nobody is called {other.name} yet: {outcome}{hint}"

    # ---- changes

    def use(self, account: Account) -> None:
        """Note that an account is in use today; stored soon, once a day."""
        if account.used != self._today():
            account.used = self._today()
            self._use_later(account)

    def _use_later(self, account: Account) -> None:
        self._used[account.key] = account
        if self._storing is None:
            self._storing = asyncio.create_task(self._store_used(), name="p2pchat web accounts used")

    async def _store_used(self) -> None:
        try:
            with suppress(StorageError, PeerClosed):  # then it counts as used on an earlier day
                while self._used:
                    account = self._used.pop(next(iter(self._used)))
                    async with self._lock:
                        if self.of(account.key) is account:
                            await self._peer.set_tokens(account.user, {account.hash: account.label})
        finally:
            self._storing = None

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
        self.use(account)
        return account

    async def reserve(self, name: str, by: Account | None = None) -> Account:
        """Return the account of a name; a free name is reserved, and messages to it wait there.

        It takes the place of an older one where there are too many (see _surplus), whose messages nobody will get then.

        Args:
            by: The account that writes to it.
        Raises:
            AccountNameTaken: A user elsewhere in the mesh has it. ValueError: It is no valid name.
            TooMany: This account writes to new names too fast. WebError: The peer hosts no more users. StorageError.
        """
        await self.load()
        account = self.find(name)
        if account is not None:
            return account
        name, key = valid(name), "" if by is None else by.key
        async with self._changing(name) as account:
            if account is not None:
                return account
            self._check_free(name, set())
            if wait := 0.0 if by is None else self._reservations.wait(key):
                raise TooMany(wait, "you have written to too many names that nobody has")
            while (oldest := self._surplus(key)) is not None:
                await self._unhost(oldest, RELEASED)
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

    async def delete(self, account: Account) -> bool:
        """Delete an account or reserved name: its user is no longer hosted, its key is deleted, its sessions end.

        What it wrote stays, here as with others. Nobody gets the name for name_kept_days, except that of a reserved
        one. Returns False if it was deleted already. Raises StorageError, and deletes nothing.
        """
        async with self._changing(account.name):
            if self.of(account.key) is not account:
                return False
            await self._unhost(account, RELEASED if account.reserved else DELETED)
            return True

    async def purge(self, idle_days: int) -> Sequence[Account]:
        """Delete what nobody has used for so many days, and return it: accounts without sessions, reserved names.

        Revoked accounts stay, because nobody may get their names. Raises StorageError.
        """
        await self.load()
        purged = []
        for account in self.list():
            is_idle = (self._today() - account.used).days >= idle_days and not account.sessions
            if is_idle and account.state != "revoked" and await self.delete(account):
                purged.append(account)
        return purged

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
        was_reserved, today = False, self._today()
        tokens = {hash: f"{word}@{today}"}
        if not word.startswith(RESERVED) and (account is None or account.reserved):
            if len(self._by_key) - len(self._reserved) >= self._settings.max_accounts:
                text = "this gateway has no room for more accounts: its operator deletes those that nobody uses"
                raise WebError(503, "full", text)
        if account is not None:
            was_reserved = account.reserved
            await self._peer.set_tokens(account.user, tokens)
            self._unindex(account)
            account.hash, account.word, account.used = hash, word, today
        else:
            account = Account(await self._host(name, tokens, allow_hosted=allow_hosted), hash, word, today)
        self._add(account)
        if account.reserved != was_reserved:
            account.user.set_presence("offline", User.NOBODY_YET if account.reserved else "")
        self.on_change(account, change)
        return account

    async def _host(self, name: str, tokens: dict[bytes, str], *, allow_hosted: bool) -> HostedUser:
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
        people, alike = self._peer.people, self._alike(name, but)
        taken = {key for key in alike if not self._is_free_again(key)}
        if len(taken) > 1 or any(people.name(key).casefold() == name.casefold() for key in taken):
            raise AccountNameTaken(name)

    def _alike(self, name: str, but: AbstractSet[str]) -> set[str]:
        """Return the keys of the users whose names look like this one, other than those in `but`."""
        return set(self._peer.people.alike(name) - but)

    def _is_free_again(self, key: str) -> bool:
        """Return whether others may have the name of the user with this key, a former account."""
        word, day = self._former.get(key, ("", date.max))
        return word == RELEASED or (word == DELETED and (self._today() - day).days >= self._settings.name_kept_days)

    def _add(self, account: Account) -> None:
        account.user.deliver_when_taken(DELIVERY_CONSUMER, lambda kind: self.hears(account, kind))
        self._index(account)
        self._by_hash[account.hash] = self._by_key[account.key] = account
        if account.reserved:
            self._reserved[account.key] = account.word.removeprefix(RESERVED)

    def _index(self, account: Account) -> None:
        """Index an account by its current name only."""
        if self._by_name.get(account.listed) is account:
            del self._by_name[account.listed]
        account.listed = account.name.casefold()
        self._by_name[account.listed] = account

    def _unindex(self, account: Account) -> None:
        del self._by_hash[account.hash]
        self._reserved.pop(account.key, None)

    def _surplus(self, by: str) -> Account | None:
        """Return the reserved name that gives way to a further one of this account; None while there is room.

        It is the oldest of the account itself if that has as many as it may, and with a full table the oldest of the
        account that has most: whoever writes to many names loses them, and not those of others.
        """
        counts = Counter(self._reserved.values())
        counts[by] += 1
        if by and counts[by] > self._settings.max_reserved_by_account:
            holder = by
        elif len(self._reserved) >= self._settings.max_reserved:
            holder = max(counts, key=lambda one: counts[one])
        else:
            return None
        return self._by_key[next(key for key, one in self._reserved.items() if one == holder)]

    async def _unhost(self, account: Account, word: str) -> None:
        """Stop hosting the user of an account, called with the lock held. Its messages stay on this disk."""
        before, account.word = account.word, word  # no session opens meanwhile
        try:
            await self._peer.unhost(account.user, tokens={random_hash(): f"{word}@{self._today()}"})
        except (StorageError, PeerClosed):
            account.word = before
            raise
        self._unindex(account)
        del self._by_key[account.key]
        if self._by_name.get(account.listed) is account:
            del self._by_name[account.listed]
        self._former[account.key] = word, self._today()
        self.on_change(account, word)
        while len(self._former) > MAX_FORMER:
            self._former.pop(oldest := next(iter(self._former)))
            with suppress(StorageError, PeerClosed):
                await self._peer.set_tokens(oldest, {})


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
