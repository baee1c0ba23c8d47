"""Taking entries in: what a batch must prove before it is kept.

A batch must extend its log without a gap and its chain must lead to a head its author signed (validation.py); a log
must build only on what is held (validation.py). When a head fails, the good batches before it are kept; when it is the
author's, and the chain another than is held, that is a fork (forks.py). A batch that leaves a gap is dropped, not
buffered: whoever has the rest is asked for all of it (fetch.py).

Source: docs/protocol.md, "Entries" and "Heads"; the cost of the rules is in docs/architecture.md.
"""

from __future__ import annotations

from functools import partial
from itertools import groupby

from p2pchat.core.effects import Counted, WarningIssued
from p2pchat.core.log import (
    Batch,
    LogId,
    batch_of,
    extend_chain,
    ref_key,
    size_bytes,
)
from p2pchat.core.records import Change, LogFacts, LogKey, NewLog
from p2pchat.core.sync.causal_order import CausalOrder
from p2pchat.core.sync.conversations import KnownPeople
from p2pchat.core.sync.fetch import Fetcher
from p2pchat.core.sync.forks import Forks, is_signed
from p2pchat.core.sync.groups import GroupSync
from p2pchat.core.sync.log_index import ConversationState, Log, is_plausible
from p2pchat.core.sync.progress import RemoteState, SyncContext
from p2pchat.core.sync.quota import Admission
from p2pchat.core.sync.validation import (
    DecodedFrame,
    EntrySource,
    LinkSource,
    LogExtension,
    NewLogChecks,
    count_fitting,
    count_tips_with,
    decode_checked,
)
from p2pchat.errors import LogError
from p2pchat.protocol import Entries

MAX_HELD = 1024  # frames that wait for storage to find logs: a quarter of a second at full speed, dropped beyond
HeldFrames = list[tuple[EntrySource, Entries]]


