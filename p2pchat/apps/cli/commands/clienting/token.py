"""The token of `p2pchat client`: from a file, asked for, or as it stands. It is never shown, nor in a repr."""

from __future__ import annotations

import json
import re
from pathlib import Path

from p2pchat.apps.cli.asking import ask_hidden, can_ask
from p2pchat.commands.errors import Usage

_TOKEN = re.compile(r"[A-Za-z0-9_-]{40,128}")
_MOST_BYTES = 64 * 1024  # of a file with a token


def looks_like_token(text: str) -> bool:
    """Whether this is a token itself, not the name of a file with one."""
    return _TOKEN.fullmatch(text) is not None and not Path(text).exists()


def read_token(given: str) -> str:
    """Return the token: asked for (`-`), as it stands, or from a file, also from what POST /accounts answered.

    Raises:
        Usage: There is none.
    """
    if given == "-":
        return _asked()
    if looks_like_token(given):
        return given
    try:
        text = Path(given).expanduser().read_bytes()[:_MOST_BYTES].decode("utf-8").strip()
    except OSError as error:
        raise Usage(f"cannot read the token in {given}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Usage(f"cannot read the token in {given}: it is no text") from None
    return _token_in(text, given)


def _token_in(text: str, given: str) -> str:
    try:
        text = str(json.loads(text)["token"]) if text.startswith("{") else text
    except (ValueError, KeyError):
        pass
    if not _TOKEN.fullmatch(text):
        raise Usage(f"there is no token in {given}")
    return text


def _asked() -> str:
    if not can_ask():
        raise Usage("--token - asks for the token, and nobody is there to answer: name a file, or set P2PCHAT_TOKEN")
    text = (ask_hidden("Paste the token (it is not shown), then Enter: ") or "").strip()
    if not _TOKEN.fullmatch(text):
        raise Usage("that is no token")
    return text
