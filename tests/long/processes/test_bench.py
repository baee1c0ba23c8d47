"""`p2pchat bench` between two processes: its figures, and the messages it leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.processes.peers import Cluster


async def bench(home: Path, *words: str) -> tuple[int, str, str]:
    """Run `p2pchat bench WORDS`; return its exit code, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "p2pchat", "bench", "--seconds", "0.1", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "P2PCHAT_HOME": str(home)},
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def figures(out: str) -> dict[str, dict[str, Any]]:
    return {line["what"]: line for line in map(json.loads, out.splitlines())}


async def test_bench_leaves_nothing_behind_unless_it_writes(cluster: Cluster) -> None:
    ada = cluster.child("ada")
    await ada.start()
    bob = cluster.child("bob", ada.endpoint)
    await bob.start()
    await ada.event("joined", user="bob")
    data = cluster.home / "bob"
    before = {path.name for path in data.iterdir()}

    code, out, err = await bench(cluster.home, ada.endpoint, "--data", str(data), "--json")
    found = figures(out)
    assert (code, err) == (0, "")
    assert list(found) == ["peer", "round_trip", "proof", "link", "accepted", "accepted_many"]
    assert (found["peer"]["user"], found["peer"]["peer_id"]) == ("ada", ada.listening["peer_id"])
    assert all(line["value"] > 0 and line["count"] > 0 for what, line in found.items() if what != "peer")
    assert all(line["p99"] is None or line["value"] <= line["p99"] for what, line in found.items() if what != "peer")
    assert found["link"]["value"] >= found["proof"]["value"]

    code, out, err = await bench(cluster.home, ada.endpoint, "--data", str(data), "--write", "12")
    assert code == 0
    assert "delivered many" in out
    assert "ada has 12 messages of bench now" in err
    said = await ada.wait(lambda line: line["event"] == "message", count=12)
    assert {(line["kind"], line["sender"]) for line in said} == {("dm", "bench")}
    assert "11 more messages follow" in said[0]["text"]
    await ada.event("left", user="bench", reason="left")
    assert ada.count("joined") == 2, "bob and the bench that wrote: the one before was never here"
    assert bob.count("message") == 0
    assert {path.name for path in data.iterdir()} == before


async def test_an_unreachable_peer_is_one_line_with_advice(cluster: Cluster) -> None:
    ada = cluster.child("ada")
    await ada.start()
    data = str(cluster.home / "ada")
    code, out, err = await bench(cluster.home, ada.endpoint, "--data", data)
    assert (code, out) == (1, "")
    assert "this peer itself answers" in err
    assert await ada.leave() == 0
    code, out, err = await bench(cluster.home, ada.endpoint, "--data", data)
    assert (code, out) == (1, "")
    assert "no program listens on that port; start a peer on that port" in err
    assert len(err.splitlines()) == 1
