"""Pages of reference: every option, command, event line, exit code and error code is there, tables are up to date."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest

from docs.tables import written
from p2pchat import Message, MessageChange, Sent
from p2pchat.cli.program import COMMANDS, chat
from p2pchat.commands.exit_codes import DONE, FAILED, INTERRUPTED, KEPT, NO_SUCH_NAME, USAGE
from p2pchat.kinds import CHANGE_EVENTS
from p2pchat.messaging import events
from p2pchat.messaging.events import Undelivered
from p2pchat.testing import mesh
from tests.docs.pages import PAGES, ROOT, blocks
from tests.kinds.samples import write
from tests.vectors.files import vectors

CLI, SCRIPTS, GATEWAY = [(ROOT / "docs" / f"{name}.md").read_text("utf-8") for name in ("cli", "scripts", "gateway")]
_NAME = re.compile(r"`(\w+)`")


def _rows(head: str) -> list[list[str]]:
    """Return the cells of a table of the page of the command line."""
    table = CLI.partition(f"\n{head}\n")[2].partition("\n\n")[0]
    return [row.strip("| ").split(" | ") for row in table.splitlines()[1:]]


ROWS = {
    event: (_NAME.findall(common), {*_NAME.findall(more)})
    for events_, common, more in _rows("| event | fields | it says |")
    for event in _NAME.findall(events_)
}
_common, _more = ROWS["edited"]
ROWS |= {event: (_common, {*_more, kind.field, "automatic", "votes"}) for event, kind in CHANGE_EVENTS.items()}
SHOWN = {line["event"]: line for block in blocks(SCRIPTS) if block.language == "json"
         if "event" in (line := json.loads(block.text))}  # fmt: skip


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "docs" / "reference").glob("*.md"))], ids=str)
def test_the_tables_of_a_page_are_those_of_the_code(page: Path) -> None:
    assert page.read_text("utf-8") == written(page.read_text("utf-8")), "run: python -m docs.tables"


def test_the_protocol_has_the_hash_of_the_vectors() -> None:
    protocol = (ROOT / "docs" / "protocol.md").read_text("utf-8")
    assert vectors("hashes")["blake2b of abc"]["result"]["hash"] in protocol


def test_every_option_and_its_variable_and_every_command_has_a_row() -> None:
    options = [option for option in chat.params if isinstance(option, click.Option) and option.envvar]
    rows = [f"`{option.opts[-1]} {option.metavar or ''}".rstrip() + f"` | `{option.envvar}` |" for option in options]
    assert [row for row in rows if row not in CLI] == []
    assert [word for word in COMMANDS if f"\n| `{word}" not in CLI] == []


def test_every_exit_code_is_explained() -> None:
    codes = [str(code) for code in (DONE, FAILED, USAGE, KEPT, NO_SUCH_NAME, INTERRUPTED)]
    assert re.findall(r"^\| (\d+) \|", CLI, re.MULTILINE) == codes


async def test_every_event_line_has_a_row_with_its_fields() -> None:
    async with mesh("ada", "bob") as peers:
        ada, bob = peers.peers
        said, heard, changed = ada.events(Sent), bob.events(Message), bob.events(MessageChange, consumer=None)
        await ada.broadcast("helo")
        sent, message = await anext(said), await anext(heard)
        lines = [sent.to_dict(), message.to_dict()]
        for kind in CHANGE_EVENTS.values():
            await ada.broadcast("helo")
            await write(kind, ada, bob, "+1")
            line = (await anext(changed)).to_dict()
            assert line["event"] == kind.event
            lines.append(line)
        some: dict[str, Any] = {
            "User": ada.me, "User | None": ada.me, "tuple[User, ...]": (ada.me,), "Group": ada.room, "int": 1,
            "Conversation": ada.room, "LogId": sent.log, "PeerId": "00" * 32, "bool": False, "datetime | None": None,
        }  # fmt: skip
        for kind in vars(events).values():
            if isinstance(kind, type) and issubclass(kind, events.Event) and kind.event and kind is not Undelivered:
                given = {one.name: some.get(str(one.type), "") for one in fields(kind) if one.name != "at"}
                lines.append(kind(**given).to_dict())
    made = {line["event"]: list(line)[2:] for line in lines}
    assert made.keys() | {"answer"} == ROWS.keys()
    for event, names in made.items():
        common, more = ROWS[event]  # of the events of one row, and in its text those of this one
        assert names[: len(common)] == common and set(names[len(common) :]) <= more, event
    assert {event: list(line)[2:] for event, line in SHOWN.items()} == {event: made[event] for event in SHOWN}


def test_the_codes_of_warnings_and_of_a_gateway_s_errors_are_those_of_the_source() -> None:
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "p2pchat").rglob("*.py"))
    made = set(re.findall(r"(?:Warned\(|WarningIssued\(|_warn\()\s*(?:code=)?\"(\w+)\"", source))
    listed = SCRIPTS.partition("\n| code of a warning | meaning |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", "\n".join(row.split(" | ")[0] for row in listed.splitlines()))) >= made
    rows = re.findall(r"^\| (?:\d{3}|`/\w+`|Socket.IO) \| (.*) \|$", GATEWAY, re.MULTILINE)
    codes = {code for row in rows for code in re.findall(r"`([a-z]\w+)`(?= \(|,|:|$)", row)}
    assert len(codes) > 30
    assert [code for code in sorted(codes) if f'"{code}"' not in source] == []
