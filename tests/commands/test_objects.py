"""Command objects: what programs write on standard input under --json."""

from __future__ import annotations

import pytest

from p2pchat.commands.json_commands import BadOrder, Order, parse_object


@pytest.mark.parametrize(
    ("line", "order"),
    [
        (
            '{"do":"send","to":"bob","text":"two\\nlines","ref":"7"}',
            Order("send", {"to": "bob", "text": "two\nlines"}, "7"),
        ),
        ('{"do":"send","text":"waves","action":true}', Order("send", {"text": "waves", "action": True})),
        ('{"do":"history","to":"bob","limit":5}', Order("history", {"to": "bob", "limit": 5})),
        ('{"do":"who"}', Order("who")),
        ('{"do":"connect","endpoint":"localhost:1"}', Order("connect", {"endpoint": "localhost:1"})),
        ('{"do":"nick","name":"Ada"}', Order("nick", {"name": "Ada"})),
        ('{"do":"search","words":"a b"}', Order("search", {"words": "a b"})),
        ('{"do":"receipts","id":"X.1"}', Order("receipts", {"id": "X.1"})),
        ('{"do":"whois","user":"bob"}', Order("whois", {"user": "bob"})),
        ('{"do":"away"}', Order("away")),
        ('{"do":"forget","peer":"bob"}', Order("forget", {"peer": "bob"})),
        ('{"do":"allow","user":"bob"}', Order("allow", {"user": "bob"})),
        ('{"do":"quit"}', Order("quit")),
    ],
)
def test_an_object_means(line: str, order: Order) -> None:
    assert parse_object(line) == order


@pytest.mark.parametrize(
    ("line", "told", "ref"),
    [
        ('{"do":"send"', "this line is no JSON", None),
        ("{" * 100_000, "this line is no JSON", None),
        ('{"do":"fly","ref":"7"}', "`do` is one of send, edit", "7"),
        ('{"text":"hi"}', "`do` is one of", None),
        ('{"do":["send"]}', "`do` is one of", None),
        ('{"do":"send","ref":"7"}', "'send' needs `text`", "7"),
        ('{"do":"send","text":5}', "`text` is a string", None),
        (
            '{"do":"send","text":"x","To":"bob"}',
            "'send' has no field 'To'; it has to, text, action, reply_to, claimed_at, again, ref",
            None,
        ),
        ('{"do":"history","limit":true}', "`limit` is a whole number", None),
        ('{"do":"fetch","user":"bob"}', "`do` is one of", None),
        ('{"do":"search"}', "'search' needs `words`", None),
        ('{"do":"who","ref":7}', "`ref` is a string", None),
    ],
)
def test_what_cannot_be_meant_is_told_with_its_ref(line: str, told: str, ref: str | None) -> None:
    with pytest.raises(BadOrder) as error:
        parse_object(line)
    assert str(error.value).startswith(told)
    assert error.value.ref == ref
