"""One kind of entries as a record: what an entry holds, what it is about, and which of several counts.

A record has data only, and rules that follow from it alone. Whatever treats kinds differently asks an attribute.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from p2pchat.kinds.call import Call
from p2pchat.protocol import user_start

POINTS = 10  # code points of one character as people count: a kiss of two people, each with a colour of skin
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Choices:
    """The answers that a message may offer: how many, how long, why it cannot be edited then, and words for both."""

    most: int
    longest: int
    fixed: str
    word: str = "choices"
    of: str = "a message"

    def fault(self, choices: Sequence[str]) -> str:
        """Return what is wrong with these choices, as a sentence; "" for nothing."""
        if not 2 <= len(choices) <= self.most:
            return f"{self.of} has 2 to {self.most} {self.word}, not {len(choices)}"
        if len({*choices}) < len(choices):
            return f"two {self.word} of {self.of} are alike"
        if any(not 1 <= len(one) <= POINTS * self.longest for one in choices):
            return f"{self.word} have 1 to {self.longest} characters"
        return f"{self.word} hold NUL, or are no valid Unicode" if _NO_TEXT.search("".join(choices)) else ""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of entry.

    Attributes:
        name: The word on the wire, `k`.
        body: What `b` holds: "text", "number", "null" or "object".
        event: The word in event lines for what programs get of it; a message is "message", or "sent" for one's own.
        about: What it changes: an "own" message, "any" message, a "user", what a user chose for itself ("self") or a
            "group"; "" for a message itself, which is in the history, searched and counted, and may have attachments.
        aspect: What of a message it changes: of all that change one aspect the newest counts, of "own" messages the
            newest of their writer, else of each person; one with an empty body takes that person's back. A new aspect
            needs no table of its own.
        longest: The most characters of its text as people count them, which may be empty then, or its greatest
            number, from 0; 0: a text like that of messages. Peers count code points, up to POINTS for each.
        choices: The answers that it may offer; None: none.
        oldest: True if the oldest counts of all that change its aspect, and not the newest.
        shared: True if the newest of all people counts, and not of each. What is not, and is about "any" message, a
            terminal tells only the writer of that and who says it.
        each: So many of what all keys of a member say of a message count at others, the newest; 0: all, or one.
        until: The aspect of its message that ends it: at that clock and after it nothing of this kind counts.
        on: The kind of message that it is about; "": of any kind.
        calls: What people and programs say to write one.
        field: What it holds, as a field of its event.
        done: What an event line says that somebody did, and what if that takes it back. {what} is what the entry
            holds, {of} the message.
        list: The field of a message with what people say of this kind; the view of SQL has its name too.
        words: What that field says.
        head: The messages of a conversation of which this is said stand at its head. Whoever reads gets them by a call
            of the name of that field.
    """

    name: str
    body: str
    event: str
    about: str = ""
    aspect: str = ""
    longest: int = 0
    choices: Choices | None = None
    oldest: bool = False
    shared: bool = False
    each: int = 0
    until: str = ""
    on: str = ""
    calls: tuple[Call, ...] = ()
    field: str = ""
    done: tuple[str, ...] = ()
    list: str = ""
    words: str = ""
    head: bool = False

    @property
    def is_edit(self) -> bool:
        """True if it puts another text in the place of a message's."""
        return self.aspect == "text" and self.body == "text"

    @property
    def is_deletion(self) -> bool:
        """True if it takes the text of a message away."""
        return self.aspect == "text" and self.body == "null"

    def body_of(self, text: str) -> Any:
        """Return what an entry of this kind holds, of what a call says as a text."""
        if self.body == "number":
            return int(text) if text.isdecimal() and len(text) < 4 else text
        return text if self.body == "text" else None

    def fault(self, user: str, body: Any, log: str | None) -> tuple[str, str] | None:
        """Return (code, sentence) for why an entry of `user` about a message has no effect; None if it has one.

        Length and type of a text are checked for every kind that has one (sync/log_validation.py, sync/appender.py).

        Args:
            log: The log of the message, as references name it.
        """
        if log is None:
            return "shape", f"this {self.name} names no entry"
        if self.about == "own" and not log.startswith(user_start(user)):
            return "foreign", f"only the writer of a message can {self.name} it"
        if self.body == "null" and body is not None:
            return "shape", f"a {self.name} with a body"
        if self.body == "number" and not (type(body) is int and 0 <= body <= self.longest):
            return "shape", f"a {self.name} is a number from 0 to {self.longest}"
        if self.longest and isinstance(body, str) and len(body) > POINTS * self.longest:
            return "shape", f"a {self.name} has at most {POINTS * self.longest} code points: reply instead"
        return None
