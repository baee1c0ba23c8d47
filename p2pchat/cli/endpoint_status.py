"""Connection status of endpoints given on the command line, in an invite or by /connect.

Each endpoint gets one line when its status is known, and another when that changes. The line says what is wrong and,
the first time, what to do about it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from p2pchat import (
    Failed,
    Link,
    MemberChange,
    P2PChatError,
    TCPPeer,
    Warned,
    parse_invite,
)
from p2pchat.addresses import LOOPBACK, is_loopback
from p2pchat.cli.control_server import ControlServer
from p2pchat.cli.process import Shutdown, freeze_started
from p2pchat.cli.profiles import PeerOptions, make_peer, profile_words
from p2pchat.cli.standard_input import can_ask
from p2pchat.commands.endpoints import ANOTHER_ADDRESS, EVERYWHERE
from p2pchat.commands.event_text import exclusion_text
from p2pchat.commands.exit_codes import print_error, print_notice
from p2pchat.commands.invite_screen import endpoints_of, invite_screen, names_loopback
from p2pchat.commands.last_start import LastStart
from p2pchat.commands.shell_command import command, program
from p2pchat.safe_text import quote_name, quote_names, safe_line
from p2pchat.threads import ends_within

if TYPE_CHECKING:
    from p2pchat import People

ALONE_AFTER = 10.0  # seconds in which a known peer answers, if any does: links came after 4 s, or more under load
FAULTS_TOLD = 3  # ends of a link for one reason
SHORT = timedelta(minutes=1)  # twice the silence after which a link ends
SWALLOWED = (
    "it comes up, and then nothing arrives, as where a router or VPN between lets only small packets pass: try a "
    "smaller MTU at both ends, such as 1280"
)
MAX_LISTED = 3  # of the peers that do not
REFUSED_GRACE = 1.0  # seconds in which a peer from the address book may still be found when all endpoints refuse

_PROBLEMS = {  # by the `code` of a link event
    "nobody": "nobody listens there",
    "no_answer": "does not answer",
    "no_name": "cannot be found",
    "no_way": "cannot be reached from this computer",
    "no_peer": "is not a p2pchat peer",
    "network": "it belongs to another network",
    "version": "it speaks another version of p2pchat",
    "self": "is this peer itself",
    "busy": "it has no free link",
    "full": "this peer has no free link",
    "blocked": "its user is blocked here",
    "member": "does not admit this peer",
    "maker": "is not the peer that admits with this invite",
    "outsider": "is no member of this network",
}
_PREDICATES = frozenset(
    ("no_answer", "no_name", "no_way", "no_peer", "self", "member", "maker", "outsider")
)  # others follow "refused:"
_NOT_FINAL = frozenset(("busy", "full", "maker"))  # a place may become free, and it told others that may have one
_ENDED = {  # why an invite admits nobody, and never will
    "used": "this invite was used up: ask for a new one",
    "late": "this invite has ended: ask for a new one",
    "revoked": "this invite admits nobody any more: ask for a new one",
    "invite": "this invite was changed on the way, or its maker invites nobody now: copy it again or ask for a new one",
}
_ADVICE = {  # {port} is the endpoint's, {own} this peer's, {program} how it is typed
    "nobody": "is it running, and is {port} its port?",
    "no_answer": "is the address right, and does a firewall there let port {port} in?",
    "no_name": "a typo?",
    "no_way": "are both in one local network, or is the address one that others can reach?",
    "no_peer": "wrong port?",
    "network": "ask there for an invite, which `p2pchat invite` shows, then run {program} {own} --invite -",
    "version": "update the older of the two",
    "self": "leave it out, or name another peer",
    "busy": "still trying",
    "full": "still trying",
    "blocked": "/unblock NAME lifts that",
    "member": "ask there for an invite, which `p2pchat invite` shows, then run {program} {own} --invite -",
    "outsider": "it needs an invite, or was expelled: `p2pchat members` shows it, `p2pchat pardon NAME` lifts that",
}
_INVITE_ADVICE = {
    "network": "its key was changed: ask there for a new invite, which `p2pchat invite` shows",
    "identity": "another peer than the inviting one answers there: ask for a new invite, which `p2pchat invite` shows",
}


def announcement(peer: TCPPeer) -> str:
    """Return the line that says where a peer listens, in which named network, and where its data are."""
    first = peer.listening
    where = f"listens on {first.host}:{first.port}" if first.port else "listens on no port"
    data = f", data in {safe_line(first.data)}" if first.data else ""
    network = f", in the network {safe_line(first.network)}" if first.network else ""
    return f"-- {quote_name(peer.me.label)} {where}{network}{data}"


def report_reach(peer: TCPPeer, options: PeerOptions, *, terminal: bool = False) -> None:
    """Say whom a start shuts out that the last one did not, and remember how others reach the peer now.

    Args:
        terminal: A person has it open.
    """
    if options.is_temporary:
        return
    last, listens = LastStart.load(peer.data), not options.no_listen
    now = LastStart(
        options.host if options.host_chosen else "",
        options.advertise,
        options.discover,
        listens,
        last.invite,
        options.joined,
        peer.port,
        terminal or last.terminal,
        last.gateway,
    )
    if last.is_open and not now.is_open:
        host = last.host if last.host and not is_loopback(last.host) else EVERYWHERE
        print_notice(f"-- only this computer can connect now; last time others could: --host {host}")
    now.save(peer.data)


async def print_way_in(peer: TCPPeer, options: PeerOptions) -> bool:
    """Say how people on other machines join a peer that listens for them. Return whether it showed an invite.

    Nobody asked for an invite. So a person reads the same at each start, until somebody came by it, and a log none.
    """
    last = LastStart.load(peer.data)
    if not (options.host_chosen or last.is_open):
        print_notice(f"-- other machines can connect here now; start with --host {LOOPBACK} to end it")
    if not (options.host_chosen and peer.people.decides):
        return False
    if not can_ask():
        invite = command("invite", *profile_words(Path(peer.listening.data)))
        print_notice(f"-- for another machine, {invite} makes an invite")
        return False
    with suppress(P2PChatError):  # nobody can dial it, or it was closed meanwhile
        invite = await peer.make_invite(again=last.invite)
        now = LastStart.load(peer.data)  # a gateway may have noted meanwhile that it ran
        replace(now, invite=parse_invite(invite).invitation.id).save(peer.data)
        only_here = names_loopback(invite, peer.address, peer.port)
        print_notice(invite_screen(invite, only_here=only_here))
        return True
    return False


class EndpointStatus:
    """The status of all endpoints the user named.

    Args:
        endpoints: Of the command line.
        invited: Of the invite: all of one peer, so one that answers answers for all.
        port: The own port, for commands to copy.
        people: Those of the peer, who know whether it is a member.
        tried: Returns the labels of all who are dialled, also where nobody here ever reached them.
    Attributes:
        all_known: Set when each of these has answered or failed once; endpoints of /connect do not count.
        refused: Set when all of these have refused us for good, or the invite admits nobody.
        not_admitted: Why the invite admits nobody, as an error; None while it may.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        invited: Sequence[str] = (),
        *,
        port: int = 0,
        people: People | None = None,
        tried: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._states: dict[str, str] = dict.fromkeys([*endpoints, *invited], "")
        self._initial = frozenset(self._states)
        self._invited = frozenset(invited)
        self._port = port
        self._advised: set[tuple[str, str]] = set()  # (endpoint, code): advice is given once
        self._left: set[str] = set()  # peers that said goodbye: that nobody answers there now is no news
        self._remembered: dict[str, str] = {}  # problems of endpoints from the address book
        self._faults: Counter[tuple[str, str]] = Counter()  # peers, and why links with them ended
        self.all_known: asyncio.Event = asyncio.Event()
        self._up_at: dict[str, datetime] = {}  # when links last came up
        self._linked = asyncio.Event()
        self.refused: asyncio.Event = asyncio.Event()
        self.not_admitted: Failed | None = None
        self._people = people
        self._tried = tried
        self._told_expelled = False
        if not self._states:
            self.all_known.set()

    @classmethod
    def of_start(cls, peer: TCPPeer, options: PeerOptions, invite: str | None) -> Self:
        """Return the status of the endpoints that a start names. `invite` is the text of its invite, if any."""
        invited = endpoints_of(invite or "")

        def tried() -> list[str]:
            return [
                user.label
                for user in peer.users()
                if not (user.is_me or user.expelled or user.blocked or peer.people.is_account(user))
            ]

        return cls(options.endpoints, invited, port=options.port, people=peer.people, tried=tried)

    async def watch(
        self, peer: TCPPeer, show: Callable[[Any], Awaitable[None]] | None = None, kinds: Sequence[type] = ()
    ) -> None:
        """Report what the events of a peer say, and what it warns of, until it ends.

        Args:
            show: Gets each event after that.
            kinds: The classes of these events; () for all.
        """
        async for event in peer.events(*kinds, consumer=None):
            if isinstance(event, Link):
                self.on_link_event(event)
            elif isinstance(event, MemberChange):
                self.on_member_event(event)
            elif isinstance(event, Warned):
                print_error(f"warning: {event.text}")
            if show is not None:
                await show(event)

    def begin(self) -> None:
        """Say who expelled the started peer; of what comes later its event says so."""
        self._tell_expelled()
        self._told_expelled = True

    @property
    def _is_joining(self) -> bool:
        """Whether this peer has an invite, and nobody has admitted it."""
        return self._people is not None and self._people.is_joining

    def _tell_expelled(self) -> bool:
        """Return whether this peer was expelled; say so once."""
        fate = "nothing is sent or taken; it asks again every hour"
        out = "" if self._people is None else exclusion_text(self._people, fate)
        if out and not self._told_expelled:
            self._told_expelled = True
            print_notice(f"-- {out}")
        return bool(out)

    def on_member_event(self, event: MemberChange, *, shown: bool = False) -> None:
        """Report that this peer was expelled; not by whom if the event is `shown`."""
        if event.change != "expelled" or not event.user.is_me:
            return
        if shown and self._people is not None and self._people.shut_out_at is None:
            print_notice("-- nothing is sent or taken any more; this peer asks again every hour")
        else:
            self._told_expelled = False
            self._tell_expelled()

    def add(self, endpoint: str) -> None:
        """Report on this endpoint from now on: /connect dials it next."""
        self._states[endpoint] = ""
        self._told_expelled = False  # if it is why nothing comes of this, that is said again
        print_notice(f"-- connecting to {safe_line(endpoint)}")

    def on_link_event(self, event: Link) -> None:
        """Report what a Link event says, if it is news."""
        endpoint, state, reason, code = event.endpoint, event.state, event.reason, event.code
        if state == "up":
            self._linked.set()
            self._left.discard(event.peer)
            self._up_at[event.peer] = event.at
        elif state == "down" and reason == "left":
            self._left.add(event.peer)
        is_swallowed = reason == "timeout" and event.at - self._up_at.get(event.peer, event.at - SHORT) < SHORT
        if state == "down" and (": " in reason or is_swallowed):  # or a side said what the other one did wrong
            self._on_fault(event)
        if code in _ENDED and self._is_joining:
            self._end_joining(code)
            return
        if code == "member" and self._tell_expelled():
            self.all_known.set()
            return
        former = self._states.get(endpoint)
        if former is None and state in ("refused", "trying"):
            self._remembered[endpoint] = _PROBLEMS.get(code) or safe_line(reason)
        now = code if state == "refused" and code in _NOT_FINAL else state
        if former is None or former == now or state not in ("up", "refused", "trying"):
            return
        if state == "trying" and former == "up" and event.peer in self._left:
            return
        self._states[endpoint] = now
        if state == "up" and endpoint in self._invited:
            self._states.update(dict.fromkeys(self._invited, "up"))
        print_notice(f"-- {safe_line(endpoint)} {self._describe(endpoint, state, reason, code)}")
        initial = {self._states[one] for one in self._initial}
        if all(initial):
            self.all_known.set()
        if initial == {"refused"}:
            self.refused.set()

    def _on_fault(self, event: Link) -> None:
        """Say once of a link that ends again and again for one reason why it does."""
        fault = event.peer, event.reason.partition(": ")[2] or SWALLOWED
        self._faults[fault] += 1
        if self._faults[fault] == FAULTS_TOLD:
            where = safe_line(event.endpoint or event.address or event.to_dict()["peer_id"][:8])
            print_notice(f"-- the link with {where} ends again and again: {safe_line(fault[1])}")

    def _end_joining(self, code: str) -> None:
        """Take that the maker of the invite admits nobody with it."""
        if self.not_admitted is None:
            self.not_admitted = Failed(code=code, text=_ENDED[code])
        self.all_known.set()
        self.refused.set()

    @contextmanager
    def watching(self, shutdown: Shutdown) -> Iterator[None]:
        """Report when nobody answers or admits us, and request the shutdown when everyone refuses us, inside `with`."""
        refusal = asyncio.create_task(self._watch_refusal(shutdown))
        alone = asyncio.get_running_loop().call_later(ALONE_AFTER, self._report_alone)
        try:
            yield
        finally:
            refusal.cancel()
            alone.cancel()

    async def _watch_refusal(self, shutdown: Shutdown) -> None:
        """Request the shutdown when every given endpoint refuses us and no other peer is found."""
        await self.refused.wait()
        if self.not_admitted is not None or not await self.linked_within(REFUSED_GRACE):
            shutdown.request("refused")

    def _report_alone(self) -> None:
        """Report that nobody has admitted this peer, and that none of the previously known peers can be reached."""
        if self._is_joining and not self._invited:
            start = command(self._port or "PORT", "--invite", "-")
            print_notice(
                f"-- nobody has admitted this peer yet; if nobody does, start it with its invite again: {start}"
            )
        tried = self._tried()
        if self._linked.is_set() or not (self._remembered or tried):
            return
        some = [f"{safe_line(endpoint)} ({problem})" for endpoint, problem in self._remembered.items()]
        more = f" and {len(some) - MAX_LISTED} more" if len(some) > MAX_LISTED else ""
        line = "-- no known peer answers yet"
        if some:
            line += f": {', '.join(some[:MAX_LISTED])}{more}"
        print_notice(f"{line}; still trying {quote_names(tried)}".rstrip())
        print_notice(f"-- one may have another address: {ANOTHER_ADDRESS}")

    def _describe(self, endpoint: str, state: str, reason: str, code: str) -> str:
        if state == "up":
            return "reached"
        text = _PROBLEMS.get(code) or safe_line(reason)
        if code not in _PREDICATES:
            status = "refused" if state == "refused" else "does not answer"
            text = f"{status}: {text}" if text else status
        advice = self._advice(endpoint, code)
        text += f" ({advice})" if advice else ""
        if state == "trying" and endpoint in self._invited and self._is_joining:
            return f"{text}; waiting for the peer at {safe_line(endpoint)}, which admits with this invite"
        if code == "maker":
            where = next(iter(self._invited), "")
            return f"{text}; waiting for the peer" + (f" at {safe_line(where)}" if where else " that made it")
        return text + ("; still trying" if state == "trying" else "")

    def _advice(self, endpoint: str, code: str) -> str:
        if (endpoint, code) in self._advised:
            return ""
        self._advised.add((endpoint, code))
        if endpoint in self._invited and code in _INVITE_ADVICE:
            return _INVITE_ADVICE[code]
        return _ADVICE.get(code, "").format(port=endpoint.rpartition(":")[2], own=self._port or 8080, program=program())

    @property
    def dials(self) -> bool:
        """True if this start dials any endpoint."""
        return bool(self._initial)

    def stop_waiting(self) -> None:
        """End all waits: the peer stops, and what was piped in is to be saved."""
        self.all_known.set()
        self._linked.set()

    async def linked_within(self, timeout: float) -> bool:
        """Return whether there was a link to any peer, or is one in time."""
        return await ends_within(timeout, self._linked.wait())


# ---- the peer of a program


@asynccontextmanager
async def running_peer(
    options: PeerOptions, invite: str | None, shutdown: Shutdown, why: Callable[[], str],
    show: Callable[[Any], Awaitable[None]] | None = None,
) -> AsyncIterator[tuple[TCPPeer, ControlServer, EndpointStatus]]:  # fmt: skip
    """Run a peer inside `with`, which says where it listens and takes commands.

    Args:
        why: Returns why it ended, for those who sent it commands.
        show: As EndpointStatus.watch.
    """
    peer = make_peer(options, invite)
    endpoints = EndpointStatus.of_start(peer, options, invite)
    watching = asyncio.create_task(endpoints.watch(peer, show))
    await asyncio.sleep(0)  # it reads events from before the start
    try:
        await peer.start(timeout=0)
        freeze_started()
        control = await ControlServer(peer).start()
        print_notice(announcement(peer))
        report_reach(peer, options)
        endpoints.begin()
        try:
            with endpoints.watching(shutdown):
                yield peer, control, endpoints
        finally:
            await control.shut_down(why())
    finally:
        await peer.aclose()
        await watching
