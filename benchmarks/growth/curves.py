"""A cost at several sizes of what drives it, and how it grows: the slope on paper with two logarithmic scales."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from benchmarks.results import shown

END = 3  # points at the large end whose slope is told: small sizes only show what is there anyhow
WORDS = ((0.2, "constant"), (0.8, "less than linear"), (1.25, "linear"), (1.75, "more than linear"))
WORST = "quadratic"
COST_WIDTH, CELL_WIDTH = 58, 9


@dataclass(slots=True)
class Curve:
    """One cost.

    Attributes:
        cost: What is counted, in words.
        unit: Of the values.
        points: Pairs of the driver's size and the value, in order of sizes.
        falls: It is a rate, or something else of which more is better.
        note: Anything a reader has to know to believe it.
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
        """The slope of the END largest sizes; None where two of them with a value above 0 are not there."""
        seen = [(math.log(size), math.log(value)) for size, value in self.points if size > 0 and value > 0][-END:]
        if len(seen) < 2 or seen[0][0] == seen[-1][0]:
            return None
        x, y = (sum(pair[i] for pair in seen) / len(seen) for i in (0, 1))
        return sum((a - x) * (b - y) for a, b in seen) / sum((a - x) ** 2 for a, _ in seen)

    @property
    def growth(self) -> str:
        """The exponent in a word; "" where there is none."""
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
    """Print a table: a cost a line, a size a column, the exponent at the end."""
    sizes = sorted({size for curve in curves for size, _ in curve.points})
    print(f"\n{driver:<{COST_WIDTH}}" + "".join(f"{size:>{CELL_WIDTH},.0f}" for size in sizes) + "   exponent")
    for curve in curves:
        at = dict(curve.points)
        cells = "".join(f"{shown(at[size]) if size in at else '':>{CELL_WIDTH}}" for size in sizes)
        slope = curve.exponent
        told = "" if slope is None else f"{slope:+11.2f}  {curve.growth}"
        print(f"{f'{curve.cost}, {curve.unit}':<{COST_WIDTH}}{cells}{told}")
    for note in dict.fromkeys(curve.note for curve in curves if curve.note):
        print(f"      {note}")
