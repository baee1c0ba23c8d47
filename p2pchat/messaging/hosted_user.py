"""Hosted users: users that a peer acts for beside its own, each with a key, a name and messages.

    zoe = await peer.host("42", name="zoe")
    zoe.set_presence("online")
    await zoe.send("room", "hello from the gateway")
    async for event in zoe.events():
        ...

A program hosts a user under a key of its own, which never changes; the name is a label, as with every other user. A
hosted user sees the conversations it belongs to, and none of those that other users of the peer have among them.
Links, storage and names exist once for a peer, however many users it hosts. Keys are stored in the database, so users
are hosted again after every start.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import partial
from itertools import starmap
from typing import TYPE_CHECKING, Any, TypeVar

from p2pchat.core.durable_changes import Change, Stored, StoredUser, Token
from p2pchat.core.inputs import ComparisonAwaited, MarkedTaken, UserHosted, UserUnhosted
from p2pchat.core.log import LogId, decode_entry, message_id
from p2pchat.core.names import base32, plain, validate_name
from p2pchat.core.node_context import HostedIdentity
from p2pchat.core.own_state import OwnState
from p2pchat.errors import P2PChatError, PeerClosed, StorageError
from p2pchat.identity.identity import Identity
from p2pchat.messaging.access_policy import AccessPolicy, AllUsersPolicy, Audience, audience_of
from p2pchat.messaging.conversations import Conversation
from p2pchat.messaging.event_builder import PAGE
from p2pchat.messaging.events import Event, Read, ReceiptEvent, aware, now_micros
from p2pchat.messaging.local_user import HIDDEN_AT_ONCE, LocalUser
from p2pchat.messaging.messages import DurableEvent, Message, Sent, position_of
from p2pchat.messaging.receipts import Kind, ReceiptUpdate
from p2pchat.messaging.subscription import RECEIPT_EVENTS, AnyEvent, Events, Subscription
from p2pchat.messaging.users import User
from p2pchat.protocol import ConversationId, UserId
from p2pchat.threads import run_to_completion

if TYPE_CHECKING:
    from p2pchat.lifecycle import Lifecycle
    from p2pchat.runtime.driver import Driver
    from p2pchat.storage.sql_storage import SqlStorage

T = TypeVar("T")
MAX_KEY_BYTES = 128  # of a program's key for a user: an e-mail address, a UUID; a guess
LOOKED_FURTHER = 8  # times as far back for what was shown last; a guess
READ_AT_ONCE = 16  # messages, for each client that comes; the longest take 2 MiB
Hears = Callable[[type[ReceiptEvent]], bool]


class HostedUser(LocalUser):
    """One user of a gateway, made by TCPPeer.host. A running peer has one object for each of its users."""

    __slots__ = ("_stored",)

    def __init__(self, lifecycle: Lifecycle, stored: StoredUser) -> None:
        self._stored = stored
        id = stored.id
        access = AccessPolicy(lifecycle.conversations, lambda: id, blocks=lifecycle.blocks, has_read=self._has_read)
        super().__init__(lifecycle, lifecycle.directory.seen_by(id), access, consumer_name(id, ""))

    @property
    def key(self) -> UserId:
        """The id in hex, as inside and on the wire."""
        return self._stored.id

    @property
    def hosted_as(self) -> str:
        """The key under which the program hosts the user, as given to TCPPeer.host."""
        return self._stored.hosted_as

    @property
    def name(self) -> str:
        """The name of the user."""
        return self._stored.name

    @property
    def secret(self) -> bytes:
        """The 32 bytes of its private key, for hosting it on another gateway too. Keep them secret."""
        return self._stored.secret

    @property
    def other_hosts(self) -> frozenset[str]:
        """The ids, as people see them, of other peers that host the user, too, or did while both were here.

        Raises PeerClosed.
        """
        return frozenset(map(base32, self._driver.node.presence.shared.get(self.key, ())))

    async def compared(self, timeout: float) -> bool:
        """Wait until this peer has the user's conversations as another peer that hosts the user has them.

        Call it after TCPPeer.host with the secret of a user that another peer hosts: then everything that the other
        peer held when this one was compared with it is here, except messages that wait for others. The room is not
        waited for, since a peer has it without the user, too.

        Args:
            timeout: Seconds after which it returns False: no such peer is linked, or it has not sent everything yet.
        Raises PeerClosed.
        """
        make = partial(ComparisonAwaited, user=self.key, within=float(timeout))
        return bool((await self._require_running().requests.ask(make)).compared)

    def deliver_when_taken(
        self, consumer: str, hears: Hears | None = None, is_shared: Callable[[], bool] | None = None
    ) -> None:
        """Report direct and group messages of users of this peer as delivered to this user when they are taken.

        A message is taken when `hand_on` was called for it, or a later one, with this consumer, and that is on disk; or
        when it was read. Without this call it is delivered to a user of the same peer when it is written. Call it after
        each start, before others can write. Other peers hear that a message is delivered when this peer has it.

        A new consumer begins where the user was hosted here (see TCPPeer.host). What a user has taken at other peers is
        known as far as these have told it (see without_read), so messages are repeated rather than missed.

        Args:
            hears: Return whether a client of this user hears events of a class, Delivered or Read. While none does,
                receipts are kept for kept_receipts() in the same commit as what they report.
            is_shared: Return whether other peers that host the user shall know what it has taken here; None for no.
        Raises PeerClosed.
        """
        self._require_running()
        self._lifecycle.hosted.deliveries.add(self.key, consumer, self._place_of(consumer), hears, is_shared)

    async def last_released(self) -> DurableEvent | None:
        """Return the last entry of a message or a change that was shown here, as a position; None for none.

        Raises StorageError, PeerClosed.
        """
        disk, width = self._disk, 1
        before = newest = self._lifecycle.feed.recent.newest
        while before > 0:
            place = before = max(0, newest - width)
            width, last = width * LOOKED_FURTHER, None
            while page := await disk.read(partial(disk.storage.places, place, HIDDEN_AT_ONCE, [*self._keys()])):
                last = page[-1]
                place = last.place
            if last is not None:
                return position_of(self, last)
        return None

    def hand_on(self, post: DurableEvent, consumer: str) -> None:
        """Acknowledge every message up to this one for a consumer; stored soon. It never goes back.

        Raises PeerClosed.
        """
        self._require_running()
        if post.place > self._place_of(consumer):
            name, feed = self._consumer_prefix + consumer, self._lifecycle.feed
            if self._lifecycle.hosted.deliveries.on_handed_on(self.directory.me, consumer, post.place):
                feed.load_offsets({name: post.place})  # and stored together with what its writers will be told
            else:
                feed.commit_offset(name, post.place)

    async def written_before(self, message_id: str) -> datetime | None:
        """Return when the newest entry here was written of those that precede a message in its log; None for none.

        So a message that is not here was written after that, by the same clock.

        Raises:
            ValueError: That is no message id.
            StorageError: Storage cannot be read.
            PeerClosed: The peer is not running.
        """
        shown = await self._entry_of(message_id, before=True)
        return None if shown is None else aware(decode_entry(shown.raw).at)

    async def first_unread(self, conversation: Conversation) -> tuple[Message | None, int]:
        """Return the first of the messages that unread() returns, and how many there are.

        Raises StorageError, PeerClosed.
        """
        first, count = None, 0
        async for post in self._each_unread(conversation.key):
            first = first or post
            count += 1
        return first, count

    async def keep_receipt(self, event: ReceiptEvent) -> None:
        """Keep a receipt that no client of the user heard, for kept_receipts().

        Of each conversation the first message is kept whose members all have it, and the first that all have read;
        receipts of later messages are found from there. Stored soon. Raises StorageError, PeerClosed.
        """
        disk = self._disk
        shown = await disk.read(partial(disk.storage.entry, event.log, event.seq))
        if shown is not None:
            self._keep_from("read" if isinstance(event, Read) else "delivered", event.log.conversation, shown.place)

    def _keep_from(self, kind: Kind, key: ConversationId, place: int) -> dict[str, int]:
        """Keep the receipts of one step and conversation from a place on, stored soon; return the place to store."""
        name, feed = self._kept(kind, key), self._lifecycle.feed
        if not 0 < feed.place_of(name, 0) <= place:
            feed.commit_offset(name, place)
        return {name: feed.place_of(name, 0)}

    async def kept_receipts(self, is_heard: Callable[[], bool] = lambda: True) -> AsyncIterator[ReceiptEvent]:
        """Return the receipts since those that were kept, one a message and step, and keep them no longer.

        Each comes when all members of a message have it, or have read it, and names one of them.

        Args:
            is_heard: Return whether the client that they are told is still there. If not, what is left stays kept.
        Raises StorageError, PeerClosed.
        """
        feed = self._lifecycle.feed
        for talk in self.recent_conversations():
            for kind in RECEIPT_EVENTS:
                name = self._kept(kind, talk.key)
                if place := feed.place_of(name, 0):
                    was_heard = is_heard()
                    async for event in self._receipts_from(place, kind, talk.key):
                        yield event
                        was_heard = is_heard()  # now: a client may go as soon as it has the last one
                    if not was_heard:
                        return
                    feed.commit_offset(name, 0)

    async def _receipts_from(self, place: int, kind: Kind, key: ConversationId) -> AsyncIterator[ReceiptEvent]:
        """Return the receipts of one step and conversation from a place on, up to the first that is missing."""
        disk, place = self._disk, place - 1
        while page := await disk.read(partial(disk.storage.places, place, READ_AT_ONCE, [key])):
            for shown in page:
                if shown.log.user != self.key or not decode_entry(shown.raw).is_message:
                    continue
                receipt = await self.receipt(message_id(shown.log, shown.seq))
                if receipt.status not in (kind, "read"):
                    return
                having = receipt.read_by if kind == "read" else receipt.delivered_to
                of = len(receipt.of) or len(having)
                yield RECEIPT_EVENTS[kind](
                    log=shown.log, seq=shown.seq, user=having[-1], count=of, of=of,
                    at_gateway=self.is_at_gateway(having[-1]),
                )  # fmt: skip
            place = page[-1].place

    def _kept(self, kind: str, key: ConversationId) -> str:
        return f"{self._consumer_prefix}kept {kind} {key}"

    def is_shown(self, event: AnyEvent) -> bool:
        """Return whether an event of `hosting.everybody` is shown to this user: nothing of whom it blocks is, nor
        that somebody is here who blocks it.
        """
        return not self._lifecycle.has_blocks or self._access.shows(event)

    def post(self, event: T) -> T | Message | Sent:
        """Return an event of `hosting.everybody` as this user sees it.

        The user's own message becomes Sent, that of another user Message. Users, conversations and messages in the
        event become this user's own objects, with its view of `is_me` and of conversation names.
        """
        if isinstance(event, DurableEvent):
            durable: T | Message | Sent = event.seen_by(self)
            return durable
        if not isinstance(event, Event):
            return event
        seen: dict[str, Any] = {one.name: self._seen(getattr(event, one.name)) for one in fields(event)}
        return replace(event, **seen)

    def _seen(self, value: object) -> object:
        if isinstance(value, User):
            return self.directory.user(value.key)
        if isinstance(value, Conversation):
            return self.conversation(value.key)
        if isinstance(value, tuple) and value and isinstance(value[0], User):
            return tuple(map(self._seen, value))
        return value

    def _name_change(self, name: str, about: str | None) -> Change:
        return Change(hosted=[self._stored.replace(name=name)])

    def _take_name(self, name: str) -> None:
        self._stored = self._stored.replace(name=name)

    def __repr__(self) -> str:
        return f"<HostedUser {self.name!a}>"


def consumer_name(user: UserId, name: str) -> str:
    """Return the stored name of a hosted user's consumer; that of "" holds the place where the user was hosted."""
    return f"{user}:{name}"


