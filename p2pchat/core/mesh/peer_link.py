"""Links: the state of a connection, reasons of its end, keepalive, the limit on received frames, and places.

A link goes PROVING -> SHOWING -> (WAITING at the end that does not decide) -> UP -> GONE, and to GONE from any phase.
Only links.py changes the phase. Other files of core/mesh keep their facts about a link in it, so that all of them end
with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

from p2pchat.core.effects import PauseReading, WarningIssued
from p2pchat.core.log import answering_member, size_bytes
from p2pchat.core.members.admission import Admission
from p2pchat.core.members.member_directory import MemberDirectory, MemberShares
from p2pchat.core.mesh.election import is_decider
from p2pchat.core.mesh.handshake import ClientSide, ServerSide
from p2pchat.core.names import describe_user
from p2pchat.core.node_context import SLACK, KeySet, NodeContext, Timer
from p2pchat.protocol import (
    Bye,
    Carried,
    Entries,
    Frame,
    Have,
    Here,
    Hosted,
    Membership,
    PeerId,
    PeerRecord,
    Peers,
    Piece,
    Ping,
    Pull,
    Unknown,
    UserId,
    Want,
)
from p2pchat.settings import Settings

ENTRIES_A_TOKEN = 5  # or KiB of them: 500 a second, 2,500 at once. A guess: a busy program reads 2,000
PASSED_ON_PART = 10  # as many of other members
UNCHARGED = {Carried, Entries, Have, Piece, Pull}  # frames that take no token; of Carried see Circuits.on_carried
PING_EARLY_PART = 0.1  # the part of ping_after by which a ping may come early


class LinkPhase(Enum):
    """Phase of a connection."""

    PROVING = auto()  # exchanging the proofs of identity and of the network's key
    SHOWING = auto()  # the other end has proved both; it is not admitted yet, or has not admitted this end
    WAITING = auto()  # both ends are admitted; waiting for the decider's `go`
    UP = auto()
    GONE = auto()


@dataclass(slots=True, eq=False, repr=False)
class PeerLink:
    """One connection.

    Attributes:
        id: The number that the driver gave it.
        host: The address of the other end as the driver sees it.
        endpoint: The dialled endpoint, "" when accepted.
        dial: The number of our dial, 0 when accepted.
        peer: The peer at the other end; "" until it has proved itself.
        member: The member that answers for that peer, as it showed; "" until then.
        awaiting: What the other end showed, while statements must be durable before it is admitted or refused.
        parting: Statements came before it was up, so what follows is its goodbye.
        full: Its unsent bytes are above the buffer limit (LinkFilled, not yet LinkDrained).
        users: The users that the other end hosts, while the link is up.
        has_listed_users: The other end has listed all its users once.
        users_told: Users that the other end named for the first time, as far as that is free of charge.
        offered: Writers of whom it was told marks, once for each time, less those that it asked for since.
        omits_users: Some of its users are too many or blocked, so what it says about others is no fault.
        blocked: Users that the other end told and that are blocked here; they are not among `users`.
        known: The peer, or a user that it hosts, is a contact of this peer (contacts.py).
        linked: The peers that the other end says it is linked with; the record of one whose member is not admitted.
        carried: Of these, those whose link another peer carries.
        carrier: The peer that carries this link; "" for a direct one.
        through: The link of that peer, 0 for none.
        sees: Where this end sees the other one, if that is where it dials from; "" otherwise.
        seen: Where the other end sees this one, as it says.
        carried_with: The peers with which links of the other end are carried here, and how many circuits.
        begun: Position in the order in which connections of this process began, from 1.
        up_at: When it came up, monotonic seconds; before that, when it began.
    """

    id: int
    host: str
    handshake: ServerSide | ClientSide
    endpoint: str = ""
    dial: int = 0
    begun: int = 0
    phase: LinkPhase = LinkPhase.PROVING
    peer: PeerId = ""
    member: UserId = ""
    awaiting: Membership | None = None
    parting: bool = False
    full: bool = False
    users: dict[UserId, Hosted] = field(default_factory=dict)
    has_listed_users: bool = False
    users_told: int = 0
    offered: int = 0
    omits_users: bool = False
    blocked: KeySet[UserId] = field(default_factory=dict)
    known: bool = False
    linked: dict[PeerId, PeerRecord | None] = field(default_factory=dict)
    carried: KeySet[PeerId] = field(default_factory=dict)
    carrier: PeerId = ""
    through: int = 0
    late: bool = False  # the peer that carries it passed on something of the room after a second, or never
    sees: str = ""
    seen: str = ""
    carried_with: Counter[PeerId] = field(default_factory=Counter)
    up_at: float = 0.0
    timer: Timer | None = None  # the next step must be done by then
    # Keepalive
    reads: bool = True  # False while reading is paused
    heard_at: float = 0.0
    check_at: float = 0.0  # when its silence is measured next
    pings: int = 0  # sent; each is answered once, in order
    pongs: int = 0  # received
    # PeerExchange
    sent_change: int = 0  # the last change of PeerChanges sent on this link
    sent_own: int | None = None  # the time of our record as sent on this link, 0 for none
    has_told_peers: bool = False  # the other end has said with whom it is linked
    untold: KeySet[PeerId] = field(default_factory=dict)  # linked peers whose records it may lack
    takes_files: bool = False  # the other end answers pulls, and understands pieces
    faulted: bool = False  # it ends because one side broke a rule
    # Circuits
    carries: bool = False  # the other end carries links of others
    last_circuit: int = 0  # the highest even number begun here
    charged: int = 0  # frames of circuits that came since the last charge, and count
    circuit_begun: int = -1  # the number that the other end begun last
    # Punching
    asked_at: float | None = None  # when the other end was asked to dial, until it answers
    dials_at: str = ""  # where it waits to be dialled from here

    @property
    def dialled(self) -> bool:
        return self.dial != 0

    @property
    def up(self) -> bool:
        return self.phase is LinkPhase.UP

    @property
    def gone(self) -> bool:
        return self.phase is LinkPhase.GONE

    def reaches(self, peer: PeerId) -> bool:
        """Return whether the other end says that it is linked with a peer, and that nobody carries that link."""
        return peer in self.linked and peer not in self.carried

    def __repr__(self) -> str:
        return f"PeerLink({self.id} {self.phase.name.lower()} {self.peer[:8] or '?'})"


class MeshListener(Protocol):
    """The node, as this room calls it. All else goes to this room as inputs and leaves it as effects.

    Reasons of link_down are left, lost, timeout, expelled, and replaced, which is no departure: a newer link to that
    peer is up.
    """

    def link_up(self, link: PeerLink) -> None:
        """`go` was sent or received, so frames may be sent. The link is in `by_peer` already."""

    def link_down(self, link: PeerLink, reason: str) -> None:
        """A link that was up has ended. It is in neither `up` nor `by_peer` any more."""

    def report_unreachable(self, peer: PeerId, by: PeerId) -> None:
        """Report that a peer is reached by a linked one, and not from here; `by` is "" when that has ended."""

    def stays(self, user: UserId) -> bool:
        """Return whether a user wrote here or is a contact, so what is known of it outlives its links."""

    def forget(self, user: UserId) -> None:
        """Forget a user that does not stay: nothing tells anything of it any more."""


FAULTS = frozenset({"malformed", "limit", "order", "head", "host"})  # codes of `bye` for a rule that was broken
REFUSALS = {
    "version": "it speaks another version of p2pchat: update the older of the two",
    "network": "it belongs to another network: join that with its invite, or check yours",
    "identity": "it does not take this peer's identity, or is not who it should be",
    "self": "that is this peer itself",
    "busy": "it has as many links as it takes; trying on",
    "member": "it does not admit this peer: a pardon does if it was expelled, and otherwise an invite",
    "invite": "the invite was not made there, or was changed on the way: copy it again",
    "used": "the invite was used up: ask for a new one",
    "late": "the invite has ended: ask for a new one",
    "revoked": "the invite admits nobody any more: ask for a new one",
    "maker": "only the peer that made the invite admits with it; waiting for that",
}
NOT_ADMITTED = {
    **dict.fromkeys(REFUSALS, "it is no member of this network"),
    "used": "it wants to join with an invite that was used up",
    "late": "it wants to join with an invite that has ended",
    "revoked": "it wants to join with an invite that admits nobody any more",
}

NOT_THE_ONE_KNOWN = "another peer answers there than the one known at this address: nothing was sent to it"


def farewell(bye: Bye) -> str:
    """Return for people why a peer said goodbye. Text from the peer is quoted as ASCII."""
    if bye.code in REFUSALS:
        return REFUSALS[bye.code]
    if bye.code == "left":
        return "it is leaving"
    text = f": {quoted(bye.text)}" if bye.text else ""
    return f"it ended the connection ({quoted(bye.code)}{text})"


def quoted(remote: str) -> str:
    """Return text from another peer, safe to show in a diagnostic."""
    return ascii(remote)[1:-1][:200]


class Keepalive:
    """Keepalive and flood control of the links that are up.

    Any byte is a sign of life. After ten seconds of silence a ping asks for one; after thirty the link is dead. While
    this side does not read, silence means nothing; it then pings every ten seconds, so that the other end does not give
    up. The decider checks a link early, on a whole tick of the clock, and the follower on the tick after. So only one
    of them pings, and a peer with many idle links wakes once for all of them, together with the other peers of its
    machine.

    Frames take tokens from a bucket, but for entries and have, which storage slows down, pulls and pieces, of which few
    are under way, and what a circuit bounds. The peers of a member that are no contacts together begin logs at the same
    rate, and write a few entries for each token: storage takes far more than programs and people read, who would see
    what others write behind all that. But what others ask for and pass on because somebody floods is not theirs: a want
    of what this peer told is free, and entries for which another member answers cost little. When a bucket is
    overdrawn, reading pauses. A frame takes one for each record and user in it, since a signature may have to be
    checked. Telling users for the first time is free up to the number that a peer may host, and the bucket holds one
    more token for each user that the peer hosts: all may change at one moment.

    Args:
        up: The links that are up.
        admission: Knows which members there are, and at which a peer counts.

    Attributes:
        dead: Links that were silent for too long. Links, which ends them, empties it.
    """

    def __init__(self, ctx: NodeContext, up: Mapping[int, PeerLink], admission: Admission) -> None:
        self._ctx = ctx
        self._up = up
        self._admission = admission
        self._flooding: set[UserId] = set()  # members of whom that was said
        self.dead: list[PeerLink] = []
        self._timer: Timer | None = None  # for the next check of any link

    def watch(self, link: PeerLink) -> None:
        """Start with a link that has just come up."""
        now, settings = self._ctx.now.mono, self._ctx.settings
        link.heard_at = now
        self._check_by(link, now + settings.ping_after)
        self._schedule(link.check_at)

    def on_paused(self, link: PeerLink, on: bool) -> None:
        """Reading was paused or resumed. The clock of silence starts again."""
        link.reads = not on
        link.heard_at = self._ctx.now.mono

    def charge(self, link: PeerLink, frames: Sequence[Frame | Unknown]) -> None:
        """Charge for received frames. Above the limit, order a pause that brings the average below it."""
        charged, written = link.charged, 0.0
        for frame in frames:
            if type(frame) is Entries and not link.known:
                written += self._cost_of(link, frame)
            elif type(frame) not in UNCHARGED:
                charged += self._tokens_of(link, frame)
        wait = self._ctx.work.charge("frames", link.id, charged, more=len(link.users)) if charged else 0.0
        link.charged = 0
        if written:
            member = self._admission.users.share(link.peer)
            behind = self._ctx.work.charge("entries", member, written)
            if behind and member not in self._flooding:
                self._warn(link, member)
            wait = max(wait, behind)
        if wait:
            self._ctx.count("flood")
            self._ctx.emit(PauseReading(link.id, wait))

    def _warn(self, link: PeerLink, member: UserId) -> None:
        """Warn once of a member that writes more than is read."""
        users = self._admission.users
        who = describe_user(users.names.get(users.speaker(member)))
        text = f"{who} writes faster than is read of somebody whom you never wrote to: the rest waits there"
        if self._ctx.warn_at_times(WarningIssued("flood", text, link.peer)):
            self._flooding.add(member)

    def _cost_of(self, link: PeerLink, frame: Entries) -> float:
        """Return the tokens of entries: many for what the member of a link answers for, or nobody who is known.

        What terminals of one's own login write costs nothing but its logs.
        """
        users, cost = self._admission.users, float(frame.first == 1)
        if not users.is_own(link.member):
            cost = max(cost, (len(frame.e) + size_bytes(frame.e) // 1024) / ENTRIES_A_TOKEN)
        member = answering_member(frame) if frame.first == 1 else users.named_last.get(frame.u, frame.u)
        is_passed_on = member != link.member and self._admission.is_heard_of(member)
        return cost / PASSED_ON_PART if is_passed_on else cost

    def _tokens_of(self, link: PeerLink, frame: Frame | Unknown) -> int:
        """Return the tokens of any other frame: one, and of those with records or users one for each."""
        if isinstance(frame, Want) and link.offered:
            link.offered -= 1
            return 0
        if isinstance(frame, Here):
            new = sum(user.id not in link.users for user in frame.users)
            free = min(new, self._ctx.settings.max_hosted_users - link.users_told)
            link.users_told += free
            return max(1, len(frame.users) + len(frame.gone or ()) - free)
        return 1 + len(frame.records) if isinstance(frame, Peers) else 1

    def _check_by(self, link: PeerLink, due: float) -> None:
        """Set the time of the next check: the tick before `due` for the decider, the one after for the follower."""
        tick = PING_EARLY_PART * self._ctx.settings.ping_after
        before = due - due % tick
        if not is_decider(self._ctx.me, link.peer):
            link.check_at = before + tick if before < due else due
        else:
            link.check_at = before if before > self._ctx.now.mono else due

    def _schedule(self, at: float) -> None:
        """Set the timer for a check, unless one comes before."""
        if self._timer is None or self._timer.at > at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._ctx.after(at - self._ctx.now.mono, self._check_due)

    def _check_due(self) -> None:
        """Check every link that is due."""
        self._timer = None
        now = self._ctx.now.mono + SLACK
        pinged = [link.id for link in list(self._up.values()) if link.check_at <= now and self._check(link)]
        if pinged:
            for id in pinged:
                self._up[id].pings += 1
            self._ctx.send(Ping(), pinged)
        if self._up:
            self._schedule(min(link.check_at for link in self._up.values()))

    def _check(self, link: PeerLink) -> bool:
        """End a link that is dead. Return whether to ping one that is not."""
        settings, now = self._ctx.settings, self._ctx.now.mono
        silence = now - link.heard_at if link.reads else 0.0
        if silence >= settings.dead_after - SLACK:
            self.dead.append(link)
            link.check_at = now + settings.ping_after
            return False
        early = PING_EARLY_PART * settings.ping_after if is_decider(self._ctx.me, link.peer) else 0.0
        if link.reads and silence < settings.ping_after - early - SLACK:
            self._check_by(link, link.heard_at + settings.ping_after)
            return False
        left = settings.dead_after - silence if link.reads else settings.ping_after
        self._check_by(link, now + min(settings.ping_after, left))
        return True


# ---- places of links: which peers may be linked, and whose link ends for a newcomer when all places are taken
#
# Some places are kept for contacts; all others share the rest by members (member_directory.py). A contact that finds
# no free place takes the newest of another peer, or else one of the contact that holds most. Another peer that finds
# none takes one of the fullest member, or is refused. So one member with many keys leaves room for others.


MAX_OF_MEMBER = 8  # once half of the places are taken; of a contact, that are known because they host it; a guess


class LinkPlaces:
    """The places of the links of one node.

    Args:
        by_peer: The links that are up.
        members: Says at whom a peer counts: its member, or itself.
    """

    def __init__(self, settings: Settings, by_peer: Mapping[PeerId, PeerLink], members: MemberDirectory) -> None:
        self._by_peer = by_peer
        self._members = members
        self._most = settings.max_links
        self._others: MemberShares[PeerId] = MemberShares(self._most - min(settings.known_links, self._most // 2))
        self._known: MemberShares[PeerId] = MemberShares(self._most)  # below the contact that each is or hosts

    def giving_way(self, peer: PeerId, *, known: bool) -> list[PeerId] | None:
        """Return the peers whose links end for one with this peer, at most one. None when there is no place for it."""
        if peer in self._by_peer or 2 * len(self._by_peer) < self._most:
            return []
        member = "" if known else self._members.share(peer)
        if self._others.taken[member] >= MAX_OF_MEMBER:
            return None
        if len(self._by_peer) < self._most and (known or self._others.has_room):
            return []
        gone = self._others.giving_way(member)
        if gone is None and known:
            gone = self._known.giving_way(peer)
        return None if gone is None else [gone]

    def take(self, link: PeerLink) -> None:
        """Count a link that comes up, perhaps in place of another one to that peer."""
        if link.known:
            self._others.remove(link.peer)
            self._known.add(link.peer, link.peer)
        else:
            self._others.add(link.peer, self._members.share(link.peer))

    def take_known(self, peer: PeerId, contact: PeerId | UserId) -> bool:
        """Count a linked peer as known: it is this contact, or hosts it. Return False if the contact has many already.

        A contact may be hosted by any number of peers, by a gateway for example, or by keys that it made up.
        """
        if contact == peer:
            self._known.remove(peer)
        elif peer in self._known:
            return True
        elif self._known.taken[contact] >= MAX_OF_MEMBER:
            return False
        self._others.remove(peer)
        self._known.add(peer, contact)
        return True

    def free(self, peer: PeerId) -> None:
        """Free the place of a peer that is not linked any more."""
        self._others.remove(peer)
        self._known.remove(peer)

    def __str__(self) -> str:
        """Return for people how many places are taken, and how many of them by one member."""
        most = max(self._others.taken.values(), default=0)
        of_one = f", {most} of them by one member" if most > 1 else ""
        return f"{len(self._by_peer)} of {self._most} places for links are taken{of_one}"
