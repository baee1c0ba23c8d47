"""Making very much at once without looking for garbage in it meanwhile.

Python looks through everything there is, again and again, while what it counts grows. Of what a peer loads at its start
nothing is garbage, and of 5,000 users and 10,000 conversations that search takes as long as all the rest.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

MUCH = 10_000  # objects; a search through fewer takes less than a millisecond


@contextmanager
def nothing_is_garbage() -> Iterator[None]:
    """Collect no garbage within; for what is made in one go. It is again as it was before when this ends.

    When much was made it counts as old then, or the next search, for what is young, would pass over all of it.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            # What a program has frozen would thaw, and to count that passes over all of it: for much alone.
            if gc.get_count()[0] > MUCH and not gc.get_freeze_count():
                gc.freeze()
                gc.unfreeze()
            gc.enable()
