"""One Discovery in its own process, for test_local.py: it prints each of its callbacks as a JSON line.

    python -m tests.discovery.member PEER KEY HOST PORT [ADVERTISE]        PEER and KEY in hex

Leaves at the end of its input, and says whether anything of it is left.
"""

from __future__ import annotations

import asyncio
import json
import sys

from p2pchat import discovery as local
from p2pchat.discovery import Discovery


def tell(what: str, *rest: object) -> None:
    print(json.dumps([what, *rest]), flush=True)


async def main(peer: str, key: str, host: str, port: str, advertise: str = "") -> None:
    local.INTERFACES_CHECKED_EVERY, local.BROWSE_AGAIN_AFTER = (
        0.2,
        1.0,
    )  # a test does not wait for people to change networks
    local.require()
    discovery = Discovery(
        peer,
        bytes.fromhex(key),
        host=host,
        port=int(port),
        advertise=advertise or None,
        on_sighted=lambda peer, at: tell("sighted", peer, sorted(at)),
        warn=lambda text: tell("warned", text),
    )
    await asyncio.to_thread(sys.stdin.read)
    await discovery.aclose()
    await asyncio.sleep(0)  # cancelled tasks end in this turn
    tell("left", len(asyncio.all_tasks()) - 1)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
