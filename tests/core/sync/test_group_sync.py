"""Groups in whole nodes: the talk reaches its members and nobody else, despite accidents."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from p2pchat.core import effects as out
from p2pchat.core import inputs
from p2pchat.core.groups.group_fact import talk_id
from p2pchat.core.groups.group_replica import GroupView
from p2pchat.core.log import Ref, decode_entry, ref_key
from p2pchat.kinds import KINDS
from simulation.simulated_peer import SimPeer
from simulation.simulation import Simulation

APART = 40.0  # seconds after which two separated peers have noticed it


class SimulatedGroup:
    """A simulated mesh with one group made by ada, and the events that each peer's program received."""

    def __init__(self, sim: Simulation, *members: SimPeer) -> None:
        self.sim = sim
        self.owner = sim.up[0]
        self.changes: dict[str, list[str]] = {}
        self.lost: dict[str, list[int]] = {}
        self.delivered: dict[tuple[int, str], int] = {}
        self.refused: list[str] = []
        self.talk = ""
        self._tickets = 0
        for peer in sim.up:
            self.listen(peer)
        sim.calm()
        self.ask(self.owner, inputs.GroupCreateRequest, "ops", tuple(peer.user for peer in members))
        sim.calm()
        assert self.owner.node is not None
        (self.id,) = self.owner.node.groups
        self.talk = talk_id(self.id)

    def listen(self, peer: SimPeer) -> None:
        """Record the events about groups that a peer's program receives."""
        listens: dict[type, Callable[[Any], None]] = {
            out.GroupUpdate: lambda news: self._changed(peer, news),
            out.DeliveryRevoked: lambda news: self.lost.setdefault(peer.name, []).extend(
                range(news.first, news.last + 1)
            ),
            out.DeliveryReceipt: self._delivered,
            out.WriteRefused: lambda answer: self.refused.append(answer.code),
        }
        for kind, hears in listens.items():
            peer._carry[kind] = partial(_both, hears, peer._carry[kind])

    def _changed(self, peer: SimPeer, news: out.GroupUpdate) -> None:
        whom = self.sim.by_user[news.target].name if news.target else news.name
        self.changes.setdefault(peer.name, []).append(f"{news.change} {whom}")

    def _delivered(self, news: out.DeliveryReceipt) -> None:
        for seq in range(news.first, news.last + 1) if news.log.conversation == self.talk else ():
            self.delivered[seq, self.sim.by_user[news.member].name] = seq

    def ask(self, peer: SimPeer, kind: type, *what: object, **fields: object) -> None:
        self._tickets -= 1
        peer.put(kind(self._tickets, peer.user, *what, **fields))

    def change(self, **what: object) -> None:
        self.ask(self.owner, inputs.GroupChangeRequest, self.id, **what)
        self.sim.calm()

    def say(self, peer: SimPeer, *texts: str) -> None:
        self.ask(peer, inputs.WriteRequest, self.talk, "text", list(texts))
        self.sim.calm()

    def view(self, peer: SimPeer) -> GroupView:
        assert peer.node is not None
        return peer.node.groups[self.id]

    def members(self, peer: SimPeer) -> list[str]:
        return sorted(self.sim.by_user[user].name for user in self.view(peer).members)

    def texts(self, peer: SimPeer) -> list[str]:
        """Return the texts of the talk that a peer shows."""
        return [decode_entry(one.raw).b for one in peer.disk.storage.history(self.talk, limit=0)]

    def ends_well(self) -> None:
        assert self.sim.settle()
        assert self.sim.check() == []


def _both(one: Callable[[Any], None], other: Callable[[Any], None], effect: Any) -> None:
    one(effect)
    other(effect)


def group_of_three(sim: Simulation) -> tuple[SimPeer, SimPeer, SimPeer, SimulatedGroup]:
    """Return ada, bob and cyd, linked, and a group of them that ada owns."""
    ada, bob, cyd = sim.peers(3)
    return ada, bob, cyd, SimulatedGroup(sim, bob, cyd)


@pytest.fixture
def sim() -> Simulation:
    return Simulation(seed=5)


def test_only_members_see_a_group(sim: Simulation) -> None:
    ada, bob, cyd = sim.peers(3)
    group = SimulatedGroup(sim, bob)
    group.say(ada, "one")
    group.say(bob, "two", "three")
    assert group.texts(ada) == group.texts(bob) == ["one", "two", "three"]
    assert group.texts(cyd) == [] and cyd.node and group.id not in cyd.node.groups
    assert group.changes == {"ada": ["created ops"], "bob": ["created ops"]}
    group.ends_well()


