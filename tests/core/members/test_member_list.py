"""The member list: drawn histories of a network, told to several peers in different orders, and what must hold then."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import permutations
from typing import Any

import pytest

from p2pchat.core.members import member_list
from p2pchat.core.members.member_list import MemberList, Plan, make_statements
from p2pchat.core.members.statement import MAX_KEPT, MAX_REMOVED, Statement, make_statement, network_id
from p2pchat.protocol import UserId

TRIALS = 100
SMALL_LIMIT = 12_000  # bytes of an admin's statements: some 36 additions, and 12 removals
KINDS = ["add", "admin", "remove", "pardon", "close", "revoke"]
FLOOD = 60  # additions: more than it may make


def key(name: str) -> UserId:
    return blake2b(name.encode(), digest_size=32).hexdigest()


FOUNDER = key("founder")
NETWORK = network_id(FOUNDER)
ADA, BEN, CAT, ZOE = map(key, ("ada", "ben", "cat", "zoe"))


class Author:
    """Makes statements. Signatures are not looked at here: whoever gives statements to a list has verified them."""

    def __init__(self) -> None:
        self.said: list[Statement] = []

    def say(self, by: UserId, kind: str, *who: UserId, **fields: Any) -> Statement:
        if who:
            fields["who"] = who
        made = make_statement(NETWORK, by, lambda data: bytes(64), kind, len(self.said), fields)
        self.said.append(made)
        return made


def list_of(statements: Iterable[Statement]) -> MemberList:
    found = MemberList(FOUNDER)
    found.add(statements)
    return found


def ids(members: MemberList) -> list[str]:
    return sorted(one.id for one in members.statements())


# ---- single rules


def test_a_new_network_has_its_founder() -> None:
    found = MemberList(FOUNDER)
    assert found.members == {FOUNDER} and found.admits(FOUNDER, FOUNDER) and found.admits(ADA, FOUNDER)
    assert not found.admits(ADA, ADA) and not found.admits(ADA, BEN)


def test_what_changed_is_told() -> None:
    author, found = Author(), MemberList(FOUNDER)
    admin, early = author.say(FOUNDER, "admin", ADA), author.say(ADA, "add", BEN)
    assert found.add([early]).kept == []  # nobody knows yet that ada may
    change = found.add([early, admin, early])
    assert {one.id for one in change.kept} == {admin.id, early.id} and change.dropped == []
    assert found.add([admin, early]).kept == []
    gone = author.say(FOUNDER, "remove", ADA)
    change = found.add([gone])
    assert [one.id for one in change.kept] == [gone.id] and change.dropped == [early]
    assert found.members == {FOUNDER} and found.removed == {ADA} and not found.is_named(BEN)


@pytest.mark.parametrize("is_pardoned", [False, True])
def test_of_what_a_former_admin_said_nothing_is_kept_whenever_it_comes(*, is_pardoned: bool) -> None:
    author = Author()
    author.say(FOUNDER, "admin", ADA)
    of_ada = [
        author.say(ADA, "add", BEN, invite="00000001"), author.say(ADA, "remove", CAT, invites=["00000002"]),
        author.say(ADA, "close", invites=["00000003"]),
    ]  # fmt: skip
    early = list_of(author.said)
    assert early.is_named(BEN) and CAT in early.removed
    of_founder = [author.say(FOUNDER, "add", CAT), removal := author.say(FOUNDER, "remove", ADA)]
    of_founder += [author.say(FOUNDER, "pardon", ids=[removal.id])] if is_pardoned else []
    assert early.add(of_founder).dropped == of_ada
    late = list_of([author.said[0], *of_founder])
    assert late.add(of_ada).kept == []
    for found in (early, late):
        assert ids(found) == sorted(one.id for one in [author.said[0], *of_founder])
        assert (
            not found.is_named(BEN)
            and found.members == {FOUNDER, CAT}
            and found.removed == {ADA} - {*is_pardoned * [ADA]}
        )
        assert found.additions(BEN) == found.additions_by("00000001") == found.vouching(BEN) == []
        assert found.closing("00000002") is found.closing("00000003") is None
        found.add([author.say(FOUNDER, "add", BEN)])
        assert found.standing(BEN) == "member"


def test_who_removed_somebody_is_told_as_long_as_that_stands() -> None:
    author = Author()
    author.say(FOUNDER, "admin", ADA)
    author.say(FOUNDER, "add", BEN)
    second, first = author.say(ADA, "remove", BEN), author.say(FOUNDER, "remove", BEN, hide=True)
    found = list_of(author.said)
    assert [one.id for one in found.removals(BEN)] == [second.id, first.id]
    found.add([author.say(FOUNDER, "pardon", ids=[first.id])])
    assert found.removals(BEN) == [second] and BEN not in found.members
    found.add([author.say(ADA, "pardon", ids=[second.id])])
    assert found.removals(BEN) == [] and BEN in found.members


def test_the_founder_cannot_be_removed() -> None:
    author = Author()
    author.say(FOUNDER, "admin", ADA)
    author.say(ADA, "remove", FOUNDER)
    author.say(FOUNDER, "remove", FOUNDER)
    found = list_of(author.said)
    assert FOUNDER in found.members and found.removed == set()


def test_an_admin_s_guest_is_removed_by_that_admin_and_the_founder_only() -> None:
    author = Author()
    author.say(FOUNDER, "admin", ADA, BEN)
    author.say(FOUNDER, "add", CAT)
    author.say(BEN, "remove", ZOE)
    found = list_of(author.said)
    assert ZOE in found.removed
    assert found.admits(ZOE, ADA) and found.admits(ZOE, FOUNDER)
    assert not found.admits(ZOE, BEN) and not found.admits(ZOE, CAT) and not found.admits(ZOE, ZOE)
    found.add([author.say(FOUNDER, "remove", ZOE)])
    assert not found.admits(ZOE, ADA) and not found.admits(ZOE, FOUNDER)


def test_what_an_unknown_kind_says_is_kept_without_effect() -> None:
    author = Author()
    made = author.say(FOUNDER, "add", ADA)
    odd = Statement("0" * 32, FOUNDER, "", 1, "{}", bytes(64))
    found = list_of([made, odd])
    assert ids(found) == sorted([made.id, odd.id]) and found.members == {FOUNDER, ADA}


def test_a_removal_is_visited_once_however_many_pardons_name_it() -> None:
    """A founder's loop stood still for 200 ms while an admin pardoned each of many removals 60 times."""
    author = Author()
    author.say(FOUNDER, "admin", ADA)
    removals = [author.say(ADA, "remove", *(key(f"{n} of {one}") for n in range(MAX_REMOVED))) for one in range(8)]
    for _ in range(20):
        author.say(ADA, "pardon", ids=[one.id for one in removals])
    found = list_of(author.said)
    concerned = found.concerned(author.said[9:])
    assert len(concerned) == 8 * MAX_REMOVED and {tuple(one.at for one in about) for about in concerned.values()} == {
        (removal.at, author.said[-1].at) for removal in removals
    }
    assert not found.removed


