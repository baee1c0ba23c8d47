"""Limits that have no other test: what is at them is taken, what is beyond them is not."""

from __future__ import annotations

import pytest

from p2pchat.core.log import UNREADABLE, decode_entry
from p2pchat.core.mesh.election import FollowerState, follower_take_go
from p2pchat.settings import Settings
from tests.core.scripted_nodes import ROOM, Author, World


def test_a_log_builds_on_8_logs_and_an_entry_follows_2_at_most() -> None:
    def told(*, before: int, after: int) -> list[str]:
        ada = World().peer("ada")
        firsts = [Author("bob", f"{n:02x}") for n in range(before)]
        far = ada.far("bob")
        far.say(*(first.say("first") for first in firsts))
        last = Author("bob", "b1", before=[first.mark for first in firsts])
        refs = [firsts[n].ref(1) for n in range(after)]
        said = [line for line in far.say(last.say("last", after=refs)) if line.startswith(("commit b1", "close"))]
        kept = ada.storage.history(ROOM, limit=0)
        return [*said, *(decode_entry(one.raw).k for one in kept if one.log == last.log)]

    assert told(before=8, after=2) == ["commit b1:1..1, show b1:1..1", "text"]
    assert told(before=9, after=2) == ["close bob: malformed"]
    assert told(before=8, after=3) == ["commit b1:1..1, show b1:1..1", UNREADABLE]


@pytest.mark.parametrize(("runs", "refused"), [(8, True), (9, False)])
def test_as_many_superseded_runs_are_remembered_as_the_setting_says(runs: int, refused: bool) -> None:
    """A run that came back is turned away while it is remembered, and taken for a new one when it is not."""
    standing, link = FollowerState(), 0
    most = Settings().superseded_runs
    for link in range(1, runs + 2):
        standing = follower_take_go(standing, link, link, f"{link:016x}", 1, most).state
    verdict = follower_take_go(standing, link + 1, link + 1, f"{1:016x}", 9, most)
    assert (verdict.closes == link + 1) == refused
