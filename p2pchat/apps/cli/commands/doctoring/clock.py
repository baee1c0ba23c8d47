"""The clock: order and times of messages come from the clocks of those who wrote them, so a wrong one is seen.

What a message's writer says and when it came here differ by the way it took and by the two clocks. A message that came
before it was written shows another clock ahead of this one. One that came late was perhaps only under way: a machine
that sleeps gets all at once, and each waited for another time. Messages of different moments that took the same time
did not wait, so what they took is the difference of the clocks. Two writers who agree outvote this machine.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from p2pchat import Message, Sent
from p2pchat.apps.cli.commands.doctoring.finding import Finding, ok, warning, wrong

EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)  # before p2pchat
TOLERATED = timedelta(minutes=1)
OLDEST = timedelta(days=2)  # messages that came before say little of the clock as it is now
SAME = timedelta(seconds=10)  # ways of about the same length; a guess
APART = timedelta(minutes=1)  # moments that are not one burst
ENOUGH_WRITERS = 2  # who agree: of one alone nobody knows whose clock is off

SET = {
    "linux": "sudo timedatectl set-ntp true",
    "darwin": "sudo sntp -sS time.apple.com",
    "win32": "w32tm /resync",
}


def clock(now: datetime, posts: Sequence[Message | Sent]) -> Finding:
    """Compare the clock with what is stored here; `posts` are the newest messages."""
    mend = f"set the clock: {SET.get(sys.platform, SET['linux'])}"
    if now < EARLIEST:
        return wrong("clock", f"it says {now:%Y-%m-%d}, which is long ago", mend)
    latest = max((post.received_at for post in posts), default=now)
    if latest > now + TOLERATED:
        text = f"messages were received here {span(latest - now)} from now: the clock went back, or was ahead then"
        return wrong("clock", text, mend)
    offsets = dict(_offsets(now, posts))
    ahead = [-offset for offset in offsets.values() if offset < -TOLERATED]  # others are
    behind = [offset for offset in offsets.values() if offset > TOLERATED]
    if len(ahead) >= ENOUGH_WRITERS and len(ahead) * 2 > len(offsets):
        return wrong("clock", f"it is {span(min(ahead))} or more behind those of {len(ahead)} others", mend)
    if len(behind) >= ENOUGH_WRITERS and len(behind) * 2 > len(offsets):
        return wrong("clock", f"it is {span(min(behind))} or more ahead of those of {len(behind)} others", mend)
    for label, offset in offsets.items():
        if abs(offset) > TOLERATED:
            text = f"it and that of {label} differ by {span(abs(offset))}; one of the two is off"
            return warning("clock", text, mend)
    return ok("clock", f"{now.astimezone():%Y-%m-%d %H:%M:%S %z}" + (", as others have it" if offsets else ""))


def _offsets(now: datetime, posts: Sequence[Message | Sent]) -> Iterator[tuple[str, timedelta]]:
    """Yield for each other writer of recent live messages how far this clock is ahead of theirs, where that shows."""
    of: dict[str, list[Message]] = defaultdict(list)
    for post in posts:
        if isinstance(post, Message) and not post.old and post.received_at > now - OLDEST:
            of[post.sender.id].append(post)
    for messages in of.values():
        least = min(map(_took, messages))
        if least < TOLERATED or _did_not_wait(messages, least):
            yield messages[0].sender.label, least


def _took(message: Message) -> timedelta:
    return message.received_at - message.sent_at


def _did_not_wait(messages: Sequence[Message], least: timedelta) -> bool:
    """Whether the quickest of these, of different moments, took about the same time."""
    moments = [message.sent_at for message in messages if _took(message) - least < SAME]
    return max(moments) - min(moments) >= APART


def span(length: timedelta) -> str:
    """Return a length of time as people say it."""
    seconds = length.total_seconds()
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
