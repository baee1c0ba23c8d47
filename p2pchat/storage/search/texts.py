"""What is to be found of an entry: the text that is shown of it now, where it is shown.

An index takes every text a message ever had, also of what may not be read now: which of them counts can change in
either direction, by an edit that comes late or by a group that is another than was thought.
"""

from __future__ import annotations

from typing import Any

from p2pchat.core.log import Entry, LogId, decode_entry
from p2pchat.storage.base import Shown
from p2pchat.storage.mended import shown_body
from p2pchat.storage.search.index import Doc, Source

TEXT_KINDS = ("text", "action")


def said(shown: Shown, entry: Entry) -> str:
    """Return what is shown of an entry as a message; "" when it is none, has no text, or was deleted."""
    return _text(shown_body(shown, entry)) if entry.k in TEXT_KINDS else ""


def docs_of(source: Source, shown: Shown, entry: Entry) -> list[Doc]:
    """Return what an index takes of an entry as it comes. The text of an edit is to be found where the message is that
    it mends; one whose message is not here yet comes with that."""
    if entry.k in TEXT_KINDS:
        texts = dict.fromkeys((_text(entry.b), said(shown, entry)))
        return [Doc(shown.log, shown.seq, entry.c, text) for text in texts if text]
    mended = _mended(source, shown, entry) if entry.k == "edit" else None
    text = _text(entry.b)
    if mended is None or not text:
        return []
    return [Doc(mended.log, mended.seq, decode_entry(mended.raw).c, text)]


def _text(body: Any) -> str:
    return body if isinstance(body, str) else ""


def _mended(source: Source, shown: Shown, entry: Entry) -> Shown | None:
    """Return the message that an edit mends: only its writer's own, whatever the reference says."""
    if entry.re is None or entry.re.log[:16] != shown.log.user[:16]:
        return None
    return source.placed_entry(LogId(shown.log.conversation, shown.log.user, entry.re.log[16:]), entry.re.seq)
