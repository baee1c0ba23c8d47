"""`p2pchat` without a port: what is asked for, what is picked, and which profile is started again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest

from p2pchat import TCPPeer, home_directory, login_name
from p2pchat.cli.chat.startup import ChatOptions, next_steps, run_setup_wizard
from p2pchat.cli.profiles import FIRST_PORT
from p2pchat.cli.stdin import InputEnded
from p2pchat.commands.errors import UsageError
from p2pchat.commands.invites import JOIN_COMMAND
from p2pchat.commands.settings import ChatSettings, LastStart
from tests.cli.parsing import parse_chat


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def ports() -> list[int]:
    """Three ports that are free now, in order."""
    with ExitStack() as held:
        taken = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        return sorted(one.getsockname()[1] for one in taken)


class Person:
    """Gives these answers, None for Ctrl-D, and remembers what was asked."""

    def __init__(self, *answers: str | None) -> None:
        self._answers: Iterator[str | None] = iter(answers)
        self.asked: list[str] = []

    def __call__(self, prompt: str) -> str | None:
        self.asked.append(prompt)
        return next(self._answers)


def bare(*words: str) -> ChatOptions:
    return parse_chat(words, may_ask=True)


async def started(home: Path, port: int, name: str | None, *, says: str = "") -> None:
    """Leave behind what a peer of this port leaves; the port itself may be anybody's."""
    async with TCPPeer(data=home / str(port), name=name) as peer:
        if says:
            await peer.broadcast(says)


async def off_loop(options: ChatOptions, person: Person, invite: str | None = None) -> ChatOptions:
    """settle(), as the command line calls it: before there is a loop."""
    return await asyncio.to_thread(run_setup_wizard, options, invite, person)


def test_nothing_was_ever_started() -> None:
    person = Person("a@da", "room", " Ada  Lovelace".strip())
    options = run_setup_wizard(bare(), None, person)
    assert options.name == "Ada  Lovelace" and options.port >= FIRST_PORT and not options.endpoints
    assert person.asked == [f"Your name [{login_name()}]: "] * 3


def test_enter_takes_the_login_and_options_leave_less_to_ask() -> None:
    assert run_setup_wizard(bare(), None, Person("")).name == login_name()
    assert run_setup_wizard(bare("--name", "ada"), None, Person()).name == "ada"
    assert run_setup_wizard(bare("--temp", "--name", "ada"), None, Person()).is_temporary
    assert run_setup_wizard(bare("--host", "0.0.0.0"), None, Person("")).host == "0.0.0.0"


def test_the_end_of_input_is_an_answer_to_every_question() -> None:
    with pytest.raises(InputEnded):
        run_setup_wizard(bare(), None, Person(None))


def test_a_taken_port_is_left_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = run_setup_wizard(bare("--name", "ada"), None, Person()).port
        assert port != taken.getsockname()[1]
    with socket.create_server(("127.0.0.1", port)):
        assert run_setup_wizard(bare("--name", "ada"), None, Person()).port > port


def test_without_anybody_to_ask_it_stays_an_error() -> None:
    for words in ([], ["--name", "ada"]):
        with pytest.raises(UsageError, match="missing PORT"):
            parse_chat(words)
    with pytest.raises(UsageError, match="missing PORT"):
        bare("--json")  # a program does not answer questions


async def test_one_profile_is_started_again(home: Path, ports: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    await started(home, ports[0], "ada")
    options = await off_loop(bare(), Person())
    assert (options.port, options.name, options.data) == (ports[0], "", "")  # it knows its own name
    assert "starting ada again" in capsys.readouterr().err


async def test_it_listens_where_it_did_last_unless_told_otherwise(home: Path, ports: list[int]) -> None:
    await started(home, ports[0], "ada")
    last = LastStart("0.0.0.0", "chat.example:80", True)
    ChatSettings.load(home / str(ports[0])).remember_start(last)
    options = await off_loop(bare(), Person())
    assert (options.host, options.advertise, options.discover) == ("0.0.0.0", "chat.example:80", True)
    options = await off_loop(bare("--host", "127.0.0.1"), Person())
    assert (options.host, options.advertise) == ("127.0.0.1", "")
    assert last.reach_warning("127.0.0.1").endswith("--host 0.0.0.0")
    assert last.reach_warning("::") == LastStart().reach_warning("127.0.0.1") == ""


async def test_one_that_is_nobody_yet_is_no_reason_to_ask_which(home: Path, ports: list[int]) -> None:
    await started(home, ports[0], None)
    await started(home, ports[1], "bob")
    assert (await off_loop(bare(), Person())).port == ports[1]


async def test_one_without_a_name_is_asked_for_one(
    home: Path, ports: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "other"))
    async with TCPPeer(temporary=True) as other:
        invite = other.invite
    monkeypatch.setenv("P2PCHAT_HOME", str(home))
    async with TCPPeer(data=home / str(ports[0]), invite=invite):
        pass
    options = await off_loop(bare(), Person("ada"))
    assert (options.port, options.name) == (ports[0], "ada")


