"""Where a peer stands among others: who it is and where, whom it knows and is linked with, and what it does about that.

Of messages nothing: those are peer.py.
"""

from __future__ import annotations

from pathlib import Path

from p2pchat import __version__
from p2pchat.core.inputs import Allowed, Connect, PresenceSet, ReceiptsChosen, Renamed
from p2pchat.core.mesh.endpoints import join_endpoint
from p2pchat.core.records import META_ABOUT, META_NAME, META_TRIED, Change
from p2pchat.core.sync.people import MAX_ABOUT_CHARACTERS
from p2pchat.errors import InviteError, P2PChatError, StorageError
from p2pchat.identity.addresses import own_endpoints
from p2pchat.identity.invites import MAX_ENDPOINTS, encode_invite
from p2pchat.identity.names import base32, validate_name
from p2pchat.peer import events as ev
from p2pchat.peer.forgetting import Forgotten, forgetting
from p2pchat.peer.ignoring import ignored_meta
from p2pchat.peer.life import LOOPBACK, Life, normal
from p2pchat.peer.people import User, id_of
from p2pchat.peer.texts import check_text
from p2pchat.peer.times import now_micros
from p2pchat.peer.whois import Whois, known_of, names_before
from p2pchat.protocol import MAX_STATUS_CHARACTERS

STATUSES = ("online", "idle", "offline")


