"""Presence of users: arrivals, departures, and certificates of hosting."""

from __future__ import annotations

import pytest

from p2pchat.core.contacts import Blocks
from p2pchat.core.effects import Effect, Guests, PresenceChanged, Send, UserJoined, UserLeft, WakeAt
from p2pchat.core.mesh.handshake import (
    HOST_TAG,
    LIFE_MS,
    TOLERANCE_MS,
    Certificates,
    ServerSide,
    host_message,
    make_cert,
)
from p2pchat.core.mesh.peer_link import LinkPhase, PeerLink
from p2pchat.core.mesh.presence_tracker import PresenceTracker
from p2pchat.core.names import name_fault
from p2pchat.core.node_context import HostedIdentity, NetworkCredentials, NodeContext, Now
from p2pchat.errors import ProtocolError
from p2pchat.protocol import Cert, Here, Hosted, encode
from p2pchat.settings import Settings
from tests.core.mesh.linked_peers import START, Draws, K, Key, N, admission_of

ADA, BOB, GATE, GUEST = Key("ada"), Key("bob"), Key("gate"), Key("guest")
NOW_MS = START // 1000
HOUR = 3600


class Here_:
    """Ada's PresenceTracker with its links. Time does not pass unless moved."""

    def __init__(self, *users: HostedIdentity, settings: Settings | None = None) -> None:
        self.ctx = NodeContext(settings or Settings(), ADA.id, Draws("ada"))
        self.staying: set[str] | None = None  # None: everybody
        self.members: dict[str, str] = {}  # of users who do not count by themselves
        self.gone: list[str] = []
        own = users or [HostedIdentity(ADA.id, "ada", ADA.sign)]
        admission, _ = admission_of(self.ctx, share=self._share)
        self.blocks = Blocks(self.ctx, admission.users.may_be_own)
        self.presence = PresenceTracker(self.ctx, N, own, self, admission, self.blocks)
        self.at(0.0)

    def at(self, mono: float) -> None:
        self.ctx.now = Now(mono, START + int(mono * 1_000_000))

    def link_up(self, link: PeerLink) -> None: ...

    def link_down(self, link: PeerLink, reason: str) -> None: ...

    def report_unreachable(self, peer: str, by: str) -> None: ...

    def forget(self, user: str) -> None:
        self.gone.append(user)

    def stays(self, user: str) -> bool:
        return self.staying is None or user in self.staying

    def _share(self, user: str) -> str:
        return self.members.get(user, user)

    def take(self) -> list[Effect]:
        out = [*self.ctx.out]
        self.ctx.out.clear()
        return [effect for effect in out if not isinstance(effect, WakeAt)]

    def wake(self, mono: float) -> list[Effect]:
        self.at(mono)
        self.ctx.run_due()
        return self.take()

    def link(self, id: int, peer: Key) -> PeerLink:
        link = PeerLink(
            id, "10.0.0.1", ServerSide(ADA.id, NetworkCredentials(N, K), bytes(32)), phase=LinkPhase.UP, peer=peer.id
        )
        self.presence.link_up(link)
        self.take()
        return link

    def here(self, link: PeerLink, *users: Hosted, gone: list[str] | None = None, more: bool = False) -> list[Effect]:
        self.presence.here(link, Here(list(users), gone or [], more))
        return self.take()

    def down(self, link: PeerLink, reason: str) -> list[Effect]:
        self.presence.link_down(link, reason)
        return self.take()


def word(
    key: Key, status: str = "online", text: str | None = None, since: int | None = None, cert: Cert | None = None
) -> Hosted:
    return Hosted(id=key.id, name="somebody", status=status, text=text, since=since, cert=cert)


def departures(effects: list[Effect]) -> list[tuple[str, str]]:
    return [(effect.user, effect.reason) for effect in effects if isinstance(effect, UserLeft)]


def joins(effects: list[Effect]) -> list[str]:
    return [effect.user for effect in effects if isinstance(effect, UserJoined)]


# ---- joined and left


def test_a_user_joins_with_the_first_link_and_is_gone_with_the_last() -> None:
    ada = Here_()
    one, two = ada.link(1, BOB), ada.link(2, GATE)
    cert = make_cert(N, BOB.id, BOB.sign, GATE.id, NOW_MS)
    assert ada.here(one, word(BOB)) == [UserJoined(BOB.id), PresenceChanged(BOB.id, "online", "", 0)]
    assert ada.here(two, word(BOB, cert=cert)) == []
    assert ada.presence.hosts[BOB.id] == {1, 2}
    assert ada.down(one, "left") == []
    assert departures(ada.down(two, "left")) == [(BOB.id, "left")]
    assert ada.presence.status(BOB.id)[0] == "offline"
    assert ada.presence.online() == set()


