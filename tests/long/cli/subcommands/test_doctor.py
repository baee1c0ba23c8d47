"""doctor and an engine, which is a process, and a database on which it waits for seconds."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tests.cli.subcommands.test_doctor import Doctor
from tests.cli.subcommands.test_doctor import ada as ada
from tests.cli.subcommands.test_doctor import doctor as doctor
from tests.cli.subcommands.test_doctor import home as home
from tests.nats import NatsServer


def test_doctor_says_whether_the_engine_is_there(doctor: Doctor, home: Path, ada: Path, engine: NatsServer) -> None:
    before = sorted(home.rglob("*"))
    code, found = doctor("--data", str(ada), "--engine", engine.url)
    assert (found["engine"]["verdict"], found["engine"]["seen"]) == ("ok", f"{engine.url}: connected")
    engine.kill()
    code, found = doctor("--data", str(ada), "--engine", engine.url)
    assert (code, found["engine"]["verdict"]) == (1, "wrong")
    assert found["engine"]["seen"] == f"{engine.url}: nobody listens there"
    code, found = doctor("--data", str(ada), "--engine", "http://x")
    assert (code, found["engine"]["verdict"]) == (1, "wrong")
    assert sorted(home.rglob("*")) == before  # the check leaves nothing


def test_a_database_locked_by_another_program(doctor: Doctor, ada: Path) -> None:
    database = sqlite3.connect(ada / "history.db")
    database.execute("pragma locking_mode = exclusive")
    database.execute("begin exclusive")
    try:
        code, found = doctor("--data", str(ada))
    finally:
        database.close()
    assert code == 1 and "in use by another program" in found["database"]["seen"]
