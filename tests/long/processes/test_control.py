"""Commands beside an open chat and without one, as real processes in real pipes."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import signal
import sys
from typing import Any

import pytest
import pytest_asyncio

from p2pchat.testing.process_mesh import Child, Line
from tests.ports import free_ports
from tests.processes.fork_server import ForkedProcess
from tests.processes.peers import Cluster

pytestmark = pytest.mark.asyncio(loop_scope="module")
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")
TIMEOUT = 120.0  # seconds, for commands that wait for others a minute
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
async def test_piped_text_is_one_message_without_commands(sock: Commands) -> None:
    _, bob = await a_pair(sock)
    build = "echo /quit; printf 'compiling\\r\\n'; echo '{\"do\":\"quit\"}' >&2; echo; echo 'done'"
    send = await sock.shell("ada", f"({build}) 2>&1 | p2pchat send bob")
    assert await send.ended() == (0, "", "")
    message = await bob.event("message", kind="dm", sender="ada")
    assert message["text"] == '/quit\ncompiling\n{"do":"quit"}\n\ndone'


@posix
async def test_a_pipe_may_come_from_anywhere(sock: Commands) -> None:
    ada, bob = await a_pair(sock)
    assert (await (await sock.shell("ada", "yes | head -2000 | p2pchat send room")).ended())[0] == 0
    assert (await bob.event("message"))["text"] == "\n".join(["y"] * 2000)
    assert (await (await sock.shell("ada", "seq 500 | p2pchat send bob --lines")).ended())[0] == 0
    told = await bob.wait(lambda line: line["event"] == "message" and line["kind"] == "dm", count=500)
    assert [line["text"] for line in told] == [f"{number}" for number in range(1, 501)]
    await ada.wait(lambda line: line["event"] == "sent", count=501)  # the chat shows what commands send
    assert ada.count("sent") == 501


async def test_files_are_sent_by_name_beside_a_chat(sock: Commands) -> None:
    _, bob = await a_pair(sock)
    plan, empty = sock.home / "a plan.pdf", sock.home / "empty"
    plan.write_bytes(os.urandom(300_000))
    empty.touch()
    assert await sock.command("ada", "send", "bob", "--file", str(plan), "--file", str(empty)) == (0, "", "")
    message = await bob.event("message", kind="dm", sender="ada")
    assert [(file["name"], file["size"]) for file in message["files"]] == [("a plan.pdf", 300_000), ("empty", 0)]
    assert message["text"] == ""
    code, out, _ = await sock.command("bob", "history", "ada")
    assert code == 0 and out.endswith(" ada -> bob: [a plan.pdf, 300.0 kB, empty, 0 bytes]\n")
    code, _, err = await sock.command("ada", "send", "bob", "look", "--file", str(sock.home / "nothing"))
    assert code == 2 and "does not exist" in err
    code, _, err = await sock.command("ada", "send", "bob", "--lines", "--file", str(plan))
    assert code == 2 and "leave --file out" in err
    code, _, err = await sock.command("ada", "send", "bob", *["--file", str(plan)] * 11)
    assert code == 2 and "at most 10 files" in err
    assert (await sock.command("ada", "send", "nobody", "--file", str(plan)))[0] == 4


@posix
async def test_a_pipe_is_sent_as_a_file(sock: Commands) -> None:
    _, bob = await a_pair(sock)
    send = await sock.shell("ada", "printf 'a\\0\\377b' | p2pchat send bob look --file - --file-name ../a.bin")
    code, _, err = await send.ended()
    assert code == 2 and "--file-name is a name, and no path" in err
    send = await sock.shell("ada", "printf 'a\\0\\377b' | p2pchat send bob look --file - --file-name a.bin")
    assert await send.ended() == (0, "", "")
    message = await bob.event("message", text="look")
    assert [(file["name"], file["size"]) for file in message["files"]] == [("a.bin", 4)]
    assert not [path for path in (sock.home / "ada").iterdir() if path.name.startswith(".send-")]
    code, _, err = await sock.command("ada", "send", "bob", "--file", "-")
    assert code == 2 and "a file needs a name: --file - --file-name NAME" in err


@posix
@pytest.mark.parametrize("how", ["send bob --lines", "send bob", "--no-listen"])
async def test_no_picture_is_sent_as_text(sock: Commands, how: str) -> None:
    ada, bob = await a_pair(sock)
    picture = sock.home / "picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + os.urandom(300_000))
    if not how.startswith("send"):
        how = f"0 {ada.endpoint} --temp --name eve"
    send = await sock.shell("ada" if how.startswith("send") else "", f"cat {picture} | p2pchat {how} 2>&1")
    code, out, _ = await send.ended()
    assert code == 2 and "the input is no text" in out and "--file FILE" in out
    assert (await sock.command("ada", "send", "bob", "a text"))[0] == 0
    await bob.event("message", text="a text")
    assert bob.count("message") == 1


@posix
async def test_a_file_has_the_name_that_was_typed(sock: Commands) -> None:
    _, bob = await a_pair(sock)
    (sock.home / "plan-7.txt").write_text("the plan")
    (sock.home / "plan.txt").symlink_to("plan-7.txt")
    assert (await sock.command("ada", "send", "bob", "look", "--file", str(sock.home / "plan.txt")))[0] == 0
    assert [file["name"] for file in (await bob.event("message", text="look"))["files"]] == ["plan.txt"]


async def test_lines_are_sent_as_they_arrive(sock: Commands) -> None:
    _, bob = await a_pair(sock)
    send = await sock.start("ada", "send", "bob", "--lines", stdin=True)
    for text in ("the first", "the second"):
        await send.write(text + "\n\n")
        await bob.event("message", text=text)  # while the pipe is open
    await send.write("x" * 40_000 + "\nno end", end=True)
    code, out, err = await send.ended()
    assert (code, out) == (
        2,
        "",
    ) and err == "p2pchat: line 5 has more than 32,768 bytes: it was not sent, the others are\n"
    await bob.event("message", text="no end")


async def test_send_tells_the_last_line_that_a_stopped_peer_saved(sock: Commands) -> None:
    ada, _ = await a_pair(sock)
    send = await sock.start("ada", "send", "bob", "--lines", stdin=True)
    for number in range(1, 5):
        await send.write(f"{number}\n")
        await ada.event("sent", text=f"{number}")
    assert await ada.leave() == 0
    code, out, err = await send.ended()
    assert (code, out, err.replace("line 4", "line 3")) == (  # the answer about the fourth may be late
        1,
        "",
        "p2pchat: the peer stopped (quit) after line 3 of the input was saved: start it again, "
        "see the last line it has with p2pchat history, and send the rest\n",
    )


async def test_the_exit_code_tells_the_result(sock: Commands) -> None:
    ada, bob = await a_pair(sock)
    assert await sock.command("ada", "send", "bob", "lunch?") == (0, "", "")
    assert await sock.command("ada", "send", "bob", "--", "--lines", "is", "no option") == (0, "", "")
    await bob.event("message", text="--lines is no option")
    code, _, err = await sock.command("ada", "send", "bbo", "lunch?")
    assert code == 4 and err.startswith("p2pchat: nobody here is called 'bbo'")
    long_build = await sock.start("ada", "send", "bbo", stdin=True)
    assert (await long_build.trouble()).startswith("p2pchat: warning: nobody here is called 'bbo'")  # before the end
    await long_build.write("built", end=True)
    assert (await long_build.ended())[0] == 4
    assert await bob.leave() == 0
    await ada.event("left", user="bob")
    code, _, err = await sock.command("ada", "send", "bob", "later", "--timeout", "0.1")
    assert code == 3 and err == "p2pchat: not delivered yet to bob; saved, and sent as soon as possible\n"
    assert await sock.command("ada", "send", "bob", "later", "--wait", "accepted") == (0, "", "")
    code, _, err = await sock.command("ada", "send", "room", "anybody?", "--timeout", "0")
    assert code == 3 and "nobody is here yet" in err


@posix
async def test_a_too_long_text_is_not_sent_and_does_not_kill_its_pipe(sock: Commands) -> None:
    ada = await alone(sock)
    noise = "head -c 3000000 /dev/zero | tr '\\0' x"
    send = await sock.shell("ada", f"({noise} && echo built >&3) 3>&2 | p2pchat send bob")
    code, _, err = await send.ended()
    assert code == 2 and "built\n" in err
    assert "has 3,000,000 bytes, a message at most 32,768: nothing was sent" in err and "--lines" in err
    assert ada.count("sent") == 0


# ---- tail


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
@posix
async def test_a_tail_in_json_goes_through_jq_line_by_line(sock: Commands) -> None:
    ada, bob = await a_pair(sock)
    tail = await sock.shell("ada", "p2pchat tail --json | jq --unbuffered -r 'select(.event == \"message\") | .text'")
    for text in ("one", "two \u202e lines\nand more", "three"):
        await bob.do(do="send", to="room", text=text)
        assert [await tail.line() for _ in text.split("\n")] == text.split("\n")
    assert await ada.leave() == 0
    assert await tail.ended() == (0, "", "-- the peer stopped: quit\n")


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


# ---- users, invite


async def test_users_come_from_the_running_peer_or_the_database(sock: Commands) -> None:
    ada, bob = await a_pair(sock)
    code, out, err = await sock.command("ada", "users")
    assert (code, err) == (0, "") and sorted(line.split(" since ")[0] for line in out.splitlines()) == [
        "ada: online",
        "bob: online",
    ]
    assert next(line for line in out.splitlines() if line.endswith(" (you)")).startswith("ada: ")
    await bob.do(do="send", to="room", text="the database knows who wrote")
    await ada.event("message", text="the database knows who wrote")
    await bob.leave()
    await ada.leave()
    assert await sock.command("ada", "users") == (
        0,
        "ada (you)\nbob\n",
        "-- this peer is not running, so who is here is not known\n",
    )
    code, out, _ = await sock.command("ada", "users", "--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert [(line["event"], line["user"], line["status"], line["me"]) for line in found] == [
        ("presence", "ada", "unknown", True),
        ("presence", "bob", "unknown", False),
    ]


async def test_the_invite_of_a_running_peer_has_its_real_address(sock: Commands) -> None:
    ada = sock.child("ada", "--advertise", "chat.example.org:4711", log=False)
    await ada.start()
    code, out, _ = await sock.command("ada", "invite")
    assert code == 0 and "@chat.example.org:4711\n" in out and "It works while" not in out
    code, out, _ = await sock.command("ada", "invite", "--advertise", "other.example:1")
    assert code == 0 and "@other.example:1\n" in out and "example.org" not in out


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


# ---- which peer


async def test_of_several_profiles_the_newest_running_one_is_meant(sock: Commands) -> None:
    """As after the three terminals of the README: `p2pchat send bob` is said by the third."""
    names = zip(("ada", "bob", "cyd"), free_ports(3), strict=True)
    ada, bob, cyd = (Child(name, sock.home, port=int(port)) for name, port in names)
    sock.children += [ada, bob, cyd]
    await ada.start()
    only = await sock.command("", "users")
    assert (only[0], only[2]) == (0, "") and only[1].startswith("ada: online since ")  # the only profile there is
    for child in (bob, cyd):
        child._options = (ada.endpoint,)
        await child.start()
        await child.event("joined", user="ada")
    await cyd.event("joined", user="bob")
    code, _, err = await sock.command("", "send", "bob", "hi")
    using = "-- using the running peer of port {} (--port PORT: another)\n"
    assert (code, err) == (0, using.format(cyd.listening["port"]))
    await bob.event("message", sender="cyd", text="hi")
    assert (await sock.command("", "users", "--port", str(bob.listening["port"])))[2] == ""
    assert await cyd.leave() == 0
    code, out, err = await sock.command("", "users")
    assert err == using.format(bob.listening["port"]) and "bob: online since" in out
    code, _, err = await sock.command("", "send", "bob", "not to himself")
    assert (code, err) == (0, using.format(ada.listening["port"]))
    await bob.event("message", sender="ada", text="not to himself")
    assert [await bob.leave(), await ada.leave()] == [0, 0]
    code, _, err = await sock.command("", "send", "bob", "hi")
    assert code == 2 and "there are several profiles (" in err and "and none runs: choose one with --port PORT" in err
    port = str(ada.listening["port"])
    assert (await sock.command("elsewhere", "users", "--port", port))[1].startswith("ada (you)")  # over P2PCHAT_DATA


async def test_a_temporary_peer_is_reached_by_its_directory(sock: Commands) -> None:
    ada = Child("ada", sock.home, "--temp")
    sock.children.append(ada)
    await ada.start()
    assert await sock.command("", "send", "room", "hi", "--wait", "accepted", "--data", ada.listening["data"]) == (
        0,
        "",
        "",
    )
    await ada.event("sent", text="hi")


# ---- without a running peer


async def test_without_a_chat_a_command_runs_the_peer_and_meets_known_peers(sock: Commands) -> None:
    ada, bob = await a_pair(sock)
    await ada.leave()
    await bob.event("left", user="ada")
    assert await sock.command("ada", "send", "bob", "by myself") == (0, "", "")
    await bob.event("message", text="by myself", kind="dm")
    assert await sock.command("ada", "send", "room", "and to all") == (0, "", "")
    await bob.event("message", text="and to all", kind="room")
    assert not list((sock.home / "ada").glob("control.*"))


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