@dataclass(frozen=True)
class _Coming:
    """A user who is being stored. Attributes: `ended`, done when it is hosted, or was not stored."""

    user: StoredUser
    ended: asyncio.Future[None]


class HostedUserRegistry:
    """The users that one peer hosts beside its own, as a gateway needs them: `TCPPeer.hosting`.

    Attributes:
        by_id: The hosted users, in the order in which they were hosted.
        by_key: The same by the keys under which programs host them.
        any_ever: Users are hosted, or were: not everything stored belongs to the peer's own user.
        lock: Held while users come, go, or change their names or tokens.
        deliveries: What users have taken whose messages are delivered when they are taken.
    """

    def __init__(self, lifecycle: Lifecycle) -> None:
        self.by_id: dict[UserId, HostedUser] = {}
        self.by_key: dict[str, HostedUser] = {}
        self.any_ever: bool = False
        self.lock: asyncio.Lock = asyncio.Lock()
        self.deliveries: HostedDeliveries = HostedDeliveries(lifecycle)
        self._lifecycle = lifecycle
        self._coming: dict[str, _Coming] = {}  # users that are being stored, by key

    def load(self, users: Sequence[StoredUser], stored: Stored) -> list[HostedIdentity]:
        """Host the users that storage keeps; return them for the core."""
        own = OwnState(stored.meta)
        for one in users:
            self._add(one).directory.load_hidden(own)
        return [self._identity(one) for one in users]

    async def host(
        self,
        key: str,
        name: str | None = None,
        secret: bytes | None = None,
        tokens: Mapping[bytes, str] | None = None,
        *,
        when_taken: bool = False,
    ) -> HostedUser:
        """Host one more user, as TCPPeer.host.

        Args:
            tokens: As set_tokens; stored together with a new user.
            when_taken: `HostedUser.deliver_when_taken` follows. So what others wrote to this user before is delivered
                when it is taken, rather than now.
        """
        check_key(key)
        return await run_to_completion(self._host(key, name, secret, tokens or {}, when_taken=when_taken))

    async def _host(
        self, key: str, name: str | None, secret: bytes | None, tokens: Mapping[bytes, str], *, when_taken: bool
    ) -> HostedUser:
        """Host one more user. Must not be cancelled halfway.

        Several are stored at once: hundreds come to a gateway when another one dies, which reads for as many sessions.
        """
        while True:
            async with self.lock:
                other = self._coming.get(key)
                if other is None:
                    found = self.by_key.get(key)
                    if found is not None:
                        if secret not in (None, found.secret):
                            raise P2PChatError("the user with this key has another secret here")
                        if tokens:
                            await self._store_tokens(found, tokens)
                        return found
                    new = self._new_user(key, name, secret)
                    coming = self._coming[key] = _Coming(new, asyncio.get_running_loop().create_future())
                    break
            await asyncio.wait([other.ended])
        try:
            return await self._store_new(new, tokens, is_known=secret is not None, when_taken=when_taken)
        finally:
            del self._coming[key]
            coming.ended.set_result(None)

    async def _store_new(
        self, new: StoredUser, tokens: Mapping[bytes, str], *, is_known: bool, when_taken: bool
    ) -> HostedUser:
        lifecycle, feed = self._lifecycle, self._lifecycle.feed
        driver, stored, newest = lifecycle.require_running(), Stored(), feed.recent.newest
        storage = driver.disk.storage
        if is_known:  # it may have been hosted here before, and others may have written to it
            stored = await driver.disk.read(lambda: storage.load_users([new.id]))
            keys = [key for key in driver.node.conversations_of(new.id) if key != driver.node.room]
            first = await driver.disk.read(lambda: storage.places(0, 1, keys))
            newest = first[0].place - 1 if first else newest
        place = {consumer_name(new.id, ""): newest}
        await driver.disk.write(Change(hosted=[new], consumers=place, tokens=_tokens_of(new.id, tokens)))
        feed.load_offsets(place)
        self.any_ever = True
        user = self._add(new)
        user.directory.load_hidden(driver.node.own)
        marks = tuple(stored.delivered), tuple(stored.reads)
        driver.put(UserHosted(self._identity(new), *marks))
        await driver.wait_handled()
        if is_known:
            lifecycle.tracker.hosted(new.id, newest if when_taken else None)
        return user

    async def unhost(
        self, user: HostedUser, tokens: Mapping[bytes, str] | None = None, *, is_deleted: bool = True
    ) -> None:
        """Stop hosting a user, as TCPPeer.unhost.

        Args:
            tokens: As set_tokens, stored in the same step: a program may keep what it has to know of a former user.
            is_deleted: Delete what it chose, too: whom it ignores and blocks, and its read receipts. False for a user
                who may come back.
        """
        await run_to_completion(self._unhost(user, tokens or {}, is_deleted=is_deleted))

    async def _unhost(self, user: HostedUser, tokens: Mapping[bytes, str], *, is_deleted: bool) -> None:
        """Stop hosting a user. Must not be cancelled halfway."""
        lifecycle = self._lifecycle
        async with self.lock:
            if self.by_id.get(user.key) is not user:
                return
            driver = lifecycle.require_running()
            chosen = driver.node.choices_of(user.key) if is_deleted else {}
            change = Change(unhosted=[user.key], tokens=_tokens_of(user.key, tokens), meta=chosen)
            await driver.disk.write(change)
            lifecycle.tracker.unhosted(user.key)
            self.deliveries.remove(user.key)
            del self.by_id[user.key], self.by_key[user.hosted_as]
            driver.put(UserUnhosted(user.key, is_deleted))
            for reader in lifecycle.feed.readers:
                if reader.viewer is user:
                    reader.end()
            user._gone = True

    async def set_tokens(self, user: HostedUser | UserId, tokens: Mapping[bytes, str]) -> None:
        """Store the tokens by which programs may act for a hosted user, in place of the former ones.

        Args:
            user: A hosted user, or the id (hex) of one that is, was or will be hosted.
            tokens: Hashes of secrets (32 bytes each, never the secrets), each with a label of the program's choice.
        Raises:
            ValueError: A hash is invalid.
            StorageError: It could not be stored.
            PeerClosed: The peer is not running, or the user not hosted.
        """
        async with self.lock:  # two calls at once would each keep the tokens of the other
            await self._store_tokens(user, tokens)

    async def _store_tokens(self, user: HostedUser | UserId, tokens: Mapping[bytes, str]) -> None:
        if isinstance(user, str):
            key, disk = user, self._lifecycle.require_running().disk
        else:
            key, disk = user.key, user._require_running().disk
        former = await disk.read(lambda: disk.storage.tokens(key))
        revoked = [token.hash for token in former if token.hash not in tokens]
        await disk.write(Change(tokens=_tokens_of(key, tokens), revoked=revoked))

    async def tokens(self) -> dict[UserId, dict[bytes, str]]:
        """Return the hashes of tokens with their labels, by the ids (hex) of the users, former ones too."""
        disk = self._lifecycle.require_running().disk
        found: dict[UserId, dict[bytes, str]] = {}
        for token in await disk.read(disk.storage.tokens):
            found.setdefault(token.user, {})[token.hash] = token.label
        return found

    def acquainted(self, user: User) -> list[User]:
        """Return the users who share a direct conversation or a group with a user, as far as known here, in no order.

        They are the ones to tell of that user's presence, among thousands. Raises PeerClosed.
        """
        conversations, found = self._lifecycle.started_driver.node.replicator.conversations, set[UserId]()
        for conversation in conversations.of_user(user.key):
            audience = audience_of(conversations, conversation) or ()
            if user.key in audience:
                found.update(audience)
        return list(map(self._lifecycle.directory.user, found - {user.key}))

    def everybody(self, *types: type[Any]) -> Events[tuple[AnyEvent, Users]]:
        """Return an iterator over the events of all hosted users: `(event, users)`, each event once for all of them.

        It is live: it begins now. `users` are the ids (hex) of the hosted users concerned, None for all of them. Those
        of presence and typing may include the user that the event is about. A message of a hosted user is Sent, and
        its writer is among `users`; HostedUser.post returns it as one of them sees it. Events that concern no hosted
        user are left out. Delivered and Read of a message to the room come once, when they are true of all members.
        For whom a message of an earlier run, or of another peer of its writer, was is not known: of these they come for
        each who gets it, while the writer is online here.

        Args:
            types: The classes of events to return; none for all.
        Raises PeerClosed.
        """
        lifecycle = self._lifecycle
        if lifecycle.closed:
            raise PeerClosed("the peer was closed")
        access = AllUsersPolicy(lifecycle.conversations, self.by_id)
        reader = AllUsersSubscription(LocalUser(lifecycle, lifecycle.directory.seen_by(""), access), types, access)
        lifecycle.feed.add(reader)
        return Events(reader)

    def _new_user(self, key: str, name: str | None, secret: bytes | None) -> StoredUser:
        if name is None:
            name = key
        name = validate_name(name)
        if secret is None:
            secret = secrets.token_bytes(32)
        elif not isinstance(secret, bytes) or len(secret) != 32:
            raise ValueError("the secret of a user is 32 bytes")
        id, most = Identity.from_seed(secret).peer_id, self._lifecycle.settings.max_hosted_users
        if id in (self._lifecycle.directory.me, *(one.user.id for one in self._coming.values())) or id in self.by_id:
            raise P2PChatError("the user with this secret has another key here")
        if len(self.by_id) + len(self._coming) + 2 > most:
            raise P2PChatError(f"this peer hosts at most {most} users, with its own (Settings.max_hosted_users)")
        return StoredUser(id, secret, name, now_micros(), key)

    def _add(self, stored: StoredUser) -> HostedUser:
        user = HostedUser(self._lifecycle, stored)
        self.by_id[stored.id] = self.by_key[stored.hosted_as] = user
        self._lifecycle.directory.learn([(stored.id, stored.name)])
        return user

    def _identity(self, stored: StoredUser) -> HostedIdentity:
        """Return a user for the core: offline until it sets its presence."""
        about = self._lifecycle.directory.abouts.get(stored.id, "")
        guest = self._lifecycle.require_resources().network.guest(stored.id)
        return HostedIdentity(
            stored.id, stored.name, _signer(stored.secret), guest=guest, about=about, status="offline",
            is_kept=self._lifecycle.is_kept,
        )  # fmt: skip


