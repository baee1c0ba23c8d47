"""Address book, dialler and peer exchange: which addresses are stored, dialled and shared."""

from __future__ import annotations

import pytest

from p2pchat.addresses import is_shareable, join_endpoint, split_endpoint
from p2pchat.core.durable_changes import Address, Change
from p2pchat.core.effects import Close, Dial, Effect, Send
from p2pchat.core.inputs import Connect, DialFailed, Forget, LinkAccepted, LinkDialled, LinkDown, ListeningAt
from p2pchat.core.mesh.addressbook import AddressBook
from p2pchat.core.node_context import NodeContext, Now
from p2pchat.protocol import Peers
from p2pchat.settings import Settings
from tests.core.mesh.linked_peers import (
    HOST,
    START,
    Draws,
    Key,
    Meeting,
    Post,
    admission_of,
    link_changes,
    peers_in_order,
    record_of,
    told,
)

ADA, BOB, CYD = peers_in_order("ada", "bob", "cyd")
SMALL = next(key for key in (Key(f"small {n}") for n in range(99)) if key.id < ADA.id)
LARGE = next(key for key in (Key(f"large {n}") for n in range(99)) if key.id > ADA.id)
DAY = 24 * 3600


def dials(effects: list[Effect]) -> list[str]:
    return [effect.endpoint for effect in effects if isinstance(effect, Dial)]


def exchanges(effects: list[Effect]) -> list[Peers]:
    return [effect.frame for effect in effects if isinstance(effect, Send) and isinstance(effect.frame, Peers)]


def linked(host: str = HOST, settings: Settings | None = None) -> tuple[Meeting, int]:
    """Return ada, dialled by bob from `host`, and the number of the link."""
    met = Meeting(Post(ADA, settings=settings), Post(BOB))
    link = met.connect(met.b, host=host)
    met.take(met.a)
    met.take(met.b)
    return met, link


def an_id(number: int) -> str:
    return f"{number:064x}"


# ---- endpoints as text


@pytest.mark.parametrize(
    "endpoint, parts",
    [
        ("localhost:8080", ("localhost", 8080)),
        ("10.0.0.1:1", ("10.0.0.1", 1)),
        ("[::1]:65535", ("::1", 65535)),
        ("chat.example.org:80", ("chat.example.org", 80)),
    ],
)
def test_endpoints_are_read(endpoint: str, parts: tuple[str, int]) -> None:
    assert split_endpoint(endpoint) == parts


@pytest.mark.parametrize(
    "endpoint",
    ["", "8080", ":80", "a:", "a:0", "a:65536", "a:-1", "a:８０", "::1:80", "[a]:80", "[::1]", "a b:1", "a\n:1"],
)
def test_other_texts_are_none(endpoint: str) -> None:
    with pytest.raises(ValueError):
        split_endpoint(endpoint)


def test_a_seen_host_becomes_an_endpoint() -> None:
    assert join_endpoint("10.0.0.1", 80) == "10.0.0.1:80"
    assert join_endpoint("fd00::1", 80) == "[fd00::1]:80"
    assert join_endpoint("::ffff:10.0.0.1", 80) == "10.0.0.1:80"


@pytest.mark.parametrize(
    "endpoint, far, near",
    [
        ("10.1.2.3:80", True, True),
        ("[fd00::1]:80", True, True),
        ("chat.example.org:80", True, True),
        ("127.0.0.1:80", False, True),
        ("[::1]:80", False, True),
        ("[::ffff:127.0.0.1]:80", False, True),
        ("localhost:80", False, True),
        ("a.localhost:80", False, True),
        ("127.1:80", False, False),
        ("2130706433:80", False, False),
        ("0x7f000001:80", False, False),
        ("0x7f.1:80", False, False),
        ("192.168.0.0x1:80", False, False),
        ("017700000001.:80", False, False),
        ("0x.example:80", True, True),
        ("224.0.0.1:80", False, False),
        ("[ff02::1]:80", False, False),
        ("169.254.1.1:80", False, False),
        ("[fe80::1]:80", False, False),
        ("0.0.0.0:80", False, False),
        ("255.255.255.255:80", False, False),
        ("10.0.0.1:0", False, False),
        ("x" * 98 + ":80", False, False),
        ("nonsense", False, False),
    ],
)
def test_shareable_endpoints(endpoint: str, far: bool, near: bool) -> None:
    settings = Settings()
    assert is_shareable(endpoint, from_loopback=False, settings=settings) is far
    assert is_shareable(endpoint, from_loopback=True, settings=settings) is near


# ---- the book


