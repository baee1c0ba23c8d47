"""What programs want of the core: what they say, ask and bring, each with a future for what becomes of it.

Nothing here waits: what is said is gathered (requests.py), all else goes in at once, and answers come as effects. Where
storage is only memory programs are told at once where an entry will stand.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from p2pchat.core.effects import Effect, ImportResult, WriteAccepted, WriteRefused
from p2pchat.core.inputs import ImportRequest, Input, WriteRequest
from p2pchat.core.log import LogId, Ref
from p2pchat.errors import P2PChatError, PeerClosed, StorageError
from p2pchat.protocol import ConversationId, Entries, UserId


class RequestQueue:
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
        writes: WriteBatcher,
        put: Callable[[Input], None],
        schedule: Callable[[], None],
        tell: Callable[[Effect], None],
    ) -> None:
        self.promises = False
        self.woken = 0
        self._saying = writes
        self._put = put
        self._schedule = schedule
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._asked = Asked()
        self._loads = Loads()
        self._over = False

    def write(
        self,
        user: UserId,
        conversation: ConversationId,
        kind: str,
        bodies: Sequence[str],
        re: Ref | None = None,
        ref: str | None = None,
        claimed: int | None = None,
    ) -> PendingPosition:
        """Write entries; the future has the log and the number of the first when they are durable: in storage that is
        only memory at once, where they are sure to be kept, so that a loop of sends shares signatures and frames.

        All bodies of one call are consecutive; `claimed`: when the first is said to be written. The future fails with
        StorageError, PeerClosed or P2PChatError.
        """
        future: PendingPosition = self._loop.create_future()
        if self._over:
            future.set_exception(PeerClosed("the peer was closed"))
        elif (at := self.write_nowait(user, conversation, kind, bodies, re, ref, claimed)) is not None:
            future.set_result(at)
        else:
            self._saying.add(future, user, conversation, kind, bodies, re, ref, claimed)
            self._schedule()
        return future

    def write_nowait(
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
        nothing is said: write() says it, and why it cannot be."""
        if not self.promises or kind not in ("text", "action") or self._over:
            return None
        at = self._saying.next_position(user, conversation)
        if at is not None:
            self._saying.add(None, user, conversation, kind, bodies, re, ref, claimed, at)
            self._schedule()
        return at

    def request(self, make: Make) -> PendingConversation:
        """Hand in what is answered once; the future says where it is written when that is durable.

        It fails with StorageError, PeerClosed or P2PChatError, whose text says why not.
        """
        future: PendingConversation = self._loop.create_future()
        if self._over:
            future.set_exception(PeerClosed("the peer was closed"))
        else:
            self._put(self._asked.add(future, make))
        return future

    def import_frames(self, frames: list[Entries]) -> PendingImport:
        """Take frames of a file; the future says what became of them, fails with PeerClosed or P2PChatError."""
        future: PendingImport = self._loop.create_future()
        if self._over:
            future.set_exception(PeerClosed("the peer was closed"))
        else:
            self._put(self._loads.add(future, frames))
        return future

    # What the core answers

    def on_committed(self, effect: WriteAccepted) -> None:
        if not self._asked.on_committed(effect):
            self._tell(effect)
            self.woken += self._saying.on_committed(effect)

    def on_rejected(self, effect: WriteRefused) -> None:
        if not (self._asked.on_rejected(effect) or self._saying.on_rejected(effect)):
            self._tell(effect)

    def on_imported(self, effect: ImportResult) -> None:
        self._loads.on_imported(effect)

    def end(self) -> None:
        """Take nothing more."""
        self._over = True

    def fail(self, error: Callable[[], P2PChatError]) -> None:
        """Take nothing more, and nobody gets an answer any more."""
        self.end()
        self._saying.fail(error)
        self._asked.fail(error)
        self._loads.fail(error)


# ---- saying
#
# What programs say, gathered until the core takes it, and whom to tell what became of it.
#
# While a commit of our own is on its way texts gather here, in groups: consecutive texts of one user, kind and answered
# entry in one conversation. A group goes to the core as one Said, so one signature and one transaction serve it. Every
# call of a program has a future of its own, for a shared one would be cancelled for all by whoever cancels first.
#
# Where storage is only memory programs need not wait for that: they are promised where an entry will stand, as the core
# says, and it goes in before anything else happens.


MOST_ENTRIES = 4096  # given to the core at once: a transaction of some 20 ms
MOST_CHARACTERS = 4 * 1024 * 1024
MOST_PROMISED = 1024  # entries told where they will stand before the core has them: a turn of 2 ms
MOST_REFS = 10_000  # words of programs remembered until their Sent is read
STORAGE_CODES = frozenset({"storage", "disk_low", "full"})  # of Refused: it could not be stored

