"""Users hosted and unhosted while a node runs, and communication between hosted users without a link."""

from __future__ import annotations

import pytest

from p2pchat.core.effects import DeliveryReceipt, WriteAccepted
from p2pchat.core.inputs import (
    ConversationOpened,
    GroupChangeRequest,
    GroupCreateRequest,
    MarkedRead,
    PresenceSet,
    TypingSet,
    UserHosted,
    UserUnhosted,
    WriteRequest,
)
from p2pchat.core.inputs import TypingSet as Types
from p2pchat.core.mesh.handshake import make_cert
from p2pchat.core.node_context import HostedIdentities, HostedIdentity
from p2pchat.core.sync.known_conversations import dm_id, dm_naming
from p2pchat.protocol import Digest, Entries, Have, Hosted, ReadFrame, Want
from p2pchat.protocol import Here as HereFrame
from simulation.hosted_users import SimHostedUser
from simulation.simulated_peer import SimPeer
from simulation.simulation import Simulation
from tests.core.scripted_nodes import IDENTITIES, IDS, ROOM, START, Author, N, Peer, World, dm, have, page


def host(peer: Peer, name: str) -> list[str]:
    """Let a peer host this user too, with the stored facts about it."""
    known = peer.storage.load_users([IDS[name]])
    user = HostedIdentity(IDS[name], name, IDENTITIES[name].sign, status="offline")
    peer.put(UserHosted(user, tuple(known.delivered), tuple(known.reads)))
    return peer.take()


def says(peer: Peer, name: str, text: str, to: str = ROOM) -> list[str]:
    peer.put(WriteRequest(7, IDS[name], to, "text", [text]))
    return peer.take()


def gateway(*names: str) -> tuple[World, Peer]:
    world = World()
    gate = world.peer("ada")
    for name in names:
        host(gate, name)
    return world, gate


def opened(peer: Peer, one: str, other: str) -> str:
    peer.put(ConversationOpened(dm_naming(IDS[one], IDS[other])))
    return dm(one, other)


# ---- hosting and unhosting


def test_a_newly_hosted_user_can_write() -> None:
    _, gate = gateway()
    assert says(gate, "cyd", "hello") == ["refused user"]
    host(gate, "cyd")
    assert says(gate, "cyd", "hello")[-1].startswith("kept a1:2..2 of ")
    assert gate.texts() == ["hello"]


def test_a_user_with_a_log_of_this_run_elsewhere_writes_in_another_run() -> None:
    """A remote holds what cyd wrote here before this machine went back to a snapshot; it has not come yet."""
    _, gate = gateway()
    before = Author("cyd", "a1")
    before.say("one")
    gate.far("bob").say(have(before))
    gate.take()
    host(gate, "cyd")
    assert says(gate, "cyd", "two")[0] == "commit a2:1..2, show a2:1..2"


def test_hosting_and_unhosting_are_announced() -> None:
    _, gate = gateway()
    bob = gate.far("bob")
    bob.heard.clear()
    host(gate, "cyd")
    gate.put(UserUnhosted(IDS["cyd"]))
    gate.take()
    frames = [frame for frame in bob.heard if isinstance(frame, HereFrame)]
    assert [([user.id for user in frame.users], frame.gone) for frame in frames] == [
        ([IDS["cyd"]], []), ([], [IDS["cyd"]]),
    ]  # fmt: skip
    assert frames[0].users[0].cert is not None and frames[0].users[0].status == "offline"
    assert says(gate, "cyd", "hello") == ["refused user"]
    gate.put(UserUnhosted(gate.id))
    assert gate.id in gate.node.hosted  # the peer's own user is always hosted


def test_hosted_users_are_limited() -> None:
    gate = World().peer("ada", max_hosted_users=2)
    host(gate, "cyd")
    host(gate, "dan")
    assert set(gate.node.hosted) == {IDS["ada"], IDS["cyd"]}


def test_a_hosted_user_is_found_by_the_beginning_of_its_id() -> None:
    users = HostedIdentities([HostedIdentity(IDS[name], name, IDENTITIES[name].sign) for name in ("ada", "bob")])
    assert users.by_prefix[IDS["bob"][:32]] == IDS["bob"]
    users.remove(IDS["bob"])
    assert IDS["bob"][:32] not in users.by_prefix
    users.add(HostedIdentity(IDS["cyd"], "cyd", IDENTITIES["cyd"].sign))
    users.add(HostedIdentity(IDS["cyd"], "cyd again", IDENTITIES["cyd"].sign))
    assert users.by_prefix[IDS["cyd"][:32]] == IDS["cyd"] and users[IDS["cyd"]].name == "cyd again"


