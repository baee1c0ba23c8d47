"""Members of groups as a function of a set of facts."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from hashlib import blake2b, sha256
from itertools import permutations

import pytest
from msgspec.structs import replace

from p2pchat.core.groups import group_members
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
    GroupFact,
)
from p2pchat.core.groups.group_members import GroupMembers
from p2pchat.protocol import Mark, UserId
from simulation.invariants.group_invariants import Fact, expected_group

NAMES = ("own", "bob", "cyd", "dan", "eve", "fay", "gus")
IDS = {name: sha256(name.encode()).hexdigest() for name in NAMES}
OF = {id: name for name, id in IDS.items()}


class Peer:
    """A peer with some facts of one group, on which anybody can say something here."""

    clock = 0

    def __init__(self, facts: Iterable[GroupFact] = ()) -> None:
        self.facts: dict[str, GroupFact] = {}
        self.members = GroupMembers()
        self.take(facts)

    def take(self, facts: Iterable[GroupFact]) -> None:
        for fact in facts:
            if fact.id not in self.facts:
                self.facts[fact.id] = fact
                self.members.take(fact)

    def tips(self, by: str) -> tuple[Mark, ...]:
        own = [one for one in self.facts.values() if one.by == IDS[by]]
        named = {mark.run for one in own for mark in one.builds_on}
        return tuple(Mark(one.run, 1, "") for one in own if one.run not in named)

    def say(self, by: str, kind: str, *who: str, name: str = "", n: int = 0, talk: Sequence[Mark] = ()) -> GroupFact:
        """Say something as an honest program does by what is known here."""
        Peer.clock += 1
        c, user, members = Peer.clock, IDS[by], self.members
        about: dict[UserId, tuple[str, ...]] = dict.fromkeys((IDS[one] for one in who), ())
        if kind == ADD:
            about = {one: tuple(out.id for out in members.outs(one)) for one in about}
        if kind in (ADMIN, HEIR):
            about = {one: tuple(members.known_of(one)) for one in about}
        said = self.tips(who[0]) if kind in (REMOVE, UNADMIN) else ()
        before = self.tips(by)
        id = blake2b(repr((c, user, kind, about, said, before, name, n, talk)).encode(), digest_size=16).hexdigest()
        fact = GroupFact(user, Mark(id[:16], 1, id * 2), c, before, kind, about, name, n, tuple(talk), said)
        self.take([fact])
        return fact

    def unadmin(self, by: str, who: str) -> None:
        self.say(by, UNADMIN, who)

    def act(self, by: str, kind: str, who: str) -> None:
        if kind == HEIR:
            self.hand_over(by, who)
        else:
            self.say(by, kind, *filter(None, [who]))

    def hand_over(self, by: str, to: str) -> GroupFact:
        return self.say(by, HEIR, to, n=len(self.members.owners) - 1)

    @property
    def here(self) -> list[str]:
        return sorted(OF[user] for user in self.members.present)

    @property
    def admins(self) -> list[str]:
        return sorted(OF[user] for user in self.members.present if self.members.is_admin(user))

    @property
    def shown(self) -> tuple[object, ...]:
        members, admins = self.members, sorted(filter(self.members.is_admin, self.members.present))
        return members.name_fact.name, members.owner, sorted(members.present), admins

    @property
    def outs(self) -> set[tuple[UserId, str, frozenset[str]]]:
        """Removals and leaves, with what ended each."""
        ends = self.members.enders
        return {
            (user, out.id, frozenset(one.id for one in ends(user, out)))
            for user in OF for out in self.members.outs(user)
        }  # fmt: skip

    @property
    def all(self) -> tuple[object, ...]:
        return self.members.present, self.shown, self.outs


def group(*members: str, admins: Sequence[str] = ()) -> Peer:
    peer = Peer()
    peer.say("own", CREATE, "own", *members, name="ops")
    if admins:
        peer.say("own", ADMIN, *admins)
    return peer


def copy(peer: Peer) -> Peer:
    return Peer(peer.facts.values())


def meet(one: Peer, other: Peer) -> None:
    facts = [*one.facts.values()]
    one.take(other.facts.values())
    other.take(facts)
    assert one.all == other.all


# ---- one rule each


def test_a_fact_that_names_what_it_ends_twice_counts_no_more_like_any_other() -> None:
    ops = group("bob", "cyd", admins=["bob"])
    there = copy(ops)
    out = ops.say("bob", REMOVE, "cyd")
    again = replace(ops.say("bob", ADD, "cyd"), who={IDS["cyd"]: (out.id, out.id)})
    other = Peer(again if one.id == again.id else one for one in ops.facts.values())
    assert other.here == ["bob", "cyd", "own"]
    there.unadmin("own", "bob")
    meet(other, there)  # nothing that bob said counts
    assert other.here == ["bob", "cyd", "own"] and not [*other.members.outs(IDS["cyd"])]


def test_the_creator_is_the_owner_and_makes_admins() -> None:
    ops = group("bob", "cyd")
    assert (ops.here, ops.members.owner, ops.admins) == (["bob", "cyd", "own"], IDS["own"], [])
    ops.say("own", ADMIN, "bob")
    assert ops.admins == ["bob"]
    ops.say("bob", ADMIN, "cyd")
    assert ops.admins == ["bob"]  # the word of an admin makes none


def test_admins_add_and_remove_plain_members_and_others_do_not() -> None:
    ops = group("bob", "cyd", "dan", admins=["bob"])
    ops.say("bob", ADD, "eve")
    ops.say("bob", REMOVE, "dan")
    assert ops.here == ["bob", "cyd", "eve", "own"]
    ops.say("cyd", ADD, "fay")
    ops.say("cyd", REMOVE, "eve")
    assert ops.here == ["bob", "cyd", "eve", "own"]


def test_admins_do_not_remove_one_another_nor_the_owner() -> None:
    ops = group("bob", "cyd", admins=["bob", "cyd"])
    ops.say("bob", REMOVE, "cyd")
    ops.say("cyd", REMOVE, "bob")
    ops.say("cyd", REMOVE, "own")
    assert ops.here == ["bob", "cyd", "own"]
    ops.say("own", REMOVE, "cyd")
    assert (ops.here, ops.admins) == (["bob", "own"], ["bob"])


def test_who_was_made_an_admin_apart_from_a_removal_by_an_admin_stays() -> None:
    here = group("bob", "cyd", admins=["bob"])
    there = copy(here)
    here.say("bob", REMOVE, "cyd")
    there.say("own", ADMIN, "cyd")
    meet(here, there)
    assert here.here == ["bob", "cyd", "own"]
    here.unadmin("own", "cyd")
    assert here.here == ["bob", "cyd", "own"]  # it does not fall when it is an admin no more


def test_a_leave_counts_for_its_writer() -> None:
    ops = group("bob", "cyd")
    ops.say("bob", LEAVE)
    assert ops.here == ["cyd", "own"]
    ops.say("own", ADD, "bob")
    assert ops.here == ["bob", "cyd", "own"]


def test_an_addition_ends_removals_and_leaves_whoever_made_them() -> None:
    ops = group("bob", "cyd", "dan", admins=["bob", "cyd"])
    ops.say("bob", REMOVE, "dan")
    ops.say("cyd", ADD, "dan")
    assert "dan" in ops.here
    ops.say("own", REMOVE, "dan")
    ops.say("cyd", ADD, "dan")
    assert "dan" in ops.here


def test_a_removal_that_an_addition_did_not_know_outweighs_it() -> None:
    here = group("bob", "cyd", "dan", admins=["bob", "cyd"])
    there = copy(here)
    here.say("bob", REMOVE, "dan")
    here.say("bob", ADD, "dan")
    there.say("cyd", REMOVE, "dan")
    meet(here, there)
    assert here.here == ["bob", "cyd", "own"]


def test_the_cut_of_a_removal_stays_after_it_ended() -> None:
    ops = group("bob", "dan", admins=["bob"])
    out = ops.say("bob", REMOVE, "dan", talk=[Mark("d1" * 8, 3, "")])
    again = ops.say("own", ADD, "dan")
    assert [*ops.members.outs(IDS["dan"])] == [out]
    assert [*ops.members.enders(IDS["dan"], out)] == [again]


def test_the_cut_of_a_removal_stays_after_its_user_became_an_admin_or_the_owner() -> None:
    for raised_by in ("admin", "heir"):
        ops = group("bob", "cyd", "dan", admins=["bob", "cyd"])
        out = ops.say("bob", REMOVE, "dan", talk=[Mark("d1" * 8, 3, "")])
        again = ops.say("cyd", ADD, "dan")
        if raised_by == "admin":
            ops.say("own", ADMIN, "dan")
        else:
            ops.hand_over("own", "dan")
        ops.say("bob", REMOVE, "dan")  # too late
        assert [*ops.members.outs(IDS["dan"])] == [out]
        assert [*ops.members.enders(IDS["dan"], out)] == [again]
        assert "dan" in ops.here


def test_of_a_former_admin_counts_what_the_owner_had_when_it_said_so() -> None:
    here = group("bob", "cyd", admins=["bob"])
    here.say("bob", ADD, "dan")
    there = copy(here)
    here.unadmin("own", "bob")
    there.say("bob", ADD, "eve")
    there.say("bob", REMOVE, "cyd")
    meet(here, there)
    assert (here.here, here.admins) == (["bob", "cyd", "dan", "own"], [])
    here.say("own", ADMIN, "bob")  # trusted again, with all that it said
    assert (here.here, here.admins) == (["bob", "dan", "eve", "own"], ["bob"])


def test_a_removed_admin_that_goes_on_has_no_effect() -> None:
    here = group("bob", "cyd", "dan", admins=["bob", "cyd"])
    there = copy(here)
    here.say("own", REMOVE, "bob")
    there.say("bob", REMOVE, "dan")
    here.say("own", REMOVE, "cyd")
    there.take(here.facts.values())
    there.say("bob", ADD, "bob", "cyd")  # each would bring the other back
    there.say("cyd", ADD, "bob", "cyd")
    meet(here, there)
    assert (here.here, here.admins) == (["dan", "own"], [])


def test_who_unmakes_an_admin_outweighs_who_makes_it_one_apart() -> None:
    here = group("bob", admins=["bob"])
    there = copy(here)
    here.unadmin("own", "bob")
    there.say("own", ADMIN, "bob")  # the same creator, restored
    meet(here, there)
    assert here.admins == []


def test_nothing_of_a_restored_creator_is_lost() -> None:
    here = group("bob", "cyd")
    there = copy(here)
    here.say("own", ADD, "dan")
    here.say("own", NAME, name="news", n=1)
    there.say("own", ADD, "eve")
    there.say("own", ADMIN, "bob")
    meet(here, there)
    assert (here.here, here.admins) == (["bob", "cyd", "dan", "eve", "own"], ["bob"])
    assert here.members.name_fact.name == "news"


def test_the_owner_hands_the_group_over() -> None:
    ops = group("bob", "cyd", admins=["bob"])
    ops.say("own", ADD, "dan")
    ops.hand_over("own", "cyd")
    assert (ops.members.owner, ops.admins, ops.here) == (IDS["cyd"], ["bob"], ["bob", "cyd", "dan", "own"])
    ops.say("own", ADD, "eve")
    ops.say("own", UNADMIN, "bob")
    assert (ops.admins, ops.here) == (["bob"], ["bob", "cyd", "dan", "own"])
    ops.say("cyd", REMOVE, "own")
    assert ops.here == ["bob", "cyd", "dan"]
    ops.say("cyd", ADD, "own")
    ops.hand_over("cyd", "own")
    assert (ops.members.owner, ops.here) == (IDS["own"], ["bob", "cyd", "dan", "eve", "own"])


def test_of_two_heirs_one_owns_the_group_everywhere_and_an_old_one_never_again() -> None:
    here = group("bob", "cyd")
    there = copy(here)
    first, other = here.hand_over("own", "bob"), there.hand_over("own", "cyd")
    meet(here, there)
    owner = OF[here.members.owner]
    assert owner == OF[next(iter(min((first, other), key=lambda one: one.id).who))]
    here.hand_over(owner, "own")
    assert here.members.owner == IDS["own"]


@pytest.mark.parametrize("admins", [[], ["dan"]])
def test_who_was_removed_stays_out_although_the_owner_apart_hands_the_group_over(admins: list[str]) -> None:
    """On another machine of the owner, which had not heard of the removal. Others wrote without dan in between."""
    desk = group("bob", "cyd", "dan", admins=admins)
    laptop = copy(desk)
    desk.say("own", REMOVE, "dan")
    laptop.hand_over("own", "bob")
    meet(desk, laptop)
    assert desk.here == ["bob", "cyd", "own"]
    desk.say("bob", ADD, "dan")
    assert desk.here == ["bob", "cyd", "dan", "own"]


def test_who_was_removed_by_an_heir_stays_out_although_another_heir_owns_the_group() -> None:
    """The owner was restored from an old backup, and handed the group over again."""
    first = group("bob", "cyd", "dan")
    backup = copy(first)
    peers = {"bob": first, "cyd": backup}
    handovers = {heir: peer.hand_over("own", heir) for heir, peer in peers.items()}
    wins, loses = sorted(handovers, key=lambda name: handovers[name].id)
    peers[loses].say(loses, REMOVE, "dan")
    meet(first, backup)
    assert OF[first.members.owner] == wins and first.here == ["bob", "cyd", "own"]


def test_of_a_former_owner_counts_what_the_owner_had_when_it_removed_that_one() -> None:
    ops = group("bob", "cyd", "dan")
    desk = copy(ops)
    desk.say("own", REMOVE, "dan")
    changed = copy(desk)
    ops.hand_over("own", "bob")
    meet(ops, desk)
    ops.say("bob", REMOVE, "own")
    ops.say("bob", ADD, "own")
    changed.say("own", REMOVE, "cyd")  # claims not to have known the handover
    meet(ops, changed)
    assert ops.here == ["bob", "cyd", "own"]


def test_a_former_owner_removes_nobody_who_owned_the_group_and_unmakes_no_admin() -> None:
    desk = group("bob", "cyd", admins=["cyd"])
    laptop = copy(desk)
    laptop.hand_over("own", "bob")
    desk.say("own", REMOVE, "bob")
    desk.say("own", UNADMIN, "cyd")
    meet(desk, laptop)
    assert (desk.here, desk.admins) == (["bob", "cyd", "own"], ["cyd"])


def test_an_admin_whom_a_former_owner_removed_goes_on_for_who_adds_it_again() -> None:
    desk = group("bob", "cyd", "dan", admins=["cyd"])
    laptop = copy(desk)
    desk.say("own", REMOVE, "cyd")
    laptop.hand_over("own", "bob")
    meet(desk, laptop)
    assert (desk.here, desk.admins) == (["bob", "dan", "own"], [])
    desk.say("bob", ADD, "cyd")
    assert (desk.here, desk.admins) == (["bob", "cyd", "dan", "own"], ["cyd"])


def test_who_names_too_many_heirs_stays_the_owner_and_may_hand_over_again() -> None:
    ops = group("bob", "cyd", "dan")
    apart = [copy(ops) for _ in range(3)]
    for there, heir in zip(apart, ("bob", "cyd", "dan"), strict=True):
        there.hand_over("own", heir)
    for there in apart:
        meet(ops, there)
    assert ops.members.owner == IDS["own"]
    ops.hand_over("own", "cyd")
    assert ops.members.owner == IDS["cyd"]


def test_a_name_is_the_one_given_last() -> None:
    ops = group("bob", "cyd", admins=["bob"])
    ops.say("own", NAME, name="news", n=1)
    ops.say("bob", NAME, name="mine", n=2)
    assert ops.members.name_fact.name == "news"


def test_of_too_many_members_the_oldest_count() -> None:
    here = group("bob", admins=["bob"])
    there = copy(here)
    for peer, by in ((here, "own"), (there, "bob")):
        made = {sha256(f"{by}{at}".encode()).hexdigest(): f"{by}{at}" for at in range(MAX_MEMBERS - 10)}
        OF.update(made)
        IDS.update({name: id for id, name in made.items()})
        peer.say(by, ADD, *made.values())
    meet(here, there)
    assert len(here.here) == MAX_MEMBERS
    assert {f"own{at}" for at in range(MAX_MEMBERS - 10)} <= {*here.here}


def test_who_was_a_member_when() -> None:
    ops = group("bob")
    begun = Peer.clock
    ops.say("own", REMOVE, "bob")
    gone = Peer.clock
    ops.say("own", ADD, "bob")
    back = Peer.clock
    was = [ops.members.was_member(IDS["bob"], c) for c in (begun - 1, begun, gone, back - 1, back, back + 9)]
    assert was == [False, True, False, back - 1 < gone, True, True]
    assert ops.members.present[IDS["bob"]] == back


# ---- every pair

ACTS: dict[str, tuple[str, str, str]] = {
    "own adds fay": ("own", ADD, "fay"),
    "own removes dan": ("own", REMOVE, "dan"),
    "own removes bob": ("own", REMOVE, "bob"),
    "own removes eve": ("own", REMOVE, "eve"),
    "own makes dan an admin": ("own", ADMIN, "dan"),
    "own unmakes bob": ("own", UNADMIN, "bob"),
    "own unmakes eve": ("own", UNADMIN, "eve"),
    "own hands over to bob": ("own", HEIR, "bob"),
    "own hands over to cyd": ("own", HEIR, "cyd"),
    "own hands over to dan": ("own", HEIR, "dan"),
    "bob adds fay": ("bob", ADD, "fay"),
    "bob removes dan": ("bob", REMOVE, "dan"),
    "eve removes dan": ("eve", REMOVE, "dan"),
    "eve removes fay": ("eve", REMOVE, "fay"),
    "dan leaves": ("dan", LEAVE, ""),
    "bob leaves": ("bob", LEAVE, ""),
}
# Who is back all the same, since an owner's word about who manages the group did not know of a removal by an admin.
BACK = {
    ("bob removes dan", "own removes bob"): "dan",
    ("bob removes dan", "own unmakes bob"): "dan",
    ("eve removes dan", "own removes eve"): "dan",
    ("eve removes dan", "own unmakes eve"): "dan",
    ("bob removes dan", "own makes dan an admin"): "dan",
    ("eve removes dan", "own makes dan an admin"): "dan",
    ("bob removes dan", "own hands over to dan"): "dan",
    ("eve removes dan", "own hands over to dan"): "dan",
    ("own removes dan", "own hands over to dan"): "dan",
    ("own removes bob", "own hands over to bob"): "bob",
}


@pytest.mark.parametrize("is_later", [False, True])
def test_who_is_out_where_somebody_wrote_is_out_when_both_sides_meet(is_later: bool) -> None:
    """Of two who act apart. Whom no fact adds again reads nothing that was written without it."""
    begun, back = group("bob", "cyd", "dan", "eve", "gus", admins=["bob", "eve"]), dict[tuple[str, str], str]()
    for name in ("own", "bob", "eve") if is_later else ():  # each fact of somebody builds on another one
        begun.say(name, ADD, "cyd")
    for one, other in permutations(ACTS, 2):
        here, there = copy(begun), copy(begun)
        here.act(*ACTS[one])
        out = {"bob", "dan", "eve"} - {*here.here}  # cyd and gus write now
        there.act(*ACTS[other])
        meet(here, there)
        back |= dict.fromkeys([(one, other)] if out & {*here.here} else [], ", ".join(out & {*here.here}))
    assert back == BACK


# ---- every order


def history(seed: int) -> list[GroupFact]:
    """Return what people of a group say at three peers that meet now and then; some of them are not honest."""
    draw = random.Random(seed)
    peers = [group(*draw.sample(NAMES[1:], 3))]
    peers += [copy(peers[0]), copy(peers[0])]
    for _ in range(draw.randrange(10, 30)):
        peer, by = draw.choice(peers), draw.choice(NAMES)
        if draw.random() < 0.2:
            meet(peer, draw.choice(peers))
        owner = OF[peer.members.owner]
        kind = draw.choice((ADD, ADD, REMOVE, REMOVE, LEAVE, ADMIN, UNADMIN, HEIR, NAME))
        by = owner if kind in (ADMIN, UNADMIN, HEIR, NAME) and draw.random() < 0.7 else by
        if kind == NAME:
            peer.say(by, NAME, name=draw.choice("xyz"), n=peer.members.name_fact.n + 1)
        elif kind == HEIR:
            peer.hand_over(by, draw.choice(NAMES))
        elif kind == LEAVE:
            peer.say(by, LEAVE)
        else:
            peer.say(by, kind, *draw.sample(NAMES, 2 if kind == ADD else 1))
    return [*{id: fact for peer in peers for id, fact in peer.facts.items()}.values()]


def as_said(fact: GroupFact) -> Fact:
    body = {"k": fact.kind, "who": fact.who, "name": fact.name, "n": fact.n, "said": fact.said}
    return Fact(fact.id, fact.by, fact.run, fact.builds_on, fact.c, body)


@pytest.mark.parametrize("seed", range(60))
def test_the_order_of_facts_means_nothing(seed: int) -> None:
    facts, draw = history(seed), random.Random(seed)
    expected, judge = Peer(facts), expected_group(map(as_said, facts))
    assert expected.shown == judge.shown
    assert expected.outs == {(user, out.id, frozenset(one.id for one in over)) for user, out, over in judge.outs}
    for _ in range(5):
        draw.shuffle(facts)
        assert Peer(facts).all == expected.all
        half = len(facts) // 2
        one, other = Peer(facts[:half]), Peer(facts[half:])
        if one.members.owners and other.members.owners:
            meet(one, other)
    gone = draw.sample([one for one in facts if one.kind != CREATE], min(3, len(facts) - 1))
    some = Peer(facts)
    for fact in gone:
        some.members.drop(fact)
    assert some.all == Peer([one for one in facts if one not in gone]).all


@pytest.mark.parametrize("seed", range(20))
def test_whatever_attackers_make_up_all_orders_end_in_one_state(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Facts that end, cap and build on each other in circles, name things twice, and fork."""
    monkeypatch.setattr(group_members, "MAX_ALIKE", 3)
    monkeypatch.setattr(group_members, "MAX_UNMAKING", 2)
    chance = random.Random(seed)
    ids = [f"{number:016x}" * 2 for number in range(1, 40)]

    def marks() -> tuple[Mark, ...]:
        return tuple(Mark(chance.choice(ids)[:16], 1, "") for _ in range(chance.randrange(3)))

    facts = [GroupFact(IDS["own"], Mark("f" * 16, 1, "f" * 64), 1, (), CREATE, dict.fromkeys(OF, ()), "ops", 0, (), ())]
    for id in ids:
        kind = chance.choice([ADD, REMOVE, LEAVE, ADMIN, UNADMIN, HEIR, NAME])
        ended = tuple(chance.choices(ids, k=chance.randrange(4)))
        who = {} if kind in (LEAVE, NAME) else {chance.choice([*OF]): ended}
        by, c, n = IDS[chance.choice(NAMES)], chance.randrange(1, 9), chance.randrange(3)
        facts.append(
            GroupFact(by, Mark(id[:16], 1, id * 2), c, marks(), kind, who, "x" * (kind == NAME), n, (), marks())
        )
    forked = chance.sample(facts[1:], 5)
    states = list[object]()
    for _ in range(6):
        peer = Peer()
        for fact in chance.sample(facts, len(facts)):
            peer.take([fact])
            if fact in forked and chance.random() < 0.5:
                peer.members.drop(fact)
        for fact in forked:
            peer.members.drop(fact)
        states.append((peer.all, peer.members.owners))
    assert states == [states[0]] * 6
