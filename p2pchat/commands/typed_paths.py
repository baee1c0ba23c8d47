"""Paths of files, as people type them and as a terminal writes them when a file is dropped onto it.

A dropped file comes in one of the forms of a shell, or as an address: 'my file.png', my\\ file.png, "my file.png",
file:///home/ada/my%20file.png. Relative paths begin in the directory where p2pchat was started. On Windows a backslash
is a part of a path, and only quotes enclose blanks.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from urllib.parse import unquote

ESCAPES = sys.platform != "win32"
MAX_BLANKS = 64  # of a path that is typed with blanks and without quotes; a guess
_ADDRESS = re.compile(r"file://(?:localhost)?(/.*)", re.IGNORECASE | re.DOTALL)
_PLAIN = re.compile(r"[\w./~:+=@%,-]*")
# What a line begins with that may be a dropped file: a full path, one of the home directory, a quote, an address.
_DROPPED = re.compile(r"""['"]|/(?!/)|~[/\\]|file:///?|\\\\|[A-Za-z]:[/\\]""", re.IGNORECASE)


def split_path(text: str) -> tuple[str, str]:
    """Split off the first path: up to a blank outside of quotes. Return it without quotes, and the rest of the text.

    A quote that is not closed encloses all that follows.
    """
    text = text.lstrip()
    path, end = _scan(text)
    return path, text[end:].lstrip()


def path_end(text: str) -> int:
    """Return where the path at the beginning of a text ends; the length of the text if it may go on."""
    return _scan(text)[1]


def _scan(text: str) -> tuple[str, int]:
    """Return the path at the beginning of a text, without quotes, and where it ends."""
    found: list[str] = []
    quote, at = "", 0
    while at < len(text):
        character, following = text[at], text[at + 1 : at + 2]
        if not quote and character.isspace():
            break
        if character == quote:
            quote = ""
        elif not quote and character in (("'", '"') if ESCAPES else ('"',)):
            quote = character
        elif ESCAPES and character == "\\" and following and (not quote or (quote == '"' and following in '"\\')):
            found.append(following)
            at += 1
        else:
            found.append(character)
        at += 1
    return "".join(found), at


def to_path(word: str) -> Path:
    """Return the path that a word means: also an address of a file, or a path below `~`."""
    address = _ADDRESS.fullmatch(word)
    text = word
    if address and ESCAPES:
        text = unquote(address[1])
    elif address:
        from urllib.request import url2pathname  # loads a client of HTTP, which only this needs

        text = url2pathname(address[1])
    return Path(os.path.expanduser(text))


def typed_path(path: str) -> str:
    """Return a path as it is typed before other words."""
    if _PLAIN.fullmatch(path if ESCAPES else path.replace("\\", "/")):
        return path
    if not ESCAPES:
        return f'"{path}"'
    return re.sub(r"([^\w./~:+=@%,-])", r"\\\1", path)


def dropped_files(line: str) -> list[Path]:
    """Return the files of a line that has nothing but full paths of files; [] for any other line."""
    rest, found = line.strip(), list[Path]()
    if "\n" in rest:
        return []
    while rest:
        path, rest = _take_dropped(rest)
        if path is None:
            return []
        found.append(path)
    return found


def _take_dropped(text: str) -> tuple[Path | None, str]:
    """Return the file with whose full path a text begins, and what follows; None and the text if there is none."""
    word, rest = split_path(text)
    path = to_path(word)
    is_dropped = _DROPPED.match(text) and path.is_absolute() and os.path.isfile(path)
    return (path, rest) if is_dropped else (None, text)


def split_files(text: str) -> tuple[list[Path], str]:
    """Split what stands behind /send into files and a text.

    The first path may be relative, and may have blanks without quotes if it is there. Further files are those whose
    full paths follow, as a terminal writes several dropped files.
    """
    word, rest = split_path(text)
    path = to_path(word)
    if not os.path.isfile(path):
        blanks = [found.start() for found in re.finditer(r"\s+|\Z", text.strip())][:MAX_BLANKS]
        for end in reversed(blanks):
            whole = to_path(text.strip()[:end])
            if os.path.exists(whole):
                path, rest = whole, text.strip()[end:].lstrip()
                break
    files, (more, rest) = [path], _take_dropped(rest)
    while more is not None:
        files.append(more)
        more, rest = _take_dropped(rest)
    return files, rest


# ---- completion


MAX_NAMES = 1000  # of a directory that are offered; a guess


def path_candidates(typed: str) -> list[str]:
    """Return the paths that a path which is being typed may become, as they are typed; directories end in a slash."""
    word, _ = split_path(typed)
    if _ADDRESS.match(word):
        return []
    if word == "~":
        return ["~/"]
    start = max(word.rfind("/"), word.rfind("\\") if not ESCAPES else -1) + 1
    before, begin = word[:start], word[start:]
    names: list[tuple[str, bool]] = []
    try:
        with os.scandir(to_path(before or ".")) as entries:
            for entry in entries:
                is_hidden = entry.name.startswith(".") and not begin.startswith(".")
                if entry.name.casefold().startswith(begin.casefold()) and entry.name.isprintable() and not is_hidden:
                    names.append((entry.name, _is_directory(entry)))
                    if len(names) >= MAX_NAMES:
                        break
    except (OSError, ValueError):
        return []
    if (begin, True) in names:  # typed in full: Tab again goes into it
        names = [(begin, True)]
    exact = [one for one in names if one[0].startswith(begin)]
    return [typed_path(f"{before}{name}{'/' if is_directory else ''}") for name, is_directory in sorted(exact or names)]


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
