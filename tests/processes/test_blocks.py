"""Blocked users with real processes: the link ends, nothing more is stored, and all of it comes when the block ends."""

from __future__ import annotations

from datetime import datetime

import pytest

from p2pchat import Settings
from p2pchat.testing.process_mesh import Child
from tests.processes.peers import Cluster

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.relayed(always=False)]
SILENCE_ENDS_A_LINK = Settings().dead_after


async def say(writer: Child, text: str, *to: Child) -> None:
    """Write to the room, and wait until these have it."""
    await writer.do(do="send", to="room", text=text)
    for reader in to:
        await reader.event("message", text=text)


async def stored(cluster: Cluster, name: str, sender: str) -> list[str]:
    """Return the texts of one user that another has stored, by `p2pchat history`."""
    return [line["text"] for line in await cluster.history(name) if line["sender"] == sender]


def time_of(line: dict[str, str]) -> datetime:
    return datetime.fromisoformat(line["at"])


async def test_a_blocked_user_has_no_link_and_stores_nothing_until_it_is_unblocked(quick: Cluster) -> None:
    ada = quick.child("ada")
    await ada.start()
    port = ada.listening["port"]
    bob = quick.child("bob", ada.endpoint)
    await bob.start()
    cyd = quick.child("cyd", ada.endpoint, bob.endpoint)
    await cyd.start()
    for one, names in ((ada, ("bob", "cyd")), (bob, ("ada", "cyd")), (cyd, ("ada", "bob"))):
        for name in names:
            await one.event("joined", user=name)
    await say(bob, "before", ada, cyd)

    await ada.do(do="block", user="bob", ref="block")
    answer = await ada.event("answer", ref="block")
    assert [row["blocked"] for row in answer["rows"]] == [True]
    down = await ada.event("link", state="down", peer_id=bob.listening["peer_id"])
    assert abs((time_of(down) - time_of(answer)).total_seconds()) < SILENCE_ENDS_A_LINK, "not by itself, later"
    await bob.event("link", state="down", peer_id=ada.listening["peer_id"])
    for number in range(3):
        await say(bob, f"line {number}", cyd)
    await bob.do(do="send", to="ada", text="are you there?")
    await say(cyd, "bob is nice", ada, bob)
    assert await stored(quick, "ada", "bob") == ["before"]

    ada.kill()
    await ada.ended()
    ada = quick.child("ada", bob.endpoint, cyd.endpoint, port=port)  # naming an endpoint does not help
    await ada.start()
    await ada.event("joined", user="cyd")
    await ada.event("link", state="trying", code="blocked", endpoint=bob.endpoint)
    await say(cyd, "and I told you so", ada, bob)
    assert await stored(quick, "ada", "bob") == ["before"]
    assert ada.count("joined", user="bob") == 0
    told = [line.get("reason", "") for line in bob.lines if line["event"] in ("link", "left")]
    assert not any("block" in text for text in told)

    await ada.do(do="unblock", user="bob", ref="unblock")
    await ada.event("answer", ref="unblock")
    await ada.event("message", text="are you there?")
    for number in range(3):
        await ada.event("message", text=f"line {number}")
    [sent] = await bob.wait(lambda line: line["event"] == "sent" and line["text"] == "are you there?")
    await bob.event("delivered", id=sent["id"])
    await say(bob, "at last", ada, cyd)
    texts = [line["text"] for line in ada.lines if line["event"] == "message" and line["sender"] == "bob"]
    assert [text for text in texts if text != "are you there?"] == ["line 0", "line 1", "line 2", "at last"]
