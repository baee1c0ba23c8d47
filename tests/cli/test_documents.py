"""The reference pages list every option, command, typed line and JSON command, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from p2pchat.cli.program import COMMANDS as WORDS
from p2pchat.cli.program import chat
from p2pchat.commands.chat_settings import SETTINGS, Setting
from p2pchat.commands.exit_codes import DONE, FAILED, INTERRUPTED, KEPT, NO_SUCH_NAME, USAGE
from p2pchat.commands.json_commands import JSON_COMMANDS, parse_json_command
from p2pchat.commands.typed_commands import COMMANDS, TypedCommand
from p2pchat.messaging import events, groups, messages

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text("utf-8")


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def first_cells(title: str) -> list[str]:
    rows = [line for line in section(title).splitlines() if line.startswith("|")][2:]
    return [row.split(" | ")[0].strip("| ") for row in rows]


def test_every_option_is_documented_with_its_variable() -> None:
    rows = [line for line in section("A peer").splitlines() if line.startswith("| `-")][:-1]
    options = [option for option in chat.params if isinstance(option, click.Option) and option.envvar]
    for option, row in zip(options, rows, strict=True):
        flags = f"{option.opts[0]} {option.metavar or ''}".strip()
        assert f"`{flags}`" in row and f"`{option.envvar}`" in row
        assert option.envvar == "P2PCHAT_" + option.opts[-1].lstrip("-").upper().replace("-", "_")


def rows(title: str, head: str) -> list[str]:
    """Return the rows of the table in a section that begins so."""
    table = section(title).partition(f"\n{head}\n")[2].partition("\n\n")[0]
    return table.splitlines()[1:]


def test_the_typed_lines_there_are_those_there_are() -> None:
    def row(command: TypedCommand) -> str:
        names = ", ".join([f"`{command.usage}`", *(f"`/{other}`" for other in command.aliases)])
        return f"| {names} | {command.summary} | `{command.example}` |"

    assert rows("Typed lines", "| line | does | example |") == [row(command) for command in COMMANDS]


def test_the_settings_there_are_those_there_are() -> None:
    def row(setting: Setting) -> str:
        values = ", ".join(f"`{value}`" for value in setting.values)
        return f"| `{setting.name}` | {values} | {setting.meaning} |"

    head = "| setting | values, default first | meaning |"
    assert rows("Typed lines", head) == [row(setting) for setting in SETTINGS]


def test_every_command_object_there_can_be_read_and_none_is_missing() -> None:
    objects = [parse_json_command(text) for text in re.findall(r"`(\{.*?\})`", section("JSON commands"))]
    assert {order.do for order in objects} == JSON_COMMANDS.keys()
    for order in objects:
        named = re.findall(
            r'`"(\w+)":', next(line for line in section("JSON commands").splitlines() if f'"do":"{order.do}"' in line)
        )
        assert {*order.fields, *named} == JSON_COMMANDS[order.do].keys()


def test_every_event_is_documented() -> None:
    listed = {name for cell in first_cells("Event lines") for name in re.findall(r"`(\w+)`", cell)}
    classes = [
        thing for module in (events, groups, messages) for thing in vars(module).values() if isinstance(thing, type)
    ]
    assert listed == {name for kind in classes if (name := getattr(kind, "event", ""))} | {"answer"}


def test_every_exit_code_is_documented() -> None:
    codes = [str(code) for code in (DONE, FAILED, USAGE, KEPT, NO_SUCH_NAME, INTERRUPTED)]
    assert first_cells("Exit codes") == codes


@pytest.mark.parametrize("word", WORDS)
def test_every_command_is_documented(word: str) -> None:
    assert any(cell.startswith(f"`{word}") for cell in first_cells("Commands"))