def test_known_facts_of_a_user_return_when_it_is_hosted_again() -> None:
    _, gate = gateway("cyd")
    bob = gate.far("bob")
    assert says(gate, "cyd", "hello")
    log = Author("cyd", "a1")
    log.write(*(shown.raw for shown in gate.storage.places(0, 9)))
    assert "delivered a1:1..2 to bob" in bob.say(have(log))
    gate.say("what takes the receipt to the disk along")
    gate.restart()
    host(gate, "cyd")
    assert [line for line in gate.far("bob").say(have(log)) if "delivered a1" in line] == []  # reported before


# ---- between hosted users


def test_a_message_between_hosted_users_is_delivered_when_stored() -> None:
    _, gate = gateway("cyd", "dan")
    there = opened(gate, "cyd", "dan")
    assert says(gate, "cyd", "psst", there) == ["commit a1:1..1, show a1:1..1", "kept a1:1..1 of dan"]
    assert [effect.here for effect in gate.effects if isinstance(effect, WriteAccepted)] == [(IDS["dan"],)]


def test_reading_among_hosted_users_is_reported_when_stored() -> None:
    _, gate = gateway("cyd", "dan")
    there = opened(gate, "cyd", "dan")
    says(gate, "cyd", "psst", there)
    shown = gate.storage.places(0, 9)[-1]
    gate.put(MarkedRead(IDS["dan"], shown.log, shown.place))
    assert gate.take() == ["commit small things", "read a1:1..1 by dan"]


def test_typing_among_hosted_users_is_reported_and_expires() -> None:
    world, gate = gateway("cyd", "dan")
    there = opened(gate, "cyd", "dan")
    gate.put(Types(IDS["cyd"], there, True))
    assert gate.take() == ["cyd types in dm"]
    world.pass_time(6.1)
    assert [line for line in gate.take() if "typ" in line] == ["cyd types in dm no more"]
    gate.put(Types(IDS["cyd"], there, True))
    gate.take()
    gate.put(UserUnhosted(IDS["cyd"]))
    assert gate.take() == ["cyd types in dm no more"]


def test_typing_among_hosted_users_changes_at_once() -> None:
    _, gate = gateway("cyd", "dan")
    there = opened(gate, "cyd", "dan")
    reported = []
    for on in (True, True, False, False, True):
        gate.put(Types(IDS["cyd"], there, on))
        reported.append(gate.take())
    assert reported == [["cyd types in dm"], [], ["cyd types in dm no more"], [], ["cyd types in dm"]]


def test_an_unhosted_user_s_read_marks_are_not_sent() -> None:
    """Marks of a user who is not hosted here would be our fault."""
    world, gate = gateway("cyd")
    bob = gate.far("bob")
    log = Author("bob", "f0")
    bob.say(log.say("hello"))
    gate.take()
    shown = gate.storage.places(0, 9)[-1]
    gate.put(MarkedRead(IDS["cyd"], shown.log, shown.place))
    gate.take()
    gate.put(UserUnhosted(IDS["cyd"]))
    bob.heard.clear()
    world.pass_time(30.0)
    gate.take()
    assert not [frame for frame in bob.heard if isinstance(frame, ReadFrame) and (frame.marks or frame.sum)]


def test_a_group_is_known_as_long_as_a_member_is_hosted() -> None:
    _, gate = gateway("cyd", "dan")
    gate.put(GroupCreateRequest(3, IDS["cyd"], "ops", (IDS["dan"],)))
    gate.take()
    [view] = gate.node.groups.values()
    talk = gate.node.replicator.conversations[view.talk]
    assert talk.concerns_us and gate.node.conversations_of(IDS["dan"]) == [ROOM, view.talk]
    assert gate.node.conversations_of(IDS["ada"]) == [ROOM]
    gate.put(GroupChangeRequest(4, IDS["cyd"], view.group, remove=(IDS["dan"],)))
    gate.take()
    gate.put(UserUnhosted(IDS["cyd"]))
    gate.take()
    assert not talk.concerns_us
    host(gate, "cyd")
    assert talk.concerns_us


