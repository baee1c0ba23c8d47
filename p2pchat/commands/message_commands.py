"""Commands about messages: /msg, /me, /reply, /edit, /delete, /react, /history, /search, /receipts.

Typed commands act on the current conversation, or with /search -a on all; JSON commands query all conversations unless
they say `to`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from p2pchat import Conversation, DurableEvent, HostedUser, KeptFile, Message, MessageChange, Receipt, Sent, TCPPeer
from p2pchat.commands.command_arguments import numbered
from p2pchat.commands.command_context import CommandContext
from p2pchat.commands.command_table import ALL
from p2pchat.commands.display import CommandResult
from p2pchat.commands.event_text import (
    DeletedLines,
    EventLine,
    cause_text,
    excerpt,
    file_label,
    find_obstacle,
    format_receipt,
    format_time,
    found_line,
    local_now,
    said,
    user_fields,
    users_fields,
    with_gap,
)
from p2pchat.commands.exit_codes import CommandError, UsageError, print_notice
from p2pchat.commands.standard_output import iso
from p2pchat.kinds.call import Call
from p2pchat.kinds.deletion import DELETION
from p2pchat.kinds.kind import Kind
from p2pchat.kinds.polls import END, GIVE
from p2pchat.safe_text import quote_place, safe_line

Shown = Message | Sent | MessageChange
Position = DurableEvent | datetime | None
HISTORY_LINES = 20  # fits into 24 rows with the prompt
SEARCH_LINES = 50  # a guess: a few screens
RECEIPTS = 5  # messages; each may name many people
PROGRESS_EVERY = 2.0  # seconds between progress lines of the search index
MAX_MESSAGES = 10_000  # in one answer, which is built in memory
READ_AT_ONCE = 50  # messages, so that a bounded answer never holds much more than its bound; the longest take 1.6 MiB


# ---- new messages


class SendStopped(CommandError):
    """A message was not sent, because its user stopped it while its files were copied."""

    def __init__(self) -> None:
        super().__init__("stopped: nothing was sent")


@dataclass
class OutgoingMessage:
    """A message that was not sent yet."""

    to: Conversation
    text: str = field(repr=False)
    action: bool = False
    reply_to: str | None = None
    ref: str | None = None
    claimed_at: datetime | None = None
    files: tuple[str, ...] = field(default=(), repr=False)  # paths
    kept: tuple[KeptFile, ...] = ()  # what the user of a gateway uploaded, in their place
    choices: tuple[str, ...] = ()
    hops: int = 0
    key: str = ""
    _is_stopped: bool = False
    _is_final: bool = False

    async def write(self, peer: TCPPeer | HostedUser, files: Sequence[str | KeptFile]) -> Receipt:
        """Send it with these files; return its receipt. Raises as TCPPeer.send."""
        return await peer.send(
            self.to, self.text, self.reply_to, action=self.action, ref=self.ref, claimed_at=self.claimed_at,
            files=files, choices=self.choices, hops=self.hops, key=self.key,
        )  # fmt: skip

    @property
    def excerpt(self) -> str:
        """The beginning of the text, or of the names of the files, in quotes."""
        names = [*(os.path.basename(path) for path in self.files), *(file.name for file in self.kept)]
        return excerpt(self.text or ", ".join(map(file_label, names)))

    def stop(self) -> bool:
        """Send it no more; return False if it is too late for that, or was done before."""
        stops = not (self._is_final or self._is_stopped)
        self._is_stopped = self._is_stopped or stops
        return stops

    def go_on(self, *, final: bool = False) -> None:
        """Raise SendStopped if it was stopped. With `final` it cannot be stopped any more."""
        if self._is_stopped:
            raise SendStopped
        self._is_final = final


async def msg(ctx: CommandContext, to: Conversation, text: str | None = None) -> OutgoingMessage:
    """Send a message to one user, or to any address."""
    if text is None:  # at a prompt the line means /go
        raise UsageError("usage: /msg NAME TEXT, for example /msg bob see you at ten")
    return OutgoingMessage(to, text)


async def me(ctx: CommandContext, text: str) -> OutgoingMessage:
    """Send an action in the current conversation."""
    return OutgoingMessage(ctx.current, text, action=True)


async def send(
    ctx: CommandContext, to: Conversation, text: str | None = None, files: Sequence[str] = (), action: bool = False,
    reply_to: str | None = None, claimed_at: datetime | None = None, key: str = "", choices: Sequence[str] = (),
    hops: int = 0,
) -> OutgoingMessage:  # fmt: skip
    """Send a message, unless one with its key was sent before: that is shown again."""
    if text is None and not files:
        raise UsageError("'send' needs `text`")
    message = OutgoingMessage(
        to, text or "", action, reply_to, ctx.ref, claimed_at, choices=tuple(choices), hops=hops, key=key
    )
    if ctx.uploads is None:
        message.files = tuple(files)
    else:
        message.kept = ctx.uploads(files)
    return message


# ---- reply, edit, delete, react


async def reply(ctx: CommandContext, reply_to: Message | Sent, text: str) -> OutgoingMessage:
    """Reply where the message came, also if that is elsewhere."""
    _tell_where(ctx, reply_to.conversation, text)
    return OutgoingMessage(reply_to.conversation, text, reply_to=reply_to.id)


def _tell_where(ctx: CommandContext, to: Conversation, text: str) -> None:
    """Tell a person what goes elsewhere than what is typed does."""
    if ctx.for_people and not ctx.is_current(to):
        print_notice(f"-- ↳ to {quote_place(to)}{', private' if to.kind == 'dm' else ''}: {safe_line(text)}")


async def change(call: Call, ctx: CommandContext, message: Message | Sent, **fields: Any) -> CommandResult:
    """Write what a call says about a message, unless it is so. People see the event that follows."""
    receipt = await getattr(ctx.peer, call.method or call.name)(message, **fields, ref=ctx.ref)
    row = {"id": message.id, "entry_id": receipt.id}
    if receipt.id == message.id:
        return CommandResult([row], ["-- nothing changed: it is so already"])
    what = f"{call.of} {excerpt(said(message.to_dict()))}"
    ctx.on_accepted(message.conversation, receipt, [what])
    _tell_where(ctx, message.conversation, str(next(iter(fields.values()), "")) or what)
    return CommandResult([row])


async def delete(ctx: CommandContext, message: Message | Sent) -> CommandResult:
    """Delete an own message. Who types it is asked first, and told what was deleted."""
    if ctx.line is not None and message.sender.is_me and not message.deleted:
        at, text = format_time(iso(message.sent_at), local_now()), said(message.to_dict())
        if not await ctx.confirm(f"delete {excerpt(text)} ({at})?", message.id):
            return CommandResult(lines=["-- nothing was deleted"])
        ctx.deleted_texts[message.id] = text
    return await change(DELETION.calls[0], ctx, message)


async def poll(
    ctx: CommandContext, to: Conversation, question: str, options: Sequence[str], key: str = ""
) -> CommandResult:
    """Ask a question with options to vote for."""
    receipt = await ctx.peer.poll(to, question, options, ref=ctx.ref, key=key)
    ctx.on_accepted(to, receipt, [f"your poll {excerpt(question)}"])
    return CommandResult([{"id": receipt.id}])


async def typed_poll(ctx: CommandContext, question: str, *options: str) -> CommandResult:
    """Ask in the current conversation, or close the own newest poll there."""
    if question == "close" and not options:
        return await change(END, ctx, await _newest_poll(ctx, mine=True))
    return await poll(ctx, ctx.current, question, options)


async def typed_vote(ctx: CommandContext, words: str) -> CommandResult:
    """Vote in the poll of a line, or without a number in the one shown last here."""
    *line, option = words.split()
    if len(line) > 1:
        raise UsageError(f"usage: /vote {GIVE.typed}, for example {GIVE.example}")
    poll = await numbered(ctx, *line) if line else await _newest_poll(ctx)
    if not line and (poll.deleted or poll.closed_at):
        raise UsageError("the poll shown last has ended: /vote LINE OPTION votes in another, by its line of /history")
    return await change(GIVE, ctx, poll, option=option)


async def _newest_poll(ctx: CommandContext, *, mine: bool = False) -> Message | Sent:
    """Return the newest poll of the current conversation that was shown; with `mine` the newest open own one."""
    shown = await ctx.last_shown("poll")
    is_later = shown is not None and shown.conversation == ctx.current
    async for page in ctx.recent_pages(ctx.current, None):
        for post in reversed(page):
            is_later = is_later and post != shown
            is_meant = post.sender.is_me or not (mine or is_later)
            is_gone = (post.deleted and post != shown) or (post.closed_at and mine)
            if post.poll and is_meant and not is_gone:
                return post
    raise UsageError(f"there is no {'open poll of yours' if mine else 'poll'} here")


# ---- history, search, receipts


async def history(
    ctx: CommandContext, to: Conversation | None = None, limit: int = HISTORY_LINES,
    before: Message | Sent | None = None, after: DurableEvent | None = None, ignored: bool = True,
    changes: bool = False,
) -> CommandResult:  # fmt: skip
    limit, ignored, most = parse_limit(limit), ignored and not ctx.for_people, ctx.max_answer_bytes
    page, _ = await history_page(ctx.peer, to, before, after, limit, most, ignored=ignored, changes=changes)
    rows = [{**await with_gap(ctx.peer, shown.message), **changed(shown)} for shown in page]
    lines = await _history_lines(ctx, to, rows, [shown.message for shown in page], limit) if ctx.for_people else []
    if ctx.line is not None and to is not None:
        await ctx.on_listed(to, {row["id"] for row in rows})
    return CommandResult(rows, lines)


async def head(kind: Kind, ctx: CommandContext, to: Conversation) -> CommandResult:
    """List the messages at the head of a conversation, for people the newest at the end, with number 1."""
    rows = [post.to_dict() for post in await ctx.peer.head(to, kind.list)]
    lines = await ctx.to_lines([row for row in reversed(rows) if not ctx.hides(row)])
    return CommandResult(rows, lines or [f"-- nothing is {kind.event} here"])


async def _history_lines(
    ctx: CommandContext, to: Conversation | None, rows: list[EventLine], messages: list[Message | Sent], limit: int
) -> list[str]:
    """Return the messages as lines, and those that tell of deleted ones in their places."""
    deleted = DeletedLines(await ctx.peer.deleted_messages(to))
    if len(messages) >= limit:
        deleted.before(messages[0])  # they stand above the first line
    for row, message in zip(rows, messages, strict=True):
        row["above"] = deleted.before(message)
    if not rows:
        return deleted.rest()
    rows[-1]["below"] = deleted.rest()
    return await ctx.to_lines(rows)


async def history_page(
    of: TCPPeer | HostedUser, where: Conversation | None, before: Position, after: Position, limit: int, max_bytes: int,
    *, ignored: bool = True, changes: bool = False,
) -> tuple[list[Shown], bool]:  # fmt: skip
    """Return messages, and whether there are more; fewer than `limit` where texts are long.

    With `after` alone they are in the order in which they came, as LocalUser.released returns them: nothing that comes
    late is missed. Otherwise they are in the order of History.history.

    Args:
        changes: Return messages that were changed after `after` too, as these changes; each message once.
    """
    if after is not None and before is None:
        read = partial(of.released, within=where, ignored=ignored, changes=changes)
        page, is_full = await _read_page(read, after, limit, max_bytes, forwards=True)
        last = {shown.id: shown.entry_id for shown in page}
        return [shown for shown in page if last[shown.id] == shown.entry_id], is_full
    history = partial(of.history, where, ignored=ignored)
    if after is None:
        return await _read_page(history, before, limit, max_bytes)
    return await _read_page(partial(history, before=before), after, limit, max_bytes, forwards=True)


def changed(shown: Shown) -> dict[str, str]:
    """Return the field of a message that is listed because of a change."""
    return {} if shown is shown.message else {"changed_id": shown.entry_id}


async def search_page(
    of: TCPPeer | HostedUser, words: str, where: Conversation | None, before: Position, limit: int, max_bytes: int,
    **more: Any,
) -> tuple[list[Shown], bool]:  # fmt: skip
    """Return matches as History.search does, and whether there are more; fewer than `limit` where texts are long."""
    return await _read_page(partial(of.search, words, where, **more), before, limit, max_bytes)


async def _read_page(
    read: Callable[..., Awaitable[Sequence[Shown]]],
    edge: Position,
    limit: int,
    max_bytes: int,
    *,
    forwards: bool = False,
) -> tuple[list[Shown], bool]:
    """Return messages, oldest first, and whether there are more.

    Args:
        read: Returns at most `limit` messages `before` an edge, or `after` it, oldest first; after it none at the end.
        forwards: They are read from the oldest one on.
    """
    found: list[Shown] = []
    is_full = False
    while not is_full:
        asked = min(READ_AT_ONCE, limit + 1 - len(found))
        page = await read(**{"after" if forwards else "before": edge}, limit=asked)
        for message in page if forwards else reversed(page):
            max_bytes -= len(message.message.text.encode())
            is_full = len(found) == limit or (bool(found) and max_bytes < 0)
            if is_full:
                break
            found.append(edge := message)
        if len(page) < (1 if forwards else asked):
            break
    return found if forwards else found[::-1], is_full


async def search(
    ctx: CommandContext, words: str, to: Conversation | None = None, limit: int = SEARCH_LINES, ignored: bool = True
) -> CommandResult:
    limit, ignored = parse_limit(limit), ignored and not ctx.for_people
    more = {"ignored": ignored, "progress": _index_progress(ctx)}
    messages, _ = await search_page(ctx.peer, words, to, None, limit, ctx.max_answer_bytes, **more)
    rows = [found_line(message.message, words) for message in messages]  # without gaps: search hits are no sequence
    lines = await ctx.to_lines(rows)
    return CommandResult(rows, [*lines, _search_summary(to, len(lines), len(messages) == limit, words)])


def _index_progress(ctx: CommandContext) -> Callable[[int, int], None] | None:
    """Return a callback that reports the progress of the index a search waits for; None for programs."""
    if not ctx.interactive:
        return None
    next_at = time.monotonic() + PROGRESS_EVERY

    def on_progress(done: int, of: int) -> None:
        nonlocal next_at
        if time.monotonic() >= next_at:
            next_at = time.monotonic() + PROGRESS_EVERY
            print_notice(f"-- first search: {done:,} of {of:,} messages indexed")

    return on_progress


def _search_summary(where: Conversation | None, shown: int, full: bool, words: str) -> str:
    """Say how much was found, and how to search everywhere; `where` None: that was done."""
    found = f"the newest {shown} matches" if full else "1 match" if shown == 1 else f"{shown or 'no'} matches"
    if where is None:
        return f"-- {found} in all conversations"
    return f"-- {found} in {quote_place(where)}; everywhere: /search {ALL} {safe_line(words)}"


async def receipts(
    ctx: CommandContext, to: Conversation | None = None, limit: int | None = None,
    before: Message | Sent | None = None, message: Message | Sent | None = None,
) -> CommandResult:  # fmt: skip
    """Report on the newest own messages, oldest first: only on older ones with `before`, on one `message`.

    A line without a number is about those where the last one went.
    """
    if message is not None:
        await ctx.peer.receipt(message.id)  # raises unless it is an own message
        return await _receipt_rows(ctx, [message])
    if ctx.line is not None and limit is None:
        to = ctx.wrote_last
    limit = parse_limit(RECEIPTS if limit is None else limit)
    found: list[Message | Sent] = []
    async for page in ctx.recent_pages(to, before):
        found = [*(message for message in page if isinstance(message, Sent)), *found]
        if len(found) >= limit:
            break
    return await _receipt_rows(ctx, found[-limit:])


async def _receipt_rows(ctx: CommandContext, messages: list[Message | Sent]) -> CommandResult:
    rows = [await receipt_row(ctx.peer, message) for message in messages]
    if isinstance(ctx.peer, TCPPeer):
        rows = [row | {"obstacle": find_obstacle(ctx.peer, row["missing"])} for row in rows]
    now = local_now()
    lines = [format_receipt(row, now, said(one.to_dict())) for row, one in zip(rows, messages, strict=True)]
    return CommandResult(rows, lines or ["-- you have not written here yet"])


async def receipt_row(peer: TCPPeer | HostedUser, message: Message | Sent) -> EventLine:
    """Return who has a message. For an edited one, the receipt of the edit counts: who has the newest version."""
    sent, receipt = message.to_dict(), await peer.receipt(message.mended_id or message.id)
    copied = ("id", "conversation", "conversation_id", "kind", "text", "sent_at")
    of, has, read = receipt.of, receipt.delivered_to, receipt.read_by
    if message.mended_id is not None and message.conversation.kind != "room":  # the edit of a message that waits
        taken = set((await peer.receipt(message.id)).delivered_to)
        has = [user for user in has if user in taken]
    lacks, stored = [user for user in of if user not in has], [user for user in has if peer.is_at_gateway(user)]
    counts = [len(set(users) & set(of or users)) for users in (has, read)]
    unseen = set() if message.conversation.kind == "room" else set(stored).difference(read)  # in the room all were here
    reached = [word for word, count in zip(("delivered", "read"), counts, strict=True) if count and count >= len(of)]
    holders = (await peer.receipt(message.id)).files_delivered_to if message.attachments else []
    files: EventLine = {
        "files": len(message.attachments),
        "files_count": len(set(holders) & set(of or holders)),
        **users_fields("files_delivered_to", holders),
    }
    return {
        **{name: sent[name] for name in copied},
        **{name: True for name in ("edited", "deleted") if name in sent},
        "status": reached[-1] if reached else "accepted",
        "of": len(of),
        "count": counts[0],
        "read_count": counts[1],
        **users_fields("delivered_to", has),
        **users_fields("at_gateway", stored),
        "at_gateway_count": len(unseen & set(of or unseen)),
        **users_fields("read_by", read),
        **users_fields("missing", lacks),
        "causes": [
            {
                **user_fields(user),
                "cause": why.kind,
                "since": why.since and iso(why.since),
                "text": cause_text(why),
                **user_fields(why.by, "by"),
            }
            for user in lacks
            if (why := user.cause)
        ],
        **(files if message.attachments else {}),
    }


async def read(ctx: CommandContext, message: Message | Sent) -> CommandResult:
    """Mark a conversation read up to a message."""
    await ctx.peer.mark_read_durably(message)
    return CommandResult([{"id": message.id}])


def parse_limit(limit: int) -> int:
    if limit < 1:
        raise UsageError("`limit` must be above 0")
    return min(limit, MAX_MESSAGES)
