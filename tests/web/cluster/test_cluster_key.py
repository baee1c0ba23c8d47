"""The key of a cluster: its file, and what it seals."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pchat import P2PChatError, private_files
from p2pchat.web.cluster.cluster_key import ClusterKey, make_key_file, parse_cluster_name, read_key_file

KEY = ClusterKey(b"k" * 32, "team")


def test_a_key_file_is_private_and_made_once(tmp_path: Path) -> None:
    path = tmp_path / "key"
    make_key_file(path)
    secret = read_key_file(path)
    assert len(secret) == 32
    with pytest.raises(P2PChatError, match="there is a file"):
        make_key_file(path)
    assert read_key_file(path) == secret
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o640)
        with pytest.raises(P2PChatError, match="chmod 600"):
            read_key_file(path)


def test_without_file_modes_the_key_of_a_cluster_is_read_unchecked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    make_key_file(path)
    path.chmod(0o666)
    with monkeypatch.context() as forced:
        forced.setattr(private_files, "POSIX", False)
        assert len(read_key_file(path)) == 32


@pytest.mark.parametrize("text", ["", "p2pchat-cluster 1 00", "p2pchat-network 1 " + "0" * 64])
def test_another_file_is_no_key(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(P2PChatError, match="is no key of a cluster"):
        read_key_file(path)
    with pytest.raises(P2PChatError, match="cannot be read"):
        read_key_file(tmp_path / "missing")


@given(st.binary(max_size=200), st.integers(0, 10_000), st.integers(1, 255))
def test_one_changed_byte_is_noticed(content: bytes, at: int, change: int) -> None:
    sealed = bytearray(KEY.seal("accounts", "place", content))
    assert KEY.open("accounts", "place", bytes(sealed)) == content
    sealed[at % len(sealed)] ^= change
    with pytest.raises(ValueError, match="not sealed for place"):
        KEY.open("accounts", "place", bytes(sealed))


def test_a_record_is_bound_to_its_place_kind_cluster_and_key() -> None:
    sealed = KEY.seal("accounts", "place", b"content")
    assert b"content" not in sealed and KEY.seal("accounts", "place", b"content") != sealed
    others = [
        (KEY, "accounts", "elsewhere"), (KEY, "alive", "place"), (ClusterKey(b"k" * 32, "other"), "accounts", "place"),
        (ClusterKey(b"x" * 32, "team"), "accounts", "place"),
    ]  # fmt: skip
    for key, kind, place in others:
        with pytest.raises(ValueError):
            key.open(kind, place, sealed)
    for short in (b"", sealed[:5], sealed[:12], sealed[:20]):
        with pytest.raises(ValueError):
            KEY.open("accounts", "place", short)


def test_names_of_records_say_nothing_and_are_the_same_for_all_gateways() -> None:
    assert KEY.name("ada") == ClusterKey(b"k" * 32, "team").name("ada")
    assert len({KEY.name("ada"), KEY.name("bob"), ClusterKey(b"k" * 32, "other").name("ada")}) == 3
    assert set(KEY.name("ada")) <= set("0123456789abcdef")


def test_names_of_clusters_are_parts_of_subjects() -> None:
    assert parse_cluster_name("team-chat2") == "team-chat2"
    for text in ("", "Team", "a.b", "a b", "-a", "a" * 33, "ä", "a*", ">"):
        with pytest.raises(ValueError):
            parse_cluster_name(text)
