"""A separate network for the tests of discovery."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.processes.machines import Lan, lan_or_skip


@pytest.fixture
def lan() -> Iterator[Lan]:
    with lan_or_skip() as lan:
        yield lan
