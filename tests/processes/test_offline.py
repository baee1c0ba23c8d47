"""Delivery to offline peers, by killed writers and for writers who never return, over real processes."""

from __future__ import annotations

import pytest

from p2pchat.testing.process_mesh import Child, Line
from tests.processes.peers import Cluster

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.relayed]

LETTERS = 50
LATER = 10  # letters written after the kill
LINES = 200
Identity = tuple[str, str, str, str]


async def meet(*children: Child) -> None:
    for one in children:
        for other in children:
            if one is not other:
                await one.event("joined", user=other.name)


def identities(lines: list[Line]) -> list[Identity]:
    """Return the fields of each message that are the same on every peer and never change."""
    return [(line["id"], line["text"], line["sender"], line["sent_at"]) for line in lines]


async def write(child: Child, to: str, texts: list[str]) -> list[Line]:
    """Have a peer send these texts; return its `sent` lines: they are accepted."""
    for text in texts:
        await child.do(do="send", to=to, text=text)
    return await child.wait(lambda line: line["event"] == "sent" and line["text"] in texts, count=len(texts))


async def test_messages_to_an_offline_peer_survive_a_kill_of_their_writer(quick: Cluster) -> None:
    ada = quick.child("ada")
    await ada.start()
    bob = quick.child("bob", ada.endpoint)
    await bob.start()
    await meet(ada, bob)
    port = ada.listening["port"], bob.listening["port"]
    assert await bob.leave() == 0
    await ada.event("left", user="bob", reason="left")

    letters = await write(ada, "bob", [f"letter {number}" for number in range(LETTERS)])
    ada.kill()
    await ada.ended()
    ada = quick.child("ada", port=port[0])
    await ada.start()
    later = await write(ada, "bob", [f"later {number}" for number in range(LATER)])

    bob = quick.child("bob", port=port[1])
    await bob.start()
    came = await bob.wait(lambda line: line["event"] == "message", count=LETTERS + LATER)
    assert identities(came) == identities([*letters, *later])
    assert [line["text"] for line in came[:LETTERS]] == [f"letter {number}" for number in range(LETTERS)]
    for letter in [*letters, *later]:
        assert (await ada.event("delivered", id=letter["id"]))["user"] == "bob"

    assert quick.faults("ada", "bob", complete=True) == []  # before the stops, after which receipts may be missing
    assert [await ada.leave(), await bob.leave()] == [0, 0]
    assert identities(await quick.history("bob")) == identities([*letters, *later])
    assert bob.count("message") == LETTERS + LATER
    assert ada.count("delivered") == LETTERS + LATER


async def test_messages_of_a_departed_writer_come_from_others(quick: Cluster) -> None:
    ada = quick.child("ada")
    await ada.start()
    bob = quick.child("bob", ada.endpoint)
    await bob.start()
    await meet(ada, bob)
    lines = await write(ada, "room", [f"line {number}" for number in range(LINES)])
    await bob.wait(lambda line: line["event"] == "message", count=LINES)
    assert await ada.leave() == 0  # never starts again: only bob has her messages

    cyd = quick.child("cyd", bob.endpoint)
    await cyd.start()
    came = await cyd.wait(lambda line: line["event"] == "message", count=LINES)
    assert identities(came) == identities(lines)
    assert {line["sender"] for line in came} == {"ada"}
    assert {line["sender_id"] for line in came} == {ada.listening["user_id"]}
    assert all(line["old"] for line in came)

    # Bob is killed, cyd stops; both start without endpoints, one of them at another address.
    await meet(bob, cyd)
    cyd.kill()
    await cyd.ended()
    assert await bob.leave() == 0
    bob, cyd = quick.child("bob"), quick.child("cyd", port=cyd.listening["port"])
    await bob.start()
    await cyd.start()
    await meet(bob, cyd)
    await write(cyd, "bob", ["here again"])
    assert (await bob.event("message", text="here again"))["sender"] == "cyd"
    assert [await bob.leave(), await cyd.leave()] == [0, 0]
    assert quick.faults("ada", "bob", "cyd", complete=False) == []
    assert identities(await quick.history("cyd"))[:LINES] == identities(lines)
