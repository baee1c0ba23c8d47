"""Networks, invites, and endpoints as people write them.

A network is founded by a key F, which signs who belongs to it; its id N is a hash of F. Its members share a key K. All
peers of one login share one network, which the first peer that starts founds. Two private files in the login's data
directory have it: `founder`, the seed of F, which stays there alone, and `network`. A profile directory with a network
file of its own has joined another network, and stays in it. Each file is one line, in hex:

    p2pchat-founder 1 <seed of F>
    p2pchat-network 2 <N> <K> <F, or - where it is not known yet> [the name of a named network, in UTF-8]

Of a *named* network F and K are made from a word, so everyone who knows the word is a member. The word is a name and no
password: anybody can guess it, and all networks of one name in reach of each other are one.

An invite is one line of text that admits a peer to a network and says where to find it:

    p2pchat:<base32 of version, peer id, N, K, checksum>@host:port,...

The version is 1. The checksum detects typing errors only: anyone who has an invite can read its key. Case, blanks and
line breaks are ignored, so that an invite survives mail and dictation. Source: docs/protocol.md, "Invites".
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b, scrypt
from pathlib import Path

from p2pchat.core.members.statement import network_id
from p2pchat.errors import InviteError, P2PChatError
from p2pchat.identity.keys import Identity
from p2pchat.identity.private_files import make_private_directory, read_private, remove_leftovers, write_private
from p2pchat.protocol import PeerId, UserId

FILE_NAME = "network"
FOUNDER_NAME = "founder"
_LINE = re.compile(rb"p2pchat-network 2 ([0-9a-f]{32}) ([0-9a-f]{64}) ([0-9a-f]{64}|-)(?: ((?:[0-9a-f]{2})+))?\s*")
_FOUNDER_LINE = re.compile(rb"p2pchat-founder 1 ([0-9a-f]{64})\s*")
_LOCK_TIMEOUT = 10.0  # seconds; a process holds it for one small write
PREFIX = "p2pchat:"
MAX_ENDPOINTS = 8  # as many as the address book keeps of one peer
MAX_ENDPOINT_BYTES = 100
_SUM_TAG = b"p2pchat/invite/1 sum\0"
_SUM_BYTES = 4  # one typing error in four thousand million passes
_VERSION = 1
_BODY_BYTES = 1 + 32 + 16 + 32  # before the checksum
MAX_NETWORK_NAME = 64
"""Most characters in the name of a network."""
_NAME_SALT = b"p2pchat/network name/2\0"
# RFC 7914, section 2: 32 MiB and 0.1 s, once a start. Whoever looks for networks in reach with a list of names needs
# that for each of them.
_SCRYPT: dict[str, int] = {"n": 1 << 15, "r": 8, "p": 1, "maxmem": 64 * 1024 * 1024, "dklen": 64}
_ZONE = re.compile(r"[^%]*(%[a-z0-9_.-]+)?")  # of an IPv6 address; the ipaddress module accepts anything
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_.])?")
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Network:
    """A network.

    Attributes:
        id: N (hex16), which never changes.
        key: K (hex32).
        founder: F (hex32); "" in a network that was joined, until a member has told it.
        name: The word that a named network is made from; "" for another one.
    """

    id: str
    key: str = field(repr=False)
    founder: UserId = ""
    name: str = ""

    @classmethod
    def found(cls, seed: bytes | None = None) -> Network:
        """Return a new network that the key with this seed founds; None for a key that nobody keeps."""
        founder = Identity.from_seed(seed or secrets.token_bytes(32)).peer_id
        return cls(network_id(founder), secrets.token_bytes(32).hex(), founder)

    @classmethod
    def named(cls, name: str) -> Network:
        """Return the network of a name. Raises ValueError for what is no name of a network."""
        return _network_of_name(validate_network_name(name))


@lru_cache(maxsize=8)
def _network_of_name(name: str) -> Network:
    made = scrypt(name.encode(), salt=_NAME_SALT, **_SCRYPT)
    founder = Identity.from_seed(made[32:]).peer_id
    return Network(network_id(founder), made[:32].hex(), founder, name)


def validate_network_name(name: str) -> str:
    """Return the name of a network in normal form: NFC, in lower case, without blanks around it.

    Raises:
        ValueError: It is empty, too long, not one line of visible characters, or an invite.
    """
    found = unicodedata.normalize("NFC", name.strip().casefold())
    if not found.isprintable() or not 1 <= len(found) <= MAX_NETWORK_NAME:
        raise ValueError(f"the name of a network has 1 to {MAX_NETWORK_NAME} visible characters")
    if found.startswith(PREFIX):
        raise ValueError("this is an invite and no name of a network: join with --invite")
    return found


def load_network(path: Path) -> Network | None:
    """Read a network file; None when there is none.

    Raises:
        P2PChatError: Others can read it, or it is damaged.
    """
    try:
        data = read_private(path)
    except FileNotFoundError:
        return None
    if data.startswith(b"p2pchat-network 1 "):
        raise P2PChatError(f"p2pchat 0.1 made {path}: use what belongs to it with that version, or move it away")
    if (match := _LINE.fullmatch(data)) is not None:
        id, key, founder, name = ((group or b"").decode().strip("-") for group in match.groups())
        if not founder or network_id(founder) == id:
            return Network(id, key, founder, bytes.fromhex(name).decode(errors="replace"))
    raise P2PChatError(f"{path} is damaged: restore it, or move it away and join again with an invite")


def save_network(path: Path, network: Network) -> None:
    """Write a network file; replace a former one.

    Raises:
        P2PChatError: It cannot be written.
    """
    try:
        name = f" {network.name.encode().hex()}" if network.name else ""
        write_private(path, f"p2pchat-network 2 {network.id} {network.key} {network.founder or '-'}{name}\n".encode())
    except OSError as error:
        raise P2PChatError(f"cannot write {path}: {error.strerror or error}") from error


def login_network(home: Path) -> Network:
    """Return the network of this login. Its first peer founds it.

    The files are made under a lock, so that two processes that start at the same time get the same network. The seed
    comes first: whoever finds it alone, after a kill, makes the network of it.
    Raises:
        P2PChatError: The directory or file cannot be used.
    """
    path = home / FILE_NAME
    network = load_network(path)
    if network is not None:
        return network
    from filelock import FileLock, Timeout

    make_private_directory(home)
    try:
        with FileLock(home / "network.lock", timeout=_LOCK_TIMEOUT, mode=0o600):
            network = load_network(path)
            if network is None:
                remove_leftovers(path, untouched=0)
                remove_leftovers(home / FOUNDER_NAME, untouched=0)
                network = Network.found(_founder_seed(home / FOUNDER_NAME))
                save_network(path, network)
            return network
    except Timeout:
        raise P2PChatError(f"another process holds {home / 'network.lock'}: stop it and try again") from None
    except OSError as error:
        raise P2PChatError(f"cannot use {home}: {error.strerror or error}") from error


def _founder_seed(path: Path) -> bytes:
    """Return the seed of the founder's key in a file, which is made if there is none."""
    try:
        match = _FOUNDER_LINE.fullmatch(read_private(path))
    except FileNotFoundError:
        seed = secrets.token_bytes(32)
        write_private(path, f"p2pchat-founder 1 {seed.hex()}\n".encode())
        return seed
    if match is None:
        raise P2PChatError(f"{path} is damaged: restore it from a copy, or move it away to found another network")
    return bytes.fromhex(match[1].decode())


