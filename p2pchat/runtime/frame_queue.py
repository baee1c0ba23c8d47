"""Queues of received frames, and turns of links: whose frames the core handles next, and how much waits for the disk.

Each link has a queue of its own here, and its inputs stay in order. While little waits, all of it is handled at once.
While more waits, frames are handled up to a limit in each turn of the loop: those of one contact after the other, then
those of one unknown peer after the other. In every second turn, unknown peers of whom little waits go first: a newcomer
has little to say. They alone have their turn while the driver has something else to do. While much is on its way to the
disk, links to unknown peers wait, and those to contacts that have frames left from their last turn. So a peer that
floods delays itself. A link with frames left is not read until they are handled, so that what waits here is bounded.

The driver of a real peer and that of a simulated one use the same classes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from p2pchat.config import Settings
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
    MarksFrame,
    Members,
    Peers,
    TypingFrame,
    Unknown,
    Want,
)

# A turn, for links to contacts and for all others together. A message of a contact takes some ten turns: from the
# program that writes it to the disk, to the link, and back as a receipt. The first is twice what its units take.
TURN_SECONDS = 0.03
UNKNOWN_TURN_SECONDS = 0.01
UNKNOWN_WAIT_SECONDS = 0.03  # so long they wait at most for turns in which contacts and programs have nothing
UNKNOWN_PARTS = 4  # of a turn's units, between which the clock is read: 4 ms each of the hardest

# Units of work, one for each entry. Rough proportions: an entry takes some 5 us, a signature 100 us, a new log 300 us.
BATCH_UNITS = 4  # a signature; a user's certificate has one too
NEW_LOG_UNITS = 8
ITEMS_A_UNIT = 4  # users, marks, names or addresses in one frame

PART_FACTOR = 32  # other frames count so much in one part of a turn: their cost depends on what is held here. A guess

USERS_A_PART = 25  # with certificates, in one part of a turn: 4 ms; a frame may have hundreds
STATEMENTS_A_PART = 50  # about members: 8 ms; a frame may have a thousand

FEW_PART = 8  # little: at most this part of the units of a turn, or so many frames, even if each of them begins a log

LinkInput = Got | Faulted | LinkDown


def units_of(frame: Frame | Unknown) -> int:
    """Return the work of a frame: at least 1."""
    if isinstance(frame, Entries):
        units = len(frame.e) + (BATCH_UNITS + NEW_LOG_UNITS if frame.first == 1 else BATCH_UNITS)
        return units + len(frame.names) // ITEMS_A_UNIT
    if isinstance(frame, Here):
        certified = sum(user.cert is not None for user in frame.users)
        return 1 + BATCH_UNITS * certified + (len(frame.users) - certified + len(frame.gone)) // ITEMS_A_UNIT
    elif isinstance(frame, (Have, MarksFrame)):
        items = len(frame.names) + sum(map(len, frame.marks.values()))
        if isinstance(frame, Have) and frame.full:
            items += sum(map(len, frame.full.values()))
    elif isinstance(frame, Digest):
        items = len(frame.names) + len(frame.sums or ())
    elif isinstance(frame, (Want, TypingFrame)):
        items = len(frame.names)
    elif isinstance(frame, Peers):
        return 1 + BATCH_UNITS * len(frame.records) + (len(frame.linked) + len(frame.gone)) // ITEMS_A_UNIT
    elif isinstance(frame, Members):
        return 1 + BATCH_UNITS * len(frame.s) + len(frame.have or ()) // ITEMS_A_UNIT
    elif isinstance(frame, Holds):
        items = len(frame.ask) + len(frame.has) + len(frame.lacks)
    else:
        return 1
    return 1 + items // ITEMS_A_UNIT


class LinkTurns:
    """Inputs of links that wait for the core.

    Args:
        settings: Says how much is handled in one turn.
        is_known: Return whether a link is one to a contact.
        pause: Called with a link and True to stop reading it, with False to resume. It may be called again with the
            same value.
    Attributes:
        frames: Number of frames that wait, without those of held links.
        queues: What waits by link, the next one first, without that of held links; never an empty deque.
    """

    def __init__(self, settings: Settings, is_known: Callable[[int], bool], pause: Callable[[int, bool], None]) -> None:
        self.frames: int = 0
        self.queues: dict[int, deque[LinkInput]] = {}
        self._units = settings.turn_units
        self._few = settings.turn_units // FEW_PART
        self._is_known = is_known
        self._pause = pause
        self._held: dict[int, deque[LinkInput]] = {}  # of links that may not go on now
        self._unread: set[int] = set()  # links that are not read until their queue is empty
        self._little_first = False  # whether unknown links of which little waits went first in the last turn

    def put(self, input: LinkInput) -> None:
        """Add an input behind the others of its link."""
        link = input.link
        if self._held and link in self._held:
            if type(input) is not LinkDown:
                self._held[link].append(input)
                return
            del self._held[link]  # like bytes that were not read when a connection ended: the next link brings them
        queue = self.queues.get(link)
        if queue is None:
            self.queues[link] = deque((input,))
        else:
            queue.append(input)
        if type(input) is Got:
            self.frames += len(input.frames)

    def take_known(self, *, disk_is_behind: bool = False) -> list[LinkInput]:
        """Remove and return what of contacts is handled in this turn, in order. end() ends the turn.

        While the disk is behind, that is nothing but what those sent who had sent little before.
        """
        links = [link for link in self.queues if self._is_known(link)]
        if disk_is_behind:
            links = [link for link in links if link not in self._unread]
        return self._take(links, self._units)

    def take_unknown(self, *, only_little: bool = False) -> list[LinkInput]:
        """Remove and return what of unknown peers is handled in this turn, in order. end() ends the turn.

        With `only_little`, that is little in all, of links of which little waits.
        """
        links = [link for link in self.queues if not self._is_known(link)]
        if only_little:
            return self._take([link for link in links if self._has_little(link)], self._few)
        if self.frames > self._few:
            self._little_first = not self._little_first
            if self._little_first:
                links.sort(key=self._has_little, reverse=True)  # in each half, who waited longest is still first
        return self._take(links, self._units)

    def put_back(self, inputs: Sequence[LinkInput], last: int) -> None:
        """Have inputs wait again for which there was no time, before all but link `last`, which had its turn."""
        rest, self.queues = self.queues, {}
        for link in dict.fromkeys(input.link for input in inputs):
            queue = deque(input for input in inputs if input.link == link)
            if link not in self._held:
                self.queues[link] = queue
                self.frames += sum(len(input.frames) for input in queue if type(input) is Got)
            elif type(queue[-1]) is LinkDown:
                del self._held[link]  # as in put()
                self.queues[link] = deque((queue[-1],))
            else:
                self._held[link].extendleft(reversed(queue))
        for link, queue in rest.items():
            self.queues.setdefault(link, deque()).extend(queue)
        if last in self.queues:
            self.queues[last] = self.queues.pop(last)

    def may_take(self, *, disk_is_behind: bool) -> bool:
        """Return whether anything would be taken in another turn."""
        if not disk_is_behind:
            return bool(self.queues)
        return any(link not in self._unread and self._is_known(link) for link in self.queues)

    def _has_little(self, link: int) -> bool:
        """Return whether little of a link waits."""
        units = 0
        for input in self.queues[link]:
            for frame in input.frames if type(input) is Got else ():
                units += units_of(frame)
                if units > self._few:
                    return False
        return True

    def _take(self, links: list[int], left: int) -> list[LinkInput]:
        """Take from one link after the other, each once, up to `left` units. Those that had theirs come last."""
        taken: list[LinkInput] = []
        if self.frames <= self._few < left:
            for link in links:
                for input in self.queues.pop(link):
                    taken.append(input)
                    if type(input) is Got:
                        self.frames -= len(input.frames)
            return taken
        for link in links:
            queue = self.queues.pop(link)
            while queue and left > 0:
                input, units = _split(queue, left)
                taken.append(input)
                left -= units
                if type(input) is Got:
                    self.frames -= len(input.frames)
            if queue:
                self.queues[link] = queue
            if left <= 0:
                break
        return taken

    def end(self) -> None:
        """End a turn: read no link of which something waits, and the others again."""
        if not self.queues and not self._unread:
            return
        for link in self.queues.keys() - self._unread:
            self._pause(link, True)
        for link in self._unread - self.queues.keys() - self._held.keys():
            self._pause(link, False)
        self._unread = set(self.queues)

    def hold(self, link: int) -> None:
        """Handle and read nothing more of a link until release()."""
        if link not in self._held:
            queue = self._held[link] = self.queues.pop(link, deque())
            self.frames -= sum(len(input.frames) for input in queue if type(input) is Got)
            self._pause(link, True)

    def release(self, link: int) -> None:
        """Let a link go on; does nothing when it is not held."""
        queue = self._held.pop(link, None)
        if queue is None:
            return
        if queue:
            self.queues[link] = queue
            self._unread.add(link)
            self.frames += sum(len(input.frames) for input in queue if type(input) is Got)
        else:
            self._pause(link, False)


def _split(queue: deque[LinkInput], most: int) -> tuple[LinkInput, int]:
    """Remove the next input, or its first frames when it takes more than `most` units. Return it with its units."""
    input = queue.popleft()
    if type(input) is not Got or not input.frames:
        return input, 1
    units = count = 0
    while units < most and count < len(input.frames):
        units += units_of(input.frames[count])
        count += 1
    if count < len(input.frames):
        queue.appendleft(Got(input.link, input.frames[count:]))
        input = Got(input.link, input.frames[:count])
    return input, units


def parts_of(input: LinkInput, most: int) -> Iterator[LinkInput]:
    """Yield an input in parts of at most `most` units, between which others may have their turn.

    Entries of one read stay together as far as possible, since they are proven together.
    """
    if type(input) is not Got or len(input.frames) < 2:
        yield input
        return
    start = units = 0
    for at, frame in enumerate(input.frames):
        more = units_of(frame) * (1 if type(frame) is Entries else PART_FACTOR)
        if at > start and units + more > most:
            yield Got(input.link, input.frames[start:at])
            start, units = at, 0
        units += more
    yield Got(input.link, input.frames[start:]) if start else input


def split_frames(input: LinkInput) -> LinkInput:
    """Return an input in which frames about many users or with many statements are several frames, so that others have
    their turn between.

    If a later one breaks a rule, the users of the earlier ones end with the link.
    """
    if type(input) is not Got:
        return input
    return Got(input.link, [part for frame in input.frames for part in _pages_of(frame)])


def is_page(input: LinkInput) -> bool:
    """Return whether an input has as many statements as take a turn of their own, with what follows from them."""
    frames = input.frames if type(input) is Got else ()
    return any(type(frame) is Members and len(frame.s) == STATEMENTS_A_PART for frame in frames)


def _pages_of(frame: Frame | Unknown) -> Iterator[Frame | Unknown]:
    """Yield a frame, or its pages: of a `here` with many certified users all but the last say that more comes."""
    if type(frame) is Here:
        users = frame.users
        while sum(user.cert is not None for user in users) > USERS_A_PART:
            yield Here(users[:USERS_A_PART], more=True)
            users = users[USERS_A_PART:]
        if len(users) < len(frame.users):
            frame = Here(users, frame.gone, frame.more)
    elif type(frame) is Members:
        for first in range(0, len(frame.s) - STATEMENTS_A_PART, STATEMENTS_A_PART):
            yield Members(frame.founder, s=frame.s[first : first + STATEMENTS_A_PART])
        rest = frame.s[(len(frame.s) - 1) // STATEMENTS_A_PART * STATEMENTS_A_PART :]
        frame = Members(frame.founder, frame.sum, frame.ask, frame.have, frame.more, rest) if frame.s else frame
    yield frame


class CommitsInFlight:
    """Commits that storage has not answered yet, and the back-pressure they cause.

    While more than `limit` received entries are in flight, no link is read. Reading resumes at half of the limit. Own
    entries do not count: their writers wait for them.

    Args:
        limit: Number of received entries.
        flood_units: While received commits have so many units of work, `is_behind` is true.
        pause: Called with True to pause reading, with False to resume it.
    Attributes:
        own: Number of commits in flight with entries of our users.
        paused: Whether reading is paused.
    """

    def __init__(self, limit: int, flood_units: int, pause: Callable[[bool], None]) -> None:
        self.own: int = 0
        self.paused: bool = False
        self._limit = limit
        self._flood_units = flood_units
        self._pause = pause
        self._commits: dict[int, tuple[Commit, int, int]] = {}  # by ticket, with its received entries and their units
        self._received = 0  # entries
        self._units = 0  # of the same commits

    def __bool__(self) -> bool:
        """Return whether anything is on its way to the disk."""
        return bool(self._commits)

    @property
    def is_behind(self) -> bool:
        """Return whether the disk has enough to do: who floods waits."""
        return self._units >= self._flood_units

    def add(self, commit: Commit) -> None:
        """Add a commit that goes to storage now."""
        entries, units = (0, 0) if commit.own else _work_in(commit.change)
        self._commits[commit.ticket] = commit, entries, units
        self.own += commit.own
        self._received += entries
        self._units += units
        if not self.paused and self._received > self._limit:
            self.paused = True
            self._pause(True)

    def fail(self, epoch: int) -> list[Change]:
        """Remove the commits of this epoch and earlier ones, which will not be stored; return their changes."""
        return [self.remove(ticket) for ticket, (commit, *_) in list(self._commits.items()) if commit.epoch <= epoch]

    def remove(self, ticket: int) -> Change:
        """Remove a commit that was answered; return its change."""
        commit, entries, units = self._commits.pop(ticket)
        self.own -= commit.own
        self._received -= entries
        self._units -= units
        if self.paused and self._received <= self._limit // 2:
            self.paused = False
            self._pause(False)
        return commit.change


def _work_in(change: Change) -> tuple[int, int]:
    """Return the number of entries in a change, and the units of work."""
    entries = sum([len(batch.raws) for batch in change.batches])
    return entries, entries + BATCH_UNITS * len(change.batches) + NEW_LOG_UNITS * len(change.logs)
