"""Commands about messages: /msg, /me, /reply, /edit, /delete, /react, /history, /search, /receipts.

Typed commands act on the current conversation, or with /search -a on all; JSON commands name a message by its id, and
query all conversations unless they say `to`. Typed commands may name a message by the number that /history or /search
showed last. Numbers expire when a message is sent or another conversation is opened, so that no number of an older list
hits a wrong message. A number that names no line is an error, and no text: nobody sends "2 hello" unknowingly.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from p2pchat import Conversation, HostedUser, KeptFile, Message, Receipt, Sent, TCPPeer
from p2pchat.commands.command_context import CommandContext
from p2pchat.commands.display import CommandResult
from p2pchat.commands.event_text import (
    DeletedLines,
    EventLine,
    excerpt,
    file_label,
    format_receipt,
    format_time,
    found_line,
    said,
    with_gap,
)
from p2pchat.commands.exit_codes import CommandError, UsageError, print_notice
from p2pchat.commands.standard_output import iso
from p2pchat.safe_text import quote_place, safe_line

LOOKED_BACK = (
    200  # messages searched for one that may have been sent before (programs retry soon), or for the newest of a user
)
To = Conversation | str | None  # a conversation, its address, or None for all of them
Position = Message | Sent | datetime | None
HISTORY_LINES = 20  # fits into 24 rows with the prompt
SEARCH_LINES = 50  # a guess: a few screens
EVERYWHERE = "-a"  # before the words of /search
RECEIPTS = 5  # messages; each may name many people
PROGRESS_EVERY = 2.0  # seconds between progress lines of the search index
MAX_MESSAGES = 10_000  # in one answer, which is built in memory
READ_AT_ONCE = 50  # messages, so that a bounded answer never holds much more than its bound; the longest take 1.6 MiB
PAGE = 200  # messages read at once when searching for own ones, or for those of others
MAX_PAGES = 50  # pages to search


# ---- new messages


class SendStopped(CommandError):
    """A message was not sent, because its user stopped it while its files were copied."""

    def __init__(self) -> None:
        super().__init__("stopped: nothing was sent")


@dataclass(slots=True)
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
    _is_stopped: bool = False
    _is_final: bool = False

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


async def msg(ctx: CommandContext, to: str, text: str) -> OutgoingMessage:
    """/msg: a message to one user, or to any address."""
    return OutgoingMessage(await ctx.resolve(to), text)


async def me(ctx: CommandContext, text: str) -> OutgoingMessage:
    """/me: an action in the current conversation."""
    return OutgoingMessage(ctx.current, text, action=True)


async def send(
    ctx: CommandContext, text: str, to: str = "room", action: bool = False, reply_to: str | None = None,
    claimed_at: str | None = None, ref: str | None = None, files: Sequence[str] = (),
    kept: tuple[KeptFile, ...] = (),
) -> OutgoingMessage:  # fmt: skip
    """JSON command `send`."""
    claimed = None if claimed_at is None else parse_time(claimed_at, "claimed_at")
    return OutgoingMessage(await ctx.resolve(to), text, action, reply_to, ref, claimed, tuple(files), kept)


def parse_time(text: str, field: str) -> datetime:
    """Return the moment in a field of a JSON command."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = datetime.min
    if moment.tzinfo is None:
        raise UsageError(f"`{field}` must be a time with a zone, such as 2026-11-20T11:42:31.689337Z")
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


# ---- reply, edit, delete, react


async def reply(ctx: CommandContext, text: str) -> OutgoingMessage:
    """/reply: to the latest message of someone else, or to a numbered one."""
    id, text = _split_number(ctx, text, "reply")
    if not text:
        raise UsageError("usage: /reply [N] TEXT, for example /reply yes, at ten")
    id = id or await _latest_of_others(ctx)
    to = (await ctx.peer.message(id)).conversation
    _tell_where(ctx, to, text)
    return OutgoingMessage(to, text, reply_to=id)


def _tell_where(ctx: CommandContext, to: Conversation, text: str) -> None:
    """Tell a person what goes elsewhere than what is typed does."""
    if ctx.for_people and not ctx.is_current(to):
        print_notice(f"-- ↳ to {quote_place(to)}{', private' if to.kind == 'dm' else ''}: {safe_line(text)}")


async def edit_here(ctx: CommandContext, text: str) -> CommandResult:
    """/edit: the latest own message, or a numbered one."""
    id, text = _split_number(ctx, text, "edit")
    if not text:
        raise UsageError("usage: /edit [N] TEXT, for example /edit at eleven, not at ten")
    id = id or await _latest_own(ctx)
    done = await edit(ctx, id, text)
    _tell_where(ctx, (await ctx.peer.message(id)).conversation, text)
    return done