def test_a_guest_of_the_founder_is_out_by_the_founder_s_word_about_itself_alone() -> None:
    """Whoever has its key names an admin or a member as an accomplice: neither has it out, nor takes it along."""
    author = Author()
    author.say(FOUNDER, "admin", ADA)
    author.say(FOUNDER, "add", BEN)
    author.say(ADA, "remove", ZOE)
    named = (FOUNDER, ADA, BEN)
    found = list_of(author.said)
    assert found.against(ZOE, named[1:]) and not found.against(ZOE, named)
    plans = found.plan_removal(FOUNDER, [ADA], lambda user: bool(found.against(user, named)), bool)
    assert [fields["who"] for kind, fields in plans if kind == "remove"] == [[ADA]]
    for out in (ADA, BEN):
        author.say(FOUNDER, "remove", out)
    found = list_of(author.said)
    assert found.against(ZOE, named[1:]) and found.admits(ZOE, FOUNDER, named)
    author.say(FOUNDER, "remove", ZOE)
    assert list_of(author.said).against(ZOE, named)


# ---- drawn networks


def decided(members: MemberList) -> list[Any]:
    """Return what follows from a list."""
    named = sorted(members.named())
    closing = [members.closing(invite) for invite in ("00000001", "00000002", *(user[:8] for user in named))]
    revoked = sorted(one.id for user in named for guest in range(2)
                     for one in members.revocations(key(f"guest {guest} of {user}"), named))  # fmt: skip
    return [members.admins, members.members, members.removed, members.concealed, named, closing, revoked]


