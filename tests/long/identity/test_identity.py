"""Long tests of `tests/identity/test_identity.py`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from p2pchat.core.log import verify
from p2pchat.identity.identity import load_identity
from tests.identity.test_identity import posix_only


@posix_only
def test_a_key_made_by_openssl_is_as_good(tmp_path: Path) -> None:
    path = tmp_path / "key"
    try:
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", path], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no openssl command that makes Ed25519 keys")
    path.chmod(0o600)
    identity = load_identity(path)
    assert verify(identity.peer_id, identity.sign(b"x"), b"x")
