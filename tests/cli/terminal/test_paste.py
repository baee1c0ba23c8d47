"""A paste is text, and many lines of it are asked about."""

from __future__ import annotations

import pytest

from p2pchat.cli.terminal.prompt import PasteQuestion, needs_question, pasted_text
from p2pchat.commands.typed_commands import TextInput, parse_line


@pytest.mark.parametrize(
    "pasted, text",
    [
        ("one", "one"),
        ("one\r\ntwo\rthree\n\n", "one\ntwo\nthree"),
        ("a\tb", "a    b"),
        ("/quit", "//quit"),
        ("//quit", "///quit"),
        ("/quit\nnow", "//quit\nnow"),
    ],
)
def test_a_paste_where_a_line_begins(pasted: str, text: str) -> None:
    assert pasted_text(pasted, "") == text
    assert isinstance(parse_line(text), TextInput)


def test_a_paste_behind_what_was_typed_stays_as_it_is() -> None:
    assert pasted_text("/etc/hosts", "see ") == "/etc/hosts"


def test_more_than_five_lines_are_asked_about() -> None:
    assert not needs_question("1\n2\n3\n4\n5")
    assert needs_question("1\n2\n3\n4\n5\n6")
    assert PasteQuestion("1\n2\n3\n4\n5\n6", 0, "", 0).text_shown == "send 6 lines as one message? y/n, e: edit "
