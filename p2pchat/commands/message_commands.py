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
from p2pchat.commands.context import Answer, Here
from p2pchat.commands.errors import Usage, tell
from p2pchat.commands.format import found_line, plain_receipt, shown_place
from p2pchat.commands.outbox import Text
from p2pchat.commands.output import Line
from p2pchat.safe_text import safe_line

_LOOKED_BACK = 200  # messages in which the newest of somebody is looked for


# As typed: of the current conversation


async def reply(here: Here, text: str) -> Text:
    """An answer to what another wrote last where one is, or to a line with a number."""
    id, text = _numbered(here, text)
    if not text:
        raise Usage("usage: /reply [N] TEXT, for example /reply yes, at ten")
    return Text(here.current, text, reply_to=id or await _newest_of_another(here))


async def edit_here(here: Here, text: str) -> Answer:
    """Have what one wrote last here, or a line with a number, say something else."""
    id, text = _numbered(here, text)
    if not text:
        raise Usage("usage: /edit [N] TEXT, for example /edit at eleven, not at ten")
    return await edit(here, id or await _newest_own(here), text)


async def delete_here(here: Here, number: str = "") -> Answer:
    """Take back what one wrote last here, or a line with a number."""
    id, rest = _numbered(here, number)
    if rest:
        raise Usage(f"there is no line {rest[:20]!a}: /history shows lines with numbers")
    return await delete(here, id or await _newest_own(here))


async def react_here(here: Here, text: str = "") -> Answer:
    """React to what another wrote last here, or to a line with a number; with nothing that is taken back."""
    id, text = _numbered(here, text)
    return await react(here, id or await _newest_of_another(here), text)


def _numbered(here: Here, text: str) -> tuple[str, str]:
    """Return the id of the line whose number a text begins with, "" for none, and the rest of the text."""
    word, _, rest = text.partition(" ")
    id = here.numbered(word)
    return (id, rest.strip()) if id else ("", text)


async def _newest_own(here: Here) -> str:
    for post in reversed(await here.peer.history(here.current, limit=_LOOKED_BACK)):
        if isinstance(post, Sent) and not post.deleted and post.unsupported is None:
            return post.id
    raise Usage("you wrote nothing here lately: /history shows lines with numbers")


async def _newest_of_another(here: Here) -> str:
    shown = here.newest_shown(here.current)
    if shown is not None:
        return shown
    for post in reversed(await here.peer.history(here.current, limit=_LOOKED_BACK)):
        if not post.sender.is_me and not post.deleted and not here.hides(post.to_json()):
            return post.id
    raise Usage("nobody else has written here: there is nothing to answer")


# As command objects: by id


async def edit(here: Here, id: str, text: str, ref: str | None = None) -> Answer:
    """Have a message say something else."""
    post = await here.peer.message(id)
    return _done(here, post, await here.peer.edit(post, text, ref=ref))


async def delete(here: Here, id: str, ref: str | None = None) -> Answer:
    """Take a message back."""
    post = await here.peer.message(id)
    return _done(here, post, await here.peer.delete(post, ref=ref))


async def react(here: Here, id: str, reaction: str = "", ref: str | None = None) -> Answer:
    """React to a message."""
    post = await here.peer.message(id)
    return _done(here, post, await here.peer.react(post, reaction, ref=ref))


def _done(here: Here, post: Message | Sent, receipt: Receipt) -> Answer:
    """What people see of it is the event that follows."""
    here.kept(post.conversation, receipt)
    return Answer([{"id": post.id, "entry_id": receipt.id}])


# ---- reading
#
# Commands that read what was said: history, search, and who has what one wrote.


HISTORY_LINES = 20  # what fits into 24 rows beside the prompt
SEARCH_LINES = 50  # a guess: some screens
RECEIPTS = 5  # messages; each may name many people
TOLD_EVERY = 2.0  # seconds between lines that say how far an index is
MOST = 10_000  # messages of one answer, which is made whole in memory
PAGE = 200  # messages looked through at once for one's own
MOST_PAGES = 50  # who wrote nothing in so many messages is told so


# As typed: of the current conversation


async def history_here(here: Here, count: str = str(HISTORY_LINES)) -> Answer:
    return await _history(here, here.current, _count(count, "/history [N]"))


async def search_here(here: Here, words: str) -> Answer:
    return await _search(here, here.current, words, SEARCH_LINES)


async def receipts_here(here: Here, count: str = str(RECEIPTS)) -> Answer:
    return await _receipts(here, here.current, _count(count, "/receipts [N]"))


