"""Shutdown requests and signal handlers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from p2pchat.cli.chat.shutdown import SIGNALS, Shutdown


async def test_the_first_shutdown_reason_counts() -> None:
    shutdown = Shutdown()
    shutdown.request("input")
    shutdown.request("ended")
    assert await shutdown.wait() == "input"


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot signal itself so there")
@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")], ids=["SIGINT", "SIGTERM"]
)
async def test_a_signal_requests_shutdown(number: signal.Signals, reason: str) -> None:
    before = {signal_number: signal.getsignal(signal_number) for signal_number in SIGNALS}
    shutdown = Shutdown()
    shutdown.install_handlers()
    try:
        os.kill(os.getpid(), number)
        async with asyncio.timeout(10):
            assert await shutdown.wait() == reason
    finally:
        shutdown.restore_handlers()
    assert {number: signal.getsignal(number) for number in SIGNALS} == before


async def test_ignored_signals_stay_ignored() -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no SIGHUP")
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    shutdown = Shutdown()
    shutdown.install_handlers()
    try:
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0)
        shutdown.request("input")
        assert await shutdown.wait() == "input"
    finally:
        shutdown.restore_handlers()
        signal.signal(signal.SIGHUP, former)
