"""What one read brought of one log: decoded, hashed through, and to be proven by as few heads as do.

A head proves everything before it, so of contiguous frames only heads at most a batch apart are verified. What is
asked of a single entry is asked here too: its size, its shape, that its clock rises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from p2pchat.config import Settings
from p2pchat.core.effects import Counted
from p2pchat.core.log import Entry, LogId, decode_entries, decode_entry, head_message, ref_key, verify
from p2pchat.core.records import LogFacts, LogKey
from p2pchat.core.sync.fetch import Fetcher
from p2pchat.core.sync.forks import Forks
from p2pchat.core.sync.log_index import ConversationState, Log
from p2pchat.core.sync.sync_context import Key, RemoteState, SyncContext
from p2pchat.errors import LogError
from p2pchat.protocol import ConversationId, Entries, Mark, Naming, PeerId, UserId

TEXTS = frozenset({"text", "action", "edit", "reaction"})  # kinds whose body is what somebody typed


@dataclass(slots=True)
class DecodedFrame:
    """One frame's entries, hashed and decoded, not proven yet."""

    frame: Entries
    entries: list[Entry]
    size: int  # bytes of the entries
    prev: bytes
    chain: bytes  # after the last entry
    has_references: bool  # whether an entry names others


@dataclass(slots=True)
class LogExtension:
    """Contiguous pieces of one log from one read, or from one frame of a file."""

    conversation: ConversationState
    log: Log
    source: EntrySource
    frames: list[DecodedFrame] = field(default_factory=list)

    @property
    def next_seq(self) -> int:
        return self.frames[-1].frame.first + len(self.frames[-1].entries) if self.frames else self.log.seq + 1

    @property
    def chain(self) -> bytes:
        return self.frames[-1].chain if self.frames else self.log.chain

    @property
    def last_c(self) -> int:
        return self.frames[-1].entries[-1].c if self.frames else self.log.last_c

    def is_signed(self, decoded: DecodedFrame) -> bool:
        """Return whether its author signed the log up to the end of this piece."""
        last = decoded.frame.first + len(decoded.entries) - 1
        message = head_message(self.log.id, last, decoded.chain)
        return verify(self.log.id.user, bytes.fromhex(decoded.frame.head), message)


def count_fitting(frames: list[DecodedFrame], settings: Settings) -> int:
    """Return how many pieces fit into one batch."""
    entries = size = count = 0
    for decoded in frames:
        entries += len(decoded.entries)
        size += decoded.size
        if count and (entries > settings.max_batch_entries or size > settings.max_batch_bytes):
            break
        count += 1
    return count


def decode_checked(raws: list[str], first: int, last_c: int, settings: Settings) -> tuple[list[Entry], bool]:
    """Return entries first, first+1, ... of a log, and whether any of them names others.

    LogError for one that may not stand behind the clock last_c.
    """
    entries = decode_entries(raws)
    within = min(settings.max_entry_bytes, settings.max_text_bytes) // 4  # so many characters pass no limit
    are_plain = len(max(raws, key=len, default="")) <= within and "\\" not in "".join(raws)  # a NUL is written with one
    names = False
    for seq, entry in enumerate(entries, first):
        c = entry.c
        if c <= last_c:
            raise LogError("an entry whose clock does not rise", expected_seq=seq, got_seq=seq)
        last_c = c
        named = entry.after or entry.before
        if named or entry.re is not None:
            names = True
        if named or not are_plain or entry.k != "text" or type(entry.b) is not str:
            _check(entry, raws[seq - first], seq, settings)
    return entries, names


def _check(entry: Entry, raw: str, seq: int, settings: Settings) -> None:
    body = entry.b
    if len(raw) > settings.max_entry_bytes // 4 and len(raw.encode()) > settings.max_entry_bytes:
        raise LogError(f"an entry above {settings.max_entry_bytes} bytes", code="limit")
    if entry.before and (seq > 1 or len(entry.before) > settings.max_before):
        raise LogError("`before` where it may not be, or too long", code="malformed")
    if len(entry.after) > settings.max_after:
        raise LogError("`after` names too many entries", code="malformed")
    if entry.k in TEXTS:
        if type(body) is not str or "\0" in body:
            raise LogError("a text that is not a string, or holds NUL", code="malformed")
        if len(body) > settings.max_text_bytes // 4 and len(body.encode()) > settings.max_text_bytes:
            raise LogError(f"a text above {settings.max_text_bytes} bytes", code="limit")


# ---- beginning
#
# Whether a log may begin here: all it builds on must be held, and its writer must not have too many tips.
#
# What its first entry names may have left memory; then storage is asked, and the log waits (ingest.py).


