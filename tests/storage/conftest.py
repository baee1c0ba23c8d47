"""The fixtures `storage` and `url`: each test that uses one runs on every kind of storage.

tests/long/storage/test_contract_of_servers.py runs them on database servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from p2pchat.settings import Settings
from p2pchat.storage.database import Database
from p2pchat.storage.dialects.sqlite_dialect import sqlite_url
from p2pchat.storage.schema import SCHEMA_KEY, TABLES
from p2pchat.storage.sql_storage import SqlStorage, dialect_of
from p2pchat.storage.temporary_storage import TemporaryStorage

SMALL = Settings(max_batch_entries=4, max_batch_bytes=2000, wal_warm_bytes=0, recent_places=5)


def empty(url: str) -> None:
    """Delete all rows of a server's database; making a new one takes ten times as long."""
    with closing(Database(dialect_of(url, 1.0), writes=True)) as database, database.transaction():
        for table in TABLES:
            kept = f" where name <> '{SCHEMA_KEY}'" if table.name == "meta" else ""
            database.run(f"delete from {table.name}{kept}")


@pytest.fixture(params=["memory", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStorage]:
    opened: SqlStorage = (
        TemporaryStorage(SMALL) if request.param == "memory" else SqlStorage(sqlite_url(tmp_path / "chat.db"), SMALL)
    )
    yield opened
    opened.close()


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return the URL of a database that is not there yet."""
    return sqlite_url(tmp_path / "chat.db")
