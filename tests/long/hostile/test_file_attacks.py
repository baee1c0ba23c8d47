"""Long tests of `tests/hostile/test_file_attacks.py`."""

from __future__ import annotations

import asyncio

from p2pchat import FileArrived
from p2pchat import protocol as wire
from p2pchat.core.content import content_requests
from p2pchat.core.log import Entry, FileRef, encode_entry
from p2pchat.settings import Settings
from tests.deadlines import within
from tests.hostile.attacker import NOW
from tests.hostile.conftest import Meet

FILES_OF_ONE = 10  # files of one message
BATCH = 50  # messages, which stay below the bytes of a batch

OFFERS = 100_000  # six times what may wait of one member


async def test_a_flood_of_offers_stops_neither_the_chat_nor_the_files_of_others(meet: Meet) -> None:
    honest = await meet()
    eve = await honest.eve()
    eve.say(wire.Peers(can=["files"]))
    log = eve.pen(eve.identity, eve.room)
    numbers = iter(range(OFFERS))

    def batch() -> bytes:
        first, raws = log.seq, []
        for seq in range(first + 1, first + BATCH + 1):
            files = tuple(FileRef("", 1, "", f"{next(numbers):064x}") for _ in range(FILES_OF_ONE))
            raws.append(encode_entry(Entry("text", NOW + seq, NOW + seq, b="", files=files)))
        return wire.encode(log.write(*raws))

    async def flood() -> None:
        assert (
            await eve.flood(batch() for _ in range(OFFERS // FILES_OF_ONE // BATCH)) == OFFERS // FILES_OF_ONE // BATCH
        )

    await honest.while_chatting(flood())
    assert not eve.over
    arrived = asyncio.create_task(honest.ada.wait_for(FileArrived))  # it comes by itself
    await asyncio.sleep(0)  # the task starts
    await honest.bob.send(honest.bob.room, "mine", files=[("mine", b"of bob")])
    async with within(60, "the file of another member"):
        assert (await arrived).name == "mine"
    requests = honest.ada._driver.node.replicator.transfers.requests
    assert len(requests.open) <= 2 * Settings().member_bytes // content_requests.LEAST_CHARGE  # and bob
