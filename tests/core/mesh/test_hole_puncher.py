"""Hole punching: what the ends of a carried link ask each other, when and where both dial, and what comes of it."""

from __future__ import annotations

import pytest

from p2pchat.core.effects import Dial, DialBeside, DialThrough, Effect, Send
from p2pchat.core.inputs import Connect, DialFailed, LinkAccepted, LinkDialled, LinkDown
from p2pchat.core.mesh.hole_puncher import ASKED_AFTER
from p2pchat.protocol import Peers, Punch
from p2pchat.settings import Settings
from tests.core.mesh.linked_peers import START, Post, link_changes, peers_in_order, record_of
from tests.core.mesh.test_carried_links import Pair, carriers

SEEN = ("203.0.113.1:40001", "203.0.113.2:40002")  # where rita sees the two
HOSTS = ("203.0.113.1", "203.0.113.2")
QUIET = Settings(ping_after=10_000.0, dead_after=20_000.0)
LATER = 700.0  # seconds in which each link is tried again


class Homes(Pair):
    """Two posts behind routers, linked through rita. The first one decides, so it asks."""

    def __init__(self, *seen: str) -> None:
        super().__init__(*(Post(key, settings=QUIET) for key in peers_in_order("ada", "bob")))
        for post in (self.a, self.b):
            post.links.by_peer[self.rita.key.id].host = "198.51.100.1"
        self.seen = seen or SEEN
        self.link()

    def link(self) -> None:
        """Have rita say where she sees the two, and link them through her."""
        for post, seen in zip((self.b, self.a), reversed(self.seen), strict=True):
            far = self.far(post).key
            told = Peers([record_of(far, at=START - 1)], [far.id], can=["carry"], seen=seen)
            effects = post.got(post.links.by_peer[self.rita.key.id].id, told)
        effects += self.a.wake(self.a.ctx.now.mono + 3.0)
        self.b.at(self.a.ctx.now.mono)
        (through,) = [effect for effect in effects if isinstance(effect, DialThrough)]
        self.reach_through(self.a, through)
        assert carriers(self) == [self.rita.key.id] * 2
        self.news()

    def news(self) -> list[Effect]:
        """Return the effects of both since the last call."""
        return self.take(self.a) + self.take(self.b)

    def ask(self, *, way: float = 0.0) -> dict[bool, DialBeside]:
        """Have the first one ask, over a link on which a frame takes so many seconds; return the dials by `serve`."""
        dials = list[DialBeside]()
        frames = [(self.b, frame) for frame in punches(self.a.wake(self.a.ctx.now.mono + ASKED_AFTER))]
        while frames:
            post, frame = frames.pop(0)
            for each in (self.a, self.b):
                dials += beside(each.wake(self.a.ctx.now.mono + way))
            effects = post.got(post.links.by_peer[self.far(post).key.id].id, frame)
            frames += [(self.far(post), one) for one in punches(effects)]
            dials += beside(effects)
        dials += beside(self.a.wake(self.a.ctx.now.mono))
        return {dial.serve: dial for dial in dials}

    def open(self, dials: dict[bool, DialBeside]) -> int:
        """Let both dials meet; return the number of the connection."""
        self._links += 1
        accepted = self.b.handle(LinkAccepted(self._links, HOSTS[0], port=40001, dial=dials[True].dial))
        self.carry(self.a, self.a.handle(LinkDialled(self._links, dials[False].dial, self.b.key.id, HOSTS[1])))
        self.carry(self.b, accepted)
        return self._links


def punches(effects: list[Effect]) -> list[Punch]:
    return [effect.frame for effect in effects if isinstance(effect, Send) and isinstance(effect.frame, Punch)]


def beside(effects: list[Effect]) -> list[DialBeside]:
    return [effect for effect in effects if isinstance(effect, DialBeside)]


@pytest.fixture
def homes() -> Homes:
    return Homes()


def test_both_dial_where_the_carrier_sees_the_other_one_and_the_decider_is_the_client(homes: Homes) -> None:
    dials = homes.ask()
    assert (dials[False].endpoint, dials[True].endpoint) == (SEEN[1], SEEN[0])
    assert [dials[serve].link for serve in (False, True)] == [
        post.links.by_peer[homes.rita.key.id].id for post in (homes.a, homes.b)
    ]


def test_the_one_that_asks_dials_when_its_word_has_arrived(homes: Homes) -> None:
    link = homes.a.links.by_peer[homes.b.key.id].id
    assert punches(homes.a.wake(homes.a.ctx.now.mono + ASKED_AFTER)) == [Punch(SEEN[0])]
    homes.a.at(homes.a.ctx.now.mono + 0.08)
    assert beside(homes.a.got(link, Punch(SEEN[1])) + homes.a.wake(homes.a.ctx.now.mono + 0.03)) == []
    assert len(beside(homes.a.wake(homes.a.ctx.now.mono + 0.02))) == 1


def test_what_opens_takes_the_place_of_the_circuit_without_a_word_to_people(homes: Homes) -> None:
    homes.open(homes.ask())
    assert carriers(homes) == ["", ""]
    assert link_changes(homes.news()) == []
    for post in (homes.a, homes.b):
        assert not post.links._duplicates.is_patient(homes.far(post).key.id)
        assert not post.links.dialer._dials
        assert all(heard[0] != "down" or heard[2] == "replaced" for heard in post.heard)


