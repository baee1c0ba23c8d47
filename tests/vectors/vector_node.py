"""Whole nodes with storage in memory, which take the files and frames of vectors and return what they answer."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import takewhile
from typing import Any

from p2pchat.core import effects as out
from p2pchat.core.durable_changes import Change
from p2pchat.core.inputs import Connect, Got, ImportRequest, LinkAccepted, LinkDialled
from p2pchat.core.members.statement import parse_statement
from p2pchat.core.mesh.handshake import ClientSide
from p2pchat.core.node_context import Invitation, NetworkCredentials, Now
from p2pchat.identity.identity import Identity
from p2pchat.protocol import (
    LENGTH,
    MAX_FRAME_BYTES,
    Decoder,
    Entries,
    Frame,
    Go,
    Hello,
    Here,
    Hosted,
    Membership,
    Peers,
    Show,
    Unknown,
    encode,
)
from p2pchat.settings import Settings
from p2pchat.storage.temporary_storage import TemporaryStorage
from tests.core.scripted_nodes import Far, Peer, World

LINK = 1


class _World(World):
    """A clock that begins when the vectors say."""

    def __init__(self, now_us: int) -> None:
        super().__init__()
        self._now_us = now_us

    @property
    def now(self) -> Now:
        return Now(1000.0 + self.seconds, self._now_us + round(self.seconds * 1_000_000))


class VectorNode(Peer):
    """A node of one user, with at most one link."""

    def __init__(self, seed: str, network: str, now_us: int) -> None:
        self._far = Far("ada")
        identity = Identity.from_seed(bytes.fromhex(seed))
        # What is said of entries holds in any network, and everybody is admitted to a named one.
        credentials = NetworkCredentials(network, "0b" * 32, is_named=True)
        super().__init__(_World(now_us), "bob", TemporaryStorage(), Settings(), identity, credentials)
        self.world.peers.append(self)

    def _line(self, effect: out.Effect) -> str:
        return ""  # lines have names for other users only

    def hold(self, frames: list[Entries]) -> out.ImportResult:
        """Import these frames as from a file; return what became of them."""
        self.put(ImportRequest(1, frames))
        self.world.settle()
        (imported,) = [effect for effect in self.effects if isinstance(effect, out.ImportResult)]
        self.effects.clear()
        return imported

    def link_with(self, seed: str) -> None:
        """Take a link of this peer, up to its first `here`. The node's id must be the smaller one."""
        other = Identity.from_seed(bytes.fromhex(seed))
        self._far.peer, self._far.link, self.links[LINK] = self, LINK, self._far
        self.put(LinkAccepted(LINK, "192.0.2.1"))
        side = ClientSide(other.peer_id, other.sign, self.network, server=self.id, pin="", nonce=bytes(32))
        hello = side.on_frame(self._far.heard[0])
        assert isinstance(hello, Hello) and self.id < other.peer_id
        self.take_frames(hello, Show(Membership()))
        self.take_frames(Peers(), Here([Hosted(other.peer_id, "other", "online")]))

    def take_frames(
        self, *frames: Frame | Unknown, write: Iterable[str] = (), seconds: float = 0.0
    ) -> list[dict[str, Any]]:
        """Let these frames come on the link, in one read, then texts be written in the room, and time pass.

        Return the frames that were sent.
        """
        self._far.heard.clear()
        self.put(Got(LINK, list(frames)))
        for text in write:
            self.say(text, to=self.node.room)
        self.world.pass_time(seconds)
        return [encoded(frame) for frame in self._far.heard if isinstance(frame, Frame)]

    @property
    def closed(self) -> str:
        """The code of the `bye` that closed the link; "" while it is open."""
        return next((one.bye.code for one in self.effects if isinstance(one, out.Close) and one.bye), "")

    @property
    def has_refuted(self) -> bool:
        """True if what the other end passed on was false."""
        return self.counted["refuted_head"] > 0

    @property
    def forked(self) -> bool:
        """True if a log has forked since the last import."""
        return any(bool(one.change.forks) for one in self.effects if isinstance(one, out.Commit))


class HandshakeNode(Peer):
    """A node with one connection, up to its `go`."""

    def __init__(self, given: dict[str, Any], now_us: int, invites_key: str) -> None:
        self._nonce = bytes.fromhex(given["nonce"])
        self._far = Far("other")
        self._dials: list[int] = []
        network = NetworkCredentials(given["network"], given["key"], given.get("founder", ""))
        network.is_named, network.invites_key = given.get("named", False), bytes.fromhex(invites_key)
        if "member" in given:
            member = Identity.from_seed(bytes.fromhex(given["member"]))
            network.member, network.sign = member.peer_id, member.sign
        if "invite" in given:
            terms = given["invite"]
            network.invitation = Invitation(**(terms | {"secret": bytes.fromhex(terms["secret"])}))
        held = [
            parse_statement(network.id, text, bytes.fromhex(signature))
            for text, signature in given.get("statements", ())
        ]
        storage = TemporaryStorage()
        storage.commit([Change(statements=held)])
        identity = Identity.from_seed(bytes.fromhex(given["seed"]))
        super().__init__(_World(now_us), "ada", storage, Settings(), identity, network)
        self.world.peers.append(self)
        self._far.peer, self._far.link, self.links[LINK] = self, LINK, self._far
        if given["side"] == "listener":
            self.put(LinkAccepted(LINK, "192.0.2.1"))
        else:
            self.put(Connect("192.0.2.1:8080", given.get("pin", "")))
            self.put(LinkDialled(LINK, self._dials[0], given["server"], "192.0.2.1"))

    def _draw(self, n: int) -> bytes:
        return self._nonce if n == len(self._nonce) else super()._draw(n)

    def _dial(self, order: out.Dial) -> None:
        self._dials.append(order.dial)

    def _line(self, effect: out.Effect) -> str:
        return ""

    def take_frame(self, frame: Frame) -> None:
        self.put(Got(LINK, [frame]))
        self.world.settle()

    @property
    def sent(self) -> list[dict[str, Any]]:
        """What it sent, up to its `go`."""
        frames = [frame for frame in self._far.heard if isinstance(frame, Frame)]
        return [encoded(frame) for frame in takewhile(lambda frame: not isinstance(frame, Go), frames)]

    @property
    def refused(self) -> str:
        """The code with which it closed the connection; "" while it is open."""
        closed = next((one for one in self.effects if isinstance(one, out.Close)), None)
        if closed is None or closed.bye is not None:
            return closed.bye.code if closed is not None and closed.bye is not None else ""
        return next((what.removeprefix("handshake_") for what in self.counted if what.startswith("handshake_")), "")


def decoded(frame: dict[str, Any]) -> Any:
    """Return a frame of a vector as it arrives over the wire."""
    payload = json.dumps(frame).encode()
    decoder = Decoder(max_frame_bytes=MAX_FRAME_BYTES)
    found = decoder.feed(LENGTH.pack(len(payload)) + payload)
    assert decoder.fault is None, decoder.fault
    return found[0]


def encoded(frame: Frame) -> dict[str, Any]:
    """Return a frame as the JSON object that goes over the wire."""
    value: dict[str, Any] = json.loads(encode(frame)[4:])
    return value
