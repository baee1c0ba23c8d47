"""Contacts and blocks: the users and peers that somebody here has to do with by choice, and those it wants nothing of.

A user is a contact when this peer's own user wrote to it or took it into a group, and after `/allow`. A peer is a
contact when somebody here named its endpoint, also by an invite, and it answered there. Limits of their own apply to
contacts. All others are unknown, and share what there is by their members.

A peer may host other users too, and anybody may be one (the accounts of a gateway). Those whom they choose are known to
them alone: their conversations with them need no places, and their names are kept. Links, turns and disk space are the
peer's own matter.

Whom the peer's own user blocks gets no link here, is not shown here, and nothing that it writes is stored. A user that
this peer hosts beside its own blocks for itself: what the blocked one writes in their direct conversation is not
stored, and the peer of the blocked one is told that the user is offline. Who is blocked may be a contact at the same
time; being blocked counts.

Whom a person blocks, or makes a contact, is own state (own_state.py), and told to no other person's peer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from p2pchat.bounded import Counts
from p2pchat.core.node_context import KeySet, NodeContext
from p2pchat.core.own_state import BLOCKED, CHOSEN, DEVICE
from p2pchat.protocol import PeerId, UserId, user_start

CONTACT = "contact:"  # in meta, before the id of a user or a peer; before that the user who chose it, if not the own
NOBODY: frozenset[UserId] = frozenset()


class Contacts:
    """The users and peers that are known here. A peer's own user has the same id, so both are in one set.

    All methods take `by`, the hosted user who chose them, this peer's own by default. The set itself, `id in contacts`,
    is of those whom the peer's own user chose.

    Args:
        meta: What storage holds.
        on_added: Called with the id of each new contact, and who chose it.

    Attributes:
        own: Those whom the peer's own user chose, as a dict because each batch asks it.
    """

    def __init__(
        self, ctx: NodeContext, meta: Mapping[str, str], on_added: Callable[[UserId | PeerId, UserId], None]
    ) -> None:
        self._ctx = ctx
        self._on_added = on_added
        self.own: KeySet[UserId | PeerId] = {}
        self._ids: dict[UserId, KeySet[UserId | PeerId]] = {ctx.user: self.own}  # by who chose them
        self._chosen: set[UserId | PeerId] = set()  # by anybody here
        for by, id in ctx.own.all(CHOSEN):
            self.load([id], by)
        for name in meta:
            if name.startswith(CONTACT):
                by, _, id = name.removeprefix(CONTACT).rpartition(":")
                self.load([id], by)

    def __contains__(self, id: object) -> bool:
        return id in self.own

    def are_known(self, user: UserId, id: UserId) -> bool:
        """Return whether a user is known to this hosted user."""
        return id in self or id in self._ids.get(user, ())

    def has_any(self, id: UserId) -> bool:
        """Return whether a user is known to anybody here."""
        return id in self._chosen

    def load(self, ids: Iterable[UserId | PeerId], by: UserId = "") -> None:
        """Add those of whom stored entries say that they were contacts. Nothing that was stored changes by it."""
        for id in ids:
            self._put(id, by or self._ctx.user)

    def add(self, ids: Iterable[UserId | PeerId], by: UserId = "") -> None:
        """Add users or peers, until the node stops: what is stored makes them contacts again at the next start."""
        by = by or self._ctx.user
        for id in ids:
            if self._put(id, by):
                self._on_added(id, by)

    def keep(self, ids: Iterable[UserId | PeerId], by: UserId = "") -> None:
        """Add users or peers for as long as the profile lives: nothing else that is stored says it."""
        by = by or self._ctx.user
        for id in ids:
            if id not in self._ids.get(by, ()):
                self._ctx.choose(self.line(id, by), "1")
                self.add([id], by)

    def _put(self, id: UserId | PeerId, by: UserId) -> bool:
        ids = self._ids.setdefault(by, {})
        if id in ids:
            return False
        ids[id] = None
        self._chosen.add(id)
        return True

    def lines_of(self, by: UserId) -> Iterable[str]:
        """Return the keys of the lines of meta that may make others contacts of a user."""
        return [self.line(id, by) for id in self._ids.get(by, ())]

    def forget(self, by: UserId) -> None:
        """Forget whom a user chose, when it is deleted."""
        self._ids.pop(by, None)

    def line(self, id: UserId | PeerId, by: UserId) -> str:
        """Return the key of the line of meta that makes a user a contact of somebody here."""
        return CONTACT + (id if by == self._ctx.user else f"{by}:{id}")


class Blocks:
    """The blocked users, as own state says.

    Args:
        may_be_own: Returns whether the own member answers for a peer, as far as that is known.

    Attributes:
        users: Those whom the peer's own user blocks, and so the peers whose own user they are.
        machines: Other peers of which it is known that each of their users is one of these, by one of them.
        starts: The first 16 digits of the ids of all blocked users, as references name them.
    """

    def __init__(self, ctx: NodeContext, may_be_own: Callable[[PeerId], bool]) -> None:
        self._ctx = ctx
        self._may_be_own = may_be_own
        self.users: KeySet[UserId] = {}
        self.machines: dict[PeerId, UserId] = {}
        self._by: dict[UserId, KeySet[UserId]] = {ctx.user: self.users}
        self.starts: Counter[str] = Counts()
        for by, user in ctx.own.all(BLOCKED):
            self.set(by, user, True)

    def __contains__(self, peer: object) -> bool:
        """Return whether a peer gets no link. A machine of the own user is judged by its users: what was ever said to
        be one, since a thief takes that back, unless another member answers for it, since a thief says it of others.
        """
        if peer in self.users and not (
            self._may_be_own(str(peer)) and peer in self._ctx.own.ids(self._ctx.user, DEVICE)
        ):
            return True
        return peer in self.machines

    def set(self, by: UserId, user: UserId, on: bool) -> None:
        """Block a user on behalf of one hosted here, or end that: it was the other way before."""
        blocked = self._by.setdefault(by, {})
        if on:
            blocked[user] = None
        else:
            del blocked[user]
        self.starts[user_start(user)] += 1 if on else -1

    def of(self, by: UserId) -> Iterable[UserId]:
        """Return whom a user blocks."""
        return self._by.get(by, ())

    def by_any(self, user: UserId, users: Iterable[UserId]) -> frozenset[UserId]:
        """Return those of some users who block another one."""
        return frozenset(one for one in users if user in self.of(one)) if user_start(user) in self.starts else NOBODY

    def refuses(self, user: UserId, members: Iterable[UserId]) -> bool:
        """Return whether nothing of a user is stored in a direct conversation of `members`, with () in any other."""
        return user in self.users or any(user in self._by.get(member, ()) for member in members)
