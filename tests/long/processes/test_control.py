"""Commands beside an open chat and without one, as real processes in real pipes, with signals and kills.

What commands say and which exit code they have is in tests/cli/subcommands/.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from p2pchat.testing.process_mesh import Child, Line
from tests.deadlines import WAIT
from tests.processes.commands import environment, posix
from tests.processes.peers import Cluster

pytestmark = pytest.mark.asyncio(loop_scope="module")
TIMEOUT = 2 * WAIT  # for commands that wait for others a minute


class Running:
    """A running command."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

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


class Commands:
    """The peers of a test, and commands for them: `of` is the peer that a command is about."""

    def __init__(self, quick: Cluster) -> None:
        self.cluster, self.home = quick, quick.home
        self.running: list[Running] = []

    def environment(self, of: str) -> dict[str, str]:
        return {**environment(self.home), "P2PCHAT_TIMEOUT": "60", "P2PCHAT_DATA": str(self.home / of)}

    async def command(self, of: str, *words: str) -> tuple[int, str, str]:
        """Run `p2pchat WORDS` to its end, without input."""
        async with asyncio.timeout(TIMEOUT):
            code, out, err = await self.cluster.talk(*words, environment=self.environment(of))
        assert b"Traceback" not in err, err.decode()
        return code, out.decode(), err.decode()

    async def start(
        self, of: str, *words: str, code: tuple[str, ...] = ("-m", "p2pchat"), stdin: int = DEVNULL
    ) -> Running:
        """Start `p2pchat WORDS`; `code` runs it in another way."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *code, *words), stdin=stdin, stdout=PIPE, stderr=PIPE, env=self.environment(of)
        )
        self.running.append(Running(process))
        return self.running[-1]

    async def shell(self, of: str, line: str) -> tuple[int, str, str]:
        """Run a line in a shell to its end; in it `p2pchat` is the command."""
        script = f'p2pchat() {{ {sys.executable} -m p2pchat "$@"; }}\n{line}'
        ran = await asyncio.to_thread(
            subprocess.run, ["bash", "-c", script],
            capture_output=True, text=True, timeout=TIMEOUT, check=False, env=self.environment(of),
        )  # fmt: skip
        return ran.returncode, ran.stdout, ran.stderr

    async def open(self, name: str) -> Child:
        """Open a chat of this peer, which is linked with those that are open."""
        others = [child.endpoint for child in self.cluster.children if child.process.returncode is None]
        child = self.cluster.child(name, *others, log=False)
        await child.start()
        return child

    async def pair(self) -> tuple[Child, Child]:
        """Open chats of ada and bob."""
        ada, bob = await self.open("ada"), await self.open("bob")
        await asyncio.gather(ada.event("joined", user="bob"), bob.event("joined", user="ada"))
        return ada, bob


@pytest_asyncio.fixture(loop_scope="module")
async def sock(quick: Cluster) -> AsyncIterator[Commands]:
    sock = Commands(quick)
    yield sock
    for running in sock.running:
        if running.process.returncode is None:
            running.process.kill()
            await running.process.wait()


# ---- send


@posix
async def test_a_long_text_goes_as_a_file_and_who_writes_for_nobody_is_stopped(sock: Commands) -> None:
    ada, bob = await sock.pair()
    noise = "head -c 3000000 /dev/zero | tr '\\0' x"
    code, _, err = await sock.shell("ada", f"({noise} && echo built >&3) 3>&2 | p2pchat send bob")
    assert code == 0 and "built\n" in err and "it goes as the file input.txt" in err
    [file] = (await bob.event("message"))["files"]
    assert (file["name"], file["size"]) == ("input.txt", 3_000_000)
    await ada.leave()
    lost = f"({noise} && echo built >&3) 3>&2 | p2pchat send bob --port 1 --network nowhere"
    code, _, err = await sock.shell("ada", lost)
    assert code == 2 and "built\n" not in err
    assert "there is no profile in" in err and "; nothing of the input was read" in err


async def test_at_the_limit_of_open_files_a_command_fails_and_the_chat_goes_on(sock: Commands) -> None:
    """`/search` and `/invite` ended the peer; to invite takes no file any more."""
    if sys.platform != "linux":
        pytest.skip("prlimit is of Linux")
    import resource

    ada, bob = await sock.pair()
    limits = resource.prlimit(ada.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(ada.process.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    await ada.type("/invite", "/search hello")
    await ada.do(do="search", words="hello", ref="search")
    failed = await ada.event("error", ref="search")
    assert failed["code"] == "failure" and failed["text"].startswith("the system refused this: ")
    await ada.do(do="invite", ref="invite")
    await ada.event("answer", ref="invite")
    await ada.do(do="send", to="bob", text="still here")
    await bob.event("message", text="still here")
    resource.prlimit(ada.process.pid, resource.RLIMIT_NOFILE, limits)
    await ada.do(do="search", words="still", ref="again")
    assert len((await ada.event("answer", ref="again"))["rows"]) == 1
    assert await ada.leave() == 1  # a command failed


async def test_lines_are_sent_as_they_arrive_until_the_peer_stops(sock: Commands) -> None:
    ada, bob = await sock.pair()
    unknown = await sock.start("ada", "send", "bbo", stdin=PIPE)
    await unknown.write("built", end=True)
    assert (await unknown.ended())[0] == 4
    send = await sock.start("ada", "send", "bob", "--lines", stdin=PIPE)
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
    ada, bob = await sock.pair()
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
    ada, bob = await sock.pair()
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
    ada = await sock.open("ada")
    await ada.do(do="send", text="hi")
    await ada.event("sent")
    code, out, err = await sock.shell("ada", "p2pchat tail | head -1; echo ${PIPESTATUS[0]}")
    assert (code, out[6:], err) == (0, "ada: hi\n0\n", "")  # without waiting for another message


@posix
async def test_ctrl_c_ends_a_tail_and_so_does_the_death_of_its_peer(sock: Commands) -> None:
    ada = await sock.open("ada")
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
    ada, bob = await sock.pair()
    await ada.type("before")
    await bob.event("message", text="before")
    assert [await ada.leave(), await bob.leave()] == [0, 0]
    patient = (
        "import sys; from p2pchat.__main__ import main; from p2pchat.cli import control_client as c; "
        "c.MEET_TIMEOUT = 3600.0; raise SystemExit(main(sys.argv[1:]))"
    )
    tail = await sock.start("bob", "tail", "-n", "1", code=("-c", patient))
    assert (await tail.line()).endswith(" ada: before")


# ---- without a running peer


@posix
async def test_a_tail_without_a_chat_serves_other_commands(sock: Commands) -> None:
    ada, bob = await sock.pair()
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
