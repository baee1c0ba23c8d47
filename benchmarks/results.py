"""Results of a work: rows of figures, and the settings they were measured with."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Attributes:
        work: The measured work, in words.
        value: The figure, in `unit`.
        goal: The value it should reach, in words; "" for figures without a goal.
        floor: The result of the machine or another program in the same run, in words, with the ratio.
        note: Anything a reader must know to interpret the figure.
        cpu: Microseconds of CPU per message, of all processes together; 0.0 if not measured.
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
    """Sizes of the works, and the directory of their files.

    Attributes:
        directory: A directory on a real disk; workers create their own directories below it.
        messages: Messages in a round of the durable works.
        rounds: Rounds of each repeated work; the median counts.
        entries: Entries in the history that a newcomer fetches, and that is stored at a restart.
        peers: Peers in the mesh.
        links: Idle links whose memory is measured.
        crowd: Users that a crowded peer knows; its addresses and conversations are in proportion.
        users: Users with a WebSocket on one gateway.
        gateways: Gateways of `gateways`.
        hosted: Hosted users of each of them.
        file_bytes: Bytes of the large file; a tenth of it for many readers.
        files: Small files.
        alone: Measure only p2pchat, without any comparison.
    """

    directory: Path
    messages: int = 100_000
    gathered: int = 2_000  # `send` calls at once; from the goal
    rounds: int = 3
    singles: int = 1_000
    entries: int = 1_000_000
    peers: int = 32
    links: int = 200
    crowd: int = 5_000
    users: int = 2_000
    gateways: int = 10
    hosted: int = 1_000
    file_bytes: int = 2**30
    files: int = 10_000
    alone: bool = False
    floor: dict[str, float] = field(default_factory=dict)  # set by floor.py, read by later works


def middle(values: list[float]) -> float:
    """Return the median."""
    return float(median(values))


def spread(values: list[float]) -> str:
    """Return the lowest and highest of several rounds, for a note."""
    return f"{len(values)} rounds, {shown(min(values))} to {shown(max(values))}"


def shown(value: float) -> str:
    """Return a figure formatted for people: 3 digits, with thousands separators."""
    if value >= 1000:
        digits = max(0, len(str(int(value))) - 3)
        return f"{round(value, -digits):,.0f}"
    return f"{value:.3g}"


def percentile(values: list[float], part: float) -> float:
    """Return the value below which a share `part` (0 to 1) of all values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


TEXT_BYTES = 180  # of a message, as in the goals


def text(number: int, size: int = TEXT_BYTES) -> str:
    """Return a text of `size` bytes, at least 9, different for each number."""
    return f"{number:08d} " + (_FILLING if size == TEXT_BYTES else _filling(size))


def _filling(size: int) -> str:
    words = "The quick brown fox jumps over the lazy dog. "
    return (words * (size // len(words) + 1))[: size - 9]


_FILLING = _filling(TEXT_BYTES)
