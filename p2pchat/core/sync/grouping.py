"""What hosted users do to groups: making one, changing it, leaving it, and making again what was lost.

An operation is the whole group, so what is asked is applied to the group as it is here. Whoever goes is cut off at what
is visible of it here now. Before an owner changes anything, what was lost of its operations is made again (state.py).

Source: docs/protocol.md, "Groups".
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from p2pchat.core.effects import Counted, Refused
from p2pchat.core.groups.group import Group
from p2pchat.core.groups.operations import (
    LEAVE,
    MAX_MEMBERS,
    OPERATION,
    SALT_BYTES,
    Operation,
    fork_mark,
    group_body,
    leave_body,
    operation_hash,
)
from p2pchat.core.groups.state import State, intent_of
from p2pchat.core.inputs import GroupChanging, GroupLeaving, GroupMade
from p2pchat.core.log import Entry, LogId, encode_entry
from p2pchat.core.names import name_fault
from p2pchat.core.sync.append import Writing
from p2pchat.core.sync.clock import next_c
from p2pchat.core.sync.progress import Shelf
from p2pchat.protocol import Mark, Naming, UserId

MOST_REDONE = 16  # operations at once; what is left is made again a moment later
Fault = tuple[str, str]  # code and sentence


class Grouping:
    """The hand of hosted users in groups."""

    def __init__(self, shelf: Shelf, writing: Writing) -> None:
        self._shelf = shelf
        self._ctx = shelf.ctx
        self._writing = writing
        self._redoing: set[str] = set()  # groups of which something lost will be made again
        self._rests = False  # nothing can be kept now

    def start(self) -> None:
        """Make again what was lost before this node stopped."""
        for group in self._shelf.conversations.groups.values():
            self.look(group)

    def rest(self, on: bool) -> None:
        """Make nothing again while nothing can be kept; what was lost afterwards."""
        self._rests = on
        if not on:
            self.start()

    # ---- what is asked

    def asked(self, asked: GroupMade | GroupChanging | GroupLeaving) -> None:
        """Do it; answered by Kept when it is durable, or Refused."""
        if asked.user not in self._shelf.hosted:
            fault: Fault | None = ("user", "this user is not hosted here")
        elif isinstance(asked, GroupMade):
            fault = self._make(asked)
        else:
            group = self._shelf.conversations.groups.get(asked.group)
            if group is None or group.state is None:
                fault = ("group", "no such group is known here")
            elif isinstance(asked, GroupLeaving):
                fault = self._leave(group, group.state, asked)
            else:
                fault = self._change(group, asked)
        if fault is not None:
            self._ctx.emit(Refused(asked.ticket, *fault))

    def _make(self, asked: GroupMade) -> Fault | None:
        members = dict.fromkeys((asked.user, *asked.members), 1)
        fault = _fault(asked.name, members)
        if fault is not None:
            return fault
        body = group_body(1, asked.name, asked.user, members, {}, salt=self._ctx.draw(SALT_BYTES).hex())
        now = self._ctx.now.utc
        entry = Entry(OPERATION, now, next_c(now, 0, 0), b=body)
        if fault := self._too_long(entry):
            return fault
        id = operation_hash(encode_entry(entry))
        naming = Naming(group=(id, asked.user, self._shelf.run))
        conversation = self._shelf.conversations.open(naming)
        assert conversation is not None and conversation.group is not None
        conversation.may = frozenset({asked.user})
        self._writing.put(conversation, asked.user, [entry], asked.ticket)
        return None

    def _change(self, group: Group, asked: GroupChanging) -> Fault | None:
        if group.state is None or group.state.owner != asked.user:
            return "owner", "only who owns the group changes it"
        self._redo_all(group, asked.user)
        state = group.state
        if state is None or state.owner != asked.user:
            return "owner", "only who owns the group changes it"
        members = {user: gen for user, gen in state.members.items() if user not in state.left}
        removed = [user for user in asked.remove if user in members]
        members |= {user: state.gen + 1 for user in asked.add if user not in members}
        for user in removed:
            del members[user]
        name, owner = state.name if asked.name is None else asked.name, asked.owner or asked.user
        if owner not in members:
            return "owner", "the owner is a member: hand the group over to one first"
        if fault := _fault(name, members):
            return fault
        if ({*members}, name, owner) == ({*state.present}, state.name, state.owner):
            return "nothing", "nothing would be other than it is"
        return self._operate(group, state, members, name, owner, ticket=asked.ticket)

    def _leave(self, group: Group, state: State, asked: GroupLeaving) -> Fault | None:
        if not group.is_present(asked.user):
            return "member", "who leaves has to be a member"
        if state.owner == asked.user and len(state.present) > 1:
            return "owner", "the owner leaves last: hand the group over first"
        conversation = self._shelf.conversations.by_id[group.id]
        body = leave_body(self._seen(group, asked.user))
        self._writing.write(conversation, asked.user, LEAVE, body, asked.ticket, group.cite)
        return None

    # ---- operations

    def _operate(
        self, group: Group, state: State, members: Mapping[UserId, int], name: str, owner: UserId, *,
        redo: str = "", ticket: int | None = None, by: UserId | None = None,
    ) -> Fault | None:  # fmt: skip
        """Write the next operation; whoever is no member any more is cut off at what is visible of it here."""
        cuts = state.cuts(lambda user: self._seen(group, user))
        for user in sorted(state.present - members.keys()):
            cuts[user] = tuple(self._seen(group, user))
        cuts = {user: marks for user, marks in cuts.items() if marks}
        body = group_body(state.gen + 1, name, owner, dict(sorted(members.items())), cuts, redo=redo)
        if fault := self._too_long(Entry(OPERATION, 0, 0, b=body)):
            return fault
        conversation = self._shelf.conversations.by_id[group.id]
        self._writing.write(conversation, by or state.owner, OPERATION, body, ticket)
        return None

    def _seen(self, group: Group, user: UserId) -> list[Mark]:
        """Return the marks of what is visible of a user in the talk."""
        talk = self._shelf.conversations.by_id.get(group.talk)
        writer = talk.writers.get(user) if talk is not None else None
        return writer.visible_marks() if writer is not None else []

    def _too_long(self, entry: Entry) -> Fault | None:
        most = self._ctx.settings.max_entry_bytes - 1024  # for its stamps and references
        if len(encode_entry(entry).encode()) <= most:
            return None
        return "too_long", "too many people were removed from this group: begin a new one"

    # ---- making again

    def look(self, group: Group) -> None:
        """Something is other in a group: should a hosted owner have lost something, it is made again soon.

        Not at once: another of the owner's peers may be doing it, and two of one gen would be lost as well.
        """
        if group.id not in self._redoing and any(
            group.lost(user) or group.unmade(user) for user in self._menders(group)
        ):
            self._redoing.add(group.id)
            wait = self._ctx.settings.gossip_within * (0.5 + 2 * self._ctx.random())
            self._shelf.after(wait, partial(self._due, group))

    def _menders(self, group: Group) -> list[UserId]:
        """Return the users hosted here who may have something to make again: of a gateway's thousands hardly one."""
        return sorted(user for user in group.menders if user in self._shelf.hosted)

    def _due(self, group: Group) -> None:
        self._redoing.discard(group.id)
        if self._rests:
            return
        for user in self._menders(group):
            self._remake(group, user)
            self._redo_all(group, user)
        self.look(group)

    def _remake(self, group: Group, user: UserId) -> None:
        """Make again what stands in a log of this user's that forked, and say so: nobody can be given that log.

        At first the same once more, gen by gen: so nothing is other than it was when the forked one counts no more.
        """
        forked = group.unmade(user)
        conversation = self._shelf.conversations.by_id[group.id]
        for made in group.standing_in(forked) if forked else ():
            body = group_body(made.gen, made.name, made.owner, made.members, made.cuts, redo=made.hash)
            self._writing.write(conversation, user, OPERATION, body, None)
        for log in forked:
            if group.state is not None:
                self._say_made(group, group.state, user, log)

    def _say_made(self, group: Group, state: State, user: UserId, log: LogId) -> None:
        """Write an operation that changes nothing and stands for a forked log; one of no owner says only that."""
        members = {user: gen for user, gen in state.members.items() if user not in state.left}
        members.setdefault(state.owner, state.members[state.owner])
        self._operate(group, state, members, state.name, state.owner, by=user, redo=fork_mark(log))

    def _redo_all(self, group: Group, user: UserId) -> None:
        for _ in range(MOST_REDONE):
            lost = group.lost(user)
            if not lost or group.state is None or self._redo(group, group.state, lost[0]) is not None:
                return
            self._ctx.emit(Counted("operation_redone"))

    def _redo(self, group: Group, state: State, lost: Operation) -> Fault | None:
        """Make what an operation meant anew on top; whom it added counts as added then."""
        intent = intent_of(lost, group.below(lost))
        members = {user: gen for user, gen in state.members.items() if user not in state.left | intent.removed}
        members = {**intent.added, **members}
        owner = intent.owner if intent.owner in members else state.owner
        members.setdefault(owner, state.members.get(owner, state.gen))
        name = state.name if intent.name is None else intent.name
        return self._operate(group, state, members, name, owner, redo=lost.hash)


def _fault(name: str, members: Mapping[UserId, Any]) -> Fault | None:
    fault = name_fault(name)
    if fault:
        return "name", fault
    if len(members) > MAX_MEMBERS:
        return "members", f"a group has at most {MAX_MEMBERS} members"
    if any(len(user) != 64 or not set(user) <= set("0123456789abcdef") for user in members):
        return "members", "a member is named by the whole id"
    return None
