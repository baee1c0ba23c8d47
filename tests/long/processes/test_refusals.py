"""A log with an entry that some peers of a mesh take and others refuse: lenient and strict processes of p2pchat."""

from __future__ import annotations

import pytest

from tests.processes.peers import Cluster

pytestmark = pytest.mark.asyncio(loop_scope="module")
STRICT = ("max_text_bytes=1000",)
ODD = "x" * 2000


async def test_an_odd_message_costs_no_link_and_no_other_message_and_an_upgrade_fetches_it(quick: Cluster) -> None:
    ada, bob = await quick.add("ada"), await quick.add("bob")
    quick.changes = STRICT
    carol = await quick.add("carol")
    await ada.send("before")
    await ada.send(ODD)
    await ada.send("behind it")
    await bob.event("message", text="behind it")
    warned = await carol.event("warning", code="entry_refused")
    assert warned["text"].startswith("the user 'ada' wrote something that this version of p2pchat does not take")
    for writer, readers in ((bob, (ada, carol)), (carol, (ada, bob))):
        sent = await writer.send(f"from {writer.name}")
        for reader in readers:
            await reader.event("message", id=sent["id"])
    for peer in (ada, bob, carol):
        assert peer.count("link", state="up") == 2 and not peer.count("link", state="down")

    await carol.leave()
    carol = await quick.restart(carol)
    assert "'ada'" in (await carol.event("warning", code="entry_refused"))["text"]
    _, out = await quick.run("doctor", "--data", str(quick.home / "carol"))
    [line] = [line for line in " ".join(out.decode().split()).split("-> ") if "what ada wrote" in line]
    assert "wrote in the room after" in line and "is refused by this version of p2pchat" in line
    await ada.leave()
    quick.changes = ()
    ada = await quick.restart(ada)  # begins another log, as a repaired program would
    await ada.send("repaired")
    await carol.event("message", text="repaired")
    assert [carol.count("message", text=text) for text in (ODD, "behind it")] == [0, 0]

    await carol.leave()
    carol = await quick.restart(carol)  # with the rules of the others
    for text in (ODD, "behind it"):
        await carol.event("message", text=text)
    assert carol.count("warning", code="entry_refused") == 0
