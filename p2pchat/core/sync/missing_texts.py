"""Texts that are missing: entries of which only stubs came, since whoever served them had deleted the texts.

A stub is proven like a text, stored and acknowledged, so that a log is whole for newcomers. But somebody may still have
the text, and a peer may lie that it has none. So each peer tells each link of which entries it has no texts, before any
mark that covers them: who has texts of them sends these unasked, and again when more come there, and does not count the
others as delivered. A link is told once, and again what changes. What texts come is checked against the stubs.

Source: docs/protocol.md, "Stubs".
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from itertools import groupby

from p2pchat.core.durable_changes import LateTexts, Span
from p2pchat.core.groups.group_fact import talk_id
from p2pchat.core.log import LogId, RawEntry, bits_between, is_gone
from p2pchat.core.sync.conversation_state import ConversationState
from p2pchat.core.sync.remote_state import RemoteState
from p2pchat.core.sync.sender import Sender
from p2pchat.core.sync.step import Step
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.protocol import ConversationId, Have, MissingParts, RunId, UserId

NONE_MORE: Span = (1, 0)  # on the wire: all texts are here now


def texts_within(bits: int, first: int, raws: Sequence[RawEntry]) -> list[tuple[int, list[RawEntry]]]:
    """Return the consecutive ones of these entries that have texts, with the number of the first."""
    found: list[tuple[int, list[RawEntry]]] = []
    part = bits >> first & (1 << len(raws)) - 1
    groups = groupby(enumerate(raws), key=lambda item: part >> item[0] & 1 and not is_gone(item[1]))
    for is_text, group in groups:
        if is_text:
            places, texts = zip(*group, strict=True)
            found.append((first + places[0], list(texts)))
    return found


def _parts(late: Iterable[LateTexts]) -> dict[LogId, list[Span]]:
    """Return the parts of their logs that these texts are."""
    found: dict[LogId, list[Span]] = {}
    for each in late:
        stretch = each.places
        found.setdefault(stretch.log, []).append((stretch.first, stretch.first + stretch.count - 1))
    return found


class MissingTexts:
    """Tells links which texts are missing here, and serves those that are missing there.

    Attributes:
        lacking: A peer told that it lacks texts, in this run.
    """

    def __init__(
        self, sync: SyncContext, sender: Sender, recount: Callable[[ConversationState, UserId, list[RunId]], None]
    ) -> None:
        self._sync = sync
        self._sender = sender
        self._recount = recount  # counts the marks for what a user wrote again
        self.lacking: bool = False

    # ---- what is missing here

    def tell(self, remote: RemoteState) -> None:
        """Tell a remote what is missing here, in each comparison and once before, since marks go to hosts then."""
        if remote.told_in != remote.comparison.number:
            remote.told_in = remote.comparison.number
            self._tell_of(remote, self._sync.missing)
            for log in remote.lacks:
                self._serve(remote, log)

    def on_users_announced(self, remote: RemoteState, users: Iterable[UserId]) -> None:
        """Tell a remote what is missing of conversations with users that it hosts, before the next comparison."""
        if self._sync.missing:
            conversations = self._sync.conversations
            shared = {id for user in users for id in conversations.of_user(user)} - {conversations.room}
            self._tell_of(remote, self._within(shared))

    def _within(self, conversations: Container[ConversationId]) -> list[LogId]:
        """Return the logs of these conversations of which texts are missing."""
        return [log for log in self._sync.missing if log.conversation in conversations]

    def _tell_of(self, remote: RemoteState, logs: Iterable[LogId]) -> None:
        """Tell a remote what is missing of these logs, as far as it was not told. What is on its way to the disk is."""
        page: MissingParts = {}
        count = 0
        coming = self._coming()
        for log in logs:
            found = self._sync.conversations.find(log)
            if found is None or not self._sync.shares(remote, found.conversation):
                continue
            bits = self._sync.missing.get(log, 0)
            for part in coming.get(log, ()):
                bits |= bits_between(*part)
            first, last = (bits & -bits).bit_length() - 1, min(bits.bit_length() - 1, found.durable_seq)
            span = (first, last) if bits and first <= last else NONE_MORE
            if remote.told_missing.get(log, NONE_MORE) == span:
                continue
            remote.told_missing[log] = span
            page.setdefault(log.conversation, {}).setdefault(log.user, []).append((log.run, *span))
            count += 1
            if count % self._sync.page_size == 0:
                self._sync.send(Have({}, lacks=page), remote, *page)
                page = {}
        if page:
            self._sync.send(Have({}, lacks=page), remote, *page)

    def _coming(self) -> dict[LogId, list[Span]]:
        """Return the parts of logs whose texts are on their way to the disk."""
        return _parts(late for step in self._sync.pending.values() for late in step.change.late)

    def on_durable(self, step: Step) -> None:
        """Tell of new stubs, and of texts that came, before anything else is told of that commit."""
        change = step.change
        talks = set(map(talk_id, step.groups))  # perhaps shared only now
        changed = [batch.log for batch in change.batches if batch.log in self._sync.missing]
        late = _parts(change.late)
        changed += [*late, *(prune.log for prune in change.pruned), *(self._within(talks) if talks else ())]
        for remote in self._sync.remotes.values():
            self.tell(remote)
            if changed:
                self._tell_of(remote, dict.fromkeys(changed))
            if remote.lacks:
                self._serve_new(remote, step, late, talks)

    def _serve_new(
        self, remote: RemoteState, step: Step, late: dict[LogId, list[Span]], talks: Iterable[ConversationId]
    ) -> None:
        """Send what a remote lacks of what a step brought: late texts, entries, talks that it may share only now."""
        grown = dict.fromkeys(batch.log for _, batch in step.grown if batch.log in remote.lacks)
        for log in (*grown, *self._lacked(remote, talks)):
            self._serve(remote, log)
        for log in late.keys() & remote.lacks.keys():  # the rest of it was not served yet
            first, last = remote.lacks[log]
            given = min(last, remote.texts_given.get(log, 0))
            parts = [(max(first, start), min(given, end)) for start, end in late[log]]
            if parts := [(start, end) for start, end in parts if start <= end]:
                self._sender.serve_texts(remote, log, parts)

    # ---- what is missing there

    def _lacked(self, remote: RemoteState, conversations: Iterable[ConversationId]) -> list[LogId]:
        """Return the logs of which a remote lacks texts in those of these conversations that are shared with it."""
        found = [self._sync.conversations.get(id) for id in conversations]
        shared = {each.id for each in found if each is not None and self._sync.shares(remote, each)}
        return [log for log in remote.lacks if log.conversation in shared] if shared else []

    def on_lacks(self, remote: RemoteState, lacks: MissingParts) -> None:
        """Send texts that are missing at a remote, and count none of these as delivered."""
        self.lacking = True
        for id, users in lacks.items():
            conversation = self._sync.find_conversation(remote, id)
            for user, parts in users.items():
                for run, first, last in parts:
                    log = LogId(id, user, run)
                    remote.on_lacks(log, (first, last), self._sync.members.share(user))
                    if log in remote.lacks:
                        self._serve(remote, log)
                if conversation is not None and user in self._sync.hosted:
                    self._recount(conversation, user, [run for run, *_ in parts])

    def _serve(self, remote: RemoteState, log: LogId) -> None:
        """Send the texts that are here of what a remote lacks of a log. What was sent once is not sent again.

        What was missing lies before what came later: a part that is told later, and new, lies behind what was given.
        """
        found = self._sync.conversations.find(log)
        if found is None or found.forked or not found.conversation.announces(log.user):
            return
        if not self._sync.shares(remote, found.conversation):
            return
        first, last = remote.lacks[log]
        given = remote.texts_given.get(log, 0)
        part = max(first, given + 1, found.pruned + 1), min(last, found.durable_seq)
        if part[0] <= part[1]:
            remote.texts_given[log] = part[1]
            self._sender.serve_texts(remote, log, [part])
