"""The peer that a command uses: the running one, one that the command runs, or none with an error."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from contextlib import aclosing
from pathlib import Path

import pytest

from p2pchat import TCPPeer, TooLong, open_history
from p2pchat.cli import control_client as reaching
from p2pchat.cli.control_client import ControlClient, PeerGone, RequestRefused, connect, connect_or_run
from p2pchat.commands.exit_codes import CommandError, UsageError
from p2pchat.commands.last_start import LastStart
from tests.cli.control.conftest import Serve
from tests.deadlines import WAIT
from tests.ports import free_ports


async def a_profile(directory: Path, *texts: str) -> None:
    """Make a profile that does not run."""
    async with TCPPeer(0, name="ada", data=directory) as peer:
        for text in texts:
            await peer.broadcast(text)


async def say(control: ControlClient, text: str) -> None:
    await control.send(do="send", text=text)
    await control.ask("wait", timeout=0)


async def test_a_peer_that_stops_tells_its_reason_and_not_that_it_was_closed() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=theirs)
    writer.write(b'{"event":"listening"}\n')
    control = await ControlClient(*await asyncio.open_connection(sock=ours)).start()
    asked = asyncio.create_task(control.ask("find", to="room"))
    ref = json.loads(await reader.readline())["ref"]
    for line in (
        {"event": "error", "code": "peer_closed", "text": "make a new TCPPeer"},  # of a text sent before
        {"event": "answer", "rows": [], "ref": ref},
        {"event": "stopped", "reason": "quit"},
    ):
        writer.write(json.dumps(line).encode() + b"\n")
    writer.close()
    with pytest.raises(PeerGone, match=r"^the peer stopped \(quit\)$"):
        await asked
    assert (await control.next_line() or {}).get("event") == "stopped"
    await control.aclose()


async def _beside(*replies: bytes) -> ControlClient:
    """Return a client of a peer that says these lines once it got two requests."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=theirs)
    writer.write(b'{"event":"listening"}\n')
    control = await ControlClient(*await asyncio.open_connection(sock=ours)).start()

    async def answer() -> None:
        for _ in range(2):
            await reader.readline()
        writer.writelines(replies)
        await reader.read()
        writer.close()

    control.answering = asyncio.create_task(answer())  # type: ignore[attr-defined]
    return control


UNREAD = b'{"event":"error","code":"usage","text":"a line was too long","ref":null}\n'


async def test_an_error_about_a_line_that_could_not_be_read_ends_what_waits() -> None:
    async with aclosing(await _beside(UNREAD)) as control:
        asking = [asyncio.create_task(control.ask("find", to=to)) for to in ("bob", "cyd")]
        for refused in await asyncio.wait_for(asyncio.gather(*asking, return_exceptions=True), WAIT):
            assert isinstance(refused, RequestRefused) and str(refused) == "a line was too long"


async def test_an_error_about_a_text_without_a_ref_is_none_about_a_request() -> None:
    async with aclosing(await _beside(UNREAD)) as control:
        await control.send(do="send", text=" ")
        asking = asyncio.create_task(control.ask("find", to="bob"))
        assert (await asyncio.wait_for(control.next_line(), WAIT) or {})["text"] == "a line was too long"
        assert not asking.done()
        asking.cancel()


async def test_a_request_that_the_peer_would_not_read_is_refused_before_it_is_written(serve: Serve, home: Path) -> None:
    await serve("ada")
    control = await connect(home / "ada")
    assert control is not None
    async with aclosing(control):
        with pytest.raises(
            TooLong, match=r"^the text has 300000 bytes of UTF-8, the limit is 32768: send it in parts$"
        ):
            await control.send(do="send", text="x" * 300_000)
        for do, fields in (("find", {"to": "x" * 300_000}), ("search", {"words": "x" * 300_000})):
            with pytest.raises(TooLong, match="the limit is 262144"):
                await control.ask(do, **fields)
        await control.ask("tail", last=0)
        longest = "é" * (16 * 1024)  # of 32 KiB; JSON writes each of them with six characters
        sent = await control.accept(to="room", text=longest)
        assert sent["text"] == longest


async def test_one_of_several_commands_runs_the_peer_for_all(home: Path) -> None:
    await a_profile(home / "ada")
    own = []

    async def command(text: str) -> None:
        async with connect_or_run(home / "ada") as control:
            own.append(control.is_own)
            await say(control, text)

    await asyncio.gather(*(command(f"{number}") for number in range(4)))
    async with open_history(home / "ada") as history:
        assert sorted(post.text for post in await history.history()) == ["0", "1", "2", "3"]
    assert any(own)


async def test_the_peer_stays_for_other_commands(home: Path) -> None:
    await a_profile(home / "ada")
    entered, first_done = asyncio.Event(), asyncio.Event()

    async def second() -> None:
        async with connect_or_run(home / "ada") as control:
            assert not control.is_own
            await control.ask("find", to="room")
            await control.ask("tail", to="room", last=0)  # as send_once, which learns the id of its message so
            entered.set()
            await first_done.wait()
            for _ in range(100):  # longer than a peer takes to stop
                await control.ask("find", to="room")
            await say(control, "the second, later")

    async with connect_or_run(home / "ada") as control:
        assert control.is_own
        later = asyncio.create_task(second())
        await entered.wait()
        asyncio.get_running_loop().call_soon(first_done.set)
    await later


async def test_a_profile_held_by_a_program_without_a_control_socket(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaching, "START_TIMEOUT", 0.2)
    async with TCPPeer(0, name="ada", data=home / "ada"):
        with pytest.raises(CommandError, match=f"is in use by process {os.getpid()}, which answers no commands"):
            async with connect_or_run(home / "ada"):
                pass


async def test_a_missing_profile_is_not_created(home: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no profile in .*: start a peer first, for example p2pchat 8080$"):
        async with connect_or_run(home / "ada"):
            pass
    with pytest.raises(UsageError, match=r"there is no profile in .*: start a peer first, for example p2pchat 9000$"):
        async with connect_or_run(home / "9000", port=9000):
            pass
    assert not (home / "ada").exists()


async def test_the_port_can_be_given(home: Path) -> None:
    await a_profile(home / "ada")
    port = int(free_ports(1)[0])
    async with connect_or_run(home / "ada", port=port) as control:
        assert control.listening["port"] == port


async def test_a_taken_port_is_replaced_by_another(home: Path) -> None:
    port = int(free_ports(1)[0])
    with socket.create_server(("127.0.0.1", port)):
        await a_profile(home / str(port))
        async with connect_or_run(home / str(port)) as control:
            assert control.listening["port"] != port
    async with connect_or_run(home / str(port)) as control:
        assert control.listening["port"] == port


async def test_the_peer_listens_where_the_chat_did_if_possible(home: Path) -> None:
    await a_profile(home / "ada")
    for host, listens in (("localhost", "localhost"), ("192.0.2.1", "127.0.0.1")):
        LastStart(host, "chat.example:1").save(home / "ada")
        async with connect_or_run(home / "ada") as control:
            assert control.listening["host"] == listens


async def test_an_error_in_a_command_stops_its_peer(home: Path) -> None:
    await a_profile(home / "ada")
    with pytest.raises(RuntimeError):
        async with connect_or_run(home / "ada"):
            raise RuntimeError
    await a_profile(home / "ada")  # nobody holds it
