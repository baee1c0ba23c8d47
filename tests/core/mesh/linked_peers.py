"""Two or more Links state machines connected back to back, for step-by-step tests of links.

A Post is one peer's Links with a listener that records events. A Meeting executes the effects of two posts until there
are none left. Time does not pass unless a test moves it.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256, shake_256
from heapq import heappop

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pchat.core.contacts import Blocks, Contacts
from p2pchat.core.durable_changes import Address
from p2pchat.core.effects import Close, Dial, Effect, LinkChanged, Send, WakeAt
from p2pchat.core.inputs import Connect, Input, LinkAccepted, LinkDialled, LinkDown
from p2pchat.core.members.admission import Admission
from p2pchat.core.members.member_directory import MemberDirectory
from p2pchat.core.members.statement import Statement
from p2pchat.core.members.statement_exchange import StatementExchange
from p2pchat.core.mesh.links import Links
from p2pchat.core.mesh.peer_exchange import make_record
from p2pchat.core.mesh.peer_link import PeerLink
from p2pchat.core.node_context import HostedIdentities, HostedIdentity, NetworkCredentials, NodeContext, Now
from p2pchat.protocol import Bye, Frame, PeerId, PeerRecord, Peers, UserId
from p2pchat.settings import Settings

N, K = "0a" * 16, "0b" * 32
START = 1_760_000_000_000_000  # UTC microseconds
HOST = "10.0.0.1"


class Key:
    """An Ed25519 key made from a name."""

    def __init__(self, name: str) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest())
        self.id: PeerId = self._key.public_key().public_bytes_raw().hex()

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


class Draws:
    """Pseudorandom bytes that are the same in every run."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._count = 0

    def __call__(self, n: int) -> bytes:
        self._count += 1
        return shake_256(f"{self._seed} {self._count}".encode()).digest(n)


def peers_in_order(*names: str) -> list[Key]:
    """Return keys in the order of their ids: in every pair the first decides."""
    return sorted((Key(name) for name in names), key=lambda key: key.id)


def record_of(key: Key, *endpoints: str, at: int = START, network: str = N) -> PeerRecord:
    """Return the record of a peer."""
    return make_record(network, key.id, key.sign, at, endpoints, None)


def told(*records: PeerRecord) -> Peers:
    """Return the frame by which a peer says that it is linked with the peers of these records."""
    return Peers(list(records), [record.id for record in records])


def admission_of(
    ctx: NodeContext,
    network: NetworkCredentials | None = None,
    up: dict[int, PeerLink] | None = None,
    statements: list[Statement] | None = None,
    share: Callable[[PeerId], UserId] | None = None,
) -> tuple[Admission, StatementExchange]:
    """Return who is admitted by these statements. `share`: at whom others count, for tests without members."""
    network = network or NetworkCredentials(N, K, is_named=True)
    said = [(one.text, one.signature) for one in statements or ()]
    exchange = StatementExchange(ctx, network)
    exchange.load(said, {})
    users = MemberDirectory(
        network.id, ctx.me, ctx.me, HostedIdentities([]), {} if up is None else up, exchange, is_named=network.is_named
    )
    users.load([], {Key(name).id: "fay" for name in ("ada", "bob")})
    if share is not None:
        users.share = share  # type: ignore[method-assign,assignment]
    admission = Admission(ctx, network, None, exchange, users, {})
    admission.load()
    return admission, exchange


