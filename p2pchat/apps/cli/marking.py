"""Texts with what was searched for marked in them: for programs as places, for people on a terminal in bold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from p2pchat import Message, Sent, where_found
from p2pchat.commands.columns import FOUND, Fragment
from p2pchat.commands.format import plain_message
from p2pchat.commands.output import Line
from p2pchat.safe_text import safe_text


def found_line(post: Message | Sent, words: str) -> Line:
    """Return the line of a message that a search found; `found`: where its words stand, in characters."""
    line = post.to_json()
    return {**line, "found": [list(place) for place in where_found(words, line["text"])]}


def marked_text(event: Mapping[str, Any]) -> list[Fragment]:
    """Return the text of a message, made safe, as fragments of which those that were found have a style."""
    text, places = event["text"], event.get("found") or ()
    fragments: list[Fragment] = []
    at = 0
    for start, end in places:
        fragments += [("", safe_text(text[at:start])), (FOUND, safe_text(text[start:end]))]
        at = end
    return [part for part in [*fragments, ("", safe_text(text[at:]))] if part[1]]


def marked_message(event: Mapping[str, Any], *args: Any) -> list[Fragment]:
    """Return a whole message line (arguments as of plain_message) with what was found in it marked."""
    line, text = plain_message(event, *args), safe_text(event["text"])
    if not event.get("found") or event.get("unsupported") or not line.endswith(text):
        return [("", line)]
    return [("", line[: len(line) - len(text)]), *marked_text(event)]
