"""Cut a network in two, write on both sides, heal it: everyone ends up with the same history.

python examples/partition.py
"""

import asyncio

from p2pchat import DeliveryTimeout
from p2pchat.testing import mesh


async def main() -> None:
    async with mesh("ada", "bob", "cyd") as net:  # real peers, in memory
        ada, bob, cyd = net.peers
        net.partition([ada], [bob, cyd])
        lonely = await ada.broadcast("is anybody there?")
        await (await bob.broadcast("ada is gone")).delivered(by="cyd", timeout=60)
        try:
            await lonely.delivered(timeout=0.1)
        except DeliveryTimeout as late:
            print("not with", ", ".join(late.missing))

        net.heal()
        await lonely.delivered(timeout=60)
        await net.settle()
        for peer in net.peers:
            texts = [message.text for message in await peer.history("room")]
            print(peer.me.name, texts)


if __name__ == "__main__":
    asyncio.run(main())
