"""Users who are hosted, and no longer hosted, while nodes run: everyone agrees on what concerns them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pchat.core.inputs import ConversationOpened, TypingSet
from p2pchat.core.sync.conversations import dm_naming
from p2pchat.testing import Simulation
from p2pchat.testing.simulation.hosted_users import HostedMessage, SimHostedUser
from p2pchat.testing.simulation.peer import SimPeer


@pytest.fixture
def sim() -> Simulation:
    return Simulation(seed=8)


def ends_well(sim: Simulation) -> None:
    assert sim.settle()
    assert sim.check() == []


def hosted(sim: Simulation, peer: SimPeer) -> SimHostedUser:
    sim.run(3)
    guest = sim.guest("zoe")
    peer.host_guest(guest)
    sim.run(1)
    return guest


def texts(peer: SimPeer, guest: SimHostedUser, other: SimPeer) -> int:
    """How much a peer holds of what one of its users and another have between them."""
    conversation = other.sim.direct(guest.user, other.user)
    return sum(len(raws) for log, raws in peer.disk.logs.items() if log.conversation == conversation)


def types(peer: SimPeer, guest: SimHostedUser, to: SimPeer) -> None:
    """A guest of this peer begins to type to another's user."""
    peer.put(ConversationOpened(dm_naming(guest.user, to.user)))
    peer.put(TypingSet(guest.user, peer.sim.direct(guest.user, to.user), True))


def said_and_left(peer: SimPeer, name: str) -> list[str]:
    return [line["event"] for line in peer.lines if line["event"] in ("joined", "left") and line["user"] == name]


def test_a_guest_writes_and_is_written_to_like_anybody(sim: Simulation) -> None:
    ada, bob, cyd = sim.peers(3)
    zoe = hosted(sim, ada)
    ada.say_as(HostedMessage(zoe, ada, None), "hello")
    bob.say_to_guest(zoe, "welcome")
    sim.run(5)
    assert [texts(peer, zoe, bob) for peer in (ada, bob, cyd)] == [1, 1, 0]
    assert said_and_left(cyd, "zoe") == ["joined"]
    ends_well(sim)


def test_what_concerns_nobody_hosted_here_any_more_is_compared_with_nobody(sim: Simulation) -> None:
    ada, bob = sim.peers(2)
    zoe = hosted(sim, ada)
    bob.say_to_guest(zoe, "are you there?")
    sim.run(2)
    ada.unhost_guest(zoe)
    sim.run(1)
    assert said_and_left(bob, "zoe") == ["joined", "left"]
    assert ada.digest_for(bob) == bob.digest_for(ada)
    ada.crash()
    ada.start()
    ends_well(sim)


def test_who_is_hosted_again_on_a_link_gets_at_once_what_it_missed(sim: Simulation) -> None:
    ada, bob = sim.peers(2)
    zoe = hosted(sim, ada)
    ada.unhost_guest(zoe)
    sim.run(1)
    bob.say_to_guest(zoe, "where are you?")
    sim.run(1)
    assert texts(ada, zoe, bob) == 0
    ada.host_guest(zoe)
    sim.run(1)
    assert texts(ada, zoe, bob) == 1
    ends_well(sim)


def test_what_a_guest_writes_when_it_is_back_is_named_to_who_forgot_it(sim: Simulation) -> None:
    ada, bob, cyd = sim.peers(3)
    zoe = hosted(sim, ada)
    types(ada, zoe, bob)  # which says what the conversation is, and nothing to be kept of it
    sim.run(1)
    ada.unhost_guest(zoe)
    sim.run(1)
    cyd.crash()  # bob forgets conversations that nobody may speak of when a link ends
    sim.run(1)
    ada.host_guest(zoe)
    sim.run(1)
    ada.say_as(HostedMessage(zoe, ada, bob), "here I am")
    sim.run(1)
    assert texts(bob, zoe, bob) == 1
    cyd.start()
    ends_well(sim)


