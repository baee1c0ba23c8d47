"""The front end of pipes and programs, and of `--plain`: lines in, lines out, nothing is ever drawn over."""

from __future__ import annotations

import asyncio

from p2pchat import TCPPeer
from p2pchat.apps.cli.chat.options import ChatOptions
from p2pchat.cli.chat.endpoint_status import Endpoints
from p2pchat.cli.chat.shutdown import Leaving
from p2pchat.cli.stdin import Kind, Lines, raw_stdin
from p2pchat.commands.display import Show
from p2pchat.commands.output import Log, Output, raw_stdout
from p2pchat.commands.session import Session

ENDPOINTS_WAIT = 10.0  # seconds in which endpoints may answer before piped input is read
REFUSED_GRACE = 1.0  # seconds in which a peer from the address book may still be found when all endpoints refuse
TERMINAL_DRAIN = 1.0  # seconds somebody who typed /quit is kept waiting for those who are here


class Streams:
    """Standard input and output as they are; a Front."""

    def __init__(self, options: ChatOptions, kind: Kind, log: Log | None, leaving: Leaving) -> None:
        self._options = options
        self._kind = kind
        self._leaving = leaving
        self._output = Output(raw_stdout(), for_people=not options.as_json)
        self._read_all = False
        self.interactive = kind is Kind.TERMINAL
        self.patience = TERMINAL_DRAIN if self.interactive else options.drain
        self.show = Show(self._output, log, as_json=options.as_json, echo=not self.interactive)

    @property
    def has_input(self) -> bool:
        return self._kind is not Kind.NONE

    @property
    def gone(self) -> bool:
        return self._output.closed.is_set()

    @property
    def reads_to_the_end(self) -> bool:
        return self._kind is Kind.PIPED and not self._read_all  # whoever writes there may not see us leave

    async def begin(self, peer: TCPPeer, session: Session) -> None:
        pass

    async def read(self, peer: TCPPeer, session: Session, endpoints: Endpoints) -> None:
        try:
            if self._kind is Kind.PIPED:
                await endpoints.answered(ENDPOINTS_WAIT)
                if endpoints.refused.is_set() and not await endpoints.linked_within(2 * REFUSED_GRACE):
                    return  # nothing is taken from input that we could only keep
            await self._read(session)
        finally:
            self._read_all = True

    async def _read(self, session: Session) -> None:
        lines = Lines(raw_stdin(), asyncio.get_running_loop())
        lines.start()
        while batch := await lines.take():
            if not await session.take(batch):
                self._leaving.because("input")
                return
        if not self._options.stay or self.gone:
            self._leaving.because("input")

    def close(self) -> None:
        self.show.close()
