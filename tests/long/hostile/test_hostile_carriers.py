"""Members who carry links, or pretend to, and members who use up those who do."""

from __future__ import annotations

import asyncio

from p2pchat import TCPPeer
from p2pchat.core.mesh.circuits import WINDOW_BYTES
from p2pchat.protocol import CARRY, MAX_CARRIED_BYTES, Carried, Circuit, Digest, Here, Hosted, Peers, encode
from p2pchat.runtime.stranger_limiter import MAX_OF_CARRIER
from tests.deadlines import until
from tests.hostile.attacker import Attacker, invented_identity
from tests.hostile.test_expelled import Logins, additions, logins  # noqa: F401

FLOOD = 3_000


async def eve_of(logins: Logins, ada: TCPPeer, name: str = "eve") -> Attacker:  # noqa: F811
    """Return a member with a client of its own that is linked with a peer."""
    await (await logins.join(name, ada)).aclose()
    vouching = additions(ada, logins.network(name))
    eve = logins.attacker(name, invented_identity(f"key of {name}"), vouching, name)
    await eve.join(ada.port)
    return eve


async def test_who_begins_circuits_without_end_costs_a_few_places(logins: Logins) -> None:  # noqa: F811
    ada = await logins.start("ada")
    await logins.join("bob", ada)
    eve = await eve_of(logins, ada)
    first = 2 + (eve.id > ada.me.key)
    circuits = (Circuit(first + 2 * n, origin=invented_identity(f"n{n}").peer_id) for n in range(FLOOD))
    said = asyncio.create_task(eve.flood(circuits))
    receipt = await ada.send("bob", "beside a flood of circuits")
    await receipt.delivered()
    await said
    await until(lambda: sum(isinstance(one, Circuit) for one in eve.frames) > FLOOD / 2, "most of them to be refused")
    held = ada._driver.connections._circuits  # those that were refused are there until they have closed
    await until(lambda: len(held) <= MAX_OF_CARRIER, "the end of all but a few")
    await eve.disconnect()
    await until(lambda: not ada._driver.connections._circuits, "the end of all circuits")


async def test_who_floods_through_a_carrier_ends_its_own_circuits(logins: Logins) -> None:  # noqa: F811
    ada = await logins.start("ada")
    bob = await logins.join("bob", ada)
    eve = await eve_of(logins, ada)
    first = 2 + (eve.id > ada.me.key)
    for n in range(40):
        eve.say(Circuit(first + 2 * n, to=bob.me.key))
        eve.say(*[Carried(first + 2 * n, bytes(MAX_CARRIED_BYTES))] * 20)

    def ended() -> set[int]:
        return {one.id for one in eve.frames if isinstance(one, Circuit) and one.end}

    await until(lambda: len(ended()) == 40, "the end of all of them")
    assert not ada._driver.node.links.circuits._carried
    await (await ada.send("bob", "afterwards")).delivered()
    await (await bob.send("ada", "and back")).delivered()
    await eve.disconnect()


async def test_who_says_that_it_carries_and_does_not_costs_little(logins: Logins) -> None:  # noqa: F811
    ada = await logins.start("ada")
    bob = await logins.join("bob", ada)
    eve = await eve_of(logins, ada)
    made_up = [invented_identity(f"made up {n}") for n in range(200)]
    ids = [one.peer_id for one in made_up]
    for start in range(0, 200, 50):
        part = made_up[start : start + 50]
        eve.say(Peers([eve.record(one) for one in part], [one.peer_id for one in part], can=[CARRY]))
    await until(lambda: sum(isinstance(one, Circuit) for one in eve.frames) >= 4, "some circuits")
    for _ in range(200):  # answers of every kind
        asked = [one for one in eve.frames if isinstance(one, Circuit) and one.to]
        for one in asked[-2:]:
            eve.say(Carried(one.id, b"\x16\x03\x03 nonsense", room=2**53 - 1), Circuit(one.id, end="lost"))
        eve.say(Peers(gone=ids[:50]), Peers(linked=ids[:50], carried=ids[:25]))
        await asyncio.sleep(0)
    await (await ada.send("bob", "beside all that")).delivered()
    assert len(ada._driver.node.links.circuits.dialling) <= 8
    assert not ada._driver.broken and not bob._driver.broken
    eve.say(Here([Hosted(eve.id, "eve", "online")]), Digest(sum="0" * 64))
    await eve.disconnect()


async def test_two_who_collude_byte_by_byte_fill_no_carrier(logins: Logins) -> None:  # noqa: F811
    """Before: 3 MiB in the carrier's buffer, above what the system took, of a window of 256 KiB."""
    ada = await logins.start("ada")
    await logins.join("bob", ada)
    eve, mallory = await eve_of(logins, ada), await eve_of(logins, ada, "mallory")
    first = 2 + (eve.id > ada.me.key)
    eve.say(Circuit(first, to=mallory.id))
    mallory.say(Carried((await mallory.next(Circuit)).id, room=2**53 - 1))
    await eve.next(Carried)
    mallory.read_nothing()
    link = ada._driver.node.links.by_peer[mallory.id].id
    said = asyncio.create_task(eve.flood([encode(Carried(first, b"x")) * 100] * FLOOD))
    for n in range(20):
        await (await ada.send("bob", f"{n} beside all that")).delivered()
        assert ada._driver.connections.buffered(link) < WINDOW_BYTES
    assert not said.done()
    said.cancel()
    await eve.disconnect()
