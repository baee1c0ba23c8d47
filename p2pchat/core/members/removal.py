"""Plans of statements: what a founder or an admin has to say so that somebody is out, in again, or an admin.

The removal of an admin drops all that it had said. So it lists whom that admin had added and who stays, and whom it had
removed, and takes effect as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from p2pchat.core.members.member_list import MemberList
from p2pchat.core.members.statement import (
    ADD,
    ADMIN,
    MAX_ADDED,
    MAX_KEPT,
    MAX_PARDONED,
    MAX_REMOVED,
    PARDON,
    REMOVE,
    Statement,
    make_statement,
)
from p2pchat.protocol import UserId

Plan = tuple[str, dict[str, Any]]  # a kind of statement, and its fields; a pardon without ids is of the one before it

NO_SAY = "only the founder of this network and its admins can do that: ask one of them"


def plan_removal(members: MemberList, signer: UserId, who: Sequence[UserId], *, hide: bool = False) -> list[Plan]:
    """Return what the signer says to remove users, members or not.

    Raises:
        ValueError: It may not remove one of them; the text says why.
    """
    _check_say(members, signer)
    if members.founder in who:
        raise ValueError("the founder of a network cannot be expelled from it")
    admins = members.admins.intersection(who)
    if admins and signer != members.founder:
        raise ValueError("an admin can be expelled by the founder alone: ask the founder")
    if signer in who:
        raise ValueError("that is this peer's own member: nobody expels itself")
    dropped = [one for one in members.statements() if one.by in admins]
    out = [*dict.fromkeys([*who, *(user for one in _removals_in_force(members, dropped) for user in one.who)])]
    keep = _added(dropped, without=out)
    shown: dict[str, Any] = {"hide": True} if hide else {}
    plans = list(_additions(keep[MAX_KEPT:]))
    for first, part in enumerate(_parts(out, MAX_REMOVED)):
        kept = {"keep": keep[:MAX_KEPT]} if keep and not first else {}
        plans.append((REMOVE, {"who": list(part), **kept, **shown}))
    return plans


def plan_pardon(members: MemberList, signer: UserId, who: Sequence[UserId]) -> list[Plan]:
    """Return what the signer says to take back all removals of users.

    What one removal said of others stays: it is said anew. Whom it kept as members stay members.
    Raises:
        ValueError: None of them is removed, or by somebody whose removals the signer cannot take back.
    """
    _check_say(members, signer)
    removals = {one.id: one for user in who for one in members.removals(user)}
    if not removals:
        raise ValueError("nobody has expelled this person")
    if signer != members.founder and any(one.by != signer for one in removals.values()):
        raise ValueError("the founder has expelled this person, or another admin: ask the founder")
    pardoned = set(who)
    again = [plan for one in removals.values() for plan in _without(one, pardoned)]
    return [*again, *((PARDON, {"ids": list(ids)}) for ids in _parts(removals, MAX_PARDONED))]


def _without(removal: Statement, pardoned: set[UserId]) -> list[Plan]:
    """Return what says the same of the others as a removal that is taken back."""
    others = [user for user in removal.who if user not in pardoned]
    if not others:
        return list(_additions(removal.keep))
    fields: dict[str, Any] = {"who": others}
    fields |= {"keep": list(removal.keep)} if removal.keep else {}
    fields |= {"hide": True} if removal.hide else {}
    return [(REMOVE, fields)]


def plan_admin(members: MemberList, signer: UserId, who: UserId, *, on: bool) -> list[Plan]:
    """Return what the founder says to make a member an admin, or a plain member again.

    What the former admin had added and removed stays as it is. Who was an admin once is never one again.
    Raises:
        ValueError: The signer is not the founder, or this user can be no admin, or is none.
    """
    if signer != members.founder:
        raise ValueError("only the founder of this network makes admins: ask the founder")
    if on:
        if who not in members.members:
            raise ValueError("only a member can be an admin: this person is none, or belongs to another member")
        if any(who in one.who for one in members.statements() if one.kind == REMOVE and one.by == members.founder):
            raise ValueError("who was expelled by the founder, or was an admin before, cannot be one again")
        return [] if who in members.admins or who == members.founder else [(ADMIN, {"who": [who]})]
    if who not in members.admins:
        raise ValueError("this person is no admin")
    said = [one for one in members.statements() if one.by == who]
    out = [user for one in _removals_in_force(members, said) for user in one.who]
    removals = [(REMOVE, {"who": list(part)}) for part in _parts(out, MAX_REMOVED)]
    return [*_additions([who, *_added(said, without=out)]), *removals, (REMOVE, {"who": [who]}), (PARDON, {"ids": []})]


def make_statements(
    network: str, signer: UserId, sign: Callable[[bytes], bytes], at: int, plans: Iterable[Plan]
) -> list[Statement]:
    """Return the statements of a plan.

    Args:
        network: The id of the network (hex).
        sign: Signs with the key of the signer.
        at: The time of the first, in UTC microseconds; each further one is one later.
    """
    made = list[Statement]()
    for kind, fields in plans:
        said = {"ids": [made[-1].id]} if kind == PARDON and not fields["ids"] else fields
        made.append(make_statement(network, signer, sign, kind, at + len(made), said))
    return made


def _check_say(members: MemberList, signer: UserId) -> None:
    if signer != members.founder and signer not in members.admins:
        raise ValueError(NO_SAY)


def _additions(users: Iterable[UserId]) -> Iterator[Plan]:
    return ((ADD, {"who": list(part)}) for part in _parts(users, MAX_ADDED))


def _added(statements: Iterable[Statement], *, without: Sequence[UserId]) -> list[UserId]:
    added = dict.fromkeys(user for one in statements if one.kind == ADD for user in one.who)
    return [user for user in added if user not in without]


def _parts(items: Iterable[str], most: int) -> Iterator[tuple[str, ...]]:
    left = iter(items)
    while part := tuple(islice(left, most)):
        yield part


def _removals_in_force(members: MemberList, statements: Iterable[Statement]) -> list[Statement]:
    return [one for one in statements if one.kind == REMOVE and any(one in members.removals(user) for user in one.who)]
