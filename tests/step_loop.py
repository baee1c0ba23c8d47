"""An event loop in which a test interrupts an operation after its n-th step, for every n: it must clean up.

The loop has its own names, records the sockets to be connected, and can make connecting fail or take long.
"""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context
from typing import Any, TypeVarTuple, Unpack

MOST_STEPS = 1000  # of one scenario; more would be an endless loop
Ts = TypeVarTuple("Ts")


class SteppedLoop(asyncio.SelectorEventLoop):
    """Runs the function given to interrupt() after that many of its callbacks.

    Attributes:
        names: The addresses of each name.
        errors: Errors of connecting, by address.
        slow: Extra turns of the loop that connecting takes, by address.
        dialled: Each socket to be connected, with the address.
    """

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}
        self.errors: dict[str, OSError] = {}
        self.slow: dict[str, int] = {}
        self.dialled: list[tuple[socket.socket, str]] = []
        self._steps_left = 0
        self._interrupt: Callable[[], object] = lambda: None
        self._named = socket.getaddrinfo
        socket.getaddrinfo = self._look_up
        super().__init__()

    def close(self) -> None:
        socket.getaddrinfo = self._named
        super().close()

    def interrupt(self, after_steps: int, do: Callable[[], object]) -> None:
        self._steps_left, self._interrupt = after_steps, do

    def _look_up(self, host: Any, port: Any, *rest: Any, **options: Any) -> list[Any]:
        addresses = self.names.get(host, [host])
        return [info for address in addresses for info in self._named(address, port, *rest, **options)]

    @property
    def still_open(self) -> list[socket.socket]:
        return [sock for sock, _ in self.dialled if sock.fileno() != -1]

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        def step() -> None:
            callback(*args)
            self._steps_left -= 1
            if self._steps_left == 0:
                self._interrupt()

        return super().call_soon(step, context=context)

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        self.dialled.append((sock, address[0]))
        for _ in range(self.slow.get(address[0], 0)):
            await asyncio.sleep(0)  # the duration of a slow connect, in turns
        if address[0] in self.errors:
            raise self.errors[address[0]]
        await super().sock_connect(sock, address)


def open_sockets() -> set[int]:
    """Return the descriptors of all TCP sockets of this process, even of those that are not referenced."""
    found = [thing for thing in gc.get_objects() if type(thing) is socket.socket]
    return {sock.fileno() for sock in found if sock.fileno() != -1 and sock.family in (socket.AF_INET, socket.AF_INET6)}


def run_stepped(scenario: Callable[[SteppedLoop], Coroutine[Any, Any, None]]) -> SteppedLoop:
    """Run it in a separate loop; return that loop, closed."""
    with asyncio.Runner(loop_factory=SteppedLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, SteppedLoop)
        runner.run(scenario(loop))
    return loop


def after_each_step(scenario: Callable[[SteppedLoop, int], Coroutine[Any, Any, bool]]) -> Iterator[int]:
    """Run it with 1, 2, 3 ... as the step to interrupt, in a loop each, until it returns False: it ended before."""
    for step in range(1, MOST_STEPS):
        interrupted = True

        async def one(loop: SteppedLoop, step: int = step) -> None:
            nonlocal interrupted
            interrupted = await scenario(loop, step)

        run_stepped(one)
        if not interrupted:
            return
        yield step
    raise AssertionError(f"not over after {MOST_STEPS} steps")
