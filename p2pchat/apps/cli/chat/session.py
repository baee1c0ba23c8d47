"""What input does: typed lines and command objects, carried out by a running peer, in the order they came.

Texts that came together go out together: many lines of a pipe are one call and one commit. What cannot be done is one
error line; the rest goes on, and the exit code remembers it when nobody was there to see it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from p2pchat import Conversation, Failed, P2PChatError, Receipt, Receipts, StorageError, TCPPeer, UnknownName
from p2pchat.apps.cli.chat.asides import is_delivered
from p2pchat.apps.cli.chat.objects import BadOrder, Order, parse_object
from p2pchat.apps.cli.chat.show import Show
from p2pchat.apps.cli.chat.stdin import MAX_LINE_BYTES, decode
from p2pchat.apps.cli.chat.typed import Do, Say, help_lines, parse_line
from p2pchat.apps.cli.endpoints import parse_endpoint
from p2pchat.apps.cli.exits import DONE, FAILED, USAGE, Usage, code_of, stable_word, worse
from p2pchat.apps.cli.output import Line
from p2pchat.apps.cli.plain import plain_conversation, plain_message, plain_user, shown_name

NAME_GRACE = 3.0  # seconds in which piped input waits for a name: who is linked through others comes a moment later
HISTORY_LINES = 20
MAX_HISTORY = 10_000
_MOST_KEPT = 1000  # receipts of calls; then those that are done are let go


@dataclass(slots=True)
class _Text:
    """A text on its way out."""

    to: Conversation
    text: str
    action: bool = False
    ref: str | None = None


class Session:
    """One peer's input.

    Args:
        interactive: Somebody sees the errors; they do not change the exit code then.
        as_json: Lines that begin with `{` are command objects.
    Attributes:
        code: The exit code so far.
    """

    def __init__(self, peer: TCPPeer, show: Show, *, interactive: bool, as_json: bool) -> None:
        self._peer = peer
        self._show = show
        self._interactive = interactive
        self._as_json = as_json
        self._elsewhere: Conversation | None = None  # where texts go; None: the room, whose id may not be known yet
        self._unread: dict[str, int] = {}  # by conversation id
        self._texts: list[_Text] = []
        self._receipts: list[Receipt | Receipts] = []
        self._names_by = asyncio.get_running_loop().time() + NAME_GRACE
        self.code = DONE
        self._commands: dict[str, Callable[..., Awaitable[None]]] = {
            "go": self._go,
            "list": self._list,
            "who": self._who,
            "nick": self._nick,
            "history": self._history,
            "connect": self._connect,
            "help": self._help,
        }

    @property
    def current(self) -> Conversation:
        """Where a text goes. UnknownName in an open network that has met nobody yet."""
        return self._elsewhere or self._peer.room

    # Lines in

    async def take(self, lines: Sequence[bytes | None]) -> bool:
        """Do what these lines say; False when one of them said to leave."""
        stay = True
        for line in lines:
            stay = await self._line(line)
            if not stay:
                break
        await self._flush()
        return stay

    async def _line(self, raw: bytes | None) -> bool:
        ref = None
        try:
            if raw is None:
                raise Usage(f"a line above {MAX_LINE_BYTES} bytes was not sent")
            line, is_utf8 = decode(raw)
            if not is_utf8:
                await self._warn("encoding", "a line was not UTF-8: what could not be read was replaced")
            if self._as_json and line.startswith("{"):
                order = parse_object(line)
                ref = order.ref
                return await self._order(order)
            return await self._typed(parse_line(line))
        except BadOrder as error:
            await self.fail(error, error.ref)
        except (P2PChatError, Usage, ValueError) as error:
            await self.fail(error, ref)
        return True

    async def _typed(self, meant: Say | Do | None) -> bool:
        if isinstance(meant, Say):
            self._texts.append(_Text(self.current, meant.text))
        elif isinstance(meant, Do):
            return await self._do(meant)
        return True

    async def _do(self, command: Do) -> bool:
        if command.name == "quit":
            return False
        if command.name == "msg":
            to, text = command.arguments
            self._texts.append(_Text(await self._resolve(to), text))
        elif command.name == "me":
            self._texts.append(_Text(self.current, command.arguments[0], action=True))
        else:
            await self._flush()
            await self._commands[command.name](*command.arguments)
        return True

    async def _order(self, order: Order) -> bool:
        fields = order.fields
        if order.do == "send":
            to = await self._resolve(fields.get("to", "room"))
            self._texts.append(_Text(to, fields["text"], fields.get("action", False), order.ref))
            return True
        await self._flush()
        if order.do == "quit":
            return False
        if order.do == "history":
            limit = fields.get("limit", HISTORY_LINES)
            where = await self._resolve(fields["to"]) if "to" in fields else None
            await self._tell_history(where, limit, order.ref)
        else:
            await self._commands[order.do](*fields.values(), ref=order.ref)
        return True

    def names_are_known(self) -> None:
        """Wait for no name any more."""
        self._names_by = 0.0

    async def _resolve(self, address: str) -> Conversation:
        """Return the conversation an address names; piped input waits a moment for a name nobody told yet."""
        while True:
            try:
                return self._peer.find(address)
            except UnknownName:
                left = self._names_by - asyncio.get_running_loop().time()
                if self._interactive or left <= 0:
                    raise
                try:
                    await self._peer.wait_user(address.removeprefix("@"), timeout=left)
                except (TimeoutError, UnknownName):
                    self.names_are_known()

    # Texts out

    async def _flush(self) -> None:
        texts, self._texts = self._texts, []
        if len(texts) > 1 and all(text == _Text(texts[0].to, text.text) for text in texts):
            if await self._send_together(texts[0].to, [text.text for text in texts]):
                return
        # Started in their order, so accepted in their order; waited for together.
        sends = [asyncio.ensure_future(self._send(text)) for text in texts]
        for text, result in zip(texts, await asyncio.gather(*sends, return_exceptions=True), strict=True):
            if isinstance(result, BaseException):
                await self.fail(result, text.ref)
            else:
                self._keep(text.to, result)

    async def _send(self, text: _Text) -> Receipt:
        return await self._peer.send(text.to, text.text, action=text.action, ref=text.ref)

    async def _send_together(self, to: Conversation, texts: list[str]) -> bool:
        """Send all in one call; False when one of them is refused, so that each has to be tried for itself."""
        try:
            self._keep(to, await self._peer.send_many(to, texts))
        except ValueError:  # found before any of them was taken
            return False
        except P2PChatError as error:
            await self.fail(error)
        return True

    def _keep(self, to: Conversation, receipt: Receipt | Receipts) -> None:
        self._show.kept(to, receipt)
        self._receipts.append(receipt)
        if len(self._receipts) >= _MOST_KEPT:
            self._receipts = [kept for kept in self._receipts if not is_delivered(kept)]

    async def drain(self, seconds: float) -> list[str]:
        """Wait until everything sent is delivered, at most so long; return the labels of those who lack something.

        [""] stands for "nobody was there".
        """
        missing: set[str] = set()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        for receipt in self._receipts:
            try:
                await receipt.delivered(timeout=max(0.0, deadline - loop.time()))
            except TimeoutError as error:
                missing |= set(getattr(error, "missing", ())) or {""}
            except P2PChatError:
                missing.add("")
        return sorted(missing)

    def undelivered(self) -> bool:
        """Whether something sent here is not delivered to all it is for."""
        return any(not is_delivered(receipt) for receipt in self._receipts)

    # What came in from others

    def noticed(self, event: Line) -> None:
        """Count what is unread: what others write elsewhere than in the conversation of the moment."""
        if event["event"] != "message":
            return
        here = self._elsewhere.id if self._elsewhere else None  # not asked of the peer, which may be closed by now
        key = event["conversation_id"]
        if key != here and not (here is None and event["kind"] == "room"):
            self._unread[key] = self._unread.get(key, 0) + 1

    # Commands

    async def _go(self, address: str = "room", ref: str | None = None) -> None:
        there = await self._resolve(address)
        row = {"conversation": there.name, "conversation_id": there.id, "kind": there.kind}
        await self._show.answer("go", [row], [], ref)
        await self.go(there)

    async def go(self, conversation: Conversation) -> None:
        """Send what follows there; what was unread there is read."""
        self._elsewhere = None if conversation.kind == "room" else conversation
        self._unread.pop(conversation.id, None)
        await self._show.went(conversation)

    async def _list(self, ref: str | None = None) -> None:
        rows = [self._row(conversation) for conversation in self._peer.conversations()]
        await self._show.answer("list", rows, [plain_conversation(row) for row in rows], ref)

    def _row(self, conversation: Conversation) -> Line:
        return {
            "conversation": conversation.name,
            "conversation_id": conversation.id,
            "kind": conversation.kind,
            "unread": self._unread.get(conversation.id, 0),
            "current": conversation == self._elsewhere or (self._elsewhere is None and conversation.kind == "room"),
        }

    async def _who(self, ref: str | None = None) -> None:
        rows: list[Line] = [
            {
                "user": user.label,
                "user_id": user.id,
                "name": user.name,
                "status": user.status,
                "text": user.status_text,
                "me": user.is_me,
            }
            for user in self._peer.users()
        ]
        await self._show.answer("who", rows, [plain_user(row) for row in rows], ref)

    async def _nick(self, name: str, ref: str | None = None) -> None:
        await self._peer.rename(name)
        me = self._peer.me
        self._show.me = me.label
        row = {"user": me.label, "user_id": me.id, "name": me.name}
        await self._show.answer("nick", [row], [f"-- you are {shown_name(me.label)} now"], ref)

    async def _history(self, count: str = str(HISTORY_LINES)) -> None:
        if not (count.isascii() and count.isdecimal() and int(count[:9]) > 0):
            raise Usage("usage: /history [N], N above 0")
        await self._tell_history(self.current, int(count[:9]), None)

    async def _tell_history(self, where: Conversation | None, limit: int, ref: str | None) -> None:
        if limit < 1:
            raise Usage("`limit` is above 0")
        posts = await self._peer.history(where, limit=min(limit, MAX_HISTORY))
        rows = [post.to_json() for post in posts]
        now = datetime.now().astimezone()
        await self._show.answer("history", rows, [plain_message(row, self._show.me, now) for row in rows], ref)

    async def _connect(self, endpoint: str, ref: str | None = None) -> None:
        where = parse_endpoint(endpoint)
        await self._peer.connect(where, timeout=0.01)  # how it goes on, the endpoint's own line says
        await self._show.answer("connect", [{"endpoint": where}], [f"-- calling {where}"], ref)

    async def _help(self, word: str = "") -> None:
        lines = help_lines(word)
        await self._show.answer("help", [{"line": line} for line in lines], lines)

    # Trouble

    async def fail(self, error: BaseException, ref: str | None = None) -> None:
        """Show that something was not done, and remember it for the exit code; a bug of ours is raised on."""
        code = USAGE if isinstance(error, ValueError) and not isinstance(error, P2PChatError) else code_of(error)
        if not self._interactive or code == FAILED:
            self.code = worse(self.code, code)
        word = "usage" if code == USAGE and not isinstance(error, P2PChatError) else stable_word(error)
        if isinstance(error, StorageError):
            word = "storage"
        await self._show.event(Failed(code=word, text=str(error), ref=ref).to_json())

    async def _warn(self, code: str, text: str) -> None:
        from p2pchat import Warned

        await self._show.event(Warned(code=code, text=text).to_json())
