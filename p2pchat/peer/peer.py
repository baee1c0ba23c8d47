"""TCPPeer: what a program holds in its hand.

    async with TCPPeer(8081, "localhost:8080", name="alice") as peer:
        await peer.broadcast("hello, mesh")
        receipt = await peer.send("bob", "psst")
        await receipt.delivered(timeout=5)
        async for event in peer.events():
            ...

It puts the parts together (assembly.py, runtime.py, herald.py) and knows by which names programs call things. It
takes no signals, sets up no logging and keeps no global state: many live in one process and one loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

from p2pchat import __version__
from p2pchat.config import Settings
from p2pchat.core.inputs import Allowed, Connect, Opened, PresenceSet, Renamed
from p2pchat.core.log import LogId, Ref
from p2pchat.core.records import META_NAME, Change
from p2pchat.core.sync.conversations import dm_id, dm_naming
from p2pchat.core.sync.writing import ROOM_FOR_REST, text_fault, written_bytes
from p2pchat.errors import InviteError, PeerClosed, TooLong, UnknownName
from p2pchat.identity.addresses import own_endpoints
from p2pchat.identity.invites import MAX_ENDPOINTS, encode_invite
from p2pchat.identity.names import base32, validate_name
from p2pchat.peer import events as ev
from p2pchat.peer.assembly import Options, PathLike
from p2pchat.peer.carrying import Exported, Imported, Place, read_file, write_file
from p2pchat.peer.conversation import Conversation
from p2pchat.peer.events import Message, Post, Sent, parse_message_id
from p2pchat.peer.forgetting import Forgotten, forgetting
from p2pchat.peer.life import LOOPBACK, Life, join, normal
from p2pchat.peer.people import FULL_ID_CHARACTERS, User
from p2pchat.peer.posts import find_post, read_posts, search_posts
from p2pchat.peer.reader import AnyEvent, Events, Reader, matches
from p2pchat.peer.receipt import Piece, Receipt, Receipts
from p2pchat.protocol import MAX_STATUS_CHARACTERS, ConversationId, Naming

To = User | Conversation | str
Start = Literal["now", "beginning"]
A = TypeVar("A")
B = TypeVar("B")
MANY = 1000  # texts of send_many under one future: a dozen batches, a transaction of some 5 ms
PLAIN_CHARACTERS = 1024  # ASCII up to here is within every limit, whatever it holds: looked at no further
STATUSES = ("online", "idle", "offline")


class TCPPeer(Life):
    """A running peer, with one user of its own.

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
        self._conversations: dict[ConversationId, Conversation] = {}

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
        return self._told_endpoints()[0] if self._told_endpoints() else join(LOOPBACK, self.port)

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
    def room(self) -> Conversation:
        """The conversation of everyone; UnknownName in an open network that has met nobody yet."""
        key = self._begun.node.room
        if not key:
            text = "there is no room yet: this open network is known when the first peer has been met"
            raise UnknownName("room", text=text)
        return self.conversation(key)

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

    def links(self) -> list[str]:
        """Return the peer ids (base32) of the peers linked with now."""
        return [] if self._closed else [base32(peer) for peer in self._begun.node.links.by_peer]

    def conversations(self) -> list[Conversation]:
        """Return all conversations known here, the room first, then by name."""
        known = [self.conversation(key) for key in self._begun.node.talks]
        return sorted(known, key=lambda one: (one.kind != "room", one.name.casefold()))

    def conversation(self, key: ConversationId) -> Conversation:
        """Return the one handle of a conversation, by its inner id (hex)."""
        found = self._conversations.get(key)
        if found is None or found.naming is None:
            found = Conversation(self, key, self._naming(key))
            self._conversations[key] = found
        return found

    def _naming(self, key: ConversationId) -> Naming | None:
        known = None if self._owner is None else self._owner.node.sync.conversations.by_id.get(key)
        return None if known is None else known.naming

    def find(self, to: To) -> Conversation:
        """Return the conversation an address names: `room`, `bob`, `@bob`, `bob#K7QF2M3P`, a full id.

        Raises:
            UnknownName: Nobody and nothing is called so.
            AmbiguousName: Several are; `.candidates` are labels that tell them apart.
        """
        if isinstance(to, Conversation):
            return to
        if isinstance(to, User):
            return self._dm(to)
        if not isinstance(to, str):
            raise TypeError(f"a message goes to a name, a User or a Conversation, not {type(to).__name__}")
        text = to.strip()
        if text.lower() in ("room", "#room"):
            return self.room
        if text.startswith("#"):
            raise UnknownName(to, "there are no groups in this version; the room is `room`")
        if len(text) == FULL_ID_CHARACTERS:
            for key in [*self._begun.node.talks, *self._conversations]:
                if base32(key) == text.upper():
                    return self.conversation(key)
        return self._dm(self.people.find(text))

    def user(self, address: str) -> User:
        """Return the user an address names: `bob`, `@bob`, `bob#K7QF2M3P`, a full id. No conversation begins with it.

        Raises:
            UnknownName, AmbiguousName: As find.
        """
        self._started()
        return self.people.find(address)

    def _dm(self, user: User) -> Conversation:
        owner = self._begun
        key = dm_id(self.people.me, user.key)
        found = self._conversations.get(key)
        if found is None or found.naming is None:
            naming = dm_naming(self.people.me, user.key)
            if key not in owner.node.talks and not self._closed:
                owner.put(Opened(naming))
            found = self._conversations[key] = Conversation(self, key, naming)
        return found

    # ------------------------------------------------------------------ sending

    async def send(
        self,
        to: To,
        text: str,
        reply_to: Post | str | None = None,
        *,
        action: bool = False,
        ref: str | None = None,
    ) -> Receipt:
        """Write one message; returns when it is accepted: on this disk, safe from a crash.

        Args:
            to: A user, a conversation, or an address as typed (see find).
            text: At most 32 KiB of UTF-8, not empty, no NUL.
            reply_to: The message this answers, of the same conversation, or its id.
            action: It says what the writer does (/me).
            ref: A word of the program's own, given back in the event Sent; kept for this run only.
        Raises:
            UnknownName, AmbiguousName: `to` is nobody, or several.
            TooLong: `.limit_bytes` says what fits. TypeError, ValueError: No text at all.
            StorageError: It could not be stored; nothing was sent. PeerClosed: Not running.
        """
        owner = self._running
        conversation = to if type(to) is Conversation else self.find(to)
        self._check(text)
        re = None if reply_to is None else _reference(conversation, reply_to)
        kind = "action" if action else "text"
        log, seq = await owner.say(self.people.me, conversation.key, kind, (text,), re, ref)
        return Receipt(self._ledger, log, seq)

    async def broadcast(self, text: str) -> Receipt:
        """Write to the room; as send."""
        return await self.send(self.room, text)

    async def send_many(self, to: To, texts: Sequence[str]) -> Receipts:
        """Write many messages in order; returns when all are accepted. Much quicker than one at a time.

        Raises as send; when that is TooLong, TypeError or ValueError, none was written.
        """
        owner = self._running
        if isinstance(texts, str):
            raise TypeError("send_many takes a list of texts, not one text")
        conversation, me = self.find(to), self.people.me
        texts = list(texts)
        for text in texts:
            self._check(text)
        said = [
            owner.say(me, conversation.key, "text", texts[start : start + MANY]) for start in range(0, len(texts), MANY)
        ]
        try:
            firsts = [await saying for saying in said]
        except BaseException:
            for saying in said:
                saying.cancel()
            raise
        counts = [min(MANY, len(texts) - start) for start in range(0, len(texts), MANY)]
        return Receipts(self._ledger, [Piece(*first, count) for first, count in zip(firsts, counts, strict=True)])

    def _check(self, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"a text is a str, not {type(text).__name__}")
        if not text:
            raise ValueError("an empty text says nothing")
        if len(text) <= PLAIN_CHARACTERS and text.isascii() and "\0" not in text:
            return
        settings = self._options.settings
        fault = text_fault(text, settings.max_text_bytes, settings.max_entry_bytes)
        if fault is not None and fault[0] == "too_long":
            size = len(text.encode())
            if size > settings.max_text_bytes:
                raise TooLong("the text", size, settings.max_text_bytes)
            limit = settings.max_entry_bytes - ROOM_FOR_REST
            raise TooLong("the text, its control characters escaped,", written_bytes(text), limit)
        if fault is not None:
            raise ValueError(fault[1])

    async def receipt(self, message_id: str) -> Receipt:
        """Return the receipt of a message of one's own, also of an earlier run.

        Raises:
            ValueError: No message id. UnknownName: No message of ours has it.
        """
        prefix, ref = parse_message_id(message_id)
        owner, me = self._running, self.people.me
        talk = next((key for key in owner.node.talks if key.startswith(prefix)), None)
        if talk is None or ref.log[:16] != me[:16]:
            raise UnknownName(message_id, "it is no message of ours")
        log = LogId(talk, me, ref.log[16:])
        storage = owner.disk.storage
        if not self._ledger.wrote(log):
            if await owner.disk.read(lambda: storage.entry(log, ref.seq)) is None:
                raise UnknownName(message_id, "it is no message of ours")
            other = self.conversation(talk).user  # in the room only who has it is known after a restart
            marks = await owner.disk.read(lambda: storage.heard(log, ref.seq))
            self._ledger.heard(log, marks, () if other is None else (other.key,))
        return Receipt(self._ledger, log, ref.seq)

    # ------------------------------------------------------------------ reading

    @overload
    def events(self, *, consumer: str | None = "main", start: Start = "now") -> Events[AnyEvent]: ...
    @overload
    def events(self, a: type[A], /, *, consumer: str | None = "main", start: Start = "now") -> Events[A]: ...
    @overload
    def events(
        self, a: type[A], b: type[B], /, *, consumer: str | None = "main", start: Start = "now"
    ) -> Events[A | B]: ...
    @overload
    def events(self, *types: type[Any], consumer: str | None = "main", start: Start = "now") -> Events[Any]: ...
    def events(self, *types: type[Any], consumer: str | None = "main", start: Start = "now") -> Events[Any]:
        """Return an iterator over what happens.

        Messages (Message, and Sent for one's own) are read with a durable cursor: a program that falls behind,
        crashes or restarts misses none, and may see the last one twice. Asking for the next event acknowledges the
        one before. Everything else (Joined, Link, Delivered ...) is told only while the iterator is open; what came
        before is not told again, so who must see it opens the iterator before start().

        Args:
            types: Only these classes of events, e.g. Message, Left; none means all.
            consumer: The name of the cursor. None: nothing is remembered.
            start: Where a consumer that was never asked for begins: "now" is where this peer started, so that nothing
                since then is missed (with consumer=None: where the iterator is opened); "beginning" is the first
                message stored.
        Raises:
            ConsumerBusy: Another reader has this consumer; close it or give this one a name of its own.
        """
        if self._closed:
            raise PeerClosed("the peer was closed")
        if start not in ("now", "beginning"):
            raise ValueError(f"start is 'now' or 'beginning', not {start!a}")
        reader = Reader(self._feed, self, types, consumer, start)
        self._herald.admit(reader)
        if self._owner is not None:
            self._feed.begin(reader)
        return Events(reader)

    async def wait_for(
        self, *types: type[Any], where: Callable[[Any], bool] | None = None, timeout: float | None = None
    ) -> Any:
        """Return the first event from now on that is one of `types` and for which `where` is true.

        Raises:
            TimeoutError: None came in time. PeerClosed: The peer was closed meanwhile.
        """
        reader = self.events(*types, consumer=None)
        try:
            async with asyncio.timeout(timeout):
                async for event in reader:
                    if matches(types, where, event):
                        return event
        finally:
            reader.close()
        raise PeerClosed("the peer was closed")

    async def wait_user(self, name: str, timeout: float | None = None) -> User:
        """Return the user of this name as soon as that user is online.

        Raises:
            TimeoutError: Not in time. AmbiguousName: Several have it. PeerClosed: Closed meanwhile.
        """
        found: list[User] = []

        def here() -> bool:
            try:
                user = self.people.find(name)
            except UnknownName:
                return False
            found[:] = [user]
            return user.is_me or user.status in ("online", "idle")

        try:
            await self._herald.until(here, timeout)
        except TimeoutError:
            raise TimeoutError(f"{name!a} has not come online in time") from None
        return found[0]

    async def history(
        self,
        conversation: To | None = None,
        *,
        before: Post | datetime | None = None,
        after: Post | datetime | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> list[Message | Sent]:
        """Return messages, oldest first.

        Args:
            conversation: A conversation, user or address; None for all in one order.
            before, after: With `after` the oldest behind it, otherwise the newest, before `before`.
            since: Nothing written before this moment.
            limit: Most messages; 0 for all.
        Raises:
            UnknownName, AmbiguousName, StorageError, PeerClosed.
        """
        owner = self._running
        key = None if conversation is None else self.find(conversation).key
        disk = owner.disk
        return await read_posts(
            self, disk.storage, disk.read, key, before=before, after=after, since=since, limit=limit
        )

    async def search(
        self,
        words: str,
        conversation: To | None = None,
        *,
        before: Post | datetime | None = None,
        since: datetime | None = None,
        limit: int = 50,
    ) -> list[Message | Sent]:
        """Return the newest messages with all of these words in them, oldest first.

        Args:
            words: Parts of the text, apart by blanks, in any order; ADA finds ada.
            conversation: As history.
            before: Only older ones, to go on from the oldest found.
            since: Nothing written before this moment.
            limit: Most messages, 1 or more.
        Raises:
            ValueError: No word. UnknownName, AmbiguousName, StorageError, PeerClosed.
        """
        disk, key = self._running.disk, None if conversation is None else self.find(conversation).key
        return await search_posts(self, disk.storage, disk.read, words, key, before=before, since=since, limit=limit)

    async def message(self, message_id: str) -> Message | Sent:
        """Return one message by its id, as in `reply_to` and `after`.

        Raises:
            ValueError: No message id. UnknownName: It is not here (yet). StorageError, PeerClosed.
        """
        owner = self._running
        return await find_post(self, owner.disk.storage, owner.disk.read, owner.node.talks, message_id)

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
            who: A user, or a name as typed (see find). Returned is that user.
        Raises:
            UnknownName, AmbiguousName: Nobody is called so, or several. StorageError: It could not be stored.
        """
        owner = self._running
        user = who if isinstance(who, User) else self.user(who)
        owner.put(Allowed(user.key))
        await owner.settle()
        return user

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
        owner, only = self._running, None if conversation is None else self.find(conversation).key
        disk = owner.disk
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
        owner, settings = self._running, self._options.settings
        return await read_file(owner, source, room=self.room.key, settings=settings, progress=progress)

    async def rename(self, name: str) -> None:
        """Take another name; ValueError when it is none."""
        owner, name = self._running, validate_name(name)
        self._name = name
        self.people.learn([(self.people.me, name)])
        owner.put(Renamed(self.people.me, name))
        await owner.disk.write(Change(meta={META_NAME: name}))

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
            self._check(text)
        self._running.put(PresenceSet(self.people.me, status, text))

    # ------------------------------------------------------------------ what messages ask

    def ref(self, log: LogId, seq: int) -> str | None:
        """Return what send() was given as `ref` for this message, in this run."""
        return None if self._owner is None else self._owner.saying.refs.get((log, seq))

    def __repr__(self) -> str:
        state = "closed" if self._closed else "new" if self._owner is None else self.endpoint
        return f"<TCPPeer {self._name!a} {state}>"


def _reference(conversation: Conversation, to: Post | str) -> Ref:
    """Return how an entry of this conversation names another; ValueError when that is of another conversation."""
    prefix, ref = parse_message_id(to.id if isinstance(to, Post) else to)
    if not conversation.key.startswith(prefix):
        raise ValueError("an answer goes to the conversation of the message it answers")
    return ref
