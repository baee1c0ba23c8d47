"""Users that came from another peer: when their conversations are compared with it."""

from __future__ import annotations

import pytest

from p2pchat.core.durable_changes import DiskLevel
from p2pchat.core.inputs import ComparisonAwaited, ConversationOpened, DiskLow, UserHosted, UserUnhosted, WriteRequest
from p2pchat.core.log import NO_SUM
from p2pchat.core.node_context import HostedIdentity
from p2pchat.core.sync.anti_entropy import NEXT_WITHIN
from p2pchat.core.sync.known_conversations import dm_id, dm_naming
from p2pchat.identity.identity import Identity
from p2pchat.protocol import Digest, Frame, Pong
from tests.core.scripted_nodes import (
    ALL,
    IDENTITIES,
    IDS,
    NAMES,
    ROOM,
    Author,
    Far,
    GroupPen,
    Peer,
    World,
    dm,
    have,
    sum_of_tips,
)

BOB = IDS["bob"]
ENDED, LATE = "comparison ended", "comparison not ended in time"


def awaiting(world: World, *before: Frame) -> tuple[Peer, Far]:
    """Return ada, who hosts bob now as the other peer does, and waits; she has pinged it.

    Args:
        before: What the other peer says before ada hosts bob.
    """
    ada = world.peer("ada")
    far = ada.far("bob")
    far.say(*before)
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
    return Digest(sum=NO_SUM)


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
    far.say(Digest(sums={talk.log.conversation: sum_of_tips(talk)}, span=ALL), have(talk, span=ALL))
    assert passing(world, ada) == []
    ada.holding = True
    far.say(entries, have(end=1))
    assert passing(world, ada) == []
    ada.commit()
    assert passing(world, ada) == [ENDED]


def test_a_group_that_is_not_here_yet_is_waited_for_and_its_messages_are_compared_then() -> None:
    """Nobody knows its members before its first fact is here."""
    world = World()
    entries = GroupPen("cyd", "bob").first
    group, operations = entries.c, Author("cyd", "c0", entries.c)
    operations.log = operations.log._replace(run=entries.r)
    operations.write(*entries.e)
    held = Digest(sums={group: sum_of_tips(operations)}, span=ALL)
    ada, far = awaiting(world, held, have(operations, span=ALL))
    far.say(Pong())
    passing(world, ada)
    far.say(held, have(operations, span=ALL))
    assert passing(world, ada) == []
    far.say(entries, have(end=1))
    assert passing(world, ada) == [], "its messages were not compared"
    far.say(Pong())
    world.pass_time(NEXT_WITHIN + 0.2)
    *_, digest = [frame for frame in far.heard if isinstance(frame, Digest)]
    far.say(digest)  # the same is there
    assert passing(world, ada) == [ENDED]


def test_a_wait_ends_in_time_and_when_the_user_is_gone() -> None:
    world = World()
    ada, _ = awaiting(world)
    ada.put(ComparisonAwaited(10, BOB, 0.02))
    assert passing(world, ada) == [LATE]
    ada.put(UserUnhosted(BOB))
    assert passing(world, ada) == [LATE]


def test_the_next_comparison_begins_although_the_present_one_never_ends() -> None:
    world = World()
    ada, far = awaiting(world)
    ada.put(DiskLow(DiskLevel.NOTHING))
    ada.put(DiskLow(DiskLevel.ENOUGH))  # a comparison begins, and nothing is answered
    far.say(Pong())
    world.pass_time(NEXT_WITHIN + 0.2)
    far.say(equal())
    assert passing(world, ada) == [ENDED]


def test_users_who_come_during_a_comparison_share_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that starts again gets its users back within seconds, and compares thousands of conversations."""
    world = World()
    ada, bob = world.peer("ada", digest_every=1000.0), world.peer("bob", digest_every=1000.0)
    users = [Identity.from_seed(bytes([number]) * 32) for number in range(100)]
    for user in users:
        monkeypatch.setitem(NAMES, user.peer_id, "somebody")
        bob.put(UserHosted(HostedIdentity(user.peer_id, "", user.sign)))
        bob.put(ConversationOpened(dm_naming(bob.id, user.peer_id)))
        bob.put(WriteRequest(1, bob.id, dm_id(ROOM, bob.id, user.peer_id), "text", ["psst"]))
    world.link(ada, bob)
    ada.take(), bob.take()
    for ticket, user in enumerate(users, 10):
        ada.put(UserHosted(HostedIdentity(user.peer_id, "", user.sign)))
        ada.put(ComparisonAwaited(ticket, user.peer_id, 60.0))
    world.pass_time(1.0)
    told = ada.take()
    assert [line for line in told if line.startswith("comparison")] == [ENDED] * len(users)
    held = {dm_id(ROOM, bob.id, user.peer_id) for user in users}
    assert all(ada.node.replicator.conversations[id].writers for id in held)
    digests = [line for line in (*told, *bob.take()) if ": digest" in line]
    assert 2 <= len(digests) <= 10, "one began a comparison for each user"
