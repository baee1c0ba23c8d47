"""`p2pchat delete` with real peers, beside an open chat and at rest: what it says, what stays, and what comes then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2pchat import open_history
from p2pchat.testing.process_mesh import Child
from tests.processes.peers import Cluster

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def tell(one: Child, to: str, text: str) -> None:
    """Send a message and wait until it is delivered."""
    await one.event("delivered", id=(await one.send(text, to=to))["id"])


async def met(net: Cluster) -> tuple[Child, Child]:
    """Return two linked peers, each of whom has told the other something."""
    ada, bob = await net.add("ada"), await net.add("bob")
    await tell(ada, "bob", "plugh from ada")
    await tell(bob, "ada", "xyzzy from bob")
    return ada, bob


async def run(net: Cluster, *words: str) -> tuple[int, str, str]:
    code, out, err = await net.talk(*words, "--data", str(net.home / "ada"))
    return code, out.decode(), err.decode()


async def test_a_conversation_is_deleted_beside_an_open_chat(quick: Cluster) -> None:
    ada, bob = await met(quick)
    assert (await run(quick, "history", "--search", "xyzzy"))[1].count("xyzzy") == 1  # makes an index
    code, _, err = await run(quick, "delete", "bob")
    assert (code, "add --yes" in err) == (2, True)
    await bob.leave()
    await ada.send("not yet with bob", to="bob")
    code, out, _ = await run(quick, "delete", "bob", "--yes")
    assert code == 0 and out.startswith("deleted 2 messages of bob here, ")
    assert out.splitlines()[1:] == ["kept 1 message of yours: nobody else has it yet"]
    bob = await quick.restart(bob)
    await bob.event("message", text="not yet with bob")
    code, out, _ = await run(quick, "delete", "bob", "--yes", "--json")
    row = json.loads(out)
    assert (code, row["messages"], row["kept"], row["conversation"]) == (0, 1, 0, "bob") and row["size_bytes"] > 0
    assert (await run(quick, "history", "bob"))[:2] == (0, "-- 3 messages were deleted here\n")


async def test_what_was_deleted_at_rest_is_brought_back_by_neither_a_file_nor_a_peer(
    quick: Cluster, tmp_path: Path
) -> None:
    for peer in reversed(await met(quick)):  # she takes the name that bob writes when he leaves
        await peer.leave()
    code, _, _ = await quick.talk("export", str(tmp_path / "file"), "--data", str(quick.home / "bob"))
    assert code == 0
    code, out, err = await run(quick, "delete", "bob", "--from", "bob", "--yes")
    assert (code, out.partition(",")[0], err) == (0, "deleted 1 message of bob here", "")
    code, out, _ = await run(quick, "import", str(tmp_path / "file"), "--json")
    assert (code, json.loads(out)["new"]) == (0, 0)
    _, bob = [await quick.restart(peer) for peer in quick.peers]
    await tell(bob, "ada", "hello again")
    async with open_history(quick.home / "ada") as history:
        assert (await history.check()).faults == ()
        assert [post.text for post in await history.history("bob")] == ["plugh from ada", "hello again"]
        assert [(each.user.name, each.messages) for each in await history.deleted_messages("bob")] == [("bob", 1)]


# ---- newcomers


async def room_of(net: Cluster, name: str) -> list[str]:
    return [line["text"] for line in await net.history(name) if line.get("kind") == "room"]


async def delete_room(peer: Child) -> None:
    await peer.do(do="delete_history", ref="delete", to="room")
    await peer.event("answer", ref="delete")


async def test_a_newcomer_gets_logs_whole_after_everybody_deleted_them(quick: Cluster) -> None:
    ada, bob = await quick.add("ada"), await quick.add("bob")
    await tell(ada, "room", "one")
    await tell(bob, "room", "two")
    for peer in (ada, bob):
        await delete_room(peer)
    cyd = await quick.add("cyd")
    for peer in (ada, bob, cyd):
        sent = await peer.send(f"{peer.name} again", to="room")
        for other in {"ada", "bob", "cyd"} - {peer.name}:
            await peer.event("delivered", id=sent["id"], user=other)
    for peer in (ada, bob, cyd):
        assert await room_of(quick, peer.name) == ["ada again", "bob again", "cyd again"]
        await peer.leave()
        code, out, err = await quick.talk("doctor", "--data", str(quick.home / peer.name))
        assert "signed" not in out.decode() + err.decode(), (code, out, err)


async def test_a_newcomer_gets_what_others_deleted_from_who_was_away(quick: Cluster) -> None:
    ada, bob = await quick.add("ada"), await quick.add("bob")
    await tell(ada, "room", "one")
    await bob.leave()
    await delete_room(ada)
    cyd = await quick.add("cyd")
    await tell(ada, "room", "two")
    assert await room_of(quick, "cyd") == ["two"]
    bob = await quick.restart(bob)
    late = await cyd.event("message", text="one")
    assert late["gap"] and await room_of(quick, "cyd") == ["one", "two"] == await room_of(quick, "bob")
    assert await room_of(quick, "ada") == ["two"]
