"""A member with thousands of made-up users writes to a peer: direct messages of an honest newcomer go on to arrive."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from p2pchat.cli.subcommands.demo import Child
from p2pchat.core.mesh.handshake import make_cert
from p2pchat.core.sync.conversations import dm_id, dm_naming
from p2pchat.identity.network_and_invites import Network, load_network
from p2pchat.protocol import Entries, Here, Hosted, Ping, Pong
from tests.hostile.attacker import Attacker, LogWriter, invented_identity
from tests.processes.peers import Cluster

USERS = 9_999  # with the attacker's own as many as a peer may host
ARRIVES_WITHIN = 10.0  # seconds


def made_up(eve: Attacker) -> Iterator[Here | Entries]:
    """Yield frames in which thousands of users appear, and each writes to the attacked peer's user."""
    users = [invented_identity(f"made up {n}") for n in range(USERS)]
    now = time.time_ns() // 1_000_000
    for start in range(0, USERS, 100):
        page = [
            Hosted(user.peer_id, f"u{n}", "online", cert=make_cert(user.peer_id, user.sign, eve.id, now))
            for n, user in enumerate(users[start : start + 100], start)
        ]
        yield Here(page)
    for user in users:
        frame = LogWriter(user, dm_id(user.peer_id, eve.server)).say("buy")
        frame.names = [dm_naming(user.peer_id, eve.server)]
        yield frame


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
    await newcomer.event("delivered", ARRIVES_WITHIN, id=sent["id"])
    await ada.event("message", text=f"{name} says hello")


@pytest.mark.timeout(180)
async def test_made_up_users_close_no_peer_to_newcomers_also_not_after_a_kill(cluster: Cluster) -> None:
    ada = cluster.child("ada")
    await ada.start()
    network = load_network(cluster.home / "network")
    assert network is not None
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
