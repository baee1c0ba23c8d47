"""Tables of the pages that are written from the code.

    python -m docs.tables

writes each into its page, between `<!-- table: NAME -->` and `<!-- end of table -->`. A test says which page is old.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from p2pchat.commands.chat_settings import SETTINGS
from p2pchat.commands.command_table import BY_NAME, TABLE, TYPED, commands_at
from p2pchat.kinds import CALLS, CHANGE_EVENTS, HEADS, KINDS
from p2pchat.kinds.kind import POINTS
from p2pchat.kinds.message_fields import MESSAGE_FIELDS
from p2pchat.messaging.messages import CHANGES
from p2pchat.web.message_form import CHAT
from tests.docs.valid_entries import NO_EFFECT, NOT_SHOWN, UNSUPPORTED, Row
from tests.docs.valid_entries import TABLES as VALID_ENTRIES

PAGES = Path(__file__).resolve().parent
VERDICTS = {"taken": "Fine:", UNSUPPORTED: "Unsupported:", NO_EFFECT: "Without effect:", NOT_SHOWN: "Not shown:"}
SAMPLES = {"message": "ID", "entry": "ID", "text": "a text", "int": 1, "bool": True, "place": "room",
    "conversation": "room", "list": ["pizza", "soup"]}  # fmt: skip
BODIES = {"text": "a string", "number": "an integer from 0", "null": "none", "object": "an object"}
OF = {"text": ", of at most {} code points", "number": " to {}"}
ABOUT = {"": "", "own": ", about an own {}", "any": ", about a {}", "user": "", "self": "", "group": ""}
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
            taken = (f"`{name}`" + ("" if field.required else "?") for name, field in tool.json.items())
            yield f"`{tool.name}`", ", ".join(taken), f"`{tool.kind}`"
    elif name == "settings":
        yield "setting", "values, default first", "meaning"
        for setting in SETTINGS:
            yield f"`{setting.name}`", ", ".join(f"`{value}`" for value in setting.values), setting.meaning
    elif name == "message fields":
        yield "field", "meaning"
        for said in MESSAGE_FIELDS:
            if "l" not in said.marks:
                yield f"`{said.name}`", said.words
    elif name == "paths":
        yield "call", "does as the command"
        for command in TABLE:
            method, _, path = command.rest.partition(" ")
            if method:
                fields = "".join(f" `{CHAT.get(key, key)}`" for key in command.json if key != "id")
                path = f"messages/ID/{path}".rstrip("/") if "id" in command.json else path
                yield f"`{method} /{path}`{fields}", f"`{command.name}`"
        for head in HEADS:
            yield f"`GET /messages?conversation=room&head={head}`", f"`{head}`"
    else:
        raise KeyError(name)


def _bodies() -> Iterator[str]:
    """Yield what entries hold, and which counts."""
    lines: dict[str, list[str]] = {}
    for kind in KINDS.values():
        counts = "; the newest of all people counts" if kind.shared else "; the oldest counts" if kind.oldest else ""
        counts += f"; those before the `{kind.until}` count" if kind.until else ""
        most = kind.longest * (POINTS if kind.body == "text" else 1)
        body = BODIES[kind.body] + (OF[kind.body].format(most) if most else "")
        lines.setdefault(body + ABOUT[kind.about].format(kind.on or "message") + counts, []).append(f"`{kind.name}`")
    yield from (f"{', '.join(names)}: {text}" for text, names in lines.items())


def _acts() -> Iterator[str]:
    """Yield the commands by which something is said of messages."""
    for command in (BY_NAME[one] for one in (*CALLS, *HEADS)):
        given = {key: SAMPLES[field.kind] for key, field in command.json.items()}
        shown = json.dumps({"do": command.name, **given}, separators=(",", ":"))
        yield f"`{shown}`: {re.split('[.:;](?= |$)', command.purpose or command.help)[0]}"


def _changes() -> Iterator[str]:
    """Yield the events of what is said of messages, each with a field of its own."""
    yield ", ".join(f"`{event}`" + f" (`{kind.field}`)" * bool(kind.field) for event, kind in CHANGE_EVENTS.items())


def _classes() -> Iterator[str]:
    """Yield the directives of the events of what is said of messages."""
    yield from (f"::: p2pchat.{cls.__name__}\n" for cls in CHANGES.values())


def _methods() -> Iterator[str]:
    """Yield the directive of the methods that say something of messages."""
    yield f"::: p2pchat.TCPPeer [{', '.join(call.method or call.name for call in CALLS.values())}]"


DIRECTIVES = {"change classes": _classes, "act methods": _methods}
LISTS = {"acts": _acts, "bodies": _bodies, "changes": _changes}


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
    if name in DIRECTIVES:
        return "\n".join(["", *DIRECTIVES[name](), "", ""])
    if name in LISTS:
        return "\n".join(["", *(f"- {line}" for line in LISTS[name]()), "", ""])
    head, *rows = (f"| {' | '.join(cells)} |" for cells in _rows(name))
    rows = [re.sub(r"\|  (?=\|)", "| ", row) for row in rows]
    return "\n".join(["", head, re.sub(r"[^|]+", "---", head), *rows, "", ""])


def written(page: str) -> str:
    """Return the text of a page with its tables as the code has them. Raises KeyError for an unknown table."""
    return _TABLE.sub(lambda found: found[1] + _table(found[2]) + found[3], page)


if __name__ == "__main__":
    for path in sorted([*PAGES.glob("*.md"), *PAGES.glob("reference/*.md")]):
        page = path.read_text("utf-8")
        if page != written(page):
            path.write_text(written(page), "utf-8")
            print(f"{path.relative_to(PAGES.parent)} is new")
