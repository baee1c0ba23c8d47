"""Progress of long work: one line on a terminal, rewritten in place, and nothing elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

FIRST_AFTER = 0.5  # seconds: shorter work needs no line
AGAIN_AFTER = 0.1  # seconds between updates


class Progress:
    """A line on stderr while work goes on; `with` removes it at the end. May be used from any thread."""

    def __init__(self) -> None:
        self._shown = ""
        self._next_at = time.monotonic() + FIRST_AFTER
        self._is_terminal = sys.stderr is not None and sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write("")

    def show(self, text: str) -> None:
        """Show the text, if the last update is long enough ago."""
        if self._is_terminal and time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + AGAIN_AFTER
            self._write(text)

    def entries(self, count: int) -> None:
        self.show(f"-- {count:,} entries")

    def indexed(self, done: int, of: int) -> None:
        self.show(f"-- the first search this far back: {done:,} of {of:,} messages are indexed")

    def rows(self, done: int, total: int) -> None:
        self.show(f"-- {done:,} of {total:,} rows")

    def bytes(self, done: int, total: int) -> None:
        self.show(f"-- {size(done)} of {size(total)}")

    def _write(self, text: str) -> None:
        if text != self._shown:
            sys.stderr.write(f"\r{text.ljust(len(self._shown))}" if text else f"\r{' ' * len(self._shown)}\r")
            sys.stderr.flush()
            self._shown = text


def size(count: int) -> str:
    """Return a number of bytes for people."""
    if count < 1000:
        return f"{count} bytes"
    for unit in ("kB", "MB"):
        count_in = count / (1000 if unit == "kB" else 1_000_000)
        if count_in < 1000:
            return f"{count_in:.1f} {unit}"
    return f"{count / 1_000_000_000:.1f} GB"
