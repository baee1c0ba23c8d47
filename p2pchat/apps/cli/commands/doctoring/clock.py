"""The clock: order and times of messages come from the clocks of those who wrote them, so a wrong one is seen.

What a message's writer says and when it came here differ by the way it took and by the two clocks. The smallest such
difference of a writer's messages is close to the difference of the clocks; two writers who agree outvote this one.
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
ENOUGH_WRITERS = 2
ENOUGH_MESSAGES = 3  # live ones of a writer: one may have been under way for long
OLDEST = timedelta(days=2)  # messages that came before say little of the clock as it is now

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
    """Yield for each other writer of recent live messages how far this clock is ahead of theirs, by their quickest."""
    taken: dict[str, list[timedelta]] = defaultdict(list)
    labels: dict[str, str] = {}
    for post in posts:
        if isinstance(post, Message) and not post.old and post.received_at > now - OLDEST:
            taken[post.sender.id].append(post.received_at - post.sent_at)
            labels[post.sender.id] = post.sender.label
    for user, delays in taken.items():
        if min(delays) < timedelta(0) or len(delays) >= ENOUGH_MESSAGES:
            yield labels[user], min(delays)


def span(length: timedelta) -> str:
    """Return a length of time as people say it."""
    seconds = length.total_seconds()
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
