"""One's own lines while it is still open what becomes of them: `· kept`, then `✓ delivered 2/3`, `✓✓ read 1/3`.

A mark says what is known, never more: kept is accepted, safe on this disk; delivered is on the disks of so many of
those it is for; read is what so many of their programs have said. A line waits for its mark only for moments, and goes
up with the one it has then.
"""

from __future__ import annotations

from dataclasses import dataclass

from p2pchat.commands.columns import Fragment

SETTLED_AFTER = 5.0  # seconds: who has not answered by then is away
OVERTAKEN_AFTER = 0.3  # seconds a line may keep those behind it from going up; a receipt takes some milliseconds
KEPT = "· kept"


@dataclass(slots=True)
class OwnLine:
    """A line of one's own that is still below.

    Attributes:
        id: Of the message.
        direct: It is for one user alone.
        fragments: The line without its mark.
        shown_at: When it was shown first, seconds of the loop's clock.
        overtaken_at: When something came behind it; None: nothing did.
        count, of: So many of so many have it; 0 of 0 until somebody has.
        read: So many of them have read it.
    """

    id: str
    direct: bool
    fragments: list[Fragment]
    shown_at: float
    overtaken_at: float | None = None
    count: int = 0
    of: int = 0
    read: int = 0  # by so many of them

    @property
    def mark(self) -> str:
        if self.read:
            return "✓✓ read" if self.direct else f"✓✓ read {self.read}/{self.of}"
        if not self.count:
            return KEPT
        return "✓ delivered" if self.direct else f"✓ delivered {self.count}/{self.of}"

    @property
    def complete(self) -> bool:
        """Whether nothing better can be said of it."""
        return 0 < self.of <= self.read

    @property
    def due_at(self) -> float:
        """When it goes up whatever its mark."""
        by = self.shown_at + SETTLED_AFTER
        return by if self.overtaken_at is None else min(by, self.overtaken_at + OVERTAKEN_AFTER)

    def delivered(self, count: int, of: int) -> None:
        """So many have it now."""
        self.count, self.of = max(count, self.count), max(of, self.of)

    def was_read(self, count: int, of: int) -> None:
        """So many have read it now."""
        self.read, self.of = max(count, self.read), max(of, self.of)