class Ingest:
    """The way in for entries of others."""

    def __init__(
        self, shelf: SyncContext, order: CausalOrder, pull: Fetcher, people: KnownPeople, forks: Forks, talks: GroupSync
    ) -> None:  # fmt: skip
        self._shelf = shelf
        self._ctx = shelf.ctx
        self._order = order
        self._pull = pull
        self._people = people
        self._forks = forks
        self._talks = talks
        self._held: dict[LogId, HeldFrames] = {}  # what waits for storage to say whether a log is known
        self._held_count = 0
        self._beginning = NewLogChecks(shelf)

    # ---- frames

    def take(self, side: RemoteState, frames: list[Entries]) -> LogError | None:
        """Take consecutive frames of one read. Returns the fault that must end the link, if there was one."""
        if not frames:
            return None
        return self.take_from(LinkSource(self._shelf, self._pull, self._forks, side, MAX_HELD), frames)

    def take_from(self, source: EntrySource, frames: list[Entries]) -> LogError | None:
        """Take frames that are proven together, whichever way they came. Returns the first fault, if there was one."""
        spans: dict[LogId, LogExtension] = {}
        fault: LogError | None = None
        try:
            for frame in frames:
                self._one(source, frame, spans)
        except LogError as error:
            fault = error
        return self._end(spans) or fault

    def _prove_all(self, spans: dict[LogId, LogExtension]) -> None:
        fault = self._end(spans)
        spans.clear()
        if fault is not None:
            raise fault

    def _end(self, spans: dict[LogId, LogExtension]) -> LogError | None:
        fault = None
        for span in spans.values():
            fault = self._prove(span) or fault
        return fault

    def _one(self, source: EntrySource, frame: Entries, spans: dict[LogId, LogExtension]) -> None:
        if spans and any(naming.talk for naming in frame.names):
            self._prove_all(spans)  # a talk is known once its group is
        source.learn(frame.names)
        conversation = source.find(frame.c)
        if conversation is not None and conversation.is_talk and spans:
            self._prove_all(spans)  # what it cites may be among them
        if conversation is None or not conversation.may_write(frame.u):
            return
        if frame.fork:
            self._prove_all(spans)
            source.evidence(conversation, frame)
            return
        if not source.trusts(frame.u):
            self._ctx.emit(Counted("banned_batch"))
            return
        id = LogId(frame.c, frame.u, frame.r)
        if id in self._held:
            self._hold(source, id, frame)
            return
        if self._shelf.quota.is_alert and not self._has_room(source, conversation, id, frame):
            return
        if conversation.group and conversation.is_open and (unsure := self._talks.unsure(conversation, [frame])):
            self._prove_all(spans)
            if self._hold(source, id, frame):
                self._talks.gather(conversation.group, unsure, partial(self._find, conversation, id))
            return
        span = spans.get(id)
        if span is None:
            log = conversation.log(frame.u, frame.r)
            if log is None:
                self._prove_all(spans)  # it may build on them
                if conversation.is_open and not self._talks.may_begin(source, conversation, id, frame):
                    return
                log = self._unknown(source, conversation, id, frame)
            if log is None:
                return
            span = spans[id] = LogExtension(conversation, log, source)
        self._extend(span, frame)

    def _has_room(self, source: EntrySource, conversation: ConversationState, id: LogId, frame: Entries) -> bool:
        """Say whether a frame is worth looking at now: it may have to wait, or its writer to be refused."""
        room = self._shelf.quota.gate(source.payer, id.key)
        if room is Admission.NONE:
            source.is_full(id.key)
        elif room is Admission.LATER and self._hold(source, id, frame):
            self._shelf.quota.wait(id.user, partial(self._find, conversation, id))
        return room is Admission.ENOUGH

    def _find(self, conversation: ConversationState, id: LogId) -> None:
        """What frames of a log waited for is known: go on with them, once it is known whether the log is in storage."""
        log = conversation.log(id.user, id.run)
        if log is None and conversation.may_be_only_stored(id.user):
            ref = LogKey(conversation.id, ref_key(id.user, id.run))
            self._shelf.lookups.log(ref, partial(self._known, conversation, id))
        else:
            self._go_on(conversation, id, log)

    def _extend(self, span: LogExtension, frame: Entries) -> None:
        log = span.log
        if log.forked:
            span.source.is_forked(log)
        elif log.covered and count_tips_with(span.conversation, log) > self._ctx.settings.max_tips:
            self._beginning.refuse(span.source, log.id)
        elif frame.first > span.next_seq:
            span.source.left_gap(log.id, frame)
        elif frame.first + len(frame.e) <= span.next_seq:
            self._repeat(span, frame)
        else:
            self._append(span, frame)

    def _append(self, span: LogExtension, frame: Entries) -> None:
        prev = bytes.fromhex(frame.prev)
        skip = span.next_seq - frame.first  # entries held already
        chain = extend_chain(prev, frame.e[:skip])
        if chain != span.chain:
            self._conflict(span, frame)
            return
        raws = frame.e[skip:]
        entries, names = decode_checked(raws, span.next_seq, span.last_c, self._ctx.settings)
        rest = Entries(frame.c, frame.u, frame.r, frame.first + skip, chain.hex(), raws, frame.head) if skip else frame
        span.source.repeated(skip)
        span.pieces.append(DecodedFrame(rest, entries, size_bytes(raws), chain, extend_chain(chain, raws), names))

    def _repeat(self, span: LogExtension, frame: Entries) -> None:
        """Nothing new, as long as it is the same: compare where both end together."""
        if frame.first + len(frame.e) == span.next_seq:
            if extend_chain(bytes.fromhex(frame.prev), frame.e) != span.chain:
                self._conflict(span, frame)
                return
        span.source.repeated(len(frame.e))
        self._ctx.emit(Counted("repeated_batch"))

    def _conflict(self, span: LogExtension, frame: Entries) -> None:
        """Another chain under the same numbers: a fork when its author signed it, a wrong head otherwise."""
        other = batch_of(frame)
        if not is_signed(other):
            raise LogError("a head that does not fit its entries", expected_seq=span.next_seq, got_seq=frame.first)
        held = span.next_seq
        fault = self._prove(span)  # what came before it in this read may be good
        if fault is not None:
            raise fault
        if span.next_seq != held:
            return  # there was no room for that: nothing here is contradicted
        self._forks.found(span.conversation, span.log, other)
        span.source.contradicted()

    # ---- logs that are not in memory

    def _unknown(self, source: EntrySource, conversation: ConversationState, id: LogId, frame: Entries) -> Log | None:
        """Return the log a frame begins; None when storage must be asked first, or nothing can come of it."""
        if conversation.may_be_only_stored(id.user) and not self._beginning.is_new(conversation, id, frame):
            if not self._hold(source, id, frame):
                return None
            ref = LogKey(conversation.id, ref_key(id.user, id.run))
            self._shelf.lookups.log(ref, partial(self._known, conversation, id))
            return None
        return self._beginning.begin(source, conversation, id, frame)

    def _hold(self, source: EntrySource, id: LogId, frame: Entries) -> bool:
        """Let a frame wait for storage; False (it is dropped, and will be wanted) when too many do."""
        if not source.may_wait(self._held_count):
            source.left_gap(id, frame)
            return False
        self._held_count += 1
        self._held.setdefault(id, []).append((source, frame))
        return True

    def _known(self, conversation: ConversationState, id: LogId, facts: LogFacts | None) -> None:
        """Storage knows the log: it was covered; or it does not: ask for those it builds on."""
        held = self._held[id]
        if facts is not None:
            log = conversation.log(id.user, id.run) or conversation.log_of(facts)
            self._go_on(conversation, id, log)
            return
        self._beginning.look_below(conversation, id, held[0][1], partial(self._go_on, conversation, id, None))

    def _go_on(self, conversation: ConversationState, id: LogId, log: Log | None) -> None:
        """Take the frames that waited for this log; those of a group once all is in memory that they may cut off."""
        frames = [frame for _, frame in self._held[id]]
        if conversation.group and conversation.is_open and (unsure := self._talks.unsure(conversation, frames)):
            self._talks.gather(conversation.group, unsure, partial(self._go_on, conversation, id, log))
            return
        held = self._held.pop(id)
        self._held_count -= len(held)
        log = log or conversation.log(id.user, id.run)  # evidence may have come meanwhile
        for _, group in groupby(held, key=lambda each: each[0].key):
            brought = list(group)
            source = brought[0][0]
            if source.is_here:
                if self._shelf.conversations.by_id.get(conversation.id) is conversation:  # it was not forgotten
                    log = self._take_held(source, conversation, id, log, [frame for _, frame in brought]) or log
                source.done()
        self._beginning.forget(id)

    def _take_held(
        self, source: EntrySource, conversation: ConversationState, id: LogId, log: Log | None, frames: list[Entries]
    ) -> Log | None:
        """Take what one source brought, for which it alone answers. Returns the log once something of it is kept."""
        span: LogExtension | None = None
        try:
            for frame in frames:
                log = log or self._beginning.begin(source, conversation, id, frame)
                if log is not None:
                    span = span or LogExtension(conversation, log, source)
                    self._extend(span, frame)
        except LogError as error:
            source.faulted(error)
        if span is not None and (fault := self._prove(span)):
            source.faulted(fault)
        return conversation.log(id.user, id.run)

    # ---- proving and keeping

    def _prove(self, span: LogExtension) -> LogError | None:
        """Verify heads at most a batch apart and keep what they prove; the fault of the first that fails."""
        pieces = span.pieces
        while pieces:
            count = count_fitting(pieces, self._ctx.settings)
            if span.is_signed(pieces[count - 1]):
                if not self._keep(span, pieces[:count]):
                    pieces.clear()
                del pieces[:count]
                continue
            while span.is_signed(pieces[0]):  # one by one: keep what is good before the bad one
                if not self._keep(span, pieces[:1]):
                    pieces.clear()
                    return None
                del pieces[:1]
            seq = pieces[0].frame.first
            pieces.clear()
            return LogError("a head that does not fit its entries", got_seq=seq)
        return None

    def _keep(self, span: LogExtension, pieces: list[DecodedFrame]) -> bool:
        """Keep what is proven; False when there is no room for it, or not yet: then what follows is dropped too."""
        log, frame = span.log, pieces[-1].frame
        if span.conversation.is_talk and not self._talks.takes(span, pieces):
            return False
        size = pieces[0].size if len(pieces) == 1 else sum(piece.size for piece in pieces)
        room = self._shelf.quota.take(span.source.payer, log.id.key, size)
        if room is not Admission.ENOUGH:
            if room is Admission.NONE:
                span.source.is_full(log.id.key)
            else:
                span.source.left_gap(log.id, frame)
            return False
        if len(pieces) == 1:
            raws, entries = frame.e, pieces[0].entries
        else:
            raws = [raw for piece in pieces for raw in piece.frame.e]
            entries = [entry for piece in pieces for entry in piece.entries]
        chain, head = pieces[-1].chain, bytes.fromhex(frame.head)
        batch = Batch(log.id, pieces[0].frame.first, raws, entries, pieces[0].prev, chain, head)
        if log.own:
            log.own = False  # a copy of this process went on with it; what is written here begins another
            self._ctx.emit(
                WarningIssued("two_processes", "another process writes in this one's log: stop one", log.id.user)
            )
        self._shelf.taken(log.id)
        span.source.kept(log.id.key, len(raws))
        self.keep(span.conversation, log, batch)
        if span.source.tells_the_past and span.conversation.newcomer and log.id.user not in self._shelf.hosted:
            span.conversation.past.brought(log.id, batch.last, log.before, self._ctx.settings.max_tips)
        if span.conversation.past.marks and frame.n is None and span.source.hosts(log.id.user):
            span.conversation.past.pushed(log.id, log.before, batch.first)
        names = any(piece.names for piece in pieces)
        self._order.arrived(span.conversation, log, batch.first, entries if names else ())
        return True

    def keep(self, conversation: ConversationState, log: Log, batch: Batch) -> None:
        """Add a proven batch to its log and to what is committed next; also for what hosted users write."""
        assert batch.entries is not None
        change = self._ctx.change
        self._shelf.store(conversation)
        if batch.first == 1:
            self._build_on(conversation, log)
        elif log.covered:
            log.covered = False
            _uncover(log.id, change)
        if conversation.log(log.id.user, log.id.run) is not log:
            conversation.add(log)
        change.batches.append(batch)
        last = batch.entries[-1]
        log.extend(batch.last, batch.chain, last.c)
        if is_plausible(last.c, self._ctx.now.utc, self._ctx.settings.clock_ahead):
            conversation.newest_c = max(conversation.newest_c, last.c)
        if conversation.group is not None:
            self._talks.kept(conversation, log, batch)
        if conversation.members is None:
            for entry in batch.entries:
                if entry.k == "profile":
                    self._people.profile(log.id.user, entry)

    def _build_on(self, conversation: ConversationState, log: Log) -> None:
        """Begin a log: what it names at its last entry is covered by it."""
        writer = conversation.writer(log.id.user)
        change = self._ctx.change
        for mark in log.before:
            named = writer.logs.get(mark.run)
            if named is not None and named.seq == mark.seq and not named.covered:
                named.covered = True
                change.covered.append(named.id)
        # forked logs are never served: they do not matter for `whole`
        change.logs.append(NewLog(log.id, log.before, whole=not writer.tail_tips()))


def _uncover(log: LogId, change: Change) -> None:
    """Note that a log goes on beyond what covers it: that stays true when another covers it in the same change."""
    if log in change.covered:
        change.covered.remove(log)
    if log not in change.uncovered:
        change.uncovered.append(log)
