"""What a turn writes: one write for each link, whatever it was sent."""

from __future__ import annotations

from p2pchat.core.effects import Send
from p2pchat.protocol import Bye, Ping, Pong, encode
from p2pchat.runtime.driver import OutgoingFrames

PING, PONG = encode(Ping()), encode(Pong())


def written(outgoing: OutgoingFrames) -> list[tuple[int, bytes]]:
    writes: list[tuple[int, bytes]] = []
    outgoing.flush(lambda link, data: writes.append((link, data)))
    return writes


def test_each_link_gets_one_write_of_all_its_frames_in_their_order() -> None:
    outgoing = OutgoingFrames()
    outgoing.send(Send(Ping(), [1, 2]))
    outgoing.send(Send(Pong(), [2]))
    assert outgoing.size_bytes == len(PING) + len(PONG)
    assert [outgoing.waiting_bytes(link) for link in (1, 2, 3)] == [len(PING), len(PING) + len(PONG), 0]
    assert written(outgoing) == [(1, PING), (2, PING + PONG)]
    assert (outgoing.size_bytes, outgoing.waiting_bytes(2), written(outgoing)) == (0, 0, [])


def test_what_was_taken_for_a_link_that_ends_is_not_written_again() -> None:
    outgoing = OutgoingFrames()
    outgoing.send(Send(Bye("left"), [1, 2]))
    assert outgoing.take(1) == encode(Bye("left"))
    assert outgoing.take(1) == b""
    assert [link for link, _ in written(outgoing)] == [2]