def book(*stored: Address, settings: Settings | None = None) -> tuple[AddressBook, NodeContext]:
    ctx = NodeContext(settings or Settings(), ADA.id, Draws("book"))
    ctx.now = Now(0.0, START)
    return AddressBook(ctx, stored, [], (), (), admission_of(ctx)[0].users), ctx


def test_a_newer_record_replaces_the_older_one_and_clears_failures() -> None:
    """Otherwise a peer that is back would not be dialled for long."""
    known, ctx = book()
    first, later = record_of(BOB, "10.0.0.1:80", "10.0.0.2:80"), record_of(BOB, "10.0.0.1:80", at=START + 1)
    assert [one.endpoint for one in known.take(first, first.e)] == ["10.0.0.1:80", "10.0.0.2:80"]
    known.on_failed(BOB.id, "10.0.0.1:80")
    assert known.take(first, first.e) == []
    assert known.take(later, later.e) == [Address(BOB.id, "10.0.0.1:80", told=True)] == known.addresses(BOB.id)
    assert ctx.change.records == {BOB.id: later} and ctx.change.forgotten == [(BOB.id, "10.0.0.2:80")]


def test_an_address_that_answered_outlives_a_record_without_it() -> None:
    known, _ = book()
    first = record_of(BOB, "10.0.0.1:80")
    known.take(first, first.e)
    known.on_verified(BOB.id, "10.0.0.1:80")
    known.take(record_of(BOB, at=START + 1), [])
    assert known.addresses(BOB.id) == [Address(BOB.id, "10.0.0.1:80", verified_at=START)]


def test_minor_changes_of_an_address_are_not_written() -> None:
    kept, ctx = book()
    kept.on_verified(BOB.id, "10.0.0.1:80")
    kept.on_verified(BOB.id, "10.0.0.1:80")
    assert ctx.change.addresses == [Address(BOB.id, "10.0.0.1:80", verified_at=START)]
    kept.on_failed(BOB.id, "10.0.0.1:80")
    kept.on_failed(BOB.id, "10.0.0.1:80")
    assert ctx.change.addresses[1:] == [Address(BOB.id, "10.0.0.1:80", START, failed=1)]


def test_an_address_is_forgotten_after_seven_days_of_tries_if_another_is_left() -> None:
    kept, ctx = book(Address(BOB.id, "10.0.0.1:80", verified_at=START), Address(BOB.id, "10.0.0.2:80", told=True))
    for hour in range(7 * 24):
        ctx.now = Now(hour * 3600.0, START)
        kept.on_failed(BOB.id, "10.0.0.1:80")
        kept.on_failed(BOB.id, "10.0.0.2:80")
    assert len(kept.addresses(BOB.id)) == 2
    for hour in range(7 * 24, 30 * 24):
        ctx.now = Now(hour * 3600.0, START)
        kept.on_failed(BOB.id, "10.0.0.1:80")
        kept.on_failed(BOB.id, "10.0.0.2:80")
    assert ctx.change.forgotten == [(BOB.id, "10.0.0.2:80")]
    assert kept.addresses(BOB.id) == [Address(BOB.id, "10.0.0.1:80", START, failed=7 * 24)], "where it was last"


def test_time_without_a_try_makes_no_address_fail_for_longer() -> None:
    """A machine that was off for weeks, a clock that is set: the first dial fails, since no network is up yet."""
    stored = [Address(BOB.id, f"10.0.0.{n}:80", verified_at=START, failed=n % 2) for n in range(2)]
    for months in (-99, 1, 99):
        kept, ctx = book(*stored)
        ctx.now = Now(0.0, START + months * 30 * DAY * 1_000_000)
        for _ in range(9):
            kept.on_failed(BOB.id, "10.0.0.0:80")
            kept.on_failed(BOB.id, "10.0.0.1:80")
        assert [address.failed for address in kept.addresses(BOB.id)] == [1, 1]
        assert not ctx.change.forgotten


def test_an_answer_under_a_clock_that_was_ahead_does_not_count_for_ever() -> None:
    kept, ctx = book(Address(BOB.id, "10.0.0.1:80", verified_at=START + 999 * DAY * 1_000_000))
    kept.on_verified(BOB.id, "10.0.0.1:80")
    assert ctx.change.addresses == [Address(BOB.id, "10.0.0.1:80", verified_at=START)]


def test_a_peer_has_eight_endpoints_and_its_newest_record_has_room() -> None:
    kept, _ = book(*(Address(BOB.id, f"10.0.0.1:{i}", START) for i in range(1, 9)))
    kept.take(record_of(BOB, "10.0.0.2:1"), ["10.0.0.2:1"])
    kept.on_verified(BOB.id, "10.0.0.3:1")
    endpoints = [address.endpoint for address in kept.addresses(BOB.id)]
    assert len(endpoints) == 8
    assert "10.0.0.3:1" in endpoints


