"""A cost at several sizes of its driver, and its growth: the slope on logarithmic scales."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from benchmarks.results import shown

END = 3  # the largest points determine the slope, because small sizes mostly show constant costs
WORDS = ((0.2, "constant"), (0.8, "less than linear"), (1.25, "linear"), (1.75, "more than linear"))
WORST = "quadratic"
COST_WIDTH, CELL_WIDTH = 58, 9


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
