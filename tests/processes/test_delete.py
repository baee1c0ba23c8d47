"""`p2pchat delete` with real peers, beside an open chat and at rest: what stays on the disk, and what comes then."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from p2pchat import open_history
from p2pchat.testing.process_mesh import Child
from tests.long.processes.test_export_import import p2pchat
from tests.processes.peers import Cluster

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.relayed(always=False)]


def files_with(directory: Path, word: bytes) -> list[str]:
    return [path.name for path in directory.rglob("*") if path.is_file() and word in path.read_bytes()]


async def met(cluster: Cluster) -> tuple[Child, Child]:
    """Return two linked peers; each has told the other something, and knows that it arrived."""
    ada = cluster.child("ada", log=False)
    await ada.start()
    bob = cluster.child("bob", ada.endpoint, log=False)
    await bob.start()
    for one, other in ((ada, "bob"), (bob, "ada")):
        await one.wait(lambda line, other=other: line["event"] == "joined" and line["user"] == other)  # type: ignore[misc]
    for one, to, text in ((ada, "bob", "plugh from ada"), (bob, "ada", "xyzzy from bob")):
        await tell(one, to, text)
    return ada, bob


async def leave(one: Child) -> None:
    """End a peer in good order."""
    await one.do(do="quit")
    await one.ended()


async def tell(one: Child, to: str, text: str) -> None:
    """Send a message and wait until it is delivered."""
    await one.do(do="send", to=to, text=text)
    sent = await one.wait(lambda line: line["event"] == "sent" and line["text"] == text)
    await one.wait(lambda line: line["event"] == "delivered" and line["id"] == sent[-1]["id"])


async def test_a_conversation_is_deleted_beside_an_open_chat_and_goes_on(quick: Cluster) -> None:
    ada, bob = await met(quick)
    code, out, err = await p2pchat(quick, "ada", "history", "--search", "xyzzy")  # makes an index
    assert (code, out.count(b"xyzzy")) == (0, 1)
    code, out, err = await p2pchat(quick, "ada", "delete", "bob")
    assert (code, "add --yes" in err) == (2, True)
    code, out, err = await p2pchat(quick, "ada", "delete", "bob", "--yes", "--json")
    row = json.loads(out)
    assert (code, row["messages"], row["kept"], row["conversation"]) == (0, 2, 0, "bob") and row["size_bytes"] > 0
    assert files_with(quick.home / "ada", b"xyzzy") == files_with(quick.home / "ada", b"plugh") == []
    code, out, err = await p2pchat(quick, "ada", "history", "bob")
    assert (code, out.decode()) == (0, "-- 2 messages were deleted here\n")
    await tell(bob, "ada", "the next line")
    await leave(ada)
    ada = quick.child("ada", log=False)
    await ada.start()
    await tell(bob, "ada", "after the restart")
    code, out, _ = await p2pchat(quick, "ada", "history", "bob", "--json")
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["the next line", "after the restart"]
    assert [line["text"] for line in await quick.history("bob")] == [
        "plugh from ada", "xyzzy from bob", "the next line", "after the restart"
    ]  # fmt: skip


async def test_a_profile_at_rest_is_deleted_from_and_neither_a_file_nor_a_peer_brings_it_back(
    quick: Cluster, tmp_path: Path
) -> None:
    ada, bob = await met(quick)
    await asyncio.gather(leave(ada), leave(bob))
    code, _, _ = await p2pchat(quick, "bob", "export", str(tmp_path / "file"))
    assert code == 0
    code, out, err = await p2pchat(quick, "ada", "delete", "bob", "--from", "bob", "--yes")
    assert (code, out.decode().partition(",")[0], err) == (0, "deleted 1 message of bob here", "")
    assert files_with(quick.home / "ada", b"xyzzy") == []
    code, out, _ = await p2pchat(quick, "ada", "import", str(tmp_path / "file"), "--json")
    assert (code, json.loads(out)["new"]) == (0, 0)
    ada = quick.child("ada", log=False)
    await ada.start()
    bob = quick.child("bob", ada.endpoint, log=False)
    await bob.start()
    await tell(bob, "ada", "hello again")
    assert files_with(quick.home / "ada", b"xyzzy") == []
    async with open_history(quick.home / "ada") as history:
        assert (await history.check()).faults == ()
        assert [post.text for post in await history.history("bob")] == ["plugh from ada", "hello again"]
        assert [(each.user.name, each.messages) for each in await history.deleted_messages("bob")] == [("bob", 1)]


async def test_what_nobody_else_has_is_kept_and_the_output_says_so(quick: Cluster) -> None:
    ada, bob = await met(quick)
    await leave(bob)
    await ada.do(do="send", to="bob", text="not yet with bob")
    await ada.wait(lambda line: line["event"] == "sent" and line["text"] == "not yet with bob")
    code, out, _ = await p2pchat(quick, "ada", "delete", "bob", "--yes")
    lines = out.decode().splitlines()
    assert code == 0 and lines[0].startswith("deleted 2 messages of bob here, ")
    assert lines[1:] == ["kept 1 message of yours: nobody else has it yet"]
    bob = quick.child("bob", ada.endpoint, log=False)
    await bob.start()
    await bob.wait(lambda line: line["event"] == "message" and line["text"] == "not yet with bob")
