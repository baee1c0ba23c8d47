"""The replicator: what one peer stores, sends, shows and acknowledges, from a frame or a write to what is told of it.

Its machines stand in the constructor, each given those that it calls. Frames and writes change logs and the Step
(sync_context.py), the node commits that, and `publish` tells what is durable. A Replicator is built from what storage
holds, and replaced when storage fails (node.py).

Source: docs/protocol.md, "Sync".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain

from p2pchat.core.contacts import Blocks, Contacts
from p2pchat.core.content.transfers import Transfers
from p2pchat.core.durable_changes import DeliveredMark, DiskLevel, ReadMark, Stored
from p2pchat.core.effects import GroupUpdate, Released, WriteRefused
from p2pchat.core.inputs import LookupResult, WriteRequest
from p2pchat.core.log import LogId, Ref, is_plausible, ref_key, size_bytes
from p2pchat.core.members.member_directory import MemberDirectory
from p2pchat.core.members.statement import room_id
from p2pchat.core.members.statement_exchange import StatementExchange
from p2pchat.core.mesh.peer_link import PeerLink
from p2pchat.core.mesh.presence_tracker import PresenceTracker
from p2pchat.core.names import KnownPeople
from p2pchat.core.node_context import HostedIdentities, NetworkCredentials, NodeContext
from p2pchat.core.receipts.mark_exchange import mark_refused
from p2pchat.core.receipts.peer_receipts import PeerReceipts
from p2pchat.core.sync.anti_entropy import AntiEntropy
from p2pchat.core.sync.appender import Appender
from p2pchat.core.sync.causal_order import KEPT_RECENT
from p2pchat.core.sync.conversation_state import ConversationState, LogState, seq_of, user_of
from p2pchat.core.sync.group_editor import GroupEditor
from p2pchat.core.sync.group_sync import GroupSync
from p2pchat.core.sync.import_file import FileImport
from p2pchat.core.sync.ingest import Ingest, LinkSource
from p2pchat.core.sync.known_conversations import Inbox, KnownConversations
from p2pchat.core.sync.missing_texts import MissingTexts
from p2pchat.core.sync.pruner import Pruner
from p2pchat.core.sync.quota import FACT_FACTOR, Quota
from p2pchat.core.sync.remote_state import RemoteState
from p2pchat.core.sync.sender import Sender
from p2pchat.core.sync.step import Step
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.core.sync.typing_tracker import TypingTracker
from p2pchat.errors import LogError
from p2pchat.kinds.deletion import DELETION
from p2pchat.protocol import (
    MAX_INT,
    Digest,
    Entries,
    Frame,
    Have,
    Holds,
    Lacks,
    Piece,
    Pong,
    Pull,
    ReadFrame,
    RunId,
    Statements,
    TypingFrame,
    UserId,
    Want,
)

SWEPT_EVERY = 60.0  # seconds between two looks for conversations that peers named; a guess
JOINED = "joined"  # in meta, before the room's id: when this peer came to belong to that network


class Replicator:
    """Replicates logs: keeps the entries of all peers alike."""

    def __init__(
        self, ctx: NodeContext, network: NetworkCredentials, presence: PresenceTracker, hosted: HostedIdentities,
        contacts: Contacts, blocks: Blocks, stored: Stored, run: RunId,
        statements: StatementExchange, members: MemberDirectory,
    ) -> None:  # fmt: skip
        self._ctx = ctx
        self.statements: StatementExchange = statements
        self.context: SyncContext = SyncContext(
            ctx,
            network.room or room_id(network.id),
            presence,
            hosted,
            contacts,
            blocks,
            members,
            self.statements,
            stored,
            run,
        )
        self.conversations: KnownConversations = self.context.conversations
        self.people: KnownPeople = self.context.people
        self.quota: Quota = self.context.quota
        self.inbox: Inbox = self.context.inbox
        self.ingest: Ingest = Ingest(self.context, stored.next_place)
        self.groups: GroupSync = self.ingest.groups
        self.appender: Appender = Appender(self.context, self.ingest)
        self.group_editor: GroupEditor = GroupEditor(self.context, self.appender)
        self.file_import: FileImport = FileImport(self.context, self.ingest, self.statements)
        self.receipts: PeerReceipts = PeerReceipts(self.context, stored)
        self.transfers: Transfers = Transfers(self.context, stored.meta, stored.named)
        self.anti_entropy: AntiEntropy = AntiEntropy(
            self.context, self.ingest.fetcher, self.ingest.forks, self._before_digest
        )
        self.sender: Sender = Sender(self.context, self.ingest.forks)
        self.missing: MissingTexts = MissingTexts(self.context, self.sender, self.receipts.on_texts_known)
        self.typing: TypingTracker = TypingTracker(self.context)
        self.pruner: Pruner = Pruner(self.context, self.anti_entropy)
        self._stored = stored
        self._room: ConversationState = self.conversations[self.conversations.room]
        self.context.missing.update(stored.missing)
        self._load(stored)
        self._room.history_until = int(stored.meta.get(JOINED + self._room.id, MAX_INT))

    # ---- start

    def start(self) -> None:
        """Begin everything that depends on the present time."""
        stored, self._stored = self._stored, Stored()
        self._load_timed(stored)
        self.quota.bytes.load(self._stored_costs(stored).items())
        self.inbox.start()
        self.transfers.requests.on_loaded([*stored.tips, *stored.unreleased], stored.meta)
        self._sweep()
        self.transfers.requests.begin_next()

    def join(self) -> None:
        """Take what others wrote in the room before now as history, unless this peer belonged to the network before."""
        if self._room.history_until == MAX_INT:
            self._room.history_until = self._ctx.now.utc
            self._ctx.change.meta[JOINED + self._room.id] = str(self._room.history_until)

    def set_disk(self, level: DiskLevel) -> None:
        """Fetch nothing and write nothing unasked while nothing can be stored; refuse what there is no space for."""
        self.quota.disk = level
        if level is DiskLevel.NOTHING:
            self.ingest.fetcher.give_up()
        for remote in self.context.remotes.values():
            remote.full_sent_at.clear()

    # ---- links

    def on_link_up(self, link: PeerLink) -> None:
        self.context.remotes[link.id] = RemoteState(link, named={self.conversations.room: None})
        self.statements.on_link_up(link.id)

    def on_link_down(self, link: PeerLink) -> None:
        self.statements.on_link_down(link.id)
        remote = self.context.remotes.pop(link.id, None)
        if remote is not None:
            self.ingest.fetcher.on_link_down(remote)
            self.ingest.order.on_link_down(remote)
            self.typing.on_link_down(remote)
            self.receipts.on_link_down(remote)
            self.transfers.on_link_down(remote)

    def on_gone(self, user: UserId) -> None:
        """Forget a user who never wrote, of whom no link tells anything any more."""
        self.people.forget(user)
        self.receipts.marks.tracker.on_gone(user)

    def is_unknown(self, user: UserId) -> bool:
        """Return whether nothing is known of a user and there is no conversation with it, so that nothing is shared
        because of it.
        """
        return user not in self.people.names and not self.conversations.has_any_of(user)

    def on_users_announced(
        self, link: PeerLink, users: Sequence[UserId], gone: Iterable[UserId], *, fresh: bool
    ) -> None:
        """Compare when a remote has announced all its users, or new or returning ones.

        fresh: they are unknown here. So hosting thousands of new users costs no comparison for each.
        """
        remote = self.context.remotes.get(link.id)
        if remote is None:
            return
        self.missing.on_users_announced(remote, users)
        if not link.has_listed_users:
            return
        for user in gone:
            remote.comparison.known_users.pop(user, None)
        if len(remote.comparison.known_users) > len(link.users):  # some lost their places to others
            for user in remote.comparison.known_users.keys() - link.users.keys():
                del remote.comparison.known_users[user]
        is_nothing_new = fresh and not remote.names_unopened(users)
        if remote.comparison.begun and (is_nothing_new or all(u in remote.comparison.known_users for u in users)):
            remote.comparison.known_users.update(dict.fromkeys(users))
        else:
            new = [user for user in users if user not in remote.comparison.known_users]
            self.context.forget_names(remote, new)  # it ignored or forgot these
            self.receipts.marks.on_readers_announced(remote, new)
            self.anti_entropy.begin_next(remote)

    def compare_all(self) -> None:
        """Compare with every link again."""
        self.statements.compare_all()
        for remote in self.context.remotes.values():
            if remote.comparison.begun:
                self.anti_entropy.begin(remote)

    def on_drained(self, link: int) -> None:
        remote = self.context.remotes.get(link)
        if remote is not None:
            self.ingest.forks.on_drained(remote)
            self.sender.on_drained(remote)

    # ---- frames

    def on_frames(self, link: PeerLink, frames: list[Frame]) -> LogError | None:
        """Take the frames of one read. Return the fault that must end the link, if any."""
        remote = self.context.remotes.get(link.id)
        if remote is None:
            return None
        entries: list[Entries] = []  # consecutive ones are taken together
        for frame in frames:
            if type(frame) is Entries:
                entries.append(frame)
                continue
            fault = self._take_entries(remote, entries) or self._on_frame(remote, frame)
            if fault is not None:
                return fault
            entries = []
        return self._take_entries(remote, entries)

    def _take_entries(self, remote: RemoteState, frames: list[Entries]) -> LogError | None:
        if not frames:
            return None
        return self.ingest.take_from(LinkSource(self.context, self.ingest, remote), frames)

    def on_frames_while_disk_low(self, link: PeerLink, frames: list[Frame]) -> None:
        """Take only information that is never repeated: names of conversation ids, the end of a want."""
        remote = self.context.remotes.get(link.id)
        for frame in frames:
            if remote is not None and isinstance(frame, (Digest, Have, Want, Entries, ReadFrame, TypingFrame)):
                self.context.learn_namings(remote, frame.names)
            if remote is not None and isinstance(frame, Have) and frame.end is not None:
                self.ingest.fetcher.on_want_ended(remote, frame.end)

    def _on_frame(self, remote: RemoteState, frame: Frame) -> LogError | None:
        if isinstance(frame, Have | Digest) and self.context.missing:
            self.missing.tell(remote)  # marks may answer it
        if isinstance(frame, Have):
            self.anti_entropy.on_have(remote, frame)
            if frame.lacks:
                self.missing.on_lacks(remote, frame.lacks)
            self.receipts.on_acked(self.context.step)
            if frame.full:
                self.sender.on_refused(remote, frame.full)
        elif isinstance(frame, Want):
            text = self.sender.on_want(remote, frame)
            return LogError(text, code="limit") if text else None
        elif isinstance(frame, Digest):
            self.anti_entropy.on_digest(remote, frame)
            self.receipts.on_acked(self.context.step)
        elif isinstance(frame, Statements):
            if frame.sum is not None and self.statements.differs(frame.sum):
                remote.forks.sent.clear()  # it may lack statements, and have refused evidence
            return self.statements.on_frame(remote.id, frame)
        elif isinstance(frame, TypingFrame):
            return self.typing.on_frame(remote, frame)
        elif isinstance(frame, ReadFrame):
            return self.receipts.marks.on_frame(remote, frame)
        elif isinstance(frame, Piece):
            return self.transfers.on_piece(remote, frame)
        elif isinstance(frame, Pull):
            return self.transfers.on_pull(remote, frame)
        elif isinstance(frame, Lacks):
            self.transfers.on_lacks(remote, frame)
        elif isinstance(frame, Holds):
            self.transfers.receipts.on_frame(remote, frame)
        elif isinstance(frame, Pong):
            self.anti_entropy.pages.on_pong(remote)
        return None

    # ---- users

    def write(self, request: WriteRequest) -> None:
        self.appender.write_texts(request)
        if self.typing.local or self.typing.active:
            self.typing.on_end(request.conversation, request.user)

    def on_user_hosted(self, user: UserId, delivered: Iterable[DeliveredMark], reads: Iterable[ReadMark]) -> None:
        self.context.refresh_unnamed([user])
        if not self.is_unknown(user):
            for remote in self.context.remotes.values():
                self.context.forget_names(remote, [user])  # a remote that ignored or forgot these needs them again
        self.receipts.on_user_hosted(user, delivered, reads)
        self.quota.on_hosts_changed(user)
        if user in self.people.names:  # it may have written before
            self.appender.on_user_hosted(user)
        self.groups.on_hosts_changed(user)
        self.conversations.update_concern(user, self.context.hosted)
        self.context.contacts.add(self.conversations.written_to_by(user), user)
        self.inbox.on_hosts_changed(user)

    def on_contact(self, user: UserId, by: UserId) -> None:
        """Limit a user no more with its member, as far as it is known to this hosted user alone, or to this peer."""
        self.people.keep(user)
        has_refused = self.inbox.on_contact(user)
        has_refused |= any(remote.groups_refused for remote in self.context.remotes.values())  # which keep no owner
        has_refused |= by == self._ctx.user and self.quota.on_contact(user)
        if has_refused:
            for remote in self.context.remotes.values():
                remote.groups_refused.clear()
            self.context.after(0.0, self.compare_all)

    def _sweep(self) -> None:
        """Forget now and then the conversations that no link may mention any more."""
        self.context.sweep_conversations()
        self.context.after(SWEPT_EVERY, self._sweep)

    def before_user_unhosted(self, user: UserId) -> None:
        """Stop speaking for a user, before it is removed from the hosted users."""
        self.typing.on_user_unhosted(user)
        self.receipts.marks.on_user_unhosted(user)

    def on_user_unhosted(self, user: UserId) -> None:
        """Update what concerned only this user, after it was removed from the hosted users."""
        self.context.refresh_unnamed([user])
        self.quota.on_hosts_changed(user)
        self.groups.on_hosts_changed()
        self.conversations.update_concern(user, self.context.hosted)
        self.inbox.on_hosts_changed(user)

    def lift_quota(self, user: UserId) -> None:
        """Lift a user's limits. Refused entries come with the next comparison."""
        self.context.contacts.keep([user])
        self.quota.lift(user)
        self.anti_entropy.on_freed(user, self.context.remotes.values())

    def on_blocks_changed(self, by: UserId, user: UserId, *, on: bool) -> None:
        """Fetch and await nothing of a user who is blocked, or have what was refused come."""
        if not on:
            every = self.context.remotes.values()
            self.anti_entropy.on_freed(
                user, every if by == self._ctx.user else [one for one in every if user in one.link.users]
            )
        elif by == self._ctx.user:
            self.quota.stop_awaiting(user)
            for conversation, _ in [key for key in self.typing.active if key[1] == user]:
                self.typing.on_end(conversation, user)

    # ---- the end of a step, and what follows its commit

    def end_step(self) -> None:
        """Send what this step owes others."""
        context, receipts = self.context, self.receipts
        if context.again:
            self._take_back()
        if context.owing:
            context.send_owed_marks()
        if receipts.marks.is_due:
            receipts.marks.send_pending()
        if context.lookups.waiting:
            context.lookups.flush()
        if self.quota.has_freed:
            self.quota.has_freed = False
            self.context.after(0.0, self.compare_all)

    def _take_back(self) -> None:
        """Delete what was written twice, once it is shown."""
        waiting, self.context.again = self.context.again, []
        for one in waiting:
            id, log = one.log, self.conversations.find(one.log)
            if log is not None and log.released >= one.seq:
                of = Ref(log.ref, one.seq)
                self.appender.write_texts(WriteRequest(0, id.user, id.conversation, DELETION.name, [""], of))
            else:
                self.context.again.append(one)

    def _before_digest(self, remote: RemoteState) -> None:
        """Send what goes before each digest, and ask about files: what both share may have changed."""
        self.missing.tell(remote)
        self.receipts.marks.send_sum(remote)
        self.transfers.receipts.on_compared(remote)

    def on_commit(self, ticket: int) -> Step:
        """Complete the change of this step, and keep the step until it is durable."""
        step = self.context.step
        self.receipts.on_commit(step.change)
        if step.with_files:
            self.transfers.requests.on_commit(step)
        for pending in step.imports.values():
            pending.commits += 1
        self.context.pending[ticket] = step
        return step

    def publish(self, step: Step) -> None:
        """Tell what is durable, to each what follows from what the former ones were told.

        Statements were told before, what had waited for them is asked for, and links have ended with members who are
        removed by them.
        """
        change = step.change
        if self.context.missing or self.missing.lacking:
            self.missing.on_durable(step)  # others know of stubs before they hear marks of them
        for begun in step.begun:  # a conversation is known before its first message
            self._ctx.emit(begun)
        if change.stretches:  # whoever wrote a message finds it where the answer comes
            self._ctx.emit(Released(change.stretches, change.batches))
        for late in change.late:
            if late.places.first_place:
                self._ctx.emit(Released([late.places], []))
        for write in step.writes:  # accepted, before anybody can say that it is delivered
            self.receipts.accept(*write)
        self.receipts.on_durable(step)  # the writers wait for these acknowledgements
        for log, batch in step.grown:
            if log.own:  # to those who have what comes before
                self.sender.push(log, batch)
            elif self.typing.active:
                self.typing.on_end(*log.key)
        for request, plan in step.prunes:  # before files are looked up that it deleted
            self.pruner.on_durable(request, plan)
        waiting = self.transfers.requests
        if step.with_files or change.relations or change.pruned or waiting.open or waiting.unshown:
            self.transfers.on_durable(step)  # the messages that name files can be looked up now
        if step.imports:  # answered when nothing of them waits any more
            self.file_import.on_durable(step.imports.values())
        if step.effects:  # members of a group change after what they wrote before that
            self.groups.emit_updates(step.effects)
            for effect in step.effects:
                if isinstance(effect, GroupUpdate) and effect.change in ("removed", "left"):
                    self.typing.on_end(effect.talk, effect.target)
        if step.groups:  # compared when links can be told the new facts
            self.groups.on_durable(step.groups)
            self.anti_entropy.on_groups_changed(step.groups)
        for fork in change.forks:  # evidence is read from storage, so it stands there first
            self.ingest.forks.on_durable(fork)
        for log in step.logs + step.shown:  # nobody above needs them any more
            if log.covered:
                log.conversation.pack_if_settled(log)

    def settle(self, ticket: int) -> Step | None:
        """Update logs and sums to what is durable, from which all that follows reads. Return the step of a commit."""
        step = self.context.pending.pop(ticket, None)
        if step is None:
            return None
        for log, batch in step.grown:
            log.durable_seq, log.durable_chain = batch.last, batch.chain
        for log, is_covered in step.covered.items():
            log.durable_covered = is_covered
        step.logs = [*dict(step.grown), *step.covered]
        for log in step.logs:
            conversation = log.conversation
            conversation.refresh_sum(log)
            if conversation.is_talk:
                self.groups.refresh_tips(log)
        return step

    def ask_for_dropped(self) -> None:
        """Compare again where logs were dropped whose members nobody had named."""
        for remote in [remote for remote in self.context.remotes.values() if remote.dropped]:
            remote.dropped.clear()
            self.anti_entropy.begin(remote)

    def on_lookup_result(self, answer: LookupResult) -> None:
        self.context.lookups.on_result(answer)
        self.ingest.retry()
        for log in self.receipts.delivered.recount_unsure():
            self.receipts.marks.recount(log)

    def fail_all(self, reason: str) -> None:
        """Refuse everything in flight, since storage failed."""
        for step in self.context.pending.values():
            for ticket, *_ in step.writes:
                self._ctx.emit(WriteRefused(ticket, "storage", f"not kept: {reason}"))
            for ticket in step.reads:
                self._ctx.emit(mark_refused(ticket))
        self.file_import.fail_all(reason)
        self.anti_entropy.compared_users.end_all()
        self.pruner.fail_all(reason)
        self.transfers.fail_all(reason)
        self.typing.clear()
        self.context.pending.clear()
        self.ingest.fetcher.give_up()
        self.context.discarded = True

    # ---- loading

    def _load(self, stored: Stored) -> None:
        """Load what does not depend on the present time."""
        for known in stored.conversations:
            conversation = self.conversations.open(known.naming)
            if conversation is not None:
                conversation.is_stored = True
                if known.naming.dm:  # perhaps of a user who was hosted once
                    conversation.concerns_us = not self.context.hosted.keys().isdisjoint(known.naming.dm)
        self.groups.load(stored.group_entries, stored.forked)
        for covering, rows in stored.covered.items():
            if covering in self.conversations:
                self.conversations[covering].covered.load(rows)
        for facts in [*stored.tips, *stored.unreleased]:
            found = self.conversations.get(facts.log.conversation)
            if found is not None and found.log(*facts.log[1:]) is None:
                found.refresh_sum(found.add(LogState.from_facts(found, facts)))
        for id in stored.forked:  # so that no more of it is fetched or accepted
            found = self.conversations.get(id.conversation)
            if found is not None:
                log = found.log(*id[1:]) or found.add(LogState(found, id))
                log.forked = True
                self.ingest.forks.conversations[found.id] = None
        self.context.refresh_unnamed({user for each in self.conversations.values() for user in each.writers})
        for user in self.context.hosted:
            self.context.contacts.load(self.conversations.written_to_by(user), user)
        for back, (shown, seq) in enumerate(reversed(stored.recent)):
            self._load_recent(shown, seq, stored.next_place - 1 - back)

    def _load_timed(self, stored: Stored) -> None:
        """Load what depends on the present time: what is visible and may be shown now, and which clocks count."""
        for facts in stored.tips:  # the logs below are older, unless a clock was wrong
            conversation = self.conversations.get(facts.log.conversation)
            if conversation is not None and is_plausible(facts.last_c, self._ctx.now.utc):
                conversation.newest_c = max(conversation.newest_c, facts.last_c)
        self.ingest.order.load(stored.waiting)  # before the visible part of a talk is known and shown
        self.groups.start(stored.meta)
        for id in dict.fromkeys(facts.log.conversation for facts in stored.unreleased):
            if id in self.conversations:
                self.ingest.order.resume(self.conversations[id])

    def _stored_costs(self, stored: Stored) -> Counter[UserId]:
        """Return what is stored of each user, as the quota counts it."""
        costs, quota, of_entry = Counter(stored.sizes), self.quota, self._ctx.settings.entry_bytes
        for log in stored.forked:
            costs[log.user] += quota.log_bytes + quota.fork_bytes
        for facts in {facts.log: facts for facts in [*stored.tips, *stored.unreleased] if not facts.forked}.values():
            costs[facts.log.user] += quota.log_bytes - facts.covered * quota.saved_bytes + facts.seq * of_entry
        for row in chain.from_iterable(stored.covered.values()):
            costs[user_of(row)] += quota.log_bytes - quota.saved_bytes + seq_of(row) * of_entry
        for entry in stored.group_entries:
            costs[entry.log.user] += (FACT_FACTOR - 1) * size_bytes([entry.raw])
        return costs

    def _load_recent(self, log: LogId, seq: int, place: int) -> None:
        """Load one of the newest stretches; they come newest first."""
        conversation = self.conversations.get(log.conversation)
        if conversation is None:
            return
        conversation.newest_place = max(place, conversation.newest_place)
        if log.user in self.context.hosted:
            self.appender.note_place(conversation, log.user, place)
        ref = ref_key(log.user, log.run)
        if len(conversation.recently_shown) < KEPT_RECENT and ref not in conversation.recently_shown:
            conversation.recently_shown = {ref: (place, log.user, seq), **conversation.recently_shown}
