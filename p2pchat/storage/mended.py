"""What edits, deletions and reactions make of one message: the same in every storage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from p2pchat.core.log import Entry, decode_entry
from p2pchat.core.mending import newness
from p2pchat.core.records import Mending
from p2pchat.protocol import UserId
from p2pchat.storage.base import Mend, Mended, Shown

Candidate = tuple[Mending, str]  # the newest of one person for one message, and its JSON text


def shown_body(shown: Shown, entry: Entry) -> Any:
    """Return the body of an entry as it counts now: the newest one, None once it is deleted."""
    if shown.mended is None or shown.mended.newest is None:
        return entry.b
    return decode_entry(shown.mended.newest.raw).b


def mended_of(user: UserId, candidates: Iterable[Candidate]) -> Mended | None:
    """Return what the newest of each person make of a message of this user; None for nothing."""
    newest = None
    reactions: list[Candidate] = []
    for mending, raw in candidates:
        if mending.reaction:
            reactions.append((mending, raw))
        elif mending.log.user == user:  # not only one whose id begins alike
            newest = Mend(mending.log, mending.seq, raw)
    reactions.sort(key=lambda one: newness(one[0]))
    kept = tuple(Mend(one.log, one.seq, raw) for one, raw in reactions if decode_entry(raw).b)
    return Mended(newest, kept) if newest is not None or kept else None
