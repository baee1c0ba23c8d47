"""Serving entries: answering wants, and pushing what hosted users write to links at its tip.

Slow peers cost no memory. Each link has a cursor per running log. While the link accepts more and its cursor stands
right before a new batch, the batch is sent at once, encoded once for all such links. Otherwise the cursor stays, and
entries are read from storage when the link drains. There is no queue that could overflow. The bytes sent to a link in
one step are limited too, since the link reports that it is full only after the step. What hosted and known users wrote
is read first: a peer that was away may want thousands of logs of unknown users.

Source: docs/protocol.md, "Pull" and "Tail".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from p2pchat.core.durable_changes import Span, Start, TailStart, TextStart, WantStart
from p2pchat.core.effects import WarningIssued
from p2pchat.core.inputs import FetchResult
from p2pchat.core.log import Batch, LogId, WriterKey, frame_of
from p2pchat.core.names import describe_user
from p2pchat.core.sync.conversation_state import ConversationState, LogState
from p2pchat.core.sync.forks import Forks
from p2pchat.core.sync.remote_state import TEXTS, RemoteState, ServedWant, TailCursor
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.protocol import ConversationId, Have, Mark, PeerId, UserId, Want

CARRIER_WAIT = 1.0  # seconds for which a carrier may leave an entry to itself; a guess
MAX_TEXT_PARTS = 256  # of one log that wait for one link; further ones are joined, with what is between them. A guess
FULL = (
    "a peer refuses further messages written here: its limit for one user is reached, which someone there can lift with"
    " /allow, or its disk is nearly full"
)
FULL_DIRECT = (
    "kept, not taken: {} has not answered you yet, or takes no more of one user; the rest goes when they write to you"
    " or /allow you"
)


class Sender:
    """Sends entries to links."""

    def __init__(self, sync: SyncContext, forks: Forks) -> None:
        self._sync = sync
        self._ctx = sync.ctx
        self._forks = forks
        self._warned: set[tuple[PeerId, ConversationId]] = set()

    # ---- wants

    def on_want(self, remote: RemoteState, frame: Want) -> str | None:
        """Begin to answer a want. Return a sentence when the remote has too many open."""
        self._sync.learn_namings(remote, frame.names)
        conversation = self._sync.find_conversation(remote, frame.c)
        if conversation is None or not self._sync.shares(remote, conversation):
            self._ctx.send(Have({}, end=frame.n), [remote.id])  # nothing may be revealed
            return None
        if frame.u not in conversation.writers or not conversation.announces(frame.u):
            self._sync.send(Have({frame.c: {frame.u: []}}, end=frame.n), remote, frame.c)
            return None
        key = (frame.c, frame.u)
        remote.refusals.pop(key, None)  # it accepts them again
        wants = remote.serving.wants
        for served in [each for each in wants.values() if each.key == key and each.n != TEXTS]:
            del wants[served.n]
        if len(wants) - (TEXTS in wants) >= self._ctx.settings.max_wants:
            return f"more than {self._ctx.settings.max_wants} wants open on one link"
        self._forks.send_all(remote, conversation, frame.u)
        self._reset_cursors(remote, conversation, key, frame.tips)
        durable = {log.id: log.durable_seq for log in conversation.writers[frame.u].logs.values() if log.own}
        served = ServedWant(frame.n, key, WantStart(tuple(frame.tips), tuple(frame.older)), durable=durable)
        wants[frame.n] = served
        self._read_more(remote, served)
        return None

    def serve_texts(self, remote: RemoteState, log: LogId, parts: Iterable[Span]) -> None:
        """Send the texts that are here of parts of a log of which a remote has stubs."""
        parts = tuple(dict.fromkeys((*remote.serving.texts.get(log, ()), *parts)))
        if len(parts) > MAX_TEXT_PARTS:
            parts = ((min(parts)[0], max(last for _, last in parts)),)
        remote.serving.texts[log] = parts
        self._serve_next_texts(remote)

    def _serve_next_texts(self, remote: RemoteState) -> None:
        serving = remote.serving
        if serving.texts and TEXTS not in serving.wants:
            log = next(iter(serving.texts))
            start = TextStart(log.run, serving.texts.pop(log))
            served = serving.wants[TEXTS] = ServedWant(TEXTS, log.key, start)
            self._read_more(remote, served)

    def on_refused(self, remote: RemoteState, full: dict[ConversationId, list[UserId]]) -> None:
        """Stop sending entries of writers that the remote refuses."""
        keys = {(conversation, user) for conversation, users in full.items() for user in users} & remote.refusals.keys()
        for served in [each for each in remote.serving.wants.values() if each.key in keys]:
            self._close_want(remote, served)
        for log in [each for each in remote.texts_given if each.key in keys]:  # it may say again that they are missing
            del remote.texts_given[log]
        for key in sorted(keys):
            conversation = self._sync.conversations.get(key[0])
            others = [user for user in (conversation.naming.dm if conversation else None) or () if user != key[1]]
            text = FULL_DIRECT.format(describe_user(self._sync.people.names.get(others[0]))) if others else FULL
            self._warn_refused(remote, key, text, key[0] if others else "")

    def _close_want(self, remote: RemoteState, served: ServedWant) -> None:
        """End a want early. Entries before the running logs may be missing there, so their cursors are dropped too."""
        del remote.serving.wants[served.n]
        if served.n == TEXTS:
            self._serve_next_texts(remote)
            return
        for log in [log for log in remote.serving.cursors if log.key == served.key]:
            del remote.serving.cursors[log]
        self._ctx.send(Have({}, end=served.n), [remote.id])

    def _warn_refused(self, remote: RemoteState, key: WriterKey, text: str, direct: ConversationId = "") -> None:
        """Warn once per peer, and per direct conversation, that it takes no more entries of a hosted user."""
        peer = remote.link.peer
        if key[1] in self._sync.hosted and (peer, direct) not in self._warned:
            if self._ctx.warn_at_times(WarningIssued("refused", text, peer, direct)):
                self._warned.add((peer, direct))

    def _reset_cursors(
        self, remote: RemoteState, conversation: ConversationState, key: WriterKey, tips: list[Mark]
    ) -> None:
        """Set the cursors to the remote's marks; serving advances them.

        A log that builds on entries which are not durable yet gets no cursor: those may not be served, and the remote
        must hear of them first.
        """
        logs = conversation.writers[key[1]].logs
        for log in logs.values():
            if log.own:
                remote.serving.cursors.pop(log.id, None)
                held = next((mark.seq for mark in tips if mark.run == log.id.run), 0)
                if log.durable_seq or not any(_is_on_its_way(logs.get(mark.run), mark) for mark in log.before):
                    remote.serving.cursors[log.id] = TailCursor(min(held, log.durable_seq))

    def _read_more(self, remote: RemoteState, served: ServedWant) -> None:
        if not served.reading and not remote.link.full:
            served.reading = True
            then = partial(self._on_batches, remote, served)
            self._fetch(remote, served.key, served.start, then)

    def _fetch(
        self, remote: RemoteState, key: WriterKey, start: Start, then: Callable[[FetchResult], None]
    ) -> None:  # fmt: skip
        # Less at once of each of many writers: what they wrote waits for one another at the other end.
        most = max(1, self._ctx.settings.fetch_batches // max(1, len(remote.serving.wants)))
        self._sync.lookups.fetch(remote.id, key, start, then, most=most, first=self._sync.inbox.is_known(key[1]))

    def _on_batches(self, remote: RemoteState, served: ServedWant, answer: FetchResult) -> None:
        if not self._sync.is_up(remote) or remote.serving.wants.get(served.n) is not served:
            return
        served.reading = False
        conversation = self._sync.conversations[served.key[0]]
        if not self._sync.shares(remote, conversation):  # its users changed in between
            self._close_want(remote, served)
            return
        for batch in answer.batches:
            if conversation.is_talk and not conversation.shows(batch):
                continue
            n = None if served.n == TEXTS else served.n
            self._sync.send(frame_of(batch, n=n), remote, batch.log.conversation)
            if n is None:
                remote.texts_given[batch.log] = max(batch.last, remote.texts_given.get(batch.log, 0))
            else:
                self._advance_cursor(remote, batch.log, batch.last)
        if answer.more is not None:
            served.start = answer.more
            self._read_more(remote, served)
            return
        self._finish_want(remote, served, conversation)

    def _finish_want(self, remote: RemoteState, served: ServedWant, conversation: ConversationState) -> None:
        """Close a want after everything was sent. Entries written in between are pushed like new ones."""
        del remote.serving.wants[served.n]
        if served.n == TEXTS:
            self._serve_next_texts(remote)
            return
        writer = conversation.writers[served.key[1]]
        if remote.forks.owed:  # the marks follow the evidence
            self._sync.owe_marks(remote, (served.key,))
            self._ctx.send(Have({}, end=served.n), [remote.id])
        else:
            marks = writer.marks(self._ctx.settings.max_tips)
            end = Have({conversation.id: {writer.user: marks}}, end=served.n)
            self._sync.send(end, remote, conversation.id)
        for id, seq in served.durable.items():
            self._advance_cursor(remote, id, seq)  # it held what was durable then, or was sent it
        for log in writer.logs.values():
            cursor = remote.serving.cursors.get(log.id)
            if cursor is not None and cursor.sent < log.shared_seq:
                self._read_tail(remote, log.id, cursor)

    def _advance_cursor(self, remote: RemoteState, log: LogId, seq: int) -> None:
        cursor = remote.serving.cursors.get(log)
        if cursor is not None:
            cursor.sent = max(cursor.sent, seq)

    # ---- running logs

    def push(self, log: LogState, batch: Batch) -> None:
        """Send a new durable batch of a hosted user to all remotes of the conversation."""
        conversation, key = log.conversation, log.key
        if self._sync.presence.announcer.has_new_users:
            self._sync.presence.announcer.introduce()
        given = self._sync.step.sent_bytes
        links: list[int] = []
        for remote in self._sync.remotes_sharing(conversation) if batch.first <= log.kept.seq else ():
            if key in remote.refusals or remote.serving.answers(key):
                continue  # it comes with what is being served
            if self._sync.comes_by_carrier(remote, conversation, key):
                remote.serving.cursors.pop(log.id, None)
                self._sync.after(CARRIER_WAIT, partial(self._on_carrier_late, remote, log, batch.last))
                continue
            sent, cursor = given.get(remote.id, 0), remote.serving.cursors.get(log.id)
            has_room = not remote.link.full and sent < self._ctx.settings.buffer_limit_bytes
            if cursor is None and self._is_right_before(remote, log, batch):
                cursor = remote.serving.cursors[log.id] = TailCursor(batch.first - 1)
            if cursor is None or cursor.sent > batch.first - 1:
                self._sync.owe_marks(remote, (key,))
            elif cursor.sent == batch.first - 1 and not cursor.behind and has_room:
                cursor.sent, given[remote.id] = batch.last, sent + batch.size
                if conversation.id in remote.named:
                    links.append(remote.id)
                else:
                    self._sync.send(frame_of(batch), remote, conversation.id)
            else:
                self._read_tail(remote, log.id, cursor)
        if links:
            self._ctx.send(frame_of(batch), links)

    def _on_carrier_late(self, remote: RemoteState, log: LogState, seq: int) -> None:
        """Tell a remote of an entry itself that it has not acknowledged: its carrier may pass on none."""
        mark = remote.acked.get(log.key, {}).get(log.id.run)
        if self._sync.is_up(remote) and (mark is None or mark.seq < seq):
            self._sync.owe_marks(remote, (log.key,))
            remote.link.late = True

    def _is_right_before(self, remote: RemoteState, log: LogState, batch: Batch) -> bool:
        """Return whether the remote is known to hold exactly what comes before this batch."""
        if not remote.comparison.is_over(log.id.conversation):
            return False
        acked = remote.acked.get(log.key, {})
        if batch.first > 1:
            mark = acked.get(log.id.run)
            return mark is not None and mark.seq == batch.first - 1
        return all(acked.get(mark.run) == mark for mark in log.before)

    def _read_tail(self, remote: RemoteState, log: LogId, cursor: TailCursor) -> None:
        cursor.behind = True
        if not cursor.reading and not remote.link.full:
            cursor.reading = True
            self._ctx.count("cursor_from_storage")
            start, then = TailStart(log.run, cursor.sent), partial(self._on_tail_batches, remote, log)
            self._fetch(remote, log.key, start, then)

    def _on_tail_batches(self, remote: RemoteState, log: LogId, answer: FetchResult) -> None:
        cursor = remote.serving.cursors.get(log)
        if cursor is None or not self._sync.is_up(remote):
            return
        cursor.reading = False
        conversation = self._sync.conversations[log.conversation]
        found = conversation.log(log.user, log.run)
        for batch in answer.batches if self._sync.shares(remote, conversation) else ():
            if batch.first == cursor.sent + 1 and (not conversation.is_talk or conversation.shows(batch)):
                self._sync.send(frame_of(batch), remote, log.conversation)
                cursor.sent = batch.last
        if found is not None and cursor.sent < found.shared_seq and answer.batches:
            self._read_tail(remote, log, cursor)
        else:
            cursor.behind = False

    def on_drained(self, remote: RemoteState) -> None:
        """Continue at its cursors when a link accepts frames again."""
        for served in list(remote.serving.wants.values()):
            self._read_more(remote, served)
        for log, cursor in list(remote.serving.cursors.items()):
            if cursor.behind:
                self._read_tail(remote, log, cursor)


def _is_on_its_way(log: LogState | None, mark: Mark) -> bool:
    """Return whether the entry of a mark is in memory and not durable yet."""
    return log is not None and not log.forked and log.durable_seq < mark.seq
