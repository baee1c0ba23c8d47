"""Forked logs: logs whose author signed two different entries under one number; the evidence, and the warning.

Two batches prove a fork: both heads are the author's, and they give one seq two chains. From then on nothing of that
log is announced, fetched or served. What was stored stays, and later logs of its writer are accepted. A mark, a batch
or a want of such a log is answered with the two batches, at most once an hour per link.

Peers that host the writer receive the evidence unasked, before any mark or sum. A later log is accepted over either
version of a forked one, so its mark would count there as a receipt of everything it builds on.

Evidence has the header of its log, so that it is taken without the log too, if somebody named the member. What of a
header the evidence does not prove has no other effect.

What is kept of a fork counts as stored of its writer, so nobody can fill the disk with evidence; where there is no room
for it the log stays as it was. That of blocked users is kept.

A forked log covers nothing: a peer with only the evidence cannot know what it builds on, and all sums must be equal.

Source: docs/protocol.md, "Forks".
"""

from __future__ import annotations

from functools import partial

from p2pchat.core.durable_changes import Fork, ForkStart
from p2pchat.core.effects import WarningIssued
from p2pchat.core.inputs import FetchResult
from p2pchat.core.log import (
    Batch,
    LogId,
    batch_of,
    contradict,
    frame_of,
)
from p2pchat.core.names import describe_user
from p2pchat.core.node_context import KeySet
from p2pchat.core.sync.causal_order import CausalOrder
from p2pchat.core.sync.conversation_state import ConversationState, LogState
from p2pchat.core.sync.group_sync import GroupSync
from p2pchat.core.sync.remote_state import ForkEvidence, RemoteState
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.errors import LogError
from p2pchat.protocol import ConversationId, Entries, Mark, UserId

AGAIN_AFTER = 3600.0  # seconds until a link that still shows other marks is sent evidence again; a guess


