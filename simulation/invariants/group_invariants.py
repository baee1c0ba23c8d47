"""Invariants of groups, computed independently of core/groups from the entries on each disk.

Honest peers that a fact named and that reach each other know the same group. Its members hold and show the same
entries of its talk, all visible ones and no others. A writer gets a report of its entries after a cut. No peer holds
the talk of a group that it never belonged to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
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
ShownKey = tuple[ConversationId, str, int]  # conversation, log as in references, number


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact, as its entry says it."""

    id: str
    by: UserId
    run: str
    builds_on: tuple[Mark, ...]
    c: int
    body: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.body["k"])

    @property
    def who(self) -> dict[UserId, list[str]]:
        return dict(self.body.get("who", {}))

    def cuts(self, name: str) -> list[Any]:
        return list(self.body.get(name, []))


@dataclass(slots=True)
class ExpectedGroup:
    """A group as the facts on one disk define it."""

    name: str = ""
    owner: UserId = ""
    present: set[UserId] = field(default_factory=set)
    admins: set[UserId] = field(default_factory=set)
    added: set[UserId] = field(default_factory=set)  # now or before
    named: set[UserId] = field(default_factory=set)
    known: set[str] = field(default_factory=set)  # the ids of all facts
    facts: list[Fact] = field(default_factory=list)
    outs: list[tuple[UserId, Fact, list[Fact]]] = field(
        default_factory=list
    )  # removals and leaves, and what ended each

    @property
    def shown(self) -> tuple[object, ...]:
        """The state on which all peers with the same facts agree."""
        return self.name, self.owner, sorted(self.present), sorted(self.admins)


def expected_group(facts: Iterable[Fact]) -> ExpectedGroup:
    """Return the group that facts define, worked out in the plainest way: rule by rule over all of them."""
    every = list(facts)
    made = [one for one in every if one.kind == "create"]
    if not made:
        return ExpectedGroup(facts=every)
    group = ExpectedGroup(facts=every, known={one.id for one in every})
    owners, handed = [made[0].by], list[Fact]()
    entitled = {*owners}
    while heirs := [one for one in every if _is_heir(one, len(owners) - 1, owners[-1])]:
        if len(heirs) > 2:
            owners.append(owners[-1])
            continue
        handed.append(min(heirs, key=lambda one: one.id))
        owners += handed[-1].who
        entitled.update(*(one.who for one in heirs))
    group.owner = owners[-1]

    def is_owners(one: Fact) -> bool:
        left_by = [heir for heir in handed if heir.by == one.by]
        return one in made or one.by == group.owner or any(_under(one, every, [heir.run]) for heir in left_by)

    owned = [one for one in every if is_owners(one)]
    raised = [(user, one) for one in owned if one.kind == "admin" for user in one.who]
    ended = {(user, id) for user, one in raised for id in one.who[user]}
    ends = [(user, one) for one in owned if one.kind in ("unadmin", "remove") for user in one.who]
    left = [(user, one) for user, one in ends if (user, one.id) not in ended]
    admins, ranked = {user for user, _ in raised}, {user for user, _ in raised} | entitled

    def is_within(one: Fact) -> bool:
        limits = [[mark[0] for mark in end.cuts("said")] for user, end in left if user == one.by]
        return all(_under(one, every, marks) for marks in limits)

    former = [
        one for one in every
        if one.kind == "remove" and one.by in entitled and one not in owned and is_within(one)
    ]  # fmt: skip
    admins_said = [one for one in every if one.by in admins and one not in former and is_within(one)]
    counting = [one for one in every if one in owned or one in admins_said]
    adds = [one for one in counting if one.kind in ("create", "add")]
    outs = [(one.by, one) for one in every if one.kind == "leave"]
    removals = [one for one in counting if one.kind == "remove"]
    noted = ended | {(user, id) for one in owned if one.kind == "heir" for user in one.who for id in one.who[user]}
    outs += [
        (user, one)
        for one in removals
        for user in one.who
        if one in owned or user not in ranked or (user, one.id) in noted
    ]
    outs += [(user, one) for one in former for user in one.who if user not in entitled or (user, one.id) in noted]
    for user, out in outs:
        group.outs.append((user, out, [one for one in adds if out.id in one.who.get(user, ())]))
    group.added = {user for one in adds for user in one.who}
    here = group.added - {user for user, _, over in group.outs if not over}
    since = {user: max(min(one.c for one in each) for each in _stages(group, adds, user)) for user in here}
    group.present = {user for _, user in sorted((c, user) for user, c in since.items())[:256]}
    group.admins = (admins & group.present) - {user for user, _ in left} - {group.owner}
    names = [one for one in every if one in made or (one.kind == "name" and one in owned)]
    group.name = max(names, key=lambda one: (one.body.get("n", 0), one.id)).body["name"]
    group.named = {user for one in every for user in (one.by, *one.who)}
    return group


