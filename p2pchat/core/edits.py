"""Edits, deletions and reactions: what such an entry may hold, and which of several counts.

They are entries of their own that change how another entry is shown. The other entry stays in its log as written. The
newest edit or deletion by its writer counts, and the newest reaction of each person. The newest has the greatest
(c, user, run, seq), as in history, so all peers show the same for any order of arrival. An edit of a message with
choices leaves it as first written: whoever pressed one answered that text. causal_order.py releases these entries like
any other.

Source: docs/protocol-entries.md, "Edits, deletions, reactions".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from p2pchat.core.durable_changes import Relation
from p2pchat.core.entry_kinds import KINDS, RELATION_KINDS
from p2pchat.core.log import Entry, LogId, RawEntry, Ref, choices_of, decode_entry
from p2pchat.protocol import MAX_REACTION_CHARACTERS, UserId

Candidate = tuple[Relation, RawEntry, int]  # the newest of one person for one message, its entry, and when it came


@dataclass(frozen=True, slots=True)
class RelatedEntry:
    """A released edit, deletion or reaction of another entry. `received_at` is in UTC microseconds."""

    log: LogId
    seq: int
    raw: RawEntry = field(repr=False)
    received_at: int


@dataclass(frozen=True, slots=True)
class EntryEdits:
    """The changes made to one entry after it was written.

    Attributes:
        newest: The newest edit or deletion by its writer; None for neither.
        reactions: The newest reaction of each person, oldest first. Reactions that were taken back are left out.
    """

    newest: RelatedEntry | None
    reactions: tuple[RelatedEntry, ...] = ()


def edits_of(user: UserId, message: RawEntry, candidates: Iterable[Candidate]) -> EntryEdits | None:
    """Return what these relations make of a message that `user` wrote; None for nothing."""
    newest = None
    reactions: list[RelatedEntry] = []
    for relation, raw, received_at in sorted(candidates, key=lambda one: newness(one[0])):
        one = RelatedEntry(relation.log, relation.seq, raw, received_at)
        if relation.aspect != "reaction":
            newest = one if relation.log.user == user else newest  # not just one with the same beginning of the id
        elif decode_entry(raw).b:
            reactions.append(one)
    if newest is not None and decode_entry(newest.raw).k == "edit" and choices_of(decode_entry(message)):
        newest = None
    return EntryEdits(newest, tuple(reactions)) if newest is not None or reactions else None


def relation_of(log: LogId, seq: int, entry: Entry) -> Relation | None:
    """Return what an entry of this log does to another; None when it does nothing.

    An edit or a deletion applies only to an entry of the same writer. An entry of another shape does nothing, and is no
    fault: peers of the first version store it and pass it on.
    """
    if entry.k not in RELATION_KINDS or entry.re is None or shape_fault(entry.k, entry.b, entry.re):
        return None
    kind = KINDS[entry.k]
    if kind.about == "own" and not is_own(log.user, entry.re):
        return None
    return Relation(log, seq, entry.c, entry.re, kind.aspect)


def is_own(user: UserId, re: Ref) -> bool:
    """Return whether a reference names an entry of this user."""
    return re.log.startswith(user[:16])


def shape_fault(kind: str, body: Any, re: Ref | None) -> str:
    """Return what is wrong with an entry of one of these kinds, as a sentence; "" for a valid one.

    Length and type of a text are checked for every kind that has one (sync/log_validation.py, sync/appender.py).
    """
    if re is None:
        return f"{'an' if kind == 'edit' else 'a'} {kind} that names no entry"
    if KINDS[kind].body == "null" and body is not None:
        return f"a {kind} with a body"
    if kind == "reaction" and isinstance(body, str) and len(body) > MAX_REACTION_CHARACTERS:
        return f"a reaction above {MAX_REACTION_CHARACTERS} characters"
    return ""


def newness(relation: Relation) -> tuple[int, UserId, str, int]:
    """Return the sort key of the newest: its place in history."""
    return relation.c, relation.log.user, relation.log.run, relation.seq
