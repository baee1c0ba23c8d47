"""The model of the `go` rule with three connections at once; a fourth would cost minutes."""

# ruff: noqa: F401

from __future__ import annotations

import pytest

from tests.core.mesh.test_go_model import (
    DECIDER,
    Graph,
    test_a_dead_link_never_blocks_a_redial,
    test_after_faults_every_state_settles_on_one_link,
    test_only_the_same_link_stays_up_at_both_ends,
    walk,
)


@pytest.fixture(scope="module")
def decider() -> Graph:
    return walk(DECIDER, 3)
