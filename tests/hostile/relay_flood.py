"""A flood of dials through an engine: `python -m tests.hostile.relay_flood URL TARGET NETWORK_KEY CONTACT RATE`.

A member dials TARGET with RATE opens a second, and hears everything on the engine, which has no permissions. Of four
dials two are as CONTACT and one is as a made-up id, all with proofs that are made up; one is with a key that is minted
for it, so it is proven. None of them goes on behind that. Each second it prints a JSON object with what came back.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from collections import Counter
from typing import Any

import nats

from p2pchat.core.names import base32
from p2pchat.identity.identity import Identity
from p2pchat.runtime.relay import dial_proof, open_piece, pair_key

TICK = 0.01  # seconds; what is due since the last one is sent at once
PRINT_EVERY = 1.0  # seconds


class Flood:
    """The dials, and the answers to them."""

    def __init__(self, client: Any, target: str, network_key: bytes, contact: str) -> None:
        self._client = client
        self._target, self._key, self._contact = target, network_key, contact
        self._at = f"p2pchat.at.{base32(target).lower()}"
        self._minted: dict[str, Identity] = {}  # by the subject of a dial
        self._run = secrets.token_hex(8)
        self.counts: Counter[str] = Counter()

    async def dial(self) -> None:
        number = self.counts["dials"]
        self.counts["dials"] += 1
        identity = Identity.generate() if number % 4 == 3 else None
        made_up = secrets.token_hex(32)
        id = identity.peer_id if identity is not None else made_up if number % 4 == 2 else self._contact
        reply = f"p2pchat.pipe.{base32(id).lower()}.{self._run}.{secrets.token_hex(16)}"
        if identity is not None:
            self._minted[reply] = identity
        await self._client.publish(self._at, open_piece(self._key, self._target, reply), reply=reply)

    async def on_answer(self, message: Any) -> None:
        if f".{self._run}." not in message.subject:
            return
        kind = message.data[:1]
        self.counts[kind.decode()] += 1
        if kind == b"C":
            identity, challenge = self._minted.pop(message.subject, None), message.data[1:]
            if identity is None:
                proof = secrets.token_bytes(32)
            else:
                pair = pair_key(self._key, identity.agree(self._target))
                proof = dial_proof(pair, self._target, challenge, message.subject)
            await self._client.publish(self._at, b"P" + challenge + proof, reply=message.subject)


async def main(url: str, target: str, network_key: str, contact: str, rate: str) -> None:
    client = await nats.connect(url)
    flood = Flood(client, target, bytes.fromhex(network_key), contact)
    await client.subscribe("p2pchat.pipe.>", cb=flood.on_answer)
    began = printed_at = time.monotonic()
    while True:
        now = time.monotonic()
        while flood.counts["dials"] < (now - began) * float(rate):
            await flood.dial()
        if now - printed_at >= PRINT_EVERY:
            printed_at = now
            print(json.dumps(flood.counts), flush=True)
        await asyncio.sleep(TICK)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
