"""Facts of a group: who belongs to it. core/groups/ says what they do."""

from __future__ import annotations

from p2pchat.kinds.kind import Kind

GROUP = Kind("group", "object", "group", "group")
