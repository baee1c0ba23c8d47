"""The examples run as written, in their own processes, with a peer of the test."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aiohttp
import httpx
import pytest
import socketio

from p2pchat import Events, Left, Message, Settings, TCPPeer, User
from p2pchat.identity.network import load_network
from p2pchat.protocol import Have
from tests.hostile.attacker import Attacker, invented_identity
from tests.json_lines import lines_of
from tests.ports import free_ports
from tests.web.socketio_client import SocketUser

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LONGER = {"existing_users.py": 66}  # a whole program with a database and sessions
PATIENCE = 60.0  # seconds until an example counts as hung
NODE = shutil.which("node")
NODE_SINCE = 20  # the oldest release that the peer in JavaScript runs on


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    return tmp_path


def node() -> str:
    """Return the path of Node; skip the test without one that is new enough."""
    if NODE is None:
        pytest.skip("node is not installed")
    version = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < NODE_SINCE:
        pytest.skip(f"the peer in JavaScript needs node {NODE_SINCE}, and this is {version}")
    return NODE


@asynccontextmanager
async def example(name: str, *args: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        node() if name.endswith(".mjs") else sys.executable,
        str(ROOT / "examples" / name),
        *args,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def output(name: str, *args: str) -> tuple[int | None, str, str]:
    async with example(name, *args) as process:
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
        return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_fits_on_a_screen_and_uses_public_names(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) < LONGER.get(path.name, 40)
    imports = [line for line in lines if line.startswith(("from p2pchat", "import p2pchat"))]
    assert imports
    assert all(
        line.startswith(tuple(f"from p2pchat{module} import " for module in ("", ".bots", ".sync", ".testing", ".web")))
        for line in imports
    )


@pytest.mark.parametrize("name", ["echo_bot.py", "inside_a_program.py", "send_report.py", "worker_threads.py"])
async def test_an_example_without_arguments_prints_its_usage(name: str) -> None:
    code, out, err = await output(name)
    assert (code, out) == (1, "")
    assert err.startswith(f"usage: python examples/{name} PORT ")
    assert len(err.splitlines()) == 1


@pytest.mark.skipif(os.name != "posix", reason="there is no Ctrl-C for one process alone elsewhere")
async def test_ctrl_c_ends_the_echo_bot_without_a_traceback(home: Path) -> None:
    async with example("echo_bot.py", "0") as process:
        assert process.stdout is not None
        assert (await asyncio.wait_for(process.stdout.readline(), PATIENCE)).startswith(b"echo listens")
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), PATIENCE)
        assert (process.returncode, err) == (0, b"")


async def test_the_echo_bot_answers() -> None:
    async with TCPPeer(temporary=True, name="ada") as ada:
        async with example("echo_bot.py", "0", ada.endpoint):
            await ada.wait_user("echo", timeout=PATIENCE)
            answers = ada.events(Message)
            sent = await ada.send("echo", "hello, wall")
            answer = await asyncio.wait_for(anext(answers), PATIENCE)
            assert (answer.text, answer.sender.name, answer.reply_to) == ("hello, wall", "echo", sent.id)


async def text_from(name: str, messages: Events[Message]) -> str:
    """Return the text of the next message of a user with this name."""
    async with asyncio.timeout(PATIENCE):
        async for message in messages:
            if message.sender.name == name:
                return message.text
    raise AssertionError("the events have ended")


async def test_the_weather_bot_answers() -> None:
    async with TCPPeer(temporary=True, name="ada") as ada, ada.events(Message) as messages:
        async with example("weather_bot.py", "0", ada.endpoint):
            await ada.wait_user("weather", timeout=PATIENCE)
            # What is said before the bot has compared the room is history to it, which it does not answer.
            await (await ada.broadcast("good morning")).delivered(by="weather", timeout=PATIENCE)
            await ada.broadcast("!weather Lisbon")
            assert await text_from("weather", messages) == "Lisbon: sun, 21 °C"


async def test_reminders_survive_a_killed_bot(home: Path) -> None:
    words = ("0", "--data", str(home / "bot"))
    async with TCPPeer(temporary=True, name="ada") as ada, ada.events(Message) as messages:
        async with example("reminder_bot.py", *words, ada.endpoint) as bot:
            await ada.wait_user("reminder", timeout=PATIENCE)
            asked = await ada.send("reminder", "remind 0.05 drink  tea")
            assert await text_from("reminder", messages) == "in 0.05 minutes"
            await asked.read(timeout=PATIENCE)  # it is handled, and not handled again
            bot.kill()
            await bot.wait()
        async with example("reminder_bot.py", *words, ada.endpoint):
            assert await text_from("reminder", messages) == "reminder: drink  tea"


async def test_the_build_bot_tells_of_a_change(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = home / "status.txt"
    monkeypatch.setenv("BUILD_STATUS", str(status))
    status.write_text("passed", "utf-8")
    async with TCPPeer(temporary=True, name="ada") as ada, ada.events(Message) as messages:
        async with example("build_bot.py", "0", ada.endpoint):
            await ada.wait_user("build", timeout=PATIENCE)
            await ada.send("build", "status")
            assert await text_from("build", messages) == "passed"
            (home / "new").write_text("failed", "utf-8")
            (home / "new").replace(status)  # it is never read half written
            assert await text_from("build", messages) == "the build is failed, it was passed"


async def test_the_script_reports_the_delivery() -> None:
    async with TCPPeer(temporary=True, name="ada") as ada:
        reports = ada.events(Message)
        code, out, err = await output("send_report.py", "0", ada.endpoint, "ada", "the backup is done")
        assert (code, out, err) == (0, f"ada has it{os.linesep}", "")
        report = await asyncio.wait_for(anext(reports), PATIENCE)
        assert (report.sender.name, report.text) == ("report", "the backup is done")
        code, _, err = await output("send_report.py", "0", ada.endpoint, "adda", "for nobody")
        assert code == 4
        assert "'adda'" in err


async def test_the_builder_reports_to_the_room() -> None:
    async with TCPPeer(temporary=True, name="ada") as ada:
        code, out, err = await output("inside_a_program.py", "0", ada.endpoint)
        assert (code, err) == (0, "")
        steps = [f"builder {worker}: step {step} of 3" for worker in ("compile", "test") for step in (1, 2, 3)]
        assert sorted(out.splitlines()) == sorted(steps)


async def test_the_worker_threads_stop_when_somebody_says_so() -> None:
    async with TCPPeer(temporary=True, name="ada") as ada:
        reports = ada.events(Message)
        async with example("worker_threads.py", "0", ada.endpoint) as process:
            first: set[str] = set()
            while not {"left: step 1", "right: step 1"} <= first:
                first.add((await asyncio.wait_for(anext(reports), PATIENCE)).text)
            await ada.broadcast("stop")
            stopped: set[str] = set()
            while len(stopped) < 2:
                name, _, text = (await asyncio.wait_for(anext(reports), PATIENCE)).text.partition(": ")
                stopped |= {name} if text.startswith("stopped after ") else set()
            assert await asyncio.wait_for(process.communicate(), PATIENCE) == (b"", b"")
            assert process.returncode == 0


async def test_both_sides_of_a_partition_end_with_one_history() -> None:
    code, out, err = await output("partition.py")
    assert (code, err) == (0, "")
    first, *histories = out.splitlines()
    assert first == "not with bob, cyd"
    assert [line.partition(" ")[0] for line in histories] == ["ada", "bob", "cyd"]
    assert len({line.partition(" ")[2] for line in histories}) == 1
    assert "is anybody there?" in histories[0]
    assert "ada is gone" in histories[0]


def test_the_peer_in_javascript_gives_every_result_of_the_vectors() -> None:
    done = subprocess.run([node(), str(ROOT / "tests" / "peer_vectors.mjs")], capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, b""), done.stdout.decode()
    lines = done.stdout.decode().splitlines()
    count = len(
        json.loads((ROOT / "conformance/p2pchat_conformance/vectors/signatures.json").read_text("utf-8"))["vectors"]
    )
    assert f"signatures.json: {count} of {count}" in lines


async def test_the_peer_in_javascript_without_an_invite_prints_its_usage() -> None:
    assert await output("peer.mjs") == (1, "", "usage: node examples/peer.mjs FILE INVITE [HOST:PORT]\n")


def pongs(trace: Path, peer: str) -> int:
    """Count the answers to pings that a trace shows from one peer, given by its id in hex."""
    frames = [line["frame"] for line in lines_of(trace) if line["event"] == "frame" and line["peer"] == peer]
    return sum(frame["t"] == "pong" for frame in frames)


async def answer_of(user: User, messages: Events[Message]) -> Message:
    """Return the next message of a user; those of others are passed over."""
    async with asyncio.timeout(PATIENCE):
        async for message in messages:
            if message.sender == user:
                return message
    raise AssertionError("the events have ended")


async def endpoint_of(process: asyncio.subprocess.Process) -> str:
    """Return the endpoint that the peer in JavaScript prints when it listens."""
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), PATIENCE)).decode()
    assert line.startswith("echo is ")
    return line.split()[-1]


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGTERM to catch elsewhere")
async def test_the_peer_in_javascript_in_a_mesh_with_two_others(home: Path) -> None:
    quick = Settings(ping_after=0.3, dead_after=60.0)  # seconds
    trace = home / "trace"
    async with (
        TCPPeer(temporary=True, name="ada", settings=quick, trace=trace) as ada,
        TCPPeer(0, ada.endpoint, temporary=True, name="bob", settings=quick) as bob,
    ):
        seen = {peer: peer.events(Left, consumer=None) for peer in (ada, bob)}
        heard = {peer: peer.events(Message) for peer in (ada, bob)}
        code = str(await ada.make_invite()).partition("@")[0]
        command = ("peer.mjs", str(home / "echo.jsonl"), f"{code}@127.0.0.1:1,{ada.endpoint}")  # nobody is at the first
        async with example(*command) as process:
            echo = await ada.wait_user("echo", timeout=PATIENCE)
            await bob.wait_user("echo", timeout=PATIENCE)  # ada's peer told each of them of the other

            said = await ada.broadcast("echo hällo, 世界 \U0001f30d")
            answer = await answer_of(echo, heard[ada])
            assert (answer.text, answer.reply_to) == ("hällo, 世界 \U0001f30d", said.id)
            answer = await answer_of(echo, heard[bob])
            assert (answer.text, answer.reply_to) == ("hällo, 世界 \U0001f30d", said.id)

            sent = await bob.send("echo", 'zwischen uns: \u00e9\u0301 \u202e\t\n"')
            await sent.delivered(timeout=PATIENCE)
            answer = await answer_of(echo, heard[bob])
            assert (answer.text, answer.reply_to) == ('zwischen uns: \u00e9\u0301 \u202e\t\n"', sent.id)
            assert (answer.conversation.kind, answer.hops) == ("dm", 0)

            for hops in (8, 7, 1):
                await bob.send("echo", f"after {hops} hops", hops=hops)
            for text, hops in (("after 7 hops", 8), ("after 1 hops", 2)):
                answer = await answer_of(echo, heard[bob])
                assert (answer.text, answer.hops) == (text, hops)

            huge = "\x01" * 10_500  # six times as long in an entry, almost the limit
            await bob.send("echo", huge)
            assert (await answer_of(echo, heard[bob])).text == huge
            async with asyncio.timeout(PATIENCE):
                while pongs(trace, echo.key) < 4:
                    await asyncio.sleep(0.05)  # poll: no event reports a line of the trace
            async with TCPPeer(0, await endpoint_of(process), temporary=True, name="cyd") as cyd:
                sent = await cyd.send("echo", "you listen")
                await sent.delivered(timeout=PATIENCE)
                answers = cyd.events(Message)
                while (await answer_of(echo, answers)).text != "you listen":  # those of the room may come first
                    pass
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
        for peer in (ada, bob):
            async with asyncio.timeout(PATIENCE):
                while (left := await anext(seen[peer])).user != echo:
                    pass
            assert left.reason == "left"

        sent = await ada.send("echo", "are you back?")
        async with example(*command):
            await sent.delivered(timeout=PATIENCE)
            answer = await answer_of(echo, heard[ada])
            assert (answer.text, answer.reply_to) == ("are you back?", sent.id)
        async with example(*command):  # killed: nothing is answered twice
            await (await bob.send("echo", "and I?")).delivered(timeout=PATIENCE)
            assert (await answer_of(echo, heard[bob])).text == "and I?"
            await ada.broadcast("echo enough")
            assert (await answer_of(echo, heard[ada])).text == "enough"
    batches = [line for line in lines_of(home / "echo.jsonl") if "e" in line]
    begun = [json.loads(batch["h"]) for batch in batches if batch["u"] == echo.key and batch["first"] == 1]
    starts = Counter(bool(header["before"]) for header in begun)
    assert starts == {False: 4, True: 2}  # room, bob, cyd, ada; then each log names the one before it


async def test_what_the_peer_in_javascript_holds_reaches_who_was_away(home: Path) -> None:
    port = int(free_ports(1)[0])
    async with TCPPeer(port, data=home / "ada", name="ada") as ada:
        invite = str(await ada.make_invite())
        async with example("peer.mjs", str(home / "echo.jsonl"), invite) as process:
            own = await endpoint_of(process)
            echo = await ada.wait_user("echo", timeout=PATIENCE)
            await (await ada.send("echo", "first")).delivered(timeout=PATIENCE)
            assert (await answer_of(echo, ada.events(Message))).text == "first"
            await ada.aclose()
            async with TCPPeer(0, own, temporary=True, name="bob") as bob:
                await bob.broadcast("echo to whom it may concern")
                assert (await answer_of(echo, bob.events(Message))).text == "to whom it may concern"
            async with TCPPeer(port, data=home / "ada", name="ada") as again:
                answers = again.events(Message)  # what came before the stop may come again
                while (await answer_of(echo, answers)).text != "to whom it may concern":
                    pass
                texts = [post.text for post in await again.history("room")]
                assert texts == ["echo to whom it may concern", "to whom it may concern"]  # bob is gone


async def test_attachments_do_the_peer_in_javascript_no_harm(home: Path) -> None:
    """It shows the text, is asked for no content, and passes messages on with the files that they name."""
    port = int(free_ports(1)[0])
    async with TCPPeer(port, data=home / "ada", name="ada", trace=home / "trace") as ada:
        async with example("peer.mjs", str(home / "echo.jsonl"), str(await ada.make_invite())) as process:
            own, echo, writer = await endpoint_of(process), await ada.wait_user("echo", timeout=PATIENCE), ada.me
            heard = ada.events(Message)
            for text in ("look", ""):
                sent = await ada.send("echo", text, files=[("large", bytes(300_000)), ("small", b"1")])
                await sent.delivered(timeout=PATIENCE)
                assert (await answer_of(echo, heard)).text == text
            await (await ada.send(ada.room, "for all", files=[("plan.txt", b"tea")])).delivered(timeout=PATIENCE)
            await ada.aclose()
            async with TCPPeer(0, own, data=home / "bob", name="bob") as bob:
                message = await answer_of(writer, bob.events(Message))
                [file] = message.attachments
                assert (message.text, file.name, await file.is_here()) == ("for all", "plan.txt", False)
                async with TCPPeer(port, f"127.0.0.1:{bob.port}", data=home / "ada", name="ada"):
                    assert await asyncio.wait_for(file.read(), PATIENCE) == b"tea"
            assert process.returncode is None
    frames = [line.get("frame") for line in lines_of(home / "trace")]
    assert not [frame for frame in frames if isinstance(frame, dict) and frame.get("t") in ("pull", "lacks", "holds")]


async def pass_on_an_odd_entry(lenient: Attacker, port: int) -> None:
    """Pass on what eve signed. The other end takes it all, and what eve's next run wrote."""
    await lenient.join(port)
    eve, odd = invented_identity("eve"), '{"k":"text","at":1,"b":"hi","t":"yesterday"}'
    first = lenient.pen(eve, lenient.room, run="e1" * 8)
    clock = 1_760_000_000_000_002
    lenient.say(first.say("good"), first.write((clock, odd), (clock + 1, "no JSON")), first.say("behind it"))
    later = lenient.pen(eve, lenient.room, run="e2" * 8, before=[first.mark])
    lenient.say(later.say("from the repaired program"), Have({lenient.room: {eve.peer_id: [later.mark]}}))
    await lenient.until(lambda: later.mark in lenient.marks(eve.peer_id))
    assert not lenient.over
    await lenient.disconnect()


