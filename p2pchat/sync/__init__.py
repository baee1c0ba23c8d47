"""The public names of p2pchat for programs without asyncio: every call waits.

    from p2pchat.sync import Message, TCPPeer

    with TCPPeer(8086, "localhost:8080", name="bot") as peer:
        peer.send("bob", "hi").delivered(timeout=5)
        for event in peer.events(Message):
            print(event.sender, event.text)

All peers run on one event loop in a daemon thread; any thread may call. docs/sync.md has the rules. classes.py is
written by the build from the asynchronous classes; background.py has the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from p2pchat import __all__ as __all__
from p2pchat.sync.background import background as _background  # the submodule keeps its name
from p2pchat.sync.classes import *  # noqa: F403 - the build writes what is in it


def in_background(function: Callable[[], Any]) -> Any:
    """Call a function on the loop of p2pchat.sync; return its result, awaited if it is awaitable.

    For a coroutine of asyncio code that belongs beside the peers. Ctrl-C cancels it.
    """
    return _background().run(function)


if not TYPE_CHECKING:  # so that type checkers find a misspelt name

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'p2pchat.sync' has no attribute {name!r}")
        import p2pchat

        return getattr(p2pchat, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