async def delete_here(ctx: CommandContext, number: str = "") -> CommandResult:
    """/delete: the latest own message, or a numbered one. The user is asked first, and told what was deleted."""
    id, rest = _split_number(ctx, number, "delete")
    if rest:
        raise UsageError(f"there is no line {rest[:20]!r}: /history shows lines with numbers")
    message = await ctx.peer.message(id or await _latest_own(ctx))
    if message.sender.is_me and not message.deleted:
        at, text = format_time(iso(message.sent_at), datetime.now().astimezone()), said(message.to_json())
        if not await ctx.confirm(f"delete {excerpt(text)} ({at})?"):
            return CommandResult(lines=["-- nothing was deleted"])
        ctx.deleted_texts[message.id] = text
    done = await delete(ctx, message.id)
    _tell_where(ctx, message.conversation, "deleted")
    return done


async def react_here(ctx: CommandContext, text: str = "") -> CommandResult:
    """/react: to the latest message of someone else, or to a numbered one; no text removes the reaction."""
    id, text = _split_number(ctx, text, "react")
    id = id or await _latest_of_others(ctx)
    done = await react(ctx, id, text)
    _tell_where(ctx, (await ctx.peer.message(id)).conversation, text or "no reaction any more")
    return done


_NO_LINE = "0"  # before a text that begins with a number


def _split_number(ctx: CommandContext, text: str, command: str) -> tuple[str, str]:
    """Return the id of the message whose number begins the text ("": none), and the rest of the text."""
    word, _, rest = text.partition(" ")
    if not (word.isascii() and word.isdecimal()):
        return "", text
    if word == _NO_LINE:
        return "", rest.strip() or word
    if id := next((id for id, number in ctx.display.numbers.items() if str(number) == word), ""):
        return id, rest.strip()
    lines = len(ctx.display.numbers)
    found = f"there is no line {word}, the list ends at {lines}" if lines else "there is no list: /history shows one"
    how = f"; to begin a text with a number, put 0 before it: /{command} 0 {text}"
    raise UsageError(found + ("" if command == "delete" else safe_line(how)))


async def _latest_own(ctx: CommandContext) -> str:
    for message in reversed(await ctx.peer.history(ctx.wrote_last, limit=LOOKED_BACK)):
        if isinstance(message, Sent) and not message.deleted and message.unsupported is None:
            return message.id
    raise UsageError("you have no recent message here: /history shows lines with numbers")


async def _latest_of_others(ctx: CommandContext) -> str:
    """Return the id of the newest message of others that was shown; else of the newest that is stored here."""
    found = await ctx.wait_for_message(lambda: _newest_of_others(ctx))
    if not found:
        raise UsageError("nobody else has written here yet")
    return found


async def _newest_of_others(ctx: CommandContext) -> str:
    if (shown := await ctx.last_shown("other")) is not None:  # perhaps while it was waited for
        return shown.id
    async for page in recent_pages(ctx, ctx.current, None):
        for message in reversed(page):
            if not message.sender.is_me and not message.deleted and not ctx.hides(message.to_json()):
                return message.id
    return ""


async def recent_pages(
    ctx: CommandContext, where: Conversation | None, before: Message | Sent | None
) -> AsyncIterator[list[Message | Sent]]:
    """Yield the newest messages before one, in pages, the newest page first; MAX_PAGES at most."""
    for _ in range(MAX_PAGES):
        page = await ctx.peer.history(where, before=before, limit=PAGE)
        yield page
        if len(page) < PAGE:
            return
        before = page[0]


async def edit(ctx: CommandContext, id: str, text: str, ref: str | None = None) -> CommandResult:
    message = await ctx.peer.message(id)
    return _accepted(ctx, message, await ctx.peer.edit(message, text, ref=ref), "your edit of")


async def delete(ctx: CommandContext, id: str, ref: str | None = None) -> CommandResult:
    message = await ctx.peer.message(id)
    return _accepted(ctx, message, await ctx.peer.delete(message, ref=ref), "the deletion of")


async def react(ctx: CommandContext, id: str, reaction: str = "", ref: str | None = None) -> CommandResult:
    message = await ctx.peer.message(id)
    return _accepted(ctx, message, await ctx.peer.react(message, reaction, ref=ref), "your reaction to")


