"""Judges event logs: did the promises hold? For `p2pchat check`, for tests over real processes, and for simulations.

It reads event logs (`--json`, `--log`: one JSON object a line) and what `history --json` prints, of several peers, and
knows nothing else. So it finds what the logs contradict, and takes no silence for a fault that has an innocent
reading: a peer that was killed may have known more than it logged. Whoever knows that the mesh had come to rest before
the logs end says `complete=True`: then what is missing is a fault.

| rule | what a log shows |
|---|---|
| form | a line that is no event, or lines after `stopped` |
| twice | one message id twice between two `listening`, or twice in a history |
| text | one id with another text, sender, conversation or time than its writer's |
| invented | a message its writer never sent |
| order | a writer's messages in another order than they were sent, or one left out without a gap |
| lost | a message that never came, though the peers saw each other long enough |
| delivered | a receipt for what the other side does not have |
| receipt | a receipt for somebody else's message, a count that falls, with `complete` one that never came |
| dm | a direct message on a third peer |
| history | two histories that put the same messages in different orders |
| departure | a peer that is gone, and another that was not told, or not why, or not in time |

A text never stands in a fault: logs are private.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

Line = dict[str, Any]

IN_SIGHT = 60.0  # seconds two peers see each other after which a message must have come: order_wait and a redial fit in
TOLD_WITHIN = {"left": 1.0, "lost": 3.0, "timeout": 35.0}  # seconds, docs/guarantees.md
SLACK = 2.0  # seconds a busy machine may be late with its lines
_NOT_JSON = "not JSON"
_FIXED = ("text", "sender_id", "conversation_id", "sent_at", "action", "reply_to")


@dataclass(frozen=True, slots=True)
class Fault:
    """A promise that was broken: `rule` is a stable word, `text` a sentence, `where` says whose log, and the line."""

    rule: str
    text: str
    where: str

    def __str__(self) -> str:
        return f"{self.where}: {self.rule}: {self.text}"


@dataclass(frozen=True, slots=True)
class Session:
    """One life of a peer: its lines from one `listening` to the next. `number` is the first line's, from 0."""

    number: int
    lines: list[Line]

    @property
    def stopped(self) -> Line | None:
        """The last line of an orderly end; None when it was killed, or still runs."""
        return next((line for line in reversed(self.lines) if line["event"] == "stopped"), None)

    def of(self, *events: str) -> Iterator[tuple[int, Line]]:
        """Yield (line number, line) of these events."""
        return ((self.number + n, line) for n, line in enumerate(self.lines) if line["event"] in events)


@dataclass(frozen=True)
class Log:
    """The lines of one peer, under a name for people.

    `bad` holds (line number from 1, what is wrong) of lines that are no events. What begins with no `listening` and
    holds only messages is a history. `restored` says that the peer's disk went back to an older copy: then it may write
    without knowing what it wrote before, and what nobody else had is lost: order and arrival are not judged.
    """

    name: str
    lines: list[Line]
    bad: list[tuple[int, str]] = field(default_factory=list)
    restored: bool = False

    @classmethod
    def read(cls, path: Path | str) -> Log:
        """Read a file. OSError when it cannot be read; what is wrong inside is in `bad`."""
        return cls.parse(str(path), Path(path).read_bytes())

    @classmethod
    def parse(cls, name: str, data: bytes) -> Log:
        """Read the bytes of a file. Half a line is no fault as the last of a life: the process was killed in it."""
        lines: list[Line] = []
        bad: list[tuple[int, str]] = []
        *whole, rest = data.split(b"\n")
        for number, raw in enumerate([*whole, rest], 1):
            if not raw.strip():
                continue
            try:
                line = json.loads(raw)
                wrong = _wrong_with(line)
            except ValueError:
                line, wrong = None, _NOT_JSON
            if not wrong:
                if line["event"] == "listening" and bad and bad[-1] == (number - 1, _NOT_JSON):
                    bad.pop()
                lines.append(line)
            elif number <= len(whole):
                bad.append((number, wrong))
        return cls(name, lines, bad)

    @cached_property
    def is_history(self) -> bool:
        return all(line["event"] in ("sent", "message") for line in self.lines)

    @cached_property
    def sessions(self) -> list[Session]:
        """Its lives, in order. Lines before the first `listening` belong to the first."""
        starts = [n for n, line in enumerate(self.lines) if line["event"] == "listening"][1:]
        cuts = [0, *starts, len(self.lines)]
        return [Session(start, self.lines[start:end]) for start, end in pairwise(cuts)]

    @cached_property
    def user_id(self) -> str:
        """Whose log it is; "" when it does not say."""
        for line in self.lines:
            if line["event"] == "listening":
                return str(line.get("user_id", ""))
            if line["event"] == "sent":
                return str(line["sender_id"])
        return ""

    @cached_property
    def sent(self) -> dict[str, Line]:
        return {line["id"]: line for line in self.lines if line["event"] == "sent"}

    @cached_property
    def received(self) -> dict[str, Line]:
        return {line["id"]: line for line in self.lines if line["event"] == "message"}

    @cached_property
    def killed(self) -> bool:
        """Some life of it ended, or ends, without `stopped`: it may have sent what it did not log."""
        return any(session.stopped is None for session in self.sessions)

    def where(self, number: int) -> str:
        return f"{self.name}:{number + 1}"