@pytest.mark.parametrize("reason", ["lost", "timeout"])
def test_a_broken_link_is_a_departure_after_two_seconds(reason: str) -> None:
    ada = Here_()
    link = ada.link(1, BOB)
    ada.here(link, word(BOB))
    assert ada.down(link, reason) == []
    assert ada.presence.online() == {BOB.id}
    assert ada.wake(1.9) == []
    assert departures(ada.wake(2.1)) == [(BOB.id, reason)]
    assert ada.wake(10.0) == []


def test_a_quick_reconnect_is_silent() -> None:
    ada = Here_()
    link = ada.link(1, BOB)
    ada.here(link, word(BOB))
    ada.down(link, "lost")
    ada.wake(1.0)
    assert ada.here(ada.link(2, BOB), word(BOB)) == []
    assert ada.wake(10.0) == []


def test_a_restart_with_a_goodbye_is_a_departure_and_a_return() -> None:
    ada = Here_()
    link = ada.link(1, BOB)
    ada.here(link, word(BOB))
    assert departures(ada.down(link, "left")) == [(BOB.id, "left")]
    assert joins(ada.here(ada.link(2, BOB), word(BOB))) == [BOB.id]


def test_a_replaced_link_is_no_departure() -> None:
    ada = Here_()
    old = ada.link(1, BOB)
    ada.here(old, word(BOB, "idle"))
    assert ada.down(old, "replaced") == []
    new = ada.link(2, BOB)
    assert ada.wake(1.9) == []
    assert ada.here(new, word(BOB, "idle")) == []
    assert ada.wake(60.0) == []
    assert departures(ada.down(new, "left")) == [(BOB.id, "left")]


def test_a_user_missing_after_a_replacement_has_left() -> None:
    ada = Here_()
    old = ada.link(1, GATE)
    cert = make_cert(N, GUEST.id, GUEST.sign, GATE.id, NOW_MS)
    ada.here(old, word(GATE), word(GUEST, cert=cert))
    ada.down(old, "replaced")
    new = ada.link(2, GATE)
    assert ada.here(new, word(GATE), more=True) == []
    assert ada.here(new) == []
    assert departures(ada.wake(2.1)) == [(GUEST.id, "lost")]


def test_a_replacement_that_breaks_before_its_full_list_loses_the_users_too() -> None:
    ada = Here_()
    old = ada.link(1, BOB)
    ada.here(old, word(BOB))
    ada.down(old, "replaced")
    new = ada.link(2, BOB)
    assert ada.down(new, "lost") == []
    assert departures(ada.wake(2.1)) == [(BOB.id, "lost")]


def test_a_user_hosted_here_too_neither_joins_nor_leaves() -> None:
    ada = Here_()
    link = ada.link(1, GATE)
    cert = make_cert(N, ADA.id, ADA.sign, GATE.id, NOW_MS)
    assert joins(ada.here(link, word(ADA, cert=cert))) == []
    assert departures(ada.down(link, "left")) == []


def test_users_no_longer_hosted_have_left() -> None:
    ada = Here_()
    link = ada.link(1, GATE)
    ada.here(link, word(GUEST, cert=make_cert(N, GUEST.id, GUEST.sign, GATE.id, NOW_MS)))
    assert departures(ada.here(link, gone=[GUEST.id, BOB.id])) == [(GUEST.id, "left")]
    assert link.users == {}


# ---- status


def test_the_best_status_counts_and_changes_are_reported_once() -> None:
    ada = Here_()
    one, two = ada.link(1, BOB), ada.link(2, GATE)
    cert = make_cert(N, BOB.id, BOB.sign, GATE.id, NOW_MS)
    ada.here(one, word(BOB, "idle", "lunch", 5))
    assert ada.here(two, word(BOB, "online", None, 7, cert)) == [PresenceChanged(BOB.id, "online", "", 7)]
    assert ada.here(two, word(BOB, "offline", None, 9, cert)) == [PresenceChanged(BOB.id, "idle", "lunch", 5)]
    assert ada.here(one, word(BOB, "idle", "lunch", 5)) == []
    assert ada.presence.status(BOB.id) == ("idle", "lunch", 5)