At = tuple[LogId, int]  # log and number
PendingPosition = asyncio.Future[At]  # resolves to where the first entry stands


class PendingWrite:
    """Texts that go in as one Said."""

    __slots__ = ("bodies", "characters", "claims", "conversation", "kind", "promised", "re", "refs", "user", "waiting")

    def __init__(self, user: UserId, conversation: ConversationId, kind: str, re: Ref | None) -> None:
        self.user = user
        self.conversation = conversation
        self.kind = kind
        self.re = re
        self.bodies: list[str] = []
        self.characters = 0
        self.claims: dict[int, int] = {}  # index in bodies -> when it is claimed to be written
        self.promised: At | None = None  # where its first entry will stand, if anybody has been told that
        self.refs: dict[int, str] = {}  # index in bodies -> the program's own word
        self.waiting: list[tuple[PendingPosition, int]] = []  # future, offset in bodies

    def takes(self, user: UserId, kind: str, re: Ref | None) -> bool:
        """Whether such a text may join, with nothing of that conversation said in between."""
        room = len(self.bodies) < MOST_ENTRIES and self.characters < MOST_CHARACTERS
        return room and self.re == re and self.kind == kind and self.user == user


class WriteBatcher:
    """Everything said that is not durable yet.

    Args:
        next_entry: Says where the next entry of a user in a conversation will stand, if it is the core's next input.
    Attributes:
        refs: The words programs gave to what they said, by log and number.
        has_promised: Something that waits here was promised a place.
    """

    def __init__(self, next_entry: Callable[[ConversationId, UserId], At | None]) -> None:
        self._next_entry = next_entry
        self._next: dict[tuple[ConversationId, UserId], At] = {}  # as the core said it since its last input
        self._groups: deque[PendingWrite] = deque()
        self._last: dict[ConversationId, PendingWrite] = {}  # the group that takes the next text
        self._in_core: dict[int, PendingWrite] = {}  # in the core, by ticket
        self._tickets = 0
        self.refs: dict[tuple[LogId, int], str] = {}
        self.has_promised = False

    def __bool__(self) -> bool:
        """Whether something waits to be taken."""
        return bool(self._groups)

    def add(
        self,
        future: PendingPosition | None,
        user: UserId,
        conversation: ConversationId,
        kind: str,
        bodies: Sequence[str],
        re: Ref | None,
        ref: str | None,
        claimed: int | None = None,
        promised: At | None = None,
    ) -> None:
        """Gather what one call says; all bodies of it become consecutive entries, `claimed` that of the first.

        Args:
            future: Is told where the first stands; None where that was `promised`.
        """
        group = self._last.get(conversation)
        if group is None or not group.takes(user, kind, re):
            group = self._last[conversation] = PendingWrite(user, conversation, kind, re)
            self._groups.append(group)
        offset = len(group.bodies)
        if future is not None:
            group.waiting.append((future, offset))
        elif promised is not None and group.promised is None:
            group.promised = (promised[0], promised[1] - offset)
            self.has_promised = True
        if ref is not None:
            group.refs[offset] = ref
        if claimed is not None:
            group.claims[offset] = claimed
        group.bodies.extend(bodies)
        group.characters += len(bodies[0]) if len(bodies) == 1 else sum(map(len, bodies))

    def next_position(self, user: UserId, conversation: ConversationId) -> At | None:
        """Return where an entry will stand, if that is settled: it goes in before anything else happens."""
        key, ahead = (conversation, user), self._ahead(user, conversation)
        found = self._next.get(key) or self._next_entry(conversation, user)
        if found is None or ahead is None:
            return None
        self._next[key] = found
        return found[0], found[1] + ahead

    def _ahead(self, user: UserId, conversation: ConversationId) -> int | None:
        """Return how many entries of this user wait for this conversation.

        None when a good deal waits in all, or one of these may be taken later than what is promised a place: an edit.
        """
        entries = characters = own = 0
        for group in self._groups:
            entries += len(group.bodies)
            characters += group.characters
            if group.user == user and group.conversation == conversation:
                if group.promised is None:
                    return None
                own += len(group.bodies)
        return own if entries < MOST_PROMISED and characters < MOST_CHARACTERS // 4 else None

    def take(self) -> Iterator[WriteRequest]:
        """Yield the next groups, oldest first, as much as makes a good transaction."""
        entries = characters = 0
        while self._groups and entries < MOST_ENTRIES and characters < MOST_CHARACTERS:
            group = self._groups.popleft()
            entries += len(group.bodies)
            characters += group.characters
            yield self._said_by(group)

    def take_promised(self) -> Iterator[WriteRequest]:
        """Yield the groups that were promised a place, in their order."""
        self.has_promised = False
        self._next.clear()
        promised = [group for group in self._groups if group.promised is not None]
        for group in promised:
            self._groups.remove(group)
            yield self._said_by(group)

    def _said_by(self, group: PendingWrite) -> WriteRequest:
        if self._last.get(group.conversation) is group:
            del self._last[group.conversation]
        self._tickets += 1
        self._in_core[self._tickets] = group
        return WriteRequest(
            self._tickets, group.user, group.conversation, group.kind, group.bodies, group.re, group.claims
        )

    def on_committed(self, effect: WriteAccepted) -> int:
        """These are durable: tell who waits; return how many that are."""
        group = self._in_core.pop(effect.ticket, None)
        if group is None:
            return 0  # the peer closes: who waited was told not to
        log, first = effect.log, effect.first
        if group.promised not in (None, (log, first)):
            raise RuntimeError("an entry stands elsewhere than was promised")
        for offset, ref in group.refs.items():
            self._note(log, first + offset, ref)
        for future, offset in group.waiting:
            if not future.done():  # cancelled: kept all the same
                future.set_result((log, first + offset))
        return len(group.waiting)

    def _note(self, log: LogId, seq: int, ref: str) -> None:
        self.refs[log, seq] = ref
        if len(self.refs) > MOST_REFS:
            del self.refs[next(iter(self.refs))]

    def on_rejected(self, effect: WriteRefused) -> bool:
        """These were not kept: tell who waits. False when nothing of here has that ticket."""
        group = self._in_core.pop(effect.ticket, None)
        if group is None:
            return False
        kind = StorageError if effect.code in STORAGE_CODES else P2PChatError
        _fail(group, lambda: kind(effect.text))
        return True

    def fail(self, error: Callable[[], P2PChatError]) -> None:
        """Nothing more is going to be said: tell everybody who waits."""
        groups = [*self._in_core.values(), *self._groups]
        self._in_core.clear()
        self._groups.clear()
        self._last.clear()
        for group in groups:
            _fail(group, error)


