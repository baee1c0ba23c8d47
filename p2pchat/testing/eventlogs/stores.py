"""What `history --json` says: that all peers hold the same, in one order, and what their logs say they hold.

Two histories that put the same messages in different orders are always a fault. What is missing in one is a fault only
when everything had come to rest and the histories are whole (no `--limit`, `--since`, `--before`, `--search`); one may
be of a single conversation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

from p2pchat.testing.eventlog import Fault, Log
from p2pchat.testing.eventlogs.memberships import Memberships

MOST_NAMED = 3  # ids in one fault


def judge(histories: Sequence[Log], events: Sequence[Log], groups: Memberships, *, complete: bool) -> Iterator[Fault]:
    """Judge histories against each other, and against event logs when they are `complete`."""
    for one, other in combinations(histories, 2):
        yield from _order(one, other)
        if complete:
            yield from _same(one, other, groups)
    for history in histories if complete else ():
        for log in events:
            if history.user_id and not log.restored:
                yield from _kept(log, history, groups)
                yield from _delivered(log, history, groups)


def _order(one: Log, other: Log) -> Iterator[Fault]:
    """What two histories both hold stands in the same order in both."""
    newest, newest_id = -1, ""
    for message, place in other.places.items():
        at = one.places.get(message)
        if at is None:
            continue
        if at < newest:
            text = f"{message} stands behind {newest_id} here, and before it in {one.name}"
            yield Fault("history", text, other.where(place))
            return  # one that moved makes faults of all that it passed
        newest, newest_id = at, message


def _same(one: Log, other: Log, groups: Memberships) -> Iterator[Fault]:
    """What stands in one stands in the other, in each conversation that both show; in a group to which both belong."""
    shared = {
        conversation
        for conversation in one.conversations & other.conversations
        if all(groups.holds(conversation, log.user_id) for log in (one, other))
    }
    for has, lacks in ((one, other), (other, one)):
        missing = [message for message in has.places if message not in lacks.places]
        missing = [message for message in missing if _conversation(has, message) in shared or _is_room(has, message)]
        if missing and _may_be_expected(lacks, _conversation(has, missing[0])):
            yield Fault("lost", f"{_named(missing)}, in {has.place_of(missing[0])}, is not here", lacks.name)


def _kept(log: Log, history: Log, groups: Memberships) -> Iterator[Fault]:
    """What a peer's own log says it sent or was given is in its store; so is what others sent to the room."""
    own = log.user_id == history.user_id
    names = log.places if own else [message for message, line in log.sent.items() if line.get("kind") == "room"]
    missing = [
        message for message in names
        if message not in history.places
        and _may_be_expected(history, _conversation(log, message))
        and not groups.may_be_gone(log.lines[log.places[message]])
    ]  # fmt: skip
    if missing:
        what = "accepted or shown" if own else "sent"
        yield Fault("lost", f"{_named(missing)}, {what} in {log.place_of(missing[0])}, is not here", history.name)


def _delivered(log: Log, history: Log, groups: Memberships) -> Iterator[Fault]:
    """What is said to be delivered to this user is in this user's store."""
    for number, line in enumerate(log.lines):
        if line["event"] != "delivered" or line["user_id"] != history.user_id or line["id"] in history.places:
            continue
        known = log.sent.get(line["id"])
        if known is None or groups.may_be_gone(known):
            continue
        if _may_be_expected(history, known["conversation_id"]):
            yield Fault("delivered", f"{line['id']} is not in {history.name}", log.where(number))


def _may_be_expected(history: Log, conversation: str) -> bool:
    """Say whether a whole history would show this conversation: it does, or it shows more than one."""
    return conversation in history.conversations or len(history.conversations) > 1


def _conversation(log: Log, message: str) -> str:
    return str(log.lines[log.places[message]]["conversation_id"])


def _is_room(log: Log, message: str) -> bool:
    return log.lines[log.places[message]].get("kind") == "room"


def _named(messages: Iterable[str]) -> str:
    """Name a few of them."""
    names = list(messages)
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
