"""What one user is and does beside messages: its name, presence and receipts, whom it ignores, and whom it knows of.

For the own user of a peer and for every hosted one the same (part.py).
"""

from __future__ import annotations

from p2pchat.core.inputs import PresenceSet, ReceiptsChosen, Renamed
from p2pchat.core.records import Change
from p2pchat.core.sync.people import MAX_ABOUT_CHARACTERS
from p2pchat.identity.names import validate_name
from p2pchat.messaging.users import User, id_of, somebody
from p2pchat.peer.calls.part import UserPart
from p2pchat.peer.messages.texts import check_text
from p2pchat.peer.users.ignoring import ignored_meta
from p2pchat.peer.users.whois import Whois, known_of, names_before
from p2pchat.peer.whole import whole
from p2pchat.protocol import MAX_STATUS_CHARACTERS

STATUSES = ("online", "idle", "offline")


class Being(UserPart):
    """Who a user is among others."""

    __slots__ = ()

    # ------------------------------------------------------------------ who

    @property
    def me(self) -> User:
        """The own user."""
        self._started()
        return self.people.user(self.people.me)

    def users(self) -> list[User]:
        """Return everybody with a name, by label; oneself too."""
        self._started()
        return self.people.all()

    def here(self) -> list[User]:
        """Return those who are online or idle now, in no order; oneself too, unless one says to be offline."""
        node = self._begun.node
        known = map(self.people.user, {*node.presence.online(), *node.hosted})
        return [user for user in known if user.status in ("online", "idle")]

    def user(self, address: str) -> User:
        """Return the user an address names: `bob`, `@bob`, `bob#K7QF2M3P`, a full id. No conversation begins with it.

        Raises:
            UnknownName, AmbiguousName: As find.
        """
        self._started()
        return self.people.find(address)

    # ------------------------------------------------------------------ doing

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
        disk = self._running.disk
        self.people.ignored.add(user.key)
        await disk.write(Change(meta=ignored_meta(self.people, self._ignored_in)))
        return user

    async def unignore(self, who: User | str) -> User:
        """End what ignore() began; nothing happens when it did not. Takes, returns and raises as ignore."""
        user = self._somebody(who)
        disk = self._running.disk
        self.people.ignored.discard(user.key)
        await disk.write(Change(meta=ignored_meta(self.people, self._ignored_in)))
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
        return somebody(self.people, who)

    async def rename(self, name: str, about: str | None = None) -> None:
        """Take another name, and tell something of oneself with it; all are told, also who comes later.

        Args:
            name: At most 32 characters; may be the present one.
            about: At most 512 characters, "" for nothing; None leaves it as it is.
        Raises:
            ValueError: That is no name, or others could not be told the text. StorageError: It could not be kept.
            P2PChatError: Another user of this peer has it, or one that could be taken for it.
        """
        name = validate_name(name)
        if about is not None and len(about) > MAX_ABOUT_CHARACTERS:
            raise ValueError(f"what one tells of oneself has at most {MAX_ABOUT_CHARACTERS} characters")
        if about:
            check_text(about, self._options.settings)
        await whole(self._rename(name, about))

    async def _rename(self, name: str, about: str | None) -> None:
        async with self._names_lock:
            owner, me = self._running, self.people.me
            self._check_name(name)
            if about is not None:
                self.people.tell_about(me, about)
            kept = self._called(name, about)
            owner.put(Renamed(me, name, about))
            await owner.handled()  # others hear of it by what the core tells then
            self.people.learn([(me, name)])
            await owner.disk.write(kept)

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
