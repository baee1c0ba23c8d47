"""Ingest of entries from other peers and from files: what of a batch is taken, dropped, or proof of a fork.

A batch must come right behind what is here of its log, and its chain must lead to a head signed by the author; a new
log must build on what is held (log_validation.py), and be of a member that somebody named: anybody can make up others,
and have all store what they write. What entries say makes no difference: all peers keep the same. When a head fails,
the good batches before it are kept. When the author signed another chain than the one held, the log has forked
(forks.py). An early batch, before which something is missing, is dropped, not buffered, and all of it is fetched
(fetcher.py).

Source: docs/protocol.md, "Entries" and "Heads".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from operator import attrgetter

from p2pchat.core.durable_changes import META_ABOUT, META_NAME, NewLog
from p2pchat.core.effects import WarningIssued
from p2pchat.core.log import (
    MAX_ENTRY_BYTES,
    Batch,
    Entry,
    LogId,
    WriterKey,
    batch_of,
    bits_between,
    bits_of,
    certificate_of,
    check_header,
    extend_chain,
    files_of,
    has_stubs,
    is_gone,
    is_plausible,
    member_of,
    size_bytes,
    stub_of,
)
from p2pchat.core.members.member_directory import MemberShares
from p2pchat.core.node_context import KeySet
from p2pchat.core.own_state import MAX_AHEAD
from p2pchat.core.sync.causal_order import CausalOrder
from p2pchat.core.sync.conversation_state import ConversationState, LogState
from p2pchat.core.sync.fetcher import Fetcher
from p2pchat.core.sync.forks import Forks
from p2pchat.core.sync.group_sync import GroupSync, check_fact
from p2pchat.core.sync.log_validation import (
    EntrySource,
    LogExtension,
    NewLogChecks,
    Why,
    count_fitting,
    count_tips_with,
    decode_checked,
    joined,
)
from p2pchat.core.sync.missing_texts import texts_within
from p2pchat.core.sync.quota import FACT_FACTOR
from p2pchat.core.sync.remote_state import MAX_REFUTED, ForkEvidence, RemoteState
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.errors import LogError
from p2pchat.kinds.choice import OWN
from p2pchat.kinds.user_profile import PROFILE
from p2pchat.protocol import ConversationId, Entries, Naming, UserId

MAX_UNSURE = 256  # frames with late texts that wait for a chain, of all members; a guess: 25 MiB
_after_of, _answered_by = attrgetter("after"), attrgetter("re")


class Ingest:
    """Takes in entries that hosted users did not write here.

    Attributes:
        order: Decides when they are shown.
        fetcher: Has what is missing sent.
        groups: Takes the facts of groups.
        forks: Takes what contradicts them.
    """

    def __init__(self, sync: SyncContext, next_place: int) -> None:
        self._sync = sync
        self._ctx = sync.ctx
        self.order: CausalOrder = CausalOrder(sync, next_place)
        self.fetcher: Fetcher = Fetcher(sync)
        self.groups: GroupSync = GroupSync(sync, self.order, self.fetcher)
        self.forks: Forks = Forks(sync, self.order, self.groups)
        self._new_logs = NewLogChecks(sync)
        self.unsure: KeySet[Callable[[], None]] = {}  # each takes a frame again about which storage is asked
        self._unsure_places: MemberShares[Callable[[], None]] = MemberShares(MAX_UNSURE)

    # ---- frames

    def retry(self) -> None:
        """Take the frames again about which storage was asked, or that it had to write something for."""
        if self.unsure:
            unsure, self.unsure, self._unsure_places = self.unsure, {}, MemberShares(MAX_UNSURE)
            for take in unsure:
                take()

    def retry_late(self, user: UserId, take: Callable[[], None]) -> None:
        """Take a frame with late texts of a user again later, if there is a place for its member. Each comes once."""
        if self._unsure_places.take(take, self._sync.members.share(user), self.unsure.pop):
            self.unsure[take] = None

    def take_from(self, source: EntrySource, frames: list[Entries]) -> LogError | None:
        """Take frames that are proven together, from any source. Return the first fault, if any."""
        extensions: dict[LogId, LogExtension] = {}
        fault: LogError | None = None
        for frame in frames:
            try:
                self._take_frame(source, frame, extensions)
            except LogError as error:
                fault = source.blamed_for((frame.c, frame.u), error)
            if fault is not None:
                break
        return self._prove_each(extensions) or fault

    def _prove_all(self, extensions: dict[LogId, LogExtension]) -> None:
        fault = self._prove_each(extensions)
        extensions.clear()
        if fault is not None:
            raise fault

    def _prove_each(self, extensions: dict[LogId, LogExtension]) -> LogError | None:
        fault = None
        for extension in extensions.values():
            false = self._prove(extension)
            if false is not None:
                fault = extension.source.blamed_for(extension.log.key, false) or fault
        return fault

    def _take_frame(self, source: EntrySource, frame: Entries, extensions: dict[LogId, LogExtension]) -> None:
        if extensions and frame.names:
            self._prove_all(extensions)  # a talk is known only after its group; and others may give way to what is new
        if frame.names:
            source.learn_namings(frame.names)
        conversation = source.find_conversation(frame.c)
        if conversation is not None and conversation.is_talk and extensions:
            self._prove_all(extensions)  # what is visible there depends on facts among them
        if conversation is None or not conversation.may_write(frame.u):
            return
        if source.remote is not None and (conversation.id, frame.u) in source.remote.refuted:
            return
        log = conversation.log(frame.u, frame.r)
        # The text of the frame is its own copy, and would stay.
        id = LogId(conversation.id, frame.u, frame.r) if log is None else log.id
        member = ""
        if conversation.has_facts:
            check_fact(frame)
        if frame.first == 1 or frame.fork:
            check_header(frame)
            if not self._sync.may_begin(frame.u, frame.h):
                source.on_dropped("unnamed", id, frame)
                return
            member = self._sync.named_member(frame.h)
        elif frame.u in self._sync.members.unnamed:
            source.on_dropped("unnamed", id, frame)
            return
        if frame.fork:
            self._prove_all(extensions)
            self.forks.on_evidence(source.evidence, conversation, frame)
            return
        if not self._sync.quota.check(id.key, member):
            source.on_dropped("full", id, frame)
            return
        extension = extensions.get(id)
        if extension is None:
            if log is None:
                self._prove_all(extensions)  # the log may build on them
                if conversation.has_facts and not self.groups.may_begin(conversation, frame):
                    return
                log = self._new_logs.begin(source, conversation, id, frame)
            if log is None:
                if member and not self._sync.members.is_named(frame.u) and batch_of(frame).is_signed:
                    self._sync.members.on_early(frame.u, member)  # what it builds on may name another one
                    self._take_again(id)
                return
            extension = extensions[id] = LogExtension(log, source)
        self._extend(extension, frame)

    def _extend(self, extension: LogExtension, frame: Entries) -> None:
        log, next_seq = extension.log, extension.next_seq
        if extension.batches and frame.first < next_seq:  # it may have texts for stubs that came just before
            if not self._is_proven(extension):
                return
        if log.forked:
            extension.source.on_dropped("forked", log.id, frame)
        elif log.covered and count_tips_with(log) > self._ctx.settings.max_tips:
            self._new_logs.refuse(extension.source, log.id, frame)
        elif frame.first > next_seq:
            extension.source.on_dropped("early", log.id, frame)
        elif frame.first + len(frame.e) <= next_seq:
            self._repeat(extension, frame)
        else:
            self._extend_new(extension, frame, next_seq - frame.first)

    def _extend_new(self, extension: LogExtension, frame: Entries, skip: int) -> None:
        """Take a frame, but for so many entries that are here already."""
        prev, raws, first, header = bytes.fromhex(frame.prev), frame.e, frame.first + skip, frame.h
        if skip:
            prev, raws, header = extend_chain(prev, raws[:skip]), raws[skip:], ""
        if prev != extension.chain:
            self._conflict(extension, frame)
            return
        entries, size = decode_checked(raws, first, extension.last_c, MAX_ENTRY_BYTES)
        if skip:
            extension.source.on_repeated(skip)
            self._take_texts(extension, frame)
        chain, head = extend_chain(prev, raws), bytes.fromhex(frame.head)
        extension.batches.append(Batch(extension.log.id, first, raws, entries, prev, chain, head, size, header))
        extension.frame = frame

    def _repeat(self, extension: LogExtension, frame: Entries) -> None:
        """Take a frame without new entries: compare its chain with the one held at its end."""
        log, last = extension.log, frame.first + len(frame.e) - 1
        held = extension.chain if last == extension.next_seq - 1 else self._sync.chain_at(log, last)
        if held is None and (self._sync.missing.get(log.id) or last <= log.durable_seq):
            extension.source.on_dropped("unsure", log.id, frame)
        elif held not in (None, extend_chain(bytes.fromhex(frame.prev), frame.e)):
            self._conflict(extension, frame)
        else:
            extension.source.on_repeated(len(frame.e))
            self._ctx.count("repeated_batch")
            self._take_texts(extension, frame)

    def _take_texts(self, extension: LogExtension, frame: Entries) -> None:
        """Take texts of entries of which stubs are here. They fit: the chain of the frame is the one held."""
        log, quota, missing = extension.log, self._sync.quota, self._sync.missing
        for first, raws in texts_within(missing.get(log.id, 0), frame.first, frame.e):
            entries, size = decode_checked(raws, first, -1, MAX_ENTRY_BYTES)
            if not quota.has_room(log.user, size, begins=False):
                extension.source.on_dropped("full", log.id, frame)
                return
            quota.bytes.add(log.user, size - size_bytes([(c, stub_of(str(text))) for c, text in raws]))
            missing[log.id] &= ~bits_between(first, first + len(raws) - 1)
            batch = Batch(log.id, first, raws, entries, b"", b"", b"", size)
            extension.source.on_kept(log.key, len(raws), size)
            self.order.place_late(log, batch, extension.source.remote)
            if any(map(files_of, entries)):
                self._sync.step.with_files.append((log, batch))
            if log.conversation.holds_choices:
                self._note_choices(log, batch)

    def _conflict(self, extension: LogExtension, frame: Entries) -> None:
        """Take another chain under the same numbers: a fork if its author signed it, otherwise a wrong head."""
        other = batch_of(frame)
        if not other.is_signed:
            raise LogError("a head that does not fit its entries", expected_seq=extension.next_seq, got_seq=frame.first)
        if not self._is_proven(extension):  # frames before it in this read may be good
            return  # nothing is contradicted
        self.forks.on_contradiction(extension.log, None, other)
        extension.source.on_dropped("fork", extension.log.id, frame)

    # ---- proof

    def _is_proven(self, extension: LogExtension) -> bool:
        """Prove all batches that came. Return False if there was no room for some; raises their fault."""
        next_seq = extension.next_seq
        if fault := self._prove(extension):
            raise fault
        return extension.next_seq == next_seq

    def _prove(self, extension: LogExtension) -> LogError | None:
        """Verify heads at most a batch apart and keep what they prove. Return the fault of the first that fails."""
        batches = extension.batches
        while batches:
            count = count_fitting(batches, self._ctx.settings)
            if batches[count - 1].is_signed:
                if not self._keep_proven(extension, joined(batches[:count])):
                    batches.clear()
                del batches[:count]
                continue
            while batches[0].is_signed:  # keep the good ones before the bad one
                if not self._keep_proven(extension, batches[0]):
                    batches.clear()
                    return None
                del batches[:1]
            seq = batches[0].first
            batches.clear()
            return LogError("a head that does not fit its entries", got_seq=seq)
        return None

    def _keep_proven(self, extension: LogExtension, batch: Batch) -> bool:
        """Keep a proven batch. Return False if there is no room for it (yet): then the following ones are
        dropped too.
        """
        log, conversation, entries = extension.log, extension.log.conversation, batch.entries or []
        if conversation.group is not None and not self.groups.accepts(extension, batch):
            return False
        begins = batch.first == 1
        member = self._sync.named_member(batch.header) if begins else ""
        cost, quota = self._cost_of(batch, conversation), self._sync.quota
        if begins:  # less if it takes the place of others in memory
            writer = conversation.writers.get(log.user)
            tips = 0 if writer is None else len(writer.tail_tips())
            cost += quota.log_bytes - (tips + 1 - count_tips_with(log)) * quota.saved_bytes
        if not quota.has_room(log.user, cost, member, begins=begins):
            extension.drop("full")
            return False
        if begins or log.own:
            self._sync.change_run_if_cloned(log.id)
            if log.own:
                log.own = False  # a copy of this process continued it; new entries begin another log
                self._ctx.emit(
                    WarningIssued("two_processes", "another process writes in this one's log: stop one", log.user)
                )
        extension.source.on_kept(log.key, len(entries), batch.size)
        if has_stubs(batch.raws):
            stubs = bits_of(seq for seq, raw in enumerate(batch.raws, batch.first) if is_gone(raw))
            self._sync.missing[log.id] = self._sync.missing.get(log.id, 0) | stubs
        self.append(log, batch)
        if log.user in self._sync.hosted:
            for seq, entry in enumerate(entries, batch.first):
                self._sync.note_key(log, seq, entry)
        self.order.note_age(log, batch.first, entries)
        refers = any(map(_after_of, entries)) or any(map(_answered_by, entries)) or (begins and log.before)
        self.order.on_entries(log, batch.first, entries if refers else (), extension.source.remote)
        return True

    def _cost_of(self, batch: Batch, conversation: ConversationState) -> int:
        """Return what the entries of a batch cost."""
        size = batch.size * FACT_FACTOR if conversation.has_facts else batch.size
        return size + len(batch.raws) * self._ctx.settings.entry_bytes

    def append(self, log: LogState, batch: Batch) -> None:
        """Add a proven batch to its log and to the next commit. Hosted users' batches too."""
        assert batch.entries is not None
        conversation, step = log.conversation, self._sync.step
        if batch.first == 1:
            if conversation.naming.dm and log.user in self._sync.hosted:
                self._sync.inbox.on_answered(conversation, log.user)  # written here, or it came back
            self._sync.people.keep(log.user)
            self._begin(log, batch.header)
            conversation.add(log)
            self._sync.quota.bytes.add(log.user, self._sync.quota.log_bytes)
        elif log.covered:
            self._sync.set_covered(log, False)
        if not conversation.is_stored:
            self._sync.store_naming(conversation)
        self._sync.quota.bytes.add(log.user, self._cost_of(batch, conversation))
        step.grown.append((log, batch))
        step.change.batches.append(batch)
        if any(map(files_of, batch.entries)):
            step.with_files.append((log, batch))
        c = batch.raws[-1][0]
        log.seq, log.chain, log.last_c = batch.last, batch.chain, c
        if conversation.newest_c < c and is_plausible(c, self._ctx.now.utc):
            conversation.newest_c = c
        if conversation.group is not None:
            self.groups.on_kept(log, batch)
        if conversation.holds_choices:
            self._note_choices(log, batch)

    def _note_choices(self, log: LogState, batch: Batch) -> None:
        """Take the names of users, and what hosted ones chose for themselves."""
        is_room = log.conversation.members is None
        for seq, entry in enumerate(batch.entries or (), batch.first):
            if is_room and entry.k == PROFILE.name:
                log.add_profile(seq)
                self._note_name(log, entry)
            elif entry.k == OWN.name and not is_room:
                step, own = self._sync.step, self._ctx.own
                now = max(entry.c, self._ctx.now.utc) if log.own else self._ctx.now.utc
                step.own_state += own.take(log.user, log.ref, entry, step.change.meta, now)

    def _note_name(self, log: LogState, entry: Entry) -> None:
        """Take a name, none from far ahead: it would outweigh all later ones. The own user is called as another machine
        of it says, unless a name was chosen here since; what links announce is no profile yet.
        """
        people, user = self._sync.people, log.user
        if not log.own and entry.c > self._ctx.now.utc + MAX_AHEAD:
            return
        own = self._sync.hosted.get(user) if user == self._ctx.user and not log.own else None
        is_as_known = own is not None and (not people.has_profile(user) or own.name == people.names[user])
        people.on_profile(user, entry)
        if own is not None and is_as_known and people.has_profile(user):
            own.name, own.about = people.names[user], people.abouts.get(user, "")
            self._sync.presence.announcer.renamed(user, own.name)
            self._ctx.change.meta |= {META_NAME: own.name, META_ABOUT: own.about}

    def _begin(self, log: LogState, header: str) -> None:
        """Begin a log, which covers the logs that it names at their last entry."""
        writer = log.conversation.writer(log.user)
        for mark in log.builds_on:
            named = writer.logs.get(mark.run)
            if named is not None and named.seq and named.seq == mark.seq and not named.covered:
                self._sync.set_covered(named, True)
        # Forked logs are never served, so they do not matter for `whole`.
        is_whole = not writer.tail_tips()
        members = self._sync.members.note(log.user, member_of(header))
        self._sync.presence.admission.on_answering(log.user, member_of(header))
        if log.user in self._sync.members.unnamed:
            self._sync.refresh_unnamed([log.user])
        self._take_again(log.id)
        self._ctx.change.logs.append(NewLog(log.id, log.before, is_whole, certificate_of(header), members))

    def _take_again(self, log: LogId) -> None:
        """Have other logs of a writer served again: they were dropped while nobody had named its member."""
        for remote in self._sync.remotes.values():
            remote.dropped.pop(log.key, None)


