"""Deletion of what is stored here, in bounded steps: a conversation, one writer or all, up to a clock or all of it.

Deleted are the texts and places of the first entries of each log. The log itself stays, with its end, its chain and
what it builds on. So its mark, every sum and every receipt stay as they are, and nothing that was deleted comes again:
to other peers and to files this peer holds the log as before. Who wants entries that were deleted here is served
nothing of that log, and of what builds on it (storage/batch_queries.py, `unservable`), and gets them from others.
Nothing on the wire says so.

One request deletes at most PRUNED_ENTRIES in one transaction; its sender repeats it while there is more. So a kill
between two steps leaves a beginning that is deleted and a rest that is whole.

Entries of hosted users stay while no other peer has them. A commit comes first, so that storage knows all deliveries
that were heard of.

A peer that lost its disk cannot take a log which builds on something that only this peer held and has deleted. So once
entries of a hosted user are deleted, its logs there are *sealed*: its next log does not build on them, and anybody can
take it. The sealed logs stay tips. There are at most MAX_SEALED of them; afterwards such a peer has to get the deleted
entries from others.

Source: docs/guarantees.md, "Deletion".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from p2pchat.core.durable_changes import PruneKey, PrunePlan
from p2pchat.core.effects import PruneResult, WriteRefused
from p2pchat.core.inputs import PruneRequest
from p2pchat.core.log import RawEntry
from p2pchat.core.sync.anti_entropy import AntiEntropy
from p2pchat.core.sync.conversation_state import ConversationState
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.protocol import RunId, UserId
from p2pchat.settings import MIB

PRUNED_ENTRIES = 1000  # deleted in one transaction: some 20 ms
PRUNED_BYTES = 4 * MIB  # the same, of large entries
MAX_SEALED = 32  # half of the tips that a writer may have
DELETED = "deleted"  # in meta, once anything was deleted here
SEALED = "sealed:"  # in meta, before a conversation and a user: the highest clock in the sealed logs, and their runs


def entries_of_one_step(raws: Iterable[RawEntry], entries: int, size: int) -> list[RawEntry]:
    """Return the first of these entries, as many as one step deletes with what it holds already."""
    found: list[RawEntry] = []
    for raw in raws:
        if entries >= PRUNED_ENTRIES or size >= PRUNED_BYTES:
            break
        found.append(raw)
        entries += 1
        size += len(raw[1])
    return found


class Pruner:
    """Deletes what programs ask it to."""

    def __init__(self, sync: SyncContext, anti_entropy: AntiEntropy) -> None:
        self._sync = sync
        self._ctx = sync.ctx
        self._anti_entropy = anti_entropy
        self._requests: dict[int, PruneRequest] = {}  # not answered yet, by ticket; one after the other

    def load(self, meta: dict[str, str]) -> None:
        """Load whether anything was deleted, and which logs are sealed."""
        self._sync.has_deleted = DELETED in meta
        for name, line in meta.items():
            if name.startswith(SEALED):
                id, _, user = name.removeprefix(SEALED).partition(",")
                conversation, (c, *runs) = self._sync.conversations.get(id), line.split()
                if conversation is not None:
                    writer = conversation.writer(user)
                    writer.sealed, writer.sealed_c = tuple(runs), int(c)

    # ---- one step

    def on_request(self, request: PruneRequest) -> None:
        """Begin one step. Deliveries that were heard of are stored first."""
        conversation = self._sync.conversations.get(request.conversation)
        if conversation is None or conversation.is_operations:
            self._ctx.emit(WriteRefused(request.ticket, "conversation", "no such conversation here"))
            return
        self._requests[request.ticket] = request
        if len(self._requests) == 1:
            self._begin(request)

    def _begin(self, request: PruneRequest) -> None:
        self._ctx.change.is_awaited = True
        self._sync.step.prunes.append((request, None))

    def on_durable(self, request: PruneRequest, plan: PrunePlan | None) -> None:
        """Continue when a commit of a step is durable: the one before it, or the deletion itself."""
        conversation = self._sync.conversations[request.conversation]
        if plan is None:
            self._look_up(conversation, request)
            return
        self._sync.deletion.clear()
        for prune in plan.pruned:
            log = conversation.log(prune.log.user, prune.log.run)
            if log is not None:
                log.pruned = max(log.pruned, prune.upto)
                if conversation.by_ref.get(log.ref) is not log:
                    conversation.pack_if_settled(conversation.add(log))
        self._answer(request, plan)
        for user, size in plan.freed.items():
            if self._sync.quota.on_deleted(user, size):
                self._anti_entropy.on_freed(user, self._sync.remotes.values())

    def _look_up(self, conversation: ConversationState, request: PruneRequest) -> None:
        own = self._protected(conversation)
        key = PruneKey(conversation.id, request.user, request.before, own)
        self._sync.lookups.ask("prunable", key, partial(self._on_plan, conversation, request, own))

    def _protected(self, conversation: ConversationState) -> frozenset[UserId]:
        """Return the users whose entries stay while no other peer has them; none if all members are hosted here."""
        hosted, members = frozenset(self._sync.hosted), conversation.members
        return frozenset() if members is not None and members <= hosted else hosted

    def _on_plan(
        self, conversation: ConversationState, request: PruneRequest, own: frozenset[UserId], plan: PrunePlan
    ) -> None:
        if request.ticket not in self._requests:
            return
        if not (self._protected(conversation) - own).isdisjoint(prune.log.user for prune in plan.pruned):
            self._look_up(conversation, request)  # of somebody who has come to be hosted here meanwhile
            return
        if not plan.pruned:
            self._answer(request, plan)
            return
        self._ctx.change.pruned += plan.pruned
        self._sync.deletion = {prune.log: prune.upto for prune in plan.pruned}
        if not self._sync.has_deleted:
            self._sync.has_deleted = True
            self._ctx.change.meta[DELETED] = "1"
        self._sync.step.prunes.append((request, plan))
        for user in sorted({prune.log.user for prune in plan.pruned} & self._sync.hosted.keys()):
            self._seal(conversation, user, {prune.log.run: prune.c for prune in plan.pruned if prune.log.user == user})

    def _answer(self, request: PruneRequest, plan: PrunePlan) -> None:
        del self._requests[request.ticket]
        size = sum(plan.freed.values())
        self._ctx.emit(PruneResult(request.ticket, plan.messages, size, plan.kept, plan.more))
        if self._requests:
            self._begin(next(iter(self._requests.values())))

    def fail_all(self, reason: str) -> None:
        """Refuse everything under way, since storage failed."""
        for ticket in self._requests:
            self._ctx.emit(WriteRefused(ticket, "storage", f"not deleted: {reason}"))
        self._requests.clear()

    # ---- sealed logs

    def on_user_hosted(self, user: UserId) -> None:
        """Seal the logs of which entries were deleted while nobody hosted this user here."""
        for conversation in self._sync.conversations.may_have_entries_of(user) if self._sync.has_deleted else ():
            writer = conversation.writers.get(user)
            logs = writer.logs.values() if writer is not None else ()
            # Also where the deletion is on its way to the disk.
            pruned = {log.id.run: log.last_c for log in logs if log.pruned or log.id in self._sync.deletion}
            if pruned:
                self._seal(conversation, user, pruned)

    def _seal(self, conversation: ConversationState, user: UserId, pruned: Mapping[RunId, int]) -> None:
        """Seal the logs of a hosted user, unless new ones build on nothing of what was deleted.

        Args:
            pruned: The logs of which entries were deleted, and the newest clock of these entries.
        """
        writer = conversation.writer(user)
        unsealed = [log for log in writer.tail_tips() if log.id.run not in writer.sealed]  # sealed ones stay tips
        # A clock that was put back stamps new logs with less than the sealed ones have, so look at those, too.
        built_on = {run for log in unsealed for run in (log.id.run, *(mark.run for mark in log.before))}
        is_sealed = max(pruned.values()) <= writer.sealed_c and built_on.isdisjoint(pruned)
        if is_sealed or len(writer.sealed) >= MAX_SEALED:
            return
        for log in sorted(unsealed, key=lambda log: log.last_c):
            writer.sealed = (*writer.sealed, log.id.run)
            writer.sealed_c = max(writer.sealed_c, log.last_c)
            log.own = log.own and log.durable_seq < log.seq  # what is on its way is still pushed
        self._ctx.change.meta[f"{SEALED}{conversation.id},{user}"] = " ".join([str(writer.sealed_c), *writer.sealed])
