"""`ws /lines`: event lines out and command objects in, the language of `p2pchat --json`. The page speaks it.

The first line is `listening`. A command session like that of the terminal carries out the commands one after the other,
as the account's user. There are four more commands:

    {"do":"find","to":"bob"}       an `answer` with the conversation an address means
    {"do":"latest"}                an `answer` with the newest message of each conversation
    {"do":"unread","to":"bob"}     an `answer` with the first unread message of a conversation
    {"do":"active","on":false}     nobody is looking at this connection, so others see it as idle

`send` has `files`: uploads of the account (account_files.py), by id.

Commands about the peer itself (connect, forget, allow, quit) do not exist here, and none takes a path. `?since=ID`
first replays what followed that message, with nothing lost or repeated. A command that terminals have too belongs into
p2pchat/commands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, WebSocket

from p2pchat import DurableEvent, Failed, Link, Listening, Message, P2PChatError, Sent, Stopped
from p2pchat.commands.activity_tracker import ActivityTracker
from p2pchat.commands.chat_settings import ChatSettings
from p2pchat.commands.command_context import MAX_RECENT, CommandContext
from p2pchat.commands.command_session import Session
from p2pchat.commands.conversation_commands import find, group, list_
from p2pchat.commands.display import CommandResult, Display
from p2pchat.commands.event_text import EventLine
from p2pchat.commands.json_commands import JSON_COMMANDS, BadCommand, JsonCommand, parse_json_command
from p2pchat.commands.people_commands import invite_row, nick
from p2pchat.commands.standard_output import StdoutWriter, iso
from p2pchat.web.account_session import RECEIPTS, Frame, SendQueue, SessionEnded, WebSocketSession, as_frame
from p2pchat.web.accounts import Account
from p2pchat.web.catch_up import Post
from p2pchat.web.error_responses import Forbidden, WebError, problem_of
from p2pchat.web.hub import Envelope, QueueFull
from p2pchat.web.sign_in import may_invite, sign_in

# Commands of terminals that do nothing to the peer or its machine: one with a path would act on the gateway's disk.
SHARED_COMMANDS = (
    "edit", "delete", "react", "history", "search", "receipts", "read", "who", "whois", "list", "nick", "about", "away",
    "back", "typing", "invite", "ignore", "unignore", "block", "unblock", "requests", "accept", "decline", "group",
    "add", "kick", "leave", "rename", "owner", "members", "set",
)  # fmt: skip
COMMANDS: dict[str, dict[str, tuple[type, bool]]] = {
    "send": {
        "to": (str, False),
        "text": (str, False),
        "action": (bool, False),
        "reply_to": (str, False),
        "claimed_at": (str, False),
        "again": (bool, False),
        "files": (list, False),
    },
    **{do: JSON_COMMANDS[do] for do in SHARED_COMMANDS},
    "find": {"to": (str, True)},
    "latest": {},
    "unread": {"to": (str, True)},
    "active": {"on": (bool, True)},
}
SMALL_COMMANDS = frozenset({"typing", "read", "active", "away", "back"})
WRITE_COMMANDS = frozenset(
    {"send", "edit", "delete", "react", "group", "add", "kick", "leave", "rename", "owner", "nick", "about"}
)
GROUP_COMMANDS = frozenset({"group", "add", "kick", "leave", "rename", "owner"})
CHOICE_COMMANDS = frozenset(  # stored too; some have other peers compare
    {"block", "unblock", "ignore", "unignore", "accept", "decline", "set"}
)
MAX_ROWS = 2000  # of one answer, and messages that `unread` counts: as many as the page loads
PEER_EVENTS = (Link, Listening, Stopped)  # about the peer itself; accounts do not receive them

router: APIRouter = APIRouter()


@router.websocket("/lines")
async def lines(websocket: WebSocket, since: str | None = None) -> None:
    """Serve one client; `?since=ID` first replays what followed that message."""
    signed_in = await sign_in(websocket)
    if signed_in is not None:
        await EventSession(websocket, signed_in.account, since).run("lines")


class EventSession(WebSocketSession):
    """One client of `/lines`, with a command session of its own.

    Args:
        since: The id of the last message it has; None or "": nothing is replayed.
    """

    __slots__ = ("_commands", "_display", "_is_safe", "_since", "_waiting")

    def __init__(self, websocket: WebSocket, account: Account, since: str | None) -> None:
        super().__init__(websocket, account)
        self._since = since
        self._is_safe = self.gateway.cluster is not None and self.gateway.settings.safe
        self._waiting: set[asyncio.Task[None]] = set()  # for a second gateway that has a message written here
        self._display = EventSocketDisplay(
            self.queue, self.ref_prefix, lambda rows, do: self.gateway.limits.answered(account.key, rows, do),
            self._safety,
        )  # fmt: skip
        self._display.me = account.user.me.label
        self._commands = Session(
            account.user,
            self._display,
            interactive=False,
            as_json=True,
            settings=ChatSettings(),
            activity=ActivityTracker(self._on_presence, idle_after=None),
        )
        self._commands.max_answer_bytes = self.gateway.settings.max_answer_bytes
        self._commands.add_commands(
            {
                "active": self._set_active,
                "find": find,
                "group": self._create_group,
                "invite": self._invite,
                "latest": self._latest,
                "list": self._list,
                "nick": self._rename,
                "unread": self._first_unread,
            },
            COMMANDS,
        )

    async def finish(self) -> None:
        await asyncio.gather(*self._waiting, return_exceptions=True)
        self._display.close()

    # ---- out

    async def start(self) -> None:
        """Send the line `listening`, then what followed `since`, or without it what waits for the account."""
        me = self.user.me
        listening = self.gateway.peer.listening.to_json()
        about = {"user": me.label, "user_id": me.id, "data": "", "invites": may_invite(self._websocket)}
        about["max_file_bytes"] = self.gateway.settings.max_file_bytes
        about.update(self.catch_up.about())
        del listening["newest_own"]  # it is the operator's
        await self._display.show_event({**listening, **about, "now": iso(datetime.now(UTC))})
        await self.send_all_missed("lines", self._since)
        await self.send_kept_receipts()

    async def report(self, problem: WebError) -> None:
        await self._display.show_event(_error_line(problem))

    def send_missed(self, post: Post) -> None:
        self.queue.put(self._own_frame(post), post, bounded=False)

    def deliver(self, envelope: Envelope) -> None:
        event, user = envelope.event, self.user
        post = None
        if isinstance(event, PEER_EVENTS):
            return
        if isinstance(event, Message | Sent):
            if not self.is_due(envelope):
                return
            post = None if envelope.users is None else event  # room messages need no cursor
        elif self.was_told(event):
            return
        is_own = isinstance(event, DurableEvent) and (event.by.key == user.key or event.conversation.kind == "dm")
        if self._is_safe and isinstance(event, Sent) and self.wrote(event):
            self._answer_when_safe(envelope.for_user(user), post)
        elif is_own:  # its refs, or its view of the conversation, differ from what others get
            line = envelope.encoded(("line", user.key), lambda: envelope.for_user(user).to_json())
            own = self._display.with_own_ref(line)
            if own.get("ref") is None:  # as on all connections of the account but the one that wrote it
                frame = envelope.encoded(("lines", user.key), lambda: as_frame(own))
            else:
                frame = as_frame(own)
            self.queue.put(frame, post)
        else:
            frame = envelope.encoded("lines", lambda: as_frame(envelope.for_user(user).to_json()))
            self.queue.put(frame, post, bounded=not isinstance(event, RECEIPTS))

    def _answer_when_safe(self, sent: Sent, post: Post | None) -> None:
        """Send the line of a message written on this connection, in its place, once it is known to be safe or not."""
        task = asyncio.create_task(self._fill(self.queue.reserve(post), sent), name="p2pchat web safe")
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _fill(self, frame: Frame, sent: Sent) -> None:
        line = self._display.with_own_ref(sent.to_json())
        self.queue.fill(frame, as_frame({**line, **await self._safety(sent.id)}))

    async def _safety(self, id: str) -> dict[str, bool]:
        """Return what the line of a message that is written says of a second gateway."""
        try:
            return await self.gateway.safety(self.account, id)
        except (P2PChatError, WebError):
            return {"safe": False}

    def _own_frame(self, event: Any) -> Frame:
        return as_frame(self._display.with_own_ref(event.to_json()))

    def error_frame(self, problem: WebError) -> Frame:
        return as_frame(_error_line(problem))

    # ---- in

    async def on_frame(self, text: str | None) -> None:
        """Carry out a command; a frame of bytes ends the session."""
        if text is None:
            raise SessionEnded
        ref = None
        try:
            command = parse_json_command(text, COMMANDS)
            ref = command.ref
            self._charge(command)
            command = replace(command, ref=None if ref is None else self.ref_prefix + ref)
            if command.do in WRITE_COMMANDS or command.do in SMALL_COMMANDS:
                await self._handle(command)
            else:
                async with self.gateway.answers.hold(self.account.key):
                    await self._handle(command)
                    await self.queue.drained()
        except BadCommand as error:
            await self._display.show_event(_error_line(WebError(400, "usage", str(error)), error.ref))
        except (WebError, ValueError) as error:
            await self._display.show_event(_error_line(self.gateway.metrics.problem(error), ref))

    def _charge(self, command: JsonCommand) -> None:
        """Count a command against the limits of the account. Raises TooMany."""
        do, fields = command.do, command.fields.values()
        if do in WRITE_COMMANDS or do in CHOICE_COMMANDS:
            texts = (field for field in fields if isinstance(field, str))
            self.gateway.limits.write(self.account.key, *texts, members=self._members(command))
        elif do in SMALL_COMMANDS:
            self.gateway.limits.small.take(self.account.key)

    def _members(self, command: JsonCommand) -> int:
        """Return how many members an operation of a group names: all that it has, and the new ones."""
        if command.do not in GROUP_COMMANDS:
            return 0
        fields = command.fields
        count = len(fields.get("users", ())) + len(fields.get("members", ()))
        with suppress(P2PChatError):  # no such group: the command itself reports it
            count += len(self.user.group(fields["to"]).members) if "to" in fields else 0
        return count

    async def _handle(self, command: JsonCommand) -> None:
        if command.do in WRITE_COMMANDS:
            with self.gateway.metrics.accepting("lines") if command.do == "send" else nullcontext():
                await asyncio.shield(self._write(command))
        else:
            fields = command.fields
            if fields.get("limit", 0) > MAX_ROWS:
                command = replace(command, fields={**fields, "limit": MAX_ROWS})
            await self._commands.execute_command(command)

    async def _set_active(self, ctx: CommandContext, on: bool) -> CommandResult:
        self.hub_session.set_active(on)
        return CommandResult([{"on": on}])

    async def _invite(self, ctx: CommandContext) -> CommandResult:
        if not may_invite(self._websocket):
            raise Forbidden("accounts get no invite here: ask whoever runs this gateway, who has `p2pchat invite`")
        return CommandResult([invite_row(self.gateway.peer)])

    async def _create_group(self, ctx: CommandContext, name: str, members: Sequence[str] = ()) -> CommandResult:
        with self.gateway.limits.new_group(self.account.key):
            return await group(ctx, name, members)

    async def _rename(self, ctx: CommandContext, name: str) -> CommandResult:
        try:
            async with self.gateway.accounts.renaming(self.account, name):  # not while the client takes the answer
                return await nick(ctx, name)
        except ValueError as error:
            raise problem_of(error) from None  # worded as at sign-up

    async def _list(self, ctx: CommandContext) -> CommandResult:
        await ctx.count_unread()  # other connections mark messages as read too
        return await list_(ctx)

    async def _latest(self, ctx: CommandContext) -> CommandResult:
        found: list[EventLine] = []
        left = self.gateway.settings.max_answer_bytes
        for talk in self.user.recent_conversations()[:MAX_RECENT]:
            for post in await self.user.history(talk, limit=1):
                found.append(post.to_json())
                left -= len(post.text.encode())
            if left < 0:  # the others, used longer ago, come with their history
                break
        return CommandResult(found)

    async def _first_unread(self, ctx: CommandContext, to: str) -> CommandResult:
        talk, max_bytes = await ctx.resolve(to), self.gateway.settings.max_answer_bytes
        unread = await self.user.unread(talk, MAX_ROWS, max_bytes=max_bytes)
        self.gateway.limits.answered(self.account.key, len(unread))
        return CommandResult([{**unread[0].to_json(), "unread": len(unread)}] if unread else [])

    async def _write(self, command: JsonCommand) -> None:
        """Write one thing at a time for an account, so that a repeated message finds the first one written."""
        async with self.gateway.write_locks[self.account.key]:
            if command.do == "send":
                command = self._with_files(command)
                self._check_receiver(command.fields.get("to", "room"))
            await self._commands.execute_command(command)

    def _with_files(self, command: JsonCommand) -> JsonCommand:
        """Return a command `send` with what the account uploaded in the place of its ids. Raises WebError."""
        fields = dict(command.fields)
        kept = self.gateway.uploads.find(self.account, fields.pop("files", ()))
        if "text" not in fields and not kept:
            raise BadCommand("'send' needs `text`", command.ref)
        return replace(command, fields={"text": "", **fields, "kept": kept})

    def _check_receiver(self, address: str) -> None:
        with suppress(P2PChatError):  # of an address that means nobody: the command itself reports it
            self.gateway.receivers.check(self.user.find(address))

    def _on_presence(self, status: str, text: str) -> None:
        """Take over a presence set by command; it counts for all connections of the account, later ones too."""
        away = status == "idle"
        if not away:
            self.hub_session.set_active(True)
        self.gateway.hub.set_away(self.account, text if away else None)


class EventSocketDisplay(Display):
    """Output of a command session, as lines of one connection."""

    def __init__(
        self, queue: SendQueue, ref_prefix: str, on_rows: Callable[[int, str], None],
        safety: Callable[[str], Awaitable[dict[str, bool]]],
    ) -> None:  # fmt: skip
        super().__init__(StdoutWriter(None), None, as_json=True, echo=True)
        self._safety = safety
        self._queue = queue
        self._ref_prefix = ref_prefix
        self._on_rows = on_rows

    async def show_event(self, event: EventLine, *, older: bool = False) -> None:
        if event["event"] == "sent":  # a repeated message was written before
            event = {**event, **await self._safety(event["id"])}
        frame = as_frame(self.with_own_ref(event))
        if event["event"] == "answer":
            self._on_rows(len(event["rows"]), event["command"])
        try:
            self._queue.put(frame)
        except QueueFull:  # answers are requested one by one, so the client can wait for this one
            await self._queue.drained()
            self._queue.put(frame)

    def with_own_ref(self, line: dict[str, Any]) -> EventLine:
        """Return a line with the `ref` the client gave, and without the ref of another connection."""
        ref = line.get("ref")
        if ref is None:
            return line
        if ref.startswith(self._ref_prefix):
            return {**line, "ref": ref.removeprefix(self._ref_prefix)}
        return {**line, "ref": ref if line["event"] in ("answer", "error") else None}


def _error_line(problem: WebError, ref: str | None = None) -> EventLine:
    """Return a problem as an event line."""
    return Failed(code=problem.code, text=problem.text, ref=ref).to_json()
