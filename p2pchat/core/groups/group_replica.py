"""One group as a peer knows it: its facts, its members, what each fact changed, and what is visible of its talk.

Facts come as they are stored, in any order. Each returns who was added, removed or left, who is an admin now or not,
and a new name or owner. A user that was named once stays named. The state follows from the set (group_members.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, KeysView, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from p2pchat.core.groups.group_fact import ADD, CREATE, LEAVE, GroupFact, Marks, group_id, read_fact, talk_id
from p2pchat.core.groups.group_members import CutCoverage, GroupMembers, LogView
from p2pchat.core.log import Entry, LogId, RawEntry, decode_entry
from p2pchat.protocol import MAX_INT, ConversationId, Mark, RunId, UserId

NOTHING_COVERED = Mark("", 0, "")
ALL_OF_A_LOG = Mark("", MAX_INT, "")
NO_USERS: frozenset[UserId] = frozenset()  # one object: Python makes a new one each time
Difference = tuple[str, UserId]
"""A change: created, added, removed, left, admin, unadmin, renamed or owner; and whom it concerns."""


@dataclass(frozen=True, slots=True)
class GroupView:
    """The present state of a group.

    Attributes:
        group, talk: The conversations of facts and of the members' messages.
        members: Those who are members now, each with the clock of what made it one.
        admins: Those of them who add and remove others beside the owner.
    """

    group: ConversationId
    talk: ConversationId
    name: str = field(repr=False)
    owner: UserId
    members: Mapping[UserId, int]
    admins: frozenset[UserId]


class GroupReplica(GroupMembers):
    """One group.

    Args:
        in_groups: Counts of how many groups each user is named in; those whom this one names are added.

    Attributes:
        id, talk: The ids of its two conversations.
        state: The present state; None until the fact that made it is known.
        facts: All facts, by their marks.
        named: All users that any fact ever named, and its writer: never copied, as a member may make up millions.
    """

    def __init__(self, group: ConversationId, room: ConversationId, in_groups: Counter[UserId] | None = None) -> None:
        super().__init__()
        self.id: ConversationId = group
        self.talk: ConversationId = talk_id(group)
        self._room = room
        self._in_groups = in_groups
        self.state: GroupView | None = None
        self.facts: dict[Mark, GroupFact] = {}
        self._named: dict[UserId, None] = {}
        self.named: KeysView[UserId] = self._named.keys()

    def begins_with(self, by: UserId, raw: RawEntry) -> bool:
        """Return whether this entry of a user makes the group."""
        return group_id(self._room, by, raw) == self.id

    def read(self, log: LogId, raw: RawEntry, chain: bytes, before: Marks) -> GroupFact | None:
        """Read the fact in the entry of a log; None if it has none that may count here."""
        fact = read_fact(log, chain, before, decode_entry(raw))
        return None if fact is None or (fact.kind == CREATE) != self.begins_with(log.user, raw) else fact

    def add(self, fact: GroupFact) -> list[Difference]:
        """Take a fact that is not here; return what changed."""
        self.facts[fact.mark] = fact
        new = [user for user in {fact.by, *fact.who} if user not in self._named]
        self._named.update(dict.fromkeys(new))
        self.judged.clear()
        self.judged.update(new)
        if self._in_groups is not None:
            self._in_groups.update(new)
        self.take(fact)
        return self._update(fact)

    def fork(self, fact: GroupFact) -> list[Difference]:
        """Take that another fact has the same log, so that neither counts; return what changed."""
        self.judged.clear()
        self.drop(fact)
        return self._update(fact)

    def _update(self, fact: GroupFact) -> list[Difference]:
        former, here = self.state, self.present
        if not self.owners:
            return []
        admins = frozenset(filter(self.is_admin, here))
        self.state = GroupView(self.id, self.talk, self.name_fact.name, self.owner, here, admins)
        return [*_differences(former, self.state, fact)]

    def is_present(self, user: UserId) -> bool:
        """Return whether a user is a member."""
        return self.state is not None and user in self.state.members

    def may_read(self, user: UserId, entry: Entry) -> bool:
        """Return whether a user may read a visible entry of the talk: who is out may read what was written before."""
        return self.is_present(user) or self.was_member(user, entry.c)

    # ---- visibility of entries in the group's talk
    #
    # There is one rule for all logs of one user. An entry is visible if its writer was ever added, and it is under each
    # removal and leave of its writer that counts: the cut of that covers it, or the header of its log names a fact that
    # ended it. A cut covers what its marks name and everything those logs build on. What any of them covers is kept and
    # passed on, though others hide it: else who lacks a log that one cut names could not tell what that covers.

    def has_cut(self, user: UserId) -> bool:
        """Return whether entries of a user were ever cut off, or may be. Then not all of them can be had."""
        return (ADD, user) not in self._about or any(self.outs(user))

    def begin_log(self, user: UserId, views: Mapping[RunId, LogView], run: RunId) -> set[RunId]:
        """Take that a log of a user is here now. Return of which logs more may be visible then, as a cut names it."""
        return {more for out in self.outs(user) for more in self._cut(out, views).begin(run)}

    def _cut(self, out: GroupFact, views: Mapping[RunId, LogView]) -> CutCoverage:
        covered = self._cuts.get(out.id)
        if covered is None or covered.views is not views:
            covered = self._cuts[out.id] = CutCoverage(out.cuts, views)
        return covered

    def visible_end(self, user: UserId, views: Mapping[RunId, LogView], run: RunId, before: Marks | None) -> VisibleEnd:
        """Return how far a log of a user with these logs is visible, with what its header names, None if unknown."""
        if (ADD, user) not in self._about:
            return VisibleEnd(NOTHING_COVERED, NOTHING_COVERED, 0)
        left, kept, at_most = list[Mark](), NOTHING_COVERED, 0
        named = {mark.chain[:32] for mark in before or ()}
        for out in self.outs(user):
            covered = self._cut(out, views)
            end = covered.upto.get(run, NOTHING_COVERED)
            kept = max(kept, end)
            if covered.missing:
                at_most = MAX_INT
            enders = self._enders.get((ADD, user, out.id), {})
            if (before is not None or not enders) and named.isdisjoint(enders):
                left.append(end)
        if not left:
            return VisibleEnd(ALL_OF_A_LOG, ALL_OF_A_LOG, MAX_INT)
        return VisibleEnd(min(left), kept, max(at_most, kept.seq))

    def ending(self, user: UserId, most: int) -> list[Mark]:
        """Return the facts that the next log of a user names, which ended its removals and leaves: always the one that
        ends most of those that are left, the newer of two. So an addition that ends all suffices, whatever others add.
        """
        found = list[Mark]()
        left = [{one.mark: one.c for one in self.enders(user, out)} for out in self.outs(user)]
        while any(left) and len(found) < most:
            ends, clocks = Counter[Mark](), dict[Mark, int]()
            for enders in left:
                ends.update(enders.keys())
                clocks |= enders
            found.append(max(ends, key=lambda mark: (ends[mark], clocks[mark], mark)))
            left = [enders for enders in left if found[-1] not in enders]
        return found


def _differences(former: GroupView | None, now: GroupView, fact: GroupFact) -> Iterator[Difference]:
    if former is None:
        yield "created", ""
        return
    yield from (("added", user) for user in sorted(now.members.keys() - former.members.keys()))
    for user in sorted(former.members.keys() - now.members.keys()):
        yield "left" if fact.kind == LEAVE and user == fact.by else "removed", user
    yield from (("admin", user) for user in sorted(now.admins - former.admins))
    yield from (("unadmin", user) for user in sorted((former.admins - now.admins) & now.members.keys() - {now.owner}))
    if now.name != former.name:
        yield "renamed", ""
    if now.owner != former.owner:
        yield "owner", now.owner


class VisibleEnd(NamedTuple):
    """The last visible entry of a log, and the last one that is kept, MAX_INT if all are, each with the chain there.
    `at_most` so much is kept while logs named by the cuts are missing, since those may build on this log.
    """

    visible: Mark
    kept: Mark
    at_most: int
