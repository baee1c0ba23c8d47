"""Tables of the pages that are written from the code.

    python -m docs.tables

writes each into its page, between `<!-- table: NAME -->` and `<!-- end of table -->`. A test says which page is old.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from p2pchat.commands.chat_settings import SETTINGS
from p2pchat.commands.command_table import TYPED, commands_at
from p2pchat.kinds.message_fields import MESSAGE_FIELDS
from tests.docs.valid_entries import NO_EFFECT, NOT_SHOWN, UNSUPPORTED, Row
from tests.docs.valid_entries import TABLES as VALID_ENTRIES

PAGES = Path(__file__).resolve().parent
VERDICTS = {"taken": "Fine:", UNSUPPORTED: "Unsupported:", NO_EFFECT: "Without effect:", NOT_SHOWN: "Not shown:"}
_TABLE = re.compile(r"(<!-- table: ([\w ]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def _rows(name: str) -> Iterator[tuple[str, ...]]:
    """Yield the cells of a table, those of its head first."""
    if name == "typed lines":
        yield "line", "does"
        for command in TYPED:
            names = [f"`{command.usage}`", *(f"`/{other}`" for other in command.aliases)]
            yield ", ".join(names), command.help
    elif name == "tools":
        yield "tool", "arguments", "allowed by"
        for tool in commands_at("m").values():
            fields = (f"`{name}`" + ("" if field.required else "?") for name, field in tool.json.items())
            yield f"`{tool.name}`", ", ".join(fields), f"`{tool.kind}`"
    elif name == "settings":
        yield "setting", "values, default first", "meaning"
        for setting in SETTINGS:
            yield f"`{setting.name}`", ", ".join(f"`{value}`" for value in setting.values), setting.meaning
    elif name == "message fields":
        yield "field", "meaning"
        for said in MESSAGE_FIELDS:
            if "l" not in said.marks:
                yield f"`{said.name}`", said.words
    else:
        raise KeyError(name)


def _verdicts(rows: list[Row]) -> str:
    """Return a list of rules for each verdict."""
    lines = []
    for verdict in dict.fromkeys(row.verdict for row in rows):
        lines += ["", VERDICTS.get(verdict, f"`{verdict}`:"), ""]
        lines += dict.fromkeys(f"- {row.rule}" for row in rows if row.verdict == verdict)
    return "\n".join([*lines, "", ""])


def _table(name: str) -> str:
    if name in VALID_ENTRIES:
        return _verdicts(VALID_ENTRIES[name])
    head, *rows = (f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in _rows(name))
    return "\n".join(["", head, re.sub(r"[^|]+", "---", head), *rows, "", ""])


def written(page: str) -> str:
    """Return the text of a page with its tables as the code has them. Raises KeyError for an unknown table."""
    return _TABLE.sub(lambda found: found[1] + _table(found[2]) + found[3], page)


if __name__ == "__main__":
    for path in sorted(PAGES.glob("*.md")):
        page = path.read_text("utf-8")
        if page != written(page):
            path.write_text(written(page), "utf-8")
            print(f"docs/{path.name} is new")
