"""Three gateways behind a balancer lose a part while everybody talks: nobody misses anything (losses.py)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.amounts import CLUSTER_AWAY, CLUSTER_RATE, CLUSTER_SERVERS, CLUSTER_SESSIONS, LONG
from tests.web.cluster.losses import play
from tests.web.cluster.site import missing

pytestmark = [pytest.mark.skipif(bool(missing()), reason=missing()), *([pytest.mark.alone] if LONG else [])]


async def _lost(kind: str, home: Path, *databases: str) -> None:
    print(
        await play(
            kind,
            home,
            sessions=CLUSTER_SESSIONS,
            rate=CLUSTER_RATE,
            servers=CLUSTER_SERVERS,
            away=CLUSTER_AWAY.get(kind, 3.0),
            databases=databases,
        )
    )


@pytest.mark.sampled
async def test_sessions_of_a_killed_gateway_go_on_at_the_others(tmp_path: Path) -> None:
    await _lost("kill", tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["stop", "engine", "rolling", "grow"])
async def test_nothing_is_missed_when_a_part_of_a_cluster_goes(tmp_path: Path, kind: str) -> None:
    await _lost(kind, tmp_path)


@pytest.mark.long
async def test_a_gateway_with_postgresql_goes_on_elsewhere_in_its_cluster(
    new_database: Callable[[str], str], tmp_path: Path
) -> None:
    await _lost("move", tmp_path, *(new_database("postgresql") for _ in range(3)))
