"""Plans of statements: what a founder or an admin has to say so that somebody is out, in again, or an admin.

Each removal is about one member: it names the member first, then a few of its users. The removal of an admin drops all
that it had said. So it lists whom that admin had added and who stays, after what says anew whom it had removed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from p2pchat.core.members.member_list import MemberList
from p2pchat.core.members.statement import (
    ADD,
    ADMIN,
    CLOSE,
    MAX_ADDED,
    MAX_CLOSED,
    MAX_KEPT,
    MAX_PARDONED,
    PARDON,
    REMOVE,
    Statement,
    make_statement,
)
from p2pchat.protocol import UserId

Plan = tuple[str, dict[str, Any]]  # a kind of statement, and its fields; a pardon without ids is of the one before it


def plan_removal(
    members: MemberList, signer: UserId, who: Sequence[UserId], is_out: Callable[[UserId], bool], *,
    hide: bool = False, without: Sequence[UserId] = (),
) -> list[Plan]:  # fmt: skip
    """Return what the signer says to remove a member and users of it, or users alone.

    Args:
        is_out: Returns whether a user is out, by all that is known of it.
        without: Whom an admin had added and who does not stay.
    Raises:
        ValueError: It may not remove one of them; the text says why.
    """
    if members.founder in who:
        raise ValueError("the founder of a network cannot be expelled from it")
    admins = members.admins.intersection(who)
    if admins and signer != members.founder:
        raise ValueError("an admin can be expelled by the founder alone: ask the founder")
    if signer in who:
        raise ValueError("that is this peer's own member: nobody expels itself")
    said = (one for user in who for one in members.additions(user))
    invites = sorted({one.invite for one in said if one.by not in who} - {""})  # an admin adds itself with any
    fields = _removal_fields(who, hide=hide, invites=invites)
    plans = list[Plan]()
    for admin in sorted(admins):
        again, keep = _succession(members, admin, is_out, without={*who, *without})
        plans += again
        plans += [(REMOVE, {"who": [admin], "keep": keep})] if keep else []
    return [*plans, (REMOVE, fields)]  # it is shown at handshakes, where those that keep many have no room


def plan_pardon(
    members: MemberList, signer: UserId, who: Collection[UserId], removals: Sequence[Statement]
) -> list[Plan]:
    """Return what the signer says to take back removals of users.

    What one removal said of others stays: it is said anew. Whom it kept as members stay members.
    Raises:
        ValueError: There is none, or it is of somebody whose removals the signer cannot take back.
    """
    if not removals:
        raise ValueError("nobody has expelled this person")
    if signer != members.founder and any(one.by != signer for one in removals):
        raise ValueError("the founder has expelled this person, or another admin: ask the founder")
    left = [(one, [user for user in one.who if user not in who]) for one in removals]
    again = [(REMOVE, _removal_fields(others, hide=one.hide)) for one, others in left if others]
    return [*again, *((PARDON, {"ids": list(ids)}) for ids in _parts((one.id for one in removals), MAX_PARDONED))]


def plan_admin(
    members: MemberList, signer: UserId, who: UserId, is_out: Callable[[UserId], bool], *, on: bool
) -> list[Plan]:
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
        if who in members.unmade:
            raise ValueError("who was expelled by the founder, or was an admin before, cannot be one again")
        return [] if who in members.admins or who == members.founder else [(ADMIN, {"who": [who]})]
    if who not in members.admins:
        raise ValueError("this person is no admin")
    again, keep = _succession(members, who, is_out, without={who})
    kept = {"keep": keep} if keep else {}
    return [(ADD, {"who": [who]}), *again, (REMOVE, {"who": [who], **kept}), (PARDON, {"ids": []})]


def plan_closing(members: MemberList, signer: UserId, invites: Iterable[str]) -> list[Plan]:
    """Return what the signer says so that invites admit nobody more. Raises ValueError if it may not."""
    left = (invite for invite in invites if members.closing(invite) is None)
    return [(CLOSE, {"invites": list(part)}) for part in _parts(left, MAX_CLOSED)]


def make_statements(
    network: str, signer: UserId, sign: Callable[[bytes], bytes], at: int, plans: Iterable[Plan]
) -> Iterator[Statement]:
    """Yield the statements of a plan.

    Args:
        network: The id of the network (hex).
        sign: Signs with the key of the signer.
        at: The time of the first, in UTC microseconds; each further one is one later.
    """
    last = ""
    for number, (kind, fields) in enumerate(plans):
        said = {"ids": [last]} if kind == PARDON and not fields["ids"] else fields
        made = make_statement(network, signer, sign, kind, at + number, said)
        last = made.id
        yield made


def _removal_fields(who: Sequence[UserId], *, hide: bool, invites: Sequence[str] = ()) -> dict[str, Any]:
    fields: dict[str, Any] = {"who": list(who)}
    fields |= {"hide": True} if hide else {}
    return fields | ({"invites": list(invites[:MAX_CLOSED])} if invites else {})


def _succession(
    members: MemberList, admin: UserId, is_out: Callable[[UserId], bool], *, without: set[UserId]
) -> tuple[list[Plan], list[UserId]]:
    """Return what says anew what an admin had said, and whom its removal keeps of those whom it had added.

    Of whom it had removed only those are out whom it could remove. The founder's word would put all of them out.
    """
    said = members.said_by(admin)
    removals = [(one, [user for user in one.who if is_out(user)]) for one in said if members.is_in_force(one)]
    again = [(REMOVE, _removal_fields(out, hide=one.hide, invites=one.invites)) for one, out in removals if out]
    closed = [invite for one in said if one.kind == CLOSE for invite in one.invites]
    again += [(CLOSE, {"invites": list(part)}) for part in _parts(closed, MAX_CLOSED)]
    gone = without.union(*(out for _, out in removals))
    added = [*dict.fromkeys(user for one in said if one.kind == ADD for user in one.who if user not in gone)]
    again += [(ADD, {"who": list(part), "of": admin}) for part in _parts(added[MAX_KEPT:], MAX_ADDED)]
    return again, added[:MAX_KEPT]


def _parts(items: Iterable[str], most: int) -> Iterator[tuple[str, ...]]:
    left = iter(items)
    while part := tuple(islice(left, most)):
        yield part
