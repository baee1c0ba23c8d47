"""Socket.IO packets and payloads: what may come in, and what goes out, encoded once for all receivers.

Binary packets are refused, because a reader must hold a packet that announces attachments until all have come. Packets
other than events and acknowledgements are refused before they are parsed. Unknown fields of a payload are ignored; a
field of the wrong type is an error and is never converted.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from engineio.packet import MESSAGE
from engineio.packet import PING as ENGINE_PING
from engineio.packet import Packet as EnginePacket
from socketio.packet import ACK, DISCONNECT, EVENT, Packet

from p2pchat import Message, Sent, User
from p2pchat.web.accounts import Accounts
from p2pchat.web.errors import WebError
from p2pchat.web.schemas import iso

__all__ = [
    "MESSAGE_STARTS", "NEW_MESSAGE", "PING", "PONG", "STATUSES", "EnginePacket", "StrictPacket", "disconnect_packet",
    "event_packet", "flag_field", "message_json", "may_come_in", "name_of", "packet_size", "payload_of", "ping",
    "text_field", "timestamp_field", "word_field",
]  # fmt: skip

NEW_MESSAGE = "newMessage"
MESSAGE_STARTS = f'42["{NEW_MESSAGE}"'  # on the wire: Engine.IO's "message", Socket.IO's "event"
PING, PONG = "2", "3"
STATUSES = {"online": "online", "idle": "idle"}  # presence; every other status is offline here
_ENGINE_WORDS = frozenset({"1", "2probe", PONG, "5", "6"})  # close, probe, pong, upgrade, noop: all but messages
_MESSAGES = ("40", "41", "42", "43")
_MAX_CHARACTERS = 256  # of a name, an id or a token; each is shorter
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# ---- packets


class StrictPacket(Packet):  # type: ignore[misc]
    """A Socket.IO packet that accepts well-formed events and acknowledgements only."""

    def decode(self, encoded_packet: object) -> int:
        """Parse a packet; return 0, the number of attachments that follow. Raises ValueError."""
        if not isinstance(encoded_packet, str) or encoded_packet[:1] not in ("0", "1", "2", "3"):
            raise ValueError("this packet is not accepted here")
        if super().decode(encoded_packet):
            raise ValueError("attachments are not accepted here")
        data = self.data
        if self.packet_type == EVENT and not (isinstance(data, list) and data and isinstance(data[0], str)):
            raise ValueError("an event is a list that begins with its name")
        if self.packet_type == ACK and not isinstance(data, list):
            raise ValueError("an acknowledgement is a list")
        return 0


def may_come_in(text: str | None) -> bool:
    """Return whether the text of a WebSocket frame can be a packet at all, before it is parsed."""
    return text is not None and (text.startswith(_MESSAGES) or text in _ENGINE_WORDS)


def event_packet(name: str, data: dict[str, Any]) -> EnginePacket:
    """Return an event as a packet that is encoded once, however many clients get it."""
    packet = EnginePacket(MESSAGE, StrictPacket(EVENT, data=[name, data], namespace="/").encode())
    packet.encode()
    return packet


def ping() -> EnginePacket:
    """Return Engine.IO's ping."""
    return EnginePacket(ENGINE_PING)


def disconnect_packet() -> EnginePacket:
    """Return the packet that makes a client disconnect and not come back by itself."""
    return EnginePacket(MESSAGE, StrictPacket(DISCONNECT, namespace="/").encode())


def packet_size(packet: EnginePacket) -> int:
    """Return the length of a packet in characters."""
    return len(packet.encode())


# ---- payloads that come in


class MalformedPayload(WebError):
    """A payload has another shape than required."""

    def __init__(self, text: str) -> None:
        super().__init__(400, "malformed", text)


def payload_of(given: tuple[Any, ...]) -> Mapping[str, Any]:
    """Return the one object that an event carries. Raises MalformedPayload, as the functions below."""
    if not given or not isinstance(given[0], dict):
        raise MalformedPayload("an event must carry one object")
    found: Mapping[str, Any] = given[0]
    return found


def word_field(payload: Mapping[str, Any], name: str, *, required: bool = True) -> str:
    """Return a short string: a name, an id, a token; "" if it is missing and not required."""
    value = payload.get(name)
    if value in (None, "") and not required:
        return ""
    if not isinstance(value, str) or not value or len(value) > _MAX_CHARACTERS:
        raise MalformedPayload(f"{name} must be a string of 1 to {_MAX_CHARACTERS} characters")
    return value


def text_field(payload: Mapping[str, Any]) -> str:
    """Return the content of a message; the library checks its length."""
    value = payload.get("content")
    if not isinstance(value, str):
        raise MalformedPayload("content must be a string")
    return value


def flag_field(payload: Mapping[str, Any], name: str) -> bool:
    value = payload.get(name)
    if not isinstance(value, bool):
        raise MalformedPayload(f"{name} must be true or false")
    return value


def timestamp_field(payload: Mapping[str, Any]) -> datetime | None:
    """Return when the client says it wrote a message: a JavaScript Date or milliseconds; None if missing."""
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
        raise MalformedPayload("timestamp must be a Date, as in JSON, or milliseconds since 1970") from None
    if found.tzinfo is None:
        raise MalformedPayload("timestamp needs a zone: new Date().toISOString() has one")
    return found


# ---- payloads that go out


def name_of(accounts: Accounts, user: User) -> str:
    """Return the name of a user here: that of its account, or its label in the mesh."""
    account = accounts.of(user.key)
    return user.label if account is None else account.name


def message_json(accounts: Accounts, post: Message | Sent) -> dict[str, Any]:
    """Return the payload of `newMessage`."""
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
