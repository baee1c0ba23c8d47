"""Choices made from the bytes of an input: numbers, picks, texts. Missing bytes are zeros, so every input is valid.

Choices come from the end and bytes from the front, so that a change of one does not shift the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Supply:
    """Values for a target, taken from its input."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._front = 0
        self._back = len(data)

    @property
    def left(self) -> int:
        """Return the number of unused bytes."""
        return self._back - self._front

    def below(self, limit: int) -> int:
        """Return a number from 0 to limit - 1."""
        value = 0
        for _ in range(max(1, ((limit - 1).bit_length() + 7) // 8)):
            value = value << 8 | self._byte()
        return value % limit

    def pick(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def often(self, most: int = 256) -> int:
        """Return a mostly small number, always below `most`."""
        return self.below(min(most, 4)) if self.below(4) else self.below(most)

    def yes(self, one_in: int = 2) -> bool:
        """Return True with a chance of 1 in `one_in`; False when no byte is left."""
        return self.below(one_in) == one_in - 1

    def take(self, count: int) -> bytes:
        """Return up to `count` bytes from the front."""
        start = self._front
        self._front = min(self._back, start + count)
        return self._data[start : self._front]

    def rest(self) -> bytes:
        return self.take(self.left)

    def text(self, most: int = 64) -> str:
        """Return a text without lone surrogates, as it could come over the wire."""
        return self.take(self.below(most + 1)).decode("utf-8", "replace")

    def _byte(self) -> int:
        if self._back <= self._front:
            return 0
        self._back -= 1
        return self._data[self._back]


def any_text(data: bytes) -> str:
    """Return bytes as text, which may have lone surrogates like a file name or a JSON escape."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "surrogateescape")
