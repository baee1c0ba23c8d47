"""What is kept and how it spreads: the machines of synchronisation, put together.

One Sync is built from what storage holds; when storage fails it is thrown away and built anew (node.py). It takes
frames of links that are up, what hosted users say, and the answers of storage; what to do about them is decided in

    ingest.py   entries of others        append.py  entries of hosted users     causal_order.py     when they are shown
    anti_entropy.py  digests and marks        fetch.py     fetching what is missing    serve.py     giving it
    delivery_receipts.py who has what             forks.py    authors who said two things under one number
    typing.py   who writes just now
    read_receipts.py    who has read what, with read_receipts.py, read_receipts.py, read_receipts.py and
    read_receipts.py groups.py    groups and their talk    append.py what is done to groups      replicator.py   what a
    start takes in import_file.py entries that came in a file                                     quota.py     how much
    is stored of whom

This file knows the order in which they are asked, and what follows a commit.

Source: docs/protocol.md, "Synchronisation".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from p2pchat.core.context import Context, HostedIdentities
from p2pchat.core.effects import Counted, DeliveryReceipt, Released, WriteAccepted, WriteRefused
from p2pchat.core.inputs import FetchResult, ImportRequest, LookupResult, WriteRequest
from p2pchat.core.log import Batch, LogId, ref_key
from p2pchat.core.mesh.link import PeerLink
from p2pchat.core.mesh.presence import PresenceTracker
from p2pchat.core.records import Change, DeliveredMark, LogFacts, LogKey, ReadMark, Stored, relation_of
from p2pchat.core.sync.anti_entropy import COMPARED_ROOM, AntiEntropy
from p2pchat.core.sync.append import Appender, GroupEditor
from p2pchat.core.sync.causal_order import KEPT_RECENT, CausalOrder, references_of
from p2pchat.core.sync.conversations import Conversations, KnownPeople
from p2pchat.core.sync.delivery_receipts import DeliveryReceipts
from p2pchat.core.sync.fetch import Fetcher
from p2pchat.core.sync.forks import Forks
from p2pchat.core.sync.groups import GroupSync
from p2pchat.core.sync.import_file import FileImport
from p2pchat.core.sync.ingest import Ingest
from p2pchat.core.sync.log_index import OLD_MARKS, ConversationState, HistoryBoundary, Log, WaitingEntry, is_plausible
from p2pchat.core.sync.lookups import Lookups
from p2pchat.core.sync.progress import Key, RemoteState, SyncContext, Transaction
from p2pchat.core.sync.quota import Quota, UnknownUserQuota
from p2pchat.core.sync.read_receipts import ReadReceipts
from p2pchat.core.sync.serve import Sender
from p2pchat.core.sync.typing import TypingIndicators
from p2pchat.errors import LogError
from p2pchat.protocol import Digest, Entries, Frame, Have, Naming, ReadFrame, RunId, UserId, Want
from p2pchat.protocol import TypingFrame as TypingFrame


@dataclass(slots=True)
class PendingCommit:
    """A commit that is not durable yet."""

    change: Change
    step: Transaction


class Replicator:
    """Logs, marks and everything that keeps peers alike."""

    def __init__(
        self, ctx: Context, network: str, presence: PresenceTracker, hosted: HostedIdentities, stored: Stored,
        run: RunId, *, is_open: bool,
    ) -> None:  # fmt: skip
        self._ctx = ctx
        self._in_flight: dict[int, PendingCommit] = {}
        self.conversations = Conversations(network)
        self.lookups = Lookups(ctx)
        self.people = KnownPeople(ctx, stored.users, stored.former)
        strangers = UnknownUserQuota(ctx, self.conversations, hosted, lambda user: bool(presence.hosts(user)))
        self.quota = Quota(ctx, self.lookups, stored, hosted, self.people.names, strangers if is_open else None)
        self.quota.is_under_way, self.quota.on_full = self._is_under_way, self._is_full
        self.shelf = SyncContext(ctx, self.conversations, self.lookups, presence, hosted, run, self.quota)
        self.order = CausalOrder(self.shelf, stored.next_place)
        self.receipts = DeliveryReceipts(self.shelf, stored.heard)
        self.pull = Fetcher(self.shelf)
        self.forks = Forks(self.shelf, self.people, self.order)
        self.talks = GroupSync(self.shelf, self.order, self.pull)
        self.forks.on_fork, self.forks.on_recall = self.talks.forked, self.talks.recalled
        self.intake = Ingest(self.shelf, self.order, self.pull, self.people, self.forks, self.talks)
        self.carrying = FileImport(self.shelf, self.intake, self.forks, self._newest_in_flight)
        self.writing = Appender(self.shelf, self.intake, self.order)
        self.compare = AntiEntropy(self.shelf, self.pull, self.receipts, self.forks)
        self.reads = ReadReceipts(self.shelf, stored.reads, stored.meta, self.receipts)
        self.receipts.then, self.compare.on_digest = self.reads.readers.delivered, self.reads.send_sum
        self.serve = Sender(self.shelf, self.forks)
        self.typing = TypingIndicators(self.shelf)
        self.grouping = GroupEditor(self.shelf, self.writing)
        self.talks.compare, self.talks.on_change = self._tell_sum, self.grouping.look
        self._gossip: set[Key] = set()
        self._stored = stored
        self._compared_room = stored.meta.get(COMPARED_ROOM)
        self._loading = StateLoader(self.shelf, self.order, self.writing, self.talks)
        self._loading.load(stored)
        self._new_here()

    # ---- starting

    def start(self) -> None:
        """Begin with what depends on the present moment."""
        stored, self._stored = self._stored, Stored()
        self._loading.start(stored)
        self.grouping.start()
        self.quota.start()

    def _new_here(self) -> None:
        room = self.conversations.by_id.get(self.conversations.room)
        if room is not None:  # who only wrote here, or had a file, has heard nothing yet
            room.newcomer = self._compared_room != room.id

    def found_network(self, network: str) -> None:
        """Take the id of an open network."""
        self.conversations.found_network(network)
        self._new_here()

    def rest(self, on: bool) -> None:
        """Nothing can be kept for a while, or again: ask for nothing then, and write nothing that nobody asked for."""
        self.pull.rest(on)
        self.grouping.rest(on)

    # ---- links

    def link_up(self, link: PeerLink) -> None:
        self.shelf.sides[link.id] = RemoteState(link)

    def link_down(self, link: PeerLink) -> None:
        side = self.shelf.sides.pop(link.id, None)
        if side is not None:
            self.pull.link_gone(side)
            self.order.link_gone(side)
            self.typing.link_down(side)
            self.reads.link_down(side)
            self.shelf.sweep()

    def is_unheard_of(self, user: UserId) -> bool:
        """Whether nothing is known of a user, and no conversation with it: nothing here is shared because of it."""
        return user not in self.people.names and not self.conversations.has_any_of(user)

    def hosts_told(self, link: PeerLink, users: Sequence[UserId], gone: Iterable[UserId], *, fresh: bool) -> None:
        """The far end has told all users it hosts, or these anew: now everything is compared. Who comes back as well.

        fresh: nobody has ever heard of these. So who hosts thousands, one after the other, costs no comparison each.
        """
        side = self.shelf.sides.get(link.id)
        if side is None or not self.shelf.presence.complete(link.id):
            return
        for user in gone:
            side.sharing_seen.pop(user, None)
        if side.begun and (fresh or all(user in side.sharing_seen for user in users)):
            side.sharing_seen.update(dict.fromkeys(users))
        else:
            self.compare.begin(side)

    def compare_all(self) -> None:
        """Compare with every link again."""
        for side in self.shelf.sides.values():
            if side.begun:
                self.compare.begin(side)

    def drained(self, link: int) -> None:
        side = self.shelf.sides.get(link)
        if side is not None:
            self.forks.drained(side)
            self.serve.drained(side)

    def _tell_sum(self, side: RemoteState) -> None:
        """A group is another: whoever may know of it is told; who hears nothing now is compared with later."""
        if side.hears_marks:
            self.compare.send_digest(side)

    def random_digest(self) -> None:
        """Tell one link the sum of what is held: each once, in an order left to chance, before any comes again.

        Chance alone may pass over a link for minutes, and what went wrong there is not found so long.
        """
        ready = [side for side in self.shelf.sides.values() if side.begun and side.hears_marks]
        if ready and all(side.had_turn for side in ready):
            for side in ready:
                side.had_turn = False
        due = [side for side in ready if not side.had_turn]
        if due:
            chosen = due[int(self._ctx.random() * len(due))]
            chosen.had_turn = True
            self.compare.send_digest(chosen)

    def continue_from(self, former: Replicator) -> None:
        """Storage failed and was loaded anew: receipts told stay told, opened conversations open, users allowed."""
        self.receipts.keep(former.receipts)
        self.reads.keep(former.reads)
        self.quota.keep(former.quota)
        self.shelf.banned = former.shelf.banned
        for id, conversation in former.conversations.by_id.items():
            if id not in former.conversations.passing and conversation.group is None:
                self.conversations.open(conversation.naming)

    # ---- frames

    def frames(self, link: PeerLink, frames: list[Frame]) -> LogError | None:
        """Take frames of one read; returns the fault that must end the link."""
        side = self.shelf.sides.get(link.id)
        if side is None:
            return None
        entries: list[Entries] = []  # consecutive ones are taken together
        for frame in frames:
            if isinstance(frame, Entries):
                entries.append(frame)
            elif fault := self.intake.take(side, entries) or self._frame(side, frame):
                return fault
            else:
                entries = []
        return self.intake.take(side, entries)

    def told_once(self, link: PeerLink, frames: list[Frame]) -> None:
        """Take from frames only what is never told again: what conversation ids stand for, and that a want is over."""
        side = self.shelf.sides.get(link.id)
        for frame in frames:
            if side is not None and isinstance(frame, (Digest, Have, Want, Entries, ReadFrame, TypingFrame)):
                self.shelf.learn(side, frame.names)
            if side is not None and isinstance(frame, Have) and frame.end is not None:
                self.pull.ended(side, frame.end)

    def _frame(self, side: RemoteState, frame: Frame) -> LogError | None:
        if isinstance(frame, Have):
            self.compare.have(side, frame)
            if frame.full:
                self.serve.refused(side, frame.full)
        elif isinstance(frame, Want):
            text = self.serve.want(side, frame)
            return LogError(text, code="limit") if text else None
        elif isinstance(frame, Digest):
            self.compare.digest(side, frame)
        elif isinstance(frame, TypingFrame):
            return self.typing.got(side, frame)
        elif isinstance(frame, ReadFrame):
            return self.reads.hear(side, frame)
        else:
            self._ctx.emit(Counted("frame_ignored"))
        return None

    # ---- users

    def opened(self, naming: Naming) -> None:
        self.conversations.open(naming)

    def said(self, said: WriteRequest) -> None:
        self.writing.said(said)
        self.typing.wrote(said.conversation, said.user)
        conversation = self.conversations.by_id.get(said.conversation)
        if conversation is not None and conversation.members and self.quota.wrote(conversation.members):
            self.compare_all()

    def hosting(self, user: UserId, heard: Iterable[DeliveredMark], reads: Iterable[ReadMark]) -> None:
        """This peer speaks for one more user: go on with what is known of it; nothing of a new key is."""
        if not self.is_unheard_of(user):
            for side in self.shelf.sides.values():
                side.named.clear()  # who was told that it is hosted no more has forgotten what nothing had come of
        self.receipts.host((item.log, item.member, item.seq) for item in heard)
        self.reads.host(user, reads)
        if user in self.people.names:  # it may have written
            self.writing.host(user)
        self.talks.hosts_changed(user)
        self.conversations.concern(user, self.shelf.hosted)

    def unhosting(self, user: UserId) -> None:
        """This peer is about to speak for this user no more: nothing more is said of it, or for it."""
        self.typing.unhost(user)
        self.reads.unhost(user)

    def unhosted(self, user: UserId) -> None:
        """This peer speaks for this user no more: what concerned nobody else here is told to nobody."""
        self.talks.hosts_changed()
        self.conversations.concern(user, self.shelf.hosted)

    def allowed(self, user: UserId) -> None:
        """A limit is lifted: what was refused comes with the next comparison."""
        self.quota.allow(user)
        for side in self.shelf.sides.values():
            side.full_told = {key: at for key, at in side.full_told.items() if key[1] != user}
        self.compare_all()

    def _is_full(self, user: UserId) -> None:
        """No more of a user is taken: nothing is wanted of it, or waited for."""
        for side in self.shelf.sides.values():
            for key in [key for key in side.ahead if key[1] == user]:
                side.set_ahead(key, {})

    def _is_under_way(self, user: UserId) -> bool:
        changes = [*(flight.change for flight in self._in_flight.values()), self._ctx.change]
        return any(batch.log.user == user for change in changes for batch in change.batches)

    def carried(self, input: ImportRequest) -> None:
        self.carrying.take(input)

    # ---- storage

    def in_flight(self, ticket: int, change: Change, step: Transaction) -> None:
        """A commit was ordered."""
        self._in_flight[ticket] = PendingCommit(change, step)
        for load in step.loads.values():
            load.commits += 1

    def _newest_in_flight(self) -> Transaction | None:
        return next(reversed(self._in_flight.values())).step if self._in_flight else None

    def committed(self, tickets: list[int]) -> None:
        """These are durable: tell their writers, everyone they are for, and this peer's own programs."""
        for ticket in tickets:
            done = self._in_flight.pop(ticket, None)
            if done is not None:
                self._durable(done)

    def _durable(self, done: PendingCommit) -> None:
        change = done.change
        touched = self._apply(change)
        if change.stretches:
            self._ctx.emit(Released(change.stretches))
        for ticket, said_in, first, count, kind in done.step.said:
            members, here = self._members(said_in.conversation, said_in.user)
            self._ctx.emit(WriteAccepted(ticket, said_in, first, count, members, kind, here))
            is_open = self.conversations.by_id[said_in.conversation].is_open
            if members == (said_in.user,) and not is_open:  # a note to oneself is where it has to be
                self._ctx.emit(DeliveryReceipt(said_in, first, first + count - 1, said_in.user))
        self._acknowledge(done.step)
        self.carrying.durable(done.step.loads.values())
        for batch in change.batches:
            conversation = self.conversations.by_id[batch.log.conversation]
            log = conversation.log(batch.log.user, batch.log.run)
            if log is not None and log.own:
                self.receipts.made(batch)
                self.serve.push(conversation, log, batch)
                self._count_early(conversation, batch)
            if self.typing.heard:
                self.typing.wrote(batch.log.conversation, batch.log.user)
        if done.step.news:
            self.talks.tell(done.step.news)
        if done.step.groups:
            self.talks.durable(done.step.groups)
        for fork in change.forks:
            self.forks.durable(fork)
            self.reads.readers.tip_gone(fork.log)
        for conversation, log in touched:
            if log.id.user in self.shelf.hosted and not log.own:
                self._count_heard(conversation, log.id.user)
            if conversation.drop_if_settled(log):
                self.order.left_memory(conversation, log)

    def _apply(self, change: Change) -> list[tuple[ConversationState, Log]]:
        """Bring what is told to others up to what is durable; return the logs that changed."""
        touched: dict[object, tuple[ConversationState, Log]] = {}

        def find(id: tuple[str, str, str]) -> Log | None:
            conversation = self.conversations.by_id[id[0]]
            log = conversation.log(id[1], id[2])
            if log is not None:
                touched[log.id] = (conversation, log)
            return log

        for batch in change.batches:
            if (log := find(batch.log)) is not None:
                log.kept_seq, log.kept_chain = batch.last, batch.chain
        for id in change.uncovered:
            if (log := find(id)) is not None:
                log.kept_covered = False
        for id in change.covered:
            if (log := find(id)) is not None:
                log.kept_covered = True
        for stretch in change.stretches:
            find(stretch.log)
        for conversation, log in touched.values():
            conversation.refresh(log)
            if conversation.is_talk and not conversation.writers[log.id.user].plain:
                self.talks.settle(conversation, conversation.writers[log.id.user])
        return list(touched.values())

    def _members(self, conversation_id: str, user: UserId) -> tuple[tuple[UserId, ...], tuple[UserId, ...]]:
        """Return whom a receipt counts, and who of them is hosted here: the other of two (or oneself), in the room
        everyone who is online now."""
        conversation, hosted = self.conversations.by_id[conversation_id], self.shelf.hosted
        if conversation.group is not None and conversation.group.state is not None:
            members = tuple(sorted(conversation.group.state.present - {user})) or (user,)
        elif conversation.members is not None:
            members = tuple(sorted(conversation.members - {user})) or (user,)
        else:
            return self.shelf.presence.counted(user)
        return members, () if len(hosted) == 1 else tuple(one for one in members if one in hosted and one != user)

    def _acknowledge(self, step: Transaction) -> None:
        for link, keys in step.sources.items():
            side = self.shelf.sides.get(link)
            if side is not None:
                self.shelf.owe(side, keys)
            for key in keys:
                for host in self.shelf.presence.hosts(key[1]):
                    if host in self.shelf.sides:
                        self.shelf.owe(self.shelf.sides[host], (key,))
                self._news(key)

    def _count_heard(self, conversation: ConversationState, user: UserId) -> None:
        """Own entries came back from others: marks heard before count now."""
        for side in self.shelf.sides.values():
            marks = side.heard.get((conversation.id, user))
            if marks:
                self.receipts.heard(side, conversation, user, list(marks.values()))

    def _count_early(self, conversation: ConversationState, batch: Batch) -> None:
        """Who was served from storage before this node heard of its own commit may have said so already."""
        for side in self.shelf.sides.values():
            mark = side.heard.get(batch.log.key, {}).get(batch.log.run)
            if mark is not None and mark.seq >= batch.first:
                self.receipts.heard(side, conversation, batch.log.user, [mark])

    # ---- gossip

    def _news(self, key: Key) -> None:
        if not self._gossip:
            wait = self._ctx.settings.gossip_within * (0.5 + self._ctx.random() / 2)
            self.shelf.after(wait, self._tell_news)
        self._gossip.add(key)

    def _tell_news(self) -> None:
        """Tell marks to links that may not hear them from the writer's own peers."""
        keys, self._gossip = sorted(self._gossip), set()
        for key in keys:
            conversation = self.conversations.by_id[key[0]]
            hosts = {
                self.shelf.sides[id].link.peer for id in self.shelf.presence.hosts(key[1]) if id in self.shelf.sides
            }
            for side in self.shelf.sharing(conversation):
                linked = side.link.linked.keys() | {side.link.peer}
                if not hosts or not hosts <= linked:
                    self.shelf.owe(side, (key,))

    def fetched(self, answer: FetchResult) -> None:
        self.lookups.fetched(answer)

    def found(self, answer: LookupResult) -> None:
        self.lookups.found(answer)
        self.order.answered()

    def refuse_all(self, reason: str) -> dict[str, int]:
        """Storage failed: nothing that is on its way was kept. Returns the places of consumers that were among it."""
        places: dict[str, int] = {}
        for flight in self._in_flight.values():
            places.update(flight.change.consumers)
            for ticket, *_ in flight.step.said:
                self._ctx.emit(WriteRefused(ticket, "storage", f"not kept: {reason}"))
        self.carrying.refuse_all(reason)
        self.typing.end()
        self._in_flight.clear()
        self.pull.rest(True)
        self.shelf.dead = True
        return places


