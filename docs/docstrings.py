"""Docstrings of p2pchat as mkdocstrings reads them: a griffe extension that separates their sections by empty lines."""

from __future__ import annotations

import re
from typing import Any

import griffe

_SECTION = re.compile(r"(?<=[^\n])\n(?=(?:Args|Attributes|Returns|Yields|Raises):$)", re.MULTILINE)


class SectionSpacing(griffe.Extension):
    """Puts an empty line before each section; without one griffe takes the section for text."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of one class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = _SECTION.sub("\n\n", obj.docstring.value)
