"""The replication state of each link, and the context that the machines of synchronisation share.

Marks, cursors and wants belong to a link and end with it. To save memory, the marks a peer announced are kept only
where they are needed: of writers hosted here (for receipts and for pushing), and where they are ahead of this node (to
fetch).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sized
from dataclasses import dataclass, field
from functools import partial

from p2pchat.core.context import Context, HostedIdentities, KeySet, Timer
from p2pchat.core.effects import Counted, Effect, PauseReading, RequestBegun, Send
from p2pchat.core.inputs import PruneRequest
from p2pchat.core.log import Batch, LogId, Ref, WriterKey
from p2pchat.core.mesh.link import PeerLink
from p2pchat.core.mesh.presence import PresenceTracker
from p2pchat.core.records import KnownConversation, LogFacts, LogKey, PrunePlan, Start
from p2pchat.core.shares import RateLimit, TokenBucket, address_line
from p2pchat.core.sync.conversations import Conversations, dm_id
from p2pchat.core.sync.log_index import ConversationState
from p2pchat.core.sync.lookups import Lookups
from p2pchat.core.sync.message_requests import Requests
from p2pchat.core.sync.quota import Quota
from p2pchat.core.sync.refusals import Refusals, Refusers
from p2pchat.errors import LogError
from p2pchat.protocol import (
    ConversationId,
    Digest,
    Entries,
    Have,
    Mark,
    Marks,
    MarksFrame,
    Naming,
    PeerId,
    RefusedLog,
    RunId,
    TypingFrame,
    UserId,
    Want,
)

NO_LINK = -1  # entries of a file; links have numbers from 1
MAX_PAGE = 500  # always fits a frame: docs/protocol.md, "Limits"
MAX_REMEMBERED = 10_000  # marks of a contact's link that are ahead, refused or looked up, of each kind; a guess: 5 MiB
MAX_AHEAD_UNKNOWN = 2_000  # marks of another link that are ahead; comparing brings the rest; a guess: 1 MiB
MAX_ALIKE = 16  # writers ahead whose ids begin with the same 64 bits: one, unless somebody made them; a guess
MAX_REMEMBERED_UNKNOWN = 20_000  # marks of all these links, of all kinds, and as many in equal parts; a guess: 40 MiB
MAX_LOOKUPS_UNKNOWN = 1_000  # for all these links, and as many in equal parts: others' lookups wait for them; a guess
MARK_BYTES = 128  # of a mark in a frame, with the user, about
QUESTIONS_A_SECOND = 64  # to a link, whether it has an entry that something follows; a guess: 3 % of a core
MAX_QUESTIONS = 128  # at once; a guess
MAX_UNOPENED = 256  # direct conversations of one link for which there was no place; a guess: 100 KiB
NamingFrame = Digest | Have | Want | Entries | MarksFrame | TypingFrame  # frames with `names`


@dataclass(slots=True)
class TailCursor:
    """Position up to which a log of a hosted user was written to a link."""

    sent: int
    reading: bool = False  # a read from storage is in progress
    behind: bool = False  # below the tip


@dataclass(slots=True)
class ServedWant:
    """A want of the remote peer that is being answered."""

    n: int
    key: WriterKey
    start: Start  # where to continue reading
    reading: bool = False
    durable: dict[LogId, int] = field(default_factory=dict)  # how far running logs were durable when reading began
    refused: set[LogId] = field(default_factory=set)  # logs refused here whose batch was sent


@dataclass(slots=True, eq=False)
class Comparison:
    """The comparison with one remote, kept by AntiEntropy."""

    begun: bool = False
    known_users: KeySet[UserId] = field(default_factory=dict)  # its users when the comparison began, and fresh ones
    digest_sent: bool = False  # since the comparison began
    digest_timer: Timer | None = None  # repeats the digest until everything is compared
    had_random_digest: bool = False  # in this round of random digests
    all_compared: bool = False  # including conversations that began since
    compared: KeySet[ConversationId] = field(default_factory=dict)
    sums_through: ConversationId = ""  # id up to which sums were received
    differing: KeySet[ConversationId] = field(default_factory=dict)  # sums differed, marks not complete yet
    marks_through: dict[ConversationId, UserId] = field(default_factory=dict)  # user up to whom marks were received

    def is_over(self, conversation: ConversationId) -> bool:
        """Return whether the first comparison of this conversation is over."""
        return self.all_compared or conversation in self.compared


@dataclass(slots=True, eq=False)
class OpenWants:
    """The wants that were sent to one remote and have not ended, kept by Fetcher."""

    by_number: dict[int, WriterKey] = field(default_factory=dict)
    next: int = 1
    failed: int = 0  # wants that were given up since too little came
    questions: TokenBucket = field(default_factory=lambda: TokenBucket(QUESTIONS_A_SECOND, MAX_QUESTIONS, 0.0))


@dataclass(slots=True, eq=False)
class Serving:
    """The entries being sent to one remote, kept by Sender."""

    wants: dict[int, ServedWant] = field(default_factory=dict)
    cursors: dict[LogId, TailCursor] = field(default_factory=dict)

    def answers(self, key: WriterKey) -> bool:
        """Return whether a want of this writer is being answered."""
        return any(want.key == key for want in self.wants.values())


@dataclass(slots=True, eq=False)
class ForkEvidence:
    """The evidence of forks exchanged with one remote, or brought by files; kept by Forks."""

    sent: KeySet[LogId] = field(default_factory=dict)  # forked logs
    owed: KeySet[LogId] = field(default_factory=dict)  # of users hosted there; it goes before any mark
    evidence: Batch | None = None  # the first of two batches that prove a fork, until the second comes


@dataclass(slots=True, eq=False)
class RemoteState:
    """The state of replication with the remote peer of one link."""

    link: PeerLink
    comparison: Comparison = field(default_factory=Comparison)
    wants: OpenWants = field(default_factory=OpenWants)
    serving: Serving = field(default_factory=Serving)
    forks: ForkEvidence = field(default_factory=ForkEvidence)
    acked: dict[WriterKey, dict[RunId, Mark]] = field(default_factory=dict)  # marks of writers hosted here
    ahead: dict[WriterKey, dict[RunId, Mark]] = field(default_factory=dict)  # marks of what this node lacks
    ahead_count: int = 0  # marks in `ahead`
    # The writers in `ahead`, by conversation and the beginning of their ids: as references name them.
    ahead_writers: dict[tuple[ConversationId, str], tuple[UserId, ...]] = field(default_factory=dict)
    most_remembered: int = 0  # marks of all kinds that may be kept; set before marks are taken
    lookups_pending: int = 0  # marks that storage is looking up
    named: KeySet[ConversationId] = field(default_factory=dict)  # conversations whose names it was sent
    groups_announced: KeySet[ConversationId] = field(default_factory=dict)  # groups of which it sent marks or sums
    groups_refused: KeySet[ConversationId] = field(default_factory=dict)  # groups for which there was no place
    owed_marks: KeySet[WriterKey] = field(default_factory=dict)
    refusals: dict[WriterKey, list[Mark] | None] = field(default_factory=dict)  # it takes no more; its marks since
    full_sent_at: dict[WriterKey, float] = field(default_factory=dict)  # when it was sent `full` for these (monotonic)
    unopened: dict[ConversationId, Naming] = field(default_factory=dict)  # named here; no place, or nobody yet
    told_refused: KeySet[LogId] = field(default_factory=dict)  # logs refused here, as it was told
    refused: dict[LogId, RefusedLog] = field(default_factory=dict)  # logs of which it takes no more
    refused_of: dict[WriterKey, list[LogId]] = field(default_factory=dict)  # the same, by writer
    # Its marks of hosted writers that storage looks up, once for all of its users.
    looked_up: KeySet[tuple[ConversationId, UserId, Mark]] = field(default_factory=dict)

    @property
    def accepts_marks(self) -> bool:
        """Return whether marks and sums may be sent now. If not, they are sent later."""
        return not self.link.full and not self.forks.owed

    def claims(self, conversation: ConversationId, ref: Ref) -> bool:
        """Return whether it announced a mark that covers an entry which is not here."""
        return self.writer_claimed(conversation, ref) is not None

    def writer_claimed(self, conversation: ConversationId, ref: Ref) -> WriterKey | None:
        """Return the writer of an entry that is not here and that a mark which it announced covers."""
        for user in self.ahead_writers.get((conversation, ref.log[:16]), ()):
            mark = self.ahead[conversation, user].get(ref.log[16:])
            if mark is not None and mark.seq >= ref.seq:
                return conversation, user
        return None

    @property
    def remembered(self) -> int:
        """Number of marks of this link that are kept."""
        return self.ahead_count + len(self.refusals) + len(self.refused)

    def _may_remember(self, present: int, more: int, most: int = MAX_REMEMBERED) -> bool:
        """Return whether there is room for more marks beside those present of their kind."""
        return present + more <= most and self.remembered + more <= self.most_remembered

    def on_refused(self, key: WriterKey) -> None:
        """Note that it accepts no further entries of a writer."""
        if key in self.refusals or self._may_remember(len(self.refusals), 1):
            self.refusals[key] = None

    def on_logs_refused(self, key: WriterKey, logs: list[RefusedLog]) -> None:
        """Note of which logs of a writer it takes no more. They replace those it named before."""
        for log in self.refused_of.pop(key, ()):
            del self.refused[log]
        if logs and self._may_remember(len(self.refused), len(logs)):
            by_log = {LogId(*key, each.run): each for each in logs}
            self.refused.update(by_log)
            self.refused_of[key] = [*by_log]

    def takes(self, log: LogId, seq: int) -> bool:
        """Return whether it takes this entry."""
        return log not in self.refused or seq <= self.refused[log].seq

    def on_marks(self, key: WriterKey, marks: list[Mark]) -> None:
        """Note marks of a refused writer. New ones mean that it may take more again."""
        if key in self.refusals and self.refusals[key] in (None, marks):
            self.refusals[key] = marks
        else:
            self.refusals.pop(key, None)

    def note_unopened(self, conversation: ConversationId, naming: Naming) -> None:
        """Remember the name of a conversation for which there is no place, or nobody yet. A peer sends it once."""
        if len(self.unopened) < MAX_UNOPENED:
            self.unopened[conversation] = naming

    def names_unopened(self, users: Collection[UserId]) -> bool:
        """Return whether it named a conversation of one of these users that is not open here."""
        return any(user in users for naming in self.unopened.values() for user in naming.dm or ())

    def set_ahead(self, key: WriterKey, marks: dict[RunId, Mark]) -> bool:
        """Replace the marks of a writer that are ahead of this node. Return False if there would be too many."""
        start, former = (key[0], key[1][:16]), self.ahead.pop(key, {})
        self.ahead_count -= len(former)
        most = MAX_REMEMBERED if self.link.known else MAX_AHEAD_UNKNOWN
        alike = tuple(user for user in self.ahead_writers.get(start, ()) if user != key[1])
        fits = len(alike) < MAX_ALIKE and self._may_remember(self.ahead_count, len(marks), most)
        if marks and fits:
            self.ahead[key] = marks
            self.ahead_count += len(marks)
            alike = (*alike, key[1])
        if alike:
            self.ahead_writers[start] = alike
        else:
            self.ahead_writers.pop(start, None)
        return fits or not marks

    def clear_ahead(self) -> None:
        """Note that it has nothing which this node lacks."""
        self.ahead.clear()
        self.ahead_writers.clear()
        self.ahead_count = 0

    def add_ahead(self, key: WriterKey, mark: Mark) -> bool:
        return self.set_ahead(key, {**self.ahead.get(key, {}), mark.run: mark})


@dataclass(slots=True, eq=False)
class PendingImport:
    """The frames of one ImportRequest."""

    ticket: int
    undecided: int = 0  # frames that wait for a lookup
    commits: int = 0  # commits with entries of it, not durable yet
    new: int = 0  # entries
    known: int = 0
    foreign: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # entries by code


@dataclass(slots=True)
class Transaction:
    """The results of one step besides its change: what follows when it is durable, and what links were sent in it."""

    own: bool = False
    writes: list[tuple[int, LogId, int, int, str]] = field(default_factory=list)  # ticket, log, first, count, kind
    sources: dict[int, set[WriterKey]] = field(default_factory=dict)  # link (or NO_LINK) -> whose entries it brought
    imports: dict[int, PendingImport] = field(default_factory=dict)  # imports with entries in this step, by ticket
    groups: set[ConversationId] = field(default_factory=set)  # groups with new operations
    sent_bytes: dict[int, int] = field(default_factory=dict)  # bytes of new entries and of listed marks, by link
    effects: list[Effect] = field(default_factory=list)  # emitted when all this is durable
    requests: list[RequestBegun] = field(default_factory=list)  # the same, before what they are about is shown
    reads: list[int] = field(default_factory=list)  # tickets of marks of readers
    prunes: list[tuple[PruneRequest, PrunePlan | None]] = field(default_factory=list)  # None: before the first look
    completed: list[LogId] = field(default_factory=list)  # logs that were refused once, and lack nothing any more


class SyncContext:
    """The state that all machines of synchronisation share."""

    def __init__(
        self, ctx: Context, conversations: Conversations, lookups: Lookups, presence: PresenceTracker,
        hosted: HostedIdentities, run: RunId, quota: Quota, requests: Requests, refusals: Refusals,
        refusers: Refusers,
    ) -> None:  # fmt: skip
        self.ctx = ctx
        self.requests = requests
        self.quota = quota
        self.refusals = refusals
        self.refusers = refusers
        self.run: RunId = run  # of logs that hosted users begin
        self.conversations = conversations
        self.lookups = lookups
        self.presence = presence
        self.hosted = hosted
        self.remotes: dict[int, RemoteState] = {}
        self._unknown_lookups = 0  # marks of links to unknown peers that storage is looking up
        self._owing: dict[int, RemoteState] = {}  # remotes with marks to be sent, by link
        self._new_logs: dict[int, int] = {}  # by link: logs that came by it in this step
        self._new_log_rate = RateLimit(ctx.settings.new_logs_a_second, ctx.settings.new_logs_burst)
        self.transaction: Transaction = Transaction()
        self.has_deleted = False  # something was deleted here, so that not all that is wanted may be served
        self.discarded = False  # replaced after storage failed: its timers do nothing
        self.faults: list[tuple[RemoteState, LogError]] = []  # their links are closed at the end of the step
        self.proven_forks: set[LogId] = set()  # storage looks up the held parts
        self.banned: dict[PeerId, float] = {}  # peers that sent a wrong head -> until when (monotonic)

    def is_up(self, remote: RemoteState) -> bool:
        return self.remotes.get(remote.link.id) is remote

    @property
    def page_size(self) -> int:
        """Number of sums or marks in one frame. With `names`, a frame of 1,000 would not fit."""
        return min(self.ctx.settings.page_marks, MAX_PAGE)

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call `call` once, so many seconds from now, unless storage failed in between."""
        return self.ctx.after(seconds, lambda: None if self.discarded else call())

    def look_up(self, remote: RemoteState | None, key: LogKey, then: Callable[[LogFacts | None], None]) -> bool:
        """Look up the log of a mark that a remote sent, or with None a user of this peer.

        Return False if too many marks of the remote are being looked up.
        """
        if remote is None:
            self.lookups.log(key, then)
            return True
        counted = not remote.link.known
        if remote.lookups_pending >= self._max_lookups(remote):
            return False
        remote.lookups_pending += 1
        self._unknown_lookups += counted
        self.lookups.log(key, partial(self._on_log_found, remote, then, counted))
        return True

    def _max_lookups(self, remote: RemoteState) -> int:
        if remote.link.known or self._unknown_lookups < MAX_LOOKUPS_UNKNOWN:
            return MAX_REMEMBERED
        return MAX_LOOKUPS_UNKNOWN // len(self.remotes)

    def _on_log_found(
        self, remote: RemoteState, then: Callable[[LogFacts | None], None], counted: bool, facts: LogFacts | None
    ) -> None:  # fmt: skip
        remote.lookups_pending -= 1
        self._unknown_lookups -= counted
        then(facts)

    def limit_marks(self, remote: RemoteState, *claims: Mapping[ConversationId, Mapping[UserId, Sized]]) -> None:
        """Set how many marks of a link may be kept, before these are taken.

        All links to unknown peers share a number of them; when that is used up, each may have an equal part. So many
        links of one member take little memory.
        """
        if remote.link.known:
            remote.most_remembered = 3 * MAX_REMEMBERED
            return
        equal_part = MAX_REMEMBERED_UNKNOWN // max(1, len(self.remotes))
        more = sum(len(marks) for claim in claims for users in claim.values() for marks in users.values())
        remote.most_remembered = equal_part
        if remote.remembered + more > equal_part:  # otherwise it need not be known what others have
            others = sum(one.remembered for one in self.remotes.values() if one is not remote and not one.link.known)
            remote.most_remembered = max(equal_part, MAX_REMEMBERED_UNKNOWN - others)

    def fail(self, remote: RemoteState, error: LogError) -> None:
        """Note that a remote peer broke the rules of logs."""
        self.faults.append((remote, error))

    def ban(self, peer: PeerId) -> None:
        """Distrust a peer that sent a wrong head: for an hour, accept only what its own users write."""
        now = self.ctx.now.mono
        self.banned = {each: until for each, until in self.banned.items() if until > now}
        self.banned[peer] = now + self.ctx.settings.wrong_head_ban

    def trusts(self, remote: RemoteState, user: UserId) -> bool:
        """Return whether entries of this user are accepted from that peer."""
        until = self.banned.get(remote.link.peer, 0.0) if self.banned else 0.0
        return until <= self.ctx.now.mono or user in remote.link.users

    def change_run_if_cloned(self, log: LogId) -> None:
        """Draw another run if someone else wrote in a log of this run: that was a copy of this process.

        This applies to every user, since a user may be hosted here later, and a covered log is in storage only.
        """
        if log.run == self.run:
            self.run = self.ctx.draw(8).hex()

    def store_naming(self, conversation: ConversationState) -> None:
        """Store the name behind a conversation id, together with its first entry."""
        if not conversation.is_stored:
            conversation.is_stored = True
            self.conversations.keep(conversation.id)
            begun = self.requests.on_begun(conversation) if conversation.naming.dm else None
            if begun is not None:
                self.transaction.requests.append(begun)
            self.ctx.change.conversations.append(KnownConversation(conversation.id, conversation.naming))

    def sweep_conversations(self, users: Iterable[UserId] | None = None) -> None:
        """Forget conversations that peers named and of which nothing is stored: those of these users, or all."""
        for forgotten in self.conversations.sweep(users, self._may_be_mentioned):
            self.requests.on_forgotten(forgotten)

    def _may_be_mentioned(self, conversation: ConversationState) -> bool:
        """Return whether there is a link that may hear of a conversation."""
        near = {link for user in conversation.members or () for link in self.presence.hosts.get(user, ())}
        near.update(id for id, remote in self.remotes.items() if conversation.id in remote.groups_announced)
        remotes = (self.remotes[link] for link in near if link in self.remotes)
        return any(remote.comparison.begun and self.shares(remote, conversation) for remote in remotes)

    def forget_on_links(self, conversation: ConversationState) -> None:
        """Forget what links keep of a conversation that is not known any more, but not its name."""
        id = conversation.id
        for remote in self.remotes.values():
            for key in [key for key in (*remote.ahead, *remote.acked, *remote.owed_marks) if key[0] == id]:
                remote.set_ahead(key, {})
                remote.acked.pop(key, None)
                remote.owed_marks.pop(key, None)
            for known in (remote.named, remote.comparison.compared, remote.comparison.differing):
                known.pop(id, None)
            remote.comparison.marks_through.pop(id, None)
            if any(user in remote.link.users for user in conversation.naming.dm or ()):
                remote.note_unopened(id, conversation.naming)

    def may_list(self, remote: RemoteState) -> bool:
        """Return whether marks may be listed for a remote now, which may be thousands. If not, it asks again.

        A link says that it is full only after the step, so what was listed in this step counts.
        """
        given = self.transaction.sent_bytes.get(remote.link.id, 0)
        return remote.accepts_marks and given < self.ctx.settings.buffer_limit_bytes

    def on_listed(self, remote: RemoteState, marks: int) -> None:
        """Count so many marks as sent in this step."""
        given = self.transaction.sent_bytes
        given[remote.link.id] = given.get(remote.link.id, 0) + marks * MARK_BYTES

    def send_full(self, remote: RemoteState, key: WriterKey) -> None:
        """Tell a peer that no more of this user is taken in this conversation. Not repeated for each frame it sends.

        Nobody is told that a user is blocked: what it writes is dropped in silence.
        """
        if self.quota.is_blocked(key):
            return
        now, told_at = self.ctx.now.mono, remote.full_sent_at.get(key)
        if told_at is not None and now - told_at < self.ctx.settings.want_after:
            return
        if len(remote.full_sent_at) >= MAX_REMEMBERED:
            remote.full_sent_at.clear()
        remote.full_sent_at[key] = now
        self.send(Have({}, full={key[0]: [key[1]]}), remote, key[0])

    def is_among_known(self, conversation: ConversationState) -> bool:
        """Return whether this is a direct conversation of known users, or a group of a known one."""
        if conversation.group is not None:
            return self.requests.is_known(conversation.group.creator)
        return conversation.naming.dm is not None and all(map(self.requests.is_known, conversation.naming.dm))

    def shares(self, remote: RemoteState, conversation: ConversationState) -> bool:
        """Return whether a conversation is shared with a remote.

        An operation that named the remote's users may be in a forked log, and unknown here. So a remote that announced
        such a group is one of those who hear of it.
        """
        users = remote.link.users
        is_announced = conversation.id in remote.groups_announced
        if not conversation.shared_with(users):
            group = conversation.group if conversation.is_operations and conversation.concerns_us else None
            return is_announced and group is not None and group.may_lack_operations
        return is_announced or not conversation.named_only_by_void or self._knows_group(users, conversation)

    def _knows_group(self, users: Collection[UserId], conversation: ConversationState) -> bool:
        """Return whether a peer surely knows why a group is shared with it. Not every peer received operations that are
        void now.
        """
        assert conversation.members is not None
        known = conversation.members - conversation.named_only_by_void
        return not (known.isdisjoint(users) or known.isdisjoint(self.hosted.keys()))

    def remotes_sharing(self, conversation: ConversationState) -> list[RemoteState]:
        """Return the remotes that may hear of a conversation: their users are known, and one of them belongs to it."""
        remotes = self.remotes.values()
        return [remote for remote in remotes if remote.comparison.begun and self.shares(remote, conversation)]

    def shared_conversations(self, remote: RemoteState) -> list[ConversationState]:
        """Return the conversations with entries that are shared with a remote, by id in order."""
        return [each for each in self.conversations.kept() if each.writers and self.shares(remote, each)]

    def find_conversation(self, remote: RemoteState, conversation: ConversationId) -> ConversationState | None:
        """Return a conversation that a remote mentions; None (and counted) if it is unknown or not shared.

        Operations of a group are accepted from anyone: one that has not arrived here may have named that peer's users.
        What this node sends about the group goes only to peers with which it `shares` it.
        """
        found = self.conversations.by_id.get(conversation)
        if found is None and conversation in remote.unopened:  # perhaps there is a place now
            self.learn_namings(remote, [remote.unopened.pop(conversation)])
            found = self.conversations.by_id.get(conversation)
        if found is None or not (found.is_operations or self.shares(remote, found)):
            self.ctx.emit(Counted("conversation_ignored"))
            return None
        return found

    def learn_namings(self, remote: RemoteState, namings: Iterable[Naming]) -> None:
        """Store the names of conversation ids that a peer sent. Ids are computed from names, so none can be false."""
        users, link = remote.link.users.keys(), remote.link
        for naming in namings:
            if naming.group:
                self.conversations.open_group(naming, users, link.peer)
                continue
            if naming.dm and not set(naming.dm) & self.hosted.keys():
                continue
            if naming.dm and not set(naming.dm) & users:  # its user may be announced later
                remote.note_unopened(dm_id(*naming.dm), naming)
                continue
            if naming.dm and not self.requests.open(naming, link.peer, address_line(link.host, link.peer)[0]):
                self.ctx.emit(Counted("conversation_refused"))
                remote.note_unopened(dm_id(*naming.dm), naming)

    def send(self, frame: NamingFrame, remote: RemoteState, *conversations: ConversationId) -> None:
        """Send a frame that mentions these conversations, with the names that this link has not received."""
        if self.refusals.by_ref and isinstance(frame, (Have, Digest)):
            self.tell_refused(remote)
        new = [id for id in conversations if id not in remote.named]
        if new:
            remote.named.update(dict.fromkeys(new))
            frame.names = [self.conversations.by_id[id].naming for id in new]
        self.ctx.emit(Send(frame, [remote.link.id]))

    def tell_refused(self, remote: RemoteState) -> None:
        """Tell a peer which logs of shared conversations are refused here, each once.

        It goes before any mark or sum: those may cover entries of such a log.
        """
        new = [each.log for each in self.refusals.by_ref.values() if each.log not in remote.told_refused]
        new = [log for log in new if self._is_shared(remote, log.conversation)]
        keys = sorted({log.key for log in new})
        for start in range(0, len(keys), self.page_size):
            page: dict[ConversationId, dict[UserId, list[RefusedLog]]] = {}
            for conversation, user in keys[start : start + self.page_size]:
                page.setdefault(conversation, {})[user] = self.refusals.of((conversation, user))
            remote.told_refused.update(dict.fromkeys(new))
            self.send(Have({}, refused=page), remote, *page)

    def _is_shared(self, remote: RemoteState, conversation: ConversationId) -> bool:
        found = self.conversations.by_id.get(conversation)
        return found is not None and self.shares(remote, found)

    def owe_marks(self, remote: RemoteState, keys: Iterable[WriterKey]) -> None:
        """Send these marks at the end of the step, or as soon as the link accepts marks."""
        remote.owed_marks.update(dict.fromkeys(keys))  # no queue: each key waits once
        self._owing[remote.link.id] = remote

    @property
    def has_new_logs(self) -> bool:
        """True if a log came in this step by the link of an unknown peer."""
        return bool(self._new_logs)

    def count_new_log(self, remote: RemoteState) -> None:
        """Count a log that came by the link of an unknown peer."""
        self._new_logs[remote.link.id] = self._new_logs.get(remote.link.id, 0) + 1

    def limit_new_logs(self) -> None:
        """Order pauses of links by which more logs came than their branches may begin."""
        counted, self._new_logs = self._new_logs, {}
        for id, count in counted.items():
            if id in self.remotes:
                link = self.remotes[id].link
                wait = self._new_log_rate.charge(address_line(link.host, link.peer), count, self.ctx.now.mono)
                if wait > 0:
                    self.ctx.emit(Counted("new_logs"))
                    self.ctx.emit(PauseReading(id, wait))

    def send_owed_marks(self) -> None:
        """Send the marks that are due, as one frame per link."""
        if not self._owing:
            return  # checked at every step of a node
        owing, self._owing = self._owing, {}
        alike: dict[tuple[WriterKey, ...], list[RemoteState]] = {}  # news goes to most links
        for id, remote in owing.items():
            if not self.is_up(remote):
                continue
            if remote.accepts_marks:
                owed, remote.owed_marks = remote.owed_marks.keys() - remote.refusals.keys(), {}
                keys = tuple(sorted(key for key in owed if self._is_told(remote, key)))
                alike.setdefault(keys, []).append(remote)
            else:
                self._owing[id] = remote
        for keys, remotes in alike.items():
            self._send_marks(remotes, keys)

    def _is_told(self, remote: RemoteState, key: WriterKey) -> bool:
        """Return whether a remote still hears the marks of a writer: its users may have been removed from the group."""
        there = self.conversations.by_id[key[0]]
        return there.group is None or self.shares(remote, there)

    def _send_marks(self, remotes: list[RemoteState], keys: Iterable[WriterKey]) -> None:
        page, count = Marks(), 0
        for conversation, user in keys:
            marks = self.conversations.by_id[conversation].writers.marks(user, self.ctx.settings.max_tips)
            page.setdefault(conversation, {})[user] = marks
            count += max(1, len(marks))
            if count >= self.page_size:
                self._send_page(remotes, page)
                page, count = Marks(), 0
        if page:
            self._send_page(remotes, page)

    def _send_page(self, remotes: list[RemoteState], page: Marks) -> None:
        """Send marks to remotes: as one frame to those who know all names."""
        links: list[int] = []
        for remote in remotes:
            if self.refusals.by_ref or not page.keys() <= remote.named.keys():
                self.send(Have(page), remote, *page)
            else:
                links.append(remote.link.id)
        if links:
            self.ctx.emit(Send(Have(page), links))