async def texts_of_eve(heard: Events[Message]) -> list[str]:
    """Return the next five messages of eve, whatever others say meanwhile; "" for each that cannot be read."""
    eve = invented_identity("eve").peer_id
    said: list[str] = []
    while len(said) < 5:
        message = await asyncio.wait_for(anext(heard), PATIENCE)
        if message.sender.key == eve:
            said.append("" if message.unsupported else message.text)
    return said


async def test_an_odd_entry_costs_the_peer_in_javascript_no_link(home: Path) -> None:
    quick = Settings(digest_every=0.5)  # seconds
    trace = home / "trace"
    async with (
        TCPPeer(temporary=True, name="ada", settings=quick, trace=trace) as ada,
        TCPPeer(0, ada.endpoint, temporary=True, name="bob", settings=quick) as bob,
        example("peer.mjs", str(home / "echo.jsonl"), str(await ada.make_invite())) as process,
    ):
        heard = {peer: peer.events(Message) for peer in (ada, bob)}
        port = int((await endpoint_of(process)).rpartition(":")[2])
        echo = await ada.wait_user("echo", timeout=PATIENCE)
        await bob.wait_user("echo", timeout=PATIENCE)
        network = load_network(home / "home" / "network")
        assert network is not None
        await pass_on_an_odd_entry(Attacker("dan", network), port)
        for peer in (ada, bob):
            assert await texts_of_eve(heard[peer]) == ["good", "", "", "behind it", "from the repaired program"]
        said = await ada.broadcast("echo still here")
        for peer in (ada, bob):
            answer = await answer_of(echo, heard[peer])
            assert (answer.text, answer.reply_to) == ("still here", said.id)
        await (await bob.send("echo", "and we two")).delivered(timeout=PATIENCE)
        assert (await answer_of(echo, heard[bob])).text == "and we two"
    byes = {
        line["frame"]["code"] for line in lines_of(trace) if line["event"] == "frame" and line["frame"]["t"] == "bye"
    }
    assert byes <= {"left"}


