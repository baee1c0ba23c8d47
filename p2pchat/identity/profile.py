"""Profiles: the directory of one peer on disk, used by one process at a time.

    <login's data directory>/        platformdirs' user data directory, or $P2PCHAT_HOME
        network                      the network, shared by the peers of this login
        founder, or member           the key of the member that answers for them; a backup of a profile has neither
        8080/                        one profile per port, or any directory named with --data
            identity.pem             the key
            network, guest           only of a profile at another place: the login's network, should the login leave it
            network, member          only when this profile joined another network than the login's
            history.db               the database
            lock, lock.pid           held while a peer runs, and the process that holds it
        networks/lab-5fa1c03e/8080/  the same in the network of the name "lab"

A temporary profile is a directory that is removed when it is closed. Its key is never written. This module opens,
checks and closes profiles. The content of the database is the storage's.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from p2pchat.core.names import base32
from p2pchat.errors import DataLocked, P2PChatError
from p2pchat.identity.home import HOME_VARIABLE, home_directory
from p2pchat.identity.identity import Identity, load_identity, load_or_create_identity
from p2pchat.identity.invite_text import Invite
from p2pchat.identity.network import (
    FILE_NAME,
    FOUNDER_NAME,
    GUEST_NAME,
    MEMBER_NAME,
    Network,
    join_network,
    load_network,
    locked_network,
    login_network,
    put_aside,
    save_certificates,
    save_network,
    validate_network_name,
)
from p2pchat.private_files import (
    OTHERS,
    POSIX,
    STALE_AFTER,
    give_to_owner,
    make_private_directory,
    remove_leftovers,
    remove_stale,
)
from p2pchat.protocol import UserId

if TYPE_CHECKING:
    from filelock import BaseFileLock


KEY_NAME = "identity.pem"
USER_KEY_NAME = "user.pem"
DATABASE_NAME = "history.db"
PID_NAME = "lock.pid"
# The last two by the command line.
WRITTEN_UNDER_LOCK = (KEY_NAME, FILE_NAME, MEMBER_NAME, "control.json", "start.json")
_LOCK_PATIENCE = 0.2  # seconds; lock_holder() has the lock for far less


def profile_directory(port: int, network: str | None = None) -> Path:
    """Return the profile directory of the peer on `port`, unless --data names another. See known_profiles."""
    return _profiles_directory(network) / str(port)


def _profiles_directory(network: str | None) -> Path:
    home = home_directory()
    if network is None:
        return home
    name = validate_network_name(network)
    shown = re.sub(r"[^a-z0-9]+", "-", name).strip("-")[:32]
    return home / "networks" / f"{shown}-{blake2b(name.encode(), digest_size=4).hexdigest()}".removeprefix("-")


def known_profiles(network: str | None = None) -> list[Path]:
    """Return the profile directories of this login that contain a key, lowest port first.

    Args:
        network: Those of the network of this name; None: all others.
    """
    home = _profiles_directory(network)
    if not home.is_dir():
        return []
    found = [path for path in home.iterdir() if path.name.isdecimal() and (path / KEY_NAME).exists()]
    return sorted(found, key=lambda path: int(path.name))


def profiles_in(home: Path) -> list[Path]:
    """Return the profiles below a home, those of ports first. Of --data elsewhere nothing is known."""
    ports = [path for path in known_profiles() if path.parent == home]
    others = (path for path in sorted(home.iterdir()) if path not in ports and (path / KEY_NAME).exists())
    return [*ports, *others]


def home_of(directory: Path) -> Path:
    """Return the login's data directory for a profile: for one that has no network of its own, that around it.

    So a command that another login gives with the directory of a service means the network of that service.
    """
    is_inside = (directory / KEY_NAME).exists() and not (directory / FILE_NAME).exists()
    return directory.parent if is_inside and (directory.parent / FILE_NAME).exists() else home_directory()


def profiles_beside(directory: Path, network: Network) -> list[Path]:
    """Return the other profiles of a login that are in the same network, with a history."""
    places = {directory.parent} if network.name else {directory.parent, home_of(directory)}
    found = list[Path]()
    for path in sorted(path for place in places if place.is_dir() for path in place.iterdir()):
        if path != directory and (path / KEY_NAME).exists() and _has_history(path):
            with suppress(P2PChatError):
                own = load_network(path / FILE_NAME) or load_network(home_of(path) / FILE_NAME)
                found += [path] if own is not None and own.id == network.id else []
    return found


def data_directory(data: str | os.PathLike[str] | int) -> Path:
    """Return the data directory that a path or a port names."""
    return profile_directory(data) if isinstance(data, int) else Path(os.path.expanduser(data)).absolute()


def stored_identity(directory: Path) -> Identity:
    """Return the identity in a data directory. Raises P2PChatError when there is none, or it cannot be used."""
    try:
        return load_identity(directory / KEY_NAME)
    except FileNotFoundError:
        raise P2PChatError(f"there is no peer in {directory}: name the data directory of one") from None


def network_of(
    directory: Path, name: str | None = None, invite: Invite | None = None, *, founds: bool = False
) -> Network:
    """Return the network of a profile: its own, else that of a name, or without one that of this login.

    Args:
        founds: A login without a network founds one.
        invite: A login without a network, or without the key of its member, joins that of this invite, instead of
            founding one.
    Raises:
        P2PChatError: A file is damaged, or was lost: nobody founds a network who meant another one.
    """
    own = load_network(directory / FILE_NAME)
    if own is None and name is not None:
        return Network.named(name)
    if invite is None and (fault := lost_file(directory, own)):
        raise P2PChatError(fault)
    home = home_of(directory)
    if own is None and not founds and not (home / FILE_NAME).exists():
        raise P2PChatError(f"the network of {directory} is not here: name the home of its login in {HOME_VARIABLE}")
    if own is None:
        return login_network(home, None if invite is None else (invite.network, invite.invitation))
    login = load_network(home / FILE_NAME) if own.member is None and not own.name else None
    if login is None or login.id != own.id or login.member is None:
        return own
    answering = {one.member for one in own.certificates}  # on a computer of somebody else it is another member
    return login if not answering or login.member.peer_id in answering else own


_MEND_LOST = (
    "put it back with `p2pchat network restore FILE`, from a copy that `p2pchat network backup FILE` made, or join "
    "again with a new invite; `p2pchat network new` founds another network"
)


def lost_file(directory: Path, own: Network | None) -> str:
    """Return which file of the network of a profile is missing, and what to do; "" if none is.

    Without its `network` a login would found another one beside the profiles of the former, and without the key of its
    member nobody would admit it.

    Args:
        own: The network in the profile's own directory.
    """
    home = home_of(directory)
    if own is not None and (own.name or own.member is not None or own.certificates):
        return ""
    if own is None and _has_history(directory) and (directory / MEMBER_NAME).exists():
        return f"{directory / FILE_NAME} is missing, beside the key of its member: put it back from a backup"
    login = load_network(home / FILE_NAME)
    if own is None and login is None:
        beside = [path.name for path in profiles_in(home) if _belongs(path)] if home.is_dir() else []
        if (home / MEMBER_NAME).exists() and not (
            home / FOUNDER_NAME
        ).exists():  # a founder's key makes its network again
            beside.append("the member whose key is there")
        if not beside or (home / FILE_NAME).exists():  # it was founded meanwhile
            return ""
        return f"{home / FILE_NAME} is missing, the network of {beside[0]}: {_MEND_LOST}"
    if login is not None and login.member is not None and (own is None or own.id == login.id):
        return ""
    return f"the key of the network's member is not in {home if own is None else directory}: {_MEND_LOST}"


def _belongs(directory: Path) -> bool:
    """Return whether a profile has a history in a network that has founders and members."""
    network = load_network(directory / FILE_NAME)
    return _has_history(directory) and (network is None or not network.name)


def _has_history(directory: Path) -> bool:
    return (directory / DATABASE_NAME).exists()


def _keep_login(network: Network, home: Path) -> None:
    """Have a login without a network belong to that of a profile which was brought from elsewhere, as a guest."""
    if network.certificates and not (home / FILE_NAME).exists():
        with suppress(P2PChatError):  # the profile itself needs nothing there
            make_private_directory(home)
            with locked_network(home):
                if not (home / FILE_NAME).exists():
                    save_network(home / FILE_NAME, network)


class Profile:
    """An open profile: `identity`, `network`, `directory`, `database`, `temporary`. Close it when done."""

    def __init__(
        self, directory: Path, identity: Identity, network: Network, *, temporary: bool, lock: BaseFileLock | None
    ) -> None:
        self.directory = directory
        self.identity = identity
        self.own: Identity | None = _own_user(directory)
        self.network: Network = network
        self.temporary = temporary
        self._lock = lock

    @classmethod
    def open(
        cls,
        *,
        port: int = 0,
        data: str | os.PathLike[str] | None = None,
        temporary: bool = False,
        key: str | os.PathLike[str] | None = None,
        network: str | None = None,
        invite: Invite | None = None,
        in_memory: bool = False,
        founds: bool = True,
    ) -> Profile:
        """Open the profile of `port`, or the one at `data`, or a temporary one.

        Args:
            port: The port this peer listens on; 0 without `data` means a temporary profile.
            data: Another directory for the profile; made when missing.
            temporary: A fresh directory, gone on close, and a fresh identity in memory.
            key: A key file kept elsewhere; it must exist, and is used instead of the profile's own.
            network: The name of the network whose profile of `port` is meant; None: the login's.
            invite: The invite that a login without a network joins with.
            in_memory: Its database is: what this makes for a port that has nothing yet goes on close.
            founds: A login without a network founds one.
        Raises:
            DataLocked: Another process, or another peer of this one, holds the directory.
            P2PChatError: A directory, key or network file cannot be used; says what to do.
            ValueError: `data` and `temporary` together.
        """
        if temporary and data is not None:
            raise ValueError("a profile is either temporary or at a place of its own, not both")
        if temporary or (data is None and port == 0):
            return cls._open_temporary(key, network, invite)
        directory = profile_directory(port, network) if data is None else data_directory(data)
        if data is None:
            make_private_directory(home_directory())
        make_private_directory(directory)
        lock = _take_lock(directory)
        try:
            _remove_leftovers(directory)
            own_key = directory / KEY_NAME
            temporary = in_memory and data is None and {path.name for path in directory.iterdir()} <= {"lock", PID_NAME}
            joined = network_of(directory, network if data is None else None, invite, founds=founds)
            identity = load_or_create_identity(own_key) if key is None else _identity_from(key)
            _keep_login(joined, home_of(directory))
            profile = cls(directory, identity, joined, temporary=temporary, lock=lock)
            if directory.parent != home_of(directory) and network is None and not profile._has_network:
                profile._keep_network()
        except BaseException:  # also when interrupted: release the lock
            _release(directory, lock)
            raise
        return profile

    @classmethod
    def _open_temporary(cls, key: str | os.PathLike[str] | None, name: str | None, invite: Invite | None) -> Profile:
        identity = Identity.generate() if key is None else _identity_from(key)
        network = network_of(home_directory() / "temporary", name, invite, founds=True)
        above = home_directory() if os.environ.get(HOME_VARIABLE) else None  # the variable moves temporary profiles too
        try:
            if above is not None:
                make_private_directory(above)
            directory = Path(tempfile.mkdtemp(prefix="temporary-" if above else "p2pchat-", dir=above))
        except OSError as error:
            raise P2PChatError(f"cannot make a temporary directory: {error.strerror or error}") from error
        return cls(directory, identity, network, temporary=True, lock=None)

    @property
    def database(self) -> Path:
        """The path of the database, unless --db names another."""
        return self.directory / DATABASE_NAME

    def join(self, network: Network, invite: Invite | None = None) -> None:
        """Join `network` from now on, also after restarts.

        With an invite the whole login joins, if this is its only profile: what it founded is put aside, unused. Another
        profile joins for itself.
        Raises:
            P2PChatError: A file cannot be written.
        """
        if invite is None:
            save_network(self.directory / FILE_NAME, network)
            self.network = network
            return
        home = home_of(self.directory)
        if self.directory.parent == home and set(profiles_in(home)) <= {self.directory} and not self.joined:
            with locked_network(home):
                put_aside(home)
                self.network = join_network(home, network, invite.invitation)
        else:
            self.network = join_network(self.directory, network, invite.invitation)

    def renew(self, invite: Invite) -> None:
        """Keep another invite into the network that was joined: the former one may not admit any more."""
        if self.network.invitation not in (None, invite.invitation):
            home = home_of(self.directory)
            directory = self.directory if self.joined else home
            with locked_network(home):
                self.network = join_network(
                    directory, replace(invite.network, founder=self.network.founder), invite.invitation
                )

    @property
    def joined(self) -> bool:
        """True if this directory has another network than the login."""
        own, login = load_network(self.directory / FILE_NAME), load_network(home_of(self.directory) / FILE_NAME)
        return own is not None and (login is None or own.id != login.id)

    @property
    def _has_network(self) -> bool:
        return (self.directory / FILE_NAME).exists()

    def _keep_network(self) -> None:
        """Note the network of the login beside the profile, which stays in it when its login joins another one.

        The login knows its profiles by their ports alone, and none of those at other places.
        """
        save_network(self.directory / FILE_NAME, self.network)
        keys = [one.peer_id for one in (self.identity, self.own) if one is not None]
        save_certificates(self.directory / GUEST_NAME, self.network, keys)

    def close(self) -> None:
        """Release the directory; remove a temporary one. Calling it again does nothing."""
        if self.temporary:  # first: the next one that locks it makes its own files
            shutil.rmtree(self.directory, ignore_errors=True)
        if self._lock is not None:
            lock, self._lock = self._lock, None
            _release(self.directory, lock)

    def __enter__(self) -> Profile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Profile {str(self.directory)!r} of {self.identity.peer_id[:16]}>"


def stored_keys(directory: Path) -> list[UserId]:
    """Return the key of the peer of a profile and that of its user, which are mostly one. Raises as stored_identity."""
    return [one.peer_id for one in (stored_identity(directory), _own_user(directory)) if one is not None]


def _own_user(directory: Path) -> Identity | None:
    """Return the key of a person with several machines; None where the key of the machine is that of its user."""
    try:
        return load_identity(directory / USER_KEY_NAME)
    except FileNotFoundError:
        return None


def _identity_from(key: str | os.PathLike[str]) -> Identity:
    path = Path(os.path.expanduser(key))
    try:
        return load_identity(path)
    except FileNotFoundError:
        raise P2PChatError(f"there is no key file {path}: name the right one, or leave --key out") from None


def _remove_leftovers(directory: Path) -> None:
    """Remove files that killed processes left here, such as half-written keys. The caller holds the lock.

    Input from a pipe and backups to this directory may be written without the lock. They are removed when old.
    """
    for name in WRITTEN_UNDER_LOCK:
        remove_leftovers(directory / name, untouched=0)
    for left in directory.glob(".tls-*"):
        remove_stale(left, 0)
    for left in directory.glob(".input-*"):
        remove_stale(left, STALE_AFTER)
    remove_leftovers(directory)


def _take_lock(directory: Path) -> BaseFileLock:
    from filelock import FileLock, Timeout

    lock = FileLock(directory / "lock", timeout=_LOCK_PATIENCE, mode=0o600, thread_local=False)
    try:
        lock.acquire(poll_interval=_LOCK_PATIENCE / 10)
        # Beside the lock file: on Windows a locked file cannot be read, and some versions of filelock truncate the
        # file before they notice that it is locked.
        fd = os.open(directory / PID_NAME, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o600)
        for made in (directory / "lock", directory / PID_NAME):
            give_to_owner(made)
        with suppress(OSError), open(fd, "w", encoding="ascii") as file:  # on a full disk nobody learns who holds it
            file.write(f"{os.getpid()}\n")
    except Timeout:
        raise DataLocked(str(directory), _lock_pid(directory)) from None
    except OSError as error:
        lock.release()
        raise P2PChatError(f"cannot write in {directory}: {error.strerror or error}") from error
    return lock


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Lock this directory against peers. Raises DataLocked when a process uses it."""
    lock = _take_lock(directory)
    try:
        yield
    finally:
        _release(directory, lock)


