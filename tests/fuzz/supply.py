"""Bytes of an input as choices: numbers, picks, texts. What is over gives zeros, so every input means something.

Choices are taken from the end and bytes from the front, so that a change of one does not shift the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Supply:
    """Gives what a target asks for, as its input says."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._front = 0
        self._back = len(data)

    @property
    def left(self) -> int:
        """How many bytes nobody has taken yet."""
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
        """Return a small number mostly, below `most` always."""
        return self.below(min(most, 4)) if self.below(4) else self.below(most)

    def yes(self, one_in: int = 2) -> bool:
        """Say yes once in so many times; no when nothing is left."""
        return self.below(one_in) == one_in - 1

    def take(self, count: int) -> bytes:
        """Return so many bytes from the front, or what is left."""
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
    """Return the text some bytes stand for, lone surrogates and all: those a file name or a JSON escape brings."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "surrogateescape")
