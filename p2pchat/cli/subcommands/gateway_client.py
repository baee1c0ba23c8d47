"""The command `p2pchat client`: a chat through a gateway, one line a message, for people and for pipes.

Its connection reconnects and loses nothing. After a break, messages that were not acknowledged are sent again with the
same key, so that they are written once. Messages and changes that came meanwhile are requested with the id of the last
one received (`since`); duplicates are dropped.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlencode, urlsplit, urlunsplit

import click

from p2pchat.addresses import is_loopback, parse_endpoint
from p2pchat.bounded import remember
from p2pchat.cli import options as cli
from p2pchat.cli.process import run_until_signal
from p2pchat.cli.standard_input import InputKind, LineReader, ask_hidden, can_ask, raw_stdin, stdin_kind
from p2pchat.commands.event_text import format_message, local_now, message_text
from p2pchat.commands.exit_codes import (
    DONE,
    FAILED,
    USAGE,
    CommandError,
    UsageError,
    line_exit_code,
    print_error,
    print_notice,
    worst_code,
)
from p2pchat.commands.json_commands import decode_line, looks_like_json, read_object
from p2pchat.commands.standard_output import StdoutWriter, iso, json_line, raw_stdout
from p2pchat.commands.typed_commands import split_name
from p2pchat.commands.wrap import plain_text
from p2pchat.extras import missing_extra
from p2pchat.kinds import CHANGE_EVENTS
from p2pchat.safe_text import quote_conversation, quote_name, quote_speaker, safe_line, safe_text
from p2pchat.threads import ends_within, stop_tasks
from p2pchat.web.message_form import CHAT

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

Frame = dict[str, Any]
DEFAULT_URL = "ws://localhost:8080/chat"  # the port that the documents use
DEFAULT_DRAIN = 5.0  # seconds
_DIRECT = re.compile(r"/(?:dm|msg)\s+(?P<rest>.+)", re.IGNORECASE)
_ACTION = re.compile(r"/me\s+(?P<text>.+)", re.IGNORECASE)
LEAVING = ("/quit", "/exit")


def _check_token(ctx: click.Context, option: click.Parameter, value: str | None) -> str | None:
    if value and looks_like_token(value):
        cli.warn_if_typed(ctx, option, "token", "--token FILE or P2PCHAT_TOKEN")
    return value


EPILOG = """\
\b
Examples:
  p2pchat client --user A --recipient B
  p2pchat client wss://chat.example.org/chat --token ~/token --plain
  echo "backup finished" | p2pchat client ws://localhost:8000/chat --token ~/token --recipient '#ops'

