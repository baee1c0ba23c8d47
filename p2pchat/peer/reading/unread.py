"""What a user has not read yet of a conversation, by the read marks that its programs have set, in this run or before.

A mark on a log stands for all that its writer wrote before, so of each writer the newest entry marked says what is
read: whatever has no later clock. Looked for are only the newest messages; who has more unread has enough to read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from p2pchat.core.log import LogId, decode_entry
from p2pchat.messaging.messages import Message, Sent
from p2pchat.protocol import UserId
from p2pchat.storage.base import Shown, Storage

Read = Callable[[Callable[[], list[Shown]]], Awaitable[list[Shown]]]


async def unread_among(
    posts: Sequence[Message | Sent], marks: Mapping[LogId, int], place: int, storage: Storage, read: Read
) -> list[Message]:
    """Return those of these messages that are not read.

    Args:
        posts: The newest of one conversation, oldest first.
        marks: How far logs there are marked as read.
        place: All shown up to there is read, whatever the marks say; 0 for nothing.
    """
    came = [post for post in posts if isinstance(post, Message) and not (post.old or post.place <= place)]
    writers = {post.log.user for post in came}
    marked = [(log, seq) for log, seq in marks.items() if log.user in writers]

    def look() -> list[Shown]:
        return [shown for log, seq in marked if (shown := storage.entry(log, seq)) is not None]

    read_to: dict[UserId, int] = {}
    for shown in await read(look) if marked else ():
        read_to[shown.log.user] = max(read_to.get(shown.log.user, 0), decode_entry(shown.raw).c)
    return [post for post in came if post.sort_key[0] > read_to.get(post.log.user, 0)]
