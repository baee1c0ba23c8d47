"""Each kind of frame ten thousand times, each time with other values: no core fails, and none plans without bound.

Before: a few hundred addresses of one peer were dropped by functions that call each other, and the process ended.
"""

from __future__ import annotations

from random import Random

import pytest

from p2pchat.protocol import encode
from p2pchat.settings import Settings
from tests.core.scripted_nodes import World
from tests.fuzz.checked_node import CheckedNode
from tests.fuzz.choices import Supply
from tests.fuzz.member_frames import MemberFrames
from tests.fuzz.nodes import NodeSession

FRAMES = 10_000
AT_ONCE = 50
KINDS = ("have", "want", "digest", "here", "peers", "other", "read", "evidence", "signed", "fact")


class EndlessSupply(Supply):
    """Values without end, from a seed."""

    def __init__(self, seed: str) -> None:
        super().__init__(b"")
        self._chance = Random(seed)

    @property
    def left(self) -> int:
        return 1

    def take(self, count: int) -> bytes:
        return self._chance.randbytes(count)

    def _byte(self) -> int:
        return self._chance.getrandbits(8)


@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_frames_of_a_kind_end_no_core(kind: str) -> None:
    session = NodeSession(EndlessSupply(f"floods of {kind}"))
    session.world = World()
    session.peer = CheckedNode(session.world, "ada", Settings())
    session.sayings = MemberFrames(session.supply, session.peer, session.live)
    makers = {"fact": lambda: session.sayings.fact("bob")}
    make = makers.get(kind) or getattr(session.sayings, kind)
    for _ in range(FRAMES // AT_ONCE):
        while not session.live():
            session.link()
            session.begin_group()
        session.put(b"".join(encode(make()) for _ in range(AT_ONCE)))
        session.world.settle()
    session.world.pass_time(4 * 3600.0)  # what is planned is due
    assert session.peer.up
