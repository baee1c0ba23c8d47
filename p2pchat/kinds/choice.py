"""Own state: what a user chose, for all machines of theirs. It stands in the conversation with oneself."""

from __future__ import annotations

from p2pchat.kinds.kind import Kind

OWN = Kind("own", "object", "hidden", "self")
