"""One caller of `/lines`: what happens goes out as event lines, what it says comes in as command objects.

A caller is a guest like a script on a pipe: the first line is `listening`, orders are carried out one after the other
by the Session of the terminal, with the account's user as its peer. Beside those command objects there are

    {"do":"find","to":"bob"}       an `answer` with the conversation an address means
    {"do":"active","on":false}     nobody looks at this connection now, which others see as idle

and those that concern the peer (connect, forget, allow, quit) are not there: it is nobody's alone. With `?since=ID`
what was shown behind that message comes first. Nothing is lost in between: the hub is asked before storage is, and
what both know is told once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any
from weakref import WeakKeyDictionary

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from p2pchat import Deleted, Edited, Failed, Link, Listening, Message, P2PChatError, Reaction, Sent, Stopped
from p2pchat.commands.display import Display
from p2pchat.commands.errors import CommandError, UsageError
from p2pchat.commands.json_commands import JSON_COMMANDS, BadCommand, JsonCommand, parse_json_command
from p2pchat.commands.output import EventLine, StdoutWriter
from p2pchat.commands.people_commands import invite_row, place_row
from p2pchat.commands.read_tracking import ActivityTracker
from p2pchat.commands.session import Session
from p2pchat.commands.settings import ChatSettings
from p2pchat.web.accounts import Account
from p2pchat.web.auth import sign_in
from p2pchat.web.catch_up import CatchUp
from p2pchat.web.errors import Problem, WebError, problem_of
from p2pchat.web.gateway import Gateway, gateway_of
from p2pchat.web.hub import CLOSE_CODES, Ending, Envelope, QueueFull
from p2pchat.web.send_queue import Frame, SendQueue, as_frame

NOT_HERE = frozenset({"connect", "forget", "allow", "quit"})
SHAPES_HERE: dict[str, dict[str, tuple[type, bool]]] = {
    **{do: shape for do, shape in JSON_COMMANDS.items() if do not in NOT_HERE},
    "find": {"to": (str, True)},
    "active": {"on": (bool, True)},
}
SMALL = frozenset({"typing", "read", "active", "away", "back"})
WRITING = frozenset({"send", "edit", "delete", "react", "group", "add", "kick", "leave", "rename", "owner", "nick"})
MOST_COUNTED = 200  # conversations, those first in which something was written last
NOT_TOLD = (Link, Listening, Stopped)  # of the peer itself, which is nobody's alone

_log = logging.getLogger("p2pchat.web")
_turns: WeakKeyDictionary[Gateway, dict[str, asyncio.Lock]] = WeakKeyDictionary()


class EventSession:
    """One caller of a gateway: a session of the hub, and a Session that carries out its orders."""

    def __init__(self, websocket: WebSocket, account: Account) -> None:
        self._websocket = websocket
        self._account = account
        self._gateway = gateway = gateway_of(websocket)
        self._out = SendQueue(websocket, gateway.settings)
        self._mark = f"{secrets.token_hex(4)}:"  # before the refs of this caller: another may use the same words
        self._show = EventSocketDisplay(self._out, self._mark, lambda rows: gateway.limits.answered(account.key, rows))
        self._show.me = account.user.me.label
        attention = ActivityTracker(self._tell_presence, lambda: "", idle_after=None)
        self._session = Session(
            account.user,
            self._show,
            interactive=False,
            as_json=True,
            settings=ChatSettings(),
            attention=attention,
        )
        self._session.names_are_known()
        self._away = False
        self._catching: CatchUp | None = None  # who came back is told what was missed
        self._ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    async def serve(self, since: str | None) -> None:
        """Tell what happens and do what the caller says, until it goes or the hub ends it."""
        self._seat = self._gateway.hub.open(self._account, self._hear, "lines", self._end)
        sending = asyncio.create_task(self._out.run())
        working = asyncio.create_task(self._work(since))
        waited: list[asyncio.Future[Any]] = [working, sending, self._ended]
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            why = self._ended.result() if self._ended.done() else None
            self._out.close(1000 if why is None else CLOSE_CODES[why], why or "", at_once=why == "slow")
            await sending
        finally:
            self._gateway.hub.close(self._seat)
            self._show.close()
            working.cancel()
            sending.cancel()
            await asyncio.gather(working, sending, return_exceptions=True)

    def _end(self, why: Ending) -> None:
        if not self._ended.done():
            self._ended.set_result(why)

    async def _work(self, since: str | None) -> None:
        try:
            await self._introduce()
            if since:
                await self._catch_up(since)
            while True:
                text = await self._websocket.receive_text()
                while wait := self._gateway.limits.calls.wait(self._account.key):
                    await asyncio.sleep(wait)  # what it says meanwhile waits in its own connection
                await self._take(text)
        except (WebSocketDisconnect, KeyError):  # KeyError: a frame of bytes
            pass
        except QueueFull:
            self._end("slow")
        except Exception:  # a defect ends this connection, and nobody else's
            _log.exception("a caller of /lines met an error that is not its own")

    async def _introduce(self) -> None:
        me = self._account.user.me
        peer = self._gateway.peer.listening.to_json()
        await self._show.event({**peer, "user": me.label, "user_id": me.id, "data": ""})

    # ---- what happens

    def _hear(self, told: Envelope) -> None:
        event = told.event
        if isinstance(event, NOT_TOLD):
            return
        if isinstance(event, Message | Sent):
            post = told.for_user(self._account.user)
            if self._catching is not None and not self._catching.takes(post):
                return
            if isinstance(post, Sent) or post.conversation.kind == "dm":
                self._out.put(self._frame(post))
                return
        elif isinstance(event, Edited | Deleted | Reaction):
            if event.by.key == self._account.key or event.conversation.kind == "dm":
                self._out.put(self._frame(told.for_user(self._account.user)))
                return
        user = self._account.user  # whoever did not write it reads the same
        self._out.put(told.encoded("lines", lambda: as_frame(told.for_user(user).to_json())))

    def _frame(self, event: Any) -> Frame:
        return as_frame(self._show.own(event.to_json()))

    def _give(self, post: Message | Sent) -> None:
        self._out.put(self._frame(post), bounded=False)

    async def _catch_up(self, since: str) -> None:
        """Tell what was shown behind a message, and what happens meanwhile."""
        user = self._account.user
        self._catching = CatchUp(user, self._give, self._out.drained)
        try:
            await self._catching.since(await user.message(since))
        except (P2PChatError, ValueError) as error:
            self._catching = None
            await self._show.event(error_line(Problem(404, "since", str(error))))

    # ---- what the caller says

    async def _take(self, text: str) -> None:
        ref = None
        try:
            order = parse_json_command(text, SHAPES_HERE)
            ref = order.ref
            self._take_from(order.do)
            await self._do(JsonCommand(order.do, order.fields, None if ref is None else self._mark + ref))
        except BadCommand as error:
            await self._show.event(error_line(Problem(400, "usage", str(error)), error.ref))
        except WebError as error:
            await self._show.event(error_line(self._gateway.metrics.problem(error), ref))

    def _take_from(self, do: str) -> None:
        limits, key = self._gateway.limits, self._account.key
        if do in WRITING:
            limits.messages.take(key)
        elif do in SMALL:
            limits.small.take(key)

    async def _do(self, order: JsonCommand) -> None:
        if order.do == "active":
            if not self._away:
                self._seat.set_active(order.fields["on"])
            await self._show.answer("active", [{"on": order.fields["on"]}], [], order.ref)
        elif order.do == "find":
            await self._find(order)
        elif order.do == "invite":
            await self._show.answer("invite", [invite_row(self._gateway.peer)], [], order.ref)
        elif order.do == "list":
            await self._count_unread()
            await self._session.obey(order)
        elif order.do in WRITING:  # to its end, also when the caller goes: another connection may ask for it again
            with self._gateway.metrics.accepting("lines") if order.do == "send" else nullcontext():
                await asyncio.shield(self._write(order))
        else:
            await self._session.obey(order)

    async def _find(self, order: JsonCommand) -> None:
        try:
            row = place_row(await self._session.resolve(order.fields["to"]))
            await self._show.answer("find", [row], [], order.ref)
        except (P2PChatError, UsageError, CommandError, ValueError) as error:
            await self._session.fail(error, order.ref)

    async def _count_unread(self) -> None:
        """Count what is unread by what was ever marked as read: also elsewhere, and before this connection."""
        user, unread = self._account.user, self._session.unread
        for there in user.recent_conversations()[:MOST_COUNTED]:
            unread.recount(there.id, [post.to_json() for post in await user.unread(there)])

    async def _write(self, order: JsonCommand) -> None:
        """One account writes one thing at a time, so that what is sent again finds what was sent before."""
        turns = _turns.setdefault(self._gateway, {})
        async with turns.setdefault(self._account.key, asyncio.Lock()):
            await self._session.obey(order)

    def _tell_presence(self, status: str, text: str) -> None:
        self._away = status == "idle"
        self._seat.set_active(not self._away)
        self._gateway.hub.say(self._account, status, text)  # it counts, whatever other windows there are


# ---- show
#
# What a Session says, and what it cannot do, as lines of one connection of `/lines`.


def error_line(problem: Problem, ref: str | None = None) -> EventLine:
    """Return a problem as an event line."""
    return Failed(code=problem.code, text=problem.text, ref=ref).to_json()


class EventSocketDisplay(Display):
    """What a Session says, as lines of one connection."""

    def __init__(self, out: SendQueue, mark: str, answered: Callable[[int], None]) -> None:
        super().__init__(StdoutWriter(None), None, as_json=True, echo=True)
        self._out = out
        self._mark = mark
        self._answered = answered

    async def event(self, event: EventLine, *, older: bool = False) -> None:
        frame = as_frame(self.own(event))
        if event["event"] == "answer":
            self._answered(len(event["rows"]))
        try:
            self._out.put(frame)
        except QueueFull:  # of answers nobody has to get more than one reads
            await self._out.drained()
            self._out.put(frame)

    def own(self, line: dict[str, Any]) -> EventLine:
        """Return a line with the `ref` of this caller as it was given; another connection's is nothing to this one."""
        ref = line.get("ref")
        if ref is None:
            return line
        return {**line, "ref": ref.removeprefix(self._mark) if ref.startswith(self._mark) else _foreign(line, ref)}


def _foreign(line: EventLine, ref: str) -> str | None:
    return ref if line["event"] in ("answer", "error") else None


# ---- lines
#
# `ws /lines`: event lines out and command objects in, the same words as `p2pchat --json`; what the page speaks.
#
# To be touched when the page needs another line. A command that terminals have too belongs to p2pchat/commands first.


router = APIRouter()


@router.websocket("/lines")
async def lines(websocket: WebSocket, since: str | None = None) -> None:
    """Serve one caller until it goes; `?since=ID` tells first what was shown behind that message."""
    signed_in = await sign_in(websocket)
    if signed_in is None:
        return
    connection = EventSession(websocket, signed_in.account)
    try:
        await connection.serve(since)
    except WebError as error:  # no room for it
        problem = problem_of(error)
        with suppress(RuntimeError, WebSocketDisconnect):
            await websocket.send(as_frame(error_line(problem)))
            await websocket.close(CLOSE_CODES["slow"], problem.code)
