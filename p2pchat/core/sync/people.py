"""Who is called what: the newest profile entry of a user, and until there is one what its peer tells.

A name is bound to a key on first sight; another key under it raises a warning, once. How names are told apart when
two users share one is for those who show them.
"""

from __future__ import annotations

from collections.abc import Iterable

from p2pchat.core.context import Context
from p2pchat.core.effects import UserNamed, Warned
from p2pchat.core.log import Entry
from p2pchat.core.names import name_fault
from p2pchat.core.records import KnownUser
from p2pchat.protocol import UserId

MAX_NAMES = 100_000  # of users who never wrote: whoever hosts can make up as many as it likes; a guess: 30 MiB


class People:
    """Names by user id."""

    def __init__(self, ctx: Context, known: Iterable[KnownUser]) -> None:
        self._ctx = ctx
        self.names: dict[UserId, str] = {}
        self._named_c: dict[UserId, int] = {}
        self._keys: dict[str, UserId] = {}
        for user in known:
            self.names[user.id] = user.name
            if user.named_c:  # 0: only its peer told it
                self._named_c[user.id] = user.named_c
            self._keys.setdefault(user.name, user.id)

    def profile(self, user: UserId, entry: Entry) -> None:
        """Take a profile entry of the room; older ones and those without a proper name change nothing."""
        name = entry.b.get("name") if isinstance(entry.b, dict) else None
        if not isinstance(name, str) or name_fault(name) or entry.c <= self._named_c.get(user, 0):
            return
        about = entry.b.get("about")
        self._named_c[user] = entry.c
        self._ctx.change.users.append(KnownUser(user, name, entry.c, about if isinstance(about, str) else ""))
        self._name(user, name)

    def told(self, user: UserId, name: str) -> None:
        """Take the name a peer tells of a user it hosts; a profile entry outweighs it, a bad one is none.

        It is kept: after a restart somebody who is away and never spoke can still be written to by name.
        """
        if user in self._named_c or name_fault(name) or (user not in self.names and len(self.names) >= MAX_NAMES):
            return
        if self.names.get(user) != name:
            self._ctx.change.users.append(KnownUser(user, name, 0))
        self._name(user, name)

    def _name(self, user: UserId, name: str) -> None:
        if self.names.get(user) == name:
            return
        self.names[user] = name
        self._ctx.emit(UserNamed(user, name))
        if self._keys.setdefault(name, user) != user:
            text = f"another key uses the name {name!a}: the two are shown with the beginnings of their ids"
            self._ctx.emit(Warned("name", text, user))
