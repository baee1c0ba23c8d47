"""A program with thousands of made-up users writes to a peer: what an honest newcomer writes goes on to arrive."""

from __future__ import annotations

from collections.abc import Iterator

from p2pchat.identity.network import Network
from p2pchat.protocol import Entries, Here, Ping, Pong
from p2pchat.testing.process_mesh import Child
from tests.hostile.attacker import Attacker, appearing, invented_identity, letter_of
from tests.processes.peers import Cluster

USERS = 9_999  # with the attacker's own as many as a peer may host
WRITERS = 2_000  # of these: new logs of one member are taken at a rate, so all of them would write for three minutes


def made_up(eve: Attacker) -> Iterator[Here | Entries]:
    """Yield frames in which thousands of users appear, and many write to the attacked peer's user."""
    users = [invented_identity(f"made up {n}") for n in range(USERS)]
    yield from appearing(eve, users)
    for user in users[:WRITERS]:
        yield letter_of(eve, user)


async def attack(network: Network, ada: Child) -> Attacker:
    """Send all of it, and wait until it was taken."""
    eve = Attacker("eve", network)
    await eve.join(ada.listening["port"])
    await eve.flood([*made_up(eve), Ping()])
    await eve.next(Pong)
    return eve


async def newcomer_writes(cluster: Cluster, ada: Child, name: str) -> None:
    newcomer = cluster.child(name, ada.endpoint)
    await newcomer.start()
    await newcomer.event("joined", user="ada")
    await newcomer.do(do="send", to="ada", text=f"{name} says hello", ref=name)
    sent = await newcomer.event("sent", ref=name)
    await newcomer.event("delivered", id=sent["id"])
    await ada.event("message", text=f"{name} says hello")


async def test_made_up_users_close_no_peer_to_newcomers_also_not_after_a_kill(cluster: Cluster) -> None:
    ada = cluster.child("ada")
    await ada.start()
    network = cluster.network
    eve = await attack(network, ada)
    await ada.event("message", text="buy")
    await newcomer_writes(cluster, ada, "bob")
    ada.kill()
    await ada.ended()
    await eve.disconnect()
    again = cluster.child("ada", port=ada.listening["port"])
    await again.start()
    eve = await attack(network, again)
    await newcomer_writes(cluster, again, "cyd")
    await eve.disconnect()