@dataclass(frozen=True, slots=True)
class Invite:
    """An invite.

    Attributes:
        peer_id: The key (hex) that the first contact must have.
        network: The network: its id, and its key (hex), which is a secret.
        endpoints: Where the first contact listens, each as "host:port"; at least one.
    """

    peer_id: PeerId
    network: Network
    endpoints: tuple[str, ...]


def encode_invite(peer_id: PeerId, network: Network, endpoints: Sequence[str]) -> str:
    """Return an invite as one line.

    Raises:
        ValueError: No endpoint, or a malformed one.
    """
    body = bytes([_VERSION]) + bytes.fromhex(peer_id + network.id + network.key)
    code = base64.b32encode(body + _checksum(body)).decode().rstrip("=")
    places = ",".join(normal_endpoint(endpoint) for endpoint in endpoints)
    if not places:
        raise ValueError("an invite needs at least one address where somebody answers")
    return f"{PREFIX}{code}@{places}"


def parse_invite(text: str) -> Invite:
    """Read an invite as people paste it.

    Raises:
        InviteError: It is not an invite, or has a typing error; the text says what to do.
    """
    squeezed = "".join(text.split()).lower()
    if not squeezed.startswith(PREFIX):
        raise InviteError(f"this is no invite: one begins with {PREFIX!r}; paste it whole")
    code, _, places = squeezed[len(PREFIX) :].partition("@")
    body = _decode(code)
    network = Network(body[33:49].hex(), body[49:].hex())
    return Invite(body[1:33].hex(), network, _endpoints(places))


