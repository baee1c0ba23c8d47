"""Commands about messages that are there: answering, editing, deleting and reacting, to the newest or by a number.

Numbers are those that /history or /search showed last before its lines. They hold until a text is sent or one goes
elsewhere, so that nobody edits a line by a number that came from another list.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from datetime import datetime

from p2pchat import Conversation, Message, Receipt, Sent
from p2pchat.commands.context import CommandContext, CommandResult
from p2pchat.commands.errors import UsageError, print_notice
from p2pchat.commands.outbox import OutgoingMessage
from p2pchat.commands.output import EventLine
from p2pchat.commands.render import format_receipt, found_line, quote_conversation
from p2pchat.safe_text import safe_line

_SEARCHED_BACK = 200  # messages in which the newest of somebody is looked for


# As typed: of the current conversation


async def reply(here: CommandContext, text: str) -> OutgoingMessage:
    """An answer to what another wrote last where one is, or to a line with a number."""
    id, text = _split_number(here, text)
    if not text:
        raise UsageError("usage: /reply [N] TEXT, for example /reply yes, at ten")
    return OutgoingMessage(here.current, text, reply_to=id or await _newest_of_another(here))


async def edit_here(here: CommandContext, text: str) -> CommandResult:
    """Have what one wrote last here, or a line with a number, say something else."""
    id, text = _split_number(here, text)
    if not text:
        raise UsageError("usage: /edit [N] TEXT, for example /edit at eleven, not at ten")
    return await edit(here, id or await _newest_own(here), text)


async def delete_here(here: CommandContext, number: str = "") -> CommandResult:
    """Take back what one wrote last here, or a line with a number."""
    id, rest = _split_number(here, number)
    if rest:
        raise UsageError(f"there is no line {rest[:20]!a}: /history shows lines with numbers")
    return await delete(here, id or await _newest_own(here))


async def react_here(here: CommandContext, text: str = "") -> CommandResult:
    """React to what another wrote last here, or to a line with a number; with nothing that is taken back."""
    id, text = _split_number(here, text)
    return await react(here, id or await _newest_of_another(here), text)


def _split_number(here: CommandContext, text: str) -> tuple[str, str]:
    """Return the id of the line whose number a text begins with, "" for none, and the rest of the text."""
    word, _, rest = text.partition(" ")
    id = here.numbered(word)
    return (id, rest.strip()) if id else ("", text)


async def _newest_own(here: CommandContext) -> str:
    for post in reversed(await here.peer.history(here.current, limit=_SEARCHED_BACK)):
        if isinstance(post, Sent) and not post.deleted and post.unsupported is None:
            return post.id
    raise UsageError("you wrote nothing here lately: /history shows lines with numbers")


async def _newest_of_another(here: CommandContext) -> str:
    shown = here.newest_shown(here.current)
    if shown is not None:
        return shown
    for post in reversed(await here.peer.history(here.current, limit=_SEARCHED_BACK)):
        if not post.sender.is_me and not post.deleted and not here.hides(post.to_json()):
            return post.id
    raise UsageError("nobody else has written here: there is nothing to answer")


# As command objects: by id


async def edit(here: CommandContext, id: str, text: str, ref: str | None = None) -> CommandResult:
    """Have a message say something else."""
    post = await here.peer.message(id)
    return _edit_result(here, post, await here.peer.edit(post, text, ref=ref))


async def delete(here: CommandContext, id: str, ref: str | None = None) -> CommandResult:
    """Take a message back."""
    post = await here.peer.message(id)
    return _edit_result(here, post, await here.peer.delete(post, ref=ref))


async def react(here: CommandContext, id: str, reaction: str = "", ref: str | None = None) -> CommandResult:
    """React to a message."""
    post = await here.peer.message(id)
    return _edit_result(here, post, await here.peer.react(post, reaction, ref=ref))


def _edit_result(here: CommandContext, post: Message | Sent, receipt: Receipt) -> CommandResult:
    """What people see of it is the event that follows."""
    here.kept(post.conversation, receipt)
    return CommandResult([{"id": post.id, "entry_id": receipt.id}])


# ---- reading
#
# Commands that read what was said: history, search, and who has what one wrote.


HISTORY_LINES = 20  # what fits into 24 rows beside the prompt
SEARCH_LINES = 50  # a guess: some screens
RECEIPTS = 5  # messages; each may name many people
PROGRESS_EVERY = 2.0  # seconds between lines that say how far an index is
MAX_MESSAGES = 10_000  # messages of one answer, which is made whole in memory
PAGE = 200  # messages looked through at once for one's own
MAX_PAGES = 50  # who wrote nothing in so many messages is told so


# As typed: of the current conversation


async def history_here(here: CommandContext, count: str = str(HISTORY_LINES)) -> CommandResult:
    return await _history(here, here.current, _count(count, "/history [N]"))


async def search_here(here: CommandContext, words: str) -> CommandResult:
    return await _search(here, here.current, words, SEARCH_LINES)


async def receipts_here(here: CommandContext, count: str = str(RECEIPTS)) -> CommandResult:
    return await _receipts(here, here.current, _count(count, "/receipts [N]"))


def _count(text: str, usage: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text[:9]) > 0):
        raise UsageError(f"usage: {usage}, N above 0")
    return int(text[:9])


# As command objects: of everything, unless they say where


async def history(
    here: CommandContext,
    to: str | None = None,
    limit: int = HISTORY_LINES,
    before: str | None = None,
    after: str | None = None,
) -> CommandResult:
    where = await _conversation(here, to)
    return await _history(here, where, limit, await _message(here, before), await _message(here, after))


async def search(here: CommandContext, words: str, to: str | None = None, limit: int = SEARCH_LINES) -> CommandResult:
    return await _search(here, await _conversation(here, to), words, limit)


async def receipts(
    here: CommandContext, to: str | None = None, limit: int = RECEIPTS, before: str | None = None, id: str | None = None
) -> CommandResult:
    if id is None:
        return await _receipts(here, await _conversation(here, to), limit, await _message(here, before))
    await here.peer.receipt(id)  # says whether it is one of ours
    return await _receipt_rows(here, [await here.peer.message(id)])


async def read(here: CommandContext, id: str) -> CommandResult:
    """Everything in a conversation up to a message is read."""
    post = await here.peer.message(id)
    post.mark_read()
    return CommandResult([{"id": post.id}])


async def _conversation(here: CommandContext, to: str | None) -> Conversation | None:
    return None if to is None else await here.resolve(to)


async def _message(here: CommandContext, id: str | None) -> Message | Sent | None:
    return None if id is None else await here.peer.message(id)


# What both do


async def _history(
    here: CommandContext, where: Conversation | None, limit: int, before: Message | Sent | None = None,
    after: Message | Sent | None = None,
) -> CommandResult:  # fmt: skip
    posts = await here.peer.history(where, before=before, after=after, limit=_limit(limit))
    rows = await here.rows_of(posts)
    return CommandResult(rows, await here.lines_of(rows))


async def _search(here: CommandContext, where: Conversation | None, words: str, limit: int) -> CommandResult:
    limit = _limit(limit)
    posts = await here.peer.search(words, where, limit=limit, progress=_index_progress(here))
    rows = [found_line(post, words) for post in posts]  # picked here and there: what is missing between says nothing
    lines = await here.lines_of(rows)
    return CommandResult(rows, [*lines, _search_summary(here, len(lines), len(posts) == limit, words)])


def _index_progress(here: CommandContext) -> Callable[[int, int], None] | None:
    """Return what tells people, now and then, how far an index is that a search waits for."""
    if not here.interactive:
        return None
    next_at = time.monotonic() + PROGRESS_EVERY

    def told(done: int, of: int) -> None:
        nonlocal next_at
        if time.monotonic() >= next_at:
            next_at = time.monotonic() + PROGRESS_EVERY
            print_notice(f"-- the first search this far back: {done:,} of {of:,} messages are indexed")

    return told


def _search_summary(here: CommandContext, shown: int, full: bool, words: str) -> str:
    """Say how much was found, and where more may be."""
    found = f"the newest {shown}" if full else str(shown)
    where = "the room" if here.current.kind == "room" else quote_conversation(here.current.name, here.current.kind)
    everywhere = here.show.asides.history
    if everywhere == "/history":  # what is kept in memory no other command can read
        return f"-- {found} found in {where}: /go and /search look elsewhere"
    return f"-- {found} found in {where}; everywhere: {everywhere} --search {safe_line(shlex.quote(words))}"


async def _receipts(
    here: CommandContext, where: Conversation | None, limit: int, before: Message | Sent | None = None
) -> CommandResult:
    return await _receipt_rows(here, await _own_messages(here, where, _limit(limit), before))


async def _own_messages(
    here: CommandContext, where: Conversation | None, limit: int, before: Message | Sent | None
) -> list[Message | Sent]:
    """Return one's own newest messages, oldest first; with `before` only older ones."""
    found: list[Message | Sent] = []
    for _ in range(MAX_PAGES):
        page = await here.peer.history(where, before=before, limit=PAGE)
        found = [*(post for post in page if isinstance(post, Sent)), *found]
        if len(page) < PAGE or len(found) >= limit:
            break
        before = page[0]
    return found[-limit:]


