"""Presence of users: reachability and status. Nothing is stored; the latest status wins.

Each peer lists the users it hosts in `here`, with a certificate for every user whose key is not its own. A user is here
from the first link whose peer hosts it, and has left when the last such link is gone: at once after a goodbye, after a
grace period when the connection broke or another one took its place, because a quick reconnect is no departure. A user
of a gateway is here while any peer says that it is not offline: a user without an open browser has left.

A member can make up users. So what is known of a user who never wrote here and is no contact lives as long as the links
that tell it, and a moment longer for a peer's own user. The peers of a member together tell no more users than one peer
may host.

The users hosted here are announced by PresenceAnnouncer, and changes told to programs by PresenceEvents.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from collections.abc import Set as AbstractSet
from functools import partial
from typing import NamedTuple

from p2pchat.bounded import remember
from p2pchat.core.contacts import Blocks
from p2pchat.core.durable_changes import Collected
from p2pchat.core.effects import Guests, PresenceChanged, UserJoined, UserLeft
from p2pchat.core.members.admission import Admission
from p2pchat.core.members.member_directory import MemberShares
from p2pchat.core.mesh.handshake import Certificates, is_due, is_expired, make_cert
from p2pchat.core.mesh.peer_link import MeshListener, PeerLink
from p2pchat.core.node_context import HostedIdentity, KeySet, NodeContext, Timer
from p2pchat.errors import ProtocolError
from p2pchat.protocol import MAX_STATUS_CHARACTERS, Here, Hosted, PeerId, UserId

STATUSES = ("online", "idle", "offline", "unknown")  # best first: of several statuses of a user the best counts
Status = tuple[str, str, int]  # status, text, since in UTC microseconds or 0
Cause = tuple[str, int, UserId]  # why a user lacks a message, since when in UTC microseconds or 0, and by whom or ""
UNKNOWN = ("unknown", "", 0)
AWAY = ("offline", "", 0)  # how users see each other where one blocks the other
# Reason of LinkDown -> reason of a departure. It is "left" only after a goodbye (Links._on_bye).
DEPARTURE_REASONS = {"closed": "lost", "lost": "lost", "timeout": "timeout", "slow": "timeout"}
MAX_DEPARTED = 256  # own users of peers who never wrote and are gone, so that they can be written to; a guess
TOLD_EVERY = 1.0  # seconds, while somebody waits
LINKED_AFTER = 5.0  # seconds in which who is online is linked, mostly; a guess
CERTS_CHECKED_EVERY = 3600.0  # seconds, of a tolerance of a day


class Recipients(NamedTuple):
    """The users that a message waits for; the attributes are those of WriteAccepted."""

    members: tuple[UserId, ...]
    here: tuple[UserId, ...] = ()
    guests: Guests = ()


class PresenceTracker:
    """Presence of all users, as far as links tell it.

    Args:
        network: The id N.
        listener: Says which users stay, and forgets others.
        admission: Says who belongs to the network, and at whom a peer counts, and its users with it.
        blocks: Of whom the own user blocks nothing is taken in.

    Attributes:
        admission: As given.
        announcer: Announces the users hosted here to other peers.
        events: Tells programs what changes.
        hosts: The links whose peers host a user; no entry for a user that no link hosts.
        shared: The other peers that told users hosted here, by user, since they are hosted here.
        left: The peers that hosted the own user, and when they last did, UTC microseconds; the last one stands last.
    """

    def __init__(
        self,
        ctx: NodeContext,
        network: str,
        users: Iterable[HostedIdentity],
        listener: MeshListener,
        admission: Admission,
        blocks: Blocks,
    ) -> None:
        self._ctx = ctx
        self._listener = listener
        self.admission: Admission = admission
        self._members = admission.users
        self._blocks = blocks
        self._departed: MemberShares[UserId] = MemberShares(MAX_DEPARTED)
        self.events: PresenceEvents = PresenceEvents(ctx)
        self.announcer: PresenceAnnouncer = PresenceAnnouncer(ctx, network, users, blocks)
        self._own = self.announcer.own
        self.hosts: dict[UserId, set[int]] = {}
        self.shared: dict[UserId, set[PeerId]] = {}
        self.left: dict[PeerId, int] = {}
        self._links: dict[int, PeerLink] = {}
        # Reported joined and not left, also within their grace period: the peer that stopped hosting them last.
        self._here: dict[UserId, PeerId] = {}
        self._grace_timers: dict[UserId, Timer] = {}
        self._reported: dict[UserId, Status] = {}  # as last reported to programs
        self._unreachable: dict[UserId, tuple[PeerId, int]] = {}  # who says it reaches them, since when they are away
        self._certificates = Certificates(network)
        self._checking = False
        self._expected: Recipients | None = None  # cached until a change

    # Queries

    def online(self) -> set[UserId]:
        """Return the users of other peers that are here, also within their grace period, and not offline."""
        return {user for user in self._here if self._reported.get(user, UNKNOWN)[0] != "offline"}

    def expected_recipients(self, writer: UserId) -> Recipients:
        """Return the users that a message to the room is expected to reach.

        Where several users are hosted, all writers share one list, which includes the writer: with thousands of users
        there is one until someone comes or goes. Nobody is expected who blocks the writer.
        """
        if self._expected is None:
            here = [] if len(self._own) == 1 else [user for user in self._own if self.status(user)[0] != "offline"]
            away, guests = self.online(), dict[tuple[PeerId, ...], list[UserId]]()
            for user in sorted(away):
                if (peers := self.peers_of(user)) != {user}:
                    guests.setdefault(tuple(sorted(peers)), []).append(user)
            self._expected = Recipients(
                tuple(sorted(away.union(here))),
                tuple(sorted(here)),
                tuple((peers, tuple(users)) for peers, users in guests.items()),
            )
        found = self._expected
        if blocking := self._blocks.by_any(writer, found.here):
            members, here = ([one for one in these if one not in blocking] for these in found[:2])
            found = Recipients(tuple(members), tuple(here), found.guests)
        return Recipients(()) if found.members == (writer,) else found

    def peers_of(self, user: UserId) -> set[PeerId]:
        """Return the other peers that host a user. Within its grace period that is the last one; else, if nobody
        hosts it, its own.
        """
        peers = {link.peer for link in self.links_of(user)}
        return peers or {self._here.get(user, user)}

    def links_of(self, user: UserId) -> list[PeerLink]:
        """Return the links whose peers host a user, the oldest first."""
        return [self._links[link] for link in sorted(self.hosts.get(user, ()))]

    def share(self, user: UserId) -> UserId:
        """Return at whom a user counts: its member, or the peer that hosts it."""
        return self._members.share(min(self.peers_of(user)))

    def users_at(self, peers: AbstractSet[PeerId]) -> set[UserId]:
        """Return the users that these peers host; of one that has listed none, only its own is known."""
        links = [link for link in self._links.values() if link.peer in peers]
        listed = {link.peer for link in links if link.has_listed_users}
        return {user for link in links for user in link.users}.union(peers - listed)

    def status(self, user: UserId) -> Status:
        """Return the best status that any peer hosting the user gives; unknown when none ever did."""
        return self._reported.get(user) or (self._status_of(user) if user in self._own else UNKNOWN)

    def cause(self, user: UserId) -> Cause | None:
        """Return why a user lacks a message that others got: away, unreachable, carried or online.

        None where nothing is known: of somebody not seen yet before links had time to come up, or while others reach
        it. Somebody whose own peer is linked gets messages, whatever its status.
        """
        status, _, since = self.status(user)
        links = [link for link in self.links_of(user) if link.peer == user or status != "offline"]
        if links and all(link.carrier for link in links):
            return "carried", 0, links[0].carrier
        if links or status in ("online", "idle"):
            return "online", 0, ""
        if status == "unreachable":
            return status, 0, self._unreachable[user][0]
        is_reached = any(user in link.linked for link in self._links.values())
        is_early = self._ctx.now.mono < self.announcer.began_at + LINKED_AFTER
        return None if status == "unknown" and (is_reached or is_early) else ("away", since, "")

    # Users hosted here, and links

    def link_up(self, link: PeerLink) -> None:
        """Tell a new link about all users hosted here."""
        self._links[link.id] = link
        self.announcer.link_up(link)
        if not self._checking:
            self._checking = True
            self._ctx.after(CERTS_CHECKED_EVERY, self._renew_certs)

    def set(self, user: UserId, status: str, text: str = "") -> None:
        """Set the status of a user hosted here: online, idle or offline. Its text is cut at 512 characters."""
        was = self.status(user)[0]
        if self.announcer.set(user, status, text):
            now = self._status_of(user)[0]
            if len(self._own) > 1 and (was == "offline") != (now == "offline"):  # otherwise no user here needs to know
                self._tell(UserLeft(user, "left") if now == "offline" else UserJoined(user))
            self._report(user)

    def host(self, user: HostedIdentity) -> None:
        self._expected = None
        was_here = user.id in self._here
        self._here.pop(user.id, None)
        self._end_grace(user.id)
        self.announcer.host(user)
        if user.id in self.hosts:
            self.shared[user.id] = {link.peer for link in self.links_of(user.id)}
        if was_here and self._status_of(user.id)[0] == "offline":  # it was within its grace period, and is offline here
            self._tell(UserLeft(user.id, "left"))
        if user.id in self._reported:
            self._report(user.id)

    def release(self, user: UserId) -> None:
        self._expected = None
        was = self.status(user)[0]
        self.announcer.release(user)
        self.shared.pop(user, None)
        if user in self.hosts:
            if was != "offline":
                self._here[user] = user
            self._update_here(user)
        elif was != "offline":
            self._tell(UserLeft(user, "left"))
            self._report_status(user, ("offline", "", self._ctx.now.utc))

    # Certificates

    def _renew_certs(self) -> None:
        """Renew our users' certificates in time, and drop users of other peers whose certificate expired."""
        self.announcer.renew()
        now_ms = self._ctx.now.utc // 1000
        for link in list(self._links.values()):
            expired = {id for id, hosted in link.users.items() if hosted.cert and is_expired(hosted.cert, now_ms)}
            self._unhost_all(link, expired, "left")
        self._ctx.after(CERTS_CHECKED_EVERY, self._renew_certs)

    # Users of other peers

    def here(self, link: PeerLink, frame: Here) -> None:
        """Take a `here` frame.

        Raises:
            ProtocolError: "host" for a user that the peer does not host, "limit" for more users than a peer may host.
                Then nothing of the frame counts.
        """
        self._check(link, frame)
        left = self._left_for(link, frame)
        for hosted in frame.users:
            if hosted.id in self._blocks.users or self.admission.expels(hosted.id, link.member):
                self._omit_blocked(link, hosted.id)
                continue
            if hosted.id not in link.users and hosted.id != link.peer:
                left -= 1
                if left < 0:
                    link.omits_users = True
                    continue
            link.users[hosted.id] = hosted
            self._expected = None
            self.hosts.setdefault(hosted.id, set()).add(link.id)
            self.admission.on_answering(hosted.id, link.member)
            if hosted.id in self._own:
                self.shared.setdefault(hosted.id, set()).add(link.peer)
            self._departed.remove(hosted.id)
            self._unreachable.pop(hosted.id, None)
            self._end_grace(hosted.id)
            self._update_here(hosted.id)
        self._unhost_all(link, link.users.keys() & set(frame.gone), "left")
        link.has_listed_users |= not frame.more

    def set_unreachable(self, user: UserId, by: PeerId) -> None:
        """Set that a peer's own user is reached from elsewhere alone: by whom; "" takes that back."""
        former_by, since = self._unreachable.pop(user, ("", self.status(user)[2]))
        if user in self.hosts or user in self._here or not (by or former_by):
            return
        if by:
            self._unreachable[user] = by, since
        self._report_status(user, ("unreachable", by, self._ctx.now.utc) if by else ("offline", "", since))

    def block(self, user: UserId) -> None:
        """Take back what links say about a user who is blocked now. It leaves at once."""
        for link in self._links.values():
            if user in link.users:
                self._omit_blocked(link, user)
                self._drop(link, {user})
        self._after_loss([user], "lost")
        if self._end_grace(user):
            self._leave(user, "lost")
        if self._unreachable.pop(user, None):
            self._report_status(user, AWAY)

    def expel(self, users: AbstractSet[UserId]) -> None:
        """Take back what links say about those of these users who are out now, though their peers are not."""
        for link in self._links.values():
            out = {user for user in link.users.keys() & users if self.admission.expels(user, link.member)}
            for user in out:
                self._omit_blocked(link, user)
            self._unhost_all(link, out, "expelled")

    def _omit_blocked(self, link: PeerLink, user: UserId) -> None:
        link.blocked[user] = None
        link.omits_users = True

    def _check(self, link: PeerLink, frame: Here) -> None:
        now_ms = self._ctx.now.utc // 1000
        for hosted in frame.users:
            fault = self._certificates.fault(hosted.id, link.peer, hosted.cert, now_ms)
            if fault:
                raise ProtocolError(f"here: {fault}", "host")
        more = {hosted.id for hosted in frame.users if hosted.id not in link.users}
        if len(link.users) + len(more) > self._ctx.settings.max_hosted_users:
            raise ProtocolError(f"here: more than {self._ctx.settings.max_hosted_users} users", "limit")

    def _left_for(self, link: PeerLink, frame: Here) -> int:
        """Return how many more users the peer of a link may tell; nothing is counted for a frame that tells none."""
        if all(hosted.id in link.users or hosted.id == link.peer for hosted in frame.users):
            return 0
        share = self._members.share(link.peer)
        others = [one for one in self._links.values() if one.peer != link.peer]
        taken = sum(len(one.users) for one in others if self._members.share(one.peer) == share)
        return self._ctx.settings.max_hosted_users - taken - len(link.users)

    def link_down(self, link: PeerLink, reason: str) -> None:
        """Take the end of a link: left, lost, timeout, expelled, or replaced, when a newer link to the peer is up."""
        self.announcer.link_down(link.id)
        if link.peer in link.users and not self._listener.stays(link.peer):
            # Its own user is remembered, in place of another if need be.
            self._departed.take(link.peer, self._members.share(link.peer), self._forget_if_gone)
        self._unhost_all(link, set(link.users), "lost" if reason == "replaced" else reason)
        del self._links[link.id]

    def _unhost_all(self, link: PeerLink, users: AbstractSet[UserId], reason: str) -> None:
        self._drop(link, users)
        self._after_loss(users, reason)

    def _drop(self, link: PeerLink, users: AbstractSet[UserId]) -> None:
        self._expected = None
        for user in list(users):
            del link.users[user]
            if user == self._ctx.user:
                remember(self.left, link.peer, self._ctx.now.utc, MAX_DEPARTED)
            self.hosts[user].remove(link.id)
            if not self.hosts[user]:
                del self.hosts[user]
            if user in self._here:
                self._here[user] = link.peer

    # Users who never wrote

    def _forget_if_gone(self, user: UserId) -> None:
        """Forget a user that no link tells any more, unless it stays."""
        if user in self.hosts or user in self._own or user in self._grace_timers:
            return
        if user not in self._departed and not self._listener.stays(user):
            self._reported.pop(user, None)
            self._unreachable.pop(user, None)
            self.events.forget(user)
            self._listener.forget(user)

    # Arrivals and departures

    def _end_grace(self, user: UserId) -> bool:
        """End the grace period of a user. Return whether it had one."""
        timer = self._grace_timers.pop(user, None)
        if timer is not None:
            timer.cancel()
        return timer is not None

    def _update_here(self, user: UserId) -> None:
        """Update whether a user is here, after a change of what links say about it."""
        if user not in self._own:
            # One with a link to its own peer is here. A gateway's user is here only while not offline.
            is_at_home = any(link.peer == user for link in self.links_of(user))
            is_here = is_at_home or self._status_of(user)[0] != "offline"
            if is_here and user not in self._here:
                self._expected = None
                self._here[user] = user
                self._tell(UserJoined(user))
            elif not is_here and user in self._here:
                self._expected = None
                self._here.pop(user, None)
                self._tell(UserLeft(user, "left"))
        self._report(user)

    def _after_loss(self, users: Iterable[UserId], reason: str) -> None:
        """Update users that a link does not host any more: some may have left."""
        for user in sorted(users):
            if user in self.hosts:
                self._update_here(user)
            elif user in self._own:
                self._report(user)
            elif user in self._grace_timers:
                continue
            elif reason in ("left", "expelled"):
                self._leave(user, reason)
            else:
                grace = self._ctx.settings.left_grace
                self._grace_timers[user] = self._ctx.after(grace, partial(self._leave, user, reason))

    def _leave(self, user: UserId, reason: str) -> None:
        self._grace_timers.pop(user, None)
        if user in self._here:
            self._expected = None
            self._tell(UserLeft(user, reason))
            self._report_status(user, ("offline", "", self._ctx.now.utc))
            del self._here[user]
        self._forget_if_gone(user)

    def _status_of(self, user: UserId) -> Status:
        """Return the best status that any host gives for a user, the newest of equal ones."""
        statuses = [_announced_status(link.users[user]) for link in self.links_of(user)]
        if user in self._own:
            statuses.append(self.announcer.status(user))
        return min(statuses, key=lambda status: (STATUSES.index(status[0]), -status[2]), default=UNKNOWN)

    def _report(self, user: UserId) -> None:
        """Report a changed status to programs. While a link is being replaced the former status holds."""
        if user in self.hosts or user in self._own:
            self._report_status(user, self._status_of(user))

    def _tell(self, change: Change) -> None:
        self.events.tell(change, self.share(change.user))

    def _report_status(self, user: UserId, status: Status) -> None:
        if self._reported.get(user) != status:
            self._expected = None
            self._reported[user] = status
            self._tell(PresenceChanged(user, *status))


