"""Announcements of hosted users: immediate, batched, and limited in rate."""

from __future__ import annotations

from p2pchat.core.contacts import Blocks
from p2pchat.core.effects import Send
from p2pchat.core.mesh.handshake import ServerSide
from p2pchat.core.mesh.peer_link import LinkPhase, PeerLink
from p2pchat.core.mesh.presence_tracker import PresenceAnnouncer
from p2pchat.core.node_context import HostedIdentity, NetworkCredentials, NodeContext, Now
from p2pchat.protocol import Here
from p2pchat.settings import Settings
from simulation.simulation import Simulation
from tests.core.mesh.linked_peers import START, Draws, K, Key, N, admission_of

ADA, BOB, CYD, GUEST = Key("ada"), Key("bob"), Key("cyd"), Key("guest")


class Announcing:
    """Ada's peer with its links; it hosts a guest too. `sent` returns the frames and their links."""

    def __init__(self, *links: int) -> None:
        self.ctx = NodeContext(Settings(), ADA.id, Draws("ada"))
        self.at(0.0)
        users = [HostedIdentity(ADA.id, "ada", ADA.sign), HostedIdentity(GUEST.id, "guest", GUEST.sign)]
        self.announcing = PresenceAnnouncer(
            self.ctx, N, users, Blocks(self.ctx, admission_of(self.ctx)[0].users.may_be_own)
        )
        self.announcing.start()
        self.links = {id: self.link(id) for id in links}
        self.ctx.out.clear()

    def at(self, mono: float) -> None:
        self.ctx.now = Now(mono, START + int(mono * 1_000_000))

    def link(self, id: int) -> PeerLink:
        link = PeerLink(
            id, "10.0.0.1", ServerSide(ADA.id, NetworkCredentials(N, K), bytes(32)), phase=LinkPhase.UP, peer=BOB.id
        )
        self.announcing.link_up(link)
        return link

    def says(self, mono: float, status: str, user: Key = ADA) -> list[tuple[list[int], Here]]:
        self.at(mono)
        self.announcing.set(user.id, status, "")
        return self.sent()

    def wake(self, mono: float) -> list[tuple[list[int], Here]]:
        self.at(mono)
        self.ctx.run_due()
        return self.sent()

    def sent(self) -> list[tuple[list[int], Here]]:
        out = [*self.ctx.out]
        self.ctx.out.clear()
        return [(send.links, send.frame) for send in out if isinstance(send, Send) and isinstance(send.frame, Here)]


def words(frames: list[tuple[list[int], Here]]) -> list[tuple[list[int], list[tuple[str, str]]]]:
    return [(links, [(user.name, user.status) for user in here.users]) for links, here in frames]


def test_a_change_goes_to_all_links_in_one_frame() -> None:
    gate = Announcing(1, 2, 3)
    assert words(gate.says(10.0, "idle")) == [([1, 2, 3], [("ada", "idle")])]
    assert gate.says(11.0, "idle") == []


def test_a_flapping_status_costs_two_frames_a_second() -> None:
    gate = Announcing(1, 2)
    frames = gate.says(10.0, "idle")
    for tenth in range(1, 100):
        frames += gate.says(10.0 + tenth / 10, "online" if tenth % 2 else "idle") + gate.wake(10.0 + tenth / 10)
    frames += gate.wake(30.0)
    assert len(frames) <= 1 + 2 * 10
    assert words(frames[-1:]) == [([1, 2], [("ada", "online")])]


def test_changes_within_half_a_second_are_sent_together() -> None:
    gate = Announcing(1)
    gate.says(10.0, "idle")
    assert gate.says(10.1, "online") == gate.says(10.2, "offline", GUEST) == gate.wake(10.4) == []
    ((_, frames),) = words(gate.wake(10.5))
    assert sorted(frames) == [("ada", "online"), ("guest", "offline")]


def test_a_status_has_its_time() -> None:
    gate = Announcing(1)
    ((_, here),) = gate.says(10.0, "idle")
    assert here.users[0].since == START + 10_000_000
    assert gate.announcing.status(GUEST.id) == ("online", "", 0), "nobody has set it"


