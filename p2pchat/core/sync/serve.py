"""Giving others what they lack: answering wants, and writing what hosted users write to links at its tip.

Slow peers cost no memory: each link has a cursor per running log. While the link takes more and its cursor stands
right before a new batch, the batch is written at once (encoded once for all such links). Otherwise the cursor stays
where it is, and when the link drains entries are read from storage. There is no queue to overflow. What one step
gives to a link is limited too, for nobody can say that the link is full before the step is over.

Source: docs/protocol.md, "Pull, then tail".
"""

from __future__ import annotations

from functools import partial

from p2pchat.core.effects import Counted, Send, WarningIssued
from p2pchat.core.inputs import FetchResult
from p2pchat.core.log import Batch, LogId, frame_of, size_bytes
from p2pchat.core.records import TailStart, WantStart
from p2pchat.core.sync.forks import Forks
from p2pchat.core.sync.log_index import ConversationState, Log
from p2pchat.core.sync.progress import Key, RemoteState, ServedWant, SyncContext, TailCursor
from p2pchat.protocol import ConversationId, Have, Mark, PeerId, UserId, Want

MAX_WARNED = 16  # peers in one run that take no more of what is written here: whoever lies shall not flood; a guess


class Sender:
    """Wants being answered, cursors of running logs."""

    def __init__(self, shelf: SyncContext, forks: Forks) -> None:
        self._shelf = shelf
        self._ctx = shelf.ctx
        self._forks = forks
        self._warned: set[PeerId] = set()

    # ---- wants

    def want(self, side: RemoteState, frame: Want) -> str | None:
        """Begin to answer a want. Returns a sentence when the far end has too many open."""
        self._shelf.learn(side, frame.names)
        conversation = self._shelf.named(side, frame.c)
        if conversation is None:
            self._ctx.emit(Send(Have({}, end=frame.n), [side.link.id]))  # nothing may be told
            return None
        if not self._shelf.shares(side, conversation):
            self._ctx.emit(Send(Have({}, end=frame.n), [side.link.id]))
            return None
        if frame.u not in conversation.writers:
            self._shelf.send(Have({frame.c: {frame.u: []}}, end=frame.n), side, frame.c)
            return None
        key = (frame.c, frame.u)
        side.refused.pop(key, None)  # whoever wants it takes it again
        for serving in [each for each in side.serving.values() if each.key == key]:
            del side.serving[serving.n]
        if len(side.serving) >= self._ctx.settings.max_wants:
            return f"more than {self._ctx.settings.max_wants} wants open on one link"
        self._forks.tell_all(side, conversation, frame.u)
        self._reset_tails(side, conversation, key, frame.tips)
        serving = ServedWant(frame.n, key, WantStart(tuple(frame.tips), tuple(frame.older)))
        side.serving[frame.n] = serving
        self._read_on(side, serving)
        return None

    def refused(self, side: RemoteState, full: dict[ConversationId, list[UserId]]) -> None:
        """The far end takes no more of these: give no more."""
        keys = {(conversation, user) for conversation, users in full.items() for user in users} & side.refused.keys()
        for serving in [each for each in side.serving.values() if each.key in keys]:
            self._give_up(side, serving)
        for key in sorted(keys):
            self._warn(side, key)

    def _give_up(self, side: RemoteState, serving: ServedWant) -> None:
        """Give no more for this want. What lies before the running logs was perhaps not given: cursors are gone too."""
        del side.serving[serving.n]
        for log in [log for log in side.tails if log.key == serving.key]:
            del side.tails[log]
        self._ctx.emit(Send(Have({}, end=serving.n), [side.link.id]))

    def _warn(self, side: RemoteState, key: Key) -> None:
        """A hosted user's words are not stored there: that is worth knowing, once for each peer."""
        if key[1] in self._shelf.hosted and side.link.peer not in self._warned and len(self._warned) < MAX_WARNED:
            self._warned.add(side.link.peer)
            self._ctx.emit(
                WarningIssued(
                    "refused",
                    "a peer stores nothing more of what is written here: it has as much of it as it takes; somebody"
                    " there can lift that with /allow",
                    side.link.peer,
                )
            )

    def _reset_tails(self, side: RemoteState, conversation: ConversationState, key: Key, tips: list[Mark]) -> None:
        """Cursors follow what is served from here on: the far end says where it stands.

        Not of a log that builds on what is not durable yet: that is perhaps not served, and has to be heard of first.
        """
        logs = conversation.writers[key[1]].logs
        for log in logs.values():
            if log.own:
                side.tails.pop(log.id, None)
                told = next((mark.seq for mark in tips if mark.run == log.id.run), 0)
                if log.kept_seq or not any(_is_on_its_way(logs.get(mark.run), mark) for mark in log.before):
                    side.tails[log.id] = TailCursor(min(told, log.kept_seq))

    def _read_on(self, side: RemoteState, serving: ServedWant) -> None:
        if not serving.reading and not side.link.full:
            serving.reading = True
            writer = self._shelf.conversations.by_id[serving.key[0]].writers[serving.key[1]]
            serving.kept = {log.id: log.kept_seq for log in writer.logs.values() if log.own}
            then = partial(self._served, side, serving)
            self._shelf.lookups.fetch(side.link.id, serving.key, serving.start, then)

    def _served(self, side: RemoteState, serving: ServedWant, answer: FetchResult) -> None:
        if not self._shelf.is_up(side) or side.serving.get(serving.n) is not serving:
            return
        serving.reading = False
        conversation = self._shelf.conversations.by_id[serving.key[0]]
        if not self._shelf.shares(side, conversation):  # its users changed meanwhile
            self._give_up(side, serving)
            return
        for batch in answer.batches:
            if conversation.is_talk and not conversation.shows(batch):
                continue
            self._shelf.send(frame_of(batch, n=serving.n), side, batch.log.conversation)
            self._was_sent(side, batch.log, batch.last)
        if answer.more is not None:
            serving.start = answer.more
            self._read_on(side, serving)
            return
        self._ended(side, serving, conversation)

    def _ended(self, side: RemoteState, serving: ServedWant, conversation: ConversationState) -> None:
        """Everything was given: close the want; what was written meanwhile comes like all that is new."""
        del side.serving[serving.n]
        writer = conversation.writers[serving.key[1]]
        if side.forks_owed:  # the marks come when that is told
            self._shelf.owe(side, (serving.key,))
            self._ctx.emit(Send(Have({}, end=serving.n), [side.link.id]))
        else:
            end = Have({conversation.id: {writer.user: writer.marks()}}, end=serving.n)
            self._shelf.send(end, side, conversation.id)
        for id, seq in serving.kept.items():  # it holds all that was durable then, or was given it
            self._was_sent(side, id, seq)
        for log in writer.logs.values():
            tail = side.tails.get(log.id)
            if tail is not None and tail.sent < log.told_seq:
                self._fall_behind(side, log.id, tail)

    def _was_sent(self, side: RemoteState, log: LogId, seq: int) -> None:
        tail = side.tails.get(log)
        if tail is not None:
            tail.sent = max(tail.sent, seq)

    # ---- tails

    def push(self, conversation: ConversationState, log: Log, batch: Batch) -> None:
        """Hand a new durable batch of a hosted user to everyone in the conversation."""
        ready: list[RemoteState] = []
        for side in self._shelf.sharing(conversation) if batch.first <= log.limit else ():
            if log.id.key in side.refused or side.serves(log.id.key):
                continue  # or it comes with what is being served
            tail = side.tails.get(log.id)
            if tail is None and side.knows(conversation.id) and self._stands_before(side, log, batch):
                tail = side.tails[log.id] = TailCursor(batch.first - 1)
            if tail is None or tail.sent > batch.first - 1:
                self._shelf.owe(side, (log.id.key,))
            elif tail.sent == batch.first - 1 and not tail.behind and self._has_room(side):
                tail.sent = batch.last
                ready.append(side)
            else:
                self._fall_behind(side, log.id, tail)
        self._write(conversation, batch, ready)

    def _has_room(self, side: RemoteState) -> bool:
        given = self._shelf.step.given.get(side.link.id, 0)
        return not side.link.full and given < self._ctx.settings.buffer_limit_bytes

    def _write(self, conversation: ConversationState, batch: Batch, sides: list[RemoteState]) -> None:
        given, size = self._shelf.step.given, size_bytes(batch.raws) if sides else 0
        for side in sides:
            given[side.link.id] = given.get(side.link.id, 0) + size
        new = [side for side in sides if conversation.id not in side.named]
        for side in new:
            self._shelf.send(frame_of(batch), side, conversation.id)
        links = [side.link.id for side in sides if side not in new]
        if links:
            self._ctx.emit(Send(frame_of(batch), links))

    def _stands_before(self, side: RemoteState, log: Log, batch: Batch) -> bool:
        heard = side.heard.get(log.id.key, {})
        if batch.first > 1:
            mark = heard.get(log.id.run)
            return mark is not None and mark.seq == batch.first - 1
        return all(heard.get(mark.run) == mark for mark in log.before)

    def _fall_behind(self, side: RemoteState, log: LogId, tail: TailCursor) -> None:
        tail.behind = True
        if not tail.reading and not side.link.full:
            tail.reading = True
            self._ctx.emit(Counted("cursor_from_storage"))
            start, then = TailStart(log.run, tail.sent), partial(self._tailed, side, log)
            self._shelf.lookups.fetch(side.link.id, log.key, start, then)

    def _tailed(self, side: RemoteState, log: LogId, answer: FetchResult) -> None:
        tail = side.tails.get(log)
        if tail is None or not self._shelf.is_up(side):
            return
        tail.reading = False
        conversation = self._shelf.conversations.by_id[log.conversation]
        found = conversation.log(log.user, log.run)
        for batch in answer.batches if self._shelf.shares(side, conversation) else ():
            if batch.first == tail.sent + 1 and (not conversation.is_talk or conversation.shows(batch)):
                self._shelf.send(frame_of(batch), side, log.conversation)
                tail.sent = batch.last
        if found is not None and tail.sent < found.told_seq and answer.batches:
            self._fall_behind(side, log, tail)
        else:
            tail.behind = False

    def drained(self, side: RemoteState) -> None:
        """A link takes frames again: go on where its cursors stand."""
        for serving in list(side.serving.values()):
            self._read_on(side, serving)
        for log, tail in list(side.tails.items()):
            if tail.behind:
                self._fall_behind(side, log, tail)


def _is_on_its_way(log: Log | None, mark: Mark) -> bool:
    """Say whether what a mark names is not durable yet; a log that is not in memory is."""
    return log is not None and not log.forked and log.kept_seq < mark.seq
