"""Invariants of presence and typing, and the actions that cause them.

Presence and typing are not stored or acknowledged: the latest value counts, and typing expires. They must cause no
commit, reach no peer outside the conversation and report nothing that no user set. A change of typing is sent at
once, the same word again only after a time. A departure without a goodbye is reported only after its grace time. At
rest every peer sees the latest presence of all, and nobody types. The actions draw from a chance of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING

from p2pchat.core import inputs
from p2pchat.core.effects import (
    Commit,
    Effect,
    GroupUpdate,
    Released,
    Send,
    TypingChanged,
    UserLeft,
)
from p2pchat.core.inputs import Input
from p2pchat.core.sync.known_conversations import dm_id
from p2pchat.core.sync.typing_tracker import TYPING_EVERY
from p2pchat.protocol import ConversationId, Frame, Here, TypingFrame, UserId
from p2pchat.testing.eventlog_parser import Fault, Log

if TYPE_CHECKING:
    from simulation.invariants.entry_invariants import Invariants
    from simulation.network import WireEnd
    from simulation.simulated_peer import SimPeer
    from simulation.simulation import Simulation

WITH_PRESENCE = 0.4  # the part of histories
WORDS = (("online", ""), ("idle", ""), ("idle", "lunch"), ("idle", "back at one"), ("offline", ""))
CLOCKS_DIFFER = 0.01  # seconds by which two clocks may differ within three seconds
Typist = tuple[ConversationId, UserId]


class UserChatter:
    """The actions of users: they set their presence and type."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self._talks = Random(f"{sim.seed} words").random() < WITH_PRESENCE

    def step(self, number: int) -> None:
        """Perhaps let some users act."""
        chance = Random(f"{self._sim.seed} words {number}")
        for _ in range(chance.choice((0, 1, 1, 4)) if self._talks else 0):
            up = self._sim.honest_up
            if up:
                self._say(chance, chance.choice(up), up)

    def write_last(self) -> None:
        """Let every user set a last presence, which must arrive; some type without stopping."""
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


