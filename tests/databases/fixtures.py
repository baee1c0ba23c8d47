"""Fixtures for databases on servers; a test is skipped if its server is not installed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from tests.databases.servers import KINDS, Server, Shared

ServerOf = Callable[[str], Server]
_numbers = count(1)


@pytest.fixture(scope="session")
def server_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerOf]:
    """Return a function that gives the server of a kind, "mariadb" or "postgresql", and starts it first."""
    base = tmp_path_factory.getbasetemp()
    run = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    shared: dict[str, Shared] = {}

    def give(kind: str) -> Server:
        if missing := KINDS[kind].missing():
            pytest.skip(missing)
        if kind not in shared:
            shared[kind] = Shared(kind, run)
        return shared[kind].server

    yield give
    for one in shared.values():
        one.close()


@pytest.fixture(scope="session")
def one_database(server_of: ServerOf) -> Callable[[str], str]:
    """Return a function that gives the URL of the one database of a kind that tests share and leave empty."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "one")
    made: dict[str, str] = {}

    def give(kind: str) -> str:
        if kind not in made:
            made[kind] = server_of(kind).create(f"chat_{worker}")
        return made[kind]

    return give


@pytest.fixture
def new_database(server_of: ServerOf) -> Callable[[str], str]:
    """Return a function that makes an empty database of a kind and gives its URL, with the password."""

    def make(kind: str) -> str:
        worker = os.environ.get("PYTEST_XDIST_WORKER", "one")
        return server_of(kind).create(f"chat_{worker}_{next(_numbers)}")

    return make