def _announced_status(hosted: Hosted) -> Status:
    status = hosted.status if hosted.status in STATUSES else "unknown"
    return (status, hosted.text or "", hosted.since or 0)


Change = UserJoined | UserLeft | PresenceChanged


class PresenceEvents:
    """Changes of presence, as programs are told them: at a rate for each member, and always the last one.

    Whoever comes and goes all the time would fill the logs of everybody. So once a member has used up its rate, its
    users are told at their latest state, one after the other as the rate allows: what was changed back meanwhile is not
    told. A member stands for where its users count, also where that is the peer of one.
    """

    def __init__(self, ctx: NodeContext) -> None:
        self._ctx = ctx
        # By user, those first that wait longest: its member, that it came or left, and its status (True).
        self._waiting: dict[UserId, tuple[UserId, dict[bool, Change]]] = {}

    def tell(self, change: Change, member: UserId) -> None:
        """Tell a change, now or later."""
        user = change.user
        if user not in self._waiting and self._ctx.work.take("presence", member):
            self._ctx.emit(change)
            return
        if not self._waiting:
            self._ctx.after(TOLD_EVERY, self._tell_waiting)
        _, latest = self._waiting.setdefault(user, (member, {}))
        is_status = isinstance(change, PresenceChanged)
        if is_status or latest.pop(False, None) is None:  # else it is again as it was told
            latest[is_status] = change

    def forget(self, user: UserId) -> None:
        """Tell no status of a user of whom nothing is known any more."""
        if user in self._waiting:
            self._waiting[user][1].pop(True, None)

    def _tell_waiting(self) -> None:
        for user, (member, latest) in list(self._waiting.items()):
            if not latest or self._ctx.work.take("presence", member):
                for is_status in sorted(latest):
                    self._ctx.emit(latest[is_status])
                del self._waiting[user]
        if self._waiting:
            self._ctx.after(TOLD_EVERY, self._tell_waiting)


