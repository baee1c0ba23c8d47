"""A hub in place of a switch: what comes in at one cable goes out at the others some milliseconds later.

    python slow_hub.py 10 cable1 cable2

Not every kernel can delay packets by itself (netem).
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Sequence

assert sys.platform == "linux"

FRAME_BYTES = 64 * 1024


async def pass_on(seconds: float, cables: Sequence[str]) -> None:
    """Pass frames on until the process is ended."""
    loop = asyncio.get_running_loop()
    sockets = [socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3)) for _ in cables]

    def on_frame(source: socket.socket) -> None:
        frame, place = source.recvfrom(FRAME_BYTES)
        for sock in sockets if place[2] != socket.PACKET_OUTGOING else ():
            if sock is not source:
                loop.call_later(seconds, sock.send, frame)

    for sock, cable in zip(sockets, cables, strict=True):
        sock.bind((cable, 0))
        loop.add_reader(sock, on_frame, sock)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(pass_on(float(sys.argv[1]) / 1000, sys.argv[2:]))
