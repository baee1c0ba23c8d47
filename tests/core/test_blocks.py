"""Blocked users: no link, no dial, no presence, nothing stored, nobody told; all of it comes when the block ends."""

from __future__ import annotations

from p2pchat.core import effects as out
from p2pchat.core.inputs import (
    CommitFailed,
    Connect,
    GroupChangeRequest,
    GroupCreateRequest,
    ListeningAt,
    Loaded,
    OwnStateSet,
    PresenceSet,
    TypingSet,
    UserHosted,
    UserUnhosted,
    WriteRequest,
)
from p2pchat.core.log import decode_entry, ref_key
from p2pchat.core.mesh.handshake import make_cert
from p2pchat.core.mesh.links import NO_ROOM
from p2pchat.core.node_context import HostedIdentity
from p2pchat.protocol import Bye, Have, Hosted, ReadFrame
from p2pchat.protocol import Here as HereFrame
from tests.core.scripted_nodes import IDENTITIES, IDS, ROOM, START, Author, Far, N, Peer, World, dm, have, page

SOON = 5.0


def block(peer: Peer, name: str, *, by: str = "", on: bool = True) -> list[str]:
    peer.choose(f"blocked:{IDS[name]}", "1" if on else "", by=by)
    return peer.take()


def three() -> tuple[World, Peer, Peer, Peer]:
    """Return ada, bob and cyd, all linked, each with an address at which others reach it."""
    world = World()
    peers = [world.peer(name) for name in ("ada", "bob", "cyd")]
    for number, peer in enumerate(peers, 1):
        peer.put(ListeningAt((f"10.0.0.1:{number}",)))
    ada, bob, cyd = peers
    for one, other in ((ada, bob), (ada, cyd), (bob, cyd)):
        world.link(one, other)
    world.pass_time(SOON)
    for peer in peers:
        peer.take()
    return world, ada, bob, cyd


def linked(peer: Peer) -> set[str]:
    return {name for name, id in IDS.items() if id in peer.node.links.by_peer}


def written(peer: Peer, name: str) -> int:
    return peer.storage.load([]).sizes.get(IDS[name], 0)


def presence(peer: Peer, name: str) -> str:
    return peer.node.presence.status(IDS[name])[0]


def said(peer: Peer, conversation: str) -> list[str]:
    """Return the texts of a conversation as they were shown, in order."""
    shown = peer.storage.places(0, 10_000, [conversation])
    return [str(entry.b) for entry in (decode_entry(one.raw) for one in shown) if entry.k == "text"]


