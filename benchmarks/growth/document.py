"""The tables of docs/growth.md. Each is between two markers and gets new figures; the text around it is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.growth.curves import Curve
from benchmarks.results import shown

DOCUMENT = "growth.md"
JsonObject = dict[str, Any]
Growth = dict[str, list[JsonObject]]  # curves as JSON, by driver


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


def put_into(text: str, growth: Growth) -> str:
    """Return the document with the tables of these drivers. Raises ValueError if a table has no markers."""
    for driver, curves in growth.items():
        begin, end = f"<!-- growth: {driver} -->", f"<!-- end of {driver} -->"
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not found or not ended:
            raise ValueError(f"{DOCUMENT} has no place for figures: {begin}")
        text = "\n".join([f"{before}{begin}", *_table(curves), f"{end}{after}"])
    return text


def _table(curves: list[JsonObject]) -> Iterator[str]:
    sizes = sorted({size for curve in curves for size, _ in curve["points"]})
    yield "| | " + " | ".join(_size(size) for size in sizes) + " | exponent |"
    yield "|---" * (len(sizes) + 2) + "|"
    for item in curves:
        curve, at = Curve(item["cost"], item["unit"], item["points"]), dict(item["points"])
        cells = [shown(at[size]) if size in at else "" for size in sizes]
        slope = "" if curve.exponent is None else f"{curve.exponent + 0.0:.1f}".replace("-0.0", "0.0")
        yield f"| {curve.cost}, {curve.unit} | " + " | ".join(cells) + f" | {slope} |"


def _size(size: float) -> str:
    digits = f"{size:.0f}"
    tens = len(digits) - 1
    return f"10^{tens}" if tens > 2 and digits == "1" + "0" * tens else f"{size:,.0f}"
