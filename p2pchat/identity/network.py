"""Networks, and endpoints as people write them.

A network is founded by a key F, which signs who belongs to it; its id N is a hash of F. Its members share a key K. All
peers of one login are in one network and answered for by one member, whose key is in the login's data directory: that
of the founder, if the first peer that started founded the network, or one that was made for joining with an invite. A
profile directory with a network file of its own has joined another network than its login, and stays in it. All files
are private, and one line in hex:

    network    p2pchat-network 2 <N> <K> <F, or - where it is not known yet> [the name of a named network, in UTF-8]
    founder    p2pchat-founder 1 <seed of F>
    member     p2pchat-member 1 <seed of the member> <the invite: maker, id, uses, until, secret>
               p2pchat-member 1 <seed of the member> <the statement by which the founder added it> <its signature>
    guest      p2pchat-guest 1 <member> <its certificate for the profile>, only where the member's key is elsewhere;
               a line for each of its keys

Copies of a profile have `network` and `guest` alone.

Of a *named* network F and K are made from a word, so everyone who knows the word is a member. The word is a name and no
password: anybody can guess it, and all networks of one name in reach of each other are one.
"""

from __future__ import annotations

import os
import re
import secrets
import time
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import scrypt
from pathlib import Path

from p2pchat.core.members.statement import ADD, is_guest, make_guest, make_statement, network_id
from p2pchat.core.node_context import Invitation
from p2pchat.errors import P2PChatError
from p2pchat.identity.identity import Identity
from p2pchat.private_files import (
    give_to_owner,
    make_private_directory,
    read_private,
    remove_leftovers,
    write_private,
)
from p2pchat.protocol import GuestCertificate, UserId

FILE_NAME = "network"
FOUNDER_NAME = "founder"
MEMBER_NAME = "member"
GUEST_NAME = "guest"
_LINE = re.compile(rb"p2pchat-network 2 ([0-9a-f]{32}) ([0-9a-f]{64}) ([0-9a-f]{64}|-)(?: ((?:[0-9a-f]{2})+))?\s*")
_FOUNDER_LINE = re.compile(rb"p2pchat-founder 1 ([0-9a-f]{64})\s*")
_MEMBER_LINE = re.compile(
    rb"p2pchat-member 1 ([0-9a-f]{64}) ([0-9a-f]{64}) ([0-9a-f]{8}) (\d{1,3}) (\d{1,12}) ([0-9a-f]{32})\s*"
)
_ADDED_LINE = re.compile(rb"p2pchat-member 1 ([0-9a-f]{64}) ((?:[0-9a-f]{2})+) ([0-9a-f]{128})\s*")
_GUEST_LINE = re.compile(rb"p2pchat-guest 1 ([0-9a-f]{64}) ([0-9a-f]{128})\s*")
_GUEST_LINES = re.compile(rb"(?:%s)+" % _GUEST_LINE.pattern)
_LOCK_TIMEOUT = 10.0  # seconds; a process holds it for one small write
PREFIX = "p2pchat:"  # of an invite
MAX_ENDPOINTS = 8  # as many as the address book keeps of one peer
MAX_NETWORK_NAME = 64
"""Most characters in the name of a network."""
_NAME_SALT = b"p2pchat/network name/2\0"
# RFC 7914, section 2: 32 MiB and 0.1 s, once a start. Whoever looks for networks in reach with a list of names needs
# that for each of them.
_SCRYPT: dict[str, int] = {"n": 1 << 15, "r": 8, "p": 1, "maxmem": 64 * 1024 * 1024, "dklen": 64}


