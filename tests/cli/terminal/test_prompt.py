"""Pastes, input history and the label of the prompt."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from p2pchat.cli.terminal.prompt import (
    FILE_NAME,
    ProfileHistory,
    UnreadBadge,
    needs_question,
    pasted_text,
    prompt_label,
    sending_question,
)
from p2pchat.commands.typed_commands import TextInput, parse_line
from p2pchat.commands.wrap import plain_text


@pytest.mark.parametrize(
    "pasted, text",
    [
        ("one", "one"),
        ("one\r\ntwo\rthree\n\n", "one\ntwo\nthree"),
        ("a\tb", "a\tb"),
        ("/quit", "//quit"),
        ("//quit", "///quit"),
        ("/quit\nnow", "//quit\nnow"),
    ],
)
def test_a_paste_at_the_beginning_of_a_line(pasted: str, text: str) -> None:
    assert pasted_text(pasted, "") == text
    assert isinstance(parse_line(text), TextInput)


def test_a_paste_after_typed_text_is_unchanged() -> None:
    assert pasted_text("/etc/hosts", "see ") == "/etc/hosts"


def test_more_than_five_lines_need_a_question() -> None:
    assert not needs_question("1\n2\n3\n4\n5")
    assert needs_question("1\n2\n3\n4\n5\n6")
    assert sending_question("1\n2\n3\n4\n5\n6") == "send 6 lines as one message?"


def kept(directory: Path) -> list[str]:
    """Return the history that the next start finds, oldest first."""
    return list(ProfileHistory(directory).load_history_strings())[::-1]


def test_history_keeps_lines_whole_and_in_order(tmp_path: Path) -> None:
    history = ProfileHistory(tmp_path)
    for line in ("one", "two\nrows", 'a "quote" and ünïcode'):
        history.append_string(line)
    assert kept(tmp_path) == ["one", "two\nrows", 'a "quote" and ünïcode']
    assert history.get_strings() == kept(tmp_path)
    if sys.platform != "win32":
        assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


def test_history_never_keeps_an_invite(tmp_path: Path) -> None:
    history = ProfileHistory(tmp_path)
    history.append_string("/msg bob P2PCHAT:abcdefghijkl@host:1")
    assert history.get_strings() == kept(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="a directory one may not write to")
def test_history_survives_a_directory_that_is_not_writable(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    history = ProfileHistory(tmp_path)
    history.append_string("one")
    assert history.get_strings() == ["one"]


def test_without_a_directory_history_stays_in_memory() -> None:
    history = ProfileHistory(None)
    history.append_string("one")
    assert history.get_strings() == ["one"]


BOTH = [UnreadBadge("bob", 2, 0), UnreadBadge("room", 5, 1)]


@pytest.mark.parametrize(
    "where, waiting, columns, shown",
    [
        ("room", [], 80, "ada to room> "),
        ("room", [], 28, "room> "),
        ("room", BOTH, 80, "[bob 2 · room 5 @1] ada to room> "),
        ("room", BOTH, 40, "[7 @1] ada to room> "),
        ("room", BOTH, 30, "[7 @1] room> "),
        ("room", BOTH, 28, "7 @1> "),
        ("a very long name of a user", [], 30, "> "),
        ("Anna Maria", [UnreadBadge("bob 3 · x", 1, 0)], 80, '["bob 3 · x" 1] ada to "Anna Maria"> '),
        ("eve\x1b[2J", [], 80, 'ada to "eve\\u{1b}[2J"> '),
        ("bob#K7QF2M3P", [], 80, "ada to bob#K7QF2M3P> "),
    ],
)
def test_the_label_shows_conversation_and_unread_counts(
    where: str, waiting: list[UnreadBadge], columns: int, shown: str
) -> None:
    assert plain_text(prompt_label("ada", where, waiting, columns)) == shown
