"""What a starting node takes into memory of what is stored: tips, what waits, what was old, and what was shown last.

First what is there (load), then what depends on the present moment (start): how far logs of talks are visible, what may
be shown now, whose clock counts.
"""

from __future__ import annotations

from functools import partial

from p2pchat.core.log import LogId, ref_key
from p2pchat.core.mending import mending_of
from p2pchat.core.records import LogFacts, LogKey, Stored
from p2pchat.core.sync.anti_entropy import COMPARED_ROOM
from p2pchat.core.sync.append import Writing
from p2pchat.core.sync.causal_order import KEPT_RECENT, Order, followed_by
from p2pchat.core.sync.clock import counts
from p2pchat.core.sync.groups import Talks
from p2pchat.core.sync.log_index import Conversation, Waits
from p2pchat.core.sync.past import OLD_MARKS, Past
from p2pchat.core.sync.progress import Shelf


class Loading:
    """Begins with what is stored."""

    def __init__(self, shelf: Shelf, order: Order, writing: Writing, talks: Talks) -> None:
        self._shelf = shelf
        self._ctx = shelf.ctx
        self._conversations = shelf.conversations
        self._order = order
        self._writing = writing
        self._talks = talks

    def load(self, stored: Stored) -> None:
        """Take what is there, whatever the time is."""
        for talk in stored.talks:
            conversation = self._conversations.open(talk.naming)
            if conversation is not None:
                conversation.stored = True
                if talk.naming.dm:  # of a user who was hosted once
                    conversation.concerns_us = not self._shelf.hosted.keys().isdisjoint(talk.naming.dm)
        self._talks.load(stored.groups, stored.forked)
        for facts in [*stored.tips, *stored.unreleased]:
            self._load_log(facts)
        for id in stored.forked:
            self._load_forked(id)
        for back, (log, seq) in enumerate(reversed(stored.recent)):
            self._load_recent(log, seq, stored.next_place - 1 - back)

    def start(self, stored: Stored) -> None:
        """Go on with what depends on the present moment."""
        for facts in stored.tips:  # what they build on is older, unless its writer's clock was wrong
            conversation = self._conversations.by_id.get(facts.log.conversation)
            if conversation is not None and counts(facts.last_c, self._ctx.now.utc, self._ctx.settings.clock_ahead):
                conversation.newest_c = max(conversation.newest_c, facts.last_c)
        self._load_past(stored)
        self._load_waiting(stored)  # before what of a talk may be shown is known, and shown
        self._talks.start(stored.meta)
        self._resume_waiting(stored)

    def _load_past(self, stored: Stored) -> None:
        """Go on with a first fetch: what was old before the restart is, but for what was shown of it."""
        for name, text in stored.meta.items():
            word, _, id = name.partition(":")
            there = self._conversations.by_id.get(id or stored.meta.get(COMPARED_ROOM, ""))
            if word == OLD_MARKS and there is not None and text:
                self._go_on_with(there, Past(text))

    def _go_on_with(self, conversation: Conversation, past: Past) -> None:
        conversation.past = past
        for id in list(past.unshown(conversation.id)):
            log = conversation.log(id.user, id.run)
            if log is not None:
                self._order.no_longer_old(conversation, id, log.released)
            else:
                key = LogKey(conversation.id, ref_key(id.user, id.run))
                self._shelf.lookups.log(key, partial(self._found_shown, conversation, id))

    def _found_shown(self, room: Conversation, id: LogId, facts: LogFacts | None) -> None:
        self._order.no_longer_old(room, id, facts.released if facts else 0)

    def _load_log(self, facts: LogFacts) -> None:
        conversation = self._conversations.by_id.get(facts.log.conversation)
        if conversation is not None and conversation.log(facts.log.user, facts.log.run) is None:
            conversation.refresh(conversation.add(conversation.log_of(facts)))

    def _load_forked(self, id: LogId) -> None:
        """Nothing more of a forked log is fetched or taken: that must be known after a restart too."""
        conversation = self._conversations.by_id.get(id.conversation)
        if conversation is not None:
            log = conversation.log(id.user, id.run) or conversation.add(conversation.new_log(id))
            log.forked = True
            conversation.writer(id.user).builds = True  # it may have: storage is asked

    def _load_waiting(self, stored: Stored) -> None:
        for item in stored.waiting:
            conversation = self._conversations.by_id.get(item.log.conversation)
            log = conversation.log(item.log.user, item.log.run) if conversation else None
            if log is not None and (refs := followed_by(log, item.seq, item.entry)):
                mending = mending_of(log.id, item.seq, item.entry)
                log.queue.append(Waits(item.seq, refs, self._ctx.now.mono, mending))

    def _resume_waiting(self, stored: Stored) -> None:
        for id in {facts.log.conversation for facts in stored.unreleased}:
            if id in self._conversations.by_id:
                self._order.resume(self._conversations.by_id[id])

    def _load_recent(self, log: LogId, seq: int, place: int) -> None:
        """Take one of the newest stretches; they come newest first."""
        conversation = self._conversations.by_id.get(log.conversation)
        if conversation is None:
            return
        if log.user in self._shelf.hosted:
            self._writing.resume(conversation, log.user, place)
        ref = ref_key(log.user, log.run)
        if len(conversation.recent) < KEPT_RECENT and all(item[2] != ref for item in conversation.recent):
            conversation.recent.insert(0, (place, log.user, ref, seq))
