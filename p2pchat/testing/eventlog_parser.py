"""Event logs, parsed for the checker: lines, sessions and faults of form.

An event log is the output of `--json` and the file of `--log`: one JSON object a line. The output of `history --json`
has the same lines, but only `sent` and `message`. This file decides whether a line is an event, and whether
a peer was started on an older copy of its disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from p2pchat.kinds import CHANGE_EVENTS
from p2pchat.kinds.message_fields import MESSAGE_FIELDS

Line = dict[str, Any]

_NOT_JSON = "not JSON"
POSTS = ("sent", "message")
_AFTER_LISTENING = {
    *POSTS,
    "delivered",
    "joined",
    "left",
    "member",
    "stopped",
}  # events that come only after `listening`
_POST = ("id", "conversation_id", "sender_id", "text", "sent_at")
_EDIT = ("id", "by_id", "entry_id", "sent_at")
_NEEDED = {
    "sent": _POST, "message": _POST, "delivered": ("id", "user_id"), "joined": ("user_id",),
    "left": ("user_id", "reason"), "listening": ("user_id",), "group": ("conversation_id", "change", "group"),
    "member": ("user_id", "by_id", "change"),
    **dict.fromkeys(CHANGE_EVENTS, _EDIT),
}  # fmt: skip
_TYPES = {  # of optional fields: those of a message, and of other lines
    **{row.name: row.type for row in MESSAGE_FIELDS},
    **dict.fromkeys(("target_id", "to_id", "about", "code", "peer_id"), "text"),
    **dict.fromkeys(("missing", "member_ids", "undelivered"), "list"),
    "count": "int",
}
_ITEMS = {"list": str, "files": dict, "said": dict}  # of the types that are lists
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # byte order marks; PowerShell's `>` writes UTF-16


@dataclass(frozen=True, slots=True)
class Fault:
    """A broken promise.

    Attributes:
        rule: A stable word.
        text: A sentence.
        where: The log's name and the line, from 1, as "ada.jsonl:12".
    """

    rule: str
    text: str
    where: str

    def __str__(self) -> str:
        return f"{self.where}: {self.rule}: {self.text}"


@dataclass(frozen=True)
class LoggedSession:
    """One session of a peer: its lines from one `listening` to the next. `number` is the first line's, from 0."""

    number: int
    lines: list[Line]

    @cached_property
    def stopped(self) -> Line | None:
        """The line `stopped`; None if the peer was killed or still runs."""
        return next((line for line in reversed(self.lines) if line["event"] == "stopped"), None)

    @cached_property
    def whole(self) -> bool:
        """True if the log has the beginning of the session."""
        return any(self.of("listening"))

    def of(self, *events: str) -> Iterator[tuple[int, Line]]:
        """Yield (line number, line) for each of these events."""
        return ((n, line) for n, line in enumerate(self.lines, self.number) if line["event"] in events)