def check(logs: Sequence[Log], *, complete: bool = False, timely: bool = True) -> list[Fault]:
    """Return every broken promise these logs prove; [] when none.

    Args:
        logs: Of as many peers as there are; several of one peer (its log and its history) are fine.
        complete: Everything had come to rest before the logs end, so whatever is missing was lost.
        timely: Nothing was held back on purpose and every disk had room, so departures must have been told in time, and
            what was sent must have come while the two saw each other.
    """
    events = [log for log in logs if not log.is_history]
    found = [fault for log in logs for fault in _form(log)]
    found += [fault for log in logs for fault in _twice(log)]
    found += _texts(logs)
    found += _dms(events)
    found += [fault for log in events for fault in _own_receipts(log)]
    for log in events:
        for other in events:
            if log.user_id and other.user_id and log.user_id != other.user_id:
                found += _between(log, other, complete, timely)
                found += _departures(log, other) if timely else []
    found += _histories([log for log in logs if log.is_history])
    return found


# ---- one log


_NEEDED = {
    "sent": ("id", "conversation_id", "sender_id", "text", "sent_at"),
    "message": ("id", "conversation_id", "sender_id", "text", "sent_at"),
    "delivered": ("id", "user_id"),
    "joined": ("user_id",),
    "left": ("user_id", "reason"),
    "listening": ("user_id",),
}


def _wrong_with(line: object) -> str:
    """Say what is wrong with a line; "" for nothing. Unknown events and fields are fine."""
    if not isinstance(line, dict) or not isinstance(line.get("event"), str):
        return 'no object with "event"'
    missing = [name for name in ("at", *_NEEDED.get(line["event"], ())) if not isinstance(line.get(name), str)]
    if missing:
        return f"{line['event']!a} without {', '.join(missing)}"
    try:
        _seconds(line)
    except ValueError:
        return "its `at` is no time"
    return ""


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
        seen: set[str] = set()
        for number, line in session.of("sent", "message"):
            if line["id"] in seen:
                yield Fault("twice", f"{line['id']} again", log.where(number))
            seen.add(line["id"])


def _own_receipts(log: Log) -> Iterator[Fault]:
    for session in log.sessions:
        told: set[tuple[str, str]] = set()
        counts: dict[str, int] = {}  # in one life: marks heard just before its end need not have been saved
        for number, line in session.of("delivered"):
            if line["id"] in log.received:
                yield Fault("receipt", f"{line['id']} is somebody else's", log.where(number))
            if (line["id"], line["user_id"]) in told:
                yield Fault("receipt", f"{line['id']} delivered to one user twice", log.where(number))
            told.add((line["id"], line["user_id"]))
            count = line.get("count", 0)
            if count < counts.get(line["id"], 0):
                yield Fault("receipt", f"the count of {line['id']} fell", log.where(number))
            counts[line["id"]] = count


# ---- all logs


