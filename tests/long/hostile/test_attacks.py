"""Long tests of `tests/hostile/test_attacks.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from p2pchat import protocol as wire
from tests.hostile.attacker import Attacker
from tests.hostile.conftest import QUICK, Honest, Meet
from tests.hostile.test_attacks import key

IN_ONE_READ = 256 * 1024 // 16 + 500  # the smallest frames that fit into one read, plus the burst
Flood = Callable[[Attacker, Honest], wire.Frame | bytes]
FLOODS: dict[str, Flood] = {
    "ping": lambda eve, honest: wire.Ping(),
    "unknown": lambda eve, honest: wire.LENGTH.pack(13) + b'{"t":"later"}',
    "peers": lambda eve, honest: wire.Peers(linked=["0f" * 32]),
    "here": lambda eve, honest: wire.Here([wire.Hosted(eve.id, "eve", "online")]),
    "digest": lambda eve, honest: wire.Digest(sum="0" * 64),
    "want": lambda eve, honest: wire.Want(1, eve.room, key(honest.bob), []),
    "typing": lambda eve, honest: wire.TypingFrame(eve.room, eve.id, True),
    "read": lambda eve, honest: wire.ReadFrame({eve.room: {eve.id: []}}),
}


async def test_floods_are_read_at_100_frames_a_second(meet: Meet) -> None:
    honest = await meet()
    for number, (kind, make) in enumerate(FLOODS.items()):
        eve = await honest.eve(f"eve with {kind}")
        frame = make(eve, honest)
        async with asyncio.TaskGroup() as others:
            flood = others.create_task(eve.flood(frame for _ in range(20_000)))
            while honest.ada.counted.get("flood", 0) <= number:
                await honest.chat()
            await honest.chat()
            flood.cancel()
        assert len(eve.frames) < IN_ONE_READ, kind
        await eve.disconnect()


async def test_a_flood_of_marks_and_batches_does_not_starve_others(meet: Meet) -> None:
    honest = await meet()
    eve = await honest.eve()
    pen = eve.pen(eve.identity, eve.room)
    batches = [pen.say(*["x"] * 256) for _ in range(200)]
    have = wire.Have({eve.room: {eve.id: [pen.mark], key(honest.bob): []}})

    async def flood() -> None:
        for n in range(10):
            await eve.flood([have] * 500)
            await eve.flood(batches[20 * n : 20 * n + 20])
            await eve.flood([batches[0]] * 20)  # repeatedly
        await eve.until(lambda: eve.marks(eve.id) == [pen.mark])

    await honest.while_chatting(flood())


async def test_half_a_frame_and_silence_is_a_dead_link(meet: Meet) -> None:
    honest = await meet(settings=replace(QUICK, ping_after=0.3, dead_after=2.0))
    eve = await honest.eve()
    eve.say(wire.LENGTH.pack(100_000) + b'{"t":"entries","c":"')
    assert await honest.while_chatting(eve.wait_closed()) == ""
    assert [frame for frame in eve.frames if isinstance(frame, wire.Ping)]


async def test_a_link_that_wants_everything_and_reads_nothing_is_cut_off(meet: Meet) -> None:
    honest = await meet(settings=replace(QUICK, stuck_after=1.0, buffer_limit_bytes=256 * 1024))
    await honest.ada.send_many("room", ["x" * 30_000] * 500)
    eve = await honest.eve()
    eve.read_nothing()
    eve.say(wire.Want(1, eve.room, key(honest.ada), []))
    links = honest.ada._driver.node.links.by_peer
    clients = honest.ada._driver.connections._clients

    async def cut() -> int:
        most = 0
        while eve.id in links:
            most = max(
                most,
                *(client._written_bytes and client._transport.get_write_buffer_size() for client in clients.values()),
            )
            await asyncio.sleep(0.02)  # poll: no event reports the size of a buffer
        return most

    async with asyncio.timeout(60):
        assert 0 < await honest.while_chatting(cut()) < 3 * 1024 * 1024  # of 15 MB
