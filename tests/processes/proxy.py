"""A disturbed network between two peers: a TCP proxy that swallows or holds one direction, and cuts."""

from __future__ import annotations

import asyncio

READ_BYTES = 65536


class Proxy:
    """Forwards bytes between connecting peers and one port.

    Attributes:
        deaf: Bytes from the listening side are swallowed; the system still acknowledges them.
        dumb: Bytes from the dialling side are swallowed.
        swallowed: The number of swallowed bytes.
        recorded: The bytes forwarded in each direction (True: back to the dialling side), if it records.
        left: For each direction listed here, the number of bytes forwarded before everything is cut.
        ran_out: Set when this cut has happened.

    Args:
        slow: Seconds for each READ_BYTES, in each direction.
    """

    def __init__(self, *, records: bool = False, slow: float = 0.0) -> None:
        self._slow = slow
        self.deaf = self.dumb = False
        self.swallowed = 0
        self.recorded = {True: bytearray(), False: bytearray()} if records else None
        self.left: dict[bool, int] = {}
        self.ran_out = asyncio.Event()
        self._streams: list[asyncio.StreamWriter] = []
        self._pumps: set[asyncio.Task[None]] = set()
        self._gates = {True: asyncio.Event(), False: asyncio.Event()}
        for gate in self._gates.values():
            gate.set()

    async def listen(self) -> str:
        """Listen; return the endpoint. Connections are forwarded once to() was called."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def to(self, host: str, port: int) -> None:
        self._there = host, port

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            onward_reader, onward_writer = await asyncio.open_connection(*self._there)
        except OSError:
            writer.transport.abort()
            return
        self._streams += [writer, onward_writer]
        for source, sink, back in ((reader, onward_writer, False), (onward_reader, writer, True)):
            task = asyncio.create_task(self._pump(source, sink, back))
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, back: bool) -> None:
        try:
            while data := await source.read(READ_BYTES):
                await self._gates[back].wait()
                await asyncio.sleep(self._slow * len(data) / READ_BYTES)  # the pace of a slow network
                if self.deaf if back else self.dumb:
                    self.swallowed += len(data)
                elif not await self._pass_on(data, sink, back):
                    break
        except OSError:
            pass
        finally:
            sink.transport.abort()

    async def _pass_on(self, data: bytes, sink: asyncio.StreamWriter, back: bool) -> bool:
        """Forward bytes; return False when the last allowed byte is out, and everything is cut."""
        left = self.left.get(back, len(data) + 1)
        if self.recorded is not None:
            self.recorded[back] += data[:left]
        sink.write(data[:left])
        await sink.drain()
        if len(data) >= left:
            self.cut()
            self.ran_out.set()
            return False
        if back in self.left:
            self.left[back] -= len(data)
        return True

    def hold(self, *, back: bool) -> None:
        """Forward nothing in one direction until the cut; the sender's window fills up."""
        self._gates[back].clear()

    def cut(self) -> None:
        """Reset every connection on both sides; later connections get through."""
        self.deaf = self.dumb = False
        self.left = {}
        streams, self._streams = self._streams, []
        for writer in streams:
            writer.transport.abort()
        for gate in self._gates.values():
            gate.set()

    async def close(self) -> None:
        self._server.close()
        self.cut()
        while self._pumps:
            await asyncio.wait(self._pumps)
