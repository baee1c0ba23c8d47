"""Resources of a peer: its identity, network, database and TLS, opened or created as its options say.

Everything here may wait for the disk, so it runs in a thread. Tests put PeerResources together in memory.
"""

from __future__ import annotations

import getpass
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from p2pchat.core.durable_changes import Change
from p2pchat.core.members.statement import parse_statement
from p2pchat.core.members.statement_exchange import FOUNDER
from p2pchat.core.names import default_name, validate_name
from p2pchat.errors import InviteError, P2PChatError
from p2pchat.identity.identity import Identity
from p2pchat.identity.invite_text import Invite, parse_invite
from p2pchat.identity.network import Network, validate_network_name
from p2pchat.identity.profile import DATABASE_NAME, Profile, profiles_beside
from p2pchat.identity.tls_pipe import client_context, server_context
from p2pchat.settings import Settings

if TYPE_CHECKING:
    from p2pchat.storage.sql_storage import SqlStorage

MEMORY_URL = "memory://"
PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class PeerArguments:
    """The arguments of TCPPeer, which are also options of the command line."""

    port: int
    name: str | None
    host: str
    data: PathLike | None
    temporary: bool
    key: PathLike | None
    db: str | None = field(repr=False)  # it may contain a password
    invite: str | None = field(repr=False)
    network: str | None
    advertise: str | None
    discover: bool
    listen: bool | socket.socket
    trace: PathLike | None
    trace_texts: bool
    settings: Settings

    def check(self) -> None:
        """Raise TypeError or ValueError for options that are invalid by themselves."""
        if isinstance(self.port, bool) or not isinstance(self.port, int):
            raise TypeError(f"a port is an int, not {type(self.port).__name__}")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"{self.port} is not a port: use 1 to 65535, or 0 for any free port")
        if self.name is not None:
            validate_name(self.name)
        if self.network is not None:
            validate_network_name(self.network)
            if self.invite is not None:
                raise ValueError("an invite says which network: leave out the name of one")
        if self.temporary and self.data is not None:
            raise ValueError("a peer is either temporary or has a data directory, not both")
        if self.trace_texts and self.trace is None:
            raise ValueError("texts are traced into a file: name it with trace (--trace FILE)")

    @property
    def is_in_memory(self) -> bool:
        """Whether nothing of the database is kept."""
        return self.db is not None and self.db.startswith("memory:")

    @property
    def listener(self) -> socket.socket | None:
        """The socket to listen on that the program made; None without one."""
        return self.listen if isinstance(self.listen, socket.socket) else None


@dataclass
class PeerResources:
    """The open resources of a peer.

    Attributes:
        identity: The key of the peer.
        own: The key of its user; None if that is the key of the peer.
        directory: The data directory; None for a peer in memory.
        pins: The endpoints in an invite, each with the key that must answer there.
        close: Releases files and locks.
    """

    identity: Identity
    network: Network
    storage: SqlStorage
    server_context: ssl.SSLContext = field(repr=False)
    client_context: ssl.SSLContext = field(repr=False)
    directory: Path | None = None
    own: Identity | None = field(default=None, repr=False)
    pins: list[tuple[str, str]] = field(default_factory=list)
    close: Callable[[], None] = lambda: None

    @property
    def user(self) -> Identity:
        """The key of the peer's own user."""
        return self.own or self.identity


def open_resources(options: PeerArguments, *, founds: bool = True) -> PeerResources:
    """Open everything a peer on this machine needs. `founds`: a login without a network founds one.

    Raises:
        DataLocked, InviteError, StorageError, P2PChatError: A file cannot be used. Nothing stays open.
    """
    if options.discover:
        from p2pchat.discovery import require

        require()
    invite = None if options.invite is None else parse_invite(options.invite)
    with ExitStack() as opened:  # closes what is open when a later step fails
        profile = Profile.open(
            port=options.port,
            data=options.data,
            temporary=options.temporary,
            key=options.key,
            network=options.network,
            invite=invite,
            in_memory=options.is_in_memory,
            founds=founds,
        )
        opened.callback(profile.close)
        storage = open_storage(profile, options)
        opened.callback(storage.close)
        network = _network(profile, options, invite, storage)
        if network.added is not None and network.added not in storage.load([]).statements:
            storage.commit([Change(statements=[parse_statement(network.id, *network.added)])])
        server, client = contexts(profile.identity, profile.directory)
        opened.pop_all()
    return PeerResources(
        identity=profile.identity,
        network=network,
        storage=storage,
        server_context=server,
        client_context=client,
        directory=profile.directory,
        own=profile.own,
        pins=[] if invite is None else [(endpoint, invite.peer_id) for endpoint in invite.endpoints],
        close=profile.close,
    )


def learn_of_login(resources: PeerResources) -> bool:
    """Have a new profile of a login that joined a network know what another one knows: members, and where peers are.

    Return whether there is any. A founder needs nobody to be admitted.
    """
    from p2pchat.storage.dialects.sqlite_dialect import sqlite_url
    from p2pchat.storage.sql_storage import SqlStorage

    network, directory, found = resources.network, resources.directory, False
    if directory is None or network.invitation is None:
        return False
    for path in profiles_beside(directory, network):
        with suppress(P2PChatError), closing(SqlStorage(sqlite_url(path / DATABASE_NAME), read_only=True)) as other:
            known = other.load([])
            founder = {FOUNDER: known.meta[FOUNDER]} if FOUNDER in known.meta else {}
            said = [] if network.name else [parse_statement(network.id, *pair) for pair in known.statements]
            addresses = [one for one in known.addresses if one.peer != resources.identity.peer_id]
            resources.storage.commit([Change(addresses=addresses, statements=said, meta={**founder})])
            found |= bool(addresses or said)
    return found


def contexts(identity: Identity, directory: Path | None = None) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the TLS contexts of the listening side and of the dialling side."""
    try:
        return server_context(identity, directory), client_context()
    except OSError as error:
        raise P2PChatError(f"cannot prepare TLS: {error.strerror or error}") from error


def _network(profile: Profile, options: PeerArguments, invite: Invite | None, storage: SqlStorage) -> Network:
    """Return the network of a profile, and store it there unless it is the login's.

    A profile that joined a network, holds messages of one or has members of it, stays in it.
    """
    if invite is not None and profile.network.id == invite.network.id:
        profile.renew(invite)
        return profile.network
    if invite is not None:
        wanted, what = invite.network, "the invite"
    elif options.network is not None:
        wanted, what = Network.named(options.network), "the name of the network"
    else:
        return profile.network
    if profile.network.id != wanted.id and (profile.joined or storage.places(0, 1) or storage.load([]).statements):
        raise InviteError(
            f"{profile.directory} belongs to another network: leave {what} out, or choose another port or --data for it"
        )
    profile.join(wanted, invite)
    return profile.network


def open_storage(profile: Profile, options: PeerArguments) -> SqlStorage:
    """Open the database of a profile, or another one that the options name."""
    from p2pchat.storage.dialects.sqlite_dialect import sqlite_url
    from p2pchat.storage.sql_storage import SqlStorage

    return SqlStorage(options.db or sqlite_url(profile.database), options.settings)


def login_name(port: int = 0) -> str:
    """Return the name of a user who chose none: that of the login, with the port unless it is 0."""
    login = ""
    with suppress(OSError, KeyError, ImportError):  # a container without an entry in the password database
        login = getpass.getuser()
    return default_name(login, port)
