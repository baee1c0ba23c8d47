"""Commands about conversations: which there are, and going to one."""

from __future__ import annotations

from p2pchat import AmbiguousName, Conversation, UnknownName
from p2pchat.apps.cli.chat.doing.here import Answer, Here
from p2pchat.apps.cli.output import Line
from p2pchat.apps.cli.plain import plain_conversation


async def go(here: Here, to: str = "room") -> Answer:
    """Send what follows there. People are told by whatever shows them where they are."""
    there = await here.waiting_for(to, lambda: _whichever(here, to))
    await here.go(there)
    return Answer([{"conversation": there.name, "conversation_id": there.id, "kind": there.kind}])


def _whichever(here: Here, to: str) -> Conversation:
    """Return what an address means; a bare name is whichever of user and group has it.

    Raises:
        UnknownName: Neither has. AmbiguousName: Both have, or several.
    """
    found: list[Conversation] = []
    several: list[str] = []
    try:
        found.append(here.peer.find(to))
    except AmbiguousName as error:
        several += error.candidates
    except UnknownName as error:
        nobody = error
    if to.lstrip()[:1] not in ("#", "@"):
        try:
            found.append(here.peer.group(to))
        except AmbiguousName as error:
            several += error.candidates
        except UnknownName:
            pass
    if several or len(found) > 1:
        raise AmbiguousName(to, [*(one.address for one in found), *several])
    if not found:
        raise nobody
    return found[0]


async def list_(here: Here) -> Answer:
    """All conversations, the room first."""
    rows = [_row(here, conversation) for conversation in here.peer.conversations()]
    return Answer(rows, [plain_conversation(row) for row in rows])


def _row(here: Here, conversation: Conversation) -> Line:
    return {
        "conversation": conversation.name,
        "conversation_id": conversation.id,
        "kind": conversation.kind,
        "unread": here.unread.count(conversation.id),
        "mentions": here.unread.mentions(conversation.id),
        "current": here.is_current(conversation),
    }
