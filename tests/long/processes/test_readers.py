"""`p2pchat send --wait read`, and no receipts of who gives none, also after a kill."""

from __future__ import annotations

import pytest

from tests.processes.peers import Cluster

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_send_waits_until_it_is_read_unless_no_receipts_are_given(quick: Cluster) -> None:
    ada, bob = await quick.add("ada"), await quick.add("bob")
    here = ("--data", str(quick.home / "ada"))
    complaint = b""
    for timeout in ("0.5", "5", "50"):  # the first may end before it is delivered, on a busy machine
        if b"it is delivered" not in complaint:
            code, _, complaint = await quick.talk("send", "bob", "psst", "--wait", "read", "--timeout", timeout, *here)
            assert code == 3
    assert b"not read yet by bob; it is delivered" in complaint
    await bob.type("/go ada")
    code, _, complaint = await quick.talk("send", "bob", "again", "--wait", "read", *here)
    assert (code, complaint) == (0, b"")

    await bob.type("/set receipts off")
    [row] = (await bob.event("answer", command="set"))["rows"]
    assert (row["setting"], row["value"]) == ("receipts", "off")
    await quick.kill(bob)
    bob = await quick.restart(bob)
    await bob.type("/go ada")
    sent = await ada.send("no receipt of this", to="bob")
    await ada.event("delivered", id=sent["id"], user="bob")
    await bob.send("I have seen it", to="ada")
    await ada.event("message", text="I have seen it")  # a read receipt would come before it
    assert not ada.count("read", id=sent["id"])
