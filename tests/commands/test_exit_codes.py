"""Stable words of errors."""

from __future__ import annotations

import re

import p2pchat
from p2pchat import P2PChatError, TooLong, UnknownName
from p2pchat.commands.exit_codes import CommandError, UsageError, error_code


def test_error_code_is_the_class_name_in_snake_case() -> None:
    errors = [
        UnknownName("bob"),
        TooLong("a text", 2, 1),
        UsageError("no"),
        CommandError("no"),
    ]
    assert [error_code(error) for error in errors] == ["unknown_name", "too_long", "usage", "failure"]


def test_every_error_code_is_snake_case() -> None:
    """The base class has a code of its own: `p2_p_chat_error` would be odd."""
    assert error_code(P2PChatError("no such thing")) == "error"
    offered = [getattr(p2pchat, name) for name in p2pchat.__all__]
    kinds = [kind for kind in offered if isinstance(kind, type) and issubclass(kind, P2PChatError)]
    words = [error_code(kind.__new__(kind)) for kind in kinds]
    assert len(words) > 10 and all(re.fullmatch(r"[a-z]{2,}(_[a-z]{2,})*", word) for word in words), words
