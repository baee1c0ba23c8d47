"""What `p2pchat client` prints: for people in words, with --plain as in a chat, with --json as it came.

📨 Sent message to B: Hello, B!
✅ Acknowledgment: ok
💬 B: Hey A!
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from p2pchat.commands.errors import DONE, FAILED, NO_SUCH_NAME, USAGE, complain, worse
from p2pchat.commands.format import message_text, plain_message, shown_name, shown_place, shown_speaker
from p2pchat.commands.output import Output, iso, json_line
from p2pchat.safe_text import safe_text

Frame = dict[str, Any]
_CODES = {"unknown_name": NO_SUCH_NAME, "ambiguous_name": NO_SUCH_NAME} | dict.fromkeys(
    ("malformed", "unknown_command", "too_long"), USAGE
)
EVERYBODY = "everybody"


class Showing:
    """Prints what comes.

    Args:
        style: "words", "plain" or "json".
    Attributes:
        code: The exit code so far: what of the answers was worst.
    """

    def __init__(self, output: Output, style: str) -> None:
        self._output = output
        self._style = style
        self.code = DONE

    async def said(self, frame: Frame) -> None:
        """This was said, and is not acknowledged yet."""
        if self._style == "words" and (text := _text_of(frame)):
            await self._output.write(f"📨 Sent message to {_whom(frame)}: {safe_text(text)}")

    async def heard(self, frame: Frame, said: Frame | None, me: str) -> None:
        """This came; `said` is what it answers, or is."""
        if frame.get("status") == "error" and "type" not in frame:
            self.code = worse(self.code, _CODES.get(frame.get("code", ""), FAILED))
            if self._style != "json":
                complain(str(frame.get("text", "")))
        if self._style == "json":
            await self._output.write(json_line(frame))
        elif "type" not in frame:
            await self._acknowledged(frame, said, me)
        elif frame["type"] == "message":
            await self._message(frame, me)

    async def _acknowledged(self, frame: Frame, said: Frame | None, me: str) -> None:
        if self._style == "words":
            await self._output.write(f"{'✅' if frame['status'] == 'ok' else '❌'} Acknowledgment: {frame['status']}")
        elif frame["status"] == "ok" and said is not None and _text_of(said):
            sent = {**said, "content": _text_of(said), "from": me, "timestamp": iso(datetime.now(UTC))}
            await self._output.write(plain_message(_line(sent, me), me, datetime.now().astimezone()))

    async def _message(self, frame: Frame, me: str) -> None:
        if self._style == "plain":
            await self._output.write(plain_message(_line(frame, me), me, datetime.now().astimezone()))
            return
        sender, line = shown_speaker(frame["from"]), _line(frame, me)
        place = f" [{shown_place(frame['group'], 'group')}]" if "group" in frame else ""
        to = f" -> {shown_speaker(frame['to'])}" if "to" in frame and frame["from"] == me else ""
        mark = "💬" if "to" in frame else "📢"
        await self._output.write(f"{mark}{place} {sender}{to}: {message_text(line)}")


def _text_of(frame: Frame) -> str:
    return str(frame.get("text", frame.get("content", "")))


def _whom(frame: Frame) -> str:
    if "group" in frame:
        return shown_place(str(frame["group"]), "group")
    return shown_name(str(frame["to"])) if "to" in frame else EVERYBODY


def _line(frame: Frame, me: str) -> Frame:
    """Return a frame as an event line, which is what people's lines are made of."""
    kind = "group" if "group" in frame else "dm" if "to" in frame else "room"
    return {
        "event": "sent" if frame["from"] == me else "message",
        "kind": kind,
        "conversation": frame.get("group", "room"),
        "sender": frame["from"],
        "to": frame.get("to", ""),
        "text": frame["content"],
        "sent_at": frame["timestamp"],
        "action": frame.get("action", False),
        "edited": frame.get("edited", False),
        "deleted": frame.get("deleted", False),
    }
