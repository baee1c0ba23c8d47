"""The node: handle(input, now) -> list[Effect].

A node decides for one peer. It knows no clock, socket, disk or randomness of its own: the same inputs give the same
effects. handshake.py, links.py and presence_tracker.py decide which peers and users are connected; replicator.py
decides what is stored and sent. This file dispatches inputs, and orders at most one commit for each step.

All effects of one input are carried out before the next input. Nothing uncommitted is sent: marks and entries leave
only after Committed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

from p2pchat.core.contacts import Blocks, Contacts
from p2pchat.core.durable_changes import Change, DiskLevel, Stored
from p2pchat.core.effects import (
    Commit,
    ContentStopped,
    Effect,
    ImportResult,
    OrderContent,
    OwnStateChanged,
    Reload,
    WakeAt,
    WarningIssued,
    WriteRefused,
)
from p2pchat.core.groups.group_replica import GroupView
from p2pchat.core.inputs import (
    CommitFailed,
    Committed,
    ComparisonAwaited,
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
    OwnStateSet,
    PiecesStored,
    PresenceSet,
    PruneRequest,
    PullAnswered,
    QuotaLifted,
    Start,
    StatementsMade,
    Stop,
    TypingSet,
    UserHosted,
    UserRenamed,
    UserUnhosted,
    Woke,
    WriteRequest,
)
from p2pchat.core.members.admission import Admission
from p2pchat.core.members.member_directory import MemberDirectory
from p2pchat.core.members.statement_exchange import StatementExchange
from p2pchat.core.mesh.links import Links
from p2pchat.core.mesh.peer_exchange import FEW_LINKS
from p2pchat.core.mesh.peer_link import PeerLink
from p2pchat.core.mesh.presence_tracker import Cause, PresenceTracker
from p2pchat.core.node_context import (
    LAZY_COMMIT_EVERY,
    SLACK,
    HostedIdentities,
    HostedIdentity,
    NetworkCredentials,
    NodeContext,
    Now,
)
from p2pchat.core.own_state import BLOCKED, CHOSEN, IGNORED, RECEIPTS, OwnState, id_in
from p2pchat.core.receipts.peer_receipts import PeerReceipts
from p2pchat.core.replicator import Replicator
from p2pchat.core.sync.anti_entropy import repeat_at_random
from p2pchat.core.sync.known_conversations import dm_id
from p2pchat.core.sync.step import Step
from p2pchat.errors import ProtocolError
from p2pchat.protocol import (
    ConversationId,
    Frame,
    Here,
    Holds,
    Lacks,
    PeerId,
    Piece,
    Pong,
    Pull,
    RunId,
    TypingFrame,
    UserId,
    Want,
)
from p2pchat.settings import OWN_ONLY_FACTOR, Settings

QUIET_LOOKS = 3  # a link; not seconds: what delays links in a busy process delays looks too. A guess, as the next
MAX_LOOKS = 50  # if a known peer is not linked; it may be out of reach
NAMES_AT_ONCE = 50  # names that are signed in one step: about 5 ms


class Node:
    """The decisions of one peer.

    Args:
        settings: Limits and times.
        peer: This peer's id.
        users: The users hosted here, with the peer's own: the one whose key is the peer's, or the first one.
        machine: The key of the peer, if its own user has another one.
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
        machine: HostedIdentity | None = None,
        network: NetworkCredentials,
        draw: Callable[[int], bytes],
        stored: Stored,
    ) -> None:
        self.settings = settings
        self.peer = peer
        self.network = network
        self.hosted: HostedIdentities = HostedIdentities(users)
        self.run: RunId = draw(8).hex()
        own = self.hosted[peer] if machine is None else users[0]
        machine = machine or own
        self.user: UserId = own.id
        self._ctx = NodeContext(settings, peer, draw, self.user)
        self._ctx.own = OwnState(stored.meta, self._on_own_state)
        self.contacts: Contacts = Contacts(self._ctx, stored.meta, self._on_contact)
        up: dict[int, PeerLink] = {}
        self._statements = StatementExchange(self._ctx, network)
        member = peer if machine.guest is None else machine.guest.member
        self.member_directory: MemberDirectory = MemberDirectory(
            network.id, peer, member, self.hosted, up, self._statements, is_named=network.is_named,
        )  # fmt: skip
        self.blocks: Blocks = Blocks(self._ctx, self.member_directory.may_be_own)
        self.admission: Admission = Admission(
            self._ctx, network, machine.guest, self._statements, self.member_directory, stored.meta
        )
        self.presence: PresenceTracker = PresenceTracker(
            self._ctx, network.id, users, self, self.admission, self.blocks
        )
        self.replicator: Replicator = self._replicator(stored, self.run)
        self.admission.load()
        self.links: Links = Links(
            self._ctx, network, machine, self.run, stored.addresses, stored.records, self, self.contacts, self.blocks,
            self.admission, up,
        )  # fmt: skip
        self.storage: StorageState = StorageState(self._ctx)
        self._lazy = LazyCommit(self._ctx)
        self._handlers = self._connect_handlers()
        self._affected: set[UserId] = set()  # whom durable statements concern, until no others are on their way
        self.looks: int = 0  # left until names are written; 0 when none is due

    def _replicator(self, stored: Stored, run: RunId) -> Replicator:
        self._statements.load(stored.statements, stored.meta)
        return Replicator(
            self._ctx, self.network, self.presence, self.hosted, self.contacts, self.blocks, stored, run,
            self._statements, self.member_directory,
        )  # fmt: skip

    def _connect_handlers(self) -> dict[type, Callable[[Any], object]]:
        """Return the handler of each input. Those of `sync` are others when it was replaced."""
        sync = self.replicator
        return {
            **self.links.handlers,
            Start: self._on_start,
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
            OwnStateSet: self._on_own_state_set,
            QuotaLifted: lambda input: sync.lift_quota(input.user),
            PresenceSet: self._on_presence_set,
            TypingSet: lambda input: sync.typing.set_typing(input.user, input.conversation, input.on),
            MarkedRead: sync.receipts.marks.on_marked,
            MarkedTaken: sync.receipts.marks.on_marked,
            ComparisonAwaited: sync.anti_entropy.compared_users.on_awaited,
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
        return self.handle(Start(), now)

    def _on_start(self, input: Start) -> None:
        self.presence.announcer.start()
        self.replicator.start()
        self._join()
        self.links.start()
        repeat_at_random(self._ctx, self._send_random_digest)

    def handle(self, input: Input, now: Now) -> list[Effect]:
        """Take one input and return the effects, in order."""
        ctx = self._ctx
        ctx.now, ctx.out = now, []
        ctx.emit = ctx.out.append
        self.replicator.context.step = Step(ctx.change)
        self._handlers[type(input)](input)
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
        ctx, storage = self._ctx, self.storage
        if self._lazy.may_defer(ctx.change, storage.disk):
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

    def conversations_of(self, user: UserId) -> list[ConversationId]:
        """Return the conversations a user belongs to or did, or all that people see if no other user is hosted."""
        conversations = self.replicator.conversations
        found = conversations.visible() if self.hosted.keys() == {user} else conversations.of_user(user)
        notes = conversations.get(dm_id(self.room, user, user))
        if notes is not None and sum(log.seq for log in notes.all_logs(user)) == self.own.entries(user) > 0:
            found.remove(notes.id)  # nothing is in it but own state
        return found

    @property
    def own(self) -> OwnState:
        """The choices of hosted users."""
        return self._ctx.own

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

    def cause(self, me: UserId, user: UserId) -> Cause | None:
        """Return why a user lacks a message of a hosted one, as far as that is known. A block reads as away."""
        members = self.member_directory
        if members.is_out(me):
            return None
        if removals := members.removals(user):
            return "expelled", 0, members.speaker(removals[-1].by)
        if members.is_out(user):  # as nobody's user
            return None
        if user in self.blocks.of(me) or me in self.blocks.of(user):
            return "away", 0, ""
        return self.presence.cause(user)

    # ---- links

    def _on_frames(self, got: Got) -> None:
        frames = self.links.on_frames(got.link, got.frames)
        link = self.links.up.get(got.link)
        if link is None or not frames:
            return
        first = 0
        for at, frame in enumerate(frames):
            if type(frame) is Here:
                self._dispatch(link, frames[first:at])
                self._on_here(link, frame)
                first = at + 1
        self._dispatch(link, frames[first:])
        self.links.settle(got.link)

    def _dispatch(self, link: PeerLink, frames: list[Frame]) -> None:
        if not self.storage.works:  # then nothing is taken in or acknowledged
            return
        if self.storage.disk is DiskLevel.NOTHING:
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
        if self.links.refuses_users(link):
            return
        there, fresh, people = link.users, True, self.replicator.people
        for user in frame.users:
            if user.id in there:
                fresh = fresh and self.replicator.is_unknown(user.id)
                is_same = self.names.get(user.id, user.name) == user.name or people.has_profile(user.id)
                is_news = is_same or self._ctx.work.take("presence", self.presence.share(user.id))  # a few of each
                people.on_announced_name(user.id, user.name, stays=self.stays(user.id), old=not is_news)
                if user.id in self.contacts:
                    self.links.on_known(link, user.id)
        users = [user.id for user in frame.users if user.id in there]
        self.replicator.on_users_announced(
            link, users, [user for user in frame.gone or () if user not in there], fresh=fresh
        )

    def _on_forget(self, input: Forget) -> None:
        """Forget addresses. The user waits until that is durable, so the commit is not deferred."""
        self._ctx.change.is_awaited = True
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
            self.presence.set_unreachable(peer, by)

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
        if by == self.user:
            self.links.on_contact(id)
        self.replicator.on_contact(id, by)

    def _on_woke(self, input: Woke) -> None:
        self._ctx.run_due()
        self.links.end_dead()

    def _on_drained(self, input: LinkDrained) -> None:
        self.links.on_drained(input)
        self.presence.announcer.drained(input.link)
        self.replicator.on_drained(input.link)

    def _send_random_digest(self) -> None:
        if self.storage.accepts_writes:
            self.replicator.anti_entropy.send_random_digest()

    # ---- storage

    def _on_committed(self, input: Committed) -> None:
        for ticket in input.tickets:
            step = self.replicator.settle(ticket)
            if step is not None:
                if step.change.statements or step.change.unstated:
                    self._on_members_changed(step.change)
                for chosen in step.own_state:
                    self.own.on_durable(*chosen)
                self.replicator.publish(step)
        self.replicator.ingest.retry()
        self.storage.on_committed(input.tickets)

    def _on_commit_failed(self, failed: CommitFailed) -> None:
        """Warn, accept nothing, and reload: nothing in flight was kept."""
        if failed.epoch != self.storage.epoch:
            return
        self.replicator.fail_all(failed.reason)
        self._statements.drop_undurable()
        self._ctx.change = Change()
        self.storage.on_failed(failed.reason)

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
        self.own.reload(input.stored.meta)
        self.replicator.start()
        self._join()
        for conversation in former.conversations.kept():  # programs do not open them again
            if conversation.group is None:
                self.replicator.conversations.open(conversation.naming)
        self.receipts.take_over(former.receipts)
        self.replicator.transfers.receipts.gone = former.transfers.receipts.gone
        self.replicator.set_disk(self.storage.disk)
        for link in list(self.links.up):  # they start anew, because frames of the failed time were dropped
            self.links.close(link, "error", "storage did not work for a while; it does again")
        self.storage.on_loaded()

    def _on_disk_low(self, input: DiskLow) -> None:
        former = self.storage.disk
        if input.level == former:
            return
        self.replicator.set_disk(input.level)
        self.storage.on_disk_level(input.level)
        if input.level < former:
            self.replicator.compare_all()

    # ---- users and programs

    def _on_write(self, request: WriteRequest) -> None:
        if self.storage.check_writable(request.ticket):
            self.replicator.write(request)

    def _on_own_state_set(self, request: OwnStateSet) -> None:
        if self.storage.check_writable(request.ticket):
            self.replicator.appender.write_own_state(request)

    def _on_members_changed(self, change: Change) -> None:
        """Tell statements that are durable, and take them, before links end that they leave nobody for."""
        dropped = self._statements.on_durable(change)
        assert self._statements.members is not None
        concerned = self._statements.members.concerned(chain(change.statements, dropped))
        users = self._affected = self._affected | self.member_directory.all_of(concerned)
        self.member_directory.on_members_changed(users)
        self._join()
        self.replicator.context.refresh_unnamed(concerned)
        self.replicator.quota.on_members_changed(users)
        let_in = self.admission.report(change, dropped, self.replicator.conversations[self.room].history_until)
        self.links.on_members_changed(users)
        self.presence.expel(users)
        if not self._statements.undurable:  # else it is not decided for all of them
            self._affected = set()
        back = {user for member in let_in for user in (member, *self.member_directory.users_of(member))}
        self.links.unblock(back | self.links.dialer.peers if self.peer in back else back)
        self.replicator.ask_for_dropped()

    def _join(self) -> None:
        if self.admission.is_member:
            self.replicator.join()

    def _on_statements_made(self, input: StatementsMade) -> None:
        if self.storage.accepts_writes:
            self.replicator.statements.say(input.statements)

    def _on_group_request(self, request: GroupCreateRequest | GroupChangeRequest | GroupLeaveRequest) -> None:
        if self.storage.check_writable(request.ticket):
            self.replicator.group_editor.on_request(request)

    def _on_content_wanted(self, input: ContentWanted) -> None:
        if self.storage.works:
            self.replicator.transfers.want(input)
        else:  # what is fetched now would be forgotten once storage works again
            self._ctx.emit(ContentStopped(input.file.root, "storage does not work: nothing is accepted"))

    def _on_content_answered(self, input: ContentAnswered) -> None:
        for answer in input.answers:
            self._handlers[type(answer)](answer)

    def _on_import(self, input: ImportRequest) -> None:
        if not self.storage.works:
            self._ctx.emit(ImportResult(input.ticket, failed="storage does not work: nothing is accepted"))
        elif self.storage.disk >= DiskLevel.OWN_ONLY:
            self._ctx.emit(ImportResult(input.ticket, failed="the disk is nearly full: make room, then import again"))
        else:
            self.replicator.file_import.import_frames(input)

    def _on_prune(self, request: PruneRequest) -> None:
        """Delete, also on a full disk: it gives room."""
        if self.storage.works or self.storage.check_writable(request.ticket):
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
        self.replicator.on_user_hosted(user.id, input.delivered, input.reads)
        self.replicator.people.on_announced_name(user.id, user.name)
        if self.links.up:
            self._write_names_soon()

    def _write_names_soon(self) -> None:
        """Write names once no link came up for some looks: while a mesh forms, each name makes comparisons longer."""
        if not self.looks:
            self._ctx.after(self.settings.peers_told_after, self._look)
        self.looks = MAX_LOOKS

    def _look(self) -> None:
        quiet = QUIET_LOOKS * len(self.links.up) if self.links.dialer.is_idle else MAX_LOOKS
        count = 1 + len(self.links.up) // FEW_LINKS
        self.looks -= count
        if self.looks > max(0, MAX_LOOKS - quiet):
            self._ctx.after(count * self.settings.peers_told_after, self._look)
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
            if user.is_kept and not (people.has_profile(id) and (id != self.user or self.names[id] == user.name))
        ]  # fmt: skip
        if unnamed and self.storage.accepts_writes:
            for id in unnamed[:NAMES_AT_ONCE]:
                self.replicator.appender.write_profile(id)
            self._ctx.after(0.0, self._write_names)

    def _on_user_unhosted(self, input: UserUnhosted) -> None:
        if input.user in self.hosted and input.user != self.user:
            self.replicator.before_user_unhosted(input.user)
            self.hosted.remove(input.user)
            self.replicator.on_user_unhosted(input.user)
            self.presence.release(input.user)
            if input.is_deleted:
                self.own.forget(input.user)
                self.contacts.forget(input.user)
                self.replicator.context.keys.forget(input.user)
                for name in [name for name in self._ctx.choices if input.user in name]:
                    del self._ctx.choices[name]

    def choices_of(self, user: UserId) -> dict[str, str | None]:
        """Return the change of meta that deletes what a hosted user chose, and the keys of what it wrote."""
        chosen = [*self.own.lines_of(user), *self.contacts.lines_of(user)]
        return dict.fromkeys(chosen + self.replicator.context.keys.lines_of(user))

    def _on_own_state(self, user: UserId, key: str, text: str) -> None:
        """Do what a hosted user chose."""
        what, id = key.partition(":")[0], id_in(key)
        if id and what in (BLOCKED, IGNORED, CHOSEN):
            self.replicator.people.keep(id)
        self._ctx.emit(OwnStateChanged(user, key, text))  # nobody is shown that a blocked one leaves
        if id and what == BLOCKED:
            self._on_blocked(user, id, on=bool(text))
        elif id and what == CHOSEN and text:
            self.contacts.add([id], user)
        elif what == RECEIPTS:
            self.receipts.marks.on_receipts_chosen(user)

    def _on_blocked(self, by: UserId, user: UserId, *, on: bool) -> None:
        """Block a user or end that. The blocked one is told nothing; its peer hears that there is no place."""
        self.blocks.set(by, user, on)
        if by == self.user and on:
            self.presence.block(user)
            self.links.block(user)
        elif by == self.user and not on:
            self.links.unblock({user})
        elif by in self.hosted:  # once all that came with it counts: it may say whom else that user blocks
            self._ctx.after(0.0, lambda: self.presence.announcer.on_changed([by]))
        self.replicator.on_blocks_changed(by, user, on=on)

    def _on_renamed(self, input: UserRenamed) -> None:
        hosted = self.hosted.get(input.user)
        if hosted is None:
            return
        hosted.name, hosted.about = input.name, hosted.about if input.about is None else input.about
        self.presence.announcer.renamed(input.user, input.name)
        if self.storage.accepts_writes:
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
        self.replicator.receipts.on_stop(self._ctx.change)
        self._ctx.change.is_awaited = any(fields_of(self._ctx.change))
        self.links.stop(input)


