"""A session over a real peer, and its output as event lines or as text."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2pchat import Message, TCPPeer
from p2pchat.commands.display import Display
from p2pchat.commands.event_text import EventLine
from p2pchat.commands.session import Session
from p2pchat.commands.standard_output import StdoutWriter


class Shown:
    """Standard output of a session."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = 0  # characters already returned by `new`
        self.raw = open(path, "wb", buffering=0)  # noqa: SIM115 (closed by the fixture)

    @property
    def text(self) -> str:
        return self._path.read_text("utf-8")

    @property
    def lines(self) -> list[EventLine]:
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def new(self) -> list[str]:
        """The lines since the last use of this property."""
        text = self.text
        new, self._seen = text[self._seen :].splitlines(), len(text)
        return new

    @property
    def rows(self) -> list[EventLine]:
        """The rows of the last answer."""
        last: list[EventLine] = self.lines[-1]["rows"]
        return last


def open_session(
    peer: TCPPeer,
    shown: Shown,
    *,
    as_json: bool = True,
    interactive: bool = False,
) -> Session:
    display = Display(StdoutWriter(shown.raw), None, as_json=as_json, echo=True)
    display.me = peer.me.label
    return Session(peer, display, interactive=interactive, as_json=as_json)


async def got(peer: TCPPeer, count: int) -> list[Message]:
    """Return the first messages a peer received."""
    found = []
    async for event in peer.events(Message, consumer="got", start="beginning"):
        found.append(event)
        if len(found) == count:
            break
    return found


async def see(peer: TCPPeer, session: Session, text: str, consumer: str = "seen") -> None:
    """Show all messages until one has this text."""
    async for event in peer.events(Message, consumer=consumer, start="beginning"):
        line = event.to_dict()
        session.on_event(line)
        await session.display.show_event(line)
        if event.text == text:
            break


@contextmanager
def slow_disk(peer: TCPPeer) -> Iterator[None]:
    """Let a peer copy no file until the end of the block."""
    go_on = threading.Event()
    peer._lifecycle.require_running().content.run_soon(lambda store: go_on.wait(60))
    try:
        yield
    finally:
        go_on.set()
