"""Ports that nothing listens on, for processes and addresses of a test.

On Linux a port that was given stays bound by the tests: who listens there sets SO_REUSEADDR, as all servers do, and is
let in, a dial is refused while nobody listens, and another run of the tests on this machine takes another port.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
import sys
from collections import deque

from p2pchat.testing.process_mesh import HIGHEST_PORT, LOWEST_PORT

# Each process of a run has a part of them, and gives none twice before it has given all: a port that was given but is
# not listened on yet could be given to another test meanwhile.
_process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_count = (HIGHEST_PORT + 1 - LOWEST_PORT) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_first = LOWEST_PORT + _process * _count
_held: deque[int] = deque()  # the descriptors of bound sockets
_MOST_HELD = 500  # a run gives some 450; one that lasts for hours gives more than there are
_ports = itertools.cycle(random.sample(range(_first, _first + _count), _count))


def free_ports(count: int) -> list[str]:
    """Return different ports of 127.0.0.1, in digits. No system gives one of them to somebody else meanwhile."""
    found: list[str] = []
    while len(found) < count:
        port = next(_ports)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            if sys.platform == "linux":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # now, so that it did not share the port
                _held.append(probe.detach())
        if len(_held) > _MOST_HELD:
            os.close(_held.popleft())
        found.append(str(port))
    return found