def _is_heir(one: Fact, handed: int, owner: UserId) -> bool:
    return one.kind == "heir" and one.by == owner and one.body.get("n", 0) == handed


def _under(fact: Fact, facts: list[Fact], runs: Iterable[str]) -> bool:
    """Return whether a fact is one of these of its writer, or one on which they build."""
    todo, seen, own = [*runs], set[str](), {one.run: one for one in facts if one.by == fact.by}
    while todo:
        run = todo.pop()
        if run not in seen:
            seen.add(run)
            todo += [mark.run for mark in own[run].builds_on] if run in own else []
    return fact.run in seen


def _stages(group: ExpectedGroup, adds: list[Fact], user: UserId) -> list[list[Fact]]:
    """Return the additions of a user, all and those that ended each removal or leave."""
    return [[one for one in adds if user in one.who], *(over for who, _, over in group.outs if who == user)]


def visible(group: ExpectedGroup, logs: Logs, before: Before) -> dict[LogId, int]:
    """Return for each log of a talk the last visible entry. `before` says what the header of a log names."""
    return {log: _upto(group, log, logs, before) for log in logs}


def _upto(group: ExpectedGroup, log: LogId, logs: Logs, before: Before) -> int:
    if log.user not in group.added:
        return 0
    most, names = len(logs[log]), {mark.run for mark in before(log)}
    for user, out, over in group.outs:
        if user == log.user and names.isdisjoint(one.run for one in over):
            most = min(most, _covered(out.cuts("cuts"), user, logs, before).get(log.run, 0))
    return most


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


def _is_hidden(group: ExpectedGroup, ref: Ref, logs: Logs, before: Before) -> bool:
    upto = visible(group, logs, before)
    return not any(ref_key(log.user, log.run) == ref.log and seq >= ref.seq for log, seq in upto.items())


# ---- checks


