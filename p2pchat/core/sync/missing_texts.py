"""Texts that are missing: entries of which only stubs came, since whoever served them had deleted the texts.

A stub is proven like a text, stored and acknowledged, so that a log is whole for newcomers. But somebody may still have
the text, and a peer may lie that it has none. So each peer tells each link of which entries it has no texts, before any
mark that covers them: who has texts of them sends these unasked, and again when more come there, and does not count the
others as delivered. A link is told once, and again what changes. What texts come is checked against the stubs.

Source: docs/protocol.md, "Stubs".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

from p2pchat.core.durable_changes import Span, TextStart
from p2pchat.core.log import LogId, RawEntry, is_gone
from p2pchat.core.sync.conversation_state import ConversationState
from p2pchat.core.sync.remote_state import MAX_REMEMBERED, RemoteState
from p2pchat.core.sync.sender import Sender
from p2pchat.core.sync.sync_context import Step, SyncContext
from p2pchat.protocol import Have, MissingParts, RunId, UserId

NONE_MORE: Span = (1, 0)  # on the wire: all texts are here now
MAX_SPANS = 256  # of one log; further ones are joined, with what is between them. A guess: 20 KiB


def with_next(spans: tuple[Span, ...], seq: int) -> tuple[Span, ...]:
    """Return these parts of a log with an entry behind them."""
    if spans and spans[-1][1] == seq - 1:
        return (*spans[:-1], (spans[-1][0], seq))
    if len(spans) == MAX_SPANS:
        spans = ((spans[0][0], spans[1][1]), *spans[2:])
    return (*spans, (seq, seq))


def without(spans: tuple[Span, ...], first: int, last: int) -> tuple[Span, ...]:
    """Return these parts of a log without entries first..last."""
    left = [part for start, end in spans for part in ((start, min(end, first - 1)), (max(start, last + 1), end))]
    return tuple((start, end) for start, end in left if start <= end)


def texts_within(spans: tuple[Span, ...], first: int, raws: Sequence[RawEntry]) -> list[tuple[int, list[RawEntry]]]:
    """Return the consecutive entries in these parts that have texts, with the number of the first."""
    found: list[tuple[int, list[RawEntry]]] = []
    for start, end in spans:
        part = enumerate(raws[max(0, start - first) : max(0, end + 1 - first)], max(start, first))
        for gone, group in groupby(part, key=lambda item: is_gone(item[1])):
            if not gone:
                seqs, texts = zip(*group, strict=True)
                found.append((seqs[0], list(texts)))
    return found


class MissingTexts:
    """Tells links which texts are missing here, and serves those that are missing there."""

    def __init__(
        self, sync: SyncContext, sender: Sender, recount: Callable[[ConversationState, UserId, list[RunId]], None]
    ) -> None:
        self._sync = sync
        self._sender = sender
        self._changes = 0  # commits with stubs, late texts or deletions
        self._recount = recount  # counts the marks for what a user wrote again

    def tell(self, remote: RemoteState) -> None:
        """Tell a remote what is missing here, as far as it was not told. What is on its way to the disk is missing."""
        missing, told = self._sync.missing, remote.told_missing
        state = self._changes, remote.comparison.number
        if not missing or remote.told_in == state:
            return
        remote.told_in = state
        page: MissingParts = {}
        count = 0
        coming: dict[LogId, list[Span]] = {}
        for places in (late.places for step in self._sync.pending.values() for late in step.change.late):
            coming.setdefault(places.log, []).append((places.first, places.first + places.count - 1))
        for log, left in missing.items():
            spans = sorted([*left, *coming.get(log, ())])
            conversation = self._sync.conversations.get(log.conversation)
            found = conversation.log(log.user, log.run) if conversation is not None else None
            last = min(spans[-1][1], found.durable_seq) if spans and found is not None else 0
            span = (spans[0][0], last) if spans and spans[0][0] <= last else NONE_MORE
            if conversation is None or told.get(log, NONE_MORE) == span or not self._sync.shares(remote, conversation):
                continue
            told[log] = span
            page.setdefault(log.conversation, {}).setdefault(log.user, []).append((log.run, *span))
            count += 1
            if count % self._sync.page_size == 0:
                self._sync.send(Have({}, lacks=page), remote, *page)
                page = {}
        if page:
            self._sync.send(Have({}, lacks=page), remote, *page)

    def on_durable(self, step: Step) -> None:
        """Tell of new stubs, and of texts that came, before anything else is told of that commit."""
        change = step.change
        if change.late or change.pruned or any(any(map(is_gone, batch.raws)) for batch in change.batches):
            self._changes += 1
            for remote in self._sync.remotes.values():
                if remote.comparison.begun:
                    self.tell(remote)
        gained = {*(late.places.log for late in change.late), *(batch.log for _, batch in step.grown)}
        for remote in self._sync.remotes.values():
            for log in gained & remote.lacks.keys() if remote.lacks else ():
                self._sender.serve_texts(remote, log.key, TextStart(((log.run, *remote.lacks[log]),)))

    def on_lacks(self, remote: RemoteState, lacks: MissingParts) -> None:
        """Send texts that are missing at a remote, and count none of these as delivered."""
        for id, users in lacks.items():
            conversation = self._sync.find_conversation(remote, id)
            if conversation is None:
                continue
            for user, parts in users.items():
                found = [(conversation.log(user, run), (first, last)) for run, first, last in parts]
                held = [(log, span) for log, span in found if log is not None and log.durable_seq and not log.forked]
                for run, first, last in parts:
                    remote.lacks.pop(LogId(id, user, run), None)
                    if first <= last and len(remote.lacks) < MAX_REMEMBERED:
                        remote.lacks[LogId(id, user, run)] = first, last
                if user in self._sync.hosted:
                    self._recount(conversation, user, [run for run, *_ in parts])
                start = TextStart(tuple((log.id.run, *span) for log, span in held if log.pruned < span[1]))
                if start.parts and self._sync.shares(remote, conversation):
                    self._sender.serve_texts(remote, (id, user), start)