@dataclass(frozen=True)
class Log:
    """The lines of one peer.

    A log that has only messages and no `listening` is a history.

    Attributes:
        name: The name to show.
        lines: The event lines, as dicts.
        bad: (line number from 1, what is wrong) for each line that is not an event.
        restored: The peer's disk went back to an older copy. It may have written without knowing its earlier messages,
            and lost those that nobody else had, so order and arrival are not checked.
    """

    name: str
    lines: list[Line]
    bad: list[tuple[int, str]] = field(default_factory=list)
    restored: bool = False

    @classmethod
    def read(cls, path: Path | str) -> Log:
        """Read a file. Faults inside it go to `bad`.

        Raises:
            OSError: The file cannot be read.
        """
        return cls.parse(str(path), Path(path).read_bytes())

    @classmethod
    def parse(cls, name: str, data: bytes) -> Log:
        """Parse the bytes of a file. An incomplete last line of a session is no fault: the process was killed."""
        if data.startswith(_UTF_16):
            data = data.decode("utf-16", "replace").encode()
        lines: list[Line] = []
        bad: list[tuple[int, str]] = []
        *whole, rest = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        for number, raw in enumerate([*whole, rest], 1):
            if not raw.strip():
                continue
            line, wrong = _read(raw)
            if not wrong:
                if line["event"] == "listening" and bad and bad[-1] == (number - 1, _NOT_JSON):
                    bad.pop()
                lines.append(line)
            elif number <= len(whole):
                bad.append((number, wrong))
        return cls(name, lines, bad)

    @cached_property
    def is_device(self) -> bool:
        """True if its user's key is not that of the peer: the user may be on other machines too."""
        return any(line.get("peer_id", self.user_id) != self.user_id for _, line in self.of("listening"))

    @cached_property
    def is_history(self) -> bool:
        """True if it has messages only, no `listening`."""
        return all(line["event"] in POSTS for line in self.lines)

    @cached_property
    def sessions(self) -> list[LoggedSession]:
        """The sessions, in order. Lines before `listening`, such as warnings, belong to the session that begins."""
        starts = [n for n, line in enumerate(self.lines) if line["event"] == "listening"]
        if starts and not any(line["event"] in _AFTER_LISTENING for line in self.lines[: starts[0]]):
            del starts[0]
        cuts = [0, *(start for start in starts if start), len(self.lines)]
        return [LoggedSession(start, self.lines[start:end]) for start, end in pairwise(cuts)]

    @cached_property
    def user_id(self) -> str:
        """The id of the user whose log it is; "" if no line names it."""
        for line in self.lines:
            if line["event"] == "listening":
                return str(line["user_id"])
            if line["event"] == "sent":
                return str(line["sender_id"])
        return ""

    @cached_property
    def room(self) -> str:
        """The id of the room; "" if nothing was logged of it."""
        there = (line for line in self.lines if line.get("kind") == "room")
        return next((line["conversation_id"] for line in there if "conversation_id" in line), "")

    @cached_property
    def began(self) -> float:
        """The time of the first line; 0 if the log is empty. Messages before it may have been shown without a log."""
        return seconds(self.lines[0]) if self.lines else 0.0

    @cached_property
    def ended(self) -> float:
        """The time of the last line; 0 if the log is empty."""
        return seconds(self.lines[-1]) if self.lines else 0.0

    @cached_property
    def sent(self) -> dict[str, Line]:
        """The lines of the user's own messages, by id."""
        return {line["id"]: line for _, line in self.of("sent")}

    @cached_property
    def received(self) -> dict[str, Line]:
        """The lines of messages of others, by id."""
        return {line["id"]: line for _, line in self.of("message")}

    @cached_property
    def places(self) -> dict[str, int]:
        """The number of the first line of each message, from 0."""
        found: dict[str, int] = {}
        for number, line in self.of("sent", "message"):
            found.setdefault(line["id"], number)
        return found

    @cached_property
    def posts(self) -> dict[str, Line]:
        """The first line of each message."""
        return {message: self.lines[place] for message, place in self.places.items()}

    @cached_property
    def conversations(self) -> set[str]:
        """The ids of the conversations that have messages here."""
        return {line["conversation_id"] for line in self.posts.values()}

    @cached_property
    def killed(self) -> bool:
        """True if some session ends without `stopped`: it may have sent messages that it did not log."""
        return any(session.stopped is None for session in self.sessions)

    @cached_property
    def restored_at(self) -> tuple[int, int] | None:
        """The lines, from 0, of the first start on a disk that had gone back to an older copy, and of a message that
        this disk lacked though it was sent here before; None if the log shows no such start.
        """
        sent: list[tuple[str, int]] = []
        for session in self.sessions:
            for number, line in session.of("listening"):
                lacking = _sent_after(line.get("newest_own"), sent)
                if lacking is not None and line["user_id"] == line.get("peer_id"):
                    return number, lacking
            known = {id for id, _ in sent}
            sent += [(line["id"], number) for number, line in session.of("sent") if line["id"] not in known]
        return None

    def of(self, *events: str) -> Iterator[tuple[int, Line]]:
        """Yield (line number from 0, line) for each of these events."""
        return LoggedSession(0, self.lines).of(*events)

    def where(self, number: int) -> str:
        """Return the log's name and a line; `number` is from 0, the line shown from 1."""
        return f"{self.name}:{number + 1}"

    def place_of(self, message: str) -> str:
        """Return the log's name and the line of a message; the name alone if the message is not here."""
        return self.where(self.places[message]) if message in self.places else self.name


