"""Rates with bursts of what others have done here: one table of them, and the tokens that each party has left."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from math import inf
from typing import NamedTuple

from p2pchat.settings import Settings

MOST_LACKING = 1024  # parties are looked through above this number


class Rate(NamedTuple):
    """Tokens that come in a second, and the most that there are at once."""

    a_second: float
    at_once: float


def rates_of(settings: Settings) -> dict[str, Rate]:
    """Return the rate of all that somebody is charged for."""
    of_link = Rate(settings.flood_a_second, settings.flood_burst)
    return {
        "frames": of_link,  # of a link, other than entries and have
        "entries": of_link,  # and new logs, of a member who is no contact: one for so many (mesh/peer_link.py)
        "circuits": Rate(2, 8),  # of a member to one peer: the first pauses between dials are short; a guess
        "dials": Rate(2, 8),  # that fail, of a kind of address; a guess
        "hosts": Rate(1 / max(settings.told_host_pause, 1e-6), 1),  # dials of a host where no key has answered
        # Of a member's users, as programs are told of them; 300: a mesh of 100 users may form. A guess.
        "presence": Rate(settings.events_a_second, 15 * settings.events_a_second),
        # Of an admin as many bytes are taken at once as are kept, so no honest one is ever slowed, and as many again in
        # 20 minutes. More is not even read, and asked for later: it may have smaller ids.
        "statements": Rate(1 / 1200, 1),
        "answers": Rate(1, 16),  # to a link, with all statements: one as it comes up, and for a new admin; a guess
        "contents": Rate(100, 2_000),  # looked up for a link, however often it asks
        "holders": Rate(20, 300),  # events about what unknown peers have, of all of them; a guess
        "strangers": Rate(20, 20),  # new ones of an address (runtime/stranger_limiter.py)
        "own strangers": Rate(500, 500),  # of this machine
        "warnings": Rate(1 / 60, 16),  # of one kind, that others cause; a guess
    }


class WorkLimits:
    """The tokens that each party has left of each kind. They come at its rate.

    Args:
        rates: The rate of each kind.
        clock: Returns the seconds on a monotonic clock.
    """

    def __init__(self, rates: dict[str, Rate], clock: Callable[[], float]) -> None:
        self.rates: dict[str, Rate] = rates
        self._clock = clock
        self._left: dict[tuple[str, Hashable], tuple[float, float]] = {}  # tokens and when, of those who lack some
        self._drop_above = MOST_LACKING

    def take(self, what: str, who: Hashable) -> bool:
        """Take a token if there is one, and return whether there was."""
        if self.left(what, who) < 1:
            return False
        self.charge(what, who)
        return True

    def wait(self, what: str, who: Hashable) -> float:
        """Return the seconds until there is a token, 0 if there is one."""
        return max(0.0, (1 - self.left(what, who)) / self.rates[what].a_second)

    def charge(self, what: str, who: Hashable, count: float = 1, more: int = 0) -> float:
        """Take tokens for something done already, or give some back. Return the seconds until none is missing.

        Args:
            more: So many more tokens the party may have at once.
        """
        if len(self._left) >= self._drop_above:
            self._left = {key: left for key, left in self._left.items() if self.left(*key) < self.rates[key[0]].at_once}
            self._drop_above = max(MOST_LACKING, 2 * len(self._left))  # else each call might look at all of them
        left = self.left(what, who, more) - count
        self._left[what, who] = left, self._clock()
        return max(0.0, -left / self.rates[what].a_second)

    def left(self, what: str, who: Hashable, more: int = 0) -> float:
        """Return the tokens that a party has now; fewer than 0 after a charge of more than it had."""
        a_second, at_once = self.rates[what]
        left, at = self._left.get((what, who), (inf, 0.0))
        return min(left + (self._clock() - at) * a_second, at_once + more)