def test_peers_share_the_book_by_members() -> None:
    """One member signs certificates for any number of keys."""
    ctx = NodeContext(Settings(max_addresses=8), ADA.id, Draws("book"))
    ctx.now = Now(0.0, START)
    evil = [Key(f"evil {number}") for number in range(20)]
    honest = [Key(f"honest {number}") for number in range(4)]
    member = {key.id: "evil" for key in evil} | {key.id: key.id for key in honest}
    members = admission_of(ctx, share=member.__getitem__)[0].users
    kept = AddressBook(ctx, [], [], (), (), members)
    for key in (*evil, *honest, evil[0]):
        kept.take(record_of(key, "10.0.0.1:1"), ["10.0.0.1:1"])
    assert len(kept) == 8 == len(kept.records) and {key.id for key in honest} <= set(kept)
    again = AddressBook(ctx, ctx.change.addresses, kept.records.values(), (), (), members)
    again.start()
    assert set(again) == set(kept)


@pytest.mark.parametrize("is_named", [False, True])
def test_a_peer_that_somebody_chose_leaves_the_share_of_its_member(is_named: bool) -> None:
    """Before: the newest peer of the fullest member was forgotten, though it was a contact by then."""
    member = {BOB.id: "evil", CYD.id: "evil"}
    ada = Post(ADA, settings=Settings(max_addresses=2), share=lambda id: member.get(id, id))
    honest, kept = Key("honest"), ada.links.book
    for key in (CYD, BOB):
        kept.take(record_of(key, "10.0.0.1:1"), ["10.0.0.1:1"])
    if is_named:
        kept.add(BOB.id, "10.0.0.2:1")
    else:
        ada.contacts.keep([BOB.id])
    kept.take(record_of(honest, "10.0.0.1:1"), ["10.0.0.1:1"])
    kept.take(record_of(Key("other"), "10.0.0.1:1"), ["10.0.0.1:1"])
    assert {BOB.id, honest.id} <= set(kept)


def test_a_record_displaces_no_endpoint_that_a_user_named_for_its_peer() -> None:
    kept, _ = book()
    kept.add(BOB.id, "10.0.0.1:1")
    for number in range(2, 20):
        kept.take(record_of(BOB, f"10.0.0.1:{number}", at=START + number), [f"10.0.0.1:{number}"])
    assert kept.get(BOB.id, "10.0.0.1:1") is not None


def test_a_record_without_an_address_that_may_be_dialled_displaces_none() -> None:
    """A laptop that is offline for a moment tells no address, or loopback: others forgot the only one they knew."""
    kept, _ = book()
    kept.take(record_of(BOB, "10.0.0.1:1"), ["10.0.0.1:1"])
    kept.take(record_of(BOB, "127.0.0.1:1", at=START + 1), [])
    assert [address.endpoint for address in kept.addresses(BOB.id)] == ["10.0.0.1:1"]
    kept.take(record_of(BOB, "10.0.0.2:1", at=START + 2), ["10.0.0.2:1"])
    assert [address.endpoint for address in kept.addresses(BOB.id)] == ["10.0.0.2:1"]


def test_a_new_record_finds_room_beside_the_best_of_many_addresses_that_answered_before() -> None:
    """Each of its endpoints took the place of the one before it: of a laptop that had moved often, only the last one
    stayed, a bridge of containers."""
    former = [Address(BOB.id, f"10.0.0.{number}:1", START + number, failed=1) for number in range(1, 9)]
    new = ["10.0.1.1:1", "10.0.1.2:1", "172.17.0.1:1"]
    kept, _ = book(*former)
    assert [one.endpoint for one in kept.take(record_of(BOB, *new, at=START + 9), new)] == new
    assert {*new, former[-1].endpoint} <= {address.endpoint for address in kept.addresses(BOB.id)}
    most = [f"10.0.2.{number}:1" for number in range(8)]
    kept.take(record_of(BOB, *most, at=START + 10), most)
    assert [address.endpoint for address in kept.addresses(BOB.id)] == [former[-1].endpoint, *most[:7]]


# ---- peer exchange


