"""Bytes become lines in whatever pieces they come, and a line that is too long costs no memory."""

from __future__ import annotations

import pytest

from p2pchat.cli.control_socket import LineBuffer, encode

TEXT = b"one\ntwo\r\n\nlast"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_lines_are_the_same_in_any_pieces(size: int) -> None:
    lines, found = LineBuffer(10), []
    for start in range(0, len(TEXT), size):
        found += lines.feed(TEXT[start : start + size])
    assert found + lines.end() == [b"one", b"two", b"", b"last"]
    assert lines.end() == []


@pytest.mark.parametrize("size", [1, 4, 100])
def test_a_line_that_is_too_long_is_one_none(size: int) -> None:
    text, lines, found = b"short\n" + b"x" * 11 + b"\n" + b"y" * 10 + b"\n" + b"z" * 50, LineBuffer(10), []
    for start in range(0, len(text), size):
        found += lines.feed(text[start : start + size])
    assert found + lines.end() == [b"short", None, b"y" * 10, None]


def test_an_object_is_one_line_whatever_it_says() -> None:
    assert encode({"text": "a\nb\u2028ü"}) == b'{"text":"a\\nb\\u2028\\u00fc"}\n'
