"""The context of all machines of synchronisation: remotes, who shares a conversation, owed marks.

It holds the remotes (remote_state.py), says with which of them a conversation is shared, and sends the marks that a
step owes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial

from p2pchat.core.contacts import Blocks, Contacts
from p2pchat.core.durable_changes import KnownConversation, Stored
from p2pchat.core.effects import WriteRefused
from p2pchat.core.log import Entry, FileRef, LogId, WriterKey, certificate_of, member_of
from p2pchat.core.members.member_directory import MemberDirectory
from p2pchat.core.members.statement_exchange import StatementExchange
from p2pchat.core.mesh.presence_tracker import PresenceTracker
from p2pchat.core.names import KnownPeople
from p2pchat.core.node_context import HostedIdentities, NodeContext, Timer
from p2pchat.core.sync.conversation_state import ConversationState, LogState
from p2pchat.core.sync.known_conversations import Inbox, KnownConversations, dm_id
from p2pchat.core.sync.lookups import Lookups
from p2pchat.core.sync.quota import Quota
from p2pchat.core.sync.remote_state import MAX_REMEMBERED, RemoteState
from p2pchat.core.sync.step import Step
from p2pchat.core.sync.written_keys import Written, WrittenKeys, asked_in
from p2pchat.errors import LogError
from p2pchat.protocol import (
    ConversationId,
    Digest,
    Entries,
    Have,
    Marks,
    Naming,
    ReadFrame,
    RunId,
    TypingFrame,
    UserId,
    Want,
)

MAX_PAGE = 500  # always fits a frame: docs/protocol.md, "Limits"
MARK_BYTES = 128  # of a mark in a frame, with the user, about
NamingFrame = Digest | Have | Want | Entries | ReadFrame | TypingFrame  # frames with `names`


class SyncContext:
    """The state that all machines of synchronisation share."""

    def __init__(
        self, ctx: NodeContext, room: ConversationId, presence: PresenceTracker, hosted: HostedIdentities,
        contacts: Contacts, blocks: Blocks, members: MemberDirectory, statements: StatementExchange, stored: Stored,
        run: RunId,
    ) -> None:  # fmt: skip
        self.ctx = ctx
        self.presence = presence
        self.hosted = hosted
        self.contacts = contacts
        self.blocks = blocks
        self.members = members
        self._statements = statements
        self.people: KnownPeople = KnownPeople(ctx, hosted, stored.users, stored.former_names, members, contacts)
        members.load(stored.members, self.people.names)
        self.run: RunId = run  # of logs that hosted users begin
        self.remotes: dict[int, RemoteState] = {}
        self.conversations: KnownConversations = KnownConversations(room, members.unnamed)
        self.lookups: Lookups = Lookups(ctx)
        self.inbox: Inbox = Inbox(ctx, self.conversations, hosted, contacts, members)
        self.quota: Quota = Quota(
            ctx, stored.meta, hosted, self.people.names, contacts.own, members, blocks, self.conversations, self.remotes
        )
        self.keys: WrittenKeys = WrittenKeys(stored.meta)
        self.again: list[Written] = []  # what was written twice, and is deleted once it is shown
        self.owing: dict[int, RemoteState] = {}  # remotes with marks to be sent, by link
        self.step: Step = Step(ctx.change)
        self.missing: dict[LogId, int] = {}  # stubs that no deletion here made, as bits (missing_texts.py)
        self.pending: dict[int, Step] = {}  # those that are not durable yet, by the ticket of their commit
        self.discarded = False  # replaced after storage failed: its timers do nothing
        self.faults: list[tuple[RemoteState, LogError]] = []  # their links are closed at the end of the step
        # Sums or marks in one frame. With `names`, a frame of 1,000 would not fit.
        self.page_size: int = min(ctx.settings.page_marks, MAX_PAGE)

    def stays(self, user: UserId) -> bool:
        """Return whether a user is known to anybody here, wrote here, or is hosted here, so that its name outlives its
        links.
        """
        if self.contacts.has_any(user) or user in self.hosted or self.people.has_profile(user):
            return True
        return self.conversations.has_entries_of(user)

    def is_up(self, remote: RemoteState) -> bool:
        return self.remotes.get(remote.id) is remote

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call `call` once, so many seconds from now, unless storage failed in between."""
        return self.ctx.after(seconds, lambda: None if self.discarded else call())

    def chain_at(self, log: LogState, seq: int) -> bytes | None:
        """Return the chain at an entry of a log, b"" if it is not held; None while storage is asked or writes it."""
        if seq == log.durable_seq:
            return log.durable_chain
        return self.lookups.chain_at(log.id, seq) if seq < log.durable_seq else None

    def fail(self, remote: RemoteState, error: LogError) -> None:
        """Note that a remote peer broke the rules of logs."""
        self.faults.append((remote, error))
        self.ctx.owes = True

    def change_run_if_cloned(self, log: LogId) -> None:
        """Draw another run if someone else wrote in a log of this run: that was a copy of this process.

        This applies to every user, since a user may be hosted here later.
        """
        if log.run == self.run:
            self.run = self.ctx.draw(8).hex()

    def may_begin(self, user: UserId, header: str) -> bool:
        """Return whether a log with this header may begin here: only if a statement that is kept names its member, or
        one that the writer named before: what is held of one writer is the same everywhere.

        Anybody can make up others. Raises LogError if that member did not sign that it answers for the writer.
        """
        certificate = certificate_of(header)
        if certificate is not None and not self.members.vouches(user, certificate):
            raise LogError("a member that does not answer for the writer", expected_seq=1, got_seq=1)
        if self.members.is_named(user) or self.named_member(header):
            return True
        self.ctx.count("unnamed_log")
        return False

    def named_member(self, header: str) -> UserId:
        """Return the member that a header names, if somebody names it; else ""."""
        member = member_of(header)
        return member if self._statements.is_named(member) else ""

    def refresh_unnamed(self, members: Iterable[UserId]) -> None:
        """Announce and await nothing more of whose members nobody names any more, and again what somebody names."""
        holding = self.conversations.may_have_entries_of
        for user in self.members.refresh(members, lambda user: any(user in each.writers for each in holding(user))):
            self.quota.stop_awaiting(user)
            for conversation in holding(user):
                if user in conversation.writers:
                    for log in conversation.writers[user].logs.values():
                        conversation.refresh_sum(log)

    def set_covered(self, log: LogState, covered: bool) -> None:
        """Note that another log builds on the end of this one, or that none does any more."""
        if not log.forked:
            self.quota.bytes.add(log.user, -self.quota.saved_bytes if covered else self.quota.saved_bytes)
        log.covered = self.step.covered[log] = covered
        if covered:
            self.step.change.covered.append(log.id)
        else:
            self.step.change.uncover(log.id)
        if log.conversation.by_ref.get(log.ref) is not log:
            log.conversation.add(log)

    def store_naming(self, conversation: ConversationState) -> None:
        """Store the name behind a conversation id, together with its first entry."""
        conversation.is_stored = True
        self.conversations.keep(conversation.id)
        if conversation.naming.dm:
            self.step.begun += self.inbox.on_begun(conversation)
        self.ctx.change.conversations.append(KnownConversation(conversation.id, conversation.naming))

    def answer_again(self, ticket: int, user: UserId, key: str, kind: str) -> bool:
        """Answer a request with a key that is known, as one that wrote nothing, and refuse one that asks for something
        else. Return whether it was answered; False with "" for no key.
        """
        written = self.keys.find(user, key)
        if written is None:
            return False
        log = self.conversations.find(written.log)
        if log is None:
            return False
        if written.asked == asked_in(key):
            self.ctx.change.is_awaited = True  # by a commit, behind that of what was written
            self.step.writes.append((ticket, log, written.seq, 0, kind))
        else:
            text = "this key was used for something else: each request needs a key of its own"
            self.ctx.emit(WriteRefused(ticket, "key", text))
        return True

    def note_key(self, log: LogState, seq: int, entry: Entry, key: str = "") -> None:
        """Note the key of an entry of a hosted user; of a new group's fact it is not in the entry."""
        key = key or entry.key
        if key:
            again = self.keys.note(key, Written(entry.c, log.id, seq, asked_in(key)), self.ctx.change.meta)
            if again is not None:
                self.again.append(again)
                self.ctx.owes = True

    def sweep_conversations(self) -> None:
        """Forget conversations that peers named and of which nothing is stored."""
        for forgotten in self.conversations.sweep(self._may_be_mentioned):
            self.inbox.free(forgotten.id)

    def _may_be_mentioned(self, conversation: ConversationState) -> bool:
        """Return whether there is a link that may hear of a conversation."""
        near = {link for user in conversation.members or () for link in self.presence.hosts.get(user, ())}
        remotes = (self.remotes[link] for link in near if link in self.remotes)
        return any(remote.comparison.begun and self.shares(remote, conversation) for remote in remotes)

    def may_list(self, remote: RemoteState) -> bool:
        """Return whether marks may be listed for a remote now, which may be thousands. If not, it asks again.

        A link says that it is full only after the step, so what was listed in this step counts.
        """
        given = self.step.sent_bytes.get(remote.id, 0)
        return remote.accepts_marks and given < self.ctx.settings.buffer_limit_bytes

    def on_listed(self, remote: RemoteState, marks: int) -> None:
        """Count so many marks as sent in this step."""
        given = self.step.sent_bytes
        given[remote.id] = given.get(remote.id, 0) + marks * MARK_BYTES

    def send_full(self, remote: RemoteState, key: WriterKey) -> None:
        """Tell a peer that no more of this user is taken in this conversation. Not repeated for each frame it sends.

        Nobody is told that a user is blocked: what it writes is dropped in silence.
        """
        if self.quota.is_blocked(key):
            return
        now, told_at = self.ctx.now.mono, remote.full_sent_at.get(key)
        if told_at is not None and now - told_at < self.ctx.settings.want_after:
            return
        if len(remote.full_sent_at) >= MAX_REMEMBERED:
            remote.full_sent_at.clear()
        remote.full_sent_at[key] = now
        self.ctx.send(Have({}, full={key[0]: [key[1]]}), [remote.id])  # which named it

    def is_among_known(self, conversation: ConversationState) -> bool:
        """Return whether this is a direct conversation of known users, or a group of a known one."""
        if conversation.group is not None:
            return self.inbox.is_known(self.inbox.adder(conversation.group))
        return conversation.naming.dm is not None and all(map(self.inbox.is_known, conversation.naming.dm))

    def shares(self, remote: RemoteState, conversation: ConversationState) -> bool:
        """Return whether a conversation is shared with a remote."""
        users, dm = remote.link.users, conversation.naming.dm
        if dm is not None:  # thousands
            return conversation.concerns_us and (dm[0] in users or dm[1] in users)
        return conversation.shared_with(users)

    def comes_by_carrier(self, remote: RemoteState, conversation: ConversationState, key: WriterKey) -> bool:
        """Return whether a remote gets entries from the peer that carries its link, not through it a second time."""
        carrier = self.remotes.get(remote.link.through)
        return carrier is not None and key not in carrier.refusals and self.shares(carrier, conversation)

    def find_file(self, message: tuple[LogId, int], root: str, then: Callable[[FileRef | None], None]) -> None:
        """Ask storage for what a message says of some content; None if it does not name it, or no more."""
        self.lookups.ask("files", message, lambda files: then(next((one for one in files if one.root == root), None)))

    def may_have(self, remote: RemoteState, log: LogId, seq: int) -> bool:
        """Return whether the conversation of an entry is shared with a remote, and no group cut the entry off.

        Whether the entry is shown at all says the lookup.
        """
        conversation = self.conversations.get(log.conversation)
        if conversation is None or conversation.has_facts or not self.shares(remote, conversation):
            return False
        state = conversation.log(log.user, log.run)
        return state is None or seq <= state.limit

    def remotes_sharing(self, conversation: ConversationState) -> list[RemoteState]:
        """Return the remotes that may hear of a conversation: their users are known, and one of them belongs to it."""
        remotes = self.remotes.values()
        return [remote for remote in remotes if remote.comparison.begun and self.shares(remote, conversation)]

    def shared_conversations(
        self, remote: RemoteState, span: tuple[ConversationId, ConversationId] | None = None
    ) -> list[ConversationState]:
        """Return the conversations with entries that are shared with a remote, by id in order: all, or of a span."""
        return [each for each in self.conversations.kept(span) if each.writers and self.shares(remote, each)]

    def find_conversation(self, remote: RemoteState, conversation: ConversationId) -> ConversationState | None:
        """Return a conversation that a remote mentions; None (and counted) if it is unknown or not shared.

        Facts of a group are accepted from anyone: one that has not arrived here may have named that peer's users.
        What this node sends about the group goes only to peers with which it `shares` it.
        """
        found = self.conversations.get(conversation)
        if found is None and conversation in remote.unopened:  # perhaps there is a place now
            self.learn_namings(remote, [remote.unopened.pop(conversation)])
            found = self.conversations.get(conversation)
        if found is None or not (found.has_facts or self.shares(remote, found)):
            self.ctx.count("conversation_ignored")
            return None
        return found

    def learn_namings(self, remote: RemoteState, namings: Iterable[Naming]) -> None:
        """Store the names of conversation ids that a peer sent. Ids are computed from names, so none can be false."""
        users = remote.link.users.keys()
        for naming in namings:
            if naming.group:
                self.conversations.open_group(naming, users, remote.link.peer, self.members.share(remote.link.peer))
                continue
            if naming.dm and not set(naming.dm) & self.hosted.keys():
                continue
            if naming.dm and not set(naming.dm) & users:  # its user may be announced later
                remote.note_unopened(dm_id(self.conversations.room, *naming.dm), naming)
                continue
            if naming.dm and not self.inbox.open(naming):
                self.ctx.count("conversation_refused")
                id = dm_id(self.conversations.room, *naming.dm)
                remote.note_unopened(id, naming)
                for user in set(naming.dm) - self.hosted.keys():
                    self.send_full(remote, (id, user))

    def send(self, frame: NamingFrame, remote: RemoteState, *conversations: ConversationId) -> None:
        """Send a frame that mentions these conversations, with the names that this link has not received."""
        new = [id for id in conversations if id not in remote.named]
        if new:
            remote.named.update(dict.fromkeys(new))
            frame.names = [self.conversations[id].naming for id in new]
        self.ctx.send(frame, [remote.id])

    def send_to_all(
        self, make: Callable[[], NamingFrame], remotes: Iterable[RemoteState], conversations: Collection[ConversationId]
    ) -> None:
        """Send a frame that mentions these conversations: as one to all links that have received the names."""
        links: list[int] = []
        for remote in remotes:
            if remote.named.keys() >= set(conversations):
                links.append(remote.id)
            else:
                self.send(make(), remote, *conversations)
        if links:
            self.ctx.send(make(), links)

    def forget_names(self, remote: RemoteState, users: Iterable[UserId]) -> None:
        """Name the conversations of these users again on a link, and all groups. Equal sums of theirs are news."""
        for id in (id for user in users for id in self.conversations.direct(user)):
            remote.named.pop(id, None)
            remote.comparison.equal.pop(id, None)
        for group in self.conversations.groups.values():
            remote.named.pop(group.id, None)
            remote.named.pop(group.talk, None)

    def owe_marks(self, remote: RemoteState, keys: Iterable[WriterKey]) -> None:
        """Send these marks at the end of the step, or as soon as the link accepts marks."""
        remote.owed_marks.update(dict.fromkeys(keys))  # no queue: each key waits once
        self.owing[remote.id] = remote
        self.ctx.owes = True

    def send_owed_marks(self) -> None:
        """Send the marks that are due, as one frame per link."""
        owing, self.owing = self.owing, {}
        alike: dict[tuple[WriterKey, ...], list[RemoteState]] = {}  # news goes to most links
        for id, remote in owing.items():
            if not self.is_up(remote):
                continue
            if remote.accepts_marks:
                owed, remote.owed_marks = remote.owed_marks.keys() - remote.refusals.keys(), {}
                there = self.conversations
                # Its users may have been removed from a group.
                told = [key for key in owed if there[key[0]].group is None or self.shares(remote, there[key[0]])]
                keys = tuple(sorted(told))
                remote.link.offered += len(keys)
                alike.setdefault(keys, []).append(remote)
            else:
                self.owing[id] = remote
                self.ctx.owes = True
        for keys, remotes in alike.items():
            page, count = Marks(), 0
            for conversation, user in keys:
                marks = self.conversations[conversation].marks_of(user, self.ctx.settings.max_tips)
                page.setdefault(conversation, {})[user] = marks
                count += max(1, len(marks))
                if count >= self.page_size:
                    self.send_to_all(partial(Have, page), remotes, page)
                    page, count = Marks(), 0
            if page:
                self.send_to_all(partial(Have, page), remotes, page)
