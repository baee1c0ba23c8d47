"""Whether a log may begin here: all it builds on must be held, and its writer must not have too many tips.

What its first entry names may have left memory; then storage is asked, and the log waits (ingest.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from p2pchat.core.effects import Counted
from p2pchat.core.log import LogId, decode_entry, ref_key
from p2pchat.core.records import LogFacts, LogKey
from p2pchat.core.sync.log_index import Conversation, Log
from p2pchat.core.sync.progress import Shelf
from p2pchat.core.sync.sources import Source
from p2pchat.errors import LogError
from p2pchat.protocol import Entries, Mark


def before_of(frame: Entries) -> tuple[Mark, ...]:
    """Return what the log that this frame begins builds on; () for a frame that begins none."""
    if frame.first != 1:
        return ()
    try:
        return decode_entry(frame.e[0]).before
    except LogError:
        return ()  # it is refused when it is taken


def tips_with(conversation: Conversation, log: Log) -> int:
    """Return how many tips its writer would have with this log, begun or gone on with."""
    writer = conversation.writers.get(log.id.user)
    if writer is None:
        return 1
    covered = {mark.run: mark.seq for mark in log.before} if not log.seq else {}
    return 1 + sum(covered.get(tip.id.run) != tip.seq for tip in writer.tail_tips())


class Beginning:
    """Begins logs of others."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._ctx = shelf.ctx
        self._facts: dict[LogId, dict[str, LogFacts]] = {}  # of logs named by the first entry of one that waits

    def is_new(self, conversation: Conversation, id: LogId, frame: Entries) -> bool:
        """Say whether it is sure, without a look into storage, that the log this frame begins is nowhere here.

        So it is when it builds on a tip, as it stands: were the log here, that would be none. Else who fetches
        thousands of runs of one user asks storage about each, and they come faster than it answers.
        """
        before = before_of(frame)[: self._ctx.settings.max_before]
        named = [conversation.log(id.user, mark.run) for mark in before]
        if conversation.is_talk or None in named or id in self._shelf.proven_forks:
            return False
        return any(
            log is not None and not log.covered and not log.forked and log.tail_mark == mark
            for log, mark in zip(named, before, strict=True)
        )

    def look_below(self, conversation: Conversation, id: LogId, frame: Entries, then: Callable[[], None]) -> None:
        """Ask storage for what this log builds on, where it is not in memory, then go on."""
        before = before_of(frame)[: self._ctx.settings.max_before]
        unsure = [mark for mark in before if conversation.log(id.user, mark.run) is None]
        self._facts[id] = {}
        for mark in unsure:
            key = LogKey(conversation.id, ref_key(id.user, mark.run), mark.seq)
            self._shelf.lookups.log(key, partial(self._known, id, mark))
        if unsure:  # an answer to nothing that keeps the order: it comes after those above
            key = LogKey(conversation.id, ref_key(id.user, id.run))
            self._shelf.lookups.log(key, lambda _: then())
        else:
            then()

    def _known(self, id: LogId, mark: Mark, facts: LogFacts | None) -> None:
        if facts is not None:
            self._facts[id][mark.run] = facts

    def forget(self, id: LogId) -> None:
        """Nothing of this log waits any more."""
        self._facts.pop(id, None)

    def begin(self, source: Source, conversation: Conversation, id: LogId, frame: Entries) -> Log | None:
        """Return a new log, if this frame begins it and all it builds on is held."""
        log = conversation.new_log(id)
        if frame.first != 1:
            source.left_gap(id, frame)
            return None
        log.before = before_of(frame)
        if len(log.before) > self._ctx.settings.max_before:
            raise LogError("`before` names too many logs", code="malformed")
        if not (_is_all_there_is(conversation, frame) or all(self._holds(conversation, id, m) for m in log.before)):
            source.left_gap(id, frame)
            return None
        if tips_with(conversation, log) > self._ctx.settings.max_tips:
            self.refuse(source, id)
            return None
        return log

    def refuse(self, source: Source, id: LogId) -> None:
        """Take no more of a writer who has too many tips, and say so."""
        self._ctx.emit(Counted("too_many_tips"))
        source.is_full(id.key)

    def _holds(self, conversation: Conversation, id: LogId, mark: Mark) -> bool:
        log = conversation.log(id.user, mark.run)
        if log is not None:
            same = log.seq != mark.seq or log.chain[:8].hex() == mark.chain8
            return log.forked or (log.seq >= mark.seq and same)
        facts = self._facts.get(id, {}).get(mark.run)
        if facts is None:
            return False
        return facts.forked or (facts.chain_at is not None and facts.chain_at[:8].hex() == mark.chain8)


def _is_all_there_is(conversation: Conversation, frame: Entries) -> bool:
    """Say whether what this log builds on may have been cut off from a talk: what of it can be had was given before."""
    if not conversation.is_talk or conversation.group is None or frame.n is None:
        return False
    return conversation.group.has_cut(frame.u)
