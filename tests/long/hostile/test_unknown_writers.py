"""A member with thousands of made-up users writes to a peer and makes groups: what an honest newcomer writes goes on to
arrive, directly and in a group.
"""

from __future__ import annotations

from collections.abc import Iterator

from p2pchat.config import MIB
from p2pchat.identity.network import Network
from p2pchat.protocol import Entries, Here, Ping, Pong
from p2pchat.testing.process_mesh import Child
from tests.hostile.attacker import Attacker, appearing, group_of, invented_identity, letter_of
from tests.processes.peers import Cluster
from tests.processes.strangers import memory

USERS = 9_999  # with the attacker's own as many as a peer may host


def made_up(eve: Attacker) -> Iterator[Here | Entries]:
    """Yield frames in which thousands of users appear, and each writes to the attacked peer's user."""
    users = [invented_identity(f"made up {n}") for n in range(USERS)]
    yield from appearing(eve, users)
    for user in users:
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


OWNERS, GROUPS_EACH = 300, 10
MOST_GROUPS = 3  # of one peer; docs/guarantees.md, as the next
KEPT_BOUND = 10 * MIB  # after the links


def made_up_groups(eve: Attacker, attempt: str) -> Iterator[Here | Entries]:
    """Yield frames in which made-up users appear, and each makes groups that name the attacked peer's user."""
    users = [invented_identity(f"owner {n} of {attempt}") for n in range(OWNERS)]
    yield from appearing(eve, users)
    for user in users:
        for n in range(GROUPS_EACH):
            yield group_of(eve, user, f"buy {n}")


async def groups_at(ada: Child, ref: str) -> int:
    await ada.do(do="list", ref=ref)
    answer = await ada.event("answer", ref=ref)
    return sum(each["kind"] == "group" for each in answer["rows"])


async def newcomer_makes_group(cluster: Cluster, ada: Child, name: str) -> None:
    newcomer = cluster.child(name, ada.endpoint)
    await newcomer.start()
    await newcomer.event("joined", user="ada")
    await newcomer.do(do="group", name=f"{name}s", members=["ada"])
    await newcomer.event("answer", command="group")
    await newcomer.do(do="send", to=f"#{name}s", text=f"{name} says hello", ref=name)
    sent = await newcomer.event("sent", ref=name)
    await newcomer.event("delivered", id=sent["id"])
    await ada.event("message", text=f"{name} says hello")


async def attack_with_groups(network: Network, ada: Child, name: str) -> Attacker:
    eve = Attacker(name, network)
    await eve.join(ada.listening["port"])
    await eve.flood([*made_up_groups(eve, name), Ping()])
    await eve.next(Pong)
    return eve


async def test_made_up_owners_fill_no_peer_with_groups_also_not_over_a_restart(cluster: Cluster) -> None:
    ada = cluster.child("ada")
    await ada.start()
    network = cluster.network
    first = await attack_with_groups(network, ada, "eve")
    await newcomer_makes_group(cluster, ada, "bob")
    await first.disconnect()
    began = memory(ada, "VmRSS")
    second = await attack_with_groups(network, ada, "mallory")
    await newcomer_makes_group(cluster, ada, "cyd")
    await second.disconnect()
    assert memory(ada, "VmRSS") - began < KEPT_BOUND
    assert await groups_at(ada, "before") == 2 * MOST_GROUPS + 2
    ada.kill()
    await ada.ended()
    again = cluster.child("ada", port=ada.listening["port"])
    await again.start()
    third = await attack_with_groups(network, again, "eve")
    assert await groups_at(again, "after") == 2 * MOST_GROUPS + 2
    await newcomer_makes_group(cluster, again, "dan")
    await third.disconnect()