def _sent_after(newest: str | None, sent: list[tuple[str, int]]) -> int | None:
    """Return the line of a message that was sent after the newest one on a disk; None if there is none.

    Args:
        newest: Its id, "" when the disk holds none, None when that is not known.
        sent: (id, line) of each message sent before, in order.
    """
    if newest is None:
        return None
    run, number = run_of(newest)
    ids = [id for id, _ in sent]
    if newest in ids:
        later = sent[ids.index(newest) + 1 :]
    else:  # it is no message, or its line was lost with the process
        later = [each for each in sent if not newest or (run_of(each[0])[0] == run and run_of(each[0])[1] > number)]
    return later[0][1] if later else None


def copies(logs: list[Log]) -> list[tuple[Log, int, Log]]:
    """Return (log, line, other log) for each log of a peer that ran while another process with its key did."""
    found = []
    for log in logs:
        for other in logs:
            if log is not other and (number := _runs_beside(log, other)) is not None:
                found.append((log, number, other))
    return found


def _runs_beside(log: Log, other: Log) -> int | None:
    """Return the first line of a session that began while one of the other log ran, with the same key."""
    for session in log.sessions:
        for running in other.sessions:
            (_, one), (_, two) = (next(each.of("listening"), (0, None)) for each in (session, running))
            if one is None or two is None or one["at"] == two["at"] or not one.get("peer_id"):
                continue  # equal times: one session, logged twice
            at = seconds(one)
            if one["peer_id"] == two.get("peer_id") and seconds(two) <= at < seconds(running.lines[-1]) - 1.0:
                return session.number
    return None


def run_of(message: str) -> tuple[str, int]:
    """Return the log of a message and its number there; 0 if it is not a message id."""
    run, _, number = message.rpartition(".")
    return run, int(number) if number.isascii() and number.isdecimal() and len(number) < 20 else 0


def seconds(line: Line) -> float:
    """Return the time of a line in seconds. Raises ValueError if it has none."""
    return moment(line["at"])


def moment(text: str) -> float:
    """Return a time in seconds. Raises ValueError if the text is not a time."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (OverflowError, OSError) as error:  # the year 1, before any zone
        raise ValueError(text) from error


def _read(raw: bytes) -> tuple[Line, str]:
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return {}, _NOT_JSON
    return line, wrong_with(line)


def wrong_with(line: object) -> str:
    """Return what is wrong with a line; "" for nothing. Unknown events and fields are allowed."""
    if not isinstance(line, dict) or not isinstance(line.get("event"), str):
        return 'not an object with "event"'
    event = line["event"]
    missing = [name for name in ("at", *_NEEDED.get(event, ())) if not isinstance(line.get(name), str)]
    missing += ["member_ids"] if event == "group" and not isinstance(line.get("member_ids"), list) else []
    said = CHANGE_EVENTS[event].field if event in CHANGE_EVENTS else ""
    missing += [said] if said and line.get(said) is None else []
    if missing:
        return f"{event!r} without {', '.join(missing)}"
    if event not in {*_NEEDED, "gap", "warning"}:
        missing = []
    else:
        missing = [name for name, kind in _TYPES.items() if line.get(name) is not None and not _is(line[name], kind)]
    if missing:
        return f"wrong type of {', '.join(missing)}"
    for name in ("at", "sent_at") if event in POSTS else ("at",):
        try:
            moment(line[name])
        except ValueError:
            return f"`{name}` is not a time"
    return ""


def _is(value: object, kind: str) -> bool:
    if kind in _ITEMS:
        return isinstance(value, list) and all(isinstance(each, _ITEMS[kind]) for each in value)
    return type(value) is {"bool": bool, "int": int}.get(kind, str)
