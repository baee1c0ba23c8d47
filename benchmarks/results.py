"""What a work gives back: rows of figures, and the surroundings they were measured in."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Attributes:
        work: What was done, in words.
        value: In `unit`.
        goal: What it should reach, in words; "" for figures that are only shown.
        floor: What the machine or another program does in the same run, in words, with the ratio.
        note: Anything a reader has to know to believe the figure.
        cpu: Microseconds of processor for each message, of all processes together; 0.0 where nobody counts it.
    """

    work: str
    value: float
    unit: str
    goal: str = ""
    floor: str = ""
    note: str = ""
    cpu: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class Setting:
    """How big the works are, and where they keep their files.

    Attributes:
        directory: On a real disk; workers make their own directories below.
        messages: A round of the durable works.
        rounds: Of each work that is repeated; the median counts.
        entries: Of the history a newcomer fetches, and that stands stored at a restart.
        peers: In the mesh.
        links: Idle ones whose memory is measured.
        crowd: Users that a crowded peer knows; its addresses and conversations are in proportion.
        users: With a WebSocket, on one gateway.
        alone: Measure p2pchat only, and nothing beside it.
    """

    directory: Path
    messages: int = 100_000
    gathered: int = 2_000  # `send` at once, as the goal says
    rounds: int = 3
    singles: int = 1_000
    entries: int = 1_000_000
    peers: int = 32
    links: int = 200
    crowd: int = 5_000
    users: int = 2_000
    alone: bool = False
    floor: dict[str, float] = field(default_factory=dict)  # filled by floor.py, read by the works after it


def middle(values: list[float]) -> float:
    """Return the median."""
    return float(median(values))


def spread(values: list[float]) -> str:
    """Return the lowest and highest of several rounds, for a note."""
    return f"{len(values)} rounds, {shown(min(values))} to {shown(max(values))}"


def shown(value: float) -> str:
    """Return a figure as people read it: 3 digits, thousands apart."""
    if value >= 1000:
        digits = max(0, len(str(int(value))) - 3)
        return f"{round(value, -digits):,.0f}"
    return f"{value:.3g}"


def percentile(values: list[float], part: float) -> float:
    """Return the value that `part` (0 to 1) of all lie below."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


TEXT_BYTES = 180  # of a message, as in the goals


def text(number: int, size: int = TEXT_BYTES) -> str:
    """Return a text of so many bytes, 9 or more, different for each number."""
    return f"{number:08d} " + (_FILLING if size == TEXT_BYTES else _filling(size))


def _filling(size: int) -> str:
    words = "The quick brown fox jumps over the lazy dog. "
    return (words * (size // len(words) + 1))[: size - 9]


_FILLING = _filling(TEXT_BYTES)
