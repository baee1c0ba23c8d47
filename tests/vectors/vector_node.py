"""A whole node with storage in memory, which takes the files and frames of vectors and returns what it answers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from p2pchat.config import Settings
from p2pchat.core import effects as out
from p2pchat.core.inputs import Got, ImportRequest, LinkAccepted
from p2pchat.core.mesh.handshake import ClientSide
from p2pchat.core.node_context import NetworkCredentials, Now
from p2pchat.identity.keys import Identity
from p2pchat.protocol import (
    LENGTH,
    MAX_FRAME_BYTES,
    Decoder,
    Entries,
    Frame,
    Hello,
    Here,
    Hosted,
    Peers,
    Unknown,
    encode,
)
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
        super().__init__(
            _World(now_us), "bob", TemporaryStorage(), Settings(), identity, NetworkCredentials(network, "0b" * 32)
        )
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
        self.take_frames(hello)
        self.take_frames(Peers(0, []), Here([Hosted(other.peer_id, "other", "online")]))

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
    def forked(self) -> bool:
        """True if a log has forked since the last import."""
        return any(bool(one.change.forks) for one in self.effects if isinstance(one, out.Commit))


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
