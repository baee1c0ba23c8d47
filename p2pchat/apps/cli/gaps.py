"""The line of a message in a history, with what is known to be missing before it."""

from __future__ import annotations

from p2pchat import History, HostedUser, Message, Sent, TCPPeer
from p2pchat.commands.output import Line


async def with_gap(of: History | TCPPeer | HostedUser, post: Message | Sent) -> Line:
    """Return the line of a message; `missing` (ids) and `last_seen_with` (labels) are in it where something is."""
    line = post.to_json()
    gap = await of.missing(post) if post.gap else None
    if gap is not None:
        line |= {"missing": list(gap.missing), "last_seen_with": list(gap.last_seen_with)}
    return line
