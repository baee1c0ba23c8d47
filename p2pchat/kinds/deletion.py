"""A deletion: a message of the same writer shows its text no more. An edit that is newer brings it back."""

from __future__ import annotations

from p2pchat.kinds.kind import Kind

DELETION = Kind("delete", "null", "deleted", "own", "text")
