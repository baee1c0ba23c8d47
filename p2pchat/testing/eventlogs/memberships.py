"""What event logs say of groups: who belongs to them is the same for everybody, and what is behind a cut is nowhere.

A removal hides what the removed one wrote behind it, once it is known, also where it was shown before. So of those who
were ever removed or left it is no fault that something is gone, and only members need hold what a group has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from p2pchat.testing.eventlog import Fault, Line, Log

_GONE = ("removed", "left")


class Memberships:
    """What the event logs of a mesh tell of its groups.

    Args:
        events: Event logs, no histories.
    """

    def __init__(self, events: Sequence[Log]) -> None:
        self._events = events

    @cached_property
    def undelivered(self) -> dict[str, str]:
        """The messages behind a cut, as their writers were told: id -> user id of the writer."""
        told = ((log, line) for log in self._events for line in log.lines if line.get("code") == "undelivered")
        return {id: log.user_id for log, line in told for id in line.get("undelivered") or ()}

    @cached_property
    def gone(self) -> set[tuple[str, str]]:
        """(conversation id, user id) of everybody who ever was removed, or left."""
        lines = (line for log in self._events for line in log.lines if line["event"] == "group")
        return {(line["conversation_id"], str(line.get("target_id"))) for line in lines if line["change"] in _GONE}

    @cached_property
    def members(self) -> dict[str, set[str]]:
        """The user ids of those who belong to each group at the end, as whoever was told last says."""
        last: dict[str, Line] = {}
        for log in self._events:
            for group, (_, line) in _last(log).items():
                if group not in last or last[group]["at"] < line["at"]:
                    last[group] = line
        return {group: set(line["member_ids"]) for group, line in last.items()}

    def holds(self, conversation: str, user: str) -> bool:
        """Whether this user has to hold what is in a conversation that others hold: no group, or one of theirs."""
        return conversation not in self.members or user in self.members[conversation]

    def may_be_gone(self, message: Line) -> bool:
        """Whether a message may be nowhere although it was sent: its writer was cut off from its group."""
        return (message["conversation_id"], message["sender_id"]) in self.gone

    def judge(self, histories: Sequence[Log], *, complete: bool) -> Iterator[Fault]:
        """Judge event logs, and histories against them; `complete` as for the checker."""
        for log in self._events:
            yield from _outsiders(log)
            yield from self._behind_cuts(log)
        if complete:
            yield from self._differences()
            for history in histories:
                yield from self._kept_behind_cuts(history)

    def _behind_cuts(self, log: Log) -> Iterator[Fault]:
        """Who knows of a removal shows nothing that was written behind it."""
        removed: set[tuple[str, str]] = set()
        for number, line in enumerate(log.lines):
            if line["event"] == "group" and line["change"] == "removed":
                removed.add((line["conversation_id"], str(line.get("target_id"))))
            elif line["event"] == "message" and line["id"] in self.undelivered:
                if (line["conversation_id"], line["sender_id"]) in removed:
                    text = f"{line['id']} was written behind a removal that was known here, and is shown"
                    yield Fault("group", text, log.where(number))

    def _kept_behind_cuts(self, history: Log) -> Iterator[Fault]:
        for message in self.undelivered.keys() & history.places.keys():
            yield Fault("group", f"{message} was written behind a removal, and stands here", history.place_of(message))

    def _differences(self) -> Iterator[Fault]:
        """At rest everybody who was told of a group says the same of it."""
        first: dict[str, tuple[Log, int, Line]] = {}
        for log in self._events:
            if log.restored or any(life.stopped is None for life in log.sessions[:-1]):
                continue  # what it was told just before it was killed need not be logged
            for group, (number, line) in _last(log).items():
                source, at, known = first.setdefault(group, (log, number, line))
                if (set(line["member_ids"]), line["group"]) != (set(known["member_ids"]), known["group"]):
                    text = f"the group {group[:8]} has another name or other members than in {source.where(at)}"
                    yield Fault("group", text, log.where(number))


def _last(log: Log) -> dict[str, tuple[int, Line]]:
    """Return the last line that this log has of each group, and its number."""
    lines = ((number, line) for number, line in enumerate(log.lines) if line["event"] == "group")
    return {line["conversation_id"]: (number, line) for number, line in lines}


def _outsiders(log: Log) -> Iterator[Fault]:
    """Nobody writes in a group who never belonged to it, as far as all of it was told here."""
    ever: dict[str, set[str]] = {}
    for number, line in enumerate(log.lines):
        group = line.get("conversation_id", "")
        if line["event"] == "group" and (line["change"] == "created" or group in ever):
            ever.setdefault(group, set()).update(line["member_ids"])
        elif line["event"] == "message" and group in ever and line["sender_id"] not in ever[group]:
            yield Fault("group", f"{line['id']} is by somebody who never belonged to its group", log.where(number))