# ---- announcements of the users hosted here, as `here`: their identity, certificate and status
#
# A new link gets all users. Later changes go out at once, or half a second after the frames before, all changes of that
# time together. A link that does not drain gets the latest status when it does. So a user that changes its status all
# the time costs two frames a second. A new user is announced together with others too, but before any other frame names
# it, which would be a fault. The end of hosting is announced at once.


TOLD_AFTER = 0.5  # seconds within which changes are sent together; the promise is one second


class _LinkNews(Collected, eq=False):
    """A link, and the own users whose changes it has not got yet."""

    link: PeerLink
    stale: KeySet[UserId] = {}
    gone: KeySet[UserId] = {}  # no longer hosted, or hosted again by now


class PresenceAnnouncer:
    """Announces the users hosted here to all links."""

    def __init__(self, ctx: NodeContext, network: str, users: Iterable[HostedIdentity], blocks: Blocks) -> None:
        self._ctx = ctx
        self._network = network
        self._blocks = blocks
        self.own: dict[UserId, HostedIdentity] = {user.id: user for user in users}
        self._statuses: dict[UserId, Status] = {}
        self._news: dict[int, _LinkNews] = {}
        self._sent_at = float("-inf")  # when all links last got a frame, monotonic
        self._timer: Timer | None = None
        self.has_new_users: bool = False  # a new user was not announced yet
        self.began_at: float = 0.0  # monotonic

    def start(self) -> None:
        """Give all users their initial status. Since when is said of a status that somebody has set."""
        self.began_at = self._ctx.now.mono
        for user in self.own.values():
            self._statuses[user.id] = (user.status, "", 0)

    def status(self, user: UserId) -> Status:
        """Return the status of a user hosted here."""
        return self._statuses.get(user, ("online", "", 0))

    # Links

    def link_up(self, link: PeerLink) -> None:
        """Tell a new link about all users hosted here."""
        self.renew()  # first: a link would take those for all users
        self._news[link.id] = _LinkNews(link)
        for frame in self._pages(list(self.own), [], self._blocks.by_any(link.peer, self.own)):
            self._ctx.send(frame, [link.id])

    def link_down(self, link_id: int) -> None:
        self._news.pop(link_id, None)

    def drained(self, link_id: int) -> None:
        """Tell a link that was full what it missed."""
        end = self._news.get(link_id)
        if end is not None:
            self._send_to([end])

    # Changes

    def set(self, user: UserId, status: str, text: str) -> bool:
        """Set a user's status, with a text cut at 512 characters. Return whether it is another one."""
        text = text[:MAX_STATUS_CHARACTERS]
        former = self.status(user)
        if user not in self.own or (former[:2] == (status, text) and former[2]):
            return False
        self._statuses[user] = (status, text, self._ctx.now.utc)
        self.on_changed([user])
        return True

    def renamed(self, user: UserId, name: str) -> None:
        """Announce a user's new name, if it is hosted here."""
        self.own[user].name = name
        self.on_changed([user])

    def host(self, user: HostedIdentity) -> None:
        self.own[user.id] = user
        self._statuses[user.id] = (user.status, "", self._ctx.now.utc)
        if user.id != self._ctx.me:
            user.cert = make_cert(self._network, user.id, user.sign, self._ctx.me, self._ctx.now.utc // 1000)
        self.has_new_users = True
        self.on_changed([user.id])

    def introduce(self) -> None:
        """Announce new users now: something else is about to be said about them, which would be a fault before that."""
        if self.has_new_users:
            self._send_to_all()

    def release(self, user: UserId) -> None:
        if self.own.pop(user, None) is not None:
            self._statuses.pop(user, None)
            for end in self._news.values():
                end.gone[user] = None
            self.on_changed([user], at_once=True)

    def renew(self) -> None:
        """Make the certificates that are due, and send them to links that had the former ones."""
        now_ms = self._ctx.now.utc // 1000
        due = [user for user in self.own.values() if user.id != self._ctx.me and is_due(user.cert, now_ms)]
        renewed = [user.id for user in due if user.cert is not None]
        for user in due:
            user.cert = make_cert(self._network, user.id, user.sign, self._ctx.me, now_ms)
        if renewed:
            self.on_changed(renewed)

    # Sending

    def on_changed(self, users: Iterable[UserId], *, at_once: bool = False) -> None:
        """Tell all links about these users, soon or at once."""
        stale = dict.fromkeys(users)
        for end in self._news.values():
            end.stale.update(stale)
        due = self._sent_at + TOLD_AFTER
        if at_once or self._ctx.now.mono >= due:
            self._send_to_all()
        elif self._timer is None:
            self._timer = self._ctx.after(due - self._ctx.now.mono, self._send_to_all)

    def _send_to_all(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._sent_at = self._ctx.now.mono
        self.has_new_users = False
        self._send_to(self._news.values())

    def _send_to(self, ends: Iterable[_LinkNews]) -> None:
        """Send links that drain what they have not got. Links that lack the same get the same frames.

        Who blocks the own user of a peer is offline for that peer. A gateway's other users have no peer for themselves.
        """
        lacking: dict[tuple[frozenset[UserId], frozenset[UserId], frozenset[UserId]], list[int]] = {}
        for end in ends:
            if end.stale and not end.link.full:
                away = self._blocks.by_any(end.link.peer, end.stale)
                lacking.setdefault((frozenset(end.stale), frozenset(end.gone), away), []).append(end.link.id)
                end.stale.clear()
                end.gone.clear()
        for (stale, gone, away), links in lacking.items():
            for frame in self._pages(sorted(stale & self.own.keys()), sorted(gone), away):
                self._ctx.send(frame, links)

    def _pages(self, users: list[UserId], gone: list[UserId], away: Container[UserId]) -> Iterator[Here]:
        """Yield one frame or more; all but the last have `more`. Those in `away` are offline."""
        settings = self._ctx.settings
        for start in range(0, len(gone), settings.page_items):
            end = start + settings.page_items
            yield Here(users=[], gone=gone[start:end], more=bool(users) or end < len(gone))
        page: list[Hosted] = []
        size = 0
        for user in users:
            hosted = self._hosted(user, is_away=user in away)
            cost = 400 + 6 * (len(hosted.name) + len(hosted.text or ""))  # bytes of JSON, with escapes
            if page and (len(page) >= settings.page_items or size + cost > settings.max_frame_bytes // 2):
                yield Here(users=page, more=True)
                page, size = [], 0
            page.append(hosted)
            size += cost
        if page or not gone:
            yield Here(users=page)

    def _hosted(self, user: UserId, *, is_away: bool) -> Hosted:
        own = self.own[user]
        status, text, since = AWAY if is_away else self.status(user)
        cert = None if user == self._ctx.me else own.cert
        return Hosted(id=user, name=own.name, status=status, text=text or None, since=since or None, cert=cert)
