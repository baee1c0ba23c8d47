"""docs/scripts.md shows every event line and exit code, with the fields of the code."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from p2pchat import Edited, Message, Sent
from p2pchat.commands.exit_codes import DONE, FAILED, INTERRUPTED, KEPT, NO_SUCH_NAME, USAGE
from p2pchat.messaging import events
from p2pchat.messaging.events import Undelivered
from p2pchat.testing import mesh
from tests.docs.pages import ROOT, blocks

PAGE = (ROOT / "docs" / "scripts.md").read_text("utf-8")
EXAMPLES = [line for block in blocks(PAGE) if block.language == "json" if "event" in (line := json.loads(block.text))]
LIVE = [
    kind
    for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, events.Event) and kind.event and kind is not Undelivered  # a warning
]


def example(event: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = [line for line in EXAMPLES if line["event"] == event]
    assert len(found) == 1
    return found[0]


def first_cells(heading: str) -> list[str]:
    """Return the first cells of the table under a heading row."""
    rows = PAGE.partition(f"\n| {heading} |")[2].split("\n")[2:]
    return [row.split(" | ")[0].strip("| ") for row in rows[: rows.index("")]]


async def test_message_lines_have_the_documented_fields() -> None:
    async with mesh("ada", "bob") as peers:
        ada, bob = peers.peers
        said, heard = ada.events(Sent), bob.events(Message)
        await ada.broadcast("hello")
        sent, message = await anext(said), await anext(heard)
        assert list(example("sent")) == list(sent.to_json())
        assert list(example("message")) == list(message.to_json())


async def test_an_edit_line_has_the_documented_fields() -> None:
    async with mesh("ada", "bob") as peers:
        ada, bob = peers.peers
        heard = bob.events(Edited)
        await ada.edit((await ada.broadcast("helo")).id, "hello")
        assert list(example("edited")) == list((await anext(heard)).to_json())


@pytest.mark.parametrize("kind", LIVE, ids=lambda kind: kind.event)
async def test_a_live_event_has_the_documented_fields(kind: type[events.Event]) -> None:
    async with mesh("ada") as peers:
        ada = peers.peers[0]
        heard = ada.events(Sent)
        await ada.broadcast("hello")
        log = (await anext(heard)).log
        some: dict[str, Any] = {
            "User": ada.me,
            "User | None": ada.me,
            "tuple[User, ...]": (ada.me,),
            "Group": ada.room,
            "Conversation": ada.room,
            "LogId": log,
            "int": 1,
            "PeerId": "00" * 32,
            "bool": False,
            "datetime | None": None,
        }
        fields = [field for field in dataclasses.fields(kind) if field.name != "at"]
        made = kind(**{field.name: some.get(str(field.type), "") for field in fields})
        assert list(example(kind.event)) == list(made.to_json())


def test_the_page_shows_all_events_and_an_answer() -> None:
    there = {kind.event for kind in LIVE} | {"sent", "message", "edited", "answer"}
    assert sorted(line["event"] for line in EXAMPLES) == sorted(there)


def test_every_exit_code_is_explained() -> None:
    codes = [str(code) for code in (DONE, FAILED, USAGE, KEPT, NO_SUCH_NAME, INTERRUPTED)]
    assert first_cells("code | when | what a script does") == codes


def test_every_warning_code_is_explained() -> None:
    made = re.compile(r"(?:Warned\(|WarningIssued\(|_warn\()\s*(?:code=)?\"(\w+)\"")
    used = {code for path in Path(ROOT / "p2pchat").rglob("*.py") for code in made.findall(path.read_text("utf-8"))}
    listed = {code for cell in first_cells("code of a warning | meaning") for code in re.findall(r"`(\w+)`", cell)}
    assert listed == used | {Undelivered.code}
