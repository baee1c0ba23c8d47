"""Looking at a profile from outside: what is there, what is wrong with it, who holds it; and nothing is changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from p2pchat.identity.names import base32
from p2pchat.identity.network import Network, save_network
from p2pchat.identity.profile import Profile, inspect_profile

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


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
        save_network(profile.directory / "network", Network.fresh(open=True))
        assert inspect_profile(8080).network == "open"
    assert inspect_profile(profile.directory).holder is None


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import os, sys; from p2pchat.identity.profile import Profile\n"
        "profile = Profile.open(data=sys.argv[1]); os._exit(9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "ada")], check=False)
    assert killed.returncode == 9 and (tmp_path / "ada" / "lock.pid").exists()
    assert inspect_profile(tmp_path / "ada").holder is None
    Profile.open(data=tmp_path / "ada").close()  # looking has left nothing locked


@posix
def test_what_others_can_read_is_told_and_not_mended(tmp_path: Path) -> None:
    Profile.open(data=tmp_path / "ada").close()
    (tmp_path / "ada").chmod(0o750)
    (tmp_path / "ada" / "identity.pem").chmod(0o644)
    save_network(tmp_path / "ada" / "network", Network.fresh())
    (tmp_path / "ada" / "network").write_text("nonsense")
    state = inspect_profile(tmp_path / "ada")
    assert (state.others_mode, state.peer_id) == (0o050, "")
    assert "chmod 600" in state.key_trouble and "damaged" in state.network_trouble
    assert inspect_profile(tmp_path / "ada") == state
