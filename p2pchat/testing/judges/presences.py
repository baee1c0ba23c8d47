"""What simulated users say of themselves and where they type, and what the others must make of it.

The opposite of everything else in a history: nothing of it is stored, nothing is acknowledged, the latest word wins and
typing is over by itself. So what must never happen is small: a commit because somebody said so, a word to a peer that
cannot read the conversation, more frames than allowed, a word nobody said. And when all has come to rest everybody
sees of everybody what they said last, and nobody types.

The words are drawn from a chance of their own, in a part of the histories, so that the others stay what they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING

from p2pchat.core import inputs
from p2pchat.core.effects import Commit, Effect, TypingChanged
from p2pchat.core.inputs import Input
from p2pchat.core.sync.conversations import dm_id
from p2pchat.protocol import ConversationId, Frame, Typing, UserId
from p2pchat.testing.checker import Fault

if TYPE_CHECKING:
    from p2pchat.testing.invariants.promises import Judge
    from p2pchat.testing.simulation.network import End
    from p2pchat.testing.simulation.peer import SimPeer
    from p2pchat.testing.simulation.simulation import Simulation

HOW_OFTEN = 0.4  # of the histories have words in them
WORDS = (("online", ""), ("idle", ""), ("idle", "lunch"), ("idle", "back at one"), ("offline", ""))
CLOCKS_DIFFER = 0.01  # seconds in three by which peers' clocks may differ, and more
Spot = tuple[ConversationId, UserId]  # where, and who


class Chatter:
    """Users who come back, go away and type, beside everything else that happens."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self._talks = Random(f"{sim.seed} words").random() < HOW_OFTEN

    def step(self, number: int) -> None:
        """Some of them say something."""
        chance = Random(f"{self._sim.seed} words {number}")
        for _ in range(chance.choice((0, 1, 1, 4)) if self._talks else 0):
            up = [peer for peer in self._sim.up if not peer.liar]
            if up:
                self._say(chance, chance.choice(up), up)

    def last_words(self) -> None:
        """Everybody says something that has to arrive; some twice, and some type and are never heard to stop."""
        chance = Random(f"{self._sim.seed} last words")
        for peer in self._sim.up if self._talks else ():
            for _ in range(chance.choice((1, 1, 3))):
                peer.set_presence(*chance.choice(WORDS))
            if chance.random() < 0.5:
                peer.types()

    def _say(self, chance: Random, peer: SimPeer, up: list[SimPeer]) -> None:
        if chance.random() < 0.5:
            peer.set_presence(*chance.choice(WORDS))
        else:
            other = chance.choice(up)
            peer.types(None if other is peer else other, on=chance.random() < 0.8)


class Presences:
    """Watches what peers say of their users, and what they believe of others'."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._sim = judge.sim
        self._sent_at: dict[tuple[str, int, Spot], float] = {}  # the last frame, by (peer, loads, what it is about)
        self._typed: set[Spot] = set()  # where somebody said so once

    def handled(self, peer: SimPeer, input: Input, effects: list[Effect]) -> None:
        """A peer was told a word of its own user."""
        if not isinstance(input, (inputs.PresenceSet, inputs.TypingSet)) or peer.liar:
            return
        if isinstance(input, inputs.TypingSet):
            self._typed.add((input.conversation, input.user))
        if any(isinstance(effect, Commit) for effect in effects):
            self._judge.blame("stored", peer, f"stores something because of {type(input).__name__}")

    def frame_sent(self, peer: SimPeer, frame: Frame, ends: list[End]) -> None:
        """A frame leaves."""
        if not isinstance(frame, Typing) or peer.liar:
            return
        key = peer.name, peer.loads, (frame.c, frame.u)
        since = (self._sim.now - self._sent_at.get(key, float("-inf"))) * peer.clock.rate
        if 0 < since < self._sim.settings.typing_every - CLOCKS_DIFFER:
            self._judge.blame("typing", peer, f"told it again after {since:.3f} s")
        self._sent_at[key] = self._sim.now
        for end in ends:
            other = end.other.owner.user
            if frame.c not in (self._judge.room, dm_id(frame.u, other)):
                self._judge.blame("leak", peer, f"told {end.other.owner.name} who types where only others may read")

    def told(self, peer: SimPeer, news: TypingChanged) -> None:
        """A program is told who types."""
        if (
            news.on
            and not self._sim.person(news.user).liar
            and (news.conversation, news.user) not in self._typed
            and not peer.liar
        ):
            self._judge.blame("invented", peer, f"is told that {self._sim.person(news.user).name} types")

    def faults(self, peer: SimPeer) -> Iterator[Fault]:
        """When all has come to rest: what this peer believes of the others, and what its program was told last."""
        assert peer.node is not None
        for other in self._sim.up:
            if other.liar or other is peer or not self._sim.can_link(peer, other):
                continue
            seen = peer.node.presence.status(other.user)[:2]
            if seen != other.word:
                yield Fault("word", f"sees {other.name} as {seen}, who said {other.word}", peer.name)
        liars = {other.name for other in self._sim.all_peers if other.liar}  # who may begin anew at any time
        for name in sorted(_typing_at_last(peer) - liars):
            yield Fault("typing", f"{name} types for ever", peer.name)


def _typing_at_last(peer: SimPeer) -> set[str]:
    """Return the names of those of whom a program was told last, in this life, that they type."""
    last: dict[tuple[str, str], bool] = {}
    for line in peer.lines:
        if line["event"] == "listening":
            last.clear()
        elif line["event"] == "typing":
            last[line["user"], line["conversation_id"]] = line["typing"]
    return {user for (user, _), on in last.items() if on}
