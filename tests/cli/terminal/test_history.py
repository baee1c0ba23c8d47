"""What was typed is kept for the next start: not everything, not for ever, and readable by nobody else."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from p2pchat.cli.terminal.prompt import FILE_NAME, MAX_LINES, ProfileHistory


def kept(directory: Path) -> list[str]:
    """What the next start finds, oldest first."""
    return list(ProfileHistory(directory).load_history_strings())[::-1]


def test_lines_are_kept_whole_and_in_order(tmp_path: Path) -> None:
    history = ProfileHistory(tmp_path)
    for line in ("one", "two\nrows", 'a "quote" and ünïcode'):
        history.append_string(line)
    assert kept(tmp_path) == ["one", "two\nrows", 'a "quote" and ünïcode']
    assert history.get_strings() == kept(tmp_path)
    if sys.platform != "win32":
        assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


def test_an_invite_is_not_even_remembered(tmp_path: Path) -> None:
    history = ProfileHistory(tmp_path)
    history.append_string("/msg bob P2PCHAT:abcdefghijkl@host:1")
    assert history.get_strings() == [] and not (tmp_path / FILE_NAME).exists()


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b'"one"\nrubbish\n{"a": 1}\n\xff\n"two"\n"half of th')
    assert kept(tmp_path) == ["one", "two"]


def test_it_is_cut_when_it_has_grown_long(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("".join(f'"{number}"\n' for number in range(2 * MAX_LINES + 1)))
    assert kept(tmp_path)[0] == str(MAX_LINES + 1)
    assert len((tmp_path / FILE_NAME).read_text().splitlines()) == MAX_LINES


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="a directory one may not write to")
def test_a_directory_that_takes_nothing_is_no_trouble(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    history = ProfileHistory(tmp_path)
    history.append_string("one")
    assert history.get_strings() == ["one"]


def test_without_a_directory_it_is_kept_in_memory() -> None:
    history = ProfileHistory(None)
    history.append_string("one")
    assert history.get_strings() == ["one"]