async def _receipt_rows(here: CommandContext, posts: list[Message | Sent]) -> CommandResult:
    rows = [_receipt_row(post, await here.peer.receipt(_newest_of(post))) for post in posts]
    now = datetime.now().astimezone()
    return CommandResult(rows, [format_receipt(row, now) for row in rows] or ["-- you wrote nothing here yet"])


def _newest_of(post: Message | Sent) -> str:
    """Return the id of what counts: of an edited or deleted message who has it so is what one wants to know."""
    return post.mended_id or post.id


def _receipt_row(post: Message | Sent, receipt: Receipt) -> EventLine:
    sent = post.to_json()
    kept = ("id", "conversation", "conversation_id", "kind", "text", "sent_at")
    has, lacks = receipt.delivered_to, receipt.missing
    return {
        **{name: sent[name] for name in kept},
        **{name: True for name in ("edited", "deleted") if name in sent},
        "status": receipt.status,
        "of": len(receipt.of),
        "delivered_to": [user.label for user in has],
        "delivered_to_ids": [user.id for user in has],
        "read_by": [user.label for user in receipt.read_by],
        "read_by_ids": [user.id for user in receipt.read_by],
        "missing": [user.label for user in lacks],
        "missing_ids": [user.id for user in lacks],
    }


def _limit(limit: int) -> int:
    if limit < 1:
        raise UsageError("`limit` is above 0")
    return min(limit, MAX_MESSAGES)
