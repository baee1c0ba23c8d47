"""Hole punching: two members whose routers let nobody in open a direct way (Ford, Srisuresh, Kegel:
"Peer-to-Peer Communication Across Network Address Translators", 2005, section 4).

    R -> A    peers   seen          at the begin of a link: where R sees the port from which A dialled it
    A <-> B   punch   at            over their carried link: A asks, B answers, and A learns how long that takes
    A -> B    punch                 now: B dials at once, A when that has arrived, each from the port of its link to R

A router that keeps the port for all whom it is dialled from lets answers in, and here each dial is the answer to the
other one. Where routers do not, the link stays carried. The exchange is that of libp2p (DCUtR).
"""

from __future__ import annotations

from collections.abc import Mapping

from p2pchat.addresses import is_address, is_shareable, split_endpoint
from p2pchat.core.effects import DialBeside
from p2pchat.core.mesh.dialer import Dialer
from p2pchat.core.mesh.election import is_decider
from p2pchat.core.mesh.peer_exchange import PeerExchange
from p2pchat.core.mesh.peer_link import PeerLink
from p2pchat.core.node_context import NodeContext
from p2pchat.protocol import Punch

ASKED_AFTER = 0.5  # seconds after a carried link came up: addresses that are known are dialled before. A guess


class HolePuncher:
    """The attempts of one node.

    Args:
        up: The links that are up.
    """

    def __init__(self, ctx: NodeContext, up: Mapping[int, PeerLink], dialer: Dialer, exchange: PeerExchange) -> None:
        self._ctx = ctx
        self._up = up
        self._dialer = dialer
        self._exchange = exchange

    def on_link_up(self, link: PeerLink) -> None:
        """Ask the other end of a carried link soon. One of the two asks: the decider, which so is the TLS client."""
        if link.carrier and is_decider(self._ctx.me, link.peer):
            self._ctx.after(ASKED_AFTER, lambda: self._ask(link))

    def _ask(self, link: PeerLink) -> None:
        """Ask, and again after a long time: somebody may have another router by then."""
        seen = self._seen(link)
        if seen:
            link.asked_at = self._ctx.now.mono
            self._ctx.send(Punch(seen), [link.id])
        if link.up:
            pause = self._ctx.settings.redial_never_reached_most
            self._ctx.after(pause * (1.0 + self._ctx.random()), lambda: self._ask(link))

    def on_frame(self, link: PeerLink, frame: Punch) -> None:
        """Take what the other end of a carried link asks, answers, or says."""
        asked_at, link.asked_at = link.asked_at, None
        dials_at, link.dials_at = link.dials_at, ""
        at = frame.at if self._is_fit(link, frame.at) else ""
        if asked_at is not None:
            dial = self._dialer.dial_beside(link.peer, at)
            if dial:
                self._ctx.send(Punch(), [link.id])
                arrives = (self._ctx.now.mono - asked_at) / 2
                self._ctx.after(arrives, lambda: self._ctx.emit(DialBeside(dial, link.through, at, serve=False)))
        elif frame.at and not is_decider(self._ctx.me, link.peer):  # to that one, a late answer
            link.dials_at = at
            self._ctx.send(Punch(self._seen(link) if at else ""), [link.id])
        elif dial := self._dialer.dial_beside(link.peer, dials_at):
            self._ctx.emit(DialBeside(dial, link.through, dials_at, serve=True))

    def _seen(self, link: PeerLink) -> str:
        """Return where the carrier of a link sees this peer, "" if that is unknown or the link has ended."""
        carrier = self._up.get(link.through)
        return carrier.seen if carrier is not None and link.up else ""

    def _is_fit(self, link: PeerLink, at: str) -> bool:
        """Return whether this peer may dial there, from where its carrier sees it."""
        seen = self._seen(link)
        if not (seen and is_shareable(at, from_loopback=False, settings=self._ctx.settings)):
            return False
        host, carrier = split_endpoint(at)[0], self._up[link.through]
        is_of_one_kind = (":" in host) == (":" in split_endpoint(seen)[0])
        return is_of_one_kind and is_address(host) and self._exchange.is_within_reach(at, carrier.host)
