"""Who is announced where at present, service by service, and what of that is news.

A peer may be announced twice for a while: it has started again, and nobody has said that the former one is over.
What it is told to be at is all of it together.
"""

from __future__ import annotations

from p2pchat.protocol import PeerId

MAX_SERVICES = 64  # announcements of members kept at once, as many as addresses of one teller in the address book

News = tuple[PeerId, tuple[str, ...]]  # a peer and all its endpoints; () when it is not announced any more


class Sightings:
    """What was recognised, by the name of the service."""

    def __init__(self) -> None:
        self._seen: dict[str, News] = {}

    def seen(self, service: str, peer: PeerId, endpoints: tuple[str, ...]) -> list[News]:
        """This service is that peer, there; return what is to be told, [] when nothing is new or there is no room."""
        former = self._seen.get(service)
        if former == (peer, endpoints) or (former is None and len(self._seen) >= MAX_SERVICES):
            return []
        self._seen[service] = (peer, endpoints)
        changed = dict.fromkeys([peer] if former is None else [former[0], peer])
        return [self._of(one) for one in changed]

    def gone(self, service: str) -> list[News]:
        """This service is over; return what is to be told, [] when nobody was recognised there."""
        former = self._seen.pop(service, None)
        return [] if former is None else [self._of(former[0])]

    def clear(self) -> None:
        """Forget everything and tell nothing: who is still there is seen again."""
        self._seen.clear()

    def _of(self, peer: PeerId) -> News:
        places = [endpoint for one, endpoints in self._seen.values() if one == peer for endpoint in endpoints]
        return peer, tuple(dict.fromkeys(places))
