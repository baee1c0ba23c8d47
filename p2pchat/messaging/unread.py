"""Which of some messages a user has not read, nor taken, by the marks of their logs; and the place of a moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from p2pchat.core.durable_changes import LogFacts
from p2pchat.core.log import LogId
from p2pchat.messaging.messages import Message, Sent

if TYPE_CHECKING:
    from p2pchat.messaging.viewer import StorageReader
    from p2pchat.storage.sql_storage import SqlStorage


async def unmarked_among(
    posts: Sequence[Message | Sent], marks: Mapping[LogId, int], disk: StorageReader
) -> list[Message]:
    """Return those messages of others that no mark stands for: on their log, or on one that builds on it.

    The clock says nothing here: a writer with two peers writes two logs side by side, and none of them may be missed.

    Args:
        posts: Messages of one conversation.
        marks: The number up to which each log there is marked.
    """
    rest = [post for post in posts if isinstance(post, Message) and marks.get(post.log, 0) < post.seq]
    writers = {log.user for log in marks} & {post.log.user for post in rest if post.log not in marks}
    if not writers:
        return rest
    [conversation] = {post.log.conversation for post in rest}

    def look_up() -> dict[LogId, LogFacts]:
        return {facts.log: facts for user in writers for facts in disk.storage.logs_of(conversation, user)}

    logs = await disk.read(look_up)
    below: dict[LogId, int] = {}
    asked = [log for log in marks if log in logs]
    while asked:
        log = asked.pop()
        for mark in logs[log].before if log in logs else ():
            one = log._replace(run=mark.run)
            if below.get(one, 0) < mark.seq:
                below[one] = mark.seq
                asked.append(one)
    return [post for post in rest if below.get(post.log, 0) < post.seq]


def place_before(storage: SqlStorage, newest: int, moment: int) -> int:
    """Return the place of the last entry that was shown here before a moment, in UTC microseconds.

    Places are given in the order of time. So some 20 looks find it, most of them near the newest place.
    """

    def is_before(place: int) -> bool:
        found = storage.places(place - 1, 1)
        return bool(found) and found[0].received_at < moment

    low, high, step = newest, newest + 1, 1  # what is at `low` was shown before it, what is at `high` was not
    while low > 0 and not is_before(low):
        low, high, step = max(0, low - step), low, 4 * step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_before(middle) else (low, middle)
    return low