@dataclass(frozen=True, slots=True)
class Network:
    """A network.

    Attributes:
        id: N (hex16), which never changes.
        key: K (hex32).
        founder: F (hex32); "" in a network that was joined, until a member has told it.
        name: The word that a named network is made from; "" for another one.
        member: The key of the member that answers for the users here; None where it is elsewhere.
        invitation: The invite with which that member joined; None for a founder.
        added: The statement by which the founder added that member before, if it did: its text and signature.
        certificates: Where that key is elsewhere, its certificates for the keys of the profile here.
    """

    id: str
    key: str = field(repr=False)
    founder: UserId = ""
    name: str = ""
    member: Identity | None = field(default=None, repr=False, compare=False)
    invitation: Invitation | None = field(default=None, compare=False)
    added: tuple[str, bytes] | None = field(default=None, repr=False, compare=False)
    certificates: tuple[GuestCertificate, ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def found(cls, seed: bytes | None = None) -> Network:
        """Return a new network that the key with this seed founds; None for a key that is kept in memory alone."""
        founder = Identity.from_seed(seed or secrets.token_bytes(32))
        return cls(network_id(founder.peer_id), secrets.token_bytes(32).hex(), founder.peer_id, member=founder)

    def guest(self, user: UserId) -> GuestCertificate | None:
        """Return the certificate of the member that answers for a user here; None where nobody can make one."""
        if self.name or self.member is None:
            return next((one for one in self.certificates if is_guest(self.id, user, one)), None)
        return make_guest(self.id, self.member.peer_id, self.member.sign, user)

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
    """Read a network file, and the key of the member beside it; None when there is none.

    Raises:
        P2PChatError: Others can read a file, or it is damaged.
    """
    try:
        data = read_private(path)
    except FileNotFoundError:
        return None
    if (match := _LINE.fullmatch(data)) is not None:
        id, key, founder, name = ((group or b"").decode().strip("-") for group in match.groups())
        if not founder or network_id(founder) == id:
            network = Network(id, key, founder, bytes.fromhex(name).decode(errors="replace"))
            return network if network.name else _with_member(network, path.parent)
    raise P2PChatError(f"{path} is damaged: restore it, or move it away and join again with an invite")


def _with_member(network: Network, directory: Path) -> Network:
    """Return a network with the key of the founder or member, or the certificate, that is in a directory."""
    if (match := _read(directory / FOUNDER_NAME, _FOUNDER_LINE)) is not None:
        founder = Identity.from_seed(bytes.fromhex(match[1].decode()))
        if founder.peer_id == network.founder:
            return replace(network, member=founder)
    if (match := _read(directory / MEMBER_NAME, _ADDED_LINE, _MEMBER_LINE)) is not None and match.re is _ADDED_LINE:
        key, text, signature = (bytes.fromhex(group.decode()) for group in match.groups())
        return replace(network, member=Identity.from_seed(key), added=(text.decode(errors="replace"), signature))
    if match is not None:
        seed, maker, id, uses, until, secret = (group.decode() for group in match.groups())
        invitation = Invitation(maker, id, int(uses), int(until), bytes.fromhex(secret))
        return replace(network, member=Identity.from_seed(bytes.fromhex(seed)), invitation=invitation)
    if (match := _read(directory / GUEST_NAME, _GUEST_LINES)) is not None:
        lines = _GUEST_LINE.findall(match[0])
        return replace(network, certificates=tuple(GuestCertificate(by.decode(), sig.decode()) for by, sig in lines))
    return network


def _read(path: Path, *lines: re.Pattern[bytes]) -> re.Match[bytes] | None:
    """Return the line of a private file; None when there is none. Raises P2PChatError for one that is damaged."""
    try:
        data = read_private(path)
    except FileNotFoundError:
        return None
    match = next(filter(None, (line.fullmatch(data) for line in lines)), None)
    if match is None:
        raise P2PChatError(f"{path} is damaged: restore it from a copy, or move it away to found or join anew")
    return match


def save_network(path: Path, network: Network) -> None:
    """Write a network file; replace a former one.

    Raises:
        P2PChatError: It cannot be written.
    """
    name = f" {network.name.encode().hex()}" if network.name else ""
    _write(path, f"p2pchat-network 2 {network.id} {network.key} {network.founder or '-'}{name}")


def _write(path: Path, line: str) -> None:
    try:
        write_private(path, f"{line}\n".encode())
    except OSError as error:
        raise P2PChatError(f"cannot write {path}: {error.strerror or error}") from error


def join_network(directory: Path, network: Network, invitation: Invitation) -> Network:
    """Make a directory's network that of an invite, with a new key for the member; return it.

    The key comes first, so that whoever finds it alone, after a kill, makes the same member of it.
    Raises:
        P2PChatError: A file cannot be written.
    """
    path = directory / MEMBER_NAME
    match = _read(path, _MEMBER_LINE)
    seed = secrets.token_bytes(32).hex() if match is None else match[1].decode()
    terms = f"{invitation.maker} {invitation.id} {invitation.uses} {invitation.until} {invitation.secret.hex()}"
    _write(path, f"p2pchat-member 1 {seed} {terms}")
    save_network(directory / FILE_NAME, network)
    return replace(network, member=Identity.from_seed(bytes.fromhex(seed)), invitation=invitation)


def add_member(directory: Path, network: Network, kind: str = ADD) -> None:
    """Write the files of a new member of a network into a directory. Its founder says so, by a statement of this kind.

    Raises:
        P2PChatError: The founder's key is not here, or the directory has a network or cannot be written.
    """
    founder = network.member
    if founder is None or founder.peer_id != network.founder:
        raise P2PChatError("only the login that founded this network can do that: it has the founder's key")
    if (directory / FILE_NAME).exists():  # it comes last: without it nobody looks at the key
        raise P2PChatError(f"{directory} has the files of a network already: name another directory")
    seed, at = secrets.token_bytes(32), time.time_ns() // 1000
    fields = {"who": [Identity.from_seed(seed).peer_id]}
    added = make_statement(network.id, founder.peer_id, founder.sign, kind, at, fields)
    said = f"{added.text.encode().hex()} {added.signature.hex()}"
    _write(directory / MEMBER_NAME, f"p2pchat-member 1 {seed.hex()} {said}")
    save_network(directory / FILE_NAME, network)


def save_certificates(path: Path, network: Network, users: Iterable[UserId]) -> None:
    """Write what lets a profile with these keys be without its member's key. Raises P2PChatError."""
    certificates = [one for user in users if (one := network.guest(user)) is not None]
    if certificates:
        _write(path, "\n".join(f"p2pchat-guest 1 {one.member} {one.sig}" for one in certificates))


def login_network(home: Path, join: tuple[Network, Invitation] | None = None) -> Network:
    """Return the network of this login. Its first peer founds it, or joins one with an invite, as does one whose key is
    lost.

    The files are made under a lock, so that two processes that start at the same time get the same network. The seed
    comes first: whoever finds it alone, after a kill, makes the network of it.
    Raises:
        P2PChatError: The directory or file cannot be used.
    """
    path = home / FILE_NAME
    if (network := load_network(path)) is not None and (join is None or network.member is not None):
        return network
    make_private_directory(home)
    with locked_network(home):
        network = load_network(path)
        if network is None:
            for name in (FILE_NAME, FOUNDER_NAME, MEMBER_NAME):
                remove_leftovers(home / name, untouched=0)
            network = _found(home) if join is None else join_network(home, *join)
        elif join is not None and network.member is None and network.id == join[0].id:
            network = join_network(home, network, join[1])
        return network


@contextmanager
def locked_network(home: Path) -> Iterator[None]:
    """Lock the network of a login while it is made or changed. Raises P2PChatError if that is impossible."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(home / "network.lock", timeout=_LOCK_TIMEOUT, mode=0o600):
            try:
                yield
            finally:
                give_to_owner(home / "network.lock")
    except Timeout:
        raise P2PChatError(f"another process holds {home / 'network.lock'}: stop it and try again") from None
    except OSError as error:
        raise P2PChatError(f"cannot use {home}: {error.strerror or error}") from error


def put_aside(home: Path) -> None:
    """Move the network of a login away, or the key of one that is lost, so that another can be founded or joined."""
    network = load_network(home / FILE_NAME)
    mark = str(int(time.time())) if network is None else network.id
    for name in (FILE_NAME, FOUNDER_NAME, MEMBER_NAME):
        if (home / name).exists():
            os.replace(home / name, home / f"{name}.{mark}.old")


def _found(home: Path) -> Network:
    path = home / FOUNDER_NAME
    match = _read(path, _FOUNDER_LINE)
    seed = secrets.token_bytes(32) if match is None else bytes.fromhex(match[1].decode())
    if match is None:
        _write(path, f"p2pchat-founder 1 {seed.hex()}")
    network = Network.found(seed)
    save_network(home / FILE_NAME, network)
    return network
