"""Send one message from a script and know whether it was delivered.

python examples/send_report.py 8089 localhost:8080 ada "the backup is done"
"""

import asyncio
import sys

from p2pchat import DeliveryTimeout, Settings, TCPPeer, UnknownName


async def main(port: int, endpoint: str, to: str, text: str) -> int:
    async with TCPPeer(port, endpoint, name="report", settings=Settings(start_timeout=10)) as peer:  # seconds
        try:
            receipt = await peer.send(to, text)
            await receipt.delivered(timeout=60)
        except UnknownName as error:
            print(error, file=sys.stderr)
            return 4
        except DeliveryTimeout as late:
            print(f"stored, and not yet with {', '.join(late.missing)}: it is sent at the next start", file=sys.stderr)
            return 3
    print(f"{to} has it")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("usage: python examples/send_report.py PORT HOST:PORT NAME TEXT")
    try:
        sys.exit(asyncio.run(main(int(sys.argv[1]), *sys.argv[2:])))
    except KeyboardInterrupt:
        sys.exit(130)
