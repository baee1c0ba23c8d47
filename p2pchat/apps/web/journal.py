"""What a gateway tells whoever operates it: one object a line, about calls, sessions and accounts.

Never a token, a text, or anything else that somebody wrote: a request is told by the pattern of its path, without its
query. Names are told; without them nobody could be helped.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

Write = Callable[[dict[str, Any]], None]


class Journal:
    """Where lines go; to nobody until `write` is set. It is called on the loop and must not wait."""

    def __init__(self) -> None:
        self.write: Write | None = None

    def tell(self, event: str, **fields: Any) -> None:
        """Write one line."""
        if self.write is not None:
            at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            self.write({"event": event, "at": at, **fields})
