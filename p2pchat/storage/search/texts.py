"""What is to be found of an entry: the text that is shown of it now, where it is shown."""

from __future__ import annotations

from p2pchat.core.log import Entry, LogId, decode_entry
from p2pchat.storage.base import Shown, Storage
from p2pchat.storage.mended import shown_body
from p2pchat.storage.search.index import Doc

TEXT_KINDS = ("text", "action")


def said(shown: Shown, entry: Entry) -> str:
    """Return what is shown of an entry as a message; "" when it is none, has no text, or was deleted."""
    text = shown_body(shown, entry) if entry.k in TEXT_KINDS else None
    return text if isinstance(text, str) else ""


def doc_of(storage: Storage, shown: Shown, entry: Entry) -> Doc | None:
    """Return what an index takes of an entry as it comes; None for nothing. The text of an edit is to be found where
    the message is that it mends; one whose message is not here yet is found with that."""
    if entry.k == "edit":
        mended = _mended(storage, shown, entry)
        if mended is None:
            return None
        shown, entry = mended, decode_entry(mended.raw)
    text = said(shown, entry)
    return Doc(shown.log, shown.seq, entry.c, text) if text else None


def _mended(storage: Storage, shown: Shown, entry: Entry) -> Shown | None:
    """Return the message that an edit mends: only its writer's own, whatever the reference says."""
    if entry.re is None or entry.re.log[:16] != shown.log.user[:16]:
        return None
    return storage.entry(LogId(shown.log.conversation, shown.log.user, entry.re.log[16:]), entry.re.seq)
