"""Command `python -m benchmarks.report FOUND.json [MORE.json ...]`: write the figures and the plot of docs/measured.md.

The first file comes from `python -m benchmarks.against --json`. Further files come from another run of it, whose works
replace the same works, or from `python -m benchmarks.growth --json`, whose figures replace the same figures. With only
files of growth, only the tables of growth are written. Only the text between markers is replaced; the rest is written
by hand. The plot needs matplotlib (extra `bench`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.goals import GOALS, MET
from benchmarks.growth import curves
from benchmarks.results import shown
from benchmarks.workers import ROOT

DOCUMENT, PLOT = "measured.md", "measured.svg"
PLOTTED = ("pair", "frames", "memory", "seven", "all", "latency", "half", "backlog")
ROW_INCHES, WIDTH_INCHES, BETWEEN_WORKS = 0.22, 9.0, 0.6
BETTER, WORSE = "#1f6fb2", "#d9822b"  # distinguishable for colour-blind readers
JsonObject = dict[str, Any]


def joined(files: list[Path]) -> JsonObject:
    """Return the contents of all files as one."""
    results: JsonObject = {"machine": {}, "works": [], "rows": [], "growth": {}}
    for file in files:
        more = json.loads(file.read_text("utf-8"))
        results["machine"] = results["machine"] or more["machine"]
        works = {work["work"]: work for work in [*results["works"], *more.get("works", [])]}
        rows = {row["work"]: row for row in [*results["rows"], *more.get("rows", [])]}
        results |= {"works": list(works.values()), "rows": list(rows.values())}
        results["growth"] = curves.merged(results["growth"], more.get("growth", {}))
    return results


def tables(results: JsonObject) -> dict[str, Iterable[str]]:
    """Return the lines of each table, by the name in its markers."""
    found: dict[str, Iterable[str]] = {}
    if results["works"] or results["rows"]:
        found = {"machine": _machine(results), "ratios": _ratios(results), "goals": _goals(results)}
        found["floor"] = _floor(results)
    return found | {driver: curves.table(those) for driver, those in results["growth"].items()}


def _machine(results: JsonObject) -> Iterator[str]:
    about = results["machine"]
    order = ("processor", "system", "python", "libraries", "file system", "an fsync", "synchronous", "beside")
    conditions = "; ".join(f"{name} {about[name]}" for name in order if name in about)
    yield f"Measured on {about.get('date', 'an unknown day')}: {conditions}."


def _ratios(results: JsonObject) -> Iterator[str]:
    """Yield a row for each way of p2pchat in a work, with the systems that are compared with it."""
    yield "| work | p2pchat, median | how many times better than each |\n|---|---|---|"
    for work in results["works"]:
        first, words = work["systems"][0]["name"], _sentence(work["words"])
        for ours in work["systems"]:
            others = [each for each in work["systems"] if not each["ours"] and each["beside"] == ours["name"]]
            if ours["ours"] and (others or ours["name"] == first):
                beside = "; ".join(f"{each['name']}: {shown(_better(work, each['ratio']))}" for each in others)
                way = ours["name"].removeprefix("p2pchat").lstrip(", ")
                yield f"| {words} | {way}: {shown(ours['median'])} {work['unit']} | {beside} |"
                words = ""  # only in the first row of a work
        yield from (f"| | | left out: {reason} |" for reason in work["left_out"])


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]


def _better(work: JsonObject, ratio: float) -> float:
    """Return how many times better p2pchat is, from its figure divided by that of the other; 0 if there is none."""
    return 1 / ratio if work["less"] and ratio else ratio


def _goals(results: JsonObject) -> Iterator[str]:
    rows = [goal.row(results) for goal in GOALS]
    missed = [row for row in rows if row[-1] != MET]
    yield f"{len(rows) - len(missed)} of {len(rows)} goals were met. The others:\n"
    yield "| work | goal | measured | of the goal |\n|---|---|---|---|"
    yield from ("| " + " | ".join(row) + " |" for row in missed)


def _floor(results: JsonObject) -> Iterator[str]:
    yield "| work | result | goal | compared with |\n|---|---|---|---|"
    for row in results["rows"]:
        beside = "; ".join(words for words in (row["floor"], row["note"]) if words)
        yield f"| {row['work']} | {shown(row['value'])} {row['unit']} | {row['goal']} | {beside} |"


def put_into(text: str, name: str, lines: Iterable[str]) -> str:
    """Return the document with this table between its markers. Raises ValueError if the markers are missing."""
    begin, end = f"<!-- figures: {name} -->", f"<!-- end of {name} -->"
    before, found, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"{DOCUMENT} has no place for figures: {begin}")
    return "\n".join([f"{before}{begin}", *lines, f"{end}{after}"])


def plot(results: JsonObject, file: Path) -> None:
    """Draw how many times better p2pchat is than each system: bars from 1, on a logarithmic scale."""
    matplotlib, pyplot = import_module("matplotlib"), import_module("matplotlib.pyplot")
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "p2pchat", "svg.fonttype": "none", "font.size": 8})
    bars = list(_bars(results))
    rows = [bar.row for bar in bars]
    figure, axes = pyplot.subplots(figsize=(WIDTH_INCHES, ROW_INCHES * max(rows) + 0.8), layout="constrained")
    axes.barh(
        rows, [bar.better - 1 for bar in bars], left=1, color=[BETTER if bar.better >= 1 else WORSE for bar in bars]
    )
    axes.hlines(rows, [bar.least for bar in bars], [bar.most for bar in bars], color="black", linewidth=0.7)
    for bar in bars:
        outwards = (max(bar.better, bar.most), "left") if bar.better >= 1 else (min(bar.better, bar.least), "right")
        axes.text(outwards[0], bar.row, f"  {shown(bar.better)} x  ", ha=outwards[1], va="center")
    axes.set_yticks(rows, [bar.words for bar in bars])
    axes.tick_params(axis="y", length=0)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, at: f"{value:g}")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.grid(axis="x", color="#dddddd", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.invert_yaxis()
    axes.set_xlabel("how many times better p2pchat is (1: equal); lines: from its worst round to its best")
    axes.margins(x=0.14, y=0.01)
    figure.savefig(file, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


class Bar(NamedTuple):
    """One comparison: how many times better p2pchat is, by medians, and for the worst and best of its rounds."""

    row: float
    words: str
    better: float
    least: float
    most: float


def _bars(results: JsonObject) -> Iterator[Bar]:
    row = 0.0
    for work in results["works"]:
        if work["work"] not in PLOTTED:
            continue
        row += BETWEEN_WORKS
        of_ours = {system["name"]: system for system in work["systems"] if system["ours"]}
        for system in work["systems"]:
            if not system["ours"] and system["ratio"]:
                row += 1
                yield _bar(row, work, system, of_ours[system["beside"]])


def _bar(row: float, work: JsonObject, system: JsonObject, ours: JsonObject) -> Bar:
    if work["singly"]:  # values of single messages are not rounds
        edges = [system["ratio"]]
    else:
        edges = [ours[edge] / system["median"] for edge in ("low", "high")]
    better, *edges = (_better(work, ratio) for ratio in (system["ratio"], *edges))
    return Bar(row, f"{work['work']}: {system['name']}", better, min(edges), max(edges))


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("found", type=Path, nargs="+", metavar="FOUND.json")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help=f"where {DOCUMENT} and {PLOT} are")
    chosen = parser.parse_args(given)
    try:
        results = joined(chosen.found)
        document = chosen.docs / DOCUMENT
        text = document.read_text("utf-8")
        for name, lines in tables(results).items():
            text = put_into(text, name, lines)
        document.write_text(text, "utf-8")
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    if not results["works"]:
        return 0
    if find_spec("matplotlib") is None:
        print(f"{PLOT} was not changed: matplotlib is not installed (extra `bench`)", file=sys.stderr)
        return 0
    plot(results, chosen.docs / PLOT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
