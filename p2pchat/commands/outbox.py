"""Texts on their way out. What came together goes out together: many lines of a pipe are one call and one commit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime

from p2pchat import Conversation, P2PChatError, Receipt, Receipts, Sent, User
from p2pchat.commands.context import CommandContext
from p2pchat.commands.errors import UsageError
from p2pchat.commands.notifications import is_delivered, last_receipt

LOOKED_BACK = 200  # messages in which one is looked for that may have been sent before; who repeats does so soon
_MOST_KEPT = 1000  # receipts of calls; then those that are done are let go

ErrorHandler = Callable[
    [BaseException, str | None], Awaitable[None]
]  # an error, and the asker's own word for what it is about


@dataclass(slots=True)
class OutgoingMessage:
    """A text on its way out."""

    to: Conversation
    text: str = field(repr=False)
    action: bool = False
    reply_to: str | None = None
    ref: str | None = None
    claimed_at: datetime | None = None


async def message(here: CommandContext, to: str, text: str) -> OutgoingMessage:
    """A text for one user, or wherever an address leads."""
    return OutgoingMessage(await here.resolve(to), text)


async def action(here: CommandContext, text: str) -> OutgoingMessage:
    """What somebody does."""
    return OutgoingMessage(here.current, text, action=True)


async def send(
    here: CommandContext, text: str, to: str = "room", action: bool = False, reply_to: str | None = None,
    claimed_at: str | None = None, ref: str | None = None,
) -> OutgoingMessage:  # fmt: skip
    """A text as programs send it."""
    claimed = None if claimed_at is None else _parse_time(claimed_at)
    return OutgoingMessage(await here.resolve(to), text, action, reply_to, ref, claimed)


def _parse_time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = datetime.min
    if moment.tzinfo is None:
        raise UsageError("`claimed_at` is a time such as 2026-11-20T11:42:31.689337Z")
    return moment


async def sent_before(here: CommandContext, text: OutgoingMessage) -> Sent | None:
    """Return the message that is this text already, known by when it is claimed to be written; None when there is none.

    Who does not know whether a text was taken, for the connection broke or a process was killed, sends it again with
    the same claim.
    """
    if text.claimed_at is None:
        raise UsageError("what may have been sent before has `claimed_at`, to be known by")
    for post in reversed(await here.peer.history(text.to, limit=LOOKED_BACK)):
        if isinstance(post, Sent) and post.claimed_at == text.claimed_at:
            return post
    return None


class Outbox:
    """Texts that wait for their turn, and what became of those that went.

    Args:
        fail: Told of each that could not be sent.
    """

    def __init__(self, here: CommandContext, fail: ErrorHandler) -> None:
        self._here = here
        self._fail = fail
        self._texts: list[OutgoingMessage] = []
        self._receipts: list[tuple[Conversation, Receipt | Receipts]] = []

    def add(self, text: OutgoingMessage) -> None:
        self._texts.append(text)

    async def flush(self) -> None:
        """Send what waits; returns when it is accepted."""
        texts, self._texts = self._texts, []
        if len(texts) > 1 and all(text == OutgoingMessage(texts[0].to, text.text) for text in texts):
            if await self._send_together(texts[0].to, [text.text for text in texts]):
                return
        # Started in their order, so accepted in their order; waited for together.
        sends = [asyncio.ensure_future(self._send(text)) for text in texts]
        for text, result in zip(texts, await asyncio.gather(*sends, return_exceptions=True), strict=True):
            if isinstance(result, BaseException):
                await self._fail(result, text.ref)
            else:
                self.keep(text.to, result)

    async def _send(self, text: OutgoingMessage) -> Receipt:
        return await self._here.peer.send(
            text.to, text.text, text.reply_to, action=text.action, ref=text.ref, claimed_at=text.claimed_at
        )

    async def _send_together(self, to: Conversation, texts: list[str]) -> bool:
        """Send all in one call; False when one of them is refused, so that each has to be tried for itself."""
        try:
            self.keep(to, await self._here.peer.send_many(to, texts))
        except ValueError:  # found before any of them was taken
            return False
        except P2PChatError as error:
            await self._fail(error, None)
        return True

    def keep(self, to: Conversation, receipt: Receipt | Receipts) -> None:
        """Something was accepted: at the end it is waited for."""
        self._here.show.kept(to, receipt)
        self._receipts.append((to, receipt))
        if len(self._receipts) >= _MOST_KEPT:
            self._receipts = [kept for kept in self._receipts if not is_delivered(kept[1])]

    def lose(self, ids: Collection[str]) -> None:
        """Nobody gets these: they are not waited for."""
        self._receipts = [kept for kept in self._receipts if last_receipt(kept[1]).id not in ids]

    async def drain(self, seconds: float, *, read: bool = False) -> list[str]:
        """Wait until everything sent is delivered, or `read`, at most so long; return the labels of those who lack
        something.

        [""] stands for "nobody was there".
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

    def undelivered(self) -> bool:
        """Whether something sent here is not delivered to all it is for; of a group to all who are here."""
        return not all(_is_delivered_here(to, receipt) for to, receipt in self._receipts)


async def _wait_delivered(to: Conversation, receipt: Receipt | Receipts, deadline: float, *, read: bool) -> None:
    """Wait until something is delivered, or `read`; of a group's by those who are here, and by one at least.

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
    for user in (here := _reachable_recipients(last)):
        await wait(by=user, timeout=left())
    if not here:
        await wait(count=1, timeout=left())


def _is_delivered_here(to: Conversation, receipt: Receipt | Receipts) -> bool:
    if is_delivered(receipt) or to.kind != "group":
        return is_delivered(receipt)
    has = last_receipt(receipt).delivered_to
    return bool(has) and set(_reachable_recipients(last_receipt(receipt))) <= set(has)


def _reachable_recipients(receipt: Receipt) -> list[User]:
    """Return who of those it is for is here."""
    return [user for user in receipt.of if user.status in ("online", "idle")]
