"""Contacts: the users and peers that somebody here has to do with by choice.

A user is a contact when a user hosted here wrote to it, took it into a group or accepted its request, and after
`/allow`. A peer is a contact when somebody here named its endpoint, also by an invite, and it answered there. Limits of
their own apply to contacts. All others are unknown and share what there is (shares.py).

Contacts live as long as the profile. They are never told to another peer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from p2pchat.core.context import Context
from p2pchat.protocol import PeerId, UserId

CONTACT = "contact:"  # in meta, before the id of a user or a peer


class Contacts:
    """The users and peers that are known here. A peer's own user has the same id, so both are in one set.

    Args:
        meta: What storage holds.
        on_added: Called with the id of each new contact.

    Attributes:
        on_user: Called too, once everything stored is loaded.
    """

    def __init__(self, ctx: Context, meta: Mapping[str, str], on_added: Callable[[UserId | PeerId], None]) -> None:
        self._ctx = ctx
        self._on_added = on_added
        self.on_user: Callable[[UserId], None] | None = None
        self._ids: dict[UserId | PeerId, None] = {}
        self._ids.update(dict.fromkeys(name.removeprefix(CONTACT) for name in meta if name.startswith(CONTACT)))

    def __contains__(self, id: object) -> bool:
        return id in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, ids: Iterable[UserId | PeerId]) -> None:
        """Add users or peers, until the node stops: what is stored makes them contacts again at the next start."""
        for id in ids:
            if id not in self._ids:
                self._ids[id] = None
                self._on_added(id)
                if self.on_user is not None:
                    self.on_user(id)

    def keep(self, ids: Iterable[UserId | PeerId]) -> None:
        """Add users or peers for as long as the profile lives: nothing else that is stored says it."""
        for id in ids:
            if id not in self._ids:
                self._ctx.change.meta[CONTACT + id] = "1"
                self.add([id])

    def save(self) -> None:
        """Store all contacts with the next commit: commits in flight have failed."""
        self._ctx.change.meta.update((CONTACT + id, "1") for id in self._ids)
