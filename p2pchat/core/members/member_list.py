"""The member list: who belongs to a network, as a function of a set of statements, whatever their order.

The network's founder adds members, makes them admins, removes anybody and pardons. An admin adds members, removes those
who are neither founder nor admin, and takes its own removals back. A removal outweighs any number of additions. An
admin that the founder ever removed is never one again: pardoned, it is a plain member.

Statements of the founder are kept, and of the admins: all of the founder's, and of each admin those with the smallest
ids, up to a number of bytes that bounds what one of them costs everybody. What expels has a number of its own, so that
no addition pushes a removal out. Whoever makes up small ids pushes out words of its own alone. Peers that heard the
same statements keep the same ones.

Of a former admin nothing is kept, whenever it was signed: nobody can tell what it signs now and dates back. So the
founder says anew what shall stay, before and with its removal: whom it had added (`keep`), and whom it had removed. Who
is named nowhere else is unknown from then on.

A user that is no member belongs to the network as the guest of a member that answers for it by a certificate. It
belongs to all that it has ever named: it is out when one of them is. An admin cannot remove a guest of the founder or
of another admin. A guest of the founder is out by the founder's word about itself alone, whatever others it names.

Every member revokes keys of its own guests, for good: with such a key nobody is a peer any more, whatever it was
before, a user or not. So what a plain member revokes is kept as well, up to a number of bytes, as long as another
statement names that member; by its own peers for ever, which tell it again once somebody names it again.

What a statement changes is looked at only for those whom it names: thousands of members make no step longer.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, Literal

from p2pchat.bounded import Counts, place
from p2pchat.core.durable_changes import Collected
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
    REVOKE,
    Statement,
    StatementId,
    make_statement,
)
from p2pchat.protocol import MAX_INT, PeerId, UserId

MAX_BYTES_OF_ADMIN = 1024 * 1024
"""Bytes of one admin's statements: three quarters for about 3,000 additions, and a quarter for what expels. No further
statement is kept once they are reached."""
MAX_BYTES_REVOKED = 4 * 1024
"""Bytes of what one member revokes: some 16 machines. An admin can name thousands of members."""

Plan = tuple[str, dict[str, Any]]  # a kind of statement, and its fields; a pardon without ids is of the one before it
Standing = Literal["founder", "admin", "member", "expelled", ""]
_Weight = tuple[bool, bool]  # of a removal: it is of the founder, and hides


class ListChange(Collected):
    """Changes that new statements made.

    Attributes:
        kept: Statements that are new and kept.
        dropped: Statements that are not kept any more.
    """

    kept: list[Statement] = []
    dropped: list[Statement] = []


class _Said(dict[StatementId, Statement]):
    """The statements of one signer that are kept, by their ids."""

    def __init__(self) -> None:
        self._ids: dict[str, list[StatementId]] = {}  # in order, by the kinds that share a limit
        self._bytes: Counter[str] = Counter()

    def keep(self, new: Iterable[Statement]) -> list[Statement]:
        """Keep those of an admin with the smallest ids, up to the one that passes a limit: without it, sets would not
        agree. Return what is dropped, of the new ones too.
        """
        for one in new:
            limit = {PARDON: REMOVE, CLOSE: REMOVE, ADMIN: ADD, "": ADD}.get(one.kind, one.kind)
            self[one.id] = one
            insort(self._ids.setdefault(limit, []), one.id)
            self._bytes[limit] += one.size
        most = {ADD: MAX_BYTES_OF_ADMIN * 3 // 4, REMOVE: MAX_BYTES_OF_ADMIN // 4, REVOKE: MAX_BYTES_REVOKED}
        dropped = list[Statement]()
        for limit, ids in self._ids.items():
            while ids and self._bytes[limit] - self[ids[-1]].size >= most[limit]:
                dropped.append(self.pop(ids.pop()))
                self._bytes[limit] -= dropped[-1].size
        return dropped


class MemberList:
    """The members of one network.

    Args:
        own: The member whose key is here.

    Attributes:
        founder: The key that founded the network.
        members: Those that belong to it and answer for guests; the founder and the admins too.
        made: Everybody whom the founder ever made an admin, itself aside, and since when.
        unmade: Everybody whom the founder ever removed, pardoned or not, and since when: who is no admin again.
        admins: Those who add and remove others. Their statements are kept.
        removed: Users that are out, members or not, unless somebody answers for them whom their removal cannot touch.
        concealed: Those of them of whom nothing is shown any more.
    """

    def __init__(self, founder: UserId, own: UserId = "") -> None:
        self.founder = founder
        self._own = own
        self.members: set[UserId] = {founder}
        self.made: dict[UserId, int] = {}
        self.unmade: dict[UserId, int] = {}
        self.admins: frozenset[UserId] = frozenset()
        self.removed: set[UserId] = set()
        self.concealed: set[UserId] = set()
        self._by_signer: dict[UserId, _Said] = {founder: _Said()}
        self._naming: dict[UserId, dict[StatementId, Statement]] = {}  # by whom they name, also without effect
        self._pardons: dict[str, dict[StatementId, Statement]] = {}  # by what they pardon and who says so
        self._came: dict[str, dict[StatementId, Statement]] = {}  # additions, by invites
        self._closing: dict[str, dict[StatementId, Statement]] = {}  # what closes invites, and is in force
        self._first_closing: dict[str, Statement] = {}  # the first of those
        self._revoking: dict[str, dict[StatementId, Statement]] = {}  # by the keys of peers and who revokes them
        self._in_force: set[StatementId] = set()  # removals
        self._in: Counter[UserId] = Counts()  # how many statements make somebody a member
        self._out: dict[UserId, Counter[_Weight]] = {}  # how many removals in force are about somebody

    def statements(self) -> list[Statement]:
        """Return all that are kept."""
        return [statement for statements in self._by_signer.values() for statement in statements.values()]

    def has(self, one: Statement) -> bool:
        """Return whether a statement is kept."""
        return one.id in self._by_signer.get(one.by, ())

    def time_of(self, one: Statement, latest: int = MAX_INT) -> int:
        """Return when a statement was made, by its author, as far as it can be true: not before that was an admin."""
        return min(max(one.at, self.made.get(one.by, 0)), latest)

    def _order(self, one: Statement) -> tuple[int, StatementId]:
        return self.time_of(one), one.id

    def add(self, statements: Iterable[Statement]) -> ListChange:
        """Take statements whose signatures were verified; keep those that count."""
        change, new = ListChange(), dict[UserId, dict[StatementId, Statement]]()
        for one in statements:
            if not self.has(one):
                new.setdefault(one.by, {})[one.id] = one
        of_founder = new.get(self.founder, {})
        self._by_signer[self.founder].update(of_founder)
        change.kept += of_founder.values()
        former = self.admins
        self._name_admins(of_founder.values())
        for admin in former - self.admins:
            said = self._by_signer.pop(admin, _Said())
            change.dropped += [one for one in said.values() if one.kind != REVOKE]
            self._keep(ListChange(), admin, said)
        for admin in self.admins & new.keys():
            self._keep(change, admin, new[admin])
        self._follow(change, former ^ self.admins)
        revoked = ListChange()  # of plain members, as far as they are named by then
        for member in new.keys() - self.admins - {self.founder}:
            if self.is_named(member) or member == self._own:
                self._keep(revoked, member, new[member])
        for member in [*self._by_signer] if change.dropped else ():
            if not self.is_named(member) and member != self._own:
                revoked.dropped += self._by_signer.pop(member).values()
        self._follow(revoked, ())
        change.kept += revoked.kept
        change.dropped += revoked.dropped
        return change

    def _keep(self, change: ListChange, signer: UserId, new: dict[StatementId, Statement]) -> None:
        """Keep what somebody may say that is not the founder, as far as there is room."""
        said, may_say_all = self._by_signer.setdefault(signer, _Said()), signer in self.admins
        dropped = said.keep(one for one in new.values() if may_say_all or one.kind == REVOKE)
        change.kept += [one for id, one in new.items() if id in said]
        change.dropped += [one for one in dropped if one.id not in new]

    def fits(self, statements: Collection[Statement]) -> bool:
        """Return whether statements of one signer are kept, and push none of its others out."""
        signers = {one.by for one in statements} - {self.founder}
        every = {one.id: one for one in chain(*map(self.said_by, signers), statements)}
        return not signers or not _Said().keep(every.values())

    # ---- users

    def standing(self, user: UserId) -> Standing:
        """Return what a user is by itself, whoever answers for it."""
        if user == self.founder:
            return "founder"
        if user in self.removed:
            return "expelled"
        if user in self.admins:
            return "admin"
        return "member" if user in self.members else ""

    def is_named(self, user: UserId) -> bool:
        """Return whether a user was ever added, kept or removed by a statement that is kept."""
        return user == self.founder or user in self._naming

    def named(self) -> list[UserId]:
        """Return those of whom is_named() is true."""
        return [self.founder, *self._naming]

    def admits(self, user: UserId, member: UserId, named: Collection[UserId] = ()) -> bool:
        """Return whether a user belongs to the network, by statements that may not be durable yet.

        Args:
            member: Who answers for it by a certificate; the user itself if it is a member.
            named: Members that it has named before, in logs and certificates of its own.
        """
        return member in self.members and not self.against(user, (member, *named))

    def against(self, user: UserId, members: Collection[UserId]) -> list[Statement]:
        """Return the removals by which a user is out that has named these members, the oldest first."""
        if user not in self.removed and self.removed.isdisjoint(members):
            return []
        own = [one for one in self.removals(user) if self._may_remove(one, user, members)]
        if self.founder in members:  # who has the key of such a user cannot name another member and have it out
            members = ()
        theirs = [one for member in members if member in self.removed for one in self.removals(member)]
        found = {one.id: one for one in chain(own, theirs)}
        return sorted(found.values(), key=self._order)

    def removals(self, user: UserId) -> list[Statement]:
        """Return the removals of a user that nobody took back, the oldest first. Not all need count for a guest."""
        found = [one for one in self._naming_as(REMOVE, user) if user in one.who and self.is_in_force(one)]
        return sorted(found, key=self._order)

    def unmaking(self, admin: UserId) -> Statement | None:
        """Return the smallest removal by which somebody is no admin any more, pardoned or not; None for others."""
        found = [one for one in self._naming_as(REMOVE, admin) if one.by == self.founder] if admin in self.made else []
        return min(found, key=lambda one: (one.size, one.id), default=None)

    def pardons(self, users: Collection[UserId]) -> list[Statement]:
        """Return the pardons of those who had removed one of these users."""
        removals = {one.id: one for user in users for one in self._naming_as(REMOVE, user)}
        return [pardon for one in removals.values() for pardon in self._pardons_of(one)]

    def addition(self, member: UserId) -> Statement | None:
        """Return the statement by which somebody became a member: the first addition, else what kept it."""
        return min(self.admitting(member), key=self._order, default=None)

    def admitting(self, member: UserId) -> list[Statement]:
        """Return the statements that add somebody; without one what kept it."""
        kept = (one for one in self._naming_as(REMOVE, member) if member in self._kept_by(one))
        return self.additions(member) or [*kept]

    def additions(self, member: UserId) -> list[Statement]:
        """Return the statements that add somebody."""
        return [*self._naming_as(ADD, member)]

    def admitter(self, said: Statement) -> UserId:
        """Return who had admitted whom a statement adds or keeps. The founder alone names a former admin."""
        if said.kind == REMOVE:
            return said.who[0]
        return said.of if said.of and said.by == self.founder else said.by

    def said_by(self, signer: UserId) -> list[Statement]:
        """Return the statements of one signer that are kept."""
        return [*self._by_signer.get(signer, {}).values()]

    def vouching(self, member: UserId) -> list[Statement]:
        """Return the smallest statement by which a user is a member, after that by which its signer is an admin."""
        if member in self.admins:
            return [*self._naming_as(ADMIN, member)][:1]
        found = self.admitting(member)
        if not found:
            return []
        smallest = min(found, key=lambda one: (one.size, one.id))
        return [*([] if smallest.by == self.founder else self.vouching(smallest.by)), smallest]

    def revocations(self, peer: PeerId, members: Iterable[UserId]) -> list[Statement]:
        """Return the statements by which one of these members, of which a peer is a guest, revokes its key."""
        return [one for member in {*members} for one in self._revoking.get(peer + member, {}).values()]

    # ---- invites

    def additions_by(self, invite: str) -> list[Statement]:
        """Return the additions of those who came by an invite."""
        return [*self._came.get(invite, {}).values()]

    def closing(self, invite: str) -> Statement | None:
        """Return the first statement that closes an invite: one that says so, or the removal of who came by it."""
        return self._first_closing.get(invite)

    # ---- plans: what a founder or an admin has to say so that somebody is out, in again, or an admin
    #
    # Each removal is about one member: it names the member first, then a few of its users. The removal of an admin
    # drops all that it had said. So it lists whom that admin had added and who stays, after what says anew whom it had
    # removed.

    def plan_removal(
        self, signer: UserId, who: Sequence[UserId], is_out: Callable[[UserId], bool],
        wrote: Callable[[UserId], bool], *, hide: bool = False, without: Sequence[UserId] = (),
    ) -> list[Plan]:  # fmt: skip
        """Return what the signer says to remove a member and users of it, or users alone.

        Args:
            is_out: Returns whether a user is out, by all that is known of it.
            wrote: Returns whether something that a user wrote is here.
            without: Whom an admin had added and who does not stay.
        Raises:
            ValueError: It may not remove one of them; the text says why.
        """
        if self.founder in who:
            raise ValueError("the founder of a network cannot be expelled from it")
        admins = self.admins.intersection(who)
        if admins and signer != self.founder:
            raise ValueError("an admin can be expelled by the founder alone: ask the founder")
        if signer in who:
            raise ValueError("that is this peer's own member: nobody expels itself")
        said = (one for user in who for one in self.additions(user))
        invites = sorted({one.invite for one in said if one.by not in who} - {""})  # an admin adds itself with any
        fields = _removal_fields(who, hide=hide, invites=invites)
        plans = list[Plan]()
        for admin in sorted(admins):
            again, keep = self._succession(admin, is_out, wrote, without={*who, *without})
            plans += again
            plans += [(REMOVE, {"who": [admin], "keep": keep})] if keep else []
        return [*plans, (REMOVE, fields)]  # it is shown at handshakes, where those that keep many have no room

    def plan_pardon(self, signer: UserId, who: Collection[UserId], removals: Sequence[Statement]) -> list[Plan]:
        """Return what the signer says to take back removals of users.

        What one removal said of others stays: it is said anew. Whom it kept as members stay self.
        Raises:
            ValueError: There is none, or it is of somebody whose removals the signer cannot take back.
        """
        if not removals:
            raise ValueError("nobody has expelled this person")
        if signer != self.founder and any(one.by != signer for one in removals):
            raise ValueError("the founder has expelled this person, or another admin: ask the founder")
        left = [(one, [user for user in one.who if user not in who]) for one in removals]
        again = [(REMOVE, _removal_fields(others, hide=one.hide)) for one, others in left if others]
        return [*again, *((PARDON, {"ids": list(ids)}) for ids in _parts((one.id for one in removals), MAX_PARDONED))]

    def plan_admin(
        self, signer: UserId, who: UserId, is_out: Callable[[UserId], bool],
        wrote: Callable[[UserId], bool], *, on: bool,
    ) -> list[Plan]:  # fmt: skip
        """Return what the founder says to make a member an admin, or a plain member again.

        What the former admin had added and removed stays as it is. Who was an admin once is never one again.
        Raises:
            ValueError: The signer is not the founder, or this user can be no admin, or is none.
        """
        if signer != self.founder:
            raise ValueError("only the founder of this network makes admins: ask the founder")
        if on:
            if who not in self.members:
                raise ValueError("only a member can be an admin: this person is none, or belongs to another member")
            if who in self.unmade:
                raise ValueError("who was expelled by the founder, or was an admin before, cannot be one again")
            return [] if who in self.admins or who == self.founder else [(ADMIN, {"who": [who]})]
        if who not in self.admins:
            raise ValueError("this person is no admin")
        again, keep = self._succession(who, is_out, wrote, without={who})
        kept = {"keep": keep} if keep else {}
        return [(ADD, {"who": [who]}), *again, (REMOVE, {"who": [who], **kept}), (PARDON, {"ids": []})]

    def plan_closing(self, signer: UserId, invites: Iterable[str]) -> list[Plan]:
        """Return what the signer says so that invites admit nobody more. Raises ValueError if it may not."""
        left = (invite for invite in invites if self.closing(invite) is None)
        return [(CLOSE, {"invites": list(part)}) for part in _parts(left, MAX_CLOSED)]

    def _succession(
        self, admin: UserId, is_out: Callable[[UserId], bool], wrote: Callable[[UserId], bool], *, without: set[UserId]
    ) -> tuple[list[Plan], list[UserId]]:
        """Return what says anew what an admin had said, and whom its removal keeps of those whom it had added.

        Of whom it had removed only those are out whom it could remove. The founder's word would put all of them out,
        and name for ever whatever keys an admin makes up: so it is about those who wrote, or whom others had added. Of
        each user one removal is repeated, one that hides before others.
        """
        said = self.said_by(admin)
        removals = sorted(filter(self.is_in_force, said), key=lambda one: (not one.hide, self._order(one)))
        out = set(filter(is_out, {user for one in removals for user in one.who}))
        left = {user for user in out if wrote(user) or any(one.by != admin for one in self.admitting(user))}
        again, closed = list[Plan](), [invite for one in said if one.kind == CLOSE for invite in one.invites]
        for one in removals:
            if who := [user for user in one.who if user in left]:
                again.append((REMOVE, _removal_fields(who, hide=one.hide, invites=one.invites)))
                left.difference_update(who)
        again += [(CLOSE, {"invites": list(part)}) for part in _parts(closed, MAX_CLOSED)]
        gone = without | out
        added = [*dict.fromkeys(user for one in said if one.kind == ADD for user in one.who if user not in gone)]
        again += [(ADD, {"who": list(part), "of": admin}) for part in _parts(added[MAX_KEPT:], MAX_ADDED)]
        return again, added[:MAX_KEPT]

    # ----

    def _may_remove(self, removal: Statement, user: UserId, members: Collection[UserId]) -> bool:
        """Return whether a removal counts for a user that has named these members. Made-up ones mean nothing."""
        if user == self.founder or removal.by == self.founder:
            return user != self.founder
        if user in self.admins or self.founder in members:
            return False
        said = [member for member in members if self.is_named(member)]
        return not said or any(one == removal.by or one not in self.admins for one in said)

    def is_in_force(self, one: Statement) -> bool:
        """Return whether a statement is a removal that nobody took back who may."""
        return one.kind == REMOVE and not any(self._pardons_of(one))

    def _pardons_of(self, removal: Statement) -> Iterator[Statement]:
        """Yield what takes a removal back: of the founder, and of who had said it."""
        for by in {self.founder, removal.by}:
            yield from self._pardons.get(removal.id + by, {}).values()

    def _naming_as(self, kind: str, user: UserId) -> Iterator[Statement]:
        return (one for one in self._naming.get(user, {}).values() if one.kind == kind)

    def _name_admins(self, new: Iterable[Statement]) -> None:
        """Take who is an admin from new statements of the founder, none of which is ever dropped."""
        for one in new:
            since = self.made if one.kind == ADMIN else self.unmade
            for user in {*one.who} - {self.founder} if one.kind in (ADMIN, REMOVE) else ():
                since[user] = min(one.at, since.get(user, one.at))
        self.admins = frozenset(self.made.keys() - self.unmade.keys())

    def _follow(self, change: ListChange, changed: Collection[UserId]) -> None:
        """Count what was kept and dropped, and look again at whom that concerns, and at who became or were admins.

        The work is that of the lists in these statements, however many others name the same: so nobody can multiply it.
        """
        users, removals = {*changed}, dict[StatementId, Statement]()
        for more, statements in ((1, change.kept), (-1, change.dropped)):
            for one in statements:
                for index, key in self._places(one):
                    place(index, key, one.id, one, is_there=more > 0)
                added = {*one.who} if one.kind == ADD else {*self._kept_by(one)}
                for user in added:
                    self._in[user] += more
                users |= added
                if one.kind == CLOSE:
                    self._close(one, is_there=more > 0)
                removals |= {one.id: one} if one.kind == REMOVE else {each.id: each for each in self._kept(one.ids)}
        for one in removals.values():
            users.update(self._weigh(one))
        for user in users - {self.founder}:
            self._look_at(user)

    def _weigh(self, removal: Statement) -> tuple[UserId, ...]:
        """Count a removal as long as it is kept and in force. Return whom that concerns, () if nothing changes."""
        is_there = self.has(removal) and self.is_in_force(removal)
        if is_there == (removal.id in self._in_force):
            return ()
        self._in_force ^= {removal.id}
        weight = removal.by == self.founder, removal.hide
        for user in {*removal.who}:
            self._out.setdefault(user, Counts())[weight] += 1 if is_there else -1
            if not self._out[user]:
                del self._out[user]
        self._close(removal, is_there=is_there)
        return removal.who

    def _close(self, one: Statement, *, is_there: bool) -> None:
        """Have a statement close its invites, or no more."""
        for invite in {*one.invites}:
            place(self._closing, invite, one.id, one, is_there=is_there)
            first = self._first_closing.get(invite)
            if is_there and (first is None or self._order(one) < self._order(first)):
                self._first_closing[invite] = one
            elif first is one:
                left = self._closing.get(invite, {}).values()
                self._first_closing.pop(invite)
                self._first_closing.update({invite: min(left, key=self._order)} if left else {})

    def _kept_by(self, one: Statement) -> tuple[UserId, ...]:
        """Return whom a removal keeps as members: that of an admin nobody."""
        return one.keep if one.by == self.founder else ()

    def _places(self, one: Statement) -> Iterator[tuple[dict[str, dict[StatementId, Statement]], str]]:
        """Yield the indexes in which a statement stands, each with its place there. A user may stand in it twice."""
        if one.kind in (ADD, REMOVE) or (one.kind == ADMIN and one.by == self.founder):
            yield from ((self._naming, user) for user in {*one.who, *self._kept_by(one)})
        yield from ((self._pardons, id + one.by) for id in {*one.ids})
        yield from ((self._came, invite) for invite in {one.invite} - {""})
        yield from ((self._revoking, peer + one.by) for peer in {*one.who} if one.kind == REVOKE)

    def _kept(self, ids: Iterable[StatementId]) -> Iterator[Statement]:
        """Yield the statements that are kept of these."""
        deciding = [self._by_signer[by] for by in (self.founder, *self.admins) if by in self._by_signer]
        return (said[id] for id in {*ids} for said in deciding if id in said)

    def concerned(self, statements: Iterable[Statement]) -> dict[UserId, list[Statement]]:
        """Return whose standing statements may change, each with what is about it.

        Of pardons that is the newest of each removal, behind that removal.
        """
        found: dict[UserId, list[Statement]] = {}
        pardons: dict[StatementId, Statement] = {}
        for one in statements:
            for user in chain(one.who, self._kept_by(one)):
                found.setdefault(user, []).append(one)
            pardons |= {id: one for id in one.ids if id not in pardons or pardons[id].at < one.at}
        for id, pardon in pardons.items():
            for removal in self._kept([id]):
                for user in removal.who:
                    found.setdefault(user, []).extend((removal, pardon))
        return found

    def _look_at(self, user: UserId) -> None:
        is_admin, weights = user in self.admins, self._out.get(user, ())
        counting = [hide for is_founders, hide in weights if is_founders or not is_admin]
        is_in, is_out = is_admin or self._in[user] > 0, bool(counting)
        for users, is_there in (
            (self.removed, is_out), (self.members, is_in and not is_out), (self.concealed, any(counting)),
        ):  # fmt: skip
            users.add(user) if is_there else users.discard(user)


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


def _parts(items: Iterable[str], most: int) -> Iterator[tuple[str, ...]]:
    left = iter(items)
    while part := tuple(islice(left, most)):
        yield part
