"""Standard input: lines as they come, no input, progress on one line of a terminal, sizes as text."""

from __future__ import annotations

import asyncio
import ctypes
import io
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from p2pchat.cli import standard_input
from p2pchat.cli.standard_input import InputKind, LineReader, Progress, raw_stdin, read_invite, read_line, stdin_kind
from p2pchat.commands.event_text import format_size
from p2pchat.identity.identity import Identity
from p2pchat.identity.invite_text import encode_invite, make_invitation
from p2pchat.identity.network import Network
from tests.deadlines import WAIT


async def test_lines_come_as_they_are_written() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as source, open(writing, "wb", buffering=0) as pipe:
        lines = LineReader(source, asyncio.get_running_loop())
        lines.start()
        pipe.write(b"one\ntw")
        assert await lines.take() == [b"one"]
        pipe.write(b"o\n")
        assert await lines.take() == [b"two"]
        pipe.close()
        assert await lines.take() == []


@pytest.mark.parametrize("width", [8, 64, 72, 76, 1000])
def test_an_invite_in_a_pipe_may_be_broken_into_lines(
    width: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What follows it is for the chat."""
    network, places = Network.found(b"f" * 32), ["192.168.1.10:8080", "chat.example:18080"]
    invite = encode_invite(network, make_invitation(network, Identity.from_seed(b"a" * 32)), places)
    lines = [invite[at : at + width] for at in range(0, len(invite), width)]
    (tmp_path / "stdin").write_text("\n" + "\r\n".join(lines) + "\nhello: 80\n", newline="")
    with open(tmp_path / "stdin", encoding="utf-8") as file:
        monkeypatch.setattr(sys, "stdin", file)
        read = read_invite("-", InputKind.PIPED)
        assert read is not None and "".join(read.split()) == invite
        assert raw_stdin().read() == b"hello: 80\n"


def test_a_paste_ends_with_enter_and_not_with_its_last_line_break(monkeypatch: pytest.MonkeyPatch) -> None:
    """A break within the port leaves a valid invite with another port, and digits that would answer what comes next."""
    if sys.platform == "win32":
        pytest.skip("its console gives a paste as one line")
    keys, terminal = os.openpty()
    answers: list[str | None] = []
    is_answered = threading.Event()

    def ask() -> None:
        answers.append(standard_input.ask_hidden(""))
        is_answered.set()

    with open(terminal, "rb", buffering=0) as stdin, open(keys, "wb", buffering=0) as typing:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(fileno=stdin.fileno, buffer=stdin))
        monkeypatch.setattr(standard_input, "PASTE_GAP", 0)  # all of it is there
        typing.write(b"p2pchat:AAAA@127.0.0.1:80\n80")
        thread = threading.Thread(target=ask)
        thread.start()
        assert not is_answered.wait(0.3)
        typing.write(b"\n")
        thread.join()
    assert answers == ["p2pchat:AAAA@127.0.0.1:80 80"]


async def test_only_lines_that_were_not_taken_are_left_after_a_stop() -> None:
    for late, left in ((b"", False), (b"three\n", True)):
        reading, writing = os.pipe()
        with open(reading, "rb", buffering=0) as source, open(writing, "wb", buffering=0) as pipe:
            lines = LineReader(source, asyncio.get_running_loop())
            before = set(threading.enumerate())
            lines.start()
            [thread] = set(threading.enumerate()) - before
            pipe.write(b"one\n")
            assert await lines.take() == [b"one"]
            lines.stop()
            assert await lines.take() == []
            pipe.write(late)
            pipe.close()  # the end of the input comes behind that of stop()
            await asyncio.to_thread(thread.join)
            assert lines.has_more == left


def test_a_reader_ends_quietly_when_its_loop_is_closed() -> None:
    """No exception leaves the thread: pytest, and whoever embeds a chat, would report it."""
    reading, writing = os.pipe()
    loop = asyncio.new_event_loop()
    with open(reading, "rb", buffering=0) as source, open(writing, "wb", buffering=0) as pipe:
        lines = LineReader(source, loop)
        before = set(threading.enumerate())
        lines.start()
        [thread] = set(threading.enumerate()) - before
        loop.close()
        pipe.write(b"one\ntwo\n")
        thread.join(WAIT)
        assert not thread.is_alive()  # it does not wait for the end of an input that nobody takes


def test_the_first_line_leaves_the_rest() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"secret\nchat\n")
    os.close(writing)
    with open(reading, "rb", buffering=0) as source:
        assert read_line(source) == b"secret"
        assert source.read(100) == b"chat\n"
        assert read_line(source) is None


def test_devnull_and_closed_input_are_no_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with open(os.devnull, encoding="utf-8") as null:
        monkeypatch.setattr(sys, "stdin", null)
        assert stdin_kind() is InputKind.NONE
    assert stdin_kind() is InputKind.NONE  # closed meanwhile
    monkeypatch.setattr(sys, "stdin", None)
    assert stdin_kind() is InputKind.NONE
    (tmp_path / "lines").write_text("hi\n", "utf-8")
    with open(tmp_path / "lines", encoding="utf-8") as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert stdin_kind() is InputKind.PIPED


def test_a_terminal_in_the_background_is_no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform == "win32":
        pytest.skip("pseudo-terminals are POSIX")
    main, side = os.openpty()
    with open(main, "rb", buffering=0), open(side, encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        monkeypatch.setattr(os, "tcgetpgrp", lambda fd: os.getpgrp())
        assert stdin_kind() is InputKind.TERMINAL
        monkeypatch.setattr(os, "tcgetpgrp", lambda fd: os.getpgrp() + 1)
        assert stdin_kind() is InputKind.NONE


@pytest.mark.parametrize(("is_console", "kind"), [(True, InputKind.TERMINAL), (False, InputKind.NONE)])
def test_on_windows_nul_is_not_a_console(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_console: bool, kind: InputKind
) -> None:
    kernel = SimpleNamespace(GetConsoleMode=lambda handle, mode: int(is_console))
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(get_osfhandle=lambda fd: fd))
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel), raising=False)
    monkeypatch.setattr(os, "isatty", lambda fd: True)
    monkeypatch.delattr(os, "tcgetpgrp", raising=False)
    (tmp_path / "some").touch()
    with open(tmp_path / "some", encoding="utf-8") as device:
        monkeypatch.setattr(sys, "stdin", device)
        assert stdin_kind() is kind


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (1_500_000, "1.5 MB"), (2_000_000_000, "2.0 GB")],
)
def test_sizes_have_units(count: int, text: str) -> None:
    assert format_size(count) == text


class Screen(io.StringIO):
    """One line of a terminal: a carriage return moves to its beginning."""

    def isatty(self) -> bool:
        return True

    @property
    def line(self) -> str:
        shown = ""
        for part in self.getvalue().split("\r"):
            shown = part + shown[len(part) :]
        return shown.rstrip()


def test_progress_is_one_line_that_is_removed_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(standard_input, "FIRST_AFTER", 0.0)
    monkeypatch.setattr(standard_input, "AGAIN_AFTER", 0.0)
    with Progress() as shown:
        shown.entries(1234567)
        assert screen.line == "-- 1,234,567 entries"
        shown.bytes(1_000_000, 2_500_000)
        assert screen.line == "-- 1.0 MB of 2.5 MB"
    assert screen.line == "" and "\n" not in screen.getvalue()


def test_no_progress_is_shown_for_short_work_or_to_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    for seen, first_after in ((True, 60.0), (False, 0.0)):
        screen = Screen()
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setattr(screen, "isatty", lambda seen=seen: seen)
        monkeypatch.setattr(standard_input, "FIRST_AFTER", first_after)
        with Progress() as shown:
            shown.entries(5)
        assert screen.getvalue() == ""