def test_changes_are_sent_together_within_half_a_second() -> None:
    """The promise is one second (docs/protocol.md, "Receipts and presence")."""
    ada = Here_()
    ada.link(1, BOB)
    ada.wake(60.0)
    told = []
    for status, text in (("idle", "lunch"), ("online", ""), ("idle", "gone home")):
        ada.presence.set(ADA.id, status, text)
        told += ada.take()
    told += ada.wake(60.5)
    frames = [effect.frame for effect in told if isinstance(effect, Send) and isinstance(effect.frame, Here)]
    assert [[(user.status, user.text) for user in frame.users] for frame in frames] == [
        [("idle", "lunch")],
        [("idle", "gone home")],
    ]


def test_an_unheard_user_is_unknown() -> None:
    assert Here_().presence.status(BOB.id) == ("unknown", "", 0)


def test_a_user_offline_at_all_hosts_is_not_online_but_has_not_left() -> None:
    ada = Here_()
    assert joins(ada.here(ada.link(1, BOB), word(BOB, "offline"))) == [BOB.id]
    assert ada.presence.online() == set()
    assert ada.presence.hosts[BOB.id] == {1}


def test_a_gateways_user_is_here_while_it_does_not_say_offline() -> None:
    ada = Here_()
    cert = make_cert(N, GUEST.id, GUEST.sign, GATE.id, NOW_MS)
    gate, bob = ada.link(1, GATE), ada.link(2, BOB)
    assert ada.here(gate, word(GUEST, "offline", cert=cert)) == [PresenceChanged(GUEST.id, "offline", "", 0)]
    events = ada.here(gate, word(GUEST, "online", None, 5, cert))
    assert events == [UserJoined(GUEST.id), PresenceChanged(GUEST.id, "online", "", 5)]
    events = ada.here(gate, word(GUEST, "offline", None, 6, cert))
    assert events == [UserLeft(GUEST.id, "left"), PresenceChanged(GUEST.id, "offline", "", 6)]
    there = make_cert(N, GUEST.id, GUEST.sign, BOB.id, NOW_MS)
    assert joins(ada.here(bob, word(GUEST, "idle", None, 7, there))) == [GUEST.id]
    assert departures(ada.down(bob, "left")) == [(GUEST.id, "left")]  # the gateway said offline
    assert ada.down(gate, "lost") == []


def test_a_message_to_the_room_is_for_guests_by_the_peers_that_host_them() -> None:
    ada, certs = Here_(), [make_cert(N, GUEST.id, GUEST.sign, gate.id, NOW_MS) for gate in (BOB, GATE)]
    bob, gate = ada.link(1, BOB), ada.link(2, GATE)
    ada.here(bob, word(BOB), word(GUEST, cert=certs[0]))

    def guests() -> Guests:
        return ada.presence.expected_recipients(ADA.id).guests

    assert guests() == (((BOB.id,), (GUEST.id,)),)
    ada.here(gate, word(GUEST, cert=certs[1]))
    assert guests() == ((tuple(sorted((BOB.id, GATE.id))), (GUEST.id,)),)
    ada.here(bob, gone=[GUEST.id])
    assert guests() == (((GATE.id,), (GUEST.id,)),)
    ada.down(gate, "lost")  # it may be back at once
    assert guests() == (((GATE.id,), (GUEST.id,)),)
    assert ada.presence.users_at({BOB.id, GATE.id}) == {BOB.id, GATE.id}
    ada.link(9, GATE)
    assert ada.presence.users_at({GATE.id}) == {GATE.id}, "it has not listed its users yet"


def test_a_list_of_one_peer_expels_nobody_of_another() -> None:
    """A removal that is not durable yet may be lost or taken back: then nobody would list them again."""
    ada = Here_()
    bob = ada.link(1, BOB)
    ada.here(bob, word(BOB))
    ada.presence.admission.admits = lambda user, member: user != BOB.id  # type: ignore[method-assign]
    ada.here(ada.link(2, GATE), word(GATE))
    assert BOB.id in bob.users
    ada.presence.expel({BOB.id})
    assert BOB.id not in bob.users


