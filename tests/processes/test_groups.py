"""Groups over real processes: offline members, members who left, a member removed while cut off."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from p2pchat.commands.exit_codes import DONE, FAILED, KEPT
from p2pchat.testing.process_mesh import Child, Line
from tests.processes.peers import Cluster

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.relayed]
NAMES = ("ada", "bob", "carol")


def said(lines: Sequence[Line]) -> list[str]:
    return [f"{line['sender']}: {line['text']}" for line in lines if line.get("group") == "ops"]


class GroupPeers:
    """Peers that stop and start again; each finds the others by its address book."""

    def __init__(self, cluster: Cluster) -> None:
        self._stage = cluster
        self._ports: dict[str, int] = {}

    async def start(self, name: str, *words: str) -> Child:
        child = self._stage.child(name, *words, port=self._ports.get(name, 0))
        await child.start()
        self._ports[name] = child.listening["port"]
        return child

    async def meet(self) -> tuple[Child, Child, Child]:
        ada = await self.start("ada")
        bob = await self.start("bob", ada.endpoint)
        carol = await self.start("carol", ada.endpoint, bob.endpoint)
        for one in (ada, bob, carol):
            for name in NAMES:
                if name != one.name:
                    await one.event("joined", user=name)
        return ada, bob, carol

    async def talk(self) -> list[list[str]]:
        """Return each peer's texts of the group, from its history."""
        return [said(await self._stage.history(name)) for name in NAMES]


async def test_an_offline_member_gets_everything_from_the_remaining_ones(quick: Cluster) -> None:
    lives = GroupPeers(quick)
    ada, bob, carol = await lives.meet()
    await ada.do(do="group", name="ops", members=["bob", "carol"])
    await carol.event("group", change="created", by="ada")
    assert await carol.leave() == DONE
    await ada.event("left", user="carol")
    await ada.do(do="send", to="#ops", text="the deploy begins")
    first = await ada.event("sent")
    assert (await ada.event("delivered", id=first["id"]))["of"] == 2
    assert await ada.leave() == DONE  # delivered to every online member

    carol = await lives.start("carol")
    assert said([await carol.event("message")]) == ["ada: the deploy begins"]
    await carol.do(do="send", to="#ops", text="on it")
    await bob.event("message", text="on it")

    ada = await lives.start("ada")
    assert said([await ada.event("message")]) == ["carol: on it"]
    told = await ada.event("delivered", id=first["id"], user="carol")
    assert (told["count"], told["of"]) == (2, 2)
    await ada.do(do="receipts", id=first["id"])
    [row] = (await ada.event("answer", command="receipts"))["rows"]
    assert (row["status"], row["of"], sorted(row["delivered_to"])) == ("delivered", 2, ["bob", "carol"])

    assert quick.faults(*NAMES, complete=True) == []
    assert await lives.talk() == [["ada: the deploy begins", "carol: on it"]] * 3
    assert [await one.leave() for one in (ada, bob, carol)] == [DONE] * 3


async def test_a_member_removed_while_cut_off_gets_its_undelivered_messages_reported(quick: Cluster) -> None:
    lives = GroupPeers(quick)
    ada, bob, carol = await lives.meet()
    await ada.do(do="group", name="ops", members=["bob", "carol"])
    await carol.event("group", change="created")
    await carol.do(do="send", to="#ops", text="before")
    await ada.event("message", text="before")
    await bob.event("message", text="before")
    assert [await one.leave() for one in (carol, bob)] == [DONE] * 2

    await ada.event("left", user="carol")
    await ada.do(do="kick", to="#ops", users=["carol"])
    await ada.event("group", change="removed", target="carol")
    assert await ada.leave() == DONE
    carol = await lives.start("carol", "--drain", "0")
    await carol.do(do="send", to="#ops", text="behind the cut")
    lost = await carol.event("sent", text="behind the cut")
    assert await carol.leave() == KEPT

    ada, bob = await lives.start("ada"), await lives.start("bob")
    await bob.event("group", change="removed", target="carol")
    carol = await lives.start("carol")
    await carol.event("group", change="removed", by="ada", target="carol")
    warning = await carol.event("warning", code="undelivered")
    assert warning["undelivered"] == [lost["id"]]
    await carol.do(do="send", to="#ops", text="hello?", ref="late")
    assert "only members" in (await carol.event("error", ref="late"))["text"]

    await ada.do(do="add", to="#ops", users=["carol"])
    await carol.event("group", change="added", target="carol")
    await carol.do(do="send", to="#ops", text="back")
    for one in (ada, bob):
        assert [line["text"] for line in await one.wait(lambda line: line["event"] == "message")] == ["back"]
    back = await carol.event("sent", text="back")
    await carol.wait(lambda line: line["event"] == "delivered" and line["id"] == back["id"], count=2)
    assert quick.faults(*NAMES, complete=True) == []
    assert await lives.talk() == [["carol: before", "carol: back"]] * 3
    assert [await one.leave() for one in (ada, bob, carol)] == [DONE, DONE, FAILED]
