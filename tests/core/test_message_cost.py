"""What the core does for one message, from its writer to its reader and back, in numbers that only fall.

A mechanism that every message passes is seen here, though its own tests are about something else. The numbers are the
same on each machine; that of bytecodes is one of a version of Python.
"""

from __future__ import annotations

import sys

from p2pchat.core.inputs import ConversationOpened
from p2pchat.core.sync.known_conversations import dm_naming
from tests.core.scripted_nodes import IDS, World, dm
from tests.core.steps import cost_of

BYTECODES = 7_000  # of both nodes, with Python 3.11; whoever makes it fewer lowers the number
MODULES = 21  # of the core that they enter; the same


def test_a_message_costs_no_more_than_before() -> None:
    world = World()
    ada, bob = world.peer("ada"), world.peer("bob")
    world.link(ada, bob)
    ada.put(ConversationOpened(dm_naming(ada.id, IDS["bob"])))
    told: list[str] = []

    def write() -> None:
        told[:] = ada.say("a text of some words", to=dm("ada", "bob"))
        world.settle()
        told.extend(ada.take())

    for _ in range(3):  # what only the first ones of a log do is done, and what waits for a while
        write()
        world.pass_time(20)
    bytecodes, modules = cost_of(write)
    assert any(line.startswith("delivered") for line in told)
    assert len(modules) <= MODULES, sorted(modules)
    assert bytecodes <= BYTECODES or sys.version_info[:2] != (3, 11)
