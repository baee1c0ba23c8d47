"""The node: handle(input, now) -> list[Effect].

A node decides for one peer. It knows no clock, socket, disk or randomness of its own: the same inputs give the same
effects. handshake.py, links.py and presence_tracker.py decide which peers and users are connected; replicator.py
decides what is stored and sent, and storage_state.py puts together the commit of a step. This file dispatches inputs.

All effects of one input are carried out before the next input. Nothing uncommitted is sent: marks and entries leave
only after Committed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from p2pchat.core.contacts import Blocks, Contacts
from p2pchat.core.durable_changes import Change, DiskLevel, Stored
from p2pchat.core.effects import (
    Commit,
    ContentStopped,
    Effect,
    ImportResult,
    OrderContent,
    WakeAt,
    WriteRefused,
)
from p2pchat.core.groups.group_replica import GroupView
from p2pchat.core.inputs import (
    CommitFailed,
    Committed,
    ComparisonAwaited,
    ContactAdded,
    ContentAnswered,
    ContentFailed,
    ContentGivenUp,
    ContentKept,
    ContentOpened,
    ContentRemoved,
    ContentWanted,
    ConversationOpened,
    DiskLow,
    FetchResult,
    Forget,
    Got,
    GroupChangeRequest,
    GroupCreateRequest,
    GroupLeaveRequest,
    HeldFound,
    ImportRequest,
    Input,
    InviteMade,
    Leave,
    LeavesStored,
    LinkDrained,
    Loaded,
    LookupResult,
    MarkedRead,
    MarkedTaken,
    NameKept,
    PiecesStored,
    PresenceSet,
    PruneRequest,
    PullAnswered,
    QuotaLifted,
    ReceiptsChosen,
    StatementsMade,
    Stop,
    TypingSet,
    UserBlocked,
    UserHosted,
    UserRenamed,
    UserUnhosted,
    Woke,
    WriteRequest,
)
from p2pchat.core.members.admission import Admission
from p2pchat.core.members.statement import PARDON, REMOVE
from p2pchat.core.members.statement_exchange import StatementExchange
from p2pchat.core.members.user_members import UserMembers
from p2pchat.core.mesh.links import Links
from p2pchat.core.mesh.peer_link import PeerLink
from p2pchat.core.mesh.presence_tracker import PresenceTracker
from p2pchat.core.names import full_label
from p2pchat.core.node_context import HostedIdentities, HostedIdentity, NetworkCredentials, NodeContext, Now
from p2pchat.core.receipts.peer_receipts import PeerReceipts
from p2pchat.core.replicator import Replicator
from p2pchat.core.storage_state import NEEDS_NO_DISK, LazyCommit, StorageState, fields_of
from p2pchat.core.sync.anti_entropy import repeat_at_random
from p2pchat.core.sync.sync_context import Step
from p2pchat.errors import ProtocolError
from p2pchat.protocol import (
    ConversationId,
    Frame,
    Here,
    Naming,
    PeerId,
    RunId,
    UserId,
)
from p2pchat.settings import Settings

QUIET_LOOKS = 3  # a link; not seconds: what delays links in a busy process delays looks too. A guess, as the next
MAX_LOOKS = 50  # if a known peer is not linked; it may be out of reach
NAMES_AT_ONCE = 50  # names that are signed in one step: about 5 ms


class Node:
    """The decisions of one peer.

    Args:
        settings: Limits and times.
        peer: This peer's id.
        users: The users hosted here, with the one whose key is the peer's.
        network: N and K.
        draw: Returns n random bytes.
        stored: What storage holds.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        peer: PeerId,
        users: list[HostedIdentity],
        network: NetworkCredentials,
        draw: Callable[[int], bytes],
        stored: Stored,
    ) -> None:
        self.settings = settings
        self.peer = peer
        self.network = network
        self.hosted: HostedIdentities = HostedIdentities(users)
        self.run: RunId = draw(8).hex()
        self._ctx = NodeContext(settings, peer, draw)
        self.blocks: Blocks = Blocks(self._ctx, stored.meta)
        self.contacts: Contacts = Contacts(self._ctx, stored.meta, self._on_contact)
        own, up = self.hosted[peer], dict[int, PeerLink]()
        self._statements = StatementExchange(self._ctx, network)
        self.user_members: UserMembers = UserMembers(
            network.id, peer, peer if own.guest is None else own.guest.member, self.hosted, up, self._statements,
            is_named=network.is_named,
        )  # fmt: skip
        self.admission: Admission = Admission(
            self._ctx, network, own.guest, self._statements, self.user_members, stored.meta
        )
        self.presence: PresenceTracker = PresenceTracker(self._ctx, users, self, self.admission, self.blocks.users)
        self.replicator: Replicator = self._replicator(stored, self.run)
        self.admission.load()
        self.links: Links = Links(
            self._ctx, network, own, self.run, stored.addresses, stored.records, self, self.contacts, self.blocks,
            self.admission, up,
        )  # fmt: skip
        self._storage = StorageState(self._ctx)
        self._lazy = LazyCommit(self._ctx, self.links.book)
        self._handlers = self._connect_handlers()
        self.looks: int = 0  # left until names are written; 0 when none is due

    def _replicator(self, stored: Stored, run: RunId) -> Replicator:
        self._statements.load(stored.statements, stored.meta)
        return Replicator(
            self._ctx, self.network, self.presence, self.hosted, self.contacts, self.blocks, stored, run,
            self._statements, self.user_members,
        )  # fmt: skip

    def _connect_handlers(self) -> dict[type, Callable[[Any], object]]:
        """Return the handler of each input. Those of `sync` are others when it was replaced."""
        sync = self.replicator
        return {
            **self.links.handlers,
            Got: self._on_frames,
            LinkDrained: self._on_drained,
            Forget: self._on_forget,
            Leave: self._on_leave,
            Stop: self._on_stop,
            Woke: self._on_woke,
            Committed: self._on_committed,
            CommitFailed: self._on_commit_failed,
            Loaded: self._on_loaded,
            LookupResult: sync.on_lookup_result,
            FetchResult: sync.context.lookups.on_fetch_result,
            DiskLow: self._on_disk_low,
            ConversationOpened: lambda input: sync.conversations.open(input.naming),
            WriteRequest: self._on_write,
            GroupCreateRequest: self._on_group_request,
            GroupChangeRequest: self._on_group_request,
            GroupLeaveRequest: self._on_group_request,
            ImportRequest: self._on_import,
            PruneRequest: self._on_prune,
            StatementsMade: self._on_statements_made,
            InviteMade: lambda input: self.admission.invites.on_made(input.id, input.uses, input.until),
            UserHosted: self._on_user_hosted,
            UserUnhosted: self._on_user_unhosted,
            UserRenamed: self._on_renamed,
            UserBlocked: self._on_blocked,
            NameKept: lambda input: sync.people.keep(input.user),
            ContactAdded: lambda input: self.contacts.keep([input.user]),
            QuotaLifted: lambda input: sync.lift_quota(input.user),
            PresenceSet: self._on_presence_set,
            TypingSet: lambda input: sync.typing.set_typing(input.user, input.conversation, input.on),
            MarkedRead: sync.receipts.read.on_marked,
            MarkedTaken: sync.receipts.taken.on_marked,
            ComparisonAwaited: sync.anti_entropy.compared_users.on_awaited,
            ReceiptsChosen: sync.receipts.read.on_privacy_chosen,
            ContentWanted: self._on_content_wanted,
            ContentGivenUp: sync.transfers.give_up,
            ContentRemoved: sync.transfers.on_removed,
            ContentKept: lambda input: sync.transfers.receipts.on_whole(input.root),
            HeldFound: sync.transfers.receipts.on_held,
            ContentOpened: sync.transfers.on_opened,
            LeavesStored: sync.transfers.on_leaves_stored,
            PiecesStored: sync.transfers.on_pieces_stored,
            ContentFailed: sync.transfers.on_failed,
            PullAnswered: sync.transfers.on_answered,
            ContentAnswered: self._on_content_answered,
        }

    # ---- in and out

    def start(self, now: Now) -> list[Effect]:
        """Return the first effects: dials to known addresses and the first deadline. Call once, before handle."""
        self._ctx.now = now
        self.presence.announcer.start()
        self.replicator.start()
        self._join()
        self.links.start()
        repeat_at_random(self._ctx, self._send_random_digest)
        return self._end()

    def handle(self, input: Input, now: Now) -> list[Effect]:
        """Take one input and return the effects, in order."""
        ctx = self._ctx
        ctx.now, ctx.out = now, []
        self.replicator.context.step = Step(ctx.change)
        self._handlers[type(input)](input)
        return self._end()

    def _end(self) -> list[Effect]:
        ctx = self._ctx
        if ctx.owes:
            ctx.owes = False
            faults = self.replicator.context.faults
            for remote, error in faults:
                self._close_for(remote.link, error)
            faults.clear()
            self.replicator.end_step()
            if ctx.orders:
                ctx.emit(OrderContent(ctx.orders))
                ctx.orders = []
        if any(fields_of(ctx.change)):
            self._order_commit()
        if ctx.timers.has_new and (at := ctx.timers.wake_at()) is not None:
            ctx.emit(WakeAt(at))
        return ctx.out

    def _order_commit(self) -> None:
        """Order one commit for everything this step makes durable, and for what waited; drop it while storage fails."""
        ctx, storage = self._ctx, self._storage
        if storage.disk is DiskLevel.NOTHING:
            ctx.change.records.clear()  # they are told again
            if not any(fields_of(ctx.change)):
                return
        if self._lazy.may_defer(ctx.change):
            return
        if storage.works:
            ticket = ctx.next_ticket()
            step = self.replicator.on_commit(ticket)
            storage.on_ordered(ticket)
            ctx.emit(Commit(ticket, storage.epoch, step.own, step.change))
        ctx.change = Change()

    # ---- read by the outside

    @property
    def room(self) -> ConversationId:
        """The id of the room."""
        return self.replicator.conversations.room

    @property
    def namings(self) -> dict[ConversationId, Naming]:
        """All conversations known here, and the names behind their ids."""
        return {id: conversation.naming for id, conversation in self.replicator.conversations.items()}

    def conversations_of(self, user: UserId) -> list[ConversationId]:
        """Return the conversations a user belongs to or did, or all that people see if no other user is hosted."""
        conversations = self.replicator.conversations
        return conversations.visible() if self.hosted.keys() == {user} else conversations.of_user(user)

    def newest_conversations(self, user: UserId) -> list[ConversationId]:
        """Return the same, those with the newest entries first."""
        return self.replicator.conversations.newest_first(self.conversations_of(user))

    @property
    def groups(self) -> dict[ConversationId, GroupView]:
        """All groups known here by id, including those that hosted users were removed from."""
        return self.replicator.groups.views

    @property
    def receipts(self) -> PeerReceipts:
        """Receipts of what users have, have read and have taken."""
        return self.replicator.receipts

    @property
    def names(self) -> dict[UserId, str]:
        """The name of every known user: from the newest profile entry, or as announced by its peer."""
        return self.replicator.people.names

    # ---- links

    def _on_frames(self, got: Got) -> None:
        frames = self.links.on_frames(got.link, got.frames)
        link = self.links.up.get(got.link)
        if link is None or not frames:
            return
        while Here in (kinds := [*map(type, frames)]):
            at = kinds.index(Here)
            self._dispatch(link, frames[:at])
            self._on_here(link, frames[at])  # type: ignore[arg-type]  # of that type
            del frames[: at + 1]
        self._dispatch(link, frames)
        self.links.settle(got.link)

    def _dispatch(self, link: PeerLink, frames: list[Frame]) -> None:
        # While storage fails nothing is taken in or acknowledged.
        if not (self._storage.works and link.id in self.links.up):
            return
        if self._storage.disk is DiskLevel.NOTHING:
            self.replicator.on_frames_while_disk_low(link, frames)
            frames = [frame for frame in frames if isinstance(frame, NEEDS_NO_DISK)]
        fault = self.replicator.on_frames(link, frames)
        if fault is not None:
            self._close_for(link, fault)

    def _close_for(self, link: PeerLink, error: ProtocolError) -> None:
        self._ctx.count(f"fault_{error.code}")
        self.links.close(link.id, error.code, str(error))

    def _on_here(self, link: PeerLink, frame: Here) -> None:
        if link.id not in self.links.up:
            return
        try:
            self.presence.here(link, frame)
        except ProtocolError as error:
            self._close_for(link, error)
            return
        there, fresh = link.users, True
        for user in frame.users:
            if user.id in there:
                fresh = fresh and self.replicator.is_unknown(user.id)
                self._on_announced(user.id, user.name)
                if user.id in self.contacts:
                    self.links.on_known(link, user.id)
        users = [user.id for user in frame.users if user.id in there]
        self.replicator.on_users_announced(
            link, users, [user for user in frame.gone or () if user not in there], fresh=fresh
        )

    def _on_announced(self, user: UserId, name: str) -> None:
        """Take a name that a peer gives a user. There is a rate for news of each member."""
        is_same = self.names.get(user, name) == name or self.replicator.people.has_profile(user)
        is_news = is_same or self.presence.events.may_tell(self.presence.share(user))
        self.replicator.people.on_announced_name(user, name, stays=self.stays(user), old=not is_news)

    def _on_forget(self, input: Forget) -> None:
        """Forget addresses. The user waits until that is durable, so the commit is not deferred."""
        self._lazy.force()
        self.links.forget(input)

    def link_up(self, link: PeerLink) -> None:
        """Take a link that passed go. This and the next methods are for mesh/ (MeshListener)."""
        self.replicator.on_link_up(link)
        self.presence.link_up(link)
        self._write_names_soon()

    def link_down(self, link: PeerLink, reason: str) -> None:
        """Take the end of a link that was up."""
        self.replicator.on_link_down(link)
        self.presence.link_down(link, reason)

    def report_unreachable(self, peer: PeerId, by: PeerId) -> None:
        """Report that a peer is reached by a linked one, and not from here."""
        if self.stays(peer):
            self.presence.set_unreachable(peer, by and (self.names.get(by) or full_label(None, by)))

    def stays(self, user: UserId) -> bool:
        """Return whether what is known of a user outlives its links."""
        return self.replicator.context.stays(user)

    def forget(self, user: UserId) -> None:
        """Forget a user of whom no link tells anything any more."""
        self.replicator.on_gone(user)

    def is_known(self, link: int) -> bool:
        """Return whether a link is one to a contact, or to a peer that hosts one."""
        return self.links.is_known(link)

    def _on_contact(self, id: PeerId | UserId, by: UserId) -> None:
        if by == self.peer:
            self.links.on_contact(id)
        self.replicator.on_contact(id, by)

    @property
    def storage_failures(self) -> int:
        """Return how many times a commit failed."""
        return self._storage.epoch

    @property
    def storage_works(self) -> bool:
        """Return whether storage accepts commits. People have been warned while it does not."""
        return self._storage.works

    @property
    def accepts_writes(self) -> bool:
        """Return whether writes are accepted: storage works, and there is enough disk space."""
        return self._storage.accepts_writes

    def _on_woke(self, input: Woke) -> None:
        self._ctx.run_due()
        self.links.end_dead()

    def _on_drained(self, input: LinkDrained) -> None:
        self.links.on_drained(input)
        self.presence.announcer.drained(input.link)
        self.replicator.on_drained(input.link)

    def _send_random_digest(self) -> None:
        if self.accepts_writes:
            self.replicator.anti_entropy.send_random_digest()

    # ---- storage

    def _on_committed(self, input: Committed) -> None:
        for ticket in input.tickets:
            step = self.replicator.settle(ticket)
            if step is not None:
                if step.change.statements or step.change.unstated:
                    self._on_members_changed(step.change)
                self.replicator.publish(step)
        if self.replicator.file_import.unsure:
            self.replicator.file_import.retry()
        self._storage.on_committed(input.tickets)

    def _on_commit_failed(self, failed: CommitFailed) -> None:
        """Warn, accept nothing, and reload: nothing in flight was kept."""
        if failed.epoch != self._storage.epoch:
            return
        self.replicator.fail_all(failed.reason)
        self._ctx.change = Change()
        self._storage.on_failed(failed.reason)

    def _on_loaded(self, input: Loaded) -> None:
        """Start anew from what storage holds, with what people chose. Own logs end here, since the fate of their last
        entries is not certain.
        """
        former = self.replicator
        input.stored.meta.update(self._ctx.choices)
        self._ctx.change.meta.update(self._ctx.choices)
        self.links.book.save_again(input.stored)
        self.replicator = self._replicator(input.stored, self._ctx.draw(8).hex())
        self._handlers = self._connect_handlers()
        self.replicator.start()
        self._join()
        for conversation in former.conversations.kept():  # programs do not open them again
            if conversation.group is None:
                self.replicator.conversations.open(conversation.naming)
        self.receipts.take_over(former.receipts)
        self.replicator.transfers.receipts.gone = former.transfers.receipts.gone
        self.replicator.set_disk(self._storage.disk)
        for link in list(self.links.up):  # they start anew, because frames of the failed time were dropped
            self.links.close(link, "error", "storage did not work for a while; it does again")
        self._storage.on_loaded()

    def _on_disk_low(self, input: DiskLow) -> None:
        former = self._storage.disk
        if input.level == former:
            return
        self.replicator.set_disk(input.level)
        self._storage.on_disk_level(input.level)
        if input.level < former:
            self.replicator.compare_all()

    # ---- users and programs

    def _on_write(self, request: WriteRequest) -> None:
        if self._storage.check_writable(request.ticket):
            self.replicator.write(request)

    def _on_members_changed(self, change: Change) -> None:
        """Tell statements that are durable, and take them, before links end that they leave nobody for."""
        void = self._statements.on_durable(change)
        self._join()
        self.user_members.on_members_changed()
        if any(one.kind in (REMOVE, PARDON) for one in change.statements):
            self.replicator.quota.on_members_changed()
        let_in = self.admission.report(change, void, self.replicator.conversations[self.room].history_until)
        self.links.on_members_changed({one.id for one in change.statements})
        self.presence.expel()
        self.replicator.group_editor.start()
        back = {user for member in let_in for user in (member, *self.user_members.users_of(member))}
        self.links.unblock(self.links.dialer.peers if self.peer in back else back)
        self.replicator.ask_for_dropped()

    def _join(self) -> None:
        if self.admission.is_member:
            self.replicator.join()

    def _on_statements_made(self, input: StatementsMade) -> None:
        if self.accepts_writes:
            self.replicator.statements.say(input.statements)

    def _on_group_request(self, request: GroupCreateRequest | GroupChangeRequest | GroupLeaveRequest) -> None:
        if self._storage.check_writable(request.ticket):
            self.replicator.group_editor.on_request(request)

    def _on_content_wanted(self, input: ContentWanted) -> None:
        if self._storage.works:
            self.replicator.transfers.want(input)
        else:  # what is fetched now would be forgotten once storage works again
            self._ctx.emit(ContentStopped(input.file.root, "storage does not work: nothing is accepted"))

    def _on_content_answered(self, input: ContentAnswered) -> None:
        for answer in input.answers:
            self._handlers[type(answer)](answer)

    def _on_import(self, input: ImportRequest) -> None:
        if not self._storage.works:
            self._ctx.emit(ImportResult(input.ticket, failed="storage does not work: nothing is accepted"))
        elif self._storage.disk >= DiskLevel.OWN_ONLY:
            self._ctx.emit(ImportResult(input.ticket, failed="the disk is nearly full: make room, then import again"))
        else:
            self.replicator.file_import.import_frames(input)

    def _on_prune(self, request: PruneRequest) -> None:
        """Delete, also on a full disk: it gives room."""
        if self._storage.works or self._storage.check_writable(request.ticket):
            self.replicator.pruner.on_request(request)

    def _on_user_hosted(self, input: UserHosted) -> None:
        user, most = input.user, self.settings.max_hosted_users
        if user.id in self.hosted:
            self._on_renamed(UserRenamed(user.id, user.name))
            return
        if len(self.hosted) >= most:
            self._ctx.emit(WriteRefused(0, "hosted", f"this peer hosts {most} users already, and no more"))
            return
        self.hosted.add(user)
        self.presence.host(user)
        self.replicator.on_user_hosted(user.id, input.delivered, input.reads, input.taken)
        self.replicator.people.on_announced_name(user.id, user.name)
        if self.links.up:
            self._write_names_soon()

    def _write_names_soon(self) -> None:
        """Write names once no link came up for some looks: while a mesh forms, each name makes comparisons longer."""
        if not self.looks:
            self._ctx.after(self.settings.peers_told_after, self._look)
        self.looks = MAX_LOOKS

    def _look(self) -> None:
        self.looks -= 1
        quiet = QUIET_LOOKS * len(self.links.up) if self.links.dialer.is_idle else MAX_LOOKS
        if self.looks > max(0, MAX_LOOKS - quiet):
            self._ctx.after(self.settings.peers_told_after, self._look)
        else:
            self.looks = 0
            self._write_names()

    def _write_names(self) -> None:
        """Write to the room which names users hosted here have, if it does not say so and somebody else is there.

        So everybody learns the name of a member with what others wrote, also from peers that it never met. A name of
        the own user that was chosen before this start replaces the former one.
        """
        people = self.replicator.people
        unnamed = [
            id for id, user in self.hosted.items()
            if user.is_kept and not (people.has_profile(id) and (id != self.peer or self.names[id] == user.name))
        ]  # fmt: skip
        if unnamed and self.accepts_writes:
            for id in unnamed[:NAMES_AT_ONCE]:
                self.replicator.appender.write_profile(id)
            self._ctx.after(0.0, self._write_names)

    def _on_user_unhosted(self, input: UserUnhosted) -> None:
        if input.user in self.hosted and input.user != self.peer:
            self.replicator.before_user_unhosted(input.user)
            self.hosted.remove(input.user)
            self.replicator.on_user_unhosted(input.user)
            self.presence.release(input.user)

    def _on_blocked(self, input: UserBlocked) -> None:
        """Block a user or end that. The blocked one is told nothing; its peer hears that there is no place."""
        self.replicator.people.keep(input.user)
        self.blocks.set(input.by, input.user, input.on)
        if input.by == self.peer and input.on and input.user not in self.hosted:
            self.presence.block(input.user)
            self.links.block(input.user)
        elif input.by == self.peer and not input.on:
            self.links.unblock({input.user})
        self.replicator.on_blocks_changed(input.by, input.user, on=input.on)

    def _on_renamed(self, input: UserRenamed) -> None:
        hosted = self.hosted.get(input.user)
        if hosted is None:
            return
        hosted.name, hosted.about = input.name, hosted.about if input.about is None else input.about
        self.presence.announcer.renamed(input.user, input.name)
        if self.accepts_writes:
            self.replicator.appender.write_profile(input.user)
        self.replicator.people.on_announced_name(input.user, input.name)

    def _on_presence_set(self, input: PresenceSet) -> None:
        if input.status == "offline":
            self.replicator.typing.on_offline(input.user)
        self.presence.set(input.user, input.status, input.text)

    def _on_leave(self, input: Leave) -> None:
        if self.looks:
            self._write_names()

    def _on_stop(self, input: Stop) -> None:
        """Save all receipts, since there is no later commit."""
        self._lazy.force()
        self.replicator.receipts.on_stop(self._ctx.change)
        self.links.stop(input)
