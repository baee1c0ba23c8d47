"""Long tests of `tests/core/mesh/test_unwritten_users.py`."""

from __future__ import annotations

from p2pchat.core.effects import (
    LinkChanged,
    ManyChanged,
    PresenceChanged,
    UserJoined,
    UserLeft,
)
from p2pchat.core.inputs import QuotaLifted
from tests.core.scripted_nodes import IDS, World


def test_a_contact_that_reconnects_all_the_time_causes_few_lines() -> None:
    """It wrote a thousand lines a second into the event log of each peer."""
    world = World()
    ada = world.peer("ada")
    ada.put(QuotaLifted(IDS["bob"]))
    for _ in range(60):
        for _ in range(20):
            ada.drop(ada.far("bob"))
        world.pass_time(1.0)
    world.pass_time(3.0)
    events = [event for event in ada.events if isinstance(event, LinkChanged | UserJoined | UserLeft | PresenceChanged)]
    shown = [event for event in events if not (isinstance(event, LinkChanged) and event.counted)]
    assert len(shown) <= 60 + 64 + 300 + 64 * 20
    links = [event for event in events if isinstance(event, LinkChanged)]
    counts = sum(event.links for event in ada.events if isinstance(event, ManyChanged))
    assert len(links) == 2400 and sum(event.counted for event in links) == counts