class Forks:
    """Detects forks, sends evidence of them and receives it."""

    def __init__(self, sync: SyncContext, order: CausalOrder, groups: GroupSync) -> None:
        self._sync = sync
        self._ctx = sync.ctx
        self._order = order
        self.conversations: KeySet[ConversationId] = {}  # those with forked logs
        self._awaiting_commit: dict[LogId, set[RemoteState]] = {}  # remotes to be sent evidence once it is durable
        self._groups = groups

    # ---- detection

    def on_contradiction(self, log: LogState, one: Batch | None, other: Batch) -> None:
        """Take two signed batches that contradict each other, None for that of the stored log, if there is room."""
        conversation, quota = log.conversation, self._sync.quota
        size = quota.fork_bytes + (quota.saved_bytes if log.covered else 0) + (0 if log.seq else quota.log_bytes)
        if not quota.is_blocked(log.key) and not (quota.check(log.key) and quota.has_room(log.user, size)):
            self._ctx.count("forks_ignored")
            return
        quota.bytes.add(log.user, size - log.seq * self._ctx.settings.entry_bytes)
        log.forked, log.own = True, False
        self.conversations[conversation.id] = None
        for remote in self._sync.remotes.values():
            remote.dropped.pop(log.key, None)
        self._sync.change_run_if_cloned(log.id)
        if conversation.by_ref.get(log.ref) is not log:
            conversation.add(log)
        if not conversation.is_stored:
            self._sync.store_naming(conversation)
        self._ctx.change.forks.append(Fork(log.id, one, other))
        self._awaiting_commit[log.id] = set()
        self._uncover_below(log)
        conversation.refresh_sum(log)
        self._groups.on_fork(log)
        if conversation.waiting_logs:
            self._order.on_log_ended(log)
        self._warn(log.user)

    def _warn(self, user: UserId) -> None:
        who = describe_user(self._sync.people.names.get(user))
        text = f"{who} signed two different entries under one number: a machine that was copied, or a fraud"
        warn = self._ctx.warn_at_times if self._sync.quota.bytes.line(user) else self._ctx.emit
        warn(WarningIssued("fork", text, user))

    def on_durable(self, fork: Fork) -> None:
        """Send the evidence, now that the fork is durable."""
        conversation = self._sync.conversations[fork.log.conversation]
        log = self._sync.conversations.find(fork.log)
        if log is None:
            return
        waiting = self._awaiting_commit.pop(log.id, set())
        for remote in self._sync.remotes_sharing(conversation):
            if log.user in remote.link.users:
                self._owe(remote, log)
            elif remote in waiting:
                self.send_evidence(remote, log.id)

    def _uncover_below(self, forked: LogState) -> None:
        """Make the logs that only a forked log covered tips again."""
        conversation = forked.conversation
        for mark, log in conversation.held(forked.user, forked.before):
            is_end = log is not None and log.covered and not log.forked and log.tail_mark == mark
            if log is not None and is_end and not conversation.is_built_on(forked.user, mark):
                self._sync.set_covered(log, False)

    # ---- sending

    def send_if_marks_differ(
        self, remote: RemoteState, conversation: ConversationState, user: UserId, marks: list[Mark]
    ) -> None:
        """Send the evidence if a remote has other tips of a writer: it may not know of a fork."""
        held = conversation.marks_of(user)
        if held != marks and {*held} != {*marks} and user in conversation.writers:
            self.send_all(remote, conversation, user)

    def send_all(self, remote: RemoteState, conversation: ConversationState, user: UserId) -> None:
        """Send the evidence of every forked log of a writer; its later logs may build on them."""
        for log in conversation.writers[user].logs.values():
            if log.forked:
                self.send_evidence(remote, log.id)

    def send_to_hosts(self, remote: RemoteState) -> None:
        """Send the evidence of the forked logs of a remote's users, before marks of logs that build on them."""
        users = remote.link.users.keys()
        held = [self._sync.conversations.get(id) for id in sorted(self.conversations)]
        for conversation in held:
            if conversation is None or not self._sync.shares(remote, conversation):
                continue
            writers = conversation.writers
            for user in sorted(users & writers.keys()):
                for log in writers[user].logs.values():
                    if log.forked:
                        self._owe(remote, log)

    def _owe(self, remote: RemoteState, log: LogState) -> None:
        if log.id not in remote.forks.sent:
            remote.forks.owed[log.id] = None
            self.send_evidence(remote, log.id)

    def on_drained(self, remote: RemoteState) -> None:
        """Continue when a link accepts frames again."""
        if remote.forks.owed:
            self.send_to_hosts(remote)

    def send_evidence(self, remote: RemoteState, log: LogId) -> None:
        """Send the evidence of one forked log, at most once an hour: there may have been no room for it."""
        if log in self._awaiting_commit:
            self._awaiting_commit[log].add(remote)
        elif self._ctx.now.mono >= remote.forks.sent.get(log, -AGAIN_AFTER) + AGAIN_AFTER and not remote.link.full:
            remote.forks.sent[log] = self._ctx.now.mono
            then = partial(self._send_batches, remote, log)
            self._sync.lookups.fetch(remote.id, log.key, ForkStart(log.run), then, most=2, first=True)

    def _send_batches(self, remote: RemoteState, log: LogId, answer: FetchResult) -> None:
        remote.forks.owed.pop(log, None)
        for batch in answer.batches if self._sync.is_up(remote) else ():
            self._sync.send(frame_of(batch, fork=True), remote, log.conversation)
        if not answer.batches:
            remote.forks.sent.pop(log, None)  # storage has lost it

    # ---- receiving

    def on_evidence(
        self, known: ForkEvidence, conversation: ConversationState, frame: Entries
    ) -> None:  # fmt: skip
        """Take one of two batches of evidence.

        Raises LogError if the second does not prove a fork.
        """
        log = conversation.log(frame.u, frame.r)
        if log is not None and log.forked:
            return
        one, other = known.evidence, batch_of(frame)
        if one is None or one.log != other.log:
            known.evidence = other
            return
        known.evidence = None
        if not (one.is_signed and other.is_signed and contradict(one, other)):
            raise LogError("evidence that proves nothing", got_seq=frame.first)
        log = log or LogState(conversation, other.log)
        forked = [each for each in conversation.writer(frame.u).logs.values() if each.forked]
        if not log.seq and len(forked) >= self._ctx.settings.max_tips:
            self._ctx.count("forks_ignored")
            return
        self.on_contradiction(log, one, other)
