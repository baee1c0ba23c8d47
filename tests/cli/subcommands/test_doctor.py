"""`p2pchat doctor` as a whole: its output and exit code, with and without a running peer."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from p2pchat import TCPPeer
from p2pchat.__main__ import main
from p2pchat.cli.subcommands.doctor import shown, summary
from p2pchat.cli.subcommands.doctor_checks import Finding, from_error, ok, warning, wrong
from p2pchat.storage.schema import SCHEMA_VERSION
from tests.cli.conftest import Here, OpenChats
from tests.ports import free_ports

Findings = dict[str, dict[str, str]]
Doctor = Callable[..., tuple[int, Findings]]


@pytest.fixture
def doctor(capfd: pytest.CaptureFixture[str]) -> Doctor:
    """Run `doctor --json`; return the exit code and the findings by check."""

    def run(*words: str) -> tuple[int, Findings]:
        capfd.readouterr()
        code = main(["doctor", "--json", *words])
        out, err = capfd.readouterr()
        assert err == ""
        return code, {line["what"]: line for line in map(json.loads, out.splitlines())}

    return run


@pytest.fixture
def ada(tmp_path: Path) -> Path:
    async def live() -> None:
        async with TCPPeer(0, name="ada", data=tmp_path / "ada") as ada:
            await ada.send_many("room", ["word " * 100] * 400)

    asyncio.run(live())
    return tmp_path / "ada"


def test_doctor_without_any_profile(doctor: Doctor, home: Path) -> None:
    code, found = doctor()
    assert code == 0 and found["profile"]["mend"].endswith("p2pchat 8080") and "database" not in found
    assert not home.exists()


def test_a_peer_at_rest(doctor: Doctor, ada: Path) -> None:
    code, found = doctor("--data", str(ada))
    assert (code, {line["verdict"] for line in found.values()} - {"warning"}) == (0, {"ok"})
    assert found["database"]["seen"].startswith("whole, ") and "--port" in found["port"]["mend"]
    assert set(found["key"]) == {"what", "verdict", "seen", "mend"}


def test_beside_a_chat_the_lock_the_port_and_a_linked_user_are_named(chats: OpenChats, here: Here) -> None:
    ada = chats.open("ada")
    chats.open("bob", ada, advertise="127.0.0.1:1")  # where nobody answers
    ran = here("doctor", "--json", "--data", ada.data)
    found = {line["what"]: (line["verdict"], line["seen"]) for line in ran.events}
    assert (ran.code, found["peers"]) == (0, ("ok", "linked with bob"))
    assert found["lock"] == ("ok", f"in use by process {os.getpid()}")
    assert found["port"] == ("ok", f"{ada.port} is this peer's, which answers")


def test_who_carries_a_link_is_named(chats: OpenChats, here: Here) -> None:
    ada = chats.open("ada")
    bob, cyd = (chats.open(name, ada, listen=False) for name in ("bob", "cyd"))
    bob.wait_user("cyd", timeout=60)
    ran = here("doctor", "--json", "--data", bob.data)
    assert {line["what"]: line["seen"] for line in ran.events}["peers"] == "linked with ada; cyd through ada"
    rows = here("users", "--json", "--data", bob.data).events
    assert {row["user"]: row["via"] for row in rows} == {"ada": "", "bob": "", "cyd": "ada"}
    shown = here("users", "--data", bob.data).out.splitlines()
    assert sorted(shown) == ["ada: online", "bob: online (you)", "cyd: online (linked through ada)"]
    assert (bob.user("cyd").via, bob.user("ada").via, ada.user("cyd").via) == ("ada", "", "")
    cyd.wait_user("bob", timeout=60)


def test_a_peer_that_runs_is_judged_by_its_links(chats: OpenChats, here: Here) -> None:
    ada = chats.open("ada")
    bob, cyd = (chats.open(name, ada, listen=False) for name in ("bob", "cyd"))
    for one, name in ((bob, "cyd"), (cyd, "bob")):
        one.wait_user(name, timeout=60)
    cyd.broadcast("I sit here").delivered(by="bob", timeout=60)
    ada.close()
    waited = time.monotonic() + 60
    while {bob.user(name).status for name in ("ada", "cyd")} != {"offline"} and time.monotonic() < waited:
        time.sleep(0.05)  # poll: a user that leaves is told to whoever reads events
    ran = here("doctor", "--json", "--data", bob.data)
    found = [(line["verdict"], line["seen"]) for line in ran.events if line["what"] == "peers"]
    assert found[0][0] == "warning" and found[0][1].startswith("no peer known here answers: ada")
    assert found[1][0] == "warning"
    assert found[1][1].startswith("cyd: cannot be reached from here; ada, who linked you last, is off since")


async def test_of_a_program_that_answers_no_commands_doctor_does_not_say_that_it_is_not_running(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with TCPPeer(0, name="ada", data=tmp_path / "ada"):
        await asyncio.to_thread(main, ["doctor", "--json", "--data", str(tmp_path / "ada")])
    found = {line["what"]: line for line in map(json.loads, capfd.readouterr().out.splitlines())}
    assert found["lock"]["seen"] == f"in use by process {os.getpid()}"
    assert found["port"]["seen"] == "no peer answers for this profile, so its port is not known"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")
def test_findings_are_columns_with_a_summary(capfd: pytest.CaptureFixture[str], ada: Path) -> None:
    (ada / "identity.pem").chmod(0o644)
    assert main(["doctor", "--data", str(ada)]) == 1
    lines = capfd.readouterr().out.splitlines()
    at = next(index for index, line in enumerate(lines) if line.startswith("wrong    key        "))
    assert lines[at + 1].startswith("         -> run `chmod 600")
    assert lines[-1].startswith("1 thing is wrong")
    assert any("not checked until the key" in line for line in lines)


def test_a_damaged_database(doctor: Doctor, ada: Path) -> None:
    database = ada / "history.db"
    whole = database.read_bytes()
    database.write_bytes(whole[: len(whole) // 8192 * 4096])
    code, found = doctor("--data", str(ada))
    assert (code, found["database"]["verdict"]) == (1, "wrong") and "damaged" in found["database"]["seen"]
    database.write_bytes(whole[:100_000] + b"\xff" * 4096 + whole[104_096:])
    code, found = doctor("--data", str(ada))
    assert (code, found["database"]["verdict"]) == (1, "wrong")
    database.write_bytes(b"no database at all " * 1000)
    code, found = doctor("--data", str(ada))
    assert code == 1 and found["database"]["seen"].endswith("is not a database")


def test_a_database_of_a_newer_version_or_of_another_program(doctor: Doctor, ada: Path) -> None:
    newer = SCHEMA_VERSION + 1
    change(ada, f"update meta set value = '{newer}' where name = 'schema'")
    code, found = doctor("--data", str(ada))
    assert code == 1 and f"newer version of p2pchat (0.{newer})" in found["database"]["seen"]
    assert found["database"]["mend"] == "update this one"
    change(ada, "drop table meta")
    code, found = doctor("--data", str(ada))
    assert code == 1 and "of another program" in found["database"]["seen"]


def change(data: Path, sql: str) -> None:
    with closing(sqlite3.connect(data / "history.db")) as database, database:
        database.execute(sql)


async def test_the_connection_to_another_peer(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with TCPPeer(int(free_ports(1)[0]), name="bob", data=tmp_path / "bob") as bob:
        async with TCPPeer(0, bob.endpoint, name="ada", data=tmp_path / "ada") as ada:
            await ada.wait_user("bob", timeout=60)
            await (await bob.broadcast("hi")).delivered(timeout=60)
        ways = ["--data", str(tmp_path / "ada"), bob.endpoint]
        assert await asyncio.to_thread(main, ["doctor", *ways]) == 0
        assert capfd.readouterr().out.startswith(f"ok       {bob.endpoint} bob answers, of the same network, in ")
    assert await asyncio.to_thread(main, ["doctor", *ways]) == 1
    out = capfd.readouterr().out
    assert "no program listens on that port" in out and out.splitlines()[1].endswith(f"p2pchat {bob.port}")


def test_lines() -> None:
    assert shown(ok("key", "fine\x1b[2J")) == "ok       key        fine\\u{1b}[2J"
    assert shown(wrong("key", "bad", "do this")) == "wrong    key        bad\n         -> do this"
    assert summary([ok("a", "b")]) == "nothing is wrong"
    assert summary([warning("a", "b", "c"), wrong("a", "b", "c"), wrong("a", "b", "c")]) == (
        "2 things are wrong, 1 warning"
    )
    assert from_error("key", "it is bad: mend it: so") == Finding("key", "wrong", "it is bad", "mend it: so")
    assert from_error("key", "no colon").mend
