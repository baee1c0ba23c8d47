"""Receipts from readers who look at a conversation, are away, or are offline, over real processes."""

from __future__ import annotations

from datetime import datetime

import pytest

from p2pchat.testing.process_mesh import Child, Line
from tests.processes.peers import Cluster

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.relayed(always=False)]


async def two(cluster: Cluster) -> tuple[Child, Child]:
    """Start ada and bob, linked; bob's current conversation is the room, and he counts as present."""
    ada = cluster.child("ada")
    await ada.start()
    bob = cluster.child("bob", ada.endpoint)
    await bob.start()
    await ada.event("joined", user="bob")
    await bob.event("joined", user="ada")
    return ada, bob


async def write(writer: Child, text: str, to: str = "room") -> Line:
    """Have a peer send a text; return its `sent` line."""
    await writer.do(do="send", to=to, text=text)
    return await writer.event("sent", text=text)


async def still_unread(ada: Child, bob: Child, *messages: Line) -> None:
    """Check that ada has delivery receipts for these and no read receipt, which would come before bob's new message."""
    for message in messages:
        await ada.event("delivered", id=message["id"], user="bob")
    word = f"after {messages[-1]['text']}"
    await write(bob, word)
    await ada.event("message", text=word)
    assert [ada.count("read", id=message["id"]) for message in messages] == [0] * len(messages)


async def test_a_message_in_the_current_conversation_is_read_at_once(quick: Cluster) -> None:
    ada, bob = await two(quick)
    sent = await write(ada, "look")
    read = await ada.event("read", id=sent["id"])
    assert (read["user"], read["user_id"], read["count"], read["of"]) == ("bob", bob.listening["user_id"], 1, 1)
    came = await bob.event("message", id=sent["id"])
    assert _seconds(came, read) < 20, "not with something later"
    events = [line["event"] for line in ada.lines if line.get("id") == sent["id"]]
    assert events == ["sent", "delivered", "read"]
    assert await bob.leave() == await ada.leave() == 0
    assert quick.faults("ada", "bob", complete=False) == []


async def test_what_was_reported_as_read_stays_read_after_a_kill(quick: Cluster) -> None:
    ada, bob = await two(quick)
    await bob.type("/go ada")
    await bob.event("answer", command="go")
    sent = await write(ada, "psst", to="bob")
    await ada.event("read", id=sent["id"])
    bob.kill()
    await bob.ended()
    again = quick.child("bob", ada.endpoint)
    await again.start()
    await again.do(do="list")
    answer = await again.event("answer", command="list")
    assert {row["conversation"]: row["unread"] for row in answer["rows"]} == {"room": 0, "ada": 0}
    assert await again.leave() == await ada.leave() == 0


async def test_a_message_while_away_is_read_on_return(quick: Cluster) -> None:
    ada, bob = await two(quick)
    # Away: online, but not looking.
    await bob.do(do="away", text="lunch")
    await ada.event("presence", user="bob", status="idle", text="lunch")
    one, two_ = await write(ada, "one"), await write(ada, "two")
    await still_unread(ada, bob, one, two_)
    await bob.do(do="back")
    for message in (one, two_):
        await ada.event("read", id=message["id"], user="bob")
    # In the room, direct messages stay unread; in a direct conversation, the room does.
    psst = await write(ada, "psst", to="bob")
    await still_unread(ada, bob, psst)
    await bob.type("/go ada")
    await ada.event("read", id=psst["id"], user="bob")
    three = await write(ada, "three")
    await ada.event("delivered", id=three["id"], user="bob")
    await bob.do(do="send", to="room", text="busy")
    await ada.event("message", text="busy")
    assert ada.count("read", id=three["id"]) == 0
    await bob.type("/go room")
    await ada.event("read", id=three["id"], user="bob")
    assert [ada.count("read", id=message["id"]) for message in (one, two_, psst, three)] == [1] * 4
    assert await bob.leave() == await ada.leave() == 0
    assert quick.faults("ada", "bob", complete=False) == []


@pytest.mark.relayed
async def test_an_offline_message_is_delivered_later_with_its_original_time(quick: Cluster) -> None:
    ada, bob = await two(quick)
    port = bob.listening["port"]
    assert await bob.leave() == 0
    await ada.event("left", user="bob", reason="left")
    psst = await write(ada, "psst", to="bob")
    hello = await write(ada, "hello")
    ada.kill()  # the receipts reach the next life, for letters of this one
    await ada.ended()
    ada = quick.child("ada", port=ada.listening["port"])
    await ada.start()
    bob = quick.child("bob", ada.endpoint, port=port)
    await bob.start()
    for message in (psst, hello):
        came = await bob.event("message", id=message["id"])
        assert came["sent_at"] == message["sent_at"] < came["at"]
        await ada.event("delivered", id=message["id"], user="bob")
    await ada.event("read", id=hello["id"], user="bob")
    assert ada.count("read", id=psst["id"]) == 0
    await ada.do(do="receipts", id=psst["id"], ref="1")
    [row] = (await ada.event("answer", ref="1"))["rows"]
    assert (row["status"], row["delivered_to"], row["read_by"], row["of"]) == ("delivered", ["bob"], [], 1)
    await bob.do(do="read", id=psst["id"])
    await ada.event("read", id=psst["id"], user="bob")
    await ada.do(do="receipts", id=psst["id"], ref="2")
    [row] = (await ada.event("answer", ref="2"))["rows"]
    assert (row["status"], row["read_by"]) == ("read", ["bob"])
    assert await bob.leave() == await ada.leave() == 0
    assert quick.faults("ada", "bob", complete=False) == []


async def test_switched_off_receipts_reveal_no_reading(quick: Cluster) -> None:
    ada, bob = await two(quick)
    await bob.type("/set receipts off")
    [row] = (await bob.event("answer", command="set"))["rows"]
    assert (row["setting"], row["value"]) == ("receipts", "off")
    await still_unread(ada, bob, await write(ada, "one"))
    bob.kill()
    await bob.ended()
    bob = quick.child("bob", ada.endpoint, port=bob.listening["port"])
    await bob.start()
    await still_unread(ada, bob, await write(ada, "two"))
    await bob.type("/set receipts on ada")
    three = await write(ada, "three")
    await ada.event("read", id=three["id"], user="bob")
    assert await bob.leave() == await ada.leave() == 0
    assert quick.faults("ada", "bob", complete=False) == []


async def test_send_waits_until_it_is_read(quick: Cluster) -> None:
    ada, bob = await two(quick)
    here = ("--data", str(quick.home / "ada"))
    complaint = b""
    for timeout in ("0.5", "5", "50"):  # the first may end before it is delivered, on a busy machine
        if b"it is delivered" not in complaint:
            words = ("--wait", "read", "--timeout", timeout)
            code, _, complaint = await quick.talk("send", "bob", "psst", *words, *here)
            assert code == 3
    assert b"not read yet by bob; it is delivered" in complaint
    await bob.type("/go ada")
    code, _, complaint = await quick.talk("send", "bob", "again", "--wait", "read", *here)
    assert (code, complaint) == (0, b"")
    assert await bob.leave() == await ada.leave() == 0


def _seconds(one: Line, other: Line) -> float:
    first, last = (datetime.fromisoformat(line["at"]) for line in (one, other))
    return (last - first).total_seconds()
