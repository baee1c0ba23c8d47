"""Events as the interfaces of a gateway write them: event lines, whose fields have other names.

`/lines` sends event lines as they are (`to_dict()`). `/chat`, its stream and REST share one form of messages, Socket.IO
has another. A form names the fields that it has, in the order in which they are written; a field of a message that says
nothing is left out, but for the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from p2pchat import Message, MessageChange, Sent
from p2pchat.commands.message_commands import changed
from p2pchat.kinds import CHANGE_EVENTS
from p2pchat.kinds.message_fields import fields_at

Form = Mapping[str, str]  # by the name in event lines
CHAT: Form = {name: row.other or name for name, row in fields_at("c").items()}
SOCKETIO: Form = {name: row.other or name for name, row in fields_at("s").items()}

_RECEIPT = {"id": "id", "user": "by", "count": "count", "of": "of"}
_CHANGE = {
    "id": "id", "entry_id": "entry_id", "by": "by", "at": "timestamp", "automatic": "automatic",
    **{kind.field: CHAT.get(kind.field, kind.field) for kind in CHANGE_EVENTS.values()},
}  # fmt: skip
_FILE = {name: name for name in ("id", "name", "size", "root", "stored", "user", "has", "count", "of")}
_GROUP = {"group": "group", "conversation_id": "id", "change": "change", "members": "members"}
_MEMBER = {"user": "user", "by": "by", "change": "change"}
_HIDDEN = {"user": "user", "ignored": "ignored", "blocked": "blocked"}
CHAT_EVENTS: dict[str, Form] = {
    "delivered": _RECEIPT, "read": _RECEIPT, "group": _GROUP, "file_progress": _FILE, "file_arrived": _FILE,
    "file_receipt": _FILE, "member": _MEMBER, "hidden": _HIDDEN, **dict.fromkeys(CHANGE_EVENTS, _CHANGE),
}  # fmt: skip


def message_json(post: Message | Sent, form: Form, **own: object) -> dict[str, Any]:
    """Return a message in a form; `own` are fields of its line that differ for this interface."""
    line = post.to_dict()
    line.update(own)
    return {name: line[field] for field, name in form.items() if line.get(field) or field == "text"}


def chat_json(shown: Message | Sent | MessageChange) -> dict[str, Any]:
    """Return a message as /chat and REST write it, the same for all readers: in the room without `to` and `group`.

    Of a change it is the message, which is listed again because of it.
    """
    post = shown.message
    people = post.viewer.directory
    receiver = post.to if isinstance(post, Sent) else people.label(people.me)
    return message_json(post, CHAT, to=receiver if post.conversation.kind == "dm" else None, **changed(shown))
