"""Where a gateway's lines go: standard output under --json, the file of --log, and under -v stderr.

They are put into a queue and written by a task, so that no reader of ours makes the gateway wait; what does not fit
is left out, and that is said.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from p2pchat.apps.cli.serving.options import WebOptions
from p2pchat.commands.errors import Failure, complain, tell
from p2pchat.commands.output import Line, Log, Output, json_line, raw_stdout
from p2pchat.safe_text import safe_line

MOST_WAITING = 10_000  # lines of some 300 bytes

# What the peer tells that nobody wrote: no texts, and none of what people say of themselves.
OPERATIONAL = ("listening", "link", "joined", "left", "warning", "error", "stopped")


class Records:
    """The lines of one run. `closed` is set when the reader of standard output has gone."""

    def __init__(self, options: WebOptions) -> None:
        self._output = Output(raw_stdout() if options.as_json else None)
        self._log = _open_log(options.log) if options.log else None
        self._verbose = options.verbose and not options.as_json
        self._lines: asyncio.Queue[Line] = asyncio.Queue(MOST_WAITING)
        self._lost = 0
        self._writing: asyncio.Task[None] | None = None
        self.closed = self._output.closed

    @property
    def failed(self) -> bool:
        """Whether the log could not be written."""
        return self._log is not None and self._log.failed

    def write(self, line: Line) -> None:
        """Have one line written, in its turn."""
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_on())
        try:
            self._lines.put_nowait(line)
        except asyncio.QueueFull:
            self._lost += 1

    async def _write_on(self) -> None:
        while True:
            line = await self._lines.get()
            try:
                await self._put(line)
            finally:
                self._lines.task_done()

    async def _put(self, line: Line) -> None:
        if self._lost:
            lost, self._lost = self._lost, 0
            complain(f"{lost} lines about this gateway were left out: whoever reads them is too slow")
        text = json_line(line)
        if self._log is not None:
            self._log.write(text)
        if self._verbose:
            tell(f"-- {safe_line(text)}")
        with suppress(Failure):  # a full disk behind standard output stops nobody's chat
            await self._output.write(text)

    async def aclose(self) -> None:
        """Write what waits, and end."""
        if self._writing is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._lines.join()
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        if self._log is not None:
            self._log.close()


def _open_log(path: str) -> Log:
    try:
        return Log(path, complain)
    except OSError as error:
        raise Failure(f"cannot write the log {path}: {error.strerror or error}") from None
