"""A cost at several sizes of its driver, and its growth: the slope on logarithmic scales; printed, and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks.results import shown

END = 3  # the largest points determine the slope, because small sizes mostly show constant costs
WORDS = ((0.2, "constant"), (0.8, "less than linear"), (1.25, "linear"), (1.75, "more than linear"))
WORST = "quadratic"
COST_WIDTH, CELL_WIDTH = 58, 9
JsonObject = dict[str, Any]
Growth = dict[str, list[JsonObject]]  # curves as JSON, by driver


@dataclass(slots=True)
class Curve:
    """One cost.

    Attributes:
        cost: The measured cost, in words.
        unit: The unit of the values.
        points: Pairs of the driver's size and the value, ordered by size.
        falls: True for a rate and other costs where more is better.
        note: Anything a reader must know to interpret it.
    """

    cost: str
    unit: str
    points: list[tuple[float, float]] = field(default_factory=list)
    falls: bool = False
    note: str = ""

    def add(self, size: float, value: float) -> None:
        self.points.append((size, value))

    @property
    def exponent(self) -> float | None:
        """The slope of the END largest sizes; None without two of them that have a value above 0."""
        seen = [(math.log(size), math.log(value)) for size, value in self.points if size > 0 and value > 0][-END:]
        if len(seen) < 2 or seen[0][0] == seen[-1][0]:
            return None
        x, y = (sum(pair[i] for pair in seen) / len(seen) for i in (0, 1))
        return sum((a - x) * (b - y) for a, b in seen) / sum((a - x) ** 2 for a, _ in seen)

    @property
    def growth(self) -> str:
        """The exponent in words; "" without an exponent."""
        slope = self.exponent
        if slope is None:
            return ""
        if self.falls:
            slope = -slope
        return next((word for most, word in WORDS if slope < most), WORST)

    def to_json(self) -> dict[str, Any]:
        slope = self.exponent
        return {
            "cost": self.cost, "unit": self.unit, "points": self.points, "note": self.note, "growth": self.growth,
            "exponent": None if slope is None else round(slope, 2),
        }  # fmt: skip


def print_curves(driver: str, curves: list[Curve]) -> None:
    """Print a table: one cost per line, one size per column, the exponent at the end."""
    sizes = sorted({size for curve in curves for size, _ in curve.points})
    print(f"\n{driver:<{COST_WIDTH}}" + "".join(f"{size:>{CELL_WIDTH},.0f}" for size in sizes) + "   exponent")
    for curve in curves:
        at = dict(curve.points)
        cells = "".join(f"{shown(at[size]) if size in at else '':>{CELL_WIDTH}}" for size in sizes)
        slope = curve.exponent
        slope_text = "" if slope is None else f"{slope:+11.2f}  {curve.growth}"
        print(f"{f'{curve.cost}, {curve.unit}':<{COST_WIDTH}}{cells}{slope_text}")
    for note in dict.fromkeys(curve.note for curve in curves if curve.note):
        print(f"      {note}")


def merged(growth: Growth, more: Growth) -> Growth:
    """Return the curves of both; for one cost at one size, those of `more`."""
    drivers = {**growth, **more}
    return {name: _of_one(growth.get(name, []), more.get(name, [])) for name in drivers}


def _of_one(curves: list[JsonObject], more: list[JsonObject]) -> list[JsonObject]:
    found = [dict(curve, points=list(curve["points"])) for curve in curves]
    for number, curve in enumerate(more):  # by position: two costs of a driver may have the same words
        if number == len(found):
            found.append(dict(curve, points=[]))
        found[number]["points"] = sorted({**dict(found[number]["points"]), **dict(curve["points"])}.items())
    return found


def table(curves: list[JsonObject]) -> Iterator[str]:
    """Yield Markdown: a table of costs at the smallest and the largest size, and a line of those that are constant."""
    sizes = sorted({size for curve in curves for size, _ in curve["points"]})
    constant: list[str] = []
    yield f"| | {' | '.join(_size(size) for size in sizes[:1] + sizes[-1:])} | exponent |\n|---|---|---|---|"
    for item in (each for each in curves if each["points"]):
        curve, at = Curve(item["cost"], item["unit"], item["points"]), dict(item["points"])
        last, value = curve.points[-1]
        place = "" if last == sizes[-1] else f" at {_size(last)}"
        slope = curve.exponent
        if slope is not None and abs(slope) < WORDS[0][0]:
            constant.append(f"{curve.cost} ({shown(value)} {curve.unit}{place})")
            continue
        smallest = shown(at[sizes[0]]) if sizes[0] in at else ""
        words = "" if slope is None else f"{slope:.1f}"
        yield f"| {curve.cost}, {curve.unit} | {smallest} | {shown(value)}{place} | {words} |"
    if constant:
        yield f"\nConstant, with the figure at the largest size: {'; '.join(constant)}."


def _size(size: float) -> str:
    digits = f"{size:.0f}"
    tens = len(digits) - 1
    return f"10^{tens}" if tens > 2 and digits == "1" + "0" * tens else f"{size:,.0f}"
