"""The member list: who belongs to a network, as a function of a set of statements, whatever their order.

The network's founder adds members, makes them admins, removes anybody and pardons. An admin adds members, removes those
who are neither founder nor admin, and takes its own removals back. A removal outweighs any number of additions. An
admin that the founder ever removed is never one again: pardoned, it is a plain member.

Only statements of the founder and of admins in force are kept: all of the founder's, and of each admin those with the
smallest ids, up to a number of bytes that bounds what one of them costs everybody. So peers that heard the same
statements keep the same ones, and the removal of an admin drops all that it had said. Its removal therefore names whom
it had added and shall stay (`keep`), and whom it had removed.

A user that is no member belongs to the network as the guest of a member that answers for it by a certificate. An admin
cannot remove a guest of the founder or of another admin.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from p2pchat.core.members.statement import ADD, ADMIN, PARDON, REMOVE, Statement, StatementId
from p2pchat.protocol import UserId

MAX_BYTES_OF_ADMIN = 1024 * 1024
"""Bytes of one admin's statements after which no further one is kept: about 4,000 additions."""


@dataclass(frozen=True, slots=True)
class ListChange:
    """Changes that new statements made.

    Attributes:
        kept: Statements that are new and kept.
        dropped: Ids of statements that are not kept any more.
    """

    kept: list[Statement]
    dropped: list[StatementId]


class MemberList:
    """The members of one network.

    Attributes:
        founder: The key that founded the network.
        members: Those that belong to it and answer for guests; the founder and the admins too.
        admins: Those of them that add and remove others.
        removed: Users that are out, members or not, unless somebody answers for them whom their removal cannot touch.
        named: Everybody who was ever added, kept or removed by a statement that is kept.
    """

    def __init__(self, founder: UserId) -> None:
        self.founder = founder
        self.members: frozenset[UserId] = frozenset([founder])
        self.admins: frozenset[UserId] = frozenset()
        self.removed: frozenset[UserId] = frozenset()
        self.named: frozenset[UserId] = frozenset([founder])
        self._by_signer: dict[UserId, dict[StatementId, Statement]] = {founder: {}}
        self._removals: dict[UserId, list[Statement]] = {}  # those in force, by whom they remove

    def statements(self) -> list[Statement]:
        """Return all that are kept."""
        return [statement for statements in self._by_signer.values() for statement in statements.values()]

    def add(self, statements: Iterable[Statement]) -> ListChange:
        """Take statements whose signatures were verified; keep those that count."""
        before = {id for kept in self._by_signer.values() for id in kept}
        new: dict[UserId, list[Statement]] = {}
        for statement in statements:
            new.setdefault(statement.by, []).append(statement)
        self._by_signer[self.founder].update((one.id, one) for one in new.get(self.founder, ()))
        self.admins = self._admins_in_force()
        for signer in self._by_signer.keys() - self.admins - {self.founder}:
            del self._by_signer[signer]
        for admin in self.admins & new.keys():
            known = self._by_signer.setdefault(admin, {})
            known.update((one.id, one) for one in new[admin])
            self._by_signer[admin] = _smallest(known)
        self._evaluate()
        kept = [one for kept in self._by_signer.values() for id, one in kept.items() if id not in before]
        return ListChange(kept, [*before.difference(*self._by_signer.values())])

    def admits(self, user: UserId, member: UserId) -> bool:
        """Return whether a user belongs to the network.

        Args:
            member: Who answers for it by a certificate; the user itself if it is a member.
        """
        if member not in self.members:
            return False
        return user == member or not any(self._may_remove(one, member) for one in self._removals.get(user, ()))

    def removals(self, user: UserId) -> list[Statement]:
        """Return the removals of a user that nobody took back, the oldest first. Not all need count for a guest."""
        return sorted(self._removals.get(user, ()), key=lambda one: (one.at, one.id))

    def pardons(self, users: Collection[UserId]) -> list[Statement]:
        """Return the pardons of those who had removed one of these users."""
        said = [one for statements in self._by_signer.values() for one in statements.values()]
        removals = {one.id for one in said if one.kind == REMOVE and not set(users).isdisjoint(one.who)}
        return [one for one in said if one.kind == PARDON and not removals.isdisjoint(one.ids)]

    def vouching(self, member: UserId) -> list[Statement]:
        """Return the smallest statement by which a user is a member, after that by which its signer is an admin."""
        founders = self._by_signer[self.founder].values()
        admins = {user: one for one in founders if one.kind == ADMIN for user in one.who if user in self.admins}
        if member in admins:
            return [admins[member]]
        said = [one for statements in self._by_signer.values() for one in statements.values()]
        added = [one for one in said if one.kind == ADD and member in one.who]
        kept = [one for one in said if one.by == self.founder and member in one.keep]
        if not added and not kept:
            return []
        smallest = min(added or kept, key=lambda one: (one.size, one.id))
        return [admins[smallest.by], smallest] if smallest.by in admins else [smallest]

    def _may_remove(self, removal: Statement, member: UserId) -> bool:
        """Return whether a removal counts for a guest of this member."""
        return removal.by in (self.founder, member) or member not in self.admins | {self.founder}

    def _admins_in_force(self) -> frozenset[UserId]:
        own = self._by_signer[self.founder].values()
        made = {user for one in own if one.kind == ADMIN for user in one.who}
        return frozenset(made - {user for one in own if one.kind == REMOVE for user in one.who} - {self.founder})

    def _evaluate(self) -> None:
        founders = self._by_signer[self.founder].values()
        pardoned_by_founder = {id for one in founders if one.kind == PARDON for id in one.ids}
        members, named, out = {self.founder, *self.admins}, {self.founder, *self.admins}, set[UserId]()
        self._removals = {}
        for signer, statements in self._by_signer.items():
            is_founder = signer == self.founder
            own = {id for one in statements.values() if one.kind == PARDON for id in one.ids}
            safe = {self.founder} if is_founder else {self.founder, *self.admins}
            for one in statements.values():
                if one.kind == ADD:
                    members.update(one.who)
                    named.update(one.who)
                elif one.kind == REMOVE:
                    named.update(one.who)
                    if one.id in pardoned_by_founder or one.id in own:
                        continue
                    if is_founder:
                        members.update(one.keep)
                        named.update(one.keep)
                    out.update(user for user in one.who if user not in safe)
                    for user in one.who:
                        self._removals.setdefault(user, []).append(one)
        self.members, self.removed, self.named = frozenset(members - out), frozenset(out), frozenset(named)


def _smallest(statements: dict[StatementId, Statement]) -> dict[StatementId, Statement]:
    """Return those with the smallest ids, up to the one that passes the limit: without it, sets would not agree."""
    kept, size = dict[StatementId, Statement](), 0
    for id in sorted(statements):
        if size >= MAX_BYTES_OF_ADMIN:
            break
        kept[id] = statements[id]
        size += statements[id].size
    return kept
