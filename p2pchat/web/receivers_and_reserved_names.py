"""Receivers of messages of accounts: the conversation that an address means, and names reserved for it.

A name that nobody has is reserved when an account writes to it: Accounts hosts a user of this name, for whom messages
wait until somebody registers it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from p2pchat import AmbiguousName, Conversation, TCPPeer, UnknownName, User
from p2pchat.web import WebSettings
from p2pchat.web.account_records import DELETED, AccountNameTaken, valid
from p2pchat.web.error_responses import WebError
from p2pchat.web.rate_limit import RateLimiter, TooMany

if TYPE_CHECKING:
    from p2pchat.web.accounts import Account, Accounts

MAX_SUGGESTED = 3  # names in a "did you mean"


class Receivers:
    """The receivers that the accounts of one gateway name."""

    def __init__(self, peer: TCPPeer, accounts: Accounts) -> None:
        self._people = peer.people
        self._accounts = accounts

    def find(self, account: Account, to: str) -> Conversation:
        """Return the conversation of an address: `room`, `bob`, `bob#K7QF2M3P`, `#ops`, an id.

        Of several users with one name, an account that has it now outweighs former ones. Raises UnknownName,
        AmbiguousName.
        """
        try:
            return account.user.find(to)
        except (UnknownName, AmbiguousName) as error:
            other = self._accounts.find(to.strip().removeprefix("@"))
            if isinstance(error, AmbiguousName):
                if other is None:
                    raise
                alike = self._people.alike(other.name) - {other.key}
                if not all(map(self._accounts.former, alike)):
                    raise
            elif other is None:
                raise UnknownName(to) from None
            return account.user.find(other.user.me)

    async def resolve(self, account: Account, to: str) -> Conversation:
        """As find, for writing: a free name is reserved, and messages to it wait until it is registered.

        Raises UnknownName, also for an account that was deleted, AmbiguousName, and what Accounts.reserve raises.
        """
        try:
            found = self.find(account, to)
            self.check(found)
        except (UnknownName, AmbiguousName, WebError) as error:
            problem = error
        else:
            return found
        try:
            name = valid(to.strip().removeprefix("@"))
            return account.user.find((await self._accounts.reserve(name, account)).user.me)
        except AccountNameTaken:
            if isinstance(problem, UnknownName):
                raise
        except ValueError:
            if isinstance(problem, UnknownName):
                problem = UnknownName(to)
        raise problem

    def check(self, to: Conversation) -> None:
        """Raise WebError if a message there would reach nobody: the account was deleted, or the name released."""
        former = "" if to.user is None else self._accounts.former(to.user.key)
        if to.user is None or not former:
            return
        label = to.user.label
        if former == DELETED:
            raise WebError(404, "unknown_name", f"{label} is gone: this account was deleted")
        raise WebError(404, "unknown_name", f"{label} is gone: nobody has registered this name; write to it anew")

    def reservation(self, by: Account, to: Conversation) -> dict[str, Any]:
        """Return what the answer to a direct message says of a reserved name: `reserved` and `text`; {} for others."""
        other = to.user and self._accounts.of(to.user.key)
        if other and other.reserved:
            self._accounts.use(other)
        text = to.user and self._reserved_text(by, to.user, "the message waits until someone registers this name")
        return {"reserved": True, "text": text} if text else {}

    def reserved_members(self, by: Account, users: Iterable[User]) -> dict[str, Any]:
        """Return what the answer says of reserved names among new members of a group: as reservation()."""
        texts = [self._reserved_text(by, user, "a member as soon as someone registers this name") for user in users]
        return {"reserved": True, "text": "\n".join(filter(None, texts))} if any(texts) else {}

    def _reserved_text(self, by: Account, user: User, outcome: str) -> str:
        """Return a sentence about a reserved name, "" for others."""
        other = self._accounts.of(user.key)
        if other is None or not other.reserved:
            return ""
        people = self._people
        state = len(people.known), self._accounts.reserved
        if other.near[0] != state:  # all names are looked through, so not for each message
            other.near = state, people.near(other.name)
        near = [user.label for user in other.near[1] if user.key != by.key and not self._accounts.former(user.key)]
        hint = f"; did you mean {' or '.join(near[:MAX_SUGGESTED])}?" if near else ""
        return f"nobody is called {other.name} yet: {outcome}{hint}"


class Reservations:
    """The reserved names, oldest first, with the accounts that wrote to them first."""

    def __init__(self, settings: WebSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._rates = RateLimiter(settings.reservations, clock)
        self._by: dict[str, str] = {}  # keys of accounts, by the key of the name's user

    def __len__(self) -> int:
        return len(self._by)

    def add(self, key: str, by: str) -> None:
        """Add a name of which an account wrote first; `by` is "" for none."""
        self._by[key] = by

    def drop(self, key: str) -> None:
        """Remove a name, if it is reserved."""
        self._by.pop(key, None)

    def check_rate(self, by: str) -> None:
        """Count a new name that an account writes to; raise TooMany if these come too fast."""
        if wait := self._rates.wait(by):
            raise TooMany(wait, "you have written to too many names that nobody has")

    def surplus(self, by: str) -> str | None:
        """Return the key of the name that gives way to a further one of this account; None while there is room.

        An account that has as many as it may loses its oldest. When the table is full, the account that has most loses
        its oldest. So an account that writes to many names loses its own, and not those of others.
        """
        counts = Counter(self._by.values())
        counts[by] += 1
        if by and counts[by] > self._settings.max_reserved_by_account:
            holder = by
        elif len(self._by) >= self._settings.max_reserved:
            holder = max(counts, key=lambda one: counts[one])
        else:
            return None
        return next(key for key, one in self._by.items() if one == holder)