--user alone is for gateways that trust this machine (p2pchat web --trust-loopback). Everyone else has a token: \
POST /accounts answers with one, and its answer may be the file. Under --json a line that begins with { is a frame as \
docs/gateway-api.md describes it, and what comes is printed as it is.

Exit codes: 0 everything sent was acknowledged; 1 no connection, refused, or not acknowledged in time; 2 usage; 4 no \
such name, or several; 130 interrupted.
"""


@dataclass
class ClientOptions:
    """Options of a chat. `recipient` "" is everyone; `style` words, plain or json."""

    gateway: GatewayAddress
    recipient: str
    style: str
    drain: float
    stay: bool


@cli.subcommand("client", EPILOG)
@click.argument("url", metavar="[ws://HOST:PORT/chat]", default=DEFAULT_URL)
@cli.option("-user --user", "NAME", "who I am, where this machine is trusted")
@cli.option("-recipient --recipient", "TO", "whom to write to: bob, #ops (default: everyone)")
@cli.option(
    "--token", "FILE", "my token; - asks for it without echo", callback=_check_token, shell_complete=cli.complete_file
)
@cli.plain_option
@cli.json_option
@cli.option(
    "--drain",
    "SECONDS",
    "how long to wait for acknowledgements at the end of input (default 5)",
    type=cli.SECONDS,
    default=DEFAULT_DRAIN,
)
@cli.stay_option
def client(**values: Any) -> int:
    """Chat through a gateway (p2pchat web), without a peer of your own.

    What you type goes to everyone in the public chat, or with --recipient to one user or group; /dm NAME TEXT writes to
    one user. Without an address, the gateway is the one on port 8080 of this machine. When the connection breaks it
    comes back by itself, misses nothing and sends what was not acknowledged.
    (Extra: web.)
    """
    options = client_options(**values)
    try:
        import websockets  # noqa: F401
    except ModuleNotFoundError:
        raise CommandError(missing_extra("client needs websockets", "web")) from None
    return run_until_signal(_Chat(options).run(), terminated=lambda: DONE)


def client_options(
    url: str, user: str | None, recipient: str | None, token: str | None, plain: bool, as_json: bool, **others: Any
) -> ClientOptions:
    cli.check_exclusive({"as_json": as_json, "plain": plain}, ("as_json", "plain"))
    gateway = GatewayAddress(_checked_url(url), user or "")
    if not token and not gateway.user:
        raise UsageError("who are you? --token FILE, or --user NAME where the gateway trusts this machine")
    gateway.token = read_token(token) if token else ""
    if gateway.token and gateway.url.startswith("ws:") and not gateway.is_on_this_machine:
        print_error("warning: the token and all messages go to the gateway in the clear: use wss://")
    style = "json" if as_json else "plain" if plain else "words"
    return ClientOptions(gateway, recipient or "", style, **others)


def _checked_url(text: str) -> str:
    try:
        if "://" not in text:
            text = f"ws://{parse_endpoint(text)}/chat"
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme in ("http", "https"):
        raise UsageError(f"{text!r} is a page: write {parts.scheme.replace('http', 'ws')}://{parts.netloc}/chat")
    if parts.scheme not in ("ws", "wss") or not host:
        raise UsageError(f"{text!r} is not a gateway: write ws://HOST:PORT/chat")
    if parts.username is not None or parts.password is not None:
        raise UsageError("a name or password in the address is not used: --user NAME, or --token FILE")
    return text


class _Chat:
    """One run of the command."""

    def __init__(self, options: ClientOptions) -> None:
        self._options = options
        self._output = StdoutWriter(raw_stdout(), for_people=options.style != "json")
        self._printer = FramePrinter(self._output, options.style)
        self._connection = GatewayConnection(options.gateway, self._on_frame, self._on_status)

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
            await self._connection.close(tasks[0])
            return self._printer.code
        finally:
            await stop_tasks(tasks)

    def _on_status(self, text: str) -> None:
        print_notice(f"-- {safe_line(text)}")

    async def _on_frame(self, frame: dict[str, Any], sent: dict[str, Any] | None) -> None:
        await self._printer.on_frame(frame, sent, self._connection.me)

    async def _read(self) -> None:
        """Send each line; return when all of it is acknowledged, or that took too long."""
        kind = stdin_kind()
        await self._connection.ready.wait()
        if kind is not InputKind.NONE:
            await self._send_all()
        if kind is InputKind.NONE or self._options.stay:
            await asyncio.get_running_loop().create_future()
        missing = await self._connection.acknowledged(self._options.drain)
        if missing:
            print_error(f"{missing} of the sent messages were not acknowledged in {self._options.drain:g} s")
            self._printer.code = worst_code(self._printer.code, FAILED)

    async def _send_all(self) -> None:
        lines = LineReader(raw_stdin(), asyncio.get_running_loop())
        lines.start()
        while batch := await lines.take():
            for raw in batch:
                text, was_utf8 = ("", True) if raw is None else decode_line(raw)
                if not was_utf8:
                    print_error("warning: a line was not UTF-8: invalid bytes were replaced")
                if raw is None:
                    print_error("this line is too long: it was not sent")
                elif text.strip() in LEAVING:
                    return
                elif text.strip():
                    await self._send(text)

    async def _send(self, text: str) -> None:
        try:
            frame = self._frame(text)
        except UsageError as error:
            print_error(str(error))
            self._printer.code = worst_code(self._printer.code, USAGE)
            return
        await self._printer.on_sent(await self._connection.send(frame))

    def _frame(self, text: str) -> dict[str, Any]:
        """Return the frame for a typed line. Raises UsageError if there is none."""
        if self._options.style == "json" and looks_like_json(text):
            frame = read_object(text)
            if frame is None:
                raise UsageError('this line is no JSON object, so it was not sent; as a text, use {"text": ...}')
            return frame
        recipient = self._options.recipient
        where = {"group": recipient[1:]} if recipient.startswith("#") else {"to": recipient} if recipient else {}
        if (direct := _DIRECT.fullmatch(text)) and all(found := split_name(direct["rest"])):
            return {"to": found[0], "text": found[1]}
        if action := _ACTION.fullmatch(text):
            return {"text": action["text"], "action": True, **where}
        if text.startswith("/") and not text.startswith("//"):
            raise UsageError(
                f"there is no {text.split()[0]} here, only /dm NAME TEXT, /me TEXT, /quit, and // before a slash"
            )
        return {"text": text.removeprefix("/") if where else text, **where}


# ---- output
#
# 📨 Sent message to B: Hello, B!
# ✅ Acknowledgment: ok
# 💬 B: Hey A!


EVERYONE = "everyone"


class FramePrinter:
    """Prints frames.

    Args:
        style: "words" for people, "plain" as in a chat, or "json" as received.
    Attributes:
        code: The exit code so far, of the worst answer.
    """

    def __init__(self, output: StdoutWriter, style: str) -> None:
        self._output = output
        self._style = style
        self.code: int = DONE

    async def on_sent(self, frame: Frame) -> None:
        """Print a frame that was sent and is not acknowledged yet."""
        if self._style == "words" and (text := _text_of(frame)):
            await self._output.write(f"📨 Sent message to {_whom(frame)}: {safe_text(text)}")

    async def on_frame(self, frame: Frame, sent: Frame | None, me: str) -> None:
        """Print a received frame; `sent` is the frame that it answers, None for none that is to be shown."""
        if frame.get("status") == "error" and "type" not in frame:
            self.code = worst_code(self.code, line_exit_code(frame))
            if self._style != "json":
                print_error(str(frame.get("text", "")))
        if self._style == "json":
            await self._output.write(json_line(frame))
        elif "type" not in frame:
            await self._acknowledged(frame, sent, me)
            if frame.get("reserved"):
                print_notice(f"-- {safe_line(str(frame.get('text', '')))}")
        elif frame["type"] == "message":
            await self._message(frame, me)
        elif frame["type"] in CHANGE_EVENTS:
            line = {**frame, "event": frame["type"], "sent_at": frame["timestamp"], "text": _text_of(frame), "kind": ""}
            await self._output.write(format_message(line, me, local_now()))

    async def _acknowledged(self, frame: Frame, sent: Frame | None, me: str) -> None:
        if self._style == "words":
            await self._output.write(f"{'✅' if frame['status'] == 'ok' else '❌'} Acknowledgment: {frame['status']}")
        elif frame["status"] == "ok" and sent is not None and _text_of(sent):
            line = {**sent, "content": _text_of(sent), "from": me, "timestamp": iso(datetime.now(UTC)), "files": []}
            await self._output.write(format_message(_line(line, me), me, local_now()))

    async def _message(self, frame: Frame, me: str) -> None:
        if self._style == "plain":
            here = me or str(frame.get("to", ""))  # the name is not known yet: what waits is for it
            await self._output.write(format_message(_line(frame, here), here, local_now()))
            return
        line, is_action = _line(frame, me), frame.get("action", False)
        show = quote_name if is_action else quote_speaker
        place = f" [{quote_conversation(frame['group'], 'group')}]" if "group" in frame else ""
        to = f" -> {show(frame['to'])}" if "to" in frame and frame["from"] == me else ""
        mark, who, text = "💬" if "to" in frame else "📢", f"{show(frame['from'])}{to}", plain_text(message_text(line))
        await self._output.write(f"{mark}{place} * {who} {text}" if is_action else f"{mark}{place} {who}: {text}")


def _text_of(frame: Frame) -> str:
    return str(frame.get("text", frame.get("content", "")))


def _whom(frame: Frame) -> str:
    if "group" in frame:
        return quote_conversation(str(frame["group"]), "group")
    return quote_name(str(frame["to"])) if "to" in frame else EVERYONE


def _line(frame: Frame, me: str) -> Frame:
    """Return a frame as the event line that format_message() takes; without choices, as there is no /react here."""
    kind = "group" if "group" in frame else "dm" if "to" in frame else "room"
    said = {field: frame[name] for field, name in CHAT.items() if name in frame and field != "choices"}
    event = "sent" if frame["from"] == me else "message"
    return {"to": "", "action": False, **said, "event": event, "kind": kind, "conversation": frame.get("group", "room")}


# ---- token, which is never shown, nor part of a repr

_TOKEN = re.compile(r"[A-Za-z0-9_-]{40,128}")
_MAX_TOKEN_FILE_BYTES = 64 * 1024


def looks_like_token(text: str) -> bool:
    """Return whether this is a token itself, not the name of a file with one."""
    return _TOKEN.fullmatch(text) is not None and not Path(text).exists()


def read_token(given: str) -> str:
    """Return the token: typed (`-`), `given` itself, or from a file, which may be an answer of POST /accounts."""
    if given == "-":
        return _ask_token()
    if looks_like_token(token := "".join(given.split())):
        return token
    try:
        text = Path(os.path.expanduser(given)).read_bytes()[:_MAX_TOKEN_FILE_BYTES].decode("utf-8").strip()
    except OSError as error:
        raise UsageError(f"cannot read the token in {given}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"cannot read the token in {given}: it is not text") from None
    return _token_in(text, given)


def _token_in(text: str, given: str) -> str:
    try:
        text = str(json.loads(text)["token"]) if text.startswith("{") else text
    except (ValueError, KeyError):
        pass
    text = "".join(text.split())  # mail may have broken it
    if not _TOKEN.fullmatch(text):
        raise UsageError(f"there is no token in {given}")
    return text


def _ask_token() -> str:
    if not can_ask():
        raise UsageError("--token - asks for the token, and there is no terminal: name a file, or set P2PCHAT_TOKEN")
    text = "".join((ask_hidden("Paste the token (it is not shown), then Enter: ") or "").split())
    if not _TOKEN.fullmatch(text):
        raise UsageError("that is not a token")
    return text


# ---- the connection


MAX_FRAME_BYTES = 1024 * 1024  # a text of 32 KiB has at most 192 KiB when every character of it is escaped
OPEN_TIMEOUT = 10.0  # seconds
CLOSE_TIMEOUT = 5.0  # seconds to show what has come before the end
PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0)  # seconds before each attempt to reconnect; the last one repeats
MAX_KNOWN = 4096  # ids of received messages, to drop duplicates
TRY_AGAIN = (429, 502, 503, 504)  # HTTP: busy, stopping, or a proxy whose gateway is not back yet
REFUSED = 1008  # RFC 6455: policy violation; the gateway refuses this client


@dataclass
class GatewayAddress:
    """The address of a gateway, with a token, or without one with the name of a user."""

    url: str
    user: str = ""
    token: str = field(default="", repr=False)

    @property
    def is_on_this_machine(self) -> bool:
        return is_loopback(urlsplit(self.url).hostname or "")

    def address(self, since: str) -> str:
        """Return the URL to connect to; `since` is the id of the last message or change received, "" for none."""
        parts = urlsplit(self.url)
        query = "&".join(part for part in ("events=changes", parts.query, urlencode({"since": since})) if part)
        return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") or "/chat", query, ""))


class GatewayConnection:
    """A connection that is opened again whenever it breaks.

    Args:
        on_frame: Called with every new frame; the second argument is the frame that was sent, for an answer.
        on_status: Called with a text for people when the connection opens or breaks.
    Attributes:
        me: The name of this user at the gateway; until it answers, the one asked for.
        ready: Set after the first connection.
    """

    def __init__(
        self,
        gateway: GatewayAddress,
        on_frame: Callable[[Frame, Frame | None], Awaitable[None]],
        on_status: Callable[[str], None],
    ) -> None:
        self._gateway = gateway
        self._on_frame = on_frame
        self._on_status = on_status
        self.me: str = gateway.user
        self.ready: asyncio.Event = asyncio.Event()
        self._since = ""
        self._mark = ""  # "@" and the name of this connection's gateway, once it said that the account has several
        self._known: dict[str, None] = {}
        self._unacknowledged: dict[str, Frame] = {}  # not acknowledged yet, by ref
        self._refs = 0
        self._socket: ClientConnection | None = None  # one that may be written to: it has resumed
        self._connected = 0
        self._told = False  # that it is connected
        self._closing = False
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._early_error: Frame | None = None  # why the gateway refuses this client, or does not know `since`

    async def send(self, frame: Mapping[str, Any]) -> Frame:
        """Send a frame as soon as there is a connection; return it as it is sent."""
        self._refs += 1
        sent = {"ref": f"{self._refs}", "key": secrets.token_hex(8), **frame}
        if "text" in sent or "content" in sent:
            self._unacknowledged[str(sent["ref"])] = sent
            self._quiet.clear()
        await self._write(sent)
        return sent

    async def _write(self, frame: Frame) -> None:
        from websockets.exceptions import ConnectionClosed

        if self._socket is not None:
            try:
                await self._socket.send(json.dumps(frame, ensure_ascii=False))
            except ConnectionClosed:
                pass  # it is sent again after reconnecting

    async def acknowledged(self, timeout: float) -> int:
        """Wait until everything sent is answered; return how many frames are not answered in time."""
        await ends_within(timeout, self._quiet.wait())
        return len(self._unacknowledged)

    async def close(self, running: asyncio.Task[Any]) -> None:
        """Close the connection once everything that has come is passed on: for the gateway the client has taken it.

        Args:
            running: The task of run(), which then ends.
        """
        self._closing = True
        if self._socket is not None:
            await self._socket.close()
            await asyncio.wait([running], timeout=CLOSE_TIMEOUT)

    async def run(self) -> None:
        """Connect, and reconnect for ever. Raises CommandError when the gateway refuses, or was never reached."""
        attempt = 0
        while True:
            before, self._told = self._connected, False
            try:
                await self._once()
            except OSError as error:
                if not self._connected:
                    start = (
                        "; `p2pchat web PORT --trust-loopback` starts one" if self._gateway.is_on_this_machine else ""
                    )
                    why = f"{_why(error)}{start}"
                    raise CommandError(f"cannot reach the gateway at {self._gateway.url}: {why}") from None
                reason = _why(error)
            finally:
                self._socket = None
            if self._closing:
                return
            if self._connected > before:
                attempt = 0
                self._on_status(f"the connection is lost ({reason}): trying again")
            await asyncio.sleep(PAUSES[min(attempt, len(PAUSES) - 1)])
            attempt += 1

    async def _once(self) -> NoReturn:
        """Run one connection until it ends. Raises OSError then, and CommandError when the gateway refuses."""
        from websockets.asyncio.client import connect
        from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

        gateway, self._mark = self._gateway, ""
        headers = {"Authorization": f"Bearer {gateway.token}"} if gateway.token else {}
        try:
            async with connect(
                gateway.address(self._since),
                additional_headers=headers,
                open_timeout=OPEN_TIMEOUT,
                max_size=MAX_FRAME_BYTES,
                proxy=None if gateway.is_on_this_machine else True,
            ) as socket:
                if not gateway.token:  # as the first frame: a gateway that does not believe it answers at once
                    await socket.send(json.dumps({"user": gateway.user}))
                async for text in socket:
                    await self._take(socket, json.loads(text))
                raise ConnectionError("it closed the connection")
        except InvalidStatus as error:
            raise self._refusal_error(error.response.status_code, error.response.body) from None
        except ConnectionClosed as error:
            if error.rcvd is not None and error.rcvd.code == REFUSED:
                if self._early_error is not None:
                    raise CommandError(self._refusal_text(str(self._early_error.get("text")))) from None
                raise CommandError(f"the gateway closed the connection: {error.rcvd.reason or 'refused'}") from None
            raise ConnectionError("it broke" if error.rcvd is None else error.rcvd.reason or "it was closed") from None
        except InvalidURI as error:
            raise CommandError(f"cannot reach the gateway at {gateway.url}: {error}") from None
        except (InvalidHandshake, TimeoutError, ValueError) as error:
            raise ConnectionError(str(error) or "it does not answer") from None

    def _refusal_error(self, status: int, body: bytes | bytearray | None) -> Exception:
        try:
            why = str(json.loads(body or b"")["text"])
        except (ValueError, KeyError, TypeError):
            why = f"it answers with HTTP {status}; is that a gateway, and the address its /chat?"
        if status in TRY_AGAIN and self._connected:
            return ConnectionError(why)
        return CommandError(self._refusal_text(why))

    def _refusal_text(self, why: str) -> str:
        why = re.sub(r"^missing token: send [^;]*", "missing token: give it with --token FILE", why)  # not as a frame
        return f"the gateway at {self._gateway.url} refuses this client: {why}"

    async def _take(self, socket: ClientConnection, frame: Frame) -> None:
        kind = frame.get("type")
        if kind == "resumed":
            await self._resumed(socket, frame)
        elif kind == "message" or "entry_id" in frame:
            if self.me:  # what waits comes before `resumed`, which tells the name
                self._tell_connected()
            id: str = frame.get("entry_id") or frame["id"]
            self._since = id + self._mark
            if self._is_news(id):
                await self._on_frame(frame, None)
        elif kind == "error" or ("status" in frame and kind is None):
            frame = frame if kind is None else {"status": "error", "code": frame.get("code"), "text": frame.get("text")}
            if self._socket is None:
                self._early_error = frame
            else:
                await self._answered(frame)
        else:
            await self._on_frame(frame, None)

    async def _resumed(self, socket: ClientConnection, frame: Frame) -> None:
        """Start to send, after all missed messages came: first again what was not acknowledged."""
        self._mark = f"@{frame['gateway']}" if "gateway" in frame else ""
        if last := self._since.partition("@")[0] or frame.get("last", ""):
            self._since = last + self._mark  # everything up to the present was shown here, and came
        self.me = frame.get("user", self.me)
        self._socket = socket
        self.ready.set()
        self._tell_connected()
        early, self._early_error = self._early_error, None
        if early is not None:
            await self._answered(early)
        for sent in list(self._unacknowledged.values()):
            await self._write(sent)

    def _tell_connected(self) -> None:
        if not self._told:
            self._told = True
            self._connected += 1
            self._on_status(f"{'connected' if self._connected == 1 else 'back'} as {self.me}")

    def _is_news(self, id: str) -> bool:
        if id in self._known:
            return False
        remember(self._known, id, None, MAX_KNOWN)
        return True

    async def _answered(self, frame: Frame) -> None:
        sent = self._unacknowledged.pop(str(frame.get("ref", "")), None)
        if not self._unacknowledged:
            self._quiet.set()
        if frame["status"] == "ok" and not self._is_news(frame["id"]):
            sent = None  # it came as a message after a break
        await self._on_frame(frame, sent)


def _why(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
