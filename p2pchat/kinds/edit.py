"""An edit: another text for a message of the same writer."""

from __future__ import annotations

from p2pchat.kinds.kind import Kind

EDIT = Kind("edit", "text", "edited", "own", "text")