# ---- commits and disk space: what may wait for the next commit; slow, failing and full disks
#
# Gossip waits for the next commit, for a limited time (LazyCommit). StorageState warns people when one is under way for
# long. After a commit that failed nothing is accepted until storage was loaded again; when free disk space is short,
# less and less is accepted. Threads and transactions are in runtime/storage_worker.py.


# Seconds after its deadline that a timer fires: this process itself stood still, and the disk may be well.
SUSPENDED_AFTER = 1.0

# Frames that are taken while nothing can be stored. Pieces that were asked for go to the store, which has no room.
NEEDS_NO_DISK = (Want, TypingFrame, Pull, Piece, Lacks, Holds, Pong)

REFUSED = {  # times the least free disk space, and what is refused below it
    DiskLevel.OWN_ONLY: (OWN_ONLY_FACTOR, "your messages are accepted, nothing of others"),
    DiskLevel.NOTHING: (
        1,
        "nothing is accepted, neither your messages nor those of others; what is stored can be read, and links stay",
    ),
}


class StorageState:
    """State of storage: if it accepts commits and answers in time, and how much disk space is left.

    People are warned of each change.

    Attributes:
        works: The last commit did not fail, or storage was loaded again since.
        epoch: How many times a commit failed. A commit ordered before the last failure is void.
        disk: How much disk space is left.
    """

    def __init__(self, ctx: NodeContext) -> None:
        self._ctx = ctx
        self.works: bool = True
        self.epoch: int = 0
        self.disk: DiskLevel = DiskLevel.ENOUGH
        self._ordered_at: dict[int, float] = {}  # commits in flight, oldest first, and when they were ordered
        self._watching = False
        self._warned = False

    @property
    def accepts_writes(self) -> bool:
        """Return whether messages of users here are accepted."""
        return self.works and self.disk is not DiskLevel.NOTHING

    def check_writable(self, ticket: int) -> bool:
        """Return whether a request can be accepted now; if not, refuse the request with this ticket."""
        if self.accepts_writes:
            return True
        if not self.works:
            self._ctx.emit(WriteRefused(ticket, "storage", "storage does not work: nothing is accepted"))
        else:
            self._ctx.emit(WriteRefused(ticket, "disk_low", "the disk is nearly full: make room, then send again"))
        return False

    def on_failed(self, reason: str) -> None:
        """Accept nothing, and have storage loaded as soon as it works again."""
        self.epoch += 1
        self.works = self._warned = False
        self._ordered_at.clear()
        self._ctx.emit(WarningIssued("storage", f"nothing is accepted until storage works again: {reason}"))
        self._ctx.emit(Reload())

    def on_loaded(self) -> None:
        """Accept again."""
        self.works = True
        self._ctx.emit(WarningIssued("storage_works", "storage works again"))

    def on_disk_level(self, level: DiskLevel) -> None:
        """Note how much disk space is left."""
        self.disk = level
        if level is DiskLevel.ENOUGH:
            self._ctx.emit(WarningIssued("disk_enough", "there is enough disk again"))
            return
        factor, what = REFUSED[level]
        free = (factor * self._ctx.settings.min_free_disk_bytes) >> 20
        text = f"less than {free} MiB of disk are free: {what}; free some space, and it goes on by itself"
        self._ctx.emit(WarningIssued("disk_low", text))

    # ---- slow commits: people are warned when the disk does not answer, and again when it does
    #
    # Nothing else follows from a slow disk. Uncommitted entries are neither acknowledged nor sent, links stay alive
    # because the core waits for no disk, and everything continues when the commit returns. One timer serves all.

    def on_ordered(self, ticket: int) -> None:
        """Note an ordered commit."""
        self._ordered_at[ticket] = self._ctx.now.mono
        if not self._watching:
            self._watch_oldest()

    def on_committed(self, tickets: Sequence[int]) -> None:
        """Note commits that are durable."""
        for ticket in tickets:
            self._ordered_at.pop(ticket, None)
        if self._warned and not self._is_slow():
            self._warned = False
            self._ctx.emit(WarningIssued("storage_works", "the disk answers again: what waited for it is kept"))
            self._watch_oldest()

    def _is_slow(self) -> bool:
        return bool(self._ordered_at) and self._ctx.now.mono >= self._due()

    def _due(self) -> float:
        return next(iter(self._ordered_at.values())) + self._ctx.settings.slow_storage_after

    def _watch_oldest(self) -> None:
        if self._ordered_at and not self._watching:
            self._watching = True
            due = self._due()
            self._ctx.after(due - self._ctx.now.mono, lambda: self._check(due))

    def _check(self, due: float) -> None:
        self._watching = False
        now = self._ctx.now.mono
        if now - due > SUSPENDED_AFTER:
            self._ordered_at = dict.fromkeys(self._ordered_at, now)
        if not self._is_slow():
            self._watch_oldest()
        elif not self._warned:
            self._warned = True
            seconds = self._ctx.settings.slow_storage_after
            self._ctx.emit(
                WarningIssued(
                    "storage_slow", f"the disk has not answered for {seconds:g} s: nothing is accepted until it does"
                )
            )


