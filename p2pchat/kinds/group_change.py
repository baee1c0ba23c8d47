"""Changes of a group by its owner, and the leave of a member. core/groups/ says what they do."""

from __future__ import annotations

from p2pchat.kinds.kind import Kind

GROUP = Kind("group", "object", "group", "group")
LEAVE = Kind("leave", "object", "group", "group")
