"""Garbage collection, and free memory that goes back to the system, for all peers of one process.

The collector looks at all objects again and again while their number grows. Nothing that a peer loads at its start is
garbage, and with 5,000 users and 10,000 conversations the search takes as long as everything else. Links live long
too, and each is dozens of objects. While many peers of one process link with each other, the collector would look at
all of them each time their number has grown by a quarter.

The C library keeps what is freed for itself unless it lies at the end of its heap. Encryption, frames and databases
take much of it for a while: 8 to 12 MiB were free after 190 links had ended, and 8 after a start with 6,000 users.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from p2pchat.core.log import forget_keys

MANY_OBJECTS = 10_000  # a search of fewer takes less than a millisecond
MANY_LINK_ENDS = 64  # some 3,000 objects
SOME_LINK_ENDS = 8  # hold half a MiB outside of Python
RETURNED_AFTER = 3.0  # seconds after many links have ended, or after the start; a guess. It takes 1 ms
RETURNED_AGAIN_AFTER = 20.0  # seconds: the other peers fetch meanwhile what was stored; a guess


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
    """Number of open link ends. When it exceeds the former maximum by far, all objects count as old. Whenever half of
    many have ended, free memory is given back.

    Links that come and go do not raise the maximum, because their memory may be garbage.
    """

    def __init__(self) -> None:
        self._open = 0
        self._aged_at = 0  # open ends when all objects were last made old
        self._most = 0  # open ends since memory was last given back

    def add(self) -> None:
        """Count one more end."""
        self._open += 1
        self._most = max(self._most, self._open)
        if self._open >= self._aged_at + MANY_LINK_ENDS:
            self._aged_at = self._open
            _age_all_objects()

    def remove(self) -> bool:
        """Count one end less. Return whether memory is given back soon."""
        self._open -= 1
        if self._most < SOME_LINK_ENDS or self._open > self._most // 2:
            return False
        self._most = self._open
        return_memory_soon()
        return True


link_ends: LinkEndCounter = LinkEndCounter()  # of all peers in this process: they share one collector


def _age_all_objects() -> None:
    """Move all objects to the oldest generation, which is searched seldom."""
    if not gc.get_freeze_count():  # else objects that a program has frozen would thaw; this call visits all objects too
        gc.freeze()
        gc.unfreeze()


def return_memory_soon() -> None:
    """Give free memory back to the system a little later, when what is over now has been freed, and once more then."""
    call_soon_and_again(_return_memory)


def call_soon_and_again(release: Callable[[], object]) -> None:
    """Call a function in a moment, and again when the other peers have fetched what was stored."""
    for wait in (RETURNED_AFTER, RETURNED_AGAIN_AFTER):
        asyncio.get_running_loop().call_later(wait, release)


def _return_memory() -> None:
    """Give free memory of the C library back, where it is known how: glibc does it when it is told to."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            forget_keys()
            trim(0)
