"""What to install for a missing package, in a clone; tests/long/processes/test_wheel.py asks a wheel."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from p2pchat.extras import DISTRIBUTION, missing_extra

ROOT = Path(__file__).resolve().parent.parent


def test_the_command_installs_the_extra_of_this_clone() -> None:
    if ROOT.as_uri() not in (metadata.distribution(DISTRIBUTION).read_text("direct_url.json") or ""):
        pytest.skip("another copy is installed here")
    says = missing_extra("the gateway needs fastapi", "web")
    assert says.startswith("the gateway needs fastapi, which is not installed: ")
    assert says.endswith(f' -m pip install -e "{ROOT}[web]"')
