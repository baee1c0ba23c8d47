"""What came since: messages in the order they were shown here, behind one that somebody has already.

A reader with a cursor (subscription.py) goes through all of a peer; this asks for pages of chosen conversations only.
So a thousand users of one gateway, each with a few direct messages, cost no walk through the room for each of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from p2pchat.core.log import decode_entry
from p2pchat.messaging.access import Sight
from p2pchat.messaging.history import post_of
from p2pchat.messaging.messages import NOT_SHOWN, Message, Sent
from p2pchat.peer.messages.conversation import Desk
from p2pchat.protocol import ConversationId
from p2pchat.storage.base import Shown, Storage

Read = Callable[[Callable[[], list[Shown]]], Awaitable[list[Shown]]]


async def read_released(
    desk: Desk, storage: Storage, read: Read, conversations: Sequence[ConversationId], after: int, limit: int,
    sight: Sight | None = None,
) -> list[Message | Sent]:  # fmt: skip
    """Return messages of these conversations with place > after, in order of place; [] when there are none.

    Args:
        limit: Most entries, 1 or more. There may be fewer messages among them, but at least one when there is any.
        sight: What of them may be read; None: everything.
    """
    if limit < 1:
        raise ValueError("a page has 1 message or more")
    while True:
        page = await read(partial(storage.places, after, limit, conversations))
        entries = ((one, decode_entry(one.raw)) for one in page)
        found = [
            post_of(desk, one)
            for one, entry in entries
            if entry.k not in NOT_SHOWN and (sight is None or sight.is_all or sight.sees(one.log, entry))
        ]
        if found or len(page) < limit:
            return found
        after = page[-1].place
