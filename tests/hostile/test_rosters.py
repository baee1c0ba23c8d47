"""Users of a gateway who come and go, so that what each log was delivered to has to be worked out for each of them.

Costs are counted in calls of Python functions, which no other program on the machine changes.
"""

from __future__ import annotations

from p2pchat.config import Settings
from p2pchat.core.inputs import UserHosted, WriteRequest
from p2pchat.core.log import LogId
from p2pchat.core.mesh.handshake import make_cert
from p2pchat.core.node_context import HostedIdentity
from p2pchat.identity.keys import Identity
from p2pchat.protocol import Have, Here, Hosted, Mark
from tests.core.scripted_nodes import IDENTITIES, NAMES, ROOM, START, Far, Peer, World, dm
from tests.core.steps import count_steps
from tests.hostile.attacker import invented_identity

WRITERS = 12  # hosted by ada, each with a log in the room
PAGE = 100  # users


def invented(name: str) -> Identity:
    identity = invented_identity(name)
    NAMES[identity.peer_id] = name
    return identity


class Gateway:
    """Eve's peer, which hosts users, linked with ada's, where some have written in the room.

    Args:
        known: Ada has written to eve.
    """

    def __init__(self, users: int, *, known: bool = False) -> None:
        self.ada: Peer = World().peer("ada")
        self._writers = [invented(f"writer {n}") for n in range(WRITERS)]
        for number, writer in enumerate(self._writers):
            self.ada.put(UserHosted(HostedIdentity(writer.peer_id, f"writer {number}", writer.sign)))
            self.ada.put(WriteRequest(1000 + number, writer.peer_id, ROOM, "text", ["hi"]))
        self.ada.take()
        if known:
            self.ada.open("eve")
            self.ada.say("hello", to=dm("ada", "eve"))
        self.far: Far = self.ada.far("eve")
        self._users = []
        for number in range(users):
            user = invented(f"user {number}")
            cert = make_cert(user.peer_id, user.sign, IDENTITIES["eve"].peer_id, START // 1000)
            self._users.append(Hosted(user.peer_id, f"user {number}", "online", cert=cert))

    @property
    def _marks(self) -> dict[str, list[Mark]]:
        writers = self.ada.node.sync.conversations.by_id[ROOM].writers
        return {writer.peer_id: [*writers.marks(writer.peer_id)] for writer in self._writers}

    def come(self, users: slice = slice(None)) -> None:
        for start in range(0, len(self._users[users]), PAGE):
            self.far.say(Here(self._users[users][start : start + PAGE]))

    def go(self) -> None:
        for start in range(0, len(self._users), PAGE):
            self.far.say(Here([], [user.id for user in self._users[start : start + PAGE]]))

    def have(self) -> int:
        """Let the peer announce that it has everything; return how many functions were called for it."""
        return count_steps(lambda: self.far.say(Have({ROOM: self._marks})))

    def write(self) -> tuple[LogId, int]:
        """Let the first of ada's users write; return the log and the number of the message."""
        writer = self._writers[0].peer_id
        self.ada.put(WriteRequest(2000, writer, ROOM, "text", ["again"]))
        self.ada.take()
        mark = self._marks[writer][-1]
        return LogId(ROOM, writer, mark.run), mark.seq

    @property
    def guests(self) -> int:
        """How many are on the roster."""
        return len(self.ada.node.sync.delivery_receipts.rosters.roster(IDENTITIES["eve"].peer_id).guests) - 1


def test_users_who_come_and_go_are_put_on_a_roster_at_a_rate() -> None:
    """400 users, 200 logs here: 2.5 s for one frame of marks, as often as they returned."""
    calls = []
    for users in (150, 600):
        gate = Gateway(users)
        gate.come()
        gate.have()
        gate.go()
        gate.have()
        gate.come()
        calls.append(gate.have())
        assert gate.guests == Settings().returns_burst
    assert calls[1] < 1.5 * calls[0]
    gate.ada.world.pass_time(20)
    gate.have()
    assert gate.guests == 2 * Settings().returns_burst


def test_one_who_comes_costs_nothing_for_those_who_returned_before() -> None:
    calls = []
    for users in (50, 500):
        gate = Gateway(users, known=True)
        gate.come()
        gate.have()
        gate.go()
        gate.have()
        gate.come(slice(1, None))
        gate.have()
        assert gate.guests == users - 1
        gate.come(slice(0, 1))
        calls.append(gate.have())
    assert calls[1] < 1.5 * calls[0]


def test_who_has_a_new_message_is_found_however_many_left_before() -> None:
    """2,000 users had left two gateways, and one message took seconds."""
    calls = []
    for users in (50, 500):
        gate = Gateway(users, known=True)
        gate.come()
        gate.have()
        gate.go()
        gate.have()
        log, seq = gate.write()
        gate.have()
        receipts = gate.ada.node.sync.delivery_receipts
        for number, holders in ((1, users + 1), (seq, 1)):  # one is eve, whose peer it is
            found = receipts.holders(log, number)
            assert len(found) == holders and all(receipts.position(log, user) >= number for user in found)
        calls.append(count_steps(lambda: receipts.holders(log, seq)))  # noqa: B023  # called at once
    assert calls[1] < 1.5 * calls[0]
