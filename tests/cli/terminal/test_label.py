"""What stands before the input, also where there is little room."""

from __future__ import annotations

import pytest

from p2pchat.cli.terminal.prompt import UnreadBadge, prompt_label
from p2pchat.commands.wrap import plain_text

BOTH = [UnreadBadge("bob", 2, 0), UnreadBadge("room", 5, 1)]


@pytest.mark.parametrize(
    "where, waiting, columns, shown",
    [
        ("room", [], 80, "room> "),
        ("room", BOTH, 80, "[bob 2 · room 5 @1] room> "),
        ("room", BOTH, 40, "[7 @1] room> "),
        ("room", BOTH, 28, "7 @1> "),
        ("a very long name of a user", [], 30, "> "),
        ("Anna Maria", [UnreadBadge("bob 3 · x", 1, 0)], 80, '["bob 3 · x" 1] "Anna Maria"> '),
        ("eve\x1b[2J", [], 80, '"eve\\u{1b}[2J"> '),
        ("bob#K7QF2M3P", [], 80, "bob#K7QF2M3P> "),
    ],
)
def test_the_label(where: str, waiting: list[UnreadBadge], columns: int, shown: str) -> None:
    assert plain_text(prompt_label(where, waiting, columns)) == shown