def test_the_first_peers_frame_has_all_and_later_ones_have_changes() -> None:
    ada = Post(ADA)
    ada.handle(ListeningAt(("ada.example.org:8080",)))
    own = record_of(ADA, "ada.example.org:8080")
    bob, cyd = Meeting(ada, Post(BOB)), Meeting(ada, Post(CYD))
    cyd._links = 100
    bob.connect(bob.b)
    can = ["files", "carry"]
    assert exchanges(bob.take(ada)) == [Peers([own], can=can)]
    cyd.b.links.handlers[ListeningAt](ListeningAt(("10.0.0.7:7070",)))
    cyd.connect(cyd.b, host="10.0.0.7")
    assert exchanges(cyd.take(ada)) == [Peers([own], [BOB.id], can=can)]
    assert exchanges(ada.wake(0.1)) == [told(record_of(CYD, "10.0.0.7:7070"))]
    effects = ada.handle(LinkDown(101, "lost"))
    assert exchanges(effects) == []
    assert exchanges(ada.wake(0.2)) == [Peers(gone=[CYD.id])]


def test_a_peer_of_which_there_is_no_record_is_told_as_linked() -> None:
    """A bot that only dials needs none."""
    ada = Post(ADA)
    bob, cyd = Meeting(ada, Post(BOB)), Meeting(ada, Post(CYD))
    cyd._links = 100
    bob.connect(bob.b)
    cyd.connect(cyd.b)
    assert [frame.linked for frame in exchanges(cyd.take(ada))] == [[BOB.id]]


def test_many_records_are_told_in_pages() -> None:
    ada = Post(ADA, settings=Settings(page_items=3))
    for number, name in enumerate(map(str, range(7))):
        met = Meeting(ada, Post(Key(name)))
        met._links = 100 * number
        met.b.handle(ListeningAt(("10.0.0.7:7070",)))
        met.connect(met.b)
    cyd = Meeting(ada, Post(CYD))
    cyd._links = 1000
    cyd.connect(cyd.b)
    frames = exchanges(cyd.take(ada))
    assert [(len(frame.records), len(frame.linked), bool(frame.can)) for frame in frames] == [
        (0, 3, True), (0, 3, False), (0, 1, False), (3, 0, False), (3, 0, False), (1, 0, False),
    ]  # fmt: skip


def test_records_go_to_those_who_are_not_linked_with_their_peers() -> None:
    """All peers of a mesh told all others all records: in one of 64, 145,000 of them while it formed."""
    ada, bob, cyd = Post(ADA), Post(BOB), Post(CYD)
    for post, port in ((ada, 1), (bob, 2), (cyd, 3)):
        post.handle(ListeningAt((f"10.0.0.{port}:{port}",)))
    first, second = Meeting(ada, bob), Meeting(ada, cyd)
    second._links = 100
    link = first.connect(bob)
    second.connect(cyd)
    at_cyd = max(cyd.links.up)
    assert BOB.id in cyd.links.book.records  # a newcomer knows nobody else
    assert ada.got(link, Peers(linked=[CYD.id])) == []
    assert [(frame.linked, frame.records) for frame in exchanges(ada.wake(0.2))] == [([CYD.id], [])]
    second.carry(ada, ada.got(at_cyd, Peers(linked=[BOB.id], gone=[])))
    bob.at(1.0)
    first.carry(bob, bob.handle(ListeningAt(("10.0.0.2:22",))))
    first.take(ada)
    first.wake(2.0)
    assert exchanges(first.take(ada)) == []  # cyd is linked with bob, and was told that ada is
    cyd.at(2.0)
    second.carry(ada, ada.wake(3.0))
    assert cyd.links.book.records[BOB.id].e == ("10.0.0.2:2",)  # it has a link of its own, by which the new one comes
    second.carry(ada, ada.got(at_cyd, Peers(gone=[BOB.id])))
    second.carry(ada, ada.wake(4.0))
    assert cyd.links.book.records[BOB.id].e == ("10.0.0.2:22",)


def test_while_a_large_mesh_forms_frames_are_rare_and_a_lone_change_goes_at_once() -> None:
    ada = Post(ADA)
    ada.handle(ListeningAt(()))
    for number, name in enumerate(("bob", *map(str, range(15)))):
        met = Meeting(ada, Post(Key(name)))
        met._links = 100 * number
        met.connect(met.b)
    ada.wake(0.1)
    ada.handle(LinkDown(101, "lost"))
    assert exchanges(ada.wake(0.2)) == []
    assert len(exchanges(ada.wake(0.3))) == 15  # 0.1 s for each 8 links
    ada.handle(LinkDown(201, "lost"))
    assert exchanges(ada.wake(0.35)) == []
    assert len(exchanges(ada.wake(0.5))) == 14
    ada.at(2.0)
    ada.handle(LinkDown(301, "lost"))
    assert len(exchanges(ada.wake(2.1))) == 13


