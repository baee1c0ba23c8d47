"""Outgoing messages of a session. Messages that arrive together are sent together: many lines of a pipe are one call
and one commit. The outbox keeps the receipts until the session ends, to wait for delivery then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime

from p2pchat import Conversation, P2PChatError, Receipt, Receipts, Sent, User
from p2pchat.commands.context import CommandContext
from p2pchat.commands.errors import UsageError
from p2pchat.commands.notifications import is_delivered, last_receipt

LOOKED_BACK = 200  # messages searched for one that may have been sent before: programs retry soon
_MAX_RECEIPTS = 1000  # above, receipts of delivered messages are dropped

ErrorHandler = Callable[[BaseException, str | None], Awaitable[None]]  # an error, and the `ref` of what failed


@dataclass(slots=True)
class OutgoingMessage:
    """A message that was not sent yet."""

    to: Conversation
    text: str = field(repr=False)
    action: bool = False
    reply_to: str | None = None
    ref: str | None = None
    claimed_at: datetime | None = None


async def msg(ctx: CommandContext, to: str, text: str) -> OutgoingMessage:
    """/msg: a message to one user, or to any address."""
    return OutgoingMessage(await ctx.resolve(to), text)


async def me(ctx: CommandContext, text: str) -> OutgoingMessage:
    """/me: an action in the current conversation."""
    return OutgoingMessage(ctx.current, text, action=True)


async def send(
    ctx: CommandContext, text: str, to: str = "room", action: bool = False, reply_to: str | None = None,
    claimed_at: str | None = None, ref: str | None = None,
) -> OutgoingMessage:  # fmt: skip
    """JSON command `send`."""
    claimed = None if claimed_at is None else _parse_time(claimed_at)
    return OutgoingMessage(await ctx.resolve(to), text, action, reply_to, ref, claimed)


def _parse_time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = datetime.min
    if moment.tzinfo is None:
        raise UsageError("`claimed_at` must be a time with a zone, such as 2026-11-20T11:42:31.689337Z")
    return moment


async def sent_before(ctx: CommandContext, message: OutgoingMessage) -> Sent | None:
    """Return the message with the same `claimed_at`, if it was sent before.

    A program that does not know whether a message was accepted, because its connection broke or it was killed, sends
    the message again with the same `claimed_at`.
    """
    if message.claimed_at is None:
        raise UsageError("`again` needs `claimed_at`, to recognize the message by")
    for post in reversed(await ctx.peer.history(message.to, limit=LOOKED_BACK)):
        if isinstance(post, Sent) and post.claimed_at == message.claimed_at:
            return post
    return None


class Outbox:
    """Messages that wait to be sent, and receipts of those that were.

    Args:
        on_error: Called for each message that could not be sent.
    """

    def __init__(self, ctx: CommandContext, on_error: ErrorHandler) -> None:
        self._ctx = ctx
        self._on_error = on_error
        self._messages: list[OutgoingMessage] = []
        self._receipts: list[tuple[Conversation, Receipt | Receipts]] = []

    def add(self, message: OutgoingMessage) -> None:
        self._messages.append(message)

    async def flush(self) -> None:
        """Send what waits; return when it is accepted."""
        messages, self._messages = self._messages, []
        if len(messages) > 1 and all(one == OutgoingMessage(messages[0].to, one.text) for one in messages):
            if await self._send_together(messages[0].to, [one.text for one in messages]):
                return
        # Started in order, so accepted in order; awaited together.
        sends = [asyncio.ensure_future(self._send(one)) for one in messages]
        for message, result in zip(messages, await asyncio.gather(*sends, return_exceptions=True), strict=True):
            if isinstance(result, BaseException):
                await self._on_error(result, message.ref)
            else:
                self.add_receipt(message.to, result)

    async def _send(self, one: OutgoingMessage) -> Receipt:
        return await self._ctx.peer.send(
            one.to, one.text, one.reply_to, action=one.action, ref=one.ref, claimed_at=one.claimed_at
        )

    async def _send_together(self, to: Conversation, texts: list[str]) -> bool:
        """Send all texts in one call; False if one is invalid, so that each has to be sent alone."""
        try:
            self.add_receipt(to, await self._ctx.peer.send_many(to, texts))
        except ValueError:  # raised before any text was accepted
            return False
        except P2PChatError as error:
            await self._on_error(error, None)
        return True

    def add_receipt(self, to: Conversation, receipt: Receipt | Receipts) -> None:
        """Keep the receipt of something accepted, to wait for it at the end."""
        self._ctx.display.on_accepted(to, receipt)
        self._receipts.append((to, receipt))
        if len(self._receipts) >= _MAX_RECEIPTS:
            self._receipts = [kept for kept in self._receipts if not is_delivered(kept[1])]

    def discard(self, ids: Collection[str]) -> None:
        """Stop waiting for these messages: nobody will receive them."""
        self._receipts = [kept for kept in self._receipts if last_receipt(kept[1]).id not in ids]

    async def drain(self, seconds: float, *, read: bool = False) -> list[str]:
        """Wait up to `seconds` until everything is delivered, or `read`; return the labels of users who lack something.

        [""] means that nobody was there.
        """
        missing: set[str] = set()
        deadline = asyncio.get_running_loop().time() + seconds
        for to, receipt in self._receipts:
            try:
                await _wait_delivered(to, receipt, deadline, read=read)
            except TimeoutError as error:
                missing |= set(getattr(error, "missing", ())) or {""}
            except P2PChatError:
                missing.add("")
        return sorted(missing)

    def has_undelivered(self) -> bool:
        """Return whether a message lacks a recipient; of a group only members who are online count."""
        return not all(_is_delivered_here(to, receipt) for to, receipt in self._receipts)


async def _wait_delivered(to: Conversation, receipt: Receipt | Receipts, deadline: float, *, read: bool) -> None:
    """Wait until a message is delivered, or `read`; in a group, by all members online, and by at least one.

    Raises:
        DeliveryTimeout: Not before `deadline`, on the loop's clock.
    """

    def left() -> float:
        return max(0.0, deadline - asyncio.get_running_loop().time())

    if to.kind != "group":
        await (receipt.read if read else receipt.delivered)(timeout=left())
        return
    last = last_receipt(receipt)
    wait = last.read if read else last.delivered
    online = _online_recipients(last)
    for user in online:
        await wait(by=user, timeout=left())
    if not online:
        await wait(count=1, timeout=left())


def _is_delivered_here(to: Conversation, receipt: Receipt | Receipts) -> bool:
    if is_delivered(receipt) or to.kind != "group":
        return is_delivered(receipt)
    has = last_receipt(receipt).delivered_to
    return bool(has) and set(_online_recipients(last_receipt(receipt))) <= set(has)


def _online_recipients(receipt: Receipt) -> list[User]:
    return [user for user in receipt.of if user.status in ("online", "idle")]
