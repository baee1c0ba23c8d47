"""Two processes with one key: noticed by how links are replaced, and met with patience.

Each of two processes that run with one key takes the other's links for its own, over and over: a copied machine, a
profile that two containers share. That cannot be settled here; people are told, and for a while the link that is
stays. Who notices tells both of them (peer_exchange.py): the one whose link stays would hear nothing of the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from p2pchat.core.context import Context
from p2pchat.core.effects import Warned
from p2pchat.core.mesh.dialer import Dialing
from p2pchat.core.mesh.link import Link
from p2pchat.protocol import PeerId

SETTLED_AFTER = 1.0  # seconds; a link replaced sooner was one of two that crossed, which is nothing special


class Clones:
    """Replacements of late, by peer. `name_of` returns what people call a peer, "" when nobody named it."""

    def __init__(self, ctx: Context, dialing: Dialing, name_of: Callable[[PeerId], str]) -> None:
        self._ctx = ctx
        self._dialing = dialing
        self._name_of = name_of
        self._replacements: dict[PeerId, deque[float]] = {}  # when
        self._patient_until: dict[PeerId, float] = {}
        self._told_at = float("-inf")  # when a far end said so and people were told

    def lasted(self, link: Link) -> bool:
        """Say whether a link was up long enough for its replacement to mean something."""
        return self._ctx.now.mono - link.up_at >= SETTLED_AFTER

    def is_patient(self, peer: PeerId) -> bool:
        return self._ctx.now.mono < self._patient_until.get(peer, 0.0)

    def told(self) -> None:
        """A far end has met another process with our key, or is patient with it: this process is one of two.

        People hear of it once in clone_window, however many say so: each peer notices for itself.
        """
        now = self._ctx.now.mono
        if now - self._told_at >= self._ctx.settings.clone_window:
            self._told_at = now
            self._warn(self._ctx.me)

    def notice(self, peer: PeerId, whose: PeerId) -> bool:
        """A link to this peer was replaced in a way that two processes with the key of `whose` would explain.

        Three of them within a minute are told, and for half a minute nothing is dialled and the link that is stays:
        no longer than a dead link takes to be noticed. True when it is told: then both processes should hear of it.
        """
        settings, now = self._ctx.settings, self._ctx.now.mono
        times = self._replacements.setdefault(peer, deque(maxlen=settings.clone_replacements))
        times.append(now)
        if len(times) < settings.clone_replacements or now - times[0] > settings.clone_window:
            return False
        times.clear()
        self._patient_until[peer] = now + settings.clone_patience
        self._dialing.be_patient(peer, settings.clone_patience)
        if whose == self._ctx.me:
            self.told()
        else:
            self._warn(whose)
        return True

    def _warn(self, whose: PeerId) -> None:
        name = self._name_of(whose)
        key = "this peer's key" if whose == self._ctx.me else f"the key of {name!a}" if name else "the key of one peer"
        self._ctx.emit(Warned("two_processes", f"two processes seem to use {key}: stop one of them", whose))
