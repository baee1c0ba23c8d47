"""The kinds of entries, below all layers: a record for each, which every layer reads.

An entry of another kind was written by a later version: it is in none of these sets, and is stored and passed on like
all others. With a text in `b` it is a message, shown by that text; without one it is about something else, and is not
shown. tests/test_entry_kinds.py names the places that a new record needs and that cannot be derived from it.

Source: docs/protocol.md, "Entries".
"""

from __future__ import annotations

from p2pchat.kinds.action import ACTION
from p2pchat.kinds.call import Call
from p2pchat.kinds.choice import OWN
from p2pchat.kinds.deletion import DELETION
from p2pchat.kinds.edit import EDIT
from p2pchat.kinds.group_change import GROUP
from p2pchat.kinds.kind import Kind as Kind
from p2pchat.kinds.pins import PIN
from p2pchat.kinds.polls import CLOSE, POLL, VOTE
from p2pchat.kinds.reaction import REACTION
from p2pchat.kinds.text import TEXT
from p2pchat.kinds.user_profile import PROFILE

KINDS: dict[str, Kind] = {
    kind.name: kind for kind in (TEXT, ACTION, EDIT, DELETION, REACTION, PIN, POLL, VOTE, CLOSE, PROFILE, GROUP, OWN)
}


def _names(*about: str) -> frozenset[str]:
    return frozenset(kind.name for kind in KINDS.values() if kind.about in about)


MESSAGE_KINDS: frozenset[str] = _names("")
RELATION_KINDS: frozenset[str] = _names("own", "any")  # change how another entry is shown
ASPECTS: dict[str, Kind] = {kind.aspect: kind for kind in KINDS.values() if kind.aspect}
HIDDEN_KINDS: frozenset[str] = frozenset(KINDS) - MESSAGE_KINDS
TEXT_KINDS: frozenset[str] = frozenset(kind.name for kind in KINDS.values() if kind.body == "text")
CALLS: dict[str, Call] = {call.name: call for kind in KINDS.values() for call in kind.calls}
LISTS: dict[str, Kind] = {kind.list: kind for kind in KINDS.values() if kind.list}
HEADS: dict[str, Kind] = {name: kind for name, kind in LISTS.items() if kind.head}
CHANGE_EVENTS: dict[str, Kind] = {KINDS[name].event: KINDS[name] for name in sorted(RELATION_KINDS)}