def test_the_third_gets_everything_from_the_second_when_the_writer_is_gone(sim: Simulation) -> None:
    ada, bob, cyd, group = group_of_three(sim)
    cyd.crash()
    group.say(ada, "one", "two")
    ada.stop()
    sim.calm()
    cyd.start(bob.endpoint)
    sim.calm()
    assert group.texts(cyd) == ["one", "two"] and (1, "cyd") not in group.delivered
    ada.start()
    sim.calm()
    assert [(2, name) in group.delivered for name in ("bob", "cyd")] == [True, True]  # 2 of 2
    group.ends_well()


def test_a_newcomer_gets_the_whole_history(sim: Simulation) -> None:
    ada, bob, cyd = sim.peers(3)
    group = SimulatedGroup(sim, bob)
    group.say(bob, "before")
    group.change(add=(cyd.user,))
    assert group.texts(cyd) == ["before"] and group.changes["cyd"] == ["created ops"]
    group.say(cyd, "thanks")
    group.say(bob, "welcome")
    shown = [one for one in cyd.disk.storage.places(0, 100) if one.log.conversation == group.talk]
    assert [one.old for one in shown] == [True, False, False]
    assert group.texts(ada) == group.texts(bob) == ["before", "thanks", "welcome"]
    group.ends_well()


def test_what_is_written_while_a_new_member_is_away_is_news_and_what_was_there_before_is_old(sim: Simulation) -> None:
    ada, bob, cyd = sim.peers(3)
    sim.calm()
    cyd.stop()
    group = SimulatedGroup(sim, bob)
    group.say(ada, "before")
    group.change(add=(cyd.user,))
    group.say(ada, "welcome")
    group.say(bob, "and from me")
    cyd.start()
    sim.calm()
    shown = [one for one in cyd.disk.storage.places(0, 100) if one.log.conversation == group.talk]
    assert [(decode_entry(one.raw).b, one.old) for one in shown] == [
        ("before", True), ("welcome", False), ("and from me", False),
    ]  # fmt: skip
    group.ends_well()


def test_a_member_removed_while_apart_gets_its_undelivered_messages_reported(sim: Simulation) -> None:
    ada, bob, cyd, group = group_of_three(sim)
    group.say(bob, "before")
    sim.partition([bob], [ada, cyd])
    sim.run(APART)
    group.say(bob, "lost", "lost too")
    group.change(remove=(bob.user,))
    sim.heal()
    sim.calm()
    assert group.changes["bob"][-1] == "removed bob" and group.lost == {"bob": [2, 3]}
    assert group.texts(ada) == group.texts(bob) == group.texts(cyd) == ["before"]
    group.say(bob, "and now?")
    assert group.refused == ["member"]
    group.change(add=(bob.user,))
    group.say(bob, "back")
    assert group.texts(ada) == group.texts(bob) == group.texts(cyd) == ["before", "back"]
    group.ends_well()


def test_entries_shown_before_their_cut_are_hidden_afterwards(sim: Simulation) -> None:
    ada, bob, cyd, group = group_of_three(sim)
    group.say(bob, "before")
    sim.partition([ada], [bob, cyd])
    sim.run(APART)
    group.say(bob, "beyond")
    assert group.texts(cyd) == ["before", "beyond"]
    group.change(remove=(bob.user,))
    sim.heal()
    sim.calm()
    assert group.texts(ada) == group.texts(bob) == group.texts(cyd) == ["before"]
    cyd.crash()
    cyd.start()
    sim.calm()
    assert group.texts(cyd) == ["before"]
    group.ends_well()


def test_entries_that_were_cut_off_are_not_served(sim: Simulation) -> None:
    ada, bob, cyd, dan = sim.peers(4)
    group = SimulatedGroup(sim, bob, cyd)
    group.say(bob, "before")
    sim.partition([ada, dan], [bob, cyd])
    sim.run(APART)
    for number in range(2 * sim.settings.max_batch_entries):
        group.say(bob, f"beyond {number}")
    group.change(remove=(bob.user,))
    sim.heal()
    sim.calm()
    sim.partition([dan], [ada, bob])  # so dan can get it only from cyd, who holds all of it
    group.change(add=(dan.user,))
    sim.run(APART)
    held = [len(raws) for log, raws in dan.disk.logs.items() if log.conversation == group.talk]
    assert held and sum(held) <= sim.settings.max_batch_entries  # a batch that reaches the cut is sent up to its head
    assert group.texts(dan) == ["before"] and not sim.counts["cut_off"]
    group.ends_well()