class Trial:
    """A drawn network. Its founder, admins and members say what people say; then hostile keys sign anything.

    Attributes:
        honest: Who must be a member; `out`, who must not.
        answers: For each user who is no member, the member that answers for it; `barred`, those it answers for in vain.
        named: For each user the members that it has named before, in logs and certificates of its own.
        escapes: Users who are out, or barred, and an admin that answers for them now; the founder, if it barred them.
        closed: The invites that admit nobody.
        revoked: Keys that are no peers any more, each with the member that says so.
        flooded: An admin that added more than it may; those of its additions that are kept are any.
        rogue: An admin that turned against the others; its statements count for nothing if it was `expelled`.
    """

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.author = Author()
        self.say = self.author.say
        self.admins = [key(f"admin {number}") for number in range(self.draw.randint(1, 3))]
        self.rogue = self.admins[-1] if len(self.admins) > 1 and self.draw.random() < 0.6 else ""
        self.good = [FOUNDER, *(admin for admin in self.admins if admin != self.rogue)]
        self.strangers = [key(f"stranger {number}") for number in range(6)]
        self.honest, self.out = set[UserId](), set[UserId]()
        self.barred, self.barred_by_founder = set[UserId](), set[UserId]()
        self.expelled = self.pardoned = False
        self.added_by: dict[UserId, UserId] = {}
        self.closed = set[str]()
        self.revoked = set[tuple[UserId, UserId]]()
        self.say(FOUNDER, "admin", *self.admins)
        if self.draw.random() < 0.5:
            self.say(self.draw.choice(self.good), "close", invites=["00000001"])
            self.closed.add("00000001")
        of_rogue = self._add_members()
        self._remove_and_pardon()
        self._expel_rogue(of_rogue)
        self.answers = {
            key(f"guest {number} of {member}"): member
            for member in [*sorted(self.honest), FOUNDER, *self.admins]
            for number in range(2)
        }
        self._bar_guests()
        self._revoke()
        self.named = {user: {key(f"made up by {user}")} for user in self.answers}
        self.escapes = [(user, admin, {member}) for user, member in self.answers.items() for admin in self.good
                        if (user in self.barred or member in self.out)
                        and (admin != FOUNDER or user in self.barred_by_founder)]  # fmt: skip
        self.flooded = self.draw.choice(["", "", "", *self.admins])
        for number in range(FLOOD if self.flooded else 0):
            self.say(self.flooded, "add", key(f"one of many {number}"))
        if self.rogue:
            self._turn_rogue()
        self._attack()

    def _add_members(self) -> set[UserId]:
        of_rogue = set[UserId]()
        for number in range(self.draw.randint(3, 6)):
            by, who = self.draw.choice([FOUNDER, *self.admins]), key(f"member {number}")
            self.say(by, "add", who)
            (of_rogue if by == self.rogue else self.honest).add(who)
            self.added_by[who] = by
        return of_rogue

    def _remove_and_pardon(self) -> None:
        for who in sorted(self.honest):
            if self.draw.random() < 0.3:
                by = self.draw.choice(self.good)
                removal = self.say(by, "remove", who, invites=[who[:8]])
                if self.draw.random() < 0.4:
                    self.say(self.draw.choice([by, FOUNDER]), "pardon", ids=[removal.id])
                else:
                    self.out.add(who)
                    self.closed.add(who[:8])

    def _expel_rogue(self, of_rogue: set[UserId]) -> None:
        removed_by_rogue = set[UserId]()
        if self.rogue and self.draw.random() < 0.5:
            self.say(self.rogue, "remove", ZOE)
            self.say(FOUNDER, "add", ZOE)
            removed_by_rogue.add(ZOE)
        if not self.rogue or self.draw.random() >= 0.8:
            return  # what it said may be cut off by its limit
        self.expelled = True
        keep = sorted(who for who in of_rogue if self.draw.random() < 0.8)
        fields = {"keep": keep} if keep else {}
        removal = self.say(FOUNDER, "remove", self.rogue, *sorted(removed_by_rogue), **fields)
        self.honest.update(keep)
        self.out |= removed_by_rogue
        if self.draw.random() < 0.4:
            self.pardoned = True
            self.say(FOUNDER, "pardon", ids=[removal.id])
            self.say(FOUNDER, "add", self.rogue)  # whom the removal kept stay
            if removed_by_rogue:
                self.say(FOUNDER, "remove", *sorted(removed_by_rogue))

    def _bar_guests(self) -> None:
        for user, member in sorted(self.answers.items()):
            if member in self.honest and self.draw.random() < 0.2:
                by = self.draw.choice(self.good)
                self.say(by, "remove", user)
                self.barred.add(user)
                self.barred_by_founder.update([user] if by == FOUNDER else [])

    def _revoke(self) -> None:
        """Have members, also those that are out now, revoke keys of their guests, and of others' in vain."""
        for user, member in sorted(self.answers.items()):
            by = self.draw.choice([member, member, *sorted(self.out), self.strangers[0]])
            if self.draw.random() < 0.3:
                self.say(by, "revoke", user)
                self.revoked.add((user, by))

    def _turn_rogue(self) -> None:
        """Have it pardon what others removed, and remove the guests of the founder and of the other admins."""
        for removal in [one for one in self.author.said if one.kind == "remove" and one.by != self.rogue]:
            self.say(self.rogue, "pardon", ids=[removal.id])
        for user, member in sorted(self.answers.items()):
            if member in self.good:
                self.say(self.rogue, "remove", user)

    def _attack(self) -> None:
        signers = [*self.strangers, *sorted(self.out), *([self.rogue] * 6 if self.expelled else [])]
        anybody = [*self.strangers, *sorted(self.out), *sorted(self.honest), *self.admins]
        for _ in range(self.draw.randint(5, 40)):
            by, kind = self.draw.choice(signers), self.draw.choice(KINDS)
            if self.expelled:
                self.say(self.rogue, "add", key("signed later"))
            if kind == "pardon":
                self.say(by, kind, ids=[self.draw.choice(self.author.said).id])
            elif kind == "close":
                self.say(by, kind, invites=["00000002"])
            elif kind == "revoke":
                user = self.draw.choice(sorted(self.answers))
                self.say(by, kind, user)
                self.revoked.add((user, by))
            elif kind == "remove":
                keep = [self.draw.choice(self.strangers)]
                self.say(by, kind, self.draw.choice(anybody), keep=keep, invites=["00000002"])
            else:
                self.say(by, kind, self.draw.choice(anybody))
        if self.rogue and not self.expelled:  # it may remove, but others of its rank stand
            for _ in range(30):
                self.say(self.rogue, "remove", self.draw.choice([FOUNDER, *self.admins, *self.strangers]))

    def exchanged(self) -> Sequence[MemberList]:
        """Return the lists of three peers that heard everything in different orders and then compared it."""
        peers = [MemberList(FOUNDER) for _ in range(3)]
        for peer in peers:
            for _ in range(3):  # those who wrote something offer it again
                for statement in self.draw.sample(self.author.said, len(self.author.said)):
                    peer.add([statement])
        for _ in range(12):
            is_changed = False
            for one in peers:
                for other in peers:
                    before = ids(other)
                    for statement in self.draw.sample(one.statements(), len(one.statements())):
                        other.add([statement])
                    is_changed |= ids(other) != before
            if not is_changed:
                return peers
        raise AssertionError("the exchange does not end")

    def check(self) -> None:
        found, *others = self.exchanged()
        for other in [*others, list_of(found.statements()), list_of(reversed(found.statements()))]:
            assert decided(other) == decided(found)
        assert all(ids(other) == ids(found) for other in others)
        assert ids(list_of(self.author.said)) == ids(found)
        assert found.admins == set(self.admins) - ({self.rogue} if self.expelled else set())
        dropped = {who for who, by in self.added_by.items() if by == self.flooded and who not in found.members}
        assert found.members >= self.honest - self.out - dropped
        assert found.members >= {*self.good}
        assert not found.members & self.out
        assert not found.members.intersection(self.strangers)
        for user, member in self.answers.items():
            wanted = self.pardoned if member == self.rogue and self.expelled else member in found.members
            assert found.admits(user, member, self.named[user]) == (wanted and user not in self.barred)
            revoked = found.revocations(user, [member, *self.named[user]])
            assert bool(revoked) == (found.is_named(member) and (user, member) in self.revoked)
        for user, member, named in self.escapes:
            assert not found.admits(user, member, named) or not any(map(found.is_named, named))
        assert all((found.closing(invite) is not None) == (invite in self.closed)
                   for invite in ["00000001", "00000002", *(who[:8] for who in self.honest)])  # fmt: skip
        assert not found.admits(key("guest"), self.strangers[0])
        if self.expelled:
            assert (self.rogue in found.members) == self.pardoned and {
                one.kind for one in found.said_by(self.rogue)
            } <= {"revoke"}
            assert found.is_named(key("signed later")) is False


