"""What a Session says, and what it cannot do, as lines of one connection of `/lines`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from p2pchat import Failed
from p2pchat.apps.web.sessions.frames import as_frame
from p2pchat.commands.display import Show
from p2pchat.commands.output import Line, Output
from p2pchat.web.errors import Problem
from p2pchat.web.hub import Slow
from p2pchat.web.send_queue import Outbox


def error_line(problem: Problem, ref: str | None = None) -> Line:
    """Return a problem as an event line."""
    return Failed(code=problem.code, text=problem.text, ref=ref).to_json()


class LinesShow(Show):
    """What a Session says, as lines of one connection."""

    def __init__(self, out: Outbox, mark: str, answered: Callable[[int], None]) -> None:
        super().__init__(Output(None), None, as_json=True, echo=True)
        self._out = out
        self._mark = mark
        self._answered = answered

    async def event(self, event: Line, *, older: bool = False) -> None:
        frame = as_frame(self.own(event))
        if event["event"] == "answer":
            self._answered(len(event["rows"]))
        try:
            self._out.put(frame)
        except Slow:  # of answers nobody has to get more than one reads
            await self._out.drained()
            self._out.put(frame)

    def own(self, line: dict[str, Any]) -> Line:
        """Return a line with the `ref` of this caller as it was given; another connection's is nothing to this one."""
        ref = line.get("ref")
        if ref is None:
            return line
        return {**line, "ref": ref.removeprefix(self._mark) if ref.startswith(self._mark) else _foreign(line, ref)}


def _foreign(line: Line, ref: str) -> str | None:
    return ref if line["event"] in ("answer", "error") else None
