"""Commands about messages that are there: answering, editing, deleting and reacting, to the newest or by a number.

Numbers are those that /history or /search showed last before its lines. They hold until a text is sent or one goes
elsewhere, so that nobody edits a line by a number that came from another list.
"""

from __future__ import annotations

from p2pchat import Message, Receipt, Sent
from p2pchat.commands.context import Answer, Here
from p2pchat.commands.errors import Usage
from p2pchat.commands.outbox import Text

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
