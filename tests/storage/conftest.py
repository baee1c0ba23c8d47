"""The same scenarios on every kind of storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from p2pchat.config import Settings
from p2pchat.storage.base import Storage
from p2pchat.storage.connect import sqlite_url
from p2pchat.storage.memory import MemoryStorage
from p2pchat.storage.sql import SqlStorage

SMALL = Settings(max_batch_entries=4, max_batch_bytes=2000, wal_warm_bytes=0, recent_places=5)

Open = Callable[[], Storage]


@pytest.fixture(params=["memory", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    opened: Storage = MemoryStorage(SMALL)
    if request.param == "sqlite":
        opened = SqlStorage(sqlite_url(tmp_path / "chat.db"), SMALL)
    yield opened
    opened.close()