def _texts(logs: Sequence[Log]) -> Iterator[Fault]:
    """One id is one message, the same wherever it stands; and its writer sent it."""
    writers = {log.user_id: log for log in logs if not log.is_history and log.user_id}
    first: dict[str, Line] = {message: line for log in logs for message, line in log.sent.items()}
    for log in logs:
        for number, line in enumerate(log.lines):
            if line["event"] not in ("sent", "message"):
                continue
            known = first.setdefault(line["id"], line)
            other = [name for name in _FIXED if line.get(name) != known.get(name)]
            if other:
                yield Fault("text", f"{line['id']} has another {', '.join(other)}", log.where(number))
            writer = writers.get(line["sender_id"])
            if writer and line["id"] not in writer.sent and _had_to_log(writer, line["id"]):
                yield Fault("invented", f"{line['id']} was never sent by its writer", log.where(number))


def _had_to_log(writer: Log, message: str) -> bool:
    """Say whether the writer's log must hold this message if it was sent: its run did not end with a kill."""
    run = message.partition(".")[0]
    for session in writer.sessions:
        if any(line["id"].partition(".")[0] == run for _, line in session.of("sent")):
            return session.stopped is not None
    return not writer.killed


def _dms(logs: Sequence[Log]) -> Iterator[Fault]:
    holders: dict[str, list[Log]] = {}
    for log in logs:
        for conversation in sorted({x["conversation_id"] for x in log.lines if x.get("kind") == "dm" and "id" in x}):
            holders.setdefault(conversation, []).append(log)
    for conversation, holding in holders.items():
        for third in holding[2:]:
            if len({log.user_id for log in holding}) > 2:
                yield Fault("dm", f"holds the direct conversation {conversation[:8]} of two others", third.name)


# ---- two logs: one writes, the other reads


def _between(writer: Log, reader: Log, complete: bool, timely: bool) -> Iterator[Fault]:
    """Judge what one peer sent and the other received."""
    for_reader = _for_reader(writer, reader)
    if not writer.restored:
        yield from _order(for_reader, reader)
        yield from _lost(writer, reader, for_reader, complete, timely)
    yield from _delivered(writer, reader, complete, timely)
    if complete:
        yield from _unreceipted(writer, reader)


def _for_reader(writer: Log, reader: Log) -> dict[str, list[str]]:
    """Return the ids the reader is to get, in the order sent, by conversation."""
    dms = {line["conversation_id"] for line in reader.received.values() if line.get("kind") == "dm"}
    dms |= {line["conversation_id"] for line in reader.sent.values() if line.get("kind") == "dm"}
    found: dict[str, list[str]] = {}
    for message, line in writer.sent.items():
        conversation = line["conversation_id"]
        if line.get("kind") == "room" or conversation in dms or line.get("to_id") == reader.user_id:
            found.setdefault(conversation, []).append(message)
    return found


def _order(sent: dict[str, list[str]], reader: Log) -> Iterator[Fault]:
    """In order, and none left out before one that came; where the reader was told of a gap anything goes."""
    gaps = {line.get("about") for line in reader.lines if line["event"] == "gap"}
    came = {message: n for n, message in enumerate(reader.received)}
    for messages in sent.values():
        latest, latest_id, left_out = -1, "", ""
        for message in messages:
            at = came.get(message)
            if at is None:
                left_out = left_out or message
                continue
            if at < latest and message not in gaps:
                yield Fault("order", f"{message} came before {latest_id}, which was sent before it", reader.name)
            if left_out and not gaps:
                yield Fault("order", f"{message} came, and {left_out}, sent before it, did not", reader.name)
                left_out = ""
            if at > latest:
                latest, latest_id = at, message


def _lost(writer: Log, reader: Log, sent: dict[str, list[str]], complete: bool, timely: bool) -> Iterator[Fault]:
    sights = _sights(reader, writer.user_id)
    for messages in sent.values():
        for message in messages:
            if message in reader.received:
                continue
            at = _seconds(writer.sent[message])
            seen = max((end - max(start, at) for start, end in sights), default=0.0)
            if complete or (timely and seen >= IN_SIGHT):
                yield Fault("lost", f"{message} of {writer.name} never came", reader.name)


