"""The replicator: all machines of synchronisation together.

A Replicator is built from what storage holds, and replaced when storage fails (node.py). It takes the frames of links,
the writes of hosted users and the answers of storage, calls the machines in order, and carries out what follows a
commit. docs/architecture.md lists the machines.

Source: docs/protocol.md, "Sync".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from operator import attrgetter

from p2pchat.core.contacts import Blocks, Contacts
from p2pchat.core.content.transfers import Transfers
from p2pchat.core.durable_changes import Change, DeliveredMark, DiskLevel, ReadMark
from p2pchat.core.effects import (
    Counted,
    DeliveryReceipt,
    Effect,
    GroupUpdate,
    ReadStored,
    Released,
    WriteAccepted,
    WriteRefused,
)
from p2pchat.core.groups.group_editor import GroupEditor
from p2pchat.core.groups.group_replica import GroupReplica
from p2pchat.core.groups.group_sync import GroupSync
from p2pchat.core.inputs import LookupResult, WriteRequest
from p2pchat.core.log import Batch, LogId, WriterKey, is_plausible, ref_key
from p2pchat.core.members.inbox import Inbox
from p2pchat.core.members.statement import Statement
from p2pchat.core.members.statement_exchange import StatementExchange
from p2pchat.core.members.user_members import UserMembers
from p2pchat.core.mesh.peer_link import PeerLink
from p2pchat.core.mesh.presence import PresenceTracker
from p2pchat.core.names import KnownPeople
from p2pchat.core.node_context import HostedIdentities, NetworkCredentials, NodeContext
from p2pchat.core.receipts.delivery_receipts import Acknowledgements, DeliveryReceipts
from p2pchat.core.receipts.file_receipts import FileReceipts
from p2pchat.core.receipts.mark_exchange import TakenMarks
from p2pchat.core.receipts.read_receipts import ReadReceipts
from p2pchat.core.storage_answers import LogFacts, Stored
from p2pchat.core.sync.anti_entropy import AntiEntropy
from p2pchat.core.sync.appender import Appender
from p2pchat.core.sync.causal_order import KEPT_RECENT, CausalOrder
from p2pchat.core.sync.compared_users import ComparedUsers
from p2pchat.core.sync.fetcher import Fetcher
from p2pchat.core.sync.forks import Forks
from p2pchat.core.sync.heads import user_of
from p2pchat.core.sync.import_file import FileImport
from p2pchat.core.sync.ingest import Ingest
from p2pchat.core.sync.known_conversations import Conversations
from p2pchat.core.sync.left_out import LeftOut
from p2pchat.core.sync.log_index import ConversationState, LogState
from p2pchat.core.sync.prune import Pruner
from p2pchat.core.sync.quota import FOLLOWING_PART, OPERATION_FACTOR, Quota
from p2pchat.core.sync.remote_state import RemoteState
from p2pchat.core.sync.serve import Sender
from p2pchat.core.sync.storage_lookups import Lookups
from p2pchat.core.sync.sync_context import SyncContext, Transaction
from p2pchat.core.sync.typing import TypingTracker
from p2pchat.errors import LogError
from p2pchat.protocol import (
    MAX_INT,
    Digest,
    Entries,
    Frame,
    Have,
    Holds,
    Lacks,
    MarksFrame,
    Members,
    Piece,
    Pong,
    Pull,
    ReadFrame,
    RunId,
    TypingFrame,
    UserId,
    Want,
)

SWEPT_EVERY = 3600.0  # seconds between two looks for conversations that peers named; a guess
JOINED = "joined"  # in meta, before the room's id: when this peer came to belong to that network
_aspect_of = attrgetter("aspect")


@dataclass(slots=True)
class PendingCommit:
    """A commit that is not durable yet."""

    change: Change
    transaction: Transaction


class Replicator:
    """Replicates logs: keeps the entries of all peers alike."""

    def __init__(
        self, ctx: NodeContext, network: NetworkCredentials, presence: PresenceTracker, hosted: HostedIdentities,
        contacts: Contacts, blocks: Blocks, stored: Stored, run: RunId,
        on_members_changed: Callable[[Change, Sequence[Statement]], None], members: UserMembers,
    ) -> None:  # fmt: skip
        self._ctx = ctx
        self.contacts = contacts
        self._blocks = blocks
        self._pending_commits: dict[int, PendingCommit] = {}
        self.conversations: Conversations = Conversations(network.id)
        self.statements: StatementExchange = StatementExchange(
            ctx, network, stored.statements, stored.meta, on_members_changed,
            lambda link: self.context.remotes[link.id].forks.sent.clear(),  # it may have refused evidence
        )  # fmt: skip
        self.lookups: Lookups = Lookups(ctx)
        self.people: KnownPeople = KnownPeople(
            ctx, hosted.values(), stored.users, stored.former_names,
            lambda user: user not in hosted and members.is_out(user),
        )  # fmt: skip
        self.quota: Quota = Quota(
            ctx, stored.meta, hosted, self.people.names, contacts.own, members, blocks, self._is_blocked,
            self._on_user_full, lambda: self.context.after(0.0, self.compare_all),
        )  # fmt: skip
        self.inbox: Inbox = Inbox(ctx, self.conversations, hosted, contacts, members)
        members.load(stored.members)
        left_out = LeftOut(ctx, stored.meta)
        self.context: SyncContext = SyncContext(
            ctx, self.conversations, self.lookups, presence, hosted, run, self.quota, self.inbox, members, left_out,
            self.statements.is_named,
        )  # fmt: skip
        self.fetcher: Fetcher = Fetcher(self.context)
        self.causal_order: CausalOrder = CausalOrder(self.context, stored.next_place)
        self.delivery_receipts: DeliveryReceipts = DeliveryReceipts(self.context, stored.delivered)
        self.read_receipts: ReadReceipts = ReadReceipts(self.context, stored.reads, stored.meta, self.delivery_receipts)
        self.taken_marks: TakenMarks = TakenMarks(self.context, stored.taken)
        self.acknowledgements: Acknowledgements = Acknowledgements(self.context)
        self.groups: GroupSync = GroupSync(
            self.context, self.causal_order, self.fetcher, self._send_digest, self._on_group_changed
        )  # fmt: skip
        self.forks: Forks = Forks(
            self.context, self.people, self.causal_order, self.groups.on_fork, self.groups.on_log_restored
        )
        self.ingest: Ingest = Ingest(
            self.context, self.causal_order, self.fetcher, self.people, self.forks, self.groups
        )
        self.file_import: FileImport = FileImport(
            self.context, self.ingest, self.forks, self.statements.take_shown, self._newest_transaction
        )  # fmt: skip
        self.appender: Appender = Appender(self.context, self.ingest, self.causal_order, self.people)
        self.anti_entropy: AntiEntropy = AntiEntropy(
            self.context, self.fetcher, self.delivery_receipts, self.forks, self._send_sums_of_marks
        )
        self.compared_users: ComparedUsers = ComparedUsers(
            self.context, partial(self.anti_entropy.begin_next, ask=True), self._pending_commits
        )  # fmt: skip
        self.sender: Sender = Sender(self.context, self.forks, self.people.names)
        self.typing: TypingTracker = TypingTracker(self.context)
        self.group_editor: GroupEditor = GroupEditor(self.context, self.appender, contacts, members.is_out)
        self.transfers: Transfers = Transfers(self.context, stored.meta)
        self.file_receipts: FileReceipts = FileReceipts(self.context, stored.named, self.transfers.may_have)
        self.transfers.on_whole = self.file_receipts.on_whole
        self.pruner: Pruner = Pruner(self.context, self.on_quota_freed)
        self.conversations.on_evicted = self.context.forget_on_links
        self._stored = stored
        self._load(stored)
        room = self.conversations.by_id[self.conversations.room]
        room.history_until = int(stored.meta.get(JOINED + room.id, MAX_INT))

    # ---- start

    def start(self) -> None:
        """Begin everything that depends on the present time."""
        stored, self._stored = self._stored, Stored()
        self._load_timed(stored)
        self.group_editor.start()
        self.quota.load(self._stored_costs(stored))
        self.inbox.start()
        self.transfers.requests.on_loaded([*stored.tips, *stored.unreleased], stored.meta)
        self._sweep()
        self.transfers.requests.begin_next()

    def join(self) -> None:
        """Take what others wrote in the room before now as history, unless this peer belonged to the network before."""
        room = self.conversations.by_id[self.conversations.room]
        if room.history_until == MAX_INT:
            room.history_until = self._ctx.now.utc
            self._ctx.change.meta[JOINED + room.id] = str(room.history_until)

    def set_disk(self, level: DiskLevel) -> None:
        """Fetch nothing and write nothing unasked while nothing can be stored; refuse what there is no space for."""
        self.fetcher.pause(level is DiskLevel.NOTHING)
        self.group_editor.pause(level is DiskLevel.NOTHING)
        self.quota.set_disk(level)
        for remote in self.context.remotes.values():
            remote.full_sent_at.clear()

    # ---- links

    def on_link_up(self, link: PeerLink) -> None:
        self.context.remotes[link.id] = RemoteState(link, named={self.conversations.room: None})
        self.statements.on_link_up(link)

    def on_link_down(self, link: PeerLink) -> None:
        self.statements.on_link_down(link)
        remote = self.context.remotes.pop(link.id, None)
        if remote is not None:
            self.fetcher.on_link_down(remote)
            self.causal_order.on_link_down(remote)
            self.typing.on_link_down(remote)
            self.delivery_receipts.on_gone(link.peer)
            self.read_receipts.on_link_down(remote)
            self.taken_marks.on_link_down(remote)
            self.context.sweep_conversations(link.users)
            self.transfers.on_link_down(link.id)
            self.file_receipts.on_link_down(link)

    def on_gone(self, user: UserId) -> None:
        """Forget a user who never wrote, of whom no link tells anything any more."""
        self.people.forget(user)
        self.read_receipts.tracker.on_gone(user)

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
        if remote is None or not link.has_listed_users:
            return
        for user in gone:
            remote.comparison.known_users.pop(user, None)
        self.context.sweep_conversations(gone)
        if len(remote.comparison.known_users) > len(link.users):  # some lost their places to others
            for user in remote.comparison.known_users.keys() - link.users.keys():
                del remote.comparison.known_users[user]
        is_nothing_new = fresh and not remote.names_unopened(users)
        if remote.comparison.begun and (is_nothing_new or all(u in remote.comparison.known_users for u in users)):
            remote.comparison.known_users.update(dict.fromkeys(users))
        else:
            new = [user for user in users if user not in remote.comparison.known_users]
            self.context.forget_names(remote, new)  # it ignored or forgot these
            self.taken_marks.on_readers_announced(remote, new)
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
            self.forks.on_drained(remote)
            self.sender.on_drained(remote)

    def _on_group_changed(self, group: GroupReplica) -> None:
        self.group_editor.repair_soon(group)
        self.compared_users.on_group_changed(group.named)

    def _send_sums_of_marks(self, remote: RemoteState) -> None:
        self.read_receipts.send_sum(remote)
        self.taken_marks.send_sum(remote)
        self.file_receipts.on_compared(remote)

    def _send_digest(self, remote: RemoteState) -> None:
        """Send a digest because a group changed. Links that accept no marks now are compared later."""
        if remote.accepts_marks:
            self.anti_entropy.send_digest(remote)

    def take_over(self, former: Replicator) -> None:
        """Take over what survives a failure of storage: receipts, open conversations and lifted limits."""
        self.delivery_receipts.take_over(former.delivery_receipts)
        self.read_receipts.take_over(former.read_receipts)
        self.taken_marks.take_over(former.taken_marks)
        self.quota.take_over(former.quota)
        self.file_receipts.take_over(former.file_receipts)
        self.context.distrusted = former.context.distrusted
        for id, conversation in former.conversations.by_id.items():
            if id not in former.conversations.provisional and conversation.group is None:
                self.conversations.open(conversation.naming)

    # ---- frames

    def on_frames(self, link: PeerLink, frames: list[Frame]) -> LogError | None:
        """Take the frames of one read. Return the fault that must end the link, if any."""
        remote = self.context.remotes.get(link.id)
        if remote is None:
            return None
        entries: list[Entries] = []  # consecutive ones are taken together
        for frame in frames:
            if isinstance(frame, Entries):
                entries.append(frame)
            elif fault := self.ingest.on_frames(remote, entries) or self._on_frame(remote, frame):
                return fault
            else:
                entries = []
        return self.ingest.on_frames(remote, entries)

    def on_frames_while_disk_low(self, link: PeerLink, frames: list[Frame]) -> None:
        """Take only information that is never repeated: names of conversation ids, the end of a want."""
        remote = self.context.remotes.get(link.id)
        for frame in frames:
            if remote is not None and isinstance(frame, (Digest, Have, Want, Entries, MarksFrame, TypingFrame)):
                self.context.learn_namings(remote, frame.names)
            if remote is not None and isinstance(frame, Have) and frame.end is not None:
                self.fetcher.on_want_ended(remote, frame.end)

    def _on_frame(self, remote: RemoteState, frame: Frame) -> LogError | None:
        if isinstance(frame, Have):
            self.anti_entropy.on_have(remote, frame)
            if frame.full:
                self.sender.on_refused(remote, frame.full)
        elif isinstance(frame, Want):
            text = self.sender.on_want(remote, frame)
            return LogError(text, code="limit") if text else None
        elif isinstance(frame, Digest):
            self.anti_entropy.on_digest(remote, frame)
        elif isinstance(frame, Members):
            return self.statements.on_frame(remote.link, frame)
        elif isinstance(frame, TypingFrame):
            return self.typing.on_frame(remote, frame)
        elif isinstance(frame, MarksFrame):
            marks = self.read_receipts if isinstance(frame, ReadFrame) else self.taken_marks
            return marks.on_frame(remote, frame)
        elif isinstance(frame, Piece):
            return self.transfers.on_piece(remote, frame)
        elif isinstance(frame, Pull):
            return self.transfers.on_pull(remote, frame)
        elif isinstance(frame, Lacks):
            self.transfers.on_lacks(remote, frame)
        elif isinstance(frame, Holds):
            self.file_receipts.on_frame(remote, frame)
        elif isinstance(frame, Pong):
            self.anti_entropy.on_pong(remote)
        else:
            self._ctx.emit(Counted("frame_ignored"))
        return None

    # ---- users

    def write(self, request: WriteRequest) -> None:
        self.appender.write_texts(request)
        if self.typing.local or self.typing.active:
            self.typing.on_end(request.conversation, request.user)

    def on_user_hosted(
        self, user: UserId, delivered: Iterable[DeliveredMark], reads: Iterable[ReadMark], taken: Iterable[ReadMark]
    ) -> None:
        if not self.is_unknown(user):
            for remote in self.context.remotes.values():
                self.context.forget_names(remote, [user])  # a remote that ignored or forgot these needs them again
        self.delivery_receipts.add_known((mark.log, mark.member, mark.seq) for mark in delivered)
        self.read_receipts.on_user_hosted(user, reads)
        self.taken_marks.on_user_hosted(user, taken)
        if user in self.people.names:  # it may have written before
            self.appender.on_user_hosted(user)
            self.pruner.on_user_hosted(user)
        self.groups.on_hosts_changed(user)
        self.conversations.update_concern(user, self.context.hosted)
        self.contacts.add(self.conversations.written_to_by(user), user)
        self.inbox.on_hosts_changed(user)

    def on_contact(self, user: UserId, by: UserId) -> None:
        """Limit a user no more with its member, as far as it is known to this hosted user alone, or to this peer."""
        self.people.keep(user)
        has_refused = self.inbox.on_contact(user)
        has_refused |= any(remote.groups_refused for remote in self.context.remotes.values())  # which keep no owner
        has_refused |= by == self._ctx.me and self.quota.on_contact(user)
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
        self.read_receipts.on_user_unhosted(user)
        self.taken_marks.on_user_unhosted(user)

    def on_user_unhosted(self, user: UserId) -> None:
        """Update what concerned only this user, after it was removed from the hosted users."""
        self.groups.on_hosts_changed()
        self.conversations.update_concern(user, self.context.hosted)
        self.inbox.on_hosts_changed(user)
        self.context.sweep_conversations()

    def lift_quota(self, user: UserId) -> None:
        """Lift a user's limits. Refused entries come with the next comparison."""
        self.contacts.keep([user])
        self.quota.lift(user)
        self.on_quota_freed(user)

    def _is_blocked(self, key: WriterKey) -> bool:
        """Return whether nothing of a user is stored in a conversation since somebody here blocks it.

        Operations of groups that are known here are no messages: what other members write there builds on them.
        """
        conversation = self.conversations.by_id.get(key[0])
        members = conversation.naming.dm if conversation is not None else None
        if key[1] in self.context.hosted or not self._blocks.refuses(key[1], members or ()):
            return False
        is_known_group = conversation is not None and conversation.is_operations and bool(conversation.writers)
        return not is_known_group

    def on_blocks_changed(self, by: UserId, user: UserId, *, on: bool) -> None:
        """Fetch and await nothing of a user who is blocked, or have what was refused come."""
        self.quota.on_blocks_changed(user)
        if not on:
            every = self.context.remotes.values()
            self._on_quota_freed(
                user, every if by == self._ctx.me else [one for one in every if user in one.link.users]
            )
        elif by == self._ctx.me:
            self._on_user_full(user)
            for conversation, _ in [key for key in self.typing.active if key[1] == user]:
                self.typing.on_end(conversation, user)

    def on_quota_freed(self, user: UserId) -> None:
        """Have what was refused of a user come again."""
        self._on_quota_freed(user, self.context.remotes.values())

    def _on_quota_freed(self, user: UserId, remotes: Iterable[RemoteState]) -> None:
        for remote in remotes:
            remote.full_sent_at = {key: at for key, at in remote.full_sent_at.items() if key[1] != user}
            if remote.comparison.begun:
                self.anti_entropy.begin(remote)

    def _on_user_full(self, user: UserId) -> None:
        """Fetch and await nothing of a user whose quota is full."""
        for remote in self.context.remotes.values():
            for key in [key for key in remote.ahead if key[1] == user]:
                remote.set_ahead(key, {})

    # ---- storage

    def on_commit_ordered(self, ticket: int, change: Change, transaction: Transaction) -> None:
        """Remember a commit in flight."""
        self._pending_commits[ticket] = PendingCommit(change, transaction)
        for pending in transaction.imports.values():
            pending.commits += 1

    def _newest_transaction(self) -> Transaction | None:
        return next(reversed(self._pending_commits.values())).transaction if self._pending_commits else None

    def on_committed(self, tickets: list[int]) -> None:
        """Take durable commits: answer writers, acknowledge entries, and release them to programs."""
        for ticket in tickets:
            done = self._pending_commits.pop(ticket, None)
            if done is not None:
                self._on_durable(done)
        self.file_import.retry()

    def _on_durable(self, done: PendingCommit) -> None:
        change = done.change
        touched = self._apply(change)
        if change.statements or change.unstated:
            self.statements.on_durable(change)
            for remote in [remote for remote in self.context.remotes.values() if remote.dropped]:
                remote.dropped.clear()  # perhaps somebody named their members now
                self.anti_entropy.begin(remote)
        for begun in done.transaction.begun:
            self._ctx.emit(begun)
        if change.stretches:
            self._ctx.emit(Released(change.stretches))
        for ticket, log_id, first, count, kind in done.transaction.writes:
            self._accept_write(ticket, log_id, first, count, kind)
        if change.reads:
            self.read_receipts.on_durable(change.reads)
        if change.taken:
            self.taken_marks.on_durable(change.taken)
        for ticket in done.transaction.reads:
            self._ctx.emit(ReadStored(ticket))
        for request, plan in done.transaction.prunes:
            self.pruner.on_durable(request, plan)
        self.acknowledgements.on_durable(done.transaction)
        if done.transaction.imports:
            self.file_import.on_durable(done.transaction.imports.values())
        for batch in change.batches:
            self._on_batch_durable(batch)
        self.transfers.requests.on_durable(change)
        for batch in change.batches:
            if batch.has_files:
                self.file_receipts.on_durable(batch)
        if change.pruned or change.relations:
            self.transfers.forget_allowed()
        if change.pruned or "text" in map(_aspect_of, change.relations):
            self.file_receipts.on_deleted()
        if done.transaction.effects:
            self._emit_group_updates(done.transaction.effects)
        if done.transaction.groups:
            self.groups.on_durable(done.transaction.groups)
        for fork in change.forks:
            self.forks.on_durable(fork)
        for conversation, log in touched:
            if log.id.user in self.context.hosted and not log.own:
                self.delivery_receipts.recount_acks(conversation, log.id.user)
            conversation.pack_if_settled(log)
        for marks in (self.read_receipts, self.taken_marks):
            marks.recount(batch.log for batch in change.batches)

    def _accept_write(self, ticket: int, log_id: LogId, first: int, count: int, kind: str) -> None:
        members, here, guests = self.delivery_receipts.recipients(log_id.conversation, log_id.user)
        self._ctx.emit(WriteAccepted(ticket, log_id, first, count, members, kind, here, guests))
        is_open = self.conversations.by_id[log_id.conversation].is_operations
        if members == (log_id.user,) and not is_open:  # a note to oneself is delivered already
            self._ctx.emit(DeliveryReceipt(log_id, first, first + count - 1, log_id.user))

    def _on_batch_durable(self, batch: Batch) -> None:
        """Push what users of this peer wrote; end that others type."""
        conversation = self.conversations.by_id[batch.log.conversation]
        log = conversation.log(batch.log.user, batch.log.run)
        if log is not None and log.own:
            self.delivery_receipts.on_batch_durable(batch)
            self.sender.push(conversation, log, batch)
            self.delivery_receipts.count_early_acks(conversation, batch)
            if self.typing.local:
                self.typing.on_own_stored(conversation, batch.log.user)
        elif self.typing.active:
            self.typing.on_end(batch.log.conversation, batch.log.user)

    def _emit_group_updates(self, effects: list[Effect]) -> None:
        self.groups.emit_updates(effects)
        for effect in effects:
            if isinstance(effect, GroupUpdate) and effect.change in ("removed", "left"):
                self.typing.on_end(effect.talk, effect.target)

    def _apply(self, change: Change) -> list[tuple[ConversationState, LogState]]:
        """Update logs to what is durable. Return those that changed."""
        touched: dict[object, tuple[ConversationState, LogState]] = {}

        def find(id: tuple[str, str, str]) -> LogState | None:
            conversation = self.conversations.by_id.get(id[0])
            log = conversation.log(id[1], id[2]) if conversation is not None else None
            if conversation is not None and log is not None:
                touched[log.id] = (conversation, log)
            return log

        for batch in change.batches:
            if (log := find(batch.log)) is not None:
                log.durable_seq, log.durable_chain = batch.last, batch.chain
        for id in change.uncovered:
            if (log := find(id)) is not None:
                log.durable_covered = False
        for id in change.covered:
            if (log := find(id)) is not None:
                log.durable_covered = True
        for stretch in change.stretches:
            if stretch.log not in touched:
                find(stretch.log)
        for conversation, log in touched.values():
            conversation.refresh_sum(log)
            if conversation.is_talk and not conversation.writers[log.id.user].uncut:
                self.groups.refresh_tips(conversation, conversation.writers[log.id.user])
        return list(touched.values())

    def on_lookup_result(self, answer: LookupResult) -> None:
        self.lookups.on_result(answer)
        self.file_import.retry()
        self.read_receipts.recount(self.delivery_receipts.recount_unsure())

    def fail_all(self, reason: str) -> None:
        """Refuse everything in flight, since storage failed."""
        for pending in self._pending_commits.values():
            for ticket in [*(ticket for ticket, *_ in pending.transaction.writes), *pending.transaction.reads]:
                self._ctx.emit(WriteRefused(ticket, "storage", f"not kept: {reason}"))
        self.read_receipts.refuse_unanswered(reason)
        self.taken_marks.refuse_unanswered(reason)
        self.file_import.fail_all(reason)
        self.compared_users.end_all()
        self.pruner.fail_all(reason)
        self.transfers.fail_all(reason)
        self.typing.clear()
        self._pending_commits.clear()
        self.fetcher.pause(True)
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
        self.pruner.load(stored.meta)
        for id, rows in stored.covered.items():
            if id in self.conversations.by_id:
                self.conversations.by_id[id].writers.covered.load(rows)
        for facts in [*stored.tips, *stored.unreleased]:
            self._load_log(facts)
        for log in stored.forked:
            self._load_forked(log)
        for user in self.context.hosted:
            self.contacts.load(self.conversations.written_to_by(user), user)
        for back, (log, seq) in enumerate(reversed(stored.recent)):
            self._load_recent(log, seq, stored.next_place - 1 - back)

    def _load_timed(self, stored: Stored) -> None:
        """Load what depends on the present time: what is visible and may be shown now, and which clocks count."""
        for facts in stored.tips:  # the logs below are older, unless a clock was wrong
            conversation = self.conversations.by_id.get(facts.log.conversation)
            if conversation is not None and is_plausible(facts.last_c, self._ctx.now.utc):
                conversation.newest_c = max(conversation.newest_c, facts.last_c)
        self.causal_order.load(stored.waiting)  # before the visible part of a talk is known and shown
        self.groups.start(stored.meta)
        self._resume_waiting(stored)

    def _load_log(self, facts: LogFacts) -> None:
        conversation = self.conversations.by_id.get(facts.log.conversation)
        if conversation is not None and conversation.log(facts.log.user, facts.log.run) is None:
            conversation.refresh_sum(conversation.add(conversation.log_from(facts)))
            self.conversations.pack_quiet(self._ctx.settings.max_open_writers)

    def _load_forked(self, id: LogId) -> None:
        """Load a forked log, so that no more of it is fetched or accepted."""
        conversation = self.conversations.by_id.get(id.conversation)
        if conversation is not None:
            log = conversation.log(id.user, id.run) or conversation.add(conversation.new_log(id))
            log.forked = True
            self.forks.conversations[id.conversation] = None

    def _resume_waiting(self, stored: Stored) -> None:
        for id in dict.fromkeys(facts.log.conversation for facts in stored.unreleased):
            if id in self.conversations.by_id:
                self.causal_order.resume(self.conversations.by_id[id])

    def _stored_costs(self, stored: Stored) -> Counter[UserId]:
        """Return what is stored of each user, as the quota counts it."""
        costs, each = Counter(stored.sizes), self._ctx.settings.log_bytes
        for user, size in stored.evidence:
            costs[user] += size
        for log in [*(facts.log for facts in stored.tips), *stored.forked]:
            costs[log.user] += each
        for row in chain.from_iterable(stored.covered.values()):
            costs[user_of(row)] += each // FOLLOWING_PART
        for entry in stored.group_entries:
            costs[entry.log.user] += (OPERATION_FACTOR - 1) * len(entry.raw[1])
        return costs

    def _load_recent(self, log: LogId, seq: int, place: int) -> None:
        """Load one of the newest stretches; they come newest first."""
        conversation = self.conversations.by_id.get(log.conversation)
        if conversation is None:
            return
        conversation.newest_place = max(place, conversation.newest_place)
        if log.user in self.context.hosted:
            self.appender.note_place(conversation, log.user, place)
        ref = ref_key(log.user, log.run)
        if len(conversation.recently_shown) < KEPT_RECENT and all(
            item[2] != ref for item in conversation.recently_shown
        ):
            conversation.recently_shown.insert(0, (place, log.user, ref, seq))
