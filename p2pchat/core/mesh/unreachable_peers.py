"""Unreachable peers: those with which a linked peer has a link, and this one has none.

Each peer says with whom it is linked (peer_exchange.py). Whoever is named there for a while and is not linked here is
not offline: the two cannot reach each other. What both write to the room goes by the peer between them.
"""

from __future__ import annotations

from collections.abc import Mapping

from p2pchat.core.mesh.dialer import Dialer
from p2pchat.core.mesh.peer_link import MeshListener, PeerLink
from p2pchat.core.node_context import NodeContext, Timer
from p2pchat.protocol import PeerId

LOOK_AFTER = 2.5  # seconds after a change; a peer is unreachable that two looks find: a dial takes a moment. A guess


class UnreachablePeers:
    """The peers that only others reach.

    Args:
        up, by_peer: The tables of Links.
        dialer: Knows with whom no link is wanted.
        listener: Told of such a peer and a linked one that reaches it, "" when none does any more.
    """

    def __init__(
        self, ctx: NodeContext, up: Mapping[int, PeerLink], by_peer: Mapping[PeerId, PeerLink],
        dialer: Dialer, listener: MeshListener,
    ) -> None:  # fmt: skip
        self._ctx = ctx
        self._up = up
        self._by_peer = by_peer
        self._dialer = dialer
        self._listener = listener
        self._found: dict[PeerId, PeerId] = {}  # at the last look, each with a peer that reaches it
        self._reported: dict[PeerId, PeerId] = {}
        self._timer: Timer | None = None

    def on_changed(self) -> None:
        """Look soon: a link came up or ended, here or at a linked peer."""
        if self._timer is None:
            self._timer = self._ctx.after(LOOK_AFTER + self._dialer.patience, self._look)

    def _look(self) -> None:
        self._timer = None
        former, found = self._found, dict[PeerId, PeerId]()
        for link in self._up.values():
            for peer in link.linked.keys() - self._by_peer.keys():
                if found.get(peer) != self._reported.get(peer, ""):
                    found[peer] = link.peer
        self._found = {peer: by for peer, by in found.items() if not self._dialer.is_barred(peer)}
        for peer in self._reported.keys() - self._found.keys():
            del self._reported[peer]
            self._listener.report_unreachable(peer, "")
        for peer, by in self._found.items():
            if peer in former and self._reported.get(peer) != by:
                self._reported[peer] = by
                self._listener.report_unreachable(peer, by)
        if self._found.keys() - former.keys():
            self.on_changed()
