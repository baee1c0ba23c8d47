"""Socket.IO's packets: what may come in, and what goes out, made once for all who get it.

Nothing here takes binary packets: a packet that announces attachments has its reader keep them until all are there.
What is of another shape than an event or an acknowledgement is refused before anything looks into it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from engineio.packet import MESSAGE
from engineio.packet import PING as ENGINE_PING
from engineio.packet import Packet as EnginePacket
from socketio.packet import ACK, CONNECT, DISCONNECT, EVENT, Packet

from p2pchat import Message, Sent, User
from p2pchat.web.accounts import Accounts
from p2pchat.web.errors import WebError

__all__ = [
    "CONNECT",
    "MESSAGE_STARTS",
    "NEW_MESSAGE",
    "PING",
    "PONG",
    "EnginePacket",
    "StrictPacket",
    "event",
    "farewell",
    "may_come_in",
    "ping",
    "size_of",
]


NEW_MESSAGE = "newMessage"
MESSAGE_STARTS = f'42["{NEW_MESSAGE}"'  # on the wire: Engine.IO's "message", Socket.IO's "event"
PING, PONG = "2", "3"
_ENGINE_WORDS = frozenset({"1", "2probe", PONG, "5", "6"})  # close, probe, pong, upgrade, noop: all that is no message
_MESSAGES = ("40", "41", "42", "43")


class StrictPacket(Packet):  # type: ignore[misc]
    """A Socket.IO packet as it has to be; ValueError for every other."""

    def decode(self, encoded_packet: object) -> int:
        """Read a packet that came in; returns 0, the number of attachments that follow."""
        if not isinstance(encoded_packet, str) or encoded_packet[:1] not in ("0", "1", "2", "3"):
            raise ValueError("no packet that is taken here")
        if super().decode(encoded_packet):
            raise ValueError("attachments are not taken here")
        data = self.data
        if self.packet_type == EVENT and not (isinstance(data, list) and data and isinstance(data[0], str)):
            raise ValueError("an event is a list that begins with its name")
        if self.packet_type == ACK and not isinstance(data, list):
            raise ValueError("an acknowledgement is a list")
        return 0


def may_come_in(text: str | None) -> bool:
    """Whether the text of a WebSocket frame can be a packet; what cannot is not even parsed."""
    return text is not None and (text.startswith(_MESSAGES) or text in _ENGINE_WORDS)


def event(name: str, data: dict[str, Any]) -> EnginePacket:
    """Return an event as it goes out; it is encoded once, however many get it."""
    packet = EnginePacket(MESSAGE, StrictPacket(EVENT, data=[name, data], namespace="/").encode())
    packet.encode()
    return packet


def ping() -> EnginePacket:
    """Return Engine.IO's ping."""
    return EnginePacket(ENGINE_PING)


def size_of(packet: EnginePacket) -> int:
    """Return how long a packet is, in characters."""
    return len(packet.encode())


def farewell() -> EnginePacket:
    """Return what tells a client that it was sent away: one that gets this does not come back by itself."""
    return EnginePacket(MESSAGE, StrictPacket(DISCONNECT, namespace="/").encode())


# ---- shapes
#
# What the payloads of Socket.IO events have to look like, and what goes out: names, times, messages.
#
# Whatever a client sends besides is passed over; what is of the wrong type is told, and never guessed.


STATUSES = {"online": "online", "idle": "idle"}  # of presence; whatever else there is counts as offline here
_MOST_CHARACTERS = 256  # of a name, an id or a token, each of which is shorter
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class MalformedPayload(WebError):
    """A payload is not as it has to be."""

    def __init__(self, text: str) -> None:
        super().__init__(400, "malformed", text)


# ---- in


def payload_of(given: tuple[Any, ...]) -> Mapping[str, Any]:
    """Return the one object that an event carries; Malformed for anything else."""
    if not given or not isinstance(given[0], dict):
        raise MalformedPayload("an event carries one object")
    found: Mapping[str, Any] = given[0]
    return found


def word(payload: Mapping[str, Any], name: str, *, required: bool = True) -> str:
    """Return a short string: a name, an id, a token; "" when it is absent and need not be there."""
    value = payload.get(name)
    if value in (None, "") and not required:
        return ""
    if not isinstance(value, str) or not value or len(value) > _MOST_CHARACTERS:
        raise MalformedPayload(f"{name} is a string of 1 to {_MOST_CHARACTERS} characters")
    return value


def content(payload: Mapping[str, Any]) -> str:
    """Return what a message says; how long it may be is the library's to say."""
    value = payload.get("content")
    if not isinstance(value, str):
        raise MalformedPayload("content is a string")
    return value


def flag(payload: Mapping[str, Any], name: str) -> bool:
    value = payload.get(name)
    if not isinstance(value, bool):
        raise MalformedPayload(f"{name} is true or false")
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
        raise MalformedPayload("timestamp is a Date, as JSON has it, or milliseconds since 1970") from None
    if found.tzinfo is None:
        raise MalformedPayload("timestamp needs a zone: new Date().toISOString() has one")
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
