"""Judges event logs: did the promises hold? For `p2pchat check`, for tests over real processes, and for simulations.

It reads event logs (`--json`, `--log`) and what `history --json` prints, of several peers, and knows nothing else. So
it finds what the logs contradict, and takes no silence for a fault that has an innocent reading: a peer that was killed
may have known more than it logged, and one whose log begins late may have been shown something before. Whoever knows
that the mesh had come to rest before the logs end, and that histories are whole, says `complete=True`: then what is
missing is a fault. Times of two logs are compared: the clocks of their machines should agree within a second.

| rule | what a log shows |
|---|---|
| form | a line that is no event, or lines after `stopped` |
| twice | one message id twice between two `listening`, or twice in a history |
| text | one id with another text, sender, conversation or time than its writer's, but for an edit that all know alike |
| invented | a message its writer never sent, or a receipt for one |
| order | a writer's messages in another order than they were sent, or one left out |
| answer | a message before what it answers or follows, and no gap was told |
| lost | a message that never came though the peers saw each other long enough; with `complete`, one a history lacks |
| delivered | a receipt for what the other side does not have |
| receipt | a receipt for somebody else's message, a count that falls, with `complete` one that never came |
| read | a message of this life read by somebody before it was delivered to them |
| dm | a direct message on a third peer, or a receipt of one for it |
| edit | a message edited or deleted by another than its writer; with `complete`, histories that show one differently |
| group | somebody who never belonged wrote in it, what was written behind a removal is shown by who knew of it; with
| | `complete`, a name or members that differ, or what was written behind a removal in a history |
| history | two histories that put the same messages in different orders |
| departure | a peer that is gone, and another that was not told, or told twice, or not why, or not in time |

A text never stands in a fault: logs are private.
"""

from __future__ import annotations

from base64 import b32decode
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from itertools import pairwise
from typing import NamedTuple

from p2pchat.core.sync.conversations import dm_id
from p2pchat.identity.names import base32
from p2pchat.testing.eventlog import Fault as Fault
from p2pchat.testing.eventlog import Line as Line
from p2pchat.testing.eventlog import Log as Log
from p2pchat.testing.eventlog import Session, moment, run_of, seconds
from p2pchat.testing.eventlogs import departures, edits, stores
from p2pchat.testing.eventlogs.memberships import Memberships

IN_SIGHT = 60.0  # seconds two peers see each other after which a message must have come: order_wait and a redial fit in
_FIXED = ("text", "sender_id", "conversation_id", "sent_at", "kind", "action", "reply_to", "after")


def check(logs: Sequence[Log], *, complete: bool = False, timely: bool = True) -> list[Fault]:
    """Return every broken promise these logs prove; [] when none.

    Args:
        logs: Of as many peers as there are; several of one peer (its log and its history) are fine.
        complete: Everything had come to rest before the logs end, so whatever is missing was lost.
        timely: Nothing was held back on purpose and every disk had room, so departures must have been told in time, and
            what was sent must have come while the two saw each other.
    """
    events = [log for log in logs if not log.is_history]
    writers = _writers(events, complete, timely)
    found = [fault for log in logs for fault in _form(log)]
    found += [fault for log in logs for fault in _twice(log)]
    found += [fault for log in logs for fault in _numbers(log)]
    found += _texts(logs, writers)
    found += edits.judge(logs, complete=complete)
    found += _dms(events)
    for log in events:
        found += _answers(log)
        found += _own_receipts(log, writers.get(log.user_id))
        found += departures.alternate(log) if timely else []
    for log in events:
        for other in events:
            if log.user_id and other.user_id and log.user_id != other.user_id:
                found += _between(writers[log.user_id], log, other, complete, timely)
                if timely and writers[log.user_id].is_one:
                    found += departures.between(log, other)
    histories = [log for log in logs if log.is_history]
    groups = Memberships(events)
    found += groups.judge(histories, complete=complete)
    found += stores.judge(histories, events, groups, complete=complete)
    return found


# ---- one log


def _form(log: Log) -> Iterator[Fault]:
    for number, wrong in log.bad:
        yield Fault("form", wrong, f"{log.name}:{number}")
    for session in log.sessions:
        ended = False
        for n, line in enumerate(session.lines):
            if ended:
                yield Fault("form", f"{line['event']} after stopped", log.where(session.number + n))
            ended = ended or line["event"] == "stopped"


