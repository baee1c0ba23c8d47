"""Making very much without looking for garbage in it meanwhile.

Python looks through everything there is, again and again, while what it counts grows. Of what a peer loads at its start
nothing is garbage, and of 5,000 users and 10,000 conversations that search takes as long as all the rest. Links stay
too, and each is dozens of objects: while many peers of one process link with each other, all of them would be looked
through for every quarter that there are more.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

MUCH = 10_000  # objects; a search through fewer takes less than a millisecond
MANY = 64  # ends of links, some 3,000 objects


@contextmanager
def gc_paused() -> Iterator[None]:
    """Collect no garbage within; for what is made in one go. It is again as it was before when this ends.

    When much was made it counts as old then, or the next search, for what is young, would pass over all of it.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            if gc.get_count()[0] > MUCH:
                _all_is_old()
            gc.enable()


class LinkEndCounter:
    """How many link ends stand; when they are many more than ever before, what there is counts as old.

    Those that come and go are looked through like everything else, for what is left of them may be garbage.
    """

    def __init__(self) -> None:
        self._ends = 0
        self._old = 0  # as many as there were when all was counted as old

    def began(self) -> None:
        """One end more."""
        self._ends += 1
        if self._ends >= self._old + MANY:
            self._old = self._ends
            _all_is_old()

    def ended(self) -> None:
        """One end less."""
        self._ends -= 1


link_ends = LinkEndCounter()  # of all peers in this process: they share one search


def _all_is_old() -> None:
    """Look through what there is when garbage of all ages is looked for, and not before."""
    if not gc.get_freeze_count():  # what a program has frozen would thaw; counting passes over all of it: seldom
        gc.freeze()
        gc.unfreeze()