def test_peers_agree_on_members_whoever_says_what_in_which_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member_list, "MAX_BYTES_OF_ADMIN", SMALL_LIMIT)
    for seed in range(TRIALS):
        try:
            Trial(seed).check()
        except AssertionError as error:
            raise AssertionError(f"trial {seed}") from error


# ---- plans: what somebody says to expel, to take that back, and to make admins


def carried_out(members: MemberList, signer: UserId, plans: Sequence[Plan]) -> None:
    """Add the statements of a plan."""
    at = len(members.statements())
    members.add(make_statements(NETWORK, signer, lambda data: bytes(64), at, plans))


def removal(members: MemberList, signer: UserId, *who: UserId, **options: Any) -> list[Plan]:
    return members.plan_removal(
        signer, who, lambda user: bool(members.against(user, ())), lambda user: False, **options
    )


def pardon(members: MemberList, signer: UserId, who: UserId) -> list[Plan]:
    return members.plan_pardon(signer, [who], members.removals(who))


@pytest.fixture
def members() -> MemberList:
    """ada is an admin, who added ben and removed cat; zoe is a member."""
    author = Author()
    for by, kind, who in (
        (FOUNDER, "add", ADA), (FOUNDER, "add", CAT), (FOUNDER, "add", ZOE), (FOUNDER, "admin", ADA),
        (ADA, "add", BEN), (ADA, "remove", CAT),
    ):  # fmt: skip
        author.say(by, kind, who)
    return list_of(author.said)


