"""Capture of multicast DNS: writes the payload of every packet to standard output, and `ready` to stderr.

Run on a machine of tests/processes/machines.py, it receives what any stranger on that network receives.
"""

from __future__ import annotations

import socket
import sys

ETH_P_ALL = 3
MDNS = (5353).to_bytes(2, "big")


def main() -> None:
    if sys.platform != "linux":
        raise NotImplementedError
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL)) as everything:
        print("ready", file=sys.stderr, flush=True)
        while True:
            packet = everything.recv(65536)
            start = 40 if packet[0] >> 4 == 6 else 4 * (packet[0] & 15)
            if packet[start + 2 : start + 4] == MDNS:
                sys.stdout.buffer.write(packet[start + 8 :])
                sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