def _sights(log: Log, user: str) -> list[tuple[float, float]]:
    """Return when this peer saw a user: (from, to), in seconds."""
    found = []
    for session in log.sessions:
        since: float | None = None
        for _, line in session.of("joined", "left"):
            if line["user_id"] == user and line["event"] == "joined":
                since = _seconds(line)
            elif line["user_id"] == user and since is not None:
                found.append((since, _seconds(line)))
                since = None
        if since is not None:
            found.append((since, _seconds(session.lines[-1])))
    return found


def _delivered(writer: Log, reader: Log, complete: bool, timely: bool) -> Iterator[Fault]:
    """A receipt says it is on the reader's disk, so the reader's program gets it, in this life or the next."""
    if not reader.sessions:
        return
    end = _seconds(reader.sessions[-1].lines[-1]) if reader.sessions[-1].lines else 0.0
    for number, line in enumerate(writer.lines):
        if line["event"] != "delivered" or line["user_id"] != reader.user_id or line["id"] in reader.received:
            continue
        if complete or (timely and end - _seconds(line) >= IN_SIGHT):
            yield Fault("delivered", f"{line['id']} is said to be delivered to {reader.name}", writer.where(number))


def _unreceipted(writer: Log, reader: Log) -> Iterator[Fault]:
    if writer.sessions[-1].stopped or reader.sessions[-1].stopped:
        return  # they may not have met again
    told = {line["id"] for line in writer.lines if line["event"] == "delivered" and line["user_id"] == reader.user_id}
    since = _seconds(writer.sessions[-1].lines[0]) if len(writer.sessions) > 1 else 0.0
    for message, came in reader.received.items():
        line = writer.sent.get(message)
        if line is None or message in told:
            continue
        # What was heard in a former life is known to the disk and not told again; the line of it may have died with the
        # process, or was not told while the database was being closed.
        if _moment(line["sent_at"]) >= since or _seconds(came) >= since + SLACK:
            yield Fault("receipt", f"{message} is with {reader.name}, and no receipt came", writer.name)


def _departures(gone: Log, witness: Log) -> Iterator[Fault]:
    """Who had seen a peer is told when it leaves, in time, and as `left` only if it said goodbye."""
    for session, following in zip(gone.sessions, [*gone.sessions[1:], None], strict=True):
        if session.stopped is None or following is not None:
            continue
        at = _seconds(session.stopped)
        for life in witness.sessions:
            told = [(n, x) for n, x in life.of("joined", "left") if x["user_id"] == gone.user_id]
            before = [x for _, x in told if _seconds(x) <= at]
            if not before or before[-1]["event"] != "joined":
                continue
            yield from _told_of(gone, witness, life, at)


def _told_of(gone: Log, witness: Log, life: Session, at: float) -> Iterator[Fault]:
    """Judge what one life of a witness says after `gone` stopped for good at this time."""
    most = max(TOLD_WITHIN.values()) + SLACK
    for number, line in life.of("left"):
        if line["user_id"] == gone.user_id and _seconds(line) >= at - SLACK:
            late = _seconds(line) - at
            if late > TOLD_WITHIN.get(line["reason"], most) + SLACK:
                yield Fault("departure", f"told after {late:.1f} s that {gone.name} left", witness.where(number))
            return
    if _seconds(life.lines[-1]) - at > most:
        yield Fault("departure", f"was never told that {gone.name} left", witness.name)


# ---- histories


def _histories(logs: Sequence[Log]) -> Iterator[Fault]:
    """What two histories both hold stands in the same order in both."""
    for one, other in pairwise(logs):
        if _common(one, other) != _common(other, one):
            yield Fault("history", f"another order than {one.name}", other.name)


def _common(log: Log, other: Log) -> list[str]:
    held = set(_ids(other.lines))
    return [message for message in _ids(log.lines) if message in held]


def _ids(lines: Iterable[Line]) -> list[str]:
    return [line["id"] for line in lines]


def _seconds(line: Line) -> float:
    """Return the time of a line in seconds; ValueError when it is none."""
    return _moment(line["at"])


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