def test_an_expelled_admin_leaves_whom_it_added_and_removed_as_they_were(members: MemberList) -> None:
    carried_out(members, FOUNDER, removal(members, FOUNDER, ADA))
    assert members.members == {FOUNDER, BEN, ZOE} and members.removed == {ADA, CAT}


@pytest.mark.parametrize(("pardoned", "other"), [(ADA, CAT), (CAT, ADA)])
def test_a_pardon_is_of_one_of_those_whom_a_statement_removed(
    members: MemberList, pardoned: UserId, other: UserId
) -> None:
    carried_out(members, FOUNDER, removal(members, FOUNDER, ADA, hide=True))
    carried_out(members, FOUNDER, pardon(members, FOUNDER, pardoned))
    assert members.members == {FOUNDER, BEN, ZOE, pardoned} and members.removed == {other}
    assert members.removals(other)[-1].hide == (other == ADA)  # each as it was
    carried_out(members, FOUNDER, pardon(members, FOUNDER, other))
    assert members.members == {FOUNDER, ADA, BEN, CAT, ZOE} and not members.removed and not members.admins


def test_what_a_former_admin_revoked_stays_revoked(members: MemberList) -> None:
    """A machine that an admin lost is not let in again when the admin is made a plain member."""
    carried_out(members, ADA, [("revoke", {"who": [key("laptop")]}), ("add", {"who": [key("friend")]})])
    plans = members.plan_admin(FOUNDER, ADA, lambda user: bool(members.against(user, ())), lambda user: False, on=False)
    carried_out(members, FOUNDER, plans)
    assert members.standing(ADA) == "member" and members.revocations(key("laptop"), [ADA])
    assert [one.kind for one in members.said_by(ADA)] == ["revoke"]


