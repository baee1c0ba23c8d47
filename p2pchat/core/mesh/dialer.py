"""Choice of dials: which endpoint of a peer is dialled when, with growing pauses and without end.

A DialAddress is one endpoint to dial. A DialPlan holds all addresses of one peer, or the single endpoint that a user
named and where no peer has answered yet. A plan dials the address that is due first, provided that no link to the peer
is up and no dial of the plan is under way. A dial is under way until its link is up or has failed. It is never
cancelled because another link came up (election.py needs that).

Pauses are drawn evenly from [0, 0.1 s), doubling to 30 s, or to 300 s for an address that never answered ("full
jitter"). Contact from the peer itself resets them, unless the last link ended early with a fault. Among very many stale
addresses pauses are longer, since otherwise thousands of them would be dialled all the time. A second dial is made when
a peer signed a newer record, or is seen on the local network, while its only dial hangs, most likely at the address it
had yesterday.

When two peers learn of each other, the smaller id dials at once and the other one waits for a second. While a mesh
forms, it waits for as long as links and connections come, because the other peer is busy, but at most 30 s and what so
many dials take. What no key has answered at is dialled with a pace (DialPace), unless a user named it. So a member that
signs made-up addresses of its own gains little, and a mesh forms as fast as it answers. Where handshakes take long, no
more begin than end: more of them would all be late.

Where others reach a peer, one of them can carry a link with it (circuits.py). That is one more address, dialled later
than direct ones, also while a dial to one of those hangs. While the link that is up is carried, direct addresses are
dialled all the same, and a link to one of them takes its place.

A name in a record is resolved before each dial, because it may mean another machine by then. The address that is
dialled is judged and paced like any other.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from collections.abc import Set as AbstractSet
from itertools import islice

from p2pchat.addresses import is_address, is_loopback, join_endpoint, may_name_mean, network_and_host, split_endpoint
from p2pchat.bounded import remember
from p2pchat.core.durable_changes import Address, Collected
from p2pchat.core.effects import Dial, LinkChanged, Resolve
from p2pchat.core.members.member_directory import MemberDirectory
from p2pchat.core.mesh.addressbook import AddressBook
from p2pchat.core.mesh.circuits import MAX_DIALLED, Circuits
from p2pchat.core.mesh.election import is_decider
from p2pchat.core.mesh.peer_link import REFUSALS, LinkPlaces, PeerLink
from p2pchat.core.node_context import SLACK, KeySet, NodeContext, Timer
from p2pchat.protocol import PeerId, UserId

CARRIED = "carried"  # the address of a peer that others reach, and the host of a link that one of them carries
NO_ADDRESS = ("", CARRIED)  # DialAddress.endpoint of what nobody remembers: where others see a peer, and a circuit
CARRIED_AFTER = 0.3  # seconds by which a direct address is dialled before it; a guess, after RFC 8305
STABLE_AFTER = 5.0  # seconds a link must have been up for the pauses to be reset; a guess, after others' experience
NOT_A_MEMBER_PAUSE = 3600.0  # seconds until a peer is dialled again that does not admit this one
SPREAD_OVER = 8  # peers dialled at a start within one first pause; more peers take proportionally longer
BUSY_SPREAD = 9  # times Settings.busy_pause at most, in addition; a guess
CROWD = 256  # peers to dial, as many as there may be links; with more of them each waits longer
LATE = 0.1  # seconds after its deadline that a timer fires: there was much to do here; a guess
MAX_DEFERRED = 30.0  # seconds that the other peer gets to dial us: it may not be able to at all; a guess
PATIENCE = 4  # handshakes for which the other peer gets more time to dial; a guess
RETRIED = 16  # addresses that waited, when a dial was answered: some times those dialled at once; a guess
# Failed dials of which the host heard nothing, or where a peer of this network answered.
NO_SILENCE = ("no_way", "no_name", "busy", "full", "self")
MOST_UNDER_WAY = 8.0  # dials times the seconds of a handshake; a guess
TOLD_TRIES = 3  # of one host that fail on the word of one member, before Settings.told_rest
MAX_SILENT = 1024  # hosts with failures remembered, or peers: those that are dialled twice a second in eight minutes
_MAX_DOUBLINGS = 30
NEVER = float("-inf")
UP = ("up", "")  # DialAddress.reported of a linked peer


class DialAddress(Collected, eq=False):
    """One endpoint to dial.

    Attributes:
        pin: The key that must answer there; "" takes any.
        typed: A user named it in this run, so it is never given up.
        reached: The peer's key answered there once.
        told: It stands in a record, or discovery saw it, and it was never reached.
        tries: Failures since the pauses were last reset.
        due_at: When it may be dialled, monotonic seconds.
        deferred_since: When the other peer was first left to dial us, or NEVER.
        reported: (state, reason) as last reported to people, ("", "") for nothing.
        resolved: What its name means for the next dial, as an endpoint. "" for a name that must be resolved first, or
            need not be; and for an address. Where others see the peer, if `endpoint` is "".
        forgotten: It is not wanted any more, but a dial to it is under way.
    """

    endpoint: str
    pin: PeerId = ""
    typed: bool = False
    reached: bool = False
    told: bool = False
    tries: int = 0
    due_at: float = 0.0
    deferred_since: float = NEVER
    reported: tuple[str, str] = ("", "")
    resolved: str = ""
    forgotten: bool = False


class DialPlan(Collected, eq=False):
    """All addresses of one peer. `peer` is "" while no peer has answered at the only one."""

    peer: PeerId
    addresses: dict[str, DialAddress] = {}  # by endpoint
    dials: KeySet[int] = {}  # under way
    timer: Timer | None = None
    not_before: float = 0.0
    was_up: bool = False  # a link to this peer was up in this run
    faulted: bool = False  # its last link ended early with a fault of one side, so contact from it resets no pauses


class Dialer:
    """All dials of a node.

    Args:
        by_peer: The links that are up.
        blocked: A live view of the peers whose own users are blocked.
        places: Whoever would find no place for a link is dialled only if a user named it.
        members: Says at whom a peer counts: its member, or itself.
        circuits: Where links begin that others carry.
    """

    def __init__(
        self,
        ctx: NodeContext,
        book: AddressBook,
        by_peer: Mapping[PeerId, PeerLink],
        blocked: Container[PeerId],
        places: LinkPlaces,
        members: MemberDirectory,
        circuits: Circuits,
    ) -> None:
        self._ctx = ctx
        self._book = book
        self._by_peer = by_peer
        self._blocked = blocked
        self._places = places
        self._members = members
        self._circuits = circuits
        self._plans: dict[PeerId, DialPlan] = {}
        self._unanswered: dict[str, DialPlan] = {}  # by endpoint: named by a user, and no peer has answered there yet
        self._dials: dict[int, tuple[DialPlan, DialAddress]] = {}
        self.no_place: dict[PeerId, None] = {}  # one had none for the other since their last link, as who blocks says
        self._last_dial = 0
        self._pace = DialPace(ctx, members, "told")
        self._beside = DialPace(ctx, members, "beside")  # where others see a peer: its own addresses may be there
        self._held: dict[DialAddress, DialPlan] = {}  # wait for the pace, the first ones first
        self._queued: dict[DialAddress, DialPlan] = {}  # wait until a carrier has fewer under way
        self.active_at: float = NEVER  # when a connection that nobody carries last came in, or a link up
        self._last_took: dict[UserId, float] = {}  # seconds of the last handshakes with users of two members
        self._took = 0.0  # the shorter one of these: where both took long, all peers are busy
        self._stopped = False

    @property
    def patience(self) -> float:
        """Seconds for which busy peers get more time: the longer, the longer the last handshakes took."""
        return PATIENCE * self._took

    @property
    def _is_busy(self) -> bool:
        """True if so many dials are under way that handshakes would take longer and longer."""
        return (len(self._dials) - len(self._circuits.dialling)) * self._took >= MOST_UNDER_WAY

    def is_barred(self, peer: PeerId) -> bool:
        """Return whether a peer is never dialled, also where a user named it: it is blocked or out."""
        return peer in self._blocked or self._members.is_out(peer) or bool(self._members.revocations(peer))

    # What to dial

    def start(self) -> None:
        """Dial every peer of the address book, spread over some time, those first that answered last."""
        for place, peer in enumerate(sorted(self._book, key=self._book.worth, reverse=True)):
            wait = (place / SPREAD_OVER + self._ctx.random()) * self._ctx.settings.redial_first
            for stored in self._book.addresses(peer):
                address = self._address(self._plan(peer), stored)
                address.due_at = self._ctx.now.mono + wait
            self._schedule(self._plan(peer))

    def connect(self, endpoint: str, pin: PeerId) -> None:
        """Dial an endpoint that a user named, now and after each failure."""
        try:
            split_endpoint(endpoint)
        except ValueError as error:
            self._ctx.emit(LinkChanged(pin, endpoint, "refused", str(error), "endpoint"))
            return
        if pin == self._ctx.me:
            self._ctx.emit(LinkChanged(pin, endpoint, "refused", REFUSALS["self"], "self"))
            return
        plan, address = self._typed(endpoint, pin)
        address.typed, address.pin = True, pin
        address.tries, address.due_at = 0, self._ctx.now.mono
        address.deferred_since, address.reported = NEVER, ("", "")
        if plan.peer in self._by_peer:
            self._ctx.emit(LinkChanged(plan.peer, endpoint, "up"))
        self._schedule(plan)

    def _typed(self, endpoint: str, pin: PeerId) -> tuple[DialPlan, DialAddress]:
        peer = pin or self._book.owner(endpoint)
        if not peer or peer == self._ctx.me:
            plan = self._unanswered.setdefault(endpoint, DialPlan(""))
            return plan, plan.addresses.setdefault(endpoint, DialAddress(endpoint))
        self._book.add(peer, endpoint)
        address = self._book.get(peer, endpoint)
        assert address is not None
        return self._plan(peer), self._address(self._plan(peer), address)

    def on_learned(self, address: Address) -> None:
        """Dial an address that is new in the book, unless a link to that peer is up.

        That peer most likely learns of us in the same moment. If both dialled at once, a third of all handshakes of a
        forming mesh would be for links that are replaced right away.
        """
        plan = self._plan(address.peer)
        dialled = [self._dials[dial][1] for dial in plan.dials]
        for one in [*plan.addresses.values()]:
            if one not in dialled and self._gave_way(plan, one):
                self._remove(plan, one.endpoint)
        entry = self._address(plan, address)
        self._dial_soon(plan, entry, self._pause(0, self._ctx.settings.redial_first))

    def _dial_soon(self, plan: DialPlan, entry: DialAddress, wait: float) -> None:
        if not is_decider(self._ctx.me, plan.peer):
            wait += self._ctx.settings.told_dial_after
            entry.deferred_since = self._ctx.now.mono
        entry.due_at = self._ctx.now.mono + wait
        self._schedule(plan)

    def _defer(self, address: DialAddress) -> None:
        """Leave the other peer more time to dial first, as long as links and connections come: it is busy, too."""
        until = self.active_at + self._ctx.settings.told_dial_after + self.patience
        # It may have as many to dial.
        at_once = self._ctx.work.rates["dials"].at_once
        most = MAX_DEFERRED + self._took * min(len(self._plans), self._ctx.settings.max_links) / at_once
        address.due_at = max(address.due_at, min(until, address.deferred_since + most))

    def on_moved(self, address: Address) -> None:
        """As on_learned(), for an address announced just now, or in a newer record than the one known.

        It waits only briefly for a hanging dial elsewhere.
        """
        self.on_learned(address)
        plan, endpoint = self._plan(address.peer), address.endpoint
        wait = self._ctx.settings.told_dial_after + self._pause(0, self._ctx.settings.redial_first)
        self._ctx.after(wait, lambda: self._dial_second(plan, endpoint))

    def _dial_second(self, plan: DialPlan, endpoint: str) -> None:
        address = plan.addresses.get(endpoint)
        if address is None or self._stopped or plan.peer in self._by_peer or plan.not_before > self._ctx.now.mono:
            return
        if self.is_barred(plan.peer):
            return
        if len(plan.dials) == 1 and all(self._dials[dial][1] is not address for dial in plan.dials):
            self._try(plan, address)
            self._schedule(plan)

    def endpoints(self, peer: PeerId) -> list[str]:
        plan = self._plans.get(peer)
        known = [address.endpoint for address in self._book.addresses(peer)]
        return [each for each in dict.fromkeys([*known, *(plan.addresses if plan else ())]) if each != CARRIED]

    def knows(self, endpoint: str) -> bool:
        """Return whether an endpoint is some peer's, or was named by a user and has not answered yet."""
        return endpoint in self._unanswered or any(endpoint in self.endpoints(peer) for peer in self.peers)

    @property
    def peers(self) -> set[PeerId]:
        """The peers that are dialled, or of whom an endpoint is known."""
        return {*self._plans, *self._book}

    @property
    def is_idle(self) -> bool:
        """True if all peers are linked of whom an endpoint is known."""
        return self._plans.keys() <= self._by_peer.keys()

    @property
    def seeking(self) -> list[str]:
        """The endpoints that users named and where no peer has answered yet."""
        return list(self._unanswered)

    def forget(self, peer: PeerId) -> None:
        """Forget all endpoints of a peer. A link to it stays up, and is not dialled again when it ends."""
        for endpoint in self.endpoints(peer):
            self._forget(peer, endpoint)

    def forget_endpoint(self, endpoint: str, peer: PeerId = "") -> None:
        """Forget one endpoint of this peer; without a peer, of all peers and as one that a user named."""
        for one in [peer] if peer else self.peers:
            self._forget(one, endpoint)
        plan = None if peer else self._unanswered.pop(endpoint, None)
        if plan is not None:
            self._drop(plan, endpoint)

    def _forget(self, peer: PeerId, endpoint: str) -> None:
        self._book.forget(peer, endpoint)
        plan = self._plans.get(peer)
        if plan is not None:
            self._drop(plan, endpoint)

    def _drop(self, plan: DialPlan, endpoint: str) -> None:
        if endpoint in plan.addresses:
            self._remove(plan, endpoint)
            self._schedule(plan)

    def _remove(self, plan: DialPlan, endpoint: str) -> None:
        address = plan.addresses.pop(endpoint)
        address.forgotten = True
        self._held.pop(address, None)
        self._queued.pop(address, None)

    def stop(self) -> None:
        self._stopped = True
        for plan in (*self._plans.values(), *self._unanswered.values()):
            self._unschedule(plan)

    # Results of dials

    def dial_beside(self, peer: PeerId, at: str) -> int:
        """Return the number of a dial to where others see a peer, which the caller carries out; 0 for none now."""
        if not at or self._stopped or self.is_barred(peer) or self._is_busy or self._beside.wait(peer, at) > SLACK:
            return 0
        self._beside.on_dial(at)
        return self._add(self._plan(peer), DialAddress("", peer, told=True, resolved=at))

    def on_opened(self, dial: int) -> None:
        """The other end of such a dial did the same."""
        plan, address = self._dials[dial]
        self._beside.on_answered(plan.peer, address.resolved)
        self.on_ended(dial)

    def address_of(self, dial: int) -> DialAddress | None:
        """Return the address of a dial; None when the dial is not wanted any more."""
        if self._stopped or dial not in self._dials:
            return None
        address = self._dials[dial][1]
        if address.forgotten:
            self.on_ended(dial)
            return None
        return address

    def is_typed(self, dial: int) -> bool:
        """Return whether a user named the address of a dial."""
        return dial in self._dials and self._dials[dial][1].typed

    def on_proved(self, dial: int, peer: PeerId) -> DialAddress:
        """The key of this peer, a member, answered there. Return the address."""
        plan, address = self._dials[dial]
        if address.forgotten:
            return address  # forgotten just now: there is a link, and nothing to remember
        if plan.peer != peer:
            plan = self._move(dial, plan, address, peer)
        was_paced, endpoint = self._is_paced(plan, address), address.resolved or address.endpoint
        address.reached, address.told = True, False
        if address.endpoint not in NO_ADDRESS:
            self._book.on_verified(peer, address.endpoint)
        if was_paced:
            self._pace_of(address).on_answered(peer, endpoint)
        return address

    def _retry_held(self) -> None:
        """Try again what waits for the pace, or for a carrier: the end of a dial may have ended the pause."""
        for address in [*islice(self._queued, MAX_DIALLED)]:
            plan = self._queued.pop(address)
            address.due_at = self._ctx.now.mono
            self._schedule(plan)
        for address in [*islice(self._held, RETRIED)]:
            if self._is_busy or not self._pace.has_token:
                return
            if address in self._held:  # else it was dialled in place of one before it
                address.due_at = self._ctx.now.mono
                self._schedule(self._held.pop(address))

    def _move(self, dial: int, former: DialPlan, address: DialAddress, peer: PeerId) -> DialPlan:
        """Move an address to the plan of the peer that answered: another one than last time, or the first."""
        former.addresses.pop(address.endpoint, None)
        former.dials.pop(dial, None)
        if former.peer:
            self._book.on_other_answered(former.peer, address.endpoint)
            self._schedule(former)
        else:
            self._unanswered.pop(address.endpoint, None)
        plan = self._plan(peer)
        plan.addresses[address.endpoint] = address
        plan.dials[dial] = None
        self._dials[dial] = (plan, address)
        return plan

    def on_resolved(self, dial: int, hosts: list[tuple[str, str]]) -> None:
        """The name of an endpoint means these addresses. One of them is dialled, at each try the next one."""
        if dial not in self._dials:
            return
        plan, address = self._dials[dial]
        fitting = [host for host, own in hosts if may_name_mean(host, own)]
        if not fitting:
            self.on_failed(dial, "no way there from this machine", "no_way")
            return
        self._finish(dial)
        if not address.forgotten:
            host = fitting[address.tries % len(fitting)]
            address.resolved = join_endpoint(host, split_endpoint(address.endpoint)[1])
            self._pace.on_resolved()
        self._schedule(plan)

    def on_ended(self, dial: int) -> None:
        """The dial ended, and the address is good: its link came up, or another one to that peer did.

        If a user named the address, it is reported as reached, even if the link to that peer was reported before.
        """
        found = self._finish(dial)
        if found is None:
            return
        plan, address = found
        address.resolved = ""
        if plan.peer in self._by_peer and address.typed and address.reported != UP:
            address.reported = UP
            self._ctx.emit(LinkChanged(plan.peer, address.endpoint, "up"))
        self._schedule(plan)
        self._retry_held()

    def on_failed(self, dial: int, reason: str, code: str) -> None:
        """The dial failed. `reason` is for people, `code` for programs."""
        found = self._finish(dial)
        if found is None or self._stopped:
            return
        plan, address = found
        endpoint, address.resolved = address.resolved or address.endpoint, ""
        if address.forgotten:
            self._schedule(plan)
            return
        if self._is_paced(plan, address) and code not in NO_SILENCE:
            self._pace_of(address).on_failed(plan.peer, endpoint)
        self._report(plan, address, "refused" if code in REFUSALS else "trying", reason, code)
        is_busy = code in ("busy", "full")
        if is_busy:
            remember(self.no_place, plan.peer, None, MAX_SILENT)
        waits = is_busy and not address.typed  # a user who named it waits for it
        pause = self._busy_pause() if waits else self._pause_after(plan, address)
        if code == "member":
            pause = NOT_A_MEMBER_PAUSE
        if code == "identity" and self._book.owner(address.endpoint) and not self._is_paced(plan, address):
            # Its machine may have another key now: whichever member answers there counts.
            anyone = self._unanswered.setdefault(endpoint, DialPlan(""))
            anyone.addresses.setdefault(endpoint, DialAddress(endpoint))
            self._schedule(anyone)
        address.due_at = self._ctx.now.mono + pause
        address.tries += 1
        if plan.peer:
            self._book.on_failed(plan.peer, address.endpoint)
            if self._gave_way(plan, address):
                plan.addresses.pop(address.endpoint, None)
        self._schedule(plan)
        self._retry_held()

    def on_self(self, dial: int) -> None:
        """The endpoint is this peer's own: never dial it again."""
        found = self._finish(dial)
        if found is None:
            return
        plan, address = found
        self._report(plan, address, "refused", REFUSALS["self"], "self")
        plan.addresses.pop(address.endpoint, None)
        if plan.peer:
            self._book.on_other_answered(plan.peer, address.endpoint)
        else:
            self._unanswered.pop(address.endpoint, None)
        self._schedule(plan)

    def _finish(self, dial: int) -> tuple[DialPlan, DialAddress] | None:
        self._circuits.dialling.pop(dial, None)
        found = self._dials.pop(dial, None)
        if found is None:
            return None
        found[0].dials.pop(dial, None)
        return found

    def _report(self, plan: DialPlan, address: DialAddress, state: str, reason: str, code: str) -> None:
        """Report a change of state, once. Nothing is reported of addresses that were told and never reached."""
        report = (state, reason if state == "refused" else "")
        if address.reported == report or (address.told and not address.typed) or address.endpoint == CARRIED:
            return
        link = self._by_peer.get(plan.peer)
        if link is not None and link.carrier:
            return  # a direct link would only be better
        address.reported = report
        self._ctx.emit(LinkChanged(plan.peer, address.endpoint, state, reason, code))

    # Changes of links

    def on_link_up(self, link: PeerLink, *, reported: str, took: float) -> None:
        """A link is up.

        Args:
            reported: The endpoint reported with this link. Other endpoints that users named for this peer are reported
                here, once: otherwise users would wait for dials that are not needed any more.
            took: Seconds of its handshake.
        """
        peer = link.peer
        self.no_place.pop(peer, None)
        if not link.carrier:
            self.active_at = self._ctx.now.mono
        by_member, member = self._last_took, self._members.share(peer)
        remember(by_member, member, took, 2)
        self._took = min(by_member.values())
        plan = self._plans.get(peer)
        if plan is None:
            return
        plan.not_before, plan.was_up = 0.0, True
        for address in plan.addresses.values():
            if address.typed and address.endpoint != reported and address.reported != UP:
                self._ctx.emit(LinkChanged(peer, address.endpoint, "up"))
            address.reported = UP if address.typed else ("", "")
            if not (link.dialled or plan.faulted):  # it dialled us, so it is there
                address.tries = 0
        self._schedule(plan)  # direct addresses, if it is carried

    def on_link_down(self, peer: PeerId, lasted: float, *, fault: bool) -> None:
        """No link to this peer is up any more.

        Args:
            lasted: Seconds for which the last one was up.
            fault: One side ended it because the other broke a rule, and may do so again at once.
        """
        plan = self._plans.get(peer)
        if plan is None:
            return
        plan.faulted = lasted < STABLE_AFTER and (fault or plan.faulted)
        for address in plan.addresses.values():
            if lasted >= STABLE_AFTER:
                address.tries = 0
            pause = self._pause(address.tries, self._max_pause(address))
            address.due_at = self._ctx.now.mono + pause + CARRIED_AFTER * (address.endpoint == CARRIED)
            address.tries += 1
        self._schedule(plan)

    def on_reached(self, peers: AbstractSet[PeerId], near: AbstractSet[PeerId]) -> None:
        """Others reach these peers, none of which is linked here, and can carry a link with them.

        Args:
            near: Those of them that may dial this one.
        """
        for peer in [peer for peer, plan in self._plans.items() if CARRIED in plan.addresses]:
            if peer not in peers and peer not in self._by_peer:
                self._drop(self._plans[peer], CARRIED)
        for peer in sorted(peers):
            plan = self._plan(peer)
            if CARRIED not in plan.addresses:
                is_near = bool(plan.addresses) or peer in near
                address = plan.addresses[CARRIED] = DialAddress(CARRIED, peer)
                address.deferred_since = self._ctx.now.mono if is_near else NEVER
                wait = CARRIED_AFTER + self._pause(0, self._ctx.settings.redial_first)
                self._dial_soon(plan, address, wait + self._ctx.settings.told_dial_after * is_near)

    def on_busy(self, peer: PeerId) -> None:
        """The last link to this peer ended because one side gave its place to another peer: dial it much later."""
        remember(self.no_place, peer, None, MAX_SILENT)
        self.resume(peer, self._busy_pause())

    def resume(self, peer: PeerId, wait: float = 0.0) -> None:
        """Dial a peer after this time: one that was blocked, or gave way."""
        plan = self._plans.get(peer)
        if plan is not None:
            for address in plan.addresses.values():
                address.due_at = self._ctx.now.mono + wait
            self._schedule(plan)

    def _busy_pause(self) -> float:
        return self._ctx.settings.busy_pause * (1.0 + self._ctx.random() * BUSY_SPREAD)

    def pause(self, peer: PeerId, until: float) -> None:
        """Do not dial this peer before that."""
        plan = self._plan(peer)
        plan.not_before = until
        self._schedule(plan)

    # Schedule

    def _pause(self, tries: int, most: float) -> float:
        longest = self._ctx.settings.redial_first * float(1 << min(tries, _MAX_DOUBLINGS))
        return self._ctx.random() * min(longest, most)

    def _pause_after(self, plan: DialPlan, address: DialAddress) -> float:
        """Return the pause after a failure. In a crowd it is the longest at once, unless the peer was linked."""
        most, crowd = self._max_pause(address), len(self._plans) / CROWD
        if address.typed or crowd <= 1:
            return self._pause(address.tries, most)
        return self._pause(address.tries if plan.was_up else _MAX_DOUBLINGS, most * crowd)

    def _max_pause(self, address: DialAddress) -> float:
        settings = self._ctx.settings
        is_known = address.reached or address.endpoint == CARRIED
        return settings.redial_most if is_known else settings.redial_never_reached_most

    def _plan(self, peer: PeerId) -> DialPlan:
        return self._plans.setdefault(peer, DialPlan(peer))

    def _address(self, plan: DialPlan, stored: Address) -> DialAddress:
        address = plan.addresses.get(stored.endpoint)
        if address is None:
            reached = bool(stored.verified_at)
            address = DialAddress(stored.endpoint, stored.peer, reached=reached, told=stored.told)
            plan.addresses[stored.endpoint] = address
        return address

    def _unschedule(self, plan: DialPlan) -> None:
        if plan.timer is not None:
            plan.timer.cancel()

    def _schedule(self, plan: DialPlan) -> None:
        """Dial the addresses that are due, one after another, or set the timer for the next one."""
        self._unschedule(plan)
        if self._stopped or self.is_barred(plan.peer):
            return
        while addresses := self._candidates(plan):
            address = min(addresses, key=lambda address: address.due_at)
            self._defer(address)
            wait = max(address.due_at, plan.not_before) - self._ctx.now.mono
            if wait > SLACK:
                plan.timer = self._ctx.after(wait, lambda: self._on_due(plan))
                return
            self._try(plan, address)  # it is under way, due later, or gone
        if not (plan.addresses or plan.dials or plan.peer in self._by_peer):
            self._plans.pop(plan.peer, None)

    def _on_due(self, plan: DialPlan) -> None:
        """Dial what is due. What came while this process stood still waits, too: leave the other peer more time."""
        if plan.timer is not None and self._ctx.now.mono > plan.timer.at + LATE:
            self.active_at = self._ctx.now.mono
        self._schedule(plan)

    def _candidates(self, plan: DialPlan) -> list[DialAddress]:
        """Return the addresses that may be dialled beside the link and the dials there are, direct or carried ones."""
        link = self._by_peer.get(plan.peer)
        if link is not None and not link.carrier:
            return []
        under_way = {self._dials[dial][1].endpoint == CARRIED for dial in plan.dials}
        if link is not None:
            under_way.add(True)
        return [one for one in plan.addresses.values() if (one.endpoint == CARRIED) not in under_way]

    def _try(self, plan: DialPlan, address: DialAddress) -> None:
        if not plan.peer and self._is_reached(address):
            del self._unanswered[address.endpoint]
            self._remove(plan, address.endpoint)
        elif not address.typed and not self._has_place(plan.peer):
            address.due_at = self._ctx.now.mono + self._ctx.settings.redial_most
        elif self._gave_way(plan, address):
            self._remove(plan, address.endpoint)
        elif address.endpoint == CARRIED:
            self._dial_through(plan, address)
        elif not (self._is_paced(plan, address) and self._is_held_back(plan, address)):
            self._dial(plan, address)

    def _gave_way(self, plan: DialPlan, address: DialAddress) -> bool:
        """Return whether an address that nobody named is in the book no more: it gave way to another one."""
        is_named = address.typed or address.endpoint in NO_ADDRESS
        return bool(plan.peer) and not is_named and self._book.get(plan.peer, address.endpoint) is None

    def _dial_through(self, plan: DialPlan, address: DialAddress) -> None:
        carrier = self._circuits.carrier(plan.peer)
        if carrier is not None:
            self._dial(plan, address, carrier)
        else:  # those that can carry it have enough under way
            address.due_at = self._ctx.now.mono + self._ctx.settings.redial_most * (1.0 + self._ctx.random())
            self._queued[address] = plan

    def _has_place(self, peer: PeerId) -> bool:
        return self._places.giving_way(peer, known=self._book.is_chosen(peer)) is not None

    def _is_reached(self, address: DialAddress) -> bool:
        """Return whether an endpoint that a user named was meanwhile learned from a peer, reached, and is linked."""
        stored = self._book.get(self._book.owner(address.endpoint), address.endpoint)
        if stored is None or stored.peer not in self._by_peer:
            return False
        self._address(self._plan(stored.peer), stored).typed = True
        return True

    def _dial(self, plan: DialPlan, address: DialAddress, carrier: PeerLink | None = None) -> None:
        dial = self._add(plan, address)
        if carrier is not None:
            self._circuits.dial(dial, plan.peer, carrier)
        elif not self._is_told_name(plan, address):
            self._ctx.emit(Dial(dial, address.endpoint))
        elif address.resolved:
            self._ctx.emit(Dial(dial, address.resolved))
        else:
            self._ctx.emit(Resolve(dial, address.endpoint))

    def _add(self, plan: DialPlan, address: DialAddress) -> int:
        self._last_dial += 1
        self._dials[self._last_dial] = (plan, address)
        plan.dials[self._last_dial] = None
        return self._last_dial

    def _is_told_name(self, plan: DialPlan, address: DialAddress) -> bool:
        """Return whether an endpoint has a name that its peer told.

        That its peer answered there once says little, since it may mean another machine now. A name of this machine's
        loopback is none.
        """
        if (
            address.typed
            or address.endpoint in NO_ADDRESS
            or not (address.told or address.reached)
            or (address.reached and self._book.is_chosen(plan.peer))
        ):
            return False
        host = split_endpoint(address.endpoint)[0]
        return not (is_address(host) or is_loopback(host))

    def _is_held_back(self, plan: DialPlan, address: DialAddress) -> bool:
        """Return whether an address must wait for the pace; then it is tried again by itself."""
        endpoint = address.resolved or address.endpoint
        self._held.pop(address, None)
        wait = self._took if self._is_busy else self._pace.wait(plan.peer, endpoint)
        if wait <= SLACK:
            self._pace.on_dial(endpoint)
            return False
        spread = len(self._held) / self._ctx.work.rates["dials"].a_second
        address.due_at = self._ctx.now.mono + wait + self._ctx.random() * spread
        self._held[address] = plan
        return True

    def _pace_of(self, address: DialAddress) -> DialPace:
        return self._pace if address.endpoint else self._beside

    def _is_paced(self, plan: DialPlan, address: DialAddress) -> bool:
        """Return whether an address is dialled with a pace: a name, or one where no key has answered."""
        return (address.told and not address.typed) or self._is_told_name(plan, address)


