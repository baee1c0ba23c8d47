"""Start and stop, on a real disk and port."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pchat import (
    DataLocked,
    InviteError,
    Link,
    Message,
    PeerClosed,
    PortInUse,
    Sent,
    Stopped,
    TCPPeer,
    Warned,
    home_directory,
    open_alone,
    open_history,
    own_addresses,
    parse_invite,
    probe,
)
from p2pchat.testing import Mesh
from tests.deadlines import WAIT, until
from tests.messaging.conftest import home as home
from tests.messaging.conftest import net as net
from tests.ports import free_ports


async def test_a_restarted_peer_is_the_same_and_its_history_is_readable_while_it_runs(home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        me = ada.me.id
        receipt = await ada.broadcast("written down")
        async with open_history(home / "ada") as history:
            assert [post.text for post in await history.history("room")] == ["written down"]
    async with TCPPeer(data=home / "ada") as ada:
        assert (ada.me.id, ada.me.name) == (me, "ada")
        assert [post.id for post in await ada.history()] == [receipt.id]
    async with open_history(home / "ada") as history:
        posts = await history.history()
        assert [(type(post), post.id, post.sender.name) for post in posts] == [(Sent, receipt.id, "ada")]
        assert [conversation.name for conversation in history.conversations()] == ["room"]
        with pytest.raises(PeerClosed):
            await history.room.send("no")


async def test_a_handler_of_the_programs_log_that_raises_ends_nothing(
    home: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise OSError(record.name)

    caplog.set_level(logging.DEBUG, "p2pchat.peer")
    logger, broken = logging.getLogger("p2pchat"), Broken()
    logger.addHandler(broken)
    try:
        async with TCPPeer(data=home / "ada", name="ada") as ada:
            async with TCPPeer(0, ada.port, data=home / "bob", name="bob") as bob:
                await (await bob.send("ada", "hello")).delivered()
    finally:
        logger.removeHandler(broken)
    assert "OSError: p2pchat.peer" in capsys.readouterr().err


async def test_a_start_that_renames_the_user_of_a_profile_warns(home: Path) -> None:
    """A second program with the port of a bot spoke as the bot, and nobody was told."""
    said: list[list[tuple[str, str]]] = []
    for name in ("bot", "bot", "shop", None):
        peer = TCPPeer(data=home / "8086", name=name)
        events = peer.events(Warned, consumer=None)
        async with peer:
            pass
        said.append([(event.code, event.text) async for event in events])
    text = "bot is called shop from now on: programs with one port, or one directory, are one user"
    assert said == [[], [], [("renamed", text)], []]


async def test_listening_is_constant_and_before_all_received(home: Path) -> None:
    async with TCPPeer(temporary=True, name="ada") as ada:
        began = ada.listening.at
        async with TCPPeer(0, ada.port, temporary=True, name="bob") as bob:
            await (await bob.send("ada", "hello")).delivered(timeout=60)
        [post] = await ada.history("bob")
        assert began == ada.listening.at < post.received_at


async def test_a_peer_on_loopback_knows_the_addresses_of_its_machine(home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        exchange = ada._driver.node.links._exchange
        await until(lambda: exchange._at, "the endpoints that are told")
        assert exchange._at == (ada.endpoint,)
        assert exchange._near == (*own_addresses(), "127.0.0.1")


async def test_an_endpoint_that_does_not_answer_is_an_event(home: Path) -> None:
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    peer = TCPPeer(0, nobody, temporary=True)
    events = peer.events(Link)
    async with peer:
        link = await anext(events)
        assert (link.endpoint, link.state) == (nobody, "trying")
        assert link.reason == "nobody listens there"
        assert await peer.connect(nobody) is False


async def test_a_peer_listens_on_a_socket_of_the_program(home: Path) -> None:
    """Its next life gets a copy of the same one: nobody else can have taken the port meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as kept:
        port = kept.getsockname()[1]
        async with TCPPeer(data=home / "bob", name="bob") as bob:
            for _ in range(2):
                given = kept.dup()
                async with TCPPeer(data=home / "ada", name="ada", host="0.0.0.0", listen=given) as ada:
                    assert (ada.port, ada.address, ada.listening.port) == (port, "127.0.0.1", port)
                    await bob.connect(port)
                    await bob.wait_user("ada", timeout=WAIT)
                assert given.fileno() == -1
    async with TCPPeer(listen=socket.create_server(("127.0.0.1", 0))) as cyd:
        assert cyd.data == home_directory() / str(cyd.port)  # as if it had been started with this port


