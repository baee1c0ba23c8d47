"""Sets of which a node has thousands, nearly all of them empty or small.

As a dictionary without values such a set is nothing that Python's search for garbage looks at: an empty one never, and
one of strings neither. Every `set` is, and for the far end of a link a node keeps a dozen. It is smaller, too.
"""

from __future__ import annotations

from typing import TypeAlias, TypeVar

K = TypeVar("K")

KeySet: TypeAlias = dict[K, None]