def test_users_of_one_peer_see_each_other() -> None:
    guest = HostedIdentity(GUEST.id, "guest", GUEST.sign, status="offline")
    ada = Here_(HostedIdentity(ADA.id, "ada", ADA.sign), guest)
    ada.presence.announcer.start()
    ada.presence.set(GUEST.id, "online", "hello")
    assert ada.take()[:2] == [UserJoined(GUEST.id), PresenceChanged(GUEST.id, "online", "hello", NOW_MS * 1000)]
    everybody = tuple(sorted((ADA.id, GUEST.id)))
    for_guest, for_ada = map(ada.presence.expected_recipients, (GUEST.id, ADA.id))
    assert for_guest == for_ada == (everybody, everybody, ())
    assert for_guest is for_ada  # one list for all writers
    ada.blocks.set(ADA.id, GUEST.id, True)
    assert ada.presence.expected_recipients(GUEST.id) == ((), (), ())  # as where nobody else is, who blocks or not
    ada.presence.release(GUEST.id)
    assert departures(ada.take()) == [(GUEST.id, "left")]
    assert ada.presence.expected_recipients(ADA.id) == ((), (), ())


def test_hosting_one_more_makes_one_certificate() -> None:
    ada = Here_(HostedIdentity(ADA.id, "ada", ADA.sign))
    ada.link(1, BOB)
    signed: list[str] = []

    def hosted(key: Key) -> HostedIdentity:
        def sign(data: bytes) -> bytes:
            signed.append(key.id)
            return key.sign(data)

        return HostedIdentity(key.id, "guest", sign)

    for key in (GUEST, GATE, BOB):
        ada.presence.host(hosted(key))
    frames = [effect.frame for effect in (*ada.take(), *ada.wake(0.6)) if isinstance(effect, Send)]
    assert signed == [GUEST.id, GATE.id, BOB.id]
    announced = [sorted(user.id for user in frame.users) for frame in frames if isinstance(frame, Here)]
    assert announced == [[GUEST.id], sorted((GATE.id, BOB.id))]  # even a thousand are a few frames


def test_a_new_user_is_announced_before_its_first_frame() -> None:
    ada = Here_(HostedIdentity(ADA.id, "ada", ADA.sign))
    ada.link(1, BOB)
    for key in (GUEST, GATE):
        ada.presence.host(HostedIdentity(key.id, "guest", key.sign))
    ada.take()
    ada.presence.announcer.introduce()
    (frame,) = [effect.frame for effect in ada.take() if isinstance(effect, Send)]
    assert isinstance(frame, Here) and [user.id for user in frame.users] == [GATE.id]
    ada.presence.announcer.introduce()
    assert ada.take() == []


def test_a_status_of_a_later_version_is_unknown() -> None:
    ada = Here_()
    effects = ada.here(ada.link(1, BOB), word(BOB, "dancing"))
    assert effects[1:] == [PresenceChanged(BOB.id, "unknown", "", 0)]


# ---- announcing


def test_a_new_link_gets_all_users_in_pages() -> None:
    users = [HostedIdentity(key.id, "u", key.sign) for key in (ADA, BOB, GUEST)]
    ada = Here_(*users, settings=Settings(page_items=2))
    ada.presence.link_up(
        PeerLink(1, "h", ServerSide(ADA.id, NetworkCredentials(N, K), bytes(32)), phase=LinkPhase.UP, peer=GATE.id)
    )
    frames = [effect.frame for effect in ada.take() if isinstance(effect, Send)]
    assert [(len(frame.users), frame.more) for frame in frames if isinstance(frame, Here)] == [(2, True), (1, False)]


def test_pages_fit_a_frame_with_names_of_any_length() -> None:
    keys = [Key(str(number)) for number in range(300)]
    ada = Here_(*[HostedIdentity(key.id, "\U0001f600" * 32, key.sign) for key in keys])
    for key in keys:
        ada.presence.set(key.id, "idle", "\x01" * 600)
    ada.take()
    ada.presence.link_up(
        PeerLink(1, "h", ServerSide(ADA.id, NetworkCredentials(N, K), bytes(32)), phase=LinkPhase.UP, peer=GATE.id)
    )
    frames = [effect.frame for effect in ada.take() if isinstance(effect, Send)]
    assert len(frames) > 2
    assert max(len(encode(frame)) for frame in frames) <= 256 * 1024


def test_a_change_goes_to_all_links_and_to_a_full_one_when_it_drains() -> None:
    ada = Here_()
    ada.link(1, BOB)
    full = ada.link(2, GATE)
    full.full = True
    ada.presence.set(ADA.id, "idle", "away")
    frame = Here([Hosted(ADA.id, "ada", "idle", "away", START)])
    assert ada.take() == [Send(frame, [1]), PresenceChanged(ADA.id, "idle", "away", START)]
    full.full = False
    ada.presence.announcer.drained(2)
    assert ada.take() == [Send(frame, [2])]
    ada.presence.set(ADA.id, "idle", "away")
    assert ada.take() == []


