"""What is remembered of a user for the sake of quotas: that limits were lifted, and in an open network who is known.

One short line a user, in `meta`, written with the commit that changes it: `allowed`, `proven`, and for those who were
never met the bytes each peer has brought of them. In a network with a key there are lines of allowed users only.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pchat.core.context import Context
from p2pchat.protocol import PeerId, UserId

PREFIX = "quota:"  # in meta, before the user id
ALLOWED = "allowed"
PROVEN = "proven"
BY_FILE = "file"  # who brought what no peer did


@dataclass(slots=True)
class Account:
    """One user. `charges`: peer (or BY_FILE) -> bytes it brought while the user had proved itself on no link here."""

    allowed: bool = False
    proven: bool = False
    charges: dict[PeerId, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, line: str) -> Account:
        account = cls()
        for word in line.split():
            peer, _, size = word.partition(":")
            if size.isdecimal():
                account.charges[peer] = int(size)
            else:
                account.allowed |= word == ALLOWED
                account.proven |= word == PROVEN
        return account

    def __str__(self) -> str:
        words = [ALLOWED] * self.allowed + [PROVEN] * self.proven
        return " ".join(words + [f"{peer}:{size}" for peer, size in self.charges.items()])


class Accounts:
    """The accounts of all users of whom there is something to remember."""

    def __init__(self, ctx: Context, meta: dict[str, str]) -> None:
        self._ctx = ctx
        lines = ((name, line) for name, line in meta.items() if name.startswith(PREFIX))
        self.by_user = {name.removeprefix(PREFIX): Account.parse(line) for name, line in lines}

    def is_allowed(self, user: UserId) -> bool:
        account = self.by_user.get(user)
        return account is not None and account.allowed

    def allow(self, user: UserId) -> None:
        account = self.of(user)
        account.allowed = True
        self.save(user)

    def keep(self, former: Accounts) -> None:
        """Allow whom another allowed: it may have been said while storage did not work."""
        for user, account in former.by_user.items():
            if account.allowed and not self.is_allowed(user):
                self.allow(user)

    def of(self, user: UserId) -> Account:
        """Return the account of a user, a new one if need be."""
        return self.by_user.setdefault(user, Account())

    def save(self, user: UserId) -> None:
        """Have it stored with the change of this step."""
        self._ctx.change.meta[PREFIX + user] = str(self.by_user[user])
