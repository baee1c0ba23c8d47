"""Commands beside an open chat and without one, as real processes in real pipes, with signals and kills.

What commands say and which exit code they have is in tests/cli/subcommands/.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import sys
from typing import Any

import pytest
import pytest_asyncio

from p2pchat.testing.process_mesh import Child, Line
from tests.deadlines import WAIT
from tests.processes.fork_server import ForkedProcess
from tests.processes.peers import Cluster

pytestmark = pytest.mark.asyncio(loop_scope="module")
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")
TIMEOUT = 2 * WAIT  # for commands that wait for others a minute
P2PCHAT = f"{shlex.quote(sys.executable)} -m p2pchat"


class Running:
    """A running command."""

    def __init__(self, process: asyncio.subprocess.Process | ForkedProcess) -> None:
        self.process = process

    def kill(self) -> None:
        """Kill the command with SIGKILL; for a shell, with everything it started."""
        if sys.platform != "win32" and os.getpgid(self.process.pid) == self.process.pid:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()

    async def line(self) -> str:
        """Return its next line on stdout; "" at the end."""
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.readline(), TIMEOUT)).decode().rstrip("\n")

    async def trouble(self) -> str:
        """Return its next line on stderr."""
        assert self.process.stderr is not None
        return (await asyncio.wait_for(self.process.stderr.readline(), TIMEOUT)).decode().rstrip("\n")

    async def event(self, event: str) -> Line:
        """Return its next event line of this kind."""
        while line := await self.line():
            found: Line = json.loads(line)
            if found["event"] == event:
                return found
        raise AssertionError(f"it ended without {event}")

    async def write(self, text: str, *, end: bool = False) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        await self.process.stdin.drain()
        if end:
            self.process.stdin.close()

    async def ended(self) -> tuple[int, str, str]:
        """Wait for its end; return the exit code and the rest of stdout and stderr."""
        out, err = await asyncio.wait_for(self.process.communicate(), TIMEOUT)
        assert b"Traceback" not in err, err.decode()
        return self.process.returncode or 0, out.decode(), err.decode()


class Commands(Cluster):
    """A cluster with commands for its peers: `of` is the peer that a command is about."""

    running: list[Running]

    def environment(self, of: str = "") -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("P2PCHAT_")}
        which = {"P2PCHAT_DATA": str(self.home / of)} if of else {}
        usual = {
            "P2PCHAT_HOME": str(self.home),
            "PYTHONUTF8": "1",
            "P2PCHAT_TIMEOUT": "60",
        }  # seconds, of slow machines
        return {**clean, **usual, **which}

    async def command(self, of: str, *words: str, stdin: str | None = None) -> tuple[int, str, str]:
        """Run `p2pchat WORDS` to its end; `stdin` None means no input."""
        given = (stdin or "").encode()
        code, out, err = await asyncio.wait_for(
            self.talk(*words, stdin=given, environment=self.environment(of)), TIMEOUT
        )
        assert b"Traceback" not in err, err.decode()
        return code, out.decode(), err.decode()

    async def start(self, of: str, *words: str, stdin: bool = False) -> Running:
        if self.fork_server is not None:
            forked = await self.fork_server.start(words, self.environment(of), ())
            if not stdin:
                forked.stdin.close()
            return self._kept(forked)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "p2pchat", *words),
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment(of),
        )
        return self._kept(process)

    async def shell(self, of: str, line: str) -> Running:
        """Run a line in a shell; in it `p2pchat` is the command."""
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", f'p2pchat() {{ {P2PCHAT} "$@"; }}\n{line}'),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment(of),
            start_new_session=True,
        )
        return self._kept(process)

    def _kept(self, process: asyncio.subprocess.Process | ForkedProcess) -> Running:
        self.running.append(Running(process))
        return self.running[-1]


@pytest_asyncio.fixture(loop_scope="module")
async def sock(quick: Cluster) -> Any:
    sock = Commands(quick.home, quick.logs, quick.fork_server)
    sock.children, sock.running = quick.children, []
    yield sock
    for running in sock.running:
        if running.process.returncode is None:
            running.kill()
            await running.process.wait()


async def a_pair(sock: Commands) -> tuple[Child, Child]:
    """Start ada and bob, linked, each with an open chat."""
    ada, bob = sock.child("ada", log=False), sock.child("bob", log=False)
    await ada.start()
    bob._options = (*bob._options, ada.endpoint)
    await bob.start()
    await asyncio.gather(ada.event("joined", user="bob"), bob.event("joined", user="ada"))
    return ada, bob


async def alone(sock: Commands) -> Child:
    """Start ada alone, with an open chat."""
    ada = sock.child("ada", log=False)
    await ada.start()
    return ada


# ---- send


@posix
async def test_a_too_long_text_is_not_sent_and_does_not_kill_its_pipe(sock: Commands) -> None:
    ada = await alone(sock)
    noise = "head -c 3000000 /dev/zero | tr '\\0' x"
    send = await sock.shell("ada", f"({noise} && echo built >&3) 3>&2 | p2pchat send bob")
    code, _, err = await send.ended()
    assert code == 2 and "built\n" in err
    assert "has 3,000,000 bytes, a message at most 32,768: nothing was sent" in err and "--lines" in err
    assert ada.count("sent") == 0


async def test_lines_are_sent_as_they_arrive_until_the_peer_stops(sock: Commands) -> None:
    ada, bob = await a_pair(sock)
    unknown = await sock.start("ada", "send", "bbo", stdin=True)
    assert (await unknown.trouble()).startswith("p2pchat: warning: nobody here is called 'bbo'")  # before its end
    await unknown.write("built", end=True)
    assert (await unknown.ended())[0] == 4
    send = await sock.start("ada", "send", "bob", "--lines", stdin=True)
    for number in range(1, 5):
        await send.write(f"{number}\n")
        await bob.event("message", text=f"{number}")  # while the pipe is open
    assert await ada.leave() == 0
    code, out, err = await send.ended()
    assert (code, out, err.replace("line 4", "line 3")) == (  # the answer about the fourth may be late
        1,
        "",
        "p2pchat: the peer stopped (quit) after line 3 of the input was saved: start it again, "
        "see the last line it has with p2pchat history, and send the rest\n",
    )


@posix
async def test_an_interrupted_get_saves_nothing_later(sock: Commands) -> None:
    ada, bob = await a_pair(sock)
    with (sock.home / "film").open("wb") as film:
        film.truncate(12_000_000)  # above what comes by itself
    assert (await sock.command("ada", "send", "bob", "--file", str(sock.home / "film")))[0] == 0
    id = (await bob.event("message", kind="dm", sender="ada"))["id"]
    await ada.leave()
    await bob.event("left", user="ada")
    waiting = await sock.start("bob", "get", id, "--output", str(sock.home / "got"))
    waiting.process.send_signal(signal.SIGTERM)
    assert (await waiting.ended())[0] in (3, -15)  # it may not have begun to listen to signals
    assert not (sock.home / "got").exists()


# ---- tail


async def test_a_tail_begins_with_the_history_and_ends_with_the_peer(sock: Commands) -> None:
    ada, bob = await a_pair(sock)
    for text in ("one", "two", "three"):
        await bob.do(do="send", to="room", text=text)
        await ada.event("message", text=text)
    tail, as_json = await sock.start("ada", "tail", "-n", "2"), await sock.start("ada", "tail", "room", "--json")
    assert [(await tail.line())[6:] for _ in range(2)] == ["bob: two", "bob: three"]
    assert [(await as_json.event("message"))["text"] for _ in range(3)] == ["one", "two", "three"]
    await bob.do(do="send", to="room", text="four\nlines \x1b[31m")
    assert (await tail.line())[6:] == "bob: four"
    assert await tail.line() == "    | lines \\u{1b}[31m"
    assert (await as_json.event("message"))["text"] == "four\nlines \x1b[31m"
    assert await ada.leave() == 0
    assert await tail.ended() == (0, "", "-- the peer stopped: quit\n")
    assert (await as_json.event("stopped"))["reason"] == "quit"
    assert (await as_json.ended())[0] == 0


@posix
async def test_a_tail_without_a_reader_ends_at_once_and_quietly(sock: Commands) -> None:
    ada = await alone(sock)
    await ada.do(do="send", text="hi")
    await ada.event("sent")
    tail = await sock.shell("ada", "p2pchat tail | head -1; echo ${PIPESTATUS[0]}")
    code, out, err = await tail.ended()  # without waiting for another message
    assert (code, out[6:], err) == (0, "ada: hi\n0\n", "")


@posix
async def test_ctrl_c_ends_a_tail_and_so_does_the_death_of_its_peer(sock: Commands) -> None:
    ada = await alone(sock)
    await ada.do(do="send", text="hi")
    await ada.event("sent")
    interrupted, other = await sock.start("ada", "tail"), await sock.start("ada", "tail")
    assert [(await tail.line())[6:] for tail in (interrupted, other)] == ["ada: hi"] * 2
    interrupted.process.send_signal(signal.SIGINT)
    assert await interrupted.ended() == (130, "", "")
    ada.kill()
    code, _, err = await other.ended()
    assert code == 1 and err == "p2pchat: the peer is gone: it was killed, or ended the connection\n"


async def test_tail_without_a_running_peer_does_not_wait_for_others(sock: Commands) -> None:
    ada, bob = await a_pair(sock)
    await ada.type("before")
    await bob.event("message", text="before")
    assert [await ada.leave(), await bob.leave()] == [0, 0]
    patient = (
        "from p2pchat.__main__ import main; from p2pchat.cli import control_client_or_own_peer as c; "
        "c.MEET_TIMEOUT = 3600.0; "
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", f"{patient}raise SystemExit(main(['tail', '-n', '1']))"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=sock.environment("bob"),
    )
    tail = sock._kept(process)
    assert (await tail.line()).endswith(" ada: before")


# ---- without a running peer


async def test_several_commands_at_once_without_a_chat(sock: Commands) -> None:
    ada, bob = await a_pair(sock)
    await ada.leave()
    texts = ["one", "two", "three"]
    sent = await asyncio.gather(*(sock.command("ada", "send", "bob", text) for text in texts))
    assert sent == [(0, "", "")] * 3
    for text in texts:
        await bob.event("message", text=text)
        assert bob.count("message", text=text) == 1


@posix
async def test_a_tail_without_a_chat_serves_other_commands(sock: Commands) -> None:
    ada, bob = await a_pair(sock)
    await ada.leave()
    tail = await sock.start("ada", "tail", "bob")
    assert (await tail.trouble()).startswith("-- no peer runs here, so this command does: ada listens on port ")
    assert await sock.command("ada", "send", "bob", "beside a tail") == (0, "", "")
    assert (await tail.line())[6:] == "ada -> bob: beside a tail"
    await bob.do(do="send", to="ada", text="heard")
    assert (await tail.line())[6:] == "bob -> ada: heard"
    tail.process.send_signal(signal.SIGTERM)
    assert (await tail.ended())[0] == 0
    assert (await bob.event("left", user="ada", reason="left"))["reason"] == "left"
    assert not list((sock.home / "ada").glob("control.*"))


# ---- a killed chat


async def test_a_killed_chat_does_not_block_the_next(sock: Commands) -> None:
    ada, bob = await a_pair(sock)
    await ada.do(do="send", to="bob", text="before")
    await ada.event("delivered", user="bob")
    ada.kill()
    await ada.process.wait()
    assert list((sock.home / "ada").glob("control.*"))  # left behind by the killed chat
    assert await sock.command("ada", "send", "bob", "from its ruins") == (0, "", "")
    await bob.event("message", text="from its ruins")
    again = sock.child("ada", log=False)
    await again.start()
    again.kill()
    await again.process.wait()
    third = sock.child("ada", log=False)
    await third.start()
    assert await sock.command("ada", "send", "room", "third life", "--wait", "accepted") == (0, "", "")
    await third.event("sent", text="third life")
