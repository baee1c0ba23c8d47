"""Separations: when this gateway was not linked with other peers, each of which may be a gateway of the same users.

While two gateways are linked, each has within seconds what the other has. What one of them showed while they were
apart, a client of the other may lack, however long that was before the last message it has.
"""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime, timedelta

from p2pchat import Link, TCPPeer

MAX_PEERS = 1024  # remembered that are not linked now; those that came first are forgotten first
MAX_OF_PEER = 32  # separations remembered of one peer; a guess: some 100 bytes each
NEVER_ENDED = datetime.max.replace(tzinfo=UTC)
Separation = tuple[datetime, datetime]  # from, to


class Separations:
    """When which peers were not linked, since start() was called.

    Args:
        lasting: How long after the end of a separation two peers may still lack something of each other.
    """

    def __init__(self, peer: TCPPeer, lasting: timedelta) -> None:
        self._peer = peer
        self._lasting = lasting
        self._began: datetime | None = None
        self._of: dict[str, deque[Separation]] = {}  # by the beginning of the peer's id, oldest first

    def start(self) -> None:
        """Begin with the peers that are linked now."""
        self._began = datetime.now(UTC)
        self._of = {name_of(peer_id): deque(maxlen=MAX_OF_PEER) for peer_id in self._peer.links()}

    def on_link(self, event: Link) -> None:
        """Note that a link came up or ended."""
        if self._began is None or event.state not in ("up", "down"):
            return
        name, now = name_of(event.to_json()["peer_id"]), event.at
        known = self._of.get(name)
        if event.state == "up":
            if known is None:
                known = self._of[name] = deque([(self._began, NEVER_ENDED)], maxlen=MAX_OF_PEER)
            if known and known[-1][1] == NEVER_ENDED:
                known[-1] = known[-1][0], now
        elif known is not None and not (known and known[-1][1] == NEVER_ENDED):
            known.append((now, NEVER_ENDED))
            self._forget_some()

    def _forget_some(self) -> None:
        gone = [name for name, known in self._of.items() if known and known[-1][1] == NEVER_ENDED]
        for name in gone[: max(0, len(gone) - MAX_PEERS)]:
            del self._of[name]

    def together_at(self, name: str, moment: datetime) -> datetime:
        """Return the last time before a moment at which this peer and another one had the same.

        Before this gateway began they are taken to have been linked, since nothing is known of that time.
        """
        if self._began is None:
            return moment
        known = self._of.get(name, deque([(self._began, NEVER_ENDED)]))
        for first, last in reversed(known):
            if first <= moment and (last == NEVER_ENDED or moment < last + self._lasting):
                moment = first
        return moment


def name_of(peer_id: str) -> str:
    """Return the name of a gateway in `since`: the beginning of the id of its peer."""
    return peer_id[:8]
