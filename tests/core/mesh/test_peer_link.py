"""Places of links: contacts always find one, and all others share the rest by their members."""

from __future__ import annotations

import pytest

from p2pchat.core.effects import Close, Counted, Dial, Effect, LinkChanged, Send, WarningIssued
from p2pchat.core.inputs import Connect, LinkDialled, LinkDown, ListeningAt
from p2pchat.core.mesh.peer_link import MAX_OF_MEMBER
from p2pchat.core.node_context import NetworkCredentials
from p2pchat.protocol import PROTOCOL_VERSION, Admit, Bye, Frame, Go, Hello, encode
from p2pchat.settings import Settings
from tests.core.mesh.linked_peers import Key, Meeting, N, Post, byes, peers_in_order, record_of, told

SMALL = Settings(max_links=8, known_links=2)  # six places for others than contacts
BUSY = Bye("busy", "no room for more links")
EVIL = "203.0.113"


class Place:
    """A peer with few places, by default ada, and others that come to it.

    Those that fill() brings belong to the member `evil`, every other one is its own member.
    """

    def __init__(self, settings: Settings = SMALL, name: str = "ada") -> None:
        self.evil: set[str] = set()
        self.ada = Post(Key(name), settings=settings, share=self._share)
        self.ada.handle(ListeningAt(()))
        self.met: dict[str, Meeting] = {}
        self.links: dict[str, int] = {}

    def _share(self, peer: str) -> str:
        return "evil" if peer in self.evil else peer

    def come(self, name: str, host: str = "192.0.2.1") -> bool:
        """Let a peer dial ada from an address. Return whether it is linked then."""
        if name not in self.met:
            far = Post(Key(name))
            self.met[name] = Meeting(self.ada, far)
            self.met[name]._links = 100 * len(self.met)
            far.at(self.ada.ctx.now.mono)
            far.handle(ListeningAt((f"{host}:7000",)))
        met = self.met[name]
        (dial,) = dials(met.b.handle(Connect(f"10.9.9.9:{8080 + met._links % 100}")))
        self.links[name] = met.reach(met.b, dial, host=host)
        closed = {effect.link: effect for effect in met.said[self.ada.key.id] if isinstance(effect, Close)}
        for other, link in self.links.items():
            if link in closed and other != name:
                self.met[other].carry(self.ada, [closed[link]])
        return name in self.linked

    def fill(self, count: int, network: str = EVIL) -> list[str]:
        names = [f"{network} {number}" for number in range(count)]
        self.evil |= {Key(name).id for name in names}
        for number, name in enumerate(names):
            self.come(name, f"{network}.{number + 1}")
        return names

    @property
    def linked(self) -> set[str]:
        return {name for name in self.met if Key(name).id in self.ada.links.by_peer}

    def said(self) -> list[Effect]:
        return [effect for met in self.met.values() for effect in met.take(self.ada)]


def dials(effects: list[Effect]) -> list[Dial]:
    return [effect for effect in effects if isinstance(effect, Dial)]


def test_a_newcomer_takes_the_place_of_the_newest_of_the_fullest_member() -> None:
    place = Place()
    place.come("cyd", "192.0.2.1")
    evil = place.fill(5)
    place.said()
    assert place.come("bob", "198.51.100.1")
    assert place.linked == {"cyd", *evil[:4], "bob"}
    said = place.said()
    assert BUSY in byes(said) and said.count(Counted("link_gave_way")) == 1
    far = place.met[evil[4]].b
    assert far.heard[-1] == ("down", Key("ada").id, "lost")


def test_places_kept_for_contacts_are_for_no_one_else() -> None:
    place = Place()
    assert place.fill(9) != []
    assert len(place.linked) == 6
    assert place.said().count(Counted("link_gave_way")) == 0


def test_of_places_at_most_half_are_kept_for_contacts() -> None:
    for most, others in ((1, 1), (2, 1), (3, 2)):
        place = Place(Settings(max_links=most))
        place.fill(4)
        assert len(place.linked) == others


