"""`p2pchat bench` between two processes: its figures, and the messages it leaves behind."""

from __future__ import annotations

import json
from typing import Any

from tests.processes.peers import Cluster


async def bench(cluster: Cluster, *words: str) -> tuple[int, str, str]:
    """Run `p2pchat bench WORDS`; return its exit code, stdout and stderr."""
    code, out, err = await cluster.talk("bench", "--seconds", "0.1", *words)
    return code, out.decode(), err.decode()


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

    code, out, err = await bench(cluster, ada.endpoint, "--data", str(data), "--json")
    found = figures(out)
    assert (code, err) == (0, "")
    assert list(found) == ["peer", "round_trip", "proof", "link", "accepted", "accepted_many"]
    assert (found["peer"]["user"], found["peer"]["peer_id"]) == ("ada", ada.listening["peer_id"])
    assert all(line["value"] > 0 and line["count"] > 0 for what, line in found.items() if what != "peer")
    assert all(line["p99"] is None or line["value"] <= line["p99"] for what, line in found.items() if what != "peer")
    assert found["link"]["value"] >= found["proof"]["value"]

    code, out, err = await bench(cluster, ada.endpoint, "--data", str(data), "--write", "12")
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


async def test_the_peer_itself_is_not_measured(cluster: Cluster) -> None:
    ada = cluster.child("ada")
    await ada.start()
    data = str(cluster.home / "ada")
    code, out, err = await bench(cluster, ada.endpoint, "--data", data)
    assert (code, out) == (1, "")
    assert "this peer itself answers" in err
    assert len(err.splitlines()) == 1
