"""The printed table: one work per line, with the floor and the notes below it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from benchmarks.results import Row, shown

WORK_WIDTH, VALUE_WIDTH, UNIT_WIDTH, LINE_WIDTH = 62, 9, 7, 118


def print_rows(rows: Sequence[Row]) -> None:
    """Print all rows."""
    print(f"\n{'work':<{WORK_WIDTH}} {'result':>{VALUE_WIDTH}} {'':<{UNIT_WIDTH}} goal")
    for row in rows:
        print(
            f"{row.work:<{WORK_WIDTH}} {shown(row.value):>{VALUE_WIDTH}} {row.unit:<{UNIT_WIDTH}} {row.goal}".rstrip()
        )
        beside = "; ".join(words for words in (row.floor, row.note) if words)
        for line in textwrap.wrap(beside, LINE_WIDTH - 6):
            print(f"      {line}")
