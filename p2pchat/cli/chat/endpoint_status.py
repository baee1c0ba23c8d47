"""What became of the endpoints somebody named, on the command line, in an invite or by /connect: who answered, who
refused, who is still called.

Each gets one line when it is known, and another when it changes. A line says what is wrong in plain words, and the
first time also what to do about it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from p2pchat.commands.endpoints import program
from p2pchat.commands.errors import print_notice
from p2pchat.safe_text import safe_line

ALONE_AFTER = 3.0  # seconds in which somebody known answers, where anybody does
MAX_LISTED = 3  # of those who do not

_PROBLEMS = {  # by the `code` of a link event: what it means
    "nobody": "nobody listens there",
    "no_answer": "no answer",
    "no_name": "there is no machine of that name",
    "no_way": "there is no way there from this machine",
    "no_peer": "what answers there is no p2pchat peer",
    "network": "it belongs to another network",
    "version": "it speaks another version of p2pchat",
    "self": "that is this peer itself",
    "busy": "it has as many links as it takes",
    "full": "this peer has as many links as it takes",
}
_ADVICE = {  # and what to do; {port} is the endpoint's, {own} this peer's, {program} how it is typed
    "nobody": "is it running, and is {port} its port?",
    "no_answer": "is the address right, and does a firewall there let port {port} in?",
    "no_name": "a typing error?",
    "no_way": "are both in one local network, or is the address one that others can reach?",
    "no_peer": "is {port} its port?",
    "network": "ask there for an invite, which `p2pchat invite` shows, then run {program} {own} --invite -",
    "version": "update the older of the two",
    "self": "leave it out, or name another one",
    "busy": "it is tried on",
    "full": "it is tried on",
}
_INVITE_ADVICE = {
    "network": "its key was changed: ask there for a new invite, which `p2pchat invite` shows",
    "identity": "another peer than the inviting one answers there: ask for a new invite, which `p2pchat invite` shows",
}


class EndpointStatus:
    """What became of the endpoints on the command line and in the invite.

    Args:
        endpoints: Of the command line.
        invited: Those of the invite: all of one peer, so that one that answers answers for all.
        port: The own one, for commands to copy.
    Attributes:
        refused: Set when every one of them has refused us; those of /connect do not count.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        invited: Sequence[str] = (),
        *,
        port: int = 0,
        notify: Callable[[str], None] = print_notice,
    ) -> None:
        self._states: dict[str, str] = dict.fromkeys([*endpoints, *invited], "")
        self._first = frozenset(self._states)
        self._invited = frozenset(invited)
        self._port = port
        self._notify = notify
        self._advised: set[tuple[str, str]] = set()  # what was said once of an endpoint is not said again
        self._of_the_book: dict[str, str] = {}  # endpoints nobody named in this run, and what is wrong there
        self._known = asyncio.Event()
        self._linked = asyncio.Event()
        self.refused = asyncio.Event()
        if not self._states:
            self._known.set()

    def call(self, endpoint: str) -> None:
        """Somebody wants this one called now: what becomes of it is told from here on."""
        self._states[endpoint] = ""

    def heard(self, endpoint: str, state: str, reason: str, code: str = "") -> None:
        """Take what a link event says."""
        if state == "up":
            self._linked.set()
        former = self._states.get(endpoint)
        if former is None and state in ("refused", "trying"):
            self._of_the_book[endpoint] = _PROBLEMS.get(code) or safe_line(reason)
        if former is None or former == state or state not in ("up", "refused", "trying"):
            return
        self._states[endpoint] = state
        if state == "up" and endpoint in self._invited:
            self._states.update(dict.fromkeys(self._invited, "up"))
        self._notify(f"-- {safe_line(endpoint)} {self._said(endpoint, state, reason, code)}")
        first = {self._states[one] for one in self._first}
        if all(first):
            self._known.set()
        if first == {"refused"}:
            self.refused.set()

    def tell_alone(self) -> None:
        """Say that nobody answers of those who are known from before, where nobody does."""
        if self._linked.is_set() or not self._of_the_book:
            return
        some = [f"{safe_line(endpoint)} ({wrong})" for endpoint, wrong in self._of_the_book.items()]
        more = f" and {len(some) - MAX_LISTED} more" if len(some) > MAX_LISTED else ""
        self._notify(f"-- nobody you know answers yet: {', '.join(some[:MAX_LISTED])}{more}; trying on")

    def _said(self, endpoint: str, state: str, reason: str, code: str) -> str:
        if state == "up":
            return "reached"
        wrong = _PROBLEMS.get(code) or safe_line(reason)
        to_do = self._to_do(endpoint, code)
        text = f"{wrong} ({to_do})" if wrong and to_do else wrong or to_do
        said = "refused" if state == "refused" else "does not answer"
        return (f"{said}: {text}" if text else said) + ("; trying on" if state == "trying" else "")

    def _to_do(self, endpoint: str, code: str) -> str:
        if (endpoint, code) in self._advised:
            return ""
        self._advised.add((endpoint, code))
        if endpoint in self._invited and code in _INVITE_ADVICE:
            return _INVITE_ADVICE[code]
        return _ADVICE.get(code, "").format(port=endpoint.rpartition(":")[2], own=self._port or 8080, program=program())

    @property
    def any(self) -> bool:
        """Whether anybody is called at all."""
        return bool(self._first)

    @property
    def known(self) -> bool:
        """Whether each endpoint has answered or failed once."""
        return self._known.is_set()

    async def answered(self, timeout: float) -> None:
        """Wait until each endpoint has answered or failed once, at most so long."""
        await _wait_within(self._known, timeout)

    async def linked_within(self, timeout: float) -> bool:
        """Whether there was a link to anybody, or is one in time."""
        return await _wait_within(self._linked, timeout)


async def _wait_within(event: asyncio.Event, timeout: float) -> bool:
    if event.is_set():
        return True
    try:
        await asyncio.wait_for(event.wait(), timeout)
    except TimeoutError:
        return False
    return True