def _fail(group: PendingWrite, error: Callable[[], P2PChatError]) -> None:
    """Each waiter gets an error of its own: one raised twice would gather both tracebacks."""
    for future, _ in group.waiting:
        if not future.done():
            future.set_exception(error())


# ---- asking
#
# What programs ask of the core that is answered once, by Kept or Refused, and is no text: groups made and changed.
#
# Their tickets are negative, so that they are never those of what is said. Each call has a future of its own.


PendingConversation = asyncio.Future[ConversationId]  # resolves to the conversation the answer is written in
Make = Callable[[int], Input]


class Asked:
    """Questions under way."""

    def __init__(self) -> None:
        self._waiting: dict[int, PendingConversation] = {}
        self._tickets = 0

    def add(self, future: PendingConversation, make: Make) -> Input:
        """Return what to hand in, made with a ticket of its own; the future gets the answer."""
        self._tickets -= 1
        self._waiting[self._tickets] = future
        return make(self._tickets)

    def on_committed(self, effect: WriteAccepted) -> bool:
        """It is durable: tell who waits. False when nothing of here has that ticket."""
        future = self._waiting.pop(effect.ticket, None)
        if future is not None and not future.done():
            future.set_result(effect.log.conversation)
        return future is not None

    def on_rejected(self, effect: WriteRefused) -> bool:
        """It was not done: tell who waits. False when nothing of here has that ticket."""
        future = self._waiting.pop(effect.ticket, None)
        if future is not None and not future.done():
            kind = StorageError if effect.code in STORAGE_CODES else P2PChatError
            future.set_exception(kind(effect.text))
        return future is not None

    def fail(self, error: Callable[[], BaseException]) -> None:
        """Nothing more is answered."""
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(error())


# ---- loads
#
# What of files is in the core and not answered yet, and who waits for the answers.
#
# Each call has a future of its own: it resolves when what was handed in is counted, and its new entries are on disk.


PendingImport = asyncio.Future[ImportResult]


class Loads:
    """Frames of files under way."""

    def __init__(self) -> None:
        self._waiting: dict[int, PendingImport] = {}
        self._tickets = 0

    def add(self, future: PendingImport, frames: list[Entries]) -> ImportRequest:
        """Return what to hand in; the future gets the answer."""
        self._tickets += 1
        self._waiting[self._tickets] = future
        return ImportRequest(self._tickets, frames)

    def on_imported(self, effect: ImportResult) -> None:
        future = self._waiting.pop(effect.ticket, None)
        if future is not None and not future.done():
            future.set_result(effect)

    def fail(self, error: Callable[[], BaseException]) -> None:
        """Nothing more is answered."""
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(error())
                future.exception()  # whoever waits hears of it; a call given up is no news