def test_where_places_are_scarce_a_member_has_eight() -> None:
    place = Place(Settings(max_links=32, known_links=0))
    assert all(place.come(f"honest {number}") for number in range(6))
    place.fill(12)
    assert len(place.linked) == 6 + 10  # half of the places are taken
    assert not place.come(f"{EVIL} 11")
    assert all(place.come(f"honest {number}") for number in range(6, 20))
    place = Place(Settings(max_links=32, known_links=0))
    assert all(place.come(f"honest {number}") for number in range(16))
    place.fill(12)
    assert len(place.linked) == 16 + MAX_OF_MEMBER


def test_who_gave_way_does_not_come_back_by_the_same_rule() -> None:
    """Otherwise the two would take turns, each time with a comparison of everything."""
    place = Place()
    evil = place.fill(3)
    honest = [f"honest {number}" for number in range(4)]
    for number, name in enumerate(honest):
        place.come(name, f"198.51.{number}.1")
    linked = {*evil[:2], *honest}
    assert place.linked == linked
    place.said()
    assert not place.come(evil[2], f"{EVIL}.3")
    assert place.linked == linked
    assert place.said().count(Counted("link_gave_way")) == 0


def test_who_gave_way_is_not_dialled_and_does_not_dial_for_a_while() -> None:
    place = Place()
    evil = place.fill(6, "203.0.112")
    place.ada.at(10.0)
    place.come("bob", "198.51.100.1")
    assert evil[5] not in place.linked
    far = place.met[evil[5]].b
    far.at(10.0)
    assert [dial for dial in dials(far.wake(39.0)) if dial.endpoint.startswith("10.9.9.9")] == []
    assert [dial for dial in dials(far.wake(310.0)) if dial.endpoint.startswith("10.9.9.9")] != []
    assert "203.0.112.6:7000" not in [dial.endpoint for dial in dials(place.ada.wake(39.0))]


def test_a_contact_finds_a_place_wherever_it_comes_from() -> None:
    place = Place()
    evil = place.fill(6)
    friends = ["friend 1", "friend 2", "friend 3"]
    place.ada.contacts.keep([Key(name).id for name in (*friends, *(f"single {number}" for number in range(9)))])
    assert [place.come(name, f"{EVIL}.9") for name in friends] == [True, True, True]
    assert place.linked == {*evil[:5], *friends}  # two had places of their own, the third took an unknown peer's
    for number in range(5):
        assert place.come(f"single {number}", f"10.0.{number}.1")
    assert place.linked == {*friends, *(f"single {number}" for number in range(5))}
    assert not place.come("single 5", "10.0.5.1")
    assert not place.come("bob", "198.51.100.1")


def test_a_link_that_becomes_a_contact_s_leaves_its_member_room() -> None:
    place = Place()
    evil = place.fill(6)
    place.ada.contacts.keep([Key(evil[5]).id])
    place.evil.add(Key("one more").id)
    assert place.come("one more", f"{EVIL}.77")
    assert place.come("bob", "198.51.100.1")
    assert place.linked == {*evil, "bob"}  # the newest of those that are no contacts gave way


def test_a_contact_stays_one_while_a_new_link_replaces_its_link() -> None:
    """A peer is a contact also for the users that it hosts, and it names them only later."""
    place = Place()
    place.fill(6)
    assert place.come("bob", "198.51.100.1")
    link = place.ada.links.by_peer[Key("bob").id]
    place.ada.links.on_known(link, Key("guest").id)
    assert place.come("bob", f"{EVIL}.1")
    assert place.ada.links.by_peer[Key("bob").id].known
    assert Key("bob").id not in place.ada.links.places._others


@pytest.mark.parametrize(("dials", "chosen"), [("ada", True), ("bob", True), ("bob", False)])
def test_a_contact_is_known_as_soon_as_its_key_is_proved(dials: str, chosen: bool) -> None:
    """Its handshake would wait for the floods of others, with each frame."""
    for names in (("ada", "bob"), ("bob", "ada")):  # the decider is the first of them
        keys = dict(zip(names, peers_in_order("ada", "bob"), strict=True))
        ada, bob = Post(keys["ada"]), Post(keys["bob"])
        if chosen:
            ada.contacts.keep([keys["bob"].id])
        meeting = Meeting(ada, bob)
        meeting.mute = True  # so that it goes step by step
        dialler, listener = (ada, bob) if dials == "ada" else (bob, ada)
        link = meeting.connect(dialler)
        steps = [ada.links.is_known(link)]
        far, effects = listener, meeting.take(listener)
        while sent := [effect.frame for effect in effects if isinstance(effect, Send)]:
            far = meeting.far(far)
            effects = far.got(link, *sent)
            steps.append(ada.links.is_known(link))
        assert link in ada.links.up and link in bob.links.up
        assert steps[-1] is chosen and steps == sorted(steps)
        if dials == "ada":
            assert steps == [chosen] * len(steps)  # TLS has proved the key of the end that was dialled
        elif chosen:
            assert steps.index(True) == 2  # with bob's answer to the first frame