async def test_a_bound_socket_is_taken_and_a_failed_start_closes_it(home: Path) -> None:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    async with TCPPeer(bound.getsockname()[1], data=home / "ada", listen=bound) as ada:
        assert (await probe(ada.port)).verdict == "reached"
        other = socket.create_server(("127.0.0.1", 0))
        with pytest.raises(DataLocked):
            await TCPPeer(data=home / "ada", listen=other).start()
        assert other.fileno() == -1


@pytest.mark.parametrize(
    "make, port, says",
    [
        (lambda: socket.socket(type=socket.SOCK_DGRAM), 0, "listens on a TCP socket: this one is of another kind"),
        (socket.socket, 0, "bound to a port: this one is not"),
        (lambda: socket.create_server(("127.0.0.1", 0)), 1, "the port is 1, and that of the socket is "),
    ],
)
def test_a_socket_that_suits_no_peer_is_refused(make: Callable[[], socket.socket], port: int, says: str) -> None:
    with make() as given, pytest.raises(ValueError, match=says):
        TCPPeer(port, listen=given)


async def test_a_failed_start_has_a_reason_of_one_line(home: Path) -> None:
    async with TCPPeer(data=home / "ada") as ada:
        with pytest.raises(DataLocked):
            await TCPPeer(data=home / "ada").start()
        with pytest.raises(PortInUse) as caught:
            await TCPPeer(ada.port, temporary=True).start()
        assert caught.value.port == ada.port
        with pytest.raises(PeerClosed):
            await ada.start()
    for wrong in ({"port": 70_000}, {"name": "a#b"}, {"data": home, "temporary": True}):
        with pytest.raises(ValueError):
            TCPPeer(**wrong)
    with pytest.raises(ValueError):
        TCPPeer(0, "no port")
    with pytest.raises(TypeError):
        TCPPeer("8080")  # type: ignore[arg-type]
    with pytest.raises(InviteError):
        await TCPPeer(temporary=True, invite="p2pchat:nonsense").start()
    with pytest.raises(PeerClosed):
        await TCPPeer(temporary=True).broadcast("not started")
    async with TCPPeer(data=home / "ada"):  # nothing is still locked
        pass


async def test_a_start_that_is_cancelled_leaves_nothing_open(home: Path) -> None:
    for turns in (1, 5):  # while its files are opened
        starting = asyncio.create_task(TCPPeer(data=home / "ada").start())
        for _ in range(turns):
            await asyncio.sleep(0)  # the number of turns is what varies
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    connected = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read(-1)
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        starting = asyncio.create_task(TCPPeer(0, port, data=home / "ada").start())
        await connected.wait()  # while it waits for an endpoint
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    async with TCPPeer(data=home / "ada"):
        pass


async def test_a_start_that_is_cancelled_twice_leaves_nothing_open_either(home: Path) -> None:
    """A start cancelled twice does not wait until files are released; aclose() does."""
    for turns in range(1, 12):
        peer = TCPPeer(data=home / "ada")
        starting = asyncio.create_task(peer.start())
        for _ in range(turns):
            await asyncio.sleep(0)  # the number of turns is what varies
        starting.cancel()
        await asyncio.sleep(0)  # the first cancellation arrives
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await peer.aclose()
        async with TCPPeer(data=home / "ada"):
            pass


