"""Commands about conversations: which there are, and going to one."""

from __future__ import annotations

from p2pchat import AmbiguousName, Conversation, Group, HostedUser, TCPPeer, UnknownName
from p2pchat.apps.cli.chat.unread import Unread
from p2pchat.commands.context import Answer, Here
from p2pchat.commands.errors import Usage
from p2pchat.commands.format import plain_conversation
from p2pchat.commands.output import Line

MOST_LISTED = 40  # conversations at once; a guess: more is no list to look at


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


async def list_(here: Here, which: str = "") -> Answer:
    """Conversations: for people as many as they can look at, with `all` every one, as always for programs."""
    if which not in ("", "all"):
        raise Usage("/list, or /list all")
    if here.for_people and not which:
        shown, more = listed(here.peer, here.unread)
    else:
        shown, more = here.peer.conversations(), 0
    rows = [_row(here, conversation) for conversation in shown]
    others = [f"-- and {more} more: /list all shows them too"] if more else []
    return Answer(rows, [*(plain_conversation(row) for row in rows), *others])


def listed(peer: TCPPeer | HostedUser, unread: Unread) -> tuple[list[Conversation], int]:
    """Return the conversations people are shown, and how many more there are.

    All, the room first and then by name; where there are very many the room, those with something unread, and those in
    which something was written last.
    """
    known = peer.recent_conversations()
    if len(known) <= MOST_LISTED:
        return peer.conversations(), 0
    room = [one for one in known if one.kind == "room"]
    chosen = dict.fromkeys([*room, *(peer.find(id) for id in unread.ids), *known[:MOST_LISTED]])
    return list(chosen)[:MOST_LISTED], len(known) - MOST_LISTED


def place_row(conversation: Conversation) -> Line:
    """Return which conversation it is, of whom when it is a direct one, and of how many when it is a group's."""
    row: Line = {
        "conversation": conversation.name, "conversation_id": conversation.id, "kind": conversation.kind,
    }  # fmt: skip
    if conversation.user is not None:
        row |= {"user": conversation.user.label, "user_id": conversation.user.id}
    if isinstance(conversation, Group):
        row |= {"members": len(conversation.members), "member": conversation.is_member}
    return row


def _row(here: Here, conversation: Conversation) -> Line:
    return {
        **place_row(conversation),
        "unread": here.unread.count(conversation.id),
        "mentions": here.unread.mentions(conversation.id),
        "current": here.is_current(conversation),
    }
