"""Three gateways behind a balancer lose a part while everybody talks: nobody misses anything (losses.py)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.web.cluster.losses import play
from tests.web.cluster.site import missing

pytestmark = [pytest.mark.skipif(bool(missing()), reason=missing()), pytest.mark.weekly]
SESSIONS, RATE = 300, 30.0  # users, and messages a second of all; docs/measured.md has 600


@pytest.mark.parametrize("kind", ["kill", "stop", "engine", "rolling", "grow"])
async def test_nothing_is_missed_when_a_part_of_a_cluster_goes(tmp_path: Path, kind: str) -> None:
    print(await play(kind, tmp_path, SESSIONS, RATE))


async def test_a_gateway_with_postgresql_goes_on_elsewhere_in_its_cluster(
    new_database: Callable[[str], str], tmp_path: Path
) -> None:
    databases = [new_database("postgresql") for _ in range(3)]
    print(await play("move", tmp_path, SESSIONS, RATE, databases))
