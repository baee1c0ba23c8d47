"""JSON commands: parsing and errors."""

from __future__ import annotations

import pytest

from p2pchat.commands.json_commands import BadCommand, JsonCommand, parse_json_command


@pytest.mark.parametrize(
    ("line", "order"),
    [
        (
            '{"do":"send","to":"bob","text":"two\\nlines","ref":"7"}',
            JsonCommand("send", {"to": "bob", "text": "two\nlines"}, "7"),
        ),
        ('{"do":"send","text":"waves","action":true}', JsonCommand("send", {"text": "waves", "action": True})),
        ('{"do":"history","to":"bob","limit":5}', JsonCommand("history", {"to": "bob", "limit": 5})),
        ('{"do":"who"}', JsonCommand("who")),
        ('{"do":"connect","endpoint":"localhost:1"}', JsonCommand("connect", {"endpoint": "localhost:1"})),
        ('{"do":"nick","name":"Ada"}', JsonCommand("nick", {"name": "Ada"})),
        ('{"do":"search","words":"a b"}', JsonCommand("search", {"words": "a b"})),
        ('{"do":"receipts","id":"X.1"}', JsonCommand("receipts", {"id": "X.1"})),
        ('{"do":"whois","user":"bob"}', JsonCommand("whois", {"user": "bob"})),
        ('{"do":"away"}', JsonCommand("away")),
        ('{"do":"forget","peer":"bob"}', JsonCommand("forget", {"peer": "bob"})),
        ('{"do":"allow","user":"bob"}', JsonCommand("allow", {"user": "bob"})),
        ('{"do":"quit"}', JsonCommand("quit")),
    ],
)
def test_valid_json_commands(line: str, order: JsonCommand) -> None:
    assert parse_json_command(line) == order


@pytest.mark.parametrize(
    ("line", "expected", "ref"),
    [
        ('{"do":"send"', "invalid JSON", None),
        ("{" * 100_000, "invalid JSON", None),
        ('{"do":"fly","ref":"7"}', "`do` must be one of send, edit", "7"),
        ('{"text":"hi"}', "`do` must be one of", None),
        ('{"do":["send"]}', "`do` must be one of", None),
        ('{"do":"send","ref":"7"}', "'send' needs `text`", "7"),
        ('{"do":"send","text":5}', "`text` must be a string", None),
        (
            '{"do":"send","text":"x","To":"bob"}',
            "'send' has no field 'To'; its fields are to, text, action, reply_to, claimed_at, again, ref",
            None,
        ),
        ('{"do":"history","limit":true}', "`limit` must be an integer", None),
        ('{"do":"fetch","user":"bob"}', "`do` must be one of", None),
        ('{"do":"search"}', "'search' needs `words`", None),
        ('{"do":"who","ref":7}', "`ref` must be a string", None),
    ],
)
def test_invalid_json_commands_keep_their_ref(line: str, expected: str, ref: str | None) -> None:
    with pytest.raises(BadCommand) as error:
        parse_json_command(line)
    assert str(error.value).startswith(expected)
    assert error.value.ref == ref
