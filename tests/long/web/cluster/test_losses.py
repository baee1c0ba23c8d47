"""Three gateways behind a balancer lose a part while everybody talks: nobody misses anything (losses.py)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.web.cluster.losses import play
from tests.web.cluster.site import missing

pytestmark = [pytest.mark.skipif(bool(missing()), reason=missing()), pytest.mark.weekly]
SESSIONS, RATE = 300, 30.0  # users, and messages a second of all; docs/scaling.md has 600
AWAY = {"engine": 60.0, "grow": 8.0}  # seconds; the other losses take 3


async def _lost(kind: str, home: Path, *databases: str) -> None:
    away = AWAY.get(kind, 3.0)
    print(await play(kind, home, sessions=SESSIONS, rate=RATE, servers=3, away=away, databases=databases))


@pytest.mark.parametrize("kind", ["kill", "stop", "engine", "rolling", "grow"])
async def test_nothing_is_missed_when_a_part_of_a_cluster_goes(tmp_path: Path, kind: str) -> None:
    await _lost(kind, tmp_path)


async def test_a_gateway_with_postgresql_goes_on_elsewhere_in_its_cluster(
    new_database: Callable[[str], str], tmp_path: Path
) -> None:
    await _lost("move", tmp_path, *(new_database("postgresql") for _ in range(3)))