def test_a_member_removed_and_added_again_writes_in_a_new_run(sim: Simulation) -> None:
    ada, bob, _ = sim.peers(3)
    group = SimulatedGroup(sim, bob)
    group.say(bob, "before")
    sim.partition([bob], [peer for peer in sim.up if peer is not bob])
    sim.run(APART)
    group.say(bob, "lost")
    group.change(remove=(bob.user,))
    group.change(add=(bob.user,))
    sim.heal()
    sim.calm()
    group.say(bob, "after")
    assert group.texts(ada) == group.texts(bob) == ["before", "after"] and group.lost == {"bob": [2]}
    runs = {one.log.run for one in bob.disk.storage.history(group.talk, limit=0)}
    assert len(runs) == 2
    group.ends_well()


def test_a_member_leaves_without_the_owner_and_its_entries_stay(sim: Simulation) -> None:
    ada, bob, cyd, group = group_of_three(sim)
    group.say(bob, "bye")
    ada.crash()
    group.ask(bob, inputs.GroupLeaveRequest, group.id)
    sim.calm()
    assert group.members(cyd) == ["ada", "cyd"] and group.changes["cyd"][-1] == "left bob"
    group.say(cyd, "and then there were two")
    ada.start(cyd.endpoint)
    sim.calm()
    assert group.texts(ada) == group.texts(cyd) == ["bye", "and then there were two"] and group.texts(bob) == ["bye"]
    group.change(name="dev")
    assert group.texts(cyd)[0] == "bye"
    group.ends_well()


def test_the_owner_hands_over_before_it_leaves(sim: Simulation) -> None:
    ada, bob, _ = sim.peers(3)
    group = SimulatedGroup(sim, bob)
    group.ask(ada, inputs.GroupLeaveRequest, group.id)
    group.ask(bob, inputs.GroupChangeRequest, group.id, name="mine")
    assert group.refused == ["owner", "owner"]
    group.change(owner=bob.user)
    group.ask(ada, inputs.GroupLeaveRequest, group.id)
    group.ask(bob, inputs.GroupChangeRequest, group.id, name="mine")
    sim.calm()
    assert (group.members(bob), group.view(bob).name) == (["bob"], "mine")
    group.ends_well()


def test_nothing_that_a_restored_owner_said_is_lost(sim: Simulation) -> None:
    ada, bob, cyd, dan = sim.peers(4)
    group = SimulatedGroup(sim, bob)
    length = len(ada.disk)
    group.change(add=(cyd.user,))
    group.change(name="dev", admin=(bob.user,))
    ada.crash()
    ada.restore(length)
    ada.start()
    group.ask(ada, inputs.GroupChangeRequest, group.id, add=(dan.user,))
    sim.calm()
    assert group.members(ada) == group.members(bob) == ["ada", "bob", "cyd", "dan"]
    assert (group.view(dan).name, group.view(dan).admins) == ("dev", frozenset({bob.user}))
    group.ends_well()


@pytest.mark.parametrize("meets_first", ["heir", "plain", "removed"])
def test_who_was_removed_stays_out_although_another_machine_hands_the_group_over(
    sim: Simulation, meets_first: str
) -> None:
    """Ada removes dan at her desk, and others write. Her laptop, away, makes bob the owner: whomever it meets first."""
    ada, bob, cyd, dan = sim.peers(4)
    group = SimulatedGroup(sim, bob, cyd, dan)
    ada.crash()
    ada.start()  # she writes in new logs from here on, as another machine of hers does
    sim.calm()
    group.change(remove=(dan.user,))
    group.say(cyd, "not for dan")
    others = {"heir": bob, "plain": cyd, "removed": dan}
    first = others.pop(meets_first)
    sim.partition([bob, cyd, dan], [ada])
    ada.resume()
    sim.run(APART)
    group.change(owner=bob.user)
    sim.partition([ada, first], [*others.values()])
    sim.run(APART)
    sim.heal()
    sim.calm()
    for peer in (ada, bob, cyd, dan):
        assert group.members(peer) == ["ada", "bob", "cyd"] and group.view(peer).owner == bob.user
        assert group.texts(peer) == ["not for dan"] * (peer is not dan)
    group.ends_well()


