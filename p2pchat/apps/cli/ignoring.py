"""Which event lines people do not want to see: those of users they ignore."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from p2pchat import History, HostedUser, P2PChatError, TCPPeer
from p2pchat.commands.output import Line
from p2pchat.commands.settings import ChatSettings

OF_ONES_OWN = ("delivered", "read")  # what became of one's own messages, whoever has them


def hides(of: TCPPeer | HostedUser | History, line: Mapping[str, Any]) -> bool:
    """Whether an event line is of somebody who is ignored: what they wrote or did, and how they are."""
    return line["event"] not in OF_ONES_OWN and of.ignores(_whose(line))


def without_ignored(of: TCPPeer | HostedUser | History, line: Line) -> Line:
    """Return the line of a message without the reactions of those who are ignored."""
    if not line.get("reactions"):
        return line
    return {**line, "reactions": [one for one in line["reactions"] if not of.ignores(one["by_id"])]}


def _whose(line: Mapping[str, Any]) -> str:
    if line["event"] == "group":  # what somebody makes of a group is everybody's, but not their own coming and going
        return line.get("target_id") or ""
    return line.get("sender_id") or line.get("by_id") or line.get("user_id") or ""


async def take_over(peer: TCPPeer, settings: ChatSettings) -> None:
    """Have the peer remember whom an earlier version ignored."""
    for id in settings.ignored:
        with suppress(P2PChatError, ValueError):
            await peer.ignore(id)
    if settings.ignored:
        settings.ignored = set()
        with suppress(OSError):
            settings.save()
