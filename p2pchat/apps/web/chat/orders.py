"""What a client of `/chat` says, frame by frame, made something that can be done. Nothing is done here.

    hello, everybody                                      to the room
    /dm bob see you at ten                                to bob alone; also inside {"text"}
    {"text": "hello", "ref": "7"}                         to the room; `ref` comes back with the answer
    {"text": "hi", "to": "bob", "key": "4f1c"}            to bob; said again with the same key it is written once
    {"text": "hi", "group": "ops", "reply_to": ID}        to a group
    {"type": "read", "id": ID}                            everything up to that message is read
    {"type": "typing", "to": "bob", "typing": true}       shown for 6 s

`content` is another word for `text`, `ack` for `read`; a `from` may only be oneself.
A line that begins with another slash is never sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from p2pchat.apps.web.sessions.frames import read_object
from p2pchat.commands.json_commands import can_be_written
from p2pchat.web.errors import WebError

Ref = str | int
ROOM = "room"
DIRECT = ("dm", "msg")
COMMANDS = (*DIRECT, "me")
MOST_KEY_CHARACTERS = 128


class NotUnderstood(WebError):
    """A frame that cannot be meant; `ref` is its own word."""

    def __init__(self, text: str, ref: Ref | None = None, code: str = "malformed") -> None:
        super().__init__(400, code, text)
        self.ref = ref


@dataclass(frozen=True, slots=True)
class Say:
    """Write something: to a user or ROOM (`to`), or to a `group`. `by`: who the client says to be, "" when it does
    not."""

    text: str = field(repr=False)
    to: str = ROOM
    group: str = ""
    ref: Ref | None = None
    key: str = ""
    reply_to: str | None = None
    action: bool = False
    by: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything in the conversation of this message, up to it, is read."""

    id: str
    ref: Ref | None = None


@dataclass(frozen=True, slots=True)
class Typing:
    """The user writes there just now, or has stopped."""

    to: str
    group: str
    on: bool
    ref: Ref | None = None


Order = Say | Seen | Typing


def read_order(frame: str) -> Order:
    """Return what a text frame asks for. Raises NotUnderstood."""
    said = read_object(frame)
    if said is None and frame.lstrip().startswith("{"):  # perhaps meant for one person: it must not go to everybody
        raise NotUnderstood('what begins with { is a JSON object, and this is none: a text goes as {"text": ...}')
    return _typed(frame, None) if said is None else _object(said)


def _object(said: dict[str, Any]) -> Order:
    ref = said.get("ref")
    if not (ref is None or type(ref) is int or (type(ref) is str and can_be_written(ref))):
        raise NotUnderstood("`ref` is a text or a number")
    kind = said.get("type", "message")
    if kind in ("read", "ack"):
        return Seen(_text(said, "id", ref), ref)
    to, group = _text(said, "to", ref, ROOM) or ROOM, _text(said, "group", ref, "")
    if kind == "typing":
        return Typing(to, group, said.get("typing") is not False, ref)
    if kind != "message":
        raise NotUnderstood("`type` is message, read, ack or typing", ref)
    return _message(said, to, group, ref)


def _message(said: dict[str, Any], to: str, group: str, ref: Ref | None) -> Say:
    text = _text(said, "content" if "content" in said and "text" not in said else "text", ref)
    key, reply_to = _text(said, "key", ref, ""), _text(said, "reply_to", ref, "") or None
    by = _text(said, "from", ref, "")
    if len(key) > MOST_KEY_CHARACTERS:
        raise NotUnderstood(f"`key` has at most {MOST_KEY_CHARACTERS} characters", ref)
    if "to" in said and "group" in said:
        raise NotUnderstood("a message goes to a user or a group, not both", ref)
    action = said.get("action") is True
    if "to" in said or "group" in said or action:
        return Say(text, to, group, ref, key, reply_to, action, by)
    typed = _typed(text, ref)
    return Say(typed.text, typed.to, "", ref, key, reply_to, typed.action, by)


def _text(said: dict[str, Any], word: str, ref: Ref | None, usual: str | None = None) -> str:
    """Return a text of the object; `usual` where it is not there, None where it has to be."""
    found = said.get(word, usual)
    if not isinstance(found, str):
        raise NotUnderstood(f"`{word}` has to be a text", ref)
    return found


def _typed(line: str, ref: Ref | None) -> Say:
    """Return what a line says as somebody types it."""
    if not line.startswith("/"):
        return Say(line, ref=ref)
    if line.startswith("//"):
        return Say(line[1:], ref=ref)
    command, _, rest = line[1:].partition(" ")
    if command.lower() in DIRECT:
        name, text = _name_and_text(rest.strip())
        if not name or not text:
            raise NotUnderstood("who, and what? /dm bob see you at ten", ref)
        return Say(text, name, ref=ref)
    if command.lower() == "me" and rest.strip():
        return Say(rest.strip(), ref=ref, action=True)
    near = get_close_matches(command.lower(), COMMANDS, n=1)
    hint = f"did you mean /{near[0]}?" if near else "there is /dm NAME TEXT; // begins a text that starts with a slash"
    raise NotUnderstood(f"there is no command /{command[:32]}: {hint}", ref, "unknown_command")


def _name_and_text(rest: str) -> tuple[str, str]:
    """Split `bob hi`, and `"Anna Maria" hi`."""
    if rest.startswith('"') and (end := rest.find('"', 1)) > 0:
        return rest[1:end].strip(), rest[end + 1 :].strip()
    name, _, text = rest.partition(" ")
    return name, text.strip()