def test_facts_of_a_copied_machine_do_not_fork(sim: Simulation) -> None:
    """Ada's machine goes back to a snapshot and continues: what either wrote counts, though its talk log forks."""
    ada, bob, cyd, dan = peers = sim.peers(4)
    group = SimulatedGroup(sim, bob, cyd, dan)
    ada.crash()
    ada.start()
    sim.calm()
    dan.crash()
    group.change(name="before", admin=(bob.user,))
    group.say(bob, "one")
    group.change(remove=(cyd.user,))
    sim.partition([ada, dan], [bob, cyd])
    ada.resume()
    dan.start(ada.endpoint)
    sim.run(APART)
    group.change(add=(), name="after")
    sim.heal()
    sim.calm()
    for peer in peers:
        assert group.view(peer).name == group.view(ada).name and group.members(peer) == ["ada", "bob", "dan"]
        assert group.view(peer).admins == {bob.user}
    assert not [log for log in ada.disk.stored.forked if log.conversation == group.id]
    group.ends_well()


# ---- admins


def test_admins_add_and_remove_members_and_do_nothing_else(sim: Simulation) -> None:
    ada, bob, cyd, dan = sim.peers(4)
    group = SimulatedGroup(sim, bob, cyd)
    group.ask(bob, inputs.GroupChangeRequest, group.id, add=(dan.user,))
    group.change(admin=(bob.user, cyd.user))
    assert group.changes["bob"][-2:] == ["admin bob", "admin cyd"]
    for wrong in (
        {"name": "x"}, {"owner": bob.user}, {"admin": (dan.user,)}, {"unadmin": (cyd.user,)}, {"remove": (ada.user,)},
        {"remove": (cyd.user,)}, {"add": ()},
    ):  # fmt: skip
        group.ask(bob, inputs.GroupChangeRequest, group.id, **wrong)
    assert group.refused == [*["owner"] * 7, "nothing"]
    group.ask(bob, inputs.GroupChangeRequest, group.id, add=(dan.user,))
    sim.calm()
    assert group.members(dan) == ["ada", "bob", "cyd", "dan"]
    group.ask(cyd, inputs.GroupChangeRequest, group.id, remove=(dan.user,))
    sim.calm()
    assert group.members(ada) == ["ada", "bob", "cyd"]
    group.ask(bob, inputs.GroupChangeRequest, group.id, add=(dan.user,))
    sim.calm()
    group.change(unadmin=(bob.user,))
    assert group.members(ada) == group.members(dan) == ["ada", "bob", "cyd", "dan"]  # whom it had added stays
    group.ask(bob, inputs.GroupChangeRequest, group.id, add=(dan.user,))
    assert group.refused[-1] == "owner"
    group.ends_well()


def test_two_admins_who_act_apart_end_with_one_list(sim: Simulation) -> None:
    ada, bob, cyd, dan, eva = peers = sim.peers(5)
    group = SimulatedGroup(sim, bob, cyd, dan)
    group.change(admin=(bob.user, cyd.user))
    sim.partition([ada, bob], [cyd, dan, eva])
    sim.run(APART)
    group.ask(bob, inputs.GroupChangeRequest, group.id, remove=(dan.user,))
    group.ask(bob, inputs.GroupChangeRequest, group.id, add=(dan.user,))
    group.ask(cyd, inputs.GroupChangeRequest, group.id, remove=(dan.user,))
    group.ask(cyd, inputs.GroupChangeRequest, group.id, add=(eva.user,))
    sim.run(APART)
    sim.heal()
    sim.calm()
    assert [group.members(peer) for peer in peers] == [["ada", "bob", "cyd", "eva"]] * 5
    group.ends_well()


@pytest.mark.parametrize("raised", ["admin", "owner"])
def test_what_lies_between_a_cut_and_the_adding_is_hidden_for_ever(sim: Simulation, raised: str) -> None:
    """Also by each of two cuts, and after a restart; whoever adds need not have removed. Who becomes an admin then, or
    the owner, has not been there in between either.
    """
    ada, bob, cyd = peers = sim.peers(3)
    group = SimulatedGroup(sim, bob, cyd)
    group.change(admin=(cyd.user,))
    group.say(bob, "before")
    for by, text in ((ada, "between"), (cyd, "again")):
        sim.partition([bob], [ada, cyd])
        sim.run(APART)
        group.say(bob, text)
        group.ask(by, inputs.GroupChangeRequest, group.id, remove=(bob.user,))
        sim.heal()
        sim.calm()
        group.ask(ada if by is cyd else cyd, inputs.GroupChangeRequest, group.id, add=(bob.user,))
        sim.calm()
    group.say(bob, "back")
    assert [group.texts(peer) for peer in peers] == [["before", "back"]] * 3
    for peer in peers:
        peer.crash()
        peer.start()
    sim.calm()
    group.say(bob, "still")
    group.change(**{raised: (bob.user,) if raised == "admin" else bob.user})
    assert [group.texts(peer) for peer in peers] == [["before", "back", "still"]] * 3
    group.ends_well()


