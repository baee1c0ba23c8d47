"""Socket.IO's packets: what may come in, and what goes out, made once for all who get it.

Nothing here takes binary packets: a packet that announces attachments has its reader keep them until all are there.
What is of another shape than an event or an acknowledgement is refused before anything looks into it.
"""

from __future__ import annotations

from typing import Any

from engineio.packet import MESSAGE
from engineio.packet import PING as ENGINE_PING
from engineio.packet import Packet as EnginePacket
from socketio.packet import ACK, CONNECT, DISCONNECT, EVENT, Packet

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


__all__ = ["CONNECT", "MESSAGE_STARTS", "NEW_MESSAGE", "PING", "PONG", "EnginePacket", "StrictPacket", "event",
           "farewell", "may_come_in", "ping", "size_of"]  # fmt: skip
