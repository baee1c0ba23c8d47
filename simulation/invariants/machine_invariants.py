"""Invariants of people with several machines: they are one person on all of them.

At rest the machines of a person that are linked have one name and the same choices, and the same history, marks and
unread messages in each conversation of the person, and everybody sees the best presence of those that reach them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, product
from typing import TYPE_CHECKING

from p2pchat.core.log import LogId, Ref, decode_entry, ref_key
from p2pchat.core.mesh.presence_tracker import STATUSES
from p2pchat.protocol import ConversationId
from p2pchat.testing.eventlog_parser import Fault, Log
from simulation.invariants.protocol_invariants import log_name

if TYPE_CHECKING:
    from simulation.invariants.entry_invariants import Invariants
    from simulation.machines import SimPerson
    from simulation.simulated_peer import SimPeer

Place = tuple[LogId, int]
A_WORD = "word"  # begins the keys of what people choose in histories


class MachineInvariants:
    """The invariants of all people with several machines of one simulation."""

    def __init__(self, invariants: Invariants) -> None:
        self._invariants = invariants
        self._sim = invariants.sim

    def missing(self, honest: Sequence[SimPeer]) -> Iterator[Fault]:
        """Yield, at rest, in what the linked machines of one person differ."""
        for person in self._sim.people.values():
            machines = [peer for peer in person.hosts if peer in honest]
            for one, other in product(machines, machines):
                if one is other or one.end_to(other) is not None:
                    yield from self._not_read(one, other)
            for peer in machines:
                yield from self._written_twice(peer)
            for one, other in combinations(machines, 2):
                if one.end_to(other) is not None:
                    yield from self._called_unlike(one, other)
                    yield from self._chosen_unlike(one, other)
                    for conversation in sorted(self._conversations(one) & self._conversations(other)):
                        yield from self._unlike(conversation, one, other)

    def _conversations(self, peer: SimPeer) -> set[ConversationId]:
        """Return the conversations of the person; the others are of users hosted there besides, or of former groups."""
        assert peer.node is not None
        found, groups = set[ConversationId](), peer.node.groups
        for known in peer.node.replicator.conversations.values():
            view = groups.get(known.naming.talk or "")
            users = {*(known.naming.dm or [peer.own])}
            if known.group is not None:
                users = set() if view is None or known.has_facts else {*view.members}
            if peer.own in users:
                found.add(known.id)
        return found

    def _unlike(self, conversation: ConversationId, one: SimPeer, other: SimPeer) -> Iterator[Fault]:
        (shown, unread), (theirs, unread_there) = (self._history(conversation, each) for each in (one, other))
        both = {*shown} & {*theirs}
        if self._invariants.deletions.any:  # of what is stored on one machine
            shown, theirs = ([place for place in each if place in both] for each in (shown, theirs))
        if shown != theirs:
            yield Fault("machines", f"another history of {conversation[:8]} than {other.name}", one.name)
        for log, seq in sorted((unread ^ unread_there) & both):
            here, there = ("unread", "read") if (log, seq) in unread else ("read", "unread")
            text = f"{log_name(log)} {seq} is {here}, and {there} on {other.name}"
            yield Fault("machines", text, one.name)

    def _written_twice(self, peer: SimPeer) -> Iterator[Fault]:
        """Check that of what machines of a person wrote with one key one is left."""
        found, deleted = dict[str, list[Ref]](), set[Ref | None]()
        for log, seq in self._history(self._invariants.room, peer)[0]:
            if log.user == peer.own:
                entry = decode_entry(peer.disk.logs[log][seq - 1])
                if entry.key:
                    found.setdefault(entry.key, []).append(Ref(ref_key(log.user, log.run), seq))
                elif entry.k == "delete":
                    deleted.add(entry.re)
        for key, refs in found.items():
            left = len({*refs} - deleted)
            if left != 1 and not (self._invariants.deletions.any or self._invariants.copied):
                yield Fault("keys", f"{left} messages with the key {key} are left of {len(refs)}", peer.name)

    def _called_unlike(self, one: SimPeer, other: SimPeer) -> Iterator[Fault]:
        names = [peer.node.hosted[one.own].name for peer in (one, other) if peer.node is not None]
        if names[0] != names[1] and not self._sim.invariants.copied:  # a fork is not compared
            yield Fault("machines", f"says {names[0]}, and {other.name} says {names[1]}", one.name)

    def _chosen_unlike(self, one: SimPeer, other: SimPeer) -> Iterator[Fault]:
        chosen = [peer.node.own.of(one.own, A_WORD) for peer in (one, other) if peer.node is not None]
        if chosen[0] != chosen[1] and not self._sim.invariants.copied:
            yield Fault("machines", f"has {chosen[0]} chosen, and {other.name} {chosen[1]}", one.name)

    def _not_read(self, one: SimPeer, other: SimPeer) -> Iterator[Fault]:
        """Check that what was read on a machine in this session is read on another, too, whoever gets receipts."""
        conversations = self._conversations(one) & self._conversations(other)
        for log, seq in self._invariants.receipts.said_in.get((one.name, one.lives), {}).items():
            is_sure = not (self._invariants.may_fork(log) or self._sim.person(log.user).byzantine)
            if log.conversation not in conversations or log.user == one.own or not is_sure:
                continue
            if self._read(other, log.conversation).get(log, 0) < seq and not self._invariants.deletions.any:
                yield Fault("machines", f"{log_name(log)} {seq} was read on {one.name}, and is unread", other.name)

    def _history(self, conversation: ConversationId, peer: SimPeer) -> tuple[list[Place], set[Place]]:
        """Return what a machine shows of a conversation, and what of that its person has not read."""
        shown = [
            one
            for one in peer.disk.storage.history(conversation, limit=0)
            if not (self._sim.person(one.log.user).byzantine or self._invariants.may_fork(one.log))
        ]
        read = self._read(peer, conversation)
        messages = [one for one in shown if one.log.user != peer.own and decode_entry(one.raw).is_message]
        unread = {(one.log, one.seq) for one in messages if one.seq > read.get(one.log, 0)}
        return [(one.log, one.seq) for one in shown], unread

    def _read(self, peer: SimPeer, conversation: ConversationId) -> dict[LogId, int]:
        """Return up to where a machine's person has read each log of a conversation."""
        assert peer.node is not None
        marks, _ = peer.node.replicator.receipts.marks.marked_to(conversation, peer.own)
        asked, read = [*marks.items()], dict[LogId, int]()
        while asked:
            log, seq = asked.pop()
            if seq > read.get(log, 0):
                read[log] = seq
                asked += [(log._replace(run=mark.run), mark.seq) for mark in peer.disk.before(log)]
        return read

    def faults(self, peer: SimPeer) -> Iterator[Fault]:
        """Check, at rest, the presence that a peer shows of people, and the last event of its program."""
        assert peer.node is not None
        for person in self._sim.people.values():
            if peer.person is not person:
                yield from self._presence(peer, person)

    def _presence(self, peer: SimPeer, person: SimPerson) -> Iterator[Fault]:
        assert peer.node is not None
        there = [one for one in person.here() if peer.end_to(one) is not None]
        if any(one.end_to(peer) is None and self._sim.can_link(peer, one) for one in person.here()):
            return  # judged as `unlinked`
        best = min((one.status[0] for one in there), key=STATUSES.index, default="offline")
        seen = peer.node.presence.status(person.user)[0]
        if seen != best and (there or seen in ("online", "idle")):
            yield Fault("word", f"sees {person.name} as {seen}, whose machines say {best}", peer.name)
        events = Log(peer.name, peer.lines).sessions[-1].of("joined", "left")
        told = [line["event"] for _, line in events if line["user"] == person.name]
        if (told[-1:] == ["joined"]) != (best != "offline"):
            yield Fault("presence", f"{person.name} is {best}, and was reported otherwise", peer.name)
