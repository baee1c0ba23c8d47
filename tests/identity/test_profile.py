"""Profiles: the lock, their files, simultaneous starts, and the state for diagnosis."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path

import pytest

from p2pchat.core.names import base32
from p2pchat.errors import DataLocked, P2PChatError
from p2pchat.identity.home import home_directory
from p2pchat.identity.identity import Identity, load_or_create_identity
from p2pchat.identity.network import Network, load_network, login_network, save_network
from p2pchat.identity.profile import (
    Profile,
    data_directory,
    inspect_profile,
    known_profiles,
    profile_directory,
)
from p2pchat.private_files import write_private


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_profile_keeps_identity_and_network(home: Path) -> None:
    with Profile.open(port=8080) as first:
        assert first.directory == home / "8080" and first.database == home / "8080" / "history.db"
        peer_id, network = first.identity.peer_id, first.network
    with Profile.open(port=8080) as again:
        assert (again.identity.peer_id, again.network) == (peer_id, network)
    with Profile.open(port=8081) as other:
        assert other.network == network and other.identity.peer_id != peer_id
    assert known_profiles() == [home / "8080", home / "8081"]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_everything_in_it_is_private(home: Path) -> None:
    former = os.umask(0)
    try:
        with Profile.open(port=8080) as profile:
            found = {path: stat.S_IMODE(path.stat().st_mode) for path in [home, *home.rglob("*")]}
    finally:
        os.umask(former)
    assert {path for path, mode in found.items() if path.is_dir()} == {home, profile.directory}
    assert all(mode == (0o700 if path.is_dir() else 0o600) for path, mode in found.items())


def test_a_profile_in_use_names_the_process_that_has_it(home: Path) -> None:
    with Profile.open(port=8080):
        with pytest.raises(DataLocked) as locked:
            Profile.open(port=8080)
        assert locked.value.pid == os.getpid() and locked.value.path == str(home / "8080")
    Profile.open(port=8080).close()


def test_a_directory_remembers_the_network_it_joined(tmp_path: Path) -> None:
    joined = Network.named("lab")
    with Profile.open(data=tmp_path / "elsewhere") as profile:
        logins = profile.network
        assert not profile.joined
        profile.join(joined)
    with Profile.open(data=tmp_path / "elsewhere") as again, Profile.open(port=8080) as other:
        assert again.network == joined and again.joined
        assert other.network == logins


def test_a_named_network_has_profiles_of_its_own(home: Path) -> None:
    with Profile.open(port=8080) as one, Profile.open(port=8080, network="Lab 1") as other:
        assert other.directory.parent.parent == home / "networks" and other.directory.parent.name.startswith("lab-1-")
        assert known_profiles() == [one.directory] and known_profiles("lab 1") == [other.directory]
        assert known_profiles("lab-1") == []
        assert profile_directory(8080, "LAB 1") == other.directory
    for odd in ("..", "con", "ы", "a/b"):
        assert profile_directory(1, odd).resolve().parent.parent == (home / "networks").resolve()


def test_a_temporary_profile_leaves_nothing(home: Path) -> None:
    with Profile.open() as one, Profile.open(port=8080, temporary=True) as other:
        assert one.temporary and other.temporary and one.directory != other.directory
        assert one.network == other.network == login_network(home)
        assert one.identity.peer_id != other.identity.peer_id
        one.database.touch()
    assert not one.directory.exists() and not other.directory.exists() and known_profiles() == []


def test_a_profile_in_memory_leaves_nothing_unless_it_was_there_before(home: Path, tmp_path: Path) -> None:
    with Profile.open(port=8080) as kept, Profile.open(port=8081, in_memory=True) as gone:
        assert gone.directory == home / "8081" and known_profiles() == [kept.directory, gone.directory]
        with pytest.raises(DataLocked):
            Profile.open(port=8081)
    for options in ({"port": 8080}, {"data": tmp_path / "chosen"}):
        Profile.open(**options, in_memory=True).close()
    assert known_profiles() == [kept.directory] and (tmp_path / "chosen").exists()


def test_a_profile_in_memory_takes_no_history_whose_key_lies_elsewhere(home: Path, tmp_path: Path) -> None:
    """Such a profile has no key file: it was taken for one that the start in memory had made, and went at its end."""
    load_or_create_identity(tmp_path / "key.pem")
    for options in ({"key": tmp_path / "key.pem"}, {}):
        with Profile.open(port=8080, key=tmp_path / "key.pem") as kept:
            kept.database.write_bytes(b"messages")
        Profile.open(port=8080, in_memory=True, **options).close()  # type: ignore[arg-type]
        assert kept.database.read_bytes() == b"messages"


def test_leftovers_of_killed_processes_are_removed_at_the_next_start(tmp_path: Path) -> None:
    """Temporary names: keys are written under the lock, imports and backups need none."""
    data = tmp_path / "data"
    Profile.open(data=data).close()

    def make(name: str, age: float = 0.0) -> Path:
        path = tmp_path / name
        if (path.suffix == ".new" and path.name.startswith(".data.")) or path.name.startswith((".tls-", ".input-")):
            path.mkdir()
            (path / "identity.pem").write_text("secret")
            times = [path / "identity.pem", path]
        else:
            path.write_text("secret")
            times = [path]
        for one in times:
            os.utime(one, (time.time() - age,) * 2)
        return path

    day = 24 * 3600.0
    gone = [make("data/.identity.pem.0123456789ab.new"), make("data/.network.0123456789ab.new"),
            make("data/.control.json.0123456789ab.new"), make("data/.tls-abc"), make("data/.input-old", day + 9),
            make(".data.0123456789ab.new", day + 9)]  # fmt: skip
    kept = [make("data/.input-now"), make("data/.notes.0123456789ab.new"), make("data/.identity.pem.mine.new"),
            make(".data.ba9876543210.new"), make(".other.0123456789ab.new", day + 9)]  # fmt: skip
    held = Profile.open(data=data)
    assert [path for path in gone if path.exists()] == []
    assert [path for path in kept if not path.exists()] == []
    late = make("data/.identity.pem.0123456789ab.new")
    with pytest.raises(DataLocked):
        Profile.open(data=data)
    assert late.exists()  # without the lock, nothing is changed
    held.close()


def test_a_key_kept_elsewhere_is_used_and_not_copied(tmp_path: Path) -> None:
    identity = Identity.from_seed(b"k" * 32)
    write_private(tmp_path / "key", identity.to_pem())
    with Profile.open(data=tmp_path / "job", key=tmp_path / "key") as profile:
        assert profile.identity.peer_id == identity.peer_id
        assert not (profile.directory / "identity.pem").exists()
    with pytest.raises(P2PChatError, match="there is no key file"):
        Profile.open(data=tmp_path / "job", key=tmp_path / "missing")
    Profile.open(data=tmp_path / "job").close()  # the failed attempt let it go


def test_a_temporary_profile_at_a_place_of_its_own_is_a_contradiction(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not both"):
        Profile.open(data=tmp_path, temporary=True)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "p2pchat-network 2 " + "0" * 32 + " -\n",
        f"p2pchat-network 2 {'0' * 32} {'1' * 64} {Network.found(b'f' * 32).founder}\n",  # not the id of this key
        f"p2pchat-network 2 {'0' * 32} {'1' * 64}\n",
    ],
)
def test_a_damaged_network_file_is_refused_and_left_alone(home: Path, content: str) -> None:
    login_network(home)
    write_private(home / "network", content.encode())
    with pytest.raises(P2PChatError, match="is damaged"):
        Profile.open(port=8080)
    assert (home / "network").read_text() == content


def test_the_first_peer_of_a_login_founds_its_network(home: Path) -> None:
    network = login_network(home)
    assert network.founder and login_network(home) == network
    (home / "network").unlink()  # as after a kill between the two files
    again = login_network(home)
    assert (again.id, again.founder) == (network.id, network.founder)
    assert not (home / "founder").stat().st_mode & 0o077 or sys.platform == "win32"
    (home / "network").unlink()
    write_private(home / "founder", b"nonsense")
    with pytest.raises(P2PChatError, match=r"founder is damaged: .* move it away to found or join anew"):
        login_network(home)
    with Profile.open(port=8080, network="lab") as other:
        assert other.network == Network.named("lab")
    with Profile.open(network="lab") as other:
        assert other.network == Network.named("lab")


def test_a_network_file_says_what_was_saved(tmp_path: Path) -> None:
    assert load_network(tmp_path / "network") is None
    for network in (Network.found(), Network.named("Straße 5"), Network("0" * 32, "1" * 64)):
        save_network(tmp_path / "network", network)
        assert load_network(tmp_path / "network") == network


def test_without_the_variable_home_is_the_systems_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("P2PCHAT_HOME")
    assert home_directory().name == "p2pchat" and profile_directory(8080) == home_directory() / "8080"


posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")


def test_nothing_there_yet_and_nothing_is_made(home: Path) -> None:
    state = inspect_profile(8080)
    assert (state.directory, state.exists, state.peer_id, state.network) == (home / "8080", False, "", "")
    assert (state.key_trouble, state.network_trouble, state.holder) == ("", "", None)
    assert not home.exists()


def test_a_profile_in_use_and_at_rest(home: Path) -> None:
    with Profile.open(port=8080) as profile:
        state = inspect_profile(8080)
        assert state.holder == os.getpid()
        assert state.peer_id == base32(profile.identity.peer_id)
        assert (state.network, state.network_path) == ("keyed", home / "network")
        save_network(profile.directory / "network", Network.named("lab"))
        assert inspect_profile(8080).network == "named"
    assert inspect_profile(profile.directory).holder is None


@posix
def test_files_that_others_can_read_are_reported_and_not_changed(tmp_path: Path) -> None:
    Profile.open(data=tmp_path / "ada").close()
    (tmp_path / "ada").chmod(0o750)
    (tmp_path / "ada" / "identity.pem").chmod(0o644)
    save_network(tmp_path / "ada" / "network", Network.found(b"f" * 32))
    (tmp_path / "ada" / "network").write_text("nonsense")
    state = inspect_profile(tmp_path / "ada")
    assert (state.others_mode, state.peer_id) == (0o050, "")
    assert "chmod 600" in state.key_trouble and "damaged" in state.network_trouble
    assert inspect_profile(tmp_path / "ada") == state


def test_a_name_that_begins_with_a_tilde_is_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("~root", "~nobody-at-all"):
        Profile.open(data=f"./{name}").close()
        assert (tmp_path / name / "identity.pem").exists()
        assert data_directory(f"./{name}") == tmp_path / name


@pytest.mark.skipif(sys.platform == "win32", reason="a login of Windows has a home")
def test_a_login_without_a_home_is_told_what_to_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HOME", "XDG_DATA_HOME", "P2PCHAT_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 424242)
    with pytest.raises(P2PChatError, match="no home directory: name a directory for its profiles in P2PCHAT_HOME"):
        home_directory()
