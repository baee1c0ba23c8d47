"""The replication state of each link: what the remote peer holds, lacks, refuses and was sent.

Marks, cursors and wants belong to a link and end with it. To save memory, the marks a peer announced are kept only
where they are needed: of writers hosted here (for receipts and for pushing), and where they are ahead of this node (to
fetch). Each machine has a part of its own here; sync_context.py holds the remotes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from p2pchat.core.durable_changes import Collected, Span, Start, field
from p2pchat.core.log import Batch, LogId, Ref, WriterKey, ref_key
from p2pchat.core.members.member_directory import MemberShares
from p2pchat.core.mesh.peer_link import PeerLink
from p2pchat.core.node_context import KeySet, Timer
from p2pchat.protocol import ConversationId, Mark, Naming, RunId, UserId

MAX_REMEMBERED = 10_000  # marks of a contact's link that are ahead or refused, of each kind; a guess: 5 MiB
MAX_REMEMBERED_UNKNOWN = 2_000  # the same of another link; comparing brings the rest; a guess: 1 MiB
MAX_DROPPED = 1_000  # writers of one link of whom logs are dropped; a guess: 700 KiB
MAX_REFUTED = 1_000  # writers of one link of whom it gave what nobody takes, before it ends; a guess
MAX_UNOPENED = 256  # direct conversations of one link for which there was no place; a guess: 100 KiB


TEXTS = -1  # the number in place of that of a want where texts are served unasked


class TailCursor(Collected):
    """Position up to which a log of a hosted user was written to a link."""

    sent: int
    reading: bool = False  # a read from storage is in progress
    behind: bool = False  # below the tip


class ServedWant(Collected):
    """A want of the remote peer that is being answered."""

    n: int
    key: WriterKey
    start: Start  # where to continue reading
    reading: bool = False
    durable: dict[LogId, int] = {}  # how far running logs were durable when it was asked


class Comparison(Collected, eq=False):
    """One comparison with a remote."""

    number: int = 0  # counted from 1; 0: none has begun
    is_over: bool = False
    digest_sent: bool = False
    digest_timer: Timer | None = None  # repeats the digest until it is over
    compared: KeySet[ConversationId] = {}
    sums_through: ConversationId = ""  # id up to which sums were received
    differing: KeySet[ConversationId] = {}  # sums differed, marks not complete yet
    marks_through: dict[ConversationId, UserId] = {}  # user up to whom marks were received


class ComparisonState(Collected, eq=False):
    """The comparisons with one remote, kept by AntiEntropy."""

    present: Comparison = field(default_factory=Comparison)  # or the last one
    ended: int = 0  # number of the last one that ended; one that gave way to the next never does
    ended_at: float = float("-inf")  # monotonic: when it did
    next_timer: Timer | None = None  # begins the next one; None: nobody waits for one
    known_users: KeySet[UserId] = {}  # its users when the present one began, and fresh ones
    digest_at: float = 0.0  # monotonic: when the last digest was sent
    equal: dict[ConversationId, str] = {}  # sums that were equal, and say nothing new again

    @property
    def number(self) -> int:
        return self.present.number

    @property
    def begun(self) -> bool:
        return self.number > 0

    @property
    def all_compared(self) -> bool:
        """True if all is compared, including conversations that began since."""
        return self.present.is_over and self.next_timer is None

    def is_over(self, conversation: ConversationId) -> bool:
        """Return whether the first comparison of this conversation is over."""
        return self.all_compared or conversation in self.present.compared


class MarkListing(Collected):
    """The pages of marks of one conversation that are being sent to one remote."""

    comparison: int  # number of the one that it began in
    span: tuple[UserId, UserId]  # of users, all pages together
    asks: bool  # for the marks of the remote
    next: UserId  # where the next page begins
    ends: deque[UserId]  # of the next pages; when there are none, those of the rest of the span are chosen
    heard: UserId = ""  # user up to whom marks of the remote came meanwhile


class PageListings(Collected, eq=False):
    """The conversations of which pages of marks are being sent to one remote, kept by MarkPages."""

    by_conversation: dict[ConversationId, MarkListing] = {}  # the first one goes on
    pong: int = 0  # the next page goes after it
    timer: Timer | None = None  # tries again


class OpenWants(Collected, eq=False):
    """The wants that were sent to one remote and have not ended, kept by Fetcher."""

    by_number: dict[int, WriterKey] = {}
    next: int = 1
    failed: int = 0  # wants that were given up since too little came
    asked_at: float = float("-inf")  # monotonic: when the first one was sent since then
    given_at: float = float("-inf")  # monotonic: when something came that was wanted
    incomplete: set[int] = set()  # open ones of whose answers something was dropped


class ServingState(Collected, eq=False):
    """The entries being sent to one remote, kept by Sender."""

    wants: dict[int, ServedWant] = {}
    cursors: dict[LogId, TailCursor] = {}
    texts: dict[LogId, tuple[Span, ...]] = {}  # of which it has stubs; they wait in turn

    def answers(self, key: WriterKey) -> bool:
        """Return whether a want of this writer is being answered."""
        return bool(self.wants) and any(want.key == key for want in self.wants.values() if want.n != TEXTS)


class ForkEvidence(Collected, eq=False):
    """The evidence of forks exchanged with one remote, or brought by files; kept by Forks."""

    sent: dict[LogId, float] = {}  # forked logs, and when it was sent (monotonic)
    owed: KeySet[LogId] = {}  # of users hosted there; it goes before any mark
    evidence: Batch | None = None  # the first of two batches that prove a fork, until the second comes


class RemoteState(Collected, eq=False):
    """The state of replication with the remote peer of one link."""

    link: PeerLink
    id: int = 0  # the number of the link
    comparison: ComparisonState = field(default_factory=ComparisonState)
    listings: PageListings = field(default_factory=PageListings)
    wants: OpenWants = field(default_factory=OpenWants)
    serving: ServingState = field(default_factory=ServingState)
    forks: ForkEvidence = field(default_factory=ForkEvidence)
    acked: dict[WriterKey, dict[RunId, Mark]] = {}  # marks of writers hosted here
    ahead: dict[WriterKey, dict[RunId, Mark]] = {}  # marks of what this node lacks
    ahead_refs: dict[tuple[ConversationId, str], int] = {}  # as references name them
    # Writers of whom it serves logs that are dropped here, since nobody named their members. What it was ahead with
    # after it had served everything would be served and dropped again and again.
    dropped: dict[WriterKey, set[Mark]] = {}
    told_missing: dict[LogId, Span] = {}  # it was told that texts are missing here
    told_in: int = -1  # the comparison in which it was told all of it; 0 before the first one
    lacks: dict[LogId, Span] = {}  # the same that it told
    lack_places: MemberShares[LogId] = field(default_factory=lambda: MemberShares(MAX_REMEMBERED))  # for these
    texts_given: dict[LogId, int] = {}  # up to where it was given what texts were here of it
    refuted: KeySet[WriterKey] = {}  # writers hosted elsewhere of whom it gave what nobody takes
    named: KeySet[ConversationId] = {}  # the room, and conversations whose names it was sent
    groups_refused: KeySet[ConversationId] = {}  # groups for which there was no place
    owed_marks: KeySet[WriterKey] = {}
    refusals: dict[WriterKey, list[Mark] | None] = {}  # it takes no more; its marks since
    full_sent_at: dict[WriterKey, float] = {}  # when it was sent `full` for these (monotonic)
    unopened: dict[ConversationId, Naming] = {}  # named here; no place, or nobody yet

    def __post_init__(self) -> None:
        self.id = self.link.id

    def forget_told(self) -> None:
        """Tell again what things are called and what is missing here: what came of it may have had no place."""
        self.named.clear()
        self.told_missing = {log: (0, 0) for log, (first, last) in self.told_missing.items() if first <= last}

    def gives_nothing(self, since: float) -> bool:
        """Return whether it has given nothing of what was wanted before this moment (monotonic)."""
        return self.wants.given_at < self.wants.asked_at <= since

    @property
    def accepts_marks(self) -> bool:
        """Return whether marks and sums may be sent now. If not, they are sent later."""
        return not self.link.full and not self.forks.owed

    def receivers(self, writers: Collection[UserId] | None, user: UserId) -> Collection[UserId]:
        """Return its users who are in a conversation of these writers (None: the room), without one who writes."""
        there = self.link.users.keys()
        return (there if writers is None else there & writers) - {user}

    def claims(self, conversation: ConversationId, ref: Ref) -> bool:
        """Return whether it announced a mark that covers an entry which is not here."""
        return self.ahead_refs.get((conversation, ref.log), 0) >= ref.seq

    def first_lacking(self, log: LogId, deleted: int) -> int:
        """Return from where on it may have stubs for texts of a log of a hosted user that are here; 0 for none."""
        first, last = self.lacks.get(log, (0, 0))
        return max(first, deleted + 1) if last > deleted else 0

    def on_lacks(self, log: LogId, part: Span, member: UserId) -> None:
        """Note in which part of a log texts are missing there, and at which member its writer counts.

        One member's logs take no places from others: whose text is unknown to be missing would count as delivered.
        """
        if part[0] > part[1]:
            self.lack_places.remove(log)
            self.lacks.pop(log, None)
        elif self.lack_places.take(log, member, self.lacks.pop):
            self.lacks[log] = part

    @property
    def _most_remembered(self) -> int:
        """The number of marks of each kind that are kept."""
        return MAX_REMEMBERED if self.link.known else MAX_REMEMBERED_UNKNOWN

    def on_refused(self, key: WriterKey) -> None:
        """Note that it accepts no further entries of a writer."""
        if key in self.refusals or len(self.refusals) < self._most_remembered:
            self.refusals[key] = None

    def on_marks(self, key: WriterKey, marks: list[Mark]) -> None:
        """Note marks of a refused writer. New ones mean that it may take more again."""
        if key in self.refusals and self.refusals[key] in (None, marks):
            self.refusals[key] = marks
        else:
            self.refusals.pop(key, None)

    def on_dropped(self, key: WriterKey) -> None:
        """Note that it serves a log of this writer that is dropped here."""
        if len(self.dropped) < MAX_DROPPED:
            self.dropped.setdefault(key, set())

    def note_unopened(self, conversation: ConversationId, naming: Naming) -> None:
        """Remember the name of a conversation for which there is no place, or nobody yet. A peer sends it once."""
        if len(self.unopened) < MAX_UNOPENED:
            self.unopened[conversation] = naming

    def names_unopened(self, users: Collection[UserId]) -> bool:
        """Return whether it named a conversation of one of these users that is not open here."""
        return any(user in users for naming in self.unopened.values() for user in naming.dm or ())

    def set_ahead(self, key: WriterKey, marks: dict[RunId, Mark]) -> bool:
        """Replace the marks of a writer that are ahead of this node. Return False if there would be too many."""
        if not marks and key not in self.ahead:
            return True  # mostly so, and a comparison may bring thousands
        for run in self.ahead.pop(key, ()):
            self.ahead_refs.pop((key[0], ref_key(key[1], run)), None)
        fits = len(self.ahead_refs) + len(marks) <= self._most_remembered
        if marks and fits:
            self.comparison.equal.pop(key[0], None)
            self.ahead[key] = marks
            self.ahead_refs |= {(key[0], ref_key(key[1], run)): mark.seq for run, mark in marks.items()}
        return fits or not marks

    def clear_ahead(self) -> None:
        """Note that it has nothing which this node lacks."""
        self.ahead.clear()
        self.ahead_refs.clear()
