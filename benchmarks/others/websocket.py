"""websockets: a connection to each taker, TLS as p2pchat has it, without compression; nothing is kept or acknowledged.

Set up as advised: `compression=None` where speed counts more than bytes (websockets' documents, "Compression"),
`broadcast` for several connections ("Broadcasting").
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.others.ends import Taken, answer, give_rounds
from benchmarks.workers import Channel


def absent() -> str:
    """Say why this cannot be measured here."""
    return "" if find_spec("websockets") else "websockets is not installed"


@contextmanager
def server(directory: Path) -> Iterator[dict[str, Any]]:
    """Nothing stands in the middle."""
    yield {"directory": str(directory)}


async def take(channel: Channel, directory: str, number: int) -> None:
    """Worker: listen, and read whoever comes."""
    from websockets.asyncio.server import ServerConnection, serve

    from p2pchat.identity.keys import Identity
    from p2pchat.identity.tls import server_context

    taken = Taken()

    async def accepted(socket: ServerConnection) -> None:
        async for _ in socket:
            taken.add(1)

    context = server_context(Identity.generate(), Path(directory))
    async with serve(accepted, "127.0.0.1", 0, ssl=context, compression=None) as listening:
        channel.tell(port=next(iter(listening.sockets)).getsockname()[1])
        await answer(channel, taken)


async def give(channel: Channel, directory: str, takers: list[Any]) -> None:
    """Worker: the plain loop everybody writes; to several, one broadcast each."""
    import asyncio

    from websockets.asyncio.client import connect
    from websockets.asyncio.connection import broadcast

    from p2pchat.identity.tls import client_context

    context = client_context()
    sockets = [await connect(f"wss://127.0.0.1:{taker['port']}", ssl=context, compression=None) for taker in takers]

    async def many(texts: list[str]) -> None:
        if len(sockets) == 1:
            for said in texts:
                await sockets[0].send(said)
            return
        for said in texts:
            broadcast(sockets, said)
            await asyncio.sleep(0)

    channel.tell(ready=True)
    await give_rounds(channel, many)
    for socket in sockets:
        await socket.close()
