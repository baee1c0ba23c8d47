"""A network between two peers that a test can spoil: a TCP proxy that swallows one direction, then cuts."""

from __future__ import annotations

import asyncio


class Proxy:
    """Passes bytes between whoever connects and one port.

    Attributes:
        deaf: What the listening side says goes nowhere; the system goes on confirming it.
        dumb: What the dialling side says goes nowhere.
        swallowed: Bytes that went nowhere, ever.
    """

    def __init__(self) -> None:
        self.deaf = self.dumb = False
        self.swallowed = 0
        self._streams: list[asyncio.StreamWriter] = []
        self._pumps: set[asyncio.Task[None]] = set()

    async def listen(self) -> str:
        """Begin; return the endpoint. Connections are passed on once to() was called."""
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
            while data := await source.read(65536):
                if self.deaf if back else self.dumb:
                    self.swallowed += len(data)
                else:
                    sink.write(data)
                    await sink.drain()
        except OSError:
            pass
        finally:
            sink.transport.abort()

    def cut(self) -> None:
        """End every connection at both sides with a reset; the next ones get through."""
        self.deaf = self.dumb = False
        streams, self._streams = self._streams, []
        for writer in streams:
            writer.transport.abort()

    async def close(self) -> None:
        self._server.close()
        self.cut()
        while self._pumps:
            await asyncio.wait(self._pumps)
