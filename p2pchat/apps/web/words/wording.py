"""Messages as clients of `/chat` and REST know them: `{"id","from","to"|"group"?,"content","timestamp"}`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from p2pchat import Message, Sent


def iso(moment: datetime) -> str:
    """Return an aware time in UTC, as all of p2pchat writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def wording(post: Message | Sent) -> dict[str, Any]:
    """Return a message as an object; the same whoever reads it. Without `to` and `group` it stands in the room."""
    conversation = post.conversation
    told: dict[str, Any] = {"id": post.id, "from": post.sender.label}
    if conversation.kind == "dm" and conversation.user is not None:
        told["to"] = conversation.user.label if isinstance(post, Sent) else post.desk.people.label(post.desk.people.me)
    elif conversation.kind == "group":
        told["group"] = conversation.name
    told |= {"content": post.text, "timestamp": iso(post.sent_at)}
    if post.reply_to is not None:
        told["reply_to"] = post.reply_to
    return told | {word: True for word in ("action", "edited", "deleted") if getattr(post, word)}
