"""Edits, deletions and reactions: entries of their own that change how another is shown.

The entry they name stays in its log as it was written; what is shown is worked out. Of the edits and deletions of its
writer the newest counts, of the reactions of each person the newest; the newest has the greatest (c, user, run, seq),
as in history, so that all peers show the same whatever order things came in. This file says what such an entry may
hold and which of several counts; that it is released like any other entry, causal_order.py sees to.

Source: docs/protocol.md, "Edits, deletions, reactions".
"""

from __future__ import annotations

from typing import Any

from p2pchat.core.log import Entry, LogId, Ref
from p2pchat.core.records import Mending
from p2pchat.protocol import MAX_REACTION_CHARACTERS, UserId

MENDING = frozenset({"edit", "delete", "reaction"})  # the kinds that do nothing but change another


def mending_of(log: LogId, seq: int, entry: Entry) -> Mending | None:
    """Return what an entry of this log does to another; None when it does nothing to any.

    An edit or a deletion does something to what its own writer wrote, and to nothing else. One of another shape than
    is written here does nothing, and is no fault: peers of the first version keep it and pass it on.
    """
    if entry.k not in MENDING or entry.re is None or shape_fault(entry.k, entry.b, entry.re):
        return None
    if entry.k != "reaction" and not is_own(log.user, entry.re):
        return None
    return Mending(log, seq, entry.c, entry.re, entry.k == "reaction")


def is_own(user: UserId, re: Ref) -> bool:
    """Say whether a reference names an entry of this user."""
    return re.log.startswith(user[:16])


def shape_fault(kind: str, body: Any, re: Ref | None) -> str:
    """Return what an entry of one of these kinds may not be, as a sentence; "" for a good one.

    That a text is one, and how long it may be, is asked of every kind that has one (validation.py, writing.py).
    """
    if re is None:
        return f"{'an' if kind == 'edit' else 'a'} {kind} that names no entry"
    if kind == "delete" and body is not None:
        return "a delete that says something"
    if kind == "reaction" and isinstance(body, str) and len(body) > MAX_REACTION_CHARACTERS:
        return f"a reaction above {MAX_REACTION_CHARACTERS} characters"
    return ""


def newness(mending: Mending) -> tuple[int, UserId, str, int]:
    """Return what the newest has the greatest of: its place in history."""
    return mending.c, mending.log.user, mending.log.run, mending.seq
