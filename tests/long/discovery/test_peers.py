"""TCPPeer(discover=True): peers of one machine or of none, in one process; warnings are errors there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.processes.machines import Lan

ROOT = Path(__file__).resolve().parents[3]
HEAD = """\
import asyncio, sys
from p2pchat import Joined, P2PChatError, PeerClosed, TCPPeer, Warned

async def whole():
    await main()
    await asyncio.sleep(0)  # cancelled tasks end in this turn
    assert len(asyncio.all_tasks()) == 1, asyncio.all_tasks()
    print("ok")
"""
TAIL = "\nasyncio.run(whole())\n"


def run(body: str, home: Path, *under: str) -> None:
    """Run a program to its end; it says ok and nothing else."""
    command = [*under, sys.executable, "-W", "error", "-c", HEAD + body + TAIL]
    env = {**os.environ, "P2PCHAT_HOME": str(home)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=180)
    assert done.stderr == ""
    assert (done.stdout, done.returncode) == ("ok\n", 0)


def test_two_peers_of_one_login_find_each_other_and_end_without_a_trace(lan: Lan, tmp_path: Path) -> None:
    body = """
async def main():
    async with TCPPeer(host="0.0.0.0", name="ada", discover=True) as ada:
        async with TCPPeer(name="bob", discover=True) as bob:
            receipt = await ada.send(await ada.wait_user("bob", timeout=60), "found you")
            await receipt.delivered(timeout=60)
"""
    run(body, tmp_path, *lan.machine("10.77.0.1/24").under())


def test_who_knows_the_name_of_a_network_is_found_without_an_address(lan: Lan, tmp_path: Path) -> None:
    body = """
async def main():
    async with TCPPeer.local("Lab", name="ada") as ada, TCPPeer.local("other", name="eve"):
        async with TCPPeer.local("lab", name="bob") as bob:
            receipt = await ada.send(await ada.wait_user("bob", timeout=60), "found you")
            await receipt.delivered(timeout=60)
            assert len(bob.links()) == 1
"""
    run(body, tmp_path, *lan.machine("10.77.0.1/24").under())


def test_a_peer_may_be_closed_or_killed_at_any_moment(lan: Lan, tmp_path: Path) -> None:
    body = """
async def main():
    for turns in (0, 1, 3, 10, 30, 100, 300):  # of the loop: zeroconf is in another state after each
        peer = TCPPeer(host="0.0.0.0", discover=True)
        await peer.start()
        for _ in range(turns):
            await asyncio.sleep(0)  # the number of turns is what varies
        await (peer._lifecycle.kill() if turns == 3 else peer.aclose())
    for turns in (1, 10, 100, 1000):
        peer = TCPPeer(host="0.0.0.0", discover=True)
        starting = asyncio.create_task(peer.start())
        for _ in range(turns):
            await asyncio.sleep(0)  # the number of turns is what varies
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await peer.aclose()
"""
    run(body, tmp_path, *lan.machine("10.77.0.1/24").under())


def test_a_machine_without_a_network_gets_one_warning_and_a_peer_that_runs(lan: Lan, tmp_path: Path) -> None:
    body = """
async def main():
    peer = TCPPeer(host="0.0.0.0", discover=True)
    events = peer.events(Warned, consumer=None)
    async with peer:
        warned = await anext(events)
        assert warned.code == "discovery" and "no address" in warned.text, warned
        await peer.broadcast("alone, and running")
    assert [event async for event in events] == []
"""
    run(body, tmp_path, *lan.machine().under())


def test_a_missing_extra_is_named_and_nothing_stays_open(tmp_path: Path) -> None:
    body = """
sys.modules["zeroconf"] = None  # as where it is not installed
async def main():
    peer = TCPPeer(discover=True)
    try:
        await peer.start()
    except P2PChatError as error:
        assert "[discovery]" in str(error) and "\\\\n" not in str(error), error
    else:
        raise AssertionError("it started")
    async with TCPPeer():
        pass  # without it nothing is amiss
"""
    run(body, tmp_path)