def _twice(log: Log) -> Iterator[Fault]:
    for session in log.sessions:
        seen: dict[str, int] = {}
        for number, line in session.of("sent", "message"):
            if line["id"] in seen:
                yield Fault("twice", f"{line['id']} again, after line {seen[line['id']] + 1}", log.where(number))
            seen.setdefault(line["id"], number)


def _numbers(log: Log) -> Iterator[Fault]:
    """What one process wrote in one conversation stands in the order of its numbers, whoever's log is missing."""
    newest: dict[str, int] = {}
    for message, place in log.places.items():
        run, number = run_of(message)
        if number and number < newest.get(run, 0):
            yield Fault("order", f"{message} after {run}.{newest[run]}, which was written later", log.where(place))
        newest[run] = max(number, newest.get(run, 0))


def _answers(log: Log) -> Iterator[Fault]:
    """What stands here before a message that it answers or follows must have been told as a gap."""
    gaps = {line.get("about") for line in log.lines if line["event"] == "gap"}
    for message, place in log.places.items():
        line = log.lines[place]
        if line["event"] == "sent" or message in gaps or line.get("gap"):
            continue
        for named in (line.get("reply_to"), *(line.get("after") or ())):
            if named and log.places.get(named, -1) > place:
                text = f"{message} before {named}, which it answers or follows, and no gap was told"
                yield Fault("answer", text, log.where(place))


def _own_receipts(log: Log, writer: _Writer | None) -> Iterator[Fault]:
    for session in log.sessions:
        told: set[tuple[str, str, str]] = set()
        counts: dict[tuple[str, str], int] = {}  # in one life: marks heard just before its end need not have been saved
        written = _written_in(session)
        for number, line in session.of("delivered", "read"):
            event, message, user = line["event"], line["id"], line["user_id"]
            for rule, text in _wrong_receipt(line, log, writer):
                yield Fault(rule, text, log.where(number))
            if (event, message, user) in told:
                text = f"{message} {event} {'by' if event == 'read' else 'to'} one user twice"
                yield Fault("receipt", text, log.where(number))
            told.add((event, message, user))
            if event == "read" and message in written and ("delivered", message, user) not in told:
                yield Fault("read", f"{message} read by one to whom it was not delivered", log.where(number))
            count = line.get("count", 0)
            if count < counts.get((event, message), 0):
                yield Fault("receipt", f"the count of {message} fell", log.where(number))
            counts[event, message] = count


def _written_in(session: Session) -> set[str]:
    """Return what was written in this life, and not shown again from a former one.

    Of what a former life wrote, the disk may know who has it; that is not told again, and the line of it may have died
    with the process: then the first that is told of it may be that it was read.
    """
    if not session.whole:
        return set()
    begins = seconds(session.lines[0])
    return {line["id"] for _, line in session.of("sent") if moment(line["sent_at"]) >= begins}


def _wrong_receipt(line: Line, log: Log, writer: _Writer | None) -> Iterator[tuple[str, str]]:
    """Yield (rule, sentence) of what is wrong with one receipt, whatever others there are."""
    message = line["id"]
    if message in log.received:
        yield "receipt", f"{message} is somebody else's"
    elif message not in log.sent and writer is not None and writer.had_to_log(message):
        yield "invented", f"{message} was never sent here, and is said to be {line['event']}"
    sent = log.sent.get(message, line)
    of_two = _dm(log.user_id, line["user_id"])
    to = sent.get("to_id")
    if (to and to != line["user_id"]) or (of_two and sent.get("kind") == "dm" and sent["conversation_id"] != of_two):
        yield "dm", f"{message} is a direct message, and somebody else is said to have it"


# ---- who had to log what


class _Life(NamedTuple):
    begins: float
    ends: float
    whole: bool  # all it sent is logged: it ended in good order, or everything had come to rest


