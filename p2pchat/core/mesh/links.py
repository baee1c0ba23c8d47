"""Who is there: every connection from its first frame to its end, and one link per pair of peers.

Connections come in (Accepted, Dialled), prove who they are (links.py), and one of each pair stays (link.py);
what is up is in `up` and `by_peer`, and the listener hears of it. Dialling, liveness and the exchange of addresses
have files of their own; this one holds them together. What frames say beyond hello, welcome, go, ping, pong, bye and
peers is none of its business: `got` hands the rest back.

A frame that ends its link (bye, or one that may not come) waits behind those before it in the same read: the last
acknowledgement before a goodbye counts. So whoever calls `got` calls `settle` once it has dealt with what it got back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from p2pchat.core.context import Context, NetworkCredentials
from p2pchat.core.effects import Close, Counted, Effect, Established, LinkChanged, NodeStopped, Send, WarningIssued
from p2pchat.core.inputs import (
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
    Stop,
)
from p2pchat.core.mesh.addressbook import AddressBook, may_be_told
from p2pchat.core.mesh.dialer import Dialer
from p2pchat.core.mesh.handshake import NONCE_BYTES, ClientSide, ServerSide
from p2pchat.core.mesh.link import (
    NOT_THE_ONE_KNOWN,
    REFUSALS,
    DeciderState,
    FollowerState,
    Keepalive,
    LinkListener,
    PeerLink,
    Phase,
    decider_link_down,
    decider_link_proved,
    farewell,
    follower_link_down,
    follower_take_go,
    is_decider,
    quoted,
)
from p2pchat.core.mesh.peer_exchange import PeerExchange
from p2pchat.core.records import Address
from p2pchat.errors import HandshakeError
from p2pchat.protocol import Bye, Frame, Go, Hello, PeerId, Peers, Ping, Pong, RunId, Unknown, Welcome

LinkInput = (
    LinkAccepted | LinkDialled | DialFailed | LinkDown | Faulted | LinkFilled | LinkDrained | Paused | ListeningAt
    | Connect | PeerSighted | Forget | Stop
)  # fmt: skip

REASONS = {"closed": "lost", "lost": "lost", "timeout": "timeout", "slow": "timeout"}  # of LinkDown, for departures


class Links:
    """All connections of one node.

    Attributes:
        up: The links that passed `go`, by number.
        by_peer: The current link to each peer.
        book: The address book.
    """

    def __init__(
        self,
        ctx: Context,
        network: NetworkCredentials,
        sign: Callable[[bytes], bytes],
        run: RunId,
        addresses: list[Address],
        listener: LinkListener,
    ) -> None:
        self.up: dict[int, PeerLink] = {}
        self.by_peer: dict[PeerId, PeerLink] = {}
        self._ctx = ctx
        self._network = network
        self._run = run
        self._listener = listener
        self._links: dict[int, PeerLink] = {}
        self._decided: dict[PeerId, DeciderState] = {}  # where we decide
        self._standing: dict[PeerId, FollowerState] = {}  # where the other does
        self._endings: dict[int, Callable[[], None]] = {}
        self._begun = 0
        self._told_up: set[PeerId] = set()  # whose link people were told is up
        self._stopped = False
        self.book = AddressBook(ctx, addresses)
        self._dialing = Dialer(ctx, self.book, self.by_peer.__contains__, self._has_room)
        self._proving = HandshakeRunner(
            ctx, network, sign, self._dialing, is_welcome=self._is_welcome, proved=self._proved, end=self._end
        )
        self._clones = DuplicateKeyDetector(ctx, self._dialing, listener.name_of)
        self._liveness = Keepalive(ctx, self.up, self._dead)
        self._exchange = PeerExchange(ctx, self.book, self._dialing, self.up, self.by_peer, self._clones.told)
        self._handlers: dict[type, Callable[..., None]] = {
            LinkAccepted: self._accepted,
            LinkDialled: self._dialled,
            DialFailed: self._dial_failed,
            LinkDown: self._link_down,
            Faulted: self._faulted,
            LinkFilled: self._filled,
            LinkDrained: self._drained,
            Paused: self._paused,
            ListeningAt: self._listening,
            Connect: self._connect,
            PeerSighted: self._sighted,
            Forget: self._forget,
            Stop: self._stop,
        }

    def start(self) -> None:
        """Dial every peer of the address book; once, before anything else."""
        self._dialing.start()

    def handle(self, input: LinkInput) -> None:
        """Take one input about connections; what follows is in ctx.out, and the listener has heard of it."""
        self._handlers[type(input)](input)

    def got(self, link_id: int, frames: Sequence[Frame | Unknown]) -> list[Frame]:
        """Take one read's frames and return, in order, those that are not about the link itself; [] unless it is up.

        The caller deals with them and then calls `settle` with the same link.
        """
        link = self._links.get(link_id)
        if link is None:
            return []
        link.heard_at = self._ctx.now.mono
        rest: list[Frame] = []
        for frame in frames:
            if link.gone or link_id in self._endings:
                break
            self._take(link, frame, rest)
        if link.up:
            self._liveness.charge(link, frames)
        if not rest:
            self.settle(link_id)
        return rest

    def settle(self, link_id: int) -> None:
        """Everything `got` returned is dealt with: a goodbye that came behind it counts now."""
        ending = self._endings.pop(link_id, None)
        if ending is not None:
            ending()

    def endpoints(self, peer: PeerId) -> list[str]:
        """Return where this peer is dialled, or was last reached; [] when nothing is known."""
        return self._dialing.endpoints(peer)

    @property
    def seeking(self) -> list[str]:
        """The endpoints that users named and where nobody has answered yet."""
        return self._dialing.seeking

    def is_dialled(self, endpoint: str) -> bool:
        """Whether this endpoint is known: of a peer, or named by a user and not answered yet."""
        return self._dialing.knows(endpoint)

    def close(self, link_id: int, code: str, text: str) -> None:
        """Say goodbye to a peer that broke a rule, and end its link. `text` holds no foreign word unquoted."""
        link = self._links.get(link_id)
        if link is not None:
            self._end(link, "lost", Bye(code, text), f"closed by this side: {text}")

    # ---- inputs

    def _accepted(self, input: LinkAccepted) -> None:
        if self._stopped:
            self._ctx.emit(Close(input.link))
            return
        self._begin(self._proving.accepted(input))

    def _dialled(self, input: LinkDialled) -> None:
        link = self._proving.dialled(input)
        if link is None:
            self._ctx.emit(Close(input.link))
        else:
            self._begin(link)

    def _dial_failed(self, input: DialFailed) -> None:
        self._dialing.failed(input.dial, "trying", input.reason, input.code)

    def _link_down(self, input: LinkDown) -> None:
        link = self._links.get(input.link)
        if link is not None:
            self._end(link, REASONS.get(input.reason, "lost"), close=False)

    def _faulted(self, input: Faulted) -> None:
        self.close(input.link, input.code, input.text)

    def _filled(self, input: LinkFilled) -> None:
        if input.link in self._links:
            self._links[input.link].full = True

    def _drained(self, input: LinkDrained) -> None:
        link = self._links.get(input.link)
        if link is not None:
            link.full = False
            if link.up:
                self._exchange.drained(link)

    def _paused(self, input: Paused) -> None:
        if input.link in self._links:
            self._liveness.paused(self._links[input.link], input.on)

    def _listening(self, input: ListeningAt) -> None:
        self._exchange.listening(input.port, input.at)

    def _connect(self, input: Connect) -> None:
        if not self._stopped:
            self._dialing.connect(input.endpoint, input.pin)

    def _sighted(self, input: PeerSighted) -> None:
        if not self._stopped:
            on_sighted(self._ctx, self.book, self._dialing, input.peer, input.at)

    def _forget(self, input: Forget) -> None:
        if input.endpoint:
            self._dialing.forget_endpoint(input.endpoint, input.peer)
        else:
            self._dialing.forget(input.peer)

    def _stop(self, input: Stop) -> None:
        """Nobody here needs to hear of the departures: this node is the one that goes."""
        if self._stopped:
            return
        self._stopped = True
        self._dialing.stop()
        self._exchange.stop()
        for link in list(self._links.values()):
            self._remove(link)
            self._ctx.emit(Close(link.id, Bye("left")))
        self.up.clear()
        self.by_peer.clear()
        self._ctx.emit(NodeStopped())

    # ---- frames

    def _take(self, link: PeerLink, frame: Frame | Unknown, rest: list[Frame]) -> None:
        if isinstance(frame, Bye):
            self._endings[link.id] = lambda: self._said_bye(link, frame)
        elif link.phase is Phase.PROVING:
            self._proving.got(link, frame)
        elif link.phase is Phase.WAITING and isinstance(frame, Go):
            self._take_go(link, frame)
        elif link.phase is Phase.WAITING or isinstance(frame, (Hello, Welcome, Go)):
            self._endings[link.id] = lambda: self.close(link.id, "order", f"{_kind(frame)} may not come now")
        elif isinstance(frame, Ping):
            self._send(link, Pong())
        elif isinstance(frame, Peers):
            self._exchange.got(link, frame)
        elif isinstance(frame, Unknown):
            self._ctx.emit(Counted("unknown_frame"))
        elif not isinstance(frame, Pong):
            rest.append(frame)

    def _said_bye(self, link: PeerLink, bye: Bye) -> None:
        """Their last frame: close this side too."""
        if not link.up:
            self._unwelcome(link, bye)
            return
        alone = self.by_peer.get(link.peer) is link
        if bye.code == "replaced" and alone and (is_decider(self._ctx.me, link.peer) or self._clones.lasted(link)):
            self._clones.notice(link.peer, self._ctx.me)  # nobody here dialled again: another process with our key did
        self._end(link, "left" if bye.code == "left" else "lost", why=farewell(bye), quiet=bye.code == "replaced")

    def _unwelcome(self, link: PeerLink, bye: Bye) -> None:
        """A goodbye before the link was up."""
        if bye.code == "self" and link.dialled:
            self._dialing.is_self(link.dial)
            link.dial = 0
        if bye.code == "replaced" and link.phase is Phase.WAITING:
            self._clones.told()
        is_refusal = bye.code in REFUSALS
        state, code = ("refused", bye.code) if is_refusal else ("trying", "failed")
        self._end(link, "lost", state=state, code=code, why=farewell(bye))

    # ---- one link per pair

    def _begin(self, link: PeerLink) -> None:
        self._links[link.id] = link
        self._begun += 1
        link.begun = self._begun
        link.heard_at = self._ctx.now.mono

    def _has_room(self) -> bool:
        return len(self.by_peer) < self._ctx.settings.max_links

    def _is_welcome(self, peer: PeerId) -> bool:
        return peer in self.by_peer or self._has_room()

    def _proved(self, link: PeerLink) -> None:
        """We know who is there, and that it is a member."""
        if isinstance(link.handshake, ClientSide):
            self._dialing.proved(link.dial, link.peer)
            if link.handshake.found and not self._network.id:
                self._network.id = link.handshake.found
                self._listener.network_found(link.handshake.found)
        if not is_decider(self._ctx.me, link.peer):
            link.phase = Phase.WAITING
            self._proving.expect(link, self._ctx.settings.go_timeout)
        elif link.peer in self.by_peer and self._clones.is_patient(link.peer):
            self._end(link, "lost", Bye("replaced", "two processes with one key; the other one stays for now"))
        else:
            self._decide(link)

    def _decide(self, link: PeerLink) -> None:
        """We are D: this link is the one now."""
        decided = decider_link_proved(self._decided.get(link.peer, DeciderState()), link.id)
        self._decided[link.peer] = decided
        former = self.by_peer.get(link.peer)
        noticed = former is not None and self._clones.lasted(former) and self._clones.notice(link.peer, link.peer)
        if former is not None and noticed:
            self._exchange.tell_of_copy(former)
        link.run, link.n = self._run, decided.n
        self._raise(link, [Established(link.id), Send(Go(self._run, decided.n), [link.id])])
        if noticed:
            self._exchange.tell_of_copy(link)

    def _take_go(self, link: PeerLink, go: Go) -> None:
        """We are F: D says that this link is the one."""
        standing = self._standing.get(link.peer, FollowerState())
        verdict = follower_take_go(standing, link.id, link.begun, go.run, go.n, self._ctx.settings.superseded_runs)
        self._standing[link.peer] = verdict.standing
        noticed = verdict.returned and self._clones.notice(link.peer, link.peer)
        if verdict.closes == link.id:
            self._end(link, "lost", Bye("replaced", "a newer link is up"))
        else:
            link.run, link.n = go.run, go.n
            self._raise(link, [Established(link.id)])
        if noticed:  # the other one hears of it by being replaced
            self._exchange.tell_of_copy(self.by_peer[link.peer])

    def _raise(self, link: PeerLink, effects: list[Effect]) -> None:
        """This link is up and takes the place of the former one to that peer."""
        former = self.by_peer.get(link.peer)
        link.phase, link.up_at = Phase.UP, self._ctx.now.mono
        self.up[link.id] = self.by_peer[link.peer] = link
        for effect in effects:
            self._ctx.emit(effect)
        self._proving.is_done(link)
        self._liveness.watch(link)
        if former is not None:
            self._end(former, "replaced", Bye("replaced", "a newer link is up"))
        is_news = link.peer not in self._told_up
        if is_news:
            self._told_up.add(link.peer)
            self._ctx.emit(LinkChanged(link.peer, link.endpoint, "up", host=link.host))
        self._dialing.up(link.peer, contacted=not link.dialled, told=link.endpoint if is_news else "")
        if link.dialled:
            self._dialing.ended(link.dial)
        self._exchange.link_up(link)
        self._listener.link_up(link)

    # ---- ends

    def _dead(self, link: PeerLink) -> None:
        self._end(link, "timeout", why="nothing was heard from it for too long")

    def _end(
        self,
        link: PeerLink,
        reason: str,
        bye: Bye | None = None,
        why: str = "",
        *,
        state: str = "trying",
        code: str = "failed",
        close: bool = True,
        quiet: bool = False,
    ) -> None:
        """End a connection in whatever phase it is.

        `why` is for people; `state` and `code` what a failed dial is told as; `quiet`: people hear of it only if no
        other link takes its place within the grace, for one is under way.
        """
        if link.gone:
            return
        was_up = link.up
        self._remove(link)
        if close:
            self._ctx.emit(Close(link.id, bye))
        if was_up:
            self._went_down(link, reason, why, quiet)
        elif link.dialled and link.peer in self.by_peer:
            self._dialing.ended(link.dial)
        elif link.dialled:
            self._dialing.failed(link.dial, state, why or "the connection broke during the handshake", code)

    def _remove(self, link: PeerLink) -> None:
        link.phase = Phase.GONE
        self._proving.is_done(link)
        self._links.pop(link.id, None)
        self._endings.pop(link.id, None)
        self.up.pop(link.id, None)
        if link.peer in self._decided:
            self._decided[link.peer] = decider_link_down(self._decided[link.peer], link.id)
        if link.peer in self._standing:
            self._standing[link.peer] = follower_link_down(self._standing[link.peer], link.id)

    def _went_down(self, link: PeerLink, reason: str, why: str, quiet: bool) -> None:
        if self.by_peer.get(link.peer) is link:
            del self.by_peer[link.peer]
            told = f"{reason}: {why}" if why and reason != "left" else reason
            if quiet:
                self._ctx.after(self._ctx.settings.left_grace, lambda: self._tell_down(link, told))
            else:
                self._tell_down(link, told)
            self._dialing.down(link.peer, self._ctx.now.mono - link.up_at)
        self._exchange.link_down(link)
        self._listener.link_down(link, reason)

    def _tell_down(self, link: PeerLink, reason: str) -> None:
        if link.peer not in self.by_peer and link.peer in self._told_up:
            self._told_up.discard(link.peer)
            self._ctx.emit(LinkChanged(link.peer, link.endpoint, "down", reason))

    def _send(self, link: PeerLink, frame: Hello | Welcome | Ping | Pong) -> None:
        self._ctx.emit(Send(frame, [link.id]))


def _kind(frame: Frame | Unknown) -> str:
    return quoted(frame.t) if isinstance(frame, Unknown) else str(frame.__struct_config__.tag)


# ---- clones
#
# Two processes with one key: noticed by how links are replaced, and met with patience.
#
# Each of two processes that run with one key takes the other's links for its own, over and over: a copied machine, a
# profile that two containers share. That cannot be settled here; people are told, and for a while the link that is
# stays. Who notices tells both of them (peer_exchange.py): the one whose link stays would hear nothing of the other.


SETTLED_AFTER = 1.0  # seconds; a link replaced sooner was one of two that crossed, which is nothing special


class DuplicateKeyDetector:
    """Replacements of late, by peer. `name_of` returns what people call a peer, "" when nobody named it."""

    def __init__(self, ctx: Context, dialing: Dialer, name_of: Callable[[PeerId], str]) -> None:
        self._ctx = ctx
        self._dialing = dialing
        self._name_of = name_of
        self._replacements: dict[PeerId, deque[float]] = {}  # when
        self._patient_until: dict[PeerId, float] = {}
        self._told_at = float("-inf")  # when a far end said so and people were told

    def lasted(self, link: PeerLink) -> bool:
        """Say whether a link was up long enough for its replacement to mean something."""
        return self._ctx.now.mono - link.up_at >= SETTLED_AFTER

    def is_patient(self, peer: PeerId) -> bool:
        return self._ctx.now.mono < self._patient_until.get(peer, 0.0)

    def told(self) -> None:
        """A far end has met another process with our key, or is patient with it: this process is one of two.

        People hear of it once in clone_window, however many say so: each peer notices for itself.
        """
        now = self._ctx.now.mono
        if now - self._told_at >= self._ctx.settings.clone_window:
            self._told_at = now
            self._warn(self._ctx.me)

    def notice(self, peer: PeerId, whose: PeerId) -> bool:
        """A link to this peer was replaced in a way that two processes with the key of `whose` would explain.

        Three of them within a minute are told, and for half a minute nothing is dialled and the link that is stays:
        no longer than a dead link takes to be noticed. True when it is told: then both processes should hear of it.
        """
        settings, now = self._ctx.settings, self._ctx.now.mono
        times = self._replacements.setdefault(peer, deque(maxlen=settings.clone_replacements))
        times.append(now)
        if len(times) < settings.clone_replacements or now - times[0] > settings.clone_window:
            return False
        times.clear()
        self._patient_until[peer] = now + settings.clone_patience
        self._dialing.be_patient(peer, settings.clone_patience)
        if whose == self._ctx.me:
            self.told()
        else:
            self._warn(whose)
        return True

    def _warn(self, whose: PeerId) -> None:
        name = self._name_of(whose)
        key = "this peer's key" if whose == self._ctx.me else f"the key of {name!a}" if name else "the key of one peer"
        self._ctx.emit(WarningIssued("two_processes", f"two processes seem to use {key}: stop one of them", whose))


# ---- sighting
#
# Where members were seen on the local network, by discovery: addresses like those that others tell, told by oneself.
#
# Whoever holds the network's key can make an announcement in anybody's name, so a sighting is believed as much as a
# member's word in `peers` and no more: 64 unverified addresses at once, dialled few at a time, slowly once many came to
# nothing, each with the announced id as the pin. What was seen and never answered goes when it is seen no more; what
# answered is an address like any other.


def on_sighted(ctx: Context, book: AddressBook, dialing: Dialer, peer: PeerId, at: Sequence[str]) -> None:
    """This peer is announced there now and nowhere else; `at` () is an end of it."""
    if peer == ctx.me:
        return
    for address in book.addresses(peer):
        if address.teller == ctx.me and not address.verified_at and address.endpoint not in at:
            dialing.forget_endpoint(address.endpoint, peer)
    for endpoint in at[: ctx.settings.max_endpoints_a_peer]:
        if may_be_told(endpoint, from_loopback=False, settings=ctx.settings) and book.tell(peer, endpoint, ctx.me):
            found = book.get(peer, endpoint)
            if found is not None:
                dialing.seen(found)


# ---- proving
#
# The first part of a connection's life: the far end proves who it is, in time, or the connection ends.
#
# What must be said, and what proves it, is in handshake.py; this file carries both sides of that out over links, and
# tells Links who was proven. Which link of a pair stays is decided after that (link.py).


class HandshakeRunner:
    """Connections whose far end is a stranger still.

    Args:
        is_welcome: Says whether there is room for a link with this peer.
        proved: Is told of a link whose far end is known, and a member.
        end: Ends a link, as Links does.
    """

    def __init__(
        self, ctx: Context, network: NetworkCredentials, sign: Callable[[bytes], bytes], dialing: Dialer,
        *, is_welcome: Callable[[PeerId], bool], proved: Callable[[PeerLink], None], end: Callable[..., None],
    ) -> None:  # fmt: skip
        self._ctx = ctx
        self._network = network
        self._sign = sign
        self._dialing = dialing
        self._is_welcome = is_welcome
        self._proved = proved
        self._end = end

    def accepted(self, input: LinkAccepted) -> PeerLink:
        """Begin with a stranger who connected: this side speaks first."""
        server = ServerSide(self._ctx.me, self._network, self._ctx.draw(NONCE_BYTES))
        link = PeerLink(input.link, input.host, server)
        self.expect(link, max(0.0, self._ctx.settings.handshake_timeout - input.took))
        self._ctx.emit(Send(server.opening(), [link.id]))
        return link

    def dialled(self, input: LinkDialled) -> PeerLink | None:
        """Begin with whom we reached; None when nobody wants that dial any more, or the key there is a wrong one."""
        target = self._dialing.target_of(input.dial)
        if target is None:
            return None
        nonce = self._ctx.draw(NONCE_BYTES)
        try:
            client = ClientSide(
                self._ctx.me, self._sign, self._network, server=input.server, pin=target.pin, nonce=nonce
            )
        except HandshakeError as error:
            self._refused(input.dial, error.code)
            return None
        link = PeerLink(input.link, input.host, client, target.endpoint, input.dial)
        self.expect(link, self._ctx.settings.handshake_timeout)
        return link

    def _refused(self, dial: int, code: str) -> None:
        self._ctx.emit(Counted(f"handshake_{code}"))
        if code == "self":
            self._dialing.is_self(dial)
        else:
            reason = NOT_THE_ONE_KNOWN if code == "identity" else REFUSALS[code]
            self._dialing.failed(dial, "refused", reason, code)

    def expect(self, link: PeerLink, seconds: float) -> None:
        """The next step must be done within this time."""
        self.is_done(link)
        link.timer = self._ctx.after(seconds, lambda: self._took_too_long(link, seconds))

    def is_done(self, link: PeerLink) -> None:
        """No further step is expected, for the link is up or gone."""
        if link.timer is not None:
            link.timer.cancel()
            link.timer = None

    def _took_too_long(self, link: PeerLink, seconds: float) -> None:
        self._ctx.emit(Counted("handshake_timeout"))
        bye = Bye("error", "the handshake took too long")
        self._end(link, "timeout", bye, f"no answer within {seconds:.0f} s", code="no_answer")

    def got(self, link: PeerLink, frame: Frame | Unknown) -> None:
        """Take what the far end says to prove itself."""
        try:
            answer = link.handshake.got(frame)
        except HandshakeError as error:
            self._fail(link, error)
            return
        peer = link.handshake.peer
        if peer and not self._is_welcome(peer):
            why = "this peer has as many links as it takes"
            self._end(link, "lost", Bye("busy", "no room for more links"), why, code="full")
            return
        if answer is not None:
            self._ctx.emit(Send(answer, [link.id]))
        if peer:
            link.peer = peer
            self._proved(link)

    def _fail(self, link: PeerLink, error: HandshakeError) -> None:
        self._ctx.emit(Counted(f"handshake_{error.code}"))
        is_refusal = error.code in REFUSALS
        state, code = ("refused", error.code) if is_refusal else ("trying", "failed")
        self._end(
            link, "lost", Bye(error.code, str(error)), REFUSALS.get(error.code, str(error)), state=state, code=code
        )
