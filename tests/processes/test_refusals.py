"""A log with an entry that some peers of a mesh take and others refuse: lenient and strict processes of p2pchat."""

from __future__ import annotations

import pytest

from p2pchat.commands.exit_codes import DONE, KEPT
from p2pchat.testing.process_mesh import Child
from tests.processes.peers import Cluster

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.relayed(always=False)]
STRICT = ("max_text_bytes=1000",)
ODD = "x" * 2000
NAMES = ("ada", "bob", "carol", "dan")  # the last two are strict


class Mesh:
    """Four linked peers; each finds the others again by its address book."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._ports: dict[str, int] = {}
        self.peers: dict[str, Child] = {}

    async def start(self, name: str, *words: str, strict: bool = False) -> Child:
        child = self._cluster.child(name, *words, port=self._ports.get(name, 0), changes=STRICT if strict else ())
        await child.start()
        self._ports[name] = child.listening["port"]
        self.peers[name] = child
        return child

    async def meet(self) -> list[Child]:
        for name in NAMES:
            known = [peer.endpoint for peer in self.peers.values()]
            await self.start(name, *known, strict=name in NAMES[2:])
        for name in NAMES:
            await self.linked(name)
        return [self.peers[name] for name in NAMES]

    async def linked(self, name: str) -> None:
        for other in NAMES:
            if other != name:
                await self.peers[name].event("joined", user=other)

    async def restart(self, name: str, *, strict: bool = False) -> Child:
        code = await self.peers[name].leave()
        assert code == (KEPT if name == "ada" else DONE)  # nobody says that strict peers have what they refuse
        child = await self.start(name, strict=strict)
        await self.linked(name)
        return child

    async def say(self, name: str, text: str, *to: str) -> None:
        await self.peers[name].do(do="send", to="room", text=text)
        for other in to:
            await self.peers[other].event("message", sender=name, text=text)


async def test_an_odd_message_costs_no_link_and_no_other_message_and_an_upgrade_fetches_it(quick: Cluster) -> None:
    mesh = Mesh(quick)
    ada, bob, carol, dan = await mesh.meet()
    await mesh.say("ada", "before", "bob", "carol", "dan")
    await mesh.say("ada", ODD, "bob")
    await mesh.say("ada", "behind it", "bob")
    for strict in (carol, dan):
        warned = await strict.event("warning", code="entry_refused")
        assert warned["text"].startswith("the user 'ada' wrote something that this version of p2pchat does not take")
    for name in NAMES[1:]:
        await mesh.say(name, f"from {name}", *(other for other in NAMES if other != name))
    states = [
        line["state"]
        for peer in (ada, bob, carol, dan)
        for line in peer.lines
        if line["event"] == "link" and line["peer_id"]
    ]
    assert states == ["up"] * 12  # each to three others, and nobody dialled a second time

    carol = await mesh.restart("carol", strict=True)
    assert "'ada'" in (await carol.event("warning", code="entry_refused"))["text"]
    _, out = await quick.run("doctor", "--data", str(quick.home / "carol"))
    [line] = [line for line in " ".join(out.decode().split()).split("-> ") if "what ada wrote" in line]
    assert "wrote in the room after" in line and "is refused by this version of p2pchat" in line
    await mesh.restart("bob")  # who passes the log on
    await mesh.say("bob", "bob is back", "ada", "carol", "dan")
    await mesh.restart("ada")  # begins another log, as a repaired program would
    await mesh.say("ada", "repaired", "bob", "carol", "dan")
    assert [peer.count("message", text=text) for peer in (carol, dan) for text in (ODD, "behind it")] == [0] * 4

    carol = await mesh.restart("carol")  # with the rules of the others
    for text in (ODD, "behind it"):
        await carol.event("message", text=text)
    assert carol.count("warning", code="entry_refused") == 0
    for name in NAMES:
        assert await mesh.peers[name].leave() in (DONE, KEPT)
    held = [{line["text"] for line in await quick.history(name) if "text" in line} for name in NAMES]
    assert held[0] == held[1] == held[2] == held[3] | {ODD, "behind it"}
    assert "repaired" in held[3] and ODD not in held[3]