def _count(text: str, usage: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text[:9]) > 0):
        raise Usage(f"usage: {usage}, N above 0")
    return int(text[:9])


# As command objects: of everything, unless they say where


async def history(
    here: Here, to: str | None = None, limit: int = HISTORY_LINES, before: str | None = None, after: str | None = None
) -> Answer:
    where = await _where(here, to)
    return await _history(here, where, limit, await _post(here, before), await _post(here, after))


async def search(here: Here, words: str, to: str | None = None, limit: int = SEARCH_LINES) -> Answer:
    return await _search(here, await _where(here, to), words, limit)


async def receipts(
    here: Here, to: str | None = None, limit: int = RECEIPTS, before: str | None = None, id: str | None = None
) -> Answer:
    if id is None:
        return await _receipts(here, await _where(here, to), limit, await _post(here, before))
    await here.peer.receipt(id)  # says whether it is one of ours
    return await _about(here, [await here.peer.message(id)])


async def read(here: Here, id: str) -> Answer:
    """Everything in a conversation up to a message is read."""
    post = await here.peer.message(id)
    post.mark_read()
    return Answer([{"id": post.id}])


async def _where(here: Here, to: str | None) -> Conversation | None:
    return None if to is None else await here.resolve(to)


async def _post(here: Here, id: str | None) -> Message | Sent | None:
    return None if id is None else await here.peer.message(id)


# What both do


async def _history(
    here: Here, where: Conversation | None, limit: int, before: Message | Sent | None = None,
    after: Message | Sent | None = None,
) -> Answer:  # fmt: skip
    posts = await here.peer.history(where, before=before, after=after, limit=_limit(limit))
    rows = await here.rows_of(posts)
    return Answer(rows, await here.lines_of(rows))


async def _search(here: Here, where: Conversation | None, words: str, limit: int) -> Answer:
    limit = _limit(limit)
    posts = await here.peer.search(words, where, limit=limit, progress=_telling(here))
    rows = [found_line(post, words) for post in posts]  # picked here and there: what is missing between says nothing
    lines = await here.lines_of(rows)
    return Answer(rows, [*lines, _widen(here, len(lines), len(posts) == limit, words)])


def _telling(here: Here) -> Callable[[int, int], None] | None:
    """Return what tells people, now and then, how far an index is that a search waits for."""
    if not here.interactive:
        return None
    next_at = time.monotonic() + TOLD_EVERY

    def told(done: int, of: int) -> None:
        nonlocal next_at
        if time.monotonic() >= next_at:
            next_at = time.monotonic() + TOLD_EVERY
            tell(f"-- the first search this far back: {done:,} of {of:,} messages are indexed")

    return told


def _widen(here: Here, shown: int, full: bool, words: str) -> str:
    """Say how much was found, and where more may be."""
    found = f"the newest {shown}" if full else str(shown)
    where = "the room" if here.current.kind == "room" else shown_place(here.current.name, here.current.kind)
    everywhere = here.show.asides.history
    if everywhere == "/history":  # what is kept in memory no other command can read
        return f"-- {found} found in {where}: /go and /search look elsewhere"
    return f"-- {found} found in {where}; everywhere: {everywhere} --search {safe_line(shlex.quote(words))}"


async def _receipts(here: Here, where: Conversation | None, limit: int, before: Message | Sent | None = None) -> Answer:
    return await _about(here, await _own(here, where, _limit(limit), before))


async def _own(
    here: Here, where: Conversation | None, limit: int, before: Message | Sent | None
) -> list[Message | Sent]:
    """Return one's own newest messages, oldest first; with `before` only older ones."""
    found: list[Message | Sent] = []
    for _ in range(MOST_PAGES):
        page = await here.peer.history(where, before=before, limit=PAGE)
        found = [*(post for post in page if isinstance(post, Sent)), *found]
        if len(page) < PAGE or len(found) >= limit:
            break
        before = page[0]
    return found[-limit:]


async def _about(here: Here, posts: list[Message | Sent]) -> Answer:
    rows = [_receipt_row(post, await here.peer.receipt(_newest_of(post))) for post in posts]
    now = datetime.now().astimezone()
    return Answer(rows, [plain_receipt(row, now) for row in rows] or ["-- you wrote nothing here yet"])


def _newest_of(post: Message | Sent) -> str:
    """Return the id of what counts: of an edited or deleted message who has it so is what one wants to know."""
    return post.mended_id or post.id


def _receipt_row(post: Message | Sent, receipt: Receipt) -> Line:
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
        raise Usage("`limit` is above 0")
    return min(limit, MOST)
