"""Devices: one person on several machines, each with a key of its own, all with the key of the person's user.

    old -> new   a hash of its nonce
    new -> old   peer, nonce
    old -> new   nonce
    new -> old   its signature over T, its proof of the code
    old -> new   nothing, or what makes the new machine a device of the person
    new -> old   that it is stored

Both show the same four words, a hash of T; the person compares them and says yes at the old machine. Nothing is handed
over before. The old machine is bound to its nonce before it sees the other one, so whoever stands between them has one
guess at the words (as in ZRTP, RFC 6189, section 4.4.1.1). TLS has proved the key of the old machine, which stands in
the code (identity/device_code.py). A frame is a line of JSON.

Whatever is killed meanwhile, one begins again: the new machine's directory gets its name when all is in it.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from p2pchat.addresses import LOOPBACK, join_endpoint, normal_endpoint, split_endpoint
from p2pchat.core.contacts import CONTACT
from p2pchat.core.durable_changes import META_ABOUT, META_NAME, Address, Change, KnownUser
from p2pchat.core.log import verify
from p2pchat.core.mesh.handshake import NONCE_BYTES
from p2pchat.core.names import base32, name_fault
from p2pchat.core.own_state import OWN_STATE, OwnState
from p2pchat.errors import HandshakeError, InviteError, P2PChatError
from p2pchat.identity.device_code import DeviceCode, commitment_of, parse_device_code, words_of
from p2pchat.identity.identity import Identity, load_identity
from p2pchat.identity.network import FILE_NAME, GUEST_NAME, Network, save_certificates, save_network
from p2pchat.identity.own_addresses import own_endpoints
from p2pchat.identity.profile import (
    DATABASE_NAME,
    KEY_NAME,
    USER_KEY_NAME,
    data_directory,
    locked,
    network_of,
    stored_identity,
)
from p2pchat.identity.tls_pipe import client_context, peer_key, server_context
from p2pchat.messaging.users import Device
from p2pchat.peer_resources import PathLike
from p2pchat.private_files import (
    directory_made_whole,
    make_private_directory,
    remove_leftovers,
    write_private,
)
from p2pchat.protocol import GuestCertificate, Hex16, Hex32, Hex64, Key32, PeerId, UserId
from p2pchat.storage.dialects.sqlite_dialect import sqlite_url
from p2pchat.storage.sql_storage import SqlStorage
from p2pchat.threads import in_thread

SECONDS = 600.0
"""Seconds for which a code is good."""
MAX_LINE_BYTES = 64 * 1024  # from the new machine, which nobody knows yet
MAX_PACKAGE_BYTES = 16 * 1024 * 1024  # all choices that are kept
KEPT = (META_NAME, META_ABOUT)  # in meta, what a new machine begins with beside own state
MAX_NAMES = 10_000  # of others, told to a new device; a guess: profiles in the room name all others
MAX_ADDRESSES = 64  # of others, told to a new device; a guess: it needs one that answers
DIAL_SECONDS = 10.0  # for one address of the old machine
_Newcomer = tuple[PeerId, bytes, asyncio.StreamReader, asyncio.StreamWriter]  # the key of the new machine, and T


# ---- the old machine


async def add_device(
    data: PathLike | int,
    *,
    on_code: Callable[[str], None],
    is_wanted: Callable[[str], Awaitable[bool]],
    host: str = "0.0.0.0",
    at: Sequence[str] = (),
    seconds: float = SECONDS,
    port: int = 0,
) -> Device | None:
    """Make another machine a device of this profile's user; return it, or None if it was not wanted after all.

    At the first yes the profile gets a peer key of its own, until then the user's key is that of the machine. Invites
    that it made before admit nobody any more.

    Args:
        data: The profile's data directory, or its port.
        on_code: Called with the code for the other machine.
        is_wanted: Called with four words; returns whether the other machine shows the same.
        host: The address to listen on.
        at: Endpoints to tell the other machine, with the port to listen on; without any those of this machine.
        seconds: For how long the code is good.
        port: Where the profile's peer listens; 0: on the port that the directory is called after, if any.
    Raises:
        DataLocked: The profile's peer runs, and has no key of its own yet.
        P2PChatError: There is no such profile, its member's key is elsewhere, or nobody came in time.
    """
    directory = data_directory(data)
    network = await in_thread(_network_with_member, directory)
    with nullcontext() if _has_own_key(directory) else locked(directory):  # until a new key is written, at the yes
        identity = stored_identity(directory)
        context = await in_thread(server_context, identity, directory)
        came: asyncio.Future[_Newcomer] = asyncio.get_running_loop().create_future()
        code: DeviceCode | None = None

        async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError, TimeoutError, ssl.SSLError, ValueError):  # anybody may dial
                assert code is not None
                peer, t = await _meet_new(code, reader, writer)
                if not came.done():  # the code is used up, whatever the person says
                    came.set_result((peer, t, reader, writer))
                    return
            writer.close()

        wanted = split_endpoint(at[0])[1] if at else 0
        server = await asyncio.start_server(on_connection, host, wanted, ssl=context, limit=MAX_LINE_BYTES)
        async with server:
            bound = server.sockets[0].getsockname()[1]
            own = own_endpoints(host, bound) if host != LOOPBACK else ()
            places = [*at] or [*own, join_endpoint(LOOPBACK, bound)]
            code = DeviceCode.make(identity.peer_id, places)
            on_code(code.text)
            try:
                async with asyncio.timeout(seconds):
                    peer, t, reader, writer = await came
                    with closing(writer):
                        if await is_wanted(words_of(t)):
                            await _hand_over(await in_thread(_package, directory, network, peer, port), reader, writer)
                            return Device(base32(peer))
                        _send(writer, _Answer())
                        return None
            except TimeoutError:
                raise P2PChatError(f"no machine came within {seconds:g} s: run it again for a new code") from None


def _network_with_member(directory: Path) -> Network:
    """Return the network of a profile in which somebody can answer for more keys. Raises P2PChatError."""
    stored_identity(directory)
    network = network_of(directory)
    if network.member is None and not network.name:
        raise P2PChatError("the key of this network's member is on another machine: add the device there")
    return network


def _has_own_key(directory: Path) -> bool:
    """Return whether a machine has a key apart from its user's."""
    path = directory / USER_KEY_NAME
    return path.exists() and load_identity(path).peer_id != stored_identity(directory).peer_id