def _decode(code: str) -> bytes:
    """Return version, ids and key, after checking the checksum."""
    wrong = sorted(set(code) - set("abcdefghijklmnopqrstuvwxyz234567"))
    if wrong:
        raise InviteError(f"the invite has a typing error: {wrong[0]!r} does not occur in one; copy it again")
    try:
        raw = base64.b32decode(code.upper() + "=" * (-len(code) % 8))
    except binascii.Error:
        raw = b""
    body, checksum = raw[:-_SUM_BYTES], raw[-_SUM_BYTES:]
    if body and body[0] != _VERSION and checksum == _checksum(body):
        raise InviteError(f"the invite has version {body[0]}, this program knows {_VERSION}: a newer p2pchat is needed")
    if not body or body[0] != _VERSION:
        raise InviteError("the invite is damaged at its beginning or end: copy it again, whole")
    if len(body) != _BODY_BYTES:
        what = "incomplete" if len(body) < _BODY_BYTES else "too long"
        raise InviteError(f"the invite is {what}: copy it again, from {PREFIX!r} to the end")
    if checksum != _checksum(body) or base64.b32encode(raw).decode().rstrip("=") != code.upper():
        raise InviteError("the invite has a typing error (its checksum is wrong): copy it again")
    return body


def _checksum(body: bytes) -> bytes:
    return blake2b(_SUM_TAG + body, digest_size=32).digest()[:_SUM_BYTES]


def _endpoints(places: str) -> tuple[str, ...]:
    listed = [place for place in places.split(",") if place]
    if not listed:
        raise InviteError("the invite has no address after an @: copy it again, to the end")
    if len(listed) > MAX_ENDPOINTS:
        raise InviteError(f"the invite names {len(listed)} addresses, at most {MAX_ENDPOINTS} make sense")
    try:
        return tuple(dict.fromkeys(normal_endpoint(place) for place in listed))
    except ValueError as error:
        raise InviteError(f"the invite has a bad address after the @: {error}; copy it again") from None


def normal_endpoint(endpoint: str) -> str:
    """Return `host:port` in lower case, an IPv6 host in brackets.

    Raises:
        ValueError: Not an endpoint; the text is for people.
    """
    host, colon, port = endpoint.strip().lower().rpartition(":")
    if not colon or not host:
        raise ValueError(f"{endpoint!r} is not HOST:PORT")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise ValueError(f"{endpoint!r} has no port between 1 and 65535")
    if host.startswith("[") and host.endswith("]"):
        try:
            if not _ZONE.fullmatch(host[1:-1]):
                raise ValueError
            host = f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
        except ValueError:
            raise ValueError(f"{endpoint!r} has no IPv6 address between its brackets") from None
    elif not _HOST.fullmatch(host):
        raise ValueError(f"{endpoint!r} has no host name or address before the port")
    whole = f"{host}:{int(port)}"
    if len(whole) > MAX_ENDPOINT_BYTES:
        raise ValueError(f"{endpoint[:30]!r}... is too long for an address ({MAX_ENDPOINT_BYTES} bytes)")
    return whole


def parse_endpoint(endpoint: str | int) -> str:
    """Return "host:port". A bare port is a peer on this machine. Raises ValueError for anything else."""
    text = str(endpoint).strip()
    return normal_endpoint(f"{LOOPBACK}:{text}" if text.isdecimal() else text)
