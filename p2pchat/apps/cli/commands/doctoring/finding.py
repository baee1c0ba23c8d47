"""What a check found: one line about one thing, with one way to mend it where there is trouble."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `p2pchat doctor`.

    Attributes:
        what: What was looked at, one word.
        verdict: `wrong` keeps p2pchat from working, `warning` may.
        seen: What was seen, a sentence without its end mark.
        mend: A command to run or a thing to do; "" where there is nothing to do.
    """

    what: str
    verdict: Verdict
    seen: str
    mend: str = ""


def ok(what: str, seen: str, mend: str = "") -> Finding:
    """`mend` is what else can be done to be sure."""
    return Finding(what, "ok", seen, mend)


def warning(what: str, seen: str, mend: str) -> Finding:
    return Finding(what, "warning", seen, mend)


def wrong(what: str, seen: str, mend: str) -> Finding:
    return Finding(what, "wrong", seen, mend)


def told(what: str, error: BaseException | str) -> Finding:
    """Return what an error of the library says: what is wrong, a colon, what to do."""
    seen, colon, mend = str(error).partition(": ")
    return wrong(what, seen, mend if colon else "start the peer: its error may say more")
