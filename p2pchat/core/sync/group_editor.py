"""Operations of groups that hosted users write: a group is created, changed or left, and lost ones are repeated.

An operation holds the whole group, so a request is applied to the group's current state here. A removed member is cut
off at the entries visible here now. Before an owner changes a group, its lost operations are repeated
(core/groups/group_state.py).

Source: docs/protocol-groups.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from p2pchat.core.durable_changes import DiskLevel
from p2pchat.core.effects import WriteRefused
from p2pchat.core.groups.group_replica import GroupReplica
from p2pchat.core.groups.group_state import (
    LEAVE,
    MAX_MEMBERS,
    OPERATION,
    SALT_BYTES,
    GroupOperation,
    GroupState,
    fork_mark,
    group_body,
    intent_of,
    leave_body,
    operation_hash,
)
from p2pchat.core.inputs import GroupChangeRequest, GroupCreateRequest, GroupLeaveRequest
from p2pchat.core.log import MAX_ENTRY_BYTES, Entry, encode_entry, next_c, size_bytes
from p2pchat.core.names import name_fault
from p2pchat.core.sync.appender import Appender
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.protocol import ConversationId, Mark, Naming, UserId

MAX_REDONE = 16  # operations at once; the rest follows a moment later
Refusal = tuple[str, str]  # code and sentence


class GroupEditor:
    """Writes group operations: creating, changing and leaving groups, and repeating lost operations."""

    def __init__(self, sync: SyncContext, appender: Appender) -> None:
        self._sync = sync
        self._ctx = sync.ctx
        self._appender = appender
        self._repairing: set[str] = set()  # groups whose lost operations will be repeated

    def start(self) -> None:
        """Repeat operations lost before this node stopped."""
        self.on_durable(self._sync.conversations.groups)

    # ---- requests

    def on_request(self, request: GroupCreateRequest | GroupChangeRequest | GroupLeaveRequest) -> None:
        """Carry out a request. Answered by WriteRefused at once, or by WriteAccepted when durable."""
        if request.user not in self._sync.hosted:
            fault: Refusal | None = ("user", "this user is not hosted here")
        elif isinstance(request, GroupCreateRequest):
            fault = self._make(request)
        else:
            group = self._sync.conversations.groups.get(request.group)
            if group is None or group.state is None:
                fault = ("group", "no such group is known here")
            elif isinstance(request, GroupLeaveRequest):
                fault = self._leave(group, group.state, request)
            else:
                fault = self._change(group, request)
        if fault is not None:
            self._ctx.emit(WriteRefused(request.ticket, *fault))
        elif isinstance(request, GroupCreateRequest):
            self._sync.contacts.keep(request.members, request.user)
        elif isinstance(request, GroupChangeRequest):
            self._sync.contacts.keep(request.add, request.user)

    def _make(self, request: GroupCreateRequest) -> Refusal | None:
        members = dict.fromkeys((request.user, *request.members), 1)
        fault = _group_fault(request.name, members)
        if fault is not None:
            return fault
        body = group_body(1, request.name, request.user, members, {}, salt=self._ctx.draw(SALT_BYTES).hex())
        now = self._ctx.now.utc
        entry = Entry(OPERATION, now, next_c(now, 0, 0), b=body)
        if fault := self._too_long(entry):
            return fault
        id = operation_hash(self._sync.conversations.room, encode_entry(entry))
        naming = Naming(group=(id, request.user, self._sync.run))
        conversation = self._sync.conversations.open(naming)
        assert conversation is not None and conversation.group is not None
        conversation.allow_writers(frozenset({request.user}))
        self._appender.write_entries(conversation, request.user, [entry], request.ticket)
        return None

    def _change(self, group: GroupReplica, request: GroupChangeRequest) -> Refusal | None:
        if group.state is None or group.state.owner != request.user:
            return "owner", "only the owner can change the group"
        self._repeat_lost(group, request.user)
        state = group.state
        if state is None or state.owner != request.user:
            return "owner", "only the owner can change the group"
        members = {user: gen for user, gen in state.members.items() if user not in state.left}
        removed = [user for user in request.remove if user in members]
        members |= {user: state.gen + 1 for user in request.add if user not in members}
        for user in removed:
            del members[user]
        name, owner = state.name if request.name is None else request.name, request.owner or request.user
        if owner not in members:
            return "owner", "the owner must be a member: hand the group over to a member first"
        if any(map(self._sync.members.is_out, {*request.add, owner} - {request.user})):
            return "members", "who is expelled can neither be added nor own the group: pardon them first"
        if fault := _group_fault(name, members):
            return fault
        if ({*members}, name, owner) == ({*state.present}, state.name, state.owner):
            return "nothing", "this would change nothing"
        return self._operate(group, state, members, name, owner, ticket=request.ticket)

    def _leave(self, group: GroupReplica, state: GroupState, request: GroupLeaveRequest) -> Refusal | None:
        if not group.is_present(request.user):
            return "member", "only members can leave a group"
        others = state.present - {request.user}
        if state.owner == request.user and not all(map(self._sync.members.is_out, others)):
            return "owner", "the owner cannot leave before the others: hand the group over first"
        conversation = self._sync.conversations[group.id]
        body = leave_body(self._visible_marks(group, request.user))
        self._appender.write_to_group(conversation, request.user, LEAVE, body, request.ticket, group.cite)
        return None

    # ---- operations

    def _operate(
        self, group: GroupReplica, state: GroupState, members: Mapping[UserId, int], name: str, owner: UserId, *,
        redo: str = "", ticket: int | None = None, by: UserId | None = None,
    ) -> Refusal | None:  # fmt: skip
        """Write the next operation. Users who are members no longer are cut off at what is visible here."""
        cuts = state.cuts(lambda user: self._visible_marks(group, user))
        for user in sorted(state.present - members.keys()):
            cuts[user] = tuple(self._visible_marks(group, user))
        cuts = {user: marks for user, marks in cuts.items() if marks}
        body = group_body(state.gen + 1, name, owner, dict(sorted(members.items())), cuts, redo=redo)
        if fault := self._too_long(Entry(OPERATION, 0, 0, b=body)):
            return fault
        conversation = self._sync.conversations[group.id]
        self._appender.write_to_group(conversation, by or state.owner, OPERATION, body, ticket)
        return None

    def _visible_marks(self, group: GroupReplica, user: UserId) -> list[Mark]:
        """Return the marks of the visible part of a user's talk."""
        talk = self._sync.conversations.get(group.talk)
        writer = talk.writers.get(user) if talk is not None else None
        return writer.visible_marks() if writer is not None else []

    def _too_long(self, entry: Entry) -> Refusal | None:
        most = MAX_ENTRY_BYTES - 1024  # for stamps and references
        if size_bytes([encode_entry(entry)]) <= most:
            return None
        return "too_long", "too many people were removed from this group: begin a new one"

    # ---- repeating lost operations

    def on_durable(self, groups: Iterable[ConversationId]) -> None:
        """Look after groups whose new operations are durable."""
        for id in groups:
            self._repair_soon(self._sync.conversations.groups[id])

    def _repair_soon(self, group: GroupReplica) -> None:
        """Repeat a hosted owner's lost operations soon, if a change of the group lost some.

        Not at once: another of the owner's peers may be doing it, and two operations of one gen would be lost again.
        """
        lost = (group.lost_operations(user) or group.logs_to_reissue(user) for user in self._users_to_repair(group))
        if group.id not in self._repairing and any(lost):
            self._repairing.add(group.id)
            wait = self._ctx.settings.gossip_within * (0.5 + 2 * self._ctx.random())
            self._sync.after(wait, partial(self._repair, group))

    def _users_to_repair(self, group: GroupReplica) -> list[UserId]:
        """Return the hosted users who may have something to repeat: hardly one of a gateway's thousands."""
        return sorted(user for user in group.users_to_reissue if user in self._sync.hosted)

    def _repair(self, group: GroupReplica) -> None:
        self._repairing.discard(group.id)
        if self._sync.quota.disk is DiskLevel.NOTHING:
            return  # all is looked at again when there is room
        for user in self._users_to_repair(group):
            self._rewrite_forked(group, user)
            self._repeat_lost(group, user)
        self._repair_soon(group)

    def _rewrite_forked(self, group: GroupReplica, user: UserId) -> None:
        """Repeat the operations of a forked log of this user, which no peer can be given, and announce that.

        First they are repeated unchanged, gen by gen. So nothing changes when those of the forked log become void.
        """
        forked = group.logs_to_reissue(user)
        conversation = self._sync.conversations[group.id]
        for made in group.operations_only_in(forked) if forked else ():
            body = group_body(made.gen, made.name, made.owner, made.members, made.cuts, redo=made.hash)
            self._appender.write_to_group(conversation, user, OPERATION, body, None)
        for log in forked:
            if (state := group.state) is not None:
                # What changes nothing and replaces a forked log. It has no other effect if the user is no owner.
                members = {
                    who: gen for who, gen in state.members.items() if who not in state.left or who == state.owner
                }
                self._operate(group, state, members, state.name, state.owner, by=user, redo=fork_mark(log))

    def _repeat_lost(self, group: GroupReplica, user: UserId) -> None:
        for _ in range(MAX_REDONE):
            lost = group.lost_operations(user)
            if not lost or group.state is None or self._repeat_operation(group, group.state, lost[0]) is not None:
                return
            self._ctx.count("operation_redone")

    def _repeat_operation(self, group: GroupReplica, state: GroupState, lost: GroupOperation) -> Refusal | None:
        """Repeat the intent of an operation on the current state. A user it added counts as added now."""
        intent = intent_of(lost, group.below(lost))
        members = {user: gen for user, gen in state.members.items() if user not in state.left | intent.removed}
        members = {**intent.added, **members}
        owner = intent.owner if intent.owner in members else state.owner
        members.setdefault(owner, state.members.get(owner, state.gen))
        name = state.name if intent.name is None else intent.name
        return self._operate(group, state, members, name, owner, redo=lost.hash)


def _group_fault(name: str, members: Mapping[UserId, Any]) -> Refusal | None:
    fault = name_fault(name)
    if fault:
        return "name", fault
    if len(members) > MAX_MEMBERS:
        return "members", f"a group has at most {MAX_MEMBERS} members"
    if any(len(user) != 64 or not set(user) <= set("0123456789abcdef") for user in members):
        return "members", "a member must be named by its full id"
    return None
