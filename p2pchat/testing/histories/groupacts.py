"""What people do with groups in a history: make and change them, say something there, leave, all through accidents.

Each is one method without arguments, like those of faults.py, and does nothing where it cannot happen. What comes of it
is judged in grouping.py.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from p2pchat.core import inputs
from p2pchat.core.groups.view import GroupView
from p2pchat.core.inputs import Input
from p2pchat.testing.simulation.peer import SimPeer
from p2pchat.testing.simulation.simulation import Simulation

WITH_GROUPS = 0.35  # of the histories
MOST_GROUPS = 3
STEPS = {
    "group_make": 2, "group_say": 10, "group_add": 3, "group_remove": 4, "group_leave": 1, "group_rename": 2,
    "group_hand": 1, "group_apart": 3, "group_old": 2,
}  # fmt: skip


def draw_steps(chance: Random) -> list[str]:
    """Return what a history does with groups; [] for most."""
    if chance.random() >= WITH_GROUPS:
        return []
    return ["group_make", *chance.choices([*STEPS], [*STEPS.values()], k=chance.randint(6, 24))]


class GroupAccidents:
    """What somebody at each peer does with groups. Tickets of groups are negative."""

    sim: Simulation
    chance: Random
    _groups_asked = 0

    def ask(self, peer: SimPeer, kind: Callable[..., Input], *what: object, **fields: object) -> None:
        """Have a peer do something, if it runs."""
        self._groups_asked += 1
        if peer.up:
            peer.put(kind(-self._groups_asked, peer.user, *what, **fields))

    def group_make(self) -> None:
        makers = [peer for peer in self.sim.up if not peer.liar]
        others = [peer for peer in self.sim.all_peers if not peer.liar]
        if not makers or len({id for peer in makers for id in self._views(peer)}) >= MOST_GROUPS:
            return
        maker = self.chance.choice(makers)
        members = tuple(peer.user for peer in self.chance.sample(others, self.chance.randint(1, len(others))))
        self.sim.note(f"{maker.name} makes a group of {len(members)}")
        self.ask(maker, inputs.GroupMade, f"g{self._groups_asked}", members)

    def group_say(self) -> None:
        for peer, view in self._some(lambda peer, view: peer.user in view.members, self.chance.choice((1, 1, 2, 3))):
            texts = [f"{peer.name} {self._groups_asked} {n}" for n in range(self.chance.choice((1, 1, 3, 7)))]
            self.ask(peer, inputs.Said, view.talk, "text", texts)

    def group_add(self) -> None:
        for peer, view in self._some(_owns):
            others = [each.user for each in self.sim.all_peers if not each.liar and each.user not in view.members]
            if others:
                added = (self.chance.choice(others),)
                self.ask(peer, inputs.GroupChanging, view.group, add=added)

    def group_remove(self) -> None:
        for peer, view in self._some(_owns):
            others = sorted(view.members.keys() - {peer.user})
            if others:
                removed = (self.chance.choice(others),)
                self.sim.note(f"{peer.name} removes {self.sim.by_user[removed[0]].name}")
                self.ask(peer, inputs.GroupChanging, view.group, remove=removed)

    def group_rename(self) -> None:
        for peer, view in self._some(_owns):
            name = f"n{self._groups_asked}"
            self.ask(peer, inputs.GroupChanging, view.group, name=name)

    def group_hand(self) -> None:
        for peer, view in self._some(_owns):
            owner = self.chance.choice(sorted(view.members))
            self.ask(peer, inputs.GroupChanging, view.group, owner=owner)

    def group_leave(self) -> None:
        for peer, view in self._some(lambda peer, view: peer.user in view.members and not _owns(peer, view)):
            self.sim.note(f"{peer.name} leaves a group")
            self.ask(peer, inputs.GroupLeaving, view.group)

    def group_apart(self) -> None:
        """A member who is apart from all others writes, is removed, writes on, and may be added again."""
        for owner, view in self._some(_owns):
            apart = [peer for peer in self.sim.up if peer.user in view.members and peer is not owner]
            if not apart:
                continue
            member = self.chance.choice(apart)
            self.sim.note(f"{member.name} is apart, and {owner.name} removes it")
            self.sim.partition([member], [peer for peer in self.sim.all_peers if peer is not member])
            self._write(member, view)
            removed = (member.user,)
            self.ask(owner, inputs.GroupChanging, view.group, remove=removed)
            self.sim.run(self.chance.choice((0.1, 1.0)))
            self._write(member, view)
            if self.chance.random() < 0.5:
                self.ask(owner, inputs.GroupChanging, view.group, add=removed)
                self._write(member, view)

    def group_old(self) -> None:
        """An owner's disk goes back, and it changes the group before it hears what it had done: two of one gen."""
        for owner, view in self._some(_owns):
            length = len(owner.disk)
            for _ in range(self.chance.choice((1, 1, 2))):
                self.ask(owner, inputs.GroupChanging, view.group, name=f"o{self._groups_asked}")
                self.sim.run(self.chance.choice((0.5, 2.0)))
            self.sim.note(f"{owner.name}, who owns a group, is restored and changes it at once")
            owner.crash()
            owner.restore(length)
            owner.start()
            others = [each.user for each in self.sim.all_peers if not each.liar]
            what = self.chance.choice(("add", "remove", "name"))
            user = (self.chance.choice(others),)
            change: dict[str, object] = {what: "old" if what == "name" else user}
            self.ask(owner, inputs.GroupChanging, view.group, **change)

    # ---- how

    def _write(self, peer: SimPeer, view: GroupView) -> None:
        texts = [f"{peer.name} apart {self._groups_asked} {n}" for n in range(self.chance.choice((0, 1, 3)))]
        if texts:
            self.ask(peer, inputs.Said, view.talk, "text", texts)
            self.sim.run(0.05)

    def _views(self, peer: SimPeer) -> dict[str, GroupView]:
        return dict(peer.node.groups) if peer.node is not None else {}

    def _some(self, suits: Callable[[SimPeer, GroupView], bool], count: int = 1) -> list[tuple[SimPeer, GroupView]]:
        """Draw peers with a group of theirs that suits."""
        found = [
            (peer, view) for peer in self.sim.up if not peer.liar
            for _, view in sorted(self._views(peer).items()) if suits(peer, view)
        ]  # fmt: skip
        return [self.chance.choice(found) for _ in range(count)] if found else []


def _owns(peer: SimPeer, view: GroupView) -> bool:
    return view.owner == peer.user and peer.user in view.members
