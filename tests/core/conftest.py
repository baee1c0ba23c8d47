"""A fixture: ada, a peer alone in a world of its own."""

from __future__ import annotations

import pytest

from tests.core.scripted_nodes import Peer, World


@pytest.fixture
def ada() -> Peer:
    return World().peer("ada")
