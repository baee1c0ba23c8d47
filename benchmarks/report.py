"""Command `python -m benchmarks.report FOUND.json [MORE.json ...]`: write the figures of two documents.

It writes docs/compared.md and docs/growth.md. The first file comes from `python -m benchmarks.against --json`. Further
files come from another run of it, whose works replace the same works, or from `python -m benchmarks.growth --json`,
whose figures replace the same figures. With only files of growth, compared.md is not changed. Only the text between
markers is replaced; the rest is written by hand. The plot of compared.md needs matplotlib (extra `bench`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.goals import GOALS
from benchmarks.growth import document
from benchmarks.results import shown
from benchmarks.workers import ROOT

BEGIN, END = "<!-- figures: python -m benchmarks.report writes what follows -->", "<!-- end of figures -->"
DOCUMENT, PLOT = "compared.md", "compared.svg"
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
        results["growth"] = document.merged(results["growth"], more.get("growth", {}))
    return results


def written(results: JsonObject) -> str:
    """Return all figures as Markdown."""
    return "\n".join([*_machine(results), *_goals(results), *_works(results), *_alone(results)])


def _machine(results: JsonObject) -> Iterator[str]:
    about = results["machine"]
    order = ("processor", "system", "python", "libraries", "file system", "an fsync", "synchronous", "beside")
    yield "Measured on: " + "; ".join(f"{name} {about[name]}" for name in order if name in about) + "."


def _goals(results: JsonObject) -> Iterator[str]:
    yield "\n### Goals\n"
    yield "| work | goal | measured | |\n|---|---|---|---|"
    for goal in GOALS:
        yield "| " + " | ".join(goal.row(results)) + " |"


def _works(results: JsonObject) -> Iterator[str]:
    for work in results["works"]:
        better = "less" if work["less"] else "more"
        yield f"\n### {_sentence(work['words'])}\n"
        yield f"`{work['work']}`; {better} is better; {_rounds(work)}. Compared with the first line or the one named."
        spread = "99 %" if work["singly"] else "lowest to highest"
        yield f"\n| | p2pchat : other | median | {spread} | also |\n|---|---|---|---|---|"
        for system in work["systems"]:
            yield _line(work, system)
        yield from (f"\nLeft out: {reason}." for reason in work["left_out"])


def _rounds(work: JsonObject) -> str:
    """Return the number of values behind a median, in words."""
    counts = [system["rounds"] for system in work["systems"]]
    counted = f"{min(counts):,}" + (f" to {max(counts):,}" if max(counts) > min(counts) else "")
    return f"{counted} {'messages' if work['singly'] else 'rounds'} of each"


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]


def _line(work: JsonObject, system: JsonObject) -> str:
    edge = shown(system["p99"]) if work["singly"] else f"{shown(system['low'])} to {shown(system['high'])}"
    more = "; ".join(f"{words} {shown(value)}" for words, value in system["more"].items())
    name = f"**{system['name']}**" if system["ours"] else system["name"]
    first = work["systems"][0]["name"]
    beside = "" if system["beside"] == first else f" ({system['beside'].removeprefix('p2pchat').lstrip(', ')})"
    return f"| {name} | {shown(system['ratio'])}{beside} | {shown(system['median'])} {work['unit']} | {edge} | {more} |"


def _alone(results: JsonObject) -> Iterator[str]:
    if results["rows"]:
        yield "\n### p2pchat compared with the machine\n\n| work | result | goal | compared with |\n|---|---|---|---|"
    for row in results["rows"]:
        beside = "; ".join(words for words in (row["floor"], row["note"]) if words)
        yield f"| {row['work']} | {shown(row['value'])} {row['unit']} | {row['goal']} | {beside} |"


def put_into(document: Path, figures: str) -> None:
    """Write the figures between the markers. Raises ValueError if the markers are missing."""
    before, begin, rest = document.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{document} has no place for figures: {BEGIN}")
    document.write_text(f"{before}{BEGIN}\n{figures}\n{END}{after}", "utf-8")


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
    better, *edges = (1 / ratio if work["less"] else ratio for ratio in (system["ratio"], *edges))
    return Bar(row, f"{work['work']}: {system['name']}", better, min(edges), max(edges))


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("found", type=Path, nargs="+", metavar="FOUND.json")
    parser.add_argument(
        "--docs", type=Path, default=ROOT / "docs", help=f"where {DOCUMENT}, {PLOT} and {document.DOCUMENT} are"
    )
    chosen = parser.parse_args(given)
    try:
        results = joined(chosen.found)
        if results["works"] or results["rows"]:
            put_into(chosen.docs / DOCUMENT, written(results))
        if results["growth"]:
            growth = chosen.docs / document.DOCUMENT
            growth.write_text(document.put_into(growth.read_text("utf-8"), results["growth"]), "utf-8")
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
