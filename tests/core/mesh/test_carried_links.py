"""Carried links among the others: dialled after direct addresses and beside them, and replaced by a direct link."""

from __future__ import annotations

import pytest

from p2pchat.core.effects import Dial, DialThrough, Effect, LinkChanged, Send
from p2pchat.core.inputs import Connect, DialFailed, LinkAccepted, LinkDialled, LinkDown, ListeningAt
from p2pchat.core.mesh.dialer import CARRIED
from p2pchat.core.mesh.election import SETTLED_AFTER
from p2pchat.protocol import Bye, Peers
from tests.core.mesh.linked_peers import START, Key, Meeting, Post, link_changes, peers_in_order, record_of

DIRECT = "198.51.100.7:8080"
CARRIER = 500  # the link with the peer that carries


class Pair(Meeting):
    """Two posts that are both linked with rita."""

    def __init__(self, a: Post, b: Post) -> None:
        super().__init__(a, b)
        self.rita = Post(Key("rita"))
        for number, post in enumerate((a, b)):
            met = Meeting(post, self.rita)
            met._links = CARRIER - 1 + number
            met.connect(self.rita, f"10.0.0.{number + 1}:8080")

    def told(self, post: Post, *endpoints: str) -> list[Effect]:
        """Have rita say that she is linked with the other one of the pair."""
        far = self.far(post).key
        link = post.links.by_peer[self.rita.key.id].id
        return post.got(link, Peers([record_of(far, *endpoints, at=START - 1)], [far.id], can=["carry"]))

    def reach_through(self, post: Post, dial: DialThrough) -> int:
        """Let a dial reach the other post through rita; return the number of the connection."""
        self._links += 1
        far = self.far(post)
        through = far.links.by_peer[self.rita.key.id].id
        accepted = far.handle(LinkAccepted(self._links, CARRIED, through=through))
        self.carry(post, post.handle(LinkDialled(self._links, dial.dial, far.key.id, CARRIED, dial.link)))
        self.carry(far, accepted)
        return self._links


@pytest.fixture(params=[0, 1])
def pair(request: pytest.FixtureRequest) -> Pair:
    """Return two posts, of which the first or the second decides."""
    keys = peers_in_order("ada", "bob")
    return Pair(Post(keys[request.param]), Post(keys[1 - request.param]))


def dials(effects: list[Effect]) -> list[str]:
    """Return what is dialled, in order: CARRIED for through somebody."""
    return [
        effect.endpoint if isinstance(effect, Dial) else CARRIED
        for effect in effects
        if isinstance(effect, (Dial, DialThrough))
    ]


def carriers(pair: Pair) -> list[str]:
    return [post.links.by_peer[pair.far(post).key.id].carrier for post in (pair.a, pair.b)]


def link_through(pair: Pair) -> None:
    effects = pair.told(pair.a) + pair.a.wake(pair.a.ctx.now.mono + 3.0)
    pair.b.at(pair.a.ctx.now.mono)
    for dial in (effect for effect in effects if isinstance(effect, Dial)):
        pair.a.handle(DialFailed(dial.dial, "no answer", "no_answer"))
    (through,) = [effect for effect in effects if isinstance(effect, DialThrough)]
    pair.reach_through(pair.a, through)
    assert carriers(pair) == [pair.rita.key.id] * 2


def test_a_direct_address_is_dialled_first_and_the_other_way_while_that_dial_hangs(pair: Pair) -> None:
    effects = pair.told(pair.a, DIRECT) + pair.a.wake(8.0)
    assert dials(effects) == [DIRECT, CARRIED]  # one of each kind


def test_after_it_stood_still_a_process_handles_what_came_before_it_dials_through_another(pair: Pair) -> None:
    assert dials(pair.told(pair.a, DIRECT) + pair.a.wake(1.5)) == [DIRECT]
    pair.a.at(5.0)  # 3 s later than the next timer was to fire: what bob did meanwhile is not handled yet
    pair.a.ctx.run_due()
    assert dials(pair.a.wake(5.9)) == []
    assert dials(pair.a.wake(6.1)) == [CARRIED]


def test_who_has_no_address_at_all_is_dialled_within_two_seconds() -> None:
    pair = Pair(*map(Post, peers_in_order("ada", "bob")))
    for post in (pair.a, pair.b):
        post.handle(ListeningAt(("127.0.0.1:8080",)))
    assert dials(pair.told(pair.a) + pair.a.wake(0.9)) == [CARRIED]
    assert dials(pair.told(pair.b) + pair.b.wake(2.0)) == [CARRIED]


