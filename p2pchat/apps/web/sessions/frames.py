"""JSON in text frames of WebSockets: what comes in is an object or nothing, what goes out is made once for many."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Frame = dict[str, Any]  # a message of ASGI, ready to be sent; the same object may go to many sockets


def as_frame(said: Mapping[str, Any]) -> Frame:
    """Return an object as a frame to send."""
    return {"type": "websocket.send", "text": json.dumps(said, ensure_ascii=False, separators=(",", ":"))}


def size_of(frame: Frame) -> int:
    """Return about how many bytes of memory a frame takes."""
    return len(frame.get("text", "")) + 64


def read_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object in a text; None when it is something else, also when it only begins like one."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _no_number(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")