def test_removals_that_knew_different_logs_hide_what_either_did_not_know(sim: Simulation) -> None:
    """Bob did not know the log at which ada cuts. It is kept, else he could not tell what lies below it; nobody is told
    that it was delivered.
    """
    ada, bob, cyd, dan = sim.peers(4)
    group = SimulatedGroup(sim, bob, cyd, dan)
    group.change(admin=(bob.user,))
    group.say(dan, "before")
    dan.crash()
    dan.start()
    sim.calm()
    sim.partition([bob, cyd], [ada, dan])
    sim.run(APART)
    group.say(dan, "unknown to bob")
    for by in (ada, bob):
        group.ask(by, inputs.GroupChangeRequest, group.id, remove=(dan.user,))
    sim.heal()
    sim.calm()
    assert [group.texts(peer) for peer in (ada, bob, cyd)] == [["before"]] * 3
    group.delivered.clear()
    group.change(add=(dan.user,))
    assert group.members(dan) == ["ada", "bob", "cyd", "dan"] and not group.delivered
    group.ends_well()


def test_everything_is_known_after_a_restart_of_all(sim: Simulation) -> None:
    ada, bob, cyd, group = group_of_three(sim)
    group.say(bob, "one")
    group.change(remove=(cyd.user,))
    views = [group.view(peer) for peer in (ada, bob, cyd)]
    for peer in (ada, bob, cyd):
        peer.crash()
    for peer in (ada, bob, cyd):
        peer.start()
    sim.calm()
    assert [group.view(peer) for peer in (ada, bob, cyd)] == views
    group.say(ada, "two")
    assert group.texts(bob) == ["one", "two"] and group.texts(cyd) == ["one"]
    assert group.lost == {}
    group.ends_well()


@pytest.mark.parametrize(
    ("name", "members", "code"),
    [
        ("", (), "name"),
        ("#x", (), "name"),
        ("ops", ("nobody",), "members"),
        ("ops", tuple(f"{n:064x}" for n in range(256)), "members"),
    ],
)
def test_an_invalid_group_is_refused(sim: Simulation, name: str, members: tuple[str, ...], code: str) -> None:
    (ada,) = sim.peers(1)
    group = SimulatedGroup(sim)
    group.ask(ada, inputs.GroupCreateRequest, name, members)
    assert group.refused == [code]
    group.ask(ada, inputs.GroupChangeRequest, group.id, name="ops")
    group.ask(ada, inputs.GroupChangeRequest, "00" * 32, name="ops")
    assert group.refused[1:] == ["nothing", "group"]


# ---- edits in a talk


def test_an_edit_beyond_a_cut_is_undone(sim: Simulation) -> None:
    ada, bob, cyd, group = group_of_three(sim)
    group.say(bob, "before")
    (first,) = bob.disk.storage.history(group.talk)
    named = Ref(ref_key(bob.user, first.log.run), first.seq)
    bob.mend("edit", "before, mended", group.talk, named)
    sim.calm()
    sim.partition([ada], [bob, cyd])
    sim.run(APART)
    bob.mend("edit", "beyond", group.talk, named)
    bob.mend("reaction", "+1", group.talk, named)
    sim.calm()
    assert mended_to(cyd, group.talk) == ["beyond", "+1"]
    group.change(remove=(bob.user,))
    sim.heal()
    sim.calm()
    assert [mended_to(peer, group.talk) for peer in (ada, bob, cyd)] == [["before, mended"]] * 3
    cyd.crash()
    cyd.start()
    sim.calm()
    assert mended_to(cyd, group.talk) == ["before, mended"]
    group.ends_well()


def mended_to(peer: SimPeer, talk: str) -> list[str]:
    """Return the current text and the reactions that a peer shows of the first message."""
    edits = peer.disk.storage.history(talk, limit=0)[0].edits
    assert edits is not None and edits.newest is not None
    return [edits.newest.entry.b, *(each.entry.b for each in edits.said(KINDS["reaction"]))]
