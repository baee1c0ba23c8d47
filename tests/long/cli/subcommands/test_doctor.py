"""doctor and another program: an engine."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import home as home
from tests.cli.subcommands.test_doctor import Doctor
from tests.cli.subcommands.test_doctor import ada as ada
from tests.cli.subcommands.test_doctor import doctor as doctor
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
