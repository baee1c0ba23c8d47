"""Invariants of groups, computed independently of core/groups from the entries on each disk.

Honest peers that an operation named and that reach each other know the same group. Its members hold and show the same
entries of its talk, all visible ones and no others. A writer gets a report of its entries after a cut. No peer holds
the talk of a group that it never belonged to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from p2pchat.core.effects import DeliveryRevoked, GroupUpdate
from p2pchat.core.log import Entry, LogId, RawEntry, Ref, decode_entry, ref_key
from p2pchat.protocol import ConversationId, Mark, Naming, UserId
from p2pchat.storage.contract import ReleasedEntry
from p2pchat.testing.eventlog_parser import Fault
from simulation.invariants.protocol_invariants import log_name

if TYPE_CHECKING:
    from simulation.invariants.entry_invariants import Invariants
    from simulation.simulated_peer import SimPeer

# ---- the expected group, from the entries on one disk

Logs = dict[LogId, list[RawEntry]]
Before = Callable[[LogId], Sequence[Mark]]


@dataclass(slots=True)
class ExpectedGroup:
    """A group as the entries on one disk define it."""

    gen: int = 0
    name: str = ""
    owner: UserId = ""
    members: dict[UserId, int] = field(default_factory=dict)
    left: set[UserId] = field(default_factory=set)
    named: set[UserId] = field(default_factory=set)
    lasting: set[UserId] = field(default_factory=set)  # those named by other than redone operations
    known: set[tuple[int, str]] = field(default_factory=set)  # the operations that may be cited
    top: list[dict[str, Any]] = field(default_factory=list)  # bodies of the operations that count
    leaves: list[tuple[UserId, int, list[Any]]] = field(default_factory=list)

    @property
    def present(self) -> set[UserId]:
        return self.members.keys() - self.left

    @property
    def shown(self) -> tuple[object, ...]:
        """The state on which all peers with the same operations agree."""
        return self.gen, self.name, self.owner, sorted(self.members.items()), sorted(self.left)


def expected_group(
    room: ConversationId, id: ConversationId, logs: Logs, forked: Collection[LogId] = ()
) -> ExpectedGroup:
    """Return the group that these entries define, given its logs known to have forked."""
    group = ExpectedGroup()
    void = {log for log in forked if _is_redone(log, logs, forked)}
    made: dict[int, list[tuple[str, UserId, dict[str, Any]]]] = defaultdict(list)
    for log, raws in logs.items():
        for raw in raws:
            entry = decode_entry(raw)
            if entry.k == "leave" and entry.g is not None and log not in forked:
                group.leaves.append((log.user, entry.g[0], entry.b["cuts"]))
            elif entry.k == "group":
                digest = _operation(room, raw)
                if digest == id or (entry.b["gen"] > 1 and log not in void):
                    made[entry.b["gen"]].append((digest, log.user, entry.b))
                    group.lasting |= entry.b["members"].keys()
                if digest == id or entry.b["gen"] > 1:
                    group.known.add((entry.b["gen"], digest[:32]))
                    group.named |= entry.b["members"].keys()
    while valid := sorted((one for one in made[group.gen + 1] if one[1] == group.owner or not group.gen), key=_hash):
        group.gen += 1
        group.top = [body for _, _, body in valid]
        group.name, group.owner = group.top[0]["name"], group.top[0]["owner"]
        common = set.intersection(*(set(body["members"]) for body in group.top))
        group.members = {user: max(body["members"][user] for body in group.top) for user in common}
        group.members.setdefault(group.owner, group.top[0]["members"][group.owner])
    group.left = {user for user, gen, _ in group.leaves if gen >= group.members.get(user, gen + 1)}
    return group


def _operation(room: ConversationId, raw: RawEntry) -> str:
    return _hashed(bytes.fromhex(room) + raw[0].to_bytes(8, "big") + str(raw[1]).encode())


def _hashed(data: bytes) -> str:
    return blake2b(b"p2pchat/group/2\0" + data, digest_size=32).hexdigest()


def _is_redone(forked: LogId, logs: Logs, but: Collection[LogId]) -> bool:
    """Return whether the writer redid the operations of a forked log in a log that did not fork."""
    own = [
        decode_entry(raw) for log, raws in logs.items() if log.user == forked.user and log not in but for raw in raws
    ]
    return any(entry.k == "group" and entry.b.get("redo") == _hashed(forked.run.encode()) for entry in own)


def _hash(one: tuple[str, UserId, dict[str, Any]]) -> str:
    return one[0]


def visible(group: ExpectedGroup, logs: Logs, before: Before) -> dict[LogId, int]:
    """Return for each log of a talk the last visible entry. `before` says what a log builds on."""
    return {log: min((_upto(group, body, log, logs, before) for body in group.top), default=0) for log in logs}


def _upto(group: ExpectedGroup, body: dict[str, Any], log: LogId, logs: Logs, before: Before) -> int:
    user = log.user
    added = body["members"].get(user, group.members[user] if user == group.owner else None)
    cuts = [tuple(mark) for by, *mark in body["cuts"] if by == user]
    since = group.members.get(user, added)
    counting = [marks for by, gen, marks in group.leaves if by == user and since is not None and gen >= since]
    if counting and added is not None:
        added = None
        cuts += [tuple(mark) for marks in counting for mark in marks]
    covered = _covered(cuts, user, logs, before)
    gen = 0
    for seq, raw in enumerate(logs[log], 1):
        gen = (decode_entry(raw).g or (gen, ""))[0]  # that of the entry before, if it cites none
        if seq > covered.get(log.run, 0) and (added is None or gen < added):
            return seq - 1
    return len(logs[log])


def _covered(cuts: list[Any], user: UserId, logs: Logs, before: Before) -> dict[str, int]:
    covered: dict[str, int] = {}
    for run, seq, _ in cuts:
        covered[run] = max(seq, covered.get(run, 0))
    grown = True
    while grown:
        grown = False
        for log in logs:
            for mark in before(log) if log.user == user and covered.get(log.run) else ():
                if mark.seq > covered.get(mark.run, 0):
                    covered[mark.run], grown = mark.seq, True
    return covered


# ---- checks


class GroupInvariants:
    """The invariants of all groups of one simulation."""

    def __init__(self, invariants: Invariants) -> None:
        self._invariants = invariants
        self._sim = invariants.sim
        self._undelivered: set[tuple[UserId, LogId, int]] = set()
        self._reported: dict[tuple[str, int, ConversationId], tuple[object, ...]] = {}  # the latest reports
        self.namings: dict[ConversationId, Naming] = {}  # of groups and talks

    def changed(self, peer: SimPeer, news: GroupUpdate) -> None:
        """Check a reported change of a group."""
        self._sim.counts[f"group_{news.change}"] += 1
        self._reported[peer.name, peer.lives, news.group] = (news.name, news.owner, {*news.members})
        if news.seq > len(peer.disk.logs.get(news.log, ())):
            self._invariants.fail("group", peer, f"reported {log_name(news.log)} {news.seq}, which is not durable here")

    def undelivered(self, peer: SimPeer, news: DeliveryRevoked) -> None:
        """Note the entries reported as cut off to a removed writer."""
        self._sim.counts["undelivered"] += 1
        self._undelivered |= {(peer.user, news.log, seq) for seq in range(news.first, news.last + 1)}

    def handed_on(self, peer: SimPeer, one: ReleasedEntry, entry: Entry) -> None:
        """Check the age of a message: old if it cites a gen before the one that added a user of this peer.

        A user may have been added several times since the message was shown.
        """
        if peer.byzantine or entry.g is None:
            return
        id = self.namings[one.log.conversation].talk or ""
        bodies = (decode_entry(raw).b for raws in self._logs(peer, id).values() for raw in raws)
        lists = (body["members"] for body in bodies if body is not None and "members" in body)
        added = {gen for members in lists for user, gen in members.items() if peer.ever_spoke_for(user)}
        if added and (entry.g[0] >= max(added) if one.old else entry.g[0] < min(added)):
            text = f"{log_name(one.log)} {one.seq} cites gen {entry.g[0]}, was added at {added}, old: {one.old}"
            self._invariants.fail("old", peer, text)
        self._sim.counts["old in a group" if one.old else "news in a group"] += 1

    # ---- lookups

    def is_group(self, peer: SimPeer, conversation: ConversationId) -> bool:
        """Return whether a conversation of this peer is a group or a talk."""
        known = peer.node.replicator.conversations.get(conversation) if peer.node else None
        if known is not None and known.group is not None:
            self.namings.setdefault(conversation, known.naming)
        return conversation in self.namings

    def was_ever_in(self, peer: SimPeer, other: SimPeer, talk: ConversationId) -> bool:
        """Return whether another peer's user was ever a member of the group of a talk, as far as a peer knows."""
        naming = self.namings.get(talk)
        return naming is not None and other.user in self._expected(peer, naming.talk or talk).named

    def _logs(self, peer: SimPeer, conversation: ConversationId) -> Logs:
        return {log: raws for log, raws in peer.disk.logs.items() if log.conversation == conversation}

    def _forked(self, peer: SimPeer, id: ConversationId) -> set[LogId]:
        return {log for log in peer.disk.stored.forked if log.conversation == id}

    def _expected(self, peer: SimPeer, id: ConversationId) -> ExpectedGroup:
        return expected_group(self._invariants.room, id, self._logs(peer, id), self._forked(peer, id))

    def _groups(self, peer: SimPeer) -> Iterator[tuple[ConversationId, ConversationId, ExpectedGroup]]:
        stored = peer.disk.stored
        names = {talk.id: talk.naming for talk in stored.conversations if talk.naming.group or talk.naming.talk}
        self.namings |= names
        for id in dict.fromkeys(naming.talk or id for id, naming in names.items()):
            forked = {log for log in stored.forked if log.conversation == id}
            yield id, _talk(id), expected_group(self._invariants.room, id, self._logs(peer, id), forked)

    def _is_sound(self, id: ConversationId) -> bool:
        """Return whether no log of a group can have forked, so that all peers know the same operations."""
        logs = [log for peer in self._sim.all_peers for log in peer.disk.ever if log.conversation == id]
        return not any(self._invariants.may_fork(log) for log in logs)

    def _reached(self, peers: list[SimPeer]) -> Iterator[list[SimPeer]]:
        """Yield the connected components of these peers."""
        left = list(peers)
        while left:
            together = [left.pop(0)]
            for one in together:
                near = [other for other in left if one.end_to(other) is not None]
                together += near
                left = [other for other in left if other not in near]
            yield together

    # ---- at rest

    def missing(self, honest: list[SimPeer]) -> Iterator[Fault]:
        """Yield groups on which the concerned peers do not agree."""
        known: dict[ConversationId, dict[str, ExpectedGroup]] = defaultdict(dict)
        for peer in honest:
            for id, _, group in self._groups(peer):
                known[id][peer.name] = group
        for id, groups in known.items():
            yield from self._unlike(id, groups, honest)

    def _can_redo(self, id: ConversationId, together: list[SimPeer]) -> bool:
        """Return whether every writer of a forked log is among these peers and can redo its operations."""
        return {log.user for peer in together for log in self._forked(peer, id)} <= {peer.user for peer in together}

    def _unlike(self, id: ConversationId, groups: dict[str, ExpectedGroup], honest: list[SimPeer]) -> Iterator[Fault]:
        named = set().union(*(group.named for group in groups.values()))
        for together in self._reached([peer for peer in honest if peer.user in named]):
            newest = max((groups[peer.name] for peer in together if peer.name in groups), key=_known, default=None)
            if newest is None or not self._can_redo(id, together):
                continue
            is_sound = self._is_sound(id)  # peers may hold different parts of a forked log
            for peer in together:
                there = groups.get(peer.name, ExpectedGroup())
                differs = there.shown != newest.shown or (is_sound and there.known != newest.known)
                concerned = newest.lasting | (newest.named & there.present)
                if peer.user in concerned and differs:
                    yield Fault("group", f"knows {id[:6]} as {_short(there)}, and not as {_short(newest)}", peer.name)
                yield from self._believed(peer, id, there)
                yield from self._not_redone(peer, id)
            present = [peer for peer in together if peer.user in newest.present]
            for members in self._reached(present):
                yield from self._talks_unlike(_talk(id), newest, members)

    def _believed(self, peer: SimPeer, id: ConversationId, there: ExpectedGroup) -> Iterator[Fault]:
        """Check that a peer's view of a group is the one its disk defines."""
        view = peer.node.groups.get(id) if peer.node else None
        if view is None:
            return
        believed = (view.gen, view.name, view.owner, {*view.members}, {*view.left})
        if believed != (there.gen, there.name, there.owner, there.present, there.left):
            members = ", ".join(f"{user[:4]}:{gen}" for user, gen in sorted(view.members.items()))
            text = f"shows {id[:6]} as gen {view.gen} ({members}), and holds {_short(there)}"
            yield Fault("group", text, peer.name)
        reported = self._reported.get((peer.name, peer.lives, id), ())
        if reported and reported != (there.name, there.owner, there.present) and not peer.disk.failed:
            yield Fault("group", f"last reported {id[:6]} as another group than {_short(there)}", peer.name)

    def _not_redone(self, peer: SimPeer, id: ConversationId) -> Iterator[Fault]:
        group = peer.node.replicator.conversations.groups.get(id) if peer.node else None
        if group is not None and group.lost_operations(peer.user):
            yield Fault("group", f"has lost its own operation in {id[:6]} and does not redo it", peer.name)

    def _talks_unlike(self, talk: ConversationId, group: ExpectedGroup, members: list[SimPeer]) -> Iterator[Fault]:
        seen: dict[str, dict[LogId, int]] = {}
        for peer in members:
            upto = visible(group, self._logs(peer, talk), peer.disk.before)
            seen[peer.name] = {log: n for log, n in upto.items() if n and not self._invariants.may_fork(log)}
        most: dict[LogId, int] = {}
        for each in seen.values():
            for log, n in each.items():
                most[log] = max(n, most.get(log, 0))
        for peer in members:
            for log, n in most.items():
                if seen[peer.name].get(log, 0) < n:
                    text = f"has {seen[peer.name].get(log, 0)} of {n} visible entries of {log_name(log)}"
                    yield Fault("talk", text, peer.name)
        yield from self._unreceipted(talk, most, members)

    def _unreceipted(self, talk: ConversationId, most: dict[LogId, int], members: list[SimPeer]) -> Iterator[Fault]:
        for written in self._invariants.written:
            log, writer = written.log, written.at
            if log is None or log.conversation != talk or writer not in members or written.seq > most.get(log, 0):
                continue
            for member in members:
                if member is not writer and writer.end_to(member) is not None:
                    yield from self._invariants.receipts.lacking(written, member)

    def faults(self, peer: SimPeer, *, at_rest: bool) -> Iterator[Fault]:
        """Yield a fault for each entry that must never be on a peer's disk or in its display."""
        for id, talk, group in self._groups(peer):
            logs = self._logs(peer, talk)
            if logs and peer.user not in group.named:
                yield Fault("member", f"holds entries of the talk of {id[:6]}, to which it never belonged", peer.name)
            for log, raws in logs.items():
                if log.user not in group.named:
                    yield Fault("member", f"holds {log_name(log)} of a user who was never a member", peer.name)
                cites = {decode_entry(raw).g for raw in raws} - {None}
                if self._is_sound(id) and not cites <= group.known:
                    yield Fault("cite", f"holds {log_name(log)}, which cites an operation that is not here", peer.name)
            yield from self._shown(peer, talk, visible(group, logs, peer.disk.before), at_rest)

    def _shown(self, peer: SimPeer, talk: ConversationId, upto: dict[LogId, int], at_rest: bool) -> Iterator[Fault]:
        shown = [(one.log, one.seq) for one in peer.disk.storage.history(talk, limit=0)]
        for log, seq in shown:
            if seq > upto.get(log, 0):
                yield Fault("cut", f"shows {log_name(log)} {seq}, which is visible to {upto.get(log, 0)}", peer.name)
        for log, n in upto.items() if at_rest else ():
            hidden = n - len([1 for each, _ in shown if each == log])
            if hidden > 0 and not self._invariants.may_fork(log):
                yield Fault("unshown", f"{hidden} visible entries of {log_name(log)} are not shown", peer.name)
        for log, n in upto.items() if peer.up else ():
            for seq in range(n + 1, len(peer.disk.logs[log]) + 1) if log.user == peer.user else ():
                if (peer.user, log, seq) not in self._undelivered and not (
                    peer.disk.busy or self._invariants.may_fork(log)
                ):
                    yield Fault("undelivered", f"not reported as cut off: {log_name(log)} {seq}", peer.name)

    def is_cut(self, peer: SimPeer, conversation: ConversationId, ref: Ref) -> bool:
        """Return whether an entry of a talk is not visible on this peer: cut off, or missing."""
        naming = self.namings.get(conversation)
        if naming is None or naming.talk is None:
            return False
        logs = self._logs(peer, conversation)
        upto = visible(self._expected(peer, naming.talk), logs, peer.disk.before)
        return not any(ref_key(log.user, log.run) == ref.log and seq >= ref.seq for log, seq in upto.items())

    def unseen(self, peer: SimPeer) -> int:
        """Return the number of stored entries of talks that are not visible."""
        return sum(
            len(logs[log]) - n
            for _, talk, group in self._groups(peer)
            for logs in [self._logs(peer, talk)]
            for log, n in visible(group, logs, peer.disk.before).items()
        )


def _talk(id: ConversationId) -> ConversationId:
    return blake2b(b"p2pchat/talk/1\0" + bytes.fromhex(id), digest_size=32).hexdigest()


def _known(group: ExpectedGroup) -> int:
    return len(group.known) + len(group.leaves)


def _short(group: ExpectedGroup) -> str:
    members = ", ".join(f"{user[:4]}:{gen}" for user, gen in sorted(group.members.items()))
    return f"gen {group.gen} of {len(group.known)} ({members}; {len(group.left)} left)"
