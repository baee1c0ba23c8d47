"""What the payloads of Socket.IO events have to look like, and what goes out: names, times, messages.

Whatever a client sends besides is passed over; what is of the wrong type is told, and never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from p2pchat import Message, Sent, User
from p2pchat.web.accounts import Accounts
from p2pchat.web.errors import WebError

STATUSES = {"online": "online", "idle": "idle"}  # of presence; whatever else there is counts as offline here
_MOST_CHARACTERS = 256  # of a name, an id or a token, each of which is shorter
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Malformed(WebError):
    """A payload is not as it has to be."""

    def __init__(self, text: str) -> None:
        super().__init__(400, "malformed", text)


# ---- in


def payload_of(given: tuple[Any, ...]) -> Mapping[str, Any]:
    """Return the one object that an event carries; Malformed for anything else."""
    if not given or not isinstance(given[0], dict):
        raise Malformed("an event carries one object")
    found: Mapping[str, Any] = given[0]
    return found


def word(payload: Mapping[str, Any], name: str, *, required: bool = True) -> str:
    """Return a short string: a name, an id, a token; "" when it is absent and need not be there."""
    value = payload.get(name)
    if value in (None, "") and not required:
        return ""
    if not isinstance(value, str) or not value or len(value) > _MOST_CHARACTERS:
        raise Malformed(f"{name} is a string of 1 to {_MOST_CHARACTERS} characters")
    return value


def content(payload: Mapping[str, Any]) -> str:
    """Return what a message says; how long it may be is the library's to say."""
    value = payload.get("content")
    if not isinstance(value, str):
        raise Malformed("content is a string")
    return value


def flag(payload: Mapping[str, Any], name: str) -> bool:
    value = payload.get(name)
    if not isinstance(value, bool):
        raise Malformed(f"{name} is true or false")
    return value


def claim(payload: Mapping[str, Any]) -> datetime | None:
    """Return when a client says it wrote a message: a Date as JavaScript sends it, or milliseconds; None: not said."""
    value = payload.get("timestamp")
    if value is None:
        return None
    try:
        if isinstance(value, str):
            found = datetime.fromisoformat(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found = _EPOCH + timedelta(milliseconds=value)
        else:
            raise ValueError
    except (ValueError, OverflowError):
        raise Malformed("timestamp is a Date, as JSON has it, or milliseconds since 1970") from None
    if found.tzinfo is None:
        raise Malformed("timestamp needs a zone: new Date().toISOString() has one")
    return found


# ---- out


def name_of(accounts: Accounts, user: User) -> str:
    """Return what a user is called here: an account by its name, everybody else as shown in the mesh."""
    account = accounts.of(user.key)
    return user.label if account is None else account.name


def iso(moment: datetime) -> str:
    """Return a time as JavaScript reads it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def message(accounts: Accounts, post: Message | Sent) -> dict[str, Any]:
    """Return what `newMessage` carries."""
    talk = post.conversation
    found: dict[str, Any] = {
        "id": post.id, "from": name_of(accounts, post.sender), "content": post.text, "timestamp": iso(post.sent_at),
        "conversationId": talk.id, "kind": talk.kind,
    }  # fmt: skip
    if talk.kind == "group":
        found["group"] = talk.name
    if post.action:
        found["action"] = True
    if post.claimed_at is not None:
        found["clientTimestamp"] = iso(post.claimed_at)
    return found
