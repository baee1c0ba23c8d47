"""Deletion of what is stored here, in bounded steps: a conversation, one writer or all, up to a clock or all of it.

Deleted are the texts and places of the first entries of each log; a stub stands for each text. So the log can still be
proven and served, every mark, sum and receipt stays as it is, and nothing that was deleted comes again. Who wants
entries that were deleted here gets their stubs, and asks others for the texts (missing_texts.py).

One request deletes at most PRUNED_ENTRIES in one transaction; its sender repeats it while there is more. So a kill
between two steps leaves a beginning that is deleted and a rest that is whole.

Entries of hosted users stay while no other peer has them. A commit comes first, so that storage knows all deliveries
that were heard of.

Source: docs/guarantees.md, "Deletion".
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from p2pchat.core.durable_changes import PruneKey, PrunePlan
from p2pchat.core.effects import PruneResult, WriteRefused
from p2pchat.core.inputs import PruneRequest
from p2pchat.core.log import RawEntry, bits_between, decode_entry, size_bytes, stub_of
from p2pchat.core.sync.anti_entropy import AntiEntropy
from p2pchat.core.sync.conversation_state import ConversationState
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.protocol import Stub, UserId
from p2pchat.settings import MIB

PRUNED_ENTRIES = 1000  # deleted in one transaction: some 20 ms
PRUNED_BYTES = 4 * MIB  # the same, of large entries
# Newcomers need them: a name, what a user chose, and that a text which somebody still has is deleted.
KEPT_KINDS = ("profile", "own", "delete")


def left_behind(raw: RawEntry) -> RawEntry:
    """Return what is left of an entry that is deleted here: a stub, or all of it where it says no more than a name."""
    c, text = raw
    return raw if isinstance(text, Stub) or decode_entry(raw).k in KEPT_KINDS else (c, stub_of(text))


def entries_of_one_step(raws: Iterable[RawEntry], entries: int, size: int) -> list[RawEntry]:
    """Return the first of these entries, as many as one step deletes with what it holds already."""
    found: list[RawEntry] = []
    for raw in raws:
        if entries >= PRUNED_ENTRIES or size >= PRUNED_BYTES:
            break
        found.append(raw)
        entries += 1
        size += size_bytes([raw])
    return found


class Pruner:
    """Deletes what programs ask it to."""

    def __init__(self, sync: SyncContext, anti_entropy: AntiEntropy) -> None:
        self._sync = sync
        self._ctx = sync.ctx
        self._anti_entropy = anti_entropy
        self._requests: dict[int, PruneRequest] = {}  # not answered yet, by ticket; one after the other

    # ---- one step

    def on_request(self, request: PruneRequest) -> None:
        """Begin one step. Deliveries that were heard of are stored first."""
        conversation = self._sync.conversations.get(request.conversation)
        if conversation is None or conversation.has_facts:
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
        for prune in plan.pruned:  # nobody here misses what is deleted
            if prune.log in self._sync.missing:
                self._sync.missing[prune.log] &= ~bits_between(1, prune.upto)
        self._sync.step.prunes.append((request, plan))

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
