"""`p2pchat doctor` between two machines with different faults of the network."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from p2pchat.testing.process_mesh import Child
from tests.processes.machines import Machine, lan_or_skip

P2PCHAT = (sys.executable, "-m", "p2pchat")
Findings = dict[str, dict[str, str]]


async def examined(home: Path, *words: str, on: Machine) -> Findings:
    """Run `p2pchat doctor WORDS` on that machine; return its findings by name of the check."""
    process = await asyncio.create_subprocess_exec(
        *(*on.under(), *P2PCHAT, "doctor", "--json", *words),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "P2PCHAT_HOME": str(home)},
    )
    out, _ = await process.communicate()
    found: Findings = {line["what"]: line for line in map(json.loads, out.splitlines())}
    assert process.returncode == any(line["verdict"] == "wrong" for line in found.values())
    return found


async def listening(machine: Machine, home: Path, *words: str) -> Child:
    bob = Child("bob", home, "--data", str(home / "bob"), *words, port=8080, under=machine.under())
    await bob.start()
    return bob


async def test_doctor_checks_the_way_to_another_machine(tmp_path: Path) -> None:
    with lan_or_skip() as lan:
        here, there = lan.machine("10.77.0.1/24"), lan.machine("10.77.0.2/24")

        async def way() -> tuple[str, str]:
            found = (await examined(tmp_path / "ada", "10.77.0.2:8080", on=here))["10.77.0.2:8080"]
            return found["seen"], found["mend"]

        bob = await listening(there, tmp_path / "bob")
        assert await way() == (
            "the machine answers, but no program listens on that port",
            "start the peer there so that others can reach it: p2pchat 8080 --host 0.0.0.0",
        )
        found = await examined(tmp_path / "bob", "--data", str(tmp_path / "bob/bob"), on=there)
        assert found["reach"]["verdict"] == "warning" and "loopback only" in found["reach"]["seen"]
        assert await bob.leave() == 0

        bob = await listening(there, tmp_path / "bob", "--host", "0.0.0.0")
        found = await examined(tmp_path / "bob", "--data", str(tmp_path / "bob/bob"), on=there)
        assert found["reach"]["mend"] == "on the other machine run: p2pchat doctor 10.77.0.2:8080"
        seen, mend = await way()
        assert seen == "a p2pchat peer of another network answers" and "--invite" in mend

        there.run("ip", "route", "add", "blackhole", "10.77.0.1/32")  # drops packets like a firewall
        seen, mend = await way()
        assert seen == "nothing comes back from there" and "let port 8080 through firewall and router" in mend
        here.run("ip", "route", "add", "unreachable", "10.77.0.2/32")
        seen, mend = await way()
        assert seen == "there is no route to that address"
        assert await bob.leave() == 0
