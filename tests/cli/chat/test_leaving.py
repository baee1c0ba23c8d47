"""The first reason to leave counts; what was ignored stays ignored; everything is as before afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from p2pchat.cli.chat.shutdown import SIGNALS, Shutdown


async def test_the_first_reason_counts() -> None:
    leaving = Shutdown()
    leaving.because("input")
    leaving.because("ended")
    assert await leaving.wait() == "input"


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot signal itself so there")
@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")], ids=["SIGINT", "SIGTERM"]
)
async def test_a_signal_is_a_reason(number: signal.Signals, reason: str) -> None:
    before = {signal_number: signal.getsignal(signal_number) for signal_number in SIGNALS}
    leaving = Shutdown()
    leaving.take_signals()
    try:
        os.kill(os.getpid(), number)
        async with asyncio.timeout(10):
            assert await leaving.wait() == reason
    finally:
        leaving.give_signals_back()
    assert {number: signal.getsignal(number) for number in SIGNALS} == before


async def test_what_nohup_ignores_stays_ignored() -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no SIGHUP")
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    leaving = Shutdown()
    leaving.take_signals()
    try:
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0)
        leaving.because("input")
        assert await leaving.wait() == "input"
    finally:
        leaving.give_signals_back()
        signal.signal(signal.SIGHUP, former)