def test_a_link_says_to_people_and_to_others_who_carries_it(pair: Pair) -> None:
    link_through(pair)
    said = pair.take(pair.a)
    assert [one.via for one in said if isinstance(one, LinkChanged) and one.state == "up"] == [pair.rita.key.id]
    told = [one.frame for one in pair.a.wake(pair.a.ctx.now.mono + 1.0) if isinstance(one, Send)]
    assert [frame.carried for frame in told if isinstance(frame, Peers) and frame.linked] == [[pair.b.key.id]]


def test_a_direct_link_takes_the_place_of_a_carried_one_without_a_word_to_people(pair: Pair) -> None:
    for _ in range(5):  # a copied key would be suspected the third time
        link_through(pair)
        for post in (pair.a, pair.b):
            pair.take(post)
            post.at(post.ctx.now.mono + 2 * SETTLED_AFTER)
        (dial,) = (effect for effect in pair.a.handle(Connect(DIRECT, pair.b.key.id)) if isinstance(effect, Dial))
        pair.reach(pair.a, dial, host="198.51.100.7")
        assert carriers(pair) == ["", ""]
        for post in (pair.a, pair.b):
            assert ("down", "") not in [(state, "") for state, _ in link_changes(pair.take(post))]
            assert not post.links._duplicates.is_patient(pair.far(post).key.id)
        assert dials(pair.a.wake(pair.a.ctx.now.mono + 1.0)) == []  # nothing is better than a direct link
        link = pair.a.links.by_peer[pair.b.key.id].id
        for post in (pair.a, pair.b):
            post.handle(LinkDown(link, "lost"))


def test_while_the_link_is_carried_direct_addresses_are_dialled_and_their_failures_not_told(pair: Pair) -> None:
    link_through(pair)
    (dial,) = (effect for effect in pair.a.handle(Connect(DIRECT, pair.b.key.id)) if isinstance(effect, Dial))
    pair.take(pair.a)
    assert not any(isinstance(e, LinkChanged) for e in pair.a.handle(DialFailed(dial.dial, "no answer", "no_answer")))
    assert DIRECT in dials(pair.a.wake(pair.a.ctx.now.mono + 10.0))


def test_a_link_whose_carrier_has_gone_meanwhile_does_not_begin(pair: Pair) -> None:
    effects = pair.told(pair.a) + pair.a.wake(3.0)
    (dial,) = [effect for effect in effects if isinstance(effect, DialThrough)]
    pair.a.handle(LinkDown(dial.link, "lost"))
    pair.a.handle(LinkDialled(77, dial.dial, pair.b.key.id, CARRIED, dial.link))
    pair.a.handle(LinkAccepted(78, CARRIED, through=dial.link))
    assert not pair.a.links._links


@pytest.mark.parametrize(
    ("end", "late", "asked_last"),
    [
        (LinkDown(0, "timeout"), False, True),
        (LinkDown(0, "lost"), False, True),
        (Bye("left"), False, False),
        (Bye("left"), True, True),
        (Bye("replaced"), False, False),
    ],
    ids=["silence", "a cut", "a goodbye", "a goodbye of a slow one", "another link"],
)
def test_a_carrier_through_which_a_link_ended_without_a_word_or_was_slow_is_asked_last(
    pair: Pair, end: LinkDown | Bye, late: bool, asked_last: bool
) -> None:
    """Before: one that passes handshakes and nothing else was asked for ever, though another one was there."""
    link_through(pair)
    pair.a.at(pair.a.ctx.now.mono + 20.0)
    link = pair.a.links.by_peer[pair.b.key.id].id
    pair.a.links.up[link].late = late
    if isinstance(end, Bye):
        pair.a.got(link, end)
    else:
        pair.a.handle(LinkDown(link, end.reason))
    assert pair.a.links.circuits.begun == {pair.rita.key.id: asked_last}


def test_who_answers_with_another_key_through_a_carrier_is_not_linked(pair: Pair) -> None:
    effects = pair.told(pair.a) + pair.a.wake(3.0)
    (dial,) = [effect for effect in effects if isinstance(effect, DialThrough)]
    pair.a.handle(LinkDialled(77, dial.dial, pair.rita.key.id, CARRIED, dial.link))
    assert not pair.a.links._links.get(77)
    assert pair.a.links.circuits.begun == {pair.rita.key.id: 1}


def test_a_carried_link_tells_no_neighbours(pair: Pair) -> None:
    """Nobody knows where the far end is: 192.168.1.1 would be our router."""
    pair.b.handle(ListeningAt(("192.168.1.1:80", DIRECT)))
    pair.a.handle(ListeningAt(()))
    link_through(pair)
    known = [address.endpoint for address in pair.a.links.book.addresses(pair.b.key.id)]
    assert known == [DIRECT]
