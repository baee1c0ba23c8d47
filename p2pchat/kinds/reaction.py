"""A reaction: a few characters of a person to a message. Of several people it is shown to the message's writer."""

from __future__ import annotations

from p2pchat.kinds.kind import Kind
from p2pchat.protocol import MAX_REACTION_CHARACTERS

REACTION = Kind("reaction", "text", "reaction", "any", "reaction", MAX_REACTION_CHARACTERS, told="writer")
