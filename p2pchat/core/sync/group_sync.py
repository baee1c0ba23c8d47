"""Replication of groups: operations and leaves as they arrive, and what follows for the group's talk.

Operations and leaves are entries of a group's own conversation. Each changes the group (core/groups), and with it who
may hear of the talk and how much of each log there is visible. Every peer that may know of the group is sent a digest.
If anything of a writer was cut off, all its logs are objects, since the cuts decide which of them are tips.

Entries that were shown before their cut arrived keep their places, and are hidden from reads (Change.visible).

Source: docs/protocol-groups.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from p2pchat.core.durable_changes import EVERYTHING, GroupEntry
from p2pchat.core.effects import DeliveryRevoked, Effect, GroupUpdate
from p2pchat.core.groups.group_replica import GroupDifference, GroupReplica, GroupView, may_be_visible, visible_ends
from p2pchat.core.groups.group_state import GroupState, read_operation
from p2pchat.core.log import Batch, LogId, decode_entry
from p2pchat.core.sync.causal_order import CausalOrder
from p2pchat.core.sync.conversation_state import ConversationState, LogState, TalkLog, WriterLogs
from p2pchat.core.sync.fetcher import Fetcher
from p2pchat.core.sync.log_validation import LogExtension
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.protocol import ConversationId, Entries, Naming, UserId

UNDELIVERED = "undelivered:"  # in meta, before a log: entries that were cut off, until that was emitted


class GroupSync:
    """Replicates all groups known here, and their talks."""

    def __init__(self, sync: SyncContext, order: CausalOrder, fetcher: Fetcher) -> None:
        self._sync = sync
        self._ctx = sync.ctx
        self._order = order
        self._fetcher = fetcher
        self.views: dict[ConversationId, GroupView] = {}  # known groups, by id

    # ---- start

    def load(self, stored: Iterable[GroupEntry], forked: Iterable[LogId]) -> None:
        """Load the stored operations of groups, before their logs are known."""
        of_group: dict[ConversationId, list[GroupEntry]] = {}
        for each in stored:
            of_group.setdefault(each.log.conversation, []).append(each)
        forks: dict[ConversationId, list[LogId]] = {}
        for log in forked:
            forks.setdefault(log.conversation, []).append(log)
        for group in list(self._sync.conversations.groups.values()):
            for each in of_group.get(group.id, ()):
                if each.before:
                    group.note_before(each.log, each.before)
            entries = ((log, seq, raw, decode_entry(raw)) for log, seq, raw, _ in of_group.get(group.id, ()))
            group.load(entries, forks.get(group.id, ()))
            self._refresh_members(group)

    def start(self, meta: Mapping[str, str]) -> None:
        """Find out how much of each talk is visible, now that all logs are known."""
        for name, text in meta.items():
            if name.startswith(UNDELIVERED) and text:
                log = LogId(*name.removeprefix(UNDELIVERED).split(","))
                self.emit_updates([DeliveryRevoked(log, *map(int, text.split()))])
        for group in self._sync.conversations.groups.values():
            self._refresh_talk(group)

    def _refresh_members(self, group: GroupReplica) -> None:
        """Update the members of a group's two conversations."""
        conversations = self._sync.conversations
        if group.state is None:
            return
        self.views[group.id] = group.view
        present, hosted = group.state.present, self._sync.hosted.keys()
        operations = conversations[group.id]
        operations.members, operations.named_only_by_void = group.named, group.named_only_by_void
        void = operations.named_only_by_void
        operations.allow_writers(group.named - void if void else group.named)
        operations.concerns_us = not hosted.isdisjoint(group.named)
        talk = conversations.open(Naming(talk=group.id))
        if talk is not None:
            talk.members, talk.allowed_writers = present, group.named
            talk.concerns_us = not hosted.isdisjoint(present)

    def on_hosts_changed(self, user: UserId = "") -> None:
        """Update the groups that concern a user hosted from now on, or ("") all after one was unhosted."""
        for group in self._sync.conversations.groups.values():
            if not user or user in group.named:
                self._refresh_members(group)

    # ---- arrivals

    def may_begin(self, conversation: ConversationState, id: LogId, frame: Entries) -> bool:
        """Return whether a new log of a group may begin. In an unknown group, only with its first operation."""
        group = conversation.group
        if group is None or group.state is not None:
            return True
        known = frame.first == 1 and group.begins_with(id, frame.e[0], decode_entry(frame.e[0]))
        known = known and self._may_concern_us(conversation, id, frame)
        if not known:
            self._ctx.count("group_not_known")
        return known

    def _may_concern_us(self, conversation: ConversationState, id: LogId, frame: Entries) -> bool:
        """Return whether a group may be one of a user hosted here. A link implies that, a file does not."""
        hosted = self._sync.hosted.keys()
        if not (conversation.members or frozenset()) <= hosted:
            return True
        room = self._sync.conversations.room
        entries = ((seq, raw, decode_entry(raw)) for seq, raw in enumerate(frame.e, frame.first))
        operations = (read_operation(room, id, seq, raw, entry) for seq, raw, entry in entries)
        return any(not hosted.isdisjoint(operation.members) for operation in operations if operation is not None)

    def accepts(self, extension: LogExtension, batch: Batch) -> bool:
        """Return whether a proven batch of a group is kept.

        That of a talk cites known operations, and its beginning is visible. A group that begins needs a place if its
        owner is unknown.
        """
        log, entries = extension.log, batch.entries or []
        conversation = log.conversation
        group = conversation.group
        if conversation.is_operations:
            return self._has_place(extension, batch)
        assert group is not None and isinstance(log, TalkLog)
        cites = {entry.g for entry in entries if entry.g is not None}
        if not all(map(group.knows, cites)):
            self._ctx.count("cites_unknown")
            extension.drop("early")  # its operation may be on its way
            return False
        first = entries[0].g
        gen = first[0] if first is not None else log.cites[-1].gen if log.cites else 0
        if log.uncut and log.visible == log.seq and group.is_present(log.user):
            if gen >= group.added(log.user):
                return True
        log_views = conversation.writer(log.user).log_views
        if may_be_visible(group.visibility_rules(log.user), log_views, log.id.run, log.seq + 1, gen):
            return True
        self._ctx.count("cut_off")
        extension.drop("cut")
        return False

    def _has_place(self, extension: LogExtension, batch: Batch) -> bool:
        conversation, id = extension.log.conversation, extension.log.id
        if extension.source.remote is None or conversation.is_stored:
            return True
        room = self._sync.conversations.room
        items = enumerate(zip(batch.raws, batch.entries or (), strict=True), batch.first)
        operations = [one for seq, item in items if (one := read_operation(room, id, seq, *item)) is not None]
        named = {user for operation in operations for user in operation.members}
        if self._sync.inbox.admits(conversation.id, id.user, operations[0].name, named):
            return True
        extension.drop("group")
        return False

    def on_kept(self, log: LogState, batch: Batch) -> None:
        """Take a batch that was added to a log."""
        conversation = log.conversation
        assert conversation.group is not None
        if isinstance(log, TalkLog):
            self._ctx.change.cites += [(log.id, cite) for cite in log.add_cites(batch)]
            self._extend_visible(conversation.group, log, batch)
        else:
            if batch.first == 1:
                conversation.group.note_before(log.id, log.before)
            self._on_operations(conversation.group, batch)
        if batch.first == 1 and log.user in self._sync.hosted:  # written here, or it came back
            self._sync.inbox.on_answered(conversation, log.user)

    def _on_operations(self, group: GroupReplica, batch: Batch) -> None:
        """Take new entries of a group's own conversation."""
        assert batch.entries is not None
        step = self._sync.step
        step.groups.add(group.id)
        former = group.state
        for seq, (raw, entry) in enumerate(zip(batch.raws, batch.entries, strict=True), batch.first):
            differences = group.add(batch.log, seq, raw, entry)
            step.effects += group_updates(group, differences, batch.log, seq)
        if group.state is not None:
            if former is None:
                self._sync.conversations.keep(group.id)
                step.begun += self._sync.inbox.on_begun(self._sync.conversations[group.id])
            self._refresh_members(group)
            self._refresh_visible_since(group, former)

    def on_fork(self, log: LogState) -> None:
        """Take the fork of a group's log: its operations may be void until they are repeated."""
        group = log.conversation.group
        if group is None or not log.conversation.is_operations:
            return
        former = group.state
        differences = group.fork(log.id)
        if group.state is not None:
            self._sync.step.groups.add(group.id)
            newest = group.state.tied[0]
            self._sync.step.effects += group_updates(group, differences, newest.log, newest.seq)
            self._refresh_members(group)
            self._refresh_visible_since(group, former)

    def on_log_restored(self, log: LogState) -> None:
        """Update the visible part of a talk's logs below a forked one, which are tips again."""
        conversation = log.conversation
        if conversation.is_talk and conversation.group is not None:
            self._refresh_visible(conversation, conversation.group, conversation.writer(log.user))

    # ---- visibility

    def _extend_visible(self, group: GroupReplica, log: TalkLog, batch: Batch) -> None:
        """Update the visible part of a log that has grown. Usually everything is visible."""
        conversation, user = log.conversation, log.user
        writer = conversation.writer(user)
        log.uncut = writer.uncut
        usual = log.visible == batch.first - 1 and writer.uncut and not group.has_cut(user) and group.is_present(user)
        if usual and all(cite.gen >= group.added(user) for cite in log.cites):
            log.visible = log.seq
            return
        self._refresh_visible(conversation, group, writer, but=log)

    def _refresh_visible_since(self, group: GroupReplica, former: GroupState | None) -> None:
        """Update what is visible after the state of a group changed, of those writers for whom it can have changed.

        An owner can name any number of users, one after the other, who each write something.
        """
        states = [] if group.state is former else [former, group.state]
        self._refresh_talk(group, {user for state in states if state is not None for user in state.judged_users})

    def _refresh_talk(self, group: GroupReplica, users: AbstractSet[UserId] | None = None) -> None:
        """Update what is visible of these users, None: of all."""
        talk = self._sync.conversations.get(group.talk)
        if talk is not None:
            for user in sorted(talk.writers.keys() if users is None else users & talk.writers.keys()):
                self._refresh_visible(talk, group, talk.writers[user])
            if talk.waiting_logs:
                self._order.retry(talk)

    def _refresh_visible(
        self, talk: ConversationState, group: GroupReplica, writer: WriterLogs, but: TalkLog | None = None
    ) -> None:
        """Compute how much of each log of a writer is visible, and release that; the caller releases `but`."""
        rules = group.visibility_rules(writer.user)
        is_present = group.is_present(writer.user) and not group.has_cut(writer.user)
        ends = visible_ends(rules, writer.log_views)
        writer.uncut = is_present and all(ends[run].seq == log.seq for run, log in writer.logs.items())
        if not writer.uncut and talk.open_covered(writer.user):
            ends = visible_ends(rules, writer.log_views)
        logs = [log for log in writer.logs.values() if isinstance(log, TalkLog)]
        for log in logs:
            log.uncut = writer.uncut
            log.visible, log.visible_chain = ends[log.id.run]
            self._store_visible(log)
        self.refresh_tips(talk, writer)
        for log in logs:
            if log is not but:
                self._order.on_visibility_changed(log)

    def _store_visible(self, log: TalkLog) -> None:
        """Have storage hide what is not visible any more, and report it if the writer is hosted here."""
        noted, log.stored_visible = log.stored_visible, EVERYTHING if log.visible == log.seq else log.visible
        if log.stored_visible == noted or not log.seq:
            return
        self._ctx.change.visible[log.id] = log.stored_visible
        is_less = log.stored_visible != EVERYTHING and (noted == EVERYTHING or log.stored_visible < noted)
        if is_less and log.user in self._sync.hosted and not log.forked:
            self._ctx.change.meta[_undelivered_key(log.id)] = f"{log.visible + 1} {log.seq}"
            self._sync.step.effects.append(DeliveryRevoked(log.id, log.visible + 1, log.seq))

    def refresh_tips(self, talk: ConversationState, writer: WriterLogs) -> None:
        """Compute which logs of a writer are tips. After a cut this is done with each commit."""
        logs = [log for log in writer.logs.values() if isinstance(log, TalkLog)]
        named = [mark for log in logs if log.shared_seq and not log.forked for mark in log.before]
        for log in logs:
            log.hidden = any(mark.run == log.id.run and mark.seq >= log.shared_seq for mark in named)
            talk.refresh_sum(log)

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


def group_updates(group: GroupReplica, differences: list[GroupDifference], log: LogId, seq: int) -> list[GroupUpdate]:
    """Return the effects that report these changes, which an entry made."""
    state = group.state
    members = tuple(sorted(state.present)) if state is not None and differences else ()
    return [
        GroupUpdate(group.id, group.talk, change, by, target, members, state.name, state.owner, log, seq)
        for change, by, target in differences
        if state is not None
    ]
