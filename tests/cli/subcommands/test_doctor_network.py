"""Checks of the network: ports with real listeners on loopback, known peers."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from p2pchat import KnownAddress, TCPPeer, open_history
from p2pchat.cli.subcommands import doctor_network
from p2pchat.cli.subcommands.doctor_checks import Finding
from p2pchat.cli.subcommands.doctor_network import (
    bind_error,
    check_peers,
    check_port,
    check_reachability,
    from_answers,
)
from tests.deadlines import WAIT
from tests.ports import free_ports

OTHER = "127.0.0.2"  # represents a public address; only Linux has it without configuration
linux = pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is this machine without more on Linux only")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))
    for timeout in ("OWN_PROBE_TIMEOUT", "PEERS_PROBE_TIMEOUT"):  # 2 s and 3 s
        monkeypatch.setattr(doctor_network, timeout, WAIT)
    return tmp_path


async def look(number: int, data: Path | None = None, holder: int | None = None) -> Finding:
    return await check_port(number, str(data or Path("nothing")), holder)


@asynccontextmanager
async def listener(answer: bytes = b"") -> AsyncIterator[int]:
    talks: list[asyncio.Task[None]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while await reader.read(1000) and not answer:
                pass
            writer.write(answer)
        writer.close()

    def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.append(asyncio.ensure_future(talk(reader, writer)))

    number = int(free_ports(1)[0])  # no system gives it to somebody else afterwards
    server = await asyncio.start_server(take, "127.0.0.1", number)
    try:
        yield number
    finally:
        server.close()
        await asyncio.gather(*talks)


async def test_a_free_port() -> None:
    number = int(free_ports(1)[0])
    assert await look(number) == Finding("port", "ok", f"{number} is free")
    held = await look(number, holder=4711)
    assert held.verdict == "warning" and "does not listen on port" in held.seen


async def test_a_port_taken_by_another_peer_or_program(home: Path) -> None:
    async with TCPPeer(0, name="ada", temporary=True) as ada:
        found = await look(ada.port)
    assert found.verdict == "wrong" and found.seen.endswith(f"another p2pchat peer ({ada.me.id[:8]})")
    async with listener(b"HTTP/1.1 400 Bad Request\r\n\r\n") as number:
        found = await look(number)
    assert found.verdict == "wrong" and found.seen.endswith("another program") and str(number) in found.mend


async def test_a_silent_listener_may_be_this_peer_stopped_by_ctrl_z(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_network, "OWN_PROBE_TIMEOUT", 0.1)  # runs out
    async with listener() as number:
        found = await look(number)
        assert found.verdict == "wrong" and found.seen.endswith("accepts connections and sends nothing")
        found = await look(number, holder=4711)
    assert found.verdict == "wrong" and "process 4711" in found.seen and found.mend.startswith("fg ")


async def test_a_port_that_is_bound_and_not_listening() -> None:
    with socket.socket() as other:
        other.bind((OTHER if sys.platform == "linux" else "127.0.0.1", int(free_ports(1)[0])))
        other.listen()
        number = other.getsockname()[1]
        assert bind_error(number) != 0
        found = await check_port(number, None, None)
    assert found.verdict == "wrong" and found.seen.startswith(f"{number} is taken")


async def test_the_port_of_a_program_that_answers_no_commands(home: Path) -> None:
    async with TCPPeer(0, name="ada", data=home / "ada") as ada:
        assert await look(ada.port, home / "ada") == Finding("port", "ok", f"{ada.port} is this peer's, which answers")


def test_listening_on_loopback_only() -> None:
    _, found = check_reachability("127.0.0.1", 8080, ["192.168.1.20"])
    assert found.verdict == "warning" and "loopback only" in found.seen
    assert found.mend.endswith("p2pchat 8080 --host 0.0.0.0")


@pytest.mark.parametrize(
    ("host", "there"), [("0.0.0.0", "192.168.1.20:1"), ("::", "192.168.1.20:1"), ("fd00::7", "[fd00::7]:1")]
)
def test_listening_for_others(host: str, there: str) -> None:
    _, found = check_reachability(host, 1, ["192.168.1.20", "fd00::7"])
    assert found.verdict == "ok" and "cannot be seen from here" in found.seen
    assert found.mend == f"on the other machine run: p2pchat doctor {there}"


def test_addresses_of_this_machine() -> None:
    [found] = check_reachability("0.0.0.0", 1, [])
    assert found.verdict == "warning"
    [found] = check_reachability("", 1, ["192.168.1.20", "100.64.0.9", "fd00::7", "8.8.8.8", "2606:4700::1"])
    assert found.verdict == "ok"
    assert found.seen == "192.168.1.20 (private), 100.64.0.9 (private), fd00::7 (private), 8.8.8.8"


async def known(home: Path) -> list[KnownAddress]:
    async with open_history(home / "ada") as history:
        return history.addresses()


async def test_one_known_peer_answers_and_then_none(home: Path) -> None:
    async with TCPPeer(0, name="bob", data=home / "bob") as bob:
        async with TCPPeer(0, bob.endpoint, name="ada", data=home / "ada") as ada:
            async with TCPPeer(0, bob.endpoint, ada.endpoint, name="cyd", temporary=True) as cyd:
                for other in (bob, cyd):
                    await (await ada.send(other.me, "hi")).delivered(timeout=60)
        [found] = await check_peers(await known(home), str(home / "ada"))
        assert (found.verdict, found.seen) == ("ok", "1 of 2 known here answer: bob")
    [found] = await check_peers(await known(home), str(home / "ada"))
    assert found.verdict == "warning" and "bob" in found.seen and "cyd" in found.seen
    assert "p2pchat doctor 127.0.0.1:" in found.mend
    assert found.mend.endswith(" may have another address: /connect HOST:PORT, or --discover")


async def test_a_peer_at_whose_address_another_one_answers_is_not_there(home: Path) -> None:
    port = int(free_ports(1)[0])
    async with TCPPeer(port, name="bob", data=home / "bob") as bob:
        async with TCPPeer(0, bob.endpoint, name="ada", data=home / "ada") as ada:
            await (await ada.send(bob.me, "hi")).delivered(timeout=60)
    async with TCPPeer(port, name="cyd", data=home / "cyd"):
        [found] = await check_peers(await known(home), str(home / "ada"))
    assert found.verdict == "warning" and "bob" in found.seen


def test_a_name_cannot_forge_a_finding() -> None:
    [found] = from_answers({"bob, cyd": "127.0.0.1:1"}, {"bob, cyd"})
    assert found.seen == '1 of 1 known here answer: "bob, cyd"'


async def test_no_peer_is_known(home: Path) -> None:
    assert await check_peers([], str(home)) == from_answers({}, ()) == []


def test_a_peer_that_runs_without_a_link_is_not_well_because_others_answer() -> None:
    endpoints = {"ada": "10.0.0.1:8080", "bob": "10.0.0.2:8080"}
    [found] = doctor_network.from_answers(endpoints, {"ada"}, runs=True)
    assert (found.verdict, found.seen) == ("warning", "linked with nobody, though 1 of 2 known here answer: ada")
