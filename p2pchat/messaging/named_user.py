"""Contacts of a local user: the users it knows, ignores and blocks; its own name, presence and receipts.

The core decides what a choice means: core/contacts.py for ignored and blocked users, core/receipts/peer_receipts.py.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from p2pchat.core.contacts import MAX_BLOCKED, blocked_key
from p2pchat.core.durable_changes import META_IGNORED, Change
from p2pchat.core.inputs import (
    NameKept,
    PresenceSet,
    ReceiptsChosen,
    UserBlocked,
    UserRenamed,
)
from p2pchat.core.names import MAX_ABOUT_CHARACTERS, plain, validate_name
from p2pchat.core.sync.appender import check_text
from p2pchat.messaging.local_user import LocalUser
from p2pchat.messaging.users import User, Whois, by_label, former_names, whois
from p2pchat.protocol import MAX_STATUS_CHARACTERS

STATUSES = ("online", "idle", "offline")

T = TypeVar("T")


class NamedUser(LocalUser):
    """A local user with a name and contacts: the own user of a peer, or a hosted user."""

    __slots__ = ()

    # ---- users

    def here(self) -> list[User]:
        """Return the users who are online or idle, in no order; the own user too, unless it is set to offline."""
        node = self._driver.node
        known = map(self.directory.user, {*node.presence.online(), *node.hosted})
        return [user for user in known if user.status in ("online", "idle")]

    def user(self, address: str) -> User:
        """Return the user that an address names: `bob`, `@bob`, `bob#K7QF2M3P`, or a full id.

        Call `find` to get a conversation instead.

        Raises:
            UnknownName, AmbiguousName: No user has this name, or several have.
        """
        self._require_known()
        return self.directory.find(address)

    def names_before(self, user: User) -> tuple[str, ...]:
        """Return the former names of a user, the newest first."""
        return former_names(self._driver.node, user)

    async def whois(self, who: User | str) -> Whois:
        """Return what is known of a user.

        Args:
            who: A user, a name as typed (see find), or the full id of any user.
        Raises:
            UnknownName, AmbiguousName: No user has this name, or several have.
            StorageError: Storage cannot be read.
            PeerClosed: The peer is not running.
        """
        driver, user = self._require_running(), await self._resolve(who)
        storage = driver.disk.storage
        first = await driver.disk.read(lambda: storage.first_received_at(user.key))
        return whois(driver.node, user, first)

    # ---- name and presence

    def _take_name(self, name: str, about: str | None) -> Change:
        """Set the name, and unless it is None what the user tells of itself; return what stores that."""
        raise NotImplementedError

    async def rename(self, name: str, about: str | None = None) -> None:
        """Change the own name and the text about oneself. Everyone gets them, also users who join later.

        Args:
            name: At most 32 characters; may be the present one.
            about: At most 512 characters; "" for nothing, None to leave it as it is.
        Raises:
            ValueError: The name is invalid, or the text cannot be sent.
            StorageError: It could not be stored.
            P2PChatError: Another user of this peer has this name, or one that looks like it.
        """
        name = validate_name(name)
        about = None if about is None else plain(about)
        if about is not None and len(about) > MAX_ABOUT_CHARACTERS:
            raise ValueError(f"the text about oneself has at most {MAX_ABOUT_CHARACTERS} characters")
        if about:
            check_text(about)
        await run_to_completion(self._rename(name, about))

    async def _rename(self, name: str, about: str | None) -> None:
        hosted = self._lifecycle.hosted
        async with hosted.lock:
            driver, me = self._require_running(), self.directory.me
            hosted.check_free(name, me)
            if about is not None:
                self.directory.set_about(me, about)
            change = self._take_name(name, about)
            driver.put(UserRenamed(me, name, about))
            await driver.wait_handled()  # the event Renamed needs the former name
            self.directory.learn([(me, name)])
            await driver.disk.write(change)

    def set_presence(self, status: str, text: str = "") -> None:
        """Show others the status `online`, `idle` or `offline`, with a text.

        Raises:
            ValueError: The status is another word, or the text cannot be sent or is longer than MAX_STATUS_CHARACTERS.
        """
        if status not in STATUSES:
            raise ValueError(f"a status is one of {', '.join(STATUSES)}, not {status!r}")
        status, text = plain(status), plain(text)
        if len(text) > MAX_STATUS_CHARACTERS:
            raise ValueError(f"the text of a status has at most {MAX_STATUS_CHARACTERS} characters, not {len(text)}")
        if text:
            check_text(text)
        self._require_running().put(PresenceSet(self.directory.me, status, text))

    # ---- ignored and blocked users

    async def ignore(self, who: User | str) -> User:
        """Ignore a user, by key and until `unignore`; returns that user.

        Messages of ignored users are still stored, passed on and acknowledged. Programs leave them out when they show
        messages: see `User.ignored`, and `events(ignored=False)`.

        Args:
            who: A user, a name as typed (see find), or the full id of any user.
        Raises:
            UnknownName, AmbiguousName: No user has this name, or several have.
            ValueError: It is the own user, or 4,096 users are ignored.
            StorageError: It could not be stored.
        """
        user = await self._resolve(who)
        if user.is_me:
            raise ValueError("that is the own user: you cannot ignore yourself")
        if len(self.directory.ignored | {user.key}) > MAX_BLOCKED:
            raise ValueError(f"{MAX_BLOCKED} users are ignored, and that is the limit: unignore one first")
        return await self._set_ignored(user, True)

    async def unignore(self, who: User | str) -> User:
        """Undo `ignore`; do nothing for a user who is not ignored. Raises as ignore."""
        return await self._set_ignored(await self._resolve(who), False)

    async def _set_ignored(self, user: User, on: bool) -> User:
        driver, ignored = self._require_running(), self.directory.ignored
        if on:
            driver.put(NameKept(user.key))
        (ignored.add if on else ignored.discard)(user.key)
        await driver.disk.write(Change(meta={self._ignored_key: json.dumps(sorted(self.directory.ignored))}))
        return user

    @property
    def _ignored_key(self) -> str:
        """The key under which storage keeps the ids of ignored users."""
        return f"{META_IGNORED}:{self.directory.me}" if self._consumer_prefix else META_IGNORED

    def ignored(self) -> list[User]:
        """Return the ignored users, sorted by label."""
        self._require_known()
        return list(by_label(map(self.directory.user, self.directory.ignored)))

    async def block(self, who: User | str) -> User:
        """Block a user, by key and until `unblock`; returns that user when that is stored.

        There is no link with the peer whose own user it is, it is shown to nobody here, and nothing it writes is stored
        here: neither its messages in the room, in groups and in direct conversations nor groups that it makes. It is
        not told; its messages stay undelivered. What is stored of it stays, hidden as if it was ignored.

        A hosted user blocks for itself alone: the user is hidden, and what it writes in their direct conversation is
        not stored, unless this peer hosts both.

        Args:
            who: A user, a name as typed (see find), or the full id of any user.
        Raises:
            UnknownName, AmbiguousName: No user has this name, or several have.
            ValueError: It is the own user or one hosted by this peer, or 4,096 users are blocked.
            StorageError: It could not be stored.
        """
        user, driver = await self._resolve(who), self._require_running()
        if user.is_me:
            raise ValueError("that is the own user: you cannot block yourself")
        if user.key in driver.node.hosted and not self._consumer_prefix:
            raise ValueError(f"this peer hosts {user.label!a}: a user hosted here can be ignored, not blocked")
        if len(self.directory.blocked | {user.key}) > MAX_BLOCKED:
            raise ValueError(f"{MAX_BLOCKED} users are blocked, and that is the limit: unblock one first")
        return await self._set_blocked(user, True)

    async def unblock(self, who: User | str) -> User:
        """Undo `block`; do nothing for a user who is not blocked. Everything the user wrote meanwhile arrives.

        Raises as ignore.
        """
        return await self._set_blocked(await self._resolve(who), False)

    async def _set_blocked(self, user: User, on: bool) -> User:
        driver, blocked = self._require_running(), self.directory.blocked
        if (user.key in blocked) is not on:
            (blocked.add if on else blocked.discard)(user.key)
            driver.put(UserBlocked(self.directory.me, user.key, on))
        await driver.settle()
        return user

    @property
    def _blocked_key(self) -> str:
        """The key under which storage keeps the ids of blocked users."""
        return blocked_key(self.directory.me if self._consumer_prefix else "")

    # ---- read receipts

    async def set_receipts(self, on: bool | None, who: User | str | None = None) -> None:
        """Exchange read receipts, or neither send nor receive any: with one user, or with everybody.

        The choice is stored. Receipts already sent stay. A message marked as read while receipts are off is reported
        together with the next one that is marked while they are on.

        Args:
            on: None removes the exception for `who`.
            who: The user, or name as typed (see find), to make an exception for; None sets it for all others.
        Raises:
            UnknownName, AmbiguousName: No user has this name, or several have.
            StorageError: It could not be stored.
        """
        driver = self._require_running()
        other = "" if who is None else (await self._resolve(who)).key
        driver.put(ReceiptsChosen(self.directory.me, None if on is None else bool(on), other))
        await driver.settle()

    def receipt_exceptions(self) -> dict[User, bool]:
        """Return the users for whom read receipts are set on or off individually."""
        privacy = self._driver.node.receipts.read.privacy
        return {self.directory.user(other): on for other, on in privacy.exceptions(self.directory.me).items()}

    def receipts(self, who: User | None = None) -> bool:
        """Return whether read receipts are exchanged with a user; None: with all users without an exception."""
        privacy = self._driver.node.receipts.read.privacy
        return privacy.default(self.directory.me) if who is None else privacy.wants(self.directory.me, who.key)


async def run_to_completion(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end even if the caller is cancelled, and return its result.

    A server cancels the handler of a client that is gone. A change that is on disk or known to others must reach
    memory too, or the next start would know other users and names than this one.
    """
    task = asyncio.ensure_future(work)
    task.add_done_callback(_consume_exception)
    await asyncio.wait([task])  # does not cancel the task when it is cancelled itself
    return task.result()


def _consume_exception(task: asyncio.Task[Any]) -> None:
    """Retrieve the exception, so that asyncio does not log it when no caller is left."""
    if not task.cancelled():
        task.exception()
