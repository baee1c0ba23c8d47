"""The key of a login: where it is, its copy, and another network."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from p2pchat import P2PChatError, TCPPeer, backup_key, found_anew, make_member, read_login_network, restore_key
from p2pchat.identity.network import Network, add_member, load_network, save_network


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


async def started(*words: str, **options: object) -> None:
    async with TCPPeer(*words, **options):  # type: ignore[arg-type]
        pass


async def test_a_founder_is_one_again_from_its_copy(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_login_network().id == ""
    with pytest.raises(P2PChatError, match="there is no network yet"):
        backup_key(tmp_path / "copy")
    await started(temporary=True)
    before = read_login_network()
    assert (before.role, before.backed_up, before.key_file) == ("founder", False, home / "founder")
    assert backup_key(tmp_path / "copy").id == before.id
    assert read_login_network().backed_up
    with pytest.raises(P2PChatError, match="exists: name another file"):
        backup_key(tmp_path / "copy")

    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "other"))
    after = restore_key(tmp_path / "copy")
    assert (after.id, after.role, after.backed_up) == (before.id, "founder", True)
    assert after.network is not None and before.network is not None
    assert after.network.member is not None and before.network.member is not None
    assert after.network.member.peer_id == before.network.member.peer_id
    assert restore_key(tmp_path / "copy").id == before.id  # again


@pytest.mark.parametrize("damage", ["", "nonsense\n", "one line", "two founders"])
def test_what_is_no_copy_is_refused(home: Path, tmp_path: Path, damage: str) -> None:
    network = f"p2pchat-network 2 {'0' * 32} {'1' * 64} -\n"
    founder = f"p2pchat-founder 1 {'2' * 64}\n"  # of another network
    text = {"one line": network, "two founders": network + founder}.get(damage, damage)
    (tmp_path / "copy").write_text(text)
    with pytest.raises(P2PChatError, match="is no copy of a network's key"):
        restore_key(tmp_path / "copy")
    assert read_login_network().id == ""
    with pytest.raises(P2PChatError, match="cannot read"):
        restore_key(tmp_path / "none")


async def test_a_copy_replaces_no_other_network_unless_asked(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await started(temporary=True)
    mine = backup_key(tmp_path / "copy")
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "other"))
    await started(temporary=True)
    other = read_login_network()
    with pytest.raises(P2PChatError, match="this login is in another network, which stays"):
        restore_key(tmp_path / "copy")
    assert read_login_network() == other
    assert restore_key(tmp_path / "copy", replace=True).id == mine.id
    kept = load_network(tmp_path / "other" / f"network.{other.id}.old")
    assert kept is not None and kept.id == other.id


async def test_a_new_network_is_founded_beside_what_was_started(home: Path) -> None:
    async with TCPPeer(data=home / "8080") as peer:
        with pytest.raises(P2PChatError, match=r"a peer of this login runs \(process \d+, 8080\): stop it"):
            found_anew()
        peer_id = peer.me.key
    before = read_login_network()
    after, stay = found_anew()
    assert after.role == "founder" and after.id != before.id and not after.backed_up
    assert stay == [home / "8080"]
    assert (home / f"founder.{before.id}.old").exists()
    kept = read_login_network(home / "8080")
    assert (kept.id, kept.role) == (before.id, "guest")
    assert kept.network is not None and before.network is not None
    assert kept.network.guest(peer_id) == before.network.guest(peer_id)
    assert found_anew()[1] == []


async def test_a_profile_that_joined_for_itself_has_its_own_key(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with TCPPeer(temporary=True) as ada:
        mine = read_login_network()
        monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "other"))
        await started(temporary=True)
        login = read_login_network()
        await started(data=tmp_path / "apart", invite=await ada.make_invite())
    apart = read_login_network(tmp_path / "apart")
    assert (apart.id, apart.role, apart.key_file) == (mine.id, "member", tmp_path / "apart" / "member")
    assert read_login_network() == login
    assert backup_key(tmp_path / "copy", tmp_path / "apart").role == "member"
    assert read_login_network(tmp_path / "apart").backed_up and not read_login_network().backed_up


def test_a_named_network_has_no_key(home: Path, tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    save_network(tmp_path / "lab" / "network", Network.named("lab"))
    found = read_login_network(tmp_path / "lab")
    assert (found.name, found.role, found.key_file) == ("lab", "", None)
    with pytest.raises(P2PChatError, match="the network lab is made from its name"):
        backup_key(tmp_path / "copy", tmp_path / "lab")


async def test_a_guest_has_no_key_to_copy(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from p2pchat import backup_profile

    await started(data=home / "8080")
    await backup_profile(home / "8080", tmp_path / "backup")
    names = {path.name for path in (tmp_path / "backup").iterdir()}
    assert {"network", "guest"} <= names and not {"founder", "member"} & names
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "other"))
    shutil.copytree(tmp_path / "backup", tmp_path / "other" / "8080")
    assert read_login_network(tmp_path / "other" / "8080").role == "guest"
    with pytest.raises(P2PChatError, match="the key of this network's member is on another machine"):
        backup_key(tmp_path / "copy", tmp_path / "other" / "8080")


async def test_a_member_made_by_the_founder_is_one_elsewhere_without_an_invite(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()
    make_member(gate)
    with pytest.raises(P2PChatError, match="has the files of a network already"):
        make_member(gate)
    async with TCPPeer(temporary=True, name="ada") as ada:
        monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "another login"))
        with pytest.raises(P2PChatError, match="only the login that founded this network"):
            add_member(tmp_path, load_network(gate / "network") or Network.found())
        async with TCPPeer(0, ada.endpoint, data=gate, name="gate") as peer:
            await peer.wait_user("ada", timeout=60)
            assert [one.role for one in ada.people.members()] == ["founder", "member"]
        async with TCPPeer(0, ada.endpoint, data=gate) as peer:  # once more: the statement is stored
            await peer.wait_user("ada", timeout=60)


async def test_a_member_whose_files_were_cut_off_is_made_anew_as_an_admin_too(home: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    make_member(gate)
    former = (gate / "member").read_bytes()
    (gate / "network").unlink()  # it comes last
    make_member(gate, admin=True)
    assert (gate / "member").read_bytes() != former
    async with TCPPeer(temporary=True, name="ada") as ada, TCPPeer(0, ada.endpoint, data=gate, name="gate") as peer:
        await peer.wait_user("ada", timeout=60)
        assert [one.role for one in ada.people.members()] == ["founder", "admin"]
        await peer.make_invite()
