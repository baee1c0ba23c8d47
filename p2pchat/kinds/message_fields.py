"""The fields of a message: a row for each, from which all its forms are made.

Event lines are made from the rows, as are the forms of `/chat`, REST and Socket.IO, the schema of REST, what an agent
is given, what the checker of event logs compares, and the table in docs/cli.md.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from p2pchat.kinds import LISTS

# True while a program handles what nobody asked it: a reply is automatic then, unless it says otherwise.
UNASKED: ContextVar[bool] = ContextVar("unasked", default=False)


@dataclass(frozen=True, slots=True)
class FieldRow:
    """One field of a message.

    Attributes:
        name: Its name in event lines.
        type: text, time, bool, int, list (of texts), files or said.
        marks: Where it is beside event lines: c `/chat` and REST, s Socket.IO, a agents. l: it is in lines also when it
            says nothing, and left out otherwise. f: it is the same in all lines about the message, on every peer.
        words: What it says.
        other: Its name at `/chat`, in REST and for Socket.IO; "": the same.
    """

    name: str
    type: str
    marks: str
    words: str
    other: str = ""


PLACE = (  # of whom it is, and where
    FieldRow("id", "text", "lfcs", "the same on every peer, forever"),
    FieldRow("sender", "text", "lcs", "the writer, as shown", "from"),
    FieldRow("sender_id", "text", "lf", "the id of the writer"),
    FieldRow("conversation_id", "text", "lfs", "the id of its conversation", "conversationId"),
    FieldRow("kind", "text", "lfs", "room, dm or group"),
    FieldRow("to", "text", "c", "the receiver of a direct message"),
    FieldRow("group", "text", "cs", "the name of its group"),
    FieldRow("expelled", "bool", "csa", "true: it came when its writer was no member any more"),
    FieldRow("changed_id", "text", "ca", "with `changes`: the id of the change for which it comes"),
)
SAID = (
    FieldRow("text", "text", "lcs", 'the latest text; "" once deleted', "content"),
    FieldRow("sent_at", "time", "lfcs", "when it was written; it never changes", "timestamp"),
    FieldRow("action", "bool", "lfcs", "true: the text says what the writer does"),
    FieldRow("reply_to", "text", "lfca", "the id of the message that it answers"),
    FieldRow("after", "list", "lf", "the ids of the newest messages that its writer had seen"),
    FieldRow("old", "bool", "l", "true: written before this peer came to the conversation"),
    FieldRow("claimed_at", "time", "fs", "when it was written, if the sender's program said so", "clientTimestamp"),
    FieldRow("came", "time", "cs", "when it came here, if more than 10 minutes after it was written"),
    FieldRow("gap", "bool", "", "true: messages before it were missing when it was shown"),
    FieldRow("automatic", "bool", "fa", "true: a program wrote it by itself; no program should answer"),
    FieldRow("hops", "int", "fa", "how many programs answered one another up to it"),
    FieldRow("unsupported", "text", "fcsa", "its unknown kind: the text says what it is"),
    FieldRow("choices", "list", "csa", "the answers to press, of which one is sent as a reaction"),
    FieldRow("poll", "bool", "fcsa", "true: it is a poll, whose choices one votes for by their numbers"),
    FieldRow("files", "files", "csa", "its attachments, at most 10"),
)
BECAME = (
    FieldRow("edited", "bool", "ca", "true: its writer edited it"),
    FieldRow("deleted", "bool", "ca", "true: its writer deleted it"),
    FieldRow("mended_at", "time", "", "when it was last edited or deleted"),
    FieldRow("mended_id", "text", "", "the id of that edit or deletion"),
    FieldRow("closed_at", "time", "csa", "when its writer closed the poll"),
    FieldRow("closed_id", "text", "", "the id of that close"),
    *(FieldRow(name, "said", "csa", kind.words) for name, kind in LISTS.items()),
)
MESSAGE_FIELDS: tuple[FieldRow, ...] = (*PLACE, *SAID, *BECAME)


def fields_at(door: str) -> dict[str, FieldRow]:
    """Return the fields with this mark, by their names in event lines."""
    return {row.name: row for row in MESSAGE_FIELDS if door in row.marks}