def check_key(key: str) -> None:
    """Raise ValueError for what is no key of a hosted user, TypeError for what is no text."""
    if not 0 < len(plain(key).encode()) <= MAX_KEY_BYTES:
        raise ValueError(f"a hosted user has a key of 1 to {MAX_KEY_BYTES} bytes")


def _signer(secret: bytes) -> Callable[[bytes], bytes]:
    """Return a function that signs with a key made at its first use: of ten thousand users few write on one day."""
    identity: list[Identity] = []

    def sign(data: bytes) -> bytes:
        if not identity:
            identity.append(Identity.from_seed(secret))
        return identity[0].sign(data)

    return sign


def _tokens_of(user: UserId, tokens: Mapping[bytes, str]) -> list[Token]:
    if any(not isinstance(hash, bytes) or len(hash) != 32 for hash in tokens):
        raise ValueError("the hash of a token is 32 bytes")
    now = now_micros()
    return [Token(hash, user, now, label) for hash, label in tokens.items()]


# ---- messages delivered when they are taken


class HostedDeliveries:
    """Messages that hosted users take from this peer, at the places of one consumer of each user.

    A place is on disk before anyone hears that a message was delivered, so that a delivered message stays so. Places
    that move while others are being written are written together.
    """

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._consumers: dict[UserId, str] = {}
        self._hears: dict[UserId, Hears] = {}
        self._is_shared: dict[UserId, Callable[[], bool]] = {}
        self._due: dict[UserId, int] = {}  # places that are not on disk
        self._storing: asyncio.Task[None] | None = None

    def add(
        self, user: UserId, consumer: str, place: int, hears: Hears | None, is_shared: Callable[[], bool] | None
    ) -> None:
        """Deliver messages to a user when this consumer takes them; it has taken everything up to this place."""
        if is_shared is not None:
            self._is_shared[user] = is_shared
        if hears is not None:
            self._hears[user] = hears
        if place and is_shared is not None and is_shared():
            self._mark_earlier(self._lifecycle.require_running(), user, place)
        if self._consumers.get(user) != consumer:
            self._consumers[user] = consumer
            self._lifecycle.tracker.deliver_when_taken(user, place)

    def remove(self, user: UserId) -> None:
        """Forget a user who is no longer hosted."""
        for each in (self._consumers, self._hears, self._is_shared, self._due):
            each.pop(user, None)

    def on_handed_on(self, user: UserId, consumer: str, place: int) -> bool:
        """Note the new place of a consumer; return whether it is one of these, whose places are stored here."""
        if self._consumers.get(user) != consumer:
            return False
        self._due[user] = place
        if self._storing is None:
            self._storing = asyncio.get_running_loop().create_task(self._store(), name="p2pchat deliveries")
        return True

    def on_reading(self, user: UserId, post: DurableEvent, since: int) -> None:
        """Keep the receipts of what a user is about to read in a conversation, for writers of whom no client hears."""
        key, taken = post.log.conversation, self._lifecycle.tracker.taken.get(user, post.place)
        for writer in audience_of(self._lifecycle.conversations(), key) or ():
            if writer != user and post.place > since:
                self._keep(writer, "read", key, since)
                if post.place > max(taken, since):
                    self._keep(writer, "delivered", key, max(taken, since))

    def _keep(self, writer: UserId, kind: Kind, key: ConversationId, since: int) -> dict[str, int]:
        """Keep the receipts behind a place, unless a client of their writer hears them; return what to store."""
        found, hears = self._lifecycle.hosted.by_id.get(writer), self._hears.get(writer)
        if found is None or hears is None or hears(RECEIPT_EVENTS[kind]):
            return {}
        return found._keep_from(kind, key, since + 1)

    async def _store(self) -> None:
        try:
            with suppress(StorageError, PeerClosed):  # reported later: when the user takes the next message, or reads
                while self._due:
                    await self._store_due(self._lifecycle.require_running())
        finally:
            self._storing = None

    async def _store_due(self, driver: Driver) -> None:
        storage, tracker = driver.disk.storage, self._lifecycle.tracker
        conversations = self._lifecycle.conversations()
        due = dict(self._due)
        places = {consumer_name(user, self._consumers[user]): due[user] for user in due}
        entries: dict[UserId, dict[LogId, tuple[int, int]]] = {}
        for user, place in due.items():
            known = driver.node.conversations_of(user)  # also groups that the user does not belong to any more
            keys = [key for key in known if user in (audience_of(conversations, key) or ())]
            since = tracker.taken.get(user, place)
            taken = await driver.disk.read(partial(_entries_taken, storage, user, keys, since, place))
            blocked = driver.node.blocks.of(user)  # it was given nothing of theirs
            entries[user] = {log: span for log, span in taken.items() if log.user not in blocked}
            for log in entries[user]:
                places.update(self._keep(log.user, "delivered", log.conversation, since))
        shared = [user for user in due if user in self._is_shared and self._is_shared[user]()]
        marks = {(user, log.conversation): due[user] for user in shared for log in entries[user]}
        await asyncio.gather(driver.ack_durably(places), *starmap(partial(self._mark, driver), marks.items()))
        for user, place in due.items():
            if self._due.get(user) == place:
                del self._due[user]
            if user in tracker.taken:  # and not unhosted meanwhile
                tracker.taken[user] = place
            for log, (first, last) in entries[user].items():
                if log.user in driver.node.hosted:
                    self._lifecycle.dispatcher.on_taken(log, first, last, user)

    async def _mark(self, driver: Driver, marked: tuple[UserId, ConversationId], place: int) -> None:
        """Mark what a user has taken in a conversation for the other peers that host it; return when it is on disk."""
        with suppress(P2PChatError):  # the place says it here; elsewhere it is taken again
            await driver.requests.ask(partial(MarkedTaken, *marked, place))

    def _mark_earlier(self, driver: Driver, user: UserId, place: int) -> None:
        """Mark what a user had taken before there were marks, and before others hosted it."""
        marks, conversations = driver.node.receipts.marks, self._lifecycle.conversations()
        for key in driver.node.conversations_of(user):
            if user in (audience_of(conversations, key) or ()) and not marks.marked_to(key, user, taken=True)[0]:
                driver.put(MarkedTaken(user, key, place))


