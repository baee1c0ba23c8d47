"""TCPPeer: what a program holds in its hand.

    async with TCPPeer(8081, "localhost:8080", name="alice") as peer:
        await peer.broadcast("hello, mesh")
        receipt = await peer.send("bob", "psst")
        await receipt.delivered(timeout=5)
        async for event in peer.events():
            ...

It is two things in one. As a peer it begins and ends (lifecycle.py), stands among others (lifecycle.py) and hosts users
(hosting.py); as the peer's own user it is somebody (local_user.py), has conversations (places.py) and writes and reads
there (local_user.py). It takes no signals, sets up no logging and keeps no global state: many live in one process and
one loop.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from p2pchat.config import Settings
from p2pchat.core.context import HostedIdentity as CoreUser
from p2pchat.core.inputs import UserHosted as HostingInput
from p2pchat.core.inputs import UserUnhosted
from p2pchat.core.records import META_ABOUT, META_IGNORED, META_NAME, Change, Stored, StoredUser, Token
from p2pchat.errors import NameTaken, P2PChatError, PeerClosed
from p2pchat.identity.keys import Identity
from p2pchat.identity.names import skeleton, validate_name
from p2pchat.identity.network import LOOPBACK, normal
from p2pchat.lifecycle import Standing
from p2pchat.messaging.access import AllUsersPolicy, audience_of
from p2pchat.messaging.hosted_user import (
    AllUsersStream,
    AllUsersSubscription,
    AllUsersViewer,
    HostedUser,
    consumer_of,
    core_user,
)
from p2pchat.messaging.local_user import Messaging, To, run_to_completion
from p2pchat.messaging.messages import Viewer
from p2pchat.messaging.timestamps import now_micros
from p2pchat.messaging.users import User, load_ignored
from p2pchat.protocol import UserId
from p2pchat.resources import Options, PathLike
from p2pchat.transfer import Exported, Imported, Place, read_file, write_file

# ---- hosting
#
# The users a peer hosts beside its own: what makes it a gateway. TCPPeer has this part too.
#
# Each has a key, which is kept in the database, so that it is hosted again at every start: offline, until somebody says
# otherwise. Names are told apart by how they look: one of a gateway's users is never taken for another.


class Hosting(Standing):
    """The hosted users of TCPPeer."""

    # ------------------------------------------------------------------ hosting

    @property
    def hosted(self) -> list[HostedUser]:
        """The users hosted here beside the peer's own, those first who came first."""
        return list(self._hosted.values())

    async def host(
        self, name: str, *, key: bytes | None = None, tokens: Mapping[bytes, str] | None = None
    ) -> HostedUser:
        """Speak for one more user, from now on and after every start; returns when that is on disk.

        It is offline until it says otherwise (`set_presence`). Who is hosted under this name is returned, the same
        object each time.

        Args:
            name: At most 32 characters; no other user of this peer may have one that looks like it.
            key: The secret of a user who is hosted elsewhere too (HostedUser.secret): one person on two gateways.
            tokens: As set_tokens; kept with a new user at once, so that nothing is half there after a crash.
        Raises:
            ValueError: That is no name, or no key. NameTaken: It is that of another user of this peer.
            P2PChatError: There are too many users, or the one with this key has another name here.
            StorageError: It could not be kept. PeerClosed: Not running.
        """
        return await run_to_completion(self._host_one(validate_name(name), key, tokens))

    async def _host_one(self, name: str, key: bytes | None, tokens: Mapping[bytes, str] | None) -> HostedUser:
        async with self._hosting_lock:
            driver, found = self._running, self._hosted_as(name)
            if found is not None and (key is None or key == found.secret) and found.name.casefold() == name.casefold():
                if tokens is not None:
                    await self._set_tokens(found, tokens)
                return found
            self._check_free(name, "")
            kept, stored = self._new_user(name, key), Stored()
            if key is not None:
                stored = await driver.disk.read(lambda: driver.disk.storage.load_users([kept.id]))
            place = {consumer_of(kept.id, ""): self._feed.recent.newest}
            await driver.disk.write(Change(hosted=[kept], consumers=place, tokens=_tokens_of(kept.id, tokens or {})))
            self._feed.note(place)
            self._had_guests = True
            user = self._take_in(kept)
            core = core_user(kept, self.people.abouts.get(kept.id, ""))
            driver.put(HostingInput(core, tuple(stored.delivered), tuple(stored.reads)))
            await driver.wait_handled()
            if key is not None:
                self._tracker.hosted(kept.id)
            return user

    async def unhost(self, user: HostedUser) -> None:
        """Speak for a user no more, and forget its key; what it wrote stays. Nothing happens when it is not hosted.

        Raises:
            StorageError: It could not be taken from the disk: it is hosted again at the next start.
        """
        await run_to_completion(self._unhost_one(user))

    async def _unhost_one(self, user: HostedUser) -> None:
        async with self._hosting_lock:
            if self._hosted.get(user.key) is not user:
                return
            driver = self._running
            self._tracker.unhosted(user.key)
            del self._hosted[user.key], self._hosted_names[skeleton(user.name)]
            driver.put(UserUnhosted(user.key))
            for reader in list(self._dispatcher.readers):
                if reader.viewer is user:
                    reader.end()
            user._gone()
            self._dispatcher.wake_waiters()
            await driver.disk.write(Change(unhosted=[user.key]))

    async def set_tokens(self, user: HostedUser, tokens: Mapping[bytes, str]) -> None:
        """Keep what lets programs act for a hosted user, in place of what did before; returns when that is on disk.

        Args:
            tokens: Hashes of secrets (32 bytes each, never the secrets), each with a label of the program's own.
        Raises:
            ValueError: That is no hash. StorageError. PeerClosed: Not running, or the user is hosted no more.
        """
        async with self._hosting_lock:  # or of two at once each would let those of the other stand
            await self._set_tokens(user, tokens)

    async def _set_tokens(self, user: HostedUser, tokens: Mapping[bytes, str]) -> None:
        disk = user._running.disk
        former = await disk.read(lambda: disk.storage.tokens(user.key))
        revoked = [token.hash for token in former if token.hash not in tokens]
        await disk.write(Change(tokens=_tokens_of(user.key, tokens), revoked=revoked))

    async def tokens(self) -> dict[UserId, dict[bytes, str]]:
        """Return the hashes kept for hosted users, with their labels, by the ids (hex) of the users who have any."""
        disk = self._running.disk
        found: dict[UserId, dict[bytes, str]] = {}
        for token in await disk.read(disk.storage.tokens):
            if token.user in self._hosted:
                found.setdefault(token.user, {})[token.hash] = token.label
        return found

    def acquainted(self, user: User) -> list[User]:
        """Return those who have a direct conversation or a group with somebody, as far as this peer knows, in no order.

        Among thousands it is they whom a user's presence concerns. Raises PeerClosed.
        """
        node, found = self._started_driver.node, set[UserId]()
        for conversation in node.sync.conversations.of_user(user.key):
            audience = audience_of(node, conversation) or ()
            if user.key in audience:
                found.update(audience)
        return [self.people.user(key) for key in found - {user.key}]

    def everybody(self, *types: type[Any]) -> AllUsersStream:
        """Return an iterator over what concerns any hosted user: `(event, users)`, each event once for all of them.

        Live only, from now on. `users` are the ids (hex) of the hosted users whom it concerns, None for all of them;
        of presence and typing the one it is about may be among them. A message that a hosted user wrote is Sent, its
        writer is among `users`; HostedUser.post returns it as one of them sees it. What concerns none of them, as what
        the peer's own user writes to others, is not told. Of a message to the room Delivered and Read are told once:
        when they are true of everybody.

        Args:
            types: Only these classes of events; none means all.
        Raises PeerClosed.
        """
        if self._closed:
            raise PeerClosed("the peer was closed")
        access = AllUsersPolicy(lambda: self._core, self._hosted)
        reader = AllUsersSubscription(self._feed, AllUsersViewer(self, access), types, access, lambda: self._core)
        self._dispatcher.add_reader(reader)
        if self._driver is not None:
            self._feed.begin(reader)
        return AllUsersStream(reader)

    # ---- inside

    def _new_user(self, name: str, key: bytes | None) -> StoredUser:
        if key is not None and (not isinstance(key, bytes) or len(key) != 32):
            raise ValueError("the key of a user is 32 bytes")
        secret = secrets.token_bytes(32) if key is None else key
        id, most = Identity.from_seed(secret).peer_id, self._options.settings.max_hosted_users
        if id == self.people.me or id in self._hosted:
            raise P2PChatError("the user with this key has another name here")
        if len(self._hosted) + 2 > most:
            raise P2PChatError(f"this peer hosts {most} users with its own, and no more (Settings.max_hosted_users)")
        return StoredUser(id, secret, name, now_micros())

    def _hosted_as(self, name: str) -> HostedUser | None:
        return self._hosted_names.get(skeleton(name))

    def _check_free(self, name: str, user: UserId) -> None:
        """Raise NameTaken when another user of this peer than this one is called so, or nearly so."""
        looks, me = skeleton(name), self.people.me
        found = self._hosted_as(name)
        other = found.name if found is not None and found.key != user else ""
        if user != me and skeleton(self._name) == looks:
            other = self._name
        if other:
            raise NameTaken(name, other)

    def _renamed(self, user: HostedUser, former: str) -> None:
        del self._hosted_names[skeleton(former)]
        self._hosted_names[skeleton(user.name)] = user

    def _take_in(self, kept: StoredUser) -> HostedUser:
        user = HostedUser(self, kept)
        self._hosted[kept.id] = self._hosted_names[skeleton(kept.name)] = user
        self.people.learn([(kept.id, kept.name)])
        return user

    def _hosted_again(self, kept: list[StoredUser], stored: Stored) -> list[CoreUser]:
        """Take in the users that storage keeps, and return them as the core speaks for them."""
        for one in kept:
            user = self._take_in(one)
            load_ignored(user.people, stored.meta, user._ignored_in)
        return [core_user(one, self.people.abouts.get(one.id, "")) for one in kept]