class Crowd:
    """Ada with many links."""

    def __init__(self, links: int) -> None:
        self.ada = Post(ADA, settings=Settings(ping_after=300.0, dead_after=900.0))
        self.ada.handle(ListeningAt(()))
        self._met = 0
        for _ in range(links):
            self.meet()

    def meet(self, *, known: bool = False) -> str:
        """Bring up one more link. `known`: the second peer announces that it has a link to the new peer too."""
        key = Key(str(self._met))
        met = Meeting(self.ada, Post(key))
        met._links = 100 * self._met
        self._met += 1
        met.connect(met.b)
        if known:
            self.ada.got(101, Peers(linked=[key.id]))
        return key.id


def test_in_a_large_mesh_news_that_others_spread_waits_for_a_quiet_moment() -> None:
    crowd = Crowd(20)
    ada = crowd.ada
    assert len(exchanges(ada.wake(0.1))) == 19  # the last one got all changes as they came
    crowd.meet(known=True)
    assert exchanges(ada.wake(1.1)) == []
    assert len(exchanges(ada.wake(1.2))) == 20  # 4 times the interval of 0.1 s for each 8 links
    known = crowd.meet(known=True)
    assert exchanges(ada.wake(1.9)) == []
    unknown = crowd.meet()
    assert exchanges(ada.wake(1.95)) == []
    frames = exchanges(ada.wake(2.01))
    assert len(frames) == 22
    assert set(frames[0].linked) == {known, unknown}


def test_news_that_others_spread_is_sent_in_time_though_links_keep_coming() -> None:
    crowd = Crowd(20)
    ada = crowd.ada
    ada.wake(0.1)
    sent_at = []
    for step in range(1, 40):
        now = 0.1 + 0.9 * step
        if exchanges(ada.wake(now)):
            sent_at.append(now)
        crowd.meet(known=True)
    assert sent_at == [pytest.approx(14.5)]  # 8 times as long as is quiet with 36 links


def test_a_link_that_replaces_another_is_no_news() -> None:
    ada = Post(ADA)
    met = Meeting(ada, Post(BOB))
    link = met.connect(met.b)
    ada.wake(0.2)
    waiting = len(ada.ctx.timers._heap)
    ada.links._exchange.on_link_down(ada.links.up[link])  # as if another link of his were up already
    assert len(ada.ctx.timers._heap) == waiting


def test_a_peer_heard_of_is_dialled_with_its_id_as_the_pin() -> None:
    met, link = linked()
    met.a.got(link, told(record_of(CYD, "10.0.0.7:1")))
    assert met.a.links.up[link].linked.keys() == {CYD.id}
    effects = met.a.wake(0.2)
    assert dials(effects) == ["10.0.0.7:1"]
    (dial,) = [effect for effect in effects if isinstance(effect, Dial)]
    met.a.handle(LinkDialled(50, dial.dial, Key("eve").id, "10.0.0.7"))
    assert list(met.a.links.by_peer) == [BOB.id]
    assert met.a.links.book.addresses(CYD.id)[0].verified_at == 0
    assert met.a.links.dialer.seeking == []  # whoever else is there is nobody that somebody reached


def test_a_new_address_is_dialled_while_the_dial_to_the_former_one_hangs() -> None:
    """A machine that has another address answers nothing at the former one, for as long as a dial may take."""
    met, link = linked()
    met.a.got(link, told(record_of(CYD, "10.0.0.7:1")))
    assert dials(met.a.wake(0.2)) == ["10.0.0.7:1"]
    met.a.got(link, told(record_of(CYD, "10.0.0.8:1", at=START + 1)))
    assert dials(met.a.wake(2.0)) == ["10.0.0.8:1"]


def test_one_endpoint_is_enough_to_join_the_mesh() -> None:
    ada, bob, cyd = Post(ADA), Post(BOB), Post(CYD)
    for post, port in ((ada, 1), (bob, 2), (cyd, 3)):
        post.handle(ListeningAt((f"10.0.0.{port}:{port}",)))
    first, second, third = Meeting(ada, bob), Meeting(bob, cyd), Meeting(ada, cyd)
    second._links, third._links = 100, 200
    first.connect(bob, host="10.0.0.2")
    second.connect(cyd, host="10.0.0.3")  # Cyd knows only Bob's endpoint
    (frame,) = [frame for frame in exchanges(bob.wake(0.1)) if frame.linked]
    assert frame == told(record_of(CYD, "10.0.0.3:3"))
    ada.at(0.1)
    ada.got(1, frame)
    (dial,) = [effect for effect in ada.wake(0.3) if isinstance(effect, Dial)]
    assert dial.endpoint == "10.0.0.3:3"
    third.reach(ada, dial)
    assert set(ada.links.by_peer) == {BOB.id, CYD.id}


