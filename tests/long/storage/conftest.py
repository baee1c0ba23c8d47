"""The fixtures `storage` and `url` on database servers; a test is skipped if its server is not installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from p2pchat.storage.database import Database
from p2pchat.storage.schema import SCHEMA_KEY, TABLES
from p2pchat.storage.sql_storage import SqlStorage, dialect_of
from tests.databases.servers import KINDS
from tests.storage.conftest import SMALL


def empty(url: str) -> None:
    """Delete all rows of a server's database; making a new one takes ten times as long."""
    with closing(Database(dialect_of(url, 1.0), writes=True)) as database, database.transaction():
        for table in TABLES:
            kept = f" where name <> '{SCHEMA_KEY}'" if table.name == "meta" else ""
            database.run(f"delete from {table.name}{kept}")


@pytest.fixture(params=list(KINDS))
def storage(request: pytest.FixtureRequest, one_database: Callable[[str], str]) -> Iterator[SqlStorage]:
    url = one_database(request.param)
    opened = SqlStorage(url, SMALL)
    yield opened
    opened.close()
    empty(url)


@pytest.fixture(params=list(KINDS))
def url(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> str:
    return new_database(request.param)
