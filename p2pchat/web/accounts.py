"""Accounts of a gateway: registered, revoked, deleted. Each is a hosted user of the peer, proved by a token.

Only free names can be registered; the names of the peer's own user, of users that a program hosts, and of others in
the mesh are taken. Of the users that a program hosts several may have one name: then a label or an id says which.

An account is stored as one row, committed with its user's key: the hash of its token, a word for its state, and the day
of its last use. Without a token the hash is of random bytes. A hosted user without such a row belongs to a program.
Each further token, which has a label, is a row of its own. It counts at this gateway alone, so not in a cluster.

The user of a deleted account is no longer hosted, and its key is deleted. A row without a key stays, because the peer
still knows the name: so the name can be given to another key later.

A gateway that trusts the programs of its machine, and is in no cluster, keeps messages for names that nobody has. Such
a name is *reserved*: a key is made for it and stored as a row, and messages are written to that key. Its user is not
hosted, so no other peer hears of it, until somebody registers the name or signs in under it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from time import time

from p2pchat import (
    AmbiguousName,
    Group,
    HostedUser,
    P2PChatError,
    PeerClosed,
    StorageError,
    TCPPeer,
    UnknownName,
    User,
    skeleton,
    validate_name,
)
from p2pchat.threads import consume_exception
from p2pchat.web.account_record import (
    DELETED,
    FURTHER,
    NAMED,
    REGISTERED,
    RELEASED,
    RENAMED,
    RESERVED,
    REVOKED,
    AccountNameTaken,
    AccountRecord,
    fitting,
    hash_of,
    join,
    label_of,
    new_token,
    parse_label,
    random_hash,
    state_of,
    user_of,
    valid,
)
from p2pchat.web.cluster.account_directory import SharedNames
from p2pchat.web.error_responses import Forbidden, WebError
from p2pchat.web.rate_limits import RateLimiter, TooMany
from p2pchat.web.web_settings import WebSettings

EXPELLED = "expelled"  # code of the refusal of an account whose user is out of the network
DELIVERY_CONSUMER = "web"  # the consumer whose place says what an account has taken, by any interface

BY_KEY = "key/"  # followed by the key of a user whom a program hosts; no name has a slash
MAX_FORMER = 10_000  # former accounts that are known as such, as many as there are accounts; the oldest is forgotten
COMPARED_WITHIN = 3.0  # seconds for the conversations of a user that other gateways of a cluster host; a guess


@dataclass(frozen=True, slots=True)
class AccountToken:
    """What is known of a token of an account.

    Attributes:
        label: Tells it from others of the account.
        used: The day (UTC) on which somebody proved to be the account by it last.
    """

    label: str
    used: date


@dataclass(eq=False, slots=True)
class Account:
    """One user of this gateway.

    Attributes:
        user: What it can do: send, read, rename and all else.
        sessions: Open sessions, counted by the hub.
        unheard: Steps of its messages, with their conversations, of which no session hears: see KeptReceipts.
        used: The day (UTC) of its last use.
        tokens: Its tokens with labels, by their hashes, besides the one without.
        version: Of its record in a cluster; 0 without one.
        signed_out_at: When the program ended its connections last, on the monotonic clock.
        is_leaving: Its user is no longer hosted here, or about to, since other gateways of a cluster host it.
    """

    user: HostedUser = field(repr=False)
    hash: bytes = field(repr=False)
    word: str = REGISTERED
    used: date = date.min
    tokens: dict[bytes, AccountToken] = field(default_factory=dict, repr=False)
    sessions: int = 0
    unheard: set[tuple[str, str]] = field(default_factory=set, repr=False)
    version: int = 0
    is_leaving: bool = False
    signed_out_at: float = float("-inf")

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
        """registered, revoked (registered, but its token was revoked) or deleted."""
        return state_of(self.word)

    @property
    def rows(self) -> dict[bytes, str]:
        """What is stored: by hash the word and the day, and of tokens with labels the label and the day."""
        rows = {self.hash: label_of(self.word, self.used, self.version)}
        for hash, token in self.tokens.items():
            rows[hash] = label_of(FURTHER + token.label, token.used)
        return rows

    @property
    def record(self) -> AccountRecord:
        """The account for other gateways of a cluster, with the secret of its user."""
        return AccountRecord(self.name, self.key, self.user.secret, self.hash, self.word, self.used, self.version)


class Accounts:
    """All accounts of one gateway, read from storage by load() or when the first is needed: `gateway.accounts`.

    `p2pchat web` has the same for the operator: `token`, `revoke`, `users`, `accounts rename`, `delete` and `purge`.

    Attributes:
        on_change: Called with an account and its change: registered, token, label (of another token), revoked, deleted,
            hosted, left.
        hears: Return whether a session of an account wants events of this class.
        is_shared: Return whether an account may have sessions at other gateways, too.
        on_use: Called with an account whenever somebody proves to be it.
        shared: The names of a cluster; None for a gateway of its own.
    """

    def __init__(self, peer: TCPPeer, settings: WebSettings) -> None:
        self.shared: SharedNames | None = None
        self._peer = peer
        self._hosting = peer.hosting
        self._settings = settings
        self._by_hash: dict[bytes, Account] = {}
        self._by_key: dict[str, Account] = {}
        self._reserved: dict[str, bytes] = {}  # secrets of the users of reserved names, by case-folded name
        self._names = RateLimiter(settings.names)
        self._former: dict[str, AccountRecord] = {}  # by key, without their names; oldest first
        self._used: dict[str, Account] = {}  # used today for the first time, by key, until that is stored
        self._storing: asyncio.Task[None] | None = None
        self._adopting: dict[str, asyncio.Task[Account]] = {}  # users on their way here from other gateways, by key
        self._comparing: dict[str, asyncio.Task[bool]] = {}  # users that came from other gateways, by key
        self._lock = asyncio.Lock()  # one change at a time, so that no name is given twice
        self._loaded = False
        self.on_change: Callable[[Account, str], None] = lambda account, change: None
        self.hears: Callable[[Account, type], bool] = lambda account, kind: True
        self.is_shared: Callable[[Account], bool] = lambda account: False
        self.on_use: Callable[[Account], None] = lambda account: None

    async def load(self) -> None:
        """Read the accounts from storage, once. Raises StorageError, PeerClosed."""
        if not self._loaded:
            async with self._lock:
                if not self._loaded:
                    rows = await self._hosting.tokens()
                    for user in self._peer.hosted:
                        tokens: dict[bytes, AccountToken] = {}
                        for hash, label in rows.pop(user.key, {}).items():
                            word, used, version = parse_label(label)
                            if word.startswith(FURTHER):
                                tokens[hash] = AccountToken(word.removeprefix(FURTHER), used)
                            elif not word.startswith(RESERVED):  # until the name was registered
                                self._add(Account(user, hash, word, used, tokens, version=version))
                        if tokens:
                            self._add(self._by_key[user.key])
                    for key, labels in rows.items():
                        for word, day, version in map(parse_label, labels.values()):
                            if word.startswith(RESERVED):
                                self._add_reserved(word)
                            else:
                                self._former[key] = AccountRecord("", key, b"", b"", word, day, version)
                    self._loaded = True

    def _today(self) -> date:
        return datetime.fromtimestamp(time(), UTC).date()

    # ---- queries

    async def by_token(self, token: str) -> Account | None:
        """Return the account of a token, or None. Raises Forbidden for one that was expelled from the network."""
        await self.load()
        account = self._by_hash.get(hash := hash_of(token))
        if account is None and hash and self.shared is not None:
            self.shared.require()
            record = self.shared.directory.by_hash(hash)
            if record is not None and record.word == REGISTERED:
                account = await self.adopt(record)
        if account is None or not self._counts(account, hash):
            return None
        self.check_admitted(account)
        self.use(account)  # before the wait, in which nobody is to let the user go
        known = account.tokens.get(hash)
        if known is not None and known.used != self._today():
            account.tokens[hash] = replace(known, used=self._today())
            self._use_later(account)
        await self._wait_compared(account)
        return account if self._counts(account, hash) else None  # it may have ended meanwhile

    def is_expelled(self, account: Account) -> bool:
        """Return whether the user of an account was expelled from the network, and not this whole gateway."""
        return self._peer.people.is_expelled_alone(account.user.me)

    def check_admitted(self, account: Account) -> None:
        """Raise Forbidden if the user of an account was expelled from the network."""
        if self.is_expelled(account):
            text = "this account was expelled from the network: only who expelled it lets it in again"
            raise Forbidden(text, EXPELLED)

    def _counts(self, account: Account, hash: bytes) -> bool:
        """Return whether the token with this hash is the account's."""
        if hash in account.tokens:
            return self.shared is None
        return account.word == REGISTERED and account.hash == hash and self._ended_by(account) is None

    def _ended_by(self, account: Account) -> AccountRecord | None:
        """Return the record of a cluster by which the token of an account ended that is not stored here yet, if any.

        It counts before it is stored: that takes a moment, and fails while the disk is full.
        """
        there = None if self.shared is None else self.shared.directory.of_user(account.key)
        if there is None or (there.word == account.word and there.hash == account.hash):
            return None
        return there if join(account.record, there) == there else None

    def find(self, name: str) -> Account | None:
        """Return the account of a name, a label or an id, or None. Raises AmbiguousName if several have the name.

        "key/42" is the account of the user whom a program hosts under the key "42". No name has a slash.
        """
        found = self.named(name)
        if len(found) > 1:
            raise AmbiguousName(name, sorted(user.label for user in found))
        return self.of(found[0].key) if found else None

    def named(self, name: str) -> Sequence[User]:
        """Return the user of a name, a label or an id; of several those that this peer hosts."""
        if name.startswith(BY_KEY):
            user = self._peer.hosted_user(name.removeprefix(BY_KEY))
            if user is None:
                return []
            return [user.me]
        typed = name.partition("#")[0].casefold()
        found = self._peer.directory.fitting(name)  # also other spellings
        found = [user for user in found if typed in (user.name.casefold(), user.id.casefold())]
        if len(found) > 1:
            hosted = {user.key for user in self._peer.hosted}
            found = [user for user in found if user.key in hosted]
        return found

    def of(self, key: str) -> Account | None:
        """Return the account of the user with this key (hex), or None."""
        return self._by_key.get(key)

    def list(self) -> list[Account]:
        """Return all accounts, by name."""
        return sorted(self._by_key.values(), key=lambda account: account.name.casefold())

    def former(self, key: str) -> str:
        """Return DELETED or RELEASED for the user of a former account, by key (hex); "" for others."""
        return self._former[key].word if key in self._former else ""

    @property
    def reserves(self) -> bool:
        """True if messages to names that nobody has are kept."""
        return self._settings.trust_loopback and self.shared is None

    def is_reserved(self, user: User) -> bool:
        """Return whether this is the user of a reserved name."""
        secret = self._reserved.get(user.name.casefold())
        return secret is not None and user_of(secret) == user.key

    # ---- changes

    def use(self, account: Account) -> None:
        """Note that an account is in use today; stored soon, once a day."""
        self.on_use(account)
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
                            await self._hosting.set_tokens(account.user, account.rows)
                            self._announce(account.record)
        finally:
            self._storing = None

    async def register(self, name: str) -> tuple[Account, str]:
        """Register a name; return the account and its token, which is not stored.

        Raises:
            AccountNameTaken: The name is taken. ValueError: It is no valid name. WebError: There are too many accounts.
            StorageError: It could not be stored.
        """
        name, token = valid(name), new_token()
        await self.load()
        async with self._lock:
            return await self._store(None, name, hash_of(token), REGISTERED, "registered"), token

    async def trusted(self, name: str) -> Account:
        """Return the account of a caller on this machine that has no token and calls itself `name`.

        A free name is registered, unless an account had it before it changed its name: that one is meant. To be called
        only if `trust_loopback` applies to the caller.
        Raises as register, UnknownName for such a name, and Forbidden if the token of the account was revoked, or if it
        was expelled.
        """
        await self.load()
        account = self.find(name)
        if account is None:
            name = valid(name)
            async with self._changing(name) as account:
                if account is None:  # not so for the second of two concurrent calls
                    if hint := self._peer.directory.renamed_hint(name, self._by_key.keys()):
                        raise UnknownName(name, hint)
                    account = await self._store(None, name, random_hash(), NAMED, "registered")
        return await self._admitted(account)

    async def own(self, key: str, name: str) -> Account:
        """Return the account of a user whom the program hosts under this key, or would; made at first sight.

        Args:
            name: The name that the user has from now on; "": at first sight one made of the key.
        Raises ValueError for the key, WebError, StorageError, and Forbidden if the account was revoked or expelled.
        """
        await self.load()
        wanted, account = name and fitting(name), self.find(BY_KEY + key)
        if account is None or wanted not in ("", account.name):
            async with self._lock:
                user = self._peer.hosted_user(key)
                if user is None:
                    self._check_room()  # who gets no account takes no place among the users
                    user = await self._host(key, wanted or fitting(key.partition("@")[0]), {}, None)
                account = self.of(user.key)
                if account is None:
                    account = await self._store(None, user.name, random_hash(), NAMED, "registered", user)
                if wanted not in ("", user.name):
                    await user.rename(wanted)
        return await self._admitted(account)

    async def _admitted(self, account: Account) -> Account:
        """Return an account, which is in use from now on. Raises Forbidden if it was revoked or expelled."""
        await self._wait_compared(account)
        if (self._ended_by(account) or account).state == "revoked":
            raise Forbidden("this account was revoked: ask the operator for another", "revoked")
        self.check_admitted(account)
        self.use(account)
        return account

    async def meet(self, name: str) -> None:
        """Learn the user of a name that another gateway of the cluster gave, which its peer may not have told yet."""
        if self.shared is not None:
            with suppress(ValueError):  # no account has such a name
                record = await self.shared.look(valid(name.partition("#")[0]))
                if record is not None and not record.is_former:
                    self._peer.directory.learn([(record.user, record.name)])

    async def reserve(self, name: str) -> User:
        """Return the user of a name, which is reserved if nobody has it: messages wait until somebody does.

        Raises:
            AccountNameTaken: A name like it is known, or somebody here had it. ValueError: It is no valid name.
            StorageError: It could not be stored.
        """
        name, people = valid(name), self._peer.directory
        async with self._lock:
            if (account := self.find(name)) is not None:
                return account.user.me
            secret = self._reserved.get(name.casefold())
            if secret is None:
                if people.alike(name) or people.renamed_hint(name):
                    raise AccountNameTaken(name)
                secret = secrets.token_bytes(32)
                word = f"{RESERVED}{secret.hex()}:{name}"
                await self._hosting.set_tokens(user_of(secret), {random_hash(): label_of(word, self._today())})
                self._add_reserved(word)
            return people.user(user_of(secret))

    def _add_reserved(self, word: str) -> None:
        secret, _, name = word.removeprefix(RESERVED).partition(":")
        self._reserved[name.casefold()] = bytes.fromhex(secret)
        if self.reserves:
            self._peer.directory.learn([(user_of(bytes.fromhex(secret)), name)])

    async def new_token(self, name: str, label: str = "") -> tuple[Account, str]:
        """Give an account a new token, which replaces that with the same label; a free name is registered.

        A user that a program hosts can get one too, since the caller has access to this peer's directory.

        Args:
            name: A name, a label of a user, or an id.
            label: Tells the token from others of the account, as "phone": as a name. "" for the one without a label.
        Raises as register, AmbiguousName, and WebError for a label in a cluster, where an account has one token.
        """
        token, user = new_token(), None
        async with self._changing(name) as account:
            if account is None:
                named = self.named(name)
                user = next((user for user in self._peer.hosted if user.me in named), None)
            if not label:
                return await self._store(account, name, hash_of(token), REGISTERED, "token", user), token
            label = validate_name(label)
            if self.shared is not None or (account is not None and account.version):
                raise WebError(400, "usage", "in a cluster an account has one token: leave the label out")
            if account is None or account.word == REVOKED:
                account = await self._store(account, name, random_hash(), NAMED, "registered", user)
            await self._replace(account, label, {hash_of(token): AccountToken(label, self._today())})
            return account, token

    async def revoke(self, name: str, label: str = "") -> Account | None:
        """Revoke all tokens of an account; its messages stay and wait for `p2pchat web token NAME`.

        Args:
            name: A name, a label of a user, or an id.
            label: Revoke only the token with this label, and lock nobody out who has another one.
        Returns None if there is no such account or token. Raises AmbiguousName, StorageError, WebError.
        """
        async with self._changing(name) as account:
            if account is None:
                return None
            if not label:
                return await self._store(account, account.name, random_hash(), REVOKED, "revoked")
            if all(token.label != label for token in account.tokens.values()):
                return None
            await self._replace(account, label, {})
            return account

    async def _replace(self, account: Account, label: str, tokens: dict[bytes, AccountToken]) -> None:
        """Store these tokens in place of that with this label, if there is one."""
        kept = {hash: token for hash, token in account.tokens.items() if token.label != label}
        await self._set(account, account.hash, account.word, account.used, account.version, kept | tokens)
        self.on_change(account, "label")

    async def fetch(self, name: str) -> Account | None:
        """Return the account of a name, hosted here from now on if only other gateways of a cluster host it.

        Raises as adopt, AmbiguousName, and WebError (503, `cluster`) while the engine is away.
        """
        async with self._changing(name) as account:
            return account

    async def delete(self, account: Account) -> bool:
        """Delete an account: its user is no longer hosted, its key is deleted, its sessions end.

        What it wrote stays, here as with others. Nobody gets the name for name_kept_days. Returns False if it was
        deleted already. Raises StorageError, and deletes nothing.
        """
        await self.load()
        async with self._lock:
            if self.of(account.key) is not account:
                return False
            await self._unhost(account, DELETED)
            return True

    async def purge(self, idle_days: int) -> Sequence[Account]:
        """Delete the accounts that nobody has used for so many days, and return them: none with sessions.

        Revoked accounts stay, because nobody may get their names. Raises StorageError.
        """
        await self.load()
        purged = []
        for account in self.list():
            is_idle = (self._today() - account.used).days >= idle_days and not account.sessions
            if is_idle and account.state != "revoked" and await self.delete(account):
                purged.append(account)
        return purged

    async def rename(self, name: str, new_name: str) -> Account | None:
        """Give an account another name; its key, its tokens and its messages stay.

        Returns None if there is no such account. Raises AmbiguousName, TooMany, and as register.
        """
        account = await self.fetch(name)
        if account is not None:
            async with self.renaming(account, new_name):
                await account.user.rename(new_name)
        return account

    @asynccontextmanager
    async def renaming(self, account: Account, name: str) -> AsyncIterator[None]:
        """Check as register that an account may take a name, and keep it free for the block, which renames the user.

        In a cluster the new name is the account's before the block, and the former one is given up behind it.
        Raises as register, and TooMany.
        """
        name = valid(name)
        async with self._lock:
            self._check_free(name, {account.key})
            if wait := self._names.wait(account.key):
                raise TooMany(wait, "you have changed your name too often")
            if self.shared is None:
                yield
                return
            former = account.record
            mine = replace(former, name=name, version=former.version + 1)
            claimed = await self.shared.claim(mine, self._today(), self._settings.name_kept_days)
            yield
            if account.name == name:  # otherwise it is done when the cluster tells of the claim
                await self._set(account, account.hash, account.word, account.used, claimed.version)
                self._give_up(former, name)

    def _give_up(self, former: AccountRecord, name: str, word: str = RENAMED) -> None:
        """Release the former name of an account of a cluster that has another one, or had it when it was deleted."""
        if skeleton(former.name) != skeleton(name):
            self._announce(former.former(word, self._today()))

    # ---- what other gateways of a cluster tell

    def elsewhere(self) -> Iterator[tuple[AccountRecord, str]]:
        """Return the accounts of a cluster whose users only other gateways host, with their ids, by name."""
        all = self.shared.directory.records() if self.shared is not None else ()
        others = [record for record in all if not record.is_former and record.user not in self._by_key]
        for record in sorted(others, key=lambda record: record.name.casefold()):
            yield record, self._peer.directory.user(record.user).id

    def records(self) -> Iterator[AccountRecord]:
        """Return the records of all accounts, and of deleted ones whose names nobody gets yet."""
        for account in self._by_key.values():
            yield account.record
        for key, former in self._former.items():
            if former.word == DELETED and (name := self._peer.directory.name(key)):
                yield replace(former, name=name)

    async def adopt(self, record: AccountRecord) -> Account:
        """Host the user of a record here too. Raises AccountNameTaken, WebError, StorageError."""
        await self.load()
        return self.of(record.user) or await self._adopt(record)

    async def leave(self, account: Account) -> None:
        """Stop hosting a user that other gateways host, unless it has sessions. Raises StorageError."""
        async with self._lock:
            if self.of(account.key) is account and not account.sessions:
                account.is_leaving = True  # no session opens meanwhile
                try:
                    await self._hosting.unhost(account.user, tokens={}, is_deleted=False)
                except (StorageError, PeerClosed):
                    account.is_leaving = False
                    raise
                self._drop(account)
                self.on_change(account, "left")

    async def take(self, record: AccountRecord) -> None:
        """Take over what another gateway changed in an account of this one. Raises StorageError."""
        await self.load()
        if (adopting := self._adopting.get(record.user)) is not None:  # with an older record
            await asyncio.wait([adopting])
        async with self._lock:
            await self._revoke_displaced(record)
            account = self.of(record.user)
            if account is None or record.word == RENAMED:
                return
            if join(before := account.record, record) == before:
                if not record.is_former:
                    self._give_up(record, before.name)
                return
            if record.is_former:
                await self._unhost(account, record.word, record)
                self._give_up(before, record.name, record.word)
                return
            if record.name != before.name:
                await account.user.rename(record.name)
                self._give_up(before, record.name)
            await self._set(account, record.hash, record.word, record.used, record.version)
            if not record.is_same_but_for_use(before):
                self.on_change(account, "revoked" if record.word == REVOKED else "token")

    def end_sessions_of_ended(self, key: str) -> None:
        """End the sessions of a user whose token ended at another gateway, which could not be stored here."""
        account = self.of(key)
        if account is not None and account.sessions and (record := self._ended_by(account)) is not None:
            self.on_change(account, "token" if record.word == REGISTERED else "revoked")

    async def _revoke_displaced(self, record: AccountRecord) -> None:
        """Revoke an account here whose name, or one like it, is another user's in the cluster. It joined later."""
        if record.is_former:
            return
        for account in filter(None, map(self.of, self._alike(record.name, {record.user}))):
            if account.word != REVOKED and account.record.rank < record.rank:
                await self._set(account, random_hash(), REVOKED, account.used, account.version)
                self.on_change(account, "revoked")

    # ---- internals

    @asynccontextmanager
    async def _changing(self, name: str) -> AsyncIterator[Account | None]:
        """Hold the lock while an account changes; gives the account that has the name now.

        One that only other gateways of the cluster have is hosted here from now on.
        """
        await self.load()
        async with self._lock:
            account = self.find(name)
            if account is None and self.shared is not None:
                record = self.shared.directory.find(name)
                if record is not None and not record.is_former and record.name.casefold() == name.casefold():
                    self.shared.require()
                    account = await self._adopt(record)
            yield account

    def _announce(self, record: AccountRecord) -> None:
        if self.shared is not None:
            self.shared.announce(record)

    async def _adopt(self, record: AccountRecord) -> Account:
        """Host the user of a record; several at once, since all of a gateway that died come together."""
        adopting = self._adopting.get(record.user)
        if adopting is None:
            adopting = asyncio.create_task(self._host_known(record), name="p2pchat web account from elsewhere")
            self._adopting[record.user] = adopting
            adopting.add_done_callback(lambda task: self._on_adopted(record.user, task))
        return await asyncio.shield(adopting)

    def _on_adopted(self, key: str, task: asyncio.Task[Account]) -> None:
        del self._adopting[key]
        consume_exception(task)  # whoever waits for it is told

    async def _host_known(self, record: AccountRecord) -> Account:
        label = label_of(record.word, record.used, record.version)
        self._check_unlike_hosted(record.name, {record.user})
        user = await self._host(random_hash().hex(), record.name, {record.hash: label}, record.secret)
        account = Account(user, record.hash, record.word, record.used, version=record.version)
        self._former.pop(account.key, None)
        self._add(account)
        comparing = asyncio.create_task(user.compared(COMPARED_WITHIN), name="p2pchat web account from elsewhere")
        self._comparing[account.key] = comparing
        comparing.add_done_callback(lambda task: self._on_compared(account.key, task))
        self.on_change(account, "hosted")
        return account

    def _on_compared(self, key: str, task: asyncio.Task[bool]) -> None:
        if self._comparing.get(key) is task:
            del self._comparing[key]
        consume_exception(task)  # the peer was closed: whoever uses the account is told so

    async def _wait_compared(self, account: Account) -> None:
        """Return when the conversations of a user that another gateway hosts are here, or that takes too long."""
        comparing = self._comparing.get(account.key)
        if comparing is not None:
            await asyncio.wait([comparing])  # does not cancel it

    async def _store(
        self, account: Account | None, name: str, hash: bytes, word: str, change: str, user: HostedUser | None = None
    ) -> Account:
        """Store a change of an account, which is made if it is None, and report it; on disk when this returns.

        Args:
            user: The user that a program hosts and that a new account is for; None for one of its own.
        """
        if account is None:
            self._check_room()
            account = await self._create(name, hash, word, user)
        else:
            version = account.version
            if self.shared is not None or version:  # also by a command without the running gateway
                version += 1
            await self._set(account, hash, word, self._today(), version)
            self._announce(account.record)
        self.on_change(account, change)
        return account

    def _check_room(self) -> None:
        if len(self._by_key) >= self._settings.max_accounts:
            text = "this gateway has no room for more accounts: its operator deletes those that nobody uses"
            raise WebError(503, "full", text)

    async def _set(
        self,
        account: Account,
        hash: bytes,
        word: str,
        used: date,
        version: int,
        tokens: dict[bytes, AccountToken] | None = None,
    ) -> None:
        """Store the state of an account that exists; its tokens with labels stay unless others are given."""
        if word == REVOKED:
            tokens = {}
        elif tokens is None:
            tokens = account.tokens
        changed = replace(account, hash=hash, word=word, used=used, version=version, tokens=tokens)
        await self._hosting.set_tokens(account.user, changed.rows)
        self._drop(account)
        account.hash, account.word, account.used, account.version, account.tokens = hash, word, used, version, tokens
        self._add(account)

    async def _create(self, name: str, hash: bytes, word: str, user: HostedUser | None) -> Account:
        """Make an account for a free name or a hosted user; in a cluster the name is this gateway's first."""
        today, version, key = self._today(), 0, random_hash().hex()  # a key that no program has for anybody
        if user is None:
            name = valid(name)
            secret = self._reserved.get(name.casefold())
            self._check_free(name, {user_of(secret)} if secret else set())
        else:
            name, secret, key = user.name, user.secret, user.hosted_as
        if self.shared is not None:
            secret = secret or secrets.token_bytes(32)
            mine = AccountRecord(name, user_of(secret), secret, hash, word, today, 1)
            claimed = await self.shared.claim(mine, today, self._settings.name_kept_days)
            version = claimed.version
        try:
            user = await self._host(key, name, {hash: label_of(word, today, version)}, secret)
        except Exception:  # any error: the name is free again. When cancelled the user may have been made
            if self.shared is not None:
                self._announce(claimed.former(RELEASED, today))
            raise
        self._reserved.pop(name.casefold(), None)
        account = Account(user, hash, word, today, version=version)
        self._add(account)
        return account

    async def _host(self, key: str, name: str, tokens: dict[bytes, str], secret: bytes | None) -> HostedUser:
        try:
            return await self._hosting.host(key, name=name, secret=secret, tokens=tokens, when_taken=True)
        except (StorageError, PeerClosed):
            raise
        except P2PChatError as error:  # the peer hosts no more users
            raise WebError(503, "full", str(error)) from None

    def _check_free(self, name: str, but: AbstractSet[str]) -> None:
        """Raise AccountNameTaken if a known user has this name, other than those with the keys in `but`."""
        self._check_unlike_hosted(name, but)
        people, alike = self._peer.directory, self._alike(name, but)
        taken = {key for key in alike if not self._is_free_again(key)}
        if len(taken) > 1 or any(people.name(key).casefold() == name.casefold() for key in taken):
            raise AccountNameTaken(name)

    def _check_unlike_hosted(self, name: str, but: AbstractSet[str]) -> None:
        """Raise AccountNameTaken if a user of this peer, other than those in `but`, has a name that looks like this."""
        alike = self._alike(name, but)
        if self._peer.me.key in alike or (alike and any(user.key in alike for user in self._peer.hosted)):
            raise AccountNameTaken(name)

    def _alike(self, name: str, but: AbstractSet[str]) -> set[str]:
        """Return the keys of the users whose names look like this one, other than those in `but`."""
        return set(self._peer.directory.alike(name) - but)

    def _is_free_again(self, key: str) -> bool:
        """Return whether others may have the name of the user with this key, a former account."""
        former = self._former.get(key)
        if former is None and self.shared is not None:  # it was deleted at another gateway
            former = self.shared.directory.find(self._peer.directory.name(key))
        if former is None or former.user != key or former.word == RENAMED:
            return False
        return former.is_free(self._today(), self._settings.name_kept_days)

    def _add(self, account: Account) -> None:
        account.user.deliver_when_taken(
            DELIVERY_CONSUMER, lambda kind: self.hears(account, kind), lambda: self.is_shared(account)
        )
        self._by_hash.update(dict.fromkeys(account.rows, account))
        self._by_key[account.key] = account

    async def _unhost(self, account: Account, word: str, told: AccountRecord | None = None) -> None:
        """Stop hosting the user of an account, called with the lock held. Its messages stay on this disk.

        Args:
            told: The record of another gateway that says so.
        """
        former = account.record.former(word, self._today()) if told is None else told
        version = former.version if self.shared is not None or account.version else 0
        before, account.word = account.word, word  # no session opens meanwhile
        try:
            await self._hosting.unhost(account.user, tokens={random_hash(): label_of(word, former.used, version)})
        except (StorageError, PeerClosed):
            account.word = before
            raise
        self._drop(account)
        self._former[account.key] = replace(former, version=version)
        if told is None:
            self._announce(former)
        self.on_change(account, "deleted")
        while len(self._former) > MAX_FORMER:
            self._former.pop(oldest := next(iter(self._former)))
            with suppress(StorageError, PeerClosed):
                await self._hosting.set_tokens(oldest, {})

    def _drop(self, account: Account) -> None:
        """Remove an account whose user is no longer hosted, or whose tokens change."""
        for hash in account.rows:
            del self._by_hash[hash]
        del self._by_key[account.key]


async def open_accounts(peer: TCPPeer) -> Accounts:
    """Return the accounts of a peer on which no gateway runs. Raises StorageError."""
    accounts = Accounts(peer, WebSettings())
    await accounts.load()
    return accounts
