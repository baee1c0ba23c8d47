"""Vectors of choices and hops: what an entry says, and what has no effect."""

from __future__ import annotations

from typing import Any

from tests.docs.valid_entries import entry
from tests.vectors.material import Row, compact, row

ASKED = ["yes", "no"]
FAMILY = "👩\u200d👩\u200d👧\u200d👦x"  # 8 code points


def choices() -> list[Row]:
    whole = "A value of another form has no effect: the message has no choices at all."
    number = "A value of another form has no effect: no program counted."
    wrong: dict[str, Any] = {
        "one": ["yes"],
        "seven": list("abcdefg"),
        "none": [],
        "null": None,
        "a text": "yes",
        "an object": {"0": "yes", "1": "no"},
        "two alike": ["yes", "no", "yes"],
        "an empty one": ["yes", ""],
        "81 code points": ["yes", "x" * 81],
        "a number": ["yes", 7],
        "U+0000": ["yes", "n\0"],
    }
    return [
        _asked("two", "Two choices.", ASKED),
        _asked("six", "At most six.", list("abcdef")),
        _asked("8 code points", "A choice is as long as a reaction; an emoji may have several.", [FAMILY, "no"]),
        _asked("upper and lower case", "These are different texts.", ["yes", "Yes"]),
        _asked("blanks", "A choice is kept as it is.", [" ", "a\nb"]),
        *(_asked(name, whole, said, []) for name, said in wrong.items()),
        *(_asked(f"in a {kind}", "Only a text has choices.", ASKED, [], k=f'"{kind}"') for kind in ("action", "later")),
        *(_counted(str(hops), "The hops.", compact(hops), hops) for hops in (0, 1, 8, 255)),
        *(_counted(said, number, said, 0) for said in ("256", "-1", "1.0", "true", "null", '"1"')),
        row("both", "Neither needs the other to be valid.", {"text": entry(choices='["yes"]', hops="3")},
            {"choices": [], "hops": 3}),
    ]  # fmt: skip


def _asked(name: str, why: str, said: Any, result: Any = None, **keys: str) -> Row:
    text = entry(choices=compact(said), **keys)
    return row(name, why, {"text": text}, {"choices": said if result is None else result, "hops": 0})


def _counted(name: str, why: str, said: str, hops: int) -> Row:
    return row(f"hops {name}", why, {"text": entry(hops=said)}, {"choices": [], "hops": hops})