class _Writer:
    """All event logs of one user. Several are of one peer, or of several on which that user writes."""

    def __init__(self, logs: Sequence[Log], complete: bool, timely: bool) -> None:
        self.logs = logs
        self._timely = timely
        self._complete = complete

    @property
    def is_one(self) -> bool:
        return len(self.logs) == 1

    @cached_property
    def sent(self) -> Mapping[str, Line]:
        return {message: line for log in self.logs for message, line in log.sent.items()}

    @cached_property
    def _lives(self) -> list[_Life]:
        found = []
        for log in self.logs:
            for life in log.sessions:
                last = self._complete and life is log.sessions[-1]
                ends = seconds(life.stopped) if life.stopped else seconds(life.lines[-1])
                whole = life.whole and (life.stopped is not None or last)
                found.append(_Life(seconds(life.lines[0]), float("inf") if last else ends, whole))
        return found

    @cached_property
    def _runs(self) -> dict[str, tuple[int, int, bool]]:
        """Of each log written here: its lowest and highest number logged, and whether that life is whole."""
        found: dict[str, tuple[int, int, bool]] = {}
        lives = iter(self._lives)
        for log in self.logs:
            for life in log.sessions:
                whole = next(lives).whole
                for _, line in life.of("sent"):
                    run, number = run_of(line["id"])
                    low, high, was = found.get(run, (number, number, False))
                    found[run] = min(low, number), max(high, number), was or whole
        return found

    def had_to_log(self, message: str, sent_at: float | None = None) -> bool:
        """Say whether these logs must hold this message if its writer sent it.

        They may lack what a process sent that was killed, and what one sent that was not logged at all.
        """
        run, number = run_of(message)
        if run in self._runs:
            low, high, whole = self._runs[run]
            return low <= number <= high or (whole and number > high)
        if not self._timely:  # clocks jump, and every life is logged
            return not any(log.killed for log in self.logs)
        return sent_at is not None and any(life.whole and life.begins <= sent_at <= life.ends for life in self._lives)


def _writers(events: Sequence[Log], complete: bool, timely: bool) -> dict[str, _Writer]:
    by_user: dict[str, list[Log]] = {}
    for log in events:
        if log.user_id:
            by_user.setdefault(log.user_id, []).append(log)
    return {user: _Writer(logs, complete, timely) for user, logs in by_user.items()}


# ---- all logs


def _texts(logs: Sequence[Log], writers: Mapping[str, _Writer]) -> Iterator[Fault]:
    """One id is one message, the same wherever it stands; and its writer sent it."""
    first: dict[str, tuple[Log, Line]] = {}
    for log in sorted(logs, key=lambda log: log.is_history):  # a writer's own word first
        for message, line in log.sent.items():
            if line["sender_id"] == log.user_id:
                first.setdefault(message, (log, line))
    for log in logs:
        for number, line in enumerate(log.lines):
            if line["event"] not in ("sent", "message"):
                continue
            message = line["id"]
            source, known = first.setdefault(message, (log, line))
            edited = "mended_id" in line or "mended_id" in known  # then its text may be another (edits.py)
            fixed = _FIXED[1:] if edited else _FIXED
            other = [name for name in fixed if name in line and name in known and line[name] != known[name]]
            if other:
                text = f"{message} has another {', '.join(other)} than in {source.place_of(message)}"
                yield Fault("text", text, log.where(number))
            writer = writers.get(line["sender_id"])
            if writer and message not in writer.sent and writer.had_to_log(message, moment(line["sent_at"])):
                yield Fault("invented", f"{message} was never sent by its writer", log.where(number))


def _dms(logs: Sequence[Log]) -> Iterator[Fault]:
    holders: dict[str, list[Log]] = {}
    for log in logs:
        for conversation in sorted({x["conversation_id"] for x in log.lines if x.get("kind") == "dm" and "id" in x}):
            holders.setdefault(conversation, []).append(log)
    for log in logs:
        for number, line in enumerate(log.lines):
            if line["event"] == "message" and line.get("kind") == "dm":
                of_two = _dm(log.user_id, line["sender_id"])
                if of_two and of_two != line["conversation_id"]:
                    yield Fault("dm", f"{line['id']} is a direct message for somebody else", log.where(number))
    for conversation, holding in holders.items():
        for third in holding[2:]:
            if len({log.user_id for log in holding}) > 2 and not _dm(third.user_id, third.user_id):
                yield Fault("dm", f"holds the direct conversation {conversation[:8]} of two others", third.name)


@cache
def _dm(one: str, other: str) -> str:
    """Return the id of the direct conversation of two users; "" when these are no user ids."""
    try:
        users = [b32decode(f"{user}====") for user in (one, other)]
    except ValueError:
        return ""
    return base32(dm_id(users[0].hex(), users[1].hex())) if all(len(user) == 32 for user in users) else ""


# ---- two logs: one writes, the other reads


