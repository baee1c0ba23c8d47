"""What is logged is told as notices are, wherever they go; and nothing in it drives a terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from p2pchat.commands.errors import print_error, print_notice, redirect_notices
from p2pchat.commands.notifications import NoticeLogHandler


@pytest.fixture
def told() -> Iterator[list[str]]:
    told: list[str] = []
    redirect_notices(told.append)
    yield told
    redirect_notices(None)


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("p2pchat.test_diagnostics")
    handler = NoticeLogHandler()
    logger.addHandler(handler)
    logger.propagate = False
    yield logger
    logger.removeHandler(handler)


def test_notices_go_where_they_are_sent_and_to_stderr_again(
    told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    print_notice("-- bob is away")
    print_error("no\nsuch name")
    redirect_notices(None)
    print_notice("-- on stderr")
    assert told == ["-- bob is away", "p2pchat: no\\u{a}such name"]
    assert capsys.readouterr() == ("", "-- on stderr\n")


def test_a_record_is_one_safe_line(told: list[str], logger: logging.Logger) -> None:
    logger.warning("a link to %s broke", "eve\x1b[2J\n12:00 bob: hi")
    assert len(told) == 1 and told[0].endswith("WARNING a link to eve\\u{1b}[2J\\u{a}12:00 bob: hi broke")


def test_a_defect_keeps_its_traceback_each_line_marked(told: list[str], logger: logging.Logger) -> None:
    try:
        raise RuntimeError("\x1b[2J")
    except RuntimeError:
        logger.exception("it failed")
    lines = told[0].split("\n")
    assert "it failed" in lines[0] and all(line.startswith("    | ") for line in lines[1:])
    assert lines[-1] == "    | RuntimeError: \\u{1b}[2J"
