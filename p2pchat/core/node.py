"""The one meeting point of the core: handle(input, now) -> list[Effect].

A node is what one peer decides with. It knows no clock, no socket, no disk and no randomness of its own: what
happened goes in, what shall be done comes out, and the same inputs give the same effects. Who is there is decided in
handshake.py, links.py and presence.py; what is kept in replicator.py and what it puts together; this file passes inputs
on and orders one commit for everything a step wants durable.

All effects of one input are carried out before the next input. Nothing uncommitted is ever sent: marks and entries
go out only after Committed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from typing import Any

from p2pchat.config import Settings
from p2pchat.core.context import Context, HostedIdentities, HostedIdentity, NetworkCredentials, Now
from p2pchat.core.effects import Commit, Counted, Effect, ImportResult, Reload, WarningIssued, WriteRefused
from p2pchat.core.groups.group import GroupView
from p2pchat.core.inputs import (
    CommitFailed,
    Committed,
    Connect,
    ConsumerAcked,
    ConversationOpened,
    DialFailed,
    DiskLow,
    Faulted,
    FetchResult,
    Forget,
    Got,
    GroupChangeRequest,
    GroupCreateRequest,
    GroupLeaveRequest,
    ImportRequest,
    Input,
    LinkAccepted,
    LinkDialled,
    LinkDown,
    LinkDrained,
    LinkFilled,
    ListeningAt,
    Loaded,
    LookupResult,
    MarkedRead,
    Paused,
    PeerSighted,
    PresenceSet,
    QuotaLifted,
    ReceiptsChosen,
    Stop,
    TypingSet,
    UserHosted,
    UserRenamed,
    UserUnhosted,
    Woke,
    WriteRequest,
)
from p2pchat.core.log import LogId
from p2pchat.core.mesh.link import PeerLink
from p2pchat.core.mesh.links import Links
from p2pchat.core.mesh.presence import PresenceTracker
from p2pchat.core.records import META_NETWORK, Change, Stored
from p2pchat.core.sync.progress import Transaction
from p2pchat.core.sync.replicator import Replicator
from p2pchat.errors import LogError, ProtocolError
from p2pchat.protocol import ConversationId, Frame, Here, Naming, PeerId, RunId, TypingFrame, UserId, Want

__all__ = ["HostedIdentity", "NetworkCredentials", "Node", "Now"]


class Node:
    """What one peer decides with.

    Args:
        settings: Limits and times.
        peer: This peer's id.
        sign: Signs with the peer's key.
        users: The users hosted here.
        network: N and K; the id "" is an open network not known yet.
        draw: Returns n random bytes.
        stored: What storage holds.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        peer: PeerId,
        sign: Callable[[bytes], bytes],
        users: list[HostedIdentity],
        network: NetworkCredentials,
        draw: Callable[[int], bytes],
        stored: Stored,
    ) -> None:
        self.settings = settings
        self.peer = peer
        self.network = network
        self.hosted = HostedIdentities(users)
        self.run: RunId = draw(8).hex()
        self._ctx = Context(settings, peer, draw)
        self.presence = PresenceTracker(self._ctx, users)
        self.links = Links(self._ctx, network, sign, self.run, stored.addresses, self)
        self._is_open = network.key is None
        self.sync = Replicator(
            self._ctx, network.id, self.presence, self.hosted, stored, self.run, is_open=self._is_open
        )  # fmt: skip
        self._stalls = CommitWatchdog(self._ctx)
        self._hearsay = LazyCommit(self._ctx, self.links.book)
        self._epoch = 0
        self._consumers: dict[str, int] = {}
        self._saving = False  # a timer will save them: one, however often they go on
        self._keeping = True  # False while storage does not work
        self._disk_low = False
        self._handlers: dict[type, Callable[[Any], None]] = {
            Got: self._got, Committed: self._committed, WriteRequest: self._said, Woke: self._woke,
            LookupResult: self._found, FetchResult: self._fetched, LinkFilled: self._link_input,
            LinkDrained: self._drained, LinkAccepted: self._link_input, LinkDialled: self._link_input,
            DialFailed: self._link_input, Faulted: self._link_input, LinkDown: self._link_input,
            Paused: self._link_input, ListeningAt: self._link_input, Connect: self._link_input,
            PeerSighted: self._link_input, Forget: self._forget, Stop: self._stop,
            CommitFailed: self._commit_failed, Loaded: self._loaded, DiskLow: self._disk_low_told,
            ConversationOpened: self._opened, UserRenamed: self._renamed, PresenceSet: self._presence_set,
            TypingSet: self._typing_set, ConsumerAcked: self._handed_on,
            ImportRequest: self._carried, QuotaLifted: self._allowed, MarkedRead: self._marked_read,
            ReceiptsChosen: self._receipts_chosen, UserHosted: self._hosting, UserUnhosted: self._unhosted,
            GroupCreateRequest: self._group_asked, GroupChangeRequest: self._group_asked,
            GroupLeaveRequest: self._group_asked,
        }  # fmt: skip

    # ---- in and out

    def start(self, now: Now) -> list[Effect]:
        """Return the first effects: dials to known addresses, the first deadline. Call once, before handle."""
        self._begin(now)
        self.presence.start()
        self.sync.start()
        self.links.start()
        self._ctx.after(self._digest_wait(), self._digest_due)
        return self._end()

    def handle(self, input: Input, now: Now) -> list[Effect]:
        """Take one input and return what shall be done, in order."""
        self._begin(now)
        self._handlers[type(input)](input)
        return self._end()

    def _begin(self, now: Now) -> None:
        ctx = self._ctx
        ctx.now, ctx.out = now, []
        self.sync.shelf.step = Transaction()

    def _end(self) -> list[Effect]:
        shelf = self.sync.shelf
        for side, error in shelf.faults:
            self._fault(side.link, error)
        shelf.faults.clear()
        shelf.told()
        self.sync.reads.tell()
        if shelf.quota.wanted:
            shelf.quota.ask()
        shelf.lookups.flush()
        if self._ctx.change and not self._hearsay.may_wait(self._ctx.change):
            self._commit()
            self._ctx.change = Change()
        self._ctx.tell_wake()
        return self._ctx.out

    def _commit(self) -> None:
        """Order one commit for everything this step wants durable, and what waited for the next."""
        change, step = self._ctx.change, self.sync.shelf.step
        if not self._keeping:
            return
        change.heard.extend(self.sync.receipts.take_unsaved())
        change.reads.extend(self.sync.reads.take_unsaved())
        change.consumers.update(self._consumers)
        self._consumers.clear()
        ticket = self._ctx.next_ticket()
        self.sync.in_flight(ticket, change, step)
        self._stalls.ordered(ticket)
        self._ctx.emit(Commit(ticket, self._epoch, step.own, change))

    # ---- what the outside may read

    @property
    def room(self) -> ConversationId:
        """The id of the room; "" while an open network is not known."""
        return self.sync.conversations.room

    @property
    def talks(self) -> dict[ConversationId, Naming]:
        """All conversations known here and what their ids stand for."""
        return {id: conversation.naming for id, conversation in self.sync.conversations.by_id.items()}

    def talks_of(self, user: UserId) -> list[ConversationId]:
        """Return the conversations a user belongs to or did; where nobody else is hosted, all that people see."""
        conversations = self.sync.conversations
        return conversations.shown() if self.hosted.keys() == {user} else conversations.of(user)

    def newest_talks(self, user: UserId) -> list[ConversationId]:
        """Return the same, the one first in which something was written last."""
        return self.sync.conversations.newest_first(self.talks_of(user))

    @property
    def groups(self) -> dict[ConversationId, GroupView]:
        """All groups known here, those that hosted users were removed from included; by the group's id."""
        return self.sync.talks.views

    @property
    def names(self) -> dict[UserId, str]:
        """The name of every user known: by the newest profile entry, or as told by its peer."""
        return self.sync.people.names

    # ---- links

    def _link_input(self, input: Any) -> None:
        self.links.handle(input)

    def _got(self, got: Got) -> None:
        frames = self.links.got(got.link, got.frames)
        link = self.links.up.get(got.link)
        if link is None or not frames:
            return
        waiting: list[Frame] = []
        for frame in frames:
            if isinstance(frame, Here):
                self._pass_on(link, waiting)
                waiting = []
                self._here(link, frame)
            else:
                waiting.append(frame)
        self._pass_on(link, waiting)
        self.links.settle(got.link)

    def _pass_on(self, link: PeerLink, frames: list[Frame]) -> None:
        if not frames or link.id not in self.links.up:
            return
        if not self._keeping:
            return  # nothing can be kept: nothing is taken in or acknowledged
        if self._disk_low:
            self.sync.told_once(link, frames)
            frames = [frame for frame in frames if isinstance(frame, (Want, TypingFrame))]  # they take no room
        fault = self.sync.frames(link, frames)
        if fault is not None:
            self._fault(link, fault)

    def _fault(self, link: PeerLink, error: LogError) -> None:
        self._ctx.emit(Counted(f"fault_{error.code}"))
        if error.code == "head":
            self.sync.shelf.ban(link.peer)
        self.links.close(link.id, error.code, str(error))

    def _here(self, link: PeerLink, frame: Here) -> None:
        if link.id not in self.links.up:
            return
        try:
            self.presence.here(link, frame)
        except ProtocolError as error:
            self._ctx.emit(Counted(f"fault_{error.code}"))
            self.links.close(link.id, error.code, str(error))
            return
        there, fresh = self.presence.users_of(link.id), True
        for user in frame.users:
            if user.id in there:
                fresh = fresh and self.sync.is_unheard_of(user.id)
                self.sync.people.told(user.id, user.name)
                self.sync.quota.proved(user.id)
        users = [user.id for user in frame.users if user.id in there]
        self.sync.hosts_told(link, users, [user for user in frame.gone or () if user not in there], fresh=fresh)

    def _forget(self, input: Forget) -> None:
        """Whoever wants something forgotten waits until it is so on disk."""
        self._hearsay.at_once()
        self.links.handle(input)

    def link_up(self, link: PeerLink) -> None:
        """Called by Links: a link passed go."""
        self.sync.link_up(link)
        self.presence.link_up(link)

    def link_down(self, link: PeerLink, reason: str) -> None:
        """Called by Links: a link that was up ended."""
        self.sync.link_down(link)
        self.presence.link_down(link, reason)

    @property
    def keeping(self) -> bool:
        """Whether storage takes what it is given; while it does not, people have been told."""
        return self._keeping

    @property
    def accepting(self) -> bool:
        """Whether what is said now is kept: storage works, and there is enough disk."""
        return self._keeping and not self._disk_low

    def next_entry(self, conversation: ConversationId, user: UserId) -> tuple[LogId, int] | None:
        """Return where what this user says next will stand, if it is the next input; None where nobody can tell."""
        return self.sync.writing.next_entry(conversation, user) if self.accepting else None

    def name_of(self, peer: PeerId) -> str:
        """Called by Links: whom people would say this peer is."""
        return self.names.get(peer, "")

    def network_found(self, network: str) -> None:
        """Called by Links: an open network told its id."""
        self._ctx.change.meta[META_NETWORK] = network
        self.sync.found_network(network)

    def _drained(self, input: LinkDrained) -> None:
        self.links.handle(input)
        self.presence.drained(input.link)
        self.sync.drained(input.link)

    def _woke(self, _: Woke) -> None:
        self._ctx.run_due()

    def _digest_wait(self) -> float:
        return self.settings.digest_every * (0.5 + self._ctx.random())

    def _digest_due(self) -> None:
        if self.accepting:
            self.sync.random_digest()
        self._ctx.after(self._digest_wait(), self._digest_due)

    # ---- storage

    def _committed(self, input: Committed) -> None:
        self.sync.committed(input.tickets)
        self._stalls.committed(input.tickets)

    def _found(self, input: LookupResult) -> None:
        self.sync.found(input)

    def _fetched(self, input: FetchResult) -> None:
        self.sync.fetched(input)

    def _commit_failed(self, failed: CommitFailed) -> None:
        """Nothing on its way was kept: say so, accept nothing, and begin again from what storage holds."""
        if failed.epoch != self._epoch:
            return
        self._epoch += 1
        self._keeping = False
        self._stalls.failed()
        self._consumers = {**self.sync.refuse_all(failed.reason), **self._consumers}
        self._ctx.change = Change()
        self._ctx.emit(WarningIssued("storage", f"nothing is accepted until storage works again: {failed.reason}"))
        self._ctx.emit(Reload())

    def _loaded(self, input: Loaded) -> None:
        """Storage works again. Own logs end here: what became of their last entries is not certain."""
        run = self._ctx.draw(8).hex()
        former, self.sync = (
            self.sync,
            Replicator(
                self._ctx, self.network.id, self.presence, self.hosted, input.stored, run, is_open=self._is_open
            ),
        )
        self.sync.start()
        self.sync.continue_from(former)
        self.sync.rest(self._disk_low)
        self._keeping = True
        self._save_consumers()
        for link in list(self.links.up):  # what was told meanwhile was not taken in: links begin anew as well
            self.links.close(link, "error", "storage did not work for a while; it does again")
        self._ctx.emit(WarningIssued("storage_works", "storage works again"))

    def _disk_low_told(self, input: DiskLow) -> None:
        if input.on == self._disk_low:
            return
        self._disk_low = input.on
        self.sync.rest(input.on)
        if input.on:
            text = f"less than {self.settings.min_free_disk_bytes >> 20} MiB of disk are free: nothing is accepted"
            self._ctx.emit(WarningIssued("disk_low", f"{text}; make room and it goes on by itself"))
        else:
            self._ctx.emit(WarningIssued("disk_enough", "there is enough disk again"))
            self.sync.compare_all()

    # ---- users and programs

    def _opened(self, input: ConversationOpened) -> None:
        self.sync.opened(input.naming)

    def _said(self, said: WriteRequest) -> None:
        if self._may_keep(said.ticket):
            self.sync.said(said)

    def _group_asked(self, asked: GroupCreateRequest | GroupChangeRequest | GroupLeaveRequest) -> None:
        if self._may_keep(asked.ticket):
            self.sync.grouping.asked(asked)

    def _may_keep(self, ticket: int) -> bool:
        """Say whether anything can be accepted now; if not, refuse what has this ticket."""
        if not self._keeping:
            self._ctx.emit(WriteRefused(ticket, "storage", "storage does not work: nothing is accepted"))
        elif self._disk_low:
            self._ctx.emit(WriteRefused(ticket, "disk_low", "the disk is nearly full: make room, then send again"))
        return self.accepting

    def _carried(self, input: ImportRequest) -> None:
        if not self._keeping:
            self._ctx.emit(ImportResult(input.ticket, failed="storage does not work: nothing is accepted"))
        elif self._disk_low:
            self._ctx.emit(ImportResult(input.ticket, failed="the disk is nearly full: make room, then import again"))
        else:
            self.sync.carried(input)

    def _hosting(self, input: UserHosted) -> None:
        user, most = input.user, self.settings.max_hosted_users
        if user.id not in self.hosted and len(self.hosted) >= most:
            self._ctx.emit(WriteRefused(0, "hosted", f"this peer hosts {most} users already, and no more"))
            return
        known = self.hosted.get(user.id)
        if known is not None:
            self._renamed(UserRenamed(user.id, user.name))
            return
        self.hosted.add(user)
        self.presence.host(user)
        self.sync.hosting(user.id, input.heard, input.reads)
        self.sync.people.told(user.id, user.name)

    def _unhosted(self, input: UserUnhosted) -> None:
        if input.user in self.hosted and input.user != self.peer:
            self.sync.unhosting(input.user)
            self.hosted.remove(input.user)
            self.sync.unhosted(input.user)
            self.presence.release(input.user)

    def _renamed(self, input: UserRenamed) -> None:
        hosted = self.hosted.get(input.user)
        if hosted is None:
            return
        hosted.name, hosted.about = input.name, hosted.about if input.about is None else input.about
        self.presence.renamed(input.user, input.name)
        if self.accepting:
            self.sync.writing.profile(input.user)
        self.sync.people.told(input.user, input.name)

    def _allowed(self, input: QuotaLifted) -> None:
        self.sync.allowed(input.user)

    def _presence_set(self, input: PresenceSet) -> None:
        self.presence.set(input.user, input.status, input.text)

    def _typing_set(self, input: TypingSet) -> None:
        self.sync.typing.say(input.user, input.conversation, input.on)

    def _marked_read(self, input: MarkedRead) -> None:
        self.sync.reads.marked(input)

    def _receipts_chosen(self, input: ReceiptsChosen) -> None:
        self.sync.reads.chosen(input)

    def _handed_on(self, input: ConsumerAcked) -> None:
        if not self._saving:
            self._saving = True
            self._ctx.after(self.settings.consumer_saved_after, self._save_in_time)
        self._consumers[input.consumer] = input.place

    def _save_in_time(self) -> None:
        self._saving = False
        self._save_consumers()

    def _stop(self, input: Stop) -> None:
        """What programs have taken is kept, for there is no later."""
        self._save_consumers()
        self._hearsay.at_once()
        self.sync.reads.leave()
        self.links.handle(input)

    def _save_consumers(self) -> None:
        if self._consumers:
            self._ctx.change.consumers.update(self._consumers)


