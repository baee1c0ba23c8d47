"""Hearsay: addresses that only somebody's word supports are few, dialled slowly, and soon forgotten."""

from __future__ import annotations

from itertools import pairwise

import pytest

from p2pchat.config import Settings
from p2pchat.core.durable_changes import Address
from p2pchat.core.effects import Counted, Dial, Effect, Resolve, Send
from p2pchat.core.inputs import Connect, DialFailed, LinkDown, ListeningAt, Resolved
from p2pchat.core.mesh.dialer import MANY_AT_ONE_HOST
from p2pchat.core.mesh.hearsay_pace import HearsayPace
from p2pchat.protocol import Peers
from tests.core.mesh.linked_peers import START, Key, Meeting, Post

VICTIM = "198.51.100.7"
ATTACKERS = 12


class Attack:
    """Ada, members that name others' addresses, and a log of all dials; none of them is answered."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.ada = Post(Key("ada"), settings=settings)
        self.ada.handle(ListeningAt(8080, ("192.168.7.2:8080",)))
        self.links: list[int] = []
        self.dials: list[tuple[float, str]] = []
        self.names: dict[str, list[str]] = {}  # what they mean; others mean nothing
        self.looked_up = 0
        self.held: dict[str, int] = {}  # endpoints whose look-ups a test answers itself, and those look-ups
        self._ids = 0

    def join(self, number: int, host: str = "") -> int:
        met = Meeting(self.ada, Post(Key(f"mallory {number}")))
        met._links = 100 * number
        self.links.append(met.connect(met.b, host=host or f"203.0.113.{number + 1}"))
        return self.links[-1]

    def tell(self, link: int, *endpoints: str) -> list[Effect]:
        """Have the far end name endpoints, each as another invented peer's and as its own."""
        linked: list[tuple[str, tuple[str, ...]]] = []
        for endpoint in endpoints:
            self._ids += 1
            linked.append((f"{self._ids:064x}" if self._ids % 2 else f"{'f' * 60}{self._ids:04x}", (endpoint,)))
        return self._take(self.ada.got(link, Peers(0, [*endpoints[:4]], linked=linked)))

    def _take(self, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            if isinstance(effect, Dial):
                self.dials.append((self.ada.ctx.now.mono, effect.endpoint))
                self._take(self.ada.handle(DialFailed(effect.dial, "nobody")))
            elif isinstance(effect, Resolve) and effect.endpoint in self.held:
                self.held[effect.endpoint] = effect.dial
            elif isinstance(effect, Resolve):
                self.looked_up += 1
                meant = self.names.get(effect.endpoint.rpartition(":")[0], [])
                self._take(self.ada.handle(Resolved(effect.dial, [(host, "192.168.7.2") for host in meant])))
        return effects

    def run(self, until: float, *, alive: bool = True) -> None:
        """Let time pass. While `alive`, the attackers answer pings."""
        now = self.ada.ctx.now.mono
        while now < until:
            now = min(now + 0.25, until)
            self._take(self.ada.wake(now))
            for link in self.links if alive else ():
                self.ada.got(link)

    def leave(self) -> None:
        for link in self.links:
            self.ada.handle(LinkDown(link, "lost"))

    def dialled(self, host: str, since: float = 0.0) -> list[float]:
        return [at for at, endpoint in self.dials if endpoint.rpartition(":")[0] == host and at >= since]


def test_members_cannot_have_a_third_host_flooded_nor_dialled_after_they_left() -> None:
    """Before: 2,130 connections in 30 s, and 663 after the attackers had left."""
    attack = Attack()
    for number in range(ATTACKERS):
        attack.tell(attack.join(number), *(f"{VICTIM}:{1 + 64 * number + port}" for port in range(64)))
    attack.run(59.9)
    assert 1 <= len(attack.dialled(VICTIM)) <= 2
    for second in range(60, 300, 20):  # they repeat it
        for number, link in enumerate(attack.links):
            attack.tell(link, *(f"{VICTIM}:{1 + 64 * number + port}" for port in range(second % 60, 64)))
        attack.run(second + 20.0)
    dialled = attack.dialled(VICTIM)
    assert all(later - at >= 29.5 for at, later in pairwise(dialled))  # the log is 0.25 s late at most
    attack.leave()
    attack.run(900.0, alive=False)
    assert len(attack.ada.links.book.hearsay) == 0
    attack.run(2400.0, alive=False)
    assert attack.dialled(VICTIM, since=900.0) == []


def test_many_names_of_one_host_are_dialled_as_that_host() -> None:
    attack = Attack()
    attack.names = {f"a{number}.example": [VICTIM] for number in range(60)}
    link = attack.join(0)
    attack.tell(link, *(f"{name}:80" for name in attack.names))
    attack.run(59.9)
    assert 1 <= len(attack.dialled(VICTIM)) == len(attack.dials) <= 2
    assert attack.looked_up <= 8 + 2 * 60


@pytest.mark.parametrize(
    "meant, dialled",
    [
        (["127.0.0.1"], []),
        (["::1"], []),
        (["::ffff:127.0.0.1"], []),
        (["10.0.0.1", "172.16.0.1"], []),
        (["fd00::1"], []),
        (["169.254.169.254"], []),
        (["192.168.0.1"], ["192.168.0.1:22"]),  # this machine is in that range
        (["198.51.100.1"], ["198.51.100.1:22"]),
        (["2001:db8::1"], ["[2001:db8::1]:22"]),
        (["127.0.0.1", "198.51.100.1", "10.0.0.1"], ["198.51.100.1:22"]),
    ],
)
@pytest.mark.parametrize("teller", ["203.0.113.9", "192.168.3.3", "127.0.0.1"])
def test_a_told_name_is_judged_by_what_it_means(teller: str, meant: list[str], dialled: list[str]) -> None:
    """Before: a name was dialled whatever it meant, so any member could reach this machine and its neighbours."""
    attack = Attack()
    attack.names = {"evil.example": meant}
    attack.tell(attack.join(0, teller), "evil.example:22")
    attack.run(20.0)
    assert sorted({endpoint for _, endpoint in attack.dials}) == dialled


def test_of_the_addresses_of_a_told_name_one_is_dialled_at_each_try() -> None:
    """Before: one name was a dial to each of its addresses."""
    attack = Attack()
    attack.names = {"many.example": [f"198.51.{number}.1" for number in range(4)]}
    attack.tell(attack.join(0), "many.example:80")
    attack.run(600.0)
    dialled = [endpoint for _, endpoint in attack.dials]
    assert dialled[:4] == [f"198.51.{number}.1:80" for number in range(4)]
    assert all(later > at for (at, _), (later, _) in pairwise(attack.dials))


class NamedPeer:
    """A peer of the attackers: its name leads to it, until they change what it means."""

    def __init__(self, attack: Attack, name: str) -> None:
        self.attack, self.ada, self.name = attack, attack.ada, name
        self.post = Post(Key(name))

    def answer(self, host: str) -> int:
        """Tell ada the name, let it mean this host, and answer there; return the link."""
        endpoint, held = f"{self.name}:80", self.attack.held
        held[endpoint] = 0
        told = Peers(0, [], linked=[(self.post.key.id, (endpoint,))])
        self.attack._take(self.ada.got(self.attack.links[0], told))
        while not held[endpoint]:
            self.attack.run(self.ada.ctx.now.mono + 0.25)
        effects = self.ada.handle(Resolved(held.pop(endpoint), [(host, host)]))
        (dial,) = (each for each in effects if isinstance(each, Dial))
        assert dial.endpoint == f"{host}:80"
        met = Meeting(self.ada, self.post)
        met._links = 5000 + dial.dial
        self.post.at(self.ada.ctx.now.mono)
        return met.reach(self.ada, dial, host=host)


def test_a_name_that_answered_once_is_judged_anew_at_each_dial() -> None:
    attack = Attack()
    attack.join(0)
    link = NamedPeer(attack, "evil.example").answer("198.51.100.1")
    for meant in ("10.0.0.1", "127.0.0.1", VICTIM):
        attack.names = {"evil.example": [meant]}
        if attack.ada.links.up.get(link):
            attack.ada.handle(LinkDown(link, "lost"))
        attack.run(attack.ada.ctx.now.mono + 120.0)
    assert {endpoint for _, endpoint in attack.dials} == {f"{VICTIM}:80"}
    assert all(later - at >= 29.5 for at, later in pairwise(attack.dialled(VICTIM)))


def test_an_answer_at_a_name_frees_no_other_host() -> None:
    """Before: each answer at an own name freed a dial to any other name, so to any host."""
    attack = Attack()
    attack.join(0)
    attack.names = {f"a{number}.example": [VICTIM] for number in range(20)}
    attack.tell(attack.links[0], *(f"{name}:80" for name in attack.names))
    for number in range(20):
        attack.run(1.0 + number)
        NamedPeer(attack, f"good{number}.example").answer(f"198.51.{number}.1")
    assert len(attack.dialled(VICTIM)) == 1


def test_a_mesh_of_peers_with_names_forms_at_once() -> None:
    attack = Attack()
    attack.join(0)
    for number in range(30):
        NamedPeer(attack, f"host{number}.example").answer(f"198.51.{number}.1")
    assert attack.ada.ctx.now.mono < 40.0


def test_a_name_that_a_user_chose_is_dialled_as_it_is_also_in_later_runs() -> None:
    attack, bob = Attack(), Key("bob").id
    (dial,) = (each for each in attack.ada.handle(Connect("bob.example:80")) if isinstance(each, Dial))
    assert dial.endpoint == "bob.example:80"
    told, chosen = Address(bob, "told.example:80", START), Address(Key("cyd").id, "chosen.example:80", START)
    again = Post(Key("ada"), addresses=[told, chosen])
    again.contacts.keep([chosen.peer])
    effects = [*again.start(), *again.wake(10.0)]
    assert {each.endpoint for each in effects if isinstance(each, Dial)} == {"chosen.example:80"}
    assert {each.endpoint for each in effects if isinstance(each, Resolve)} == {"told.example:80"}


def test_the_hosts_of_one_network_are_dialled_with_pauses_and_all_hosts_twice_a_second() -> None:
    attack = Attack()
    links = [attack.join(number, f"10.{number}.0.1") for number in range(8)]
    attack.tell(links[0], *(f"198.51.100.{number}:80" for number in range(1, 60)))
    attack.run(60.0)
    assert 8 <= len(attack.dials) <= 13  # one in 5 s
    attack.dials.clear()
    for number, link in enumerate(links[1:]):
        attack.tell(link, *(f"198.{number}.{host}.1:80" for host in range(60)))
    attack.run(120.0)
    assert 60 <= len(attack.dials) <= 8 + 2 * 60


def test_an_answer_by_the_right_key_gives_a_dial_back() -> None:
    """So a mesh of honest peers forms as fast as its handshakes, also when many of them are at one address."""
    ada, bob = Post(Key("ada")), Post(Key("bob"))
    met = Meeting(ada, bob)
    link = met.connect(bob, host="192.0.2.1")
    others = [Post(Key(f"other {number}")) for number in range(30)]
    told: list[tuple[str, tuple[str, ...]]] = [
        (other.key.id, (f"192.0.2.9:{number + 1}",)) for number, other in enumerate(others)
    ]
    waiting = [effect for effect in ada.got(link, Peers(0, [], linked=told)) if isinstance(effect, Dial)]
    now, linked = 0.0, 0
    while linked < len(others) and now < 12.0:
        now += 0.05
        waiting += [effect for effect in ada.wake(now) if isinstance(effect, Dial)]
        while waiting:
            dial = waiting.pop(0)
            other = others[int(dial.endpoint.rpartition(":")[2]) - 1]
            pair = Meeting(ada, other)
            pair._links = 1000 + 10 * dial.dial
            other.at(now)
            pair.reach(ada, dial, host="192.0.2.9")
            waiting += [effect for effect in pair.take(ada) if isinstance(effect, Dial)]
            linked += 1
    assert linked == len(others)


def test_an_unknown_network_may_have_64_told_and_all_together_512() -> None:
    attack = Attack()
    book = attack.ada.links.book
    for number in range(4):
        attack.tell(attack.join(number), *(f"192.0.{number}.{port}:80" for port in range(64)))
    assert len(book.hearsay) == 64
    for number in range(4, 12):
        attack.tell(attack.join(number, f"10.{number}.0.1"), *(f"192.1.{number}.{port}:80" for port in range(64)))
    assert len(book.hearsay) == 512
    late = attack.join(50, "10.50.0.1")
    attack.tell(late, "192.2.0.1:80")
    assert len(book.hearsay) == 512 and [line for line in book.hearsay.taken if line[:1] == ("10.50.0.0/24",)]


def test_three_failures_without_anybody_who_vouches_are_the_end_of_an_address() -> None:
    attack = Attack()
    link = attack.join(0)
    attack.ada.got(link, Peers(0, [], linked=[("ab" * 32, ("198.51.100.9:80",))]))
    attack.run(20.0)
    attack.leave()
    attack.run(400.0, alive=False)
    assert len(attack.dialled("198.51.100.9")) == 3
    assert len(attack.ada.links.book.hearsay) == 0


def test_while_somebody_linked_vouches_an_address_is_tried_on() -> None:
    """Peers tell only changes: two whom a broken network kept apart for a while would never meet."""
    attack = Attack()
    link = attack.join(0)
    attack.tell(link, "198.51.100.9:80")
    attack.run(3600.0)
    assert len(attack.dialled("198.51.100.9")) > 6


@pytest.mark.parametrize(
    "teller, endpoint, taken",
    [
        ("203.0.113.9", "10.1.2.3:80", False),
        ("203.0.113.9", "172.16.9.9:80", False),
        ("203.0.113.9", "[fd00::1]:80", False),
        ("203.0.113.9", "192.168.7.9:80", True),  # this machine has an address there
        ("203.0.113.9", "198.51.100.1:80", True),
        ("10.9.9.9", "192.168.9.9:80", True),
        ("127.0.0.1", "192.168.9.9:80", True),
    ],
)
def test_a_private_address_from_the_internet_is_not_taken(teller: str, endpoint: str, taken: bool) -> None:
    attack = Attack()
    said = attack.tell(attack.join(0, teller), endpoint)
    assert (Counted("address_refused") in said) is not taken
    assert bool(len(attack.ada.links.book.hearsay)) is taken


def test_hearsay_is_not_stored_but_what_a_peer_says_of_where_it_is() -> None:
    attack = Attack()
    link = attack.join(0)
    attack.ada.ctx.change.addresses.clear()
    attack.ada.got(link, Peers(7, ["198.51.100.9:80"], linked=[("ab" * 32, ("198.51.100.10:80",))]))
    assert [address.endpoint for address in attack.ada.ctx.change.addresses] == ["203.0.113.1:7"]


def test_stored_hearsay_of_an_earlier_version_is_dropped() -> None:
    bob, cyd = Key("bob").id, Key("cyd").id
    kept = Address(bob, "10.0.0.1:1", teller=bob), Address(bob, "10.0.0.1:2", START, teller=cyd)
    ada = Post(Key("ada"), addresses=[*kept, Address(bob, "10.0.0.1:3", teller=cyd)])
    assert ada.links.book.addresses(bob) == [*kept]
    assert ada.ctx.change.forgotten == [(bob, "10.0.0.1:3")]


def test_an_address_becomes_known_when_its_peer_comes_from_there() -> None:
    attack = Attack()
    bob = Post(Key("bob"))
    attack.ada.got(attack.join(0), Peers(0, [], linked=[(bob.key.id, ("198.51.100.9:7",))]))
    assert len(attack.ada.links.book.hearsay) == 1
    met = Meeting(attack.ada, bob)
    met._links = 9000
    bob.handle(ListeningAt(7))
    met.connect(bob, host="198.51.100.9")
    assert len(attack.ada.links.book.hearsay) == 0
    assert attack.ada.links.book.get(bob.key.id, "198.51.100.9:7") == Address(
        bob.key.id, "198.51.100.9:7", teller=bob.key.id
    )


def test_many_keys_that_were_at_one_host_do_not_have_it_flooded_afterwards() -> None:
    """A host is shared, and passes to others. Of 300 addresses where nobody answers each was dialled 12 times in 60 s.

    A machine on which 300 keys had been, with 5 addresses each, got 1,531 SYNs within 15 s.
    """
    attack = Attack()
    for number in range(100):
        link = attack.join(number, VICTIM)
        attack.ada.got(link, Peers(1000 + number, [f"{VICTIM}:{2000 + 3 * number + port}" for port in range(3)]))
        attack.ada.handle(LinkDown(link, "lost"))
    attack.run(60.0, alive=False)
    assert len(attack.dialled(VICTIM)) <= MANY_AT_ONE_HOST + 3
    attack.run(600.0, alive=False)
    assert 1 <= len(attack.dialled(VICTIM, 540.0)) <= 3


@pytest.mark.parametrize("host", ["127.0.0.1", "203.0.113.5"])
def test_keys_that_come_once_and_leave_fill_half_of_the_book(host: str) -> None:
    """Before: the book was full for seven days, also after restarts, and no newcomer was told to another."""
    settings = Settings(max_addresses=32)
    ada, most = Post(Key("ada"), settings=settings), settings.max_addresses // 2
    rows: dict[tuple[str, str], Address] = {}
    for number in range(80):
        ada.wake(number * 60.0)
        met = Meeting(ada, Post(Key(f"mallory {number}")))
        met._links = 10 * number
        link = met.connect(met.b, host=host)
        ada.got(link, Peers(1 + number, []))
        ada.handle(LinkDown(link, "lost"))
        assert len(ada.links.book) <= most
    for address in ada.ctx.change.addresses:
        rows[address.peer, address.endpoint] = address
    for gone in ada.ctx.change.forgotten:
        rows.pop(gone, None)
    assert len(rows) == most

    again = Post(Key("ada"), settings=settings, addresses=[*rows.values()])
    assert len(again.links.book.claims) == most
    for post in (ada, again):
        assert newcomers_told(post)


def newcomers_told(ada: Post) -> bool:
    """Return whether ada tells each of two peers that dial her where the other one is."""
    posts, mets = [Post(Key("bob")), Post(Key("cyd"))], []
    for number, post in enumerate(posts):
        post.handle(ListeningAt(7000 + number))
        mets.append(Meeting(ada, post))
        mets[-1]._links = 10_000 + 100 * number
        mets[-1].connect(post, host="127.0.0.1")
    mets[0].wake(ada.ctx.now.mono + 1.0)
    told = [
        {
            peer: at
            for effect in met.take(ada)
            if isinstance(effect, Send) and isinstance(effect.frame, Peers)
            for peer, at in effect.frame.linked
        }
        for met in mets
    ]
    return told[1].get(posts[0].key.id) == ("127.0.0.1:7000",) and told[0].get(posts[1].key.id) == ("127.0.0.1:7001",)


def test_what_an_unknown_peer_says_of_other_hosts_is_not_passed_on() -> None:
    """Otherwise one word made all peers of the mesh dial."""
    attack = Attack()
    met = Meeting(attack.ada, Post(Key("bob")))
    met._links = 5000
    bob = met.connect(met.b, host="192.0.2.1")
    mallory = attack.ada.links.up[attack.join(0)].peer
    attack.ada.got(attack.links[0], Peers(7, [f"{VICTIM}:80"]))
    assert attack.ada.links.book.get(mallory, f"{VICTIM}:80") is not None
    told = [effect for effect in attack.ada.wake(1.0) if isinstance(effect, Send) and bob in effect.links]
    assert [send.frame.linked for send in told if isinstance(send.frame, Peers)] == [[(mallory, ("203.0.113.1:7",))]]


def test_a_peer_of_this_machine_is_believed_about_all_its_addresses() -> None:
    """On loopback, where its link comes from says nothing about where others reach it."""
    attack = Attack()
    link = attack.join(0, "127.0.0.1")
    attack.ada.got(link, Peers(7, ["192.168.7.2:7", "198.51.100.9:7"]))
    assert [endpoint for _, endpoint in attack.ada.links.book.hearsay] == ["198.51.100.9:7"]


@pytest.mark.parametrize("ports", [8, 60_000])
def test_a_contact_that_comes_and_goes_cannot_have_a_third_host_flooded(ports: int) -> None:
    """Before: eight dials a second at the same eight ports, or 17 in two minutes at new ones."""
    attack, key = Attack(), Key("mallory")
    attack.ada.contacts.add([key.id])
    for second in range(120):
        mallory = Post(key)
        mallory.at(second)
        met = Meeting(attack.ada, mallory)
        met._links = 100 * second
        link = met.connect(mallory, host="203.0.113.5")
        attack._take(attack.ada.got(link, Peers(0, [f"{VICTIM}:{1 + (8 * second + n) % ports}" for n in range(8)])))
        attack._take(attack.ada.handle(LinkDown(link, "lost")))
        attack.run(second + 1.0, alive=False)
    attack.run(600.0, alive=False)
    dialled = attack.dialled(VICTIM)
    assert len(dialled) >= 2 and all(later - at >= 29.5 for at, later in pairwise(dialled))
    assert len(attack.ada.links.book.addresses(key.id)) == 8  # a contact's are kept a while


@pytest.mark.parametrize("named", [f"{VICTIM}:{{}}", "a{}.example:80"], ids=["ports", "names"])
def test_what_a_contact_says_again_and_again_of_a_silent_host_is_dialled_once_an_hour(named: str) -> None:
    """Before: 1.8 dials a minute, for as long as the contact says it, and for seven days after that."""
    attack, key = Attack(), Key("mallory")
    attack.ada.contacts.add([key.id])
    attack.names = {f"a{number}.example": [VICTIM] for number in range(8 * 120)}
    book = attack.ada.links.book
    for minute in range(120):
        mallory = Post(key)
        mallory.at(60 * minute)
        met = Meeting(attack.ada, mallory)
        met._links = 100 * minute
        link = met.connect(mallory, host="203.0.113.5")
        attack._take(attack.ada.got(link, Peers(0, [named.format(1 + 8 * minute + n) for n in range(8)])))
        attack._take(attack.ada.handle(LinkDown(link, "lost")))
        attack.run(60 * minute + 60.0, alive=False)
    dialled = attack.dialled(VICTIM)
    early = [at for at in dialled if at < 700.0]
    assert 2 <= len(early) <= 22
    assert 1 <= len(dialled) - len(early) <= 2
    attack.run(60 * 120 + 3 * 3600.0, alive=False)  # it says nothing any more
    assert attack.dialled(VICTIM, since=60 * 120 + 3700.0) == []
    assert not book.elsewhere


def test_who_stays_linked_has_a_silent_host_dialled_once_an_hour() -> None:
    attack, key = Attack(), Key("mallory")
    attack.ada.contacts.add([key.id])
    link = attack.join(0)
    attack.tell(link, *(f"{VICTIM}:{port}" for port in range(1, 61)))
    attack.run(4 * 3600.0)
    assert len(attack.dialled(VICTIM)) <= 22 + 4
    assert 1 <= len(attack.dialled(VICTIM, since=700.0)) <= 4


def test_an_answer_ends_the_silence_of_a_host() -> None:
    ctx = Post(Key("ada")).ctx
    pace = HearsayPace(ctx)
    for minute in range(12):
        ctx.now = ctx.now._replace(mono=60.0 * minute)
        pace.on_failed("mallory", f"{VICTIM}:{minute + 1}")
    waits = [pace.wait(source, f"{VICTIM}:80", (), 1) for source in ("mallory", "bob")]
    assert waits == [3600.0, 0.0]
    pace.on_answered("mallory", f"{VICTIM}:80")
    assert pace.wait("mallory", f"{VICTIM}:80", (), 1) == 0.0


def test_a_contact_is_dialled_at_once_where_it_was_seen() -> None:
    attack, key = Attack(), Key("mallory")
    attack.ada.contacts.add([key.id])
    mallory = Post(key)
    link = Meeting(attack.ada, mallory).connect(mallory, host="203.0.113.5")
    attack._take(attack.ada.got(link, Peers(8080, ["203.0.113.5:8081"])))
    attack._take(attack.ada.handle(LinkDown(link, "lost")))
    attack.run(20.0, alive=False)
    assert len(attack.dialled("203.0.113.5")) > 4 and not attack.ada.links.book.elsewhere
