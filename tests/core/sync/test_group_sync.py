"""Groups in whole nodes: the talk reaches its members and nobody else, despite accidents."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from p2pchat.core import effects as out
from p2pchat.core import inputs
from p2pchat.core.durable_changes import DiskLevel
from p2pchat.core.groups.group_replica import GroupView
from p2pchat.core.groups.group_state import talk_id
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
    assert group.texts(cyd) == ["before"] and group.changes["cyd"] == ["created ops", "added cyd"]
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
    group.change(name="dev")  # the owner's next operation has bob's cuts
    assert group.view(cyd).left == frozenset() and group.texts(cyd)[0] == "bye"
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


def test_a_restored_owner_repeats_its_lost_operations(sim: Simulation) -> None:
    ada, bob, cyd, dan = sim.peers(4)
    group = SimulatedGroup(sim, bob)
    length = len(ada.disk)
    group.change(add=(cyd.user,))
    group.change(name="dev")
    ada.crash()
    ada.restore(length)
    ada.start()
    group.ask(ada, inputs.GroupChangeRequest, group.id, add=(dan.user,))  # of the gen that added cyd
    sim.calm()
    assert group.members(ada) == group.members(bob) == ["ada", "bob", "cyd", "dan"]
    assert group.view(dan).name == "dev" and sim.counts["operation_redone"] == 1
    group.ends_well()


def test_with_a_disk_nearly_full_lost_operations_are_repeated_later(sim: Simulation) -> None:
    ada, bob, cyd = sim.peers(3)
    group = SimulatedGroup(sim, bob)
    length = len(ada.disk)
    group.change(add=(cyd.user,))
    ada.crash()
    ada.restore(length)
    ada.start()
    group.ask(ada, inputs.GroupChangeRequest, group.id, name="dev")
    assert ada.node is not None
    while not ada.node.replicator.conversations.groups[group.id].lost_operations(ada.user):
        sim.run(0.01)  # until it gets its own operations from bob
    ada.disk_low(DiskLevel.NOTHING)
    sim.run(30)
    assert sim.counts["operation_redone"] == 0
    ada.disk_low(DiskLevel.ENOUGH)
    sim.calm()
    assert sim.counts["operation_redone"] == 1 and group.members(bob) == ["ada", "bob", "cyd"]
    group.ends_well()


def test_operations_of_a_forked_log_are_repeated_and_all_agree(sim: Simulation) -> None:
    """Ada's machine goes back to a snapshot and continues. Ada and dan never receive what it wrote before."""
    ada, bob, cyd, dan = peers = sim.peers(4)
    group = SimulatedGroup(sim, bob, cyd, dan)
    ada.crash()
    ada.start()
    sim.calm()
    dan.crash()
    group.change(name="before")
    group.say(bob, "one")  # cites an operation that dan never receives
    group.change(remove=(cyd.user,))
    sim.partition([ada, dan], [bob, cyd])
    ada.resume()
    dan.start(ada.endpoint)
    sim.run(APART)
    group.change(name="after")
    assert [group.view(peer).name for peer in peers] == ["after", "before", "before", "after"]
    sim.heal()
    sim.calm()
    assert sim.counts["warned_fork"] == 4
    for peer in peers:
        assert (group.view(peer).name, group.members(peer)) == ("after", ["ada", "bob", "cyd", "dan"])
    for peer in (bob, cyd):
        group.say(peer, "still here")
        peer.crash()
        peer.start()
    sim.calm()
    assert [group.texts(peer) for peer in peers] == [["one", "still here", "still here"]] * 4
    group.ends_well()


@pytest.mark.parametrize("away", [False, True])
def test_a_user_named_only_by_a_repeated_operation_is_not_compared(sim: Simulation, away: bool) -> None:
    """Ada added dan and forgot it with her machine's snapshot. Her forked log is served to nobody. Bob tells dan that
    the operation is void, even if bob knew that before dan came back.
    """
    ada, bob, cyd, dan = peers = sim.peers(4)
    group = SimulatedGroup(sim, bob)
    ada.crash()
    ada.start()
    sim.calm()
    group.change(add=(dan.user,))
    assert group.members(dan) == ["ada", "bob", "dan"]
    if away:
        dan.crash()
    sim.partition([ada], [bob, cyd, dan])
    ada.resume()
    sim.run(APART)
    group.change(name="after")
    sim.heal()
    sim.calm()
    if away:
        dan.start()
        sim.calm()
    assert [group.members(peer) for peer in (ada, bob, dan)] == [["ada", "bob"]] * 3
    group.ends_well()
    for peer in peers:
        peer.crash()
        peer.start()
    sim.calm()
    group.change(name="later")
    group.ends_well()
    assert [group.view(peer).name for peer in (ada, bob, dan)] == ["later", "later", "after"]
    group.change(add=(dan.user,))
    group.ends_well()
    assert [group.view(peer).name for peer in (ada, bob, dan)] == ["later"] * 3


@pytest.mark.parametrize(("alone", "seed"), [(False, 5), *((True, seed) for seed in range(15, 19))])
def test_operations_of_an_owner_named_only_by_a_repeated_operation_are_void(alone: bool, seed: int) -> None:
    """Ada made dan the owner and forgot it with her machine's snapshot. Dan changed the group. He hears that he is no
    member even from ada `alone`, who does not know that she named him: by chance he may hear it otherwise.
    """
    sim = Simulation(seed)
    ada, bob, _, dan = peers = sim.peers(4)
    group = SimulatedGroup(sim, bob)
    ada.crash()
    ada.start()
    sim.calm()
    if alone:
        bob.crash()
    group.change(add=(dan.user,))
    group.change(owner=dan.user)
    group.ask(dan, inputs.GroupChangeRequest, group.id, name="mine")
    assert (group.view(dan).name, group.view(dan).owner) == ("mine", dan.user)
    sim.partition([ada], peers[1:])
    ada.resume()
    sim.run(APART)
    group.change(name="after")
    if alone:
        bob.start(ada.endpoint)
    sim.heal()
    sim.calm()
    assert [(group.view(peer).name, group.members(peer)) for peer in (ada, bob, dan)] == [("after", ["ada", "bob"])] * 3
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