fields_of: attrgetter[tuple[Any, ...]] = attrgetter(*Change.__struct_fields__)  # asked at every step of a node
GOSSIP = {"users", "addresses", "forgotten", "records"}  # in Change: what other peers will send again
_all_but_gossip_of = attrgetter(*(name for name in Change.__struct_fields__ if name not in GOSSIP))


class LazyCommit:
    """Delays commits of gossip: addresses, names and receipts of files that other peers will send again.

    It is committed at most once in 5 s: while a mesh forms every link brings some, and each commit costs an fsync and a
    thread that competes with the loop. Any other commit takes the gossip along, as does a user's request to forget. A
    crash loses 5 s of it.
    """

    def __init__(self, ctx: NodeContext) -> None:
        self._ctx = ctx
        self._saved_at = float("-inf")
        self._scheduled = False  # a timer is set

    def may_defer(self, change: Change, disk: DiskLevel = DiskLevel.ENOUGH) -> bool:
        """Return whether this change may be committed later, together with what comes until then.

        While the disk is nearly full it waits for room: a commit that fails would end what still works.
        """
        now = self._ctx.now.mono
        must = any(_all_but_gossip_of(change))
        if not must and disk is DiskLevel.NOTHING:
            return True
        if must or (not self._scheduled and now >= self._saved_at + LAZY_COMMIT_EVERY - SLACK):
            self._saved_at = now
            return False
        if not self._scheduled:
            self._scheduled = True
            self._ctx.after(self._saved_at + LAZY_COMMIT_EVERY - now, self._due)
        return True

    def _due(self) -> None:
        """Let this step commit what waits."""
        self._scheduled = False