class GroupInvariants:
    """The invariants of all groups of one simulation."""

    def __init__(self, invariants: Invariants) -> None:
        self._invariants = invariants
        self._sim = invariants.sim
        self._undelivered: set[tuple[str, LogId, int]] = set()
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
        self._undelivered |= {(peer.name, news.log, seq) for seq in range(news.first, news.last + 1)}

    def handed_on(self, peer: SimPeer, one: ReleasedEntry, entry: Entry) -> None:
        """Check the age of a message: old if it was written before a user of this peer was added.

        A user may have been added several times since the message was shown.
        """
        if peer.byzantine:
            return
        group = self._expected(peer, self.namings[one.log.conversation].talk or "")
        added = {fact.c for fact in group.facts for user in fact.who if self._adds(fact) and peer.ever_spoke_for(user)}
        is_own = peer.ever_spoke_for(one.log.user)
        if added and not is_own and (entry.c > max(added) if one.old else entry.c <= min(added)):
            text = f"{log_name(one.log)} {one.seq} has clock {entry.c}, was added at {added}, old: {one.old}"
            self._invariants.fail("old", peer, text)
        self._sim.counts["old in a group" if one.old else "news in a group"] += 1

    def _adds(self, fact: Fact) -> bool:
        return fact.kind in ("create", "add")

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
        return naming is not None and other.own in self._expected(peer, naming.talk or talk).named

    def _logs(self, peer: SimPeer, conversation: ConversationId) -> Logs:
        return {log: raws for log, raws in peer.disk.logs.items() if log.conversation == conversation}

    def _expected(self, peer: SimPeer, id: ConversationId) -> ExpectedGroup:
        return expected_group(self._facts(peer, id))

    def _facts(self, peer: SimPeer, id: ConversationId) -> list[Fact]:
        forked = {log for log in peer.disk.stored.forked if log.conversation == id}
        return [
            Fact(chain.hex()[:32], log.user, log.run, before, raw[0], entry.b)
            for log, raw, chain, before in peer.disk.stored.group_entries
            if log.conversation == id and log not in forked and (entry := decode_entry(raw)).k == "group"
        ]

    def _groups(self, peer: SimPeer) -> Iterator[tuple[ConversationId, ConversationId, ExpectedGroup]]:
        stored = peer.disk.stored
        names = {talk.id: talk.naming for talk in stored.conversations if talk.naming.group or talk.naming.talk}
        self.namings |= names
        for id in dict.fromkeys(naming.talk or id for id, naming in names.items()):
            yield id, _talk(id), self._expected(peer, id)

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

    def _unlike(self, id: ConversationId, groups: dict[str, ExpectedGroup], honest: list[SimPeer]) -> Iterator[Fault]:
        named = set().union(*(group.named for group in groups.values()))
        for together in self._reached([peer for peer in honest if peer.own in named]):
            here = [groups[peer.name] for peer in together if peer.name in groups]
            newest = max(here, key=lambda group: len(group.known), default=None)
            if newest is None:
                continue
            for peer in together:
                there = groups.get(peer.name, ExpectedGroup())
                if peer.own in newest.named and there.known != newest.known:
                    yield Fault("group", f"knows {id[:6]} as {_short(there)}, and not as {_short(newest)}", peer.name)
                yield from self._believed(peer, id, there)
            present = [peer for peer in together if peer.own in newest.present]
            for members in self._reached(present):
                yield from self._talks_unlike(_talk(id), newest, members)

    def _believed(self, peer: SimPeer, id: ConversationId, there: ExpectedGroup) -> Iterator[Fault]:
        """Check that a peer's view of a group is the one its disk defines."""
        view = peer.node.groups.get(id) if peer.node else None
        if view is None:
            return
        if (view.name, view.owner, sorted(view.members), sorted(view.admins)) != there.shown:
            members = ", ".join(user[:4] for user in sorted(view.members))
            yield Fault("group", f"shows {id[:6]} as {view.name} ({members}), and holds {_short(there)}", peer.name)
        reported = self._reported.get((peer.name, peer.lives, id), ())
        if reported and reported != (there.name, there.owner, there.present) and not peer.disk.failed:
            yield Fault("group", f"last reported {id[:6]} as another group than {_short(there)}", peer.name)

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
                if member.own != writer.own and writer.end_to(member) is not None:
                    yield from self._invariants.receipts.lacking(written, member)

    def faults(self, peer: SimPeer, *, at_rest: bool) -> Iterator[Fault]:
        """Yield a fault for each entry that must never be on a peer's disk or in its display."""
        for id, talk, group in self._groups(peer):
            logs = self._logs(peer, talk)
            if logs and peer.own not in group.named:
                yield Fault("member", f"holds entries of the talk of {id[:6]}, to which it never belonged", peer.name)
            for log in logs:
                if log.user not in group.named:
                    yield Fault("member", f"holds {log_name(log)} of a user who was never a member", peer.name)
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
            for seq in range(n + 1, len(peer.disk.logs[log]) + 1) if log.user == peer.own else ():
                if (peer.name, log, seq) not in self._undelivered and not (
                    peer.disk.busy or self._invariants.may_fork(log)
                ):
                    yield Fault("undelivered", f"not reported as cut off: {log_name(log)} {seq}", peer.name)

    def is_cut(self, peer: SimPeer, conversation: ConversationId, ref: Ref, shown: Container[ShownKey]) -> bool:
        """Return whether an entry of a talk is not visible on this peer, cut off or missing, or was not by the facts
        that were shown before: a removal may prove later not to count.
        """
        naming = self.namings.get(conversation)
        if naming is None or naming.talk is None:
            return False
        logs, facts = self._logs(peer, conversation), self._facts(peer, naming.talk)
        then = [one for one in facts if (naming.talk, ref_key(one.by, one.run), 1) in shown]
        return any(_is_hidden(expected_group(known), ref, logs, peer.disk.before) for known in (facts, then))

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


def _short(group: ExpectedGroup) -> str:
    members = ", ".join(user[:4] for user in sorted(group.present))
    return f"{group.name!r} of {len(group.known)} ({members})"