def test_what_a_member_revoked_is_told_again_by_its_own_peers_once_it_is_named_again() -> None:
    author = Author()
    author.say(FOUNDER, "admin", ADA)
    author.say(ADA, "add", BEN)
    revoked = author.say(BEN, "revoke", key("laptop"))
    own, others = MemberList(FOUNDER, BEN), MemberList(FOUNDER)
    for members in (own, others):
        members.add(author.said)
    out, again = author.say(FOUNDER, "remove", ADA), author.say(FOUNDER, "add", BEN)
    for members in (own, others):
        members.add([out])
    assert not others.revocations(key("laptop"), [BEN]) and own.revocations(key("laptop"), [BEN]) == [revoked]
    own.add([again])
    others.add([again, *own.said_by(BEN)])
    assert others.revocations(key("laptop"), [BEN]) == [revoked]


def test_an_admin_takes_back_its_own_removals_alone(members: MemberList) -> None:
    carried_out(members, FOUNDER, removal(members, FOUNDER, ZOE))
    with pytest.raises(ValueError, match="ask the founder"):
        pardon(members, ADA, ZOE)
    carried_out(members, ADA, pardon(members, ADA, CAT))
    assert members.removed == {ZOE}
    with pytest.raises(ValueError, match="nobody has expelled"):
        pardon(members, ADA, CAT)


def test_what_an_expelled_admin_had_added_is_listed_as_added_by_it(members: MemberList) -> None:
    """A spare of its own stays, as everybody does whom it had added; and nobody takes it for one of the founder's."""
    carried_out(members, FOUNDER, removal(members, FOUNDER, ADA))
    said = members.addition(BEN)
    assert said is not None and (said.kind, said.who[0]) == ("remove", ADA)
    carried_out(members, FOUNDER, pardon(members, FOUNDER, ADA))
    assert members.addition(BEN) == said and BEN in members.members


def test_more_than_a_statement_keeps_are_listed_as_added_by_the_former_admin(members: MemberList) -> None:
    many = [key(f"user {number}") for number in range(MAX_KEPT + 20)]
    carried_out(members, ADA, [("add", {"who": [user]}) for user in many])
    carried_out(members, FOUNDER, removal(members, FOUNDER, ADA))
    assert members.members >= {*many, BEN}
    assert {said.of or said.who[0] for user in many if (said := members.addition(user))} == {ADA}


def test_nobody_is_in_or_out_for_a_moment_while_an_admin_goes(members: MemberList) -> None:
    """Others take a plan in parts, each in a frame."""
    carried_out(members, ADA, [("add", {"who": [key(f"user {number}")]}) for number in range(MAX_KEPT + 20)])
    was_in, was_out = members.members - {ADA}, {*members.removed}
    for plan in removal(members, FOUNDER, ADA):
        carried_out(members, FOUNDER, [plan])
        assert members.members >= was_in and members.removed >= was_out


