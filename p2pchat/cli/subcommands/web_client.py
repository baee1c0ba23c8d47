"""`p2pchat client WS_URL`: a chat through somebody's gateway, one line a message, for people and for pipes."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from p2pchat.cli.command_table import CLIENT_COMMAND
from p2pchat.cli.control_client import run_until_signal
from p2pchat.cli.options import parse_seconds, parse_words
from p2pchat.cli.stdin import InputKind, LineReader, ask_hidden, can_ask, raw_stdin, stdin_kind
from p2pchat.cli.subcommands.web_connection import GatewayAddress, GatewayConnection
from p2pchat.commands.errors import (
    DONE,
    FAILED,
    NO_SUCH_NAME,
    USAGE,
    CommandError,
    UsageError,
    print_error,
    print_notice,
    worst_code,
)
from p2pchat.commands.json_commands import decode_line
from p2pchat.commands.output import StdoutWriter, iso, json_line, raw_stdout
from p2pchat.commands.render import format_message, message_text, quote_conversation, quote_name, quote_speaker
from p2pchat.safe_text import safe_line, safe_text

USUAL_DRAIN = 5.0  # seconds
_DIRECT = re.compile(r'/(?:dm|msg)\s+(?:"(?P<quoted>[^"]+)"|(?P<name>\S+))\s+(?P<text>.+)', re.IGNORECASE)
_ACTION = re.compile(r"/me\s+(?P<text>.+)", re.IGNORECASE)
LEAVING = ("/quit", "/exit")


@dataclass(slots=True)
class ClientOptions:
    """`p2pchat client WS_URL`. `recipient` "" is everybody; `style` words, plain or json."""

    gateway: GatewayAddress
    recipient: str = ""
    style: str = "words"
    drain: float = USUAL_DRAIN
    stay: bool = False
    warnings: tuple[str, ...] = field(default=())


def parse_client(argv: Sequence[str]) -> ClientOptions:
    """Read `client WS_URL [options]`.

    Raises:
        Usage: What was written cannot be meant.
    """
    words, given, typed = parse_words(CLIENT_COMMAND, argv)
    if len(words) != 1:
        raise UsageError("which gateway? For example: p2pchat client ws://localhost:8000/chat --user A --recipient B")
    if given["as_json"] and given["plain"]:
        raise UsageError("--json and --plain exclude each other")
    gateway = GatewayAddress(_checked_url(words[0]), given["user"] or "")
    token = given["token"] or ""
    if not token and not gateway.user:
        raise UsageError("who are you? --token FILE, or --user NAME where the gateway trusts this machine")
    gateway.token = read_token(token) if token else ""
    return ClientOptions(
        gateway,
        given["recipient"] or "",
        "json" if given["as_json"] else "plain" if given["plain"] else "words",
        parse_seconds("--drain", given["drain"]) if given["drain"] is not None else USUAL_DRAIN,
        given["stay"],
        tuple(_secrets_seen(gateway, "token" in typed and looks_like_token(token))),
    )


def _checked_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme in ("http", "https"):
        raise UsageError(f"{text!a} is a page: write {parts.scheme.replace('http', 'ws')}://{parts.netloc}/chat")
    if parts.scheme not in ("ws", "wss") or not host:
        raise UsageError(f"{text!a} is no gateway: write ws://HOST:PORT/chat")
    if parts.username is not None or parts.password is not None:
        raise UsageError("a name or password in the address is not used: --user NAME, or --token FILE")
    return text


def _secrets_seen(gateway: GatewayAddress, token_typed: bool) -> list[str]:
    seen = []
    if token_typed:
        seen.append("others on this machine can see the token on the command line: use --token FILE or P2PCHAT_TOKEN")
    if gateway.token and gateway.url.startswith("ws:") and not gateway.is_on_this_machine:
        seen.append("the token and all messages go to the gateway in the clear: use wss://")
    return seen


def run_client(argv: Sequence[str]) -> int:
    """Chat until the end; return the exit code.

    Raises:
        Failure: The extra is not installed.
    """
    options = parse_client(argv)
    try:
        import websockets  # noqa: F401
    except ModuleNotFoundError:
        raise CommandError(
            "client needs websockets, which is not installed: install the extra `web`, p2pchat-mesh[web]"
        ) from None
    for warning in options.warnings:
        print_error(f"warning: {warning}")
    return run_until_signal(_Chat(options).run(), terminated=lambda: DONE)


class _Chat:
    """One run of the command."""

    def __init__(self, options: ClientOptions) -> None:
        self._options = options
        self._output = StdoutWriter(raw_stdout(), for_people=options.style != "json")
        self._printer = FramePrinter(self._output, options.style)
        self._connection = GatewayConnection(
            options.gateway, self._on_frame, lambda text: print_notice(f"-- {safe_line(text)}")
        )

    async def run(self) -> int:
        """Return the exit code."""
        tasks = [
            asyncio.create_task(work) for work in (self._connection.run(), self._read(), self._output.closed.wait())
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            return self._printer.code
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _on_status(self, text: str) -> None:
        print_notice(f"-- {safe_line(text)}")

    async def _on_frame(self, frame: dict[str, Any], sent: dict[str, Any] | None) -> None:
        await self._printer.on_frame(frame, sent, self._connection.me)

    # ---- what is typed

    async def _read(self) -> None:
        """Send each line; returns at the end, when everything is acknowledged or that took too long."""
        kind = stdin_kind()
        await self._connection.ready.wait()
        if kind is not InputKind.NONE:
            await self._send_all()
        if kind is InputKind.NONE or self._options.stay:
            await asyncio.get_running_loop().create_future()
        missing = await self._connection.acknowledged(self._options.drain)
        if missing:
            print_error(f"{missing} of what was sent was not acknowledged in {self._options.drain:g} s")
            self._printer.code = worst_code(self._printer.code, FAILED)

    async def _send_all(self) -> None:
        lines = LineReader(raw_stdin(), asyncio.get_running_loop())
        lines.start()
        while batch := await lines.take():
            for raw in batch:
                text = "" if raw is None else decode_line(raw)[0]
                if raw is None:
                    print_error("this line is too long: it was not sent")
                elif text.strip() in LEAVING:
                    return
                elif text.strip():
                    await self._say(text)

    async def _say(self, text: str) -> None:
        frame = self._frame(text)
        if frame is not None:
            await self._printer.on_sent(await self._connection.say(frame))

    def _frame(self, text: str) -> dict[str, Any] | None:
        """Return what a line says as a frame; None when it cannot be meant, and that was told."""
        if self._options.style == "json" and text.lstrip().startswith("{"):
            try:
                frame = json.loads(text)
                return frame if isinstance(frame, dict) else None
            except ValueError:
                print_error("this line is no JSON: it was not sent")
                return None
        recipient = self._options.recipient
        where = {"group": recipient[1:]} if recipient.startswith("#") else {"to": recipient} if recipient else {}
        if direct := _DIRECT.fullmatch(text):
            return {"to": (direct["quoted"] or direct["name"]).strip(), "text": direct["text"]}
        if action := _ACTION.fullmatch(text):
            return {"text": action["text"], "action": True, **where}
        if text.startswith("/") and not text.startswith("//"):
            print_error(
                f"there is no {text.split()[0]} here, only /dm NAME TEXT, /me TEXT, /quit, and // before a slash"
            )
            self._printer.code = worst_code(self._printer.code, USAGE)
            return None
        return {"text": text.removeprefix("/") if where else text, **where}


# ---- showing
#
# What `p2pchat client` prints: for people in words, with --plain as in a chat, with --json as it came.
#
# 📨 Sent message to B: Hello, B!
# ✅ Acknowledgment: ok
# 💬 B: Hey A!


Frame = dict[str, Any]
_CODES = {"unknown_name": NO_SUCH_NAME, "ambiguous_name": NO_SUCH_NAME} | dict.fromkeys(
    ("malformed", "unknown_command", "too_long"), USAGE
)
EVERYBODY = "everybody"


class FramePrinter:
    """Prints what comes.

    Args:
        style: "words", "plain" or "json".
    Attributes:
        code: The exit code so far: what of the answers was worst.
    """

    def __init__(self, output: StdoutWriter, style: str) -> None:
        self._output = output
        self._style = style
        self.code = DONE

    async def on_sent(self, frame: Frame) -> None:
        """This was said, and is not acknowledged yet."""
        if self._style == "words" and (text := _text_of(frame)):
            await self._output.write(f"📨 Sent message to {_whom(frame)}: {safe_text(text)}")

    async def on_frame(self, frame: Frame, sent: Frame | None, me: str) -> None:
        """This came; `sent` is what it answers, or is."""
        if frame.get("status") == "error" and "type" not in frame:
            self.code = worst_code(self.code, _CODES.get(frame.get("code", ""), FAILED))
            if self._style != "json":
                print_error(str(frame.get("text", "")))
        if self._style == "json":
            await self._output.write(json_line(frame))
        elif "type" not in frame:
            await self._acknowledged(frame, sent, me)
        elif frame["type"] == "message":
            await self._message(frame, me)

    async def _acknowledged(self, frame: Frame, sent: Frame | None, me: str) -> None:
        if self._style == "words":
            await self._output.write(f"{'✅' if frame['status'] == 'ok' else '❌'} Acknowledgment: {frame['status']}")
        elif frame["status"] == "ok" and sent is not None and _text_of(sent):
            line = {**sent, "content": _text_of(sent), "from": me, "timestamp": iso(datetime.now(UTC))}
            await self._output.write(format_message(_line(line, me), me, datetime.now().astimezone()))

    async def _message(self, frame: Frame, me: str) -> None:
        if self._style == "plain":
            await self._output.write(format_message(_line(frame, me), me, datetime.now().astimezone()))
            return
        sender, line = quote_speaker(frame["from"]), _line(frame, me)
        place = f" [{quote_conversation(frame['group'], 'group')}]" if "group" in frame else ""
        to = f" -> {quote_speaker(frame['to'])}" if "to" in frame and frame["from"] == me else ""
        mark = "💬" if "to" in frame else "📢"
        await self._output.write(f"{mark}{place} {sender}{to}: {message_text(line)}")


def _text_of(frame: Frame) -> str:
    return str(frame.get("text", frame.get("content", "")))


def _whom(frame: Frame) -> str:
    if "group" in frame:
        return quote_conversation(str(frame["group"]), "group")
    return quote_name(str(frame["to"])) if "to" in frame else EVERYBODY


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


# ---- token
#
# The token of `p2pchat client`: from a file, asked for, or as it stands. It is never shown, nor in a repr.


_TOKEN = re.compile(r"[A-Za-z0-9_-]{40,128}")
_MOST_BYTES = 64 * 1024  # of a file with a token


def looks_like_token(text: str) -> bool:
    """Whether this is a token itself, not the name of a file with one."""
    return _TOKEN.fullmatch(text) is not None and not Path(text).exists()


def read_token(given: str) -> str:
    """Return the token: asked for (`-`), as it stands, or from a file, also from what POST /accounts answered.

    Raises:
        Usage: There is none.
    """
    if given == "-":
        return _asked()
    if looks_like_token(given):
        return given
    try:
        text = Path(given).expanduser().read_bytes()[:_MOST_BYTES].decode("utf-8").strip()
    except OSError as error:
        raise UsageError(f"cannot read the token in {given}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"cannot read the token in {given}: it is no text") from None
    return _token_in(text, given)


def _token_in(text: str, given: str) -> str:
    try:
        text = str(json.loads(text)["token"]) if text.startswith("{") else text
    except (ValueError, KeyError):
        pass
    if not _TOKEN.fullmatch(text):
        raise UsageError(f"there is no token in {given}")
    return text


def _asked() -> str:
    if not can_ask():
        raise UsageError(
            "--token - asks for the token, and nobody is there to answer: name a file, or set P2PCHAT_TOKEN"
        )
    text = (ask_hidden("Paste the token (it is not shown), then Enter: ") or "").strip()
    if not _TOKEN.fullmatch(text):
        raise UsageError("that is no token")
    return text