def _accepted(ctx: CommandContext, message: Message | Sent, receipt: Receipt, what: str) -> CommandResult:
    """Return the result for programs; people see the event that follows."""
    ctx.on_accepted(message.conversation, receipt, [f"{what} {excerpt(said(message.to_json()))}"])
    return CommandResult([{"id": message.id, "entry_id": receipt.id}])


# ---- history, search, receipts


async def history_here(ctx: CommandContext, count: str = str(HISTORY_LINES)) -> CommandResult:
    here = ctx.current
    listed = await history(ctx, here, parse_count(count, "/history [N]"))
    await ctx.on_listed(here, {row["id"] for row in listed.rows})
    return listed


async def history(
    ctx: CommandContext, to: To = None, limit: int = HISTORY_LINES, before: str | None = None, after: str | None = None
) -> CommandResult:
    where = await resolve_or_all(ctx, to)
    first, last = await _message(ctx, before), await _message(ctx, after)
    limit = parse_limit(limit)
    if ctx.max_answer_bytes:
        messages, _ = await history_page(ctx.peer, where, first, last, limit, ctx.max_answer_bytes)
    else:
        messages = await ctx.peer.history(where, before=first, after=last, limit=limit)
    rows = [await with_gap(ctx.peer, message) for message in messages]
    if not ctx.for_people:
        return CommandResult(rows)
    deleted = DeletedLines(await ctx.peer.deleted_messages(where))
    if len(messages) >= limit:
        deleted.before(messages[0])  # they stand above the first line
    for row, message in zip(rows, messages, strict=True):
        row["above"] = deleted.before(message)
    if rows:
        rows[-1]["below"] = deleted.rest()
        return CommandResult(rows, await ctx.to_lines(rows))
    return CommandResult(rows, deleted.rest())


async def history_page(
    of: TCPPeer | HostedUser, where: Conversation | None, before: Position, after: Position, limit: int, max_bytes: int
) -> tuple[list[Message | Sent], bool]:
    """Return messages as History.history does, and whether there are more; fewer than `limit` where texts are long."""
    if after is None:
        return await _read_page(
            lambda high, count: of.history(where, before=high, limit=count), before, limit, max_bytes
        )
    return await _read_page(
        lambda low, count: of.history(where, before=before, after=low, limit=count),
        after,
        limit,
        max_bytes,
        forwards=True,
    )


async def search_page(
    of: TCPPeer | HostedUser, words: str, where: Conversation | None, before: Position, limit: int, max_bytes: int
) -> tuple[list[Message | Sent], bool]:
    """Return matches as History.search does, and whether there are more; fewer than `limit` where texts are long."""
    return await _read_page(
        lambda high, count: of.search(words, where, before=high, limit=count), before, limit, max_bytes
    )


async def _read_page(
    read: Callable[[Position, int], Awaitable[list[Message | Sent]]],
    edge: Position,
    limit: int,
    max_bytes: int,
    *,
    forwards: bool = False,
) -> tuple[list[Message | Sent], bool]:
    """Return messages, oldest first, and whether there are more.

    Args:
        read: Returns so many messages before an edge, or after it, oldest first.
        forwards: They are read from the oldest one on.
    """
    found: list[Message | Sent] = []
    is_full = False
    while not is_full:
        asked = min(READ_AT_ONCE, limit + 1 - len(found))
        page = await read(edge, asked)
        for message in page if forwards else reversed(page):
            max_bytes -= len(message.text.encode())
            is_full = len(found) == limit or (bool(found) and max_bytes < 0)
            if is_full:
                break
            found.append(edge := message)
        if len(page) < asked:
            break
    return found if forwards else found[::-1], is_full


async def search_here(ctx: CommandContext, words: str) -> CommandResult:
    option, _, rest = words.partition(" ")
    if option != EVERYWHERE:
        return await search(ctx, words, ctx.current)
    if not rest:
        raise UsageError(f"usage: /search [-a] WORDS, for example /search {EVERYWHERE} backup failed")
    return await search(ctx, rest)


async def search(ctx: CommandContext, words: str, to: To = None, limit: int = SEARCH_LINES) -> CommandResult:
    where, limit = await resolve_or_all(ctx, to), parse_limit(limit)
    if ctx.max_answer_bytes:
        messages, _ = await search_page(ctx.peer, words, where, None, limit, ctx.max_answer_bytes)
    else:
        messages = await ctx.peer.search(words, where, limit=limit, progress=_index_progress(ctx))
    rows = [found_line(message, words) for message in messages]  # without gaps: search hits are no sequence
    lines = await ctx.to_lines(rows)
    return CommandResult(rows, [*lines, _search_summary(where, len(lines), len(messages) == limit, words)])


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
    return f"-- {found} in {quote_place(where)}; everywhere: /search {EVERYWHERE} {safe_line(words)}"