class PresenceInvariants:
    """The invariants of presence and typing."""

    def __init__(self, invariants: Invariants) -> None:
        self._invariants = invariants
        self._sim = invariants.sim
        # (peer, loads, typist) -> the last typing frame, unless a message ended it: when, its word, to whom
        self._sent: dict[tuple[str, int, Typist], tuple[float, bool, list[WireEnd]]] = {}
        self._typed: set[Typist] = set()  # every typist so far

    def handled(self, peer: SimPeer, input: Input, effects: list[Effect]) -> None:
        """Check that presence and typing of a local user cause no commit, and that a change of typing is sent."""
        ended = [(input.conversation, input.user)] if isinstance(input, inputs.WriteRequest) else []
        for effect in effects:
            ended += [each.log.key for each in effect.stretches] if isinstance(effect, Released) else []
            if isinstance(effect, GroupUpdate) and effect.change in ("removed", "left"):
                ended.append((effect.talk, effect.target))
        for typist in ended:
            self._sent.pop((peer.name, peer.loads, typist), None)
        if not isinstance(input, (inputs.PresenceSet, inputs.TypingSet)) or peer.byzantine:
            return
        if isinstance(input, inputs.PresenceSet) and input.status == "offline":
            for name, loads, (conversation, user) in list(self._sent):
                if (name, loads, user) == (peer.name, peer.loads, input.user):
                    self._check_change(peer, inputs.TypingSet(user, conversation, on=False), effects)
        if isinstance(input, inputs.TypingSet):
            self._typed.add((input.conversation, input.user))
            self._check_change(peer, input, effects)
        if any(isinstance(effect, Commit) for effect in effects):
            self._invariants.fail("stored", peer, f"stores something because of {type(input).__name__}")

    def _check_change(self, peer: SimPeer, input: inputs.TypingSet, effects: list[Effect]) -> None:
        assert peer.node is not None
        key = peer.name, peer.loads, (input.conversation, input.user)
        at, on, ends = self._sent.get(key, (0.0, input.on, []))
        expires = self._sim.settings.typing_expires - CLOCKS_DIFFER
        if on == input.on or (on and self._since(peer, at) >= expires):
            return
        sync = peer.node.replicator.context
        if sync.discarded:  # storage failed: nothing is sent until it works again
            return
        conversation = sync.conversations[input.conversation]
        up = [sync.remotes[end.link] for end in ends if end.link in sync.remotes]
        can_hear = any(not remote.link.full and sync.shares(remote, conversation) for remote in up)  # none was expelled
        sent = [one.frame for one in effects if isinstance(one, Send)]
        if any(isinstance(frame, TypingFrame) and frame.c == input.conversation for frame in sent):
            return
        if can_hear:
            self._invariants.fail("typing", peer, f"did not send at once: typing {'on' if input.on else 'off'}")
        self._sent[key] = self._sim.now, input.on, []  # a change that nobody could be sent

    def _since(self, peer: SimPeer, at: float) -> float:
        """Return the seconds since a time, by the clock of a peer."""
        return (self._sim.now - at) * peer.clock.rate

    def frame_sent(self, peer: SimPeer, frame: Frame, ends: list[WireEnd]) -> None:
        """Check a typing frame that is sent; and that no peer is told that a guest is here who blocks its own user."""
        if isinstance(frame, Here) and not peer.byzantine:
            for hosted in frame.users:
                blocked = peer.blocks.get(hosted.id, ()) if hosted.status != "offline" and hosted.id != peer.own else ()
                for name in (end.other.owner.name for end in ends if end.other.owner.user in blocked):
                    self._invariants.fail(
                        "blocked", peer, f"tells {name} that {hosted.name} is {hosted.status}, who blocks it"
                    )
        if not isinstance(frame, TypingFrame) or peer.byzantine:
            return
        key = peer.name, peer.loads, (frame.c, frame.u)
        at, on, earlier = self._sent.get(key, (float("-inf"), False, []))
        since = self._since(peer, at)
        if on == frame.on and 0 < since < TYPING_EVERY - CLOCKS_DIFFER:
            self._invariants.fail("typing", peer, f"sent it again after {since:.3f} s")
        in_parts = on == frame.on and since == 0  # links that know the conversation get a frame of their own
        self._sent[key] = self._sim.now, frame.on, [*earlier, *ends] if in_parts else ends
        for end in ends:
            other = end.other.owner.own
            between = dm_id(self._invariants.room, frame.u, other)
            if frame.u != other and frame.c not in (self._invariants.room, between):
                self._invariants.fail("leak", peer, f"sends {end.other.owner.name} who types where it may not read")

    def on_typing(self, peer: SimPeer, news: TypingChanged) -> None:
        """Check who types, as reported to a program."""
        person = self._sim.person(news.user)
        never_typed = (news.conversation, news.user) not in self._typed
        if news.on and never_typed and not (person.byzantine or peer.byzantine):
            self._invariants.fail("invented", peer, f"hears that {person.name} types")
        key = peer.name, peer.loads, (news.conversation, news.user)
        if not news.on and key in self._sent and peer.handling not in (inputs.TypingSet, inputs.PresenceSet):
            self._sent[key] = self._sim.now, False, self._sent[key][2]  # a message of the user ends it, for others too

    def on_left(self, peer: SimPeer, news: UserLeft) -> None:
        """Check a reported departure. Who is blocked or expelled leaves at once."""
        is_late = news.reason in ("left", "expelled") or news.user in peer.blocked_now
        if not is_late and news.user in peer.here_before and not peer.byzantine:
            self._invariants.fail(
                "grace", peer, f"reported at once that {self._sim.person(news.user).name} is {news.reason}"
            )

    def faults(self, peer: SimPeer) -> Iterator[Fault]:
        """Check, at rest, the presence that this peer shows of the others, and the last event of its program."""
        assert peer.node is not None
        session = Log(peer.name, peer.lines).sessions[-1]
        here: dict[str, bool] = {}
        for _, line in session.of("joined", "left"):
            here[line["user"]] = line["event"] == "joined"
        for other in self._sim.all_peers:
            if other.byzantine or other is peer or other.person or not self._sim.can_link(peer, other):
                continue
            if here.get(other.name, False) != other.up:
                state = "up" if other.up else "down"
                yield Fault("presence", f"{other.name} is {state}, and was reported otherwise", peer.name)
            seen = peer.node.presence.status(other.user)[:2]
            if other.up and seen != other.status:
                yield Fault("word", f"sees {other.name} as {seen}, who said {other.status}", peer.name)
        for guest in self._sim.guests.values():
            if guest.user in self._sim.people:
                continue  # machine_invariants.py
            is_here = any(at is peer or peer.end_to(at) is not None for at in guest.here())
            status = peer.node.presence.status(guest.user)[0]
            if is_here != (status == "online"):
                where = [at.name for at in guest.here()]
                yield Fault("word", f"sees {guest.name} as {status}; its hosts are {where}", peer.name)
        types = {(line["user"], line["conversation_id"]): line["typing"] for _, line in session.of("typing")}
        byzantines = {other.name for other in self._sim.all_peers if other.byzantine}  # may type again at any time
        for name in sorted({user for (user, _), on in types.items() if on} - byzantines):
            yield Fault("typing", f"{name} types for ever", peer.name)
