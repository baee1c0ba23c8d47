"""The control socket of a running peer, over real sockets: answers, access control, and shutdown."""

from __future__ import annotations

import asyncio
import json
import math
import os
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from p2pchat import Message, TCPPeer, threads
from p2pchat.cli import control_protocol, control_server
from p2pchat.cli.control_client import ControlClient, PeerGone, RequestRefused, connect, connect_within
from p2pchat.cli.control_protocol import encode
from p2pchat.cli.control_server import MAX_UNAUTHENTICATED, ControlServer
from p2pchat.commands import file_commands
from p2pchat.commands.activity_tracker import ActivityTracker
from p2pchat.commands.event_text import EventLine
from p2pchat.commands.exit_codes import NO_SUCH_NAME, USAGE, CommandError
from p2pchat.testing import mesh
from tests.cli.control.conftest import Serve
from tests.commands.session_output import slow_disk
from tests.deadlines import WAIT, within
from tests.step_loop import SteppedLoop, after_each_step, open_sockets

posix = pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets")


@asynccontextmanager
async def talking(directory: Path) -> AsyncIterator[ControlClient]:
    control = await connect(directory)
    assert control is not None
    try:
        yield control
    finally:
        await control.aclose()


async def line(control: ControlClient, event: str, **fields: Any) -> EventLine:
    """Return the next line of this event with these fields."""
    async with asyncio.timeout(WAIT):
        while (found := await control.next_line()) is not None:
            if found["event"] == event and fields.items() <= found.items():
                return found
    raise AssertionError(f"no {event} came")


# ---- answers


async def test_a_command_sends_and_waits_for_the_delivery(serve: Serve, home: Path) -> None:
    ada, _ = await serve("ada")
    bob, _ = await serve("bob", ada.endpoint)
    async with talking(home / "ada") as control:
        assert control.listening["user"] == "ada" and control.listening["port"] == ada.port
        [to] = await control.ask("find", to="bob")
        there = {"conversation": "bob", "conversation_id": ada.find("bob").id, "kind": "dm"}
        assert to == {**there, "user": "bob", "user_id": ada.user("bob").id}
        await control.send(do="send", to=to["conversation_id"], text="two\nlines")
        assert await control.ask("wait", timeout=60) == [{"status": "delivered", "missing": [], "obstacle": ""}]
    [message] = await bob.history("ada")
    assert isinstance(message, Message) and message.text == "two\nlines"


