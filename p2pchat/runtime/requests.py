"""What programs want of the core: what they say, ask and bring, each with a future for what becomes of it.

Nothing here waits: what is said is gathered (saying.py), all else goes in at once, and answers come as effects. Where
storage is only memory programs are told at once where an entry will stand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from p2pchat.core.effects import Effect, Imported, Kept, Refused
from p2pchat.core.inputs import Input
from p2pchat.core.log import Ref
from p2pchat.errors import P2PChatError, PeerClosed
from p2pchat.protocol import ConversationId, Entries, UserId
from p2pchat.runtime.asking import Asked, Asking, Make
from p2pchat.runtime.loads import Loading, Loads
from p2pchat.runtime.saying import At, Gathering, Saying


class Programs:
    """Takes in what programs want, and tells them what became of it.

    Args:
        saying: Where what is said waits for the core.
        put: Takes inputs.
        schedule: Has what is said taken soon.
        tell: Takes the answers that nobody here waits for, and Kept, before those hear of it who wait.
    Attributes:
        promises: Storage is only memory: where an entry will stand is where it stands.
        woken: Programs that were told in this turn that what they said is durable.
    """

    def __init__(
        self,
        saying: Gathering,
        put: Callable[[Input], None],
        schedule: Callable[[], None],
        tell: Callable[[Effect], None],
    ) -> None:
        self.promises = False
        self.woken = 0
        self._saying = saying
        self._put = put
        self._schedule = schedule
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._asked = Asked()
        self._loads = Loads()
        self._over = False

    def say(
        self,
        user: UserId,
        conversation: ConversationId,
        kind: str,
        bodies: Sequence[str],
        re: Ref | None = None,
        ref: str | None = None,
        claimed: int | None = None,
    ) -> Saying:
        """Write entries; the future has the log and the number of the first when they are durable: in storage that is
        only memory at once, where they are sure to be kept, so that a loop of sends shares signatures and frames.

        All bodies of one call are consecutive; `claimed`: when the first is said to be written. The future fails with
        StorageError, PeerClosed or P2PChatError.
        """
        future: Saying = self._loop.create_future()
        if self._over:
            future.set_exception(PeerClosed("the peer was closed"))
        elif (at := self.say_at_once(user, conversation, kind, bodies, re, ref, claimed)) is not None:
            future.set_result(at)
        else:
            self._saying.add(future, user, conversation, kind, bodies, re, ref, claimed)
            self._schedule()
        return future

    def say_at_once(
        self,
        user: UserId,
        conversation: ConversationId,
        kind: str,
        bodies: Sequence[str],
        re: Ref | None = None,
        ref: str | None = None,
        claimed: int | None = None,
    ) -> At | None:
        """Write entries where it is settled where they will stand, and return that of the first; otherwise None, and
        nothing is said: say() says it, and why it cannot be."""
        if not self.promises or kind not in ("text", "action") or self._over:
            return None
        at = self._saying.next_place(user, conversation)
        if at is not None:
            self._saying.add(None, user, conversation, kind, bodies, re, ref, claimed, at)
            self._schedule()
        return at

    def ask(self, make: Make) -> Asking:
        """Hand in what is answered once; the future says where it is written when that is durable.

        It fails with StorageError, PeerClosed or P2PChatError, whose text says why not.
        """
        future: Asking = self._loop.create_future()
        if self._over:
            future.set_exception(PeerClosed("the peer was closed"))
        else:
            self._put(self._asked.add(future, make))
        return future

    def carry(self, frames: list[Entries]) -> Loading:
        """Take frames of a file; the future says what became of them, fails with PeerClosed or P2PChatError."""
        future: Loading = self._loop.create_future()
        if self._over:
            future.set_exception(PeerClosed("the peer was closed"))
        else:
            self._put(self._loads.add(future, frames))
        return future

    # What the core answers

    def kept(self, effect: Kept) -> None:
        if not self._asked.kept(effect):
            self._tell(effect)
            self.woken += self._saying.kept(effect)

    def refused(self, effect: Refused) -> None:
        if not (self._asked.refused(effect) or self._saying.refused(effect)):
            self._tell(effect)

    def imported(self, effect: Imported) -> None:
        self._loads.imported(effect)

    def end(self) -> None:
        """Take nothing more."""
        self._over = True

    def fail(self, error: Callable[[], P2PChatError]) -> None:
        """Take nothing more, and nobody gets an answer any more."""
        self.end()
        self._saying.fail(error)
        self._asked.fail(error)
        self._loads.fail(error)
