"""Commands that answer messages (`p2pchat on message`): which run, what becomes of them, and kills."""

from __future__ import annotations

import asyncio
import os
import random
import shlex
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from p2pchat import HOP_LIMIT, Group, Message, Sent, TCPPeer
from p2pchat.cli.control_server import ControlServer
from tests.deadlines import ROOT, WAIT, until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="process groups")
READY = "-- answers messages to"


@asynccontextmanager
async def peer_at(data: Path, name: str, *endpoints: str) -> AsyncIterator[TCPPeer]:
    """Run a peer that takes commands."""
    async with TCPPeer(0, *endpoints, name=name, data=data) as peer:
        server = await ControlServer(peer).start()
        yield peer
        await server.shut_down("the test is over")


async def start(data: Path, options: Sequence[str], *command: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "p2pchat", "on", "message", "--data", str(data), *options, "--exec", *command,
        stderr=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@asynccontextmanager
async def answering(data: Path, options: Sequence[str], *command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await start(data, options, *command)
    try:
        await line_of(process, READY)
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def line_of(process: asyncio.subprocess.Process, text: str) -> str:
    """Return the next line of stderr that holds this text."""
    assert process.stderr is not None
    async with asyncio.timeout(WAIT):
        while text not in (line := (await process.stderr.readline()).decode()):
            assert line, "the program has ended"
    return line


async def answers_to(peer: TCPPeer, id: str, where: Group | str = "ada") -> list[Message | Sent]:
    """Wait for replies to a message."""
    async with asyncio.timeout(WAIT):
        while True:
            found = [post for post in await peer.history(where, limit=1000) if post.reply_to == id]
            if found:
                return found
            await asyncio.sleep(0.02)


async def test_a_command_gets_a_message_and_its_output_is_the_reply(tmp_path: Path) -> None:
    script = 'import json, os, sys; line = json.load(sys.stdin); print(line["text"], os.environ["PVAR"])'
    script = script.replace("PVAR", "P2PCHAT_MESSAGE_SENDER")
    async with peer_at(tmp_path / "ada", "ada") as ada, peer_at(tmp_path / "bob", "bob", ada.endpoint) as bob:
        await bob.wait_user("ada", timeout=WAIT)
        await bob.send("ada", "before it began")
        await ada.wait_for(Message, timeout=WAIT)
        options = ["--from", "bob", "--dm"]
        async with answering(tmp_path / "ada", options, sys.executable, "-c", script):
            await bob.send("room", "not direct")
            await bob.send("ada", "of a program", automatic=True)
            await bob.send("ada", "of the last program", hops=HOP_LIMIT)
            sent = await bob.send("ada", "two\nlines")
            [answer] = await answers_to(bob, sent.id)
        assert (answer.text, answer.hops, answer.automatic) == ("two\nlines bob", 1, False)
        assert [post.text for post in await bob.history("ada") if not post.sender.is_me] == ["two\nlines bob"]


async def test_filters_hold_together(tmp_path: Path) -> None:
    async with peer_at(tmp_path / "ada", "ada") as ada, peer_at(tmp_path / "bob", "bob", ada.endpoint) as bob:
        await bob.wait_user("ada", timeout=WAIT)
        group = await bob.create_group("ops", ["ada"])
        await bob.send(group, "it begins")
        await ada.wait_for(Message, timeout=WAIT)
        options = ["--anyone", "--in", "#ops", "--mention"]
        async with answering(tmp_path / "ada", options, "echo", "here"):
            for to, text in (("room", "@ada"), ("ada", "@ada"), (group, "nobody"), (group, "hello @ada")):
                last = await bob.send(to, text)
            await answers_to(bob, last.id, group)
        replies = [post.reply_to for to in ("room", "ada", group) for post in await bob.history(to) if post.reply_to]
        assert replies == [last.id]


async def test_it_runs_once_at_a_time_in_a_conversation_and_beside_in_others(tmp_path: Path) -> None:
    """It ends once it runs for another conversation, too, and says if it runs twice for one."""
    here = f'{tmp_path}/"$P2PCHAT_MESSAGE_KIND"'
    meet = f"[ -e {tmp_path}/dm ] && [ -e {tmp_path}/room ] && touch {tmp_path}/met; sleep 0.02"
    script = f"mkdir {here} || echo twice; while [ ! -e {tmp_path}/met ]; do {meet}; done; echo ran; rmdir {here}"
    async with peer_at(tmp_path / "ada", "ada") as ada, peer_at(tmp_path / "bob", "bob", ada.endpoint) as bob:
        await bob.wait_user("ada", timeout=WAIT)
        async with answering(tmp_path / "ada", ["--anyone"], "sh", "-c", script):
            sent = [await bob.send(to, "go") for to in ("room", "room", "ada", "ada")]
            for one, to in zip(sent, ("room", "room", "ada", "ada"), strict=True):
                assert [post.text for post in await answers_to(bob, one.id, to)] == ["ran"]


@pytest.mark.parametrize(("begin", "answer"), [("uptime", "load average"), ("python3 -c", "hello")])
async def test_a_command_of_the_page_answers(tmp_path: Path, begin: str, answer: str) -> None:
    lines = (ROOT / "docs" / "bots.md").read_text("utf-8").splitlines()
    [command] = [line.partition("--exec ")[2] for line in lines if f"--exec {begin}" in line]
    async with peer_at(tmp_path / "ada", "ada") as ada, peer_at(tmp_path / "bob", "bob", ada.endpoint) as bob:
        await bob.wait_user("ada", timeout=WAIT)
        async with answering(tmp_path / "ada", ["--from", "bob", "--dm"], *shlex.split(command)):
            sent = await bob.send("ada", "hello")
            assert [answer in post.text for post in await answers_to(bob, sent.id)] == [True]


async def test_a_message_starts_the_command_at_once(tmp_path: Path) -> None:
    took = []
    async with peer_at(tmp_path / "ada", "ada") as ada, peer_at(tmp_path / "bob", "bob", ada.endpoint) as bob:
        await bob.wait_user("ada", timeout=WAIT)
        async with answering(tmp_path / "ada", ["--anyone"], "touch", str(tmp_path / "ran")):
            for number in range(10):
                (tmp_path / "ran").unlink(missing_ok=True)
                began = time.monotonic()
                await bob.send("ada", f"message {number}")
                await until((tmp_path / "ran").exists, "the command")
                took.append(time.monotonic() - began)
    print(f"from message to command: {sorted(took)[5] * 1000:.0f} ms, at most {max(took) * 1000:.0f} ms")


async def test_a_failure_is_told_to_the_operator_and_if_wanted_to_the_writer(tmp_path: Path) -> None:
    async with peer_at(tmp_path / "ada", "ada") as ada, peer_at(tmp_path / "bob", "bob", ada.endpoint) as bob:
        await bob.wait_user("ada", timeout=WAIT)
        options = ["--anyone", "--tell-failures"]
        async with answering(tmp_path / "ada", options, "sh", "-c", "echo a secret; exit 3") as process:
            sent = await bob.send("ada", "hi")
            assert "of bob: the command failed: exit code 3" in await line_of(process, "failed")
            [answer] = await answers_to(bob, sent.id)
        assert (answer.text, answer.hops) == ("that failed; whoever runs this command sees why", HOP_LIMIT)


async def test_a_command_that_prints_without_end_is_ended_and_told(tmp_path: Path) -> None:
    async with peer_at(tmp_path / "ada", "ada") as ada, peer_at(tmp_path / "bob", "bob", ada.endpoint) as bob:
        await bob.wait_user("ada", timeout=WAIT)
        async with answering(tmp_path / "ada", ["--anyone", "--tell-failures"], "yes") as process:
            sent = await bob.send("ada", "hi")
            assert "printed more than 32768 bytes" in await line_of(process, "failed")
            assert [post.text[:11] for post in await answers_to(bob, sent.id)] == ["that failed"]


async def test_a_command_that_hangs_is_ended_with_its_children_and_holds_nobody_up(tmp_path: Path) -> None:
    script = f'if [ "$P2PCHAT_MESSAGE_TEXT" = hang ]; then sleep 1000 & echo $! >{tmp_path}/child; wait; fi; echo done'
    async with peer_at(tmp_path / "ada", "ada") as ada, peer_at(tmp_path / "bob", "bob", ada.endpoint) as bob:
        await bob.wait_user("ada", timeout=WAIT)
        async with answering(tmp_path / "ada", ["--anyone", "--timeout", "3"], "sh", "-c", script) as process:
            await bob.send("ada", "hang")
            sent = await bob.send("ada", "go on")
            assert "timed out" in await line_of(process, "failed")
            assert [post.text for post in await answers_to(bob, sent.id)] == ["done"]
            await until(lambda: not is_running(tmp_path / "child"), "the end of its child")


async def test_two_agents_that_answer_one_another_come_to_an_end(tmp_path: Path) -> None:
    async with peer_at(tmp_path / "ada", "ada") as ada, peer_at(tmp_path / "bob", "bob", ada.endpoint) as bob:
        await bob.wait_user("ada", timeout=WAIT)
        async with (
            answering(tmp_path / "ada", ["--anyone"], "echo", "and you?"),
            answering(tmp_path / "bob", ["--anyone"], "echo", "fine, and you?"),
        ):
            await bob.send("ada", "how are you?")
            async with asyncio.timeout(WAIT):
                while HOP_LIMIT not in [post.hops for post in await bob.history("ada")]:
                    await asyncio.sleep(0.05)
            await asyncio.sleep(1)
            assert [post.hops for post in await bob.history("ada")] == [*range(HOP_LIMIT + 1)]


async def test_a_killed_one_ends_its_command_lists_it_and_runs_it_again_if_told_so(tmp_path: Path) -> None:
    script = f"echo $$ >>{tmp_path}/ran; if [ ! -e {tmp_path}/go ]; then sleep 1000; fi; echo done"
    async with peer_at(tmp_path / "ada", "ada") as ada, peer_at(tmp_path / "bob", "bob", ada.endpoint) as bob:
        await bob.wait_user("ada", timeout=WAIT)
        process = await start(tmp_path / "ada", ["--anyone"], "sh", "-c", script)
        await line_of(process, READY)
        sent = await bob.send("ada", "hi")
        await until((tmp_path / "ran").exists, "the command")
        process.kill()
        await process.communicate()
        await until(lambda: not is_running(tmp_path / "ran"), "the end of the command")
        (tmp_path / "go").touch()
        process = await start(tmp_path / "ada", ["--anyone"], "sh", "-c", script)
        assert sent.id in await line_of(process, "-- interrupted, --retry runs it again")
        await line_of(process, READY)
        process.terminate()
        await process.communicate()
        async with answering(tmp_path / "ada", ["--anyone", "--retry"], "sh", "-c", script):
            assert [post.text for post in await answers_to(bob, sent.id)] == ["done"]
        assert len((tmp_path / "ran").read_text().split()) == 2


async def test_each_message_runs_once_or_is_listed_although_it_is_killed_again_and_again(tmp_path: Path) -> None:
    draw = random.Random(7)
    script = f"echo $P2PCHAT_MESSAGE_ID >>{tmp_path}/ran; sleep 0.$((RANDOM % 3)); echo $P2PCHAT_MESSAGE_ID"
    count, kills, ids = 200, 0, list[str]()
    async with peer_at(tmp_path / "ada", "ada") as ada, peer_at(tmp_path / "bob", "bob", ada.endpoint) as bob:
        await bob.wait_user("ada", timeout=WAIT)
        process = await start(tmp_path / "ada", ["--anyone"], "bash", "-c", script)

        async def write() -> None:
            for number in range(count):
                ids.append((await bob.send(["ada", "room"][number % 2], f"message {number}")).id)
                await asyncio.sleep(0.1)

        await line_of(process, READY)  # what came before its first start is not for it
        writing = asyncio.create_task(write())
        while not writing.done() or kills < 10:
            if kills and draw.random() < 0.7:
                await line_of(process, READY)
            await asyncio.sleep(draw.uniform(0, 0.6))  # a moment that is drawn
            process.kill()
            await process.communicate()
            kills += 1
            process = await start(tmp_path / "ada", ["--anyone"], "bash", "-c", script)
        await writing
        last = await bob.send("ada", "last"), await bob.send("room", "last")
        for sent in last:
            async with asyncio.timeout(WAIT * 2):
                while sent.id not in (tmp_path / "ran").read_text():
                    await asyncio.sleep(0.1)
        process.terminate()
        _, said = await process.communicate()
        listed = {word for line in said.decode().splitlines() if "interrupted" in line for word in line.split()}
        ran = (tmp_path / "ran").read_text().split()
        assert len(ran) == len(set(ran))
        assert set(ids) - set(ran) - listed == set()
        history = [*await bob.history("ada", limit=1000), *await bob.history("room", limit=1000)]
        replies = [post.reply_to for post in history if post.reply_to]
        assert len(replies) == len(set(replies)) and set(ids) - listed <= set(replies)
        print(f"{kills} kills, {len(ran)} ran, {len(listed & set(ids))} listed, {len(replies)} replies")


async def test_a_command_that_is_not_there_and_messages_of_nobody_are_refused(tmp_path: Path) -> None:
    async with peer_at(tmp_path / "ada", "ada"):
        for options, command, wrong in (
            ([], "true", "say whose messages may run it"),
            (["--anyone"], "no-such-command", "there is no command 'no-such-command'"),
        ):
            process = await start(tmp_path / "ada", options, command)
            assert wrong in await line_of(process, "p2pchat:")
            assert await process.wait() == 2
        process = await start(tmp_path / "ada", ["--from", "nobody"], "true")
        await line_of(process, "nobody here is called")
        assert await process.wait() == 4


def is_running(path: Path) -> bool:
    """Return whether the process runs whose id stands in a file."""
    with suppress(OSError, ValueError):
        os.kill(int(path.read_text().split()[-1]), 0)
        state = Path(f"/proc/{path.read_text().split()[-1]}/stat")
        return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
    return False
