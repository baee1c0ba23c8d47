"""Who tells others what they have read, and hears it of them: everybody, but for those who chose otherwise.

It is one choice for both directions, in general and for single others, and kept by storage, so that nothing slips out
between a start and the moment a program says it again.
"""

from __future__ import annotations

from collections.abc import Mapping

from p2pchat.protocol import UserId

RECEIPTS_CHOSEN = "receipts_chosen"  # in meta: "user other on|off" with blanks between, other "-" for all, by commas
_ALL = "-"


class Consent:
    """What hosted users chose."""

    def __init__(self, meta: Mapping[str, str]) -> None:
        self._chosen: dict[tuple[UserId, str], bool] = {}
        for item in filter(None, meta.get(RECEIPTS_CHOSEN, "").split(",")):
            user, other, on = item.split(" ")
            self._chosen[user, other] = on == "on"

    def choose(self, user: UserId, on: bool | None, other: UserId) -> bool:
        """Take a choice, `other` "" for all who have none of their own, None to end it; False when it was so."""
        key = (user, other or _ALL)
        if self._chosen.get(key) == on:
            return False
        if on is None:
            del self._chosen[key]
        else:
            self._chosen[key] = on
        return True

    def wants(self, user: UserId, other: UserId) -> bool:
        """Say whether a hosted user and another hear of each other's reading, as far as the first is asked."""
        found = self._chosen.get((user, other))
        return self.general(user) if found is None else found

    def general(self, user: UserId) -> bool:
        """Say what holds for everyone without a choice of their own."""
        return self._chosen.get((user, _ALL), True)

    def exceptions(self, user: UserId) -> dict[UserId, bool]:
        """Return the choices for single others."""
        return {other: on for (one, other), on in self._chosen.items() if one == user and other != _ALL}

    def keep(self, former: Consent) -> None:
        """Take over what was chosen before storage failed."""
        self._chosen = former._chosen

    @property
    def text(self) -> str:
        """What is kept."""
        return ",".join(f"{user} {other} {'on' if on else 'off'}" for (user, other), on in self._chosen.items())
