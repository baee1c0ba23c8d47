"""Long tests of `tests/sync/test_sync.py`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import pytest

from p2pchat.sync import (
    Events,
    Left,
    Message,
    Settings,
    TCPPeer,
    open_history,
)
from tests.deadlines import WAIT
from tests.sync.test_sync import home as home  # fixture

ROOT = Path(__file__).parents[3]


def run_program(code: str, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *args],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


INTERRUPTED = """
import sys
from p2pchat.sync import Message, TCPPeer
with TCPPeer(0, sys.argv[1], name="bot", data=sys.argv[2]) as bot:
    events = bot.events(Message)
    try:
        bot.send("room", "ready")
        next(events)
    except KeyboardInterrupt:
        bot.send("room", "usable").delivered(timeout=60)
    print(next(events).text, flush=True)
    bot.send("room", "ready again")
    next(events)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a test cannot send Ctrl-C to one process")
def test_ctrl_c_ends_the_call_and_leaves_the_peer_usable(home: Path) -> None:
    with TCPPeer(0, name="ada", data=home / "ada") as ada:
        events = ada.events(Message, Left)
        bot = run_program(INTERRUPTED, ada.endpoint, str(home / "bot"))
        try:
            assert _text(events) == "ready"
            bot.send_signal(signal.SIGINT)
            assert _text(events) == "usable"
            ada.broadcast("go on")
            assert _text(events) == "ready again"
            bot.send_signal(signal.SIGINT)
            left = events.next(timeout=WAIT)
            assert isinstance(left, Left) and left.reason == "left"
            out, err = bot.communicate(timeout=WAIT)
            assert out == "go on\n" and err.splitlines()[-1] == "KeyboardInterrupt"
            assert bot.returncode in (1, 130, -signal.SIGINT)
        finally:
            bot.kill()
            bot.communicate()


def _text(events: Events[Message | Left]) -> str:
    event = events.next(timeout=WAIT)
    assert isinstance(event, Message)
    return event.text


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal for one process")
def test_ctrl_c_while_a_peer_starts_leaves_its_profile_free(home: Path) -> None:
    silent = socket.create_server(("127.0.0.1", 0))  # accepts, and never answers: the start waits for it
    silent.settimeout(WAIT)

    def interrupt() -> None:
        with silent.accept()[0]:
            os.kill(os.getpid(), signal.SIGINT)
            ended.wait(WAIT)

    ended = Event()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    dialled = Thread(target=interrupt)
    dialled.start()
    settings = Settings(start_timeout=WAIT)
    try:
        with pytest.raises(KeyboardInterrupt):
            TCPPeer(0, silent.getsockname()[1], name="ada", data=home / "ada", settings=settings).__enter__()
    finally:
        signal.signal(signal.SIGINT, before)
        ended.set()
        dialled.join()
        silent.close()
    with TCPPeer(0, name="ada", data=home / "ada") as ada:
        assert ada.broadcast("it is free").status == "accepted"


FORKED = """
import os, sys
from p2pchat.sync import PeerClosed, TCPPeer
ada = TCPPeer(0, name="ada", data=sys.argv[1])
ada.start()
if (child := os.fork()) == 0:
    try:
        ada.send("room", "x")
    except PeerClosed as error:
        print(error, repr(ada), flush=True)
    with TCPPeer(0, name="cyd", data=sys.argv[2]) as cyd:
        print(cyd.send("room", "from the child").status, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(ada.send("room", "from the parent").status, flush=True)
ada.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_makes_peers_of_its_own(home: Path) -> None:
    program = run_program(FORKED, str(home / "ada"), str(home / "cyd"))
    out, err = program.communicate(timeout=60)
    lines = out.splitlines()
    assert "make a peer after the fork <TCPPeer of another process>" in lines[0], err
    assert lines[1:] == ["accepted", "accepted"]


def test_a_program_that_closes_nothing_ends_and_what_was_accepted_stays(home: Path) -> None:
    code = "import sys; from p2pchat.sync import TCPPeer; p = TCPPeer(data=sys.argv[1]); p.start(); p.broadcast('kept')"
    program = run_program(code, str(home / "ada"))
    assert program.communicate(timeout=60) == ("", "")
    assert program.returncode == 0
    with open_history(home / "ada") as history:
        assert [one.text for one in history.history("room")] == ["kept"]