def test_endpoints_that_may_not_be_dialled_are_ignored() -> None:
    met, link = linked()
    record = record_of(CYD, "127.0.0.1:80", "nonsense", "224.0.0.1:1", "10.0.0.3:1", "[::1]:1")
    met.a.got(link, told(record))
    assert [address.endpoint for address in met.a.links.book.addresses(CYD.id)] == ["10.0.0.3:1"]
    assert met.a.links.book.records[CYD.id] == record  # others may dial the rest


def test_the_smaller_id_dials_at_once_and_the_other_a_second_later() -> None:
    met, link = linked()
    met.a.got(link, told(record_of(SMALL, "10.0.0.7:1"), record_of(LARGE, "10.1.0.8:1")))
    at_once = [effect.endpoint for effect in met.a.wake(0.2) if isinstance(effect, Dial)]
    later = [effect.endpoint for effect in met.a.wake(1.2) if isinstance(effect, Dial)]
    assert (at_once, later) == (["10.1.0.8:1"], ["10.0.0.7:1"])


def test_while_links_come_up_the_smaller_id_has_longer_to_dial_first() -> None:
    """While a mesh forms the other peer will dial, and two dials waste a handshake."""

    def dialled_at(links_come_until: float, connections_come_until: float = 0.0) -> float:
        met, link = linked()
        met.a.got(link, told(record_of(SMALL, "10.0.1.1:1")))
        for step in range(1, 400):
            if any(isinstance(effect, Dial) for effect in met.a.wake(step / 10)):
                break
            if step % 5 == 0 and step / 10 <= links_come_until:
                other = Meeting(met.a, Post(Key(f"other {step}")))
                other._links = 10 * step
                other.connect(other.b)
            elif step % 5 == 0 and step / 10 <= connections_come_until:
                met.a.handle(LinkAccepted(10 * step, "10.0.2.2"))
        return met.a.ctx.now.mono

    assert dialled_at(0.0) <= 1.2
    assert 3.0 <= dialled_at(2.0) <= 3.2
    assert 3.0 <= dialled_at(0.0, connections_come_until=2.0) <= 3.2  # not proved yet, and maybe of that peer
    assert 30.0 <= dialled_at(60.0) <= 30.4


def test_who_makes_up_peers_and_is_slow_puts_off_no_dial_for_an_hour() -> None:
    """Before: 85 minutes, as long as somebody connects now and then."""
    ada = Post(ADA)
    dialer = ada.links.dialer
    for number in range(4000):
        dialer._plan(an_id(number + 1))
    dialer._took = ada.ctx.settings.handshake_timeout
    ada.links.book.add(SMALL.id, "10.0.1.1:1")
    dialer.on_learned(Address(SMALL.id, "10.0.1.1:1"))
    for step in range(1, 60):
        ada.handle(LinkAccepted(step, "10.0.2.2"))
        if "10.0.1.1:1" in dials(ada.wake(10.0 * step)):
            break
    assert ada.ctx.now.mono <= 400.0


def test_a_named_endpoint_is_dialled_at_once_also_by_the_larger_id() -> None:
    met, link = linked()
    met.a.got(link, told(record_of(SMALL, "10.0.1.1:1")))
    assert dials(met.a.handle(Connect("10.0.1.1:1", SMALL.id))) == ["10.0.1.1:1"]


def test_a_failing_learned_address_is_not_reported() -> None:
    met, link = linked()
    met.a.got(link, told(record_of(CYD, "10.0.0.7:1")))
    (dial,) = [effect for effect in met.a.wake(0.2) if isinstance(effect, Dial)]
    assert link_changes(met.a.handle(DialFailed(dial.dial, "no"))) == []


# ---- starting, forgetting


def test_a_restarted_peer_dials_every_peer_it_knew_one_dial_each() -> None:
    stored = [
        Address(BOB.id, "10.0.0.1:1", START),
        Address(BOB.id, "10.0.0.2:1", START),
        Address(CYD.id, "[fd00::1]:1", START),
    ]
    ada = Post(ADA, addresses=stored)
    effects = ada.start() + ada.wake(0.2)
    dialled = dials(effects)
    assert len(dialled) == 2
    assert "[fd00::1]:1" in dialled


def crowd(count: int) -> list[Address]:
    """Return peers that were reached once and are offline."""
    return [Address(an_id(i), f"10.0.{i // 250}.{i % 250}:1", START - i) for i in range(1, count + 1)]


def fail_until(post: Post, second: int, effects: list[Effect]) -> list[str]:
    """Let every dial before `second` fail; return the endpoints."""
    tried: list[str] = []
    while effects or post.ctx.now.mono < second:
        for dial in [effect for effect in effects if isinstance(effect, Dial)]:
            tried.append(dial.endpoint)
            post.handle(DialFailed(dial.dial, "no"))
        effects = post.wake(post.ctx.now.mono + 1.0) if post.ctx.now.mono < second else []
    return tried


