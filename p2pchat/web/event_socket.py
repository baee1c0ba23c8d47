"""`ws /lines`: event lines out and command objects in, the language of `p2pchat --json`. The page speaks it.

The first line is `listening`. Commands (hosted_commands.py) are carried out one after the other. `?since=ID` first
replays what followed that message or change, with nothing lost or repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, WebSocket

from p2pchat import DurableEvent, Failed, Link, Listening, Message, P2PChatError, Sent, Stopped
from p2pchat.commands.command_table import commands_at
from p2pchat.commands.display import Display
from p2pchat.commands.event_text import EventLine
from p2pchat.commands.json_commands import BadCommand, parse_json_command
from p2pchat.commands.standard_output import StdoutWriter, iso
from p2pchat.threads import spawn
from p2pchat.web.account_session import RECEIPTS, Frame, SendQueue, SessionEnded, WebSocketSession, as_frame
from p2pchat.web.accounts import Account
from p2pchat.web.catch_up import Post
from p2pchat.web.error_responses import WebError
from p2pchat.web.hosted_commands import HostedCommands, hold_answer
from p2pchat.web.session_hub import Envelope, QueueFull
from p2pchat.web.sign_in import may_invite, sign_in

COMMANDS = commands_at("l")
PEER_EVENTS = (Link, Listening, Stopped)  # about the peer itself; accounts do not receive them

router: APIRouter = APIRouter()


@router.websocket("/lines")
async def lines(websocket: WebSocket, since: str | None = None) -> None:
    """Serve one client; `?since=ID` first replays what followed that message."""
    signed_in = await sign_in(websocket)
    if signed_in is not None:
        await EventSocket(websocket, signed_in[0], since).run("lines")


class EventSocket(WebSocketSession):
    """One client of `/lines`, with a command session of its own.

    Args:
        since: The id of the last message or change it has; None or "": nothing is replayed.
    """

    def __init__(self, websocket: WebSocket, account: Account, since: str | None) -> None:
        super().__init__(websocket, account)
        self._since = since
        self._is_safe = self.gateway.cluster is not None and self.gateway.settings.safe
        self._waiting: set[asyncio.Task[None]] = set()  # for a second gateway that has a message written here
        self._display = EventSocketDisplay(
            self.queue, self.ref_prefix, lambda rows, do: self.gateway.limits.answered(account.key, rows, do),
            self._safety,
        )  # fmt: skip
        self._commands = HostedCommands(
            websocket, account, self._display, "l", lambda on: self.hub_session.set_active(on)
        )

    async def finish(self) -> None:
        await asyncio.gather(*self._waiting, return_exceptions=True)
        self._display.close()

    # ---- out

    async def start(self) -> None:
        """Send the line `listening`, then what followed `since`, or without it what waits for the account."""
        me, first = self.user.me, self.queue.reserve()
        listening = self.gateway.peer.listening.to_dict()
        about = {"user": me.label, "user_id": me.id, "data": "", "invites": may_invite(self._websocket)}
        about["max_file_bytes"] = self.gateway.settings.max_file_bytes
        about.update(self.catch_up.about())
        del listening["newest_own"]  # it is the operator's
        newest = await self.user.last_released()
        about["last"] = "" if newest is None else newest.entry_id
        self.queue.fill(first, as_frame({**listening, **about, "now": iso(datetime.now(UTC))}))
        await self.send_all_missed(self._since)
        await self.send_kept_receipts()

    async def report(self, problem: WebError) -> None:
        await self._display.show_event(_error_line(problem))

    def send_missed(self, post: Post) -> None:
        self.queue.put(as_frame(self._display.with_own_ref(post.to_dict())), self.proof(post), bounded=False)

    def deliver(self, envelope: Envelope) -> None:
        event, user = envelope.event, self.user
        proof = None
        if isinstance(event, PEER_EVENTS):
            return
        if isinstance(event, DurableEvent) and not self.is_due(envelope):
            return
        if isinstance(event, Message | Sent):
            proof = None if envelope.users is None else self.proof(event)
        elif self.was_told(event):
            return
        is_own = isinstance(event, DurableEvent) and (event.by.key == user.key or event.conversation.kind == "dm")
        if self._is_safe and isinstance(event, Sent) and self.wrote(event):
            # It is sent in its place once it is known to be safe or not.
            filling = self._fill(self.queue.reserve(proof), envelope.for_user(user))
            spawn(self._waiting, filling, "p2pchat web safe")
        elif is_own:  # its refs, or its view of the conversation, differ from what others get
            line = envelope.encoded(("line", user.key), lambda: envelope.for_user(user).to_dict())
            own = self._display.with_own_ref(line)
            if own.get("ref") is None:  # as on all connections of the account but the one that wrote it
                frame = envelope.encoded(("lines", user.key), lambda: as_frame(own))
            else:
                frame = as_frame(own)
            self.queue.put(frame, proof)
        else:
            frame = envelope.encoded("lines", lambda: as_frame(envelope.for_user(user).to_dict()))
            self.queue.put(frame, proof, bounded=not isinstance(event, RECEIPTS))

    async def _fill(self, frame: Frame, sent: Sent) -> None:
        line = self._display.with_own_ref(sent.to_dict())
        self.queue.fill(frame, as_frame({**line, **await self._safety(sent.id)}))

    async def _safety(self, id: str) -> dict[str, bool]:
        """Return what the line of a message that is written says of a second gateway."""
        try:
            return await self.gateway.safety(self.account, id)
        except (P2PChatError, WebError):
            return {"safe": False}

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
            self._commands.charge(command)
            command = replace(command, ref=None if ref is None else self.ref_prefix + ref)
            async with hold_answer(self.gateway, self.account, command) as is_long:
                await self._commands.run(command, "lines")
                if is_long:
                    await self.queue.drained()
        except BadCommand as error:
            await self._display.show_event(_error_line(WebError(400, "usage", str(error)), error.ref))
        except (WebError, ValueError) as error:
            await self._display.show_event(_error_line(self.gateway.metrics.problem(error), ref))


class EventSocketDisplay(Display):
    """Output of a command session, as lines of one connection."""

    def __init__(
        self, queue: SendQueue, ref_prefix: str, on_rows: Callable[[int, str], None],
        safety: Callable[[str], Awaitable[dict[str, bool]]],
    ) -> None:  # fmt: skip
        super().__init__(StdoutWriter(None))
        self._safety = safety
        self._queue = queue
        self._ref_prefix = ref_prefix
        self._on_rows = on_rows

    async def show_event(self, event: EventLine, *, older: bool = False) -> None:
        if event["event"] == "sent":  # a repeated message was written before
            event = {**event, **await self._safety(event["id"])}
        if event["event"] == "answer":
            event = {**event, "rows": [self.with_own_ref(row) for row in event["rows"]]}
            self._on_rows(len(event["rows"]), event["command"])
        frame = as_frame(self.with_own_ref(event))
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
    return Failed(code=problem.code, text=problem.text, ref=ref).to_dict()