async def test_the_peer_in_javascript_is_expelled_and_pardoned(home: Path) -> None:
    """Its member is one person: ada expels it, bob refuses it too, it learns who did it, and it comes back."""
    async with (
        TCPPeer(temporary=True, name="ada") as ada,
        TCPPeer(0, ada.endpoint, temporary=True, name="bob") as bob,
        example("peer.mjs", str(home / "echo.jsonl"), await ada.make_invite()) as process,
    ):
        left = {peer: peer.events(Left, consumer=None) for peer in (ada, bob)}
        echo = await ada.wait_user("echo", timeout=PATIENCE)
        await bob.wait_user("echo", timeout=PATIENCE)
        expelled = await ada.people.expel(echo)
        assert [user.key for user in expelled.users] == [echo.key] and expelled.key != echo.key
        for peer in (ada, bob):
            gone = await asyncio.wait_for(anext(left[peer]), PATIENCE)
            assert (gone.user, gone.reason) == (echo, "expelled")
        assert process.stderr is not None
        assert await asyncio.wait_for(process.stderr.readline(), PATIENCE) == b"not admitted: member\n"
        said = [line["s"] for line in lines_of(home / "echo.jsonl") if "s" in line]
        assert any(json.loads(text)["k"] == "remove" for pairs in said for text, _ in pairs)  # it knows who did it
        await ada.people.pardon(echo)
        await (await ada.send("echo", "welcome back")).delivered(timeout=PATIENCE)
        assert (await answer_of(echo, ada.events(Message))).text == "welcome back"