def test_a_former_admin_s_word_has_not_more_effect_after_it_goes_than_before(members: MemberList) -> None:
    """It removed another admin, and the founder's own profiles: the founder's word would put them out."""
    carried_out(members, FOUNDER, [("admin", {"who": [ZOE]})])
    carried_out(members, ADA, [("remove", {"who": [ZOE, key("profile")]})])
    is_out = {ZOE: (ZOE,), key("profile"): (FOUNDER,)}
    plans = members.plan_removal(FOUNDER, [ADA], lambda user: bool(members.against(user, is_out.get(user, ()))), bool)
    carried_out(members, FOUNDER, plans)
    assert ZOE in members.admins and members.admits(key("profile"), FOUNDER) and members.removed == {ADA, CAT}


def test_of_each_user_one_removal_is_repeated_and_looked_at_once(members: MemberList) -> None:
    """Before: 540 removals of the same four keys stopped the founder's peer for 4 s, and were statements for ever."""
    looked_at = Counter[UserId]()

    def is_out(user: UserId) -> bool:
        looked_at[user] += 1
        return user in members.removed

    many = [("remove", {"who": [CAT, ZOE], "invites": [f"{number:08x}"]}) for number in range(50)]
    carried_out(members, ADA, [*many, ("remove", {"who": [ZOE], "hide": True})])
    plans = members.plan_removal(FOUNDER, [ADA], is_out, lambda user: False)
    again = [fields for kind, fields in plans if kind == "remove" and "keep" not in fields]
    assert [(fields["who"], "hide" in fields) for fields in again] == [([ZOE], True), ([CAT], False), ([ADA], False)]
    assert looked_at == {CAT: 1, ZOE: 1}


@pytest.mark.parametrize("is_expelled", [False, True])
def test_keys_that_an_admin_makes_up_are_named_no_more_when_it_goes(members: MemberList, is_expelled: bool) -> None:
    """It removes keys that nobody added, and some of its own: of those the founder repeats what wrote here."""
    made_up, own, wrote = map(key, ("made up", "own", "wrote"))
    carried_out(members, ADA, [("add", {"who": [own]}), ("remove", {"who": [made_up, own, wrote], "keep": [made_up]})])
    if is_expelled:
        plans = members.plan_removal(FOUNDER, [ADA], members.removed.__contains__, wrote.__eq__)
    else:
        plans = members.plan_admin(FOUNDER, ADA, members.removed.__contains__, wrote.__eq__, on=False)
    carried_out(members, FOUNDER, plans)
    assert members.removed - {ADA} == {CAT, wrote} and not any(map(members.is_named, (made_up, own)))


def test_whom_an_admin_admitted_goes_with_it(members: MemberList) -> None:
    plans = removal(members, FOUNDER, BEN) + removal(members, FOUNDER, ADA, without=[BEN])
    carried_out(members, FOUNDER, plans)
    assert members.removed == {ADA, BEN, CAT} and members.members == {FOUNDER, ZOE}


def test_a_removal_closes_the_invites_by_which_its_people_came(members: MemberList) -> None:
    carried_out(
        members, ADA, [("add", {"who": [key("dan")], "invite": "0a0b0c0d"}), ("close", {"invites": ["01020304"]})]
    )
    assert members.closing("0a0b0c0d") is None
    carried_out(members, FOUNDER, removal(members, FOUNDER, key("dan")))
    assert members.closing("0a0b0c0d") is not None
    carried_out(members, FOUNDER, removal(members, FOUNDER, ADA))
    assert members.closing("01020304") is not None  # what a former admin closed stays closed
    carried_out(members, FOUNDER, pardon(members, FOUNDER, key("dan")))
    assert members.closing("0a0b0c0d") is None


def test_what_does_not_fit_is_known_before_it_is_said(members: MemberList, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member_list, "MAX_BYTES_OF_ADMIN", 4000)
    many = [("add", {"who": [key(f"user {number}")]}) for number in range(13)]
    made = [*make_statements(NETWORK, ADA, lambda data: bytes(64), 100, many)]
    assert members.fits(made[:12]) and not members.fits(made)
    members.add(made)
    out = [*make_statements(NETWORK, ADA, lambda data: bytes(64), 200, removal(members, ADA, ZOE))]
    assert members.fits(out) and members.add(out).dropped == [] and ZOE in members.removed


