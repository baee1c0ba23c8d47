"""Users that came from another peer: when their conversations are compared with it."""

from __future__ import annotations

from p2pchat.core.context import HostedIdentity
from p2pchat.core.inputs import ComparisonAwaited, UserHosted, UserUnhosted
from p2pchat.core.log import mark_hash
from p2pchat.protocol import Digest, Pong
from tests.core.scripted_nodes import ALL, IDENTITIES, IDS, Author, Far, Peer, World, dm, have, sums

BOB = IDS["bob"]
ENDED, LATE = "comparison ended", "comparison not ended in time"


def awaiting(world: World) -> tuple[Peer, Far]:
    """Return ada, who hosts bob now as the other peer does, and waits; she has pinged it."""
    ada = world.peer("ada")
    far = ada.far("bob")
    far.heard.clear()
    ada.put(UserHosted(HostedIdentity(BOB, "bob", IDENTITIES["bob"].sign)))
    ada.put(ComparisonAwaited(9, BOB, 60.0))
    world.pass_time(0.01)
    kinds = [type(frame).__name__ for frame in far.heard]
    assert kinds.index("Here") < kinds.index("Ping")
    return ada, far


def passing(world: World, ada: Peer) -> list[str]:
    """Let a few checks be due; return what they did."""
    ada.take()
    for _ in range(3):
        world.pass_time(0.03)
    return [line for line in ada.take() if line.startswith("comparison")]


def equal() -> Digest:
    return Digest(sum=next(iter((sums().sums or {}).values()), "0" * 64))


def test_an_equal_digest_that_was_on_its_way_is_no_comparison() -> None:
    """It is about what they shared before."""
    world = World()
    ada, far = awaiting(world)
    assert passing(world, ada) == []
    far.say(equal())
    assert passing(world, ada) == []
    far.say(Pong())
    assert passing(world, ada) == [], "it has compared nothing since"
    far.say(equal())
    assert passing(world, ada) == [ENDED]


def test_what_is_fetched_has_to_be_durable() -> None:
    world = World()
    ada, far = awaiting(world)
    far.say(Pong())
    passing(world, ada)
    talk = Author("bob", "b1", dm("bob", "ada"))
    entries = talk.say("psst")
    held = f"{mark_hash(talk.log, talk.seq, talk.chain):064x}"
    far.say(Digest(sums={talk.log.conversation: held}, span=ALL), have(talk, span=ALL))
    assert passing(world, ada) == []
    ada.holding = True
    far.say(entries, have(end=1))
    assert passing(world, ada) == []
    ada.commit()
    assert passing(world, ada) == [ENDED]


def test_a_wait_ends_in_time_and_when_the_user_is_gone() -> None:
    world = World()
    ada, _ = awaiting(world)
    ada.put(ComparisonAwaited(10, BOB, 0.02))
    assert passing(world, ada) == [LATE]
    ada.put(UserUnhosted(BOB))
    assert passing(world, ada) == [LATE]
