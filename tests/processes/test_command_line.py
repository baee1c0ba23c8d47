"""The command line over real processes: what it promises to people, pipes and programs, and what it says when not.

Bad input gets one clear line, the documented exit code, and no traceback; nothing accepted is lost.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pchat import TCPPeer
from p2pchat.apps.cli.commands.children import Line
from p2pchat.apps.cli.main import main
from tests.processes.stage import Stage

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")
one_loop = pytest.mark.asyncio(loop_scope="module")  # of those that share a nursery
TIMEOUT = 60.0


class Ran:
    """What a finished command line left."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def events(self) -> list[Line]:
        return [json.loads(line) for line in self.out.splitlines()]

    def complains(self) -> str:
        """The one line that says what is wrong."""
        lines = [line for line in self.err.splitlines() if line.startswith("p2pchat: ")]
        assert "Traceback" not in self.err, self.err
        assert len(lines) == 1, self.err
        return lines[0]


def p2pchat(home: Path, *words: str, stdin: str | int | None = "", **environment: str) -> Ran:
    """Run a command line to its end; `stdin` is text, or what subprocess takes."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("P2PCHAT_")}
    given: dict[str, Any] = {"input": stdin} if isinstance(stdin, str) else {"stdin": stdin}
    done = subprocess.run(
        [sys.executable, "-m", "p2pchat", *words],
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT,
        env={**env, "P2PCHAT_HOME": str(home), "PYTHONUTF8": "1", **environment},
        check=False,
        **given,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


async def born(quick: Stage, home: Path, *words: str, stdin: str = "") -> Ran:
    """Run a command line to its end as p2pchat() does, quickly born."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("P2PCHAT_")}
    environment = {**kept, "P2PCHAT_HOME": str(home), "PYTHONUTF8": "1"}
    async with asyncio.timeout(TIMEOUT):
        code, out, err = await quick.talk(*words, stdin=stdin.encode(), environment=environment)
    return Ran(code, out.decode(), err.decode())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run a command line in this process, through the same main(): a start of its own would take half a second."""
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))

    def run(*words: str, stdin: str = "") -> Ran:
        (tmp_path / "stdin").write_text(stdin, "utf-8")
        capfd.readouterr()
        with open(tmp_path / "stdin", encoding="utf-8") as file, monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", file)
            code = main(words)
        return Ran(code, *capfd.readouterr())

    return run


# ---- before anything runs


def test_version_and_help_answer_at_once(tmp_path: Path) -> None:
    started = time.monotonic()
    assert p2pchat(tmp_path, "--version").out.startswith("p2pchat ")
    assert "Exit codes:" in p2pchat(tmp_path, "--help").out
    assert p2pchat(tmp_path, "history", "--help").out.startswith("Usage: p2pchat history")
    assert time.monotonic() - started < 20  # not a measurement: a hang
    assert not list(tmp_path.iterdir())


def test_version_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys; from p2pchat.apps.cli.main import main; main(['--version']); print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout
    assert not {"asyncio", "click", "msgspec", "sqlalchemy", "cryptography", "ssl"} & set(out.split())


NOT_MEANT = [
    ("", "which port?"),
    ("histroy", "did you mean history?"),
    ("localhost:8080", "before it stands the port to listen on"),
    ("70000", "is no port"),
    ("8080 nowhere", "'nowhere' is no endpoint: write HOST:PORT"),
    ("8080 --nmae ada", "No such option"),
    ("0 --name @da", "a name does not contain '@'"),
    ("web 8000 nowhere", "'nowhere' is no endpoint: write HOST:PORT"),
    ("0 --invite p2pchat:nonsense", "the invite"),
    ("0 --invite /does/not/exist", "cannot read the invite"),
    ("check", "which logs?"),
    ("demo twice", "demo takes no words"),
]


@pytest.mark.parametrize(("words", "told"), NOT_MEANT, ids=[words for words, _ in NOT_MEANT])
def test_what_cannot_be_meant_is_one_line_and_exit_2(words: str, told: str, here: Callable[..., Ran]) -> None:
    ran = here(*words.split())
    lines = [line for line in ran.err.splitlines() if "warning: " not in line]
    assert len(lines) == 1 and told in lines[0], ran.err
    assert (ran.code, ran.out) == (2, "")


# ---- starting


def test_a_port_in_use_is_named(here: Callable[..., Ran]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = here(str(port), "--temp")
    assert ran.code == 1
    assert f"port {port} on 127.0.0.1 is in use" in ran.complains()


@one_loop
async def test_a_locked_directory_names_who_has_it(quick: Stage) -> None:
    ada = quick.child("ada", log=False)
    await ada.start()
    ran = await born(quick, quick.home, "0", "--data", str(quick.home / "ada"))
    assert ran.code == 1
    holder = int((quick.home / "ada" / "lock.pid").read_text("utf-8"))
    assert f"is in use by process {holder}" in ran.complains()
    if sys.platform != "win32":  # where the python.exe of a venv is not the process that runs, but starts it
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


def test_a_newer_database_is_refused(here: Callable[..., Ran], tmp_path: Path) -> None:
    ada = tmp_path / "ada"
    assert here("0", "--data", str(ada)).code == 0
    with sqlite3.connect(ada / "history.db") as database:
        [(version,)] = database.execute("SELECT value FROM meta WHERE name = 'schema'").fetchall()
        database.execute("UPDATE meta SET value = '999' WHERE name = 'schema'")
    database.close()
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
async def test_an_open_network_takes_whoever_comes(quick: Stage) -> None:
    ada = quick.child("ada", "--open", log=False)
    await ada.start()
    assert ada.listening["network"] == "open"
    ran = await born(
        quick, quick.home / "other", "0", ada.endpoint, "--open", "--temp", "--name", "bob", stdin="hello\n"
    )
    assert ran.code == 0, ran.err
    await ada.event("message", text="hello", sender="bob")


# ---- endpoints


@one_loop
async def test_another_network_refuses_and_that_is_said(quick: Stage) -> None:
    ada = quick.child("ada", log=False)
    await ada.start()
    ran = await born(quick, quick.home / "stranger", "0", ada.endpoint, stdin="hello\n")
    assert ran.code == 1
    assert f"-- {ada.endpoint} refused: it belongs to another network" in ran.err
    assert "every endpoint refused us" in ran.complains()
    assert not any(line["event"] == "joined" for line in ada.lines)


# ---- pipes


@one_loop
async def test_piped_lines_arrive_and_each_endpoint_gets_its_line(quick: Stage) -> None:
    ada = quick.child("ada", log=False)
    await ada.start()
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        closed = f"127.0.0.1:{nobody.getsockname()[1]}"
    lines = "one\n//two\n/me waves\n/msg ada three\nfour"
    ran = await born(quick, quick.home, "0", ada.endpoint, closed, "--name", "cron", stdin=lines)
    assert ran.code == 0, ran.err
    assert f"-- {ada.endpoint} reached" in ran.err
    assert f"-- {closed} does not answer" in ran.err and "trying on" in ran.err
    got = await ada.wait(lambda line: line["event"] == "message", count=5)
    by_kind = [(line["text"], line["action"]) for line in got if line["kind"] == "room"]
    assert by_kind == [("one", False), ("/two", False), ("waves", True), ("four", False)]
    assert [line["text"] for line in got if line["kind"] == "dm"] == ["three"]


@one_loop
async def test_what_nobody_has_yet_is_kept_and_sent_at_the_next_start(quick: Stage) -> None:
    data = ("--data", str(quick.home / "cron"), "--name", "cron")
    ada = quick.child("ada", log=False)
    alone = born(quick, quick.home, "0", *data, "--drain", "0.2", stdin="hello\n")
    _, ran = await asyncio.gather(ada.start(), alone)
    assert ran.code == 3
    assert "it is kept, and sent at the next start" in ran.err
    await born(quick, quick.home, "0", ada.endpoint, *data, stdin="and again\n")
    lines = await ada.wait(lambda line: line["event"] == "message", count=2)
    assert [line["text"] for line in lines] == ["hello", "and again"]


@one_loop
async def test_a_line_that_cannot_be_done_is_never_sent_and_the_next_one_is(quick: Stage) -> None:
    ada = quick.child("ada", log=False)
    await ada.start()
    ran = await born(quick, quick.home, "0", ada.endpoint, "--name", "bob", stdin="/mgs ada hi\nafter it\n")
    assert ran.code == 2, ran.err
    assert "did you mean /msg?" in ran.complains()
    await ada.event("message", text="after it")
    assert ada.count("message") == 1


@one_loop
async def test_no_input_is_no_reason_to_leave_and_sigterm_is(quick: Stage) -> None:
    log = quick.home / "log"
    quick.home.mkdir(exist_ok=True)
    env = {**os.environ, "P2PCHAT_HOME": str(quick.home)}
    command = [sys.executable, "-m", "p2pchat", "0", "--name", "bob", "--json", "--log", str(log)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=env)
    try:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        ada = quick.child("ada", f"127.0.0.1:{first['port']}", log=False)
        await ada.start()
        await ada.event("joined", user="bob")
        assert process.poll() is None
        if sys.platform == "win32":
            process.kill()
            return
        process.send_signal(signal.SIGTERM)
        await ada.event("left", user="bob", reason="left")
        assert process.wait(TIMEOUT) == 0
        lines = [json.loads(line) for line in process.stdout.read().splitlines()]
        assert lines[-1]["event"] == "stopped"
        assert [json.loads(line) for line in log.read_text("utf-8").splitlines()] == [first, *lines]
    finally:
        process.kill()
        process.communicate()


@posix
@one_loop
async def test_ctrl_c_leaves_in_good_order_with_130(quick: Stage) -> None:
    ada = quick.child("ada", log=False)
    await ada.start()
    bob = quick.child("bob", ada.endpoint, log=False)
    await bob.start()
    await ada.event("joined", user="bob")
    bob.process.send_signal(signal.SIGINT)
    assert await bob.ended() == 130
    await ada.event("left", user="bob", reason="left")
    assert bob.lines[-1]["event"] == "stopped"
    assert not any("Traceback" in line for line in bob.complaints)


@posix
@one_loop
async def test_a_reader_that_goes_away_ends_it_quietly(quick: Stage) -> None:
    ada = quick.child("ada", log=False)
    await ada.start()
    env = {**os.environ, "P2PCHAT_HOME": str(quick.home)}
    command = [sys.executable, "-m", "p2pchat", "0", ada.endpoint, "--name", "bob", "--json"]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        process.stdout.readline()
        process.stdout.close()
        await ada.event("joined", user="bob")
        await ada.do(do="send", text="anybody?")
        await ada.event("left", user="bob", reason="left")
        assert process.wait(TIMEOUT) == 0
        assert b"Traceback" not in (err := process.stderr.read()) and b"Broken pipe" not in err
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@posix
@one_loop
async def test_a_reader_that_goes_away_does_not_keep_a_pipe_from_being_read(quick: Stage) -> None:
    """As in `make-lines | p2pchat 8081 8080 | head -1`: all lines go out, and what head never saw comes again."""
    ada = quick.child("ada", log=False)
    await ada.start()
    words = ["0", ada.endpoint, "--name", "bob", "--data", str(quick.home / "bob"), "--json"]
    env = {**os.environ, "P2PCHAT_HOME": str(quick.home)}
    with subprocess.Popen(
        [sys.executable, "-m", "p2pchat", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
    ) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        assert b"listening" in process.stdout.readline()
        process.stdout.close()
        await ada.event("joined", user="bob")
        await ada.do(do="send", text="anybody?")  # and nobody to show it to
        await ada.event("delivered", user="bob")
        texts = [f"line {number}" for number in range(40)]
        process.stdin.write("".join(text + "\n" for text in texts).encode())
        process.stdin.close()
        assert process.wait(TIMEOUT) == 0
        assert b"Traceback" not in (err := process.stderr.read()) and b"Broken pipe" not in err
    lines = await ada.wait(lambda line: line["event"] == "message", count=40)
    assert [line["text"] for line in lines] == texts
    again = await born(quick, quick.home, *words)
    assert [line["text"] for line in again.events if line["event"] == "sent"] == texts
    assert [line["text"] for line in again.events if line["event"] == "message"] == ["anybody?"]


@one_loop
async def test_stay_goes_on_after_the_end_of_input(quick: Stage) -> None:
    ada = quick.child("ada", "--stay", log=False)
    await ada.start()
    await ada.do(do="send", text="early")
    await ada.close_input()
    await ada.event("sent", text="early")
    bob = quick.child("bob", ada.endpoint, log=False)
    await bob.start()
    await ada.event("joined", user="bob")


@posix
def test_a_full_stdout_is_told(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("/dev/full is Linux's")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "p2pchat", "0", "--json"],
            stdin=subprocess.PIPE,
            stdout=full,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, "P2PCHAT_HOME": str(tmp_path)},
            timeout=TIMEOUT,
            check=False,
        )
    assert done.returncode == 1
    assert "p2pchat: cannot write to standard output: No space left on device" in done.stderr.splitlines()
    assert "Traceback" not in done.stderr


def test_what_somebody_wrote_in_earlier_runs_is_not_shown_as_news(here: Callable[..., Ran], tmp_path: Path) -> None:
    """As with a profile that a program has used: for the command line everything in it is unread."""

    async def write() -> None:
        async with TCPPeer(0, name="ada", data=tmp_path / "ada") as ada:
            await ada.send_many("room", ["one", "two", "three"])

    asyncio.run(write())
    ran = here("0", "--data", str(tmp_path / "ada"), "--drain", "1", stdin="four\n")
    [line] = ran.out.splitlines()
    assert line.endswith("ada: four")
    assert "-- 3 older messages: p2pchat history --data " in ran.err


@posix
def test_a_stdout_closed_from_the_start_is_nobody_listening(tmp_path: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m p2pchat 0 --name bob --drain 0 >&-"
    env = {**os.environ, "P2PCHAT_HOME": str(tmp_path)}
    done = subprocess.run(
        ["sh", "-c", command], input="hi\n", encoding="utf-8", capture_output=True, env=env, check=False
    )
    assert done.returncode == 3
    assert "Traceback" not in done.stderr


@one_loop
async def test_plain_on_a_terminal_lines_are_typed_and_ctrl_d_leaves(quick: Stage) -> None:
    if sys.platform == "win32":
        pytest.skip("pseudo-terminals are POSIX")
    ada = quick.child("ada", log=False)
    await ada.start()
    await ada.do(do="send", text="long ago")
    await ada.event("sent", text="long ago")
    main, side = os.openpty()
    command = [sys.executable, "-m", "p2pchat", "0", ada.endpoint, "--name", "bob", "--plain"]
    env = {**os.environ, "P2PCHAT_HOME": str(quick.home)}
    with subprocess.Popen(
        command, stdin=side, stdout=side, stderr=subprocess.PIPE, env=env, start_new_session=True
    ) as process:
        try:
            os.close(side)
            await ada.event("joined", user="bob")
            os.write(main, b"hello\n/mgs ada oops\n")
            await ada.event("message", text="hello", sender="bob")
            await ada.do(do="send", text="hello bob\x1b[2J")
            shown = b""
            while b"2J" not in shown:
                shown += os.read(main, 65536)
            assert b"ada: hello bob\\u{1b}[2J" in shown
            assert b"bob: hello" not in shown  # it stands there already, as it was typed
            assert b"long ago" not in shown
            os.write(main, b"\x04")
            assert process.wait(TIMEOUT) == 0
            assert process.stderr is not None
            assert re.search(rb"-- 1 older message: .*p2pchat history --data ", process.stderr.read())
            await ada.event("left", user="bob", reason="left")
        finally:
            process.kill()
            os.close(main)


def test_on_a_terminal_ctrl_c_on_an_empty_line_leaves(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("pseudo-terminals are POSIX")
    main, side = os.openpty()
    # It must be the terminal that the process belongs to: only then does its Ctrl-C mean a signal.
    command = [sys.executable, "-m", "p2pchat", "0", "--name", "bob"]
    start = f"import os, sys; os.login_tty({side}); os.execv(sys.executable, {command!r})"
    env = {**os.environ, "P2PCHAT_HOME": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", start], pass_fds=[side], env=env) as process:
        try:
            os.close(side)
            shown = b""
            while b"bob listens on" not in shown:
                shown += os.read(main, 65536)
            os.write(main, b"\x03")
            assert process.wait(TIMEOUT) == 130
        finally:
            process.kill()
            os.close(main)


@posix
@one_loop
async def test_a_full_disk_is_told_and_nothing_is_accepted(quick: Stage) -> None:
    """Really full: a small file system of its own, where mounting is allowed."""
    small = quick.home / "small"
    small.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this user may not mount a file system")
    try:
        ran = await born(quick, quick.home, "0", "--data", str(small / "ada"), "--json", stdin="hello\n")
        assert ran.code == 1, ran.err
        assert "Traceback" not in ran.err
        errors = [line for line in ran.events if line["event"] == "error"]
        assert errors and "disk" in errors[0]["text"]
        assert not [line for line in ran.events if line["event"] == "sent"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


# ---- programs


@one_loop
async def test_objects_bring_their_ref_back(quick: Stage) -> None:
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
async def test_history_reads_beside_the_running_peer(quick: Stage) -> None:
    ada = quick.child("ada", log=False)
    await ada.start()
    await ada.do(do="send", text="in the room")
    await ada.do(do="send", to="ada", text="for myself")
    sent = await ada.wait(lambda line: line["event"] == "sent", count=2)
    ran = await born(quick, quick.home, "history", "--json", "--data", str(quick.home / "ada"))
    assert ran.code == 0, ran.err
    assert [(line["event"], line["id"]) for line in ran.events] == [("sent", line["id"]) for line in sent]


def test_history_of_no_profile_says_so(here: Callable[..., Ran], tmp_path: Path) -> None:
    ran = here("history")
    assert (ran.code, "there is no profile" in ran.complains()) == (2, True)
    ran = here("history", "--data", str(tmp_path / "nothing"))
    assert (ran.code, "there is no history in" in ran.complains()) == (1, True)


def test_several_profiles_are_listed_and_one_is_found(here: Callable[..., Ran]) -> None:
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(str(free.getsockname()[1]))
        assert here(ports[-1]).code == 0
        if len(ports) == 1:
            assert here("history").code == 0
    ran = here("history")
    assert ran.code == 2
    told = ran.complains()
    assert "there are several profiles" in told and all(port in told for port in ports)
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


def test_the_demo_checks_what_it_shows(tmp_path: Path) -> None:
    ran = p2pchat(tmp_path, "demo")
    assert ran.code == 0, ran.out + ran.err
    assert ran.out.count("  ok   ") >= 15
    assert not list(tmp_path.iterdir())