def gateway(ada: Peer, *users: str, name: str = "eve", listed: bool = True) -> Far:
    """Link ada with a peer that hosts these users, and if `listed` one of its own too."""
    far = ada.far(name, compared=listed, listed=listed)
    certs = [make_cert(N, IDS[user], IDENTITIES[user].sign, IDS[name], START // 1000) for user in users]
    hosted = [Hosted(IDS[user], user, "online", cert=cert) for user, cert in zip(users, certs, strict=True)]
    far.say(HereFrame(hosted))
    return far


# ---- links


def test_no_machine_of_a_blocked_person_is_linked_until_the_block_ends(ada: Peer) -> None:
    """Its peer has another key than the person. One that has other users too, as a gateway, stays linked."""
    gateway(ada, "bob", listed=False)
    gateway(ada, "bob", "cyd", name="dan", listed=False)
    assert "close eve: busy" in block(ada, "bob")
    assert linked(ada) == {"dan"}
    gateway(ada, "bob", listed=False)
    ada.world.pass_time(SOON)
    assert linked(ada) == {"dan"}
    block(ada, "bob", on=False)
    gateway(ada, "bob", listed=False)
    assert linked(ada) == {"eve"}  # that with dan begins anew


def test_a_machine_that_comes_after_the_block_is_told_apart_by_its_users(ada: Peer) -> None:
    block(ada, "bob")
    gateway(ada, "bob", listed=False)
    ada.world.pass_time(SOON)
    assert linked(ada) == set() and presence(ada, "bob") in ("offline", "unknown")


def test_the_link_ends_at_once_and_nobody_dials() -> None:
    world, ada, bob, _ = three()
    assert "close bob: busy" in block(ada, "bob")
    (close,) = [effect for effect in ada.effects if isinstance(effect, out.Close)]
    assert close.bye == Bye("busy", NO_ROOM)
    assert presence(ada, "bob") == "offline"
    world.pass_time(600)  # bob dials again and again, and hears the same
    assert linked(ada) == {"cyd"} and "ada" not in linked(bob)
    byes = [effect.bye for effect in ada.effects if isinstance(effect, out.Close)]
    assert len(byes) > 1 and all(bye == Bye("busy", NO_ROOM) for bye in byes)
    assert ada.counted["link_gave_way"] == 0 and "warn links_full" not in ada.lines


def test_an_endpoint_of_a_blocked_peer_that_a_user_names_is_not_dialled() -> None:
    world, ada, _, _ = three()
    block(ada, "bob")
    effects = ada.node.handle(Connect("10.0.0.1:2"), world.now)
    dials = [effect for effect in effects if isinstance(effect, out.Dial)]
    told = [(effect.state, effect.code) for effect in effects if isinstance(effect, out.LinkChanged)]
    assert (dials, told) == ([], [("trying", "blocked")])
    block(ada, "bob", on=False)
    world.pass_time(SOON)
    assert linked(ada) == {"bob", "cyd"}


def test_a_stranger_to_the_address_book_is_refused_when_it_has_proved_who_it_is() -> None:
    world = World()
    ada, bob = world.peer("ada"), world.peer("bob")
    block(ada, "bob")
    ada.put(Connect("10.0.0.1:2"))  # without a key: whose it is comes out now
    world.pass_time(60)
    assert linked(ada) == linked(bob) == set()
    assert ada.node.links.dialer.seeking == []  # it is known whose endpoint that is, and dialled no more
    block(ada, "bob", on=False)
    world.pass_time(SOON)
    assert linked(ada) == {"bob"}


def test_a_block_and_its_end_come_back_after_a_restart_and_count_when_they_are_stored() -> None:
    world, ada, bob, cyd = three()
    ada.holding = True
    block(ada, "bob")
    assert linked(ada) == {"bob", "cyd"}
    epoch = ada.held[-1].epoch
    ada.holding, ada.held = False, []
    ada.put(CommitFailed(epoch, "the disk failed"))
    ada.put(Loaded(ada.storage.load([ada.id])))
    world.pass_time(60)
    assert linked(ada) == {"bob", "cyd"} and not ada.node.blocks.users
    block(ada, "bob")
    ada.restart()
    world.link(ada, cyd)
    bob.say("meanwhile")
    world.pass_time(60)
    assert linked(ada) == {"cyd"} and "meanwhile" not in ada.texts()
    block(ada, "bob", on=False)
    ada.restart()
    world.link(ada, cyd)
    world.pass_time(60)
    assert linked(ada) == {"bob", "cyd"} and ada.texts()[-1] == "meanwhile"


# ---- entries


def test_nothing_a_blocked_user_writes_is_stored_and_all_of_it_comes_when_the_block_ends() -> None:
    world, ada, bob, cyd = three()
    bob.say("before")
    block(ada, "bob")
    stored = written(ada, "bob")
    for n in range(5):
        bob.say(f"line {n}")
    cyd.say("and I")
    world.pass_time(120)
    assert written(ada, "bob") == stored
    assert ada.texts() == ["before", "?and I"]  # it follows what bob wrote
    block(ada, "bob", on=False)
    world.pass_time(SOON)
    assert [text for text in ada.texts() if text.startswith("line")] == [f"line {n}" for n in range(5)]
    world.pass_time(60)
    assert len(ada.texts()) == 7
    bob.say("and on")
    world.settle()
    assert ada.texts()[-1] == "and on"


def test_what_follows_an_entry_of_a_blocked_user_is_shown_after_a_second(ada: Peer) -> None:
    block(ada, "bob")
    ada.restart()  # before anything of bob was refused
    bob, cyd = Author("bob", "b1"), Author("cyd", "c1")
    bob.say("shh")
    ada.far("cyd").say(cyd.say("an answer", re=bob.ref(1)))
    assert ada.texts() == []
    ada.world.pass_time(1.5)
    assert ada.texts() == ["?an answer"]


def test_nothing_of_a_blocked_user_is_fetched_or_imported() -> None:
    ada, bob = World().peer("ada"), Author("bob", "b1")
    frame = bob.say("one")
    block(ada, "bob")
    far = ada.far("cyd", bob)
    assert not [line for line in far.say(have(bob), page(bob)) if "want" in line]
    assert far.say(frame) == []  # not even that it is refused
    assert ada.carry(frame)[-1].endswith("1 full")
    assert written(ada, "bob") == 0


def test_traffic_becomes_quiet_while_somebody_is_blocked() -> None:
    world, ada, bob, cyd = three()
    block(ada, "bob")
    for n in range(20):
        bob.say(f"{n}")
    world.pass_time(30)
    ada.take(), cyd.take()
    world.pass_time(60)
    done = ada.take() + cyd.take()
    assert not [line for line in done if ": entries " in line or ": want " in line or "full" in line]
    assert len(done) < 60  # digests, sums and marks, every 10 s


def test_groups_of_others_go_on_with_operations_of_a_blocked_member() -> None:
    world, ada, bob, cyd = three()
    bob.put(GroupCreateRequest(1, bob.id, "ops", (ada.id, cyd.id)))
    world.pass_time(SOON)
    (group,) = ada.node.groups
    talk = ada.node.groups[group].talk
    block(ada, "bob")
    bob.put(GroupChangeRequest(2, bob.id, group, name="watch"))
    bob.put(WriteRequest(3, bob.id, talk, "text", ["from bob"]))
    world.pass_time(SOON)
    cyd.put(WriteRequest(4, cyd.id, talk, "text", ["from cyd"]))
    world.pass_time(SOON)
    assert ada.node.groups[group].name == "watch"
    assert said(ada, talk) == ["from cyd"]
    bob.put(GroupCreateRequest(5, bob.id, "mine", (ada.id, cyd.id)))
    world.pass_time(SOON)
    assert len(cyd.node.groups) == 2 and list(ada.node.groups) == [group]
    block(ada, "bob", on=False)
    world.pass_time(60)
    assert len(ada.node.groups) == 2
    assert said(ada, talk) == ["from cyd", "from bob"]


# ---- users of gateways


def test_a_user_of_a_gateway_is_blocked_alone(ada: Peer) -> None:
    far = gateway(ada, "bob", "cyd")
    bob, cyd = Author("bob", "b1"), Author("cyd", "c1")
    assert (presence(ada, "bob"), presence(ada, "cyd")) == ("online", "online")
    block(ada, "bob")
    assert linked(ada) == {"eve"}
    assert (presence(ada, "bob"), presence(ada, "cyd")) == ("unknown", "online")
    far.say(bob.say("from bob"), cyd.say("from cyd"))
    to_ada = Author("bob", "b2", dm("ada", "bob"))
    far.say(to_ada.say("psst"))
    assert ada.texts() == ["from cyd"] and written(ada, "bob") == 0
    far.say(HereFrame([Hosted(IDS["bob"], "bob", "idle", cert=make_cert(N,
        IDS["bob"], IDENTITIES["bob"].sign, IDS["eve"], START // 1000))]))  # fmt: skip
    assert presence(ada, "bob") == "unknown"
    assert "close eve: error" in block(ada, "bob", on=False)  # who is there is told once a link
    far = gateway(ada, "bob", "cyd")
    far.say(have(bob, cyd), bob.say("again"))
    assert presence(ada, "bob") == "online"


def test_a_user_of_two_gateways_leaves_both_at_once(ada: Peer) -> None:
    gateway(ada, "bob")
    ada.world.pass_time(1.0)
    far = gateway(ada, "bob", name="dan")
    cert = make_cert(N, IDS["bob"], IDENTITIES["bob"].sign, IDS["dan"], START // 1000)
    far.say(HereFrame([Hosted(IDS["bob"], "bob", "idle", cert=cert)]))
    ada.take()
    seen = len(ada.events)
    block(ada, "bob")
    told = [
        effect
        for effect in ada.events[seen:]
        if isinstance(effect, (out.UserJoined, out.UserLeft, out.PresenceChanged))
    ]
    assert [type(effect) for effect in told] == [out.UserLeft, out.PresenceChanged]
    assert told[0] == out.UserLeft(IDS["bob"], "lost")


def test_read_marks_of_others_at_the_same_gateway_still_count(ada: Peer) -> None:
    far = gateway(ada, "bob", "cyd")
    ada.say("hello")
    own = ada.node.replicator.conversations[ROOM].writers[ada.id].marks()
    block(ada, "bob")
    far.say(Have({ROOM: {ada.id: own}}))
    ref = ref_key(ada.id, own[0].run)
    marks = {ROOM: {IDS[user]: [(ref, *own[0][1:])] for user in ("bob", "cyd")}}
    done = far.say(ReadFrame(marks))
    assert [line for line in done if "read" in line or "close" in line] == ["read a1:1..2 by cyd"]


def test_a_hosted_user_blocks_for_itself_alone() -> None:
    world = World()
    gate = world.peer("ada")
    gate.put(UserHosted(HostedIdentity(IDS["dan"], "dan", IDENTITIES["dan"].sign)))
    gate.put(PresenceSet(IDS["dan"], "online"))
    far = gate.far("bob")
    block(gate, "bob", by="dan")
    assert linked(gate) == {"bob"} and presence(gate, "bob") == "online"
    far.say(Author("bob", "b1").say("to all"))
    far.say(Author("bob", "b2", dm("ada", "bob")).say("to ada"))
    to_dan = Author("bob", "b3", dm("dan", "bob"))
    refused = to_dan.say("to dan")
    assert not [line for line in far.say(refused) if line.startswith(("commit", "to bob: have nothing full"))]
    gate.restart()
    gate.put(UserHosted(HostedIdentity(IDS["dan"], "dan", IDENTITIES["dan"].sign)))
    far = gate.far("bob")
    assert not [line for line in far.say(refused) if line.startswith(("commit", "to bob: have nothing full"))]
    assert gate.texts() == ["to all", "to ada"]
    block(gate, "bob", by="dan", on=False)
    far.say(refused)
    assert gate.texts() == ["to all", "to ada", "to dan"]


def test_a_blocked_user_that_leaves_this_peer_is_not_shown_at_another(ada: Peer) -> None:
    ada.put(UserHosted(HostedIdentity(IDS["dan"], "dan", IDENTITIES["dan"].sign)))
    ada.put(PresenceSet(IDS["dan"], "online"))
    gateway(ada, "dan")
    ada.take()
    seen = len(ada.events)
    block(ada, "dan")
    assert presence(ada, "dan") == "online" and not [one for one in ada.events[seen:] if isinstance(one, out.UserLeft)]
    ada.put(UserUnhosted(IDS["dan"]))
    ada.take()
    assert presence(ada, "dan") == "offline"
    assert [one for one in ada.events[seen:] if isinstance(one, out.UserLeft)] == [out.UserLeft(IDS["dan"], "left")]


def test_the_own_user_of_a_peer_is_told_that_who_blocks_it_is_offline() -> None:
    """A gateway has a link with that peer for its other users; nothing else there says that the blocker is here."""
    world = World()
    gate, bob, cyd = world.peer("ada"), world.peer("bob"), world.peer("cyd")
    gate.put(UserHosted(HostedIdentity(IDS["dan"], "dan", IDENTITIES["dan"].sign)))
    gate.put(PresenceSet(IDS["dan"], "online"))
    world.link(gate, bob)
    world.link(gate, cyd)
    world.pass_time(SOON)
    assert (presence(bob, "dan"), presence(cyd, "dan")) == ("online", "online")
    block(gate, "bob", by="dan")
    world.pass_time(SOON)
    assert (presence(bob, "dan"), presence(cyd, "dan")) == ("offline", "online")
    gate.put(PresenceSet(IDS["dan"], "idle", "tea"))
    gate.put(TypingSet(IDS["dan"], ROOM, True))
    world.pass_time(1.0)
    assert (bob.node.presence.status(IDS["dan"]), presence(cyd, "dan")) == (("offline", "", 0), "idle")
    assert not bob.node.replicator.typing.active
    assert cyd.node.replicator.typing.active
    block(gate, "bob", by="dan", on=False)
    world.pass_time(SOON)
    assert presence(bob, "dan") == "idle"


def test_who_is_blocked_with_others_is_not_told_again_that_the_blocker_is_online() -> None:
    """What a user chose elsewhere comes at once, and counts one by one."""
    world = World()
    gate = world.peer("ada")
    gate.put(UserHosted(HostedIdentity(IDS["dan"], "dan", IDENTITIES["dan"].sign)))
    gate.put(PresenceSet(IDS["dan"], "online"))
    far = gate.far("bob")
    world.pass_time(SOON)
    gate.effects.clear()
    gate.put(OwnStateSet(1, IDS["dan"], {f"blocked:{IDS[name]}": "1" for name in ("cyd", "bob")}))
    world.pass_time(SOON)
    frames = [one.frame for one in gate.effects if isinstance(one, out.Send) and far.link in one.links]
    assert {user.status for frame in frames if isinstance(frame, HereFrame) for user in frame.users} == {"offline"}
