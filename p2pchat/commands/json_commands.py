"""Command objects: an input line under --json that begins with `{`.

    {"do":"send","to":"bob","text":"two\\nlines","ref":"7"}     also "action":true, "reply_to":"ID", "claimed_at":TIME,
                                                              "again":true
    {"do":"edit","id":"ID","text":"at eleven"}     {"do":"delete","id":"ID"}
    {"do":"react","id":"ID","reaction":"+1"}
    {"do":"history","to":"bob","limit":20}     also "before":"ID", "after":"ID"
    {"do":"search","words":"backup failed","to":"bob","limit":50}
    {"do":"receipts","to":"bob","limit":5}     also "before":"ID"     {"do":"receipts","id":"ID"}
    {"do":"read","id":"ID"}     {"do":"who"}     {"do":"whois","user":"bob"}     {"do":"list"}
    {"do":"nick","name":"Ada"}     {"do":"about","text":"on call"}
    {"do":"away","text":"lunch"}     {"do":"back"}     {"do":"typing","to":"bob"}     {"do":"invite"}
    {"do":"connect","endpoint":"localhost:8080"}     {"do":"forget","peer":"bob"}     {"do":"allow","user":"bob"}
    {"do":"ignore","user":"bob"}     {"do":"ignore"}     {"do":"unignore","user":"bob"}
    {"do":"group","name":"ops","members":["bob","carol"]}     {"do":"members","to":"#ops"}
    {"do":"add","to":"#ops","users":["dave"]}     {"do":"kick","to":"#ops","users":["mallory"]}
    {"do":"rename","to":"#ops","name":"night"}     {"do":"owner","to":"#ops","user":"bob"}
    {"do":"leave","to":"#ops"}     {"do":"set","name":"receipts","value":"off","to":"bob"}     {"do":"set"}
    {"do":"quit"}

`to` is an address as typed; a text goes to the room without it, what is read is then read of everything. `ref` is any
string, and comes back in `sent`, `answer` and `error`. Unknown fields are refused: a misspelt one would otherwise send
to the wrong place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from p2pchat.commands.errors import UsageError

MAX_LINE_BYTES = 256 * 1024  # the longest text is 32 KiB, and JSON may write each byte of it with six

CommandFields = Mapping[str, Mapping[str, tuple[type, bool]]]  # do -> field -> (type, needed)
JSON_COMMANDS: dict[str, dict[str, tuple[type, bool]]] = {
    "send": {
        "to": (str, False),
        "text": (str, True),
        "action": (bool, False),
        "reply_to": (str, False),
        "claimed_at": (str, False),
        "again": (bool, False),
    },
    "edit": {"id": (str, True), "text": (str, True)},
    "delete": {"id": (str, True)},
    "react": {"id": (str, True), "reaction": (str, True)},
    "history": {"to": (str, False), "limit": (int, False), "before": (str, False), "after": (str, False)},
    "search": {"words": (str, True), "to": (str, False), "limit": (int, False)},
    "receipts": {"to": (str, False), "limit": (int, False), "before": (str, False), "id": (str, False)},
    "read": {"id": (str, True)},
    "who": {},
    "whois": {"user": (str, True)},
    "list": {},
    "nick": {"name": (str, True)},
    "about": {"text": (str, False)},
    "away": {"text": (str, False)},
    "back": {},
    "typing": {"to": (str, False), "on": (bool, False)},
    "invite": {},
    "connect": {"endpoint": (str, True)},
    "forget": {"peer": (str, True)},
    "allow": {"user": (str, True)},
    "ignore": {"user": (str, False)},
    "unignore": {"user": (str, True)},
    "group": {"name": (str, True), "members": (list, False)},
    "add": {"to": (str, True), "users": (list, True)},
    "kick": {"to": (str, True), "users": (list, True)},
    "leave": {"to": (str, True)},
    "rename": {"to": (str, True), "name": (str, True)},
    "owner": {"to": (str, True), "user": (str, True)},
    "members": {"to": (str, True)},
    "set": {"name": (str, False), "value": (str, False), "to": (str, False)},
    "quit": {},
}
_TYPE_NAMES = {str: "a string", int: "a whole number", bool: "true or false", list: "a list of strings"}


@dataclass(frozen=True, slots=True)
class JsonCommand:
    """One command object: what to do, its fields, and the word it is called by (None: none was given)."""

    do: str
    fields: dict[str, Any] = field(default_factory=dict, repr=False)
    ref: str | None = None


class BadCommand(UsageError):
    """A command object that cannot be meant; `ref` as far as it could be read."""

    def __init__(self, text: str, ref: str | None = None) -> None:
        super().__init__(text)
        self.ref = ref


def parse_json_command(line: str, shapes: CommandFields = JSON_COMMANDS) -> JsonCommand:
    """Read one command object.

    Args:
        shapes: Which there are.
    Raises:
        BadCommand: It is no JSON object, or none of those.
    """
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadCommand(f"this line is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadCommand("this line is no JSON object")
    ref = found.pop("ref", None)
    if ref is not None and not (isinstance(ref, str) and is_unicode(ref)):
        raise BadCommand("`ref` is a string")
    do = found.pop("do", None)
    shape = shapes.get(do) if isinstance(do, str) else None
    if shape is None or not isinstance(do, str):
        raise BadCommand(f"`do` is one of {', '.join(shapes)}", ref)
    for name, value in found.items():
        if name not in shape:
            raise BadCommand(f"{do!r} has no field {name!a}; it has {', '.join((*shape, 'ref'))}", ref)
        if type(value) is not shape[name][0] or (isinstance(value, list) and not _are_strings(value)):
            raise BadCommand(f"`{name}` is {_TYPE_NAMES[shape[name][0]]}", ref)
    missing = [name for name, (_, needed) in shape.items() if needed and name not in found]
    if missing:
        raise BadCommand(f"{do!r} needs `{missing[0]}`", ref)
    return JsonCommand(do, found, ref)


def is_unicode(text: str) -> bool:
    """Whether a text of a JSON object is Unicode: escapes can name half of a surrogate pair, which no output takes."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _are_strings(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def decode_line(line: bytes) -> tuple[str, bool]:
    """Return a line as text, and whether it was UTF-8; what is none is shown as U+FFFD."""
    try:
        return line.decode("utf-8"), True
    except UnicodeDecodeError:
        return line.decode("utf-8", "replace"), False