# ---- loading
#
# What a starting node takes into memory of what is stored: tips, what waits, what was old, and what was shown last.
#
# First what is there (load), then what depends on the present moment (start): how far logs of talks are visible, what
# may be shown now, whose clock counts.


class StateLoader:
    """Begins with what is stored."""

    def __init__(self, shelf: SyncContext, order: CausalOrder, writing: Appender, talks: GroupSync) -> None:
        self._shelf = shelf
        self._ctx = shelf.ctx
        self._conversations = shelf.conversations
        self._order = order
        self._writing = writing
        self._talks = talks

    def load(self, stored: Stored) -> None:
        """Take what is there, whatever the time is."""
        for talk in stored.talks:
            conversation = self._conversations.open(talk.naming)
            if conversation is not None:
                conversation.stored = True
                if talk.naming.dm:  # of a user who was hosted once
                    conversation.concerns_us = not self._shelf.hosted.keys().isdisjoint(talk.naming.dm)
        self._talks.load(stored.groups, stored.forked)
        for facts in [*stored.tips, *stored.unreleased]:
            self._load_log(facts)
        for id in stored.forked:
            self._load_forked(id)
        for back, (log, seq) in enumerate(reversed(stored.recent)):
            self._load_recent(log, seq, stored.next_place - 1 - back)

    def start(self, stored: Stored) -> None:
        """Go on with what depends on the present moment."""
        for facts in stored.tips:  # what they build on is older, unless its writer's clock was wrong
            conversation = self._conversations.by_id.get(facts.log.conversation)
            if conversation is not None and is_plausible(
                facts.last_c, self._ctx.now.utc, self._ctx.settings.clock_ahead
            ):
                conversation.newest_c = max(conversation.newest_c, facts.last_c)
        self._load_past(stored)
        self._load_waiting(stored)  # before what of a talk may be shown is known, and shown
        self._talks.start(stored.meta)
        self._resume_waiting(stored)

    def _load_past(self, stored: Stored) -> None:
        """Go on with a first fetch: what was old before the restart is, but for what was shown of it."""
        for name, text in stored.meta.items():
            word, _, id = name.partition(":")
            there = self._conversations.by_id.get(id or stored.meta.get(COMPARED_ROOM, ""))
            if word == OLD_MARKS and there is not None and text:
                self._go_on_with(there, HistoryBoundary(text))

    def _go_on_with(self, conversation: ConversationState, past: HistoryBoundary) -> None:
        conversation.past = past
        for id in list(past.unshown(conversation.id)):
            log = conversation.log(id.user, id.run)
            if log is not None:
                self._order.no_longer_old(conversation, id, log.released)
            else:
                key = LogKey(conversation.id, ref_key(id.user, id.run))
                self._shelf.lookups.log(key, partial(self._found_shown, conversation, id))

    def _found_shown(self, room: ConversationState, id: LogId, facts: LogFacts | None) -> None:
        self._order.no_longer_old(room, id, facts.released if facts else 0)

    def _load_log(self, facts: LogFacts) -> None:
        conversation = self._conversations.by_id.get(facts.log.conversation)
        if conversation is not None and conversation.log(facts.log.user, facts.log.run) is None:
            conversation.refresh(conversation.add(conversation.log_of(facts)))

    def _load_forked(self, id: LogId) -> None:
        """Nothing more of a forked log is fetched or taken: that must be known after a restart too."""
        conversation = self._conversations.by_id.get(id.conversation)
        if conversation is not None:
            log = conversation.log(id.user, id.run) or conversation.add(conversation.new_log(id))
            log.forked = True
            conversation.writer(id.user).builds = True  # it may have: storage is asked

    def _load_waiting(self, stored: Stored) -> None:
        for item in stored.waiting:
            conversation = self._conversations.by_id.get(item.log.conversation)
            log = conversation.log(item.log.user, item.log.run) if conversation else None
            if log is not None and (refs := references_of(log, item.seq, item.entry)):
                mending = relation_of(log.id, item.seq, item.entry)
                log.queue.append(WaitingEntry(item.seq, refs, self._ctx.now.mono, mending))

    def _resume_waiting(self, stored: Stored) -> None:
        for id in {facts.log.conversation for facts in stored.unreleased}:
            if id in self._conversations.by_id:
                self._order.resume(self._conversations.by_id[id])

    def _load_recent(self, log: LogId, seq: int, place: int) -> None:
        """Take one of the newest stretches; they come newest first."""
        conversation = self._conversations.by_id.get(log.conversation)
        if conversation is None:
            return
        if log.user in self._shelf.hosted:
            self._writing.resume(conversation, log.user, place)
        ref = ref_key(log.user, log.run)
        if len(conversation.recent) < KEPT_RECENT and all(item[2] != ref for item in conversation.recent):
            conversation.recent.insert(0, (place, log.user, ref, seq))
