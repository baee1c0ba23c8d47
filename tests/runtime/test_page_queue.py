"""Pages read for links: one at a time, and a bounded amount for a link that reads nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from p2pchat import TCPPeer
from p2pchat.core.durable_changes import WantStart
from p2pchat.core.effects import Fetch
from p2pchat.core.inputs import Got, LinkDrained, LinkFilled
from p2pchat.protocol import Want
from p2pchat.runtime.driver import PageQueue
from p2pchat.settings import KIB, Settings
from p2pchat.testing import mesh
from p2pchat.testing.meshes import QUICK
from tests.deadlines import until

LIMIT = 256 * KIB
SMALL = replace(QUICK, buffer_limit_bytes=LIMIT)
PAGE = Settings().fetch_batches * Settings().max_batch_bytes
OVERHEAD = 16 * KIB  # of TLS, and of frames around their entries


def page(link: int, ticket: int, *, first: bool = False) -> Fetch:
    return Fetch(link, ticket, "c" * 64, "a" * 64, WantStart((), ()), Settings().fetch_batches, first)


class Reads:
    """A PageQueue, the pages it has begun to read (link, ticket), and the links without room."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, int]] = []
        self.stuffed: set[int] = set()
        self.fetching = PageQueue(
            lambda effect: self.begun.append((effect.link, effect.ticket)), lambda link: link not in self.stuffed
        )


def test_pages_are_read_in_turn_per_link_and_concurrently_between_links() -> None:
    reads = Reads()
    for effect in (page(1, 1), page(1, 2), page(2, 3), page(1, 4)):
        reads.fetching.add(effect)
    assert reads.begun == [(1, 1), (2, 3)]
    reads.fetching.on_answered(1)
    reads.fetching.on_answered(1)
    assert reads.begun[2:] == [(1, 2), (1, 4)]


def test_pages_that_go_first_wait_for_no_others_but_the_one_that_is_being_read() -> None:
    reads = Reads()
    for effect in (page(1, 1), page(1, 2), page(1, 3, first=True), page(1, 4), page(1, 5, first=True)):
        reads.fetching.add(effect)
    for _ in range(4):
        reads.fetching.on_answered(1)
    assert [ticket for _, ticket in reads.begun] == [1, 3, 5, 2, 4]
    reads.fetching.add(page(1, 6))
    reads.fetching.add(page(1, 7, first=True))
    assert [effect.ticket for effect in reads.fetching.remove(1)] == [7, 6]


def test_nothing_is_read_for_a_link_without_room_until_it_has_some() -> None:
    reads = Reads()
    reads.stuffed = {1}
    reads.fetching.add(page(1, 1))
    reads.fetching.resume()
    assert reads.begun == []
    reads.stuffed.clear()
    reads.fetching.resume()
    assert reads.begun == [(1, 1)]


def test_unread_pages_of_an_ended_link_are_returned() -> None:
    reads = Reads()
    reads.fetching.add(page(1, 1))
    reads.fetching.add(page(1, 2))
    assert reads.fetching.remove(1) == [page(1, 2)]
    reads.fetching.on_answered(1)
    assert (reads.begun, reads.fetching.remove(1)) == ([(1, 1)], [])


def stop_reading(peer: TCPPeer) -> None:
    """Stop reading all links."""
    assert peer._driver is not None
    for client in peer._driver.connections._clients.values():
        client._transport.pause_reading()


def buffered(peer: TCPPeer) -> int:
    """Return the bytes that a peer's one link holds in memory."""
    assert peer._driver is not None
    (client,) = peer._driver.connections._clients.values()
    return client.buffered


async def turns(count: int) -> None:
    """Let the loop turn until everything is written that needs no reader."""
    for _ in range(count):
        await asyncio.sleep(0)  # transports have no event for written bytes


async def test_many_texts_at_once_fill_a_stopped_link_by_one_page_at_most() -> None:
    """With storage in memory all texts of a turn are stored in it, before the link can report that it is full."""
    async with mesh("ada", "bob", settings=SMALL) as net:
        ada, bob = net.peers
        await net.settle()
        stop_reading(bob)
        for _ in range(5):
            await ada.send_many("room", ["x" * 30_000] * 500)
        await turns(100)
        assert LIMIT < buffered(ada) < LIMIT + PAGE + OVERHEAD


async def test_a_peer_that_wants_many_logs_and_reads_nothing_gets_one_page_too_many() -> None:
    async with mesh("ada", "bob", settings=SMALL) as net:
        ada, bob = net.peers
        for n in range(8):
            user = await ada.host(f"guest {n}") if n else ada
            await user.send_many("room", ["x" * 30_000] * 60)
        await net.settle()
        stop_reading(bob)
        driver = ada._driver
        assert driver is not None
        (link,) = driver.node.links.up
        room = driver.node.room
        wants = [Want(n, room, user, []) for n, user in enumerate(driver.node.hosted, 1)]
        driver.put(Got(link, [*wants]))
        await until(lambda: buffered(ada) > LIMIT, "more than the limit")
        await turns(100)
        assert LIMIT < buffered(ada) < LIMIT + PAGE + OVERHEAD


async def test_a_link_that_is_full_again_before_the_core_heard_it_had_drained_stays_full() -> None:
    async with mesh("ada", "bob", settings=SMALL) as net:
        ada, bob = net.peers
        await net.settle()
        stop_reading(bob)
        driver = ada._driver
        assert driver is not None
        (link,) = driver.node.links.up.values()
        await ada.send_many("room", ["x" * 30_000] * 30)
        await until(lambda: link.full, "a full link")
        driver.put(LinkDrained(link.id))  # true when reported, no longer true when handled
        driver.put(LinkFilled(link.id))
        await turns(3)
        assert link.full
