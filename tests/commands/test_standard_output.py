"""Lines written to standard output and to the log file."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from pathlib import Path

import pytest

from p2pchat.commands.exit_codes import CommandError
from p2pchat.commands.standard_output import EventLogFile, StdoutWriter


async def test_write_returns_when_the_line_is_out() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as source, open(writing, "wb", buffering=0) as pipe:
        output = StdoutWriter(pipe)
        await output.write("grün\nblau")
        assert source.read(100) == "grün\nblau\n".encode()
        assert not output.closed.is_set()


async def test_a_thread_writes_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delattr("select.select")  # on Windows it accepts no pipes
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as source, open(writing, "wb", buffering=0) as pipe:
        output = StdoutWriter(pipe)
        assert not output.is_full
        await output.write("hello")
        assert source.read(100) == b"hello\n"


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe that has room says so only where select takes pipes")
async def test_a_long_line_is_out_before_others_have_their_turn() -> None:
    """Otherwise each long text of a flood takes a turn of the loop, and the lines of contacts wait behind it."""
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as source, open(writing, "wb", buffering=0) as pipe:
        others = asyncio.create_task(asyncio.sleep(0))
        await StdoutWriter(pipe).write("x" * 12_000)  # less than any pipe holds
        assert not others.done()
        got = 0
        while got < 12_001:
            got += len(source.read(65536))
        await others


async def test_a_slow_reader_delays_only_the_writer() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as source, open(writing, "wb", buffering=0) as pipe:
        writer = asyncio.create_task(StdoutWriter(pipe).write("x" * 1_000_000))
        await asyncio.sleep(0)  # the loop runs while the pipe is full
        assert not writer.done()
        got = 0
        while got < 1_000_001:
            got += len(await asyncio.to_thread(source.read, 65536))
        await writer


async def test_a_closed_pipe_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb", buffering=0) as pipe:
        output = StdoutWriter(pipe)
        await output.write("hello")
        assert output.closed.is_set()
        await output.write("nobody")


async def test_without_stdout_lines_are_dropped() -> None:
    output = StdoutWriter(None)
    await output.write("hello")
    assert not output.closed.is_set()


def test_the_log_is_appended_and_private(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for line in ("one", "two"):
        log = EventLogFile(str(path))
        log.write(line)
        log.close()
    assert path.read_text("utf-8") == "one\ntwo\n"
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full is Linux's")
def test_a_log_error_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[str] = []
    monkeypatch.setattr("p2pchat.commands.standard_output.print_error", errors.append)
    log = EventLogFile("/dev/full")
    log.write("one")
    log.write("two")
    log.close()
    assert errors == ["cannot write the log /dev/full: No space left on device; logging stops"]


def test_a_partial_line_of_the_log_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "ada.jsonl"
    path.write_bytes(b'{"event":"one"}\n{"event":"tw')  # killed while writing
    for line in ("three", "four"):
        log = EventLogFile(str(path))
        log.write(line)
        log.close()
    assert path.read_bytes() == b'{"event":"one"}\n{"event":"tw\nthree\nfour\n'


def test_a_log_goes_into_a_pipe_that_somebody_reads(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows has no such pipes")
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    with pytest.raises(CommandError, match=r"cannot write the log .*: nobody reads from this pipe: start its reader"):
        EventLogFile(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = EventLogFile(path)
    log.write("a line")
    assert os.read(reader, 100) == b"a line\n"
    log.close()
    os.close(reader)
