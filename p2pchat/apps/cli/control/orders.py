"""What can be asked over the control socket beside the command objects of --json: find, wait, tail, export, import.

    {"do":"find","to":"bob"}               an `answer` with the conversation an address names, or an `error`
    {"do":"wait","timeout":5}              an `answer` when all sent over this connection is delivered, or then.
                                           With "what":"read" when it is read
    {"do":"tail","to":"bob","last":10}     the newest `last`, an `answer`, and from then on every event; once. With
                                           "ignored":false nothing of users who are ignored
    {"do":"export","path":"/media/stick/chat","to":"bob"}      an `answer` when that file is written
    {"do":"import","path":"/media/stick/chat"}                 an `answer` with what became of its entries

The last two name files, which is why a chat's input does not have them: what is piped into it may come from anywhere.

Here they are only read; connection.py does them. As with all command objects `ref` comes back, and an unknown field is
refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from p2pchat.commands.json_commands import BadOrder, Order

MAX_TIMEOUT = 86_400.0  # seconds; who has to wait longer asks again
MOST_LAST = 10_000  # messages of one answer, as of a history
USUAL_LAST = 10  # messages, as tail(1) has lines
USUAL_TIMEOUT = 5.0  # seconds for deliveries, as a chat waits at the end of its input
_NUMBER = (int, float)
_CALLED: dict[tuple[type, ...], str] = {(str,): "a string", (bool,): "true or false"}
_NEEDED = {"find": "to", "export": "path", "import": "path", "web_token": "name", "web_revoke": "name"}

# do -> field -> the types it may have
_SHAPES: dict[str, dict[str, tuple[type, ...]]] = {
    "find": {"to": (str,)},
    "wait": {"timeout": _NUMBER, "what": (str,)},
    "tail": {"to": (str,), "last": (int,), "ignored": (bool,)},
    "export": {"path": (str,), "to": (str,)},
    "import": {"path": (str,)},
    "web_token": {"name": (str,)},
    "web_users": {},
    "web_revoke": {"name": (str,)},
}


def parse_own_order(line: bytes) -> Order | None:
    """Return what a line asks for when it is one of these; None for what a session understands, or refuses.

    Raises:
        BadOrder: It is one of these, and cannot be meant; or no line can be a command object that begins so.
    """
    if not line.lstrip().startswith(b"{"):
        raise BadOrder('a line here is a command object, such as {"do":"who"}')
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    do = found.pop("do", None)
    if not isinstance(do, str) or do not in _SHAPES:
        return None
    ref = found.pop("ref", None)
    if ref is not None and not isinstance(ref, str):
        raise BadOrder("`ref` is a string")
    _check(do, found, ref)
    return Order(do, found, ref)


def _check(do: str, fields: Mapping[str, Any], ref: str | None) -> None:
    shape = _SHAPES[do]
    for name, value in fields.items():
        if name not in shape:
            raise BadOrder(f"{do!r} has no field {name!a}; it has {', '.join((*shape, 'ref'))}", ref)
        if type(value) not in shape[name]:
            raise BadOrder(f"`{name}` is {_CALLED.get(shape[name], 'a number')}", ref)
    if do in _NEEDED and _NEEDED[do] not in fields:
        raise BadOrder(f"{do!r} needs `{_NEEDED[do]}`", ref)
    if not 0 <= fields.get("timeout", 0) <= MAX_TIMEOUT:  # nan fails too
        raise BadOrder(f"`timeout` is seconds, 0 to {MAX_TIMEOUT:g}", ref)
    if fields.get("what", "read") not in ("delivered", "read"):
        raise BadOrder("`what` is delivered or read", ref)
    if not 0 <= fields.get("last", 0) <= MOST_LAST:
        raise BadOrder(f"`last` is 0 to {MOST_LAST}", ref)
