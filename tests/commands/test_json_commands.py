"""JSON commands: parsing and errors, and the lines they come in."""

from __future__ import annotations

import pytest

from p2pchat.commands.command_table import commands_at
from p2pchat.commands.json_commands import (
    MAX_LINE_BYTES,
    BadCommand,
    JsonCommand,
    LineBuffer,
    decode_line,
    looks_like_json,
    parse_json_command,
)


@pytest.mark.parametrize(
    ("line", "order"),
    [
        (
            '{"do":"send","to":"bob","text":"two\\nlines","ref":"7"}',
            JsonCommand("send", {"to": "bob", "text": "two\nlines"}, "7"),
        ),
        ('{"do":"send","text":"waves","action":true}', JsonCommand("send", {"text": "waves", "action": True})),
        ('{"do":"history","to":"bob","limit":5}', JsonCommand("history", {"to": "bob", "limit": 5})),
        ('{"do":"away"}', JsonCommand("away")),
        ('{"do":"history","limit":5,"before":null,"ref":null}', JsonCommand("history", {"limit": 5})),
    ],
)
def test_valid_json_commands(line: str, order: JsonCommand) -> None:
    assert parse_json_command(line, commands_at("c")) == order


@pytest.mark.parametrize(
    ("line", "expected", "ref"),
    [
        ('{"do":"send"', "invalid JSON", None),
        ('["send"]', 'this JSON is not an object; to send it as a text, use {"do": "send", "text": ...}', None),
        ("{" * 100_000, "invalid JSON", None),
        ('{"do":"fly","ref":"7"}', "`do` must be one of group, add", "7"),
        ('{"text":"hi"}', "`do` must be one of", None),
        ('{"do":["send"]}', "`do` must be one of", None),
        ('{"do":"edit","id":"x","ref":"7"}', "'edit' needs `text`", "7"),
        ('{"do":"edit","id":"x","text":null,"ref":"7"}', "'edit' needs `text`", "7"),
        ('{"do":"send","text":5}', "`text` must be a string", None),
        (
            '{"do":"send","text":"x","To":"bob"}',
            "'send' has no field 'To'; its fields are to, text, files, choices, action, reply_to, claimed_at, key, "
            "hops, ref",
            None,
        ),
        ('{"do":"send","to":null,"text":"secret","ref":"7"}', "`to` must be a string", "7"),
        ('{"do":"history","to":null}', "`to` must be a string", None),
        ('{"do":"history","limit":true}', "`limit` must be an integer", None),
        ('{"do":"who","ref":7}', "`ref` must be a string", None),
    ],
)
def test_invalid_json_commands_keep_their_ref(line: str, expected: str, ref: str | None) -> None:
    with pytest.raises(BadCommand) as error:
        parse_json_command(line, commands_at("c"))
    assert str(error.value).startswith(expected)
    assert error.value.ref == ref


@pytest.mark.parametrize("around", ["", "\ufeff", " \t", "\xa0", "\u200b\u2060", "\x00\x1f", "\u00ad"])
@pytest.mark.parametrize("json", ["{}", '{"text":', "{'text': 1}", '[{"text": "hi"}]', '"{\\"text\\": 1}"'])
def test_json_is_found_whatever_invisible_characters_are_around_it(around: str, json: str) -> None:
    assert looks_like_json(around + json + around)


@pytest.mark.parametrize(
    "text", ["", " ", '"hi" she said', '"yes, it is"', "[x] done", "[1]", '["a", "b"]', '"', "hi {}", "7", "null"]
)
def test_other_texts_are_no_json(text: str) -> None:
    assert not looks_like_json(text) and not looks_like_json("\ufeff" + text)


def lines_of(chunks: list[bytes]) -> list[bytes | None]:
    lines = LineBuffer(MAX_LINE_BYTES)
    return [line for chunk in chunks for line in lines.feed(chunk)] + lines.end()


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([], []),
        ([b"a\nb"], [b"a", b"b"]),
        ([b"a\r\n", b"b\r"], [b"a", b"b"]),
    ],
)
def test_chunks_become_lines(chunks: list[bytes], lines: list[bytes]) -> None:
    assert lines_of(chunks) == lines


TEXT = b"one\ntwo\r\n\nlast"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_lines_are_the_same_in_any_pieces(size: int) -> None:
    lines, found = LineBuffer(10), []
    for start in range(0, len(TEXT), size):
        found += lines.feed(TEXT[start : start + size])
    assert found + lines.end() == [b"one", b"two", b"", b"last"]
    assert lines.end() == []


@pytest.mark.parametrize("size", [1, 4, 100])
def test_a_too_long_line_becomes_none(size: int) -> None:
    text, lines, found = b"short\n" + b"x" * 11 + b"\n" + b"y" * 10 + b"\n" + b"z" * 50, LineBuffer(10), []
    for start in range(0, len(text), size):
        found += lines.feed(text[start : start + size])
    assert found + lines.end() == [b"short", None, b"y" * 10, None]


def test_invalid_utf8_is_reported() -> None:
    assert decode_line("grün".encode()) == ("grün", True)
    assert decode_line("grün".encode("latin-1")) == ("gr\ufffdn", False)
