"""demo through an engine, as tests/cli/subcommands/test_demo.py runs it over sockets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.nats import missing as no_engine
from tests.processes.commands import p2pchat


@pytest.mark.skipif(bool(no_engine()), reason=no_engine())
def test_the_demo_checks_its_claims_through_an_engine(tmp_path: Path) -> None:
    ran = p2pchat(tmp_path, "demo", "--engine")
    assert ran.code == 0, ran.out + ran.err
    assert "through the engine alone" in ran.out
    assert ran.out.count("  ok   ") >= 16
