"""TCPPeer: a running peer, with one user of its own and as many more as it hosts.

    async with TCPPeer(8086, "localhost:8080", name="bot") as peer:
        await peer.broadcast("hello, mesh")
        receipt = await peer.send("bob", "psst")
        await receipt.delivered(timeout=5)
        async for event in peer.events():
            ...

What its own user does is in messaging/: stored messages in viewer.py, all else in local_user.py, hosted users in
hosted_user.py. Start and stop are in lifecycle.py. A peer handles no signals, configures
no logging and keeps no global state: many can run in one process and one event loop.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from p2pchat import __version__
from p2pchat.addresses import LOOPBACK, join_endpoint, parse_endpoint
from p2pchat.core.durable_changes import META_ABOUT, META_NAME, META_TRIED, Change
from p2pchat.core.inputs import Connect, Forget, InviteMade, QuotaLifted
from p2pchat.core.members.admission import MadeInvite
from p2pchat.core.names import base32
from p2pchat.core.node import Node
from p2pchat.core.own_state import CHOSEN
from p2pchat.core.sync.quota import lifted_line
from p2pchat.errors import InviteError, UnknownName
from p2pchat.export_file import Exported, Imported, Place, read_file, write_file
from p2pchat.identity.invite_text import DAYS, encode_invite, make_invitation, repeat_invitation
from p2pchat.identity.network import MAX_ENDPOINTS
from p2pchat.identity.own_addresses import own_endpoints
from p2pchat.lifecycle import Lifecycle
from p2pchat.messaging.attachments import StoredFile, only_here, stored_files, unwanted
from p2pchat.messaging.events import Listening, now_micros
from p2pchat.messaging.hosted_user import HostedUser, HostedUserRegistry
from p2pchat.messaging.local_user import LocalUser
from p2pchat.messaging.people import People
from p2pchat.messaging.users import (
    Device,
    User,
    UserDirectory,
    check_several,
    check_timeout,
    devices_of,
    id_of,
)
from p2pchat.messaging.viewer import To
from p2pchat.peer_resources import PathLike, PeerArguments
from p2pchat.protocol import PeerId
from p2pchat.server import address_of
from p2pchat.settings import Settings
from p2pchat.threads import ends_within


@dataclass(frozen=True)
class Forgotten:
    """The result of TCPPeer.forget.

    Attributes:
        endpoints: The endpoints that are not dialled any more; () for a peer that always dialled here.
        linked: A link to that peer is up; it stays until it ends.
    """

    endpoints: tuple[str, ...]
    linked: bool


class TCPPeer(LocalUser):
    """A running peer, with one user of its own, and as many others as it hosts.

    Most programs need `async with`, send(), events(), history() and find().

    Args:
        port: The port to listen on; 0 for any free port, and a temporary profile unless `data` names one.
        endpoints: "host:port" of peers to link with; one is enough to join a whole mesh. A bare port is on this
            machine.
        name: The name of the user; without it the name used before, or that of the login with the port.
        host: The address to listen on; peers on other machines need one beyond loopback.
        data: The directory of identity and history; without it there is one for each port.
        temporary: Delete identity and history when the peer closes.
        key: A file with an identity kept elsewhere.
        db: The URL of another database; "memory://" stores nothing.
        invite: Join the network of this invite.
        network: Join the network of this name: everyone who chooses the name is a member, and nobody can be kept out.
            It has profiles of its own.
        advertise: The endpoint to tell others, if it is not the one listened on.
        discover: Find members on the local network, and be found by them when listening beyond loopback (extra
            `discovery`). It finds members only: to join, an invite or the name of a network is needed.
        listen: Listen on a socket. False: only dial. A TCP socket that listens or is bound: listen there, whatever
            `host` says; start() takes it over, and the peer closes it (give it a dup() to keep yours). `port` is then
            that of the socket, also if it is 0.
        trace: A file for every frame of the links, one JSON object a line; FILE.1 is the one before it
            (docs/troubleshooting.md). Without the file the peer goes on: an event Warned has code "trace".
        trace_texts: Trace what people wrote too, not only its size.
        settings: Limits and times.
    Attributes:
        hosting: What a gateway needs of the users that it hosts.
    Raises:
        TypeError, ValueError: An argument is invalid.
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
        network: str | None = None,
        advertise: str | None = None,
        discover: bool = False,
        listen: bool | socket.socket = True,
        trace: PathLike | None = None,
        trace_texts: bool = False,
        settings: Settings | None = None,
    ) -> None:
        limits = settings or Settings()
        if isinstance(listen, socket.socket):
            host, bound = address_of(listen)
            if port not in (0, bound):
                raise ValueError(f"the port is {port}, and that of the socket is {bound}: leave one out")
            port = bound
        options = PeerArguments(
            port,
            name,
            host,
            data,
            temporary,
            key,
            db,
            invite,
            network,
            advertise,
            discover,
            listen,
            trace,
            trace_texts,
            limits,
        )
        lifecycle = Lifecycle(options, [parse_endpoint(endpoint) for endpoint in endpoints])
        super().__init__(lifecycle, lifecycle.directory, lifecycle.access)
        self._people = People(lifecycle)
        self.hosting: HostedUserRegistry = lifecycle.hosted

    @classmethod
    def local(cls, network: str, *, name: str | None = None, port: int = 0) -> Self:
        """Return a peer that finds the others of a named network on the local network (extra `discovery`).

        It listens on all addresses of this machine. Everyone in reach who chooses the same name is a member.

        Args:
            port: 0 for any free port and a temporary profile.
        Raises:
            TypeError, ValueError: An argument is invalid.
        """
        return cls(port, name=name, host="0.0.0.0", network=network, discover=True)

    # ---- start and stop

    async def start(self, *, timeout: float | None = None) -> None:
        """Listen, and link with the endpoints.

        Returns when it listens, and each endpoint is linked and has announced its users, or has failed once. An
        endpoint that does not answer causes an event Link and is dialled again until it answers.

        Args:
            timeout: Seconds to wait for the endpoints; None for Settings.start_timeout, 3 s. 0: return when it listens.
        Raises:
            PortInUse, DataLocked, InviteError, StorageError, P2PChatError: It cannot run; the text says what to do.
            PeerClosed: It was started or closed before.
        """
        check_timeout(timeout)
        await self._lifecycle.start(timeout)

    async def aclose(self, reason: str = "closed") -> None:
        """Leave in good order: messages written are stored, every peer gets a goodbye, nothing stays open.

        A second call waits for the first. `reason` is that of the event Stopped. Iterators of events keep their
        places: an event that was acknowledged by asking for the next one is not repeated at the next start. Other
        tasks have 0.5 s to acknowledge the event they handle. The event that the caller itself handles is repeated,
        unless `await events.ack()` was called before.
        """
        await self._lifecycle.aclose(reason)

    async def __aenter__(self) -> Self:
        """Start the peer: `async with TCPPeer(8086) as peer: ...` ends it, too."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the peer, as aclose()."""
        await self.aclose()

    # ---- addresses

    @property
    def port(self) -> int:
        """The port it listens on; before start() the one asked for."""
        return self._lifecycle.port or self._lifecycle.options.port

    @property
    def address(self) -> str:
        """The address it listens on."""
        return self._lifecycle.host

    @property
    def endpoint(self) -> str:
        """The endpoint "host:port" by which others on this machine or network reach it; "" if nobody can."""
        lifecycle = self._lifecycle
        told = lifecycle.told_endpoints
        if told:
            return told[0]
        return join_endpoint(LOOPBACK, self.port) if lifecycle.options.listen else ""

    async def make_invite(self, *, uses: int = 1, days: float = DAYS, at: Sequence[str] = (), again: str = "") -> str:
        """Return a new invite: one line that admits people to this network while this peer runs, and says where it is.

        It is stored first, so that it is listed and can be taken back also after a crash. A peer that listens on
        all addresses names every one by which this machine can be reached now.

        Args:
            uses: How many people it admits, 1 to 64.
            days: For how long it is good.
            at: The endpoints to name, "host:port", instead of those known.
            again: The id of an invite of this peer that is returned instead, while it is open and nobody came by it.
        Raises:
            InviteError: Nobody can dial this peer, or it is neither its network's founder nor an admin.
            ValueError: The number or the time is out of range.
            StorageError: It could not be stored.
        """
        check_several(at, "at")
        lifecycle = self._lifecycle
        resources = lifecycle.require_resources()
        network = resources.network
        if network.name:
            raise InviteError(
                f"whoever knows the name of this network is a member: join it with --network {network.name}"
            )
        if network.member is None or not lifecycle.require_running().node.admission.may_invite:
            raise InviteError(self._people.refusal("invite"))
        named = list(at) or lifecycle.told_endpoints
        if not named and lifecycle.options.listen:
            named = own_endpoints(lifecycle.host, lifecycle.port)[:MAX_ENDPOINTS] or [self.endpoint]
        if not named:
            raise InviteError("nobody can dial this peer: start it without --no-listen, or invite from another one")
        for made in self._people.invites():
            if made.id == again and not (made.used_by or made.revoked_at) and made.until > time.time():
                invitation = repeat_invitation(network, resources.identity, made.id, made.uses, made.until)
                return encode_invite(network, invitation, named)
        invitation = make_invitation(network, resources.identity, uses, days)
        made = MadeInvite(invitation.id, uses, invitation.until, int(time.time()))
        await self._choose(lambda: Change(meta=made.line), InviteMade(made.id, uses, made.until))
        return encode_invite(network, invitation, named)

    @property
    def people(self) -> People:
        """The members of the network, and what the founder and the admins decide about them."""
        return self._people

    @property
    def data(self) -> Path | None:
        """The data directory; None when everything is in memory."""
        return self._lifecycle.require_resources().directory

    @property
    def listening(self) -> Listening:
        """The first event of this run."""
        lifecycle = self._lifecycle
        resources = lifecycle.require_resources()
        return Listening(
            at=lifecycle.listening_at,
            version=__version__,
            host=lifecycle.host,
            port=lifecycle.port,
            peer_id=base32(resources.identity.peer_id),
            user=self.directory.user(self.directory.me),
            data="" if resources.directory is None else str(resources.directory),
            network=resources.network.name,
            newest_own=lifecycle.newest_own,
        )

    # ---- links

    def links(self) -> list[str]:
        """Return the ids (base32) of the peers that are linked now."""
        return [] if self._is_closed else [base32(peer) for peer in self._driver.node.links.by_peer]

    def devices(self) -> list[Device]:
        """Return the machines of the own user: this one, those that are linked, then the others."""
        return devices_of(self._require_running().node)

    async def connect(self, endpoint: str | int, *, timeout: float | None = None) -> bool:
        """Link with a peer, which is dialled until it answers. Returns whether the first attempt succeeded.

        Args:
            timeout: Seconds to wait for the first attempt; None for Settings.start_timeout.
        Raises:
            ValueError: The endpoint is invalid.
        """
        check_timeout(timeout)
        driver, there, states = self._require_running(), parse_endpoint(endpoint), self._lifecycle.dispatcher.endpoints
        states.pop(there, None)
        driver.put(Connect(there))
        await ends_within(timeout or self._lifecycle.settings.start_timeout, driver.wait_until(lambda: there in states))
        return states.get(there) == "up"

    async def forget(self, who: User | str | int) -> Forgotten:
        """Forget where a peer is. It is not dialled, now or after a restart, until it is named or reported again.

        A link that is up stays until it ends, and other peers may still report the address.

        Args:
            who: A user, a name as typed (see find), a peer id (base32), or an endpoint, also one given to `connect`
                that never answered.
        Raises:
            UnknownName, AmbiguousName: No user has this name, or several have; or the endpoint is not known.
            ValueError: It is this peer itself, or no endpoint.
            StorageError: It could not be stored.
        """
        driver, there = self._require_running(), str(who) if isinstance(who, int) else who
        links = driver.node.links
        endpoints: tuple[str, ...]
        if isinstance(there, str) and (":" in there or there.strip().isdecimal()):
            endpoint = parse_endpoint(there)
            if not links.dialer.knows(endpoint):
                raise UnknownName(endpoint, text=f"{endpoint} is not dialled, and no peer is known there")
            linked = any(endpoint in links.dialer.endpoints(peer) for peer in links.by_peer)
            endpoints, inputs = (endpoint,), [Forget(endpoint=endpoint)]
        else:
            peers = _peers_of(driver.node, self.directory, there)
            linked = any(peer in links.by_peer for peer in peers)
            endpoints = tuple(dict.fromkeys(one for peer in peers for one in links.dialer.endpoints(peer)))
            inputs = [Forget(peer) for peer in peers]
        await self._choose(lambda: links.book.without(inputs), *inputs)
        for endpoint in endpoints:
            self._lifecycle.dispatcher.endpoints.pop(endpoint, None)
        return Forgotten(endpoints, linked)

    async def add_contact(self, who: User | str) -> User:
        """Make a user a contact, as writing to it does: limits for others do not count for it. Raises as allow."""
        user = await self._resolve(who)
        await self._set_own_state({f"{CHOSEN}:{user.key}": "1"})
        return user

    async def allow(self, who: User | str) -> User:
        """Store everything this user writes, without a limit, from now on; messages refused before arrive too.

        The limits of others are those of MemberLimits. An event Warned with code "quota" comes before it is
        reached, one with code "full" when something was refused.

        Args:
            who: A user, a name as typed (see find), or the full id of any user.
        Returns:
            That user.
        Raises:
            UnknownName, AmbiguousName: No user has this name, or several have.
            StorageError: It could not be stored.
        """
        user = await self._resolve(who)
        contacts = self._require_running().node.contacts
        meta = {contacts.line(user.key, self.directory.me): "1"} | lifted_line(user.key)
        await self._choose(lambda: Change(meta=meta), QuotaLifted(user.key))
        return user

    # ---- files

    async def stored_files(
        self, *, before: datetime | None = None, keep_bytes: int | None = None, held_only: bool = False
    ) -> list[StoredFile]:
        """Return the files that take space on this disk, of all users that are hosted here, the largest first.

        Args:
            before, keep_bytes, held_only: Return only what forget_files would remove.
        Raises:
            ValueError: `before` has no time zone.
            StorageError: They cannot be read. PeerClosed: The peer is not running.
        """
        if before is not None and before.tzinfo is None:
            raise ValueError("`before` needs a time zone")
        files = await stored_files(self, self._require_running())
        stay = await only_here(files) if held_only else set()
        if before is None and keep_bytes is None:
            return [file for file in files if file.root not in stay]
        return unwanted(files, before, keep_bytes, stay)

    async def forget_files(
        self, *, before: datetime | None = None, keep_bytes: int | None = None, held_only: bool = False
    ) -> list[StoredFile]:
        """Remove content from this disk, what came longest ago first; return what went, the largest first.

        The messages stay, and others keep what they have. What was removed comes again when it is asked for
        (Attachment.fetch), from members who have it, and not by itself. Who has not got it yet cannot get it from here.

        Args:
            before: Remove what came here last before this.
            keep_bytes: Remove only until the rest takes at most so many bytes, what takes more by itself before
                anything else; 0 removes all. One of the two is needed.
            held_only: Remove only what somebody else is known to have too (StoredFile.held_by).
        Raises:
            ValueError: Neither is given, or `before` has no time zone.
            StorageError: It cannot be removed. PeerClosed: The peer is not running.
        """
        if before is None and keep_bytes is None:
            raise ValueError("say what is to go: `before`, `keep_bytes`, or both")
        gone = await self.stored_files(before=before, keep_bytes=keep_bytes, held_only=held_only)
        await self._require_running().removal.forget([file.root for file in gone])
        return gone

    async def forget_file(self, root: str) -> int:
        """Remove the content with this root from this disk, whatever names it; return how many bytes that frees.

        See forget_files. What is being read or sent just now goes right after that. 0: nothing of it was here.

        Raises:
            StorageError: It cannot be removed. PeerClosed: The peer is not running.
        """
        driver = self._require_running()
        size = (await driver.content.run(lambda store: store.sizes([root]))).get(root, 0)
        await driver.removal.forget([root])
        return size

    # ---- diagnostics

    @property
    def counted(self) -> dict[str, int]:
        """The counters of the core in this run, and those of connections, for tests and diagnostics."""
        refused = self._driver.connections.strangers.refused
        return {**self._driver.counted, **({"strangers_refused": refused} if refused else {})}

    async def round_trip(self) -> None:
        """Pass once through the core and the disk; returns when both have answered.

        Raises:
            StorageError: Nothing could be accepted now; the text says why.
            PeerClosed: The peer is not running.
        """
        driver = self._require_running()
        driver.require_writable()
        await driver.settle()
        await driver.disk.write(Change(meta={META_TRIED: str(now_micros())}))

    # ---- hosted users

    @property
    def hosted(self) -> list[HostedUser]:
        """The users hosted beside the peer's own, in the order in which they were hosted."""
        return list(self.hosting.by_id.values())

    def hosted_user(self, key: str) -> HostedUser | None:
        """Return the user that is hosted under this key, as given to host(); None if none is."""
        return self.hosting.by_key.get(key)

    async def host(
        self,
        key: str,
        *,
        name: str | None = None,
        secret: bytes | None = None,
    ) -> HostedUser:
        """Host one more user, now and after every start; returns when that is stored.

        The user is offline until `HostedUser.set_presence` is called. A user already hosted under this key is
        returned, as the same object each time, with the name that it has.

        Args:
            key: What the program itself knows the user by: any text of 1 to 128 bytes, compared exactly.
            name: What others see, at most 32 characters. Of two with one name the labels have ids. None: the key.
                Later `HostedUser.rename` changes it.
            secret: That of a user who is known before, as one who is hosted elsewhere too (HostedUser.secret): one
                person on two gateways. Its consumers begin with the first direct or group message stored here.
        Raises:
            ValueError: The key, name or secret is invalid.
            P2PChatError: There are too many users, the user with this key has another secret here, or the one with
                this secret another key.
            StorageError: It could not be stored.
            PeerClosed: The peer is not running.
        """
        return await self.hosting.host(key, name, secret)

    async def unhost(self, user: HostedUser) -> None:
        """Stop hosting a user and delete its key, and what it chose. Its messages stay.

        Nothing happens if it is not hosted.

        Raises:
            StorageError: It could not be removed from the disk, and is still hosted.
        """
        await self.hosting.unhost(user)

    # ---- files

    async def export(
        self, to: Place, conversation: To | None = None, *, files: bool = True,
        progress: Callable[[int], None] | None = None,
    ) -> Exported:  # fmt: skip
        """Write what is stored into a file that another peer of this network can import.

        The file is readable text, for its owner only, and also contains direct conversations. It begins with all
        statements about members. It appears under its name when it is complete.

        Args:
            to: A path, or a binary file to write to.
            conversation: A conversation, user or address; None for all.
            files: Whether with the content of attachments, as far as it is here whole.
            progress: Called now and then with the number of entries written.
        Raises:
            UnknownName, AmbiguousName: `conversation` names nobody, or several; or this open network is not known yet.
            P2PChatError: It cannot be written.
            StorageError: Storage cannot be read.
            PeerClosed: The peer is not running.
        """
        driver, only = self._require_running(), None if conversation is None else self.find(conversation).key
        disk, content = driver.disk, driver.content if files else None
        return await write_file(
            disk.storage, disk.read, to, room=self.room.key, only=only, content=content, progress=progress
        )

    async def import_from(
        self, source: Place, *, files: bool = True, progress: Callable[[int], None] | None = None
    ) -> Imported:
        """Import a file that `export` wrote. Every entry and statement is checked as if it came over a link.

        New entries are stored when this returns; they cause events like all messages and are passed on to other peers.
        Statements about members are taken first, so a removal is known before what the removed one wrote is shown.
        Damaged parts of the file are counted and skipped. Content of attachments is kept if a message here names it,
        and if it is what that message names.

        Args:
            source: A path, or a binary file to read from.
            files: Whether with the content of attachments.
            progress: Called now and then with the number of entries processed.
        Raises:
            ImportRefused: It is no export, or one of another network; nothing was imported.
            UnknownName: This open network is not known yet.
            P2PChatError: It cannot be read.
            StorageError, PeerClosed: What was imported before stays.
        """
        driver, settings = self._require_running(), self._lifecycle.settings
        return await read_file(driver, source, room=self.room.key, settings=settings, files=files, progress=progress)

    # ---- inside

    def _name_change(self, name: str, about: str | None) -> Change:
        return Change(meta={META_NAME: name, **({} if about is None else {META_ABOUT: about})})

    def _take_name(self, name: str) -> None:
        self._lifecycle.name = name

    def __repr__(self) -> str:
        lifecycle = self._lifecycle
        state = "closed" if lifecycle.closed else "new" if lifecycle.driver is None else self.endpoint
        return f"<TCPPeer {lifecycle.name!a} {state}>"


def _peers_of(node: Node, people: UserDirectory, who: User | str) -> list[PeerId]:
    """Return the peer with this id, or the user's own peer and those that host the user."""
    known = {*node.links.book, *node.links.by_peer}
    if isinstance(who, str) and (id := id_of(who)) in known:
        return [id]
    user = who if isinstance(who, User) else people.find(who)
    if user.key in (node.peer, node.user):
        raise ValueError("that is this peer itself: it does not dial itself")
    return sorted({user.key, *(link.peer for link in node.presence.links_of(user.key))})
