"""The users a peer hosts beside its own: what makes it a gateway. TCPPeer has this part too.

Each has a key, which is kept in the database, so that it is hosted again at every start: offline, until somebody says
otherwise. Names are told apart by how they look: one of a gateway's users is never taken for another.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from p2pchat.core.hosted import HostedUser as CoreUser
from p2pchat.core.inputs import Hosting as HostingInput
from p2pchat.core.inputs import Unhosted
from p2pchat.core.records import Change, KeptUser, Stored, Token
from p2pchat.errors import NameTaken, P2PChatError, PeerClosed
from p2pchat.identity.keys import Identity
from p2pchat.identity.names import skeleton, validate_name
from p2pchat.messaging.access import Everyone, audience_of
from p2pchat.messaging.hosted_user import Crowd, HostedUser, consumer_of, core_user
from p2pchat.messaging.timestamps import now_micros
from p2pchat.messaging.users import User
from p2pchat.peer.hosted.everybody import Everybody, EverybodyReader
from p2pchat.peer.standing import Standing
from p2pchat.peer.users.ignoring import load_ignored
from p2pchat.peer.whole import whole
from p2pchat.protocol import UserId


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
        return await whole(self._host_one(validate_name(name), key, tokens))

    async def _host_one(self, name: str, key: bytes | None, tokens: Mapping[bytes, str] | None) -> HostedUser:
        async with self._hosting_lock:
            owner, found = self._running, self._hosted_as(name)
            if found is not None and (key is None or key == found.secret) and found.name.casefold() == name.casefold():
                if tokens is not None:
                    await self._set_tokens(found, tokens)
                return found
            self._check_free(name, "")
            kept, stored = self._new_user(name, key), Stored()
            if key is not None:
                stored = await owner.disk.read(lambda: owner.disk.storage.of_users([kept.id]))
            place = {consumer_of(kept.id, ""): self._feed.recent.newest}
            await owner.disk.write(Change(hosted=[kept], consumers=place, tokens=_tokens_of(kept.id, tokens or {})))
            self._feed.note(place)
            self._had_guests = True
            user = self._take_in(kept)
            core = core_user(kept, self.people.abouts.get(kept.id, ""))
            owner.put(HostingInput(core, tuple(stored.heard), tuple(stored.reads)))
            await owner.handled()
            if key is not None:
                self._ledger.hosted(kept.id)
            return user

    async def unhost(self, user: HostedUser) -> None:
        """Speak for a user no more, and forget its key; what it wrote stays. Nothing happens when it is not hosted.

        Raises:
            StorageError: It could not be taken from the disk: it is hosted again at the next start.
        """
        await whole(self._unhost_one(user))

    async def _unhost_one(self, user: HostedUser) -> None:
        async with self._hosting_lock:
            if self._hosted.get(user.key) is not user:
                return
            owner = self._running
            self._ledger.unhosted(user.key)
            del self._hosted[user.key], self._hosted_names[skeleton(user.name)]
            owner.put(Unhosted(user.key))
            for reader in list(self._herald.readers):
                if reader.desk is user:
                    reader.end()
            user._gone()
            self._herald.look_again()
            await owner.disk.write(Change(unhosted=[user.key]))

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
        node, found = self._begun.node, set[UserId]()
        for conversation in node.sync.conversations.of(user.key):
            audience = audience_of(node, conversation) or ()
            if user.key in audience:
                found.update(audience)
        return [self.people.user(key) for key in found - {user.key}]

    def everybody(self, *types: type[Any]) -> Everybody:
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
        sight = Everyone(lambda: self._core, self._hosted)
        reader = EverybodyReader(self._feed, Crowd(self, sight), types, sight, lambda: self._core)
        self._herald.admit(reader)
        if self._owner is not None:
            self._feed.begin(reader)
        return Everybody(reader)

    # ---- inside

    def _new_user(self, name: str, key: bytes | None) -> KeptUser:
        if key is not None and (not isinstance(key, bytes) or len(key) != 32):
            raise ValueError("the key of a user is 32 bytes")
        secret = secrets.token_bytes(32) if key is None else key
        id, most = Identity.from_seed(secret).peer_id, self._options.settings.max_hosted_users
        if id == self.people.me or id in self._hosted:
            raise P2PChatError("the user with this key has another name here")
        if len(self._hosted) + 2 > most:
            raise P2PChatError(f"this peer hosts {most} users with its own, and no more (Settings.max_hosted_users)")
        return KeptUser(id, secret, name, now_micros())

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

    def _take_in(self, kept: KeptUser) -> HostedUser:
        user = HostedUser(self, kept)
        self._hosted[kept.id] = self._hosted_names[skeleton(kept.name)] = user
        self.people.learn([(kept.id, kept.name)])
        return user

    def _hosted_again(self, kept: list[KeptUser], stored: Stored) -> list[CoreUser]:
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
