"""Docstrings of p2pchat as mkdocstrings reads them: a griffe extension for what griffe would not understand.

Sections follow each other without empty lines in the code, and `a, b: ...` describes two parameters at once.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_SECTION = re.compile(r"(?<=[^\n])\n(?=(?:Args|Attributes|Returns|Yields|Raises):$)", re.MULTILINE)
_SEVERAL = re.compile(r"^    ([a-z]\w*(?:, [a-z]\w*)+)(: .*(?:\n {5,}.*)*)", re.MULTILINE)


def readable(docstring: str) -> str:
    """Return a docstring with an empty line before each section, and each parameter by itself."""
    several = _SEVERAL.sub(lambda found: "\n".join(f"    {name}{found[2]}" for name in found[1].split(", ")), docstring)
    return _SECTION.sub("\n\n", several)


class ReadableDocstrings(griffe.Extension):
    """Changes the docstring of each class, function and attribute."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of one object."""
        if obj.docstring is not None:
            obj.docstring.value = readable(obj.docstring.value)