def lock_holder(directory: Path) -> int | None:
    """Return the pid of the process that uses this directory; 0 when it cannot be read, None for no process.

    A killed process leaves its pid behind, so the lock itself is tried for a moment.
    """
    from filelock import FileLock, Timeout

    if not (directory / "lock").exists():
        return None  # one made here may be root's, and keep its owner out
    lock = FileLock(directory / "lock", timeout=0, mode=0o600, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return _lock_pid(directory)
    except OSError:
        return None  # we may not lock it; a start there reports why
    lock.release()
    return None


def _lock_pid(directory: Path) -> int:
    try:
        return int((directory / PID_NAME).read_text("ascii"))
    except (OSError, ValueError):
        return 0


def _release(directory: Path, lock: BaseFileLock) -> None:
    (directory / PID_NAME).unlink(missing_ok=True)
    lock.release()


@dataclass(frozen=True, slots=True)
class ProfileState:
    """State of a profile directory, read without changing, making or locking anything that stays.

    For diagnosis (`p2pchat doctor`): each part is checked on its own, and its trouble is the sentence that a start
    would have ended with.

    Attributes:
        directory: Its path, whether it exists or not.
        exists: Whether there is such a directory.
        others_mode: What other users may do there, as mode bits (0o055 ...); 0 for nothing, or without modes.
        key_path: The file of the key, whether it exists or not.
        peer_id: Base32; "" when there is no usable key.
        key_trouble: Why the key cannot be used; "" when it can, or when there is none.
        network: keyed or named; "" when none is known yet.
        network_id: Its id; "" when none is known yet.
        network_name: The name of a named one; "" for another.
        network_path: The file of the network: the profile's own, or the login's.
        network_trouble: Why that file cannot be used; "" when it can.
        database_path: The file of the database, whether it exists or not.
        holder: The pid of the process that uses the profile; 0 when it cannot be read, None for no process.
        held_at: When that process took it, in seconds since 1970; 0.0 for no process.
    """

    directory: Path
    exists: bool
    others_mode: int
    key_path: Path
    peer_id: str
    key_trouble: str
    network: Literal["keyed", "named", ""]
    network_id: str
    network_name: str
    network_path: Path
    network_trouble: str
    database_path: Path
    holder: int | None
    held_at: float


def inspect_profile(data: str | os.PathLike[str] | int) -> ProfileState:
    """Return the state of the profile in a data directory, or of a port. Trouble is in the result, never raised."""
    directory = data_directory(data).absolute()
    peer_id, key_trouble = _key(directory / KEY_NAME)
    own = directory / FILE_NAME
    network_path = own if _stat(own) else home_of(directory) / FILE_NAME
    found, network_trouble = _network(network_path, directory)
    place, pid = _stat(directory), _stat(directory / PID_NAME)
    holder = lock_holder(directory) if pid else None
    return ProfileState(
        directory=directory,
        exists=os.path.isdir(directory),  # False also without permission
        others_mode=stat.S_IMODE(place.st_mode) & OTHERS if POSIX and place else 0,
        key_path=directory / KEY_NAME,
        peer_id=peer_id,
        key_trouble=key_trouble,
        network="" if found is None else "named" if found.name else "keyed",
        network_id="" if found is None else found.id,
        network_name="" if found is None else found.name,
        network_path=network_path,
        network_trouble=network_trouble,
        database_path=directory / DATABASE_NAME,
        holder=holder,
        held_at=pid.st_mtime if pid and holder is not None else 0.0,
    )


def _key(path: Path) -> tuple[str, str]:
    try:
        return base32(load_identity(path).peer_id), ""
    except FileNotFoundError:
        return "", ""
    except P2PChatError as error:
        return "", str(error)


def _network(path: Path, directory: Path) -> tuple[Network | None, str]:
    """Return the network in a file, the profile's own or the login's, and why it cannot be used."""
    found = None
    try:
        found = load_network(path)
        if home_directory() / "networks" in directory.parents:  # named networks have no files
            return found, ""
        return found, lost_file(directory, found if path.parent == directory else None)
    except (P2PChatError, OSError) as error:
        return found, str(error)


def _stat(path: Path) -> os.stat_result | None:
    """Return the state of a file; None when there is none, or its directory may not be entered."""
    try:
        return path.stat()
    except OSError:
        return None
