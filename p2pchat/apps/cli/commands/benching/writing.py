"""Real messages to the user at an endpoint, from a passing user of the same network, until they are delivered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter

from p2pchat import DeliveryTimeout, Probed, Receipt, Receipts, TCPPeer, User, profile_invite
from p2pchat.apps.cli.commands.benching.figure import Figure, message, rate, times
from p2pchat.commands.errors import Failure

MOST = 100_000  # messages, 30 MB there
SINGLES = 200  # at most, and a fifth of all
AT_ONCE = 1000  # texts of one send_many; two of them are out at a time
MEET_WITHIN = 10.0  # seconds
PATIENCE = 30.0  # seconds for one delivery: far more than any network needs that people chat over

Tell = Callable[[str], None]


@asynccontextmanager
async def passing(there: Probed, directory: Path, place: Path) -> AsyncIterator[tuple[TCPPeer, User]]:
    """Run a peer of the profile's network with a key of its own, in a place that is removed afterwards.

    Yields: the peer, and the user at the endpoint, who is online.
    """
    invite = profile_invite(directory, [there.endpoint], to=there.peer_id)
    async with TCPPeer(0, data=place, name="bench", invite=invite) as peer:
        try:
            user = await peer.wait_user(there.peer_id, timeout=MEET_WITHIN)
        except TimeoutError:
            raise Failure(
                f"{there.endpoint} answers, and makes no link within {MEET_WITHIN:.0f} s: try again"
            ) from None
        yield peer, user


async def writing(peer: TCPPeer, to: User, count: int, seconds: float, tell: Tell) -> list[Figure]:
    """Send so many messages in all: some one at a time, at most for so long, the others together."""
    first = f"p2pchat bench: {count - 1:,} more messages follow, which only measure the way to you"
    await _delivered(await peer.send(to, first))
    singly: list[float] = []
    until = perf_counter() + seconds
    while len(singly) < min(SINGLES, count // 5) and perf_counter() < until:
        begun = perf_counter()
        await _delivered(await peer.send(to, message(len(singly))))
        singly.append(perf_counter() - begun)
        tell(f"-- {len(singly):,} of {count:,} messages, one at a time")
    figures = [times("delivered", singly, "one at a time: safe on that disk too, and known here")] if singly else []
    left = count - 1 - len(singly)
    if left:
        begun = perf_counter()
        await _many(peer, to, left, tell)
        figures.append(
            rate("delivered_many", left, perf_counter() - begun, f"the same, {AT_ONCE:,} at once and two on the way")
        )
    return figures


async def _many(peer: TCPPeer, to: User, count: int, tell: Tell) -> None:
    batches = iter(range(0, count, AT_ONCE))

    async def write() -> None:
        receipts = None
        for first in batches:
            tell(f"-- {first:,} of {count:,} messages")
            last = min(count, first + AT_ONCE)
            receipts = await peer.send_many(to, [message(number) for number in range(first, last)])
        if receipts is not None:
            await _delivered(receipts)

    await asyncio.gather(write(), write())


async def _delivered(receipt: Receipt | Receipts) -> None:
    try:
        await receipt.delivered(timeout=PATIENCE)
    except DeliveryTimeout:
        raise Failure(
            f"a message was not delivered within {PATIENCE:.0f} s: the peer there is gone, or takes no more of bench"
        ) from None
