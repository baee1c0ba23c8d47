"""Where a peer stands among others: where it is, whom it is linked with and how others get to it.

Of its users nothing: who they are is being.py, what they write local_user.py.
"""

from __future__ import annotations

from pathlib import Path

from p2pchat import __version__
from p2pchat.core.inputs import Allowed, Connect
from p2pchat.core.mesh.endpoints import join_endpoint
from p2pchat.core.records import META_TRIED, Change
from p2pchat.errors import InviteError, P2PChatError, StorageError
from p2pchat.identity.addresses import own_endpoints
from p2pchat.identity.invites import MAX_ENDPOINTS, encode_invite
from p2pchat.identity.names import base32
from p2pchat.lifecycle import Life
from p2pchat.messaging import events as ev
from p2pchat.messaging.timestamps import now_micros
from p2pchat.messaging.users import User, somebody
from p2pchat.peer.endpoints import LOOPBACK, normal
from p2pchat.peer.forgetting import Forgotten, forgetting

STATUSES = ("online", "idle", "offline")


class Standing(Life):
    """What TCPPeer is and does as a peer, whoever is its user."""

    # ------------------------------------------------------------------ who and where

    @property
    def port(self) -> int:
        """The port it listens on; the one asked for until it does."""
        return self._port or self._options.port

    @property
    def address(self) -> str:
        """The address it listens on."""
        return self._host

    @property
    def endpoint(self) -> str:
        """Where others on this machine or network find it: "host:port"."""
        return self._told_endpoints()[0] if self._told_endpoints() else join_endpoint(LOOPBACK, self.port)

    @property
    def invite(self) -> str:
        """One line that admits others to this network and says where this peer is. Whoever has it can invite.

        When it listens on all addresses, it is at every one by which this machine may be reached now.
        """
        home = self._started()
        network = self._network or home.network
        if not network.id:
            raise InviteError("this open network is known when the first peer has been met")
        places = self._told_endpoints() or own_endpoints(self._host, self._port)[:MAX_ENDPOINTS] or [self.endpoint]
        return encode_invite(home.identity.peer_id, network, places)

    @property
    def data(self) -> Path | None:
        """The data directory; None when everything is in memory."""
        return self._started().directory

    @property
    def is_open(self) -> bool:
        """Whether the network has no key."""
        return self._started().network.is_open

    @property
    def listening(self) -> ev.Listening:
        """The first event of this run."""
        home = self._started()
        return ev.Listening(
            at=self._listening_at,
            version=__version__,
            host=self._host,
            port=self._port,
            peer_id=base32(home.identity.peer_id),
            user=self.people.user(self.people.me),
            data="" if home.directory is None else str(home.directory),
            network="open" if home.network.is_open else "keyed",
        )

    @property
    def counted(self) -> dict[str, int]:
        """What the core counted in this run, for tests and diagnostics."""
        return dict(self._begun.counted)

    def links(self) -> list[str]:
        """Return the peer ids (base32) of the peers linked with now."""
        return [] if self._closed else [base32(peer) for peer in self._begun.node.links.by_peer]

    async def round_trip(self) -> None:
        """Go once through the core and onto the disk and back: returns when both have done their part.

        Raises:
            StorageError: Nothing would be accepted now, and why. PeerClosed: Not running.
            P2PChatError: The core has failed.
        """
        owner = self._running
        if owner.broken is not None:
            raise P2PChatError("p2pchat has failed inside: restart it")
        if not owner.node.accepting:
            raise StorageError("the disk is nearly full" if owner.node.keeping else "storage does not work")
        await owner.settle()
        await owner.disk.write(Change(meta={META_TRIED: str(now_micros())}))

    # ------------------------------------------------------------------ doing

    async def connect(self, endpoint: str | int, *, timeout: float | None = None) -> bool:
        """Link with a peer; tried for ever. Returns whether it was linked at the first attempt.

        Args:
            timeout: Seconds to wait for that attempt; None is Settings.start_timeout.
        Raises:
            ValueError: That is no endpoint.
        """
        owner, there = self._running, normal(endpoint)
        states, wait = self._herald.endpoints, timeout or self._options.settings.start_timeout
        states.pop(there, None)
        owner.put(Connect(there))
        try:
            await self._herald.until(lambda: there in states, wait)
        except TimeoutError:
            return False
        return states.get(there) == "up"

    async def forget(self, who: User | str | int) -> Forgotten:
        """Forget where a peer is: it is dialled no more, now or after a restart, until it is named or told of again.

        A link that is up stays until it ends.

        Args:
            who: A user, a name as typed (see find), a peer id (base32), or an endpoint: also one that `connect` was
                asked for and where nobody has answered.
        Raises:
            UnknownName, AmbiguousName: Nobody is called so, or nothing is known of that endpoint.
            ValueError: That is this peer itself, or no endpoint. StorageError: It could not be stored.
        """
        owner = self._running
        forgotten, inputs = forgetting(owner.node, self.people, who)
        for input in inputs:
            owner.put(input)
        await owner.settle()
        for endpoint in forgotten.endpoints:
            self._herald.endpoints.pop(endpoint, None)
        return forgotten

    async def allow(self, who: User | str) -> User:
        """Store whatever this user writes, however much, from now on and for good; what was refused comes.

        There is a limit to what is stored of one user (Settings.user_quota_bytes); a Warned with code "quota" comes
        before it is reached, one with code "full" when something was refused.

        Args:
            who: A user, or a name as typed (see find), or a full id, known or not. Returned is that user.
        Raises:
            UnknownName, AmbiguousName: Nobody is called so, or several. StorageError: It could not be stored.
        """
        owner, user = self._running, somebody(self.people, who)
        owner.put(Allowed(user.key))
        await owner.settle()
        return user
