"""A whole node with storage in memory, which takes the files and frames of vectors and returns what it answers."""

from __future__ import annotations

import json
from collections import deque
from hashlib import shake_256
from typing import Any

from p2pchat.config import Settings
from p2pchat.core import effects as out
from p2pchat.core.context import HostedIdentity, NetworkCredentials, Now
from p2pchat.core.inputs import (
    Committed,
    FetchResult,
    Got,
    ImportRequest,
    Input,
    LinkAccepted,
    LookupResult,
    Woke,
)
from p2pchat.core.mesh.handshake import ClientSide
from p2pchat.core.node import Node
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
from p2pchat.storage.memory import MemoryStorage

LINK = 1
NEVER = float("inf")


class VectorNode:
    """A node of one user, in an open network. Commits and lookups are answered at once.

    Attributes:
        sent: The frames sent on its link.
        closed: The code of the `bye` that closed the link; None while it is open.
        forked: Whether a log has forked.
        imported: The answer to the last import.
    """

    def __init__(self, seed: str, network: str, now_us: int) -> None:
        self._identity = Identity.from_seed(bytes.fromhex(seed))
        self._network = NetworkCredentials(network)
        self._now = Now(1000.0, now_us)
        self._settings = Settings()
        self._storage = MemoryStorage()
        self._inputs: deque[Input] = deque()
        self._draws = 0
        self.sent: list[Frame] = []
        self.closed: str | None = None
        self.forked = False
        self._wake_at = NEVER
        self.imported: out.ImportResult | None = None
        me = self._identity.peer_id
        self._node = Node(
            settings=self._settings, peer=me, sign=self._identity.sign,
            users=[HostedIdentity(me, "me", self._identity.sign)], network=self._network, draw=self._draw,
            stored=self._storage.load([me]),
        )  # fmt: skip
        self._carry_out(self._node.start(self._now))
        self._settle()

    def _draw(self, n: int) -> bytes:
        self._draws += 1
        return shake_256(f"vector {self._draws}".encode()).digest(n)

    def hold(self, frames: list[Entries]) -> out.ImportResult:
        """Import these frames as from a file; return what became of them."""
        self._put(ImportRequest(1, frames))
        assert self.imported is not None
        return self.imported

    def link_with(self, seed: str) -> None:
        """Take a link of this peer, up to its first `here`. The node's id must be the smaller one."""
        other = Identity.from_seed(bytes.fromhex(seed))
        self._put(LinkAccepted(LINK, "192.0.2.1"))
        (opening,) = self.sent
        side = ClientSide(
            other.peer_id, other.sign, self._network, server=self._identity.peer_id, pin="", nonce=bytes(32)
        )
        hello = side.on_frame(opening)
        assert isinstance(hello, Hello) and self._identity.peer_id < other.peer_id
        self.say(hello)
        self.say(Peers(0, []), Here([Hosted(other.peer_id, "other", "online")]))

    def say(self, *frames: Frame | Unknown) -> None:
        """Let these frames come on the link, in one read."""
        self._put(Got(LINK, list(frames)))

    @property
    def names(self) -> dict[str, str]:
        """The names of users known here, by id."""
        return self._node.names

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        until = self._now.mono + seconds
        while self._wake_at <= until:
            self._move_to(self._wake_at)
            self._wake_at = NEVER
            self._put(Woke())
        self._move_to(until)

    def _move_to(self, mono: float) -> None:
        self._now = Now(mono, self._now.utc + round((mono - self._now.mono) * 1_000_000))

    def _put(self, input: Input) -> None:
        self._inputs.append(input)
        self._settle()

    def _settle(self) -> None:
        while self._inputs:
            self._carry_out(self._node.handle(self._inputs.popleft(), self._now))

    def _carry_out(self, effects: list[out.Effect]) -> None:
        for effect in effects:
            if isinstance(effect, out.Send) and LINK in effect.links:
                self.sent.append(effect.frame)
            elif isinstance(effect, out.Close):
                self.closed = effect.bye.code if effect.bye else "at once"
            elif isinstance(effect, out.ImportResult):
                self.imported = effect
            elif isinstance(effect, out.WakeAt):
                self._wake_at = effect.mono
            elif isinstance(effect, out.Commit):
                self.forked |= bool(effect.change.forks)
                self._storage.commit([effect.change])
                self._inputs.append(Committed([effect.ticket]))
            elif isinstance(effect, out.Fetch):
                batches, more = self._storage.fetch(
                    effect.conversation, effect.user, effect.start, batches=self._settings.fetch_batches
                )
                self._inputs.append(FetchResult(effect.link, effect.ticket, batches, more))
            elif isinstance(effect, out.Lookup):
                self._inputs.append(self._found(effect))

    def _found(self, asked: out.Lookup) -> LookupResult:
        logs, older = self._storage.lookup(asked.logs, asked.older)
        sizes = {whose: self._storage.size_bytes(*whose) for whose in asked.sizes}
        shown = {key: self._storage.shown_by(key) for key in asked.shown}
        every = {whose: self._storage.logs_of(*whose) for whose in asked.all_logs}
        return LookupResult(asked.ticket, logs, older, sizes, shown, every)


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