class LinkSource(EntrySource):
    """The remote peer of a link."""

    def __init__(self, sync: SyncContext, ingest: Ingest, remote: RemoteState) -> None:
        self._sync = sync
        self._ingest = ingest
        self.remote: RemoteState = remote
        self.evidence: ForkEvidence = remote.forks

    def learn_namings(self, namings: Iterable[Naming]) -> None:
        self._sync.learn_namings(self.remote, namings)

    def find_conversation(self, conversation: ConversationId) -> ConversationState | None:
        return self._sync.find_conversation(self.remote, conversation)

    def blamed_for(self, key: WriterKey, error: LogError) -> LogError | None:
        """Return the fault if the peer made it, which hosts the writer: else it lacks a check, and is told to give no
        more of that writer.
        """
        refuted = self.remote.refuted
        if key[1] in self.remote.link.users or len(refuted) >= MAX_REFUTED:
            return error
        refuted[key] = None
        self._sync.ctx.count(f"refuted_{error.code}")
        self.remote.set_ahead(key, {})
        self._sync.send_full(self.remote, key)
        return None

    def on_dropped(self, why: Why, log: LogId, frame: Entries) -> None:
        if why == "early":
            self._ingest.fetcher.on_early(self.remote, log, frame)
        elif why == "unsure":  # other frames come again
            if self._sync.missing.get(log):
                self._ingest.retry_late(log.user, partial(self._retry, frame))
        elif why == "unnamed":
            self.remote.on_dropped(log.key)
        elif why == "forked":
            self._ingest.forks.send_evidence(self.remote, log)
        elif why in ("full", "group", "cut"):  # no want waits for it
            self.remote.set_ahead(log.key, {})
        if why == "group":
            self.remote.groups_refused[log.conversation] = None
        if why in ("full", "group"):
            self._sync.send_full(self.remote, log.key)

    def _retry(self, frame: Entries) -> None:
        if self._sync.is_up(self.remote) and (fault := self._ingest.take_from(self, [frame])):
            self._sync.fail(self.remote, fault)

    def on_kept(self, key: WriterKey, count: int, size: int) -> None:
        if self.remote.refusals:
            self.remote.refusals.pop(key, None)  # it gives although it takes no more: it hears the result
        self._sync.step.sources.setdefault(key, set()).add(self.remote.id)
        if key in self._ingest.fetcher.requests:
            self._ingest.fetcher.on_progress(key, self.remote.id, count, size)