class Post:
    """One peer: its Links, and all their effects."""

    def __init__(
        self,
        key: Key,
        *,
        network: NetworkCredentials | None = None,
        addresses: list[Address] | None = None,
        records: list[PeerRecord] | None = None,
        settings: Settings | None = None,
        statements: list[Statement] | None = None,
        share: Callable[[PeerId], UserId] | None = None,
    ) -> None:
        self.key = key
        self.ctx = NodeContext(settings or Settings(), key.id, Draws(key.id))
        self.network = network or NetworkCredentials(N, K, is_named=True)
        self.run = Draws(f"run {id(self)}")(8).hex()
        self.heard: list[tuple[str, PeerId, str]] = []
        self.contacts = Contacts(self.ctx, {}, lambda id, by: self.links.on_contact(id))
        up = dict[int, PeerLink]()
        admission, self.statements = admission_of(self.ctx, self.network, up, statements, share)
        self.blocks = Blocks(self.ctx, admission.users.may_be_own)
        own = HostedIdentity(key.id, "fay", key.sign)
        self.links = Links(
            self.ctx, self.network, own, self.run, addresses or [], records or [], self, self.contacts, self.blocks,
            admission, up,
        )  # fmt: skip
        self.at(0.0)

    # MeshListener
    def link_up(self, link: PeerLink) -> None:
        self.heard.append(("up", link.peer, ""))

    def link_down(self, link: PeerLink, reason: str) -> None:
        self.heard.append(("down", link.peer, reason))

    def report_unreachable(self, peer: str, by: str) -> None:
        self.heard.append(("unreachable", peer, by))

    def stays(self, user: str) -> bool:
        return True

    def forget(self, user: str) -> None:
        raise AssertionError("all stay")

    def network_found(self, n: str) -> None:
        self.heard.append(("network", "", n))

    # time and inputs
    def at(self, mono: float) -> None:
        self.ctx.now = Now(mono, START + int(mono * 1_000_000))

    def _collect(self) -> list[Effect]:
        out = [*self.ctx.out]
        self.ctx.out.clear()
        return [effect for effect in out if not isinstance(effect, WakeAt)]

    def start(self) -> list[Effect]:
        self.links.start()
        return self._collect()

    def handle(self, input: Input) -> list[Effect]:
        self.links.handlers[type(input)](input)
        return self._collect()

    def got(self, link: int, *frames: Frame) -> list[Effect]:
        self.links.on_frames(link, list(frames))
        self.links.settle(link)
        return self._collect()

    def wake(self, mono: float) -> list[Effect]:
        """Move the clock, through every deadline on the way."""
        while True:
            heap = self.ctx.timers._heap
            while heap and heap[0][2].call is None:
                heappop(heap)
            if not heap or heap[0][0] > mono:
                break
            self.at(heap[0][0])
            self.ctx.run_due()
            self.links.end_dead()
        self.at(mono)
        return self._collect()


class Meeting:
    """Two posts and their connections, which have the same number at both ends."""

    def __init__(self, a: Post, b: Post) -> None:
        self.a, self.b = a, b
        self.said: dict[PeerId, list[Effect]] = {a.key.id: [], b.key.id: []}
        self._links = 0
        self.mute = False  # True: frames get lost, as on connections that died unnoticed

    def far(self, post: Post) -> Post:
        return self.b if post is self.a else self.a

    def carry(self, post: Post, effects: list[Effect]) -> None:
        """Execute the effects of a post, and all effects that result."""
        todo = [(post, effect) for effect in effects]
        while todo:
            post, effect = todo.pop(0)
            self.said[post.key.id].append(effect)
            far = self.far(post)
            if isinstance(effect, Send) and not self.mute:
                todo += [(far, one) for link in effect.links for one in far.got(link, effect.frame)]
            elif isinstance(effect, Close) and not self.mute:
                frames = [effect.bye] if effect.bye else []
                todo += [(far, one) for one in far.got(effect.link, *frames)]
                todo += [(far, one) for one in far.handle(LinkDown(effect.link, "closed"))]

    def reach(self, post: Post, dial: Dial, *, host: str = HOST) -> int:
        """Let a dial reach the other post; return the number of the connection."""
        self._links += 1
        far = self.far(post)
        accepted = far.handle(LinkAccepted(self._links, host))
        self.carry(post, post.handle(LinkDialled(self._links, dial.dial, far.key.id, host)))
        self.carry(far, accepted)
        return self._links

    def connect(self, post: Post, endpoint: str = "10.0.0.9:8080", *, host: str = HOST) -> int:
        """Have a user name the endpoint of the other post, and let the dial reach it."""
        (dial,) = (effect for effect in post.handle(Connect(endpoint)) if isinstance(effect, Dial))
        return self.reach(post, dial, host=host)

    def wake(self, mono: float) -> None:
        """Let time pass, second by second, and execute the effects."""
        while self.a.ctx.now.mono < mono:
            at = min(self.a.ctx.now.mono + 0.5, mono)
            for post in (self.a, self.b):
                effects = post.wake(at)
                self.far(post).at(at)
                self.carry(post, effects)

    def take(self, post: Post) -> list[Effect]:
        """Return the effects of a post since the last call."""
        taken, self.said[post.key.id] = self.said[post.key.id], []
        return taken


def link_changes(effects: list[Effect]) -> list[tuple[str, str]]:
    """Return the reported changes of links: (state, reason)."""
    return [(effect.state, effect.reason) for effect in effects if isinstance(effect, LinkChanged)]


def byes(effects: list[Effect]) -> list[Bye | None]:
    return [effect.bye for effect in effects if isinstance(effect, Close)]
