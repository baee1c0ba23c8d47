"""The setup wizard, startup errors, the network joined, and the limit of open files."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from p2pchat import (
    DataLocked,
    History,
    InviteError,
    Link,
    P2PChatError,
    PortInUse,
    StorageError,
    TCPPeer,
    home_directory,
    login_name,
    own_addresses,
)
from p2pchat.cli.chat_startup import (
    ChatOptions,
    JoinSummary,
    StartupErrors,
    next_steps,
    open_to_others,
    run_setup_wizard,
)
from p2pchat.cli.profiles import is_free
from p2pchat.cli.program import program
from p2pchat.cli.standard_input import InputEnded
from p2pchat.commands.exit_codes import CommandError, UsageError
from p2pchat.commands.invite_screen import JOIN_COMMAND
from p2pchat.commands.last_start import LastStart
from tests.cli.parsing import parse_chat
from tests.ports import free_ports
from tests.test_devices import Adding


@pytest.fixture(autouse=True)
def first_port(monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the port from which on the wizard looks for a free one, instead of 8080, where a developer may chat."""
    port = int(free_ports(1)[0])
    monkeypatch.setattr("p2pchat.cli.profiles.FIRST_PORT", port)
    return port


@pytest.fixture
def ports() -> list[int]:
    """Three ports that are free now, in order."""
    return sorted(map(int, free_ports(3)))


class Person:
    """Gives these answers, None for Ctrl-D, and records the questions."""

    def __init__(self, *answers: str | None) -> None:
        self._answers: Iterator[str | None] = iter(answers)
        self.asked: list[str] = []

    def __call__(self, prompt: str) -> str | None:
        self.asked.append(prompt)
        return next(self._answers)


def bare(*words: str) -> ChatOptions:
    return parse_chat(words, may_ask=True)


async def started(
    home: Path, port: int, name: str | None, *, says: str = "", terminal: bool = True, invite: str | None = None
) -> None:
    """Create the profile of a port by running a peer, on any port; a program's, or one that had a terminal."""
    async with TCPPeer(data=home / str(port), name=name, invite=invite) as peer:
        if says:
            await peer.broadcast(says)
    if terminal:
        LastStart(terminal=True).save(home / str(port))


async def off_loop(options: ChatOptions, person: Person, invite: str | None = None) -> ChatOptions:
    """Run the setup wizard as the command line does: without a loop."""
    return await asyncio.to_thread(run_setup_wizard, options, invite, person)


def test_without_a_profile_a_name_is_asked_for(first_port: int) -> None:
    person = Person("a@da", "room", " Ada  Lovelace".strip())
    options = run_setup_wizard(bare(), None, person)
    assert options.name == "Ada  Lovelace" and options.port >= first_port and not options.endpoints
    assert person.asked == [f"Your name [{login_name()}]: "] * 3


def test_enter_takes_the_login_name_and_options_skip_questions() -> None:
    assert run_setup_wizard(bare(), None, Person("")).name == login_name()
    assert run_setup_wizard(bare("--name", "ada"), None, Person()).name == "ada"
    assert run_setup_wizard(bare("--temp", "--name", "ada"), None, Person()).is_temporary
    assert run_setup_wizard(bare("--host", "0.0.0.0"), None, Person("")).host == "0.0.0.0"


def test_end_of_input_cancels_the_wizard() -> None:
    with pytest.raises(InputEnded):
        run_setup_wizard(bare(), None, Person(None))


def test_a_taken_port_is_skipped(first_port: int) -> None:
    with socket.create_server(("127.0.0.1", first_port)):
        port = run_setup_wizard(bare("--name", "ada"), None, Person()).port
        assert port > first_port
        with socket.create_server(("127.0.0.1", port)):
            assert run_setup_wizard(bare("--name", "ada"), None, Person()).port > port


def test_without_a_terminal_a_missing_port_is_an_error() -> None:
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


