"""Guard of the quick tests: what `poe test` runs stays quick and green without a list of names.

A quick test is one outside of tests/long/ without the mark `story`. It fails if it starts a process, if it binds a port
other than 0 and those that free_ports() gives, or if it sleeps for longer than NAP. If it needs more than WORK, the end
of the run says so, and nothing fails: that is a clock, and a busy machine has another one.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import sys
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from p2pchat.testing.process_mesh import HIGHEST_PORT, LOWEST_PORT

NAP = 0.2  # seconds
WORK = 5.0  # seconds of CPU time, and of waits above NAP of the loop in which nothing happened; 3.3 where all is slow
TESTS = Path(__file__).resolve().parent
LONG = TESTS / "long"
RESULT = "result"  # the property of a test that the end of the run shows (tests/conftest.py)
STARTS = frozenset(("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec"))
SERVERS = frozenset(("fork_server", "server_of", "engine"))  # fixtures: processes that several tests share


@dataclass(slots=True)
class Watch:
    """What the running test did that no quick test may do.

    Attributes:
        idle: Seconds of waits that ran out.
    """

    faults: list[str] = field(default_factory=list)
    idle: float = 0.0

    def on_audit(self, event: str, args: tuple[Any, ...]) -> None:
        """Notice a process or a sleep. Source: PEP 578, and the audit events table of Python."""
        if event in STARTS:
            self.faults.append(f"starts a process ({event})")
        elif event == "time.sleep" and args[0] > NAP:
            self.faults.append(f"sleeps for {args[0]:g} s")


_watch = Watch()


def install() -> None:
    """Begin to watch this process. It ends with the process: an audit hook cannot be removed."""
    sys.addaudithook(lambda event, args: _watch.on_audit(event, args))
    select, sleep, bind = selectors.DefaultSelector.select, asyncio.sleep, socket.socket.bind

    def watched_select(self: selectors.DefaultSelector, timeout: float | None = None) -> Any:
        began = time.monotonic()
        ready = select(self, timeout)
        if (
            timeout is not None
            and timeout > NAP
            and not ready
            and threading.current_thread() is threading.main_thread()
        ):
            _watch.idle += time.monotonic() - began
        return ready

    async def watched_sleep(delay: float, result: Any = None) -> Any:
        result = await sleep(delay, result)
        if delay > NAP and Path(sys._getframe(1).f_code.co_filename).is_relative_to(TESTS):
            _watch.faults.append(f"sleeps for {delay:g} s")
        return result

    def watched_bind(self: socket.socket, address: Any) -> None:
        bind(self, address)  # a port that is taken, as a test wants it to be, is none of the faults
        if isinstance(address, tuple) and address[1] and not LOWEST_PORT <= address[1] <= HIGHEST_PORT:
            _watch.faults.append(f"binds port {address[1]}, which may be taken")

    socket.socket.bind = watched_bind  # type: ignore[method-assign, assignment]
    selectors.DefaultSelector.select = watched_select  # type: ignore[method-assign]
    asyncio.sleep = watched_sleep


def is_long(item: pytest.Item) -> bool:
    """Return whether `poe test` leaves a test out."""
    return item.path.is_relative_to(LONG)


def is_quick(item: pytest.Item) -> bool:
    """Return whether the rules of this file hold for a test."""
    return not is_long(item) and item.get_closest_marker("story") is None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    global _watch
    _watch = Watch()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    began = time.process_time()
    result = yield
    spent = time.process_time() - began + _watch.idle
    if is_quick(item):
        faults = [f"uses `{name}`" for name in SERVERS.intersection(getattr(item, "fixturenames", ()))]
        faults += _watch.faults
        if spent > WORK:
            item.user_properties.append((RESULT, f"a quick test needs {spent:.1f} s: {item.nodeid} (tests/guard.py)"))
        if faults:
            pytest.fail(f"A quick test {', and '.join(dict.fromkeys(faults))}: it belongs below tests/long/", False)
    return result
