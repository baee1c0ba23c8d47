"""The tables that features stand in, walked row by row: whatever cannot be derived from a row is there too."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from p2pchat import TCPPeer
from p2pchat.cli.agent import Agent
from p2pchat.cli.control_server import AccountCommands, ControlConnection
from p2pchat.cli.subcommands.mcp import KINDS
from p2pchat.commands.command_table import BY_NAME, TABLE, TOOLS, TYPED, CommandRow, commands_at
from p2pchat.commands.event_text import format_conversation
from p2pchat.commands.exit_codes import UsageError
from p2pchat.commands.json_commands import parse_json_command
from p2pchat.commands.session import HANDLERS, handlers_in
from p2pchat.commands.typed_commands import CommandInput, help_lines, parse_line
from p2pchat.kinds import CALLS, HEADS
from p2pchat.kinds.call import YES
from p2pchat.testing import mesh
from p2pchat.web.hosted_commands import HostedCommands
from p2pchat.web.page_files import FOLDER
from p2pchat.web.schemas import ConversationOut
from tests.commands.session_output import Shown, open_session

DOCS = Path(__file__).resolve().parents[1] / "docs"
ACTS = [handler.args[0] for name, handler in HANDLERS.items() if isinstance(handler, partial) and name not in HEADS]
COMPLETED = {
    "conversation", "user", "member", "command", "setting", "value", "endpoint", "file", "shown file", "",
}  # fmt: skip
HANDLERS_AT = {
    "c": HANDLERS,
    "d": HANDLERS | handlers_in(HostedCommands),
    "s": HANDLERS | handlers_in(ControlConnection, AccountCommands),
    "l": HANDLERS | handlers_in(HostedCommands),
}
# The doors of JSON commands, and the section of a page where each command of a door has an object, unless it has one in
# the sections before.
SECTIONS = (("c", "cli", "JSON commands"), ("s", "cli", "Control socket"), ("l", "gateway-api", "`/lines`"))


def _objects(page: str, section: str) -> dict[str, set[str]]:
    """Return the fields of each command that a section shows, in an object or behind one."""
    found: dict[str, set[str]] = {}
    text = (DOCS / f"{page}.md").read_text("utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    for row in text.splitlines():
        for do, fields in re.findall(r'`(\{"do":"(\w+)".*?\})`', row):
            command = parse_json_command(do, BY_NAME)
            found.setdefault(fields, set()).update(command.fields, re.findall(r'`"(\w+)":', row))
    return found


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_command_is_everywhere_where_its_row_says(row: CommandRow) -> None:
    if row.typed is not None:
        _check_typed(row)
    for door in row.doors or "c":
        if CALLS.get(row.name) in ACTS:
            _check_method(row)
        elif row.name not in ("quit", *HEADS):  # ends a session, which needs no handler
            _check_handler(row, HANDLERS_AT[door][row.name])
    for door, page, section in SECTIONS:
        if door in row.doors:
            assert _objects(page, section)[row.name] == row.json.keys(), f"docs/{page}.md, {section}"
            break


@pytest.mark.parametrize("row", TOOLS, ids=lambda row: row.name)
def test_an_agent_has_each_tool_of_its_table(row: CommandRow) -> None:
    if row.name in CALLS or row.name in HEADS:
        assert set(row.json) - {"to"} <= set(BY_NAME[row.name].json), "Agent.act"
    else:
        parameters = dict(inspect.signature(getattr(Agent, row.name)).parameters)
        assert [*parameters][:2] == ["self", "progress"]
        assert {name: parameters[name].default is inspect.Parameter.empty for name in row.json} == {
            name: field.required for name, field in row.json.items()
        }
    assert sum(len(row.help) for row in TOOLS) <= 2_800, "a model reads all of them at each start"
    assert row.doors == "m" and row.kind in KINDS and row.help and row.result


def _check_handler(row: CommandRow, handler: Callable[..., object]) -> None:
    """Its parameters are the fields of the row; those that may be left out have a default."""
    parameters = inspect.signature(handler).parameters
    found = {name: one.default is one.empty for name, one in parameters.items() if name not in ("self", "ctx")}
    assert found == {
        "message" if name == "id" else name: field.required or field.kind == "place" for name, field in row.json.items()
    }, handler


def _check_method(row: CommandRow) -> None:
    """The library has a method with the fields of the row."""
    method = inspect.signature(getattr(TCPPeer, row.method or row.name))
    assert {*row.json} - {"id"} <= {*method.parameters}, method


def _check_typed(row: CommandRow) -> None:
    meant = parse_line(row.example)
    assert isinstance(meant, CommandInput) and meant.name == row.word
    words = row.example.partition(" ")[2]
    assert all(parse_line(f"/{alias} {words}".rstrip()) == meant for alias in row.aliases)
    assert not row.own_parser or f"typed_{row.name}" in HANDLERS
    if row.least:
        with pytest.raises(UsageError, match=f"^usage: {re.escape(row.usage)}"):
            parse_line(f"/{row.word}")
    assert len(row.kinds) == row.most and set(row.kinds) <= COMPLETED
    assert row.help and all(len(line) <= 80 for line in help_lines(row.word))
    assert any(f"/{row.word}" in line for line in help_lines())


@pytest.mark.parametrize(
    "row",
    [
        {"fields": "to:conversation", "typed": "[CONVERSATION]", "here": "to"},  # /mute bob would mute what is open
        {"fields": "to:conversation", "typed": "[CONVERSATION=too]", "here": "to"},
        {"fields": "to:conversation", "typed": "[CONVERSATION=to]", "here": "too"},
        {"fields": "user:user", "typed": "NAME HOURS"},
        {"fields": "user:user", "typed": "NAME", "switches": ("hide",)},
        {"fields": "id:message", "typed": "[N] TEXT", "latest": "own"},
        {"fields": "id:message", "typed": "[N]", "latest": "own"},
    ],
)
def test_a_row_whose_arguments_and_fields_do_not_agree_is_no_row(row: dict[str, Any]) -> None:
    with pytest.raises((ValueError, IndexError)):
        CommandRow("mute", **row)
    CommandRow("mute", "to:conversation", "[CONVERSATION=to]", here="to")


def test_nothing_is_a_command_without_a_row() -> None:
    assert len({row.name for row in TABLE}) == len(TABLE)
    assert len(names := [name for row in TYPED for name in (row.word, *row.aliases)]) == len(set(names))
    known: set[str] = set()
    for door, page, section in SECTIONS:
        known |= commands_at(door).keys()
        assert _objects(page, section).keys() <= known


# Commands whose example says why it cannot be done in the mesh below: it has nobody and nothing of what they need.
REFUSED_HERE = {"kick", "leave", "send", "get", "revoke", "revoke_device", "rename_device", "admin", "unadmin"} | {
    one.name for one in TYPED if one.latest in ("shown", "here")
}


async def test_each_example_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that calls what is not there fails here, whatever its parameters are."""
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))
    shown, refused = Shown(tmp_path / "out"), set()
    async with mesh("ada", "bob", "carol", "dave", "mallory", logins=True) as net:
        session = open_session(net.peers[0], shown)
        for row in TYPED:
            before = len(shown.lines)
            if row.name not in ("clear", "quit"):  # of a terminal; the end
                await session.execute([f"{row.example}{f' {YES}' if row.asks else ''}".encode()])
            refused |= {row.name for line in shown.lines[before:] if line["event"] == "error"}
    shown.raw.close()
    assert refused == REFUSED_HERE