async def receipts_here(ctx: CommandContext, count: str = "") -> CommandResult:
    """/receipts: of the last messages here, or without a number of those where the last one went."""
    if count:
        return await receipts(ctx, ctx.current, parse_count(count, "/receipts [N]"))
    return await receipts(ctx, ctx.wrote_last)


async def receipts(
    ctx: CommandContext, to: To = None, limit: int = RECEIPTS, before: str | None = None, id: str | None = None
) -> CommandResult:
    """Report on the newest own messages, oldest first: only on older ones with `before`, on one with `id`."""
    if id is not None:
        await ctx.peer.receipt(id)  # raises unless it is an own message
        return await _receipt_rows(ctx, [await ctx.peer.message(id)])
    where, oldest, limit = await resolve_or_all(ctx, to), await _message(ctx, before), parse_limit(limit)
    found: list[Message | Sent] = []
    async for page in recent_pages(ctx, where, oldest):
        found = [*(message for message in page if isinstance(message, Sent)), *found]
        if len(found) >= limit:
            break
    return await _receipt_rows(ctx, found[-limit:])


async def _receipt_rows(ctx: CommandContext, messages: list[Message | Sent]) -> CommandResult:
    rows = [await receipt_row(ctx.peer, message) for message in messages]
    now = datetime.now().astimezone()
    lines = [format_receipt(row, now, said(one.to_json())) for row, one in zip(rows, messages, strict=True)]
    return CommandResult(rows, lines or ["-- you have not written here yet"])


async def receipt_row(peer: TCPPeer | HostedUser, message: Message | Sent) -> EventLine:
    """Return who has a message. For an edited one, the receipt of the edit counts: who has the newest version."""
    sent, receipt = message.to_json(), await peer.receipt(message.mended_id or message.id)
    copied = ("id", "conversation", "conversation_id", "kind", "text", "sent_at")
    of, has, read = receipt.of, receipt.delivered_to, receipt.read_by
    if message.mended_id is not None and message.conversation.kind != "room":  # the edit of a message that waits
        taken = set((await peer.receipt(message.id)).delivered_to)
        has = [user for user in has if user in taken]
    lacks, stored = [user for user in of if user not in has], [user for user in has if peer.is_at_gateway(user)]
    counts = [len(set(users) & set(of or users)) for users in (has, read)]
    reached = [word for word, count in zip(("delivered", "read"), counts, strict=True) if count and count >= len(of)]
    holders = (await peer.receipt(message.id)).files_delivered_to if message.attachments else []
    files: EventLine = {
        "files": len(message.attachments),
        "files_count": len(set(holders) & set(of or holders)),
        "files_delivered_to": [user.label for user in holders],
        "files_delivered_to_ids": [user.id for user in holders],
    }
    return {
        **{name: sent[name] for name in copied},
        **{name: True for name in ("edited", "deleted") if name in sent},
        "status": reached[-1] if reached else "accepted",
        "of": len(of),
        "count": counts[0],
        "read_count": counts[1],
        "delivered_to": [user.label for user in has],
        "delivered_to_ids": [user.id for user in has],
        "at_gateway": [user.label for user in stored],
        "at_gateway_ids": [user.id for user in stored],
        "read_by": [user.label for user in read],
        "read_by_ids": [user.id for user in read],
        "missing": [user.label for user in lacks],
        "missing_ids": [user.id for user in lacks],
        **(files if message.attachments else {}),
    }


async def read(ctx: CommandContext, id: str) -> CommandResult:
    """Mark a conversation read up to a message."""
    message = await ctx.peer.message(id)
    await ctx.peer.mark_read_durably(message)
    return CommandResult([{"id": message.id}])


async def resolve_or_all(ctx: CommandContext, to: To) -> Conversation | None:
    return await ctx.resolve(to) if isinstance(to, str) else to


async def _message(ctx: CommandContext, id: str | None) -> Message | Sent | None:
    return None if id is None else await ctx.peer.message(id)


def parse_count(text: str, usage: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text[:9]) > 0):
        raise UsageError(f"usage: {usage}, N above 0")
    return int(text[:9])


def parse_limit(limit: int) -> int:
    if limit < 1:
        raise UsageError("`limit` must be above 0")
    return min(limit, MAX_MESSAGES)