def test_a_new_link_gets_all_users_and_none_twice() -> None:
    gate = Announcing(1)
    gate.says(10.0, "idle")
    gate.says(10.1, "online")
    gate.link(2)
    assert [links for links, _ in gate.sent()] == [[2]]
    assert words(gate.wake(10.5)) == [([1], [("ada", "online")])]


def test_a_certificate_renewed_as_a_link_comes_up_is_not_the_whole_list() -> None:
    gate = Announcing(1)
    gate.at(4 * 24 * 3600.0)  # more than half of its life
    gate.link(2)
    frames = words(gate.sent())
    assert [sorted(users) for links, users in frames if 2 in links] == [[("ada", "online"), ("guest", "online")]]
    assert [users for links, users in frames if 1 in links] == [[("guest", "online")]]


def test_changes_of_hosting_are_announced_before_other_frames() -> None:
    gate = Announcing(1)
    gate.says(10.0, "idle")
    gate.announcing.host(HostedIdentity(CYD.id, "cyd", CYD.sign))
    gate.announcing.introduce()
    assert words(gate.sent()) == [([1], [("cyd", "online")])]
    gate.announcing.release(CYD.id)
    assert [here.gone for _, here in gate.sent()] == [[CYD.id]]


def test_a_full_link_gets_the_latest_status_when_it_drains() -> None:
    gate = Announcing(1, 2)
    gate.links[2].full = True
    assert [links for links, _ in gate.says(10.0, "idle")] == [[1]]
    gate.says(20.0, "online")
    gate.says(30.0, "offline")
    gate.links[2].full = False
    gate.announcing.drained(2)
    assert words(gate.sent()) == [([2], [("ada", "offline")])]


def test_a_full_link_gets_a_gap_in_hosting_when_it_drains() -> None:
    """The peer ignored earlier frames about that user, and compares again only after an announcement."""
    gate = Announcing(1)
    gate.announcing.host(HostedIdentity(CYD.id, "cyd", CYD.sign))
    gate.announcing.introduce()
    gate.sent()
    gate.links[1].full = True
    gate.announcing.release(CYD.id)
    gate.announcing.host(HostedIdentity(CYD.id, "cyd", CYD.sign))
    gate.links[1].full = False
    gate.announcing.drained(1)
    frames = [(here.gone, [user.name for user in here.users], here.more) for _, here in gate.sent()]
    assert frames == [([CYD.id], [], True), ([], ["cyd"], False)]


# ---- a whole mesh

PEERS = 20


def test_twenty_peers_at_once_exchange_addresses_once() -> None:
    """The bound: one frame per link and direction when it comes up, and 1 + 2 t for t seconds of changes."""
    sim = Simulation(seed=20, settings=Settings())
    peers = sim.peers(PEERS)
    sim.run(20)
    links = PEERS * (PEERS - 1)  # each in both directions
    assert all(len(peer.linked) == PEERS - 1 for peer in peers)
    assert links <= sim.frames["Here"] <= links + 2 * sim.counts["link_replaced"]  # crossing dials make two links

    before = sim.frames["Here"]
    for peer in peers:
        peer.set_presence("idle", "lunch")
    assert sim.frames["Here"] - before == links
    sim.run(2)  # a packet may be under way for 1.5
    for peer in peers:
        lines = [line for line in peer.lines if line["event"] == "presence" and line["status"] == "idle"]
        assert len(lines) == PEERS
    before = sim.frames["Here"]
    for _ in range(20):  # a status that flaps for a second
        peers[0].set_presence("online")
        sim.run(0.025)
        peers[0].set_presence("idle", "lunch")
        sim.run(0.025)
    sim.run(2)
    assert sim.frames["Here"] - before <= (1 + 2 * 1) * (PEERS - 1)
    seen = [peer.node.presence.status(peers[0].user)[:2] for peer in peers if peer.node]
    assert seen == [("idle", "lunch")] * PEERS