REST_NAMES = {"conversation": "name", "conversation_id": "id", "kind": "kind"}
BEGUN = {"begun_by", "begun_by_id", "new", "admitted_by", "has_place"}  # of those that somebody unknown began
NOT_IN_REST = {"user", "user_id", "members", "member", "unread", "mentions", "current", "muted", *BEGUN}
NOT_TYPED = {"conversation_id", "user", "user_id", "members", "begun_by", "begun_by_id", "admitted_by"}
NOT_IN_PAGE = {"current"}


async def test_each_field_of_a_conversation_has_a_place_in_each_interface(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interface that has none of a new field says so above."""
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))
    shown = Shown(tmp_path / "out")
    async with mesh("ada", "bob") as net:
        ada = net.peers[0]
        await ada.send("bob", "hi")
        await ada.create_group("ops", ["bob"])
        await open_session(ada, shown).execute([b'{"do":"list"}'])
    shown.raw.close()
    fields = {field for row in shown.rows for field in row}
    fields |= BEGUN
    assert fields - NOT_IN_REST == REST_NAMES.keys(), "conversation_row() and _list_row() of conversation_commands.py"
    assert ConversationOut.model_fields.keys() == {*REST_NAMES.values()}, "ConversationOut of web/schemas.py"
    typed = {*re.findall(r"""row(?:\[|\.get\()['"](\w+)""", inspect.getsource(format_conversation))}
    assert typed == fields - NOT_TYPED, "format_conversation() of commands/event_text.py"
    page = (FOLDER / "events.js").read_text("utf-8")
    assert fields - {*re.findall(r"\b(?:row|line)\.(\w+)", page)} == NOT_IN_PAGE, "setList() of web/page/events.js"
    [described] = re.findall(r'^\| `{"do":"list"}` .*$', (DOCS / "cli.md").read_text("utf-8"), re.MULTILINE)
    assert {*re.findall(r"`(\w+)`", described)} == fields, "docs/cli.md, JSON commands"
