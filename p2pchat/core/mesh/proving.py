"""The first part of a connection's life: the far end proves who it is, in time, or the connection ends.

What must be said, and what proves it, is in handshake.py; this file carries both sides of that out over links, and
tells Links who was proven. Which link of a pair stays is decided after that (election.py).
"""

from __future__ import annotations

from collections.abc import Callable

from p2pchat.core.context import Context
from p2pchat.core.effects import Counted, Send
from p2pchat.core.hosted import Network
from p2pchat.core.inputs import Accepted, Dialled
from p2pchat.core.mesh.dialer import Dialing
from p2pchat.core.mesh.handshake import NONCE_BYTES, ClientSide, ServerSide
from p2pchat.core.mesh.link import NOT_THE_ONE_KNOWN, REFUSALS, Link
from p2pchat.errors import HandshakeError
from p2pchat.protocol import Bye, Frame, PeerId, Unknown


class Proving:
    """Connections whose far end is a stranger still.

    Args:
        is_welcome: Says whether there is room for a link with this peer.
        proved: Is told of a link whose far end is known, and a member.
        end: Ends a link, as Links does.
    """

    def __init__(
        self, ctx: Context, network: Network, sign: Callable[[bytes], bytes], dialing: Dialing,
        *, is_welcome: Callable[[PeerId], bool], proved: Callable[[Link], None], end: Callable[..., None],
    ) -> None:  # fmt: skip
        self._ctx = ctx
        self._network = network
        self._sign = sign
        self._dialing = dialing
        self._is_welcome = is_welcome
        self._proved = proved
        self._end = end

    def accepted(self, input: Accepted) -> Link:
        """Begin with a stranger who connected: this side speaks first."""
        server = ServerSide(self._ctx.me, self._network, self._ctx.draw(NONCE_BYTES))
        link = Link(input.link, input.host, server)
        self.expect(link, max(0.0, self._ctx.settings.handshake_timeout - input.took))
        self._ctx.emit(Send(server.opening(), [link.id]))
        return link

    def dialled(self, input: Dialled) -> Link | None:
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
        link = Link(input.link, input.host, client, target.endpoint, input.dial)
        self.expect(link, self._ctx.settings.handshake_timeout)
        return link

    def _refused(self, dial: int, code: str) -> None:
        self._ctx.emit(Counted(f"handshake_{code}"))
        if code == "self":
            self._dialing.is_self(dial)
        else:
            reason = NOT_THE_ONE_KNOWN if code == "identity" else REFUSALS[code]
            self._dialing.failed(dial, "refused", reason, code)

    def expect(self, link: Link, seconds: float) -> None:
        """The next step must be done within this time."""
        self.is_done(link)
        link.timer = self._ctx.after(seconds, lambda: self._took_too_long(link, seconds))

    def is_done(self, link: Link) -> None:
        """No further step is expected, for the link is up or gone."""
        if link.timer is not None:
            link.timer.cancel()
            link.timer = None

    def _took_too_long(self, link: Link, seconds: float) -> None:
        self._ctx.emit(Counted("handshake_timeout"))
        bye = Bye("error", "the handshake took too long")
        self._end(link, "timeout", bye, f"no answer within {seconds:.0f} s", code="no_answer")

    def got(self, link: Link, frame: Frame | Unknown) -> None:
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

    def _fail(self, link: Link, error: HandshakeError) -> None:
        self._ctx.emit(Counted(f"handshake_{error.code}"))
        is_refusal = error.code in REFUSALS
        state, code = ("refused", error.code) if is_refusal else ("trying", "failed")
        self._end(
            link, "lost", Bye(error.code, str(error)), REFUSALS.get(error.code, str(error)), state=state, code=code
        )