def before_of(frame: Entries) -> tuple[Mark, ...]:
    """Return what the log that this frame begins builds on; () for a frame that begins none."""
    if frame.first != 1:
        return ()
    try:
        return decode_entry(frame.e[0]).before
    except LogError:
        return ()  # it is refused when it is taken


def count_tips_with(conversation: ConversationState, log: Log) -> int:
    """Return how many tips its writer would have with this log, begun or gone on with."""
    writer = conversation.writers.get(log.id.user)
    if writer is None:
        return 1
    covered = {mark.run: mark.seq for mark in log.before} if not log.seq else {}
    return 1 + sum(covered.get(tip.id.run) != tip.seq for tip in writer.tail_tips())


class NewLogChecks:
    """Begins logs of others."""

    def __init__(self, sync: SyncContext) -> None:
        self._sync = sync
        self._ctx = sync.ctx
        self._facts: dict[LogId, dict[str, LogFacts]] = {}  # of logs named by the first entry of one that waits

    def is_surely_new(self, conversation: ConversationState, id: LogId, frame: Entries) -> bool:
        """Return whether it is sure, without a look into storage, that the log this frame begins is nowhere here.

        So it is when it builds on a tip, as it stands: were the log here, that would be none. Else who fetches
        thousands of runs of one user asks storage about each, and they come faster than it answers.
        """
        before = before_of(frame)[: self._ctx.settings.max_before]
        named = [conversation.log(id.user, mark.run) for mark in before]
        if conversation.is_talk or None in named or id in self._sync.proven_forks:
            return False
        return any(
            log is not None and not log.covered and not log.forked and log.tail_mark == mark
            for log, mark in zip(named, before, strict=True)
        )

    def load_predecessors(
        self, conversation: ConversationState, id: LogId, frame: Entries, then: Callable[[], None]
    ) -> None:
        """Ask storage for what this log builds on, where it is not in memory, then go on."""
        before = before_of(frame)[: self._ctx.settings.max_before]
        unsure = [mark for mark in before if conversation.log(id.user, mark.run) is None]
        self._facts[id] = {}
        for mark in unsure:
            key = LogKey(conversation.id, ref_key(id.user, mark.run), mark.seq)
            self._sync.lookups.log(key, partial(self._on_log_found, id, mark))
        if unsure:  # an answer to nothing that keeps the order: it comes after those above
            key = LogKey(conversation.id, ref_key(id.user, id.run))
            self._sync.lookups.log(key, lambda _: then())
        else:
            then()

    def _on_log_found(self, id: LogId, mark: Mark, facts: LogFacts | None) -> None:
        if facts is not None:
            self._facts[id][mark.run] = facts

    def forget(self, id: LogId) -> None:
        """Nothing of this log waits any more."""
        self._facts.pop(id, None)

    def begin(self, source: EntrySource, conversation: ConversationState, id: LogId, frame: Entries) -> Log | None:
        """Return a new log, if this frame begins it and all it builds on is held."""
        log = conversation.new_log(id)
        if frame.first != 1:
            source.on_gap(id, frame)
            return None
        log.before = before_of(frame)
        if len(log.before) > self._ctx.settings.max_before:
            raise LogError("`before` names too many logs", code="malformed")
        if not (_is_all_there_is(conversation, frame) or all(self._holds(conversation, id, m) for m in log.before)):
            source.on_gap(id, frame)
            return None
        if count_tips_with(conversation, log) > self._ctx.settings.max_tips:
            self.refuse(source, id)
            return None
        return log

    def refuse(self, source: EntrySource, id: LogId) -> None:
        """Take no more of a writer who has too many tips, and say so."""
        self._ctx.emit(Counted("too_many_tips"))
        source.on_full(id.key)

    def _holds(self, conversation: ConversationState, id: LogId, mark: Mark) -> bool:
        log = conversation.log(id.user, mark.run)
        if log is not None:
            same = log.seq != mark.seq or log.chain[:8].hex() == mark.chain8
            return log.forked or (log.seq >= mark.seq and same)
        facts = self._facts.get(id, {}).get(mark.run)
        if facts is None:
            return False
        return facts.forked or (facts.chain_at is not None and facts.chain_at[:8].hex() == mark.chain8)


def _is_all_there_is(conversation: ConversationState, frame: Entries) -> bool:
    """Return whether what this log builds on may have been cut off from a talk: what of it can be had was given before."""
    if not conversation.is_talk or conversation.group is None or frame.n is None:
        return False
    return conversation.group.has_cut(frame.u)