async def test_a_profile_that_is_shut_out_is_marked_and_comes_last(
    home: Path, ports: list[int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for port, name in zip(ports, ("ada", "old"), strict=False):
        await started(home, port, name)
    monkeypatch.setattr(
        History, "expelled_by", property(lambda history: history.me if history.me.name == "old" else None)
    )
    options = await off_loop(bare(), Person(""))
    listed = capsys.readouterr().err
    assert re.search(rf"  2  {ports[1]} +old, used [0-9:]+, shut out: it sends and gets nothing\n  n  a new", listed)
    assert options.port == ports[0]


async def test_a_profile_listens_where_it_did_last_time_by_default(home: Path, ports: list[int]) -> None:
    await started(home, ports[0], "ada")
    last = LastStart("0.0.0.0", "chat.example:80", True, listen=False, terminal=True)
    last.save(home / str(ports[0]))
    options = await off_loop(bare(), Person())
    assert (options.host, options.advertise, options.discover) == ("0.0.0.0", "chat.example:80", True)
    assert options.no_listen
    port = str(ports[0])
    assert (parse_chat([port]).host, parse_chat([port]).no_listen) == ("0.0.0.0", True)  # with its port too
    options = parse_chat([port, "--discover", "--network", "lab"])
    assert (options.host, options.advertise, options.no_listen) == ("0.0.0.0", "", False)  # another profile
    for said in (await off_loop(bare("--host", "127.0.0.1"), Person()), parse_chat([port, "--host", "127.0.0.1"])):
        assert (said.host, said.advertise, said.discover, said.no_listen) == ("127.0.0.1", "", False, False)


async def test_an_unused_profile_is_not_offered(home: Path, ports: list[int]) -> None:
    await started(home, ports[0], None)
    await started(home, ports[1], "bob")
    assert (await off_loop(bare(), Person())).port == ports[1]


async def test_a_profile_without_a_name_is_asked_for_one(
    home: Path, ports: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "other"))
    async with TCPPeer(temporary=True) as other:
        invite = await other.make_invite()
    monkeypatch.setenv("P2PCHAT_HOME", str(home))
    await started(home, ports[0], None, invite=invite)
    options = await off_loop(bare(), Person("ada"))
    assert (options.port, options.name) == (ports[0], "ada")


async def test_a_profile_whose_port_is_taken_uses_another(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        await started(home, port, "ada")
        options = await off_loop(bare(), Person())
    assert options.port != port and options.data == str(home / str(port))


async def test_several_profiles_are_listed_and_enter_takes_the_newest(
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


async def test_of_several_profiles_that_do_not_run_one_is_chosen_also_while_another_runs(
    home: Path, ports: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    await started(home, ports[1], "bob")
    async with TCPPeer(data=home / str(ports[0]), name="ada"):
        assert (await off_loop(bare(), Person())).port == ports[1]
        await started(home, ports[2], "cyd")
        assert (await off_loop(bare(), Person(""))).port == ports[2]
        assert (await off_loop(bare(), Person("bob"))).port == ports[1]
        capsys.readouterr()
        assert (await off_loop(bare("--name", "ada"), Person("bob"))).port == ports[1]
        assert (
            f"ada is already running on port {ports[0]}: `p2pchat send room TEXT --port {ports[0]}`"
            in capsys.readouterr().err
        )


async def test_the_profile_of_a_program_is_no_choice_for_a_person(home: Path, ports: list[int]) -> None:
    await started(home, ports[0], "ada")
    await started(home, ports[1], "bot", terminal=False)  # used last
    assert (await off_loop(bare(), Person())).port == ports[0]
    assert (await off_loop(bare("--name", "bot"), Person())).port == ports[1]  # chosen by its name
    async with TCPPeer(data=home / str(ports[0]), name="ada"):
        assert (await off_loop(bare(), Person("cyd"))).port not in ports


async def test_if_all_profiles_run_a_new_peer_links_with_one(home: Path, ports: list[int]) -> None:
    async with TCPPeer(data=home / str(ports[0]), name=login_name()):
        person = Person("")
        options = await off_loop(bare(), person)
        assert options.endpoints == (f"127.0.0.1:{ports[0]}",)
        assert options.name == f"{login_name()}-{options.port}"  # a name of its own


async def test_a_new_peer_links_with_the_one_that_was_started_last(home: Path, ports: list[int]) -> None:
    async with TCPPeer(data=home / str(ports[1]), name="ada"), TCPPeer(data=home / str(ports[0]), name="bob"):
        os.utime(home / str(ports[1]) / "lock.pid", (0, time.time() - 60))
        assert (await off_loop(bare(), Person("cyd"))).endpoints == (f"127.0.0.1:{ports[0]}",)
        os.utime(home / str(ports[0]) / "lock.pid", (0, time.time() - 120))
        assert (await off_loop(bare(), Person("cyd"))).endpoints == (f"127.0.0.1:{ports[1]}",)


async def test_a_peer_started_during_the_wizard_keeps_its_port(first_port: int) -> None:
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:

        def eve_after_fay(prompt: str) -> str:
            fay = stack.enter_async_context(TCPPeer(first_port, name="fay"))
            asyncio.run_coroutine_threadsafe(fay, loop).result(60)
            return "eve"

        options = await asyncio.to_thread(run_setup_wizard, bare(), None, eve_after_fay)
    assert (options.name, options.endpoints) == ("eve", (f"127.0.0.1:{first_port}",)) and options.port > first_port


async def test_a_name_selects_the_profile(home: Path, ports: list[int]) -> None:
    await started(home, ports[0], "ada")
    await started(home, ports[1], "bob")
    assert (await off_loop(bare("--name", "ada"), Person())).port == ports[0]
    new = await off_loop(bare("--name", "cyd"), Person())
    assert new.name == "cyd" and new.port not in ports


async def test_a_profile_in_data_keeps_its_name(home: Path) -> None:
    elsewhere = home / "elsewhere"
    assert (await off_loop(bare("--data", str(elsewhere)), Person("ada"))).name == "ada"
    async with TCPPeer(data=elsewhere, name="ada"):
        pass
    assert (await off_loop(bare("--data", str(elsewhere)), Person())).name == ""


async def test_an_invite_selects_a_profile_of_its_network(
    home: Path, ports: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "other"))
    async with TCPPeer(temporary=True) as other:
        invite = await other.make_invite()
    monkeypatch.setenv("P2PCHAT_HOME", str(home))
    assert home_directory() == home
    await started(home, ports[0], "ada", says="mine")  # belongs to the login's network for good
    assert (await off_loop(bare("--invite", "-"), Person("bob"), invite)).port != ports[0]
    await started(home, ports[1], "bob")  # was never used
    assert (await off_loop(bare("--invite", "-"), Person(), invite)).port == ports[1]
    await started(home, ports[2], "cyd", invite=invite)
    assert (await off_loop(bare("--invite", "-"), Person(), invite)).port == ports[2]  # has joined it already


def test_next_steps_are_three_short_lines(first_port: int) -> None:
    port = first_port

    def steps(host: str, names: Sequence[str] = (), network: str = "", *, dials: bool = False) -> list[str]:
        has_invite = host == "0.0.0.0"
        return next_steps(port, host, network, names, has_invite=has_invite, dials=dials).splitlines()

    for host in ("127.0.0.1", "0.0.0.0"):
        lines = steps(host, ["ada"])
        assert len(lines) == 3 and all(len(line) < 80 for line in lines)
        assert f" {port} --name bob" in lines[0] and "/help" in lines[2]
    assert steps("127.0.0.1")[1].endswith(f" {port} --host 0.0.0.0")
    assert JOIN_COMMAND in steps("0.0.0.0")[1]
    assert len(steps("127.0.0.1", dials=True)) == 1
    assert f" {port} --network 'lab 5' --name " in steps("127.0.0.1", network="lab 5")[0]
    assert " --name carol" in steps("127.0.0.1", ["ada", "bob"])[0]  # a name nobody has
    # a member listens for others, and makes no invites
    assert len(next_steps(port, "0.0.0.0", "", [], has_invite=False, dials=False).splitlines()) == 2


# ---- who listens for other machines


async def invite_at(home: Path, *endpoints: str) -> str:
    async with TCPPeer(data=home / "ada") as ada:
        return await ada.make_invite(at=endpoints)


def opened(invite: str | None, *words: str, is_person: bool = True) -> ChatOptions:
    """Start a profile as a chat does, and remember it."""
    options = parse_chat(words)
    open_to_others(options, invite, is_person=is_person)
    now = LastStart(options.host if options.host_chosen else "", joined=options.joined)
    directory = home_directory() / words[0]
    directory.mkdir(exist_ok=True)
    now.save(directory)
    return options


async def test_a_terminal_that_joined_another_machine_listens_for_others_until_its_user_says_no(
    home: Path, ports: list[int]
) -> None:
    port, invite = str(ports[0]), await invite_at(home, "127.0.0.1:1", "203.0.113.5:8080")
    assert opened(invite, port).host == "0.0.0.0"
    assert opened(None, port).host == "0.0.0.0"
    assert opened(None, port, is_person=False).host == "127.0.0.1"
    assert opened(None, port, "--json").host == "127.0.0.1"
    assert opened(None, port, "--no-listen").host == "127.0.0.1"
    assert opened(None, port, "--host", "127.0.0.1").host == "127.0.0.1"
    assert opened(None, port).host == "127.0.0.1"
    assert opened(invite, port).host == "127.0.0.1"
    with socket.create_server(("127.0.0.1", ports[1])):  # else a start that works on loopback would fail
        assert opened(invite, str(ports[1])).host == "127.0.0.1"


async def test_whoever_is_alone_or_among_peers_of_this_machine_listens_on_loopback(
    home: Path, ports: list[int]
) -> None:
    here = [f"[{one}]:8080" if ":" in one else f"{one}:8080" for one in own_addresses()]
    near = await invite_at(home, "localhost:8080", "[::1]:8080", *here[:6])
    for invite in (None, near):
        options = opened(invite, str(ports[0]))
        assert (options.host, options.joined) == ("127.0.0.1", False)
    assert opened(None, str(ports[0]), "--network", "lab").host == "127.0.0.1"


def starting(*words: str, bare: bool = False) -> StartupErrors:
    return StartupErrors(parse_chat(words, may_ask=bare), program.split(words)[1])


def command_in(error: Exception) -> list[str]:
    """Return the words of the command at the end of an error."""
    return shlex.split(str(error)[str(error).rindex("p2pchat ") :])


def test_a_taken_port_suggests_the_same_command_on_a_free_one() -> None:
    port = int(free_ports(1)[0])  # the ones above it are free longer than those that systems give away
    with socket.create_server(("127.0.0.1", port)):
        error = starting("--name", "Ada L", str(port), "localhost:1").explain(PortInUse("127.0.0.1", port))
    assert isinstance(error, CommandError)
    assert str(error).startswith(f"port {port} on 127.0.0.1 is in use by another program: try p2pchat ")
    _, other, *rest = command_in(error)
    assert int(other) > port and is_free("127.0.0.1", int(other))
    assert rest == ["--name", "Ada L", "localhost:1"]


async def test_a_port_taken_by_a_peer_suggests_keeping_the_profile(home: Path, first_port: int) -> None:
    async with TCPPeer(first_port, temporary=True) as other:
        async with TCPPeer(data=home / str(other.port), name="ada"):
            pass
        here = starting(str(other.port))
        error = await asyncio.to_thread(here.explain, PortInUse("127.0.0.1", other.port))
        assert "is in use by another p2pchat peer" in str(error)
        assert command_in(error)[2:] == ["--data", str(home / str(other.port))]


def test_a_suggested_command_never_repeats_an_invite(first_port: int) -> None:
    words = (str(first_port), "--invite", "p2pchat:SECRET@h:1", "--name", "x")
    error = starting(*words).explain(PortInUse("127.0.0.1", first_port))
    assert "SECRET" not in str(error) and command_in(error)[2:] == ["--invite", "-"]


def test_a_directory_in_use_names_the_process_and_commands(first_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    port = str(first_port)
    monkeypatch.setenv("P2PCHAT_HOME", "/home")
    error = starting(port).explain(DataLocked(f"/home/{port}", 123))
    assert isinstance(error, CommandError)
    assert f"/home/{port} is in use by process 123" in str(error)
    assert f"`p2pchat send room TEXT --port {port}` and `p2pchat tail --port {port}`" in str(error)
    assert command_in(error)[2:] == [port]
    error = starting("0", "--data", "/d d").explain(DataLocked("/d d", 0))
    assert "in use by another process" in str(error) and "`p2pchat tail --data '/d d'`" in str(error)


def test_an_invite_of_another_network_suggests_a_new_profile(first_port: int) -> None:
    raised = InviteError("/home/ada belongs to another network than this invite: leave it out")
    error = starting(str(first_port), "--invite", "-").explain(raised)
    assert isinstance(error, UsageError) and command_in(error)[2:] == ["--invite", "-"]
    assert starting(str(first_port)).explain(raised) is raised


def test_other_errors_are_unchanged() -> None:
    for raised in (StorageError("the disk is full"), P2PChatError("others can read the key")):
        assert starting("8080").explain(raised) is raised


def test_a_chosen_port_that_was_taken_is_replaced(first_port: int) -> None:
    options = parse_chat((), may_ask=True)
    options.port = first_port
    here = StartupErrors(options, ())
    assert here.try_next_port(PortInUse("127.0.0.1", first_port))
    assert options.port > first_port
    assert not here.try_next_port(StorageError("the disk is full"))
    typed = parse_chat((str(first_port),))
    assert not StartupErrors(typed, ()).try_next_port(PortInUse("127.0.0.1", first_port))


# ---- joining a network


async def arrive(peer: TCPPeer, invite: str) -> None:
    """Start a peer and pass on its events until the join is finished."""
    arrival = JoinSummary(peer, invite, dials=True)
    events = peer.events(consumer=None)
    await peer.start()
    async with asyncio.timeout(60):
        while not arrival.finished:
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.wait({waiting}, timeout=0.1)
            if waiting.done():
                arrival.on_event(waiting.result())
            else:
                waiting.cancel()
    arrival.close()
    await peer.aclose()


async def test_a_join_names_the_network_and_counts_its_users(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("p2pchat.cli.chat_startup.print_notice", told.append)
    async with TCPPeer(data=home / "ada", name="Ada L") as ada:
        async with TCPPeer(0, ada.port, data=home / "cyd", name="cyd") as cyd:
            await ada.wait_user("cyd", timeout=60)
            await (await cyd.broadcast("I was here")).delivered(timeout=60)
        while ada.user("cyd").status != "offline":
            await asyncio.sleep(0.01)  # poll: the event may have come before
        await arrive(TCPPeer(temporary=True, name="bob", invite=await ada.make_invite()), await ada.make_invite())
        assert told == [f'-- joined the network of "Ada L" at {ada.endpoint}: 3 people, 2 of them online']


async def test_a_join_names_an_inviter_whose_machine_has_a_key_of_its_own(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("p2pchat.cli.chat_startup.print_notice", told.append)
    async with TCPPeer(data=home / "ada", name="ada"):
        pass
    adding = Adding(home / "ada")
    await adding.code()
    adding.task.cancel()
    async with TCPPeer(data=home / "ada") as ada:
        invite = await ada.make_invite()
        monkeypatch.setenv("P2PCHAT_HOME", str(home / "of bob"))
        await arrive(TCPPeer(temporary=True, name="bob", invite=invite), invite)
        assert told == [f"-- joined the network of ada at {ada.endpoint}: 2 people, all online"]


async def test_a_join_waits_for_the_name_of_a_slow_inviter(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pchat.cli.chat_startup.JOINS_SETTLE_AFTER", 0.0)
    told: list[str] = []
    monkeypatch.setattr("p2pchat.cli.chat_startup.print_notice", told.append)
    async with TCPPeer(data=home / "ada", name="ada") as ada, TCPPeer(temporary=True, name="bob") as bob:
        arrival = JoinSummary(bob, await ada.make_invite(), dials=True)
        up = Link(peer=ada.me.key, endpoint=ada.endpoint, state="up", reason="")
        arrival.on_event(up)  # ada has said nothing yet
        await bob.connect(ada.endpoint)
        await bob.wait_user("ada", timeout=60)
        async with asyncio.timeout(60):
            while not told:
                await asyncio.sleep(0)  # poll: the summary is a callback
        arrival.close()
        assert told == [f"-- joined the network of ada at {ada.endpoint}: 2 people, all online"]


async def test_a_join_without_an_invite_is_not_announced(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr("p2pchat.cli.chat_startup.print_notice", told.append)
    async with TCPPeer(temporary=True, name="ada") as ada:
        await arrive(TCPPeer(0, ada.port, temporary=True), "")
    assert told == []


async def test_without_dialling_there_is_no_join() -> None:
    assert JoinSummary(TCPPeer(0), "", dials=False).finished


async def test_an_incoming_link_is_no_join() -> None:
    arrival = JoinSummary(TCPPeer(0), "", dials=True)
    arrival.on_event(Link(peer="0a" * 32, endpoint="", state="up", reason=""))
    assert not arrival.in_progress and not arrival.finished
    arrival.on_event(Link(peer="0a" * 32, endpoint="127.0.0.1:8080", state="up", reason=""))
    assert arrival.in_progress
    arrival.close()
    assert arrival.finished and not arrival.in_progress
