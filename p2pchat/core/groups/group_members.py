"""The members of a group: a function of a set of facts, whatever their order.

The group's creator is its owner, until a fact of the owner names another one (`heir`). The owner makes admins and
unmakes them, and removes anybody. An admin adds members and removes those who never were owner or admin; of who becomes
so the removals stay that the owner knew. A leave counts for its writer. A removal or a leave holds until an `add` names
it, whoever made either, and its cut stays: what lies between the cut and the adding is hidden. So two admins who act
apart end with one list, and a removal that nobody knew when somebody was added again outweighs that.

Who manages a group follows from facts of owners alone, so nobody can make a circle: of who is an admin no more, those
facts count that the owner had when it said so (`said`), under each such word; of a former owner those on which the fact
builds that handed the group over. All facts of who is an admin or the owner now count.

An owner may have removed somebody on one machine while another one, which had not heard of it, handed the group over.
Others wrote without that user in between. So a removal by who owned the group, or was named to own it, stays in force
while no owner unmade that one, and then if `said` has it. It counts against nobody who owned the group or was named to,
and unmakes no admin. With a changed program a former owner can say it at any time; that takes nothing from anybody that
a second handover, said to be as old as the first, could not take: nobody can tell it from that of another machine.

What a fact changes is looked at only for those whom it names, and for those whom facts of these name. Of what one
writer says of one user without end the newest count, a fixed number of each kind: an honest addition or removal makes
older ones needless, since it ends all or cuts off more.

Source: docs/protocol-groups.md.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Protocol

from p2pchat.bounded import drop, place
from p2pchat.core.groups.group_fact import (
    ADD,
    ADMIN,
    CREATE,
    HEIR,
    LEAVE,
    MAX_MEMBERS,
    NAME,
    REMOVE,
    UNADMIN,
    FactId,
    GroupFact,
    Marks,
)
from p2pchat.protocol import Mark, RunId, UserId

MAX_HANDOVERS = 64  # each may change what counts of all that was said; a guess
MAX_HEIRS = 2  # whom one owner names with one number, restored: who names more stays the owner; a guess
MAX_ALIKE = 64  # facts of one writer and kind about one user; a guess
MAX_UNMAKING = 4  # words that one user is no admin, which no later one ended; a guess
# Of one writer in one group, each counted for everybody in it: an admin has added or removed somebody as often. A word
# of its owner has all of these looked at again.
MAX_FACTS = 4096
NOTHING, AS_ADMIN, AS_FORMER_OWNER, AS_OWNER = range(4)  # how a fact counts


class LogView(Protocol):
    """The facts of a log on which it depends what a cut covers."""

    @property
    def builds_on(self) -> Marks:
        """The marks of other logs of its writer that it builds on: of a forked one none."""


class CutCoverage:
    """Coverage of marks: what they name and everything those logs build on.

    Attributes:
        views: The logs that are here.
        upto: How far each log is covered.
        missing: Logs that the marks name or build on which have not begun here: others may prove to be covered.
    """

    def __init__(self, marks: Iterable[Mark], views: Mapping[RunId, LogView]) -> None:
        self.views: Mapping[RunId, LogView] = views
        self.upto: dict[RunId, Mark] = {}
        self.missing: set[RunId] = set()
        self._cover(marks)

    def _cover(self, marks: Iterable[Mark]) -> list[RunId]:
        """Cover more; return the logs of which less was covered before."""
        todo, new = [*marks], list[RunId]()
        while todo:
            mark = todo.pop()
            if mark.run not in self.upto:
                new.append(mark.run)
                view = self.views.get(mark.run)
                if view is not None:
                    todo += view.builds_on
                else:
                    self.missing.add(mark.run)
            elif mark > self.upto[mark.run]:
                new.append(mark.run)
            self.upto[mark.run] = max(mark, self.upto.get(mark.run, mark))
        return new

    def begin(self, run: RunId) -> list[RunId]:
        """Take that a log is here now. If it was missing, return it and what is covered through it."""
        if run not in self.missing:
            return []
        self.missing.remove(run)
        return [run, *self._cover(self.views[run].builds_on)]


class GroupMembers:
    """The members of one group.

    Attributes:
        owners: Who owned the group, one after the other; the creator is the first.
        judged: Whom a fact added, removed or ranked since somebody emptied this.
    """

    def __init__(self) -> None:
        self.owners: list[UserId] = []
        self.judged: set[UserId] = set()
        # From each of them to the next; None where one had named too many.
        self._handovers: list[GroupFact | None] = []
        self._heirs: dict[tuple[int, UserId], dict[FactId, GroupFact]] = {}  # those whom owners named, by whose word
        self._entitled: set[UserId] = set()  # the creator, and whom owners named, though another one came to own it
        self._said: dict[UserId, dict[RunId, GroupFact]] = {}
        self._sizes: Counter[UserId] = Counter()  # of all that somebody said: whom its facts are about
        self._levels: dict[FactId, int] = {}  # of the facts that count
        self._about: dict[tuple[str, UserId], dict[UserId, list[GroupFact]]] = {}  # that count, by writer, newest first
        self._enders: dict[tuple[str, UserId, FactId], dict[FactId, GroupFact]] = {}  # by kind and by what they end
        # By somebody's handovers, and by what each had that unmade it, as far as somebody asked.
        self._covered: dict[UserId, list[CutCoverage]] = {}
        self._cuts: dict[FactId, CutCoverage] = {}  # of removals and leaves, likewise
        self._since: dict[UserId, int] = {}  # those who are in, and since when
        self._in: list[tuple[int, UserId]] = []  # the same, the oldest first

    def take(self, fact: GroupFact) -> None:
        """Take a fact that is not here."""
        self._said.setdefault(fact.by, {})[fact.run] = fact
        self._sizes[fact.by] += max(1, len(fact.who))
        if fact.kind == CREATE:
            self.owners = [fact.by]
            self._refresh_owners(0)
        elif fact.kind == HEIR and fact.n < MAX_HANDOVERS:
            place(self._heirs, (fact.n, fact.by), fact.id, fact, is_there=True)
            self._refresh_owners(fact.n)
        through = [run for each in self._covered.get(fact.by, ()) for run in each.begin(fact.run)]
        self._weigh(fact.by, [fact.run, *through])

    def drop(self, fact: GroupFact) -> None:
        """Take a fact back: its log forked, so that nobody can tell which one others have. That the group was made is
        proven by its id.
        """
        if fact.kind != CREATE and self._said[fact.by].pop(fact.run, None) is not None:
            if fact.id in self._heirs.get((fact.n, fact.by), ()):
                place(self._heirs, (fact.n, fact.by), fact.id, fact, is_there=False)
                self._refresh_owners(fact.n)
            self._count(fact, NOTHING)
            self._weigh_all(fact.by)

    # ---- which facts count

    def _refresh_owners(self, changed: int) -> None:
        """Follow the handovers from the creator on, of which one with this number is new or gone."""
        owners, handovers, entitled = self.owners, self._handovers, self._entitled
        self.owners, self._handovers, self._entitled = owners[:1], [], {*owners[:1]}
        while found := self._heirs.get((len(self._handovers), self.owner)):
            if len(found) > MAX_HEIRS:
                self._handovers.append(None)
                self.owners.append(self.owner)
            else:
                handover = found[min(found)]
                self._handovers.append(handover)
                self.owners += handover.who
                self._entitled.update(*(one.who for one in found.values()))
        concerned = entitled ^ self._entitled
        if self._handovers != handovers:
            concerned.update(owners[changed:], self.owners[changed:])
        for user in concerned:
            self._weigh_all(user)
            self._judge(user)

    def _weigh_all(self, user: UserId) -> None:
        """Look again at all facts of somebody."""
        self._covered.pop(user, None)
        self._weigh(user, [*self._said.get(user, ())])

    def _weigh(self, user: UserId, runs: Iterable[RunId]) -> None:
        facts = self._said.get(user, {})
        for run in runs:
            if run in facts:
                self._count(facts[run], self._level(facts[run]))

    def _level(self, fact: GroupFact) -> int:
        """Return how a fact counts."""
        by, kind = fact.by, fact.kind
        if kind == CREATE or by == self.owner:
            return AS_OWNER
        if kind == LEAVE:
            return AS_ADMIN
        if not self.is_ranked(by):
            return NOTHING
        if by not in self._covered:
            views = self._said[by]
            handovers = [one.mark for one in self._handovers if one and one.by == by]
            unmaking = [one.said for one in self.unmaking(by)]
            self._covered[by] = [CutCoverage(marks, views) for marks in (handovers, *unmaking)]
        handed, *left = self._covered[by]
        if fact.run in handed.upto:
            return AS_OWNER
        if not all(fact.run in one.upto for one in left):
            return NOTHING
        if kind == REMOVE and by in self._entitled:
            return AS_FORMER_OWNER
        is_admin = kind in (ADD, REMOVE) and (ADMIN, by) in self._about
        return AS_ADMIN if is_admin else NOTHING

    def has_room(self, user: UserId) -> bool:
        """Return whether more facts of somebody are taken."""
        return self._sizes[user] < MAX_FACTS

    def unmaking(self, user: UserId) -> list[GroupFact]:
        """Return by what somebody is no admin, whoever made it one: the newest, mostly the only one."""
        found = sorted((*self._of(UNADMIN, user), *self._of(REMOVE, user)), key=_age)
        left = (one for one in found if self._is_owners(one) and (ADMIN, user, one.id) not in self._enders)
        return [*islice(left, MAX_UNMAKING)]

    def _of(self, kind: str, user: UserId) -> list[GroupFact]:
        return [one for every in self._about.get((kind, user), {}).values() for one in every[:MAX_ALIKE]]

    def _is_owners(self, fact: GroupFact) -> bool:
        return self._levels.get(fact.id) == AS_OWNER

    def _count(self, fact: GroupFact, level: int) -> None:
        """Have a fact count so, and look at all that follows."""
        former, is_there = self._levels.pop(fact.id, NOTHING), level != NOTHING
        if is_there:
            self._levels[fact.id] = level
        if level == former:
            return
        kind = ADD if fact.kind == CREATE else fact.kind
        who = [fact.by] if kind == LEAVE else fact.who
        if NOTHING in (former, level):
            for user in who:
                self._list_newest((kind, user), fact, is_there=is_there)
            if fact.name:
                self._list_newest((NAME, ""), fact, is_there=is_there)
        for user in who:
            if kind in (ADMIN, UNADMIN, REMOVE) and AS_OWNER in (former, level):
                self._weigh_all(user)
            self._judge(user)

    def _list_newest(self, key: tuple[str, UserId], fact: GroupFact, *, is_there: bool) -> None:
        """Have a fact stand among the newest of its writer about a user, or no more."""
        every = self._about.setdefault(key, {}).setdefault(fact.by, [])
        former = every[:MAX_ALIKE]
        at = bisect_left(every, _age(fact), key=_age)
        every[at : at + (not is_there)] = [fact] if is_there else []
        if at < MAX_ALIKE:
            for changed in {one.id: one for one in (*former[-1:], fact, *every[MAX_ALIKE - 1 : MAX_ALIKE])}.values():
                self._list_ends(key, changed, is_there=changed in every[:MAX_ALIKE])
        if not every:
            drop(self._about, key, fact.by)

    def _list_ends(self, key: tuple[str, UserId], fact: GroupFact, *, is_there: bool) -> None:
        if not is_there:
            self._cuts.pop(fact.id, None)
        for id in fact.who.get(key[1], ()):
            if (fact.id in self._enders.get((*key, id), ())) != is_there:
                place(self._enders, (*key, id), fact.id, fact, is_there=is_there)

    # ---- who is in

    def _judge(self, user: UserId) -> None:
        """Look at whether somebody is in."""
        self.judged.add(user)
        since = self._since.pop(user, None)
        if since is not None:
            del self._in[bisect_left(self._in, (since, user))]
        is_out = any((ADD, user, out.id) not in self._enders for out in self.outs(user))
        if self._of(ADD, user) and not is_out:
            self._since[user] = self.since(user)
            insort(self._in, (self._since[user], user))

    def outs(self, user: UserId) -> Iterator[GroupFact]:
        """Yield the removals and the leaves of somebody that count, ended or not."""
        yield from self._of(LEAVE, user)
        is_ranked = self.is_ranked(user)
        yield from (one for one in self._of(REMOVE, user) if not is_ranked or self._outranks(one, user))

    def _outranks(self, out: GroupFact, user: UserId) -> bool:
        """Return whether a removal counts for who was an admin or the owner: an owner's, or known when it became so."""
        if self._levels[out.id] == AS_FORMER_OWNER and user not in self._entitled:
            return True
        return self._is_owners(out) or any((kind, user, out.id) in self._enders for kind in (ADMIN, HEIR))

    def known_of(self, user: UserId) -> list[FactId]:
        """Return what a fact names that raises somebody: what unmade it, which ends, and its removals, which stay."""
        return [*dict.fromkeys(one.id for one in (*self.unmaking(user), *self.outs(user)))]

    def is_ranked(self, user: UserId) -> bool:
        """Return whether somebody ever was an admin or the owner, so that no admin can remove it."""
        return (ADMIN, user) in self._about or user in self._entitled

    def enders(self, user: UserId, out: GroupFact) -> Collection[GroupFact]:
        """Return what ends a removal or a leave of somebody."""
        return self._enders.get((ADD, user, out.id), {}).values()

    def since(self, user: UserId) -> int:
        """Return the clock of what made somebody a member last, perhaps one that is none any more; 0 if nothing did."""
        each = [self._of(ADD, user), *(self.enders(user, out) for out in self.outs(user))]
        return max(min((one.c for one in adds), default=0) for adds in each)

    def was_member(self, user: UserId, c: int) -> bool:
        """Return whether somebody was a member at this clock."""
        return any(one.c <= c for one in self._of(ADD, user)) and all(
            out.c > c or any(one.c <= c for one in self.enders(user, out)) for out in self.outs(user)
        )

    def adder(self, users: Iterable[UserId]) -> UserId:
        """Return who first added one of these users; the creator if nobody did."""
        found = (one for user in users for one in self._of(ADD, user))
        return min(((one.c, one.by) for one in found), default=(0, self.owners[0] if self.owners else ""))[1]

    @property
    def owner(self) -> UserId:
        """The owner of the group; "" before the fact is here that made it."""
        return self.owners[-1] if self.owners else ""

    @property
    def present(self) -> dict[UserId, int]:
        """The members, each with the clock of what made it one: of too many those who are it for longest."""
        return {user: since for since, user in self._in[:MAX_MEMBERS]}

    def is_admin(self, user: UserId) -> bool:
        """Return whether all facts of somebody count who does not own the group."""
        return (ADMIN, user) in self._about and not self.unmaking(user) and user != self.owner

    @property
    def name_fact(self) -> GroupFact:
        """The fact that gave the group its name."""
        return max(self._of(NAME, ""), key=lambda one: (one.n, one.id))


def _age(fact: GroupFact) -> tuple[int, FactId]:
    return -fact.c, fact.id
