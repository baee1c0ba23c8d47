"""The event loop of the commands, the signals that end them, their limit of open files, and their logs."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Iterator

import pytest

from p2pchat.cli.process import (
    FASTER,
    SIGNALS,
    VARIABLE,
    NoticeLogHandler,
    Shutdown,
    allow_descriptors,
    make_runner,
    run_until_signal,
    show_library_logs,
)
from p2pchat.commands.exit_codes import print_error, print_notice, redirect_notices
from tests.deadlines import WAIT


def loop_of_a_program() -> str:
    async def main() -> str:
        return type(asyncio.get_running_loop()).__module__.partition(".")[0]

    with make_runner() as runner:
        return runner.run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="winloop is not among the things tests need")
def test_a_faster_loop_is_used_if_installed_and_not_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    found = loop_of_a_program()
    monkeypatch.setenv(VARIABLE, "asyncio")
    assert (found, loop_of_a_program()) == ("uvloop", "asyncio")


def test_without_a_faster_loop_asyncios_own_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setitem(sys.modules, FASTER, None)  # as if it were not installed
    assert loop_of_a_program() == "asyncio"


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
    with shutdown.on_signals():
        os.kill(os.getpid(), number)
        async with asyncio.timeout(WAIT):
            assert await shutdown.wait() == reason
    assert {number: signal.getsignal(number) for number in SIGNALS} == before


async def test_ignored_signals_stay_ignored() -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no SIGHUP")
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    shutdown = Shutdown()
    try:
        with shutdown.on_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0)  # handlers of signals run in this turn
            shutdown.request("input")
            assert await shutdown.wait() == "input"
    finally:
        signal.signal(signal.SIGHUP, former)


def test_windows_has_no_limit_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "resource", None)  # Windows has no such module
    allow_descriptors()


# ---- logs of the library


@pytest.fixture
def notices() -> Iterator[list[str]]:
    notices: list[str] = []
    redirect_notices(notices.append)
    yield notices
    redirect_notices(None)


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("p2pchat.test_diagnostics")
    handler = NoticeLogHandler()
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.DEBUG)  # whatever a command set in this process for all of p2pchat
    yield logger
    logger.removeHandler(handler)


def test_notices_can_be_redirected_and_restored(notices: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    print_notice("-- bob is away")
    print_error("no\nsuch name")
    redirect_notices(None)
    print_notice("-- on stderr")
    assert notices == ["-- bob is away", "p2pchat: no\\u{a}such name"]
    assert capsys.readouterr() == ("", "-- on stderr\n")


def test_a_log_record_is_one_safe_line(notices: list[str], logger: logging.Logger) -> None:
    logger.warning("a link to %s broke", "eve\x1b[2J\n12:00 bob: hi")
    assert len(notices) == 1 and notices[0].endswith("WARNING a link to eve\\u{1b}[2J\\u{a}12:00 bob: hi broke")


@pytest.mark.parametrize(("verbose", "shown"), [(False, ["ERROR"]), (True, ["DEBUG", "INFO", "ERROR"])])
def test_library_logs_are_shown_from_a_level_on(
    notices: list[str], verbose: bool, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("p2pchat")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "level", logger.level)
    show_library_logs(verbose=verbose)
    for each in (logging.DEBUG, logging.INFO, logging.ERROR):
        logging.getLogger("p2pchat.peer").log(each, "a line")
    logger.setLevel(logging.NOTSET)  # forgets which levels were enabled
    assert [notice.split()[-3] for notice in notices] == shown


def test_a_traceback_keeps_its_lines_marked(notices: list[str], logger: logging.Logger) -> None:
    try:
        raise RuntimeError("\x1b[2J")
    except RuntimeError:
        logger.exception("it failed")
    lines = notices[0].split("\n")
    assert "it failed" in lines[0] and all(line.startswith("    | ") for line in lines[1:])
    assert lines[-1] == "    | RuntimeError: \\u{1b}[2J"


def test_ctrl_c_in_the_middle_of_a_callback_cancels_after_it() -> None:
    complaints: list[str] = []

    async def main() -> int:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(str(context["message"])))
        answer = loop.create_future()

        def resolve() -> None:
            if not answer.done():
                signal.raise_signal(signal.SIGINT)  # between these two lines
                answer.set_result(0)

        loop.call_soon(resolve)
        await answer
        await loop.create_future()
        raise AssertionError("it goes on")

    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_until_signal(main(), terminated=lambda: 1)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler and complaints == []
    finally:
        signal.signal(signal.SIGINT, former)
