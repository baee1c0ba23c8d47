"""Connections of one node, from their first frame to their end, and one link per pair of peers.

Connections come in as LinkAccepted and LinkDialled. handshake.py verifies the far end's identity, and the rules of
election.py keep one link of each pair. `up` and `by_peer` hold the links that are up, and the listener hears of
changes. Dialling, keepalive and the exchange of addresses have classes of their own; Links connects them. It handles
the frames hello, welcome, go, ping, pong, bye and peers. `on_frames` hands all others back.

A frame that ends its link (bye, or one that may not come) waits for those before it in the same read, because the last
acknowledgement before a goodbye counts. So the caller of `on_frames` calls `settle` when it has handled the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from p2pchat.addresses import is_loopback, is_shareable, join_endpoint
from p2pchat.core.contacts import Blocks, Contacts
from p2pchat.core.durable_changes import Address
from p2pchat.core.effects import Close, Effect, Established, LinkChanged, NodeStopped, Send, WarningIssued
from p2pchat.core.inputs import (
    CircuitSent,
    Connect,
    DialFailed,
    Faulted,
    Forget,
    LinkAccepted,
    LinkDialled,
    LinkDown,
    LinkDrained,
    LinkFilled,
    ListeningAt,
    Paused,
    PeerSighted,
    Resolved,
    Stop,
)
from p2pchat.core.members.admission import Admission
from p2pchat.core.mesh.addressbook import AddressBook
from p2pchat.core.mesh.circuits import Circuits
from p2pchat.core.mesh.dialer import Dialer
from p2pchat.core.mesh.election import (
    DuplicateKeyDetector,
    FollowerState,
    follower_link_down,
    follower_take_go,
    is_decider,
)
from p2pchat.core.mesh.handshake import NONCE_BYTES, ClientSide, ServerSide
from p2pchat.core.mesh.hole_puncher import HolePuncher
from p2pchat.core.mesh.peer_exchange import PeerExchange, member_of
from p2pchat.core.mesh.peer_link import (
    FAULTS,
    NOT_ADMITTED,
    NOT_THE_ONE_KNOWN,
    REFUSALS,
    Keepalive,
    LinkPhase,
    LinkPlaces,
    MeshListener,
    PeerLink,
    farewell,
    quoted,
)
from p2pchat.core.mesh.presence_tracker import DEPARTURE_REASONS
from p2pchat.core.node_context import HostedIdentity, NetworkCredentials, NodeContext
from p2pchat.errors import HandshakeError
from p2pchat.protocol import (
    Admit,
    Bye,
    Carried,
    Circuit,
    Frame,
    Go,
    Hello,
    Membership,
    PeerId,
    PeerRecord,
    Peers,
    Ping,
    Pong,
    Punch,
    RunId,
    Show,
    Statements,
    Unknown,
    UserId,
    Welcome,
)

ABOUT_LINKS = {Bye, Carried, Circuit, Hello, Welcome, Show, Admit, Go, Ping, Peers, Unknown, Pong, Punch}
FULL_WARNED_EVERY = 3600.0  # seconds; a guess
NO_ROOM = "no room for more links"
REFUSED_BUSY = "this peer has as many links as it takes"
REFUSED_BLOCKED = "its user is blocked here: /unblock NAME lifts that"


NOTHING_SHOWN = Membership()


class Links:
    """All connections of one node.

    Attributes:
        up: The links that passed `go`, by number.
        by_peer: The current link to each peer.
        book: The address book.
        dialer: The dials.
        places: The places of links.
        handlers: The handler of each input about connections. Effects go to ctx.out, changes of links to the listener.
    """

    def __init__(
        self,
        ctx: NodeContext,
        network: NetworkCredentials,
        own: HostedIdentity,
        run: RunId,
        addresses: list[Address],
        records: list[PeerRecord],
        listener: MeshListener,
        contacts: Contacts,
        blocks: Blocks,
        admission: Admission,
        up: dict[int, PeerLink],
    ) -> None:
        self.up: dict[int, PeerLink] = up
        self.by_peer: dict[PeerId, PeerLink] = {}
        self._ctx = ctx
        self._network = network
        self._sign = own.sign
        self._run = run
        self._listener = listener
        self._contacts = contacts
        self._blocked = blocks
        self._admission = admission
        self._links: dict[int, PeerLink] = {}  # in any phase but GONE
        self._decided = 0  # links that we decided for
        self._follower_states: dict[PeerId, FollowerState] = {}  # of peers that decide for us
        self._pending_ends: dict[int, Callable[[], None]] = {}  # by link, see settle()
        self._begun = 0
        self._reported_up: set[PeerId] = set()  # peers whose link was reported up to people
        self._stopped = False
        users = admission.users
        self.book: AddressBook = AddressBook(ctx, addresses, records, contacts, self.by_peer, users)
        self.places: LinkPlaces = LinkPlaces(ctx.settings, self.by_peer, users)
        self._warned_full_at = float("-inf")
        self._duplicates = DuplicateKeyDetector(ctx, users, contacts)
        self.circuits: Circuits = Circuits(ctx, up, self.by_peer)
        self.dialer: Dialer = Dialer(ctx, self.book, self.by_peer, self._blocked, self.places, users, self.circuits)
        self._keepalive = Keepalive(ctx, up, admission)
        self._exchange = PeerExchange(
            ctx,
            network.id,
            own,
            admission,
            self.book,
            self.dialer,
            up,
            self.by_peer,
            self._duplicates,
            self.circuits,
            listener,
        )
        self._puncher = HolePuncher(ctx, up, self.dialer, self._exchange)
        self.handlers: dict[type, Callable[[Any], None]] = {
            LinkAccepted: self._on_accepted,
            LinkDialled: self._on_dialled,
            Resolved: lambda input: self.dialer.on_resolved(input.dial, input.hosts),
            DialFailed: lambda input: self.dialer.on_failed(input.dial, input.reason, input.code),
            LinkDown: self._on_link_down,
            Faulted: lambda input: self.close(input.link, input.code, input.text),
            LinkFilled: self._on_filled,
            LinkDrained: self.on_drained,
            Paused: self._on_paused,
            ListeningAt: lambda input: self._exchange.on_listening(input.at, input.near),
            CircuitSent: self.circuits.on_sent,
            Connect: self._connect,
            PeerSighted: self._on_sighted,
            Forget: self.forget,
            Stop: self.stop,
        }

    def start(self) -> None:
        """Dial every peer of the address book. Call this once, before anything else."""
        for record in [one for one in self.book.records.values() if one.id != self._ctx.me]:
            self._admission.note(record.id, member_of(record))
        self.book.start()
        self.dialer.start()

    def on_frames(self, link_id: int, frames: Sequence[Frame | Unknown]) -> list[Frame]:
        """Handle the frames of one read. Return, in order, those that are not about the link; [] unless it is up.

        The caller handles them and then calls settle() with the same link.
        """
        link = self._links.get(link_id)
        if link is None:
            return []
        link.heard_at = self._ctx.now.mono
        if frames and link.phase is LinkPhase.UP and ABOUT_LINKS.isdisjoint(map(type, frames)):
            self._keepalive.charge(link, frames)
            return frames  # type: ignore[return-value]  # none is Unknown
        rest: list[Frame] = []
        for frame in frames:
            if link.phase is LinkPhase.GONE or link_id in self._pending_ends:
                break
            if link.phase is LinkPhase.UP and type(frame) not in ABOUT_LINKS:
                rest.append(frame)  # type: ignore[arg-type]
            else:
                self._on_frame(link, frame, rest)
        if link.phase is LinkPhase.UP:
            self._keepalive.charge(link, frames)
        if not rest:
            self.settle(link_id)
        return rest

    def settle(self, link_id: int) -> None:
        """End the link if a frame behind those that on_frames() returned requires it."""
        end = self._pending_ends.pop(link_id, None)
        if end is not None:
            end()

    def close(self, link_id: int, code: str, text: str) -> None:
        """Say goodbye to a peer that broke a rule, and end its link. Remote words in `text` must be quoted."""
        link = self._links.get(link_id)
        if link is not None:
            link.faulted = code in FAULTS
            self._end(link, "lost", Bye(code, text), f"closed by this side: {text}")

    def is_known(self, link_id: int) -> bool:
        """Return whether a link is one to a contact, or to a peer that hosts one.

        A contact is one as soon as it has proved its key, and TLS proves that of the dialled end. So it waits for no
        flood of others until its link is up.
        """
        link = self._links.get(link_id)
        if link is None or link.up:
            return link is not None and link.known
        proved = link.handshake.server if isinstance(link.handshake, ClientSide) else link.peer
        return proved in self._contacts

    def on_contact(self, id: PeerId | UserId) -> None:
        """Take a new contact: a peer, or a user that a linked peer may host."""
        self.book.free_share(id)
        for link in self.up.values():
            if id == link.peer or id in link.users:
                self.on_known(link, id)

    def on_known(self, link: PeerLink, contact: PeerId | UserId) -> None:
        """Take the news that a link is up to this contact, or to a peer that hosts it."""
        link.known = self.places.take_known(link.peer, contact)

    def block(self, user: UserId) -> None:
        """End every connection with a peer whose own user is blocked now. It hears that there is no place."""
        for link in list(self._links.values()):
            if link.peer == user and user in self._blocked:
                self._end_blocked(link)
            else:
                self.refuses_users(link)
        self._exchange.look_soon()

    def refuses_users(self, link: PeerLink) -> bool:
        """Return whether all users of a peer are blocked: it is a machine of one of them, and its link ends."""
        blocked = next(filter(self._blocked.users.__contains__, link.blocked), None)
        if blocked is None or link.users or not link.has_listed_users:
            return False
        self._blocked.machines[link.peer] = blocked
        self._end_blocked(link)
        return True

    def _end_blocked(self, link: PeerLink) -> None:
        self._end(link, "lost", Bye("busy", NO_ROOM), REFUSED_BLOCKED, code="blocked")

    def unblock(self, peers: AbstractSet[PeerId]) -> None:
        """Dial peers again, and begin those links anew whose peers had told of those users: they tell them once."""
        for link in list(self.up.values()):
            if not peers.isdisjoint(link.blocked):
                self.close(link.id, "error", "this link begins anew")
        machines = [peer for peer, user in self._blocked.machines.items() if user in peers]
        for peer in machines:
            del self._blocked.machines[peer]
        for peer in sorted(self.dialer.peers.intersection([*peers, *machines])):
            self.dialer.resume(peer)
        self._exchange.look_soon()

    def on_members_changed(self, users: AbstractSet[UserId]) -> None:
        """Take what follows from statements about users that are durable now: who waited for some is admitted, and who
        is out has no link any more.
        """
        for link in list(self._links.values()):
            if link.awaiting is not None:
                self._consider(link, link.awaiting)
            elif link.member and self._admission.expels_peer(link.peer, link.member):
                self._refuse(link, "member")
        self._exchange.on_members_changed(users)

    # Inputs

    def _on_accepted(self, input: LinkAccepted) -> None:
        if self._stopped:
            self._ctx.emit(Close(input.link))
            return
        if not input.through:
            self.dialer.active_at = self._ctx.now.mono
        server = ServerSide(self._ctx.me, self._network, self._ctx.draw(NONCE_BYTES))
        link = PeerLink(input.link, input.host, server)
        if input.dial:
            self.dialer.on_opened(input.dial)
        if input.port and not is_loopback(input.host):
            link.sees = join_endpoint(input.host, input.port)
        if input.through and not self._set_carrier(link, input.through):
            return
        self._begin(link, max(0.0, self._ctx.settings.handshake_timeout - input.took))
        self._ctx.send(server.opening(), [link.id])

    def _on_dialled(self, input: LinkDialled) -> None:
        link = self._dialled(input)
        if link is None:
            self._ctx.emit(Close(input.link))
        elif not input.through or self._set_carrier(link, input.through):
            self._begin(link, self._ctx.settings.handshake_timeout)

    def _set_carrier(self, link: PeerLink, through: int) -> bool:
        """Note which peer carries a link. End it and return False if the link of that one is gone."""
        if through not in self.up:
            self._ctx.emit(Close(link.id))
            if link.dialled:
                self.dialer.on_failed(link.dial, "its carrier has gone", "no_way")
            return False
        link.carrier, link.through, link.endpoint = self.up[through].peer, through, ""
        return True

    def _on_link_down(self, input: LinkDown) -> None:
        link = self._links.get(input.link)
        if link is not None:
            self._end(link, DEPARTURE_REASONS.get(input.reason, "lost"), close=False)

    def _on_filled(self, input: LinkFilled) -> None:
        if input.link in self._links:
            self._links[input.link].full = True

    def on_drained(self, input: LinkDrained) -> None:
        link = self._links.get(input.link)
        if link is not None:
            link.full = False
            if link.up:
                self.circuits.on_drained(link)
                self._exchange.on_drained(link)

    def _on_paused(self, input: Paused) -> None:
        if input.link in self._links:
            self._keepalive.on_paused(self._links[input.link], input.on)

    def _connect(self, input: Connect) -> None:
        if not self._stopped:
            self.dialer.connect(input.endpoint, input.pin)
            named = input.pin or self.book.owner(input.endpoint)
            if named in self._blocked:
                self._ctx.emit(LinkChanged(named, input.endpoint, "trying", REFUSED_BLOCKED, "blocked"))
            if named in self.by_peer:
                self._contacts.keep([named])

    def _on_sighted(self, input: PeerSighted) -> None:
        """Take the endpoints at which discovery sees a peer announced; () means that it is no longer announced.

        Any member can make an announcement in another one's name. So few of these addresses are kept, none of them is
        stored, and they are dialled with a pace, each pinned to the announced id. One that never answered is forgotten
        when it is no longer announced.
        """
        settings = self._ctx.settings
        if self._stopped or input.peer == self._ctx.me:
            return
        for address in self.book.addresses(input.peer):
            if self.book.is_sighted(address) and address.endpoint not in input.at:
                self.dialer.forget_endpoint(address.endpoint, input.peer)
        for endpoint in input.at[: settings.max_endpoints_a_peer]:
            may_keep = is_shareable(endpoint, from_loopback=False, settings=settings)
            sighted = self.book.sight(input.peer, endpoint) if may_keep else None
            if sighted is not None:
                self.dialer.on_moved(sighted)

    def forget(self, input: Forget) -> None:
        if input.endpoint:
            self.dialer.forget_endpoint(input.endpoint, input.peer)
        else:
            self.dialer.forget(input.peer)

    def stop(self, input: Stop) -> None:
        """Say goodbye on all links. Departures are not reported: this node is the one that leaves."""
        if self._stopped:
            return
        self._stopped = True
        self.dialer.stop()
        self._exchange.stop()
        for link in sorted(self._links.values(), key=lambda link: not link.carrier):  # while there is a carrier
            self._remove(link)
            self._ctx.emit(Close(link.id, Bye("left")))
        self.up.clear()
        self.by_peer.clear()
        self._ctx.emit(NodeStopped())

    # Frames

    def _on_frame(self, link: PeerLink, frame: Frame | Unknown, rest: list[Frame]) -> None:
        if isinstance(frame, Bye):
            self._pending_ends[link.id] = lambda: self._on_bye(link, frame)
        elif link.phase is LinkPhase.PROVING:
            self._on_proof(link, frame)
        elif link.phase is LinkPhase.SHOWING:
            self._on_shown(link, frame)
        elif link.phase is LinkPhase.WAITING and isinstance(frame, Go):
            self._on_go(link, frame)
        elif link.phase is LinkPhase.WAITING and isinstance(frame, Statements) and not link.parting:
            self._on_parting(link, frame)
        elif link.phase is LinkPhase.WAITING or isinstance(frame, (Hello, Welcome, Show, Admit, Go)):
            self._pending_ends[link.id] = lambda: self.close(link.id, "order", f"{_kind(frame)} may not come now")
        elif isinstance(frame, Ping):
            self._ctx.send(Pong(), [link.id])
        elif isinstance(frame, Peers):
            self._exchange.on_peers(link, frame)
        elif isinstance(frame, Carried):
            self.circuits.on_carried(link, frame)
        elif isinstance(frame, Punch):
            self._puncher.on_frame(link, frame)
        elif isinstance(frame, Circuit):
            why = self.circuits.on_circuit(link, frame)
            if why:
                self._pending_ends[link.id] = lambda: self.close(link.id, "order", why)
        elif isinstance(frame, Unknown):
            self._ctx.count("unknown_frame")
        else:
            link.pongs += 1
            rest.append(frame)

    def _on_bye(self, link: PeerLink, bye: Bye) -> None:
        """End this side too: bye is the last frame of the other side."""
        if not link.up:
            self._on_early_bye(link, bye)
            return
        current = self.by_peer.get(link.peer) is link
        link.faulted = bye.code in FAULTS
        if bye.code == "replaced" and current and not self._is_crossed(link):
            # This process did not dial again, so another process with our key did.
            if is_decider(self._ctx.me, link.peer) or self._duplicates.lasted(link.up_at):
                self._on_replaced(link.peer, self._ctx.me)
        self._end(link, "left" if bye.code == "left" else "lost", why=farewell(bye), quiet=bye.code == "replaced")
        if bye.code == "busy":
            self.dialer.on_busy(link.peer)

    def _is_crossed(self, link: PeerLink) -> bool:
        """Return whether another link may take the place of this one, whose goodbye came before that is up."""
        begun = [other for other in self._links.values() if not other.up]
        return any(other.peer == link.peer or (link.carrier and not other.carrier) for other in begun)

    def _on_early_bye(self, link: PeerLink, bye: Bye) -> None:
        """Handle a goodbye that comes before the link is up."""
        if bye.code == "self" and link.dialled:
            self.dialer.on_self(link.dial)
            link.dial = 0
        if bye.code == "member" and link.phase is LinkPhase.SHOWING and link.dialled:
            self.dialer.on_proved(link.dial, link.peer)  # it is a member there, and known whose endpoint that is
        if bye.code == "replaced" and link.phase is LinkPhase.WAITING:
            self._duplicates.on_reported()
        self._end(link, "lost", code=bye.code if bye.code in REFUSALS else "failed", why=farewell(bye))
        if bye.code == "busy" and not link.dialled:
            self.dialer.on_busy(link.peer)

    # Handshakes: each far end proves its identity and membership in time, or its connection ends

    def _begin(self, link: PeerLink, seconds: float) -> None:
        self._links[link.id] = link
        self._begun += 1
        link.begun = self._begun
        link.heard_at = link.up_at = self._ctx.now.mono
        self._expect(link, seconds)

    def _dialled(self, input: LinkDialled) -> PeerLink | None:
        """Return the link of a dialled connection; None when it is not wanted any more, or the key is wrong."""
        address = self.dialer.address_of(input.dial)
        if address is None:
            return None
        nonce = self._ctx.draw(NONCE_BYTES)
        try:
            client = ClientSide(
                self._ctx.me, self._sign, self._network, server=input.server, pin=address.pin, nonce=nonce
            )
        except HandshakeError as error:
            self._on_wrong_key(input.dial, error.code)
            return None
        return PeerLink(
            input.link,
            input.host,
            client,
            address.endpoint,
            input.dial,
            sees="" if address.endpoint else address.resolved,
        )

    def _on_wrong_key(self, dial: int, code: str) -> None:
        self._ctx.count(f"handshake_{code}")
        if code == "self":
            self.dialer.on_self(dial)
        else:
            reason = NOT_THE_ONE_KNOWN if code == "identity" else REFUSALS[code]
            self.dialer.on_failed(dial, reason, code)

    def _expect(self, link: PeerLink, seconds: float) -> None:
        """Require the next step within this time."""
        self._stop_waiting(link)
        link.timer = self._ctx.after(seconds, lambda: self._on_timeout(link, seconds))

    def _stop_waiting(self, link: PeerLink) -> None:
        """Require no further step: the link is up or gone."""
        if link.timer is not None:
            link.timer.cancel()

    def _on_timeout(self, link: PeerLink, seconds: float) -> None:
        self._ctx.count("handshake_timeout")
        bye = Bye("error", "the handshake took too long")
        self._end(link, "timeout", bye, f"no answer within {seconds:.0f} s", code="no_answer")

    def _on_proof(self, link: PeerLink, frame: Frame | Unknown) -> None:
        """Handle a frame of the far end's proof."""
        try:
            answer = link.handshake.on_frame(frame)
        except HandshakeError as error:
            self._on_error(link, error)
            return
        peer = link.handshake.peer
        why, code = self._refusal(peer, link) if isinstance(frame, Welcome) else ("", "")
        if why:
            if code == "blocked":
                self.dialer.on_proved(link.dial, peer)  # now it is known whose endpoint that is
            self._end(link, "lost", Bye("busy", NO_ROOM), why, code=code)
            return
        if isinstance(answer, Welcome):
            answer.show = self._admission.show(link.handshake.transcript)
        if answer is not None:
            self._ctx.send(answer, [link.id])
        if peer:
            link.peer, link.phase = peer, LinkPhase.SHOWING
            if isinstance(frame, Welcome):
                self._consider(link, frame.show or Membership())

    def _on_shown(self, link: PeerLink, frame: Frame | Unknown) -> None:
        """Handle a frame of the far end when both ends have proved what they are."""
        is_server = isinstance(link.handshake, ServerSide)
        if isinstance(frame, Statements) and not link.parting:
            self._on_parting(link, frame)
        elif is_server and isinstance(frame, Show) and not link.member:
            self._consider(link, frame.show)
        elif not is_server and isinstance(frame, Admit) and link.member and link.awaiting is None:
            if frame.peers:
                self._exchange.on_told_instead(link, frame.peers)
                self._end(link, "lost", None, REFUSALS["busy"], code="busy")
            else:
                self._on_proved(link)
        else:
            self._on_error(link, HandshakeError(f"{_kind(frame)} may not come now", "order"))

    def _on_parting(self, link: PeerLink, frame: Statements) -> None:
        """Take the statements before a goodbye: once, since each frame of them costs as much as all that are known."""
        link.parting = True
        self._admission.take_removals(frame)

    def _consider(self, link: PeerLink, shown: Membership) -> None:
        """Admit the far end by what it shows, now or when that is durable, or say why not."""
        link.member = self._admission.member_of(link.peer, shown)
        code = self._admission.judge(link.peer, link.member, shown, link.handshake.transcript)
        link.awaiting = shown if code is None else None
        if code:
            self._refuse(link, code, shown)
        elif code is not None:
            self._admit(link)

    def _refuse(self, link: PeerLink, code: str, shown: Membership = NOTHING_SHOWN) -> None:
        """End a link whose far end is not admitted by what it shows, and say who removed it, or who had added it."""
        self._ctx.count("not_admitted")
        if not link.up and (said := self._admission.farewell(link.peer, shown)) is not None:
            self._ctx.send(said, [link.id])
        self._end(link, "expelled", Bye(code), NOT_ADMITTED[code], code="outsider")

    def _admit(self, link: PeerLink) -> None:
        """Go on with a link whose far end is admitted. Where there is no place for it, tell it others: it may know
        this peer only, and would never join.
        """
        if not isinstance(link.handshake, ServerSide):
            self._ctx.send(Show(self._admission.show(link.handshake.transcript)), [link.id])
            return
        why, code = self._refusal(link.peer, link)
        peers = self._exchange.sample(link) if why else []
        if peers or not why:
            self._ctx.send(Admit(peers), [link.id])
        if why:
            self._end(link, "lost", Bye("busy", NO_ROOM), why, code=code)
        else:
            self._on_proved(link)

    def _on_error(self, link: PeerLink, error: HandshakeError) -> None:
        self._ctx.count(f"handshake_{error.code}")
        code = error.code if error.code in REFUSALS else "failed"
        self._end(link, "lost", Bye(error.code, str(error)), REFUSALS.get(error.code, str(error)), code=code)

    # One link per pair

    def _refusal(self, peer: PeerId, link: PeerLink) -> tuple[str, str]:
        """Return why there is no link with the peer that has just proved itself: a sentence and a word, or ("", "")."""
        if peer in self._blocked:
            return REFUSED_BLOCKED, "blocked"
        known = peer in self._contacts or (link.dialled and self.dialer.is_typed(link.dial))
        if self.places.giving_way(peer, known=known) is not None:
            return "", ""
        self._warn_full()
        return REFUSED_BUSY, "full"

    def _take_place(self, link: PeerLink) -> bool:
        """Give a link that comes up its place. End it and return False when there is none any more."""
        if link.peer in self._blocked:  # as is known since it showed its member
            self._end_blocked(link)
            return False
        former = self.by_peer.get(link.peer)
        link.known = link.peer in self._contacts or (former is not None and former.known)
        gone = self.places.giving_way(link.peer, known=link.known)
        if gone is None:
            self._end(link, "lost", Bye("busy", NO_ROOM), REFUSED_BUSY, code="full")
            return False
        for peer in gone:
            self._warn_full()
            self._ctx.count("link_gave_way")
            self._end(self.by_peer[peer], "lost", Bye("busy", NO_ROOM), "another peer needed its place more")
            self.dialer.on_busy(peer)
        return True

    def _warn_full(self) -> None:
        now = self._ctx.now.mono
        if now - self._warned_full_at >= FULL_WARNED_EVERY:
            self._warned_full_at = now
            self._ctx.emit(WarningIssued("links_full", str(self.places)))

    def _on_proved(self, link: PeerLink) -> None:
        """Continue with a link whose far end has proved its identity and membership."""
        if isinstance(link.handshake, ClientSide):
            if self.dialer.on_proved(link.dial, link.peer).typed:
                self._contacts.keep([link.peer])
        if not is_decider(self._ctx.me, link.peer):
            link.phase = LinkPhase.WAITING
            self._expect(link, self._ctx.settings.go_timeout)
        elif link.peer in self.by_peer and self._duplicates.is_patient(link.peer):
            self._end(link, "lost", Bye("replaced", "two processes with one key; the other one stays for now"))
        elif self._take_place(link):
            self._decide(link)

    def _decide(self, link: PeerLink) -> None:
        """As the decider, make this link the current one."""
        self._decided += 1
        former = self.by_peer.get(link.peer)
        is_copy = (
            former is not None
            and not (link.carrier or former.carrier)  # a direct link takes the place of a carried one
            and not link.dialled  # our own dial, which crossed it
            and self._duplicates.lasted(former.up_at)
            and self._on_replaced(link.peer, link.peer)
        )
        if former is not None and is_copy:
            self._exchange.send_copy_notice(former)
        self._bring_up(link, [Established(link.id), Send(Go(self._run, self._decided), [link.id])])
        if is_copy:
            self._exchange.send_copy_notice(link)

    def _on_go(self, link: PeerLink, go: Go) -> None:
        """As the follower, judge the decider's word that this link is the one."""
        state = self._follower_states.get(link.peer, FollowerState())
        verdict = follower_take_go(state, link.id, link.begun, go.run, go.n, self._ctx.settings.superseded_runs)
        if verdict.closes != link.id and not self._take_place(link):
            return
        self._follower_states[link.peer] = verdict.state
        is_copy = verdict.returned and self._on_replaced(link.peer, link.peer)
        if verdict.closes == link.id:
            self._end(link, "lost", Bye("replaced", "a newer link is up"))
        else:
            self._bring_up(link, [Established(link.id)])
        if is_copy:  # the other process learns it when its link is replaced
            self._exchange.send_copy_notice(self.by_peer[link.peer])

    def _on_replaced(self, peer: PeerId, whose: PeerId) -> bool:
        """Note that a link was replaced as if two processes had one key. Return whether both should be told."""
        is_copy = self._duplicates.on_replaced(peer, whose)
        if self._duplicates.is_patient(peer):
            self.dialer.pause(peer, self._duplicates.patient_until(peer))
        return is_copy

    def _bring_up(self, link: PeerLink, effects: list[Effect]) -> None:
        """Make this link the current one to its peer, and end the former one."""
        former, took = self.by_peer.get(link.peer), self._ctx.now.mono - link.up_at
        link.phase, link.up_at = LinkPhase.UP, self._ctx.now.mono
        self.up[link.id] = self.by_peer[link.peer] = link
        self.places.take(link)
        for effect in effects:
            self._ctx.emit(effect)
        self._stop_waiting(link)
        self._keepalive.watch(link)
        if former is not None:
            self._end(former, "replaced", Bye("replaced", "a newer link is up"))
        is_news = link.peer not in self._reported_up
        if is_news:
            self._reported_up.add(link.peer)
            self._ctx.emit(LinkChanged(link.peer, link.endpoint, "up", host=link.host, via=link.carrier))
        reported = link.endpoint if is_news else ""
        self.dialer.on_link_up(link, reported=reported, took=took)
        if link.dialled:
            self.dialer.on_ended(link.dial)
        self._exchange.on_link_up(link)
        self._puncher.on_link_up(link)
        self._listener.link_up(link)

    # Ends

    def end_dead(self) -> None:
        """End the links that were silent for too long. Timers find them, so this follows each of those."""
        for link in self._keepalive.dead:
            self._end(link, "timeout", why="nothing was heard from it for too long")
        self._keepalive.dead.clear()

    def _end(
        self,
        link: PeerLink,
        reason: str,
        bye: Bye | None = None,
        why: str = "",
        *,
        code: str = "failed",
        close: bool = True,
        quiet: bool = False,
    ) -> None:
        """End a connection in any phase.

        Args:
            reason: Of the departure, for programs.
            why: The same for people.
            code: How to report a dial that failed.
            quiet: Report it to people only if no other link takes its place within the grace period: one is under way.
        """
        if link.gone:
            return
        was_up = link.up
        self._remove(link)
        self.circuits.on_link_down(link)
        if close:
            self._ctx.emit(Close(link.id, bye))
        if was_up:
            self._on_went_down(link, reason, why, quiet)
        elif link.dialled and link.peer in self.by_peer:
            self.dialer.on_ended(link.dial)
        elif link.dialled:
            self.dialer.on_failed(link.dial, why or "the connection broke during the handshake", code)

    def _remove(self, link: PeerLink) -> None:
        link.phase = LinkPhase.GONE
        self._stop_waiting(link)
        self._links.pop(link.id, None)
        self._pending_ends.pop(link.id, None)
        self.up.pop(link.id, None)
        states = self._follower_states
        if link.peer in states:
            states[link.peer] = follower_link_down(states.pop(link.peer), link.id)
            # One matters until the other end notices that a link is gone, or that two processes have the same key.
            if len(states) > 2 * self._ctx.settings.max_links:
                del states[next(peer for peer, state in states.items() if state.link is None)]

    def _on_went_down(self, link: PeerLink, reason: str, why: str, quiet: bool) -> None:
        lasted = self._ctx.now.mono - link.up_at
        if link.dialled and link.carrier and not link.late and (why or reason != "lost") and reason != "timeout":
            self.circuits.on_goodbye(link.carrier)
        if self.by_peer.get(link.peer) is link:
            del self.by_peer[link.peer]
            self.places.free(link.peer)
            text = f"{reason}: {why}" if why and reason != "left" else reason
            if quiet:
                self._ctx.after(self._ctx.settings.left_grace, lambda: self._report_down(link, text))
            else:
                self._report_down(link, text)
            self.dialer.on_link_down(link.peer, lasted, fault=link.faulted)
        self._exchange.on_link_down(link)
        self._listener.link_down(link, reason)

    def _report_down(self, link: PeerLink, reason: str) -> None:
        if link.peer not in self.by_peer and link.peer in self._reported_up:
            self._reported_up.discard(link.peer)
            self._ctx.emit(LinkChanged(link.peer, link.endpoint, "down", reason))


def _kind(frame: Frame | Unknown) -> str:
    return quoted(frame.t) if isinstance(frame, Unknown) else str(frame.__struct_config__.tag)
