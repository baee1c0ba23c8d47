"""Tables that remember the last things only, or nothing that is empty, so that nobody makes them grow for ever."""

from __future__ import annotations

from collections import Counter
from collections.abc import MutableMapping
from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")
Items = TypeVar("Items", bound=MutableMapping[Any, Any])


def remember(kept: dict[K, V], key: K, value: V, most: int) -> None:
    """Put an item last, and forget the first one if there are more than `most` then."""
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > most:
        del kept[next(iter(kept))]


class Counts(Counter[K]):
    """Numbers, without those that are 0."""

    def __setitem__(self, key: K, value: int) -> None:
        super().__setitem__(key, value)
        if not value:
            del self[key]


def place(index: MutableMapping[K, dict[V, T]], key: K, item: V, value: T, *, is_there: bool) -> None:
    """Have a value stand in a table of tables, or no more."""
    if is_there:
        index.setdefault(key, {})[item] = value
    else:
        drop(index, key, item)


def drop(index: MutableMapping[K, Items], key: K, item: object) -> None:
    """Take an item from a table of tables, with its key if it was the last one there."""
    del index[key][item]
    if not index[key]:
        del index[key]