def _between(wrote: _Writer, writer: Log, reader: Log, complete: bool, timely: bool) -> Iterator[Fault]:
    """Judge what one peer sent and the other received."""
    if not writer.restored:
        for_reader = _for_reader(writer, reader)
        if wrote.is_one:  # else what one peer of a user sent stands among what another did, as it came there
            yield from _order(writer, for_reader, reader, complete)
        yield from _lost(writer, reader, for_reader, complete, timely)
    yield from _delivered(writer, reader, complete, timely)
    if complete:
        yield from _unreceipted(writer, reader)


def _for_reader(writer: Log, reader: Log) -> dict[str, list[str]]:
    """Return the ids the reader is to get, in the order sent, by conversation."""
    dms = {line["conversation_id"] for line in reader.received.values() if line.get("kind") == "dm"}
    dms |= {line["conversation_id"] for line in reader.sent.values() if line.get("kind") == "dm"}
    dms.add(_dm(writer.user_id, reader.user_id))
    found: dict[str, list[str]] = {}
    for message, line in writer.sent.items():
        conversation = line["conversation_id"]
        if line.get("kind") == "room" or conversation in dms or line.get("to_id") == reader.user_id:
            found.setdefault(conversation, []).append(message)
    return found


def _order(writer: Log, sent: Mapping[str, list[str]], reader: Log, complete: bool) -> Iterator[Fault]:
    """In order, and none left out before one that came. A gap excuses neither: it is about what others wrote."""
    if any(line["event"] == "warning" and line.get("code") == "fork" for line in reader.lines):
        return  # what a forked log held is not passed on
    came = {message: n for n, message in enumerate(reader.received)}
    for messages in sent.values():
        latest, latest_id, left_out = -1, "", ""
        for message in messages:
            at = came.get(message)
            if at is None:
                if complete or seconds(writer.sent[message]) >= reader.began:  # else it was shown before, perhaps
                    left_out = left_out or message
                continue
            if at < latest and run_of(message)[0] != run_of(latest_id)[0]:  # within one it is told by _numbers
                text = f"{message} came before {latest_id}, which was sent before it ({writer.place_of(latest_id)})"
                yield Fault("order", text, reader.place_of(message))
            if left_out:
                text = f"{message} came, and {left_out}, sent before it ({writer.place_of(left_out)}), did not"
                yield Fault("order", text, reader.place_of(message))
                left_out = ""
            if at > latest:
                latest, latest_id = at, message


def _lost(writer: Log, reader: Log, sent: Mapping[str, list[str]], complete: bool, timely: bool) -> Iterator[Fault]:
    sights = departures.sights(reader, writer.user_id) if timely else []
    for messages in sent.values():
        for message in messages:
            if message in reader.received:
                continue
            at = seconds(writer.sent[message])
            seen = max((end - max(start, at) for start, end in sights), default=0.0) if at >= reader.began else 0.0
            if complete or seen >= IN_SIGHT:
                yield Fault("lost", f"{message}, sent in {writer.place_of(message)}, never came", reader.name)


def _delivered(writer: Log, reader: Log, complete: bool, timely: bool) -> Iterator[Fault]:
    """A receipt says it is on the reader's disk, so the reader's program gets it, in this life or the next."""
    for number, line in enumerate(writer.lines):
        if line["event"] != "delivered" or line["user_id"] != reader.user_id or line["id"] in reader.received:
            continue
        at = seconds(line)
        if complete or (timely and at >= reader.began and reader.ended - at >= IN_SIGHT):
            text = f"{line['id']} is said to be delivered to {reader.name}, and it is not there"
            yield Fault("delivered", text, writer.where(number))


def _unreceipted(writer: Log, reader: Log) -> Iterator[Fault]:
    if writer.sessions[-1].stopped or reader.sessions[-1].stopped:
        return  # they may not have met again
    told = {line["id"] for line in writer.lines if line["event"] == "delivered" and line["user_id"] == reader.user_id}
    lives = pairwise(writer.sessions)
    since = max((seconds(later.lines[0]) for former, later in lives if not former.stopped), default=0.0)
    for message, came in reader.received.items():
        line = writer.sent.get(message)
        if line is None or message in told:
            continue
        # What was heard in a former life is known to the disk and not told again: the line of it may have died with the
        # process.
        if moment(line["sent_at"]) >= since or seconds(came) >= since + departures.SLACK:
            text = f"{message} is with {reader.name} ({reader.place_of(message)}), and no receipt came"
            yield Fault("receipt", text, writer.place_of(message))
