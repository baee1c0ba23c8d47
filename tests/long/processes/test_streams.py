"""The command line over real processes: pipes, terminals and signals.

Accepted messages are sent, whichever end of a pipe closes first; messages that were not shown come again.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from p2pchat.testing.process_mesh import Child
from tests.processes.commands import TIMEOUT, environment, one_loop, posix, run_forked
from tests.processes.peers import Cluster


def end_input(child: Child) -> None:
    """Close the standard input of a peer, which makes it wait for deliveries and leave."""
    assert child.process.stdin is not None
    child.process.stdin.close()


@contextmanager
def running(home: Path, *words: str, **pipes: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run p2pchat in a process of its own, without input unless `pipes` say so, and kill it at the end."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **pipes}
    with subprocess.Popen([sys.executable, "-m", "p2pchat", *words], env=environment(home), **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def quiet_end(process: subprocess.Popen[bytes]) -> bool:
    """Wait for the end; return whether that was 0, and nothing was said about a pipe."""
    assert process.stderr is not None
    code, err = process.wait(TIMEOUT), process.stderr.read()
    return code == 0 and b"Traceback" not in err and b"Broken pipe" not in err


@one_loop
async def test_missing_input_does_not_end_a_peer_but_sigterm_does(quick: Cluster) -> None:
    log = quick.home / "log"
    quick.home.mkdir(exist_ok=True)
    with running(quick.home, "0", "--name", "bob", "--json", "--log", str(log)) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        ada = quick.child("ada", f"127.0.0.1:{first['port']}", log=False)
        await ada.start()
        await ada.event("joined", user="bob")
        assert process.poll() is None
        if sys.platform == "win32":
            return
        process.send_signal(signal.SIGTERM)
        await ada.event("left", user="bob", reason="left")
        assert process.wait(TIMEOUT) == 0
        lines = [json.loads(line) for line in process.stdout.read().splitlines()]
        assert lines[-1]["event"] == "stopped"
        assert [json.loads(line) for line in log.read_text("utf-8").splitlines()] == [first, *lines]


@posix
@one_loop
async def test_sigterm_saves_what_was_piped_in(quick: Cluster) -> None:
    """While endpoints, or a name, are waited for; with the two signals of `timeout`."""
    ada = quick.child("ada", log=False)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        bob = quick.child("bob", f"127.0.0.1:{silent.getsockname()[1]}", log=False)
        cyd = quick.child("cyd", log=False)
        await asyncio.gather(ada.start(), bob.start(), cyd.start())
        await cyd.type(f"/connect {ada.endpoint}")
        await cyd.event("joined", user="ada")
        await bob.type("important line")
        await cyd.type("/msg nobodyatall x", "/msg ada second line")
        for stopped in (bob, cyd):
            stopped.process.send_signal(signal.SIGTERM)
            stopped.process.send_signal(signal.SIGTERM)
        assert (await bob.ended(), await cyd.ended()) == (3, 4)
    assert [line["text"] for line in bob.lines if line["event"] == "sent"] == ["important line"]
    assert [line["text"] for line in cyd.lines if line["event"] == "sent"] == ["second line"]
    assert (bob.lines[-1]["event"], cyd.lines[-1]["event"]) == ("stopped", "stopped")


@posix
@one_loop
@pytest.mark.parametrize(
    ("number", "code", "reason"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 3, "terminated")],
    ids=["SIGINT", "SIGTERM"],
)
async def test_one_signal_ends_the_wait_for_deliveries(
    quick: Cluster, number: signal.Signals, code: int, reason: str
) -> None:
    ada = quick.child("ada", log=False)
    await ada.start()
    bob = quick.child("bob", ada.endpoint, "--drain", "600", log=False)
    await bob.start()
    await bob.event("joined", user="ada")
    await ada.leave()
    await bob.event("left", user="ada")
    await bob.type("/msg ada later")
    end_input(bob)
    await bob.event("sent", text="later")
    bob.process.send_signal(number)
    assert await bob.ended() == code
    assert bob.lines[-1]["event"] == "stopped" and bob.lines[-1]["reason"] == reason
    complaints = [line for line in bob.complaints if line.startswith("p2pchat: ")]  # "--" tells of dials
    assert complaints == ["p2pchat: not everything was delivered to ada: saved, and sent at the next start"]


@posix
@one_loop
async def test_everything_accepted_before_sigterm_is_shown(quick: Cluster) -> None:
    """Piped in while an endpoint is waited for, then accepted all at once."""
    texts = [f"{number}" for number in range(2000)]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        bob = quick.child("bob", f"127.0.0.1:{silent.getsockname()[1]}", log=False)
        await bob.start()
        await bob.type(*texts)
        bob.process.send_signal(signal.SIGTERM)
        assert await bob.ended() in (3, 1)  # 1: some came later than they were read
    shown = [line["text"] for line in bob.lines if line["event"] == "sent"]
    assert shown == [line["text"] for line in await quick.history("bob")] != []


@one_loop
async def test_a_line_with_an_unknown_name_holds_back_no_line_before_it(quick: Cluster) -> None:
    ada = quick.child("ada", log=False)
    await ada.start()
    bob = quick.child("bob", ada.endpoint, log=False)
    await bob.start()
    await bob.event("joined", user="ada")
    await bob.type("first", "/msg nobodyatall second", "third")
    error = await bob.event("error", code="unknown_name")
    await ada.event("message", text="third")
    sent = {line["text"]: line["sent_at"] for line in ada.lines if line["event"] == "message"}
    assert sent["first"] < error["at"] < sent["third"]


@posix
@one_loop
async def test_a_closed_stdout_ends_it_quietly(quick: Cluster) -> None:
    ada = quick.child("ada", log=False)
    await ada.start()
    with running(quick.home, "0", ada.endpoint, "--name", "bob", "--json") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        await ada.event("joined", user="bob")
        await ada.do(do="send", text="anybody?")
        await ada.event("left", user="bob", reason="left")
        assert quiet_end(process)


@posix
@one_loop
async def test_a_closed_stdout_does_not_stop_reading_a_pipe(quick: Cluster) -> None:
    """As in `make-lines | p2pchat 8081 8080 | head -1`: all lines are sent, unread messages come again."""
    ada = quick.child("ada", log=False)
    await ada.start()
    words = ["0", ada.endpoint, "--name", "bob", "--data", str(quick.home / "bob"), "--json"]
    with running(quick.home, *words, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        assert b"listening" in process.stdout.readline()
        process.stdout.close()
        await ada.event("joined", user="bob")
        await ada.do(do="send", text="anybody?")  # with no reader to show it to
        await ada.event("delivered", user="bob")
        texts = [f"line {number}" for number in range(40)]
        process.stdin.write("".join(text + "\n" for text in texts).encode())
        process.stdin.close()
        assert quiet_end(process)
    lines = await ada.wait(lambda line: line["event"] == "message", count=40)
    assert [line["text"] for line in lines] == texts
    again = await run_forked(quick, quick.home, *words)
    assert [line["text"] for line in again.events if line["event"] == "sent"] == texts
    assert [line["text"] for line in again.events if line["event"] == "message"] == ["anybody?"]


@one_loop
async def test_stay_continues_after_the_end_of_input(quick: Cluster) -> None:
    ada = quick.child("ada", "--stay", log=False)
    await ada.start()
    await ada.do(do="send", text="early")
    end_input(ada)
    await ada.event("sent", text="early")
    bob = quick.child("bob", ada.endpoint, log=False)
    await bob.start()
    await ada.event("joined", user="bob")


@posix
def test_a_full_stdout_is_reported(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("/dev/full is Linux's")
    with open("/dev/full", "w") as full, running(tmp_path, "0", "--json", stdout=full) as process:
        assert process.stderr is not None
        told = process.stderr.read().decode()
        assert process.wait(TIMEOUT) == 1
    assert "p2pchat: cannot write to standard output: No space left on device" in told.splitlines()
    assert "Traceback" not in told


@posix
@pytest.mark.parametrize("loop", ["asyncio", "any"])  # uvloop cannot close the descriptor of a standard stream
def test_a_stdout_closed_from_the_start_has_no_listener(loop: str, tmp_path: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m p2pchat 0 --name bob --drain 0 >&-"
    env = {**environment(tmp_path), "P2PCHAT_LOOP": loop}
    done = subprocess.run(
        ["sh", "-c", command], input="hi\n", encoding="utf-8", capture_output=True, env=env, check=False
    )
    assert done.returncode == 3
    assert "Traceback" not in done.stderr


@one_loop
async def test_plain_on_a_terminal_takes_lines_and_ctrl_d(quick: Cluster) -> None:
    if sys.platform == "win32":
        pytest.skip("pseudo-terminals are POSIX")
    ada = quick.child("ada", log=False)
    await ada.start()
    await ada.do(do="send", text="long ago")
    await ada.event("sent", text="long ago")
    main, side = os.openpty()
    words = ("0", ada.endpoint, "--name", "bob", "--plain")
    with running(quick.home, *words, stdin=side, stdout=side, start_new_session=True) as process:
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
            assert b"bob: hello" not in shown  # the typed line is on the screen already
            assert b"long ago" not in shown
            os.write(main, b"\x04")
            assert process.wait(TIMEOUT) == 0
            assert process.stderr is not None
            assert re.search(rb"-- 1 older message: .*p2pchat history --data ", process.stderr.read())
            await ada.event("left", user="bob", reason="left")
        finally:
            os.close(main)
