"""Connections of strangers to the port of a member, two members who chat meanwhile, and the memory of a process."""

from __future__ import annotations

import asyncio
import re
import ssl
from pathlib import Path

from p2pchat.protocol import Frame, encode
from p2pchat.testing.process_mesh import Child
from tests.deadlines import WAIT
from tests.processes.peers import Cluster


class Stranger:
    """A connection to a member that sends bytes and frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port: int, context: ssl.SSLContext | None = None) -> Stranger:
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=context))

    async def over(self) -> None:
        """Wait until the far end has closed the connection; ignore its frames."""
        try:
            while await self.reader.read(65536):
                pass
        except (OSError, ssl.SSLError):
            pass

    def say(self, *what: bytes | Frame) -> None:
        for one in what:
            self.writer.write(one if isinstance(one, bytes) else encode(one))

    def gone(self) -> None:
        self.writer.transport.abort()


async def two_members(cluster: Cluster) -> tuple[Child, Child]:
    ada = cluster.child("ada")
    await ada.start()
    bob = cluster.child("bob", ada.endpoint)
    await bob.start()
    await ada.event("joined", user="bob")
    await bob.event("joined", user="ada")
    await chat(ada, bob, "before all")
    return ada, bob


async def chat(ada: Child, bob: Child, what: str, within: float = WAIT) -> None:
    """Send a line each way, and check that both are delivered within `within` seconds."""
    for one, other in ((ada, bob), (bob, ada)):
        text = f"{what}, says {one.name}"
        await one.do(do="send", text=text)
        await other.event("message", within, text=text)
        sent = await one.event("sent", within, text=text)
        await one.event("delivered", within, id=sent["id"])


def memory(child: Child, what: str) -> int:
    """Return VmRSS or VmHWM in bytes; 0 where there is no /proc."""
    try:
        status = Path(f"/proc/{child.process.pid}/status").read_text("utf-8")
    except OSError:
        return 0
    found = re.search(rf"^{what}:\s*(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