class DialPace:
    """Pace of dials to what no key has answered at yet: few of those that fail, and rarely to one host.

    At most two dials a second may fail. One host is dialled once in 30 s, and a host where three dials failed on the
    word of one member once an hour on that word (settings.py). The look-up of a name counts as a dial that fails,
    unless the name means an address that may be dialled. On loopback only the number counts. An answer by the right key
    gives everything back, so an honest mesh forms at once.

    Args:
        members: Says on whose word a peer is dialled.
        kind: The addresses that count together.
    """

    def __init__(self, ctx: NodeContext, members: MemberDirectory, kind: str) -> None:
        self._ctx = ctx
        self._members = members
        self._kind = kind
        self._failed: dict[tuple[str, str], tuple[int, float]] = {}  # by member and host: dials, when the last failed

    @property
    def has_token(self) -> bool:
        """True if one more dial may fail now."""
        return not self._ctx.work.wait("dials", self._kind)

    def wait(self, peer: PeerId, endpoint: str) -> float:
        """Return the seconds until this endpoint of a peer may be dialled, 0 for now."""
        now, host, work = self._ctx.now.mono, _host_of(endpoint), self._ctx.work
        count, last = self._failed.get((self._members.share(peer), host), (0, now))
        rest = last + self._ctx.settings.told_rest - now if count >= TOLD_TRIES else 0.0
        return max(rest, work.wait("hosts", (self._kind, host))) or work.wait("dials", self._kind)

    def on_dial(self, endpoint: str) -> None:
        """Note a dial that wait() allowed."""
        self._ctx.work.charge("dials", self._kind)
        if host := _host_of(endpoint):
            self._ctx.work.charge("hosts", (self._kind, host))

    def on_resolved(self) -> None:
        """Note that a name means an address that may be dialled: the dial counts, and not the look-up too."""
        self._ctx.work.charge("dials", self._kind, -1)

    def on_answered(self, peer: PeerId, endpoint: str) -> None:
        """Note that the right key answered there."""
        host = _host_of(endpoint)
        self._ctx.work.charge("dials", self._kind, -1)
        self._ctx.work.charge("hosts", (self._kind, host), -1)
        self._failed.pop((self._members.share(peer), host), None)

    def on_failed(self, peer: PeerId, endpoint: str) -> None:
        """Note that a dial failed there."""
        if host := _host_of(endpoint):
            member = self._members.share(peer)
            count, _ = self._failed.get((member, host), (0, 0.0))
            remember(self._failed, (member, host), (count + 1, self._ctx.now.mono), MAX_SILENT)


def _host_of(endpoint: str) -> str:
    """Return the host of an endpoint, an IPv6 /64; "" on loopback, and for a name, which may mean any."""
    host = split_endpoint(endpoint)[0]
    return network_and_host(host)[1] if is_address(host) and not is_loopback(host) else ""