# ---- certificates of hosting


def signed(tag: bytes, until_ms: int) -> Cert:
    """Return a certificate signed under a tag; b"" is the right one."""
    message = host_message(N, GUEST.id, GATE.id, NOW_MS, until_ms)
    return Cert(NOW_MS, until_ms, GUEST.sign(tag + message[len(HOST_TAG) :] if tag else message).hex())


@pytest.mark.parametrize(
    "cert",
    [
        None,
        make_cert(N, GUEST.id, GUEST.sign, BOB.id, NOW_MS),
        make_cert(N, GUEST.id, GATE.sign, GATE.id, NOW_MS),
        make_cert(N, GUEST.id, GUEST.sign, GATE.id, NOW_MS - LIFE_MS - TOLERANCE_MS - 1),
        make_cert(N, GUEST.id, GUEST.sign, GATE.id, NOW_MS + TOLERANCE_MS + 1),
        signed(b"", NOW_MS + LIFE_MS + 1),
        signed(b"p2pchat/head/1\0", NOW_MS + LIFE_MS),
    ],
    ids=["none", "for another peer", "by another key", "over", "not begun", "too long", "another tag"],
)
def test_a_user_without_a_good_certificate_is_a_fault(cert: Cert | None) -> None:
    ada = Here_()
    link = ada.link(1, GATE)
    with pytest.raises(ProtocolError) as caught:
        ada.here(link, word(GATE), word(GUEST, cert=cert))
    assert caught.value.code == "host"
    assert link.users == {}
    assert ada.presence.online() == set()


@pytest.mark.parametrize("begun_ms", [NOW_MS - LIFE_MS - TOLERANCE_MS, NOW_MS + TOLERANCE_MS])
def test_clocks_may_differ_by_an_hour(begun_ms: int) -> None:
    ada = Here_()
    cert = make_cert(N, GUEST.id, GUEST.sign, GATE.id, begun_ms)
    assert joins(ada.here(ada.link(1, GATE), word(GUEST, cert=cert))) == [GUEST.id]


def test_our_own_users_certificates_are_made_and_renewed_at_half() -> None:
    guest = HostedIdentity(GUEST.id, "guest", GUEST.sign)
    ada = Here_(guest)
    ada.link(1, BOB)
    first = guest.cert
    assert first is not None
    assert Certificates(N).fault(GUEST.id, ADA.id, first, NOW_MS) == ""
    half = LIFE_MS / 2000
    assert not [effect for effect in ada.wake(half - HOUR) if isinstance(effect, Send)]
    (send,) = [effect for effect in ada.wake(half + 2 * HOUR) if isinstance(effect, Send)]
    assert isinstance(send.frame, Here)
    assert guest.cert != first
    assert send.frame.users[0].cert == guest.cert


def test_a_user_whose_certificate_is_not_renewed_has_left() -> None:
    ada = Here_()
    cert = make_cert(N, GUEST.id, GUEST.sign, GATE.id, NOW_MS)
    ada.here(ada.link(1, GATE), word(GUEST, cert=cert))
    assert departures(ada.wake(LIFE_MS / 1000)) == []
    assert departures(ada.wake((LIFE_MS + TOLERANCE_MS) / 1000 + HOUR)) == [(GUEST.id, "left")]


def test_hosted_users_of_a_peer_are_limited() -> None:
    ada = Here_(settings=Settings(max_hosted_users=1))
    link = ada.link(1, BOB)
    ada.here(link, word(BOB))
    with pytest.raises(ProtocolError) as caught:
        ada.here(link, word(GUEST, cert=make_cert(N, GUEST.id, GUEST.sign, BOB.id, NOW_MS)))
    assert caught.value.code == "limit"


@pytest.mark.parametrize("name", ["ada", "Ada Lovelace", "愛", "x" * 32, "é"])
def test_names(name: str) -> None:
    assert name_fault(name) == ""


@pytest.mark.parametrize(
    "name", ["", " a", "a ", "x" * 33, "a\nb", "a#b", "@a", "a/b", "a,b", "a\u202eb", "\u200b", "e\u0301"]
)
def test_no_names(name: str) -> None:
    assert name_fault(name)