# ---- every pair of what two say apart, and a third in between

GUS, FAY, EVE, HAL, YAN = map(key, ("gus", "fay", "eve", "hal", "yan"))
WHO = {"founder": FOUNDER, "ada": ADA, "ben": BEN, "cat": CAT, "eve": EVE, "fay": FAY, "gus": GUS, "hal": HAL,
       "yan": YAN, "zoe": ZOE}  # fmt: skip
BEGUN = [
    "founder adds ada", "founder adds eve", "founder adds hal", "founder promotes ada", "founder promotes eve",
    "founder promotes hal", "founder adds ben", "founder adds gus", "founder expels gus", "ada adds cat",
    "hal adds fay", "ada expels fay",
]  # fmt: skip
ACTS = [
    "founder expels ben", "founder expels cat", "founder expels ada", "founder expels eve", "founder pardons gus",
    "founder pardons fay", "founder adds zoe", "founder promotes ben", "founder promotes cat", "founder demotes ada",
    "founder demotes eve", "ada expels ben", "ada expels cat", "ada pardons fay", "ada adds zoe", "ada adds gus",
    "eve expels ben", "eve expels cat", "eve expels zoe",
]  # fmt: skip
# Who is in all the same, since the founder's word about an admin did not know what that one had said.
BACK = {
    ("ada expels ben", "founder expels ada"): "ben",
    ("ada expels ben", "founder demotes ada"): "ben",
    ("ada expels ben", "founder promotes ben"): "ben",
    ("ada expels cat", "founder expels ada"): "cat",
    ("ada expels cat", "founder demotes ada"): "cat",
    ("ada expels cat", "founder promotes cat"): "cat",
    ("eve expels ben", "founder expels eve"): "ben",
    ("eve expels ben", "founder demotes eve"): "ben",
    ("eve expels ben", "founder promotes ben"): "ben",
    ("eve expels cat", "founder expels eve"): "cat",
    ("eve expels cat", "founder demotes eve"): "cat",
    ("eve expels cat", "founder promotes cat"): "cat",
    ("eve expels zoe", "founder expels eve"): "zoe",
    ("eve expels zoe", "founder demotes eve"): "zoe",
}


def act(members: MemberList, said: str) -> None:
    """Have somebody say something of somebody, as `p2pchat` does; all of them have written."""
    by, kind, about = said.split()
    signer, who = WHO[by], WHO[about]
    known = (lambda user: user in members.removed, lambda user: True)
    if kind == "adds":
        plans: Sequence[Plan] = [("add", {"who": [who]})]
    elif kind == "expels":
        plans = members.plan_removal(signer, [who], *known)
    elif kind == "pardons":
        plans = pardon(members, signer, who)
    else:
        plans = members.plan_admin(signer, who, *known, on=kind == "promotes")
    carried_out(members, signer, plans)


def out_of(members: MemberList) -> set[str]:
    return {name for name, user in WHO.items() if members.standing(user) == "expelled"}


def test_who_is_expelled_apart_is_out_when_both_sides_meet_whatever_a_third_said_in_between() -> None:
    begun, back = MemberList(FOUNDER), dict[tuple[str, str], str]()
    for said in BEGUN:
        act(begun, said)
    for one, other in permutations(ACTS, 2):
        here, there = list_of(begun.statements()), list_of(begun.statements())
        act(here, one)
        act(here, "hal adds yan")
        act(there, other)
        expelled = out_of(here) - out_of(begun)
        here, there = (list_of([*x.statements(), *y.statements()]) for x, y in ((here, there), (there, here)))
        assert ids(here) == ids(there) and here.standing(YAN) == "member"
        if expelled - out_of(here):
            back[one, other] = ", ".join(expelled - out_of(here))
    assert back == BACK
