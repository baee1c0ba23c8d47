"""What people of a simulated network say about its members: who is added, made an admin, removed and pardoned.

The founder's key is on the machines of all whose peers were there first, as in one login; admins are users of peers.
Whoever has no say says something now and then, which nobody may keep. A peer that joins learns the founder's key from
the first that tells it.
"""

from __future__ import annotations

from random import Random

from p2pchat.core.inputs import StatementsMade
from p2pchat.core.members.statement import (
    ADD,
    ADMIN,
    PARDON,
    REMOVE,
    Statement,
    StatementId,
    make_statement,
)
from p2pchat.protocol import UserId
from simulation.simulation import Simulation

KINDS = {ADD: 5, ADMIN: 2, REMOVE: 3, PARDON: 2}
STATEMENTS = 3, 12  # of a history
HAS_NO_SAY = 0.2  # the part that somebody says who is neither founder nor, as far as one knows, admin


class Membership:
    """The statements of one simulation. Attributes: `said`, all that were made, in order."""

    def __init__(self, sim: Simulation, seed: int) -> None:
        self._sim = sim
        self._chance = Random(f"{seed} members")
        self._founder = sim.founder
        self.said: list[Statement] = []

    def steps(self) -> int:
        """Return how many statements this history has."""
        return self._chance.randint(*STATEMENTS)

    def say(self) -> None:
        """Have a peer say something."""
        peers = [peer for peer in self._sim.honest_up if peer.node is not None and peer.members is not None]
        if not peers:
            return
        peer = self._chance.choice(peers)
        assert peer.members is not None
        has_say = self._chance.random() >= HAS_NO_SAY
        admins = [other for other in self._sim.by_user.values() if other.user in peer.members.admins]
        signer = self._chance.choice([None, *admins]) if has_say else self._chance.choice([*self._sim.by_user.values()])
        kind = self._chance.choices([*KINDS], [*KINDS.values()])[0]
        if kind == PARDON and not (removals := self._removals()):
            return
        fields = {"ids": [self._chance.choice(removals)]} if kind == PARDON else {"who": [self._someone()]}
        identity = self._founder if signer is None else signer.identity
        network = self._sim.network().id
        made = make_statement(network, identity.peer_id, identity.sign, kind, len(self.said), fields)
        self.said.append(made)
        self._sim.note(f"{peer.name} says: {kind} by {'the founder' if signer is None else signer.name}")
        peer.put(StatementsMade([made]))

    def _removals(self) -> list[StatementId]:
        return [one.id for one in self.said if one.kind == REMOVE]

    def _someone(self) -> UserId:
        return self._chance.choice([*self._sim.by_user, *self._sim.guests])
