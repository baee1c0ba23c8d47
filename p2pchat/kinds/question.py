"""A question: a text with choices, of which a reader presses one. A press is a reaction with that text."""

from __future__ import annotations

from p2pchat.kinds.kind import Choices
from p2pchat.protocol import MAX_REACTION_CHARACTERS

QUESTION = Choices(6, MAX_REACTION_CHARACTERS, "a message with choices cannot be edited: delete it and ask again")
