"""Results of a work: figures of each system, printed with the ratios first, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.results import middle, percentile, shown


@dataclass(slots=True)
class SystemResult:
    """The figures of one system, one per round; `more` holds further figures, in words and with their units."""

    name: str
    values: list[float] = field(default_factory=list)
    more: dict[str, float] = field(default_factory=dict)
    alike: tuple[str, ...] = ()  # p2pchat variants to compare with, the first present; else the work's first
    ours: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name, "ours": self.ours, "median": middle(self.values),
            "low": min(self.values), "high": max(self.values), "p99": percentile(self.values, 0.99),
            "rounds": len(self.values), "more": self.more,
        }  # fmt: skip


@dataclass(slots=True)
class WorkResult:
    """The results of one work; less is better if the unit is a time or a size."""

    work: str
    words: str
    unit: str
    systems: list[SystemResult]
    left_out: list[str] = field(default_factory=list)
    singly: bool = False  # True: values of single messages, shown with the 99th percentile instead of the extremes

    @property
    def less(self) -> bool:
        return not self.unit.endswith("/s")

    def beside(self, figures: SystemResult) -> SystemResult:
        """Return the p2pchat variant that this system is compared with."""
        here = {each.name: each for each in self.systems}
        return next((here[name] for name in figures.alike if name in here), self.systems[0])

    def ratio(self, figures: SystemResult) -> float:
        """Return p2pchat's median divided by this one's; 0 if there is no ratio."""
        other = middle(figures.values)
        return middle(self.beside(figures).values) / other if other else 0.0

    def show(self) -> None:
        print(f"\n{self.words}; {'less' if self.less else 'more'} is better")
        for figures in self.systems:
            if self.singly:
                spread = f"99 %: {shown(percentile(figures.values, 0.99))} {self.unit}"
            else:
                spread = f"{shown(min(figures.values))} to {shown(max(figures.values))}"
            more = "; ".join([spread, *(f"{words} {shown(value)}" for words, value in figures.more.items())])
            median = middle(figures.values)
            name = figures.name if self.beside(figures) is self.systems[0] else f"{figures.name} (*)"
            print(f"  {self.ratio(figures):>7.3g} x  {name:<41} {shown(median):>9} {self.unit:<4} {more}")
        for ours in dict.fromkeys(self.beside(each).name for each in self.systems):
            if ours != self.systems[0].name:
                print(f"  (*) compared with: {ours}")
        for reason in self.left_out:
            print(f"  left out: {reason}")

    def to_json(self) -> dict[str, Any]:
        systems = [
            {**figures.to_json(), "ratio": self.ratio(figures), "beside": self.beside(figures).name}
            for figures in self.systems
        ]
        said: dict[str, Any] = {"work": self.work, "words": self.words, "unit": self.unit, "singly": self.singly}
        return {**said, "less": self.less, "systems": systems, "left_out": self.left_out}


def figures_of(systems: Sequence[Any]) -> list[SystemResult]:
    """Return empty figures, one for each system."""
    return [SystemResult(system.name, alike=system.alike, ours=system.ours) for system in systems]
