"""Edits, deletions and reactions: what such an entry may hold, and which of several counts.

They are entries of their own that change how another entry is shown. The other entry stays in its log as written. The
newest edit or deletion by its writer counts, the newest reaction of each person, and the newest pin of all people. The
newest has the greatest (c, user, run, seq), as in history, so all peers show the same for any order of arrival. An edit
of a message with choices leaves it as first written: whoever pressed one answered that text. causal_order.py releases
these entries like any other.

Source: docs/protocol-entries.md, "Edits, deletions, reactions".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from p2pchat.core.durable_changes import Record, Relation
from p2pchat.core.log import Entry, LogId, RawEntry, choices_of, decode_entry
from p2pchat.kinds import KINDS, RELATION_KINDS
from p2pchat.kinds.edit import EDIT
from p2pchat.kinds.kind import Kind
from p2pchat.protocol import UserId

Place = Callable[[UserId], UserId | None]


class RelatedEntry(Record):
    """A released entry about another. `received_at` is in UTC microseconds."""

    log: LogId
    seq: int
    aspect: str
    entry: Entry
    received_at: int


class EntryEdits(Record):
    """Those that count of all that is about one entry: of each aspect the newest of its writer, or of each person.

    Attributes:
        changes: These entries, the oldest first; also those that take something back.
    """

    changes: tuple[RelatedEntry, ...]

    @property
    def newest(self) -> RelatedEntry | None:
        """The newest edit or deletion by its writer; None for neither."""
        return next((one for one in self.changes if one.aspect == EDIT.aspect), None)

    def clock_before(self, kind: Kind, user: UserId) -> int:
        """Return the newest clock of what a change by a user takes the place of, or ends: that is all it exceeds."""
        return max((one.entry.c for one in self.changes if _is_outdone(one, kind, user)), default=0)

    def of(self, kind: Kind, place: Place = lambda user: user) -> list[RelatedEntry]:
        """Return those of a kind that count: of each person, or of all of them.

        Args:
            place: Returns where a user counts: at its member, or by itself; None of one who counts for nothing.
        """
        found = [one for one in self.changes if one.entry.k == kind.name and place(one.log.user) is not None]
        return found[-1:] if kind.shared else _newest_of_each(found, kind, place)

    def said(self, kind: Kind, place: Place = lambda user: user) -> list[RelatedEntry]:
        """Return what people say, without what they took back; `place` as in `of`."""
        return [one for one in self.of(kind, place) if one.entry.b]


def _newest_of_each(found: list[RelatedEntry], kind: Kind, place: Place) -> list[RelatedEntry]:
    """Return those that count where a place has a number of them; what takes something back takes none."""
    if not kind.each:
        return found
    said, left = Counter[UserId | None](), list[RelatedEntry]()
    for one in reversed(found):
        at = place(one.log.user)
        said[at] += bool(one.entry.b)
        if not one.entry.b or said[at] <= kind.each:
            left.append(one)
    return left[::-1]


def _is_outdone(one: RelatedEntry, kind: Kind, user: UserId) -> bool:
    is_same = one.aspect == kind.aspect and (kind.shared or one.log.user == user)
    return is_same or KINDS[one.entry.k].until == kind.aspect


def edits_of(message: RawEntry, candidates: Iterable[RelatedEntry]) -> EntryEdits | None:
    """Return what the newest of each person and aspect make of a message; None for nothing."""
    changes = [
        one
        for one in sorted(candidates, key=lambda one: (one.entry.c, *one.log[1:], one.seq))
        if KINDS[one.entry.k].on in ("", decode_entry(message).k)
        if not (KINDS[one.entry.k].is_edit and choices_of(decode_entry(message)))
    ]
    return EntryEdits(tuple(changes)) if changes else None


def relation_of(log: LogId, seq: int, entry: Entry) -> Relation | None:
    """Return what an entry of this log does to another; None when it does nothing.

    An edit or a deletion applies only to an entry of the same writer. An entry of another shape does nothing, and is no
    fault: peers of the first version store it and pass it on.
    """
    if entry.k not in RELATION_KINDS or entry.re is None:
        return None
    kind = KINDS[entry.k]
    is_faulty = kind.fault(log.user, entry.b, entry.re.log)
    return None if is_faulty else Relation(log, seq, entry.c, entry.re, kind.aspect)
