"""`p2pchat doctor` beside a running peer, which says itself where it listens."""

from __future__ import annotations

import asyncio
import json
import os
import sys

from tests.processes.stage import Stage


async def test_beside_a_running_peer_wherever_its_profile_is(stage: Stage) -> None:
    bob = stage.child("bob")
    await bob.start()
    command = [sys.executable, "-m", "p2pchat", "doctor", "--json", "--data", str(stage.home / "bob")]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env={**os.environ, "P2PCHAT_HOME": str(stage.home)}
    )
    out, _ = await process.communicate()
    found = {line["what"]: line for line in map(json.loads, out.splitlines())}
    assert process.returncode == 0
    assert found["port"]["seen"] == f"{bob.listening['port']} is this peer's, which answers"
    assert found["lock"]["seen"] == f"in use by process {bob.process.pid}"
    assert found["database"]["verdict"] == "ok"
    assert await bob.leave() == 0
