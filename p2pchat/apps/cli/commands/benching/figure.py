"""What was measured: one figure, as people and programs read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

TEXT_BYTES = 180  # of a message: what the project's own benchmarks send


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of `p2pchat bench`.

    Attributes:
        what: A stable word.
        value: The median of all, in `unit`; a rate is one figure of all messages together.
        unit: s for seconds, /s for messages a second.
        p99: What 99 of 100 stay below; None for a rate.
        count: How many were measured.
        text: What begins and ends it, for people.
    """

    what: str
    value: float
    unit: Literal["s", "/s"]
    p99: float | None
    count: int
    text: str


def times(what: str, seconds: Sequence[float], text: str) -> Figure:
    """Return the figure of single times, at least one."""
    ordered = sorted(seconds)
    return Figure(what, median(ordered), "s", ordered[int(0.99 * len(ordered))], len(ordered), text)


def rate(what: str, count: int, seconds: float, text: str) -> Figure:
    """Return the figure of many together."""
    return Figure(what, count / max(seconds, 1e-9), "/s", None, count, text)


def message(number: int) -> str:
    """Return a text of TEXT_BYTES, different for each number."""
    return f"{number:08d} bench: ".ljust(TEXT_BYTES, ".")


def shown(figure: Figure) -> str:
    """Return a figure as a line."""
    most = "" if figure.p99 is None else f"99 %: {_time(figure.p99)}"
    value = f"{figure.value:,.0f} /s" if figure.unit == "/s" else _time(figure.value)
    return f"{figure.what.replace('_', ' '):<16}{value:>11}  {most:<15}  {figure.count:>7,}  {figure.text}"


def _time(seconds: float) -> str:
    milliseconds = seconds * 1000
    return f"{milliseconds:.2f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"