# ---- users of a program


@asynccontextmanager
async def company(home: Path, page: str, port: str) -> AsyncIterator[None]:
    """Run the program with users of its own; it answers when this begins."""
    words = ("uvicorn", "--app-dir", str(ROOT / "examples"), "existing_users:app", "--port", page, "--no-proxy-headers")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "USERS": str(home / "users.db"), "PORT": port}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *words, "--timeout-graceful-shutdown", "1", "--log-level", "warning", env=environment
    )
    try:
        async with asyncio.timeout(4 * PATIENCE), httpx.AsyncClient(trust_env=False) as http:
            while True:
                try:
                    await http.get(f"http://127.0.0.1:{page}/chat/healthz")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)  # poll: the program reports its start to nobody
        yield
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def signed_in(url: str, password: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=PATIENCE) as http:
        answer = await http.post("/login", json={"name": "Max Miller", "password": password})
        assert answer.status_code == 200, answer.text
        yield http


async def registered(http: httpx.AsyncClient, user: SocketUser) -> str:
    """Connect the Socket.IO client of a user who is signed in; return its name."""
    await user.io.connect(
        str(http.base_url), headers={"Cookie": f"session={http.cookies['session']}"}, socketio_path="chat/socket.io",
        transports=["websocket"], wait_timeout=PATIENCE,
    )  # fmt: skip
    return str((await user.say("register", {}))["userId"])


