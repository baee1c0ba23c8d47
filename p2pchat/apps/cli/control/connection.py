"""One connection of the control socket: command objects come in, event lines go out, as on a chat's --json.

Its orders are carried out one after the other, by a Session of its own, so that where its texts go is nobody else's
business; a tail goes on beside them. A client that does not read costs a bounded buffer: nothing more is made for it
until it reads. The end of what it says ends the connection, once what was asked for before is answered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from p2pchat import Conversation, Message, P2PChatError, Sent, Stopped, TCPPeer
from p2pchat.apps.cli.control.accounts import ACCOUNT_ORDERS
from p2pchat.apps.cli.control.lines import LineBuffer
from p2pchat.apps.cli.control.orders import USUAL_LAST, USUAL_TIMEOUT, parse_own_order
from p2pchat.commands.display import Show
from p2pchat.commands.errors import Usage
from p2pchat.commands.json_commands import MAX_LINE_BYTES, Order
from p2pchat.commands.output import Line, Output
from p2pchat.commands.read_tracking import Attention
from p2pchat.commands.session import Session

if TYPE_CHECKING:
    from p2pchat.web.accounts import Accounts

READ_BYTES = 64 * 1024
WAITING_READS = 4  # reads not carried out yet: a fast client waits
PATIENCE = 60.0  # seconds to finish in what was asked by a client that says no more, and may be gone
END_WITHIN = 1.0  # seconds in which a client may take the last lines of a peer that stops

_log = logging.getLogger("p2pchat.control")


class ConnectionOutput(Output):
    """Lines onto a connection; `write` returns when the client has taken all but a buffer's worth."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        super().__init__(None)
        self._writer = writer

    async def write(self, text: str) -> None:
        if self.closed.is_set():
            return
        async with self._turn:
            try:
                self._writer.write((text + "\n").encode("utf-8", "backslashreplace"))
                await self._writer.drain()
            except OSError:
                self.closed.set()


