"""A node with checks of its output: valid frames, and stored entries that their writers signed."""

from __future__ import annotations

from time import thread_time

from p2pchat.core import effects as out
from p2pchat.core.durable_changes import WantStart
from p2pchat.core.inputs import CommitFailed, Input, Loaded
from p2pchat.core.log import extend_chain, first_chain, head_message, verify
from p2pchat.protocol import MAX_FRAME_BYTES, Decoder, Frame, encode
from p2pchat.settings import Settings
from p2pchat.storage.temporary_storage import TemporaryStorage
from tests.core.scripted_nodes import IDS, Peer, World
from tests.fuzz.member_frames import WHO
from tests.fuzz.target import hold

SLOW = 2.0  # seconds of this thread's CPU for one input: 100 times the slowest


class CheckedNode(Peer):
    """A node whose effects are all checked."""

    def __init__(self, world: World, name: str, settings: Settings) -> None:
        self.sent = 0
        super().__init__(world, name, TemporaryStorage(), settings)
        world.peers.append(self)

    def put(self, input: Input) -> None:
        begun = thread_time()
        super().put(input)
        hold(thread_time() - begun < SLOW, f"one {type(input).__name__} took {thread_time() - begun:.1f} s")

    def fail(self) -> None:
        """Let storage lose everything in flight, and work again."""
        self.held.clear()
        self.put(CommitFailed(self.node.storage.epoch, "it broke"))
        self.put(Loaded(self.storage.load([self.id])))

    def _dial(self, order: out.Dial) -> None:
        hold(order.endpoint.isprintable(), "a dial to what is not an endpoint")

    def _one(self, effect: out.Effect) -> None:
        if isinstance(effect, out.Send):
            self.sent += 1
            fit(effect.frame)
        elif isinstance(effect, out.Close) and effect.bye is not None:
            fit(effect.bye)
        super()._one(effect)

    def _line(self, effect: out.Effect) -> str:
        return ""

    def judge(self, bytes_in: int) -> None:
        """Check that everything stored and shown was signed by its writer, and that waiting entries are bounded."""
        shown = self.storage.places(0, 100_000)
        for one in shown:
            log = one.log
            hold(log.user in (IDS[name] for name in ("ada", *WHO)), "a writer whom nobody knows")
        for holding in self.storage.stored_conversations():
            for user in holding.writers:
                self._judge_log(holding.conversation.id, user)
        timers = len(self.node._ctx.timers._heap)
        hold(timers < 200 + bytes_in // 10, f"{timers} timers after {bytes_in} bytes")

    def _judge_log(self, talk: str, user: str) -> None:
        batches, more = self.storage.fetch(talk, user, WantStart(()), batches=1000)
        hold(more is None, "more than a thousand batches")
        chains: dict[str, bytes] = {}
        for batch in batches:
            prev = chains.get(batch.log.run) or first_chain(batch.header)
            chain = chains[batch.log.run] = extend_chain(prev, batch.raws)
            message = head_message(batch.log, batch.last, chain)
            hold(prev == batch.prev and verify(user, batch.head, message), "kept, and its writer never signed it")


def fit(frame: Frame) -> None:
    """Check that a frame can be encoded, and that its receiver accepts it."""
    decoder = Decoder(max_frame_bytes=MAX_FRAME_BYTES)
    decoder.feed(encode(frame))
    hold(decoder.fault is None, f"a frame was sent that no one may send: {decoder.fault}")