class Standing(Life):
    """What TCPPeer is and does beside messages."""

    # ------------------------------------------------------------------ who and where

    @property
    def me(self) -> User:
        """The own user."""
        self._started()
        return self.people.user(self.people.me)

    @property
    def port(self) -> int:
        """The port it listens on; the one asked for until it does."""
        return self._port or self._options.port

    @property
    def host(self) -> str:
        """The address it listens on."""
        return self._host

    @property
    def endpoint(self) -> str:
        """Where others on this machine or network find it: "host:port"."""
        return self._told_endpoints()[0] if self._told_endpoints() else join_endpoint(LOOPBACK, self.port)

    @property
    def invite(self) -> str:
        """One line that admits others to this network and says where this peer is. Whoever has it can invite.

        When it listens on all addresses, it is at every one by which this machine may be reached now.
        """
        home = self._started()
        network = self._network or home.network
        if not network.id:
            raise InviteError("this open network is known when the first peer has been met")
        places = self._told_endpoints() or own_endpoints(self._host, self._port)[:MAX_ENDPOINTS] or [self.endpoint]
        return encode_invite(home.identity.peer_id, network, places)

    @property
    def data(self) -> Path | None:
        """The data directory; None when everything is in memory."""
        return self._started().directory

    @property
    def is_open(self) -> bool:
        """Whether the network has no key."""
        return self._started().network.is_open

    @property
    def listening(self) -> ev.Listening:
        """The first event of this run."""
        home = self._started()
        return ev.Listening(
            at=self._listening_at,
            version=__version__,
            host=self._host,
            port=self._port,
            peer_id=base32(home.identity.peer_id),
            user=self.me,
            data="" if home.directory is None else str(home.directory),
            network="open" if home.network.is_open else "keyed",
        )

    @property
    def counted(self) -> dict[str, int]:
        """What the core counted in this run, for tests and diagnostics."""
        return dict(self._begun.counted)

    def users(self) -> list[User]:
        """Return everybody with a name, by label; oneself too."""
        self._started()
        return self.people.all()

    def here(self) -> list[User]:
        """Return those who are online or idle now, in no order; oneself too, unless one says to be offline."""
        known = map(self.people.user, {*self._begun.node.presence.online(), self.people.me})
        return [user for user in known if user.status in ("online", "idle")]

    def links(self) -> list[str]:
        """Return the peer ids (base32) of the peers linked with now."""
        return [] if self._closed else [base32(peer) for peer in self._begun.node.links.by_peer]

    def user(self, address: str) -> User:
        """Return the user an address names: `bob`, `@bob`, `bob#K7QF2M3P`, a full id. No conversation begins with it.

        Raises:
            UnknownName, AmbiguousName: As find.
        """
        self._started()
        return self.people.find(address)

    async def round_trip(self) -> None:
        """Go once through the core and onto the disk and back: returns when both have done their part.

        Raises:
            StorageError: Nothing would be accepted now, and why. PeerClosed: Not running.
            P2PChatError: The core has failed.
        """
        owner = self._running
        if owner.broken is not None:
            raise P2PChatError("p2pchat has failed inside: restart it")
        if not owner.node.accepting:
            raise StorageError("the disk is nearly full" if owner.node.keeping else "storage does not work")
        await owner.settle()
        await owner.disk.write(Change(meta={META_TRIED: str(now_micros())}))

    # ------------------------------------------------------------------ doing

    async def connect(self, endpoint: str | int, *, timeout: float | None = None) -> bool:
        """Link with a peer; tried for ever. Returns whether it was linked at the first attempt.

        Args:
            timeout: Seconds to wait for that attempt; None is Settings.start_timeout.
        Raises:
            ValueError: That is no endpoint.
        """
        owner, there = self._running, normal(endpoint)
        states, wait = self._herald.endpoints, timeout or self._options.settings.start_timeout
        states.pop(there, None)
        owner.put(Connect(there))
        try:
            await self._herald.until(lambda: there in states, wait)
        except TimeoutError:
            return False
        return states.get(there) == "up"

    async def forget(self, who: User | str | int) -> Forgotten:
        """Forget where a peer is: it is dialled no more, now or after a restart, until it is named or told of again.

        A link that is up stays until it ends.

        Args:
            who: A user, a name as typed (see find), a peer id (base32), or an endpoint: also one that `connect` was
                asked for and where nobody has answered.
        Raises:
            UnknownName, AmbiguousName: Nobody is called so, or nothing is known of that endpoint.
            ValueError: That is this peer itself, or no endpoint. StorageError: It could not be stored.
        """
        owner = self._running
        forgotten, inputs = forgetting(owner.node, self.people, who)
        for input in inputs:
            owner.put(input)
        await owner.settle()
        for endpoint in forgotten.endpoints:
            self._herald.endpoints.pop(endpoint, None)
        return forgotten

    async def allow(self, who: User | str) -> User:
        """Store whatever this user writes, however much, from now on and for good; what was refused comes.

        There is a limit to what is stored of one user (Settings.user_quota_bytes); a Warned with code "quota" comes
        before it is reached, one with code "full" when something was refused.

        Args:
            who: A user, or a name as typed (see find), or a full id, known or not. Returned is that user.
        Raises:
            UnknownName, AmbiguousName: Nobody is called so, or several. StorageError: It could not be stored.
        """
        owner, user = self._running, self._somebody(who)
        owner.put(Allowed(user.key))
        await owner.settle()
        return user

    async def ignore(self, who: User | str) -> User:
        """Remember that the own user does not want to hear of this one, by key and for good.

        What that user writes is stored, passed on and acknowledged as before; it is for whoever shows things to leave
        it out: `user.ignored`, and `events(ignored=False)`.

        Args:
            who: A user, or a name as typed (see find), or a full id, known or not. Returned is that user.
        Raises:
            UnknownName, AmbiguousName: Nobody is called so, or several. ValueError: That is the own user.
            StorageError: It could not be stored.
        """
        user = self._somebody(who)
        if user.is_me:
            raise ValueError("that is the own user: nobody ignores himself")
        self.people.ignored.add(user.key)
        await self._running.disk.write(Change(meta=ignored_meta(self.people)))
        return user

    async def unignore(self, who: User | str) -> User:
        """End what ignore() began; nothing happens when it did not. Takes, returns and raises as ignore."""
        user = self._somebody(who)
        self.people.ignored.discard(user.key)
        await self._running.disk.write(Change(meta=ignored_meta(self.people)))
        return user

    def ignored(self) -> list[User]:
        """Return whom the own user does not want to hear of, by label."""
        self._started()
        users = map(self.people.user, self.people.ignored)
        return sorted(users, key=lambda user: (user.label.casefold(), user.key))

    def ignores(self, id: str) -> bool:
        """Whether the user of this id, as in event lines, is ignored."""
        return bool(self.people.ignored) and id_of(id) in self.people.ignored

    def _somebody(self, who: User | str) -> User:
        self._started()
        return who if isinstance(who, User) else self.people.someone(who)

    async def rename(self, name: str, about: str | None = None) -> None:
        """Take another name, and tell something of oneself with it; all are told, also who comes later.

        Args:
            name: At most 32 characters; may be the present one.
            about: At most 512 characters, "" for nothing; None leaves it as it is.
        Raises:
            ValueError: That is no name, or others could not be told the text. StorageError: It could not be kept.
        """
        owner, name = self._running, validate_name(name)
        kept = {META_NAME: name}
        if about is not None:
            if len(about) > MAX_ABOUT_CHARACTERS:
                raise ValueError(f"what one tells of oneself has at most {MAX_ABOUT_CHARACTERS} characters")
            if about:
                check_text(about, self._options.settings)
            self.people.tell_about(self.people.me, about)
            kept[META_ABOUT] = about
        self._name = name
        self.people.learn([(self.people.me, name)])
        owner.put(Renamed(self.people.me, name, about))
        await owner.disk.write(Change(meta=kept))

    def names_before(self, user: User) -> tuple[str, ...]:
        """Return other names a user had, by the profiles in the room, the newest first."""
        return names_before(self._begun.node, user)

    async def whois(self, who: User | str) -> Whois:
        """Return what is known of a user.

        Args:
            who: A user, or a name as typed (see find), or a full id, known or not.
        Raises:
            UnknownName, AmbiguousName: Nobody is called so, or several. StorageError, PeerClosed.
        """
        owner, user = self._running, self._somebody(who)
        storage = owner.disk.storage
        first = await owner.disk.read(lambda: storage.first_heard(user.key))
        return known_of(owner.node, user, first)

    async def set_receipts(self, on: bool | None, who: User | str | None = None) -> None:
        """Tell others what is read here, and hear what they have read, or neither: with one user, or with everybody.

        Kept over restarts. What was told before stays told; a message marked read meanwhile is told with the next one
        that is marked when receipts are on again.

        Args:
            on: None: `who` is no exception any more.
            who: A user, or a name as typed (see find), who is an exception now; None: what holds for all others.
        Raises:
            UnknownName, AmbiguousName: Nobody is called so, or several. StorageError: It could not be stored.
        """
        owner = self._running
        other = "" if who is None else (who if isinstance(who, User) else self.user(who)).key
        owner.put(ReceiptsChosen(self.people.me, on, other))
        await owner.settle()

    def receipt_exceptions(self) -> dict[User, bool]:
        """Return the users with whom receipts of reading are set on or off apart from all others."""
        consent = self._begun.node.sync.reads.consent
        return {self.people.user(other): on for other, on in consent.exceptions(self.people.me).items()}

    def receipts(self, who: User | None = None) -> bool:
        """Whether this user is told what is read here, and the other way round; None: whoever is no exception."""
        consent = self._begun.node.sync.reads.consent
        return consent.general(self.people.me) if who is None else consent.wants(self.people.me, who.key)

    def set_presence(self, status: str, text: str = "") -> None:
        """Tell others `online`, `idle` or `offline`, with a text of one's own.

        Raises:
            ValueError: There is no such status, or others could not be told the text: it is longer than
                MAX_STATUS_CHARACTERS, or no text that can be sent.
        """
        if status not in STATUSES:
            raise ValueError(f"a status is one of {', '.join(STATUSES)}, not {status!a}")
        if len(text) > MAX_STATUS_CHARACTERS:
            raise ValueError(f"the text of a status has at most {MAX_STATUS_CHARACTERS} characters, not {len(text)}")
        if text:
            check_text(text, self._options.settings)
        self._running.put(PresenceSet(self.people.me, status, text))