def test_in_a_crowd_the_last_to_answer_is_dialled_first_and_pauses_grow() -> None:
    ada = Post(ADA, addresses=[*crowd(999), Address(BOB.id, "10.9.9.9:1", START + 1)])
    tried = fail_until(ada, 60, ada.start())
    assert "10.9.9.9:1" in tried[:16]
    assert len(set(tried)) == 1000
    assert len(tried) <= 2000  # outside a crowd, each would be dialled nine times


def test_a_peer_that_was_linked_is_redialled_soon_also_in_a_crowd() -> None:
    ada = Post(ADA, addresses=[*crowd(999), Address(BOB.id, "10.9.9.9:1", START + 1)])
    fail_until(ada, 20, ada.start())
    met = Meeting(ada, Post(BOB))
    met.b.at(20.0)
    link = met.connect(met.b)
    met.carry(ada, ada.handle(LinkDown(link, "lost")))
    assert fail_until(ada, 30, []).count("10.9.9.9:1") >= 4


def test_a_dial_that_fails_is_followed_by_the_peer_s_other_address() -> None:
    stored = [Address(BOB.id, "10.0.0.1:1", START), Address(BOB.id, "10.0.0.2:1", START)]
    ada = Post(ADA, addresses=stored)
    (first,) = [effect for effect in ada.start() + ada.wake(0.2) if isinstance(effect, Dial)]
    effects = ada.handle(DialFailed(first.dial, "no"))
    (second,) = [effect for effect in effects if isinstance(effect, Dial)]
    assert {first.endpoint, second.endpoint} == {"10.0.0.1:1", "10.0.0.2:1"}


def test_contact_from_a_peer_resets_the_pauses() -> None:
    ada = Post(ADA, addresses=[Address(BOB.id, "10.0.0.1:1", START)])
    effects = ada.start()
    for step in range(400):
        for dial in [effect for effect in effects if isinstance(effect, Dial)]:
            ada.handle(DialFailed(dial.dial, "no"))
        effects = ada.wake(step * 1.0)
    met = Meeting(ada, Post(BOB))
    met.b.at(400.0)
    link = met.connect(met.b)
    met.carry(ada, ada.handle(LinkDown(link, "lost")))
    assert dials(ada.wake(ada.ctx.now.mono + 0.11)) == ["10.0.0.1:1"]


def test_forgetting_a_peer_ends_its_dials_and_addresses() -> None:
    ada = Post(ADA, addresses=[Address(BOB.id, "10.0.0.1:1", START)])
    ada.start()
    ada.handle(Forget(BOB.id))
    assert ada.ctx.change.forgotten == [(BOB.id, "10.0.0.1:1")]
    assert dials(ada.wake(1000.0)) == []


def test_a_named_endpoint_reached_as_a_learned_one_is_not_dialled_again() -> None:
    """Otherwise the second dial would replace the link for nothing (seed 1509)."""
    ada = Post(ADA)
    (first,) = [effect for effect in ada.handle(Connect("10.0.0.2:1")) if isinstance(effect, Dial)]
    ada.handle(DialFailed(first.dial, "nobody there"))
    met, cyd = Meeting(ada, Post(BOB)), Meeting(ada, Post(CYD))
    cyd._links = 100
    link = cyd.connect(cyd.b)
    ada.got(link, told(record_of(BOB, "10.0.0.2:1")))
    second = [effect for effect in ada.wake(1.2) if isinstance(effect, Dial)][-1]
    met.reach(ada, second)
    assert BOB.id in ada.links.by_peer
    assert dials(ada.wake(100.0)) == []


def test_forgetting_one_endpoint_leaves_the_others() -> None:
    stored = [Address(BOB.id, f"10.0.0.{n}:1", START) for n in (1, 2)]
    ada = Post(ADA, addresses=stored)
    ada.start()
    ada.handle(Forget(endpoint="10.0.0.1:1"))
    assert ada.ctx.change.forgotten == [(BOB.id, "10.0.0.1:1")]
    assert ada.links.dialer.endpoints(BOB.id) == ["10.0.0.2:1"]
    assert dials(ada.wake(1000.0)) == ["10.0.0.2:1"]


