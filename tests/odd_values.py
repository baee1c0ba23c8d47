"""Values that a field of a command may have by mistake or on purpose."""

from __future__ import annotations

from typing import Any

LONE = "\ud800"  # half of a surrogate pair: JSON may name it, and it has no UTF-8
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 2**200, 0.5, 1e308, float("nan"), float("inf")),
    *("", " ", "\0", "a\0b", LONE, f"a{LONE}b", "\u202e", "\n", "\x1b[2J", ".", "..", "/", "~nobody/x", "/no/way"),
    *("#", "#ops", "@", "room", "*", "a" * 300, "a" * 40_000, "9" * 400),
    *("2026-13-01", "2026-11-20T11:42:31Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"),
    *([], [""], ["\0"], [LONE], ["bob", "bob"], [1], ["a"] * 1000, {}, {"a": 1}),
)
GOOD: dict[str, Any] = {
    "text": "x", "int": 1, "float": 0.0, "bool": True, "list": ["x"], "conversation": "bob", "place": "bob",
    "group": "#ops", "user": "bob", "users": ["bob"], "message": "x.1", "time": "2026-11-20T11:42:31.689337Z",
}  # fmt: skip
