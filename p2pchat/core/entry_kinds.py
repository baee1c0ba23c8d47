"""The kinds of entries, one row each: what the body is, what it changes, what programs get.

Whatever treats kinds differently asks a row or one of the sets below. An entry of another kind was written by a later
version: it is in no set, and is stored and passed on like all others. With a text in `b` it is a message, shown by that
text; without one it is about something else, and is not shown. tests/test_entry_kinds.py names the places that a new
row needs and that cannot be derived from it.

Source: docs/protocol.md, "Entries".
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EntryKind:
    """One kind of entry.

    Attributes:
        name: The word on the wire, `k`.
        body: What `b` holds: "text", "null" or "object".
        event: The word in event lines for what programs get of it; a message is "message", or "sent" for one's own.
        about: What it changes: an "own" message, "any" message, a "user" or a "group"; "" for a message itself, which
            is in the history, searched and counted, and may have attachments.
        aspect: What of a message it changes: of all that change one aspect the newest counts, of "own" messages the
            newest of their writer, else of each person. A new aspect needs no table of its own.
    """

    name: str
    body: str
    event: str
    about: str = ""
    aspect: str = ""


KINDS: dict[str, EntryKind] = {
    kind.name: kind
    for kind in (
        EntryKind("text", "text", "message"),
        EntryKind("action", "text", "message"),
        EntryKind("edit", "text", "edited", "own", "text"),
        EntryKind("delete", "null", "deleted", "own", "text"),
        EntryKind("reaction", "text", "reaction", "any", "reaction"),
        EntryKind("profile", "object", "renamed", "user"),
        EntryKind("group", "object", "group", "group"),
        EntryKind("leave", "object", "group", "group"),
    )
}


def _names(*about: str) -> frozenset[str]:
    return frozenset(kind.name for kind in KINDS.values() if kind.about in about)


MESSAGE_KINDS: frozenset[str] = _names("")
RELATION_KINDS: frozenset[str] = _names("own", "any")  # change how another entry is shown
ASPECTS: dict[str, str] = {kind.aspect: kind.about for kind in KINDS.values() if kind.aspect}
GROUP_KINDS: frozenset[str] = _names("group")
HIDDEN_KINDS: frozenset[str] = frozenset(KINDS) - MESSAGE_KINDS
TEXT_KINDS: frozenset[str] = frozenset(kind.name for kind in KINDS.values() if kind.body == "text")