def _tokens_of(user: UserId, tokens: Mapping[bytes, str]) -> list[Token]:
    if any(not isinstance(hash, bytes) or len(hash) != 32 for hash in tokens):
        raise ValueError("the hash of a token is 32 bytes")
    now = now_micros()
    return [Token(hash, user, now, label) for hash, label in tokens.items()]


# ---- peer


class TCPPeer(Hosting, Messaging):
    """A running peer, with one user of its own, and as many others as it hosts.

    Args:
        port: Where to listen; 0 takes any free port, and a temporary profile unless `data` names one.
        endpoints: "host:port" of peers to link with; one is enough to join a whole mesh. A bare port is this machine.
        name: What the user is called; without it the name it had before, or the login's with the port.
        host: The address to listen on; beyond loopback others can reach it.
        data: The directory of identity and history; without it one for each port.
        temporary: Identity and history go when the peer closes.
        key: An identity kept elsewhere.
        db: Another database, as URL; "memory://" keeps nothing.
        invite: Join the network of this invite.
        open: A network without a key: whoever can connect is a member.
        advertise: The endpoint to tell others, when it is not the one listened on.
        discover: Find members on the local network, and be found by them when listening beyond loopback (extra
            `discovery`). An invite is still needed to join.
        settings: Limits and times.
    Raises:
        TypeError, ValueError: An argument that cannot be meant.
    """

    def __init__(
        self,
        port: int = 0,
        *endpoints: str | int,
        name: str | None = None,
        host: str = LOOPBACK,
        data: PathLike | None = None,
        temporary: bool = False,
        key: PathLike | None = None,
        db: str | None = None,
        invite: str | None = None,
        open: bool = False,
        advertise: str | None = None,
        discover: bool = False,
        settings: Settings | None = None,
    ) -> None:
        limits = settings or Settings()
        options = Options(port, name, host, data, temporary, key, db, invite, open, advertise, discover, limits)
        super().__init__(options, [normal(endpoint) for endpoint in endpoints])
        self._conversations = {}

    # ------------------------------------------------------------------ carrying

    async def export(
        self, to: Place, conversation: To | None = None, *, progress: Callable[[int], None] | None = None
    ) -> Exported:
        """Write what is stored here into a file that another peer of this network can import.

        It is readable text: whoever has the file can read it. Written aside and put there when whole, for its owner
        only; it holds what is accepted when it is read, also of others and of direct conversations.

        Args:
            to: A path, or a binary file to write to.
            conversation: A conversation, user or address; None for all.
            progress: Told now and then how many entries are written.
        Raises:
            UnknownName, AmbiguousName: `conversation` is nobody, or several; or this open network is not known yet.
            P2PChatError: It cannot be written. StorageError, PeerClosed.
        """
        driver, only = self._running, None if conversation is None else self.find(conversation).key
        disk = driver.disk
        return await write_file(disk.storage, disk.read, to, room=self.room.key, only=only, progress=progress)

    async def import_from(self, source: Place, *, progress: Callable[[int], None] | None = None) -> Imported:
        """Take in a file that `export` made, here or elsewhere: every entry is checked as if it came over a link.

        What is new is on disk when this returns, is told by events like every message, and is passed on to others.
        What a damaged file holds besides is counted; it costs nothing else.

        Args:
            source: A path, or a binary file to read from.
            progress: Told now and then how many entries are dealt with.
        Raises:
            ImportRefused: It is no such file, or one of another network; nothing of it was taken.
            UnknownName: This open network is not known yet.
            P2PChatError: It cannot be read. StorageError, PeerClosed: What was imported before that stays.
        """
        driver, settings = self._running, self._options.settings
        return await read_file(driver, source, room=self.room.key, settings=settings, progress=progress)

    # ---- as the part of the user asks

    @property
    def _viewer(self) -> Viewer:
        return self

    @property
    def _names_lock(self) -> asyncio.Lock:
        return self._hosting_lock

    def _check_name(self, name: str) -> None:
        self._check_free(name, self.people.me)

    def _called(self, name: str, about: str | None) -> Change:
        self._name = name
        return Change(meta={META_NAME: name, **({} if about is None else {META_ABOUT: about})})

    @property
    def _ignored_in(self) -> str:
        return META_IGNORED

    def _consumer(self, name: str) -> str:
        return name

    @property
    def _first_place(self) -> int:
        return self._feed.start

    @property
    def _came_at(self) -> int:
        return 0

    def __repr__(self) -> str:
        state = "closed" if self._closed else "new" if self._driver is None else self.endpoint
        return f"<TCPPeer {self._name!a} {state}>"
