"""Queues of received frames, and turns of links: whose frames the core handles next, and how much waits for the disk.

Each link has a queue of its own here, and its inputs stay in order. Links of which little waits go first: a message, or
what a newcomer has to say, is little. Of those that sent more, one part after the other is handled, each of another
link, until their time in this turn of the loop is over. They wait while much is on its way to the disk, and for a
moment while the driver has something else to do. So a peer that floods delays itself. A link of which something is left
is not read until that is handled, so that what waits here is bounded; its bytes are decoded when its turn comes.

The driver of a real peer and that of a simulated one use the same classes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from p2pchat.core.durable_changes import Change
from p2pchat.core.effects import Commit
from p2pchat.core.inputs import Faulted, Got, LinkDown
from p2pchat.protocol import (
    Digest,
    Entries,
    Frame,
    Have,
    Here,
    Holds,
    Peers,
    ReadFrame,
    Statements,
    TypingFrame,
    Unknown,
    Want,
)
from p2pchat.settings import Settings

# A turn, for all links that sent much. A message takes some ten turns: from the program that writes it to the disk, to
# the link, and back as a receipt.
TURN_SECONDS = 0.01
WAIT_SECONDS = 0.03  # so long they wait at most for turns in which programs and other links have nothing
PARTS = 4  # of a turn's units, one link after the other: 4 ms each of the hardest
LITTLE_BYTES = 2048  # 60 of the smallest frames. Handshakes, and what people write, are less; a guess

# Units of work, one for each entry. Rough proportions: an entry takes some 5 us, a signature 100 us, a new log 300 us.
BATCH_UNITS = 4  # a signature; a user's certificate has one too
NEW_LOG_UNITS = 32
ITEMS_A_UNIT = 4  # users, marks, names or addresses in one frame

PART_FACTOR = 32  # other frames count so much in one part of a turn: their cost depends on what is held here. A guess

USERS_A_PART = 25  # with certificates, in one part of a turn: 4 ms; a frame may have hundreds
STATEMENTS_A_PART = 50  # about members: 8 ms; a frame may have a thousand

BLOCKED_FACTOR = 4

LinkInput = Got | Faulted | LinkDown
PAGED = {Here, Statements}  # frames about many users, or with many statements


def units_of(frame: Frame | Unknown) -> int:
    """Return the work of a frame: at least 1."""
    if isinstance(frame, Entries):
        units = len(frame.e) + (BATCH_UNITS + NEW_LOG_UNITS if frame.first == 1 else BATCH_UNITS)
        return units + len(frame.names) // ITEMS_A_UNIT
    if isinstance(frame, Here):
        certified = sum(user.cert is not None for user in frame.users)
        return 1 + BATCH_UNITS * certified + (len(frame.users) - certified + len(frame.gone)) // ITEMS_A_UNIT
    elif isinstance(frame, (Have, ReadFrame)):
        items = len(frame.names) + sum(map(len, frame.marks.values()))
        if isinstance(frame, Have):
            items += sum(map(len, frame.full.values()))
            items += sum(len(parts) for users in frame.lacks.values() for parts in users.values())
    elif isinstance(frame, Digest):
        items = len(frame.names) + len(frame.sums or ())
    elif isinstance(frame, (Want, TypingFrame)):
        items = len(frame.names)
    elif isinstance(frame, Peers):
        return 1 + BATCH_UNITS * len(frame.records) + (len(frame.linked) + len(frame.gone)) // ITEMS_A_UNIT
    elif isinstance(frame, Statements):
        return 1 + BATCH_UNITS * len(frame.s)
    elif isinstance(frame, Holds):
        items = len(frame.ask) + len(frame.has) + len(frame.lacks)
    else:
        return 1
    return 1 + items // ITEMS_A_UNIT


class FrameQueue:
    """Inputs of links that wait for the core.

    Args:
        settings: Says how much is handled in one turn.
        pause: Called with a link and True to stop reading it, with False to resume. It may be called again with the
            same value.
        decode: Decode some of the bytes of a link: put() gets what they say. Return how many are left.
    Attributes:
        queues: What is decoded of links of which something waits, the next one first, without held links.
        unread: Links that are not read until nothing of them waits.
    """

    def __init__(
        self,
        settings: Settings,
        pause: Callable[[int, bool], None],
        decode: Callable[[int], int] = lambda link: 0,
    ) -> None:
        self.queues: dict[int, deque[LinkInput]] = {}
        self._units = settings.turn_units
        self._pause = pause
        self._undecoded: dict[int, int] = {}  # bytes that wait for decode(), by link
        self._decode = decode
        self._held: dict[int, deque[LinkInput]] = {}  # of links that may not go on now
        self.unread: set[int] = set()

    def add(self, link: int, waiting: int) -> None:
        """Take that so many bytes of a link wait for decode()."""
        self._undecoded[link] = waiting
        if link not in self._held:
            self.queues.setdefault(link, deque())

    def put(self, input: LinkInput) -> None:
        """Add an input behind the others of its link."""
        link = input.link
        if type(input) is LinkDown:
            self._undecoded.pop(link, None)
            self._held.pop(link, None)  # like bytes that were not read when a link ended: the next one brings them
        queue = self.queues.get(link)
        if queue is None:
            queue = self._held.get(link)
        if queue is None:
            queue = self.queues[link] = deque()
        queue.append(split_frames(input))

    def little(self) -> list[int]:
        """Return the links of which little waits, in order: few bytes, and no frames left of the last turn."""
        return [
            link
            for link, queue in self.queues.items()
            if (not queue or link not in self.unread) and self._undecoded.get(link, 0) <= LITTLE_BYTES
        ]

    def take(self, link: int, parts: int = 1) -> LinkInput | None:
        """Remove and return what comes next of a link, one of so many parts of a turn; it comes after all others then.

        None: it was ended here, or is held by now.
        """
        queue = self.queues.get(link)
        if queue is None:
            return None
        left = self._undecoded.pop(link, 0)
        if left and not queue:
            left = self._decode(link)
        if left:
            self._undecoded[link] = left
        del self.queues[link]
        part = _split(queue, self._units // parts) if queue else None
        if queue or left:
            self.queues[link] = queue
        return part

    def end(self) -> None:
        """End a turn: read no link of which something waits, and the others again."""
        for link in self.queues.keys() - self.unread:
            self._pause(link, True)
        for link in self.unread - self.queues.keys() - self._held.keys():
            self._pause(link, False)
        self.unread = set(self.queues)

    def hold(self, link: int) -> None:
        """Handle and read nothing more of a link until release()."""
        if link not in self._held:
            self._held[link] = self.queues.pop(link, deque())
            self._pause(link, True)

    def release(self, link: int) -> None:
        """Let a link go on; does nothing when it is not held."""
        queue = self._held.pop(link, None)
        if queue is None:
            return
        if queue or link in self._undecoded:
            self.queues[link] = queue
            self.unread.add(link)
        else:
            self._pause(link, False)


def _split(queue: deque[LinkInput], most: int) -> LinkInput:
    """Remove the next input, or its first frames when it takes more than `most` units, between which others have turns.

    Entries of one read stay together as far as possible, since they are proven together.
    """
    input = queue.popleft()
    if type(input) is not Got or len(input.frames) < 2:
        return input
    units = 0
    for at, frame in enumerate(input.frames):
        units += units_of(frame) * (1 if type(frame) is Entries else PART_FACTOR)
        if at and units > most:
            queue.appendleft(Got(input.link, input.frames[at:]))
            return Got(input.link, input.frames[:at])
    return input


def split_frames(input: LinkInput) -> LinkInput:
    """Return an input in which frames about many users or with many statements are several frames, so that others have
    their turn between.

    If a later one breaks a rule, the users of the earlier ones end with the link.
    """
    if type(input) is not Got or PAGED.isdisjoint(map(type, input.frames)):
        return input
    return Got(input.link, [part for frame in input.frames for part in _pages_of(frame)])


def is_page(input: LinkInput) -> bool:
    """Return whether an input has as many statements as take a turn of their own, with what follows from them."""
    frames = input.frames if type(input) is Got else ()
    return any(type(frame) is Statements and len(frame.s) == STATEMENTS_A_PART for frame in frames)


def _pages_of(frame: Frame | Unknown) -> Iterator[Frame | Unknown]:
    """Yield a frame, or its pages: of a `here` with many certified users all but the last say that more comes."""
    if type(frame) is Here:
        users = frame.users
        while sum(user.cert is not None for user in users) > USERS_A_PART:
            yield Here(users[:USERS_A_PART], more=True)
            users = users[USERS_A_PART:]
        if len(users) < len(frame.users):
            frame = Here(users, frame.gone, frame.more)
    elif type(frame) is Statements and len(frame.s) > STATEMENTS_A_PART:
        for first in range(0, len(frame.s) - STATEMENTS_A_PART, STATEMENTS_A_PART):
            yield Statements(frame.founder, s=frame.s[first : first + STATEMENTS_A_PART])
        rest = frame.s[(len(frame.s) - 1) // STATEMENTS_A_PART * STATEMENTS_A_PART :]
        frame = Statements(frame.founder, frame.sum, frame.ask, rest)
    yield frame


class CommitsInFlight:
    """Commits that storage has not answered yet, and the back-pressure they cause.

    Own entries do not count: their writers wait for them.

    Args:
        limit: Units of work of received commits. With so many the disk is behind, and links that sent much wait. With
            BLOCKED_FACTOR times as many all links wait.
    Attributes:
        own: Number of commits in flight with entries of our users.
    """

    def __init__(self, limit: int) -> None:
        self.own: int = 0
        self._limit = limit
        self._commits: dict[int, tuple[Commit, int]] = {}  # by ticket, with the units of what was received
        self._units = 0  # of all of them

    def __bool__(self) -> bool:
        """Return whether anything is on its way to the disk."""
        return bool(self._commits)

    @property
    def is_behind(self) -> bool:
        """Return whether the disk has enough to do: who floods waits."""
        return self._units >= self._limit

    @property
    def is_blocked(self) -> bool:
        """Return whether nothing more is taken from any link."""
        return self._units >= BLOCKED_FACTOR * self._limit

    def add(self, commit: Commit) -> None:
        """Add a commit that goes to storage now."""
        units = 0
        if not commit.own:
            units = NEW_LOG_UNITS * len(commit.change.logs)
            for batch in commit.change.batches:
                units += BATCH_UNITS + len(batch.raws)
        self._commits[commit.ticket] = commit, units
        self.own += commit.own
        self._units += units

    def fail(self, epoch: int) -> list[Change]:
        """Remove the commits of this epoch and earlier ones, which will not be stored; return their changes."""
        return [self.remove(ticket) for ticket, (commit, _) in list(self._commits.items()) if commit.epoch <= epoch]

    def remove(self, ticket: int) -> Change:
        """Remove a commit that was answered; return its change."""
        commit, units = self._commits.pop(ticket)
        self.own -= commit.own
        self._units -= units
        return commit.change
