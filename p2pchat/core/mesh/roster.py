"""What links may hear of the peers linked here, in the order in which it changed.

A link that was told everything up to one change gets what came after it, and nobody compares all that each of them
knows: in a mesh of n peers that forms, that would be n x n x n steps. What may be told differs for links on loopback
and others, so there is one Roster for each of the two.
"""

from __future__ import annotations

from p2pchat.protocol import PeerId

At = tuple[str, ...]  # the endpoints told of a peer


class Roster:
    """Linked peers with the endpoints that may be told; what changed last is last.

    Attributes:
        change: The number of the last change; 0 before the first.
    """

    def __init__(self) -> None:
        self.change = 0
        self._known: dict[PeerId, tuple[int, At | None]] = {}  # the change it came with; None: not linked any more

    def put(self, peer: PeerId, at: At | None) -> None:
        """Note where a peer is now; None when it is not linked."""
        known = self._known.get(peer, (0, None))[1]
        if known != at:
            self.change += 1
            self._known.pop(peer, None)  # or it would keep its place
            self._known[peer] = self.change, at

    def since(self, change: int) -> dict[PeerId, At | None]:
        """Return what is another than after that change; after none (0) nobody is gone."""
        news: dict[PeerId, At | None] = {}
        for peer, (number, at) in reversed(self._known.items()):
            if number <= change:
                break
            if change or at is not None:
                news[peer] = at
        return news

    def forget_gone(self) -> None:
        """All links have been told: who is gone needs no mention any more."""
        self._known = {peer: known for peer, known in self._known.items() if known[1] is not None}
