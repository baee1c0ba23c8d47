"""Changes of presence as programs are told them: at a rate for each member, and always the last one."""

from __future__ import annotations

from p2pchat.core.effects import Effect, PresenceChanged, UserJoined, UserLeft
from p2pchat.core.mesh.peer_link import PeerLink
from p2pchat.core.work_limits import rates_of
from p2pchat.protocol import Hosted
from p2pchat.settings import Settings
from tests.core.mesh.linked_peers import Key
from tests.core.mesh.test_presence_tracker import BOB, GATE, Here_, departures, joins, word
from tests.core.mesh.test_unwritten_users import guests

RATE = 4
BURST = int(
    rates_of(Settings(events_a_second=RATE))["presence"].at_once
)  # joined, and online: two for each user who comes


def gateway(count: int) -> tuple[Here_, PeerLink, list[Hosted]]:
    """Return Ada, her link to a gateway, and its users, who are nobody's contacts."""
    ada = Here_(settings=Settings(events_a_second=RATE))
    ada.staying = set()
    users = guests(GATE, *range(count))
    return ada, ada.link(1, GATE), users


def rest(ada: Here_, seconds: int) -> list[Effect]:
    """Let time pass, and return what was told."""
    told: list[Effect] = []
    for _ in range(seconds):
        told += ada.wake(ada.ctx.now.mono + 1)
    return told


def test_many_users_of_a_member_are_all_told_those_first_who_came_first() -> None:
    ada, gate, users = gateway(60)
    at_once = ada.here(gate, *users)
    assert len(at_once) == BURST
    waited = rest(ada, 30)
    assert joins(at_once + waited) == [user.id for user in users]
    told = {effect.user: effect.status for effect in at_once + waited if isinstance(effect, PresenceChanged)}
    assert told == dict.fromkeys((user.id for user in users), "online")


def test_other_members_do_not_wait_for_one_that_changes_all_the_time() -> None:
    ada, gate, users = gateway(60)
    ada.here(gate, *users)
    assert joins(ada.here(ada.link(2, BOB), word(BOB))) == [BOB.id]


def test_who_comes_and_goes_all_the_time_is_told_at_a_rate_and_as_it_is_in_the_end() -> None:
    for is_here in (True, False):
        ada, gate, users = gateway(50)
        told = ada.here(gate, *users)
        for _ in range(60):
            told += ada.here(gate, gone=[user.id for user in users])
            told += rest(ada, 1)
            told += ada.here(gate, *users)
        if not is_here:
            told += ada.here(gate, gone=[user.id for user in users])
        assert len(told) <= BURST + 60 * 2 * RATE
        told += rest(ada, 60)
        for user in users:
            came = [change for change in told if isinstance(change, UserJoined | UserLeft) and change.user == user.id]
            for number, change in enumerate(came):
                assert isinstance(change, UserLeft if number % 2 else UserJoined)
            assert len(came) % 2 == is_here


def test_what_is_told_late_of_a_user_is_told_before_what_follows() -> None:
    """A user left, which was told late, and came again: programs were told that it joined twice."""
    ada, gate, users = gateway(BURST // 2)
    first = users[0].id
    assert first in joins(ada.here(gate, *users))
    assert ada.here(gate, gone=[first]) == []
    ada.at(0.5)  # there are tokens again, and it is not told yet
    assert ada.here(gate, users[0]) == []
    assert departures(ada.here(gate, gone=[first])) == []
    assert departures(ada.wake(1.0)) == [(first, "left")]


def test_ever_new_users_leave_nothing_behind() -> None:
    ada, gate, _ = gateway(0)
    for number in range(500):
        guest = Key(f"guest {number % 60}")
        ada.here(gate, *guests(GATE, number % 60))
        ada.here(gate, gone=[guest.id])
    assert len(ada.presence.events._waiting) <= 60
    rest(ada, 60)
    assert ada.presence.events._waiting == {}
