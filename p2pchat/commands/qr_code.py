"""The QR code of an invite on a terminal.

Half blocks in explicit black on white, so that cameras read it on dark and light terminals. Needs segno.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

QUIET = 4  # white modules around the code (ISO/IEC 18004)
INDENT = "    "  # indented lines are never folded (wrap.py)
_BLACK_ON_WHITE = "\x1b[38;5;16;48;5;231m"  # of the colour cube, which themes do not change
_AS_BEFORE = "\x1b[0m"
_HALVES = {(0, 0): " ", (0, 1): "▄", (1, 0): "▀", (1, 1): "█"}  # upper and lower module; 1 is black


def qr_code(invite: str) -> list[str]:
    """Return the lines of the code, with colours; [] without segno, or if the invite is too long.

    The part before the @ is upper case, which takes less room; case does not matter in an invite.
    """
    try:
        import segno
    except ImportError:
        return []
    code, at, places = invite.partition("@")
    content = [code.upper(), (at + places).encode()] if at else code.upper()
    try:
        symbol = segno.make(content, error="l", boost_error=False, micro=False)  # type: ignore[arg-type]
    except ValueError:  # segno.DataOverflowError
        return []
    return [
        f"{INDENT}{_BLACK_ON_WHITE}{row}{_AS_BEFORE}"
        for row in _rows([list(row) for row in symbol.matrix_iter(border=QUIET)])
    ]


def _rows(modules: Sequence[Sequence[int]]) -> Iterator[str]:
    white = [0] * len(modules[0])
    for upper in range(0, len(modules), 2):
        lower = modules[upper + 1] if upper + 1 < len(modules) else white
        yield "".join(_HALVES[bool(a), bool(b)] for a, b in zip(modules[upper], lower, strict=True))


def row_of_code(line: str) -> str | None:
    """Return the half blocks of a line of a code, without colours; None for other lines.

    Text of others never matches: its escape characters were replaced.
    """
    begin = INDENT + _BLACK_ON_WHITE
    is_row = line.startswith(begin) and line.endswith(_AS_BEFORE)
    return line.removeprefix(begin).removesuffix(_AS_BEFORE) if is_row else None


def width(code: Sequence[str]) -> int:
    """Return the columns of a code."""
    return len(code[0]) - len(_BLACK_ON_WHITE) - len(_AS_BEFORE) if code else 0


def may_colour() -> bool:
    """Return whether this terminal may show colours."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") not in ("", "dumb")
