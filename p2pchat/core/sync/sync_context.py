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
    durable: dict[LogId, int] = field(default_factory=dict)  # how far running logs were durable when reading began


@dataclass(slots=True, eq=False)
class RemoteState:
    """The far end of one link."""

    link: PeerLink
    acked: dict[Key, dict[RunId, Mark]] = field(default_factory=dict)  # of writers hosted here
    ahead: dict[Key, dict[RunId, Mark]] = field(default_factory=dict)  # what it holds and this node lacks
    compared: KeySet[ConversationId] = field(default_factory=dict)
    all_compared: bool = False  # also every conversation that began since
    marks_through: dict[ConversationId, UserId] = field(default_factory=dict)  # marks told up to this user
    sums_through: ConversationId = ""
    differing: KeySet[ConversationId] = field(default_factory=dict)  # sums differed, marks not all told yet
    known_users: KeySet[UserId] = field(default_factory=dict)  # whom it hosted when comparing began, or nobody knew
    comparing: bool = False
    digest_sent: bool = False  # since comparing began
    had_random_digest: bool = False  # got a digest of those that go to one link after the other
    digest_timer: Timer | None = None  # when the digest is told again, until everything is compared
    ahead_count: int = 0  # marks in `ahead`
    lookups_pending: int = 0  # marks that storage was asked about
    named: KeySet[ConversationId] = field(default_factory=dict)
    groups_announced: KeySet[ConversationId] = field(default_factory=dict)  # groups of which it told marks or sums
    wants: dict[int, Key] = field(default_factory=dict)
    next_want: int = 1
    served_wants: dict[int, ServedWant] = field(default_factory=dict)
    cursors: dict[LogId, TailCursor] = field(default_factory=dict)
    owed_marks: KeySet[Key] = field(default_factory=dict)
    refusals: dict[Key, list[Mark] | None] = field(default_factory=dict)  # takes no more of it; its marks since
    full_sent_at: dict[Key, float] = field(default_factory=dict)  # told that no more is taken, when (monotonic)
    forks_sent: KeySet[LogId] = field(default_factory=dict)  # forked logs whose evidence was sent
    forks_owed: KeySet[LogId] = field(default_factory=dict)  # of users hosted there: before any mark
    evidence: Batch | None = None  # one of the two batches that prove a fork, until the other comes

    @property
    def accepts_marks(self) -> bool:
        """Return whether marks and sums may be told now; what is not told is told later."""
        return not self.link.full and not self.forks_owed

    def has_compared(self, conversation: ConversationId) -> bool:
        """Return whether the first comparison of this conversation is over."""
        return self.all_compared or conversation in self.compared

    def is_serving(self, key: Key) -> bool:
        return any(serving.key == key for serving in self.served_wants.values())

    def claims(self, conversation: ConversationId, ref: Ref) -> bool:
        """Return whether it told a mark of an entry that is not here."""
        for (where, user), marks in self.ahead.items():
            mark = marks.get(ref.log[16:]) if where == conversation and user[:16] == ref.log[:16] else None
            if mark is not None and mark.seq >= ref.seq:
                return True
        return False

    def on_refused(self, key: Key) -> None:
        """It said that it takes no more of a writer."""
        if len(self.refusals) < MAX_REMEMBERED:
            self.refusals[key] = None

    def on_marks(self, key: Key, marks: list[Mark]) -> None:
        """Whoever tells other marks than before of what it refused may take more again."""
        if key in self.refusals and self.refusals[key] in (None, marks):
            self.refusals[key] = marks
        else:
            self.refusals.pop(key, None)

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
    writes: list[tuple[int, LogId, int, int, str]] = field(default_factory=list)  # ticket, log, first, count, kind
    sources: dict[int, set[Key]] = field(default_factory=dict)  # link (or NO_LINK) -> what came by it
    imports: dict[int, PendingImport] = field(default_factory=dict)  # by ticket: what of files is kept
    groups: set[ConversationId] = field(default_factory=set)  # what was written to them
    sent_bytes: dict[int, int] = field(default_factory=dict)  # link -> bytes of new entries written to it in this step
    effects: list[Effect] = field(default_factory=list)  # to be told when all this is durable


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
        self.remotes: dict[int, RemoteState] = {}
        self._owing: dict[int, RemoteState] = {}  # far ends with marks to be told, by link
        self.transaction = Transaction()
        self.discarded = False  # thrown away after storage failed: its timers do nothing any more
        self.faults: list[tuple[RemoteState, LogError]] = []  # links to be closed at the end of the step
        self.proven_forks: set[LogId] = set()  # evidence of them came, and storage is asked what is held of them
        self.banned: dict[PeerId, float] = {}  # who sent a wrong head -> until when (monotonic)

    def is_up(self, remote: RemoteState) -> bool:
        return self.remotes.get(remote.link.id) is remote

    @property
    def page_size(self) -> int:
        """How many sums or marks go into one frame: with `names` a frame of 1,000 would not fit."""
        return min(self.ctx.settings.page_marks, MAX_PAGE)

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call back once, this long from now, unless storage failed meanwhile."""
        return self.ctx.after(seconds, lambda: None if self.discarded else call())

    def fail(self, remote: RemoteState, error: LogError) -> None:
        """Note that a far end broke the rules of logs."""
        self.faults.append((remote, error))

    def ban(self, peer: PeerId) -> None:
        """A peer sent a wrong head: for an hour it is believed nothing but what its own users write."""
        now = self.ctx.now.mono
        self.banned = {each: until for each, until in self.banned.items() if until > now}
        self.banned[peer] = now + self.ctx.settings.wrong_head_ban

    def trusts(self, remote: RemoteState, user: UserId) -> bool:
        """Return whether entries of this user are taken from that far end."""
        until = self.banned.get(remote.link.peer, 0.0) if self.banned else 0.0
        return until <= self.ctx.now.mono or user in self.presence.users_of(remote.link.id)

    def change_run_if_cloned(self, log: LogId) -> None:
        """Somebody else wrote in this log: if that was a copy of this process, logs begun here get another run.

        Whoever wrote it: who is not hosted here now may be soon, and a log that is covered by then is in storage only.
        """
        if log.run == self.run:
            self.run = self.ctx.draw(8).hex()

    def store_naming(self, conversation: ConversationState) -> None:
        """Something is stored of a conversation: what its id stands for is stored with it."""
        if not conversation.is_stored:
            conversation.is_stored = True
            self.ctx.change.conversations.append(KnownConversation(conversation.id, conversation.naming))

    def sweep_conversations(self) -> None:
        """Forget the conversations that were named to this node and of which there is nothing."""
        self.conversations.sweep(lambda conversation: bool(self.remotes_sharing(conversation)))

    def send_full(self, remote: RemoteState, key: Key) -> None:
        """Tell a far end that no more of this user is taken in this conversation; not with each frame it sends."""
        now, told_at = self.ctx.now.mono, remote.full_sent_at.get(key)
        if told_at is not None and now - told_at < self.ctx.settings.want_after:
            return
        if len(remote.full_sent_at) >= MAX_REMEMBERED:
            remote.full_sent_at.clear()
        remote.full_sent_at[key] = now
        self.send(Have({}, full={key[0]: [key[1]]}), remote, key[0])

    def shares(self, remote: RemoteState, conversation: ConversationState) -> bool:
        users = self.presence.users_of(remote.link.id)
        return conversation.shared_with(users) and (
            not conversation.named_only_by_void
            or conversation.id in remote.groups_announced
            or self._knows_group(users, conversation)
        )

    def _knows_group(self, users: Collection[UserId], conversation: ConversationState) -> bool:
        """Return whether a far end knows for sure of a group what makes it shared: not all had what counts no more."""
        assert conversation.members is not None
        known = conversation.members - conversation.named_only_by_void
        return not (known.isdisjoint(users) or known.isdisjoint(self.hosted.keys()))

    def remotes_sharing(self, conversation: ConversationState) -> list[RemoteState]:
        """Return the far ends told of a conversation: those whose hosted users are known and belong to it."""
        return [remote for remote in self.remotes.values() if remote.comparing and self.shares(remote, conversation)]

    def shared_conversations(self, remote: RemoteState) -> list[ConversationState]:
        """Return the conversations with entries shared with a far end, by id in order."""
        every = self.conversations.by_id
        return [every[id] for id in sorted(every) if every[id].writers and self.shares(remote, every[id])]

    def find_conversation(self, remote: RemoteState, conversation: ConversationId) -> ConversationState | None:
        """Return a conversation the far end speaks of; None (and counted) when it is unknown or not shared.

        Of what was written to a group everybody is listened to: an operation that nobody told here may have named them.
        What this side tells it tells only those with whom it `shares` the group.
        """
        found = self.conversations.by_id.get(conversation)
        if found is None or not (found.is_operations or self.shares(remote, found)):
            self.ctx.emit(Counted("conversation_ignored"))
            return None
        return found

    def learn_namings(self, remote: RemoteState, namings: Iterable[Naming]) -> None:
        """Take the far end's word for what conversation ids stand for; ids are computed, so it cannot lie."""
        users = self.presence.users_of(remote.link.id)
        for naming in namings:
            if naming.group:
                self.conversations.open_group(naming, users, remote.link.peer)
                continue
            if naming.dm and not (set(naming.dm) & self.hosted.keys() and set(naming.dm) & users):
                continue
            if not self.conversations.open_provisional(naming, self.ctx.settings.max_conversations_a_user):
                self.ctx.emit(Counted("conversation_refused"))

    def send(self, frame: NamingFrame, remote: RemoteState, *conversations: ConversationId) -> None:
        """Send a frame that mentions these conversations, named where the link has not heard of them."""
        new = [id for id in conversations if id not in remote.named]
        if new:
            remote.named.update(dict.fromkeys(new))
            frame.names = [self.conversations.by_id[id].naming for id in new]
        self.ctx.emit(Send(frame, [remote.link.id]))

    def owe_marks(self, remote: RemoteState, keys: Iterable[Key]) -> None:
        """Tell a far end these marks at the end of the step, or as soon as it may hear them."""
        remote.owed_marks.update(dict.fromkeys(keys))  # no queue: what it has to be told waits there, each key once
        self._owing[remote.link.id] = remote

    def send_owed_marks(self) -> None:
        """Tell the marks that are due, as one frame a link."""
        if not self._owing:
            return  # asked at every step of a node
        owing, self._owing = self._owing, {}
        for id, remote in owing.items():
            if not self.is_up(remote):
                continue
            if remote.accepts_marks:
                keys, remote.owed_marks = sorted(remote.owed_marks.keys() - remote.refusals.keys()), {}
                self._send_marks(remote, keys)
            else:
                self._owing[id] = remote

    def _send_marks(self, remote: RemoteState, keys: list[Key]) -> None:
        page, count = Marks(), 0
        for conversation, user in keys:
            there = self.conversations.by_id[conversation]
            if there.group is not None and not self.shares(remote, there):
                continue  # who was removed meanwhile
            writer = there.writers.get(user)
            marks = writer.marks() if writer else []
            page.setdefault(conversation, {})[user] = marks
            count += max(1, len(marks))
            if count >= self.page_size:
                self.send(Have(page), remote, *page)
                page, count = Marks(), 0
        if page:
            self.send(Have(page), remote, *page)
