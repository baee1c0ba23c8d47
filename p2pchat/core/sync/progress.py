"""What this node knows of the far end of each link, as far as entries go, and what it is about to tell it.

Marks, cursors and wants belong to a link and die with it. To stay small, marks heard are kept only where they are
needed: of writers hosted here (for receipts and for pushing), and where they are ahead of what is held (to fetch).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from p2pchat.core.context import Context, HostedIdentities, KeySet, Timer
from p2pchat.core.effects import Counted, Effect, Send
from p2pchat.core.log import Batch, LogId, Ref
from p2pchat.core.mesh.link import PeerLink
from p2pchat.core.mesh.presence import PresenceTracker
from p2pchat.core.records import KnownConversation, Start
from p2pchat.core.sync.conversations import Conversations
from p2pchat.core.sync.log_index import ConversationState
from p2pchat.core.sync.lookups import Lookups
from p2pchat.core.sync.quota import Quota
from p2pchat.errors import LogError
from p2pchat.protocol import (
    ConversationId,
    Digest,
    Entries,
    Have,
    Mark,
    Marks,
    Naming,
    PeerId,
    ReadFrame,
    RunId,
    TypingFrame,
    UserId,
    Want,
)

NO_LINK = -1  # what came in a file; links have numbers from 1
MAX_PAGE = 500  # always fits a frame: docs/protocol.md, "Limits"
MAX_REMEMBERED = 10_000  # marks of one link kept because they are ahead, and as many asked of storage; a guess: 5 MiB
Key = tuple[ConversationId, UserId]
NamingFrame = Digest | Have | Want | Entries | ReadFrame | TypingFrame  # frames that carry `names`


@dataclass(slots=True)
class TailCursor:
    """How far a log of a hosted user was written to a link."""

    sent: int
    reading: bool = False  # a read from storage is under way
    behind: bool = False  # the cursor stands below the tip


@dataclass(slots=True)
class ServedWant:
    """A want of the far end that is being answered."""

    n: int
    key: Key
    start: Start  # where to read on
    reading: bool = False
    kept: dict[LogId, int] = field(default_factory=dict)  # how far running logs were durable when reading began


@dataclass(slots=True, eq=False)
class RemoteState:
    """The far end of one link."""

    link: PeerLink
    heard: dict[Key, dict[RunId, Mark]] = field(default_factory=dict)  # of writers hosted here
    ahead: dict[Key, dict[RunId, Mark]] = field(default_factory=dict)  # what it holds and this node lacks
    compared: KeySet[ConversationId] = field(default_factory=dict)
    all_compared: bool = False  # also every conversation that began since
    pages_to: dict[ConversationId, UserId] = field(default_factory=dict)  # marks told up to this user
    sums_to: ConversationId = ""
    differing: KeySet[ConversationId] = field(default_factory=dict)  # sums differed, marks not all told yet
    sharing_seen: KeySet[UserId] = field(default_factory=dict)  # whom it hosted when comparing began, or nobody knew
    begun: bool = False
    sum_told: bool = False  # since comparing began
    had_turn: bool = False  # got a digest of those that go to one link after the other
    insisting: Timer | None = None  # when the digest is told again, until everything is compared
    ahead_count: int = 0  # marks in `ahead`
    unsure: int = 0  # marks that storage was asked about
    named: KeySet[ConversationId] = field(default_factory=dict)
    spoken: KeySet[ConversationId] = field(default_factory=dict)  # groups of which it told marks or sums
    wants: dict[int, Key] = field(default_factory=dict)
    next_want: int = 1
    serving: dict[int, ServedWant] = field(default_factory=dict)
    tails: dict[LogId, TailCursor] = field(default_factory=dict)
    tell: KeySet[Key] = field(default_factory=dict)
    refused: dict[Key, list[Mark] | None] = field(default_factory=dict)  # takes no more of it; its marks since
    full_told: dict[Key, float] = field(default_factory=dict)  # told that no more is taken, when (monotonic)
    forks_told: KeySet[LogId] = field(default_factory=dict)  # forked logs whose evidence was sent
    forks_owed: KeySet[LogId] = field(default_factory=dict)  # of users hosted there: before any mark
    evidence: Batch | None = None  # one of the two batches that prove a fork, until the other comes

    @property
    def hears_marks(self) -> bool:
        """Say whether marks and sums may be told now; what is not told is told later."""
        return not self.link.full and not self.forks_owed

    def knows(self, conversation: ConversationId) -> bool:
        """Say whether the first comparison of this conversation is over."""
        return self.all_compared or conversation in self.compared

    def serves(self, key: Key) -> bool:
        return any(serving.key == key for serving in self.serving.values())

    def holds(self, conversation: ConversationId, ref: Ref) -> bool:
        """Say whether it told a mark of an entry that is not here."""
        for (where, user), marks in self.ahead.items():
            mark = marks.get(ref.log[16:]) if where == conversation and user[:16] == ref.log[:16] else None
            if mark is not None and mark.seq >= ref.seq:
                return True
        return False

    def refuses(self, key: Key) -> None:
        """It said that it takes no more of a writer."""
        if len(self.refused) < MAX_REMEMBERED:
            self.refused[key] = None

    def told_marks(self, key: Key, marks: list[Mark]) -> None:
        """Whoever tells other marks than before of what it refused may take more again."""
        if key in self.refused and self.refused[key] in (None, marks):
            self.refused[key] = marks
        else:
            self.refused.pop(key, None)

    def set_ahead(self, key: Key, marks: dict[RunId, Mark]) -> bool:
        """Remember what it holds of a writer and this node lacks, in place of what was known; False if that is much."""
        self.ahead_count -= len(self.ahead.pop(key, ()))
        if not marks:
            return True
        if self.ahead_count + len(marks) > MAX_REMEMBERED:
            return False
        self.ahead[key] = marks
        self.ahead_count += len(marks)
        return True

    def add_ahead(self, key: Key, mark: Mark) -> bool:
        return self.set_ahead(key, {**self.ahead.get(key, {}), mark.run: mark})


@dataclass(slots=True, eq=False)
class PendingImport:
    """Frames of a file that are answered together."""

    ticket: int
    undecided: int = 0  # frames that wait for storage to find logs
    commits: int = 0  # with something of it, not durable yet
    new: int = 0  # entries
    known: int = 0
    foreign: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # entries by code


@dataclass(slots=True)
class Transaction:
    """What belongs to one step: what its change needs when it is durable, and what links were given in it."""

    own: bool = False
    said: list[tuple[int, LogId, int, int, str]] = field(default_factory=list)  # ticket, log, first, count, kind
    sources: dict[int, set[Key]] = field(default_factory=dict)  # link (or NO_LINK) -> what came by it
    loads: dict[int, PendingImport] = field(default_factory=dict)  # by ticket: what of files is kept
    groups: set[ConversationId] = field(default_factory=set)  # what was written to them
    given: dict[int, int] = field(default_factory=dict)  # link -> bytes of new entries written to it in this step
    news: list[Effect] = field(default_factory=list)  # to be told when all this is durable


class SyncContext:
    """What the machines of synchronisation share."""

    def __init__(
        self, ctx: Context, conversations: Conversations, lookups: Lookups, presence: PresenceTracker,
        hosted: HostedIdentities, run: RunId, quota: Quota,
    ) -> None:  # fmt: skip
        self.ctx = ctx
        self.quota = quota
        self.run = run  # of the logs that hosted users begin
        self.conversations = conversations
        self.lookups = lookups
        self.presence = presence
        self.hosted = hosted
        self.sides: dict[int, RemoteState] = {}
        self._owing: dict[int, RemoteState] = {}  # far ends with marks to be told, by link
        self.step = Transaction()
        self.dead = False  # thrown away after storage failed: its timers do nothing any more
        self.faults: list[tuple[RemoteState, LogError]] = []  # links to be closed at the end of the step
        self.proven_forks: set[LogId] = set()  # evidence of them came, and storage is asked what is held of them
        self.banned: dict[PeerId, float] = {}  # who sent a wrong head -> until when (monotonic)

    def is_up(self, side: RemoteState) -> bool:
        return self.sides.get(side.link.id) is side

    @property
    def page(self) -> int:
        """How many sums or marks go into one frame: with `names` a frame of 1,000 would not fit."""
        return min(self.ctx.settings.page_marks, MAX_PAGE)

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call back once, this long from now, unless storage failed meanwhile."""
        return self.ctx.after(seconds, lambda: None if self.dead else call())

    def faulted(self, side: RemoteState, error: LogError) -> None:
        """Note that a far end broke the rules of logs."""
        self.faults.append((side, error))

    def ban(self, peer: PeerId) -> None:
        """A peer sent a wrong head: for an hour it is believed nothing but what its own users write."""
        now = self.ctx.now.mono
        self.banned = {each: until for each, until in self.banned.items() if until > now}
        self.banned[peer] = now + self.ctx.settings.wrong_head_ban

    def trusts(self, side: RemoteState, user: UserId) -> bool:
        """Say whether entries of this user are taken from that far end."""
        until = self.banned.get(side.link.peer, 0.0) if self.banned else 0.0
        return until <= self.ctx.now.mono or user in self.presence.users_of(side.link.id)

    def taken(self, log: LogId) -> None:
        """Somebody else wrote in this log: if that was a copy of this process, logs begun here get another run.

        Whoever wrote it: who is not hosted here now may be soon, and a log that is covered by then is in storage only.
        """
        if log.run == self.run:
            self.run = self.ctx.draw(8).hex()

    def store(self, conversation: ConversationState) -> None:
        """Something is stored of a conversation: what its id stands for is stored with it."""
        if not conversation.stored:
            conversation.stored = True
            self.ctx.change.talks.append(KnownConversation(conversation.id, conversation.naming))

    def sweep(self) -> None:
        """Forget the conversations that were named to this node and of which there is nothing."""
        self.conversations.sweep(lambda conversation: bool(self.sharing(conversation)))

    def refuse(self, side: RemoteState, key: Key) -> None:
        """Tell a far end that no more of this user is taken in this conversation; not with each frame it sends."""
        now, told_at = self.ctx.now.mono, side.full_told.get(key)
        if told_at is not None and now - told_at < self.ctx.settings.want_after:
            return
        if len(side.full_told) >= MAX_REMEMBERED:
            side.full_told.clear()
        side.full_told[key] = now
        self.send(Have({}, full={key[0]: [key[1]]}), side, key[0])

    def shares(self, side: RemoteState, conversation: ConversationState) -> bool:
        users = self.presence.users_of(side.link.id)
        return conversation.shared_with(users) and (
            not conversation.named_only_by_void or conversation.id in side.spoken or self._knows(users, conversation)
        )

    def _knows(self, users: Collection[UserId], conversation: ConversationState) -> bool:
        """Say whether a far end knows for sure of a group what makes it shared: not all had what counts no more."""
        assert conversation.members is not None
        known = conversation.members - conversation.named_only_by_void
        return not (known.isdisjoint(users) or known.isdisjoint(self.hosted.keys()))

    def sharing(self, conversation: ConversationState) -> list[RemoteState]:
        """Return the far ends told of a conversation: those whose hosted users are known and belong to it."""
        return [side for side in self.sides.values() if side.begun and self.shares(side, conversation)]

    def shared(self, side: RemoteState) -> list[ConversationState]:
        """Return the conversations with entries shared with a far end, by id in order."""
        every = self.conversations.by_id
        return [every[id] for id in sorted(every) if every[id].writers and self.shares(side, every[id])]

    def named(self, side: RemoteState, conversation: ConversationId) -> ConversationState | None:
        """Return a conversation the far end speaks of; None (and counted) when it is unknown or not shared.

        Of what was written to a group everybody is listened to: an operation that nobody told here may have named them.
        What this side tells it tells only those with whom it `shares` the group.
        """
        found = self.conversations.by_id.get(conversation)
        if found is None or not (found.is_open or self.shares(side, found)):
            self.ctx.emit(Counted("conversation_ignored"))
            return None
        return found

    def learn(self, side: RemoteState, namings: Iterable[Naming]) -> None:
        """Take the far end's word for what conversation ids stand for; ids are computed, so it cannot lie."""
        users = self.presence.users_of(side.link.id)
        for naming in namings:
            if naming.group:
                self.conversations.name_group(naming, users, side.link.peer)
                continue
            if naming.dm and not (set(naming.dm) & self.hosted.keys() and set(naming.dm) & users):
                continue
            if not self.conversations.open_passing(naming, self.ctx.settings.max_conversations_a_user):
                self.ctx.emit(Counted("conversation_refused"))

    def send(self, frame: NamingFrame, side: RemoteState, *conversations: ConversationId) -> None:
        """Send a frame that mentions these conversations, named where the link has not heard of them."""
        new = [id for id in conversations if id not in side.named]
        if new:
            side.named.update(dict.fromkeys(new))
            frame.names = [self.conversations.by_id[id].naming for id in new]
        self.ctx.emit(Send(frame, [side.link.id]))

    def owe(self, side: RemoteState, keys: Iterable[Key]) -> None:
        """Tell a far end these marks at the end of the step, or as soon as it may hear them."""
        side.tell.update(dict.fromkeys(keys))  # no queue: what it has to be told waits there, each key once
        self._owing[side.link.id] = side

    def told(self) -> None:
        """Tell the marks that are due, as one frame a link."""
        if not self._owing:
            return  # asked at every step of a node
        owing, self._owing = self._owing, {}
        for id, side in owing.items():
            if not self.is_up(side):
                continue
            if side.hears_marks:
                keys, side.tell = sorted(side.tell.keys() - side.refused.keys()), {}
                self._tell(side, keys)
            else:
                self._owing[id] = side

    def _tell(self, side: RemoteState, keys: list[Key]) -> None:
        page, count = Marks(), 0
        for conversation, user in keys:
            there = self.conversations.by_id[conversation]
            if there.group is not None and not self.shares(side, there):
                continue  # who was removed meanwhile
            writer = there.writers.get(user)
            marks = writer.marks() if writer else []
            page.setdefault(conversation, {})[user] = marks
            count += max(1, len(marks))
            if count >= self.page:
                self.send(Have(page), side, *page)
                page, count = Marks(), 0
        if page:
            self.send(Have(page), side, *page)
