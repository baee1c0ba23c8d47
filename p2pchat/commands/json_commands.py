"""JSON commands: input lines under --json that begin with `{`.

    {"do":"send","to":"bob","text":"two\\nlines","ref":"7"}

command_table.py has the commands and their fields; docs/cli.md an example of each. `to` is an address as typed.
Without `to` a text goes to the room, and a query covers all conversations. `ref` is any string and comes back in
`sent`, `answer` and `error`. Unknown fields are refused: a misspelt `to` would send a text to the wrong place. A field
that is null is absent; a receiver that is null is an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from p2pchat.commands.command_table import CommandRow
from p2pchat.commands.exit_codes import UsageError
from p2pchat.commands.typed_commands import without_invisible

MAX_LINE_BYTES = 256 * 1024  # the longest text is 32 KiB, and JSON may escape each byte of it with six

_TYPE_NAMES = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list of strings",
}


@dataclass(frozen=True)
class JsonCommand:
    """One JSON command: its name `do`, its fields, and its `ref` (None: it has none)."""

    do: str
    fields: dict[str, Any] = field(default_factory=dict, repr=False)
    ref: str | None = None


RECEIVERS = ("to", "group")


class BadCommand(UsageError):
    """An invalid JSON command; `ref` is set if it could be read."""

    def __init__(self, text: str, ref: str | None = None) -> None:
        super().__init__(text)
        self.ref = ref


def looks_like_json(line: str) -> bool:
    """Return whether a line or frame is meant as an object, so that it is never published as a text.

    It is, whatever invisible characters are before it, if it begins as one, or as one that a program encoded twice or
    put into a list, which is refused. All else is a text: a quotation, a list.
    """
    return without_invisible(line).startswith(("{", '"{', "[{"))


def read_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object in a text, without fields that are null; None if it is anything else or invalid."""
    try:
        found = json.loads(without_invisible(text), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return without_nulls(found) if isinstance(found, dict) else None


def without_nulls(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object that a program sent without its fields that are null: everywhere they are absent.

    RECEIVERS stay, so that every reader refuses them: without them a private message would go to everybody.
    """
    return {name: value for name, value in found.items() if value is not None or name in RECEIVERS}


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is not valid JSON")


def parse_json_command(line: str, commands: Mapping[str, CommandRow]) -> JsonCommand:
    """Parse one JSON command.

    Args:
        commands: The commands to accept, by name.
    """
    try:
        found = json.loads(without_invisible(line))
    except (ValueError, RecursionError) as error:
        raise BadCommand(f"invalid JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadCommand('this JSON is not an object; to send it as a text, use {"do": "send", "text": ...}')
    return read_command(found, commands)


def read_command(found: dict[str, Any], commands: Mapping[str, CommandRow]) -> JsonCommand:
    """Return the command in a JSON object."""
    found = without_nulls(found)
    ref = found.pop("ref", None)
    if ref is not None and not (isinstance(ref, str) and is_unicode(ref)):
        raise BadCommand("`ref` must be a string")
    do = found.pop("do", None)
    if not isinstance(do, str) or do not in commands:
        raise BadCommand(f"`do` must be one of {', '.join(commands)}", ref)
    fields = commands[do].json
    for name, value in found.items():
        if name not in fields:
            raise BadCommand(f"{do!r} has no field {name!r}; its fields are {', '.join((*fields, 'ref'))}", ref)
        kind = fields[name].type
        is_number = kind is float and type(value) is int
        if not (type(value) is kind or is_number) or (
            isinstance(value, list) and not all(isinstance(one, str) for one in value)
        ):
            raise BadCommand(f"`{name}` must be {_TYPE_NAMES[kind]}", ref)
    missing = [name for name, one in fields.items() if one.required and name not in found]
    if missing:
        raise BadCommand(f"{do!r} needs `{missing[0]}`", ref)
    return JsonCommand(do, found, ref)


def is_unicode(text: str) -> bool:
    """Return whether a text is valid Unicode: JSON escapes can name half of a surrogate pair, which has no UTF-8."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


# ---- lines of bytes


def decode_line(line: bytes) -> tuple[str, bool]:
    """Return a line as text, and whether it was UTF-8; invalid bytes become U+FFFD."""
    try:
        return line.decode("utf-8"), True
    except UnicodeDecodeError:
        return line.decode("utf-8", "replace"), False


class LineBuffer:
    """Splits received bytes into lines.

    Args:
        max_bytes: A longer line is discarded and returned as None.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self._rest = bytearray()
        self._too_long = False

    def feed(self, chunk: bytes) -> list[bytes | None]:
        """Add received bytes; return the lines that are complete now, without their ends."""
        if b"\n" not in chunk:
            self._keep(chunk)
            return []
        first, *more = chunk.split(b"\n")
        self._keep(first)
        lines = [self._take()]
        rest = more.pop()
        lines += [None if len(line) > self._max else line.removesuffix(b"\r") for line in more]
        self._keep(rest)
        return lines

    def end(self) -> list[bytes | None]:
        """Return the last line if it has no end, at the end of input."""
        return [self._take()] if self._rest or self._too_long else []

    def _keep(self, piece: bytes) -> None:
        self._rest += piece
        if len(self._rest) > self._max:
            self._too_long = True
        if self._too_long:
            self._rest.clear()

    def _take(self) -> bytes | None:
        line, too_long = bytes(self._rest), self._too_long
        self._rest.clear()
        self._too_long = False
        return None if too_long else line.removesuffix(b"\r")