async def test_a_command_hears_how_far_large_files_are_copied(
    serve: Serve, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_commands, "LARGE", 4_000_000)
    ada, _ = await serve("ada")
    bob, _ = await serve("bob", ada.endpoint)
    (home / "film").write_bytes(bytes(4 * 1024 * 1024))
    async with talking(home / "ada") as control:
        paths = [str(home / "film")]
        [sent] = await control.ask("send_files", to="bob", text="", paths=paths)
        told = [await line(control, "copy_progress") for _ in range(4)]
        size = 4 * 1024 * 1024
        assert [one["copied"] for one in told] == [size // 4, size // 2, size // 4 * 3, size]
        assert {(one["size"], one["ref"]) for one in told} == {(size, told[0]["ref"])}
        assert await control.ask("wait", timeout=60) == [{"status": "delivered", "missing": [], "obstacle": ""}]
        with pytest.raises(RequestRefused, match="at most 10 files, and these are 11"):
            await control.ask("send_files", to="bob", text="", paths=paths * 11)
    assert [post.id for post in await bob.history("ada")] == [sent["id"]]


async def test_a_large_file_that_changes_while_it_is_copied_is_not_sent(
    serve: Serve, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_commands, "LARGE", 4_000_000)
    ada, _ = await serve("ada")
    film, copy = home / "film", home / "ada" / "content" / "1.new"
    film.write_bytes(bytes(64 * 1024 * 1024))
    async with talking(home / "ada") as control:
        sending = asyncio.create_task(control.ask("send_files", to="room", text="", paths=[str(film)]))
        while not (copy.exists() and copy.stat().st_size):  # each MiB takes a turn of the loop
            await asyncio.sleep(0)
        os.truncate(film, 63 * 1024 * 1024)
        with pytest.raises(RequestRefused, match="a file cannot be sent: it was written while it was read"):
            await sending
    assert await ada.room.history() == []


async def test_a_client_that_ends_its_output_leaves_no_large_file_unsent(
    serve: Serve, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_commands, "LARGE", 4_000_000)
    ada, _ = await serve("ada")
    (home / "film").write_bytes(bytes(4 * 1024 * 1024))
    async with talking(home / "ada") as control:
        with slow_disk(ada):
            await control.send(do="send", text="film", files=[str(home / "film")])
            await control.send(do="send", text="behind it")
            await control.ask("who")
            assert await ada.room.history() == []
            control._writer.write_eof()
        async with within(60, "the end of the connection"):
            while await control.next_line() is not None:
                pass
    assert [post.text for post in await ada.room.history()] == ["film", "behind it"]


async def test_a_client_that_is_gone_sends_no_large_file(
    serve: Serve, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_commands, "LARGE", 4_000_000)
    ada, server = await serve("ada")
    (home / "film").write_bytes(bytes(16 * 1024 * 1024))
    with slow_disk(ada):
        async with talking(home / "ada") as control:
            asking = asyncio.create_task(control.ask("send_files", to="room", text="", paths=[str(home / "film")]))
            await control.ask("who")
        with pytest.raises(PeerGone):
            await asking
    async with within(60, "the end of the connection"):
        while server._connections:
            await asyncio.sleep(0.01)  # poll: the server tells nobody
    content = ada._lifecycle.require_running().content
    assert await ada.room.history() == [] == await content.run(lambda store: store.roots())


async def test_an_unexpected_error_is_answered_and_the_connection_goes_on(
    serve: Serve, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, _ = await serve("ada")

    async def fail(*where: Any, **how: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(ada, "import_from", fail)
    monkeypatch.setattr(ada, "history", fail)
    async with talking(home / "ada") as control:
        for do, fields in (("import", {"path": "file"}), ("history", {})):
            with pytest.raises(RequestRefused, match="an unexpected RuntimeError"):
                await control.ask(do, **fields)
        assert [row["user"] for row in await control.ask("who")] == ["ada"]


async def test_a_tail_begins_with_the_newest_and_misses_nothing(serve: Serve, home: Path) -> None:
    ada, _ = await serve("ada")
    await ada.send_many("room", ["one", "two", "three"])
    async with talking(home / "ada") as control:
        await control.send(do="tail", last=2)
        assert [(await line(control, "sent"))["text"] for _ in range(2)] == ["two", "three"]
        assert (await line(control, "answer"))["rows"] == [{"last": 2}]
        await ada.broadcast("four")
        assert (await line(control, "sent"))["text"] == "four"


async def test_a_message_sent_while_a_tail_begins_comes_once(
    serve: Serve, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, _ = await serve("ada")
    read = ada.history

    async def history_of_a_busy_moment(*where: Any, **how: Any) -> Any:
        await ada.broadcast("before it is read")
        posts = await read(*where, **how)
        await ada.broadcast("after it was read")
        return posts

    monkeypatch.setattr(ada, "history", history_of_a_busy_moment)
    async with talking(home / "ada") as tail:
        await tail.send(do="tail")
        texts = [(await line(tail, "sent"))["text"]]
        await line(tail, "answer")
        await ada.broadcast("the end")
        texts += [(await line(tail, "sent"))["text"] for _ in range(2)]
    assert texts == ["before it is read", "after it was read", "the end"]


async def test_a_tail_of_one_conversation_shows_no_other(serve: Serve, home: Path) -> None:
    ada, _ = await serve("ada")
    await serve("bob", ada.endpoint)
    await ada.wait_user("bob", timeout=60)
    async with talking(home / "ada") as control:
        await control.send(do="tail", to="bob", ref="t")
        await line(control, "answer", ref="t")
        await ada.broadcast("for all")
        await (await ada.send("bob", "for bob")).delivered(timeout=60)
        lines = [await control.next_line(), await control.next_line()]
        assert [(one["event"], one.get("text", "")) for one in lines if one] == [("sent", "for bob"), ("delivered", "")]


async def test_the_tail_of_a_consumer_waits_for_each_message_to_be_taken_and_goes_on_there(
    serve: Serve, home: Path
) -> None:
    ada, _ = await serve("ada")
    bob, _ = await serve("bob", ada.endpoint)
    await bob.wait_user("ada", timeout=60)
    async with talking(home / "ada") as control:
        await control.ask("tail", last=0, consumer="worker")
        for text in ("one", "two", "three"):
            await (await bob.send("ada", text)).delivered(timeout=60)
        assert (await line(control, "message"))["text"] == "one"
        await control.send(do="taken")
        assert (await line(control, "message"))["text"] == "two"  # and is never said to be taken
    async with talking(home / "ada") as control:
        await control.ask("tail", last=0, consumer="worker")
        texts = []
        for _ in range(2):
            texts.append((await line(control, "message"))["text"])
            await control.send(do="taken")
        assert texts == ["two", "three"]


async def test_a_tail_can_leave_out_ignored_users(serve: Serve, home: Path) -> None:
    ada, _ = await serve("ada")
    bob, _ = await serve("bob", ada.endpoint)
    await ada.broadcast("one")
    await (await bob.broadcast("look at me")).delivered(timeout=60)
    await ada.broadcast("two")
    await ada.ignore("bob")
    async with talking(home / "ada") as control:
        await control.send(do="tail", last=2, ignored=False)
        shown = [(await line(control, "sent"))["text"] for _ in range(2)]
        await line(control, "answer")
        await (await bob.broadcast("look at me!")).delivered(timeout=60)
        await ada.broadcast("three")
        while (found := await control.next_line()) is not None and found["event"] != "sent":
            assert found["event"] != "message"
        assert found is not None and [*shown, found["text"]] == ["one", "two", "three"]
        with pytest.raises(RequestRefused, match="true or false"):
            await control.ask("tail", ignored="no")


async def test_a_mention_by_somebody_expelled_is_not_unread(serve: Serve, home: Path) -> None:
    """What was edited may have been edited since, so it needs no peer that has not heard of it yet."""
    ada, _ = await serve("ada")
    bob, _ = await serve("bob", ada.endpoint)
    cyd, _ = await serve("cyd", ada.endpoint)
    await (await cyd.broadcast("one")).delivered(by=ada.me, timeout=60)
    written = await bob.broadcast("two")
    await written.delivered(by=ada.me, timeout=60)
    edited = await (await bob.message(written.id)).edit("look here, ada!")
    await edited.delivered(by=ada.me, timeout=60)
    async with talking(home / "ada") as control:
        assert [row["text"] for row in await control.ask("inbox", limit=1)] == ["look here, ada!"]
        await ada.people.expel("bob", only=True)
        assert [row["text"] for row in await control.ask("inbox", limit=1)] == ["one"]


async def test_one_tail_is_enough_for_a_connection(serve: Serve, home: Path) -> None:
    await serve("ada")
    async with talking(home / "ada") as control:
        await control.ask("tail", last=0)
        with pytest.raises(RequestRefused, match="has a tail already") as refused:
            await control.ask("tail")
        assert refused.value.code == USAGE


async def test_each_connection_has_a_current_conversation_of_its_own(serve: Serve, home: Path) -> None:
    ada, _ = await serve("ada")
    await serve("bob", ada.endpoint)
    await ada.wait_user("bob", timeout=60)
    async with talking(home / "ada") as one, talking(home / "ada") as other:
        await one.send(do="send", to="bob", text="psst")
        await one.ask("wait", timeout=60)
        await other.send(do="send", text="hello all")
        await other.ask("wait", timeout=60)
        users = {row["user"]: row["status"] for row in await other.ask("who")}
    assert users == {"ada": "online", "bob": "online"}
    assert [post.text for post in await ada.history("room")] == ["hello all"]


# ---- mistakes


async def test_settings_of_two_doors_do_not_overwrite_each_other(serve: Serve, home: Path) -> None:
    ada, _ = await serve("ada")
    async with talking(home / "ada") as one, talking(home / "ada") as two:
        await one.ask("set", name="bell", value="off")
        await two.ask("set", name="desktop", value="on")
        await one.ask("set", name="typing", value="off", to="room")
        values = {row["setting"]: row["value"] for row in await two.ask("set")}
        assert (values["bell"], values["desktop"]) == ("off", "on")
    assert ada.choices("chat") == {"bell": "off", "desktop": "on", f"typing:{ada.room.id}": "off"}


async def test_an_away_of_another_command_makes_the_chat_inactive(serve: Serve, home: Path) -> None:
    ada, server = await serve("ada")
    server.activity = activity = ActivityTracker(ada.set_presence, idle_after=None)
    async with talking(home / "ada") as control:
        await control.ask("away", text="lunch")
        assert (activity.is_active, ada.me.status, ada.me.status_text) == (False, "idle", "lunch")
        await control.ask("back")
        assert (activity.is_active, ada.me.status) == (True, "online")


async def test_invalid_requests_are_error_lines_and_change_nothing(serve: Serve, home: Path) -> None:
    ada, _ = await serve("ada")
    reader, writer = await open_raw(home / "ada", ada)
    garbage = [b"hello everybody", b"/quit", b"\xff\xfe\x00", b"{", b"[1]", b'{"do":"fly"}', b"x" * 300_000]
    writer.write(b"\n".join([*garbage, b"", b'{"do":"who","ref":"last"}', b'{"do":"nope","ref":"cut'[:-3]]) + b"\n")
    writer.write_eof()
    found = [json.loads(one) for one in (await asyncio.wait_for(reader.read(), WAIT)).splitlines()]
    writer.close()
    assert [one["event"] for one in found] == ["listening", *["error"] * 7, "answer", "error"]
    assert found[8]["ref"] == "last"
    assert await ada.history() == []  # no line of it was taken for a text


async def open_raw(directory: Path, peer: TCPPeer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect without a client of ours."""
    if sys.platform != "win32" and (directory / "control.sock").exists():
        return await asyncio.open_unix_connection(str(directory / "control.sock"))
    door = control_protocol.read_address(directory)
    assert door is not None
    reader, writer = await asyncio.open_connection(door.host, door.port)
    writer.write(json.dumps({"token": door.token}).encode() + b"\n")
    assert json.loads(await reader.readline()) == {"answer": door.answer}
    return reader, writer


@pytest.mark.parametrize("why", ["it has run for a while", "nobody is known"])
async def test_a_peer_where_no_name_is_coming_refuses_unknown_ones_at_once(serve: Serve, home: Path, why: str) -> None:
    ada, _ = await serve("ada", *(["localhost:1"] if why == "it has run for a while" else []))
    ada._lifecycle.names_deadline = 0.0 if why == "it has run for a while" else math.inf
    async with talking(home / "ada") as control, asyncio.timeout(WAIT):
        with pytest.raises(RequestRefused, match="nobody here is called 'bbo'") as refused:
            await control.ask("find", to="bbo")
    assert refused.value.code == NO_SUCH_NAME


# ---- access


@posix
async def test_only_the_owner_can_connect(serve: Serve, home: Path) -> None:
    former = os.umask(0)
    try:
        await serve("ada")
    finally:
        os.umask(former)
    assert stat.S_IMODE((home / "ada" / "control.sock").stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "ada").stat().st_mode) == 0o700


async def test_a_client_that_does_not_read_delays_no_other(serve: Serve, home: Path) -> None:
    ada, _ = await serve("ada")
    await ada.send_many("room", ["x" * 30_000] * 100)  # 3 MB: more than the system keeps for a connection
    reader, writer = await open_raw(home / "ada", ada)
    writer.write(b'{"do":"tail","last":100}\n')
    begun = [json.loads(await asyncio.wait_for(reader.readline(), WAIT)) for _ in range(2)]
    assert [one["event"] for one in begun] == ["listening", "sent"]  # later messages come after the 100
    async with talking(home / "ada") as other:
        await other.send(do="send", text="meanwhile")
        await other.ask("wait", timeout=0)
    texts = [begun[1]["text"]]
    async with asyncio.timeout(WAIT):
        rest = b""
        while "meanwhile" not in texts:
            *lines, rest = (rest + await reader.read(1 << 16)).split(b"\n")
            texts += [found["text"] for found in map(json.loads, lines) if found["event"] == "sent"]
    writer.close()
    assert texts == [*["x" * 30_000] * 100, "meanwhile"]


@posix
async def test_a_hanging_peer_is_an_error_after_a_timeout(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pchat.cli.control_client.CONNECT_TIMEOUT", 0.1)
    home.mkdir()
    with control_server.bind_socket(home) as made:
        made.listen()  # the system accepts, and no program answers
        with pytest.raises(CommandError, match="the running peer does not answer"):
            await connect(home)


# ---- how it ends


async def test_stopping_the_peer_ends_each_connection_in_good_order(serve: Serve, home: Path) -> None:
    ada, server = await serve("ada")
    async with talking(home / "ada") as tail, talking(home / "ada") as idle:
        await tail.ask("tail", last=0)
        await ada.broadcast("the last word")
        waiting = asyncio.create_task(idle.ask("wait", timeout=60))
        await asyncio.sleep(0)  # the task starts
        await server.shut_down("terminated")
        assert (await line(tail, "sent"))["text"] == "the last word"
        assert (await line(tail, "stopped"))["reason"] == "terminated"
        assert await tail.next_line() is None and await tail.next_line() is None
        assert (await line(idle, "stopped"))["reason"] == "terminated"
        await asyncio.gather(waiting, return_exceptions=True)
        with pytest.raises(PeerGone, match="terminated"):
            await idle.ask("who")
    assert not (home / "ada" / "control.sock").exists() and not (home / "ada" / "control.json").exists()
    assert await connect(home / "ada") is None


async def test_a_client_that_does_not_read_does_not_keep_the_peer_from_stopping(serve: Serve, home: Path) -> None:
    ada, server = await serve("ada")
    await ada.send_many("room", ["x" * 30_000] * 100)
    _, writer = await open_raw(home / "ada", ada)
    writer.write(b'{"do":"tail","last":100}\n{"do":"who"}\n')
    async with talking(home / "ada") as other:
        await other.ask("who")  # so that the peer has begun to write the tail
    async with asyncio.timeout(WAIT):
        await server.shut_down("done")
    writer.close()


async def test_a_broken_connection_is_an_error(serve: Serve, home: Path) -> None:
    await serve("ada")
    async with talking(home / "ada") as control:
        await control.send(do="quit")
        with pytest.raises(PeerGone, match="is gone"):
            await control.ask("who")


async def test_files_of_a_killed_peer_are_ignored_and_replaced(serve: Serve, home: Path) -> None:
    directory = home / "ada"
    directory.mkdir(parents=True)
    control_server.write_address(directory, control_protocol.SocketAddress(9))  # the port of a peer that is gone
    if sys.platform != "win32":
        control_server.bind_socket(directory).close()
    assert await connect(directory) is None
    await serve("ada")
    async with talking(directory) as control:
        assert control.listening["user"] == "ada"
    assert len(list(directory.glob("control.*"))) == 1


async def test_a_disk_that_hangs_does_not_keep_the_end(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "DISK_TIMEOUT", 0.1)
    (_, server), answers = await serve("ada"), Event()
    unlink = Path.unlink

    def unlink_when_the_disk_answers(path: Path, missing_ok: bool = False) -> None:
        if path.name.startswith("control."):
            assert answers.wait(WAIT)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink_when_the_disk_answers)
    try:
        async with within(WAIT, "the end"):
            await server.shut_down("signal")
    finally:
        answers.set()


async def test_a_peer_in_memory_has_no_socket_and_serves_its_own_process() -> None:
    async with mesh("ada", "bob") as net:
        server = await ControlServer(net.peers[0]).start()
        control = await connect_within(server)
        await control.send(do="send", to="bob", text="hi")
        assert await control.ask("wait", timeout=60) == [{"status": "delivered", "missing": [], "obstacle": ""}]
        await control.aclose()
        await server.shut_down("done")


# ---- without Unix sockets


@pytest.fixture
def on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_server, "HAS_SOCKETS", False)


@pytest.mark.usefixtures("on_loopback")
async def test_without_unix_sockets_it_answers_on_loopback(serve: Serve, home: Path) -> None:
    ada, _ = await serve("ada")
    assert [path.name for path in (home / "ada").glob("control.*")] == ["control.json"]
    if os.name == "posix":
        assert stat.S_IMODE((home / "ada" / "control.json").stat().st_mode) == 0o600
    async with talking(home / "ada") as control:
        await control.send(do="send", text="over loopback")
        await control.ask("wait", timeout=0)
    assert [post.text for post in await ada.history("room")] == ["over loopback"]


@posix
async def test_with_a_too_long_path_the_server_listens_on_loopback(home: Path) -> None:
    directory = home / ("long" * 30)
    async with TCPPeer(0, name="ada", data=directory) as peer:
        server = await ControlServer(peer).start()
        assert [path.name for path in directory.glob("control.*")] == ["control.json"]
        async with talking(directory) as control:
            assert await control.ask("who")
        await server.shut_down("done")
        assert not list(directory.glob("control.*"))


@pytest.mark.usefixtures("on_loopback")
async def test_silent_connections_of_other_users_keep_no_command_out(serve: Serve, home: Path) -> None:
    await serve("ada")
    door = control_protocol.read_address(home / "ada")
    assert door is not None
    silent = [await asyncio.open_connection(door.host, door.port) for _ in range(MAX_UNAUTHENTICATED)]
    async with talking(home / "ada") as control:
        assert await control.ask("who")
    async with within(WAIT, "the oldest to be ended"):
        with suppress(ConnectionError):
            assert await silent[0][0].read() == b""
    for _, writer in silent:
        writer.close()


@pytest.mark.usefixtures("on_loopback")
@pytest.mark.parametrize(
    "said", [b'{"token":"00"}\n', b'{"do":"who"}\n', b"GET / HTTP/1.1\n", b"[]\n", b"\n", b"x" * 70_000 + b"\n", b""]
)
async def test_a_client_without_the_token_gets_nothing(said: bytes, serve: Serve, home: Path) -> None:
    await serve("ada")
    door = control_protocol.read_address(home / "ada")
    assert door is not None
    reader, writer = await asyncio.open_connection(door.host, door.port)
    writer.write(said)
    writer.write_eof()
    try:
        assert await asyncio.wait_for(reader.read(), WAIT) == b""
    except ConnectionResetError:
        pass  # closed with something unread
    writer.close()


@pytest.mark.usefixtures("on_loopback")
@pytest.mark.parametrize(
    "answer",
    [
        b'{"answer":"yes"}\n{"event":"listening","user":"ada","port":1}\n',
        *(b"HTTP/1.1 400 Bad Request\r\n\r\n", b"x" * 200_000, b"", b"[" * 60_000 + b"\n"),
    ],
    ids=["object", "HTTP", "no end", "nothing", "deep"],
)
async def test_a_program_on_the_port_of_a_killed_peer_gets_no_commands(answer: bytes, home: Path) -> None:
    """Somebody else's program got the port: it hears the token, which opens nothing any more, and no text. Whatever it
    answers, the connection is closed, and not by the garbage collector: that would be a warning, and an error here."""
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def somebody(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.write_eof()
        said = await reader.readline()
        try:
            said += await reader.read()
        except ConnectionResetError:
            pass  # closed with something unread
        writer.transport.abort()
        heard.put_nowait(said)

    server = await asyncio.start_server(somebody, "127.0.0.1", 0)
    directory = home / "ada"
    directory.mkdir(parents=True)
    control_server.write_address(directory, control_protocol.SocketAddress(server.sockets[0].getsockname()[1]))
    assert await connect(directory) is None
    assert b"do" not in await asyncio.wait_for(heard.get(), WAIT)
    server.close()
    await server.wait_closed()


def test_a_command_interrupted_while_connecting_leaks_nothing(tmp_path: Path) -> None:
    """After each step: of connecting, of the words at the door, of the first line."""
    before = open_sockets()

    async def scenario(loop: SteppedLoop, step: int) -> bool:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(encode({"answer": door.answer}) + encode({"event": "listening"}))
            with suppress(ConnectionResetError):
                await reader.read()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        door = control_protocol.SocketAddress(server.sockets[0].getsockname()[1])
        control_server.write_address(tmp_path, door)
        connecting = asyncio.ensure_future(connect(tmp_path))
        loop.interrupt(step, connecting.cancel)
        await asyncio.wait([connecting])
        if not connecting.cancelled():
            control = connecting.result()
            assert control is not None
            await control.aclose()
        server.close()
        async with asyncio.timeout(WAIT):
            while open_sockets() != before:  # the far end must be notified first
                await asyncio.sleep(0)  # poll: nothing reports a closed socket
        return connecting.cancelled()

    assert len(list(after_each_step(scenario))) > 5


INVALID = [
    (b"hello everybody", "a line here must be a command object"),
    (b'["do"]', "a line here must be a command object"),
    (b'{"do":"wait","timeout":"5"}', "`timeout` must be a number"),
    (b'{"do":"wait","timeout":-1}', "`timeout` must be seconds"),
    (b'{"do":"wait","timeout":NaN}', "`timeout` must be seconds"),
    (b'{"do":"wait","what":"x"}', "`what` must be delivered, read or files"),
    (b'{"do":"tail","last":10001}', "`last` must be from 0 to 10000"),
]


async def test_each_invalid_request_is_answered_with_what_is_wrong(serve: Serve, home: Path) -> None:
    ada, _ = await serve("ada")
    reader, writer = await open_raw(home / "ada", ada)
    writer.write(b"\n".join(line for line, _ in INVALID) + b"\n")
    writer.write_eof()
    _, *found = [json.loads(one) for one in (await asyncio.wait_for(reader.read(), WAIT)).splitlines()]
    writer.close()
    for (line, expected), answer in zip(INVALID, found, strict=True):
        assert (answer["event"], answer["code"]) == ("error", "usage") and expected in answer["text"], line
