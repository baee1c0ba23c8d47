"""Whom a message waits for that an earlier run sent: the other user of a direct conversation, in a group the members at
the time, but for those who are gone and do not have it. In the room nobody knows any more who was online then.
"""

from __future__ import annotations

from collections.abc import Collection

from p2pchat.core.log import Entry, LogId
from p2pchat.core.node import Node
from p2pchat.protocol import UserId


def waited_for(node: Node, log: LogId, entry: Entry, holders: Collection[UserId]) -> tuple[UserId, ...]:
    """Return whom an entry of this log of one's own waits for, given who has it; () when that is not known."""
    conversation = node.sync.conversations.by_id.get(log.conversation)
    if conversation is None:
        return ()
    group = conversation.group
    if group is not None and entry.g is not None:
        counted = group.members_at(entry.g[0]) - {log.user}
        return tuple(sorted(user for user in counted if user in holders or group.is_present(user)))
    if conversation.naming.dm is None:
        return ()
    return tuple(sorted(set(conversation.naming.dm) - {log.user})) or (log.user,)
