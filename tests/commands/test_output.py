"""Output of a chat: what people and programs see, standard output, the log file."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from p2pchat.commands.event_text import EventLine
from p2pchat.commands.output import Display, EventLogFile, StdoutWriter

AT = "2026-11-20T11:30:00.000000Z"


def said(text: str, **fields: Any) -> EventLine:
    line = {"event": "message", "at": AT, "sent_at": AT, "kind": "room", "conversation": "room", "sender": "ada"}
    return {**line, "conversation_id": "R", "text": text, "action": False, **fields}


async def shown(
    path: Path, events: list[tuple[EventLine, bool]], *, as_json: bool, log: EventLogFile | None = None
) -> list[str]:
    """Return the lines on standard output for events, each with whether it is older."""
    with open(path, "wb", buffering=0) as raw:
        display = Display(StdoutWriter(raw), log, as_json=as_json, echo=True)
        for event, older in events:
            await display.show_event(event, older=older)
        display.close()
    return path.read_text("utf-8").splitlines()


async def test_people_get_a_count_of_older_messages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = [(said("early"), True), (said("mine", event="sent", to="room"), True), (said("news"), False)]
    log = EventLogFile(str(tmp_path / "log"), pytest.fail)
    [line] = await shown(tmp_path / "plain", events, as_json=False, log=log)
    assert line.endswith("ada: news")
    assert capsys.readouterr().err == "-- 2 older messages: /history shows them\n"
    lines = await shown(tmp_path / "json", events, as_json=True)
    assert [json.loads(line) for line in lines] == [event for event, _ in events]
    assert (tmp_path / "log").read_text("utf-8").splitlines() == lines
    assert capsys.readouterr().err == ""


async def test_deliveries_are_notices_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sent = said("hi", event="sent", kind="dm", to="bob", conversation_id="D")
    receipt = {"event": "delivered", "at": AT, "conversation_id": "D", "user": "bob", "user_id": "B"}
    [line] = await shown(tmp_path / "plain", [(sent, False), (receipt, False)], as_json=False)
    assert line.endswith("ada -> bob: hi")
    assert capsys.readouterr().err == "-- delivered to bob: your message\n"


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
        log = EventLogFile(str(path), pytest.fail)
        log.write(line)
        log.close()
    assert path.read_text("utf-8") == "one\ntwo\n"
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full is Linux's")
def test_a_log_error_is_reported_once() -> None:
    errors: list[str] = []
    log = EventLogFile("/dev/full", errors.append)
    log.write("one")
    log.write("two")
    log.close()
    assert errors == ["cannot write the log /dev/full: No space left on device; logging stops"]


def test_a_partial_line_of_the_log_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "ada.jsonl"
    path.write_bytes(b'{"event":"one"}\n{"event":"tw')  # killed while writing
    for line in ("three", "four"):
        log = EventLogFile(str(path), pytest.fail)
        log.write(line)
        log.close()
    assert path.read_bytes() == b'{"event":"one"}\n{"event":"tw\nthree\nfour\n'
