"""What people have seen of an edit or a deletion: a message comes as it is by then, what made it so comes behind it.

Who comes back after others have edited sees each message once, as it is, and not all that led there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST_KNOWN = 1000  # messages that came edited or deleted; what mended them follows soon


class Mended:
    """The messages that were shown edited, deleted, or with reactions."""

    def __init__(self) -> None:
        self._shown: dict[str, tuple[str, set[tuple[str, str]]]] = {}  # id -> when mended, who reacted how

    def shown(self, line: Mapping[str, Any]) -> None:
        """Take a line that is shown, if it is such a message."""
        if line["event"] in ("message", "sent") and ("mended_at" in line or "reactions" in line):
            reactions = {(one["by_id"], one["reaction"]) for one in line.get("reactions", ())}
            self._shown[line["id"]] = line.get("mended_at", ""), reactions
            if len(self._shown) > MOST_KNOWN:
                del self._shown[next(iter(self._shown))]

    def is_known(self, line: Mapping[str, Any]) -> bool:
        """Whether what an `edited`, `deleted` or `reaction` line tells was to be seen in the message."""
        mended_at, reactions = self._shown.get(line["id"], ("", set()))
        if line["event"] == "reaction":
            return (line["by_id"], line["reaction"]) in reactions
        return bool(line["sent_at"] <= mended_at)
