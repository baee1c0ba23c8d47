"""A whole cluster that is lost, gateways and engine, and goes on from the copies of its gateways."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from p2pchat.cli.control_client import ask_running_peer
from tests.deadlines import WAIT, within
from tests.web.cluster.site import LOOK_EVERY, Gate, Site, missing, site

pytestmark = [pytest.mark.skipif(bool(missing()), reason=missing())]

NAMES = ["ada", "bob", "cyd", "zoe"]


async def _texts(gate: Gate, token: str, other: str, expected: list[str]) -> None:
    """Wait until an account reads these texts of a conversation."""
    headers = {"Authorization": f"Bearer {token}"}
    found: object = None
    async with gate.caller() as http:
        try:
            async with within(WAIT, f"the history at {gate.name}"):
                while found != expected:
                    answer = await http.get("/messages", headers=headers, params={"conversation": other})
                    found = sorted(row["content"] for row in answer.json()) if answer.is_success else answer.text
                    await asyncio.sleep(LOOK_EVERY)  # poll: another process
        except TimeoutError:
            pytest.fail(f"{gate.name} has {found}, not {expected}: {gate.log.read_text()}")


async def _write(gate: Gate, token: str, to: str, text: str) -> None:
    async with gate.caller() as http:
        headers = {"Authorization": f"Bearer {token}"}
        answer = await http.post("/messages", headers=headers, json={"to": to, "content": text})
        assert answer.is_success, answer.text


async def _status(gate: Gate, token: str) -> int:
    async with gate.caller() as http:
        return (await http.get("/users", headers={"Authorization": f"Bearer {token}"})).status_code


async def _refused(gates: list[Gate], token: str) -> None:
    """Wait until no gateway takes a token any more."""
    async with within(WAIT, "the end of a token"):
        for gate in gates:
            while await _status(gate, token) != httpx.codes.UNAUTHORIZED:
                await asyncio.sleep(LOOK_EVERY)  # poll: another process


async def _back_up(gate: Gate, copy: Path) -> None:
    command = [sys.executable, "-m", "p2pchat", "backup", str(copy), "--data", str(gate.data)]
    done = await asyncio.to_thread(subprocess.run, command, env=gate.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


async def _lose_all_and_restore(one: Site, copies: list[Path]) -> None:
    """Kill everything, delete all disks, and start the gateways from their copies beside empty nats-servers."""
    one.close()
    for number, server in enumerate(one.engines):
        shutil.rmtree(one.home / f"engine{number}")
        server.start()
    for gate, copy in zip(one.gates, copies, strict=False):
        shutil.rmtree(gate.data)
        copy.rename(gate.data)
    await one.start(len(copies))


async def test_a_cluster_of_which_only_copies_are_left_goes_on(tmp_path: Path) -> None:
    async with site(tmp_path) as one:
        gates = one.gates[:3]
        tokens = await one.accounts(NAMES)
        for number, gate in enumerate(gates):
            await _write(gate, tokens["ada"], "room", f"room {number}")
            await _write(gate, tokens["ada"], "bob", f"direct {number}")
        await ask_running_peer(gates[0].data, "web_revoke", name="zoe")
        await _refused(gates, tokens["zoe"])
        for gate in gates:
            await _texts(gate, tokens["bob"], "ada", ["direct 0", "direct 1", "direct 2"])
        copies = [tmp_path / f"copy{number}" for number in range(3)]
        for gate, copy in zip(gates, copies, strict=True):
            await _back_up(gate, copy)
        tokens |= await one.accounts(["late"])
        await _write(gates[0], tokens["ada"], "bob", "after the copy")

        await _lose_all_and_restore(one, copies)
        assert [await _status(gate, tokens["zoe"]) for gate in gates] == [401, 401, 401]
        assert [await _status(gate, tokens["late"]) for gate in gates] == [401, 401, 401]
        for gate in gates:
            await _texts(gate, tokens["bob"], "ada", ["direct 0", "direct 1", "direct 2"])
            await _texts(gate, tokens["cyd"], "room", ["room 0", "room 1", "room 2"])
        await _write(gates[2], tokens["bob"], "ada", "we are back")
        for gate in gates:
            await _texts(gate, tokens["ada"], "bob", ["direct 0", "direct 1", "direct 2", "we are back"])
        again = await one.accounts(["late"])
        assert await _status(gates[1], again["late"]) == httpx.codes.OK