# ---- sources
#
# Where entries come from: what intake says to whoever brought them.
#
# What a batch is worth is the same whichever way it came. Whom its fate is told, and what else follows from it, is not:
# the far end of a link is asked for what lies between, blamed for a wrong head and told what is held now (FromLink);
# a file that somebody carried here can only be counted (import_file.py).


class EntrySource:
    """Whoever brings entries. What is not answered here is nothing to it."""

    is_history = False  # what it brings was there before, to whoever is new in a conversation

    @property
    def key(self) -> object:
        """Frames that waited for storage and whose sources have one key are taken together."""
        return self

    @property
    def payer(self) -> PeerId:
        """Whom bytes of users never met are charged to; "" for nobody."""
        return ""

    @property
    def is_connected(self) -> bool:
        """Return whether it still matters what it brought."""
        return True

    def may_wait(self, waiting: int) -> bool:
        """Return whether one more of its frames may wait for storage, when so many from all links do."""
        return True

    def learn_namings(self, namings: Iterable[Naming]) -> None:
        """Take its word for what conversation ids stand for."""
        raise NotImplementedError

    def find_conversation(self, conversation: ConversationId) -> ConversationState | None:
        """Return a conversation it may bring entries of, else None."""
        raise NotImplementedError

    def trusts(self, user: UserId) -> bool:
        """Return whether entries of this user are taken from it."""
        return True

    def on_evidence(self, conversation: ConversationState, frame: Entries) -> None:
        """Take one of two batches that prove a fork; raises LogError when they do not."""
        raise NotImplementedError

    def hosts(self, user: UserId) -> bool:
        """Return whether this user writes there: what it sends unasked was written just now."""
        return False

    # ---- what became of a frame

    def on_gap(self, log: LogId, frame: Entries) -> None:
        """It was dropped: what lies before it is not here."""

    def on_full(self, key: Key) -> None:
        """No more of this writer is taken there."""

    def on_cut(self, key: Key) -> None:
        """It was dropped: nothing of it is visible in its talk."""

    def on_forked(self, log: Log) -> None:
        """Nothing more of this log is taken."""

    def on_contradiction(self) -> None:
        """It proved a fork: nothing of it is kept but as evidence."""

    def on_repeated(self, count: int) -> None:
        """So many entries of it were here."""

    def on_kept(self, key: Key, count: int) -> None:
        """So many entries of it are proven, new, and on their way to the disk."""

    def on_fault(self, error: LogError) -> None:
        """It broke a rule of logs, and was found out only after storage was asked."""

    def on_done(self) -> None:
        """What waited for storage is dealt with."""


class LinkSource(EntrySource):
    """The far end of a link."""

    def __init__(
        self, sync: SyncContext, fetcher: Fetcher, forks: Forks, remote: RemoteState, most_waiting: int
    ) -> None:
        self._sync = sync
        self._fetcher = fetcher
        self._forks = forks
        self._most_waiting = most_waiting
        self.remote = remote

    @property
    def key(self) -> object:
        return self.remote.link.id

    @property
    def payer(self) -> PeerId:
        return self.remote.link.peer

    @property
    def is_connected(self) -> bool:
        return self._sync.is_up(self.remote)

    def may_wait(self, waiting: int) -> bool:
        return waiting < self._most_waiting

    def learn_namings(self, namings: Iterable[Naming]) -> None:
        self._sync.learn_namings(self.remote, namings)

    def find_conversation(self, conversation: ConversationId) -> ConversationState | None:
        return self._sync.find_conversation(self.remote, conversation)

    def trusts(self, user: UserId) -> bool:
        return self._sync.trusts(self.remote, user)

    def hosts(self, user: UserId) -> bool:
        return self.remote.link.id in self._sync.presence.hosts(user)

    def on_evidence(self, conversation: ConversationState, frame: Entries) -> None:
        self._forks.on_evidence(self.remote, conversation, frame)

    def on_gap(self, log: LogId, frame: Entries) -> None:
        self._fetcher.on_gap(self.remote, log, frame)

    def on_full(self, key: Key) -> None:
        self._sync.send_full(self.remote, key)
        self.remote.set_ahead(key, {})  # nothing waits for what is not wanted

    def on_cut(self, key: Key) -> None:
        self.remote.set_ahead(key, {})

    def on_forked(self, log: Log) -> None:
        self._forks.send_evidence(self.remote, log)

    def on_kept(self, key: Key, count: int) -> None:
        if self.remote.refusals:
            self.remote.refusals.pop(key, None)  # it takes no more, and gives: so it hears what became of that
        self._sync.transaction.sources.setdefault(self.remote.link.id, set()).add(key)
        self._fetcher.on_progress(key, self.remote.link.id)

    def on_fault(self, error: LogError) -> None:
        self._sync.fail(self.remote, error)
