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
from p2pchat.core.records import FormerName, KnownUser
from p2pchat.protocol import UserId

MAX_NAMES = 100_000  # of users who never wrote: whoever hosts can make up as many as it likes; a guess: 30 MiB
MAX_FORMER = 64  # names before, of one user: who takes another every day has told enough
OLD_AFTER = 300_000_000  # microseconds: as far as two clocks may be apart (Settings.clock_ahead)
MAX_ABOUT_CHARACTERS = 512  # as many as the text of a status; what somebody tells beyond is cut off


class People:
    """Names by user id.

    Attributes:
        names: What users are called.
        abouts: What they tell of themselves; who tells nothing is missing.
        former: Names they had before, with the clocks of the profiles these are from; perhaps the present one too.
    """

    def __init__(self, ctx: Context, known: Iterable[KnownUser], former: Iterable[FormerName] = ()) -> None:
        self._ctx = ctx
        self.names: dict[UserId, str] = {}
        self.abouts: dict[UserId, str] = {}
        self.former: dict[UserId, dict[str, int]] = {}
        self._named_c: dict[UserId, int] = {}
        self._keys: dict[str, UserId] = {}
        self._warned: set[tuple[UserId, str]] = set()
        for user in known:
            self.names[user.id] = user.name
            self._tell_about(user.id, user.about)
            if user.named_c:  # 0: only its peer told it
                self._named_c[user.id] = user.named_c
            self._keys.setdefault(user.name, user.id)
        for one in former:
            self.former.setdefault(one.user, {})[one.name] = one.c
            self._keys.setdefault(one.name, one.user)

    def profile(self, user: UserId, entry: Entry) -> None:
        """Take a profile entry of the room; one without a proper name changes nothing, of an older one only its name is
        kept, as one the user had before."""
        name = entry.b.get("name") if isinstance(entry.b, dict) else None
        if not isinstance(name, str) or name_fault(name):
            return
        before, before_c = self.names.get(user), self._named_c.get(user, 0)
        if entry.c <= before_c:
            if name != before:
                self._keep_former(user, name, entry.c)
            return
        if before is not None and before_c and before != name:
            self._keep_former(user, before, before_c)
        about = _about(entry.b.get("about"))
        self._named_c[user] = entry.c
        self._ctx.change.users.append(KnownUser(user, name, entry.c, about))
        self._name(user, name, about, old=abs(self._ctx.now.utc - entry.at) > OLD_AFTER)

    def told(self, user: UserId, name: str) -> None:
        """Take the name a peer tells of a user it hosts; a profile entry outweighs it, a bad one is none.

        It is kept: after a restart somebody who is away and never spoke can still be written to by name.
        """
        if user in self._named_c or name_fault(name) or (user not in self.names and len(self.names) >= MAX_NAMES):
            return
        if self.names.get(user) != name:
            self._ctx.change.users.append(KnownUser(user, name, 0))
        self._name(user, name, "", old=False)

    def _keep_former(self, user: UserId, name: str, c: int) -> None:
        former = self.former.setdefault(user, {})
        if c > former.get(name, 0) and (name in former or len(former) < MAX_FORMER):
            former[name] = c
            self._ctx.change.former.append(FormerName(user, name, c))

    def _tell_about(self, user: UserId, about: str) -> None:
        if about:
            self.abouts[user] = about
        else:
            self.abouts.pop(user, None)

    def _name(self, user: UserId, name: str, about: str, *, old: bool) -> None:
        if self.names.get(user) == name and self.abouts.get(user, "") == about:
            return
        self.names[user] = name
        self._tell_about(user, about)
        self._ctx.emit(UserNamed(user, name, about, old))
        if self._keys.setdefault(name, user) != user and (user, name) not in self._warned:
            self._warned.add((user, name))
            text = f"another key uses the name {name!a}: the two are shown with the beginnings of their ids"
            self._ctx.emit(Warned("name", text, user))


def _about(told: object) -> str:
    """Return what is kept of what somebody tells of itself; "" for nothing, and for what is no text."""
    return told[:MAX_ABOUT_CHARACTERS] if isinstance(told, str) and "\0" not in told else ""
