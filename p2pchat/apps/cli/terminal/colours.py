"""Colours that can be read on light and on dark terminals: only those of the terminal's own sixteen that people set
so that they can, and never one that carries meaning alone. NO_COLOR (https://no-color.org) leaves weight and nothing
else.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping

from prompt_toolkit.output import ColorDepth
from prompt_toolkit.styles import Attrs

# Not white, black, yellow or the greys: one of the backgrounds swallows them. Not blue: too dark on black.
_NAMES = ("ansired", "ansigreen", "ansimagenta", "ansicyan", "ansibrightblue", "ansibrightmagenta")
DIM = "dim" if "dim" in Attrs._fields else ""  # prompt_toolkit knows it since 3.0.51
ME = "bold"
ERROR = "ansired"
UNREAD = "bold"
BLACK_ON_WHITE = "ansiblack bg:ansiwhite"  # a QR code, which says nothing by its colours but is only read in these


def name_style(user_id: str) -> str:
    """Return the style of somebody's name: the same on every day and every peer."""
    return _NAMES[zlib.crc32(user_id.encode()) % len(_NAMES)]


def colour_depth(environment: Mapping[str, str] = os.environ) -> ColorDepth:
    """Return what colours may be used."""
    return ColorDepth.DEPTH_1_BIT if environment.get("NO_COLOR") else ColorDepth.DEPTH_4_BIT