def test_a_contact_with_many_peers_leaves_room_for_others() -> None:
    """Before: contacts took all places, and a friend was refused like anybody."""
    place = Place(Settings(max_links=12, known_links=2))
    places, popular = place.ada.links.places, Key("popular").id
    hosts = [f"host {number}" for number in range(12)]
    for number, name in enumerate(hosts):
        if place.come(name, f"10.{number}.0.1"):
            place.ada.links.on_known(place.ada.links.by_peer[Key(name).id], popular)
    assert len(places._known._members) == 8 and len(places._others._members) == 4
    friends = [f"friend {number}" for number in range(12)]
    place.ada.contacts.keep([Key(name).id for name in friends])
    assert all(place.come(name, f"10.99.{number}.1") for number, name in enumerate(friends[:11]))
    assert place.linked == {hosts[0], *friends[:11]}
    assert not place.come(friends[11], "10.99.11.1")  # so many different ones are here
    assert len(place.linked) == 12


def test_a_peer_that_becomes_a_contact_itself_leaves_the_one_that_it_hosts() -> None:
    place = Place()
    place.come("bob", "10.1.0.1")
    link = place.ada.links.by_peer[Key("bob").id]
    place.ada.links.on_known(link, Key("guest").id)
    place.ada.contacts.keep([link.peer])
    assert place.ada.links.places._known.taken == {link.peer: 1}


def test_a_contact_is_dialled_also_when_no_place_is_free_and_others_only_if_one_would_give_way() -> None:
    place = Place()
    place.fill(6)
    friend, near = (Key(name).id for name in ("friend", "near"))
    place.ada.contacts.keep([friend])
    place.evil.add(near)
    records = [
        record_of(Key("friend"), f"{EVIL}.90:1"),
        record_of(Key("near"), f"{EVIL}.91:1"),
        record_of(Key("light"), "198.51.100.9:1"),
    ]
    place.ada.got(min(place.ada.links.up), told(*records))
    dialled = {dial.endpoint for dial in dials(place.ada.wake(20.0))}
    assert dialled == {f"{EVIL}.90:1", "198.51.100.9:1"}


def test_a_peer_whose_endpoint_is_named_again_is_a_contact_though_it_is_linked() -> None:
    place = Place()
    far = Post(Key("bob"))
    far.at(0.0)
    met = Meeting(place.ada, far)
    (dial,) = dials(place.ada.handle(Connect("10.0.0.2:1")))
    met.reach(place.ada, dial)
    place.ada.contacts._ids[place.ada.key.id].clear()
    place.ada.handle(Connect("10.0.0.2:1"))
    assert far.key.id in place.ada.contacts


def test_full_places_are_reported_once_an_hour_with_the_fullest_member() -> None:
    place = Place()
    place.come("bob", "198.51.100.1")
    place.fill(9)
    warned = [effect for effect in place.said() if isinstance(effect, WarningIssued)]
    text = "6 of 8 places for links are taken, 5 of them by one member"
    assert [(warning.code, warning.text) for warning in warned] == [("links_full", text)]
    place.ada.at(3600.0)
    place.evil.add(Key("late").id)
    place.come("late", f"{EVIL}.200")
    assert [effect.code for effect in place.said() if isinstance(effect, WarningIssued)] == ["links_full"]