# ---- stalls
#
# A disk that does not answer: people are told once, and once more when it does.
#
# Nothing else follows from it. What is not committed is neither acknowledged nor sent on, links are kept alive by the
# core, which waits for no disk, and everything goes on where it stood as soon as the commit has come back.


SUSPENDED_AFTER = (
    1.0  # seconds after its deadline that a timer fires: this process itself stood still, and proves nothing
)


class CommitWatchdog:
    """Watches commits from their order to their answer. One timer at a time, however many there are."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._since: dict[int, float] = {}  # commits on their way, oldest first, and when they were ordered
        self._watching = False
        self._told = False

    def ordered(self, ticket: int) -> None:
        """A commit was ordered."""
        self._since[ticket] = self._ctx.now.mono
        self._watch_oldest()

    def committed(self, tickets: Sequence[int]) -> None:
        """These have come back."""
        for ticket in tickets:
            self._since.pop(ticket, None)
        if self._told and not self._is_slow():
            self._told = False
            self._ctx.emit(WarningIssued("storage_works", "the disk answers again: what waited for it is kept"))
            self._watch_oldest()

    def failed(self) -> None:
        """All that were on their way failed: that is told by whoever hears of it, and so is its end."""
        self._since.clear()
        self._told = False

    def _is_slow(self) -> bool:
        return bool(self._since) and self._ctx.now.mono >= self._due()

    def _due(self) -> float:
        return next(iter(self._since.values())) + self._ctx.settings.slow_storage_after

    def _watch_oldest(self) -> None:
        if self._since and not self._watching:
            self._watching = True
            due = self._due()
            self._ctx.after(due - self._ctx.now.mono, lambda: self._look(due))

    def _look(self, due: float) -> None:
        self._watching = False
        now = self._ctx.now.mono
        if now - due > SUSPENDED_AFTER:
            self._since = dict.fromkeys(self._since, now)
        if not self._is_slow():
            self._watch_oldest()
        elif not self._told:
            self._told = True
            seconds = self._ctx.settings.slow_storage_after
            self._ctx.emit(
                WarningIssued(
                    "storage_slow", f"the disk has not answered for {seconds:g} s: nothing is accepted until it does"
                )
            )


# ---- hearsay
#
# When what others will tell again is committed: where peers are, and what they say that their users are called.
#
# At once, until a few peers are written down: whoever is killed in its first second finds its mesh again by itself.
# From then on no more than once a second: while a mesh forms each link brings some, and to each commit belong an fsync
# and a thread that is in the loop's way. Whatever else is committed takes it along, and so does what a user has
# forgotten. A crash loses a second of it at most.


FEW_PEERS = 8  # peers that are written down: one of so many is there when all are looked for; a guess
LAZY_COMMIT_EVERY = 1.0  # seconds; a guess, as long as what programs have taken may wait
_SLACK = 0.001  # seconds: deadlines are sums of floats


class LazyCommit:
    """Says of each change whether it may wait; a deadline sees to it that it does not for long.

    Args:
        book: The peers whose addresses are known, those of earlier runs at first.
    """

    def __init__(self, ctx: Context, book: Sized) -> None:
        self._ctx = ctx
        self._book = book
        self._written = len(book)  # peers, when it was committed last
        self._saved_at = float("-inf")
        self._awaited = False  # a deadline is set
        self._at_once = False

    def at_once(self) -> None:
        """This step takes along what waits: somebody wants to know it on disk, or nothing comes after it."""
        self._at_once = True

    def may_wait(self, change: Change) -> bool:
        """Whether this change shall be committed later, with what comes meanwhile."""
        now = self._ctx.now.mono
        is_due = now >= self._saved_at + LAZY_COMMIT_EVERY - _SLACK
        if self._at_once or is_due or self._written < FEW_PEERS or not change.is_hearsay:
            self._saved_at, self._written, self._at_once = now, len(self._book), False
            return False
        if not self._awaited:
            self._awaited = True
            self._ctx.after(self._saved_at + LAZY_COMMIT_EVERY - now, self._due)
        return True

    def _due(self) -> None:
        """The step that this wakes commits what waits."""
        self._awaited = False