async def test_a_profile_whose_port_somebody_took_runs_on_another(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        await started(home, port, "ada")
        options = await off_loop(bare(), Person())
    assert options.port != port and options.data == str(home / str(port))


async def test_several_are_listed_and_enter_is_the_newest(
    home: Path, ports: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    await started(home, ports[1], "bob")
    await started(home, ports[0], "ada")
    person = Person("")
    assert (await off_loop(bare(), person)).port == ports[0]
    listed = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0].split() for line in listed[1:4]] == [
        ["1", str(ports[0]), "ada"],
        ["2", str(ports[1]), "bob"],
        ["n", "a", "new", "profile"],
    ]
    assert (await off_loop(bare(), Person("9", "x", "2"))).port == ports[1]
    assert (await off_loop(bare(), Person("bob"))).port == ports[1]
    another = await off_loop(bare(), Person("N", "cyd"))
    assert another.name == "cyd" and another.port not in ports


async def test_one_that_runs_is_a_hint_and_no_error(
    home: Path, ports: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    await started(home, ports[1], "bob")
    async with TCPPeer(data=home / str(ports[0]), name="ada"):
        assert (await off_loop(bare(), Person("2", ""))).port == ports[1]
        assert (
            f"ada is already running on port {ports[0]}: `p2pchat send room TEXT --port {ports[0]}`"
            in capsys.readouterr().err
        )
        assert (await off_loop(bare("--name", "ada"), Person("", ""))).port == ports[1]


async def test_beside_those_that_run_it_is_one_more_peer_linked_with_them(home: Path, ports: list[int]) -> None:
    async with TCPPeer(data=home / str(ports[0]), name=login_name()):
        person = Person("")
        options = await off_loop(bare(), person)
        assert options.endpoints == (f"127.0.0.1:{ports[0]}",)
        assert options.name == f"{login_name()}-{options.port}"  # two of one name would only be in the way


async def test_who_started_while_the_name_was_asked_for_has_the_port_and_is_linked_with(
    ports: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pchat.cli.profiles.FIRST_PORT", ports[0])
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:

        def eve_after_fay(prompt: str) -> str:
            fay = stack.enter_async_context(TCPPeer(ports[0], name="fay"))
            asyncio.run_coroutine_threadsafe(fay, loop).result(10)
            return "eve"

        options = await asyncio.to_thread(run_setup_wizard, bare(), None, eve_after_fay)
    assert (options.name, options.endpoints) == ("eve", (f"127.0.0.1:{ports[0]}",)) and options.port > ports[0]


async def test_a_name_is_enough_to_say_which(home: Path, ports: list[int]) -> None:
    await started(home, ports[0], "ada")
    await started(home, ports[1], "bob")
    assert (await off_loop(bare("--name", "ada"), Person())).port == ports[0]
    new = await off_loop(bare("--name", "cyd"), Person())
    assert new.name == "cyd" and new.port not in ports


async def test_a_directory_knows_its_name(home: Path) -> None:
    elsewhere = home / "elsewhere"
    assert (await off_loop(bare("--data", str(elsewhere)), Person("ada"))).name == "ada"
    async with TCPPeer(data=elsewhere, name="ada"):
        pass
    assert (await off_loop(bare("--data", str(elsewhere)), Person())).name == ""


async def test_an_invite_goes_to_a_profile_that_can_take_it(
    home: Path, ports: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "other"))
    async with TCPPeer(temporary=True) as other:
        invite = other.invite
    monkeypatch.setenv("P2PCHAT_HOME", str(home))
    assert home_directory() == home
    await started(home, ports[0], "ada", says="mine")  # belongs to the login's network for good
    assert (await off_loop(bare("--invite", "-"), Person("bob"), invite)).port != ports[0]
    await started(home, ports[1], "bob")  # was never used
    assert (await off_loop(bare("--invite", "-"), Person(), invite)).port == ports[1]
    async with TCPPeer(data=home / str(ports[2]), invite=invite, name="cyd"):
        pass
    assert (await off_loop(bare("--invite", "-"), Person(), invite)).port == ports[2]  # has joined it already


def test_what_to_do_next_is_three_short_lines() -> None:
    for host in ("127.0.0.1", "0.0.0.0"):
        lines = next_steps(8080, host, ["ada"], dials=False).splitlines()
        assert len(lines) == 3 and all(len(line) < 80 for line in lines)
        assert " 8080 --name bob" in lines[0] and "/help" in lines[2]
    assert next_steps(8080, "127.0.0.1", [], dials=False).splitlines()[1].endswith(" 8080 --host 0.0.0.0")
    assert JOIN_COMMAND in next_steps(8080, "0.0.0.0", [], dials=False)
    assert len(next_steps(8080, "127.0.0.1", [], dials=True).splitlines()) == 1
    assert " --name carol" in next_steps(8080, "127.0.0.1", ["ada", "bob"], dials=False)  # a name nobody has
