"""What a text may be, for those who write one here: told before anything is done with it."""

from __future__ import annotations

from collections.abc import Sequence

from p2pchat.config import Settings
from p2pchat.core.sync.append import ROOM_FOR_REST, are_plain, text_fault, written_bytes
from p2pchat.errors import TooLong


def check_texts(texts: Sequence[str], settings: Settings) -> None:
    """Return when all of them can be written; raises as check_text."""
    if not all(isinstance(text, str) and text for text in texts) or not are_plain(texts, settings):
        for text in texts:
            check_text(text, settings)


def check_text(text: str, settings: Settings) -> None:
    """Return when it can be written.

    Raises:
        TypeError: It is no text. ValueError: It is empty, has NUL, or is no Unicode that can be sent.
        TooLong: `.limit_bytes` says what fits.
    """
    if not isinstance(text, str):
        raise TypeError(f"a text is a str, not {type(text).__name__}")
    if not text:
        raise ValueError("an empty text says nothing")
    if len(text) <= min(settings.max_text_bytes, settings.max_entry_bytes // 8) and text.isascii() and "\0" not in text:
        return  # as are_plain() says of many, but of one a third as long
    fault = text_fault(text, settings.max_text_bytes, settings.max_entry_bytes)
    if fault is not None and fault[0] == "too_long":
        size = len(text.encode())
        if size > settings.max_text_bytes:
            raise TooLong("the text", size, settings.max_text_bytes)
        limit = settings.max_entry_bytes - ROOM_FOR_REST
        raise TooLong("the text, its control characters escaped,", written_bytes(text), limit)
    if fault is not None:
        raise ValueError(fault[1])