async def test_a_peer_starts_once(home: Path) -> None:
    peer = TCPPeer(temporary=True)
    results = await asyncio.gather(peer.start(), peer.start(), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), PeerClosed]
    await peer.aclose()
    with pytest.raises(PeerClosed):
        await peer.start()


async def test_a_defect_in_the_core_keeps_no_peer_from_closing(home: Path) -> None:
    peer = TCPPeer(data=home / "ada")
    events = peer.events(Warned, Stopped)
    await peer.start()
    assert peer._driver is not None
    while not peer._lifecycle.idle:
        await asyncio.sleep(0)  # poll: nothing reports an idle peer
    peer._driver.node.links = None  # type: ignore[assignment]  # so that the core fails with the next link
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    await peer.aclose()
    assert [type(event) async for event in events] == [Warned, Stopped]
    assert [type(context["exception"]) for context in reported] == [AttributeError]
    async with TCPPeer(data=home / "ada"):
        pass


async def test_an_invite_admits_a_stranger(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with TCPPeer(temporary=True, name="ada") as ada:
        monkeypatch.setenv("P2PCHAT_HOME", str(home / "another login"))
        async with TCPPeer(0, ada.endpoint, data=home / "eve", name="eve") as eve:
            assert eve.links() == []  # another login's network
        async with TCPPeer(data=home / "bob", name="bob", invite=await ada.make_invite()) as bob:
            await (await bob.send("ada", "hello")).delivered(timeout=60)
        async with TCPPeer(data=home / "bob") as bob:  # without invite and endpoint: it is stored
            await bob.wait_user("ada", timeout=60)
            with pytest.raises(InviteError):
                await TCPPeer(data=home / "bob2", invite=await bob.make_invite() + "x").start()


async def test_who_cannot_dial_the_maker_of_its_invite_is_admitted_when_that_one_dials(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a machine that is always on joins the network of somebody behind a router."""
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        invite = await ada.make_invite(at=[f"127.0.0.1:{free_ports(1)[0]}"])
        monkeypatch.setenv("P2PCHAT_HOME", str(home / "bob's"))
        async with TCPPeer(data=home / "bob", name="bob", invite=invite) as bob:
            assert bob.links() == []
            assert await ada.connect(bob.port)
            await bob.wait_user("ada", timeout=WAIT)


async def test_an_invite_is_on_disk_when_it_is_made(home: Path) -> None:
    async with TCPPeer(data=home / "ada", name="ada") as ada:
        invite = await ada.make_invite(uses=3)
        shutil.copytree(home / "ada", home / "killed")  # what a kill -9 at this moment leaves
    async with open_alone(home / "killed") as ada:
        made = [(one.id, one.uses) for one in ada.people.invites()]
        assert made == [(parse_invite(invite).invitation.id, 3)]
        await ada.people.revoke(made[0][0])


async def test_a_profile_that_was_used_stays_in_its_network(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "other"))
    async with TCPPeer(temporary=True) as other:
        monkeypatch.setenv("P2PCHAT_HOME", str(home))
        async with TCPPeer(data=home / "ada", name="ada") as ada:
            own = await ada.make_invite()
        async with TCPPeer(data=tmp_path / "elsewhere" / "new") as new:  # started before, without any message
            pass
        async with TCPPeer(data=tmp_path / "elsewhere" / "new", invite=await other.make_invite()) as new:
            await new.wait_user(other.me.name, timeout=60)
            with pytest.raises(InviteError, match="only the founder"):
                await new.make_invite()
        async with TCPPeer(data=home / "ada") as ada:
            await ada.broadcast("now it is used")
        with pytest.raises(InviteError, match="belongs to another network: leave the invite out, or choose"):
            await TCPPeer(data=home / "ada", invite=await other.make_invite()).start()
        with pytest.raises(InviteError, match="leave the name of the network out"):
            await TCPPeer(data=home / "ada", network="lab").start()
        with pytest.raises(InviteError):
            await TCPPeer(data=tmp_path / "elsewhere" / "new", invite=own).start()
        async with TCPPeer(data=home / "ada", invite=own) as ada:  # of its own network
            assert [post.text for post in await ada.history()] == ["now it is used"]
    async with TCPPeer(data=home / "named", network="lab") as named:
        with pytest.raises(InviteError, match="join it with --network lab"):
            await named.make_invite()


async def test_who_knows_the_name_of_a_network_is_in_it(home: Path) -> None:
    async with TCPPeer(0, name="ada", temporary=True, network="Lab") as ada:
        await ada.broadcast("welcome")
        async with TCPPeer(0, ada.endpoint, data=home / "bob", name="bob", network="lab") as bob:
            await bob.wait_user("ada", timeout=60)
            events = bob.events(Message, start="beginning")
            message = await asyncio.wait_for(anext(events), 60)
            assert (message.text, message.old) == ("welcome", True)
            assert bob.listening.to_dict()["network"] == "lab" and bob.room.id == ada.room.id
    async with TCPPeer(data=home / "bob") as bob:  # it stays in it
        assert bob.listening.network == "lab"
    async with TCPPeer(data=home / "zoe") as zoe:
        assert zoe.listening.network == ""


@pytest.mark.parametrize("options", [{"network": ""}, {"network": "a\nb"}, {"network": "lab", "invite": "p2pchat:x"}])
def test_a_network_is_named_by_a_name_or_by_an_invite(options: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        TCPPeer(**options)  # type: ignore[arg-type]


async def test_waiting_calls_end_after_a_defect_in_the_core(net: Mesh) -> None:
    ada, bob, zoe = net.peers
    await net.crash(bob)
    await zoe.send("ada", "look", files=[("data", b"1" * 1000)])
    (file,) = (await ada.wait_for(Message, timeout=WAIT)).attachments
    await net.crash(zoe)
    receipt = await ada.send("bob", "are you there?")
    events = ada.events(Warned, Stopped)
    calls = [
        receipt.delivered(), receipt.read(), ada.wait_user("xia"), ada.wait_for(Message), file.fetch(),
        file.read(),
    ]  # fmt: skip
    waiting = [asyncio.create_task(call) for call in calls]
    for _ in range(10):
        await asyncio.sleep(0)  # the tasks wait
    assert not any(task.done() for task in waiting)
    assert ada._driver is not None
    ada._driver.node.presence = None  # type: ignore[assignment]
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    ada.set_presence("idle")
    late = [ada.broadcast("too late"), ada.history("bob"), file.fetch(), receipt.delivered(), ada.connect("nowhere:1")]
    async with asyncio.timeout(60):
        warned, stopped = [event async for event in events]
        ends = await asyncio.gather(*waiting, *late, return_exceptions=True)
        await ada.aclose()
    assert isinstance(warned, Warned) and warned.code == "internal"
    assert isinstance(stopped, Stopped) and stopped.reason == "failed"
    assert [type(end) for end in ends] == [PeerClosed] * 11


async def test_a_profile_elsewhere_stays_in_the_network_that_its_login_leaves(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with TCPPeer(temporary=True, name="ada") as ada:
        monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "bob's"))
        async with TCPPeer(data=tmp_path / "elsewhere", name="bot") as bot:
            await bot.broadcast("before")
            room = bot.room.id
        async with TCPPeer(data=tmp_path / "bob's" / "8080", name="bob", invite=await ada.make_invite()) as bob:
            await bob.wait_user("ada", timeout=60)
        async with TCPPeer(data=tmp_path / "elsewhere") as bot:
            assert bot.room.id == room and [post.text for post in await bot.history()] == ["before"]
        async with TCPPeer(temporary=True, name="bob's program") as program:
            assert program.room.id == ada.room.id
