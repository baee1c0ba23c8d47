"""Floods of dials through a real nats-server, while a contact and a newcomer dial the same peer."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from p2pchat import TCPPeer
from p2pchat.core.mesh.addressbook import relay_peer
from tests.conftest import Tell
from tests.deadlines import ROOT, WAIT, until, within
from tests.nats import NatsServer, engine

RATE = 1000  # dials a second
FLOODED_FOR = 3  # seconds before the others dial: all places and rates are used up


@asynccontextmanager
async def flooded(server: NatsServer, target: TCPPeer, contact: str) -> AsyncIterator[dict[str, int]]:
    """Flood a peer from another process; yields the counts that it prints."""
    network = target._lifecycle.require_resources().network
    id = relay_peer(target.endpoint.rpartition(":")[0])
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.hostile.relay_flood", server.url, id, network.key, contact, str(RATE),
        stdout=asyncio.subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    counts: dict[str, int] = {}

    async def read() -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            counts.update(json.loads(line))

    reading = asyncio.create_task(read())
    try:
        await until(lambda: counts.get("dials", 0) >= FLOODED_FOR * RATE, "the flood")
        yield counts
        assert process.returncode is None
    finally:
        process.kill()
        await process.wait()
        await reading


def accepted(peer: TCPPeer) -> set[str]:
    """Return the peers that dialled this one and are linked."""
    node = peer._lifecycle.running_node
    return set() if node is None else {link.peer for link in node.links.up.values() if not link.dialled}


@pytest.mark.weekly
async def test_a_flood_of_dials_keeps_neither_a_contact_nor_a_newcomer_out(
    engine: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tell: Tell
) -> None:
    """Before: a thousand opens a second under made-up ids kept all others out for as long as they came."""
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path / "home"))
    async with TCPPeer(0, name="ada", data=tmp_path / "ada", engine=engine.url, listen=False) as ada:
        async with TCPPeer(0, name="bob", data=tmp_path / "bob") as bob:  # ada learns no relayed endpoint of him
            await ada.connect(bob.endpoint)
            await ada.wait_user("bob", timeout=WAIT)
            async with within(WAIT, "a delivery"):
                await (await ada.send("bob", "now you are a contact")).delivered()
            contact = bob.me.key
        async with flooded(engine, ada, contact):
            began = time.monotonic()
            bob = TCPPeer(0, ada.endpoint, name="bob", data=tmp_path / "bob", engine=engine.url, listen=False)
            async with bob:
                await until(lambda: contact in accepted(ada), "the contact")
                took = time.monotonic() - began
                eve = TCPPeer(0, ada.endpoint, name="eve", data=tmp_path / "eve", engine=engine.url, listen=False)
                began = time.monotonic()
                async with eve:
                    await until(lambda: eve.me.key in accepted(ada), "the newcomer")
                    async with within(WAIT, "a delivery"):
                        await (await bob.send(ada.me, "beside a flood")).delivered()
                    tell(
                        f"beside {RATE} dials a second a contact was linked after {took:.2f} s, "
                        f"a newcomer after {time.monotonic() - began:.2f} s"
                    )


__all__ = ["engine"]