async def test_a_program_gives_its_users_the_chat_over_a_restart_and_the_end_of_a_session(home: Path) -> None:
    page, port = free_ports(2)
    url = f"http://127.0.0.1:{page}"
    async with company(home, page, port), aiohttp.ClientSession() as session:
        with closing(sqlite3.connect(home / "users.db")) as database, database:
            database.executemany("INSERT INTO users VALUES (?, 'Max Miller', ?)", [(1, "one"), (2, "two")])
        async with signed_in(url, "one") as one, signed_in(url, "two") as two:
            user = SocketUser(session)
            assert (await one.get("/chat/v1/conversations")).status_code == 200
            assert (await registered(two, user)).startswith("Max Miller#")  # the other one is called so, too
            said = {"to": "room", "content": "hello"}
            assert (await one.post("/chat/v1/messages", json=said)).status_code == 201
            assert (await user.hear("newMessage"))["content"] == "hello"
            await two.post("/logout")
            await asyncio.wait_for(user.gone.wait(), PATIENCE)
            assert (await two.get("/chat/v1/conversations")).status_code == 401
            with pytest.raises(socketio.exceptions.ConnectionError):
                await registered(two, SocketUser(session))
            cookies = one.cookies
    async with company(home, page, port), aiohttp.ClientSession() as session:
        async with httpx.AsyncClient(base_url=url, cookies=cookies, trust_env=False, timeout=PATIENCE) as one:
            found = (await one.get("/chat/v1/messages")).json()
            assert [row["content"] for row in found] == ["hello"]
        async with signed_in(url, "two") as two:
            user = SocketUser(session)
            await registered(two, user)
            await two.post("/logout")
            await asyncio.wait_for(user.gone.wait(), PATIENCE)
