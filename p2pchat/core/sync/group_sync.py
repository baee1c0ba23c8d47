"""Replication of groups: facts as they arrive, and what follows for the group's talk.

Each fact is the entry of a log in a group's own conversation. It changes the group (core/groups), and with it who may
hear of the talk and how much of each log there is visible. Every peer that may know of the group is sent a digest. If
anything of a writer was cut off, all its logs are objects, since the cuts decide which of them are tips.

Entries that were shown before their cut arrived keep their places, and are hidden from reads (Change.visible).

Source: docs/protocol-groups.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from p2pchat.core.durable_changes import EVERYTHING, GroupEntry
from p2pchat.core.effects import DeliveryRevoked, Effect, GroupUpdate
from p2pchat.core.groups.group_fact import CREATE, GroupFact, run_of
from p2pchat.core.groups.group_replica import Difference, GroupReplica, GroupView
from p2pchat.core.log import Batch, LogId, before_of, certificate_of, check_header, has_stubs
from p2pchat.core.sync.causal_order import CausalOrder
from p2pchat.core.sync.conversation_state import ConversationState, LogState, WriterLogs
from p2pchat.core.sync.fetcher import Fetcher
from p2pchat.core.sync.log_validation import LogExtension
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.errors import LogError
from p2pchat.protocol import ConversationId, Entries, Naming, UserId

# So much is done of what a fact of a group changes for a token: a log is compared with a cut. A guess.
LOOKED_AT_A_TOKEN = 64
UNDELIVERED = "undelivered:"  # in meta, before a log: entries that were cut off, until that was emitted


class GroupSync:
    """Replicates all groups known here, and their talks."""

    def __init__(self, sync: SyncContext, order: CausalOrder, fetcher: Fetcher) -> None:
        self._sync = sync
        self._ctx = sync.ctx
        self._order = order
        self._fetcher = fetcher
        self.views: dict[ConversationId, GroupView] = {}  # groups of users hosted here, now or before

    # ---- start

    def load(self, stored: Iterable[GroupEntry], forked: Iterable[LogId]) -> None:
        """Load the stored facts of groups, before their logs are known."""
        groups, gone = self._sync.conversations.groups, {*forked}
        for log, raw, chain, before in stored:
            fact = groups[log.conversation].read(log, raw, chain, before)
            if fact is not None and (log not in gone or fact.kind == CREATE):
                groups[log.conversation].add(fact)
        for group in [*groups.values()]:
            self._refresh_members(group)

    def start(self, meta: Mapping[str, str]) -> None:
        """Find out how much of each talk is visible, now that all logs are known."""
        for name, text in meta.items():
            if name.startswith(UNDELIVERED) and text:
                log = LogId(*name.removeprefix(UNDELIVERED).split(","))
                self.emit_updates([DeliveryRevoked(log, *map(int, text.split()))])
        for group in self._sync.conversations.groups.values():
            self._refresh_talk(group, group.named, "")

    def _refresh_members(self, group: GroupReplica) -> None:
        """Update the members of a group's two conversations."""
        conversations, hosted = self._sync.conversations, self._sync.hosted.keys()
        if group.state is None:
            return
        facts = conversations[group.id]
        facts.members = group.named
        facts.allowed_writers = group.named
        facts.concerns_us = not hosted.isdisjoint(group.named)
        if facts.concerns_us:
            self.views[group.id] = group.state
        talk = conversations.open(Naming(talk=group.id))
        if talk is not None:
            here = group.state.members
            talk.members, talk.allowed_writers = frozenset(here), group.named
            talk.concerns_us = not hosted.isdisjoint(here)
            talk.history_until = min(map(group.since, hosted & here.keys()), default=0)

    def on_hosts_changed(self, user: UserId = "") -> None:
        """Update the groups that concern a user hosted from now on, or ("") all after one was unhosted."""
        for group in self._sync.conversations.groups.values():
            if not user or user in group.named:
                self._refresh_members(group)

    # ---- arrivals

    def may_begin(self, conversation: ConversationState, frame: Entries) -> bool:
        """Return whether a new log of a group may begin. In an unknown group, only with the fact that made it."""
        group = conversation.group
        is_known = group is None or group.state is not None or group.begins_with(frame.u, frame.e[0])
        if not is_known:
            self._ctx.count("group_not_known")
        return is_known

    def accepts(self, extension: LogExtension, batch: Batch) -> bool:
        """Return whether a proven batch of a group is kept: of a talk if a cut covers its beginning. A group that
        begins needs a place if nobody here knows who made it.
        """
        log = extension.log
        conversation = log.conversation
        group = conversation.group
        assert group is not None
        if conversation.has_facts and not group.has_room(log.user):
            extension.drop("full")
            return False
        if conversation.has_facts:
            return self._has_place(group, extension, batch)
        if conversation.visible_end(group, log.user, log.id.run, log.before).at_most > log.seq:
            return True
        self._ctx.count("cut_off")
        extension.drop("cut")
        return False

    def _has_place(self, group: GroupReplica, extension: LogExtension, batch: Batch) -> bool:
        conversation = extension.log.conversation
        if extension.source.remote is None or conversation.is_stored:
            return True
        fact = group.read(batch.log, batch.raws[0], batch.chain, ())
        if fact is not None and self._sync.inbox.admits(conversation.id, fact.by, fact.name, fact.who):
            return True
        extension.drop("group")
        return False

    def on_kept(self, log: LogState, batch: Batch) -> None:
        """Take a batch that was added to a log."""
        conversation = log.conversation
        group = conversation.group
        assert group is not None
        if conversation.is_talk:
            self._on_talk(group, conversation.writer(log.user), log, is_new=batch.first == 1)
        elif (fact := group.read(batch.log, batch.raws[0], batch.chain, log.before)) is not None:
            former, new = group.state, {user for user in fact.who if user not in group.named}
            self._on_changed(group, fact, group.add(fact))
            if group.state is not None and (former is None or not new.isdisjoint(self._sync.hosted)):
                self._sync.step.begun += self._sync.inbox.on_begun(self._sync.conversations[group.id], new)
        if batch.first == 1 and log.user in self._sync.hosted:  # written here, or it came back
            self._sync.inbox.on_answered(conversation, log.user)

    def _on_changed(self, group: GroupReplica, fact: GroupFact, differences: list[Difference]) -> None:
        """Take a new fact of a group, or one that counts no more, and what it changed. Of a group of others, which a
        file can bring, nobody is told.
        """
        self._sync.step.groups.add(group.id)
        if group.state is None:
            return
        self._sync.conversations.keep(group.id)
        told = differences if group.id in self.views else [("created", "")]
        self._refresh_members(group)
        if (state := self.views.get(group.id)) is not None:
            members, log = tuple(sorted(state.members)), LogId(group.id, fact.by, fact.run)
            self._sync.step.effects += [
                GroupUpdate(group.id, group.talk, change, fact.by, target, members, state.name, state.owner, log, 1)
                for change, target in told
            ]
        self._refresh_talk(group, group.judged, self._sync.members.share(fact.by))

    def on_fork(self, log: LogState) -> None:
        """Take the fork of a group's log: neither of its facts counts, and no cut covers anything through it."""
        group = log.conversation.group
        if log.conversation.is_talk and group is not None and group.has_cut(log.user):
            writer = log.conversation.writer(log.user)
            writer.logs = writer.logs.copy()  # so that cuts are followed anew
            self._refresh_talk(group, {log.user}, self._sync.members.share(log.user))
        fact = group.facts.get(log.tail_mark) if group is not None and log.conversation.has_facts else None
        if group is not None and fact is not None:
            self._on_changed(group, fact, group.fork(fact))

    # ---- visibility

    def _on_talk(self, group: GroupReplica, writer: WriterLogs, log: LogState, *, is_new: bool) -> None:
        """Take a batch of a talk. If a cut names the log, others may be visible through it."""
        if not group.has_cut(log.user):
            return
        runs = {log.id.run}
        if is_new:
            runs |= group.begin_log(log.user, writer.logs, log.id.run)
            self._note_above(writer, log)
        writer.uncut = False  # a new writer
        changed = [writer.logs[run] for run in sorted(runs & writer.logs.keys())]
        for each in changed:
            self._limit(group, each)
        for each in changed:
            self.refresh_tips(each)
            if each is not log:
                self._order.on_visibility_changed(each)

    def _refresh_talk(self, group: GroupReplica, users: AbstractSet[UserId], payer: UserId) -> None:
        """Update what is visible of these users; a member pays for what is looked at."""
        talk = self._sync.conversations.get(group.talk)
        if talk is not None:
            for user in sorted(users & talk.writers.keys()):
                self._refresh_visible(talk, group, talk.writers[user])
                looked_at = len(talk.writers[user].logs) * len([*group.outs(user)])
                self._ctx.work.charge("entries", payer, looked_at / LOOKED_AT_A_TOKEN)
            if talk.waiting_logs and users:
                self._order.retry(talk)

    def _refresh_visible(self, talk: ConversationState, group: GroupReplica, writer: WriterLogs) -> None:
        """Compute how much of each log of a writer is visible, and release that."""
        writer.uncut = not group.has_cut(writer.user)
        if not writer.uncut:
            talk.open_covered(writer.user)
        writer.above = {}
        for log in writer.logs.values():
            self._limit(group, log)
            self._note_above(writer, log)
        for log in writer.logs.values():
            self._refresh_tip(writer, log)
        for log in [*writer.logs.values()]:
            self._order.on_visibility_changed(log)

    def _limit(self, group: GroupReplica, log: LogState) -> None:
        """Compute how much of a log is visible. Storage hides the rest; it is reported if the writer is hosted here."""
        end = log.conversation.visible_end(group, log.user, log.id.run, log.before)
        (_, log.limit, log.limit_chain), log.kept, _ = end
        noted, log.stored_visible = log.stored_visible, EVERYTHING if log.limit >= log.seq else log.limit
        if log.stored_visible == noted or not log.seq:
            return
        self._ctx.change.visible[log.id] = log.stored_visible
        is_less = log.stored_visible != EVERYTHING and (noted == EVERYTHING or log.stored_visible < noted)
        if is_less and log.user in self._sync.hosted and not log.forked:
            self._ctx.change.meta[_undelivered_key(log.id)] = f"{log.limit + 1} {log.seq}"
            self._sync.step.effects.append(DeliveryRevoked(log.id, log.limit + 1, log.seq))

    def _note_above(self, writer: WriterLogs, log: LogState) -> None:
        for mark in log.builds_on:
            writer.above.setdefault(mark.run, []).append((mark.seq, log))

    def refresh_tips(self, log: LogState) -> None:
        """Compute whether a log of a talk that changed is a tip, and those that it names. After a cut this is done with
        each commit.
        """
        writer = log.conversation.writers[log.user]
        for run in (log.id.run, *(mark.run for mark in log.before)):
            if not writer.uncut and run in writer.logs:
                self._refresh_tip(writer, writer.logs[run])

    def _refresh_tip(self, writer: WriterLogs, log: LogState) -> None:
        above = writer.above.get(log.id.run, ())
        is_named = any(one.shared_seq and not one.forked and seq >= log.shared_seq for seq, one in above)
        log.hidden = None if writer.uncut else is_named
        log.conversation.refresh_sum(log)

    # ---- after a commit

    def emit_updates(self, news: Iterable[Effect]) -> None:
        """Emit updates that are durable. A process killed now leaves it to the next one to repeat revoked
        deliveries.
        """
        for each in news:
            self._ctx.emit(each)
            if isinstance(each, DeliveryRevoked):
                self._ctx.change.meta[_undelivered_key(each.log)] = None

    def on_durable(self, groups: set[ConversationId]) -> None:
        """Retry the wants in talks that were impossible while their groups differed."""
        talks = {self._sync.conversations.groups[id].talk for id in groups}
        for remote in self._sync.remotes.values():
            for key in [key for key in remote.ahead if key[0] in talks]:
                self._fetcher.request(key, urgent=True)


def _undelivered_key(log: LogId) -> str:
    return UNDELIVERED + ",".join(log)


def check_fact(frame: Entries) -> None:
    """Raise LogError for an entry of a group that is not all of a log which is named after it: so none can fork."""
    if frame.first == len(frame.e) == 1 and not has_stubs(frame.e):
        check_header(frame)
        if run_of(frame.c, frame.u, before_of(frame), certificate_of(frame.h), frame.e[0]) == frame.r:
            return
    raise LogError("a fact in a log that is not named after it", code="malformed")