def test_a_link_that_a_late_go_does_not_bring_up_takes_nobody_s_place(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place()
    ada = place.ada
    name = next(f"decider {n}" for n in range(99) if Key(f"decider {n}").id < ada.key.id)
    late: list[tuple[int, Frame]] = []
    got = ada.got

    def before_go(link: int, *frames: Frame) -> list[Effect]:
        if not late and not any(isinstance(frame, Go) for frame in frames):
            return got(link, *frames)
        late.extend((link, frame) for frame in frames)
        return []

    far = Post(Key(name))
    with monkeypatch.context() as patch:
        patch.setattr(ada, "got", before_go)
        Meeting(ada, far).connect(far, host="198.51.100.1")
    assert place.come(name, "198.51.100.1")  # a newer run of it
    ada.handle(LinkDown(place.links[name], "lost"))
    evil = place.fill(6)
    assert place.linked == set(evil)
    assert byes(got(*late[0])) == [Bye("replaced", "a newer link is up")]
    assert place.linked == set(evil)


def test_of_peers_that_are_gone_few_runs_are_remembered() -> None:
    """Otherwise every key that was ever linked would cost memory for good."""
    place = Place(Settings(max_links=4), "bob")  # most ids are smaller: those peers decide
    for number in range(40):
        assert place.come(f"guest {number}", "192.0.2.1")
        for post in (place.ada, place.met[f"guest {number}"].b):
            post.handle(LinkDown(place.links[f"guest {number}"], "lost"))
    assert len(place.ada.links._follower_states) == 8


def test_who_finds_no_place_is_told_others_and_dials_those() -> None:
    """Before: a newcomer that knew only a full peer never joined."""
    place = Place()
    place.fill(6)
    place.said()
    place.evil.add(Key("late").id)
    assert not place.come("late", f"{EVIL}.77")
    (admit,) = (each.frame for each in place.said() if isinstance(each, Send) and isinstance(each.frame, Admit))
    assert {record.e for record in admit.peers} == {(f"{EVIL}.{number + 1}:7000",) for number in range(6)}
    met = place.met["late"]
    assert met.b.heard == [] and met.b.links.up == {}
    refused = [each.code for each in met.take(met.b) if isinstance(each, LinkChanged)]
    assert refused == ["busy"]
    dialled = {dial.endpoint for dial in dials(met.b.wake(40.0))}
    assert dialled & {f"{EVIL}.{number + 1}:7000" for number in range(6)}


def test_few_of_many_are_told_and_they_fit_into_an_early_frame() -> None:
    place = Place(Settings(max_links=48, known_links=0))
    place.fill(48)
    place.said()
    found, late = set(), [f"late {number}" for number in range(8)]
    place.evil |= {Key(name).id for name in late}
    for number in range(8):
        assert not place.come(f"late {number}", f"{EVIL}.{77 + number}")
        (frame,) = (each.frame for each in place.said() if isinstance(each, Send) and isinstance(each.frame, Admit))
        assert len(frame.peers) == 13 and len(encode(frame)) < Settings().max_early_frame_bytes
        found |= {record.id for record in frame.peers}
    assert len(found) > 20


def test_who_proves_nothing_is_told_nothing_and_believed_nothing() -> None:
    place = Place()
    place.fill(6)
    place.said()
    stranger = Post(Key("stranger"), network=NetworkCredentials(N, "0c" * 32))
    met = Meeting(place.ada, stranger)
    met._links = 5_000
    met.connect(stranger)
    assert [type(each.frame) for each in met.said[place.ada.key.id] if isinstance(each, Send)] == [Hello]

    newcomer = Post(Key("newcomer"))
    (dial,) = dials(newcomer.handle(Connect("10.9.9.9:8080")))
    newcomer.handle(LinkDialled(1, dial.dial, Key("liar").id, "10.9.9.9"))
    newcomer.got(1, Hello(v=[PROTOCOL_VERSION], nonce="00" * 32))
    newcomer.got(1, Admit([record_of(Key("victim"), "203.0.113.1:7000")]))
    assert Key("victim").id not in newcomer.links.book


def test_who_is_blocked_is_answered_like_anybody_whom_a_full_peer_refuses() -> None:
    place = Place()
    place.fill(3)
    place.ada.blocks.users[Key("late").id] = None
    place.said()
    assert not place.come("late", "198.51.100.1")
    sent = [each.frame for each in place.said() if isinstance(each, Send)]
    assert [len(frame.peers) for frame in sent if isinstance(frame, Admit)] == [3]
