"""A reaction: a few characters of a person to a message. Of several people it is shown to the message's writer."""

from __future__ import annotations

from p2pchat.kinds.call import NUMBERS, OR_TEXT, Call
from p2pchat.kinds.kind import Kind
from p2pchat.protocol import MAX_REACTION_CHARACTERS

CALL = Call("react", "id:message reaction automatic:bool?", "[N] [TEXT]", latest="shown",
    help="react to the message shown last, or to line N", example="/react +1",
    details=("at most 8 characters; replaces your reaction, and without text removes it", NUMBERS, OR_TEXT),
    purpose="React to a message with at most 8 characters, as +1; with an empty text take it back. It answers no "
    "`choices`: that is for people.",
    rest="PUT reaction", of="your reaction to")  # fmt: skip
REACTION = Kind(
    "reaction",
    "text",
    "reaction",
    "any",
    "reaction",
    MAX_REACTION_CHARACTERS,
    each=8,  # a guess: more are a flood
    calls=(CALL,),
    field="reaction",
    done=("reacted {what} to {of}", "removed a reaction to {of}"),
    list="reactions",
    words="what people pressed, or said to it in a few characters",
)
