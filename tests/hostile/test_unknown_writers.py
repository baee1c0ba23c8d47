"""A member with thousands of made-up users writes to a peer and makes groups: what an honest newcomer writes goes on to
arrive, directly and in a group.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from p2pchat.config import MIB
from p2pchat.core.groups.group_state import group_body, operation_hash
from p2pchat.core.log import Entry, encode_entry
from p2pchat.core.mesh.handshake import make_cert
from p2pchat.core.sync.conversation_members import dm_id, dm_naming
from p2pchat.identity.keys import Identity
from p2pchat.identity.network_and_invites import Network
from p2pchat.protocol import Entries, Here, Hosted, Naming, Ping, Pong
from p2pchat.testing.process_mesh import Child
from tests.hostile.attacker import NOW, Attacker, LogWriter, invented_identity
from tests.processes.peers import Cluster
from tests.processes.strangers import memory

USERS = 9_999  # with the attacker's own as many as a peer may host
ARRIVES_WITHIN = 60.0  # seconds


def made_up(eve: Attacker) -> Iterator[Here | Entries]:
    """Yield frames in which thousands of users appear, and each writes to the attacked peer's user."""
    users = [invented_identity(f"made up {n}") for n in range(USERS)]
    yield from appearing(eve, users)
    for user in users:
        frame = LogWriter(user, dm_id(user.peer_id, eve.server)).say("buy")
        frame.names = [dm_naming(user.peer_id, eve.server)]
        yield frame


def appearing(eve: Attacker, users: list[Identity]) -> Iterator[Here]:
    now = time.time_ns() // 1_000_000
    for start in range(0, len(users), 100):
        page = [
            Hosted(user.peer_id, f"u{n}", "online", cert=make_cert(user.peer_id, user.sign, eve.id, now))
            for n, user in enumerate(users[start : start + 100], start)
        ]
        yield Here(page)


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


def group_of(eve: Attacker, owner: Identity, name: str) -> Entries:
    """Return the first operation of a group that names the attacked peer's user."""
    members = {owner.peer_id: 1, eve.server: 1}
    raw = encode_entry(Entry("group", NOW, NOW, b=group_body(1, name, owner.peer_id, members, {}, salt="00" * 16)))
    pen = LogWriter(owner, operation_hash(raw))
    frame = pen.write(raw)
    frame.names = [Naming(group=(pen.log.conversation, owner.peer_id, pen.log.run))]
    return frame


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
    await newcomer.event("delivered", ARRIVES_WITHIN, id=sent["id"])
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


async def answer(ada: Child, **command: str) -> Any:
    ref = f"{command} {len(ada.lines)}"
    await ada.do(**command, ref=ref)
    return (await ada.event("answer", ref=ref))["rows"]


async def test_a_group_that_waits_is_listed_with_its_owner_and_fetched_when_it_is_accepted(cluster: Cluster) -> None:
    ada = cluster.child("ada")
    await ada.start()
    network = cluster.network
    eve = Attacker("eve", network)
    await eve.join(ada.listening["port"])
    users = [invented_identity(f"owner {n}") for n in range(5)]
    groups = [group_of(eve, user, f"group-{n}") for n, user in enumerate(users)]
    eve.say(*appearing(eve, users), *groups, Ping())
    await eve.next(Pong)
    await ada.event("group", group="group-2")
    assert await groups_at(ada, "before") == MOST_GROUPS
    assert [(row["group"], row["user"]) for row in await answer(ada, do="requests")] == [
        ("group-3", "u3"), ("group-4", "u4"),
    ]  # fmt: skip
    await answer(ada, do="accept", to="#group-3")
    await answer(ada, do="decline", to="#group-4")
    assert await answer(ada, do="requests") == []
    eve.say(groups[3], groups[4], Ping())
    await ada.event("group", group="group-3")
    assert await groups_at(ada, "after") == MOST_GROUPS + 1
    assert not ada.count("group", group="group-4")
    await eve.disconnect()
