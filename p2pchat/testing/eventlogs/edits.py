"""What event logs say of edits, deletions and reactions: only the writer's own, and everywhere the same.

A message may say another text than its writer sent at first: then it says by which edit (`mended_id`), and two logs
that know of the same edit have the same text of it. What counts at last is the same in histories made at rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

from p2pchat.testing.eventlog import POSTS, Fault, Line, Log

MENDINGS = ("edited", "deleted", "reaction")
_SAME = ("event", "id", "by_id", "text", "reaction", "sent_at")


def judge(logs: Sequence[Log], *, complete: bool) -> Iterator[Fault]:
    """Judge these logs against each other; histories too when they were made at rest (`complete`)."""
    yield from _entries(logs)
    yield from _authors(logs)
    yield from _versions(logs)
    if complete:
        for one, other in combinations([log for log in logs if log.is_history], 2):
            yield from _views(one, other)


def _lines(logs: Sequence[Log], events: Sequence[str]) -> Iterator[tuple[Log, int, Line]]:
    return ((log, number, line) for log in logs for number, line in enumerate(log.lines) if line["event"] in events)


def _entries(logs: Sequence[Log]) -> Iterator[Fault]:
    """One edit, deletion or reaction is the same in every log."""
    first: dict[str, tuple[Log, int, Line]] = {}
    for log, number, line in _lines(logs, MENDINGS):
        source, at, known = first.setdefault(line["entry_id"], (log, number, line))
        other = [name for name in _SAME if line.get(name) != known.get(name)]
        if other:
            text = f"{line['entry_id']} has another {', '.join(other)} than in {source.where(at)}"
            yield Fault("text", text, log.where(number))


def _authors(logs: Sequence[Log]) -> Iterator[Fault]:
    """Who did not write a message does not edit or delete it."""
    writers = {line["id"]: line["sender_id"] for _, _, line in _lines(logs, POSTS)}
    for log, number, line in _lines(logs, ("edited", "deleted")):
        if writers.get(line["id"], line["by_id"]) != line["by_id"]:
            yield Fault("edit", f"{line['id']} is {line['event']} by somebody who did not write it", log.where(number))


def _versions(logs: Sequence[Log]) -> Iterator[Fault]:
    """What a message says after an edit is what that edit says, in every log."""
    said: dict[str, tuple[Log, int, str]] = {}
    for log, number, line in _lines(logs, ("edited", "deleted", *POSTS)):
        edit = line.get("mended_id") if line["event"] in POSTS else line["entry_id"]
        if edit is None:
            continue
        text = line.get("text", "")
        source, at, known = said.setdefault(edit, (log, number, text))
        if text != known:
            told = f"{line['id']} has another text after an edit than in {source.where(at)}"
            yield Fault("text", told, log.where(number))


def _views(one: Log, other: Log) -> Iterator[Fault]:
    """Two histories made at rest show each message alike."""
    for message, place in other.places.items():
        at = one.places.get(message)
        if at is not None and _view(one.lines[at]) != _view(other.lines[place]):
            text = f"{message} is edited, deleted or reacted to otherwise than in {one.where(at)}"
            yield Fault("edit", text, other.where(place))


def _view(line: Line) -> Any:
    reactions = [(each.get("reaction"), each.get("by_id")) for each in line.get("reactions", ())]
    return line["text"], line.get("mended_id"), line.get("deleted", False), reactions
