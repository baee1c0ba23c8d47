"""What is known to be missing before a message: entries it follows that are not here.

None of this is stored for itself. A message names what its writer had seen, and its gap mark says that it was shown
without some of that; whether it still is not here is looked up. Who had it follows from the same: its own writer, and
whoever wrote after seeing it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from p2pchat.core.log import Ref, referred_id
from p2pchat.core.records import LogKey
from p2pchat.messaging.events import Gap
from p2pchat.messaging.messages import Post
from p2pchat.messaging.users import People
from p2pchat.peer.messages.conversation import Desk
from p2pchat.protocol import UserId
from p2pchat.storage.base import Storage

Read = Callable[[Callable[[], list[Ref]]], Awaitable[list[Ref]]]


async def find_gap(desk: Desk, storage: Storage, read: Read, post: Post) -> Gap | None:
    """Return what a message follows and is not here; None when nothing is missing, or not any more."""
    if not post.gap:
        return None

    def look() -> list[Ref]:
        keys = {ref: LogKey(post.log.conversation, ref.log) for ref in post.follows}
        held = storage.lookup(list(keys.values()), [])[0]
        here = {ref for ref, key in keys.items() if key in held and (held[key].released >= ref.seq or held[key].forked)}
        return [ref for ref in keys if ref not in here]

    missing = await read(look)
    if not missing:
        return None
    ids = tuple(referred_id(post.log.conversation, ref) for ref in missing)
    seen = who_had(desk.people, post.log.user, missing)
    return Gap(at=post.received_at, about=post.id, missing=ids, last_seen_with=seen)


def who_had(people: People, follower: UserId, missing: Sequence[Ref], others: Sequence[UserId] = ()) -> tuple[str, ...]:
    """Return the labels of those who had these: `others`, who wrote them, and who wrote something that follows them."""
    had = {follower, *others, *(user for user in people.known for ref in missing if user.startswith(ref.log[:16]))}
    return tuple(sorted(people.label(user) for user in had - {people.me}))
