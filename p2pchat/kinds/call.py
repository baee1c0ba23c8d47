"""Acts: one row for each that people and programs write an entry with, from which each interface makes its form.

From a row come the typed line, the JSON command, its handler, the path of REST with its schema, the tool of an agent,
/help and the tables of the docs. The library has a method with the fields of the row as parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

YES = "--yes"  # at the end of a line that may ask
SAYS_YES = f"{YES} at the end of the line answers what it asks"
NUMBERS = "N is a number of /history or /search, valid until you send a message"
OR_TEXT = "0 before a text that begins with a number says that it is no N"


@dataclass(frozen=True)
class Call:
    """One act.

    Attributes:
        name: Its `do`, its word when typed, and the tool.
        fields: Its fields: NAME or NAME:KIND, with a `?` if it may be left out.
        typed: Its arguments as /help shows them, "" for none; the last takes the rest of the line with its blanks. They
            are the fields in order but for those of `here` and `latest`, or say theirs: WORD=FIELD, and WORD= for none.
            None: not typed.
        help: One line that says what it does when typed; what a model is told of a tool.
        example: A whole line as typed.
        details: Further lines of /help COMMAND.
        latest: Its first field is a message, typed as a number; without one it is the message "shown" last, the own one
            written last ("own"), or the newest of anybody in the current conversation ("here").
        asks: It may ask before it does something that cannot be undone. YES answers that.
        own_parser: The typed line has a handler of its own, `typed_NAME`, which gets the rest of it: it has paths.
        purpose: What it does, for programs: what REST describes, and a model is told of the tool.
        tool: A model is offered it.
        rest: Its method at REST, and its path behind that of the message; of its own if it is about none.
        method: Its method in the library; "": of its name.
        of: What it wrote, before the words of its message.
    """

    name: str
    fields: str = ""
    typed: str | None = None
    help: str = ""
    example: str = ""
    details: tuple[str, ...] = ()
    latest: str = ""
    asks: bool = False
    own_parser: bool = False
    purpose: str = ""
    tool: bool = True
    rest: str = ""
    method: str = ""
    of: str = ""
