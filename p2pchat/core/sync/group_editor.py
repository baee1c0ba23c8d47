"""Facts of groups that hosted users say: a group is created, changed or left.

Whoever is removed is cut off at the entries visible here now, and of its facts those count that are here.

Source: docs/protocol-groups.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from p2pchat.core.effects import WriteRefused
from p2pchat.core.groups.group_fact import (
    ADD,
    ADMIN,
    CREATE,
    FACT,
    HEIR,
    LEAVE,
    MAX_MEMBERS,
    NAME,
    REMOVE,
    SALT_BYTES,
    UNADMIN,
    fact_body,
    group_id,
    run_of,
)
from p2pchat.core.groups.group_replica import GroupReplica, GroupView
from p2pchat.core.inputs import GroupChangeRequest, GroupCreateRequest, GroupLeaveRequest
from p2pchat.core.log import MAX_ENTRY_BYTES, encode_entry, size_bytes
from p2pchat.core.names import name_fault
from p2pchat.core.sync.appender import Appender
from p2pchat.core.sync.sync_context import SyncContext
from p2pchat.protocol import MAX_INT, ConversationId, Mark, Naming, UserId

Refusal = tuple[str, str]  # code and sentence
Body = dict[str, Any]
TOO_OFTEN: Refusal = "too_long", "somebody was removed from this group too often: begin a new one"


class GroupEditor:
    """Writes facts of groups."""

    def __init__(self, sync: SyncContext, appender: Appender) -> None:
        self._sync = sync
        self._ctx = sync.ctx
        self._appender = appender

    def on_request(self, request: GroupCreateRequest | GroupChangeRequest | GroupLeaveRequest) -> None:
        """Carry out a request. Answered by WriteRefused at once, or by WriteAccepted when durable."""
        if request.user not in self._sync.hosted:
            fault: Refusal | None = ("user", "this user is not hosted here")
        elif isinstance(request, GroupCreateRequest):
            if self._sync.answer_again(request.ticket, request.user, request.key, FACT):
                return
            fault = self._make(request)
        else:
            group = self._sync.conversations.groups.get(request.group)
            if group is None or group.state is None:
                fault = ("group", "no such group is known here")
            elif isinstance(request, GroupLeaveRequest):
                fault = self._leave(group, group.state, request)
            else:
                fault = self._change(group, group.state, request)
        if fault is not None:
            self._ctx.emit(WriteRefused(request.ticket, *fault))
        elif isinstance(request, GroupCreateRequest):
            self._sync.contacts.keep(request.members, request.user)
        elif isinstance(request, GroupChangeRequest):
            self._sync.contacts.keep(request.add, request.user)

    def _make(self, request: GroupCreateRequest) -> Refusal | None:
        user, members = request.user, [*dict.fromkeys((request.user, *request.members))]
        if fault := _group_fault(request.name, members):
            return fault
        body = fact_body(CREATE, members, name=request.name, salt=self._ctx.draw(SALT_BYTES).hex())
        entry = self._appender.fact_entry(body)
        raw = encode_entry(entry)
        id = group_id(self._sync.conversations.room, user, raw)
        run = run_of(id, user, (), self._sync.hosted[user].guest, raw)
        conversation = self._sync.conversations.open(Naming(group=(id, user, run)))
        assert conversation is not None
        conversation.allowed_writers = frozenset({user})
        log = self._appender.write_fact(conversation, user, entry, request.ticket)
        self._sync.note_key(log, 1, entry, request.key)
        return None

    def _change(self, group: GroupReplica, state: GroupView, request: GroupChangeRequest) -> Refusal | None:
        if fault := self._fault(group, state, request):
            return fault
        bodies = [*self._bodies(group, state, request)]
        if not bodies:
            return "nothing", "this would change nothing"
        return self._write(group, request.user, bodies, request.ticket)

    def _fault(self, group: GroupReplica, state: GroupView, request: GroupChangeRequest) -> Refusal | None:
        """Return why a user may not change a group so."""
        if request.user != state.owner:
            if request.user not in state.admins:
                return "owner", "only the owner and the admins can change the group"
            if request.name is not None or request.owner or request.admin or request.unadmin:
                return "owner", "only the owner can do that: an admin adds and removes members"
            if any(map(group.is_ranked, request.remove)):
                return "owner", "only the owner can remove who owns the group, or is an admin or was one"
        members = {*state.members, *request.add}.difference(request.remove)
        if (request.owner or request.user) not in members or not members.issuperset(request.admin):
            return "owner", "the owner and the admins must be members: hand the group over to a member first"
        raised = {*request.add, *request.admin, request.owner or request.user} - {request.user}
        if any(map(self._sync.members.is_out, raised)):
            return "members", "who is expelled can neither be added nor own the group: pardon them first"
        if any(len(group.known_of(user)) > MAX_MEMBERS for user in raised):  # one fact names no more of each
            return TOO_OFTEN
        return _group_fault(state.name if request.name is None else request.name, members)

    def _bodies(self, group: GroupReplica, state: GroupView, request: GroupChangeRequest) -> Iterator[Body]:
        """Yield what is said so that a group changes so."""
        added = {user: [out.id for out in group.outs(user)] for user in request.add if user not in state.members}
        if added:
            yield fact_body(ADD, added)
        for user in dict.fromkeys(request.remove):
            if user in state.members or (user in group.owners and not group.unmaking(user)):
                yield fact_body(REMOVE, [user], cuts=self._marks(group.talk, user), said=self._marks(group.id, user))
        made = {user: group.known_of(user) for user in request.admin if user not in state.admins}
        if made:
            yield fact_body(ADMIN, made)
        for user in dict.fromkeys(request.unadmin):
            if group.is_admin(user):
                yield fact_body(UNADMIN, [user], said=self._marks(group.id, user))
        if request.name not in (None, state.name):
            yield fact_body(NAME, name=request.name or "", n=min(group.name_fact.n + 1, MAX_INT))
        heir = request.owner or state.owner
        if heir != state.owner:
            yield fact_body(HEIR, {heir: group.known_of(heir)}, n=len(group.owners) - 1)

    def _leave(self, group: GroupReplica, state: GroupView, request: GroupLeaveRequest) -> Refusal | None:
        if not group.is_present(request.user):
            return "member", "only members can leave a group"
        if state.owner == request.user and self._sync.members.within(state.members.keys() - {request.user}):
            return "owner", "the owner cannot leave before the others: hand the group over first"
        body = fact_body(LEAVE, cuts=self._marks(group.talk, request.user))
        return self._write(group, request.user, [body], request.ticket)

    def _write(self, group: GroupReplica, user: UserId, bodies: list[Body], ticket: int) -> Refusal | None:
        entries = [self._appender.fact_entry(body, group) for body in bodies]
        if any(size_bytes([encode_entry(entry)]) > MAX_ENTRY_BYTES for entry in entries):
            return TOO_OFTEN
        for at, entry in enumerate(entries, 1):
            conversation = self._sync.conversations[group.id]
            self._appender.write_fact(conversation, user, entry, ticket if at == len(entries) else None)
        return None

    def _marks(self, conversation: ConversationId, user: UserId) -> list[Mark]:
        """Return the marks of the visible part of what a user wrote in one of a group's conversations."""
        found = self._sync.conversations.get(conversation)
        writer = found.writers.get(user) if found is not None else None
        return writer.visible_marks() if writer is not None else []


def _group_fault(name: str, members: Collection[UserId]) -> Refusal | None:
    if fault := name_fault(name):
        return "name", fault
    if len(members) > MAX_MEMBERS:
        return "members", f"a group has at most {MAX_MEMBERS} members"
    if any(len(user) != 64 or not set(user) <= set("0123456789abcdef") for user in members):
        return "members", "a member must be named by its full id"
    return None
