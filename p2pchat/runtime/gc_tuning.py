"""Garbage collection during bulk allocation.

The garbage collector looks at all objects again and again while their number grows. Nothing that a peer loads at its
start is garbage, and with 5,000 users and 10,000 conversations the search takes as long as everything else. Links live
long too, and each is dozens of objects. While many peers of one process link with each other, the collector would look
at all of them each time their number has grown by a quarter.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

MANY_OBJECTS = 10_000  # a search of fewer takes less than a millisecond
MANY_LINK_ENDS = 64  # some 3,000 objects


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause the garbage collector, and restore its state at the end.

    If many objects were made they count as old afterwards. Otherwise the next search of young objects would visit all
    of them.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            if gc.get_count()[0] > MANY_OBJECTS:
                _age_all_objects()
            gc.enable()


class LinkEndCounter:
    """Number of open link ends. When it exceeds the former maximum by far, all objects count as old.

    Links that come and go do not raise the maximum: what is left of them may be garbage.
    """

    def __init__(self) -> None:
        self._open = 0
        self._aged_at = 0  # open ends when all objects were last made old

    def add(self) -> None:
        """Count one more end."""
        self._open += 1
        if self._open >= self._aged_at + MANY_LINK_ENDS:
            self._aged_at = self._open
            _age_all_objects()

    def remove(self) -> None:
        """Count one end less."""
        self._open -= 1


link_ends = LinkEndCounter()  # of all peers in this process: they share one collector


def _age_all_objects() -> None:
    """Move all objects to the oldest generation, which is searched seldom."""
    if not gc.get_freeze_count():  # else objects that a program has frozen would thaw; this call visits all objects too
        gc.freeze()
        gc.unfreeze()
