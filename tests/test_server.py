"""The listening side: ports and addresses."""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import closing, suppress

import pytest

from p2pchat import server as server_module
from p2pchat.errors import HandshakeError, P2PChatError, PortInUse
from p2pchat.runtime.connection_manager import dial
from p2pchat.server import Server, loses_listener_on_error
from tests.deadlines import WAIT, within
from tests.link_ends import Recorder, listener, make_client
from tests.step_loop import open_sockets


@pytest.fixture(params=[False, True], ids=["elsewhere", "windows"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to accept, wherever this runs."""
    monkeypatch.setattr(server_module, "loses_listener_on_error", lambda loop: request.param)


both_systems = pytest.mark.usefixtures("system")


@both_systems
async def test_a_port_in_use_raises_port_in_use() -> None:
    async with listener() as listening:
        with pytest.raises(PortInUse, match=f"port {listening.server.port} .* in use") as refused:
            await Server(lambda *_: None).listen("127.0.0.1", listening.server.port)
        assert refused.value.port == listening.server.port


@both_systems
async def test_a_given_socket_is_listened_on_and_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as kept:
        host, port = kept.getsockname()
        async with asyncio.timeout(WAIT):
            waiting = await asyncio.open_connection(host, port)  # in the backlog: it is served later
            came: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
            server, given = Server(lambda reader, writer: came.put_nowait(writer)), kept.dup()
            await server.listen(host, port, given)
            assert (server.host, server.port) == (host, port)
            (await came.get()).transport.abort()
            await server.close()
        assert given.fileno() == -1
        waiting[1].transport.abort()


async def test_an_address_of_another_machine_is_refused() -> None:
    for host in ("192.0.2.7", "no such host"):
        with pytest.raises(P2PChatError, match="is no address of this machine"):
            await Server(lambda *_: None).listen(host, 0)


@pytest.mark.parametrize(
    "error, says",
    [
        (OSError(errno.EACCES, "Permission denied"), "choose one above 1023"),
        (OSError(errno.ENOBUFS, "No buffer space"), "cannot listen .*: No buffer space"),
        (OSError(errno.EADDRINUSE, "in use"), "is in use"),
    ],
)
async def test_errors_of_the_system_become_one_line(error: OSError, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(asyncio, "start_server", refuse)
    with pytest.raises(P2PChatError, match=says):
        await Server(lambda *_: None).listen("127.0.0.1", 80)


@both_systems
async def test_port_0_is_the_same_port_on_all_addresses_of_a_host() -> None:
    server = Server(lambda reader, writer: writer.transport.abort())
    await server.listen("localhost", 0)
    families = {info[0] for info in socket.getaddrinfo("localhost", server.port, type=socket.SOCK_STREAM)}
    for host in ["127.0.0.1"] + ["::1"] * (socket.AF_INET6 in families):
        _, writer = await asyncio.open_connection(host, server.port)
        writer.transport.abort()
    await server.close()


async def test_the_loop_that_loses_its_listener_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    class Deaf(asyncio.SelectorEventLoop):
        pass

    monkeypatch.setattr(asyncio, "ProactorEventLoop", Deaf, raising=False)
    with closing(Deaf()) as deaf, closing(asyncio.SelectorEventLoop()) as other:
        assert loses_listener_on_error(deaf)
        assert not loses_listener_on_error(other)  # also on Windows


async def test_a_failed_accept_does_not_end_listening_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncio's own loop would: a visitor that resets its connection could end listening."""
    loop = asyncio.get_running_loop()
    accept, failures = loop.sock_accept, [OSError(64, "The specified network name is no longer available")] * 3

    async def fail_first(sock: socket.socket) -> tuple[socket.socket, object]:
        if failures:
            raise failures.pop()
        return await accept(sock)

    monkeypatch.setattr(server_module, "loses_listener_on_error", lambda loop: True)
    monkeypatch.setattr(loop, "sock_accept", fail_first)
    async with listener() as listening:
        for streams in await listening.connect():
            streams[1].transport.abort()
    assert not failures


async def test_a_server_that_is_cancelled_while_it_starts_leaves_no_socket_open() -> None:
    before = open_sockets()
    for turns in range(8):
        server = Server(lambda reader, writer: None)
        listening = asyncio.create_task(server.listen("127.0.0.1", 0))
        for _ in range(turns):
            await asyncio.sleep(0)  # the number of turns is what varies
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await server.close()
        await asyncio.sleep(0)  # closed sockets are released in the next turn
        assert open_sockets() == before, turns


@both_systems
async def test_closing_refuses_new_connections_and_keeps_open_ones() -> None:
    async with listener() as listening:
        dialled, accepted = await listening.connect()
        await listening.server.close()
        with pytest.raises(OSError):
            await dial("127.0.0.1", listening.server.port, timeout=60)
        accepted[1].write(b"still here")
        assert await dialled[0].read(100) == b"still here"
        for streams in (dialled, accepted):
            streams[1].transport.abort()


async def test_a_connection_the_kernel_forgot_ends_with_the_handshake_timeout() -> None:
    """Linux answers with SYN cookies when a listening queue is full. It keeps nothing of such a connection: unless the
    dialler sends something it is never accepted, and believes it is connected. A dialler here sends its hello first.
    """
    with closing(socket.create_server(("127.0.0.1", 0), backlog=1)) as listener:  # nobody accepts
        ends = []
        for number in range(8):
            try:  # the first is answered; the wait for later ones may run out
                streams = await dial("127.0.0.1", listener.getsockname()[1], timeout=0.2 if number else WAIT)
            except OSError:
                continue  # not every system answers
            ends.append(make_client(streams, Recorder(), server_side=False))
        async with within(WAIT, "the handshakes to give up"):
            results = await asyncio.gather(*(end.handshake(0.1) for end in ends), return_exceptions=True)
    assert results and all(isinstance(result, HandshakeError | OSError) for result in results)


@pytest.mark.parametrize("turns", range(4))
async def test_a_connection_that_comes_while_the_server_closes_is_closed_too(turns: int) -> None:
    """Between them are turns of the loop; after one of these it is accepted and has no streams yet."""
    came: list[asyncio.StreamWriter] = []
    server = Server(lambda reader, writer: came.append(writer))
    await server.listen("127.0.0.1", 0)
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as visitor:
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.close()
        for _ in range(4):
            await asyncio.sleep(0)  # turns in which the connection is handed over
        for writer in came:
            writer.transport.abort()
        with suppress(ConnectionResetError):
            assert await asyncio.to_thread(visitor.recv, 1) == b""