def test_a_typed_endpoint_is_forgotten_while_it_is_being_dialled() -> None:
    ada = Post(ADA)
    (first,) = [effect for effect in ada.handle(Connect("10.0.0.9:1")) if isinstance(effect, Dial)]
    assert ada.links.dialer.knows("10.0.0.9:1")
    ada.handle(Forget(endpoint="10.0.0.9:1"))
    assert not ada.links.dialer.knows("10.0.0.9:1")
    assert ada.handle(DialFailed(first.dial, "nobody there")) == []  # and not reported
    assert dials(ada.wake(1000.0)) == []
    (again,) = [effect for effect in ada.handle(Connect("10.0.0.9:1")) if isinstance(effect, Dial)]
    ada.handle(Forget(endpoint="10.0.0.9:1"))
    assert ada.handle(LinkDialled(7, again.dial, BOB.id, "10.0.0.9")) == [Close(7)]
    assert dials(ada.wake(2000.0)) == []


def test_a_link_to_a_forgotten_peer_stays_and_is_not_dialled_again_when_it_ends() -> None:
    met = Meeting(Post(ADA), Post(BOB))
    link = met.connect(met.a)
    assert met.a.links.dialer.endpoints(BOB.id)
    met.carry(met.a, met.a.handle(Forget(BOB.id)))
    assert list(met.a.links.by_peer) == [BOB.id]
    met.carry(met.a, met.a.handle(LinkDown(link, "lost")))
    assert dials(met.a.wake(1000.0)) == []


def test_an_endpoint_where_another_key_answers_belongs_to_that_one() -> None:
    ada = Post(ADA, addresses=[Address(BOB.id, "10.0.0.9:8080", START)])
    met = Meeting(ada, Post(CYD))
    met.connect(ada)  # typed without an id: whoever answers there is who it is
    assert list(ada.links.by_peer) == [CYD.id]
    assert ada.links.book.owner("10.0.0.9:8080") == CYD.id
    assert BOB.id in ada.links.book  # that was the only address known of him, and may be his again
    other = Address(BOB.id, "10.0.0.8:8080", START)
    ada = Post(ADA, addresses=[Address(BOB.id, "10.0.0.9:8080", START), other])
    Meeting(ada, Post(CYD)).connect(ada)
    assert ada.links.book.addresses(BOB.id) == [other]


def test_whoever_answers_where_a_known_key_answered_before_is_linked() -> None:
    """Its machine got a key of its own, and there was nobody else to say so."""
    ada = Post(ADA, addresses=[Address(BOB.id, "10.0.0.9:8080", START)])
    met = Meeting(ada, Post(CYD))
    (pinned,) = [effect for effect in (*ada.start(), *ada.wake(1.0)) if isinstance(effect, Dial)]
    met.reach(ada, pinned)
    (again,) = [effect for effect in met.take(ada) if isinstance(effect, Dial)]
    met.reach(ada, again)
    assert list(ada.links.by_peer) == [CYD.id] and ada.links.dialer.seeking == []
    met.wake(1000.0)
    assert list(ada.links.by_peer) == [CYD.id] and ada.links.dialer.seeking == []


def test_whoever_answers_in_place_of_who_made_an_invite_is_told_nothing() -> None:
    """Its key never answered there: another one that does may be anybody's, and is given no frame."""
    ada = Post(ADA)
    met = Meeting(ada, Post(CYD))
    (pinned,) = [effect for effect in ada.handle(Connect("10.0.0.9:8080", BOB.id)) if isinstance(effect, Dial)]
    met.reach(ada, pinned)
    for dial in [one for one in (*met.take(ada), *ada.wake(1000.0)) if isinstance(one, Dial)]:
        met.reach(ada, dial)
    assert ada.links.by_peer == {} and ada.links.dialer.seeking == []


def test_an_endpoint_that_is_the_own_one_now_stays_if_nothing_else_is_known_of_its_peer() -> None:
    """A router gave this machine the address that the other one had yesterday."""
    ada = Post(ADA, addresses=[Address(BOB.id, "10.0.0.9:8080", START)])
    (dial,) = [effect for effect in ada.handle(Connect("10.0.0.9:8080")) if isinstance(effect, Dial)]
    ada.handle(LinkDialled(1, dial.dial, ADA.id, "10.0.0.9"))
    assert ada.links.book.get(BOB.id, "10.0.0.9:8080") is not None
    assert dials(ada.wake(1000.0)) == []


def test_a_typed_endpoint_is_kept_once_it_was_reached() -> None:
    ada = Post(ADA)
    ada.handle(Connect("10.0.0.9:1"))
    assert not ada.ctx.change.addresses
    met = Meeting(ada, Post(BOB))
    met.connect(ada)
    assert ada.ctx.change.addresses == [Address(BOB.id, "10.0.0.9:8080", verified_at=START)]


def test_an_accepted_stranger_leaves_nothing_in_the_book() -> None:
    ada = Post(ADA)
    ada.handle(LinkAccepted(1, "10.0.0.66"))
    ada.handle(LinkDown(1, "lost"))
    assert list(ada.links.book) == []
    assert ada.ctx.change == Change()