def test_one_user_on_two_peers_is_one_person(sim: Simulation) -> None:
    ada, bob, cyd = sim.peers(3)
    zoe = hosted(sim, ada)
    bob.host_guest(zoe)
    cyd.say_to_guest(zoe, "one")
    ada.say_as(HostedMessage(zoe, ada, cyd), "two")
    bob.say_as(HostedMessage(zoe, bob, cyd), "three")
    sim.run(5)
    assert [texts(peer, zoe, cyd) for peer in (ada, bob, cyd)] == [3, 3, 3]
    ada.unhost_guest(zoe)
    sim.run(1)
    assert said_and_left(cyd, "zoe") == ["joined"]  # it is still there
    ends_well(sim)


def test_who_is_hosted_here_while_its_return_elsewhere_is_awaited_left_and_joined(sim: Simulation) -> None:
    ada, bob = sim.peers(2)
    zoe = hosted(sim, bob)
    bob.crash()
    while ada.node is not None and bob in ada.linked:
        sim.run(0.01)
    ada.host_guest(zoe)
    assert said_and_left(ada, "zoe") == ["joined", "left", "joined"]
    bob.start()
    ends_well(sim)


def test_what_a_guest_said_as_it_left_is_told_when_it_is_back(sim: Simulation) -> None:
    """Until then it concerns nobody where it is kept: the judge does not expect it to be told."""
    ada, bob = sim.peers(2)
    zoe = hosted(sim, ada)
    ada.say_as(HostedMessage(zoe, ada, bob), "goodbye")
    ada.unhost_guest(zoe)
    sim.run(10)
    assert [texts(peer, zoe, bob) for peer in (ada, bob)] == [1, 0]
    ada.host_guest(zoe)
    sim.run(2)
    assert texts(bob, zoe, bob) == 1
    ends_well(sim)


def test_a_guest_that_is_back_on_a_machine_gone_back_in_time_begins_no_log_again(sim: Simulation) -> None:
    """What the guest wrote there, in the run that the machine is in again, was covered when that came back."""
    ada, bob = sim.peers(2)
    zoe = hosted(sim, ada)
    ada.say_as(HostedMessage(zoe, ada, None), "one")
    sim.run(2)
    ada.unhost_guest(zoe)
    bob.host_guest(zoe)
    bob.say_as(HostedMessage(zoe, bob, None), "two")
    sim.run(2)
    ada.resume()
    sim.run(30)
    bob.unhost_guest(zoe)
    ada.host_guest(zoe)
    ada.say_as(HostedMessage(zoe, ada, None), "three")
    sim.run(2)
    assert [len(raws) for log, raws in bob.disk.logs.items() if log.user == zoe.user] == [2, 2, 2]
    assert sim.counts["warned_fork"] == 0
    ends_well(sim)


def test_the_judge_misses_what_a_guest_was_not_told(sim: Simulation) -> None:
    ada, bob = sim.peers(2)
    zoe = hosted(sim, ada)
    ada.say_as(HostedMessage(zoe, ada, None), "hello")
    assert sim.settle()
    sim.judge._delivered = {told for told in sim.judge._delivered if told[0].user != zoe.user}
    newest = {log: len(raws) for log, raws in bob.disk.logs.items()}
    assert [fault.rule for fault in sim.judge.guests.missing([ada, bob], newest)] == ["receipt"]
    bob.node = None
    zoe.hosts.clear()
    assert [fault.rule for fault in sim.judge.guests.faults(ada)] == ["word"]


def test_the_judge_takes_what_a_guest_wrote_apart_from_its_other_logs_for_old(sim: Simulation) -> None:
    """As a peer does that has heard of those: nothing says what was first."""
    ada, bob = sim.peers(2)
    zoe = hosted(sim, ada)
    ada.say_as(HostedMessage(zoe, ada, None), "hello")
    sim.run(5)
    one = replace(next(one for one in bob.disk.storage.places(0, 99) if one.log.user == zoe.user), old=True)
    other, showing = one.log._replace(run="f" * 16), sim.judge.showing
    showing._known_at[bob.name], showing._first[bob.name] = 0.0, {other: (0, 3)}
    showing._is_of_its_age(bob, one)
    assert sim.check() == []
    showing._first[bob.name] = {other: (0, 3), one.log: (0, 0)}
    showing._is_of_its_age(bob, one)
    assert [fault.rule for fault in sim.check()] == ["old"]