def test_who_came_by_a_punched_link_can_be_punched_through_it(homes: Homes) -> None:
    homes.open(homes.ask())
    told = {
        effect.frame.seen for effect in homes.news() if isinstance(effect, Send) and isinstance(effect.frame, Peers)
    }
    assert told >= set(SEEN)


def test_where_a_peer_was_seen_is_no_address_of_it(homes: Homes) -> None:
    link = homes.open(homes.ask())
    for post in (homes.a, homes.b):
        assert not set(SEEN) & set(post.links.dialer.endpoints(homes.far(post).key.id))
        post.handle(LinkDown(link, "lost"))
        assert not [effect for effect in post.wake(post.ctx.now.mono + 60.0) if isinstance(effect, Dial)]


def test_it_is_tried_again_after_a_long_time_and_not_before(homes: Homes) -> None:
    for dial in homes.ask().values():
        post = homes.b if dial.serve else homes.a
        post.handle(DialFailed(dial.dial, "no answer", "no_answer"))
    began = homes.a.ctx.now.mono
    assert punches(homes.a.wake(began + 290.0)) == []
    assert punches(homes.a.wake(began + LATER)) != []


def test_answers_that_come_after_the_next_question_are_answered_once(homes: Homes) -> None:
    """Else both ends answer each other's answers for as long as their link lasts."""
    link = homes.a.links.by_peer[homes.b.key.id].id
    asked = punches(homes.a.wake(homes.a.ctx.now.mono + ASKED_AFTER))
    asked += punches(homes.a.wake(homes.a.ctx.now.mono + LATER))
    assert asked[1:] == [Punch(SEEN[0])] * (len(asked) - 1) != []
    assert [punches(homes.a.got(link, Punch(SEEN[1]))) for _ in asked] == [[Punch()], *[[]] * (len(asked) - 1)]


def test_nobody_dials_one_place_twice_in_thirty_seconds(homes: Homes) -> None:
    """Else whoever carries a link, or is at its other end, has this peer dial whom it likes."""
    link = homes.b.links.by_peer[homes.a.key.id].id
    assert punches(homes.b.got(link, Punch("198.51.100.9:80"))) == [Punch(SEEN[1])]
    assert len(beside(homes.b.got(link, Punch()))) == 1
    homes.b.got(link, Punch("198.51.100.9:81"))
    assert beside(homes.b.got(link, Punch())) == []
    assert beside(homes.b.got(link, Punch())) == []  # nobody said where
    homes.b.wake(homes.b.ctx.now.mono + 31.0)
    homes.b.got(link, Punch("198.51.100.9:82"))
    assert len(beside(homes.b.got(link, Punch()))) == 1


@pytest.mark.parametrize(
    "at",
    [
        *("127.0.0.1:80", "224.0.0.1:80", "192.168.1.1:80", "host.example:80", "[2001:db8::1]:80"),
        *("203.0.113.2:0", "203.0.113.2", "", "x" * 5000),
    ],
)
def test_a_place_that_this_peer_may_not_dial_is_refused(homes: Homes, at: str) -> None:
    link = homes.b.links.by_peer[homes.a.key.id].id
    assert punches(homes.b.got(link, Punch(at))) == ([Punch()] if at else [])
    assert beside(homes.b.got(link, Punch())) == []


def test_who_was_refused_dials_nothing(homes: Homes) -> None:
    link = homes.a.links.by_peer[homes.b.key.id].id
    homes.a.wake(homes.a.ctx.now.mono + ASKED_AFTER)
    effects = homes.a.got(link, Punch()) + homes.a.wake(homes.a.ctx.now.mono + 10.0)
    assert (punches(effects), beside(effects)) == ([], [])


@pytest.mark.parametrize("seen", [("", SEEN[1]), ("nonsense", SEEN[1]), ("127.0.0.1:80", SEEN[1])])
def test_who_does_not_know_where_it_is_seen_asks_nobody(seen: tuple[str, str]) -> None:
    homes = Homes(*seen)
    assert punches(homes.a.wake(homes.a.ctx.now.mono + LATER)) == []


def test_who_does_not_know_where_it_is_seen_says_no() -> None:
    homes = Homes(SEEN[0], "")
    assert homes.ask() == {}


def test_a_direct_link_asks_nothing_and_answers_nothing(homes: Homes) -> None:
    (dial,) = (e for e in homes.a.handle(Connect("198.51.100.7:8080", homes.b.key.id)) if isinstance(e, Dial))
    link = homes.reach(homes.a, dial, host="198.51.100.7")
    assert carriers(homes) == ["", ""]
    assert punches(homes.a.wake(homes.a.ctx.now.mono + LATER)) == []
    assert punches(homes.b.got(link, Punch(SEEN[0]))) == [Punch()]


def test_a_link_that_came_from_outside_says_where_it_is_seen_and_others_say_nothing() -> None:
    pair = Pair(*map(Post, peers_in_order("ada", "bob")))
    for host, port, seen in (("203.0.113.1", 40001, SEEN[0]), ("127.0.0.1", 40001, ""), ("203.0.113.1", 0, "")):
        pair.a.handle(LinkAccepted(9, host, port=port))
        assert pair.a.links._links[9].sees == seen
        pair.a.handle(LinkDown(9, "lost"))
