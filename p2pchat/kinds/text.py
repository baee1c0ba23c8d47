"""A text, as people write it; it may ask its readers, with choices to press."""

from __future__ import annotations

from p2pchat.kinds.kind import Kind
from p2pchat.kinds.question import QUESTION

TEXT = Kind("text", "text", "message", choices=QUESTION)
