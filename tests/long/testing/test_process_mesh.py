"""processes() as authors of bots use it: real peers, killed and restarted, and what their logs prove."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from p2pchat.testing import ChildFailed, processes
from p2pchat.testing.eventlog_parser import Log
from p2pchat.testing.process_mesh import HIGHEST_PORT, LOWEST_PORT
from tests.deadlines import until


async def test_a_message_to_a_killed_peer_arrives_when_it_is_back(tmp_path: Path) -> None:
    async with processes("ada", "bob", "cyd", logs=tmp_path / "logs") as net:
        ada, bob, cyd = net.peers
        await net.kill(bob)
        sent = await ada.send("are you there?", to="bob")
        bob = await net.restart(bob)
        assert (await bob.event("message", text="are you there?"))["id"] == sent["id"]
        assert await net.finish() == []
        assert net.peers == [ada, bob, cyd] and not any(peer.is_running for peer in net.peers)
        homes = [net.home / name for name in ("ada", "bob", "cyd")]
        assert all(home.exists() for home in homes)
    assert not any(home.exists() for home in homes)
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["ada.jsonl", "bob.jsonl", "cyd.jsonl"]
    assert len(Log.read(tmp_path / "logs" / "bob.jsonl").sessions) == 2  # a killed process may leave half a line


async def test_a_peer_whose_port_another_program_has_for_a_moment_gets_it_back(tmp_path: Path) -> None:
    async with processes("ada", "bob", logs=tmp_path) as net:
        ada, _ = net.peers
        port = ada.listening["port"]
        assert LOWEST_PORT <= port <= HIGHEST_PORT  # no system gives it to another program on its own
        await net.kill(ada)
        with socket.create_server(("127.0.0.1", port)):
            restarting = asyncio.create_task(net.restart(ada))
            await until(lambda: net.peers[0].complaints, "a start that found the port taken")
        ada = await restarting
        assert ada.listening["port"] == port
        assert await net.finish() == []


async def test_what_a_log_lacks_is_reported_and_a_new_run_begins_with_new_logs(tmp_path: Path) -> None:
    async with processes("ada", "bob", logs=tmp_path) as net:
        ada, bob = net.peers
        sent = await ada.send("hello")
        await bob.event("message", id=sent["id"])
        await ada.event("delivered", id=sent["id"])
        assert await net.finish() == []
        log = net.log("bob")
        lines = log.read_text("utf-8").splitlines(keepends=True)
        log.write_text("".join(line for line in lines if sent["id"] not in line), "utf-8")
        assert {fault.split(": ")[1] for fault in net.faults(complete=True)} == {"lost", "delivered"}
    async with processes("bob", logs=str(tmp_path)) as net:
        assert len(Log.read(net.log("bob")).sessions) == 1


async def test_a_peer_that_ends_or_refuses_says_why_and_none_is_left(tmp_path: Path) -> None:
    async with processes("ada") as net:
        ada = net.peers[0]
        with pytest.raises(ChildFailed, match="ada refused it: nobody here is called"):
            await ada.send("hello", to="nobody")
    assert not ada.is_running and not net.home.exists()
    async with processes("ada") as net:
        ada = net.peers[0]
        ada.kill()
        with pytest.raises(ChildFailed, match="ada ended after 0 of 1 lines"):
            await ada.event("message")
        cyd = net.child("cyd", "--nonsense")
        with pytest.raises(ChildFailed, match="No such option"):
            await cyd.start()
