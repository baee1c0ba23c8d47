"""Event logs as the checker reads them: a file's lines, the lives of its peer, and what is wrong with the form.

An event log is what `--json` prints and `--log` keeps: one JSON object a line. What `history --json` prints has the
same lines, `sent` and `message` only. Nothing is judged here but whether a line is an event at all.
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

Line = dict[str, Any]

_NOT_JSON = "not JSON"
POSTS = ("sent", "message")
_OF_A_LIFE = {*POSTS, "delivered", "joined", "left", "stopped"}  # what a peer logs only once it listens
_POST = ("id", "conversation_id", "sender_id", "text", "sent_at")
_MENDING = ("id", "by_id", "entry_id", "sent_at")
_NEEDED = {
    "sent": _POST, "message": _POST, "delivered": ("id", "user_id"), "joined": ("user_id",),
    "left": ("user_id", "reason"), "listening": ("user_id",), "edited": (*_MENDING, "text"), "deleted": _MENDING,
    "reaction": (*_MENDING, "reaction"), "group": ("conversation_id", "change", "group"),
}  # fmt: skip
_STRINGS = (
    "kind",
    "target_id",
    "to_id",
    "reply_to",
    "about",
    "code",
    "peer_id",
    "mended_id",
)  # when they are there at all
_LISTS = ("after", "missing", "member_ids", "undelivered")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # what PowerShell's `>` writes


@dataclass(frozen=True, slots=True)
class Fault:
    """A promise that was broken: `rule` is a stable word, `text` a sentence, `where` says whose log, and the line."""

    rule: str
    text: str
    where: str

    def __str__(self) -> str:
        return f"{self.where}: {self.rule}: {self.text}"


@dataclass(frozen=True)
class LoggedSession:
    """One life of a peer: its lines from one `listening` to the next. `number` is the first line's, from 0."""

    number: int
    lines: list[Line]

    @cached_property
    def stopped(self) -> Line | None:
        """The last line of an orderly end; None when it was killed, or still runs."""
        return next((line for line in reversed(self.lines) if line["event"] == "stopped"), None)

    @cached_property
    def whole(self) -> bool:
        """Whether its beginning is there."""
        return any(line["event"] == "listening" for line in self.lines)

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
    def is_history(self) -> bool:
        return all(line["event"] in POSTS for line in self.lines)

    @cached_property
    def sessions(self) -> list[LoggedSession]:
        """Its lives, in order. What a peer says before it listens, warnings say, belongs to the life that begins."""
        starts = [n for n, line in enumerate(self.lines) if line["event"] == "listening"]
        if starts and not any(line["event"] in _OF_A_LIFE for line in self.lines[: starts[0]]):
            del starts[0]
        cuts = [0, *(start for start in starts if start), len(self.lines)]
        return [LoggedSession(start, self.lines[start:end]) for start, end in pairwise(cuts)]

    @cached_property
    def user_id(self) -> str:
        """Whose log it is; "" when it does not say."""
        for line in self.lines:
            if line["event"] == "listening":
                return str(line["user_id"])
            if line["event"] == "sent":
                return str(line["sender_id"])
        return ""

    @cached_property
    def began(self) -> float:
        """The time of its first line; 0 when it is empty. What came before may have been shown unlogged."""
        return seconds(self.lines[0]) if self.lines else 0.0

    @cached_property
    def ended(self) -> float:
        """The time of its last line; 0 when it is empty."""
        return seconds(self.lines[-1]) if self.lines else 0.0

    @cached_property
    def sent(self) -> dict[str, Line]:
        return {line["id"]: line for line in self.lines if line["event"] == "sent"}

    @cached_property
    def received(self) -> dict[str, Line]:
        return {line["id"]: line for line in self.lines if line["event"] == "message"}

    @cached_property
    def places(self) -> dict[str, int]:
        """The line on which each message stands first, from 0."""
        found: dict[str, int] = {}
        for number, line in enumerate(self.lines):
            if line["event"] in POSTS:
                found.setdefault(line["id"], number)
        return found

    @cached_property
    def conversations(self) -> set[str]:
        return {self.lines[place]["conversation_id"] for place in self.places.values()}

    @cached_property
    def killed(self) -> bool:
        """Some life of it ended, or ends, without `stopped`: it may have sent what it did not log."""
        return any(session.stopped is None for session in self.sessions)

    def where(self, number: int) -> str:
        return f"{self.name}:{number + 1}"

    def place_of(self, message: str) -> str:
        """Where a message stands here, as `where` says it; the name alone when it does not."""
        return self.where(self.places[message]) if message in self.places else self.name


def run_of(message: str) -> tuple[str, int]:
    """Return which log a message stands in, and its number there; 0 for what is no message id."""
    run, _, number = message.rpartition(".")
    return run, int(number) if number.isascii() and number.isdecimal() and len(number) < 20 else 0


def seconds(line: Line) -> float:
    """Return the time of a line in seconds; ValueError when it is none."""
    return moment(line["at"])


def moment(text: str) -> float:
    """Return a time in seconds. Raises ValueError when it is none."""
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
    """Say what is wrong with a line; "" for nothing. Unknown events and fields are fine."""
    if not isinstance(line, dict) or not isinstance(line.get("event"), str):
        return 'no object with "event"'
    event = line["event"]
    missing = [name for name in ("at", *_NEEDED.get(event, ())) if not isinstance(line.get(name), str)]
    missing += ["member_ids"] if event == "group" and not isinstance(line.get("member_ids"), list) else []
    if missing:
        return f"{event!a} without {', '.join(missing)}"
    if event not in {*_NEEDED, "gap", "warning"}:
        missing = []
    else:
        missing = [name for name in _STRINGS if not isinstance(line.get(name), str | None)]
        missing += [name for name in _LISTS if not _is_ids(line.get(name))]
        missing += ["count"] if type(line.get("count", 0)) is not int else []
        missing += ["reactions"] if not _are_objects(line.get("reactions", [])) else []
    if missing:
        return f"its {', '.join(missing)} cannot be meant"
    for name in ("at", "sent_at") if event in POSTS else ("at",):
        try:
            moment(line[name])
        except ValueError:
            return f"its `{name}` is no time"
    return ""


def _are_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _is_ids(value: object) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(each, str) for each in value))
