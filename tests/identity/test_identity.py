"""Identity keys: made once, kept private, and their signatures."""

from __future__ import annotations

import os
import pickle
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from p2pchat import private_files
from p2pchat.core.log import verify
from p2pchat.errors import P2PChatError
from p2pchat.identity.identity import Identity, load_identity, load_or_create_identity

posix_only = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")


def test_a_new_key_file_is_private_and_gives_the_same_identity_again(tmp_path: Path) -> None:
    path = tmp_path / "identity.pem"
    made = load_or_create_identity(path)
    assert load_or_create_identity(path).peer_id == made.peer_id == load_identity(path).peer_id
    assert len(bytes.fromhex(made.peer_id)) == 32
    assert [p.name for p in tmp_path.iterdir()] == ["identity.pem"]
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@posix_only
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o660])
def test_a_key_file_others_can_use_is_refused_with_the_command_that_mends_it(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "identity.pem"
    before = load_or_create_identity(path)
    path.chmod(mode)
    with pytest.raises(P2PChatError, match=f"chmod 600 {path}"):
        load_or_create_identity(path)
    path.chmod(0o600)
    assert load_identity(path).peer_id == before.peer_id


@posix_only
def test_without_file_modes_the_key_file_is_read_unchecked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_files, "POSIX", False)
    path = tmp_path / "identity.pem"
    made = load_or_create_identity(path)
    path.chmod(0o644)
    assert load_identity(path).peer_id == made.peer_id


@pytest.mark.parametrize(
    "content", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_damaged_key_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "identity.pem"
    private_files.write_private(path, content)
    with pytest.raises(P2PChatError, match="no usable private key"):
        load_or_create_identity(path)
    assert path.read_bytes() == content


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    pem = X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    private_files.write_private(tmp_path / "key", pem)
    with pytest.raises(P2PChatError, match="Ed25519 is needed"):
        load_identity(tmp_path / "key")


def test_a_path_that_is_no_file_is_refused_without_blocking(tmp_path: Path) -> None:
    with pytest.raises(P2PChatError):
        load_identity(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe", 0o600)
        with pytest.raises(P2PChatError, match="not a plain file"):
            load_identity(tmp_path / "pipe")


def test_a_signature_is_valid_for_its_key_and_data_only() -> None:
    ada, bob = Identity.from_seed(b"a" * 32), Identity.from_seed(b"b" * 32)
    signature = ada.sign(b"p2pchat/test/1\0words")
    assert verify(ada.peer_id, signature, b"p2pchat/test/1\0words")
    assert not verify(bob.peer_id, signature, b"p2pchat/test/1\0words")
    assert not verify(ada.peer_id, signature, b"p2pchat/test/1\0other words")
    assert not verify(ada.peer_id, signature[:-1], b"p2pchat/test/1\0words")
    assert not verify("no key", signature, b"p2pchat/test/1\0words")


def test_the_secret_is_in_no_repr_and_in_no_pickle() -> None:
    seed = bytes(range(32))
    identity = Identity.from_seed(seed)
    assert seed.hex() not in repr(identity) and repr(identity) == f"<Identity {identity.peer_id[:16]}>"
    with pytest.raises(TypeError):
        pickle.dumps(identity)


def test_rfc_8032_test_1() -> None:
    identity = Identity.from_seed(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert identity.peer_id == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert identity.sign(b"").hex().startswith("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155")
