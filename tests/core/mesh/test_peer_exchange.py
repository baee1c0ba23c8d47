"""Peer records: what a peer signs about itself counts, is told on, and is dialled with a pace."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from msgspec import structs

from p2pchat.core.durable_changes import Address
from p2pchat.core.effects import Counted, Dial, Effect, Resolve, Send
from p2pchat.core.inputs import Connect, DialFailed, LinkAccepted, LinkDialled, LinkDown, ListeningAt, Resolved
from p2pchat.core.members.statement import Statement, make_guest, make_statement, network_id
from p2pchat.core.mesh.dialer import DialPace
from p2pchat.core.mesh.peer_exchange import make_record
from p2pchat.core.node_context import NetworkCredentials
from p2pchat.protocol import PeerRecord, Peers
from p2pchat.settings import Settings
from tests.core.mesh.linked_peers import START, K, Key, Meeting, Post, admission_of, record_of, told

VICTIM = "198.51.100.7"
ATTACKERS = 12
FOUNDER, MEMBER, BOB, CYD = (Key(name) for name in ("founder", "member", "bob", "cyd"))
NETWORK = network_id(FOUNDER.id)


class Attack:
    """Ada, members that sign addresses, and a log of all dials; none of them is answered."""

    def __init__(self, **given: object) -> None:
        self.ada = Post(Key("ada"), **given)  # type: ignore[arg-type]
        self.ada.handle(ListeningAt(("192.168.7.2:8080",)))
        self.links: list[int] = []
        self.dials: list[tuple[float, str]] = []
        self.names: dict[str, list[str]] = {}  # what they mean; others mean nothing
        self.looked_up = 0
        self.held: dict[str, int] = {}  # endpoints whose look-ups a test answers itself, and those look-ups
        self._ids = 0

    def join(self, number: int, host: str = "") -> int:
        met = Meeting(self.ada, Post(Key(f"mallory {number}")))
        met.b.at(self.ada.ctx.now.mono)
        met._links = 100 * number
        self.links.append(met.connect(met.b, host=host or f"203.0.113.{number + 1}"))
        return self.links[-1]

    def tell(self, link: int, *endpoints: str) -> list[Effect]:
        """Have the far end say that it is linked with other keys of its owner, each at one of these endpoints."""
        self._ids += len(endpoints)
        keys = [Key(f"sybil {self._ids - number}") for number in range(len(endpoints))]
        now = self.ada.ctx.now.utc
        pages = [record_of(key, endpoint, at=now) for key, endpoint in zip(keys, endpoints, strict=True)]
        return [one for at in range(0, len(pages), 64) for one in self.take(link, told(*pages[at : at + 64]))]

    def take(self, link: int, frame: Peers) -> list[Effect]:
        return self._take(self.ada.got(link, frame))

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


# ---- which records count


def with_wrong_certificate() -> PeerRecord:
    guest = make_guest(NETWORK, MEMBER.id, BOB.sign, CYD.id)  # the member did not sign it
    return make_record(NETWORK, CYD.id, CYD.sign, START, ["198.51.100.9:7"], guest)


@pytest.mark.parametrize(
    "record",
    [
        structs.replace(record_of(CYD, "198.51.100.9:7"), sig=record_of(BOB, "198.51.100.9:7").sig),
        structs.replace(record_of(CYD, f"{VICTIM}:7"), sig=record_of(CYD, "198.51.100.9:7").sig),
        structs.replace(record_of(CYD, "198.51.100.9:7", at=START + 1), sig=record_of(CYD, "198.51.100.9:7").sig),
        record_of(CYD, "198.51.100.9:7", network="0c" * 16),
        with_wrong_certificate(),
    ],
    ids=["another key", "another endpoint", "another time", "another network", "a wrong certificate"],
)
def test_a_record_that_its_peer_did_not_sign_so_is_neither_kept_nor_dialled(record: PeerRecord) -> None:
    """Before: whatever a member said about others was dialled."""
    attack = Attack()
    link = attack.join(0)
    assert attack.take(link, told(record)) == [Counted("record_refused")]
    attack.run(60.0)
    book = attack.ada.links.book
    assert attack.dials == [] and CYD.id not in book and CYD.id not in book.records
    assert link in attack.ada.links.up  # another peer may have been fooled


def test_an_older_record_changes_nothing() -> None:
    attack = Attack()
    link = attack.join(0)
    newer, older = record_of(CYD, "198.51.100.9:7", at=START + 1), record_of(CYD, f"{VICTIM}:7")
    attack.take(link, told(newer))
    attack.take(link, told(older))
    attack.run(60.0)
    assert attack.ada.links.book.records[CYD.id] == newer == attack.ada.ctx.change.records[CYD.id]
    assert attack.dialled(VICTIM) == []


def test_a_new_address_counts_whoever_tells_it_also_one_that_is_not_linked_there() -> None:
    """Before, only what a linked peer told counted: the new address of a peer that had gone again was lost."""
    attack = Attack()
    link = attack.join(0)
    former, newer = record_of(CYD, "198.51.100.9:7"), record_of(CYD, "198.51.100.10:7", at=START + 1)
    attack.take(link, told(former))
    attack.take(link, Peers(gone=[CYD.id]))
    attack.take(link, Peers([newer]))
    assert attack.ada.links.book.records[CYD.id] == newer
    attack.run(60.0)
    assert attack.dialled("198.51.100.10")


# ---- members


def said(kind: str, *who: Key, at: int = 1) -> Statement:
    fields = {"who": [key.id for key in who]}
    return make_statement(NETWORK, FOUNDER.id, FOUNDER.sign, kind, at, fields)


def guest_record(peer: Key, member: Key, *endpoints: str) -> PeerRecord:
    guest = make_guest(NETWORK, member.id, member.sign, peer.id)
    return make_record(NETWORK, peer.id, peer.sign, START, endpoints, guest)


class Network:
    """Ada and a friend, both members, who are linked."""

    def __init__(self, *more: Statement, records: Sequence[PeerRecord] = ()) -> None:
        self.ada_key, friend = Key("ada"), Key("friend")
        statements = [said("add", self.ada_key, friend), *more]
        network = NetworkCredentials(NETWORK, K, FOUNDER.id)
        known = [Address(record.id, endpoint, told=True) for record in records for endpoint in record.e]
        self.ada = Post(
            self.ada_key, network=network, statements=statements, addresses=known, records=list(records)
        )  # fmt: skip
        self.friend = Post(friend, network=network, statements=statements)
        self.met = Meeting(self.ada, self.friend)
        self.link = self.met.connect(self.friend, host="203.0.113.1")
        assert self.link in self.ada.links.up

    def say(self, *statements: Statement) -> None:
        """Have ada hear statements, and store them."""
        self.ada.statements.say(statements)
        self.ada.statements.on_durable(self.ada.ctx.change)
        users = {user for one in statements for user in one.who}
        self.ada.links._admission.users.on_members_changed(users)
        self.ada.links.on_members_changed(users)

    def dialled(self, until: float) -> list[str]:
        self.met.take(self.ada)
        self.met.wake(until)
        return [effect.endpoint for effect in self.met.take(self.ada) if isinstance(effect, Dial)]


RECORDS = {
    "a member": record_of(MEMBER, "198.51.100.9:7", network=NETWORK),
    "a guest": guest_record(BOB, MEMBER, "198.51.100.9:7"),
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_a_record_is_dialled_once_its_member_is_admitted(record: PeerRecord) -> None:
    """Records come before statements do: who is linked there is told first."""
    network = Network()
    network.met.carry(network.ada, network.ada.got(network.link, told(record)))
    assert network.dialled(20.0) == [] and record.id not in network.ada.links.book.records
    assert network.ada.links.up[network.link].linked == {record.id: record}
    network.say(said("add", MEMBER, at=2))
    assert network.dialled(25.0)[:1] == ["198.51.100.9:7"]
    assert network.ada.ctx.change.records[record.id] == record
    assert network.ada.links.up[network.link].linked == {record.id: None}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_a_record_of_a_removed_member_is_not_dialled(record: PeerRecord) -> None:
    out = said("remove", MEMBER, at=2)
    network = Network(said("add", MEMBER), out)
    network.ada.got(network.link, told(record))
    assert network.dialled(20.0) == [] and record.id not in network.ada.links.book


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_a_known_record_is_not_dialled_after_a_removal_nor_after_a_restart(record: PeerRecord) -> None:
    network = Network(said("add", MEMBER))
    network.ada.got(network.link, told(record))
    assert record.id in network.ada.links.book
    network.say(said("remove", MEMBER, at=2))
    assert network.dialled(20.0) == []
    again = Network(said("add", MEMBER), said("remove", MEMBER, at=2), records=[record])
    again.met.carry(again.ada, again.ada.start())
    assert again.dialled(20.0) == []
    known = Network(said("add", MEMBER), records=[record])
    known.met.carry(known.ada, known.ada.start())
    assert known.dialled(20.0)[:1] == ["198.51.100.9:7"]


# ---- the own record


@pytest.mark.parametrize("ahead", [-3600, 3600])
def test_a_record_counts_whatever_the_clock_of_its_peer_says(ahead: int) -> None:
    """Peers whose clocks were an hour ahead were dialled by nobody (history 5 --relay)."""
    ada, bob = Post(Key("ada")), Post(BOB)
    ada.handle(ListeningAt(("10.0.0.1:8080",)))
    met = Meeting(ada, bob)
    met.connect(bob)
    ada.ctx.now = ada.ctx.now.replace(utc=START + ahead * 1_000_000)
    ada.handle(ListeningAt(("10.0.0.2:8080",)))
    met.wake(1.0)
    assert bob.links.book.records[ada.key.id].e == ("10.0.0.2:8080",)
    record = ada.ctx.change.records[ada.key.id]
    assert record is not None
    again = Post(Key("ada"), records=[record])
    again.ctx.now = again.ctx.now.replace(utc=START - 10_000_000)
    again.handle(ListeningAt(("10.0.0.3:8080",)))
    other = Meeting(again, bob)
    other._links = 100
    other.connect(bob, "10.0.0.3:8080")
    assert bob.links.book.records[ada.key.id].e == ("10.0.0.3:8080",)


# ---- the pace


def test_members_cannot_have_a_third_host_flooded_nor_dialled_after_they_left() -> None:
    """Before: 2,130 connections in 30 s, and 663 after the attackers had left."""
    attack = Attack()
    for number in range(ATTACKERS):
        attack.tell(attack.join(number), *(f"{VICTIM}:{1 + 64 * number + port}" for port in range(64)))
    attack.run(59.9)
    assert 1 <= len(attack.dialled(VICTIM)) <= 2
    for second in range(60, 300, 20):  # with more keys
        for number, link in enumerate(attack.links):
            attack.tell(link, *(f"{VICTIM}:{1 + 64 * number + port}" for port in range(second % 60, 64)))
        attack.run(second + 20.0)
    dialled = attack.dialled(VICTIM)
    assert all(later - at >= 29.5 for at, later in pairwise(dialled))  # the log is 0.25 s late at most


def test_a_host_where_a_member_says_three_times_in_vain_that_it_is_rests_for_an_hour() -> None:
    """However many keys, ports and new records it has."""
    evil = {Key(f"sybil {number}").id for number in range(2000)}
    attack = Attack(share=lambda peer: "evil" if peer in evil else peer)
    link = attack.join(0)
    for minute in range(120):
        attack.tell(link, *(f"{VICTIM}:{1 + 8 * minute + number}" for number in range(8)))
        attack.run(60.0 * minute + 60.0)
    assert len(attack.dialled(VICTIM)) == 4 and len(attack.dialled(VICTIM, since=70.0)) == 1


def test_the_words_of_one_member_say_nothing_of_another() -> None:
    ctx = Post(Key("ada")).ctx
    pace = DialPace(ctx, admission_of(ctx, share=lambda peer: peer)[0].users, "told")
    for minute in range(3):
        ctx.now = ctx.now.replace(mono=60.0 * minute)
        pace.on_failed("mallory", f"{VICTIM}:{minute + 1}")
    assert [pace.wait(peer, f"{VICTIM}:80") for peer in ("mallory", "bob")] == [3600.0, 0.0]
    pace.on_answered("mallory", f"{VICTIM}:80")
    assert pace.wait("mallory", f"{VICTIM}:80") == 0.0


def test_all_hosts_together_are_dialled_twice_a_second() -> None:
    attack = Attack()
    for number in range(8):
        link = attack.join(number, f"10.{number}.0.1")
        attack.tell(link, *(f"198.{number}.{host}.1:80" for host in range(60)))
    attack.run(60.0)
    assert 60 <= len(attack.dials) <= 8 + 2 * 60


def test_of_two_addresses_of_a_peer_that_wait_either_may_be_dialled_first() -> None:
    """Before: an error ended the peer when the first one had to wait on, and the other one was dialled in its place."""
    attack = Attack()
    link, ada, peers = attack.join(0), attack.ada, [Key(f"sybil {number}") for number in range(30)]
    records = [record_of(key, f"{VICTIM}:{n}", f"198.18.{n}.1:80") for n, key in enumerate(peers, 1)]
    dials = [effect for effect in ada.got(link, told(*records)) if isinstance(effect, Dial)]
    reached = set[str]()
    for second in range(1, 200):
        ada.at(float(second))  # busy: what is due has to wait
        effects = ada.handle(DialFailed(dials.pop(0).dial, "nobody")) if dials else ada.wake(float(second))
        dials += [effect for effect in effects if isinstance(effect, Dial)]
        reached.update(dial.endpoint for dial in dials)
    assert reached > {f"198.18.{n}.1:80" for n in range(1, 31)}


def test_an_answer_by_the_right_key_gives_a_dial_back() -> None:
    """So a mesh of honest peers forms as fast as its handshakes, also when many of them are at one address."""
    ada, bob = Post(Key("ada")), Post(Key("bob"))
    met = Meeting(ada, bob)
    link = met.connect(bob, host="192.0.2.1")
    others = [Post(Key(f"other {number}")) for number in range(30)]
    records = [record_of(other.key, f"192.0.2.9:{number + 1}") for number, other in enumerate(others)]
    waiting = [effect for effect in ada.got(link, told(*records)) if isinstance(effect, Dial)]
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


@pytest.mark.parametrize("took, least, most", [(0.2, 20, 30), (1.0, 8, 8), (3.0, 3, 3)])
def test_while_handshakes_take_long_no_more_dials_begin_than_are_answered(took: float, least: int, most: int) -> None:
    """In a process with 128 peers more handshakes began than it could end, and all of them were too late."""
    ada, bob = Post(Key("ada")), Post(Key("bob"))
    (dial,) = (effect for effect in ada.handle(Connect("192.0.2.1:80")) if isinstance(effect, Dial))
    link, _ = reach_slowly(ada, bob, dial, took)
    others = {f"192.0.2.{number}:80": Post(Key(f"other {number}")) for number in range(10, 50)}
    records = [record_of(other.key, endpoint) for endpoint, other in others.items()]
    effects = [*ada.got(link, told(*records)), *ada.wake(took + 9.0)]
    dials = [effect for effect in effects if isinstance(effect, Dial)]
    assert least <= len(dials) <= most
    _, then = reach_slowly(ada, others[dials[0].endpoint], dials[0], took)
    assert any(isinstance(effect, Dial) for effect in then)  # an answer gives one back


def test_one_that_handshakes_slowly_on_purpose_does_not_make_dials_wait_for_each_other() -> None:
    """Before: they went one at a time until a quick link came up."""
    ada, bob, eve = Post(Key("ada")), Post(Key("bob")), Post(Key("eve"))
    for number, (peer, took) in enumerate(((bob, 0.2), (eve, 8.0), (eve, 8.0)), 1):
        (dial,) = (effect for effect in ada.handle(Connect(f"192.0.2.{number}:80")) if isinstance(effect, Dial))
        link, _ = reach_slowly(ada, peer, dial, took)
        if peer is bob:
            of_bob = link
    records = [record_of(Post(Key(f"other {number}")).key, f"192.0.2.{number}:80") for number in range(10, 50)]
    effects = [*ada.got(of_bob, told(*records)), *ada.wake(ada.ctx.now.mono + 9.0)]
    assert len([effect for effect in effects if isinstance(effect, Dial)]) >= 20


def reach_slowly(ada: Post, other: Post, dial: Dial, took: float) -> tuple[int, list[Effect]]:
    """Let a dial reach another peer, with which the handshake takes so long; return the link, and what follows."""
    met, number = Meeting(ada, other), 100 * dial.dial
    other.at(ada.ctx.now.mono)
    begun = [(other, other.handle(LinkAccepted(number, "192.0.2.9")))]
    begun.append((ada, ada.handle(LinkDialled(number, dial.dial, other.key.id, "192.0.2.9"))))
    ada.wake(ada.ctx.now.mono + took)
    other.at(ada.ctx.now.mono)
    for post, effects in begun:
        met.carry(post, effects)
    return number, met.take(ada)


def test_what_answered_once_is_dialled_without_a_pace() -> None:
    attack = Attack(addresses=[Address(BOB.id, f"{VICTIM}:7", START)])
    attack._take(attack.ada.start())
    attack.run(20.0)
    assert len(attack.dialled(VICTIM)) > 4


# ---- names and private addresses


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
        self.attack.take(self.attack.links[0], told(record_of(self.post.key, endpoint)))
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
    named, chosen = Address(bob, "told.example:80", START), Address(Key("cyd").id, "chosen.example:80", START)
    again = Post(Key("ada"), addresses=[named, chosen])
    again.contacts.keep([chosen.peer])
    effects = [*again.start(), *again.wake(10.0)]
    assert {each.endpoint for each in effects if isinstance(each, Dial)} == {"chosen.example:80"}
    assert {each.endpoint for each in effects if isinstance(each, Resolve)} == {"told.example:80"}


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
def test_a_private_address_from_the_internet_is_not_dialled(teller: str, endpoint: str, taken: bool) -> None:
    attack = Attack()
    attack.tell(attack.join(0, teller), endpoint)
    book = attack.ada.links.book
    assert [address.endpoint for peer in book for address in book.addresses(peer)] == ([endpoint] if taken else [])


@pytest.mark.parametrize("at", ["127.0.0.1:80", "198.51.100.1:80"], ids=["loopback", "advertised"])
def test_a_neighbour_is_dialled_by_who_tells_no_address_of_its_machine(at: str) -> None:
    """Before: a link with it went through a third."""
    attack = Attack()
    attack.ada.handle(ListeningAt((at,), ("10.8.8.1",)))
    attack.tell(attack.join(0, "203.0.113.9"), "10.8.9.9:80", "192.168.7.9:80")
    book = attack.ada.links.book
    assert [address.endpoint for peer in book for address in book.addresses(peer)] == ["10.8.9.9:80"]


def test_an_endpoint_that_may_not_be_dialled_by_one_link_may_be_by_another() -> None:
    attack = Attack()
    far, near = attack.join(0), attack.join(1, "127.0.0.1")
    record = record_of(CYD, "127.0.0.1:7", "10.0.0.7:7")
    attack.take(far, told(record))
    assert attack.ada.links.book.addresses(CYD.id) == []
    attack.take(near, told(record))
    endpoints = [address.endpoint for address in attack.ada.links.book.addresses(CYD.id)]
    assert endpoints == ["127.0.0.1:7", "10.0.0.7:7"]


def test_peers_that_only_sign_records_keep_no_newcomer_out_of_the_book() -> None:
    """Before: the book was full for seven days, also after restarts, and no newcomer was told to another."""
    settings = Settings(max_addresses=32)
    attack = Attack(settings=settings)
    link = attack.join(0)
    attack.tell(link, *(f"198.51.{number}.1:80" for number in range(100)))
    assert len(attack.ada.links.book) == 32
    for name in ("bob", "cyd"):
        post = Post(Key(name))
        post.handle(ListeningAt((f"192.0.2.1:{7000 + len(name)}",)))
        met = Meeting(attack.ada, post)
        met._links = 10_000 + len(attack.links) * 100
        attack.links.append(met.connect(post, host="192.0.2.1"))
    sent = [effect.frame for effect in attack.ada.wake(1.0) if isinstance(effect, Send)]
    records = {record.id for frame in sent if isinstance(frame, Peers) for record in frame.records}
    assert {BOB.id, CYD.id} <= records


def test_a_newcomer_takes_records_of_members_of_whom_it_has_not_heard_and_of_none_that_are_out() -> None:
    """It is told them by a peer that has no place for it, before it hears of any member."""
    out = Key("out")
    network = Network(said("remove", out, at=2))
    link = network.ada.links.up[network.link]
    new, removed = record_of(MEMBER, "198.51.100.9:7", network=NETWORK), record_of(out, "192.0.2.9:7", network=NETWORK)
    network.ada.links._exchange.on_told_instead(link, [new, removed])
    assert network.dialled(20.0)[:1] == ["198.51.100.9:7"]
    assert out.id not in network.ada.links.book