class Connection:
    """One client of a running peer.

    Args:
        fresh: The peer has only just started: names it does not know are waited for a moment.
        attention: Whether somebody looks at the chat it comes in beside; None where there is none.
        accounts: Of the gateway that runs here; None where none does.
    Attributes:
        follows: It has a tail, which ends with the peer.
    """

    def __init__(
        self, peer: TCPPeer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, fresh: bool,
        attention: Attention | None = None, accounts: Accounts | None = None,
    ) -> None:  # fmt: skip
        self._peer = peer
        self._accounts = accounts
        self._reader = reader
        self._writer = writer
        self._output = ConnectionOutput(writer)
        self._show = Show(self._output, None, as_json=True, echo=True)
        self._show.me = peer.me.label
        self._session = Session(peer, self._show, interactive=False, as_json=True, attention=attention)
        if not fresh:
            self._session.names_are_known()
        self._batches: asyncio.Queue[list[bytes | None]] = asyncio.Queue(WAITING_READS)
        self._tail: asyncio.Task[None] | None = None
        self.follows = False

    async def serve(self) -> None:
        """Carry out what the client asks for, until it says no more or goes away."""
        reading: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(None) as limit:
                reading = asyncio.create_task(self._read(limit))
                await self._show.event(self._peer.listening.to_json())
                while batch := await self._batches.get():
                    if not await self._take(batch):
                        break
        except TimeoutError:  # it said no more long ago
            self._writer.transport.abort()
        except Exception:  # a defect ends this command, not the chat it came in beside
            _log.exception("a command ended with an error that is not its own")
        finally:
            if reading is not None:
                reading.cancel()
            await self._close()

    async def _read(self, limit: asyncio.Timeout) -> None:
        """Read batches of lines into the queue; an empty one is the end."""
        lines = LineBuffer(MAX_LINE_BYTES)
        try:
            while chunk := await self._reader.read(READ_BYTES):
                if batch := lines.feed(chunk):
                    await self._batches.put(batch)
        except OSError:
            pass
        if batch := lines.end():
            await self._batches.put(batch)
        limit.reschedule(asyncio.get_running_loop().time() + PATIENCE)
        await self._batches.put([])

    async def _close(self) -> None:
        if self._tail is not None:
            self._tail.cancel()
            await asyncio.gather(self._tail, return_exceptions=True)
        self._output.closed.set()
        self._show.close()
        self._writer.close()

    async def end(self, reason: str) -> None:
        """The peer has stopped: tell the client what is left to tell, and that."""
        try:
            async with asyncio.timeout(END_WITHIN):
                if self._tail is not None:
                    await asyncio.wait([self._tail])
                await self._show.event(Stopped(reason=reason).to_json())
        except TimeoutError:  # it does not read
            self._writer.transport.abort()
        self._writer.close()

    # Orders

    async def _take(self, lines: Sequence[bytes | None]) -> bool:
        """Carry out some lines in their order; False when one of them said to leave."""
        for_session: list[bytes | None] = []
        for line in lines:
            if line is not None and not line.strip():
                continue
            try:
                order = None if line is None else parse_own_order(line)
            except Usage as error:
                if not await self._session.take(for_session):
                    return False
                for_session.clear()
                await self._session.fail(error, getattr(error, "ref", None))
                continue
            if order is None:
                for_session.append(line and line.strip())
                continue
            if not await self._session.take(for_session):
                return False
            for_session.clear()
            await self._do(order)
        return await self._session.take(for_session)

    async def _do(self, order: Order) -> None:
        try:
            if order.do == "find":
                await self._find(order.fields["to"], order.ref)
            elif order.do == "wait":
                seconds, what = float(order.fields.get("timeout", USUAL_TIMEOUT)), order.fields.get("what", "delivered")
                await self._wait(seconds, what == "read", order.ref)
            elif order.do == "tail":
                await self._follow(order)
            elif order.do == "export":
                await self._export(order.fields["path"], order.fields.get("to"), order.ref)
            elif order.do in ACCOUNT_ORDERS:
                await self._look_after(order)
            else:
                await self._answer("import", asdict(await self._peer.import_from(order.fields["path"])), order.ref)
        except (P2PChatError, Usage, ValueError) as error:
            await self._session.fail(error, order.ref)

    async def _answer(self, do: str, row: Line, ref: str | None) -> None:
        await self._show.answer(do, [row], [], ref)

    async def _find(self, address: str, ref: str | None) -> None:
        found = await self._session.resolve(address)
        row = {"conversation": found.name, "conversation_id": found.id, "kind": found.kind}
        await self._answer("find", row, ref)

    async def _wait(self, seconds: float, read: bool, ref: str | None) -> None:
        missing = await self._session.drain(seconds, read=read)
        delivered = not self._session.undelivered() and (read or not missing)
        status = "read" if read and delivered and not missing else "delivered" if delivered else "accepted"
        row = {"status": status, "missing": [label for label in missing if label]}
        await self._answer("wait", row, ref)

    async def _export(self, path: str, address: str | None, ref: str | None) -> None:
        to = None if address is None else await self._session.resolve(address)
        await self._answer("export", asdict(await self._peer.export(path, to)), ref)

    async def _look_after(self, order: Order) -> None:
        if self._accounts is None:  # a chat runs here now, and a gateway does at other times
            from p2pchat.web.accounts import open_accounts

            self._accounts = await open_accounts(self._peer)
        rows = await ACCOUNT_ORDERS[order.do](self._accounts, order.fields.get("name", ""))
        await self._show.answer(order.do, rows, [], order.ref)

    # Following

    async def _follow(self, order: Order) -> None:
        if self.follows:
            raise Usage("this connection has a tail already: open another one")
        to = await self._session.resolve(order.fields["to"]) if "to" in order.fields else None
        self.follows = True
        self._tail = asyncio.create_task(self._run_tail(to, order))
        self._tail.add_done_callback(_raise_bug)

    async def _run_tail(self, to: Conversation | None, order: Order) -> None:
        last, ignored, ref = order.fields.get("last", USUAL_LAST), order.fields.get("ignored", True), order.ref
        try:
            # The events first: what comes meanwhile is not missed.
            async with self._peer.events(consumer=None, ignored=ignored) as events:
                posts = await self._newest(to, last, ignored)
                shown = {post.id for post in posts}
                for post in posts:
                    await self._show.event(post.to_json())
                await self._answer("tail", {"last": len(posts)}, ref)
                async for event in events:
                    if isinstance(event, Stopped) or (isinstance(event, (Message, Sent)) and event.id in shown):
                        continue
                    line = event.to_json()
                    if self._session.is_unwanted(line):
                        continue
                    if to is None or line.get("conversation_id") == to.id:
                        await self._show.event(line)
        except P2PChatError as error:
            await self._session.fail(error, ref)

    async def _newest(self, to: Conversation | None, most: int, ignored: bool) -> list[Message | Sent]:
        """Return the newest messages, oldest first; with `ignored` also of those who are."""
        found: list[Message | Sent] = []
        before: Message | Sent | None = None
        while len(found) < most:
            asked = most - len(found)
            page = await self._peer.history(to, before=before, limit=asked)
            found = [*(post for post in page if ignored or not post.sender.ignored), *found]
            if len(page) < asked:
                break
            before = page[0]
        return found


def _raise_bug(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("a tail ended with an error that is not its own", exc_info=error)