def test_nothing_is_fetched_that_concerns_no_hosted_user() -> None:
    world, gate = gateway("cyd")
    bob = gate.far("bob")
    there = opened(gate, "cyd", "bob")
    log = Author("bob", "f0", there)
    log.say("hello")
    bob.say(page(log))
    assert [frame.c for frame in bob.heard if isinstance(frame, Want)] == [there]
    gate.put(UserUnhosted(IDS["cyd"]))
    bob.heard.clear()
    bob.say(Have({}, end=1))  # bob serves it only to peers that host her
    world.pass_time(100.0)
    assert not [frame for frame in bob.heard if isinstance(frame, Want)]


def test_conversations_are_named_again_when_a_user_is_hosted_again() -> None:
    """A peer that hosts no member of a conversation ignores its name, or forgets it."""
    _, gate = gateway()
    bob = gate.far("bob")
    cert = make_cert(N, IDS["dan"], IDENTITIES["dan"].sign, IDS["bob"], START // 1000)
    dan = Hosted(IDS["dan"], "dan", "online", cert=cert)
    bob.say(HereFrame([dan]))
    there = opened(gate, "ada", "dan")
    gate.put(Types(IDS["ada"], there, True))
    bob.say(HereFrame([], gone=[IDS["dan"]]))
    bob.heard.clear()
    bob.say(HereFrame([dan]))
    gate.say("are you there?", to=there)
    named = [frame.names for frame in bob.heard if isinstance(frame, (Digest, Entries, Have)) and frame.names]
    assert named == [[dm_naming(IDS["ada"], IDS["dan"])]]


# ---- receipts


def test_a_message_to_the_room_shares_one_list_of_members() -> None:
    _, gate = gateway("cyd", "dan")
    for name in ("cyd", "dan"):
        gate.put(PresenceSet(IDS[name], "online"))
    gate.take()
    room = gate.node.replicator.conversations[ROOM]
    one, other = (gate.node.replicator.receipts.delivered.recipients(room, IDS[name]) for name in ("cyd", "dan"))
    assert one[0] is other[0] and one[1] is other[1]
    assert set(one[0]) == set(one[1]) == {IDS["ada"], IDS["cyd"], IDS["dan"]}


def test_all_users_of_a_gateway_get_a_message_at_one_moment() -> None:
    _, ada = gateway()
    bob = ada.far("bob")
    certs = {name: make_cert(N, IDS[name], IDENTITIES[name].sign, IDS["bob"], START // 1000) for name in ("cyd", "dan")}
    bob.say(HereFrame([Hosted(IDS[name], name, "online", cert=cert) for name, cert in certs.items()]))
    ada.take()
    ada.say("hello")
    log = Author("ada", "a1")
    log.write(*(shown.raw for shown in ada.storage.places(0, 9)))
    bob.say(have(log))
    ada.take()
    members = [{effect.member, *effect.others} for effect in ada.effects if isinstance(effect, DeliveryReceipt)]
    assert members == [{IDS["bob"]}]
    assert ada.node.presence.users_at({IDS["bob"]}) == {IDS["bob"], IDS["cyd"], IDS["dan"]}


# ---- simulated


@pytest.fixture
def sim() -> Simulation:
    return Simulation(seed=8)


def ends_well(sim: Simulation) -> None:
    assert sim.settle()
    assert sim.check() == []


def hosted(sim: Simulation, peer: SimPeer) -> SimHostedUser:
    """Return a user that a peer hosts, once all have met; from then on their links delay nothing."""
    sim.calm()
    for wire in {end.wire for one in sim.up for other in sim.up for end in one.wires_to(other)}:
        wire.quick = wire.slow = 0.001
    guest = sim.guest("zoe")
    peer.host_guest(guest)
    sim.run(1)
    return guest


def texts(peer: SimPeer, guest: SimHostedUser, other: SimPeer) -> int:
    """Return the number of texts that a peer holds of a direct conversation."""
    conversation = dm_id(peer.sim.invariants.room, guest.user, other.user)
    return sum(len(raws) for log, raws in peer.disk.logs.items() if log.conversation == conversation)


def types(peer: SimPeer, guest: SimHostedUser, to: SimPeer) -> None:
    """Let a hosted user of this peer type to another peer's user."""
    peer.put(ConversationOpened(dm_naming(guest.user, to.user)))
    peer.put(TypingSet(guest.user, dm_id(peer.sim.invariants.room, guest.user, to.user), True))


def said_and_left(peer: SimPeer, name: str) -> list[str]:
    return [line["event"] for line in peer.lines if line["event"] in ("joined", "left") and line["user"] == name]


def test_a_hosted_user_writes_and_receives_like_any_other(sim: Simulation) -> None:
    ada, bob, cyd = sim.peers(3)
    zoe = hosted(sim, ada)
    ada.say_as(zoe, "hello")
    bob.say_to_guest(zoe, "welcome")
    sim.run(5)
    assert [texts(peer, zoe, bob) for peer in (ada, bob, cyd)] == [1, 1, 0]
    assert said_and_left(cyd, "zoe") == ["joined"]
    ends_well(sim)


def test_nothing_is_compared_that_concerns_no_hosted_user(sim: Simulation) -> None:
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


def test_a_user_hosted_again_gets_what_it_missed_at_once(sim: Simulation) -> None:
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


def test_entries_of_a_returned_user_are_named_to_peers_that_forgot_it(sim: Simulation) -> None:
    ada, bob, cyd = sim.peers(3)
    zoe = hosted(sim, ada)
    types(ada, zoe, bob)  # this names the conversation, and stores nothing
    sim.run(1)
    ada.unhost_guest(zoe)
    sim.run(1)
    cyd.crash()  # bob forgets conversations that no link may mention when a link ends
    sim.run(1)
    ada.host_guest(zoe)
    sim.run(1)
    ada.say_as(zoe, "here I am", bob)
    sim.run(1)
    assert texts(bob, zoe, bob) == 1
    cyd.start()
    ends_well(sim)


def test_one_user_on_two_peers_is_one_user(sim: Simulation) -> None:
    ada, bob, cyd = sim.peers(3)
    zoe = hosted(sim, ada)
    bob.host_guest(zoe)
    cyd.say_to_guest(zoe, "one")
    ada.say_as(zoe, "two", cyd)
    bob.say_as(zoe, "three", cyd)
    sim.run(10)
    assert [texts(peer, zoe, cyd) for peer in (ada, bob, cyd)] == [3, 3, 3]
    ada.unhost_guest(zoe)
    sim.run(1)
    assert said_and_left(cyd, "zoe") == ["joined"]  # it is still there
    ends_well(sim)


def test_a_user_hosted_here_while_awaited_elsewhere_left_and_joined(sim: Simulation) -> None:
    ada, bob = sim.peers(2)
    zoe = hosted(sim, bob)
    bob.crash()
    while ada.node is not None and bob in ada.linked:
        sim.run(0.01)
    ada.host_guest(zoe)
    assert said_and_left(ada, "zoe") == ["joined", "left", "joined"]
    bob.start()
    ends_well(sim)


def test_entries_written_while_leaving_are_announced_on_return(sim: Simulation) -> None:
    """Before the return, no user of that peer is concerned, so the invariants do not expect announcements."""
    ada, bob = sim.peers(2)
    zoe = hosted(sim, ada)
    ada.say_as(zoe, "goodbye", bob)
    ada.unhost_guest(zoe)
    sim.run(10)
    assert [texts(peer, zoe, bob) for peer in (ada, bob)] == [1, 0]
    ada.host_guest(zoe)
    sim.run(2)
    assert texts(bob, zoe, bob) == 1
    ends_well(sim)


def test_a_user_back_on_a_restored_machine_begins_no_known_log_again(sim: Simulation) -> None:
    """The restored machine repeats a run. The log that the user wrote in that run was covered when it came back."""
    ada, bob = sim.peers(2)
    sim.calm()
    ada.crash()
    ada.start()  # its own name is of a run that is not repeated
    zoe = hosted(sim, ada)
    ada.say_as(zoe, "one")
    sim.run(2)
    ada.unhost_guest(zoe)
    bob.host_guest(zoe)
    bob.say_as(zoe, "two")
    sim.run(2)
    ada.resume()
    sim.calm()
    bob.unhost_guest(zoe)
    ada.host_guest(zoe)
    ada.say_as(zoe, "three")
    sim.calm()
    assert [len(raws) for log, raws in bob.disk.logs.items() if log.user == zoe.user] == [2, 2, 2]
    assert sim.counts["warned_fork"] == 0
    ends_well(sim)


def test_the_invariants_find_entries_not_sent_to_a_hosted_user(sim: Simulation) -> None:
    ada, bob = sim.peers(2)
    zoe = hosted(sim, ada)
    ada.say_as(zoe, "hello")
    assert sim.settle()
    receipts = sim.invariants.receipts
    receipts._delivered = {receipt for receipt in receipts._delivered if receipt[0].user != zoe.user}
    assert [fault.rule for fault in sim.invariants._missing()] == ["receipt"]
    bob.node = None
    zoe.hosts.clear()
    assert [fault.rule for fault in sim.invariants.presence.faults(ada)] == ["presence", "word"]
