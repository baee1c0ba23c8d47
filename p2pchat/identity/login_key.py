"""The key by which a login is a member of its network: where it is, a copy of it, and another one.

It is in the directory of the login, or of a profile that joined another network for itself (network.py). Whoever loses
the founder's key can make no admins any more, so a mark beside it remembers that it was copied:

    network.backup      p2pchat-backup 1 <N>

A copy is one private file: the lines of `network`, and of `founder` or `member`.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from p2pchat.core.members.statement import ADD, ADMIN
from p2pchat.errors import P2PChatError
from p2pchat.identity.home import home_directory
from p2pchat.identity.network import (
    FILE_NAME,
    FOUNDER_NAME,
    GUEST_NAME,
    MEMBER_NAME,
    Network,
    add_member,
    load_network,
    locked_network,
    login_network,
    put_aside,
    save_certificates,
    save_network,
)
from p2pchat.identity.profile import (
    KEY_NAME,
    data_directory,
    home_of,
    lock_holder,
    lost_file,
    profiles_in,
    stored_identity,
    stored_keys,
)
from p2pchat.private_files import give_to_owner, make_private_directory, write_private

MARK_NAME = "network.backup"
MAX_BYTES = 4096  # of a copy

KeyRole = Literal["founder", "member", "guest", ""]


@dataclass(frozen=True, slots=True)
class LoginNetwork:
    """The network of a login, or of a profile that joined one for itself.

    Attributes:
        directory: Where its files are.
        id: N (hex); "" while there is none.
        name: The word of a named network; "" for another.
        role: What the key here makes of this login: founder, member (or admin), guest, whose member's key is elsewhere;
            "" in a named network, and where there is none.
        key_file: The file of that key; None for a guest.
        backed_up: Whether it was copied.
        network: What was read.
        lost: Which file is missing where there is no network but was one, and what to do; "" for none.
    """

    directory: Path
    id: str = ""
    name: str = ""
    role: KeyRole = ""
    key_file: Path | None = None
    backed_up: bool = False
    network: Network | None = field(default=None, repr=False)
    lost: str = ""


def read_login_network(data: str | os.PathLike[str] | int | None = None) -> LoginNetwork:
    """Return the network of this login, or of a profile, without changing anything.

    Args:
        data: A profile, by its data directory or its port; None for the login.
    Raises:
        P2PChatError: A file cannot be used.
    """
    home = home_directory() if data is None else home_of(data_directory(data))
    directory = home if data is None else data_directory(data)
    network = load_network(directory / FILE_NAME)
    login = network if directory == home else load_network(home / FILE_NAME)
    if network is None or (network.member is None and login is not None and login.id == network.id):
        directory, network = home, login
    if network is None:
        return LoginNetwork(home, lost=lost_file(home / "temporary" if data is None else data_directory(data), None))
    if network.name:
        return LoginNetwork(directory, network.id, network.name, network=network)
    if network.member is None:
        return LoginNetwork(directory, network.id, role="guest", network=network)
    is_founder = network.member.peer_id == network.founder
    key_file = directory / (FOUNDER_NAME if is_founder else MEMBER_NAME)
    backed_up = _mark(directory) == network.id
    role: KeyRole = "founder" if is_founder else "member"
    return LoginNetwork(directory, network.id, "", role, key_file, backed_up, network)


def _mark(directory: Path) -> str:
    try:
        return (directory / MARK_NAME).read_text("ascii").removeprefix("p2pchat-backup 1 ").strip()
    except (OSError, ValueError):
        return ""


def backup_key(to: Path, data: str | os.PathLike[str] | int | None = None) -> LoginNetwork:
    """Copy the key of the founder or member, and the network it is of, into a private file; return what it is of.

    Raises:
        P2PChatError: There is no such key here, the file exists, or cannot be written.
    """
    if data is not None and not (data_directory(data) / FILE_NAME).exists():
        stored_identity(data_directory(data))  # of a directory without a peer, the login's network is not meant
    found = read_login_network(data)
    if found.name:
        raise P2PChatError(f"the network {found.name} is made from its name: there is no key to copy")
    if found.key_file is None:
        raise P2PChatError(
            found.lost or "there is no network yet: start a peer first, for example p2pchat 8080"
            if not found.id
            else "the key of this network's member is on another machine: copy it there"
        )
    if to.exists():
        raise P2PChatError(f"{to} exists: name another file")
    try:
        lines = (found.directory / FILE_NAME).read_bytes() + found.key_file.read_bytes()
        write_private(to, lines)
        write_private(found.directory / MARK_NAME, f"p2pchat-backup 1 {found.id}\n".encode())
    except OSError as error:
        raise P2PChatError(f"cannot write {to}: {error.strerror or error}") from error
    return found


def make_member(directory: Path, *, admin: bool = False) -> None:
    """Make a member of this login's network, and write its files, `network` and `member`, into a directory.

    A peer whose data directory has them is a member at once, on whatever machine, and answers for the users it hosts.

    Args:
        directory: It is made when it is missing.
        admin: The member is an admin, who invites and expels.
    Raises:
        P2PChatError: This login did not found its network, or the directory cannot be used.
    """
    network = login_network(home_directory())
    make_private_directory(directory)
    add_member(directory, network, ADMIN if admin else ADD)


def restore_key(
    source: Path, data: str | os.PathLike[str] | int | None = None, *, replace: bool = False
) -> LoginNetwork:
    """Make this login, or that of a profile, the one of a copied key; return its network.

    Args:
        data: As in read_login_network. The key goes where that network is: to its login, or to the profile itself.
        replace: Put another network that is here aside, as found_anew does.
    Raises:
        P2PChatError: The file is no such copy, this login has another network or key, or a peer of it runs.
    """
    lines = _read_copy(source)
    home = home_directory() if data is None else read_login_network(data).directory
    make_private_directory(home)
    with locked_network(home), tempfile.TemporaryDirectory(prefix=".restore-", dir=home) as aside:
        for name, line in lines.items():
            write_private(Path(aside) / name, line)
        copy, here = load_network(Path(aside) / FILE_NAME), load_network(home / FILE_NAME)
        if copy is None or copy.member is None:
            raise P2PChatError(f"{source} is no copy of a network's key: p2pchat network backup makes one")
        is_other_network = here is not None and here.id != copy.id
        own_key = None if here is None or here.member is None else here.member.peer_id
        is_other_key = own_key not in (None, copy.member.peer_id)
        if is_other_network and not replace:
            raise P2PChatError(
                "this login is in another network, which stays: --replace puts it aside, or set P2PCHAT_HOME to "
                "another directory"
            )
        if is_other_key and not replace:
            raise P2PChatError("this login has another key for this network, which stays: --replace puts it aside")
        refuse_running(home)
        if here is not None and is_other_network:
            _put_aside(home, here)
        elif here is None or is_other_key:
            put_aside(home)
        for name in sorted(lines):  # `network` comes last: without it nobody looks at the key
            os.replace(Path(aside) / name, home / name)
        for name in lines:
            give_to_owner(home / name)
        write_private(home / MARK_NAME, f"p2pchat-backup 1 {copy.id}\n".encode())
    return read_login_network(data)


def _read_copy(source: Path) -> dict[str, bytes]:
    """Return the lines of a copy by the name of their file."""
    try:
        with source.open("rb") as file:
            data = file.read(MAX_BYTES)
    except OSError as error:
        raise P2PChatError(f"cannot read {source}: {error.strerror or error}") from error
    names = {b"p2pchat-network": FILE_NAME, b"p2pchat-founder": FOUNDER_NAME, b"p2pchat-member": MEMBER_NAME}
    found = {names.get(line.partition(b" ")[0], ""): line + b"\n" for line in data.splitlines() if line.strip()}
    if FILE_NAME not in found or len(found) != 2 or "" in found:
        raise P2PChatError(f"{source} is no copy of a network's key: p2pchat network backup makes one")
    return found


def found_anew() -> tuple[LoginNetwork, list[Path]]:
    """Put the network of this login aside and found another; return it, and the profiles that stay in the former one.

    Profiles that were started before stay in it with what they hold, as guests of the member that they had.
    Raises:
        P2PChatError: A peer of this login runs, or a file cannot be written.
    """
    home = home_directory()
    make_private_directory(home)
    refuse_running(home)
    with locked_network(home):
        refuse_running(home)  # one that started meanwhile
        former = load_network(home / FILE_NAME)
        stay = [] if former is None else _put_aside(home, former)
        put_aside(home)  # what is left of one that is lost
    login_network(home)
    return read_login_network(), stay


def _put_aside(home: Path, former: Network) -> list[Path]:
    """Move the network of a login away; return the profiles that stay in it. The caller holds the lock."""
    stay = [path for path in profiles_in(home) if (path / KEY_NAME).exists() and not (path / FILE_NAME).exists()]
    for path in stay:
        save_certificates(path / GUEST_NAME, former, stored_keys(path))
        save_network(path / FILE_NAME, former)
    put_aside(home)
    return stay


def refuse_running(home: Path) -> None:
    """Raise P2PChatError if a peer of the login, or the profile, in this directory runs."""
    for path in (home, *profiles_in(home)) if home.is_dir() else ():
        if (pid := lock_holder(path)) is not None:
            who = f"process {pid}" if pid else "a process"
            raise P2PChatError(f"a peer of this login runs ({who}, {path.name}): stop it, and try again")