async def _meet_new(
    code: DeviceCode, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[PeerId, bytes]:
    """Return the key of the machine that came, and T. Raises ValueError if it does not prove either."""
    nonce = secrets.token_hex(NONCE_BYTES)
    _send(writer, _Commitment(commitment_of(nonce)))
    async with asyncio.timeout(DIAL_SECONDS):
        came = await _receive(reader, _Introduction)
        _send(writer, _Opening(nonce))
        proved = await _receive(reader, _Proof)
    t = code.transcript(came.peer, nonce, came.nonce)
    is_proved = hmac.compare_digest(proved.proof, code.proof(t))
    if not (is_proved and verify(came.peer, bytes.fromhex(proved.sig), t)):
        raise ValueError("another machine than the one that has the code")
    return came.peer, t


async def _hand_over(package: _Package, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hand over what makes the other machine a device, and wait until it is stored there."""
    _send(writer, _Answer(package))
    try:
        async with asyncio.timeout(DIAL_SECONDS):
            await _receive(reader, _Stored)
    except (ConnectionError, TimeoutError, ValueError) as error:
        raise P2PChatError(f"the other machine went away ({error}): begin again at both") from None


def _package(directory: Path, network: Network, peer: PeerId, port: int = 0) -> _Package:
    """Return what makes the machine with this key a device of the profile's user.

    A machine that has one key for both gets another one for itself. The user's key is written first: whoever is killed
    after that has one key at two places, as before.
    """
    if not _has_own_key(directory):
        write_private(directory / USER_KEY_NAME, stored_identity(directory).to_pem())
        write_private(directory / KEY_NAME, Identity.generate().to_pem())
    identity, user = stored_identity(directory), load_identity(directory / USER_KEY_NAME)
    with closing(SqlStorage(sqlite_url(directory / DATABASE_NAME), read_only=True)) as storage:
        stored = storage.load([user.peer_id])
    others = [(one.peer, one.endpoint) for one in stored.addresses if one.verified_at and one.peer != identity.peer_id]
    if not port and directory.name.isdecimal():
        port = int(directory.name)
    own = [*own_endpoints("", port), join_endpoint(LOOPBACK, port)] if port else []
    return _Package(
        (network.id, network.key, network.founder, network.name),
        user.private_key.private_bytes_raw().hex(),
        {name: line for name, line in stored.meta.items() if _is_kept(name, user.peer_id)},
        [one for key in (peer, user.peer_id) if (one := network.guest(key)) is not None],
        [*((identity.peer_id, one) for one in own), *others[:MAX_ADDRESSES]],
        {one.id: one.name for one in stored.users[-MAX_NAMES:]},
    )


def _is_kept(name: str, user: UserId) -> bool:
    """Return whether a new machine of a user begins with a line of meta: names, own state, and contacts."""
    if name.startswith(OWN_STATE):
        return name.startswith(f"{OWN_STATE}{user}:") and not name.endswith(":")  # entries are counted there
    return name in KEPT or (name.startswith(CONTACT) and name.count(":") == 1)  # those of other users here have two


# ---- the new machine


async def join_device(
    code: str, data: PathLike | int, *, on_words: Callable[[str], None], seconds: float = SECONDS
) -> Device:
    """Make a new profile here a device of the person whose other machine shows this code; return it.

    Args:
        data: The data directory of the new profile, or its port. There may be no peer yet.
        on_words: Called with four words, which the person compares with those of the other machine.
        seconds: How long to wait for the yes there.
    Raises:
        InviteError: It is no code, or one that is no longer good.
        P2PChatError: There is a peer already, the other machine is out of reach, or it says no.
    """
    offer, directory = parse_device_code(code), data_directory(data)
    if (directory / KEY_NAME).exists():
        raise P2PChatError(
            f"there is a peer in {directory}, whose user stays who it is: choose another port, or --data"
        )
    identity = Identity.generate()
    reader, writer = await _dial(offer)
    try:
        async with asyncio.timeout(seconds):
            t = await _introduce(offer, identity, reader, writer)
            on_words(words_of(t))
            answer = await _receive(reader, _Answer)
            if answer.package is None:
                raise P2PChatError("the other machine said no: begin again there for a new code")
            await in_thread(_store, directory, identity, answer.package)
            _send(writer, _Stored())
            await writer.drain()
    except TimeoutError:
        raise P2PChatError("nobody said yes at the other machine: begin again there for a new code") from None
    except (ConnectionError, ValueError):
        raise InviteError("the code is no longer good: begin again at the other machine for a new one") from None
    finally:
        writer.close()
    return Device(base32(identity.peer_id), directory=directory)


async def _dial(code: DeviceCode) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection with the machine whose key is in the code."""
    for endpoint in code.endpoints:
        host, port = split_endpoint(endpoint)
        with suppress(OSError, TimeoutError, HandshakeError):
            async with asyncio.timeout(DIAL_SECONDS):
                reader, writer = await asyncio.open_connection(
                    host, port, ssl=client_context(), limit=MAX_PACKAGE_BYTES
                )
            if peer_key(writer.get_extra_info("ssl_object").getpeercert(True)) == code.peer:
                return reader, writer
            writer.close()
    raise P2PChatError(
        f"no machine with this code answers at {', '.join(code.endpoints)}: is it still waiting there? From another "
        "home it is reached only after `p2pchat device add --advertise HOST:PORT`, at a port that its router forwards"
    )


async def _introduce(
    code: DeviceCode, identity: Identity, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bytes:
    """Prove this machine's key and the code; return T. Raises ValueError if the other one changed its nonce."""
    bound = await _receive(reader, _Commitment)
    nonce = secrets.token_hex(NONCE_BYTES)
    _send(writer, _Introduction(identity.peer_id, nonce))
    theirs = (await _receive(reader, _Opening)).nonce
    if commitment_of(theirs) != bound.hash:
        raise ValueError("another nonce than it was bound to")
    t = code.transcript(identity.peer_id, theirs, nonce)
    _send(writer, _Proof(identity.sign(t).hex(), code.proof(t)))
    return t


def _store(directory: Path, identity: Identity, package: _Package) -> None:
    """Make the profile, whole or not at all. Raises ValueError for a package that no machine makes."""
    id, key, founder, name = package.network
    network = Network(id, key, founder, name, certificates=tuple(package.certificates))
    own = Identity.from_seed(bytes.fromhex(package.user))
    peers = [Address(peer, normal_endpoint(endpoint), told=True) for peer, endpoint in package.peers]
    kept = {name: line for name, line in package.kept.items() if _is_kept(name, own.peer_id)}
    if META_NAME in kept and name_fault(kept[META_NAME]):  # not validate_name: a stored one may be reserved, as `room`
        raise ValueError("a name that nobody has")
    names = package.names | ({own.peer_id: kept[META_NAME]} if META_NAME in kept else {})
    users = [KnownUser(id, name, 0) for id, name in names.items() if not name_fault(name)]
    OwnState(kept)  # can be read
    if any(network.guest(key) is None for key in (identity.peer_id, own.peer_id) if not name):
        raise ValueError("a certificate that its member did not sign")
    make_private_directory(directory.parent)
    remove_leftovers(directory, untouched=0)
    with directory_made_whole(directory) as aside:
        write_private(aside / KEY_NAME, identity.to_pem())
        write_private(aside / USER_KEY_NAME, own.to_pem())
        save_certificates(aside / GUEST_NAME, network, [identity.peer_id, own.peer_id])
        save_network(aside / FILE_NAME, network)
        with closing(SqlStorage(sqlite_url(aside / DATABASE_NAME))) as storage:
            storage.commit([Change(addresses=peers, users=users, meta=dict(kept))])


# ---- frames


class _Commitment(Struct):
    hash: Hex32


class _Introduction(Struct):
    peer: Key32
    nonce: Hex32


class _Opening(Struct):
    nonce: Hex32


class _Proof(Struct):
    sig: Hex64
    proof: Hex32


class _Package(Struct):
    """What makes another machine a device.

    Attributes:
        network: Its id, key, founder ("": not known) and name ("": it has none).
        user: The seed of the user's key.
        kept: Lines of meta.
        certificates: Of the new machine's key, and of the user's.
        peers: Peers with an endpoint of each.
        names: Names of users: who has written nothing to the room, and is away, is known by it.
    """

    network: tuple[Hex16, Hex32, str, str]
    user: Hex32
    kept: dict[str, str]
    certificates: list[GuestCertificate]
    peers: list[tuple[Key32, str]]
    names: dict[Key32, str] = {}


class _Answer(Struct):
    package: _Package | None = None


class _Stored(Struct):
    stored: bool = True


F = TypeVar("F", bound=Struct)


def _send(writer: asyncio.StreamWriter, frame: Struct) -> None:
    writer.write(msgspec.json.encode(frame) + b"\n")


async def _receive(reader: asyncio.StreamReader, kind: type[F]) -> F:
    """Return the next frame. Raises ValueError for anything else, ConnectionError at the end."""
    line = await reader.readline()
    if not line.endswith(b"\n"):
        raise ConnectionResetError("the other machine has gone")
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.MsgspecError, RecursionError):
        raise ValueError("not the frame that comes next") from None