def _entries_taken(
    storage: SqlStorage, user: UserId, keys: Sequence[ConversationId], since: int, until: int
) -> dict[LogId, tuple[int, int]]:
    """Return the first and last message of each log of others between two places; none that the user had read."""
    found: dict[LogId, tuple[int, int]] = {}
    while since < until:
        page = storage.places(since, PAGE, keys)
        for shown in page:
            if shown.place <= until and shown.log.user != user and decode_entry(shown.raw).is_message:
                if user not in (reader for reader, _ in storage.readers(shown.log, shown.seq)):
                    first, _ = found.get(shown.log, (shown.seq, 0))
                    found[shown.log] = first, shown.seq
        since = page[-1].place if len(page) == PAGE else until
    return found


# ---- the events of all hosted users, each read once


Users = tuple[UserId, ...] | None


@dataclass(frozen=True)
class AddressedEvent(Event):
    """A live event, and the hosted users it concerned when it happened."""

    inner: Event
    users: Users


class AllUsersSubscription(Subscription):
    """The cursor behind `hosting.everybody`. Each event comes with the users it concerns."""

    def __init__(self, viewer: LocalUser, types: tuple[type, ...], access: AllUsersPolicy) -> None:
        self._lifecycle = viewer._lifecycle
        self._users = access
        super().__init__(self._lifecycle.feed, viewer, types, None, "now", access)

    def push(self, subject: Hashable, event: Event, audience: Audience = None) -> None:
        if not self.closed and self._wants(type(event)):
            self._push(subject, AddressedEvent(event, self._users.users_of(audience)))

    def wants_receipts(self, log: LogId, kind: Kind) -> bool:
        """Return whether receipts of this kind for this log may be taken.

        For whom a message to the room of an earlier run was, or one that its writer wrote at another peer, is not
        known. Storage names all who have it at each of its receipts, so these come only while its writer is here.
        """
        if not super().wants_receipts(log, kind):
            return False
        tracker = self._lifecycle.tracker
        return not tracker.is_in_room(log) or tracker.wrote(log) or self._is_present(log.user)

    def push_receipts(self, update: ReceiptUpdate) -> None:
        """Take receipts; of a message to the room, which a thousand users may get, only that all members have it."""
        if update.having >= update.of or not self._lifecycle.tracker.is_in_room(update.log):
            super().push_receipts(update)

    def _is_present(self, user: UserId) -> bool:
        """Return whether a hosted user is online or idle at this peer."""
        driver = self._lifecycle.driver
        return driver is not None and driver.node.presence.announcer.status(user)[0] != "offline"

    async def next(self) -> tuple[AnyEvent, Users]:
        event: AnyEvent = await super().next()
        if isinstance(event, AddressedEvent):
            return event.inner, event.users
        if isinstance(event, ReceiptEvent):
            return event, (event.log.user,)
        assert isinstance(event, DurableEvent)
        return event, self._users_of(event.log)

    def _users_of(self, log: LogId) -> Users:
        audience = audience_of(self._lifecycle.conversations(), log.conversation)
        return self._users.users_of(None if audience is None else {*audience, log.user})
