"""The package and its public names."""

from __future__ import annotations

import subprocess
import sys

import pytest

import p2pchat


def test_importing_p2pchat_loads_little() -> None:
    code = "import sys, p2pchat; print({'sqlite3', 'click', 'asyncio', 'cryptography'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "set()"


def test_every_public_name_is_there() -> None:
    for name in p2pchat.__all__:
        assert getattr(p2pchat, name) is not None
    assert set(p2pchat.__all__) <= set(dir(p2pchat))
    with pytest.raises(AttributeError):
        _ = p2pchat.Nonsense
